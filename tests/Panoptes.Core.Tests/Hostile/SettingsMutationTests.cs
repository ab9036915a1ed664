using System.Text;
using CsCheck;
using Panoptes.Checkpoints;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Core.Tests.Hostile;

/// <summary>Damaged settings beside the weights: they work or give one sentence that names the file.</summary>
public sealed class SettingsMutationTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public SettingsMutationTests() => Directory.CreateDirectory(folder["saved"]);

    public void Dispose() => folder.Dispose();

    sealed record Part : ModelConfig
    {
        public int Width { get; init; } = 3;
    }

    sealed record Config : ModelConfig
    {
        public int HiddenSize { get; init; } = 3;
        public double Eps { get; init; } = 1e-5;
        public Activation HiddenAct { get; init; } = Activation.Gelu;
        public string[]? Architectures { get; init; }
        public int? Optional { get; init; }
        public Part Part { get; init; } = new();
    }

    [Fact]
    public void A_damaged_config_json_is_a_config_or_one_sentence()
    {
        byte[][] seeds = ["""{"hidden_size": 16, "eps": 1e-06, "hidden_act": "quick_gelu", "architectures": ["X"], "optional": null, "part": {"width": 4, "other": [1, {"a": "b"}]}, "torch_dtype": "float32"}"""u8.ToArray()];
        Mutation.OfJson(seeds).Sample(bytes => Mutation.Check(folder["config.json"], bytes, () =>
        {
            var config = ModelFolder.ReadConfig<Config>(folder.Path);
            Assert.NotNull(config.Part);
            ModelConfig.Parse<Config>(config.ToJson(), folder.Path);
        }), iter: 1000, threads: 1, print: Mutation.Print);
    }

    [Theory]
    [InlineData("preprocessor_config.json")]
    [InlineData("open_clip_config.json")]
    public void Damaged_settings_of_image_processing_are_a_processor_or_one_sentence(string name)
    {
        byte[][] seeds = name == "open_clip_config.json"
            ? ["""{"model_cfg":{"vision_cfg":{"image_size":[32,40]}},"preprocess_cfg":{"size":[16,20],"mode":"RGB","mean":[0.5,0.4,0.3],"std":[0.2,0.3,0.4],"interpolation":"bicubic","resize_mode":"longest","fill_color":7}}"""u8.ToArray()]
            : [.. new[]
            {
                """{"image_processor_type":"CLIPImageProcessor","do_resize":true,"size":{"shortest_edge":16},"resample":3,"do_center_crop":true,"crop_size":{"height":16,"width":20},"do_rescale":true,"rescale_factor":0.00392,"do_normalize":true,"image_mean":[0.5,0.4,0.3],"image_std":[0.2,0.3,0.4],"do_convert_rgb":true}""",
                """{"image_processor_type":"SiglipImageProcessor","size":{"height":16,"width":24},"resample":2}""",
                """{"image_processor_type":"Siglip2ImageProcessor","patch_size":8,"max_num_patches":9,"resample":2}""",
                """{"image_processor_type":"ConvNextImageProcessor","size":{"shortest_edge":24},"crop_pct":0.9}""",
                """{"image_processor":{"image_processor_type":"ViTImageProcessor","size":16}}""",
                """{"image_processor_type":"Mask2FormerImageProcessor","size":{"shortest_edge":16,"longest_edge":30},"size_divisor":8,"resample":2,"num_labels":4,"ignore_index":255}""",
                """{"image_processor_type":"OneFormerImageProcessor","size":12,"max_size":30,"metadata":{"0":"cat","thing_ids":[0],"class_names":["cat"]},"num_text":null}""",
            }.Select(Encoding.UTF8.GetBytes)];
        var picture = new Image(30, 20, 3);
        Mutation.OfJson(seeds).Sample(bytes =>
        {
            ImageProcessor? processor = null;
            Mutation.Check(folder[name], bytes, () => processor = ImageProcessor.Load(folder.Path));
            if (processor is null) return;
            // What was read is used: sizes that it allows are what the user asked for, and are kept small here.
            if (processor is PictureProcessor p && p.OutputSize(picture) is var (height, width) && (long)height * width > 1 << 20) return;
            if (processor is NaFlexImageProcessor n && (long)n.PatchSize * n.PatchSize * n.MaxNumPatches > 1 << 20) return;
            Mutation.Check("", () =>
            {
                using var scope = NewDisposeScope();
                var pixels = processor.Process(picture);
                Assert.Equal(ScalarType.Float32, pixels.dtype);
                processor.Save(folder["saved"]);
                ImageProcessor.Load(folder["saved"]);
            }, 64 << 20);
        }, iter: 600, threads: 1, print: Mutation.Print);
    }
}
