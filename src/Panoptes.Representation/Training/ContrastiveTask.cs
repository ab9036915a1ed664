using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>What measures a model while it is trained.</summary>
public delegate IReadOnlyDictionary<string, double> PairValidation(DualEncoder model, ImageProcessor processor, Tokenizer tokenizer, IProgress<EvaluationProgress>? progress, CancellationToken cancel);

/// <summary>Trains an image tower and a text tower together on pairs.</summary>
public sealed class ContrastiveTask : TrainingTask
{
    readonly DualEncoder model;
    readonly ImageProcessor processor;
    readonly Tokenizer tokenizer;
    readonly PrefetchLoader<ImageTextBatch> loader;

    /// <param name="model">In float32; disposed with this object, as is the loader.</param>
    /// <param name="processor">What prepares images for the trained model; saved beside it.</param>
    /// <param name="tokenizer">Of the model; saved beside it.</param>
    /// <param name="loader">Gives batches whose images are prepared already.</param>
    public ContrastiveTask(DualEncoder model, ImageProcessor processor, Tokenizer tokenizer, PrefetchLoader<ImageTextBatch> loader) =>
        (this.model, this.processor, this.tokenizer, this.loader) = (model, processor, tokenizer, loader);

    public required PairGradients Gradients { get; init; }

    public override required int BatchSize { get; init; }

    /// <summary>Of everything that is drawn at random in the towers.</summary>
    public ulong Seed { get; init; }

    /// <summary>The share of patches that the image tower leaves out (FLIP); 0: none.</summary>
    public double PatchDropout { get; init; }

    /// <summary>The step from which all patches are seen again, to close the gap to how the model is used; null: never.</summary>
    public long? UnmaskedFrom { get; init; }

    /// <summary>The largest factor that cosines are multiplied by (CLIP's 100); null: no bound.</summary>
    public double? MaxLogitScale { get; init; } = 100;

    public PairValidation? Validation { get; init; }

    public override Module Model => model;

    public override LoaderState Data
    {
        get => loader.State;
        set => loader.Restore(value);
    }

    public override IReadOnlyDictionary<string, double> Backward(long step, CancellationToken cancel)
    {
        using var batch = loader.Next(cancel);
        using var scope = NewDisposeScope();
        if (model.Images is IPatchDropout tower) tower.PatchDropout = step < (UnmaskedFrom ?? long.MaxValue) ? PatchDropout : 0;
        // Long captions are cut, as in every contrastive training: what follows the context cannot be learned from.
        var ids = ClipParts.Tokenize(tokenizer, model, batch.Texts, truncate: true);
        return Gradients.Backward(model, batch.Images, ids, seed: Seed + ((ulong)step << 20));
    }

    /// <summary>Bounds the scale of the logits where there is no bias that would balance it.</summary>
    public override void AfterStep()
    {
        if (MaxLogitScale is not { } max || model.LogitBias is not null) return;
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        model.LogitScale.Value.clamp_(0, Math.Log(max));
    }

    public override IReadOnlyDictionary<string, double> Validate(IProgress<EvaluationProgress>? progress, CancellationToken cancel) =>
        Validation?.Invoke(model, processor, tokenizer, progress, cancel) ?? base.Validate(progress, cancel);

    public override void Save(string folder)
    {
        Models.Save(folder, model);
        ClipParts.Save(folder, processor, tokenizer);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            loader.Dispose();
            model.Dispose();
        }
        base.Dispose(disposing);
    }
}
