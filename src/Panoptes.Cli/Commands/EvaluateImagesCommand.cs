using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Representation.Training;
using Panoptes.Understanding;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Measures images that a model makes of the captions of scenes.</summary>
sealed class EvaluateImagesCommand : ExampleCommand
{
    readonly Option<string> model = new("--model", "-m") { Description = "What makes images: a diffusion pipeline, or another text-to-image model that was trained here.", HelpName = "FOLDER", Required = true };
    readonly Option<string> recipe = new("--recipe") { Description = "A recipe over scenes, whose captions images are made of: scenes of the drawings that it trains on, but none of those that it trains on.", HelpName = "RECIPE", Required = true };
    readonly Option<int> count = new("--count", "-c") { Description = "How many captions.", HelpName = "N", DefaultValueFactory = static _ => 200 };
    readonly Option<int?> steps = new("--steps") { Description = "How many steps; by default as the model has it.", HelpName = "N" };
    readonly Option<double?> guidance = new("--guidance", "-g") { Description = "How strongly captions are followed; 1: as they come.", HelpName = "SCALE" };
    readonly Option<string?> scheduler = new("--scheduler") { Description = "Another sampler than the model's own.", HelpName = "NAME" };
    readonly Option<long> seed = new("--seed", "-s") { Description = "Of the first image; the others follow it.", HelpName = "N" };
    readonly Option<string> judge = new("--judge") { Description = "The model of images and texts whose embeddings are compared.", HelpName = "MODEL", DefaultValueFactory = static _ => "zoo/clip-emoji" };
    readonly Option<string> detector = new("--detector") { Description = "The model that finds things in the images.", HelpName = "MODEL", DefaultValueFactory = static _ => "zoo/xdecoder-emoji" };
    readonly Option<string?> sheet = new("--sheet") { Description = "Draw the first images with their captions (.png, .jpg or .webp).", HelpName = "FILE" };
    readonly Option<string?> report = new("--report") { Description = "Write all numbers to a JSON file.", HelpName = "FILE" };

    public EvaluateImagesCommand() : base("evaluate-images", "Measure images that a model makes of the captions of scenes: distances to the scenes' own pictures (FID, KID, precision, recall), agreement with the captions, and whether the things that they name are there and where they say.", """
        panoptes evaluate-images --model runs/sd-emoji/best --recipe recipes/sd-emoji.yaml
        panoptes evaluate-images --model runs/sd-emoji/best --recipe recipes/sd-emoji.yaml --scheduler dpmpp-2m --steps 10 --guidance 5 --sheet images.png
        """)
    {
        foreach (var option in (ReadOnlySpan<Option>)[model, recipe, count, steps, guidance, scheduler, seed, judge, detector, sheet, report]) Add(option);
        SharedOptions.AtLeastOne(steps);
        scheduler.AcceptOnlyFromAmong([.. Samplers.All.Select(static s => s.Name)]);
        SharedOptions.EndsIn(sheet, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        if (parsed.GetValue(count) < 4) throw new UsageException($"--count is {parsed.GetValue(count)}; expected at least 4.");
        if (parsed.GetValue(seed) < 0) throw new UsageException($"--seed is {parsed.GetValue(seed)}; expected 0 or more.");
        if (parsed.GetValue(SharedOptions.Threads) is { } threads) TorchSharp.torch.set_num_threads(threads);
        var tests = SceneRecipe.Load(parsed.GetRequiredValue(recipe), SceneTasks.All).Tests(parsed.GetValue(count));
        using var clip = Clip.Load(ModelLoader.Resolve(parsed.GetRequiredValue(judge)), new() { BatchSize = 64, TruncateTexts = true });
        using var finder = ModelLoader.LoadGrounder(parsed, ModelLoader.Resolve(parsed.GetRequiredValue(detector)), tests.Names);
        var scenes = tests.Scenes(EmojiSplit.Train);
        var side = tests.Options.Size;
        ImageRequest[] requests = [.. scenes.Select((s, i) => new ImageRequest(s.Caption)
        {
            Seed = parsed.GetValue(seed) + i,
            Steps = parsed.GetValue(steps),
            Guidance = parsed.GetValue(guidance),
            Sampler = parsed.GetValue(scheduler),
            Width = side,
            Height = side,
        })];
        var clock = Stopwatch.StartNew();
        var made = await terminal.WithProgress("Making images", progress => Make(parsed, requests, new Steps(progress), cancel));
        var seconds = clock.Elapsed.TotalSeconds;
        var result = await terminal.WithProgress("Looking at them", progress =>
        {
            var compared = GenerationReport.Of(clip, [.. scenes.Select(static s => s.Image)], made, [.. scenes.Select(static s => s.Caption)]);
            var things = NamedThings.Of(finder, scenes, made, tests.Names, progress, cancel);
            return (Compared: compared, Things: things, Real: NamedThings.Of(finder, scenes, [.. scenes.Select(static s => s.Image)], tests.Names, progress, cancel));
        });
        if (parsed.GetValue(sheet) is { } drawn) ContactSheet.Grid([.. made.Take(32).Select((image, i) => new SheetCell(image, scenes[i].Caption))], null, 8).Save(drawn);
        var named = new { model = parsed.GetRequiredValue(model), recipe = parsed.GetRequiredValue(recipe), steps = parsed.GetValue(steps), guidance = parsed.GetValue(guidance), scheduler = parsed.GetValue(scheduler), seed = parsed.GetValue(seed), seconds, report = result.Compared, things = result.Things, thingsReal = result.Real };
        if (parsed.GetValue(report) is { } file) AtomicFile.Write(file, stream => JsonSerializer.Serialize(stream, named, Terminal.JsonOptions));
        if (terminal.IsJson)
        {
            terminal.WriteJson(named);
            return App.Success;
        }
        var table = Terminal.Table("Measure", "Images", "The scenes' own pictures");
        var (c, t, r) = result;
        table.AddRow("FID", $"{c.Frechet:F4}", "0");
        table.AddRow("KID", $"{c.Kernel:F5}", "");
        table.AddRow("Precision", $"{c.Precision:P1}", "100.0 %");
        table.AddRow("Recall", $"{c.Recall:P1}", "100.0 %");
        table.AddRow("CLIP score", $"{c.Clip:F2}", $"{c.ClipReal:F2}");
        table.AddRow("Named things that are found", $"{t.Found:P1}", $"{r.Found:P1}");
        table.AddRow("Found things that are named", $"{t.Named:P1}", $"{r.Named:P1}");
        table.AddRow("Relations that hold", $"{t.Relations:P1}", $"{r.Relations:P1}");
        terminal.Write(table);
        return App.Success;
    }

    Image[] Make(ParseResult parsed, ImageRequest[] requests, IProgress<ImageProgress> progress, CancellationToken cancel)
    {
        var path = parsed.GetRequiredValue(model);
        if (CaptionedImages.IsIn(path))
        {
            using var images = CaptionedImages.Load(path, ModelLoader.Precision(parsed));
            return [.. images.Generate(requests, progress, cancel).Select(static m => m.Image)];
        }
        using var diffusion = new Diffusion(DiffusionModel.Load(path, ModelLoader.Load(parsed)), path) { BatchSize = 16 };
        return [.. diffusion.Generate(requests, progress, cancel: cancel).Select(static m => m.Image)];
    }

    sealed class Steps(IProgress<Step> progress) : IProgress<ImageProgress>
    {
        public void Report(ImageProgress value) => progress.Report(new(value.Done, value.Total));
    }
}

/// <summary>Whether what captions name is found in images, and where they say, by a detector that tells all names of the scenes apart.</summary>
/// <param name="Found">The share of the things that captions name that is found under its name.</param>
/// <param name="Named">The share of the names that are found that the caption has.</param>
/// <param name="Relations">The share of the relations that captions tell for which both are found, and lie so.</param>
/// <param name="Told">How many captions tell one.</param>
sealed record NamedThings(double Found, double Named, double Relations, int Told)
{
    public static NamedThings Of(IGrounder finder, IReadOnlyList<Scene> scenes, IReadOnlyList<Image> images, IReadOnlyList<string> names, IProgress<Step> progress, CancellationToken cancel)
    {
        var (wanted, found, told, right, relations, hold) = (0, 0, 0, 0, 0, 0);
        for (var i = 0; i < images.Count; i++)
        {
            cancel.ThrowIfCancellationRequested();
            var boxes = finder.FindApart(images[i], names).GroupBy(static d => d.Label).ToDictionary(static g => g.Key, static g => g.MaxBy(static d => d.Score)!, StringComparer.Ordinal);
            var own = scenes[i].Objects.Select(static o => o.Name).ToHashSet(StringComparer.Ordinal);
            wanted += own.Count;
            found += own.Count(boxes.ContainsKey);
            told += boxes.Count;
            right += boxes.Keys.Count(own.Contains);
            if (scenes[i].CaptionRelation is { Kind: not SceneRelationKind.InFrontOf } relation)
            {
                relations++;
                if (boxes.TryGetValue(scenes[i].Objects[relation.Subject].Name, out var subject) && boxes.TryGetValue(scenes[i].Objects[relation.Object].Name, out var other) && Lies(subject, relation.Kind, other)) hold++;
            }
            progress.Report(new(i + 1, images.Count));
        }
        return new((double)found / Math.Max(1, wanted), (double)right / Math.Max(1, told), (double)hold / Math.Max(1, relations), relations);

        static bool Lies(Detection a, SceneRelationKind kind, Detection b)
        {
            var (dx, dy) = (a.Left + a.Right - b.Left - b.Right, a.Top + a.Bottom - b.Top - b.Bottom);
            // The axis on which they are further apart decides, as in captions.
            return Math.Abs(dx) > Math.Abs(dy)
                ? kind == (dx < 0 ? SceneRelationKind.LeftOf : SceneRelationKind.RightOf)
                : kind == (dy < 0 ? SceneRelationKind.Above : SceneRelationKind.Below);
        }
    }
}
