using System.Text.Json;
using Panoptes.Nn;

namespace Panoptes.Checkpoints;

/// <summary>What is known of a checkpoint before its weights are read.</summary>
/// <param name="Config">Its config.json or open_clip_config.json; empty where it has none.</param>
/// <param name="Path">The file that says so, for errors.</param>
/// <param name="Shape">The shape of a key, or null where there is no such key.</param>
public sealed record ModelSource(string Config, string Path, Func<string, long[]?> Shape)
{
    /// <summary>The whole config.</summary>
    public T Read<T>() where T : ModelConfig => ModelConfig.Parse<T>(Config, Path);

    /// <summary>A tower's own config: the whole file, or its part of a whole model's.</summary>
    public T Read<T>(string section) where T : ModelConfig
    {
        using var json = JsonDocument.Parse(Config);
        return json.RootElement.TryGetProperty(section, out var part) && part.ValueKind == JsonValueKind.Object
            ? ModelConfig.Parse<T>(part.GetRawText(), $"{Path}, {section}")
            : Read<T>();
    }

    /// <summary>How many rows the weight of a key has; null where there is no such key.</summary>
    public int? Rows(string key) => Shape(key) is [_, ..] and var shape ? (int)shape[0] : null;
}

/// <summary>One architecture that can be built, loaded and saved.</summary>
/// <param name="Architecture">The peer's class, as config.json names it.</param>
/// <param name="ModelType">config.json's model_type, which decides where it names no class.</param>
/// <param name="Type">Our class.</param>
/// <param name="Build">Builds it without weights.</param>
/// <param name="Config">The config to save with it.</param>
public sealed record ModelEntry(string Architecture, string? ModelType, Type Type, Func<ModelSource, Module> Build, Func<Module, ModelConfig> Config)
{
    /// <summary>What a larger model's file puts before this one's keys, so that it loads out of that file ("vit."); null where there is no such file.</summary>
    public string? Prefix { get; init; }
}

/// <summary>The models of a library by their architectures: what loads, saves, reports and tests goes by this list.</summary>
public sealed class ModelRegistry(IReadOnlyList<ModelEntry> entries)
{
    public IReadOnlyList<ModelEntry> Entries => entries;

    /// <summary>The names of the configs that may lie beside weights, the first that is there decides.</summary>
    public Func<Weights, IReadOnlyList<string>> Configs { get; init; } = static _ => ["config.json"];

    /// <summary>The model that goes by its keys or another config than config.json; null where config.json decides. The type is the wanted one, or null.</summary>
    public Func<ModelSource, Weights, Type?, ModelEntry?>? Recognize { get; init; }

    /// <summary>How the weights of a file of other names are read into a model.</summary>
    public Func<Module, Weights, LoadOptions, LoadOptions>? Adjust { get; init; }

    /// <summary>The entry of <typeparamref name="T"/>.</summary>
    public ModelEntry Of<T>() where T : Module => entries.First(static e => e.Type == typeof(T));

    /// <summary>Loads a model as the architecture that its own files name, or as <paramref name="type"/>, which may be a part out of a larger model's file.</summary>
    /// <param name="model">A folder, a file or a hub id.</param>
    /// <exception cref="PanoptesException">Nothing there, no such architecture, or weights that do not fit it.</exception>
    public Module Load(string model, Type? type = null, LoadOptions? options = null)
    {
        var path = ModelFolder.Resolve(model);
        using var weights = Weights.Open(path);
        var source = Source(path, weights);
        var entry = Recognize?.Invoke(source, weights, type) ?? Find(source, weights, type);
        if (entry.Prefix is { } prefix && weights.Keys.Any(k => k.StartsWith(prefix, StringComparison.Ordinal)))
        {
            var whole = source.Shape;
            source = source with { Shape = key => whole(prefix + key) };
            options = (options ?? new()) with { Prefix = prefix };
        }
        Module module;
        try
        {
            module = entry.Build(source);
        }
        catch (PanoptesException e) when (!e.Message.StartsWith(source.Path, StringComparison.Ordinal))
        {
            throw new PanoptesException($"{source.Path}: {e.Message}", e);
        }
        try
        {
            ModelFolder.Load(module, weights, Adjust?.Invoke(module, weights, options ?? new()) ?? options);
            return module;
        }
        catch
        {
            module.Dispose();
            throw;
        }
    }

    /// <summary>The config that is saved with a model.</summary>
    /// <exception cref="PanoptesException">The model is none of <see cref="Entries"/>.</exception>
    public ModelConfig ConfigOf(Module module) =>
        (entries.FirstOrDefault(e => e.Type == module.GetType()) ?? throw new PanoptesException($"{module.GetType().Name} is no model that can be saved.")).Config(module);

    /// <summary>Whether config.json at or above <paramref name="model"/> names an architecture of this list; false where there is none.</summary>
    public bool Knows(string model) => TypeOf(model) is not null;

    /// <summary>The class of the model at <paramref name="model"/>; null where it is none of this list.</summary>
    public Type? TypeOf(string model)
    {
        var path = ModelFolder.Resolve(model);
        using var weights = Weights.Open(path);
        var source = Source(path, weights);
        try
        {
            return (Recognize?.Invoke(source, weights, null) ?? (source.Config.Length > 0 ? Match(source) : null))?.Type;
        }
        catch (PanoptesException)
        {
            return null;
        }
    }

    /// <summary>The config beside (or above) the weights at <paramref name="path"/>.</summary>
    ModelSource Source(string path, Weights weights)
    {
        var folder = ModelFolder.FolderOf(path);
        foreach (var name in Configs(weights))
            if (File.Exists(Path.Combine(folder, name)))
                return new(ModelFolder.ReadText(Path.Combine(folder, name)), Path.Combine(folder, name), Shape);
        return new("", weights.Source, Shape);

        long[]? Shape(string key) => weights.Contains(key) ? weights.Info(key).Shape : null;
    }

    ModelEntry Find(ModelSource source, Weights weights, Type? type)
    {
        if (source.Config.Length == 0) throw new PanoptesException($"{weights.Source} has no config.json beside it, and its keys are not those of a model that needs none.");
        if (type is not null) return entries.First(e => e.Type == type);
        return Match(source) ?? throw new PanoptesException($"{source.Path}: the architecture {Name(source) ?? "(none)"} is not one of {string.Join(", ", entries.Select(static e => e.Architecture))}.");
    }

    ModelEntry? Match(ModelSource source)
    {
        var (architecture, modelType) = Names(source);
        return entries.FirstOrDefault(e => e.Architecture == architecture) ?? entries.FirstOrDefault(e => e.ModelType is not null && e.ModelType == modelType);
    }

    static string? Name(ModelSource source) => Names(source) is var (architecture, modelType) ? architecture ?? modelType : null;

    static (string? Architecture, string? ModelType) Names(ModelSource source)
    {
        try
        {
            using var json = JsonDocument.Parse(source.Config);
            string? architecture = null;
            if (json.RootElement.TryGetProperty("architectures", out var list) && list.ValueKind == JsonValueKind.Array && list.GetArrayLength() > 0) architecture = list[0].GetString();
            if (architecture is null && json.RootElement.TryGetProperty("_class_name", out var diffusers)) architecture = diffusers.GetString();
            // timm's own config.json names the model and no class.
            if (architecture is null && json.RootElement.TryGetProperty("architecture", out var timm) && timm.GetString()?.StartsWith("eva", StringComparison.Ordinal) == true) architecture = "Eva";
            return (architecture, json.RootElement.TryGetProperty("model_type", out var value) ? value.GetString() : null);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new PanoptesException($"{source.Path}: expected a JSON object with \"architectures\" or \"model_type\".", e);
        }
    }
}
