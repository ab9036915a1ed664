namespace Panoptes.Representation.Objectives;

/// <summary>
/// Self-distillation without labels: DINO's loss between views (Caron et al. 2021, arXiv:2104.14294) and iBOT's between the masked and the
/// unmasked patches of one view (Zhou et al. 2022, arXiv:2111.07832), which DINOv2 adds up.
/// </summary>
public static class DinoLoss
{
    /// <summary>
    /// Every view of the student agrees with every other view of the teacher: the mean over the batch, then over the pairs of views.
    /// </summary>
    /// <param name="student">[views, b, dimensions]; the teacher's views come first.</param>
    /// <param name="teacher">[teacher's views, b, dimensions]; gets no gradient.</param>
    /// <param name="center">[dimensions], taken from the teacher's so that no dimension always wins.</param>
    public static Tensor BetweenViews(Tensor student, Tensor teacher, Tensor center, double studentTemperature, double teacherTemperature)
    {
        using var scope = NewDisposeScope();
        var target = ((teacher.detach() - center) / teacherTemperature).softmax(-1);
        var guess = (student / studentTemperature).log_softmax(-1);
        var (teachers, students, batch) = (target.shape[0], guess.shape[0], guess.shape[1]);
        var pairs = -target.flatten(1).matmul(guess.flatten(1).t()) / batch;                                 // [teachers, students]
        var same = eye(teachers, students, dtype: ScalarType.Bool, device: pairs.device);
        return (pairs.masked_fill(same, 0).sum() / ((teachers * students) - Math.Min(teachers, students))).MoveToOuterDisposeScope();
    }

    /// <summary>The student, which sees masked patches, agrees there with the teacher: the mean over an image's masked patches, then over images.</summary>
    /// <param name="student">[b, patches, dimensions]</param>
    /// <param name="teacher">[b, patches, dimensions]; gets no gradient.</param>
    /// <param name="mask">[b, patches] bool, true where masked</param>
    /// <param name="center">[dimensions]</param>
    public static Tensor OfMaskedPatches(Tensor student, Tensor teacher, Tensor mask, Tensor center, double studentTemperature, double teacherTemperature)
    {
        using var scope = NewDisposeScope();
        var target = ((teacher.detach() - center) / teacherTemperature).softmax(-1);
        var each = -(target * (student / studentTemperature).log_softmax(-1)).sum(-1);
        var masked = mask.to(each.dtype);
        return ((each * masked).sum(-1) / masked.sum(-1).clamp(min: 1)).mean().MoveToOuterDisposeScope();
    }

    /// <summary>The center after a batch: it follows the mean of all of the teacher's outputs.</summary>
    public static Tensor NewCenter(Tensor center, Tensor teacher, double momentum)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return ((center * momentum) + (teacher.flatten(0, -2).mean([0]) * (1 - momentum))).MoveToOuterDisposeScope();
    }
}
