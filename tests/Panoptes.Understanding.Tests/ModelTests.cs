using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Understanding.Tests;

/// <summary>
/// What every registered model must do; a new one is tested by being in <see cref="PromptableModels.All"/> and having a tiny config in a class that has a static property
/// <c>Tiny</c> of dictionaries from architectures (one file a family: <c>Tiny/SamTiny.cs</c>).
/// </summary>
public sealed class ModelTests : IDisposable
{
    static readonly Dictionary<string, TinyModel> Tiny = typeof(ModelTests).Assembly.GetTypes().Select(static t => t.GetProperty("Tiny", typeof(Dictionary<string, TinyModel>)))
        .OfType<System.Reflection.PropertyInfo>().SelectMany(static p => (Dictionary<string, TinyModel>)p.GetValue(null)!).ToDictionary(static p => p.Key, static p => p.Value);

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-models-").FullName;

    public static TheoryData<string> Architectures => [.. PromptableModels.All.Select(static e => e.Architecture)];

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory, MemberData(nameof(Architectures))]
    public void A_model_trained_from_scratch_gets_a_finite_gradient_in_every_weight(string architecture)
    {
        using var scope = NewDisposeScope();
        using var model = Fresh(architecture);
        var output = Run(architecture, model);
        (output * randn(output.shape, generator: new Generator(5))).sum().backward();
        var without = model.NamedParameters().Where(p => p.Parameter.Trainable && !Tiny[architecture].Unused(p.Key) && !(p.Parameter.Grad is { } g && g.isfinite().all().item<bool>())).Select(static p => p.Key).ToArray();
        Assert.Empty(without);
    }

    [Theory, MemberData(nameof(Architectures))]
    public void A_saved_model_loads_back_with_the_same_outputs(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh(architecture);
        PromptableModels.Save(folder, model);
        using var loaded = PromptableModels.Load(folder);
        Assert.Equal(model.GetType(), loaded.GetType());
        Assert.Equal(model.NamedParameters().Select(static p => p.Key), loaded.NamedParameters().Select(static p => p.Key));
        Assert.Equal(Run(architecture, model).data<float>().ToArray(), Run(architecture, loaded).data<float>().ToArray());
    }

    [Theory, MemberData(nameof(Architectures))]
    public void A_model_keeps_no_tensor_and_leaves_none_in_the_callers_scope(string architecture)
    {
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            using var model = Fresh(architecture);
            Run(architecture, model);
        }
    }

    static Tensor Run(string architecture, Module model) => Tiny.TryGetValue(architecture, out var tiny) ? tiny.Run(model) : throw new InvalidOperationException($"{architecture} has no tiny model.");

    static Module Fresh(string architecture)
    {
        var entry = PromptableModels.All.Single(e => e.Architecture == architecture);
        var model = entry.Build(new(Tiny.TryGetValue(architecture, out var tiny) ? tiny.Config : throw new InvalidOperationException($"{architecture} has no tiny model."), architecture, static _ => null));
        model.Initialize(new Generator(7));
        return model;
    }
}
