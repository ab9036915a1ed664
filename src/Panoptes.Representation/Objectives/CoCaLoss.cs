namespace Panoptes.Representation.Objectives;

/// <summary>The two parts of <see cref="CoCaLoss"/>, scalars with their gradients and weights; training minimizes their sum.</summary>
/// <param name="Contrastive">CLIP's loss of the embeddings.</param>
/// <param name="Caption">The mean cross-entropy of every token that is no padding.</param>
public sealed record CoCaLosses(Tensor Contrastive, Tensor Caption);

/// <summary>CoCa's loss (Yu et al. 2022, arXiv:2205.01917; open_clip's CoCaLoss): CLIP's, and the negative log-likelihood of the captions.</summary>
public sealed record CoCaLoss
{
    public double ContrastiveWeight { get; init; } = 1;

    public double CaptionWeight { get; init; } = 2;

    /// <summary>The label that counts as padding.</summary>
    public int PadId { get; init; }

    public CoCaLosses Losses(CoCaOutput output) => Losses(output.Pairs, output.Logits, output.Labels);

    /// <param name="pairs">The embeddings.</param>
    /// <param name="logits">[b, tokens, vocabulary]</param>
    /// <param name="labels">[b, tokens] int64: the token that each row of logits is to say</param>
    public CoCaLosses Losses(PairFeatures pairs, Tensor logits, Tensor labels)
    {
        using var scope = NewDisposeScope();
        var contrastive = ContrastiveLoss.FromLogits(pairs.Logits()) * ContrastiveWeight;
        return new(contrastive.MoveToOuterDisposeScope(), (Captioning(logits, labels) * CaptionWeight).MoveToOuterDisposeScope());
    }

    /// <summary>The caption's part without its weight.</summary>
    public Tensor Captioning(Tensor logits, Tensor labels)
    {
        using var scope = NewDisposeScope();
        var rows = logits.flatten(0, 1);
        if (rows.dtype is not (ScalarType.Float32 or ScalarType.Float64)) rows = rows.to(ScalarType.Float32);
        return nn.functional.cross_entropy(rows, labels.flatten(), ignore_index: PadId).MoveToOuterDisposeScope();
    }
}
