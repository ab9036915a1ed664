namespace Panoptes.Evaluation;

/// <summary>How much two masks share.</summary>
/// <param name="Shared">Pixels of both.</param>
/// <param name="Either">Pixels of any.</param>
public readonly record struct MaskOverlap(long Shared, long Either)
{
    /// <summary>1 for two empty masks: that nothing is meant was told rightly (generalized referring segmentation, Liu et al. 2023, arXiv:2306.00968).</summary>
    public double Iou => Either == 0 ? 1 : (double)Shared / Either;
}

/// <summary>
/// How well models find what an expression means: the cumulative IoU (cIoU, also called overall IoU: what all masks share over what they cover, large objects weighing more), the mean of
/// the expressions' IoU (mIoU), and the share of expressions whose IoU is at least k (P@k).
/// </summary>
public sealed class ReferringScores
{
    readonly List<double> ious = [];
    long shared, either;

    /// <summary>Expressions so far.</summary>
    public int Count => ious.Count;

    /// <summary>The IoU of every expression, in the order in which they were added.</summary>
    public IReadOnlyList<double> Ious => ious;

    /// <summary>cIoU; 0 where nothing was added or all masks are empty.</summary>
    public double CumulativeIou => either == 0 ? 0 : (double)shared / either;

    /// <summary>mIoU; 0 where nothing was added.</summary>
    public double MeanIou => ious.Count == 0 ? 0 : ious.Average();

    /// <summary>P@k: the share of expressions whose IoU is at least <paramref name="k"/>.</summary>
    public double Precision(double k) => ious.Count == 0 ? 0 : (double)ious.Count(i => i >= k) / ious.Count;

    /// <summary>Adds an expression.</summary>
    /// <param name="told">The prediction; what is not 0 is in it.</param>
    /// <param name="label">What the expression means.</param>
    /// <returns>Its overlap.</returns>
    /// <exception cref="PanoptesException">Masks of different sizes.</exception>
    public MaskOverlap Add(ReadOnlySpan<byte> told, ReadOnlySpan<byte> label)
    {
        var overlap = Overlap(told, label);
        Add(overlap);
        return overlap;
    }

    /// <summary>Adds an expression whose masks were counted already.</summary>
    /// <exception cref="PanoptesException">Masks cannot share so much.</exception>
    public void Add(MaskOverlap overlap)
    {
        if (overlap.Shared < 0 || overlap.Shared > overlap.Either) throw new PanoptesException($"Two masks of {overlap.Either} pixels together cannot share {overlap.Shared}.");
        (shared, either) = (shared + overlap.Shared, either + overlap.Either);
        ious.Add(overlap.Iou);
    }

    /// <summary>What two masks share.</summary>
    /// <exception cref="PanoptesException">Masks of different sizes.</exception>
    public static MaskOverlap Overlap(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b)
    {
        if (a.Length != b.Length) throw new PanoptesException($"Masks of {a.Length} and {b.Length} pixels were given; expected as many.");
        var (shared, either) = (0L, 0L);
        for (var i = 0; i < a.Length; i++)
        {
            var (x, y) = (a[i] != 0 ? 1 : 0, b[i] != 0 ? 1 : 0);
            shared += x & y;
            either += x | y;
        }
        return new(shared, either);
    }
}
