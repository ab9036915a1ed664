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
    readonly Option<bool> boxes = new("--boxes") { Description = "A GLIGEN or a ReCo is told the boxes of the scenes' things." };
    readonly Option<double?> share = new("--share") { Description = "In which part of the steps a GLIGEN sees boxes, from 0 to 1: 0.3 by default.", HelpName = "SHARE" };
    readonly Option<bool> layout = new("--layout") { Description = "The captions' words are led into these boxes, with nothing trained (layout guidance)." };
    readonly Option<bool> guideText = new("--guide-text") { Description = "The judge leads the images to the captions (universal guidance)." };
    readonly Option<bool> guideBoxes = new("--guide-boxes") { Description = "The detector, an X-Decoder, leads the images to the boxes of the scenes' things (universal guidance)." };
    readonly Option<double> guideScale = new("--guide-scale") { Description = "How strongly they lead.", HelpName = "SCALE", DefaultValueFactory = static _ => 10 };
    readonly Option<int> guideBackward = new("--guide-backward") { Description = "Steps of backward guidance, too.", HelpName = "N" };
    readonly Option<string?> controlnet = new("--controlnet") { Description = "A ControlNet, which is shown the scenes' conditions.", HelpName = "MODEL" };
    readonly Option<string?> adapter = new("--adapter") { Description = "A T2I-Adapter, which is shown the scenes' conditions.", HelpName = "MODEL" };
    readonly Option<string?> kind = new("--kind") { Description = "Which conditions: canny, lines, softedge, scribble, sketch, lineart, segmentation, depth or normal. Without a network, how far images keep to them by chance.", HelpName = "KIND" };
    readonly Option<string> judge = new("--judge") { Description = "The model of images and texts whose embeddings are compared.", HelpName = "MODEL", DefaultValueFactory = static _ => "zoo/clip-emoji" };
    readonly Option<string> detector = new("--detector") { Description = "The model that finds things in the images.", HelpName = "MODEL", DefaultValueFactory = static _ => "zoo/xdecoder-emoji" };
    readonly Option<string?> sheet = new("--sheet") { Description = "Draw the first images with their captions (.png, .jpg or .webp).", HelpName = "FILE" };
    readonly Option<string?> report = new("--report") { Description = "Write all numbers to a JSON file.", HelpName = "FILE" };

    public EvaluateImagesCommand() : base("evaluate-images", "Measure images that a model makes of the captions of scenes: distances to the scenes' own pictures (FID, KID, precision, recall), agreement with the captions, and whether the things that they name are there and where they say. With control, how far they keep to it.", """
        panoptes evaluate-images --model zoo/sd-emoji --recipe recipes/sd-emoji.yaml
        panoptes evaluate-images --model zoo/sd-emoji --recipe recipes/sd-emoji.yaml --scheduler dpmpp-2m --steps 10 --guidance 5 --sheet images.png
        panoptes evaluate-images --model zoo/sd-emoji --recipe recipes/sd-emoji.yaml --controlnet runs/controlnet-lines/best --kind canny
        panoptes evaluate-images --model runs/gligen/best --recipe recipes/sd-emoji.yaml --boxes --share 1
        """)
    {
        foreach (var option in (ReadOnlySpan<Option>)[model, recipe, count, steps, guidance, scheduler, seed, boxes, share, layout, guideText, guideBoxes, guideScale, guideBackward, controlnet, adapter, kind, judge, detector, sheet, report]) Add(option);
        SharedOptions.AtLeastOne(steps);
        scheduler.AcceptOnlyFromAmong([.. Samplers.All.Select(static s => s.Name)]);
        SharedOptions.Share(share);
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
        using var controls = Controls(parsed, clip, finder);
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
            Controls = controls.Of(s),
        })];
        var clock = Stopwatch.StartNew();
        var made = await terminal.WithProgress("Making images", progress => Make(parsed, requests, new Steps(progress), cancel));
        var seconds = clock.Elapsed.TotalSeconds;
        var result = await terminal.WithProgress("Looking at them", progress =>
        {
            var compared = GenerationReport.Of(clip, [.. scenes.Select(static s => s.Image)], made, [.. scenes.Select(static s => s.Caption)]);
            Image[] real = [.. scenes.Select(static s => s.Image)];
            return (Compared: compared, Things: NamedThings.Of(finder, scenes, made, tests.Names, progress, cancel), Real: NamedThings.Of(finder, scenes, real, tests.Names, progress, cancel), Kept: Kept(made), KeptReal: Kept(real));
        });
        if (parsed.GetValue(sheet) is { } drawn) ContactSheet.Grid([.. made.Take(32).Select((image, i) => new SheetCell(image, scenes[i].Caption))], null, 8).Save(drawn);
        ConditionScores? Kept(IReadOnlyList<Image> images) => parsed.GetValue(kind) is { } name ? ConditionScores.Of(name, finder, scenes, images, tests.Names, cancel) : null;
        var named = new { model = parsed.GetRequiredValue(model), recipe = parsed.GetRequiredValue(recipe), steps = parsed.GetValue(steps), guidance = parsed.GetValue(guidance), scheduler = parsed.GetValue(scheduler), seed = parsed.GetValue(seed), seconds, report = result.Compared, things = result.Things, thingsReal = result.Real, condition = result.Kept, conditionReal = result.KeptReal };
        if (parsed.GetValue(report) is { } file) AtomicFile.Write(file, stream => JsonSerializer.Serialize(stream, named, Terminal.JsonOptions));
        if (terminal.IsJson)
        {
            terminal.WriteJson(named);
            return App.Success;
        }
        var table = Terminal.Table("Measure", "Images", "The scenes' own pictures");
        var (c, t, r, k, kr) = result;
        table.AddRow("FID", $"{c.Frechet:F4}", "0");
        table.AddRow("KID", $"{c.Kernel:F5}", "");
        table.AddRow("Precision", $"{c.Precision:P1}", "100.0 %");
        table.AddRow("Recall", $"{c.Recall:P1}", "100.0 %");
        table.AddRow("CLIP score", $"{c.Clip:F2}", $"{c.ClipReal:F2}");
        table.AddRow("Named things that are found", $"{t.Found:P1}", $"{r.Found:P1}");
        table.AddRow("Found things that are named", $"{t.Named:P1}", $"{r.Named:P1}");
        table.AddRow("Relations that hold", $"{t.Relations:P1}", $"{r.Relations:P1}");
        table.AddRow("AP of their boxes", $"{t.BoxAp:P1}", $"{r.BoxAp:P1}");
        table.AddRow("AP50 of their boxes", $"{t.BoxAp50:P1}", $"{r.BoxAp50:P1}");
        if (k?.EdgeF1 is { } edges) table.AddRow($"F1 of {parsed.GetValue(kind)}", $"{edges:P1}", $"{kr!.EdgeF1:P1}");
        if (k?.MaskIou is { } masks) table.AddRow("IoU of their masks", $"{masks:P1}", $"{kr!.MaskIou:P1}");
        if (k?.DepthError is { } depth) table.AddRow("Error of depth", $"{depth:F4}", $"{kr!.DepthError:F4}");
        terminal.Write(table);
        return App.Success;
    }

    SceneControls Controls(ParseResult parsed, Clip clip, IGrounder finder)
    {
        if (parsed.GetValue(kind) is { } name) _ = new SceneConditions([name]);
        else if (parsed.GetValue(controlnet) is not null || parsed.GetValue(adapter) is not null) throw new UsageException("A network is to be shown conditions, but it is not said which; expected --kind.");
        var load = ModelLoader.Load(parsed);
        return new()
        {
            Boxes = parsed.GetValue(boxes),
            Share = parsed.GetValue(share),
            Layout = parsed.GetValue(layout),
            TextGuide = parsed.GetValue(guideText) ? clip : null,
            BoxGuide = parsed.GetValue(guideBoxes) ? (finder as SegmentGrounder)?.Model as XDecoderSegmenter ?? throw new PanoptesException($"{parsed.GetValue(detector)} holds no X-Decoder, which alone can lead images to boxes.") : null,
            GuideScale = parsed.GetValue(guideScale),
            GuideBackward = parsed.GetValue(guideBackward),
            Kind = parsed.GetValue(kind),
            ControlNet = parsed.GetValue(controlnet) is { } net ? GenerationModels.Load<ControlNetModel>(ModelLoader.Resolve(net), load) : null,
            Adapter = parsed.GetValue(adapter) is { } small ? GenerationModels.Load<T2IAdapter>(ModelLoader.Resolve(small), load) : null,
        };
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
