using System.Buffers.Binary;
using System.Text;
using Panoptes.Checkpoints;

namespace Panoptes.Audio;

/// <summary>WAV files: PCM of 8, 16, 24 and 32 bits and floating point of 32 and 64 (Microsoft's "Multimedia Programming Interface and Data Specifications 1.0").</summary>
public static class WavFile
{
    const int MaxBytes = 1 << 30, MaxChannels = 64, MaxRate = 1 << 20, Pcm = 1, Float = 3, Extensible = 0xFFFE;

    /// <exception cref="PanoptesException">The file cannot be read or is no WAV of these kinds.</exception>
    public static Waveform Load(string path)
    {
        try
        {
            var file = new FileInfo(path);
            if (!file.Exists) throw new PanoptesException($"{path} does not exist.");
            if (file.Length > MaxBytes) throw new PanoptesException($"{path} has {file.Length} bytes; expected at most {MaxBytes}.");
            return Parse(File.ReadAllBytes(path), path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{path} cannot be read: {e.Message}", e);
        }
    }

    /// <param name="bytes">The whole file. A length that reaches past its end, as of a file that was written as a stream, means all that is there.</param>
    /// <param name="source">Names the file in errors.</param>
    /// <exception cref="PanoptesException">No WAV of these kinds.</exception>
    public static Waveform Parse(ReadOnlySpan<byte> bytes, string source)
    {
        if (bytes.Length < 12 || !bytes[..4].SequenceEqual("RIFF"u8) || !bytes[8..12].SequenceEqual("WAVE"u8)) throw new PanoptesException($"{source} is no WAV file.");
        ReadOnlySpan<byte> format = default;
        for (var at = 12; bytes.Length - at >= 8;)
        {
            var name = bytes.Slice(at, 4);
            var body = bytes[(at + 8)..];
            var length = BinaryPrimitives.ReadUInt32LittleEndian(bytes[(at + 4)..]);
            if (name.SequenceEqual("data"u8)) return Samples(format, body[..(int)Math.Min(length, body.Length)], source);
            if (length > body.Length) break;
            if (name.SequenceEqual("fmt "u8)) format = body[..(int)length];
            at += 8 + (int)length + (int)(length & 1);
        }
        throw new PanoptesException($"{source}: a WAV file without samples (no \"data\" chunk).");
    }

    static Waveform Samples(ReadOnlySpan<byte> format, ReadOnlySpan<byte> data, string source)
    {
        if (format.Length < 16) throw new PanoptesException($"{source}: a WAV file without a whole \"fmt \" chunk before its samples.");
        int Field(ReadOnlySpan<byte> f, int at) => BinaryPrimitives.ReadUInt16LittleEndian(f[at..]);
        var (kind, channels, rate, bits) = (Field(format, 0), Field(format, 2), BinaryPrimitives.ReadUInt32LittleEndian(format[4..]), Field(format, 14));
        if (kind == Extensible && format.Length >= 26) kind = Field(format, 24);
        if (channels is < 1 or > MaxChannels || rate is < 1 or > MaxRate)
            throw new PanoptesException($"{source}: a WAV file of {channels} channels at {rate} samples a second; expected 1 to {MaxChannels} at 1 to {MaxRate}.");
        if ((kind, bits) is not ((Pcm, 8 or 16 or 24 or 32) or (Float, 32 or 64)))
            throw new PanoptesException($"{source}: a WAV file of format {kind} with {bits} bits; expected PCM of 8, 16, 24 or 32 bits, or floating point of 32 or 64.");
        var size = bits / 8;
        var length = data.Length / (channels * size);
        var result = new float[channels][];
        for (var c = 0; c < channels; c++)
        {
            var samples = result[c] = new float[length];
            for (var i = 0; i < length; i++) samples[i] = Sample(data[((i * channels + c) * size)..], kind, bits);
        }
        return new(result, (int)rate);
    }

    static float Sample(ReadOnlySpan<byte> at, int kind, int bits) => (kind, bits) switch
    {
        (Pcm, 8) => (at[0] - 128) / 128f,                                            // alone without a sign
        (Pcm, 16) => BinaryPrimitives.ReadInt16LittleEndian(at) / 32768f,
        (Pcm, 24) => (at[0] << 8 | at[1] << 16 | at[2] << 24) / 2147483648f,
        (Pcm, _) => BinaryPrimitives.ReadInt32LittleEndian(at) / 2147483648f,
        (_, 32) => Finite(BinaryPrimitives.ReadSingleLittleEndian(at)),
        _ => Finite((float)BinaryPrimitives.ReadDoubleLittleEndian(at)),
    };

    static float Finite(float value) => float.IsFinite(value) ? value : 0;

    /// <summary>Writes PCM of 16 bits; what is beyond -1 and 1 is cut.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public static void Save(string path, Waveform sound)
    {
        var (channels, size) = (sound.Channels.Count, checked(sound.Length * sound.Channels.Count * 2));
        using var memory = new MemoryStream(44 + size);
        using (var writer = new BinaryWriter(memory, Encoding.ASCII, leaveOpen: true))
        {
            writer.Write("RIFF"u8);
            writer.Write(36 + size);
            writer.Write("WAVEfmt "u8);
            writer.Write(16);
            writer.Write((short)Pcm);
            writer.Write((short)channels);
            writer.Write(sound.SampleRate);
            writer.Write(sound.SampleRate * channels * 2);
            writer.Write((short)(channels * 2));
            writer.Write((short)16);
            writer.Write("data"u8);
            writer.Write(size);
            for (var i = 0; i < sound.Length; i++)
                foreach (var channel in sound.Channels) writer.Write((short)Math.Clamp(MathF.Round(channel[i] * 32768), -32768, 32767));
        }
        AtomicFile.Write(path, s => memory.WriteTo(s));
    }
}
