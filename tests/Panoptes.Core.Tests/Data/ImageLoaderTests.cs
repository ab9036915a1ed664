using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

/// <summary>Batches of images from files.</summary>
public sealed class ImageLoaderTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void An_epoch_has_every_image_with_its_text_and_label()
    {
        Fill(20);
        using var loader = ImageLoader.Create(Table(20), Options(5));
        var seen = new List<int>();
        foreach (var batch in loader.ReadEpoch())
        {
            using (batch)
            {
                Assert.Equal([5, 3, 8, 8], batch.Images.shape);
                for (var i = 0; i < 5; i++)
                {
                    var number = Pictures.Number(batch.Images, i);
                    Assert.Equal(($"picture {number}", number % 3, number), (batch.Texts[i], batch.Labels[i], batch.Samples[i]));
                    seen.Add(number);
                }
            }
        }
        Assert.Equal(Enumerable.Range(0, 20), seen.Order());
        Assert.NotEqual(Enumerable.Range(0, 20), seen);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Bad_images_are_replaced_and_batches_stay_full_and_the_same_whatever_the_workers(int workers)
    {
        Fill(40, missing: [3, 17], broken: [8, 30, 31]);
        var images = Table(40);
        using var loader = ImageLoader.Create(images, Options(8) with { Loader = new() { Workers = workers } });
        var epochs = Enumerable.Range(0, 3).Select(_ => Numbers(loader)).ToArray();
        Assert.All(epochs, static e => Assert.Equal(5, e.Count));
        Assert.All(epochs.SelectMany(static e => e), static b => Assert.Equal(8, b.Length));
        Assert.All(epochs.SelectMany(static e => e.SkipLast(1)), static b => Assert.Equal(8, b.Distinct().Count()));        // the last has no other batch to draw on
        Assert.All(epochs, static e => Assert.Equal(Enumerable.Range(0, 40).Except([3, 17, 8, 30, 31]), e.SelectMany(static b => b).Distinct().Order()));
        Assert.Equal((5, 2, 3), (images.Problems.Count, images.Problems.CountOf(DataProblemKind.MissingFile), images.Problems.CountOf(DataProblemKind.BadImage)));

        using var one = ImageLoader.Create(Table(40), Options(8) with { Loader = new() { Workers = 1 } });
        Assert.Equal(epochs[0], Numbers(one));
    }

    [Fact]
    public void A_stream_goes_on_where_its_state_says()
    {
        Fill(24, broken: [5, 6]);
        using var whole = ImageLoader.Create(Table(24), Options(4));
        var expected = Numbers(whole).Concat(Numbers(whole)).ToArray();
        for (var at = 1; at < 11; at += 3)
        {
            using var first = ImageLoader.Create(Table(24), Options(4));
            for (var i = 0; i < at; i++) first.Next().Dispose();
            using var second = ImageLoader.Create(Table(24), Options(4));
            second.Restore(first.State);
            using var next = second.Next();
            Assert.Equal(expected[at], Numbers(next));
        }
    }

    [Fact]
    public void For_evaluation_images_come_in_order_once_and_bad_ones_are_left_out()
    {
        Fill(10, broken: [2, 9]);
        using var loader = ImageLoader.Create(Table(10), Options(4) with { Training = false });
        Assert.Equal([[0, 1, 3], [4, 5, 6, 7], [8]], Numbers(loader));
    }

    [Fact]
    public void Processes_share_every_batch()
    {
        Fill(20);
        int[][][] ranks = [.. Enumerable.Range(0, 2).Select(r =>
        {
            using var loader = ImageLoader.Create(Table(20), Options(5) with { Shard = new(r, 2) });
            return Numbers(loader).ToArray();
        })];
        using var alone = ImageLoader.Create(Table(20), Options(10));
        Assert.Equal(Numbers(alone), ranks[0].Zip(ranks[1], static (a, b) => a.Concat(b).ToArray()));
    }

    [Fact]
    public void A_bad_image_is_an_error_when_asked_to_be_and_so_is_a_batch_without_any_good_one()
    {
        Fill(6, broken: [0, 1, 2, 3, 4, 5]);
        using var loader = ImageLoader.Create(Table(6), Options(3));
        Assert.StartsWith("None of the 6 images for a batch can be used; the first: ", Assert.Throws<PanoptesException>(() => loader.Next()).Message, StringComparison.Ordinal);
        using var strict = ImageLoader.Create(Table(6, new(strict: true)), Options(3));
        Assert.StartsWith(folder.Path, Assert.Throws<PanoptesException>(() => strict.Next()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_kind_of_image_is_served_and_nothing_is_left_behind()
    {
        folder.Write("gray.png", new Panoptes.Imaging.Image(5, 9, 1, Pictures.Noise(5, 9, 1)).Encode(Panoptes.Imaging.ImageFormat.Png));
        folder.Write("rgb.jpg", new Panoptes.Imaging.Image(30, 20, 3, Pictures.Noise(30, 20, 3)).Encode(Panoptes.Imaging.ImageFormat.Jpeg));
        folder.Write("rgba.webp", new Panoptes.Imaging.Image(16, 16, 4, Pictures.Noise(16, 16, 4)).Encode(Panoptes.Imaging.ImageFormat.Webp));
        folder.Write("broken.png", Pictures.Broken());
        var images = ImageFolder.Open(folder.Path);
        var maker = new BatchMaker(Augmentation.Drawings(32), new(), 1, images.Problems);
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        using (NewDisposeScope())
        {
            using var batch = maker.Make(new BatchWork<int>(0, [0, 1, 2, 3], null), static i => (i, i), (int i, ref SampleRandom _) => DecodedSample.Of(images.Read(i)), default);
            Assert.Equal([3, 3, 32, 32], batch.Images.shape);
            Assert.True(batch.Images.isfinite().all().item<bool>());
            Assert.Equal([1, 2, 3], batch.Samples);                                   // broken.png comes first
        }
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    static ImageLoaderOptions Options(int batch) => new() { BatchSize = batch, Augmentation = Pictures.Plain(), Seed = 3, Loader = new() { Workers = 2 } };

    void Fill(int count, int[]? missing = null, int[]? broken = null)
    {
        for (var i = 0; i < count; i++)
            if (missing?.Contains(i) != true) folder.Write($"{i:d3}.png", broken?.Contains(i) == true ? Pictures.Broken() : Pictures.Png(i));
        folder.Write("t.csv", "path,title,label\n" + string.Concat(Enumerable.Range(0, count).Select(static i => $"{i:d3}.png,picture {i},{i % 3}\n")));
    }

    ImageCollection Table(int count, DataProblems? problems = null)
    {
        var images = ImageTable.Open(folder["t.csv"], problems: problems);
        Assert.Equal(count, images.Count);
        return images;
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
