using Panoptes.Native;

namespace Panoptes.Training;

/// <summary>
/// Gradient descent for large batches, each decayed parameter's gradient being scaled to its own norm (You et al. 2017, arXiv:1708.03888),
/// as timm's Lars.
/// </summary>
/// <param name="groups">What is trained.</param>
/// <param name="momentum">The share of the last step's direction that is kept.</param>
/// <param name="nesterov">Looks ahead along the momentum.</param>
/// <param name="trust">The norm of a gradient as a share of its parameter's.</param>
/// <param name="eps">Added to the norm of the gradient.</param>
public sealed class Lars(IReadOnlyList<ParameterGroup> groups, double momentum = 0.9, bool nesterov = false, double trust = 1e-3, double eps = 1e-8) : Optimizer(groups)
{
    protected internal override IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter) => [("momentum_buffer", zeros_like(parameter.Value))];

    protected override void Step(IReadOnlyList<OptimizedParameter> parameters)
    {
        foreach (var p in parameters)
        {
            using var scope = NewDisposeScope();
            var gradient = p.Gradient;
            if (p.WeightDecay != 0)
            {
                var (norm, slope) = (TorchOps.Norm([p.Value]), TorchOps.Norm([gradient]));
                gradient = gradient.add(p.Value, alpha: p.WeightDecay);
                if (norm > 0 && slope > 0) gradient.mul_(trust * norm / (slope + norm * p.WeightDecay + eps));
            }
            p.Value.add_(Sgd.Direction(gradient, p["momentum_buffer"], momentum, nesterov), alpha: -p.LearningRate);
        }
    }
}
