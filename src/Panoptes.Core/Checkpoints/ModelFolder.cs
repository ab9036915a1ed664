using System.Text;
using System.Text.Json.Nodes;
using Panoptes.Nn;

namespace Panoptes.Checkpoints;

/// <summary>A model as it lies on disk: config.json beside its weights, as the Python peers read and write it.</summary>
public static class ModelFolder
{
    /// <summary>
    /// The folder or file that <paramref name="model"/> means: an existing one, or the snapshot of the hub id <c>OWNER/NAME[@REVISION]</c>
    /// in the local cache, downloaded if it is not there yet (<see cref="Hub.DownloadAsync"/> brings it up to date).
    /// </summary>
    /// <param name="cancel">Stops the download.</param>
    /// <exception cref="PanoptesException">It is none of these, or the download failed.</exception>
    public static string Resolve(string model, CancellationToken cancel = default) => ResolveAsync(model, null, cancel).GetAwaiter().GetResult();

    /// <inheritdoc cref="Resolve"/>
    /// <param name="progress">Told of the download.</param>
    public static async Task<string> ResolveAsync(string model, IProgress<HubProgress>? progress = null, CancellationToken cancel = default)
    {
        if (Directory.Exists(model) || File.Exists(model)) return Path.GetFullPath(model);
        if (HubId.TryParse(model) is null) throw new PanoptesException($"{model} is neither a folder, nor a file, nor a hub id (OWNER/NAME or OWNER/NAME@REVISION).");
        var options = HubOptions.FromEnvironment();
        if (Hub.FindCached(model, options) is { } cached) return cached;
        try
        {
            return await Hub.DownloadAsync(model, options, progress, cancel).ConfigureAwait(false);
        }
        catch (PanoptesException e)
        {
            throw new PanoptesException($"{model} is neither a folder nor a file, and as a hub id: {e.Message}", e);
        }
    }

    /// <summary>Where the files beside a model's weights are: a folder itself, or that of a file.</summary>
    public static string FolderOf(string model) => Directory.Exists(model) ? model : Path.GetDirectoryName(Path.GetFullPath(model))!;

    /// <summary>Reads the config record in <paramref name="model"/>'s config.json (a folder, or a file whose folder is meant).</summary>
    /// <exception cref="PanoptesException">It is missing or malformed.</exception>
    public static T ReadConfig<T>(string model, string name = "config.json") where T : ModelConfig
    {
        var path = Path.Combine(FolderOf(model), name);
        return ModelConfig.Parse<T>(ReadText(path), path);
    }

    /// <summary>The text of a small file that a model brings along.</summary>
    /// <exception cref="PanoptesException">It is missing, cannot be read, or has more than 64 MiB.</exception>
    public static string ReadText(string path)
    {
        try
        {
            var file = new FileInfo(path);
            if (!file.Exists) throw new PanoptesException(Directory.Exists(path) ? $"{path} is a folder; expected a file." : $"{path} does not exist.");
            if (file.Length > 64 << 20) throw new PanoptesException($"{path} has {file.Length} bytes, too many for a settings file.");
            return File.ReadAllText(path, Encoding.UTF8);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{path} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>
    /// Gives every parameter of <paramref name="module"/> its tensor from <paramref name="weights"/>, each assigned once in the wanted type
    /// (as a view of the mapped file where that is the stored type). A tied parameter may be in the file under any of its keys.
    /// </summary>
    /// <exception cref="PanoptesException">Keys or shapes differ; one message lists them all, and nothing was assigned.</exception>
    public static void Load(Module module, Weights weights, LoadOptions? options = null)
    {
        options ??= new();
        var sources = Match(module, weights, options);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        // Small convolutions would warn that NNPACK knows no such processor, which is so nearly everywhere.
        Native.LibTorch.SilenceErrorLog();
        foreach (var (parameter, key) in sources)
        {
            options.Cancel.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            var tensor = weights.Read(key);
            if (options.Dtype is { } dtype && IsFloatingPoint(tensor.dtype) && tensor.dtype != dtype) tensor = tensor.to(dtype);
            if (options.Device is { } device && (device.type != tensor.device_type || device.index != tensor.device_index)) tensor = tensor.to(device);
            parameter.Assign(tensor);
        }
        module.Train(module.Training);                                               // whatever was packed from earlier weights is dropped
    }

    /// <summary>Opens the weights of <paramref name="model"/> (a folder, a file or a hub id) and loads them.</summary>
    /// <exception cref="PanoptesException">There are none, or they do not fit; see <see cref="Load(Module, Weights, LoadOptions?)"/>.</exception>
    public static void Load(Module module, string model, LoadOptions? options = null)
    {
        using var weights = Weights.Open(Resolve(model, options?.Cancel ?? default));
        Load(module, weights, options);
    }

    /// <summary>
    /// Writes config.json and the weights into <paramref name="folder"/> so that the Python peer reads them. A tied weight is written once,
    /// under its first key; a <c>dtype</c> or <c>torch_dtype</c> field of the config follows the stored type.
    /// </summary>
    /// <exception cref="PanoptesException">The files cannot be written.</exception>
    public static void Save(string folder, Module module, ModelConfig config, SaveOptions? options = null)
    {
        options ??= new();
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var tensors = new List<KeyValuePair<string, Tensor>>();
        foreach (var (key, parameter) in module.DistinctParameters())
        {
            var tensor = parameter.Value;
            tensors.Add(new(key, options.Dtype is { } dtype && IsFloatingPoint(tensor.dtype) && tensor.dtype != dtype ? tensor.detach().to(dtype) : tensor));
        }
        var metadata = new Dictionary<string, string>(options.Metadata ?? new Dictionary<string, string>()) { ["format"] = "pt" };
        ShardedWeights.Save(folder, tensors, metadata, options.ShardSize, config.WeightsName);
        AtomicFile.WriteText(Path.Combine(folder, "config.json"), ConfigText(config, tensors));
    }

    /// <summary>Whether a key of a checkpoint is derived state that models compute themselves, so that files may or may not have it.</summary>
    public static bool IsIgnored(string key) =>
        key.EndsWith("position_ids", StringComparison.Ordinal)
        || key.EndsWith("relative_position_index", StringComparison.Ordinal)
        || key.EndsWith("num_batches_tracked", StringComparison.Ordinal)
        || key.Contains(".swin.layernorm.", StringComparison.Ordinal);           // a backbone's last norm, which nothing uses

    static List<(Parameter Parameter, string Key)> Match(Module module, Weights weights, LoadOptions options)
    {
        var faults = new List<string>();
        var byModelKey = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var key in weights.Keys)
        {
            if (!key.StartsWith(options.Prefix, StringComparison.Ordinal)) continue;
            var stripped = key[options.Prefix.Length..];
            var mapped = options.Mapping is { } mapping ? mapping(stripped) : stripped;
            if (mapped is null) continue;
            if (!byModelKey.TryAdd(mapped, key)) faults.Add($"{mapped} is in the file twice, as {byModelKey[mapped]} and {key}");
        }
        var sources = new List<(Parameter, string)>();
        var used = new HashSet<string>(StringComparer.Ordinal);
        foreach (var group in module.NamedParameters().GroupBy(static p => p.Parameter, static p => p.Key, ReferenceEqualityComparer.Instance))
        {
            var parameter = (Parameter)group.Key!;
            string[] names = [.. group];
            var found = Array.Find(names, byModelKey.ContainsKey);
            used.UnionWith(names);
            if (found is null)
            {
                if (!(options.Optional is { } optional && names.Any(optional)))
                    faults.Add($"missing: {string.Join(" or ", names)} [{string.Join(", ", parameter.Shape)}]");
                continue;
            }
            var (_, shape) = weights.Info(byModelKey[found]);
            if (shape.AsSpan().SequenceEqual(parameter.Shape)) sources.Add((parameter, byModelKey[found]));
            else faults.Add($"wrong shape: {byModelKey[found]} is [{string.Join(", ", shape)}], expected [{string.Join(", ", parameter.Shape)}]{Shard(weights, byModelKey[found])}");
        }
        foreach (var (mapped, key) in byModelKey)
            if (!used.Contains(mapped) && !IsIgnored(mapped) && options.Ignored?.Invoke(key[options.Prefix.Length..]) != true)
                faults.Add($"unexpected: {key}{Shard(weights, key)}");
        if (faults.Count == 0) return sources;
        throw new PanoptesException($"{weights.Source} does not fit the model ({faults.Count} of its keys or shapes differ):", faults);
    }

    static string Shard(Weights weights, string key) => weights.FileOf(key) is var file && file != weights.Source ? $" ({Path.GetFileName(file)})" : "";

    // Above 22 are the 8-bit floats that TorchSharp does not name, 27 to 29 the unsigned integers.
    static bool IsFloatingPoint(ScalarType type) => type is ScalarType.Float16 or ScalarType.Float32 or ScalarType.Float64 or ScalarType.BFloat16
        || (int)type is >= 23 and <= 26 or 44;

    static string ConfigText(ModelConfig config, List<KeyValuePair<string, Tensor>> tensors)
    {
        var json = JsonNode.Parse(config.ToJson())!.AsObject();
        ScalarType[] types = [.. tensors.Select(static t => t.Value.dtype).Where(IsFloatingPoint).Distinct()];
        if (types is [var type])
            foreach (var field in (ReadOnlySpan<string>)["dtype", "torch_dtype"])
                if (json.ContainsKey(field)) json[field] = type.ToString().ToLowerInvariant();
        return json.ToJsonString(ModelConfig.JsonOptions) + "\n";
    }
}
