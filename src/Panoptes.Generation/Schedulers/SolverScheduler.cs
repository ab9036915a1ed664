namespace Panoptes.Generation;

/// <summary>The schedulers that solve the diffusion equation in half the logarithm of the signal-to-noise ratio: DPM-Solver, DEIS and UniPC.</summary>
public abstract record SolverScheduler : SigmaScheduler
{
    /// <summary>How many predictions a step looks at: 1 to 3 (UniPC: to 8).</summary>
    public int SolverOrder { get; init; } = 2;
    public bool Thresholding { get; init; }
    public double DynamicThresholdingRatio { get; init; } = 0.995;
    public double SampleMaxValue { get; init; } = 1;

    /// <summary>Whether the last steps are of lower order, which keeps samplings of few steps stable.</summary>
    public bool LowerOrderFinal { get; init; } = true;

    /// <summary>Whether the levels are those of a flow: <c>(1 - sigma) clean + sigma noise</c>.</summary>
    public bool UseFlowSigmas { get; init; }

    /// <summary>How far a flow's levels are shifted towards noise.</summary>
    public double FlowShift { get; init; } = 1;

    /// <summary>Whether <see cref="SamplingOptions.Mu"/> sets the shift.</summary>
    public bool UseDynamicShifting { get; init; }

    /// <summary>exponential (UniPC: or linear).</summary>
    public string TimeShiftType { get; init; } = "exponential";

    private protected virtual int MostOrder => 3;

    private protected override string[] PredictionTypes => ["epsilon", "sample", "v_prediction", "flow_prediction"];

    internal override void Check()
    {
        base.Check();
        Between("solver_order", SolverOrder, 1, MostOrder);
        CheckLimits(ratio: DynamicThresholdingRatio, most: SampleMaxValue);
        Between("flow_shift", FlowShift, 1e-6, 1e6);
        Among("time_shift_type", TimeShiftType, "exponential", "linear");
        if (PredictionType == "flow_prediction" && !UseFlowSigmas) throw new PanoptesException("prediction_type is flow_prediction; expected use_flow_sigmas beside it.");
    }

    /// <summary>The level after the last step, by the config and the levels before it.</summary>
    private protected delegate double Last(double[] sigmas, float[] table);

    /// <summary>The timesteps, whole, and the levels with the last behind them.</summary>
    /// <param name="timesteps">The timesteps of the config's spacing, or those that were given.</param>
    /// <param name="rounds">Whether timesteps of Karras' levels are rounded; else they are cut.</param>
    private protected (double[] Timesteps, float[] Sigmas) Solve(double[] timesteps, float[] table, SamplingOptions options, bool rounds, Last last, Func<int, double[]>? flow = null, Func<double[]>? other = null)
    {
        Refuse(options.Mu is not null && !(UseDynamicShifting && TimeShiftType == "exponential"), "mu", "without use_dynamic_shifting and an exponential time_shift_type");
        var count = timesteps.Length;
        double[] sigmas;
        if (SpacesSigmas || other is not null)
        {
            sigmas = other?.Invoke() ?? Spaced(table[^1], table[0], count);
            var logs = Logarithms(table);
            timesteps = [.. sigmas.Select(s => Grids.TimestepOf(s, logs) is var t && rounds && (UseKarrasSigmas || other is not null) ? Math.Round(t) : t)];
        }
        else if (UseFlowSigmas)
        {
            sigmas = flow?.Invoke(count) ?? FlowSigmas(count, options.Mu is { } mu ? Math.Exp(mu) : FlowShift);
            timesteps = [.. sigmas.Select(s => s * NumTrainTimesteps)];
        }
        else
        {
            sigmas = [.. timesteps.Select(t => Grids.Interpolate(t, table))];
        }
        return ([.. timesteps.Select(Math.Truncate)], [.. sigmas.Select(static s => (float)s), (float)last(sigmas, table)]);
    }

    double[] FlowSigmas(int count, double shift) =>
        [.. Grids.Linspace(1, 1.0 / NumTrainTimesteps, count + 1).Select(a => shift * (1 - a) / (1 + (shift - 1) * (1 - a))).Reverse().Take(count)];

    private protected void RefuseGiven(SamplingOptions options, int? steps, bool mayBeGiven = true)
    {
        Refuse(options.Timesteps is not null && !mayBeGiven, "timesteps of one's own", $"({ClassName})");
        Refuse(options.Timesteps is not null && steps is not null, "both a number of steps and timesteps", $"({ClassName})");
        Refuse(options.Timesteps is not null && SpacesSigmas, "timesteps", "where use_karras_sigmas, use_exponential_sigmas or use_beta_sigmas lays the levels out");
    }

    /// <summary>How many of the timesteps are noisier than <paramref name="lambda"/> in half the logarithm of the signal-to-noise ratio.</summary>
    private protected static int Clipped(double lambda, float[] alphas) =>
        double.IsNegativeInfinity(lambda) ? 0 : alphas.Reverse().TakeWhile(a => MathF.Log(MathF.Sqrt(a)) - MathF.Log(MathF.Sqrt(1 - a)) < lambda).Count();
}

/// <summary>A run over samples of constant variance, or of a flow, whose steps go by λ = log(alpha / sigma).</summary>
abstract class SolverRun(SolverScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options) : SchedulerRun(c, c.PredictionType, timesteps, true, options)
{
    public override IReadOnlyList<float> Sigmas => sigmas;

    public override NoiseLevel Level(int i)
    {
        double sigma = sigmas[i];
        if (c.UseFlowSigmas) return new(1 - sigma, sigma);
        var alpha = 1 / Math.Sqrt(sigma * sigma + 1);
        return new(alpha, sigma * alpha);
    }

    private protected double Lambda(int i) => Level(i) is var level ? Math.Log(level.Alpha) - Math.Log(level.Sigma) : 0;

    private protected Thresholding? Thresholds => c.Thresholding ? new(c.DynamicThresholdingRatio, c.SampleMaxValue) : null;
}
