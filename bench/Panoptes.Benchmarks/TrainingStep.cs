using Panoptes.Native;
using Panoptes.Nn;

namespace Panoptes.Benchmarks;

/// <summary>One step of training: a loss, its gradients and AdamW over all weights, as the peer's benchmark does it.</summary>
abstract class TrainingStep<T> : IRun where T : Module
{
    readonly ScalarType dtype;
    readonly List<Tensor> values, means, squares, steps;

    protected TrainingStep(T model, ScalarType dtype, bool checkpointed = false)
    {
        (Model, this.dtype) = (model, dtype);
        using var generator = new Generator(0);
        model.Initialize(generator);
        model.Train();
        model.CheckpointActivations(checkpointed);
        if (checkpointed) NativeMemoryPolicy.ReturnFreedMemory();
        values = [.. model.Parameters().Where(static p => p.Trainable).Select(static p => p.Value)];
        means = [.. values.Select(static p => zeros_like(p, requires_grad: false))];
        squares = [.. values.Select(static p => zeros_like(p, requires_grad: false))];
        steps = [.. values.Select(static p => zeros(1))];
    }

    protected T Model { get; }

    protected abstract Tensor Loss();

    public void Step()
    {
        using var scope = NewDisposeScope();
        Tensor loss;
        using (Autocast.To(dtype)) loss = Loss();
        loss.backward();
        using var noGrad = no_grad();
        foreach (var s in steps) s.add_(1);
        TorchOps.AdamW(values, [.. values.Select(v => v.grad!)], means, squares, steps, 1e-4, 0.9, 0.999, 0.01, 1e-8);
        foreach (var v in values) v.grad = null;
        NativeMemoryPolicy.GiveBackExcess();
    }

    public void Dispose() => Model.Dispose();
}
