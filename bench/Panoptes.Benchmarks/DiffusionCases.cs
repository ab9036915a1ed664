using Panoptes.Generation;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Benchmarks;

/// <summary>Stable Diffusion 1.5 at its full size: a step of its UNet over both halves of guidance at 512 pixels, decoding of its latents, and the whole pipeline, written and loaded as a folder.</summary>
static class DiffusionCases
{
    public static IRun UNet(ScalarType dtype)
    {
        var model = Network();
        var inputs = new UNetInputs { Sample = randn([2, 4, 64, 64], dtype), Timestep = tensor(500L), Text = randn([2, 77, 768], dtype) };
        return new Inference(Inference.Ready(model, dtype), () => model.Forward(inputs));
    }

    public static IRun Decode(ScalarType dtype)
    {
        var model = Autoencoder();
        var latents = randn([1, 4, 64, 64], dtype);
        return new Inference(Inference.Ready(model, dtype), () => model.Decode(latents));
    }

    /// <summary>From the folder to a pipeline that is ready to make images.</summary>
    public static IRun Load(ScalarType dtype)
    {
        var folder = new Folder(dtype);
        return new Inference(folder, () => Diffusion.Load(folder.Path, dtype).Dispose());
    }

    /// <summary>An image of 512 pixels in two guided steps, from a folder that is loaded once.</summary>
    public static IRun Generate(ScalarType dtype)
    {
        var folder = new Folder(dtype);
        var diffusion = Diffusion.Load(folder.Path, dtype);
        return new Inference(new Both(diffusion, folder), () => diffusion.Generate([new("a red apple left of a cat") { Steps = 2, Seed = 1 }]));
    }

    static UNet2DConditionModel Network() => new(new() { SampleSize = 64, CrossAttentionDim = 768 });

    static AutoencoderKl Autoencoder() => new(new()
    {
        DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 4)],
        UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 4)],
        BlockOutChannels = [128, 256, 512, 512],
        LayersPerBlock = 2,
        SampleSize = 512,
    });

    /// <summary>A pipeline of random weights, written while this lives; what that took counts for nothing.</summary>
    sealed class Folder : IDisposable
    {
        public Folder(ScalarType dtype)
        {
            var text = new ClipTextModel(new() { HiddenSize = 768, IntermediateSize = 3072, NumHiddenLayers = 12, NumAttentionHeads = 12, VocabSize = 49408, EosTokenId = 49407 }, null);
            var (unet, autoencoder) = (Network(), Autoencoder());
            using (var generator = new Generator(0))
                foreach (var module in (Module[])[text, unet, autoencoder])
                    foreach (var parameter in module.Parameters()) parameter.Initialize(generator, dtype);
            using (var pipeline = new StableDiffusion(unet, autoencoder, new(text, ClipTokenizer.OpenAi()), new DdimScheduler { BetaSchedule = "scaled_linear", BetaStart = 0.00085, BetaEnd = 0.012, ClipSample = false, SetAlphaToOne = false, StepsOffset = 1 })) PipelineFolder.Save(Path, pipeline);
            Case.ResetPeakMemory();
        }

        public string Path { get; } = Directory.CreateTempSubdirectory("panoptes-sd15-").FullName;

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }

    sealed class Both(IDisposable first, IDisposable second) : IDisposable
    {
        public void Dispose()
        {
            first.Dispose();
            second.Dispose();
        }
    }
}
