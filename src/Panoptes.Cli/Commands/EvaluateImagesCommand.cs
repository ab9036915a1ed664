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

/// <summary>Measures images that models make of the captions of scenes.</summary>
sealed class EvaluateImagesCommand : ExampleCommand
{
    /// <summary>Images that are drawn: of one model, and of each of several.</summary>
    const int Drawn = 32, DrawnOfEach = 8;

    readonly Option<string[]> model = new("--model", "-m") { Description = "What makes images: a diffusion pipeline, or another text-to-image model that was trained here. May be repeated: all are measured on the same captions and seeds.", HelpName = "FOLDER", Required = true };
    readonly Option<string> recipe = new("--recipe") { Description = "A recipe over scenes, whose captions images are made of: scenes of the drawings that it trains on, but none of those that it trains on.", HelpName = "RECIPE", Required = true };
    readonly Option<int> count = new("--count", "-c") { Description = "How many captions.", HelpName = "N", DefaultValueFactory = static _ => 200 };
    readonly Option<int?> steps = new("--steps") { Description = "How many steps; by default as the model has it.", HelpName = "N" };
    readonly Option<double?> guidance = new("--guidance", "-g") { Description = "How strongly captions are followed; 1: as they come.", HelpName = "SCALE" };
    readonly Option<string?> scheduler = new("--scheduler") { Description = "Another sampler than the model's own.", HelpName = "NAME" };
    readonly Option<long> seed = new("--seed", "-s") { Description = "Of the first image; the others follow it.", HelpName = "N" };
    readonly Option<string?> prompt = new("--prompt") { Description = "The words of all images in place of the captions (\"\": none), so that what is told beside them alone says what is to be seen. Images are measured by the captions as ever.", HelpName = "WORDS" };
    readonly Option<bool> boxes = new("--boxes") { Description = "A GLIGEN or a ReCo is told the boxes of the scenes' things." };
    readonly Option<bool> examples = new("--examples") { Description = "Pictures of the things, cut out of the scenes' own, tell what is in the boxes in place of their names." };
    readonly Option<double?> share = new("--share") { Description = "In which part of the steps a GLIGEN sees boxes, from 0 to 1: 0.3 by default.", HelpName = "SHARE" };
    readonly Option<bool> layout = new("--layout") { Description = "The captions' words are led into these boxes, with nothing trained (layout guidance)." };
    readonly Option<bool> guideText = new("--guide-text") { Description = "The judge leads the images to the captions (universal guidance)." };
    readonly Option<bool> guideBoxes = new("--guide-boxes") { Description = "The detector, an X-Decoder or a DETR, leads the images to the boxes of the scenes' things (universal guidance)." };
    readonly Option<bool> guideMasks = new("--guide-masks") { Description = "The detector, an X-Decoder, leads the images to the masks of the scenes' things (universal guidance)." };
    readonly Option<double> guideScale = new("--guide-scale") { Description = "How strongly they lead.", HelpName = "SCALE", DefaultValueFactory = static _ => 10 };
    readonly Option<int> guideBackward = new("--guide-backward") { Description = "Steps of backward guidance, too.", HelpName = "N" };
    readonly Option<int?> repeats = new("--repeats") { Description = "How often every step is taken, with new noise each time but the first (self-recurrence); 1 by default.", HelpName = "N" };
    readonly Option<string?> controlnet = new("--controlnet") { Description = "A ControlNet, which is shown the scenes' conditions.", HelpName = "MODEL" };
    readonly Option<string?> adapter = new("--adapter") { Description = "A T2I-Adapter, which is shown the scenes' conditions.", HelpName = "MODEL" };
    readonly Option<string[]> kind = new("--kind") { Description = "Which condition: canny, lines, softedge, scribble, sketch, lineart, segmentation, depth, normal or pose. Without a network, how far images keep to it by chance; then it may be repeated.", HelpName = "KIND" };
    readonly Option<string> judge = new("--judge") { Description = "The model of images and texts whose embeddings are compared.", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultModel };
    readonly Option<string> detector = new("--detector") { Description = "The model that finds things in the images.", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultFinder };
    readonly Option<string?> sheet = new("--sheet") { Description = "Draw the first images with their captions, below the conditions and with the boxes that they were told; those of several models below each other (.png, .jpg or .webp).", HelpName = "FILE" };
    readonly Option<string?> report = new("--report") { Description = "Write all numbers to a JSON file.", HelpName = "FILE" };

    public EvaluateImagesCommand() : base("evaluate-images", "Measure images that models make of the captions of scenes: distances to the scenes' own pictures (FID, KID, precision, recall), agreement with the captions, and whether the things that they name are there and where they say. With control, how far they keep to it.", """
        panoptes evaluate-images --model zoo/sd-emoji --recipe recipes/sd-emoji.yaml
        panoptes evaluate-images --model zoo/sd-emoji --recipe recipes/sd-emoji.yaml --scheduler dpmpp-2m --steps 10 --guidance 5 --sheet images.png
        panoptes evaluate-images --model zoo/sd-emoji --recipe recipes/sd-emoji.yaml --controlnet runs/controlnet-lines/best --kind canny
        panoptes evaluate-images --model zoo/sd-emoji --recipe recipes/sd-emoji.yaml --guide-masks --guide-scale 30 --kind segmentation
        panoptes evaluate-images --model runs/gligen/best --recipe recipes/sd-emoji.yaml --boxes --share 1
        panoptes evaluate-images --model zoo/gligen-examples-emoji --recipe recipes/sd-emoji.yaml --boxes --examples --prompt ""
        panoptes evaluate-images --model runs/family-gan/last --model runs/family-latent/last --recipe recipes/family-latent.yaml --sheet families.png
        """)
    {
        foreach (var option in (ReadOnlySpan<Option>)[model, recipe, count, steps, guidance, scheduler, seed, prompt, boxes, examples, share, layout, guideText, guideBoxes, guideMasks, guideScale, guideBackward, repeats, controlnet, adapter, kind, judge, detector, sheet, report]) Add(option);
        SharedOptions.AtLeastOne(steps);
        SharedOptions.OneOf(scheduler, [.. Samplers.All.Select(static s => s.Name)]);
        SharedOptions.OneTo(repeats, 100);
        SharedOptions.Share(share);
        SharedOptions.EndsIn(sheet, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    public override IEnumerable<Symbol> MayBeEmpty => [prompt];

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        if (parsed.GetValue(count) is < 4 or > 50_000) throw new UsageException($"--count is {parsed.GetValue(count)}; expected 4 to 50,000.");
        foreach (var written in (string?[])[parsed.GetValue(sheet), parsed.GetValue(report)])
            if (written is not null) AtomicFile.Check(written);
        if (parsed.GetValue(seed) < 0) throw new UsageException($"--seed is {parsed.GetValue(seed)}; expected 0 or more.");
        if (!parsed.GetValue(boxes)) SharedOptions.Idle(parsed, "goes with --boxes", share, examples);
        if (!parsed.GetValue(guideText) && !parsed.GetValue(guideBoxes) && !parsed.GetValue(guideMasks)) SharedOptions.Idle(parsed, "goes with --guide-text, --guide-boxes or --guide-masks", guideScale, guideBackward);
        if (parsed.GetValue(prompt) is not null && (parsed.GetValue(layout) || parsed.GetValue(guideText))) throw new UsageException("--prompt goes with neither --layout nor --guide-text, which lead by the captions.");
        ModelLoader.UseThreads(parsed);
        var tests = SceneRecipe.Load(parsed.GetRequiredValue(recipe), SceneTasks.All).Tests(parsed.GetValue(count));
        using var clip = Clip.Load(ModelLoader.Resolve(parsed, parsed.GetRequiredValue(judge)), new() { BatchSize = 64, TruncateTexts = true });
        using var finder = ModelLoader.LoadGrounder(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(detector)), tests.Names);
        using var controls = Controls(parsed, clip, finder);
        var scenes = tests.Scenes(EmojiSplit.Train);
        var side = tests.Options.Size;
        ImageRequest[] requests = [.. scenes.Select((s, i) => new ImageRequest(parsed.GetValue(prompt) ?? s.Caption)
        {
            Seed = parsed.GetValue(seed) + i,
            Steps = parsed.GetValue(steps),
            Guidance = parsed.GetValue(guidance),
            Sampler = parsed.GetValue(scheduler),
            Repeats = parsed.GetValue(repeats) ?? 1,
            Width = side,
            Height = side,
            Controls = controls.Of(s),
        })];
        Image[] real = [.. scenes.Select(static s => s.Image)];
        var kinds = Kinds(parsed);
        Dictionary<string, ConditionScores> Kept(IReadOnlyList<Image> images) => kinds.ToDictionary(static k => k, k => ConditionScores.Of(k, finder, scenes, images, tests.Names, cancel));
        var all = new List<Measured>();
        foreach (var path in parsed.GetRequiredValue(model))
        {
            var clock = Stopwatch.StartNew();
            var made = await terminal.WithProgress("Making images", progress => Make(parsed, path, requests, new ImageSteps(progress), cancel));
            var seconds = clock.Elapsed.TotalSeconds;
            all.Add(await terminal.WithProgress("Looking at them", progress => new Measured(path, seconds, GenerationReport.Of(clip, real, made, [.. scenes.Select(static s => s.Caption)]), NamedThings.Of(clip, finder, scenes, made, tests.Names, progress, cancel), Kept(made), made)));
        }
        var (things, conditions) = await terminal.WithProgress("Looking at the scenes", progress => (NamedThings.Of(clip, finder, scenes, real, tests.Names, progress, cancel), Kept(real)));
        if (parsed.GetValue(sheet) is { } drawn) Sheet(parsed, all, scenes).Save(drawn);
        var asked = new { recipe = parsed.GetRequiredValue(recipe), steps = parsed.GetValue(steps), guidance = parsed.GetValue(guidance), prompt = parsed.GetValue(prompt), scheduler = parsed.GetValue(scheduler), seed = parsed.GetValue(seed) };
        object named = all is [var one]
            ? new { model = one.Model, asked.recipe, asked.steps, asked.guidance, asked.prompt, asked.scheduler, asked.seed, seconds = one.Seconds, report = one.Report, things = one.Things, thingsReal = things, conditions = one.Conditions, conditionsReal = conditions }
            : new { asked.recipe, asked.steps, asked.guidance, asked.prompt, asked.scheduler, asked.seed, models = all.Select(static m => new { model = m.Model, seconds = m.Seconds, report = m.Report, things = m.Things, conditions = m.Conditions }), thingsReal = things, conditionsReal = conditions };
        if (parsed.GetValue(report) is { } file) AtomicFile.Write(file, stream => JsonSerializer.Serialize(stream, named, Terminal.JsonOptions));
        if (terminal.IsJson) terminal.WriteJson(named);
        else terminal.Write(Table(all, things, conditions));
        return App.Success;
    }

    /// <summary>A model's images, and what was measured of them.</summary>
    sealed record Measured(string Model, double Seconds, GenerationReport Report, NamedThings Things, IReadOnlyDictionary<string, ConditionScores> Conditions, Image[] Images);

    static Table Table(IReadOnlyList<Measured> all, NamedThings things, IReadOnlyDictionary<string, ConditionScores> conditions)
    {
        var table = Terminal.Table(["Measure", .. all.Select(m => all.Count == 1 ? "Images" : m.Model), "The scenes' own pictures"]);
        Row("FID", static m => $"{m.Report.Frechet:F4}", "0");
        Row("KID", static m => $"{m.Report.Kernel:F5}", "");
        Row("Precision", static m => $"{m.Report.Precision:P1}", "100.0 %");
        Row("Recall", static m => $"{m.Report.Recall:P1}", "100.0 %");
        Row("CLIP score", static m => $"{m.Report.Clip:F2}", $"{all[0].Report.ClipReal:F2}");
        Row("Named things that are found", static m => $"{m.Things.Found:P1}", $"{things.Found:P1}");
        Row("Found things that are named", static m => $"{m.Things.Named:P1}", $"{things.Named:P1}");
        if (things.Relations is { } relations) Row("Relations that hold", static m => $"{m.Things.Relations:P1}", $"{relations:P1}");
        Row("AP of their boxes", static m => $"{m.Things.BoxAp:P1}", $"{things.BoxAp:P1}");
        Row("AP50 of their boxes", static m => $"{m.Things.BoxAp50:P1}", $"{things.BoxAp50:P1}");
        Row("Boxes that show their thing", static m => $"{m.Things.InBoxes:P1}", $"{things.InBoxes:P1}");
        foreach (var (kind, real) in conditions)
        {
            if (real.EdgeF1 is { } edges) Row($"F1 of {kind}", m => $"{m.Conditions[kind].EdgeF1:P1}", $"{edges:P1}");
            if (real.MaskIou is { } masks) Row($"IoU of masks ({kind})", m => $"{m.Conditions[kind].MaskIou:P1}", $"{masks:P1}");
            if (real.DepthError is { } depth) Row($"Error of depth ({kind})", m => $"{m.Conditions[kind].DepthError:F4}", $"{depth:F4}");
        }
        return table;

        void Row(string name, Func<Measured, string> value, string real) => table.AddRow([name, .. all.Select(value), real]);
    }

    /// <summary>The first images with their captions, below the condition that they were shown and with the boxes that they were told; those of several models below each other, the scenes' own first.</summary>
    ContactSheet Sheet(ParseResult parsed, IReadOnlyList<Measured> all, IReadOnlyList<Scene> scenes)
    {
        var controlled = (parsed.GetValue(controlnet) ?? parsed.GetValue(adapter)) is not null;
        var placed = parsed.GetValue(boxes) || parsed.GetValue(layout) || parsed.GetValue(guideBoxes);
        var cells = new List<SheetCell>();
        if (all is [var one])
        {
            foreach (var row in scenes.Take(controlled ? Drawn / 2 : Drawn).Select(static (s, i) => (Scene: s, Index: i)).Chunk(DrawnOfEach))
            {
                if (controlled) cells.AddRange(row.Select(r => new SheetCell(SceneConditions.Make(Kinds(parsed)[0], r.Scene))));
                cells.AddRange(row.Select(r => new SheetCell(Shown(one.Images[r.Index], r.Scene), r.Scene.Caption)));
            }
        }
        else
        {
            cells.AddRange(scenes.Take(DrawnOfEach).Select(s => new SheetCell(Shown(s.Image, s), s.Caption)));
            foreach (var model in all) cells.AddRange(model.Images.Zip(scenes).Take(DrawnOfEach).Select(p => new SheetCell(Shown(p.First, p.Second), NameOf(model.Model))));
        }
        return ContactSheet.Grid(cells, null, Math.Min(DrawnOfEach, scenes.Count));

        Image Shown(Image image, Scene scene) => placed ? Overlay.Draw(image, Detection.Of(scene), new() { Labels = false, Legend = false, ReadableSide = 2 * image.Width }) : image;
    }

    /// <summary>A model's folder or, of a run's best or last, the run's.</summary>
    static string NameOf(string model)
    {
        var folder = Path.TrimEndingDirectorySeparator(model);
        var name = Path.GetFileName(folder);
        return name is "best" or "last" && Path.GetDirectoryName(folder) is { Length: > 0 } run ? Path.GetFileName(run) : name;
    }

    string[] Kinds(ParseResult parsed) => [.. (parsed.GetValue(kind) ?? []).Select(static k => k.ToLowerInvariant()).Distinct()];

    SceneControls Controls(ParseResult parsed, Clip clip, IGrounder finder)
    {
        var kinds = Kinds(parsed);
        if (kinds.Length > 0) _ = new SceneConditions(kinds);
        if ((parsed.GetValue(controlnet) ?? parsed.GetValue(adapter)) is not null && kinds.Length != 1) throw new UsageException($"A network is to be shown one condition, but {kinds.Length} are named; expected --kind once.");
        return new()
        {
            Boxes = parsed.GetValue(boxes),
            Examples = parsed.GetValue(examples),
            Share = parsed.GetValue(share),
            Layout = parsed.GetValue(layout),
            TextGuide = parsed.GetValue(guideText) ? clip : null,
            BoxGuide = parsed.GetValue(guideBoxes) ? finder : null,
            MaskGuide = !parsed.GetValue(guideMasks) ? null : finder is SegmentGrounder { Model: XDecoderSegmenter decoder } ? decoder : throw new PanoptesException("What finds things is no X-Decoder, which alone leads images to masks; expected one, such as " + SharedOptions.DefaultFinder + "."),
            GuideScale = parsed.GetValue(guideScale),
            GuideBackward = parsed.GetValue(guideBackward),
            Kind = kinds.FirstOrDefault(),
            ControlNet = parsed.GetValue(controlnet) is { } net ? ModelLoader.LoadControl<ControlNetModel>(parsed, net) : null,
            Adapter = parsed.GetValue(adapter) is { } small ? ModelLoader.LoadControl<T2IAdapter>(parsed, small) : null,
        };
    }

    static Image[] Make(ParseResult parsed, string path, ImageRequest[] requests, IProgress<ImageProgress> progress, CancellationToken cancel)
    {
        path = ModelLoader.Resolve(parsed, path);
        using var maker = ImageMaker.IsIn(path) ? ImageMaker.Load(path, ModelLoader.Load(parsed), batchSize: 16) : new Diffusion(DiffusionModel.Load(path, ModelLoader.Load(parsed)), path) { BatchSize = 16 };
        return [.. maker.Generate(requests, progress, cancel: cancel).Select(static m => m.Image)];
    }
}
