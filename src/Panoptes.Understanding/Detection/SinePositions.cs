namespace Panoptes.Understanding;

/// <summary>Where things are, as sines and cosines: of the places of a padded map (DETR's) and of boxes.</summary>
static class SinePositions
{
    /// <summary>Which places of a map are of the image, and not what it was filled up with.</summary>
    /// <param name="mask">[b, height, width], false (or 0) where an image is filled up; null: nowhere.</param>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="rows">Of the map.</param>
    /// <param name="columns">Of the map.</param>
    /// <returns>[b, rows, columns] bool</returns>
    /// <exception cref="PanoptesException">The mask is of another size than the images.</exception>
    internal static Tensor Shrink(Tensor? mask, Tensor pixels, long rows, long columns)
    {
        if (mask is null) return ones([pixels.shape[0], rows, columns], ScalarType.Bool, pixels.device);
        if (mask.dim() != 3 || mask.shape[0] != pixels.shape[0] || mask.shape[1] != pixels.shape[2] || mask.shape[2] != pixels.shape[3])
            throw new PanoptesException($"The pixel mask is [{string.Join(", ", mask.shape)}]; expected [{pixels.shape[0]}, {pixels.shape[2]}, {pixels.shape[3]}].");
        using var scope = NewDisposeScope();
        return nn.functional.interpolate(mask.to(ScalarType.Float32).unsqueeze(0), [rows, columns], mode: InterpolationMode.Nearest).squeeze(0).ne(0).MoveToOuterDisposeScope();
    }

    /// <summary>DETR's: row and column of the image's own places from 0 to 2π, the row's sines and cosines first, by turns.</summary>
    /// <param name="real">[b, rows, columns] bool</param>
    /// <param name="size">Of each of the two.</param>
    /// <param name="temperature">What the frequencies go down to.</param>
    /// <returns>[b, rows · columns, 2 size] float32</returns>
    internal static Tensor Of(Tensor real, int size, double temperature)
    {
        using var scope = NewDisposeScope();
        var counted = real.to(ScalarType.Float32);
        var (y, x) = (counted.cumsum(1), counted.cumsum(2));
        y = y / (y.narrow(1, y.shape[1] - 1, 1) + 1e-6) * (2 * Math.PI);
        x = x / (x.narrow(2, x.shape[2] - 1, 1) + 1e-6) * (2 * Math.PI);
        return Turns(stack([y, x], -1), size, temperature).flatten(1, 2).MoveToOuterDisposeScope();
    }

    /// <summary>Boxes or points from 0 to 1, the second coordinate before the first.</summary>
    /// <param name="places">[..., coordinates]</param>
    /// <param name="size">Of each coordinate.</param>
    /// <returns>[..., coordinates · size]</returns>
    internal static Tensor OfBoxes(Tensor places, int size)
    {
        using var scope = NewDisposeScope();
        var turned = places.shape[^1] < 2 ? places : cat([places.narrow(-1, 1, 1), places.narrow(-1, 0, 1), places.narrow(-1, 2, places.shape[^1] - 2)], -1);
        return Turns(turned * (2 * Math.PI), size, 10000).MoveToOuterDisposeScope();
    }

    /// <summary>[..., coordinates] to [..., coordinates · size]: sine and cosine by turns, of frequencies from 1 down to almost 1 / temperature.</summary>
    static Tensor Turns(Tensor angles, int size, double temperature)
    {
        var steps = tensor((float[])[.. Enumerable.Range(0, size / 2).Select(i => (float)Math.Pow(temperature, 2.0 * i / size))]).to(angles.device);
        var turned = angles.unsqueeze(-1) / steps;                                                // [..., coordinates, size / 2]
        return stack([turned.sin(), turned.cos()], -1).flatten(-3);
    }
}
