using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>PixArt-α and Σ (Chen et al. 2023, arXiv:2310.00426): a diffusion transformer that looks at T5's states, and, where it was made for large images, is told their size.</summary>
/// <param name="prompts">T5; null where prompts are given as features only.</param>
public sealed class PixArt(PixArtTransformer transformer, LatentAutoencoder autoencoder, T5Prompts? prompts, DiffusionScheduler scheduler) : DiffusionModel(scheduler, autoencoder)
{
    /// <summary>How many tokens T5 reads.</summary>
    public const int T5Length = 120;

    public PixArtTransformer Transformer { get; } = transformer;

    public T5Prompts? Prompts { get; } = prompts;

    public override Module Network => Transformer;

    public override IEnumerable<Module> TextEncoders => Prompts is null ? [] : [Prompts.Encoder];

    public override int Multiple => PixelsPerPlace * Transformer.Config.PatchSize;

    public override int Side => Transformer.Config.SampleSize * PixelsPerPlace;

    private protected override double FamilyGuidance => 4.5;

    private protected override int FamilySteps => 20;

    private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options)
    {
        if (Prompts is null) throw new PanoptesException("This pipeline has no text encoder.");
        // As the peer reads them for this family.
        var (states, mask) = Prompts.Read([.. prompts.Select(static p => p.ToLowerInvariant().Trim())], options.Note);
        return new() { Text = states.to(Dtype), TextMask = mask };
    }

    public override Tensor Predict(NetworkCall call)
    {
        using var scope = NewDisposeScope();
        var (b, height, width) = (call.Sample.shape[0], call.Sample.shape[2] * PixelsPerPlace, call.Sample.shape[3] * PixelsPerPlace);
        var sized = Transformer.Config.KnowsSizes;
        var said = Transformer.Forward(call.Sample, call.Timestep.expand(b), new()
        {
            Text = call.Conditioning.Text!,
            TextMask = call.Conditioning.TextMask,
            Resolution = sized ? tensor(new float[] { height, width }).unsqueeze(0).expand(b, 2) : null,
            AspectRatio = sized ? full(b, 1, (float)height / width) : null,
        }, call.Attention);
        // Behind the noise it may say how sure it is, which no sampler of the family's uses.
        return said.narrow(1, 0, LatentChannels).MoveToOuterDisposeScope();
    }
}
