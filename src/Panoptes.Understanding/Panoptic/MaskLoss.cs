using Panoptes.Nn;

namespace Panoptes.Understanding;

/// <summary>What is to be found in one image.</summary>
/// <param name="Classes">[n] int64</param>
/// <param name="Masks">[n, height, width], 0 or 1; where images of a batch were filled up, it is as large as the filled-up image or lies in its upper left corner.</param>
public sealed record MaskTarget(Tensor Classes, Tensor Masks)
{
    /// <summary>The segments of a label map, as the peer's processors cut it up; those without a pixel are left out.</summary>
    /// <param name="ids">Whose pixels are what.</param>
    /// <param name="classes">The class of each id that is to be found; other ids are nothing.</param>
    public static MaskTarget Of(LabelMap ids, IReadOnlyDictionary<int, int> classes)
    {
        using var scope = NewDisposeScope();
        var there = ids.Areas().Keys.Where(classes.ContainsKey).ToArray();
        var (map, wanted) = (tensor(ids.Labels, [1, ids.Height, ids.Width]), tensor(there, [there.Length, 1, 1]));
        return new(tensor(there.Select(i => (long)classes[i]).ToArray()).MoveToOuterDisposeScope(), map.eq(wanted).to(ScalarType.Float32).MoveToOuterDisposeScope());
    }
}

/// <summary>What the parts of matching and loss weigh, and how masks are compared, by the names of Mask2Former's config.json.</summary>
public sealed record MaskLossOptions
{
    public double ClassWeight { get; init; } = 2;

    public double MaskWeight { get; init; } = 5;

    public double DiceWeight { get; init; } = 5;

    /// <summary>What a query that should find nothing weighs in the cross-entropy.</summary>
    public double NoObjectWeight { get; init; } = 0.1;

    /// <summary>At how many points two masks are compared.</summary>
    public int Points { get; init; } = 12544;

    /// <summary>How many times as many are drawn, of which the most uncertain are taken.</summary>
    public double OversampleRatio { get; init; } = 3;

    /// <summary>Which share of the points is taken for being uncertain; the rest is drawn evenly.</summary>
    public double ImportanceSampleRatio { get; init; } = 0.75;
}

/// <summary>What it costs to match each query with each target, [queries, targets].</summary>
/// <param name="Class">-p(class)</param>
/// <param name="Mask">Cross-entropy, a mean over the points.</param>
/// <param name="Dice">1 - dice.</param>
/// <param name="Total">The weighted sum.</param>
public sealed record MaskCosts(Tensor Class, Tensor Mask, Tensor Dice, Tensor Total);

/// <summary>The parts of the loss, a scalar each.</summary>
/// <param name="Class">Weighted cross-entropy over all queries.</param>
/// <param name="Mask">Cross-entropy, a mean over the points and the targets.</param>
/// <param name="Dice">1 - dice, a mean over the targets.</param>
/// <param name="Total">The weighted sum.</param>
public sealed record MaskLosses(Tensor Class, Tensor Mask, Tensor Dice, Tensor Total);

/// <summary>
/// Set prediction of masks (Cheng et al. 2022, Mask2Former, arXiv:2112.01527, section 3.3): queries and targets are matched one to one at the least cost, and masks are compared at points only,
/// in the loss mostly where the prediction is unsure (Kirillov et al. 2020, PointRend, arXiv:1912.08193).
/// </summary>
public static class MaskLoss
{
    /// <summary>Values of maps at points, bilinearly; outside there are zeros, and the centers of pixels are at (i + 0.5) / size.</summary>
    /// <param name="maps">[n, height, width]</param>
    /// <param name="points">[n, points, 2], or [1, points, 2] for all maps; (x, y) in [0, 1]</param>
    /// <returns>[n, points]</returns>
    public static Tensor Sample(Tensor maps, Tensor points)
    {
        using var scope = NewDisposeScope();
        // The same points for all: maps are channels then.
        var shared = points.shape[0] == 1;
        var seen = nn.functional.grid_sample(maps.unsqueeze(shared ? 0 : 1), points.mul(2).sub(1).unsqueeze(2), GridSampleMode.Bilinear, GridSamplePaddingMode.Zeros, align_corners: false);
        return seen.flatten(0, 1).squeeze(-1).MoveToOuterDisposeScope();
    }

    /// <summary>What it costs to match the queries of an image with its targets; no gradient.</summary>
    /// <param name="classes">[queries, classes + 1] logits</param>
    /// <param name="masks">[queries, height, width] logits</param>
    /// <param name="target">Of this image.</param>
    /// <param name="points">[1, points, 2], (x, y) in [0, 1]: where masks are compared</param>
    /// <param name="options">Weights.</param>
    public static MaskCosts Costs(Tensor classes, Tensor masks, MaskTarget target, Tensor points, MaskLossOptions? options = null)
    {
        options ??= new();
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var logits = Sample(masks.detach().to(ScalarType.Float32), points);                       // [queries, points]
        var wanted = Sample(target.Masks.to(ScalarType.Float32), points);                         // [targets, points]
        var ofClass = -classes.detach().to(ScalarType.Float32).softmax(-1).index_select(-1, target.Classes);
        // -t log σ(x) - (1 - t) log σ(-x) is softplus(-x) + (1 - t) x.
        var ofMask = (nn.functional.softplus(-logits).sum(-1, keepdim: true) + logits.matmul((1 - wanted).t())) / (double)points.shape[1];
        var chance = logits.sigmoid();
        var ofDice = 1 - (2 * chance.matmul(wanted.t()) + 1) / (chance.sum(-1, keepdim: true) + wanted.sum(-1) + 1);
        var total = options.MaskWeight * ofMask + options.ClassWeight * ofClass + options.DiceWeight * ofDice;
        return new(ofClass.MoveToOuterDisposeScope(), ofMask.MoveToOuterDisposeScope(), ofDice.MoveToOuterDisposeScope(), total.MoveToOuterDisposeScope());
    }

    /// <summary>The cheapest matching of every image's queries (rows) with its targets (columns).</summary>
    /// <param name="predicted">For the batch.</param>
    /// <param name="targets">One an image.</param>
    /// <param name="options">Weights and the number of points.</param>
    /// <param name="generator">Draws the points; null: libtorch's own.</param>
    public static IReadOnlyList<Assignment> Match(MaskPrediction predicted, IReadOnlyList<MaskTarget> targets, MaskLossOptions? options = null, Generator? generator = null)
    {
        options ??= new();
        Check(predicted, targets);
        var matches = new Assignment[targets.Count];
        for (var i = 0; i < matches.Length; i++)
        {
            using var scope = NewDisposeScope();
            var points = rand([1, options.Points, 2], generator: generator).to(predicted.Masks.device);
            // What is not finite is matched last: a diverging model is no reason to stop.
            matches[i] = targets[i].Classes.shape[0] == 0 ? new([], [])
                : HungarianMatching.Assign(Costs(predicted.Classes[i], predicted.Masks[i], targets[i], points, options).Total.nan_to_num(float.MaxValue, float.MaxValue, float.MaxValue));
        }
        return matches;
    }

    /// <summary>Which of the candidates the prediction is least sure at, the least sure first.</summary>
    /// <param name="masks">[n, height, width] logits</param>
    /// <param name="candidates">[n, candidates, 2], (x, y) in [0, 1]</param>
    /// <param name="count">How many are wanted.</param>
    /// <returns>[n, count] int64</returns>
    public static Tensor Uncertain(Tensor masks, Tensor candidates, int count)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        return Sample(masks.detach(), candidates).abs().neg().topk(count, 1).indexes.MoveToOuterDisposeScope();
    }

    /// <summary>Where masks are compared in the loss: mostly where the prediction is unsure.</summary>
    /// <param name="masks">[n, height, width] logits</param>
    /// <param name="options">How many points.</param>
    /// <param name="generator">Draws; null: libtorch's own.</param>
    /// <returns>[n, points, 2], (x, y) in [0, 1]</returns>
    public static Tensor Points(Tensor masks, MaskLossOptions? options = null, Generator? generator = null)
    {
        options ??= new();
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var (n, unsure) = (masks.shape[0], (int)(options.ImportanceSampleRatio * options.Points));
        var candidates = rand([n, (long)(options.Points * options.OversampleRatio), 2], generator: generator).to(masks.device);
        var taken = candidates.gather(1, Uncertain(masks, candidates, unsure).unsqueeze(-1).expand(-1, -1, 2));
        return (unsure == options.Points ? taken : cat([taken, rand([n, options.Points - unsure, 2], generator: generator).to(masks.device)], 1)).MoveToOuterDisposeScope();
    }

    /// <summary>Cross-entropy of masks at points: a mean over the points, the sum over the masks divided by <paramref name="count"/>.</summary>
    /// <param name="logits">[n, points]</param>
    /// <param name="wanted">[n, points], from 0 to 1</param>
    /// <param name="count">How many masks there are to be found.</param>
    public static Tensor CrossEntropy(Tensor logits, Tensor wanted, double count)
    {
        using var scope = NewDisposeScope();
        return nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction: nn.Reduction.None).mean([1]).sum().div(count).MoveToOuterDisposeScope();
    }

    /// <summary>1 - dice of masks at points, both smoothed by 1, the sum divided by <paramref name="count"/>.</summary>
    /// <inheritdoc cref="CrossEntropy"/>
    public static Tensor Dice(Tensor logits, Tensor wanted, double count)
    {
        using var scope = NewDisposeScope();
        var chance = logits.sigmoid();
        return (1 - (2 * (chance * wanted).sum(-1) + 1) / (chance.sum(-1) + wanted.sum(-1) + 1)).sum().div(count).MoveToOuterDisposeScope();
    }

    /// <summary>The losses of one prediction.</summary>
    /// <param name="predicted">For the batch.</param>
    /// <param name="targets">One an image; the mean is over the targets of the whole batch.</param>
    /// <param name="options">Weights and points.</param>
    /// <param name="generator">Draws; null: libtorch's own.</param>
    /// <exception cref="PanoptesException">Shapes that do not fit each other.</exception>
    public static MaskLosses Of(MaskPrediction predicted, IReadOnlyList<MaskTarget> targets, MaskLossOptions? options = null, Generator? generator = null)
    {
        options ??= new();
        using var scope = NewDisposeScope();
        var matches = Match(predicted, targets, options, generator);
        var (queries, classes, device) = (predicted.Classes.shape[1], predicted.Classes.shape[2], predicted.Classes.device);
        var count = (double)Math.Max(1, targets.Sum(static t => t.Classes.shape[0]));
        // Rows of the flattened batch, and of all targets in order.
        var starts = new long[targets.Count];
        for (var i = 1; i < starts.Length; i++) starts[i] = starts[i - 1] + targets[i - 1].Classes.shape[0];
        var rows = tensor((long[])[.. matches.SelectMany((m, i) => m.Rows.Select(r => i * queries + r))]).to(device);
        var found = tensor((long[])[.. matches.SelectMany((m, i) => m.Columns.Select(c => starts[i] + c))]).to(device);

        var labels = full([targets.Count * queries], classes - 1, ScalarType.Int64, device).index_copy(0, rows, cat([.. targets.Select(static t => t.Classes)]).index_select(0, found));
        var weights = ones(classes, ScalarType.Float32, device);
        weights[-1] = (float)options.NoObjectWeight;
        var ofClass = nn.functional.cross_entropy(predicted.Classes.to(ScalarType.Float32).flatten(0, 1), labels, weights);

        var masks = predicted.Masks.to(ScalarType.Float32).flatten(0, 1).index_select(0, rows);
        Tensor ofMask, ofDice;
        if (rows.shape[0] == 0) (ofMask, ofDice) = (predicted.Masks.sum() * 0, predicted.Masks.sum() * 0);
        else
        {
            var points = Points(masks, options, generator);
            var wanted = Sample(Together(targets).to(device).index_select(0, found), points);
            var logits = Sample(masks, points);
            (ofMask, ofDice) = (CrossEntropy(logits, wanted, count), Dice(logits, wanted, count));
        }
        var total = options.ClassWeight * ofClass + options.MaskWeight * ofMask + options.DiceWeight * ofDice;
        return new(ofClass.MoveToOuterDisposeScope(), ofMask.MoveToOuterDisposeScope(), ofDice.MoveToOuterDisposeScope(), total.MoveToOuterDisposeScope());
    }

    /// <summary>The loss of several predictions together, each matched by itself.</summary>
    /// <returns>a scalar</returns>
    public static Tensor Total(IReadOnlyList<MaskPrediction> predictions, IReadOnlyList<MaskTarget> targets, MaskLossOptions? options = null, Generator? generator = null)
    {
        using var scope = NewDisposeScope();
        // The last first, as the peer draws its points.
        var losses = Enumerable.Range(0, predictions.Count).Select(i => Of(predictions[i == 0 ? ^1 : i - 1], targets, options, generator).Total).ToArray();
        return stack(losses).sum().MoveToOuterDisposeScope();
    }

    /// <summary>All targets' masks, those of smaller images filled up with zeros: [targets, height, width].</summary>
    static Tensor Together(IReadOnlyList<MaskTarget> targets)
    {
        var (height, width) = (targets.Max(static t => t.Masks.shape[1]), targets.Max(static t => t.Masks.shape[2]));
        return cat([.. targets.Select(t => nn.functional.pad(t.Masks.to(ScalarType.Float32), [0, width - t.Masks.shape[2], 0, height - t.Masks.shape[1]]))]);
    }

    static void Check(MaskPrediction predicted, IReadOnlyList<MaskTarget> targets)
    {
        if (predicted.Classes.shape[0] != targets.Count) throw new PanoptesException($"{targets.Count} targets were given for {predicted.Classes.shape[0]} images; expected one an image.");
        foreach (var t in targets)
            if (t.Masks.dim() != 3 || t.Classes.dim() != 1 || t.Masks.shape[0] != t.Classes.shape[0])
                throw new PanoptesException($"A target has classes [{string.Join(", ", t.Classes.shape)}] and masks [{string.Join(", ", t.Masks.shape)}]; expected [n] and [n, height, width].");
    }

    /// <summary>What the classes and "nothing" weigh, as the peers' files keep it: [classes + 1], not trained.</summary>
    internal static Parameter ClassWeights(int classes, double noObject) => new([classes + 1], (t, _) =>
    {
        t.fill_(1);
        t[-1] = (float)noObject;
    })
    { Trainable = false };
}
