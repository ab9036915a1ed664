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

    /// <summary>Which part of each batch this process gets.</summary>
    public Shard Shard { get; init; } = Shard.Whole;

    public LoaderOptions Loader { get; init; } = new();
}

/// <summary>Batches of images from files.</summary>
public static class ImageLoader
{
    /// <summary>An endless, resumable stream of augmented batches; the same whatever the number of workers.</summary>
    /// <param name="images">The images. What cannot be used is counted in its <see cref="ImageCollection.Problems"/>.</param>
    /// <param name="options">Batch size, augmentation, order.</param>
    /// <param name="subset">Which of the images; all by default.</param>
    /// <exception cref="PanoptesException">An option is out of range, or there are too few images.</exception>
    public static PrefetchLoader<ImageTextBatch> Create(ImageCollection images, ImageLoaderOptions options, IEnumerable<int>? subset = null) =>
        Create(images, new SequentialSampler(subset ?? Enumerable.Range(0, images.Count), options.BatchSize, options.Training, options.Seed, keepLast: !options.Training, options.Shard), options);

    /// <summary>The same with a sampler of one's own, such as <see cref="DistinctBatchSampler"/> by label; it decides the batch size, the order and the shard.</summary>
    /// <inheritdoc cref="Create(ImageCollection, ImageLoaderOptions, IEnumerable{int})"/>
    public static PrefetchLoader<ImageTextBatch> Create(ImageCollection images, BatchSampler sampler, ImageLoaderOptions options)
    {
        var maker = new BatchMaker(new(options.Augmentation), options.Seed, images.Problems);
        return PrefetchLoader.Create<BatchWork<int>, ImageTextBatch>(new Plans(sampler, options.Training), (work, cancel) =>
            maker.Make(work, static i => (i, i), (int i, ref SampleRandom _) => DecodedSample.Of(images.Read(i)), cancel), options.Loader);
    }

    /// <summary>A sampler's plans, each with the next one's samples to draw on in training.</summary>
    sealed class Plans(BatchSampler sampler, bool training) : IBatchSource<BatchWork<int>>
    {
        public IEnumerable<BatchWork<int>> Enumerate(int epoch, long position, CancellationToken cancel)
        {
            BatchPlan? held = null;
            foreach (var plan in sampler.Enumerate(epoch, position, cancel))
            {
                if (held is not null) yield return new(epoch, held.Samples, training ? plan.Samples : null);
                held = plan;
            }
            if (held is not null) yield return new(epoch, held.Samples, training ? [] : null);
        }
    }
}
