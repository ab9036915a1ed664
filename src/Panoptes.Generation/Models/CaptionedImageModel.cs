using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>What models have in common that make images of captions and are one module, with what reads the captions.</summary>
public abstract record CaptionedImageConfig : ModelConfig
{
    /// <summary>What reads captions.</summary>
    public ClipTextConfig TextConfig { get; init; } = new();

    /// <summary>The side of the images.</summary>
    [JsonIgnore]
    public abstract int Side { get; }
}

/// <summary>How an image is drawn, for models that can be asked so; the others do not look at it.</summary>
public sealed record ImageSampling
{
    /// <summary>How strongly captions are followed; 1: as they are.</summary>
    public double Guidance { get; init; } = 1;

    /// <summary>What the logits of tokens are divided by.</summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Of how many likeliest tokens one is drawn; null: of all.</summary>
    public int? TopK { get; init; }

    /// <summary>Steps, where there is a choice.</summary>
    public int Steps { get; init; } = 12;
}

/// <summary>A family of text-to-image models that take no noise away: adversarial, variational, autoregressive or masked. Keys: text_encoder, and its own.</summary>
public abstract class CaptionedImageModel(CaptionedImageConfig config) : Module
{
    public ClipTextModel TextEncoder { get; } = new(config.TextConfig);

    /// <summary>The side of the images.</summary>
    public int Side => config.Side;

    /// <summary>Whether captions can be followed more closely than they come.</summary>
    public virtual bool IsGuided => false;

    /// <summary>Whether there is a choice of how many steps an image takes.</summary>
    public virtual bool TakesSteps => false;

    /// <summary>Draws images.</summary>
    /// <param name="inputIds">[b, tokens] int64: the captions, padded to the text encoder's context.</param>
    /// <param name="emptyIds">[1, tokens] int64: a caption without a word, which guidance asks about.</param>
    /// <param name="noise">Where all chance comes from.</param>
    /// <param name="sampling">How.</param>
    /// <param name="cancel">Looked at between the steps of those that take several.</param>
    /// <returns>[b, 3, side, side] from -1 to 1, the caller's</returns>
    public abstract Tensor Sample(Tensor inputIds, Tensor emptyIds, NoiseSource noise, ImageSampling sampling, CancellationToken cancel = default);
}
