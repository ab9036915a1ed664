using System.Text.Json.Nodes;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation.Tests;

/// <summary>EVA's towers beyond the golden cases: names, kinds of blocks, gradients.</summary>
public sealed class EvaTests
{
    static TimmEva Build(string name, string args = "")
    {
        var model = new TimmEva(ModelConfig.Parse<EvaConfig>($$"""{"architecture":"{{name}}","num_classes":5,"model_args":{"img_size":[16,24],"patch_size":8,"embed_dim":16,"depth":2,"num_heads":2,"mlp_ratio":2{{args}} } }""", name));
        model.Initialize(new Generator(7));
        return model;
    }

    [Theory]
    [InlineData("eva_giant_patch14_224", "")]
    [InlineData("eva02_tiny_patch14_336", "")]
    [InlineData("eva02_small_patch14_224.mim_in22k", """, "init_values": 0.1""")]
    [InlineData("eva02_base_patch14_448", """, "init_values": 0.1""")]
    [InlineData("eva02_large_patch14_clip_336", "")]
    [InlineData("eva02_enormous_patch14_clip_224", "")]
    public void Every_kind_of_EVA_classifies_with_a_gradient_in_every_weight(string name, string args)
    {
        using var scope = NewDisposeScope();
        using var model = Build(name, args);
        model.Train();
        var logits = model.Classify(randn([3, 3, 16, 24], generator: new Generator(3)));
        Assert.Equal([3, 5], logits.shape);
        logits.square().sum().backward();
        Assert.Empty(model.NamedParameters().Where(static p => !(p.Parameter.Grad is { } g && g.isfinite().all().item<bool>() && g.abs().max().item<float>() > 0)).Select(static p => p.Key));
    }

    [Theory]
    [InlineData("eva02_base_patch14_clip_224x")]
    [InlineData("eva03_base_patch14_224")]
    [InlineData("eva_base_patch14_224")]
    [InlineData("eva02_giant_patch14_224")]
    [InlineData("eva02_base_patch14_224", """, "rope_type": "mixed" """)]
    [InlineData("eva02_base_patch14_224", """, "global_pool": "map" """)]
    [InlineData("eva02_base_patch14_224", """, "num_heads": 3 """)]
    [InlineData("eva02_base_patch14_224", """, "num_heads": 8 """)]
    public void What_is_not_supported_is_refused(string name, string args = "") => Assert.Throws<PanoptesException>(() => Build(name, args).Dispose());

    [Theory]
    [InlineData("""{"input_size":[3,16,24],"crop_pct":1.0,"crop_mode":"squash","mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]}""")]
    [InlineData("""{"input_size":[3,16,24],"crop_pct":1.0}""")]
    public void A_folder_of_timm_says_itself_how_images_are_prepared(string transform)
    {
        var folder = Directory.CreateTempSubdirectory("panoptes-eva-").FullName;
        try
        {
            using (var model = Build("eva02_base_patch16_clip_224")) Models.Save(folder, model);
            var path = Path.Combine(folder, "config.json");
            var config = JsonNode.Parse(File.ReadAllText(path))!;
            config["pretrained_cfg"] = JsonNode.Parse(transform);
            File.WriteAllText(path, config.ToJsonString());
            using var encoder = ImageEncoder.Load(folder);
            Assert.Equal(16, encoder.Feature(new Image(40, 30, 3)).Length);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData(0.9, 248)]
    [InlineData(0.875, 256)]
    public void A_share_of_the_image_is_cropped_as_in_timm(double share, int edge)
    {
        var folder = Directory.CreateTempSubdirectory("panoptes-eva-").FullName;
        try
        {
            File.WriteAllText(Path.Combine(folder, "config.json"), FormattableString.Invariant($$"""{"pretrained_cfg":{"input_size":[3,224,224],"crop_pct":{{share}},"interpolation":"bicubic","mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]} }"""));
            ImageProcessor.Load(folder).Save(folder);
            var processor = ImageProcessor.Load(folder);
            // The picture is white beyond the half; of the resized side the center is kept, offsets rounded to even.
            var picture = new Image(500, 300, 3);
            for (var y = 0; y < 300; y++) picture.Pixels.AsSpan((y * 500 + 250) * 3, 250 * 3).Fill(255);
            using var row = processor.Process(picture)[0, 0, 0];
            var values = row.data<float>().ToArray();
            var middle = (int)(edge * 500L / 300) / 2.0 - Math.Round(((int)(edge * 500L / 300) - 224) / 2.0);
            Assert.Equal(middle, Array.FindIndex(values, static v => v > 0), 1.0);
            Assert.Equal((-1f, 1f), (values[0], values[^1]));
            using var pixels = processor.Process(new Image(500, 300, 3));
            Assert.Equal([1, 3, 224, 224], pixels.shape);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Turned_queries_and_keys_meet_by_their_distance_alone()
    {
        using var scope = NewDisposeScope();
        using var rotary = new RotaryEmbedding(4, 5, 8);
        var one = randn([1, 1, 1, 8], generator: new Generator(1)).expand(1, 1, 21, 8);
        var other = randn([1, 1, 1, 8], generator: new Generator(2)).expand(1, 1, 21, 8);
        var scores = rotary.Apply(one).matmul(rotary.Apply(other).transpose(2, 3));
        float Score(int row, int column, int otherRow, int otherColumn) => scores[0, 0, 1 + 5 * row + column, 1 + 5 * otherRow + otherColumn].item<float>();
        Assert.Equal(Score(0, 0, 1, 2), Score(2, 2, 3, 4), 1e-4f);
        Assert.Equal(Score(3, 1, 1, 0), Score(2, 4, 0, 3), 1e-4f);
        Assert.NotEqual(Score(0, 0, 1, 2), Score(0, 0, 2, 1), 1e-3f);
        Assert.Equal(one[0, 0, 0].data<float>().ToArray(), rotary.Apply(one)[0, 0, 0].data<float>().ToArray());
    }
}
