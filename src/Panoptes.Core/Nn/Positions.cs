namespace Panoptes.Nn;

/// <summary>Learned tables of positions, resized to images of another size than the table was learned for.</summary>
public static class Positions
{
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
    /// Resizes a grid of positions bilinearly with antialiasing (the triangle widens where the grid shrinks), as SigLIP 2 does.
    /// Separable, so two matrix products.
    /// </summary>
    /// <param name="table">[rows, columns, width] float32</param>
    /// <returns>[newRows · newColumns, width]</returns>
    public static Tensor ResizeBilinearAntialiased(Tensor table, int newRows, int newColumns)
    {
        using var scope = NewDisposeScope();
        var (rows, columns, width) = ((int)table.shape[0], (int)table.shape[1], table.shape[2]);
        var (down, across) = (Triangle(rows, newRows).to(table.device), Triangle(columns, newColumns).to(table.device));
        var vertical = down.matmul(table.flatten(1)).view(newRows, columns, width);              // [new rows, columns, width]
        return across.matmul(vertical).flatten(0, 1).MoveToOuterDisposeScope();                   // [new rows · new columns, width]
    }

    /// <summary>The weights [to, from] of antialiased linear resizing: a triangle of half-width max(1, from / to) about each new sample's center.</summary>
    static Tensor Triangle(int from, int to)
    {
        var weights = new float[to * from];
        var scale = (double)from / to;
        var support = Math.Max(scale, 1);
        for (var i = 0; i < to; i++)
        {
            var center = scale * (i + 0.5);
            var (first, last) = (Math.Max(0, (int)(center - support + 0.5)), Math.Min(from, (int)(center + support + 0.5)));
            var total = 0.0;
            for (var j = first; j < last; j++) total += Weight(j);
            for (var j = first; j < last; j++) weights[i * from + j] = (float)(Weight(j) / total);

            double Weight(int j) => Math.Max(0, 1 - Math.Abs((j - center + 0.5) / support));
        }
        return tensor(weights, [to, from]);
    }
}
