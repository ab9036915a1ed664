using Panoptes.Data;

namespace Panoptes.Representation;

/// <summary>
/// BEiT's masks (Bao et al. 2022, arXiv:2106.08254, algorithm 1; beit/masking_generator.py): rectangles of random sizes and proportions, until
/// enough patches are covered, so that a patch cannot be guessed from its neighbors.
/// </summary>
public static class BlockwiseMask
{
    const int Attempts = 10;
    const double LeastAspect = 0.3;

    /// <param name="batch">How many images.</param>
    /// <param name="rows">Rows of patches.</param>
    /// <param name="columns">Columns of patches.</param>
    /// <param name="count">How many patches of each image are masked at most (the paper: 75 of 14 x 14); seldom a few less.</param>
    /// <param name="generator">Decides; null: libtorch's own.</param>
    /// <param name="smallest">The fewest patches of a rectangle that is tried (the paper: 16).</param>
    /// <returns>[batch, rows · columns] bool, true where masked; at least one patch of every image is</returns>
    /// <exception cref="PanoptesException">More patches to mask than there are, or none.</exception>
    public static Tensor Draw(int batch, int rows, int columns, int count, Generator? generator = null, int smallest = 16)
    {
        if (count < 1 || count > rows * columns) throw new PanoptesException($"{count} of {rows}x{columns} patches were to be masked; expected 1 to {rows * columns}.");
        long seed;
        using (var drawn = randint(0, long.MaxValue, [1], ScalarType.Int64, generator: generator)) seed = drawn.item<long>();
        var masks = new bool[batch * rows * columns];
        for (var i = 0; i < batch; i++)
        {
            var random = new SampleRandom((ulong)seed, 0, i);
            Fill(masks.AsSpan(i * rows * columns, rows * columns), rows, columns, count, Math.Min(smallest, count), ref random);
        }
        return tensor(masks, [batch, rows * columns]);
    }

    static void Fill(Span<bool> mask, int rows, int columns, int count, int smallest, ref SampleRandom random)
    {
        var left = count;
        while (left > 0)
        {
            var added = 0;
            for (var attempt = 0; attempt < Attempts && added == 0; attempt++) added = TryRectangle(mask, rows, columns, left, smallest, ref random);
            if (added == 0) break;
            left -= added;
        }
        if (left == count) mask[random.Next(mask.Length)] = true;
    }

    /// <summary>Masks a rectangle at random, if it covers at least one patch more and not more than are left.</summary>
    static int TryRectangle(Span<bool> mask, int rows, int columns, int left, int smallest, ref SampleRandom random)
    {
        var bound = (float)Math.Log(1 / LeastAspect);
        var (area, aspect) = (random.Next(Math.Min(smallest, left), Math.Max(smallest, left)), Math.Exp(random.Next(-bound, bound)));
        var (height, width) = ((int)Math.Round(Math.Sqrt(area * aspect)), (int)Math.Round(Math.Sqrt(area / aspect)));
        if (height >= rows || width >= columns) return 0;
        var (top, start, added) = (random.Next(rows - height + 1), random.Next(columns - width + 1), height * width);
        for (var y = top; y < top + height; y++)
            foreach (var taken in mask.Slice(y * columns + start, width))
                if (taken) added--;
        if (added <= 0 || added > left) return 0;
        for (var y = top; y < top + height; y++) mask.Slice(y * columns + start, width).Fill(true);
        return added;
    }
}
