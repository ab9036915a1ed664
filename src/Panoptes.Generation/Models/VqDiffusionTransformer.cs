using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// VQ-Diffusion (Gu et al. 2021, arXiv:2111.14822) with the keys and the config.json of diffusers' Transformer2DModel over discrete latents.

/// <summary>Sizes under diffusers' names. Its dropout is not applied.</summary>
public sealed record VqDiffusionConfig : ModelConfig
{
    public int NumAttentionHeads { get; init; } = 16;

    /// <summary>The size of one head.</summary>
    public int AttentionHeadDim { get; init; } = 88;
    public int NumLayers { get; init; } = 1;

    /// <summary>How many codes, with one for what is masked.</summary>
    public int? NumVectorEmbeds { get; init; }

    /// <summary>The side of the maps.</summary>
    public int? SampleSize { get; init; }

    /// <summary>The width of the text; null: nothing is read.</summary>
    public int? CrossAttentionDim { get; init; }
    public bool AttentionBias { get; init; }

    /// <summary>As for <see cref="FeedForward"/>.</summary>
    public string ActivationFn { get; init; } = "geglu";

    /// <summary>How many steps there are.</summary>
    public int? NumEmbedsAdaNorm { get; init; }
    public string NormType { get; init; } = "layer_norm";
    public bool NormElementwiseAffine { get; init; } = true;

    /// <summary>Of the last norm of a block.</summary>
    public double NormEps { get; init; } = 1e-5;
    public bool OnlyCrossAttention { get; init; }
    public bool DoubleSelfAttention { get; init; }

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "Transformer2DModel";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    [JsonIgnore]
    internal int Width => TransformerSizes.Width(NumAttentionHeads, AttentionHeadDim);

    /// <exception cref="PanoptesException">Something that this model cannot do.</exception>
    internal VqDiffusionConfig Checked()
    {
        if (NumVectorEmbeds is not > 1 || SampleSize is not (> 0 and <= 1 << 12)) throw new PanoptesException($"num_vector_embeds is {NumVectorEmbeds} and sample_size {SampleSize}; expected both for a Transformer2DModel over codes.");
        // Older files say layer_norm and mean the adaptive one, as their steps tell.
        if (NormType is not ("ada_norm" or "layer_norm") || NumEmbedsAdaNorm is null) throw new PanoptesException($"norm_type is {NormType} with num_embeds_ada_norm {NumEmbedsAdaNorm}; expected ada_norm and a number of steps.");
        if (OnlyCrossAttention || DoubleSelfAttention) throw new PanoptesException("only_cross_attention or double_self_attention is true; expected false.");
        return this;
    }
}

/// <summary>A norm that the step scales and shifts. Keys: emb [steps, width], linear.</summary>
public sealed class VqDiffusionNorm(VqDiffusionConfig c) : Module
{
    public Embedding Emb { get; } = new(c.NumEmbedsAdaNorm!.Value, c.Width);

    public Linear Linear { get; } = new(c.Width, 2 * c.Width);

    /// <param name="x">[b, places, width]</param>
    /// <param name="timesteps">[b] or one int64</param>
    internal Tensor Forward(Tensor x, Tensor timesteps)
    {
        using var scope = NewDisposeScope();
        var m = Linear.Forward(nn.functional.silu(Emb.Forward(timesteps.view(-1)))).unsqueeze(1).chunk(2, -1);                 // scale, then shift
        return Adaptive.Modulate(Adaptive.Normalize(x, 1e-5), m[1], m[0]).MoveToOuterDisposeScope();
    }
}

/// <summary>Attention among the places, to the text, and feed-forward layers. Keys: norm1, attn1, norm2, attn2, norm3, ff.</summary>
public sealed class VqDiffusionBlock(VqDiffusionConfig c) : Module
{
    public VqDiffusionNorm Norm1 { get; } = new(c);

    public CrossAttention Attn1 { get; } = new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, bias: c.AttentionBias);

    public VqDiffusionNorm? Norm2 { get; } = c.CrossAttentionDim is null ? null : new(c);

    public CrossAttention? Attn2 { get; } = c.CrossAttentionDim is { } read ? new(c.Width, c.NumAttentionHeads, c.AttentionHeadDim, read, c.AttentionBias) : null;

    public LayerNorm? Norm3 { get; } = c.NormElementwiseAffine ? new(c.Width, c.NormEps) : null;

    public FeedForward Ff { get; } = new(c.Width, c.ActivationFn);

    internal Tensor Forward(Tensor x, Tensor? text, Tensor timesteps, IAttentionHook? hook, (long, long) map)
    {
        using var scope = NewDisposeScope();
        x = x.add(Attn1.Forward(Norm1.Forward(x, timesteps), hook: hook, map: map));
        if (Attn2 is not null) x = x.add(Attn2.Forward(Norm2!.Forward(x, timesteps), text, hook: hook, map: map));
        return x.add(Ff.Forward(Norm3?.Forward(x) ?? Adaptive.Normalize(x, c.NormEps))).MoveToOuterDisposeScope();
    }
}

/// <summary>Codes, some of them masked, the step and a text to how likely each code is. Keys: latent_image_embedding, transformer_blocks.N, norm_out, out.</summary>
public sealed class VqDiffusionTransformer : Module
{
    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public VqDiffusionTransformer(VqDiffusionConfig config)
    {
        var c = Config = config.Checked();
        Emb = new(c.NumVectorEmbeds!.Value, c.Width);
        (HeightEmb, WidthEmb) = (new(c.SampleSize!.Value, c.Width), new(c.SampleSize.Value, c.Width));
        TransformerBlocks = new(c.NumLayers, _ => new(c));
        NormOut = new(c.Width);
        Out = new(c.Width, c.NumVectorEmbeds.Value - 1);
        HookedAttention.NameLayers(this);
    }

    public VqDiffusionConfig Config { get; }

    [Key("latent_image_embedding.emb")]
    public Embedding Emb { get; }

    [Key("latent_image_embedding.height_emb")]
    public Embedding HeightEmb { get; }

    [Key("latent_image_embedding.width_emb")]
    public Embedding WidthEmb { get; }

    public ModuleList<VqDiffusionBlock> TransformerBlocks { get; }

    public LayerNorm NormOut { get; }

    public Linear Out { get; }

    /// <param name="codes">[b, places] int64, row by row; the last id is masked</param>
    /// <param name="timesteps">[b], or one for all, int64</param>
    /// <param name="text">[b, tokens, cross attention dim]; null where nothing is read</param>
    /// <param name="hook">Comes between attention's keys and what is seen; null: nothing does.</param>
    /// <returns>[b, codes, places]: logarithms of probabilities, the mask's not among them</returns>
    /// <exception cref="PanoptesException">More places than the model knows, or no text where one is read.</exception>
    public Tensor Forward(Tensor codes, Tensor timesteps, Tensor? text, IAttentionHook? hook = null)
    {
        var side = Config.SampleSize!.Value;
        if (codes.shape[1] > side * side) throw new PanoptesException($"{codes.shape[1]} codes were given to a model for {side}x{side}.");
        if (text is null && Config.CrossAttentionDim is not null) throw new PanoptesException("This model reads a text; expected one.");
        using var scope = NewDisposeScope();
        var places = (HeightEmb.Weight.Value.unsqueeze(1) + WidthEmb.Weight.Value.unsqueeze(0)).flatten(0, 1).narrow(0, 0, codes.shape[1]);
        var x = Emb.Forward(codes).add(places);
        text = text?.to(x.dtype);
        foreach (var block in TransformerBlocks)
        {
            var before = x;
            x = block.Forward(x, text, timesteps, hook, (side, side));
            before.Dispose();                                                            // the gradient keeps its own reference
        }
        return Out.Forward(NormOut.Forward(x)).transpose(1, 2).to(ScalarType.Float64).log_softmax(1).to(ScalarType.Float32).MoveToOuterDisposeScope();
    }
}
