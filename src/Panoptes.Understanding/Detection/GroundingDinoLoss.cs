namespace Panoptes.Understanding;

/// <summary>
/// Set prediction by words (Grounding DINO, arXiv:2303.05499): as DETR's, but that a thing's class is a phrase of the text, and a query is judged by every token of it. A target's labels are the
/// numbers of its phrases.
/// </summary>
public static class GroundingDinoLoss
{
    /// <summary>Which tokens each phrase of each text has: [phrases, tokens] float32 of 0 and 1 for every text.</summary>
    /// <param name="ids">[b, tokens] int64: phrases end with a full stop, a question mark, or the text.</param>
    /// <param name="columns">How wide the rows are made, at least as many as there are tokens.</param>
    public static IReadOnlyList<Tensor> Phrases(Tensor ids, int columns)
    {
        var (batch, length) = ((int)ids.shape[0], (int)ids.shape[1]);
        var values = ids.cpu().contiguous().data<long>().ToArray();
        var all = new Tensor[batch];
        for (var b = 0; b < batch; b++)
        {
            var (rows, open) = (new List<float[]>(), false);
            for (var i = 0; i < length; i++)
            {
                var id = values[b * length + i];
                if (id == 0 || PhraseMasks.IsEnd(id)) open = false;
                else
                {
                    if (!open) rows.Add(new float[columns]);
                    (rows[^1][i], open) = (1, true);
                }
            }
            all[b] = tensor(rows.SelectMany(static r => r).ToArray(), [rows.Count, columns]).to(ids.device);
        }
        return all;
    }

    /// <summary>What it costs to match a query with a target: focal over the phrase's tokens, the box's absolute differences and -generalized IoU, weighted.</summary>
    /// <param name="predicted">Logits are likenesses to tokens, [b, queries, tokens].</param>
    /// <param name="targets">One an image.</param>
    /// <param name="phrases">Of <see cref="Phrases"/>.</param>
    /// <returns>[b, queries, targets of all images in order]; no gradient</returns>
    /// <exception cref="PanoptesException">A label is no phrase.</exception>
    public static Tensor Costs(DetectionPrediction predicted, IReadOnlyList<DetectionTarget> targets, IReadOnlyList<Tensor> phrases, DetrLossOptions? options = null)
    {
        options ??= new();
        DetrLoss.Check(predicted, targets);
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var wanted = Wanted(targets, phrases);
        var chance = predicted.Logits.detach().to(ScalarType.Float32).sigmoid();
        var (right, wrong) = ((1 - chance).square() * -(chance + 1e-8).log() * 0.25, chance.square() * -(1 - chance + 1e-8).log() * 0.75);
        var named = (right - wrong).matmul((wanted / wanted.sum(-1, keepdim: true)).t());
        return (DetrLoss.BoxCosts(predicted.Boxes, targets, options) + options.ClassCost * named).MoveToOuterDisposeScope();
    }

    /// <summary>The losses of one prediction; "classes" is the focal loss of every token of every query, summed, a mean over the targets, which weighs twice.</summary>
    /// <param name="real">[b, tokens] bool: which tokens are the text's.</param>
    /// <param name="alpha">Of the focal loss: what a right token weighs.</param>
    /// <inheritdoc cref="Costs"/>
    public static DetrLosses Of(DetectionPrediction predicted, IReadOnlyList<DetectionTarget> targets, IReadOnlyList<Tensor> phrases, Tensor real, DetrLossOptions? options = null, double alpha = 0.25)
    {
        options ??= new();
        using var scope = NewDisposeScope();
        var (rows, wanted) = DetrLoss.Pairs(DetrLoss.Match(Costs(predicted, targets, phrases, options), targets), targets, predicted.Logits);
        var logits = predicted.Logits.to(ScalarType.Float32).flatten(0, 1);                       // [b · queries, tokens]
        var tokens = zeros_like(logits).index_copy(0, rows, Wanted(targets, phrases).index_select(0, wanted));
        var judged = real.unsqueeze(1).expand(-1, predicted.Logits.shape[1], -1).flatten(0, 1);
        // What is not judged may be minus infinity.
        var ofClasses = (DetrLoss.FocalEach(logits.masked_fill(judged.logical_not(), 0), tokens, alpha, 2) * judged).sum() / DetrLoss.Count(targets);
        var (ofBoxes, giou) = DetrLoss.JudgeBoxes(predicted.Boxes, targets, rows, wanted);
        var cardinality = DetrLoss.Cardinality(predicted.Logits.detach().amax([-1]).gt(0), targets);
        var total = 2 * ofClasses + options.BboxLossCoefficient * ofBoxes + options.GiouLossCoefficient * giou;
        return new(ofClasses.MoveToOuterDisposeScope(), ofBoxes.MoveToOuterDisposeScope(), giou.MoveToOuterDisposeScope(), cardinality.MoveToOuterDisposeScope(), null, null, total.MoveToOuterDisposeScope());
    }

    /// <summary>The tokens of every target's phrase: [targets of all images, tokens].</summary>
    static Tensor Wanted(IReadOnlyList<DetectionTarget> targets, IReadOnlyList<Tensor> phrases)
    {
        for (var i = 0; i < targets.Count; i++)
            if (targets[i].Labels.numel() > 0 && targets[i].Labels.max().item<long>() is var last && (last >= phrases[i].shape[0] || targets[i].Labels.min().item<long>() < 0))
                throw new PanoptesException($"A target has the label {last}, but its text has {phrases[i].shape[0]} phrases.");
        return cat([.. targets.Select((t, i) => phrases[i].index_select(0, t.Labels))]);
    }
}
