namespace Panoptes.Understanding;

/// <summary>The parts of the loss of things that were asked for, a scalar each.</summary>
/// <param name="Match">Cross-entropy of choosing the query that fits best.</param>
/// <param name="Mask">Cross-entropy of its mask, a mean over points and things.</param>
/// <param name="Dice">1 - dice of its mask, a mean over things.</param>
/// <param name="Total">The weighted sum.</param>
/// <param name="Queries">[n] int64: the query that fits best.</param>
public sealed record PromptedLosses(Tensor Match, Tensor Mask, Tensor Dice, Tensor Total, Tensor Queries);

/// <summary>
/// The loss of models in which one of many queries answers a prompt (X-Decoder's referring segmentation, SEEM): of the queries of each prompt the one is taken whose mask and likeness to
/// the prompt fit best; its mask is made better, and the prompt is to choose it.
/// </summary>
public static class PromptedLoss
{
    /// <param name="similarity">[n, queries]: logits of choosing each query</param>
    /// <param name="masks">[n, queries, rows, columns] logits</param>
    /// <param name="wanted">[n, height, width], 0 or 1: the thing that each prompt means</param>
    /// <param name="options">Weights (class: of choosing) and the number of points.</param>
    /// <param name="generator">Draws the points; null: libtorch's own.</param>
    /// <exception cref="PanoptesException">Not as many things as prompts.</exception>
    public static PromptedLosses Of(Tensor similarity, Tensor masks, Tensor wanted, MaskLossOptions? options = null, Generator? generator = null)
    {
        options ??= new();
        var (n, queries) = (masks.shape[0], masks.shape[1]);
        if (wanted.shape[0] != n || similarity.shape[0] != n || similarity.shape[1] != queries)
            throw new PanoptesException($"Similarities [{string.Join(", ", similarity.shape)}] and {wanted.shape[0]} things were given for masks [{string.Join(", ", masks.shape)}]; expected one thing a prompt and one similarity a mask.");
        using var scope = NewDisposeScope();
        var (logits, truth) = (masks.to(ScalarType.Float32), wanted.to(ScalarType.Float32));
        var best = Choose(similarity, logits, truth, options, generator);
        var chosen = SeemPrompts.Pick(logits, best);                                            // [n, rows, columns]
        var points = MaskLoss.Points(chosen, options, generator);
        var (told, right) = (MaskLoss.Sample(chosen, points), MaskLoss.Sample(truth, points));
        var match = nn.functional.cross_entropy(similarity.to(ScalarType.Float32), best);
        var (mask, dice) = (MaskLoss.CrossEntropy(told, right, n), MaskLoss.Dice(told, right, n));
        var total = options.ClassWeight * match + options.MaskWeight * mask + options.DiceWeight * dice;
        return new(match.MoveToOuterDisposeScope(), mask.MoveToOuterDisposeScope(), dice.MoveToOuterDisposeScope(), total.MoveToOuterDisposeScope(), best.MoveToOuterDisposeScope());
    }

    /// <summary>The query of each prompt that costs least.</summary>
    static Tensor Choose(Tensor similarity, Tensor masks, Tensor wanted, MaskLossOptions options, Generator? generator)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var (n, queries) = (masks.shape[0], masks.shape[1]);
        var points = rand([1, options.Points, 2], generator: generator).to(masks.device);
        var told = MaskLoss.Sample(masks.detach().flatten(0, 1), points).view(n, queries, -1);
        var right = MaskLoss.Sample(wanted, points).unsqueeze(1);                               // [n, 1, points]
        var ofMask = nn.functional.softplus(told).sub(told * right).mean([-1]);
        var chance = told.sigmoid();
        var ofDice = 1 - (((2 * (chance * right).sum(-1)) + 1) / (chance.sum(-1) + right.sum(-1) + 1));
        var cost = (options.MaskWeight * ofMask) + (options.DiceWeight * ofDice) - (options.ClassWeight * similarity.detach().to(ScalarType.Float32).softmax(-1));
        return cost.nan_to_num(float.MaxValue, float.MaxValue, float.MaxValue).argmin(1).MoveToOuterDisposeScope();
    }
}
