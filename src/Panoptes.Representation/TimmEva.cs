using System.Globalization;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Panoptes.Nn;

namespace Panoptes.Representation;

// EVA (Fang et al. 2022, arXiv:2211.07636) and EVA-02 (Fang et al. 2023, arXiv:2303.11331) with timm's keys (its eva.py), alone under timm's
// config.json or as an image tower of open_clip's EVA-CLIP (Sun et al. 2023, arXiv:2303.15389). EVA-02 turns queries and keys by their place
// in the grid, has gated MLPs, and normalizes inside attention and MLP.

/// <summary>What timm builds an Eva from ("model_args"); what is null follows from the model's name.</summary>
public sealed record EvaArgs : ModelConfig
{
    [JsonConverter(typeof(OneOrMoreConverter))]
    public int[]? ImgSize { get; init; }
    public int? PatchSize { get; init; }
    public int? EmbedDim { get; init; }
    public int? Depth { get; init; }
    public int? NumHeads { get; init; }
    public double? MlpRatio { get; init; }

    /// <summary>Whether one matrix projects to queries, keys and values.</summary>
    public bool? QkvFused { get; init; }

    /// <summary>Whether the MLP is gated: silu(a) · b.</summary>
    public bool? SwigluMlp { get; init; }

    /// <summary>Whether a gated MLP normalizes before its second layer.</summary>
    public bool? ScaleMlp { get; init; }

    /// <summary>Whether attention normalizes before its last projection.</summary>
    public bool? ScaleAttnInner { get; init; }
    public bool? UseRotPosEmb { get; init; }

    /// <summary>The grid that rotary positions were trained for.</summary>
    [JsonConverter(typeof(OneOrMoreConverter))]
    public int[]? RefFeatShape { get; init; }

    /// <summary>Where given, each residual branch is scaled by a learned vector that starts at this.</summary>
    public double? InitValues { get; init; }

    /// <summary>Whether branches are normalized after they were computed instead of before.</summary>
    public bool? UsePostNorm { get; init; }

    /// <summary>"token" (the class token) or "avg" (the mean of the patches).</summary>
    public string? GlobalPool { get; init; }

    /// <summary>The outputs of the last layer; 0: there is none.</summary>
    public long? NumClasses { get; init; }
}

/// <summary>timm's config.json of an Eva.</summary>
public sealed partial record EvaConfig : ModelConfig
{
    /// <summary>timm's name for the model, such as "eva02_base_patch16_clip_224".</summary>
    public string Architecture { get; init; } = "eva02_base_patch14_224";

    /// <summary>The outputs of the last layer; 0: there is none.</summary>
    public long NumClasses { get; init; } = 1000;

    /// <summary>"token" or "avg"; null: as the name says.</summary>
    public string? GlobalPool { get; init; }

    /// <summary>Sizes other than the name's.</summary>
    public EvaArgs? ModelArgs { get; init; }

    /// <summary>Whether the last layer projects into a space shared with texts, as in EVA-CLIP, instead of naming classes.</summary>
    internal bool IsClip => Architecture.Contains("_clip_", StringComparison.Ordinal);

    /// <summary>All of the arguments: those given, else those of the name.</summary>
    /// <exception cref="PanoptesException">A name or a value that is not supported.</exception>
    internal EvaArgs Resolve()
    {
        var (n, a) = (Named(Architecture), ModelArgs ?? new());
        var all = n with
        {
            ImgSize = a.ImgSize ?? n.ImgSize,
            PatchSize = a.PatchSize ?? n.PatchSize,
            EmbedDim = a.EmbedDim ?? n.EmbedDim,
            Depth = a.Depth ?? n.Depth,
            NumHeads = a.NumHeads ?? n.NumHeads,
            MlpRatio = a.MlpRatio ?? n.MlpRatio,
            QkvFused = a.QkvFused ?? n.QkvFused,
            SwigluMlp = a.SwigluMlp ?? n.SwigluMlp,
            ScaleMlp = a.ScaleMlp ?? n.ScaleMlp,
            ScaleAttnInner = a.ScaleAttnInner ?? n.ScaleAttnInner,
            UseRotPosEmb = a.UseRotPosEmb ?? n.UseRotPosEmb,
            RefFeatShape = a.RefFeatShape ?? n.RefFeatShape,
            InitValues = a.InitValues,
            UsePostNorm = a.UsePostNorm ?? n.UsePostNorm,
            GlobalPool = a.GlobalPool ?? GlobalPool ?? n.GlobalPool,
            NumClasses = a.NumClasses ?? NumClasses,
        };
        if (a.Unknown?.Keys.FirstOrDefault(static k => k is not ("pretrained" or "in_chans" or "drop_path_rate" or "drop_rate")) is { } unknown)
            throw new PanoptesException($"model_args.{unknown} is not supported for timm's Eva.");
        if (all.GlobalPool is not ("token" or "avg")) throw new PanoptesException($"global_pool is \"{all.GlobalPool}\"; expected \"token\" or \"avg\".");
        if (all is { ScaleMlp: true, SwigluMlp: false }) throw new PanoptesException("scale_mlp is true without swiglu_mlp; expected both or neither.");
        return all;
    }

    static EvaArgs Named(string name)
    {
        var match = Name().Match(name);
        if (!match.Success) throw new PanoptesException($"The timm model \"{name}\" is not supported here; expected an EVA or EVA-02, such as eva02_base_patch16_clip_224.");
        var (size, clip, second) = (match.Groups["size"].Value, match.Groups["clip"].Success, match.Groups["second"].Success && match.Groups["size"].Value != "enormous");
        var large = second && size is "base" or "large";
        var (width, depth, heads) = size switch
        {
            "tiny" => (192, 12, 3),
            "small" => (384, 12, 6),
            "base" => (768, 12, 12),
            "large" => (1024, 24, 16),
            "giant" => (1408, 40, 16),
            _ => (1792, 64, 16),
        };
        return new()
        {
            ImgSize = [Number("side")],
            PatchSize = Number("patch"),
            EmbedDim = width,
            Depth = depth,
            NumHeads = heads,
            MlpRatio = second ? 4 * 2 / 3.0 : size == "giant" ? 6144 / 1408.0 : 15360 / 1792.0,
            QkvFused = !large,
            SwigluMlp = second,
            ScaleMlp = large,
            ScaleAttnInner = large && clip,
            UseRotPosEmb = second,
            RefFeatShape = second ? [16, 16] : null,
            UsePostNorm = size == "enormous",
            GlobalPool = clip ? "token" : "avg",
        };

        int Number(string group) => int.Parse(match.Groups[group].Value, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"^eva(?<second>02)?_(?<size>(?<=02_)(tiny|small|base|large|enormous)|(?<!02_)giant)_patch(?<patch>14|16)_(?<clip>clip_)?(?<side>\d{3})(\..*)?$")]
    private static partial Regex Name();
}

/// <summary>
/// Keys: qkv.weight, q_bias and v_bias (a key's bias would change nothing), or q_proj, k_proj.weight and v_proj; norm; proj.
/// </summary>
public sealed class EvaAttention(EvaArgs a, double depthScale) : Module
{
    readonly int heads = a.NumHeads!.Value;

    public Linear? Qkv { get; } = a.QkvFused!.Value ? new(a.EmbedDim!.Value, 3 * a.EmbedDim.Value, bias: false, Init.Normal(0.02)) : null;

    public Parameter? QBias { get; } = a.QkvFused!.Value ? new([a.EmbedDim!.Value], Init.Zeros) : null;

    public Parameter? VBias { get; } = a.QkvFused!.Value ? new([a.EmbedDim!.Value], Init.Zeros) : null;

    public Linear? QProj { get; } = a.QkvFused!.Value ? null : new(a.EmbedDim!.Value, a.EmbedDim.Value, initializer: Init.Normal(0.02));

    public Linear? KProj { get; } = a.QkvFused!.Value ? null : new(a.EmbedDim!.Value, a.EmbedDim.Value, bias: false, Init.Normal(0.02));

    public Linear? VProj { get; } = a.QkvFused!.Value ? null : new(a.EmbedDim!.Value, a.EmbedDim.Value, initializer: Init.Normal(0.02));

    public LayerNorm? Norm { get; } = a.ScaleAttnInner!.Value ? new(a.EmbedDim!.Value, 1e-6) : null;

    public Linear Proj { get; } = new(Attention.Divisible(a.EmbedDim!.Value, a.NumHeads!.Value), a.EmbedDim.Value, initializer: Init.Normal(0.02 * depthScale));

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="rotary">Turns queries and keys; null: they stay.</param>
    /// <param name="first">Only the first token, which is not turned, attends (to all).</param>
    /// <returns>[b, tokens or 1, width]</returns>
    public Tensor Forward(Tensor x, RotaryEmbedding? rotary, bool first = false)
    {
        using var scope = NewDisposeScope();
        Tensor q, k, v;
        if (Qkv is not null)
        {
            var all = Qkv.Forward(x).chunk(3, -1);
            (q, k, v) = ((first ? all[0].narrow(1, 0, 1) : all[0]) + QBias!.Value, all[1], all[2] + VBias!.Value);
        }
        else (q, k, v) = (QProj!.Forward(first ? x.narrow(1, 0, 1) : x), KProj!.Forward(x), VProj!.Forward(x));
        (q, k, v) = (Attention.SplitHeads(q, heads), Attention.SplitHeads(k, heads), Attention.SplitHeads(v, heads));
        if (rotary is not null) (q, k) = (first ? q : rotary.Apply(q), rotary.Apply(k));
        var seen = Attention.MergeHeads(Attention.Apply(q, k, v));
        return Proj.Forward(Norm?.Forward(seen) ?? seen).MoveToOuterDisposeScope();
    }
}

/// <summary>The second half of a block.</summary>
public abstract class EvaMlp : Module
{
    /// <param name="x">[..., width]</param>
    /// <returns>[..., width]</returns>
    public abstract Tensor Forward(Tensor x);

    internal static EvaMlp Create(EvaArgs a, double depthScale)
    {
        var hidden = (int)(a.EmbedDim!.Value * a.MlpRatio!.Value);
        if (!a.SwigluMlp!.Value) return new EvaPlainMlp(a.EmbedDim.Value, hidden, depthScale);
        return a.ScaleMlp!.Value ? new EvaNormedSwiGlu(a.EmbedDim.Value, hidden, depthScale) : new EvaSwiGlu(a.EmbedDim.Value, hidden, depthScale);
    }
}

/// <summary>Keys: fc1, fc2, with GELU between.</summary>
public sealed class EvaPlainMlp(int width, int hidden, double depthScale) : EvaMlp
{
    public Linear Fc1 { get; } = new(width, hidden, initializer: Init.Normal(0.02));

    public Linear Fc2 { get; } = new(hidden, width, initializer: Init.Normal(0.02 * depthScale));

    public override Tensor Forward(Tensor x) => Mlp.Apply(Fc1, Fc2, Activation.Gelu, x);
}

/// <summary>Keys: fc1 (the gate first, then what it lets through), fc2.</summary>
public sealed class EvaSwiGlu(int width, int hidden, double depthScale) : EvaMlp
{
    public Linear Fc1 { get; } = new(width, 2 * hidden, initializer: Init.Normal(0.02));

    public Linear Fc2 { get; } = new(hidden, width, initializer: Init.Normal(0.02 * depthScale));

    public override Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var both = Fc1.Forward(x).chunk(2, -1);
        return Fc2.Forward(nn.functional.silu(both[0]) * both[1]).MoveToOuterDisposeScope();
    }
}

/// <summary>Keys: fc1_g (the gate), fc1_x, norm, fc2.</summary>
public sealed class EvaNormedSwiGlu(int width, int hidden, double depthScale) : EvaMlp
{
    [Key("fc1_g")]
    public Linear Fc1Gate { get; } = new(width, hidden, initializer: Init.Normal(0.02));

    [Key("fc1_x")]
    public Linear Fc1X { get; } = new(width, hidden, initializer: Init.Normal(0.02));

    public LayerNorm Norm { get; } = new(hidden, 1e-6);

    public Linear Fc2 { get; } = new(hidden, width, initializer: Init.Normal(0.02 * depthScale));

    public override Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Fc2.Forward(Norm.Forward(Fc1Gate.Forward(x, Activation.Silu) * Fc1X.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>Keys: norm1, attn, gamma_1, norm2, mlp, gamma_2.</summary>
public sealed class EvaBlock : Module
{
    readonly bool normsAfter;

    /// <param name="a">All of them.</param>
    /// <param name="index">From 0: the deeper, the smaller its branches start.</param>
    public EvaBlock(EvaArgs a, int index)
    {
        var (width, depthScale) = (a.EmbedDim!.Value, 1 / Math.Sqrt(2.0 * (index + 1)));
        normsAfter = a.UsePostNorm!.Value;
        Norm1 = new(width, 1e-6);
        Attn = new(a, depthScale);
        Norm2 = new(width, 1e-6);
        Mlp = EvaMlp.Create(a, depthScale);
        if (a.InitValues is not { } initial || normsAfter) return;
        (Gamma1, Gamma2) = (new([width], Init.Constant(initial)), new([width], Init.Constant(initial)));
    }

    public LayerNorm Norm1 { get; }

    public EvaAttention Attn { get; }

    [Key("gamma_1")]
    public Parameter? Gamma1 { get; }

    public LayerNorm Norm2 { get; }

    public EvaMlp Mlp { get; }

    [Key("gamma_2")]
    public Parameter? Gamma2 { get; }

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="rotary">Turns queries and keys; null: they stay.</param>
    /// <param name="first">Only the first token's output is computed: [b, 1, width].</param>
    public Tensor Forward(Tensor x, RotaryEmbedding? rotary, bool first = false)
    {
        using var scope = NewDisposeScope();
        var rest = first ? x.narrow(1, 0, 1) : x;
        if (normsAfter)
        {
            rest = rest + Norm1.Forward(Attn.Forward(x, rotary, first));
            return (rest + Norm2.Forward(Mlp.Forward(rest))).MoveToOuterDisposeScope();
        }
        rest = rest + Scaled(Attn.Forward(Norm1.Forward(x), rotary, first), Gamma1);
        return (rest + Scaled(Mlp.Forward(Norm2.Forward(rest)), Gamma2)).MoveToOuterDisposeScope();
    }

    static Tensor Scaled(Tensor branch, Parameter? gamma) => gamma is null ? branch : branch * gamma.Value;
}

/// <summary>timm's Eva. Keys: cls_token [1, 1, width], pos_embed [1, 1 + patches, width], patch_embed, blocks.N, norm or fc_norm, head.</summary>
public sealed class TimmEva : TimmTrunk, IMaskedImageTower
{
    readonly EvaArgs a;
    readonly RotaryEmbedding? rotary;

    /// <exception cref="PanoptesException">A name or a value that is not supported.</exception>
    public TimmEva(EvaConfig config)
    {
        Config = config;
        a = config.Resolve();
        var (width, patch) = (a.EmbedDim!.Value, a.PatchSize!.Value);
        var (rows, columns) = (a.ImgSize![0] / patch, a.ImgSize[^1] / patch);
        ClsToken = new([1, 1, width], Init.Normal(0.02));
        PosEmbed = new([1, 1 + rows * columns, width], Init.Normal(0.02));
        PatchEmbed = new(width, patch);
        Blocks = new(a.Depth!.Value, i => new EvaBlock(a, i));
        Norm = a.GlobalPool == "token" ? new(width, 1e-6) : null;
        FcNorm = a.GlobalPool == "avg" ? new(width, 1e-6) : null;
        Head = a.NumClasses > 0 ? new(width, a.NumClasses.Value, initializer: Init.Normal(0.02 * 0.001)) : null;
        if (a.UseRotPosEmb!.Value)
            rotary = new(rows, columns, Attention.Divisible(width, a.NumHeads!.Value) / a.NumHeads.Value, a.RefFeatShape is { } trained ? (trained[0], trained[^1]) : null);
    }

    public EvaConfig Config { get; }

    public Parameter ClsToken { get; }

    public Parameter PosEmbed { get; }

    public TimmPatchEmbed PatchEmbed { get; }

    public ModuleList<EvaBlock> Blocks { get; }

    public LayerNorm? Norm { get; }

    public LayerNorm? FcNorm { get; }

    /// <summary>The classifier, or in EVA-CLIP the projection.</summary>
    public Linear? Head { get; }

    /// <summary>What stands for masked patches, [width]; whoever trains the model so owns it, since timm's files have none. Null: zeros.</summary>
    [NotAChild]
    public Parameter? MaskToken { get; set; }

    public override int EmbeddingSize => Config.IsClip && Head is not null ? (int)a.NumClasses!.Value : a.EmbedDim!.Value;

    public override int ImageSize => a.ImgSize![0];

    public override int PooledSize => a.EmbedDim!.Value;

    public override int TokenSize => a.EmbedDim!.Value;

    public override int PrefixTokens => 1;

    public override Tensor EmbedTokens(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return Project(FcNorm?.Forward(tokens) ?? tokens.alias()).MoveToOuterDisposeScope();
    }

    public override LayerGroups LayerGroups => LayerGroups.Of([PatchEmbed, ClsToken, PosEmbed], Blocks, [Norm], [FcNorm, Head]);

    public override Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Project(Pool(Features(pixels, first: Norm is not null))).MoveToOuterDisposeScope();
    }

    public override TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Forward(pixels, null, hiddenStates);

    public TowerOutput Forward(Tensor pixels, Tensor? masked, bool hiddenStates = false)
    {
        if (hiddenStates) throw new PanoptesException("The states between the layers are kept for Hugging Face's models only.");
        using var scope = NewDisposeScope();
        var tokens = Features(pixels, first: false, masked);
        var pooled = Pool(tokens);
        var embedding = Project(pooled);
        TowerOutput.Keep(tokens, pooled, [embedding]);
        return new(tokens, pooled, embedding);
    }

    /// <summary>What the last layer says of the images: [b, classes].</summary>
    /// <exception cref="PanoptesException">The model has no last layer.</exception>
    public Tensor Classify(Tensor pixels)
    {
        if (Head is null) throw new PanoptesException($"{Config.Architecture} has no classifier (num_classes is 0).");
        using var scope = NewDisposeScope();
        return Head.Forward(Pool(Features(pixels, first: Norm is not null))).MoveToOuterDisposeScope();
    }

    /// <summary>[b, 1 + patches, width], or of the class token alone [b, 1, width].</summary>
    Tensor Features(Tensor pixels, bool first, Tensor? masked = null)
    {
        if (pixels.shape[2] != a.ImgSize![0] || pixels.shape[3] != a.ImgSize[^1])
            throw new PanoptesException($"Images of {pixels.shape[3]}x{pixels.shape[2]} pixels were given to a model for {a.ImgSize[^1]}x{a.ImgSize[0]}.");
        using var scope = NewDisposeScope();
        var patches = PatchEmbed.Proj.Forward(pixels);
        if (masked is not null) patches = where(masked.unsqueeze(-1), (MaskToken?.Value ?? zeros(a.EmbedDim!.Value)).to(patches.dtype), patches);
        var x = cat([ClsToken.Value.expand(patches.shape[0], -1, -1), patches], 1).add(PosEmbed.Value);
        for (var i = 0; i < Blocks.Count; i++)
        {
            var (block, before, one) = (Blocks[i], x, first && i == Blocks.Count - 1);
            x = ActivationsCheckpointed ? ActivationCheckpoint.Run(block, (x, _) => block.Forward(x, rotary, one), x, null) : block.Forward(x, rotary, one);
            before.Dispose();
        }
        return (Norm?.Forward(x) ?? x).MoveToOuterDisposeScope();
    }

    Tensor Pool(Tensor tokens) => FcNorm is null ? tokens.select(1, 0) : FcNorm.Forward(tokens.narrow(1, 1, tokens.shape[1] - 1).mean([1]));

    Tensor Project(Tensor pooled) => Config.IsClip && Head is not null ? Head.Forward(pooled) : pooled;

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        rotary?.Dispose();
    }
}
