using Panoptes.Data;

namespace Panoptes.Understanding;

/// <summary>
/// What is where in an image: how likely each of some labels is at each pixel. Kept at the model's own resolution; what is asked of it at the image's size is resized (bilinearly) then, so that a
/// hundred megapixels take no more memory than what is asked for.
/// </summary>
public sealed class SegmentationMap
{
    readonly float[] grid;
    readonly int rows, columns;
    readonly float threshold;
    readonly Lazy<(short[] Labels, double[] Sums, long[] Counts)> labeled;

    /// <param name="names">What the labels are called.</param>
    /// <param name="grid">[labels, rows, columns], from 0 to 1</param>
    /// <param name="rows">Of the grid.</param>
    /// <param name="columns">Of the grid.</param>
    /// <param name="width">The image's.</param>
    /// <param name="height">The image's.</param>
    /// <param name="threshold">A pixel none of whose labels has this probability has no label.</param>
    internal SegmentationMap(IReadOnlyList<string> names, float[] grid, int rows, int columns, int width, int height, float threshold)
    {
        (Names, this.grid, this.rows, this.columns, Width, Height, this.threshold) = (names, grid, rows, columns, width, height, threshold);
        labeled = new(MakeLabels);
    }

    /// <summary>What the labels are called, in the order of their indexes.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>The image's, in pixels.</summary>
    public int Width { get; }

    /// <summary>The image's, in pixels.</summary>
    public int Height { get; }

    /// <summary>How likely a label is at every pixel: [height, width], row by row, from 0 to 1.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No such label.</exception>
    public float[] Probabilities(int label)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(label);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(label, Names.Count);
        var result = new float[checked(Width * Height)];
        var across = Taps(Width, columns);
        Parallel.For(0, Height, y => Row(label, y, across, new float[columns], result.AsSpan(y * Width, Width)));
        return result;
    }

    /// <summary>The likeliest label of every pixel: [height, width], row by row; -1 where none is likely enough.</summary>
    public ReadOnlySpan<short> Labels => labeled.Value.Labels;

    /// <summary>Every label that some pixel has: its pixels, and the mean of its probability there.</summary>
    public IReadOnlyList<Segment> Segments => SegmentsOf(Names.Count);

    /// <summary>Those of the first labels alone.</summary>
    internal IReadOnlyList<Segment> SegmentsOf(int count)
    {
        var (labels, sums, counts) = labeled.Value;
        var segments = new List<Segment>();
        var mask = new byte[labels.Length];
        for (short label = 0; label < count; label++)
        {
            if (counts[label] == 0) continue;
            for (var i = 0; i < mask.Length; i++) mask[i] = labels[i] == label ? (byte)1 : (byte)0;
            segments.Add(new(RunLengthMask.Encode(mask, Height, Width), (float)(sums[label] / counts[label]), Names[label]));
        }
        return segments;
    }

    (short[] Labels, double[] Sums, long[] Counts) MakeLabels()
    {
        var labels = new short[checked(Width * Height)];
        var (sums, counts) = (new double[Names.Count], new long[Names.Count]);
        var across = Taps(Width, columns);
        Parallel.For(0, Height, () => (Best: new float[Width], Row: new float[Width], Grid: new float[columns], Sums: new double[Names.Count], Counts: new long[Names.Count]), (y, _, local) =>
        {
            var (best, row) = (local.Best, local.Row);
            var own = labels.AsSpan(y * Width, Width);
            own.Fill(-1);
            Array.Fill(best, threshold);
            for (short label = 0; label < Names.Count; label++)
            {
                Row(label, y, across, local.Grid, row);
                // The first of equals stays; at the threshold itself a label counts.
                for (var x = 0; x < row.Length; x++)
                    if (row[x] > best[x] || (own[x] < 0 && row[x] == best[x])) (best[x], own[x]) = (row[x], label);
            }
            for (var x = 0; x < best.Length; x++)
            {
                if (own[x] < 0) continue;
                local.Sums[own[x]] += best[x];
                local.Counts[own[x]]++;
            }
            return local;
        }, local =>
        {
            lock (sums)
                for (var i = 0; i < sums.Length; i++) (sums[i], counts[i]) = (sums[i] + local.Sums[i], counts[i] + local.Counts[i]);
        });
        return (labels, sums, counts);
    }

    /// <summary>One row of the image of one label.</summary>
    void Row(int label, int y, (int First, int Second, float Share)[] across, float[] between, Span<float> row)
    {
        var (first, second, share) = Tap(y, Height, rows);
        ReadOnlySpan<float> upper = grid.AsSpan((label * rows + first) * columns, columns), lower = grid.AsSpan((label * rows + second) * columns, columns);
        for (var i = 0; i < columns; i++) between[i] = upper[i] + (lower[i] - upper[i]) * share;
        for (var x = 0; x < row.Length; x++)
        {
            var (left, right, part) = across[x];
            row[x] = between[left] + (between[right] - between[left]) * part;
        }
    }

    static (int First, int Second, float Share)[] Taps(int size, int cells)
    {
        var taps = new (int, int, float)[size];
        for (var i = 0; i < size; i++) taps[i] = Tap(i, size, cells);
        return taps;
    }

    /// <summary>Between which cells a pixel's middle lies, and how far from the first.</summary>
    static (int First, int Second, float Share) Tap(int pixel, int size, int cells)
    {
        var at = Math.Clamp((pixel + 0.5) * cells / size - 0.5, 0, cells - 1);
        var first = (int)at;
        return (first, Math.Min(first + 1, cells - 1), (float)(at - first));
    }
}
