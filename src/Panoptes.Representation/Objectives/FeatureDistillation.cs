namespace Panoptes.Representation.Objectives;

/// <summary>
/// The loss of MVP (Wei et al. 2022, arXiv:2203.05175) and EVA (Fang et al. 2023, arXiv:2211.07636): a teacher's features, such as CLIP's, are predicted
/// where patches are masked; minus the cosine.
/// </summary>
public static class FeatureDistillation
{
    const double Eps = 1e-8;

    /// <summary>The cosine at every patch, without a gradient to the teacher: [b, patches].</summary>
    public static Tensor Cosines(Tensor prediction, Tensor target)
    {
        using var scope = NewDisposeScope();
        return nn.functional.cosine_similarity(prediction, target.detach(), -1, Eps).MoveToOuterDisposeScope();
    }

    /// <summary>The mean over all masked patches of the batch.</summary>
    /// <param name="prediction">[b, patches, d]</param>
    /// <param name="target">[b, patches, d]</param>
    /// <param name="mask">[b, patches] bool, true where masked</param>
    public static Tensor Of(Tensor prediction, Tensor target, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var masked = mask.to(prediction.dtype);
        return (-(Cosines(prediction, target) * masked).sum() / masked.sum().clamp(min: 1)).MoveToOuterDisposeScope();
    }
}
