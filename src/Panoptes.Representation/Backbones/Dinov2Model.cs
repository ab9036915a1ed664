using Panoptes.Nn;

namespace Panoptes.Representation;

// DINOv2 (Oquab et al. 2023, arXiv:2304.07193) and its registers (Darcet et al. 2023, arXiv:2309.16588) with the keys and the config.json of
// Hugging Face's Dinov2Model, Dinov2WithRegistersModel and their classifiers.

/// <summary>The config ("dinov2").</summary>
public record Dinov2Config : ImageModelConfig
{
    public int HiddenSize { get; init; } = 768;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int MlpRatio { get; init; } = 4;
    public double LayerNormEps { get; init; } = 1e-6;
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 14;
    public bool QkvBias { get; init; } = true;

    /// <summary>What the factors of the residual branches start at.</summary>
    public double LayerscaleValue { get; init; } = 1;

    /// <summary>The probability that a residual branch is left out in training, the same in every block.</summary>
    public double DropPathRate { get; init; }
    public bool UseSwigluFfn { get; init; }
    public bool UseMaskToken { get; init; } = true;
    public string ModelType { get; init; } = "dinov2";
}

/// <summary>The config of the variant with registers ("dinov2_with_registers").</summary>
public sealed record Dinov2WithRegistersConfig : Dinov2Config
{
    public Dinov2WithRegistersConfig() => (PatchSize, ModelType) = (16, "dinov2_with_registers");

    /// <summary>Learned tokens without a place, which leave the patches to show their own content.</summary>
    public int NumRegisterTokens { get; init; } = 4;
}

/// <summary>Patches, a class token before them, and positions. Keys: cls_token, mask_token, register_tokens, position_embeddings, patch_embeddings.projection.</summary>
public sealed class Dinov2Embeddings(Dinov2Config c) : Module
{
    readonly int side = c.ImageSize / c.PatchSize;

    public Parameter ClsToken { get; } = new([1, 1, c.HiddenSize], c.Normal);

    public Parameter? MaskToken { get; } = c.UseMaskToken || c is Dinov2WithRegistersConfig ? new([1, c.HiddenSize], Init.Zeros) : null;

    public Parameter? RegisterTokens { get; } = c is Dinov2WithRegistersConfig { NumRegisterTokens: > 0 and var count } ? new([1, count, c.HiddenSize], Init.Zeros) : null;

    public Parameter PositionEmbeddings { get; } = new([1, c.ImageSize / c.PatchSize * (c.ImageSize / c.PatchSize) + 1, c.HiddenSize], c.Normal);

    [Key("patch_embeddings.projection")]
    public PatchEmbedding PatchEmbeddings { get; } = new(c.NumChannels, c.HiddenSize, c.PatchSize, bias: true, c.Normal);

    /// <param name="pixels">[b, channels, height, width] of any size</param>
    /// <param name="masked">[b, patches] bool: replaced by the mask token; or null.</param>
    /// <returns>[b, 1 + patches, width], without registers</returns>
    public Tensor Forward(Tensor pixels, Tensor? masked = null)
    {
        using var scope = NewDisposeScope();
        var patches = PatchEmbeddings.Forward(pixels);
        if (masked is not null)
            patches = where(masked.unsqueeze(-1), (MaskToken ?? throw new PanoptesException("This model has no mask token (use_mask_token is false).")).Value, patches);
        var positions = PositionEmbeddings.Value;
        var (rows, columns) = ((int)pixels.shape[2] / c.PatchSize, (int)pixels.shape[3] / c.PatchSize);
        if (rows != side || columns != side)
        {
            var grid = positions[0].narrow(0, 1, side * side);
            var resized = c is Dinov2WithRegistersConfig
                ? Positions.ResizeBicubicAntialiased(grid, side, side, rows, columns)
                : Positions.ResizeBicubic(grid, side, side, rows, columns);
            positions = cat([positions.narrow(1, 0, 1), resized.unsqueeze(0)], 1);
        }
        return cat([ClsToken.Value.expand(patches.shape[0], 1, -1), patches], 1).add(positions).MoveToOuterDisposeScope();
    }

    /// <summary>Puts the registers, if there are any, between the class token and the patches.</summary>
    /// <param name="tokens">[b, 1 + patches, width]</param>
    public Tensor WithRegisters(Tensor tokens)
    {
        if (RegisterTokens is null) return tokens;
        using var scope = NewDisposeScope();
        return cat([tokens.narrow(1, 0, 1), RegisterTokens.Value.expand(tokens.shape[0], -1, -1), tokens.narrow(1, 1, tokens.shape[1] - 1)], 1).MoveToOuterDisposeScope();
    }
}

/// <summary>silu(x W₁) · x W₂, then out; W₁ and W₂ in one matrix. Keys: weights_in, weights_out.</summary>
public sealed class Dinov2SwiGlu(Dinov2Config c) : Module
{
    public Linear WeightsIn { get; } = new(c.HiddenSize, 2 * Hidden(c), initializer: c.Normal);

    public Linear WeightsOut { get; } = new(Hidden(c), c.HiddenSize, initializer: c.Normal);

    /// <param name="x">[..., width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var halves = WeightsIn.Forward(x).chunk(2, -1);
        return WeightsOut.Forward(nn.functional.silu(halves[0]).mul(halves[1])).MoveToOuterDisposeScope();
    }

    // Two thirds of the plain MLP's width, so that three matrices weigh what two did, in whole eights.
    static int Hidden(Dinov2Config c) => (c.HiddenSize * c.MlpRatio * 2 / 3 + 7) / 8 * 8;
}

/// <summary>
/// A block whose branches are scaled channel by channel. Keys: norm1, attention, layer_scale1.lambda1, norm2, mlp, layer_scale2.lambda1.
/// </summary>
public sealed class Dinov2Layer(Dinov2Config c) : Module
{
    public LayerNorm Norm1 { get; } = new(c.HiddenSize, c.LayerNormEps);

    public VitAttention Attention { get; } = new(c.HiddenSize, c.NumAttentionHeads, c.QkvBias, c.Normal);

    [Key("layer_scale1.lambda1")]
    public Parameter LayerScale1 { get; } = new([c.HiddenSize], Init.Constant(c.LayerscaleValue));

    public LayerNorm Norm2 { get; } = new(c.HiddenSize, c.LayerNormEps);

    [Key("mlp")]
    public Mlp? Mlp { get; } = c.UseSwigluFfn ? null : new(c.HiddenSize, c.HiddenSize * c.MlpRatio, c.HiddenAct, c.Normal, c.Normal);

    [Key("mlp")]
    public Dinov2SwiGlu? SwiGlu { get; } = c.UseSwigluFfn ? new(c) : null;

    [Key("layer_scale2.lambda1")]
    public Parameter LayerScale2 { get; } = new([c.HiddenSize], Init.Constant(c.LayerscaleValue));

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth"/>, or null.</param>
    /// <param name="first">Only the first token's output is computed: [b, 1, width].</param>
    public Tensor Forward(Tensor x, Tensor? kept = null, bool first = false)
    {
        using var scope = NewDisposeScope();
        var all = Norm1.Forward(x);
        var seen = Attention.Forward(all, first ? all.narrow(1, 0, 1) : null);
        x = (first ? x.narrow(1, 0, 1) : x) + StochasticDepth.Apply(seen.mul(LayerScale1.Value), kept, 0);
        var normed = Norm2.Forward(x);
        var mlp = Mlp?.Forward(normed) ?? SwiGlu!.Forward(normed);
        return (x + StochasticDepth.Apply(mlp.mul(LayerScale2.Value), kept, 1)).MoveToOuterDisposeScope();
    }
}

/// <summary>The blocks. Keys: layer.N.</summary>
public sealed class Dinov2Encoder(Dinov2Config c) : Module
{
    public ModuleList<Dinov2Layer> Layer { get; } = new(c.NumHiddenLayers, _ => new Dinov2Layer(c));
}

/// <summary>
/// DINOv2. Keys: embeddings, encoder.layer.N, layernorm. Images of any size, whose positions are resized to them; the pooled feature is the class
/// token after the last norm.
/// </summary>
public class Dinov2Model(Dinov2Config config) : Module, IMaskedImageTower, IPatchDropout, IStochasticDepth
{
    public Dinov2Config Config { get; } = config;

    public Dinov2Embeddings Embeddings { get; } = new(config);

    public Dinov2Encoder Encoder { get; } = new(config);

    public LayerNorm Layernorm { get; } = new(config.HiddenSize, config.LayerNormEps);

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Config.HiddenSize;

    public int PrefixTokens => Embeddings.RegisterTokens is { } registers ? 1 + (int)registers.Shape[1] : 1;

    /// <summary>The fraction of patches that <see cref="Encode"/> leaves out in training (FLIP), from 0 to below 1.</summary>
    public double PatchDropout { get; set; }

    public double DropPath { get; set; } = StochasticDepth.Check(config.DropPathRate);

    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([Embeddings], Encoder.Layer, [Layernorm], []);

    public Tensor EmbedTokens(Tensor tokens) => tokens.alias();

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var x = Embeddings.Forward(pixels);
        if (Training && PatchDropout > 0) x = Representation.PatchDropout.Draw(x, PatchDropout, Random);
        x = Embeddings.WithRegisters(x);
        var (kept, last) = (Kept(x), Encoder.Layer.Count - 1);
        x = last < 0 ? x : Encoder.Layer[last].Forward(Blocks(x, last, kept), kept?[last], first: true);
        return Layernorm.Forward(x.select(1, 0)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Forward(pixels, null, hiddenStates);

    public TowerOutput Forward(Tensor pixels, Tensor? masked, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var x = Embeddings.WithRegisters(Embeddings.Forward(pixels, masked));
        var tokens = Layernorm.Forward(Blocks(x, Encoder.Layer.Count, Kept(x), states));
        var pooled = tokens.select(1, 0);
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    Tensor? Kept(Tensor x) => Training ? StochasticDepth.Draw(StochasticDepth.Even(DropPath, Encoder.Layer.Count), 2, x, Random) : null;

    Tensor Blocks(Tensor x, int count, Tensor? kept, ICollection<Tensor>? states = null) =>
        BlockStack.Forward([.. Encoder.Layer.Take(count)], x, static (layer, x, kept, _) => layer.Forward(x, kept), kept, checkpointed: ActivationsCheckpointed, hiddenStates: states);
}

/// <summary>DINOv2 with registers. Keys as <see cref="Dinov2Model"/>'s, and embeddings.register_tokens.</summary>
public sealed class Dinov2WithRegistersModel(Dinov2WithRegistersConfig config) : Dinov2Model(config);
