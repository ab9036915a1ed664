using System.Buffers.Binary;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Concentus;
using Concentus.Enums;
using Concentus.Structs;
using Panoptes.Audio;
using Panoptes.Checkpoints;
using Panoptes.Data.Emoji;
using Parquet;
using Parquet.Schema;

namespace Panoptes.Data.Speech;

/// <summary>What to build and where.</summary>
public sealed record SpeechBuildOptions
{
    /// <summary>The folder that the set goes to.</summary>
    public required string Output { get; init; }

    /// <summary>What is said: the names of these concepts; by default those of <c>EmojiSet.Open().Subset(400)</c>.</summary>
    public EmojiSet? Set { get; init; }

    /// <summary>The synthesizer, espeak-ng (Debian's package of that name) or a program that takes its options.</summary>
    public string Synthesizer { get; init; } = "espeak-ng";

    /// <summary>Who speaks.</summary>
    public IReadOnlyList<SpeechVoice> Voices { get; init; } = SpeechBuilder.Voices;
}

/// <summary>How far a build has come, in recordings.</summary>
public readonly record struct SpeechBuildProgress(int Done, int Total);

/// <summary>
/// Builds the bundled speech: <c>speech.json</c> (voices and concepts), <c>speech.parquet</c> (columns <c>concept</c>, <c>voice</c>, <c>samples</c> and
/// <c>packets</c>) and <c>LICENSES.md</c>. One version of the synthesizer gives the same bytes.
/// </summary>
public static class SpeechBuilder
{
    /// <summary>Bits a second: speech at this rate is hard to tell from what was coded.</summary>
    const int Bitrate = 20_000;

    /// <summary>The silence that is kept before and after a name where there is some, in samples.</summary>
    const int Margin = SpeechSet.SampleRate / 25;

    static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>Six voices of different sexes, accents, speeds and pitches; the last one is held out.</summary>
    public static IReadOnlyList<SpeechVoice> Voices { get; } =
    [
        new() { Name = "us-m", Synthesizer = "en-us+m1", Speed = 150, Pitch = 45, HeldOut = false },
        new() { Name = "us-f", Synthesizer = "en-us+f2", Speed = 170, Pitch = 60, HeldOut = false },
        new() { Name = "gb-m", Synthesizer = "en-gb+m3", Speed = 165, Pitch = 38, HeldOut = false },
        new() { Name = "rp-f", Synthesizer = "en-gb-x-rp+f4", Speed = 185, Pitch = 66, HeldOut = false },
        new() { Name = "scotland-m", Synthesizer = "en-gb-scotland+m7", Speed = 155, Pitch = 52, HeldOut = false },
        new() { Name = "caribbean-f", Synthesizer = "en-029+f3", Speed = 172, Pitch = 56, HeldOut = true },
    ];

    /// <summary>Builds the set; nothing half-written replaces an older one.</summary>
    /// <exception cref="PanoptesException">The synthesizer is not there or fails.</exception>
    public static async Task<SpeechSet> BuildAsync(SpeechBuildOptions options, IProgress<SpeechBuildProgress>? progress = null, CancellationToken cancel = default)
    {
        var set = options.Set ?? EmojiSet.Open().Subset(400);
        var clips = new (int Samples, byte[] Packets)[options.Voices.Count * set.Concepts.Count];
        var done = 0;
        try
        {
            Parallel.For(0, clips.Length, new ParallelOptions { CancellationToken = cancel, MaxDegreeOfParallelism = Environment.ProcessorCount }, i =>
            {
                clips[i] = Encode(Trim(Speak(options.Synthesizer, options.Voices[i / set.Concepts.Count], set.Concepts[i % set.Concepts.Count].Name, cancel)));
                progress?.Report(new(Interlocked.Increment(ref done), clips.Length));
            });
        }
        catch (AggregateException e) when (e.InnerExceptions[0] is PanoptesException first)
        {
            throw new PanoptesException(first.Message, first);
        }

        var bytes = new MemoryStream();
        var (concept, voice, samples, packets) = (new DataField<int>("concept"), new DataField<int>("voice"), new DataField<int>("samples"), new DataField<byte[]>("packets", false));
        var writer = await ParquetWriter.CreateAsync(new ParquetSchema(concept, voice, samples, packets), bytes, new() { CompressionMethod = CompressionMethod.None }, cancellationToken: cancel).ConfigureAwait(false);
        await using (writer.ConfigureAwait(false))
        {
            using var group = writer.CreateRowGroup();
            await WriteNumbers(group, concept, [.. Enumerable.Range(0, clips.Length).Select(i => i % set.Concepts.Count)]).ConfigureAwait(false);
            await WriteNumbers(group, voice, [.. Enumerable.Range(0, clips.Length).Select(i => i / set.Concepts.Count)]).ConfigureAwait(false);
            await WriteNumbers(group, samples, [.. clips.Select(static c => c.Samples)]).ConfigureAwait(false);
            await group.WriteAsync(packets, clips.Select(static c => c.Packets).ToArray()).ConfigureAwait(false);
        }
        AtomicFile.Write(Path.Combine(options.Output, SpeechSet.Recordings), file => file.Write(bytes.ToArray()));
        var manifest = new SpeechManifest(SpeechSet.SampleRate, options.Voices, [.. set.Concepts.Select(static c => new SpeechConcept(c.Code, c.Name))]);
        AtomicFile.WriteText(Path.Combine(options.Output, SpeechSet.Manifest), JsonSerializer.Serialize(manifest, EmojiBuilder.Json) + "\n");
        AtomicFile.WriteText(Path.Combine(options.Output, "LICENSES.md"), Licenses);
        return SpeechSet.Open(options.Output);

        Task WriteNumbers(ParquetRowGroupWriter group, DataField<int> field, int[] values) => group.WriteAsync<int>(field, values, cancellationToken: cancel);
    }

    /// <summary>Has a name spoken.</summary>
    static float[] Speak(string synthesizer, SpeechVoice voice, string name, CancellationToken cancel)
    {
        var file = Path.Combine(Path.GetTempPath(), $"panoptes-{Guid.NewGuid():N}.wav");
        try
        {
            // "flag: France" is said with the pause of a comma.
            var start = new ProcessStartInfo(synthesizer, ["-v", voice.Synthesizer, "-s", voice.Speed.ToString(CultureInfo.InvariantCulture), "-p", voice.Pitch.ToString(CultureInfo.InvariantCulture),
                "-w", file, "--stdin"])
            { RedirectStandardInput = true, RedirectStandardError = true, RedirectStandardOutput = true };
            using var process = Process.Start(start) ?? throw new PanoptesException($"{synthesizer} cannot be started.");
            var (output, error) = (process.StandardOutput.ReadToEndAsync(cancel), process.StandardError.ReadToEndAsync(cancel));
            try
            {
                process.StandardInput.Write(name.Replace(':', ','));
                process.StandardInput.Close();
            }
            catch (IOException)
            {
                // It ended without reading: its exit code says why.
            }
            if (!process.WaitForExit(Patience))
            {
                process.Kill();
                throw new PanoptesException($"{synthesizer} did not say '{name}' within {Patience.TotalSeconds} seconds.");
            }
            Task.WaitAll([output, error], cancel);
            if (process.ExitCode != 0 || !File.Exists(file)) throw new PanoptesException($"{synthesizer} could not say '{name}' in the voice {voice.Synthesizer} (exit code {process.ExitCode}): {error.Result.Trim()}");
            return WavFile.Parse(File.ReadAllBytes(file), $"{synthesizer}'s recording of '{name}'").Resample(SpeechSet.SampleRate).Channels[0].ToArray();
        }
        catch (Win32Exception e)
        {
            throw new PanoptesException($"{synthesizer} cannot be started ({e.Message}); it is Debian's package espeak-ng (apt-get install espeak-ng).", e);
        }
        finally
        {
            File.Delete(file);
        }
    }

    /// <summary>Without the silence around it but for <see cref="Margin"/>.</summary>
    static float[] Trim(float[] samples)
    {
        const float Silence = 0.006f;
        var first = Array.FindIndex(samples, static s => Math.Abs(s) > Silence);
        var last = Array.FindLastIndex(samples, static s => Math.Abs(s) > Silence);
        return first < 0 ? throw new PanoptesException("The synthesizer said nothing.") : samples[Math.Max(0, first - Margin)..Math.Min(samples.Length, last + Margin + 1)];
    }

    static (int Samples, byte[] Packets) Encode(float[] samples)
    {
        if (samples.Length > SpeechSet.MaxSamples) throw new PanoptesException($"The synthesizer spoke for {samples.Length / SpeechSet.SampleRate} seconds; a name takes {SpeechSet.MaxSamples / SpeechSet.SampleRate} at most.");
#pragma warning disable CS0618                                                        // the factory may take a native library, which gives other bytes
        var encoder = new OpusEncoder(SpeechSet.SampleRate, 1, OpusApplication.OPUS_APPLICATION_AUDIO) { Bitrate = Bitrate, Complexity = 10, UseVBR = true, SignalType = OpusSignal.OPUS_SIGNAL_VOICE };
#pragma warning restore CS0618
        if (encoder.Lookahead != SpeechSet.PreSkip) throw new InvalidOperationException($"The encoder looks {encoder.Lookahead} samples ahead; {SpeechSet.PreSkip} are skipped in decoding.");
        var padded = new float[SpeechSet.PacketsOf(samples.Length) * SpeechSet.Frame];
        samples.CopyTo(padded, 0);
        using var packets = new MemoryStream();
        Span<byte> packet = stackalloc byte[2 + SpeechSet.MaxPacket];
        for (var at = 0; at < padded.Length; at += SpeechSet.Frame)
        {
            var length = encoder.Encode(padded.AsSpan(at, SpeechSet.Frame), SpeechSet.Frame, packet[2..], SpeechSet.MaxPacket);
            BinaryPrimitives.WriteUInt16LittleEndian(packet, (ushort)length);
            packets.Write(packet[..(2 + length)]);
        }
        return (samples.Length, packets.ToArray());
    }

    const string Licenses = """
        # Licenses of the speech

        The recordings in speech.parquet were made by a program, eSpeak NG 1.51 (https://github.com/espeak-ng/espeak-ng), which spoke names of Unicode CLDR. No
        person's voice is in them. eSpeak NG itself is under the GNU General Public License, version 3 or later; that license covers the program and its data, none
        of which is here, and not what the program says (see the FAQ of the GNU licenses on the output of programs). As far as there is any right in them, the
        recordings are under CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/). They are synthetic speech and should be called so.

        The names are from the Unicode Common Locale Data Repository, Copyright © 1991-2025 Unicode, Inc., under the Unicode License V3
        (https://www.unicode.org/license.txt).

        """;
}
