using System.Numerics.Tensors;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>One number for every pixel, row by row, and the filters that conditions are made with. All of them see the image mirrored beyond its border, the border pixel once.</summary>
/// <param name="width">Pixels a row.</param>
/// <param name="height">Rows.</param>
sealed class Plane(int width, int height)
{
    public int Width => width;

    public int Height => height;

    public float[] Values { get; } = new float[width * height];

    public Span<float> Row(int y) => Values.AsSpan(y * width, width);

    /// <summary>What <paramref name="of"/> makes of rows, on all cores.</summary>
    public static Plane Of(int width, int height, Action<int, Memory<float>> of)
    {
        var plane = new Plane(width, height);
        Parallel.For(0, height, y => of(y, plane.Values.AsMemory(y * width, width)));
        return plane;
    }

    /// <summary>A value of every pixel's value.</summary>
    public Plane Each(Func<float, float> of) => Of(width, height, (y, row) =>
    {
        var from = Row(y);
        var to = row.Span;
        for (var x = 0; x < to.Length; x++) to[x] = of(from[x]);
    });

    /// <summary>The image's luma, 0 to 255 (<see cref="Image.ToGray"/>).</summary>
    public static Plane Gray(Image image)
    {
        var gray = image.ToGray();
        return Of(gray.Width, gray.Height, (y, row) => TensorPrimitives.ConvertTruncating<byte, float>(gray.Row(y), row.Span));
    }

    /// <summary>Rounded to whole numbers from 0 to 255.</summary>
    public Image ToImage()
    {
        var image = new Image(width, height, 1);
        for (var i = 0; i < Values.Length; i++) image.Pixels[i] = (byte)Math.Clamp(MathF.Round(Values[i]), 0, 255);
        return image;
    }

    /// <summary>Blurred by a normal distribution, out to <paramref name="reach"/> deviations (OpenCV: 4 for floating numbers, 3 for bytes).</summary>
    public Plane Blur(double sigma, double reach = 4)
    {
        var radius = Math.Max(1, ((int)Math.Round((sigma * reach * 2) + 1) | 1) / 2);
        var weights = new float[(2 * radius) + 1];
        for (var i = 0; i < weights.Length; i++) weights[i] = (float)Math.Exp(-(i - radius) * (double)(i - radius) / (2 * sigma * sigma));
        var sum = weights.Sum();
        for (var i = 0; i < weights.Length; i++) weights[i] /= sum;
        return Of(width, height, (y, row) =>
        {
            // Down the columns into a row with its mirrored ends, then along it.
            var padded = new float[width + (2 * radius)];
            var middle = padded.AsSpan(radius, width);
            for (var i = 0; i < weights.Length; i++) TensorPrimitives.MultiplyAdd(Row(Mirrored(y + i - radius, height)), weights[i], middle, middle);
            for (var i = 1; i <= radius; i++) (padded[radius - i], padded[radius + width - 1 + i]) = (middle[Mirrored(-i, width)], middle[Mirrored(width - 1 + i, width)]);
            var to = row.Span;
            for (var i = 0; i < weights.Length; i++) TensorPrimitives.MultiplyAdd(padded.AsSpan(i, width), weights[i], to, to);
        });
    }

    /// <summary>Sobel's differences to the right and down: eight times the slope.</summary>
    public (Plane X, Plane Y) Sobel()
    {
        var down = new Plane(width, height);
        var right = Of(width, height, (y, row) =>
        {
            var above = Row(Mirrored(y - 1, height));
            var at = Row(y);
            var below = Row(Mirrored(y + 1, height));
            var dx = row.Span;
            var dy = down.Row(y);
            for (var x = 0; x < width; x++)
            {
                var (l, r) = (Mirrored(x - 1, width), Mirrored(x + 1, width));
                dx[x] = above[r] - above[l] + (2 * (at[r] - at[l])) + below[r] - below[l];
                dy[x] = below[l] - above[l] + (2 * (below[x] - above[x])) + below[r] - above[r];
            }
        });
        return (right, down);
    }

    /// <summary>The value between pixels, of places within the plane; what lies beyond is the border's.</summary>
    public float At(float x, float y)
    {
        (x, y) = (Math.Clamp(x, 0, width - 1), Math.Clamp(y, 0, height - 1));
        var (x0, y0) = ((int)x, (int)y);
        var (x1, y1, fx, fy) = (Math.Min(x0 + 1, width - 1), Math.Min(y0 + 1, height - 1), x - x0, y - y0);
        var (upper, lower) = (y0 * width, y1 * width);
        var (above, below) = (Values[upper + x0] + (fx * (Values[upper + x1] - Values[upper + x0])), Values[lower + x0] + (fx * (Values[lower + x1] - Values[lower + x0])));
        return above + (fy * (below - above));
    }

    /// <summary>The value below which a share of all values lies, to within a thousandth of the largest.</summary>
    public float Quantile(double share)
    {
        var most = TensorPrimitives.Max<float>(Values);
        if (most <= 0) return most;
        var counts = new long[1001];
        foreach (var value in Values) counts[(int)(Math.Max(value, 0) / most * 1000)]++;
        var (bin, seen) = (0, counts[0]);
        while (seen < share * Values.Length && bin < 1000) seen += counts[++bin];
        return bin / 1000f * most;
    }

    /// <summary>A position mirrored into 0 to <paramref name="count"/> - 1, as often as it takes.</summary>
    static int Mirrored(int at, int count)
    {
        if (count == 1) return 0;
        var period = 2 * (count - 1);
        at = ((at % period) + period) % period;
        return at < count ? at : period - at;
    }
}
