using System.Numerics;
using System.Runtime.InteropServices;

namespace Panoptes.Data;

/// <summary>
/// A smooth random displacement of every pixel: normal displacements on a coarse grid, in between by cubic B-splines (a free-form
/// deformation; the augmentation of U-Net, Ronneberger et al. 2015, arXiv:1505.04597). The tables of weights are made once.
/// </summary>
sealed class ElasticField
{
    readonly int size, grid;
    readonly Vector4[] weights;
    readonly int[] cells;

    internal ElasticField(int size, int grid)
    {
        (this.size, this.grid) = (size, grid);
        (weights, cells) = (new Vector4[size], new int[size]);
        for (var i = 0; i < size; i++)
        {
            var at = (i + 0.5f) * grid / size;
            var cell = Math.Min((int)at, grid - 1);
            var (t, u) = (at - cell, 1 - (at - cell));
            cells[i] = cell;
            weights[i] = new Vector4(u * u * u, (3 * t * t * t) - (6 * t * t) + 4, (3 * u * u * u) - (6 * u * u) + 4, t * t * t) / 6;
        }
    }

    /// <summary>Draws one field.</summary>
    /// <param name="deviation">Of the displacement of a grid point, in pixels.</param>
    /// <param name="random">The sample's stream; it moves on.</param>
    /// <param name="field">[size, size]: how far each pixel's source lies from it, x and y in pixels.</param>
    internal void Draw(float deviation, ref SampleRandom random, Span<Vector2> field)
    {
        var side = grid + 3;
        Span<Vector2> points = stackalloc Vector2[side * side];
        foreach (ref var value in MemoryMarshal.Cast<Vector2, float>(points)) value = random.NextNormal() * deviation;
        Span<Vector2> row = stackalloc Vector2[side];
        for (var y = 0; y < size; y++)
        {
            var w = weights[y];
            var first = points[(cells[y] * side)..];
            for (var x = 0; x < side; x++) row[x] = (w.X * first[x]) + (w.Y * first[side + x]) + (w.Z * first[(2 * side) + x]) + (w.W * first[(3 * side) + x]);
            var line = field.Slice(y * size, size);
            for (var x = 0; x < line.Length; x++)
            {
                var (v, c) = (weights[x], cells[x]);
                line[x] = (v.X * row[c]) + (v.Y * row[c + 1]) + (v.Z * row[c + 2]) + (v.W * row[c + 3]);
            }
        }
    }
}
