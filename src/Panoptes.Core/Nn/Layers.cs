namespace Panoptes.Nn;

/// <summary>y = x Wᵀ + b over the last dimension. Keys: weight [out, in], bias [out].</summary>
public sealed class Linear(long inFeatures, long outFeatures, bool bias = true, Initializer? initializer = null, Initializer? biasInitializer = null) : Module
{
    public Parameter Weight { get; } = new([outFeatures, inFeatures], initializer ?? Init.Uniform(1 / Math.Sqrt(inFeatures)));

    public Parameter? Bias { get; } = bias ? new([outFeatures], biasInitializer ?? Init.Zeros) : null;

    /// <param name="x">[..., in]</param>
    /// <returns>[..., out]</returns>
    public Tensor Forward(Tensor x) => nn.functional.linear(x, Weight, Bias?.Value);
}

/// <summary>Normalizes the last dimension to mean 0 and variance 1, then scales and shifts. Keys: weight, bias.</summary>
public sealed class LayerNorm(long features, double eps = 1e-5) : Module
{
    public Parameter Weight { get; } = new([features], Init.Ones);

    public Parameter Bias { get; } = new([features], Init.Zeros);

    public Tensor Forward(Tensor x) => nn.functional.layer_norm(x, [features], Weight.Value, Bias.Value, eps);
}

/// <summary>Rows of a table by index. Key: weight [count, features].</summary>
public sealed class Embedding(long count, long features, Initializer? initializer = null) : Module
{
    public Parameter Weight { get; } = new([count, features], initializer ?? Init.Normal(1));

    /// <param name="indices">int64, any shape.</param>
    /// <returns>[..., features]</returns>
    public Tensor Forward(Tensor indices) => Native.Dispatcher.IsAvailable
        ? Native.Dispatcher.Call("aten::embedding").Tensor(Weight).Tensor(indices).Int(-1).Bool(false).Bool(false).InvokeTensor()
        : Weight.Value.index_select(0, indices.flatten()).view([.. indices.shape, features]);
}
