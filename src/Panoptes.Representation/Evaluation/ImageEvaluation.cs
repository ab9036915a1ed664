using Panoptes.Data;
using Panoptes.Data.Knowledge;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation.Evaluation;

/// <summary>What can be measured on images.</summary>
public enum EvaluationTask
{
    /// <summary>Classes found by their names alone.</summary>
    ZeroShot,

    /// <summary>Captions found by images and images by captions.</summary>
    Retrieval,

    /// <summary>Classes voted for by the nearest training images.</summary>
    Knn,

    /// <summary>Classes told apart by logistic regression on the model's features.</summary>
    LinearProbe,
}

/// <summary>How a model is tested on images.</summary>
public sealed record ImageEvaluationOptions
{
    /// <summary>What to measure; null: all that the data allow.</summary>
    public IReadOnlyCollection<EvaluationTask>? Tasks { get; init; }

    /// <summary>Sentences around a class's name.</summary>
    public IReadOnlyList<string> Templates { get; init; } = PromptTemplates.General;

    /// <summary>What is known of the classes, appended to every text (K-LITE); null: nothing.</summary>
    public KnowledgeTable? Knowledge { get; init; }

    public NearestNeighborOptions Neighbors { get; init; } = new();

    /// <summary>The part of the training images that the linear probe's regularization is chosen on.</summary>
    public double ValidationShare { get; init; } = 0.1;

    /// <summary>Decides which images that part is.</summary>
    public ulong Seed { get; init; }
}

/// <summary>k-NN: how many neighbors voted, how, and what came out.</summary>
public sealed record KnnReport(int K, double? Temperature, ClassificationReport Report);

/// <summary>A linear probe: the regularization that was chosen, what was tried, and the accuracy on the test images.</summary>
public sealed record LinearProbeReport(double C, int Features, bool HasConverged, IReadOnlyList<LinearProbeTrial> Trials, ClassificationReport Report);

/// <summary>What two methods give that know nothing but pixels.</summary>
/// <param name="HistogramTop1">Top-1 of the nearest training image by <see cref="ColorHistogram"/>.</param>
/// <param name="PixelTop1">Top-1 of 5 nearest training images by the distance of their pixels, where all images have one size and are gray.</param>
public sealed record PixelBaselines(double HistogramTop1, double? PixelTop1);

/// <summary>What was measured; null where the data do not allow it or it was not asked for.</summary>
public sealed record ImageReport
{
    public required string Data { get; init; }

    /// <summary>Images that the numbers are of.</summary>
    public required int Images { get; init; }

    /// <summary>Images that were trained on by the probe and k-NN.</summary>
    public int? TrainImages { get; init; }

    /// <summary>Images that could not be read and were left out.</summary>
    public required int Skipped { get; init; }

    public IReadOnlyList<string>? Templates { get; init; }

    public ClassificationReport? ZeroShot { get; init; }

    /// <summary>Each image file with its own captions; captions equal to the letter but of other images count as wrong.</summary>
    public RetrievalReport? Retrieval { get; init; }

    /// <summary>What a random order gives.</summary>
    public RetrievalReport? RetrievalChance { get; init; }

    public KnnReport? Knn { get; init; }

    public LinearProbeReport? LinearProbe { get; init; }

    public PixelBaselines? Baselines { get; init; }
}

/// <summary>Evaluations on labeled or captioned images: zero-shot, retrieval, and, with training images, k-NN and a linear probe.</summary>
/// <remarks>k-NN and the probe work on the image tower's features before the projection into the space shared with texts, as published ones do.</remarks>
public static class ImageEvaluation
{
    /// <summary>Measures what the images allow.</summary>
    /// <param name="model">The model; only one with a text tower can be measured by names and captions.</param>
    /// <param name="test">The images that the numbers are of.</param>
    /// <param name="train">Images of the same classes for k-NN and the linear probe; null: neither.</param>
    /// <param name="options">What to measure and how.</param>
    /// <exception cref="PanoptesException">The data allow nothing that was asked for, or an image or text is of no use.</exception>
    public static ImageReport Run(ImageEncoder model, ImageSource test, ImageSource? train = null, ImageEvaluationOptions? options = null,
        IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        options ??= new();
        var isLabeled = test.Classes.Count > 1 && test.Labels.Any(static l => l >= 0);
        var reads = model is Clip;
        foreach (var task in options.Tasks ?? [])
            if (!reads && task is EvaluationTask.ZeroShot or EvaluationTask.Retrieval) throw new PanoptesException($"The model has no text tower, which {Name(task)} needs.");
        var zeroShot = Wants(EvaluationTask.ZeroShot, isLabeled && reads, "classes: a folder with one subfolder a class, or a table with a column of labels");
        var retrieval = Wants(EvaluationTask.Retrieval, test.HasCaptions && reads, "captions: a text file beside every image, or a table with a column of captions");
        var (knn, probe) = (Wants(EvaluationTask.Knn, isLabeled && train is not null, TrainImages), Wants(EvaluationTask.LinearProbe, isLabeled && train is not null, TrainImages));
        if (!reads && !knn && !probe) throw new PanoptesException($"The model has no text tower, so that only k-NN and a linear probe can be measured, which {test.Name} does not allow: expected {TrainImages}.");
        if (!zeroShot && !retrieval && !knn && !probe)
            throw new PanoptesException($"{test.Name} has neither two or more classes nor captions, so that there is nothing to measure: expected one subfolder a class, text files beside the images, or a table with captions or labels.");

        if (train is not null && !train.Classes.SequenceEqual(test.Classes, StringComparer.Ordinal))
            throw new PanoptesException($"{train.Name} has the classes {string.Join(", ", train.Classes)}, but {test.Name} {string.Join(", ", test.Classes)}; expected the same.");

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var encoder = model.Encoder;
        var (embeds, probes) = (zeroShot || retrieval, knn || probe);
        var names = test.Classes.Select(static c => c.Replace('_', ' ')).ToArray();
        var textWork = (zeroShot ? names.Length * options.Templates.Count : 0) + (retrieval ? test.Count : 0);
        var probeWork = probe ? 1 + (train!.Count / 8) : 0;
        var parts = new PartialProgress(progress, (embeds ? test.Count : 0) + textWork + (probes ? test.Count + train!.Count : 0) + probeWork);
        var report = new ImageReport { Data = test.Name, Images = test.Count, Skipped = 0 };

        if (embeds)
        {
            var embedded = encoder.Images(test.Count, test.Load, parts.Part(test.Count), cancel);
            if (zeroShot)
            {
                var classes = encoder.Labels(names, options.Templates, options.Knowledge, parts.Part(names.Length * options.Templates.Count), cancel);
                var rows = test.Labeled;
                report = report with { Templates = options.Templates, ZeroShot = Classification.OfVectors(Rows(embedded, rows), classes, LabelsOf(test, rows), names, cancel) };
            }
            if (retrieval) report = Retrieve(report, encoder, test, embedded, parts, cancel);
        }
        if (probes)
        {
            var (x, testX) = (encoder.Features(train!.Count, train.Load, parts.Part(train.Count), cancel), encoder.Features(test.Count, test.Load, parts.Part(test.Count), cancel));
            var (rows, testRows) = (train.Labeled, test.Labeled);
            if (rows.Length < 2 || testRows.Length == 0) throw new PanoptesException($"{train.Name} has {rows.Length} labeled images and {test.Name} {testRows.Length}; expected at least 2 to train and 1 to test on.");
            var (labels, testLabels) = (LabelsOf(train, rows), LabelsOf(test, testRows));
            (x, testX) = (Rows(x, rows), Rows(testX, testRows));
            report = report with { TrainImages = rows.Length };
            if (knn)
                report = report with { Knn = new(options.Neighbors.K, options.Neighbors.Temperature, Classification.OfScores(NearestNeighbors.Votes(x, labels, testX, names.Length, options.Neighbors, null, cancel), testLabels, names, cancel)) };
            if (probe)
                report = report with { LinearProbe = Probe(x, labels, testX, testLabels, names, options, parts.Part(probeWork, LinearProbe.SweepFits), cancel) };
            report = report with { Baselines = Baselines(train, rows, labels, test, testRows, testLabels, names, cancel) };
        }
        return report with { Images = test.Good.Length, Skipped = test.Problems.Count + (train is null || train.Problems == test.Problems ? 0 : train.Problems.Count) };

        bool Wants(EvaluationTask task, bool isPossible, string needed)
        {
            if (options.Tasks is null) return isPossible;
            if (!options.Tasks.Contains(task)) return false;
            return isPossible ? true : throw new PanoptesException($"{test.Name} does not allow {Name(task)}, which needs {needed}.");
        }
    }

    /// <summary>k-NN on the features of any image tower, for validation while it is trained. The model is in evaluation mode meanwhile and as it was afterwards.</summary>
    /// <param name="model">With an image tower.</param>
    /// <param name="processor">Prepares its images.</param>
    /// <param name="test">What is asked.</param>
    /// <param name="train">What votes; of the same classes.</param>
    /// <param name="batch">Images at once.</param>
    /// <returns>The share of the images whose class is found.</returns>
    internal static double Neighbors(Module model, ImageProcessor processor, ImageSource test, ImageSource train, int batch, NearestNeighborOptions? neighbors = null, Device? device = null,
        IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default) =>
        EmojiEvaluation.Evaluating(model, () =>
        {
            using var scope = NewDisposeScope();
            var encoder = new BatchEncoder(Towers.Of(model), processor, null, batch, device);
            var parts = new PartialProgress(progress, test.Count + train.Count);
            var known = encoder.Features(train.Count, train.Load, parts.Part(train.Count), cancel);
            var queries = encoder.Features(test.Count, test.Load, parts.Part(test.Count), cancel);
            var votes = NearestNeighbors.Votes(known, train.Labels, queries, train.Classes.Count, neighbors, null, cancel);
            return Classification.OfScores(votes, test.Labels, test.Classes, cancel).Top1;
        });

    const string TrainImages = "training images of the same classes: folders train and test with one subfolder a class in each";

    static string Name(EvaluationTask task) => task switch
    {
        EvaluationTask.ZeroShot => "zero-shot classification",
        EvaluationTask.Retrieval => "retrieval",
        EvaluationTask.Knn => "k-NN",
        _ => "a linear probe",
    };

    static ImageReport Retrieve(ImageReport report, BatchEncoder encoder, ImageSource test, Tensor embedded, PartialProgress parts, CancellationToken cancel)
    {
        // Several rows of a table may name one file: one image with several captions.
        var rows = test.Good;
        var (groups, firsts, groupOf) = (new Dictionary<string, int>(StringComparer.Ordinal), new List<int>(), new int[rows.Length]);
        for (var i = 0; i < rows.Length; i++)
        {
            if (groups.TryAdd(test.Files![rows[i]], firsts.Count)) firsts.Add(rows[i]);
            groupOf[i] = groups[test.Files[rows[i]]];
        }
        var texts = encoder.Texts([.. rows.Select(r => test.Texts[r])], parts.Part(test.Count, rows.Length), cancel);
        var images = Rows(embedded, [.. firsts]);
        int[] imageGroups = [.. Enumerable.Range(0, firsts.Count)];
        var (forward, back) = (Ranking.OfVectors(images, texts, imageGroups, groupOf, cancel), Ranking.OfVectors(texts, images, groupOf, imageGroups, cancel));
        return report with
        {
            Retrieval = new(RetrievalScores.Of(forward), RetrievalScores.Of(back)),
            RetrievalChance = new(RetrievalScores.Chance(forward), RetrievalScores.Chance(back)),
        };
    }

    static LinearProbeReport Probe(Tensor x, int[] labels, Tensor testX, int[] testLabels, string[] names, ImageEvaluationOptions options, IProgress<int> progress, CancellationToken cancel)
    {
        int[] order = [.. Enumerable.Range(0, labels.Length)];
        var random = new SampleRandom(options.Seed, 0, 0);
        random.Shuffle(order.AsSpan());
        var held = Math.Clamp((int)(labels.Length * options.ValidationShare), 1, labels.Length - 1);
        var (validation, train) = (order[..held], order[held..]);
        var sweep = LinearProbe.Sweep(Rows(x, train), [.. train.Select(i => labels[i])], Rows(x, validation), [.. validation.Select(i => labels[i])], names.Length,
            new Fits(progress), cancel);
        return new(sweep.Probe.C, sweep.Probe.Features, sweep.Probe.HasConverged, sweep.Trials, Classification.OfScores(sweep.Probe.Logits(testX), testLabels, names, cancel));
    }

    static PixelBaselines Baselines(ImageSource train, int[] rows, int[] labels, ImageSource test, int[] testRows, int[] testLabels, string[] names, CancellationToken cancel)
    {
        var histogram = Top1(Histograms(train, rows, cancel), Histograms(test, testRows, cancel), NearestNeighborOptions.Plain(1));
        double? pixels = train.Gray is { } x && test.Gray is { } y && x.Width == y.Width && x.Height == y.Height
            ? Top1(x.PixelTensor(), y.PixelTensor(), NearestNeighborOptions.Plain(5, Nearness.Euclidean)) : null;
        return new(histogram, pixels);

        double Top1(Tensor known, Tensor queries, NearestNeighborOptions options) =>
            Classification.OfScores(NearestNeighbors.Votes(known, labels, queries, names.Length, options, null, cancel), testLabels, names, cancel).Top1;
    }

    static Tensor Histograms(ImageSource source, int[] rows, CancellationToken cancel)
    {
        var histograms = new float[rows.Length][];
        Parallel.For(0, rows.Length, new ParallelOptions { CancellationToken = cancel }, i =>
        {
            var image = source.Load(rows[i]);
            histograms[i] = ColorHistogram.Of(source.Gray is null ? image.ToRgb() : image);
        });
        return tensor(histograms.SelectMany(static h => h).ToArray(), [rows.Length, histograms[0].Length]);
    }

    static Tensor Rows(Tensor of, int[] rows) => of.index_select(0, tensor(rows.Select(static r => (long)r).ToArray()));

    static int[] LabelsOf(ImageSource source, int[] rows) => [.. rows.Select(r => source.Labels[r])];

    sealed class Fits(IProgress<int> progress) : IProgress<EvaluationProgress>
    {
        public void Report(EvaluationProgress value) => progress.Report(value.Done);
    }
}
