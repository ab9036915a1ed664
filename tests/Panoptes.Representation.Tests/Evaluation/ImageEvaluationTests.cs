using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Representation.Evaluation;

namespace Panoptes.Representation.Tests.Evaluation;

public sealed class ImageEvaluationTests : IDisposable
{
    readonly TinyClip tiny = new();
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-images-").FullName;

    public void Dispose()
    {
        tiny.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void A_folder_of_classes_is_judged_by_the_classes_names()
    {
        Classes("test", 4);
        using var clip = tiny.Load();
        var images = ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "test")));
        var report = ImageEvaluation.Run(clip, images, options: new() { Templates = ["a photo of a {}."] });
        Assert.Equal((12, 0, 3), (report.Images, report.Skipped, report.ZeroShot!.Classes));
        Assert.Equal(["dark blue", "green", "red"], report.ZeroShot.PerClass.Select(static c => c.Label));
        Assert.All(report.ZeroShot.PerClass, static c => Assert.Equal(4, c.Support));
        Assert.True(report.Knn is null && report.LinearProbe is null && report.Retrieval is null);
        // The same by classifying each image.
        var files = Directory.GetFiles(Path.Combine(folder, "test"), "*.png", SearchOption.AllDirectories);
        var right = files.Count(f => clip.Classify(f, ["dark blue", "green", "red"], ["a photo of a {}."])[0].Label == Path.GetFileName(Path.GetDirectoryName(f))!.Replace('_', ' '));
        Assert.Equal(right / 12.0, report.ZeroShot.Top1, 1e-9);
    }

    [Fact]
    public void Training_images_allow_k_NN_and_a_linear_probe()
    {
        Classes("test", 5);
        Classes("train", 12);
        using var clip = tiny.Load();
        var report = ImageEvaluation.Run(clip, ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "test"))), ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "train"))), new() { Neighbors = new() { K = 5 } });
        Assert.Equal((15, 36), (report.Images, report.TrainImages));
        // Plain colors are told apart even by features of random weights.
        Assert.True(report.Knn!.Report.Top1 > 0.9, $"k-NN {report.Knn.Report.Top1}");
        Assert.True(report.LinearProbe!.Report.Top1 > 0.9, $"probe {report.LinearProbe.Report.Top1}");
        Assert.Equal((16, 15), (report.LinearProbe.Features, report.LinearProbe.Trials.Count));
        Assert.Equal(1, report.Baselines!.HistogramTop1);
        Assert.Null(report.Baselines.PixelTop1);
    }

    [Fact]
    public void Gray_images_have_the_distance_of_pixels_as_a_baseline()
    {
        var random = new Random(1);
        LabeledImages Make(int count)
        {
            int[] labels = [.. Enumerable.Range(0, count).Select(static i => i % 2)];
            return new(4, 4, [.. labels.SelectMany(l => Enumerable.Range(0, 16).Select(p => (byte)((p < 8 ? l : 1 - l) * 200 + random.Next(50))))], labels);
        }
        using var clip = tiny.Load();
        var report = ImageEvaluation.Run(clip, ImageSource.Of(Make(10), ["up", "down"], "test"), ImageSource.Of(Make(40), ["up", "down"], "train"), new() { Tasks = [EvaluationTask.Knn] });
        Assert.Equal(1, report.Baselines!.PixelTop1);
        Assert.True(report.Baselines.HistogramTop1 < 1);                                // both classes have the same grays
        Assert.True(report.ZeroShot is null && report.LinearProbe is null && report.Knn is not null);
    }

    [Fact]
    public void Captions_beside_images_allow_retrieval_several_to_an_image_in_a_table()
    {
        for (var i = 0; i < 4; i++) Picture(i, i * 60).Save(Path.Combine(folder, $"{i}.png"));
        File.WriteAllText(Path.Combine(folder, "table.csv"), "filepath,caption\n0.png,first\n0.png,number one\n1.png,second\n2.png,third\n3.png,fourth\n");
        using var clip = tiny.Load();
        var report = ImageEvaluation.Run(clip, ImageSource.Of(ImageTable.Open(Path.Combine(folder, "table.csv"))));
        Assert.Equal((4, 5), (report.Retrieval!.ImageToText.Queries, report.Retrieval.ImageToText.Gallery));
        Assert.Equal((5, 4), (report.Retrieval.TextToImage.Queries, report.Retrieval.TextToImage.Gallery));
        Assert.Equal(1, report.Retrieval.TextToImage.R5);
        Assert.Equal((2 / 5.0 + 3 * (1 / 5.0)) / 4, report.RetrievalChance!.ImageToText.R1, 1e-9);
        // The same from the similarities.
        var similarity = clip.Similarity([.. Enumerable.Range(0, 4).Select(i => Picture(i, i * 60))], ["first", "number one", "second", "third", "fourth"]);
        int[] owner = [0, 0, 1, 2, 3];
        var right = Enumerable.Range(0, 5).Count(t => Enumerable.Range(0, 4).MaxBy(i => similarity[i, t]) == owner[t]);
        Assert.Equal(right / 5.0, report.Retrieval.TextToImage.R1, 1e-9);
    }

    [Fact]
    public void Images_that_cannot_be_read_are_left_out_and_told()
    {
        Classes("test", 3);
        File.WriteAllText(Path.Combine(folder, "test", "red", "bad.png"), "no image");
        using var clip = tiny.Load();
        var report = ImageEvaluation.Run(clip, ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "test"))));
        Assert.Equal((9, 1, 9), (report.Images, report.Skipped, report.ZeroShot!.Images));
        var strict = ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "test"), new(strict: true)));
        Assert.Contains("bad.png", Assert.Throws<PanoptesException>(() => ImageEvaluation.Run(clip, strict)).Message);
    }

    [Fact]
    public void What_the_data_do_not_allow_is_refused_in_one_sentence()
    {
        Classes("test", 1);
        Directory.CreateDirectory(Path.Combine(folder, "train", "red"));
        Picture(1, 1).Save(Path.Combine(folder, "train", "red", "1.png"));
        Directory.CreateDirectory(Path.Combine(folder, "flat"));
        Picture(1, 1).Save(Path.Combine(folder, "flat", "1.png"));
        using var clip = tiny.Load();
        var test = ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "test")));
        Refused(() => ImageEvaluation.Run(clip, test, options: new() { Tasks = [EvaluationTask.Knn] }), "does not allow k-NN");
        Refused(() => ImageEvaluation.Run(clip, test, options: new() { Tasks = [EvaluationTask.Retrieval] }), "does not allow retrieval");
        Refused(() => ImageEvaluation.Run(clip, test, ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "train")))), "expected the same");
        Refused(() => ImageEvaluation.Run(clip, ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "flat")))), "nothing to measure");

        static void Refused(Action action, string part)
        {
            var message = Assert.Throws<PanoptesException>(action).Message;
            Assert.Contains(part, message);
            Assert.DoesNotContain('\n', message);
        }
    }

    [Fact]
    public void An_evaluation_leaves_no_tensor_behind_and_its_progress_ends_at_the_total()
    {
        Classes("test", 2);
        Classes("train", 4);
        using var clip = tiny.Load();
        var last = default(Panoptes.Evaluation.EvaluationProgress);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Equal(last.Total, last.Done);

        void Once() => ImageEvaluation.Run(clip, ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "test"))), ImageSource.Of(ImageFolder.Open(Path.Combine(folder, "train"))), null, new Immediate(p => last = p));
    }

    /// <summary>Three classes of pictures in three colors with a little noise.</summary>
    void Classes(string name, int images)
    {
        foreach (var (color, label) in new[] { (0x1010A0, "dark_blue"), (0x10C010, "green"), (0xD01010, "red") })
        {
            var path = Directory.CreateDirectory(Path.Combine(folder, name, label)).FullName;
            for (var i = 0; i < images; i++) Picture(i + color + name.Length, color).Save(Path.Combine(path, $"{i}.png"));
        }
    }

    static Image Picture(int seed, int color)
    {
        var (random, pixels) = (new Random(seed), new byte[20 * 20 * 3]);
        for (var i = 0; i < pixels.Length; i++) pixels[i] = (byte)Math.Clamp((color >> (16 - (8 * (i % 3))) & 255) + random.Next(8), 0, 255);
        return new(20, 20, 3, pixels);
    }

    sealed class Immediate(Action<Panoptes.Evaluation.EvaluationProgress> report) : IProgress<Panoptes.Evaluation.EvaluationProgress>
    {
        public void Report(Panoptes.Evaluation.EvaluationProgress value) => report(value);
    }
}
