namespace Panoptes.Training;

/// <summary>Gradient descent with momentum, as torch.optim.SGD: the decay is added to the gradient.</summary>
/// <param name="groups">What is trained.</param>
/// <param name="momentum">The share of the last step's direction that is kept; 0: none, and nothing is kept.</param>
/// <param name="nesterov">Looks ahead along the momentum (Nesterov 1983).</param>
public sealed class Sgd(IReadOnlyList<ParameterGroup> groups, double momentum = 0.9, bool nesterov = false) : Optimizer(groups)
{
    protected internal override IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter) =>
        momentum == 0 ? [] : [("momentum_buffer", zeros_like(parameter.Value))];

    protected override void Step(IReadOnlyList<OptimizedParameter> parameters)
    {
        foreach (var p in parameters)
        {
            using var scope = NewDisposeScope();
            var gradient = p.WeightDecay == 0 ? p.Gradient : p.Gradient.add(p.Value, alpha: p.WeightDecay);
            p.Value.add_(momentum == 0 ? gradient : Direction(gradient, p["momentum_buffer"], momentum, nesterov), alpha: -p.LearningRate);
        }
    }

    internal static Tensor Direction(Tensor gradient, Tensor buffer, double momentum, bool nesterov)
    {
        buffer.mul_(momentum).add_(gradient);
        return nesterov ? gradient.add(buffer, alpha: momentum) : buffer;
    }
}
