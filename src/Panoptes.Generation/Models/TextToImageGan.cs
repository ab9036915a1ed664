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

    public Linear Noise { get; } = new(config.NoiseSize, config.StyleSize, initializer: Init.Normal(1 / Math.Sqrt(config.NoiseSize)));

    public Linear Text { get; } = new(config.TextConfig.HiddenSize, config.StyleSize, initializer: Init.Normal(1 / Math.Sqrt(config.TextConfig.HiddenSize)));

    public Linear Style { get; } = new(config.StyleSize, config.StyleSize, initializer: ImageInit.Rectified(config.StyleSize));

    public GeneratorNetwork Synthesis { get; } = new(config.StyleSize, config.BlockOutChannels);

    /// <summary>An image of noise and a caption.</summary>
    /// <param name="noise">[b, noise size], standard normal</param>
    /// <param name="caption">[b, text width]: the pooled caption</param>
    /// <returns>[b, 3, side, side], -1 for black and 1 for white. They have no bounds: where a bounded one is at its end, no gradient brings it back.</returns>
    public Tensor Forward(Tensor noise, Tensor caption)
    {
        using var scope = NewDisposeScope();
        var style = nn.functional.leaky_relu(Noise.Forward(noise) + Text.Forward(caption), 0.2);
        return Synthesis.Forward(nn.functional.leaky_relu(Style.Forward(style), 0.2)).MoveToOuterDisposeScope();
    }

    public override Tensor Sample(Tensor inputIds, Tensor emptyIds, NoiseSource noise, ImageSampling sampling, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Forward(noise.Normal([inputIds.shape[0], Config.NoiseSize], ScalarType.Float32), TextEncoder.Encode(inputIds)).to(ScalarType.Float32).clamp(-1, 1).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// From a vector to an image: a map of 4 x 4 places that is doubled level by level (Radford et al. 2015, arXiv:1511.06434), every channel normalized over the batch, which keeps its images from becoming one and the same,
/// and scaled and shifted by the vector (Brock et al. 2018, arXiv:1809.11096). Keys: start, levels.N, norm, style, to_rgb.
/// </summary>
/// <param name="width">Of the vector.</param>
/// <param name="channels">Of the levels, the coarsest first: the image's side is 4 times 2 to one fewer than there are.</param>
public sealed class GeneratorNetwork(int width, IReadOnlyList<int> channels) : Module
{
    public Linear Start { get; } = new(width, channels[0] * 16);

    public ModuleList<GeneratorLevel> Levels { get; } = new(channels.Count - 1, i => new(channels[i], channels[i + 1], width));

    public BatchNorm Norm { get; } = new(channels[^1]);

    public Conv2d ToRgb { get; } = new(channels[^1], 3, 3, padding: 1);

    /// <param name="vector">[b, width]</param>
    /// <returns>[b, 3, side, side], without bounds</returns>
    public Tensor Forward(Tensor vector)
    {
        using var scope = NewDisposeScope();
        var x = Start.Forward(vector).view(vector.shape[0], channels[0], 4, 4).ChannelsLast();
        foreach (var level in Levels) x = level.Forward(x, vector);
        return ToRgb.Forward(nn.functional.relu(Norm.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>A residual block that doubles a map. Keys: norm1, style1, conv1, norm2, style2, conv2, shortcut.</summary>
public sealed class GeneratorLevel(int from, int to, int width) : Module
{
    public BatchNorm Norm1 { get; } = new(from);

    public Linear Style1 { get; } = new(width, 2 * from);

    public Conv2d Conv1 { get; } = new(from, to, 3, padding: 1);

    public BatchNorm Norm2 { get; } = new(to);

    public Linear Style2 { get; } = new(width, 2 * to);

    public Conv2d Conv2 { get; } = new(to, to, 3, padding: 1);

    public Conv2d Shortcut { get; } = new(from, to, 1, bias: false);

    internal Tensor Forward(Tensor x, Tensor vector)
    {
        using var scope = NewDisposeScope();
        var y = Conv1.Forward(Doubled(Styled(Norm1.Forward(x), Style1.Forward(vector))));
        y = Conv2.Forward(Styled(Norm2.Forward(y), Style2.Forward(vector)));
        return (y + Doubled(Shortcut.Forward(x))).MoveToOuterDisposeScope();

        static Tensor Styled(Tensor map, Tensor style)
        {
            var parts = style.unsqueeze(-1).unsqueeze(-1).chunk(2, 1);
            return nn.functional.relu(map * (1 + parts[0]) + parts[1]);
        }

        static Tensor Doubled(Tensor map) => nn.functional.interpolate(map, scale_factor: [2, 2], mode: InterpolationMode.Nearest);
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

    /// <param name="pixels">[b, 3, side, side] from -1 to 1</param>
    /// <param name="caption">[b, text width]: the pooled captions</param>
    /// <returns>[b]: above 0 for what is taken for real.</returns>
    public Tensor Forward(Tensor pixels, Tensor caption)
    {
        using var scope = NewDisposeScope();
        var seen = nn.functional.leaky_relu(Analysis.Forward(pixels), 0.2);
        return (Score.Forward(seen).squeeze(1) + (seen * Text.Forward(caption)).sum(1) / Math.Sqrt(channels[^1])).MoveToOuterDisposeScope();
    }
}
