using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

// Text to image as a language model over an image's tokens: those of a vector-quantized autoencoder, one after the other behind the caption (DALL-E: Ramesh et al. 2021, arXiv:2102.12092), whose states an encoder
// makes (Parti: Yu et al. 2022, arXiv:2206.10789). There is no public checkpoint of this layout.

/// <summary>Sizes of the transformer, and the autoencoder whose tokens it writes.</summary>
public sealed record TextToImageTransformerConfig : CaptionedImageConfig
{
    public int HiddenSize { get; init; } = 256;
    public int NumHiddenLayers { get; init; } = 6;
    public int NumAttentionHeads { get; init; } = 8;
    public int IntermediateSize { get; init; } = 1024;

    /// <summary>The autoencoder's.</summary>
    public VqConfig VqConfig { get; init; } = new();

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "TextToImageTransformer";

    [JsonIgnore]
    public override int Side => VqConfig.SampleSize;

    /// <summary>Tokens of a row, and rows.</summary>
    [JsonIgnore]
    public int Grid => Side / VqConfig.PixelsPerPlace;

    /// <exception cref="PanoptesException">Sizes that no model has, or that do not fit together.</exception>
    internal TextToImageTransformerConfig Checked()
    {
        Attention.Divisible(HiddenSize, NumAttentionHeads);
        if (NumHiddenLayers is < 1 or > 1000 || HiddenSize > 1 << 14 || IntermediateSize is < 1 or > 1 << 16) throw new PanoptesException($"num_hidden_layers is {NumHiddenLayers}, hidden_size {HiddenSize}, intermediate_size {IntermediateSize}; expected 1 to 1000 layers, and at most 16384 and 65536.");
        if (Side % VqConfig.PixelsPerPlace != 0 || Grid is < 1 or > 256) throw new PanoptesException($"Images of {Side} pixels make no whole tokens of {VqConfig.PixelsPerPlace}; expected 1 to 256 of them a side.");
        return this;
    }
}

/// <summary>A layer in which every token sees itself and those before it. Keys: norm1, attention, norm2, fc1, fc2.</summary>
public sealed class CausalLayer(TextToImageTransformerConfig c) : Module
{
    public LayerNorm Norm1 { get; } = new(c.HiddenSize);

    public SelfAttention Attention { get; } = new(c.HiddenSize, c.NumAttentionHeads);

    public LayerNorm Norm2 { get; } = new(c.HiddenSize);

    public Linear Fc1 { get; } = new(c.HiddenSize, c.IntermediateSize);

    public Linear Fc2 { get; } = new(c.IntermediateSize, c.HiddenSize);

    internal Tensor Forward(Tensor x, KeyValueCache? cache)
    {
        using var scope = NewDisposeScope();
        var normed = Norm1.Forward(x);
        x = x + (cache is null ? Attention.Forward(normed, causal: true) : Attention.Next(normed, cache));
        return (x + Fc2.Forward(Fc1.Forward(Norm2.Forward(x), Activation.Gelu))).MoveToOuterDisposeScope();
    }
}

/// <summary>A caption to an image's tokens, one after the other, and those to the image. Keys: text_encoder, vqvae, text, start, tokens, positions, layers.N, norm, head.</summary>
public sealed class TextToImageTransformer(TextToImageTransformerConfig config) : CaptionedImageModel(config)
{
    public TextToImageTransformerConfig Config { get; } = config.Checked();

    /// <summary>Makes images tokens and tokens images; it is trained before.</summary>
    public VqModel Vqvae { get; } = new(config.VqConfig);

    public Linear Text { get; } = new(config.TextConfig.HiddenSize, config.HiddenSize);

    /// <summary>What the first token follows.</summary>
    public Parameter Start { get; } = new([1, 1, config.HiddenSize], Init.Normal(0.02));

    public Embedding Tokens { get; } = new(config.VqConfig.NumVqEmbeddings, config.HiddenSize, Init.Normal(0.02));

    /// <summary>Of the start and the tokens behind it.</summary>
    public Embedding Positions { get; } = new(config.Grid * config.Grid, config.HiddenSize, Init.Normal(0.02));

    public ModuleList<CausalLayer> Layers { get; } = new(config.NumHiddenLayers, _ => new(config));

    public LayerNorm Norm { get; } = new(config.HiddenSize);

    public Linear Head { get; } = new(config.HiddenSize, config.VqConfig.NumVqEmbeddings, bias: false);

    int Length => Config.Grid * Config.Grid;

    /// <summary>How likely every token is behind those before it.</summary>
    /// <param name="text">[b, caption tokens, text width]: the caption's states</param>
    /// <param name="tokens">[b, grid · grid] int64, row by row</param>
    /// <returns>[b, grid · grid, codes] logits</returns>
    public Tensor Forward(Tensor text, Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var before = cat([Start.Value.expand(tokens.shape[0], -1, -1), Tokens.Forward(tokens.narrow(1, 0, Length - 1))], 1) + Positions.Weight.Value;
        var prefix = Text.Forward(text);
        var x = cat([prefix.to(before.dtype), before], 1);
        foreach (var layer in Layers) x = layer.Forward(x, null);
        return Head.Forward(Norm.Forward(x.narrow(1, prefix.shape[1], Length))).MoveToOuterDisposeScope();
    }

    public override bool IsGuided => true;

    /// <summary>Draws tokens one after the other; with guidance, every one from what the caption says beyond no caption (as Parti does).</summary>
    /// <inheritdoc/>
    public override Tensor Sample(Tensor inputIds, Tensor emptyIds, NoiseSource noise, ImageSampling sampling, CancellationToken cancel = default)
    {
        if (!(sampling.Temperature > 0) || sampling.TopK is < 1) throw new PanoptesException($"The temperature is {sampling.Temperature} and the best of {sampling.TopK} tokens were to be drawn; expected a temperature above 0 and at least one token.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (images, guided) = (inputIds.shape[0], sampling.Guidance != 1);
        var text = Text.Forward(TextEncoder.Read(guided ? cat([inputIds, emptyIds.expand(images, -1)]) : inputIds, null, 0, normalized: true).Tokens);
        var caches = Layers.Select(_ => new KeyValueCache((int)text.shape[1] + Length)).ToArray();
        try
        {
            var tokens = new List<Tensor>(Length);
            var x = cat([text, (Start.Value + Positions.Weight.Value.narrow(0, 0, 1)).expand(text.shape[0], -1, -1).to(text.dtype)], 1);
            for (var i = 0; i < Length; i++)
            {
                cancel.ThrowIfCancellationRequested();
                using var step = NewDisposeScope();
                for (var l = 0; l < Layers.Count; l++) x = Layers[l].Forward(x, caches[l]);
                var logits = Head.Forward(Norm.Forward(x.select(1, -1))).to(ScalarType.Float32);                    // [b, codes]
                if (guided) logits = Guidance.ClassifierFree(logits.narrow(0, images, images), logits.narrow(0, 0, images), sampling.Guidance);
                logits = logits / sampling.Temperature;
                if (sampling.TopK is { } best && best < logits.shape[1]) logits = logits.masked_fill(logits.lt(logits.topk(best, -1).values.narrow(1, best - 1, 1)), double.NegativeInfinity);
                var token = noise.Choose(logits.softmax(-1));                                                       // [b, 1]
                tokens.Add(token.MoveToOuterDisposeScope());
                if (i + 1 == Length) break;
                var next = Tokens.Forward(token) + Positions.Weight.Value.narrow(0, i + 1, 1);
                x = (guided ? cat([next, next]) : next).MoveToOuterDisposeScope();
            }
            return (2 * Vqvae.Picture(cat(tokens, 1).view(images, Config.Grid, Config.Grid)) - 1).MoveToOuterDisposeScope();
        }
        finally
        {
            foreach (var cache in caches) cache.Dispose();
        }
    }
}
