using System.Collections.Concurrent;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>
/// Canny's edges (Canny 1986), white on black, with OpenCV's arithmetic: Sobel's differences of every channel, of which the largest counts; thinned along the gradient; what exceeds the higher threshold, and
/// what exceeds the lower and hangs together with it.
/// </summary>
public sealed record CannyCondition : ConditionMaker
{
    /// <summary>A tangent of 22.5° in fifteen binary places.</summary>
    const int Tangent = 13573;

    /// <summary>A pixel that is no edge, one that is where it touches one, and an edge.</summary>
    const byte None = 0, Weak = 1, Edge = 2;

    /// <summary>Gradients up to this are no edges.</summary>
    public double Low { get; init; } = 100;

    /// <summary>Gradients above this are edges.</summary>
    public double High { get; init; } = 200;

    /// <summary>The side of Sobel's filter: 3, 5 or 7.</summary>
    public int Aperture { get; init; } = 3;

    /// <summary>Whether a gradient is as long as it is, not as the sum of its parts.</summary>
    public bool Exact { get; init; }

    protected override void Check()
    {
        Require(double.IsFinite(Low) && Low >= 0, nameof(Low), Low, "0 or more");
        Require(double.IsFinite(High) && High >= 0, nameof(High), High, "0 or more");
        Require(Aperture is 3 or 5 or 7, nameof(Aperture), Aperture, "3, 5 or 7");
    }

    /// <summary>Gray: 255 where an edge is.</summary>
    protected override Image Draw(Image image) => Edges(image);

    /// <summary>The edges of an image of any number of channels, gray: 255 where one is.</summary>
    public Image Edges(Image image)
    {
        Check();
        var (width, height) = (image.Width, image.Height);
        var (low, high) = (Math.Min(Low, High), Math.Max(Low, High));
        if (Exact) (low, high) = (Math.Pow(Math.Min(low, 32767), 2), Math.Pow(Math.Min(high, 32767), 2));
        if (Aperture == 7) (low, high) = Exact ? (low / 256, high / 256) : (low / 16, high / 16);
        var map = new byte[width * height];
        Parallel.ForEach(Partitioner.Create(0, height, Math.Max(16, height / (4 * Environment.ProcessorCount))), range => Thin(image, map, (int)Math.Min(low, int.MaxValue), (int)Math.Min(high, int.MaxValue), range.Item1, range.Item2));

        // Whatever touches an edge and may be one is one.
        var open = new Stack<int>();
        for (var i = 0; i < map.Length; i++)
            if (map[i] == Edge) open.Push(i);
        while (open.TryPop(out var i))
        {
            var (x, y) = (i % width, i / width);
            for (var v = Math.Max(y - 1, 0); v <= Math.Min(y + 1, height - 1); v++)
            {
                for (var u = Math.Max(x - 1, 0); u <= Math.Min(x + 1, width - 1); u++)
                {
                    if (map[(v * width) + u] != Weak) continue;
                    map[(v * width) + u] = Edge;
                    open.Push((v * width) + u);
                }
            }
        }
        for (var i = 0; i < map.Length; i++) map[i] = map[i] == Edge ? (byte)255 : (byte)0;
        return new(width, height, 1, map);
    }

    /// <summary>Fills some rows of the map.</summary>
    void Thin(Image image, byte[] map, int low, int high, int top, int bottom)
    {
        var (width, gradients) = (image.Width, new Gradients(image, Aperture, Exact));
        // Beyond the image there is no gradient.
        var (before, at, after) = (new Line(width), new Line(width), new Line(width));
        if (top > 0) gradients.Fill(top - 1, before);
        gradients.Fill(top, at);
        for (var y = top; y < bottom; y++)
        {
            if (y + 1 < image.Height) gradients.Fill(y + 1, after);
            else after.Clear();
            var (up, middle, down) = (before.Length, at.Length, after.Length);
            for (var x = 0; x < width; x++)
            {
                var m = middle[x + 1];                                                 // a column before the first has none
                if (m <= low) continue;
                var (dx, dy) = (at.X[x], at.Y[x]);
                var (flat, steep) = ((long)Math.Abs(dx) * Tangent, (long)Math.Abs(dy) << 15);
                bool most;
                if (steep < flat) most = m > middle[x] && m >= middle[x + 2];
                else if (steep > flat + ((long)Math.Abs(dx) << 16)) most = m > up[x + 1] && m >= down[x + 1];
                else
                {
                    var side = (dx ^ dy) < 0 ? -1 : 1;
                    most = m > up[x + 1 - side] && m > down[x + 1 + side];
                }
                if (most) map[(y * width) + x] = m > high ? Edge : Weak;
            }
            (before, at, after) = (at, after, before);
        }
    }

    /// <summary>The gradients of a row: the differences, and how large they are, with a pixel more on either side.</summary>
    sealed class Line(int width)
    {
        public int[] X { get; } = new int[width];

        public int[] Y { get; } = new int[width];

        public int[] Length { get; } = new int[width + 2];

        public void Clear() => Length.AsSpan().Clear();
    }

    /// <summary>Sobel's differences, the border pixels repeated beyond the border.</summary>
    sealed class Gradients(Image image, int aperture, bool exact)
    {
        readonly int[] smooth = aperture switch { 3 => [1, 2, 1], 5 => [1, 4, 6, 4, 1], _ => [1, 6, 15, 20, 15, 6, 1] };
        readonly int[] differ = aperture switch { 3 => [-1, 0, 1], 5 => [-1, -2, 0, 2, 1], _ => [-1, -4, -5, 0, 5, 4, 1] };
        readonly int[] smoothed = new int[(image.Width + aperture - 1) * image.Channels], differed = new int[(image.Width + aperture - 1) * image.Channels];

        public void Fill(int y, Line line)
        {
            var (width, channels, radius) = (image.Width, image.Channels, aperture / 2);
            var within = radius * channels;
            var s = smoothed.AsSpan();
            var d = differed.AsSpan();
            s.Clear();
            d.Clear();
            for (var k = 0; k < aperture; k++)
            {
                var row = image.Row(Math.Clamp(y + k - radius, 0, image.Height - 1));
                var (ws, wd) = (smooth[k], differ[k]);
                var ss = s.Slice(within, row.Length);
                var dd = d.Slice(within, row.Length);
                for (var x = 0; x < row.Length; x++)
                {
                    ss[x] += ws * row[x];
                    dd[x] += wd * row[x];
                }
            }
            for (var x = 0; x < within; x++)
            {
                (s[x], d[x]) = (s[within + (x % channels)], d[within + (x % channels)]);
                var (end, last) = ((width * channels) + within + x, (width * channels) + within - channels + (x % channels));
                (s[end], d[end]) = (s[last], d[last]);
            }
            for (var x = 0; x < width; x++)
            {
                var most = -1;
                for (var c = 0; c < channels; c++)
                {
                    var (dx, dy) = (0, 0);
                    for (var k = 0; k < aperture; k++)
                    {
                        dx += differ[k] * s[((x + k) * channels) + c];
                        dy += smooth[k] * d[((x + k) * channels) + c];
                    }
                    if (aperture == 7) (dx, dy) = ((int)MathF.Round(dx / 16f), (int)MathF.Round(dy / 16f));
                    var length = exact ? (dx * dx) + (dy * dy) : Math.Abs(dx) + Math.Abs(dy);
                    if (length <= most) continue;
                    (most, line.X[x], line.Y[x]) = (length, dx, dy);
                }
                line.Length[x + 1] = most;
            }
        }
    }
}
