using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Representation.Objectives;

namespace Panoptes.Representation.Evaluation;

/// <summary>How well images come back out of their tokens.</summary>
/// <param name="Psnr">10 log₁₀ (1 / mean squared error) of pixels from 0 to 1, the mean over images, in dB.</param>
/// <param name="Perplexity">As many tokens, used alike, would say as much (<see cref="VqVae.Perplexity"/>).</param>
/// <param name="CodesUsed">How many different tokens there are in these images.</param>
/// <param name="Examples">Some images and what came back.</param>
public sealed record ReconstructionReport(double Psnr, double Perplexity, int CodesUsed, IReadOnlyList<(Image Original, Image Reconstruction)> Examples)
{
    /// <summary>The examples, each row of images above what came back.</summary>
    /// <param name="title">What they are of.</param>
    /// <param name="tokens">How many tokens an image is.</param>
    public ContactSheet Sheet(string title, int tokens)
    {
        const int columns = 10;
        return new()
        {
            Title = title,
            Subtitle = string.Create(System.Globalization.CultureInfo.InvariantCulture, $"PSNR {Psnr:0.0} dB over the held-out style, perplexity {Perplexity:0}"),
            CellSize = 72,
            Columns = columns,
            Rows = [.. Examples.Chunk(columns).SelectMany(row => (SheetRow[])[new("Images", [.. row.Select(static e => new SheetCell(e.Original))]), new($"Out of {tokens} tokens each", [.. row.Select(static e => new SheetCell(e.Reconstruction))])])],
        };
    }
}

/// <summary>Images of the held-out style to tokens and back.</summary>
public static class ReconstructionEvaluation
{
    /// <param name="model">In inference mode.</param>
    /// <param name="processor">What prepares images for it.</param>
    /// <param name="set">Whose held-out style is looked at.</param>
    /// <param name="batchSize">Images at once.</param>
    /// <param name="examples">How many are kept, spread over the set.</param>
    /// <param name="progress">Is told how many are done.</param>
    /// <param name="cancel">Stops between batches.</param>
    public static ReconstructionReport Run(VqModel model, ImageProcessor processor, EmojiSet set, int batchSize = 128, int examples = 20, IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var images = EmojiEvaluation.HeldOutStyle(set);
        var (every, view) = (Math.Max(1, images.Length / examples), Renormalization.Undo(processor));
        var (counts, sum, shown) = (zeros(model.VocabularySize, dtype: ScalarType.Int64), 0.0, new List<(Image, Image)>());
        for (var start = 0; start < images.Length; start += batchSize)
        {
            using var inner = NewDisposeScope();
            cancel.ThrowIfCancellationRequested();
            var count = Math.Min(batchSize, images.Length - start);
            var pictures = new Image[count];
            Parallel.For(0, count, i => pictures[i] = ImageSource.Picture(set, images[start + i]));
            var pixels = view.Apply(processor.Process(pictures), model.ImageSize).clamp(0, 1);
            var tokens = model.Tokenize(pixels);
            var back = model.Picture(tokens).to(ScalarType.Float32);
            counts.add_(tokens.flatten().bincount(null, model.VocabularySize));
            sum += (-10 * (pixels - back).square().mean([1, 2, 3]).clamp(min: 1e-10).log10()).sum().item<float>();
            for (var i = 0; i < count; i++)
                if ((start + i) % every == 0 && shown.Count < examples) shown.Add((Picture(pixels[i]), Picture(back[i])));
            progress?.Report(new(start + count, images.Length));
        }
        return new(sum / images.Length, VqVae.Perplexity(counts), counts.gt(0).sum().ToInt32(), shown);
    }

    static Image Picture(Tensor pixels) => Image.FromTensor((pixels * 255).round().to(ScalarType.Byte));
}
