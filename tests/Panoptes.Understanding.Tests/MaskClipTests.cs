using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding.Tests;

public sealed class MaskClipTests
{
    internal const string OpenClip = """
        {"embed_dim": 12, "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}, "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1, "vocab_size": 40}}
        """;

    internal const string OpenClipResNet = """
        {"embed_dim": 12, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}, "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1, "vocab_size": 40}}
        """;

    internal static OpenClipModel Model(string config)
    {
        var model = new OpenClipModel(OpenClipConfig.Read(config, "open_clip_config.json"));
        model.Initialize(new Generator(7));
        return model;
    }

    [Fact]
    public void An_open_clip_model_gives_what_its_hugging_face_twin_gives()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var open = Model(OpenClip);
        using var twin = OpenClipConversion.ToClip(open);
        var pixels = randn([2, 3, 16, 16], generator: new Generator(1));
        var (ours, theirs) = (MaskClip.Features(open, pixels), MaskClip.Features(twin, pixels));
        Assert.Equal([2, 12, 2, 2], ours.Dense.shape);
        Assert.True((ours.Dense - theirs.Dense).abs().max().item<float>() < 1e-5);
        Assert.True((ours.Keys - theirs.Keys).abs().max().item<float>() < 1e-5);
    }

    [Theory, InlineData(OpenClip, 2, 3), InlineData(OpenClipResNet, 1, 2)]
    public void Images_of_any_size_have_features_of_length_one(string config, int rows, int columns)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Model(config);
        var place = MaskClip.PlaceSize(model);
        var features = MaskClip.Features(model, randn([1, 3, rows * place, columns * place], generator: new Generator(1)));
        Assert.Equal([1, 12, rows, columns], features.Dense.shape);
        Assert.True((features.Dense.norm(1) - 1).abs().max().item<float>() < 1e-5);
        Assert.Equal(rows * columns, features.Keys.shape[1]);
    }

    [Fact]
    public void A_ResNets_places_are_what_its_pooling_would_average()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Model(OpenClipResNet);
        var visual = (OpenClipResNet)model.Visual;
        // Without positions and without a choice (all keys alike), the pooled feature is the mean over the places and their own mean.
        visual.Attnpool.PositionalEmbedding.Value.zero_();
        visual.Attnpool.KProj.Weight.Value.zero_();
        var pixels = randn([1, 3, 64, 64], generator: new Generator(1));
        var places = visual.Forward(pixels).LastHiddenState;
        var expected = visual.Attnpool.CProj.Forward(visual.Attnpool.VProj.Forward(places)).mean([1]);
        Assert.True((visual.Encode(pixels) - expected).abs().max().item<float>() < 1e-4);
        var dense = MaskClip.Features(model, pixels).Dense.flatten(2).transpose(1, 2);
        Assert.True((dense - DualEncoder.Normalize(visual.Attnpool.CProj.Forward(visual.Attnpool.VProj.Forward(places)))).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void A_model_that_pools_in_another_way_is_refused_with_one_sentence()
    {
        using var model = new SiglipModel(new());
        Assert.Equal("Dense features were asked of a SiglipModel; expected a CLIP whose image tower is a vision transformer with a class token, or a ResNet.",
            Assert.Throws<PanoptesException>(() => MaskClip.PlaceSize(model)).Message);
    }

    [Fact]
    public void A_class_that_no_place_is_sure_of_is_dropped_and_an_unsure_place_follows_its_likes()
    {
        using var scope = NewDisposeScope();
        var logits = tensor((float[])[1, 1, 0.1f, 0, 0, 0.1f, 0.05f, 0.05f, 0.05f], [1, 3, 1, 3]);
        var options = new MaskClipOptions { SoftmaxScale = 10, DenoiseThreshold = 0.4, KeySmoothingThreshold = 0.9 };
        var denoised = MaskClip.Denoise(logits, options);
        Assert.Equal([true, false, false], denoised.Kept.data<bool>().ToArray());
        Assert.Equal(-100, denoised.Logits[0, 2, 0, 0].item<float>());
        var probabilities = tensor((float[])[0.95f, 0.4f, 0.05f, 0.05f, 0.6f, 0.95f], [1, 2, 1, 3]);
        var similarity = tensor((float[])[1, 0.8f, 0, 0.8f, 1, 0, 0, 0, 1], [1, 3, 3]);
        var smoothed = MaskClip.Smooth(probabilities, similarity, 0.9);
        Assert.Equal(0.95f, smoothed[0, 0, 0, 0].item<float>());
        Assert.Equal((0.8f * 0.95f) + 0.4f, smoothed[0, 0, 0, 1].item<float>(), 1e-5);
        Assert.Equal(0L, smoothed.argmax(1)[0, 0, 1].item<long>());
    }
}
