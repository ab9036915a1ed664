using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>
/// Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv:2112.10752): a UNet that looks at the states of one CLIP text encoder. With nine channels it fills masks, with gated attention it follows boxes (GLIGEN).
/// </summary>
public class StableDiffusion(UNet2DConditionModel unet, LatentAutoencoder? autoencoder, ClipPrompts prompts, DiffusionScheduler scheduler) : DiffusionModel(scheduler, autoencoder)
{
    public UNet2DConditionModel UNet { get; } = unet;

    /// <summary>Reads prompts.</summary>
    public ClipPrompts Prompts { get; } = prompts;

    /// <summary>Reads the example images of a GLIGEN; null: it takes none.</summary>
    public ImageExamples? Examples { get; init; }

    public override Module Network => UNet;

    public override IEnumerable<Module> TextEncoders => [Prompts.Encoder, .. Examples?.Modules ?? []];

    public override int ChannelsRead => UNet.Config.InChannels;

    public override bool ReadsWhatStays => FillsMasks && UNet.PositionNet is not null;

    public override int Side => (UNet.Config.SampleSize is { } size ? size[0] : 64) * PixelsPerPlace;

    /// <summary>Whether the network is told how strong guidance is, as latent consistency models are (Luo et al. 2023, arXiv:2310.04378).</summary>
    bool KnowsGuidance => UNet.Config.TimeCondProjDim is not null;

    public override bool AsksTwice => !KnowsGuidance;

    public override bool IsToldGuidance => true;

    public override bool SkipsLayers => true;

    public override int PartsOf(string prompt) => Prompts.PartsOf(prompt);

    public override (int Width, int Height) UsualSize => SizeBy(UNet.Config.SampleSize);

    private protected override double FamilyGuidance => KnowsGuidance ? 8.5 : 7.5;

    private protected override int FamilySteps => KnowsGuidance ? 4 : base.FamilySteps;

    private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options)
    {
        var (states, _) = Prompts.Read(prompts, 0, options.ClipSkip, wanted, normalized: true, options.Note);
        return new() { Text = states.to(Dtype) };
    }

    public override Tensor Predict(NetworkCall call)
    {
        using var scope = NewDisposeScope();
        return UNet.Forward(new()
        {
            Sample = call.Sample,
            Timestep = call.Timestep,
            TimestepCondition = UNet.Config.TimeCondProjDim is { } width ? Timesteps.Sinusoids(full(call.Sample.shape[0], (float)(call.Guidance - 1)), width, cosFirst: false, frequencyShift: 1, scale: 1000) : null,
            Text = call.Conditioning.Text,
            PooledText = call.Conditioning.Pooled,
            TimeIds = call.Conditioning.TimeIds,
            DownResiduals = call.DownResiduals,
            MidResidual = call.MidResidual,
            AdapterFeatures = call.AdapterFeatures,
            Grounding = call.Grounding,
            FreeU = call.FreeU,
            Hook = call.Attention,
        }).MoveToOuterDisposeScope();
    }
}

/// <summary>SDXL (Podell et al. 2023, arXiv:2307.01952): the states of two text encoders side by side, the second one's whole text, and the image's sizes and crop.</summary>
/// <param name="second">The larger text encoder, which projects.</param>
/// <param name="zeros">Whether nothing said of what is not wanted is zeros rather than an empty prompt.</param>
public sealed class StableDiffusionXl(UNet2DConditionModel unet, LatentAutoencoder autoencoder, ClipPrompts prompts, ClipPrompts second, DiffusionScheduler scheduler, bool zeros) : StableDiffusion(unet, autoencoder, prompts, scheduler)
{
    public ClipPrompts SecondPrompts { get; } = second;

    public override IEnumerable<Module> TextEncoders => [Prompts.Encoder, SecondPrompts.Encoder];

    /// <summary>Whether nothing said of what is not wanted is zeros rather than an empty prompt.</summary>
    public bool ForceZerosForEmptyPrompt { get; } = zeros;

    private protected override double FamilyGuidance => 5;

    public override (Conditioning Positive, Conditioning Negative) Describe(IReadOnlyList<string> prompts, IReadOnlyList<string>? negatives, PromptOptions options)
    {
        using var scope = NewDisposeScope();
        var (positive, negative) = base.Describe(prompts, negatives, options);
        if (negatives is null && ForceZerosForEmptyPrompt) negative = negative with { Text = zeros_like(negative.Text!), Pooled = zeros_like(negative.Pooled!) };
        return (positive.MoveToOuterDisposeScope(), negative.MoveToOuterDisposeScope());
    }

    private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options)
    {
        var (states, _) = Prompts.Read(prompts, 1, options.ClipSkip, wanted, normalized: false, options.Note);
        var (more, pooled) = SecondPrompts.Read(prompts, 1, options.ClipSkip, wanted, normalized: false, note: null);
        // Both read the same words, but their tokenizers need not make as many windows of them.
        if (states.shape[1] != more.shape[1]) throw new PanoptesException("The two text encoders read the prompt in different numbers of parts; use a shorter prompt.");
        var (original, target) = (options.OriginalSize ?? options.Size, options.TargetSize ?? options.Size);
        var ids = tensor(new float[] { original.Height, original.Width, options.Crop.Top, options.Crop.Left, target.Height, target.Width }).unsqueeze(0).expand(prompts.Count, 6);
        return new() { Text = cat([states, more], -1).to(Dtype), Pooled = pooled.to(Dtype), TimeIds = ids };
    }
}
