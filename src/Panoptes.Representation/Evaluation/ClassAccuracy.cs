using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Representation.Evaluation;

/// <summary>How often a classifier is right, for validation while it is trained.</summary>
static class ClassAccuracy
{
    /// <param name="model">In evaluation mode meanwhile, and as it was afterwards.</param>
    /// <param name="processor">Prepares its images.</param>
    /// <param name="test">Images of its classes.</param>
    /// <param name="batch">Images at once.</param>
    /// <returns>The share of the images whose class has the highest logit.</returns>
    internal static double Of(ImageClassifier model, ImageProcessor processor, ImageSource test, int batch, IProgress<EvaluationProgress>? progress, CancellationToken cancel) =>
        EmojiEvaluation.Evaluating(model, () =>
        {
            using var scope = NewDisposeScope();
            var encoder = new BatchEncoder(Towers.Of(model), processor, null, batch);
            var parts = new PartialProgress(progress, test.Count);
            using var noGrad = no_grad();
            var logits = model.Classifier.Forward(encoder.Features(test.Count, test.Load, parts.Part(test.Count), cancel));
            return Classification.OfScores(logits, test.Labels, test.Classes, cancel).Top1;
        });
}
