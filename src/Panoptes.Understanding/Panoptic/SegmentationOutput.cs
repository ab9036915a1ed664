using Panoptes.Data;
using Panoptes.Nn;

namespace Panoptes.Understanding;

/// <summary>When a query counts as found.</summary>
public sealed record SegmentationOptions
{
    /// <summary>The least score of what is found, from 0 to 1.</summary>
    public double Threshold { get; init; } = 0.5;

    /// <summary>From which probability on a pixel is of a mask; the panoptic way multiplies it by the score first.</summary>
    public double MaskThreshold { get; init; } = 0.5;

    /// <summary>Which share of a mask must be left where others cover it, for it to be a segment.</summary>
    public double OverlapThreshold { get; init; } = 0.8;

    /// <summary>Classes all whose segments of an image are one, such as sky.</summary>
    public IReadOnlySet<int> Fused { get; init; } = new HashSet<int>();

    /// <summary>
    /// Whether pixels that no mask reaches belong to nothing, as in the authors' Mask2Former and X-Decoder; or every pixel to some segment, as in the peer's processor. The panoptic way alone.
    /// </summary>
    public bool RestIsNothing { get; init; }

    /// <summary>Whether a filter widens where the image is smaller than the masks, as in OneFormer's processor and not in Mask2Former's.</summary>
    public bool Antialiased { get; init; }

    /// <summary>Whether ids are counted as the peer does: after a segment that was added to an earlier one, on from that one's id, so that two segments can get the same.</summary>
    public bool RepeatedIds { get; init; }
}

/// <summary>A segment of a label map.</summary>
/// <param name="Id">What its pixels say.</param>
/// <param name="Class">Its class.</param>
/// <param name="Score">From 0 to 1.</param>
/// <param name="Fused">Whether all segments of its class are one.</param>
public sealed record MapSegment(int Id, int Class, float Score, bool Fused = false);

/// <summary>The class of every pixel of an image.</summary>
/// <param name="Classes">Their numbers.</param>
/// <param name="Names">The classes' names by number.</param>
public sealed record SemanticSegmentation(LabelMap Classes, IReadOnlyList<string> Names)
{
    /// <summary>One segment a class that is there, the largest first; nothing is said of how sure the model is.</summary>
    public IReadOnlyList<Segment> ToSegments() => [.. Classes.Areas().OrderByDescending(static a => a.Value).Select(a => new Segment(Classes.Mask(a.Key), 1, Names[a.Key]))];
}

/// <summary>Every pixel of an image in one segment or none.</summary>
/// <param name="Ids">The segments' ids; 0 where none is.</param>
/// <param name="Segments">In the queries' order. Several that were fused have one id.</param>
public sealed record PanopticSegmentation(LabelMap Ids, IReadOnlyList<MapSegment> Segments)
{
    /// <summary>The classes' names by number; empty where nobody knows them.</summary>
    public IReadOnlyList<string> Names { get; init; } = [];

    /// <summary>
    /// Segments of any model as one map: where several are, the smallest has the pixel, and one that all of is covered is left out. Classes are the labels in the order of appearance; segments
    /// without a label are one class, called "object".
    /// </summary>
    /// <exception cref="PanoptesException">A mask is of another size.</exception>
    public static PanopticSegmentation Of(IReadOnlyList<Segment> segments, int width, int height)
    {
        Segment[] ordered = [.. segments.OrderByDescending(static s => s.Mask.Area)];
        var map = LabelMap.Of(ordered, width, height);
        string[] names = [.. segments.Select(static s => s.Label ?? "object").Distinct()];
        return new(map, [.. map.Areas().Keys.Where(static id => id > 0).Select(id => new MapSegment(id, Array.IndexOf(names, ordered[id - 1].Label ?? "object"), ordered[id - 1].Score))]) { Names = names };
    }

    /// <summary>The same with the segments of some classes alone.</summary>
    /// <param name="classes">Their numbers.</param>
    public PanopticSegmentation Only(IReadOnlySet<int> classes)
    {
        MapSegment[] kept = [.. Segments.Where(s => classes.Contains(s.Class))];
        var ids = kept.Select(static s => s.Id).ToHashSet();
        return this with { Segments = kept, Ids = new(Ids.Width, Ids.Height, [.. Ids.Labels.Select(l => ids.Contains(l) ? l : 0)]) };
    }

    /// <summary>One segment an id, with its mask and the best score; the largest first.</summary>
    public IReadOnlyList<Segment> ToSegments() =>
        [.. Segments.GroupBy(static s => s.Id).Select(g => new Segment(Ids.Mask(g.Key), g.Max(static s => s.Score), Names.ElementAtOrDefault(g.First().Class))).OrderByDescending(static s => s.Mask.Area)];
}

/// <summary>Things one by one; they may overlap.</summary>
/// <param name="Ids">The ids (from 0) of the segments, the last where several are; -1 where none is.</param>
/// <param name="Segments">In the order of ids.</param>
/// <param name="Masks">Whole, one a segment.</param>
public sealed record InstanceSegmentation(LabelMap Ids, IReadOnlyList<MapSegment> Segments, IReadOnlyList<RunLengthMask> Masks)
{
    /// <inheritdoc cref="PanopticSegmentation.Names"/>
    public IReadOnlyList<string> Names { get; init; } = [];

    /// <summary>The segments with their masks, the best first.</summary>
    public IReadOnlyList<Segment> ToSegments() => [.. Segments.Zip(Masks, (s, m) => new Segment(m, s.Score, Names.ElementAtOrDefault(s.Class))).OrderByDescending(static s => s.Score)];
}

/// <summary>
/// From what the queries of Mask2Former and OneFormer say (a class and a mask each) to segmentations of an image, with the arithmetic of the peer's image processors. Large images are
/// computed in parts, with the same results.
/// </summary>
public static class SegmentationOutput
{
    /// <summary>The size that Mask2Former's masks are brought to first, whatever size the image has.</summary>
    public const int CommonSide = 384;

    /// <summary>How many numbers are in work at once.</summary>
    internal static long Portion { get; set; } = 1 << 24;

    /// <summary>Mask logits [queries, rows, columns] in Mask2Former's common size.</summary>
    public static Tensor ToCommonSize(Tensor masks) => Resize(masks, CommonSide, CommonSide);

    /// <summary>What speaks for each class at each place: the classes' probabilities of the queries, weighted by their masks'.</summary>
    /// <param name="classes">[queries, classes + 1] logits</param>
    /// <param name="masks">[queries, rows, columns] logits</param>
    /// <returns>[classes, rows, columns]</returns>
    public static Tensor ClassScores(Tensor classes, Tensor masks)
    {
        using var scope = NewDisposeScope();
        var chances = classes.to(ScalarType.Float32).softmax(-1).narrow(-1, 0, classes.shape[^1] - 1);
        return chances.t().matmul(masks.to(ScalarType.Float32).sigmoid().flatten(1)).unflatten(1, [masks.shape[1], masks.shape[2]]).MoveToOuterDisposeScope();
    }

    /// <summary>The class of every pixel: that for which most speaks after resizing.</summary>
    /// <param name="scores">[classes, rows, columns] of <see cref="ClassScores"/>, or of any model</param>
    /// <param name="width">Of the image.</param>
    /// <param name="height">Of the image.</param>
    /// <param name="antialiased">Whether a filter widens where the image is smaller than the scores (OneFormer's way).</param>
    public static LabelMap Semantic(Tensor scores, int width, int height, bool antialiased = false)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        return new(width, height, Best(scores, width, height, antialiased, null));
    }

    /// <summary>Segments that share the pixels: things one by one, and (where <see cref="SegmentationOptions.Fused"/>) stuff as a whole.</summary>
    /// <param name="classes">[queries, classes + 1] logits</param>
    /// <param name="masks">[queries, rows, columns] logits</param>
    /// <param name="width">Of the image.</param>
    /// <param name="height">Of the image.</param>
    /// <param name="options">Thresholds.</param>
    public static PanopticSegmentation Panoptic(Tensor classes, Tensor masks, int width, int height, SegmentationOptions? options = null)
    {
        options ??= new();
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var (scores, labels) = classes.to(ScalarType.Float32).softmax(-1).max(-1);
        var kept = labels.ne(classes.shape[^1] - 1).logical_and(scores.gt(options.Threshold)).nonzero().squeeze(-1);
        return Share(masks.to(ScalarType.Float32).index_select(0, kept).sigmoid(), scores[kept], labels[kept], width, height, options);
    }

    /// <summary>OneFormer's way to instances: the likeliest pairs of query and class, which share the pixels.</summary>
    /// <inheritdoc cref="Panoptic"/>
    public static PanopticSegmentation SharedInstances(Tensor classes, Tensor masks, int width, int height, SegmentationOptions? options = null)
    {
        options ??= new();
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var (scores, labels, queries) = Likeliest(classes);
        var kept = scores.gt(options.Threshold).nonzero().squeeze(-1);
        // The peer compares logits here, not probabilities.
        return Share(masks.to(ScalarType.Float32).index_select(0, queries[kept]), scores[kept], labels[kept], width, height, options with { Fused = new HashSet<int>(), Antialiased = true });
    }

    /// <summary>Mask2Former's way to instances: the likeliest pairs of query and class, each with its whole mask; the score is the class's times the mask's mean probability inside.</summary>
    /// <inheritdoc cref="Panoptic"/>
    public static InstanceSegmentation Instances(Tensor classes, Tensor masks, int width, int height, SegmentationOptions? options = null)
    {
        options ??= new();
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var (scores, labels, queries) = Likeliest(classes);
        var logits = masks.to(ScalarType.Float32).index_select(0, queries);
        var inside = logits.gt(0).to(ScalarType.Float32);
        var sure = (logits.sigmoid().flatten(1) * inside.flatten(1)).sum(1) / (inside.flatten(1).sum(1) + 1e-6);
        var (total, numbers) = ((scores * sure).data<float>().ToArray(), labels.data<long>().ToArray());

        var ids = new int[checked(width * height)];
        ids.AsSpan().Fill(-1);
        var (segments, found) = (new List<MapSegment>(), new List<RunLengthMask>());
        for (var j = 0; j < total.Length; j++)
        {
            if (!(total[j] >= options.Threshold)) continue;
            using var part = NewDisposeScope();
            var mask = nn.functional.interpolate(inside[j].unsqueeze(0).unsqueeze(0), [height, width], mode: InterpolationMode.Nearest).to(ScalarType.Byte).flatten().data<byte>().ToArray();
            if (!mask.AsSpan().ContainsAnyExcept((byte)0)) continue;
            for (var i = 0; i < mask.Length; i++)
                if (mask[i] != 0) ids[i] = segments.Count;
            segments.Add(new(segments.Count, (int)numbers[j], Rounded(total[j])));
            found.Add(RunLengthMask.Encode(mask, height, width));
        }
        return new(new(width, height, ids), segments, found);
    }

    /// <summary>As many pairs of query and class as there are queries, in libtorch's order.</summary>
    static (Tensor Scores, Tensor Labels, Tensor Queries) Likeliest(Tensor classes)
    {
        var (queries, count) = (classes.shape[0], classes.shape[1] - 1);
        var (scores, at) = classes.to(ScalarType.Float32).softmax(-1).narrow(-1, 0, count).flatten().topk((int)queries, sorted: false);
        return (scores, at.remainder(count), at.div(count, RoundingMode.floor));
    }

    /// <summary>Every pixel to the query whose mask, weighted by its score, is the surest there; then what is left of each mask is looked at.</summary>
    static PanopticSegmentation Share(Tensor masks, Tensor scores, Tensor labels, int width, int height, SegmentationOptions options)
    {
        if (scores.shape[0] == 0) return new(new(width, height, new int[checked(width * height)]), []);
        // Nothing is the last of all, everywhere there, and hardly anything.
        if (options.RestIsNothing) (masks, scores) = (cat([masks, ones_like(masks.narrow(0, 0, 1))]), cat([scores, full([1], 1e-6f, device: scores.device)]));
        var wide = new long[scores.shape[0]];
        var owner = Best(masks, width, height, options.Antialiased, (resized, first) =>
        {
            if (options.RestIsNothing) resized = resized.mul_(resized.ge(options.MaskThreshold));
            var weighted = resized.mul_(scores.narrow(0, first, resized.shape[0]).view(-1, 1, 1));
            weighted.ge(options.MaskThreshold).flatten(1).sum(1).data<long>().CopyTo(wide, first);
            return weighted;
        });
        var areas = new long[wide.Length];
        foreach (var k in owner) areas[k]++;

        var (numbers, sure) = (labels.data<long>().ToArray(), scores.data<float>().ToArray());
        var (idOf, segments, known) = (new int[wide.Length], new List<MapSegment>(), new Dictionary<int, int>());
        var (id, most) = (0, 0);
        for (var k = 0; k < numbers.Length; k++)
        {
            if (areas[k] == 0 || wide[k] == 0 || !((float)areas[k] / wide[k] > options.OverlapThreshold)) continue;
            var label = (int)numbers[k];
            id = known.TryGetValue(label, out var earlier) ? earlier : (options.RepeatedIds ? id : most) + 1;
            most = Math.Max(most, id);
            idOf[k] = id;
            segments.Add(new(id, label, Rounded(sure[k]), options.Fused.Contains(label)));
            if (options.Fused.Contains(label)) known[label] = id;
        }
        for (var i = 0; i < owner.Length; i++) owner[i] = idOf[owner[i]];
        return new(new(width, height, owner), segments);
    }

    static float Rounded(float score) => (float)Math.Round(score, 6);

    /// <summary>Which map has the largest value at each pixel after resizing; as many maps at a time as fit.</summary>
    /// <param name="change">What is done to some resized maps, the first of which has this number; or null.</param>
    static int[] Best(Tensor maps, int width, int height, bool antialiased, Func<Tensor, int, Tensor>? change)
    {
        using var outer = NewDisposeScope();
        var (count, pixels) = ((int)maps.shape[0], checked(width * height));
        var step = (int)Math.Clamp(Portion / pixels, 1, count);
        Tensor? best = null, at = null;
        for (var first = 0; first < count; first += step)
        {
            using var scope = NewDisposeScope();
            var some = Resize(maps.narrow(0, first, Math.Min(step, count - first)).to(ScalarType.Float32), width, height, antialiased);
            if (change is not null) some = change(some, first);
            // Of equal values the first counts, as in the peer.
            var (values, owners) = some.shape[0] == 1 ? (some.flatten(), null) : Largest(some.flatten(1));
            if (best is null) (best, at) = (values.clone().MoveToOuterDisposeScope(), (owners?.to(ScalarType.Int32) ?? zeros(pixels, ScalarType.Int32)).MoveToOuterDisposeScope());
            else
            {
                var better = values.gt(best);
                if (owners is null) at!.masked_fill_(better, first);
                else at!.copy_(owners.to(ScalarType.Int32).add_(first).where(better, at));
                best.copy_(values.maximum(best));
            }
        }
        return at!.data<int>().ToArray();

        static (Tensor Values, Tensor? Owners) Largest(Tensor x) => x.max(0) is var (values, owners) ? (values, owners) : default;
    }

    /// <summary>Maps in the size of an image, bilinearly.</summary>
    /// <param name="maps">[n, rows, columns]</param>
    /// <param name="width">Of the image.</param>
    /// <param name="height">Of the image.</param>
    /// <param name="antialiased">Whether the filter widens where the image is smaller.</param>
    /// <returns>[n, height, width]</returns>
    public static Tensor Resize(Tensor maps, int width, int height, bool antialiased = false)
    {
        using var scope = NewDisposeScope();
        var resized = antialiased && (height < maps.shape[1] || width < maps.shape[2])
            ? Positions.ResizeBilinearAntialiased(maps.permute(1, 2, 0), height, width).t().unflatten(1, [height, width])
            : nn.functional.interpolate(maps.unsqueeze(0), [height, width], mode: InterpolationMode.Bilinear, align_corners: false).squeeze(0);
        return resized.MoveToOuterDisposeScope();
    }
}
