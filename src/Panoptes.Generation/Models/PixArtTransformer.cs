using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// PixArt-α (Chen et al. 2023, arXiv:2310.00426) and PixArt-Σ with the keys and the config.json of diffusers' PixArtTransformer2DModel, which older files call Transformer2DModel.

/// <summary>Sizes under diffusers' names. Its dropout is not applied.</summary>
public sealed record PixArtConfig : ModelConfig
{
    public int NumAttentionHeads { get; init; } = 16;

    /// <summary>The size of one head.</summary>
    public int AttentionHeadDim { get; init; } = 72;
    public int InChannels { get; init; } = 4;

    /// <summary>Null: as many as come in. Twice as many are the noise and its variance.</summary>
    public int? OutChannels { get; init; } = 8;
    public int NumLayers { get; init; } = 28;

    /// <summary>The width of the projected text; null: nothing is read.</summary>
    public int? CrossAttentionDim { get; init; } = 1152;
    public bool AttentionBias { get; init; } = true;

    /// <summary>The side of the latents that positions are counted for.</summary>
    public int SampleSize { get; init; } = 128;
    public int PatchSize { get; init; } = 2;

    /// <summary>As for <see cref="FeedForward"/>.</summary>
    public string ActivationFn { get; init; } = "gelu-approximate";
    public string NormType { get; init; } = "ada_norm_single";
    public bool NormElementwiseAffine { get; init; }
    public double NormEps { get; init; } = 1e-6;

    /// <summary>Positions are divided by this; null: by a 64th of the side, at least 1.</summary>
    public double? InterpolationScale { get; init; }

    /// <summary>Whether the model is told the image's size and aspect ratio; null: where the side is 128.</summary>
    public bool? UseAdditionalConditions { get; init; }

    /// <summary>The width of the text; null: it comes projected.</summary>
    public int? CaptionChannels { get; init; }

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "PixArtTransformer2DModel";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    [JsonIgnore]
    internal int Width => TransformerSizes.Width(NumAttentionHeads, AttentionHeadDim);

    [JsonIgnore]
    internal bool KnowsSizes => UseAdditionalConditions ?? SampleSize == 128;

    /// <exception cref="PanoptesException">Something that this model cannot do.</exception>
    internal PixArtConfig Checked()
    {
        if (NormType != "ada_norm_single") throw new PanoptesException($"norm_type is {NormType}; expected ada_norm_single.");
        if (KnowsSizes && Width % 3 != 0) throw new PanoptesException($"The width is {Width}; expected a multiple of 3, since use_additional_conditions divides it among height, width and aspect ratio.");
        if (CaptionChannels is not null && CrossAttentionDim is { } read && read != Width) throw new PanoptesException($"cross_attention_dim is {read}; expected the width, {Width}, to which captions are projected.");
        if (InterpolationScale is { } scale && !(scale is > 0 and < 1e4)) throw new PanoptesException($"interpolation_scale is {scale}; expected more than 0.");
        TransformerSizes.Patches(SampleSize, PatchSize, InChannels, OutChannels);
        return this;
    }
}

/// <summary>What a PixArt is told beside the latents and the time.</summary>
public sealed record PixArtCondition
{
    /// <summary>[b, tokens, caption channels]: T5's features</summary>
    public required Tensor Text { get; init; }

    /// <summary>[b, tokens], 0 where padding; null: none.</summary>
    public Tensor? TextMask { get; init; }

    /// <summary>[b, 2]: height and width in pixels, where the model is told sizes</summary>
    public Tensor? Resolution { get; init; }

    /// <summary>[b, 1]: height / width, where the model is told sizes</summary>
    public Tensor? AspectRatio { get; init; }
}

/// <summary>The time, and the image's size, as one condition. Keys: timestep_embedder, resolution_embedder, aspect_ratio_embedder.</summary>
public sealed class PixArtEmbedding(PixArtConfig c) : Module
{
    public TimestepEmbedding TimestepEmbedder { get; } = new(256, c.Width);

    public TimestepEmbedding? ResolutionEmbedder { get; } = c.KnowsSizes ? new(256, c.Width / 3) : null;

    public TimestepEmbedding? AspectRatioEmbedder { get; } = c.KnowsSizes ? new(256, c.Width / 3) : null;

    internal Tensor Forward(Tensor timesteps, PixArtCondition condition, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var time = TimestepEmbedder.Forward(Timesteps.Sinusoids(timesteps, 256).to(dtype));
        if (ResolutionEmbedder is null) return time.MoveToOuterDisposeScope();
        if (condition.Resolution is not { } resolution || condition.AspectRatio is not { } ratio) throw new PanoptesException("This PixArt is told the image's size: expected a resolution and an aspect ratio.");
        var sizes = cat([Of(ResolutionEmbedder, resolution), Of(AspectRatioEmbedder!, ratio)], 1);
        return (time + sizes).MoveToOuterDisposeScope();

        Tensor Of(TimestepEmbedding embedder, Tensor numbers) => embedder.Forward(Timesteps.Sinusoids(numbers.flatten(), 256).to(dtype)).view(numbers.shape[0], -1);
    }
}

/// <summary>One modulation that all blocks share. Keys: emb, linear.</summary>
public sealed class PixArtModulation(PixArtConfig c) : Module
{
    public PixArtEmbedding Emb { get; } = new(c);

    public Linear Linear { get; } = new(c.Width, 6 * c.Width, initializer: Init.Normal(0.02));
}

/// <summary>Attention among the tokens, to the text, and feed-forward layers; the block's own table is added to the common modulation. Keys: scale_shift_table, norm1, attn1, norm2, attn2, ff.</summary>
public sealed class PixArtBlock(PixArtConfig c) : Module
{
    public Parameter ScaleShiftTable { get; } = new([6, c.Width], Init.Normal(1 / Math.Sqrt(c.Width)));

    public LayerNorm? Norm1 { get; } = c.NormElementwiseAffine ? new(c.Width, c.NormEps) : null;

    public CrossAttention Attn1 { get; } = new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, bias: c.AttentionBias);

    public LayerNorm? Norm2 { get; } = c.NormElementwiseAffine ? new(c.Width, c.NormEps) : null;

    public CrossAttention? Attn2 { get; } = c.CrossAttentionDim is { } read ? new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, read, c.AttentionBias) : null;

    public FeedForward Ff { get; } = new(c.Width, c.ActivationFn);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="common">[b, 6, width]</param>
    /// <param name="text">[b, text tokens, context width]</param>
    /// <param name="mask">Added to the scores of the text: [b, 1, 1, text tokens], or null.</param>
    /// <param name="hook">Comes between attention's keys and what is seen.</param>
    /// <param name="map">How many rows and columns of tokens there are.</param>
    internal Tensor Forward(Tensor x, Tensor common, Tensor text, Tensor? mask, IAttentionHook? hook, (long, long) map)
    {
        using var scope = NewDisposeScope();
        var m = (common + ScaleShiftTable.Value).chunk(6, 1);
        x = Adaptive.Add(x, m[2], Attn1.Forward(Adaptive.Modulate(Norm1?.Forward(x) ?? Adaptive.Normalize(x, c.NormEps), m[0], m[1]), hook: hook, map: map));
        if (Attn2 is not null) x = x.add(Attn2.Forward(x, text, mask, hook, map));
        return Adaptive.Add(x, m[5], Ff.Forward(Adaptive.Modulate(Norm2?.Forward(x) ?? Adaptive.Normalize(x, c.NormEps), m[3], m[4]))).MoveToOuterDisposeScope();
    }
}

/// <summary>Noisy latents, the time and a text to the noise in them. Keys: scale_shift_table, pos_embed, transformer_blocks.N, proj_out, adaln_single, caption_projection.</summary>
public sealed class PixArtTransformer : Module
{
    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public PixArtTransformer(PixArtConfig config)
    {
        var c = Config = config.Checked();
        ScaleShiftTable = new([2, c.Width], Init.Normal(1 / Math.Sqrt(c.Width)));
        PosEmbed = new(c.InChannels, c.Width, c.PatchSize, c.SampleSize / c.PatchSize, c.InterpolationScale ?? Math.Max(c.SampleSize / 64, 1));
        TransformerBlocks = new(c.NumLayers, _ => new(c));
        ProjOut = new(c.Width, c.PatchSize * c.PatchSize * (c.OutChannels ?? c.InChannels), initializer: Init.Zeros);
        AdalnSingle = new(c);
        if (c.CaptionChannels is { } caption) CaptionProjection = new(caption, c.Width, Activation.GeluTanh);
        HookedAttention.NameLayers(this);
    }

    /// <summary>Whether a key of a file is nothing of the model: PixArt-α's have the caption that stood for none in training, which the peer passes over, too.</summary>
    internal static bool IsIgnored(string key) => key.EndsWith("caption_projection.y_embedding", StringComparison.Ordinal);

    public PixArtConfig Config { get; }

    public Parameter ScaleShiftTable { get; }

    public PatchTokens PosEmbed { get; }

    public ModuleList<PixArtBlock> TransformerBlocks { get; }

    public Linear ProjOut { get; }

    public PixArtModulation AdalnSingle { get; }

    public TextProjection? CaptionProjection { get; }

    /// <param name="latents">[b, channels, height, width]</param>
    /// <param name="timesteps">[b]</param>
    /// <param name="condition">The text, and the image's size.</param>
    /// <param name="hook">Comes between attention's keys and what is seen; null: nothing does.</param>
    /// <returns>[b, out channels, height, width]</returns>
    /// <exception cref="PanoptesException">Latents of a shape that the model does not take, or no sizes where it is told them.</exception>
    public Tensor Forward(Tensor latents, Tensor timesteps, PixArtCondition condition, IAttentionHook? hook = null)
    {
        using var scope = NewDisposeScope();
        var map = PatchTokens.Grid(latents, Config.InChannels, Config.PatchSize);
        var x = PosEmbed.Forward(latents);
        var time = AdalnSingle.Emb.Forward(timesteps, condition, x.dtype);
        var common = AdalnSingle.Linear.Forward(nn.functional.silu(time)).view(time.shape[0], 6, -1);
        var text = condition.Text.to(x.dtype);
        if (CaptionProjection is not null) text = CaptionProjection.Forward(text);
        var mask = condition.TextMask is { } read && KeyMask.Of(read) is { } seen ? (1 - seen.to(x.dtype)) * -10000 : null;
        foreach (var block in TransformerBlocks)
        {
            var before = x;
            x = block.Forward(x, common, text, mask, hook, map);
            before.Dispose();                                                            // the gradient keeps its own reference
        }
        var last = (ScaleShiftTable.Value + time.unsqueeze(1)).chunk(2, 1);
        x = ProjOut.Forward(Adaptive.Modulate(Adaptive.Normalize(x), last[0], last[1]));
        return PatchTokens.Join(x, map.Rows, map.Columns, Config.PatchSize).MoveToOuterDisposeScope();
    }
}
