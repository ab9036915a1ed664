namespace Panoptes.Data;

/// <summary>How scenes are served.</summary>
public sealed record SceneLoaderOptions
{
    public int BatchSize { get; init; } = 64;

    /// <summary>Scenes of an epoch.</summary>
    public int Count { get; init; } = 10_000;

    /// <summary>Whether every epoch has the same scenes in another order; by default each has new ones.</summary>
    public bool Repeat { get; init; }

    /// <summary>Of the order and the augmentation; the scenes follow from the generator's.</summary>
    public ulong Seed { get; init; }

    /// <summary>What is done to the pictures; null: they are normalized as CLIP's, and nothing else. Crops, turns and moves make boxes and masks wrong.</summary>
    public Augmentation? Augmentation { get; init; }

    public MoreViews Views { get; init; } = new();

    /// <summary>
    /// Where given, a sample's text is one of the questions about its scene that are answered out of this list, and its label the answer's position; a scene without
    /// such a question has an empty text and the label -1. Null: texts are captions.
    /// </summary>
    public IReadOnlyList<string>? Answers { get; init; }

    /// <summary>Which part of each batch this process gets.</summary>
    public Shard Shard { get; init; } = Shard.Whole;

    public LoaderOptions Loader { get; init; } = new();
}

/// <summary>Batches of scenes.</summary>
public static class SceneLoader
{
    /// <summary>
    /// An endless, resumable stream of batches, made as they are needed: pictures with their captions, and <see cref="ImageTextBatch.Scenes"/>. In epoch e
    /// sample i is scene e * count + i (scene i where epochs repeat).
    /// </summary>
    /// <param name="generator">Makes the scenes.</param>
    /// <param name="options">Batch size, number, normalization.</param>
    /// <exception cref="PanoptesException">An option is out of range, or an epoch has fewer scenes than a batch.</exception>
    public static PrefetchLoader<ImageTextBatch> Create(SceneGenerator generator, SceneLoaderOptions options)
    {
        if (options.Count < 1) throw new PanoptesException($"Epochs of {options.Count} scenes were asked for, but at least 1 was expected.");
        var sampler = new SequentialSampler(Enumerable.Range(0, options.Count), options.BatchSize, shuffle: true, options.Seed, shard: options.Shard);
        var size = generator.Options.Size;
        var maker = new BatchMaker(options.Augmentation ?? Augmentation.None(size), options.Views, options.Seed, new(strict: true));
        var answers = options.Answers?.Select(static (answer, i) => (answer, i)).ToDictionary(static a => a.answer, static a => a.i, StringComparer.Ordinal);
        return PrefetchLoader.Create<BatchPlan, ImageTextBatch>(sampler, Make, options.Loader);

        ImageTextBatch Make(BatchPlan plan, CancellationToken cancel)
        {
            var scenes = new List<Scene>(plan.Samples.Length);
            var batch = maker.Make(new BatchWork<int>(plan.Epoch, plan.Samples, null), static i => (i, i), Read, cancel);
            return batch with { Scenes = scenes };

            DecodedSample Read(int sample, ref SampleRandom random)
            {
                var scene = generator.Generate(options.Repeat ? sample : ((long)plan.Epoch * options.Count) + sample);
                scenes.Add(scene);
                if (answers is null) return new(scene.Image.Pixels, size, size, 3, scene.Caption, -1);
                var asked = scene.Questions.Where(q => answers.ContainsKey(q.Answer)).ToArray();
                if (asked.Length == 0) return new(scene.Image.Pixels, size, size, 3, "", -1);
                var question = asked[random.Next(asked.Length)];
                return new(scene.Image.Pixels, size, size, 3, question.Text, answers[question.Answer]);
            }
        }
    }
}
