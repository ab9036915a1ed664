namespace Panoptes.Generation;

/// <summary>What diffusion models are trained with beside their <see cref="NoiseSchedule"/>.</summary>
public static class DiffusionLosses
{
    /// <summary>The mean squared error of every sample: [b].</summary>
    /// <param name="prediction">[b, ...]</param>
    /// <param name="target">As prediction.</param>
    public static Tensor PerSample(Tensor prediction, Tensor target)
    {
        using var scope = NewDisposeScope();
        return (prediction - target).square().flatten(1).mean([1]).MoveToOuterDisposeScope();
    }

    /// <summary>The mean squared error, each sample's by its weight.</summary>
    /// <param name="weights">[b]; null: all the same.</param>
    public static Tensor Weighted(Tensor prediction, Tensor target, Tensor? weights = null)
    {
        using var scope = NewDisposeScope();
        var losses = PerSample(prediction, target);
        return (weights is null ? losses : losses * weights).mean().MoveToOuterDisposeScope();
    }

    /// <summary>The weights of min-SNR (Hang et al. 2023, arXiv:2303.09556): easy timesteps count at most as much as <paramref name="gamma"/>.</summary>
    /// <param name="snr">[b], of the samples' timesteps.</param>
    /// <param name="predictionType">epsilon, sample or v_prediction.</param>
    /// <param name="gamma">5 in the paper.</param>
    /// <exception cref="PanoptesException">Another prediction type.</exception>
    public static Tensor MinSnrWeights(Tensor snr, string predictionType, double gamma = 5)
    {
        using var scope = NewDisposeScope();
        var least = snr.clamp(max: gamma);
        return (predictionType switch
        {
            "epsilon" => least / snr,
            "v_prediction" => least / (snr + 1),
            "sample" => least,
            _ => throw new PanoptesException($"min-SNR weights are for epsilon, sample and v_prediction, found {predictionType}."),
        }).alias().MoveToOuterDisposeScope();
    }

    /// <summary>Noise with an offset for each channel, so that a model learns very dark and very light images (Guttenberg 2023): <c>noise + amount * offset</c>.</summary>
    /// <param name="noise">[b, channels, height, width]</param>
    /// <param name="offset">Normal noise [b, channels, 1, 1].</param>
    public static Tensor OffsetNoise(Tensor noise, Tensor offset, double amount)
    {
        using var scope = NewDisposeScope();
        return (noise + offset * amount).MoveToOuterDisposeScope();
    }

    /// <summary>A flow's sample between clean and noise: <c>(1 - sigma) clean + sigma noise</c>.</summary>
    /// <param name="sigmas">[b], from 0 (clean) to 1 (noise).</param>
    public static Tensor FlowSample(Tensor clean, Tensor noise, Tensor sigmas)
    {
        using var scope = NewDisposeScope();
        var s = sigmas.reshape([-1, .. Enumerable.Repeat(1L, (int)clean.dim() - 1)]);
        return ((1 - s) * clean + s * noise).to(clean.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>What a flow's model predicts: <c>noise - clean</c>.</summary>
    public static Tensor FlowTarget(Tensor clean, Tensor noise) => noise - clean;

    /// <summary>The loss weights of flow matching (Esser et al. 2024, arXiv:2403.03206, section 3.1): [b].</summary>
    /// <param name="sigmas">[b]</param>
    /// <param name="scheme">sigma_sqrt (sigma^-2), cosmap, or none.</param>
    /// <exception cref="PanoptesException">Another scheme.</exception>
    public static Tensor FlowWeights(Tensor sigmas, string scheme)
    {
        using var scope = NewDisposeScope();
        return (scheme switch
        {
            "sigma_sqrt" => sigmas.pow(-2),
            "cosmap" => 2 / (Math.PI * (1 - 2 * sigmas + 2 * sigmas.square())),
            "none" => ones_like(sigmas),
            _ => throw new PanoptesException($"The weighting scheme is {scheme}; expected sigma_sqrt, cosmap or none."),
        }).MoveToOuterDisposeScope();
    }

    /// <summary>Noise levels for a flow's training, which favor the middle (logit-normal; Esser et al. 2024): [count], from 0 to 1.</summary>
    /// <param name="mean">Of the logit: above 0 favors noise.</param>
    public static Tensor LogitNormal(int count, Generator generator, double mean = 0, double deviation = 1)
    {
        using var scope = NewDisposeScope();
        return (randn(count, generator: generator) * deviation + mean).sigmoid().MoveToOuterDisposeScope();
    }
}
