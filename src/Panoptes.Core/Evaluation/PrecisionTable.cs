namespace Panoptes.Evaluation;

/// <summary>Precision and recall as pycocotools' COCOeval tabulates them, whatever it is that labels and detections share (boxes, masks, keypoints).</summary>
sealed class PrecisionTable
{
    static readonly double[] Ious = [.. Enumerable.Range(0, 10).Select(static i => i == 9 ? 0.95 : 0.5 + (i * ((0.95 - 0.5) / 9)))];
    static readonly double[] Recalls = [.. Enumerable.Range(0, 101).Select(static i => i == 100 ? 1.0 : i * 0.01)];

    /// <summary>From 1 to the next number, which keeps a precision of no detection from being 0 / 0.</summary>
    internal const double Spacing = 2.220446049250313e-16;

    readonly int[] categories, most;
    readonly (double Least, double Largest)[] sizes;
    readonly double[] precision;                                       // [IoUs, recalls, categories, sizes, most]; -1: no such thing
    readonly double[] recall;                                          // [IoUs, categories, sizes, most]

    PrecisionTable(int[] categories, (double Least, double Largest)[] sizes, int[] most)
    {
        (this.categories, this.sizes, this.most) = (categories, sizes, most);
        precision = new double[Ious.Length * Recalls.Length * categories.Length * sizes.Length * most.Length];
        recall = new double[Ious.Length * categories.Length * sizes.Length * most.Length];
        precision.AsSpan().Fill(-1);
        recall.AsSpan().Fill(-1);
    }

    /// <param name="Area">In pixels, which says of what size it is.</param>
    /// <param name="Ignored">Whether what is detected of it counts neither way.</param>
    /// <param name="Crowd">Whether it is many things at once, which any number of detections may match.</param>
    internal readonly record struct Label(double Area, bool Ignored, bool Crowd);

    /// <param name="Score">How sure the model is.</param>
    /// <param name="Area">In pixels.</param>
    internal readonly record struct Detection(double Score, double Area);

    internal IReadOnlyList<int> Categories => categories;

    /// <param name="labels">All labels.</param>
    /// <param name="keyOfLabel">A label's category and image.</param>
    /// <param name="detections">All detections.</param>
    /// <param name="keyOfDetection">A detection's category and image.</param>
    /// <param name="categories">What may be detected; others are left out.</param>
    /// <param name="sizes">The areas that labels are parted by.</param>
    /// <param name="most">How many detections an image may have, rising.</param>
    /// <param name="compare">Makes the comparison of one category in one image.</param>
    internal static PrecisionTable Of<TLabel, TDetection>(
        IReadOnlyList<TLabel> labels, Func<TLabel, (int Category, long Image)> keyOfLabel, IReadOnlyList<TDetection> detections, Func<TDetection, (int Category, long Image)> keyOfDetection,
        IReadOnlyList<int> categories, (double Least, double Largest)[] sizes, int[] most, Func<TLabel[], TDetection[], Comparison> compare)
    {
        var table = new PrecisionTable([.. categories.Distinct().Order()], sizes, most);
        var (labeled, detected) = (labels.ToLookup(keyOfLabel), detections.ToLookup(keyOfDetection));
        var images = labeled.Select(static g => g.Key).Concat(detected.Select(static g => g.Key)).Distinct().ToLookup(static k => k.Category, static k => k.Image);
        for (var k = 0; k < table.categories.Length; k++)
        {
            var category = table.categories[k];
            var compared = images[category].Order().Select(i => compare([.. labeled[(category, i)]], [.. detected[(category, i)]])).ToArray();
            for (var size = 0; size < sizes.Length; size++)
            {
                var matched = compared.Select(c => c.Match(sizes[size])).ToArray();
                for (var m = 0; m < most.Length; m++) table.Accumulate(matched, k, size, m);
            }
        }
        return table;
    }

    /// <summary>The things of one category in one image, the surest detection first, and how each overlaps with each label.</summary>
    internal sealed class Comparison
    {
        readonly Label[] labels;
        readonly Detection[] detections;
        readonly double[,] overlaps;

        /// <param name="labels">The labels.</param>
        /// <param name="detections">The detections, the surest first, no more than an image may have.</param>
        /// <param name="overlap">Of a detection with a label, both by their position.</param>
        public Comparison(Label[] labels, Detection[] detections, Func<int, int, double> overlap)
        {
            (this.labels, this.detections, overlaps) = (labels, detections, new double[detections.Length, labels.Length]);
            for (var d = 0; d < detections.Length; d++)
                for (var l = 0; l < labels.Length; l++) overlaps[d, l] = overlap(d, l);
        }

        /// <summary>Gives every detection, the surest first, the label that it overlaps with most and that nobody has yet; labels that do not count last.</summary>
        internal Matched Match((double Least, double Largest) size)
        {
            var ignored = labels.Select(l => l.Ignored || l.Area < size.Least || l.Area > size.Largest).ToArray();
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
                    else neither[t, d] = detections[d].Area < size.Least || detections[d].Area > size.Largest;
                }
            }
            return new([.. detections.Select(static d => d.Score)], right, neither, ignored.Count(static i => !i));
        }
    }

    /// <param name="Scores">Of the detections, falling.</param>
    /// <param name="Right">[IoUs, detections]: whether each has a label.</param>
    /// <param name="Neither">[IoUs, detections]: whether it does not count.</param>
    /// <param name="Labels">How many labels count.</param>
    internal sealed record Matched(double[] Scores, bool[,] Right, bool[,] Neither, int Labels);

    void Accumulate(Matched[] images, int category, int size, int m)
    {
        var labels = images.Sum(static i => i.Labels);
        if (labels == 0) return;
        var all = images.SelectMany((image, i) => image.Scores.Take(most[m]).Select((score, d) => (Score: score, Image: i, Detection: d))).OrderByDescending(static x => x.Score).ToArray();
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
            recall[Recall(t, category, size, m)] = all.Length > 0 ? recalls[^1] : 0;
            // What precision a recall can be had with at least.
            for (var n = all.Length - 2; n >= 0; n--) precisions[n] = Math.Max(precisions[n], precisions[n + 1]);
            for (var (r, n) = (0, 0); r < Recalls.Length; r++)
            {
                while (n < all.Length && recalls[n] < Recalls[r]) n++;
                precision[Precision(t, r, category, size, m)] = n < all.Length ? precisions[n] : 0;
            }
        }
    }

    int Precision(int iou, int recall, int category, int size, int m) => (((((((iou * Recalls.Length) + recall) * categories.Length) + category) * sizes.Length) + size) * most.Length) + m;

    int Recall(int iou, int category, int size, int m) => (((((iou * categories.Length) + category) * sizes.Length) + size) * most.Length) + m;

    int Position(int category) => Array.IndexOf(categories, category) is >= 0 and var k ? k : throw new PanoptesException($"There is no category {category}.");

    /// <summary>The mean over recalls, categories and IoUs (null: all) with as many detections as an image may have; null where nothing is labeled.</summary>
    internal double? MeanPrecision(int? iou, int size) => Mean(
        from t in Enumerable.Range(0, Ious.Length) where iou is null || t == iou from r in Enumerable.Range(0, Recalls.Length) from k in Enumerable.Range(0, categories.Length) select precision[Precision(t, r, k, size, most.Length - 1)]);

    internal double? MeanRecall(int? iou, int size, int? m = null) =>
        Mean(from t in Enumerable.Range(0, Ious.Length) where iou is null || t == iou from k in Enumerable.Range(0, categories.Length) select recall[Recall(t, k, size, m ?? most.Length - 1)]);

    internal double? PrecisionOf(int category)
    {
        var k = Position(category);
        return Mean(from t in Enumerable.Range(0, Ious.Length) from r in Enumerable.Range(0, Recalls.Length) select precision[Precision(t, r, k, 0, most.Length - 1)]);
    }

    internal IReadOnlyList<double> PrecisionCurve(int category, int iou)
    {
        var k = Position(category);
        return [.. Enumerable.Range(0, Recalls.Length).Select(r => precision[Precision(iou, r, k, 0, most.Length - 1)])];
    }

    internal IReadOnlyList<double> RecallOf(int category)
    {
        var k = Position(category);
        return [.. Enumerable.Range(0, Ious.Length).Select(t => recall[Recall(t, k, 0, most.Length - 1)])];
    }

    static double? Mean(IEnumerable<double> values) => values.Where(static v => v > -1).Select(static v => (double?)v).Average();
}
