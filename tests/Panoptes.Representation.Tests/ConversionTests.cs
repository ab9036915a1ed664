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
        var before = Tensor.TotalCount;
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
}
