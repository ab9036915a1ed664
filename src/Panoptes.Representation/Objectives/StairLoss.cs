namespace Panoptes.Representation.Objectives;

/// <summary>
/// STAIR (Chen et al. 2023, arXiv:2301.13081): images and texts as sparse, non-negative weights of the words of a vocabulary, so that every
/// dimension can be read. A contrast of inner products, and a price for dimensions that are used by many.
/// </summary>
public sealed class StairLoss(StairOptions options) : FeatureObjective
{
    public override IReadOnlyList<Feature> Needs { get; } = [Feature.Image(), Feature.Text()];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        var (image, whole) = (features[Feature.Image()], features[Feature.Text()]);
        var (text, step) = (whole, features.Input.Step);
        if (step < options.GroundedSteps)
        {
            // A text may only use its own tokens at first, so that every dimension comes to mean its token; the price of all others is paid from the start.
            var ids = features.Input.Ids[0];
            text = whole * zeros_like(whole).scatter_(1, ids, ones_like(ids).to(text.dtype));
        }
        // The price rises as the square of the step, so that nothing is switched off before it has been of use (SPLADE, Formal et al. 2021).
        var price = options.FlopsWarmupSteps == 0 ? 1 : Math.Pow(Math.Min(1, (double)step / options.FlopsWarmupSteps), 2);
        var loss = ContrastiveLoss.Of(new(image, text, features.Scale));
        return (loss + (Flops(image) * (price * options.ImageFlops)) + (Flops(whole) * (price * options.TextFlops))).MoveToOuterDisposeScope();
    }

    /// <summary>log(1 + relu(W h + b)), the largest over the tokens: [b, vocabulary].</summary>
    /// <param name="hidden">[b, tokens, width]</param>
    /// <param name="weight">[vocabulary, width]</param>
    /// <param name="bias">[vocabulary]</param>
    /// <param name="valid">[b, tokens], false (or 0) where padding; null: all count.</param>
    public static Tensor Embed(Tensor hidden, Tensor weight, Tensor bias, Tensor? valid = null)
    {
        using var scope = NewDisposeScope();
        if (valid is not null)
        {
            // Padding becomes a copy of a token that counts, which changes no maximum and costs less than to mask all words of the vocabulary.
            var mask = valid.to(ScalarType.Bool);
            var first = mask.to(ScalarType.Int32).argmax(-1).view(-1, 1, 1).expand(-1, 1, hidden.shape[2]);
            hidden = where(mask.unsqueeze(-1), hidden, hidden.gather(1, first));
        }
        // log(1 + relu(x)) never falls and the bias is every token's, so that the largest can be taken first.
        var largest = Native.TorchOps.Linear(hidden, weight, null).max(1).values;
        return nn.functional.relu(largest + bias).log1p().MoveToOuterDisposeScope();
    }

    /// <summary>The FLOPs regularizer (Paria et al. 2020, arXiv:2004.05665): the squares of every dimension's mean activation, summed.</summary>
    public static Tensor Flops(Tensor embeddings)
    {
        using var scope = NewDisposeScope();
        return embeddings.mean([0]).square().sum().MoveToOuterDisposeScope();
    }
}

/// <summary>STAIR in a recipe, for a <see cref="StairModel"/>.</summary>
public sealed record StairOptions : ObjectiveOptions
{
    /// <summary>The price of the images' dimensions that are at work.</summary>
    public double ImageFlops { get; init; } = 1e-3;

    /// <summary>The price of the texts' dimensions.</summary>
    public double TextFlops { get; init; } = 1e-3;

    /// <summary>Steps over which both prices rise from 0.</summary>
    public long FlopsWarmupSteps { get; init; }

    /// <summary>Steps in which a text's weights lie on its own tokens alone.</summary>
    public long GroundedSteps { get; init; }

    public override Objective Create(ObjectiveSetting setting)
    {
        if (setting.Towers.Model is not StairModel) throw new PanoptesException($"stair needs a StairModel; found a {setting.Towers.Model.GetType().Name}.");
        if (ImageFlops < 0 || TextFlops < 0 || FlopsWarmupSteps < 0 || GroundedSteps < 0) throw new PanoptesException("stair: prices and steps cannot be negative.");
        return new StairLoss(this);
    }
}
