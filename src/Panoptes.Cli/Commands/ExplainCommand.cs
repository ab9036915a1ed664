using System.CommandLine;
using System.Globalization;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Representation.Explanations;
using Panoptes.Representation.Training;
using Panoptes.Search;
using Panoptes.Understanding;
using Panoptes.Understanding.Training;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Draws what a model sees in images.</summary>
sealed class ExplainCommand : ExampleCommand
{
    const int Side = 192;

    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files; with --recipe none.", Arity = ArgumentArity.ZeroOrMore };
    readonly Option<string[]> text = new("--text", "-t") { Description = "Where this text and each of its words is; may be repeated. Without it: the words that the image lights up in a STAIR model, what a masked autoencoder makes of a part of it, or the attention of a transformer.", HelpName = "TEXT" };
    readonly Option<string?> neighbors = new("--neighbors") { Description = "Show the images of this folder that are nearest in the model's features; 'emoji' for the bundled drawings, 'emoji:STYLE' for those of one style.", HelpName = "DIR" };
    readonly Option<string?> recipe = new("--recipe") { Description = "Show scenes that this recipe holds out, what is in them, and what a model of masks or boxes answers: to clicks, boxes and names, as far as it takes them.", HelpName = "RECIPE" };
    readonly Option<string[]> set = new("--set") { Description = "Give a field of --recipe another value, such as data.scenes.size=128. May be repeated.", HelpName = "FIELD=VALUE" };
    readonly Option<string?> detector = new("--detector") { Description = "A model that finds boxes for names, with --recipe and a SAM.", HelpName = "MODEL" };
    readonly Option<int> top = new("--top", "-n") { Description = "How many neighbors, words of a STAIR model, or scenes to show.", HelpName = "N", DefaultValueFactory = static _ => 12 };
    readonly Option<ulong> seed = new("--seed") { Description = "Which patches of a masked autoencoder's images are masked.", HelpName = "N" };
    readonly Option<string> output = new("--out", "-o") { Description = "The picture to draw (.png, .jpg or .webp).", HelpName = "FILE", DefaultValueFactory = static _ => "explain.png" };
    readonly Option<string> model = SharedOptions.Model();

    public ExplainCommand() : base("explain", "Draw what a model sees: where each word of a text is, the words that an image lights up, what is behind a mask, where attention goes, which images are alike, or what is found in scenes.", """
        panoptes explain photo.jpg --text "a red apple left of a dog" --model runs/filip/last
        panoptes explain photo.jpg --model runs/stair/last --top 20
        panoptes explain *.jpg --model facebook/dinov2-small --out attention.png
        panoptes explain photo.jpg --model facebook/vit-mae-base --seed 3
        panoptes explain photo.jpg --neighbors ~/Pictures --top 6
        panoptes explain --recipe recipes/seem.yaml --model runs/seem/last --top 4 --out seem.png
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[text, neighbors, recipe, set, detector, top, seed, output, model]) Add(option);
        SharedOptions.AtLeastOne(top);
        SharedOptions.EndsIn(output, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        if (parsed.GetValue(recipe) is { } scenes) return Scenes(parsed, terminal, scenes, cancel);
        if (parsed.GetValue(detector) is not null || parsed.GetValue(set) is { Length: > 0 }) throw new UsageException("--detector and --set go with --recipe.");
        if (parsed.GetValue(images) is not { Length: > 0 }) throw new UsageException("No image was named; expected image files or, for scenes, --recipe.");
        var files = SharedOptions.ImageFiles(parsed, images);
        var (texts, file0) = (parsed.GetValue(text) ?? [], parsed.GetValue(output)!);
        using var encoder = ModelLoader.LoadEncoder(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)));
        var clip = encoder as Clip;
        if (texts.Length > 0 && clip is null) throw new PanoptesException($"A {encoder.Model.GetType().Name} reads no texts; leave --text out.");
        var among = parsed.GetValue(neighbors);
        if (among is not null && texts.Length > 0) throw new UsageException("--neighbors and --text are explanations of their own; give one of them.");
        if (parsed.GetResult(top) is { Implicit: false } && among is null && (texts.Length > 0 || encoder.Model is not StairModel)) throw new UsageException("--top counts neighbors, or the words that a STAIR model lights up without --text.");
        if (parsed.GetResult(seed) is { Implicit: false } && (among is not null || encoder.Model is not MaeForPreTraining)) throw new UsageException("--seed says which patches of a masked autoencoder's images are masked.");

        var (rows, found) = (new List<SheetRow>(), new List<object>());
        if (among is not null) await NeighborsAsync(terminal, encoder, files, Gallery.Open(among), parsed.GetValue(top), rows, found, cancel);
        foreach (var file in among is null ? files : [])
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
            else if (encoder.Model is MaeForPreTraining mae)
            {
                var seen = Explain.Reconstruct(encoder, image, parsed.GetValue(seed));
                var note = string.Create(CultureInfo.InvariantCulture, $"{mae.Config.MaskRatio:P0} masked, mean square error {seen.Loss:0.000}{(seen.IsNormalized ? "; the model tells a patch without its mean and contrast, which are given back from the image" : "")}");
                rows.Add(new(name, [.. new[] { (seen.View, "image"), (seen.Seen, "what the model sees"), (seen.Told, "what it tells") }.Select(static p => new SheetCell(p.Item1.Resize(Side, Side, ResizeFilter.Nearest), p.Item2))]) { Note = note });
                found.Add(new { image = file, masked = mae.Config.MaskRatio, seen.Loss, normalized = seen.IsNormalized });
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

    /// <summary>What a model finds in scenes that a recipe holds out.</summary>
    int Scenes(ParseResult parsed, Terminal terminal, string recipe, CancellationToken cancel)
    {
        foreach (var symbol in (Symbol[])[images, text, neighbors, seed])
            if (symbol switch { Option o => parsed.GetResult(o) is { Implicit: false }, _ => parsed.GetValue(images) is { Length: > 0 } }) throw new UsageException($"{symbol.Name} does not go with --recipe, whose held-out scenes are shown.");
        var tests = SceneRecipe.Load(recipe, SceneTasks.All, parsed.GetValue(set) ?? []).Tests();
        var (path, count, file) = (ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)), parsed.GetValue(top), parsed.GetValue(output)!);
        SheetRow[] rows;
        if (ModelLoader.DrawsBoxes(path))
        {
            using var finder = ModelLoader.LoadGrounder(parsed, path);
            rows = [.. AnsweredScenes.Rows(finder, tests, count, cancel)];
        }
        else
        {
            var (segmenter, sure) = Answering(parsed, path, parsed.GetValue(detector) is { } finder ? ModelLoader.Resolve(parsed, finder) : null, tests, cancel);
            using var owned = segmenter as IDisposable;
            rows = [.. AnsweredScenes.Rows(segmenter, sure, tests, count, cancel)];
        }
        AnsweredScenes.Save(rows, file);
        if (terminal.IsJson) terminal.WriteJson(new { picture = file, scenes = rows.Select(static r => new { caption = r.Caption, answers = r.Cells.Skip(2).Select(static c => c.Label) }) });
        else terminal.Note($"{file} shows {rows.Length} scene{(rows.Length == 1 ? "" : "s")}.");
        return App.Success;
    }

    /// <summary>A model of masks; with one that has a probability of each name for every pixel, that from which on it is measured.</summary>
    static (IPromptable Model, float? Sure) Answering(ParseResult parsed, string path, string? detector, SceneTests tests, CancellationToken cancel)
    {
        if (detector is not null || !ModelLoader.LabelsPixels(path)) return (ModelLoader.LoadPromptable(parsed, path, tests.Names, detector), null);
        var dense = OpenVocabularySegmenter.Load(path, new() { Dtype = ModelLoader.Precision(parsed), Device = ModelLoader.Device(parsed), Side = tests.Options.Size, Templates = MultiLabelLoss.Templates, TruncateTexts = true, Others = [] });
        try
        {
            return (dense, OpenVocabularyEvaluation.Threshold(tests, dense, cancel));
        }
        catch
        {
            dense.Dispose();
            throw;
        }
    }

    static async Task NeighborsAsync(Terminal terminal, ImageEncoder encoder, string[] files, Gallery gallery, int count, List<SheetRow> rows, List<object> found, CancellationToken cancel)
    {
        Image[] images = [.. files.Select(static f => Image.Load(f))];
        // One more, since an image that lies in the folder is no neighbor of itself.
        var nearest = await terminal.WithProgress($"Looking at {gallery.Count} images", progress =>
            Explain.Neighbors(encoder, images, gallery.Count, gallery.Load, count + 1, new CountedSteps(progress, gallery.Count), cancel));
        for (var i = 0; i < files.Length; i++)
        {
            Neighbor[] shown = [.. nearest[i].Where(n => !gallery.Is(n.Index, files[i])).Take(count)];
            rows.Add(new(Path.GetFileName(files[i]), [.. shown.Select(n => new SheetCell(gallery.Load(n.Index), gallery.NameOf(n.Index), n.Similarity))]) { Query = images[i], Note = "the nearest by the cosine of features" });
            found.Add(new { image = files[i], neighbors = shown.Select(n => new { image = gallery.NameOf(n.Index), n.Similarity }) });
            if (terminal.IsJson) continue;
            var table = Terminal.Table(Terminal.Escape(Path.GetFileName(files[i])), "Cosine");
            foreach (var n in shown) table.AddRow(Terminal.Escape(gallery.NameOf(n.Index)), $"{n.Similarity:0.000}");
            terminal.Write(table);
        }
    }

    /// <summary>The images that neighbors are looked for among.</summary>
    sealed record Gallery(int Count, Func<int, Image> Load, Func<int, string> NameOf, Func<int, string, bool> Is)
    {
        const string Emoji = "emoji";

        /// <exception cref="PanoptesException">No such folder, no image in it, or no such style.</exception>
        public static Gallery Open(string source)
        {
            if (source != Emoji && !source.StartsWith($"{Emoji}:", StringComparison.Ordinal))
            {
                var files = FolderIndexer.Files(source);
                return files.Count == 0 ? throw new PanoptesException($"{source} holds no images.")
                    : new(files.Count, i => Image.Load(Path.Combine(source, files[i])), i => files[i], (i, path) => Path.GetFullPath(Path.Combine(source, files[i])) == Path.GetFullPath(path));
            }
            var set = EmojiSet.Open();
            var style = source.Length == Emoji.Length ? null : set.Styles.FirstOrDefault(s => s.Name == source[(Emoji.Length + 1)..])
                ?? throw new PanoptesException($"There is no style {source[(Emoji.Length + 1)..]}; the emoji are drawn in {string.Join(", ", set.Styles.Select(static s => s.Name))}.");
            var images = set.Select(i => style is null || i.Style == style.Index);
            return new(images.Length, i => new Image(set.Size, set.Size, 4, set.Pixels(images[i]).ToArray()).ToRgb(),
                i => $"{set.Concepts[set.Images[images[i]].Concept].Name} ({set.Styles[set.Images[images[i]].Style].Name})", static (_, _) => false);
        }
    }

    static Table Bars(string name, IReadOnlyList<WeightedToken> words)
    {
        var table = Terminal.Table(Terminal.Escape(name), "Weight", "");
        var most = words.Count > 0 ? words[0].Weight : 1;
        foreach (var (token, weight, _) in words) table.AddRow(Terminal.Escape(token), $"{weight:0.000}", $"[green]{new string('█', (int)Math.Round(weight / most * 30))}[/]");
        return table;
    }
}
