namespace Panoptes.Generation;

/// <summary>
/// Flow matching (Lipman et al. 2023, arXiv:2210.02747; Esser et al. 2024, arXiv:2403.03206): <c>x = (1 - sigma) clean + sigma noise</c>, of which the model predicts the velocity
/// <c>noise - clean</c>, followed by Euler's method. diffusers' FlowMatchEulerDiscreteScheduler, of Stable Diffusion 3 and Flux.
/// </summary>
public sealed record FlowMatchEulerScheduler : DiffusionScheduler
{
    /// <summary>How far the levels are shifted towards noise, which larger images need.</summary>
    public double Shift { get; init; } = 1;

    /// <summary>Whether <see cref="SamplingOptions.Mu"/> shifts them instead.</summary>
    public bool UseDynamicShifting { get; init; }
    public double BaseShift { get; init; } = 0.5;
    public double MaxShift { get; init; } = 1.15;
    public int BaseImageSeqLen { get; init; } = 256;
    public int MaxImageSeqLen { get; init; } = 4096;

    /// <summary>Whether the levels run the other way, from the clean end.</summary>
    public bool InvertSigmas { get; init; }

    /// <summary>The last level, which the others are stretched to; null or 0: none.</summary>
    public double? ShiftTerminal { get; init; }
    public bool UseKarrasSigmas { get; init; }
    public bool UseExponentialSigmas { get; init; }
    public bool UseBetaSigmas { get; init; }

    /// <summary>exponential or linear.</summary>
    public string TimeShiftType { get; init; } = "exponential";

    /// <summary>Whether each step goes to the clean sample and back up with new noise.</summary>
    public bool StochasticSampling { get; init; }

    internal override void Check()
    {
        Between("num_train_timesteps", NumTrainTimesteps, 1, 100_000);
        Between("shift", Shift, 1e-6, 1e6);
        Among("time_shift_type", TimeShiftType, "exponential", "linear");
        SigmaScheduler.OnlyOne(UseKarrasSigmas, UseExponentialSigmas, UseBetaSigmas);
        if (ShiftTerminal is { } terminal) Between("shift_terminal", terminal, 0, 0.999);
    }

    /// <summary>The mu of an image of so many tokens, between <see cref="BaseShift"/> and <see cref="MaxShift"/> (Flux).</summary>
    public double ShiftOf(int tokens)
    {
        var slope = (MaxShift - BaseShift) / (MaxImageSeqLen - BaseImageSeqLen);
        return tokens * slope + BaseShift - slope * BaseImageSeqLen;
    }

    /// <summary>A level shifted by mu.</summary>
    internal static double ShiftBy(double sigma, double mu, string type) => (type == "linear" ? mu : Math.Exp(mu)) is var by ? by / (by + (1 / sigma - 1)) : 0;

    /// <summary>Levels stretched so that the last is <paramref name="terminal"/>.</summary>
    internal static double[] Stretch(double[] sigmas, double terminal)
    {
        var scale = (1 - sigmas[^1]) / (1 - terminal);
        return [.. sigmas.Select(s => 1 - (1 - s) / scale)];
    }

    double Shifted(double sigma) => Shift * sigma / (1 + (Shift - 1) * sigma);

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        if (UseDynamicShifting && options.Mu is null) throw new PanoptesException("use_dynamic_shifting needs mu.");
        var count = steps ?? options.Sigmas?.Count ?? options.Timesteps!.Count;
        if ((options.Sigmas?.Count ?? count) != count || (options.Timesteps?.Count ?? count) != count) throw new PanoptesException($"There must be as many sigmas and timesteps as steps, {count}.");
        var scale = UseDynamicShifting ? 1 : Shift;
        double most = (float)(scale * 1 / (1 + (scale - 1))), share = 1.0 / NumTrainTimesteps, least = (float)(scale * share / (1 + (scale - 1) * share));
        double[] sigmas = options.Sigmas is { } given ? [.. given.Select(static s => (double)(float)s)]
            : [.. (options.Timesteps?.Select(static t => (double)(float)t) ?? Grids.Linspace(most * NumTrainTimesteps, least * NumTrainTimesteps, count)).Select(t => t / NumTrainTimesteps)];
        sigmas = [.. sigmas.Select(s => UseDynamicShifting ? ShiftBy(s, options.Mu!.Value, TimeShiftType) : Shifted(s))];
        if (ShiftTerminal is > 0 and var terminal) sigmas = Stretch(sigmas, terminal);
        if (UseKarrasSigmas) sigmas = Grids.Karras(sigmas[^1], sigmas[0], count);
        else if (UseExponentialSigmas) sigmas = Grids.Exponential(sigmas[^1], sigmas[0], count);
        else if (UseBetaSigmas) sigmas = Grids.Beta(sigmas[^1], sigmas[0], count);
        float[] levels = [.. sigmas.Select(s => InvertSigmas ? 1 - (float)s : (float)s)];
        double[] timesteps = options.Timesteps is { } named && !InvertSigmas ? [.. named.Select(static t => (double)(float)t)] : [.. levels.Select(s => (double)(s * NumTrainTimesteps))];
        return new Run(this, timesteps, [.. levels, InvertSigmas ? 1 : 0], options);
    }

    sealed class Run(FlowMatchEulerScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options) : SchedulerRun(c, "flow_prediction", timesteps, false, options)
    {
        public override IReadOnlyList<float> Sigmas => sigmas;

        public override NoiseLevel Level(int i) => new(1 - (double)sigmas[i], sigmas[i]);

        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var i = input.Index;
            var clean = Clean(Level(i), input.Prediction, input.Sample);
            double to = sigmas[i + 1];
            var next = c.StochasticSampling ? Mix((1 - to, clean), (to, input.Draw(input.Sample.dtype))) : Mix((1, input.Sample), (to - sigmas[i], input.Prediction));
            return (next, clean, input.State.Next());
        }
    }
}
