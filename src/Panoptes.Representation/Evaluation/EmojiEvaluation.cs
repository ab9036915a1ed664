using Panoptes.Data;
using Panoptes.Data.Knowledge;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;

namespace Panoptes.Representation.Evaluation;

/// <summary>How a model is tested on the emoji.</summary>
public sealed record EmojiEvaluationOptions
{
    /// <summary>Sentences around a concept's English name; its embedding is their mean. By default those that captions are drawn from in training.</summary>
    public IReadOnlyList<string> Templates { get; init; } = new EmojiCaptions().Templates;

    /// <summary>What is known of the concepts, held-out ones too, appended to every text (K-LITE); null: nothing.</summary>
    public KnowledgeTable? Knowledge { get; init; }

    /// <summary>Images or texts that go through the model at once.</summary>
    public int BatchSize { get; init; } = 64;

    /// <summary>Where the model is; null: the CPU.</summary>
    public Device? Device { get; init; }
}

/// <summary>Zero-shot accuracy on the style that no model is trained on, over all concepts.</summary>
public sealed record EmojiZeroShot
{
    public required int Images { get; init; }

    /// <summary>Names among which the right one is sought.</summary>
    public required int Candidates { get; init; }

    public required double Top1 { get; init; }

    public required double Top5 { get; init; }

    /// <summary>Top-1 on the images of concepts that models are trained on in other styles.</summary>
    public required double TrainConceptsTop1 { get; init; }

    /// <summary>Top-1 on the images of concepts that no model is trained on.</summary>
    public required double HeldOutConceptsTop1 { get; init; }
}

/// <summary>One zero-shot task beside its baselines.</summary>
public sealed record EmojiTask
{
    /// <summary>Such as <c>held_out_style</c>.</summary>
    public required string Name { get; init; }

    /// <summary>The same in words.</summary>
    public required string Description { get; init; }

    public required int Images { get; init; }

    /// <summary>Names among which the right one is sought.</summary>
    public required int Candidates { get; init; }

    public required Measured Top1 { get; init; }

    public required Measured Top5 { get; init; }
}

/// <summary>Retrieval in the held-out style: the model's, what chance gives, and the color histogram's.</summary>
public sealed record EmojiRetrieval(RetrievalReport Model, RetrievalReport Chance, RetrievalReport ColorHistogram);

/// <summary>What <see cref="EmojiEvaluation.Run(Clip, EmojiSet, EmojiEvaluationOptions?, IProgress{EvaluationProgress}?, CancellationToken)"/> measures.</summary>
public sealed record EmojiReport
{
    /// <summary>The sentences around the names.</summary>
    public required IReadOnlyList<string> Templates { get; init; }

    /// <summary>The held-out style over all concepts, then the held-out concepts in train styles and in the held-out style, among themselves and among all.</summary>
    public required IReadOnlyList<EmojiTask> Tasks { get; init; }

    /// <summary>The held-out style over all concepts, group by group of CLDR's nine: where the model is strong and where weak.</summary>
    public required IReadOnlyList<EmojiTask> ByGroup { get; init; }

    /// <summary>Between the images of the held-out style and the names of all concepts.</summary>
    public required EmojiRetrieval Retrieval { get; init; }

    /// <summary>The zero-shot predictions in the held-out style by CLDR's nine groups: how often a concept of the right group was predicted, and which were confused.</summary>
    public required ClassificationReport Groups { get; init; }

    /// <summary>Every name that is the name of several concepts. A prediction of such a name counts as right for each of them.</summary>
    public required IReadOnlyList<string> SharedNames { get; init; }
}

/// <summary>
/// The honest tests that the emoji set is made for: a style never trained on, and concepts never trained on. An image's class is its
/// concept's English name; concepts with exactly the same name are one class.
/// </summary>
/// <remarks>
/// The baseline is the nearest neighbor by <see cref="ColorHistogram"/> among all images of the train styles, the image itself
/// left out: it answers with that image's concept. Unlike the model it has seen the held-out concepts in those styles, and an image of a train
/// style finds near copies by the same artists among them: a generous baseline.
/// </remarks>
public static class EmojiEvaluation
{
    /// <summary>Runs every test on a loaded model.</summary>
    /// <exception cref="PanoptesException">The model does not fit, or a name is too long for it.</exception>
    public static EmojiReport Run(Clip clip, EmojiSet set, EmojiEvaluationOptions? options = null, IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default) =>
        Run(clip.Encoder, set, options ?? new(), progress, cancel);

    /// <summary>Runs every test on a model in memory, which is in evaluation mode meanwhile and as it was afterwards.</summary>
    /// <inheritdoc cref="Run(Clip, EmojiSet, EmojiEvaluationOptions?, IProgress{EvaluationProgress}?, CancellationToken)"/>
    public static EmojiReport Run(DualEncoder model, ImageProcessor processor, Tokenizer tokenizer, EmojiSet set, EmojiEvaluationOptions? options = null,
        IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        options ??= new();
        return Evaluating(model, () => Run(new BatchEncoder(Towers.Of(model), processor, tokenizer, options.BatchSize, options.Device), set, options, progress, cancel));
    }

    /// <summary>
    /// Only the zero-shot accuracy in the held-out style, for validation while a model is trained: some 1,900 images and as many texts a template.
    /// The model is in evaluation mode meanwhile and as it was afterwards.
    /// </summary>
    /// <inheritdoc cref="Run(Clip, EmojiSet, EmojiEvaluationOptions?, IProgress{EvaluationProgress}?, CancellationToken)"/>
    public static EmojiZeroShot ZeroShot(DualEncoder model, ImageProcessor processor, Tokenizer tokenizer, EmojiSet set, EmojiEvaluationOptions? options = null,
        IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        options ??= new();
        return Evaluating(model, () =>
        {
            using var scope = NewDisposeScope();
            var names = new EmojiNames(set);
            var images = HeldOutStyle(set);
            var encoder = new BatchEncoder(Towers.Of(model), processor, tokenizer, options.BatchSize, options.Device);
            var parts = new PartialProgress(progress, images.Length + (names.Names.Count * options.Templates.Count));
            var embedded = encoder.Images(images.Length, i => ImageSource.Picture(set, images[i]), parts.Part(images.Length), cancel);
            var texts = encoder.Labels(names.Names, options.Templates, options.Knowledge, parts.Part(names.Names.Count * options.Templates.Count), cancel);
            var ranking = Ranking.OfVectors(embedded, texts, names.ClassesOf(images), names.All, cancel);
            var heldOut = images.Select(i => set.Concepts[set.Images[i].Concept].HeldOut).ToArray();
            return new EmojiZeroShot
            {
                Images = images.Length,
                Candidates = names.Names.Count,
                Top1 = ranking.TopK(1),
                Top5 = ranking.TopK(5),
                TrainConceptsTop1 = First(false),
                HeldOutConceptsTop1 = First(true),
            };

            double First(bool which)
            {
                var (right, all) = (0, 0);
                for (var i = 0; i < heldOut.Length; i++)
                {
                    if (heldOut[i] != which) continue;
                    all++;
                    if (ranking.Ranks[i] == 0) right++;
                }
                return all == 0 ? 0 : (double)right / all;
            }
        });
    }

    static EmojiReport Run(BatchEncoder encoder, EmojiSet set, EmojiEvaluationOptions options, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        var names = new EmojiNames(set);
        var (style, concepts) = (HeldOutStyle(set), set.Select(EmojiSplit.HeldOutConcepts));
        int[] images = [.. style, .. concepts];
        var parts = new PartialProgress(progress, images.Length + (names.Names.Count * options.Templates.Count));
        var embedded = encoder.Images(images.Length, i => ImageSource.Picture(set, images[i]), parts.Part(images.Length), cancel);
        var texts = encoder.Labels(names.Names, options.Templates, options.Knowledge, parts.Part(names.Names.Count * options.Templates.Count), cancel);
        using var noGrad = no_grad();
        var scores = embedded.matmul(texts.t());                                        // [images, names]
        var baseline = HistogramScores(set, images, names, cancel);

        int[] styleRows = [.. Enumerable.Range(0, style.Length)];
        int[] conceptRows = [.. Enumerable.Range(style.Length, concepts.Length)];
        int[] bothRows = [.. styleRows.Where(r => set.Concepts[set.Images[images[r]].Concept].HeldOut)];
        var heldOut = set.Concepts.Where(static c => c.HeldOut).Select(c => names.ClassOf[c.Index]).Distinct().Order().ToArray();
        var groups = set.Concepts.Select(static c => c.Group).Distinct().ToArray();
        var styleRanking = Rank(scores, styleRows, names.All);
        var styleLabels = names.ClassesOf(style);
        return new()
        {
            Templates = options.Templates,
            Tasks =
            [
                Task("held_out_style", "the held-out style, among all concepts", styleRows, names.All),
                Task("held_out_concepts_among_themselves", "held-out concepts in train styles, among themselves", conceptRows, heldOut),
                Task("held_out_concepts_among_all", "held-out concepts in train styles, among all concepts", conceptRows, names.All),
                Task("held_out_concepts_and_style_among_themselves", "held-out concepts in the held-out style, among themselves", bothRows, heldOut),
                Task("held_out_concepts_and_style_among_all", "held-out concepts in the held-out style, among all concepts", bothRows, names.All),
            ],
            ByGroup = [.. groups.Select(g => (Group: g, Rows: styleRows.Where(r => set.Concepts[set.Images[images[r]].Concept].Group == g).ToArray()))
                .Where(static g => g.Rows.Length > 0).Select(g => Task(g.Group, g.Group, g.Rows, names.All))],
            Retrieval = new(Retrieve(scores), RetrieveByChance(), Retrieve(baseline)),
            Groups = GroupReport(),
            SharedNames = names.Shared,
        };

        Ranking Rank(Tensor of, int[] rows, int[] candidates)
        {
            using var inner = NewDisposeScope();
            var part = of.index_select(0, tensor(rows.Select(static r => (long)r).ToArray())).index_select(1, tensor(candidates.Select(static c => (long)c).ToArray()));
            return Ranking.OfScores(part, names.ClassesOf([.. rows.Select(r => images[r])]), candidates, cancel);
        }

        EmojiTask Task(string name, string description, int[] rows, int[] candidates)
        {
            var (model, histogram) = (Rank(scores, rows, candidates), Rank(baseline, rows, candidates));
            return new()
            {
                Name = name,
                Description = description,
                Images = rows.Length,
                Candidates = candidates.Length,
                Top1 = new(model.TopK(1), model.ChanceOfTopK(1), histogram.TopK(1)),
                Top5 = new(model.TopK(5), model.ChanceOfTopK(5), histogram.TopK(5)),
            };
        }

        RetrievalReport Retrieve(Tensor of) => Retrieval.Score(of.narrow(0, 0, style.Length), styleLabels, names.All, cancel);

        RetrievalReport RetrieveByChance() => new(RetrievalScores.Chance(styleRanking),
            RetrievalScores.Chance(Ranking.OfScores(scores.narrow(0, 0, style.Length).t(), names.All, styleLabels, cancel)));

        ClassificationReport GroupReport()
        {
            var groupOfName = new int[names.Names.Count];
            foreach (var concept in set.Concepts) groupOfName[names.ClassOf[concept.Index]] = Array.IndexOf(groups, concept.Group);
            // The score of a group is that of its best concept, so that the predicted group is that of the predicted concept.
            var best = stack(Enumerable.Range(0, groups.Length).Select(g => scores.narrow(0, 0, style.Length)
                .index_select(1, tensor(Enumerable.Range(0, groupOfName.Length).Where(n => groupOfName[n] == g).Select(static n => (long)n).ToArray())).amax([1L])), 1);
            return Classification.OfScores(best, [.. style.Select(i => Array.IndexOf(groups, set.Concepts[set.Images[i].Concept].Group))], groups, cancel);
        }
    }

    /// <summary>For every image and name the nearness of the nearest train-style image of that name, [images, names]; -1 where there is none.</summary>
    static Tensor HistogramScores(EmojiSet set, int[] images, EmojiNames names, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        var references = set.Select(i => !set.Styles[i.Style].HeldOut);
        var referenceClasses = names.ClassesOf(references);
        var (queries, gallery) = (Histograms(set, images, cancel), Histograms(set, references, cancel).t());
        var scores = new float[images.Length * names.Names.Count];
        Array.Fill(scores, -1);
        const int Chunk = 256;
        for (var start = 0; start < images.Length; start += Chunk)
        {
            cancel.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            var near = queries.narrow(0, start, Math.Min(Chunk, images.Length - start)).matmul(gallery).data<float>().ToArray();
            var first = start;
            Parallel.For(0, near.Length / references.Length, row =>
            {
                var from = near.AsSpan(row * references.Length, references.Length);
                var to = scores.AsSpan((first + row) * names.Names.Count, names.Names.Count);
                for (var r = 0; r < from.Length; r++)
                    if (references[r] != images[first + row] && from[r] > to[referenceClasses[r]]) to[referenceClasses[r]] = from[r];
            });
        }
        return tensor(scores, [images.Length, names.Names.Count]).MoveToOuterDisposeScope();
    }

    static Tensor Histograms(EmojiSet set, int[] images, CancellationToken cancel)
    {
        var values = new float[images.Length * ColorHistogram.Length];
        Parallel.For(0, images.Length, new ParallelOptions { CancellationToken = cancel },
            i => ColorHistogram.Write(set.Pixels(images[i]), 4, values.AsSpan(i * ColorHistogram.Length, ColorHistogram.Length)));
        return tensor(values, [images.Length, ColorHistogram.Length]);
    }

    internal static int[] HeldOutStyle(EmojiSet set) => set.Select(i => set.Styles[i.Style].HeldOut);

    /// <summary>
    /// k-NN on the features of any image tower: the subgroup of each image of the held-out style by the nearest ones of the other styles, for
    /// validation while a model is trained. The model is in evaluation mode meanwhile and as it was afterwards.
    /// </summary>
    /// <returns>The share of the images whose subgroup (one of about a hundred) is found.</returns>
    public static double Neighbors(Module model, ImageProcessor processor, EmojiSet set, NearestNeighborOptions? neighbors = null, EmojiEvaluationOptions? options = null,
        IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        options ??= new();
        var (test, train) = ImageSource.OfEmojiStyles(set, EmojiLabel.Subgroup);
        return ImageEvaluation.Neighbors(model, processor, test, train, options.BatchSize, neighbors, options.Device, progress, cancel);
    }

    /// <summary>Runs with a model in evaluation mode, and leaves it as it was.</summary>
    internal static T Evaluating<T>(Module model, Func<T> run)
    {
        var training = model.Training;
        if (training) model.Train(false);
        try
        {
            return run();
        }
        finally
        {
            if (training) model.Train();
        }
    }

    /// <summary>The distinct English names: the classes of every task here.</summary>
    sealed class EmojiNames
    {
        readonly EmojiSet set;

        public EmojiNames(EmojiSet set)
        {
            this.set = set;
            var names = new List<string>();
            var classes = new Dictionary<string, int>(StringComparer.Ordinal);
            var shared = new SortedSet<string>(StringComparer.Ordinal);
            ClassOf = new int[set.Concepts.Count];
            foreach (var concept in set.Concepts)
            {
                if (classes.TryAdd(concept.Name, names.Count)) names.Add(concept.Name);
                else shared.Add(concept.Name);
                ClassOf[concept.Index] = classes[concept.Name];
            }
            (Names, Shared, All) = (names, [.. shared], [.. Enumerable.Range(0, names.Count)]);
        }

        public IReadOnlyList<string> Names { get; }

        public IReadOnlyList<string> Shared { get; }

        /// <summary>Every class.</summary>
        public int[] All { get; }

        /// <summary>The class of every concept.</summary>
        public int[] ClassOf { get; }

        public int[] ClassesOf(int[] images) => [.. images.Select(i => ClassOf[set.Images[i].Concept])];
    }
}
