namespace Panoptes.Representation.Objectives;

/// <summary>Words hidden for a bidirectional model to tell. CLIP's vocabulary has no mask token: the start token, which stands nowhere else, hides a word there.</summary>
public static class MaskedWords
{
    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="lengths">[b] int64: a text's own tokens, start and end among them</param>
    /// <param name="ratio">The share of the words that is hidden; at least one of every text is.</param>
    /// <param name="random">Draws which.</param>
    /// <param name="withEnd">Whether the end of a text counts as a word, as captions need that learn when to stop.</param>
    /// <param name="mask">The id that hides a word; null: the one that texts start with.</param>
    /// <returns>The ids with words hidden, and where: [b, tokens] bool</returns>
    public static (Tensor Ids, Tensor Masked) Hide(Tensor ids, Tensor lengths, double ratio, Generator random, bool withEnd = false, long? mask = null)
    {
        using var scope = NewDisposeScope();
        var words = PairInput.Valid(withEnd ? lengths : lengths - 1, ids.shape[1]);
        words.narrow(1, 0, 1).zero_();
        var count = words.sum(1, keepdim: true);
        var hidden = (count.to(ScalarType.Float32) * ratio).round().clamp(min: 1).to(ScalarType.Int64);
        // Every word's place in a random order of the text's words.
        var order = rand(ids.shape, generator: random).masked_fill(words.logical_not(), 2).argsort(1).argsort(1);
        var masked = order.lt(hidden).logical_and(words);
        return (where(masked, mask is { } id ? full_like(ids, id) : ids.narrow(1, 0, 1), ids).MoveToOuterDisposeScope(), masked.MoveToOuterDisposeScope());
    }
}
