using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>
/// What a condition makes of a normalized layer (adaLN; Peebles and Xie 2022, arXiv:2212.09748): shifts, scales and gates, one a channel. At the start they are all zero, so that a gated
/// block changes nothing. Key: linear.
/// </summary>
/// <param name="width">Of the layer.</param>
/// <param name="parts">How many shifts, scales and gates together.</param>
/// <param name="condition">The width of the condition; null: the layer's.</param>
/// <param name="bias">Whether the projection has a bias.</param>
public sealed class Modulation(int width, int parts, int? condition = null, bool bias = true) : Module
{
    public Linear Linear { get; } = new(condition ?? width, (long)parts * width, bias, Init.Zeros);

    /// <param name="active">[b, condition] after its activation, which all layers of a model have in common</param>
    /// <returns>So many parts, [b, 1, width] each.</returns>
    internal Tensor[] Forward(Tensor active) => Linear.Forward(active).unsqueeze(1).chunk(parts, -1);
}

/// <summary>The arithmetic of adaptive norms, each in one pass over the tokens.</summary>
static class Adaptive
{
    /// <summary>The last dimension with mean 0 and variance 1, without weights.</summary>
    internal static Tensor Normalize(Tensor x, double eps = 1e-6) => nn.functional.layer_norm(x, [x.shape[^1]], null, null, eps);

    /// <summary>normalized · (1 + scale) + shift</summary>
    internal static Tensor Modulate(Tensor normalized, Tensor shift, Tensor scale) => shift.addcmul(normalized, scale + 1, 1);

    /// <summary>x + gate · change</summary>
    internal static Tensor Add(Tensor x, Tensor gate, Tensor change) => x.addcmul(gate, change, 1);
}
