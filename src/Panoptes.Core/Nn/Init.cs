namespace Panoptes.Nn;

/// <summary>The usual ways to start a weight.</summary>
public static class Init
{
    public static Initializer Zeros { get; } = static (t, _) => t.zero_();

    public static Initializer Ones { get; } = static (t, _) => t.fill_(1);

    public static Initializer Constant(double value) => (t, _) => t.fill_(value);

    public static Initializer Normal(double std, double mean = 0) => (t, g) => t.normal_(mean, std, g);

    public static Initializer Uniform(double bound) => (t, g) => t.uniform_(-bound, bound, g);

    /// <summary>Glorot and Bengio's uniform over [fan_out, fan_in, ...], as torch.nn.init.xavier_uniform_.</summary>
    public static Initializer XavierUniform { get; } = static (t, g) =>
    {
        var receptive = t.shape.Skip(2).Aggregate(1L, static (a, b) => a * b);
        var bound = Math.Sqrt(6.0 / ((t.shape[0] + t.shape[1]) * receptive));
        t.uniform_(-bound, bound, g);
    };

    /// <summary>LeCun's normal, cut off at two deviations, over [fan_out, fan_in, ...]: the variance is 1 / fan-in after the cut.</summary>
    public static Initializer LecunNormal { get; } = static (t, g) =>
    {
        var fanIn = t.shape.Skip(1).Aggregate(1L, static (a, b) => a * b);
        TruncatedNormal(1 / Math.Sqrt(fanIn) / 0.87962566103423978)(t, g);
    };

    /// <summary>A normal cut off at two deviations, as timm's trunc_normal_.</summary>
    public static Initializer TruncatedNormal(double std) => (t, g) =>
    {
        // Inverse of the normal distribution function over [Φ(-2), Φ(2)].
        t.uniform_(-0.9544997361036416, 0.9544997361036416, g);
        t.erfinv_().mul_(std * Math.Sqrt(2)).clamp_(-2 * std, 2 * std);
    };
}
