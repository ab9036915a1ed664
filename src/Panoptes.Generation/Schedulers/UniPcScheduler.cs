using System.Text.Json;

namespace Panoptes.Generation;

/// <summary>The unified predictor and corrector of Zhao et al. 2023 (arXiv:2302.04867): each step also corrects the one before, without another call. diffusers' UniPCMultistepScheduler.</summary>
public sealed record UniPcScheduler : SolverScheduler
{
    /// <summary>Whether it solves for the clean sample, or for the noise.</summary>
    public bool PredictX0 { get; init; } = true;

    /// <summary>bh1 or bh2, the paper's B(h); those of the other solvers count as bh2.</summary>
    public string SolverType { get; init; } = "bh2";

    /// <summary>The steps that are not corrected.</summary>
    public long[] DisableCorrector { get; init; } = [];

    /// <summary>Another scheduler as predictor, which is not supported.</summary>
    public JsonElement? SolverP { get; init; }

    /// <summary>The level after the last step: zero, or sigma_min.</summary>
    public string FinalSigmasType { get; init; } = "zero";
    public bool RescaleBetasZeroSnr { get; init; }

    /// <summary>A flow's last level, which the others are stretched to.</summary>
    public double? ShiftTerminal { get; init; }

    private protected override int MostOrder => 8;

    private protected override bool ZeroTerminalSnr => RescaleBetasZeroSnr;

    private protected override float LastAlpha => 1f / (1 << 24);

    string Solver => SolverType is "midpoint" or "heun" or "logrho" ? "bh2" : SolverType;

    internal override void Check()
    {
        base.Check();
        Among("solver_type", Solver, "bh1", "bh2");
        Among("final_sigmas_type", FinalSigmasType, "zero", "sigma_min");
        if (SolverP is { ValueKind: not JsonValueKind.Null }) throw new PanoptesException("solver_p names another scheduler; expected null.");
        if (ShiftTerminal is { } terminal)
        {
            if (!UseFlowSigmas) throw new PanoptesException("shift_terminal is only supported with use_flow_sigmas.");
            Between("shift_terminal", terminal, 0, 0.999);
        }
        if (!PredictX0 && PredictionType == "flow_prediction") throw new PanoptesException("prediction_type is flow_prediction; expected epsilon, sample or v_prediction without predict_x0.");
        if (FinalSigmasType == "zero" && !LowerOrderFinal && SolverOrder > 1) throw new PanoptesException("final_sigmas_type is zero; expected lower_order_final beside it, since no step of higher order ends at no noise.");
        if (FinalSigmasType == "zero" && !PredictX0) throw new PanoptesException("final_sigmas_type is zero; expected sigma_min without predict_x0.");
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        RefuseGiven(options, steps, mayBeGiven: false);
        Refuse(options.Sigmas is not null && !UseFlowSigmas, "sigmas", "without use_flow_sigmas");
        if (UseDynamicShifting && options.Mu is null) throw new PanoptesException("use_dynamic_shifting needs mu.");
        var table = NoiseSchedule().Sigmas;
        var spaced = Grids.Timesteps(TimestepSpacing, NumTrainTimesteps, options.Sigmas?.Count ?? steps!.Value, StepsOffset, whole: true, extra: 1);
        Last last = (s, t) => FinalSigmasType == "zero" ? 0 : SpacesSigmas || UseFlowSigmas ? s[^1] : t[0];
        if (UseKarrasSigmas && UseFlowSigmas)
        {
            double[] levels = [.. Spaced(options.Sigmas?[^1] ?? table[^1], options.Sigmas?[0] ?? table[0], spaced.Length).Select(static s => s / (s + 1))];
            return new Run(this, [.. levels.Select(s => Math.Truncate(s * NumTrainTimesteps))], [.. levels.Select(static s => (float)s), (float)last(levels, table)], options);
        }
        var (timesteps, sigmas) = Solve(spaced, table, options with { Mu = null }, rounds: true, last, count => Flow(options.Sigmas ?? Grids.Linspace(1, 1.0 / NumTrainTimesteps, count + 1)[..^1], options.Mu));
        return new Run(this, timesteps, sigmas, options);
    }

    double[] Flow(IReadOnlyList<double> sigmas, double? mu)
    {
        double[] levels = [.. sigmas.Select(s => UseDynamicShifting ? FlowMatchEulerScheduler.ShiftBy(s, mu!.Value, TimeShiftType) : FlowShift * s / (1 + (FlowShift - 1) * s))];
        if (ShiftTerminal is > 0 and var terminal) levels = FlowMatchEulerScheduler.Stretch(levels, terminal);
        if (Math.Abs(levels[0] - 1) < 1e-6) levels[0] -= 1e-6;                       // where nothing of the clean sample is left, λ has no value
        return levels;
    }

    sealed class Run(UniPcScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options) : SolverRun(c, timesteps, sigmas, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, sample, state) = (input.Index, input.Sample, input.State);
            var level = Level(i);
            var clean = Limit(Clean(level, input.Prediction, sample), c.PredictX0 ? Thresholds : null, null);
            var output = c.PredictX0 ? clean : Epsilon(level, input.Prediction, sample);
            if (state.Held is not null && !c.DisableCorrector.Contains(i - 1))
            {
                var corrected = OrderAt(i - 1, state.Outputs.Count);
                var (weights, rho) = Weigh(i - 1, corrected, corrected);
                sample = Apply(i - 1, state.Held, [.. state.Outputs.Reverse()], rho[..^1], weights, (rho[^1], output));
            }
            var outputs = state.With(output, c.SolverOrder);
            var order = OrderAt(i, outputs.Length);
            var (predicted, shares) = Weigh(i, order, order - 1);
            return (Apply(i, sample, [.. outputs.Reverse()], shares, predicted, null), clean, state.Next(outputs, sample));
        }

        /// <summary>How many outputs a step looks at when there are <paramref name="known"/>.</summary>
        int OrderAt(int i, int known) => Math.Min(known, c.LowerOrderFinal ? Math.Min(c.SolverOrder, Count - i) : c.SolverOrder);

        /// <summary>How far the outputs before lie from that of <paramref name="i"/>, in steps, and how much their differences count: by <paramref name="equations"/> conditions of the Taylor series (eq. 10).</summary>
        (double[] Distances, double[] Shares) Weigh(int i, int order, int equations)
        {
            var h = Lambda(i + 1) - Lambda(i);
            double[] distances = [.. Enumerable.Range(1, order - 1).Select(k => (Lambda(i - k) - Lambda(i)) / h), 1];
            // One condition is met by a half, whatever B(h): the peer's and the paper's choice.
            if (equations == 0) return (distances, []);
            if (equations == 1) return (distances, [0.5]);
            var hh = c.PredictX0 ? -h : h;
            var scale = B(hh);
            var (matrix, right) = (new double[equations, equations], new double[equations]);
            var (phi, factorial) = (Phi(hh) / hh - 1, 1.0);
            for (var k = 0; k < equations; k++)
            {
                for (var j = 0; j < equations; j++) matrix[k, j] = Math.Pow(distances[j], k);
                right[k] = phi * factorial / scale;
                factorial *= k + 2;
                phi = phi / hh - 1 / factorial;
            }
            return (distances, Grids.Solve(matrix, right));
        }

        /// <summary>The step from the level of <paramref name="i"/> to the next.</summary>
        /// <param name="outputs">The newest first.</param>
        /// <param name="shares">Of the differences to the newest, of each before it.</param>
        /// <param name="ahead">The output at the end of the step and its share, which corrects it.</param>
        Tensor Apply(int i, Tensor sample, Tensor[] outputs, double[] shares, double[] distances, (double Share, Tensor Output)? ahead)
        {
            var (to, from) = (Level(i + 1), Level(i));
            var h = Lambda(i + 1) - Lambda(i);
            var hh = c.PredictX0 ? -h : h;
            var (kept, scale) = c.PredictX0 ? (to.Sigma / from.Sigma, to.Alpha) : (to.Alpha / from.Alpha, to.Sigma);
            var first = -scale * Phi(hh);
            var terms = new List<(double, Tensor)> { (kept, sample) };
            for (var k = 0; k < shares.Length; k++)
            {
                var weight = -scale * B(hh) * shares[k] / distances[k];
                terms.Add((weight, outputs[k + 1]));
                first -= weight;
            }
            if (ahead is { } end)
            {
                var weight = -scale * B(hh) * end.Share;
                terms.Add((weight, end.Output));
                first -= weight;
            }
            terms.Add((first, outputs[0]));
            return Mix([.. terms]);
        }

        static double Phi(double hh) => Math.Exp(hh) - 1;

        double B(double hh) => c.Solver == "bh1" ? hh : Phi(hh);
    }
}
