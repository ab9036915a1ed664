namespace Panoptes.Generation.Tests.Schedulers;

public sealed class SchedulerTests
{
    /// <summary>Stable Diffusion 1's, whose file also has fields that its own class does not know.</summary>
    const string StableDiffusion = """
        { "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
          "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null, "clip_sample": false }
        """;

    public static TheoryData<string> SamplerNames => [.. Samplers.All.Select(static s => s.Name)];

    static DiffusionScheduler Sampler(string name) =>
        name == "flow" ? new FlowMatchEulerScheduler { Shift = 3 } : ((DiffusionScheduler)Scheduler.Parse(StableDiffusion, "test")).Using(name);

    /// <summary>What a perfect model predicts of a sample, if all images were <paramref name="point"/>.</summary>
    static Tensor Oracle(SchedulerRun run, Tensor sample, Tensor point, int i)
    {
        var (alpha, sigma) = run.Level(i);
        var noise = (sample - alpha * point) / sigma;
        return run.Scheduler switch
        {
            FlowMatchEulerScheduler or BetaScheduler { PredictionType: "flow_prediction" } => noise - point,
            BetaScheduler { PredictionType: "v_prediction" } => (alpha * noise - sigma * point) / Math.Sqrt(alpha * alpha + sigma * sigma),
            BetaScheduler { PredictionType: "sample" } => point,
            _ => noise,
        };
    }

    static Tensor Sample(SchedulerRun run, Tensor sample, Func<Tensor, int, Tensor> predict, NoiseSource? noise = null)
    {
        using var scope = NewDisposeScope();
        var state = SchedulerState.Empty;
        for (var i = run.Begin; i < run.Count; i++)
        {
            using var step = NewDisposeScope();
            (sample, _, state) = run.Step(i, predict(sample, i), sample, state, noise).MoveToOuterDisposeScope();
        }
        return sample.MoveToOuterDisposeScope();
    }

    [Theory, MemberData(nameof(SamplerNames))]
    public void Every_sampler_arrives_at_the_only_image_there_is(string name)
    {
        using var scope = NewDisposeScope();
        var generator = new Generator(3);
        var point = randn(2, 3, 4, 4, generator: generator);
        var sampler = Sampler(name);
        foreach (var steps in (int[])[6, 13, 20])
        {
            var run = sampler.Start(steps);
            var start = randn(point.shape, generator: generator) * run.InitNoiseSigma;
            var reached = Sample(run, start, (x, i) => Oracle(run, x, point, i), generator);
            // What is left at most is the noise of the last level, where a sampler does not go below it.
            Assert.InRange((reached - point).abs().max().item<float>(), 0, sampler is PndmScheduler or DdimScheduler or DeisScheduler or LcmScheduler ? 0.25 : 2e-3);
        }
    }

    [Theory]
    [InlineData("dpmpp-2m")]
    [InlineData("dpmpp-2m-sde")]
    [InlineData("dpmpp-3m")]
    [InlineData("unipc")]
    [InlineData("unipc-karras")]
    public void A_solver_follows_a_flow_to_its_end(string name)
    {
        using var scope = NewDisposeScope();
        var generator = new Generator(3);
        var point = randn(2, 3, 4, 4, generator: generator);
        var run = new FlowMatchEulerScheduler { Shift = 3 }.Using(name).Start(20);
        var reached = Sample(run, randn(point.shape, generator: generator), (x, i) => Oracle(run, x, point, i), generator);
        Assert.InRange((reached - point).abs().max().item<float>(), 0, 2e-3);
    }

    [Fact]
    public void Noise_is_what_torch_draws_with_the_same_seed()
    {
        using var scope = NewDisposeScope();
        NoiseSource noise = new Generator(7);
        // torch.Generator().manual_seed(7): randn(2, 3), randn(20), rand(3), multinomial([[.1, .2, .7], [.5, .3, .2]], 1), and, seeded again, randn(1, 32) in bfloat16.
        Near([-0.1467950940132141, 0.7861412763595581, 0.9468216300010681, -1.1143440008163452, 1.6907901763916016, -0.8948279023170471], noise.Normal([2, 3], ScalarType.Float32));
        Near([0.501121461391449, 0.2600362002849579], noise.Normal([20], ScalarType.Float32)[18..]);
        Near([0.7368624210357666, 0.03311049938201904, 0.09137779474258423], noise.Uniform([3]));
        Near([2, 2], noise.Choose(tensor(new[,] { { 0.1f, 0.2f, 0.7f }, { 0.5f, 0.3f, 0.2f } })));
        noise = new Generator(7);
        Near([-1.3203125, -1.359375], noise.Normal([1, 32], ScalarType.BFloat16)[0, 30..]);

        static void Near(double[] expected, Tensor drawn) => Assert.InRange((drawn.flatten().to(ScalarType.Float64) - tensor(expected)).abs().max().item<double>(), 0, 1e-6);
    }

    [Theory]
    [InlineData("ddim", "v_prediction")]
    [InlineData("euler", "v_prediction")]
    [InlineData("heun-karras", "sample")]
    [InlineData("dpmpp-2m-karras", "sample")]
    [InlineData("unipc", "v_prediction")]
    [InlineData("dpm2", "v_prediction")]
    public void A_prediction_of_any_kind_says_the_same_clean_sample(string name, string kind)
    {
        using var scope = NewDisposeScope();
        var run = ((BetaScheduler)Sampler(name) with { PredictionType = kind }).Start(9);
        var point = randn(1, 2, 3, 3, generator: new Generator(1));
        for (var i = 0; i < run.Count; i++)
        {
            var noisy = run.AddNoise(point, randn(point.shape, generator: new Generator((ulong)i)), i);
            Assert.InRange((run.PredictClean(i, Oracle(run, noisy, point, i), noisy) - point).abs().max().item<float>(), 0, 1e-4);
        }
    }

    [Theory]
    [InlineData("leading")]
    [InlineData("trailing")]
    public void Ddim_returns_to_where_its_inverse_came_from(string spacing)
    {
        using var scope = NewDisposeScope();
        var ddim = new DdimScheduler { ClipSample = false, TimestepSpacing = spacing, SetAlphaToOne = false };
        var start = randn(1, 2, 4, 4, generator: new Generator(7));
        var direction = randn(1, 2, 4, 4, generator: new Generator(8));
        // A model that does not look at the sample is inverted exactly.
        var noise = Sample(ddim.Inverse().Start(25), start, (_, _) => direction);
        Assert.InRange((noise - start).abs().max().item<float>(), 0.1, 1000);
        var back = Sample(ddim.Start(25), noise, (_, _) => direction);
        Assert.InRange((back - start).abs().max().item<float>(), 0, 2e-4);
    }

    [Fact]
    public void A_smooth_model_is_inverted_the_closer_the_more_steps()
    {
        using var scope = NewDisposeScope();
        var ddim = new DdimScheduler { ClipSample = false };
        var start = randn(1, 2, 4, 4, generator: new Generator(7));
        double Distance(int steps)
        {
            var noise = Sample(ddim.Inverse().Start(steps), start, static (x, _) => x.tanh());
            return (Sample(ddim.Start(steps), noise, static (x, _) => x.tanh()) - start).abs().max().item<float>();
        }
        Assert.InRange(Distance(200), 0, Distance(20) / 3);
    }

    [Fact]
    public void A_generator_a_sample_makes_a_sample_independent_of_its_batch()
    {
        using var scope = NewDisposeScope();
        var run = Sampler("euler-a").Start(5);
        Tensor Predict(Tensor x, int i) => x / (1 + run.Level(i).Sigma);
        var start = randn(2, 3, 4, 4, generator: new Generator(1)) * run.InitNoiseSigma;
        var both = Sample(run, start, Predict, NoiseSource.From([new Generator(10), new Generator(11)]));
        var second = Sample(run, start[1..], Predict, new Generator(11));
        Assert.True(both[1..].equal(second).all().item<bool>());
        Assert.Throws<PanoptesException>(() => run.Step(0, start, start, SchedulerState.Empty, NoiseSource.From([new Generator(1), new Generator(2), new Generator(3)])));
    }

    [Theory]
    [InlineData("ddim")]
    [InlineData("ddpm")]
    public void A_level_without_anything_of_the_clean_sample_is_clipped_to_its_bounds(string name)
    {
        using var scope = NewDisposeScope();
        var scheduler = (BetaScheduler)Sampler(name);
        scheduler = scheduler is DdimScheduler ddim ? ddim with { RescaleBetasZeroSnr = true, ClipSample = true, TimestepSpacing = "trailing" } : (DdpmScheduler)scheduler with { RescaleBetasZeroSnr = true, ClipSample = true, TimestepSpacing = "trailing" };
        var run = scheduler.Start(5);
        var (sample, noise) = (randn(1, 2, 3, 3, generator: new Generator(1)), randn(1, 2, 3, 3, generator: new Generator(2)));
        Assert.Equal(0, run.Level(0).Alpha);
        var step = run.Step(0, noise, sample, SchedulerState.Empty, new Generator(3));
        Assert.True(step.Clean.equal((sample - noise).sign()).all().item<bool>());
        Assert.True(step.Sample.isfinite().all().item<bool>());
    }

    [Fact]
    public void Image_to_image_takes_the_last_steps()
    {
        Assert.Equal(5, Sampler("euler").Start(10, new() { Strength = 0.5 }).Begin);
        var heun = Sampler("heun").Start(10, new() { Strength = 0.3 });
        Assert.Equal((14, 19, 10), (heun.Begin, heun.Count, heun.Steps));
        Assert.Equal(0, Sampler("ddim").Start(10).Begin);
        Assert.Contains("strength", Assert.Throws<PanoptesException>(() => Sampler("ddim").Start(10, new() { Strength = 0.05 })).Message);
        Assert.Contains("strength", Assert.Throws<PanoptesException>(() => Sampler("ddim").Start(10, new() { Strength = 1.5 })).Message);
    }

    [Fact]
    public void A_step_carries_gradients_and_keeps_the_samples_type()
    {
        using var scope = NewDisposeScope();
        var run = Sampler("dpmpp-2m").Start(10);
        var sample = randn(1, 2, 3, 3, generator: new Generator(1)).requires_grad_();
        var prediction = randn(1, 2, 3, 3, generator: new Generator(2)).requires_grad_();
        var step = run.Step(0, prediction, sample, SchedulerState.Empty);
        (step.Sample.sum() + run.PredictClean(0, prediction, sample).sum()).backward();
        Assert.True(sample.grad!.abs().min().item<float>() > 0 && prediction.grad!.abs().min().item<float>() > 0);
        var half = run.Step(0, prediction.detach(), sample.detach().to(ScalarType.BFloat16), SchedulerState.Empty);
        Assert.Equal(ScalarType.BFloat16, half.Sample.dtype);
        Assert.Equal(ScalarType.Float64, run.Step(0, prediction.detach(), sample.detach().to(ScalarType.Float64), SchedulerState.Empty).Sample.dtype);
    }

    [Fact]
    public void Shapes_that_do_not_fit_and_noise_that_is_missing_are_named()
    {
        using var scope = NewDisposeScope();
        var sample = zeros(1, 2, 3, 3);
        Assert.Contains("shape", Assert.Throws<PanoptesException>(() => Sampler("ddim").Start(5).Step(0, zeros(1, 4, 3, 3), sample, SchedulerState.Empty)).Message);
        Assert.Contains("generator", Assert.Throws<PanoptesException>(() => Sampler("euler-a").Start(5).Step(0, sample, sample, SchedulerState.Empty)).Message);
        Assert.Contains("learned_range", Assert.Throws<PanoptesException>(() => new DdpmScheduler { VarianceType = "learned_range" }.Start(5).Step(0, sample, sample, SchedulerState.Empty, new Generator(1))).Message);
    }

    [Fact]
    public void A_predicted_variance_lies_between_that_of_the_posterior_and_beta()
    {
        using var scope = NewDisposeScope();
        var sample = randn(1, 2, 3, 3, generator: new Generator(1));
        Tensor Next(string type, Tensor prediction) => new DdpmScheduler { VarianceType = type }.Start(10).Step(3, prediction, sample, SchedulerState.Empty, new Generator(4)).Sample;
        Tensor With(double variance) => cat([sample, full_like(sample, variance)], 1);
        Assert.InRange((Next("learned_range", With(-1)) - Next("fixed_small", sample)).abs().max().item<float>(), 0, 1e-5);
        Assert.InRange((Next("learned_range", With(1)) - Next("fixed_large", sample)).abs().max().item<float>(), 0, 1e-5);
    }

    [Theory, MemberData(nameof(SamplerNames))]
    public void A_step_keeps_no_tensor(string name)
    {
        using var sample = randn(2, 3, 4, 4, generator: new Generator(1));
        using var prediction = randn(2, 3, 4, 4, generator: new Generator(2));
        var generator = new Generator(3);
        var before = LiveTensors.Settle();
        var run = Sampler(name).Start(6);
        var state = SchedulerState.Empty;
        for (var i = 0; i < run.Count; i++)
        {
            using (var scaled = run.ScaleInput(sample, i)) Assert.Equal(before + Held(state) + 1, Tensor.TotalCount);
            var step = run.Step(i, prediction, sample, state, generator);
            state.Dispose();
            state = step.State;
            step.Sample.Dispose();
            step.Clean.Dispose();
            run.PredictClean(i, prediction, sample).Dispose();
            run.AddNoise(sample, prediction, i).Dispose();
            run.Timestep(i).Dispose();
            Assert.Equal(before + Held(state), Tensor.TotalCount);
        }
        state.Dispose();
        Assert.Equal(before, Tensor.TotalCount);

        static int Held(SchedulerState state) => state.Outputs.Count + (state.Held is null ? 0 : 1) + (state.Sum is null ? 0 : 1);
    }

    [Fact]
    public void What_training_needs_keeps_no_tensor_and_refuses_timesteps_that_are_none()
    {
        using var clean = randn(2, 3, 4, 4, generator: new Generator(1));
        using var noise = randn(2, 3, 4, 4, generator: new Generator(2));
        using var timesteps = tensor(new long[] { 0, 999 });
        using var sigmas = tensor(new[] { 0.2f, 0.9f });
        using var beyond = tensor(new long[] { 0, 1000 });
        var before = LiveTensors.Settle();
        var schedule = new DdpmScheduler().NoiseSchedule();
        schedule.AddNoise(clean, noise, timesteps).Dispose();
        schedule.Velocity(clean, noise, timesteps).Dispose();
        using (var snr = schedule.Snr(timesteps)) DiffusionLosses.MinSnrWeights(snr, "epsilon").Dispose();
        DiffusionLosses.Weighted(clean, noise, sigmas).Dispose();
        DiffusionLosses.FlowSample(clean, noise, sigmas).Dispose();
        DiffusionLosses.FlowWeights(sigmas, "none").Dispose();
        DiffusionLosses.OffsetNoise(clean, noise, 0.1).Dispose();
        DiffusionLosses.LogitNormal(3, new Generator(1)).Dispose();
        Guidance.ClassifierFree(clean, noise, 3).Dispose();
        Guidance.ImageAndText(clean, noise, clean, 3, 2).Dispose();
        Guidance.Rescale(clean, noise, 0.7).Dispose();
        Assert.Contains("0 to 999", Assert.Throws<PanoptesException>(() => schedule.Snr(beyond)).Message);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Masked_tokens_become_known_step_by_step(bool cosine)
    {
        using var scope = NewDisposeScope();
        var run = new AmusedScheduler { MaskTokenId = 8, MaskingSchedule = cosine ? "cosine" : "linear" }.Start(6);
        var generator = new Generator(5);
        var tokens = full([2, 4, 4], 8L);
        var unknown = 17L;
        for (var i = 0; i < run.Count; i++)
        {
            var step = run.Step(i, randn(2, 8, 4, 4, generator: generator), tokens, generator);
            Assert.True(step.Clean.less(8).all().item<bool>());
            // What was known stays.
            Assert.True(where(tokens.eq(8), step.Tokens, tokens).equal(step.Tokens).all().item<bool>());
            tokens = step.Tokens;
            var left = tokens.eq(8).sum([1, 2]).max().item<long>();
            Assert.InRange(left, 0, unknown - 1);
            unknown = left;
        }
        Assert.Equal(0, unknown);
        Assert.Equal(8, run.AddNoise(zeros(2, 4, 4, ScalarType.Int64), 0, new Generator(1)).max().item<long>());
        Assert.Throws<PanoptesException>(() => run.Step(0, zeros(2, 8, 4, 5), tokens, generator));
    }

    [Fact]
    public void Decoding_of_masked_tokens_keeps_no_tensor()
    {
        using var logits = randn(2, 8, 4, 4, generator: new Generator(1));
        using var tokens = full([2, 4, 4], 8L);
        var generator = new Generator(2);
        var before = LiveTensors.Settle();
        var run = new AmusedScheduler { MaskTokenId = 8 }.Start(3);
        run.Step(0, logits, tokens, generator).Dispose();
        run.Step(2, logits, tokens, generator).Dispose();
        run.AddNoise(tokens, 1, generator).Dispose();
        Assert.Equal(before, Tensor.TotalCount);
    }
}
