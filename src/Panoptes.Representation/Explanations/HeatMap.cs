using Panoptes.Imaging;

namespace Panoptes.Representation.Explanations;

/// <summary>A number for every patch of an image.</summary>
/// <param name="Rows">Patches from top to bottom.</param>
/// <param name="Columns">Patches from left to right.</param>
/// <param name="Values">Row by row.</param>
public sealed record HeatMap(int Rows, int Columns, IReadOnlyList<float> Values)
{
    /// <summary>From one value a patch of a square image: [patches].</summary>
    /// <exception cref="PanoptesException">The patches are not those of a square.</exception>
    internal static HeatMap OfSquare(Tensor values)
    {
        var flat = values.detach().to(ScalarType.Float32).cpu().data<float>().ToArray();
        var side = (int)Math.Round(Math.Sqrt(flat.Length));
        return side * side == flat.Length ? new(side, side, flat) : throw new PanoptesException($"The model divides an image into {flat.Length} places, which are no square.");
    }

    /// <summary>Where the largest value is, as shares of the image's width and height.</summary>
    public (double X, double Y) Peak
    {
        get
        {
            var best = 0;
            for (var i = 1; i < Values.Count; i++)
                if (Values[i] > Values[best]) best = i;
            return (((best % Columns) + 0.5) / Columns, ((best / Columns) + 0.5) / Rows);
        }
    }

    /// <summary>The map over a picture of the same view: the lowest values leave it dark and gray, the highest let it shine.</summary>
    /// <param name="picture">Any size.</param>
    public Image Over(Image picture)
    {
        var (low, high) = (Values.Min(), Values.Max());
        var scale = high > low ? 255 / (high - low) : 0;
        var small = new Image(Columns, Rows, 1, [.. Values.Select(v => (byte)Math.Round((v - low) * scale))]);
        var map = small.Resize(picture.Width, picture.Height, ResizeFilter.Bilinear).Pixels;
        var result = new Image(picture.Width, picture.Height, 3, picture.ToRgb().Pixels.ToArray());
        var pixels = result.Pixels;
        for (var i = 0; i < map.Length; i++)
        {
            var (heat, at) = (map[i], 3 * i);
            var gray = ((pixels[at] * 77) + (pixels[at + 1] * 151) + (pixels[at + 2] * 28)) >> 8;
            for (var c = 0; c < 3; c++) pixels[at + c] = (byte)(((gray * 5) + (Colors[(3 * heat) + c] * 11)) >> 4);
        }
        return result;
    }

    /// <summary>Red, green and blue of 256 steps.</summary>
    static readonly byte[] Colors = Interpolated(
    [
        // matplotlib's map "inferno" in sixteen steps, dark to bright.
        [0, 0, 4], [12, 8, 38], [36, 12, 79], [66, 10, 104], [93, 18, 110], [120, 28, 109], [147, 38, 103], [174, 48, 92],
        [199, 62, 76], [221, 81, 58], [237, 105, 37], [248, 133, 15], [252, 165, 10], [250, 198, 45], [242, 230, 97], [252, 255, 164],
    ]);

    static byte[] Interpolated(byte[][] steps)
    {
        var colors = new byte[256 * 3];
        for (var i = 0; i < 256; i++)
        {
            var at = i / 255f * (steps.Length - 1);
            var from = Math.Min((int)at, steps.Length - 2);
            for (var c = 0; c < 3; c++) colors[(3 * i) + c] = (byte)MathF.Round(float.Lerp(steps[from][c], steps[from + 1][c], at - from));
        }
        return colors;
    }
}
