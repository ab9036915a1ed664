using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>
/// A line drawing, white on black: coherent lines (Kang et al. 2007). Where brightness falls is felt across the edges by a difference of two blurs, then along them, so that lines run on and speckles
/// vanish; the dark side of an edge is drawn. Stands for the network that ControlNet's line art is drawn by.
/// </summary>
public sealed record LineArtCondition : ConditionMaker
{
    /// <summary>How thick lines are: the narrower blur across them, in pixels of an image of 512.</summary>
    public double Width { get; init; } = 1;

    /// <summary>How far lines are followed: the blur along them, in pixels of an image of 512.</summary>
    public double Coherence { get; init; } = 3;

    /// <summary>How soon a line is white.</summary>
    public double Strength { get; init; } = 1;

    protected override void Check()
    {
        Require(Width is >= 0.2 and <= 10, nameof(Width), Width, "0.2 to 10");
        Require(Coherence is >= 0.2 and <= 20, nameof(Coherence), Coherence, "0.2 to 20");
        Require(Strength is > 0 and <= 100, nameof(Strength), Strength, "more than 0, to 100");
    }

    /// <summary>Gray.</summary>
    protected override Image Draw(Image image) => Bounded(image, ResizeFilter.Bilinear, small =>
    {
        var unit = Math.Min(SoftEdgeCondition.Unit(small), 4);
        var gray = Plane.Gray(small);
        var (across, along) = Directions(gray, 2 * unit);
        var (narrow, wide) = (Width * unit, 1.6 * Width * unit);
        var (inner, outer) = (Weights(narrow, wide), Weights(wide, wide));
        var felt = Plane.Of(gray.Width, gray.Height, (y, row) =>
        {
            var to = row.Span;
            for (var x = 0; x < to.Length; x++)
            {
                var (dx, dy) = (across.X.Values[(y * to.Length) + x], across.Y.Values[(y * to.Length) + x]);
                var (sum, radius) = (0f, inner.Length / 2);
                for (var k = -radius; k <= radius; k++) sum += (outer[k + radius] - inner[k + radius]) * gray.At(x + (k * dx), y + (k * dy));
                to[x] = sum;                                                           // above 0 where it is darker than around
            }
        });
        var smooth = Weights(Coherence * unit, Coherence * unit);
        return Plane.Of(gray.Width, gray.Height, (y, row) =>
        {
            var to = row.Span;
            for (var x = 0; x < to.Length; x++)
            {
                var (radius, sum) = (smooth.Length / 2, smooth[smooth.Length / 2] * felt.Values[(y * to.Length) + x]);
                foreach (var side in (ReadOnlySpan<int>)[-1, 1])
                {
                    // Both ways along the line, which has no direction of its own.
                    var (u, v, lastX, lastY) = ((float)x, (float)y, 0f, 0f);
                    for (var k = 1; k <= radius; k++)
                    {
                        var at = ((int)Math.Clamp(v + 0.5f, 0, gray.Height - 1) * to.Length) + (int)Math.Clamp(u + 0.5f, 0, to.Length - 1);
                        var (dx, dy) = (along.X.Values[at], along.Y.Values[at]);
                        if (k == 1) (dx, dy) = (side * dx, side * dy);
                        else if ((dx * lastX) + (dy * lastY) < 0) (dx, dy) = (-dx, -dy);
                        (u, v, lastX, lastY) = (u + dx, v + dy, dx, dy);
                        sum += smooth[radius + k] * felt.At(u, v);
                    }
                }
                to[x] = 255 * MathF.Tanh(Math.Max(0, (sum - 0.5f) * (float)Strength / 2.5f));
            }
        }).ToImage();
    });

    /// <summary>The unit vectors across and along the edges, by the structure tensor.</summary>
    static ((Plane X, Plane Y) Across, (Plane X, Plane Y) Along) Directions(Plane gray, double sigma)
    {
        var (dx, dy) = gray.Blur(1).Sobel();
        var (xx, yy, xy) = (SoftEdgeCondition.Zip(dx, dx, static (a, b) => a * b).Blur(sigma, 3), SoftEdgeCondition.Zip(dy, dy, static (a, b) => a * b).Blur(sigma, 3), SoftEdgeCondition.Zip(dx, dy, static (a, b) => a * b).Blur(sigma, 3));
        var (cos, sin) = (new Plane(gray.Width, gray.Height), new Plane(gray.Width, gray.Height));
        Parallel.For(0, gray.Height, y =>
        {
            var a = xx.Row(y);
            var b = xy.Row(y);
            var c = yy.Row(y);
            var u = cos.Row(y);
            var v = sin.Row(y);
            for (var x = 0; x < u.Length; x++) (v[x], u[x]) = MathF.SinCos(0.5f * MathF.Atan2(2 * b[x], a[x] - c[x]));
        });
        return ((cos, sin), (sin.Each(static s => -s), cos));
    }

    /// <summary>A normal distribution over whole steps that add up to 1, out to two and a half deviations of the wider one.</summary>
    static float[] Weights(double sigma, double widest)
    {
        var radius = Math.Max(1, (int)Math.Ceiling(2.5 * widest));
        var weights = Enumerable.Range(-radius, (2 * radius) + 1).Select(k => Math.Exp(-k * (double)k / (2 * sigma * sigma))).ToArray();
        var sum = weights.Sum();
        return [.. weights.Select(w => (float)(w / sum))];
    }
}
