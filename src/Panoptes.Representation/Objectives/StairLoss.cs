namespace Panoptes.Representation.Objectives;

/// <summary>
/// STAIR (Chen et al. 2023, arXiv:2301.13081): images and texts as sparse, non-negative weights of the words of a vocabulary, so that every
/// dimension can be read. A contrast of inner products, and a price for dimensions that are used by many.
/// </summary>
public static class StairLoss
{
    /// <summary>log(1 + relu(W h + b)), the largest over the tokens: [b, vocabulary].</summary>
    /// <param name="hidden">[b, tokens, width]</param>
    /// <param name="weight">[vocabulary, width]</param>
    /// <param name="bias">[vocabulary]</param>
    /// <param name="valid">[b, tokens], false (or 0) where padding; null: all count.</param>
    public static Tensor Embed(Tensor hidden, Tensor weight, Tensor bias, Tensor? valid = null)
    {
        using var scope = NewDisposeScope();
        // log(1 + relu(x)) never falls, so that the largest can be taken first.
        var logits = Native.TorchOps.Linear(hidden, weight, bias);
        if (valid is not null) logits = logits.masked_fill(valid.to(ScalarType.Bool).logical_not().unsqueeze(-1), double.NegativeInfinity);
        return nn.functional.relu(logits.amax([1])).log1p().MoveToOuterDisposeScope();
    }

    /// <summary>The FLOPs regularizer (Paria et al. 2020, arXiv:2004.05665): the squares of every dimension's mean activation, summed.</summary>
    public static Tensor Flops(Tensor embeddings)
    {
        using var scope = NewDisposeScope();
        return embeddings.mean([0]).square().sum().MoveToOuterDisposeScope();
    }

    /// <summary>The symmetric cross-entropy of the inner products over the temperature.</summary>
    public static Tensor Contrastive(Tensor images, Tensor texts, double temperature)
    {
        using var scope = NewDisposeScope();
        return ContrastiveLoss.FromLogits(images.matmul(texts.t()) / temperature).MoveToOuterDisposeScope();
    }
}
