using System.Text.Json;
using Panoptes.Nn;

namespace Panoptes.Representation.Tests;

public sealed class ConversionTests
{
    static readonly OpenClipConfig Config = new()
    {
        EmbedDim = 12,
        QuickGelu = true,
        VisionCfg = new() { ImageSize = [16], Layers = [2], Width = 24, HeadWidth = 8, PatchSize = 8, MlpRatio = 1.5 },
        TextCfg = new() { ContextLength = 8, VocabSize = 40, Width = 16, Heads = 2, Layers = 2 },
    };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Converting_to_Hugging_Face_and_back_keeps_every_weight(bool quickGelu)
    {
        using var scope = NewDisposeScope();
        using var model = Fresh(Config with { QuickGelu = quickGelu });
        using var clip = OpenClipConversion.ToClip(model);
        using var back = OpenClipConversion.FromClip(clip);
        Assert.Equal(quickGelu, back.Config.QuickGelu);
        var theirs = model.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        Assert.Equal(theirs.Keys.Order(), back.NamedParameters().Select(static p => p.Key).Order());
        foreach (var (key, parameter) in back.NamedParameters()) Assert.True(parameter.Value.equal(theirs[key].Value).all().item<bool>(), key);
    }

    [Fact]
    public void The_converted_model_gives_the_same_logits()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh(Config);
        using var clip = OpenClipConversion.ToClip(model);
        var (pixels, ids) = (randn([2, 3, 16, 16], generator: new Generator(1)), tensor(new long[] { 5, 39, 0, 0, 7, 1, 2, 39 }, [2, 4]));
        var difference = (model.Features(pixels, ids).Logits() - clip.Features(pixels, ids).Logits()).abs().max().item<float>();
        Assert.InRange(difference, 0, 1e-5f);
    }

    [Fact]
    public void A_part_that_Hugging_Face_does_not_have_is_named()
    {
        using var model = new OpenClipModel(Config with { TextCfg = Config.TextCfg with { LsInitValue = 0.1 } });
        Assert.Contains("layer scale", Assert.Throws<PanoptesException>(() => OpenClipConversion.ToClip(model)).Message);
    }

    [Fact]
    public void Converting_leaves_no_tensor_behind()
    {
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        static void Once()
        {
            using var model = Fresh(Config);
            using var clip = OpenClipConversion.ToClip(model);
            using var back = OpenClipConversion.FromClip(clip);
        }
    }

    static OpenClipModel Fresh(OpenClipConfig config)
    {
        var model = new OpenClipModel(config);
        using var generator = new Generator(5);
        model.Initialize(generator);
        return model;
    }

    [Fact]
    public void What_open_clip_takes_no_argument_for_is_not_in_the_saved_config()
    {
        using var scope = NewDisposeScope();
        var json = Config.ToJson();
        using var model = (OpenClipModel)Models.All.Single(static e => e.Architecture == "CLIP").Build(new(json[..^1] + """,  "architectures": ["CLIP"]}""", "a recipe", static _ => null));
        model.Initialize(new Generator(1));
        var folder = Directory.CreateTempSubdirectory("panoptes-test-").FullName;
        try
        {
            Models.Save(folder, model);
            var saved = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "open_clip_config.json"))).RootElement.GetProperty("model_cfg");
            // CLIP's own arguments (open_clip/model.py), and custom_text, which decides between the classes.
            string[] known = ["embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "custom_text"];
            Assert.Empty(saved.EnumerateObject().Select(static p => p.Name).Except(known));
            using var back = Models.Load(folder);
            Assert.IsType<OpenClipModel>(back);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
