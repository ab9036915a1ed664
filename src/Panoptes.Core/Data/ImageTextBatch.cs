using Panoptes.Data.Knowledge;

namespace Panoptes.Data;

/// <summary>Images with what belongs to them. Owns its tensor; <see cref="Dispose"/> frees it.</summary>
/// <param name="Images">[batch, 3, size, size], float32, normalized.</param>
/// <param name="Texts">One text an image; empty where the data has none.</param>
/// <param name="Labels">One class an image (a concept of the emoji set); -1 where there is none.</param>
/// <param name="Samples">The images' indices in the data.</param>
public sealed record ImageTextBatch(Tensor Images, IReadOnlyList<string> Texts, IReadOnlyList<int> Labels, IReadOnlyList<int> Samples) : IDisposable
{
    /// <summary>Other views of the same images, differently augmented: [batch, 3, size, size] each; owned as the first.</summary>
    public IReadOnlyList<Tensor> MoreImages { get; init; } = [];

    /// <summary>Other wordings of the same texts, one list a view.</summary>
    public IReadOnlyList<IReadOnlyList<string>> MoreTexts { get; init; } = [];

    /// <summary>What is known about the pictures of a <see cref="SceneLoader"/>, one scene an image; empty for other data.</summary>
    public IReadOnlyList<Scene> Scenes { get; init; } = [];

    /// <summary>Images in the batch.</summary>
    public int Count => Samples.Count;

    /// <summary>The labels as int64 [batch], owned by the caller.</summary>
    public Tensor LabelTensor() => tensor(Labels.Select(static l => (long)l).ToArray());

    public void Dispose()
    {
        Images.Dispose();
        foreach (var view in MoreImages) view.Dispose();
    }
}

/// <summary>What a sample gives beside its image and its text: other views for objectives that compare a sample with itself.</summary>
public sealed record MoreViews
{
    /// <summary>How many other views of the image there are, each drawn anew by <see cref="Augmentation"/>.</summary>
    public int Images { get; init; }

    /// <summary>How other views are augmented; null: as the first.</summary>
    public Augmentation? Augmentation { get; init; }

    /// <summary>How many other wordings of the text there are (<see cref="TextAugmentation"/>).</summary>
    public int Texts { get; init; }

    /// <summary>How they come about.</summary>
    public TextAugmentation TextAugmentation { get; init; } = new();
}

/// <summary>How the emoji set is served.</summary>
public sealed record EmojiLoaderOptions
{
    public int BatchSize { get; init; } = 256;

    /// <summary>Of the order, the captions and the augmentations.</summary>
    public ulong Seed { get; init; }

    public Augmentation Augmentation { get; init; } = Augmentation.Drawings(64);

    public EmojiCaptions Captions { get; init; } = new();

    /// <summary>What is known of the concepts, appended to English captions at times (K-LITE); null: nothing.</summary>
    public KnowledgeTable? Knowledge { get; init; }

    public MoreViews Views { get; init; } = new();

    public EmojiAnnotations Annotations { get; init; } = new();

    /// <summary>Whether a batch has a concept once at most.</summary>
    public bool DistinctConcepts { get; init; } = true;

    /// <summary>Which part of each batch this process gets.</summary>
    public Shard Shard { get; init; } = Shard.Whole;

    public LoaderOptions Loader { get; init; } = new();
}

/// <summary>What an emoji's label is.</summary>
public enum EmojiLabel
{
    Concept,
    Subgroup,
    Group,
}

/// <summary>What an image of mixed data has.</summary>
public enum AnnotationKind
{
    /// <summary>A label alone.</summary>
    Labeled,

    /// <summary>A caption alone.</summary>
    Captioned,
}

/// <summary>How the images of a training set are annotated; by default each has a caption, and its concept as label.</summary>
public sealed record EmojiAnnotations
{
    public EmojiLabel Label { get; init; } = EmojiLabel.Concept;

    /// <summary>
    /// The share of the images that have a label alone, whose text is the label's name; all others have a caption alone and the label -1, as in
    /// UniCL's mixed data. Null: every image has both.
    /// </summary>
    public double? LabeledShare { get; init; }

    /// <summary>With <see cref="LabeledShare"/>: the images of one kind alone are served, which mixed data are compared with; null: all.</summary>
    public AnnotationKind? Only { get; init; }

    /// <summary>Whether an image has a label alone; the same in every epoch.</summary>
    internal bool IsLabeled(ulong seed, int image) => LabeledShare is not { } share || new SampleRandom(seed, -1, image).Chance((float)share);

    /// <summary>The share of the images whose label is another one than theirs, the same one every time; captions stay right.</summary>
    public double Noise { get; init; }

    /// <summary>What the labels are called, by index.</summary>
    public IReadOnlyList<string> Names(EmojiSet set) => Label switch
    {
        EmojiLabel.Concept => [.. set.Concepts.Select(static c => c.Name)],
        EmojiLabel.Subgroup => [.. set.Concepts.Select(static c => c.Subgroup).Distinct().Order(StringComparer.Ordinal)],
        _ => [.. set.Concepts.Select(static c => c.Group).Distinct().Order(StringComparer.Ordinal)],
    };

    /// <summary>For every concept of the set its label.</summary>
    public int[] LabelsOf(EmojiSet set)
    {
        if (Label == EmojiLabel.Concept) return [.. Enumerable.Range(0, set.Concepts.Count)];
        var index = Names(set).Select(static (name, i) => (name, i)).ToDictionary(static p => p.name, static p => p.i, StringComparer.Ordinal);
        return [.. set.Concepts.Select(c => index[Label == EmojiLabel.Subgroup ? c.Subgroup : c.Group])];
    }

    /// <exception cref="PanoptesException">A share is none.</exception>
    internal void Validate()
    {
        if (LabeledShare is not (null or (>= 0 and <= 1))) throw new PanoptesException($"labeled_share is {LabeledShare}; expected 0 to 1.");
        if (Only is not null && LabeledShare is null) throw new PanoptesException("only names one of two kinds of images, which there are with labeled_share.");
        if (Noise is not (>= 0 and <= 1)) throw new PanoptesException($"The labels' noise is {Noise}; expected 0 to 1.");
    }
}

/// <summary>What an emoji is called in training: its name in a template, at times its tags or another language.</summary>
public sealed record EmojiCaptions
{
    /// <summary>Texts around a name, <c>{}</c> being the name; one is drawn a sample.</summary>
    public IReadOnlyList<string> Templates { get; init; } = ["{}", "an emoji of {}", "a drawing of {}", "a picture of {}", "an icon of {}", "{} emoji"];

    /// <summary>Languages to draw from; English templates are used with English alone.</summary>
    public IReadOnlyList<string> Languages { get; init; } = ["en"];

    /// <summary>The share of samples whose caption goes on with up to three of the concept's tags.</summary>
    public float TagProbability { get; init; } = 0.2f;

    /// <summary>A name in a template.</summary>
    public string Draw(string name, ref SampleRandom random) => Templates[random.Next(Templates.Count)].Replace("{}", name, StringComparison.Ordinal);

    /// <summary>The caption of a concept, with knowledge appended at times where it is given and the caption is English.</summary>
    /// <exception cref="PanoptesException">The set has no names in a language that was asked for.</exception>
    public string Draw(EmojiConcept concept, ref SampleRandom random, KnowledgeTable? knowledge = null)
    {
        var language = Languages[Languages.Count > 1 ? random.Next(Languages.Count) : 0];
        if (!concept.Names.TryGetValue(language, out var name))
            throw new PanoptesException($"The emoji set has no names in the language '{language}', but in {string.Join(", ", concept.Names.Keys)}.");
        var text = language == "en" ? Draw(name, ref random) : name;
        if (random.Chance(TagProbability) && concept.Tags.TryGetValue(language, out var tags) && tags.Count > 0)
        {
            var chosen = tags.ToArray();
            random.Shuffle(chosen.AsSpan());
            text += ", " + string.Join(", ", chosen.AsSpan(0, Math.Min(chosen.Length, 1 + random.Next(3))).ToArray());
        }
        return knowledge is not null && language == "en" ? knowledge.Append(text, concept.Name, ref random) : text;
    }
}

/// <summary>Batches of the emoji set.</summary>
public static class EmojiLoader
{
    /// <summary>An endless, resumable stream of augmented batches with drawn captions, for training.</summary>
    /// <param name="set">The set.</param>
    /// <param name="images">Which of its images, such as <c>set.Select(EmojiSplit.Train)</c>.</param>
    /// <param name="options">Batch size, augmentation, captions.</param>
    /// <exception cref="PanoptesException">An option is out of range, or there are too few images.</exception>
    public static PrefetchLoader<ImageTextBatch> Create(EmojiSet set, IReadOnlyList<int> images, EmojiLoaderOptions options)
    {
        options.Annotations.Validate();
        var (a, names) = (options.Annotations, options.Annotations.Names(set));
        var labels = a.LabelsOf(set);
        if (a.Noise > 0 && names.Count < 2) throw new PanoptesException("Labels cannot be wrong where there is one only.");
        if (a.Only is { } kind) images = [.. images.Where(i => a.IsLabeled(options.Seed, i) == (kind == AnnotationKind.Labeled))];
        BatchSampler sampler = options.DistinctConcepts
            ? new DistinctBatchSampler(images, i => set.Images[i].Concept, options.BatchSize, options.Seed, options.Shard)
            : new SequentialSampler(images, options.BatchSize, shuffle: true, options.Seed, shard: options.Shard);
        var maker = new BatchMaker(options.Augmentation, options.Views, options.Seed, new(strict: true));
        return PrefetchLoader.Create<BatchPlan, ImageTextBatch>(sampler, (plan, cancel) => maker.Make(new BatchWork<int>(plan.Epoch, plan.Samples, null), static i => (i, i), Read, cancel), options.Loader);

        DecodedSample Read(int image, ref SampleRandom random)
        {
            var concept = set.Concepts[set.Images[image].Concept];
            // Drawn from a stream of the image alone: an image is annotated in the same way in every epoch.
            var annotation = new SampleRandom(options.Seed, -1, image);
            var isLabeled = a.LabeledShare is not { } share || annotation.Chance((float)share);
            var label = isLabeled ? labels[concept.Index] : -1;
            if (isLabeled && a.Noise > 0 && annotation.Chance((float)a.Noise)) label = (label + 1 + annotation.Next(names.Count - 1)) % names.Count;
            var caption = a.LabeledShare is not null && isLabeled ? options.Captions.Draw(names[label], ref random) : options.Captions.Draw(concept, ref random, options.Knowledge);
            return new(set.Pixels(image), set.Size, set.Size, 4, caption, label);
        }
    }
}

/// <summary>Direct access to a tensor's memory.</summary>
static class TensorMemory
{
    /// <summary>The values of a contiguous float32 tensor on the CPU; valid while the tensor lives.</summary>
    internal static Span<float> Floats(Tensor tensor) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(tensor.bytes);
}
