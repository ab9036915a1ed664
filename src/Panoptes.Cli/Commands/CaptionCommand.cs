using System.CommandLine;
using System.Globalization;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Understanding;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Says what is to be seen in images.</summary>
sealed class CaptionCommand : ExampleCommand
{
    static readonly CaptionOptions Usual = new();

    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string> model = new("--model", "-m") { Description = "A CoCa, a BEiT-3 for captions, a Florence-2, a Kosmos-2, an X-Decoder, a SEEM, a Uni-Perceiver v2, a UniTAB, a Pix2Seq v2, a VisionLLM or a Unified-IO: a folder, a file or a hub id (OWNER/NAME[@REVISION]).", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultFinder };
    readonly Option<CaptionDetail> detail = new("--detail", "-d") { Description = "How much is said, by Florence-2 (all three) and Kosmos-2 (brief or detailed).", HelpName = "brief|detailed|paragraph", DefaultValueFactory = static _ => CaptionDetail.Brief };
    readonly Option<int?> beams = new("--beams", "-b") { Description = "How many texts are followed at once; 1 takes the likeliest word every time. By default 4, or what the model's own files say.", HelpName = "N" };
    readonly Option<int?> least = new("--min-tokens") { Description = "The fewest tokens of a caption, by CoCa and BEiT-3; 1 by default.", HelpName = "N" };
    readonly Option<int?> most = new("--max-tokens") { Description = $"The most tokens of a caption; by default {Usual.MaxTokens}, or what the model's own files say.", HelpName = "N" };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the picture goes with the boxes of the things that a Kosmos-2 or a UniTAB speaks of; for several images a folder. By default no picture.", HelpName = "PNG|FOLDER" };

    public CaptionCommand() : base("caption", "Say what is to be seen in images, with a model that writes captions. Kosmos-2 and UniTAB say of the things that they speak of where they are.", """
        panoptes caption scene.png
        panoptes caption photo.jpg --model runs/coca/last
        panoptes caption *.png --model runs/coca/last --beams 1 --json
        panoptes caption photo.jpg --model florence-community/Florence-2-base --detail detailed
        panoptes caption photo.jpg --model microsoft/kosmos-2-patch14-224 --out spoken-of.png
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[model, detail, beams, least, most, output]) Add(option);
        foreach (var option in (ReadOnlySpan<Option>)[beams, least, most]) SharedOptions.AtLeastOne(option);
        detail.CompletionSources.Clear();
        detail.CompletionSources.Add("brief", "detailed", "paragraph");
        SetAction(RunAsync);
    }

    /// <summary>What was written about an image.</summary>
    /// <param name="Score">How likely it is, where the model tells.</param>
    /// <param name="Phrases">What of it speaks of which boxes, in pixels, where the model tells.</param>
    sealed record Caption(string Text, double? Score = null, IReadOnlyList<GroundedPhrase>? Phrases = null);

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var files = SharedOptions.ImageFiles(parsed, images);
        var path = ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model));
        var type = PromptableModels.Registry.TypeOf(path);
        if (parsed.GetValue(output) is not null && type != typeof(Kosmos2Model) && type != typeof(UniTabModel)) throw new UsageException("--out is for the boxes of a Kosmos-2 or a UniTAB; this model writes text alone.");
        var pictures = Pictures.Of(files, parsed.GetValue(output), ".spoken-of.png", always: false);
        var (write, owned) = Writer(parsed, path, type);
        using var _ = owned;
        var done = 0;
        var captions = await terminal.InChunks("Captioning", files, chunk =>
        {
            var photos = SharedOptions.LoadImages(chunk);
            var written = write(photos);
            for (var i = 0; i < photos.Length; i++, done++)
                if (pictures[done] is { } picture) Overlay.Draw(photos[i].ToRgb(), [.. (written[i].Phrases ?? []).SelectMany(static p => p.Boxes.Select(b => b.Named(p.Text)))]).Save(picture);
            return written;
        }, cancel, type is null ? 64 : 1);
        if (terminal.IsJson)
            terminal.WriteJson(files.Select((file, i) => captions[i] is var c && c.Phrases is null ? (object)new { image = file, caption = c.Text, c.Score }
                : new { image = file, caption = c.Text, c.Score, picture = pictures[i], phrases = c.Phrases!.Select(static p => new { p.Text, p.Start, p.End, boxes = p.Boxes.Select(static b => Pictures.Corner(b.Left, b.Top, b.Right, b.Bottom)) }) }));
        else
        {
            var table = Terminal.Table("Image", "Caption", captions.Exists(static c => c.Phrases is not null) ? "Boxes" : "Score");
            foreach (var (file, caption) in files.Zip(captions))
                table.AddRow(Terminal.Escape(file), Terminal.Escape(caption.Text), caption.Phrases is { } phrases
                    ? Terminal.Escape(string.Join('\n', phrases.SelectMany(static p => p.Boxes.Select(b => $"{p.Text}: {Pictures.Cells(b.Named(p.Text))[1]}")))) : caption.Score?.ToString("0.00", CultureInfo.InvariantCulture) ?? "");
            terminal.Write(table);
            Pictures.Note(terminal, pictures);
        }
        return App.Success;
    }

    /// <summary>What writes, and what is to be disposed after it.</summary>
    (Func<Image[], IReadOnlyList<Caption>> Write, IDisposable Owned) Writer(ParseResult parsed, string path, Type? type)
    {
        var (detailed, beams, most) = (parsed.GetValue(detail), parsed.GetValue(this.beams), parsed.GetValue(this.most));
        if (detailed != CaptionDetail.Brief && type != typeof(Florence2Model) && !(type == typeof(Kosmos2Model) && detailed == CaptionDetail.Detailed))
            throw new UsageException($"--detail is {detailed.ToString().ToLowerInvariant()}; this model writes {(type == typeof(Kosmos2Model) ? "brief or detailed" : "brief")} captions.");
        SequenceOptions Asked(SequenceOptions own) => own with { Beams = beams ?? own.Beams, MaxTokens = most ?? own.MaxTokens };
        if (type == typeof(Florence2Model))
        {
            var florence = (Florence)ModelLoader.LoadGrounder(parsed, path);
            florence.Options = Asked(florence.Options);
            return (photos => [.. photos.Select(p => new Caption(florence.Caption(p, detailed)))], florence);
        }
        if (type == typeof(Kosmos2Model))
        {
            var kosmos = (Kosmos)ModelLoader.LoadGrounder(parsed, path);
            kosmos.Options = Asked(kosmos.Options);
            return (photos => [.. photos.Select(p => kosmos.Describe(p, detailed)).Select(static c => new Caption(c.Text, null, c.Phrases))], kosmos);
        }
        if (type == typeof(UniTabModel))
        {
            var unitab = (UniTab)ModelLoader.LoadGrounder(parsed, path);
            unitab.Options = Asked(new() { MaxTokens = 80 });
            return (photos => [.. photos.Select(unitab.Describe).Select(static c => new Caption(c.Text, null, c.Phrases))], unitab);
        }
        if (type == typeof(Pix2SeqModel) || type == typeof(VisionLlmModel) || type == typeof(UnifiedIoModel))
        {
            var (writer, options) = ((IDescriber)ModelLoader.LoadGrounder(parsed, path), Asked(new() { MaxTokens = 40 }));
            return (photos => [.. photos.Select(p => writer.Caption(p, options)).Select(static c => new Caption(c.Text, c.Score))], writer);
        }
        if (type == typeof(UniPerceiverModel))
        {
            var perceiver = (UniPerceiverSegmenter)ModelLoader.LoadPromptable(parsed, path, []);
            return (photos => [.. photos.Select(p => new Caption(perceiver.Caption(p)))], perceiver);
        }
        if (type == typeof(XDecoderModel) || type == typeof(SeemModel))
        {
            var decoder = ModelLoader.LoadPromptable(parsed, path, []);
            var names = decoder is SeemSegmenter seem ? seem.Names : (XDecoderSegmenter)decoder;
            return (photos => [.. photos.Select(p =>
            {
                using var encoded = names.Encode(p);
                return new Caption(names.Caption(encoded));
            })], (IDisposable)decoder);
        }
        var search = new CaptionOptions { Beams = beams ?? 4, MinTokens = parsed.GetValue(least) ?? 1, MaxTokens = most ?? Usual.MaxTokens };
        var captioner = ModelLoader.LoadCaptioner(parsed, path);
        return (photos => [.. captioner.Caption(photos, search).Select(static c => new Caption(c.Text, c.Score))], captioner);
    }
}
