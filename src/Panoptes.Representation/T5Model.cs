using System.Text.Json;
using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// T5 (Raffel et al. 2019, arXiv:1910.10683), its version 1.1 and Flan-T5 with the keys and the config.json of Hugging Face's T5EncoderModel and T5ForConditionalGeneration.

/// <summary>Encoder and decoder ("t5"). The peer's dropout is not applied.</summary>
public sealed record T5Config : ModelConfig
{
    public int VocabSize { get; init; } = 32128;
    public int DModel { get; init; } = 512;

    /// <summary>The size of one head, whatever the width is.</summary>
    public int DKv { get; init; } = 64;
    public int DFf { get; init; } = 2048;
    public int NumLayers { get; init; } = 6;

    /// <summary>Null: as many as the encoder's.</summary>
    public int? NumDecoderLayers { get; init; }
    public int NumHeads { get; init; } = 8;

    /// <summary>How many distances between tokens are told apart: near ones each by itself, far ones by their logarithms.</summary>
    public int RelativeAttentionNumBuckets { get; init; } = 32;

    /// <summary>From here on all distances are alike.</summary>
    public int RelativeAttentionMaxDistance { get; init; } = 128;
    public double LayerNormEpsilon { get; init; } = 1e-6;
    public double InitializerFactor { get; init; } = 1;

    /// <summary>An activation's name, after <c>gated-</c> where a second projection is multiplied by it (1.1, Flan); <c>gated-gelu</c> is the tanh approximation.</summary>
    public string FeedForwardProj { get; init; } = "relu";
    public int? PadTokenId { get; init; } = 0;

    /// <summary>What every text that is written begins with; null: the padding.</summary>
    public int? DecoderStartTokenId { get; init; }

    /// <summary>Older files say by this whether outputs are scaled, too.</summary>
    public bool? TieWordEmbeddings { get; init; }

    /// <summary>Whether the decoder's outputs are divided by the square root of the width before they meet the vocabulary; null: if the embeddings are tied.</summary>
    public bool? ScaleDecoderOutputs { get; init; }
    public string ModelType { get; init; } = "t5";

    /// <summary>The peer's class.</summary>
    public string[]? Architectures { get; init; }

    [JsonIgnore]
    internal bool Scales => ScaleDecoderOutputs ?? TieWordEmbeddings ?? true;

    [JsonIgnore]
    internal bool Gated => FeedForwardProj.StartsWith("gated-", StringComparison.Ordinal);

    /// <exception cref="PanoptesException">The activation is unknown.</exception>
    [JsonIgnore]
    internal Activation Activation
    {
        get
        {
            if (FeedForwardProj == "gated-gelu") return Activation.GeluTanh;
            try
            {
                return JsonSerializer.Deserialize<Activation>(JsonSerializer.Serialize(Gated ? FeedForwardProj[6..] : FeedForwardProj));
            }
            catch (JsonException e)
            {
                throw new PanoptesException($"feed_forward_proj is \"{FeedForwardProj}\": {e.Message}.", e);
            }
        }
    }
}

/// <summary>Attention without a scale: the weights have it in them. Keys: q, k, v, o, relative_attention_bias.</summary>
/// <param name="c">Sizes.</param>
/// <param name="biased">Whether this layer has the table of what distances add to the scores, which all layers use.</param>
public sealed class T5Attention(T5Config c, bool biased) : Module
{
    public Linear Q { get; } = new(c.DModel, c.NumHeads * c.DKv, bias: false, Init.Normal(c.InitializerFactor / Math.Sqrt((double)c.DModel * c.DKv)));

    public Linear K { get; } = new(c.DModel, c.NumHeads * c.DKv, bias: false, Init.Normal(c.InitializerFactor / Math.Sqrt(c.DModel)));

    public Linear V { get; } = new(c.DModel, c.NumHeads * c.DKv, bias: false, Init.Normal(c.InitializerFactor / Math.Sqrt(c.DModel)));

    public Linear O { get; } = new(c.NumHeads * c.DKv, c.DModel, bias: false, Init.Normal(c.InitializerFactor / Math.Sqrt((double)c.NumHeads * c.DKv)));

    public Embedding? RelativeAttentionBias { get; } = biased ? new(c.RelativeAttentionNumBuckets, c.NumHeads, Init.Normal(c.InitializerFactor / Math.Sqrt(c.DModel))) : null;

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="bias">[1 or b, heads, tokens, keys], added to the scores; bool: true where a key may be seen; or null</param>
    /// <param name="cache">What was seen before, which this adds to; null: nothing.</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor x, Tensor? bias, KeyValueCache? cache = null)
    {
        using var scope = NewDisposeScope();
        var (k, v) = KeysAndValues(x);
        if (cache is not null) (k, v) = cache.Append(k, v);
        return Attend(x, k, v, bias).MoveToOuterDisposeScope();
    }

    /// <summary>The keys and values of what is attended to: [b, heads, tokens, size] each.</summary>
    /// <param name="context">[b, tokens, width]</param>
    public (Tensor Key, Tensor Value) KeysAndValues(Tensor context) =>
        (Attention.SplitHeads(K.Forward(context), c.NumHeads), Attention.SplitHeads(V.Forward(context), c.NumHeads));

    /// <summary>[b, tokens, width] attending to what <see cref="KeysAndValues"/> gave: [b, tokens, width].</summary>
    public Tensor Attend(Tensor x, Tensor key, Tensor value, Tensor? bias)
    {
        using var scope = NewDisposeScope();
        var seen = Attention.Apply(Attention.SplitHeads(Q.Forward(x), c.NumHeads), key, value, bias, scale: 1);
        return O.Forward(Attention.MergeHeads(seen)).MoveToOuterDisposeScope();
    }
}

/// <summary>Two linear layers with an activation between, which a third is multiplied by where the config says so. Keys: wi, wo; or wi_0, wi_1, wo.</summary>
public sealed class T5FeedForward(T5Config c) : Module
{
    readonly Activation activation = c.Activation;

    public Linear? Wi { get; } = c.Gated ? null : Wide(c);

    [Key("wi_0")]
    public Linear? Wi0 { get; } = c.Gated ? Wide(c) : null;

    [Key("wi_1")]
    public Linear? Wi1 { get; } = c.Gated ? Wide(c) : null;

    public Linear Wo { get; } = new(c.DFf, c.DModel, bias: false, Init.Normal(c.InitializerFactor / Math.Sqrt(c.DFf)));

    static Linear Wide(T5Config c) => new(c.DModel, c.DFf, bias: false, Init.Normal(c.InitializerFactor / Math.Sqrt(c.DModel)));

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var wide = (Wi ?? Wi0)!.Forward(x, activation);
        return Wo.Forward(Wi1 is null ? wide : wide * Wi1.Forward(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>A norm and what comes after it: one of three. Keys: SelfAttention, EncDecAttention or DenseReluDense; layer_norm.</summary>
public sealed class T5Layer : Module
{
    internal T5Layer(T5Config c, bool attends = false, bool reads = false, bool biased = false)
    {
        if (attends) SelfAttention = new(c, biased);
        else if (reads) EncDecAttention = new(c, biased: false);
        else DenseReluDense = new(c);
        LayerNorm = new(c.DModel, c.LayerNormEpsilon);
    }

    [Key("SelfAttention")]
    public T5Attention? SelfAttention { get; }

    [Key("EncDecAttention")]
    public T5Attention? EncDecAttention { get; }

    [Key("DenseReluDense")]
    public T5FeedForward? DenseReluDense { get; }

    public RmsNorm LayerNorm { get; }
}

/// <summary>Attention among the tokens, in a decoder attention to what was read, then the feed-forward layers. Keys: layer.0, layer.1, layer.2.</summary>
public sealed class T5Block(T5Config c, bool decoder, bool biased) : Module
{
    public ModuleList<T5Layer> Layer { get; } = new(decoder
        ? [new(c, attends: true, biased: biased), new(c, reads: true), new(c)]
        : (T5Layer[])[new(c, attends: true, biased: biased), new(c)]);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="bias">As in <see cref="T5Attention.Forward"/>.</param>
    /// <param name="read">The keys and values of what is read, in a decoder.</param>
    /// <param name="readable">[b, 1, 1, read tokens] bool, or null for all.</param>
    /// <param name="cache">What was written before.</param>
    internal Tensor Forward(Tensor x, Tensor? bias, (Tensor Key, Tensor Value)? read = null, Tensor? readable = null, KeyValueCache? cache = null)
    {
        using var scope = NewDisposeScope();
        x = x.add(Layer[0].SelfAttention!.Forward(Layer[0].LayerNorm.Forward(x), bias, cache));
        if (read is var (key, value)) x = x.add(Layer[1].EncDecAttention!.Attend(Layer[1].LayerNorm.Forward(x), key, value, readable));
        return x.add(Layer[^1].DenseReluDense!.Forward(Layer[^1].LayerNorm.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>An encoder or a decoder. Keys: block.N, final_layer_norm; embed_tokens, which is the model's own table.</summary>
public sealed class T5Stack(T5Config c, Embedding shared, bool decoder) : Module
{
    public Embedding EmbedTokens { get; } = shared;

    public ModuleList<T5Block> Block { get; } = new(decoder ? c.NumDecoderLayers ?? c.NumLayers : c.NumLayers, i => new(c, decoder, biased: i == 0));

    public RmsNorm FinalLayerNorm { get; } = new(c.DModel, c.LayerNormEpsilon);

    /// <summary>What distances add to the scores, with what may not be seen far below all else: [1 or b, heads, queries, keys].</summary>
    /// <param name="queries">How many tokens ask: the last of <paramref name="keys"/>.</param>
    /// <param name="keys">How many tokens there are.</param>
    /// <param name="mask">[b, keys], 0 where padding; null: none. A decoder's tokens see none after themselves.</param>
    internal Tensor? Bias(long queries, long keys, Tensor? mask)
    {
        if (Block.Count == 0) return null;
        using var scope = NewDisposeScope();
        var table = Block[0].Layer[0].SelfAttention!.RelativeAttentionBias!;
        var device = table.Weight.Value.device;
        var places = arange(keys, ScalarType.Int64, device: device);
        var distances = places.unsqueeze(0) - places.narrow(0, keys - queries, queries).unsqueeze(1);         // [queries, keys], below 0 for what came before
        var bias = table.Forward(Buckets(distances)).permute(2, 0, 1).unsqueeze(0).contiguous();
        if (decoder && queries > 1) bias = bias.masked_fill(distances > 0, Hidden);
        if (KeyMask.Of(mask) is { } seen) bias = bias.masked_fill(seen.logical_not(), Hidden);
        return bias.MoveToOuterDisposeScope();
    }

    // Finite, so that a row of nothing but padding is no NaN.
    const double Hidden = -1e9;

    /// <summary>The bucket of every distance (mesh_tensorflow's transformer_layers.py): an encoder's are half for what comes after.</summary>
    Tensor Buckets(Tensor distances)
    {
        var count = decoder ? c.RelativeAttentionNumBuckets : c.RelativeAttentionNumBuckets / 2;
        var exact = count / 2;
        var far = decoder ? distances.neg().clamp(min: 0) : distances.abs();
        // In float32, as the peer rounds.
        var logarithmic = (far.to(ScalarType.Float32).div(exact).log().div(Math.Log((double)c.RelativeAttentionMaxDistance / exact)) * (count - exact)).to(ScalarType.Int64).add(exact).clamp(max: count - 1);
        var buckets = where(far < exact, far, logarithmic);
        return decoder ? buckets : buckets + (distances > 0).to(ScalarType.Int64) * count;
    }

    /// <summary>Every token's features after the last norm.</summary>
    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="mask">[b, tokens], 0 where padding; null: none.</param>
    /// <param name="read">[b, read tokens, width], in a decoder.</param>
    /// <param name="readMask">[b, read tokens], 0 where padding; null: none.</param>
    /// <param name="hiddenStates">Receives the input and the output of every block.</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor ids, Tensor? mask = null, Tensor? read = null, Tensor? readMask = null, ICollection<Tensor>? hiddenStates = null)
    {
        using var scope = NewDisposeScope();
        var (x, bias, readable) = (EmbedTokens.Forward(ids), Bias(ids.shape[1], ids.shape[1], mask), KeyMask.Of(readMask));
        hiddenStates?.Add(x.MoveToOuterDisposeScope());
        foreach (var block in Block)
        {
            var before = x;
            using (var inner = NewDisposeScope())
                x = block.Forward(x, bias, read is null ? null : block.Layer[1].EncDecAttention!.KeysAndValues(read), readable).MoveToOuterDisposeScope();
            if (hiddenStates is null) before.Dispose();                // the gradient keeps its own reference
            else hiddenStates.Add(x.MoveToOuterDisposeScope());
        }
        return FinalLayerNorm.Forward(x).MoveToOuterDisposeScope();
    }
}

/// <summary>The text encoder alone, as diffusion models use it: Hugging Face's T5EncoderModel. Keys: shared, encoder.</summary>
public sealed class T5EncoderModel : Module
{
    public T5EncoderModel(T5Config config) => (Config, Shared, Encoder) = Parts(config);

    public T5Config Config { get; }

    public Embedding Shared { get; }

    public T5Stack Encoder { get; }

    /// <summary>Every token's features.</summary>
    /// <inheritdoc cref="T5Stack.Forward"/>
    public Tensor Forward(Tensor ids, Tensor? mask = null, ICollection<Tensor>? hiddenStates = null) => Encoder.Forward(ids, mask, hiddenStates: hiddenStates);

    internal static (T5Config, Embedding, T5Stack) Parts(T5Config config)
    {
        // An odd count of buckets, or so few that none is left for far distances, has no bucket for some.
        if (config.RelativeAttentionNumBuckets < 4 || config.RelativeAttentionMaxDistance <= config.RelativeAttentionNumBuckets / 4)
            throw new PanoptesException($"relative_attention_num_buckets is {config.RelativeAttentionNumBuckets} and relative_attention_max_distance {config.RelativeAttentionMaxDistance}; expected 4 buckets or more, and a distance of more than a quarter of them.");
        if ((long)config.NumHeads * config.DKv > 1 << 24) throw new PanoptesException($"num_heads is {config.NumHeads} and d_kv {config.DKv}; expected a product of at most {1 << 24}.");
        var shared = new Embedding(config.VocabSize, config.DModel, Init.Normal(config.InitializerFactor));
        return (config, shared, new(config, shared, decoder: false));
    }
}

/// <summary>Texts to texts: Hugging Face's T5ForConditionalGeneration. Keys: shared, encoder, decoder, lm_head where the vocabulary is not that of the embeddings.</summary>
public sealed class T5ForConditionalGeneration : Module
{
    /// <param name="config">Sizes.</param>
    /// <param name="ownHead">Whether the words that are written have a matrix of their own; null: if outputs are not scaled.</param>
    public T5ForConditionalGeneration(T5Config config, bool? ownHead = null)
    {
        (Config, Shared, Encoder) = T5EncoderModel.Parts(config);
        Decoder = new(config, Shared, decoder: true);
        if (ownHead ?? !config.Scales) LmHead = new(config.DModel, config.VocabSize, bias: false, Init.Normal(config.InitializerFactor));
    }

    public T5Config Config { get; }

    public Embedding Shared { get; }

    public T5Stack Encoder { get; }

    public T5Stack Decoder { get; }

    public Linear? LmHead { get; }

    /// <summary>What is likely to follow each token of what is written.</summary>
    /// <param name="ids">[b, tokens] int64: what is read</param>
    /// <param name="mask">[b, tokens], 0 where padding; null: none.</param>
    /// <param name="written">[b, written tokens] int64, beginning with the start token</param>
    /// <returns>[b, written tokens, vocabulary] logits</returns>
    public Tensor Forward(Tensor ids, Tensor? mask, Tensor written)
    {
        using var scope = NewDisposeScope();
        return Logits(Decoder.Forward(written, null, Encoder.Forward(ids, mask), mask)).MoveToOuterDisposeScope();
    }

    /// <summary>The loss of writing <paramref name="labels"/>: the mean over all that are not -100.</summary>
    /// <param name="ids">[b, tokens] int64: what is read</param>
    /// <param name="mask">[b, tokens], 0 where padding; null: none.</param>
    /// <param name="labels">[b, written tokens] int64, -100 where nothing is asked</param>
    public Tensor Loss(Tensor ids, Tensor? mask, Tensor labels)
    {
        using var scope = NewDisposeScope();
        return nn.functional.cross_entropy(Forward(ids, mask, Shifted(labels)).flatten(0, 1), labels.flatten(), ignore_index: -100).MoveToOuterDisposeScope();
    }

    /// <summary>What a decoder is given to write <paramref name="labels"/>: the start token, then all but the last, with padding for -100.</summary>
    public Tensor Shifted(Tensor labels)
    {
        using var scope = NewDisposeScope();
        var start = full(labels.shape[0], 1, (long)(Config.DecoderStartTokenId ?? Config.PadTokenId ?? 0), ScalarType.Int64, device: labels.device);
        var shifted = cat([start, labels.narrow(1, 0, labels.shape[1] - 1)], 1);
        return shifted.masked_fill(shifted.eq(-100), Config.PadTokenId ?? 0).MoveToOuterDisposeScope();
    }

    /// <summary>Reads texts, to be answered token by token.</summary>
    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="mask">[b, tokens], 0 where padding; null: none.</param>
    /// <param name="capacity">The most tokens that are written, the start token included.</param>
    public T5Writer Read(Tensor ids, Tensor? mask, int capacity)
    {
        using var scope = NewDisposeScope();
        return new(this, Encoder.Forward(ids, mask), mask, capacity);
    }

    internal Tensor Logits(Tensor x)
    {
        using var scope = NewDisposeScope();
        if (Config.Scales) x = x * (1 / Math.Sqrt(Config.DModel));
        return (LmHead is null ? Native.TorchOps.Linear(x, Shared.Weight.Value, null) : LmHead.Forward(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>A T5 that has read and writes: keys and values of both are kept, so that each token is computed once.</summary>
public sealed class T5Writer : IDisposable
{
    readonly T5ForConditionalGeneration model;
    readonly KeyValueCache[] caches;
    readonly (Tensor Key, Tensor Value)[] read;
    Tensor? readable;                                                  // [b, 1, 1, read tokens] bool

    internal T5Writer(T5ForConditionalGeneration model, Tensor encoded, Tensor? mask, int capacity)
    {
        using var scope = NewDisposeScope();
        this.model = model;
        caches = [.. model.Decoder.Block.Select(_ => new KeyValueCache(capacity))];
        read = [.. model.Decoder.Block.Select(b => b.Layer[1].EncDecAttention!.KeysAndValues(encoded)).Select(static p => (Kept(p.Key), Kept(p.Value)))];
        readable = KeyMask.Of(mask)?.DetachFromDisposeScope();

        static Tensor Kept(Tensor t) => t.contiguous().DetachFromDisposeScope();
    }

    /// <summary>How many tokens have been written.</summary>
    public int Count => caches.Length > 0 ? caches[0].Count : 0;

    /// <summary>Writes tokens and tells what is likely to follow the last.</summary>
    /// <param name="ids">[b, tokens] int64</param>
    /// <returns>[b, vocabulary] logits</returns>
    public Tensor Next(Tensor ids)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (x, bias) = (model.Decoder.EmbedTokens.Forward(ids), model.Decoder.Bias(ids.shape[1], Count + ids.shape[1], null));
        for (var i = 0; i < caches.Length; i++) x = model.Decoder.Block[i].Forward(x, bias, read[i], readable, caches[i]);
        return model.Logits(model.Decoder.FinalLayerNorm.Forward(x.select(1, ids.shape[1] - 1))).MoveToOuterDisposeScope();
    }

    /// <summary>Row i goes on from what row <paramref name="rows"/>[i] has read and written.</summary>
    /// <param name="rows">[new b] int64</param>
    public void Reorder(Tensor rows)
    {
        foreach (var cache in caches) cache.Reorder(rows);
        for (var i = 0; i < read.Length; i++) read[i] = (Moved(read[i].Key, rows), Moved(read[i].Value, rows));
        if (readable is not null) readable = Moved(readable, rows);

        static Tensor Moved(Tensor t, Tensor rows)
        {
            using (t) return t.index_select(0, rows).DetachFromDisposeScope();
        }
    }

    public void Dispose()
    {
        foreach (var cache in caches) cache.Dispose();
        foreach (var (key, value) in read)
        {
            key.Dispose();
            value.Dispose();
        }
        readable?.Dispose();
    }
}
