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

/// <summary>The labeled points of a thing in an image.</summary>
/// <param name="Image">The image's id.</param>
/// <param name="Category">What it is.</param>
/// <param name="Keypoints">x, y and visibility (0: not labeled, 1: hidden, 2: to be seen) in turn.</param>
/// <param name="Box">Where it is.</param>
/// <param name="Area">Its area in pixels.</param>
/// <param name="Crowd">Whether it is many things at once.</param>
public sealed record LabeledPose(long Image, int Category, IReadOnlyList<double> Keypoints, DetectedRegion Box, double Area, bool Crowd = false)
{
    /// <summary>How many points are labeled.</summary>
    public int Labeled => Keypoints.Where(static (_, i) => i % 3 == 2).Count(static v => v > 0);
}

/// <summary>The points of a thing that was detected.</summary>
/// <param name="Image">The image's id.</param>
/// <param name="Category">What it was taken for.</param>
/// <param name="Keypoints">x, y and a third number, which nothing follows from, in turn.</param>
/// <param name="Score">How sure the model is; only the order counts.</param>
public sealed record DetectedPose(long Image, int Category, IReadOnlyList<double> Keypoints, double Score)
{
    /// <summary>That of the smallest box around the points, as pycocotools has it.</summary>
    public double Area
    {
        get
        {
            if (Keypoints.Count < 3) return 0;
            var (xs, ys) = (Keypoints.Where(static (_, i) => i % 3 == 0), Keypoints.Where(static (_, i) => i % 3 == 1));
            return (xs.Max() - xs.Min()) * (ys.Max() - ys.Min());
        }
    }
}
