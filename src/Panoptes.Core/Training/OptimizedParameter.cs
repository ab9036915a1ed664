using Panoptes.Nn;

namespace Panoptes.Training;

/// <summary>One parameter in the hands of an optimizer: what its step goes by, and the tensors that the optimizer keeps for it.</summary>
public sealed class OptimizedParameter : IDisposable
{
    Dictionary<string, Tensor>? state;

    internal OptimizedParameter(string key, Parameter parameter, ParameterGroup group) => (Key, Parameter, Group) = (key, parameter, group);

    /// <summary>The key in the model.</summary>
    public string Key { get; }

    /// <summary>The weights, which a step changes in place.</summary>
    public Tensor Value => Parameter.Value;

    /// <summary>The gradient, of the value's shape and layout; a step leaves it as it is.</summary>
    public Tensor Gradient { get; private set; } = null!;

    /// <summary>The rate of this step.</summary>
    public double LearningRate { get; private set; }

    /// <summary>The decay of its group, as the optimizer defines it.</summary>
    public double WeightDecay => Group.WeightDecay;

    /// <summary>A tensor that the optimizer keeps, by the name that it gave it.</summary>
    public Tensor this[string name] => state![name];

    internal Parameter Parameter { get; }

    internal ParameterGroup Group { get; }

    internal IReadOnlyDictionary<string, Tensor>? State => state;

    /// <summary>Makes ready for a step; false where there is nothing to go by (frozen, or no gradient). Called in the step's dispose scope.</summary>
    internal bool Begin(double learningRate, Optimizer optimizer)
    {
        if (!Parameter.RequiresGrad || Parameter.Grad is not { } gradient) return false;
        Gradient = gradient;
        LearningRate = learningRate * Group.LearningRateScale;
        if (state is null) Keep(optimizer.NewState(this));
        return true;
    }

    /// <summary>Puts <paramref name="tensors"/> in the place of what was kept; null keeps nothing.</summary>
    internal void Keep(IEnumerable<(string Name, Tensor Value)>? tensors)
    {
        Dispose();
        state = tensors?.ToDictionary(static t => t.Name, static t => t.Value.DetachFromDisposeScope(), StringComparer.Ordinal);
    }

    public void Dispose()
    {
        foreach (var tensor in state?.Values ?? Enumerable.Empty<Tensor>()) tensor.Dispose();
        state = null;
    }
}
