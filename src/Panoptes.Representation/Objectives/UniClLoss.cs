namespace Panoptes.Representation.Objectives;

/// <summary>The two directions of <see cref="UniClLoss"/>, each sample's own.</summary>
/// <param name="Images">[b]: every image among the texts.</param>
/// <param name="Texts">[b]: every text among the images.</param>
public sealed record UniClLosses(Tensor Images, Tensor Texts);

/// <summary>
/// UniCL (Yang et al. 2022, arXiv:2204.03610): contrast in the space of images, texts and labels. All pairs of one label are each other's
/// positives, so that labeled images and captioned ones, whose label is their own, learn by one loss. The mean over the batch of both directions, as the authors train.
/// </summary>
public sealed class UniClLoss : FeatureObjective
{
    public override IReadOnlyList<Feature> Needs { get; } = [Feature.Image(), Feature.Text()];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        var losses = Losses(features.Pair, features.Labels);
        return ((losses.Images.mean() + losses.Texts.mean()) / 2).MoveToOuterDisposeScope();
    }

    /// <param name="pair">The features.</param>
    /// <param name="labels">[b] int64; -1 where a sample has none and is alone.</param>
    public static UniClLosses Losses(PairFeatures pair, Tensor labels)
    {
        using var scope = NewDisposeScope();
        var logits = pair.Logits();
        var same = labels.unsqueeze(0).eq(labels.unsqueeze(1)).logical_and(labels.ge(0).unsqueeze(0)).logical_or(eye(labels.shape[0], dtype: ScalarType.Bool, device: labels.device));
        var share = same.to(logits.dtype) / same.sum(1, keepdim: true);                                       // symmetric but for the division
        var images = -(logits.log_softmax(1) * share).sum(1);
        var texts = -(logits.log_softmax(0) * share.t()).sum([0]);
        return new(images.MoveToOuterDisposeScope(), texts.MoveToOuterDisposeScope());
    }
}

/// <summary>UniCL in a recipe; the data needs labels.</summary>
public sealed record UniClOptions : ObjectiveOptions
{
    public override Objective Create(ObjectiveSetting setting) => new UniClLoss();
}
