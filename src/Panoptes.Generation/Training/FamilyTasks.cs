using Panoptes.Data;
using Panoptes.Native;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;

namespace Panoptes.Generation.Training;

/// <summary>
/// A generator against a discriminator (Goodfellow et al. 2014, arXiv:1406.2661), both of which see the caption. The discriminator's slope at real images is penalized (R1: Mescheder et al. 2018, arXiv:1801.04406), and
/// it learns faster than the generator: where both were as fast, the generator ran from whatever it had just learned, and their images became one.
/// </summary>
public sealed record GanOptions : CaptionedOptions
{
    /// <summary>Channels of the discriminator's levels, the finest first; null: the generator's, the other way round.</summary>
    public int[]? Discriminator { get; init; }

    /// <summary>The generator's learning rate as a share of the schedule's, which is the discriminator's (two time scales: Heusel et al. 2017, arXiv:1706.08500).</summary>
    public double GeneratorRate { get; init; } = 0.05;

    /// <summary>What half of the squared slope of the discriminator at real images (pixels from -1 to 1) is multiplied by; 0: no penalty.</summary>
    public double R1 { get; init; } = 0.1;

    /// <summary>The penalty is computed every so many steps, and is as many times larger then (Karras et al. 2020, arXiv:1912.04958, section 3.1).</summary>
    public int R1Every { get; init; } = 4;

    public override SceneObjective Create(SceneSetting setting) => Create<TextToImageGan>(setting, (model, reader) => new GanTraining(model, reader, this, setting));
}

/// <inheritdoc cref="GanOptions"/>
sealed class GanTraining : CaptionedTraining<TextToImageGan>
{
    readonly GanOptions options;
    readonly HashSet<Nn.Parameter> generator;

    public GanTraining(TextToImageGan model, CaptionReader reader, GanOptions options, SceneSetting setting) : base(model, reader, options, setting)
    {
        this.options = options;
        if (options.Discriminator?.Any(static c => c is < 1 or > 1 << 14) == true) throw new PanoptesException($"discriminator is [{string.Join(", ", options.Discriminator)}]; expected 1 to 16384 channels of each level.");
        if (options.R1 is not (>= 0 and <= 1e6) || options.R1Every < 1) throw new PanoptesException(FormattableString.Invariant($"r1 is {options.R1} every {options.R1Every} steps; expected 0 to a million, and at least every step."));
        if (options.GeneratorRate is not (> 0 and <= 1e3)) throw new PanoptesException(FormattableString.Invariant($"generator_rate is {options.GeneratorRate}; expected above 0 to 1000."));
        Discriminator = new(options.Discriminator ?? [.. model.Config.BlockOutChannels.AsEnumerable().Reverse()], model.Config.TextConfig.HiddenSize);
        if (model.Config.BlockOutChannels.Length != (options.Discriminator?.Length ?? model.Config.BlockOutChannels.Length)) throw new PanoptesException($"The discriminator has {options.Discriminator!.Length} levels; expected as many as the generator, {model.Config.BlockOutChannels.Length}.");
        Discriminator.Initialize(setting.Generator);
        generator = [.. model.Parameters()];
    }

    public ProjectionDiscriminator Discriminator { get; }

    public override double LearningRateScale(Nn.Parameter parameter) => generator.Contains(parameter) ? options.GeneratorRate : 1;

    /// <remarks>
    /// Both are trained in one step, as <see cref="VqGan"/> does it: the generator gets the discriminator's gradient at its images, and the discriminator that of its own loss alone. The text encoder learns from both,
    /// since it starts from nothing and only the discriminator is told what captions mean.
    /// </remarks>
    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var caption = Model.TextEncoder.Encode(Reader.Ids(batch.Captions, options.CaptionDropout, random));
        var made = Model.Forward(randn(batch.Count, Model.Config.NoiseSize, generator: random), caption);
        var (shown, pixels) = (made.detach().requires_grad_(), SignedPixels.Of(batch));
        var penalized = options.R1 > 0 && step % options.R1Every == 0;
        if (penalized) pixels = pixels.requires_grad_();
        var (real, fake) = (Discriminator.Forward(pixels, caption).to(ScalarType.Float32), Discriminator.Forward(shown, caption).to(ScalarType.Float32));
        using var exact = Autocast.To(ScalarType.Float32);
        var wanted = nn.functional.softplus(-fake).mean();
        var gradient = autograd.grad([wanted], [shown], retain_graph: true)[0];
        var judged = VqGan.Vanilla(real, fake);
        // The value is what the generator wants, the gradient reaches it alone.
        var passed = (made * gradient).sum();
        var losses = new Dictionary<string, Tensor> { ["loss"] = passed - passed.detach() + wanted.detach() + judged, ["generator"] = wanted, ["discriminator"] = judged };
        if (!penalized) return losses;
        losses["r1"] = Slope(real, pixels);
        losses["loss"] = losses["loss"] + 0.5 * options.R1 * options.R1Every * losses["r1"];
        return losses;
    }

    /// <summary>The mean over images of the squared gradient of what is told of them, through which gradients go in turn.</summary>
    /// <param name="judged">[b]</param>
    /// <param name="pixels">[b, 3, side, side], of which it was computed</param>
    internal static Tensor Slope(Tensor judged, Tensor pixels) => autograd.grad([judged.sum()], [pixels], retain_graph: true, create_graph: true)[0].square().sum([1, 2, 3]).mean();
}

/// <summary>
/// A variational autoencoder of whole images by their captions (Kingma and Welling 2013, arXiv:1312.6114): the evidence's lower bound, in nats a number of the image, with the pixels' deviation as it fits best
/// (Rybkin et al. 2021, arXiv:2006.13202).
/// </summary>
public sealed record VaeOptions : CaptionedOptions
{
    public override SceneObjective Create(SceneSetting setting) => Create<TextToImageVae>(setting, (model, reader) => new VaeTraining(model, reader, this, setting));
}

/// <inheritdoc cref="VaeOptions"/>
sealed class VaeTraining(TextToImageVae model, CaptionReader reader, VaeOptions options, SceneSetting setting) : CaptionedTraining<TextToImageVae>(model, reader, options, setting)
{
    readonly TextToImageVae model = model;

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var pixels = SignedPixels.Of(batch);
        var posterior = model.Encode(pixels);
        var decoded = model.Decode(posterior.Sample(random).flatten(1), model.TextEncoder.Encode(Reader.Ids(batch.Captions, options.CaptionDropout, random)));
        using var exact = Autocast.To(ScalarType.Float32);
        var error = (decoded.to(ScalarType.Float32) - pixels).square().mean();
        var kl = posterior.Kl().mean() / pixels[0].numel();
        var likelihood = 0.5 * error.log();
        return new Dictionary<string, Tensor> { ["loss"] = likelihood + kl, ["error"] = error, ["kl"] = kl };
    }
}

/// <summary>What the training of a model over tokens is told.</summary>
public abstract record TokenOptions : CaptionedOptions
{
    /// <summary>The folder of the autoencoder whose tokens they are, which stays as it is.</summary>
    public required string Tokenizer { get; init; }

    private protected SceneObjective Create<T>(SceneSetting setting, Func<T, VqModel> tokenizerOf, Func<T, CaptionReader, SceneObjective> make) where T : CaptionedImageModel => Create<T>(setting, (model, reader) =>
    {
        RecipeModels.TakeTokenizer(tokenizerOf(model), setting.Recipe.ResolveModel(Tokenizer));
        return make(model, reader);
    });
}

/// <summary>An autoregressive model over the tokens of a trained autoencoder (DALL-E: Ramesh et al. 2021, arXiv:2102.12092; Parti: Yu et al. 2022, arXiv:2206.10789): each by those before it and the caption.</summary>
public sealed record AutoregressiveOptions : TokenOptions
{
    public override SceneObjective Create(SceneSetting setting) => Create<TextToImageTransformer>(setting, static m => m.Vqvae, (model, reader) => new AutoregressiveTraining(model, reader, this, setting));
}

/// <inheritdoc cref="AutoregressiveOptions"/>
sealed class AutoregressiveTraining(TextToImageTransformer model, CaptionReader reader, AutoregressiveOptions options, SceneSetting setting) : CaptionedTraining<TextToImageTransformer>(model, reader, options, setting)
{
    readonly TextToImageTransformer model = model;

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        using var images = batch.Normalized([0, 0, 0], [1, 1, 1]);
        var tokens = model.Vqvae.Tokenize(images).flatten(1);
        var text = model.TextEncoder.Read(Reader.Ids(batch.Captions, options.CaptionDropout, random), null, 0, normalized: true).Tokens;
        var logits = model.Forward(text, tokens);
        using var exact = Autocast.To(ScalarType.Float32);
        return new Dictionary<string, Tensor> { ["loss"] = nn.functional.cross_entropy(logits.to(ScalarType.Float32).flatten(0, 1), tokens.flatten()) };
    }
}

/// <summary>
/// A model of masked tokens of a trained autoencoder (MaskGIT: Chang et al. 2022, arXiv:2202.04200; Muse: Chang et al. 2023, arXiv:2301.00704): a share of them that the cosine of a random angle tells is masked,
/// and told from the others and the caption.
/// </summary>
public sealed record MaskedTokensOptions : TokenOptions
{
    public override SceneObjective Create(SceneSetting setting) => Measures.TopK is null ? Create<TextToImageMasked>(setting, static m => m.Vqvae, (model, reader) => new MaskedTokensTraining(model, reader, this, setting))
        : throw new PanoptesException("measures.top_k does not go with masked tokens, of which the surest are kept.");
}

/// <inheritdoc cref="MaskedTokensOptions"/>
sealed class MaskedTokensTraining(TextToImageMasked model, CaptionReader reader, MaskedTokensOptions options, SceneSetting setting) : CaptionedTraining<TextToImageMasked>(model, reader, options, setting)
{
    readonly TextToImageMasked model = model;

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        using var images = batch.Normalized([0, 0, 0], [1, 1, 1]);
        var tokens = model.Vqvae.Tokenize(images);                                                 // [b, rows, columns]
        var (places, count) = (tokens.shape[1] * tokens.shape[2], tokens.shape[0]);
        // At least one of an image is masked: those whose random rank is below the share.
        var share = (rand(count, 1, generator: random) * (Math.PI / 2)).cos();
        var ranks = rand(count, places, generator: random).argsort(1).argsort(1);
        var masked = ranks.lt((share * places).ceil().clamp_min(1)).view(tokens.shape);
        var logits = model.Forward(Reader.Ids(batch.Captions, options.CaptionDropout, random), tokens.masked_fill(masked, model.Mask));
        using var exact = Autocast.To(ScalarType.Float32);
        var told = logits.to(ScalarType.Float32).permute(0, 2, 3, 1).flatten(0, 2);
        return new Dictionary<string, Tensor> { ["loss"] = nn.functional.cross_entropy(told, tokens.masked_fill(masked.logical_not(), -100).flatten(), ignore_index: -100) };
    }
}
