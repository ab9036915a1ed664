namespace Panoptes.Generation;

/// <summary>A scheduler that may lay its noise levels out otherwise than by timesteps.</summary>
public abstract record SigmaScheduler : BetaScheduler
{
    /// <summary>Levels by Karras et al. 2022.</summary>
    public bool UseKarrasSigmas { get; init; }

    /// <summary>Levels that are even in their logarithms.</summary>
    public bool UseExponentialSigmas { get; init; }

    /// <summary>Levels by the quantiles of a Beta distribution.</summary>
    public bool UseBetaSigmas { get; init; }

    internal override void Check()
    {
        base.Check();
        OnlyOne(UseKarrasSigmas, UseExponentialSigmas, UseBetaSigmas);
    }

    internal static void OnlyOne(bool karras, bool exponential, bool beta)
    {
        if ((karras ? 1 : 0) + (exponential ? 1 : 0) + (beta ? 1 : 0) > 1) throw new PanoptesException("Only one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas can be used.");
    }

    private protected bool SpacesSigmas => UseKarrasSigmas || UseExponentialSigmas || UseBetaSigmas;

    /// <summary>Levels between the last and the first of those given, or the config's own bounds.</summary>
    private protected double[] Spaced(double first, double last, int count)
    {
        var (least, most) = (SigmaMin ?? last, SigmaMax ?? first);
        return UseKarrasSigmas ? Grids.Karras(least, most, count) : UseExponentialSigmas ? Grids.Exponential(least, most, count) : Grids.Beta(least, most, count);
    }

    /// <summary>The timesteps and descending levels of Euler's family, before the last level. Timesteps are float32.</summary>
    /// <param name="table">The level of every timestep.</param>
    private protected (double[] Timesteps, double[] Sigmas) Levels(int? steps, SamplingOptions options, float[] table, bool mayBeGiven = false)
    {
        Refuse(options.Timesteps is not null && !mayBeGiven, "timesteps of one's own", $"({ClassName})");
        Refuse(options.Timesteps is not null && steps is not null, "both a number of steps and timesteps", $"({ClassName})");
        Refuse(options.Timesteps is not null && SpacesSigmas, "timesteps", "where use_karras_sigmas, use_exponential_sigmas or use_beta_sigmas lays the levels out");
        double[] timesteps = options.Timesteps is { } given ? [.. given.Select(static t => (double)(float)t)] : Grids.Timesteps(TimestepSpacing, NumTrainTimesteps, steps!.Value, StepsOffset, whole: false);
        double[] sigmas = [.. timesteps.Select(t => Grids.Interpolate(t, table))];
        return SpacesSigmas ? Relaid(sigmas, timesteps.Length, table) : (timesteps, sigmas);
    }

    private protected (double[] Timesteps, double[] Sigmas) Relaid(double[] sigmas, int count, float[] table)
    {
        sigmas = Spaced(sigmas[0], sigmas[^1], count);
        var logs = Logarithms(table);
        return ([.. sigmas.Select(s => (double)(float)Grids.TimestepOf(s, logs))], sigmas);
    }

    internal static float[] Logarithms(float[] table) => [.. table.Select(static s => MathF.Log(s))];
}

/// <summary>A run over samples whose noise is added up, <c>clean + sigma noise</c>; the model sees them with variance 1.</summary>
abstract class SigmaRun : SchedulerRun
{
    readonly float[] sigmas;

    private protected SigmaRun(BetaScheduler scheduler, double[] timesteps, float[] sigmas, SamplingOptions options, int? steps = null)
        : base(scheduler, scheduler.PredictionType, timesteps, false, options, steps) => this.sigmas = sigmas;

    public override IReadOnlyList<float> Sigmas => sigmas;

    public override double InitNoiseSigma => ((BetaScheduler)Scheduler).TimestepSpacing == "leading" ? Math.Sqrt((double)sigmas.Max() * sigmas.Max() + 1) : sigmas.Max();

    public override NoiseLevel Level(int i) => new(1, sigmas[i]);

    public override Tensor ScaleInput(Tensor sample, int i)
    {
        using var scale = MathF.Sqrt(Variance(Level(i).Sigma)).ToScalar();
        return sample.div(scale);
    }

    /// <summary>The sample's variance, in float32 as the peer: at the highest levels samples are so large that the last bit shows.</summary>
    static float Variance(double sigma) => (float)sigma * (float)sigma + 1;

    private protected override Tensor Clean(NoiseLevel level, Tensor prediction, Tensor sample) => ((BetaScheduler)Scheduler).PredictionType != "v_prediction" ? base.Clean(level, prediction, sample)
        : Mix((-(float)level.Sigma / MathF.Sqrt(Variance(level.Sigma)), prediction), (1, sample / tensor(Variance(level.Sigma), sample.dtype)));

    /// <summary>Where the sample goes as the level falls.</summary>
    private protected static Tensor Derivative(Tensor sample, Tensor clean, double sigma) => Mix((1, sample), (-1, clean)) is var way ? way / tensor(sigma, way.dtype) : way;
}
