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

    [Theory]
    [InlineData(7, 5, 1, 0.3f)]
    [InlineData(19, 6, 0.7f, 0.8f)]
    [InlineData(1, 1, 1, 0.1f)]
    public void Ink_darkens_by_the_largest_change_of_a_channel_among_the_neighbors(int width, int height, float strength, float threshold)
    {
        var image = Image(width, height);
        var inked = image.ToArray();
        ColorOps.Ink(inked, width, height, strength, threshold, new float[5 * width * height]);
        for (var y = 0; y < height; y++)
            for (var x = 0; x < width; x++)
            {
                var change = Enumerable.Range(0, 3).Max(c =>
                {
                    var near = (from v in Enumerable.Range(y - 1, 3) from u in Enumerable.Range(x - 1, 3) where u >= 0 && v >= 0 && u < width && v < height select image[(((c * height) + v) * width) + u]).ToArray();
                    return (double)near.Max() - near.Min();
                });
                var light = 1 - (strength * Clamp((2 * change / threshold) - 1));
                for (var c = 0; c < 3; c++) Assert.Equal(image[(((c * height) + y) * width) + x] * light, inked[(((c * height) + y) * width) + x], 3e-6);
            }
    }

    [Theory]
    [InlineData(7, 5, 1, 1)]
    [InlineData(19, 6, 3, 0.4f)]
    [InlineData(4, 3, 5, 0.9f)]
    [InlineData(9, 9, 3, 0)]
    public void A_filter_sees_all_channels_and_the_edge_goes_on(int width, int height, int side, float mix)
    {
        var (image, random) = (Image(width, height), new SampleRandom(9, 0, 0));
        var kernel = new float[9 * side * side];
        for (var i = 0; i < kernel.Length; i++) kernel[i] = random.Next(-1f, 1f);
        var filtered = image.ToArray();
        ColorOps.Convolve(filtered, width, height, kernel, side, mix, new float[3 * ((width * height) + ((width + side) * (height + side)))]);
        for (var o = 0; o < 3; o++)
            for (var y = 0; y < height; y++)
                for (var x = 0; x < width; x++)
                {
                    var sum = 0.0;
                    for (var c = 0; c < 3; c++)
                        for (var j = 0; j < side; j++)
                            for (var i = 0; i < side; i++)
                                sum += (double)kernel[(((((o * 3) + c) * side) + j) * side) + i]
                                    * image[(((c * height) + Math.Clamp(y + j - (side / 2), 0, height - 1)) * width) + Math.Clamp(x + i - (side / 2), 0, width - 1)];
                    var at = (((o * height) + y) * width) + x;
                    Assert.Equal((mix * sum) + ((1 - mix) * image[at]), filtered[at], 2e-5);
                }
    }

    static float[] Image(int width, int height)
    {
        var random = new SampleRandom(5, 0, 0);
        var image = new float[3 * width * height];
        for (var i = 0; i < image.Length; i++) image[i] = random.NextFloat();
        return image;
    }
}
