using System.Buffers.Binary;
using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Training;
using Tensorboard;

namespace Panoptes.Core.Tests.Training;

public sealed class TensorBoardLogTests
{
    [Fact]
    public void Scalars_are_read_back_as_they_were_written()
    {
        using var folder = new TemporaryFolder();
        using var log = new TensorBoardLog(folder.Path);
        log.Scalar("train/loss", 0, 5.5);
        log.Scalar("train/rate", 3_000_000_000, 1e-4);
        log.Scalar("train/loss", 1, double.NaN);
        log.Flush();

        var events = Read(log.Path);                                                 // while the log is still open, as TensorBoard does
        Assert.Equal("brain.Event:2", events[0].FileVersion);
        Assert.Equal([("train/loss", 0L, 5.5f), ("train/rate", 3_000_000_000, 1e-4f), ("train/loss", 1, float.NaN)],
            events.Skip(1).Select(static e => (e.Summary.Value[0].Tag, e.Step, e.Summary.Value[0].SimpleValue)));
        var now = (DateTime.UtcNow - DateTime.UnixEpoch).TotalSeconds;
        Assert.All(events, e => Assert.InRange(e.WallTime, now - 60, now));
    }

    [Fact]
    public void A_run_that_goes_on_writes_a_later_file_and_says_where_it_starts()
    {
        using var folder = new TemporaryFolder();
        using (var first = new TensorBoardLog(folder.Path)) first.Scalar("loss", 7, 1);
        using (var second = new TensorBoardLog(folder.Path, resumeAt: 5)) second.Scalar("loss", 5, 2);
        using (var third = new TensorBoardLog(folder.Path, resumeAt: 6)) third.Scalar("loss", 6, 3);

        var files = Directory.GetFiles(folder.Path).Order(StringComparer.Ordinal).Select(Read).ToArray();
        Assert.Equal([7, 5, 6], files.Select(static f => f[^1].Step));
        Assert.DoesNotContain(files[0], static e => e.WhatCase == Event.WhatOneofCase.SessionLog);
        Assert.Equal([5, 6], files.Skip(1).Select(static f => f.Single(static e => e.SessionLog?.Status == SessionLog.Types.SessionStatus.Start).Step));
    }

    [Fact]
    public void Any_tags_steps_and_values_make_whole_records() =>
        Gen.Select(Gen.String, Gen.Long, Gen.Float).Array[0, 20].Sample(static rows =>
        {
            using var folder = new TemporaryFolder();
            var log = new TensorBoardLog(folder.Path);
            foreach (var (tag, step, value) in rows) log.Scalar(Valid(tag), step, value);
            log.Dispose();
            Assert.Equal(rows.Select(static r => (Valid(r.Item1), r.Item2, r.Item3)),
                Read(log.Path).Skip(1).Select(static e => (e.Summary.Value[0].Tag, e.Step, e.Summary.Value[0].SimpleValue)));
        }, iter: 50, threads: 1);

    [Fact]
    public void A_folder_that_cannot_be_made_is_one_clear_error()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("file", "not a folder");
        Assert.Contains(path, Assert.Throws<PanoptesException>(() => new TensorBoardLog(path)).Message, StringComparison.Ordinal);
    }

    // Lone surrogates are no text that UTF-8 can hold.
    static string Valid(string tag) => string.Concat(tag.Where(static c => !char.IsSurrogate(c)));

    /// <summary>The records of a TFRecord file, each checksum computed bit by bit from its definition.</summary>
    static List<Event> Read(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        var events = new List<Event>();
        for (var rest = bytes.AsSpan(); rest.Length > 0;)
        {
            var length = (int)BinaryPrimitives.ReadUInt64LittleEndian(rest);
            Assert.Equal(MaskedCrc(rest[..8]), BinaryPrimitives.ReadUInt32LittleEndian(rest[8..]));
            Assert.Equal(MaskedCrc(rest.Slice(12, length)), BinaryPrimitives.ReadUInt32LittleEndian(rest[(12 + length)..]));
            events.Add(Event.Parser.ParseFrom(rest.Slice(12, length).ToArray()));
            rest = rest[(16 + length)..];
        }
        return events;
    }

    static uint MaskedCrc(ReadOnlySpan<byte> bytes)
    {
        var crc = ~0u;
        foreach (var value in bytes)
        {
            crc ^= value;
            for (var bit = 0; bit < 8; bit++) crc = (crc & 1) == 1 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
        }
        crc = ~crc;
        return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
    }
}
