namespace Panoptes.Checkpoints;

/// <summary>
/// The tensors of a checkpoint by key, whatever its format: a safetensors file, shards with their index, PyTorch's zip and legacy
/// files, or a folder that holds one of these. Nothing is copied before it is read.
/// </summary>
public abstract class Weights : IDisposable
{
    /// <summary>The files that a model's folder keeps its weights in, the first that is there counts.</summary>
    static readonly string[] KnownNames =
    [
        "model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
        "pytorch_model.bin", "pytorch_model.bin.index.json", "open_clip_pytorch_model.bin",
        "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.bin",
    ];

    /// <summary>Where a safetensors file's metadata names, from its own folder, another checkpoint that has what it has not itself.</summary>
    public const string BaseKey = "panoptes_base";

    /// <summary>The metadata of such a file that names the keys of the other checkpoint, with spaces between them, which this one does not have.</summary>
    public const string WithoutKey = "panoptes_without";

    static readonly string[] KnownExtensions = [".safetensors", ".pt", ".pth", ".bin", ".ckpt"];

    /// <summary>The file (or index) that was opened.</summary>
    public abstract string Source { get; }

    /// <summary>Every tensor's key.</summary>
    public abstract IReadOnlyCollection<string> Keys { get; }

    public abstract bool Contains(string key);

    /// <summary>Type and shape, without reading the tensor.</summary>
    /// <exception cref="PanoptesException">There is no such tensor, or libtorch has no such type.</exception>
    public abstract (ScalarType Type, long[] Shape) Info(string key);

    /// <summary>The tensor, owned by the caller; it stays valid after this is disposed. It may share memory with the other reads of this checkpoint.</summary>
    /// <exception cref="PanoptesException">There is no such tensor, or libtorch has no such type.</exception>
    public abstract Tensor Read(string key);

    /// <summary>The file that holds <paramref name="key"/>: <see cref="Source"/>, or a shard.</summary>
    public virtual string FileOf(string key) => Source;

    /// <summary>Opens a checkpoint file by its content, or the weights in a folder by their usual names.</summary>
    /// <exception cref="PanoptesException">There is nothing at <paramref name="path"/>, or it is no checkpoint that can be read.</exception>
    public static Weights Open(string path)
    {
        if (Directory.Exists(path)) return Open(FindIn(path));
        if (!File.Exists(path)) throw new PanoptesException($"{path} does not exist; expected a checkpoint file or a folder with one.");
        if (path.EndsWith(".json", StringComparison.OrdinalIgnoreCase)) return ShardedWeights.Open(path);
        return Sniff(path) switch
        {
            Format.TorchZip or Format.TorchLegacy => TorchWeights.Open(path),
            Format.Tar => throw new PanoptesException($"{path} is a tar archive, the format of PyTorch before 0.1.10; save it again with a newer PyTorch."),
            _ => LayeredWeights.Open(SafeTensorsFile.Open(path)),
        };
    }

    /// <summary>Tensors in memory as weights; they stay the caller's.</summary>
    /// <param name="source">How errors name where they are from.</param>
    public static Weights From(IReadOnlyDictionary<string, Tensor> tensors, string source) => new MemoryWeights(tensors, source);

    /// <summary>Whether a folder holds checkpoint files.</summary>
    public static bool IsIn(string folder) =>
        Array.Exists(KnownNames, n => File.Exists(Path.Combine(folder, n))) || Directory.EnumerateFiles(folder).Any(static f => KnownExtensions.Contains(Path.GetExtension(f), StringComparer.OrdinalIgnoreCase));

    /// <summary>The weights file of a model's folder.</summary>
    /// <exception cref="PanoptesException">The folder has none, or several of which none has a usual name.</exception>
    public static string FindIn(string folder)
    {
        foreach (var name in KnownNames)
            if (File.Exists(Path.Combine(folder, name))) return Path.Combine(folder, name);
        string[] others = [.. Directory.EnumerateFiles(folder).Where(static f => KnownExtensions.Contains(Path.GetExtension(f), StringComparer.OrdinalIgnoreCase)).Order(StringComparer.Ordinal)];
        return others switch
        {
            [var only] => only,
            [] => throw new PanoptesException($"{folder} holds no weights; expected model.safetensors, model.safetensors.index.json, pytorch_model.bin or another checkpoint file."),
            _ => throw new PanoptesException($"{folder} holds several checkpoint files ({string.Join(", ", others.Select(Path.GetFileName))}) and none is named model.safetensors; name the file itself."),
        };
    }

    protected PanoptesException NoSuchKey(string key) => new($"{Source} has no tensor {key}.");

    protected virtual void Dispose(bool disposing) { }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    enum Format
    {
        SafeTensors,
        TorchZip,
        TorchLegacy,
        Tar,
    }

    static Format Sniff(string path)
    {
        Span<byte> start = stackalloc byte[512];
        int length;
        try
        {
            using var stream = File.OpenRead(path);
            length = stream.ReadAtLeast(start, start.Length, throwOnEndOfStream: false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{path} cannot be read: {e.Message}", e);
        }
        start = start[..length];
        if (path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase)) return Format.SafeTensors;
        if (start.StartsWith("PK\u0003\u0004"u8)) return Format.TorchZip;
        if (length > 262 && start[257..262].SequenceEqual("ustar"u8)) return Format.Tar;
        if (length > 1 && start[0] == 0x80 && start[1] is >= 2 and <= 5) return Format.TorchLegacy;
        // A safetensors header starts with '{' after its length; what else is left must be a pickle of protocol 0 or 1, if anything.
        return length > 8 && start[8] == '{' ? Format.SafeTensors : Format.TorchLegacy;
    }
}

/// <summary>One safetensors file.</summary>
sealed class SafeTensorsWeights(SafeTensorsFile file) : Weights
{
    public override string Source => file.Path;

    public override IReadOnlyCollection<string> Keys { get; } = [.. file.Entries.Keys];

    public override bool Contains(string key) => file.Entries.ContainsKey(key);

    public override (ScalarType Type, long[] Shape) Info(string key)
    {
        if (!file.Entries.TryGetValue(key, out var entry)) throw NoSuchKey(key);
        return (entry.ScalarType ?? throw new PanoptesException($"{Source}: tensor {key} has type {entry.DType}, which libtorch cannot hold."), entry.Shape);
    }

    public override Tensor Read(string key) => file.Read(key);

    protected override void Dispose(bool disposing)
    {
        if (disposing) file.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>
/// A safetensors file that holds only what another checkpoint has not, or has otherwise: its metadata names that one (<see cref="Weights.BaseKey"/>). So a model that was made of another by adding layers takes the
/// space of these alone.
/// </summary>
sealed class LayeredWeights(Weights own, Weights below, IReadOnlySet<string> without) : Weights
{
    /// <summary>How many files may lie on each other.</summary>
    const int MostLayers = 8;

    [ThreadStatic] static int layers;

    /// <summary>The file as it is, or over what its metadata names.</summary>
    /// <exception cref="PanoptesException">That is not there, or lies on too much else.</exception>
    public static Weights Open(SafeTensorsFile file)
    {
        var own = new SafeTensorsWeights(file);
        if (!file.Metadata.TryGetValue(BaseKey, out var named)) return own;
        layers++;
        try
        {
            var path = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Path.GetFullPath(file.Path))!, named));
            if (Path.IsPathRooted(named) || !Path.Exists(path)) throw new PanoptesException($"{file.Path} holds what it has more than {named}, which is not there; expected that checkpoint at {path}.");
            if (layers > MostLayers) throw new PanoptesException($"{file.Path} lies on more than {MostLayers} other checkpoints, or on itself.");
            return new LayeredWeights(own, Open(path), (file.Metadata.GetValueOrDefault(WithoutKey) ?? "").Split(' ', StringSplitOptions.RemoveEmptyEntries).ToHashSet(StringComparer.Ordinal));
        }
        catch
        {
            own.Dispose();
            throw;
        }
        finally
        {
            layers--;
        }
    }

    public override string Source => own.Source;

    public override IReadOnlyCollection<string> Keys { get; } = [.. below.Keys.Where(key => !without.Contains(key)).Union(own.Keys)];

    public override bool Contains(string key) => own.Contains(key) || IsBelow(key);

    public override (ScalarType Type, long[] Shape) Info(string key) => Of(key).Info(key);

    public override Tensor Read(string key) => Of(key).Read(key);

    public override string FileOf(string key) => Of(key).FileOf(key);

    bool IsBelow(string key) => !without.Contains(key) && below.Contains(key);

    Weights Of(string key) => own.Contains(key) || !IsBelow(key) ? own : below;

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            own.Dispose();
            below.Dispose();
        }
        base.Dispose(disposing);
    }
}

/// <summary>Tensors that are in memory already.</summary>
sealed class MemoryWeights(IReadOnlyDictionary<string, Tensor> tensors, string source) : Weights
{
    public override string Source => source;

    public override IReadOnlyCollection<string> Keys { get; } = [.. tensors.Keys];

    public override bool Contains(string key) => tensors.ContainsKey(key);

    public override (ScalarType Type, long[] Shape) Info(string key) => tensors.TryGetValue(key, out var tensor) ? (tensor.dtype, tensor.shape) : throw NoSuchKey(key);

    public override Tensor Read(string key) => tensors.TryGetValue(key, out var tensor) ? tensor.alias() : throw NoSuchKey(key);
}
