using Panoptes.Nn;

namespace Panoptes.Representation;

// ConvNeXt (Liu et al. 2022, arXiv:2201.03545) and ConvNeXt V2 (Woo et al. 2023, arXiv:2301.00808) with the keys and the config.json of Hugging
// Face's ConvNextModel, ConvNextV2Model and their classifiers. Between the layers the channels come last.

/// <summary>What both versions are built of.</summary>
public abstract record ConvNextSizes : ImageModelConfig
{
    public int PatchSize { get; init; } = 4;
    public int NumStages { get; init; } = 4;
    public int[] HiddenSizes { get; init; } = [96, 192, 384, 768];
    public int[] Depths { get; init; } = [3, 3, 9, 3];

    /// <summary>Of the norm after pooling; all others have 1e-6.</summary>
    public double LayerNormEps { get; init; } = 1e-12;

    /// <summary>The probability that the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPathRate { get; init; }
    public int ImageSize { get; init; } = 224;
}

/// <summary>The config of the first version ("convnext").</summary>
public sealed record ConvNextConfig : ConvNextSizes
{
    /// <summary>What the factors of the residual branches start at; 0: there are none.</summary>
    public double LayerScaleInitValue { get; init; } = 1e-6;
    public string ModelType { get; init; } = "convnext";
}

/// <summary>The config of the second version ("convnextv2").</summary>
public sealed record ConvNextV2Config : ConvNextSizes
{
    public string ModelType { get; init; } = "convnextv2";
}

/// <summary>
/// Global response normalization: channels compete by their norms over the whole map. Keys: weight, bias [1, 1, 1, channels].
/// </summary>
public sealed class GlobalResponseNorm(int channels) : Module
{
    public Parameter Weight { get; } = new([1, 1, 1, channels], Init.Zeros);

    public Parameter Bias { get; } = new([1, 1, 1, channels], Init.Zeros);

    /// <param name="x">[b, height, width, channels]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var norms = linalg.vector_norm(x, 2, [1, 2], keepdim: true);
        var response = norms / (norms.mean([-1], keepdim: true) + 1e-6);
        return (Weight.Value * (x * response)).add_(Bias.Value).add_(x).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// A depthwise 7x7 convolution, then an MLP at every place. Keys: dwconv, layernorm, pwconv1, grn (second version), pwconv2,
/// layer_scale_parameter (first version).
/// </summary>
public sealed class ConvNextLayer(ConvNextSizes c, int width) : Module
{
    public Conv2d Dwconv { get; } = new(width, width, 7, padding: 3, initializer: c.Normal, groups: width);

    public LayerNorm Layernorm { get; } = new(width, 1e-6);

    public Linear Pwconv1 { get; } = new(width, 4 * width, initializer: c.Normal);

    public GlobalResponseNorm? Grn { get; } = c is ConvNextV2Config ? new(4 * width) : null;

    public Linear Pwconv2 { get; } = new(4 * width, width, initializer: c.Normal);

    public Parameter? LayerScaleParameter { get; } = c is ConvNextConfig { LayerScaleInitValue: > 0 and var start } ? new([width], Init.Constant(start)) : null;

    /// <param name="x">[b, height, width, channels]</param>
    /// <param name="kept">[1, b] of <see cref="StochasticDepth"/>, or null.</param>
    public Tensor Forward(Tensor x, Tensor? kept = null)
    {
        using var scope = NewDisposeScope();
        var y = Layernorm.Forward(Dwconv.Forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1));
        y = Pwconv1.Forward(y, c.HiddenAct);
        if (Grn is not null) y = Grn.Forward(y);
        y = Pwconv2.Forward(y);
        if (LayerScaleParameter is not null) y = y.mul(LayerScaleParameter.Value);
        return (x + StochasticDepth.Apply(y, kept, 0)).MoveToOuterDisposeScope();
    }
}

/// <summary>Halving (but in the first), then blocks. Keys: downsampling_layer.0, downsampling_layer.1, layers.N.</summary>
public sealed class ConvNextStage(ConvNextSizes c, int stage) : Module
{
    [Key("downsampling_layer.0")]
    public LayerNorm? DownsamplingNorm { get; } = stage > 0 ? new(c.HiddenSizes[stage - 1], 1e-6) : null;

    [Key("downsampling_layer.1")]
    public PatchEmbedding? Downsampling { get; } = stage > 0 ? new(c.HiddenSizes[stage - 1], c.HiddenSizes[stage], 2, bias: true, c.Normal) : null;

    public ModuleList<ConvNextLayer> Layers { get; } = new(c.Depths[stage], _ => new ConvNextLayer(c, c.HiddenSizes[stage]));

    /// <param name="x">[b, height, width, channels]</param>
    /// <param name="kept">[blocks, 1, b] of <see cref="StochasticDepth"/>, or null.</param>
    public Tensor Forward(Tensor x, Tensor? kept)
    {
        using var scope = NewDisposeScope();
        if (Downsampling is not null)
            x = Downsampling.Forward(DownsamplingNorm!.Forward(x).permute(0, 3, 1, 2)).unflatten(1, [x.shape[1] / 2, x.shape[2] / 2]);
        return BlockStack.Forward(Layers, x, static (layer, x, kept, _) => layer.Forward(x, kept), kept, checkpointed: ActivationsCheckpointed).MoveToOuterDisposeScope();
    }
}

/// <summary>Patches, normalized. Keys: patch_embeddings, layernorm.</summary>
public sealed class ConvNextEmbeddings(ConvNextSizes c) : Module
{
    public PatchEmbedding PatchEmbeddings { get; } = new(c.NumChannels, c.HiddenSizes[0], c.PatchSize, bias: true, c.Normal);

    public LayerNorm Layernorm { get; } = new(c.HiddenSizes[0], 1e-6);

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <returns>[b, rows, columns, width]</returns>
    public Tensor Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Layernorm.Forward(PatchEmbeddings.Forward(pixels)).unflatten(1, [pixels.shape[2] / c.PatchSize, pixels.shape[3] / c.PatchSize]).MoveToOuterDisposeScope();
    }
}

/// <summary>The stages. Keys: stages.N.</summary>
public sealed class ConvNextEncoder(ConvNextSizes c) : Module
{
    public ModuleList<ConvNextStage> Stages { get; } = new(c.HiddenSizes.Length, i => new ConvNextStage(c, i));
}

/// <summary>
/// ConvNeXt. Keys: embeddings, encoder.stages.N, layernorm. Images of any size; the pooled feature is the mean of the last map, normalized.
/// Its tokens are the last map's places.
/// </summary>
public class ConvNextModel : Module, IImageTower, IStochasticDepth
{
    public ConvNextModel(ConvNextSizes config)
    {
        if (config.HiddenSizes.Length == 0 || config.HiddenSizes.Length != config.NumStages || config.Depths.Length != config.NumStages)
            throw new PanoptesException($"num_stages is {config.NumStages}, but hidden_sizes has {config.HiddenSizes.Length} stages and depths {config.Depths.Length}; expected as many.");
        Config = config;
        Embeddings = new(config);
        Encoder = new(config);
        Layernorm = new(EmbeddingSize, config.LayerNormEps);
        DropPath = StochasticDepth.Check(config.DropPathRate);
    }

    public ConvNextSizes Config { get; }

    public ConvNextEmbeddings Embeddings { get; }

    public ConvNextEncoder Encoder { get; }

    public LayerNorm Layernorm { get; }

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Config.HiddenSizes[^1];

    public double DropPath { get; set; }

    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([Embeddings], Encoder.Stages, [Layernorm], []);

    public Tensor EmbedTokens(Tensor tokens) => Layernorm.Forward(tokens);

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Layernorm.Forward(Stages(pixels, null).mean([1, 2])).MoveToOuterDisposeScope();
    }

    /// <summary>The hidden states are the patches' and every stage's maps, [b, channels, height, width].</summary>
    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var map = Stages(pixels, states);
        var (tokens, pooled) = (map.flatten(1, 2), Layernorm.Forward(map.mean([1, 2])));
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    Tensor Stages(Tensor pixels, List<Tensor>? states)
    {
        var x = Embeddings.Forward(pixels);
        var kept = Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Config.Depths.Sum()), 1, x, Random) : null;
        return BlockStack.Stages(Encoder.Stages, Config.Depths, x, static (stage, x, kept) => stage.Forward(x, kept), kept, states);
    }
}

/// <summary>ConvNeXt V2. Keys as <see cref="ConvNextModel"/>'s, with grn in every block instead of layer_scale_parameter.</summary>
public sealed class ConvNextV2Model(ConvNextV2Config config) : ConvNextModel(config);

/// <summary>ConvNeXt with a classifier on its pooled feature. Keys: convnext, classifier.</summary>
public sealed class ConvNextForImageClassification(ConvNextConfig config) : ImageClassifier(config.HiddenSizes[^1], config)
{
    public ConvNextModel Convnext { get; } = new(config);

    public override IImageTower Tower => Convnext;
}

/// <summary>ConvNeXt V2 with a classifier on its pooled feature. Keys: convnextv2, classifier.</summary>
public sealed class ConvNextV2ForImageClassification(ConvNextV2Config config) : ImageClassifier(config.HiddenSizes[^1], config)
{
    public ConvNextV2Model Convnextv2 { get; } = new(config);

    public override IImageTower Tower => Convnextv2;
}
