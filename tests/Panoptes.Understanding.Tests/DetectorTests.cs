using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Understanding.Tests;

public sealed class DetectorTests : IDisposable
{
    readonly string root = Directory.CreateTempSubdirectory("panoptes-detectors-").FullName;

    public void Dispose() => Directory.Delete(root, recursive: true);

    /// <summary>A complete folder of a tiny model of random weights.</summary>
    Detector Load(string architecture)
    {
        var (config, folder) = (DetectorsTiny.Tiny[architecture].Config, Directory.CreateDirectory(Path.Combine(root, architecture)).FullName);
        switch (architecture)
        {
            case "OwlViTForObjectDetection":
                var merges = Path.Combine(folder, "all-merges.txt");
                File.WriteAllText(merges, "#version: 0.2\nc a\nca t</w>\nd o\n");
                config = config.Replace("\"vocab_size\": 50", $"\"vocab_size\": {ClipVocabulary.Truncate(merges, 2, folder, 8)}", StringComparison.Ordinal);
                File.Delete(merges);
                break;
            case "GroundingDinoForObjectDetection":
                string[] words = [.. Enumerable.Range(0, 1032).Select(static i => $"[unused{i}]")];
                (words[0], words[100], words[101], words[102], words[1012], words[1029], words[5], words[6], words[7], words[8]) = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "a", "red", "cat", "dog");
                File.WriteAllLines(Path.Combine(folder, "vocab.txt"), words);
                break;
        }
        File.WriteAllText(Path.Combine(folder, "preprocessor_config.json"), architecture == "OwlViTForObjectDetection"
            ? """{"image_processor_type": "OwlViTImageProcessor", "size": {"height": 32, "width": 32}}"""
            : $$"""{"image_processor_type": "{{architecture[..^18]}}ImageProcessor", "size": {"shortest_edge": 64, "longest_edge": 96} }""");
        using (var model = PromptableModels.All.First(e => e.Architecture == architecture).Build(new(config, architecture, static _ => null)))
        {
            model.Initialize(new Generator(11));
            PromptableModels.Save(folder, model);
        }
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
        Assert.Equal(1, found[0].Score, 3);
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
}
