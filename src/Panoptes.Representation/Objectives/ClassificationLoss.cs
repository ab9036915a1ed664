namespace Panoptes.Representation.Objectives;

/// <summary>Plain supervision: the cross-entropy of a classifier's logits with the labels (Szegedy et al. 2016, arXiv:1512.00567, where these are smoothed).</summary>
public sealed class ClassificationLoss(ClassificationOptions options) : FeatureObjective
{
    public override IReadOnlyList<Feature> Needs { get; } = [Feature.ImagePooled()];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        var logits = ((ImageClassifier)features.Towers.Images).Classifier.Forward(features[Feature.ImagePooled()]);
        return Of(logits, features.Labels, options.LabelSmoothing).MoveToOuterDisposeScope();
    }

    /// <param name="logits">[b, classes]</param>
    /// <param name="labels">[b] int64; -1 where a sample has none and does not count.</param>
    /// <param name="smoothing">The share of every label that all classes have alike.</param>
    /// <returns>The mean over the labeled samples; 0 where there is none.</returns>
    public static Tensor Of(Tensor logits, Tensor labels, double smoothing = 0)
    {
        using var scope = NewDisposeScope();
        var (likelihoods, known) = (logits.log_softmax(1), labels.ge(0));
        var right = likelihoods.gather(1, labels.clamp(min: 0).unsqueeze(1)).squeeze(1);
        var each = (right * (1 - smoothing)) + (likelihoods.mean([1]) * smoothing);
        return (-(each * known).sum() / known.sum().clamp(min: 1)).MoveToOuterDisposeScope();
    }
}

/// <summary>Plain supervision in a recipe; the model must be a …ForImageClassification, which has the data's classes where its config names none.</summary>
public sealed record ClassificationOptions : ObjectiveOptions
{
    /// <summary>The share of every label that all classes have alike.</summary>
    public double LabelSmoothing { get; init; }

    public override Objective Create(ObjectiveSetting setting)
    {
        if (LabelSmoothing is not (>= 0 and < 1)) throw new PanoptesException($"classification: label_smoothing is {LabelSmoothing}; expected 0 to below 1.");
        if (setting.Towers.Images is not ImageClassifier classifier) throw new PanoptesException($"classification needs a model that tells classes apart, such as ViTForImageClassification; found a {setting.Towers.Model.GetType().Name}.");
        if (setting.Classes.Count == 0) throw new PanoptesException("classification needs data with labels.");
        if (classifier.Labels.Count != setting.Classes.Count) throw new PanoptesException($"The model tells {classifier.Labels.Count} classes apart, but the data have {setting.Classes.Count}; set num_labels to {setting.Classes.Count}, or leave it out.");
        return new ClassificationLoss(this);
    }
}
