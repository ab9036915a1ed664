namespace Panoptes.Representation.Objectives;

/// <summary>The two parts of <see cref="DistillationLoss"/>, scalars with their gradients; training minimizes their sum.</summary>
/// <param name="Contrastive">CLIP's loss of the student alone.</param>
/// <param name="Distillation">The cross-entropy of the student's choices against the teacher's, the mean of both directions.</param>
public sealed record DistillationLosses(Tensor Contrastive, Tensor Distillation);

/// <summary>
/// CLIP's loss, and a teacher's choices in the same batch as soft targets (open_clip's DistillClipLoss). The gradient reaches the
/// teacher as well where its features have one.
/// </summary>
public static class DistillationLoss
{
    public static DistillationLosses Losses(PairFeatures student, PairFeatures teacher)
    {
        using var scope = NewDisposeScope();
        var (own, taught) = (student.Logits(), teacher.Logits());
        var distillation = (Soft(own, taught, 1) + Soft(own, taught, 0)) / 2;
        return new(ContrastiveLoss.FromLogits(own).MoveToOuterDisposeScope(), distillation.MoveToOuterDisposeScope());
    }

    static Tensor Soft(Tensor own, Tensor taught, int dimension) =>
        -(taught.softmax(dimension) * own.log_softmax(dimension)).sum(dimension).mean();
}
