namespace Panoptes.Generation;

/// <summary>Where timesteps and noise levels lie: numpy's and scipy's arithmetic, as the peer's grids have it.</summary>
static class Grids
{
    internal static double[] Linspace(double from, double to, int count)
    {
        var grid = new double[count];
        var step = count > 1 ? (to - from) / (count - 1) : 0;
        for (var i = 0; i < count; i++) grid[i] = i * step + from;
        if (count > 1) grid[^1] = to;
        return grid;
    }

    /// <summary>Descending timesteps of a schedule (Lin et al. 2023, arXiv:2305.08891, table 2).</summary>
    /// <param name="spacing">linspace, leading or trailing.</param>
    /// <param name="train">How many timesteps the model was trained with.</param>
    /// <param name="whole">Whether those of linspace are rounded; else they are float32.</param>
    /// <param name="extra">1 where one more is laid out and the lowest is left out, as the solvers do.</param>
    /// <param name="last">How many of the timesteps are used; by default all.</param>
    internal static double[] Timesteps(string spacing, int train, int steps, long offset, bool whole, int extra = 0, int? last = null)
    {
        var used = last ?? train;
        switch (spacing)
        {
            case "linspace":
                return [.. Linspace(0, used - 1, steps + extra).Reverse().Take(steps).Select(t => whole ? Math.Round(t) : (float)t)];
            case "leading":
                return [.. Enumerable.Range(0, steps + extra).Reverse().Take(steps).Select(i => (double)((long)i * (used / (steps + extra)) + offset))];
            default:
                // The distance as numpy's arange has it. Where it comes out a hair too small, as for 61 of 1000, the peer walks on to -1, which is no timestep.
                var ratio = (double)train / steps;
                var delta = used - ratio - used;
                return [.. Enumerable.Range(0, Math.Min(steps, (int)Math.Ceiling(used / ratio))).Select(i => Math.Round(used + i * delta) - 1)];
        }
    }

    /// <summary>The table's value between its entries.</summary>
    internal static double Interpolate(double t, float[] table)
    {
        if (t <= 0) return table[0];
        if (t >= table.Length - 1) return table[^1];
        var low = (int)t;
        return ((double)table[low + 1] - table[low]) * (t - low) + table[low];
    }

    /// <summary>The timestep whose noise level is <paramref name="sigma"/>, by the logarithms of all.</summary>
    internal static double TimestepOf(double sigma, float[] logSigmas)
    {
        var log = Math.Log(Math.Max(sigma, 1e-10));
        var low = Math.Clamp(Array.FindLastIndex(logSigmas, s => log - s >= 0), 0, Math.Max(0, logSigmas.Length - 2));
        var high = Math.Min(low + 1, logSigmas.Length - 1);
        var weight = Math.Clamp((logSigmas[low] - log) / (logSigmas[low] - logSigmas[high]), 0, 1);
        return (1 - weight) * low + weight * high;
    }

    /// <summary>Noise levels that are even in their seventh root (Karras et al. 2022, arXiv:2206.00364, eq. 5), descending.</summary>
    internal static double[] Karras(double least, double most, int count)
    {
        var (low, high) = (Math.Pow(least, 1 / 7.0), Math.Pow(most, 1 / 7.0));
        return [.. Linspace(0, 1, count).Select(r => Math.Pow(high + r * (low - high), 7))];
    }

    internal static double[] Exponential(double least, double most, int count) => [.. Linspace(Math.Log(most), Math.Log(least), count).Select(Math.Exp)];

    /// <summary>Noise levels by the quantiles of Beta(0.6, 0.6) (Lee et al. 2024, arXiv:2407.12173), descending.</summary>
    internal static double[] Beta(double least, double most, int count) => [.. Linspace(0, 1, count).Select(r => least + BetaQuantile(1 - r, 0.6) * (most - least))];

    /// <summary>Where Beta(a, a) has the share <paramref name="p"/> below it, by halving.</summary>
    internal static double BetaQuantile(double p, double a)
    {
        if (p is <= 0 or >= 1) return p;
        if (p > 0.5) return 1 - BetaQuantile(1 - p, a);
        var (low, high) = (0.0, 0.5);
        for (var i = 0; i < 200; i++)
        {
            var middle = (low + high) / 2;
            if (middle <= low || middle >= high) break;
            if (BetaShare(middle, a) < p) low = middle;
            else high = middle;
        }
        return (low + high) / 2;
    }

    /// <summary>The share of Beta(a, a) below x of at most a half: x^a / (a B(a, a)) times the sum over k of (1-a)_k / k! * a / (a + k) * x^k, whose terms shrink with x^k.</summary>
    static double BetaShare(double x, double a)
    {
        var (sum, term) = (1.0, 1.0);
        for (var k = 1; k < 200 && Math.Abs(term) > 1e-18; k++)
        {
            term *= (k - a) / k * x;
            sum += term * a / (a + k);
        }
        // Half of the mass lies below a half, so the same sum there is the constant.
        var (half, at) = (1.0, 1.0);
        for (var k = 1; k < 200 && Math.Abs(at) > 1e-18; k++)
        {
            at *= (k - a) / k * 0.5;
            half += at * a / (a + k);
        }
        return 0.5 * Math.Pow(2 * x, a) * sum / half;
    }

    /// <summary>The solution of a small system of equations, by elimination with pivots.</summary>
    internal static double[] Solve(double[,] matrix, double[] right)
    {
        var n = right.Length;
        var (a, b) = ((double[,])matrix.Clone(), (double[])right.Clone());
        for (var k = 0; k < n; k++)
        {
            var pivot = Enumerable.Range(k, n - k).MaxBy(r => Math.Abs(a[r, k]));
            for (var c = 0; c < n; c++) (a[k, c], a[pivot, c]) = (a[pivot, c], a[k, c]);
            (b[k], b[pivot]) = (b[pivot], b[k]);
            for (var r = k + 1; r < n; r++)
            {
                var factor = a[r, k] / a[k, k];
                for (var c = k; c < n; c++) a[r, c] -= factor * a[k, c];
                b[r] -= factor * b[k];
            }
        }
        for (var k = n - 1; k >= 0; k--)
        {
            for (var c = k + 1; c < n; c++) b[k] -= a[k, c] * b[c];
            b[k] /= a[k, k];
        }
        return b;
    }
}
