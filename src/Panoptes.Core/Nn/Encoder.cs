using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>
/// Multi-head self-attention with a projection each for query, key, value and output. Keys: q_proj, k_proj, v_proj, out_proj.
/// </summary>
public sealed class SelfAttention(int width, int heads, Initializer? input = null, Initializer? output = null) : Module
{
    public Linear KProj { get; } = new(Attention.Divisible(width, heads), width, initializer: input);

    public Linear VProj { get; } = new(width, width, initializer: input);

    public Linear QProj { get; } = new(width, width, initializer: input);

    public Linear OutProj { get; } = new(width, width, initializer: output);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="mask">As in <see cref="Attention.Apply"/>.</param>
    /// <param name="causal">Whether a token sees only itself and those before it.</param>
    /// <param name="queries">[b, queries, width]: only these attend (to all of <paramref name="x"/>), instead of every token.</param>
    /// <returns>[b, tokens or queries, width]</returns>
    public Tensor Forward(Tensor x, Tensor? mask = null, bool causal = false, Tensor? queries = null)
    {
        using var scope = NewDisposeScope();
        var q = Attention.SplitHeads(QProj.Forward(queries ?? x), heads);                          // [b, heads, tokens, size]
        var k = Attention.SplitHeads(KProj.Forward(x), heads);
        var v = Attention.SplitHeads(VProj.Forward(x), heads);
        return OutProj.Forward(Attention.MergeHeads(Attention.Apply(q, k, v, mask, causal))).MoveToOuterDisposeScope();
    }

    /// <summary>The next token of every row, which sees itself and what <paramref name="cache"/> holds; or, for an empty cache, the first tokens, each of which sees itself and those before it.</summary>
    /// <param name="x">[b, tokens, width]</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Next(Tensor x, KeyValueCache cache)
    {
        using var scope = NewDisposeScope();
        if (x.shape[1] > 1 && cache.Count > 0) throw new ArgumentException("Several tokens go into an empty cache only.");
        var (k, v) = cache.Append(Attention.SplitHeads(KProj.Forward(x), heads), Attention.SplitHeads(VProj.Forward(x), heads));
        return OutProj.Forward(Attention.MergeHeads(Attention.Apply(Attention.SplitHeads(QProj.Forward(x), heads), k, v, causal: x.shape[1] > 1))).MoveToOuterDisposeScope();
    }

    /// <summary>The keys and values of what is attended to, for many calls of <see cref="Attend"/>.</summary>
    /// <param name="context">[b, tokens, width]</param>
    /// <returns>[b, heads, tokens, size] each</returns>
    public (Tensor Key, Tensor Value) KeysAndValues(Tensor context)
    {
        using var scope = NewDisposeScope();
        return (Attention.SplitHeads(KProj.Forward(context), heads).contiguous().MoveToOuterDisposeScope(), Attention.SplitHeads(VProj.Forward(context), heads).contiguous().MoveToOuterDisposeScope());
    }

    /// <summary>[b, queries, width] attending to what <see cref="KeysAndValues"/> gave: [b, queries, width].</summary>
    public Tensor Attend(Tensor queries, Tensor key, Tensor value, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        return OutProj.Forward(Attention.MergeHeads(Attention.Apply(Attention.SplitHeads(QProj.Forward(queries), heads), key, value, mask))).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Multi-head attention whose three input projections are stacked in one matrix, as torch.nn.MultiheadAttention.
/// Keys: in_proj_weight [3 width, width], in_proj_bias [3 width] (query, key, value), out_proj; bias_k and bias_v [1, 1, width] where there is
/// one more key and value that belong to no token and are learned (torch's add_bias_kv).
/// </summary>
/// <param name="packs">Whether <see cref="Module.Pack"/> packs the stacked matrix; not where <see cref="Across"/> takes it apart.</param>
public sealed class FusedAttention(int width, int heads, Initializer? input = null, Initializer? output = null, bool learnedKey = false, bool packs = true) : Module
{
    public Parameter InProjWeight { get; } = new([3 * width, Attention.Divisible(width, heads)], input ?? Init.XavierUniform);

    public Parameter InProjBias { get; } = new([3 * width], Init.Zeros);

    public Parameter? BiasK { get; } = learnedKey ? new([1, 1, width], Init.Normal(1 / Math.Sqrt(width))) : null;

    public Parameter? BiasV { get; } = learnedKey ? new([1, 1, width], Init.Normal(1 / Math.Sqrt(width))) : null;

    public Linear OutProj { get; } = new(width, width, initializer: output);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="mask">As in <see cref="Attention.Apply"/>; not together with a learned key.</param>
    /// <param name="causal">Whether a token sees only itself and those before it; not together with a learned key.</param>
    /// <param name="queries">[b, queries, width]: only these attend (to all of <paramref name="x"/>), instead of every token.</param>
    /// <returns>[b, tokens or queries, width]</returns>
    public Tensor Forward(Tensor x, Tensor? mask = null, bool causal = false, Tensor? queries = null)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = Project(x, queries);
        if (BiasK is not null) (k, v) = (With(k, BiasK), With(v, BiasV!));
        return Finish(Attention.Apply(q, k, v, mask, causal)).MoveToOuterDisposeScope();
    }

    /// <summary>The next token of every row, which sees itself and what <paramref name="cache"/> holds: [b, 1, width] to the same.</summary>
    public Tensor Next(Tensor x, KeyValueCache cache)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = Project(x, null);
        (k, v) = cache.Append(k, v);
        return Finish(Attention.Apply(q, k, v)).MoveToOuterDisposeScope();
    }

    /// <summary>The keys and values of what is attended to, for many calls of <see cref="Attend"/>.</summary>
    /// <param name="context">[b, tokens, width]</param>
    /// <returns>[b, heads, tokens, size] each</returns>
    public (Tensor Key, Tensor Value) KeysAndValues(Tensor context)
    {
        using var scope = NewDisposeScope();
        var (_, k, v) = Project(context, context.narrow(1, 0, 1));
        return (k.contiguous().MoveToOuterDisposeScope(), v.contiguous().MoveToOuterDisposeScope());
    }

    /// <summary>[b, queries, width] attending to what <see cref="KeysAndValues"/> gave: [b, queries, width].</summary>
    public Tensor Attend(Tensor queries, Tensor key, Tensor value)
    {
        using var scope = NewDisposeScope();
        return Finish(Attention.Apply(Project(queries, null).Query, key, value)).MoveToOuterDisposeScope();
    }

    /// <summary>Queries, keys and values from inputs of their own: detectors add positions to queries and keys alone.</summary>
    /// <param name="queries">[b, queries, width]</param>
    /// <param name="keys">[b, tokens, width]</param>
    /// <param name="values">[b, tokens, width]</param>
    /// <param name="mask">As in <see cref="Attention.Apply"/>.</param>
    /// <returns>[b, queries, width]</returns>
    public Tensor Across(Tensor queries, Tensor keys, Tensor values, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        var (weight, bias) = (InProjWeight.Value, InProjBias.Value);
        return Finish(Attention.Apply(Part(queries, 0), Part(keys, 1), Part(values, 2), mask)).MoveToOuterDisposeScope();

        Tensor Part(Tensor x, int part) => Attention.SplitHeads(TorchOps.Linear(x, weight.narrow(0, part * width, width), bias.narrow(0, part * width, width)), heads);
    }

    /// <summary>What attention is computed from, for those that do it in their own way.</summary>
    /// <param name="queries">[b, queries, width]</param>
    /// <param name="context">[b, tokens, width]</param>
    /// <returns>[b, heads, queries, size], and twice [b, heads, tokens, size]</returns>
    internal (Tensor Query, Tensor Key, Tensor Value) QueriesKeysAndValues(Tensor queries, Tensor context)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = Project(context, queries);
        return (q.MoveToOuterDisposeScope(), k.MoveToOuterDisposeScope(), v.MoveToOuterDisposeScope());
    }

    Tensor With(Tensor all, Parameter one) => cat([all, Attention.SplitHeads(one.Value, heads).expand(all.shape[0], -1, -1, -1).to(all.dtype)], 2);

    Tensor Finish(Tensor seen) => OutProj.Forward(Attention.MergeHeads(seen));

    (Tensor Query, Tensor Key, Tensor Value) Project(Tensor x, Tensor? queries)
    {
        Tensor q, k, v;
        if (InProjWeight.Packed is { } packed && !is_grad_enabled())
        {
            // A packed weight gives all three at once: one token's key and value are thrown away, or every token's query.
            var all = TorchOps.PackedLinear(x, packed, InProjBias.Value).chunk(3, -1);
            (q, k, v) = (queries is null ? all[0] : TorchOps.PackedLinear(queries, packed, InProjBias.Value).narrow(-1, 0, width), all[1], all[2]);
        }
        else if (queries is null)
        {
            var all = TorchOps.Linear(x, InProjWeight.Value, InProjBias.Value).chunk(3, -1);
            (q, k, v) = (all[0], all[1], all[2]);
        }
        else
        {
            var (weight, bias) = (InProjWeight.Value, InProjBias.Value);
            q = TorchOps.Linear(queries, weight.narrow(0, 0, width), bias.narrow(0, 0, width));
            var kv = TorchOps.Linear(x, weight.narrow(0, width, 2 * width), bias.narrow(0, width, 2 * width)).chunk(2, -1);
            (k, v) = (kv[0], kv[1]);
        }
        return (Attention.SplitHeads(q, heads), Attention.SplitHeads(k, heads), Attention.SplitHeads(v, heads));
    }

    protected override long OnPack() => packs ? InProjWeight.Pack() : 0;
}

/// <summary>Two linear layers with an activation between. Keys: fc1, fc2.</summary>
public sealed class Mlp(int width, int hidden, Activation activation, Initializer? first = null, Initializer? second = null, Initializer? biases = null) : Module
{
    public Linear Fc1 { get; } = new(width, hidden, initializer: first, biasInitializer: biases);

    public Linear Fc2 { get; } = new(hidden, width, initializer: second, biasInitializer: biases);

    /// <param name="x">[..., width]</param>
    /// <returns>[..., width]</returns>
    public Tensor Forward(Tensor x) => Apply(Fc1, Fc2, activation, x);

    /// <summary>second(activation(first(x))), whatever the layers are called.</summary>
    internal static Tensor Apply(Linear first, Linear second, Activation activation, Tensor x)
    {
        using var scope = NewDisposeScope();
        if (activation != Activation.QuickGelu || !is_grad_enabled() || first.Change is not null || second.Change is not null) return second.Forward(first.Forward(x, activation)).MoveToOuterDisposeScope();

        // x σ(1.702 x) is silu(1.702 x) / 1.702: with both factors in the weights, what is kept for the gradient and the passes over the
        // wide tensor are those of one operator instead of three.
        const double factor = Activations.QuickGeluFactor;
        var wide = TorchOps.Linear(x, first.Weight.Value * factor, first.Bias!.Value * factor);
        return TorchOps.Linear(nn.functional.silu(wide), second.Weight.Value / factor, second.Bias!.Value).MoveToOuterDisposeScope();
    }
}

/// <summary>How the weights of an <see cref="Encoder"/> start; null: the layers' own defaults.</summary>
public sealed record EncoderInit(Initializer? AttentionInput = null, Initializer? AttentionOutput = null, Initializer? Fc1 = null, Initializer? Fc2 = null, Initializer? MlpBias = null);

/// <summary>
/// A transformer block that normalizes before attention and before the MLP, as in the towers of CLIP and SigLIP.
/// Keys: self_attn, layer_norm1, mlp, layer_norm2.
/// </summary>
public sealed class EncoderLayer(int width, int heads, int hidden, Activation activation, double eps, EncoderInit init) : Module
{
    public SelfAttention SelfAttn { get; } = new(width, heads, init.AttentionInput, init.AttentionOutput);

    public LayerNorm LayerNorm1 { get; } = new(width, eps);

    public Mlp Mlp { get; } = new(width, hidden, activation, init.Fc1, init.Fc2, init.MlpBias);

    public LayerNorm LayerNorm2 { get; } = new(width, eps);

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x, Tensor? mask = null, bool causal = false)
    {
        using var scope = NewDisposeScope();
        x = Residual(x, SelfAttn.Forward(LayerNorm1.Forward(x), mask, causal));
        return Residual(x, Mlp.Forward(LayerNorm2.Forward(x))).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The block's output at one token of each row only: all tokens are seen, but one alone asks and goes through the MLP. This is
    /// all that a model which pools one token needs of its last block.
    /// </summary>
    /// <param name="x">[b, tokens, width]</param>
    /// <param name="index">[b] int64: which token of each row.</param>
    /// <param name="causal">Whether only the tokens up to that one are seen.</param>
    /// <returns>[b, width]</returns>
    public Tensor ForwardAt(Tensor x, Tensor index, Tensor? mask = null, bool causal = false)
    {
        using var scope = NewDisposeScope();
        if (causal) mask = Encoder.SeenFrom(index, x.shape[1], mask);
        var all = LayerNorm1.Forward(x);
        var one = Residual(Encoder.TokenAt(x, index), SelfAttn.Forward(all, mask, queries: Encoder.TokenAt(all, index)));   // [b, 1, width]
        return Residual(one, Mlp.Forward(LayerNorm2.Forward(one))).squeeze(1).MoveToOuterDisposeScope();
    }

    /// <summary>x + change, into the change's memory where the types agree (nothing needs it any more, the gradient included).</summary>
    internal static Tensor Residual(Tensor x, Tensor change) => x.dtype == change.dtype ? change.add_(x, One) : x.add(change, One);

    // TorchSharp's operator makes a number for every sum, which nothing keeps alive while the native call reads it: in long trainings a garbage collection
    // came between, and the sum failed.
    static readonly Scalar One = 1.ToScalar();
}

/// <summary>A stack of <see cref="EncoderLayer"/>. Keys: layers.N.</summary>
public sealed class Encoder(int layers, int width, int heads, int hidden, Activation activation, double eps, EncoderInit? init = null) : Module
{
    public ModuleList<EncoderLayer> Layers { get; } = new(layers, _ => new EncoderLayer(width, heads, hidden, activation, eps, init ?? new()));

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="mask">As in <see cref="Attention.Apply"/>; with <paramref name="causal"/>, [b, 1, 1, tokens] bool.</param>
    /// <param name="causal">Whether a token sees only itself and those before it.</param>
    /// <param name="hiddenStates">Receives the input and the output of every layer.</param>
    /// <param name="skipped">How many of the last layers are left out.</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor x, Tensor? mask = null, bool causal = false, ICollection<Tensor>? hiddenStates = null, int skipped = 0)
    {
        using var scope = NewDisposeScope();
        var full = Combine(mask, causal, x);
        hiddenStates?.Add(x);
        for (var i = 0; i < Layers.Count - skipped; i++)
        {
            var before = x;
            x = Next(Layers[i], x, full, causal && full is null);
            if (hiddenStates is not null) hiddenStates.Add(x.MoveToOuterDisposeScope());
            else if (i > 0) before.Dispose();                          // the gradient keeps its own reference; the first is the caller's
        }
        return hiddenStates is null && Layers.Count > skipped ? x.MoveToOuterDisposeScope() : x;
    }

    /// <summary>The output at one token of each row; see <see cref="EncoderLayer.ForwardAt"/>.</summary>
    /// <returns>[b, width]</returns>
    public Tensor ForwardAt(Tensor x, Tensor index, Tensor? mask = null, bool causal = false)
    {
        using var scope = NewDisposeScope();
        var full = Combine(mask, causal, x);
        for (var i = 0; i < Layers.Count - 1; i++)
        {
            var before = x;
            x = Next(Layers[i], x, full, causal && full is null);
            if (i > 0) before.Dispose();
        }
        return (Layers.Count == 0 ? TokenAt(x, index).squeeze(1) : Layers[^1].ForwardAt(x, index, mask, causal)).MoveToOuterDisposeScope();
    }

    Tensor Next(EncoderLayer layer, Tensor x, Tensor? mask, bool causal) => ActivationsCheckpointed
        ? ActivationCheckpoint.Run(layer, (x, mask) => layer.Forward(x, mask, causal), x, mask)
        : layer.Forward(x, mask, causal);

    /// <summary>One mask for both conditions where there are two; the fused kernel knows causality by itself, but not with a mask.</summary>
    internal static Tensor? Combine(Tensor? mask, bool causal, Tensor x) => mask is not null && causal
        ? mask.logical_and(ones(x.shape[1], x.shape[1], dtype: ScalarType.Bool, device: x.device).tril())
        : mask;

    /// <summary>Token <paramref name="index"/> [b] of each row of <paramref name="x"/> [b, tokens, width]: [b, 1, width].</summary>
    public static Tensor TokenAt(Tensor x, Tensor index)
    {
        using var scope = NewDisposeScope();
        return x.gather(1, index.view(-1, 1, 1).expand(-1, 1, x.shape[2])).MoveToOuterDisposeScope();
    }

    /// <summary>Which of <paramref name="tokens"/> keys the token at <paramref name="index"/> [b] sees: [b, 1, 1, tokens] bool.</summary>
    internal static Tensor SeenFrom(Tensor index, long tokens, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var seen = arange(tokens, dtype: ScalarType.Int64, device: index.device).view(1, 1, 1, -1).le(index.view(-1, 1, 1, 1));
        return (mask is null ? seen : seen.logical_and(mask)).MoveToOuterDisposeScope();
    }
}
