using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Parity;
using Panoptes.Representation;
using Panoptes.Text;
using Panoptes.Understanding.Tests.Tiny;

namespace Panoptes.Understanding.Tests;

public sealed class SegmenterTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-segmenter-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static Image Photo(int width, int height)
    {
        var image = new Image(width, height, 3);
        new Random(1).NextBytes(image.Pixels);
        return image;
    }

    /// <summary>Threshold 0: untrained queries are sure of nothing.</summary>
    Segmenter Load(string architecture)
    {
        TinyFolders.Segmenter(folder, architecture);
        var segmenter = Segmenter.Load(folder);
        segmenter.Options = segmenter.Options with { Threshold = 0, OverlapThreshold = 0, MaskThreshold = 0 };
        return segmenter;
    }

    [Theory]
    [InlineData("Mask2FormerForUniversalSegmentation")]
    [InlineData("OneFormerForUniversalSegmentation")]
    [InlineData("DetrForSegmentation")]
    [InlineData("BeitForSemanticSegmentation")]
    public void Every_pixel_of_any_image_gets_a_class_and_nothing_is_kept(string architecture)
    {
        using var segmenter = Load(architecture);
        segmenter.Semantic(Photo(9, 5));
        var before = LiveTensors.Settle();
        foreach (var (width, height) in ((int, int)[])[(1, 1), (50, 20), (3, 130), (64, 64)])
        {
            var found = segmenter.Semantic(Photo(width, height));
            Assert.Equal((width, height), (found.Classes.Width, found.Classes.Height));
            Assert.All(found.Classes.Labels, l => Assert.InRange(l, 0, segmenter.Labels.Count - 1));
            Assert.Equal(width * height, found.ToSegments().Sum(static s => s.Mask.Area));
        }
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Theory]
    [InlineData("Mask2FormerForUniversalSegmentation")]
    [InlineData("OneFormerForUniversalSegmentation")]
    [InlineData("DetrForSegmentation")]
    public void Panoptic_segments_share_the_pixels_and_instances_have_masks_and_scores(string architecture)
    {
        using var segmenter = Load(architecture);
        Assert.True(segmenter.FindsThings);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            var photo = Photo(50, 34);
            var panoptic = segmenter.Panoptic(photo);
            var segments = panoptic.ToSegments();
            Assert.NotEmpty(segments);
            Assert.Equal(panoptic.Ids.Labels.Count(static i => i != 0), segments.Sum(static s => s.Mask.Area));
            Assert.Equal(panoptic.Segments.Select(static s => s.Id).Distinct().Order(), panoptic.Ids.Areas().Keys.Where(static k => k != 0));
            var things = segmenter.Instances(photo);
            Assert.NotEmpty(things);
            Assert.All(things, t => Assert.True(t.Mask.Area > 0 && t.Score is >= 0 and <= 1 && segmenter.Labels.Contains(t.Label!)));
            Assert.Equal(things.OrderByDescending(static t => t.Score), things);
            // Prompts: names, or none for everything.
            Assert.Equal(segments.Select(static s => (s.Label, s.Score)), segmenter.Segment(photo, []).Select(static s => (s.Label, s.Score)));
            Assert.All(segmenter.Segment(photo, [Prompt.Text("Sky")]), static s => Assert.Equal("sky", s.Label));
            Assert.True(Overlay.Draw(photo, panoptic).Height > 34);
        }
    }

    [Theory]
    [InlineData("Mask2FormerForUniversalSegmentation")]
    [InlineData("OneFormerForUniversalSegmentation")]
    [InlineData("DetrForSegmentation")]
    public void Half_precision_gives_almost_the_same(string architecture)
    {
        using var full = Load(architecture);
        using var half = Segmenter.Load(folder, new() { Dtype = ScalarType.BFloat16 });
        var (a, b) = (full.Semantic(Photo(40, 30)).Classes.Labels, half.Semantic(Photo(40, 30)).Classes.Labels);
        Assert.True(a.Zip(b).Count(static p => p.First == p.Second) > 0.8 * a.Length);
    }

    [Fact]
    public void A_OneFormer_that_was_trained_loads_without_its_text_encoder()
    {
        using (var trained = PromptableModels.All.Single(static e => e.Architecture == "OneFormerForUniversalSegmentation").Build(new(UniversalSegmentationTiny.Tiny["OneFormerForUniversalSegmentation"].Config, "tiny", static _ => null)))
        {
            trained.Initialize(new Generator(1));
            PromptableModels.Save(folder, trained);
        }
        var config = Path.Combine(folder, "config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("\"is_training\": true", "\"is_training\": false", StringComparison.Ordinal));
        using var model = PromptableModels.Load<OneFormerForUniversalSegmentation>(folder);
        Assert.Null(model.Model.TextMapper);
    }

    [Fact]
    public void OneFormer_is_told_its_task_in_words()
    {
        using var segmenter = Load("OneFormerForUniversalSegmentation");
        using var ids = OneFormerLesson.Encode(Tokenizer.Load(folder), ["the task is panoptic", "the task is semantic"], 6);
        // CLIP's: start, the, task, is, then pan and what is after it, of which the end is kept; or semantic, end.
        Assert.Equal([49406, 518, 10549, 533], ids[0].data<long>().ToArray()[..4]);
        Assert.Equal(49407, ids[0, 5].item<long>());
        Assert.Equal([518, 10549, 533], ids[1].data<long>().ToArray()[1..4]);
        Assert.NotEqual(ids[0, 4].item<long>(), ids[1, 4].item<long>());
    }

    [Fact]
    public void What_a_model_cannot_do_is_one_sentence()
    {
        using var segmenter = Load("BeitForSemanticSegmentation");
        Assert.False(segmenter.FindsThings);
        Assert.Contains("classes of pixels alone", Assert.Throws<PanoptesException>(() => segmenter.Panoptic(Photo(9, 9))).Message, StringComparison.Ordinal);
        Assert.Equal("The model does not know \"dog\"; it knows cat, sky.", Assert.Throws<PanoptesException>(() => segmenter.Segment(Photo(9, 9), [Prompt.Text("dog")])).Message);
        Assert.Contains("names of classes alone", Assert.Throws<PanoptesException>(() => segmenter.Segment(Photo(9, 9), [Prompt.Point(1, 1)])).Message, StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(folder, "config.json"), """{"architectures": ["ViTModel"]}""");
        Assert.Contains("is not one of DetrForSegmentation, Mask2FormerForUniversalSegmentation, OneFormerForUniversalSegmentation, BeitForSemanticSegmentation", Assert.Throws<PanoptesException>(() => Segmenter.Load(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_was_found_goes_into_the_files_of_COCO()
    {
        var ids = new LabelMap(4, 2, [0, 1, 1, 2, 0, 1, 2, 2]);
        var panoptic = new PanopticSegmentation(ids, [new(1, 0, 0.9f), new(2, 1, 0.8f, true), new(2, 1, 0.7f, true)]) { Names = ["cat", "sky"] };
        var image = new CocoImage(3, "a.jpg", 4, 2);
        var path = Path.Combine(folder, "found.json");
        SegmentationFiles.SavePanoptic(path, [(image, panoptic)], panoptic.Names, static c => c == 0);
        var read = PanopticFile.Load(path);
        Assert.Equal(ids.Labels, read.ReadIds(read.Annotations[0], PanopticFile.FolderOf(path)));
        Assert.Equal([new(1, 0, 3, new(1, 0, 2, 2)), new PanopticRegion(2, 1, 3, new(2, 0, 2, 2))], read.Annotations[0].Segments);
        Assert.Equal([true, false], read.Categories.Select(static c => c.Thing));

        var coco = SegmentationFiles.ToCoco([(image, panoptic.ToSegments())], panoptic.Names);
        coco.Save(path);
        var things = CocoFile.Load(path).Things(masks: true);
        Assert.Equal([1, 2], things.Select(static t => t.Category).Order());
        Assert.Equal(3, things[0].Area);
        Assert.Equal([0.8f, 0.9f], SegmentationFiles.ToDetections([(image, panoptic.ToSegments())]).Select(static d => (float)d.Score).Order());
        Assert.Equal("object", Assert.Single(SegmentationFiles.ToCoco([(image, [new Segment(ids.Mask(1), 1)])]).Categories).Name);
    }
}
