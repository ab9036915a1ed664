using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>What objectives share in which a frozen model says what is under the masked patches.</summary>
public abstract class TaughtMasking : SampleObjective
{
    readonly TaughtMaskingOptions options;
    readonly Renormalization view;

    /// <param name="teacher">In float32; frozen, and disposed with this object.</param>
    /// <param name="view">From the batch's pixels to the teacher's.</param>
    /// <param name="options">How much is masked.</param>
    private protected TaughtMasking(Module teacher, Renormalization view, TaughtMaskingOptions options)
    {
        (Teacher, this.view, this.options) = (teacher, view, options);
        teacher.RequiresGrad(false);
    }

    /// <summary>Frozen, and no part of what is trained and kept.</summary>
    [NotAChild]
    public Module Teacher { get; }

    /// <summary>The batch's pixels as the teacher takes them: in its normalization and its size.</summary>
    private protected Tensor Seen(Tensor pixels, int size) => view.Apply(pixels, size);

    /// <summary>Masked rectangles of a square of patches: [batch, side · side] bool.</summary>
    private protected Tensor DrawMask(int batch, int side, Generator random) =>
        BlockwiseMask.Draw(batch, side, side, Math.Max(1, (int)(side * side * options.MaskRatio)), random, options.SmallestBlock);

    protected override void Dispose(bool disposing)
    {
        if (disposing) Teacher.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>How much is masked.</summary>
public abstract record TaughtMaskingOptions : ObjectiveOptions
{
    /// <summary>The share of patches that is masked.</summary>
    public double MaskRatio { get; init; } = 0.4;

    /// <summary>The fewest patches of a masked rectangle.</summary>
    public int SmallestBlock { get; init; } = 4;

    public sealed override Objective Create(ObjectiveSetting setting)
    {
        if (MaskRatio is not (> 0 and < 1)) throw new PanoptesException($"{Name}: mask_ratio is {MaskRatio}; expected between 0 and 1.");
        if (SmallestBlock < 1) throw new PanoptesException($"{Name}: smallest_block is {SmallestBlock}; expected 1 or more.");
        return Make(setting);
    }

    private protected abstract Objective Make(ObjectiveSetting setting);
}
