namespace Panoptes.Generation;

/// <summary>Ancestral sampling of Denoising Diffusion Probabilistic Models (Ho et al. 2020, arXiv:2006.11239). diffusers' DDPMScheduler.</summary>
public sealed record DdpmScheduler : BetaScheduler
{
    public DdpmScheduler() => TimestepSpacing = "leading";

    /// <summary>The noise of a step: fixed_small (the posterior's variance), fixed_large (beta), either with _log, or learned and learned_range (Nichol and Dhariwal 2021), which the model predicts.</summary>
    public string VarianceType { get; init; } = "fixed_small";
    public bool ClipSample { get; init; } = true;
    public double ClipSampleRange { get; init; } = 1;
    public bool Thresholding { get; init; }
    public double DynamicThresholdingRatio { get; init; } = 0.995;
    public double SampleMaxValue { get; init; } = 1;
    public bool RescaleBetasZeroSnr { get; init; }

    private protected override bool ZeroTerminalSnr => RescaleBetasZeroSnr;

    private protected override string[] BetaSchedules => ["linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid"];

    internal override void Check()
    {
        base.Check();
        Among("variance_type", VarianceType, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range");
        CheckLimits(ClipSampleRange, DynamicThresholdingRatio, SampleMaxValue);
    }

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options) => new Run(this, WholeTimesteps(steps, options, mayBeGiven: true), options);

    sealed class Run(DdpmScheduler c, int[] timesteps, SamplingOptions options) : AlphaRun(c, timesteps, options)
    {
        internal override bool PredictsVariance => c.VarianceType.StartsWith("learned", StringComparison.Ordinal);

        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, prediction, sample) = (input.Index, input.Prediction, input.Sample);
            Tensor? learned = null;
            if (PredictsVariance)
            {
                if (prediction.shape[1] != 2 * sample.shape[1]) throw new PanoptesException($"variance_type is {c.VarianceType}, but the prediction has {prediction.shape[1]} channels; expected twice the sample's {sample.shape[1]}.");
                (prediction, learned) = (prediction.narrow(1, 0, sample.shape[1]), prediction.narrow(1, sample.shape[1], sample.shape[1]));
            }
            var (a, before) = (Alpha(At[i], 1), i + 1 < Count ? Alpha(At[i + 1], 1) : 1);
            var clean = Limit(Clean(Level(i), prediction, sample), c.Thresholding ? new(c.DynamicThresholdingRatio, c.SampleMaxValue) : null, c.ClipSample ? c.ClipSampleRange : null);
            var beta = 1 - a / before;
            var next = Mix((Math.Sqrt(before) * beta / (1 - a), clean), (Math.Sqrt(a / before) * (1 - before) / (1 - a), sample));
            if (At[i] > 0)
            {
                var noise = input.Draw();
                var small = Math.Max((1 - before) / (1 - a) * beta, 1e-20);
                next = c.VarianceType switch
                {
                    "learned" => next + learned!.sqrt() * noise,
                    // From -1 to 1: from the posterior's to beta, in logarithms.
                    "learned_range" => next + ((learned! + 1) / 2 * (Math.Log(beta) - Math.Log(small)) + Math.Log(small)).mul(0.5).exp() * noise,
                    _ => Mix((1, next), (Math.Sqrt(c.VarianceType.StartsWith("fixed_small", StringComparison.Ordinal) ? small : beta), noise)),
                };
            }
            return (next, clean, input.State.Next());
        }
    }
}
