using Panoptes.Evaluation;

namespace Panoptes.Core.Tests.Evaluation;

public sealed class PowerLawTests
{
    [Fact]
    public void A_law_is_found_again_in_its_own_values()
    {
        double[] x = [1, 10, 50, 300];
        var law = PowerLaw.Fit(x, [.. x.Select(static v => 0.8 * Math.Pow(v, -0.25))]);
        Assert.Equal((0.8, -0.25, 1.0), (Math.Round(law.Factor, 10), Math.Round(law.Exponent, 10), Math.Round(law.R2, 10)));
        Assert.Equal(0.8 * Math.Pow(20, -0.25), law.At(20), 1e-10);
    }

    [Fact]
    public void What_no_law_explains_lowers_its_share()
    {
        // By hand: log10 x = 0, 1, 2; log10 y = 0, -1, 0; the best line is flat.
        var law = PowerLaw.Fit([1, 10, 100], [1, 0.1, 1]);
        Assert.Equal((0.0, 0.0), (Math.Round(law.Exponent, 10), Math.Round(law.R2, 10)));
        Assert.Equal(Math.Pow(10, -1.0 / 3), law.Factor, 1e-10);
        Assert.Equal(1, PowerLaw.Fit([1, 2, 3], [0.5, 0.5, 0.5]).R2);
    }

    [Fact]
    public void Numbers_without_a_logarithm_and_single_sizes_are_refused()
    {
        foreach (var (x, y) in new (double[], double[])[] { ([1, 2], [0, 1]), ([-1, 2], [1, 1]), ([1, 2], [double.NaN, 1]), ([2, 2], [1, 1]), ([1, 2, 3], [1, 1]) })
            Assert.Throws<PanoptesException>(() => PowerLaw.Fit(x, y));
    }
}
