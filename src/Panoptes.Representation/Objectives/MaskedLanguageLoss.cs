using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>
/// Masked language modeling (Devlin et al. 2019, arXiv:1810.04805) on the text tower, as DeCLIP supervises texts by themselves: of a
/// share of the words, eight in ten are hidden, one becomes another and one stays; the tower's tokens tell which they were.
/// </summary>
/// <remarks>
/// A causal tower sees only the words before a masked one. CLIP's vocabulary has no mask token: the start token, which stands nowhere else
/// but at the start, hides a word.
/// </remarks>
public sealed class MaskedLanguageLoss : SampleObjective
{
    readonly MaskedLanguageOptions options;
    readonly int vocabulary;

    internal MaskedLanguageLoss(int width, int vocabulary, MaskedLanguageOptions options)
    {
        (this.options, this.vocabulary) = (options, vocabulary);
        Transform = new(width, width);
        Norm = new(width);
        Decoder = new(width, vocabulary);
    }

    public Linear Transform { get; }

    public LayerNorm Norm { get; }

    public Linear Decoder { get; }

    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var (ids, lengths) = (input.Ids[0], input.Lengths?[0] ?? throw new PanoptesException("Masked words need to know where texts end."));
        var (masked, labels) = Mask(ids, lengths, random);
        var tokens = towers.Texts!.Forward(masked).LastHiddenState;
        var chosen = labels.ge(0);
        if (chosen.sum().item<long>() == 0) return (tokens.sum() * 0).MoveToOuterDisposeScope();
        var index = chosen.flatten().nonzero().squeeze(1);
        var hidden = Norm.Forward(Transform.Forward(tokens.flatten(0, 1).index_select(0, index), Activation.Gelu));
        return Of(Decoder.Forward(hidden).to(ScalarType.Float32), labels.flatten().index_select(0, index)).MoveToOuterDisposeScope();
    }

    /// <summary>The mean cross-entropy over the labels that are not -100.</summary>
    /// <param name="logits">[words, vocabulary]</param>
    /// <param name="labels">[words] int64</param>
    public static Tensor Of(Tensor logits, Tensor labels) => nn.functional.cross_entropy(logits, labels, ignore_index: -100);

    /// <returns>The ids with some words masked, and what stood there, -100 elsewhere.</returns>
    (Tensor Ids, Tensor Labels) Mask(Tensor ids, Tensor lengths, Generator random)
    {
        // Neither the start nor the end nor the padding.
        var words = PairInput.Valid(lengths - 1, ids.shape[1]);
        words.narrow(1, 0, 1).zero_();
        var chosen = rand(ids.shape, generator: random).lt(options.MaskRatio).logical_and_(words);
        var how = rand(ids.shape, generator: random);
        var others = randint(0, vocabulary - 2, ids.shape, dtype: ScalarType.Int64, generator: random);
        var masked = where(chosen.logical_and(how.lt(0.8)), ids.narrow(1, 0, 1), where(chosen.logical_and(how.ge(0.9)), others, ids));
        return (masked, where(chosen, ids, full_like(ids, -100)));
    }
}

/// <summary>Masked words in a recipe, on the text tower.</summary>
public sealed record MaskedLanguageOptions : ObjectiveOptions
{
    /// <summary>The share of words that are to be told.</summary>
    public double MaskRatio { get; init; } = 0.15;

    public override Objective Create(ObjectiveSetting setting)
    {
        if (MaskRatio is not (> 0 and < 1)) throw new PanoptesException($"masked_language: mask_ratio is {MaskRatio}; expected between 0 and 1.");
        var texts = setting.Towers.Texts ?? throw new PanoptesException("masked_language needs a text tower.");
        return new MaskedLanguageLoss(texts.TokenSize, texts.VocabularySize, this);
    }
}
