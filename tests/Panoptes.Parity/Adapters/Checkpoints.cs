using System.Globalization;
using System.Numerics;
using System.Text.Json;
using Panoptes.Checkpoints;

namespace Panoptes.Parity.Adapters;

/// <summary>Files of torch.save, zip and legacy: tensors under dotted names, and the plain values beside them.</summary>
sealed class TorchSaveAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c is { Architecture: "torch.save", Call: "load" };

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var name = c.Arguments.GetProperty("file").GetString()!;
        using var whole = TorchFile.Open(c.File(name));
        CheckValues((PickleDict)whole.Root!, c.Arguments.GetProperty("values"));
        foreach (var (key, tensor) in whole.Flatten(whole.Root)) yield return (key, Exact(c, key, whole.Read(tensor)));

        // The same state dict alone, and one tensor in pickle protocol 4.
        const string prefix = "state_dict.";
        var extension = Path.GetExtension(name);
        using (var bare = Weights.Open(c.File("state_dict" + extension)))
        {
            string[] expected = [.. c.OutputNames.Where(static n => n.StartsWith(prefix, StringComparison.Ordinal)).Select(static n => n[prefix.Length..]).Order(StringComparer.Ordinal)];
            if (!bare.Keys.Order(StringComparer.Ordinal).SequenceEqual(expected)) throw new PanoptesException($"{bare.Source} has other keys than {prefix}*.");
            foreach (var key in bare.Keys) yield return (prefix + key, Exact(c, prefix + key, bare.Read(key)));
        }
        using (var inner = Weights.Open(c.File(name)))
            foreach (var key in inner.Keys) yield return (prefix + key, Exact(c, prefix + key, inner.Read(key)));
        using var fourth = TorchFile.Open(c.File("protocol4" + extension));
        var dict = (PickleDict)fourth.Root!;
        if (dict["n"] is not "é") throw new PanoptesException("protocol 4: the text n differs.");
        yield return ("state_dict.f32", fourth.Read((PickleTensor)dict["w"]!));
    }

    static Tensor Exact(ParityCase c, string name, Tensor ours) => ours.dtype == c.Output(name).dtype ? ours
        : throw new PanoptesException($"{name} has type {ours.dtype}, expected {c.Output(name).dtype}.");

    static void CheckValues(PickleDict root, JsonElement values)
    {
        foreach (var value in values.EnumerateObject())
        {
            object? ours = value.Name switch
            {
                "bytes_hex" => Convert.ToHexStringLower((byte[])root["bytes"]!),
                "param_groups_lr" => ((PickleDict)((PickleList)((PickleDict)root["optimizer"]!)["param_groups"]!).Items[0]!)["lr"],
                _ => root[value.Name],
            };
            if (!Same(ours, value.Value)) throw new PanoptesException($"the value {value.Name} is {ours}, expected {value.Value}.");
        }
    }

    static bool Same(object? ours, JsonElement theirs) => ours switch
    {
        null => theirs.ValueKind == JsonValueKind.Null,
        bool flag => theirs.ValueKind == (flag ? JsonValueKind.True : JsonValueKind.False),
        long number => theirs.GetRawText() == number.ToString(CultureInfo.InvariantCulture),
        BigInteger number => theirs.GetRawText() == number.ToString(CultureInfo.InvariantCulture),
        double number => theirs.GetDouble().Equals(number),
        string text => theirs.GetString() == text,
        PickleList list => SameItems(list.Items, theirs),
        object?[] tuple => SameItems(tuple, theirs),
        _ => false,
    };

    static bool SameItems(IReadOnlyList<object?> ours, JsonElement theirs)
    {
        if (theirs.ValueKind != JsonValueKind.Array || theirs.GetArrayLength() != ours.Count) return false;
        for (var i = 0; i < ours.Count; i++)
            if (!Same(ours[i], theirs[i])) return false;
        return true;
    }
}

/// <summary>Checkpoints whose state dict is to be found: TorchScript archives, trainers' files, tensors of rare types and classes.</summary>
sealed class StateDictAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c is { Area: "checkpoints", Call: "state_dict" };

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var weights = Weights.Open(c.File(c.Arguments.GetProperty("file").GetString()!));
        if (!weights.Keys.ToHashSet(StringComparer.Ordinal).SetEquals(c.OutputNames))
            throw new PanoptesException($"the keys are {string.Join(", ", weights.Keys)}, expected {string.Join(", ", c.OutputNames)}.");
        foreach (var key in weights.Keys)
        {
            var ours = weights.Read(key);
            if (ours.dtype != c.Output(key).dtype) throw new PanoptesException($"{key} has type {ours.dtype}, expected {c.Output(key).dtype}.");
            yield return (key, ours);
        }
    }
}

/// <summary>Hostile and malformed PyTorch files: each must be refused, nothing in it may run, and the control file loads.</summary>
sealed class HostilePickleAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c is { Architecture: "torch.save", Call: "load (refuse)" };

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var manifest = JsonDocument.Parse(File.ReadAllBytes(c.File("manifest.json")));
        var faults = new List<string>();
        foreach (var entry in manifest.RootElement.EnumerateArray())
        {
            var name = entry.GetProperty("file").GetString()!;
            var refused = false;
            try
            {
                ReadAll(c.File("files/" + name));
            }
            catch (PanoptesException)
            {
                refused = true;
            }
            if (!refused && entry.GetProperty("must").GetString() == "refuse") faults.Add($"{name} was loaded ({entry.GetProperty("what").GetString()})");
        }
        if (File.Exists("pwned") || File.Exists(c.File("pwned")) || File.Exists(c.File("files/pwned"))) faults.Add("a file pwned appeared");
        if (faults.Count > 0) throw new PanoptesException(string.Join("; ", faults));
        using var control = TorchFile.Open(c.File("files/control_ok.pt"));
        yield return ("control_ok", control.Read((PickleTensor)control.Root!));
    }

    internal static void ReadAll(string path)
    {
        using var scope = NewDisposeScope();
        using var weights = Weights.Open(path);
        foreach (var key in weights.Keys) weights.Read(key);
        // A file that is one bare tensor, or whose root is no dict, is read as well.
        if (Path.GetExtension(path) is ".pt" or ".pth" or ".pkl")
        {
            using var file = TorchFile.Open(path);
            foreach (var (_, tensor) in file.Flatten(file.Root)) file.Read(tensor);
        }
    }
}

/// <summary>Malformed safetensors files, which must be refused, and unusual ones, which must load.</summary>
sealed class MalformedSafeTensorsAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c is { Architecture: "safetensors", Call: "load (refuse)" };

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var manifest = JsonDocument.Parse(File.ReadAllBytes(c.File("malformed_safetensors/manifest.json")));
        var faults = new List<string>();
        foreach (var entry in manifest.RootElement.GetProperty("refuse").EnumerateArray())
        {
            var name = entry.GetProperty("file").GetString()!;
            try
            {
                SafeTensorsFile.Open(c.File("malformed_safetensors/" + name)).Dispose();
                faults.Add($"{name} was loaded ({entry.GetProperty("what").GetString()})");
            }
            catch (PanoptesException e)
            {
                if (!e.Message.Contains(name, StringComparison.Ordinal)) faults.Add($"{name} was refused without being named: {e.Message}");
            }
        }
        if (faults.Count > 0) throw new PanoptesException(string.Join("; ", faults));
        foreach (var entry in manifest.RootElement.GetProperty("accept").EnumerateArray())
        {
            var name = entry.GetString()!;
            foreach (var (key, tensor) in SafeTensors.Load(c.File("malformed_safetensors/" + name))) yield return ($"{Path.GetFileNameWithoutExtension(name)}/{key}", tensor);
        }
    }
}

/// <summary>Shards with their index against the same tensors in one file, read and written back.</summary>
sealed class ShardedSafeTensorsAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c is { Architecture: "save", Call: "load" } && c.HasFile("model.safetensors.index.json");

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var single = SafeTensorsFile.Open(c.File("single.safetensors"));
        using var sharded = Weights.Open(c.Folder);
        if (!sharded.Keys.Order(StringComparer.Ordinal).SequenceEqual(single.Entries.Keys.Order(StringComparer.Ordinal)))
            throw new PanoptesException("the shards and the single file have different keys.");
        if (single.Entries.Values.Sum(static e => e.Length) != c.Arguments.GetProperty("total_size").GetInt64()) throw new PanoptesException("total_size differs.");
        var folder = Directory.CreateTempSubdirectory("panoptes-shards-").FullName;
        try
        {
            // Writing is byte-compatible: the same file from the same tensors, and the same tensors from shards of our own.
            var tensors = single.Entries.Keys.ToDictionary(static k => k, k => single.Read(k));
            SafeTensors.Save(Path.Combine(folder, "again.safetensors"), tensors, single.Metadata);
            if (!File.ReadAllBytes(Path.Combine(folder, "again.safetensors")).AsSpan().SequenceEqual(File.ReadAllBytes(single.Path)))
                throw new PanoptesException("the single file, written again, has other bytes.");
            var sharding = Path.Combine(folder, "sharded");
            ShardedWeights.Save(sharding, [.. tensors], single.Metadata, shardSize: 200);
            using var again = Weights.Open(sharding);
            foreach (var weights in (Weights[])[sharded, again])
                foreach (var key in weights.Keys)
                {
                    var (output, ours) = key == "f8" ? ("f8_as_f32", weights.Read(key).to(ScalarType.Float32)) : (key, weights.Read(key));
                    if (ours.dtype != c.Output(output).dtype) throw new PanoptesException($"{key} has type {ours.dtype}.");
                    yield return (output, ours);
                }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
