namespace Panoptes.Training;

/// <summary>How <see cref="Muon"/> makes up for the shape of a matrix.</summary>
public enum MuonScale
{
    /// <summary>√max(1, rows / columns), as in the first publication (Jordan 2024).</summary>
    Original,

    /// <summary>0.2 √max(rows, columns): steps as large as AdamW's, so that its rate and decay serve (Liu et al. 2025, arXiv:2502.16982).</summary>
    MatchAdamW,
}

/// <summary>
/// Momentum whose every step is made nearly orthogonal, for hidden matrices (Jordan 2024), as torch.optim.Muon; and AdamW for all the rest:
/// biases, norms, embeddings, heads onto a vocabulary, and what sees pixels.
/// </summary>
/// <param name="groups">What is trained.</param>
/// <param name="scale">With <see cref="MuonScale.MatchAdamW"/> one rate suits both kinds of parameters.</param>
/// <param name="momentum">The share of the old momentum that a step keeps.</param>
/// <param name="nesterov">Looks ahead along the momentum.</param>
/// <param name="beta1">AdamW's.</param>
/// <param name="beta2">AdamW's.</param>
/// <param name="eps">AdamW's.</param>
/// <param name="precision">What a step is made orthogonal in: bfloat16 as published, or float32 where the processor computes that faster.</param>
public sealed class Muon(IReadOnlyList<ParameterGroup> groups, MuonScale scale = MuonScale.MatchAdamW, double momentum = 0.95, bool nesterov = true,
    double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, ScalarType precision = ScalarType.BFloat16) : Optimizer(groups)
{
    /// <summary>
    /// Whether a parameter is stepped by Muon: a matrix that is neither a table of embeddings nor as long as a vocabulary (whose rare words would get
    /// no step of their own), or the kernels of a convolution that sees no pixels, which count as the matrix [out, in · height · width].
    /// </summary>
    public static bool IsHiddenMatrix(string key, ReadOnlySpan<long> shape) =>
        ((shape.Length == 2 && Math.Max(shape[0], shape[1]) < VocabularyLength * Math.Min(shape[0], shape[1])) || (shape.Length == 4 && shape[1] > 4)) && !Tables.Any(name => key.Contains(name, StringComparison.OrdinalIgnoreCase));

    /// <summary>What tables of embeddings are called.</summary>
    static readonly string[] Tables = ["embedding", "embed_tokens", "image_positions", "prompt_positions"];

    /// <summary>A matrix so many times as long as wide has a row or a column a word.</summary>
    const int VocabularyLength = 32;

    protected internal override IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter) =>
        IsHidden(parameter) ? [("momentum_buffer", zeros_like(parameter.Value))] : AdamW.Moments(parameter);

    protected override void Step(IReadOnlyList<OptimizedParameter> parameters)
    {
        AdamW.Step(parameters.Where(static p => !IsHidden(p)), beta1, beta2, eps);
        foreach (var p in parameters.Where(IsHidden))
        {
            using var scope = NewDisposeScope();
            var buffer = p["momentum_buffer"].lerp_(p.Gradient, 1 - momentum);
            var update = Orthogonal((nesterov ? p.Gradient.lerp(buffer, momentum) : buffer).flatten(1), precision).view_as(p.Value);
            var (rows, columns) = (p.Value.shape[0], p.Value.numel() / p.Value.shape[0]);
            var factor = scale == MuonScale.Original ? Math.Sqrt(Math.Max(1, (double)rows / columns)) : 0.2 * Math.Sqrt(Math.Max(rows, columns));
            p.Value.mul_(1 - p.LearningRate * p.WeightDecay).add_(update, alpha: -p.LearningRate * factor);
        }
    }

    static bool IsHidden(OptimizedParameter p) => IsHiddenMatrix(p.Key, p.Parameter.Shape);

    /// <summary>
    /// U S Vᵀ of a matrix U Σ Vᵀ with all of S near 1, by five Newton-Schulz iterations. The coefficients are the
    /// publication's: steepest at zero, rather than convergent.
    /// </summary>
    static Tensor Orthogonal(Tensor matrix, ScalarType precision)
    {
        const double a = 3.4445, b = -4.7750, c = 2.0315;
        var tall = matrix.shape[0] > matrix.shape[1];
        var x = matrix.to(precision);
        if (tall) x = x.t();
        x = x / x.norm().clamp_min(1e-7);                                            // [short, long], the spectral norm at most 1
        for (var i = 0; i < 5; i++)
        {
            using var scope = NewDisposeScope();
            var gram = x.matmul(x.t());
            var polynomial = addmm(gram, gram, gram, beta: (float)b, alpha: (float)c);
            x = addmm(x, polynomial, x, beta: (float)a, alpha: 1).MoveToOuterDisposeScope();
        }
        return tall ? x.t() : x;
    }
}
