using System.Text.Json;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;
using Panoptes.Text;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>
/// Binds modalities to the images of a dual encoder (ImageBind, Girdhar et al. 2023, arXiv:2305.05665): images and texts are locked, and each other modality
/// learns from pairs with images alone, one modality a step in turn. Texts are never seen; that a sound finds its name emerges.
/// </summary>
public sealed class BindingTask : TrainingTask
{
    readonly IBoundModel model;
    readonly ImageProcessor processor;
    readonly Tokenizer tokenizer;
    readonly BindingData data;
    readonly ulong seed;
    readonly ScalarType precision;
    readonly TrainedParts parts;
    long taken;

    BindingTask(Recipe recipe, IBoundModel model, ImageProcessor processor, Tokenizer tokenizer, BindingData data, ScalarType precision)
    {
        (this.model, this.processor, this.tokenizer, this.data, seed, this.precision) = (model, processor, tokenizer, data, recipe.Seed, precision);
        parts = new((Module)model, []);
    }

    /// <param name="recipe">Its data name the modalities.</param>
    /// <param name="model">The dual encoder, in float32; disposed with the task, or where this fails.</param>
    /// <param name="processor">Of its images.</param>
    /// <param name="tokenizer">Of its texts.</param>
    /// <param name="precision">What the towers compute in.</param>
    /// <exception cref="PanoptesException">The model cannot be bound to, or the recipe asks for what does not go with this.</exception>
    internal static BindingTask Create(Recipe recipe, Module model, ImageProcessor processor, Tokenizer? tokenizer, ScalarType precision)
    {
        var bound = model;
        try
        {
            if (recipe.Objectives is not [ContrastiveOptions { Weight: 1 }]) throw new PanoptesException("modalities are bound to images by contrast alone; leave objectives out.");
            if (recipe.Training is not { MicroBatchSize: null, PatchDropout: 0 }) throw new PanoptesException("micro_batch_size and patch_dropout do not go with modalities.");
            if (model is not DualEncoder both) throw new PanoptesException($"Modalities are bound to a model of images and texts, but {model.GetType().Name} reads no texts.");
            var modalities = recipe.Data.Modalities!.Distinct();
            using var generator = new Generator(recipe.Seed);
            if (recipe.Model.Bind is { } sizes)
            {
                var encoders = ModelConfig.Parse<ImageBindConfig>(JsonSerializer.Serialize(sizes), "the recipe's bind");
                if (encoders.Unknown is { Count: > 0 } unknown) throw new PanoptesException($"bind has a field {unknown.First().Key}, which no encoder knows.");
                var made = BoundEncoder.Over(both, modalities, encoders);
                bound = made;
                foreach (var modality in made.Modalities)
                {
                    made.Tower(modality).Initialize(generator);
                    made.LogScale(modality).Initialize(generator);
                }
            }
            if (bound is not IBoundModel binding) throw new PanoptesException($"A {model.GetType().Name} has no encoders for modalities; say their sizes under bind.");
            bound.RequiresGrad(false);
            foreach (var modality in modalities) binding.Tower(modality).RequiresGrad(true);
            return new(recipe, binding, processor, tokenizer!, new(recipe, binding, processor, tokenizer!, precision), precision) { BatchSize = recipe.Data.BatchSize };
        }
        catch
        {
            bound.Dispose();
            throw;
        }
    }

    public override Module Model => parts;

    public override required int BatchSize { get; init; }

    /// <summary>The number that the best model goes by.</summary>
    internal string? Monitor => data.Monitor;

    public override LoaderState Data
    {
        get => new(0, taken);
        set => taken = value.Position;
    }

    public override IReadOnlyDictionary<string, double> Backward(long step, CancellationToken cancel)
    {
        cancel.ThrowIfCancellationRequested();
        using var scope = NewDisposeScope();
        var pairs = data.Pairs[data.Order[(int)(taken % data.Order.Count)]];
        var (samples, images) = pairs.Draw(BatchSize, seed, taken);
        var (modality, input) = (pairs.Samples.Modality, pairs.Samples.Stack(samples, vary: true, seed, taken));
        var tower = model.Tower(modality);
        using var random = new Generator(seed + ((ulong)taken << 20));
        tower.Random = random;
        try
        {
            Tensor embedded;
            using (Autocast.To(precision)) embedded = tower.Encode(input);
            var loss = ImageBindLoss.Of(pairs.Embedded(images), DualEncoder.Normalize(embedded.to(ScalarType.Float32)), model.LogScale(modality).Value);
            loss.backward();
            taken++;
            return new Dictionary<string, double> { ["loss"] = loss.item<float>() };
        }
        finally
        {
            tower.Random = null;
        }
    }

    public override IReadOnlyDictionary<string, double> Validate(IProgress<EvaluationProgress>? progress, CancellationToken cancel) => data.Measure(model, progress, cancel);

    public override void Save(string folder)
    {
        Models.Save(folder, parts.Model);
        ClipParts.Save(folder, processor, tokenizer);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            data.Dispose();
            parts.Dispose();
        }
        base.Dispose(disposing);
    }
}
