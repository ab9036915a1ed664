namespace Panoptes.Generation;

/// <summary>
/// FreeU (Si et al. 2023, arXiv:2309.11497): in the two coarsest levels of a UNet's upward path the first half of the channels counts for more, and of what skips over, the lowest frequencies for less.
/// Nothing is trained.
/// </summary>
/// <param name="S1">Of the skip's lowest frequencies in the first level.</param>
/// <param name="S2">In the second.</param>
/// <param name="B1">Of the first half of the channels in the first level.</param>
/// <param name="B2">In the second.</param>
public sealed record FreeU(double S1, double S2, double B1, double B2)
{
    /// <param name="level">Of the upward path, 0 the coarsest; from the third on nothing changes.</param>
    /// <param name="hidden">[b, channels, height, width]</param>
    /// <param name="skip">[b, other channels, height, width]</param>
    /// <returns>Both as they go on, of the current dispose scope.</returns>
    public (Tensor Hidden, Tensor Skip) Apply(int level, Tensor hidden, Tensor skip)
    {
        // As in the peer, a factor of 0 turns it off.
        if (level > 1 || B1 * B2 * S1 * S2 == 0) return (hidden.alias(), skip.alias());
        using var scope = NewDisposeScope();
        var (b, s) = level == 0 ? (B1, S1) : (B2, S2);
        var half = hidden.shape[1] / 2;
        hidden = cat([hidden.narrow(1, 0, half) * b, hidden.narrow(1, half, hidden.shape[1] - half)], 1);
        return (hidden.MoveToOuterDisposeScope(), Damped(skip, s).MoveToOuterDisposeScope());
    }

    /// <summary>Multiplies the frequencies -1 and 0 of rows and columns, all four of them, by <paramref name="scale"/>.</summary>
    static Tensor Damped(Tensor map, double scale)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (map.shape[2], map.shape[3]);
        var spectrum = fft.fftshift(fft.fftn(map.to(ScalarType.Float32), dim: [2, 3]), [2, 3]);
        var mask = ones([rows, columns], ScalarType.Float32, map.device);
        var (row, column) = (Math.Max(0, rows / 2 - 1), Math.Max(0, columns / 2 - 1));
        mask.narrow(0, row, rows / 2 + 1 - row).narrow(1, column, columns / 2 + 1 - column).fill_(scale);
        return fft.ifftn(fft.ifftshift(spectrum * mask, [2, 3]), dim: [2, 3]).real.to(map.dtype).MoveToOuterDisposeScope();
    }
}
