using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// DiT (Peebles and Xie 2022, arXiv:2212.09748) with the keys and the config.json of diffusers' DiTTransformer2DModel, which older files call Transformer2DModel.

/// <summary>Sizes under diffusers' names. Its dropout is not applied.</summary>
public sealed record DitConfig : ModelConfig
{
    public int NumAttentionHeads { get; init; } = 16;

    /// <summary>The size of one head.</summary>
    public int AttentionHeadDim { get; init; } = 72;
    public int InChannels { get; init; } = 4;

    /// <summary>Null: as many as come in. Twice as many are the noise and its variance.</summary>
    public int? OutChannels { get; init; }
    public int NumLayers { get; init; } = 28;
    public bool AttentionBias { get; init; } = true;

    /// <summary>The side of the latents that positions are counted for.</summary>
    public int SampleSize { get; init; } = 32;
    public int PatchSize { get; init; } = 2;

    /// <summary>As for <see cref="FeedForward"/>.</summary>
    public string ActivationFn { get; init; } = "gelu-approximate";

    /// <summary>How many classes; one more, of this number, is none of them.</summary>
    public int NumEmbedsAdaNorm { get; init; } = 1000;
    public string NormType { get; init; } = "ada_norm_zero";
    public bool NormElementwiseAffine { get; init; }

    /// <summary>Of the second norm of a block.</summary>
    public double NormEps { get; init; } = 1e-5;

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "DiTTransformer2DModel";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    [JsonIgnore]
    internal int Width => TransformerSizes.Width(NumAttentionHeads, AttentionHeadDim);

    /// <exception cref="PanoptesException">Something that this model cannot do.</exception>
    internal DitConfig Checked()
    {
        if (NormType != "ada_norm_zero") throw new PanoptesException($"norm_type is {NormType}; expected ada_norm_zero.");
        TransformerSizes.Patches(SampleSize, PatchSize, InChannels, OutChannels);
        return this;
    }
}

/// <summary>The time and the class as one condition, of which every block has its own. Keys: timestep_embedder, class_embedder.embedding_table.</summary>
public sealed class DitCondition(DitConfig c) : Module
{
    public TimestepEmbedding TimestepEmbedder { get; } = new(256, c.Width);

    [Key("class_embedder.embedding_table")]
    public Embedding ClassEmbedder { get; } = new(c.NumEmbedsAdaNorm + 1, c.Width, Init.Normal(0.02));

    /// <param name="waves">[b, 256]: the time's sines and cosines</param>
    /// <param name="classes">[b] int64</param>
    /// <returns>[b, width] after SiLU</returns>
    internal Tensor Forward(Tensor waves, Tensor classes)
    {
        using var scope = NewDisposeScope();
        return nn.functional.silu(TimestepEmbedder.Forward(waves) + ClassEmbedder.Forward(classes)).MoveToOuterDisposeScope();
    }
}

/// <summary>The condition and what it makes of a block. Keys: emb, linear.</summary>
public sealed class DitNorm(DitConfig c) : Module
{
    public DitCondition Emb { get; } = new(c);

    [Key("")]
    public Modulation Modulation { get; } = new(c.Width, 6);
}

/// <summary>Attention and feed-forward layers, each shifted, scaled and gated by the condition. Keys: norm1, attn1, norm3, ff.</summary>
public sealed class DitBlock(DitConfig c) : Module
{
    public DitNorm Norm1 { get; } = new(c);

    public CrossAttention Attn1 { get; } = new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, bias: c.AttentionBias);

    public LayerNorm? Norm3 { get; } = c.NormElementwiseAffine ? new(c.Width, c.NormEps) : null;

    public FeedForward Ff { get; } = new(c.Width, c.ActivationFn);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="waves">As in <see cref="DitCondition"/>.</param>
    /// <param name="classes">As in <see cref="DitCondition"/>.</param>
    /// <param name="hook">Comes between attention's keys and what is seen.</param>
    /// <param name="map">How many rows and columns of tokens there are.</param>
    internal Tensor Forward(Tensor x, Tensor waves, Tensor classes, IAttentionHook? hook, (long, long) map)
    {
        using var scope = NewDisposeScope();
        var m = Norm1.Modulation.Forward(Norm1.Emb.Forward(waves, classes));             // shift, scale, gate of attention, then of what feeds forward
        x = Adaptive.Add(x, m[2], Attn1.Forward(Adaptive.Modulate(Adaptive.Normalize(x), m[0], m[1]), hook: hook, map: map));
        return Adaptive.Add(x, m[5], Ff.Forward(Adaptive.Modulate(Norm3?.Forward(x) ?? Adaptive.Normalize(x, c.NormEps), m[3], m[4]))).MoveToOuterDisposeScope();
    }
}

/// <summary>Noisy latents, the time and a class to the noise in them. Keys: pos_embed, transformer_blocks.N, proj_out_1, proj_out_2.</summary>
public sealed class DitTransformer : Module
{
    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public DitTransformer(DitConfig config)
    {
        var c = Config = config.Checked();
        PosEmbed = new(c.InChannels, c.Width, c.PatchSize, c.SampleSize / c.PatchSize);
        TransformerBlocks = new(c.NumLayers, _ => new(c));
        ProjOut1 = new(c.Width, 2 * c.Width, initializer: Init.Zeros);
        ProjOut2 = new(c.Width, c.PatchSize * c.PatchSize * (c.OutChannels ?? c.InChannels), initializer: Init.Zeros);
        if (TransformerBlocks.Count == 0) throw new PanoptesException("num_layers is 0; expected at least 1.");
        HookedAttention.NameLayers(this);
    }

    public DitConfig Config { get; }

    public PatchTokens PosEmbed { get; }

    public ModuleList<DitBlock> TransformerBlocks { get; }

    [Key("proj_out_1")]
    public Linear ProjOut1 { get; }

    [Key("proj_out_2")]
    public Linear ProjOut2 { get; }

    /// <param name="latents">[b, channels, height, width]</param>
    /// <param name="timesteps">[b]</param>
    /// <param name="classes">[b] int64; <see cref="DitConfig.NumEmbedsAdaNorm"/> is no class, for guidance and, some of the time, in training</param>
    /// <param name="hook">Comes between attention's keys and what is seen; null: nothing does.</param>
    /// <param name="hiddenStates">Receives the input and the output of every block.</param>
    /// <returns>[b, out channels, height, width]</returns>
    /// <exception cref="PanoptesException">Latents of a shape that the model does not take.</exception>
    public Tensor Forward(Tensor latents, Tensor timesteps, Tensor classes, IAttentionHook? hook = null, ICollection<Tensor>? hiddenStates = null)
    {
        using var scope = NewDisposeScope();
        var map = PatchTokens.Grid(latents, Config.InChannels, Config.PatchSize);
        var x = PosEmbed.Forward(latents);
        var waves = Timesteps.Sinusoids(timesteps, 256, frequencyShift: 1).to(x.dtype);
        hiddenStates?.Add(x.MoveToOuterDisposeScope());
        foreach (var block in TransformerBlocks)
        {
            var before = x;
            x = block.Forward(x, waves, classes, hook, map);
            if (hiddenStates is null) before.Dispose();                                  // the gradient keeps its own reference
            else hiddenStates.Add(x.MoveToOuterDisposeScope());
        }
        var last = ProjOut1.Forward(TransformerBlocks[0].Norm1.Emb.Forward(waves, classes)).unsqueeze(1).chunk(2, -1);
        x = ProjOut2.Forward(Adaptive.Modulate(Adaptive.Normalize(x), last[0], last[1]));
        return PatchTokens.Join(x, map.Rows, map.Columns, Config.PatchSize).MoveToOuterDisposeScope();
    }
}
