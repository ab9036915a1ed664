using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// Florence-2 (Xiao et al. 2023, arXiv:2311.06242) with the keys and the config.json of Hugging Face's Florence2ForConditionalGeneration: a DaViT (Ding et al. 2022, arXiv:2204.03645), whose
// blocks attend inside windows and then among channels, and a BART (Lewis et al. 2019, arXiv:1910.13461) that reads its tokens before a task's words and writes text with places in it.

/// <summary>The image tower's config ("florence_vision").</summary>
public sealed record Florence2VisionConfig : ModelConfig
{
    public int InChannels { get; init; } = 3;
    public int[] Depths { get; init; } = [1, 1, 9, 1];
    public int[] PatchSize { get; init; } = [7, 3, 3, 3];
    public int[] PatchStride { get; init; } = [4, 2, 2, 2];

    /// <summary>May be 0.</summary>
    public long[] PatchPadding { get; init; } = [3, 1, 1, 1];

    /// <summary>Whether a stage's input is normalized, or what its convolution gives.</summary>
    public bool[] PatchPrenorm { get; init; } = [false, true, true, true];
    public int[] EmbedDim { get; init; } = [128, 256, 512, 1024];
    public int[] NumHeads { get; init; } = [4, 8, 16, 32];
    public int[] NumGroups { get; init; } = [4, 8, 16, 32];
    public int WindowSize { get; init; } = 12;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPathRate { get; init; } = 0.1;
    public double MlpRatio { get; init; } = 4;
    public bool QkvBias { get; init; } = true;
    public Activation ActivationFunction { get; init; } = Activation.Gelu;
    public int ProjectionDim { get; init; } = 1024;
    public int MaxTemporalEmbeddings { get; init; } = 100;
    public int MaxPositionEmbeddings { get; init; } = 50;
    public double InitializerRange { get; init; } = 0.02;
    public string ModelType { get; init; } = "florence_vision";

    /// <exception cref="PanoptesException">The stages do not fit together.</exception>
    internal Florence2VisionConfig Checked()
    {
        var stages = EmbedDim.Length;
        foreach (var (name, count) in (ReadOnlySpan<(string, int)>)[("depths", Depths.Length), ("patch_size", PatchSize.Length), ("patch_stride", PatchStride.Length), ("patch_padding", PatchPadding.Length),
            ("patch_prenorm", PatchPrenorm.Length), ("num_heads", NumHeads.Length), ("num_groups", NumGroups.Length)])
            if (stages is 0 or > 8 || count != stages) throw new PanoptesException($"embed_dim has {stages} stages and {name} {count}; expected as many, 1 to 8.");
        if (PatchPadding.Any(static p => p is < 0 or > 1024)) throw new PanoptesException($"patch_padding is [{string.Join(", ", PatchPadding)}]; expected 0 to 1024.");
        if (WindowSize > 512) throw new PanoptesException($"window_size is {WindowSize}; expected at most 512.");
        return this;
    }
}

/// <summary>The language model's config ("bart"). The peer's dropout is not applied.</summary>
public sealed record BartConfig : ModelConfig
{
    public int VocabSize { get; init; } = 50265;
    public int MaxPositionEmbeddings { get; init; } = 1024;
    public int DModel { get; init; } = 1024;
    public int EncoderLayers { get; init; } = 12;
    public int EncoderFfnDim { get; init; } = 4096;
    public int EncoderAttentionHeads { get; init; } = 16;
    public int DecoderLayers { get; init; } = 12;
    public int DecoderFfnDim { get; init; } = 4096;
    public int DecoderAttentionHeads { get; init; } = 16;
    public Activation ActivationFunction { get; init; } = Activation.Gelu;
    public double InitStd { get; init; } = 0.02;
    public bool ScaleEmbedding { get; init; }
    public int PadTokenId { get; init; } = 1;
    public int BosTokenId { get; init; }
    public int EosTokenId { get; init; } = 2;
    public int DecoderStartTokenId { get; init; } = 2;
    public int? ForcedEosTokenId { get; init; } = 2;
    public string ModelType { get; init; } = "bart";
}

/// <summary>Both and what joins them ("florence2").</summary>
public sealed record Florence2Config : ModelConfig
{
    public Florence2VisionConfig VisionConfig { get; init; } = new();
    public BartConfig TextConfig { get; init; } = new();

    /// <summary>The id whose places in a text are taken by the image's tokens.</summary>
    public int ImageTokenId { get; init; } = 51289;
    public bool IsEncoderDecoder { get; init; } = true;
    public bool TieWordEmbeddings { get; init; } = true;
    public string ModelType { get; init; } = "florence2";
    public string[] Architectures { get; init; } = ["Florence2ForConditionalGeneration"];
}

/// <summary>A convolution that shrinks the map, with a norm before or after it. Keys: conv, norm.</summary>
public sealed class DaVitEmbedding(Florence2VisionConfig c, int stage) : Module
{
    readonly bool before = c.PatchPrenorm[stage];

    public Conv2d Conv { get; } = new(Inputs(c, stage), c.EmbedDim[stage], c.PatchSize[stage], c.PatchStride[stage], (int)c.PatchPadding[stage], initializer: Init.Normal(c.InitializerRange));

    public LayerNorm Norm { get; } = new(c.PatchPrenorm[stage] ? Inputs(c, stage) : c.EmbedDim[stage]);

    static int Inputs(Florence2VisionConfig c, int stage) => stage == 0 ? c.InChannels : c.EmbedDim[stage - 1];

    /// <param name="x">[b, channels, height, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        if (x.shape[2] + 2 * c.PatchPadding[stage] < c.PatchSize[stage] || x.shape[3] + 2 * c.PatchPadding[stage] < c.PatchSize[stage])
            throw new PanoptesException($"A map of {x.shape[3]}x{x.shape[2]} places came to stage {stage}, whose patches have {c.PatchSize[stage]} a side; expected a larger image.");
        return (before ? Conv.Forward(Normalized(x)) : Normalized(Conv.Forward(x))).MoveToOuterDisposeScope();
    }

    Tensor Normalized(Tensor x) => Norm.Forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2);
}

/// <summary>Attention inside windows, or, with <paramref name="window"/> null, among the channels of each group over all places. Keys: qkv, proj.</summary>
/// <param name="parts">Heads of a window, groups of channels.</param>
public sealed class DaVitAttention(int width, int parts, int? window, bool bias, Initializer normal) : Module
{
    public Linear Qkv { get; } = new(Attention.Divisible(width, parts), 3 * width, bias, normal);

    public Linear Proj { get; } = new(width, width, initializer: normal);

    /// <param name="x">[b, rows · columns, width]</param>
    public Tensor Forward(Tensor x, long rows, long columns)
    {
        using var scope = NewDisposeScope();
        return (window is { } side ? InWindows(x, side, rows, columns) : AmongChannels(x)).MoveToOuterDisposeScope();
    }

    Tensor InWindows(Tensor x, int side, long rows, long columns)
    {
        var (down, right) = ((side - rows % side) % side, (side - columns % side) % side);
        var grid = x.unflatten(1, [rows, columns]);
        if (down + right > 0) grid = nn.functional.pad(grid, [0, 0, 0, right, 0, down]);
        var (q, k, v) = Split(SwinWindows.Partition(grid, side));
        var seen = Proj.Forward(Attention.MergeHeads(Attention.Apply(q, k, v)));
        var whole = SwinWindows.Reverse(seen, side, rows + down, columns + right);
        return down + right == 0 ? whole.flatten(1, 2) : whole.narrow(1, 0, rows).narrow(2, 0, columns).flatten(1, 2);
    }

    Tensor AmongChannels(Tensor x)
    {
        var (q, k, v) = Split(x);                                                                 // [b, groups, places, channels]
        var seen = Attention.Apply(q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3), scale: 1 / Math.Sqrt(x.shape[1]));
        return Proj.Forward(Attention.MergeHeads(seen.transpose(2, 3)));
    }

    (Tensor Q, Tensor K, Tensor V) Split(Tensor x)
    {
        var all = Qkv.Forward(x).chunk(3, -1);
        return (Attention.SplitHeads(all[0], parts), Attention.SplitHeads(all[1], parts), Attention.SplitHeads(all[2], parts));
    }
}

/// <summary>A look at the neighbors before each of attention and MLP. Keys: conv1, norm1, window_attn or channel_attn, conv2, norm2, ffn.</summary>
public sealed class DaVitBlock(Florence2VisionConfig c, int stage, bool windows) : Module
{
    readonly int width = c.EmbedDim[stage];

    public Conv2d Conv1 { get; } = Depthwise(c, stage);

    public LayerNorm Norm1 { get; } = new(c.EmbedDim[stage]);

    public DaVitAttention? WindowAttn { get; } = windows ? new(c.EmbedDim[stage], c.NumHeads[stage], c.WindowSize, c.QkvBias, Init.Normal(c.InitializerRange)) : null;

    public DaVitAttention? ChannelAttn { get; } = windows ? null : new(c.EmbedDim[stage], c.NumGroups[stage], null, c.QkvBias, Init.Normal(c.InitializerRange));

    public Conv2d Conv2 { get; } = Depthwise(c, stage);

    public LayerNorm Norm2 { get; } = new(c.EmbedDim[stage]);

    public Mlp Ffn { get; } = new(c.EmbedDim[stage], (int)(c.EmbedDim[stage] * c.MlpRatio), c.ActivationFunction, Init.Normal(c.InitializerRange), Init.Normal(c.InitializerRange));

    static Conv2d Depthwise(Florence2VisionConfig c, int stage) => new(c.EmbedDim[stage], c.EmbedDim[stage], 3, padding: 1, groups: c.EmbedDim[stage]);

    /// <param name="x">[b, width, rows, columns]</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth"/>, or null.</param>
    public Tensor Forward(Tensor x, Tensor? kept = null)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (x.shape[2], x.shape[3]);
        var tokens = Tokens(EncoderLayer.Residual(x, Conv1.Forward(x)));                          // [b, rows · columns, width]
        tokens = EncoderLayer.Residual(tokens, StochasticDepth.Apply((WindowAttn ?? ChannelAttn!).Forward(Norm1.Forward(tokens), rows, columns), kept, 0));
        var map = Map(tokens);
        tokens = Tokens(EncoderLayer.Residual(map, Conv2.Forward(map)));
        return Map(EncoderLayer.Residual(tokens, StochasticDepth.Apply(Ffn.Forward(Norm2.Forward(tokens)), kept, 1))).MoveToOuterDisposeScope();

        static Tensor Tokens(Tensor map) => map.flatten(2).transpose(1, 2);

        Tensor Map(Tensor tokens) => tokens.transpose(1, 2).reshape(-1, width, rows, columns);
    }
}

/// <summary>Windows, then channels. Keys: spatial_block, channel_block.</summary>
public sealed class DaVitPair(Florence2VisionConfig c, int stage) : Module
{
    public DaVitBlock SpatialBlock { get; } = new(c, stage, windows: true);

    public DaVitBlock ChannelBlock { get; } = new(c, stage, windows: false);
}

/// <summary>The image tower: images of any size that is large enough for its stages. Keys: convs.N, blocks.N.N.</summary>
public sealed class DaVit(Florence2VisionConfig c) : Module
{
    public ModuleList<DaVitEmbedding> Convs { get; } = new(c.EmbedDim.Length, i => new(c, i));

    public ModuleList<ModuleList<DaVitPair>> Blocks { get; } = new(c.EmbedDim.Length, i => new(c.Depths[i], _ => new(c, i)));

    /// <summary>Draws what is left out in training; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    /// <param name="pixels">[b, 3, height, width]</param>
    /// <returns>[b, width, rows, columns]</returns>
    public Tensor Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var kept = Training ? StochasticDepth.Draw(StochasticDepth.Rising(c.DropPathRate, 2 * c.Depths.Sum()), 2, pixels, Random) : null;
        var x = pixels.to(Convs[0].Conv.Weight.Value.dtype);
        for (var (i, block) = (0, 0); i < Convs.Count; block += 2 * c.Depths[i], i++)
        {
            DaVitBlock[] blocks = [.. Blocks[i].SelectMany(static p => new[] { p.SpatialBlock, p.ChannelBlock })];
            x = BlockStack.Forward(blocks, Convs[i].Forward(x), static (b, x, kept, _) => b.Forward(x, kept), kept?.narrow(0, block, blocks.Length), checkpointed: ActivationsCheckpointed);
        }
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The map as tokens for the language model: their mean, then all of them. Keys: image_projection, image_proj_norm, image_position_embed.row_embeddings, .column_embeddings,
/// visual_temporal_embed.pos_idx_to_embed.
/// </summary>
public sealed class Florence2Projector(Florence2VisionConfig c) : Module
{
    readonly int width = c.EmbedDim[^1];

    public Linear ImageProjection { get; } = new(c.EmbedDim[^1], c.ProjectionDim, bias: false, Init.Normal(c.InitializerRange));

    public LayerNorm ImageProjNorm { get; } = new(c.ProjectionDim);

    [Key("image_position_embed.row_embeddings")]
    public Embedding Rows { get; } = new(c.MaxPositionEmbeddings, c.EmbedDim[^1] / 2, Init.Normal(c.InitializerRange));

    [Key("image_position_embed.column_embeddings")]
    public Embedding Columns { get; } = new(c.MaxPositionEmbeddings, c.EmbedDim[^1] - c.EmbedDim[^1] / 2, Init.Normal(c.InitializerRange));

    /// <summary>The places of a clip's frames in time; an image is the first.</summary>
    [Key("visual_temporal_embed.pos_idx_to_embed")]
    public Parameter Times { get; } = new([c.MaxTemporalEmbeddings, c.EmbedDim[^1]], static (table, _) =>
    {
        var half = table.shape[1] / 2;
        var angles = arange(table.shape[0], dtype: ScalarType.Float32).unsqueeze(1) * (arange(half, dtype: ScalarType.Float32) * (-Math.Log(10000) / half)).exp();
        table.copy_(stack([angles.sin(), angles.cos()], -1).flatten(1));
    })
    { Trainable = false };

    /// <param name="map">[b, width, rows, columns]</param>
    /// <returns>[b, 1 + rows · columns, projected]</returns>
    /// <exception cref="PanoptesException">A larger map than there are positions.</exception>
    public Tensor Forward(Tensor map)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (map.shape[2], map.shape[3]);
        if (Math.Max(rows, columns) > c.MaxPositionEmbeddings) throw new PanoptesException($"A map of {columns}x{rows} places was given to a model with positions for {c.MaxPositionEmbeddings} a side; expected a smaller image.");
        var (across, down) = (Columns.Weight.Value.narrow(0, 0, columns), Rows.Weight.Value.narrow(0, 0, rows));
        var positions = cat([across.unsqueeze(0).expand(rows, -1, -1), down.unsqueeze(1).expand(-1, columns, -1)], -1);   // [rows, columns, width]
        var tokens = map.permute(0, 2, 3, 1).add(positions).flatten(1, 2).add(Times.Value[0]);
        return ImageProjNorm.Forward(ImageProjection.Forward(cat([tokens.mean([1], keepdim: true), tokens], 1))).MoveToOuterDisposeScope();
    }
}

/// <summary>A block of the reader. Keys: self_attn, self_attn_layer_norm, fc1, fc2, final_layer_norm.</summary>
public sealed class BartEncoderLayer(BartConfig c) : Module
{
    public SelfAttention SelfAttn { get; } = new(c.DModel, c.EncoderAttentionHeads, Init.Normal(c.InitStd), Init.Normal(c.InitStd));

    public LayerNorm SelfAttnLayerNorm { get; } = new(c.DModel);

    public Linear Fc1 { get; } = new(c.DModel, c.EncoderFfnDim, initializer: Init.Normal(c.InitStd));

    public Linear Fc2 { get; } = new(c.EncoderFfnDim, c.DModel, initializer: Init.Normal(c.InitStd));

    public LayerNorm FinalLayerNorm { get; } = new(c.DModel);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="mask">[b, 1, 1, tokens] bool, or null</param>
    public Tensor Forward(Tensor x, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        x = SelfAttnLayerNorm.Forward(EncoderLayer.Residual(x, SelfAttn.Forward(x, mask)));
        return FinalLayerNorm.Forward(EncoderLayer.Residual(x, Mlp.Apply(Fc1, Fc2, c.ActivationFunction, x))).MoveToOuterDisposeScope();
    }
}

/// <summary>A block of the writer. Keys: self_attn, self_attn_layer_norm, encoder_attn, encoder_attn_layer_norm, fc1, fc2, final_layer_norm.</summary>
public sealed class BartDecoderLayer(BartConfig c) : Module
{
    public SelfAttention SelfAttn { get; } = new(c.DModel, c.DecoderAttentionHeads, Init.Normal(c.InitStd), Init.Normal(c.InitStd));

    public LayerNorm SelfAttnLayerNorm { get; } = new(c.DModel);

    public SelfAttention EncoderAttn { get; } = new(c.DModel, c.DecoderAttentionHeads, Init.Normal(c.InitStd), Init.Normal(c.InitStd));

    public LayerNorm EncoderAttnLayerNorm { get; } = new(c.DModel);

    public Linear Fc1 { get; } = new(c.DModel, c.DecoderFfnDim, initializer: Init.Normal(c.InitStd));

    public Linear Fc2 { get; } = new(c.DecoderFfnDim, c.DModel, initializer: Init.Normal(c.InitStd));

    public LayerNorm FinalLayerNorm { get; } = new(c.DModel);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="memory">[b, read tokens, width]</param>
    /// <param name="mask">[b, 1, 1, read tokens] bool, or null</param>
    public Tensor Forward(Tensor x, Tensor memory, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var (key, value) = EncoderAttn.KeysAndValues(memory);
        x = SelfAttnLayerNorm.Forward(EncoderLayer.Residual(x, SelfAttn.Forward(x, causal: true)));
        return Rest(x, EncoderAttn.Attend(x, key, value, mask)).MoveToOuterDisposeScope();
    }

    /// <summary>The next token of every beam, [b · beams, 1, width]; all beams of a text share its keys and values.</summary>
    internal Tensor Next(Tensor x, KeyValueCache cache, (Tensor Key, Tensor Value) memory, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        x = SelfAttnLayerNorm.Forward(EncoderLayer.Residual(x, SelfAttn.Next(x, cache)));
        var together = x.view(memory.Key.shape[0], -1, x.shape[2]);
        return Rest(x, EncoderAttn.Attend(together, memory.Key, memory.Value, mask).view(x.shape)).MoveToOuterDisposeScope();
    }

    Tensor Rest(Tensor x, Tensor attended)
    {
        x = EncoderAttnLayerNorm.Forward(EncoderLayer.Residual(x, attended));
        return FinalLayerNorm.Forward(EncoderLayer.Residual(x, Mlp.Apply(Fc1, Fc2, c.ActivationFunction, x)));
    }
}

/// <summary>What reader and writer have alike. Keys: embed_tokens (the shared table), embed_positions, layers.N, layernorm_embedding.</summary>
public abstract class BartStack<T>(BartConfig c, Embedding shared, int layers, Func<T> layer) : Module where T : Module
{
    /// <summary>Positions start at this row of their table.</summary>
    const int FirstPosition = 2;

    public Embedding EmbedTokens { get; } = shared;

    public Embedding EmbedPositions { get; } = new(c.MaxPositionEmbeddings + FirstPosition, c.DModel, Init.Normal(c.InitStd));

    public ModuleList<T> Layers { get; } = new(layers, _ => layer());

    public LayerNorm LayernormEmbedding { get; } = new(c.DModel);

    /// <summary>Ids as they stand in the table, scaled where the config says so: [b, tokens, width].</summary>
    internal Tensor Words(Tensor ids)
    {
        using var scope = NewDisposeScope();
        var words = EmbedTokens.Forward(ids);
        return (c.ScaleEmbedding ? words * Math.Sqrt(c.DModel) : words).MoveToOuterDisposeScope();
    }

    /// <summary>What enters the layers.</summary>
    private protected Tensor Enter(Tensor words, int position = 0)
    {
        using var scope = NewDisposeScope();
        var length = words.shape[1];
        if (position + length > c.MaxPositionEmbeddings) throw new PanoptesException($"A sequence of {position + length} tokens was given to a model that has room for {c.MaxPositionEmbeddings}.");
        return LayernormEmbedding.Forward(words.add(EmbedPositions.Weight.Value.narrow(0, FirstPosition + position, length))).MoveToOuterDisposeScope();
    }
}

/// <inheritdoc cref="BartStack{T}"/>
public sealed class BartEncoder(BartConfig c, Embedding shared) : BartStack<BartEncoderLayer>(c, shared, c.EncoderLayers, () => new(c))
{
    /// <param name="words">[b, tokens, width]</param>
    /// <param name="mask">[b, 1, 1, tokens] bool, or null</param>
    public Tensor Forward(Tensor words, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        return BlockStack.Forward(Layers, Enter(words), static (layer, x, _, mask) => layer.Forward(x, mask), shared: mask, checkpointed: ActivationsCheckpointed).MoveToOuterDisposeScope();
    }
}

/// <inheritdoc cref="BartStack{T}"/>
public sealed class BartDecoder(BartConfig c, Embedding shared) : BartStack<BartDecoderLayer>(c, shared, c.DecoderLayers, () => new(c))
{
    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="memory">[b, read tokens, width]</param>
    /// <param name="mask">[b, 1, 1, read tokens] bool, or null</param>
    public Tensor Forward(Tensor ids, Tensor memory, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var x = Enter(Words(ids));
        foreach (var layer in Layers) x = layer.Forward(x, memory, mask);
        return x.MoveToOuterDisposeScope();
    }

    internal Tensor Next(Tensor ids, int position, IReadOnlyList<KeyValueCache> caches, IReadOnlyList<(Tensor, Tensor)> memory, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var x = Enter(Words(ids), position);
        for (var i = 0; i < Layers.Count; i++) x = Layers[i].Next(x, caches[i], memory[i], mask);
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>Reader and writer over one table of tokens. Keys: shared, encoder, decoder.</summary>
public sealed class BartModel : Module
{
    public BartModel(BartConfig c)
    {
        Shared = new(c.VocabSize, c.DModel, Init.Normal(c.InitStd));
        Encoder = new(c, Shared);
        Decoder = new(c, Shared);
    }

    public Embedding Shared { get; }

    public BartEncoder Encoder { get; }

    public BartDecoder Decoder { get; }
}

/// <summary>What Florence-2 computes of images with texts.</summary>
/// <param name="Logits">[b, written tokens, vocabulary]: what each says of the one after it.</param>
/// <param name="Memory">[b, read tokens, width]: the reader's last hidden state.</param>
/// <param name="ImageFeatures">[b, image tokens, width]: what took the image ids' places.</param>
public sealed record Florence2Output(Tensor Logits, Tensor Memory, Tensor ImageFeatures);

/// <summary>Florence-2. Keys: model.vision_tower, model.multi_modal_projector, model.language_model, lm_head.weight (the table of tokens).</summary>
public sealed class Florence2Model : Module
{
    /// <exception cref="PanoptesException">The parts do not fit together.</exception>
    public Florence2Model(Florence2Config config)
    {
        if (!config.TieWordEmbeddings) throw new PanoptesException("tie_word_embeddings is false; expected true, as in every Florence-2.");
        if (config.VisionConfig.Checked().ProjectionDim != config.TextConfig.DModel)
            throw new PanoptesException($"vision_config.projection_dim is {config.VisionConfig.ProjectionDim} and text_config.d_model {config.TextConfig.DModel}; expected the same.");
        Config = config;
        VisionTower = new(config.VisionConfig);
        MultiModalProjector = new(config.VisionConfig);
        LanguageModel = new(config.TextConfig);
    }

    public Florence2Config Config { get; }

    [Key("model.vision_tower")]
    public DaVit VisionTower { get; }

    [Key("model.multi_modal_projector")]
    public Florence2Projector MultiModalProjector { get; }

    [Key("model.language_model")]
    public BartModel LanguageModel { get; }

    [Key("lm_head.weight")]
    public Parameter LmHead => LanguageModel.Shared.Weight;

    /// <summary>What the language model reads of images: computed once, asked many times.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <returns>[b, image tokens, width]</returns>
    public Tensor ImageFeatures(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return MultiModalProjector.Forward(VisionTower.Forward(pixels)).MoveToOuterDisposeScope();
    }

    /// <summary>The reader's last hidden state.</summary>
    /// <param name="imageFeatures">[b, image tokens, width]</param>
    /// <param name="inputIds">[b, tokens] int64 with as many image ids in every row as there are image tokens</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; null: none</param>
    /// <exception cref="PanoptesException">Another number of image ids.</exception>
    public Tensor Read(Tensor imageFeatures, Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        var words = LanguageModel.Encoder.Words(inputIds);
        var places = inputIds.eq(Config.ImageTokenId);
        var (found, needed) = (places.sum(-1), imageFeatures.shape[1]);
        if (!found.eq(needed).all().item<bool>()) throw new PanoptesException($"A text has {found.min().item<long>()} places for image tokens, but the image has {needed} tokens; expected as many.");
        words = words.masked_scatter(places.unsqueeze(-1).expand_as(words), imageFeatures.to(words.dtype));
        return LanguageModel.Encoder.Forward(words, KeyMask.Of(attentionMask)).MoveToOuterDisposeScope();
    }

    /// <summary>What the writer says after each token of texts that are known.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="inputIds">As in <see cref="Read"/>.</param>
    /// <param name="decoderIds">[b, tokens] int64, from the start id on</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; null: none</param>
    public Florence2Output Forward(Tensor pixels, Tensor inputIds, Tensor decoderIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        var features = ImageFeatures(pixels);
        var memory = Read(features, inputIds, attentionMask);
        var written = LanguageModel.Decoder.Forward(decoderIds, memory, KeyMask.Of(attentionMask));
        return new(TorchOps.Linear(written, LmHead, null).MoveToOuterDisposeScope(), memory.MoveToOuterDisposeScope(), features.MoveToOuterDisposeScope());
    }

    /// <summary>The likeliest text of every image and question that a beam search finds.</summary>
    /// <param name="imageFeatures">[b, image tokens, width]: <see cref="ImageFeatures"/></param>
    /// <param name="inputIds">As in <see cref="Read"/>.</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; null: none</param>
    /// <returns>The ids between the start and the end.</returns>
    public IReadOnlyList<GeneratedCaption> Generate(Tensor imageFeatures, Tensor inputIds, Tensor? attentionMask = null, SequenceOptions? options = null)
    {
        var text = Config.TextConfig;
        options ??= new();
        options = options with { ForcedLastId = options.ForcedLastId ?? text.ForcedEosTokenId };
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var memory = Read(imageFeatures, inputIds, attentionMask);
        // The start takes a place, the last token none.
        var room = Math.Min(options.MaxTokens, text.MaxPositionEmbeddings);
        using var writer = new Writer(this, memory, KeyMask.Of(attentionMask), room);
        var images = (int)inputIds.shape[0];
        var start = full(images * options.Beams, 1, (long)text.DecoderStartTokenId, ScalarType.Int64, device: inputIds.device);
        return SequenceSearch.Run(writer, start, images, text.EosTokenId, room, options, [text.DecoderStartTokenId]);
    }

    sealed class Writer(Florence2Model model, Tensor memory, Tensor? mask, int room) : ISequenceDecoder
    {
        readonly KeyValueCache[] caches = [.. model.LanguageModel.Decoder.Layers.Select(_ => new KeyValueCache(room))];
        readonly (Tensor, Tensor)[] read = [.. model.LanguageModel.Decoder.Layers.Select(l => l.EncoderAttn.KeysAndValues(memory))];

        public Tensor Next(Tensor ids)
        {
            using var scope = NewDisposeScope();
            var x = model.LanguageModel.Decoder.Next(ids, caches.Length > 0 ? caches[0].Count : 0, caches, read, mask);
            return TorchOps.Linear(x.squeeze(1), model.LmHead, null).MoveToOuterDisposeScope();
        }

        public void Reorder(Tensor rows)
        {
            foreach (var cache in caches) cache.Reorder(rows);
        }

        public void Dispose()
        {
            foreach (var cache in caches) cache.Dispose();
        }
    }
}
