using System.Text.Json.Serialization;
using Panoptes.Imaging;

namespace Panoptes.Evaluation;

/// <summary>How one class fares.</summary>
public sealed record ClassScore
{
    public required string Label { get; init; }

    /// <summary>Images of this class.</summary>
    public required int Support { get; init; }

    /// <summary>Images that were taken for this class.</summary>
    public required int Predicted { get; init; }

    /// <summary>The share of its images that were taken for it: its own accuracy, which is its recall.</summary>
    public required double Recall { get; init; }

    /// <summary>The share of its images that have it among the first five.</summary>
    public required double Top5 { get; init; }

    /// <summary>The share of the images taken for it that are of it; 0 where there are none.</summary>
    public required double Precision { get; init; }

    /// <summary>The harmonic mean of precision and recall.</summary>
    public required double F1 { get; init; }
}

/// <summary>So many images of one class were taken for another.</summary>
public sealed record Confusion(string Label, string Predicted, int Count);

/// <summary>How well images were sorted into classes.</summary>
public sealed record ClassificationReport
{
    public required int Images { get; init; }

    public required int Classes { get; init; }

    /// <summary>The share of images whose highest score is their own class's.</summary>
    public required double Top1 { get; init; }

    /// <summary>The share of images with their own class among the five highest scores.</summary>
    public required double Top5 { get; init; }

    /// <summary>What guessing gives: one in the number of classes.</summary>
    public required double Chance { get; init; }

    /// <summary>Recall averaged over the classes that have images, so that large classes count no more than small ones.</summary>
    public required double MeanRecall { get; init; }

    /// <summary>F1 averaged over the classes that have images.</summary>
    public required double MeanF1 { get; init; }

    public required IReadOnlyList<ClassScore> PerClass { get; init; }

    /// <summary>The most frequent mistakes, at most twenty.</summary>
    public required IReadOnlyList<Confusion> Confusions { get; init; }

    /// <summary>[true class, predicted class].</summary>
    [JsonIgnore]
    public long[,] ConfusionMatrix { get; init; } = new long[0, 0];

    /// <summary>Predictions against truth as a picture.</summary>
    public Image ConfusionPicture(string? title = null, int size = 800) => Plot.ConfusionMatrix(ConfusionMatrix, [.. PerClass.Select(static c => c.Label)], title, size);
}

/// <summary>Scores of images for classes, judged by the images' labels.</summary>
public static class Classification
{
    /// <summary>Judges embeddings: an image's score for a class is the dot product of the two.</summary>
    /// <param name="images">[images, d]</param>
    /// <param name="classes">[classes, d]</param>
    /// <param name="labels">For every image its class, from 0.</param>
    /// <param name="names">The classes' names.</param>
    /// <exception cref="PanoptesException">Sizes that do not fit, a label without a class, or vectors that are not finite.</exception>
    public static ClassificationReport OfVectors(Tensor images, Tensor classes, IReadOnlyList<int> labels, IReadOnlyList<string> names, CancellationToken cancel = default) =>
        Report(Ranking.OfVectors(images, classes, Checked(labels, names), Positions(names.Count), cancel), labels, names);

    /// <summary>Judges scores (logits, probabilities, votes).</summary>
    /// <param name="scores">[images, classes]</param>
    /// <inheritdoc cref="OfVectors"/>
    public static ClassificationReport OfScores(Tensor scores, IReadOnlyList<int> labels, IReadOnlyList<string> names, CancellationToken cancel = default) =>
        Report(Ranking.OfScores(scores, Checked(labels, names), Positions(names.Count), cancel), labels, names);

    static int[] Positions(int count) => [.. Enumerable.Range(0, count)];

    static IReadOnlyList<int> Checked(IReadOnlyList<int> labels, IReadOnlyList<string> names)
    {
        if (labels.Count == 0) throw new PanoptesException("No images to judge: expected at least one.");
        foreach (var label in labels)
            if (label < 0 || label >= names.Count) throw new PanoptesException($"An image has the label {label}, but there are {names.Count} classes, from 0 to {names.Count - 1}.");
        return labels;
    }

    static ClassificationReport Report(Ranking ranking, IReadOnlyList<int> labels, IReadOnlyList<string> names)
    {
        var counts = new long[names.Count, names.Count];
        var (support, predicted, top5) = (new int[names.Count], new int[names.Count], new int[names.Count]);
        for (var i = 0; i < labels.Count; i++)
        {
            counts[labels[i], ranking.Nearest[i]]++;
            support[labels[i]]++;
            predicted[ranking.Nearest[i]]++;
            if (ranking.Ranks[i] < 5) top5[labels[i]]++;
        }
        var classes = new ClassScore[names.Count];
        var mistakes = new List<Confusion>();
        for (var c = 0; c < classes.Length; c++)
        {
            var right = (double)counts[c, c];
            var (recall, precision) = (Share(right, support[c]), Share(right, predicted[c]));
            classes[c] = new()
            {
                Label = names[c],
                Support = support[c],
                Predicted = predicted[c],
                Recall = recall,
                Precision = precision,
                F1 = Share(2 * right, support[c] + predicted[c]),
                Top5 = Share(top5[c], support[c]),
            };
            for (var p = 0; p < classes.Length; p++)
                if (p != c && counts[c, p] > 0) mistakes.Add(new(names[c], names[p], (int)counts[c, p]));
        }
        ClassScore[] present = [.. classes.Where(static c => c.Support > 0)];
        return new()
        {
            Images = labels.Count,
            Classes = names.Count,
            Top1 = ranking.TopK(1),
            Top5 = ranking.TopK(5),
            Chance = 1.0 / names.Count,
            MeanRecall = present.Average(static c => c.Recall),
            MeanF1 = present.Average(static c => c.F1),
            PerClass = classes,
            Confusions = [.. mistakes.OrderByDescending(static m => m.Count).Take(20)],
            ConfusionMatrix = counts,
        };

        static double Share(double part, double whole) => whole == 0 ? 0 : part / whole;
    }
}
