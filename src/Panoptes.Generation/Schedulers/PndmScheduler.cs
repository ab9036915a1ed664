namespace Panoptes.Generation;

/// <summary>
/// Pseudo numerical methods for diffusion models (Liu et al. 2022, arXiv:2202.09778): linear multistep, after a Runge-Kutta warm-up of four calls each for three steps or, where that
/// is skipped, after one step that is taken twice. diffusers' PNDMScheduler.
/// </summary>
public sealed record PndmScheduler : BetaScheduler
{
    public PndmScheduler() => TimestepSpacing = "leading";

    /// <summary>Whether it starts without the Runge-Kutta steps, as Stable Diffusion 1 does.</summary>
    public bool SkipPrkSteps { get; init; }

    /// <summary>Whether the last step goes to no noise at all, or to that of timestep 0.</summary>
    public bool SetAlphaToOne { get; init; }

    private protected override string[] PredictionTypes => ["epsilon", "v_prediction"];

    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        var down = WholeTimesteps(steps, options);
        if (SkipPrkSteps) return new Run(this, down.Length < 2 ? down : [down[0], down[1], .. down[1..]], 0, options, down.Length);
        if (down.Length < 4) throw new PanoptesException($"{down.Length} steps were asked for; expected at least 4, or skip_prk_steps.");
        // Each of the three first steps: where it starts, twice half-way, where it ends.
        var half = NumTrainTimesteps / down.Length / 2;
        int[] prk = [.. Enumerable.Range(0, 3).SelectMany(k => new[] { down[k], down[k + 1] + half, down[k + 1] + half, down[k + 1] })];
        return new Run(this, [.. prk, .. down[3..]], prk.Length, options, down.Length);
    }

    sealed class Run(PndmScheduler c, int[] timesteps, int prk, SamplingOptions options, int steps) : AlphaRun(c, timesteps, options, steps)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, output, sample, state) = (input.Index, input.Prediction, input.Sample, input.State);
            var clean = Clean(Level(i), output, sample);
            // Which phase it is goes by the steps that were taken, wherever the run began.
            return state.Steps < prk ? RungeKutta() : Multistep();

            (Tensor, Tensor, SchedulerState) RungeKutta()
            {
                var phase = state.Steps % 4;
                var first = phase == 0 ? sample : state.Held ?? sample;
                var weighted = Mix((phase is 0 or 3 ? 1 / 6.0 : 1 / 3.0, output));
                var sum = state.Sum is null ? weighted : state.Sum + weighted;
                var next = Transfer(first, At[state.Steps / 4 * 4], At[i] - (phase % 2 == 1 ? 0 : c.NumTrainTimesteps / Steps / 2), phase == 3 ? sum : output);
                return (next, clean, state.Next(phase == 0 ? state.With(output, 4) : state.Outputs, first, phase == 3 ? null : sum));
            }

            (Tensor, Tensor, SchedulerState) Multistep()
            {
                var (from, ratio) = (At[i], c.NumTrainTimesteps / Steps);
                if (state.Steps == 1 && prk == 0)
                {
                    // The first step once more, with the mean of what was predicted at its two ends.
                    return (Transfer(state.Held!, from + ratio, from, Mix((0.5, output), (0.5, state.Outputs[^1]))), clean, state.Next(state.Outputs));
                }
                var e = state.With(output, 4);
                var mean = e.Length switch
                {
                    1 => output,
                    2 => Mix((1.5, e[^1]), (-0.5, e[^2])),
                    3 => Mix((23 / 12.0, e[^1]), (-16 / 12.0, e[^2]), (5 / 12.0, e[^3])),
                    _ => Mix((55 / 24.0, e[^1]), (-59 / 24.0, e[^2]), (37 / 24.0, e[^3]), (-9 / 24.0, e[^4])),
                };
                return (Transfer(sample, from, from - ratio, mean), clean, state.Next(e, sample));
            }
        }

        /// <summary>From one timestep to another along the predicted noise (eq. 11).</summary>
        Tensor Transfer(Tensor sample, int from, int to, Tensor output)
        {
            var final = c.SetAlphaToOne ? 1 : First;
            var (a, before) = (Alpha(Math.Min(from, c.NumTrainTimesteps - 1), final), Alpha(to, final));
            var noise = Epsilon(Of(a), output, sample);
            return Mix((Math.Sqrt(before / a), sample), ((a - before) / (a * Math.Sqrt(1 - before) + Math.Sqrt(a * (1 - a) * before)), noise));
        }
    }
}
