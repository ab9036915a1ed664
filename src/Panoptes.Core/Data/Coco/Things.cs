namespace Panoptes.Data;

/// <summary>Where a thing is: in a box, and maybe exactly.</summary>
/// <param name="X">Left edge, in pixels.</param>
/// <param name="Y">Upper edge.</param>
/// <param name="Width">In pixels.</param>
/// <param name="Height">In pixels.</param>
/// <param name="Mask">Its pixels; null where only the box is known.</param>
public sealed record DetectedRegion(double X, double Y, double Width, double Height, RunLengthMask? Mask = null)
{
    /// <summary>The region of a mask.</summary>
    public static DetectedRegion Of(RunLengthMask mask) => new(mask.Box.X, mask.Box.Y, mask.Box.Width, mask.Box.Height, mask);
}

/// <summary>A thing in an image, as it is labeled.</summary>
/// <param name="Image">The image's id.</param>
/// <param name="Category">What it is.</param>
/// <param name="Region">Where it is.</param>
/// <param name="Area">Its area in pixels, which says whether it is small, medium or large.</param>
/// <param name="Crowd">Whether it is many things at once: what is detected in it counts neither way.</param>
public sealed record LabeledThing(long Image, int Category, DetectedRegion Region, double Area, bool Crowd = false);

/// <summary>A thing that was detected.</summary>
/// <param name="Image">The image's id.</param>
/// <param name="Category">What it was taken for.</param>
/// <param name="Region">Where.</param>
/// <param name="Score">How sure the model is; only the order counts.</param>
public sealed record DetectedThing(long Image, int Category, DetectedRegion Region, double Score);
