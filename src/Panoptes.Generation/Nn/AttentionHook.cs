using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>
/// Comes between the queries, keys and values of a model's attention and what is seen: records what attends to what, changes it, or adds keys and values of its own. It is given to a
/// forward pass and kept by nobody; without one, the fused kernel is called straight.
/// </summary>
public interface IAttentionHook
{
    /// <summary>Called once an attention layer, in the order of computation. Everything is inside the layer's dispose scope: what is to outlive it must be detached or moved.</summary>
    /// <returns>What is seen: [b, heads, queries, head size]; null: as if there was no hook.</returns>
    Tensor? Attend(AttentionCall call);
}

/// <summary>One attention of a forward pass, its projections computed.</summary>
public sealed record AttentionCall
{
    /// <summary>The layer's key, as diffusers has it: <c>down_blocks.0.attentions.0.transformer_blocks.0.attn2</c>.</summary>
    public required string Layer { get; init; }

    /// <summary>Whether keys and values are of the condition (the text), not of the tokens themselves.</summary>
    public required bool IsCross { get; init; }

    /// <summary>[b, heads, queries, head size]</summary>
    public required Tensor Query { get; init; }

    /// <summary>[b, heads, keys, head size]</summary>
    public required Tensor Key { get; init; }

    /// <summary>[b, heads, keys, head size]</summary>
    public required Tensor Value { get; init; }

    /// <summary>Added to the scores: broadcastable to [b, heads, queries, keys]; or null.</summary>
    public Tensor? Mask { get; init; }

    /// <summary>What the queries were made of: [b, queries, width].</summary>
    public required Tensor Tokens { get; init; }

    /// <summary>What keys and values were made of: [b, keys, context width]; in self-attention <see cref="Tokens"/>.</summary>
    public required Tensor Context { get; init; }

    /// <summary>How many rows and columns the queries are places of; zero where they are no map.</summary>
    public (long Rows, long Columns) Map { get; init; }

    /// <summary>softmax(q kᵀ / √size + mask), with gradients: [b, heads, queries, keys].</summary>
    public Tensor Probabilities()
    {
        using var scope = NewDisposeScope();
        var scores = (Query * (1 / Math.Sqrt(Query.shape[^1]))).matmul(Key.transpose(-2, -1));
        return (Mask is null ? scores : scores + Mask).softmax(-1).MoveToOuterDisposeScope();
    }

    /// <summary>What is seen by <paramref name="probabilities"/> (as of <see cref="Probabilities"/>, perhaps changed): [b, heads, queries, head size].</summary>
    public Tensor See(Tensor probabilities) => probabilities.matmul(Value);

    /// <summary>What the same queries see of other keys and values: [b, heads, queries, head size].</summary>
    /// <param name="key">[b, heads, keys, head size]</param>
    /// <param name="value">[b, heads, keys, head size]</param>
    public Tensor See(Tensor key, Tensor value, Tensor? mask = null) => Attention.Apply(Query, key, value, mask);
}
