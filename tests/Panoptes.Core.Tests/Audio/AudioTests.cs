using CsCheck;
using Panoptes.Audio;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Core.Tests.Hostile;

namespace Panoptes.Core.Tests.Audio;

/// <summary>Sound files, resampling and spectrograms; the numbers of ImageBind's own code are a golden case.</summary>
public sealed class AudioTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    static Waveform Tone(double frequency, int rate, int length, int channels = 1) =>
        new([.. Enumerable.Range(0, channels).Select(c => Enumerable.Range(0, length).Select(i => (float)(0.5 * Math.Sin(2 * Math.PI * frequency * (c + 1) * i / rate))).ToArray())], rate);

    [Fact]
    public void A_sound_comes_back_from_its_file()
    {
        var path = Path.Combine(folder.Path, "tone.wav");
        var tone = Tone(440, 8000, 1234, channels: 2);
        WavFile.Save(path, tone);
        var loaded = WavFile.Load(path);
        Assert.Equal((2, 1234, 8000), (loaded.Channels.Count, loaded.Length, loaded.SampleRate));
        for (var c = 0; c < 2; c++)
            for (var i = 0; i < 1234; i++) Assert.Equal(tone.Channels[c][i], loaded.Channels[c][i], 1.0 / 32768);
    }

    [Theory]
    [InlineData(1, 8, new byte[] { 0, 128, 255 }, new[] { -1f, 0, 127 / 128f })]
    [InlineData(1, 16, new byte[] { 0, 0x80, 0, 0, 0xFF, 0x7F }, new[] { -1f, 0, 32767 / 32768f })]
    [InlineData(1, 24, new byte[] { 0, 0, 0x80, 0, 0, 0x40 }, new[] { -1f, 0.5f })]
    [InlineData(1, 32, new byte[] { 0, 0, 0, 0x80, 0, 0, 0, 0xC0 }, new[] { -1f, -0.5f })]
    [InlineData(3, 32, new byte[] { 0, 0, 0x80, 0x3F, 0, 0, 0xC0, 0x7F }, new[] { 1f, 0 })]                        // not a number: silence
    [InlineData(3, 64, new byte[] { 0, 0, 0, 0, 0, 0, 0xE0, 0x3F }, new[] { 0.5f })]
    public void Every_kind_of_sample_is_read(short kind, short bits, byte[] data, float[] expected)
    {
        foreach (var extensible in (bool[])[false, true]) Assert.Equal(expected, WavFile.Parse(Wav(kind, 1, 8000, bits, data, extensible: extensible), "test").Channels[0]);
    }

    [Fact]
    public void A_length_that_reaches_past_the_end_means_all_there_is()
    {
        var wav = WavFile.Parse(Wav(1, 1, 22050, 16, [1, 0, 2, 0, 3, 0], length: 0x7FFFF000), "test");
        Assert.Equal(3, wav.Length);
    }

    [Theory]
    [InlineData(2, 1, 8000, 16, "format 2")]
    [InlineData(1, 1, 8000, 12, "12 bits")]
    [InlineData(1, 0, 8000, 16, "0 channels")]
    [InlineData(1, 1, 0, 16, "0 samples a second")]
    public void What_is_no_sound_is_refused(short kind, short channels, int rate, short bits, string named) =>
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => WavFile.Parse(Wav(kind, channels, rate, bits, [0, 0]), "test")).Message, StringComparison.Ordinal);

    [Fact]
    public void Damaged_files_give_a_sound_or_one_sentence()
    {
        byte[][] seeds = [Wav(1, 2, 8000, 16, new byte[64]), Wav(3, 1, 44100, 32, new byte[64], extensible: true), Wav(1, 1, 8000, 24, new byte[63], length: -1)];
        var path = Path.Combine(folder.Path, "damaged.wav");
        Mutation.OfBytes(seeds).Sample(bytes => Mutation.Check(path, bytes, () => WavFile.Load(path)), iter: 1500, threads: 1);
    }

    [Theory]
    [InlineData(44100, 16000)]
    [InlineData(8000, 22050)]
    [InlineData(16001, 15999)]
    public void A_resampled_tone_is_the_same_tone(int from, int to)
    {
        var resampled = Tone(700, from, from / 4).Resample(to);
        var expected = Tone(700, to, resampled.Length);
        Assert.Equal((int)Math.Ceiling(from / 4 * (double)to / from), resampled.Length);
        for (var i = 50; i < resampled.Length - 50; i++) Assert.Equal(expected.Channels[0][i], resampled.Channels[0][i], 5e-3);
    }

    [Fact]
    public void A_tone_lights_up_the_band_of_its_frequency()
    {
        using var logs = new MelFilterBank { Bands = 40 }.Compute(Tone(1000, 16000, 4000).Channels[0]);
        using var loudest = logs.argmax(1);
        Assert.Equal([23, 40], logs.shape);
        var filters = new MelFilterBank { Bands = 40 }.Filters();
        var bin = 1000 * 512 / 16000;
        var expected = Enumerable.Range(0, 40).MaxBy(b => filters[b, bin]);
        Assert.All(loudest.data<long>().ToArray(), b => Assert.Equal(expected, b));
    }

    [Fact]
    public void A_sound_becomes_clips_and_keeps_no_tensor()
    {
        var processor = new SpectrogramProcessor { TargetLength = 50 };
        foreach (var sound in (Waveform[])[Tone(300, 22050, 40000, 2), Tone(300, 16000, 100), new([[]], 16000)])
        {
            var before = LiveTensors.Settle();
            using (var clips = processor.Process(sound))
            {
                Assert.Equal(before + 1, Tensor.TotalCount);
                Assert.Equal([3, 1, 128, 50], clips.shape);
                Assert.True(clips.isfinite().all().item<bool>());
            }
        }
    }

    static byte[] Wav(short kind, short channels, int rate, short bits, byte[] data, int? length = null, bool extensible = false)
    {
        using var memory = new MemoryStream();
        using var writer = new BinaryWriter(memory);
        writer.Write("RIFF"u8);
        writer.Write(0);
        writer.Write("WAVELIST"u8);                                                   // a chunk of another kind, of odd length
        writer.Write(3);
        writer.Write([1, 2, 3, 0, .. "fmt "u8]);
        writer.Write(extensible ? 40 : 16);
        writer.Write(extensible ? unchecked((short)0xFFFE) : kind);
        writer.Write(channels);
        writer.Write(rate);
        writer.Write(rate * channels * bits / 8);
        writer.Write((short)(channels * bits / 8));
        writer.Write(bits);
        if (extensible)
        {
            writer.Write([22, 0, 0, 0, 0, 0, 0, 0]);
            writer.Write(kind);
            writer.Write(new byte[14]);
        }
        writer.Write("data"u8);
        writer.Write(length ?? data.Length);
        writer.Write(data);
        return memory.ToArray();
    }
}
