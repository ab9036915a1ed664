using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>
/// Soft edges of things, white on black, in the place of HED's (Xie and Tu 2015, arXiv:1504.06375), whose weights do not ship. The classical way: color gradients in CIELAB (Di Zenzo 1986) at four scales; what
/// is strong at fine and at coarse scales counts, so that edges are where the fine ones say and textures fade; and what has as much around it everywhere is held down (Grigorescu et al. 2003).
/// </summary>
public sealed record SoftEdgeCondition : ConditionMaker
{
    /// <summary>Below this, as a perceived difference of colors across an edge, nothing is made visible however faint an image is.</summary>
    const float Faintest = 6;

    /// <summary>How much of what is around holds an edge down, from 0.</summary>
    public double Inhibition { get; init; } = 0.9;

    /// <summary>The share of pixels that are as white as can be, from 0 to 1.</summary>
    public double White { get; init; } = 0.03;

    /// <summary>Whether few shades of gray are left, which tell less of the image's own colors (ControlNet's "safe" edges).</summary>
    public bool Safe { get; init; }

    protected override void Check()
    {
        Require(Inhibition is >= 0 and <= 10, nameof(Inhibition), Inhibition, "0 to 10");
        Require(White is >= 0 and < 1, nameof(White), White, "0 to 1");
    }

    /// <summary>Gray.</summary>
    protected override Image Draw(Image image) => Bounded(image, ResizeFilter.Bilinear, small => Edges(small).Each(v => Safe ? (int)(v / 255 * 3) / 2f * 255 : v).ToImage());

    /// <summary>From 0 to 255.</summary>
    internal Plane Edges(Image image)
    {
        var lab = Lab(image);
        var unit = Unit(image);
        var fine = Mean(Gradient(lab, unit), Gradient(lab, 2 * unit));
        var coarse = Mean(Gradient(lab, 4 * unit), Gradient(lab, 8 * unit));
        var both = Zip(fine, coarse, static (f, c) => MathF.Sqrt(f * c));
        var left = Zip(both, both.Blur(10 * unit, 3), (m, around) => Math.Max(0, m - ((float)Inhibition * around)));
        var white = Math.Max(left.Quantile(1 - White), Faintest);
        return left.Each(v => 255 * Math.Min(1, v / white));

        static Plane Mean(Plane a, Plane b) => Zip(a, b, static (u, v) => (u + v) / 2);
    }

    /// <summary>How many pixels of an image a pixel of one of 512 is.</summary>
    internal static double Unit(Image image) => Math.Max(0.25, Math.Min(image.Width, image.Height) / 512.0);

    /// <summary>How much colors differ across a blurred edge: the step's height, at any scale.</summary>
    static Plane Gradient(Plane[] lab, double sigma)
    {
        sigma = Math.Max(sigma, 0.6);                                                  // a finer blur is none
        var slopes = lab.Select(p => p.Blur(sigma, 3).Sobel()).ToArray();
        // A step of height 1, blurred, has the slope 1 / (σ √2π).
        var scale = (float)(sigma * Math.Sqrt(2 * Math.PI) / 8);
        return Plane.Of(lab[0].Width, lab[0].Height, (y, row) =>
        {
            var to = row.Span;
            to.Clear();
            var (xx, yy, xy) = (new float[to.Length], new float[to.Length], new float[to.Length]);
            foreach (var (sx, sy) in slopes)
            {
                var dx = sx.Row(y);
                var dy = sy.Row(y);
                for (var x = 0; x < to.Length; x++)
                {
                    xx[x] += dx[x] * dx[x];
                    yy[x] += dy[x] * dy[x];
                    xy[x] += dx[x] * dy[x];
                }
            }
            for (var x = 0; x < to.Length; x++) to[x] = scale * MathF.Sqrt((xx[x] + yy[x] + MathF.Sqrt(((xx[x] - yy[x]) * (xx[x] - yy[x])) + (4 * xy[x] * xy[x]))) / 2);
        });
    }

    internal static Plane Zip(Plane a, Plane b, Func<float, float, float> of) => Plane.Of(a.Width, a.Height, (y, row) =>
    {
        var u = a.Row(y);
        var v = b.Row(y);
        var to = row.Span;
        for (var x = 0; x < to.Length; x++) to[x] = of(u[x], v[x]);
    });

    /// <summary>CIELAB under daylight, of an sRGB image: L from 0 to 100.</summary>
    static Plane[] Lab(Image image)
    {
        var (l, a, b) = (new Plane(image.Width, image.Height), new Plane(image.Width, image.Height), new Plane(image.Width, image.Height));
        var linear = new float[256];
        for (var v = 0; v < 256; v++) linear[v] = (float)(v <= 10 ? v / 255.0 / 12.92 : Math.Pow(((v / 255.0) + 0.055) / 1.055, 2.4));
        Parallel.For(0, image.Height, y =>
        {
            var row = image.Row(y);
            var rowL = l.Row(y);
            var rowA = a.Row(y);
            var rowB = b.Row(y);
            for (var x = 0; x < image.Width; x++)
            {
                var (red, green, blue) = (linear[row[3 * x]], linear[row[(3 * x) + 1]], linear[row[(3 * x) + 2]]);
                var (fx, fy, fz) = (F(((0.4124564f * red) + (0.3575761f * green) + (0.1804375f * blue)) / 0.95047f), F((0.2126729f * red) + (0.7151522f * green) + (0.0721750f * blue)), F(((0.0193339f * red) + (0.1191920f * green) + (0.9503041f * blue)) / 1.08883f));
                (rowL[x], rowA[x], rowB[x]) = ((116 * fy) - 16, 500 * (fx - fy), 200 * (fy - fz));
            }
        });
        return [l, a, b];

        static float F(float t) => t > 0.008856f ? MathF.Cbrt(t) : (7.787f * t) + (16f / 116);
    }
}
