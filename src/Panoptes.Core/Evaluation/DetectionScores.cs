using Panoptes.Data;

namespace Panoptes.Evaluation;

/// <summary>COCO's average precision and recall (pycocotools' COCOeval): by IoU from 0.50 to 0.95, by size, by how many detections an image may have.</summary>
public sealed class DetectionScores
{
    static readonly double[] Ious = [.. Enumerable.Range(0, 10).Select(static i => i == 9 ? 0.95 : 0.5 + (i * ((0.95 - 0.5) / 9)))];
    static readonly double[] Recalls = [.. Enumerable.Range(0, 101).Select(static i => i == 100 ? 1.0 : i * 0.01)];
    static readonly int[] Most = [1, 10, 100];

    /// <summary>From 1 to the next number, which keeps a precision of no detection from being 0 / 0.</summary>
    const double Spacing = 2.220446049250313e-16;
    static readonly (double Least, double Largest)[] Sizes = [(0, 1e10), (0, 32 * 32), (32 * 32, 96 * 96), (96 * 96, 1e10)];

    readonly int[] categories;
    readonly double[] precision;                                       // [IoUs, recalls, categories, sizes, most]; -1: no such thing
    readonly double[] recall;                                          // [IoUs, categories, sizes, most]

    DetectionScores(int[] categories)
    {
        this.categories = categories;
        precision = new double[Ious.Length * Recalls.Length * categories.Length * Sizes.Length * Most.Length];
        recall = new double[Ious.Length * categories.Length * Sizes.Length * Most.Length];
        precision.AsSpan().Fill(-1);
        recall.AsSpan().Fill(-1);
    }

    /// <summary>The categories, in their order.</summary>
    public IReadOnlyList<int> Categories => categories;

    /// <summary>AP: the mean precision over recalls, IoUs from 0.50 to 0.95 and categories; null where nothing is labeled.</summary>
    public double? Ap => MeanPrecision(null, 0);

    /// <summary>The same at an IoU of 0.50.</summary>
    public double? Ap50 => MeanPrecision(0, 0);

    /// <summary>The same at an IoU of 0.75.</summary>
    public double? Ap75 => MeanPrecision(5, 0);

    /// <summary>AP of things below 32² pixels.</summary>
    public double? ApSmall => MeanPrecision(null, 1);

    /// <summary>AP of things from 32² to 96² pixels.</summary>
    public double? ApMedium => MeanPrecision(null, 2);

    /// <summary>AP of things above 96² pixels.</summary>
    public double? ApLarge => MeanPrecision(null, 3);

    /// <summary>AR: the mean recall over IoUs and categories with 1, 10 or 100 detections an image.</summary>
    public double? Ar(int most = 100) => MeanRecall(0, Array.IndexOf(Most, most) is >= 0 and var m ? m : throw new PanoptesException($"Recall at {most} detections an image was asked for; expected 1, 10 or 100."));

    /// <summary>AR of things below 32² pixels.</summary>
    public double? ArSmall => MeanRecall(1, 2);

    /// <summary>AR of things from 32² to 96² pixels.</summary>
    public double? ArMedium => MeanRecall(2, 2);

    /// <summary>AR of things above 96² pixels.</summary>
    public double? ArLarge => MeanRecall(3, 2);

    /// <summary>The twelve numbers that COCOeval prints, in its order.</summary>
    public IReadOnlyList<double?> Summary => [Ap, Ap50, Ap75, ApSmall, ApMedium, ApLarge, Ar(1), Ar(10), Ar(), ArSmall, ArMedium, ArLarge];

    /// <summary>AP of one category.</summary>
    public double? ApOf(int category)
    {
        var k = Array.IndexOf(categories, category);
        if (k < 0) throw new PanoptesException($"There is no category {category}.");
        return Mean(from t in Enumerable.Range(0, Ious.Length) from r in Enumerable.Range(0, Recalls.Length) select precision[Precision(t, r, k, 0, 2)]);
    }

    /// <summary>The precision of a category at the recalls 0.00, 0.01 to 1.00.</summary>
    /// <param name="category">The category's id.</param>
    /// <param name="iou">Which IoU: 0 is 0.50, 9 is 0.95.</param>
    public IReadOnlyList<double> PrecisionCurve(int category, int iou = 0) =>
        [.. Enumerable.Range(0, Recalls.Length).Select(r => precision[Precision(iou, r, Array.IndexOf(categories, category), 0, 2)])];

    /// <summary>The largest recall of a category at the IoUs 0.50, 0.55 to 0.95.</summary>
    public IReadOnlyList<double> RecallOf(int category) => [.. Enumerable.Range(0, Ious.Length).Select(t => recall[Recall(t, Array.IndexOf(categories, category), 0, 2)])];

    /// <summary>Measures detections against labels.</summary>
    /// <param name="labels">All things of all images.</param>
    /// <param name="detections">What was detected in them.</param>
    /// <param name="categories">What may be detected; others are left out.</param>
    /// <param name="masks">Whether masks are compared, which all must have then; else boxes.</param>
    /// <exception cref="PanoptesException">A mask is missing, or masks of an image differ in size.</exception>
    public static DetectionScores Of(IReadOnlyList<LabeledThing> labels, IReadOnlyList<DetectedThing> detections, IReadOnlyList<int> categories, bool masks = false)
    {
        var scores = new DetectionScores([.. categories.Distinct().Order()]);
        var (labeled, detected) = (labels.ToLookup(static l => (l.Category, l.Image)), detections.ToLookup(static d => (d.Category, d.Image)));
        for (var k = 0; k < scores.categories.Length; k++)
        {
            var category = scores.categories[k];
            var images = labels.Where(l => l.Category == category).Select(static l => l.Image).Concat(detections.Where(d => d.Category == category).Select(static d => d.Image)).Distinct().Order();
            var compared = images.Select(i => new Comparison([.. labeled[(category, i)]], [.. detected[(category, i)]], masks)).ToArray();
            for (var size = 0; size < Sizes.Length; size++)
            {
                var matched = compared.Select(c => c.Match(Sizes[size])).ToArray();
                for (var most = 0; most < Most.Length; most++) scores.Accumulate(matched, k, size, most);
            }
        }
        return scores;
    }

    /// <summary>The things of one category in one image, the surest detection first, and how each overlaps with each label.</summary>
    sealed class Comparison
    {
        readonly LabeledThing[] labels;
        readonly DetectedThing[] detections;
        readonly bool masks;
        readonly double[,] overlaps;

        public Comparison(LabeledThing[] labels, DetectedThing[] detections, bool masks)
        {
            (this.labels, this.masks) = (labels, masks);
            this.detections = [.. detections.OrderByDescending(static d => d.Score).Take(Most[^1])];
            overlaps = new double[this.detections.Length, labels.Length];
            for (var d = 0; d < this.detections.Length; d++)
                for (var l = 0; l < labels.Length; l++) overlaps[d, l] = Overlap(this.detections[d].Region, labels[l].Region, labels[l].Crowd);
        }

        /// <summary>Gives every detection, the surest first, the label that it overlaps with most and that nobody has yet; labels that do not count last.</summary>
        public Matched Match((double Least, double Largest) size)
        {
            var ignored = labels.Select(l => l.Crowd || l.Area < size.Least || l.Area > size.Largest).ToArray();
            int[] order = [.. Enumerable.Range(0, labels.Length).OrderBy(l => ignored[l])];
            var (right, neither) = (new bool[Ious.Length, detections.Length], new bool[Ious.Length, detections.Length]);
            var taken = new bool[labels.Length];
            for (var t = 0; t < Ious.Length; t++)
            {
                taken.AsSpan().Clear();
                for (var d = 0; d < detections.Length; d++)
                {
                    var (best, found) = (Math.Min(Ious[t], 1 - 1e-10), -1);
                    foreach (var l in order)
                    {
                        if (taken[l] && !labels[l].Crowd) continue;
                        if (found >= 0 && !ignored[found] && ignored[l]) break;
                        if (overlaps[d, l] < best) continue;
                        (best, found) = (overlaps[d, l], l);
                    }
                    if (found >= 0)
                    {
                        taken[found] = true;
                        (right[t, d], neither[t, d]) = (true, ignored[found]);
                    }
                    else
                    {
                        var area = Area(detections[d].Region);
                        neither[t, d] = area < size.Least || area > size.Largest;
                    }
                }
            }
            return new([.. detections.Select(static d => d.Score)], right, neither, ignored.Count(static i => !i));
        }

        double Area(DetectedRegion region) => masks ? region.Mask!.Area : region.Width * region.Height;

        double Overlap(DetectedRegion a, DetectedRegion b, bool crowd)
        {
            if (masks) return (a.Mask ?? throw Missing()).Iou(b.Mask ?? throw Missing(), crowd);
            var (width, height) = (Math.Min(a.X + a.Width, b.X + b.Width) - Math.Max(a.X, b.X), Math.Min(a.Y + a.Height, b.Y + b.Height) - Math.Max(a.Y, b.Y));
            if (width <= 0 || height <= 0) return 0;
            var shared = width * height;
            return shared / (crowd ? a.Width * a.Height : (a.Width * a.Height) + (b.Width * b.Height) - shared);

            static PanoptesException Missing() => new("A thing has no mask; expected one for each where masks are compared.");
        }
    }

    /// <param name="Scores">Of the detections, falling.</param>
    /// <param name="Right">[IoUs, detections]: whether each has a label.</param>
    /// <param name="Neither">[IoUs, detections]: whether it does not count.</param>
    /// <param name="Labels">How many labels count.</param>
    sealed record Matched(double[] Scores, bool[,] Right, bool[,] Neither, int Labels);

    void Accumulate(Matched[] images, int category, int size, int most)
    {
        var labels = images.Sum(static i => i.Labels);
        if (labels == 0) return;
        var all = images.SelectMany((image, i) => image.Scores.Take(Most[most]).Select((score, d) => (Score: score, Image: i, Detection: d))).OrderByDescending(static x => x.Score).ToArray();
        var (recalls, precisions) = (new double[all.Length], new double[all.Length]);
        for (var t = 0; t < Ious.Length; t++)
        {
            var (right, wrong) = (0, 0);
            for (var n = 0; n < all.Length; n++)
            {
                var (_, image, d) = all[n];
                if (!images[image].Neither[t, d])
                {
                    if (images[image].Right[t, d]) right++;
                    else wrong++;
                }
                (recalls[n], precisions[n]) = ((double)right / labels, right / (right + wrong + Spacing));
            }
            recall[Recall(t, category, size, most)] = all.Length > 0 ? recalls[^1] : 0;
            // What precision a recall can be had with at least.
            for (var n = all.Length - 2; n >= 0; n--) precisions[n] = Math.Max(precisions[n], precisions[n + 1]);
            for (var (r, n) = (0, 0); r < Recalls.Length; r++)
            {
                while (n < all.Length && recalls[n] < Recalls[r]) n++;
                precision[Precision(t, r, category, size, most)] = n < all.Length ? precisions[n] : 0;
            }
        }
    }

    int Precision(int iou, int recall, int category, int size, int most) => (((((((iou * Recalls.Length) + recall) * categories.Length) + category) * Sizes.Length) + size) * Most.Length) + most;

    int Recall(int iou, int category, int size, int most) => (((((iou * categories.Length) + category) * Sizes.Length) + size) * Most.Length) + most;

    double? MeanPrecision(int? iou, int size) => Mean(
        from t in Enumerable.Range(0, Ious.Length) where iou is null || t == iou from r in Enumerable.Range(0, Recalls.Length) from k in Enumerable.Range(0, categories.Length) select precision[Precision(t, r, k, size, 2)]);

    double? MeanRecall(int size, int most) => Mean(from t in Enumerable.Range(0, Ious.Length) from k in Enumerable.Range(0, categories.Length) select recall[Recall(t, k, size, most)]);

    static double? Mean(IEnumerable<double> values) => values.Where(static v => v > -1).Select(static v => (double?)v).Average();
}
