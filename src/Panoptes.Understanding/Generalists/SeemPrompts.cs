using Panoptes.Nn;

namespace Panoptes.Understanding;

// How SEEM (Zou et al. 2023, arXiv:2304.06718) reads prompts, after the authors' code (UX-Decoder/Segment-Everything-Everywhere-All-At-Once, modeling/interface/seem_v1.py and
// prototype/attention_data_struct_seemv1.py). Seem.cs has the model.

/// <summary>What takes part in a run of SEEM's decoder.</summary>
public enum SeemKind
{
    /// <summary>A query that finds what there is, whatever is asked for.</summary>
    Object,

    /// <summary>A query that finds what the prompts mean.</summary>
    Prompted,

    /// <summary>A place that was pointed at, in this image or another.</summary>
    Visual,

    /// <summary>What earlier turns left.</summary>
    Memory,

    /// <summary>A word.</summary>
    Word,
}

/// <summary>Places that were pointed at in a batch of images.</summary>
/// <param name="Places">[b, points, 2]: x and y, from 0 to 1.</param>
/// <param name="Negative">[b, points] int64: 1 where something is pointed at that is not meant.</param>
/// <param name="Real">[b, points] bool, false where padding.</param>
public sealed record SeemPoints(Tensor Places, Tensor Negative, Tensor Real);

/// <summary>The pieces that prompts go through: no weights of their own.</summary>
public static class SeemPrompts
{
    /// <summary>A click, stroke, box or mask is a mask, and a mask its pixels: row by row, the wanted ones first.</summary>
    /// <param name="positive">[b, rows, columns] bool: what is meant.</param>
    /// <param name="negative">[b, rows, columns] bool: what is not; null: nothing.</param>
    /// <param name="most">Of more pixels than that a sign has in an image, so many are drawn.</param>
    /// <param name="random">Draws them; null: they are evenly spread.</param>
    /// <returns>Points at (column / columns, row / rows).</returns>
    public static SeemPoints Points(Tensor positive, Tensor? negative = null, int most = int.MaxValue, Generator? random = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (batch, rows, columns) = (positive.shape[0], positive.shape[1], positive.shape[2]);
        var both = stack([positive, negative ?? zeros_like(positive)], 1);                                  // [b, 2, rows, columns]
        var chosen = both.nonzero();                                                                        // [n, 4], image by image, sign by sign, row by row
        var groups = (chosen.select(1, 0) * 2) + chosen.select(1, 1);
        var counts = both.flatten(2).sum(-1).flatten();                                                     // [2 b] int64
        if (counts.max().item<long>() > most)
        {
            // The rank within a group, spread over "most" cells: a pixel stays if it is the first of its cell.
            if (random is not null) chosen = chosen.index_select(0, (groups + rand(groups.shape[0], dtype: ScalarType.Float64, generator: random)).argsort());
            var (rank, share) = (Rank(groups, counts), counts.clamp_min(1).index_select(0, groups));
            var cell = (rank * most).div(share, RoundingMode.floor);
            var before = ((rank - 1) * most).div(share, RoundingMode.floor);
            var stays = share.le(most).logical_or(cell.ne(before));
            chosen = chosen[stays];
            // What was drawn stands row by row again.
            var order = (((chosen.select(1, 0) * 2) + chosen.select(1, 1)) * rows * columns) + (chosen.select(1, 2) * columns) + chosen.select(1, 3);
            chosen = chosen.index_select(0, order.argsort());
        }
        var images = chosen.select(1, 0);
        var each = images.bincount(null, batch);
        var longest = chosen.shape[0] == 0 ? 0 : each.max().item<long>();
        var place = (images * longest) + Rank(images, each);
        var (places, signs) = (zeros(batch * longest, 2, device: positive.device), zeros(batch * longest, dtype: ScalarType.Int64, device: positive.device));
        var xy = stack([chosen.select(1, 3).to(ScalarType.Float32) / columns, chosen.select(1, 2).to(ScalarType.Float32) / rows], 1);
        places = places.index_copy(0, place, xy).view(batch, longest, 2);
        signs = signs.index_copy(0, place, chosen.select(1, 1)).view(batch, longest);
        var real = arange(longest, dtype: ScalarType.Int64, device: positive.device).unsqueeze(0).lt(each.unsqueeze(1));
        return new(places.MoveToOuterDisposeScope(), signs.MoveToOuterDisposeScope(), real.MoveToOuterDisposeScope());
    }

    /// <summary>The position of each row within its group, of rows that are sorted by group.</summary>
    static Tensor Rank(Tensor groups, Tensor counts) =>
        arange(groups.shape[0], dtype: ScalarType.Int64, device: groups.device) - (counts.cumsum(0) - counts).index_select(0, groups);

    /// <summary>A map at places: [b, channels, rows, columns] to [b, points, channels]. 0 and 1 are the middles of the first and last pixels.</summary>
    public static Tensor Read(Tensor map, Tensor places)
    {
        using var scope = NewDisposeScope();
        var grid = ((2 * places) - 1).to(map.dtype).unsqueeze(2);                                            // [b, points, 1, 2]
        return nn.functional.grid_sample(map, grid, GridSampleMode.Bilinear, GridSamplePaddingMode.Zeros, align_corners: true).squeeze(3).transpose(1, 2).MoveToOuterDisposeScope();
    }

    /// <summary>What is pointed at, as masks are compared: the mean of the mask features at the wanted places.</summary>
    /// <returns>[b, mask width]; zero where nothing is pointed at.</returns>
    public static Tensor MaskPrompt(Tensor maskFeatures, SeemPoints points)
    {
        using var scope = NewDisposeScope();
        var wanted = points.Real.logical_and(points.Negative.eq(0)).to(maskFeatures.dtype).unsqueeze(1);     // [b, 1, points]
        return wanted.matmul(Read(maskFeatures, points.Places)).squeeze(1).div(wanted.sum(-1).clamp_min(1)).MoveToOuterDisposeScope();
    }

    /// <summary>A token a place: the projected features there, plus whether it is meant or not.</summary>
    /// <param name="features">[b, channels, rows, columns]</param>
    /// <param name="projection">[channels, width]</param>
    /// <param name="indicators">[2, width]: of what is meant, and of what is not.</param>
    /// <param name="points">The places.</param>
    /// <returns>[b, points, width]; zero where padding.</returns>
    public static Tensor PointTokens(Tensor features, Tensor projection, Tensor indicators, SeemPoints points)
    {
        using var scope = NewDisposeScope();
        // Reading is linear, so that only the places need to be projected.
        var tokens = Read(features, points.Places).matmul(projection) + indicators.index_select(0, points.Negative.flatten()).view(points.Negative.shape[0], points.Negative.shape[1], -1);
        return (tokens * points.Real.unsqueeze(-1).to(tokens.dtype)).MoveToOuterDisposeScope();
    }

    /// <summary>Where memory may look: inside the mask before, and everywhere if it is empty. [b, places] bool.</summary>
    /// <param name="maskLogits">[b, rows, columns]</param>
    /// <param name="size">Of the map that is looked at.</param>
    public static Tensor Remembered(Tensor maskLogits, (int Rows, int Columns) size)
    {
        using var scope = NewDisposeScope();
        var small = nn.functional.interpolate(maskLogits.detach().unsqueeze(1), [size.Rows, size.Columns], mode: InterpolationMode.Bilinear, align_corners: false);
        return XDecoder.Opened(small.flatten(1).ge(0)).MoveToOuterDisposeScope();
    }

    /// <summary>Memory looks at the image where it may: x + attention over the places, without projections.</summary>
    /// <param name="memory">[b, slots, width]</param>
    /// <param name="features">[b, width, rows, columns]</param>
    /// <param name="seen">[b, places] bool</param>
    public static Tensor Recall(Tensor memory, Tensor features, Tensor seen)
    {
        using var scope = NewDisposeScope();
        var places = features.flatten(2).transpose(1, 2).unsqueeze(1);
        return (memory + Attention.Apply(memory.unsqueeze(1), places, places, seen.unsqueeze(1).unsqueeze(1)).squeeze(1)).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Who may look at whom: like at like; and prompted queries at whatever prompts them: places, memory and words. Padding neither looks nor is looked at.
    /// </summary>
    /// <param name="kinds">What takes part, in its order.</param>
    /// <param name="real">[b, all] bool, false where padding.</param>
    /// <returns>[b, all, all] bool</returns>
    public static Tensor Allowed(IReadOnlyList<SeemKind> kinds, Tensor real)
    {
        using var scope = NewDisposeScope();
        var allowed = new bool[kinds.Count * kinds.Count];
        for (var i = 0; i < kinds.Count; i++)
            for (var j = 0; j < kinds.Count; j++)
                allowed[(i * kinds.Count) + j] = kinds[i] == kinds[j] || (kinds[i] == SeemKind.Prompted && kinds[j] > SeemKind.Prompted);
        return tensor(allowed, [1, kinds.Count, kinds.Count]).to(real.device).logical_and(real.unsqueeze(1)).logical_and(real.unsqueeze(2)).MoveToOuterDisposeScope();
    }

    /// <summary>The same for an attention kernel, which needs every row to see something: padding sees itself.</summary>
    internal static Tensor WithItself(Tensor allowed)
    {
        using var scope = NewDisposeScope();
        return allowed.logical_or(eye(allowed.shape[1], dtype: ScalarType.Bool, device: allowed.device)).MoveToOuterDisposeScope();
    }

    /// <summary>Everything that takes part looks at what it may, without projections: x + attention; zero where padding.</summary>
    /// <param name="x">[b, all, width]</param>
    /// <param name="allowed">[b, all, all] bool</param>
    /// <param name="real">[b, all] bool</param>
    public static Tensor Join(Tensor x, Tensor allowed, Tensor real)
    {
        using var scope = NewDisposeScope();
        var heads = x.unsqueeze(1);
        var seen = Attention.Apply(heads, heads, heads, WithItself(allowed).unsqueeze(1)).squeeze(1);
        return ((x + seen) * real.unsqueeze(-1).to(x.dtype)).MoveToOuterDisposeScope();
    }

    /// <summary>How alike each prompted query is to what is pointed at: [b, queries, width] and [b, width] to [b, queries].</summary>
    public static Tensor Similarity(Tensor queries, Tensor maskPrompt)
    {
        using var scope = NewDisposeScope();
        return queries.matmul(maskPrompt.unsqueeze(-1)).squeeze(-1).MoveToOuterDisposeScope();
    }

    /// <summary>One of every row: [b, queries, …] by [b] int64 to [b, …].</summary>
    public static Tensor Pick(Tensor all, Tensor index)
    {
        using var scope = NewDisposeScope();
        return all[arange(all.shape[0], dtype: ScalarType.Int64, device: all.device), index].MoveToOuterDisposeScope();
    }
}
