namespace Panoptes.Evaluation;

/// <summary>
/// How much of what is generated looks real, and how much of what is real is generated (Kynkäänniemi et al. 2019, arXiv:1904.06991): images are points of a feature space, and around each is a ball that reaches to its
/// k-th nearest neighbor of the same set; what lies in any ball of a set belongs to it.
/// </summary>
/// <param name="Precision">The share of generated images that lie among the real ones: fidelity.</param>
/// <param name="Recall">The share of real images that lie among the generated ones: diversity.</param>
public sealed record ManifoldScores(double Precision, double Recall)
{
    /// <summary>Distances that are held at once.</summary>
    const long Most = 1 << 24;

    /// <summary>Compares two sets, in float64 and bounded memory.</summary>
    /// <param name="real">[images, features]</param>
    /// <param name="fake">[images, features]; the paper takes as many as there are real ones</param>
    /// <param name="neighbors">k; the paper's is 3.</param>
    /// <exception cref="PanoptesException">No neighbor is asked for, there are no more images than neighbors, or features differ in length.</exception>
    public static ManifoldScores Of(Tensor real, Tensor fake, int neighbors = 3)
    {
        if (neighbors < 1) throw new PanoptesException($"{neighbors} neighbors were asked for; expected 1 or more.");
        if (real.dim() != 2 || fake.dim() != 2 || real.shape[1] != fake.shape[1] || real.shape[0] <= neighbors || fake.shape[0] <= neighbors)
            throw new PanoptesException($"Features of the shapes [{string.Join(", ", real.shape)}] and [{string.Join(", ", fake.shape)}] were given; expected more than {neighbors} images each, and as many features.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (x, y) = (real.to(ScalarType.Float64), fake.to(ScalarType.Float64));
        return new(Within(y, x, Radii(x, neighbors)), Within(x, y, Radii(y, neighbors)));
    }

    /// <summary>How far the k-th neighbor of each point is, the point itself not counted: [points].</summary>
    static Tensor Radii(Tensor points, int neighbors) => OfDistances(points, points, distances => distances.kthvalue(neighbors + 1, 1).values);

    /// <summary>The share of points that lie in any ball.</summary>
    static double Within(Tensor points, Tensor centers, Tensor radii) => OfDistances(points, centers, distances => distances.le(radii).any(1)).to(ScalarType.Float64).mean().item<double>();

    /// <summary>What is made of the distances of points to all centers, some points at a time: [points].</summary>
    static Tensor OfDistances(Tensor points, Tensor centers, Func<Tensor, Tensor> of)
    {
        using var scope = NewDisposeScope();
        var parts = new List<Tensor>();
        foreach (var part in points.split(Math.Max(1, Most / centers.shape[0])))
        {
            using var inner = NewDisposeScope();
            parts.Add(of(cdist(part, centers, 2, compute_mode.donot_use_mm_for_euclid_dist)).MoveToOuterDisposeScope());
        }
        return cat(parts).MoveToOuterDisposeScope();
    }
}
