using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Representation.Training;
using Panoptes.Understanding;
using Panoptes.Understanding.Training;

namespace Panoptes.Cli;

/// <summary>Scenes that a recipe holds out, and beside what is there what a model answers to each of the prompts that it takes.</summary>
static class AnsweredScenes
{
    /// <summary>The side of a picture; scenes are enlarged to it, so that names can be read.</summary>
    public const int Side = 256;

    static readonly OverlayOptions Drawn = new() { Legend = false, ReadableSide = Side };

    /// <summary>Draws rows into a picture.</summary>
    public static void Save(IReadOnlyList<SheetRow> rows, string file, string? title = null) => new ContactSheet { Title = title, Rows = rows, CellSize = Side, Columns = 7 }.Render().Save(file);

    /// <summary>One row a scene, of models that answer by masks.</summary>
    /// <param name="model">Loaded with the names of <paramref name="tests"/>, where it needs any.</param>
    /// <param name="sure">The probability from which on a pixel that a model of every pixel names is drawn a second time; null: once.</param>
    public static IEnumerable<SheetRow> Rows(IPromptable model, float? sure, SceneTests tests, int count, CancellationToken cancel)
    {
        foreach (var scene in tests.Scenes(EmojiSplit.HeldOutStyle).Take(count))
        {
            cancel.ThrowIfCancellationRequested();
            Segment[] there = [.. scene.Objects.Select((o, k) => new Segment(Pixels(scene.Mask(k)), 1, o.Name)).Where(static s => s.Mask.Area > 0)];
            var cells = new List<SheetCell> { new(scene.Image, "image"), new(Overlay.Draw(scene.Image, there, Drawn with { Scores = false }), "what is there") };
            using (var opened = model.Open(scene.Image))
            {
                if (model.Takes.HasFlag(PromptKinds.Points))
                {
                    PointPrompt[] clicks = [.. there.Select(Click)];
                    cells.Add(Answered("a click", [.. clicks.Select(c => opened.Segment([c]))], clicks));
                }
                if (model.Takes.HasFlag(PromptKinds.Boxes)) cells.Add(Answered("a box", [.. there.Select(s => opened.Segment([Prompt.Box(s.Box.X, s.Box.Y, s.Box.Right, s.Box.Bottom)]))]));
                if (model.Takes.HasFlag(PromptKinds.Texts) && model is not OpenVocabularySegmenter)
                    cells.Add(Answered("its name", [.. there.Select(s => opened.Segment([Prompt.Text(s.Label!)]))]));
                var all = model.Panoptic(scene.Image, tests.Names);
                if (all is not null) cells.Add(Found($"{tests.Names.Count} names", [.. all.Found.ToSegments()], named: true));
                if (model.Takes.HasFlag(PromptKinds.Everything) && (all is null || model is GroundedSam)) cells.Add(Found("everything", model.Segment(scene.Image, []), named: false));
                if (sure is { } threshold && model is OpenVocabularySegmenter pixels)
                {
                    var before = pixels.Threshold;
                    pixels.Threshold = threshold;
                    cells.Add(new(Draw(scene, [.. model.Panoptic(scene.Image, tests.Names)!.Found.ToSegments()]), "where it is sure enough"));
                    pixels.Threshold = before;
                }
                if (model is UnifiedIo unified) cells.Add(new(unified.Depth(scene.Image), "how far everything is"));
            }
            yield return new(scene.Caption, cells);

            // How well each thing is met by what fits it best.
            SheetCell Found(string label, IReadOnlyList<Segment> found, bool named)
            {
                var iou = there.Select(t => found.Where(f => !named || f.Label == t.Label).Select(f => t.Mask.Iou(f.Mask)).DefaultIfEmpty().Max()).DefaultIfEmpty().Average();
                return new(Overlay.Draw(scene.Image, found, Drawn with { Labels = named }), FormattableString.Invariant($"{label}: IoU {iou:0.00}"));
            }

            SheetCell Answered(string label, IReadOnlyList<IReadOnlyList<Segment>> answers, PointPrompt[]? clicks = null)
            {
                var best = answers.Select((a, i) => a.Count == 0 ? null : a[0] with { Label = there[i].Label }).OfType<Segment>().ToArray();
                var iou = there.Select((t, i) => answers[i].Count == 0 ? 0 : t.Mask.Iou(answers[i][0].Mask)).DefaultIfEmpty().Average();
                return new(Overlay.Draw(scene.Image, best, Drawn with { Labels = false, Clicks = clicks ?? [] }), FormattableString.Invariant($"{label}: IoU {iou:0.00}"));
            }
        }
    }

    /// <summary>One row a scene, of a model that answers by boxes.</summary>
    public static IEnumerable<SheetRow> Rows(IGrounder model, SceneTests tests, int count, CancellationToken cancel)
    {
        foreach (var scene in tests.Scenes(EmojiSplit.HeldOutStyle).Take(count))
        {
            string[] names = [.. scene.Objects.Select(static o => o.Name).Distinct()];
            Detection[] there = Detection.Of(scene);
            cancel.ThrowIfCancellationRequested();
            var found = model.FindsAll ? model.FindAll(scene.Image) : model.Find(scene.Image, names);
            yield return new(scene.Caption, [new(scene.Image, "image"), new(Overlay.Draw(scene.Image, there, Drawn with { Scores = false }), "what is there"), new(Overlay.Draw(scene.Image, found, Drawn), "what it finds")]);
        }
    }

    static RunLengthMask Pixels(Image mask) => RunLengthMask.Encode([.. mask.Pixels.Select(static v => (byte)(v > 127 ? 1 : 0))], mask.Height, mask.Width);

    /// <summary>Where a user would click: as far inside as can be.</summary>
    static PointPrompt Click(Segment thing)
    {
        var pixels = new byte[thing.Mask.Width * thing.Mask.Height];
        thing.Mask.Decode(pixels);
        var click = new ClickSimulator(pixels, thing.Mask.Height, thing.Mask.Width).Next(new byte[pixels.Length]) ?? throw new InvalidOperationException("A thing without pixels is not shown.");
        return Prompt.Point(click.X, click.Y);
    }

    static Image Draw(Scene scene, IReadOnlyList<Segment> segments) => Overlay.Draw(scene.Image, segments, Drawn);
}
