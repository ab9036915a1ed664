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
    /// <summary>How many places a side has; null: a thousand, or as many as the model knows.</summary>
    public int? Bins { get; init; }

    /// <summary>How many tokens a text may have, regions and all; null: as many as before.</summary>
    public int? ContextLength { get; init; }

    /// <summary>How often the regions of a scene are left out.</summary>
    public double BoxDropout { get; init; } = 0.1;

    private protected override SceneObjective Train(StableDiffusion model, SceneSetting setting)
    {
        if (BoxDropout is not (>= 0 and <= 1)) throw new PanoptesException($"box_dropout is {BoxDropout}; expected 0 to 1.");
        if (setting.Recipe.Model.From is null) throw new PanoptesException("A ReCo begins with a trained pipeline; expected its folder (model.from).");
        if (model.Prompts.Places is { } known)
        {
            if (Bins is { } wanted && wanted != known.BinCount) throw new PanoptesException($"bins is {wanted}, but the model knows {known.BinCount} places a side; expected as many, or nothing.");
            if (ContextLength is { } length && length != model.Prompts.Encoder.ContextLength) throw new PanoptesException($"context_length is {length}, but the model reads {model.Prompts.Encoder.ContextLength} tokens; expected as many, or nothing.");
            return new ReCoTraining(model, this, setting);
        }
        if (!TrainTextEncoder) throw new PanoptesException("train_text_encoder is false, but the words of places are new to the text encoder; expected true.");
        var bins = Bins ?? ReCo.DefaultBins;
        var places = ReCo.Adding(model.Prompts.Tokenizer, bins);
        var encoder = ReCo.AddPlaces(model.Prompts.Encoder, setting.Generator, ContextLength ?? 0, bins);
        try
        {
            var training = new ReCoTraining(new(model.UNet, model.Autoencoder, new(encoder, places.Tokenizer), model.Scheduler) { Defaults = model.Defaults }, this, setting);
            model.Prompts.Encoder.Dispose();
            return training;
        }
        catch
        {
            encoder.Dispose();
            throw;
        }
    }
}

/// <inheritdoc cref="ReCoOptions"/>
sealed class ReCoTraining(StableDiffusion pipeline, ReCoOptions options, SceneSetting setting) : DiffusionTraining(pipeline, options, setting)
{
    /// <summary>A caption with as many of its regions, each whole, as are read together with it.</summary>
    internal static string Told(ClipPrompts prompts, string caption, IReadOnlyList<PhraseBox> regions)
    {
        for (var count = regions.Count; ; count--)
        {
            var told = prompts.Places!.Write(caption, [.. regions.Take(count)]);
            if (count == 0 || prompts.PartsOf(told) == 1) return told;
        }
    }

    string Told(Scene scene) => Told(Pipeline.Prompts, scene.Caption, PhraseBox.Of(scene));

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
