using System.CommandLine;
using Panoptes.Data;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Representation.Evaluation;
using Panoptes.Representation.Training;
using Panoptes.Search;
using Panoptes.Understanding.Training;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>The main jobs on what is bundled: index the emoji, search them by text and by image, test the model on a style it never saw, find things in scenes of that style, and make images of words.</summary>
sealed class DemoCommand : ExampleCommand
{
    static readonly string[] Texts = ["a red apple", "a cat with hearts", "something to make music with", "a birthday party", "rainy weather", "a person doing sports"];

    const string Picture = "pizza";

    /// <summary>Of what the bundled generator makes images, each of two seeds.</summary>
    static readonly string[] Prompts =
    [
        "a red apple left of a cat in the noto style", "a cat left of a red apple in the noto style", Drawn, "a large rainbow",
        "a tractor in the twemoji style", "a pizza", "large scissors in the noto style", "a duck above a fish",
    ];

    /// <summary>Of whose first image edges are drawn.</summary>
    const string Drawn = "a green apple in the twemoji style";

    /// <summary>What is made within them.</summary>
    static readonly string[] Within = ["a red apple", "a bomb", "a shield", "a cat", "a pizza", "a duck", "a fish"];

    /// <summary>Of how many concepts the bundled X-Decoder learned those that are things (<c>data.concepts</c> of its recipe), and how many scenes are shown.</summary>
    const int Concepts = 300, Scenes = 5;

    readonly Option<string> output = new("--out", "-o") { Description = "Where images, index and contact sheet go.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine("runs", "demo") };
    readonly Option<int> top = new("--top", "-n") { Description = "How many images to show a query.", HelpName = "N", DefaultValueFactory = static _ => 10 };
    readonly Option<string> model = SharedOptions.Model();

    public DemoCommand() : base("demo", "Index the bundled emoji, search them by text and by image, test the bundled model on a drawing style that it never saw, find things in scenes of that style by clicks, boxes and names, and make images of words, and of words within edges.", """
        panoptes demo
        panoptes demo --out ~/panoptes-demo --top 8
        """)
    {
        foreach (var option in (ReadOnlySpan<Option>)[output, top, model]) Add(option);
        SharedOptions.AtLeastOne(top);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var folder = parsed.GetValue(output)!;
        var name = parsed.GetRequiredValue(model);
        var path = ModelLoader.Resolve(parsed, name);
        var set = EmojiSet.Open();
        var unseen = set.Styles.First(static s => s.HeldOut);
        var images = Path.Combine(folder, "images");
        await terminal.WithProgress($"Writing {set.Images.Count} images", progress => Write(set, images, progress, cancel));
        var query = File(set, set.Images[set.Select(i => i.Style == unseen.Index && set.Concepts[i.Concept].Name == Picture).First()]);

        using var clip = ModelLoader.Load(parsed, path, batchSize: 128);
        var indexFolder = Path.Combine(folder, "index");
        var report = await terminal.WithProgressAsync($"Indexing {set.Images.Count} images", progress => FolderIndexer.UpdateAsync(
            images, ModelLoader.Embedder(clip, ModelIdentity.Of(name, path), ModelLoader.Device(parsed)), indexFolder, anew: false, strict: true, new IndexSteps(progress), cancel));
        using var index = VectorIndex.Open(indexFolder);
        var like = Image.Load(Path.Combine(images, query));
        var count = parsed.GetValue(top);
        SearchCommand.Answer[] answers = [.. SearchCommand.Search(clip, index, Texts, null, null, count, cancel), .. SearchCommand.Search(clip, index, [], clip.Embed(like), query, count, cancel)];
        var sheet = Path.Combine(folder, "found.png");
        SearchCommand.Draw(sheet, "panoptes demo", images, answers, like);
        var accuracy = await terminal.WithProgress($"Testing on {unseen.Title}", _ => EmojiEvaluation.ZeroShot(clip.Model, clip.Processor, clip.Tokenizer, set, new() { BatchSize = 128 }, cancel: cancel));
        var found = Path.Combine(folder, "segmented.png");
        await terminal.WithProgress($"Finding things in {Scenes} scenes", _ => Segment(parsed, set, found, cancel));
        var generated = Path.Combine(folder, "generated.png");
        await terminal.WithProgress("Making images", progress => Generate(parsed, generated, new ImageSteps(progress), cancel));

        if (terminal.IsJson)
        {
            terminal.WriteJson(new { images, model = name, seconds = Math.Round(report.Duration.TotalSeconds, 3), answers = answers.Select(static a => new { a.Text, a.Image, a.Hits }), sheet, style = unseen.Name, zero_shot = accuracy, segmented = found, generated });
            return App.Success;
        }
        var hits = Terminal.Table("Query", "Best", "Score", "Then");
        foreach (var answer in answers)
            hits.AddRow(Terminal.Escape(answer.Title), Terminal.Escape(answer.Hits[0].Path), $"{answer.Hits[0].Score:0.000}",
                Terminal.Escape(string.Join(", ", answer.Hits.Skip(1).Select(static h => Path.GetFileNameWithoutExtension(h.Path)).Distinct().Take(4))));
        terminal.Write(hits);
        var tested = Terminal.Table($"Zero-shot on {unseen.Title}, a style never seen", "Top-1", "Top-5");
        tested.AddRow($"{accuracy.Images} drawings, {accuracy.Candidates} names", $"{accuracy.Top1:P1}", $"{accuracy.Top5:P1}");
        tested.AddRow("by chance", $"{1.0 / accuracy.Candidates:P2}", $"{5.0 / accuracy.Candidates:P2}");
        terminal.Write(tested);
        terminal.Note(SearchCommand.Summary(report));
        terminal.Note($"Drawn into {sheet}, {found} and {generated}.");
        return App.Success;
    }

    /// <summary>Draws what the bundled SAM, and the bundled X-Decoder for names, find in scenes of the style that they never saw.</summary>
    static bool Segment(ParseResult parsed, EmojiSet set, string file, CancellationToken cancel)
    {
        var usual = new SceneOptions();
        var tests = new SceneTests(set.Subset(Concepts), usual with { Size = 128, MinObjects = 2, Scale = new(0.3f, 0.6f), Background = usual.Background.WithPhotographs() }, Scenes);
        var model = ModelLoader.LoadPromptable(parsed, ModelLoader.Resolve(parsed, SharedOptions.DefaultSegmenter), tests.Names, ModelLoader.Resolve(parsed, SharedOptions.DefaultFinder));
        using var owned = model as IDisposable;
        AnsweredScenes.Save([.. AnsweredScenes.Rows(model, null, tests, Scenes, cancel)], file, "panoptes demo");
        return true;
    }

    /// <summary>Draws what the bundled generator makes of a few prompts, and of others within the edges of one of those images, by the bundled ControlNet.</summary>
    static bool Generate(ParseResult parsed, string file, IProgress<ImageProgress> progress, CancellationToken cancel)
    {
        using var diffusion = new Diffusion(DiffusionModel.Load(ModelLoader.Resolve(parsed, SharedOptions.DefaultGenerator), ModelLoader.Load(parsed)), SharedOptions.DefaultGenerator) { BatchSize = 16 };
        using var network = ModelLoader.LoadControl<ControlNetModel>(parsed, SharedOptions.DefaultLines);
        var made = diffusion.Generate([.. Prompts.Select(static p => new ImageRequest(p) { Seed = 1, Count = 2 })], progress, cancel: cancel);
        var edges = SceneConditions.Make("canny", made[Array.IndexOf(Prompts, Drawn) * 2].Image);
        var within = diffusion.Generate([.. Within.Select(p => new ImageRequest(p) { Seed = 1, Controls = [new ControlNetControl(network, edges)] })], progress, cancel: cancel);
        ContactSheet.Grid([.. made.Select(static m => new SheetCell(m.Image, m.Parameters.Prompt)), new(edges, $"edges of {Drawn}"), .. within.Select(static m => new SheetCell(m.Image, $"with them: {m.Parameters.Prompt}"))], "panoptes demo", 8).Save(file);
        return true;
    }

    /// <summary>The set's files as they are stored, one folder a style; those that are there already stay.</summary>
    static int Write(EmojiSet set, string folder, IProgress<Step> progress, CancellationToken cancel)
    {
        foreach (var style in set.Styles) Directory.CreateDirectory(Path.Combine(folder, style.Name));
        foreach (var image in set.Images)
        {
            cancel.ThrowIfCancellationRequested();
            var file = new FileInfo(Path.Combine(folder, File(set, image)));
            var bytes = set.Encoded(image.Index);
            // A file that a kill cut off has another length.
            if (!file.Exists || file.Length != bytes.Length) System.IO.File.WriteAllBytes(file.FullName, bytes.Span);
            if (image.Index % 256 == 0) progress.Report(new(image.Index, set.Images.Count));
        }
        return set.Images.Count;
    }

    /// <summary>Where an image is written: its style, then its name as far as file systems take it, and its code, since names are not unique.</summary>
    static string File(EmojiSet set, EmojiImage image)
    {
        var concept = set.Concepts[image.Concept];
        var name = string.Concat(concept.Name.Select(static c => char.IsLetterOrDigit(c) || c is ' ' or '-' or '&' or '\'' ? c : '_'));
        return Path.Combine(set.Styles[image.Style].Name, $"{name} {concept.Code}.webp");
    }
}
