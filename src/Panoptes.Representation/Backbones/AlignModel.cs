using Panoptes.Nn;

namespace Panoptes.Representation;

// ALIGN (Jia et al. 2021, arXiv:2102.05918): an EfficientNet (Tan and Le 2019, arXiv:1905.11946) and a BERT (Devlin et al. 2019,
// arXiv:1810.04805) that meet in one space, with the keys and the config.json of Hugging Face's AlignModel.

/// <summary>The text tower's config ("align_text_model"). The peer's dropout is not applied.</summary>
public sealed record AlignTextConfig : ModelConfig
{
    public int VocabSize { get; init; } = 30522;
    public int HiddenSize { get; init; } = 768;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int IntermediateSize { get; init; } = 3072;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public int MaxPositionEmbeddings { get; init; } = 512;
    public int TypeVocabSize { get; init; } = 2;
    public double InitializerRange { get; init; } = 0.02;
    public double LayerNormEps { get; init; } = 1e-12;
    public int? PadTokenId { get; init; } = 0;
    public string ModelType { get; init; } = "align_text_model";
}

/// <summary>The image tower's config ("align_vision_model"): an EfficientNet's numbers before they are widened and deepened.</summary>
public sealed record AlignVisionConfig : ModelConfig
{
    public int NumChannels { get; init; } = 3;
    public int ImageSize { get; init; } = 600;
    public double WidthCoefficient { get; init; } = 2;
    public double DepthCoefficient { get; init; } = 3.1;

    /// <summary>Widths are multiples of this.</summary>
    public int DepthDivisor { get; init; } = 8;
    public int[] KernelSizes { get; init; } = [3, 3, 5, 3, 5, 5, 3];
    public int[] InChannels { get; init; } = [32, 16, 24, 40, 80, 112, 192];
    public int[] OutChannels { get; init; } = [16, 24, 40, 80, 112, 192, 320];

    /// <summary>The blocks (from 0) that are padded alike on both sides where they halve.</summary>
    public long[] DepthwisePadding { get; init; } = [];
    public int[] Strides { get; init; } = [1, 2, 2, 2, 1, 2, 1];
    public int[] NumBlockRepeats { get; init; } = [1, 2, 2, 3, 3, 4, 1];
    public int[] ExpandRatios { get; init; } = [1, 6, 6, 6, 6, 6, 6];
    public double SqueezeExpansionRatio { get; init; } = 0.25;
    public Activation HiddenAct { get; init; } = Activation.Silu;
    public string PoolingType { get; init; } = "mean";
    public double InitializerRange { get; init; } = 0.02;
    public double BatchNormEps { get; init; } = 0.001;
    public double BatchNormMomentum { get; init; } = 0.99;

    /// <summary>The probability that the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropConnectRate { get; init; } = 0.2;
    public string ModelType { get; init; } = "align_vision_model";

    /// <summary>A width times the coefficient, in whole multiples of the divisor, never more than a tenth less.</summary>
    internal int Widened(int channels)
    {
        var wide = channels * WidthCoefficient;
        var rounded = Math.Max(DepthDivisor, (int)(wide + DepthDivisor / 2.0) / DepthDivisor * DepthDivisor);
        return rounded < 0.9 * wide ? rounded + DepthDivisor : rounded;
    }
}

/// <summary>Both towers and what joins them ("align").</summary>
public sealed record AlignConfig : ModelConfig
{
    public AlignTextConfig TextConfig { get; init; } = new();
    public AlignVisionConfig VisionConfig { get; init; } = new();
    public int ProjectionDim { get; init; } = 640;

    /// <summary>What cosines are divided by at the start.</summary>
    public double TemperatureInitValue { get; init; } = 1;
    public double InitializerRange { get; init; } = 0.02;
    public string ModelType { get; init; } = "align";
    public string[] Architectures { get; init; } = ["AlignModel"];
}

/// <summary>
/// A block that widens, looks around, weighs its channels by their means, and narrows. Keys: expansion.expand_conv, expansion.expand_bn,
/// depthwise_conv.depthwise_conv, depthwise_conv.depthwise_norm, squeeze_excite.reduce, squeeze_excite.expand, projection.project_conv,
/// projection.project_bn.
/// </summary>
public sealed class AlignVisionBlock : Module
{
    readonly AlignVisionConfig c;
    readonly int kernel, stride;
    readonly bool residual, oneSided;

    internal AlignVisionBlock(AlignVisionConfig c, int inChannels, int outChannels, int expandRatio, int kernel, int stride, bool residual, bool oneSided)
    {
        (this.c, this.kernel, this.stride, this.residual, this.oneSided) = (c, kernel, stride, residual, oneSided);
        var wide = inChannels * expandRatio;
        var squeezed = Math.Max(1, (int)(inChannels * c.SqueezeExpansionRatio));
        var normal = Init.Normal(c.InitializerRange);
        if (expandRatio != 1) (ExpandConv, ExpandBn) = (new(inChannels, wide, 1, bias: false, initializer: normal), new(wide, c.BatchNormEps));
        DepthwiseConv = new(wide, wide, kernel, stride, stride == 2 ? 0 : kernel / 2, bias: false, normal, groups: wide);
        DepthwiseNorm = new(wide, c.BatchNormEps, c.BatchNormMomentum);
        Reduce = new(wide, squeezed, 1, initializer: normal);
        Expand = new(squeezed, wide, 1, initializer: normal);
        ProjectConv = new(wide, outChannels, 1, bias: false, initializer: normal);
        ProjectBn = new(outChannels, c.BatchNormEps, c.BatchNormMomentum);
    }

    [Key("expansion.expand_conv")]
    public Conv2d? ExpandConv { get; }

    [Key("expansion.expand_bn")]
    public BatchNorm? ExpandBn { get; }

    [Key("depthwise_conv.depthwise_conv")]
    public Conv2d DepthwiseConv { get; }

    [Key("depthwise_conv.depthwise_norm")]
    public BatchNorm DepthwiseNorm { get; }

    [Key("squeeze_excite.reduce")]
    public Conv2d Reduce { get; }

    [Key("squeeze_excite.expand")]
    public Conv2d Expand { get; }

    [Key("projection.project_conv")]
    public Conv2d ProjectConv { get; }

    [Key("projection.project_bn")]
    public BatchNorm ProjectBn { get; }

    /// <param name="x">[b, channels, height, width]</param>
    /// <param name="kept">[1, b] of <see cref="StochasticDepth"/>, or null. (The peer drops single numbers instead; EfficientNet's code whole images.)</param>
    public Tensor Forward(Tensor x, Tensor? kept = null)
    {
        using var scope = NewDisposeScope();
        var y = ExpandConv is null ? x : c.HiddenAct.Apply(ExpandBn!.Forward(ExpandConv.Forward(x)));
        if (stride == 2)
        {
            // As TensorFlow pads: one less at the top and left.
            var (half, before) = (kernel / 2, oneSided ? kernel / 2 - 1 : kernel / 2);
            y = nn.functional.pad(y, [before, half, before, half]);
        }
        y = c.HiddenAct.Apply(DepthwiseNorm.Forward(DepthwiseConv.Forward(y)));
        y = y * Expand.Forward(c.HiddenAct.Apply(Reduce.Forward(y.mean([2, 3], keepdim: true)))).sigmoid();
        y = ProjectBn.Forward(ProjectConv.Forward(y));
        return (residual ? x + StochasticDepth.Apply(y, kept, 0) : y).MoveToOuterDisposeScope();
    }
}

/// <summary>The first convolution, which halves. Keys: convolution, batchnorm.</summary>
public sealed class AlignVisionEmbeddings(AlignVisionConfig c) : Module
{
    public Conv2d Convolution { get; } = new(c.NumChannels, c.Widened(32), 3, stride: 2, bias: false, initializer: Init.Normal(c.InitializerRange));

    public BatchNorm Batchnorm { get; } = new(c.Widened(32), c.BatchNormEps, c.BatchNormMomentum);

    /// <param name="pixels">[b, channels, height, width]</param>
    public Tensor Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return c.HiddenAct.Apply(Batchnorm.Forward(Convolution.Forward(nn.functional.pad(pixels.to(Convolution.Weight.Value.dtype), [0, 1, 0, 1])))).MoveToOuterDisposeScope();
    }
}

/// <summary>All blocks in a row. Keys: blocks.N.</summary>
public sealed class AlignVisionEncoder(AlignVisionConfig c) : Module
{
    public ModuleList<AlignVisionBlock> Blocks { get; } = new(Plan(c));

    static IEnumerable<AlignVisionBlock> Plan(AlignVisionConfig c)
    {
        var index = 0;
        for (var stage = 0; stage < c.InChannels.Length; stage++)
        {
            var (inChannels, outChannels, repeats) = (c.Widened(c.InChannels[stage]), c.Widened(c.OutChannels[stage]), (int)Math.Ceiling(c.DepthCoefficient * c.NumBlockRepeats[stage]));
            for (var i = 0; i < repeats; i++, index++)
            {
                if (index == 1000) throw new PanoptesException("A model of more than 1000 layers was asked for.");
                var stride = i == 0 ? c.Strides[stage] : 1;
                yield return new(c, i == 0 ? inChannels : outChannels, outChannels, c.ExpandRatios[stage], c.KernelSizes[stage], stride, residual: stride == 1 && i > 0, oneSided: !c.DepthwisePadding.Contains(index));
            }
        }
    }
}

/// <summary>The EfficientNet. Keys: embeddings, encoder.</summary>
public sealed class AlignVisionTransformer : Module
{
    readonly AlignVisionConfig c;

    internal AlignVisionTransformer(AlignVisionConfig c)
    {
        this.c = c;
        if (c.PoolingType is not ("mean" or "max")) throw new PanoptesException($"pooling_type is \"{c.PoolingType}\"; expected \"mean\" or \"max\".");
        var stages = c.InChannels.Length;
        if (c.OutChannels.Length != stages || c.Strides.Length != stages || c.KernelSizes.Length != stages || c.ExpandRatios.Length != stages || c.NumBlockRepeats.Length != stages)
            throw new PanoptesException($"in_channels has {stages} stages; expected as many in out_channels, strides, kernel_sizes, expand_ratios and num_block_repeats.");
        Embeddings = new(c);
        Encoder = new(c);
    }

    public AlignVisionEmbeddings Embeddings { get; }

    public AlignVisionEncoder Encoder { get; }

    /// <returns>[b, channels, height, width]</returns>
    internal Tensor Map(Tensor pixels, Tensor? kept, ICollection<Tensor>? hiddenStates = null)
    {
        using var scope = NewDisposeScope();
        var map = BlockStack.Forward(Encoder.Blocks, Embeddings.Forward(pixels), static (block, x, kept, _) => block.Forward(x, kept), kept, checkpointed: ActivationsCheckpointed, hiddenStates: hiddenStates);
        foreach (var state in hiddenStates ?? []) state.MoveToOuterDisposeScope();
        return map.MoveToOuterDisposeScope();
    }

    internal Tensor Pool(Tensor map) => c.PoolingType == "mean" ? map.mean([2, 3]) : map.amax([2, 3]);
}

/// <summary>ALIGN's image tower, whose pooled feature is its embedding. Keys: vision_model.</summary>
public sealed class AlignVision(AlignVisionConfig config) : Module, IImageTower, IStochasticDepth
{
    public AlignVisionConfig Config { get; } = config;

    public AlignVisionTransformer VisionModel { get; } = new(config);

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize { get; } = config.OutChannels.Length > 0 ? config.Widened(config.OutChannels[^1]) : 0;

    public double DropPath { get; set; } = StochasticDepth.Check(config.DropConnectRate);

    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([VisionModel.Embeddings], VisionModel.Encoder.Blocks, [], []);

    public Tensor EmbedTokens(Tensor tokens) => tokens.alias();

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return VisionModel.Pool(VisionModel.Map(pixels, Kept(pixels))).MoveToOuterDisposeScope();
    }

    /// <summary>The tokens are the last map's places; the hidden states every block's map.</summary>
    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var map = VisionModel.Map(pixels, Kept(pixels), states);
        var (tokens, pooled) = (map.flatten(2).transpose(1, 2), VisionModel.Pool(map));
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    Tensor? Kept(Tensor pixels) => Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, VisionModel.Encoder.Blocks.Count), 1, pixels, Random) : null;
}

/// <summary>
/// BERT's token, position and sentence tables, added up and normalized. Keys: word_embeddings, position_embeddings, token_type_embeddings, LayerNorm.
/// </summary>
public sealed class BertEmbeddings(int vocabulary, int positions, int types, int width, double eps, int? padding, double range) : Module
{
    public Embedding WordEmbeddings { get; } = new(vocabulary, width, (table, generator) =>
    {
        table.normal_(0, range, generator);
        if (padding is { } row && row >= 0 && row < vocabulary) table[row].zero_();
    });

    public Embedding PositionEmbeddings { get; } = new(positions, width, Init.Normal(range));

    public Embedding TokenTypeEmbeddings { get; } = new(types, width, Init.Normal(range));

    [Key("LayerNorm")]
    public LayerNorm LayerNorm { get; } = new(width, eps);

    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="tokenTypes">[b, tokens] int64: which sentence each belongs to; null: all to the first.</param>
    /// <param name="places">[b, tokens] int64: where each stands; null: one after the other.</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor ids, Tensor? tokenTypes = null, Tensor? places = null)
    {
        if (ids.shape[1] > positions) throw new PanoptesException($"A text of {ids.shape[1]} tokens was given to a model whose texts have at most {positions}.");
        using var scope = NewDisposeScope();
        var sentences = tokenTypes is null ? TokenTypeEmbeddings.Weight.Value.narrow(0, 0, 1) : TokenTypeEmbeddings.Forward(tokenTypes);
        return LayerNorm.Forward(WordEmbeddings.Forward(ids) + sentences + (places is null ? PositionEmbeddings.Weight.Value.narrow(0, 0, ids.shape[1]) : PositionEmbeddings.Forward(places))).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// BERT's block, which normalizes after each branch. Keys: attention.self.query, attention.self.key, attention.self.value, attention.output.dense,
/// attention.output.LayerNorm, intermediate.dense, output.dense, output.LayerNorm.
/// </summary>
public sealed class BertLayer(AlignTextConfig c) : Module
{
    [Key("attention.self.query")]
    public Linear Query { get; } = new(Attention.Divisible(c.HiddenSize, c.NumAttentionHeads), c.HiddenSize, initializer: Init.Normal(c.InitializerRange));

    [Key("attention.self.key")]
    public Linear Key { get; } = new(c.HiddenSize, c.HiddenSize, initializer: Init.Normal(c.InitializerRange));

    [Key("attention.self.value")]
    public Linear Value { get; } = new(c.HiddenSize, c.HiddenSize, initializer: Init.Normal(c.InitializerRange));

    [Key("attention.output.dense")]
    public Linear AttentionOutput { get; } = new(c.HiddenSize, c.HiddenSize, initializer: Init.Normal(c.InitializerRange));

    [Key("attention.output.LayerNorm")]
    public LayerNorm AttentionNorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    [Key("intermediate.dense")]
    public Linear Intermediate { get; } = new(c.HiddenSize, c.IntermediateSize, initializer: Init.Normal(c.InitializerRange));

    [Key("output.dense")]
    public Linear Output { get; } = new(c.IntermediateSize, c.HiddenSize, initializer: Init.Normal(c.InitializerRange));

    [Key("output.LayerNorm")]
    public LayerNorm OutputNorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="mask">As in <see cref="Attention.Apply"/>.</param>
    public Tensor Forward(Tensor x, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var seen = Attention.Apply(Split(Query), Split(Key), Split(Value), mask);
        x = AttentionNorm.Forward(x + AttentionOutput.Forward(Attention.MergeHeads(seen)));
        return OutputNorm.Forward(x + Mlp.Apply(Intermediate, Output, c.HiddenAct, x)).MoveToOuterDisposeScope();

        Tensor Split(Linear projection) => Attention.SplitHeads(projection.Forward(x), c.NumAttentionHeads);
    }
}

/// <summary>The blocks. Keys: layer.N.</summary>
public sealed class BertEncoder(AlignTextConfig c) : Module
{
    public ModuleList<BertLayer> Layer { get; } = new(c.NumHiddenLayers, _ => new BertLayer(c));
}

/// <summary>BERT. Keys: embeddings, encoder.layer.N, pooler.dense.</summary>
public sealed class BertModel(AlignTextConfig c) : Module
{
    public BertEmbeddings Embeddings { get; } = new(c.VocabSize, c.MaxPositionEmbeddings, c.TypeVocabSize, c.HiddenSize, c.LayerNormEps, c.PadTokenId, c.InitializerRange);

    public BertEncoder Encoder { get; } = new(c);

    [Key("pooler.dense")]
    public Linear Pooler { get; } = new(c.HiddenSize, c.HiddenSize, initializer: Init.Normal(c.InitializerRange));

    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="mask">[b, tokens], 0 where padding; or null.</param>
    /// <param name="tokenTypes">As for the embeddings.</param>
    /// <param name="hiddenStates">Receives the input and the output of every block.</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor ids, Tensor? mask = null, Tensor? tokenTypes = null, ICollection<Tensor>? hiddenStates = null)
    {
        using var scope = NewDisposeScope();
        var tokens = BlockStack.Forward(Encoder.Layer, Embeddings.Forward(ids, tokenTypes), static (layer, x, _, mask) => layer.Forward(x, mask), shared: KeyMask.Of(mask),
            checkpointed: ActivationsCheckpointed, hiddenStates: hiddenStates);
        foreach (var state in hiddenStates ?? []) state.MoveToOuterDisposeScope();
        return tokens.MoveToOuterDisposeScope();
    }
}

/// <summary>ALIGN's text tower, whose embedding is its first token, projected. Keys: text_model, text_projection.</summary>
public sealed class AlignText(AlignTextConfig config, int embeddingSize) : Module, ITextTower
{
    public BertModel TextModel { get; } = new(config);

    public Linear TextProjection { get; } = new(config.HiddenSize, embeddingSize, initializer: Init.XavierUniform);

    public int ContextLength => config.MaxPositionEmbeddings;

    public int VocabularySize => config.VocabSize;

    public int EmbeddingSize => embeddingSize;

    public int TokenSize => config.HiddenSize;

    /// <summary>The pooler, which only the peer's pooled feature goes through, counts to the head.</summary>
    public LayerGroups LayerGroups => LayerGroups.Of([TextModel.Embeddings], TextModel.Encoder.Layer, [], [TextModel.Pooler, TextProjection]);

    public Tensor EmbedTokens(Tensor tokens) => TextProjection.Forward(tokens);

    public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return TextProjection.Forward(TextModel.Forward(inputIds, attentionMask).select(1, 0)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false) => Forward(inputIds, attentionMask, null, hiddenStates);

    /// <summary>With <paramref name="tokenTypes"/> [b, tokens]: which sentence each token belongs to. Pooled is BERT's pooler's output.</summary>
    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask, Tensor? tokenTypes, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var tokens = TextModel.Forward(inputIds, attentionMask, tokenTypes, states);
        var (pooled, embedding) = (TextModel.Pooler.Forward(tokens.select(1, 0)).tanh(), TextProjection.Forward(tokens.select(1, 0)));
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, embedding.MoveToOuterDisposeScope(), states);
    }
}

/// <summary>ALIGN. Keys: vision_model, text_model, text_projection, temperature. Cosines are divided by a learned temperature.</summary>
public sealed class AlignModel : Module
{
    public AlignModel(AlignConfig config)
    {
        Config = config;
        Temperature = new([], Init.Constant(config.TemperatureInitValue));
        Text = new(config.TextConfig, config.ProjectionDim);
        Vision = new(config.VisionConfig);
        if (Vision.EmbeddingSize != config.ProjectionDim)
            throw new PanoptesException($"projection_dim is {config.ProjectionDim}, but the image tower gives {Vision.EmbeddingSize} numbers; expected as many.");
    }

    public AlignConfig Config { get; }

    public Parameter Temperature { get; }

    /// <summary>The text tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public AlignText Text { get; }

    /// <summary>The image tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public AlignVision Vision { get; }

    /// <param name="pixels">[images, channels, height, width]</param>
    /// <param name="inputIds">[texts, tokens] int64</param>
    /// <param name="attentionMask">[texts, tokens], 0 where padding</param>
    /// <param name="tokenTypes">[texts, tokens] int64, or null</param>
    public ClipOutput Forward(Tensor pixels, Tensor inputIds, Tensor? attentionMask = null, Tensor? tokenTypes = null)
    {
        var (vision, text) = (Vision.Forward(pixels), Text.Forward(inputIds, attentionMask, tokenTypes));
        using var scope = NewDisposeScope();
        var (image, words) = (DualEncoder.Normalize(vision.Embedding), DualEncoder.Normalize(text.Embedding));
        var logits = image.matmul(words.t()) / Temperature.Value;
        return new(logits.MoveToOuterDisposeScope(), logits.t().MoveToOuterDisposeScope(), image.MoveToOuterDisposeScope(), words.MoveToOuterDisposeScope(), vision, text);
    }

    /// <summary>Every image finds its text and every text its image: cross-entropy with a tenth of the target spread over all pairs, a scalar.</summary>
    /// <param name="logitsPerImage">[n, n]; pair i is at [i, i].</param>
    public static Tensor Loss(Tensor logitsPerImage)
    {
        using var scope = NewDisposeScope();
        var targets = arange(logitsPerImage.shape[0], dtype: ScalarType.Int64, device: logitsPerImage.device);
        return ((Smoothed(logitsPerImage) + Smoothed(logitsPerImage.t())) / 2).MoveToOuterDisposeScope();

        Tensor Smoothed(Tensor logits)
        {
            var log = logits.log_softmax(-1);
            return -(0.9 * log.gather(1, targets.unsqueeze(1)).mean() + 0.1 * log.mean());
        }
    }
}
