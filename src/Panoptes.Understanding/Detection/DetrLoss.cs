namespace Panoptes.Understanding;

/// <summary>What is to be found in one image.</summary>
/// <param name="Labels">[n] int64</param>
/// <param name="Boxes">[n, 4]: center x, center y, width, height, as fractions of the image.</param>
/// <param name="Masks">[n, height, width], 0 or 1; or null.</param>
public sealed record DetectionTarget(Tensor Labels, Tensor Boxes, Tensor? Masks = null);

/// <summary>What a layer of a model of sets predicts for a batch.</summary>
/// <param name="Logits">[b, queries, classes + 1]; the last class is "nothing".</param>
/// <param name="Boxes">[b, queries, 4], as in <see cref="DetectionTarget"/>.</param>
/// <param name="Masks">[b, queries, height, width] logits, of any size; or null.</param>
public sealed record DetectionPrediction(Tensor Logits, Tensor Boxes, Tensor? Masks = null);

/// <summary>What the parts of matching and loss weigh, by the names of DETR's config.json.</summary>
public sealed record DetrLossOptions
{
    /// <summary>In matching: of the probability of the right class.</summary>
    public double ClassCost { get; init; } = 1;

    /// <summary>In matching: of the sum of absolute differences of a box.</summary>
    public double BboxCost { get; init; } = 5;

    /// <summary>In matching: of generalized IoU.</summary>
    public double GiouCost { get; init; } = 2;

    /// <summary>What a query that should find nothing weighs in the cross-entropy.</summary>
    public double EosCoefficient { get; init; } = 0.1;

    public double BboxLossCoefficient { get; init; } = 5;

    public double GiouLossCoefficient { get; init; } = 2;

    public double MaskLossCoefficient { get; init; } = 1;

    public double DiceLossCoefficient { get; init; } = 1;
}

/// <summary>The parts of the loss, a scalar each.</summary>
/// <param name="Classes">Weighted cross-entropy over all queries.</param>
/// <param name="Boxes">Absolute differences, summed over a box, a mean over the targets.</param>
/// <param name="Giou">1 - generalized IoU, a mean over the targets.</param>
/// <param name="CardinalityError">By how many things the count of an image is off, on average; no gradient.</param>
/// <param name="Mask">Focal loss of the masks, or null.</param>
/// <param name="Dice">Dice loss of the masks, or null.</param>
/// <param name="Total">The weighted sum.</param>
public sealed record DetrLosses(Tensor Classes, Tensor Boxes, Tensor Giou, Tensor CardinalityError, Tensor? Mask, Tensor? Dice, Tensor Total);

/// <summary>Set prediction (Carion et al. 2020, arXiv:2005.12872): predictions and targets are matched one to one at the least cost, and each is judged by its match.</summary>
public static class DetrLoss
{
    /// <summary>What it costs to match a query with a target: -p(class), the box's absolute differences and -generalized IoU, weighted.</summary>
    /// <returns>[b, queries, targets of all images in order]; no gradient</returns>
    public static Tensor Costs(DetectionPrediction predicted, IReadOnlyList<DetectionTarget> targets, DetrLossOptions? options = null)
    {
        options ??= new();
        Check(predicted, targets);
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var chances = predicted.Logits.detach().to(ScalarType.Float32).softmax(-1).index_select(-1, cat([.. targets.Select(static t => t.Labels)]));
        return (BoxCosts(predicted.Boxes, targets, options) - options.ClassCost * chances).MoveToOuterDisposeScope();
    }

    /// <summary>The boxes' part of the costs.</summary>
    internal static Tensor BoxCosts(Tensor predicted, IReadOnlyList<DetectionTarget> targets, DetrLossOptions options)
    {
        using var scope = NewDisposeScope();
        var (own, boxes) = (predicted.detach().to(ScalarType.Float32), cat([.. targets.Select(static t => t.Boxes)]));
        var distance = (own.unsqueeze(2) - boxes).abs().sum(-1);
        var overlap = Boxes.GeneralizedIou(Boxes.ToCorners(own), Boxes.ToCorners(boxes).unsqueeze(0));
        return (options.BboxCost * distance - options.GiouCost * overlap).MoveToOuterDisposeScope();
    }

    /// <summary>The cheapest matching of every image's queries (rows) with its targets (columns).</summary>
    public static IReadOnlyList<Assignment> Match(DetectionPrediction predicted, IReadOnlyList<DetectionTarget> targets, DetrLossOptions? options = null)
    {
        using var scope = NewDisposeScope();
        return Match(Costs(predicted, targets, options), targets);
    }

    /// <summary>The same by costs of any kind.</summary>
    /// <param name="costs">[b, queries, targets of all images in order]</param>
    /// <param name="targets">One an image.</param>
    public static IReadOnlyList<Assignment> Match(Tensor costs, IReadOnlyList<DetectionTarget> targets)
    {
        using var scope = NewDisposeScope();
        // What is not finite is matched last: a diverging model is no reason to stop.
        costs = costs.nan_to_num(float.MaxValue, float.MaxValue, float.MaxValue);
        var matches = new Assignment[targets.Count];
        for (var (i, start) = (0, 0L); i < matches.Length; start += targets[i].Labels.shape[0], i++)
            matches[i] = HungarianMatching.Assign(costs[i].narrow(1, start, targets[i].Labels.shape[0]));
        return matches;
    }

    /// <summary>The loss of every decoder layer together, each matched by itself; masks are judged in the last one alone.</summary>
    /// <param name="layers">From the first to the last.</param>
    /// <param name="targets">One an image.</param>
    /// <returns>a scalar</returns>
    public static Tensor Total(IReadOnlyList<DetectionPrediction> layers, IReadOnlyList<DetectionTarget> targets, DetrLossOptions? options = null)
    {
        using var scope = NewDisposeScope();
        var losses = layers.Select((layer, i) => Of(i < layers.Count - 1 ? layer with { Masks = null } : layer, targets, options).Total).ToArray();
        return stack(losses).sum().MoveToOuterDisposeScope();
    }

    /// <summary>The losses of one prediction.</summary>
    /// <param name="predicted">With masks, these are judged, too; every target must have some then.</param>
    /// <param name="targets">One an image.</param>
    /// <exception cref="PanoptesException">Shapes that do not fit each other.</exception>
    public static DetrLosses Of(DetectionPrediction predicted, IReadOnlyList<DetectionTarget> targets, DetrLossOptions? options = null)
    {
        options ??= new();
        using var scope = NewDisposeScope();
        var matches = Match(predicted, targets, options);
        var (queries, classes) = (predicted.Logits.shape[1], predicted.Logits.shape[2]);
        var count = Count(targets);
        var (rows, wanted) = Pairs(matches, targets, predicted.Logits);
        var all = full([targets.Count * queries], classes - 1, ScalarType.Int64, predicted.Logits.device);
        all = all.index_copy(0, rows, cat([.. targets.Select(static t => t.Labels)]).index_select(0, wanted));
        var weight = where(all.eq(classes - 1), (float)options.EosCoefficient, 1f);
        var surprise = predicted.Logits.to(ScalarType.Float32).flatten(0, 1).log_softmax(-1).gather(1, all.unsqueeze(1)).squeeze(1);
        var ofClasses = -(surprise * weight).sum() / weight.sum();

        var (ofBoxes, giou) = JudgeBoxes(predicted.Boxes, targets, rows, wanted);
        var total = ofClasses + options.BboxLossCoefficient * ofBoxes + options.GiouLossCoefficient * giou;

        var cardinality = Cardinality(predicted.Logits.detach().argmax(-1).ne(classes - 1), targets);
        Tensor? mask = null, dice = null;
        if (predicted.Masks is { } masks)
        {
            if (rows.numel() == 0) mask = dice = masks.sum() * 0;
            else
            {
                var drawn = Masks(targets).to(masks.device).index_select(0, wanted);
                var guessed = masks.to(ScalarType.Float32).flatten(0, 1).index_select(0, rows).unsqueeze(1);
                guessed = nn.functional.interpolate(guessed, [drawn.shape[1], drawn.shape[2]], mode: InterpolationMode.Bilinear, align_corners: false);
                mask = Focal(guessed.flatten(1), drawn.flatten(1)).sum() / count;
                dice = Dice(guessed.flatten(1), drawn.flatten(1)).sum() / count;
            }
            total = total + options.MaskLossCoefficient * mask + options.DiceLossCoefficient * dice;
        }
        return new(ofClasses.MoveToOuterDisposeScope(), ofBoxes.MoveToOuterDisposeScope(), giou.MoveToOuterDisposeScope(), cardinality.MoveToOuterDisposeScope(),
            mask?.MoveToOuterDisposeScope(), dice?.MoveToOuterDisposeScope(), total.MoveToOuterDisposeScope());
    }

    /// <summary>How many things there are in a batch, at least one.</summary>
    internal static double Count(IReadOnlyList<DetectionTarget> targets) => Math.Max(1, targets.Sum(static t => t.Labels.shape[0]));

    /// <summary>The matched rows of the flattened batch of queries, and of all targets in order.</summary>
    /// <param name="logits">[b, queries, ...]</param>
    internal static (Tensor Rows, Tensor Wanted) Pairs(IReadOnlyList<Assignment> matches, IReadOnlyList<DetectionTarget> targets, Tensor logits)
    {
        var starts = new long[targets.Count];
        for (var i = 1; i < starts.Length; i++) starts[i] = starts[i - 1] + targets[i - 1].Labels.shape[0];
        return (tensor((long[])[.. matches.SelectMany((m, i) => m.Rows.Select(r => i * logits.shape[1] + r))]).to(logits.device),
            tensor((long[])[.. matches.SelectMany((m, i) => m.Columns.Select(c => starts[i] + c))]).to(logits.device));
    }

    /// <summary>What matched boxes are off, as means over the targets.</summary>
    internal static (Tensor Boxes, Tensor Giou) JudgeBoxes(Tensor predicted, IReadOnlyList<DetectionTarget> targets, Tensor rows, Tensor wanted)
    {
        using var scope = NewDisposeScope();
        var own = predicted.to(ScalarType.Float32).flatten(0, 1).index_select(0, rows);
        var right = cat([.. targets.Select(static t => t.Boxes)]).index_select(0, wanted);
        var (off, apart) = ((own - right).abs().sum() / Count(targets), (1 - Boxes.GeneralizedIouOfPairs(Boxes.ToCorners(own), Boxes.ToCorners(right))).sum() / Count(targets));
        return (off.MoveToOuterDisposeScope(), apart.MoveToOuterDisposeScope());
    }

    /// <summary>By how many things the count of an image is off, on average.</summary>
    /// <param name="found">[b, queries] bool: which queries say that there is something.</param>
    internal static Tensor Cardinality(Tensor found, IReadOnlyList<DetectionTarget> targets)
    {
        using var scope = NewDisposeScope();
        return (found.sum(1).to(ScalarType.Float32) - tensor((float[])[.. targets.Select(static t => (float)t.Labels.shape[0])]).to(found.device)).abs().mean().MoveToOuterDisposeScope();
    }

    /// <summary>Focal loss (Lin et al. 2017, arXiv:1708.02002) of each row, a mean over its pixels: what is easy counts little.</summary>
    /// <param name="logits">[n, pixels]</param>
    /// <param name="masks">[n, pixels], 0 or 1</param>
    /// <param name="alpha">What a 1 weighs; a 0 weighs 1 - alpha.</param>
    /// <param name="gamma">How much less the easy counts.</param>
    /// <returns>[n]</returns>
    public static Tensor Focal(Tensor logits, Tensor masks, double alpha = 0.25, double gamma = 2)
    {
        using var scope = NewDisposeScope();
        return FocalEach(logits, masks, alpha, gamma).mean([1]).MoveToOuterDisposeScope();
    }

    /// <summary>The same of each number.</summary>
    internal static Tensor FocalEach(Tensor logits, Tensor masks, double alpha, double gamma)
    {
        using var scope = NewDisposeScope();
        var surprise = nn.functional.binary_cross_entropy_with_logits(logits, masks, reduction: nn.Reduction.None);
        var chance = logits.sigmoid();
        var missed = chance + masks - 2 * chance * masks;                              // 1 - the probability of what is right
        return (surprise * missed.pow(gamma) * (masks * (2 * alpha - 1) + (1 - alpha))).MoveToOuterDisposeScope();
    }

    /// <summary>1 - the Dice coefficient of each row (Milletari et al. 2016, arXiv:1606.04797), with 1 added to either side of the fraction.</summary>
    /// <inheritdoc cref="Focal"/>
    public static Tensor Dice(Tensor logits, Tensor masks)
    {
        using var scope = NewDisposeScope();
        var chance = logits.sigmoid();
        return (1 - ((chance * masks).sum(1) * 2 + 1) / (chance.sum(1) + masks.sum(1) + 1)).MoveToOuterDisposeScope();
    }

    /// <summary>The masks of all targets, filled up with zeros at the right and bottom to the largest: [targets, height, width].</summary>
    static Tensor Masks(IReadOnlyList<DetectionTarget> targets)
    {
        var all = targets.Select(static t => t.Masks ?? throw new PanoptesException("Masks were predicted, but a target has none; expected masks in every target.")).ToArray();
        var (height, width) = (all.Max(static m => m.shape[1]), all.Max(static m => m.shape[2]));
        return cat([.. all.Select(m => nn.functional.pad(m.to(ScalarType.Float32), [0, width - m.shape[2], 0, height - m.shape[1]]))]);
    }

    internal static void Check(DetectionPrediction predicted, IReadOnlyList<DetectionTarget> targets)
    {
        if (predicted.Logits.shape[0] != targets.Count) throw new PanoptesException($"{predicted.Logits.shape[0]} images were predicted and {targets.Count} targets given; expected one an image.");
        foreach (var target in targets)
            if (target.Labels.dim() != 1 || target.Boxes.dim() != 2 || target.Boxes.shape[0] != target.Labels.shape[0] || target.Boxes.shape[1] != 4 || (target.Masks is { } m && (m.dim() != 3 || m.shape[0] != target.Labels.shape[0])))
                throw new PanoptesException($"A target has labels [{string.Join(", ", target.Labels.shape)}] and boxes [{string.Join(", ", target.Boxes.shape)}]{(target.Masks is { } masks ? $" and masks [{string.Join(", ", masks.shape)}]" : "")}; expected [n], [n, 4] and [n, height, width].");
    }
}
