namespace Panoptes.Representation.Objectives;

/// <summary>The two halves of the normalized temperature-scaled cross-entropy, whose mean is the loss.</summary>
public sealed record NtXentLosses(Tensor First, Tensor Second);

/// <summary>
/// SimCLR (Chen et al. 2020, arXiv:2002.05709): two views of an image find each other among all views of the batch, behind a projection
/// head. Beside CLIP's loss on a third view this is SLIP (Mu et al. 2022, arXiv:2112.12750).
/// </summary>
public sealed class SimClrLoss(int width, SimClrOptions options) : FeatureObjective
{
    public ProjectionHead Head { get; } = new([width, options.HiddenSize, options.HiddenSize, options.ProjectionSize]);

    public override IReadOnlyList<Feature> Needs { get; } = [Feature.ImagePooled(options.FirstView), Feature.ImagePooled(options.FirstView + 1)];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        // Each view is normalized by its own statistics: one pass for both would let a sample's views meet in them.
        var losses = Losses(Head.Forward(features[Needs[0]]), Head.Forward(features[Needs[1]]), options.Temperature);
        return ((losses.First + losses.Second) / 2).MoveToOuterDisposeScope();
    }

    /// <param name="first">[b, d], of any length</param>
    /// <param name="second">[b, d]</param>
    /// <param name="temperature">What cosines are divided by.</param>
    public static NtXentLosses Losses(Tensor first, Tensor second, double temperature)
    {
        using var scope = NewDisposeScope();
        var (a, b) = (nn.functional.normalize(first, dim: -1), nn.functional.normalize(second, dim: -1));
        var count = a.shape[0];
        var itself = eye(count, dtype: a.dtype, device: a.device) * 1e9;
        var across = a.matmul(b.t()) / temperature;
        var (withinA, withinB) = ((a.matmul(a.t()) / temperature) - itself, (b.matmul(b.t()) / temperature) - itself);
        var right = across.diagonal().mean();
        var lossA = cat([across, withinA], 1).logsumexp(1).mean() - right;
        var lossB = cat([across.t(), withinB], 1).logsumexp(1).mean() - right;
        return new(lossA.MoveToOuterDisposeScope(), lossB.MoveToOuterDisposeScope());
    }
}

/// <summary>SimCLR in a recipe: alone, or beside <c>contrastive</c> as SLIP.</summary>
public sealed record SimClrOptions : ObjectiveOptions
{
    /// <summary>What cosines are divided by.</summary>
    public double Temperature { get; init; } = 0.1;

    /// <summary>The width of the projection head's two hidden layers (4096 in SLIP).</summary>
    public int HiddenSize { get; init; } = 512;

    /// <summary>The size of the space that views are compared in.</summary>
    public int ProjectionSize { get; init; } = 128;

    /// <summary>The first of the two views: 1 leaves view 0 to the other objectives (SLIP), 0 shares it.</summary>
    public int FirstView { get; init; } = 1;

    public override Objective Create(ObjectiveSetting setting)
    {
        if (Temperature <= 0) throw new PanoptesException($"simclr: temperature is {Temperature}; expected above 0.");
        if (HiddenSize < 1 || ProjectionSize < 1) throw new PanoptesException($"simclr: hidden_size is {HiddenSize} and projection_size {ProjectionSize}; expected 1 or more.");
        if (FirstView is < 0 or > 8) throw new PanoptesException($"simclr: first_view is {FirstView}; expected 0 to 8.");
        return new SimClrLoss(setting.Towers.Images.PooledSize, this);
    }
}
