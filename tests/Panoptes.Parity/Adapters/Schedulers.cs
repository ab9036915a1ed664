using System.Text.Json;
using Panoptes.Generation;
using Panoptes.Nn;
using Panoptes.Training;

namespace Panoptes.Parity.Adapters;

/// <summary>Whole samplings of diffusers' schedulers with the model 0.3 x cos(t / 1000) + 0.1, whatever its prediction is taken for.</summary>
sealed class SchedulerCases : IAdapter
{
    public bool Matches(ParityCase c) => c.Call == "set_timesteps, step" && c.HasFile(Scheduler.FileName);

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var scheduler = Scheduler.Load(c.Folder);
        return scheduler is AmusedScheduler amused ? Tokens(c, amused) : Samples(c, (DiffusionScheduler)scheduler);
    }

    static IEnumerable<(string, Tensor)> Samples(ParityCase c, DiffusionScheduler scheduler)
    {
        var steps = (int?)Number(c, "num_inference_steps");
        var plain = new SamplingOptions();
        var run = scheduler.Start(steps, plain with
        {
            Timesteps = Numbers(c, "timesteps"),
            Sigmas = Numbers(c, "sigmas"),
            Mu = Number(c, "mu"),
            Eta = Number(c, "eta") ?? plain.Eta,
            UseClippedModelOutput = c.Arguments.TryGetProperty("use_clipped_model_output", out var clipped) && clipped.GetBoolean(),
            Churn = Number(c, "s_churn") ?? plain.Churn,
            ChurnMin = Number(c, "s_tmin") ?? plain.ChurnMin,
            ChurnMax = Number(c, "s_tmax") ?? plain.ChurnMax,
            ChurnNoise = Number(c, "s_noise") ?? plain.ChurnNoise,
            LmsOrder = (int?)Number(c, "order") ?? plain.LmsOrder,
            OriginalInferenceSteps = (int?)Number(c, "original_inference_steps"),
            LcmStrength = Number(c, "strength") ?? plain.LcmStrength,
        });
        var noise = c.HasInput("step_noise") ? new GivenNoise(c.Input("step_noise")) : null;
        var state = SchedulerState.Empty;
        var sample = c.Input("noise") * run.InitNoiseSigma;
        List<Tensor> samples = [sample], clean = [];
        for (var i = run.Begin; i < run.Count; i++)
        {
            var step = run.Step(i, run.ScaleInput(sample, i) * 0.3 * Math.Cos(run.Timesteps[i] / 1000) + 0.1, sample, state, noise);
            (sample, state) = (step.Sample, step.State);
            samples.Add(sample);
            clean.Add(step.Clean);
        }
        yield return ("timesteps", tensor(run.Timesteps.ToArray()));
        yield return ("trajectory", stack(samples));
        yield return ("init_noise_sigma", tensor(new[] { (float)run.InitNoiseSigma }));
        yield return ("pred_original_sample", stack(clean));
        yield return ("sigmas", tensor(run.Sigmas.ToArray()).to(ScalarType.Float64));
        if (scheduler is BetaScheduler beta) yield return ("alphas_cumprod", tensor(beta.NoiseSchedule().AlphaCumulated.ToArray()));
    }

    static IEnumerable<(string, Tensor)> Tokens(ParityCase c, AmusedScheduler scheduler)
    {
        var temperature = Numbers(c, "temperature") ?? [Number(c, "temperature") ?? 2, Number(c, "temperature") is null ? 0 : 0.01];
        var run = scheduler.Start((int)Number(c, "num_inference_steps")!.Value, temperature[0], temperature[1]);
        var logits = c.Input("logits");
        var tokens = full([logits.shape[1], .. logits.shape[3..]], scheduler.MaskTokenId, ScalarType.Int64);
        List<Tensor> samples = [tokens], predicted = [];
        for (var i = 0; i < run.Count; i++)
        {
            var step = run.Step(i, logits[i], tokens, new GivenTokenNoise(c.Input("uniforms")[i], c.Input("gumbel_uniforms")[i]));
            tokens = step.Tokens;
            samples.Add(tokens);
            predicted.Add(step.Clean);
        }
        yield return ("samples", stack(samples));
        yield return ("predicted", stack(predicted));
        yield return ("timesteps", tensor(run.Timesteps.ToArray()));
        yield return ("temperatures", (tensor(run.Temperatures.ToArray()) * 1e6).round().to(ScalarType.Int64));
    }

    static double? Number(ParityCase c, string name) => c.Arguments.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : null;

    static double[]? Numbers(ParityCase c, string name) =>
        c.Arguments.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray().Select(static v => v.GetDouble())] : null;

    /// <summary>The noises of the case, in the order that the peer drew them.</summary>
    sealed class GivenNoise(Tensor noises) : NoiseSource
    {
        int drawn;

        public override Tensor Normal(long[] shape, ScalarType type) => noises[drawn++].to(type);

        public override Tensor Uniform(long[] shape) => throw new NotSupportedException();

        public override Tensor Choose(Tensor weights) => throw new NotSupportedException();
    }

    sealed class GivenTokenNoise(Tensor choices, Tensor uniforms) : NoiseSource
    {
        public override Tensor Normal(long[] shape, ScalarType type) => throw new NotSupportedException();

        public override Tensor Uniform(long[] shape) => uniforms.reshape(shape);

        public override Tensor Choose(Tensor weights) => weights.cumsum(-1).less(choices.unsqueeze(-1)).sum(-1, keepdim: true).clamp(max: weights.shape[^1] - 1);
    }
}

/// <summary>Plain functions around schedulers: how noise is put in, the timesteps of every spacing, guidance and losses.</summary>
sealed class SchedulerFunctions : IAdapter
{
    static readonly DdpmScheduler StableDiffusion = new() { BetaStart = 0.00085, BetaEnd = 0.012, BetaSchedule = "scaled_linear" };

    public bool Matches(ParityCase c) => c.Name is "scheduler_add_noise" or "scheduler_timesteps" or "guidance_formulas" or "diffusion_losses";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c) => c.Name switch
    {
        "scheduler_add_noise" => AddNoise(c),
        "scheduler_timesteps" => Timesteps(c),
        "guidance_formulas" => Guided(c),
        _ => Losses(c),
    };

    static IEnumerable<(string, Tensor)> AddNoise(ParityCase c)
    {
        var (clean, noise, timesteps) = (c.Input("original_samples"), c.Input("noise"), c.Input("timesteps"));
        foreach (var (name, scheduler) in new (string, BetaScheduler)[]
        {
            ("linear", new DdpmScheduler()), ("scaled_linear", StableDiffusion), ("squaredcos_cap_v2", new DdpmScheduler { BetaSchedule = "squaredcos_cap_v2" }),
            ("zero_snr", StableDiffusion.As<DdimScheduler>() with { RescaleBetasZeroSnr = true }),
        })
        {
            var schedule = scheduler.NoiseSchedule();
            yield return ($"{name}.betas", tensor(schedule.Beta.ToArray()));
            yield return ($"{name}.alphas_cumprod", tensor(schedule.AlphaCumulated.ToArray()));
            yield return ($"{name}.add_noise", schedule.AddNoise(clean, noise, timesteps));
            yield return ($"{name}.velocity", schedule.Velocity(clean, noise, timesteps));
        }
        foreach (var (name, run) in new[]
        {
            ("euler", (StableDiffusion.As<EulerScheduler>() with { TimestepSpacing = "leading", StepsOffset = 1 }).Start(10)),
            ("dpm", StableDiffusion.As<DpmMultistepScheduler>().Start(10)), ("flow", new FlowMatchEulerScheduler { Shift = 3 }.Start(10)),
        })
        {
            // Of which steps the timesteps are.
            int[] steps = [.. Enumerable.Range(0, (int)clean.shape[0]).Select(k => Enumerable.Range(0, run.Count).MinBy(i => Math.Abs(run.Timesteps[i] - c.Output($"{name}.timesteps")[k].to(ScalarType.Float64).item<double>())))];
            yield return ($"{name}.timesteps", tensor(steps.Select(i => run.Timesteps[i]).ToArray()));
            var noisy = cat([.. steps.Select((i, k) => run.AddNoise(clean.narrow(0, k, 1), noise.narrow(0, k, 1), i))]);
            yield return (name == "flow" ? "flow.scale_noise" : $"{name}.add_noise", noisy);
            // The peer looks the schedule up at the numbers of the steps, not at their timesteps.
            if (name == "euler") yield return ("euler.velocity", StableDiffusion.NoiseSchedule().Velocity(clean, noise, tensor(steps.Select(static i => (long)i).ToArray())));
        }
    }

    static IEnumerable<(string, Tensor)> Timesteps(ParityCase c)
    {
        foreach (var name in c.OutputNames)
        {
            // CLASS.SPACING.offsetN.stepsN; the offset is in the name alone: what the peer computed has none.
            var parts = name.Split('.');
            var scheduler = (DiffusionScheduler)Scheduler.Parse($$"""
                { "_class_name": "{{parts[0]}}", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "{{parts[1]}}", "skip_prk_steps": true }
                """, name);
            yield return (name, tensor(scheduler.Start(int.Parse(parts[3][5..])).Timesteps.ToArray()));
        }
    }

    static IEnumerable<(string, Tensor)> Guided(ParityCase c)
    {
        var (without, with, image) = (c.Input("noise_uncond"), c.Input("noise_text"), c.Input("noise_image"));
        double text = c.Arguments.GetProperty("guidance_scale").GetDouble(), share = c.Arguments.GetProperty("guidance_rescale").GetDouble();
        var guided = Guidance.ClassifierFree(without, with, text);
        yield return ("cfg", guided);
        yield return ("rescaled", Guidance.Rescale(guided, with, share));
        yield return ("pix2pix", Guidance.ImageAndText(without, image, with, text, c.Arguments.GetProperty("image_guidance_scale").GetDouble()));
    }

    static IEnumerable<(string, Tensor)> Losses(ParityCase c)
    {
        var (clean, noise, timesteps, sigmas) = (c.Input("x0"), c.Input("noise"), c.Input("timesteps"), c.Input("sigmas"));
        var prediction = c.Input("model_pred").detach().clone().requires_grad_();
        double gamma = c.Arguments.GetProperty("snr_gamma").GetDouble(), decay = c.Arguments.GetProperty("ema_decay").GetDouble();
        var schedule = StableDiffusion.NoiseSchedule();
        var (snr, velocity) = (schedule.Snr(timesteps), schedule.Velocity(clean, noise, timesteps));
        var (forEpsilon, forVelocity) = (DiffusionLosses.MinSnrWeights(snr, "epsilon", gamma), DiffusionLosses.MinSnrWeights(snr, "v_prediction", gamma));
        var loss = DiffusionLosses.Weighted(prediction, noise, forEpsilon);
        yield return ("noisy", schedule.AddNoise(clean, noise, timesteps));
        yield return ("velocity", velocity);
        yield return ("snr", snr);
        yield return ("epsilon_loss", DiffusionLosses.Weighted(prediction, noise));
        yield return ("v_loss", DiffusionLosses.Weighted(prediction, velocity));
        yield return ("min_snr_weight_epsilon", forEpsilon);
        yield return ("min_snr_weight_v", forVelocity);
        yield return ("min_snr_loss_epsilon", loss);
        yield return ("min_snr_loss_v", DiffusionLosses.Weighted(prediction, velocity, forVelocity));
        yield return ("gradient", autograd.grad([loss], [prediction])[0]);
        yield return ("offset_noise_sample", DiffusionLosses.OffsetNoise(noise, c.Input("offset_noise"), c.Arguments.GetProperty("noise_offset").GetDouble()));
        yield return ("flow_noisy", DiffusionLosses.FlowSample(clean, noise, sigmas));
        yield return ("flow_target", DiffusionLosses.FlowTarget(clean, noise));
        yield return ("flow_loss", DiffusionLosses.Weighted(prediction, DiffusionLosses.FlowTarget(clean, noise)));
        yield return ("weighting_sigma_sqrt", DiffusionLosses.FlowWeights(sigmas, "sigma_sqrt"));
        yield return ("weighting_cosmap", DiffusionLosses.FlowWeights(sigmas, "cosmap"));

        // The weights that are averaged are not among the inputs: the first average is they, and each step adds a half.
        using var model = new Averaged();
        model.Weight.Assign(c.Output("ema_weights")[0].clone());
        using var ema = new Ema(model, decay);
        List<Tensor> averages = [];
        List<float> decays = [];
        for (var step = 0; step < c.Output("ema_decays").shape[0]; step++)
        {
            if (step > 0) model.Weight.Value.add_(0.5);
            var share = Ema.WarmedUp(step, decay, c.Arguments.GetProperty("inv_gamma").GetDouble(), c.Arguments.GetProperty("power").GetDouble());
            ema.Move(share);
            decays.Add((float)share);
            averages.Add(ema.State["weight"].clone());
        }
        yield return ("ema_decays", tensor(decays.ToArray()));
        yield return ("ema_weights", stack(averages));
    }

    sealed class Averaged : Module
    {
        public Parameter Weight { get; } = new([1, 2], Init.Zeros) { Trainable = false };
    }
}
