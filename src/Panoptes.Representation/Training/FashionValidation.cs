using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Evaluation;
using Panoptes.Text;

namespace Panoptes.Representation.Training;

/// <summary>What a recipe measures on Fashion-MNIST while a model is trained.</summary>
/// <param name="Set">All of it: trained on or not, its training images are what neighbors come from.</param>
/// <param name="Measures">Neighbors and classes, in order; the first decides which model is the best.</param>
sealed record FashionValidation(FashionMnist Set, IReadOnlyList<RecipeMeasure> Measures)
{
    const int Batch = 250;

    /// <summary>k-NN is asked of some of the images, since it is a glance in between; `panoptes evaluate` takes them all.</summary>
    const int Known = 4000, Asked = 2000;

    /// <summary>The number that the best model goes by.</summary>
    internal string Monitor => Measures[0] == RecipeMeasure.Classes ? "classes" : "knn_classes";

    /// <summary>All measures of a model; a <see cref="ModelValidation"/>.</summary>
    internal IReadOnlyDictionary<string, double> Measure(Module model, ImageProcessor processor, Tokenizer? tokenizer, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var found = new Dictionary<string, double>();
        foreach (var measure in Measures.Distinct())
        {
            if (measure == RecipeMeasure.Classes) found["classes"] = ClassAccuracy.Of((ImageClassifier)model, processor, Source(Set.Test), Batch, progress, cancel);
            else found["knn_classes"] = ImageEvaluation.Neighbors(model, processor, Some(Set.Test, Asked), Some(Set.Train, Known), Batch, progress: progress, cancel: cancel);
        }
        return found;

        static ImageSource Some(LabeledImages images, int count) => Source(images.Select(images.Balanced(Math.Min(count, images.Count))));

        static ImageSource Source(LabeledImages images) => ImageSource.Of(images, FashionMnist.Classes, "Fashion-MNIST");
    }
}
