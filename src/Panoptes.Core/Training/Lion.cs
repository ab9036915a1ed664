namespace Panoptes.Training;

/// <summary>
/// Steps of one size in the direction of each momentum's sign, with decoupled weight decay (Chen et al. 2023, arXiv:2302.06675), as
/// timm's Lion. It wants a rate some 3 to 10 times smaller than AdamW's, and a decay as much larger.
/// </summary>
/// <param name="groups">What is trained.</param>
/// <param name="beta1">The share of the momentum in the direction of a step; the rest is the gradient's.</param>
/// <param name="beta2">The share of the old momentum that a step keeps.</param>
public sealed class Lion(IReadOnlyList<ParameterGroup> groups, double beta1 = 0.9, double beta2 = 0.99) : Optimizer(groups)
{
    protected internal override IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter) => [("exp_avg", zeros_like(parameter.Value))];

    protected override void Step(IReadOnlyList<OptimizedParameter> parameters)
    {
        foreach (var p in parameters)
        {
            using var scope = NewDisposeScope();
            var direction = p["exp_avg"].lerp(p.Gradient, 1 - beta1).sign_();
            p.Value.mul_(1 - p.LearningRate * p.WeightDecay).add_(direction, alpha: -p.LearningRate);
            p["exp_avg"].lerp_(p.Gradient, 1 - beta2);
        }
    }
}
