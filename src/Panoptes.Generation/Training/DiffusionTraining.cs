using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;
using Panoptes.Training;

namespace Panoptes.Generation.Training;

/// <summary>
/// Text to image by taking noise away: from the latents of an autoencoder (latent diffusion; Rombach et al. 2022, arXiv:2112.10752), or without one from pixels. The pipeline's scheduler says how noise is put in and
/// what is told of it: the noise, the clean sample or the velocity (Ho et al. 2020, arXiv:2006.11239; Salimans and Ho 2022, arXiv:2202.00512), or a flow's velocity (Lipman et al. 2023, arXiv:2210.02747).
/// </summary>
public record DiffusionOptions : SceneTaskOptions
{
    /// <summary>The folder of the autoencoder, which stays as it is; null: there is none.</summary>
    public string? Autoencoder { get; init; }

    /// <summary>How often a caption is left out, so that guidance can ask without one (Ho and Salimans 2022, arXiv:2207.12598).</summary>
    public double CaptionDropout { get; init; } = 0.1;

    /// <summary>The bound of min-SNR weights (Hang et al. 2023, arXiv:2303.09556); null: all timesteps count alike.</summary>
    public double? SnrGamma { get; init; }

    /// <summary>From which share of the timesteps on pictures have much noise, so that it is open where things are: <see cref="NoisyShare"/> of the samples are of these.</summary>
    public double FromNoise { get; init; }

    /// <summary>How many samples have much noise for certain; the others have any.</summary>
    public double NoisyShare { get; init; } = 1;

    /// <summary>Whether the text encoder is trained, too.</summary>
    public bool TrainTextEncoder { get; init; } = true;

    /// <summary>How images are made to be measured.</summary>
    public GenerationMeasureOptions Measures { get; init; } = new();

    public override SceneObjective Create(SceneSetting setting)
    {
        if (CaptionDropout is not (>= 0 and <= 1)) throw new PanoptesException($"caption_dropout is {CaptionDropout}; expected 0 to 1.");
        var model = RecipeModels.Pipeline(setting, Autoencoder);
        try
        {
            return Train(model, setting);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private protected virtual SceneObjective Train(StableDiffusion model, SceneSetting setting) => new DiffusionTraining(model, this, setting);
}

/// <summary>What is trained of a pipeline. Keys: unet, text_encoder.</summary>
sealed class TrainedPipeline(UNet2DConditionModel unet, ClipTextModel textEncoder) : Module
{
    [Key("unet")]
    public UNet2DConditionModel UNet { get; } = unet;

    public ClipTextModel TextEncoder { get; } = textEncoder;
}

/// <inheritdoc cref="DiffusionOptions"/>
class DiffusionTraining : SceneObjective
{
    readonly DiffusionOptions options;
    readonly DenoisingLoss loss;
    readonly CaptionReader reader;

    public DiffusionTraining(StableDiffusion pipeline, DiffusionOptions options, SceneSetting setting)
    {
        (Pipeline, this.options) = (pipeline, options);
        loss = new(pipeline.Scheduler, options.SnrGamma, options.FromNoise, options.NoisyShare);
        Model = new(pipeline.UNet, pipeline.Prompts.Encoder);
        pipeline.Prompts.Encoder.RequiresGrad(options.TrainTextEncoder);
        pipeline.Autoencoder?.RequiresGrad(false);
        (Measures, reader) = (new(options.Measures, setting), new(pipeline.Prompts.Encoder, pipeline.Prompts.Tokenizer));
    }

    public override TrainedPipeline Model { get; }

    private protected StableDiffusion Pipeline { get; }

    private protected GenerationMeasures Measures { get; }

    /// <summary>What the model is told of a batch.</summary>
    private protected virtual IReadOnlyList<string> Words(SceneBatch batch, Generator random) => batch.Captions;

    public override string Monitor => GenerationMeasures.Monitor;

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        using var scope = NewDisposeScope();
        Tensor clean;
        using (no_grad()) clean = Pipeline.Encode(SignedPixels.Of(batch), random).to(ScalarType.Float32);
        var noisy = loss.Draw(clean, random);
        var text = Pipeline.Prompts.Encoder.Read(reader.Ids(Words(batch, random), options.CaptionDropout, random), null, 0, normalized: true).Tokens;
        var told = Pipeline.Predict(new() { Sample = noisy.Sample, Timestep = noisy.Timesteps, Conditioning = new() { Text = text } });
        return new Dictionary<string, Tensor> { ["loss"] = DenoisingLoss.Of(told, noisy).MoveToOuterDisposeScope() };
    }

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel) =>
        Measures.Of(tests, (scenes, seeds, stop) => Measures.Generate(Pipeline, scenes, seeds, [], stop), progress, cancel).Scores;

    /// <summary>With how it was measured, which is how its images are usually made, unless the model that it began with says otherwise.</summary>
    public override void Save(string folder)
    {
        Pipeline.Defaults ??= Measures.Defaults;
        PipelineFolder.Save(folder, Pipeline);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Pipeline.Autoencoder?.Dispose();
            Measures.Dispose();
        }
        base.Dispose(disposing);
    }
}
