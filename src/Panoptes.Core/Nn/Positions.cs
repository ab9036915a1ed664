namespace Panoptes.Nn;

/// <summary>Learned tables of positions, resized to images of another size than the table was learned for.</summary>
public static class Positions
{
    /// <summary>
    /// MAE's fixed table (He et al. 2022, arXiv:2111.06377, util/pos_embed.py): [sin x | cos x | sin y | cos y], a quarter of the width each, at
    /// frequencies from 1 down to 1/10000. The column counts as x and comes first.
    /// </summary>
    /// <param name="rows">Of the grid.</param>
    /// <param name="columns">Of the grid.</param>
    /// <param name="width">Of a position.</param>
    /// <param name="rowStep">How far apart rows are.</param>
    /// <param name="columnStep">How far apart columns are.</param>
    /// <returns>[1 + rows · columns, width] float32; row 0, the class token's, is zero</returns>
    /// <exception cref="PanoptesException">The width is no multiple of 4.</exception>
    public static Tensor SinCos(int rows, int columns, int width, double rowStep = 1, double columnStep = 1)
    {
        if (width % 4 != 0) throw new PanoptesException($"Sine and cosine positions were asked for with a width of {width}; expected a multiple of 4.");
        var quarter = width / 4;
        var table = new float[(1 + rows * columns) * width];
        for (var i = 0; i < rows * columns; i++)
        {
            var row = table.AsSpan((1 + i) * width, width);
            for (var k = 0; k < quarter; k++)
            {
                var frequency = Math.Pow(10000, -(double)k / quarter);
                var ((sinX, cosX), (sinY, cosY)) = (Math.SinCos(i % columns * columnStep * frequency), Math.SinCos(i / columns * rowStep * frequency));
                (row[k], row[quarter + k], row[2 * quarter + k], row[3 * quarter + k]) = ((float)sinX, (float)cosX, (float)sinY, (float)cosY);
            }
        }
        return tensor(table, [1 + rows * columns, width]);
    }

    /// <summary>Resizes a grid of positions bicubically (a = -0.75, no antialiasing, corners not aligned), as CLIP, ViT and MAE do.</summary>
    /// <param name="table">[rows · columns, width]</param>
    /// <returns>[newRows · newColumns, width]</returns>
    public static Tensor ResizeBicubic(Tensor table, int rows, int columns, int newRows, int newColumns)
    {
        using var scope = NewDisposeScope();
        var grid = table.view(1, rows, columns, -1).permute(0, 3, 1, 2);                          // [1, width, rows, columns]
        if (grid.dtype is not (ScalarType.Float32 or ScalarType.Float64)) grid = grid.to(ScalarType.Float32);
        var resized = nn.functional.interpolate(grid, [newRows, newColumns], mode: InterpolationMode.Bicubic, align_corners: false);
        return resized.squeeze(0).flatten(1).t().to(table.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Resizes a grid of positions bicubically with antialiasing (a = -0.5; the filter widens where the grid shrinks), as DINOv2 with registers does.
    /// </summary>
    /// <param name="table">[rows · columns, width]</param>
    /// <returns>[newRows · newColumns, width]</returns>
    public static Tensor ResizeBicubicAntialiased(Tensor table, int rows, int columns, int newRows, int newColumns)
    {
        using var scope = NewDisposeScope();
        var grid = table.view(rows, columns, -1).to(ScalarType.Float32);
        return Resize(grid, newRows, newColumns, 2, Cubic).to(table.dtype).MoveToOuterDisposeScope();

        static double Cubic(double x) => Math.Abs(x) switch
        {
            var t and < 1 => (1.5 * t - 2.5) * t * t + 1,
            var t and < 2 => ((-0.5 * t + 2.5) * t - 4) * t + 2,
            _ => 0,
        };
    }

    /// <summary>
    /// Resizes a grid of positions bilinearly with antialiasing (the triangle widens where the grid shrinks), as SigLIP 2 does.
    /// </summary>
    /// <param name="table">[rows, columns, width] float32</param>
    /// <returns>[newRows · newColumns, width]</returns>
    public static Tensor ResizeBilinearAntialiased(Tensor table, int newRows, int newColumns) =>
        Resize(table, newRows, newColumns, 1, static x => Math.Max(0, 1 - Math.Abs(x)));

    /// <summary>Separable, so two matrix products.</summary>
    static Tensor Resize(Tensor table, int newRows, int newColumns, int halfWidth, Func<double, double> filter)
    {
        using var scope = NewDisposeScope();
        var (rows, columns, width) = ((int)table.shape[0], (int)table.shape[1], table.shape[2]);
        var (down, across) = (Weights(rows, newRows, halfWidth, filter).to(table.device), Weights(columns, newColumns, halfWidth, filter).to(table.device));
        var vertical = down.matmul(table.flatten(1)).view(newRows, columns, width);              // [new rows, columns, width]
        return across.matmul(vertical).flatten(0, 1).MoveToOuterDisposeScope();                   // [new rows · new columns, width]
    }

    /// <summary>The weights [to, from] of antialiased resizing: a filter of half-width · max(1, from / to) about each new sample's center.</summary>
    static Tensor Weights(int from, int to, int halfWidth, Func<double, double> filter)
    {
        var weights = new float[to * from];
        var step = (double)from / to;
        var stretch = Math.Max(step, 1);
        for (var i = 0; i < to; i++)
        {
            var center = step * (i + 0.5);
            var (first, last) = (Math.Max(0, (int)(center - halfWidth * stretch + 0.5)), Math.Min(from, (int)(center + halfWidth * stretch + 0.5)));
            var total = 0.0;
            for (var j = first; j < last; j++) total += Weight(j);
            for (var j = first; j < last; j++) weights[i * from + j] = (float)(Weight(j) / total);

            double Weight(int j) => filter((j - center + 0.5) / stretch);
        }
        return tensor(weights, [to, from]);
    }
}
