namespace Panoptes.Generation;

/// <summary>Euler's method over noise levels (Karras et al. 2022, arXiv:2206.00364, algorithm 2), with churn where wanted. diffusers' EulerDiscreteScheduler.</summary>
public sealed record EulerScheduler : SigmaScheduler
{
    /// <summary>How the levels follow from the timesteps: linear, or log_linear (evenly in logarithms, one more than steps).</summary>
    public string InterpolationType { get; init; } = "linear";

    /// <summary>discrete, or continuous: models of v-prediction are told a quarter of the level's logarithm (EDM).</summary>
    public string TimestepType { get; init; } = "discrete";
    public bool RescaleBetasZeroSnr { get; init; }

    /// <summary>The level after the last step: zero, or sigma_min.</summary>
    public string FinalSigmasType { get; init; } = "zero";

    private protected override bool ZeroTerminalSnr => RescaleBetasZeroSnr;

    private protected override float LastAlpha => 1f / (1 << 24);

    private protected override string[] PredictionTypes => ["epsilon", "sample", "original_sample", "v_prediction"];

    internal override void Check()
    {
        base.Check();
        Among("interpolation_type", InterpolationType, "linear", "log_linear");
        Among("timestep_type", TimestepType, "discrete", "continuous");
        Among("final_sigmas_type", FinalSigmasType, "zero", "sigma_min");
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        var continuous = TimestepType == "continuous" && PredictionType == "v_prediction";
        Refuse(options.Sigmas is not null && (steps is not null || options.Timesteps is not null), "sigmas", "beside a number of steps or timesteps");
        Refuse(options.Timesteps is not null && continuous, "timesteps", "where timestep_type is continuous");
        var table = NoiseSchedule().Sigmas;
        double[] timesteps;
        float[] levels;
        if (options.Sigmas is { } given)
        {
            if (given.Count < 2) throw new PanoptesException("There must be at least two sigmas, the last of them where the sampling ends.");
            levels = [.. given.Select(static s => (float)s)];
            var logs = Logarithms(table);
            timesteps = [.. levels[..^1].Select(s => (double)(float)Grids.TimestepOf(s, logs))];
        }
        else
        {
            (timesteps, var sigmas) = Levels(steps, options, table, mayBeGiven: true);
            if (InterpolationType == "log_linear")
            {
                using var scope = NewDisposeScope();
                sigmas = [.. linspace(MathF.Log(table[^1]), MathF.Log(table[0]), timesteps.Length + 1, ScalarType.Float32).exp().data<float>().ToArray().Select(static s => (double)s)];
                if (SpacesSigmas) (timesteps, sigmas) = Relaid(sigmas, timesteps.Length, table);
            }
            levels = [.. sigmas.Select(static s => (float)s), FinalSigmasType == "zero" ? 0 : table[0]];
        }
        if (continuous) timesteps = [.. levels.Take(timesteps.Length).Select(static s => (double)(0.25f * MathF.Log(s)))];
        return new Run(this, timesteps, levels, options);
    }

    sealed class Run(EulerScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options) : SigmaRun(c, timesteps, sigmas, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, sample) = (input.Index, input.Sample);
            double sigma = Sigmas[i];
            var gamma = sigma >= Options.ChurnMin && sigma <= Options.ChurnMax ? Math.Min(Options.Churn / (Sigmas.Count - 1), Math.Sqrt(2) - 1) : 0;
            var churned = sigma * (gamma + 1);
            if (gamma > 0) sample = Mix((1, sample), (Options.ChurnNoise * Math.Sqrt(churned * churned - sigma * sigma), input.Draw()));
            // As in the peer, only a prediction of the noise is told of the level that churn leads to.
            var clean = Clean(new(1, c.PredictionType == "epsilon" ? churned : sigma), input.Prediction, sample);
            return (Mix((1, sample), (Sigmas[i + 1] - churned, Derivative(sample, clean, churned))), clean, input.State.Next());
        }
    }
}
