namespace Panoptes.Understanding;

/// <summary>A box by its edges, in pixels.</summary>
public readonly record struct EdgeBox(float Left, float Top, float Right, float Bottom)
{
    public float Area => (Right - Left) * (Bottom - Top);

    /// <summary>Shared area over covered area; 0 for two boxes without any.</summary>
    public float Iou(EdgeBox other)
    {
        var (width, height) = (MathF.Max(0, MathF.Min(Right, other.Right) - MathF.Max(Left, other.Left)), MathF.Max(0, MathF.Min(Bottom, other.Bottom) - MathF.Max(Top, other.Top)));
        var shared = width * height;
        return shared / (Area + other.Area - shared);
    }

    public EdgeBox Shifted(float x, float y) => new(Left + x, Top + y, Right + x, Bottom + y);
}

/// <summary>Suppression of boxes that lie on better ones, as torchvision.ops.nms and batched_nms do it.</summary>
public static class BoxNms
{
    /// <summary>What stays of detections, the surest first: of two with one label whose IoU is above <paramref name="overlap"/>, the surer.</summary>
    public static IReadOnlyList<Detection> Keep(IReadOnlyList<Detection> found, double overlap)
    {
        string[] labels = [.. found.Select(static d => d.Label).Distinct()];
        return [.. Keep([.. found.Select(static d => new EdgeBox(d.Left, d.Top, d.Right, d.Bottom))], [.. found.Select(static d => d.Score)], (float)overlap, [.. found.Select(d => Array.IndexOf(labels, d.Label))]).Select(i => found[i])];
    }

    /// <summary>Which boxes stay, the best first: each takes away those after it whose IoU with it is above <paramref name="threshold"/>. Of equal scores the first counts as better.</summary>
    /// <param name="categories">Boxes of different ones do not meet; null: all are of one.</param>
    /// <exception cref="PanoptesException">Lists of different lengths.</exception>
    public static IReadOnlyList<int> Keep(IReadOnlyList<EdgeBox> boxes, IReadOnlyList<float> scores, float threshold, IReadOnlyList<int>? categories = null)
    {
        if (scores.Count != boxes.Count || (categories ?? []).Count is var count && categories is not null && count != boxes.Count)
            throw new PanoptesException($"{boxes.Count} boxes were given with {scores.Count} scores{(categories is null ? "" : $" and {categories.Count} categories")}; expected one each.");
        int[] order = [.. Enumerable.Range(0, boxes.Count).OrderByDescending(i => scores[i])];
        var gone = new bool[boxes.Count];
        var kept = new List<int>();
        for (var a = 0; a < order.Length; a++)
        {
            var best = order[a];
            if (gone[best]) continue;
            kept.Add(best);
            for (var b = a + 1; b < order.Length; b++)
                if (!gone[order[b]] && (categories is null || categories[order[b]] == categories[best]) && boxes[best].Iou(boxes[order[b]]) > threshold) gone[order[b]] = true;
        }
        return kept;
    }
}
