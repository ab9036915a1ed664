using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>What the backbones share: blocks in a row, and constants that follow from an image's size.</summary>
static class BlockStack
{
    /// <summary>Runs the blocks one after the other; what lies between is given back at once, or kept in <paramref name="hiddenStates"/>.</summary>
    /// <param name="blocks">In order.</param>
    /// <param name="x">[b, ...]</param>
    /// <param name="forward">A block's output from its input, its part of <paramref name="kept"/> and what is <paramref name="shared"/>.</param>
    /// <param name="kept">[blocks, branches, b] of <see cref="StochasticDepth.Draw"/>, or null.</param>
    /// <param name="shared">What all blocks compute with, without a gradient; or null.</param>
    /// <param name="checkpointed">Whether what is inside a block is computed again for the gradient.</param>
    /// <param name="hiddenStates">Receives the input and every block's output.</param>
    internal static Tensor Forward<T>(IReadOnlyList<T> blocks, Tensor x, Func<T, Tensor, Tensor?, Tensor?, Tensor> forward, Tensor? kept = null,
        Tensor? shared = null, bool checkpointed = false, ICollection<Tensor>? hiddenStates = null) where T : Module
    {
        using var scope = NewDisposeScope();
        hiddenStates?.Add(x);
        for (var i = 0; i < blocks.Count; i++)
        {
            var (block, before, mine) = (blocks[i], x, kept?[i]);
            x = checkpointed ? ActivationCheckpoint.Run(block, (x, kept, shared) => forward(block, x, kept, shared), x, mine, shared) : forward(block, x, mine, shared);
            if (hiddenStates is not null) hiddenStates.Add(x.MoveToOuterDisposeScope());
            else if (i > 0) before.Dispose();                          // the gradient keeps its own reference; the first is the caller's
        }
        return hiddenStates is null && blocks.Count > 0 ? x.MoveToOuterDisposeScope() : x;
    }

    /// <summary>Runs the stages of a network whose maps shrink from one to the next, [b, height, width, channels]; each gets its blocks' part of <paramref name="kept"/>.</summary>
    /// <param name="stages">In order.</param>
    /// <param name="depths">How many blocks each has.</param>
    /// <param name="x">What the first is given; disposed, as is all that lies between.</param>
    /// <param name="forward">A stage's output.</param>
    /// <param name="kept">[blocks of all stages, branches, b] of <see cref="StochasticDepth.Draw"/>, or null.</param>
    /// <param name="states">Receives the input and every stage's output with the channels in front, or null.</param>
    internal static Tensor Stages<T>(IReadOnlyList<T> stages, IReadOnlyList<int> depths, Tensor x, Func<T, Tensor, Tensor?, Tensor> forward, Tensor? kept, List<Tensor>? states)
    {
        states?.Add(x.permute(0, 3, 1, 2));
        for (var (i, block) = (0, 0); i < stages.Count; block += depths[i], i++)
        {
            var before = x;
            x = forward(stages[i], x, kept?.narrow(0, block, depths[i]));
            states?.Add(x.permute(0, 3, 1, 2));
            before.Dispose();                                                                     // views and the gradient keep what they need
        }
        return x;
    }
}

/// <summary>Constant tensors (masks, indices, angles) that follow from a size, made once for each.</summary>
sealed class SizeCache<TKey>(Func<TKey, Tensor> make) : IDisposable where TKey : notnull
{
    const int Limit = 64;
    readonly Dictionary<TKey, Tensor> kept = [];

    /// <summary>The tensor, which stays the cache's.</summary>
    internal Tensor Get(TKey key)
    {
        lock (kept)
        {
            if (kept.TryGetValue(key, out var tensor)) return tensor;
            using var noGrad = no_grad();
            using var scope = NewDisposeScope();
            if (kept.Count == Limit) kept.Clear();                     // others may be computing with them: the garbage collector gives them back
            return kept[key] = make(key).DetachFromDisposeScope();
        }
    }

    public void Dispose()
    {
        foreach (var tensor in kept.Values) tensor.Dispose();
    }
}
