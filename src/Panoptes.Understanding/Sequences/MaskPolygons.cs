using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>The outlines of masks as polygons along the pixels' edges, simplified to a given number of corners: what sequence models are taught of masks.</summary>
public static class MaskPolygons
{
    /// <summary>The outer outline of every part of a mask (parts touch at edges, not at corners), the largest first; holes are filled.</summary>
    /// <param name="mask">Gray; what is not 0 is in it.</param>
    /// <param name="mostCorners">Of one polygon, at least 3.</param>
    /// <param name="mostParts">Smaller parts beyond so many are left out.</param>
    public static IReadOnlyList<IReadOnlyList<ImagePoint>> Of(Image mask, int mostCorners, int mostParts = 4)
    {
        if (mostCorners < 3 || mostParts < 1) throw new PanoptesException($"Polygons of {mostCorners} corners, at most {mostParts} of them, were asked for; expected 3 corners and 1 polygon or more.");
        var outlines = new List<(double Area, List<ImagePoint> Corners)>();
        var seen = new bool[mask.Width * mask.Height];
        for (var at = 0; at < seen.Length; at++)
        {
            if (seen[at] || !Has(mask, at % mask.Width, at / mask.Width)) continue;
            Fill(mask, seen, at);
            var corners = Trace(mask, at % mask.Width, at / mask.Width);
            outlines.Add((Area(corners), corners));
        }
        return [.. outlines.OrderByDescending(static o => o.Area).Take(mostParts).Select(o => (IReadOnlyList<ImagePoint>)Simplify(o.Corners, mostCorners))];
    }

    static bool Has(Image mask, int x, int y) => x >= 0 && y >= 0 && x < mask.Width && y < mask.Height && mask.Pixels[(y * mask.Width + x) * mask.Channels] != 0;

    static void Fill(Image mask, bool[] seen, int start)
    {
        var open = new Stack<int>([start]);
        seen[start] = true;
        while (open.TryPop(out var at))
        {
            var (y, x) = Math.DivRem(at, mask.Width);
            foreach (var (nx, ny) in (ReadOnlySpan<(int, int)>)[(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)])
            {
                if (!Has(mask, nx, ny) || seen[ny * mask.Width + nx]) continue;
                seen[ny * mask.Width + nx] = true;
                open.Push(ny * mask.Width + nx);
            }
        }
    }

    /// <summary>Around a part clockwise, with it on the right hand, from the upper left corner of its first pixel (in reading order).</summary>
    static List<ImagePoint> Trace(Image mask, int startX, int startY)
    {
        // Directions: 0 right, 1 down, 2 left, 3 up. At a corner the pixels ahead are those on the left and the right of the way on.
        ReadOnlySpan<(int X, int Y)> steps = [(1, 0), (0, 1), (-1, 0), (0, -1)];
        var (corners, x, y, direction) = (new List<ImagePoint>(), startX, startY, 0);
        do
        {
            var (dx, dy) = steps[direction];
            (x, y) = (x + dx, y + dy);
            // The pixel ahead on the right: where it is missing the way turns right; where that on the left is there as well, left.
            var right = Has(mask, x + (direction is 1 or 2 ? -1 : 0), y + (direction is 2 or 3 ? -1 : 0));
            var left = Has(mask, x + (direction is 2 or 3 ? -1 : 0), y + (direction is 0 or 3 ? -1 : 0));
            var turn = !right ? 1 : left ? 3 : 0;
            if (turn != 0) corners.Add(new(x, y));
            direction = (direction + turn) % 4;
        }
        while (x != startX || y != startY || direction != 0);
        return corners;
    }

    /// <summary>Leaves out, one after the other, the corner with its neighbors' smallest triangle (Visvalingam and Whyatt 1993).</summary>
    static List<ImagePoint> Simplify(List<ImagePoint> corners, int most)
    {
        var left = corners.ToList();
        while (left.Count > most)
        {
            var (worst, smallest) = (0, double.MaxValue);
            for (var i = 0; i < left.Count; i++)
            {
                var (a, b, c) = (left[(i + left.Count - 1) % left.Count], left[i], left[(i + 1) % left.Count]);
                var area = Math.Abs((b.X - a.X) * (c.Y - a.Y) - (c.X - a.X) * (b.Y - a.Y));
                if (area < smallest) (worst, smallest) = (i, area);
            }
            left.RemoveAt(worst);
        }
        return left;
    }

    static double Area(List<ImagePoint> corners)
    {
        var sum = 0.0;
        for (var i = 0; i < corners.Count; i++)
        {
            var (a, b) = (corners[i], corners[(i + 1) % corners.Count]);
            sum += a.X * b.Y - b.X * a.Y;
        }
        return Math.Abs(sum) / 2;
    }
}
