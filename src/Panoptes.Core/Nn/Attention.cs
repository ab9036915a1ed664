using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>softmax(q kᵀ · scale + mask) v, the one place where attention is computed.</summary>
public static class Attention
{
    /// <param name="query">[batch, heads, queries, head size]</param>
    /// <param name="key">[batch, key heads, keys, head size]; key heads divides heads (grouped queries).</param>
    /// <param name="value">[batch, key heads, keys, value size]</param>
    /// <param name="mask">Broadcastable to [batch, heads, queries, keys]: bool (true: may be seen) or added to the scores.</param>
    /// <param name="causal">Whether query i sees keys 0 to i only; not together with a mask.</param>
    /// <param name="scale">By default 1/√(head size).</param>
    /// <returns>[batch, heads, queries, value size]</returns>
    public static Tensor Apply(Tensor query, Tensor key, Tensor value, Tensor? mask = null, bool causal = false, double? scale = null) =>
        AttentionRecorder.Current is { } recorder ? recorder.Apply(query, key, value, mask, causal, scale) : TorchOps.Attention(query, key, value, mask, causal, scale);

    /// <summary><paramref name="width"/>, if it can be divided among the heads.</summary>
    /// <exception cref="PanoptesException">It cannot.</exception>
    public static int Divisible(int width, int heads) =>
        heads > 0 && width % heads == 0 ? width : throw new PanoptesException($"A width of {width} was to be divided among {heads} attention heads; expected a number of heads that divides it.");

    /// <summary>[batch, tokens, heads · size] to [batch, heads, tokens, size], without copying.</summary>
    public static Tensor SplitHeads(Tensor x, int heads) => x.unflatten(x.dim() - 1, [heads, x.shape[^1] / heads]).transpose(1, 2);

    /// <summary>[batch, heads, tokens, size] back to [batch, tokens, heads · size].</summary>
    public static Tensor MergeHeads(Tensor x) => x.transpose(1, 2).flatten(2);
}

/// <summary>
/// While it is open on a thread, attention is computed step by step there and what attends to what is kept: for heat maps and everything else that looks
/// into a model. Slower than the fused kernel, with the same results but for rounding.
/// </summary>
public sealed class AttentionRecorder : IDisposable
{
    readonly AttentionRecorder? outer;
    readonly List<Tensor> recorded = [];

    public AttentionRecorder() => (outer, Current) = (Current, this);

    [field: ThreadStatic]
    internal static AttentionRecorder? Current { get; private set; }

    /// <summary>The probabilities of every attention so far, in order: [batch, heads, queries, keys]; they live as long as this object.</summary>
    public IReadOnlyList<Tensor> Probabilities => recorded;

    internal Tensor Apply(Tensor query, Tensor key, Tensor value, Tensor? mask, bool causal, double? scale)
    {
        using var scope = NewDisposeScope();
        if (key.shape[1] != query.shape[1])
        {
            var share = query.shape[1] / key.shape[1];
            (key, value) = (key.repeat_interleave(share, 1), value.repeat_interleave(share, 1));
        }
        var scores = query.matmul(key.transpose(-2, -1)) * (scale ?? 1 / Math.Sqrt(query.shape[^1]));
        if (causal) mask = ones(query.shape[2], key.shape[2], dtype: ScalarType.Bool, device: query.device).tril();
        if (mask is not null) scores = mask.dtype == ScalarType.Bool ? scores.masked_fill(mask.logical_not(), double.NegativeInfinity) : scores + mask;
        var probabilities = scores.softmax(-1);
        recorded.Add(probabilities.detach().DetachFromDisposeScope());
        return probabilities.matmul(value).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        Current = outer;
        foreach (var tensor in recorded) tensor.Dispose();
    }
}
