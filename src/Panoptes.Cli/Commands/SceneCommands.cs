using System.CommandLine;
using Panoptes.Data;

namespace Panoptes.Cli.Commands;

/// <summary>What `panoptes data build scenes` and `panoptes data show scenes` have in common: which scenes.</summary>
sealed class SceneSource
{
    readonly Option<int> size = new("--size") { Description = "The side of every picture in pixels.", HelpName = "PIXELS", DefaultValueFactory = static _ => 128 };
    readonly Option<int> least = new("--min-objects") { Description = "The fewest objects of a scene.", HelpName = "N", DefaultValueFactory = static _ => 1 };
    readonly Option<int> most = new("--max-objects") { Description = "The most objects of a scene.", HelpName = "N", DefaultValueFactory = static _ => 4 };
    readonly Option<ulong> seed = new("--seed") { Description = "Of everything that is drawn at random; the same seed gives the same scenes.", HelpName = "N", DefaultValueFactory = static _ => 1 };
    readonly Option<string> split = new("--split") { Description = "Whose drawings appear: those of train, held-out-style, held-out-concepts or held-out-both.", HelpName = "SPLIT", DefaultValueFactory = static _ => "train" };
    readonly Option<int?> concepts = new("--concepts") { Description = "So many of the concepts alone: those that a recipe with data.concepts: N learns from.", HelpName = "N" };

    readonly Option<bool> photographs = new("--photographs") { Description = "Every second background is a part of a bundled photograph." };
    readonly Option<float> ground = new("--ground") { Description = "How probably a ground is drawn below a horizon, 0 to 1.", HelpName = "P", DefaultValueFactory = static _ => 0 };

    internal SceneSource() => SharedOptions.OneOf(split, "train", "held-out-style", "held-out-concepts", "held-out-both");

    internal Option[] Options => [size, least, most, seed, split, concepts, photographs, ground];

    internal static Option<int> Count(int value) => new("--count", "-n") { Description = "How many scenes.", HelpName = "N", DefaultValueFactory = _ => value };

    internal (EmojiSet Set, SceneGenerator Generator) Open(ParseResult parsed)
    {
        var set = EmojiSet.Open();
        if (parsed.GetValue(concepts) is { } some) set = set.Subset(some);
        var options = new SceneOptions { Size = parsed.GetValue(size), MinObjects = parsed.GetValue(least), MaxObjects = parsed.GetValue(most), Ground = parsed.GetValue(ground) };
        if (parsed.GetValue(photographs)) options = options with { Background = options.Background.WithPhotographs() };
        var images = SceneGenerator.Things(set, Enum.Parse<EmojiSplit>(parsed.GetRequiredValue(split).Replace("-", "", StringComparison.Ordinal), ignoreCase: true));
        return (set, new(set, images, options, parsed.GetValue(seed)));
    }
}

/// <summary>Writes scenes with all that is known about them.</summary>
sealed class BuildScenesCommand : ExampleCommand
{
    readonly SceneSource source = new();
    readonly Option<string> output = new("--out", "-o") { Description = "The folder that they go to; it must not exist, or be empty.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine("data", "scenes") };
    readonly Option<int> count = SceneSource.Count(1000);

    public BuildScenesCommand() : base("scenes", "Compose emoji into pictures with boxes, masks, classes, keypoints, depth, edges, captions, expressions, relations and questions (COCO's annotations.json and captions.json, PNG, JSON lines).", """
        panoptes data build scenes --out data/scenes --count 1000 --size 128 --seed 1
        panoptes data build scenes --out scenes-test --count 500 --split held-out-style --min-objects 2
        panoptes data build scenes --out scenes-photographs --photographs --ground 0.5
        """)
    {
        foreach (var option in (ReadOnlySpan<Option>)[output, count, .. source.Options]) Add(option);
        SharedOptions.AtLeastOne(count);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var (folder, total) = (parsed.GetRequiredValue(output), parsed.GetValue(count));
        var (set, generator) = source.Open(parsed);
        await terminal.WithProgress("Composing scenes", progress =>
        {
            SceneWriter.Write(folder, set, generator, total, new CountedSteps(progress, total), cancel);
            return folder;
        });
        if (terminal.IsJson) terminal.WriteJson(new { folder, scenes = total, generator.Options.Size, concepts = generator.Concepts.Count });
        else terminal.WriteLine($"{total:N0} scenes of {generator.Options.Size}x{generator.Options.Size} pixels in {folder}; {Path.Combine(folder, "sheet.png")} shows the first ones.");
        return App.Success;
    }
}

/// <summary>Draws scenes for the eye.</summary>
sealed class ShowScenesCommand : ExampleCommand
{
    readonly SceneSource source = new();
    readonly Option<string> output = new("--out", "-o") { Description = "The picture to write (.png, .jpg or .webp).", HelpName = "FILE", DefaultValueFactory = static _ => "scenes.png" };
    readonly Option<int> count = SceneSource.Count(6);
    readonly Option<int> first = new("--first") { Description = "The number of the first scene.", HelpName = "N", DefaultValueFactory = static _ => 0 };
    readonly Option<int> cell = new("--cell") { Description = "The side of a picture on the sheet in pixels, 32 to 1024.", HelpName = "PIXELS", DefaultValueFactory = static _ => 200 };

    public ShowScenesCommand() : base("scenes", "Draw scenes on one sheet: pictures, boxes, keypoints, masks, an expression, depth, edges, an edit, captions and questions.", """
        panoptes data show scenes --out scenes.png
        panoptes data show scenes --out unseen.png --count 12 --size 64 --split held-out-style
        """)
    {
        foreach (var option in (ReadOnlySpan<Option>)[output, count, first, cell, .. source.Options]) Add(option);
        SharedOptions.AtLeastOne(count);
        SharedOptions.EndsIn(output, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var (file, total, start) = (parsed.GetRequiredValue(output), parsed.GetValue(count), parsed.GetValue(first));
        if (total > 200) throw new PanoptesException($"A sheet of {total} scenes was asked for, but at most 200 fit on one.");
        var (_, generator) = source.Open(parsed);
        await terminal.WithProgress("Drawing scenes", _ =>
        {
            SceneSheet.Create(generator, start, total, parsed.GetValue(cell), cancel).Save(file);
            return file;
        });
        if (terminal.IsJson) terminal.WriteJson(new { file, scenes = Enumerable.Range(start, total).Select(i => generator.Generate(i)).Select(static s => new { s.Caption, objects = s.Objects, s.Questions }) });
        else terminal.WriteLine($"{total} scenes in {file}.");
        return App.Success;
    }
}
