namespace Panoptes.Evaluation;

/// <summary>How near generated images come to real ones, by their features, and how sure a classifier or CLIP is of them. All in float64.</summary>
public static class GenerationScores
{
    /// <summary>The Fréchet distance of two normal distributions fitted to features (Heusel et al. 2017, arXiv:1706.08500): |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½).</summary>
    /// <param name="real">[images, features], two images or more</param>
    /// <param name="fake">[images, features]</param>
    /// <exception cref="PanoptesException">Too few images, or features of different lengths.</exception>
    public static double Frechet(Tensor real, Tensor fake)
    {
        Check(real, fake);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var ((mean, covariance), (otherMean, otherCovariance)) = (Moments(real), Moments(fake));
        // tr (Σ₁Σ₂)^½ is tr (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric and has no imaginary part to drop.
        var root = Root(covariance);
        var shared = linalg.eigvalsh(root.matmul(otherCovariance).matmul(root)).clamp_min(0).sqrt().sum();
        return ((mean - otherMean).square().sum() + covariance.trace() + otherCovariance.trace() - (2 * shared)).item<double>();
    }

    /// <summary>The kernel distance (Bińkowski et al. 2018, arXiv:1801.01401): the unbiased squared maximum mean discrepancy with the kernel (a·b / d + 1)³, over all images at once.</summary>
    /// <inheritdoc cref="Frechet" path="/param"/>
    /// <inheritdoc cref="Frechet" path="/exception"/>
    public static double Kernel(Tensor real, Tensor fake)
    {
        Check(real, fake);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (x, y) = (real.to(ScalarType.Float64), fake.to(ScalarType.Float64));
        return (Within(x) + Within(y) - (2 * Of(x, y).mean())).item<double>();

        static Tensor Of(Tensor a, Tensor b) => (a.matmul(b.t()) / a.shape[1] + 1).pow(3);

        static Tensor Within(Tensor a)
        {
            var k = Of(a, a);
            return (k.sum() - k.trace()) / (a.shape[0] * (a.shape[0] - 1));
        }
    }

    /// <summary>e to the mean divergence of each image's classes from those of all (Salimans et al. 2016, arXiv:1606.03498); 1 to the number of classes.</summary>
    /// <param name="probabilities">[images, classes], each row adding up to 1</param>
    public static double Inception(Tensor probabilities)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var p = probabilities.to(ScalarType.Float64);
        var all = p.mean([0L], keepdim: true);
        return (p.xlogy(p) - p.xlogy(all.expand_as(p))).sum(1).mean().exp().item<double>();
    }

    /// <summary>CLIPScore without its weight of 2.5 (Hessel et al. 2021, arXiv:2104.08718): 100 times the cosine of each image with its text, at least 0.</summary>
    /// <param name="images">[pairs, embedding]</param>
    /// <param name="texts">[pairs, embedding]</param>
    /// <returns>[pairs] float64, owned by the caller</returns>
    public static Tensor Clip(Tensor images, Tensor texts)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return (nn.functional.cosine_similarity(images.to(ScalarType.Float64), texts.to(ScalarType.Float64), -1, 1e-12).clamp_min(0) * 100).MoveToOuterDisposeScope();
    }

    /// <summary>The mean of features, [features], and their covariance, [features, features], over one fewer than there are images.</summary>
    public static (Tensor Mean, Tensor Covariance) Moments(Tensor features)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var x = features.to(ScalarType.Float64);
        var mean = x.mean([0L]);
        var centered = x - mean;
        return (mean.MoveToOuterDisposeScope(), (centered.t().matmul(centered) / (x.shape[0] - 1)).MoveToOuterDisposeScope());
    }

    /// <summary>The symmetric square root of a covariance.</summary>
    static Tensor Root(Tensor covariance)
    {
        var (values, vectors) = linalg.eigh(covariance);
        return (vectors * values.clamp_min(0).sqrt()).matmul(vectors.t());
    }

    static void Check(Tensor real, Tensor fake)
    {
        if (real.dim() != 2 || fake.dim() != 2 || real.shape[1] != fake.shape[1] || real.shape[0] < 2 || fake.shape[0] < 2)
            throw new PanoptesException($"Features of the shapes [{string.Join(", ", real.shape)}] and [{string.Join(", ", fake.shape)}] were given; expected two images or more each, and as many features.");
    }
}
