using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>
/// BEiT-3's only pretraining task (Wang et al. 2022, arXiv:2208.10442): what is masked of images, of texts and of pairs is told. A third of every batch
/// serves as each. Of images the masked patches' visual tokens are told or, without an image tokenizer, their pixels, normalized by patch.
/// Keys: pixel_head (where pixels are told).
/// </summary>
public sealed class MaskedData : SampleObjective
{
    readonly MaskedDataOptions options;
    readonly float[] scale, shift;

    internal MaskedData(Beit3Config config, Module? tokenizer, ImageProcessor processor, MaskedDataOptions options)
    {
        (this.options, Tokenizer, scale, shift) = (options, tokenizer, [.. processor.Std], [.. processor.Mean]);
        if (tokenizer is null) PixelHead = new(config.EncoderEmbedDim, config.PatchSize * config.PatchSize * config.InChans);
        else tokenizer.RequiresGrad(false);
    }

    /// <summary>Gives visual tokens; frozen, and no part of what is trained and kept.</summary>
    [NotAChild]
    public Module? Tokenizer { get; }

    public Linear? PixelHead { get; }

    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var model = (Beit3ForPretraining)towers.Model;
        var (third, sum) = (input.Count / 3, zeros([]));
        if (third > 0)
        {
            sum = sum + OfImages(model, input.Piece(0, third), random);
            sum = sum + OfTexts(model, input.Piece(third, third), random);
        }
        return (sum + OfPairs(model, input.Piece(2 * third, input.Count - (2 * third)), random)).MoveToOuterDisposeScope();
    }

    Tensor OfImages(Beit3ForPretraining model, PairInput part, Generator random)
    {
        var masked = DrawMask(model.Config, part.Count, random);
        return OfPatches(model, model.Beit3.Forward(part.Images[0], masked: masked).Tokens, part.Images[0], masked);
    }

    Tensor OfTexts(Beit3ForPretraining model, PairInput part, Generator random)
    {
        var (ids, masked) = MaskedWords.Hide(part.Ids[0], part.Lengths![0], options.TextRatio, random, mask: model.Config.MaskTokenId);
        return model.TextLoss(ids, masked, part.Ids[0], part.Masks?[0]);
    }

    Tensor OfPairs(Beit3ForPretraining model, PairInput part, Generator random)
    {
        var patches = DrawMask(model.Config, part.Count, random);
        var (ids, words) = MaskedWords.Hide(part.Ids[0], part.Lengths![0], options.PairedTextRatio, random, mask: model.Config.MaskTokenId);
        var (tokens, images, _) = model.Beit3.Forward(part.Images[0], ids, part.Masks?[0], patches);
        return OfPatches(model, tokens, part.Images[0], patches) + Beit3ForPretraining.OfMasked(tokens.narrow(1, images, ids.shape[1]), words, part.Ids[0], model.MlmHead);
    }

    Tensor DrawMask(Beit3Config config, int count, Generator random)
    {
        var side = config.ImgSize / config.PatchSize;
        return BlockwiseMask.Draw(count, side, side, Math.Max(1, (int)(side * side * options.MaskRatio)), random, options.SmallestBlock);
    }

    /// <param name="model">What is trained.</param>
    /// <param name="tokens">[b, 1 + patches + ..., width]: the class token, the patches, maybe a text</param>
    /// <param name="pixels">[b, 3, size, size]</param>
    /// <param name="masked">[b, patches] bool</param>
    Tensor OfPatches(Beit3ForPretraining model, Tensor tokens, Tensor pixels, Tensor masked)
    {
        var config = model.Config;
        var (patches, side) = (tokens.narrow(1, 1, masked.shape[1]), config.ImgSize / config.PatchSize);
        if (Tokenizer is IImageTokenizer tokenizer)
        {
            Tensor labels;
            using (no_grad())
            {
                var seen = (pixels * tensor(scale).view(1, 3, 1, 1)) + tensor(shift).view(1, 3, 1, 1);
                var size = side * tokenizer.PixelsPerToken;                                       // one token a patch
                if (seen.shape[^1] != size) seen = nn.functional.interpolate(seen, size: [size, size], mode: InterpolationMode.Bicubic, align_corners: false);
                labels = tokenizer.Tokenize(seen.clamp(0, 1));
            }
            return Beit3ForPretraining.OfMasked(patches, masked, labels, model.MimHead);
        }
        var rows = masked.flatten().nonzero().squeeze(1);
        var p = config.PatchSize;
        var cut = pixels.reshape(-1, config.InChans, side, p, side, p).permute(0, 2, 4, 3, 5, 1).reshape(-1, p * p * config.InChans).index_select(0, rows);
        cut = (cut - cut.mean([1], keepdim: true)) / (cut.var(1, keepdim: true) + 1e-6).sqrt();
        var told = PixelHead!.Forward(patches.reshape(-1, patches.shape[2]).index_select(0, rows)).to(ScalarType.Float32);
        return (told - cut).square().mean();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) Tokenizer?.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>Masked data modelling in a recipe; the model must be a BEiT3ForPretraining.</summary>
public sealed record MaskedDataOptions : ObjectiveOptions
{
    /// <summary>The model that gives visual tokens: a folder, a file or a hub id; null: the pixels of masked patches are told instead.</summary>
    public string? Tokenizer { get; init; }

    /// <summary>The share of patches that is masked.</summary>
    public double MaskRatio { get; init; } = 0.4;

    /// <summary>The fewest patches of a masked rectangle.</summary>
    public int SmallestBlock { get; init; } = 4;

    /// <summary>The share of words that is masked in texts alone.</summary>
    public double TextRatio { get; init; } = 0.15;

    /// <summary>The share of words that is masked in pairs.</summary>
    public double PairedTextRatio { get; init; } = 0.5;

    public override Objective Create(ObjectiveSetting setting)
    {
        foreach (var (name, ratio) in (ReadOnlySpan<(string, double)>)[("mask_ratio", MaskRatio), ("text_ratio", TextRatio), ("paired_text_ratio", PairedTextRatio)])
            if (ratio is not (> 0 and < 1)) throw new PanoptesException($"masked_data: {name} is {ratio}; expected between 0 and 1.");
        if (SmallestBlock < 1) throw new PanoptesException($"masked_data: smallest_block is {SmallestBlock}; expected 1 or more.");
        if (setting.Towers.Model is not Beit3ForPretraining model) throw new PanoptesException($"masked_data needs a BEiT3ForPretraining; found a {setting.Towers.Model.GetType().Name}.");
        if (Tokenizer is null)
        {
            model.MimHead.RequiresGrad(false);                                                 // tells visual tokens, of which there are none
            return new MaskedData(model.Config, null, setting.Processor, this);
        }
        var tokenizer = Models.Load(ModelFolder.Resolve(Tokenizer), new() { Dtype = ScalarType.Float32 });
        try
        {
            if (tokenizer is not IImageTokenizer images) throw new PanoptesException($"{Tokenizer} holds a {tokenizer.GetType().Name}; expected an image tokenizer.");
            if (images.VocabularySize != model.Config.VisualVocabSize) throw new PanoptesException($"{Tokenizer} has {images.VocabularySize} visual tokens, but the model's visual_vocab_size is {model.Config.VisualVocabSize}; set it to {images.VocabularySize}.");
            return new MaskedData(model.Config, tokenizer, setting.Processor, this);
        }
        catch
        {
            tokenizer.Dispose();
            throw;
        }
    }
}
