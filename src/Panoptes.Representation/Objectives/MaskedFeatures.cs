using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>
/// MVP (Wei et al. 2022, arXiv:2203.05175) and EVA (Fang et al. 2023, arXiv:2211.07636): where patches are masked, the features that a teacher such as
/// CLIP's image tower has there are predicted; minus the cosine.
/// </summary>
public sealed class MaskedFeatures : SampleObjective
{
    const double Eps = 1e-8;

    readonly MaskedFeaturesOptions options;
    readonly IImageTower teacher;
    readonly float[] scale, shift;

    internal MaskedFeatures(int width, Module teacher, float[] scale, float[] shift, MaskedFeaturesOptions options)
    {
        (this.options, this.scale, this.shift, Teacher) = (options, scale, shift, teacher);
        this.teacher = Towers.Of(teacher).Images;
        Head = new(width, this.teacher.EmbeddingSize);
    }

    /// <summary>From the tower's tokens to the teacher's features.</summary>
    public Linear Head { get; }

    /// <summary>Frozen, and no part of what is trained and kept.</summary>
    [NotAChild]
    public Module Teacher { get; }

    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var (tower, pixels) = ((IMaskedImageTower)towers.Images.Backbone, input.Images[0]);
        Tensor target;
        using (no_grad())
        {
            var seen = (pixels * tensor(scale).view(1, 3, 1, 1)) + tensor(shift).view(1, 3, 1, 1);                            // as the teacher's processor has it
            if (seen.shape[^1] != teacher.ImageSize) seen = nn.functional.interpolate(seen, size: [teacher.ImageSize, teacher.ImageSize], mode: InterpolationMode.Bicubic, align_corners: false);
            var tokens = teacher.EmbedTokens(teacher.Forward(seen).LastHiddenState);
            target = tokens.narrow(1, teacher.PrefixTokens, tokens.shape[1] - teacher.PrefixTokens);
        }
        var (count, patches) = (input.Count, (int)target.shape[1]);
        var side = (int)Math.Round(Math.Sqrt(patches));
        var mask = BlockwiseMask.Draw(count, side, side, Math.Max(1, (int)(patches * options.MaskRatio)), random, Math.Min(options.SmallestBlock, Math.Max(1, (int)(patches * options.MaskRatio))));
        var hidden = tower.Forward(pixels, mask).LastHiddenState;
        hidden = hidden.narrow(1, tower.PrefixTokens, hidden.shape[1] - tower.PrefixTokens);
        if (hidden.shape[1] != patches) throw new PanoptesException($"The tower has {hidden.shape[1]} patches and the teacher {patches}; expected as many, so that each can be told from the other.");
        return Of(Head.Forward(hidden).to(ScalarType.Float32), target.to(ScalarType.Float32), mask).MoveToOuterDisposeScope();
    }

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

    protected override void Dispose(bool disposing)
    {
        if (disposing) Teacher.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>MVP and EVA in a recipe; the image tower must be able to mask patches (ViTModel with a mask token, BEiT).</summary>
public sealed record MaskedFeaturesOptions : ObjectiveOptions
{
    /// <summary>The model whose image tower teaches: a folder, a file or a hub id.</summary>
    public required string Teacher { get; init; }

    /// <summary>The share of patches that is masked.</summary>
    public double MaskRatio { get; init; } = 0.4;

    /// <summary>The fewest patches of a masked rectangle.</summary>
    public int SmallestBlock { get; init; } = 4;

    public override Objective Create(ObjectiveSetting setting)
    {
        if (MaskRatio is not (> 0 and < 1)) throw new PanoptesException($"masked_features: mask_ratio is {MaskRatio}; expected between 0 and 1.");
        if (SmallestBlock < 1) throw new PanoptesException($"masked_features: smallest_block is {SmallestBlock}; expected 1 or more.");
        if (setting.Towers.Images.Backbone is not IMaskedImageTower tower) throw new PanoptesException($"masked_features needs an image tower whose patches can be masked, such as ViTModel or BeitModel; found a {setting.Towers.Images.Backbone.GetType().Name}.");
        var path = ModelFolder.Resolve(Teacher);
        var teacher = Models.Load(path, new() { Dtype = ScalarType.Float32 });
        try
        {
            teacher.RequiresGrad(false);
            var processor = ImageProcessor.Load(Directory.Exists(path) ? path : Path.GetDirectoryName(Path.GetFullPath(path))!);
            // From our normalization to the teacher's: x · std + mean, minus its mean, over its std.
            var (own, scale, shift) = (setting.Processor, new float[3], new float[3]);
            for (var c = 0; c < 3; c++) (scale[c], shift[c]) = (own.Std[c] / processor.Std[c], (own.Mean[c] - processor.Mean[c]) / processor.Std[c]);
            return new MaskedFeatures(tower.TokenSize, teacher, scale, shift, this);
        }
        catch
        {
            teacher.Dispose();
            throw;
        }
    }
}
