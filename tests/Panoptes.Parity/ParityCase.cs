using System.Text.Json;
using Panoptes.Checkpoints;

namespace Panoptes.Parity;

/// <summary>One golden case: a folder with case.json (what the peer was asked), the peer's files, its inputs and its outputs.</summary>
public sealed class ParityCase : IDisposable
{
    readonly Dictionary<string, Tensor> inputs, outputs;

    ParityCase(string folder, JsonElement json)
    {
        Folder = folder;
        Name = Text("name");
        Area = Text("area");
        Architecture = Text("architecture");
        Call = Text("call");
        Peer = Text("peer");
        Notes = Text("notes");
        Tolerance = json.GetProperty("tolerance").GetDouble();
        Arguments = json.TryGetProperty("arguments", out var arguments) ? arguments : default;
        inputs = Read("inputs.safetensors");
        outputs = Read("outputs.safetensors");

        string Text(string field) => json.TryGetProperty(field, out var value) ? value.GetString() ?? "" : "";
    }

    /// <summary>The case's own folder.</summary>
    public string Folder { get; }

    public string Name { get; }

    public string Area { get; }

    /// <summary>The peer's class, or what kind of function it is.</summary>
    public string Architecture { get; }

    /// <summary>The peer's method.</summary>
    public string Call { get; }

    /// <summary>The peer library and its version.</summary>
    public string Peer { get; }

    public string Notes { get; }

    /// <summary>Every argument of the call that is no tensor.</summary>
    public JsonElement Arguments { get; }

    /// <summary>The largest |ours - theirs| / max(1, |theirs|) that passes.</summary>
    public double Tolerance { get; }

    public IReadOnlyCollection<string> InputNames => inputs.Keys;

    public IReadOnlyCollection<string> OutputNames => outputs.Keys;

    /// <exception cref="PanoptesException">The folder holds no readable case.</exception>
    public static ParityCase Load(string folder)
    {
        var path = Path.Combine(folder, "case.json");
        try
        {
            using var document = JsonDocument.Parse(System.IO.File.ReadAllBytes(path));
            return new(Path.GetFullPath(folder), document.RootElement.Clone());
        }
        catch (Exception e) when (e is IOException or JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new PanoptesException($"{path} is not a golden case: {e.Message}", e);
        }
    }

    public bool HasInput(string name) => inputs.ContainsKey(name);

    /// <summary>An input of the call; owned by the case.</summary>
    public Tensor Input(string name) => inputs.TryGetValue(name, out var tensor) ? tensor
        : throw new PanoptesException($"{Area}/{Name} has no input {name}; it has {string.Join(", ", inputs.Keys)}.");

    public bool HasOutput(string name) => outputs.ContainsKey(name);

    /// <summary>What the peer computed; owned by the case.</summary>
    public Tensor Output(string name) => outputs.TryGetValue(name, out var tensor) ? tensor
        : throw new PanoptesException($"{Area}/{Name} has no output {name}.");

    /// <summary>The path of one of the case's files; <paramref name="relative"/> may climb to a sibling case.</summary>
    public string File(string relative) => Path.GetFullPath(Path.Combine(Folder, relative));

    public bool HasFile(string relative) => System.IO.File.Exists(File(relative));

    public void Dispose()
    {
        foreach (var tensor in inputs.Values.Concat(outputs.Values)) tensor.Dispose();
    }

    Dictionary<string, Tensor> Read(string file)
    {
        var path = File(file);
        if (!System.IO.File.Exists(path)) return [];
        var tensors = SafeTensors.Load(path);
        foreach (var tensor in tensors.Values) tensor.DetachFromDisposeScope();
        return tensors;
    }
}
