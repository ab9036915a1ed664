using System.Buffers.Binary;
using System.Text.Json;
using Concentus;
using Concentus.Structs;
using Panoptes.Audio;
using Panoptes.Data.Emoji;

namespace Panoptes.Data.Speech;

/// <summary>One way of speaking: a voice of espeak-ng with a variant, at a speed and a pitch.</summary>
public sealed record SpeechVoice
{
    /// <summary>Short name, such as <c>us-m</c>.</summary>
    public required string Name { get; init; }

    /// <summary>espeak-ng's voice and variant, such as <c>en-us+m1</c>.</summary>
    public required string Synthesizer { get; init; }

    /// <summary>Words a minute.</summary>
    public required int Speed { get; init; }

    /// <summary>From 0 (low) to 99.</summary>
    public required int Pitch { get; init; }

    /// <summary>Whether no model is trained on it.</summary>
    public required bool HeldOut { get; init; }
}

/// <summary>What is said: a concept of the emoji set by its code, and its English name.</summary>
public sealed record SpeechConcept(string Code, string Name);

/// <summary>One recording.</summary>
/// <param name="Index">Position in <see cref="SpeechSet.Clips"/>.</param>
/// <param name="Concept">Position in <see cref="SpeechSet.Concepts"/>.</param>
/// <param name="Voice">Position in <see cref="SpeechSet.Voices"/>.</param>
/// <param name="Samples">Its length at <see cref="SpeechSet.SampleRate"/>.</param>
public readonly record struct SpeechClip(int Index, int Concept, int Voice, int Samples);

/// <summary>
/// The bundled speech: names of the emoji's concepts spoken by a synthesizer (espeak-ng) in several voices, one of which no model is trained on;
/// 16 kHz, mono. Opening reads the compressed clips only; each is decoded when it is asked for, at hundreds of seconds of speech a second.
/// </summary>
/// <remarks>
/// <para>Clips are Opus packets (RFC 6716), each after its length in two bytes, in one Parquet file. Packets without a container cost nothing but themselves, a
/// decoder needs the same small memory whatever is in them, and Concentus decodes them in plain .NET.</para>
/// <para>Immutable and safe for any number of threads.</para>
/// </remarks>
public sealed class SpeechSet
{
    /// <summary>Samples a second.</summary>
    public const int SampleRate = 16_000;

    /// <summary>Samples of one packet: 20 ms.</summary>
    internal const int Frame = 320;

    /// <summary>What a decoder says before what it was given (RFC 7845 calls it pre-skip), in samples.</summary>
    internal const int PreSkip = 104;

    /// <summary>The most bytes of a packet (RFC 6716, 3.4) and samples that a decoder can make of one: 120 ms.</summary>
    internal const int MaxPacket = 1275, MaxFrame = SampleRate * 12 / 100;

    /// <summary>A name takes seconds, not minutes.</summary>
    internal const int MaxSamples = 30 * SampleRate;

    internal const string Manifest = "speech.json", Recordings = "speech.parquet";

    readonly string root;
    readonly ReadOnlyMemory<byte>[] packets;
    readonly int[] clipOf;
    readonly Dictionary<string, int> conceptOf = new(StringComparer.Ordinal);

    SpeechSet(string root, SpeechManifest manifest, SpeechClip[] clips, ReadOnlyMemory<byte>[] packets)
    {
        (this.root, this.packets, Voices, Concepts, Clips) = (root, packets, manifest.Voices, manifest.Concepts, clips);
        clipOf = new int[Concepts.Count * Voices.Count];
        Array.Fill(clipOf, -1);
        foreach (var clip in clips) clipOf[(clip.Concept * Voices.Count) + clip.Voice] = clip.Index;
        for (var i = 0; i < Concepts.Count; i++) conceptOf.TryAdd(Concepts[i].Code, i);
    }

    public IReadOnlyList<SpeechVoice> Voices { get; }

    public IReadOnlyList<SpeechConcept> Concepts { get; }

    /// <summary>Every recording, voice by voice, in the concepts' order.</summary>
    public IReadOnlyList<SpeechClip> Clips { get; }

    /// <summary>
    /// Opens the set at <paramref name="root"/>, or finds the bundled one: <c>speech</c> in the folder that the environment's PANOPTES_DATA names, else
    /// <c>data/speech</c> beside the application or in a folder above it or above the working folder.
    /// </summary>
    /// <exception cref="PanoptesException">There is no set, or a file of it is missing or damaged.</exception>
    public static SpeechSet Open(string? root = null)
    {
        root ??= Path.GetDirectoryName(BundledData.Find("speech", Manifest))
            ?? throw new PanoptesException($"The bundled speech was not found: set PANOPTES_DATA to the folder that holds speech/{Manifest}, or build it with `panoptes data build speech`.");
        try
        {
            return Read(root);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The speech in {root} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>The recording of a concept, by its code, in a voice; null where there is none.</summary>
    public SpeechClip? Find(string code, int voice) =>
        conceptOf.TryGetValue(code, out var concept) && clipOf[(concept * Voices.Count) + voice] is >= 0 and var clip ? Clips[clip] : null;

    /// <summary>The recording's samples, from -1 to 1, decoded anew at each call.</summary>
    /// <exception cref="PanoptesException">The recording is damaged.</exception>
    public float[] Samples(int clip)
    {
        var samples = Clips[clip].Samples;
        var rest = packets[clip].Span;
        var decoded = new float[PacketsOf(samples) * Frame];
        Span<float> frame = stackalloc float[MaxFrame];
#pragma warning disable CS0618                                                        // the factory may take a native library, which gives other numbers
        var decoder = new OpusDecoder(SampleRate, 1);
#pragma warning restore CS0618
        for (var at = 0; at < decoded.Length; at += Frame)
        {
            if (rest.Length < 2 || BinaryPrimitives.ReadUInt16LittleEndian(rest) is var length && (length is 0 or > MaxPacket || length > rest.Length - 2))
                throw Damaged(clip, $"ends at packet {at / Frame} of {decoded.Length / Frame}");
            int made;
            try
            {
                made = decoder.Decode(rest.Slice(2, length), frame, MaxFrame, false);
            }
            catch (Exception e) when (e is OpusException or IndexOutOfRangeException or ArgumentException or ArithmeticException)
            {
                throw Damaged(clip, $"cannot be decoded at packet {at / Frame}: {e.Message}");
            }
            if (made != Frame) throw Damaged(clip, $"has {made} samples in packet {at / Frame}, not {Frame}");
            for (var i = 0; i < Frame; i++) decoded[at + i] = Math.Clamp(frame[i], -1, 1);
            rest = rest[(2 + length)..];
        }
        if (!rest.IsEmpty) throw Damaged(clip, $"goes on after its {samples} samples");
        return decoded.AsSpan(PreSkip, samples).ToArray();
    }

    /// <summary>The same as a sound.</summary>
    /// <exception cref="PanoptesException">The recording is damaged.</exception>
    public Waveform Sound(int clip) => new([Samples(clip)], SampleRate);

    /// <summary>Packets that say so many samples after what comes first.</summary>
    internal static int PacketsOf(int samples) => (samples + PreSkip + Frame - 1) / Frame;

    PanoptesException Damaged(int clip, string found) =>
        new($"{Path.Combine(root, Recordings)}: the recording of '{Concepts[Clips[clip].Concept].Name}' by {Voices[Clips[clip].Voice].Name} {found}.");

    static SpeechSet Read(string root)
    {
        var file = Path.Combine(root, Manifest);
        SpeechManifest manifest;
        try
        {
            if (new FileInfo(file).Length > 1 << 24) throw new PanoptesException($"{file} is no list of voices and concepts: it has more than 16 MB.");
            manifest = JsonSerializer.Deserialize<SpeechManifest>(File.ReadAllBytes(file), EmojiBuilder.Json) ?? throw new JsonException("it is null.");
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{file} is not the speech's list of voices and concepts: {e.Message}", e);
        }
        if (manifest.Voices.Contains(null!) || manifest.Concepts.Contains(null!) || manifest.Voices.Count is 0 or > 1000 || manifest.Concepts.Count is 0 or > 1_000_000)
            throw new PanoptesException($"{file} lists {manifest.Voices.Count} voices and {manifest.Concepts.Count} concepts; expected 1 to 1000 and 1 to 1000000, none of them null.");
        if (manifest.SampleRate != SampleRate) throw new PanoptesException($"{file} says {manifest.SampleRate} samples a second; expected {SampleRate}.");
        if ((long)manifest.Voices.Count * manifest.Concepts.Count > 10_000_000) throw new PanoptesException($"{file} lists more voices and concepts than there can be recordings.");

        var recordings = Path.Combine(root, Recordings);
        using var parquet = ParquetFile.Open(recordings);
        var (concepts, voices, lengths, packets) = (parquet.Numbers(Column("concept", ParquetKind.Int32)), parquet.Numbers(Column("voice", ParquetKind.Int32)),
            parquet.Numbers(Column("samples", ParquetKind.Int32)), parquet.Bytes(Column("packets", ParquetKind.Bytes)));
        var clips = new SpeechClip[packets.Length];
        var seen = new HashSet<(long, long)>();
        for (var i = 0; i < clips.Length; i++)
        {
            if (concepts[i] is not { } concept || voices[i] is not { } voice || lengths[i] is not { } samples || concept < 0 || concept >= manifest.Concepts.Count || voice < 0
                || voice >= manifest.Voices.Count || samples is < 1 or > MaxSamples || !seen.Add((concept, voice)))
                throw new PanoptesException($"{recordings} has at row {i} the concept {concepts[i]}, the voice {voices[i]} and {lengths[i]} samples: out of range or there before.");
            clips[i] = new(i, (int)concept, (int)voice, (int)samples);
        }
        return new(root, manifest, clips, packets);

        ParquetColumn Column(string name, ParquetKind kind) =>
            parquet.Columns.FirstOrDefault(c => c.Name == name && c.Kind == kind) ?? throw new PanoptesException($"{recordings} has no column {name} of {kind} values.");
    }
}

/// <summary>What <c>speech.json</c> says.</summary>
sealed record SpeechManifest(int SampleRate, IReadOnlyList<SpeechVoice> Voices, IReadOnlyList<SpeechConcept> Concepts);
