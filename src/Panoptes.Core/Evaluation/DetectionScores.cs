using Panoptes.Data;

namespace Panoptes.Evaluation;

/// <summary>COCO's average precision and recall (pycocotools' COCOeval): by IoU from 0.50 to 0.95, by size, by how many detections an image may have.</summary>
public sealed class DetectionScores
{
    static readonly int[] Most = [1, 10, 100];
    static readonly (double Least, double Largest)[] Sizes = [(0, 1e10), (0, 32 * 32), (32 * 32, 96 * 96), (96 * 96, 1e10)];

    readonly PrecisionTable table;

    DetectionScores(PrecisionTable table) => this.table = table;

    /// <summary>The categories, in their order.</summary>
    public IReadOnlyList<int> Categories => table.Categories;

    /// <summary>AP: the mean precision over recalls, IoUs from 0.50 to 0.95 and categories; null where nothing is labeled.</summary>
    public double? Ap => table.MeanPrecision(null, 0);

    /// <summary>The same at an IoU of 0.50.</summary>
    public double? Ap50 => table.MeanPrecision(0, 0);

    /// <summary>The same at an IoU of 0.75.</summary>
    public double? Ap75 => table.MeanPrecision(5, 0);

    /// <summary>AP of things below 32² pixels.</summary>
    public double? ApSmall => table.MeanPrecision(null, 1);

    /// <summary>AP of things from 32² to 96² pixels.</summary>
    public double? ApMedium => table.MeanPrecision(null, 2);

    /// <summary>AP of things above 96² pixels.</summary>
    public double? ApLarge => table.MeanPrecision(null, 3);

    /// <summary>AR: the mean recall over IoUs and categories with 1, 10 or 100 detections an image.</summary>
    public double? Ar(int most = 100) => table.MeanRecall(null, 0, Array.IndexOf(Most, most) is >= 0 and var m ? m : throw new PanoptesException($"Recall at {most} detections an image was asked for; expected 1, 10 or 100."));

    /// <summary>AR of things below 32² pixels.</summary>
    public double? ArSmall => table.MeanRecall(null, 1);

    /// <summary>AR of things from 32² to 96² pixels.</summary>
    public double? ArMedium => table.MeanRecall(null, 2);

    /// <summary>AR of things above 96² pixels.</summary>
    public double? ArLarge => table.MeanRecall(null, 3);

    /// <summary>The twelve numbers that COCOeval prints, in its order.</summary>
    public IReadOnlyList<double?> Summary => [Ap, Ap50, Ap75, ApSmall, ApMedium, ApLarge, Ar(1), Ar(10), Ar(), ArSmall, ArMedium, ArLarge];

    /// <summary>AP of one category.</summary>
    public double? ApOf(int category) => table.PrecisionOf(category);

    /// <summary>The precision of a category at the recalls 0.00, 0.01 to 1.00.</summary>
    /// <param name="category">The category's id.</param>
    /// <param name="iou">Which IoU: 0 is 0.50, 9 is 0.95.</param>
    public IReadOnlyList<double> PrecisionCurve(int category, int iou = 0) => table.PrecisionCurve(category, iou);

    /// <summary>The largest recall of a category at the IoUs 0.50, 0.55 to 0.95.</summary>
    public IReadOnlyList<double> RecallOf(int category) => table.RecallOf(category);

    /// <summary>Measures detections against labels.</summary>
    /// <param name="labels">All things of all images.</param>
    /// <param name="detections">What was detected in them.</param>
    /// <param name="categories">What may be detected; others are left out.</param>
    /// <param name="masks">Whether masks are compared, which all must have then; else boxes.</param>
    /// <exception cref="PanoptesException">A mask is missing, or masks of an image differ in size.</exception>
    public static DetectionScores Of(IReadOnlyList<LabeledThing> labels, IReadOnlyList<DetectedThing> detections, IReadOnlyList<int> categories, bool masks = false) =>
        new(PrecisionTable.Of(labels, static l => (l.Category, l.Image), detections, static d => (d.Category, d.Image), categories, Sizes, Most, (ours, theirs) =>
        {
            var sure = theirs.OrderByDescending(static d => d.Score).Take(Most[^1]).ToArray();
            return new(
                [.. ours.Select(static l => new PrecisionTable.Label(l.Area, l.Crowd, l.Crowd))],
                [.. sure.Select(d => new PrecisionTable.Detection(d.Score, masks ? (d.Region.Mask ?? throw Missing()).Area : d.Region.Width * d.Region.Height))],
                (d, l) => Overlap(sure[d].Region, ours[l].Region, ours[l].Crowd, masks));
        }));

    static double Overlap(DetectedRegion a, DetectedRegion b, bool crowd, bool masks)
    {
        if (masks) return (a.Mask ?? throw Missing()).Iou(b.Mask ?? throw Missing(), crowd);
        var (width, height) = (Math.Min(a.X + a.Width, b.X + b.Width) - Math.Max(a.X, b.X), Math.Min(a.Y + a.Height, b.Y + b.Height) - Math.Max(a.Y, b.Y));
        if (width <= 0 || height <= 0) return 0;
        var shared = width * height;
        return shared / (crowd ? a.Width * a.Height : (a.Width * a.Height) + (b.Width * b.Height) - shared);
    }

    static PanoptesException Missing() => new("A thing has no mask; expected one for each where masks are compared.");
}
