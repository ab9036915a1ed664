using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// BEiT (Bao et al. 2022, arXiv:2106.08254) with the keys and the config.json of Hugging Face's BeitModel and the models on it. Weights start as
// in the paper's code (microsoft/unilm, beit/modeling_pretrain.py).

/// <summary>The encoder, and what stands on it ("beit").</summary>
public sealed record BeitConfig : ImageModelConfig
{
    /// <summary>How many visual tokens there are.</summary>
    public int VocabSize { get; init; } = 8192;
    public int HiddenSize { get; init; } = 768;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int IntermediateSize { get; init; } = 3072;
    public double LayerNormEps { get; init; } = 1e-12;
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 16;
    public bool UseMaskToken { get; init; }
    public bool UseAbsolutePositionEmbeddings { get; init; }

    /// <summary>Whether every layer has a table of biases by relative position.</summary>
    public bool UseRelativePositionBias { get; init; }

    /// <summary>Whether all layers share one.</summary>
    public bool UseSharedRelativePositionBias { get; init; }

    /// <summary>What residual branches are scaled by in the beginning; 0: they are not scaled.</summary>
    public double LayerScaleInitValue { get; init; } = 0.1;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPathRate { get; init; } = 0.1;

    /// <summary>Whether images are pooled to the mean of their patches, normalized after that, instead of to the class token.</summary>
    public bool UseMeanPooling { get; init; } = true;

    /// <summary>Of semantic segmentation: into how many parts a side the deepest features are pooled.</summary>
    public int[] PoolScales { get; init; } = [1, 2, 3, 6];
    public bool UseAuxiliaryHead { get; init; } = true;
    public double AuxiliaryLossWeight { get; init; } = 0.4;
    public int AuxiliaryChannels { get; init; } = 256;
    public int AuxiliaryNumConvs { get; init; } = 1;
    public bool AuxiliaryConcatInput { get; init; }

    /// <summary>The label that is not judged.</summary>
    public int SemanticLossIgnoreIndex { get; init; } = 255;

    /// <summary>Of semantic segmentation: the four states that it looks at; 1 is the embeddings, 2 the first layer's output.</summary>
    public int[]? OutIndices { get; init; }
    public string ModelType { get; init; } = "beit";

    /// <summary>Patches a side.</summary>
    [JsonIgnore]
    public int Side => ImageSize / PatchSize;

    /// <summary>How many classes are told apart.</summary>
    internal int Classes => Id2Label?.Count ?? NumLabels ?? 2;

    /// <summary>A normal cut off at one deviation, as in the paper's code (timm's is cut at ±2, that is not at all).</summary>
    internal Initializer Truncated(double factor = 1) => (t, g) =>
    {
        const double within = 0.6826894921370859;                                                  // of the normal's mass
        var std = InitializerRange * factor;
        t.uniform_(-within, within, g);
        t.erfinv_().mul_(std * Math.Sqrt(2)).clamp_(-std, std);
    };
}

/// <summary>
/// A learned bias of the attention for every head and every distance in rows and columns between two patches, and three more that concern the
/// class token. Key: relative_position_bias_table [(2 rows - 1) (2 columns - 1) + 3, heads].
/// </summary>
public sealed class BeitRelativePositionBias(BeitConfig c) : Module
{
    const int OfClassToken = 3;

    readonly int span = 2 * c.Side - 1;

    public Parameter RelativePositionBiasTable { get; } = new([(2 * c.Side - 1) * (2 * c.Side - 1) + OfClassToken, c.NumAttentionHeads], Init.Zeros);

    /// <param name="index">[tokens, tokens] int64 of <see cref="Index"/>, for a grid of <paramref name="rows"/> and <paramref name="columns"/>.</param>
    /// <returns>[1, heads, tokens, tokens]</returns>
    public Tensor Forward(Tensor index, int rows, int columns)
    {
        using var scope = NewDisposeScope();
        var table = RelativePositionBiasTable.Value;
        if (rows != c.Side || columns != c.Side)
        {
            var (patches, rest) = (table.narrow(0, 0, span * span), table.narrow(0, span * span, OfClassToken));
            var grid = patches.view(1, span, span, -1).permute(0, 3, 1, 2);                        // [1, heads, 2 side - 1, 2 side - 1]
            if (grid.dtype == ScalarType.BFloat16) grid = grid.to(ScalarType.Float32);
            var resized = nn.functional.interpolate(grid, [2 * rows - 1, 2 * columns - 1], mode: InterpolationMode.Bilinear, align_corners: false);
            table = cat([resized.squeeze(0).flatten(1).t().to(table.dtype), rest]);
        }
        return Native.TorchOps.Embedding(table, index).permute(2, 0, 1).unsqueeze(0).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>Which row of the table concerns a token (first the class token, then patches row by row) that looks at another: [tokens, tokens] int64.</summary>
    public static Tensor Index(int rows, int columns)
    {
        var (tokens, patches) = (rows * columns + 1, (2 * rows - 1) * (2 * columns - 1));
        var index = new long[tokens * tokens];
        for (var i = 1; i < tokens; i++)
        {
            var (row, column) = Math.DivRem(i - 1, columns);
            var line = index.AsSpan(i * tokens, tokens);
            line[0] = patches + 1;                                     // a patch that looks at the class token
            for (var j = 1; j < tokens; j++)
            {
                var (otherRow, otherColumn) = Math.DivRem(j - 1, columns);
                line[j] = (row - otherRow + rows - 1) * (2 * columns - 1) + column - otherColumn + columns - 1;
            }
        }
        index.AsSpan(0, tokens).Fill(patches);                         // the class token that looks at a patch
        index[0] = patches + 2;                                        // and at itself
        return tensor(index, [tokens, tokens]);
    }
}

/// <summary>
/// A transformer block with scaled residual branches; keys have no bias. Keys: attention, intermediate, output, layernorm_before, layernorm_after, lambda_1, lambda_2.
/// </summary>
/// <param name="c">Its sizes.</param>
/// <param name="index">Which block it is: later ones start smaller.</param>
public sealed class BeitLayer(BeitConfig c, int index) : Module
{
    [Key("attention.attention.query")]
    public Linear Query { get; } = new(Attention.Divisible(c.HiddenSize, c.NumAttentionHeads), c.HiddenSize, initializer: c.Truncated());

    [Key("attention.attention.key")]
    public Linear Key { get; } = new(c.HiddenSize, c.HiddenSize, bias: false, c.Truncated());

    [Key("attention.attention.value")]
    public Linear Value { get; } = new(c.HiddenSize, c.HiddenSize, initializer: c.Truncated());

    [Key("attention.attention.relative_position_bias")]
    public BeitRelativePositionBias? RelativePositionBias { get; } = c.UseRelativePositionBias ? new(c) : null;

    [Key("attention.output.dense")]
    public Linear Projection { get; } = new(c.HiddenSize, c.HiddenSize, initializer: c.Truncated(1 / Math.Sqrt(2 * (index + 1))));

    [Key("intermediate.dense")]
    public Linear Intermediate { get; } = new(c.HiddenSize, c.IntermediateSize, initializer: c.Truncated());

    [Key("output.dense")]
    public Linear Output { get; } = new(c.IntermediateSize, c.HiddenSize, initializer: c.Truncated(1 / Math.Sqrt(2 * (index + 1))));

    public LayerNorm LayernormBefore { get; } = new(c.HiddenSize, c.LayerNormEps);

    public LayerNorm LayernormAfter { get; } = new(c.HiddenSize, c.LayerNormEps);

    [Key("lambda_1")]
    public Parameter? Lambda1 { get; } = c.LayerScaleInitValue > 0 ? new([c.HiddenSize], Init.Constant(c.LayerScaleInitValue)) : null;

    [Key("lambda_2")]
    public Parameter? Lambda2 { get; } = c.LayerScaleInitValue > 0 ? new([c.HiddenSize], Init.Constant(c.LayerScaleInitValue)) : null;

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="bias">[1, heads, tokens, tokens], or null</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth.Draw"/>, or null</param>
    /// <param name="first">Whether only the first token goes through the block (and sees all).</param>
    /// <returns>[b, tokens or 1, width]</returns>
    public Tensor Forward(Tensor x, Tensor? bias, Tensor? kept = null, bool first = false)
    {
        using var scope = NewDisposeScope();
        var all = LayernormBefore.Forward(x);
        var some = all;
        if (first) (x, some, bias) = (x.narrow(1, 0, 1), all.narrow(1, 0, 1), bias?.narrow(2, 0, 1));
        var seen = Attention.Apply(Attention.SplitHeads(Query.Forward(some), c.NumAttentionHeads), Attention.SplitHeads(Key.Forward(all), c.NumAttentionHeads),
            Attention.SplitHeads(Value.Forward(all), c.NumAttentionHeads), bias);
        x = EncoderLayer.Residual(x, Branch(Projection.Forward(Attention.MergeHeads(seen)), Lambda1, kept, 0));
        return EncoderLayer.Residual(x, Branch(Mlp.Apply(Intermediate, Output, c.HiddenAct, LayernormAfter.Forward(x)), Lambda2, kept, 1)).MoveToOuterDisposeScope();
    }

    static Tensor Branch(Tensor change, Parameter? scale, Tensor? kept, int index) => StochasticDepth.Apply(scale is null ? change : scale.Value * change, kept, index);
}

/// <summary>Patches, those that are masked replaced by a token, and a class token before them. Keys: cls_token, mask_token, position_embeddings, patch_embeddings.projection.</summary>
public sealed class BeitEmbeddings(BeitConfig c) : Module
{
    public Parameter ClsToken { get; } = new([1, 1, c.HiddenSize], c.Truncated());

    public Parameter? MaskToken { get; } = c.UseMaskToken ? new([1, 1, c.HiddenSize], c.Truncated()) : null;

    public Parameter? PositionEmbeddings { get; } = c.UseAbsolutePositionEmbeddings ? new([1, c.Side * c.Side + 1, c.HiddenSize], c.Truncated()) : null;

    [Key("patch_embeddings.projection")]
    public PatchEmbedding PatchEmbeddings { get; } = new(c.NumChannels, c.HiddenSize, c.PatchSize, bias: true, c.Truncated());

    /// <param name="pixels">[b, channels, height, width]; positions are resized to other sizes than the config's.</param>
    /// <param name="masked">[b, patches] bool, or null</param>
    /// <returns>[b, 1 + patches, width]</returns>
    /// <exception cref="PanoptesException">Patches are masked, but the model has no mask token.</exception>
    public Tensor Forward(Tensor pixels, Tensor? masked)
    {
        using var scope = NewDisposeScope();
        var patches = PatchEmbeddings.Forward(pixels);
        if (masked is not null)
            patches = where(masked.unsqueeze(-1), MaskToken?.Value ?? throw new PanoptesException("Patches are masked, but this model has no mask token (use_mask_token is false)."), patches);
        var x = cat([ClsToken.Value.expand(patches.shape[0], -1, -1), patches], 1);
        if (PositionEmbeddings is not null)
        {
            var (positions, rows, columns) = (PositionEmbeddings.Value, (int)pixels.shape[2] / c.PatchSize, (int)pixels.shape[3] / c.PatchSize);
            if (rows != c.Side || columns != c.Side)
                positions = cat([positions.narrow(1, 0, 1), Positions.ResizeBicubic(positions[0].narrow(0, 1, c.Side * c.Side), c.Side, c.Side, rows, columns).unsqueeze(0)], 1);
            x = x.add(positions);
        }
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>Normalizes the patches' mean; without mean pooling it has no weights. Keys: layernorm.</summary>
public sealed class BeitPooler(BeitConfig c) : Module
{
    public LayerNorm Layernorm { get; } = new(c.HiddenSize, c.LayerNormEps);
}

/// <summary>
/// The encoder: Hugging Face's BeitModel. It takes images of any size. Keys: embeddings, encoder.layer, encoder.relative_position_bias, layernorm, pooler.
/// </summary>
/// <param name="config">Its sizes.</param>
/// <param name="pooler">Whether the mean over the patches is normalized; models that need no pooled feature have no such weights.</param>
public sealed class BeitModel(BeitConfig config, bool pooler = true) : Module, IMaskedImageTower, IStochasticDepth
{
    public BeitConfig Config { get; } = config;

    public BeitEmbeddings Embeddings { get; } = new(config);

    /// <summary>The biases that all layers share.</summary>
    [Key("encoder.relative_position_bias")]
    public BeitRelativePositionBias? SharedPositionBias { get; } = config.UseSharedRelativePositionBias ? new(config) : null;

    [Key("encoder.layer")]
    public ModuleList<BeitLayer> Layers { get; } = new(config.NumHiddenLayers, i => new BeitLayer(config, i));

    public LayerNorm? Layernorm { get; } = config.UseMeanPooling ? null : new(config.HiddenSize, config.LayerNormEps);

    public BeitPooler? Pooler { get; } = config.UseMeanPooling && pooler ? new(config) : null;

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Config.HiddenSize;

    public int PrefixTokens => 1;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPath { get; set; } = StochasticDepth.Check(config.DropPathRate);

    /// <summary>Draws what is left out; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([Embeddings, SharedPositionBias], Layers, [Layernorm, Pooler], []);

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Pool(Norm(Blocks(pixels, null, first: !Config.UseMeanPooling, null))).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Forward(pixels, null, hiddenStates);

    public TowerOutput Forward(Tensor pixels, Tensor? masked, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var tokens = Norm(Blocks(pixels, masked, first: false, states));
        var pooled = Pool(tokens);
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    /// <summary>With mean pooling each patch as if it were the mean, which is normalized after it.</summary>
    public Tensor EmbedTokens(Tensor tokens) => Pooler is null ? tokens.alias() : Pooler.Layernorm.Forward(tokens);

    Tensor Norm(Tensor x) => Layernorm is null ? x : Layernorm.Forward(x);

    /// <param name="tokens">[b, tokens, width] after the norm; of a model with a class token the first is enough.</param>
    Tensor Pool(Tensor tokens)
    {
        if (!Config.UseMeanPooling) return tokens.select(1, 0);
        var mean = tokens.narrow(1, 1, tokens.shape[1] - 1).mean([1]);
        return Pooler is null ? mean : Pooler.Layernorm.Forward(mean);
    }

    /// <summary>The last block's output: of every token, or of the first only.</summary>
    Tensor Blocks(Tensor pixels, Tensor? masked, bool first, ICollection<Tensor>? states)
    {
        using var scope = NewDisposeScope();
        var x = Embeddings.Forward(pixels, masked);
        var (rows, columns) = ((int)pixels.shape[2] / Config.PatchSize, (int)pixels.shape[3] / Config.PatchSize);
        var index = Config.UseRelativePositionBias || Config.UseSharedRelativePositionBias ? BeitRelativePositionBias.Index(rows, columns).to(x.device) : null;
        var kept = Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Layers.Count), 2, x, Random) : null;
        // A block that is computed again gathers its own biases, so that their gradient comes about within it.
        var shared = ActivationsCheckpointed ? null : SharedPositionBias?.Forward(index!, rows, columns);
        var last = first && Layers.Count > 0 ? Layers[^1] : null;
        var y = BlockStack.Forward(Layers, x, Block, kept, index, ActivationsCheckpointed, states);
        if (states is null) return y.MoveToOuterDisposeScope();
        foreach (var state in states) state.MoveToOuterDisposeScope();   // the last is the output
        return y;

        Tensor Block(BeitLayer layer, Tensor x, Tensor? kept, Tensor? index)
        {
            using var inner = NewDisposeScope();
            Tensor? bias = null;
            foreach (var table in (BeitRelativePositionBias?[])[layer.RelativePositionBias, shared is null ? SharedPositionBias : null])
                if (table is not null) bias = bias is null ? table.Forward(index!, rows, columns) : bias + table.Forward(index!, rows, columns);
            if (shared is not null) bias = bias is null ? shared : bias + shared;
            return layer.Forward(x, bias, kept, first: ReferenceEquals(layer, last)).MoveToOuterDisposeScope();
        }
    }
}

/// <summary>
/// BEiT in pretraining: masked patches are replaced by a token, and which visual token (of an image tokenizer) stood there is to be told. As a
/// tower it is its encoder. Keys: beit, layernorm, lm_head.
/// </summary>
/// <example><code>
/// var masked = BlockwiseMask.Draw(batch, 14, 14, 75, generator);
/// beit.Loss(pixels, masked, tokenizer.Tokens(smallerPixels)).backward();
/// </code></example>
public sealed class BeitForMaskedImageModeling(BeitConfig config) : Module, IMaskedImageTower, IStochasticDepth
{
    public BeitModel Beit { get; } = new(config, pooler: false);

    public LayerNorm Layernorm { get; } = new(config.HiddenSize, config.LayerNormEps);

    public Linear LmHead { get; } = new(config.HiddenSize, config.VocabSize, initializer: config.Truncated());

    public int ImageSize => Beit.ImageSize;

    public int EmbeddingSize => Beit.EmbeddingSize;

    public int PrefixTokens => Beit.PrefixTokens;

    public double DropPath
    {
        get => Beit.DropPath;
        set => Beit.DropPath = value;
    }

    public Generator? Random
    {
        get => Beit.Random;
        set => Beit.Random = value;
    }

    public LayerGroups LayerGroups => Beit.LayerGroups.WithHead(Layernorm, LmHead);

    public Tensor EmbedTokens(Tensor tokens) => Beit.EmbedTokens(tokens);

    public Tensor Encode(Tensor pixels) => Beit.Encode(pixels);

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Beit.Forward(pixels, hiddenStates);

    public TowerOutput Forward(Tensor pixels, Tensor masked, bool hiddenStates = false) => Beit.Forward(pixels, masked, hiddenStates);

    /// <summary>The logits of every patch's visual token: [b, patches, vocabulary].</summary>
    /// <param name="tokens">[b, 1 + patches, width]: the encoder's <see cref="TowerOutput.LastHiddenState"/>.</param>
    public Tensor Logits(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return LmHead.Forward(Layernorm.Forward(tokens.narrow(1, 1, tokens.shape[1] - 1))).MoveToOuterDisposeScope();
    }

    /// <summary>The mean cross-entropy over the masked patches; logits are computed for these only.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="masked">[b, patches] bool</param>
    /// <param name="labels">int64: every patch's visual token [b, patches] (or any shape of as many), or those of the masked ones [masked], row by row.</param>
    /// <exception cref="PanoptesException">No patch is masked.</exception>
    public Tensor Loss(Tensor pixels, Tensor masked, Tensor labels)
    {
        using var scope = NewDisposeScope();
        var rows = masked.flatten().nonzero().squeeze(1);
        if (rows.shape[0] == 0) throw new PanoptesException("No patch is masked, so there is nothing to predict.");
        labels = labels.flatten();
        if (labels.shape[0] == masked.numel()) labels = labels.index_select(0, rows);
        var tokens = Beit.Forward(pixels, masked).LastHiddenState;
        var picked = tokens.narrow(1, 1, tokens.shape[1] - 1).reshape(-1, tokens.shape[2]).index_select(0, rows);    // [masked, width]
        var logits = LmHead.Forward(Layernorm.Forward(picked));
        return nn.functional.cross_entropy(logits.to(ScalarType.Float32), labels).MoveToOuterDisposeScope();
    }
}

/// <summary>BEiT with a classifier on its pooled feature. Keys: beit, classifier.</summary>
public sealed class BeitForImageClassification(BeitConfig config) : ImageClassifier(config.HiddenSize, config)
{
    public BeitModel Beit { get; } = new(config);

    public override IImageTower Tower => Beit;
}
