using Panoptes.Data;
using Panoptes.Native;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;

namespace Panoptes.Generation.Training;

/// <summary>
/// A generator against a discriminator (Goodfellow et al. 2014, arXiv:1406.2661) with the hinge loss (Lim and Ye 2017, arXiv:1705.02894), both of which see the caption; what the discriminator sees is augmented
/// in ways that gradients go through (Zhao et al. 2020, arXiv:2006.10738).
/// </summary>
public sealed record GanOptions : CaptionedOptions
{
    /// <summary>Channels of the discriminator's levels, the finest first; null: the generator's, the other way round.</summary>
    public int[]? Discriminator { get; init; }

    public override SceneObjective Create(SceneSetting setting) => Create<TextToImageGan>(setting, (model, reader) => new GanTraining(model, reader, this, setting));
}

/// <inheritdoc cref="GanOptions"/>
sealed class GanTraining : CaptionedTraining<TextToImageGan>
{
    readonly GanOptions options;

    public GanTraining(TextToImageGan model, CaptionReader reader, GanOptions options, SceneSetting setting) : base(model, reader, options, setting)
    {
        this.options = options;
        if (options.Discriminator?.Any(static c => c is < 1 or > 1 << 14) == true) throw new PanoptesException($"discriminator is [{string.Join(", ", options.Discriminator)}]; expected 1 to 16384 channels of each level.");
        Discriminator = new(options.Discriminator ?? [.. model.Config.BlockOutChannels.AsEnumerable().Reverse()], model.Config.TextConfig.HiddenSize);
        if (model.Config.BlockOutChannels.Length != (options.Discriminator?.Length ?? model.Config.BlockOutChannels.Length)) throw new PanoptesException($"The discriminator has {options.Discriminator!.Length} levels; expected as many as the generator, {model.Config.BlockOutChannels.Length}.");
        Discriminator.Initialize(setting.Generator);
    }

    public ProjectionDiscriminator Discriminator { get; }

    /// <remarks>Both are trained in one step, as <see cref="VqGan"/> does it: the generator gets the discriminator's gradient at its images, and the discriminator that of its own loss alone.</remarks>
    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var ids = Reader.Ids(batch.Captions, options.CaptionDropout, random);
        var caption = Model.TextEncoder.Encode(ids);
        var made = Model.Forward(randn(batch.Count, Model.Config.NoiseSize, generator: random), caption);
        var (shown, told) = (made.detach().requires_grad_(), caption.detach());
        var (real, fake) = (Judge(SignedPixels.Of(batch), told, random), Judge(shown, told, random));
        using var exact = Autocast.To(ScalarType.Float32);
        var wanted = -fake.mean();
        var gradient = autograd.grad([wanted], [shown], retain_graph: true)[0];
        var judged = 2 * VqGan.Hinge(real, fake);
        // The value is what the generator wants, the gradient reaches it alone.
        var passed = (made * gradient).sum();
        return new Dictionary<string, Tensor> { ["loss"] = passed - passed.detach() + wanted.detach() + judged, ["generator"] = wanted, ["discriminator"] = judged };
    }

    Tensor Judge(Tensor pixels, Tensor caption, Generator random) => Discriminator.Forward(DifferentiableAugmentation.Apply(pixels, random), caption).to(ScalarType.Float32);
}

/// <summary>Changes of color, place and holes, the same in kind for real and generated images (Zhao et al. 2020, arXiv:2006.10738): nothing that the generator could learn to imitate.</summary>
static class DifferentiableAugmentation
{
    /// <param name="pixels">[b, 3, side, side] from -1 to 1</param>
    /// <param name="random">Draws anew for every image.</param>
    public static Tensor Apply(Tensor pixels, Generator random)
    {
        using var scope = NewDisposeScope();
        var (count, side) = (pixels.shape[0], pixels.shape[2]);
        var x = pixels + Draw(count, random) - 0.5;                                                // brightness
        var gray = x.mean([1], keepdim: true);
        x = (x - gray) * (2 * Draw(count, random)) + gray;                                         // saturation
        var mean = x.mean([1, 2, 3], keepdim: true);
        x = (x - mean) * (Draw(count, random) + 0.5) + mean;                                       // contrast
        // Moved by up to an eighth, zeros coming in; and a hole of half the side.
        var (most, half) = (side / 8, side / 4);
        var (dy, dx) = (randint(-most, most + 1, [count, 1, 1], generator: random), randint(-most, most + 1, [count, 1, 1], generator: random));
        var (cy, cx) = (randint(0, side, [count, 1, 1], generator: random), randint(0, side, [count, 1, 1], generator: random));
        var (rows, columns) = (arange(side).view(1, -1, 1), arange(side).view(1, 1, -1));
        var (fromRow, fromColumn) = (rows + dy, columns + dx);
        var inside = fromRow.ge(0) & fromRow.lt(side) & fromColumn.ge(0) & fromColumn.lt(side);    // [b, side, side]
        var hole = (rows - cy).abs().lt(half) & (columns - cx).abs().lt(half);
        var at = (fromRow.clamp(0, side - 1) * side + fromColumn.clamp(0, side - 1)).flatten(1).unsqueeze(1).expand(-1, 3, -1);
        var moved = x.flatten(2).gather(2, at).view(x.shape);
        return (moved * (inside & hole.logical_not()).unsqueeze(1).to(moved.dtype)).MoveToOuterDisposeScope();

        static Tensor Draw(long count, Generator random) => rand(count, 1, 1, 1, generator: random);
    }
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
