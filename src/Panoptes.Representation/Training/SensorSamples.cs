using Panoptes.Audio;
using Panoptes.Data;
using Panoptes.Data.Speech;

namespace Panoptes.Representation.Training;

/// <summary>Writes a sample as a tower takes it, varied where a model is to learn from it.</summary>
public delegate void SensorWriter(int sample, bool vary, ref SampleRandom random, Span<float> to);

/// <summary>What a sensor has of some concepts.</summary>
/// <param name="Modality">Which sensor.</param>
/// <param name="Concepts">For every sample its concept, as position in the emoji set.</param>
/// <param name="Shape">Of one sample.</param>
/// <param name="Write">Writes one.</param>
public sealed record SensorSamples(Modality Modality, int[] Concepts, long[] Shape, SensorWriter Write)
{
    int Size { get; } = (int)Shape.Aggregate(1L, static (a, b) => a * b);

    /// <summary>Some of the samples, each from its own random stream: [samples, ...shape] float32, owned by the caller.</summary>
    public Tensor Stack(ReadOnlySpan<int> samples, bool vary, ulong seed, long step)
    {
        var batch = empty([samples.Length, .. Shape]);
        for (var i = 0; i < samples.Length; i++)
        {
            var random = new SampleRandom(seed, step, i);
            Write(samples[i], vary, ref random, TensorMemory.Floats(batch).Slice(i * Size, Size));
        }
        return batch;
    }

    /// <summary>Names as they are spoken, as log-mel spectrograms that are computed once.</summary>
    /// <param name="set">The emoji; of others than its concepts nothing is said.</param>
    /// <param name="speech">Who says what.</param>
    /// <param name="processor">Makes the spectrograms.</param>
    /// <param name="wanted">Which recordings.</param>
    public static SensorSamples Speech(EmojiSet set, SpeechSet speech, SpectrogramProcessor processor, Func<EmojiConcept, SpeechVoice, bool> wanted)
    {
        var (clips, concepts) = (new List<int>(), new List<int>());
        foreach (var concept in set.Concepts)
            for (var voice = 0; voice < speech.Voices.Count; voice++)
                if (speech.Find(concept.Code, voice) is { } clip && wanted(concept, speech.Voices[voice]))
                {
                    clips.Add(clip.Index);
                    concepts.Add(concept.Index);
                }
        var (bands, frames) = (processor.Filters.Bands, processor.TargetLength);
        var spectrograms = new Half[clips.Count][];
        // The voice's margin of silence before a name is short, so that a shift by some frames loses nothing.
        var mostShift = frames / 20;
        Parallel.For(0, clips.Count, i =>
        {
            using var scope = NewDisposeScope();
            using var spectrogram = processor.Spectrogram(speech.Sound(clips[i]));
            spectrograms[i] = Array.ConvertAll(spectrogram.data<float>().ToArray(), static v => (Half)v);
        });
        return new(Modality.Audio, [.. concepts], [1, bands, frames], Write);

        // Varied: moved in time, louder or softer, and a band of frequencies and a span of time left out (SpecAugment, Park et al. 2019, arXiv:1904.08779).
        void Write(int sample, bool vary, ref SampleRandom random, Span<float> to)
        {
            var from = spectrograms[sample];
            var silence = (float)((0 - processor.Mean) / processor.Std);
            var (shift, gain) = vary ? (random.Next((2 * mostShift) + 1) - mostShift, random.Next(-0.15f, 0.15f)) : (0, 0);
            var (band, bandWidth, time, timeWidth) = vary ? (random.Next(bands), random.Next((bands / 8) + 1), random.Next(frames), random.Next((frames / 8) + 1)) : (0, 0, 0, 0);
            for (var b = 0; b < bands; b++)
            {
                for (var t = 0; t < frames; t++)
                {
                    var at = t - shift;
                    var masked = (b >= band && b < band + bandWidth) || (t >= time && t < time + timeWidth);
                    to[(b * frames) + t] = masked ? 0 : at < 0 || at >= frames ? silence : (float)from[(b * frames) + at] + gain;
                }
            }
        }
    }

    /// <summary>Disparities of scenes with one thing each: the inverse of the distance, which the generator knows exactly.</summary>
    /// <param name="scenes">The scenes.</param>
    /// <param name="side">Of the map; the scenes' size is a multiple of it.</param>
    public static SensorSamples Depth(IReadOnlyList<Scene> scenes, int side)
    {
        var maps = scenes.Select(s => Map(s)).ToArray();
        return new(Modality.Depth, [.. scenes.Select(static s => s.Objects[0].Concept)], [1, side, side], (int sample, bool _, ref SampleRandom _, Span<float> to) => maps[sample].CopyTo(to));

        float[] Map(Scene scene)
        {
            if (scene.Size % side != 0) throw new PanoptesException($"Maps of depth of {side} pixels were asked for of scenes of {scene.Size}; expected a divisor of that as the encoders' image_size.");
            var (depth, step, map) = (scene.Depth(), scene.Size / side, new float[side * side]);
            for (var i = 0; i < map.Length; i++) map[i] = 0.25f / depth[((i / side * step) + (step / 2)) * scene.Size + (i % side * step) + (step / 2)];
            return map;
        }
    }

    /// <summary>SIMULATED: drawings before a thermal camera (<see cref="SimulatedSensors.WriteThermal"/>).</summary>
    public static SensorSamples Thermal(EmojiSet set, int[] images, int side) =>
        new(Modality.Thermal, [.. images.Select(i => set.Images[i].Concept)], [1, side, side],
            (int sample, bool vary, ref SampleRandom random, Span<float> to) => SimulatedSensors.WriteThermal(set, images[sample], side, vary ? side / 16 : 0, ref random, to));

    /// <summary>SIMULATED: how a drawing's concept moves (<see cref="SimulatedSensors.WriteMotion"/>).</summary>
    public static SensorSamples Motions(EmojiSet set, int[] images, int length) =>
        new(Modality.Imu, [.. images.Select(i => set.Images[i].Concept)], [SimulatedSensors.MotionChannels, length],
            (int sample, bool _, ref SampleRandom random, Span<float> to) => SimulatedSensors.WriteMotion(set.Concepts[set.Images[images[sample]].Concept], ref random, to));
}
