namespace Panoptes.Representation.Objectives;

/// <summary>The parts of <see cref="NclipLoss"/>.</summary>
/// <param name="CrossEntropy">Between an image's distribution and its text's, both ways.</param>
/// <param name="Entropy">Of the distributions: small when they are sharp.</param>
/// <param name="MeanEntropy">Of the batch's mean distribution: large when all of the dimensions are used.</param>
/// <param name="Total">The weighted sum.</param>
public sealed record NclipLosses(Tensor CrossEntropy, Tensor Entropy, Tensor MeanEntropy, Tensor Total);

/// <summary>
/// nCLIP (Zhou et al. 2023, arXiv:2210.09304): without negatives, an image and its text agree on a distribution over many dimensions behind a
/// projection; sharpness keeps it decided, smoothness over the batch keeps it from being always the same. With CLIP's loss it is xCLIP.
/// </summary>
public sealed class NclipLoss(int imageWidth, int textWidth, NclipOptions options) : FeatureObjective
{
    public ProjectionHead ImageHead { get; } = new([imageWidth, options.HiddenSize, options.Dimensions]);

    public ProjectionHead TextHead { get; } = new([textWidth, options.HiddenSize, options.Dimensions]);

    public override IReadOnlyList<Feature> Needs { get; } = [Feature.Image(), Feature.Text()];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        return Losses(ImageHead.Forward(features[Feature.Image()]), TextHead.Forward(features[Feature.Text()]), options.Temperature, options.Sharpness, options.Smoothness)
            .Total.MoveToOuterDisposeScope();
    }

    /// <param name="images">[b, dimensions], unscaled</param>
    /// <param name="texts">[b, dimensions]</param>
    public static NclipLosses Losses(Tensor images, Tensor texts, double temperature, double sharpness, double smoothness)
    {
        using var scope = NewDisposeScope();
        var (logU, logV) = ((images / temperature).log_softmax(-1), (texts / temperature).log_softmax(-1));
        var (u, v) = (logU.exp(), logV.exp());
        var cross = ((u * logV).sum(-1).mean() + (v * logU).sum(-1).mean()) / -2;
        var entropy = ((u * logU).sum(-1).mean() + (v * logV).sum(-1).mean()) / -2;
        var mean = (EntropyOf(u.mean([0])) + EntropyOf(v.mean([0]))) / 2;
        var total = cross + (entropy * sharpness) - (mean * smoothness);
        return new(cross.MoveToOuterDisposeScope(), entropy.MoveToOuterDisposeScope(), mean.MoveToOuterDisposeScope(), total.MoveToOuterDisposeScope());

        static Tensor EntropyOf(Tensor p) => -(p * p.clamp(min: 1e-12).log()).sum();
    }
}

/// <summary>nCLIP in a recipe; beside <c>contrastive</c> it is xCLIP.</summary>
public sealed record NclipOptions : ObjectiveOptions
{
    /// <summary>The size of the distributions (32768 in the paper).</summary>
    public int Dimensions { get; init; } = 1024;

    public int HiddenSize { get; init; } = 512;

    public double Temperature { get; init; } = 1;

    /// <summary>The weight of the distributions' entropy.</summary>
    public double Sharpness { get; init; } = 0.5;

    /// <summary>The weight of the mean distribution's entropy.</summary>
    public double Smoothness { get; init; } = 1;

    public override Objective Create(ObjectiveSetting setting)
    {
        if (Dimensions < 2 || HiddenSize < 1) throw new PanoptesException($"nclip: dimensions is {Dimensions} and hidden_size {HiddenSize}; expected 2 or more and 1 or more.");
        if (Temperature <= 0) throw new PanoptesException($"nclip: temperature is {Temperature}; expected above 0.");
        var texts = setting.Towers.Texts ?? throw new PanoptesException("nclip needs a text tower.");
        return new NclipLoss(setting.Towers.Images.EmbeddingSize, texts.EmbeddingSize, this);
    }
}
