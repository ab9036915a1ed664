using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>
/// A mask as COCO writes it (pycocotools' maskApi.c, whose bytes these are): the lengths of runs down the columns, from the left column to the right, which begin with
/// pixels that are not in it. Unchangeable.
/// </summary>
public sealed class RunLengthMask
{
    /// <summary>The most pixels of a mask: what an index of 32 bits reaches.</summary>
    public const long MostPixels = int.MaxValue;

    /// <summary>Polygons are drawn this many times as fine as pixels, then sampled.</summary>
    const int PolygonScale = 5;

    readonly int[] runs;

    RunLengthMask(int height, int width, int[] runs) => (Height, Width, this.runs) = (height, width, runs);

    public int Height { get; }

    public int Width { get; }

    /// <summary>The lengths of runs, of pixels outside and inside in turn.</summary>
    public IReadOnlyList<int> Runs => runs;

    /// <summary>How many pixels are in it.</summary>
    public long Area
    {
        get
        {
            var area = 0L;
            for (var i = 1; i < runs.Length; i += 2) area += runs[i];
            return area;
        }
    }

    /// <summary>The smallest box around it, in pixels; all zero if nothing is in it.</summary>
    public PixelBox Box
    {
        get
        {
            var (left, top, right, bottom, at) = (Width, Height, -1, -1, 0);
            for (var i = 0; i < runs.Length; at += runs[i], i++)
            {
                if (i % 2 == 0 || runs[i] == 0) continue;
                var (first, last) = (Math.DivRem(at, Height), Math.DivRem(at + runs[i] - 1, Height));
                (left, right) = (Math.Min(left, first.Quotient), Math.Max(right, last.Quotient));
                // A run that goes on in the next column touches both edges.
                (top, bottom) = first.Quotient < last.Quotient ? (0, Height - 1) : (Math.Min(top, first.Remainder), Math.Max(bottom, last.Remainder));
            }
            return right < 0 ? default : new(left, top, right - left + 1, bottom - top + 1);
        }
    }

    /// <summary>The runs as COCO's files write them.</summary>
    public string Counts
    {
        get
        {
            var text = new System.Text.StringBuilder(runs.Length * 2);
            for (var i = 0; i < runs.Length; i++)
            {
                // From the third run of a kind on, the difference from the one before; five bits a character, the lowest first.
                var x = (long)runs[i] - (i > 2 ? runs[i - 2] : 0);
                for (var more = true; more;)
                {
                    var bits = (int)(x & 0x1f);
                    x >>= 5;
                    more = (bits & 0x10) != 0 ? x != -1 : x != 0;
                    text.Append((char)((more ? bits | 0x20 : bits) + 48));
                }
            }
            return text.ToString();
        }
    }

    /// <summary>Runs whose lengths are known.</summary>
    /// <exception cref="PanoptesException">A size below 1, a negative run, or runs that do not add up to the mask.</exception>
    public static RunLengthMask FromRuns(int height, int width, ReadOnlySpan<int> runs)
    {
        Check(height, width);
        var sum = 0L;
        foreach (var run in runs)
        {
            if (run < 0) throw new PanoptesException($"A mask has a run of {run} pixels; expected none below 0.");
            sum += run;
        }
        if (sum != (long)height * width) throw new PanoptesException($"The runs of a mask add up to {sum} pixels; expected {(long)height * width}, which is {width}x{height}.");
        return new(height, width, runs.ToArray());
    }

    /// <summary>Reads what <see cref="Counts"/> writes.</summary>
    /// <exception cref="PanoptesException">It is not written so, or not of this size.</exception>
    public static RunLengthMask Parse(string counts, int height, int width)
    {
        Check(height, width);
        var runs = new List<int>();
        var all = (long)height * width;
        for (var at = 0; at < counts.Length;)
        {
            var x = 0L;
            for (var (shift, more) = (0, true); more; shift += 5, at++)
            {
                if (at == counts.Length) throw new PanoptesException("The runs of a mask end in the middle of a number.");
                var bits = counts[at] - 48;
                if (bits is < 0 or > 0x3f || shift > 30) throw new PanoptesException($"The runs of a mask have '{counts[at]}' at {at}, which is no part of a number there.");
                x |= (long)(bits & 0x1f) << shift;
                more = (bits & 0x20) != 0;
                if (!more && (bits & 0x10) != 0) x |= -1L << (shift + 5);
            }
            if (runs.Count > 2) x += runs[^2];
            if (x < 0 || x > all) throw new PanoptesException($"A mask of {width}x{height} pixels has a run of {x}.");
            runs.Add((int)x);
        }
        return FromRuns(height, width, System.Runtime.InteropServices.CollectionsMarshal.AsSpan(runs));
    }

    /// <summary>The mask whose pixels are those that are not 0.</summary>
    /// <param name="mask">[height, width], row by row.</param>
    /// <param name="height">Rows.</param>
    /// <param name="width">Pixels a row.</param>
    public static RunLengthMask Encode(ReadOnlySpan<byte> mask, int height, int width)
    {
        Check(height, width);
        if (mask.Length != (long)height * width) throw new PanoptesException($"A mask has {mask.Length} pixels; expected {(long)height * width}, which is {width}x{height}.");
        // Down the columns once, then run by run at the speed of a search.
        var columns = new byte[mask.Length];
        Transpose(mask, columns, height, width);
        var runs = new List<int>();
        ReadOnlySpan<byte> rest = columns;
        for (var inside = false; rest.Length > 0; inside = !inside)
        {
            var length = inside ? rest.IndexOf((byte)0) : rest.IndexOfAnyExcept((byte)0);
            if (length < 0) length = rest.Length;
            runs.Add(length);
            rest = rest[length..];
        }
        return new(height, width, [.. runs]);
    }

    /// <summary>1 for every pixel that is in it, 0 for all others.</summary>
    /// <param name="mask">[height, width], row by row.</param>
    public void Decode(Span<byte> mask)
    {
        if (mask.Length != (long)Height * Width) throw new PanoptesException($"{mask.Length} pixels were given for a mask of {Width}x{Height}.");
        var columns = new byte[mask.Length];
        var at = 0;
        for (var i = 0; i < runs.Length; at += runs[i], i++)
            if (i % 2 == 1) columns.AsSpan(at, runs[i]).Fill(1);
        Transpose(columns, mask, Width, Height);
    }

    /// <summary>What lies within polygons, all of them together, as pycocotools draws them.</summary>
    /// <param name="polygons">x and y in turn, in pixels; three corners or more each.</param>
    /// <param name="height">Rows of the mask.</param>
    /// <param name="width">Its pixels a row.</param>
    /// <exception cref="PanoptesException">No polygon, one of fewer than three corners, or a coordinate that is no number or far off.</exception>
    public static RunLengthMask FromPolygons(IReadOnlyList<IReadOnlyList<double>> polygons, int height, int width)
    {
        Check(height, width);
        return Merge([.. polygons.Select(p => Draw(p, height, width))]);
    }

    /// <summary>All pixels that are in any of the masks, or in every one of them.</summary>
    /// <exception cref="PanoptesException">No mask, or masks of different sizes.</exception>
    public static RunLengthMask Merge(IReadOnlyList<RunLengthMask> masks, bool intersect = false)
    {
        if (masks.Count == 0) throw new PanoptesException("No masks to merge; expected at least one.");
        var merged = masks[0];
        for (var i = 1; i < masks.Count; i++) merged = merged.With(masks[i], intersect);
        return merged;
    }

    /// <summary>The share of both masks' pixels that both have; of a crowd, which is many things at once, the share of this mask that lies in it.</summary>
    /// <exception cref="PanoptesException">The masks are of different sizes.</exception>
    public double Iou(RunLengthMask label, bool crowd = false)
    {
        var shared = With(label, intersect: true).Area;
        var whole = crowd ? Area : Area + label.Area - shared;
        return whole == 0 ? 0 : (double)shared / whole;
    }

    RunLengthMask With(RunLengthMask other, bool intersect)
    {
        if ((other.Height, other.Width) != (Height, Width)) throw new PanoptesException($"A mask of {Width}x{Height} pixels and one of {other.Width}x{other.Height} were given; expected the same size.");
        var merged = new List<int>();
        var (a, b) = (new Reader(runs), new Reader(other.runs));
        var (length, inside) = (0, false);
        while (a.Left > 0 || b.Left > 0)
        {
            var both = Math.Min(a.Left, b.Left);
            var now = intersect ? a.Inside && b.Inside : a.Inside || b.Inside;
            if (now != inside)
            {
                merged.Add(length);
                (length, inside) = (0, now);
            }
            length += both;
            a.Take(both);
            b.Take(both);
        }
        merged.Add(length);
        return new(Height, Width, [.. merged]);
    }

    /// <summary>Runs one after the other; those of no pixels are passed over.</summary>
    struct Reader
    {
        readonly int[] runs;
        int next;

        public Reader(int[] runs)
        {
            this.runs = runs;
            Inside = true;
            Advance();
        }

        /// <summary>What is left of the present run; 0 at the end.</summary>
        public int Left { get; private set; }

        public bool Inside { get; private set; }

        public void Take(int count)
        {
            Left -= count;
            if (Left == 0) Advance();
        }

        void Advance()
        {
            while (Left == 0 && next < runs.Length)
            {
                Left = runs[next];
                Inside = next % 2 == 1;
                next++;
            }
        }
    }

    static RunLengthMask Draw(IReadOnlyList<double> polygon, int height, int width)
    {
        if (polygon.Count < 6 || polygon.Count % 2 != 0) throw new PanoptesException($"A polygon has {polygon.Count} coordinates; expected x and y of three corners or more.");
        var corners = polygon.Count / 2;
        var (xs, ys) = (new int[corners + 1], new int[corners + 1]);
        for (var i = 0; i < corners; i++) (xs[i], ys[i]) = (Fine(polygon[2 * i]), Fine(polygon[(2 * i) + 1]));
        (xs[corners], ys[corners]) = (xs[0], ys[0]);

        // Where the outline passes from one column of pixels to the next: the place, in runs' order, at which inside and outside change.
        var changes = new List<int>();
        (int X, int Y)? before = null;
        for (var i = 0; i < corners; i++)
        {
            var (x0, y0, x1, y1) = (xs[i], ys[i], xs[i + 1], ys[i + 1]);
            var (dx, dy) = (Math.Abs(x1 - x0), Math.Abs(y1 - y0));
            var flat = dx >= dy;
            var flip = flat ? x0 > x1 : y0 > y1;
            if (flip) (x0, y0, x1, y1) = (x1, y1, x0, y0);
            var slope = flat ? (double)(y1 - y0) / dx : (double)(x1 - x0) / dy;
            var length = Math.Max(dx, dy);
            for (var d = 0; d <= length; d++)
            {
                var t = flip ? length - d : d;
                var point = length == 0 ? (X: x0, Y: y0) : flat ? (X: t + x0, Y: (int)(y0 + (slope * t) + 0.5)) : (X: (int)(x0 + (slope * t) + 0.5), Y: t + y0);
                if (before is { } b && b.X != point.X) Cross(b, point);
                before = point;
            }
        }
        changes.Add(height * width);
        changes.Sort();
        var runs = new List<int>();
        for (var (i, at) = (0, 0); i < changes.Count; at = changes[i], i++)
        {
            var run = changes[i] - at;
            if (run > 0 || i == 0) runs.Add(run);
            else if (++i < changes.Count) runs[^1] += changes[i] - changes[i - 1];                 // two changes at one place are none
            else break;
        }
        return new(height, width, [.. runs]);

        static int Fine(double v) => Math.Abs(v) < 1e7 ? (int)((PolygonScale * v) + 0.5) : throw new PanoptesException($"A polygon has the coordinate {v}; expected pixels.");

        void Cross((int X, int Y) from, (int X, int Y) to)
        {
            var x = ((to.X < from.X ? to.X : to.X - 1) + 0.5) / PolygonScale - 0.5;
            if (Math.Floor(x) != x || x < 0 || x > width - 1) return;
            var y = Math.Ceiling(Math.Clamp((Math.Min(from.Y, to.Y) + 0.5) / PolygonScale - 0.5, 0, height));
            changes.Add(((int)x * height) + (int)y);
        }
    }

    static void Check(int height, int width)
    {
        if (height < 1 || width < 1 || (long)height * width > MostPixels) throw new PanoptesException($"A mask of {width}x{height} pixels was given; expected at least 1x1 and no more than {MostPixels} pixels.");
    }

    /// <summary>[rows, columns] to [columns, rows], in squares that stay in the cache.</summary>
    static void Transpose(ReadOnlySpan<byte> from, Span<byte> to, int rows, int columns)
    {
        const int square = 32;
        for (var r0 = 0; r0 < rows; r0 += square)
            for (var c0 = 0; c0 < columns; c0 += square)
                for (var r = r0; r < Math.Min(rows, r0 + square); r++)
                    for (var c = c0; c < Math.Min(columns, c0 + square); c++)
                        to[(c * rows) + r] = from[(r * columns) + c];
    }
}
