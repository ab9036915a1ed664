namespace Panoptes.Generation;

/// <summary>Multistep sampling of latent consistency models (Luo et al. 2023, arXiv:2310.04378): each step says the clean sample, and noise leads to the next. diffusers' LCMScheduler.</summary>
public sealed record LcmScheduler : BetaScheduler
{
    const double DataDeviation = 0.5;

    public LcmScheduler() => (BetaStart, BetaEnd, BetaSchedule, TimestepSpacing) = (0.00085, 0.012, "scaled_linear", "leading");

    /// <summary>How many steps the teacher had; the timesteps are picked out of those.</summary>
    public int OriginalInferenceSteps { get; init; } = 50;
    public bool ClipSample { get; init; }
    public double ClipSampleRange { get; init; } = 1;
    public bool SetAlphaToOne { get; init; } = true;
    public bool Thresholding { get; init; }
    public double DynamicThresholdingRatio { get; init; } = 0.995;
    public double SampleMaxValue { get; init; } = 1;

    /// <summary>What timesteps are multiplied by in the boundary condition.</summary>
    public double TimestepScaling { get; init; } = 10;
    public bool RescaleBetasZeroSnr { get; init; }

    private protected override bool ZeroTerminalSnr => RescaleBetasZeroSnr;

    private protected override string[] Spacings => [];

    internal override void Check()
    {
        base.Check();
        CheckLimits(ClipSampleRange, DynamicThresholdingRatio, SampleMaxValue);
        Between("timestep_scaling", TimestepScaling, 0, 1e6);
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        Refuse(options.Sigmas is not null, "sigmas", $"({ClassName})");
        if (options.Timesteps is not null)
        {
            var given = WholeTimesteps(steps, options, mayBeGiven: true);
            return new Run(this, given[(given.Length - Math.Min((int)(given.Length * options.LcmStrength), given.Length))..], options);
        }
        var original = options.OriginalInferenceSteps ?? OriginalInferenceSteps;
        if (original < 1 || original > NumTrainTimesteps) throw new PanoptesException($"original_inference_steps is {original}; expected 1 to {NumTrainTimesteps}.");
        var teachers = (int)(original * options.LcmStrength);
        var count = steps!.Value;
        if (count > teachers) throw new PanoptesException($"{count} steps were asked for; expected at most {teachers}, those of the teacher ({original}) times the strength.");
        return new Run(this, [.. Grids.Linspace(0, teachers, count + 1)[..^1].Select(k => (teachers - (int)Math.Floor(k)) * (NumTrainTimesteps / original) - 1)], options);
    }

    sealed class Run(LcmScheduler c, int[] timesteps, SamplingOptions options) : AlphaRun(c, timesteps, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, sample) = (input.Index, input.Sample);
            var limited = Limit(Clean(Level(i), input.Prediction, sample), c.Thresholding ? new(c.DynamicThresholdingRatio, c.SampleMaxValue) : null, c.ClipSample ? c.ClipSampleRange : null);
            var scaled = At[i] * c.TimestepScaling;
            var variance = scaled * scaled + DataDeviation * DataDeviation;
            var clean = Mix((scaled / Math.Sqrt(variance), limited), (DataDeviation * DataDeviation / variance, sample));
            if (i == Count - 1) return (clean, clean, input.State.Next());
            var to = Level(i + 1);
            return (Mix((to.Alpha, clean), (to.Sigma, input.Draw())), clean, input.State.Next());
        }
    }
}
