using System.Text.Json;
using System.Text.RegularExpressions;

namespace Panoptes.Checkpoints;

/// <summary>Models from the hub by id, kept in the cache that the Python tools use as well.</summary>
public static class Hub
{
    static readonly string[] Settings = ["*.json", "*.txt", "*.model", "*.jinja", "*.yaml", "*.yml", "README.md", "LICENSE*"];

    static readonly string[] Weights =
    [
        "model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json",
        "*.fp16.safetensors", "*.safetensors",
        "pytorch_model.bin", "pytorch_model.bin.index.json", "open_clip_pytorch_model.bin", "diffusion_pytorch_model.bin", "*.bin", "*.pt", "*.pth",
    ];

    /// <summary>Parts that diffusers' pipelines may name and that make no image.</summary>
    static readonly string[] Beside = ["safety_checker", "feature_extractor"];

    /// <summary>
    /// Brings the cache up to date with the hub (asking it what the revision means now, fetching only what is missing) and returns the
    /// snapshot's folder.
    /// </summary>
    /// <param name="model"><c>OWNER/NAME[@REVISION]</c></param>
    /// <param name="options">null: <see cref="HubOptions.FromEnvironment"/></param>
    /// <exception cref="PanoptesException">The id is malformed, the hub does not have or give it, or what came does not fit its checksum.</exception>
    public static async Task<string> DownloadAsync(string model, HubOptions? options = null, IProgress<HubProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        var id = HubId.Parse(model);
        options ??= HubOptions.FromEnvironment();
        if (options.Offline)
            return FindCached(model, options) ?? throw new PanoptesException($"{id} is not in {options.CacheFolder}, and HF_HUB_OFFLINE forbids to download it.");
        using var client = new HubClient(options);
        return await client.DownloadAsync(id, progress, cancellationToken);
    }

    /// <summary>The snapshot's folder if the cache holds the model with its weights, else null. Asks nobody.</summary>
    public static string? FindCached(string model, HubOptions? options = null) =>
        HubId.TryParse(model) is { } id ? new HubCache((options ?? HubOptions.FromEnvironment()).CacheFolder, id).FindComplete() : null;

    /// <summary>The file that names a pipeline's parts, each of which has a folder of its own.</summary>
    internal const string PipelineFile = "model_index.json";

    /// <summary>The parts that a pipeline's model_index.json names, but for those that make no image.</summary>
    /// <exception cref="JsonException">It is no JSON object.</exception>
    internal static IReadOnlyList<string> PartsOf(ReadOnlySpan<byte> index)
    {
        var reader = new Utf8JsonReader(index);
        using var document = JsonDocument.ParseValue(ref reader);
        if (document.RootElement.ValueKind != JsonValueKind.Object) throw new JsonException("expected an object");
        return [.. document.RootElement.EnumerateObject().Where(static p => p.Value.ValueKind == JsonValueKind.Array && p.Value.GetArrayLength() == 2 && p.Value[1].ValueKind == JsonValueKind.String && !Beside.Contains(p.Name)).Select(static p => p.Name)];
    }

    /// <summary>What of a pipeline's files is wanted: what names its parts, and of each part its settings and one set of weights.</summary>
    internal static IReadOnlyList<string> SelectPipeline(IReadOnlyList<string> names, IReadOnlyList<string> parts) =>
    [
        .. names.Where(static n => n is PipelineFile or "README.md" || Like(n, "LICENSE*") && !n.Contains('/', StringComparison.Ordinal)),
        // A pipeline's first ControlNet or adapter is named, those after it have numbers.
        .. parts.SelectMany(part => part is "controlnet" or "adapter" ? names.Where(n => Like(n, part + "/*") || Like(n, part + "_*/*")).Select(static n => n[..n.IndexOf('/', StringComparison.Ordinal)]).Distinct() : [part]).SelectMany(part => Select([.. names.Where(n => n.StartsWith(part + "/", StringComparison.Ordinal)).Select(n => n[(part.Length + 1)..])], []).Select(n => $"{part}/{n}")),
    ];

    /// <summary>What of a repository's files is wanted: those that <paramref name="patterns"/> name, or settings and one set of weights.</summary>
    internal static IReadOnlyList<string> Select(IReadOnlyList<string> names, IReadOnlyList<string> patterns)
    {
        if (patterns.Count > 0) return [.. names.Where(n => patterns.Any(p => Like(n, p)))];
        string[] top = [.. names.Where(static n => !n.Contains('/', StringComparison.Ordinal))];
        // The index of weights that are not wanted is no setting.
        string[] settings = [.. top.Where(static n => Settings.Any(p => Like(n, p)) && !n.EndsWith(".index.json", StringComparison.Ordinal))];
        foreach (var pattern in Weights)
        {
            string[] found = [.. top.Where(n => Like(n, pattern))];
            if (found.Length == 0) continue;
            if (!pattern.EndsWith(".index.json", StringComparison.Ordinal)) return [.. settings, .. found];
            // model.safetensors.index.json goes with model-00001-of-00003.safetensors, and so on.
            var parts = pattern[..^".index.json".Length];
            var shards = $"{Path.GetFileNameWithoutExtension(parts)}-*-of-*{Path.GetExtension(parts)}";
            return [.. settings, .. top.Where(n => Like(n, shards)), .. found];
        }
        return settings;
    }

    static bool Like(string name, string pattern) =>
        Regex.IsMatch(name, "^" + Regex.Escape(pattern).Replace("\\*", ".*", StringComparison.Ordinal).Replace("\\?", ".", StringComparison.Ordinal) + "$", RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
}
