using Panoptes.Native;

namespace Panoptes.Training;

/// <summary>Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101), as torch.optim.AdamW: one fused call a group.</summary>
/// <param name="groups">What is trained.</param>
/// <param name="beta1">The share of the old running mean of gradients that a step keeps.</param>
/// <param name="beta2">The same of the running mean of their squares.</param>
/// <param name="eps">Added to the root of the squares.</param>
/// <param name="amsgrad">Divides by the largest running mean of squares so far (Reddi et al. 2018, arXiv:1904.09237).</param>
public sealed class AdamW(IReadOnlyList<ParameterGroup> groups, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, bool amsgrad = false) : Optimizer(groups)
{
    protected internal override IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter) => amsgrad
        ? [.. Moments(parameter), ("max_exp_avg_sq", zeros_like(parameter.Value))]
        : Moments(parameter);

    protected override void Step(IReadOnlyList<OptimizedParameter> parameters) => Step(parameters, beta1, beta2, eps, amsgrad);

    internal static IEnumerable<(string Name, Tensor Value)> Moments(OptimizedParameter parameter) =>
        [("exp_avg", zeros_like(parameter.Value)), ("exp_avg_sq", zeros_like(parameter.Value)), ("step", zeros([], ScalarType.Float32))];

    internal static void Step(IEnumerable<OptimizedParameter> parameters, double beta1, double beta2, double eps, bool amsgrad = false)
    {
        foreach (var group in parameters.GroupBy(static p => (p.LearningRate, p.WeightDecay)))
        {
            var (values, gradients, steps) = (new List<Tensor>(), new List<Tensor>(), new List<Tensor>());
            var (means, squares, largest) = (new List<Tensor>(), new List<Tensor>(), new List<Tensor>());
            foreach (var p in group)
            {
                values.Add(p.Value);
                gradients.Add(p.Gradient);
                means.Add(p["exp_avg"]);
                squares.Add(p["exp_avg_sq"]);
                if (amsgrad) largest.Add(p["max_exp_avg_sq"]);
                steps.Add(p["step"].add_(1));
            }
            TorchOps.AdamW(values, gradients, means, squares, steps, group.Key.LearningRate, beta1, beta2, group.Key.WeightDecay, eps, amsgrad ? largest : null);
        }
    }
}
