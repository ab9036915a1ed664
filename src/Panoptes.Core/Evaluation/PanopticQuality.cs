namespace Panoptes.Evaluation;

/// <summary>A segment of an image that is labeled through: its id among the image's pixels and its category.</summary>
/// <param name="Id">What its pixels say; never 0.</param>
/// <param name="Category">The category's id.</param>
/// <param name="Crowd">Whether it is many things at once, which no single prediction can match.</param>
public sealed record PanopticSegment(int Id, int Category, bool Crowd = false);

/// <summary>A category of panoptic segmentation.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Thing">Whether it can be counted; else it is stuff, such as sky.</param>
public sealed record PanopticCategory(int Id, bool Thing);

/// <summary>What came out for one category, or the mean over some.</summary>
/// <param name="Quality">PQ: <paramref name="Segmentation"/> times <paramref name="Recognition"/>.</param>
/// <param name="Segmentation">SQ: the mean IoU of matches.</param>
/// <param name="Recognition">RQ: the F1 of matching.</param>
public sealed record PanopticScore(double Quality, double Segmentation, double Recognition);

/// <summary>
/// Panoptic quality (Kirillov et al. 2019, arXiv:1801.00868) by the rules of panopticapi: a prediction matches a label of its category where they overlap by more than half,
/// pixels without a label left out; a prediction most of which lies on such pixels, or on a crowd of its category, counts neither way.
/// </summary>
public sealed class PanopticQuality(IReadOnlyList<PanopticCategory> categories)
{
    /// <summary>The id of pixels that are of no segment.</summary>
    const int Void = 0;

    readonly Dictionary<int, Tally> tallies = categories.ToDictionary(static c => c.Id, static _ => new Tally());

    sealed class Tally
    {
        public double Iou;
        public int Right, Wrong, Missed;
    }

    /// <summary>Matches the segments of an image and adds what came out.</summary>
    /// <param name="label">The labels' ids, pixel by pixel.</param>
    /// <param name="labeled">The labels' segments.</param>
    /// <param name="told">The predictions' ids of the same pixels.</param>
    /// <param name="predicted">The predictions' segments.</param>
    /// <returns>The matches: the label's id, the prediction's, their IoU.</returns>
    /// <exception cref="PanoptesException">Different sizes, an id that is no segment's, or a category that there is not.</exception>
    public IReadOnlyList<(int Label, int Prediction, double Iou)> Add(ReadOnlySpan<int> label, IReadOnlyList<PanopticSegment> labeled, ReadOnlySpan<int> told, IReadOnlyList<PanopticSegment> predicted)
    {
        if (label.Length != told.Length) throw new PanoptesException($"{told.Length} pixels were told and {label.Length} have labels; expected as many.");
        var (shared, labelAreas, areas) = (new Dictionary<(int, int), int>(), new Dictionary<int, int>(), new Dictionary<int, int>());
        for (var i = 0; i < label.Length;)
        {
            // Neighbors are mostly alike: one look into the tables a run.
            var (a, b, start) = (label[i], told[i], i);
            while (i < label.Length && label[i] == a && told[i] == b) i++;
            Count(shared, (a, b), i - start);
            Count(labelAreas, a, i - start);
            Count(areas, b, i - start);
        }
        var (labels, predictions) = (ById(labeled, labelAreas, "label"), ById(predicted, areas, "prediction"));
        int Shared(int a, int b) => shared.GetValueOrDefault((a, b));

        var (matches, matched, found) = (new List<(int, int, double)>(), new HashSet<int>(), new HashSet<int>());
        foreach (var ((a, b), overlap) in shared)
        {
            if (!labels.TryGetValue(a, out var l) || !predictions.TryGetValue(b, out var p) || l.Crowd || l.Category != p.Category) continue;
            var iou = (double)overlap / (labelAreas[a] + areas[b] - overlap - Shared(Void, b));
            if (iou <= 0.5) continue;
            tallies[l.Category].Right++;
            tallies[l.Category].Iou += iou;
            matched.Add(a);
            found.Add(b);
            matches.Add((a, b, iou));
        }
        foreach (var l in labels.Values.Where(l => !l.Crowd && !matched.Contains(l.Id))) tallies[l.Category].Missed++;
        foreach (var p in predictions.Values.Where(p => !found.Contains(p.Id)))
        {
            if (!areas.TryGetValue(p.Id, out var area)) throw new PanoptesException($"The prediction {p.Id} has no pixel.");
            var nobodys = Shared(Void, p.Id) + labels.Values.Where(l => l.Crowd && l.Category == p.Category).Sum(l => Shared(l.Id, p.Id));
            if (nobodys * 2.0 <= area) tallies[p.Category].Wrong++;
        }
        return [.. matches.OrderBy(static m => m.Item1)];

        static void Count<T>(Dictionary<T, int> counts, T key, int count) where T : notnull =>
            System.Runtime.InteropServices.CollectionsMarshal.GetValueRefOrAddDefault(counts, key, out _) += count;
    }

    /// <summary>What came out for a category: its score, and how many predictions were right, wrong, and labels missed.</summary>
    public (PanopticScore Score, int Right, int Wrong, int Missed) Of(int category)
    {
        var t = tallies[category];
        var all = t.Right + (0.5 * t.Wrong) + (0.5 * t.Missed);
        return (all == 0 ? new(0, 0, 0) : new(t.Iou / all, t.Right == 0 ? 0 : t.Iou / t.Right, t.Right / all), t.Right, t.Wrong, t.Missed);
    }

    /// <summary>The mean over the categories that were there at all, of things, of stuff or of both (null).</summary>
    public PanopticScore Mean(bool? things = null)
    {
        var scores = categories.Where(c => things is null || c.Thing == things).Select(c => Of(c.Id)).Where(static s => s.Right + s.Wrong + s.Missed > 0).Select(static s => s.Score).ToArray();
        return scores.Length == 0 ? new(0, 0, 0) : new(scores.Average(static s => s.Quality), scores.Average(static s => s.Segmentation), scores.Average(static s => s.Recognition));
    }

    Dictionary<int, PanopticSegment> ById(IReadOnlyList<PanopticSegment> segments, Dictionary<int, int> areas, string what)
    {
        var byId = new Dictionary<int, PanopticSegment>();
        foreach (var s in segments)
        {
            if (s.Id == Void || !byId.TryAdd(s.Id, s)) throw new PanoptesException($"A {what} has the id {s.Id}; expected one of its own, other than {Void}.");
            if (!tallies.ContainsKey(s.Category)) throw new PanoptesException($"The {what} {s.Id} is of category {s.Category}, which there is not.");
        }
        foreach (var id in areas.Keys)
            if (id != Void && !byId.ContainsKey(id)) throw new PanoptesException($"Pixels are of the {what} {id}, which is not among the segments.");
        return byId;
    }
}
