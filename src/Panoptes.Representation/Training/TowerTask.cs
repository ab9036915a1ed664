using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;
using Panoptes.Text;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>What measures a model while it is trained.</summary>
public delegate IReadOnlyDictionary<string, double> ModelValidation(Module model, ImageProcessor processor, Tokenizer? tokenizer, IProgress<EvaluationProgress>? progress, CancellationToken cancel);

/// <summary>A model and the objectives with parameters of their own, which are trained and kept in checkpoints together. Keys: model, objectives.N.</summary>
public sealed class TrainedParts(Module model, IEnumerable<Objective> objectives) : Module
{
    public Module Model { get; } = model;

    public ModuleList<Objective> Objectives { get; } = new(objectives);
}

/// <summary>Trains an image tower, with or without a text tower, on a weighted list of objectives.</summary>
public sealed class TowerTask : TrainingTask
{
    readonly TrainedParts parts;
    readonly Towers towers;
    readonly ImageProcessor processor;
    readonly Tokenizer? tokenizer;
    readonly PrefetchLoader<ImageTextBatch> loader;
    readonly PairGradients gradients;

    /// <param name="model">In float32; disposed with this object, as are the objectives and the loader.</param>
    /// <param name="processor">What prepares images for the trained model; saved beside it.</param>
    /// <param name="tokenizer">Of the model, saved beside it; null where there is no text tower.</param>
    /// <param name="loader">Gives batches whose images are prepared already.</param>
    /// <param name="gradients">The objectives, and how a batch goes through the towers.</param>
    public TowerTask(Module model, ImageProcessor processor, Tokenizer? tokenizer, PrefetchLoader<ImageTextBatch> loader, PairGradients gradients)
    {
        (this.processor, this.tokenizer, this.loader, this.gradients) = (processor, tokenizer, loader, gradients);
        towers = Towers.Of(model);
        parts = new(model, gradients.Objectives.Select(static o => o.Objective));
    }

    public override required int BatchSize { get; init; }

    /// <summary>Of everything that is drawn at random in the towers.</summary>
    public ulong Seed { get; init; }

    /// <summary>The share of patches that the image tower leaves out (FLIP); 0: none.</summary>
    public double PatchDropout { get; init; }

    /// <summary>The step from which all patches are seen again, to close the gap to how the model is used; null: never.</summary>
    public long? UnmaskedFrom { get; init; }

    /// <summary>The largest factor that cosines are multiplied by (CLIP's 100); null: no bound.</summary>
    public double? MaxLogitScale { get; init; } = 100;

    public ModelValidation? Validation { get; init; }

    public override Module Model => parts;

    public override LoaderState Data
    {
        get => loader.State;
        set => loader.Restore(value);
    }

    public override IReadOnlyDictionary<string, double> Backward(long step, CancellationToken cancel)
    {
        using var batch = loader.Next(cancel);
        using var scope = NewDisposeScope();
        if (towers.Images.Backbone is IPatchDropout tower) tower.PatchDropout = step < (UnmaskedFrom ?? long.MaxValue) ? PatchDropout : 0;
        return gradients.Backward(towers, Input(batch, step), seed: Seed + ((ulong)step << 20));
    }

    PairInput Input(ImageTextBatch batch, long step)
    {
        var (ids, lengths) = (new List<Tensor>(), new List<Tensor>());
        if (towers.Texts is { } texts)
        {
            foreach (var view in (IReadOnlyList<string>[])[batch.Texts, .. batch.MoreTexts])
            {
                // Long captions are cut, as in every contrastive training: what follows the context cannot be learned from.
                var tokens = ClipParts.Tokenize(tokenizer!, texts, view, truncate: true);
                ids.Add(tokens.InputIds());
                lengths.Add(tokens.OwnTokens());
            }
        }
        Tensor[]? masks = towers.Texts is { SeesPadding: true } ? [.. ids.Zip(lengths, static (i, l) => PairInput.Valid(l, i.shape[1]))] : null;
        return new([batch.Images, .. batch.MoreImages], ids, masks, batch.LabelTensor()) { Lengths = lengths, Step = step };
    }

    /// <summary>Bounds the scale of the logits where there is no bias that would balance it.</summary>
    public override void AfterStep()
    {
        foreach (var objective in parts.Objectives) objective.AfterStep();
        if (MaxLogitScale is not { } max || towers.LogitBias is not null || towers.LogitScale is not { } scale) return;
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        scale.Value.clamp_(0, Math.Log(max));
    }

    public override IReadOnlyDictionary<string, double> Validate(IProgress<EvaluationProgress>? progress, CancellationToken cancel) =>
        Validation?.Invoke(parts.Model, processor, tokenizer, progress, cancel) ?? base.Validate(progress, cancel);

    public override void Save(string folder)
    {
        Models.Save(folder, parts.Model);
        ClipParts.Save(folder, processor, tokenizer);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            loader.Dispose();
            parts.Dispose();
        }
        base.Dispose(disposing);
    }
}
