using System.Buffers.Binary;
using System.Text.Json;

namespace Panoptes.Checkpoints;

/// <summary>One tensor of a safetensors file: its type, shape, and where its bytes are, counted from the start of the file.</summary>
public sealed record TensorEntry(TensorDType DType, long[] Shape, long Offset, long Length)
{
    /// <summary>libtorch's type, or null where the bytes can only be read raw.</summary>
    public ScalarType? ScalarType => DType.ScalarType;
}

/// <summary>
/// A safetensors file, memory-mapped: the header is checked whole on opening (as the reference reader checks it, and duplicate names
/// are refused too), tensors are views of the mapping and cost no memory of their own until they are touched.
/// </summary>
/// <remarks>Format: 8 bytes little-endian header length, a JSON header, then the tensors without holes or overlaps
/// (https://github.com/huggingface/safetensors).</remarks>
public sealed class SafeTensorsFile : IDisposable
{
    /// <summary>The longest header that the format allows, in bytes.</summary>
    public const int MaxHeader = 100_000_000;

    readonly MappedFile file;

    SafeTensorsFile(MappedFile file, Dictionary<string, TensorEntry> entries, Dictionary<string, string> metadata) =>
        (this.file, Entries, Metadata) = (file, entries, metadata);

    public string Path => file.Path;

    /// <summary>Every tensor by name.</summary>
    public IReadOnlyDictionary<string, TensorEntry> Entries { get; }

    /// <summary>The text pairs under <c>__metadata__</c>; empty where there are none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <exception cref="PanoptesException">The file is missing, or is not a well-formed safetensors file; the message says what is wrong.</exception>
    public static SafeTensorsFile Open(string path)
    {
        var file = MappedFile.Open(path);
        try
        {
            var (entries, metadata) = ReadHeader(file);
            return new(file, entries, metadata);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The tensor <paramref name="key"/>, owned by the caller; it stays valid after this file is disposed.</summary>
    /// <exception cref="PanoptesException">There is no such tensor, or libtorch has no such type.</exception>
    public Tensor Read(string key)
    {
        var entry = Entry(key);
        var type = entry.ScalarType ?? throw new PanoptesException(
            $"{Path}: tensor {key} has type {entry.DType}, which libtorch cannot hold; only its bytes can be read.");
        return file.Tensor(entry.Offset, entry.Shape, type, entry.DType.Bits / 8);
    }

    /// <summary>The bytes of the tensor <paramref name="key"/>, of whatever type; valid until this file is disposed.</summary>
    /// <exception cref="PanoptesException">There is no such tensor, or it is of 2 GiB or more.</exception>
    public ReadOnlySpan<byte> ReadBytes(string key)
    {
        var entry = Entry(key);
        if (entry.Length > int.MaxValue) throw new PanoptesException($"{Path}: tensor {key} has {entry.Length} bytes; at most {int.MaxValue} can be read raw.");
        return file.Bytes(entry.Offset, (int)entry.Length);
    }

    public void Dispose() => file.Dispose();

    TensorEntry Entry(string key) => Entries.TryGetValue(key, out var entry) ? entry : throw new PanoptesException($"{Path} has no tensor {key}.");

    static (Dictionary<string, TensorEntry>, Dictionary<string, string>) ReadHeader(MappedFile file)
    {
        if (file.Length < 8) throw Bad(file, $"a safetensors file starts with 8 bytes of header length, found {file.Length} bytes");
        var declared = BinaryPrimitives.ReadUInt64LittleEndian(file.Bytes(0, 8));
        if (declared > MaxHeader) throw Bad(file, $"the header claims {declared} bytes, more than the format's {MaxHeader}; this is not a safetensors file");
        var length = (int)declared;
        if (length > file.Length - 8) throw Bad(file, $"the header claims {length} bytes, but only {file.Length - 8} follow; the file is cut off");
        if (length == 0 || file.Bytes(8, 1)[0] != '{') throw Bad(file, "the header must be a JSON object starting with {");
        Dictionary<string, TensorEntry> entries;
        Dictionary<string, string> metadata;
        try
        {
            (entries, metadata) = ParseHeader(file, file.Bytes(8, length), 8L + length);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)       // the latter: text that is not UTF-8
        {
            throw Bad(file, $"the header is not valid JSON: {e.Message.TrimEnd('.')}", e);
        }
        CheckCoverage(file, entries, 8L + length);
        return (entries, metadata);
    }

    static (Dictionary<string, TensorEntry>, Dictionary<string, string>) ParseHeader(MappedFile file, ReadOnlySpan<byte> json, long dataStart)
    {
        var entries = new Dictionary<string, TensorEntry>(StringComparer.Ordinal);
        Dictionary<string, string>? metadata = null;
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = 32 });
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var name = reader.GetString()!;
            reader.Read();
            if (name == "__metadata__")
            {
                if (metadata is not null) throw Bad(file, "the header has __metadata__ twice");
                metadata = ParseMetadata(file, ref reader);
            }
            else if (!entries.TryAdd(name, ParseEntry(file, name, ref reader, dataStart))) throw Bad(file, $"tensor {name} is in the header twice");
        }
        while (reader.Read()) { }                                                    // anything but white space after the object throws
        return (entries, metadata ?? []);
    }

    static Dictionary<string, string> ParseMetadata(MappedFile file, ref Utf8JsonReader reader)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        if (reader.TokenType == JsonTokenType.Null) return metadata;
        if (reader.TokenType != JsonTokenType.StartObject) throw Bad(file, "__metadata__ must be an object of text");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String) throw Bad(file, $"__metadata__ must hold text only, but {key} is a {reader.TokenType}");
            metadata[key] = reader.GetString()!;
        }
        return metadata;
    }

    static TensorEntry ParseEntry(MappedFile file, string name, ref Utf8JsonReader reader, long dataStart)
    {
        if (reader.TokenType != JsonTokenType.StartObject) throw Bad(file, $"the entry of tensor {name} must be an object");
        TensorDType? dtype = null;
        long[]? shape = null, offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var field = reader.GetString();
            reader.Read();
            switch (field)
            {
                case "dtype" when dtype is null:
                    var text = reader.TokenType == JsonTokenType.String ? reader.GetString() : null;
                    dtype = TensorDType.Find(text) ?? throw Bad(file, $"tensor {name} has the unknown dtype {text ?? "(not text)"}");
                    break;
                case "shape" when shape is null:
                    shape = ParseIntegers(file, name, "shape", ref reader);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ParseIntegers(file, name, "data_offsets", ref reader);
                    break;
                case "dtype" or "shape" or "data_offsets":
                    throw Bad(file, $"tensor {name} has {field} twice");
                default:
                    reader.Skip();
                    break;
            }
        }
        if (dtype is null || shape is null || offsets is null)
            throw Bad(file, $"tensor {name} has no {(dtype is null ? "dtype" : shape is null ? "shape" : "data_offsets")}");
        if (offsets.Length != 2 || offsets[0] > offsets[1]) throw Bad(file, $"tensor {name} has data_offsets [{string.Join(", ", offsets)}]; expected [begin, end]");
        var (begin, end) = (offsets[0], offsets[1]);
        if (end > file.Length - dataStart) throw Bad(file, $"tensor {name} ends at byte {end} of the data, which has {file.Length - dataStart}; the file is cut off");
        Int128 bits = dtype.Bits;
        foreach (var dimension in shape)
        {
            bits *= dimension;
            if (bits > long.MaxValue) throw Bad(file, $"tensor {name} has the shape [{string.Join(", ", shape)}], whose size overflows");
        }
        if (bits % 8 != 0 || bits / 8 != end - begin)
            throw Bad(file, $"tensor {name} of type {dtype} and shape [{string.Join(", ", shape)}] takes {bits / 8} bytes, but its data_offsets span {end - begin}");
        return new(dtype, shape, dataStart + begin, end - begin);
    }

    static long[] ParseIntegers(MappedFile file, string name, string field, ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartArray) throw Bad(file, $"{field} of tensor {name} must be a list of numbers");
        var values = new List<long>(4);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out var value) || value < 0)
                throw Bad(file, $"{field} of tensor {name} must be a list of whole numbers from 0 up");
            values.Add(value);
            // libtorch indexes with 64 dimensions at most; the limit also bounds what a hostile header can make us hold.
            if (values.Count > 64) throw Bad(file, $"{field} of tensor {name} has more than 64 numbers");
        }
        return [.. values];
    }

    static void CheckCoverage(MappedFile file, Dictionary<string, TensorEntry> entries, long dataStart)
    {
        var position = dataStart;
        foreach (var (name, entry) in entries.OrderBy(static e => e.Value.Offset).ThenBy(static e => e.Value.Length))
        {
            if (entry.Offset != position)
                throw Bad(file, $"tensor {name} begins at byte {entry.Offset - dataStart} of the data where {position - dataStart} was expected: tensors must neither overlap nor leave holes");
            position += entry.Length;
        }
        if (position != file.Length) throw Bad(file, $"{file.Length - position} bytes follow the last tensor");
    }

    static PanoptesException Bad(MappedFile file, string what, Exception? inner = null) =>
        inner is null ? new($"{file.Path}: {what}.") : new($"{file.Path}: {what}.", inner);
}
