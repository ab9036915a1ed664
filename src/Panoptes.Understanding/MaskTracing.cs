using System.Numerics;
using System.Runtime.Intrinsics;
using Panoptes.Data;

namespace Panoptes.Understanding;

/// <summary>Where a map of logits belongs in an image: it is stretched over the part from (Left, Top) of Width x Height pixels.</summary>
readonly record struct MaskPlace(int Left, int Top, int Width, int Height, int ImageWidth, int ImageHeight)
{
    internal static MaskPlace Whole(int width, int height) => new(0, 0, width, height, width, height);
}

/// <summary>A mask, and how many of its pixels would be in it with a higher and a lower threshold.</summary>
readonly record struct TracedMask(RunLengthMask Mask, int Certain, int Possible)
{
    /// <summary>The share of pixels that stay with the higher threshold of those that there are with the lower; no number where there is none.</summary>
    internal float Stability => (float)Certain / Possible;
}

/// <summary>
/// From logits to runs in one pass, a column at a time: bilinear stretching to the image's size (torch.nn.functional.interpolate's, corners not aligned), thresholds and run lengths.
/// What a mask of any size takes beyond its runs is two columns.
/// </summary>
static class MaskTracing
{
    /// <param name="logits">Column by column, <paramref name="stride"/> numbers each.</param>
    /// <param name="rows">How many of a column's numbers count.</param>
    /// <param name="columns">How many columns count.</param>
    /// <param name="threshold">A pixel is in the mask where it is above.</param>
    /// <param name="offset">How much higher and lower the two other thresholds are.</param>
    internal static TracedMask Trace(ReadOnlySpan<float> logits, int stride, int rows, int columns, MaskPlace place, float threshold, float offset)
    {
        var (across, down) = (Taps(columns, place.Width), Taps(rows, place.Height));
        var (isWide, isTall) = (columns != place.Width, rows != place.Height);
        float[] between = new float[rows], line = new float[place.Height];
        var runs = new Runs();
        var (certain, possible) = (0, 0);
        runs.Add((long)place.Left * place.ImageHeight, false);
        for (var x = 0; x < place.Width; x++)
        {
            var column = logits.Slice((isWide ? across.First[x] : x) * stride, rows);
            if (isWide)
            {
                Mix(column, logits.Slice(across.Second[x] * stride, rows), across.Share[x], between);
                column = between;
            }
            if (isTall)
            {
                for (var y = 0; y < line.Length; y++)
                {
                    var (a, b, share) = (column[down.First[y]], column[down.Second[y]], down.Share[y]);
                    line[y] = (1 - share) * a + share * b;
                }
                column = line;
            }
            runs.Add(place.Top, false);
            Scan(column, threshold, runs);
            certain += CountAbove(column, threshold + offset);
            possible += CountAbove(column, threshold - offset);
            runs.Add(place.ImageHeight - place.Top - place.Height, false);
        }
        runs.Add((long)(place.ImageWidth - place.Left - place.Width) * place.ImageHeight, false);
        return new(runs.ToMask(place.ImageHeight, place.ImageWidth), certain, possible);
    }

    /// <summary>For every place of <paramref name="to"/> the two of <paramref name="from"/> beside it, and the second's share.</summary>
    static (int[] First, int[] Second, float[] Share) Taps(int from, int to)
    {
        if (from == to) return ([], [], []);
        var (first, second, share) = (new int[to], new int[to], new float[to]);
        var scale = (float)from / to;
        for (var i = 0; i < to; i++)
        {
            var at = MathF.Max(0, scale * (i + 0.5f) - 0.5f);
            first[i] = Math.Min((int)at, from - 1);
            second[i] = Math.Min(first[i] + 1, from - 1);
            share[i] = Math.Clamp(at - first[i], 0, 1);
        }
        return (first, second, share);
    }

    static void Mix(ReadOnlySpan<float> a, ReadOnlySpan<float> b, float share, Span<float> result)
    {
        var (i, wa, wb) = (0, new Vector<float>(1 - share), new Vector<float>(share));
        for (; i + Vector<float>.Count <= result.Length; i += Vector<float>.Count) (wa * new Vector<float>(a[i..]) + wb * new Vector<float>(b[i..])).CopyTo(result[i..]);
        for (; i < result.Length; i++) result[i] = (1 - share) * a[i] + share * b[i];
    }

    static int CountAbove(ReadOnlySpan<float> values, float threshold)
    {
        var (i, limit, counts) = (0, new Vector<float>(threshold), Vector<int>.Zero);
        for (; i + Vector<float>.Count <= values.Length; i += Vector<float>.Count) counts -= Vector.GreaterThan(new Vector<float>(values[i..]), limit);
        var count = Vector.Sum(counts);
        for (; i < values.Length; i++) count += values[i] > threshold ? 1 : 0;
        return count;
    }

    /// <summary>Adds a column's runs: eight comparisons at once, then from change to change.</summary>
    static void Scan(ReadOnlySpan<float> column, float threshold, Runs runs)
    {
        var (i, limit) = (0, Vector256.Create(threshold));
        for (; i + 8 <= column.Length; i += 8)
        {
            var bits = Vector256.GreaterThan(Vector256.Create(column.Slice(i, 8)), limit).ExtractMostSignificantBits();
            if (bits is 0 or 0xff)
            {
                runs.Add(8, bits != 0);
                continue;
            }
            for (var left = 8; left > 0;)
            {
                var inside = (bits & 1) != 0;
                var length = Math.Min(left, BitOperations.TrailingZeroCount(inside ? ~bits : bits));
                runs.Add(length, inside);
                bits >>= length;
                left -= length;
            }
        }
        for (; i < column.Length; i++) runs.Add(1, column[i] > threshold);
    }

    /// <summary>Runs in the making.</summary>
    sealed class Runs
    {
        readonly List<int> done = [];
        bool inside;
        int length;

        internal void Add(long count, bool isInside)
        {
            if (count == 0) return;
            if (isInside != inside)
            {
                done.Add(length);
                (inside, length) = (isInside, 0);
            }
            length += (int)count;
        }

        internal RunLengthMask ToMask(int height, int width) => RunLengthMask.FromRuns(height, width, [.. done, length]);
    }
}
