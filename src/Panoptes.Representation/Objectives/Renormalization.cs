using Panoptes.Imaging;

namespace Panoptes.Representation.Objectives;

/// <summary>From the pixels of one model's image processor to those of another's, a channel each: x · scale + shift.</summary>
/// <param name="Scale">What pixels are multiplied by.</param>
/// <param name="Shift">What is added after that.</param>
public sealed record Renormalization(float[] Scale, float[] Shift)
{
    /// <summary>Back to 0 to 1.</summary>
    public static Renormalization Undo(ImageProcessor own) => new([.. own.Std], [.. own.Mean]);

    /// <summary>Back, then minus the other's mean, over its deviation.</summary>
    public static Renormalization Between(ImageProcessor own, ImageProcessor other) =>
        new([.. own.Std.Zip(other.Std, static (a, b) => a / b)], [.. own.Mean.Zip(other.Mean, static (a, b) => a - b).Zip(other.Std, static (d, b) => d / b)]);

    /// <summary>From -1 to 1, minus the other's mean, over its deviation.</summary>
    public static Renormalization FromSigned(ImageProcessor other) => new([.. other.Std.Select(static s => 0.5f / s)], [.. other.Mean.Zip(other.Std, static (m, s) => (0.5f - m) / s)]);

    /// <summary>The pixels as the other model takes them, in its size: [b, 3, size, size], with their gradient.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="size">The side of the other model's images.</param>
    public Tensor Apply(Tensor pixels, int size)
    {
        using var scope = NewDisposeScope();
        var seen = (pixels * tensor(Scale).view(1, 3, 1, 1)) + tensor(Shift).view(1, 3, 1, 1);
        if (seen.shape[^1] != size) seen = nn.functional.interpolate(seen, size: [size, size], mode: InterpolationMode.Bicubic, align_corners: false);
        return seen.MoveToOuterDisposeScope();
    }
}
