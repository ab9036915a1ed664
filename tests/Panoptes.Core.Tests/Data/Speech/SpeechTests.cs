using CsCheck;
using Panoptes.Audio;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;
using Panoptes.Data.Speech;

namespace Panoptes.Core.Tests.Data.Speech;

/// <summary>The bundled speech, its builder with a stand-in for the synthesizer, and what damage gets.</summary>
public sealed class SpeechTests : IDisposable
{
    static readonly Lazy<SpeechSet> Bundled = new(static () => SpeechSet.Open());

    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Four_hundred_names_are_spoken_by_six_voices_of_which_one_is_held_out()
    {
        var set = Bundled.Value;
        var emoji = EmojiSetTests.Set.Subset(400);
        Assert.Equal(emoji.Concepts.Select(static c => (c.Code, c.Name)), set.Concepts.Select(static c => (c.Code, c.Name)));
        Assert.Equal(6, set.Voices.Count);
        Assert.True(Assert.Single(set.Voices, static v => v.HeldOut) == set.Voices[^1]);
        Assert.Equal(2400, set.Clips.Count);
        Assert.Equal(Enumerable.Range(0, 2400), set.Clips.Select(static c => c.Index));
        foreach (var concept in emoji.Concepts)
            for (var v = 0; v < set.Voices.Count; v++)
                Assert.Equal((concept.Index, v), set.Find(concept.Code, v) is { } clip ? (clip.Concept, clip.Voice) : (-1, -1));
        Assert.Null(set.Find("none", 0));
        Assert.InRange(new DirectoryInfo(Path.GetDirectoryName(BundledData.Find("speech", "speech.json"))!).EnumerateFiles().Sum(static f => f.Length), 1 << 20, 12 << 20);
    }

    [Fact]
    public void A_recording_is_heard_to_its_end_and_voices_differ()
    {
        var set = Bundled.Value;
        foreach (var clip in set.Clips.Where(static c => c.Index % 300 == 7))
        {
            var samples = set.Samples(clip.Index);
            Assert.Equal(clip.Samples, samples.Length);
            Assert.InRange(samples.Length / (double)SpeechSet.SampleRate, 0.2, 6);
            Assert.All(samples, static s => Assert.InRange(s, -1, 1));
            Assert.InRange(Loudness(samples), 0.01, 0.5);
            Assert.True(Loudness(samples.AsSpan(samples.Length - 400)) < 0.3 * Loudness(samples), "it ends with near silence");
            Assert.Equal(samples, set.Samples(clip.Index));
        }
        Assert.Equal(6, set.Clips.Where(static c => c.Concept == 3).Select(static c => c.Samples).Distinct().Count());
    }

    /// <summary>A stand-in that takes espeak-ng's options and writes a tone as long as the name, at 22,050 samples a second as espeak-ng does.</summary>
    [Fact]
    public async Task What_the_synthesizer_says_comes_back_at_16_kilohertz_without_the_silence_around_it()
    {
        if (OperatingSystem.IsWindows()) return;                                      // the stand-in is a shell script
        const int Rate = 22_050;
        Tone(Rate, 440, 0.5, silence: 0.4);
        var script = Script($"test \"$1 $3 $5\" = '-v -s -p' || exit 3; cat > '{folder["said"]}'; cp '{folder["tone.wav"]}' \"$8\"");
        var emoji = EmojiSetTests.Set.Subset(2);
        var set = await SpeechBuilder.BuildAsync(new() { Output = folder["speech"], Set = emoji, Synthesizer = script, Voices = [.. SpeechBuilder.Voices.Take(2)] });
        Assert.Equal((4, 2, 2), (set.Clips.Count, set.Concepts.Count, set.Voices.Count));
        Assert.Contains(File.ReadAllText(folder["said"]), emoji.Concepts.Select(static c => c.Name.Replace(':', ',')));
        var heard = set.Samples(0);
        Assert.InRange(heard.Length / (double)SpeechSet.SampleRate, 0.5, 0.5 + (2 * 0.045));
        var crossings = Enumerable.Range(2400, 4800).Count(i => heard[i] < 0 != heard[i + 1] < 0);  // of 0.3 s in the middle
        Assert.InRange(crossings / 0.6, 430, 450);
        Assert.InRange(Loudness(heard.AsSpan(2400, 4800)), 0.5 / Math.Sqrt(2) * 0.9, 0.5 / Math.Sqrt(2) * 1.1);
        Assert.Contains("eSpeak NG", File.ReadAllText(folder["speech/LICENSES.md"]), StringComparison.Ordinal);

        await SpeechBuilder.BuildAsync(new() { Output = folder["again"], Set = emoji, Synthesizer = script, Voices = [.. SpeechBuilder.Voices.Take(2)] });
        foreach (var file in (string[])["speech.json", "speech.parquet"]) Assert.Equal(File.ReadAllBytes(folder["speech/" + file]), File.ReadAllBytes(folder["again/" + file]));
    }

    [Fact]
    public async Task A_synthesizer_that_is_missing_fails_or_says_nothing_is_told_and_nothing_is_written()
    {
        if (OperatingSystem.IsWindows()) return;
        Tone(22_050, 440, 0, silence: 1);
        foreach (var (program, expected) in new[]
        {
            (folder["none"], "apt-get install espeak-ng"),
            (Script("echo no such voice >&2; exit 1"), "no such voice"),
            (Script("cat > /dev/null"), "could not say"),
            (Script($"cat > /dev/null; cp '{folder["tone.wav"]}' \"$8\""), "said nothing"),
            (Script("cat > /dev/null; echo hello > \"$8\""), "no WAV file"),
        })
        {
            var e = await Assert.ThrowsAsync<PanoptesException>(() => SpeechBuilder.BuildAsync(new() { Output = folder["speech"], Set = EmojiSetTests.Set.Subset(1), Synthesizer = program }));
            Assert.Contains(expected, e.Message, StringComparison.Ordinal);
            Assert.False(Directory.Exists(folder["speech"]));
        }
    }

    [Fact]
    public void Damaged_recordings_are_heard_or_refused_in_bounded_time_and_memory()
    {
        if (OperatingSystem.IsWindows()) return;
        var (manifest, recordings) = Small();
        Gen.Select(Gen.Select(Gen.Double[0, 1], Gen.Byte).Array[0, 6], Gen.Frequency((4, Gen.Const(1.0)), (1, Gen.Double[0, 1]))).Sample((edits, cut) =>
        {
            var bytes = recordings.ToArray();
            foreach (var (at, value) in edits) bytes[(int)(at * (bytes.Length - 1))] = value;
            Hear(manifest, bytes[..(int)(bytes.Length * cut)]);
        }, iter: 150, threads: 1);
        Gen.Select(Gen.Double[0, 1], Gen.Byte).Array[1, 3].Sample(edits =>
        {
            var bytes = manifest.ToArray();
            foreach (var (at, value) in edits) bytes[(int)(at * (bytes.Length - 1))] = value;
            Hear(bytes, recordings);
        }, iter: 150, threads: 1);
        Assert.Contains("no list", Refused(new byte[(1 << 24) + 1], recordings), StringComparison.Ordinal);
        Assert.Contains("is not the speech", Refused("{}"u8.ToArray(), recordings), StringComparison.Ordinal);

        void Hear(byte[] manifest, byte[] recordings)
        {
            folder.Write("d/speech.json", manifest);
            folder.Write("d/speech.parquet", recordings);
            DamagedDataTests.Read(32 << 20, () =>
            {
                var set = SpeechSet.Open(folder["d"]);
                foreach (var clip in set.Clips) Assert.Equal(clip.Samples, set.Samples(clip.Index).Length);
            });
        }

        string Refused(byte[] manifest, byte[] recordings)
        {
            folder.Write("d/speech.json", manifest);
            folder.Write("d/speech.parquet", recordings);
            return Assert.Throws<PanoptesException>(() => SpeechSet.Open(folder["d"])).Message;
        }
    }

    /// <summary>Two short recordings, by the builder.</summary>
    (byte[] Manifest, byte[] Recordings) Small()
    {
        Tone(16_000, 300, 0.1, silence: 0);
        var script = Script($"cat > /dev/null; cp '{folder["tone.wav"]}' \"$8\"");
        SpeechBuilder.BuildAsync(new() { Output = folder["small"], Set = EmojiSetTests.Set.Subset(1), Synthesizer = script, Voices = [.. SpeechBuilder.Voices.Take(2)] }).GetAwaiter().GetResult();
        return (File.ReadAllBytes(folder["small/speech.json"]), File.ReadAllBytes(folder["small/speech.parquet"]));
    }

    string Script(string body)
    {
        var path = folder.Write($"script-{Guid.NewGuid():N}.sh", "#!/bin/sh\n" + body + "\n");
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return path;
    }

    /// <summary>A tone of half the full loudness between silences, in seconds.</summary>
    void Tone(int rate, double frequency, double seconds, double silence)
    {
        var (quiet, loud) = ((int)(silence * rate), (int)(seconds * rate));
        var samples = new float[quiet + loud + quiet];
        for (var i = 0; i < loud; i++) samples[quiet + i] = (float)(0.5 * Math.Sin(2 * Math.PI * frequency * i / rate));
        WavFile.Save(folder["tone.wav"], new Waveform([samples], rate));
    }

    static double Loudness(ReadOnlySpan<float> samples)
    {
        var sum = 0.0;
        foreach (var s in samples) sum += (double)s * s;
        return Math.Sqrt(sum / samples.Length);
    }
}
