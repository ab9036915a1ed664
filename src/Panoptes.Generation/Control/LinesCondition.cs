using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>A straight piece, from pixel to pixel.</summary>
/// <param name="X1">Of its one end, in pixels from the middle of the image's first.</param>
/// <param name="Y1">Of this end.</param>
/// <param name="X2">Of the other end.</param>
/// <param name="Y2">Of this end.</param>
/// <param name="Sureness">The more above 0, the less it can be chance: -log₁₀ of how many such pieces noise would show.</param>
public sealed record LineSegment(double X1, double Y1, double X2, double Y2, double Sureness)
{
    public double Length => Math.Sqrt(((X2 - X1) * (X2 - X1)) + ((Y2 - Y1) * (Y2 - Y1)));
}

/// <summary>
/// Straight lines, white and one pixel thick on black, as M-LSD's picture is, whose weights do not ship: the line segment detector (Grompone von Gioi et al. 2010), which grows regions of pixels whose gradients agree, puts
/// rectangles around them, and keeps those that noise would not show. No threshold has to be found for an image.
/// </summary>
public sealed record LinesCondition : ConditionMaker
{
    /// <summary>How far gradients may turn from a region's, and the probability that one does not by chance.</summary>
    const double Tolerance = Math.PI / 8, Chance = 1.0 / 8;

    /// <summary>The share of a rectangle's pixels that its region must be.</summary>
    const double Density = 0.7;

    /// <summary>Lines that are shorter are left out, as a share of the short side.</summary>
    public double Shortest { get; init; } = 0.04;

    /// <summary>How many lines as these noise may show, as its -log₁₀.</summary>
    public double Sureness { get; init; }

    protected override void Check()
    {
        Require(Shortest is >= 0 and <= 1, nameof(Shortest), Shortest, "0 to 1");
        Require(double.IsFinite(Sureness), nameof(Sureness), Sureness, "a number");
    }

    /// <summary>Gray.</summary>
    protected override Image Draw(Image image)
    {
        var found = Find(image);
        return new Image(image.Width, image.Height, 1).Draw(canvas =>
        {
            using var paint = new SkiaSharp.SKPaint { Color = SkiaSharp.SKColors.White, StrokeWidth = 1, StrokeCap = SkiaSharp.SKStrokeCap.Square };
            foreach (var line in found) canvas.DrawLine((float)line.X1 + 0.5f, (float)line.Y1 + 0.5f, (float)line.X2 + 0.5f, (float)line.Y2 + 0.5f, paint);
        }).ToGray();
    }

    /// <summary>The lines, the longest first. Those of an image of more than four million pixels are found on a smaller copy.</summary>
    public IReadOnlyList<LineSegment> Find(Image image)
    {
        Check();
        var small = Small(image);
        if (!ReferenceEquals(small, image))
        {
            var (sx, sy) = ((double)image.Width / small.Width, (double)image.Height / small.Height);
            return [.. Find(small).Select(l => new LineSegment(((l.X1 + 0.5) * sx) - 0.5, ((l.Y1 + 0.5) * sy) - 0.5, ((l.X2 + 0.5) * sx) - 0.5, ((l.Y2 + 0.5) * sy) - 0.5, l.Sureness))];
        }
        var least = Math.Max(3, Shortest * Math.Min(image.Width, image.Height));
        return [.. new Detector(Plane.Gray(image).Blur(0.75)).Find().Where(l => l.Length >= least && l.Sureness > Sureness).OrderByDescending(static l => l.Length)];
    }

    /// <summary>One image's search.</summary>
    sealed class Detector
    {
        /// <summary>A gradient's direction where there is none to speak of.</summary>
        const float None = -100;

        readonly int width, height;
        readonly float[] angles, lengths;
        readonly bool[] used;
        readonly double tests;

        /// <param name="gray">The gradient of each pixel is that between it and its neighbors to the right and below.</param>
        internal Detector(Plane gray)
        {
            (width, height) = (gray.Width, gray.Height);
            (angles, lengths, used) = (new float[width * height], new float[width * height], new bool[width * height]);
            // What rounding to whole shades can turn by more than the tolerance says nothing.
            var least = (float)(2 / Math.Sin(Tolerance));
            Array.Fill(angles, None);
            Parallel.For(0, height - 1, y =>
            {
                var row = gray.Row(y);
                var below = gray.Row(y + 1);
                for (var x = 0; x + 1 < width; x++)
                {
                    var (a, b) = (below[x + 1] - row[x], row[x + 1] - below[x]);
                    var (dx, dy) = ((a + b) / 2, (a - b) / 2);
                    var length = MathF.Sqrt((dx * dx) + (dy * dy));
                    if (length <= least) continue;
                    (lengths[(y * width) + x], angles[(y * width) + x]) = (length, MathF.Atan2(dx, -dy));     // along the line, its brighter side on the right
                }
            });
            tests = (2.5 * (Math.Log10(width) + Math.Log10(height))) + Math.Log10(11);
        }

        internal List<LineSegment> Find()
        {
            var found = new List<LineSegment>();
            var order = Enumerable.Range(0, angles.Length).Where(i => angles[i] > None).ToArray();
            Array.Sort(order.Select(i => -lengths[i]).ToArray(), order);
            var region = new List<int>();
            foreach (var seed in order)
            {
                if (used[seed]) continue;
                var direction = Grow(seed, Tolerance, region);
                // Fewer pixels would be chance even if all of them agreed.
                if (region.Count < -tests / Math.Log10(Chance)) continue;
                if (Refined(region, direction) is { } box && box.Sureness(this) is var sureness && sureness > -tests) found.Add(box.Line(sureness));
            }
            return found;
        }

        /// <summary>The pixels around one whose directions agree with that of all of them, which is returned.</summary>
        double Grow(int seed, double tolerance, List<int> region)
        {
            region.Clear();
            region.Add(seed);
            used[seed] = true;
            var (direction, cos, sin) = ((double)angles[seed], Math.Cos(angles[seed]), Math.Sin(angles[seed]));
            for (var i = 0; i < region.Count; i++)
            {
                var (x, y) = (region[i] % width, region[i] / width);
                for (var v = Math.Max(y - 1, 0); v <= Math.Min(y + 1, height - 1); v++)
                {
                    for (var u = Math.Max(x - 1, 0); u <= Math.Min(x + 1, width - 1); u++)
                    {
                        var at = (v * width) + u;
                        if (used[at] || !Agrees(at, direction, tolerance)) continue;
                        used[at] = true;
                        region.Add(at);
                        (cos, sin) = (cos + Math.Cos(angles[at]), sin + Math.Sin(angles[at]));
                        direction = Math.Atan2(sin, cos);
                    }
                }
            }
            return direction;
        }

        bool Agrees(int at, double direction, double tolerance) => angles[at] > None && Turn(angles[at] - direction) <= tolerance;

        static double Turn(double angle) => Math.Abs(Math.IEEERemainder(angle, 2 * Math.PI));

        /// <summary>A rectangle that is dense enough: of the region as it is, of one grown anew with less tolerance, or of the part around its seed; null: there is none. Pixels that are given up are free again.</summary>
        Rectangle? Refined(List<int> region, double direction)
        {
            var box = Rectangle.Around(region, direction, this);
            if (region.Count >= Density * box.Area) return box;
            var (seed, sum, squares, count) = (region[0], 0.0, 0.0, 0);
            foreach (var i in region)
            {
                used[i] = false;
                if (Distance(i, seed) > box.Width) continue;
                var turn = Math.IEEERemainder(angles[i] - angles[seed], 2 * Math.PI);
                (sum, squares, count) = (sum + turn, squares + (turn * turn), count + 1);
            }
            direction = Grow(seed, 2 * Math.Sqrt(Math.Max(0, (squares / count) - (sum / count * (sum / count)))), region);
            if (region.Count < 2) return null;
            box = Rectangle.Around(region, direction, this);
            var reach = region.Max(i => Distance(i, seed));
            while (region.Count < Density * box.Area)
            {
                reach *= 0.75;
                foreach (var i in region)
                    if (Distance(i, seed) > reach) used[i] = false;
                region.RemoveAll(i => Distance(i, seed) > reach);
                if (region.Count < 2) return null;
                box = Rectangle.Around(region, direction, this);
            }
            return box;
        }

        double Distance(int a, int b) => Math.Sqrt(((double)((a % width) - (b % width)) * ((a % width) - (b % width))) + ((double)((a / width) - (b / width)) * ((a / width) - (b / width))));

        /// <param name="X">Of its middle.</param>
        /// <param name="Y">Of its middle.</param>
        /// <param name="Cos">Of its direction.</param>
        /// <param name="Sin">Of its direction.</param>
        /// <param name="From">Where it begins along it.</param>
        /// <param name="To">Where it ends.</param>
        /// <param name="Left">Where it begins across it.</param>
        /// <param name="Right">Where it ends.</param>
        sealed record Rectangle(double X, double Y, double Cos, double Sin, double From, double To, double Left, double Right)
        {
            public double Width => Math.Max(1, Right - Left);

            public double Area => Width * Math.Max(1, To - From);

            /// <summary>Around pixels that weigh as much as their gradients, in the direction of their least moment of inertia.</summary>
            public static Rectangle Around(List<int> region, double direction, Detector d)
            {
                var (x, y, weight) = (0.0, 0.0, 0.0);
                foreach (var i in region)
                {
                    var w = d.lengths[i];
                    (x, y, weight) = (x + (w * (i % d.width)), y + (w * (i / d.width)), weight + w);
                }
                (x, y) = (x / weight, y / weight);
                var (xx, yy, xy) = (0.0, 0.0, 0.0);
                foreach (var i in region)
                {
                    var (dx, dy, w) = ((i % d.width) - x, (i / d.width) - y, d.lengths[i]);
                    (xx, yy, xy) = (xx + (w * dx * dx), yy + (w * dy * dy), xy + (w * dx * dy));
                }
                var along = 0.5 * Math.Atan2(2 * xy, xx - yy);
                if (Turn(along - direction) > Math.PI / 2) along += Math.PI;
                var (sin, cos) = Math.SinCos(along);
                var (from, to, left, right) = (0.0, 0.0, 0.0, 0.0);
                foreach (var i in region)
                {
                    var (dx, dy) = ((i % d.width) - x, (i / d.width) - y);
                    var (a, c) = ((dx * cos) + (dy * sin), (dy * cos) - (dx * sin));
                    (from, to, left, right) = (Math.Min(from, a), Math.Max(to, a), Math.Min(left, c), Math.Max(right, c));
                }
                return new(x, y, cos, sin, from, to, left, right);
            }

            /// <summary>-log₁₀ of how many rectangles of noise would have as many pixels that agree.</summary>
            public double Sureness(Detector d)
            {
                var (direction, half, pixels, agreeing) = (Math.Atan2(Sin, Cos), Width / 2, 0, 0);
                var middle = (Left + Right) / 2;
                // The box around the rectangle, row by row.
                var (across, reach) = (Math.Max(Math.Abs(From), Math.Abs(To)) + 1, Math.Max(Math.Abs(Left), Math.Abs(Right)) + 1);
                var (rx, ry) = ((across * Math.Abs(Cos)) + (reach * Math.Abs(Sin)), (across * Math.Abs(Sin)) + (reach * Math.Abs(Cos)));
                for (var v = (int)Math.Max(0, Math.Floor(Y - ry)); v <= Math.Min(d.height - 1, Math.Ceiling(Y + ry)); v++)
                {
                    for (var u = (int)Math.Max(0, Math.Floor(X - rx)); u <= Math.Min(d.width - 1, Math.Ceiling(X + rx)); u++)
                    {
                        var (dx, dy) = (u - X, v - Y);
                        var (a, c) = ((dx * Cos) + (dy * Sin), (dy * Cos) - (dx * Sin));
                        if (a < From - 1e-9 || a > To + 1e-9 || Math.Abs(c - middle) > half + 1e-9) continue;
                        pixels++;
                        if (d.Agrees((v * d.width) + u, direction, Tolerance)) agreeing++;
                    }
                }
                return -d.tests - Tail(pixels, agreeing);
            }

            public LineSegment Line(double sureness) => new(X + (From * Cos) + 0.5, Y + (From * Sin) + 0.5, X + (To * Cos) + 0.5, Y + (To * Sin) + 0.5, sureness);
        }

        /// <summary>log₁₀ of the probability that <paramref name="k"/> or more of n agree by chance.</summary>
        static double Tail(int n, int k)
        {
            if (k == 0) return 0;
            // The first term, then each from the one before; they fall fast beyond the mean.
            var term = LogChoose(n, k) + (k * Math.Log(Chance)) + ((n - k) * Math.Log(1 - Chance));
            var (sum, ratio) = (1.0, 1.0);
            for (var i = k + 1; i <= n; i++)
            {
                ratio *= (n - i + 1) / (double)i * (Chance / (1 - Chance));
                sum += ratio;
                if (ratio < 1e-9 * sum) break;
            }
            return Math.Min(0, (term + Math.Log(sum)) / Math.Log(10));
        }

        static double LogChoose(int n, int k) => LogFactorial(n) - LogFactorial(k) - LogFactorial(n - k);

        /// <summary>Stirling's series; exact to a hundred-millionth from ten on.</summary>
        static double LogFactorial(int n)
        {
            if (n < 10)
            {
                var product = 1.0;
                for (var i = 2; i <= n; i++) product *= i;
                return Math.Log(product);
            }
            var x = (double)n;
            return (x * Math.Log(x)) - x + (0.5 * Math.Log(2 * Math.PI * x)) + (1 / (12 * x)) - (1 / (360 * x * x * x));
        }
    }
}
