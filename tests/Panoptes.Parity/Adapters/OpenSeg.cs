using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>OpenSeg's mask pooling and word-region grounding, with the gradients of all that they are given.</summary>
sealed class OpenSegAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "OpenSeg";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var grad = enable_grad();
        var (tau, epsilon) = (c.Arguments.GetProperty("tau").GetDouble(), c.Arguments.GetProperty("epsilon").GetDouble());
        var leaves = new[] { "mask_queries", "mask_features", "pixel_embeddings", "word_embeddings" }.ToDictionary(static n => n, n => c.Input(n).clone().requires_grad_());
        var masks = OpenSeg.Masks(leaves["mask_queries"], leaves["mask_features"]);
        var regions = OpenSeg.Regions(masks, leaves["pixel_embeddings"], epsilon);
        var similarity = OpenSeg.Similarity(regions, leaves["word_embeddings"], c.Input("word_mask"), tau);
        var loss = OpenSeg.GroundingLoss(similarity, tau);
        var dense = OpenSeg.Segment(masks, regions, c.Input("class_embeddings"));
        (Weighted(loss) + Weighted(dense)).backward();
        yield return ("masks", masks.detach());
        yield return ("region_embeddings", regions.detach());
        yield return ("image_caption_similarity", similarity.detach());
        yield return ("loss", loss.detach());
        yield return ("segmentation_logits", dense.detach());
        foreach (var (name, leaf) in leaves) yield return ($"grad.{name}", leaf.grad!);

        static Tensor Weighted(Tensor output) => (output.flatten() * arange(output.numel(), dtype: ScalarType.Float32).mul(0.7).add(0.3).cos()).sum();
    }
}
