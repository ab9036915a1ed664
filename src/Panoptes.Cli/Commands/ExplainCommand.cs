using System.CommandLine;
using System.Globalization;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Representation.Explanations;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Draws what a model sees in images.</summary>
sealed class ExplainCommand : ExampleCommand
{
    const int Side = 192;

    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string[]> text = new("--text", "-t") { Description = "Where this text and each of its words is; may be repeated. Without it: what the image lights up, words of a STAIR model, or the attention of a transformer.", HelpName = "TEXT" };
    readonly Option<int> top = new("--top", "-n") { Description = "How many words of a STAIR model to show.", HelpName = "N", DefaultValueFactory = static _ => 12 };
    readonly Option<string> output = new("--out", "-o") { Description = "The picture to draw (.png, .jpg or .webp).", HelpName = "FILE", DefaultValueFactory = static _ => "explain.png" };
    readonly Option<string> model = SharedOptions.Model();

    public ExplainCommand() : base("explain", "Draw what a model sees: where each word of a text is, the words that an image lights up, or where attention goes.", """
        panoptes explain photo.jpg --text "a red apple left of a dog" --model runs/filip/last
        panoptes explain photo.jpg --model runs/stair/last --top 20
        panoptes explain *.jpg --model facebook/dinov2-small --out attention.png
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[text, top, output, model]) Add(option);
        SharedOptions.AtLeastOne(top);
        SharedOptions.EndsIn(output, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(Run);
    }

    int Run(ParseResult parsed)
    {
        var terminal = new Terminal(parsed);
        var files = parsed.GetRequiredValue(images);
        foreach (var file in files)
            if (!File.Exists(file)) throw new PanoptesException(Directory.Exists(file) ? $"{file} is a folder; expected an image file." : $"{file} does not exist.");
        var (texts, file0) = (parsed.GetValue(text) ?? [], parsed.GetValue(output)!);
        using var encoder = ModelLoader.LoadEncoder(parsed, ModelLoader.Resolve(parsed.GetRequiredValue(model)));
        var clip = encoder as Clip;
        if (texts.Length > 0 && clip is null) throw new PanoptesException($"A {encoder.Model.GetType().Name} reads no texts; leave --text out.");
        if (parsed.GetResult(top) is { Implicit: false } && (texts.Length > 0 || encoder.Model is not StairModel)) throw new UsageException("--top counts the words that a STAIR model lights up without --text.");

        var (rows, found) = (new List<SheetRow>(), new List<object>());
        foreach (var file in files)
        {
            var image = Image.Load(file);
            var view = Explain.View(encoder, image).Resize(Side, Side, ResizeFilter.Bicubic);
            var name = Path.GetFileName(file);
            if (texts.Length > 0)
            {
                foreach (var t in texts)
                {
                    var explained = Explain.Words(clip!, image, t);
                    SheetCell[] cells = [new(view, "image"), new(explained.Whole.Over(view), "the whole text"), .. explained.Words.Select(w => new SheetCell(w.Map.Over(view), w.Word))];
                    rows.Add(new($"{name}: {t}", cells) { Note = string.Create(CultureInfo.InvariantCulture, $"similarity {explained.Similarity:0.000}") });
                    found.Add(new { image = file, text = t, explained.Similarity, words = explained.Words.Select(static w => new { w.Word, peak = new[] { w.Map.Peak.X, w.Map.Peak.Y } }) });
                }
            }
            else if (encoder.Model is StairModel)
            {
                var words = Explain.SparseWords(clip!, image, parsed.GetValue(top));
                var most = words.Count > 0 ? words[0].Weight : 1;
                rows.Add(new(name, [.. words.Select(w => new SheetCell(w.Map.Over(view), w.Token, w.Weight / most))]) { Query = view, Note = words.Count == 0 ? "lights up no word" : "the words that it lights up, by weight" });
                found.Add(new { image = file, words = words.Select(static w => new { w.Token, w.Weight }) });
                if (!terminal.IsJson) terminal.Write(Bars(name, words));
            }
            else
            {
                var map = Explain.Rollout(encoder, image);
                rows.Add(new(name, [new(view, "image"), new(map.Over(view), "attention, rolled out")]));
                found.Add(new { image = file, peak = new[] { map.Peak.X, map.Peak.Y } });
            }
        }
        new ContactSheet { Rows = rows, CellSize = Side, Columns = 6 }.Render().Save(file0);
        if (terminal.IsJson) terminal.WriteJson(new { picture = file0, explained = found });
        else terminal.Note($"{file0} shows {files.Length} image{(files.Length == 1 ? "" : "s")}.");
        return App.Success;
    }

    static Table Bars(string name, IReadOnlyList<WeightedToken> words)
    {
        var table = Terminal.Table(Markup.Escape(name), "Weight", "");
        var most = words.Count > 0 ? words[0].Weight : 1;
        foreach (var (token, weight, _) in words) table.AddRow(Markup.Escape(token), $"{weight:0.000}", $"[green]{new string('█', (int)Math.Round(weight / most * 30))}[/]");
        return table;
    }
}
