using Panoptes.Generation;
using Panoptes.Nn;

namespace Panoptes.Benchmarks;

/// <summary>Stable Diffusion 1.5: a step of its UNet over both halves of guidance at 512 pixels, and decoding of its latents.</summary>
static class DiffusionCases
{
    public static IRun UNet(ScalarType dtype)
    {
        var model = new UNet2DConditionModel(new() { CrossAttentionDim = 768 });
        var inputs = new UNetInputs { Sample = randn([2, 4, 64, 64], dtype), Timestep = tensor(500L), Text = randn([2, 77, 768], dtype) };
        return new Inference(Inference.Ready(model, dtype), () => model.Forward(inputs));
    }

    public static IRun Decode(ScalarType dtype)
    {
        var model = new AutoencoderKl(new()
        {
            DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 4)],
            UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 4)],
            BlockOutChannels = [128, 256, 512, 512],
            LayersPerBlock = 2,
        });
        var latents = randn([1, 4, 64, 64], dtype);
        return new Inference(Inference.Ready(model, dtype), () => model.Decode(latents));
    }
}
