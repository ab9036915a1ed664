using System.CommandLine;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Understanding;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Draws boxes around the things in images.</summary>
sealed class DetectCommand : ExampleCommand
{
    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string> model = new("--model", "-m") { Description = "A DETR, an OWL-ViT, a Grounding DINO, a Florence-2, a Kosmos-2, an X-Decoder, a SEEM, a Uni-Perceiver v2, a Pix2Seq v2, a UniTAB, a VisionLLM or a Unified-IO: a folder, a file or a hub id (OWNER/NAME[@REVISION]).", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultFinder };
    readonly Option<string[]> text = new("--text", "-t") { Description = "What is looked for: a name or a phrase; for DETR one of its classes. May be repeated.", HelpName = "WORDS" };
    readonly Option<string[]> like = new("--like") { Description = "A thing in another image, with or without the image that is bright where it is, for OWL-ViT. May be repeated.", HelpName = "OTHER.png[:MASK.png]" };
    readonly Option<double?> threshold = new("--threshold") { Description = "The score that must be exceeded, from 0 to 1; the model's own by default.", HelpName = "SCORE" };
    readonly Option<double?> overlap = new("--overlap") { Description = "The IoU above which the worse of two boxes of one name goes, from 0 to 1; by default all stay.", HelpName = "IOU" };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the picture with the boxes goes; IMAGE.boxes.png by default. For several images a folder, and by default no pictures.", HelpName = "PNG|FOLDER" };
    readonly Option<string?> coco = new("--coco") { Description = "Also write the boxes as COCO's annotations.", HelpName = "JSON" };

    public DetectCommand() : base("detect",
        "Draw boxes around the things in images: those of the model's classes (DETR, Pix2Seq v2), all that it knows (Florence-2), what words say (OWL-ViT, Grounding DINO, Florence-2, Kosmos-2, UniTAB, and around their segments X-Decoder, SEEM and Uni-Perceiver), or what is like a thing in another image (OWL-ViT).", """
        panoptes detect scene.png --text "a red apple" --text "a cat"
        panoptes detect photo.jpg --model facebook/detr-resnet-50
        panoptes detect *.jpg --model google/owlvit-base-patch32 --text "a cat" --text "a remote control" --out boxes --coco found.json
        panoptes detect shelf.jpg --model google/owlvit-base-patch32 --like mug.png --threshold 0.3
        panoptes detect photo.jpg --model IDEA-Research/grounding-dino-tiny --text "a red apple" --json
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[model, text, like, threshold, overlap, output, coco]) Add(option);
        foreach (var option in (ReadOnlySpan<Option>)[threshold, overlap]) SharedOptions.Share(option);
        SetAction(RunAsync);
    }

    sealed record Found(CocoImage Image, IReadOnlyList<Detection> Detections);

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var files = SharedOptions.ImageFiles(parsed, images);
        var (names, given) = (parsed.GetValue(text) ?? [], parsed.GetValue(like) ?? []);
        if (names.Any(string.IsNullOrWhiteSpace)) throw new PanoptesException("A text is empty; expected what is looked for, such as \"a cat\".");
        ExamplePrompt[] examples = [.. given.Select(PromptParser.WholeOrLike)];
        var pictures = Pictures.Of(files, parsed.GetValue(output), ".boxes.png", always: true);
        using var finder = ModelLoader.LoadGrounder(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)), names);
        if (names.Length + examples.Length == 0 && !finder.FindsAll) throw new UsageException("This model finds what it is told; expected --text or, for an OWL-ViT, --like.");
        var done = 0;
        var found = await terminal.InChunks<Found>("Detecting", files, chunk =>
        {
            var photos = SharedOptions.LoadImages(chunk);
            var detections = Find(finder, photos, names, examples, [.. given.Select(static g => Path.GetFileNameWithoutExtension(g.Split(':')[0]))], parsed.GetValue(threshold), parsed.GetValue(overlap), cancel);
            return [.. photos.Select((photo, i) =>
            {
                if (pictures[done] is { } picture) Overlay.Draw(photo.ToRgb(), detections[i]).Save(picture);
                return new Found(new(++done, Path.GetFileName(chunk[i]), photo.Width, photo.Height), detections[i]);
            })];
        }, cancel, size: 8);

        if (parsed.GetValue(coco) is { } file)
            SegmentationFiles.ToCoco([.. found.Select(static f => (f.Image, f.Detections))], (finder as Detector)?.Labels ?? (finder as Pix2Seq)?.Labels ?? names).Save(file);
        if (terminal.IsJson) terminal.WriteJson(found.Select((f, i) => new { image = files[i], picture = pictures[i], detections = f.Detections.Select(Pictures.Json) }));
        else
        {
            var table = Terminal.Table([.. files.Length > 1 ? ["Image"] : (string[])[], "Name", "Score", "Box"]);
            foreach (var (f, name) in found.Zip(files))
                foreach (var d in f.Detections) table.AddRow(files.Length > 1 ? [name, d.Label] : [d.Label], d);
            terminal.Write(table);
            if (found.Count(static f => f.Detections.Count == 0) is > 0 and var without) terminal.Note(files.Length == 1 ? "Nothing was found." : $"Nothing was found in {without} of {files.Length} images.");
            Pictures.Note(terminal, pictures);
        }
        return App.Success;
    }

    /// <summary>What is in each image, the surest first.</summary>
    static IReadOnlyList<IReadOnlyList<Detection>> Find(IGrounder finder, Image[] photos, string[] names, ExamplePrompt[] examples, string[] labels, double? threshold, double? overlap, CancellationToken cancel)
    {
        // A detector takes several images at once.
        if (examples.Length == 0 && finder is Detector detector) return detector.Detect(photos, names.Length == 0 ? null : names, threshold, overlap, cancellation: cancel);
        return [.. photos.Select(photo =>
        {
            cancel.ThrowIfCancellationRequested();
            var byWords = names.Length > 0 ? finder.Find(photo, names, threshold) : examples.Length == 0 ? finder.FindAll(photo, threshold) : [];
            Detection[] found = [.. byWords.Concat(examples.SelectMany((e, k) => finder.FindLike(photo, e, labels[k], threshold))).OrderByDescending(static d => d.Score)];
            return overlap is { } most ? BoxNms.Keep(found, most) : found;
        })];
    }
}
