using Panoptes.Data;

namespace Panoptes.Understanding;

/// <summary>A scene's objects and words as the sequence models write them.</summary>
static class SceneWords
{
    /// <summary>The box of an object, in pixels.</summary>
    internal static ImageBox BoxOf(SceneObject o) => new(o.Box.X, o.Box.Y, o.Box.Right, o.Box.Bottom);

    /// <summary>The caption cut into pieces; the words that mean one object alone have its box.</summary>
    internal static IReadOnlyList<CaptionPiece> Pieces(Scene scene)
    {
        var (pieces, done) = (new List<CaptionPiece>(), 0);
        foreach (var region in scene.CaptionRegions.Where(static r => r.Objects.Count == 1).OrderBy(static r => r.Start))
        {
            if (region.Start > done) pieces.Add(new(scene.Caption[done..region.Start]));
            pieces.Add(new(scene.Caption.Substring(region.Start, region.Length), BoxOf(scene.Objects[region.Objects[0]])));
            done = region.Start + region.Length;
        }
        if (done < scene.Caption.Length) pieces.Add(new(scene.Caption[done..]));
        return pieces;
    }

    /// <summary>One of the expressions that mean at most so many objects; null where there is none.</summary>
    internal static SceneReference? Pick(IReadOnlyList<SceneReference> references, int most, ref SampleRandom random)
    {
        SceneReference[] fit = [.. references.Where(r => r.Objects.Count >= 1 && r.Objects.Count <= most)];
        return fit.Length == 0 ? null : fit[random.Next(fit.Length)];
    }
}
