using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// CLIP (Radford et al. 2021, arXiv:2103.00020) with the keys and the config.json of Hugging Face's CLIPModel, CLIPVisionModel and
// CLIPTextModel, with and without projection.

/// <summary>The text tower's config ("clip_text_model").</summary>
public record ClipTextConfig : ModelConfig
{
    public int VocabSize { get; init; } = 49408;
    public int HiddenSize { get; init; } = 512;
    public int IntermediateSize { get; init; } = 2048;

    /// <summary>The size of the shared space when this tower stands alone; in a whole model the model's own counts.</summary>
    public int ProjectionDim { get; init; } = 512;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 8;
    public int MaxPositionEmbeddings { get; init; } = 77;
    public Activation HiddenAct { get; init; } = Activation.QuickGelu;
    public double LayerNormEps { get; init; } = 1e-5;
    public double InitializerFactor { get; init; } = 1;
    public int? PadTokenId { get; init; } = 1;
    public int? BosTokenId { get; init; } = 49406;

    /// <summary>Where a text is pooled: at its first token of this id; the value 2, which old files hold by mistake, means at its largest id.</summary>
    public int EosTokenId { get; init; } = 49407;
    public string ModelType { get; init; } = "clip_text_model";

    /// <summary>The peer's class, where this tower was saved alone.</summary>
    public string[]? Architectures { get; init; }
}

/// <summary>The image tower's config ("clip_vision_model").</summary>
public record ClipVisionConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 768;
    public int IntermediateSize { get; init; } = 3072;

    /// <summary>The size of the shared space when this tower stands alone; in a whole model the model's own counts.</summary>
    public int ProjectionDim { get; init; } = 512;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int NumChannels { get; init; } = 3;
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 32;
    public Activation HiddenAct { get; init; } = Activation.QuickGelu;
    public double LayerNormEps { get; init; } = 1e-5;
    public double InitializerRange { get; init; } = 0.02;
    public double InitializerFactor { get; init; } = 1;
    public string ModelType { get; init; } = "clip_vision_model";

    /// <summary>The peer's class, where this tower was saved alone.</summary>
    public string[]? Architectures { get; init; }
}

/// <summary>Both towers and what joins them ("clip").</summary>
public sealed record ClipConfig : ModelConfig
{
    public ClipTextConfig TextConfig { get; init; } = new();
    public ClipVisionConfig VisionConfig { get; init; } = new();

    /// <summary>Old files carry the text tower's config twice; where this one is given it counts.</summary>
    public ClipTextConfig? TextConfigDict { get; init; }

    /// <summary>Old files carry the image tower's config twice; where this one is given it counts.</summary>
    public ClipVisionConfig? VisionConfigDict { get; init; }
    public int ProjectionDim { get; init; } = 512;
    public double LogitScaleInitValue { get; init; } = 2.6592;
    public double InitializerFactor { get; init; } = 1;
    public string ModelType { get; init; } = "clip";
    public string[] Architectures { get; init; } = ["CLIPModel"];

    [JsonIgnore]
    public ClipTextConfig Text => TextConfigDict ?? TextConfig;

    [JsonIgnore]
    public ClipVisionConfig Vision => VisionConfigDict ?? VisionConfig;
}

/// <summary>Token and position tables. Keys: token_embedding, position_embedding.</summary>
public sealed class ClipTextEmbeddings(ClipTextConfig c) : Module
{
    public Embedding TokenEmbedding { get; } = new(c.VocabSize, c.HiddenSize, Init.Normal(0.02 * c.InitializerFactor));

    public Embedding PositionEmbedding { get; } = new(c.MaxPositionEmbeddings, c.HiddenSize, Init.Normal(0.02 * c.InitializerFactor));

    /// <param name="ids">[b, tokens] int64</param>
    /// <returns>[b, tokens, width]</returns>
    /// <exception cref="PanoptesException">More tokens than the model has positions for.</exception>
    public Tensor Forward(Tensor ids)
    {
        if (ids.shape[1] > c.MaxPositionEmbeddings)
            throw new PanoptesException($"A text of {ids.shape[1]} tokens was given to a model whose texts have at most {c.MaxPositionEmbeddings}.");
        using var scope = NewDisposeScope();
        return TokenEmbedding.Forward(ids).add(PositionEmbedding.Weight.Value.narrow(0, 0, ids.shape[1])).MoveToOuterDisposeScope();
    }
}

/// <summary>Patches, a class token before them, and positions. Keys: class_embedding, patch_embedding.weight, position_embedding.weight.</summary>
public sealed class ClipVisionEmbeddings(ClipVisionConfig c) : Module
{
    readonly int side = c.ImageSize / c.PatchSize;

    public Parameter ClassEmbedding { get; } = new([c.HiddenSize], Init.Normal(c.InitializerFactor / Math.Sqrt(c.HiddenSize)));

    public PatchEmbedding PatchEmbedding { get; } = new(c.NumChannels, c.HiddenSize, c.PatchSize, initializer: Init.Normal(c.InitializerRange * c.InitializerFactor));

    public Embedding PositionEmbedding { get; } =
        new(c.ImageSize / c.PatchSize * (c.ImageSize / c.PatchSize) + 1, c.HiddenSize, Init.Normal(c.InitializerRange * c.InitializerFactor));

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="interpolate">Whether images of another size than the config's get resized positions; otherwise they are refused.</param>
    /// <returns>[b, 1 + patches, width]</returns>
    public Tensor Forward(Tensor pixels, bool interpolate)
    {
        var (height, width) = (pixels.shape[2], pixels.shape[3]);
        if (!interpolate && (height != c.ImageSize || width != c.ImageSize))
            throw new PanoptesException($"Images of {width}x{height} pixels were given to a model for {c.ImageSize}x{c.ImageSize}; resize them, or ask for interpolated positions.");
        using var scope = NewDisposeScope();
        var patches = PatchEmbedding.Forward(pixels);
        var positions = PositionEmbedding.Weight.Value;
        var (rows, columns) = ((int)height / c.PatchSize, (int)width / c.PatchSize);
        if (rows != side || columns != side)
            positions = cat([positions.narrow(0, 0, 1), Positions.ResizeBicubic(positions.narrow(0, 1, side * side), side, side, rows, columns)]);
        return cat([ClassEmbedding.Value.expand(patches.shape[0], 1, -1), patches], 1).add(positions).MoveToOuterDisposeScope();
    }
}

static class ClipInit
{
    /// <summary>Deviations as in transformers' CLIP: residual branches start smaller the more layers there are.</summary>
    internal static EncoderInit Encoder(int width, int layers, double factor)
    {
        var residual = Init.Normal(Math.Pow(width, -0.5) * Math.Pow(2 * layers, -0.5) * factor);
        return new(residual, Init.Normal(Math.Pow(width, -0.5) * factor), Init.Normal(Math.Pow(2 * width, -0.5) * factor), residual);
    }
}

/// <summary>The text transformer. Keys: embeddings, encoder, final_layer_norm.</summary>
public sealed class ClipTextTransformer(ClipTextConfig c) : Module
{
    public ClipTextEmbeddings Embeddings { get; } = new(c);

    public Encoder Encoder { get; } = new(c.NumHiddenLayers, c.HiddenSize, c.NumAttentionHeads, c.IntermediateSize, c.HiddenAct, c.LayerNormEps,
        ClipInit.Encoder(c.HiddenSize, c.NumHiddenLayers, c.InitializerFactor));

    public LayerNorm FinalLayerNorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    /// <summary>Every token's features, after the last norm, and those of the pooled one.</summary>
    public (Tensor Tokens, Tensor Pooled) Forward(Tensor ids, Tensor? mask, ICollection<Tensor>? hiddenStates)
    {
        using var scope = NewDisposeScope();
        var x = Encoder.Forward(Embeddings.Forward(ids), KeyMask.Of(mask), causal: true, hiddenStates);
        var tokens = FinalLayerNorm.Forward(x);
        var pooled = Encoder.TokenAt(tokens, PooledAt(ids)).squeeze(1);
        return TowerOutput.Keep(tokens, pooled, hiddenStates);
    }

    /// <summary>Every token's features as diffusion models read them; see <see cref="ClipTextModel.Read"/>.</summary>
    internal (Tensor Tokens, Tensor? Pooled) Read(Tensor ids, Tensor? mask, int skipped, bool normalized, bool pooled)
    {
        if (skipped < 0 || skipped > Encoder.Layers.Count) throw new PanoptesException($"{skipped} of the text encoder's {Encoder.Layers.Count} layers were to be left out; expected 0 to {Encoder.Layers.Count}.");
        using var scope = NewDisposeScope();
        if (!pooled)
        {
            var x = Encoder.Forward(Embeddings.Forward(ids), KeyMask.Of(mask), causal: true, skipped: skipped);
            return ((normalized ? FinalLayerNorm.Forward(x) : x).MoveToOuterDisposeScope(), null);
        }
        var states = new List<Tensor>();
        var (last, one) = Forward(ids, mask, states);
        var read = states[^(skipped + 1)];
        return ((!normalized ? read : skipped == 0 ? last : FinalLayerNorm.Forward(read)).MoveToOuterDisposeScope(), one.MoveToOuterDisposeScope());
    }

    /// <summary>The pooled token's features only: what follows the last pooled token of the batch is not computed, the last layer for one token.</summary>
    public Tensor ForwardPooled(Tensor ids, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var at = PooledAt(ids);
        var length = at.max().item<long>() + 1;
        if (length < ids.shape[1]) (ids, mask) = (ids.narrow(1, 0, length), mask?.narrow(1, 0, length));
        return FinalLayerNorm.Forward(Encoder.ForwardAt(Embeddings.Forward(ids), at, KeyMask.Of(mask), causal: true)).MoveToOuterDisposeScope();
    }

    /// <summary>The pooled token of each text: [b] int64.</summary>
    Tensor PooledAt(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return (c.EosTokenId == 2 ? ids.argmax(-1) : ids.eq(c.EosTokenId).to(ScalarType.Int32).argmax(-1)).MoveToOuterDisposeScope();
    }
}

/// <summary>The image transformer. Keys: embeddings, pre_layrnorm (so spelled), encoder, post_layernorm.</summary>
public sealed class ClipVisionTransformer(ClipVisionConfig c) : Module
{
    public ClipVisionEmbeddings Embeddings { get; } = new(c);

    public LayerNorm PreLayrnorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    public Encoder Encoder { get; } = new(c.NumHiddenLayers, c.HiddenSize, c.NumAttentionHeads, c.IntermediateSize, c.HiddenAct, c.LayerNormEps,
        ClipInit.Encoder(c.HiddenSize, c.NumHiddenLayers, c.InitializerFactor));

    public LayerNorm PostLayernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    /// <summary>Every token's features, before the last norm, and the class token's after it.</summary>
    public (Tensor Tokens, Tensor Pooled) Forward(Tensor pixels, bool interpolate, ICollection<Tensor>? hiddenStates)
    {
        using var scope = NewDisposeScope();
        var tokens = Encoder.Forward(PreLayrnorm.Forward(Embeddings.Forward(pixels, interpolate)), hiddenStates: hiddenStates);
        var pooled = PostLayernorm.Forward(tokens.select(1, 0));
        return TowerOutput.Keep(tokens, pooled, hiddenStates);
    }

    /// <summary>The class token's features only; the last layer computes no other.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="interpolate">As for the embeddings.</param>
    /// <param name="dropout">The fraction of patches left out (<see cref="PatchDropout"/>); 0 for none.</param>
    /// <param name="generator">Draws which; null: libtorch's own.</param>
    public Tensor ForwardPooled(Tensor pixels, bool interpolate, double dropout = 0, Generator? generator = null)
    {
        using var scope = NewDisposeScope();
        var tokens = Embeddings.Forward(pixels, interpolate);
        if (dropout > 0) tokens = Representation.PatchDropout.Draw(tokens, dropout, generator);
        var first = zeros(pixels.shape[0], dtype: ScalarType.Int64, device: pixels.device);
        return PostLayernorm.Forward(Encoder.ForwardAt(PreLayrnorm.Forward(tokens), first)).MoveToOuterDisposeScope();
    }
}

/// <summary>The text tower: Hugging Face's CLIPTextModel, or CLIPTextModelWithProjection with an <paramref name="embeddingSize"/>.</summary>
public sealed class ClipTextModel(ClipTextConfig config, int? embeddingSize = null) : Module, ITextTower
{
    public ClipTextConfig Config { get; } = config;

    public ClipTextTransformer TextModel { get; } = new(config);

    public Linear? TextProjection { get; } = embeddingSize is { } size
        ? new(config.HiddenSize, size, bias: false, Init.Normal(config.InitializerFactor / Math.Sqrt(config.HiddenSize)))
        : null;

    public int EmbeddingSize { get; } = embeddingSize ?? config.HiddenSize;

    /// <summary>The config as it is saved: with the peer's class, and the size of the projection.</summary>
    internal ClipTextConfig Saved => TextProjection is null
        ? Config with { Architectures = ["CLIPTextModel"] }
        : Config with { Architectures = ["CLIPTextModelWithProjection"], ProjectionDim = EmbeddingSize };

    public int ContextLength => Config.MaxPositionEmbeddings;

    public int VocabularySize => Config.VocabSize;

    public int TokenSize => Config.HiddenSize;

    public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return Project(TextModel.ForwardPooled(inputIds, attentionMask)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false)
    {
        var states = hiddenStates ? new List<Tensor>() : null;
        var (tokens, pooled) = TextModel.Forward(inputIds, attentionMask, states);
        return new(tokens, pooled, Project(pooled), states);
    }

    /// <summary>
    /// What diffusion models read of a text. Stable Diffusion 1 and 2 take the tokens of the last layer after the last norm (2's last layer is left out of the file itself), or, with their
    /// clip_skip, of an earlier one; SDXL and SD 3 take the last layer but one without the norm, and the pooled features.
    /// </summary>
    /// <param name="inputIds">[b, tokens] int64</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; null: none.</param>
    /// <param name="skipped">How many of the last layers are left out of the tokens' features: diffusers' clip_skip.</param>
    /// <param name="normalized">Whether the last norm comes after them.</param>
    /// <param name="pooled">Whether the pooled features are wanted, too: of the last layer, projected where there is a projection.</param>
    /// <returns>[b, tokens, width] and [b, embedding]</returns>
    /// <exception cref="PanoptesException">More layers than there are, or longer texts than the model takes.</exception>
    public (Tensor Tokens, Tensor? Pooled) Read(Tensor inputIds, Tensor? attentionMask = null, int skipped = 0, bool normalized = true, bool pooled = false)
    {
        using var scope = NewDisposeScope();
        var (tokens, one) = TextModel.Read(inputIds, attentionMask, skipped, normalized, pooled);
        return (tokens.MoveToOuterDisposeScope(), one is null ? null : Project(one).MoveToOuterDisposeScope());
    }

    public LayerGroups LayerGroups =>
        LayerGroups.Of([TextModel.Embeddings], TextModel.Encoder.Layers, [TextModel.FinalLayerNorm], [TextProjection]);

    public Tensor EmbedTokens(Tensor tokens) => TextProjection is null ? tokens.alias() : TextProjection.Forward(tokens);

    Tensor Project(Tensor pooled) => TextProjection is null ? pooled : TextProjection.Forward(pooled);
}

/// <summary>The image tower: Hugging Face's CLIPVisionModel, or CLIPVisionModelWithProjection with an <paramref name="embeddingSize"/>.</summary>
public sealed class ClipVisionModel(ClipVisionConfig config, int? embeddingSize = null) : Module, IImageTower, IPatchDropout
{
    public ClipVisionConfig Config { get; } = config;

    public ClipVisionTransformer VisionModel { get; } = new(config);

    public Linear? VisualProjection { get; } = embeddingSize is { } size
        ? new(config.HiddenSize, size, bias: false, Init.Normal(config.InitializerFactor / Math.Sqrt(config.HiddenSize)))
        : null;

    public int EmbeddingSize { get; } = embeddingSize ?? config.HiddenSize;

    /// <summary>The config as it is saved: with the peer's class, and the size of the projection.</summary>
    internal ClipVisionConfig Saved => VisualProjection is null
        ? Config with { Architectures = ["CLIPVisionModel"] }
        : Config with { Architectures = ["CLIPVisionModelWithProjection"], ProjectionDim = EmbeddingSize };

    public int ImageSize => Config.ImageSize;

    /// <summary>Whether images of other sizes than <see cref="ImageSize"/> are taken, with positions resized to them.</summary>
    public bool InterpolatePositions { get; set; }

    /// <summary>The fraction of patches that <see cref="Encode"/> leaves out in training (FLIP), from 0 to below 1.</summary>
    public double PatchDropout { get; set; }

    /// <summary>Draws the patches that are left out; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Project(VisionModel.ForwardPooled(pixels, InterpolatePositions, Training ? PatchDropout : 0, Random)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        var states = hiddenStates ? new List<Tensor>() : null;
        var (tokens, pooled) = VisionModel.Forward(pixels, InterpolatePositions, states);
        return new(tokens, pooled, Project(pooled), states);
    }

    public LayerGroups LayerGroups =>
        LayerGroups.Of([VisionModel.Embeddings, VisionModel.PreLayrnorm], VisionModel.Encoder.Layers, [VisionModel.PostLayernorm], [VisualProjection]);

    public int PrefixTokens => 1;

    public int PooledSize => Config.HiddenSize;

    public int TokenSize => Config.HiddenSize;

    /// <summary>The tokens are those before the last norm, which is applied here.</summary>
    public Tensor EmbedTokens(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return Project(VisionModel.PostLayernorm.Forward(tokens)).MoveToOuterDisposeScope();
    }

    Tensor Project(Tensor pooled) => VisualProjection is null ? pooled : VisualProjection.Forward(pooled);
}

/// <summary>What <see cref="ClipModel.Forward"/> returns.</summary>
/// <param name="LogitsPerImage">[images, texts]: cosine times scale</param>
/// <param name="LogitsPerText">[texts, images]</param>
/// <param name="ImageEmbeds">[images, embedding], normalized</param>
/// <param name="TextEmbeds">[texts, embedding], normalized</param>
/// <param name="Vision">The image tower's own outputs.</param>
/// <param name="Text">The text tower's own outputs.</param>
public sealed record ClipOutput(Tensor LogitsPerImage, Tensor LogitsPerText, Tensor ImageEmbeds, Tensor TextEmbeds, TowerOutput Vision, TowerOutput Text);

/// <summary>CLIP: an image tower and a text tower trained to agree. Keys: logit_scale, text_model, vision_model, text_projection, visual_projection.</summary>
public sealed class ClipModel(ClipConfig config) : DualEncoder
{
    public ClipConfig Config { get; } = config;

    public override Parameter LogitScale { get; } = new([], Init.Constant(config.LogitScaleInitValue));

    /// <summary>The text tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public ClipTextModel Text { get; } = new(config.Text, config.ProjectionDim);

    /// <summary>The image tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public ClipVisionModel Vision { get; } = new(config.Vision, config.ProjectionDim);

    public override IImageTower Images => Vision;

    public override ITextTower Texts => Text;

    /// <summary>Everything that Hugging Face's CLIPModel gives; for features alone, <see cref="DualEncoder.Features"/> is cheaper.</summary>
    /// <param name="pixels">[images, channels, height, width]</param>
    /// <param name="inputIds">[texts, tokens] int64</param>
    /// <param name="attentionMask">[texts, tokens], 0 where padding</param>
    /// <param name="hiddenStates">Whether the states between the layers are kept.</param>
    public ClipOutput Forward(Tensor pixels, Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false)
    {
        var (vision, text) = (Vision.Forward(pixels, hiddenStates), Text.Forward(inputIds, attentionMask, hiddenStates));
        var (image, words) = (Normalize(vision.Embedding), Normalize(text.Embedding));
        var logits = new PairFeatures(image, words, LogitScale.Value.exp()).Logits();
        return new(logits, logits.t(), image, words, vision, text);
    }
}
