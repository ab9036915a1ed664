using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>
/// People's skeletons in OpenPose's colors on black, as ControlNet reads them, drawn from keypoints that a caller gives; no model that finds them ships. A joint is drawn in its full color, a limb in three fifths of its.
/// </summary>
public sealed record PoseCondition : ConditionMaker
{
    /// <summary>COCO's keypoints are nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right; OpenPose's begin with nose and neck, then the right arm and the left, the legs, eyes and ears, right before left.</summary>
    const int Coco = 17, OpenPose = 18, Neck = 1;

    /// <summary>Which of COCO's keypoints are OpenPose's; the neck is none.</summary>
    static readonly int[] FromCoco = [0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3];

    /// <summary>What is joined, in the order of the colors.</summary>
    static readonly (int From, int To)[] Limbs = [(1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)];

    /// <summary>Around the circle of hues, of joints and, but for the last, of limbs.</summary>
    public static IReadOnlyList<Rgb> Colors { get; } =
    [
        new(255, 0, 0), new(255, 85, 0), new(255, 170, 0), new(255, 255, 0), new(170, 255, 0), new(85, 255, 0), new(0, 255, 0), new(0, 255, 85), new(0, 255, 170),
        new(0, 255, 255), new(0, 170, 255), new(0, 85, 255), new(0, 0, 255), new(85, 0, 255), new(170, 0, 255), new(255, 0, 255), new(255, 0, 170), new(255, 0, 85),
    ];

    /// <summary>Of everyone in an image: x, y (in its pixels) and visibility or score (0: unknown) for each of COCO's 17 keypoints or OpenPose's 18.</summary>
    public required Func<Image, IReadOnlyList<IReadOnlyList<double>>> Poses { get; init; }

    /// <summary>How large joints are and how thick limbs, their radius in pixels of an image of 512.</summary>
    public double Thickness { get; init; } = 4;

    protected override void Check() => Require(Thickness is >= 0.5 and <= 100, nameof(Thickness), Thickness, "0.5 to 100");

    protected override Image Draw(Image image)
    {
        var radius = Math.Max(1, Thickness * Math.Min(image.Width, image.Height) / 512);
        var canvas = new Image(image.Width, image.Height, 3);
        var people = Poses(image).Select(Joints).ToArray();
        foreach (var joints in people)
        {
            foreach (var ((from, to), color) in Limbs.Zip(Colors))
            {
                if (joints[from] is not { } a || joints[to] is not { } b) continue;
                var (dx, dy) = (b.X - a.X, b.Y - a.Y);
                var half = Math.Sqrt((dx * dx) + (dy * dy)) / 2;
                if (half == 0) continue;
                Fill(canvas, (a.X + b.X) / 2, (a.Y + b.Y) / 2, Math.Max(half, 0.5), radius, dx / (2 * half), dy / (2 * half), new((byte)(color.R * 3 / 5), (byte)(color.G * 3 / 5), (byte)(color.B * 3 / 5)));
            }
        }
        foreach (var joints in people)
            foreach (var (joint, color) in joints.Zip(Colors))
                if (joint is { } j) Fill(canvas, j.X, j.Y, radius, radius, 1, 0, color);
        return canvas;
    }

    /// <summary>OpenPose's joints, null where unknown. COCO's have no neck: it is between the shoulders.</summary>
    static (double X, double Y)?[] Joints(IReadOnlyList<double> keypoints)
    {
        if (keypoints.Count is not (3 * Coco or 3 * OpenPose)) throw new PanoptesException($"A pose has {keypoints.Count} numbers; expected three for each of COCO's {Coco} keypoints or OpenPose's {OpenPose}.");
        if (keypoints.Any(static k => !double.IsFinite(k) || Math.Abs(k) > 1e6)) throw new PanoptesException("A pose holds what is no place; expected finite numbers of pixels.");
        if (keypoints.Count == 3 * OpenPose) return [.. Enumerable.Range(0, OpenPose).Select(Of)];
        var joints = FromCoco.Select(k => k < 0 ? null : Of(k)).ToArray();
        if (joints[2] is { } right && joints[5] is { } left) joints[Neck] = ((right.X + left.X) / 2, (right.Y + left.Y) / 2);
        return joints;

        (double X, double Y)? Of(int k) => keypoints[(3 * k) + 2] > 0 ? (keypoints[3 * k], keypoints[(3 * k) + 1]) : null;
    }

    /// <summary>An ellipse of a direction, and at least the pixel of its middle.</summary>
    static void Fill(Image canvas, double x, double y, double along, double across, double cos, double sin, Rgb color)
    {
        var (rx, ry) = (Math.Sqrt((along * along * cos * cos) + (across * across * sin * sin)), Math.Sqrt((along * along * sin * sin) + (across * across * cos * cos)));
        var (centerX, centerY) = ((int)Math.Round(x), (int)Math.Round(y));
        for (var v = Math.Max(0, (int)Math.Floor(y - ry)); v <= Math.Min(canvas.Height - 1, Math.Ceiling(y + ry)); v++)
        {
            for (var u = Math.Max(0, (int)Math.Floor(x - rx)); u <= Math.Min(canvas.Width - 1, Math.Ceiling(x + rx)); u++)
            {
                var (dx, dy) = (u - x, v - y);
                var (a, b) = (((dx * cos) + (dy * sin)) / along, ((dy * cos) - (dx * sin)) / across);
                if ((a * a) + (b * b) > 1 && (u, v) != (centerX, centerY)) continue;
                var at = 3 * ((v * canvas.Width) + u);
                (canvas.Pixels[at], canvas.Pixels[at + 1], canvas.Pixels[at + 2]) = (color.R, color.G, color.B);
            }
        }
    }
}
