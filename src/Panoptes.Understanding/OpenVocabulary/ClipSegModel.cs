using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// CLIPSeg (Lüddecke and Ecker 2022, arXiv:2112.10003) with the keys and the config.json of Hugging Face's CLIPSegForImageSegmentation: a frozen CLIP, whose states of a
// few layers a small transformer decodes into one mask for what a text says or an example image shows.

/// <summary>The whole model's config ("clipseg").</summary>
public sealed record ClipSegConfig : ModelConfig
{
    public ClipTextConfig TextConfig { get; init; } = new() { ModelType = "clipseg_text_model" };
    public ClipVisionConfig VisionConfig { get; init; } = new() { ModelType = "clipseg_vision_model" };

    /// <summary>Old files carry the text tower's config twice; where this one is given it counts.</summary>
    public ClipTextConfig? TextConfigDict { get; init; }

    /// <summary>Old files carry the image tower's config twice; where this one is given it counts.</summary>
    public ClipVisionConfig? VisionConfigDict { get; init; }
    public int ProjectionDim { get; init; } = 512;
    public double LogitScaleInitValue { get; init; } = 2.6592;
    public double InitializerFactor { get; init; } = 1;

    /// <summary>The layers, from 0, whose outputs are decoded. A position and no size, hence long.</summary>
    public long[] ExtractLayers { get; init; } = [3, 6, 9];

    /// <summary>The decoder's width.</summary>
    public int ReduceDim { get; init; } = 64;
    public int DecoderNumAttentionHeads { get; init; } = 4;
    public int DecoderIntermediateSize { get; init; } = 2048;

    /// <summary>Which of the decoder's layers, from 0, is told what is wanted. A position and no size, hence long.</summary>
    public long ConditionalLayer { get; init; }

    /// <summary>Whether a convolution and two transposed ones make the mask, instead of one.</summary>
    public bool UseComplexTransposedConvolution { get; init; }
    public string ModelType { get; init; } = "clipseg";
    public string[]? Architectures { get; init; } = ["CLIPSegForImageSegmentation"];

    [JsonIgnore]
    public ClipTextConfig Text => TextConfigDict ?? TextConfig;

    [JsonIgnore]
    public ClipVisionConfig Vision => VisionConfigDict ?? VisionConfig;

    internal ClipConfig AsClip => new() { TextConfig = Text, VisionConfig = Vision, ProjectionDim = ProjectionDim, LogitScaleInitValue = LogitScaleInitValue, InitializerFactor = InitializerFactor };

    /// <exception cref="PanoptesException">Layers that are not there.</exception>
    internal ClipSegConfig Checked()
    {
        if (ExtractLayers.Length is 0 or > 1000 || ExtractLayers.Any(l => l < 0 || l >= Vision.NumHiddenLayers))
            throw new PanoptesException($"extract_layers is [{string.Join(", ", ExtractLayers.Take(20))}]; expected at least one of the image tower's layers, 0 to {Vision.NumHiddenLayers - 1}.");
        if (ConditionalLayer < 0 || ConditionalLayer >= ExtractLayers.Length)
            throw new PanoptesException($"conditional_layer is {ConditionalLayer}; expected one of the decoder's layers, 0 to {ExtractLayers.Length - 1}.");
        if (UseComplexTransposedConvolution && Vision.PatchSize < 4) throw new PanoptesException($"patch_size is {Vision.PatchSize}; expected at least 4 with use_complex_transposed_convolution.");
        return this;
    }
}

/// <summary>A transformer block that normalizes after attention and after the MLP. Keys: self_attn, layer_norm1, mlp, layer_norm2.</summary>
public sealed class ClipSegDecoderLayer(ClipSegConfig c, EncoderInit init) : Module
{
    public SelfAttention SelfAttn { get; } = new(c.ReduceDim, c.DecoderNumAttentionHeads, init.AttentionInput, init.AttentionOutput);

    public LayerNorm LayerNorm1 { get; } = new(c.ReduceDim, c.Vision.LayerNormEps);

    /// <summary>With ReLU, whatever the config's decoder_hidden_act says, as in the peer.</summary>
    public Mlp Mlp { get; } = new(c.ReduceDim, c.DecoderIntermediateSize, Activation.Relu, init.Fc1, init.Fc2);

    public LayerNorm LayerNorm2 { get; } = new(c.ReduceDim, c.Vision.LayerNormEps);

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = LayerNorm1.Forward(x + SelfAttn.Forward(x));
        return LayerNorm2.Forward(x + Mlp.Forward(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>The refined way from the patches' features to a mask. Keys: 0 (convolution), 2 and 4 (transposed convolutions).</summary>
public sealed class ClipSegRefinement(ClipSegConfig c) : Module
{
    [Key("0")]
    public Conv2d Convolution { get; } = new(c.ReduceDim, c.ReduceDim, 3, padding: 1);

    [Key("2")]
    public ConvTranspose2d First { get; } = new(c.ReduceDim, c.ReduceDim / 2, c.Vision.PatchSize / 4);

    [Key("4")]
    public ConvTranspose2d Second { get; } = new(c.ReduceDim / 2, 1, c.Vision.PatchSize / 4);

    /// <param name="map">[b, width, rows, columns]</param>
    /// <returns>[b, 1, height, width]: patch / 4 times as many, twice over</returns>
    public Tensor Forward(Tensor map)
    {
        using var scope = NewDisposeScope();
        return Second.Forward(First.Forward(Convolution.Forward(map).relu_()).relu_()).MoveToOuterDisposeScope();
    }
}

/// <summary>States of CLIP's layers to a mask. Keys: film_mul, film_add, transposed_convolution, reduces.N, layers.N.</summary>
public sealed class ClipSegDecoder : Module
{
    readonly long conditional;

    public ClipSegDecoder(ClipSegConfig c)
    {
        conditional = c.ConditionalLayer;
        var init = ClipInit.Encoder(c.ReduceDim, c.Vision.NumHiddenLayers, c.InitializerFactor);
        (FilmMul, FilmAdd) = (new(c.ProjectionDim, c.ReduceDim), new(c.ProjectionDim, c.ReduceDim));
        if (c.UseComplexTransposedConvolution) Refinement = new(c);
        else Upsampling = new(c.ReduceDim, 1, c.Vision.PatchSize);
        Reduces = new(c.ExtractLayers.Length, _ => new(c.Vision.HiddenSize, c.ReduceDim));
        Layers = new(c.ExtractLayers.Length, _ => new(c, init));
    }

    public Linear FilmMul { get; }

    public Linear FilmAdd { get; }

    [Key("transposed_convolution")]
    public ConvTranspose2d? Upsampling { get; }

    [Key("transposed_convolution")]
    public ClipSegRefinement? Refinement { get; }

    public ModuleList<Linear> Reduces { get; }

    public ModuleList<ClipSegDecoderLayer> Layers { get; }

    /// <param name="features">Of b images, or of one for all conditions.</param>
    /// <param name="conditions">[b, embedding], as CLIP projects texts or images, not normalized</param>
    /// <returns>[b, height, width] logits</returns>
    public Tensor Forward(ClipSegFeatures features, Tensor conditions)
    {
        using var scope = NewDisposeScope();
        Tensor? x = null;
        // The deepest first.
        for (var i = 0; i < Layers.Count; i++)
        {
            var reduced = Reduces[i].Forward(features.States[Layers.Count - 1 - i]);
            x = x is null ? reduced : reduced + x;
            if (i == conditional) x = FilmMul.Forward(conditions).unsqueeze(1) * x + FilmAdd.Forward(conditions).unsqueeze(1);
            x = Layers[i].Forward(x);
        }
        var map = x!.narrow(1, 1, x.shape[1] - 1).transpose(1, 2).unflatten(2, [features.Rows, features.Columns]);           // without the class token
        return (Upsampling?.Forward(map) ?? Refinement!.Forward(map)).squeeze(1).MoveToOuterDisposeScope();
    }
}

/// <summary>What the decoder reads of images; one image's can be asked for many things.</summary>
/// <param name="States">[b, 1 + patches, width] of each extracted layer, in the config's order.</param>
/// <param name="Rows">Of patches.</param>
/// <param name="Columns">Of patches.</param>
public sealed record ClipSegFeatures(IReadOnlyList<Tensor> States, long Rows, long Columns) : IDisposable
{
    public void Dispose()
    {
        foreach (var state in States) state.Dispose();
    }
}

/// <summary>What <see cref="ClipSegModel.Forward"/> returns.</summary>
/// <param name="Logits">[b, height, width]: above 0 where it is</param>
/// <param name="ImageEmbeds">[b, embedding], not normalized: CLIP's of the images</param>
public sealed record ClipSegOutput(Tensor Logits, Tensor ImageEmbeds);

/// <summary>CLIPSeg. Keys: clip, decoder. The paper trains the decoder alone: freeze <see cref="Clip"/> (<see cref="Module.RequiresGrad"/>) for that.</summary>
public sealed class ClipSegModel : Module
{
    public ClipSegModel(ClipSegConfig config)
    {
        Config = config.Checked();
        Clip = new(config.AsClip);
        Clip.Vision.InterpolatePositions = true;
        Decoder = new(config);
    }

    public ClipSegConfig Config { get; }

    public ClipModel Clip { get; }

    public ClipSegDecoder Decoder { get; }

    /// <summary>What texts ask for: [b, embedding].</summary>
    /// <param name="inputIds">[b, tokens] int64</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding</param>
    public Tensor Condition(Tensor inputIds, Tensor? attentionMask = null) => Clip.Text.Encode(inputIds, attentionMask);

    /// <summary>What example images ask for: [b, embedding].</summary>
    /// <param name="pixels">[b, channels, height, width]; the paper's examples show the thing enlarged, what is around it blurred and dark.</param>
    public Tensor ConditionOf(Tensor pixels) => Clip.Vision.Encode(pixels);

    /// <summary>All that the decoder needs of images; the layers behind the last of it are not computed.</summary>
    /// <param name="pixels">[b, channels, height, width] of any size; positions are resized to it.</param>
    public ClipSegFeatures Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var vision = Clip.Vision.VisionModel;
        var x = vision.PreLayrnorm.Forward(vision.Embeddings.Forward(pixels, interpolate: true));
        var states = new Tensor[Config.ExtractLayers.Max() + 1];
        for (var i = 0; i < states.Length; i++) states[i] = x = vision.Encoder.Layers[i].Forward(x);
        var features = Features(i => states[i], pixels);
        foreach (var state in features.States.Distinct()) state.MoveToOuterDisposeScope();
        return features;
    }

    /// <summary>A mask for each condition.</summary>
    /// <inheritdoc cref="ClipSegDecoder.Forward" path="/param"/>
    /// <inheritdoc cref="ClipSegDecoder.Forward" path="/returns"/>
    /// <exception cref="PanoptesException">Another number of conditions than of images, of which there is more than one.</exception>
    public Tensor Decode(ClipSegFeatures features, Tensor conditions)
    {
        if (features.States[0].shape[0] is > 1 and var images && images != conditions.shape[0])
            throw new PanoptesException($"{conditions.shape[0]} conditions were given for {images} images; expected one for each, or one image.");
        return Decoder.Forward(features, conditions);
    }

    /// <summary>Everything that Hugging Face's class gives; for masks alone, <see cref="Encode"/> and <see cref="Decode"/> are cheaper.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="conditions">[b, embedding]</param>
    public ClipSegOutput Forward(Tensor pixels, Tensor conditions)
    {
        using var scope = NewDisposeScope();
        var vision = Clip.Vision.Forward(pixels, hiddenStates: true);
        var logits = Decode(Features(i => vision.HiddenStates![i + 1], pixels), conditions);                                 // the first is what enters the layers
        return new(logits.MoveToOuterDisposeScope(), vision.Embedding.MoveToOuterDisposeScope());
    }

    /// <summary>The mean binary cross-entropy over all pixels.</summary>
    /// <param name="logits">[b, height, width]</param>
    /// <param name="labels">The same, from 0 to 1.</param>
    /// <returns>A scalar with its gradient.</returns>
    public static Tensor Loss(Tensor logits, Tensor labels) => nn.functional.binary_cross_entropy_with_logits(logits, labels);

    ClipSegFeatures Features(Func<int, Tensor> state, Tensor pixels) =>
        new([.. Config.ExtractLayers.Select(l => state((int)l))], pixels.shape[2] / Config.Vision.PatchSize, pixels.shape[3] / Config.Vision.PatchSize);
}
