using Panoptes.Nn;

namespace Panoptes.Understanding;

/// <summary>
/// Attention to a few learned places around a reference point in maps of several scales (Zhu et al. 2021, Deformable DETR, arXiv:2010.04159), as Mask2Former, OneFormer and
/// Grounding DINO have it. Keys: sampling_offsets, attention_weights, value_proj, output_proj.
/// </summary>
/// <param name="width">Of queries, sources and outputs.</param>
/// <param name="heads">Must divide the width.</param>
/// <param name="levels">How many scales it looks into.</param>
/// <param name="points">How many places in each of them.</param>
/// <exception cref="PanoptesException">The width cannot be divided among the heads.</exception>
public sealed class DeformableAttention(int width, int heads, int levels, int points) : Module
{
    public Linear SamplingOffsets { get; } = new(Nn.Attention.Divisible(width, heads), heads * levels * points * 2L, initializer: Init.Zeros, biasInitializer: Star(heads, levels, points));

    public Linear AttentionWeights { get; } = new(width, heads * levels * points, initializer: Init.Zeros);

    public Linear ValueProj { get; } = new(width, width, initializer: Init.XavierUniform);

    public Linear OutputProj { get; } = new(width, width, initializer: Init.XavierUniform);

    /// <param name="query">[b, queries, width], positions added</param>
    /// <param name="source">[b, keys, width]: the maps' places row by row, one level after the other</param>
    /// <param name="references">Where each query looks, in [0, 1] of a map's width and height: points (x, y) [b or 1, queries, levels or 1, 2], or boxes (x, y, width, height) about their centers
    /// [b or 1, queries, levels or 1, 4], in whose size offsets are counted then; otherwise they count places of the map.</param>
    /// <param name="sizes">Every level's size; together they have all keys.</param>
    /// <param name="padding">[b, keys], true where a place holds nothing; or null.</param>
    /// <returns>[b, queries, width]</returns>
    public Tensor Forward(Tensor query, Tensor source, Tensor references, IReadOnlyList<(int Height, int Width)> sizes, Tensor? padding = null)
    {
        using var scope = NewDisposeScope();
        var (batch, queries) = (query.shape[0], query.shape[1]);
        var value = ValueProj.Forward(source);
        if (padding is not null) value = value.masked_fill(padding.unsqueeze(-1), 0);
        var offsets = SamplingOffsets.Forward(query).view(batch, queries, heads, levels, points, 2);
        var weights = AttentionWeights.Forward(query).view(batch, queries, heads, levels * points).softmax(-1).view(batch, queries, heads, levels, points);
        var around = references.unsqueeze(2).unsqueeze(4);                                        // [b, queries, 1, levels, 1, 2 or 4]
        var steps = references.shape[^1] == 2
            ? tensor(sizes.SelectMany(static s => new[] { (float)s.Width, s.Height }).ToArray(), [1, 1, 1, levels, 1, 2], device: query.device)
            : (2.0 * points) / around.narrow(-1, 2, 2);
        var locations = around.narrow(-1, 0, 2) + offsets / steps;
        return OutputProj.Forward(Apply(value.view(batch, -1, heads, width / heads), sizes, locations, weights)).MoveToOuterDisposeScope();
    }

    /// <summary>The weighted sum of what bilinear interpolation finds at the locations; outside a map there are zeros, and the centers of its places are at (i + 0.5) / size.</summary>
    /// <param name="value">[b, keys, heads, size]: the maps' places row by row, one level after the other</param>
    /// <param name="levels">Every level's size; together they have all keys.</param>
    /// <param name="locations">[b, queries, heads, levels, points, 2], (x, y) in [0, 1] of a level's width and height</param>
    /// <param name="weights">[b, queries, heads, levels, points]</param>
    /// <returns>[b, queries, heads · size]</returns>
    public static Tensor Apply(Tensor value, IReadOnlyList<(int Height, int Width)> levels, Tensor locations, Tensor weights)
    {
        using var scope = NewDisposeScope();
        var (batch, heads, size, queries, dtype) = (value.shape[0], value.shape[2], value.shape[3], locations.shape[1], value.dtype);
        if (dtype is not (ScalarType.Float32 or ScalarType.Float64)) value = value.to(ScalarType.Float32);   // half precision is too coarse for places
        var maps = value.permute(0, 2, 3, 1).reshape(batch * heads, size, -1);                    // [b · heads, size, keys]
        var grids = locations.to(value.dtype).mul(2).sub(1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2);   // [levels, b · heads, queries, points, 2]
        var shares = weights.to(value.dtype).permute(3, 0, 2, 1, 4).flatten(1, 2).unsqueeze(2);   // [levels, b · heads, 1, queries, points]
        Tensor? sum = null;
        for (var (i, start) = (0, 0L); i < levels.Count; start += (long)levels[i].Height * levels[i].Width, i++)
        {
            var (height, width) = levels[i];
            var map = maps.narrow(2, start, (long)height * width).reshape(-1, size, height, width);
            using var seen = nn.functional.grid_sample(map, grids[i], GridSampleMode.Bilinear, GridSamplePaddingMode.Zeros, align_corners: false);   // [b · heads, size, queries, points]
            var part = seen.mul(shares[i]).sum(-1);                                               // [b · heads, size, queries]
            sum = sum is null ? part : sum.add(part);
        }
        return sum!.view(batch, heads * size, queries).transpose(1, 2).to(dtype).MoveToOuterDisposeScope();
    }

    /// <summary>The places' own centers, level by level: what the queries of an encoder over the maps look around.</summary>
    /// <returns>[1, keys, 1, 2], (x, y) in [0, 1]</returns>
    public static Tensor Centers(IReadOnlyList<(int Height, int Width)> levels, Device? device = null)
    {
        using var scope = NewDisposeScope();
        return cat([.. levels.Select(Places)], 0).view(1, -1, 1, 2).MoveToOuterDisposeScope();

        Tensor Places((int Height, int Width) level)
        {
            var (y, x) = (Middles(level.Height), Middles(level.Width));
            return stack([x.view(1, -1).expand(level.Height, level.Width), y.view(-1, 1).expand(level.Height, level.Width)], -1).view(-1, 2);
        }

        Tensor Middles(int count) => arange(count, dtype: ScalarType.Float32, device: device).add(0.5).div(count);
    }

    /// <summary>Training starts with every head looking in a direction of its own, its points one to so many places away.</summary>
    static Initializer Star(int heads, int levels, int points) => (t, _) =>
    {
        var offsets = new float[heads * levels * points * 2];
        for (var i = 0; i < offsets.Length / 2; i++)
        {
            var (sin, cos) = Math.SinCos(2 * Math.PI / heads * (i / (levels * points)));
            var distance = (i % points + 1) / Math.Max(Math.Abs(sin), Math.Abs(cos));
            (offsets[2 * i], offsets[2 * i + 1]) = ((float)(cos * distance), (float)(sin * distance));
        }
        using var values = tensor(offsets);
        t.copy_(values);
    };
}
