namespace Panoptes.Generation;

/// <summary>The exponential integrator of Zhang and Chen 2023 (arXiv:2204.13902) with polynomials in log ρ. diffusers' DEISMultistepScheduler.</summary>
public sealed record DeisScheduler : SolverScheduler
{
    /// <summary>deis; DPM-Solver's dpmsolver and dpmsolver++ count as it.</summary>
    public string AlgorithmType { get; init; } = "deis";

    /// <summary>logrho; those of the other solvers count as it.</summary>
    public string SolverType { get; init; } = "logrho";

    internal override void Check()
    {
        base.Check();
        Among("algorithm_type", AlgorithmType, "deis", "dpmsolver", "dpmsolver++");
        Among("solver_type", SolverType, "logrho", "midpoint", "heun", "bh1", "bh2");
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        RefuseGiven(options, steps, mayBeGiven: false);
        Refuse(options.Sigmas is not null, "sigmas", $"({ClassName})");
        var table = NoiseSchedule().Sigmas;
        var spaced = Grids.Timesteps(TimestepSpacing, NumTrainTimesteps, steps!.Value, StepsOffset, whole: true, extra: 1);
        var (timesteps, sigmas) = Solve(spaced, table, options, rounds: true, (s, t) => SpacesSigmas || UseFlowSigmas ? s[^1] : t[0]);
        return new Run(this, timesteps, sigmas, options);
    }

    sealed class Run(DeisScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options) : SolverRun(c, timesteps, sigmas, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, level) = (input.Index, Level(input.Index));
            var clean = Limit(Clean(level, input.Prediction, input.Sample), Thresholds, null);
            var outputs = input.State.With(EpsilonOf(level, clean, input.Sample), c.SolverOrder);
            var few = c.LowerOrderFinal && Count < 15;
            var order = Math.Min(outputs.Length, few && i == Count - 1 ? 1 : few && i == Count - 2 ? 2 : 3);
            var to = Level(i + 1);
            double[] integrals = order == 1 ? [to.Sigma / to.Alpha - level.Sigma / level.Alpha] : [.. Enumerable.Range(0, order).Select(k => Integral(i, order, k))];
            return (Mix([(to.Alpha / level.Alpha, input.Sample), .. integrals.Select((w, k) => (to.Alpha * w, outputs[^(k + 1)]))]), clean, input.State.Next(outputs));
        }

        /// <summary>The integral over the step's ρ = sigma / alpha of the polynomial in log ρ that is 1 at the level <paramref name="k"/> steps ago and 0 at the others.</summary>
        double Integral(int i, int order, int k)
        {
            double[] logs = [.. Enumerable.Range(0, order).Select(j => -Lambda(i - j))];
            double[] others = [.. logs.Where((_, j) => j != k)];
            var scale = others.Aggregate(1.0, (product, other) => product * (logs[k] - other));
            return (Primitive(-Lambda(i + 1)) - Primitive(logs[0])) / scale;

            // ∫ Π (log ρ - c) dρ, by parts.
            double Primitive(double log) => Math.Exp(log) * (others is [var b] ? log - 1 - b
                : log * log - 2 * log + 2 - (others[0] + others[1]) * (log - 1) + others[0] * others[1]);
        }
    }
}
