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
    /// <summary>Similarities of tokens that are held at once: images are compared in blocks of so many products.</summary>
    const long BlockSize = 1 << 26;

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
        var (count, patches, words) = (images.shape[0], images.shape[1], texts.shape[1]);
        var mask = valid.to(ScalarType.Bool);
        var share = mask.to(texts.dtype) / mask.sum(1, keepdim: true);                                          // [texts, words]
        var hidden = zeros_like(share).masked_fill_(mask.logical_not(), double.NegativeInfinity);
        var all = texts.flatten(0, 1).t();                                                                      // [d, texts · words]
        var block = Math.Clamp(BlockSize / Math.Max(1, patches * texts.shape[0] * words), 1, count);
        var (toText, toImage) = (new List<Tensor>(), new List<Tensor>());
        for (var start = 0L; start < count; start += block)
        {
            using var inner = NewDisposeScope();
            var some = images.narrow(0, start, Math.Min(block, count - start));
            var similar = some.matmul(all).view(some.shape[0], patches, texts.shape[0], words);
            toText.Add((similar + hidden).amax([3]).mean([1]).MoveToOuterDisposeScope());
            toImage.Add((similar.amax([1]) * share).sum(-1).MoveToOuterDisposeScope());
        }
        return new(cat(toText).MoveToOuterDisposeScope(), cat(toImage).MoveToOuterDisposeScope());
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
