namespace Panoptes.Generation;

/// <summary>The linear multistep method of k-diffusion (Katherine Crowson; Karras et al. 2022, arXiv:2206.00364). diffusers' LMSDiscreteScheduler.</summary>
public sealed record LmsScheduler : SigmaScheduler
{
    private protected override SchedulerRun Lay(int? steps, SamplingOptions options)
    {
        Refuse(options.Sigmas is not null, "sigmas", $"({ClassName})");
        var (timesteps, sigmas) = Levels(steps, options, NoiseSchedule().Sigmas);
        return new Run(this, timesteps, [.. sigmas.Select(static s => (float)s), 0], options);
    }

    sealed class Run(LmsScheduler c, double[] timesteps, float[] sigmas, SamplingOptions options) : SigmaRun(c, timesteps, sigmas, options)
    {
        private protected override (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input)
        {
            var (i, sample) = (input.Index, input.Sample);
            var clean = Clean(Level(i), input.Prediction, sample);
            var derivatives = input.State.With(Derivative(sample, clean, Sigmas[i]), Options.LmsOrder);
            // Where a sampling begins in the middle the peer takes the coefficients of an order for which derivatives are yet to come.
            var order = Math.Min(i + 1, Options.LmsOrder);
            var next = Mix([(1, sample), .. Enumerable.Range(0, Math.Min(order, derivatives.Length)).Select(k => (Coefficient(i, order, k), derivatives[^(k + 1)]))]);
            return (next, clean, input.State.Next(derivatives));
        }

        /// <summary>The integral over the step of the Lagrange polynomial that is 1 at the level <paramref name="k"/> steps ago and 0 at the others.</summary>
        double Coefficient(int i, int order, int k)
        {
            double[] polynomial = [1];                                               // by rising powers of the distance to this level
            double here = Sigmas[i], scale = 1;
            for (var j = 0; j < order; j++)
            {
                if (j == k) continue;
                var root = Sigmas[i - j] - here;
                scale *= (double)Sigmas[i - k] - Sigmas[i - j];
                polynomial = [.. Enumerable.Range(0, polynomial.Length + 1).Select(p => (p > 0 ? polynomial[p - 1] : 0) - (p < polynomial.Length ? root * polynomial[p] : 0))];
            }
            var step = Sigmas[i + 1] - here;
            return polynomial.Select((p, power) => p * Math.Pow(step, power + 1) / (power + 1)).Sum() / scale;
        }
    }
}
