using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Representation.Training;
using Panoptes.Training;

namespace Panoptes.Generation.Training;

/// <summary>What the training of a <see cref="CaptionedImageModel"/> is told.</summary>
public abstract record CaptionedOptions : SceneTaskOptions
{
    /// <summary>How often a caption is left out, so that guidance can ask without one (Ho and Salimans 2022, arXiv:2207.12598).</summary>
    public double CaptionDropout { get; init; } = 0.1;

    /// <summary>How images are made to be measured.</summary>
    public GenerationMeasureOptions Measures { get; init; } = new();

    private protected SceneObjective Create<T>(SceneSetting setting, Func<T, CaptionReader, SceneObjective> make) where T : CaptionedImageModel
    {
        if (CaptionDropout is not (>= 0 and <= 1)) throw new PanoptesException($"caption_dropout is {CaptionDropout}; expected 0 to 1.");
        var (model, tokenizer) = RecipeModels.Captioned<T>(setting);
        try
        {
            if (model.Side != setting.Side) throw new PanoptesException($"The model makes images of {model.Side} pixels, but the scenes have {setting.Side}.");
            return make(model, new(model.TextEncoder, tokenizer));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}

/// <summary>What the families of text-to-image models have in common in training, but for diffusion.</summary>
abstract class CaptionedTraining<T>(T model, CaptionReader reader, CaptionedOptions options, SceneSetting setting) : SceneObjective where T : CaptionedImageModel
{
    readonly GenerationMeasures measures = new(options.Measures, setting);
    readonly ScalarType precision = RecipeParts.PrecisionOf(setting.Recipe.Training.Precision);

    public override T Model => model;

    private protected CaptionReader Reader => reader;

    public override string Monitor => GenerationMeasures.Monitor;

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel) => measures.Of(tests, Generate, progress, cancel).Scores;

    IReadOnlyList<Image> Generate(IReadOnlyList<Scene> scenes, IReadOnlyList<long> seeds, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        using var autocast = Autocast.To(precision);
        using var noise = new SeededNoise(seeds);
        var m = options.Measures;
        var pixels = model.Sample(reader.Ids([.. scenes.Select(static s => s.Caption)]), reader.Ids([""]), noise.Source, new() { Guidance = m.Guidance, Steps = m.Steps, Temperature = m.Temperature, TopK = m.TopK }, cancel);
        return [.. Enumerable.Range(0, scenes.Count).Select(i => SignedPixels.ToImage(pixels[i]))];
    }

    public override void Save(string folder)
    {
        GenerationModels.Save(folder, model);
        reader.Tokenizer.Save(folder);
        if (model.IsGuided) (measures.Defaults with { NumInferenceSteps = model.TakesSteps ? options.Measures.Steps : null }).Save(folder);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) measures.Dispose();
        base.Dispose(disposing);
    }
}
