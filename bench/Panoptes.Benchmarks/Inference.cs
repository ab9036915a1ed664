using Panoptes.Nn;

namespace Panoptes.Benchmarks;

/// <summary>One call of a model without gradients; the model is the run's.</summary>
sealed class Inference(IDisposable model, Action step) : IRun
{
    /// <summary>A model with random weights, laid out for inference.</summary>
    public static T Ready<T>(T model, ScalarType dtype) where T : Module
    {
        using var generator = new Generator(0);
        foreach (var parameter in model.Parameters()) parameter.Initialize(generator, dtype);
        model.Pack();
        return model;
    }

    public void Step()
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        step();
    }

    public void Dispose() => model.Dispose();
}
