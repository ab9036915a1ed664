using Panoptes.Nn;

namespace Panoptes.Representation;

// FocalNet (Yang et al. 2022, arXiv:2203.11926), the backbone of X-Decoder and SEEM, with the keys and the config.json of Hugging Face's
// FocalNetModel and FocalNetForImageClassification.

/// <summary>The config ("focalnet").</summary>
public sealed record FocalNetConfig : ImageModelConfig
{
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 4;

    /// <summary>The width of the first stage; every next one has twice that of the one before.</summary>
    public int EmbedDim { get; init; } = 96;

    /// <summary>Whether patches overlap: 7x7 every 4 pixels at first, 3x3 every 2 places between the stages.</summary>
    public bool UseConvEmbed { get; init; }
    public int[] Depths { get; init; } = [2, 2, 6, 2];

    /// <summary>How many contexts, each wider than the one before, beside the global one.</summary>
    public int[] FocalLevels { get; init; } = [2, 2, 2, 2];

    /// <summary>The side of the first context's window; each next one is 2 larger.</summary>
    public int[] FocalWindows { get; init; } = [3, 3, 3, 3];
    public double MlpRatio { get; init; } = 4;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPathRate { get; init; } = 0.1;
    public bool UseLayerscale { get; init; }
    public double LayerscaleValue { get; init; } = 1e-4;

    /// <summary>Whether the branches are normalized after instead of before.</summary>
    public bool UsePostLayernorm { get; init; }
    public bool UsePostLayernormInModulation { get; init; }

    /// <summary>Whether the contexts are averaged instead of added up.</summary>
    public bool NormalizeModulator { get; init; }
    public double LayerNormEps { get; init; } = 1e-5;
    public string ModelType { get; init; } = "focalnet";

    internal int Width(int stage) => EmbedDim << stage;
}

/// <summary>Patches of pixels or of places, normalized. Keys: projection, norm.</summary>
public sealed class FocalNetPatchEmbeddings : Module
{
    readonly int patch;

    internal FocalNetPatchEmbeddings(FocalNetConfig c, int channels, int features, int patch, bool stem)
    {
        this.patch = patch;
        Convolution = !c.UseConvEmbed ? null : stem ? new(channels, features, 7, stride: 4, padding: 2, initializer: c.Normal) : new(channels, features, 3, stride: 2, padding: 1, initializer: c.Normal);
        Projection = c.UseConvEmbed ? null : new(channels, features, patch, bias: true, c.Normal);
        Norm = stem ? null : new(features, c.LayerNormEps);
    }

    [Key("projection")]
    public Conv2d? Convolution { get; }

    public PatchEmbedding? Projection { get; }

    public LayerNorm? Norm { get; }

    /// <param name="x">[b, channels, height, width]; what does not fill a patch is filled with zeros.</param>
    /// <returns>[b, rows, columns, features]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        if (Convolution is not null) x = x.to(Convolution.Weight.Value.dtype);
        var (rows, columns) = ((x.shape[2] + patch - 1) / patch, (x.shape[3] + patch - 1) / patch);
        var (down, right) = (rows * patch - x.shape[2], columns * patch - x.shape[3]);
        if (down + right > 0) x = nn.functional.pad(x, (0, right, 0, down));
        x = Convolution?.Forward(x).permute(0, 2, 3, 1) ?? Projection!.Forward(x).unflatten(1, [rows, columns]);
        return (Norm?.Forward(x) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>One context: a depthwise convolution. Keys: 0.</summary>
public sealed class FocalNetContext(FocalNetConfig c, int width, int kernel) : Module
{
    [Key("0")]
    public Conv2d Convolution { get; } = new(width, width, kernel, padding: kernel / 2, bias: false, initializer: c.Normal, groups: width);
}

/// <summary>
/// Focal modulation: every place is multiplied by a mixture of contexts of growing width, which it weighs itself.
/// Keys: projection_in, projection_context, projection_out, focal_layers.N.0, layernorm.
/// </summary>
public sealed class FocalNetModulation : Module
{
    readonly FocalNetConfig c;
    readonly int width, levels;

    internal FocalNetModulation(FocalNetConfig c, int stage)
    {
        (this.c, width, levels) = (c, c.Width(stage), c.FocalLevels[stage]);
        ProjectionIn = new(width, 2 * width + levels + 1, initializer: c.Normal);
        ProjectionContext = new(width, width, 1, initializer: c.Normal);
        ProjectionOut = new(width, width, initializer: c.Normal);
        FocalLayers = new(levels, i => new FocalNetContext(c, width, c.FocalWindows[stage] + 2 * i));
        Layernorm = c.UsePostLayernormInModulation ? new(width, c.LayerNormEps) : null;
    }

    public Linear ProjectionIn { get; }

    public Conv2d ProjectionContext { get; }

    public Linear ProjectionOut { get; }

    public ModuleList<FocalNetContext> FocalLayers { get; }

    public LayerNorm? Layernorm { get; }

    /// <param name="x">[b, rows, columns, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var parts = ProjectionIn.Forward(x).permute(0, 3, 1, 2).split([width, width, levels + 1], 1);
        var (query, context, gates) = (parts[0], parts[1], parts[2]);                             // [b, width or levels + 1, rows, columns]
        Tensor? all = null;
        for (var i = 0; i < levels; i++)
        {
            context = nn.functional.gelu(FocalLayers[i].Convolution.Forward(context));
            var gated = context * gates.narrow(1, i, 1);
            all = all is null ? gated : all + gated;
        }
        all = all! + nn.functional.gelu(context.mean([2, 3], keepdim: true)) * gates.narrow(1, levels, 1);
        if (c.NormalizeModulator) all = all / (levels + 1);
        var modulated = (query * ProjectionContext.Forward(all)).permute(0, 2, 3, 1);
        if (Layernorm is not null) modulated = Layernorm.Forward(modulated);
        return ProjectionOut.Forward(modulated).MoveToOuterDisposeScope();
    }
}

/// <summary>A block: modulation, then an MLP. Keys: norm1, modulation, norm2, mlp, gamma_1, gamma_2.</summary>
public sealed class FocalNetLayer : Module
{
    readonly bool post;

    internal FocalNetLayer(FocalNetConfig c, int stage)
    {
        var width = c.Width(stage);
        post = c.UsePostLayernorm;
        Norm1 = new(width, c.LayerNormEps);
        Modulation = new(c, stage);
        Norm2 = new(width, c.LayerNormEps);
        Mlp = new(width, (int)(width * c.MlpRatio), c.HiddenAct, c.Normal, c.Normal);
        Gamma1 = c.UseLayerscale ? new([width], Init.Constant(c.LayerscaleValue)) : null;
        Gamma2 = c.UseLayerscale ? new([width], Init.Constant(c.LayerscaleValue)) : null;
    }

    public LayerNorm Norm1 { get; }

    public FocalNetModulation Modulation { get; }

    public LayerNorm Norm2 { get; }

    public Mlp Mlp { get; }

    [Key("gamma_1")]
    public Parameter? Gamma1 { get; }

    [Key("gamma_2")]
    public Parameter? Gamma2 { get; }

    /// <param name="x">[b, rows, columns, width]</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth"/>, or null.</param>
    public Tensor Forward(Tensor x, Tensor? kept = null)
    {
        using var scope = NewDisposeScope();
        var y = post ? Norm1.Forward(Modulation.Forward(x)) : Modulation.Forward(Norm1.Forward(x));
        x = x + StochasticDepth.Apply(Scale(y, Gamma1), kept, 0);
        y = post ? Norm2.Forward(Mlp.Forward(x)) : Mlp.Forward(Norm2.Forward(x));
        return (x + StochasticDepth.Apply(Scale(y, Gamma2), kept, 1)).MoveToOuterDisposeScope();

        static Tensor Scale(Tensor y, Parameter? gamma) => gamma is null ? y : y.mul(gamma.Value);
    }
}

/// <summary>Blocks, then halving (but in the last). Keys: layers.N, downsample.</summary>
public sealed class FocalNetStage : Module
{
    internal FocalNetStage(FocalNetConfig c, int stage)
    {
        Layers = new(c.Depths[stage], _ => new FocalNetLayer(c, stage));
        Downsample = stage < c.Depths.Length - 1 ? new(c, c.Width(stage), c.Width(stage + 1), 2, stem: false) : null;
    }

    public ModuleList<FocalNetLayer> Layers { get; }

    public FocalNetPatchEmbeddings? Downsample { get; }

    /// <param name="x">[b, rows, columns, width]</param>
    /// <param name="kept">[blocks, 2, b] of <see cref="StochasticDepth"/>, or null.</param>
    public Tensor Forward(Tensor x, Tensor? kept)
    {
        using var scope = NewDisposeScope();
        x = BlockStack.Forward(Layers, x, static (layer, x, kept, _) => layer.Forward(x, kept), kept, checkpointed: ActivationsCheckpointed);
        return (Downsample?.Forward(x.permute(0, 3, 1, 2)) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>Patches, normalized. Keys: patch_embeddings, norm.</summary>
public sealed class FocalNetEmbeddings(FocalNetConfig c) : Module
{
    public FocalNetPatchEmbeddings PatchEmbeddings { get; } = new(c, c.NumChannels, c.EmbedDim, c.PatchSize, stem: true);

    public LayerNorm Norm { get; } = new(c.EmbedDim, c.LayerNormEps);
}

/// <summary>The stages. Keys: stages.N.</summary>
public sealed class FocalNetEncoder(FocalNetConfig c) : Module
{
    public ModuleList<FocalNetStage> Stages { get; } = new(c.Depths.Length, i => new FocalNetStage(c, i));
}

/// <summary>
/// FocalNet. Keys: embeddings, encoder.stages.N, layernorm. Images of any size; the pooled feature is the mean of the last map after the norm.
/// </summary>
public sealed class FocalNetModel : Module, IImageTower, IStochasticDepth
{
    public FocalNetModel(FocalNetConfig config)
    {
        if (config.Depths.Length is 0 or > 8 || config.FocalLevels.Length < config.Depths.Length || config.FocalWindows.Length < config.Depths.Length)
            throw new PanoptesException($"depths has {config.Depths.Length} stages, focal_levels {config.FocalLevels.Length} and focal_windows {config.FocalWindows.Length}; expected as many, 1 to 8.");
        Config = config;
        Embeddings = new(config);
        Encoder = new(config);
        Layernorm = new(EmbeddingSize, config.LayerNormEps);
        DropPath = StochasticDepth.Check(config.DropPathRate);
    }

    public FocalNetConfig Config { get; }

    public FocalNetEmbeddings Embeddings { get; }

    public FocalNetEncoder Encoder { get; }

    public LayerNorm Layernorm { get; }

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Config.Width(Config.Depths.Length - 1);

    public double DropPath { get; set; }

    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([Embeddings], Encoder.Stages, [Layernorm], []);

    public Tensor EmbedTokens(Tensor tokens) => tokens.alias();

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Layernorm.Forward(Stages(pixels, null)).mean([1, 2]).MoveToOuterDisposeScope();
    }

    /// <summary>The hidden states are the patches' and every stage's maps after its halving, [b, channels, height, width].</summary>
    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var tokens = Layernorm.Forward(Stages(pixels, states)).flatten(1, 2);
        var pooled = tokens.mean([1]);
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    Tensor Stages(Tensor pixels, List<Tensor>? states)
    {
        var x = Embeddings.Norm.Forward(Embeddings.PatchEmbeddings.Forward(pixels));
        var kept = Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Config.Depths.Sum()), 2, x, Random) : null;
        return BlockStack.Stages(Encoder.Stages, Config.Depths, x, static (stage, x, kept) => stage.Forward(x, kept), kept, states);
    }
}

/// <summary>FocalNet with a classifier on its pooled feature. Keys: focalnet, classifier.</summary>
public sealed class FocalNetForImageClassification(FocalNetConfig config) : ImageClassifier(config.Width(config.Depths.Length - 1), config)
{
    public FocalNetModel Focalnet { get; } = new(config);

    public override IImageTower Tower => Focalnet;
}
