using Panoptes.Native;

namespace Panoptes.Training;

/// <summary>Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101), as torch.optim.AdamW: one fused call a group.</summary>
public sealed class AdamW(IReadOnlyList<ParameterGroup> groups, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8) : Optimizer(groups)
{
    protected override IReadOnlyList<string> StateNames { get; } = ["exp_avg", "exp_avg_sq", "step"];

    protected override Tensor NewState(string name, Tensor parameter) => name == "step" ? zeros([], ScalarType.Float32) : base.NewState(name, parameter);

    protected override void Step(StepBatch batch, double learningRate, double weightDecay)
    {
        foreach (var step in batch.States[2]) step.add_(1);
        TorchOps.AdamW(batch.Parameters, batch.Gradients, batch.States[0], batch.States[1], batch.States[2], learningRate, beta1, beta2, weightDecay, eps);
    }
}
