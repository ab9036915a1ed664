namespace Panoptes.Generation;

/// <summary>DDIM backwards: from a clean sample up to the noise that DDIM would make it of (prompt-to-prompt, null-text editing). diffusers' DDIMInverseScheduler.</summary>
public sealed record DdimInverseScheduler : BetaScheduler
{
    public DdimInverseScheduler() => TimestepSpacing = "leading";

    public bool ClipSample { get; init; } = true;
    public double ClipSampleRange { get; init; } = 1;

    /// <summary>Whether the first step comes from no noise at all, or from that of timestep 0.</summary>
    public bool SetAlphaToOne { get; init; } = true;
    public bool RescaleBetasZeroSnr { get; init; }

    private protected override bool ZeroTerminalSnr => RescaleBetasZeroSnr;

    private protected override string[] Spacings => ["leading", "trailing"];

    internal override void Check()
    {
        base.Check();
        CheckLimits(ClipSampleRange);
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options) => new Run(this, [.. WholeTimesteps(steps, options).Reverse()], options);

    sealed class Run(DdimInverseScheduler c, int[] timesteps, SamplingOptions options) : AlphaRun(c, timesteps, options)
    {
        /// <summary>The sample lies a step below the timestep that the model is told.</summary>
        public override NoiseLevel Level(int i) => Of(Alpha(Math.Min(At[i] - c.NumTrainTimesteps / Steps, c.NumTrainTimesteps - 1), c.SetAlphaToOne ? 1 : First));

        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var level = Level(input.Index);
            var clean = Limit(Clean(level, input.Prediction, input.Sample), null, c.ClipSample ? c.ClipSampleRange : null);
            var to = Of(Alpha(At[input.Index], 1));
            return (Mix((to.Alpha, clean), (to.Sigma, Epsilon(level, input.Prediction, input.Sample))), clean, input.State.Next());
        }
    }
}
