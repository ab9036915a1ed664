using Panoptes.Parity;

namespace Panoptes.Generation.Tests;

/// <summary>Guidance with nothing trained, on the tiny pipeline of the golden cases.</summary>
public sealed class TrainingFreeGuidanceTests : IDisposable
{
    readonly Diffusion diffusion = Diffusion.Load(Path.Combine(Goldens.Root, "generation", "sd_text2img"));

    static ImageRequest Apple => new("a red apple") { Width = 16, Height = 16, Steps = 6, Seed = 3, Guidance = 3 };

    public void Dispose() => diffusion.Dispose();

    double Brightness(ImageRequest request) => diffusion.Generate([request])[0].Image.Pixels.Average(static p => p);

    static Tensor Darkness(Tensor pictures) => (1 - pictures).square().sum();

    [Theory, InlineData(true), InlineData(false)]
    public void A_loss_over_pictures_leads_the_model_by_each_of_both_guidances(bool forward)
    {
        var plain = Brightness(Apple);
        var guided = Brightness(Apple with { Hooks = [new UniversalGuidance(Darkness) { ForwardScale = forward ? 1 : 0, BackwardSteps = forward ? 0 : 10, BackwardRate = 0.05 }] });
        // Random weights decode latents to nearly one gray.
        Assert.True(guided > plain, $"{guided} is no more than {plain}.");
    }

    [Theory, InlineData(true), InlineData(false)]
    public void A_loss_over_latents_brings_them_nearer_to_what_it_wants(bool forward)
    {
        using var scope = NewDisposeScope();
        var target = randn(1, 4, 8, 8, generator: new Generator(9));
        var (positive, negative) = diffusion.Model.Describe(["a cat"], null, new());
        double Distance(params IStepHook[] hooks)
        {
            var task = new DiffusionTask { Positive = positive, Negative = negative, Height = 16, Width = 16, Steps = 10, Guidance = 2, Noise = new Generator(1), Hooks = hooks };
            return (task.Run(diffusion.Model) - target).square().mean().item<float>();
        }
        var guidance = new UniversalGuidance(clean => (clean - target).square().sum(), inPixels: false) { ForwardScale = forward ? 0.02 : 0, BackwardSteps = forward ? 0 : 10, BackwardRate = 0.05 };
        var (plain, guided) = (Distance(), Distance(guidance));
        Assert.True(guided < 0.8 * plain, $"{guided} is not well below {plain}.");
        positive.Dispose();
        negative.Dispose();
    }

    [Fact]
    public void Guidance_of_no_strength_changes_nothing() =>
        Assert.Equal(diffusion.Generate([Apple])[0].Image.Pixels, diffusion.Generate([Apple with { Hooks = [new UniversalGuidance(Darkness)] }])[0].Image.Pixels);

    [Fact]
    public void Shifted_noise_is_shifted_by_as_much_whatever_is_predicted()
    {
        using var scope = NewDisposeScope();
        var (sample, prediction, change) = (randn(1, 4, 3, 3, generator: new Generator(1)), randn(1, 4, 3, 3, generator: new Generator(2)), randn(1, 4, 3, 3, generator: new Generator(3)));
        foreach (var scheduler in (DiffusionScheduler[])[new DdimScheduler { ClipSample = false }, new DdimScheduler { ClipSample = false, PredictionType = "v_prediction" }, new DdimScheduler { ClipSample = false, PredictionType = "sample" },
            new EulerScheduler(), new EulerScheduler { PredictionType = "v_prediction" }, new FlowMatchEulerScheduler()])
        {
            var run = scheduler.Start(10);
            var level = run.Level(4);
            Tensor Noise(Tensor p) => (sample - level.Alpha * run.PredictClean(4, p, sample)) / level.Sigma;
            Assert.True((Noise(run.Shift(4, prediction, change)) - Noise(prediction)).allclose(change, 1e-3, 1e-3), $"{scheduler.ClassName} {scheduler}");
        }
    }

    [Fact]
    public void Steps_are_repeated_with_new_noise_of_the_level_that_they_began_at()
    {
        using var scope = NewDisposeScope();
        var (positive, negative) = diffusion.Model.Describe(["a cat"], null, new());
        var seen = new Seen();
        var task = new DiffusionTask { Positive = positive, Negative = negative, Height = 16, Width = 16, Steps = 4, Guidance = 2, Noise = new Generator(1), Repeats = 3, Hooks = [seen] };
        task.Run(diffusion.Model);
        Assert.Equal([0, 0, 0, 1, 1, 1, 2, 2, 2, 3], seen.Steps);
        var run = diffusion.Model.Scheduler.Start(4);
        var clean = randn(20000, generator: new Generator(5));
        var back = run.Back(1, run.AddNoise(clean, randn(20000, generator: new Generator(6)), 2), randn(20000, generator: new Generator(7)));
        var noise = back - run.Level(1).Alpha * clean;
        Assert.Equal(run.Level(1).Sigma, noise.std().item<float>(), 2e-2);
        Assert.Equal(0, (noise * clean).mean().item<float>(), 3e-2);
        positive.Dispose();
        negative.Dispose();
    }

    [Fact]
    public void Words_are_moved_into_their_box()
    {
        LayoutBox[] layout = [new([2, 3], [(0.5, 0, 1, 0.5)])];
        var (before, after) = (new Outside(layout), new Outside(layout));
        diffusion.Generate([Apple with { Steps = 3, Hooks = [before, new LayoutGuidance(layout) { Steps = 2, Enough = 0, Scale = 5 }, after] }]);
        Assert.True(after.Losses[0] < before.Losses[0], $"{after.Losses[0]} is no less than {before.Losses[0]}.");
        Assert.True(after.Losses[1] < before.Losses[1], $"{after.Losses[1]} is no less than {before.Losses[1]}.");
        // Beyond its steps nothing is moved.
        Assert.Equal(before.Losses[2], after.Losses[2]);
    }

    [Fact]
    public void Layout_guidance_moves_latents_alike_in_whichever_scale_a_sampler_holds_them()
    {
        using var scope = NewDisposeScope();
        var (positive, negative) = diffusion.Model.Describe(["a red apple"], null, new());
        (Tensor Before, Tensor After) Latents(string sampler)
        {
            var (before, after) = (new Held(), new Held());
            var task = new DiffusionTask { Positive = positive, Negative = negative, Height = 16, Width = 16, Steps = 4, Guidance = 2, Noise = new Generator(1), Scheduler = diffusion.Model.Scheduler.Using(sampler), Hooks = [before, new LayoutGuidance([new([2, 3], [(0.5, 0, 1, 0.5)])]) { Enough = 0 }, after] };
            task.Run(diffusion.Model).Dispose();
            return (tensor(before.Latents!), tensor(after.Latents!));
        }
        var (ddim, euler) = (Latents("ddim"), Latents("euler"));
        var alpha = diffusion.Model.Scheduler.Using("ddim").Start(4).Level(0).Alpha;
        Assert.True((euler.Before * alpha).allclose(ddim.Before, 1e-4, 1e-5));
        Assert.False(ddim.After.allclose(ddim.Before, 1e-3, 1e-3), "Nothing was moved.");
        Assert.True((euler.After * alpha).allclose(ddim.After, 1e-4, 1e-4), $"{(euler.After * alpha - ddim.After).abs().max().item<float>()} apart.");
        positive.Dispose();
        negative.Dispose();
    }

    [Fact]
    public void Guidance_keeps_no_tensor()
    {
        var request = Apple with { Steps = 2, Hooks = [new LayoutGuidance([new([2], [(0, 0, 0.5, 1)])]) { Enough = 0 }, new UniversalGuidance(Darkness) { ForwardScale = 1, BackwardSteps = 2 }] };
        diffusion.Generate([request]);
        var count = LiveTensors.Settle();
        diffusion.Generate([request]);
        Assert.Equal(count, Tensor.TotalCount);
    }

    sealed class Seen : IStepHook
    {
        public List<int> Steps { get; } = [];

        public void Asking(DenoisingStep step) => Steps.Add(step.Index);
    }

    /// <summary>The latents of the first step.</summary>
    sealed class Held : IStepHook
    {
        public float[]? Latents { get; private set; }

        public void Asking(DenoisingStep step) => Latents ??= step.Latents.data<float>().ToArray();
    }

    /// <summary>How much of the words' attention lies outside their boxes, before each step.</summary>
    sealed class Outside(LayoutBox[] layout) : IStepHook, IAttentionHook
    {
        readonly List<Tensor> maps = [];

        public List<float> Losses { get; } = [];

        public void Asking(DenoisingStep step)
        {
            using var scope = NewDisposeScope();
            step.Denoising.Model.Predict(step.Ask(step.Latents, guided: false) with { Attention = this });
            Losses.Add(LayoutGuidance.Loss(maps, layout).item<float>());
            foreach (var map in maps) map.Dispose();
            maps.Clear();
        }

        public Tensor? Attend(AttentionCall call)
        {
            // Those that the guidance looks at: the middle, and the first upward level that attends to the text.
            if (call.IsCross && (call.Layer.StartsWith("mid_block", StringComparison.Ordinal) || call.Layer.StartsWith("up_blocks.1", StringComparison.Ordinal))) maps.Add(call.Probabilities().DetachFromDisposeScope());
            return null;
        }
    }
}
