using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Evaluation;

public sealed class ClassificationTests
{
    /// <summary>Two of three cats right, one taken for a dog; the dog right; no bird; the cow taken for a cat.</summary>
    static ClassificationReport Animals()
    {
        using var scope = NewDisposeScope();
        var scores = tensor(new float[,] { { 9, 1, 0, 0 }, { 8, 2, 0, 0 }, { 1, 5, 0, 0 }, { 0, 7, 1, 0 }, { 4, 0, 0, 3 } });
        return Classification.OfScores(scores, [0, 0, 0, 1, 3], ["cat", "dog", "bird", "cow"]);
    }

    [Fact]
    public void Accuracy_precision_recall_and_F1_follow_their_definitions()
    {
        var report = Animals();
        Assert.Equal((5, 4, 0.6, 1.0, 0.25), (report.Images, report.Classes, report.Top1, report.Top5, report.Chance));
        var (cat, dog, bird, cow) = (report.PerClass[0], report.PerClass[1], report.PerClass[2], report.PerClass[3]);
        Assert.Equal((3, 3), (cat.Support, cat.Predicted));
        Assert.Equal(2 / 3.0, cat.Recall, 1e-12);
        Assert.Equal(2 / 3.0, cat.Precision, 1e-12);
        Assert.Equal(2 / 3.0, cat.F1, 1e-12);
        Assert.Equal((1.0, 0.5), (dog.Recall, dog.Precision));
        Assert.Equal(2 * 0.5 / 1.5, dog.F1, 1e-12);
        Assert.Equal((0, 0, 0.0, 0.0, 0.0), (bird.Support, bird.Predicted, bird.Recall, bird.Precision, bird.F1));
        Assert.Equal((1, 0, 0.0, 0.0), (cow.Support, cow.Predicted, cow.Recall, cow.Precision));
        Assert.Equal((2 / 3.0 + 1 + 0) / 3, report.MeanRecall, 1e-12);
    }

    [Fact]
    public void Mistakes_are_counted_by_true_and_predicted_class()
    {
        var report = Animals();
        Assert.Equal(new long[,] { { 2, 1, 0, 0 }, { 0, 1, 0, 0 }, { 0, 0, 0, 0 }, { 1, 0, 0, 0 } }, report.ConfusionMatrix);
        Assert.Equal([new("cat", "dog", 1), new("cow", "cat", 1)], report.Confusions);
        var picture = report.ConfusionPicture("animals", 300);
        Assert.Equal((300, 300), (picture.Width, picture.Height));
    }

    [Fact]
    public void Labels_without_a_class_are_refused()
    {
        using var scope = NewDisposeScope();
        Assert.Contains("label 2", Assert.Throws<PanoptesException>(() => Classification.OfScores(zeros(1, 2), [2], ["a", "b"])).Message);
        Assert.Contains("No images", Assert.Throws<PanoptesException>(() => Classification.OfScores(zeros(0, 2), [], ["a", "b"])).Message);
    }

    [Fact]
    public void A_color_histogram_is_of_length_one_and_sees_the_image_on_white()
    {
        // Half transparent: half white; the rest pure red.
        var pixels = new byte[10 * 10 * 4];
        for (var i = 0; i < 50; i++) (pixels[i * 4], pixels[(i * 4) + 3]) = (255, 255);
        var histogram = ColorHistogram.Of(new Image(10, 10, 4, pixels));
        Assert.Equal(ColorHistogram.Length, histogram.Length);
        Assert.Equal(1, histogram.Sum(static v => v * v), 1e-6f);
        Assert.Equal(MathF.Sqrt(0.5f), histogram[ColorHistogram.Length - 1], 1e-6f);
        Assert.Equal(MathF.Sqrt(0.5f), histogram[7 * 64], 1e-6f);
        Assert.Equal(histogram, ColorHistogram.Of(new Image(10, 10, 4, pixels).ToRgb()));
    }

    [Fact]
    public void A_gray_image_has_a_histogram_of_levels()
    {
        var histogram = ColorHistogram.Of(new Image(2, 2, 1, [0, 0, 0, 255]));
        Assert.Equal((64, MathF.Sqrt(0.75f), 0.5f), (histogram.Length, histogram[0], histogram[63]));
    }
}
