using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>How near everything is, as ControlNet's depth is: from black (the farthest) to white (the nearest). A model or a file tells it, which the caller names.</summary>
public sealed record DepthCondition : ConditionMaker
{
    /// <summary>How far every pixel of an image is.</summary>
    public required Func<Image, DepthMap> Depth { get; init; }

    /// <summary>Gray.</summary>
    protected override Image Draw(Image image)
    {
        var near = Depth(image).Near(image);
        var picture = new Image(image.Width, image.Height, 1);
        for (var i = 0; i < near.Length; i++) picture.Pixels[i] = (byte)MathF.Round(near[i] * 255);
        return picture;
    }
}

/// <summary>
/// Where surfaces face, from depth, as ControlNet draws it: Sobel's differences of the nearness to the right and down and a constant are the parts of a vector, which is brought to length 1 and shown as red, green and blue,
/// 128 being 0. What is far behind faces the viewer.
/// </summary>
public sealed record NormalCondition : ConditionMaker
{
    /// <inheritdoc cref="DepthCondition.Depth"/>
    public required Func<Image, DepthMap> Depth { get; init; }

    /// <summary>What is no nearer than this is background, from 0 (the farthest) to 1.</summary>
    public double Background { get; init; } = 0.1;

    /// <summary>The part of the vector towards the viewer.</summary>
    public double Forward { get; init; } = 2 * Math.PI;

    /// <summary>How much nearness there is from the farthest to the nearest, in the unit in which the paper's depth model tells it; null: as much as the short side has pixels, so that normals do not depend on an image's size.</summary>
    public double? Range { get; init; }

    /// <summary>Whether right is blue and towards the viewer red, as the ControlNet of the paper takes it (sd-controlnet-normal); otherwise right is red and towards the viewer blue, as in most normal maps and for ControlNet 1.1.</summary>
    public bool Reversed { get; init; }

    protected override void Check()
    {
        Require(Background is >= 0 and <= 1, nameof(Background), Background, "0 to 1");
        Require(Forward is > 0 and <= 1e6, nameof(Forward), Forward, "more than 0");
        Require(Range is null or > 0 and <= 1e9, nameof(Range), Range ?? 0, "more than 0");
    }

    protected override Image Draw(Image image)
    {
        var near = Depth(image).Near(image);
        var plane = new Plane(image.Width, image.Height);
        near.CopyTo(plane.Values, 0);
        var (dx, dy) = plane.Sobel();
        var (range, z) = (Range ?? Math.Min(image.Width, image.Height), Forward);
        var picture = new Image(image.Width, image.Height, 3);
        Parallel.For(0, image.Height, row =>
        {
            for (var i = row * image.Width; i < (row + 1) * image.Width; i++)
            {
                var (x, y) = near[i] < Background ? (0, 0) : (range * dx.Values[i], range * dy.Values[i]);
                var length = Math.Sqrt((x * x) + (y * y) + (z * z));
                var (first, last) = Reversed ? (z, x) : (x, z);
                (picture.Pixels[3 * i], picture.Pixels[(3 * i) + 1], picture.Pixels[(3 * i) + 2]) = (Shade(first / length), Shade(y / length), Shade(last / length));
            }
        });
        return picture;

        static byte Shade(double part) => (byte)Math.Clamp((part * 127.5) + 127.5, 0, 255);
    }
}
