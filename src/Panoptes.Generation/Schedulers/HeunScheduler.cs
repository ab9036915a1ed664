using System.Text.Json.Serialization;

namespace Panoptes.Generation;

/// <summary>Heun's method over noise levels (Karras et al. 2022, arXiv:2206.00364, algorithm 1): two calls a step, one for the last. diffusers' HeunDiscreteScheduler.</summary>
public sealed record HeunScheduler : SigmaScheduler
{
    public HeunScheduler() => (BetaStart, BetaEnd) = (0.00085, 0.012);

    public bool ClipSample { get; init; }
    public double ClipSampleRange { get; init; } = 1;

    [JsonIgnore]
    public override int Order => 2;

    private protected override string[] BetaSchedules => ["linear", "scaled_linear", "squaredcos_cap_v2", "exp"];

    internal override void Check()
    {
        base.Check();
        CheckLimits(ClipSampleRange);
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        Refuse(options.Sigmas is not null, "sigmas", $"({ClassName})");
        var (timesteps, sigmas) = Levels(steps, options, NoiseSchedule().Sigmas, mayBeGiven: true);
        return new Run(this, [timesteps[0], .. timesteps[1..].SelectMany(static t => new[] { t, t })],
            [(float)sigmas[0], .. sigmas[1..].SelectMany(static s => new[] { (float)s, (float)s }), 0], options, timesteps.Length);
    }

    sealed class Run(HeunScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options, int steps) : SigmaRun(c, timesteps, sigmas, options, steps)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, sample, state) = (input.Index, input.Sample, input.State);
            var clean = Limit(Clean(Level(i), input.Prediction, sample), null, c.ClipSample ? c.ClipSampleRange : null);
            var derivative = Derivative(sample, clean, Sigmas[i]);
            if (state.Held is null) return (Mix((1, sample), (Sigmas[i + 1] - Sigmas[i], derivative)), clean, state.Next([derivative], sample));
            return (Mix((1, state.Held), (Sigmas[i] - Sigmas[i - 1], Mix((0.5, state.Outputs[^1]), (0.5, derivative)))), clean, state.Next());
        }
    }
}
