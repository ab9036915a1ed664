using Panoptes.Data;

namespace Panoptes.Evaluation;

/// <summary>
/// COCO's average precision and recall of keypoints (pycocotools' COCOeval with iouType "keypoints"): what the IoU is to boxes, the object keypoint similarity is to poses: the mean over the
/// labeled points of exp(-d² / (2 (2 sigma)² area)).
/// </summary>
public sealed class KeypointScores
{
    static readonly int[] Most = [20];
    static readonly (double Least, double Largest)[] Sizes = [(0, 1e10), (32 * 32, 96 * 96), (96 * 96, 1e10)];

    readonly PrecisionTable table;

    KeypointScores(PrecisionTable table) => this.table = table;

    /// <summary>How exactly people point at the seventeen points of COCO's people: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, as a share of the body's size.</summary>
    public static IReadOnlyList<double> PersonSigmas { get; } = [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089];

    /// <summary>The mean precision over recalls, similarities from 0.50 to 0.95 and categories; null where nothing is labeled.</summary>
    public double? Ap => table.MeanPrecision(null, 0);

    /// <summary>The same at a similarity of 0.50.</summary>
    public double? Ap50 => table.MeanPrecision(0, 0);

    /// <summary>The same at a similarity of 0.75.</summary>
    public double? Ap75 => table.MeanPrecision(5, 0);

    /// <summary>AP of things from 32² to 96² pixels.</summary>
    public double? ApMedium => table.MeanPrecision(null, 1);

    /// <summary>AP of things above 96² pixels.</summary>
    public double? ApLarge => table.MeanPrecision(null, 2);

    /// <summary>The mean recall over similarities and categories with 20 detections an image.</summary>
    public double? Ar => table.MeanRecall(null, 0);

    /// <summary>The ten numbers that COCOeval prints, in its order: AP, AP50, AP75, AP of medium and large things, and the same of AR.</summary>
    public IReadOnlyList<double?> Summary => [Ap, Ap50, Ap75, ApMedium, ApLarge, Ar, table.MeanRecall(0, 0), table.MeanRecall(5, 0), table.MeanRecall(null, 1), table.MeanRecall(null, 2)];

    /// <summary>AP of one category.</summary>
    public double? ApOf(int category) => table.PrecisionOf(category);

    /// <summary>The precision of a category at the recalls 0.00, 0.01 to 1.00.</summary>
    /// <param name="category">The category's id.</param>
    /// <param name="similarity">Which similarity: 0 is 0.50, 9 is 0.95.</param>
    public IReadOnlyList<double> PrecisionCurve(int category, int similarity = 0) => table.PrecisionCurve(category, similarity);

    /// <summary>The largest recall of a category at the similarities 0.50, 0.55 to 0.95.</summary>
    public IReadOnlyList<double> RecallOf(int category) => table.RecallOf(category);

    /// <summary>Measures detected poses against labels.</summary>
    /// <param name="labels">All poses of all images.</param>
    /// <param name="detections">What was detected in them.</param>
    /// <param name="categories">What may be detected; others are left out.</param>
    /// <param name="sigmas">How exactly each point can be pointed at; null: those of COCO's people.</param>
    /// <exception cref="PanoptesException">A pose has another number of points than there are sigmas.</exception>
    public static KeypointScores Of(IReadOnlyList<LabeledPose> labels, IReadOnlyList<DetectedPose> detections, IReadOnlyList<int> categories, IReadOnlyList<double>? sigmas = null)
    {
        sigmas ??= PersonSigmas;
        if (sigmas.Any(static s => s is not (> 0 and < double.PositiveInfinity))) throw new PanoptesException("A sigma of a keypoint is not above 0.");
        foreach (var points in labels.Select(static l => l.Keypoints).Concat(detections.Select(static d => d.Keypoints)))
            if (points.Count != 3 * sigmas.Count) throw new PanoptesException($"A pose has {points.Count} numbers; expected three for each of {sigmas.Count} points.");
        return new(PrecisionTable.Of(labels, static l => (l.Category, l.Image), detections, static d => (d.Category, d.Image), categories, Sizes, Most, (ours, theirs) =>
        {
            var sure = theirs.OrderByDescending(static d => d.Score).Take(Most[^1]).ToArray();
            return new(
                [.. ours.Select(static l => new PrecisionTable.Label(l.Area, l.Crowd || l.Labeled == 0, l.Crowd))],
                [.. sure.Select(static d => new PrecisionTable.Detection(d.Score, d.Area))],
                (d, l) => Similarity(sure[d].Keypoints, ours[l], sigmas));
        }));
    }

    /// <summary>The object keypoint similarity of a pose with a label; one without labeled points is as near as the points are to twice its box.</summary>
    /// <param name="pose">x, y and a third number in turn.</param>
    /// <param name="label">The label.</param>
    /// <param name="sigmas">One a point.</param>
    public static double Similarity(IReadOnlyList<double> pose, LabeledPose label, IReadOnlyList<double> sigmas)
    {
        var (sum, counted, any) = (0.0, 0, label.Labeled > 0);
        var box = label.Box;
        for (var i = 0; i < sigmas.Count; i++)
        {
            if (any && label.Keypoints[(3 * i) + 2] <= 0) continue;
            var (x, y) = (pose[3 * i], pose[(3 * i) + 1]);
            var (dx, dy) = any ? (x - label.Keypoints[3 * i], y - label.Keypoints[(3 * i) + 1])
                : (Beyond(x, box.X - box.Width, box.X + (2 * box.Width)), Beyond(y, box.Y - box.Height, box.Y + (2 * box.Height)));
            var variance = 4 * sigmas[i] * sigmas[i];
            sum += Math.Exp(-((dx * dx) + (dy * dy)) / variance / (label.Area + PrecisionTable.Spacing) / 2);
            counted++;
        }
        return counted == 0 ? 0 : sum / counted;

        static double Beyond(double at, double least, double largest) => Math.Max(0, least - at) + Math.Max(0, at - largest);
    }
}
