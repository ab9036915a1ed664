namespace Panoptes.Generation;

/// <summary>How far an image is on the way to another: its words' features are taken in between on a line, its noise on an arc, which keeps it as loud (Shoemake 1985; White 2016, arXiv:1609.04468).</summary>
/// <param name="Share">From 0, the image itself, to 1, the other.</param>
public sealed record Interpolation(double Share)
{
    /// <summary>The other's words; null: the same.</summary>
    public string? Prompt { get; init; }

    /// <summary>What is not wanted of the other; null: the same.</summary>
    public string? NegativePrompt { get; init; }

    /// <summary>The other's seed; null: the same.</summary>
    public long? Seed { get; init; }

    /// <summary>Between two directions of every row, on the arc that joins them; on the line where they are nearly one.</summary>
    /// <param name="from">[b, …]</param>
    /// <param name="to">As many.</param>
    /// <param name="shares">One a row.</param>
    public static Tensor Spherical(Tensor from, Tensor to, IReadOnlyList<double> shares)
    {
        // Where the arc is so short its sine divides too little.
        const double same = 0.9995;
        using var scope = NewDisposeScope();
        return cat([.. shares.Select((share, i) =>
        {
            var (a, b) = (from.narrow(0, i, 1).to(ScalarType.Float32), to.narrow(0, i, 1).to(ScalarType.Float32));
            var cosine = (a * b).sum().item<float>() / ((double)a.norm().item<float>() * b.norm().item<float>());
            var (first, second) = (1 - share, share);
            if (Math.Abs(cosine) < same && Math.Acos(cosine) is var angle) (first, second) = (Math.Sin((1 - share) * angle) / Math.Sin(angle), Math.Sin(share * angle) / Math.Sin(angle));
            return (a * first + b * second).to(from.dtype);
        })]).MoveToOuterDisposeScope();
    }

    /// <summary>Noise between that of two sources, of every draw.</summary>
    internal sealed class Noise(NoiseSource from, NoiseSource to, IReadOnlyList<double> shares) : NoiseSource
    {
        internal override bool IsOfEach => from.IsOfEach;

        public override Tensor Normal(long[] shape, ScalarType type)
        {
            using Tensor a = from.Normal(shape, type), b = to.Normal(shape, type);
            return Spherical(a, b, shares);
        }

        public override Tensor Uniform(long[] shape) => from.Uniform(shape);

        public override Tensor Choose(Tensor weights) => from.Choose(weights);
    }
}

/// <summary>Makes an image larger before it is one: its latents are enlarged and made anew in part, at the larger size ("hires fix").</summary>
/// <param name="Factor">Of both sides.</param>
public sealed record LatentUpscale(double Factor)
{
    /// <summary>How far from the enlarged latents: from just above 0 to 1, nothing of them.</summary>
    public double Strength { get; init; } = 0.6;

    /// <summary>Whether latents are enlarged by repeating them, not by lines between them, which blurs.</summary>
    public bool Nearest { get; init; }
}
