using Panoptes.Nn;
using Panoptes.Parity;

namespace Panoptes.Generation.Tests;

/// <summary>Guidance by classifiers of noisy samples.</summary>
public sealed class ClassifierGuidanceTests
{
    /// <summary>What is seen of a picture, and by how much it may be wrong.</summary>
    const double Seen = 1.5, Deviation = 0.7;

    /// <summary>Pictures of normal noise, whose network is known in closed form: everything that a noisy one says of the clean one.</summary>
    /// <param name="says">Of the noisy sample as the network is shown it, at its noise level.</param>
    sealed class Normal(DiffusionScheduler scheduler, Func<Tensor, NoiseLevel, Tensor> says) : DiffusionModel(scheduler, null)
    {
        sealed class Nothing : Module;

        public override Module Network { get; } = new Nothing();

        public override int Side => 8;

        private protected override double FamilyGuidance => 1;

        private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options) => throw new NotSupportedException();

        public override Tensor Predict(NetworkCall call) => says(call.Sample, LevelAt(call.Timestep.to(ScalarType.Float64).item<double>()));

        /// <summary>Of samples as the network is shown them.</summary>
        public NoiseLevel LevelAt(double timestep)
        {
            if (Scheduler is not BetaScheduler betas) return new(1 - timestep / 1000, timestep / 1000);
            var alphas = betas.NoiseSchedule().AlphaCumulated;
            double Ratio(int t) => Math.Sqrt((1 - (double)alphas[t]) / alphas[t]);
            var (below, share) = ((int)timestep, timestep - (int)timestep);
            var ratio = share == 0 ? Ratio(below) : (1 - share) * Ratio(below) + share * Ratio(below + 1);
            var alpha = 1 / Math.Sqrt(1 + ratio * ratio);
            return new(alpha, ratio * alpha);
        }
    }

    static Tensor Clean(Tensor sample, NoiseLevel level) => sample * (level.Alpha / level.Variance);

    /// <summary>log p(Seen | x_t): what is seen of the clean picture, of which a noisy one leaves so much open.</summary>
    static ClassifierGuidance Observer(Normal model, double scale = 1) => new((sample, timesteps) =>
    {
        var level = model.LevelAt(timesteps[0].to(ScalarType.Float64).item<double>());
        return (Clean(sample, level) - Seen).square().sum([1, 2, 3]) / (-2 * (Deviation * Deviation + level.Sigma * level.Sigma / level.Variance));
    }, scale);

    public static TheoryData<string> Cases => ["ddim epsilon", "ddim v_prediction", "ddim sample", "euler epsilon", "euler v_prediction", "dpmpp-2m epsilon", "flow"];

    /// <summary>What the steps make of noise under an observer, and what the conditional distribution makes of it.</summary>
    static (Tensor Made, Tensor Exact) Follow(string way, double scale = 1)
    {
        var parts = way.Split(' ');
        var betas = new DdimScheduler { ClipSample = false, PredictionType = parts[^1] == "flow" ? "epsilon" : parts[1] };
        Func<Tensor, NoiseLevel, Tensor> says = parts[^1] switch
        {
            "epsilon" => static (x, l) => (x - l.Alpha * Clean(x, l)) / l.Sigma,
            "v_prediction" => static (x, l) => l.Alpha * (x - l.Alpha * Clean(x, l)) / l.Sigma - l.Sigma * Clean(x, l),
            "flow" => static (x, l) => (x - Clean(x, l)) / l.Sigma,
            _ => Clean,
        };
        using var model = new Normal(parts[0] == "flow" ? new FlowMatchEulerScheduler() : betas.Using(parts[0]), says);
        var noise = randn([1, 3, 8, 8], generator: new Generator(4));
        using var positive = new Conditioning { Classes = zeros(1, ScalarType.Int64) };
        var made = new DiffusionTask { Positive = positive, Height = 8, Width = 8, Steps = 250, Noise = new Generator(1), Latents = noise, Hooks = [Observer(model, scale)] }.Run(model);
        // The flow of probability takes normal distributions to each other: from that of x_T to that of x_0, both given what is seen.
        var (run, variance) = (model.Scheduler.Start(250), Deviation * Deviation / (1 + Deviation * Deviation));
        var (level, mean) = (run.Level(0), Seen / (1 + Deviation * Deviation));
        return (made, mean + Math.Sqrt(variance) * (noise * run.InitNoiseSigma - level.Alpha * mean) / Math.Sqrt(level.Alpha * level.Alpha * variance + level.Sigma * level.Sigma));
    }

    [Theory, MemberData(nameof(Cases))]
    public void A_classifier_in_closed_form_leads_to_what_it_saw_whatever_is_predicted_and_whoever_samples(string way)
    {
        using var scope = NewDisposeScope();
        var (made, exact) = Follow(way);
        var apart = (made - exact).abs().max().item<float>();
        Assert.True(apart < 0.03, $"{way} is {apart} away.");
        Assert.True((Follow(way, 0).Made - exact).abs().mean().item<float>() > 0.5, "Nothing leads, and yet it comes there.");
    }

    [Fact]
    public void The_same_image_comes_of_predicted_noise_velocities_and_pictures()
    {
        using var scope = NewDisposeScope();
        var noise = Follow("ddim epsilon", 3).Made;
        foreach (var other in (string[])["ddim v_prediction", "ddim sample"]) Assert.True(Follow(other, 3).Made.allclose(noise, 1e-3, 1e-3), $"{other} is {(Follow(other, 3).Made - noise).abs().max().item<float>()} away.");
    }

    /// <summary>A classifier of two classes, of which the first is wanted, that trusts samples of more noise less.</summary>
    static Tensor Pooled(Tensor noisy, Tensor timesteps)
    {
        var pooled = stack([noisy.mean([1, 2, 3]), noisy.select(1, 0).std([1, 2])], 1);
        return nn.functional.log_softmax(pooled.matmul(tensor(new float[,] { { 3, -1 }, { -2, 2 } })) / (1 + timesteps.to(ScalarType.Float32).unsqueeze(1) / 500), 1).select(1, 0);
    }

    [Theory]
    [InlineData("ddim", "epsilon", 30.73935, 19.35995, 16.43361, -31.10166, 2.00335, 16.10106, -2.84529, 66.14593)]
    [InlineData("ddim", "v_prediction", 0.93215, 0.94047, 1.08483, -0.17442, 0.67114, 0.85084, 0.46465, 2.08519)]
    [InlineData("euler", "epsilon", 175.21547, 102.84297, 71.6537, -136.75551, 3.74375, 74.00085, -20.41711, 306.04483)]
    [InlineData("euler", "v_prediction", 1.50346, 1.32684, 1.82982, 0.4196, 1.31569, 1.34726, 1.03515, 2.47495)]
    public void Samples_are_those_of_the_algorithm_written_out_with_the_peers_network_and_schedulers(string sampler, string predicted, params double[] expected)
    {
        using var scope = NewDisposeScope();
        using var model = new UnconditionalDiffusion(GenerationModels.Load<UNet2DModel>(Path.Combine(Goldens.Root, "generation", "unet2d_unconditional")), sampler == "ddim" ? new DdimScheduler { ClipSample = false, PredictionType = predicted } : new EulerScheduler { PredictionType = predicted });
        using var positive = new Conditioning { Classes = tensor([3L, 3L]) };
        var made = new DiffusionTask { Positive = positive, Height = 8, Width = 8, Steps = 6, Noise = new Generator(5), Hooks = [new ClassifierGuidance(Pooled, 40)] }.Run(model).flatten().data<float>().ToArray();
        foreach (var (at, value) in new[] { 0, 1, 50, 100, 191, 192, 300, 383 }.Zip(expected)) Assert.Equal(value, made[at], Math.Max(1e-4, 1e-4 * expected.Max()));
    }

    /// <summary>The prediction of a step before and behind what leads.</summary>
    sealed class Watching(List<(int Step, float[] Prediction, float[] Latents)> seen) : IStepHook
    {
        public void Predicted(DenoisingStep step) => seen.Add((step.Index, step.Prediction!.data<float>().ToArray(), step.Run.ScaleInput(step.Latents, step.Index).data<float>().ToArray()));
    }

    [Theory, InlineData("ddim"), InlineData("euler")]
    public void The_noise_of_a_tiny_model_changes_as_the_papers_algorithm_has_it_and_no_tensor_is_kept(string sampler)
    {
        using var diffusion = Diffusion.Load(Path.Combine(Goldens.Root, "generation", "sd_text2img"));
        var request = new ImageRequest("a red apple") { Width = 16, Height = 16, Steps = 4, Seed = 3, Guidance = 3, Sampler = sampler };
        var (before, after) = (new List<(int Step, float[] Prediction, float[] Latents)>(), new List<(int Step, float[] Prediction, float[] Latents)>());
        var guidance = new ClassifierGuidance(static (sample, timesteps) => (sample - 0.5).square().sum([1, 2, 3]) / -2 + timesteps, 0.3);
        var led = diffusion.Generate([request with { Hooks = [new Watching(before), guidance, new Watching(after)] }])[0].Image;
        Assert.NotEqual(diffusion.Generate([request])[0].Image.Pixels, led.Pixels);
        Assert.Equal(diffusion.Generate([request])[0].Image.Pixels, diffusion.Generate([request with { Hooks = [new ClassifierGuidance(static (x, _) => x.sum([1, 2, 3]), 0)] }])[0].Image.Pixels);
        var run = diffusion.Model.Scheduler.Using(sampler).Start(4);
        Assert.Equal(4, before.Count);
        foreach (var (b, a) in before.Zip(after))
        {
            // ε - √(1 - ᾱ) s ∇ log p, whose gradient is 0.5 - x.
            var level = run.Level(b.Step);
            var factor = 0.3 * level.Sigma / Math.Sqrt(level.Variance);
            for (var i = 0; i < b.Prediction.Length; i++) Assert.Equal(b.Prediction[i] - factor * (0.5 - b.Latents[i]), a.Prediction[i], 1e-4);
        }
        var count = LiveTensors.Settle();
        diffusion.Generate([request with { Hooks = [guidance] }]);
        Assert.Equal(count, LiveTensors.Settle());
    }
}
