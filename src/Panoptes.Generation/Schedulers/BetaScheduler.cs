namespace Panoptes.Generation;

/// <summary>A scheduler of models that were trained with a <see cref="NoiseSchedule"/>: all but those of flows and of tokens.</summary>
public abstract record BetaScheduler : DiffusionScheduler
{
    /// <summary>The most timesteps: more than any model has, and little enough to lay out.</summary>
    const int MostTimesteps = 100_000;

    public double BetaStart { get; init; } = 0.0001;
    public double BetaEnd { get; init; } = 0.02;

    /// <summary>linear, scaled_linear (linear in the square roots) or squaredcos_cap_v2 (Nichol and Dhariwal 2021); DDPM knows sigmoid and laplace, too, Heun exp.</summary>
    public string BetaSchedule { get; init; } = "linear";

    /// <summary>The very betas, one a timestep, instead of a schedule.</summary>
    public double[]? TrainedBetas { get; init; }

    /// <summary>What the model predicts: epsilon (the noise), sample (the clean sample), v_prediction, or flow_prediction.</summary>
    public string PredictionType { get; init; } = "epsilon";

    /// <summary>linspace, leading or trailing.</summary>
    public string TimestepSpacing { get; init; } = "linspace";

    /// <summary>What is added to the timesteps of leading spacing.</summary>
    public long StepsOffset { get; init; }

    /// <summary>The least and largest noise level of Karras, exponential and beta spacing; by default the schedule's.</summary>
    public double? SigmaMin { get; init; }
    public double? SigmaMax { get; init; }

    /// <summary>The schedule that the model was trained with.</summary>
    /// <exception cref="PanoptesException">A field has a value that is not supported.</exception>
    public NoiseSchedule NoiseSchedule()
    {
        Check();
        using var scope = NewDisposeScope();
        return new(MakeBetas(), ZeroTerminalSnr, LastAlpha);
    }

    private protected virtual bool ZeroTerminalSnr => false;

    /// <summary>What is left of the clean sample at the last timestep where nothing should be; methods that divide by it keep a little.</summary>
    private protected virtual float LastAlpha => 0;

    private protected virtual string[] BetaSchedules => ["linear", "scaled_linear", "squaredcos_cap_v2"];

    private protected virtual string[] PredictionTypes => ["epsilon", "sample", "v_prediction"];

    private protected virtual string[] Spacings => ["linspace", "leading", "trailing"];

    internal override void Check()
    {
        Between("num_train_timesteps", NumTrainTimesteps, 1, MostTimesteps);
        Between("steps_offset", StepsOffset, 0, NumTrainTimesteps);
        Among("prediction_type", PredictionType, PredictionTypes);
        if (Spacings.Length > 0) Among("timestep_spacing", TimestepSpacing, Spacings);
        if (SigmaMin is { } least) Between("sigma_min", least, 0, 1e6);
        if (SigmaMax is { } most) Between("sigma_max", most, 0, 1e6);
        if (TrainedBetas is not null)
        {
            if (TrainedBetas.Length != NumTrainTimesteps) throw new PanoptesException($"trained_betas has {TrainedBetas.Length} values; expected num_train_timesteps, {NumTrainTimesteps}.");
            foreach (var beta in TrainedBetas) Between("trained_betas", beta, 0, 1);
            return;
        }
        Among("beta_schedule", BetaSchedule, BetaSchedules);
        Between("beta_start", BetaStart, 0, 1);
        Between("beta_end", BetaEnd, 0, 1);
    }

    private protected static void CheckLimits(double clip = 1, double ratio = 1, double most = 1)
    {
        Between("clip_sample_range", clip, 0, 1e6);
        Between("dynamic_thresholding_ratio", ratio, 0, 1);
        Between("sample_max_value", most, 1e-6, 1e6);
    }

    Tensor MakeBetas()
    {
        var n = NumTrainTimesteps;
        if (TrainedBetas is not null) return tensor(TrainedBetas, ScalarType.Float32);
        switch (BetaSchedule)
        {
            case "linear": return linspace(BetaStart, BetaEnd, n, ScalarType.Float32);
            case "scaled_linear": return linspace(Math.Sqrt(BetaStart), Math.Sqrt(BetaEnd), n, ScalarType.Float32).pow(2);
            case "sigmoid": return linspace(-6, 6, n, ScalarType.Float32).sigmoid() * (BetaEnd - BetaStart) + BetaStart;
        }
        Func<double, double> left = BetaSchedule switch
        {
            "exp" => static t => Math.Exp(-12 * t),
            "laplace" => static t => Math.Exp(-0.5 * (t <= 0.5 ? 1 : -1) * Math.Log(1 - 2 * Math.Abs(0.5 - t) + 1e-6)) is var snr ? Math.Sqrt(snr / (1 + snr)) : 0,
            _ => static t => Math.Cos((t + 0.008) / 1.008 * Math.PI / 2) is var cosine ? cosine * cosine : 0,
        };
        return tensor(Enumerable.Range(0, n).Select(i => Math.Min(1 - left((i + 1.0) / n) / left((double)i / n), 0.999)).ToArray(), ScalarType.Float32);
    }

    private protected int[] WholeTimesteps(int? steps, SamplingOptions options, bool mayBeGiven = false)
    {
        Refuse(options.Sigmas is not null, "sigmas", $"({ClassName})");
        Refuse(options.Timesteps is not null && !mayBeGiven, "timesteps of one's own", $"({ClassName})");
        Refuse(options.Timesteps is not null && steps is not null, "both a number of steps and timesteps", $"({ClassName})");
        int[] timesteps = [.. (options.Timesteps?.Select(Math.Truncate) ?? Grids.Timesteps(TimestepSpacing, NumTrainTimesteps, steps!.Value, StepsOffset, whole: true)).Select(static t => (int)t)];
        for (var i = 0; i < timesteps.Length; i++)
        {
            if (timesteps[i] < 0 || timesteps[i] >= NumTrainTimesteps) throw new PanoptesException($"Timestep {timesteps[i]} is beyond the {NumTrainTimesteps} that the model was trained with (steps_offset is {StepsOffset}).");
            if (i > 0 && timesteps[i] >= timesteps[i - 1] && options.Timesteps is not null) throw new PanoptesException("The timesteps must descend.");
        }
        return timesteps;
    }
}

/// <summary>A run over samples that are mixed as the schedule mixes them, so that their variance stays: <c>sqrt(a) clean + sqrt(1 - a) noise</c>.</summary>
abstract class AlphaRun : SchedulerRun
{
    readonly float[] alphas;

    private protected AlphaRun(BetaScheduler scheduler, int[] timesteps, SamplingOptions options, int? steps = null)
        : base(scheduler, scheduler.PredictionType, [.. timesteps.Select(static t => (double)t)], true, options, steps)
    {
        alphas = scheduler.NoiseSchedule().Alphas;
        At = timesteps;
        First = alphas[0];
    }

    private protected int[] At { get; }

    private protected float First { get; }

    /// <summary>The clean sample's share of the variance at a timestep, <paramref name="final"/> before the first.</summary>
    private protected double Alpha(int timestep, double final) => timestep < 0 ? final : alphas[timestep];

    public override NoiseLevel Level(int i) => Of(Alpha(At[i], 1));

    private protected static NoiseLevel Of(double alpha) => new(Math.Sqrt(alpha), Math.Sqrt(1 - alpha));
}
