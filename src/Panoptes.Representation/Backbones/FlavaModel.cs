using Panoptes.Nn;

namespace Panoptes.Representation;

// FLAVA (Singh et al. 2022, arXiv:2112.04482) with the keys and the config.json of Hugging Face's FlavaModel: a transformer for images, one for
// texts, and one over both.

/// <summary>The image transformer's config ("flava_image_model").</summary>
public sealed record FlavaImageConfig : VitConfig
{
    public FlavaImageConfig() => ModelType = "flava_image_model";

    /// <summary>Whether patches can be masked.</summary>
    public bool MaskToken { get; init; } = true;
}

/// <summary>The text transformer's config ("flava_text_model"). The peer's dropout is not applied.</summary>
public sealed record FlavaTextConfig : ModelConfig
{
    public int VocabSize { get; init; } = 30522;
    public int TypeVocabSize { get; init; } = 2;
    public int MaxPositionEmbeddings { get; init; } = 512;
    public int HiddenSize { get; init; } = 768;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int IntermediateSize { get; init; } = 3072;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public double InitializerRange { get; init; } = 0.02;
    public double LayerNormEps { get; init; } = 1e-12;
    public int? PadTokenId { get; init; } = 0;
    public bool QkvBias { get; init; } = true;
    public string ModelType { get; init; } = "flava_text_model";

    internal VitSizes Sizes => new(NumHiddenLayers, HiddenSize, NumAttentionHeads, IntermediateSize, HiddenAct, LayerNormEps, QkvBias, Init.Normal(InitializerRange));
}

/// <summary>The config of the transformer over both ("flava_multimodal_model").</summary>
public sealed record FlavaMultimodalConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 768;
    public int NumHiddenLayers { get; init; } = 6;
    public int NumAttentionHeads { get; init; } = 12;
    public int IntermediateSize { get; init; } = 3072;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public double InitializerRange { get; init; } = 0.02;
    public double LayerNormEps { get; init; } = 1e-12;
    public bool QkvBias { get; init; } = true;

    /// <summary>Whether a class token of its own stands before all others.</summary>
    public bool UseClsToken { get; init; } = true;
    public string ModelType { get; init; } = "flava_multimodal_model";

    internal VitSizes Sizes => new(NumHiddenLayers, HiddenSize, NumAttentionHeads, IntermediateSize, HiddenAct, LayerNormEps, QkvBias, Init.Normal(InitializerRange));
}

/// <summary>All three and what joins them ("flava").</summary>
public sealed record FlavaConfig : ModelConfig
{
    public FlavaImageConfig ImageConfig { get; init; } = new();
    public FlavaTextConfig TextConfig { get; init; } = new();
    public FlavaMultimodalConfig MultimodalConfig { get; init; } = new();
    public int ProjectionDim { get; init; } = 768;
    public double LogitScaleInitValue { get; init; } = 2.6592;
    public double InitializerRange { get; init; } = 0.02;
    public string ModelType { get; init; } = "flava";
    public string[] Architectures { get; init; } = ["FlavaModel"];
}

/// <summary>The text transformer. Keys: embeddings, encoder.layer.N, layernorm, pooler.</summary>
public sealed class FlavaTextModel(FlavaTextConfig c) : Module
{
    public BertEmbeddings Embeddings { get; } = new(c.VocabSize, c.MaxPositionEmbeddings, c.TypeVocabSize, c.HiddenSize, c.LayerNormEps, c.PadTokenId, c.InitializerRange);

    public VitEncoder Encoder { get; } = new(c.Sizes);

    public LayerNorm Layernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    public VitPooler Pooler { get; } = new(c.HiddenSize, c.HiddenSize, Init.Normal(c.InitializerRange));

    /// <returns>[b, tokens, width] before the last norm</returns>
    internal Tensor States(Tensor ids, Tensor? mask, Tensor? tokenTypes, ICollection<Tensor>? hiddenStates = null) => BlockStack.Forward(Encoder.Layer, Embeddings.Forward(ids, tokenTypes),
        static (layer, x, _, mask) => layer.Forward(x, mask: mask), shared: KeyMask.Of(mask), checkpointed: ActivationsCheckpointed, hiddenStates: hiddenStates);
}

/// <summary>The transformer over both. Keys: cls_token, encoder.layer.N, layernorm, pooler.</summary>
public sealed class FlavaMultimodalModel(FlavaMultimodalConfig c) : Module
{
    public Parameter? ClsToken { get; } = c.UseClsToken ? new([1, 1, c.HiddenSize], Init.Zeros) : null;

    public VitEncoder Encoder { get; } = new(c.Sizes);

    public LayerNorm Layernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    public VitPooler Pooler { get; } = new(c.HiddenSize, c.HiddenSize, Init.Normal(c.InitializerRange));

    /// <param name="image">[b, image tokens, width]</param>
    /// <param name="text">[b, text tokens, width]</param>
    /// <param name="textMask">[b, text tokens], 0 where padding; or null.</param>
    /// <returns>Class token, image and text, after the norm, and the class token pooled.</returns>
    public TowerOutput Forward(Tensor image, Tensor text, Tensor? textMask)
    {
        using var scope = NewDisposeScope();
        var x = ClsToken is null ? cat([image, text], 1) : cat([ClsToken.Value.expand(image.shape[0], -1, -1), image, text], 1);
        var mask = textMask is null ? null : cat([ones(x.shape[0], x.shape[1] - text.shape[1], dtype: textMask.dtype, device: textMask.device), textMask], 1);
        x = BlockStack.Forward(Encoder.Layer, x, static (layer, x, _, mask) => layer.Forward(x, mask: mask), shared: KeyMask.Of(mask), checkpointed: ActivationsCheckpointed);
        var tokens = Layernorm.Forward(x);
        var pooled = Pooler.Forward(tokens.select(1, 0));
        TowerOutput.Keep(tokens, pooled, null);
        return new(tokens, pooled, pooled);
    }
}

/// <summary>FLAVA's image tower: its class token, projected. Keys: image_model, image_projection. Pooled is the pooler's output.</summary>
public sealed class FlavaImages(FlavaImageConfig config, int embeddingSize) : Module, IMaskedImageTower
{
    public VitModel ImageModel { get; } = new(config, maskToken: config.MaskToken, tokens: Init.Zeros);

    public Linear ImageProjection { get; } = new(config.HiddenSize, embeddingSize, initializer: Init.Normal(config.InitializerRange));

    public IImageTower Backbone => ImageModel;

    public int ImageSize => config.ImageSize;

    public int EmbeddingSize => embeddingSize;

    public int PooledSize => ImageModel.EmbeddingSize;

    public int TokenSize => config.HiddenSize;

    public int PrefixTokens => 1;

    public LayerGroups LayerGroups => ImageModel.LayerGroups.WithHead(ImageProjection);

    public Tensor EmbedTokens(Tensor tokens) => ImageProjection.Forward(tokens);

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return ImageProjection.Forward(ImageModel.ClassToken(pixels)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Forward(pixels, null, hiddenStates);

    public TowerOutput Forward(Tensor pixels, Tensor? masked, bool hiddenStates = false)
    {
        var output = ImageModel.Forward(pixels, masked, hiddenStates);
        return output with { Embedding = ImageProjection.Forward(output.LastHiddenState.select(1, 0)) };
    }
}

/// <summary>FLAVA's text tower: its class token, projected. Keys: text_model, text_projection. Pooled is the pooler's output.</summary>
public sealed class FlavaTexts(FlavaTextConfig config, int embeddingSize) : Module, ITextTower
{
    public FlavaTextModel TextModel { get; } = new(config);

    public Linear TextProjection { get; } = new(config.HiddenSize, embeddingSize, initializer: Init.Normal(config.InitializerRange));

    public int ContextLength => config.MaxPositionEmbeddings;

    public int VocabularySize => config.VocabSize;

    public int EmbeddingSize => embeddingSize;

    public int TokenSize => config.HiddenSize;

    public LayerGroups LayerGroups => LayerGroups.Of([TextModel.Embeddings], TextModel.Encoder.Layer, [TextModel.Layernorm], [TextModel.Pooler, TextProjection]);

    public Tensor EmbedTokens(Tensor tokens) => TextProjection.Forward(tokens);

    public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return TextProjection.Forward(TextModel.Layernorm.Forward(TextModel.States(inputIds, attentionMask, null).select(1, 0))).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false) => Forward(inputIds, attentionMask, null, hiddenStates);

    /// <summary>With <paramref name="tokenTypes"/> [b, tokens]: which sentence each token belongs to.</summary>
    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask, Tensor? tokenTypes, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var tokens = TextModel.Layernorm.Forward(TextModel.States(inputIds, attentionMask, tokenTypes, states));
        var (pooled, embedding) = (TextModel.Pooler.Forward(tokens.select(1, 0)), TextProjection.Forward(tokens.select(1, 0)));
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, embedding.MoveToOuterDisposeScope(), states);
    }
}

/// <summary>What <see cref="FlavaModel.Forward"/> gives.</summary>
/// <param name="Image">The image tower's outputs, hidden states included.</param>
/// <param name="Text">The text tower's outputs, hidden states included.</param>
/// <param name="Multimodal">The tokens of both seen together ([b, class token + image + text, width]) and the class token pooled.</param>
public sealed record FlavaOutput(TowerOutput Image, TowerOutput Text, TowerOutput Multimodal);

/// <summary>
/// FLAVA. Keys: image_model, text_model, multimodal_model, image_projection, text_projection, image_to_mm_projection, text_to_mm_projection,
/// logit_scale.
/// </summary>
public sealed class FlavaModel(FlavaConfig config) : DualEncoder
{
    public FlavaConfig Config { get; } = config;

    public override Parameter LogitScale { get; } = new([], Init.Constant(config.LogitScaleInitValue));

    /// <summary>The text tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public FlavaTexts Text { get; } = new(config.TextConfig, config.ProjectionDim);

    /// <summary>The image tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public FlavaImages Image { get; } = new(config.ImageConfig, config.ProjectionDim);

    public FlavaMultimodalModel MultimodalModel { get; } = new(config.MultimodalConfig);

    public Linear ImageToMmProjection { get; } = new(config.ImageConfig.HiddenSize, config.MultimodalConfig.HiddenSize, initializer: Init.Normal(config.InitializerRange));

    public Linear TextToMmProjection { get; } = new(config.TextConfig.HiddenSize, config.MultimodalConfig.HiddenSize, initializer: Init.Normal(config.InitializerRange));

    public override IImageTower Images => Image;

    public override ITextTower Texts => Text;

    /// <summary>Pairs seen together; the third transformer gets the tokens of the others before their last norm.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="inputIds">[b, tokens] int64: the texts that belong to the images.</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding</param>
    /// <param name="masked">[b, patches] bool: replaced by the mask token; or null.</param>
    /// <param name="tokenTypes">[b, tokens] int64, or null</param>
    public FlavaOutput Forward(Tensor pixels, Tensor inputIds, Tensor? attentionMask = null, Tensor? masked = null, Tensor? tokenTypes = null)
    {
        var (image, text) = (Image.Forward(pixels, masked, hiddenStates: true), Text.Forward(inputIds, attentionMask, tokenTypes, hiddenStates: true));
        using var seen = ImageToMmProjection.Forward(image.HiddenStates![^1]);
        using var read = TextToMmProjection.Forward(text.HiddenStates![^1]);
        return new(image, text, MultimodalModel.Forward(seen, read, attentionMask));
    }
}
