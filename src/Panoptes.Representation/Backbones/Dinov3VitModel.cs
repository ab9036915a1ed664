using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// DINOv3's vision transformer (Siméoni et al. 2025, arXiv:2508.10104) with the keys and the config.json of Hugging Face's DINOv3ViTModel.

/// <summary>The config ("dinov3_vit").</summary>
public sealed record Dinov3VitConfig : ImageModelConfig
{
    public int HiddenSize { get; init; } = 384;
    public int IntermediateSize { get; init; } = 1536;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 6;
    public double LayerNormEps { get; init; } = 1e-5;
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 16;
    public double RopeTheta { get; init; } = 100;
    public bool QueryBias { get; init; } = true;
    public bool KeyBias { get; init; }
    public bool ValueBias { get; init; } = true;
    public bool ProjBias { get; init; } = true;
    public bool MlpBias { get; init; } = true;

    /// <summary>What the factors of the residual branches start at.</summary>
    public double LayerscaleValue { get; init; } = 1;

    /// <summary>The probability that a residual branch is left out in training, the same in every block.</summary>
    public double DropPathRate { get; init; }
    public bool UseGatedMlp { get; init; }
    public int NumRegisterTokens { get; init; }

    /// <summary>In training, both coordinates are moved by a number drawn from ±this; null: not moved.</summary>
    public double? PosEmbedShift { get; init; }

    /// <summary>In training, each coordinate is multiplied by a number drawn between 1 / this and this (its logarithm evenly); null: not.</summary>
    public double? PosEmbedJitter { get; init; }

    /// <summary>As the jitter, but one number for both coordinates.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]                               // null is not the default
    public double? PosEmbedRescale { get; init; } = 2;
    public string ModelType { get; init; } = "dinov3_vit";
}

/// <summary>Patches after a class token and registers. Keys: cls_token, mask_token, register_tokens, patch_embeddings.</summary>
public sealed class Dinov3Embeddings(Dinov3VitConfig c) : Module
{
    public Parameter ClsToken { get; } = new([1, 1, c.HiddenSize], c.Normal);

    public Parameter MaskToken { get; } = new([1, 1, c.HiddenSize], Init.Zeros);

    public Parameter RegisterTokens { get; } = new([1, c.NumRegisterTokens, c.HiddenSize], c.Normal);

    public PatchEmbedding PatchEmbeddings { get; } = new(c.NumChannels, c.HiddenSize, c.PatchSize, bias: true, c.Normal);

    /// <param name="pixels">[b, channels, height, width] of any size</param>
    /// <param name="masked">[b, patches] bool: replaced by the mask token; or null.</param>
    /// <returns>[b, 1 + registers + patches, width]</returns>
    public Tensor Forward(Tensor pixels, Tensor? masked = null)
    {
        using var scope = NewDisposeScope();
        var patches = PatchEmbeddings.Forward(pixels);
        if (masked is not null) patches = where(masked.unsqueeze(-1), MaskToken.Value, patches);
        return cat([ClsToken.Value.expand(patches.shape[0], -1, -1), RegisterTokens.Value.expand(patches.shape[0], -1, -1), patches], 1).MoveToOuterDisposeScope();
    }
}

/// <summary>Multi-head self-attention whose patches carry their place as a rotation of query and key. Keys: q_proj, k_proj, v_proj, o_proj.</summary>
public sealed class Dinov3Attention(Dinov3VitConfig c) : Module
{
    public Linear QProj { get; } = new(Attention.Divisible(c.HiddenSize, c.NumAttentionHeads), c.HiddenSize, c.QueryBias, c.Normal);

    public Linear KProj { get; } = new(c.HiddenSize, c.HiddenSize, c.KeyBias, c.Normal);

    public Linear VProj { get; } = new(c.HiddenSize, c.HiddenSize, c.ValueBias, c.Normal);

    public Linear OProj { get; } = new(c.HiddenSize, c.HiddenSize, c.ProjBias, c.Normal);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="rotation">[2, tokens, head size]: cosines and signed sines.</param>
    /// <param name="first">Only the first token attends: [b, 1, width].</param>
    public Tensor Forward(Tensor x, Tensor rotation, bool first)
    {
        using var scope = NewDisposeScope();
        // The first is the class token, which has no place and is not rotated.
        var q = first ? Split(QProj.Forward(x.narrow(1, 0, 1))) : Rotate(Split(QProj.Forward(x)), rotation);
        var seen = Attention.Apply(q, Rotate(Split(KProj.Forward(x)), rotation), Split(VProj.Forward(x)));
        return OProj.Forward(Attention.MergeHeads(seen)).MoveToOuterDisposeScope();
    }

    Tensor Split(Tensor x) => Attention.SplitHeads(x, c.NumAttentionHeads);

    /// <summary>Turns the pairs (i, i + half) of each head: x · cos + (-x₂, x₁) · sin, the sign being in the sines.</summary>
    static Tensor Rotate(Tensor x, Tensor rotation) => (x * rotation[0]) + (x.roll(x.shape[^1] / 2, -1) * rotation[1]);
}

/// <summary>act(gate) · up, or act(up) alone, then down. Keys: gate_proj, up_proj, down_proj.</summary>
public sealed class Dinov3Mlp(Dinov3VitConfig c) : Module
{
    public Linear? GateProj { get; } = c.UseGatedMlp ? new(c.HiddenSize, c.IntermediateSize, c.MlpBias, c.Normal) : null;

    public Linear UpProj { get; } = new(c.HiddenSize, c.IntermediateSize, c.MlpBias, c.Normal);

    public Linear DownProj { get; } = new(c.IntermediateSize, c.HiddenSize, c.MlpBias, c.Normal);

    /// <param name="x">[..., width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var wide = GateProj is null ? UpProj.Forward(x, c.HiddenAct) : GateProj.Forward(x, c.HiddenAct).mul(UpProj.Forward(x));
        return DownProj.Forward(wide).MoveToOuterDisposeScope();
    }
}

/// <summary>A block whose branches are scaled channel by channel. Keys: norm1, attention, layer_scale1.lambda1, norm2, mlp, layer_scale2.lambda1.</summary>
public sealed class Dinov3Layer(Dinov3VitConfig c) : Module
{
    public LayerNorm Norm1 { get; } = new(c.HiddenSize, c.LayerNormEps);

    public Dinov3Attention Attention { get; } = new(c);

    [Key("layer_scale1.lambda1")]
    public Parameter LayerScale1 { get; } = new([c.HiddenSize], Init.Constant(c.LayerscaleValue));

    public LayerNorm Norm2 { get; } = new(c.HiddenSize, c.LayerNormEps);

    public Dinov3Mlp Mlp { get; } = new(c);

    [Key("layer_scale2.lambda1")]
    public Parameter LayerScale2 { get; } = new([c.HiddenSize], Init.Constant(c.LayerscaleValue));

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="rotation">[2, tokens, head size]</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth"/>, or null.</param>
    /// <param name="first">Only the first token's output is computed: [b, 1, width].</param>
    public Tensor Forward(Tensor x, Tensor rotation, Tensor? kept = null, bool first = false)
    {
        using var scope = NewDisposeScope();
        var seen = Attention.Forward(Norm1.Forward(x), rotation, first);
        x = (first ? x.narrow(1, 0, 1) : x) + StochasticDepth.Apply(seen.mul(LayerScale1.Value), kept, 0);
        return (x + StochasticDepth.Apply(Mlp.Forward(Norm2.Forward(x)).mul(LayerScale2.Value), kept, 1)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// DINOv3's vision transformer. Keys: embeddings, layer.N, norm. Images of any size: a patch's place is its center's, from -1 to 1. The pooled
/// feature is the class token after the last norm.
/// </summary>
public sealed class Dinov3VitModel : Module, IMaskedImageTower, IStochasticDepth
{
    readonly SizeCache<(int Rows, int Columns)> rotations;

    public Dinov3VitModel(Dinov3VitConfig config)
    {
        Config = config;
        if (config.HiddenSize / config.NumAttentionHeads % 4 != 0)
            throw new PanoptesException($"Heads of {config.HiddenSize / config.NumAttentionHeads} channels cannot be rotated along two axes; expected a multiple of 4.");
        DropPath = StochasticDepth.Check(config.DropPathRate);
        Embeddings = new(config);
        Layer = new(config.NumHiddenLayers, _ => new Dinov3Layer(config));
        Norm = new(config.HiddenSize, config.LayerNormEps);
        rotations = new(size => Rotation(Centers(size.Rows, size.Columns)));
    }

    public Dinov3VitConfig Config { get; }

    public Dinov3Embeddings Embeddings { get; }

    public ModuleList<Dinov3Layer> Layer { get; }

    public LayerNorm Norm { get; }

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Config.HiddenSize;

    public int PrefixTokens => 1 + Config.NumRegisterTokens;

    public double DropPath { get; set; }

    /// <summary>Draws which branches are left out, and how the patches' places are moved; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([Embeddings], Layer, [Norm], []);

    public Tensor EmbedTokens(Tensor tokens) => tokens.alias();

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var x = Embeddings.Forward(pixels);
        var (rotation, kept, last) = (RotationOf(pixels), Kept(x), Layer.Count - 1);
        x = last < 0 ? x : Layer[last].Forward(Blocks(x, last, rotation, kept), rotation, kept?[last], first: true);
        return Norm.Forward(x.select(1, 0)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Forward(pixels, null, hiddenStates);

    public TowerOutput Forward(Tensor pixels, Tensor? masked, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var x = Embeddings.Forward(pixels, masked);
        var tokens = Norm.Forward(Blocks(x, Layer.Count, RotationOf(pixels), Kept(x), states));
        var pooled = tokens.select(1, 0);
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    Tensor? Kept(Tensor x) => Training ? StochasticDepth.Draw(StochasticDepth.Even(DropPath, Layer.Count), 2, x, Random) : null;

    Tensor Blocks(Tensor x, int count, Tensor rotation, Tensor? kept, ICollection<Tensor>? states = null) =>
        BlockStack.Forward([.. Layer.Take(count)], x, static (layer, x, kept, rotation) => layer.Forward(x, rotation!, kept), kept, rotation, ActivationsCheckpointed, hiddenStates: states);

    /// <summary>[2, tokens, head size] for images of this size; in training the places are moved first.</summary>
    Tensor RotationOf(Tensor pixels)
    {
        var (rows, columns) = ((int)pixels.shape[2] / Config.PatchSize, (int)pixels.shape[3] / Config.PatchSize);
        var moves = Training && (Config.PosEmbedShift ?? Config.PosEmbedJitter ?? Config.PosEmbedRescale) is not null;
        var rotation = moves ? Rotation(Moved(Centers(rows, columns))) : rotations.Get((rows, columns));
        return rotation.to(Embeddings.ClsToken.Value.dtype, Embeddings.ClsToken.Value.device);
    }

    /// <summary>The patches' centers: [patches, 2], rows first, from -1 to 1.</summary>
    static Tensor Centers(int rows, int columns)
    {
        using var scope = NewDisposeScope();
        var (y, x) = ((arange(rows, ScalarType.Float32) + 0.5) / rows, (arange(columns, ScalarType.Float32) + 0.5) / columns);
        return (2 * stack([y.view(-1, 1).expand(rows, columns), x.view(1, -1).expand(rows, columns)], -1).flatten(0, 1) - 1).MoveToOuterDisposeScope();
    }

    Tensor Moved(Tensor centers)
    {
        using var scope = NewDisposeScope();
        if (Config.PosEmbedShift is { } shift) centers = centers + Drawn(2, shift);
        if (Config.PosEmbedJitter is { } jitter) centers = centers * Drawn(2, Math.Log(jitter)).exp();
        if (Config.PosEmbedRescale is { } rescale) centers = centers * Drawn(1, Math.Log(rescale)).exp();
        return centers.MoveToOuterDisposeScope();

        Tensor Drawn(int count, double bound) => (rand([1, count], generator: Random) * 2 - 1) * bound;
    }

    /// <summary>Cosines, and sines whose first half is negative; class token and registers are turned by nothing.</summary>
    Tensor Rotation(Tensor centers)
    {
        using var scope = NewDisposeScope();
        var (size, prefix) = (Config.HiddenSize / Config.NumAttentionHeads, 1 + Config.NumRegisterTokens);
        var frequencies = 1 / pow(Config.RopeTheta, arange(size / 4, ScalarType.Float32) * (4.0 / size));
        var angles = (2 * Math.PI * centers.unsqueeze(-1) * frequencies).flatten(1);              // [patches, size / 2]
        var sine = angles.sin();
        return stack([cat([ones(prefix, size), angles.cos().repeat(1, 2)]), cat([zeros(prefix, size), cat([-sine, sine], 1)])]).MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing) rotations.Dispose();
    }
}
