using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// Text to image by a generator that a discriminator taught (Goodfellow et al. 2014, arXiv:1406.2661; by captions: Reed et al. 2016, arXiv:1605.05396). There is no public checkpoint of this layout.

/// <summary>Sizes of a generator.</summary>
public sealed record TextToImageGanConfig : CaptionedImageConfig
{
    /// <summary>Numbers that are drawn for an image.</summary>
    public int NoiseSize { get; init; } = 128;

    /// <summary>The width of what noise and caption become together.</summary>
    public int StyleSize { get; init; } = 256;

    /// <summary>Of the levels, the coarsest, of 4 x 4 places, first.</summary>
    public int[] BlockOutChannels { get; init; } = [256, 192, 128, 64, 32];

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "TextToImageGan";

    [JsonIgnore]
    public override int Side => 2 << BlockOutChannels.Length;

    /// <exception cref="PanoptesException">Sizes that no model has.</exception>
    internal TextToImageGanConfig Checked() => BlockOutChannels is { Length: >= 2 and <= 9 } && BlockOutChannels.All(static c => c is > 0 and <= 1 << 13) && NoiseSize is > 0 and <= 1 << 13 && StyleSize is > 0 and <= 1 << 13 ? this
        : throw new PanoptesException($"block_out_channels has {BlockOutChannels.Length} levels, noise_size is {NoiseSize}, style_size {StyleSize}; expected 2 to 9 levels, and 1 to 8192 of each.");
}

/// <summary>Noise and a caption to an image. Keys: text_encoder, noise, text, style, synthesis.</summary>
public sealed class TextToImageGan(TextToImageGanConfig config) : CaptionedImageModel(config)
{
    public TextToImageGanConfig Config { get; } = config.Checked();

    public Linear Noise { get; } = new(config.NoiseSize, config.StyleSize);

    public Linear Text { get; } = new(config.TextConfig.HiddenSize, config.StyleSize);

    public Linear Style { get; } = new(config.StyleSize, config.StyleSize);

    public SynthesisNetwork Synthesis { get; } = new(config.StyleSize, config.BlockOutChannels);

    /// <summary>An image of noise and a caption.</summary>
    /// <param name="noise">[b, noise size], standard normal</param>
    /// <param name="caption">[b, text width]: the pooled caption</param>
    /// <returns>[b, 3, side, side] from -1 to 1</returns>
    public Tensor Forward(Tensor noise, Tensor caption)
    {
        using var scope = NewDisposeScope();
        var style = nn.functional.leaky_relu(Noise.Forward(noise) + Text.Forward(caption), 0.2);
        return Synthesis.Forward(nn.functional.leaky_relu(Style.Forward(style), 0.2)).tanh().MoveToOuterDisposeScope();
    }

    public override Tensor Sample(Tensor inputIds, Tensor emptyIds, NoiseSource noise, ImageSampling sampling, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Forward(noise.Normal([inputIds.shape[0], Config.NoiseSize], ScalarType.Float32), TextEncoder.Encode(inputIds)).to(ScalarType.Float32).MoveToOuterDisposeScope();
    }
}

/// <summary>Tells images from generated ones, and whether they go with their captions, by the product with an embedding of the caption (Miyato and Koyama 2018, arXiv:1802.05637). Keys: analysis, score, text.</summary>
/// <param name="channels">Of the levels, the finest first.</param>
/// <param name="textWidth">The width of a pooled caption.</param>
public sealed class ProjectionDiscriminator(IReadOnlyList<int> channels, int textWidth) : Module
{
    public AnalysisNetwork Analysis { get; } = new(channels, channels[^1]);

    public Linear Score { get; } = new(channels[^1], 1);

    public Linear Text { get; } = new(textWidth, channels[^1], bias: false);

    /// <returns>[b]: above 0 for what is taken for real.</returns>
    public Tensor Forward(Tensor pixels, Tensor caption)
    {
        using var scope = NewDisposeScope();
        var seen = nn.functional.leaky_relu(Analysis.Forward(pixels), 0.2);
        return (Score.Forward(seen).squeeze(1) + (seen * Text.Forward(caption)).sum(1) / Math.Sqrt(channels[^1])).MoveToOuterDisposeScope();
    }
}
