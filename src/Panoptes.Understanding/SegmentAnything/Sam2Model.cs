using System.Text.Json.Serialization;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// SAM 2's image part (Ravi et al. 2024, arXiv:2408.00714; Hiera: Ryali et al. 2023, arXiv:2306.00989) with the keys and the config.json of Hugging Face's Sam2Model.
// A video model's files load, too: their memory is left out.

/// <summary>The backbone's part of the config ("sam2_hiera_det_model").</summary>
public sealed record Sam2HieraConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 96;
    public int NumChannels { get; init; } = 3;
    public int[] PatchKernelSize { get; init; } = [7, 7];
    public int[] PatchStride { get; init; } = [4, 4];
    public IReadOnlyList<int> PatchPadding { get; init; } = [3, 3];
    public int[] QueryStride { get; init; } = [2, 2];
    public int[] WindowPositionalEmbeddingBackgroundSize { get; init; } = [7, 7];
    public int NumQueryPoolStages { get; init; } = 3;
    public int[] BlocksPerStage { get; init; } = [1, 2, 7, 2];
    public int[] EmbedDimPerStage { get; init; } = [96, 192, 384, 768];
    public int[] NumAttentionHeadsPerStage { get; init; } = [1, 2, 4, 8];
    public int[] WindowSizePerStage { get; init; } = [8, 4, 14, 7];

    /// <summary>The blocks that attend to the whole image; the others attend within windows.</summary>
    public IReadOnlyList<int> GlobalAttentionBlocks { get; init; } = [5, 7, 9];
    public double MlpRatio { get; init; } = 4;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public double LayerNormEps { get; init; } = 1e-6;
    public string ModelType { get; init; } = "sam2_hiera_det_model";

    /// <exception cref="PanoptesException">Sizes that do not go together.</exception>
    internal Sam2HieraConfig Checked()
    {
        var stages = BlocksPerStage.Length;
        if (stages is 0 or > 8 || EmbedDimPerStage.Length != stages || NumAttentionHeadsPerStage.Length != stages || WindowSizePerStage.Length != stages)
            throw new PanoptesException($"backbone_config has {stages} stages of blocks, {EmbedDimPerStage.Length} widths, {NumAttentionHeadsPerStage.Length} numbers of heads and {WindowSizePerStage.Length} windows; expected as many of each, 1 to 8.");
        if (EmbedDimPerStage[0] != HiddenSize) throw new PanoptesException($"backbone_config.embed_dim_per_stage begins with {EmbedDimPerStage[0]}; expected hidden_size, {HiddenSize}.");
        if (BlocksPerStage.Sum() > 1000) throw new PanoptesException($"backbone_config.blocks_per_stage has {BlocksPerStage.Sum()} blocks; expected at most 1000.");
        foreach (var (name, pair) in new[] { ("patch_kernel_size", (IReadOnlyList<int>)PatchKernelSize), ("patch_stride", PatchStride), ("patch_padding", PatchPadding), ("query_stride", QueryStride) })
            if (pair.Count != 2 || pair[0] != pair[1]) throw new PanoptesException($"backbone_config.{name} is [{string.Join(", ", pair)}]; expected two equal numbers.");
        if (WindowPositionalEmbeddingBackgroundSize.Length != 2) throw new PanoptesException("backbone_config.window_positional_embedding_background_size has not two numbers; expected rows and columns.");
        return this;
    }
}

/// <summary>The image encoder's part of the config.</summary>
public sealed record Sam2VisionConfig : ModelConfig
{
    public Sam2HieraConfig BackboneConfig { get; init; } = new();

    /// <summary>The widths of the stages, the coarsest first.</summary>
    public int[] BackboneChannelList { get; init; } = [768, 384, 192, 96];
    public int[][] BackboneFeatureSizes { get; init; } = [[256, 256], [128, 128], [64, 64]];
    public int FpnHiddenSize { get; init; } = 256;
    public int FpnKernelSize { get; init; } = 1;
    public int FpnStride { get; init; } = 1;
    public long FpnPadding { get; init; }

    /// <summary>The levels that the coarser ones are added to.</summary>
    public IReadOnlyList<int> FpnTopDownLevels { get; init; } = [2, 3];
    public int NumFeatureLevels { get; init; } = 3;
    public string ModelType { get; init; } = "sam2_vision_model";
}

/// <summary>The mask decoder's part of the config.</summary>
public sealed record Sam2MaskDecoderConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 256;
    public int MlpDim { get; init; } = 2048;
    public int NumHiddenLayers { get; init; } = 2;
    public int NumAttentionHeads { get; init; } = 8;
    public int AttentionDownsampleRate { get; init; } = 2;
    public int NumMultimaskOutputs { get; init; } = 3;
    public int IouHeadDepth { get; init; } = 3;
    public int IouHeadHiddenDim { get; init; } = 256;

    /// <summary>Whether one mask that is asked for is the best of several where the single one is not stable.</summary>
    public bool DynamicMultimaskViaStability { get; init; } = true;
    public double DynamicMultimaskStabilityDelta { get; init; } = 0.05;
    public double DynamicMultimaskStabilityThresh { get; init; } = 0.98;
    public string ModelType { get; init; } = "sam2_mask_decoder";
}

/// <summary>The config ("sam2").</summary>
public sealed record Sam2Config : ModelConfig
{
    public Sam2VisionConfig VisionConfig { get; init; } = new();
    public SamPromptEncoderConfig PromptEncoderConfig { get; init; } = new() { ModelType = "sam2_prompt_encoder" };
    public Sam2MaskDecoderConfig MaskDecoderConfig { get; init; } = new();
    public string ModelType { get; init; } = "sam2";
    public string[]? Architectures { get; init; }

    /// <exception cref="PanoptesException">Sizes that do not go together.</exception>
    internal Sam2Config Checked()
    {
        var (v, p, d) = (VisionConfig, PromptEncoderConfig, MaskDecoderConfig);
        v.BackboneConfig.Checked();
        SamSizes.Check(v.FpnHiddenSize, "vision_config.fpn_hidden_size", p.HiddenSize, d.HiddenSize, p.MaskInputChannels, p.NumPointEmbeddings);
        if (!v.BackboneChannelList.SequenceEqual(v.BackboneConfig.EmbedDimPerStage.Reverse()))
            throw new PanoptesException($"vision_config.backbone_channel_list is [{string.Join(", ", v.BackboneChannelList)}]; expected the backbone's widths from the last stage to the first.");
        if (v.NumFeatureLevels != 3 || v.BackboneChannelList.Length < 3) throw new PanoptesException($"vision_config.num_feature_levels is {v.NumFeatureLevels}; expected 3.");
        if (v.FpnKernelSize != 1 || v.FpnStride != 1 || v.FpnPadding != 0) throw new PanoptesException("vision_config.fpn_kernel_size, fpn_stride and fpn_padding are not 1, 1 and 0; no other neck is supported.");
        return this;
    }
}

/// <summary>
/// Attention whose queries may be pooled, so that the grid shrinks. Keys: qkv, proj.
/// </summary>
public sealed class Sam2Attention(int width, int outputs, int heads, int stride) : Module
{
    public Linear Qkv { get; } = new(width, 3L * Attention.Divisible(outputs, heads));

    public Linear Proj { get; } = new(outputs, outputs);

    /// <param name="x">[b · windows, rows, columns, width]</param>
    /// <returns>[b · windows, rows / stride, columns / stride, outputs]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (b, rows, columns) = (x.shape[0], x.shape[1], x.shape[2]);
        var parts = Qkv.Forward(x).chunk(3, -1);
        var q = stride > 1 ? Pool(parts[0], stride) : parts[0];
        var (h, w) = (q.shape[1], q.shape[2]);
        var seen = Attention.Apply(Split(q), Split(parts[1]), Split(parts[2]));
        return Proj.Forward(Attention.MergeHeads(seen)).view(b, h, w, outputs).MoveToOuterDisposeScope();

        Tensor Split(Tensor t) => Attention.SplitHeads(t.flatten(1, 2), heads);
    }

    /// <summary>The largest of every square: [b, rows, columns, channels] to [b, rows / stride, columns / stride, channels].</summary>
    internal static Tensor Pool(Tensor x, int stride) => nn.functional.max_pool2d(x.permute(0, 3, 1, 2), kernel_size: stride, stride: stride).permute(0, 2, 3, 1);
}

/// <summary>A block of the backbone. Keys: layer_norm1, attn, layer_norm2, mlp, and proj where the width changes.</summary>
public sealed class Sam2Block : Module
{
    readonly int window, stride;

    internal Sam2Block(Sam2HieraConfig c, int stage, bool isFirst, bool isGlobal)
    {
        var (width, outputs) = (c.EmbedDimPerStage[isFirst ? Math.Max(0, stage - 1) : stage], c.EmbedDimPerStage[stage]);
        // The first block of a stage still looks through the windows of the one before.
        window = isGlobal ? 0 : c.WindowSizePerStage[isFirst ? Math.Max(0, stage - 1) : stage];
        stride = isFirst && stage > 0 && stage <= c.NumQueryPoolStages ? c.QueryStride[0] : 1;
        if (window > 0 && window % stride != 0) throw new PanoptesException($"backbone_config.window_size_per_stage has {window}; expected a multiple of query_stride, {stride}.");
        LayerNorm1 = new(width, c.LayerNormEps);
        Attn = new(width, outputs, c.NumAttentionHeadsPerStage[stage], stride);
        LayerNorm2 = new(outputs, c.LayerNormEps);
        Mlp = new(outputs, (int)(outputs * c.MlpRatio), outputs, 2, c.HiddenAct);
        Proj = width == outputs ? null : new(width, outputs);
    }

    public LayerNorm LayerNorm1 { get; }

    public Sam2Attention Attn { get; }

    public LayerNorm LayerNorm2 { get; }

    public SamFeedForward Mlp { get; }

    public Linear? Proj { get; }

    /// <param name="x">[b, rows, columns, width]</param>
    /// <returns>[b, rows / stride, columns / stride, outputs]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var normal = LayerNorm1.Forward(x);
        if (Proj is not null)
        {
            x = Proj.Forward(normal);
            if (stride > 1) x = Sam2Attention.Pool(x, stride);
        }
        x = EncoderLayer.Residual(x, Attend(normal, x.shape[1], x.shape[2]));
        return EncoderLayer.Residual(x, Mlp.Forward(LayerNorm2.Forward(x))).MoveToOuterDisposeScope();
    }

    Tensor Attend(Tensor x, long rows, long columns)
    {
        if (window == 0) return Attn.Forward(x);
        var (b, width) = (x.shape[0], x.shape[3]);
        var (down, across) = ((x.shape[1] + window - 1) / window, (x.shape[2] + window - 1) / window);
        var (below, beside) = (down * window - x.shape[1], across * window - x.shape[2]);
        if (below + beside > 0) x = nn.functional.pad(x, [0, 0, 0, beside, 0, below]);
        var windows = x.reshape(b, down, window, across, window, width).transpose(2, 3).reshape(-1, window, window, width);
        var seen = Attn.Forward(windows);                                                         // [b · windows, side, side, outputs]
        var side = window / stride;
        return seen.view(b, down, across, side, side, -1).transpose(2, 3).reshape(b, down * side, across * side, -1).narrow(1, 0, rows).narrow(2, 0, columns).contiguous();
    }
}

/// <summary>Hiera. Keys: pos_embed [1, width, rows, columns], pos_embed_window, patch_embed.projection, blocks.N.</summary>
public sealed class Sam2Hiera : Module
{
    readonly int[] ends;

    internal Sam2Hiera(Sam2HieraConfig c)
    {
        var background = c.WindowPositionalEmbeddingBackgroundSize;
        PosEmbed = new([1, c.HiddenSize, background[0], background[1]], Init.Zeros);
        PosEmbedWindow = new([1, c.HiddenSize, c.WindowSizePerStage[0], c.WindowSizePerStage[0]], Init.Zeros);
        PatchEmbed = new(c.NumChannels, c.HiddenSize, c.PatchKernelSize[0], c.PatchStride[0], c.PatchPadding[0]);
        var blocks = c.BlocksPerStage.SelectMany(static (count, stage) => Enumerable.Range(0, count).Select(i => (Stage: stage, IsFirst: i == 0)));
        Blocks = new(blocks.Select((b, i) => new Sam2Block(c, b.Stage, b.IsFirst, c.GlobalAttentionBlocks.Contains(i))));
        ends = [.. c.BlocksPerStage.Select((_, i) => c.BlocksPerStage[..(i + 1)].Sum() - 1)];
    }

    public Parameter PosEmbed { get; }

    public Parameter PosEmbedWindow { get; }

    [Key("patch_embed.projection")]
    public Conv2d PatchEmbed { get; }

    public ModuleList<Sam2Block> Blocks { get; }

    /// <returns>Every stage's output, the finest first: [b, rows, columns, width]</returns>
    public IReadOnlyList<Tensor> Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        if (pixels.dtype != PatchEmbed.Weight.Value.dtype) pixels = pixels.to(PatchEmbed.Weight.Value.dtype);
        var x = PatchEmbed.Forward(pixels).permute(0, 2, 3, 1);
        x = (x + Positions(x.shape[1], x.shape[2])).contiguous();
        var stages = new List<Tensor>();
        for (var i = 0; i < Blocks.Count; i++)
        {
            var (block, before) = (Blocks[i], x);
            x = ActivationsCheckpointed ? ActivationCheckpoint.Run(block, (x, _) => block.Forward(x), x, null) : block.Forward(x);
            if (i == 0 || !ends.Contains(i - 1)) before.Dispose();                                // the gradient keeps its own reference
            if (ends.Contains(i)) stages.Add(x.MoveToOuterDisposeScope());
        }
        return stages;
    }

    /// <summary>A coarse grid over the image, and the same again in every window.</summary>
    Tensor Positions(long rows, long columns)
    {
        var table = PosEmbed.Value;
        var grid = nn.functional.interpolate(table.to(ScalarType.Float32), [rows, columns], mode: InterpolationMode.Bicubic, align_corners: false).to(table.dtype);
        var side = PosEmbedWindow.Shape[2];
        if (rows % side != 0 || columns % side != 0) throw new PanoptesException($"A grid of {rows}x{columns} patches is not filled by windows of {side}; expected an image of another size.");
        return (grid + PosEmbedWindow.Value.repeat(1, 1, rows / side, columns / side)).permute(0, 2, 3, 1);
    }
}

/// <summary>All stages at the prompts' width, the coarser ones added to the finer. Keys: convs.N, from the coarsest.</summary>
public sealed class Sam2Neck(Sam2VisionConfig c) : Module
{
    public ModuleList<Conv2d> Convs { get; } = new(c.BackboneChannelList.Length, i => new Conv2d(c.BackboneChannelList[i], c.FpnHiddenSize, 1));

    /// <param name="stages">[b, rows, columns, width] each, the finest first</param>
    /// <returns>The finest so many levels: [b, width, rows, columns]</returns>
    public IReadOnlyList<Tensor> Forward(IReadOnlyList<Tensor> stages)
    {
        using var scope = NewDisposeScope();
        var levels = new Tensor[stages.Count];
        for (var i = stages.Count - 1; i >= 0; i--)
        {
            var conv = Convs[stages.Count - 1 - i];
            levels[i] = TorchOps.Linear(stages[i], conv.Weight.Value.flatten(1), conv.Bias!.Value).permute(0, 3, 1, 2);
            if (i < stages.Count - 1 && c.FpnTopDownLevels.Contains(i))
                levels[i] = levels[i] + levels[i + 1].repeat_interleave(2, 2).repeat_interleave(2, 3);
        }
        return [.. levels.Take(c.NumFeatureLevels).Select(static l => l.MoveToOuterDisposeScope())];
    }
}

/// <summary>The image encoder. Keys: backbone, neck.</summary>
public sealed class Sam2VisionEncoder(Sam2VisionConfig c) : Module
{
    public Sam2Hiera Backbone { get; } = new(c.BackboneConfig);

    public Sam2Neck Neck { get; } = new(c);

    /// <returns>[b, width, rows, columns] of three levels, the finest first</returns>
    public IReadOnlyList<Tensor> Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return [.. Neck.Forward(Backbone.Forward(pixels)).Select(static l => l.MoveToOuterDisposeScope())];
    }
}

/// <summary>Points, boxes and masks as tokens and maps. Keys: shared_embedding, mask_embed, no_mask_embed, point_embed, not_a_point_embed.</summary>
public sealed class Sam2PromptEncoder(SamPromptEncoderConfig c) : Module
{
    public SamPositionalEmbedding SharedEmbedding { get; } = new(c.HiddenSize / 2);

    public SamMaskEmbedding MaskEmbed { get; } = new(c.MaskInputChannels, c.HiddenSize, c.HiddenAct, c.LayerNormEps);

    public Embedding NoMaskEmbed { get; } = new(1, c.HiddenSize);

    public Embedding PointEmbed { get; } = new(c.NumPointEmbeddings, c.HiddenSize);

    public Embedding NotAPointEmbed { get; } = new(1, c.HiddenSize);

    /// <returns>[b, prompts, tokens, width] and [b or 1, width, grid or 1, grid or 1]; without points and boxes one prompt of nothing.</returns>
    public (Tensor Sparse, Tensor Dense) Forward(SamPrompts prompts)
    {
        using var scope = NewDisposeScope();
        var none = NotAPointEmbed.Weight;
        var sparse = SamDecoding.Tokens(prompts, SharedEmbedding, PointEmbed.Weight, none, c.ImageSize, padBoxes: true)
            ?? none.Value.view(1, 1, 1, -1).expand(prompts.Masks?.shape[0] ?? 1, -1, 2, -1);     // the empty point, and the one that follows points
        var dense = prompts.Masks is { } masks ? MaskEmbed.Forward(masks.to(none.Value.dtype)) : NoMaskEmbed.Weight.Value.view(1, -1, 1, 1);
        return (sparse.MoveToOuterDisposeScope(), dense.MoveToOuterDisposeScope());
    }
}

/// <summary>
/// Masks from tokens, with fine features of the image. Keys: those of <see cref="SamMaskDecoder"/>, conv_s0, conv_s1, obj_score_token, pred_obj_score_head.
/// </summary>
public sealed class Sam2MaskDecoder(Sam2MaskDecoderConfig c) : Module
{
    public Embedding IouToken { get; } = new(1, c.HiddenSize);

    public Embedding MaskTokens { get; } = new(c.NumMultimaskOutputs + 1, c.HiddenSize);

    public SamTwoWayTransformer Transformer { get; } =
        new(new(c.HiddenSize, c.MlpDim, c.NumHiddenLayers, c.NumAttentionHeads, c.AttentionDownsampleRate, 1e-5, Activation.Relu, Sam2: true));

    public ConvTranspose2d UpscaleConv1 { get; } = new(c.HiddenSize, c.HiddenSize / 4, 2);

    public ConvTranspose2d UpscaleConv2 { get; } = new(c.HiddenSize / 4, c.HiddenSize / 8, 2);

    public LayerNorm UpscaleLayerNorm { get; } = new(c.HiddenSize / 4, 1e-6);

    public ModuleList<SamFeedForward> OutputHypernetworksMlps { get; } = new(c.NumMultimaskOutputs + 1, _ => new SamFeedForward(c.HiddenSize, c.HiddenSize, c.HiddenSize / 8, 3));

    public SamFeedForward IouPredictionHead { get; } = new(c.HiddenSize, c.IouHeadHiddenDim, c.NumMultimaskOutputs + 1, c.IouHeadDepth);

    public Conv2d ConvS0 { get; } = new(c.HiddenSize, c.HiddenSize / 8, 1);

    public Conv2d ConvS1 { get; } = new(c.HiddenSize, c.HiddenSize / 4, 1);

    public Embedding ObjScoreToken { get; } = new(1, c.HiddenSize);

    public SamFeedForward PredObjScoreHead { get; } = new(c.HiddenSize, c.HiddenSize, 1, 3);

    /// <param name="image">[m, width, grid, grid], the mask prompts' maps added</param>
    /// <param name="fine">[m or 1, width / 8, 4 grid, 4 grid] and [m or 1, width / 4, 2 grid, 2 grid]</param>
    /// <param name="positions">[1, grid², width]</param>
    /// <param name="sparse">[b, prompts, tokens, width] with m = b or 1</param>
    /// <param name="multimask">Whether to give the masks of different extent, or one.</param>
    public SamMasks Forward(Tensor image, (Tensor S0, Tensor S1) fine, Tensor positions, Tensor sparse, bool multimask)
    {
        using var scope = NewDisposeScope();
        var (b, prompts, side) = (sparse.shape[0], sparse.shape[1], (int)image.shape[2]);
        var own = cat([ObjScoreToken.Weight.Value, IouToken.Weight.Value, MaskTokens.Weight.Value]).unsqueeze(0).expand(b * prompts, -1, -1);
        var (said, places) = Transformer.Forward(cat([own, sparse.flatten(0, 1)], 1), image.flatten(2).transpose(1, 2).contiguous(), positions);

        var (s0, s1) = (Nested(fine.S0, side), Nested(fine.S1, side));
        var squares = SamDecoding.Upscale(UpscaleConv1, UpscaleLayerNorm, UpscaleConv2, places, x => AddFine(x, s1), x => AddFine(x, s0));

        var isOne = !multimask && (!c.DynamicMultimaskViaStability || Training);
        var (first, count) = isOne ? (0, 1) : multimask ? (1, c.NumMultimaskOutputs) : (0, c.NumMultimaskOutputs + 1);
        var hyper = stack([.. Enumerable.Range(first, count).Select(i => OutputHypernetworksMlps[i].Forward(said.select(1, 2 + i)))], 1);
        var masks = SamDecoding.Masks(squares, hyper, side);
        var scores = IouPredictionHead.Forward(said.select(1, 1)).sigmoid().narrow(1, first, count);
        if (!multimask && !isOne) (masks, scores) = Stable(masks, scores);
        var isThere = PredObjScoreHead.Forward(said.select(1, 0));
        return new SamMasks(masks.unflatten(0, [b, prompts]), scores.unflatten(0, [b, prompts]), isThere.unflatten(0, [b, prompts])).MoveToOuterDisposeScope();
    }

    /// <summary>[n, ...] and [m, ...], where m divides n.</summary>
    static Tensor AddFine(Tensor squares, Tensor fine)
    {
        var (n, m) = (squares.shape[0], fine.shape[0]);
        return (squares.unflatten(0, [m, n / m]) + fine.unsqueeze(1)).flatten(0, 1);
    }

    /// <summary>[m, channels, k · side, k · side] as squares in squares: [m, side², 4, channels], or [m, side², 4, 4, channels].</summary>
    static Tensor Nested(Tensor fine, int side)
    {
        var (m, channels) = (fine.shape[0], fine.shape[1]);
        return fine.shape[2] == 2 * side
            ? fine.view(m, channels, side, 2, side, 2).permute(0, 2, 4, 3, 5, 1).reshape(m, side * side, 4, channels)
            : fine.view(m, channels, side, 2, 2, side, 2, 2).permute(0, 2, 5, 3, 6, 4, 7, 1).reshape(m, side * side, 4, 4, channels);
    }

    /// <summary>The single mask where it hardly changes with the threshold, else the best of the others.</summary>
    /// <param name="masks">[n, 1 + masks, height, width]</param>
    /// <param name="scores">[n, 1 + masks]</param>
    /// <returns>[n, 1, height, width] and [n, 1]</returns>
    (Tensor Masks, Tensor Scores) Stable(Tensor masks, Tensor scores)
    {
        var single = masks.select(1, 0).flatten(1);
        var delta = c.DynamicMultimaskStabilityDelta;
        var (certain, possible) = (single.gt(delta).sum(1).to(ScalarType.Float32), single.gt(-delta).sum(1).to(ScalarType.Float32));
        var stability = where(possible.gt(0), certain / possible, ones_like(certain));
        var best = scores.narrow(1, 1, scores.shape[1] - 1).argmax(1) + 1;
        var chosen = where(stability.ge(c.DynamicMultimaskStabilityThresh), zeros_like(best), best).unsqueeze(1);   // [n, 1]
        return (masks.gather(1, chosen.view(-1, 1, 1, 1).expand(-1, -1, masks.shape[2], masks.shape[3])), scores.gather(1, chosen));
    }
}

/// <summary>SAM 2 for images. Keys: shared_image_embedding, vision_encoder, prompt_encoder, mask_decoder, no_memory_embedding.</summary>
public sealed class Sam2Model : Module, ISegmentAnything
{
    /// <summary>What only videos need, in the files of video models.</summary>
    internal static readonly string[] Memory =
        ["memory_", "mask_downsample", "object_pointer_proj", "temporal_positional_encoding_projection_layer", "no_memory_positional_encoding", "no_object_pointer", "occlusion_spatial_embedding_parameter"];

    /// <exception cref="PanoptesException">Sizes that do not go together.</exception>
    public Sam2Model(Sam2Config config)
    {
        Config = config.Checked();
        SharedImageEmbedding = new(config.PromptEncoderConfig.HiddenSize / 2);
        VisionEncoder = new(config.VisionConfig);
        PromptEncoder = new(config.PromptEncoderConfig);
        MaskDecoder = new(config.MaskDecoderConfig);
        NoMemoryEmbedding = new([1, 1, config.VisionConfig.FpnHiddenSize], Init.Zeros);
    }

    public Sam2Config Config { get; }

    public SamPositionalEmbedding SharedImageEmbedding { get; }

    public Sam2VisionEncoder VisionEncoder { get; }

    public Sam2PromptEncoder PromptEncoder { get; }

    public Sam2MaskDecoder MaskDecoder { get; }

    public Parameter NoMemoryEmbedding { get; }

    public int ImageSize => Config.PromptEncoderConfig.ImageSize;

    public int MaskSize => 4 * (Config.PromptEncoderConfig.ImageSize / Config.PromptEncoderConfig.PatchSize);

    /// <inheritdoc/>
    /// <returns>Fine, middle and coarse features (the decoder's projections are done), owned by the caller.</returns>
    public SamFeatures EncodeImage(Tensor pixels)
    {
        if (pixels.shape[^1] != ImageSize || pixels.shape[^2] != ImageSize)
            throw new PanoptesException($"An image of {pixels.shape[^1]}x{pixels.shape[^2]} was given; this SAM takes {ImageSize}x{ImageSize}.");
        using var scope = NewDisposeScope();
        var levels = VisionEncoder.Forward(pixels);
        var type = MaskDecoder.ConvS0.Weight.Value.dtype;
        Tensor[] maps = [MaskDecoder.ConvS0.Forward(levels[0].to(type)), MaskDecoder.ConvS1.Forward(levels[1].to(type)), levels[2] + NoMemoryEmbedding.Value.to(levels[2].dtype).view(1, -1, 1, 1)];
        return new SamFeatures([.. maps.Select(static m => m.contiguous())]).MoveToOuterDisposeScope();
    }

    public SamMasks Decode(SamFeatures image, SamPrompts prompts, bool multimask = true)
    {
        using var scope = NewDisposeScope();
        var (sparse, dense) = PromptEncoder.Forward(prompts);
        var positions = SharedImageEmbedding.Grid((int)image.Embeddings.shape[^1], dense.dtype);
        var whole = image.Embeddings.to(dense.dtype) + dense;
        if (sparse.shape[0] == 1 && whole.shape[0] > 1) sparse = sparse.expand(whole.shape[0], -1, -1, -1);   // nothing was pointed at
        return MaskDecoder.Forward(whole, (image.Maps[0].to(dense.dtype), image.Maps[1].to(dense.dtype)), positions, sparse, multimask).MoveToOuterDisposeScope();
    }
}
