using System.Text.RegularExpressions;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Understanding;

namespace Panoptes.Cli;

/// <summary>What images of scenes' captions obey beside them, each by what is known of its own scene.</summary>
sealed class SceneControls : IDisposable
{
    /// <summary>Whether a GLIGEN or a ReCo is told boxes.</summary>
    public bool Boxes { get; init; }

    /// <summary>Whether pictures tell what is in them, in place of names.</summary>
    public bool Examples { get; init; }

    /// <summary>In which part of the steps; null: as usual.</summary>
    public double? Share { get; init; }

    /// <summary>Whether words are led into their boxes.</summary>
    public bool Layout { get; init; }

    /// <summary>What leads images to their captions.</summary>
    public Clip? TextGuide { get; init; }

    /// <summary>What leads images to the boxes of things.</summary>
    public IGrounder? BoxGuide { get; init; }

    /// <summary>What leads images to the masks of things.</summary>
    public XDecoderSegmenter? MaskGuide { get; init; }

    public double GuideScale { get; init; } = 10;

    public int GuideBackward { get; init; }

    /// <summary>Which conditions networks are shown.</summary>
    public string? Kind { get; init; }

    public ControlNetModel? ControlNet { get; init; }

    public T2IAdapter? Adapter { get; init; }

    readonly List<IDisposable> wanted = [];

    public IReadOnlyList<ImageControl> Of(Scene scene)
    {
        var controls = new List<ImageControl>();
        if (ControlNet is not null) controls.Add(new ControlNetControl(ControlNet, SceneConditions.Make(Kind!, scene)));
        if (Adapter is not null) controls.Add(new T2IAdapterControl(Adapter, SceneConditions.Make(Kind!, scene)));
        if (Boxes)
        {
            var boxes = Examples ? PhraseBox.ShownIn(scene) : PhraseBox.Of(scene);
            controls.Add(Share is { } share ? new BoxesControl(boxes) { Share = share } : new BoxesControl(boxes));
        }
        if (Layout && Named(scene) is { Length: > 0 } placed) controls.Add(new LayoutControl(placed));
        if (TextGuide is not null) controls.Add(new TextControl(TextGuide, scene.Caption) { Scale = GuideScale, BackwardSteps = GuideBackward });
        if (BoxGuide is not null)
            controls.Add(new FoundBoxesControl(PictureLosses.Boxes(BoxGuide, Detection.Of(scene), (scene.Size, scene.Size)), PhraseBox.Of(scene)) { Scale = GuideScale, BackwardSteps = GuideBackward });
        if (MaskGuide is not null)
        {
            var masks = NamedMask.Of(scene);
            var white = NamedMask.White(masks).DetachFromDisposeScope();
            wanted.Add(white);
            controls.Add(new FoundMasksControl(PictureLosses.Masks(MaskGuide, [.. masks.Select(static m => m.Name)], white), masks) { Scale = GuideScale, BackwardSteps = GuideBackward });
        }
        return controls;
    }

    /// <summary>The things that the caption names, by its own words ("two ducks"); what it calls otherwise is led nowhere.</summary>
    static PhraseBox[] Named(Scene scene) =>
    [
        .. PhraseBox.Of(scene).Select(b => (Box: b, Word: Regex.Match(scene.Caption, $@"\b{Regex.Escape(b.Phrase)}(e?s)?\b", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)))
            .Where(static b => b.Word.Success).Select(static b => b.Box with { Phrase = b.Word.Value }),
    ];

    public void Dispose()
    {
        ControlNet?.Dispose();
        Adapter?.Dispose();
        foreach (var mask in wanted) mask.Dispose();
    }
}

/// <summary>How far images keep to a condition of their scenes.</summary>
/// <param name="EdgeF1">Of a condition that is drawn of pictures: how much of the same drawn of the images agrees; of a pose, whose drawing it tells nearly all of: how much of the edges does.</param>
/// <param name="MaskIou">Of classes, depth and normals: the mean IoU of the things that scenes have with what the detector finds under their names; 0 for what it does not find.</param>
/// <param name="DepthError">Of these, too: the mean difference to the scenes' depth (0 to 1), where what is found lies as deep as the scene's thing of that name, and the ground where it always does.</param>
sealed record ConditionScores(double? EdgeF1, double? MaskIou, double? DepthError)
{
    public static ConditionScores Of(string kind, IGrounder finder, IReadOnlyList<Scene> scenes, IReadOnlyList<Image> images, IReadOnlyList<string> names, CancellationToken cancel)
    {
        if (SceneConditions.IsDrawn(kind) || kind == "pose")
        {
            var (edges, drawn) = (new EdgeScores(0, 0, 0, 0), kind == "pose" ? "canny" : kind);
            foreach (var (scene, image) in scenes.Zip(images)) edges += EdgeScores.Of(SceneConditions.Make(drawn, image), SceneConditions.Make(drawn, scene));
            return new(edges.F1, null, null);
        }
        if (finder is not SegmentGrounder segmenter) throw new PanoptesException("Masks are measured by a detector that segments, too; expected one such as zoo/xdecoder-emoji.");
        var (sum, things, error) = (0.0, 0, 0.0);
        foreach (var (scene, image) in scenes.Zip(images))
        {
            cancel.ThrowIfCancellationRequested();
            var found = segmenter.SegmentApart(image, names).Where(static s => s.Label is not null).GroupBy(static s => s.Label!).ToDictionary(static g => g.Key, static g => g.MaxBy(static s => s.Score)!.Mask, StringComparer.Ordinal);
            var depth = scene.GroundDepths();
            var mask = new byte[depth.Length];
            // Things of one name are one mask, on both sides.
            foreach (var (name, shown) in NamedMask.Of(scene))
            {
                things++;
                if (!found.TryGetValue(name, out var seen)) continue;
                sum += seen.Iou(RunLengthMask.Encode(shown.Pixels, scene.Size, scene.Size));
                seen.Decode(mask);
                var at = scene.Objects.Where(o => o.Name == name).Min(static o => o.Depth);
                for (var i = 0; i < mask.Length; i++)
                    if (mask[i] != 0) depth[i] = Math.Min(depth[i], at);
            }
            error += depth.Zip(scene.Depth(), static (a, b) => Math.Abs(a - b)).Average();
        }
        return new(null, things == 0 ? 0 : sum / things, error / scenes.Count);
    }
}
