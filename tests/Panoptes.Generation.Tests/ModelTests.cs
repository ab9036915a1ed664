using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Generation.Tests;

/// <summary>
/// What every registered model must do; a new one is tested by being in <see cref="GenerationModels.All"/> and having a tiny config in a class that has a static property
/// <c>Tiny</c> of dictionaries from architectures (one file a family: <c>Tiny/UnetTiny.cs</c>).
/// </summary>
public sealed class ModelTests : RegisteredModels<ModelTests>, IRegisteredModels
{
    static readonly Dictionary<string, TinyModel> Tiny = typeof(ModelTests).Assembly.GetTypes().Select(static t => t.GetProperty("Tiny", typeof(Dictionary<string, TinyModel>)))
        .OfType<System.Reflection.PropertyInfo>().SelectMany(static p => (Dictionary<string, TinyModel>)p.GetValue(null)!).ToDictionary(static p => p.Key, static p => p.Value);

    static IReadOnlyList<ModelEntry> IRegisteredModels.All => GenerationModels.All;

    static Tensor IRegisteredModels.Output(string architecture, Module model) => Of(architecture).Run(model);

    static Tensor IRegisteredModels.Loss(string architecture, Module model)
    {
        var output = Of(architecture).Run(model);
        return (output * randn(output.shape, generator: new Generator(5))).sum();
    }

    static bool IRegisteredModels.IsUnused(string architecture, string key) => Of(architecture).Unused(key);

    static void IRegisteredModels.Save(string folder, Module model) => GenerationModels.Save(folder, model);

    static Module IRegisteredModels.Load(string folder) => GenerationModels.Load(folder);

    static Module IRegisteredModels.Fresh(string architecture)
    {
        var model = GenerationModels.All.Single(e => e.Architecture == architecture).Build(new(Of(architecture).Config, architecture, static _ => null));
        model.Initialize(new Generator(7));
        return model;
    }

    static TinyModel Of(string architecture) => Tiny.TryGetValue(architecture, out var tiny) ? tiny : throw new InvalidOperationException($"{architecture} has no tiny model.");
}
