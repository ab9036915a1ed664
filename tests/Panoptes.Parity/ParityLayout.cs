using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Parity;

/// <summary>Every key, shape and type of a public full-size checkpoint, with its config.</summary>
public sealed class ParityLayout
{
    ParityLayout(string path, JsonElement json)
    {
        File = path;
        Name = json.GetProperty("name").GetString()!;
        Architecture = json.GetProperty("architecture").GetString()!;
        Peer = json.TryGetProperty("peer", out var peer) ? peer.GetString() ?? "" : "";
        Config = json.TryGetProperty("config", out var config) ? config : default;
        Keys = json.GetProperty("keys").EnumerateObject().ToDictionary(
            static k => k.Name, static k => (k.Value[0].GetString()!, k.Value[1].EnumerateArray().Select(static d => d.GetInt64()).ToArray()), StringComparer.Ordinal);
    }

    public string File { get; }

    public string Name { get; }

    /// <summary>The peer's class.</summary>
    public string Architecture { get; }

    public string Peer { get; }

    /// <summary>The checkpoint's config.json (or the peer's constructor arguments).</summary>
    public JsonElement Config { get; }

    public IReadOnlyDictionary<string, (string DType, long[] Shape)> Keys { get; }

    /// <summary>The layout in <paramref name="path"/>, or null where that file is something else.</summary>
    public static ParityLayout? TryLoad(string path)
    {
        try
        {
            using var document = JsonDocument.Parse(System.IO.File.ReadAllBytes(path));
            var root = document.RootElement;
            return root.ValueKind == JsonValueKind.Object && root.TryGetProperty("keys", out var keys) && keys.ValueKind == JsonValueKind.Object
                && root.TryGetProperty("architecture", out _) ? new(path, root.Clone()) : null;
        }
        catch (Exception e) when (e is JsonException or IOException)
        {
            return null;
        }
    }

    /// <summary>Compares the keys and shapes of the model that an adapter builds with the checkpoint's.</summary>
    internal CaseResult Compare(ILayoutAdapter adapter)
    {
        using var model = adapter.Build(this);
        var ours = new Dictionary<string, long[]>(StringComparer.Ordinal);
        foreach (var (key, shape) in adapter.Keys(model, this)) ours[key] = shape;
        // A tied weight may be in the file under one of its keys only.
        var tied = model.NamedParameters().GroupBy(static p => p.Parameter).Where(static g => g.Count() > 1)
            .SelectMany(g => g.Any(p => Keys.ContainsKey(p.Key)) ? g.Select(static p => p.Key) : []).ToHashSet(StringComparer.Ordinal);
        var missing = Keys.Keys.Where(k => !ours.ContainsKey(k) && !ModelFolder.IsIgnored(k) && !adapter.Ignores(k)).Select(static k => $"missing {k}");
        var extra = ours.Keys.Where(k => !Keys.ContainsKey(k) && !tied.Contains(k)).Select(static k => $"extra {k}");
        var wrong = ours.Where(p => Keys.TryGetValue(p.Key, out var theirs) && !theirs.Shape.AsSpan().SequenceEqual(p.Value))
            .Select(p => $"{p.Key} is [{string.Join(", ", p.Value)}], expected [{string.Join(", ", Keys[p.Key].Shape)}]");
        string[] faults = [.. missing, .. extra, .. wrong];
        return new("layouts", Name, faults.Length == 0 ? CaseStatus.Pass : CaseStatus.Fail, faults.Length, 0, faults);
    }
}
