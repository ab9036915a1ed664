using System.Formats.Tar;
using System.IO.Compression;
using System.Text;
using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Data;

/// <summary>Tar shards: what other programs write, what we write, and how they are streamed.</summary>
public sealed class WebDatasetTests : IDisposable
{
    /// <summary>The same three samples written by GNU tar 1.34 in four formats and by Python's tarfile.</summary>
    internal static string Files { get; } = Path.GetFullPath(Path.Combine(Goldens.Root, "..", "Panoptes.Core.Tests", "Data", "files"));

    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("gnu")]
    [InlineData("pax")]
    [InlineData("ustar")]
    [InlineData("python")]
    [InlineData("v7")]
    public void Archives_of_other_programs_are_read_with_long_and_foreign_names(string format)
    {
        var data = WebDataset.Open(Path.Combine(Files, format + ".tar"));
        var samples = data.Read().ToDictionary(static s => s.Label);
        Assert.Equal(format == "v7" ? [1, 3] : [1, 2, 3], samples.Keys.Order());
        foreach (var (n, sample) in samples)
        {
            Assert.Equal($"picture {n}", sample.Text);
            Assert.Equal(Pictures.Flat(n).Pixels, sample.Decode().Pixels);
        }
        Assert.EndsWith(":日本/猫", samples[3].Name.Replace("./", "", StringComparison.Ordinal), StringComparison.Ordinal);
        if (format != "v7") Assert.EndsWith("and-then-some-more", samples[2].Name, StringComparison.Ordinal);
        Assert.Equal(0, data.Problems.Count);
    }

    [Fact]
    public void The_list_of_an_archive_is_the_one_that_the_framework_gives() =>
        Gen.Select(Gen.Select(Gen.String[Gen.Char["ab/é猫. "], 1, 160], Gen.Byte.Array[0, 1200]).Array[0, 6], Gen.Int[1, 4]).Sample((files, format) =>
        {
            var path = folder["t.tar"];
            using (var tar = new TarWriter(File.Create(path), TarEntryFormat.Pax))
            {
                foreach (var (name, content) in files)
                {
                    if (format <= 2 && Encoding.UTF8.GetByteCount(name) > 90) continue;                       // what V7 and ustar cannot hold
                    TarEntry entry = format switch
                    {
                        1 => new V7TarEntry(TarEntryType.V7RegularFile, name),
                        2 => new UstarTarEntry(TarEntryType.RegularFile, name),
                        3 => new PaxTarEntry(TarEntryType.RegularFile, name),
                        _ => new GnuTarEntry(TarEntryType.RegularFile, name),
                    };
                    entry.DataStream = new MemoryStream(content);
                    tar.WriteEntry(entry);
                }
            }
            var bytes = File.ReadAllBytes(path);
            using var reader = new TarReader(new MemoryStream(bytes));
            foreach (var member in TarIndex.List(path))
            {
                var entry = reader.GetNextEntry()!;
                using var content = new MemoryStream();
                entry.DataStream?.CopyTo(content);
                Assert.Equal(entry.Name, member.Name);
                Assert.Equal(content.ToArray(), bytes.AsSpan((int)member.Offset, (int)member.Length).ToArray());
            }
            Assert.Null(reader.GetNextEntry());
        }, iter: 150, threads: 1);

    [Fact]
    public void What_is_written_is_read_back_and_cut_into_shards_by_count_and_size()
    {
        ImageSample[] samples = [.. Enumerable.Range(0, 25).Select(static i => new ImageSample($"{i}", Pictures.Png(i), i % 5 == 0 ? "" : $"bild {i} 猫", i % 3 - 1))];
        samples[0] = samples[0] with { Text = "first" };
        var shards = WebDatasetWriter.Write(folder["a"], samples, new() { MaxSamples = 10 });
        Assert.Equal(["shard-000000.tar", "shard-000001.tar", "shard-000002.tar"], shards.Select(Path.GetFileName));
        Assert.Equal(shards, Directory.GetFiles(folder["a"]).Order());
        var data = WebDataset.Open(folder["a/shard-{000000..000002}.tar"]);
        Assert.Equal(25, data.CountSamples());
        Assert.Equal(samples.Where(static s => s.Text != "").Select(static s => (s.Text, s.Label, Convert.ToHexString(s.Encoded.Span))), data.Read().Select(static s => (s.Text, s.Label, Convert.ToHexString(s.Encoded.Span))));
        Assert.Equal(4, data.Problems.CountOf(DataProblemKind.NoCaption));

        var size = samples.Max(static s => s.Encoded.Length);
        var bySize = WebDatasetWriter.Write(folder["b"], samples, new() { MaxBytes = 7 * size });
        Assert.All(bySize, s => Assert.InRange(TarIndex.List(s).Where(static m => m.Name.EndsWith(".png", StringComparison.Ordinal)).Sum(static m => m.Length), 1, 7 * size));
        Assert.Equal(25, WebDatasetWriter.Write(folder["c"], samples, new() { MaxBytes = 1 }).Count);
        Assert.Equal(File.ReadAllBytes(shards[0]), File.ReadAllBytes(WebDatasetWriter.Write(folder["d"], samples, new() { MaxSamples = 10 })[0]));
    }

    [Fact]
    public void A_failed_or_cancelled_write_leaves_nothing()
    {
        var samples = Enumerable.Range(0, 9).Select(static i => new ImageSample($"{i}.png", i == 7 ? "no image"u8.ToArray() : Pictures.Png(i), "", -1));
        Assert.Contains("7.png", Assert.Throws<PanoptesException>(() => WebDatasetWriter.Write(folder["a"], samples, new() { MaxSamples = 3 })).Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(folder["a"]));
        using var cancel = new CancellationTokenSource();
        Assert.Throws<OperationCanceledException>(() => WebDatasetWriter.Write(folder["a"], samples.Take(7).Select((s, i) => i == 5 ? Cancelled(s) : s), new() { MaxSamples = 3 }, cancel.Token));
        Assert.Empty(Directory.GetFiles(folder["a"]));
        Assert.Contains("no sample", Assert.Throws<PanoptesException>(() => WebDatasetWriter.Write(folder["a"], [])).Message, StringComparison.Ordinal);
        folder.Write("a/old.tar", "");
        Assert.Contains("holds .tar files already", Assert.Throws<PanoptesException>(() => WebDatasetWriter.Write(folder["a"], samples)).Message, StringComparison.Ordinal);

        ImageSample Cancelled(ImageSample sample)
        {
            cancel.Cancel();
            return sample;
        }
    }

    [Fact]
    public void Samples_are_grouped_by_name_and_those_that_cannot_be_used_are_counted()
    {
        Tar("t.tar", ("a.json", """{"caption": "json a", "label": 4}"""), ("a.PNG", Png(1)), ("a.seg.png", "other"), ("dir.x/b.png", Png(2)), ("dir.x/b.txt", "b"), ("dir.x/b.json", """{"label": 9}"""), ("dir.x/b.cls", " 5\n"),
            ("c.txt", "no image"), ("d.png", ""), ("d.txt", "empty"), ("e.png", Png(3)), ("e.jpg", Png(3)), ("e.txt", "twice"), ("f.png", Png(4)), ("f.txt", " "), ("g.png", Png(5)), ("g.json", "{broken"),
            ("h.png", Png(6)), ("h.txt", "h"), ("h.cls", "cat"), ("i.png", Png(7)), ("i.json", "[1]"), (".hidden.png", Png(1)), ("README", "x"), ("j.png", Png(8)), ("j.json", """{"text": "json j", "label": "x"}"""));
        var data = WebDataset.Open(folder["t.tar"]);
        Assert.Equal([("a", "json a", 4), ("dir.x/b", "b", 5), ("j", "json j", -1)], data.Read().Select(s => (s.Name[(folder["t.tar"].Length + 1)..], s.Text, s.Label)));
        Assert.Equal(["c: no image", "d: an empty image", "e: a file twice", "f: NoCaption", "g: damaged", "h: 'cat'", "i: no object"],
            data.Problems.First.Select(p => $"{p.Where[(folder["t.tar"].Length + 1)..]}: {(p.Kind == DataProblemKind.NoCaption ? "NoCaption" : new[] { "no image", "an empty image", "a file twice", "damaged", "'cat'", "no object" }.Single(p.Message.Contains))}"));
        Assert.Contains("has no image", Assert.Throws<PanoptesException>(() => WebDataset.Open(folder["t.tar"], new(strict: true)).CountSamples()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_shard_that_is_cut_off_gives_what_comes_before_and_one_that_is_missing_is_told()
    {
        Shards(2, 5);
        var bytes = File.ReadAllBytes(folder["shard-000000.tar"]);
        folder.Write("shard-000000.tar", bytes[..((2 * 3 * 1024) + 1024 + 20)]);                  // two samples of three files, then the third's image and some of a header
        var data = WebDataset.Open(folder["shard-{000000..000002}.tar"]);
        Assert.Equal([0, 1, 5, 6, 7, 8, 9], data.Read().Select(static s => (int)s.Decode().Pixels[0]));
        Assert.Equal([$"The shard {folder["shard-000002.tar"]} does not exist.", $"The tar archive {folder["shard-000000.tar"]} is cut off in the header at byte 7,168."],
            data.Problems.First.Select(static p => p.Message).Where(static m => m.StartsWith("The shard", StringComparison.Ordinal) || m.StartsWith("The tar", StringComparison.Ordinal)));
    }

    [Fact]
    public void What_is_no_set_of_shards_is_one_sentence()
    {
        Assert.Contains("does not exist", Assert.Throws<PanoptesException>(() => WebDataset.Open(folder["none.tar"])).Message, StringComparison.Ordinal);
        Assert.Contains("None of the 3 shards", Assert.Throws<PanoptesException>(() => WebDataset.Open(folder["{0..2}.tar"])).Message, StringComparison.Ordinal);
        Assert.Contains("holds no .tar files", Assert.Throws<PanoptesException>(() => WebDataset.Open(folder.Path)).Message, StringComparison.Ordinal);
        folder.Write("text.tar", new string('x', 2000));
        var message = Assert.Throws<PanoptesException>(() => WebDataset.Open(folder["text.tar"])).Message;
        Assert.Contains("has no image that can be used", message, StringComparison.Ordinal);
        Assert.Contains("has no header at byte 0", message, StringComparison.Ordinal);
        Assert.Contains("more than 1,000,000 names", Assert.Throws<PanoptesException>(() => WebDataset.Open("{0..9999999}.tar")).Message, StringComparison.Ordinal);
        Assert.Contains("more than 1,000,000 names", Assert.Throws<PanoptesException>(() => WebDataset.Open("{0..9999}{0..9999}.tar")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("shard-000000.tar.gz")]
    [InlineData("shard-000000.TGZ")]
    [InlineData("shard-000000.tar")]                                                       // only its bytes tell
    public void Shards_under_gzip_are_refused_with_a_sentence_that_says_to_unpack_them(string name)
    {
        Shards(2, 3);
        var packed = Path.Combine(Directory.CreateDirectory(folder["packed"]).FullName, name);
        using (var gzip = new GZipStream(File.Create(packed), CompressionLevel.Fastest)) gzip.Write(File.ReadAllBytes(folder["shard-000000.tar"]));
        var expected = $"The tar archive {packed} is compressed with gzip, but files are read from the middle of it; unpack it first";
        foreach (var source in (string[])[packed, folder["packed"], folder["packed/shard-{000000..000001}" + name[12..]]])
            Assert.Contains(expected, Assert.Throws<PanoptesException>(() => ImageData.Open(source)).Message, StringComparison.Ordinal);

        // Beside one that can be read it is counted, and in a strict set an error.
        File.Move(folder["shard-000001.tar"], folder["packed/shard-000001.tar"]);
        var data = ImageData.Open(folder["packed"]);
        Assert.Equal([3, 4, 5], data.Read().Select(static s => (int)s.Decode().Pixels[0]));
        Assert.StartsWith(expected, data.Problems.First.Single().Message, StringComparison.Ordinal);
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => ImageData.Open(folder["packed"], problems: new(strict: true)).CountSamples()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_archive_beside_images_does_not_make_their_folder_one_of_shards()
    {
        folder.Write("a.png", Png(1));
        folder.Write("backup.tar.gz", "anything");
        Assert.Equal(1, Assert.IsType<ImageCollection>(ImageData.Open(folder.Path)).Count);
    }

    [Theory]
    [InlineData("a{08..11}.tar", "a08.tar a09.tar a10.tar a11.tar")]
    [InlineData("{2..0}", "2 1 0")]
    [InlineData("{1..3}{a,b}", "1a 1b 2a 2b 3a 3b")]
    [InlineData("{x}/{}-{a..b}-}{", "{x}/{}-{a..b}-}{")]
    [InlineData("plain", "plain")]
    public void Braces_stand_for_what_they_do_in_shells(string pattern, string expected) => Assert.Equal(expected, string.Join(' ', BracePattern.Expand(pattern)));

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_stream_is_shuffled_full_resumable_and_the_same_whatever_the_workers(int workers)
    {
        Shards(4, 11, broken: [7, 20, 21]);
        using var loader = ImageLoader.Create(WebDataset.Open(folder.Path), Options(5) with { ShuffleBuffer = 16, Loader = new() { Workers = workers } });
        var epochs = Enumerable.Range(0, 3).Select(_ => Numbers(loader)).ToArray();
        using var other = ImageLoader.Create(WebDataset.Open(folder.Path), Options(5) with { ShuffleBuffer = 16, Loader = new() { Workers = 2 } });
        Assert.Equal(epochs[0], Numbers(other));
        Assert.All(epochs, static e => Assert.Equal(8, e.Count));                                        // 44 samples in eights of five, the rest in spare
        Assert.All(epochs.SelectMany(static e => e), static b => Assert.Equal(5, b.Distinct().Count()));
        Assert.NotEqual(epochs[0], epochs[1]);
        var once = epochs[0].SelectMany(static b => b).ToArray();
        Assert.InRange(once.Distinct().Count(), 37, 40);
        Assert.NotEqual(once.Order(), once);
        other.Restore(new(1, 6));
        using var batch = other.Next();
        Assert.Equal(epochs[1][6], Numbers(batch));
        Assert.Equal(batch.Samples.Count, batch.Samples.Distinct().Count());
    }

    [Fact]
    public void For_evaluation_shards_come_in_order_and_processes_share_every_batch()
    {
        Shards(3, 5, broken: [4]);
        var data = WebDataset.Open(folder.Path);
        using var loader = ImageLoader.Create(data, Options(4) with { Training = false });
        Assert.Equal([[0, 1, 2, 3], [5, 6, 7], [8, 9, 10, 11], [12, 13, 14]], Numbers(loader));
        int[][][] ranks = [.. Enumerable.Range(0, 2).Select(r =>
        {
            using var rank = ImageLoader.Create(data, Options(4) with { Training = false, Shard = new(r, 2) });
            return Numbers(rank).ToArray();
        })];
        Assert.Equal([[[0, 1, 2, 3], [8, 9, 10]], [[5, 6, 7], [11, 12, 13, 14]]], ranks);
        Assert.Equal(1, data.Problems.Count);
        using var training = ImageLoader.Create(data, Options(4) with { Shard = new(0, 4) });
        Assert.Contains("no batch in epoch 0", Assert.Throws<PanoptesException>(() => training.Next()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_stream_holds_places_not_images()
    {
        // 40 shards of 100 images of 48 kB would be 190 MB.
        var noise = new Panoptes.Imaging.Image(128, 128, 3, Pictures.Noise(128, 128, 3)).Encode(Panoptes.Imaging.ImageFormat.Png);
        var first = WebDatasetWriter.Write(folder["one"], Enumerable.Repeat(new ImageSample("x", noise, "x", 0), 100))[0];
        Directory.CreateDirectory(folder["all"]);
        for (var i = 0; i < 40; i++) File.CreateSymbolicLink(folder[$"all/{i:d2}.tar"], first);
        var data = WebDataset.Open(folder["all"]);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Equal(4000, data.CountSamples());
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4000 * 1500);
        using var loader = ImageLoader.Create(data, Options(8) with { Loader = new() { Workers = 1, Prefetch = 1 } });
        using var batch = loader.Next();
        Assert.Equal(8, batch.Count);
    }

    static ImageLoaderOptions Options(int batch) => new() { BatchSize = batch, Augmentation = Pictures.Plain(), Seed = 3, Loader = new() { Workers = 2 } };

    /// <summary>Shards of <paramref name="each"/> samples with an image, a caption and a class: six blocks a sample.</summary>
    void Shards(int count, int each, int[]? broken = null) =>
        WebDatasetWriter.Write(folder.Path, Enumerable.Range(0, count * each).Select(i => new ImageSample($"{i}", broken?.Contains(i) == true ? Pictures.Broken() : Pictures.Png(i), $"picture {i}", i)), new() { MaxSamples = each });

    static byte[] Png(int number) => Pictures.Png(number);

    void Tar(string name, params (string Name, object Content)[] files)
    {
        using var tar = new TarWriter(File.Create(folder[name]), TarEntryFormat.Ustar);
        foreach (var (file, content) in files)
            tar.WriteEntry(new UstarTarEntry(TarEntryType.RegularFile, file) { DataStream = new MemoryStream(content as byte[] ?? Encoding.UTF8.GetBytes((string)content)) });
    }

    static List<int[]> Numbers(PrefetchLoader<ImageTextBatch> loader)
    {
        var batches = new List<int[]>();
        foreach (var batch in loader.ReadEpoch())
            using (batch) batches.Add(Numbers(batch));
        return batches;
    }

    static int[] Numbers(ImageTextBatch batch) => [.. Enumerable.Range(0, batch.Count).Select(i => Pictures.Number(batch.Images, i))];
}
