namespace Panoptes.Generation;

/// <summary>DPM-Solver's step, which the multistep and the singlestep schedulers share (Lu et al. 2022, arXiv:2206.00927 and arXiv:2211.01095).</summary>
abstract class DpmSolverRun(SolverScheduler c, string algorithm, string solver, bool learned, double[] timesteps, float[] sigmas, SamplingOptions options) : SolverRun(c, timesteps, sigmas, options)
{
    private protected bool IsStochastic => algorithm[0] == 's';

    private protected bool UsesMidpoint => solver == "midpoint";

    internal override bool PredictsVariance => learned;

    /// <summary>What the solver works on, the clean sample or (without ++) the noise, and the clean sample.</summary>
    private protected (Tensor Output, Tensor Clean) Convert(Input input)
    {
        var level = Level(input.Index);
        var prediction = input.Prediction.narrow(1, 0, input.Sample.shape[1]);
        var clean = Limit(Clean(level, prediction, input.Sample), Thresholds, null);
        if (algorithm.EndsWith("++", StringComparison.Ordinal)) return (clean, clean);
        return (Thresholds is null ? Epsilon(level, prediction, input.Sample) : EpsilonOf(level, clean, input.Sample), clean);
    }

    /// <summary>A step to the level after <paramref name="i"/> from that of <paramref name="from"/>.</summary>
    /// <param name="outputs">What the solver works on, the newest first.</param>
    /// <param name="value">The value, the slope and the curvature at <paramref name="from"/> as shares of the outputs; fewer at lower order.</param>
    /// <param name="exact">Whether the slope is weighed by its exact integral, not by the midpoint's.</param>
    private protected Tensor Solve(int i, int from, Tensor sample, Tensor[] outputs, double[][] value, bool exact, Tensor? noise)
    {
        var (to, start) = (Level(i + 1), Level(from));
        var h = Lambda(i + 1) - Lambda(from);
        // The sample's share, what the integrals of 1, of the slope and of the curvature weigh, and the noise.
        double share, scale, drawn = 0;
        double[] weights;
        switch (algorithm)
        {
            case "dpmsolver++":
                var less = Math.Exp(-h) - 1;
                (share, scale) = (to.Sigma / start.Sigma, to.Alpha);
                weights = [-less, exact ? less / h + 1 : -0.5 * less, -((less + h) / (h * h) - 0.5)];
                break;
            case "dpmsolver":
                var more = Math.Exp(h) - 1;
                (share, scale) = (to.Alpha / start.Alpha, to.Sigma);
                weights = [-more, exact ? -(more / h - 1) : -0.5 * more, -((more - h) / (h * h) - 0.5)];
                break;
            case "sde-dpmsolver++":
                var twice = 1 - Math.Exp(-2 * h);
                (share, scale, drawn) = (to.Sigma / start.Sigma * Math.Exp(-h), to.Alpha, to.Sigma * Math.Sqrt(twice));
                weights = [twice, exact ? twice / (-2 * h) + 1 : 0.5 * twice, (twice - 2 * h) / (4 * h * h) - 0.5];
                break;
            default:
                var grown = Math.Exp(h) - 1;
                (share, scale, drawn) = (to.Alpha / start.Alpha, to.Sigma, to.Sigma * Math.Sqrt(Math.Exp(2 * h) - 1));
                weights = [-2 * grown, exact ? -2 * (grown / h - 1) : -grown, double.NaN];
                break;
        }
        var terms = new List<(double, Tensor)> { (share, sample) };
        for (var k = 0; k < outputs.Length; k++) terms.Add((scale * value.Select((v, order) => weights[order] * v[k]).Sum(), outputs[k]));
        if (noise is not null) terms.Add((drawn, noise));
        return Mix([.. terms]);
    }
}
