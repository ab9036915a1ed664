using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// The vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) with the keys and the config.json of Hugging Face's ViTModel and
// ViTForImageClassification.

/// <summary>The config ("vit").</summary>
public record VitConfig : ImageModelConfig
{
    public int HiddenSize { get; init; } = 768;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int IntermediateSize { get; init; } = 3072;
    public double LayerNormEps { get; init; } = 1e-12;
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 16;
    public bool QkvBias { get; init; } = true;

    /// <summary>By default the hidden size.</summary>
    public int? PoolerOutputSize { get; init; }
    public string PoolerAct { get; init; } = "tanh";

    /// <summary>Whether a layer follows the class token; null: as the checkpoint has it, and in a new model as in the peer, which adds one.</summary>
    public bool? AddPoolingLayer { get; init; }

    /// <summary>Whether the pooled feature is the mean of the patches instead of the class token (not in the peer).</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool MeanPooling { get; init; }
    public string ModelType { get; init; } = "vit";

    internal VitSizes Sizes => new(NumHiddenLayers, HiddenSize, NumAttentionHeads, IntermediateSize, HiddenAct, LayerNormEps, QkvBias, Normal);
}

/// <summary>What ViT's blocks are built of, in whichever model.</summary>
public sealed record VitSizes(int Layers, int Width, int Heads, int Hidden, Activation Activation, double Eps, bool QkvBias, Initializer Normal);

/// <summary>Multi-head self-attention under the names of ViT, BEiT, MAE and DINOv2. Keys: attention.query, attention.key, attention.value, output.dense.</summary>
public sealed class VitAttention(int width, int heads, bool bias, Initializer initializer) : Module
{
    [Key("attention.query")]
    public Linear Query { get; } = new(Attention.Divisible(width, heads), width, bias, initializer);

    [Key("attention.key")]
    public Linear Key { get; } = new(width, width, bias, initializer);

    [Key("attention.value")]
    public Linear Value { get; } = new(width, width, bias, initializer);

    [Key("output.dense")]
    public Linear Output { get; } = new(width, width, initializer: initializer);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="queries">[b, queries, width]: only these attend (to all of <paramref name="x"/>), instead of every token.</param>
    /// <param name="mask">As in <see cref="Nn.Attention.Apply"/>.</param>
    /// <returns>[b, tokens or queries, width]</returns>
    public Tensor Forward(Tensor x, Tensor? queries = null, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        var q = Attention.SplitHeads(Query.Forward(queries ?? x), heads);                          // [b, heads, tokens, size]
        var k = Attention.SplitHeads(Key.Forward(x), heads);
        var v = Attention.SplitHeads(Value.Forward(x), heads);
        return Output.Forward(Attention.MergeHeads(Attention.Apply(q, k, v, mask))).MoveToOuterDisposeScope();
    }
}

/// <summary>A block that normalizes before attention and before the MLP. Keys: attention, intermediate.dense, output.dense, layernorm_before, layernorm_after.</summary>
public sealed class VitLayer(VitSizes s) : Module
{
    public VitAttention Attention { get; } = new(s.Width, s.Heads, s.QkvBias, s.Normal);

    [Key("intermediate.dense")]
    public Linear Intermediate { get; } = new(s.Width, s.Hidden, initializer: s.Normal);

    [Key("output.dense")]
    public Linear Output { get; } = new(s.Hidden, s.Width, initializer: s.Normal);

    public LayerNorm LayernormBefore { get; } = new(s.Width, s.Eps);

    public LayerNorm LayernormAfter { get; } = new(s.Width, s.Eps);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth"/>, or null.</param>
    /// <param name="mask">As in <see cref="Nn.Attention.Apply"/>.</param>
    /// <param name="first">Only the first token's output is computed: [b, 1, width].</param>
    public Tensor Forward(Tensor x, Tensor? kept = null, Tensor? mask = null, bool first = false)
    {
        using var scope = NewDisposeScope();
        var all = LayernormBefore.Forward(x);
        var queries = first ? all.narrow(1, 0, 1) : null;
        x = (first ? x.narrow(1, 0, 1) : x) + StochasticDepth.Apply(Attention.Forward(all, queries, mask), kept, 0);
        var mlp = Mlp.Apply(Intermediate, Output, s.Activation, LayernormAfter.Forward(x));
        return (x + StochasticDepth.Apply(mlp, kept, 1)).MoveToOuterDisposeScope();
    }
}

/// <summary>Patches, a class token before them, and positions. Keys: cls_token, mask_token, position_embeddings, patch_embeddings.projection.</summary>
public sealed class VitEmbeddings(VitConfig c, bool maskToken, Initializer tokens) : Module
{
    readonly int side = c.ImageSize / c.PatchSize;

    public Parameter ClsToken { get; } = new([1, 1, c.HiddenSize], tokens);

    public Parameter? MaskToken { get; } = maskToken ? new([1, 1, c.HiddenSize], Init.Zeros) : null;

    public Parameter PositionEmbeddings { get; } = new([1, c.ImageSize / c.PatchSize * (c.ImageSize / c.PatchSize) + 1, c.HiddenSize], tokens);

    [Key("patch_embeddings.projection")]
    public PatchEmbedding PatchEmbeddings { get; } = new(c.NumChannels, c.HiddenSize, c.PatchSize, bias: true, c.Normal);

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="interpolate">Whether images of another size than the config's get resized positions; otherwise they are refused.</param>
    /// <param name="masked">[b, patches] bool: replaced by the mask token; or null.</param>
    /// <returns>[b, 1 + patches, width]</returns>
    public Tensor Forward(Tensor pixels, bool interpolate, Tensor? masked = null)
    {
        var (height, width) = (pixels.shape[2], pixels.shape[3]);
        if (!interpolate && (height != c.ImageSize || width != c.ImageSize))
            throw new PanoptesException($"Images of {width}x{height} pixels were given to a model for {c.ImageSize}x{c.ImageSize}; resize them, or ask for interpolated positions.");
        using var scope = NewDisposeScope();
        var patches = PatchEmbeddings.Forward(pixels);
        if (masked is not null)
            patches = where(masked.unsqueeze(-1), (MaskToken ?? throw new PanoptesException("This model has no mask token; expected one that was trained with masked patches.")).Value, patches);
        var positions = PositionEmbeddings.Value;
        var (rows, columns) = ((int)height / c.PatchSize, (int)width / c.PatchSize);
        if (rows != side || columns != side)
            positions = cat([positions.narrow(1, 0, 1), Positions.ResizeBicubic(positions[0].narrow(0, 1, side * side), side, side, rows, columns).unsqueeze(0)], 1);
        return cat([ClsToken.Value.expand(patches.shape[0], 1, -1), patches], 1).add(positions).MoveToOuterDisposeScope();
    }
}

/// <summary>The blocks. Keys: layer.N.</summary>
public sealed class VitEncoder(VitSizes s) : Module
{
    public ModuleList<VitLayer> Layer { get; } = new(s.Layers, _ => new VitLayer(s));
}

/// <summary>tanh of a linear layer on the class token. Keys: dense.</summary>
public sealed class VitPooler(int width, int outputSize, Initializer initializer) : Module
{
    public Linear Dense { get; } = new(width, outputSize, initializer: initializer);

    /// <param name="token">[..., width]</param>
    public Tensor Forward(Tensor token)
    {
        using var dense = Dense.Forward(token);
        return dense.tanh();
    }
}

/// <summary>
/// The vision transformer. Keys: embeddings, encoder.layer.N, layernorm, pooler. Its pooled feature is the pooler's output, or without a pooler
/// the class token (or the patches' mean) after the last norm.
/// </summary>
public sealed class VitModel : Module, IMaskedImageTower, IPatchDropout, IStochasticDepth
{
    /// <param name="config">All sizes.</param>
    /// <param name="pooler">Whether a layer follows the class token, where the config does not say.</param>
    /// <param name="maskToken">Whether patches can be masked.</param>
    /// <param name="tokens">How class token and positions start; by default as the other weights.</param>
    public VitModel(VitConfig config, bool pooler = true, bool maskToken = false, Initializer? tokens = null)
    {
        if (config.PoolerAct != "tanh") throw new PanoptesException($"pooler_act is \"{config.PoolerAct}\"; expected \"tanh\".");
        Config = config;
        Embeddings = new(config, maskToken, tokens ?? config.Normal);
        Encoder = new(config.Sizes);
        Layernorm = new(config.HiddenSize, config.LayerNormEps);
        Pooler = (config.AddPoolingLayer ?? pooler) && !config.MeanPooling ? new(config.HiddenSize, config.PoolerOutputSize ?? config.HiddenSize, config.Normal) : null;
    }

    public VitConfig Config { get; }

    public VitEmbeddings Embeddings { get; }

    public VitEncoder Encoder { get; }

    public LayerNorm Layernorm { get; }

    public VitPooler? Pooler { get; }

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Pooler is null ? Config.HiddenSize : Config.PoolerOutputSize ?? Config.HiddenSize;

    public int TokenSize => Config.HiddenSize;

    public int PrefixTokens => 1;

    /// <summary>Whether images of other sizes than <see cref="ImageSize"/> are taken, with positions resized to them.</summary>
    public bool InterpolatePositions { get; set; }

    /// <summary>The fraction of patches that <see cref="Encode"/> leaves out in training (FLIP), from 0 to below 1.</summary>
    public double PatchDropout { get; set; }

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first, as in DeiT.</summary>
    public double DropPath { get; set; }

    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([Embeddings], Encoder.Layer, [Layernorm], [Pooler]);

    public Tensor EmbedTokens(Tensor tokens) => Pooler?.Forward(tokens) ?? tokens.alias();

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        if (!Config.MeanPooling) return (Pooler?.Forward(ClassToken(pixels)) ?? ClassToken(pixels)).MoveToOuterDisposeScope();
        var x = Embedded(pixels);
        return Pool(Layernorm.Forward(Blocks(x, Encoder.Layer.Count, Kept(x)))).MoveToOuterDisposeScope();
    }

    /// <summary>The class token after the last norm, [b, width], without any other token's last block.</summary>
    internal Tensor ClassToken(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var x = Embedded(pixels);
        var (kept, last) = (Kept(x), Encoder.Layer.Count - 1);
        if (last >= 0) x = Encoder.Layer[last].Forward(Blocks(x, last, kept), kept?[last], first: true);
        return Layernorm.Forward(x.select(1, 0)).MoveToOuterDisposeScope();
    }

    /// <summary>The tokens before the first block, in training without those that are left out.</summary>
    Tensor Embedded(Tensor pixels)
    {
        var x = Embeddings.Forward(pixels, InterpolatePositions);
        return Training && PatchDropout > 0 ? Representation.PatchDropout.Draw(x, PatchDropout, Random) : x;
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Forward(pixels, null, hiddenStates);

    public TowerOutput Forward(Tensor pixels, Tensor? masked, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var x = Embeddings.Forward(pixels, InterpolatePositions, masked);
        var tokens = Layernorm.Forward(Blocks(x, Encoder.Layer.Count, Kept(x), states));
        var pooled = Pool(tokens);
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    Tensor? Kept(Tensor x) => Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Encoder.Layer.Count), 2, x, Random) : null;

    Tensor Blocks(Tensor x, int count, Tensor? kept, ICollection<Tensor>? states = null) =>
        BlockStack.Forward([.. Encoder.Layer.Take(count)], x, static (layer, x, kept, _) => layer.Forward(x, kept), kept, checkpointed: ActivationsCheckpointed, hiddenStates: states);

    /// <param name="tokens">[b, tokens, width] after the last norm</param>
    Tensor Pool(Tensor tokens) => Config.MeanPooling ? tokens.narrow(1, 1, tokens.shape[1] - 1).mean([1]) : Pooler?.Forward(tokens.select(1, 0)) ?? tokens.select(1, 0);
}

/// <summary>The vision transformer with a classifier on its class token. Keys: vit, classifier.</summary>
public sealed class VitForImageClassification(VitConfig config) : ImageClassifier(config.HiddenSize, config)
{
    public VitModel Vit { get; } = new(config, pooler: false);

    public override IImageTower Tower => Vit;
}
