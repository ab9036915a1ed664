using Panoptes.Nn;
using Panoptes.Parity;

namespace Panoptes.Generation.Tests;

public sealed class ControlTests
{
    static readonly UNet2DConditionConfig Config = new()
    {
        BlockOutChannels = [8, 12],
        LayersPerBlock = 1,
        DownBlockTypes = ["CrossAttnDownBlock2D", "DownBlock2D"],
        UpBlockTypes = ["UpBlock2D", "CrossAttnUpBlock2D"],
        CrossAttentionDim = 16,
        AttentionHeadDim = 2,
        NormNumGroups = 4,
    };

    [Fact]
    public void A_ControlNet_made_of_a_UNet_adds_exactly_nothing_until_it_is_trained()
    {
        using var scope = NewDisposeScope();
        using var unet = Unet();
        using var control = ControlNetModel.Of(unet, new Generator(3), embeddingChannels: [4, 8]);
        var (inputs, image) = (Inputs(), rand(2, 3, 16, 16));
        var residuals = control.Forward(inputs, image);
        Assert.Equal(4, residuals.Down.Count);
        Assert.All(residuals.Down.Append(residuals.Mid), static r => Assert.Equal(0, r.abs().max().item<float>()));
        Assert.Equal(unet.Forward(inputs).data<float>().ToArray(), unet.Forward(inputs with { DownResiduals = residuals.Down, MidResidual = residuals.Mid }).data<float>().ToArray());
        // The first step reaches the zero convolutions, and they alone.
        (residuals.Mid + residuals.Down[^1]).sum().backward();
        var touched = control.NamedParameters().Where(static p => p.Parameter.Grad is { } g && g.abs().max().item<float>() > 0).Select(static p => p.Key).ToArray();
        Assert.NotEmpty(touched);
        Assert.All(touched, static key => Assert.StartsWith("controlnet_", key, StringComparison.Ordinal));
        Assert.Equal(unet.ConvIn.Weight.Value.data<float>().ToArray(), control.ConvIn.Weight.Value.data<float>().ToArray());
        Assert.NotSame(unet.ConvIn.Weight, control.ConvIn.Weight);
    }

    [Fact]
    public void A_condition_of_another_size_than_the_picture_is_refused_with_one_sentence()
    {
        using var scope = NewDisposeScope();
        using var unet = Unet();
        using var control = ControlNetModel.Of(unet, new Generator(3), embeddingChannels: [4, 8]);
        Assert.Equal("A condition of [2, 3, 16, 24] was given; expected [2, 3, 16, 16].", Assert.Throws<PanoptesException>(() => control.Forward(Inputs(), rand(2, 3, 16, 24))).Message);
        using var adapter = new T2IAdapter(new() { Channels = [8] });
        Assert.Equal("A condition of [1, 3, 12, 16] was given; expected [batch, 3, height, width] in multiples of 8 pixels.", Assert.Throws<PanoptesException>(() => adapter.Forward(rand(1, 3, 12, 16))).Message);
    }

    [Fact]
    public void An_adapters_features_fit_into_the_UNet_that_it_is_made_for()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var unet = Unet();
        using var adapter = new T2IAdapter(new() { Channels = [8, 12], DownscaleFactor = 4, NumResBlocks = 1 });
        adapter.Initialize(new Generator(4));
        var features = adapter.Forward(rand(2, 3, 16, 16));
        Assert.Equal([[2L, 8, 4, 4], [2L, 12, 2, 2]], features.Select(static f => f.shape));
        var inputs = Inputs() with { Sample = randn(2, 4, 8, 8) };
        Assert.True((unet.Forward(inputs) - unet.Forward(inputs with { AdapterFeatures = [randn(2, 8, 8, 8)] })).abs().max().item<float>() > 1e-4);
    }

    [Fact]
    public void An_adapter_of_another_UNet_is_refused_with_one_sentence_and_leaves_nothing_behind()
    {
        using var diffusion = Diffusion.Load(Path.Combine(Goldens.Root, "generation", "sd_text2img"));
        using var adapter = new T2IAdapter(new() { Channels = [8, 16], DownscaleFactor = 2, NumResBlocks = 1 });
        adapter.Initialize(new Generator(4));
        Assert.Contains("An adapter's map of [2, 16, 4, 4] was given to a level of the UNet that takes [2, 12, 4, 4]", Refused(16), StringComparison.Ordinal);
        Assert.Contains("An adapter's map of [2, 8, 12, 12]", Refused(24), StringComparison.Ordinal);
        var before = LiveTensors.Settle();
        Refused(16);
        Assert.Equal(before, LiveTensors.Settle());

        string Refused(int side)
        {
            using var condition = rand(1, 3, side, side);
            using var hook = new T2IAdapterCondition(adapter, condition);
            return Assert.Throws<PanoptesException>(() => diffusion.Generate([new("a cat") { Width = 16, Height = 16, Steps = 1, Hooks = [hook] }])).Message;
        }
    }

    static UNet2DConditionModel Unet()
    {
        var model = new UNet2DConditionModel(Config);
        model.Initialize(new Generator(1));
        return model;
    }

    static UNetInputs Inputs()
    {
        var random = new Generator(2);
        return new() { Sample = randn([2, 4, 8, 8], generator: random), Timestep = tensor(500L), Text = randn([2, 5, 16], generator: random) };
    }
}
