using System.Text.Json.Nodes;
using Panoptes.Imaging;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Imaging;

public sealed class ImageProcessorTests
{
    public static TheoryData<string> Cases => [.. Goldens.Names("representation", n => n.StartsWith("preprocess_", StringComparison.Ordinal))];

    [Theory, MemberData(nameof(Cases))]
    public void A_golden_case_gives_the_numbers_of_the_peer(string name) => Goldens.Check(name);

    [Theory]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}""")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessorFast", "size": 32, "crop_size": 32, "resample": 3, "do_rescale": true, "rescale_factor": 0.00392156862745098}""")]
    [InlineData("""{"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "do_convert_rgb": true, "image_mean": [0.48145466, 0.4578275, 0.40821073]}""")]
    [InlineData("""{"image_processor": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32, "longest_edge": null}, "crop_size": [32, 32]}, "processor_class": "CLIPProcessor"}""")]
    public void Old_and_new_spellings_mean_the_same(string json)
    {
        var processor = Assert.IsType<HuggingFaceImageProcessor>(ImageProcessor.Parse(json, "preprocessor_config.json"));
        Assert.Equal(ProcessorSize.Shortest(32), processor.Size);
        Assert.Equal((32, 32), processor.Crop);
        Assert.Equal(ResizeFilter.Bicubic, processor.Filter);
        Assert.Equal(ImageProcessor.ClipMean, processor.Mean);
        Assert.Equal(ImageProcessor.ClipStd, processor.Std);
    }

    [Theory]
    [InlineData("""{"size": 24, "do_resize": true, "image_mean": [0.5, 0.5, 0.5]}""", "vit", "ViT")]
    [InlineData("""{"size": {"height": 24, "width": 24}}""", "siglip", "Siglip")]
    [InlineData("""{"size": {"shortest_edge": 24}}""", "dinov2", "Bit")]
    public void A_file_that_names_no_processor_follows_the_model(string json, string modelType, string family)
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        File.WriteAllText(Path.Combine(folder, "preprocessor_config.json"), json);
        File.WriteAllText(Path.Combine(folder, "config.json"), $$"""{"model_type": "{{modelType}}"}""");
        Assert.Equal(family, Assert.IsType<HuggingFaceImageProcessor>(ImageProcessor.Load(folder)).Family);
    }

    [Theory]
    [InlineData("""{"image_processor_type": "LevitImageProcessor"}""", "image_processor_type")]
    [InlineData("""{"image_processor_type": "SamImageProcessor", "size": {"height": 64, "width": 64}}""", "size")]
    [InlineData("""{"image_processor_type": "SamImageProcessor", "pad_size": {"height": 1024, "width": 512}}""", "pad_size")]
    [InlineData("""{"image_processor_type": "Sam2ImageProcessor", "size": {"longest_edge": 64}}""", "size")]
    [InlineData("""{"size": 224}""", "image_processor_type")]
    [InlineData("""{"feature_extractor_type": "YolosFeatureExtractor"}""", "feature_extractor_type")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "do_pad": true}""", "do_pad")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "resample": 9}""", "resample")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "size": {"max_height": 3, "max_width": 3}}""", "size")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "size": -4}""", "size")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "size": "big"}""", "size")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "size": [3, null]}""", "size")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "crop_size": {"shortest_edge": 3}}""", "crop_size")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "image_mean": [0.5, "x", 0.5]}""", "image_mean")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "image_std": [0.5]}{""", "not JSON")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "rescale_factor": 0}""", "rescale_factor")]
    [InlineData("""{"image_processor_type": "CLIPImageProcessor", "do_resize": "yes"}""", "do_resize")]
    [InlineData("""{"image_processor_type": 5}""", "image_processor_type")]
    [InlineData("""{"image_processor_type": "ConvNextImageProcessor", "size": {"height": 3, "width": 3}}""", "size")]
    [InlineData("""{"preprocess_cfg": {"resize_mode": "stretch"}}""", "resize_mode")]
    [InlineData("""{"preprocess_cfg": {"interpolation": "nearest"}}""", "interpolation")]
    [InlineData("""{"preprocess_cfg": {"fill_color": 300}}""", "fill_color")]
    [InlineData("""{"preprocess_cfg": {"mode": "L"}}""", "mode")]
    [InlineData("""{"preprocess_cfg": {"size": [1, "x"]}}""", "size")]
    [InlineData("[]", "JSON object")]
    public void What_is_not_supported_is_one_error_that_names_file_and_field(string json, string field)
    {
        var e = Assert.Throws<PanoptesException>(() => ImageProcessor.Parse(json, "model/preprocessor_config.json"));
        Assert.StartsWith("model/preprocessor_config.json", e.Message, StringComparison.Ordinal);
        Assert.Contains(field, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_without_a_processor_is_named() =>
        Assert.Contains("preprocessor_config.json", Assert.Throws<PanoptesException>(() => ImageProcessor.Load("no/such/model")).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("""{"image_processor_type": "CLIPImageProcessorPil", "size": 20, "crop_size": 18, "my_field": [1, {"a": null}]}""")]
    [InlineData("""{"image_processor_type": "SiglipImageProcessor", "size": {"height": 20, "width": 24}, "resample": 2}""")]
    [InlineData("""{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 20}, "crop_pct": 0.9, "do_normalize": false}""")]
    [InlineData("""{"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 20}, "do_center_crop": false, "do_rescale": false}""")]
    [InlineData("""{"image_processor_type": "SamImageProcessor", "size": {"longest_edge": 30}, "pad_size": {"height": 32, "width": 30}, "my_field": [1, {"a": null}]}""")]
    [InlineData("""{"image_processor_type": "Sam2ImageProcessor", "size": {"height": 24, "width": 24}}""")]
    [InlineData("""{"image_processor_type": "Siglip2ImageProcessorFast", "patch_size": 4, "max_num_patches": 9, "image_std": 0.25}""")]
    [InlineData("""{"preprocess_cfg": {"size": [20, 24], "resize_mode": "longest", "fill_color": 7, "interpolation": "bilinear", "mean": [0, 0, 0]}, "model_cfg": {"embed_dim": 4}}""")]
    public void A_saved_processor_does_the_same_and_keeps_unknown_fields(string json)
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        if (json.Contains("model_cfg", StringComparison.Ordinal)) File.WriteAllText(Path.Combine(folder, "open_clip_config.json"), json);
        var processor = ImageProcessor.Parse(json, "a");
        processor.Save(folder);
        var again = ImageProcessor.Load(folder);
        var images = new[] { ImageFiles.Noise(40, 40, 3), ImageFiles.Noise(40, 40, 4) };
        using var ours = processor.Process(images);
        using var theirs = again.Process(images);
        Assert.Equal(ours.shape, theirs.shape);
        Assert.True(ours.equal(theirs).all().item<bool>());
        var saved = JsonNode.Parse(File.ReadAllText(Directory.GetFiles(folder).Single()))!;
        if (json.Contains("my_field", StringComparison.Ordinal)) Assert.Equal("""[1,{"a":null}]""", saved["my_field"]!.ToJsonString());
        if (json.Contains("model_cfg", StringComparison.Ordinal)) Assert.Equal(4, (int)saved["model_cfg"]!["embed_dim"]!);
        else Assert.Equal((string?)JsonNode.Parse(json)!["image_processor_type"], (string?)saved["image_processor_type"]);
    }

    [Fact]
    public void An_open_clip_file_without_a_size_takes_the_models()
    {
        var transform = Assert.IsType<OpenClipTransform>(ImageProcessor.Parse("""{"model_cfg": {"vision_cfg": {"image_size": 40}}, "preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}""", "a"));
        Assert.Equal((40, 40), (transform.Height, transform.Width));
    }

    [Fact]
    public void A_batch_is_its_images_one_by_one_and_no_tensor_is_left_behind()
    {
        var processor = (HuggingFaceImageProcessor)ImageProcessor.Parse("""{"image_processor_type": "CLIPImageProcessor", "size": 24, "crop_size": 24}""", "a");
        var images = Enumerable.Range(0, 9).Select(i => ImageFiles.Noise(20 + i * 5, 60 - i * 4, i % 3 == 0 ? 1 : i % 3 + 2, i)).ToArray();
        var before = TorchSharp.DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        using (var batch = processor.Process(images))
        {
            Assert.Equal([9, 3, 24, 24], batch.shape);
            var values = batch.data<float>().ToArray();
            var one = new float[3 * 24 * 24];
            for (var i = 0; i < images.Length; i++)
            {
                processor.Write(images[i], one);
                Assert.Equal(one, values[(i * one.Length)..((i + 1) * one.Length)]);
            }
        }
        Assert.Equal(before, TorchSharp.DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);
        Assert.Throws<ArgumentException>(() => processor.Write(images[0], new float[5]));
    }

    [Fact]
    public void Segmenters_settings_are_read_in_every_spelling_and_written_back()
    {
        var old = (PaddedImageProcessor)ImageProcessor.Parse("""{"image_processor_type": "Mask2FormerImageProcessor", "size": {"shortest_edge": 60}, "_max_size": 100, "size_divisor": 0, "reduce_labels": false, "num_labels": 7}""", "old");
        Assert.Equal((60, 80), old.TargetSize(30, 40));
        Assert.Equal((20, 100), old.TargetSize(100, 500));
        var one = (PaddedImageProcessor)ImageProcessor.Parse("""{"image_processor_type": "OneFormerImageProcessor", "metadata": {"0": "cat", "1": "sky", "thing_ids": [0]}, "size": {"height": 20, "width": 30}}""", "one");
        Assert.Equal([0], one.ThingIds!);
        Assert.Equal((64, 96), new PaddedImageProcessor { Size = PaddedSize.Edges(40, 72), SizeDivisor = 32 }.TargetSize(37, 61));
        var folder = Directory.CreateTempSubdirectory("panoptes-processor-").FullName;
        try
        {
            one.Save(folder);
            var again = (PaddedImageProcessor)ImageProcessor.Load(folder);
            Assert.Equal(one.ThingIds, again.ThingIds!);
            Assert.Equal((one.Size, one.SizeDivisor, one.ProcessorType), (again.Size, again.SizeDivisor, again.ProcessorType));
            old.Save(folder);
            Assert.Equal((60, 80), ((PaddedImageProcessor)ImageProcessor.Load(folder)).TargetSize(30, 40));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
        Assert.Contains("expected no more than", Assert.Throws<PanoptesException>(() => (one with { Size = PaddedSize.Edges(800, 60_000_000) }).TargetSize(1, 60000)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Images_that_come_out_in_different_sizes_are_not_one_batch()
    {
        var processor = ImageProcessor.Parse("""{"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 24}, "do_center_crop": false}""", "a");
        var e = Assert.Throws<PanoptesException>(() => processor.Process([ImageFiles.Noise(30, 30, 3), ImageFiles.Noise(30, 60, 3)]));
        Assert.Contains("24x24 and 24x48", e.Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => processor.Process([]));
    }

    [Fact]
    public void Patches_without_resizing_must_fit()
    {
        var processor = (NaFlexImageProcessor)ImageProcessor.Parse("""{"image_processor_type": "Siglip2ImageProcessor", "do_resize": false, "patch_size": 4, "max_num_patches": 6}""", "a");
        using var batch = processor.ProcessPatches([ImageFiles.Noise(12, 8, 3), ImageFiles.Noise(4, 4, 3)]);
        Assert.Equal([2, 6, 48], batch.PixelValues.shape);
        Assert.Equal([2L, 3, 1, 1], batch.SpatialShapes.data<long>().ToArray());
        Assert.Equal([1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], batch.PixelAttentionMask.data<int>().ToArray());
        Assert.Throws<PanoptesException>(() => processor.ProcessPatches([ImageFiles.Noise(13, 8, 3)]));
        Assert.Throws<PanoptesException>(() => processor.ProcessPatches([ImageFiles.Noise(16, 8, 3)]));
    }
}
