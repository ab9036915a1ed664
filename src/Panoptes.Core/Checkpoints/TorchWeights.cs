namespace Panoptes.Checkpoints;

/// <summary>
/// The state dict of a PyTorch file. Where the file holds more than that (a trainer's checkpoint), it is the dict under
/// <c>state_dict</c>, <c>model_state_dict</c>, <c>model</c> and the like; the <c>module.</c> that data-parallel training puts before every key is removed.
/// </summary>
sealed class TorchWeights : Weights
{
    static readonly string[] Wrappers = ["state_dict", "model_state_dict", "model", "module", "net", "network", "weights"];

    readonly TorchFile file;
    readonly Dictionary<string, PickleTensor> tensors;

    TorchWeights(TorchFile file, Dictionary<string, PickleTensor> tensors)
    {
        (this.file, this.tensors) = (file, tensors);
        Keys = [.. tensors.Keys];
    }

    public override string Source => file.Path;

    public override IReadOnlyCollection<string> Keys { get; }

    /// <exception cref="PanoptesException">The file is missing, malformed or refused, or holds no tensors.</exception>
    public static new TorchWeights Open(string path)
    {
        var file = TorchFile.Open(path);
        try
        {
            const string parallel = "module.";
            var flat = file.Flatten(StateDict(file.Root, 0));
            if (flat.Count == 0) throw new PanoptesException($"{path} holds no tensors.");
            var strip = flat.All(static p => p.Key.StartsWith(parallel, StringComparison.Ordinal)) ? parallel.Length : 0;
            var tensors = new Dictionary<string, PickleTensor>(StringComparer.Ordinal);
            foreach (var (key, tensor) in flat) tensors[key[strip..]] = tensor;
            return new(file, tensors);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public override bool Contains(string key) => tensors.ContainsKey(key);

    public override (ScalarType Type, long[] Shape) Info(string key)
    {
        var tensor = Find(key);
        return (tensor.Type, tensor.Shape);
    }

    public override Tensor Read(string key) => file.Read(Find(key));

    protected override void Dispose(bool disposing)
    {
        if (disposing) file.Dispose();
        base.Dispose(disposing);
    }

    PickleTensor Find(string key) => tensors.TryGetValue(key, out var tensor) ? tensor : throw NoSuchKey(key);

    static object? StateDict(object? value, int depth)
    {
        if (value is not PickleDict dict || depth > 4 || dict.Items.Any(static p => p.Value is PickleTensor)) return value;
        foreach (var name in Wrappers)
            if (dict[name] is PickleDict { Mutable: not null } inner) return StateDict(inner, depth + 1);
        return value;
    }
}
