using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>
/// OpenSeg's parts (Ghiasi et al. 2022, arXiv:2112.12143): masks proposed without knowing classes, the pooled features of what they cover, and the alignment of
/// regions with the words of captions, by which the regions learn what they are called.
/// </summary>
public static class OpenSeg
{
    /// <summary>Mask proposals: which places belong to what a query stands for.</summary>
    /// <param name="queries">[b, queries, width]</param>
    /// <param name="features">[b, width, height, width]</param>
    /// <returns>[b, queries, height, width] from 0 to 1</returns>
    public static Tensor Masks(Tensor queries, Tensor features)
    {
        using var scope = NewDisposeScope();
        return MaskLogits(queries, features).sigmoid().MoveToOuterDisposeScope();
    }

    /// <summary>The same before the sigmoid, for losses.</summary>
    /// <inheritdoc cref="Masks" path="/param"/>
    public static Tensor MaskLogits(Tensor queries, Tensor features)
    {
        using var scope = NewDisposeScope();
        return queries.matmul(features.flatten(2)).unflatten(2, [features.shape[2], features.shape[3]]).MoveToOuterDisposeScope();
    }

    /// <summary>The mean of the pixels' embeddings under each mask.</summary>
    /// <param name="masks">[b, regions, height, width] from 0 to 1</param>
    /// <param name="pixels">[b, embedding, height, width]</param>
    /// <param name="epsilon">What is added to a mask's area.</param>
    /// <returns>[b, regions, embedding]</returns>
    public static Tensor Regions(Tensor masks, Tensor pixels, double epsilon = 1e-6)
    {
        using var scope = NewDisposeScope();
        var flat = masks.flatten(2);                                                            // [b, regions, places]
        return (flat.matmul(pixels.flatten(2).transpose(1, 2)) / (flat.sum(-1, keepdim: true) + epsilon)).MoveToOuterDisposeScope();
    }

    /// <summary>How well images and captions go together: every word looks for its regions, and a caption has the mean of its words.</summary>
    /// <param name="regions">[images, regions, embedding], normalized here</param>
    /// <param name="words">[captions, words, embedding], normalized here</param>
    /// <param name="wordMask">[captions, words], false where padding</param>
    /// <param name="tau">The temperature by which a word chooses among regions.</param>
    /// <returns>[images, captions]; 0 for a caption without words</returns>
    public static Tensor Similarity(Tensor regions, Tensor words, Tensor wordMask, double tau = 0.1)
    {
        using var scope = NewDisposeScope();
        var (images, captions, count) = (regions.shape[0], words.shape[0], words.shape[1]);
        var cosines = Unit(regions).matmul(Unit(words).flatten(0, 1).t()).transpose(1, 2).view(images, captions, count, -1);        // [images, captions, words, regions]
        var perWord = (cosines.div(tau).softmax(-1) * cosines).sum(-1);
        var mask = wordMask.to(perWord.dtype);
        return ((perWord * mask).sum(-1) / mask.sum(-1).clamp(min: 1)).MoveToOuterDisposeScope();
    }

    /// <summary>The grounding loss: every image picks its caption, every caption its image; the sum of both cross-entropies.</summary>
    /// <param name="similarity">[b, b] of <see cref="Similarity"/></param>
    /// <param name="tau">The temperature of the choice.</param>
    /// <returns>A scalar with its gradient.</returns>
    public static Tensor GroundingLoss(Tensor similarity, double tau = 0.1)
    {
        using var scope = NewDisposeScope();
        var logits = similarity / tau;
        return (logits.logsumexp(1).mean() + logits.logsumexp(0).mean() - 2 * logits.diagonal().mean()).MoveToOuterDisposeScope();
    }

    /// <summary>The classes of pixels by their regions': each mask times its region's cosine with each class, summed.</summary>
    /// <param name="masks">[b, regions, height, width] from 0 to 1</param>
    /// <param name="regions">[b, regions, embedding], normalized here</param>
    /// <param name="classes">[classes, embedding], normalized here</param>
    /// <returns>[b, classes, height, width]</returns>
    public static Tensor Segment(Tensor masks, Tensor regions, Tensor classes)
    {
        using var scope = NewDisposeScope();
        var scores = Unit(classes).matmul(Unit(regions).transpose(1, 2));                       // [b, classes, regions]
        return scores.matmul(masks.flatten(2)).unflatten(2, [masks.shape[2], masks.shape[3]]).MoveToOuterDisposeScope();
    }

    /// <summary>x / ‖x‖; a vector of zeros stays one.</summary>
    static Tensor Unit(Tensor x) => x / x.norm(-1, keepdim: true).clamp(min: 1e-12);

    /// <summary>
    /// The loss of class-agnostic masks: every labeled mask is learned by the proposal that overlaps it best (Dice), and proposals are pushed apart by nothing else, since
    /// there is no class that a superfluous one could be punished by.
    /// </summary>
    /// <param name="logits">[b, queries, height, width] of <see cref="MaskLogits"/></param>
    /// <param name="labels">[b, labels, height, width], 0 or 1; an empty mask counts for nothing</param>
    /// <returns>1 - Dice, the mean over the labels that are there; a scalar with its gradient.</returns>
    public static Tensor MaskLoss(Tensor logits, Tensor labels)
    {
        using var scope = NewDisposeScope();
        var (masks, targets) = (logits.sigmoid().flatten(2), labels.to(logits.dtype).flatten(2));
        var shared = targets.matmul(masks.transpose(1, 2));                                     // [b, labels, queries]
        var dice = (2 * shared + 1) / (targets.sum(-1).unsqueeze(-1) + masks.sum(-1).unsqueeze(1) + 1);
        var there = targets.amax([2]).gt(0).to(logits.dtype);                                   // [b, labels]
        return (((1 - dice.amax([2])) * there).sum() / there.sum().clamp(min: 1)).MoveToOuterDisposeScope();
    }
}
