using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

/// <summary>torchvision's color operations, written out for one pixel at a time in double precision (transforms/v2/functional/_color.py and _misc.py).</summary>
public sealed class ColorOpsTests
{
    const int Count = 101;                                                             // not a multiple of a vector's length

    readonly float[] red = Random(1), green = Random(2), blue = Random(3);

    static float[] Random(int seed)
    {
        var random = new SampleRandom((ulong)seed, 0, 0);
        var values = new float[Count];
        for (var i = 0; i < Count; i++) values[i] = i % 10 == 0 ? 0.5f : i % 17 == 0 ? 0 : random.NextFloat();
        return values;
    }

    static double Gray(double r, double g, double b) => (0.2989 * r) + (0.587 * g) + (0.114 * b);

    static double Clamp(double v) => Math.Clamp(v, 0, 1);

    void Check(Action<float[], float[], float[]> ours, Func<double, double, double, (double, double, double)> theirs)
    {
        var (r, g, b) = (red.ToArray(), green.ToArray(), blue.ToArray());
        ours(r, g, b);
        for (var i = 0; i < Count; i++)
        {
            var (er, eg, eb) = theirs(red[i], green[i], blue[i]);
            Assert.Equal(er, r[i], 2e-6);
            Assert.Equal(eg, g[i], 2e-6);
            Assert.Equal(eb, b[i], 2e-6);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0.4f)]
    [InlineData(1)]
    [InlineData(1.9f)]
    public void Brightness_contrast_and_saturation_blend_with_black_the_mean_gray_and_the_gray(float factor)
    {
        Check((r, g, b) => ColorOps.AdjustBrightness(r, g, b, factor), (r, g, b) => (Clamp(r * factor), Clamp(g * factor), Clamp(b * factor)));
        var mean = Enumerable.Range(0, Count).Average(i => Gray(red[i], green[i], blue[i]));
        double Blend(double v, double with) => Clamp((v * factor) + ((1 - factor) * with));
        Check((r, g, b) => ColorOps.AdjustContrast(r, g, b, factor), (r, g, b) => (Blend(r, mean), Blend(g, mean), Blend(b, mean)));
        Check((r, g, b) => ColorOps.AdjustSaturation(r, g, b, factor), (r, g, b) => (Blend(r, Gray(r, g, b)), Blend(g, Gray(r, g, b)), Blend(b, Gray(r, g, b))));
    }

    [Theory]
    [InlineData(-0.5f)]
    [InlineData(-0.1f)]
    [InlineData(0)]
    [InlineData(0.25f)]
    [InlineData(0.5f)]
    public void Hue_turns_by_the_six_cases_of_HSV(float shift) => Check((r, g, b) => ColorOps.AdjustHue(r, g, b, shift), (r, g, b) =>
    {
        var (max, min) = (Math.Max(r, Math.Max(g, b)), Math.Min(r, Math.Min(g, b)));
        var range = max - min;
        var saturation = range / (max == min ? 1 : max);
        var divisor = max == min ? 1 : range;
        var (rc, gc, bc) = ((max - r) / divisor, (max - g) / divisor, (max - b) / divisor);
        var hue = max == r ? bc - gc : max == g ? 2 + rc - bc : 4 + gc - rc;
        hue = ((hue / 6) + 1 + shift) % 1;
        var sector = Math.Floor(hue * 6);
        var f = (hue * 6) - sector;
        var (p, q, t) = (Clamp(max * (1 - saturation)), Clamp(max * (1 - (saturation * f))), Clamp(max * (1 - (saturation * (1 - f)))));
        return ((int)sector % 6) switch
        {
            0 => (max, t, p),
            1 => (q, max, p),
            2 => (p, max, t),
            3 => (p, q, max),
            4 => (t, p, max),
            _ => (max, p, q),
        };
    });

    [Theory]
    [InlineData(3, 0.4f)]
    [InlineData(7, 1.5f)]
    public void Blur_is_the_convolution_with_a_Gaussian_mirrored_at_the_edges(int size, float sigma)
    {
        const int Width = 13, Height = 9;
        Span<float> kernel = stackalloc float[size];
        ColorOps.GaussianKernel(kernel, sigma);
        double[] weights = [.. Enumerable.Range(0, size).Select(i => Math.Exp(-0.5 * Math.Pow((i - (size / 2)) / (double)sigma, 2)))];
        var plane = new float[Width * Height];
        var random = new SampleRandom(5, 0, 0);
        foreach (ref var v in plane.AsSpan()) v = random.NextFloat();
        var blurred = plane.ToArray();
        ColorOps.Blur(blurred, Width, Height, kernel, new float[plane.Length + Width + (4 * size)]);
        for (var y = 0; y < Height; y++)
        {
            for (var x = 0; x < Width; x++)
            {
                var sum = 0.0;
                for (var j = 0; j < size; j++)
                    for (var i = 0; i < size; i++) sum += weights[j] * weights[i] * plane[(Mirror(y + j - (size / 2), Height) * Width) + Mirror(x + i - (size / 2), Width)];
                Assert.Equal(sum / Math.Pow(weights.Sum(), 2), blurred[(y * Width) + x], 1e-6);
            }
        }

        static int Mirror(int i, int n) => i < 0 ? -i : i >= n ? (2 * (n - 1)) - i : i;
    }

    [Fact]
    public void Normalizing_subtracts_the_mean_and_divides_by_the_deviation()
    {
        var plane = red.ToArray();
        ColorOps.Normalize(plane, 0.4f, 0.25f);
        for (var i = 0; i < Count; i++) Assert.Equal((red[i] - 0.4) / 0.25, plane[i], 2e-6);
    }
}
