using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Data.Knowledge;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Representation.Evaluation;
using Panoptes.Representation.Training;
using Panoptes.Understanding;
using Panoptes.Understanding.Training;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Measures a model on the bundled emoji, on Fashion-MNIST, or on the user's own images.</summary>
sealed class EvaluateCommand : ExampleCommand
{
    static readonly Dictionary<string, EvaluationTask> Tasks = new(StringComparer.Ordinal)
    {
        ["zero-shot"] = EvaluationTask.ZeroShot,
        ["retrieval"] = EvaluationTask.Retrieval,
        ["knn"] = EvaluationTask.Knn,
        ["linear-probe"] = EvaluationTask.LinearProbe,
    };

    static readonly string[] TestFolders = ["test", "val", "validation"];

    readonly Option<string> data = new("--data", "-d")
    {
        Description = "emoji (the bundled set), fashion-mnist, the folder of another such set, a folder with one subfolder a class (or text files beside the images, or folders train and test), or a table (.csv, .tsv, .parquet) with captions or labels.",
        HelpName = "DATA",
        DefaultValueFactory = static _ => "emoji",
    };
    readonly Option<string[]> tasks = new("--task") { Description = "Measure this only: zero-shot, retrieval, knn, linear-probe; may be repeated. By default all that the data allow.", HelpName = "TASK" };
    readonly Option<string[]> template = new("--template") { Description = "A sentence around a class's name, {} being the name; may be repeated. By default a set that suits the data.", HelpName = "TEXT" };
    readonly Option<string[]> knowledge = new("--knowledge") { Description = "Append what is known of each class to its texts, as a model was trained that knows them so (K-LITE): definition, hypernyms or keywords of the bundled table about the emoji; may be repeated.", HelpName = "KIND" };
    readonly Option<string?> knowledgeTable = new("--knowledge-table") { Description = "Append the texts of a table of your own instead: JSON lines with name (of a class) and text.", HelpName = "FILE" };
    readonly Option<int> knowledgeWords = new("--knowledge-words") { Description = "The words that a text has at most with the knowledge.", HelpName = "N", DefaultValueFactory = static _ => new KnowledgeOptions().MaxWords };
    readonly Option<int> neighbors = new("--neighbors") { Description = "How many neighbors vote in k-NN.", HelpName = "K", DefaultValueFactory = static _ => new NearestNeighborOptions().K };
    readonly Option<string?> report = new("--report") { Description = "Write all numbers to a JSON file.", HelpName = "FILE" };
    readonly Option<string?> confusion = new("--confusion") { Description = "Draw which classes are taken for which (.png, .jpg or .webp).", HelpName = "FILE" };
    readonly Option<bool> strict = new("--strict") { Description = "An image that cannot be read is an error; by default it is counted and left out." };
    readonly Option<string?> scenes = new("--recipe")
    {
        Description = "Measure how well a model tells pixels' names, without having to be trained for it, on the held-out scenes of a recipe: GroupViT, CLIPSeg, OpenSeg, a segmenter of MaskCLIP+, relative mask attention, or any CLIP by MaskCLIP.",
        HelpName = "RECIPE",
    };
    readonly Option<int?> side = new("--side") { Description = "With --recipe: the side in pixels that scenes are enlarged to for the model; by default it sees them as they are.", HelpName = "PIXELS" };
    readonly Option<string> model = SharedOptions.Model();
    readonly Option<string[]> all = new("--all") { Description = "Compare these models, of any kind that has an image tower, in one table: emoji names and subgroups, and Fashion-MNIST where it is there (with --data emoji the emoji alone).", HelpName = "MODEL", AllowMultipleArgumentsPerToken = true };

    public EvaluateCommand() : base("evaluate", "Measure a model: zero-shot accuracy, retrieval, k-NN and linear probe, beside chance and simple baselines.", """
        panoptes evaluate
        panoptes evaluate --model zoo/clip-emoji --data emoji --report emoji.json
        panoptes evaluate --model openai/clip-vit-base-patch32 --data fashion-mnist --task zero-shot --task linear-probe --precision auto
        panoptes evaluate --all zoo/clip-emoji runs/mae/last facebook/dinov2-small
        panoptes evaluate --model runs/groupvit/best --recipe recipes/groupvit.yaml
        panoptes evaluate --data ~/Pictures/by-class --template "a photo of a {}." --confusion confusion.png
        """)
    {
        foreach (var option in (ReadOnlySpan<Option>)[data, tasks, template, knowledge, knowledgeTable, knowledgeWords, neighbors, report, confusion, strict, scenes, side, model, all]) Add(option);
        data.CompletionSources.Add("emoji", "fashion-mnist");
        SharedOptions.OneOf(tasks, [.. Tasks.Keys]);
        SharedOptions.OneOf(knowledge, [.. Enum.GetNames<KnowledgeKind>().Select(static k => k.ToLowerInvariant())]);
        SharedOptions.AtLeastOne(neighbors);
        SharedOptions.AtLeastOne(knowledgeWords);
        SharedOptions.AtLeastOne(side);
        SharedOptions.EndsIn(confusion, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        if (parsed.GetValue(all) is { Length: > 0 } models) return await Compare(parsed, terminal, models, cancel);
        if (parsed.GetValue(scenes) is { } recipe) return await RunScenes(parsed, terminal, recipe, cancel);
        if (parsed.GetValue(side) is not null) throw new UsageException("--side goes with --recipe only.");
        var what = parsed.GetRequiredValue(data);
        var templates = SharedOptions.Templates(parsed, template, "class's name");
        EvaluationTask[] chosen = [.. (parsed.GetValue(tasks) ?? []).Select(static t => Tasks[t]).Distinct()];
        if (parsed.GetValue(confusion) is not null && chosen is [EvaluationTask.Retrieval]) throw new UsageException("--confusion does not go with retrieval alone, which has no classes.");
        if (what == "emoji" || EmojiSet.IsIn(what))
        {
            if (chosen.Length > 0) throw new UsageException("--task does not go with the emoji, on which everything is measured.");
            return await RunEmoji(parsed, terminal, what == "emoji" ? null : what, templates, cancel);
        }
        var (test, train) = Open(parsed, what);
        var options = new ImageEvaluationOptions
        {
            Tasks = chosen.Length > 0 ? chosen : null,
            Templates = templates ?? PromptTemplates.General,
            Knowledge = Knowledge(parsed),
            Neighbors = new() { K = parsed.GetValue(neighbors) },
        };
        using var encoder = Load(parsed);
        var result = await terminal.WithProgress("Evaluating", progress => ImageEvaluation.Run(encoder, test, train, options, new Steps(progress), cancel));
        Finish(parsed, terminal, result, result.ZeroShot ?? result.LinearProbe?.Report ?? result.Knn?.Report, cancel);
        if (!terminal.IsJson) Show(terminal, result);
        foreach (var line in test.Problems.Lines().Concat(train?.Problems.Lines() ?? [])) terminal.Note(line);
        return App.Success;
    }

    /// <summary>Names of pixels, on the scenes that a recipe holds out.</summary>
    async Task<int> RunScenes(ParseResult parsed, Terminal terminal, string recipe, CancellationToken cancel)
    {
        foreach (var option in (Option[])[data, tasks, knowledge, knowledgeTable, knowledgeWords, neighbors, confusion, strict])
            if (parsed.GetResult(option) is { Implicit: false }) throw new UsageException($"{option.Name} does not go with --recipe, which says what is measured on.");
        ModelLoader.UseThreads(parsed);
        var tests = SceneRecipe.Load(recipe, SceneTasks.All).Tests();
        var options = new SegmenterOptions { Dtype = ModelLoader.Precision(parsed), Device = ModelLoader.Device(parsed), Side = parsed.GetValue(side), Templates = SharedOptions.Templates(parsed, template, "thing's name") ?? MultiLabelLoss.Templates, TruncateTexts = true };
        using var segmenter = OpenVocabularySegmenter.Load(ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)), options);
        var clock = Stopwatch.StartNew();
        var result = await terminal.WithProgress("Evaluating", progress => OpenVocabularyEvaluation.Run(tests, segmenter, progress: new Steps(progress), cancel: cancel));
        cancel.ThrowIfCancellationRequested();
        var named = new { model = parsed.GetRequiredValue(model), recipe, names = tests.Names.Count, scenes = tests.Scenes(EmojiSplit.HeldOutStyle).Count, seconds = clock.Elapsed.TotalSeconds, report = result };
        if (parsed.GetValue(report) is { } file) AtomicFile.Write(file, stream => JsonSerializer.Serialize(stream, named, Terminal.JsonOptions));
        if (terminal.IsJson) terminal.WriteJson(named);
        else
        {
            terminal.WriteLine($"{named.scenes} scenes of drawings in a style that is never trained on, {named.names} names and the background.");
            var table = Terminal.Table("Mean IoU", "Chance", "Pixels right", "Names right, where things are");
            table.AddRow(Bold(result.MeanIou), Percent(result.ChanceIou), Percent(result.PixelAccuracy), Percent(result.NamingAccuracy));
            terminal.Write(table);
        }
        return App.Success;
    }

    async Task<int> Compare(ParseResult parsed, Terminal terminal, string[] models, CancellationToken cancel)
    {
        foreach (var option in (Option[])[tasks, template, knowledge, knowledgeTable, knowledgeWords, neighbors, confusion, strict, scenes, side, model])
            if (parsed.GetResult(option) is { Implicit: false }) throw new UsageException($"{option.Name} does not go with --all, which measures the same of every model.");
        string[] paths = [.. models.Select(m => ModelLoader.Resolve(parsed, m))];                                           // none is measured before all are found
        // With data that was named, on that alone.
        var named = parsed.GetResult(data) is { Implicit: false } ? parsed.GetRequiredValue(data) : null;
        if (named is not (null or "emoji") && !EmojiSet.IsIn(named)) throw new UsageException($"--data {named} does not go with --all; expected emoji, or the folder of such a set.");
        var set = EmojiSet.Open(named is null or "emoji" ? null : named);
        var fashion = named is null && FashionMnist.Find() is { } found ? FashionMnist.Open(found) : null;
        if (fashion is null && named is null) terminal.Note("Fashion-MNIST is not on this machine (see `panoptes evaluate --data fashion-mnist`) and is left out.");
        var result = await terminal.WithProgress("Evaluating", progress => ModelComparison.Run(name => ModelLoader.LoadEncoder(parsed, paths[Array.IndexOf(models, name)]), models, set, fashion, new Steps(progress), cancel));
        cancel.ThrowIfCancellationRequested();
        if (parsed.GetValue(report) is { } file) AtomicFile.Write(file, stream => JsonSerializer.Serialize(stream, result, Terminal.JsonOptions));
        if (terminal.IsJson) terminal.WriteJson(result);
        else ModelComparison.Show(terminal, result);
        return App.Success;
    }

    KnowledgeTable? Knowledge(ParseResult parsed)
    {
        var table = parsed.GetValue(knowledgeTable);
        KnowledgeKind[] kinds = [.. (parsed.GetValue(knowledge) ?? []).Select(static k => Enum.Parse<KnowledgeKind>(k, ignoreCase: true)).Distinct()];
        if (table is not null && kinds.Length > 0) throw new UsageException("--knowledge names what of the bundled table is appended and does not go with --knowledge-table.");
        var options = new KnowledgeOptions { Table = table, MaxWords = parsed.GetValue(knowledgeWords) };
        if (table is not null) return KnowledgeTable.Open(options);
        return kinds.Length > 0 ? KnowledgeTable.Open(options with { Kinds = kinds }) : null;
    }

    ImageEncoder Load(ParseResult parsed) => ModelLoader.LoadEncoder(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)));

    async Task<int> RunEmoji(ParseResult parsed, Terminal terminal, string? folder, string[]? templates, CancellationToken cancel)
    {
        var set = EmojiSet.Open(folder);
        using var encoder = Load(parsed);
        if (encoder is not Clip clip)
        {
            // Without a text tower there are no names: the features are tested by CLDR's subgroups.
            if (templates is not null) throw new UsageException("--template does not go with a model that has no text tower.");
            if (Knowledge(parsed) is not null) throw new UsageException("--knowledge does not go with a model that has no text tower.");
            var (test, train) = ImageSource.OfEmojiStyles(set, EmojiLabel.Subgroup);
            var features = await terminal.WithProgress("Evaluating", progress => ImageEvaluation.Run(encoder, test, train, new() { Neighbors = new() { K = parsed.GetValue(neighbors) } }, new Steps(progress), cancel));
            Finish(parsed, terminal, features, features.LinearProbe?.Report, cancel);
            if (!terminal.IsJson) Show(terminal, features);
            return App.Success;
        }
        var options = new EmojiEvaluationOptions { Knowledge = Knowledge(parsed) };
        if (templates is not null) options = options with { Templates = templates };
        var result = await terminal.WithProgress("Evaluating", progress => EmojiEvaluation.Run(clip, set, options, new Steps(progress), cancel));
        Finish(parsed, terminal, result, result.Groups, cancel);
        if (!terminal.IsJson) Show(terminal, result);
        return App.Success;
    }

    /// <summary>The images to test on and, where there are some, those to train on.</summary>
    (ImageSource Test, ImageSource? Train) Open(ParseResult parsed, string what)
    {
        if (what == "fashion-mnist" || FashionMnist.IsIn(what))
        {
            var fashion = FashionMnist.Open(what == "fashion-mnist" ? null : what);
            return (ImageSource.Of(fashion.Test, FashionMnist.Classes, "Fashion-MNIST's test images"), ImageSource.Of(fashion.Train, FashionMnist.Classes, "Fashion-MNIST's training images"));
        }
        if (ImageTable.Extensions.Contains(Path.GetExtension(what).ToLowerInvariant()) && !Directory.Exists(what)) return (ImageSource.Of(ImageTable.Open(what, null, Problems())), null);
        if (!Directory.Exists(what)) throw new PanoptesException($"{what} does not exist; expected emoji, fashion-mnist, a folder of images or a table of images.");
        var train = Path.Combine(what, "train");
        if (Directory.Exists(train) && TestFolders.Select(t => Path.Combine(what, t)).FirstOrDefault(Directory.Exists) is { } test)
            return (ImageSource.Of(ImageFolder.Open(test, Problems())), ImageSource.Of(ImageFolder.Open(train, Problems())));
        return (ImageSource.Of(ImageFolder.Open(what, Problems())), null);

        DataProblems Problems() => new(parsed.GetValue(strict));
    }

    /// <summary>Writes the files that were asked for, then the JSON.</summary>
    void Finish(ParseResult parsed, Terminal terminal, object result, ClassificationReport? classes, CancellationToken cancel)
    {
        cancel.ThrowIfCancellationRequested();
        var named = new { model = parsed.GetRequiredValue(model), precision = parsed.GetValue(SharedOptions.Precision), report = result };
        if (parsed.GetValue(confusion) is { } picture)
        {
            if (classes is null) throw new PanoptesException("There is no confusion to draw: only retrieval was measured.");
            classes.ConfusionPicture(size: Math.Clamp(200 + (classes.Classes * 24), 600, 2400)).Save(picture);
        }
        if (parsed.GetValue(report) is { } file) AtomicFile.Write(file, stream => JsonSerializer.Serialize(stream, named, Terminal.JsonOptions));
        if (terminal.IsJson) terminal.WriteJson(named);
    }

    static void Show(Terminal terminal, EmojiReport result)
    {
        var table = Terminal.Table("Zero-shot", "Images", "Names", "Top-1", "Chance", "Colors", "Top-5", "Chance", "Colors");
        foreach (var t in (EmojiTask[])[.. result.Tasks, .. result.ByGroup.Select(static g => g with { Description = $"the held-out style: {g.Description}" })])
            table.AddRow(t.Description, $"{t.Images}", $"{t.Candidates}", Bold(t.Top1.Model), Percent(t.Top1.Chance), Percent(t.Top1.ColorHistogram), Bold(t.Top5.Model), Percent(t.Top5.Chance), Percent(t.Top5.ColorHistogram));
        terminal.Write(table);
        var retrieval = RetrievalTable("Retrieval in the held-out style");
        AddRetrieval(retrieval, "", result.Retrieval.Model);
        AddRetrieval(retrieval, " by chance", result.Retrieval.Chance);
        AddRetrieval(retrieval, " by colors", result.Retrieval.ColorHistogram);
        terminal.Write(retrieval);
        terminal.WriteLine($"The right one of {result.Groups.Classes} groups in the held-out style: {Percent(result.Groups.Top1)}. Most often confused: {string.Join("; ", result.Groups.Confusions.Take(3).Select(static c => $"{c.Label} taken for {c.Predicted} ({c.Count})"))}.");
        if (result.SharedNames.Count > 0) terminal.WriteLine($"Names of several concepts, each counted as one class: {string.Join(", ", result.SharedNames)}.");
    }

    static void Show(Terminal terminal, ImageReport result)
    {
        var trained = result.TrainImages is { } n ? $", {n} to train on" : "";
        terminal.WriteLine($"{result.Data}: {result.Images} images{trained}{(result.Skipped > 0 ? $", {result.Skipped} left out" : "")}.");
        var methods = Terminal.Table("Method", "Top-1", "Top-5", "Mean recall", "Mean F1");
        Add($"zero-shot, {result.Templates?.Count} template{(result.Templates?.Count == 1 ? "" : "s")}", result.ZeroShot);
        Add($"k-NN, {result.Knn?.K} neighbors", result.Knn?.Report);
        Add($"linear probe, C = {result.LinearProbe?.C:G3}{(result.LinearProbe is { HasConverged: false } ? " (not converged)" : "")}", result.LinearProbe?.Report);
        if (result.Baselines is { } baselines)
        {
            methods.AddRow("nearest color histogram", Percent(baselines.HistogramTop1), "", "", "");
            if (baselines.PixelTop1 is { } pixels) methods.AddRow("5 nearest by pixels", Percent(pixels), "", "", "");
        }
        var classes = result.ZeroShot ?? result.LinearProbe?.Report ?? result.Knn?.Report;
        if (classes is not null)
        {
            methods.AddRow("chance", Percent(classes.Chance), Percent(Math.Min(5 * classes.Chance, 1)), "", "");
            terminal.Write(methods);
            terminal.Write(PerClass(classes));
            if (classes.Confusions.Count > 0)
                terminal.WriteLine($"Most often confused: {string.Join("; ", classes.Confusions.Take(5).Select(static c => $"{c.Label} taken for {c.Predicted} ({c.Count})"))}.");
        }
        if (result.Retrieval is null) return;
        var retrieval = RetrievalTable("Retrieval");
        AddRetrieval(retrieval, "", result.Retrieval);
        AddRetrieval(retrieval, " by chance", result.RetrievalChance!);
        terminal.Write(retrieval);

        void Add(string method, ClassificationReport? r)
        {
            if (r is not null) methods.AddRow(method, Bold(r.Top1), Percent(r.Top5), Percent(r.MeanRecall), Percent(r.MeanF1));
        }
    }

    /// <summary>The worst classes first, as they are what a person can do something about.</summary>
    static Table PerClass(ClassificationReport classes)
    {
        const int Most = 30;
        var table = Terminal.Table("Class", "Images", "Recall", "Precision", "F1");
        foreach (var c in classes.PerClass.Where(static c => c.Support > 0).OrderBy(static c => c.F1).Take(Most))
            table.AddRow(Terminal.Escape(c.Label), $"{c.Support}", Percent(c.Recall), Percent(c.Precision), Percent(c.F1));
        if (classes.PerClass.Count(static c => c.Support > 0) is > Most and var all) table.Caption = new($"the {Most} worst of {all}; --report has all");
        return table;
    }

    static Table RetrievalTable(string title) => Terminal.Table(title, "Queries", "R@1", "R@5", "R@10", "Median rank");

    static void AddRetrieval(Table table, string by, RetrievalReport r)
    {
        foreach (var (way, s) in new[] { ("image to text", r.ImageToText), ("text to image", r.TextToImage) })
            table.AddRow(way + by, $"{s.Queries}", by.Length == 0 ? Bold(s.R1) : Percent(s.R1), Percent(s.R5), Percent(s.R10), $"{s.MedianRank}");
    }

    /// <summary>Chance among many is far below one percent.</summary>
    internal static string Percent(double share) => share is > 0 and < 0.01 ? $"{share * 100:F2} %" : $"{share * 100:F1} %";

    static string Bold(double share) => $"[bold]{Percent(share)}[/]";

    sealed class Steps(IProgress<Step> progress) : IProgress<EvaluationProgress>
    {
        public void Report(EvaluationProgress value) => progress.Report(new(value.Done, value.Total));
    }
}
