using System.Text.Json.Serialization;

namespace Panoptes.Generation;

/// <summary>
/// DPM-Solver and DPM-Solver++ in single steps of up to three calls (Lu et al. 2022, arXiv:2206.00927 and arXiv:2211.01095). Its timesteps are always those of linspace. diffusers'
/// DPMSolverSinglestepScheduler.
/// </summary>
public sealed record DpmSinglestepScheduler : SolverScheduler
{
    public DpmSinglestepScheduler() => LowerOrderFinal = false;

    /// <summary>dpmsolver++ or sde-dpmsolver++ (over clean samples), dpmsolver (over noise); DEIS' deis counts as the first.</summary>
    public string AlgorithmType { get; init; } = "dpmsolver++";

    /// <summary>midpoint or heun. Those of the other solvers count as midpoint.</summary>
    public string SolverType { get; init; } = "midpoint";

    /// <summary>The level after the last step: zero, or sigma_min.</summary>
    public string FinalSigmasType { get; init; } = "zero";

    /// <summary>Timesteps whose λ is below are left out, which steadies cosine schedules.</summary>
    [JsonConverter(typeof(PythonInfinityConverter))]
    public double LambdaMinClipped { get; init; } = double.NegativeInfinity;

    /// <summary>learned or learned_range where the model predicts a variance as well, which is not used.</summary>
    public string? VarianceType { get; init; }

    private protected override string[] Spacings => [];

    string Algorithm => AlgorithmType == "deis" ? "dpmsolver++" : AlgorithmType;

    string Solver => SolverType is "logrho" or "bh1" or "bh2" ? "midpoint" : SolverType;

    internal override void Check()
    {
        base.Check();
        Among("algorithm_type", Algorithm, "dpmsolver++", "dpmsolver", "sde-dpmsolver++");
        Among("solver_type", Solver, "midpoint", "heun");
        Among("final_sigmas_type", FinalSigmasType, "zero", "sigma_min");
        if (Algorithm == "dpmsolver")
        {
            if (FinalSigmasType == "zero") throw new PanoptesException("final_sigmas_type is zero; expected sigma_min for algorithm_type dpmsolver.");
            if (PredictionType == "flow_prediction") throw new PanoptesException("prediction_type is flow_prediction; expected epsilon, sample or v_prediction for algorithm_type dpmsolver.");
        }
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        RefuseGiven(options, steps);
        Refuse(options.Sigmas is not null, "sigmas", $"({ClassName})");
        var schedule = NoiseSchedule();
        var used = NumTrainTimesteps - Clipped(LambdaMinClipped, schedule.Alphas);
        if (used < 1) throw new PanoptesException($"lambda_min_clipped is {LambdaMinClipped}, which leaves no timestep.");
        double[] spaced = options.Timesteps is { } given ? [.. given.Select(Math.Truncate)] : Grids.Timesteps("linspace", NumTrainTimesteps, steps!.Value, 0, whole: true, extra: 1, last: used);
        var (timesteps, sigmas) = Solve(spaced, schedule.Sigmas, options, rounds: true, (_, t) => FinalSigmasType == "zero" ? 0 : t[0]);
        return new Run(this, timesteps, sigmas, Orders(timesteps.Length), options);
    }

    /// <summary>The order of every call: a step of order k is k calls, of which the last uses all. The last steps are lower where the calls do not fit, or the sampling ends at no noise.</summary>
    int[] Orders(int calls)
    {
        var cycles = Enumerable.Range(0, calls).Select(k => k % SolverOrder + 1);
        if (!LowerOrderFinal && calls % SolverOrder == 0 && FinalSigmasType != "zero") return [.. cycles];
        int[] orders = [.. cycles];
        if (calls % SolverOrder == 0) orders[^1] = 1;
        if (FinalSigmasType == "zero") orders[^1] = 1;
        return orders;
    }

    sealed class Run(DpmSinglestepScheduler c, double[] timesteps, float[] sigmas, int[] orders, SamplingOptions options)
        : DpmSolverRun(c, c.Algorithm, c.Solver, c.VarianceType is "learned" or "learned_range", timesteps, sigmas, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var i = input.Index;
            var (output, clean) = Convert(input);
            var outputs = input.State.With(output, c.SolverOrder);
            var noise = IsStochastic ? input.Draw() : null;
            var order = Math.Min(orders[i], outputs.Length);
            var sample = order == 1 ? input.Sample : input.State.Held!;
            Tensor[] newest = [.. outputs.Reverse().Take(order)];
            var from = i + 1 - order;
            var h = Lambda(i + 1) - Lambda(from);
            var next = order switch
            {
                1 => Solve(i, from, sample, newest, [[1]], false, noise),
                2 when (Lambda(i) - Lambda(from)) / h is var r => Solve(i, from, sample, newest, [[0, 1], [1 / r, -1 / r]], !UsesMidpoint, noise),
                _ => Solve(i, from, sample, newest, Parabola((Lambda(i) - Lambda(from)) / h, (Lambda(i - 1) - Lambda(from)) / h, UsesMidpoint), true, noise),
            };
            return (next, clean, input.State.Next(outputs, sample));
        }

        /// <summary>Value, slope and curvature at the oldest of three outputs, of which the others lie r0 and r1 after it; the midpoint's has no curvature.</summary>
        static double[][] Parabola(double r0, double r1, bool midpoint)
        {
            double[] near = [0, 1 / r1, -1 / r1], far = [1 / r0, 0, -1 / r0];
            return midpoint ? [[0, 0, 1], far]
                : [[0, 0, 1], [.. near.Zip(far, (a, b) => (r0 * a - r1 * b) / (r0 - r1))], [.. near.Zip(far, (a, b) => 2 * (b - a) / (r0 - r1))]];
        }
    }
}
