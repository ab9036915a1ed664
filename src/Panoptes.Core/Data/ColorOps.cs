using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace Panoptes.Data;

/// <summary>
/// torchvision's color operations on float images in [0, 1] (transforms/v2/functional/_color.py and _misc.py), over three planes in
/// place. Results are clamped to [0, 1] after each, as there.
/// </summary>
public static class ColorOps
{
    const float RedWeight = 0.2989f, GreenWeight = 0.587f, BlueWeight = 0.114f;

    /// <summary>Multiplies every value by <paramref name="factor"/>.</summary>
    public static void AdjustBrightness(Span<float> red, Span<float> green, Span<float> blue, float factor)
    {
        Scale(red, factor, 0);
        Scale(green, factor, 0);
        Scale(blue, factor, 0);
    }

    /// <summary>Blends with the mean gray of the image: 0 gives gray, 1 the image.</summary>
    public static void AdjustContrast(Span<float> red, Span<float> green, Span<float> blue, float factor)
    {
        var mean = ((RedWeight * Sum(red)) + (GreenWeight * Sum(green)) + (BlueWeight * Sum(blue))) / red.Length;
        Scale(red, factor, (1 - factor) * mean);
        Scale(green, factor, (1 - factor) * mean);
        Scale(blue, factor, (1 - factor) * mean);
    }

    /// <summary>Blends with the gray of each pixel: 0 gives a gray image, 1 the image.</summary>
    public static void AdjustSaturation(Span<float> red, Span<float> green, Span<float> blue, float factor)
    {
        var r = Vectors(red);
        var g = Vectors(green);
        var b = Vectors(blue);
        for (var i = 0; i < r.Length; i++)
        {
            var gray = ((RedWeight * r[i]) + (GreenWeight * g[i]) + (BlueWeight * b[i])) * (1 - factor);
            (r[i], g[i], b[i]) = (Clamp((r[i] * factor) + gray), Clamp((g[i] * factor) + gray), Clamp((b[i] * factor) + gray));
        }
        for (var i = r.Length * Vector<float>.Count; i < red.Length; i++)
        {
            var gray = ((RedWeight * red[i]) + (GreenWeight * green[i]) + (BlueWeight * blue[i])) * (1 - factor);
            (red[i], green[i], blue[i]) = (Clamp((red[i] * factor) + gray), Clamp((green[i] * factor) + gray), Clamp((blue[i] * factor) + gray));
        }
    }

    /// <summary>Turns the hue by <paramref name="shift"/> of the color circle, -0.5 to 0.5, through HSV.</summary>
    public static void AdjustHue(Span<float> red, Span<float> green, Span<float> blue, float shift)
    {
        var r = Vectors(red);
        var g = Vectors(green);
        var b = Vectors(blue);
        for (var i = 0; i < r.Length; i++) (r[i], g[i], b[i]) = Hue(r[i], g[i], b[i], shift);
        var rest = r.Length * Vector<float>.Count;
        if (rest == red.Length) return;
        Span<float> tail = stackalloc float[3 * Vector<float>.Count];
        var count = red.Length - rest;
        red[rest..].CopyTo(tail);
        green[rest..].CopyTo(tail[Vector<float>.Count..]);
        blue[rest..].CopyTo(tail[(2 * Vector<float>.Count)..]);
        var (tr, tg, tb) = Hue(new(tail), new(tail[Vector<float>.Count..]), new(tail[(2 * Vector<float>.Count)..]), shift);
        for (var i = 0; i < count; i++) (red[rest + i], green[rest + i], blue[rest + i]) = (tr[i], tg[i], tb[i]);
    }

    /// <summary>Weights of a Gaussian of <paramref name="sigma"/> pixels, which add up to one.</summary>
    public static void GaussianKernel(Span<float> kernel, float sigma)
    {
        var (half, sum) = ((kernel.Length - 1) / 2f, 0f);
        for (var i = 0; i < kernel.Length; i++) sum += kernel[i] = MathF.Exp(-0.5f * (i - half) * (i - half) / (sigma * sigma));
        for (var i = 0; i < kernel.Length; i++) kernel[i] /= sum;
    }

    /// <summary>Convolves a plane with <paramref name="kernel"/> along rows, then columns; edges are mirrored without repeating the last pixel.</summary>
    /// <param name="plane">[height, width], changed in place.</param>
    /// <param name="width">Pixels a row, more than half the kernel.</param>
    /// <param name="height">Rows, more than half the kernel.</param>
    /// <param name="kernel">An odd number of weights.</param>
    /// <param name="scratch">At least plane + width + kernel floats.</param>
    public static void Blur(Span<float> plane, int width, int height, ReadOnlySpan<float> kernel, Span<float> scratch)
    {
        var half = kernel.Length / 2;
        var line = scratch.Slice(plane.Length, width + (2 * half));
        for (var y = 0; y < height; y++)
        {
            var row = plane.Slice(y * width, width);
            row.CopyTo(line[half..]);
            for (var i = 1; i <= half; i++) (line[half - i], line[half + width - 1 + i]) = (row[i], row[width - 1 - i]);
            var target = scratch.Slice(y * width, width);
            target.Clear();
            for (var k = 0; k < kernel.Length; k++) Accumulate(target, line.Slice(k, width), kernel[k]);
        }
        for (var y = 0; y < height; y++)
        {
            var target = plane.Slice(y * width, width);
            target.Clear();
            for (var k = 0; k < kernel.Length; k++)
            {
                var from = Math.Abs(y + k - half);
                if (from >= height) from = (2 * (height - 1)) - from;
                Accumulate(target, scratch.Slice(from * width, width), kernel[k]);
            }
        }
    }

    /// <summary>
    /// Draws dark lines where colors change: every pixel is darkened by how much the channel that changes most does so within the three by
    /// three pixels around it. No change up to half of <paramref name="threshold"/> shows, from there to the whole of it the line fades in.
    /// </summary>
    /// <param name="image">[3, height, width] in [0, 1], changed in place.</param>
    /// <param name="width">Pixels a row.</param>
    /// <param name="height">Rows.</param>
    /// <param name="strength">1: full lines are black; 0: nothing happens.</param>
    /// <param name="threshold">The change that gets a full line, above 0.</param>
    /// <param name="scratch">At least 5 * width * height floats.</param>
    public static void Ink(Span<float> image, int width, int height, float strength, float threshold, Span<float> scratch)
    {
        var plane = width * height;
        var change = scratch[..plane];
        var low = scratch.Slice(plane, plane);
        var high = scratch.Slice(2 * plane, plane);
        change.Clear();
        for (var c = 0; c < 3; c++)
        {
            var values = image.Slice(c * plane, plane);
            for (var y = 0; y < height; y++)
            {
                var row = values.Slice(y * width, width);
                var least = low.Slice(y * width, width);
                var most = high.Slice(y * width, width);
                row.CopyTo(least);
                row.CopyTo(most);
                foreach (var (from, to) in (ReadOnlySpan<(Range, Range)>)[(1.., ..^1), (..^1, 1..)])
                {
                    TensorPrimitives.Min(least[to], row[from], least[to]);
                    TensorPrimitives.Max(most[to], row[from], most[to]);
                }
            }
            var least3 = scratch.Slice(3 * plane, width);
            var most3 = scratch.Slice((3 * plane) + width, width);
            for (var y = 0; y < height; y++)
            {
                low.Slice(y * width, width).CopyTo(least3);
                high.Slice(y * width, width).CopyTo(most3);
                foreach (var near in (ReadOnlySpan<int>)[y - 1, y + 1])
                {
                    if ((uint)near >= (uint)height) continue;
                    TensorPrimitives.Min(least3, low.Slice(near * width, width), least3);
                    TensorPrimitives.Max(most3, high.Slice(near * width, width), most3);
                }
                TensorPrimitives.Subtract(most3, least3, most3);
                TensorPrimitives.Max(change.Slice(y * width, width), most3, change.Slice(y * width, width));
            }
        }
        // 1 - strength * clamp(2 change / threshold - 1, 0, 1)
        TensorPrimitives.Multiply(change, -2 * strength / threshold, change);
        TensorPrimitives.Add(change, 1 + strength, change);
        TensorPrimitives.Clamp(change, 1 - strength, 1, change);
        for (var c = 0; c < 3; c++) TensorPrimitives.Multiply(image.Slice(c * plane, plane), change, image.Slice(c * plane, plane));
    }

    /// <summary>Mixes an image with what a linear filter over all channels makes of it; edges are continued.</summary>
    /// <param name="image">[3, height, width], changed in place.</param>
    /// <param name="width">Pixels a row.</param>
    /// <param name="height">Rows.</param>
    /// <param name="kernel">[3 out, 3 in, side, side]</param>
    /// <param name="side">Odd.</param>
    /// <param name="mix">The share of the filtered image.</param>
    /// <param name="scratch">At least 3 * width * height + 3 * (width + side) * (height + side) floats.</param>
    public static void Convolve(Span<float> image, int width, int height, ReadOnlySpan<float> kernel, int side, float mix, Span<float> scratch)
    {
        var (plane, half, stride) = (width * height, side / 2, width + side - 1);
        var padded = stride * (height + side - 1);
        var result = scratch[..(3 * plane)];
        var source = scratch.Slice(3 * plane, 3 * padded);
        for (var c = 0; c < 3; c++)
            for (var y = 0; y < height + side - 1; y++)
            {
                var from = image.Slice((c * plane) + (Math.Clamp(y - half, 0, height - 1) * width), width);
                var to = source.Slice((c * padded) + (y * stride), stride);
                to[..half].Fill(from[0]);
                from.CopyTo(to[half..]);
                to[(half + width)..].Fill(from[^1]);
            }
        result.Clear();
        for (var o = 0; o < 3; o++)
            for (var y = 0; y < height; y++)
            {
                var target = result.Slice((o * plane) + (y * width), width);
                for (var c = 0; c < 3; c++)
                    for (var dy = 0; dy < side; dy++)
                        for (var dx = 0; dx < side; dx++)
                            Accumulate(target, source.Slice((c * padded) + ((y + dy) * stride) + dx, width), kernel[(((((o * 3) + c) * side) + dy) * side) + dx]);
            }
        TensorPrimitives.Multiply(image, 1 - mix, image);
        Accumulate(image, result, mix);
    }

    /// <summary>Subtracts the mean and divides by the deviation.</summary>
    public static void Normalize(Span<float> plane, float mean, float std)
    {
        var (factor, offset) = (1 / std, -mean / std);
        var vectors = MemoryMarshal.Cast<float, Vector<float>>(plane);
        for (var i = 0; i < vectors.Length; i++) vectors[i] = (vectors[i] * factor) + new Vector<float>(offset);
        for (var i = vectors.Length * Vector<float>.Count; i < plane.Length; i++) plane[i] = (plane[i] * factor) + offset;
    }

    /// <summary>
    /// Hue, saturation and value as torchvision's _rgb_to_hsv; back by v - v s max(0, min(k, 4 - k, 1)) with k = (n + 6 h) mod 6 and
    /// n = 5, 3, 1 for red, green, blue, which is its six cases without branches.
    /// </summary>
    static (Vector<float> R, Vector<float> G, Vector<float> B) Hue(Vector<float> r, Vector<float> g, Vector<float> b, float shift)
    {
        var max = Vector.Max(r, Vector.Max(g, b));
        var range = max - Vector.Min(r, Vector.Min(g, b));
        var flat = Vector.Equals(range, Vector<float>.Zero);
        var divisor = Vector.ConditionalSelect(flat, Vector<float>.One, range);
        var (rc, gc, bc) = ((max - r) / divisor, (max - g) / divisor, (max - b) / divisor);
        var hue = Vector.ConditionalSelect(Vector.Equals(max, r), bc - gc,
            Vector.ConditionalSelect(Vector.Equals(max, g), rc - bc + new Vector<float>(2), gc - rc + new Vector<float>(4)));
        hue = (hue / 6) + new Vector<float>(shift);
        hue = (hue - Vector.Floor(hue)) * 6;
        return (Channel(5), Channel(3), Channel(1));

        Vector<float> Channel(float n)
        {
            var k = hue + new Vector<float>(n);
            k -= Vector.ConditionalSelect(Vector.GreaterThanOrEqual(k, new Vector<float>(6)), new Vector<float>(6), Vector<float>.Zero);
            var share = Vector.Max(Vector<float>.Zero, Vector.Min(Vector.Min(k, new Vector<float>(4) - k), Vector<float>.One));
            return Clamp(max - (range * share));                                      // v s = range
        }
    }

    static void Scale(Span<float> plane, float factor, float offset)
    {
        var vectors = MemoryMarshal.Cast<float, Vector<float>>(plane);
        for (var i = 0; i < vectors.Length; i++) vectors[i] = Clamp((vectors[i] * factor) + new Vector<float>(offset));
        for (var i = vectors.Length * Vector<float>.Count; i < plane.Length; i++) plane[i] = Clamp((plane[i] * factor) + offset);
    }

    static float Sum(ReadOnlySpan<float> plane)
    {
        var vectors = MemoryMarshal.Cast<float, Vector<float>>(plane);
        var total = Vector<float>.Zero;
        foreach (var v in vectors) total += v;
        var sum = Vector.Sum(total);
        for (var i = vectors.Length * Vector<float>.Count; i < plane.Length; i++) sum += plane[i];
        return sum;
    }

    static void Accumulate(Span<float> target, ReadOnlySpan<float> source, float weight)
    {
        var to = MemoryMarshal.Cast<float, Vector<float>>(target);
        var from = MemoryMarshal.Cast<float, Vector<float>>(source);
        for (var i = 0; i < to.Length; i++) to[i] += from[i] * weight;
        for (var i = to.Length * Vector<float>.Count; i < target.Length; i++) target[i] += source[i] * weight;
    }

    static Span<Vector<float>> Vectors(Span<float> plane) => MemoryMarshal.Cast<float, Vector<float>>(plane);

    static Vector<float> Clamp(Vector<float> v) => Vector.Max(Vector<float>.Zero, Vector.Min(v, Vector<float>.One));

    static float Clamp(float v) => Math.Clamp(v, 0, 1);
}
