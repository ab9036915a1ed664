using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>BEiT (Bao et al. 2022, arXiv:2106.08254): where patches are masked, the visual tokens of an image tokenizer are told.</summary>
public sealed class MaskedTokens : TaughtMasking
{
    internal MaskedTokens(Module tokenizer, ImageProcessor processor, MaskedTokensOptions options) : base(tokenizer, Renormalization.Undo(processor), options) { }

    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var (beit, tokenizer, pixels) = ((BeitForMaskedImageModeling)towers.Images.Backbone, (IImageTokenizer)Teacher, input.Images[0]);
        var side = beit.Beit.Config.Side;
        Tensor labels;
        using (no_grad()) labels = tokenizer.Tokenize(Seen(pixels, side * tokenizer.PixelsPerToken).clamp(0, 1));       // one token a patch
        return beit.Loss(pixels, DrawMask(input.Count, side, random), labels).MoveToOuterDisposeScope();
    }
}

/// <summary>BEiT in a recipe; the image tower must be a BeitForMaskedImageModeling of the tokenizer's vocabulary.</summary>
public sealed record MaskedTokensOptions : TaughtMaskingOptions
{
    /// <summary>The model that gives visual tokens: a folder, a file or a hub id.</summary>
    public required string Tokenizer { get; init; }

    private protected override Objective Make(ObjectiveSetting setting)
    {
        if (setting.Towers.Images.Backbone is not BeitForMaskedImageModeling beit) throw new PanoptesException($"masked_tokens needs a BeitForMaskedImageModeling; found a {setting.Towers.Images.Backbone.GetType().Name}.");
        var tokenizer = Models.Load(ModelFolder.Resolve(Tokenizer), new() { Dtype = ScalarType.Float32 });
        try
        {
            if (tokenizer is not IImageTokenizer images) throw new PanoptesException($"{Tokenizer} holds a {tokenizer.GetType().Name}; expected an image tokenizer.");
            if (images.VocabularySize != beit.Beit.Config.VocabSize) throw new PanoptesException($"{Tokenizer} has {images.VocabularySize} visual tokens, but the model's vocab_size is {beit.Beit.Config.VocabSize}; set it to {images.VocabularySize}.");
            return new MaskedTokens(tokenizer, setting.Processor, this);
        }
        catch
        {
            tokenizer.Dispose();
            throw;
        }
    }
}
