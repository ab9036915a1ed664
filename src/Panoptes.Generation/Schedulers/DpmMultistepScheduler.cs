using System.Text.Json.Serialization;

namespace Panoptes.Generation;

/// <summary>DPM-Solver and DPM-Solver++ over several steps (Lu et al. 2022, arXiv:2211.01095), as ordinary or stochastic equation. diffusers' DPMSolverMultistepScheduler.</summary>
public sealed record DpmMultistepScheduler : SolverScheduler
{
    /// <summary>dpmsolver++ or sde-dpmsolver++ (over clean samples), dpmsolver or sde-dpmsolver (over noise); DEIS' deis counts as the first.</summary>
    public string AlgorithmType { get; init; } = "dpmsolver++";

    /// <summary>midpoint or heun: how a step of second order weighs the slope. Those of the other solvers count as midpoint.</summary>
    public string SolverType { get; init; } = "midpoint";

    /// <summary>Whether the last step is Euler's.</summary>
    public bool EulerAtFinal { get; init; }

    /// <summary>Levels that are even in λ (Lu et al.).</summary>
    public bool UseLuLambdas { get; init; }

    /// <summary>The level after the last step: zero, or sigma_min.</summary>
    public string FinalSigmasType { get; init; } = "zero";

    /// <summary>Timesteps whose λ is below are left out, which steadies cosine schedules.</summary>
    [JsonConverter(typeof(PythonInfinityConverter))]
    public double LambdaMinClipped { get; init; } = double.NegativeInfinity;

    /// <summary>learned or learned_range where the model predicts a variance as well, which is not used.</summary>
    public string? VarianceType { get; init; }
    public bool RescaleBetasZeroSnr { get; init; }

    private protected override bool ZeroTerminalSnr => RescaleBetasZeroSnr;

    private protected override float LastAlpha => 1f / (1 << 24);

    string Algorithm => AlgorithmType == "deis" ? "dpmsolver++" : AlgorithmType;

    string Solver => SolverType is "logrho" or "bh1" or "bh2" ? "midpoint" : SolverType;

    internal override void Check()
    {
        base.Check();
        Among("algorithm_type", Algorithm, "dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver");
        Among("solver_type", Solver, "midpoint", "heun");
        Among("final_sigmas_type", FinalSigmasType, "zero", "sigma_min");
        if (!Algorithm.EndsWith("++", StringComparison.Ordinal))
        {
            if (FinalSigmasType == "zero") throw new PanoptesException($"final_sigmas_type is zero; expected sigma_min for algorithm_type {Algorithm}.");
            if (PredictionType == "flow_prediction") throw new PanoptesException($"prediction_type is flow_prediction; expected epsilon, sample or v_prediction for algorithm_type {Algorithm}.");
        }
        if (Algorithm == "sde-dpmsolver" && SolverOrder > 2) throw new PanoptesException($"solver_order is {SolverOrder}; expected 1 or 2 for algorithm_type sde-dpmsolver.");
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        RefuseGiven(options, steps);
        Refuse(options.Sigmas is not null, "sigmas", $"({ClassName})");
        Refuse(options.Timesteps is not null && UseLuLambdas, "timesteps", "where use_lu_lambdas lays the levels out");
        var schedule = NoiseSchedule();
        var table = schedule.Sigmas;
        var used = NumTrainTimesteps - Clipped(LambdaMinClipped, schedule.Alphas);
        if (used < 1) throw new PanoptesException($"lambda_min_clipped is {LambdaMinClipped}, which leaves no timestep.");
        double[] spaced = options.Timesteps is { } given ? [.. given.Select(Math.Truncate)] : Grids.Timesteps(TimestepSpacing, NumTrainTimesteps, steps!.Value, StepsOffset, whole: true, extra: 1, last: used);
        var lu = UseLuLambdas && !UseKarrasSigmas ? (Func<double[]>)(() => [.. Grids.Linspace(0, 1, spaced.Length).Select(r => Math.Exp(MathF.Log(table[^1]) + r * (MathF.Log(table[0]) - MathF.Log(table[^1]))))]) : null;
        var (timesteps, sigmas) = Solve(spaced, table, options, rounds: BetaSchedule != "squaredcos_cap_v2", (_, t) => FinalSigmasType == "zero" ? 0 : t[0], other: lu);
        return new Run(this, timesteps, sigmas, options);
    }

    sealed class Run(DpmMultistepScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options)
        : DpmSolverRun(c, c.Algorithm, c.Solver, c.VarianceType is "learned" or "learned_range", timesteps, sigmas, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var i = input.Index;
            var (output, clean) = Convert(input);
            var outputs = input.State.With(output, c.SolverOrder);
            var few = c.LowerOrderFinal && Count < 15;
            var most = i == Count - 1 && (c.EulerAtFinal || few || c.FinalSigmasType == "zero") ? 1 : i == Count - 2 && few ? 2 : 3;
            var order = Math.Min(most, outputs.Length);
            var noise = IsStochastic ? input.Draw(ScalarType.Float32) : null;
            Tensor[] newest = [.. outputs.Reverse().Take(order)];
            var h = Lambda(i + 1) - Lambda(i);
            var next = order switch
            {
                1 => Solve(i, i, input.Sample, newest, [[1]], false, noise),
                2 when (Lambda(i) - Lambda(i - 1)) / h is var r => Solve(i, i, input.Sample, newest, [[1, 0], [1 / r, -1 / r]], !UsesMidpoint, noise),
                _ => Solve(i, i, input.Sample, newest, Parabola((Lambda(i) - Lambda(i - 1)) / h, (Lambda(i - 1) - Lambda(i - 2)) / h), true, noise),
            };
            return (next, clean, input.State.Next(outputs));
        }

        /// <summary>Value, slope and curvature at the newest of three outputs that lie r0 and then r1 apart.</summary>
        static double[][] Parabola(double r0, double r1)
        {
            double[] near = [1 / r0, -1 / r0, 0], far = [0, 1 / r1, -1 / r1];
            return [[1, 0, 0], [.. near.Zip(far, (a, b) => a + r0 / (r0 + r1) * (a - b))], [.. near.Zip(far, (a, b) => (a - b) / (r0 + r1))]];
        }
    }
}
