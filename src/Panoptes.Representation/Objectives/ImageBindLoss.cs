namespace Panoptes.Representation.Objectives;

/// <summary>
/// ImageBind's loss (Girdhar et al. 2023, arXiv:2305.05665): images bind every other modality. Each is contrasted with its images in both
/// directions, under a scale of its own; modalities are never compared with each other.
/// </summary>
public static class ImageBindLoss
{
    /// <summary>What a modality adds to the loss.</summary>
    /// <param name="images">[b, embedding], normalized</param>
    /// <param name="others">[b, embedding], normalized; row i belongs to image i</param>
    /// <param name="logScale">The logarithm of the scale, which counts as 100 where it is more.</param>
    /// <returns>A scalar: the sum of both mean cross-entropies.</returns>
    public static Tensor Of(Tensor images, Tensor others, Tensor logScale)
    {
        using var scope = NewDisposeScope();
        return (ContrastiveLoss.FromLogits(Logits(images, others, logScale)) * 2).MoveToOuterDisposeScope();
    }

    /// <summary>[images, others]</summary>
    public static Tensor Logits(Tensor images, Tensor others, Tensor logScale)
    {
        using var scope = NewDisposeScope();
        return new PairFeatures(images, others, logScale.exp().clamp(max: 100)).Logits().MoveToOuterDisposeScope();
    }
}
