using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206): a transformer over image and text together that follows a flow; two CLIPs and, where there is one, T5 read the prompt.</summary>
/// <param name="first">CLIP with a projection; null where prompts are given as features only.</param>
/// <param name="second">The larger CLIP with a projection.</param>
/// <param name="third">T5; null: its states are zeros.</param>
public sealed class StableDiffusion3(Sd3Transformer transformer, LatentAutoencoder autoencoder, ClipPrompts? first, ClipPrompts? second, T5Prompts? third, DiffusionScheduler scheduler) : DiffusionModel(scheduler, autoencoder)
{
    /// <summary>How many tokens T5 reads.</summary>
    public const int T5Length = 256;

    public Sd3Transformer Transformer { get; } = transformer;

    public ClipPrompts? FirstPrompts { get; } = first;

    public ClipPrompts? SecondPrompts { get; } = second;

    public T5Prompts? ThirdPrompts { get; } = third;

    public override Module Network => Transformer;

    public override IEnumerable<Module> TextEncoders => ((Module?[])[FirstPrompts?.Encoder, SecondPrompts?.Encoder, ThirdPrompts?.Encoder]).OfType<Module>();

    public override bool SkipsLayers => true;

    public override int PartsOf(string prompt) => FirstPrompts?.PartsOf(prompt) ?? 1;

    public override int Multiple => PixelsPerPlace * Transformer.Config.PatchSize;

    public override int Side => Transformer.Config.SampleSize * PixelsPerPlace;

    private protected override double FamilyGuidance => 7;

    private protected override int FamilySteps => 28;

    private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options)
    {
        if (FirstPrompts is null || SecondPrompts is null) throw new PanoptesException("This pipeline has no text encoders.");
        var (states, pooled) = FirstPrompts.Read(prompts, 1, options.ClipSkip, wanted, normalized: false, options.Note);
        var (more, whole) = SecondPrompts.Read(prompts, 1, options.ClipSkip, wanted, normalized: false, note: null);
        if (states.shape[1] != more.shape[1]) throw new PanoptesException("The two CLIPs read the prompt in different numbers of parts; use a shorter prompt.");
        var width = Transformer.Config.JointAttentionDim;
        var clip = cat([states, more], -1);
        clip = nn.functional.pad(clip, [0, width - clip.shape[2]]);
        var t5 = ThirdPrompts?.Read(prompts, options.Note).States ?? zeros(prompts.Count, T5Length, width);
        return new() { Text = cat([clip.to(Dtype), t5.to(Dtype)], 1), Pooled = cat([pooled, whole], -1).to(Dtype) };
    }

    public override SchedulerRun Start(DiffusionScheduler scheduler, int steps, SamplingOptions options, int height, int width) =>
        base.Start(scheduler, steps, OfFlow(scheduler, options, height / Multiple * (width / Multiple)), height, width);

    public override Tensor Predict(NetworkCall call) =>
        Transformer.Forward(call.Sample, call.Timestep.expand(call.Sample.shape[0]), call.Conditioning.Text!, call.Conditioning.Pooled!, call.Attention);
}
