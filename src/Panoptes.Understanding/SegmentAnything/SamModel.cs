using System.Text.Json.Serialization;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// SAM (Kirillov et al. 2023, arXiv:2304.02643) with the keys and the config.json of Hugging Face's SamModel. Files of the authors' own names: SamOriginal.

/// <summary>The image encoder's part of the config.</summary>
public sealed record SamVisionConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 768;
    public int OutputChannels { get; init; } = 256;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int NumChannels { get; init; } = 3;
    public int ImageSize { get; init; } = 1024;
    public int PatchSize { get; init; } = 16;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public double LayerNormEps { get; init; } = 1e-6;
    public bool QkvBias { get; init; } = true;
    public double MlpRatio { get; init; } = 4;
    public int? MlpDim { get; init; }
    public bool UseAbsPos { get; init; } = true;
    public bool UseRelPos { get; init; } = true;
    public int WindowSize { get; init; } = 14;

    /// <summary>The layers that attend to the whole image; the others attend within windows.</summary>
    public IReadOnlyList<int> GlobalAttnIndexes { get; init; } = [2, 5, 8, 11];
    public int NumPosFeats { get; init; } = 128;
    public string ModelType { get; init; } = "sam_vision_model";

    [JsonIgnore]
    public int Grid => ImageSize / PatchSize;

    [JsonIgnore]
    internal int Hidden => MlpDim ?? (int)(HiddenSize * MlpRatio);
}

/// <summary>The prompt encoder's part of the config.</summary>
public sealed record SamPromptEncoderConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 256;
    public int ImageSize { get; init; } = 1024;
    public int PatchSize { get; init; } = 16;
    public int MaskInputChannels { get; init; } = 16;
    public int NumPointEmbeddings { get; init; } = 4;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public double LayerNormEps { get; init; } = 1e-6;
    public string ModelType { get; init; } = "sam_prompt_encoder";
}

/// <summary>The mask decoder's part of the config.</summary>
public sealed record SamMaskDecoderConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 256;
    public Activation HiddenAct { get; init; } = Activation.Relu;
    public int MlpDim { get; init; } = 2048;
    public int NumHiddenLayers { get; init; } = 2;
    public int NumAttentionHeads { get; init; } = 8;
    public int AttentionDownsampleRate { get; init; } = 2;
    public int NumMultimaskOutputs { get; init; } = 3;
    public int IouHeadDepth { get; init; } = 3;
    public int IouHeadHiddenDim { get; init; } = 256;

    /// <summary>Of the two-way blocks' norms: 1e-6 in Hugging Face's models, 1e-5 in the authors' own.</summary>
    public double LayerNormEps { get; init; } = 1e-6;
    public string ModelType { get; init; } = "sam_mask_decoder";
}

/// <summary>The config ("sam").</summary>
public sealed record SamConfig : ModelConfig
{
    public SamVisionConfig VisionConfig { get; init; } = new();
    public SamPromptEncoderConfig PromptEncoderConfig { get; init; } = new();
    public SamMaskDecoderConfig MaskDecoderConfig { get; init; } = new();
    public string ModelType { get; init; } = "sam";
    public string[]? Architectures { get; init; }

    /// <exception cref="PanoptesException">Sizes that do not go together.</exception>
    internal SamConfig Checked()
    {
        var (v, p, d) = (VisionConfig, PromptEncoderConfig, MaskDecoderConfig);
        if (v.ImageSize % v.PatchSize != 0) throw new PanoptesException($"vision_config.image_size is {v.ImageSize}; expected a multiple of the patch size, {v.PatchSize}.");
        if (p.ImageSize != v.ImageSize || p.PatchSize != v.PatchSize)
            throw new PanoptesException($"prompt_encoder_config has images of {p.ImageSize} and patches of {p.PatchSize} pixels; expected vision_config's {v.ImageSize} and {v.PatchSize}.");
        SamSizes.Check(v.OutputChannels, "vision_config.output_channels", p.HiddenSize, d.HiddenSize, p.MaskInputChannels, p.NumPointEmbeddings);
        if (v.NumPosFeats * 2 != p.HiddenSize) throw new PanoptesException($"vision_config.num_pos_feats is {v.NumPosFeats}; expected half of the prompts' width, {p.HiddenSize / 2}.");
        return this;
    }
}

static class SamSizes
{
    /// <exception cref="PanoptesException">Sizes that do not go together.</exception>
    internal static void Check(int channels, string name, int prompts, int decoder, int maskChannels, int points)
    {
        if (channels != prompts || channels != decoder)
            throw new PanoptesException($"{name} is {channels}, prompt_encoder_config.hidden_size {prompts} and mask_decoder_config.hidden_size {decoder}; expected the same.");
        if (channels % 8 != 0) throw new PanoptesException($"{name} is {channels}; expected a multiple of 8.");
        if (maskChannels % 4 != 0) throw new PanoptesException($"prompt_encoder_config.mask_input_channels is {maskChannels}; expected a multiple of 4.");
        if (points != 4) throw new PanoptesException($"prompt_encoder_config.num_point_embeddings is {points}; expected 4.");
    }
}

/// <summary>
/// Attention with relative positions, down and across apart: score(q, k) = q·k / √size + q·h[row of q - row of k] + q·w[column of q - column of k].
/// Keys: qkv, proj, rel_pos_h [2 side - 1, size], rel_pos_w.
/// </summary>
/// <remarks>
/// The positions' part of the scores is never there as a whole: q is made longer by its products with every row's and every column's position, k by ones where its own row and column
/// are, so that plain attention adds them.
/// </remarks>
public sealed class SamVisionAttention(SamVisionConfig c, int side) : Module
{
    readonly int heads = c.NumAttentionHeads, size = Attention.Divisible(c.HiddenSize, c.NumAttentionHeads) / c.NumAttentionHeads;

    public Linear Qkv { get; } = new(c.HiddenSize, 3 * c.HiddenSize, c.QkvBias);

    public Linear Proj { get; } = new(c.HiddenSize, c.HiddenSize);

    public Parameter? RelPosH { get; } = c.UseRelPos ? new([2 * side - 1, c.HiddenSize / c.NumAttentionHeads], Init.Zeros) : null;

    public Parameter? RelPosW { get; } = c.UseRelPos ? new([2 * side - 1, c.HiddenSize / c.NumAttentionHeads], Init.Zeros) : null;

    /// <param name="x">[b, rows, columns, width]; where there are windows, grids that they do not fill are filled with zeros.</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (b, rows, columns) = (x.shape[0], x.shape[1], x.shape[2]);
        var (down, across) = ((rows + side - 1) / side, (columns + side - 1) / side);             // windows
        var qkv = Pad(Qkv.Forward(x), down * side, across * side);
        // [3, b, windows down, windows across, heads, window rows, window columns, size]
        var parts = qkv.view(b, down, side, across, side, 3, heads, size).permute(5, 0, 1, 3, 6, 2, 4, 7);
        var seen = Attend(parts[0], parts[1], parts[2]);                                          // [b · windows, heads, side², size]
        var grid = seen.view(b, down, across, heads, side, side, size).permute(0, 1, 4, 2, 5, 3, 6).reshape(b, down * side, across * side, heads * size);
        return Proj.Forward(grid.narrow(1, 0, rows).narrow(2, 0, columns)).MoveToOuterDisposeScope();
    }

    /// <summary>What lies beyond the grid is zero before the projection, so it is the bias after it.</summary>
    Tensor Pad(Tensor qkv, long rows, long columns)
    {
        if (columns > qkv.shape[2]) qkv = cat([qkv, Filling(qkv.shape[1], columns - qkv.shape[2])], 2);
        if (rows > qkv.shape[1]) qkv = cat([qkv, Filling(rows - qkv.shape[1], columns)], 1);
        return qkv;

        Tensor Filling(long rows, long columns) => Qkv.Bias is { } bias
            ? bias.Value.to(qkv.dtype).view(1, 1, 1, -1).expand(qkv.shape[0], rows, columns, -1)
            : zeros([qkv.shape[0], rows, columns, qkv.shape[3]], qkv.dtype, device: qkv.device);
    }

    /// <param name="q">[b, windows down, windows across, heads, rows, columns, size]</param>
    Tensor Attend(Tensor q, Tensor k, Tensor v)
    {
        var places = (long)side * side;
        var value = v.reshape(-1, heads, places, size);
        var scale = 1 / Math.Sqrt(size);
        if (RelPosH is null) return Attention.Apply(q.reshape(-1, heads, places, size), k.reshape(-1, heads, places, size), value, scale: scale);

        q = q.reshape(-1, side, side, size);                                                      // [b · windows · heads, rows, columns, size]
        var n = q.shape[0];
        var (down, across) = (Table(RelPosH), Table(RelPosW!));                                   // [side, size, side]
        var byRow = q.transpose(0, 1).reshape(side, -1, size).bmm(down).view(side, n, side, side).transpose(0, 1);
        var byColumn = q.permute(2, 0, 1, 3).reshape(side, -1, size).bmm(across).view(side, n, side, side).permute(1, 2, 0, 3);
        var query = cat([q * scale, byRow, byColumn], -1).view(-1, heads, places, size + 2 * side);
        var own = eye(side, dtype: q.dtype, device: q.device);
        var ones = cat([own.unsqueeze(1).expand(-1, side, -1), own.unsqueeze(0).expand(side, -1, -1)], -1).view(1, places, 2 * side);
        var key = cat([k.reshape(-1, places, size), ones.expand(n, -1, -1)], -1).view(-1, heads, places, size + 2 * side);
        return Attention.Apply(query, key, value, scale: 1);
    }

    /// <summary>The positions of every key as seen from every query: [queries, size, keys].</summary>
    Tensor Table(Parameter positions)
    {
        var at = arange(side, dtype: ScalarType.Int64, device: positions.Value.device);
        var index = at.unsqueeze(1) - at.unsqueeze(0) + (side - 1);
        return TorchOps.Embedding(positions.Value, index).transpose(1, 2);
    }
}

/// <summary>A block of the image encoder. Keys: layer_norm1, attn, layer_norm2, mlp.</summary>
public sealed class SamVisionLayer(SamVisionConfig c, bool isGlobal) : Module
{
    public LayerNorm LayerNorm1 { get; } = new(c.HiddenSize, c.LayerNormEps);

    public SamVisionAttention Attn { get; } = new(c, isGlobal ? c.Grid : c.WindowSize);

    public LayerNorm LayerNorm2 { get; } = new(c.HiddenSize, c.LayerNormEps);

    public SamMlp Mlp { get; } = new(c.HiddenSize, c.Hidden, c.HiddenAct);

    /// <param name="x">[b, rows, columns, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = EncoderLayer.Residual(x, Attn.Forward(LayerNorm1.Forward(x)));
        return EncoderLayer.Residual(x, Mlp.Forward(LayerNorm2.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>From the encoder's width to the prompts'. Keys: conv1, layer_norm1, conv2, layer_norm2.</summary>
public sealed class SamVisionNeck(SamVisionConfig c) : Module
{
    public Conv2d Conv1 { get; } = new(c.HiddenSize, c.OutputChannels, 1, bias: false);

    public LayerNorm LayerNorm1 { get; } = new(c.OutputChannels, 1e-6);

    public Conv2d Conv2 { get; } = new(c.OutputChannels, c.OutputChannels, 3, padding: 1, bias: false);

    public LayerNorm LayerNorm2 { get; } = new(c.OutputChannels, 1e-6);

    /// <param name="x">[b, rows, columns, width]</param>
    /// <returns>[b, channels, rows, columns]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = LayerNorm1.Forward(TorchOps.Linear(x, Conv1.Weight.Value.flatten(1), null));
        return SamMaskEmbedding.Normalize(LayerNorm2, Conv2.Forward(x.permute(0, 3, 1, 2))).contiguous().MoveToOuterDisposeScope();
    }
}

/// <summary>The image encoder. Keys: pos_embed [1, grid, grid, width], patch_embed.projection, layers.N, neck.</summary>
public sealed class SamVisionEncoder : Module
{
    internal SamVisionEncoder(SamVisionConfig c)
    {
        Config = c;
        PosEmbed = c.UseAbsPos ? new([1, c.Grid, c.Grid, c.HiddenSize], Init.Zeros) : null;
        PatchEmbed = new(c.NumChannels, c.HiddenSize, c.PatchSize, bias: true);
        Layers = new(c.NumHiddenLayers, i => new SamVisionLayer(c, c.GlobalAttnIndexes.Contains(i)));
        Neck = new(c);
    }

    public SamVisionConfig Config { get; }

    public Parameter? PosEmbed { get; }

    [Key("patch_embed.projection")]
    public PatchEmbedding PatchEmbed { get; }

    public ModuleList<SamVisionLayer> Layers { get; }

    public SamVisionNeck Neck { get; }

    /// <param name="pixels">[b, channels, size, size]</param>
    /// <returns>[b, output channels, grid, grid]</returns>
    /// <exception cref="PanoptesException">Images of another size.</exception>
    public Tensor Forward(Tensor pixels)
    {
        if (pixels.shape[^1] != Config.ImageSize || pixels.shape[^2] != Config.ImageSize)
            throw new PanoptesException($"An image of {pixels.shape[^1]}x{pixels.shape[^2]} was given; this SAM takes {Config.ImageSize}x{Config.ImageSize}.");
        using var scope = NewDisposeScope();
        var x = PatchEmbed.Forward(pixels).unflatten(1, [Config.Grid, Config.Grid]);
        if (PosEmbed is not null) x = x + PosEmbed.Value;
        x = BlockStack.Forward(Layers, x, static (layer, x, _, _) => layer.Forward(x), checkpointed: ActivationsCheckpointed);
        return Neck.Forward(x).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Points, boxes and masks as tokens and maps. Keys: shared_embedding (tied to the model's shared_image_embedding), mask_embed, no_mask_embed, point_embed.N, not_a_point_embed.
/// </summary>
public sealed class SamPromptEncoder(SamPromptEncoderConfig c, SamPositionalEmbedding positions) : Module
{
    public SamPositionalEmbedding SharedEmbedding { get; } = positions;

    public SamMaskEmbedding MaskEmbed { get; } = new(c.MaskInputChannels, c.HiddenSize, c.HiddenAct, c.LayerNormEps);

    public Embedding NoMaskEmbed { get; } = new(1, c.HiddenSize);

    public ModuleList<Embedding> PointEmbed { get; } = new(c.NumPointEmbeddings, _ => new Embedding(1, c.HiddenSize));

    public Embedding NotAPointEmbed { get; } = new(1, c.HiddenSize);

    /// <returns>[b, prompts, tokens, width], or null where there are neither points nor boxes; and [b or 1, width, grid or 1, grid or 1]</returns>
    public (Tensor? Sparse, Tensor Dense) Forward(SamPrompts prompts)
    {
        using var scope = NewDisposeScope();
        var sparse = SamDecoding.Tokens(prompts, SharedEmbedding, cat([.. PointEmbed.Select(static e => e.Weight.Value)]), NotAPointEmbed.Weight, c.ImageSize, padBoxes: false);
        var dense = prompts.Masks is { } masks ? MaskEmbed.Forward(masks.to(NoMaskEmbed.Weight.Value.dtype)) : NoMaskEmbed.Weight.Value.view(1, -1, 1, 1);
        return (sparse?.MoveToOuterDisposeScope(), dense.MoveToOuterDisposeScope());
    }
}

/// <summary>
/// Masks from tokens. Keys: iou_token, mask_tokens, transformer, upscale_conv1, upscale_conv2, upscale_layer_norm, output_hypernetworks_mlps.N, iou_prediction_head.
/// </summary>
public sealed class SamMaskDecoder(SamMaskDecoderConfig c) : Module
{
    public Embedding IouToken { get; } = new(1, c.HiddenSize);

    public Embedding MaskTokens { get; } = new(c.NumMultimaskOutputs + 1, c.HiddenSize);

    public SamTwoWayTransformer Transformer { get; } =
        new(new(c.HiddenSize, c.MlpDim, c.NumHiddenLayers, c.NumAttentionHeads, c.AttentionDownsampleRate, c.LayerNormEps, c.HiddenAct, Sam2: false));

    public ConvTranspose2d UpscaleConv1 { get; } = new(c.HiddenSize, c.HiddenSize / 4, 2);

    public ConvTranspose2d UpscaleConv2 { get; } = new(c.HiddenSize / 4, c.HiddenSize / 8, 2);

    public LayerNorm UpscaleLayerNorm { get; } = new(c.HiddenSize / 4, 1e-6);

    public ModuleList<SamFeedForward> OutputHypernetworksMlps { get; } = new(c.NumMultimaskOutputs + 1, _ => new SamFeedForward(c.HiddenSize, c.HiddenSize, c.HiddenSize / 8, 3));

    public SamFeedForward IouPredictionHead { get; } = new(c.HiddenSize, c.IouHeadHiddenDim, c.NumMultimaskOutputs + 1, c.IouHeadDepth);

    /// <param name="image">[m, width, grid, grid], the mask prompts' maps added</param>
    /// <param name="positions">[1, grid², width]</param>
    /// <param name="sparse">[b, prompts, tokens, width] with m = b or 1; null for none</param>
    /// <param name="multimask">Whether to give the masks of different extent, or the single one.</param>
    public SamMasks Forward(Tensor image, Tensor positions, Tensor? sparse, bool multimask)
    {
        using var scope = NewDisposeScope();
        var (b, prompts, side) = (sparse?.shape[0] ?? image.shape[0], sparse?.shape[1] ?? 1, (int)image.shape[2]);
        var tokens = cat([IouToken.Weight.Value, MaskTokens.Weight.Value]).unsqueeze(0).expand(b * prompts, -1, -1);
        if (sparse is not null) tokens = cat([tokens, sparse.flatten(0, 1)], 1);
        var (said, places) = Transformer.Forward(tokens, image.flatten(2).transpose(1, 2).contiguous(), positions);
        var squares = SamDecoding.Upscale(UpscaleConv1, UpscaleLayerNorm, UpscaleConv2, places);   // [n, places, 4, 4, width / 8]
        var (first, count) = multimask ? (1, c.NumMultimaskOutputs) : (0, 1);
        var hyper = stack([.. Enumerable.Range(first, count).Select(i => OutputHypernetworksMlps[i].Forward(said.select(1, 1 + i)))], 1);
        var masks = SamDecoding.Masks(squares, hyper, side);
        var scores = IouPredictionHead.Forward(said.select(1, 0)).narrow(1, first, count);
        return new SamMasks(masks.unflatten(0, [b, prompts]), scores.unflatten(0, [b, prompts]), null).MoveToOuterDisposeScope();
    }
}

/// <summary>SAM. Keys: shared_image_embedding, vision_encoder, prompt_encoder, mask_decoder.</summary>
public sealed class SamModel : Module, ISegmentAnything
{
    /// <exception cref="PanoptesException">Sizes that do not go together.</exception>
    public SamModel(SamConfig config)
    {
        Config = config.Checked();
        SharedImageEmbedding = new(config.VisionConfig.NumPosFeats);
        VisionEncoder = new(config.VisionConfig);
        PromptEncoder = new(config.PromptEncoderConfig, SharedImageEmbedding);
        MaskDecoder = new(config.MaskDecoderConfig);
    }

    public SamConfig Config { get; }

    public SamPositionalEmbedding SharedImageEmbedding { get; }

    public SamVisionEncoder VisionEncoder { get; }

    public SamPromptEncoder PromptEncoder { get; }

    public SamMaskDecoder MaskDecoder { get; }

    public int ImageSize => Config.VisionConfig.ImageSize;

    public int MaskSize => 4 * Config.VisionConfig.Grid;

    public SamFeatures EncodeImage(Tensor pixels) => new([VisionEncoder.Forward(pixels)]);

    public SamMasks Decode(SamFeatures image, SamPrompts prompts, bool multimask = true)
    {
        using var scope = NewDisposeScope();
        var (sparse, dense) = PromptEncoder.Forward(prompts);
        var positions = SharedImageEmbedding.Grid((int)image.Embeddings.shape[^1], dense.dtype);
        return MaskDecoder.Forward(image.Embeddings.to(dense.dtype) + dense, positions, sparse, multimask).MoveToOuterDisposeScope();
    }
}
