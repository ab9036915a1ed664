namespace Panoptes.Representation.Objectives;

/// <summary>
/// CLIP's loss (Radford et al. 2021, arXiv:2103.00020; open_clip's ClipLoss): every image picks its text out of the batch and every text its image;
/// the mean of both cross-entropies.
/// </summary>
public sealed class ContrastiveLoss : FeatureObjective
{
    public override IReadOnlyList<Feature> Needs { get; } = [Feature.Image(), Feature.Text()];

    public override Tensor Loss(BatchFeatures features) => Of(features.Pair);

    /// <returns>A scalar with its gradient.</returns>
    public static Tensor Of(PairFeatures pair)
    {
        using var scope = NewDisposeScope();
        return FromLogits(pair.Logits()).MoveToOuterDisposeScope();
    }

    /// <summary>One direction alone: the mean cross-entropy of picking the diagonal along <paramref name="dimension"/>.</summary>
    /// <param name="logits">[n, n], the true pairs on the diagonal</param>
    /// <param name="dimension">1: each row picks among the columns; 0: each column among the rows.</param>
    public static Tensor OneWay(Tensor logits, int dimension)
    {
        using var scope = NewDisposeScope();
        return (logits.logsumexp(dimension).mean() - logits.diagonal().mean()).MoveToOuterDisposeScope();
    }

    /// <param name="logits">[n, n], the true pairs on the diagonal</param>
    public static Tensor FromLogits(Tensor logits)
    {
        using var scope = NewDisposeScope();
        if (logits.dtype is not (ScalarType.Float32 or ScalarType.Float64)) logits = logits.to(ScalarType.Float32);
        // Both cross-entropies share the diagonal: mean(logsumexp over rows + logsumexp over columns) / 2 - mean(diagonal).
        return ((logits.logsumexp(1) + logits.logsumexp(0)).mean() / 2 - logits.diagonal().mean()).MoveToOuterDisposeScope();
    }
}

/// <summary>CLIP's loss in a recipe.</summary>
public sealed record ContrastiveOptions : ObjectiveOptions
{
    public override Objective Create(ObjectiveSetting setting) => new ContrastiveLoss();
}
