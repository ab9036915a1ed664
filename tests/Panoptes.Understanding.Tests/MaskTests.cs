namespace Panoptes.Understanding.Tests;

public sealed class MaskTests
{
    static readonly MaskLossOptions Few = new() { Points = 40 };

    static Tensor Halves()
    {
        // The left and the right half of 8 x 8.
        var masks = zeros(2, 8, 8);
        masks[0].narrow(1, 0, 4).fill_(1);
        masks[1].narrow(1, 4, 4).fill_(1);
        return masks;
    }

    [Fact]
    public void Queries_that_say_what_is_there_are_matched_with_it_and_lose_little()
    {
        using var scope = NewDisposeScope();
        var halves = Halves();
        var masks = stack([halves[1] * 40 - 20, full([8, 8], -20f), halves[0] * 40 - 20]).unsqueeze(0);
        var classes = full([1, 3, 3], -20f);
        (classes[0, 0, 0], classes[0, 1, 2], classes[0, 2, 1]) = (20, 20, 20);
        MaskTarget[] targets = [new(tensor(new long[] { 1, 0 }), halves)];
        var match = Assert.Single(MaskLoss.Match(new(classes, masks), targets, Few, new Generator(1)));
        Assert.Equal([0, 2], match.Rows);
        Assert.Equal([1, 0], match.Columns);
        // Points between pixels of both halves and at the edges are neither, so that a little is lost.
        Assert.InRange(MaskLoss.Of(new(classes, masks), targets, Few, new Generator(1)).Total.item<float>(), 0, 15);
        var wrong = MaskLoss.Of(new(classes.roll([1], [2]), masks), targets, Few, new Generator(1));
        Assert.True(wrong.Class.item<float>() > 20);
    }

    [Fact]
    public void Images_with_nothing_to_be_found_teach_that_alone()
    {
        using var scope = NewDisposeScope();
        var (classes, masks) = (randn([1, 3, 4], generator: new Generator(1)).requires_grad_(), randn([1, 3, 8, 8], generator: new Generator(2)).requires_grad_());
        var losses = MaskLoss.Of(new(classes, masks), [new(zeros(0, dtype: ScalarType.Int64), zeros(0, 8, 8))], Few);
        losses.Total.backward();
        Assert.Equal(0, losses.Mask.item<float>());
        Assert.True(classes.grad!.abs().sum().item<float>() > 0);
        Assert.Equal(0, masks.grad!.abs().sum().item<float>());
    }

    [Fact]
    public void Points_are_drawn_where_a_mask_is_unsure_and_the_same_seed_draws_the_same()
    {
        using var scope = NewDisposeScope();
        // Sure everywhere but in the middle columns.
        var mask = full([1, 1, 8], 9f);
        mask[0, 0, 3] = 0.01f;
        mask[0, 0, 4] = -0.01f;
        var points = MaskLoss.Points(mask, Few with { ImportanceSampleRatio = 1, OversampleRatio = 6 }, new Generator(3));
        Assert.Equal([1, 40, 2], points.shape);
        Assert.All(points.select(-1, 0).flatten().data<float>().ToArray(), static x => Assert.InRange(x, 0.2f, 0.8f));
        Assert.True(points.allclose(MaskLoss.Points(mask, Few with { ImportanceSampleRatio = 1, OversampleRatio = 6 }, new Generator(3))));
    }

    [Fact]
    public void A_label_map_becomes_the_masks_and_classes_of_its_segments()
    {
        using var scope = NewDisposeScope();
        var target = MaskTarget.Of(new(3, 2, [7, 7, 0, 2, 7, 9]), new Dictionary<int, int> { [7] = 1, [2] = 4, [5] = 3 });
        Assert.Equal([4, 1], target.Classes.data<long>().ToArray());
        Assert.Equal([2, 2, 3], target.Masks.shape);
        Assert.Equal([0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0], target.Masks.flatten().data<float>().ToArray());
    }

    [Fact]
    public void One_labeled_image_teaches_OneFormer_three_tasks()
    {
        using var scope = NewDisposeScope();
        // Two cats (1, 2), a sky in two parts (3, 4), and something without a class.
        var ids = new LabelMap(3, 2, [1, 2, 3, 4, 4, 9]);
        var classes = new Dictionary<int, int> { [1] = 1, [2] = 1, [3] = 0, [4] = 0, [5] = 1 };
        OneFormerLesson Lesson(SegmentationTask task) => OneFormerLesson.Of(task, ids, classes, ["sky", "cat"], new HashSet<int> { 1 }, 4);

        var semantic = Lesson(SegmentationTask.Semantic);
        Assert.Equal("the task is semantic", semantic.Task);
        Assert.Equal(["a photo with a sky", "a photo with a cat", "a semantic photo", "a semantic photo"], semantic.Texts);
        Assert.Equal([0, 1], semantic.Target.Classes.data<long>().ToArray());
        Assert.Equal([3, 2], semantic.Target.Masks.flatten(1).sum(1).data<float>().ToArray());
        var instance = Lesson(SegmentationTask.Instance);
        Assert.Equal(["a photo with a cat", "a photo with a cat", "an instance photo", "an instance photo"], instance.Texts);
        Assert.Equal([1, 1], instance.Target.Masks.flatten(1).sum(1).data<float>().ToArray());
        var panoptic = Lesson(SegmentationTask.Panoptic);
        Assert.Equal(["a photo with a sky", "a photo with a sky", "a photo with a cat", "a photo with a cat"], panoptic.Texts);
        Assert.Equal([1, 1, 0, 0], panoptic.Target.Classes.data<long>().ToArray());
        Assert.Equal("A segment is of class 7; expected 0 to 1.", Assert.Throws<PanoptesException>(() =>
            OneFormerLesson.Of(SegmentationTask.Panoptic, ids, new Dictionary<int, int> { [1] = 7 }, ["sky", "cat"], new HashSet<int>(), 4)).Message);
    }

    [Fact]
    public void Targets_that_do_not_fit_are_refused_with_one_sentence()
    {
        using var scope = NewDisposeScope();
        var predicted = new MaskPrediction(zeros(1, 3, 4), zeros(1, 3, 8, 8));
        Assert.Equal("0 targets were given for 1 images; expected one an image.", Assert.Throws<PanoptesException>(() => MaskLoss.Of(predicted, [])).Message);
        Assert.Contains("expected [n] and [n, height, width]", Assert.Throws<PanoptesException>(() => MaskLoss.Of(predicted, [new(zeros(2, dtype: ScalarType.Int64), zeros(3, 8, 8))])).Message, StringComparison.Ordinal);
    }

    /// <summary>Three queries over bands of the image; the first and the last are one class.</summary>
    static (Tensor Classes, Tensor Masks) Bands()
    {
        var masks = full([3, 12, 12], -6f);
        for (var i = 0; i < 3; i++) masks[i].narrow(0, 4 * i, 4).fill_(6);
        var classes = zeros(3, 3);
        (classes[0, 0], classes[1, 1], classes[2, 0]) = (6, 6, 6);
        return (classes, masks);
    }

    [Fact]
    public void Segments_of_fused_classes_are_one_and_ids_stay_apart_unless_the_peer_is_followed()
    {
        using var scope = NewDisposeScope();
        var (classes, masks) = Bands();
        // A fourth query of another class below the fused ones: the peer counts on from the fused id.
        masks = cat([masks, full([1, 12, 12], -6f)]);
        masks[2].narrow(0, 10, 2).fill_(-6);
        masks[3].narrow(0, 10, 2).fill_(6);
        classes = cat([classes, tensor(new float[] { 0, 6, 0 }).unsqueeze(0)]);
        var apart = SegmentationOutput.Panoptic(classes, masks, 12, 12, new() { Fused = new HashSet<int> { 0 } });
        Assert.Equal([1, 2, 1, 3], apart.Segments.Select(static s => s.Id));
        Assert.Equal([1, 2, 3], apart.Ids.Areas().Keys.Where(static k => k > 0));
        var peer = SegmentationOutput.Panoptic(classes, masks, 12, 12, new() { Fused = new HashSet<int> { 0 }, RepeatedIds = true });
        Assert.Equal([1, 2, 1, 2], peer.Segments.Select(static s => s.Id));
    }

    [Fact]
    public void Large_images_are_computed_in_parts_with_the_same_results()
    {
        using var scope = NewDisposeScope();
        var (classes, masks) = (randn([6, 4], generator: new Generator(1)) * 3, randn([6, 9, 7], generator: new Generator(2)) * 3);
        var options = new SegmentationOptions { Threshold = 0.3, MaskThreshold = 0.2, OverlapThreshold = 0.1 };
        var (semantic, panoptic) = Both();
        var before = SegmentationOutput.Portion;
        try
        {
            SegmentationOutput.Portion = 2 * 40 * 50;
            var (inParts, sharedInParts) = Both();
            Assert.Equal(semantic.Labels, inParts.Labels);
            Assert.Equal(panoptic.Ids.Labels, sharedInParts.Ids.Labels);
            Assert.Equal(panoptic.Segments, sharedInParts.Segments);
        }
        finally
        {
            SegmentationOutput.Portion = before;
        }

        (LabelMap, PanopticSegmentation) Both() => (SegmentationOutput.Semantic(SegmentationOutput.ClassScores(classes, masks), 40, 50), SegmentationOutput.Panoptic(classes, masks, 40, 50, options));
    }

    [Fact]
    public void Where_nothing_is_sure_enough_there_is_no_segment()
    {
        using var scope = NewDisposeScope();
        var (classes, masks) = Bands();
        var none = SegmentationOutput.Panoptic(classes.zero_(), masks, 5, 4);
        Assert.Empty(none.Segments);
        Assert.Equal(new int[20], none.Ids.Labels);
        var things = SegmentationOutput.Instances(classes, masks, 5, 4);
        Assert.Empty(things.Segments);
        Assert.All(things.Ids.Labels, static i => Assert.Equal(-1, i));
    }
}
