using System.Text.Json.Serialization;

namespace Panoptes.Generation;

/// <summary>The midpoint method of k-diffusion after DPM-Solver-2 (Karras et al. 2022, arXiv:2206.00364): two calls a step, the second half-way in the level's logarithm. diffusers' KDPM2DiscreteScheduler.</summary>
public sealed record Kdpm2Scheduler : SigmaScheduler
{
    public Kdpm2Scheduler() => (BetaStart, BetaEnd) = (0.00085, 0.012);

    [JsonIgnore]
    public override int Order => 2;

    private protected override string[] PredictionTypes => ["epsilon", "v_prediction"];

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        Refuse(options.Sigmas is not null, "sigmas", $"({ClassName})");
        var table = NoiseSchedule().Sigmas;
        var (timesteps, spaced) = Levels(steps, options, table);
        if (UseKarrasSigmas) timesteps = [.. timesteps.Select(static t => Math.Round(t))];
        float[] sigmas = [.. spaced.Select(static s => (float)s), 0];
        float[] between = [.. Enumerable.Range(1, sigmas.Length - 1).Select(k => (float)Math.Exp((Math.Log(sigmas[k]) + Math.Log(sigmas[k - 1])) / 2))];
        var logs = Logarithms(table);
        return new Run(this, [timesteps[0], .. Enumerable.Range(1, timesteps.Length - 1).SelectMany(k => new[] { (double)(float)Grids.TimestepOf(between[k - 1], logs), timesteps[k] })],
            [sigmas[0], .. sigmas[1..].SelectMany(static s => new[] { s, s }), 0], between, options, timesteps.Length);
    }

    /// <param name="between">The level half-way of every step.</param>
    sealed class Run(Kdpm2Scheduler c, double[] timesteps, float[] sigmas, float[] between, SamplingOptions options, int steps) : SigmaRun(c, timesteps, sigmas, options, steps)
    {
        public override NoiseLevel Level(int i) => new(1, i % 2 == 0 ? Sigmas[i] : between[i / 2]);

        /// <summary>The peer mixes pictures with the noise that the whole step ends with where it is half-way, too.</summary>
        private protected override NoiseLevel Noised(int i) => new(1, Sigmas[i]);

        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, sample, state) = (input.Index, input.Sample, input.State);
            var clean = Clean(Level(i), input.Prediction, sample);
            var derivative = Derivative(sample, clean, Level(i).Sigma);
            return i % 2 == 0 ? (Mix((1, sample), (between[i / 2] - Sigmas[i], derivative)), clean, state.Next(held: sample))
                : (Mix((1, state.Held ?? sample), (Sigmas[i] - Sigmas[i - 1], derivative)), clean, state.Next());
        }
    }
}
