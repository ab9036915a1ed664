using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// Mask2Former (Cheng et al. 2022, arXiv:2112.01527) with the keys and the config.json of Hugging Face's Mask2FormerForUniversalSegmentation.

/// <summary>What the configs of Mask2Former and OneFormer share. The peer's dropout is not applied.</summary>
public abstract record MaskModelConfig : ModelConfig
{
    /// <summary>A Swin; null: the default.</summary>
    public SwinConfig? BackboneConfig { get; init; }
    public int HiddenDim { get; init; } = 256;
    public int EncoderFeedforwardDim { get; init; } = 1024;
    public int EncoderLayers { get; init; } = 6;

    /// <summary>How many predictions there are, the first of which is made before any layer.</summary>
    public int DecoderLayers { get; init; } = 10;
    public int NumAttentionHeads { get; init; } = 8;
    public int DimFeedforward { get; init; } = 2048;
    public bool PreNorm { get; init; }
    public int CommonStride { get; init; } = 4;
    public double NoObjectWeight { get; init; } = 0.1;
    public double ClassWeight { get; init; } = 2;
    public double MaskWeight { get; init; } = 5;
    public double DiceWeight { get; init; } = 5;

    /// <summary>How many points of a mask the loss looks at.</summary>
    public int TrainNumPoints { get; init; } = 12544;
    public double OversampleRatio { get; init; } = 3;
    public double ImportanceSampleRatio { get; init; } = 0.75;

    /// <summary>Whether every layer's predictions are trained, and not the last one's alone.</summary>
    public bool UseAuxiliaryLoss { get; init; } = true;
    public string[]? Architectures { get; init; }

    /// <summary>The classes' names by index.</summary>
    [JsonPropertyName("id2label")]
    public Dictionary<string, string>? Id2Label { get; init; }

    /// <summary>How many classes there are, "nothing" not counted, where they have no names.</summary>
    public int? NumLabels { get; init; }

    /// <summary>The classes' names in order.</summary>
    public IReadOnlyList<string> Labels() => [.. Enumerable.Range(0, Classes).Select(i => Id2Label?.GetValueOrDefault(FormattableString.Invariant($"{i}")) ?? FormattableString.Invariant($"LABEL_{i}"))];

    internal int Classes => Id2Label?.Count ?? NumLabels ?? 2;

    /// <summary>Where <see cref="BackboneConfig"/> is not given.</summary>
    private protected abstract SwinConfig DefaultBackbone { get; }

    internal SwinConfig Swin
    {
        get
        {
            var swin = BackboneConfig ?? DefaultBackbone;
            if (swin.ModelType != "swin") throw new PanoptesException($"backbone_config.model_type is \"{swin.ModelType}\"; expected \"swin\".");
            return swin.OutFeatures is null && swin.OutIndices is null ? swin with { OutFeatures = [.. Enumerable.Range(1, swin.Depths.Length).Select(static i => FormattableString.Invariant($"stage{i}"))] } : swin;
        }
    }

    internal MaskLossOptions Loss => new()
    {
        ClassWeight = ClassWeight,
        MaskWeight = MaskWeight,
        DiceWeight = DiceWeight,
        NoObjectWeight = NoObjectWeight,
        Points = TrainNumPoints,
        OversampleRatio = OversampleRatio,
        ImportanceSampleRatio = ImportanceSampleRatio,
    };
}

/// <summary>The config ("mask2former").</summary>
public sealed record Mask2FormerConfig : MaskModelConfig
{
    public int FeatureSize { get; init; } = 256;
    public int MaskFeatureSize { get; init; } = 256;
    public Activation ActivationFunction { get; init; } = Activation.Relu;

    /// <summary>Whether the levels are projected even where their width is the decoder's already.</summary>
    public bool EnforceInputProjection { get; init; }
    public int NumQueries { get; init; } = 100;
    public int[] FeatureStrides { get; init; } = [4, 8, 16, 32];
    public string ModelType { get; init; } = "mask2former";

    private protected override SwinConfig DefaultBackbone => new() { Depths = [2, 2, 18, 2], DropPathRate = 0.3 };
}

/// <summary>A layer: masked attention to a level, attention among the queries, feed-forward. Keys: self_attn, self_attn_layer_norm, cross_attn, cross_attn_layer_norm, fc1, fc2, final_layer_norm.</summary>
public sealed class Mask2FormerLayer(Mask2FormerConfig c) : Module
{
    public QueryAttention SelfAttn { get; } = new(c.HiddenDim, c.NumAttentionHeads);

    public LayerNorm SelfAttnLayerNorm { get; } = new(c.HiddenDim);

    public FusedAttention CrossAttn { get; } = new(c.HiddenDim, c.NumAttentionHeads, output: Init.XavierUniform);

    public LayerNorm CrossAttnLayerNorm { get; } = new(c.HiddenDim);

    public Linear Fc1 { get; } = new(c.HiddenDim, c.DimFeedforward, initializer: Init.XavierUniform);

    public Linear Fc2 { get; } = new(c.DimFeedforward, c.HiddenDim, initializer: Init.XavierUniform);

    public LayerNorm FinalLayerNorm { get; } = new(c.HiddenDim);

    /// <param name="x">[b, queries, width]</param>
    /// <param name="positions">[queries, width] of the queries</param>
    /// <param name="level">[b, places, width]</param>
    /// <param name="places">The same with their positions added.</param>
    /// <param name="seen">[b, 1, queries, places] bool</param>
    public Tensor Forward(Tensor x, Tensor positions, Tensor level, Tensor places, Tensor seen)
    {
        using var scope = NewDisposeScope();
        if (c.PreNorm)
        {
            x = x + CrossAttn.Across(CrossAttnLayerNorm.Forward(x) + positions, places, level, seen);
            x = x + SelfAttn.Forward(SelfAttnLayerNorm.Forward(x), positions);
            return (x + Mlp.Apply(Fc1, Fc2, c.ActivationFunction, FinalLayerNorm.Forward(x))).MoveToOuterDisposeScope();
        }
        x = CrossAttnLayerNorm.Forward(x + CrossAttn.Across(x + positions, places, level, seen));
        x = SelfAttnLayerNorm.Forward(x + SelfAttn.Forward(x, positions));
        return FinalLayerNorm.Forward(x + Mlp.Apply(Fc1, Fc2, c.ActivationFunction, x)).MoveToOuterDisposeScope();
    }
}

/// <summary>Makes masks of queries. Keys: mask_embedder.</summary>
public sealed class Mask2FormerMaskPredictor(Mask2FormerConfig c) : Module
{
    public MaskMlp MaskEmbedder { get; } = new(c.HiddenDim, c.HiddenDim, c.MaskFeatureSize, 3);
}

/// <summary>The layers, and what follows each of them. Keys: layers.N, layernorm, mask_predictor.</summary>
public sealed class Mask2FormerDecoder(Mask2FormerConfig c) : Module
{
    public ModuleList<Mask2FormerLayer> Layers { get; } = new(c.DecoderLayers - 1, _ => new Mask2FormerLayer(c));

    public LayerNorm Layernorm { get; } = new(c.HiddenDim);

    public Mask2FormerMaskPredictor MaskPredictor { get; } = new(c);
}

/// <summary>Queries that look at the levels in turn. Keys: queries_embedder, queries_features, input_projections.N, decoder, level_embed.</summary>
public sealed class Mask2FormerTransformer(Mask2FormerConfig c) : Module
{
    public Embedding QueriesEmbedder { get; } = new(c.NumQueries, c.HiddenDim);

    public Embedding QueriesFeatures { get; } = new(c.NumQueries, c.HiddenDim);

    public ModuleList<Conv2d> InputProjections { get; } =
        new(c.FeatureSize != c.HiddenDim || c.EnforceInputProjection ? PixelDecoder.Levels : 0, _ => new Conv2d(c.FeatureSize, c.HiddenDim, 1, initializer: Init.XavierUniform));

    public Mask2FormerDecoder Decoder { get; } = new(c);

    public Embedding LevelEmbed { get; } = new(PixelDecoder.Levels, c.HiddenDim);

    /// <param name="features">[b, mask width, rows, columns]</param>
    /// <param name="maps">The three levels, [b, feature size, rows, columns].</param>
    /// <returns>The queries [b, queries, width] after the last layer; normalized, and their masks: one a prediction.</returns>
    internal (Tensor Last, List<Tensor> States, List<Tensor> Masks) Forward(Tensor features, IReadOnlyList<Tensor> maps)
    {
        using var scope = NewDisposeScope();
        var levels = maps.Select((m, i) => (InputProjections.Count > 0 ? InputProjections[i].Forward(m) : m).flatten(2).transpose(1, 2) + LevelEmbed.Weight.Value[i]).ToArray();
        (int Height, int Width)[] grids = [.. maps.Select(static m => ((int)m.shape[2], (int)m.shape[3]))];
        var places = levels.Select((l, i) => l + MaskedAttention.Positions(grids[i], c.HiddenDim, l)).ToArray();
        var positions = QueriesEmbedder.Weight.Value;
        var x = QueriesFeatures.Weight.Value.unsqueeze(0).expand(features.shape[0], -1, -1);
        var (states, masks) = (new List<Tensor>(), new List<Tensor>());
        Predict();
        for (var i = 0; i < Decoder.Layers.Count; i++)
        {
            var level = i % levels.Length;
            using var seen = MaskedAttention.Seen(masks[^1], grids[level]);
            x = Decoder.Layers[i].Forward(x, positions, levels[level], places[level], seen);
            Predict();
        }
        return (x.MoveToOuterDisposeScope(), states, masks);

        void Predict()
        {
            states.Add(Decoder.Layernorm.Forward(x).MoveToOuterDisposeScope());
            masks.Add(MaskedAttention.Masks(Decoder.MaskPredictor.MaskEmbedder.Forward(states[^1]), features).MoveToOuterDisposeScope());
        }
    }
}

/// <summary>Backbone and pixel decoder. Keys: encoder, decoder.</summary>
public sealed class PixelLevelModule : Module
{
    internal PixelLevelModule(SwinConfig swin, Func<IReadOnlyList<int>, PixelDecoderSizes> sizes)
    {
        Encoder = new(swin);
        Decoder = new(sizes(Encoder.Channels));
    }

    public SwinBackbone Encoder { get; }

    public PixelDecoder Decoder { get; }
}

/// <summary>The parts before the classifier. Keys: pixel_level_module, transformer_module.</summary>
public sealed class Mask2FormerModel(Mask2FormerConfig c) : Module
{
    public PixelLevelModule PixelLevelModule { get; } = new(c.Swin, channels =>
        new(channels, c.FeatureSize, c.MaskFeatureSize, c.NumAttentionHeads, c.EncoderFeedforwardDim, c.EncoderLayers, c.FeatureStrides, c.CommonStride));

    public Mask2FormerTransformer TransformerModule { get; } = new(c);
}

/// <summary>What Mask2Former computes.</summary>
/// <param name="Predictions">One before the first layer and one after each; the last is the answer.</param>
/// <param name="Features">[b, mask width, rows, columns] of the pixel decoder</param>
/// <param name="Queries">[b, queries, width] after the last layer</param>
/// <param name="Maps">The backbone's, [b, channels, rows, columns] each.</param>
public sealed record Mask2FormerOutput(IReadOnlyList<MaskPrediction> Predictions, Tensor Features, Tensor Queries, IReadOnlyList<Tensor> Maps);

/// <summary>Mask2Former: semantic, instance and panoptic segmentation by queries. Keys: model, class_predictor, criterion.empty_weight.</summary>
public sealed class Mask2FormerForUniversalSegmentation(Mask2FormerConfig config) : Module, IMaskSegmenter
{
    public Mask2FormerConfig Config => config;

    public Mask2FormerModel Model { get; } = new(config);

    public Linear ClassPredictor { get; } = new(config.HiddenDim, config.Classes + 1);

    /// <summary>What each class weighs in the loss, as the peer's files keep it: [classes + 1].</summary>
    [Key("criterion.empty_weight")]
    public Parameter EmptyWeight { get; } = MaskLoss.ClassWeights(config.Classes, config.NoObjectWeight);

    IReadOnlyList<string> IMaskSegmenter.Labels => config.Labels();

    /// <param name="pixels">[b, channels, height, width], both sides at least 32</param>
    public Mask2FormerOutput Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var maps = Model.PixelLevelModule.Encoder.Forward(pixels);
        var (features, levels) = Model.PixelLevelModule.Decoder.Forward(maps);
        var (last, states, masks) = Model.TransformerModule.Forward(features, levels);
        var predictions = states.Zip(masks, (s, m) => new MaskPrediction(ClassPredictor.Forward(s).MoveToOuterDisposeScope(), m.MoveToOuterDisposeScope())).ToArray();
        return new(predictions, features.MoveToOuterDisposeScope(), last.MoveToOuterDisposeScope(), [.. maps.Select(static m => m.MoveToOuterDisposeScope())]);
    }

    /// <summary>The loss of every prediction together (of the last alone without use_auxiliary_loss); see <see cref="MaskLoss"/>.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="targets">One an image.</param>
    /// <param name="generator">Draws points; null: libtorch's own.</param>
    /// <returns>a scalar</returns>
    public Tensor Loss(Tensor pixels, IReadOnlyList<MaskTarget> targets, Generator? generator = null)
    {
        using var scope = NewDisposeScope();
        var predictions = Forward(pixels).Predictions;
        return MaskLoss.Total(config.UseAuxiliaryLoss ? predictions : [predictions[^1]], targets, config.Loss, generator).MoveToOuterDisposeScope();
    }

    MaskPrediction IMaskSegmenter.Predict(Tensor pixels, Tensor? task)
    {
        using var scope = NewDisposeScope();
        var last = Forward(pixels).Predictions[^1];
        return new(last.Classes.MoveToOuterDisposeScope(), last.Masks.MoveToOuterDisposeScope());
    }
}
