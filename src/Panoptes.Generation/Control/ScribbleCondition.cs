using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>
/// Thick strokes, white on black, as if scribbled by hand: soft edges (<see cref="SoftEdgeCondition"/>) are blurred, thinned by leaving out all but the highest across any of four directions, blurred again and cut off,
/// as ControlNet's code synthesizes scribbles. With a seed, threshold and thickness change and some strokes are left out, as its training does.
/// </summary>
public sealed record ScribbleCondition : ConditionMaker
{
    /// <summary>Blurred soft edges above this become strokes, from 0 to 255.</summary>
    public double Threshold { get; init; } = 70;

    /// <summary>How far edges are blurred before they are thinned, and strokes before they are cut off, in pixels of an image of 512.</summary>
    public double Sigma { get; init; } = 3;

    /// <summary>Draws threshold, thickness and which strokes are left out; null: nothing is.</summary>
    public ulong? Seed { get; init; }

    /// <summary>The share of strokes that are left out at most, with a seed.</summary>
    public double LeftOut { get; init; } = 0.4;

    protected override void Check()
    {
        Require(Threshold is >= 0 and <= 255, nameof(Threshold), Threshold, "0 to 255");
        Require(Sigma is >= 0.5 and <= 50, nameof(Sigma), Sigma, "0.5 to 50");
        Require(LeftOut is >= 0 and <= 1, nameof(LeftOut), LeftOut, "0 to 1");
    }

    /// <summary>Gray: 255 where a stroke is.</summary>
    protected override Image Draw(Image image) => Bounded(image, ResizeFilter.Nearest, small =>
    {
        var (threshold, sigma) = (Threshold, Sigma * SoftEdgeCondition.Unit(small));
        var random = new SampleRandom(Seed ?? 0, 0, 0);
        var (thickness, share) = (1.0, 0.0);
        if (Seed is not null) (threshold, thickness, share) = (threshold * random.Next(0.6f, 1.4f), random.Next(0.4f, 1.2f), LeftOut * random.NextFloat());
        var thin = Thinned(new SoftEdgeCondition().Edges(small), sigma).Each(v => v > threshold ? 255 : 0);
        if (share > 0) LeaveOut(thin, share, ref random);
        return thin.Blur(sigma * thickness, 3).Each(static v => v > 4 ? 255 : 0).ToImage();
    });

    /// <summary>Blurred, and 0 wherever it is not the highest of three pixels across any of four directions.</summary>
    internal static Plane Thinned(Plane edges, double sigma)
    {
        var blurred = edges.Blur(sigma);
        var (width, height) = (blurred.Width, blurred.Height);
        return Plane.Of(width, height, (y, row) =>
        {
            var to = row.Span;
            for (var x = 0; x < width; x++)
            {
                var v = Of(x, y);
                if ((v >= Of(x - 1, y) && v >= Of(x + 1, y)) || (v >= Of(x, y - 1) && v >= Of(x, y + 1)) || (v >= Of(x - 1, y - 1) && v >= Of(x + 1, y + 1)) || (v >= Of(x + 1, y - 1) && v >= Of(x - 1, y + 1))) to[x] = v;
            }

            float Of(int u, int w) => (uint)u < (uint)width && (uint)w < (uint)height ? blurred.Values[(w * width) + u] : 0;
        });
    }

    /// <summary>Blackens some strokes.</summary>
    static void LeaveOut(Plane strokes, double share, ref SampleRandom random)
    {
        var parts = ConnectedComponents.Of([.. strokes.Values.Select(static v => v > 0 ? (byte)1 : (byte)0)], strokes.Height, strokes.Width, diagonal: true);
        var gone = new bool[parts.Components.Count + 1];
        for (var i = 1; i < gone.Length; i++) gone[i] = random.Chance((float)share);
        for (var i = 0; i < parts.Labels.Length; i++)
            if (gone[parts.Labels[i]]) strokes.Values[i] = 0;
    }
}

/// <summary>Thin strokes along the strongest edges, white on black, as a draftsman begins and as T2I-Adapter's sketches are (Mou et al. 2023, arXiv:2302.08453), whose edges are PidiNet's: soft edges, thinned; weak ones where they go on from strong ones.</summary>
public sealed record SketchCondition : ConditionMaker
{
    /// <summary>Soft edges above this are drawn, from 0 to 255.</summary>
    public double High { get; init; } = 128;

    /// <summary>Soft edges above this are drawn where they go on from those.</summary>
    public double Low { get; init; } = 50;

    protected override void Check()
    {
        Require(High is >= 0 and <= 255, nameof(High), High, "0 to 255");
        Require(Low >= 0 && Low <= High, nameof(Low), Low, $"0 to {High}");
    }

    /// <summary>Gray: 255 where a stroke is.</summary>
    protected override Image Draw(Image image) => Bounded(image, ResizeFilter.Nearest, small =>
    {
        var edges = new SoftEdgeCondition().Edges(small).Blur(SoftEdgeCondition.Unit(small));
        var (width, height, (dx, dy)) = (edges.Width, edges.Height, edges.Blur(1.5 * SoftEdgeCondition.Unit(small)).Sobel());
        var ridge = Ridge(edges, dx, dy);
        var parts = ConnectedComponents.Of([.. ridge.Values.Select(v => v > Low ? (byte)1 : (byte)0)], height, width, diagonal: true);
        var strong = new bool[parts.Components.Count + 1];
        for (var i = 0; i < ridge.Values.Length; i++)
            if (ridge.Values[i] > High) strong[parts.Labels[i]] = true;
        var sketch = new Image(width, height, 1);
        for (var i = 0; i < sketch.Pixels.Length; i++) sketch.Pixels[i] = parts.Labels[i] > 0 && strong[parts.Labels[i]] ? (byte)255 : (byte)0;
        return sketch;
    });

    /// <summary>Where a plane is the highest across its ridge, whose direction is that in which the slope turns least; 0 elsewhere.</summary>
    static Plane Ridge(Plane edges, Plane dx, Plane dy)
    {
        var ((xx, xy), (_, yy)) = (dx.Sobel(), dy.Sobel());
        return Plane.Of(edges.Width, edges.Height, (y, row) =>
        {
            var to = row.Span;
            var a = xx.Row(y);
            var b = xy.Row(y);
            var c = yy.Row(y);
            for (var x = 0; x < to.Length; x++)
            {
                // Across the ridge the surface bends down most: the eigenvector of the smallest eigenvalue.
                var angle = (0.5f * MathF.Atan2(2 * b[x], a[x] - c[x])) + (MathF.PI / 2);
                var (sin, cos) = MathF.SinCos(angle);
                var v = edges.Values[(y * to.Length) + x];
                if (v > 0 && v >= edges.At(x + cos, y + sin) && v > edges.At(x - cos, y - sin)) to[x] = v;
            }
        });
    }
}
