using System.Runtime.InteropServices;

namespace Panoptes.Understanding;

/// <summary>
/// Boxes as tensors [..., 4]: as models give them (center x, center y, width, height) or by their corners (left, top, right, bottom). Leading dimensions are batches;
/// units are whatever the caller uses, fractions of the image or pixels.
/// </summary>
public static class Boxes
{
    // An empty box overlaps with nothing; without this it would be 0 / 0.
    const double Smallest = 1e-12;

    /// <summary>(center x, center y, width, height) to (left, top, right, bottom).</summary>
    public static Tensor ToCorners(Tensor boxes)
    {
        using var scope = NewDisposeScope();
        var (center, half) = (boxes.narrow(-1, 0, 2), boxes.narrow(-1, 2, 2) * 0.5);
        return cat([center - half, center + half], -1).MoveToOuterDisposeScope();
    }

    /// <summary>(left, top, right, bottom) to (center x, center y, width, height).</summary>
    public static Tensor ToCenters(Tensor corners)
    {
        using var scope = NewDisposeScope();
        var (first, last) = (corners.narrow(-1, 0, 2), corners.narrow(-1, 2, 2));
        return cat([(first + last) * 0.5, last - first], -1).MoveToOuterDisposeScope();
    }

    /// <summary>[..., 4] by corners to [...].</summary>
    public static Tensor Area(Tensor corners)
    {
        using var scope = NewDisposeScope();
        return (corners.narrow(-1, 2, 2) - corners.narrow(-1, 0, 2)).prod(-1).MoveToOuterDisposeScope();
    }

    /// <summary>How much every box of one list overlaps with every one of another: intersection over union, from 0 to 1.</summary>
    /// <param name="a">[..., n, 4] by corners</param>
    /// <param name="b">[..., m, 4] by corners</param>
    /// <returns>[..., n, m]</returns>
    public static Tensor Iou(Tensor a, Tensor b)
    {
        using var scope = NewDisposeScope();
        var (shared, union) = Overlap(a.unsqueeze(-2), b.unsqueeze(-3));
        return (shared / union).MoveToOuterDisposeScope();
    }

    /// <summary>Generalized IoU (Rezatofighi et al. 2019, arXiv:1902.09630) of every pair, from -1 (far apart) to 1: IoU less the share of the smallest box around both that neither covers.</summary>
    /// <inheritdoc cref="Iou(Tensor, Tensor)"/>
    public static Tensor GeneralizedIou(Tensor a, Tensor b)
    {
        using var scope = NewDisposeScope();
        return GeneralizedIouOfPairs(a.unsqueeze(-2), b.unsqueeze(-3)).MoveToOuterDisposeScope();
    }

    /// <summary>The same of the boxes in the same places of two lists: [..., 4] by corners each to [...].</summary>
    public static Tensor GeneralizedIouOfPairs(Tensor a, Tensor b)
    {
        using var scope = NewDisposeScope();
        var (shared, union) = Overlap(a, b);
        var around = (maximum(a.narrow(-1, 2, 2), b.narrow(-1, 2, 2)) - minimum(a.narrow(-1, 0, 2), b.narrow(-1, 0, 2))).clamp_min(0).prod(-1).clamp_min(Smallest);
        return (shared / union - (around - union) / around).MoveToOuterDisposeScope();
    }

    /// <summary>Intersection and union of boxes that broadcast to each other.</summary>
    static (Tensor Shared, Tensor Union) Overlap(Tensor a, Tensor b)
    {
        var shared = (minimum(a.narrow(-1, 2, 2), b.narrow(-1, 2, 2)) - maximum(a.narrow(-1, 0, 2), b.narrow(-1, 0, 2))).clamp_min(0).prod(-1);
        return (shared, (Area(a) + Area(b) - shared).clamp_min(Smallest));
    }

    /// <summary>Non-maximum suppression: from the highest score on, a box is kept unless one that is kept already overlaps with it by more than <paramref name="threshold"/>.</summary>
    /// <param name="corners">[n, 4]</param>
    /// <param name="scores">[n]</param>
    /// <param name="threshold">Of the IoU.</param>
    /// <param name="groups">[n] int64: only boxes of the same group suppress each other (a class, an image of a batch); null: all are one.</param>
    /// <returns>The indices of those that are kept, the highest score first; of equal scores the first.</returns>
    /// <exception cref="PanoptesException">Sizes that do not fit.</exception>
    public static int[] Nms(Tensor corners, Tensor scores, double threshold, Tensor? groups = null)
    {
        var n = scores.numel();
        if (corners.dim() != 2 || corners.shape[1] != 4 || corners.shape[0] != n || scores.dim() != 1 || (groups is not null && groups.numel() != n))
            throw new PanoptesException($"Boxes [{string.Join(", ", corners.shape)}] have scores [{string.Join(", ", scores.shape)}]{(groups is null ? "" : $" and {groups.numel()} groups")}; expected [n, 4] and n of each.");
        if (n == 0) return [];
        using var scope = NewDisposeScope();
        var boxes = MemoryMarshal.Cast<float, EdgeBox>(corners.detach().cpu().to(ScalarType.Float32).contiguous().data<float>().ToArray()).ToArray();
        var score = scores.detach().cpu().to(ScalarType.Float32).contiguous().data<float>().ToArray();
        return [.. BoxNms.Keep(boxes, score, (float)threshold, groups?.cpu().to(ScalarType.Int32).contiguous().data<int>().ToArray())];
    }
}
