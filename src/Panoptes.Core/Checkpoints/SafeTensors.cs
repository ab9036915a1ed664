using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using Panoptes.Native;

namespace Panoptes.Checkpoints;

/// <summary>Whole safetensors files: load into a dictionary, save from one.</summary>
public static class SafeTensors
{
    /// <summary>Every tensor of the file by name, owned by the caller (mapped, not copied).</summary>
    /// <exception cref="PanoptesException">The file is missing or malformed.</exception>
    public static Dictionary<string, Tensor> Load(string path)
    {
        using var file = SafeTensorsFile.Open(path);
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        foreach (var key in file.Entries.Keys) tensors[key] = file.Read(key);
        return tensors;
    }

    /// <summary>
    /// Writes the tensors (of any device, strides and sharing) byte for byte as the reference implementation does: sorted by element
    /// type, then name, the header padded to 8 bytes. The file appears whole or not at all.
    /// </summary>
    /// <param name="metadata">Text pairs to keep in the header; Python's transformers expects <c>format: pt</c>.</param>
    /// <exception cref="PanoptesException">The file cannot be written, a name comes twice, or the format lacks a tensor's type.</exception>
    public static void Save(string path, IEnumerable<KeyValuePair<string, Tensor>> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        var sorted = new List<(string Name, Tensor Tensor, TensorDType DType, byte[] Utf8)>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (name, tensor) in tensors)
        {
            if (!names.Add(name)) throw new PanoptesException($"{path} cannot be written: tensor {name} was given twice.");
            if (name == "__metadata__") throw new PanoptesException($"{path} cannot be written: no tensor may be named __metadata__.");
            sorted.Add((name, tensor, TensorDType.Of(tensor.dtype), Encoding.UTF8.GetBytes(name)));
        }
        sorted.Sort(static (a, b) => a.DType.Rank != b.DType.Rank ? b.DType.Rank.CompareTo(a.DType.Rank) : a.Utf8.AsSpan().SequenceCompareTo(b.Utf8));
        var header = Header([.. sorted.Select(static t => (t.Name, t.DType, t.Tensor.shape))], metadata);
        if (header.Length > SafeTensorsFile.MaxHeader) throw new PanoptesException($"{path} cannot be written: its header of {header.Length} bytes is over the format's {SafeTensorsFile.MaxHeader}.");
        AtomicFile.Write(path, stream =>
        {
            Span<byte> length = stackalloc byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
            stream.Write(length);
            stream.Write(header.Span);
            foreach (var (_, tensor, dtype, _) in sorted) WriteData(stream, tensor, dtype);
        });
    }

    static ReadOnlyMemory<byte> Header((string Name, TensorDType DType, long[] Shape)[] tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        var buffer = new ArrayBufferWriter<byte>(1 << 12);
        Write(buffer, "{");
        var first = true;
        if (metadata is not null)
        {
            Write(buffer, "\"__metadata__\":{");
            foreach (var (key, value) in metadata.OrderBy(static p => p.Key, StringComparer.Ordinal))
            {
                if (!first) Write(buffer, ",");
                WriteString(buffer, key);
                Write(buffer, ":");
                WriteString(buffer, value);
                first = false;
            }
            Write(buffer, "}");
            first = false;
        }
        long offset = 0;
        foreach (var (name, dtype, shape) in tensors)
        {
            var bytes = shape.Aggregate(1L, static (a, b) => a * b) * dtype.Bits / 8;
            if (!first) Write(buffer, ",");
            WriteString(buffer, name);
            Write(buffer, $":{{\"dtype\":\"{dtype.Name}\",\"shape\":[{string.Join(",", shape)}],\"data_offsets\":[{offset},{offset + bytes}]}}");
            offset += bytes;
            first = false;
        }
        Write(buffer, "}");
        while (buffer.WrittenCount % 8 != 0) Write(buffer, " ");
        return buffer.WrittenMemory;
    }

    /// <summary>JSON text with only what must be escaped escaped, as the reference implementation writes it.</summary>
    static void WriteString(ArrayBufferWriter<byte> buffer, string text)
    {
        var escaped = new StringBuilder(text.Length + 2).Append('"');
        foreach (var c in text)
            _ = c switch
            {
                '"' => escaped.Append("\\\""),
                '\\' => escaped.Append("\\\\"),
                '\b' => escaped.Append("\\b"),
                '\f' => escaped.Append("\\f"),
                '\n' => escaped.Append("\\n"),
                '\r' => escaped.Append("\\r"),
                '\t' => escaped.Append("\\t"),
                < ' ' => escaped.Append(System.Globalization.CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
                _ => escaped.Append(c),
            };
        Write(buffer, escaped.Append('"').ToString());
    }

    static void Write(ArrayBufferWriter<byte> buffer, string text) => Encoding.UTF8.GetBytes(text, buffer);

    static unsafe void WriteData(FileStream stream, Tensor tensor, TensorDType dtype)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var plain = tensor.detach();
        if (plain.device_type != DeviceType.CPU) plain = plain.cpu();
        plain = plain.contiguous();
        var left = plain.numel() * dtype.Bits / 8;
        if (left == 0) return;
        var data = (byte*)NativeTensor.Data(plain);
        const int chunk = 1 << 30;
        for (; left > 0; left -= chunk, data += chunk) stream.Write(new ReadOnlySpan<byte>(data, (int)Math.Min(left, chunk)));
        GC.KeepAlive(plain);
    }
}
