namespace Panoptes.Representation.Objectives;

/// <summary>
/// SigLIP's loss (Zhai et al. 2023, arXiv:2303.15343; open_clip's SigLipLoss): every image with every text is one yes-or-no question;
/// the sum of the negative log-likelihoods over the number of pairs.
/// </summary>
public sealed class SigmoidLoss : FeatureObjective
{
    public override IReadOnlyList<Feature> Needs { get; } = [Feature.Image(), Feature.Text()];

    public override Tensor Loss(BatchFeatures features) => Of(features.Pair);

    /// <returns>A scalar with its gradient.</returns>
    public static Tensor Of(PairFeatures pair)
    {
        using var scope = NewDisposeScope();
        return FromLogits(pair.Logits()).MoveToOuterDisposeScope();
    }

    /// <param name="logits">[n, n], the true pairs on the diagonal</param>
    public static Tensor FromLogits(Tensor logits)
    {
        using var scope = NewDisposeScope();
        if (logits.dtype is not (ScalarType.Float32 or ScalarType.Float64)) logits = logits.to(ScalarType.Float32);
        var n = logits.shape[0];
        var signs = eye(n, dtype: logits.dtype, device: logits.device).mul_(2).sub_(1);             // 1 on the diagonal, else -1
        return (-nn.functional.logsigmoid(logits * signs).sum() / n).MoveToOuterDisposeScope();
    }
}

/// <summary>SigLIP's loss in a recipe.</summary>
public sealed record SigmoidOptions : ObjectiveOptions
{
    public override Objective Create(ObjectiveSetting setting) => new SigmoidLoss();
}
