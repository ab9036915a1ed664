using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>Flux.1 (Black Forest Labs 2024): a transformer over text and packed latents that follows a flow; CLIP says what the whole text is, T5 what its words are. The network is told how strong guidance is.</summary>
/// <param name="first">CLIP; null where prompts are given as features only.</param>
/// <param name="second">T5.</param>
public sealed class Flux(FluxTransformer transformer, LatentAutoencoder autoencoder, ClipPrompts? first, T5Prompts? second, DiffusionScheduler scheduler) : DiffusionModel(scheduler, autoencoder)
{
    /// <summary>How many tokens T5 reads.</summary>
    public const int T5Length = 512;

    public FluxTransformer Transformer { get; } = transformer;

    public ClipPrompts? FirstPrompts { get; } = first;

    public T5Prompts? SecondPrompts { get; } = second;

    public override Module Network => Transformer;

    public override IEnumerable<Module> TextEncoders => ((Module?[])[FirstPrompts?.Encoder, SecondPrompts?.Encoder]).OfType<Module>();

    /// <summary>Of every place; four of them make a token.</summary>
    public override int ChannelsRead => Transformer.Config.InChannels / 4;

    public override int Multiple => 2 * PixelsPerPlace;

    public override int Side => 128 * PixelsPerPlace;

    private protected override double FamilyGuidance => 3.5;

    private protected override int FamilySteps => 28;

    public override bool AsksTwice => false;

    public override bool IsToldGuidance => Transformer.Config.GuidanceEmbeds;

    private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options)
    {
        if (FirstPrompts is null || SecondPrompts is null) throw new PanoptesException("This pipeline has no text encoders.");
        foreach (var prompt in prompts.Distinct(StringComparer.Ordinal))
            if (FirstPrompts.PartsOf(prompt) > 1) options.Note?.Invoke($"Of the prompt \"{PromptTokens.Shown(prompt)}\" CLIP, which says what the whole of it is, reads the first {FirstPrompts.Encoder.ContextLength - 2} tokens.");
        var (_, pooled) = FirstPrompts.Read(prompts, 0, null, wanted, normalized: true, note: null);
        return new() { Text = SecondPrompts.Read(prompts, options.Note).States.to(Dtype), Pooled = pooled.to(Dtype) };
    }

    /// <summary>Flux' own noise levels run from 1 to one over the number of steps, shifted by the image's size.</summary>
    public override SchedulerRun Start(DiffusionScheduler scheduler, int steps, SamplingOptions options, int height, int width)
    {
        var side = 2 * PixelsPerPlace;
        options = OfFlow(scheduler, options, height / side * (width / side));
        if (scheduler is not FlowMatchEulerScheduler || options.Sigmas is not null || options.Timesteps is not null) return base.Start(scheduler, steps, options, height, width);
        return scheduler.Start(null, options with { Sigmas = [.. Enumerable.Range(0, steps).Select(i => steps == 1 ? 1 : 1 + (1.0 / steps - 1) * i / (steps - 1))] });
    }

    public override Tensor Predict(NetworkCall call)
    {
        using var scope = NewDisposeScope();
        var (b, rows, columns) = (call.Sample.shape[0], call.Sample.shape[2] / 2, call.Sample.shape[3] / 2);
        var tokens = Transformer.Forward(new()
        {
            Latents = FluxTransformer.Pack(call.Sample),
            Timesteps = call.Timestep.expand(b) / 1000,
            Text = call.Conditioning.Text!,
            Pooled = call.Conditioning.Pooled!,
            Guidance = Transformer.Config.GuidanceEmbeds ? full(b, (float)call.Guidance) : null,
            Rows = rows,
        }, call.Attention);
        return FluxTransformer.Unpack(tokens, rows, columns).MoveToOuterDisposeScope();
    }
}
