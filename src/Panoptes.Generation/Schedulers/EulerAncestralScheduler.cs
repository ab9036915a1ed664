namespace Panoptes.Generation;

/// <summary>Euler's method with ancestral noise: each step goes below its level and noise leads back up (k-diffusion, Katherine Crowson). diffusers' EulerAncestralDiscreteScheduler.</summary>
public sealed record EulerAncestralScheduler : BetaScheduler
{
    public bool RescaleBetasZeroSnr { get; init; }

    private protected override bool ZeroTerminalSnr => RescaleBetasZeroSnr;

    private protected override float LastAlpha => 1f / (1 << 24);

    private protected override string[] PredictionTypes => ["epsilon", "v_prediction"];

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        Refuse(options.Sigmas is not null || options.Timesteps is not null, "timesteps or sigmas of one's own", $"({ClassName})");
        var table = NoiseSchedule().Sigmas;
        var timesteps = Grids.Timesteps(TimestepSpacing, NumTrainTimesteps, steps!.Value, StepsOffset, whole: false);
        return new Run(this, timesteps, [.. timesteps.Select(t => (float)Grids.Interpolate(t, table)), 0], options);
    }

    sealed class Run(EulerAncestralScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options) : SigmaRun(c, timesteps, sigmas, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var i = input.Index;
            var clean = Clean(Level(i), input.Prediction, input.Sample);
            // In float32 as the peer, since little is left of the difference where the levels lie far apart (zero signal at the end of the training's schedule).
            float from = Sigmas[i], to = Sigmas[i + 1];
            var up = MathF.Sqrt(to * to * (from * from - to * to) / (from * from));
            var down = MathF.Sqrt(to * to - up * up);
            // The peer draws for the last step as well, where nothing of it is taken.
            return (Mix((1, input.Sample), (down - from, Derivative(input.Sample, clean, from)), (up, input.Draw())), clean, input.State.Next());
        }
    }
}
