using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>The two tasks of <see cref="MofiLoss"/>.</summary>
public sealed record MofiLosses(Tensor Classification, Tensor Contrastive);

/// <summary>
/// MOFI (Wu et al. 2023, arXiv:2306.07952): images annotated with entities that were mined from their texts, wrongly at times, are
/// classified among all entities by cosine with a margin, and contrasted with their texts.
/// </summary>
public sealed class MofiLoss(int entities, int embedding, MofiOptions options) : FeatureObjective
{
    /// <summary>One vector an entity: [entities, embedding].</summary>
    public Parameter Entities { get; } = new([entities, embedding], Init.Normal(1 / Math.Sqrt(embedding)));

    public override IReadOnlyList<Feature> Needs { get; } = [Feature.Image(), Feature.Text()];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        var losses = Losses(features.Pair, Entities, features.Labels, options.Margin, options.Temperature);
        return ((losses.Classification * options.ClassificationWeight) + (losses.Contrastive * options.ContrastiveWeight)).MoveToOuterDisposeScope();
    }

    /// <param name="pair">The features, of length 1.</param>
    /// <param name="entities">[entities, d], of any length</param>
    /// <param name="labels">[b] int64; -1 where no entity was found, which counts for the contrast alone.</param>
    /// <param name="margin">Taken from the right entity's cosine, so that it has to win by as much.</param>
    /// <param name="temperature">What cosines are divided by for the classification.</param>
    public static MofiLosses Losses(PairFeatures pair, Tensor entities, Tensor labels, double margin, double temperature)
    {
        using var scope = NewDisposeScope();
        var cosines = pair.Image.matmul(nn.functional.normalize(entities, dim: -1).t());
        var known = labels.ge(0);
        var right = nn.functional.one_hot(labels.clamp(min: 0), entities.shape[0]).to(cosines.dtype) * known.unsqueeze(1);
        var logits = (cosines - (right * margin)) / temperature;
        var each = (logits.logsumexp(1) - (logits * right).sum(1)) * known;
        return new((each.sum() / known.sum().clamp(min: 1)).MoveToOuterDisposeScope(), ContrastiveLoss.Of(pair).MoveToOuterDisposeScope());
    }
}

/// <summary>MOFI in a recipe; the labels are the entities.</summary>
public sealed record MofiOptions : ObjectiveOptions
{
    public double ClassificationWeight { get; init; } = 0.5;

    public double ContrastiveWeight { get; init; } = 0.5;

    /// <summary>Taken from the right entity's cosine.</summary>
    public double Margin { get; init; } = 0.2;

    /// <summary>What cosines are divided by for the classification.</summary>
    public double Temperature { get; init; } = 0.05;

    public override Objective Create(ObjectiveSetting setting)
    {
        if (Temperature <= 0) throw new PanoptesException($"mofi: temperature is {Temperature}; expected above 0.");
        if (setting.Classes.Count < 2) throw new PanoptesException("mofi needs data with labels, which are its entities.");
        return new MofiLoss(setting.Classes.Count, setting.Towers.Images.EmbeddingSize, this);
    }
}
