using Panoptes.Data.Knowledge;

namespace Panoptes.Data;

/// <summary>How images are served.</summary>
public sealed record ImageLoaderOptions
{
    /// <summary>Images a batch and process.</summary>
    public int BatchSize { get; init; } = 256;

    /// <summary>
    /// Training: shuffled, every batch full; in the place of an image that cannot be read comes one of the next batch (at an epoch's end,
    /// of the same batch). Otherwise: in order, every image once, unreadable ones left out, so that batches may be shorter.
    /// </summary>
    public bool Training { get; init; } = true;

    /// <summary>Of the order and the augmentations.</summary>
    public ulong Seed { get; init; }

    public Augmentation Augmentation { get; init; } = Augmentation.None(224);

    public MoreViews Views { get; init; } = new();

    /// <summary>What is known of the things that captions name, appended at times (<see cref="KnowledgeTable.AppendToCaption"/>); null: nothing.</summary>
    public KnowledgeTable? Knowledge { get; init; }

    /// <summary>Which part of each batch this process gets.</summary>
    public Shard Shard { get; init; } = Shard.Whole;

    /// <summary>How many samples of shards are held to be handed out at random; places in files, about 300 bytes each, not images.</summary>
    public int ShuffleBuffer { get; init; } = 10_000;

    public LoaderOptions Loader { get; init; } = new();
}

/// <summary>Batches of images from files.</summary>
public static class ImageLoader
{
    /// <summary>A loader of whatever <see cref="ImageData.Open"/> gives.</summary>
    /// <exception cref="PanoptesException">An option is out of range, or there are too few images.</exception>
    public static PrefetchLoader<ImageTextBatch> Create(ImageData data, ImageLoaderOptions options) => data is WebDataset shards ? Create(shards, options) : Create((ImageCollection)data, options);

    /// <summary>An endless, resumable stream of augmented batches; the same whatever the number of workers.</summary>
    /// <param name="images">The images. What cannot be used is counted in its <see cref="ImageData.Problems"/>.</param>
    /// <param name="options">Batch size, augmentation, order.</param>
    /// <param name="subset">Which of the images; all by default.</param>
    /// <exception cref="PanoptesException">An option is out of range, or there are too few images.</exception>
    public static PrefetchLoader<ImageTextBatch> Create(ImageCollection images, ImageLoaderOptions options, IEnumerable<int>? subset = null) =>
        Create(images, new SequentialSampler(subset ?? Enumerable.Range(0, images.Count), options.BatchSize, options.Training, options.Seed, keepLast: !options.Training, options.Shard), options);

    /// <summary>The same with a sampler of one's own, such as <see cref="DistinctBatchSampler"/> by label; it decides the batch size, the order and the shard.</summary>
    /// <inheritdoc cref="Create(ImageCollection, ImageLoaderOptions, IEnumerable{int})"/>
    public static PrefetchLoader<ImageTextBatch> Create(ImageCollection images, BatchSampler sampler, ImageLoaderOptions options)
    {
        var maker = new BatchMaker(options.Augmentation, options.Views, options.Seed, images.Problems);
        return PrefetchLoader.Create<BatchWork<int>, ImageTextBatch>(new Plans(sampler, options.Training), (work, cancel) =>
            maker.Make(work, static i => (i, i), (int i, ref SampleRandom random) => DecodedSample.Of(WithKnowledge(images.Read(i), options, ref random)), cancel), options.Loader);
    }

    /// <summary>The same of gray images in memory, whose texts are the names of their classes.</summary>
    /// <inheritdoc cref="Create(ImageCollection, ImageLoaderOptions, IEnumerable{int})"/>
    public static PrefetchLoader<ImageTextBatch> Create(LabeledImages images, IReadOnlyList<string> classes, ImageLoaderOptions options, IEnumerable<int>? subset = null)
    {
        var maker = new BatchMaker(options.Augmentation, options.Views, options.Seed, new(strict: true));
        var sampler = new SequentialSampler(subset ?? Enumerable.Range(0, images.Count), options.BatchSize, options.Training, options.Seed, keepLast: !options.Training, options.Shard);
        return PrefetchLoader.Create<BatchWork<int>, ImageTextBatch>(new Plans(sampler, options.Training), (work, cancel) => maker.Make(work, static i => (i, i), Read, cancel), options.Loader);

        DecodedSample Read(int index, ref SampleRandom random)
        {
            var image = images[index].ToRgb();
            return new(image.Pixels, image.Width, image.Height, image.Channels, classes[images.Labels[index]], images.Labels[index]);
        }
    }

    /// <summary>The same over shards: their order is shuffled, and then the samples in a buffer (<see cref="ImageLoaderOptions.ShuffleBuffer"/>).</summary>
    /// <remarks>
    /// Processes share every batch, so that all have the same number of them whatever the shards hold; each goes through all headers, but
    /// reads its own samples only. Workers of one process take batches from one stream, so that there is nothing to share out.
    /// </remarks>
    /// <param name="shards">The shards. What cannot be used is counted in its <see cref="ImageData.Problems"/>.</param>
    /// <param name="options">Batch size, augmentation, order.</param>
    /// <exception cref="PanoptesException">An option is out of range.</exception>
    public static PrefetchLoader<ImageTextBatch> Create(WebDataset shards, ImageLoaderOptions options)
    {
        options.Shard.Validate();
        if (options.BatchSize is < 1 or > 1 << 24) throw new PanoptesException($"Batches of {options.BatchSize} samples were asked for, but 1 to {1 << 24} are possible.");
        if (options.ShuffleBuffer is < 1 or > 1 << 24) throw new PanoptesException($"A shuffle buffer of {options.ShuffleBuffer} samples was asked for, but 1 to {1 << 24} are possible.");
        var maker = new BatchMaker(options.Augmentation, options.Views, options.Seed, shards.Problems);
        return PrefetchLoader.Create<BatchWork<(int Index, ShardSample Sample)>, ImageTextBatch>(new Stream(shards, options), (work, cancel) =>
            maker.Make(work, static s => (s.Index, s.Sample.Number), ((int Index, ShardSample Sample) s, ref SampleRandom random) => DecodedSample.Of(WithKnowledge(shards.Read(s.Sample), options, ref random)), cancel), options.Loader);
    }

    static ImageSample WithKnowledge(ImageSample sample, ImageLoaderOptions options, ref SampleRandom random) =>
        options.Knowledge is { } knowledge ? sample with { Text = knowledge.AppendToCaption(sample.Text, ref random) } : sample;

    sealed class Plans(BatchSampler sampler, bool training) : IBatchSource<BatchWork<int>>
    {
        public IEnumerable<BatchWork<int>> Enumerate(int epoch, long position, CancellationToken cancel) =>
            BatchWork.Of(epoch, sampler.Enumerate(epoch, position, cancel).Select(static p => (p.Samples, true)), training);
    }

    /// <summary>The samples of shards, numbered as they come in this epoch.</summary>
    sealed class Stream(WebDataset shards, ImageLoaderOptions options) : IBatchSource<BatchWork<(int Index, ShardSample Sample)>>
    {
        public IEnumerable<BatchWork<(int Index, ShardSample Sample)>> Enumerate(int epoch, long position, CancellationToken cancel) =>
            BatchWork.Of(epoch, Batches(epoch, position, cancel), options.Training);

        IEnumerable<((int Index, ShardSample Sample)[] Samples, bool Full)> Batches(int epoch, long position, CancellationToken cancel)
        {
            var (rank, count) = (options.Shard.Rank, options.Shard.Count);
            var all = (long)options.BatchSize * count;
            var (batch, index, at) = (new List<(int, ShardSample)>(), 0L, 0L);
            foreach (var sample in Ordered(epoch))
            {
                cancel.ThrowIfCancellationRequested();
                batch.Add(((int)Math.Min(index++, int.MaxValue), sample));
                if (batch.Count < all) continue;
                if (at++ >= position) yield return (Part(), true);
                batch.Clear();
            }
            if (batch.Count > 0 && at >= position) yield return (Part(), false);

            (int, ShardSample)[] Part() => [.. batch[(int)((long)batch.Count * rank / count)..(int)((long)batch.Count * (rank + 1) / count)]];
        }

        IEnumerable<ShardSample> Ordered(int epoch)
        {
            if (!options.Training) return shards.List();
            var random = new SampleRandom(options.Seed, epoch, -1);
            int[] order = [.. Enumerable.Range(0, shards.Shards.Count)];
            random.Shuffle(order.AsSpan());
            return Shuffled(order.SelectMany(shards.List), random);
        }

        /// <summary>Keeps a buffer full and hands out one of it at random.</summary>
        IEnumerable<ShardSample> Shuffled(IEnumerable<ShardSample> samples, SampleRandom random)
        {
            var buffer = new List<ShardSample>();
            foreach (var sample in samples)
            {
                if (buffer.Count < options.ShuffleBuffer)
                {
                    buffer.Add(sample);
                    continue;
                }
                var i = random.Next(buffer.Count);
                yield return buffer[i];
                buffer[i] = sample;
            }
            random.Shuffle(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(buffer));
            foreach (var sample in buffer) yield return sample;
        }
    }
}
