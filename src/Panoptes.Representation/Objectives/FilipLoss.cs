using Panoptes.Native;

namespace Panoptes.Representation.Objectives;

/// <summary>How alike images and texts are by their tokens, both as [images, texts].</summary>
/// <param name="ImageToText">The mean over an image's patches of the most similar word.</param>
/// <param name="TextToImage">The mean over a text's words of the most similar patch.</param>
public sealed record TokenSimilarities(Tensor ImageToText, Tensor TextToImage);

/// <summary>
/// FILIP (Yao et al. 2022, arXiv:2111.07783): late interaction of tokens. Every patch finds its best word and every word its best patch; an
/// image is as like a text as its patches are on the average, and the other way round.
/// </summary>
public sealed class FilipLoss : FeatureObjective
{
    /// <summary>Similarities of tokens that are held at once: images are compared in blocks of so many products, which stay in memory that the processor has at hand.</summary>
    const long BlockSize = 1 << 22;

    public override IReadOnlyList<Feature> Needs { get; } = [Feature.ImageTokens(), Feature.TextTokens()];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        var (images, texts) = (PatchesOf(features.Towers, features[Feature.ImageTokens()]), WordsOf(features.Towers, features[Feature.TextTokens()]));
        var length = features.Input.Lengths?[0] ?? throw new PanoptesException("FILIP compares words and needs to know where texts end.");
        return Of(Similarities(images, texts, PairInput.Valid(length, texts.shape[1])), features.Scale).MoveToOuterDisposeScope();
    }

    /// <summary>The patches in the shared space, each of length 1: [b, patches, embedding].</summary>
    public static Tensor PatchesOf(Towers towers, Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var prefix = towers.Images.PrefixTokens;
        return DualEncoder.Normalize(towers.Images.EmbedTokens(tokens.narrow(1, prefix, tokens.shape[1] - prefix))).MoveToOuterDisposeScope();
    }

    /// <summary>The words in the shared space, each of length 1: [b, tokens, embedding].</summary>
    public static Tensor WordsOf(Towers towers, Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return DualEncoder.Normalize(towers.Texts!.EmbedTokens(tokens)).MoveToOuterDisposeScope();
    }

    /// <param name="images">[images, patches, d], each of length 1</param>
    /// <param name="texts">[texts, words, d], each of length 1</param>
    /// <param name="valid">[texts, words], false (or 0) where padding</param>
    public static TokenSimilarities Similarities(Tensor images, Tensor texts, Tensor valid)
    {
        using var scope = NewDisposeScope();
        var mask = valid.to(ScalarType.Bool);
        var both = is_grad_enabled() ? Nearest.apply(images, texts, mask) : Nearest.Of(images, texts, mask, Autocast.Dtype ?? images.dtype).Means;
        return new(both[0].MoveToOuterDisposeScope(), both[1].MoveToOuterDisposeScope());
    }

    /// <summary>
    /// The means of the largest similarities, block by block: what all patches and all words have to do with each other is in memory for a few images at a time, and on the way back
    /// only who found whom is known, from which two products give all gradients.
    /// </summary>
    sealed class Nearest : autograd.SingleTensorFunction<Nearest>
    {
        public override string Name => nameof(FilipLoss);

        static long Block(Tensor images, Tensor texts) => Math.Clamp(BlockSize / Math.Max(1, images.shape[1] * texts.shape[0] * texts.shape[1]), 1, images.shape[0]);

        /// <summary>What means are computed in.</summary>
        static ScalarType Wide(ScalarType dtype) => dtype is ScalarType.BFloat16 or ScalarType.Float16 ? ScalarType.Float32 : dtype;

        /// <summary>The share of each of a text's words: [texts, words], 0 for padding.</summary>
        static Tensor Shares(Tensor mask, ScalarType dtype) => mask.to(Wide(dtype)) / mask.sum(1, keepdim: true);

        /// <returns>[2, images, texts]: by patches and by words; each patch's word [images, patches, texts]; and each word's patch [images, texts, words].</returns>
        internal static (Tensor Means, Tensor Words, Tensor Patches) Of(Tensor images, Tensor texts, Tensor mask, ScalarType dtype)
        {
            using var scope = NewDisposeScope();
            var (count, patches, words, block) = (images.shape[0], images.shape[1], texts.shape[1], Block(images, texts));
            var share = Shares(mask, dtype);
            var hidden = zeros_like(share, dtype).masked_fill_(mask.logical_not(), double.NegativeInfinity);
            var all = texts.to(dtype).flatten(0, 1).t();                                                        // [d, texts · words]
            var (means, ofPatches, ofWords) = (new List<Tensor>(), new List<Tensor>(), new List<Tensor>());
            for (var start = 0L; start < count; start += block)
            {
                using var inner = NewDisposeScope();
                var some = images.narrow(0, start, Math.Min(block, count - start)).to(dtype);
                var similar = some.matmul(all).view(some.shape[0], patches, texts.shape[0], words);
                var (byWord, patch) = similar.max(1);                                                           // [block, texts, words]
                var (byPatch, word) = similar.add_(hidden).max(3);                                              // [block, patches, texts]
                means.Add(stack([byPatch.to(share.dtype).mean([1]), (byWord * share).sum(-1)]).MoveToOuterDisposeScope());
                ofPatches.Add(word.MoveToOuterDisposeScope());
                ofWords.Add(patch.MoveToOuterDisposeScope());
            }
            return (cat(means, 1).MoveToOuterDisposeScope(), cat(ofPatches).MoveToOuterDisposeScope(), cat(ofWords).MoveToOuterDisposeScope());
        }

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (images, texts, mask) = ((Tensor)vars[0], (Tensor)vars[1], (Tensor)vars[2]);
            var dtype = Autocast.Dtype ?? images.dtype;
            var (means, words, patches) = Of(images, texts, mask, dtype);
            ctx.save_for_backward([images, texts, mask, words, patches]);
            ctx.save_data(nameof(Autocast), dtype);
            return means;
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad)
        {
            using var scope = NewDisposeScope();
            var saved = ctx.get_saved_variables();
            var (images, texts, mask, words, patches) = (saved[0], saved[1], saved[2], saved[3], saved[4]);
            var dtype = (ScalarType)ctx.get_data(nameof(Autocast));
            var (count, places, length, block) = (images.shape[0], images.shape[1], texts.shape[1], Block(images, texts));
            var all = texts.to(dtype).flatten(0, 1);                                                            // [texts · words, d]
            var (ofPatches, ofWords) = ((grad[0] / places).to(dtype), (grad[1].unsqueeze(-1) * Shares(mask, dtype)).to(dtype));
            var (ofImages, ofTexts) = (zeros_like(images), zeros_like(all, Wide(dtype)));
            var found = empty([block, places, texts.shape[0], length], dtype, images.device);                   // the gradient of every product, nearly all 0
            for (var start = 0L; start < count; start += block)
            {
                using var inner = NewDisposeScope();
                var size = Math.Min(block, count - start);
                var each = found.narrow(0, 0, size).zero_();
                each.scatter_(3, words.narrow(0, start, size).unsqueeze(3), ofPatches.narrow(0, start, size).unsqueeze(1).unsqueeze(3).expand(size, places, texts.shape[0], 1));
                each.scatter_add_(1, patches.narrow(0, start, size).unsqueeze(1), ofWords.narrow(0, start, size).unsqueeze(1));
                var flat = each.view(size * places, -1);
                ofImages.narrow(0, start, size).copy_(flat.matmul(all).view(size, places, -1));
                ofTexts.add_(flat.t().matmul(images.narrow(0, start, size).to(dtype).flatten(0, 1)));
            }
            return [ofImages.MoveToOuterDisposeScope(), ofTexts.view_as(texts).to(texts.dtype).MoveToOuterDisposeScope(), null!];
        }
    }

    /// <summary>Every image picks its text by the one and every text its image by the other; the mean of both cross-entropies.</summary>
    public static Tensor Of(TokenSimilarities similarities, Tensor scale)
    {
        using var scope = NewDisposeScope();
        return ((OfImages(similarities, scale) + OfTexts(similarities, scale)) / 2).MoveToOuterDisposeScope();
    }

    /// <summary>The images' half.</summary>
    public static Tensor OfImages(TokenSimilarities similarities, Tensor scale)
    {
        using var scope = NewDisposeScope();
        return ContrastiveLoss.OneWay(similarities.ImageToText * scale, 1).MoveToOuterDisposeScope();
    }

    /// <summary>The texts' half.</summary>
    public static Tensor OfTexts(TokenSimilarities similarities, Tensor scale)
    {
        using var scope = NewDisposeScope();
        return ContrastiveLoss.OneWay(similarities.TextToImage * scale, 0).MoveToOuterDisposeScope();
    }
}

/// <summary>FILIP in a recipe.</summary>
public sealed record FilipOptions : ObjectiveOptions
{
    public override Objective Create(ObjectiveSetting setting) => new FilipLoss();
}
