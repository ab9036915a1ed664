using Panoptes.Imaging;

namespace Panoptes.Understanding.Tests;

public sealed class DetectorTests : IDisposable
{
    readonly string root = Directory.CreateTempSubdirectory("panoptes-detectors-").FullName;

    public void Dispose() => Directory.Delete(root, recursive: true);

    Detector Load(string architecture)
    {
        var folder = Path.Combine(root, architecture);
        TinyFolders.Detector(folder, architecture);
        return Detector.Load(folder, new() { BatchSize = 2 });
    }

    static Image Photo(int width, int height, int seed)
    {
        var image = new Image(width, height, 3);
        new Random(seed).NextBytes(image.Pixels);
        return image;
    }

    public static TheoryData<string, string[]?> Architectures => new()
    {
        { "OwlViTForObjectDetection", ["a cat", "dog"] },
        { "GroundingDinoForObjectDetection", ["a cat", "Red dog."] },
        { "DetrForObjectDetection", null },
    };

    [Theory, MemberData(nameof(Architectures))]
    public void A_detector_finds_boxes_inside_images_of_any_size_the_surest_first(string architecture, string[]? texts)
    {
        using var detector = Load(architecture);
        var told = new List<int>();
        Image[] images = [Photo(50, 40, 1), Photo(30, 90, 2), Photo(1, 1, 3)];
        var found = detector.Detect(images, texts, threshold: 0, progress: new Immediate(told));
        Assert.Equal([2, 3], told);
        for (var i = 0; i < images.Length; i++)
        {
            Assert.NotEmpty(found[i]);
            Assert.All(found[i], d =>
            {
                Assert.Contains(d.Label, texts ?? detector.Labels!);
                Assert.InRange(d.Score, 0, 1);
                Assert.True(0 <= d.Left && d.Left <= d.Right && d.Right <= images[i].Width && 0 <= d.Top && d.Top <= d.Bottom && d.Bottom <= images[i].Height, d.ToString());
            });
            Assert.Equal(found[i].OrderByDescending(static d => d.Score), found[i]);
        }
        Assert.Empty(detector.Detect(images[0], texts, threshold: 1));
        // Nothing of a label overlaps with a better one, and the best is still there.
        var apart = detector.Detect(images[0], texts, threshold: 0, overlap: 0.3);
        Assert.Equal(found[0][0].Label, apart[0].Label);
        Assert.True(apart.Count <= found[0].Count);
    }

    [Fact]
    public void How_far_a_DETR_is_from_finding_boxes_is_its_own_loss_with_a_gradient_to_the_picture()
    {
        using var scope = NewDisposeScope();
        using var detector = Load("DetrForObjectDetection");
        var processor = (PaddedImageProcessor)detector.Processor;
        var photo = Photo(50, 40, 1);
        var picture = photo.ToTensor(ScalarType.Float32).unsqueeze(0);
        // As images are prepared, to the rounding of a pixel.
        Assert.True((processor.Process(picture) - processor.Process([photo])).abs().max().item<float>() < 0.02);
        Detection[] wanted = [new(5, 4, 30, 20, 1, detector.Labels![0]), new(20, 10, 50, 40, 1, detector.Labels![1])];
        var loss = PictureLosses.Boxes(detector, wanted, (50, 40));
        var target = new DetectionTarget(tensor(new long[] { 0, 1 }), tensor(new float[] { 0.35f, 0.3f, 0.5f, 0.4f, 0.7f, 0.625f, 0.6f, 0.75f }, [2, 4]));
        var model = (DetrForObjectDetection)detector.Model;
        DetrOutput Found(Tensor pictures) => model.Forward(processor.Process(pictures));
        Assert.Equal(DetrLoss.Of(new(Found(picture).Logits, Found(picture).Boxes), [target], model.Config.Loss).Total.item<float>(), loss(picture).item<float>(), 1e-4f);
        var other = picture.flip(3);
        Assert.Equal(loss(picture).item<float>() + loss(other).item<float>(), loss(cat([picture, other])).item<float>(), 1e-3f);

        var led = picture.detach().clone().requires_grad_();
        var gradient = autograd.grad([loss(led)], [led])[0];
        var (length, step) = (gradient.norm().item<float>(), 0.01f);
        Assert.True(length > 0);
        using var noGrad = no_grad();
        var along = gradient / length * step;
        Assert.Equal(1, (loss(picture + along) - loss(picture - along)).item<float>() / (2 * step * length), 0.1f);

        void Refused(string why, params Detection[] boxes) => Assert.Contains(why, Assert.Throws<PanoptesException>(() => PictureLosses.Boxes(detector, boxes, (50, 40))).Message, StringComparison.Ordinal);
        Refused("No boxes");
        Refused("has no size", wanted[0] with { Right = 5 });
        Refused("does not know \"smell\"", wanted[0] with { Label = "smell" });
        using var owl = Load("OwlViTForObjectDetection");
        Assert.Contains("expected a DETR", Assert.Throws<PanoptesException>(() => PictureLosses.Boxes(owl, wanted, (50, 40))).Message, StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(Architectures))]
    public void A_detector_leaves_no_tensor_behind(string architecture, string[]? texts)
    {
        var photo = Photo(40, 30, 1);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var detector = Load(architecture);
            detector.Detect([photo, photo, photo], texts);
            if (architecture == "OwlViTForObjectDetection") detector.DetectLike([photo], photo);
            using var cancelled = new CancellationTokenSource();
            cancelled.Cancel();
            Assert.Throws<OperationCanceledException>(() => detector.Detect([photo], texts, cancellation: cancelled.Token));
        }
    }

    [Fact]
    public void An_example_finds_its_like_and_the_best_has_a_score_of_one()
    {
        using var detector = Load("OwlViTForObjectDetection");
        var photo = Photo(32, 32, 4);
        var found = detector.DetectLike([photo], photo, "such a thing", threshold: 0)[0];
        Assert.Equal(1, found[0].Score, 1e-3);
        Assert.Equal("such a thing", found[0].Label);
    }

    [Fact]
    public void What_cannot_be_looked_for_is_refused_with_one_sentence()
    {
        var photo = Photo(32, 32, 1);
        using (var owl = Load("OwlViTForObjectDetection"))
        {
            Refused("No texts were given", () => owl.Detect(photo));
            Refused("A text is empty", () => owl.Detect(photo, ["cat", " "]));
            Refused("the model takes at most 8", () => owl.Detect(photo, ["cat cat cat cat cat cat cat cat cat"]));
            Refused("No images", () => owl.Detect((IReadOnlyList<Image>)[], ["cat"]));
            Refused("The threshold is 2", () => owl.Detect(photo, ["cat"], threshold: 2));
        }
        using (var detr = Load("DetrForObjectDetection"))
        {
            Refused("does not know \"cat\"; it finds LABEL_0, LABEL_1, LABEL_2", () => detr.Detect(photo, ["cat"]));
            Refused("takes no example", () => detr.DetectLike([photo], photo));
            Assert.All(detr.Detect(photo, ["label_1"], threshold: 0), static d => Assert.Equal("LABEL_1", d.Label));
        }
        using (var dino = Load("GroundingDinoForObjectDetection"))
            Refused("is 2 phrases to the tokenizer", () => dino.Detect(photo, ["a cat. a dog"]));

        static void Refused(string part, Action action) => Assert.Contains(part, Assert.Throws<PanoptesException>(action).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Phrases_have_their_own_tokens_and_are_read_in_parts_where_they_are_too_many()
    {
        using var detector = Load("GroundingDinoForObjectDetection");
        var prompt = Assert.Single(GroundingPrompt.Of(detector.Tokenizer!, ["a cat", "Red dog."], 16));
        Assert.Equal([101, 5, 7, 1012, 6, 8, 1012, 102], prompt.Ids);
        Assert.Equal([(1, 3), (4, 6)], prompt.Spans);
        var parts = GroundingPrompt.Of(detector.Tokenizer!, ["a cat", "a dog", "dog", "cat"], 8);
        Assert.Equal([["a cat", "a dog"], ["dog", "cat"]], parts.Select(static p => p.Texts));
        Assert.Throws<PanoptesException>(() => GroundingPrompt.Of(detector.Tokenizer!, ["a red cat a red dog"], 8));
        // Sixteen tokens are the tiny model's: these are read in two parts, and both are found.
        string[] many = ["a cat", "a dog", "red cat", "red dog", "a red cat"];
        Assert.Equal(2, GroundingPrompt.Of(detector.Tokenizer!, many, 16).Count);
        Assert.Equal(10, detector.Detect(Photo(64, 64, 1), many, threshold: 0).Count);
    }

    sealed class Immediate(List<int> told) : IProgress<int>
    {
        public void Report(int value) => told.Add(value);
    }

    [Fact]
    public void A_captions_tokens_know_their_words_and_a_box_gets_the_likely_ones_around_its_surest()
    {
        using var detector = Load("GroundingDinoForObjectDetection");
        var caption = CaptionTokens.Of(detector.Tokenizer!, "A Red cat, a dog. ", 16);
        Assert.Equal([101, 5, 6, 7, 100, 5, 8, 1012, 102], caption.Ids);
        Assert.Equal([null, (0, 1), (2, 5), (6, 9), null, (11, 12), (13, 16), null, null], caption.Words);
        using var scope = NewDisposeScope();
        // Tokens 2 and 3 (red cat) in the first box, 6 (dog) in the second; the third is below.
        var logits = full(1, 3, 16, -5f);
        foreach (var (box, token, value) in ((int, int, float)[])[(0, 2, 0f), (0, 3, 1f), (0, 5, -4f), (1, 6, 2f), (1, 3, 0f), (2, 1, -2f)]) logits[0, box, token] = value;
        var boxes = tensor(new[] { 0.5f, 0.5f, 0.5f, 0.5f, 0.25f, 0.25f, 0.5f, 0.5f, 0.5f, 0.5f, 1, 1 }, [1, 3, 4]);
        var found = DetectionOutput.FromWords(logits, boxes, [(20, 40)], 0.25, caption)[0];
        Assert.Equal([("Red cat", 2, 9), ("dog", 13, 16)], found.Select(static b => (b.Found.Label, b.Start, b.End)));
        Assert.Equal((10f, 5f, 30f, 15f), (found[0].Found.Left, found[0].Found.Top, found[0].Found.Right, found[0].Found.Bottom));
        Assert.Equal(1 / (1 + Math.Exp(-1)), found[0].Found.Score, 1e-5);
        // The model's own boxes, with leaks counted.
        var photo = Photo(50, 40, 1);
        detector.Ground(photo, "a red cat");
        var before = LiveTensors.Settle();
        Assert.All(detector.Ground(photo, "a red cat", 0), static b => Assert.Equal("a red cat"[b.Start..b.End], b.Found.Label));
        Assert.Equal(before, Tensor.TotalCount);
        foreach (var text in (string[])["", " ", ". ,"]) Assert.Throws<PanoptesException>(() => detector.Ground(photo, text));
    }
}
