using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Panoptes.Checkpoints;

/// <summary>
/// A checkpoint in several files with an index: <c>{"metadata": {"total_size": bytes}, "weight_map": {key: file name}}</c>, as
/// transformers writes it (model.safetensors.index.json, pytorch_model.bin.index.json).
/// </summary>
public sealed class ShardedWeights : Weights
{
    /// <summary>What transformers puts into one file at most, in bytes.</summary>
    public const long DefaultShardSize = 5_000_000_000;

    const long MaxIndex = 200_000_000;

    readonly Weights[] shards;
    readonly Dictionary<string, Weights> homes;

    ShardedWeights(string source, Weights[] shards, Dictionary<string, Weights> homes)
    {
        (Source, this.shards, this.homes) = (source, shards, homes);
        Keys = [.. homes.Keys];
    }

    public override string Source { get; }

    public override IReadOnlyCollection<string> Keys { get; }

    /// <summary>Opens every shard that the index names; each must be a file beside the index and hold what the index says.</summary>
    /// <exception cref="PanoptesException">The index or a shard is missing or malformed, they disagree, or a shard's name leaves the folder.</exception>
    public static new ShardedWeights Open(string indexPath)
    {
        var map = ReadIndex(indexPath);
        var folder = Path.GetDirectoryName(Path.GetFullPath(indexPath))!;
        var shards = new Dictionary<string, Weights>(StringComparer.Ordinal);
        try
        {
            var homes = new Dictionary<string, Weights>(StringComparer.Ordinal);
            foreach (var file in map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
            {
                var path = Path.Combine(folder, file);
                if (!File.Exists(path)) throw new PanoptesException($"{indexPath} names the shard {file}, which is not beside it.");
                var shard = shards[file] = Weights.Open(path);
                foreach (var key in shard.Keys)
                    if (!map.TryGetValue(key, out var home) || home == file)
                        if (!homes.TryAdd(key, shard)) throw new PanoptesException($"{indexPath}: the shards {Path.GetFileName(homes[key].Source)} and {file} both hold {key}.");
            }
            string[] absent = [.. map.Where(p => !shards[p.Value].Contains(p.Key)).Select(static p => $"{p.Key} ({p.Value})")];
            if (absent.Length > 0) throw new PanoptesException($"{indexPath} promises tensors that their shards lack: {string.Join(", ", absent)}.");
            return new(indexPath, [.. shards.Values], homes);
        }
        catch
        {
            foreach (var shard in shards.Values) shard.Dispose();
            throw;
        }
    }

    public override bool Contains(string key) => homes.ContainsKey(key);

    public override (ScalarType Type, long[] Shape) Info(string key) => Home(key).Info(key);

    public override Tensor Read(string key) => Home(key).Read(key);

    public override string FileOf(string key) => Home(key).Source;

    /// <summary>
    /// Writes <paramref name="tensors"/> into <paramref name="folder"/> as <c>model.safetensors</c>, or, where they take more than
    /// <paramref name="shardSize"/> bytes, as <c>model-00001-of-0000N.safetensors</c> with their index. Weights that an earlier save left
    /// there under other names are removed last.
    /// </summary>
    /// <param name="folder">Made if need be.</param>
    /// <param name="tensors">By key, in the order of the file.</param>
    /// <param name="metadata">Text pairs for the file's header.</param>
    /// <param name="shardSize">The most bytes of one file.</param>
    /// <param name="name">What stands for <c>model</c> in these names (diffusers: <c>diffusion_pytorch_model</c>).</param>
    /// <exception cref="PanoptesException">The files cannot be written, or a tensor's type has no place in the format.</exception>
    public static void Save(string folder, IReadOnlyList<KeyValuePair<string, Tensor>> tensors, IReadOnlyDictionary<string, string>? metadata = null, long shardSize = DefaultShardSize, string name = "model")
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(shardSize);
        var shards = new List<List<KeyValuePair<string, Tensor>>>();
        long total = 0, filled = 0;
        foreach (var pair in tensors)
        {
            var size = pair.Value.numel() * TensorDType.Of(pair.Value.dtype).Bits / 8;
            if (shards.Count == 0 || filled + size > shardSize && filled > 0)
            {
                shards.Add([]);
                filled = 0;
            }
            shards[^1].Add(pair);
            filled += size;
            total += size;
        }
        var written = new HashSet<string>(StringComparer.Ordinal);
        if (shards.Count <= 1)
        {
            SafeTensors.Save(Path.Combine(folder, $"{name}.safetensors"), tensors, metadata);
            written.Add($"{name}.safetensors");
        }
        else
        {
            var map = new SortedDictionary<string, string>(StringComparer.Ordinal);
            for (var i = 0; i < shards.Count; i++)
            {
                var file = string.Create(CultureInfo.InvariantCulture, $"{name}-{i + 1:D5}-of-{shards.Count:D5}.safetensors");
                SafeTensors.Save(Path.Combine(folder, file), shards[i], metadata);
                written.Add(file);
                foreach (var (key, _) in shards[i]) map[key] = file;
            }
            var index = new JsonObject { ["metadata"] = new JsonObject { ["total_size"] = total }, ["weight_map"] = JsonSerializer.SerializeToNode(map) };
            AtomicFile.WriteText(Path.Combine(folder, $"{name}.safetensors.index.json"), index.ToJsonString(Nn.ModelConfig.JsonOptions) + "\n");
            written.Add($"{name}.safetensors.index.json");
        }
        foreach (var old in Directory.EnumerateFiles(folder, $"{name}*.safetensors*").Where(f => IsOurs(Path.GetFileName(f), name) && !written.Contains(Path.GetFileName(f)))) File.Delete(old);
    }

    protected override void Dispose(bool disposing)
    {
        foreach (var shard in shards) shard.Dispose();
        base.Dispose(disposing);
    }

    static bool IsOurs(string file, string name) => file == $"{name}.safetensors" || file == $"{name}.safetensors.index.json"
        || (file.StartsWith(name, StringComparison.Ordinal) && System.Text.RegularExpressions.Regex.IsMatch(file[name.Length..], @"^-\d{5}-of-\d{5}\.safetensors$"));

    Weights Home(string key) => homes.TryGetValue(key, out var shard) ? shard : throw NoSuchKey(key);

    static Dictionary<string, string> ReadIndex(string path)
    {
        var map = new Dictionary<string, string>(StringComparer.Ordinal);
        try
        {
            if (new FileInfo(path).Length > MaxIndex) throw new PanoptesException($"{path} has more than {MaxIndex} bytes, too many for an index of shards.");
            using var document = JsonDocument.Parse(File.ReadAllBytes(path), new() { MaxDepth = 16 });
            if (document.RootElement.ValueKind != JsonValueKind.Object || !document.RootElement.TryGetProperty("weight_map", out var entries) || entries.ValueKind != JsonValueKind.Object)
                throw new PanoptesException($"{path} is no index of shards: expected an object with weight_map.");
            foreach (var entry in entries.EnumerateObject())
            {
                var file = entry.Value.ValueKind == JsonValueKind.String ? entry.Value.GetString()! : throw new PanoptesException($"{path}: the shard of {entry.Name} must be a file name.");
                if (file.Length == 0 || file is "." or ".." || file.AsSpan().IndexOfAny("/\\:\0") >= 0 || file.EndsWith(".json", StringComparison.OrdinalIgnoreCase))
                    throw new PanoptesException($"{path}: the shard {file} of {entry.Name} must be the plain name of a checkpoint file in the same folder.");
                if (!map.TryAdd(entry.Name, file)) throw new PanoptesException($"{path} names {entry.Name} twice.");
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{path} is no index of shards: {e.Message}", e);
        }
        return map;
    }
}
