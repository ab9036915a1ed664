using System.Diagnostics;
using System.Text;
using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

/// <summary>Damaged and hostile files at every reader: data, counted problems or one clear error; in bounded time and memory.</summary>
public sealed class DamagedDataTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    static readonly Gen<Damage> Damages = Gen.Select(
        Gen.Select(Gen.Double[0, 1], Gen.Byte).Array[0, 8], Gen.Frequency((3, Gen.Const(1.0)), (1, Gen.Double[0, 1])), Gen.Int[0, 3], (edits, cut, part) => new Damage(edits, cut, part));

    /// <summary>Bytes changed, half of the time only near the beginning or the end, where headers and footers are, and the rest cut off.</summary>
    sealed record Damage((double At, byte Value)[] Edits, double Cut, int Part)
    {
        internal byte[] Apply(byte[] original)
        {
            var bytes = original.ToArray();
            var reach = Part is 0 or 1 ? Math.Min(600, bytes.Length) : bytes.Length;
            foreach (var (at, value) in Edits)
            {
                var i = (int)(at * (reach - 1));
                bytes[Part == 1 ? bytes.Length - 1 - i : i] = value;
            }
            return bytes[..(int)(bytes.Length * Cut)];
        }

        public override string ToString() => $"{string.Join(' ', Edits)} cut {Cut} part {Part}";
    }

    /// <summary>Reads; anything but data or a PanoptesException is a fault, and so is more memory than <paramref name="allowed"/> or more than a few seconds.</summary>
    internal static void Read(long allowed, Action read)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        var watch = Stopwatch.StartNew();
        try
        {
            read();
        }
        catch (PanoptesException e)
        {
            Assert.False(string.IsNullOrWhiteSpace(e.Message));
        }
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, allowed);
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 10);
    }

    [Theory]
    [InlineData("gnu.tar")]
    [InlineData("pax.tar")]
    [InlineData("ustar.tar")]
    public void Shards(string name)
    {
        var original = File.ReadAllBytes(Path.Combine(WebDatasetTests.Files, name));
        Damages.Sample(damage =>
        {
            var path = folder.Write("t.tar", damage.Apply(original));
            Read(8 << 20, () =>
            {
                foreach (var sample in WebDataset.Open(path).Read()) Assert.InRange(sample.Encoded.Length, 1, original.Length);
            });
        }, iter: 200, threads: 1);
    }

    /// <summary>Damage that keeps the headers' checksums right, so that it reaches the fields behind them.</summary>
    [Fact]
    public void Shards_whose_headers_lie()
    {
        var original = File.ReadAllBytes(Path.Combine(WebDatasetTests.Files, "gnu.tar"));
        int[] headers = [.. Enumerable.Range(0, original.Length / 512).Select(static i => i * 512).Where(i => original.AsSpan(i + 257, 5).SequenceEqual("ustar"u8))];
        Assert.True(headers.Length > 9);
        var field = Gen.OneOf(Gen.Int[0, 99], Gen.Int[124, 135], Gen.Const(156), Gen.Int[257, 264], Gen.Int[345, 499]);
        Gen.Select(Gen.Int[0, headers.Length - 1], field, Gen.OneOf(Gen.Byte, Gen.Char["01234567LKxg5 "].Select(static c => (byte)c))).Array[1, 6].Sample(edits =>
        {
            var bytes = original.ToArray();
            foreach (var (header, at, value) in edits)
            {
                bytes[headers[header] + at] = value;
                Resign(bytes.AsSpan(headers[header], 512));
            }
            var path = folder.Write("t.tar", bytes);
            Read(8 << 20, () => Assert.InRange(WebDataset.Open(path).Read().Count(), 0, 10));
        }, iter: 300, threads: 1);
    }

    [Fact]
    public void A_shard_that_claims_gigabytes_is_refused_without_taking_them()
    {
        foreach (var type in "0Lxg7")
        {
            foreach (var size in new[] { "77777777777", "00000000000", "10000000000" })
            {
                var header = new byte[512];
                "a.png"u8.CopyTo(header);
                Encoding.ASCII.GetBytes(size).CopyTo(header.AsSpan(124));
                header[156] = (byte)type;
                "ustar\000"u8.CopyTo(header.AsSpan(257));
                Resign(header);
                var path = folder.Write("t.tar", [.. header, .. new byte[100]]);
                Read(1 << 20, () => WebDataset.Open(path));
            }
        }
        // GNU's binary sizes: negative, beyond 64 bits, and so large that adding overflows.
        foreach (var size in new byte[][] { [0xFF, .. new byte[11]], [0x80, 0, 0, 1, .. new byte[8]], [0x80, 0, 0, 0, 0x7F, .. Enumerable.Repeat((byte)0xFF, 7)] })
        {
            var header = new byte[512];
            "a.png"u8.CopyTo(header);
            size.CopyTo(header, 124);
            header[156] = (byte)'0';
            Resign(header);
            var path = folder.Write("t.tar", header);
            Read(1 << 20, () => WebDataset.Open(path));
        }
    }

    [Fact]
    public async Task Tables_in_parquet()
    {
        var count = 200;
        await ImageCollectionTests.WriteParquet(folder["o.parquet"], typeof(long), [.. Enumerable.Range(0, count).Select(static i => $"img/{i}.png")], [.. Enumerable.Range(0, count).Select(static i => $"cat {i}")], [.. Enumerable.Range(0, count)]);
        var original = File.ReadAllBytes(folder["o.parquet"]);
        Damages.Sample(damage =>
        {
            var path = folder.Write("t.parquet", damage.Apply(original));
            Read(32 << 20, () =>                                                         // a page may claim 16 MiB
            {
                var images = ImageTable.Open(path);
                for (var i = 0; i < images.Count; i++) Assert.StartsWith(folder.Path, images.PathOf(i), StringComparison.Ordinal);
            });
        }, iter: 200, threads: 1);
    }

    static void Resign(Span<byte> header)
    {
        header.Slice(148, 8).Fill((byte)' ');
        var sum = 0;
        foreach (var b in header) sum += b;
        Encoding.ASCII.GetBytes(Convert.ToString(sum, 8).PadLeft(6, '0') + "\0 ").CopyTo(header[148..]);
    }
}
