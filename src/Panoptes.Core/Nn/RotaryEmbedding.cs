namespace Panoptes.Nn;

/// <summary>
/// Rotary positions (Su et al. 2021, arXiv:2104.09864) over a grid: every pair of neighboring channels of queries and keys is turned by an angle
/// that grows with the token's row (the first half of the channels) or column (the second half). The table is made once.
/// </summary>
public sealed class RotaryEmbedding : IDisposable
{
    readonly Tensor table;                                             // [tokens, size / 2] complex: cos + i sin

    /// <param name="rows">Of the grid of patches.</param>
    /// <param name="columns">Of the grid of patches.</param>
    /// <param name="size">Of one head: a multiple of 4.</param>
    /// <param name="reference">The grid that the model was trained for: places are stretched to it; null: they are counted as they are.</param>
    /// <param name="prefix">How many tokens stand before the patches and are not turned.</param>
    /// <param name="temperature">The angles of one step go down from 1 to almost 1 / this.</param>
    /// <exception cref="PanoptesException">A size that cannot be divided so.</exception>
    public RotaryEmbedding(int rows, int columns, int size, (int Rows, int Columns)? reference = null, int prefix = 1, double temperature = 10000)
    {
        if (size < 4 || size % 4 != 0) throw new PanoptesException($"Attention heads of size {size} were to have rotary positions over a grid; expected a multiple of 4.");
        if ((long)rows * columns * size > 1 << 23) throw new PanoptesException($"Rotary positions over a grid of {rows}x{columns} were asked for, with heads of size {size}; expected fewer places.");
        var (heights, widths) = (Places(rows, reference?.Rows), Places(columns, reference?.Columns));
        var bands = size / 4;
        var values = new float[(prefix + rows * columns) * size];
        for (var token = 0; token < prefix; token++)
            for (var pair = 0; pair < 2 * bands; pair++) values[token * size + 2 * pair] = 1;
        for (var place = 0; place < rows * columns; place++)
        {
            var row = values.AsSpan((prefix + place) * size, size);
            for (var band = 0; band < bands; band++)
            {
                var frequency = 1 / MathF.Pow((float)temperature, (float)band / bands);
                (row[2 * band + 1], row[2 * band]) = MathF.SinCos(heights[place / columns] * frequency);
                (row[2 * (bands + band) + 1], row[2 * (bands + band)]) = MathF.SinCos(widths[place % columns] * frequency);
            }
        }
        using var scope = NewDisposeScope();
        table = view_as_complex(tensor(values, [prefix + rows * columns, size / 2, 2])).clone().DetachFromDisposeScope();

        static float[] Places(int count, int? trained) => [.. Enumerable.Range(0, count).Select(i => trained is { } t ? (float)i / count * t : i)];
    }

    /// <param name="x">[b, heads, tokens, size]: queries or keys, the prefix first</param>
    /// <returns>The same shape and type.</returns>
    public Tensor Apply(Tensor x)
    {
        using var scope = NewDisposeScope();
        var pairs = view_as_complex((x.dtype == ScalarType.Float32 ? x : x.to(ScalarType.Float32)).unflatten(3, [x.shape[3] / 2, 2]));
        return view_as_real(pairs * table.to(x.device)).flatten(3).to(x.dtype).MoveToOuterDisposeScope();
    }

    public void Dispose() => table.Dispose();
}
