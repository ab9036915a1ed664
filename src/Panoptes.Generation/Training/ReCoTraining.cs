using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Generation.Training;

/// <summary>
/// ReCo (Yang et al. 2022, arXiv:2211.15518): a trained pipeline (<c>from</c>) goes on learning, from captions with a region for each thing behind them: its box in the words of places, and its name. All of it is
/// trained; the words of places are new.
/// </summary>
public sealed record ReCoOptions : DiffusionOptions
{
    /// <summary>How many places a side has.</summary>
    public int Bins { get; init; } = ReCo.DefaultBins;

    /// <summary>How many tokens a text may have, regions and all; null: as many as before.</summary>
    public int? ContextLength { get; init; }

    /// <summary>How often the regions of a scene are left out.</summary>
    public double BoxDropout { get; init; } = 0.1;

    private protected override SceneObjective Train(StableDiffusion model, SceneSetting setting)
    {
        if (BoxDropout is not (>= 0 and <= 1)) throw new PanoptesException($"box_dropout is {BoxDropout}; expected 0 to 1.");
        if (setting.Recipe.Model.From is null) throw new PanoptesException("A ReCo begins with a trained pipeline; expected its folder (model.from).");
        if (model.Prompts.Places is null)
        {
            var places = ReCo.Adding(model.Prompts.Tokenizer, Bins);
            var encoder = ReCo.AddPlaces(model.Prompts.Encoder, setting.Generator, ContextLength ?? 0, Bins);
            model.Prompts.Encoder.Dispose();
            model = new(model.UNet, model.Autoencoder, new(encoder, places.Tokenizer), model.Scheduler) { Defaults = model.Defaults };
        }
        return new ReCoTraining(model, this, setting);
    }
}

/// <inheritdoc cref="ReCoOptions"/>
sealed class ReCoTraining(StableDiffusion pipeline, ReCoOptions options, SceneSetting setting) : DiffusionTraining(pipeline, options, setting)
{
    string Told(Scene scene) => Pipeline.Prompts.Places!.Write(scene.Caption, PhraseBox.Of(scene));

    private protected override IReadOnlyList<string> Words(SceneBatch batch, Generator random)
    {
        using var drawn = rand(batch.Count, generator: random);
        return [.. batch.Scenes.Zip(drawn.data<float>().ToArray(), (scene, r) => r < options.BoxDropout ? scene.Caption : Told(scene))];
    }

    /// <summary>The measures with regions, and without.</summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var scores = new Dictionary<string, double>();
        foreach (var (name, value) in base.Measure(tests, progress, cancel)) scores[$"{name}_without"] = value;
        foreach (var (name, value) in Measures.Of(tests, (scenes, seeds, stop) => Measures.Generate(Pipeline, scenes, seeds, [], stop, Told), progress, cancel).Scores) scores[name] = value;
        return scores;
    }
}
