namespace Panoptes.Evaluation;

/// <summary>y = factor · x ^ exponent, a straight line in logarithms (Kaplan et al. 2020, arXiv:2001.08361; of CLIP: Cherti et al. 2023, arXiv:2212.07143).</summary>
/// <param name="Factor">y at x = 1.</param>
/// <param name="Exponent">Below 0 where y falls.</param>
/// <param name="R2">The share of the variance of log y that the line explains; 1 where y does not vary.</param>
public sealed record PowerLaw(double Factor, double Exponent, double R2)
{
    public double At(double x) => Factor * Math.Pow(x, Exponent);

    /// <summary>The least squares fit in logarithms.</summary>
    /// <exception cref="PanoptesException">Fewer than two different sizes, or a number that has no logarithm.</exception>
    public static PowerLaw Fit(IReadOnlyList<double> x, IReadOnlyList<double> y)
    {
        if (x.Count != y.Count || x.Distinct().Count() < 2) throw new PanoptesException($"A power law was to be laid through {x.Count} sizes and {y.Count} values; expected as many of both, and two different sizes.");
        if (x.Concat(y).FirstOrDefault(static v => v is not > 0 || double.IsInfinity(v), 1) is not > 0 and var bad) throw new PanoptesException($"A power law was to be laid through {bad}; expected numbers above 0.");
        double[] u = [.. x.Select(static a => Math.Log(a))], v = [.. y.Select(static a => Math.Log(a))];
        var (meanU, meanV) = (u.Average(), v.Average());
        var exponent = u.Zip(v, (a, b) => (a - meanU) * (b - meanV)).Sum() / u.Sum(a => (a - meanU) * (a - meanU));
        var (all, left) = (v.Sum(b => (b - meanV) * (b - meanV)), u.Zip(v, (a, b) => b - meanV - (exponent * (a - meanU))).Sum(static r => r * r));
        return new(Math.Exp(meanV - (exponent * meanU)), exponent, all == 0 ? 1 : 1 - (left / all));
    }
}
