using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation;

// SigLIP (Zhai et al. 2023, arXiv:2303.15343) and SigLIP 2 with native resolutions (Tschannen et al. 2025, arXiv:2502.14786, "NaFlex"),
// with the keys and the config.json of Hugging Face's SiglipModel and Siglip2Model. The SigLIP 2 files for one fixed resolution
// are of the first architecture.

/// <summary>The text tower's config ("siglip_text_model", "siglip2_text_model").</summary>
public sealed record SiglipTextConfig : ModelConfig
{
    public int VocabSize { get; init; } = 32000;
    public int HiddenSize { get; init; } = 768;
    public int IntermediateSize { get; init; } = 3072;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int MaxPositionEmbeddings { get; init; } = 64;
    public Activation HiddenAct { get; init; } = Activation.GeluTanh;
    public double LayerNormEps { get; init; } = 1e-6;
    public int? PadTokenId { get; init; } = 1;
    public int? BosTokenId { get; init; } = 49406;
    public int? EosTokenId { get; init; } = 49407;

    /// <summary>The size of the shared space; by default <see cref="HiddenSize"/>.</summary>
    public int? ProjectionSize { get; init; }
    public string ModelType { get; init; } = "siglip_text_model";

    /// <summary>The peer's class, where this tower was saved alone.</summary>
    public string[]? Architectures { get; init; }
}

/// <summary>The image tower's config ("siglip_vision_model", "siglip2_vision_model").</summary>
public sealed record SiglipVisionConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 768;
    public int IntermediateSize { get; init; } = 3072;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int NumChannels { get; init; } = 3;

    /// <summary>The side of the images (SigLIP; SigLIP 2 has <see cref="NumPatches"/> instead).</summary>
    public int ImageSize { get; init; } = 224;

    /// <summary>The number of positions that were learned, a square (SigLIP 2).</summary>
    public int NumPatches { get; init; } = 256;
    public int PatchSize { get; init; } = 16;
    public Activation HiddenAct { get; init; } = Activation.GeluTanh;
    public double LayerNormEps { get; init; } = 1e-6;

    /// <summary>Whether one learned probe pools the tokens; without it their mean is taken.</summary>
    public bool VisionUseHead { get; init; } = true;
    public string ModelType { get; init; } = "siglip_vision_model";

    /// <summary>The peer's class, where this tower was saved alone.</summary>
    public string[]? Architectures { get; init; }
}

/// <summary>Both towers ("siglip", "siglip2").</summary>
public sealed record SiglipConfig : ModelConfig
{
    public SiglipTextConfig TextConfig { get; init; } = new();
    public SiglipVisionConfig VisionConfig { get; init; } = new();
    public string ModelType { get; init; } = "siglip";
    public string[] Architectures { get; init; } = ["SiglipModel"];
}

static class SiglipInit
{
    internal static readonly EncoderInit Encoder = new(Init.XavierUniform, Init.XavierUniform, Init.XavierUniform, Init.XavierUniform, Init.Normal(1e-6));

    /// <summary>A table of vectors of about length 1.</summary>
    internal static Initializer Table(int width) => Init.Normal(1 / Math.Sqrt(width));
}

/// <summary>Token and position tables. Keys: token_embedding, position_embedding.</summary>
public sealed class SiglipTextEmbeddings(SiglipTextConfig c) : Module
{
    public Embedding TokenEmbedding { get; } = new(c.VocabSize, c.HiddenSize, SiglipInit.Table(c.HiddenSize));

    public Embedding PositionEmbedding { get; } = new(c.MaxPositionEmbeddings, c.HiddenSize, SiglipInit.Table(c.HiddenSize));

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

/// <summary>The text transformer: every token sees every other, the last position is pooled, be it padding. Keys: embeddings, encoder, final_layer_norm, head.</summary>
public sealed class SiglipTextTransformer(SiglipTextConfig c) : Module
{
    public SiglipTextEmbeddings Embeddings { get; } = new(c);

    public Encoder Encoder { get; } =
        new(c.NumHiddenLayers, c.HiddenSize, c.NumAttentionHeads, c.IntermediateSize, c.HiddenAct, c.LayerNormEps, SiglipInit.Encoder);

    public LayerNorm FinalLayerNorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    public Linear Head { get; } = new(c.HiddenSize, c.ProjectionSize ?? c.HiddenSize, initializer: Init.LecunNormal);

    /// <summary>Every token's features after the last norm, and those of the last position.</summary>
    public (Tensor Tokens, Tensor Pooled) Forward(Tensor ids, Tensor? mask, ICollection<Tensor>? hiddenStates)
    {
        using var scope = NewDisposeScope();
        var tokens = FinalLayerNorm.Forward(Encoder.Forward(Embeddings.Forward(ids), KeyMask.Of(mask), hiddenStates: hiddenStates));
        return TowerOutput.Keep(tokens, tokens.select(1, -1), hiddenStates);
    }

    /// <summary>The last position's features only; the last layer computes no other.</summary>
    public Tensor ForwardPooled(Tensor ids, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var last = full(ids.shape[0], ids.shape[1] - 1, dtype: ScalarType.Int64, device: ids.device);
        return FinalLayerNorm.Forward(Encoder.ForwardAt(Embeddings.Forward(ids), last, KeyMask.Of(mask))).MoveToOuterDisposeScope();
    }
}

/// <summary>One learned probe attends to all tokens; its residual starts after the attention. Keys: probe, attention, layernorm, mlp.</summary>
public sealed class SiglipPoolingHead(SiglipVisionConfig c) : Module
{
    public Parameter Probe { get; } = new([1, 1, c.HiddenSize], Init.XavierUniform);

    public FusedAttention Attention { get; } = new(c.HiddenSize, c.NumAttentionHeads, output: Init.LecunNormal);

    public LayerNorm Layernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    public Mlp Mlp { get; } = new(c.HiddenSize, c.IntermediateSize, c.HiddenAct, Init.XavierUniform, Init.XavierUniform, Init.Normal(1e-6));

    /// <param name="tokens">[b, tokens, width]</param>
    /// <param name="mask">[b, 1, 1, tokens] bool, or null</param>
    /// <returns>[b, width]</returns>
    public Tensor Forward(Tensor tokens, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        var pooled = Attention.Forward(tokens, mask, queries: Probe.Value.expand(tokens.shape[0], -1, -1));         // [b, 1, width]
        return (pooled + Mlp.Forward(Layernorm.Forward(pooled))).squeeze(1).MoveToOuterDisposeScope();
    }
}

/// <summary>Patches and positions, no class token. Keys: patch_embedding, position_embedding.weight.</summary>
public sealed class SiglipVisionEmbeddings(SiglipVisionConfig c) : Module
{
    readonly int side = c.ImageSize / c.PatchSize;

    public PatchEmbedding PatchEmbedding { get; } = new(c.NumChannels, c.HiddenSize, c.PatchSize, bias: true, Init.LecunNormal);

    public Embedding PositionEmbedding { get; } = new(c.ImageSize / c.PatchSize * (c.ImageSize / c.PatchSize), c.HiddenSize, SiglipInit.Table(c.HiddenSize));

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="interpolate">Whether images of another size than the config's get resized positions (bicubic); otherwise they are refused.</param>
    /// <returns>[b, patches, width]</returns>
    public Tensor Forward(Tensor pixels, bool interpolate)
    {
        var (height, width) = (pixels.shape[2], pixels.shape[3]);
        if (!interpolate && (height != c.ImageSize || width != c.ImageSize))
            throw new PanoptesException($"Images of {width}x{height} pixels were given to a model for {c.ImageSize}x{c.ImageSize}; resize them, or ask for interpolated positions.");
        using var scope = NewDisposeScope();
        var positions = PositionEmbedding.Weight.Value;
        var (rows, columns) = ((int)height / c.PatchSize, (int)width / c.PatchSize);
        if (rows != side || columns != side) positions = Positions.ResizeBicubic(positions, side, side, rows, columns);
        return PatchEmbedding.Forward(pixels).add(positions).MoveToOuterDisposeScope();
    }
}

/// <summary>The image transformer. Keys: embeddings, encoder, post_layernorm, head.</summary>
public sealed class SiglipVisionTransformer(SiglipVisionConfig c) : Module
{
    public SiglipVisionEmbeddings Embeddings { get; } = new(c);

    public Encoder Encoder { get; } =
        new(c.NumHiddenLayers, c.HiddenSize, c.NumAttentionHeads, c.IntermediateSize, c.HiddenAct, c.LayerNormEps, SiglipInit.Encoder);

    public LayerNorm PostLayernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    public SiglipPoolingHead? Head { get; } = c.VisionUseHead ? new(c) : null;

    /// <summary>Every token's features after the last norm, and the pooled ones.</summary>
    public (Tensor Tokens, Tensor Pooled) Forward(Tensor pixels, bool interpolate, ICollection<Tensor>? hiddenStates)
    {
        using var scope = NewDisposeScope();
        var tokens = PostLayernorm.Forward(Encoder.Forward(Embeddings.Forward(pixels, interpolate), hiddenStates: hiddenStates));
        return TowerOutput.Keep(tokens, Head?.Forward(tokens) ?? tokens.mean([1]), hiddenStates);
    }
}

/// <summary>Given patches projected, and positions resized to each image's shape. Keys: patch_embedding (a linear layer), position_embedding.weight.</summary>
public sealed class Siglip2VisionEmbeddings(SiglipVisionConfig c) : Module
{
    readonly int side = (int)Math.Sqrt(c.NumPatches);

    public Linear PatchEmbedding { get; } = new(c.NumChannels * c.PatchSize * c.PatchSize, c.HiddenSize, initializer: Init.LecunNormal);

    public Embedding PositionEmbedding { get; } = new(c.NumPatches, c.HiddenSize, SiglipInit.Table(c.HiddenSize));

    /// <param name="images">Patches by row, column, channel, as <see cref="NaFlexImageProcessor"/> makes them.</param>
    /// <returns>[b, tokens, width]</returns>
    /// <exception cref="PanoptesException">An image has more patches than the batch has tokens.</exception>
    public Tensor Forward(PatchBatch images)
    {
        using var scope = NewDisposeScope();
        var tokens = images.PixelValues.shape[1];
        var table = PositionEmbedding.Weight.Value.view(side, side, -1).to(ScalarType.Float32);
        var shapes = images.SpatialShapes.cpu().to(ScalarType.Int64).data<long>().ToArray();
        var resized = new Dictionary<(long, long), Tensor>();
        var positions = new Tensor[shapes.Length / 2];
        for (var i = 0; i < positions.Length; i++)
        {
            var (rows, columns) = (shapes[2 * i], shapes[2 * i + 1]);
            if (rows < 1 || columns < 1 || rows * columns > tokens)
                throw new PanoptesException($"Image {i} of the batch has {rows}x{columns} patches; expected between 1 and the batch's {tokens}.");
            if (!resized.TryGetValue((rows, columns), out var own))
            {
                own = Positions.ResizeBilinearAntialiased(table, (int)rows, (int)columns);
                // Beyond the image's own patches the first position is repeated; the mask hides those tokens.
                if (own.shape[0] < tokens) own = cat([own, own.narrow(0, 0, 1).expand(tokens - own.shape[0], -1)]);
                resized[(rows, columns)] = own;
            }
            positions[i] = own;
        }
        var weight = PatchEmbedding.Weight.Value;
        return PatchEmbedding.Forward(images.PixelValues.to(weight.dtype)).add(stack(positions).to(weight.dtype)).MoveToOuterDisposeScope();
    }
}

/// <summary>The image transformer for images of many shapes. Keys: embeddings, encoder, post_layernorm, head.</summary>
public sealed class Siglip2VisionTransformer(SiglipVisionConfig c) : Module
{
    public Siglip2VisionEmbeddings Embeddings { get; } = new(c);

    public Encoder Encoder { get; } =
        new(c.NumHiddenLayers, c.HiddenSize, c.NumAttentionHeads, c.IntermediateSize, c.HiddenAct, c.LayerNormEps, SiglipInit.Encoder);

    public LayerNorm PostLayernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    public SiglipPoolingHead? Head { get; } = c.VisionUseHead ? new(c) : null;

    /// <summary>Every token's features after the last norm (those beyond an image's own mean nothing), and the pooled ones.</summary>
    public (Tensor Tokens, Tensor Pooled) Forward(PatchBatch images, ICollection<Tensor>? hiddenStates)
    {
        using var scope = NewDisposeScope();
        var mask = KeyMask.Of(images.PixelAttentionMask);
        var tokens = PostLayernorm.Forward(Encoder.Forward(Embeddings.Forward(images), mask, hiddenStates: hiddenStates));
        return TowerOutput.Keep(tokens, Head?.Forward(tokens, mask) ?? Mean(tokens, images.PixelAttentionMask), hiddenStates);
    }

    static Tensor Mean(Tensor tokens, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var weights = mask.to(tokens.dtype).unsqueeze(-1);
        return ((tokens * weights).sum(1) / weights.sum(1)).MoveToOuterDisposeScope();
    }
}

/// <summary>The text tower: Hugging Face's SiglipTextModel. Keys: text_model.</summary>
public sealed class SiglipTextModel(SiglipTextConfig config) : Module, ITextTower
{
    public SiglipTextConfig Config { get; } = config;

    public SiglipTextTransformer TextModel { get; } = new(config);

    public int EmbeddingSize => Config.ProjectionSize ?? Config.HiddenSize;

    public int ContextLength => Config.MaxPositionEmbeddings;

    public int VocabularySize => Config.VocabSize;

    public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return TextModel.Head.Forward(TextModel.ForwardPooled(inputIds, attentionMask)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false)
    {
        var states = hiddenStates ? new List<Tensor>() : null;
        var (tokens, pooled) = TextModel.Forward(inputIds, attentionMask, states);
        return new(tokens, pooled, TextModel.Head.Forward(pooled), states);
    }

    public LayerGroups LayerGroups =>
        LayerGroups.Of([TextModel.Embeddings], TextModel.Encoder.Layers, [TextModel.FinalLayerNorm], [TextModel.Head]);
}

/// <summary>The image tower: Hugging Face's SiglipVisionModel. Keys: vision_model.</summary>
public sealed class SiglipVisionModel(SiglipVisionConfig config) : Module, IImageTower
{
    public SiglipVisionConfig Config { get; } = config;

    public SiglipVisionTransformer VisionModel { get; } = new(config);

    public int EmbeddingSize => Config.HiddenSize;

    public int ImageSize => Config.ImageSize;

    /// <summary>Whether images of other sizes than <see cref="ImageSize"/> are taken, with positions resized to them.</summary>
    public bool InterpolatePositions { get; set; }

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Forward(pixels).Embedding.MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        var states = hiddenStates ? new List<Tensor>() : null;
        var (tokens, pooled) = VisionModel.Forward(pixels, InterpolatePositions, states);
        return new(tokens, pooled, pooled, states);
    }

    public LayerGroups LayerGroups =>
        LayerGroups.Of([VisionModel.Embeddings], VisionModel.Encoder.Layers, [VisionModel.PostLayernorm], [VisionModel.Head]);
}

/// <summary>The image tower for images of many shapes: Hugging Face's Siglip2VisionModel. Keys: vision_model.</summary>
public sealed class Siglip2VisionModel(SiglipVisionConfig config) : Module, IImageTower
{
    public SiglipVisionConfig Config { get; } = config;

    public Siglip2VisionTransformer VisionModel { get; } = new(config);

    public int EmbeddingSize => Config.HiddenSize;

    /// <summary>The side of a square image that has as many patches as there are learned positions; other shapes are as welcome.</summary>
    public int ImageSize => (int)Math.Sqrt(Config.NumPatches) * Config.PatchSize;

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Forward(pixels).Embedding.MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var output = Forward(Patches(pixels), hiddenStates);
        TowerOutput.Keep(output.LastHiddenState, output.Pooled, output.HiddenStates);
        return output;
    }

    /// <summary>Images of many shapes at once.</summary>
    public TowerOutput Forward(PatchBatch images, bool hiddenStates = false)
    {
        var states = hiddenStates ? new List<Tensor>() : null;
        var (tokens, pooled) = VisionModel.Forward(images, states);
        return new(tokens, pooled, pooled, states);
    }

    public LayerGroups LayerGroups =>
        LayerGroups.Of([VisionModel.Embeddings], VisionModel.Encoder.Layers, [VisionModel.PostLayernorm], [VisionModel.Head]);

    /// <summary>Images of one shape as patches.</summary>
    /// <param name="pixels">[b, channels, height, width]; what does not fill a whole patch is left out.</param>
    PatchBatch Patches(Tensor pixels)
    {
        var p = Config.PatchSize;
        var (rows, columns) = (pixels.shape[2] / p, pixels.shape[3] / p);
        var patches = pixels.narrow(2, 0, rows * p).narrow(3, 0, columns * p).reshape(-1, Config.NumChannels, rows, p, columns, p)
            .permute(0, 2, 4, 3, 5, 1).reshape(-1, rows * columns, p * p * Config.NumChannels);    // [b, tokens, p · p · channels]
        var shapes = tensor([rows, columns], dtype: ScalarType.Int64).expand(pixels.shape[0], 2).contiguous();
        return new(patches, ones(pixels.shape[0], rows * columns, dtype: ScalarType.Int64, device: pixels.device), shapes);
    }
}

/// <summary>What the whole models return.</summary>
/// <param name="LogitsPerImage">[images, texts]: cosine times scale plus bias; its sigmoid is the probability that the two belong together.</param>
/// <param name="LogitsPerText">[texts, images]</param>
/// <param name="ImageEmbeds">[images, embedding], normalized</param>
/// <param name="TextEmbeds">[texts, embedding], normalized</param>
/// <param name="Vision">The image tower's own outputs.</param>
/// <param name="Text">The text tower's own outputs.</param>
public sealed record SiglipOutput(Tensor LogitsPerImage, Tensor LogitsPerText, Tensor ImageEmbeds, Tensor TextEmbeds, TowerOutput Vision, TowerOutput Text);

/// <summary>SigLIP: as CLIP, but every pair is judged by itself. Keys: logit_scale [1], logit_bias [1], text_model, vision_model.</summary>
public sealed class SiglipModel(SiglipConfig config) : DualEncoder
{
    public SiglipConfig Config { get; } = config;

    // Training starts at the paper's scale 10 and bias -10 (transformers' zeros are never trained from).
    public override Parameter LogitScale { get; } = new([1], Init.Constant(Math.Log(10)));

    public override Parameter LogitBias { get; } = new([1], Init.Constant(-10));

    /// <summary>The text tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public SiglipTextModel Text { get; } = new(config.TextConfig);

    /// <summary>The image tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public SiglipVisionModel Vision { get; } = new(config.VisionConfig);

    public override IImageTower Images => Vision;

    public override ITextTower Texts => Text;

    /// <summary>Everything that Hugging Face's SiglipModel gives.</summary>
    public SiglipOutput Forward(Tensor pixels, Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false) =>
        Siglip.Join(this, Vision.Forward(pixels, hiddenStates), Text.Forward(inputIds, attentionMask, hiddenStates));
}

/// <summary>SigLIP 2 for images of any shape. Keys: logit_scale [1], logit_bias [1], text_model, vision_model.</summary>
public sealed class Siglip2Model(SiglipConfig config) : DualEncoder
{
    public SiglipConfig Config { get; } = config;

    public override Parameter LogitScale { get; } = new([1], Init.Constant(Math.Log(10)));

    public override Parameter LogitBias { get; } = new([1], Init.Constant(-10));

    /// <summary>The text tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public SiglipTextModel Text { get; } = new(config.TextConfig);

    /// <summary>The image tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public Siglip2VisionModel Vision { get; } = new(config.VisionConfig);

    public override IImageTower Images => Vision;

    public override ITextTower Texts => Text;

    /// <summary>Everything that Hugging Face's Siglip2Model gives.</summary>
    public SiglipOutput Forward(PatchBatch images, Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false) =>
        Siglip.Join(this, Vision.Forward(images, hiddenStates), Text.Forward(inputIds, attentionMask, hiddenStates));
}

static class Siglip
{
    internal static SiglipOutput Join(DualEncoder model, TowerOutput vision, TowerOutput text)
    {
        var (image, words) = (DualEncoder.Normalize(vision.Embedding), DualEncoder.Normalize(text.Embedding));
        var logits = new PairFeatures(image, words, model.LogitScale.Value.exp(), model.LogitBias!.Value).Logits();
        return new(logits, logits.t(), image, words, vision, text);
    }
}
