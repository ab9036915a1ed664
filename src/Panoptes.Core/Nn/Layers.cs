using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>y = x Wᵀ + b over the last dimension. Keys: weight [out, in], bias [out].</summary>
public sealed class Linear(long inFeatures, long outFeatures, bool bias = true, Initializer? initializer = null, Initializer? biasInitializer = null) : Module
{
    public Parameter Weight { get; } = new([outFeatures, inFeatures], initializer ?? Init.Uniform(1 / Math.Sqrt(inFeatures)));

    public Parameter? Bias { get; } = bias ? new([outFeatures], biasInitializer ?? Init.Zeros) : null;

    public int OutFeatures => (int)outFeatures;

    /// <summary>What is learned beside the weight; null where there is nothing.</summary>
    internal LowRank? Change { get; set; }

    /// <param name="x">[..., in]</param>
    /// <returns>[..., out]</returns>
    public Tensor Forward(Tensor x) => Forward(x, null);

    /// <summary>Followed by an activation, which a packed weight computes along with the product.</summary>
    public Tensor Forward(Tensor x, Activation? activation)
    {
        if (Change is null && Weight.Packed is { } packed && !is_grad_enabled()) return TorchOps.PackedLinear(x, packed, Bias?.Value, activation);
        var y = TorchOps.Linear(x, Weight, Bias?.Value);
        if (Change is { } change) y = change.Add(x, y);
        if (activation is not { } f) return y;
        using (y) return f.Apply(y);
    }

    protected override long OnPack() => Weight.Pack();
}

/// <summary>Normalizes the last dimension to mean 0 and variance 1, then scales and shifts. Keys: weight, bias.</summary>
public sealed class LayerNorm(long features, double eps = 1e-5) : Module
{
    public Parameter Weight { get; } = new([features], Init.Ones);

    public Parameter Bias { get; } = new([features], Init.Zeros);

    public Tensor Forward(Tensor x) => nn.functional.layer_norm(x, [features], Weight.Value, Bias.Value, eps);
}

/// <summary>Divides the last dimension by its root mean square, then scales (Zhang and Sennrich 2019, arXiv:1910.07467). Key: weight, where there is one.</summary>
/// <param name="affine">Whether there is a weight.</param>
public sealed class RmsNorm(long features, double eps = 1e-6, bool affine = true) : Module
{
    public Parameter? Weight { get; } = affine ? new([features], Init.Ones) : null;

    public Tensor Forward(Tensor x) => TorchOps.RmsNorm(x, features, Weight?.Value, eps);
}

/// <summary>Normalizes groups of channels over all places of a map, then scales and shifts each channel. Keys: weight, bias.</summary>
public sealed class GroupNorm : Module
{
    readonly int groups;
    readonly double eps;

    /// <exception cref="PanoptesException">The channels cannot be divided among the groups.</exception>
    public GroupNorm(int groups, int channels, double eps = 1e-5)
    {
        if (groups < 1 || channels % groups != 0) throw new PanoptesException($"{channels} channels were to be normalized in {groups} groups; expected a number of groups that divides them.");
        (this.groups, this.eps, Weight, Bias) = (groups, eps, new([channels], Init.Ones), new([channels], Init.Zeros));
    }

    public Parameter Weight { get; }

    public Parameter Bias { get; }

    /// <param name="x">[b, channels, ...]</param>
    /// <param name="activation">What follows; null: nothing.</param>
    public Tensor Forward(Tensor x, Activation? activation = null)
    {
        if (activation is not { } f) return nn.functional.group_norm(x, groups, Weight.Value, Bias.Value, eps);
        using var scope = NewDisposeScope();
        var y = nn.functional.group_norm(x, groups, Weight.Value, Bias.Value, eps);
        return (f == Activation.Silu && !is_grad_enabled() ? nn.functional.silu(y, inplace: true) : f.Apply(y)).MoveToOuterDisposeScope();
    }
}

/// <summary>Rows of a table by index. Key: weight [count, features].</summary>
public sealed class Embedding(long count, long features, Initializer? initializer = null) : Module
{
    public Parameter Weight { get; } = new([count, features], initializer ?? Init.Normal(1));

    /// <param name="indices">int64, any shape.</param>
    /// <returns>[..., features]</returns>
    public Tensor Forward(Tensor indices) => TorchOps.Embedding(Weight, indices);
}
