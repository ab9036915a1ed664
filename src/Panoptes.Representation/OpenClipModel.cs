using Panoptes.Nn;

namespace Panoptes.Representation;

// CLIP as OpenAI wrote it and open_clip carries it on, under their own keys, so that their files are read and written as they are:
// projections are [in, out] matrices, attention's input projections are one matrix, blocks are "transformer.resblocks.N". It knows
// what Hugging Face's CLIP does not: layer scale, average pooling, bidirectional texts, a bias of the logits, ResNets, timm's towers.

/// <summary>A residual branch times a learned vector. Key: gamma.</summary>
public sealed class LayerScale(int width, double initial) : Module
{
    public Parameter Gamma { get; } = new([width], Init.Constant(initial));

    public Tensor Forward(Tensor x) => x * Gamma.Value;
}

/// <summary>Keys: c_fc, c_proj.</summary>
public sealed class OpenClipMlp(int width, int hidden, Activation activation, Initializer? first, Initializer? second) : Module
{
    public Linear CFc { get; } = new(width, hidden, initializer: first);

    public Linear CProj { get; } = new(hidden, width, initializer: second);

    public Tensor Forward(Tensor x) => Nn.Mlp.Apply(CFc, CProj, activation, x);
}

/// <summary>Keys: ln_1, attn, ls_1, ln_2, mlp, ls_2.</summary>
public sealed class OpenClipBlock(int width, int heads, int hidden, Activation activation, double eps, double? scale, EncoderInit init) : Module
{
    [Key("ln_1")]
    public LayerNorm Ln1 { get; } = new(width, eps);

    public FusedAttention Attn { get; } = new(width, heads, init.AttentionInput, init.AttentionOutput);

    [Key("ls_1")]
    public LayerScale? Ls1 { get; } = scale is { } s ? new(width, s) : null;

    [Key("ln_2")]
    public LayerNorm Ln2 { get; } = new(width, eps);

    public OpenClipMlp Mlp { get; } = new(width, hidden, activation, init.Fc1, init.Fc2);

    [Key("ls_2")]
    public LayerScale? Ls2 { get; } = scale is { } s ? new(width, s) : null;

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x, Tensor? mask = null, bool causal = false)
    {
        using var scope = NewDisposeScope();
        return Rest(x, Attn.Forward(Ln1.Forward(x), mask, causal)).MoveToOuterDisposeScope();
    }

    /// <summary>The next tokens of a causal row, whose earlier ones are in <paramref name="cache"/>: [b, 1, width] to the same.</summary>
    internal Tensor Next(Tensor x, KeyValueCache cache)
    {
        using var scope = NewDisposeScope();
        return Rest(x, Attn.Next(Ln1.Forward(x), cache)).MoveToOuterDisposeScope();
    }

    /// <summary>The output at token <paramref name="index"/> [b] of each row only: [b, width]; see <see cref="EncoderLayer.ForwardAt"/>.</summary>
    public Tensor ForwardAt(Tensor x, Tensor index, Tensor? mask = null, bool causal = false)
    {
        using var scope = NewDisposeScope();
        if (causal) mask = Encoder.SeenFrom(index, x.shape[1], mask);
        var all = Ln1.Forward(x);
        return Rest(Encoder.TokenAt(x, index), Attn.Forward(all, mask, queries: Encoder.TokenAt(all, index))).squeeze(1).MoveToOuterDisposeScope();
    }

    /// <summary>All that follows the attention.</summary>
    internal Tensor Rest(Tensor x, Tensor attended)
    {
        x = EncoderLayer.Residual(x, Ls1?.Forward(attended) ?? attended);
        var changed = Mlp.Forward(Ln2.Forward(x));
        return EncoderLayer.Residual(x, Ls2?.Forward(changed) ?? changed);
    }
}

/// <summary>Keys: resblocks.N.</summary>
public sealed class OpenClipTransformer(int layers, int width, int heads, double mlpRatio, Activation activation, double eps, double? scale, EncoderInit? init = null) : Module
{
    public ModuleList<OpenClipBlock> Resblocks { get; } =
        new(layers, _ => new OpenClipBlock(width, heads, (int)(width * mlpRatio), activation, eps, scale, init ?? new()));

    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor x, Tensor? mask = null, bool causal = false, int? count = null)
    {
        using var scope = NewDisposeScope();
        var both = Encoder.Combine(mask, causal, x);
        for (var i = 0; i < (count ?? Resblocks.Count); i++)
        {
            var before = x;
            x = Next(Resblocks[i], x, both, causal && both is null);
            if (i > 0) before.Dispose();
        }
        return (count ?? Resblocks.Count) > 0 ? x.MoveToOuterDisposeScope() : x;
    }

    Tensor Next(OpenClipBlock block, Tensor x, Tensor? mask, bool causal) => ActivationsCheckpointed
        ? ActivationCheckpoint.Run(block, (x, mask) => block.Forward(x, mask, causal), x, mask)
        : block.Forward(x, mask, causal);

    /// <summary>The output at token <paramref name="index"/> [b] of each row only: [b, width].</summary>
    public Tensor ForwardAt(Tensor x, Tensor index, Tensor? mask = null, bool causal = false)
    {
        using var scope = NewDisposeScope();
        if (Resblocks.Count == 0) return Encoder.TokenAt(x, index).squeeze(1).MoveToOuterDisposeScope();
        x = Forward(x, mask, causal, Resblocks.Count - 1);
        return Resblocks[^1].ForwardAt(x, index, mask, causal).MoveToOuterDisposeScope();
    }
}

/// <summary>An image tower of open_clip's; its keys are below "visual.".</summary>
public abstract class OpenClipVisual : Module, IImageTower
{
    public abstract int EmbeddingSize { get; }

    public abstract int ImageSize { get; }

    public abstract LayerGroups LayerGroups { get; }

    public abstract Tensor Encode(Tensor pixels);

    public abstract TowerOutput Forward(Tensor pixels, bool hiddenStates = false);

    public virtual int PooledSize => EmbeddingSize;

    public virtual int TokenSize => EmbeddingSize;

    public virtual int PrefixTokens => 0;

    public virtual Tensor EmbedTokens(Tensor tokens) =>
        throw new PanoptesException($"{GetType().Name} pools its tokens in a way that single ones cannot follow; expected a vision transformer with a class token.");

    internal static OpenClipVisual Create(OpenClipConfig c)
    {
        if (c.VisionCfg.TimmModelName is not null) return new OpenClipTimm(c);
        return c.VisionCfg.Layers.Length > 1 ? new OpenClipResNet(c) : new OpenClipVision(c);
    }

    /// <summary>The activation of a tower: quick GELU where the model says so, else GELU or its approximation.</summary>
    internal static Activation Act(OpenClipConfig c, OpenClipActivation? options) =>
        c.QuickGelu ? Activation.QuickGelu : options?.Approximate == "tanh" ? Activation.GeluTanh : Activation.Gelu;
}

/// <summary>The vision transformer. Keys: class_embedding, positional_embedding, proj [width, embedding], conv1.weight, ln_pre, transformer, attn_pool, ln_post.</summary>
public sealed class OpenClipVision : OpenClipVisual, IPatchDropout
{
    readonly OpenClipVisionConfig v;
    readonly int rows, columns, patch;

    public OpenClipVision(OpenClipConfig c)
    {
        v = c.VisionCfg;
        patch = v.PatchSize ?? 16;
        (rows, columns) = (v.ImageSize[0] / patch, v.ImageSize[^1] / patch);
        (EmbeddingSize, PatchDropout) = (c.EmbedDim, v.PatchDropout);
        var (std, eps) = (1 / Math.Sqrt(v.Width), v.NormKwargs?.Eps ?? 1e-5);
        ClassEmbedding = new([v.Width], Init.Normal(std));
        PositionalEmbedding = new([rows * columns + 1, v.Width], Init.Normal(std));
        AttnPool = v.AttentionalPool ? new(c.EmbedDim, v.Width, v.AttnPoolerHeads, v.AttnPoolerQueries) : null;
        Proj = new([TokenSize, c.EmbedDim], Init.Normal(std));
        Conv1 = new(3, v.Width, patch);
        LnPre = v.NoLnPre ? null : new(v.Width, eps);
        Transformer = new(v.Layers[0], v.Width, v.Width / v.HeadWidth, v.MlpRatio, Act(c, v.ActKwargs), eps, v.LsInitValue);
        LnPost = new(TokenSize, eps);
    }

    public Parameter ClassEmbedding { get; }

    public Parameter PositionalEmbedding { get; }

    public Parameter Proj { get; }

    public PatchEmbedding Conv1 { get; }

    public LayerNorm? LnPre { get; }

    public OpenClipTransformer Transformer { get; }

    public AttentionalPooler? AttnPool { get; }

    public LayerNorm LnPost { get; }

    public override int EmbeddingSize { get; }

    public override int ImageSize => v.ImageSize[0];

    /// <summary>The fraction of patches left out in training; starts as the config's patch_dropout.</summary>
    public double PatchDropout { get; set; }

    /// <summary>Draws the patches that are left out; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    public override LayerGroups LayerGroups =>
        LayerGroups.Of([Conv1, ClassEmbedding, PositionalEmbedding, LnPre], Transformer.Resblocks, [LnPost], [AttnPool, Proj]);

    public override int PooledSize => TokenSize;

    public override int TokenSize => v.AttentionalPool ? EmbeddingSize : v.Width;

    public override int PrefixTokens => 1;

    public override Tensor EmbedTokens(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return (NormsAfterPooling ? LnPost.Forward(tokens) : tokens).matmul(Proj.Value).MoveToOuterDisposeScope();
    }

    public override Tensor Encode(Tensor pixels) => Encode(pixels, null);

    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="kept">[b, kept] int64: these patches only (<see cref="Representation.PatchDropout.Kept"/>); null: all, or in training what <see cref="PatchDropout"/> leaves.</param>
    /// <returns>[b, embedding]</returns>
    public Tensor Encode(Tensor pixels, Tensor? kept)
    {
        using var scope = NewDisposeScope();
        if (v.PoolType == "avg") return Forward(pixels, kept).Embedding.MoveToOuterDisposeScope();
        if (AttnPool is not null)
            return LnPost.Forward(AttnPool.Forward(Transformer.Forward(Embed(pixels, kept)), 1)).squeeze(1).matmul(Proj.Value).MoveToOuterDisposeScope();
        var first = zeros(pixels.shape[0], dtype: ScalarType.Int64, device: pixels.device);
        return LnPost.Forward(Transformer.ForwardAt(Embed(pixels, kept), first)).matmul(Proj.Value).MoveToOuterDisposeScope();
    }

    public override TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        if (hiddenStates) throw new PanoptesException("The states between the layers are kept for Hugging Face's CLIP only; convert the model.");
        return Forward(pixels, null);
    }

    bool NormsAfterPooling => v.FinalLnAfterPool && AttnPool is null;

    TowerOutput Forward(Tensor pixels, Tensor? kept)
    {
        using var scope = NewDisposeScope();
        var tokens = Transformer.Forward(Embed(pixels, kept));
        if (AttnPool is not null) tokens = AttnPool.Forward(tokens);
        if (!NormsAfterPooling) tokens = LnPost.Forward(tokens);
        var pooled = v.PoolType == "avg" ? tokens.narrow(1, 1, tokens.shape[1] - 1).mean([1]) : tokens.select(1, 0);
        if (NormsAfterPooling) pooled = LnPost.Forward(pooled);
        return new(tokens.MoveToOuterDisposeScope(), pooled.MoveToOuterDisposeScope(), pooled.matmul(Proj.Value).MoveToOuterDisposeScope());
    }

    /// <summary>What enters the transformer.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="kept">As for <see cref="Encode(Tensor, Tensor?)"/>.</param>
    /// <param name="interpolate">Whether images of another size than the config's get resized positions (bicubically, antialiased, as open_clip resizes them); otherwise they are refused.</param>
    /// <returns>[b, 1 + patches, width]</returns>
    internal Tensor Embed(Tensor pixels, Tensor? kept, bool interpolate = false)
    {
        if (!interpolate && (pixels.shape[2] != v.ImageSize[0] || pixels.shape[3] != v.ImageSize[^1]))
            throw new PanoptesException($"Images of {pixels.shape[3]}x{pixels.shape[2]} pixels were given to a model for {v.ImageSize[^1]}x{v.ImageSize[0]}.");
        using var scope = NewDisposeScope();
        var patches = Conv1.Forward(pixels);
        var positions = PositionalEmbedding.Value;
        var (height, width) = ((int)pixels.shape[2] / patch, (int)pixels.shape[3] / patch);
        if (height != rows || width != columns)
            positions = cat([positions.narrow(0, 0, 1), Positions.ResizeBicubicAntialiased(positions.narrow(0, 1, rows * columns), rows, columns, height, width)]);
        var x = cat([ClassEmbedding.Value.expand(patches.shape[0], 1, -1), patches], 1).add(positions);
        if (kept is not null) x = Representation.PatchDropout.Apply(x, kept);
        else if (Training && PatchDropout > 0) x = Representation.PatchDropout.Draw(x, PatchDropout, Random);
        return (LnPre?.Forward(x) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The text transformer. Keys: positional_embedding, text_projection [width, embedding] (a linear layer where it has a bias),
/// token_embedding, transformer, ln_final.
/// </summary>
public sealed class OpenClipText : Module, ITextTower
{
    readonly OpenClipTextConfig t;

    public OpenClipText(OpenClipConfig c)
    {
        t = c.TextCfg;
        var (std, eps) = (1 / Math.Sqrt(t.Width), t.NormKwargs?.Eps ?? 1e-5);
        var residual = Init.Normal(std / Math.Sqrt(2 * t.Layers));
        EmbeddingSize = t.ProjType == "none" ? t.Width : c.EmbedDim;
        PositionalEmbedding = new([t.ContextLength, t.Width], Init.Normal(0.01));
        if (t.ProjType == "linear" && t.ProjBias) LinearProjection = new(t.Width, c.EmbedDim, initializer: Init.Normal(std));
        else if (t.ProjType == "linear") TextProjection = new([t.Width, c.EmbedDim], Init.Normal(std));
        TokenEmbedding = new(t.VocabSize, t.Width, Init.Normal(0.02));
        Transformer = new(t.Layers, t.Width, t.Heads, t.MlpRatio, OpenClipVisual.Act(c, t.ActKwargs), eps, t.LsInitValue,
            new(Init.Normal(std), residual, Init.Normal(1 / Math.Sqrt(2 * t.Width)), residual));
        LnFinal = new(t.Width, eps);
    }

    public Parameter PositionalEmbedding { get; }

    public Parameter? TextProjection { get; }

    [Key("text_projection")]
    public Linear? LinearProjection { get; }

    public Embedding TokenEmbedding { get; }

    public OpenClipTransformer Transformer { get; }

    public LayerNorm LnFinal { get; }

    public int EmbeddingSize { get; }

    public int ContextLength => t.ContextLength;

    public int VocabularySize => t.VocabSize;

    public int TokenSize => t.Width;

    public LayerGroups LayerGroups =>
        LayerGroups.Of([TokenEmbedding, PositionalEmbedding], Transformer.Resblocks, [LnFinal], [TextProjection, LinearProjection]);

    public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        var (ids, at) = (inputIds, PooledAt(inputIds));
        if (!t.NoCausalMask)
        {
            // What follows the pooled tokens cannot change them.
            var length = at.max().item<long>() + 1;
            if (length < ids.shape[1]) (ids, attentionMask) = (ids.narrow(1, 0, length), attentionMask?.narrow(1, 0, length));
        }
        return Project(LnFinal.Forward(Transformer.ForwardAt(Embed(ids), at, KeyMask.Of(attentionMask), !t.NoCausalMask))).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false)
    {
        if (hiddenStates) throw new PanoptesException("The states between the layers are kept for Hugging Face's CLIP only; convert the model.");
        using var scope = NewDisposeScope();
        var tokens = LnFinal.Forward(Transformer.Forward(Embed(inputIds), KeyMask.Of(attentionMask), !t.NoCausalMask));
        var pooled = Encoder.TokenAt(tokens, PooledAt(inputIds)).squeeze(1);
        return new(tokens.MoveToOuterDisposeScope(), pooled.MoveToOuterDisposeScope(), Project(pooled).MoveToOuterDisposeScope());
    }

    Tensor Embed(Tensor ids)
    {
        if (ids.shape[1] > t.ContextLength)
            throw new PanoptesException($"A text of {ids.shape[1]} tokens was given to a model whose texts have at most {t.ContextLength}.");
        using var scope = NewDisposeScope();
        return TokenEmbedding.Forward(ids).add(PositionalEmbedding.Value.narrow(0, 0, ids.shape[1])).MoveToOuterDisposeScope();
    }

    /// <summary>The pooled token of each text: [b] int64.</summary>
    Tensor PooledAt(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return (t.PoolType switch
        {
            "argmax" => ids.argmax(-1),
            "eos" => ids.eq(t.EosId).to(ScalarType.Int32).argmax(-1),
            "first" => zeros(ids.shape[0], dtype: ScalarType.Int64, device: ids.device),
            _ => full(ids.shape[0], ids.shape[1] - 1, dtype: ScalarType.Int64, device: ids.device),
        }).MoveToOuterDisposeScope();
    }

    public Tensor EmbedTokens(Tensor tokens) => LinearProjection is null && TextProjection is null ? tokens.alias() : Project(tokens);

    Tensor Project(Tensor pooled) =>
        LinearProjection is not null ? LinearProjection.Forward(pooled) : TextProjection is not null ? pooled.matmul(TextProjection.Value) : pooled;
}

/// <summary>
/// open_clip's CLIP and CustomTextCLIP, and OpenAI's own CLIP. Keys: visual, logit_scale, logit_bias, and the text tower's, which stand
/// beside the model's own or, with "custom_text", below "text.".
/// </summary>
public sealed class OpenClipModel(OpenClipConfig config) : DualEncoder
{
    public OpenClipConfig Config { get; } = config;

    public OpenClipVisual Visual { get; } = OpenClipVisual.Create(config);

    /// <summary>The text tower where its keys stand beside the model's own.</summary>
    [Key("")]
    public OpenClipText? PlainText { get; } = config.CustomText ? null : new(config);

    /// <summary>The text tower where its keys begin with "text.".</summary>
    [Key("text")]
    public OpenClipText? CustomText { get; } = config.CustomText ? new(config) : null;

    public override Parameter LogitScale { get; } = new(config.NonscalarLogitScale ? [1] : [], Init.Constant(config.InitLogitScale ?? Math.Log(1 / 0.07)));

    public override Parameter? LogitBias { get; } =
        config.InitLogitBias is { } bias ? new(config.NonscalarLogitScale ? [1] : [], Init.Constant(bias)) : null;

    public override IImageTower Images => Visual;

    public override ITextTower Texts => (ITextTower?)PlainText ?? CustomText!;
}
