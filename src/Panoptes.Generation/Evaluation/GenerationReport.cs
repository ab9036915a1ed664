using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>What images that were made of captions are like, beside the pictures that the captions are of, by a model's embeddings, brought to a root mean square of 1.</summary>
/// <param name="Images">How many were compared.</param>
/// <param name="Frechet">FID's distance (<see cref="GenerationScores.Frechet"/>); it shrinks with more images, so it is compared for as many alone.</param>
/// <param name="Kernel">KID's distance (<see cref="GenerationScores.Kernel"/>), which does not.</param>
/// <param name="Precision">The share of images that look like any of the pictures (<see cref="ManifoldScores"/>).</param>
/// <param name="Recall">The share of pictures that look like any of the images.</param>
/// <param name="Clip">100 times the mean cosine of images with their captions.</param>
/// <param name="ClipReal">The same of the pictures.</param>
public sealed record GenerationReport(int Images, double Frechet, double Kernel, double Precision, double Recall, double Clip, double ClipReal)
{
    /// <summary>Compares images with the pictures of the same captions.</summary>
    /// <param name="judge">Embeds images and texts.</param>
    /// <param name="real">The pictures, more than three.</param>
    /// <param name="made">As many images.</param>
    /// <param name="captions">As many captions.</param>
    /// <exception cref="PanoptesException">Different numbers of them, or too few.</exception>
    public static GenerationReport Of(Clip judge, IReadOnlyList<Image> real, IReadOnlyList<Image> made, IReadOnlyList<string> captions)
    {
        if (real.Count != made.Count || made.Count != captions.Count) throw new PanoptesException($"{made.Count} images of {captions.Count} captions were to be compared with {real.Count} pictures; expected as many of each.");
        using var scope = NewDisposeScope();
        var (x, y, texts) = (judge.EmbedImages(real), judge.EmbedImages(made), judge.EmbedTexts(captions));
        if (!(x.isfinite().all() & y.isfinite().all() & texts.isfinite().all()).item<bool>()) throw new PanoptesException("The model that compares images gave numbers that are not finite: its weights are damaged.");
        // The distances are meant for features of about unit size each, not for vectors of length 1.
        var size = Math.Sqrt(x.shape[1]);
        (x, y) = (x * size, y * size);
        var manifold = ManifoldScores.Of(x, y);
        return new(made.Count, GenerationScores.Frechet(x, y), GenerationScores.Kernel(x, y), manifold.Precision, manifold.Recall, GenerationScores.Clip(y, texts).mean().item<double>(), GenerationScores.Clip(x, texts).mean().item<double>());
    }
}
