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
    public void Of_several_that_lead_the_changes_add_up_as_if_their_losses_did()
    {
        using var scope = NewDisposeScope();
        Tensor[] targets = [randn(1, 4, 8, 8, generator: new Generator(9)), randn(1, 4, 8, 8, generator: new Generator(10))];
        var (positive, negative) = diffusion.Model.Describe(["a cat"], null, new());
        UniversalGuidance Toward(params Tensor[] wanted) => new(clean => wanted.Select(w => (clean - w).square().sum()).Aggregate(static (a, b) => a + b), inPixels: false) { ForwardScale = 0.02 };
        Tensor Led(params IStepHook[] hooks) => new DiffusionTask { Positive = positive, Negative = negative, Height = 16, Width = 16, Steps = 6, Guidance = 2, Noise = new Generator(1), Hooks = hooks }.Run(diffusion.Model);
        var together = Led(Toward(targets));
        Assert.True(Led(Toward(targets[0]), Toward(targets[1])).allclose(together, 1e-3, 1e-3));
        Assert.False(Led(Toward(targets[1])).allclose(together, 1e-2, 1e-2));
        positive.Dispose();
        negative.Dispose();
    }

    [Fact]
    public void Guidance_of_no_strength_changes_nothing() =>
        Assert.Equal(diffusion.Generate([Apple])[0].Image.Pixels, diffusion.Generate([Apple with { Hooks = [new UniversalGuidance(Darkness)] }])[0].Image.Pixels);

    [Fact]
    public void Places_are_rounded_down_and_only_an_object_that_would_have_none_gets_one()
    {
        using var scope = NewDisposeScope();
        var map = randn(2, 9, 5, generator: new Generator(1)).softmax(-1);
        float Loss(params (double, double, double, double)[] boxes) => LayoutGuidance.Loss([map], [new([2], boxes)]).item<float>();
        float Expected(params long[] places) => (1 - map.select(-1, 2).index_select(-1, tensor(places)).sum(-1) / map.select(-1, 2).sum(-1)).square().mean().item<float>();
        // Of 3 x 3 places; the thin box takes less than a column.
        var (wide, thin) = ((0.34, 0.0, 1.0, 0.5), (0.0, 0.55, 0.3, 1.0));
        Assert.Equal(Expected(1, 2), Loss(wide), 1e-6f);
        Assert.Equal(Expected(1, 2), Loss(wide, thin), 1e-6f);
        Assert.Equal(Expected(3, 6), Loss(thin), 1e-6f);
        Assert.Equal(Expected(8), Loss((0.9, 0.9, 0.95, 0.95)), 1e-6f);
    }

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
    public void What_is_outside_a_mask_stays_in_steps_that_are_repeated_too()
    {
        using var scope = NewDisposeScope();
        List<float[]> Asked(string prompt)
        {
            var (positive, negative) = diffusion.Model.Describe([prompt], null, new());
            var all = new Every();
            // Nothing is made anew, so that nothing depends on what the network says.
            new DiffusionTask
            {
                Positive = positive,
                Negative = negative,
                Height = 16,
                Width = 16,
                Steps = 4,
                Guidance = 2,
                Noise = new Generator(1),
                Repeats = 3,
                Image = rand(1, 3, 16, 16, generator: new Generator(2)),
                Mask = zeros(1, 1, 16, 16),
                Sampling = new() { Strength = 0.9 },
                Hooks = [all],
            }.Run(diffusion.Model).Dispose();
            positive.Dispose();
            negative.Dispose();
            return all.Latents;
        }
        var (one, other) = (Asked("a cat"), Asked("a red apple"));
        Assert.True(one.Count > 6);
        Assert.Equal(one, other);
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

    /// <summary>Three levels of 16, 8 and 4 places a side and the middle, of which those that attend to the text are marked.</summary>
    [Theory]
    [InlineData("CrossAttnDownBlock2D,CrossAttnDownBlock2D,CrossAttnDownBlock2D", "CrossAttnUpBlock2D,CrossAttnUpBlock2D,CrossAttnUpBlock2D", "UNetMidBlock2DCrossAttn", "4 4 4 8 8")]
    [InlineData("CrossAttnDownBlock2D,CrossAttnDownBlock2D,DownBlock2D", "UpBlock2D,CrossAttnUpBlock2D,CrossAttnUpBlock2D", "UNetMidBlock2DCrossAttn", "4 8 8")]
    [InlineData("CrossAttnDownBlock2D,DownBlock2D,DownBlock2D", "UpBlock2D,UpBlock2D,CrossAttnUpBlock2D", "UNetMidBlock2DCrossAttn", "4 16 16")]
    [InlineData("CrossAttnDownBlock2D,DownBlock2D,CrossAttnDownBlock2D", "CrossAttnUpBlock2D,UpBlock2D,CrossAttnUpBlock2D", "UNetMidBlock2D", "4 4")]
    public void Layout_guidance_looks_at_the_middle_and_up_to_the_first_finer_level(string down, string up, string middle, string sides)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = new UNet2DConditionModel(new()
        {
            SampleSize = 16,
            DownBlockTypes = down.Split(','),
            UpBlockTypes = up.Split(','),
            MidBlockType = middle,
            BlockOutChannels = [8, 8, 8],
            LayersPerBlock = 1,
            CrossAttentionDim = 8,
            NormNumGroups = 4,
            AttentionHeadDim = 2,
        });
        using var generator = new Generator(1);
        model.Initialize(generator);
        using var maps = new LayoutGuidance.Maps();
        model.Forward(new() { Sample = randn([1, 4, 16, 16], generator: generator), Timestep = tensor(500L), Text = randn([1, 5, 8], generator: generator), Hook = maps });
        Assert.Equal(sides, string.Join(' ', maps.Sizes.Select(static s => s.Rows)));
        Assert.All(maps.Of.Zip(maps.Sizes), static m => Assert.Equal(m.Second.Rows * m.Second.Columns, m.First.shape[^2]));
    }

    /// <summary>What a hook does in the first step, by two samplers that begin at the same noise in other scales.</summary>
    (float[] Before, float[] After)[] InTwoScales(Func<IStepHook> hook, Func<DenoisingStep, Tensor> what)
    {
        using var scope = NewDisposeScope();
        var (positive, negative) = diffusion.Model.Describe(["a red apple"], null, new());
        (float[], float[]) Of(string sampler)
        {
            var (before, after) = (new Held(what), new Held(what));
            var task = new DiffusionTask { Positive = positive, Negative = negative, Height = 16, Width = 16, Steps = 4, Guidance = 2, Noise = new Generator(1), Scheduler = diffusion.Model.Scheduler.Using(sampler), Hooks = [before, hook(), after] };
            task.Run(diffusion.Model).Dispose();
            return (before.Values!, after.Values!);
        }
        var both = new[] { Of("ddim"), Of("euler") };
        positive.Dispose();
        negative.Dispose();
        return both;
    }

    [Fact]
    public void Layout_guidance_moves_latents_alike_in_whichever_scale_a_sampler_holds_them()
    {
        using var scope = NewDisposeScope();
        var both = InTwoScales(static () => new LayoutGuidance([new([2, 3], [(0.5, 0, 1, 0.5)])]) { Enough = 0 }, static s => s.Latents);
        var alpha = diffusion.Model.Scheduler.Using("ddim").Start(4).Level(0).Alpha;
        var (ddim, euler) = (both[0], both[1]);
        Assert.True((tensor(euler.Before) * alpha).allclose(tensor(ddim.Before), 1e-4, 1e-5));
        Assert.False(tensor(ddim.After).allclose(tensor(ddim.Before), 1e-3, 1e-3), "Nothing was moved.");
        Assert.True((tensor(euler.After) * alpha).allclose(tensor(ddim.After), 1e-4, 1e-4), $"{(tensor(euler.After) * alpha - tensor(ddim.After)).abs().max().item<float>()} apart.");
    }

    [Theory, InlineData(true), InlineData(false)]
    public void Universal_guidance_changes_the_noise_alike_in_whichever_scale_a_sampler_holds_it(bool forward)
    {
        using var scope = NewDisposeScope();
        var target = randn(1, 4, 8, 8, generator: new Generator(9));
        var both = InTwoScales(() => new UniversalGuidance(clean => (clean - target).square().sum(), inPixels: false) { ForwardScale = forward ? 0.1 : 0, BackwardSteps = forward ? 0 : 5 }, static s => s.Prediction ?? zeros_like(s.Latents));
        var (ddim, euler) = (tensor(both[0].After), tensor(both[1].After));
        Assert.True(euler.allclose(ddim, 1e-3, 1e-3), $"{(euler - ddim).abs().max().item<float>()} apart, of {ddim.abs().max().item<float>()}.");
        var without = tensor(InTwoScales(() => new UniversalGuidance(clean => (clean - target).square().sum(), inPixels: false) { ForwardScale = 0, BackwardSteps = 0 }, static s => s.Prediction ?? zeros_like(s.Latents))[1].After);
        Assert.True((euler - without).abs().max().item<float>() > 0.1, "Nothing was changed.");
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

    /// <summary>The latents whenever the network is asked.</summary>
    sealed class Every : IStepHook
    {
        public List<float[]> Latents { get; } = [];

        public void Asking(DenoisingStep step) => Latents.Add(step.Latents.data<float>().ToArray());
    }

    /// <summary>What something is in the first step.</summary>
    sealed class Held(Func<DenoisingStep, Tensor> what) : IStepHook
    {
        public float[]? Values { get; private set; }

        public void Asking(DenoisingStep step) => Values ??= what(step).data<float>().ToArray();
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
            // Those that the guidance looks at: the middle, and the first upward level that attends to the text, which is finer.
            if (call.IsCross && (call.Layer.StartsWith("mid_block", StringComparison.Ordinal) || call.Layer.StartsWith("up_blocks.1", StringComparison.Ordinal))) maps.Add(call.Probabilities().DetachFromDisposeScope());
            return null;
        }
    }
}
