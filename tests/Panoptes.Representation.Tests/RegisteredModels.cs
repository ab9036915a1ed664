using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Tests;

/// <summary>The models of a registry, as <see cref="RegisteredModels{T}"/> tests them.</summary>
public interface IRegisteredModels
{
    static abstract IReadOnlyList<ModelEntry> All { get; }

    /// <summary>A tiny model of an architecture with random weights, always the same.</summary>
    static abstract Module Fresh(string architecture);

    /// <summary>What it computes from inputs that are always the same: a row a sample.</summary>
    static abstract Tensor Output(string architecture, Module model);

    /// <summary>A scalar that all of its weights change, as in training.</summary>
    static abstract Tensor Loss(string architecture, Module model);

    /// <summary>Whether <see cref="Loss"/> leaves a trained weight alone.</summary>
    static virtual bool IsUnused(string architecture, string key) => false;

    static abstract void Save(string folder, Module model);

    static abstract Module Load(string folder);
}

/// <summary>What every registered model must do, whatever it is for.</summary>
public abstract class RegisteredModels<T> : IDisposable where T : IRegisteredModels
{
    protected string Folder { get; } = Directory.CreateTempSubdirectory("panoptes-models-").FullName;

#pragma warning disable CA1000                                                        // xunit looks for what tests are given in the class that declares them
    public static TheoryData<string> Architectures => [.. T.All.Select(static e => e.Architecture)];
#pragma warning restore CA1000

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    [Theory, MemberData(nameof(Architectures))]
    public void A_model_trained_from_scratch_gets_a_finite_gradient_in_every_weight(string architecture)
    {
        using var scope = NewDisposeScope();
        using var model = T.Fresh(architecture);
        T.Loss(architecture, model).backward();
        var without = model.NamedParameters().Where(p => p.Parameter.Trainable && !T.IsUnused(architecture, p.Key) && !(p.Parameter.Grad is { } g && g.isfinite().all().item<bool>())).Select(static p => p.Key).ToArray();
        Assert.Empty(without);
    }

    [Theory, MemberData(nameof(Architectures))]
    public void Checkpointed_activations_change_no_gradient(string architecture)
    {
        using var scope = NewDisposeScope();
        using var model = T.Fresh(architecture);
        var (plain, checkpointed) = (Gradients(false), Gradients(true));
        Assert.Equal(plain.Keys, checkpointed.Keys);
        // What is zero but for rounding (a key's bias) is as exact as the largest.
        var largest = plain.Values.Max(static g => g.abs().max().item<float>());
        foreach (var (key, gradient) in plain)
        {
            var (difference, size) = ((gradient - checkpointed[key]).abs().max().item<float>(), gradient.abs().max().item<float>());
            Assert.True(difference <= (5e-5 * size) + (2e-6 * largest), $"{key}: {difference} of {size}, the largest {largest}");
        }
        Once();                                                                      // what was handed back last is let go of by the next
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var inner = NewDisposeScope();
            Gradients(true);
            foreach (var parameter in model.Parameters()) parameter.Value.grad = null;
        }

        Dictionary<string, Tensor> Gradients(bool on)
        {
            model.CheckpointActivations(on);
            foreach (var parameter in model.Parameters()) parameter.Value.grad = null;
            manual_seed(3);
            T.Loss(architecture, model).backward();
            return model.NamedParameters().Where(static p => p.Parameter.Grad is not null).ToDictionary(static p => p.Key, static p => p.Parameter.Grad!.clone());
        }
    }

    [Theory, MemberData(nameof(Architectures))]
    public void A_saved_model_loads_back_with_the_same_outputs(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = T.Fresh(architecture);
        T.Save(Folder, model);
        using var loaded = T.Load(Folder);
        Assert.Equal(model.GetType(), loaded.GetType());
        Assert.Equal(model.NamedParameters().Select(static p => p.Key), loaded.NamedParameters().Select(static p => p.Key));
        Assert.Equal(T.Output(architecture, model).data<float>().ToArray(), T.Output(architecture, loaded).data<float>().ToArray());
    }

    [Theory, MemberData(nameof(Architectures))]
    public void A_model_keeps_no_tensor(string architecture)
    {
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var scope = NewDisposeScope();
            using var model = T.Fresh(architecture);
            T.Save(Folder, model);
            using var loaded = T.Load(Folder);
            T.Loss(architecture, loaded).backward();
            loaded.Train(false);
            using var noGrad = no_grad();
            T.Output(architecture, loaded);
        }
    }
}
