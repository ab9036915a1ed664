using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

// Text to image by filling in masked tokens, the surest first (MaskGIT: Chang et al. 2022, arXiv:2202.04200; Muse: Chang et al. 2023, arXiv:2301.00704), with aMUSEd's transformer. There is no public checkpoint of
// this layout, which has its parts in one file.

/// <summary>The transformer, and the autoencoder whose tokens it tells.</summary>
public sealed record TextToImageMaskedConfig : CaptionedImageConfig
{
    public UVitConfig UvitConfig { get; init; } = new();

    /// <summary>The autoencoder's.</summary>
    public VqConfig VqConfig { get; init; } = new();

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "TextToImageMasked";

    [JsonIgnore]
    public override int Side => VqConfig.SampleSize;

    /// <summary>Tokens of a row, and rows.</summary>
    [JsonIgnore]
    public int Grid => Side / VqConfig.PixelsPerPlace;

    /// <exception cref="PanoptesException">Parts that do not fit together.</exception>
    internal TextToImageMaskedConfig Checked()
    {
        var (u, width) = (UvitConfig, TextConfig.HiddenSize);
        if (u.CondEmbedDim != width || u.EncoderHiddenSize != width) throw new PanoptesException($"The transformer reads texts of the widths {u.CondEmbedDim} and {u.EncoderHiddenSize} (cond_embed_dim, encoder_hidden_size), but captions have {width}.");
        if (u.CodebookSize != VqConfig.NumVqEmbeddings || u.VocabSize <= u.CodebookSize) throw new PanoptesException($"The transformer tells {u.CodebookSize} codes of a vocabulary of {u.VocabSize}, the autoencoder has {VqConfig.NumVqEmbeddings}; expected as many, and one more for the mask.");
        if (Side % VqConfig.PixelsPerPlace != 0) throw new PanoptesException($"Images of {Side} pixels make no whole tokens of {VqConfig.PixelsPerPlace}.");
        return this;
    }
}

/// <summary>A caption to an image's tokens in a few steps, and those to the image. Keys: text_encoder, vqvae, transformer.</summary>
public sealed class TextToImageMasked(TextToImageMaskedConfig config) : CaptionedImageModel(config)
{
    public TextToImageMaskedConfig Config { get; } = config.Checked();

    /// <summary>Makes images tokens and tokens images; it is trained before.</summary>
    public VqModel Vqvae { get; } = new(config.VqConfig);

    public UVit Transformer { get; } = new(config.UvitConfig);

    /// <summary>The id that stands for a token that is not known yet.</summary>
    public int Mask => Config.UvitConfig.VocabSize - 1;

    /// <summary>How likely every token is, by those that are known and the caption.</summary>
    /// <param name="inputIds">[b, caption tokens] int64</param>
    /// <param name="tokens">[b, rows, columns] int64, <see cref="Mask"/> where unknown</param>
    /// <returns>[b, codes, rows, columns] logits</returns>
    public Tensor Forward(Tensor inputIds, Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var (states, pooled) = TextEncoder.Read(inputIds, null, 0, normalized: true, pooled: true);
        return MaskedDecoding.Tell(Transformer, tokens, states, pooled!, (Side, Side)).MoveToOuterDisposeScope();
    }

    public override bool IsGuided => true;

    public override bool TakesSteps => true;

    public override Tensor Sample(Tensor inputIds, Tensor emptyIds, NoiseSource noise, ImageSampling sampling, CancellationToken cancel = default)
    {
        if (!(sampling.Temperature > 0) || sampling.TopK is not null) throw new PanoptesException($"The temperature is {sampling.Temperature} and the best of {sampling.TopK} tokens were to be drawn; expected a temperature above 0, and all tokens: the surest ones are kept.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (images, guided) = (inputIds.shape[0], sampling.Guidance != 1);
        var (states, pooled) = TextEncoder.Read(guided ? cat([emptyIds.expand(images, -1), inputIds]) : inputIds, null, 0, normalized: true, pooled: true);
        var run = new AmusedScheduler { MaskTokenId = Mask }.Start(sampling.Steps);
        var tokens = MaskedDecoding.Fill(Transformer, run, 0, 1, full([images, Config.Grid, Config.Grid], Mask, ScalarType.Int64), states, pooled!, (Side, Side), sampling.Guidance, sampling.Temperature, noise, cancel);
        return (2 * Vqvae.Picture(tokens) - 1).MoveToOuterDisposeScope();
    }
}
