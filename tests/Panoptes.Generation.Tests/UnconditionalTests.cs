using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Parity;
using Panoptes.Representation;

namespace Panoptes.Generation.Tests;

/// <summary>Pipelines of pixels without words.</summary>
public sealed class UnconditionalTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-ddpm-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static UNet2DModel Plain(int read = 3, int given = 3)
    {
        var unet = new UNet2DModel(ModelConfig.Parse<UNet2DConfig>($$"""{"in_channels":{{read}},"out_channels":{{given}},"sample_size":8,"block_out_channels":[8,12],"layers_per_block":1,"down_block_types":["DownBlock2D","AttnDownBlock2D"],"up_block_types":["AttnUpBlock2D","UpBlock2D"],"attention_head_dim":4,"norm_num_groups":4}""", "a test"));
        unet.Initialize(new Generator(1));
        return unet;
    }

    [Theory]
    [InlineData("DDPMScheduler", "DDPMPipeline", 1000)]
    [InlineData("DDIMScheduler", "DDIMPipeline", 50)]
    public void An_image_is_what_the_schedulers_steps_make_of_noise_and_a_folder_makes_the_same(string scheduler, string pipeline, int usual)
    {
        using var scope = NewDisposeScope();
        var unet = Plain();
        var steps = (DiffusionScheduler)Scheduler.Parse($$"""{"_class_name": "{{scheduler}}", "clip_sample": true}""", "a test");
        using var diffusion = new Diffusion(new UnconditionalDiffusion(unet, steps), "ddpm");
        Assert.Equal((usual, 8, 2), (diffusion.Model.UsualSteps, diffusion.Model.Side, diffusion.Model.Multiple));
        var made = diffusion.Generate([new("") { Seed = 5, Steps = 4 }])[0];
        Assert.Equal((8, 8), (made.Image.Width, made.Image.Height));

        using var noGrad = no_grad();
        NoiseSource noise = new Generator(5);
        var (run, state) = (steps.Start(4), SchedulerState.Empty);
        var x = noise.Normal([1, 3, 8, 8], ScalarType.Float32) * run.InitNoiseSigma;
        for (var i = 0; i < 4; i++) (x, _, state) = run.Step(i, unet.Forward(run.ScaleInput(x, i), run.Timestep(i)), x, state, noise);
        Assert.Equal(Diffusion.ToImage((x[0] / 2 + 0.5).clamp(0, 1)).Pixels, made.Image.Pixels);

        PipelineFolder.Save(folder, diffusion.Model);
        Assert.Contains(pipeline, ModelFolder.ReadText(Path.Combine(folder, PipelineFolder.FileName)), StringComparison.Ordinal);
        using var again = Diffusion.Load(folder);
        Assert.Equal(made.Image.Pixels, again.Generate([new("") { Seed = 5, Steps = 4 }])[0].Image.Pixels);
    }

    [Theory]
    [InlineData(1, 1, "fixed_small")]
    [InlineData(1, 2, "learned_range")]
    [InlineData(3, 6, "learned_range")]
    [InlineData(3, 6, "fixed_large")]
    public void Grey_images_have_equal_channels_and_a_learned_variance_goes_to_the_samplers_that_take_it(int read, int given, string variance)
    {
        using var scope = NewDisposeScope();
        var unet = Plain(read, given);
        var steps = new DdpmScheduler { VarianceType = variance };
        using var diffusion = new Diffusion(new UnconditionalDiffusion(unet, steps), "ddpm");
        var made = diffusion.Generate([new("") { Seed = 5, Steps = 4 }])[0].Image;

        using var noGrad = no_grad();
        NoiseSource noise = new Generator(5);
        var (run, state) = (steps.Start(4), SchedulerState.Empty);
        var x = noise.Normal([1, read, 8, 8], ScalarType.Float32);
        for (var i = 0; i < 4; i++)
        {
            var told = unet.Forward(x, run.Timestep(i));
            (x, _, state) = run.Step(i, variance == "learned_range" ? told : told.narrow(1, 0, read), x, state, noise);
        }
        Assert.Equal(Diffusion.ToImage((x[0] / 2 + 0.5).clamp(0, 1).expand(3, 8, 8)).Pixels, made.Pixels);
        // Samplers of all kinds, changes of pictures and guidance by a loss take it, too.
        foreach (var sampler in (string?[])["ddim", "dpmpp-2m", "euler", null])
            Assert.Equal(3, diffusion.Generate([new("") { Seed = 5, Steps = 3, Sampler = sampler, Image = made, Strength = 0.7 }])[0].Image.Channels);
        var loss = new UniversalGuidance(static pictures => pictures.square().sum()) { ForwardScale = 1, BackwardSteps = 1 };
        Assert.NotEqual(made.Pixels, diffusion.Generate([new("") { Seed = 5, Steps = 4, Hooks = [loss] }])[0].Image.Pixels);

        PipelineFolder.Save(folder, diffusion.Model);
        using var again = Diffusion.Load(folder);
        Assert.Equal(made.Pixels, again.Generate([new("") { Seed = 5, Steps = 4 }])[0].Image.Pixels);
    }

    [Fact]
    public void Latents_are_rounded_to_codes_before_a_picture_is_made_of_them()
    {
        using var scope = NewDisposeScope();
        var (unet, codes) = (Plain(), new VqModel(new() { BlockOutChannels = [8, 8], DownBlockTypes = ["DownEncoderBlock2D", "DownEncoderBlock2D"], UpBlockTypes = ["UpDecoderBlock2D", "UpDecoderBlock2D"], NormNumGroups = 4, NumVqEmbeddings = 16 }));
        codes.Initialize(new Generator(2));
        var steps = new DdimScheduler();
        using var diffusion = new Diffusion(new UnconditionalDiffusion(unet, steps, new CodeAutoencoder(codes)), "ldm");
        Assert.Equal((50, 16, 4, 3), (diffusion.Model.UsualSteps, diffusion.Model.Side, diffusion.Model.Multiple, diffusion.Model.LatentChannels));
        var made = diffusion.Generate([new("") { Seed = 5, Steps = 4 }])[0].Image;

        using var noGrad = no_grad();
        NoiseSource noise = new Generator(5);
        var (run, state) = (steps.Start(4), SchedulerState.Empty);
        var x = noise.Normal([1, 3, 8, 8], ScalarType.Float32);
        for (var i = 0; i < 4; i++) (x, _, state) = run.Step(i, unet.Forward(x, run.Timestep(i)), x, state, noise);
        var picture = codes.Decode(codes.Quantize.Entries(codes.Quantize.Nearest(x / codes.Config.ScalingFactor)));
        Assert.Equal(Diffusion.ToImage((picture[0] / 2 + 0.5).clamp(0, 1)).Pixels, made.Pixels);

        PipelineFolder.Save(folder, diffusion.Model);
        Assert.Contains("LDMPipeline", ModelFolder.ReadText(Path.Combine(folder, PipelineFolder.FileName)), StringComparison.Ordinal);
        using var again = Diffusion.Load(folder);
        Assert.Equal(made.Pixels, again.Generate([new("") { Seed = 5, Steps = 4 }])[0].Image.Pixels);
        // A picture is changed, one after the other is the same as both at once but for the last bits, and guidance reaches through the rounding.
        ImageRequest changed = new("") { Seed = 5, Steps = 4, Image = made, Strength = 0.5, Count = 2 };
        var (both, each) = (again.Generate([changed]), new Diffusion(again.Model, "ldm") { Parts = new() { Sliced = true } }.Generate([changed]));
        Assert.All(both.Zip(each), static p => Assert.All(p.First.Image.Pixels.Zip(p.Second.Image.Pixels), static v => Assert.InRange(v.First - v.Second, -1, 1)));
        var loss = new UniversalGuidance(static pictures => pictures.square().sum()) { ForwardScale = 1 };
        Assert.NotEqual(made.Pixels, again.Generate([new("") { Seed = 5, Steps = 4, Hooks = [loss] }])[0].Image.Pixels);
        var asked = 0;
        var counted = new UniversalGuidance(pictures => { asked++; return pictures.square().sum(); }) { ForwardScale = 1 };
        Assert.Contains("takes no tiles", Assert.Throws<PanoptesException>(() => new Diffusion(again.Model, "ldm") { Parts = new() { Tiled = true } }.Generate([new("") { Hooks = [counted] }])).Message, StringComparison.Ordinal);
        Assert.Equal(0, asked);
        using var wide = Plain(4, 4);
        Assert.Contains("reads 4 channels, but the latents have 3", Assert.Throws<PanoptesException>(() => new UnconditionalDiffusion(wide, steps, new CodeAutoencoder(codes))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_UNet_that_was_taught_classes_takes_their_numbers()
    {
        using var diffusion = new Diffusion(new UnconditionalDiffusion(GenerationModels.Load<UNet2DModel>(Path.Combine(Goldens.Root, "generation", "unet2d_unconditional")), new DdimScheduler()), "ddpm");
        byte[] Of(string prompt) => diffusion.Generate([new(prompt) { Seed = 1, Steps = 2 }])[0].Image.Pixels;
        Assert.Equal(Of("3"), Of("3"));
        Assert.NotEqual(Of("3"), Of("4"));
        Assert.Contains("'5' is no class", Assert.Throws<PanoptesException>(() => Of("5")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Words_and_what_is_not_wanted_are_refused_with_one_sentence()
    {
        using var diffusion = new Diffusion(new UnconditionalDiffusion(Plain(), new DdpmScheduler()), "ddpm");
        Assert.Contains("is not guided; expected none", Assert.Throws<PanoptesException>(() => diffusion.Generate([new("") { Steps = 2, Guidance = 7 }])).Message, StringComparison.Ordinal);
        Assert.Contains("DDPMScheduler has none; expected DDIM", Assert.Throws<PanoptesException>(() => diffusion.Generate([new("") { Steps = 2, Eta = 0.5 }])).Message, StringComparison.Ordinal);
        Assert.Contains("reads no words, but 'a cat'", Assert.Throws<PanoptesException>(() => diffusion.Generate("a cat")).Message, StringComparison.Ordinal);
        Assert.Contains("negative prompt", Assert.Throws<PanoptesException>(() => diffusion.Generate([new("") { NegativePrompt = "a cat" }])).Message, StringComparison.Ordinal);
        foreach (var (read, given) in (ReadOnlySpan<(int, int)>)[(2, 2), (3, 4), (3, 9)])
        {
            using var odd = Plain(read, given);
            Assert.Contains($"reads {read} channels and gives {given};", Assert.Throws<PanoptesException>(() => new UnconditionalDiffusion(odd, new DdpmScheduler())).Message, StringComparison.Ordinal);
        }
    }
}
