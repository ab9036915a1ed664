using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>
/// VQ-GAN (Esser et al. 2021, arXiv:2012.09841): VQ-VAE whose reconstructions also have to agree with the image in the features of a trained model, and to pass for images before a
/// discriminator of patches, which learns meanwhile to tell them apart.
/// </summary>
/// <remarks>
/// The discriminator is trained in the same step as the tokenizer, by an optimizer of the same kind and rate as in the public code, but from the reconstructions before that step where the public code
/// computes them again. It gets no gradient of what the tokenizer is told, nor the tokenizer of what it is told.
/// </remarks>
public sealed class VqGan : VqVae
{
    readonly VqGanOptions options;
    readonly PerceptualJudge? judge;

    /// <param name="model">What is trained.</param>
    /// <param name="judge">Whose features are compared; disposed with this object, and no part of what is trained and kept. Null: none.</param>
    /// <param name="options">The weights of the terms, and the discriminator.</param>
    public VqGan(VqModel model, PerceptualJudge? judge, VqGanOptions options) : base(model, options)
    {
        (this.judge, this.options) = (judge, options);
        Discriminator = new(model.Config.OutChannels, options.DiscriminatorWidth, options.DiscriminatorLayers);
    }

    public PatchDiscriminator Discriminator { get; }

    private protected override Tensor Reconstruction(Tensor pixels, Tensor decoded, long step)
    {
        using var scope = NewDisposeScope();
        var loss = Difference(pixels, decoded);
        if (judge is not null)
        {
            var perceptual = judge.Distance(pixels, decoded);
            Note("perceptual", perceptual.ToDouble());
            loss = loss + options.PerceptualWeight * perceptual;
        }
        return (step < options.DiscriminatorStart ? loss : loss + Adversarial(pixels, decoded, loss)).MoveToOuterDisposeScope();
    }

    /// <summary>What the tokenizer is told, weighted so that its gradient at the decoder's last layer is as long as that of <paramref name="loss"/> (times an option), and what the discriminator is.</summary>
    Tensor Adversarial(Tensor pixels, Tensor decoded, Tensor loss)
    {
        using var scope = NewDisposeScope();
        var last = Tokenizer.Decoder.ConvOut.Weight.Value;
        var shown = decoded.detach().requires_grad_();
        var (real, fake) = (Exact(Discriminator.Forward(pixels)), Exact(Discriminator.Forward(shown)));
        var told = -fake.mean();
        var gradient = autograd.grad([told], [shown], retain_graph: true)[0];
        var weight = options.DiscriminatorWeight * Balance(autograd.grad([loss], [last], retain_graph: true)[0], autograd.grad([decoded], [last], [gradient], retain_graph: true)[0]);
        var judged = Hinge(real, fake);
        Note("adversarial", told.ToDouble());
        Note("adversarial_weight", weight);
        Note("discriminator", judged.ToDouble());
        // The value is told's, the gradient reaches the tokenizer alone.
        var passed = (decoded * gradient).sum();
        return (weight * (passed - passed.detach() + told.detach()) + judged).MoveToOuterDisposeScope();
    }

    /// <summary>‖∇ reconstruction‖ / (‖∇ adversarial‖ + 10⁻⁴), at most 10⁴ (equation 7).</summary>
    public static double Balance(Tensor reconstruction, Tensor adversarial) => Math.Clamp(reconstruction.norm().ToDouble() / (adversarial.norm().ToDouble() + 1e-4), 0, 1e4);

    /// <summary>½ (mean max(0, 1 - real) + mean max(0, 1 + fake)): small where images are above 1 and reconstructions below -1.</summary>
    public static Tensor Hinge(Tensor real, Tensor fake)
    {
        using var scope = NewDisposeScope();
        return (0.5 * (nn.functional.relu(1 - real).mean() + nn.functional.relu(1 + fake).mean())).MoveToOuterDisposeScope();
    }

    /// <summary>½ (mean softplus(-real) + mean softplus(fake)): the logistic loss of the first GANs, for comparison.</summary>
    public static Tensor Vanilla(Tensor real, Tensor fake)
    {
        using var scope = NewDisposeScope();
        return (0.5 * (nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean())).MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) judge?.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>How far two images are in a model's features: at every place of every map, of length 1 over its channels, squared (LPIPS, Zhang et al. 2018, arXiv:1801.03924).</summary>
public static class PerceptualDistance
{
    const double Eps = 1e-10;

    /// <summary>The mean over places, summed over maps: [b].</summary>
    /// <param name="first">Maps [b, ...]</param>
    /// <param name="second">As many.</param>
    /// <param name="channels">Which dimension the channels are.</param>
    /// <param name="weights">Of every map's channels, as LPIPS learns them; null: 1.</param>
    public static Tensor Of(IReadOnlyList<Tensor> first, IReadOnlyList<Tensor> second, int channels, IReadOnlyList<Tensor>? weights = null)
    {
        using var scope = NewDisposeScope();
        var sum = zeros(first[0].shape[0]);
        for (var i = 0; i < first.Count; i++)
        {
            var difference = (Unit(first[i]) - Unit(second[i])).square();
            if (weights is not null) difference = difference * weights[i];
            sum = sum + difference.sum(channels).flatten(1).mean([1]);
        }
        return sum.MoveToOuterDisposeScope();

        Tensor Unit(Tensor map) => map / (map.norm(channels, keepdim: true) + Eps);
    }
}

/// <summary>
/// PatchGAN's discriminator (Isola et al. 2017, arXiv:1611.07004): every place of its last map judges a patch. Keys: main.N as in the public code, convolutions and batch norms.
/// </summary>
public sealed class PatchDiscriminator(int channels, int width, int layers) : Module
{
    public PatchDiscriminatorLayers Main { get; } = new(channels, width, layers);

    /// <param name="images">[b, channels, height, width]</param>
    /// <returns>[b, 1, rows, columns]: high where it takes the patch for an image's</returns>
    public Tensor Forward(Tensor images) => Main.Forward(images);
}

/// <summary>The layers of a <see cref="PatchDiscriminator"/>: each but the last two halves the map. Keys: 0, then 2 and 3, 5 and 6, …</summary>
public sealed class PatchDiscriminatorLayers : Module
{
    static readonly Initializer Convolution = Init.Normal(0.02), Norm = Init.Normal(0.02, mean: 1);

    readonly Conv2d[] convolutions;
    readonly BatchNorm[] norms;

    internal PatchDiscriminatorLayers(int channels, int width, int layers)
    {
        int[] widths = [channels, .. Enumerable.Range(0, layers + 1).Select(i => width * (1 << Math.Min(i, 3))), 1];
        convolutions = [.. Enumerable.Range(0, layers + 2).Select(i => new Conv2d(widths[i], widths[i + 1], 4, i < layers ? 2 : 1, padding: 1, bias: i == 0 || i == layers + 1, Convolution))];
        norms = [.. widths[2..^1].Select(static w => new BatchNorm(w, weight: Norm))];
    }

    internal Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        for (var i = 0; i < convolutions.Length; i++)
        {
            x = convolutions[i].Forward(x);
            if (i > 0 && i <= norms.Length) x = norms[i - 1].Forward(x);
            if (i < convolutions.Length - 1) x = nn.functional.leaky_relu(x, 0.2);
        }
        return x.MoveToOuterDisposeScope();
    }

    protected override IEnumerable<(string Key, object? Child)> Children()
    {
        for (var i = 0; i < convolutions.Length; i++)
        {
            var index = i == 0 ? 0 : 3 * i - 1;                                      // a norm and an activation stand between
            yield return (index.ToString(System.Globalization.CultureInfo.InvariantCulture), convolutions[i]);
            if (i > 0 && i <= norms.Length) yield return ((index + 1).ToString(System.Globalization.CultureInfo.InvariantCulture), norms[i - 1]);
        }
    }
}

/// <summary>VQ-GAN in a recipe; what is trained must be a VQModel.</summary>
public sealed record VqGanOptions : VqVaeOptions
{
    /// <summary>The model whose features are compared, such as zoo/clip-emoji (a folder, a file or a hub id); the published ones compare those of a VGG. Null: none.</summary>
    public string? Perceptual { get; init; }

    public double PerceptualWeight { get; init; } = 1;

    /// <summary>How much the discriminator counts beside the reconstruction.</summary>
    public double DiscriminatorWeight { get; init; } = 0.8;

    /// <summary>The step from which there is a discriminator: before that, reconstructions are told apart too easily.</summary>
    public long DiscriminatorStart { get; init; }

    /// <summary>Channels of its first layer.</summary>
    public int DiscriminatorWidth { get; init; } = 64;

    /// <summary>How often it halves the image.</summary>
    public int DiscriminatorLayers { get; init; } = 3;

    private protected override Objective Make(VqModel model, ObjectiveSetting setting)
    {
        if (DiscriminatorLayers is < 1 or > 8 || DiscriminatorWidth is < 1 or > 4096) throw new PanoptesException($"{Name}: discriminator_layers is {DiscriminatorLayers} and discriminator_width {DiscriminatorWidth}; expected 1 to 8 layers of 1 to 4096 channels.");
        if (model.ImageSize >> DiscriminatorLayers < 3) throw new PanoptesException($"{Name}: a discriminator of {DiscriminatorLayers} layers leaves nothing of images of {model.ImageSize} pixels; make discriminator_layers fewer.");
        if (PerceptualWeight < 0 || DiscriminatorWeight < 0) throw new PanoptesException($"{Name}: perceptual_weight is {PerceptualWeight} and discriminator_weight {DiscriminatorWeight}; expected 0 or more.");
        return new VqGan(model, Perceptual is null ? null : PerceptualJudge.Load(ModelFolder.Resolve(Perceptual), other => Renormalization.Between(setting.Processor, other)), this);
    }
}
