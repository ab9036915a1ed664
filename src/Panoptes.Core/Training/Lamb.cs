using Panoptes.Native;

namespace Panoptes.Training;

/// <summary>
/// Adam for large batches, each decayed parameter's step being scaled to its own norm (You et al. 2020, arXiv:1904.00962), as timm's Lamb.
/// </summary>
/// <param name="groups">What is trained.</param>
/// <param name="beta1">The share of the old running mean of gradients that a step keeps.</param>
/// <param name="beta2">The same of the running mean of their squares.</param>
/// <param name="eps">Added to the root of the squares.</param>
/// <param name="maxGradientNorm">To which the norm of all gradients together is scaled down within the step; null: never.</param>
public sealed class Lamb(IReadOnlyList<ParameterGroup> groups, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-6, double? maxGradientNorm = 1) : Optimizer(groups)
{
    protected internal override IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter) =>
        [("exp_avg", zeros_like(parameter.Value)), ("exp_avg_sq", zeros_like(parameter.Value))];

    protected override void Step(IReadOnlyList<OptimizedParameter> parameters)
    {
        var excess = maxGradientNorm is { } max ? Math.Max(1, TorchOps.Norm([.. parameters.Select(static p => p.Gradient)]) / max) : 1;
        var (correction1, correction2) = (1 - Math.Pow(beta1, Steps), Math.Sqrt(1 - Math.Pow(beta2, Steps)));
        foreach (var p in parameters)
        {
            using var scope = NewDisposeScope();
            var gradient = excess > 1 ? p.Gradient / excess : p.Gradient;
            p["exp_avg"].lerp_(gradient, 1 - beta1);
            p["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
            var update = (p["exp_avg"] / correction1).div_((p["exp_avg_sq"].sqrt() / correction2).add_(eps));
            var rate = p.LearningRate;
            if (p.WeightDecay != 0)
            {
                update.add_(p.Value, alpha: p.WeightDecay);
                var (norm, step) = (TorchOps.Norm([p.Value]), TorchOps.Norm([update]));
                if (norm > 0 && step > 0) rate *= norm / step;
            }
            p.Value.add_(update, alpha: -rate);
        }
    }
}
