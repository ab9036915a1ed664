using Panoptes.Nn;

namespace Panoptes.Understanding.Tests;

public sealed class ClipSegTests
{
    static ClipSegModel Model(string config)
    {
        var model = new ClipSegModel(ModelConfig.Parse<ClipSegConfig>(config, "config.json"));
        model.Initialize(new Generator(7));
        return model;
    }

    [Theory, InlineData(true), InlineData(false)]
    public void One_image_is_encoded_once_for_many_conditions(bool refined)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Model(ClipSegTiny.Config(refined));
        var pixels = randn([1, 3, 16, 24], generator: new Generator(1));
        var conditions = model.Condition(GroupVitTiny.Ids);
        using var features = model.Encode(pixels);
        var many = model.Decode(features, conditions);
        Assert.Equal([2, 16, 24], many.shape[..3].Select((s, i) => i > 0 && refined ? s * 2 : s).ToArray());
        var alone = model.Forward(pixels, conditions.narrow(0, 1, 1)).Logits;
        Assert.True((many.narrow(0, 1, 1) - alone).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void The_decoder_alone_learns_where_clip_is_frozen()
    {
        using var scope = NewDisposeScope();
        using var model = Model(ClipSegTiny.Config(refined: false));
        model.Clip.RequiresGrad(false);
        var pixels = GroupVitTiny.Pixels(16);
        ClipSegModel.Loss(model.Decode(model.Encode(pixels), model.Condition(GroupVitTiny.Ids)), zeros(2, 16, 16)).backward();
        Assert.All(model.Decoder.NamedParameters(), static p => Assert.NotNull(p.Parameter.Grad));
        Assert.All(model.Clip.NamedParameters(), static p => Assert.Null(p.Parameter.Grad));
    }

    [Fact]
    public void Layers_that_are_not_there_are_refused_with_one_sentence()
    {
        var wrong = ClipSegTiny.Config(refined: false).Replace("[0, 2]", "[0, 4]", StringComparison.Ordinal);
        Assert.Equal("extract_layers is [0, 4]; expected at least one of the image tower's layers, 0 to 3.", Assert.Throws<PanoptesException>(() => Model(wrong)).Message);
    }

    [Fact]
    public void More_conditions_than_images_are_refused()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Model(ClipSegTiny.Config(refined: false));
        using var features = model.Encode(GroupVitTiny.Pixels(16, count: 3));
        Assert.Contains("2 conditions were given for 3 images", Assert.Throws<PanoptesException>(() => model.Decode(features, model.Condition(GroupVitTiny.Ids))).Message, StringComparison.Ordinal);
    }
}
