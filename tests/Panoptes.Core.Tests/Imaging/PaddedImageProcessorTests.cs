using Panoptes.Imaging;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Imaging;

public sealed class PaddedImageProcessorTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-padded-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory]
    [InlineData("preprocess_detr")]
    [InlineData("preprocess_grounding_dino")]
    [InlineData("preprocess_owlvit")]
    public void A_detector_s_images_are_prepared_as_the_peer_does(string name) => Goldens.Check($"segmentation/{name}");

    [Theory]
    [InlineData("""{"shortest_edge": 800, "longest_edge": 1333}""", 480, 640, 800, 1066)]
    [InlineData("""{"shortest_edge": 800, "longest_edge": 1333}""", 500, 2000, 333, 1333)]
    [InlineData("""{"shortest_edge": 800, "longest_edge": 1333}""", 1000, 800, 1000, 800)]
    [InlineData("""{"shortest_edge": 800, "longest_edge": 1333}""", 1, 60000, 1, 1333)]
    [InlineData("800", 480, 640, 800, 1066)]
    [InlineData("""{"max_height": 100, "max_width": 50}""", 480, 640, 37, 50)]
    [InlineData("""{"height": 10, "width": 20}""", 480, 640, 10, 20)]
    public void A_side_is_as_long_as_the_peer_makes_it(string size, int height, int width, int expectedHeight, int expectedWidth)
    {
        var processor = Assert.IsType<PaddedImageProcessor>(ImageProcessor.Parse($$"""{"image_processor_type": "DetrImageProcessor", "size": {{size}}}""", "test"));
        Assert.Equal((expectedHeight, expectedWidth), processor.TargetSize(height, width));
    }

    [Fact]
    public void A_processor_comes_back_as_it_was_saved()
    {
        var processor = (PaddedImageProcessor)ImageProcessor.Parse("""{"feature_extractor_type": "DetrFeatureExtractor", "size": 40, "max_size": 66, "format": "coco_detection", "pad_size": {"height": 70, "width": 80}}""", "test");
        processor.Save(folder);
        var back = Assert.IsType<PaddedImageProcessor>(ImageProcessor.Load(folder));
        Assert.Equal("DetrImageProcessor", back.ProcessorType);
        Assert.Equal((processor.Size, processor.PadSize, processor.Filter), (back.Size, back.PadSize, back.Filter));
        Assert.Contains("coco_detection", File.ReadAllText(Path.Combine(folder, "preprocessor_config.json")), StringComparison.Ordinal);
        // A file that names no processor goes by the model.
        Assert.IsType<PaddedImageProcessor>(ImageProcessor.Parse("{}", "test", "grounding-dino"));
    }

    [Fact]
    public void Images_that_do_not_go_together_are_refused_with_one_sentence()
    {
        Image[] images = [new(10, 10, 3), new(20, 10, 3)];
        Refused("No images", new PaddedImageProcessor(), []);
        Refused("do_pad is false", new() { DoResize = false, DoPad = false }, images);
        Refused("larger than pad_size", new() { DoResize = false, PadSize = (16, 16) }, images);
        Assert.Contains("shortest_edge and longest_edge", Assert.Throws<PanoptesException>(() => ImageProcessor.Parse("""{"image_processor_type": "DetrImageProcessor", "size": {"shortest_edge": 8}}""", "test")).Message, StringComparison.Ordinal);

        static void Refused(string part, PaddedImageProcessor processor, Image[] images) =>
            Assert.Contains(part, Assert.Throws<PanoptesException>(() => processor.ProcessPadded(images)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_batch_leaves_nothing_but_its_two_tensors()
    {
        var before = LiveTensors.Settle();
        using (var batch = new PaddedImageProcessor { Size = PaddedSize.Edges(8, 16) }.ProcessPadded([new(10, 10, 3), new(30, 10, 1), new(5, 9, 4)]))
        {
            Assert.Equal(before + 2, Tensor.TotalCount);
            Assert.Equal([3, 3, 14, 16], batch.PixelValues.shape);
        }
        Assert.Equal(before, Tensor.TotalCount);
    }
}
