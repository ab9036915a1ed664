using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>
/// MVP (Wei et al. 2022, arXiv:2203.05175) and EVA (Fang et al. 2023, arXiv:2211.07636): where patches are masked, the features that a teacher such as
/// CLIP's image tower has there are predicted; minus the cosine.
/// </summary>
public sealed class MaskedFeatures : TaughtMasking
{
    const double Eps = 1e-8;

    readonly IImageTower teacher;

    internal MaskedFeatures(IMaskedImageTower tower, Module teacher, Renormalization view, MaskedFeaturesOptions options) : base(teacher, view, options)
    {
        this.teacher = Towers.Of(teacher).Images;
        if (tower is TimmEva eva) eva.MaskToken = MaskToken = new([eva.TokenSize], Init.Normal(0.02));
        Head = new(tower.TokenSize, this.teacher.EmbeddingSize);
    }

    /// <summary>What stands for masked patches in a tower whose files have no token for it (EVA's of timm); else null.</summary>
    public Parameter? MaskToken { get; }

    /// <summary>From the tower's tokens to the teacher's features.</summary>
    public Linear Head { get; }

    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var (tower, pixels) = ((IMaskedImageTower)towers.Images.Backbone, input.Images[0]);
        Tensor target;
        using (no_grad())
        {
            var tokens = teacher.EmbedTokens(teacher.Forward(Seen(pixels, teacher.ImageSize)).LastHiddenState);
            target = tokens.narrow(1, teacher.PrefixTokens, tokens.shape[1] - teacher.PrefixTokens);
        }
        var patches = target.shape[1];
        var mask = DrawMask(input.Count, (int)Math.Round(Math.Sqrt(patches)), random);
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
}

/// <summary>MVP and EVA in a recipe; the image tower must be able to mask patches (ViTModel with a mask token, BEiT, EVA).</summary>
public sealed record MaskedFeaturesOptions : TaughtMaskingOptions
{
    /// <summary>The model whose image tower teaches: a folder, a file or a hub id.</summary>
    public required string Teacher { get; init; }

    private protected override Objective Make(ObjectiveSetting setting)
    {
        if (setting.Towers.Images.Backbone is not IMaskedImageTower tower) throw new PanoptesException($"masked_features needs an image tower whose patches can be masked, such as ViTModel, BeitModel or Eva; found a {setting.Towers.Images.Backbone.GetType().Name}.");
        var path = ModelFolder.Resolve(Teacher);
        var teacher = Models.Load(path, new() { Dtype = ScalarType.Float32 });
        try
        {
            return new MaskedFeatures(tower, teacher, Renormalization.Between(setting.Processor, ImageProcessor.Load(ModelFolder.FolderOf(path))), this);
        }
        catch
        {
            teacher.Dispose();
            throw;
        }
    }
}
