using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Generation.Training;

/// <summary>How a recipe's images are made and judged.</summary>
public sealed record GenerationMeasureOptions
{
    /// <summary>The model whose features of images and texts are compared.</summary>
    public string Judge { get; init; } = "zoo/clip-emoji";

    /// <summary>Steps of the sampler, for models that take some.</summary>
    public int Steps { get; init; } = 25;

    /// <summary>How strongly captions are followed, for models that are guided.</summary>
    public double Guidance { get; init; } = 3;

    /// <summary>What tokens' logits are divided by, for models that draw some.</summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Of how many likeliest tokens one is drawn; null: of all.</summary>
    public int? TopK { get; init; }
}

/// <summary>Measures images made of the captions of scenes against those scenes, which are of the drawings that were trained on, but in no training scene; and keeps a sheet of the first ones.</summary>
sealed class GenerationMeasures : IDisposable
{
    readonly GenerationMeasureOptions options;
    readonly SceneSetting setting;
    readonly ScalarType precision;
    readonly Clip? judge;

    /// <exception cref="PanoptesException">What cannot be measured, or no judge: told before anything is trained.</exception>
    public GenerationMeasures(GenerationMeasureOptions options, SceneSetting setting)
    {
        (this.options, this.setting, precision) = (options, setting, RecipeParts.PrecisionOf(setting.Recipe.Training.Precision));
        if (options.Steps is < 1 or > 10_000) throw new PanoptesException($"measures.steps is {options.Steps}; expected 1 to 10,000.");
        if (options.Guidance is not (>= 0 and <= 1000)) throw new PanoptesException($"measures.guidance is {options.Guidance}; expected 0 to 1000.");
        if (!(options.Temperature > 0) || options.TopK is < 1) throw new PanoptesException($"measures.temperature is {options.Temperature} and measures.top_k {options.TopK}; expected a temperature above 0 and at least one token.");
        if (setting.Recipe.Data.Tests is > 0 and < 4) throw new PanoptesException($"data.tests is {setting.Recipe.Data.Tests}; expected at least 4 images to be measured, or 0 to measure nothing.");
        if (setting.Recipe.Data.Tests > 0) judge = Clip.Load(setting.Recipe.ResolveModel(options.Judge), new() { TruncateTexts = true });
    }

    /// <summary>Images that are made together.</summary>
    const int BatchSize = 32;

    const int Shown = 32;

    /// <summary>How images are made that are measured.</summary>
    public GenerationDefaults Defaults => new() { GuidanceScale = options.Guidance, NumInferenceSteps = options.Steps };

    /// <summary>The best model has the smallest kernel distance, told so that larger is better.</summary>
    public const string Monitor = "kid_negative";

    /// <summary>Makes an image of each scene's caption from its seed.</summary>
    public delegate IReadOnlyList<Image> Maker(IReadOnlyList<Scene> scenes, IReadOnlyList<long> seeds, CancellationToken cancel);

    /// <summary>Fréchet and kernel distance, precision and recall, and how alike images and captions are (and true pictures and captions); and the images.</summary>
    public (IReadOnlyDictionary<string, double> Scores, IReadOnlyList<Image> Made) Of(SceneTests tests, Maker make, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        if (judge is null) throw new InvalidOperationException("Nothing is measured where there are no tests.");
        var scenes = tests.Scenes(EmojiSplit.Train);
        var made = new List<Image>(scenes.Count);
        foreach (var (first, chunk) in scenes.Chunk(BatchSize).Select(static (c, i) => (i * BatchSize, c)))
        {
            cancel.ThrowIfCancellationRequested();
            made.AddRange(make(chunk, [.. chunk.Select((_, i) => (long)first + i)], cancel));
            progress?.Report(new(made.Count, scenes.Count));
        }
        ContactSheet.Grid([.. made.Take(Shown).Select((image, i) => new SheetCell(image, scenes[i].Caption))], setting.Recipe.Name, 8).Save(Path.Combine(setting.Run, "samples.png"));
        var report = GenerationReport.Of(judge, [.. scenes.Select(static s => s.Image)], made, [.. scenes.Select(static s => s.Caption)]);
        return (new Dictionary<string, double>
        {
            [Monitor] = -report.Kernel,
            ["kid"] = report.Kernel,
            ["fid"] = report.Frechet,
            ["precision"] = report.Precision,
            ["recall"] = report.Recall,
            ["clip"] = report.Clip,
            ["clip_real"] = report.ClipReal,
        }, made);
    }

    /// <summary>Images of a pipeline by the recipe's steps and guidance.</summary>
    /// <param name="hooks">What comes between the steps.</param>
    /// <param name="words">What the pipeline is told of a scene; null: its caption.</param>
    public IReadOnlyList<Image> Generate(StableDiffusion pipeline, IReadOnlyList<Scene> scenes, IReadOnlyList<long> seeds, IReadOnlyList<IStepHook> hooks, CancellationToken cancel, Func<Scene, string>? words = null)
    {
        using var scope = NewDisposeScope();
        using var autocast = Autocast.To(precision);
        using var noise = new SeededNoise(seeds);
        var (positive, negative) = pipeline.Describe([.. scenes.Select(words ?? (static s => s.Caption))], null, new() { Size = (setting.Side, setting.Side) });
        using (positive)
        using (negative)
        {
            var task = new DiffusionTask { Positive = positive, Negative = negative, Height = setting.Side, Width = setting.Side, Steps = options.Steps, Guidance = options.Guidance, Noise = noise.Source, Hooks = hooks };
            var pixels = pipeline.Decode(task.Run(pipeline, cancel));
            return [.. Enumerable.Range(0, scenes.Count).Select(i => Diffusion.ToImage(pixels[i]))];
        }
    }

    public void Dispose() => judge?.Dispose();
}
