using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Text.RegularExpressions;

namespace Panoptes.Checkpoints;

/// <summary>
/// A file that <c>torch.save</c> (zip or legacy) or TorchScript wrote, read as data: tensors and plain values. No code in it runs; what is
/// neither is refused by name. Tensors are views of the mapped file until they are read.
/// </summary>
/// <remarks>Formats: torch/serialization.py (legacy: magic number, protocol, system, object, storage keys, storages as count and data),
/// and torch/csrc/jit/serialization (zip: NAME/data.pkl with storages NAME/data/KEY).</remarks>
public sealed partial class TorchFile : IDisposable
{
    /// <summary>How many bytes tensors that need a copy (transposed, expanded, unaligned) may take together, in multiples of the file's length.</summary>
    const int CopyFactor = 16;

    const int MaxDepth = 200;

    static readonly BigInteger LegacyMagic = BigInteger.Parse("0" + "1950a86a20f9469cfc6c", NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    readonly MappedFile file;
    readonly Dictionary<string, PickleStorage> storages = new(StringComparer.Ordinal);
    long copied;
    long steps;

    TorchFile(MappedFile file) => this.file = file;

    public string Path => file.Path;

    /// <summary>
    /// What was saved: null, bool, long, BigInteger, double, string, byte[], tuples as object?[], <see cref="PickleList"/>,
    /// <see cref="PickleDict"/>, and <see cref="PickleTensor"/> for tensors.
    /// </summary>
    public object? Root { get; private set; }

    /// <exception cref="PanoptesException">The file is missing, malformed, big-endian, or holds something else than data.</exception>
    public static TorchFile Open(string path)
    {
        var file = MappedFile.Open(path);
        try
        {
            var torch = new TorchFile(file);
            if (file.Length >= 4 && file.Bytes(0, 4).SequenceEqual("PK\u0003\u0004"u8)) torch.ReadZip();
            else torch.ReadLegacy();
            return torch;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The tensor, dense, owned by the caller; tensors of one storage share its memory where they are dense views of it.</summary>
    /// <exception cref="PanoptesException">The tensors read so far need more memory than the file's size explains.</exception>
    public Tensor Read(PickleTensor tensor)
    {
        var dense = tensor.IsContiguous;
        var start = tensor.Storage.Offset + tensor.Offset * tensor.ElementSize;
        var aligned = start % Math.Min(tensor.ElementSize, 8) == 0;                  // the mapping itself begins on a page
        if (!dense || !aligned)
        {
            copied += (dense ? 0 : tensor.Count * tensor.ElementSize) + (aligned ? 0 : tensor.Span * tensor.ElementSize);
            if (copied / CopyFactor > file.Length + (1 << 16))
                throw new PanoptesException($"{Path}: a tensor of shape [{string.Join(", ", tensor.Shape)}] would take {tensor.Count * tensor.ElementSize} bytes of memory, which a file of {file.Length} bytes does not explain.");
        }
        if (dense) return file.Tensor(start, tensor.Shape, tensor.Type, tensor.ElementSize);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var window = file.Tensor(start, [tensor.Span], tensor.Type, tensor.ElementSize);
        return window.as_strided(tensor.Shape, tensor.Strides).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>Every tensor below <paramref name="root"/> under its dotted name: keys of dicts, and places in lists and tuples as numbers.
    /// Of a TorchScript object these are the parameters and buffers, not tensors in lists and dicts that it happens to have.</summary>
    /// <exception cref="PanoptesException">It is nested without end, or a tensor lies under a key that is neither text nor a number.</exception>
    public IReadOnlyList<KeyValuePair<string, PickleTensor>> Flatten(object? root)
    {
        var tensors = new List<KeyValuePair<string, PickleTensor>>();
        var places = new Stack<(object? Value, string Name, int Depth)>();
        places.Push((root, "", 0));
        long named = 0;
        // Containers may be shared, but a walk that meets many more places than the pickle has steps is going round in circles.
        for (long visited = 0; places.TryPop(out var place); visited++)
        {
            if (visited > 4 * steps + 1000 || place.Depth > MaxDepth) throw new PanoptesException($"{Path}: its values refer to one another without end.");
            switch (place.Value)
            {
                case PickleTensor tensor:
                    tensors.Add(new(place.Name, tensor));
                    break;
                case PickleDict dict:
                    for (var i = dict.Items.Count - 1; i >= 0; i--)
                        if (IsPlace(dict.Items[i].Value) && (!dict.IsScriptObject || dict.Items[i].Value is PickleTensor or PickleDict { IsScriptObject: true })) Push(dict.Items[i].Value, Key(dict.Items[i].Key), place);
                    break;
                case PickleList or object?[]:
                    IReadOnlyList<object?> items = place.Value is PickleList list ? list.Items : (object?[])place.Value;
                    for (var i = items.Count - 1; i >= 0; i--)
                        if (IsPlace(items[i])) Push(items[i], i.ToString(CultureInfo.InvariantCulture), place);
                    break;
            }
        }
        return tensors;

        void Push(object? value, string key, (object? Value, string Name, int Depth) parent)
        {
            var name = parent.Name.Length == 0 ? key : $"{parent.Name}.{key}";
            // Names grow with depth: long ones are as suspect as deep ones, and so are more of them than the file has room for.
            named += name.Length;
            if (name.Length > 4096 || named > 8 * file.Length + (1 << 16)) throw new PanoptesException($"{Path}: its values refer to one another without end.");
            places.Push((value, name, parent.Depth + 1));
        }

        static bool IsPlace(object? value) => value is PickleTensor or PickleDict { Mutable: not null } or PickleList { Mutable: not null } or object?[] { Length: > 0 };

        string Key(object? key) => key switch
        {
            string text => text,
            long number => number.ToString(CultureInfo.InvariantCulture),
            bool flag => flag ? "True" : "False",
            _ => throw new PanoptesException($"{Path}: values lie under a key that is neither text nor a number."),
        };
    }

    public void Dispose() => file.Dispose();

    void ReadZip()
    {
        var zip = new ZipDirectory(file);
        var pickles = zip.Names.Where(static n => DataPickle().IsMatch(n)).ToArray();
        if (pickles is not [var pickle]) throw Bad($"expected one data.pkl in the archive, found {pickles.Length}");
        var root = pickle[..^"data.pkl".Length];
        if (zip.Contains(root + "byteorder"))
        {
            var (at, size) = zip.Locate(root + "byteorder");
            if (!file.Bytes(at, (int)Math.Min(size, 16)).TrimEnd("\n"u8).SequenceEqual("little"u8)) throw Bad("it was written on a big-endian machine; save it again on a little-endian one");
        }
        var (offset, length) = zip.Locate(pickle);
        // Only TorchScript archives hold constants.pkl; only there may the pickle name the classes of the script.
        var unpickler = new Unpickler(Path, zip.Contains(root + "constants.pkl"), (key, type, elementSize, count) =>
        {
            if (Known(key, type, elementSize, count) is { } known) return known;
            var name = $"{root}data/{key}";
            if (!zip.Contains(name)) throw Bad($"its storage {key} is not in the archive");
            var (start, bytes) = zip.Locate(name);
            if (bytes != count * elementSize) throw Bad($"its storage {key} should have {count * elementSize} bytes, found {bytes}");
            return storages[key] = new(key, type, elementSize, count) { Offset = start };
        });
        Root = unpickler.Read(Window(offset, length)).Value;
        steps = unpickler.Steps;
    }

    void ReadLegacy()
    {
        var unpickler = new Unpickler(Path, scriptClasses: false, (key, type, elementSize, count) =>
            Known(key, type, elementSize, count) ?? (storages[key] = new(key, type, elementSize, count)));
        long position = 0;
        object? Next()
        {
            var (value, read) = unpickler.Read(Window(position, file.Length - position));
            position += read;
            return value;
        }
        if (file.Length == 0) throw Bad("it is empty");
        if (!(Next() is BigInteger magic && magic == LegacyMagic)) throw Bad("it does not begin with the magic number of torch.save");
        if (Next() is not 1001L) throw Bad("its protocol is not 1001");
        if (Next() is not PickleDict system || system["little_endian"] is not true) throw Bad("it was written on a big-endian machine; save it again on a little-endian one");
        Root = Next();
        var keys = Next() as PickleList ?? throw Bad("it has no list of storages");
        foreach (var item in keys.Items)
        {
            if (item is not string key || !storages.TryGetValue(key, out var storage) || storage.Offset >= 0) throw Bad("its list of storages does not fit its tensors");
            if (position > file.Length - 8) throw Bad($"storage {key} is cut off");
            var count = BinaryPrimitives.ReadInt64LittleEndian(file.Bytes(position, 8));
            if (count != storage.Count) throw Bad($"storage {key} should have {storage.Count} elements, found {count}");
            position += 8;
            if (count > (file.Length - position) / storage.ElementSize) throw Bad($"storage {key} is cut off");
            storage.Offset = position;
            position += count * storage.ElementSize;
        }
        foreach (var (key, storage) in storages)
            if (storage.Offset < 0) throw Bad($"its storage {key} is not in the file");
        if (position != file.Length) throw Bad($"{file.Length - position} bytes follow its last storage");
        steps = unpickler.Steps;
    }

    ReadOnlySpan<byte> Window(long offset, long length) => file.Bytes(offset, (int)Math.Min(length, Unpickler.MaxLength));

    PickleStorage? Known(string key, ScalarType? type, int elementSize, long count)
    {
        if (!storages.TryGetValue(key, out var known)) return null;
        return known.Type == type && known.ElementSize == elementSize && known.Count == count ? known : throw Bad($"its storage {key} is used with different types or sizes");
    }

    PanoptesException Bad(string what) => new($"{Path} is not a sound PyTorch file: {what}.");

    [GeneratedRegex(@"^[^/]+/data\.pkl\z")]
    private static partial Regex DataPickle();
}
