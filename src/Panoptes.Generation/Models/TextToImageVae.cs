using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// Text to image by a variational autoencoder whose latents are one vector (Kingma and Welling 2013, arXiv:1312.6114; conditional: Sohn et al. 2015). There is no public checkpoint of this layout.

/// <summary>Sizes of encoder and decoder.</summary>
public sealed record TextToImageVaeConfig : CaptionedImageConfig
{
    public int LatentSize { get; init; } = 128;

    /// <summary>The width of what latents and caption become together.</summary>
    public int StyleSize { get; init; } = 256;

    /// <summary>Of the levels, the coarsest, of 4 x 4 places, first.</summary>
    public int[] BlockOutChannels { get; init; } = [256, 192, 128, 64, 32];

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "TextToImageVae";

    [JsonIgnore]
    public override int Side => 2 << BlockOutChannels.Length;

    /// <exception cref="PanoptesException">Sizes that no model has.</exception>
    internal TextToImageVaeConfig Checked() => BlockOutChannels is { Length: >= 2 and <= 9 } && BlockOutChannels.All(static c => c is > 0 and <= 1 << 13) && LatentSize is > 0 and <= 1 << 13 && StyleSize is > 0 and <= 1 << 13 ? this
        : throw new PanoptesException($"block_out_channels has {BlockOutChannels.Length} levels, latent_size is {LatentSize}, style_size {StyleSize}; expected 2 to 9 levels, and 1 to 8192 of each.");
}

/// <summary>An image to a vector of latents and, with its caption, back. Keys: text_encoder, encoder, latents, text, style, synthesis.</summary>
public sealed class TextToImageVae(TextToImageVaeConfig config) : CaptionedImageModel(config)
{
    public TextToImageVaeConfig Config { get; } = config.Checked();

    public AnalysisNetwork Encoder { get; } = new([.. config.BlockOutChannels.AsEnumerable().Reverse()], 2 * config.LatentSize);

    public Linear Latents { get; } = new(config.LatentSize, config.StyleSize);

    public Linear Text { get; } = new(config.TextConfig.HiddenSize, config.StyleSize);

    public Linear Style { get; } = new(config.StyleSize, config.StyleSize);

    public SynthesisNetwork Synthesis { get; } = new(config.StyleSize, config.BlockOutChannels);

    /// <summary>What an image's latents may be: mean and log-variance, [b, latents, 1, 1] each.</summary>
    /// <param name="pixels">[b, 3, side, side] from -1 to 1</param>
    public LatentPosterior Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var posterior = LatentPosterior.Of(Encoder.Forward(pixels).to(ScalarType.Float32).unsqueeze(-1).unsqueeze(-1));
        posterior.Mean.MoveToOuterDisposeScope();
        posterior.LogVariance.MoveToOuterDisposeScope();
        return posterior;
    }

    /// <param name="latents">[b, latents]</param>
    /// <param name="caption">[b, text width]: the pooled caption</param>
    /// <returns>[b, 3, side, side] from -1 to 1</returns>
    public Tensor Decode(Tensor latents, Tensor caption)
    {
        using var scope = NewDisposeScope();
        var style = nn.functional.leaky_relu(Latents.Forward(latents) + Text.Forward(caption), 0.2);
        return Synthesis.Forward(nn.functional.leaky_relu(Style.Forward(style), 0.2)).tanh().MoveToOuterDisposeScope();
    }

    public override Tensor Sample(Tensor inputIds, Tensor emptyIds, NoiseSource noise, ImageSampling sampling, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Decode(noise.Normal([inputIds.shape[0], Config.LatentSize], ScalarType.Float32), TextEncoder.Encode(inputIds)).to(ScalarType.Float32).MoveToOuterDisposeScope();
    }
}
