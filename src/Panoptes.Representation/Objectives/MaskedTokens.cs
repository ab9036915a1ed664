using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>BEiT (Bao et al. 2022, arXiv:2106.08254): where patches are masked, the visual tokens of an image tokenizer are told.</summary>
public sealed class MaskedTokens : SampleObjective
{
    readonly MaskedTokensOptions options;
    readonly float[] mean, std;

    internal MaskedTokens(Module tokenizer, float[] mean, float[] std, MaskedTokensOptions options) =>
        (this.options, this.mean, this.std, Tokenizer) = (options, mean, std, tokenizer);

    /// <summary>Frozen, and no part of what is trained and kept.</summary>
    [NotAChild]
    public Module Tokenizer { get; }

    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var (beit, tokenizer, pixels) = ((BeitForMaskedImageModeling)towers.Images.Backbone, (IImageTokenizer)Tokenizer, input.Images[0]);
        var side = beit.Beit.Config.Side;
        Tensor labels;
        using (no_grad())
        {
            var images = (pixels * tensor(std).view(1, 3, 1, 1)) + tensor(mean).view(1, 3, 1, 1);
            var size = side * tokenizer.PixelsPerToken;                                                  // one token a patch
            if (images.shape[^1] != size) images = nn.functional.interpolate(images, size: [size, size], mode: InterpolationMode.Bicubic, align_corners: false);
            labels = tokenizer.Tokenize(images.clamp(0, 1));
        }
        var count = Math.Max(1, (int)(side * side * options.MaskRatio));
        var mask = BlockwiseMask.Draw(input.Count, side, side, count, random, Math.Min(options.SmallestBlock, count));
        return beit.Loss(pixels, mask, labels).MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) Tokenizer.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>BEiT in a recipe; the image tower must be a BeitForMaskedImageModeling of the tokenizer's vocabulary.</summary>
public sealed record MaskedTokensOptions : ObjectiveOptions
{
    /// <summary>The model that gives visual tokens: a folder, a file or a hub id.</summary>
    public required string Tokenizer { get; init; }

    /// <summary>The share of patches that is masked.</summary>
    public double MaskRatio { get; init; } = 0.4;

    /// <summary>The fewest patches of a masked rectangle.</summary>
    public int SmallestBlock { get; init; } = 4;

    public override Objective Create(ObjectiveSetting setting)
    {
        if (MaskRatio is not (> 0 and < 1)) throw new PanoptesException($"masked_tokens: mask_ratio is {MaskRatio}; expected between 0 and 1.");
        if (SmallestBlock < 1) throw new PanoptesException($"masked_tokens: smallest_block is {SmallestBlock}; expected 1 or more.");
        if (setting.Towers.Images.Backbone is not BeitForMaskedImageModeling beit) throw new PanoptesException($"masked_tokens needs a BeitForMaskedImageModeling; found a {setting.Towers.Images.Backbone.GetType().Name}.");
        var tokenizer = Models.Load(ModelFolder.Resolve(Tokenizer), new() { Dtype = ScalarType.Float32 });
        try
        {
            if (tokenizer is not IImageTokenizer images) throw new PanoptesException($"{Tokenizer} holds a {tokenizer.GetType().Name}; expected an image tokenizer.");
            if (images.VocabularySize != beit.Beit.Config.VocabSize) throw new PanoptesException($"{Tokenizer} has {images.VocabularySize} visual tokens, but the model's vocab_size is {beit.Beit.Config.VocabSize}; set it to {images.VocabularySize}.");
            tokenizer.RequiresGrad(false);
            return new MaskedTokens(tokenizer, [.. setting.Processor.Mean], [.. setting.Processor.Std], this);
        }
        catch
        {
            tokenizer.Dispose();
            throw;
        }
    }
}
