using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>An attention layer that knows its key in the model, by which an <see cref="IAttentionHook"/> tells layers apart.</summary>
public abstract class HookedAttention : Module
{
    /// <summary>The layer's key in its model.</summary>
    public string Layer { get; private set; } = "";

    /// <summary>Tells every attention layer of <paramref name="model"/> its key.</summary>
    internal static void NameLayers(Module model)
    {
        foreach (var (key, module) in model.NamedModules())
            if (module is HookedAttention attention) attention.Layer = key;
    }

    /// <summary>What is seen: [b, heads, queries, head size], by the hook if there is one.</summary>
    /// <param name="q">[b, queries, heads · size]</param>
    /// <param name="k">[b, keys, heads · size]</param>
    /// <param name="v">[b, keys, heads · size]</param>
    /// <param name="tokens">What the queries are of.</param>
    /// <param name="context">What keys and values are of; null: the tokens.</param>
    private protected Tensor See(Tensor q, Tensor k, Tensor v, int heads, Tensor? mask, Tensor tokens, Tensor? context, IAttentionHook? hook, (long Rows, long Columns) map)
    {
        (q, k, v) = (Attention.SplitHeads(q, heads), Attention.SplitHeads(k, heads), Attention.SplitHeads(v, heads));
        return hook?.Attend(new() { Layer = Layer, IsCross = context is not null, Query = q, Key = k, Value = v, Mask = mask, Tokens = tokens, Context = context ?? tokens, Map = map })
            ?? Attention.Apply(q, k, v, mask);
    }
}

/// <summary>Tokens see a context, or each other. Keys: to_q, to_k, to_v, to_out.0 (diffusers' Attention).</summary>
public sealed class CrossAttention(int width, int heads, int headSize, int? contextWidth = null, bool bias = false, bool outBias = true) : HookedAttention
{
    public Linear ToQ { get; } = new(width, heads * headSize, bias);

    public Linear ToK { get; } = new(contextWidth ?? width, heads * headSize, bias);

    public Linear ToV { get; } = new(contextWidth ?? width, heads * headSize, bias);

    [Key("to_out.0")]
    public Linear ToOut { get; } = new(heads * headSize, width, outBias);

    /// <param name="tokens">[b, tokens, width]</param>
    /// <param name="context">[b, keys, context width]; null: the tokens see each other</param>
    /// <param name="mask">Added to the scores: broadcastable to [b, heads, tokens, keys].</param>
    /// <param name="hook">Comes between; see <see cref="IAttentionHook"/>.</param>
    /// <param name="map">How many rows and columns the tokens are places of, for the hook.</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor tokens, Tensor? context = null, Tensor? mask = null, IAttentionHook? hook = null, (long Rows, long Columns) map = default)
    {
        using var scope = NewDisposeScope();
        var of = context ?? tokens;
        var seen = See(ToQ.Forward(tokens), ToK.Forward(of), ToV.Forward(of), heads, mask, tokens, context, hook, map);
        return ToOut.Forward(Attention.MergeHeads(seen)).MoveToOuterDisposeScope();
    }
}
