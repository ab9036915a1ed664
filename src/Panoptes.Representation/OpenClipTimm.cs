using System.Globalization;
using System.Text.RegularExpressions;
using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>timm's attention. Keys: qkv, proj.</summary>
public sealed class TimmAttention(int width, int heads) : Module
{
    public Linear Qkv { get; } = new(width, 3 * width, initializer: Init.TruncatedNormal(0.02));

    public Linear Proj { get; } = new(width, width, initializer: Init.TruncatedNormal(0.02));

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var qkv = Qkv.Forward(x).chunk(3, -1);
        var seen = Attention.Apply(Attention.SplitHeads(qkv[0], heads), Attention.SplitHeads(qkv[1], heads), Attention.SplitHeads(qkv[2], heads));
        return Proj.Forward(Attention.MergeHeads(seen)).MoveToOuterDisposeScope();
    }
}

/// <summary>timm's transformer block. Keys: norm1, attn, norm2, mlp.</summary>
public sealed class TimmBlock(int width, int heads, int hidden, Activation activation) : Module
{
    public LayerNorm Norm1 { get; } = new(width, 1e-6);

    public TimmAttention Attn { get; } = new(width, heads);

    public LayerNorm Norm2 { get; } = new(width, 1e-6);

    public Mlp Mlp { get; } = new(width, hidden, activation, Init.TruncatedNormal(0.02), Init.TruncatedNormal(0.02));

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = x + Attn.Forward(Norm1.Forward(x));
        return (x + Mlp.Forward(Norm2.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>timm's pooling by one learned query. Keys: latent, q, kv, proj, norm, mlp.</summary>
public sealed class TimmAttentionPool(int width, int heads, int hidden, Activation activation) : Module
{
    public Parameter Latent { get; } = new([1, 1, width], Init.TruncatedNormal(1 / Math.Sqrt(width)));

    public Linear Q { get; } = new(width, width, initializer: Init.TruncatedNormal(0.02));

    public Linear Kv { get; } = new(width, 2 * width, initializer: Init.TruncatedNormal(0.02));

    public Linear Proj { get; } = new(width, width, initializer: Init.TruncatedNormal(0.02));

    public LayerNorm Norm { get; } = new(width, 1e-6);

    public Mlp Mlp { get; } = new(width, hidden, activation, Init.TruncatedNormal(0.02), Init.TruncatedNormal(0.02));

    /// <param name="x">[b, tokens, width]</param>
    /// <returns>[b, width]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var q = Attention.SplitHeads(Q.Forward(Latent.Value.expand(x.shape[0], -1, -1)), heads);
        var kv = Kv.Forward(x).chunk(2, -1);
        var pooled = Proj.Forward(Attention.MergeHeads(Attention.Apply(q, Attention.SplitHeads(kv[0], heads), Attention.SplitHeads(kv[1], heads))));
        return (pooled + Mlp.Forward(Norm.Forward(pooled))).squeeze(1).MoveToOuterDisposeScope();
    }
}

/// <summary>timm's patch embedding. Key: proj.</summary>
public sealed class TimmPatchEmbed(int width, int patch) : Module
{
    public PatchEmbedding Proj { get; } = new(3, width, patch, bias: true);
}

/// <summary>An image model of timm's that can be a tower inside an open_clip model.</summary>
public abstract class TimmTrunk : Module, IImageTower
{
    public abstract int EmbeddingSize { get; }

    public abstract int ImageSize { get; }

    public abstract LayerGroups LayerGroups { get; }

    public virtual int PooledSize => EmbeddingSize;

    public virtual int TokenSize => EmbeddingSize;

    public virtual int PrefixTokens => 0;

    public virtual Tensor EmbedTokens(Tensor tokens) =>
        throw new PanoptesException($"{GetType().Name} pools its tokens in a way that single ones cannot follow; expected a vision transformer with a class token.");

    public abstract Tensor Encode(Tensor pixels);

    public abstract TowerOutput Forward(Tensor pixels, bool hiddenStates = false);
}

/// <summary>timm's vision transformer for SigLIP: no class token. Keys: pos_embed [1, patches, width], patch_embed, blocks.N, norm, attn_pool.</summary>
public sealed class TimmVisionTransformer(TimmSizes s, int imageSize, bool attentionPool) : TimmTrunk
{
    public Parameter PosEmbed { get; } = new([1, imageSize / s.Patch * (imageSize / s.Patch), s.Width], Init.TruncatedNormal(0.02));

    public TimmPatchEmbed PatchEmbed { get; } = new(s.Width, s.Patch);

    public ModuleList<TimmBlock> Blocks { get; } = new(s.Depth, _ => new TimmBlock(s.Width, s.Heads, s.Hidden, s.Activation));

    public LayerNorm Norm { get; } = new(s.Width, 1e-6);

    public TimmAttentionPool? AttnPool { get; } = attentionPool ? new(s.Width, s.Heads, s.Hidden, s.Activation) : null;

    public override int EmbeddingSize => s.Width;

    public override int ImageSize => imageSize;

    public override LayerGroups LayerGroups => LayerGroups.Of([PatchEmbed, PosEmbed], Blocks, [Norm], [AttnPool]);

    public override Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Forward(pixels).Embedding.MoveToOuterDisposeScope();
    }

    /// <returns>[b, patches, width] after the norm, and [b, width] pooled by attention or as the mean</returns>
    public override TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        if (hiddenStates) throw new PanoptesException("The states between the layers are kept for Hugging Face's models only.");
        if (pixels.shape[2] != imageSize || pixels.shape[3] != imageSize)
            throw new PanoptesException($"Images of {pixels.shape[3]}x{pixels.shape[2]} pixels were given to a model for {imageSize}x{imageSize}.");
        using var scope = NewDisposeScope();
        var x = PatchEmbed.Proj.Forward(pixels).add(PosEmbed.Value);
        foreach (var block in Blocks)
        {
            var before = x;
            x = ActivationsCheckpointed ? ActivationCheckpoint.Run(block, (x, _) => block.Forward(x), x, null) : block.Forward(x);
            before.Dispose();
        }
        x = Norm.Forward(x);
        var pooled = AttnPool?.Forward(x) ?? x.mean([1]);
        TowerOutput.Keep(x, pooled, null);
        return new(x, pooled, pooled);
    }
}

/// <summary>The sizes that a timm model's name stands for.</summary>
public sealed partial record TimmSizes(int Width, int Depth, int Heads, int Hidden, int Patch, Activation Activation)
{
    /// <summary>Reads names such as "vit_base_patch16_siglip_224" (timm's vision_transformer.py).</summary>
    /// <exception cref="PanoptesException">Another kind of name.</exception>
    public static TimmSizes Of(string name)
    {
        var match = Name().Match(name);
        if (!match.Success) throw new PanoptesException($"vision_cfg.timm_model_name is \"{name}\"; expected one of timm's SigLIP or EVA towers, such as vit_base_patch16_siglip_224 or eva02_base_patch16_clip_224.");
        var (size, patch, side) = (match.Groups["size"].Value, Number("patch"), Number("side"));
        var (width, depth, heads, ratio) = size switch
        {
            "base" => (768, 12, 12, 4.0),
            "large" => (1024, 24, 16, 4.0),
            "so400m" => (1152, 27, 16, 3.7362),
            _ => (1536, 40, 16, 4.0),
        };
        // These came with SigLIP 2 and compute GELU by tanh; the older names are shared with SigLIP, which does not.
        var tanh = patch == 32 || size == "giantopt" || (size == "so400m" && patch == 16) || (size == "large" && side == 512);
        return new(width, depth, heads, (int)(width * ratio), patch, tanh ? Activation.GeluTanh : Activation.Gelu);

        int Number(string group) => int.Parse(match.Groups[group].Value, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"^vit_(?<size>base|large|so400m|giantopt)_patch(?<patch>\d+)_siglip_(gap_)?(?<side>\d+)$")]
    private static partial Regex Name();
}

/// <summary>An image tower of timm's inside an open_clip model: SigLIP's or EVA-CLIP's. Keys: trunk.</summary>
public sealed class OpenClipTimm(OpenClipConfig c) : OpenClipVisual
{
    public TimmTrunk Trunk { get; } = Build(c);

    public override int EmbeddingSize => Trunk.EmbeddingSize;

    public override int ImageSize => Trunk.ImageSize;

    public override LayerGroups LayerGroups => Trunk.LayerGroups;

    public override int PooledSize => Trunk.PooledSize;

    public override int TokenSize => Trunk.TokenSize;

    public override int PrefixTokens => Trunk.PrefixTokens;

    public override Tensor EmbedTokens(Tensor tokens) => Trunk.EmbedTokens(tokens);

    public override Tensor Encode(Tensor pixels) => Trunk.Encode(pixels);

    public override TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Trunk.Forward(pixels, hiddenStates);

    static TimmTrunk Build(OpenClipConfig c)
    {
        var v = c.VisionCfg;
        if (v.TimmProj is not ("none" or "" or null)) throw new PanoptesException($"vision_cfg.timm_proj is \"{v.TimmProj}\"; expected \"none\".");
        if (v.TimmModelName!.StartsWith("eva", StringComparison.Ordinal))
        {
            // Without a projection of open_clip's own, the trunk's last layer is one.
            var args = v.TimmModelArgs ?? new();
            return new TimmEva(new()
            {
                Architecture = v.TimmModelName,
                NumClasses = v.TimmProj == "none" ? 0 : c.EmbedDim,
                GlobalPool = v.TimmPool,
                ModelArgs = args with { ImgSize = args.ImgSize ?? v.ImageSize },
            });
        }
        var sizes = TimmSizes.Of(v.TimmModelName);
        if (v.TimmPool is not ("map" or "avg")) throw new PanoptesException($"vision_cfg.timm_pool is \"{v.TimmPool}\"; expected \"map\" or \"avg\".");
        return new TimmVisionTransformer(sizes, v.ImageSize[0], v.TimmPool == "map");
    }
}
