using System.Numerics;
using System.Runtime.InteropServices;

namespace Panoptes.Imaging;

/// <summary>How far every pixel of a mask is from the nearest pixel outside it: exact Euclidean distances, in time linear in the pixels (Meijster et al. 2000).</summary>
public static class DistanceTransform
{
    /// <summary>The longest side, so that squared distances are 32-bit numbers.</summary>
    public const int MostSide = 32_766;

    /// <summary>What a column says that has no pixel outside the mask.</summary>
    const int Far = MostSide + 1;

    /// <summary>The squared distances, in pixels.</summary>
    /// <param name="mask">[height, width], row by row; what is not 0 is in it.</param>
    /// <param name="height">Rows.</param>
    /// <param name="width">Pixels a row.</param>
    /// <param name="border">Whether the image is surrounded by pixels outside the mask, as clickers want it.</param>
    /// <returns>[height, width]: 0 outside the mask; <see cref="int.MaxValue"/> everywhere if nothing is outside.</returns>
    /// <exception cref="PanoptesException">Another number of pixels, or a side below 1 or above <see cref="MostSide"/>.</exception>
    public static int[] Squared(ReadOnlySpan<byte> mask, int height, int width, bool border = false)
    {
        if (height is < 1 or > MostSide || width is < 1 or > MostSide || mask.Length != (long)height * width)
            throw new PanoptesException($"A mask of {width}x{height} with {mask.Length} pixels was given; expected as many pixels as it says, 1 to {MostSide} a side.");
        var distances = GC.AllocateUninitializedArray<int>(mask.Length);

        // Within the columns, down and up again: a row at a time.
        var outside = new int[width];
        outside.AsSpan().Fill(border ? 0 : Far);
        ReadOnlySpan<int> above = outside;
        for (var y = 0; y < height; y++)
        {
            var row = distances.AsSpan(y * width, width);
            var pixels = mask.Slice(y * width, width);
            if (!pixels.ContainsAnyExcept((byte)0)) row.Clear();
            else
                for (var x = 0; x < row.Length; x++) row[x] = pixels[x] == 0 ? 0 : Math.Min(above[x] + 1, Far);
            above = row;
        }
        ReadOnlySpan<int> below = outside;
        for (var y = height - 1; y >= 0; y--)
        {
            var row = distances.AsSpan(y * width, width);
            var target = MemoryMarshal.Cast<int, Vector<int>>(row);
            var from = MemoryMarshal.Cast<int, Vector<int>>(below);
            for (var i = 0; i < target.Length; i++) target[i] = Vector.Min(target[i], from[i] + Vector<int>.One);
            for (var x = target.Length * Vector<int>.Count; x < width; x++) row[x] = Math.Min(row[x], below[x] + 1);
            below = row;
        }

        // Within the rows, run by run: nothing beyond a pixel outside the mask is nearer than that pixel.
        var work = new Envelope(width + 2);
        for (var y = 0; y < height; y++)
        {
            var row = distances.AsSpan(y * width, width);
            for (var at = 0; ;)
            {
                var skip = row[at..].IndexOfAnyExcept(0);
                if (skip < 0) break;
                var start = at + skip;
                var length = row[start..].IndexOf(0);
                var end = length < 0 ? width : start + length;
                work.Run(row[start..end], before: start > 0 || border, after: end < width || border);
                if ((at = end) >= width) break;
            }
        }
        return distances;
    }

    /// <summary>The distances themselves.</summary>
    /// <inheritdoc cref="Squared"/>
    public static float[] Euclidean(ReadOnlySpan<byte> mask, int height, int width, bool border = false)
    {
        var squared = Squared(mask, height, width, border);
        var distances = GC.AllocateUninitializedArray<float>(squared.Length);
        for (var i = 0; i < squared.Length; i++) distances[i] = MathF.Sqrt(squared[i]);
        return distances;
    }

    /// <summary>The lowest of parabolas, one a column, in a row.</summary>
    sealed class Envelope(int most)
    {
        readonly int[] heights = new int[most], apexes = new int[most], starts = new int[most];

        /// <param name="row">Distances within the columns; becomes the squared distances.</param>
        /// <param name="before">Whether a pixel outside the mask is right before the row.</param>
        /// <param name="after">Whether one is right after it.</param>
        internal void Run(Span<int> row, bool before, bool after)
        {
            var count = row.Length + 2;
            (heights[0], heights[count - 1]) = (before ? 0 : Far, after ? 0 : Far);
            row.CopyTo(heights.AsSpan(1));
            var last = -1;
            for (var u = 0; u < count; u++)
            {
                if (heights[u] >= Far) continue;
                while (last >= 0 && At(starts[last], apexes[last]) > At(starts[last], u)) last--;
                if (last < 0) (last, apexes[0], starts[0]) = (0, u, 0);
                else
                {
                    var (i, hi, hu) = ((long)apexes[last], (long)heights[apexes[last]], (long)heights[u]);
                    var from = 1 + ((((long)u * u) - (i * i) + (hu * hu) - (hi * hi)) / (2 * (u - i)));
                    if (from < count) (apexes[++last], starts[last]) = (u, (int)from);
                }
            }
            if (last < 0)
            {
                row.Fill(int.MaxValue);
                return;
            }
            for (var u = count - 1; u >= 1; u--)
            {
                if (u <= row.Length) row[u - 1] = (int)At(u, apexes[last]);
                if (u == starts[last]) last--;
            }
        }

        long At(int x, int apex) => ((long)(x - apex) * (x - apex)) + ((long)heights[apex] * heights[apex]);
    }
}
