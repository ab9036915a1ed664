using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Core.Tests.Data;
using Panoptes.Data;
using Parquet;
using Parquet.Schema;

namespace Panoptes.Core.Tests.Hostile;

/// <summary>Damaged tables and emoji sets: samples or one sentence, in bounded time and memory.</summary>
public sealed class DataMutationTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(CompressionMethod.Snappy)]
    [InlineData(CompressionMethod.None)]
    [InlineData(CompressionMethod.Gzip)]
    public async Task A_damaged_Parquet_table_is_read_or_refused(CompressionMethod compression)
    {
        await ImageCollectionTests.WriteParquet(folder["seed"], typeof(long), ["a.png", "b.png", "sub/c.png"], ["one", null, "three"], [3, 1, 2], compression);
        byte[][] seeds = [File.ReadAllBytes(folder["seed"])];
        Mutation.OfBytes(seeds).Sample(bytes => Mutation.Check(folder["t.parquet"], bytes, () => Inside(ImageTable.Open(folder["t.parquet"])), constant: 32 << 20), iter: 300, threads: 1, print: Mutation.Print);
    }

    [Fact]
    public void A_damaged_table_of_text_is_read_or_refused()
    {
        byte[][] seeds = ["\uFEFFpath,caption,label\r\na.png,\"a, \"\"b\"\"\nc\",x\r\nb.png,é,y\n,,\n"u8.ToArray(), "path\tcaption\na.png\tone\nb.png\ttwo\n"u8.ToArray()];
        Mutation.OfBytes(seeds).Sample(bytes => Mutation.Check(folder["t.csv"], bytes, () => Inside(ImageTable.Open(folder["t.csv"]))), iter: 800, threads: 1, print: Mutation.Print);
    }

    /// <summary>No path leads out of the table's folder.</summary>
    void Inside(ImageCollection images)
    {
        for (var i = 0; i < images.Count; i++) Assert.StartsWith(folder.Path, images.PathOf(i), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("styles.json")]
    [InlineData("concepts.jsonl")]
    [InlineData("flat.parquet")]
    public async Task A_damaged_emoji_set_is_read_or_refused(string name)
    {
        await WriteEmoji();
        byte[][] seeds = [File.ReadAllBytes(folder[name])];
        Assert.Equal(2, EmojiSet.Open(folder.Path).Images.Count);
        (name == "styles.json" ? Mutation.OfJson(seeds) : Mutation.OfBytes(seeds)).Sample(bytes => Mutation.Check(folder[name], bytes, () =>
        {
            var set = EmojiSet.Open(folder.Path);
            Assert.Equal(2, set.Images.Count);
        }, constant: 48 << 20), iter: 300, threads: 1, print: Mutation.Print);      // a page may claim 16 MiB, two images a side of 1,024
    }

    [Fact]
    public async Task An_emoji_set_that_no_memory_could_hold_is_refused()
    {
        await WriteEmoji(images: 600);
        File.WriteAllText(folder["styles.json"], File.ReadAllText(folder["styles.json"]).Replace("\"size\":8", "\"size\":1024", StringComparison.Ordinal));
        Assert.Contains("1024", Assert.Throws<PanoptesException>(() => EmojiSet.Open(folder.Path)).Message, StringComparison.Ordinal);
    }

    /// <summary>A set of one style.</summary>
    async Task WriteEmoji(int images = 2)
    {
        File.WriteAllText(folder["styles.json"], $$"""{"size":8,"concepts":{{images}},"styles":[{"index":0,"name":"flat","title":"Flat","author":"A","url":"u","license":"MIT","license_url":"l","package":"p","count":{{images}},"held_out":false}]}""");
        File.WriteAllLines(folder["concepts.jsonl"], Enumerable.Range(0, images).Select(static i => $$$"""{"index":{{{i}}},"code":"{{{i:X}}}","emoji":"x","names":{"en":"thing {{{i}}}","zh":"东西"},"tags":{"en":["a"]},"group":"g","subgroup":"s","unicode_version":1,"held_out":false}"""));
        var (code, image) = (new DataField<string>("code", false), new DataField<byte[]>("image", false));
        await using var stream = File.Create(folder["flat.parquet"]);
        await using var writer = await ParquetWriter.CreateAsync(new ParquetSchema(code, image), stream);
        using var group = writer.CreateRowGroup();
        await group.WriteAsync(code, Enumerable.Range(0, images).Select(static i => $"{i:X}").ToArray());
        await group.WriteAsync(image, Enumerable.Range(0, images).Select(static i => Pictures.Png(i % 256)).ToArray());
    }
}
