using System.CommandLine;
using System.Globalization;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Understanding;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Segments what is pointed at, drawn around, named, or everything.</summary>
sealed class SegmentCommand : ExampleCommand
{
    readonly Argument<string> image = new("IMAGE") { Description = "The image.", HelpName = "IMAGE" };
    readonly Option<string> model = new("--model", "-m") { Description = "A model that takes these prompts: a folder, a file or a hub id (OWNER/NAME[@REVISION]).", HelpName = "MODEL", Required = true };
    readonly Option<string[]> point = new("--point", "-p") { Description = "A click at x,y in pixels; x,y,- for what is not meant. May be repeated: all clicks mean one thing, or, with several boxes, the box they are in.", HelpName = "X,Y[,-]" };
    readonly Option<string[]> box = new("--box", "-b") { Description = "A box around a thing. May be repeated, each for a thing of its own.", HelpName = "LEFT,TOP,RIGHT,BOTTOM" };
    readonly Option<string[]> scribble = new("--scribble") { Description = "A stroke over the thing: an image of this size, bright where it was drawn. May be repeated.", HelpName = "PNG" };
    readonly Option<string?> mask = new("--mask") { Description = "A rough mask to be made better: an image of this size, bright inside.", HelpName = "PNG" };
    readonly Option<string[]> text = new("--text", "-t") { Description = "A name or an expression, for a model that reads words. May be repeated.", HelpName = "WORDS" };
    readonly Option<string[]> like = new("--like") { Description = "A thing in another image, and the image that is bright where it is. May be repeated.", HelpName = "OTHER.png:MASK.png" };
    readonly Option<bool> everything = new("--everything") { Description = "Find everything, without any prompt." };
    readonly Option<bool> all = new("--all-masks") { Description = "Show every mask that the prompts may mean, not only the best." };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the picture with the masks drawn over it goes; IMAGE.segments.png by default.", HelpName = "PNG" };
    readonly Option<string?> labels = new("--labels-png") { Description = "Also write the number of each pixel's segment as an image (0: none).", HelpName = "PNG" };
    readonly Option<string?> coco = new("--coco") { Description = "Also write the segments as COCO's annotations.", HelpName = "JSON" };

    public SegmentCommand() : base("segment",
        "Segment what is clicked at, drawn around, scribbled on, named or shown, or everything. What can be asked for depends on the model: a SAM takes places, GroupViT, CLIPSeg or a CLIP words, Mask2Former and OneFormer the names of their classes, SEEM all of it.", """
        panoptes segment photo.jpg --model facebook/sam-vit-base --point 500,375
        panoptes segment photo.jpg --model facebook/sam-vit-base --point 500,375 --point 520,600,- --all-masks
        panoptes segment photo.jpg --model facebook/sam-vit-base --box 40,60,300,420 --box 350,80,610,430 --coco found.json
        panoptes segment photo.jpg --model sam_vit_b_01ec64.pth --everything --out everything.png
        panoptes segment photo.jpg --model nvidia/groupvit-gcc-yfcc --text "a cat" --text "a sofa"
        panoptes segment photo.jpg --model facebook/mask2former-swin-tiny-coco-panoptic --everything --coco panoptic.json
        """)
    {
        Add(image);
        foreach (var option in (ReadOnlySpan<Option>)[model, point, box, scribble, mask, text, like, everything, all, output, labels, coco]) Add(option);
        foreach (var option in (ReadOnlySpan<Option>)[output, labels]) SharedOptions.EndsIn(option, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var path = parsed.GetRequiredValue(image);
        var photo = Image.Load(path).ToRgb();
        var groups = Groups(parsed);
        if (parsed.GetValue(everything) && groups.Count > 0) throw new UsageException("--everything does not go with prompts.");
        if (!parsed.GetValue(everything) && groups.Count == 0) throw new UsageException("Nothing was pointed at; expected --point, --box, --scribble, --mask, --text, --like or --everything.");
        foreach (var prompt in groups.SelectMany(static g => g)) prompt.Check(photo.Width, photo.Height);
        string[] words = [.. groups.SelectMany(static g => g).OfType<TextPrompt>().Select(static t => t.Words)];
        var promptable = ModelLoader.LoadPromptable(parsed, ModelLoader.Resolve(parsed.GetRequiredValue(model)), words);
        using var owned = promptable as IDisposable;
        Refuse(promptable.Takes, groups);
        IReadOnlyList<Segment> found = promptable is Sam sam
            ? groups.Count == 0 ? await terminal.WithProgress("Segmenting everything", progress => sam.Everything(photo, progress: new Share(progress), cancel: cancel)) : Answer(sam, photo, groups, parsed.GetValue(all))
            : groups.Count == 0 ? promptable.Segment(photo, []) : [.. groups.SelectMany(g => promptable.Segment(photo, g))];

        var drawn = parsed.GetValue(output) ?? Path.ChangeExtension(path, ".segments.png");
        Overlay.Draw(photo, found).Save(drawn);
        if (parsed.GetValue(labels) is { } map) LabelMap.Of(found, photo.Width, photo.Height).ToImage().Save(map);
        if (parsed.GetValue(coco) is { } file)
            SegmentationFiles.ToCoco([(new(1, Path.GetFileName(path), photo.Width, photo.Height), [.. found.Select(static s => s with { Label = s.Label ?? "thing" })])]).Save(file);
        if (terminal.IsJson) terminal.WriteJson(new { image = path, picture = drawn, segments = found.Select(static s => new { s.Score, s.Label, box = new[] { s.Box.X, s.Box.Y, s.Box.Width, s.Box.Height }, area = s.Mask.Area, size = new[] { s.Mask.Height, s.Mask.Width }, counts = s.Mask.Counts }) });
        else
        {
            var table = Terminal.Table("Segment", "Score", "Box", "Pixels");
            foreach (var (s, i) in found.Select(static (s, i) => (s, i)))
                table.AddRow(Markup.Escape(s.Label ?? $"{i + 1}"), s.Score.ToString("0.00", CultureInfo.InvariantCulture), $"{s.Box.X},{s.Box.Y},{s.Box.Right},{s.Box.Bottom}", s.Mask.Area.ToString(CultureInfo.InvariantCulture));
            terminal.Write(table);
            terminal.Note($"The picture is {drawn}.");
        }
        return App.Success;
    }

    static IReadOnlyList<Segment> Answer(Sam sam, Image photo, IReadOnlyList<IReadOnlyList<Prompt>> groups, bool all)
    {
        using var encoded = sam.Encode(photo);
        return [.. sam.Segment(encoded, groups, all ? MaskChoice.All : MaskChoice.Best).SelectMany(static s => s)];
    }

    /// <exception cref="PanoptesException">A prompt is of a kind that the model does not take.</exception>
    static void Refuse(PromptKinds takes, List<IReadOnlyList<Prompt>> groups)
    {
        if (groups.Count == 0 && !takes.HasFlag(PromptKinds.Everything)) throw new PanoptesException($"This model does not find everything by itself; it takes {takes.ToString().ToLowerInvariant()}.");
        foreach (var kind in groups.SelectMany(static g => g).Select(static p => p.Kind))
            if (!takes.HasFlag(kind)) throw new PanoptesException($"This model takes no {kind.ToString().ToLowerInvariant()}; it takes {takes.ToString().ToLowerInvariant()}.");
    }

    /// <summary>The prompts of each thing: one, or one a box.</summary>
    List<IReadOnlyList<Prompt>> Groups(ParseResult parsed)
    {
        PointPrompt[] points = [.. (parsed.GetValue(point) ?? []).Select(PromptParser.Point)];
        BoxPrompt[] boxes = [.. (parsed.GetValue(box) ?? []).Select(PromptParser.Box)];
        Prompt[] drawn = [.. (parsed.GetValue(scribble) ?? []).Select(static f => (Prompt)Prompt.Scribble(PromptParser.Pixels(f))), .. parsed.GetValue(mask) is { } rough ? [Prompt.Mask(PromptParser.Pixels(rough))] : (Prompt[])[],
            .. (parsed.GetValue(text) ?? []).Select(Prompt.Text), .. (parsed.GetValue(like) ?? []).Select(PromptParser.Like)];
        if (boxes.Length < 2)
        {
            Prompt[] one = [.. boxes, .. points, .. drawn];
            return one.Length == 0 ? [] : [one];
        }
        if (drawn.Length > 0) throw new UsageException("With several boxes only --point goes, for the box that it is in.");
        var groups = boxes.Select(static b => new List<Prompt> { b }).ToArray();
        foreach (var p in points)
        {
            // The smallest box around the click.
            var at = Enumerable.Range(0, boxes.Length).Where(i => boxes[i].Left <= p.X && p.X <= boxes[i].Right && boxes[i].Top <= p.Y && p.Y <= boxes[i].Bottom)
                .OrderBy(i => (boxes[i].Right - boxes[i].Left) * (boxes[i].Bottom - boxes[i].Top)).Select(static i => (int?)i).FirstOrDefault()
                ?? throw new UsageException(FormattableString.Invariant($"The point {p.X},{p.Y} is in none of the boxes; with several boxes a point belongs to the one around it."));
            groups[at].Add(p);
        }
        return [.. groups];
    }

    sealed class Share(IProgress<Step> steps) : IProgress<double>
    {
        public void Report(double value) => steps.Report(new(value, 1));
    }
}
