using Panoptes.Data;
using Panoptes.Evaluation;

namespace Panoptes.Understanding;

/// <summary>What was found, as COCO's files have it.</summary>
public static class SegmentationFiles
{
    /// <summary>What segments are called that have no name.</summary>
    const string Unnamed = "object";

    /// <summary>Segments as annotations: categories are numbered from 1, in the order of <paramref name="names"/> or else of appearance.</summary>
    /// <param name="found">The images with their segments.</param>
    /// <param name="names">All that could have been found; null: what was.</param>
    public static CocoFile ToCoco(IReadOnlyList<(CocoImage Image, IReadOnlyList<Segment> Segments)> found, IReadOnlyList<string>? names = null)
    {
        var categories = Categories(found, names);
        var annotations = found.SelectMany(f => f.Segments.Select(s => (f.Image, Segment: s))).Select((p, i) => new CocoAnnotation
        {
            Id = i + 1,
            Image = p.Image.Id,
            Category = categories[p.Segment.Label ?? Unnamed],
            Box = DetectedRegion.Of(p.Segment.Mask) with { Mask = null },
            Segmentation = new() { Runs = p.Segment.Mask },
            Area = p.Segment.Mask.Area,
        });
        return new() { Images = [.. found.Select(static f => f.Image)], Categories = [.. categories.Select(static c => new CocoCategory(c.Value, c.Key))], Annotations = [.. annotations] };
    }

    /// <summary>Boxes as annotations: categories are numbered from 1, in the order of <paramref name="names"/> or else of appearance.</summary>
    /// <param name="found">The images with what was found in them.</param>
    /// <param name="names">All that could have been found; null: what was.</param>
    public static CocoFile ToCoco(IReadOnlyList<(CocoImage Image, IReadOnlyList<Detection> Found)> found, IReadOnlyList<string>? names = null)
    {
        var categories = Numbered(names, found.SelectMany(static f => f.Found.Select(static d => d.Label)));
        var annotations = found.SelectMany(f => f.Found.Select(d => (f.Image, Found: d))).Select((p, i) => new CocoAnnotation
        {
            Id = i + 1,
            Image = p.Image.Id,
            Category = categories[p.Found.Label],
            Box = new(p.Found.Left, p.Found.Top, p.Found.Right - p.Found.Left, p.Found.Bottom - p.Found.Top),
            Area = (p.Found.Right - p.Found.Left) * (double)(p.Found.Bottom - p.Found.Top),
        });
        return new() { Images = [.. found.Select(static f => f.Image)], Categories = [.. categories.Select(static c => new CocoCategory(c.Value, c.Key))], Annotations = [.. annotations] };
    }

    /// <summary>Segments as detections with scores, of the categories of <see cref="ToCoco(IReadOnlyList{ValueTuple{CocoImage, IReadOnlyList{Segment}}}, IReadOnlyList{string})"/>.</summary>
    /// <inheritdoc cref="ToCoco(IReadOnlyList{ValueTuple{CocoImage, IReadOnlyList{Segment}}}, IReadOnlyList{string})"/>
    public static IReadOnlyList<DetectedThing> ToDetections(IReadOnlyList<(CocoImage Image, IReadOnlyList<Segment> Segments)> found, IReadOnlyList<string>? names = null)
    {
        var categories = Categories(found, names);
        return [.. found.SelectMany(f => f.Segments.Select(s => new DetectedThing(f.Image.Id, categories[s.Label ?? Unnamed], DetectedRegion.Of(s.Mask), s.Score)))];
    }

    /// <summary>Writes COCO's panoptic JSON and, into the folder beside it, a picture of ids for every image. Classes keep their numbers.</summary>
    /// <param name="path">The JSON file.</param>
    /// <param name="found">The images with what was found.</param>
    /// <param name="names">The classes' names by index.</param>
    /// <param name="things">Which of them can be counted.</param>
    /// <exception cref="PanoptesException">A file that cannot be written, or ids of another image's size.</exception>
    public static void SavePanoptic(string path, IReadOnlyList<(CocoImage Image, PanopticSegmentation Found)> found, IReadOnlyList<string> names, Func<int, bool> things)
    {
        var annotations = found.Select(f => PanopticFile.WriteIds(PanopticFile.FolderOf(path), f.Image, null, f.Found.Ids.Labels,
            [.. f.Found.Segments.DistinctBy(static s => s.Id).Select(static s => new PanopticSegment(s.Id, s.Class))])).ToArray();
        new PanopticFile { Images = [.. found.Select(static f => f.Image)], Categories = [.. names.Select((n, i) => new PanopticKind(i, n, things(i)))], Annotations = annotations }.Save(path);
    }

    static Dictionary<string, int> Categories(IReadOnlyList<(CocoImage Image, IReadOnlyList<Segment> Segments)> found, IReadOnlyList<string>? names) =>
        Numbered(names, found.SelectMany(static f => f.Segments.Select(static s => s.Label ?? Unnamed)));

    static Dictionary<string, int> Numbered(IReadOnlyList<string>? names, IEnumerable<string> found) => (names ?? []).Concat(found).Distinct().Select(static (n, i) => (n, i)).ToDictionary(static p => p.n, static p => p.i + 1);
}
