namespace Panoptes.Generation;

/// <summary>Denoising Diffusion Implicit Models (Song et al. 2021, arXiv:2010.02502): deterministic, or with <see cref="SamplingOptions.Eta"/> as much noise as wanted. diffusers' DDIMScheduler.</summary>
public sealed record DdimScheduler : BetaScheduler
{
    public DdimScheduler() => TimestepSpacing = "leading";

    public bool ClipSample { get; init; } = true;
    public double ClipSampleRange { get; init; } = 1;

    /// <summary>Whether the last step goes to no noise at all, or to that of timestep 0.</summary>
    public bool SetAlphaToOne { get; init; } = true;
    public bool Thresholding { get; init; }
    public double DynamicThresholdingRatio { get; init; } = 0.995;
    public double SampleMaxValue { get; init; } = 1;
    public bool RescaleBetasZeroSnr { get; init; }

    private protected override bool ZeroTerminalSnr => RescaleBetasZeroSnr;

    internal override void Check()
    {
        base.Check();
        CheckLimits(ClipSampleRange, DynamicThresholdingRatio, SampleMaxValue);
    }

    /// <summary>The way back, from samples to the noise that they come of.</summary>
    public DdimInverseScheduler Inverse() => As<DdimInverseScheduler>();

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options) => new Run(this, WholeTimesteps(steps, options), options);

    sealed class Run(DdimScheduler c, int[] timesteps, SamplingOptions options) : AlphaRun(c, timesteps, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, sample) = (input.Index, input.Sample);
            var final = c.SetAlphaToOne ? 1 : First;
            var (a, before) = (Alpha(At[i], final), Alpha(At[i] - c.NumTrainTimesteps / Steps, final));
            var clean = Limit(Clean(Level(i), input.Prediction, sample), c.Thresholding ? new(c.DynamicThresholdingRatio, c.SampleMaxValue) : null, c.ClipSample ? c.ClipSampleRange : null);
            var epsilon = Options.UseClippedModelOutput ? EpsilonOf(Level(i), clean, sample) : Epsilon(Level(i), input.Prediction, sample);
            var variance = Options.Eta * Options.Eta * ((1 - before) / (1 - a)) * (1 - a / before);
            var next = Mix((Math.Sqrt(before), clean), (Math.Sqrt(Math.Max(0, 1 - before - variance)), epsilon));
            if (Options.Eta > 0) next = Mix((1, next), (Math.Sqrt(variance), input.Draw()));
            return (next, clean, input.State.Next());
        }
    }
}
