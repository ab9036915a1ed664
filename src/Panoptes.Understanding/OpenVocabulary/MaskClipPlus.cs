using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>
/// MaskCLIP+ (Zhou et al. 2022, arXiv:2112.01071, section 3.3): MaskCLIP's labels of images that nobody labeled train a segmenter (<see cref="DenseClipModel"/>); when it has become better than its teacher, it goes on with
/// labels of its own (self-training).
/// </summary>
public static class MaskClipPlus
{
    /// <summary>What is no label: the loss leaves such places out.</summary>
    public const long Ignored = -100;

    /// <summary>The teacher's labels, without gradients.</summary>
    /// <param name="teacher">A frozen CLIP (<see cref="MaskClip.Features"/>).</param>
    /// <param name="pixels">[b, 3, height, width], as the teacher wants them</param>
    /// <param name="texts">[classes, embedding] of the teacher's, normalized</param>
    /// <param name="options">Denoising and smoothing.</param>
    /// <param name="least">Places whose largest (smoothed) share of the probability is below this are <see cref="Ignored"/>.</param>
    /// <returns>[b, rows, columns] int64</returns>
    public static Tensor Labels(DualEncoder teacher, Tensor pixels, Tensor texts, MaskClipOptions? options = null, double least = 0)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Labels(MaskClip.Label(MaskClip.Features(teacher, pixels), texts, options).clamp_(min: 0), least).MoveToOuterDisposeScope();
    }

    /// <summary>The labels of a segmenter itself, without gradients.</summary>
    /// <param name="logits">[b, classes, rows, columns]</param>
    /// <param name="least">Places whose largest probability is below this are <see cref="Ignored"/>.</param>
    /// <returns>[b, rows, columns] int64</returns>
    public static Tensor OwnLabels(Tensor logits, double least = 0)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Labels(logits.detach().softmax(1), least).MoveToOuterDisposeScope();
    }

    /// <summary>The mean cross-entropy over the places that have a label; labels of another size are enlarged without mixing them.</summary>
    /// <param name="logits">[b, classes, height, width]</param>
    /// <param name="labels">[b, rows, columns] int64</param>
    /// <returns>A scalar with its gradient; 0 where nothing has a label.</returns>
    public static Tensor Loss(Tensor logits, Tensor labels)
    {
        using var scope = NewDisposeScope();
        if (labels.shape[1] != logits.shape[2] || labels.shape[2] != logits.shape[3])
            labels = nn.functional.interpolate(labels.unsqueeze(1).to(ScalarType.Float32), logits.shape[2..], mode: InterpolationMode.Nearest).squeeze(1).to(ScalarType.Int64);
        var there = labels.ne(Ignored);
        var picked = logits.log_softmax(1).gather(1, labels.clamp(min: 0).unsqueeze(1)).squeeze(1);
        return (picked * there).sum().div(there.sum().clamp(min: 1)).neg().MoveToOuterDisposeScope();
    }

    static Tensor Labels(Tensor scores, double least)
    {
        var (largest, label) = scores.max(1);
        return least <= 0 ? label : label.masked_fill(largest.div(scores.sum(1).clamp(min: 1e-12)).lt(least), Ignored);
    }
}
