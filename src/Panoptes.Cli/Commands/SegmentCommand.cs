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
    readonly Option<string> model = new("--model", "-m") { Description = $"A model that takes these prompts: a folder, a file or a hub id (OWNER/NAME[@REVISION]). By default the bundled SAM, with --detector {SharedOptions.DefaultFinder} for words.", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultSegmenter };
    readonly Option<string[]> point = new("--point", "-p") { Description = "A click at x,y in pixels; x,y,- for what is not meant. May be repeated: all clicks mean one thing, or, with several boxes, the box they are in.", HelpName = "X,Y[,-]" };
    readonly Option<string[]> box = new("--box", "-b") { Description = "A box around a thing. May be repeated, each for a thing of its own.", HelpName = "LEFT,TOP,RIGHT,BOTTOM" };
    readonly Option<string[]> scribble = new("--scribble") { Description = "A stroke over the thing: an image of this size, bright where it was drawn. May be repeated.", HelpName = "PNG" };
    readonly Option<string?> mask = new("--mask") { Description = "A rough mask to be made better: an image of this size, bright inside.", HelpName = "PNG" };
    readonly Option<string[]> text = new("--text", "-t") { Description = "A name or an expression, for a model that reads words. May be repeated.", HelpName = "WORDS" };
    readonly Option<string[]> like = new("--like") { Description = "A thing in another image, and the image that is bright where it is. May be repeated.", HelpName = "OTHER.png:MASK.png" };
    readonly Option<string?> detector = new("--detector") { Description = "A model that finds boxes for --text (OWL-ViT, Grounding DINO, Florence-2, Kosmos-2, X-Decoder, or a DETR for its classes) or --like (OWL-ViT, SEEM), for a SAM, which reads no words.", HelpName = "MODEL" };
    readonly Option<double?> threshold = new("--threshold") { Description = "The score that a box of --detector must exceed, from 0 to 1; the detector's own by default.", HelpName = "SCORE" };
    readonly Option<bool> everything = new("--everything") { Description = "Find everything, without any prompt." };
    readonly Option<bool> panoptic = new("--panoptic") { Description = "Give every pixel to one segment or none, and write COCO's panoptic format. With --text, of these names alone; models that have none of their own need them." };
    readonly Option<int?> grid = new("--grid") { Description = "How many clicks along each side, with --everything and a SAM; 32, or what the model's own files say, by default.", HelpName = "N" };
    readonly Option<double?> surest = new("--min-iou") { Description = "Leave out masks whose IoU the model puts lower, from 0 to 1, with --everything and a SAM; 0.88, or what the model's own files say, by default.", HelpName = "IOU" };
    readonly Option<double?> stable = new("--min-stability") { Description = "Leave out masks that change more with the threshold, from 0 to 1, with --everything and a SAM; 0.95, or what the model's own files say, by default.", HelpName = "SHARE" };
    readonly Option<int> least = new("--min-region") { Description = "Fill holes and drop islands of fewer pixels than this, with --everything and a SAM.", HelpName = "PIXELS" };
    readonly Option<bool> all = new("--all-masks") { Description = "Show every mask that the prompts may mean, not only the best." };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the picture with the masks drawn over it goes; IMAGE.segments.png by default.", HelpName = "PNG" };
    readonly Option<string?> labels = new("--labels-png") { Description = "Also write the number of each pixel's segment as an image (0: none).", HelpName = "PNG" };
    readonly Option<string?> coco = new("--coco") { Description = "Also write the segments as COCO's annotations; with --panoptic, where its JSON goes (IMAGE.panoptic.json by default), and the picture of ids into the folder of that name.", HelpName = "JSON" };

    public SegmentCommand() : base("segment",
        "Segment what is clicked at, drawn around, scribbled on, named or shown, or everything. What can be asked for depends on the model: a SAM takes places, and with --detector words, GroupViT, CLIPSeg, a CLIP, X-Decoder, Uni-Perceiver or Unified-IO words, Mask2Former and OneFormer the names of their classes, SEEM all of it.", """
        panoptes segment scene.png --point 40,60
        panoptes segment scene.png --text "a red apple" --text "a cat"
        panoptes segment photo.jpg --model facebook/sam-vit-base --point 500,375
        panoptes segment photo.jpg --model facebook/sam-vit-base --point 500,375 --point 520,600,- --all-masks
        panoptes segment photo.jpg --model facebook/sam-vit-base --box 40,60,300,420 --box 350,80,610,430 --coco found.json
        panoptes segment photo.jpg --model sam_vit_b_01ec64.pth --everything --out everything.png
        panoptes segment photo.jpg --model facebook/sam-vit-base --everything --grid 16 --min-iou 0.8 --min-region 100
        panoptes segment photo.jpg --model nvidia/groupvit-gcc-yfcc --text "a cat" --text "a sofa"
        panoptes segment photo.jpg --model facebook/sam-vit-base --detector google/owlvit-base-patch32 --text "a cat" --point 500,375
        panoptes segment photo.jpg --model facebook/mask2former-swin-tiny-coco-panoptic --panoptic
        """)
    {
        Add(image);
        foreach (var option in (ReadOnlySpan<Option>)[model, point, box, scribble, mask, text, like, detector, threshold, everything, panoptic, grid, surest, stable, least, all, output, labels, coco]) Add(option);
        foreach (var option in (ReadOnlySpan<Option>)[output, labels]) SharedOptions.EndsIn(option, ".png", ".jpg", ".jpeg", ".webp");
        foreach (var option in (ReadOnlySpan<Option>)[threshold, surest, stable]) SharedOptions.Share(option);
        foreach (var option in (ReadOnlySpan<Option>)[grid, least]) SharedOptions.AtLeastOne(option);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var path = parsed.GetRequiredValue(image);
        var photo = Image.Load(path).ToRgb();
        var groups = Groups(parsed);
        var (whole, segmented) = (parsed.GetValue(everything), parsed.GetValue(panoptic));
        if (whole && groups.Count > 0) throw new UsageException("--everything does not go with prompts.");
        if (!whole && !segmented && groups.Count == 0) throw new UsageException("Nothing was pointed at; expected --point, --box, --scribble, --mask, --text, --like, --everything or --panoptic.");
        var finder = parsed.GetValue(detector) ?? (parsed.GetResult(model) is { Implicit: true } && groups.Any(static g => g.Any(static p => p is TextPrompt)) ? SharedOptions.DefaultFinder : null);
        if (parsed.GetValue(threshold) is not null && finder is null) throw new UsageException("--threshold is for the boxes of --detector.");
        foreach (var prompt in groups.SelectMany(static g => g)) prompt.Check(photo.Width, photo.Height);
        string[] words = [.. groups.SelectMany(static g => g).OfType<TextPrompt>().Select(static t => t.Words).Distinct()];
        var promptable = ModelLoader.LoadPromptable(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)), words, finder is null ? null : ModelLoader.Resolve(parsed, finder), parsed.GetValue(threshold));
        using var owned = promptable as IDisposable;
        Refuse(promptable.Takes, groups, promptable is Sam);
        foreach (var option in (Option[])[grid, surest, stable, least])
            if (parsed.GetResult(option) is { Implicit: false } && (groups.Count > 0 || promptable is not (Sam or GroundedSam))) throw new UsageException($"{option.Name} goes with --everything and a SAM.");

        // Places and examples are answered one by one, and their answers make the map.
        var divided = segmented && groups.SelectMany(static g => g).All(static p => p is TextPrompt);
        var labeled = divided ? await terminal.WithProgress("Segmenting", _ => promptable.Panoptic(photo, words)) : null;
        var found = labeled?.Found.ToSegments() ?? await terminal.WithProgress(groups.Count == 0 ? "Segmenting everything" : "Segmenting", progress => Segments(parsed, promptable, photo, groups, progress, cancel));
        if (segmented) labeled ??= new(PanopticSegmentation.Of(found, photo.Width, photo.Height), static _ => true);

        var drawn = parsed.GetValue(output) ?? Path.ChangeExtension(path, ".segments.png");
        Overlay.Draw(photo, found, new() { Clicks = [.. groups.SelectMany(static g => g).OfType<PointPrompt>()] }).Save(drawn);
        if (parsed.GetValue(labels) is { } map) LabelMap.Of(found, photo.Width, photo.Height).ToImage().Save(map);
        var file = parsed.GetValue(coco) ?? (segmented ? Path.ChangeExtension(path, ".panoptic.json") : null);
        var described = new CocoImage(1, Path.GetFileName(path), photo.Width, photo.Height);
        if (labeled is not null) SegmentationFiles.SavePanoptic(file!, [(described, labeled.Found)], labeled.Found.Names, labeled.Things);
        else if (file is not null) SegmentationFiles.ToCoco([(described, [.. found.Select(static s => s with { Label = s.Label ?? "thing" })])]).Save(file);
        if (terminal.IsJson) terminal.WriteJson(new { image = path, picture = drawn, panoptic = labeled is null ? null : file, segments = found.Select(static s => new { s.Score, s.Label, box = new[] { s.Box.X, s.Box.Y, s.Box.Width, s.Box.Height }, area = s.Mask.Area, size = new[] { s.Mask.Height, s.Mask.Width }, counts = s.Mask.Counts }) });
        else
        {
            var table = Terminal.Table("Segment", "Score", "Box", "Pixels");
            foreach (var (s, i) in found.Select(static (s, i) => (s, i)))
                table.AddRow(Terminal.Escape(s.Label ?? $"{i + 1}"), s.Score.ToString("0.00", CultureInfo.InvariantCulture), $"{s.Box.X},{s.Box.Y},{s.Box.Right},{s.Box.Bottom}", s.Mask.Area.ToString(CultureInfo.InvariantCulture));
            terminal.Write(table);
            if (found.Count == 0) terminal.Note("Nothing was found.");
            terminal.Note($"The picture is {drawn}{(labeled is null ? "" : $"; COCO's panoptic JSON is {file}")}.");
        }
        return App.Success;
    }

    IReadOnlyList<Segment> Segments(ParseResult parsed, IPromptable model, Image photo, List<IReadOnlyList<Prompt>> groups, IProgress<Step> progress, CancellationToken cancel)
    {
        var choice = parsed.GetValue(all) ? MaskChoice.All : MaskChoice.Best;
        if (groups.Count == 0 && (model as Sam ?? (model as GroundedSam)?.Sam) is { } sam) return sam.Everything(photo, Searching(parsed, sam), new Share(progress), cancel);
        switch (model)
        {
            case Sam places: return Answer(places, photo, groups, choice);
            case GroundedSam grounded: return [.. grounded.Segment(photo, groups, choice).SelectMany(static s => s)];
        }
        if (groups.Count == 0) return model.Segment(photo, []);
        // Some read one name or see one example at a time.
        if (model is XDecoderSegmenter or SeemSegmenter) groups = [.. groups.SelectMany(OneByOne)];
        using var opened = model.Open(photo);
        return [.. groups.SelectMany(g => opened.Segment(g))];
    }

    SamEverythingOptions Searching(ParseResult parsed, Sam sam) => sam.Searching with
    {
        PointsPerSide = parsed.GetValue(grid) ?? sam.Searching.PointsPerSide,
        PredictedIou = parsed.GetValue(surest) ?? sam.Searching.PredictedIou,
        Stability = parsed.GetValue(stable) ?? sam.Searching.Stability,
        MinRegionArea = parsed.GetValue(least),
    };

    /// <summary>A group for each of the names and examples, with all of the places.</summary>
    static IEnumerable<IReadOnlyList<Prompt>> OneByOne(IReadOnlyList<Prompt> group)
    {
        Prompt[] named = [.. group.Where(static p => p is TextPrompt or ExamplePrompt)];
        return named.Length < 2 || (named.Length == 2 && named[0].Kind != named[1].Kind) ? [group] : named.Select(n => (IReadOnlyList<Prompt>)[n, .. group.Except(named)]);
    }

    static IReadOnlyList<Segment> Answer(Sam sam, Image photo, IReadOnlyList<IReadOnlyList<Prompt>> groups, MaskChoice choice)
    {
        using var encoded = sam.Encode(photo);
        return [.. sam.Segment(encoded, groups, choice).SelectMany(static s => s)];
    }

    /// <exception cref="PanoptesException">A prompt is of a kind that the model does not take.</exception>
    static void Refuse(PromptKinds takes, List<IReadOnlyList<Prompt>> groups, bool isSam)
    {
        if (groups.Count == 0 && !takes.HasFlag(PromptKinds.Everything)) throw new PanoptesException($"This model does not find everything by itself; it takes {takes.ToString().ToLowerInvariant()}.");
        foreach (var kind in groups.SelectMany(static g => g).Select(static p => p.Kind))
            if (!takes.HasFlag(kind)) throw new PanoptesException($"This model takes no {kind.ToString().ToLowerInvariant()}; it takes {takes.ToString().ToLowerInvariant()}.{(isSam && kind is PromptKinds.Texts or PromptKinds.Examples ? " A model for --detector finds boxes for it." : "")}");
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
        // What is said or shown goes with every box, a place with the smallest one around it.
        Prompt[] said = [.. drawn.Where(static d => d is TextPrompt or ExamplePrompt)];
        var groups = boxes.Select(b => new List<Prompt>([b, .. said])).ToArray();
        foreach (var p in points) Around(p.X, p.Y, FormattableString.Invariant($"The point {p.X},{p.Y}")).Add(p);
        foreach (var d in drawn.Except(said))
        {
            var place = d is ScribblePrompt s ? s.Pixels.Box : ((MaskPrompt)d).Pixels.Box;
            Around(place.CenterX, place.CenterY, $"The middle of the {(d is MaskPrompt ? "mask" : "scribble")}").Add(d);
        }
        return [.. groups];

        List<Prompt> Around(double x, double y, string what) => groups[Enumerable.Range(0, boxes.Length).Where(i => boxes[i].Left <= x && x <= boxes[i].Right && boxes[i].Top <= y && y <= boxes[i].Bottom)
            .OrderBy(i => (boxes[i].Right - boxes[i].Left) * (boxes[i].Bottom - boxes[i].Top)).Select(static i => (int?)i).FirstOrDefault()
            ?? throw new UsageException($"{what} is in none of the boxes; with several boxes a place belongs to the one around it.")];
    }

    sealed class Share(IProgress<Step> steps) : IProgress<double>
    {
        public void Report(double value) => steps.Report(new(value, 1));
    }
}
