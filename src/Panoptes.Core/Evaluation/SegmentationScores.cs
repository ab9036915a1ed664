namespace Panoptes.Evaluation;

/// <summary>How well every pixel's class was told, over a whole data set.</summary>
public sealed class SegmentationScores
{
    readonly int[] ignored;
    readonly long[] counts;

    /// <param name="classes">How many classes there are.</param>
    /// <param name="ignore">Labels that do not count, such as 255.</param>
    public SegmentationScores(int classes, params int[] ignore)
    {
        if (classes < 1) throw new PanoptesException($"{classes} classes were given; expected 1 or more.");
        (Classes, ignored, counts) = (classes, ignore, new long[classes * classes]);
    }

    public int Classes { get; }

    /// <summary>How many pixels of class <paramref name="label"/> were taken for class <paramref name="told"/>.</summary>
    public long Count(int label, int told) => counts[(label * Classes) + told];

    /// <summary>Adds the pixels of an image (or of several).</summary>
    /// <param name="labels">What they are.</param>
    /// <param name="told">What they were taken for.</param>
    /// <exception cref="PanoptesException">Not as many of both, or a class that there is not.</exception>
    public void Add(ReadOnlySpan<int> labels, ReadOnlySpan<int> told)
    {
        if (labels.Length != told.Length) throw new PanoptesException($"{told.Length} pixels were told and {labels.Length} have labels; expected as many.");
        for (var i = 0; i < labels.Length; i++)
        {
            if (ignored.AsSpan().Contains(labels[i])) continue;
            if ((uint)labels[i] >= (uint)Classes || (uint)told[i] >= (uint)Classes) throw new PanoptesException($"A pixel of class {labels[i]} was taken for class {told[i]}; expected 0 to {Classes - 1}.");
            counts[(labels[i] * Classes) + told[i]]++;
        }
    }

    /// <summary>Of each class, the pixels that are of it and were told so, over those that are or were told to be; null for a class that neither has.</summary>
    public IReadOnlyList<double?> Iou => PerClass(static (right, labels, told) => labels + told == 0 ? null : (double)right / (labels + told - right));

    /// <summary>Twice those that are right, over those that are of the class and those that were told to be.</summary>
    public IReadOnlyList<double?> Dice => PerClass(static (right, labels, told) => labels + told == 0 ? null : 2.0 * right / (labels + told));

    /// <summary>The mean of <see cref="Iou"/> over the classes that have one.</summary>
    public double MeanIou => Iou.Average() ?? 0;

    /// <summary>The share of pixels that are right.</summary>
    public double PixelAccuracy
    {
        get
        {
            var (right, all) = (0L, 0L);
            for (var c = 0; c < Classes; c++) right += Count(c, c);
            foreach (var count in counts) all += count;
            return all == 0 ? 0 : (double)right / all;
        }
    }

    /// <summary>The mean over the classes that have labels of the share of their pixels that are right.</summary>
    public double MeanAccuracy => PerClass(static (right, labels, _) => labels == 0 ? null : (double)right / labels).Average() ?? 0;

    /// <summary>The mean of <see cref="Iou"/> over classes, each weighed by how many pixels are of it.</summary>
    public double FrequencyWeightedIou
    {
        get
        {
            var (sum, all) = (0.0, 0L);
            foreach (var (iou, labels) in Iou.Zip(PerClass(static (_, labels, _) => labels))) (sum, all) = (sum + ((iou ?? 0) * labels!.Value), all + (long)labels.Value);
            return all == 0 ? 0 : sum / all;
        }
    }

    double?[] PerClass(Func<long, long, long, double?> score)
    {
        var scores = new double?[Classes];
        for (var c = 0; c < Classes; c++)
        {
            var (labels, told) = (0L, 0L);
            for (var k = 0; k < Classes; k++) (labels, told) = (labels + Count(c, k), told + Count(k, c));
            scores[c] = score(Count(c, c), labels, told);
        }
        return scores;
    }
}
