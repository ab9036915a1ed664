namespace Panoptes.Understanding.Tests;

public sealed class OpenSegTests
{
    [Fact]
    public void A_labeled_mask_is_learned_by_the_proposal_that_overlaps_it_best_and_an_empty_one_by_none()
    {
        using var scope = NewDisposeScope();
        var logits = tensor((float[])[20, 20, -20, -20, -20, -20, 20, -20], [1, 2, 2, 2]).requires_grad_();
        var labels = tensor((float[])[1, 1, 0, 0, 0, 0, 0, 0], [1, 2, 2, 2]);
        var loss = OpenSeg.MaskLoss(logits, labels);
        Assert.Equal(0, loss.item<float>(), 4);
        var half = OpenSeg.MaskLoss(logits, tensor((float[])[0, 0, 1, 1], [1, 1, 2, 2]));
        Assert.Equal(1 - ((2.0 * 1) + 1) / (2 + 1 + 1), half.item<float>(), 4);
    }

    [Fact]
    public void A_caption_without_words_and_a_mask_without_pixels_give_numbers()
    {
        using var scope = NewDisposeScope();
        var regions = OpenSeg.Regions(zeros(2, 3, 4, 4), randn([2, 5, 4, 4], generator: new Generator(1)));
        var words = randn([2, 6, 5], generator: new Generator(2));
        var loss = OpenSeg.GroundingLoss(OpenSeg.Similarity(regions, words, zeros([2, 6], dtype: ScalarType.Bool)));
        Assert.True(float.IsFinite(loss.item<float>()));
    }
}
