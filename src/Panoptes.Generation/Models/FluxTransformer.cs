using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// Flux.1 (Black Forest Labs 2024, github.com/black-forest-labs/flux) with the keys and the config.json of diffusers' FluxTransformer2DModel.

/// <summary>Sizes under diffusers' names.</summary>
public sealed record FluxConfig : ModelConfig
{
    public int PatchSize { get; init; } = 1;

    /// <summary>Of a token: four latent places' channels.</summary>
    public int InChannels { get; init; } = 64;

    /// <summary>Null: as many as come in.</summary>
    public int? OutChannels { get; init; }

    /// <summary>Blocks in which text and image have weights of their own.</summary>
    public int NumLayers { get; init; } = 19;

    /// <summary>Blocks in which they are one sequence.</summary>
    public int NumSingleLayers { get; init; } = 38;

    /// <summary>The size of one head.</summary>
    public int AttentionHeadDim { get; init; } = 128;
    public int NumAttentionHeads { get; init; } = 24;

    /// <summary>The width of the text's tokens (T5's).</summary>
    public int JointAttentionDim { get; init; } = 4096;

    /// <summary>The width of the text's pooled features (CLIP's).</summary>
    public int PooledProjectionDim { get; init; } = 768;

    /// <summary>Whether the scale of guidance is an input (the model was distilled from guidance).</summary>
    public bool GuidanceEmbeds { get; init; }

    /// <summary>How many of a head's channels turn with each of a token's three numbers: its picture, its row, its column.</summary>
    public int[] AxesDimsRope { get; init; } = [16, 56, 56];

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "FluxTransformer2DModel";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    [JsonIgnore]
    internal int Width => TransformerSizes.Width(NumAttentionHeads, AttentionHeadDim);

    /// <exception cref="PanoptesException">Something that this model cannot do.</exception>
    internal FluxConfig Checked()
    {
        if (AxesDimsRope.Length != 3 || AxesDimsRope.Any(static d => d % 2 != 0) || AxesDimsRope.Sum(static d => (long)d) != AttentionHeadDim)
            throw new PanoptesException($"axes_dims_rope is [{string.Join(", ", AxesDimsRope.Take(8))}]; expected three even numbers whose sum is attention_head_dim, {AttentionHeadDim}.");
        TransformerSizes.Patches(PatchSize, PatchSize, InChannels, OutChannels);
        return this;
    }
}

/// <summary>What a Flux is given.</summary>
public sealed record FluxInputs
{
    /// <summary>[b, image tokens, channels]: see <see cref="FluxTransformer.Pack"/>.</summary>
    public required Tensor Latents { get; init; }

    /// <summary>[b], from 0 to 1</summary>
    public required Tensor Timesteps { get; init; }

    /// <summary>[b, text tokens, joint attention dim]</summary>
    public required Tensor Text { get; init; }

    /// <summary>[b, pooled projection dim]</summary>
    public required Tensor Pooled { get; init; }

    /// <summary>[b], the scale of guidance, where the model takes it</summary>
    public Tensor? Guidance { get; init; }

    /// <summary>[image tokens, axes]: where each token is; null: <see cref="Rows"/> of as many columns as that makes, in the first picture.</summary>
    public Tensor? ImageIds { get; init; }

    /// <summary>[text tokens, axes]; null: all zero.</summary>
    public Tensor? TextIds { get; init; }

    /// <summary>How many rows of tokens the image has; 0: as many as columns.</summary>
    public long Rows { get; init; }
}

/// <summary>Text and image see each other, then each feeds forward by itself. Keys: norm1, norm1_context, attn, ff, ff_context.</summary>
public sealed class FluxBlock(FluxConfig c) : Module
{
    public Modulation Norm1 { get; } = new(c.Width, 6);

    [Key("norm1_context")]
    public Modulation Norm1Context { get; } = new(c.Width, 6);

    public JointAttention Attn { get; } = new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, normalized: true, text: true, textFirst: true);

    public FeedForward Ff { get; } = new(c.Width, "gelu-approximate");

    public FeedForward FfContext { get; } = new(c.Width, "gelu-approximate");

    /// <param name="x">[b, image tokens, width]</param>
    /// <param name="text">[b, text tokens, width]</param>
    /// <param name="condition">[b, width] after SiLU</param>
    /// <param name="rotary">As in <see cref="JointAttention.Forward"/>.</param>
    /// <param name="hook">Comes between attention's keys and what is seen.</param>
    /// <param name="map">How many rows and columns of image tokens there are.</param>
    internal (Tensor Image, Tensor Text) Forward(Tensor x, Tensor text, Tensor condition, Tensor rotary, IAttentionHook? hook, (long, long) map)
    {
        using var scope = NewDisposeScope();
        var (m, t) = (Norm1.Forward(condition), Norm1Context.Forward(condition));       // shift, scale, gate of attention, then of what feeds forward
        var (ofImage, ofText) = Attn.Forward(Adaptive.Modulate(Adaptive.Normalize(x), m[0], m[1]), Adaptive.Modulate(Adaptive.Normalize(text), t[0], t[1]), rotary, hook, map);
        x = Adaptive.Add(x, m[2], ofImage);
        x = Adaptive.Add(x, m[5], Ff.Forward(Adaptive.Modulate(Adaptive.Normalize(x), m[3], m[4])));
        text = Adaptive.Add(text, t[2], ofText!);
        text = Adaptive.Add(text, t[5], FfContext.Forward(Adaptive.Modulate(Adaptive.Normalize(text), t[3], t[4])));
        return (x.MoveToOuterDisposeScope(), text.MoveToOuterDisposeScope());
    }
}

/// <summary>Text and image as one sequence, which sees itself and feeds forward at once. Keys: norm, attn, proj_mlp, proj_out.</summary>
public sealed class FluxSingleBlock(FluxConfig c) : Module
{
    public Modulation Norm { get; } = new(c.Width, 3);

    public Linear ProjMlp { get; } = new(c.Width, 4 * c.Width);

    public Linear ProjOut { get; } = new(5 * c.Width, c.Width);

    public JointAttention Attn { get; } = new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, normalized: true, text: false, projects: false);

    /// <param name="x">[b, text and image tokens, width]</param>
    /// <param name="condition">[b, width] after SiLU</param>
    /// <param name="rotary">As in <see cref="JointAttention.Forward"/>.</param>
    /// <param name="hook">Comes between attention's keys and what is seen.</param>
    /// <param name="map">How many rows and columns of image tokens there are.</param>
    internal Tensor Forward(Tensor x, Tensor condition, Tensor rotary, IAttentionHook? hook, (long, long) map)
    {
        using var scope = NewDisposeScope();
        var m = Norm.Forward(condition);                                                 // shift, scale, gate
        var y = Adaptive.Modulate(Adaptive.Normalize(x), m[0], m[1]);
        var seen = Attn.Forward(y, rotary: rotary, hook: hook, map: map).Image;
        return Adaptive.Add(x, m[2], ProjOut.Forward(cat([seen, ProjMlp.Forward(y, Activation.GeluTanh)], 2))).MoveToOuterDisposeScope();
    }
}

/// <summary>Noisy latents, the time and a text to the flow. Keys: time_text_embed, context_embedder, x_embedder, transformer_blocks.N, single_transformer_blocks.N, norm_out, proj_out.</summary>
public sealed class FluxTransformer : Module
{
    readonly SizeCache<(long Rows, long Columns, long Text, DeviceType Device)> rotaries = new();

    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public FluxTransformer(FluxConfig config)
    {
        var c = Config = config.Checked();
        TimeTextEmbed = new(c.PooledProjectionDim, c.Width, c.GuidanceEmbeds);
        ContextEmbedder = new(c.JointAttentionDim, c.Width);
        XEmbedder = new(c.InChannels, c.Width);
        TransformerBlocks = new(c.NumLayers, _ => new(c));
        SingleTransformerBlocks = new(c.NumSingleLayers, _ => new(c));
        NormOut = new(c.Width, 2);
        ProjOut = new(c.Width, c.PatchSize * c.PatchSize * (c.OutChannels ?? c.InChannels), initializer: Init.Zeros);
        HookedAttention.NameLayers(this);
    }

    public FluxConfig Config { get; }

    public TimeTextEmbedding TimeTextEmbed { get; }

    public Linear ContextEmbedder { get; }

    public Linear XEmbedder { get; }

    public ModuleList<FluxBlock> TransformerBlocks { get; }

    public ModuleList<FluxSingleBlock> SingleTransformerBlocks { get; }

    public Modulation NormOut { get; }

    public Linear ProjOut { get; }

    /// <param name="inputs">Latents, time and text.</param>
    /// <param name="hook">Comes between attention's keys and what is seen, text tokens first; null: nothing does.</param>
    /// <returns>[b, image tokens, out channels]</returns>
    /// <exception cref="PanoptesException">Tokens that are no grid, or no scale of guidance where the model takes one.</exception>
    public Tensor Forward(FluxInputs inputs, IAttentionHook? hook = null)
    {
        using var scope = NewDisposeScope();
        var (count, written) = (inputs.Latents.shape[1], inputs.Text.shape[1]);
        var rows = inputs.Rows > 0 ? inputs.Rows : (long)Math.Sqrt(count);
        var isGrid = count % rows == 0;
        if (!isGrid && inputs.ImageIds is null) throw new PanoptesException($"{count} image tokens were given as {rows} rows; expected a multiple, or where each token is.");
        var map = isGrid ? (rows, count / rows) : (0L, 0L);

        var x = XEmbedder.Forward(inputs.Latents.to(XEmbedder.Bias!.Value.dtype));
        var condition = TimeTextEmbed.Forward(inputs.Timesteps.to(x.dtype) * 1000, inputs.Pooled.to(x.dtype), inputs.Guidance is { } scale ? scale.to(x.dtype) * 1000 : null);
        var text = ContextEmbedder.Forward(inputs.Text.to(x.dtype));
        var rotary = inputs.ImageIds is null && inputs.TextIds is null
            ? rotaries.Get((map.Item1, map.Item2, written, x.device_type), s => Rotary(cat([zeros(s.Text, Config.AxesDimsRope.Length), ImageIds(s.Rows, s.Columns)])).to(s.Device))
            : Rotary(cat([inputs.TextIds ?? zeros(written, Config.AxesDimsRope.Length, device: x.device), inputs.ImageIds ?? ImageIds(map.Item1, map.Item2).to(x.device)]));

        for (var i = 0; i < TransformerBlocks.Count; i++)
        {
            var (before, said) = (x, text);
            (x, text) = TransformerBlocks[i].Forward(x, text, condition, rotary, hook, map);
            before.Dispose();                                                            // the gradient keeps its own reference
            said.Dispose();
        }
        x = cat([text, x], 1);
        for (var i = 0; i < SingleTransformerBlocks.Count; i++)
        {
            var before = x;
            x = SingleTransformerBlocks[i].Forward(x, condition, rotary, hook, map);
            before.Dispose();
        }
        var last = NormOut.Forward(condition);                                           // scale, then shift
        return ProjOut.Forward(Adaptive.Modulate(Adaptive.Normalize(x.narrow(1, written, count)), last[1], last[0])).MoveToOuterDisposeScope();
    }

    /// <summary>What turns the channels of queries and keys: [tokens, 1, head size / 2] complex.</summary>
    /// <param name="ids">[tokens, axes]</param>
    Tensor Rotary(Tensor ids)
    {
        using var scope = NewDisposeScope();
        var wide = ids.to(ScalarType.Float64);
        Tensor[] angles = [.. Config.AxesDimsRope.Select((size, axis) => wide.narrow(1, axis, 1) * (arange(0, size, 2, ScalarType.Float64, device: ids.device) * (-Math.Log(10000) / size)).exp())];
        var all = cat(angles, 1);                                                        // [tokens, head size / 2]
        return complex(all.cos().to(ScalarType.Float32), all.sin().to(ScalarType.Float32)).unsqueeze(1).MoveToOuterDisposeScope();
    }

    /// <summary>Where the tokens of an image are: [rows · columns, 3], of the first picture.</summary>
    public static Tensor ImageIds(long rows, long columns)
    {
        using var scope = NewDisposeScope();
        var (y, x) = (arange(rows, dtype: ScalarType.Float32).view(-1, 1).expand(rows, columns), arange(columns, dtype: ScalarType.Float32).view(1, -1).expand(rows, columns));
        return stack([zeros_like(y), y, x], -1).view(rows * columns, 3).MoveToOuterDisposeScope();
    }

    /// <summary>Latents to tokens of 2x2 places: [b, height / 2 · width / 2, 4 · channels].</summary>
    /// <param name="latents">[b, channels, height, width]</param>
    /// <exception cref="PanoptesException">An odd side.</exception>
    public static Tensor Pack(Tensor latents)
    {
        if (latents.shape[2] % 2 != 0 || latents.shape[3] % 2 != 0) throw new PanoptesException($"Latents of {latents.shape[3]}x{latents.shape[2]} were to be packed by twos; expected even sides.");
        using var scope = NewDisposeScope();
        var (b, channels, height, width) = (latents.shape[0], latents.shape[1], latents.shape[2], latents.shape[3]);
        return latents.reshape(b, channels, height / 2, 2, width / 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, height / 2 * (width / 2), 4 * channels).MoveToOuterDisposeScope();
    }

    /// <summary>Tokens back to latents: [b, channels, 2 · rows, 2 · columns].</summary>
    /// <param name="tokens">[b, rows · columns, 4 · channels]</param>
    /// <param name="rows">Of tokens.</param>
    /// <param name="columns">Of tokens.</param>
    public static Tensor Unpack(Tensor tokens, long rows, long columns)
    {
        using var scope = NewDisposeScope();
        var channels = tokens.shape[2] / 4;
        return tokens.reshape(-1, rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, 2 * rows, 2 * columns).MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) rotaries.Dispose();
        base.Dispose(disposing);
    }
}
