using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// The multimodal diffusion transformer of Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206) with the keys and the config.json of diffusers' SD3Transformer2DModel.

/// <summary>Sizes under diffusers' names.</summary>
public sealed record Sd3Config : ModelConfig
{
    /// <summary>The side of the latents that positions are counted for.</summary>
    public int SampleSize { get; init; } = 128;
    public int PatchSize { get; init; } = 2;
    public int InChannels { get; init; } = 16;
    public int NumLayers { get; init; } = 18;

    /// <summary>The size of one head.</summary>
    public int AttentionHeadDim { get; init; } = 64;
    public int NumAttentionHeads { get; init; } = 18;

    /// <summary>The width of the text's tokens.</summary>
    public int JointAttentionDim { get; init; } = 4096;

    /// <summary>What they are brought to: the width.</summary>
    public int CaptionProjectionDim { get; init; } = 1152;

    /// <summary>The width of the text's pooled features.</summary>
    public int PooledProjectionDim { get; init; } = 2048;

    /// <summary>Null: as many as come in.</summary>
    public int? OutChannels { get; init; } = 16;

    /// <summary>The side of the table of positions, whose middle is used.</summary>
    public int PosEmbedMaxSize { get; init; } = 96;

    /// <summary>The layers (from 0) whose image tokens see each other once more, without the text (3.5).</summary>
    public long[] DualAttentionLayers { get; init; } = [];

    /// <summary><c>rms_norm</c>: queries and keys are normalized (3.5); null: they are not.</summary>
    public string? QkNorm { get; init; }

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "SD3Transformer2DModel";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    [JsonIgnore]
    internal int Width => TransformerSizes.Width(NumAttentionHeads, AttentionHeadDim);

    /// <exception cref="PanoptesException">Something that this model cannot do.</exception>
    internal Sd3Config Checked()
    {
        if (QkNorm is not (null or "rms_norm")) throw new PanoptesException($"qk_norm is {QkNorm}; expected rms_norm or null.");
        if (CaptionProjectionDim != Width) throw new PanoptesException($"caption_projection_dim is {CaptionProjectionDim}; expected the width, {Width}, since text and image are one sequence.");
        if (PosEmbedMaxSize > 1 << 12) throw new PanoptesException($"pos_embed_max_size is {PosEmbedMaxSize}; expected at most {1 << 12}.");
        TransformerSizes.Patches(SampleSize, PatchSize, InChannels, OutChannels);
        return this;
    }
}

/// <summary>
/// Image and text see each other, then each feeds forward by itself. The last block's text is of no use any more. Keys: norm1, norm1_context, attn, attn2, ff, ff_context.
/// </summary>
public sealed class Sd3Block(Sd3Config c, bool dual, bool last) : Module
{
    public Modulation Norm1 { get; } = new(c.Width, dual ? 9 : 6);

    [Key("norm1_context")]
    public Modulation Norm1Context { get; } = new(c.Width, last ? 2 : 6);

    public JointAttention Attn { get; } = new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, c.QkNorm is not null, text: true, textOut: !last);

    public JointAttention? Attn2 { get; } = dual ? new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, c.QkNorm is not null, text: false) : null;

    public FeedForward Ff { get; } = new(c.Width, "gelu-approximate");

    public FeedForward? FfContext { get; } = last ? null : new(c.Width, "gelu-approximate");

    /// <param name="x">[b, image tokens, width]</param>
    /// <param name="text">[b, text tokens, width]</param>
    /// <param name="condition">[b, width] after SiLU</param>
    /// <param name="hook">Comes between attention's keys and what is seen.</param>
    /// <param name="map">How many rows and columns of image tokens there are.</param>
    /// <returns>Both; the text is null after the last block.</returns>
    internal (Tensor Image, Tensor? Text) Forward(Tensor x, Tensor text, Tensor condition, IAttentionHook? hook, (long, long) map)
    {
        using var scope = NewDisposeScope();
        var (m, t) = (Norm1.Forward(condition), Norm1Context.Forward(condition));       // shift, scale, gate of attention, of what feeds forward, and of the second attention
        var plain = Adaptive.Normalize(x);
        // The last block's text has scale before shift, and nothing else.
        var (shift, scale) = FfContext is null ? (t[1], t[0]) : (t[0], t[1]);
        var (ofImage, ofText) = Attn.Forward(Adaptive.Modulate(plain, m[0], m[1]), Adaptive.Modulate(Adaptive.Normalize(text), shift, scale), hook: hook, map: map);
        x = Adaptive.Add(x, m[2], ofImage);
        if (Attn2 is not null) x = Adaptive.Add(x, m[8], Attn2.Forward(Adaptive.Modulate(plain, m[6], m[7]), hook: hook, map: map).Image);
        x = Adaptive.Add(x, m[5], Ff.Forward(Adaptive.Modulate(Adaptive.Normalize(x), m[3], m[4])));
        if (FfContext is null) return (x.MoveToOuterDisposeScope(), null);
        text = Adaptive.Add(text, t[2], ofText!);
        text = Adaptive.Add(text, t[5], FfContext.Forward(Adaptive.Modulate(Adaptive.Normalize(text), t[3], t[4])));
        return (x.MoveToOuterDisposeScope(), text.MoveToOuterDisposeScope());
    }
}

/// <summary>Noisy latents, the time and a text to the flow. Keys: pos_embed, time_text_embed, context_embedder, transformer_blocks.N, norm_out, proj_out.</summary>
public sealed class Sd3Transformer : Module
{
    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public Sd3Transformer(Sd3Config config)
    {
        var c = Config = config.Checked();
        PosEmbed = new(c.InChannels, c.Width, c.PatchSize, c.SampleSize / c.PatchSize, table: c.PosEmbedMaxSize);
        TimeTextEmbed = new(c.PooledProjectionDim, c.Width);
        ContextEmbedder = new(c.JointAttentionDim, c.CaptionProjectionDim);
        TransformerBlocks = new(c.NumLayers, i => new(c, c.DualAttentionLayers.Contains(i), last: i == c.NumLayers - 1));
        NormOut = new(c.Width, 2);
        ProjOut = new(c.Width, c.PatchSize * c.PatchSize * (c.OutChannels ?? c.InChannels), initializer: Init.Zeros);
        HookedAttention.NameLayers(this);
    }

    public Sd3Config Config { get; }

    public PatchTokens PosEmbed { get; }

    public TimeTextEmbedding TimeTextEmbed { get; }

    public Linear ContextEmbedder { get; }

    public ModuleList<Sd3Block> TransformerBlocks { get; }

    public Modulation NormOut { get; }

    public Linear ProjOut { get; }

    /// <param name="latents">[b, channels, height, width]</param>
    /// <param name="timesteps">[b], from 0 to 1000</param>
    /// <param name="text">[b, tokens, joint attention dim]: the features of CLIP's towers and of T5</param>
    /// <param name="pooled">[b, pooled projection dim]: the pooled features of CLIP's towers</param>
    /// <param name="hook">Comes between attention's keys and what is seen, image tokens first; null: nothing does.</param>
    /// <returns>[b, out channels, height, width]</returns>
    /// <exception cref="PanoptesException">Latents of a shape that the model does not take.</exception>
    public Tensor Forward(Tensor latents, Tensor timesteps, Tensor text, Tensor pooled, IAttentionHook? hook = null)
    {
        using var scope = NewDisposeScope();
        var map = PatchTokens.Grid(latents, Config.InChannels, Config.PatchSize);
        var x = PosEmbed.Forward(latents);
        var (condition, t) = (TimeTextEmbed.Forward(timesteps, pooled.to(x.dtype)), ContextEmbedder.Forward(text.to(x.dtype)));
        for (var i = 0; i < TransformerBlocks.Count; i++)
        {
            var (before, written) = (x, t);
            (x, var next) = TransformerBlocks[i].Forward(x, t, condition, hook, map);
            t = next ?? t;
            before.Dispose();                                                            // the gradient keeps its own reference
            if (next is not null) written.Dispose();
        }
        var last = NormOut.Forward(condition);                                           // scale, then shift
        x = ProjOut.Forward(Adaptive.Modulate(Adaptive.Normalize(x), last[1], last[0]));
        return PatchTokens.Join(x, map.Rows, map.Columns, Config.PatchSize).MoveToOuterDisposeScope();
    }
}
