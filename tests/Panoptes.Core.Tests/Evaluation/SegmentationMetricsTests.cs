using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Evaluation;

public sealed class SegmentationMetricsTests
{
    [Theory]
    [InlineData("metric-miou")]
    [InlineData("metric-panoptic-quality")]
    [InlineData("metric-coco-ap")]
    [InlineData("metric-keypoints")]
    [InlineData("metric-clicks")]
    [InlineData("metric-referring")]
    [InlineData("mask-geometry")]
    [InlineData("metric-language")]
    [InlineData("metric-fid")]
    public void Measures_are_the_reference_s(string name) => Goldens.Check($"segmentation/{name}");

    [Fact]
    public void Classes_that_there_are_not_are_refused()
    {
        var scores = new SegmentationScores(2, 255);
        Assert.Throws<PanoptesException>(() => scores.Add([0, 1], [0]));
        Assert.Throws<PanoptesException>(() => scores.Add([0], [2]));
        Assert.Throws<PanoptesException>(() => scores.Add([-1], [0]));
        scores.Add([255, 1], [7, 1]);                                                                // what does not count may be told anything
        Assert.Equal([null, 1.0], scores.Iou);
        Assert.Equal((1.0, 1.0, 1.0), (scores.MeanIou, scores.PixelAccuracy, scores.MeanAccuracy));
    }

    [Fact]
    public void Segments_that_are_not_among_the_pixels_are_missed_or_refused()
    {
        var quality = new PanopticQuality([new(1, true), new(2, false)]);
        quality.Add([1, 1, 0, 0], [new(1, 1), new(7, 2)], [3, 3, 3, 0], [new(3, 1)]);                 // pixels without a label cost nothing
        Assert.Equal((new PanopticScore(1, 1, 1), 1, 0, 0), quality.Of(1));
        Assert.Equal((new PanopticScore(0, 0, 0), 0, 0, 1), quality.Of(2));
        Assert.Equal(0.5, quality.Mean().Quality);
        Assert.Throws<PanoptesException>(() => quality.Add([5], [], [0], []));
        Assert.Throws<PanoptesException>(() => quality.Add([0], [], [0], [new(4, 1)]));
        Assert.Throws<PanoptesException>(() => quality.Add([1], [new(1, 9)], [0], []));
        Assert.Throws<PanoptesException>(() => quality.Add([1], [new(1, 1), new(1, 1)], [0], []));
    }

    [Theory]
    [InlineData("couldnt've gone", "couldn't've gone")]
    [InlineData("its", "its")]
    [InlineData("  A\tTwo-tone  ", "2 tone")]
    [InlineData("", "")]
    public void Answers_are_compared_in_one_spelling(string answer, string expected) => Assert.Equal(expected, VqaAccuracy.Normalize(answer));

    [Fact]
    public void Distributions_of_too_few_images_are_refused_and_those_that_do_not_span_their_space_are_measured()
    {
        using var scope = NewDisposeScope();
        var few = randn([3, 9], generator: new Generator(1));                                         // a covariance of rank 2
        Assert.InRange(GenerationScores.Frechet(few, few), -1e-5, 1e-5);
        Assert.Equal(9.0, GenerationScores.Frechet(few, few + 1), 1e-4);
        Assert.Throws<PanoptesException>(() => GenerationScores.Frechet(few.narrow(0, 0, 1), few));
        Assert.Throws<PanoptesException>(() => GenerationScores.Kernel(few, few.narrow(1, 0, 3)));
        Assert.Equal(1.0, GenerationScores.Inception(full([5, 4], 0.25)), 1e-12);
        var before = LiveTensors.Settle();
        GenerationScores.Frechet(few, few);
        GenerationScores.Kernel(few, few);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Where_nothing_is_labeled_there_is_no_precision()
    {
        var box = new DetectedRegion(0, 0, 10, 10);
        Assert.All(DetectionScores.Of([], [new(1, 1, box, 0.5)], [1]).Summary, static s => Assert.Null(s));
        var found = DetectionScores.Of([new(1, 1, box, 100)], [new(1, 1, box, 0.5), new(2, 1, box, 0.9)], [1, 2]);
        Assert.Equal(0.5, found.Ap!.Value, 1e-12);                                                    // the surer one is wrong
        Assert.Equal((1.0, null), (found.Ar(1), found.ApOf(2)));
        Assert.Throws<PanoptesException>(() => DetectionScores.Of([new(1, 1, box, 100)], [new(1, 1, box, 0.5)], [1], masks: true));
        Assert.Throws<PanoptesException>(() => found.Ar(7));
    }

    [Fact]
    public void Every_click_of_the_user_is_in_the_middle_of_what_is_wrong_and_a_model_that_learns_ends_it()
    {
        byte[] label = [.. Enumerable.Range(0, 20 * 30).Select(static i => (byte)(i / 30 is >= 4 and < 15 && i % 30 is >= 10 and < 21 ? 1 : 0))];
        var seen = new List<Click>();
        var ious = ClickScores.Run(label, 20, 30, clicks =>
        {
            seen = [.. clicks];
            return clicks.Count < 3 ? [.. label.Select((v, i) => (byte)(i / 30 < 4 ? 1 : v))] : label;
        });
        Assert.Equal([new(15, 9, true), new(1, 1, false), new(2, 1, false)], seen);                   // the first pixels that are two away from both edges
        Assert.Equal([121.0 / 241, 121.0 / 241, 1], ious);
        var scores = new ClickScores();
        scores.Add(ious);
        scores.Add([0.95]);
        Assert.Equal((2.0, 0, 6.0, 1), (scores.NumberOfClicks(), scores.Failures(), new ClickScores().With([0.5, 0.6]).NumberOfClicks(0.9, 6), new ClickScores().With([0.5]).Failures()));
        Assert.Equal([(ious[0] + 0.95) / 2, (ious[0] + 0.95) / 2, 0.975, 0.975], scores.Curve(4));
        Assert.Null(new ClickSimulator(label, 20, 30).Next(label));
        Assert.Throws<PanoptesException>(() => ClickScores.Run(new byte[4], 2, 2, static _ => []));
        Assert.Throws<PanoptesException>(() => new ClickSimulator(label, 20, 31));
        Assert.Throws<PanoptesException>(() => new ClickSimulator(label, 20, 30).Next([1]));
        Assert.Throws<PanoptesException>(() => scores.Add([]));
    }

    [Fact]
    public void Expressions_that_mean_nothing_count_by_whether_nothing_was_told()
    {
        var scores = new ReferringScores();
        Assert.Equal((0.0, 0.0, 0.0), (scores.CumulativeIou, scores.MeanIou, scores.Precision(0.5)));
        scores.Add([0, 0, 0, 0], [0, 0, 0, 0]);
        scores.Add([1, 0, 0, 0], [0, 0, 0, 0]);
        scores.Add([1, 1, 1, 0], [1, 255, 0, 0]);
        Assert.Equal((2.0 / 4, (1 + 0 + (2.0 / 3)) / 3, 2.0 / 3), (scores.CumulativeIou, scores.MeanIou, scores.Precision(0.6)));
        Assert.Throws<PanoptesException>(() => scores.Add([1], [1, 0]));
        Assert.Throws<PanoptesException>(() => scores.Add(new MaskOverlap(3, 2)));
    }

    [Fact]
    public void Poses_of_another_number_of_points_are_refused()
    {
        LabeledPose label = new(1, 1, [1, 1, 2], new(0, 0, 4, 4), 16);
        Assert.Equal(1.0, KeypointScores.Of([label], [new(1, 1, [1, 1, 1], 0.5)], [1], [0.1]).Ap!.Value, 1e-12);
        Assert.All(KeypointScores.Of([label with { Keypoints = [1, 1, 0] }], [], [1], [0.1]).Summary, static s => Assert.Null(s));
        Assert.Throws<PanoptesException>(() => KeypointScores.Of([label], [new(1, 1, [1, 1, 1], 0.5)], [1]));
        Assert.Throws<PanoptesException>(() => KeypointScores.Of([label], [], [1], [0]));
    }
}

static class ClickScoresExtensions
{
    internal static ClickScores With(this ClickScores scores, IReadOnlyList<double> ious)
    {
        scores.Add(ious);
        return scores;
    }
}
