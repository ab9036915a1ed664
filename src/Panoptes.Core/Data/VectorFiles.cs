using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Panoptes.Checkpoints;
using Parquet;
using Parquet.Schema;

namespace Panoptes.Data;

/// <summary>How embeddings are written.</summary>
public enum VectorFormat
{
    /// <summary>Columns <c>name</c> (text) and <c>embedding</c> (list of float32), as pandas, Polars and DuckDB read them.</summary>
    Parquet,

    /// <summary>NumPy's format, version 1: float32 [rows, dimension]; the names go to a text file beside it, one a line.</summary>
    Npy,

    /// <summary>One tensor <c>embeddings</c>, float32 [rows, dimension]; the names are a JSON list under <c>names</c> in the metadata.</summary>
    SafeTensors,
}

/// <summary>Writes named vectors to the files that other tools read. Each file is whole or not there.</summary>
public static class VectorFiles
{
    const int RowsPerGroup = 65536;

    /// <summary>The format that a file's name asks for.</summary>
    /// <exception cref="PanoptesException">It ends in none of the known ways.</exception>
    public static VectorFormat FormatOf(string path) => Path.GetExtension(path).ToLowerInvariant() switch
    {
        ".parquet" => VectorFormat.Parquet,
        ".npy" => VectorFormat.Npy,
        ".safetensors" => VectorFormat.SafeTensors,
        _ => throw new PanoptesException($"{path} ends in none of .parquet, .npy and .safetensors, so that its format is not known."),
    };

    /// <summary>Where the names of an .npy file's rows go.</summary>
    public static string NamesFile(string path) => Path.ChangeExtension(path, ".names.txt");

    /// <param name="vectors">[names, dimension], row by row</param>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public static void Save(string path, IReadOnlyList<string> names, ReadOnlyMemory<float> vectors, CancellationToken cancel = default)
    {
        var dimension = names.Count == 0 ? 0 : vectors.Length / names.Count;
        if (names.Count == 0 || dimension * names.Count != vectors.Length) throw new ArgumentException($"{vectors.Length} numbers are no vectors for {names.Count} names.", nameof(vectors));
        switch (FormatOf(path))
        {
            case VectorFormat.Parquet:
                SaveParquet(path, names, vectors, dimension, cancel);
                break;
            case VectorFormat.Npy:
                AtomicFile.WriteText(NamesFile(path), string.Join('\n', names) + "\n");
                AtomicFile.Write(path, stream => WriteNpy(stream, vectors.Span, names.Count, dimension));
                break;
            default:
                SaveSafeTensors(path, names, vectors, dimension);
                break;
        }
    }

    static void SaveSafeTensors(string path, IReadOnlyList<string> names, ReadOnlyMemory<float> vectors, int dimension)
    {
        using var scope = NewDisposeScope();
        var values = tensor(vectors.ToArray(), [names.Count, dimension]);
        SafeTensors.Save(path, [new("embeddings", values)], new Dictionary<string, string> { ["names"] = JsonSerializer.Serialize(names) });
    }

    /// <summary>numpy/lib/format.py: magic, version 1.0, a Python literal padded so that the data begins at a multiple of 64, the data.</summary>
    static void WriteNpy(Stream stream, ReadOnlySpan<float> vectors, int rows, int dimension)
    {
        var header = string.Create(CultureInfo.InvariantCulture, $"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}");
        header = header.PadRight(((10 + header.Length + 1 + 63) / 64 * 64) - 11) + '\n';
        stream.Write([0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y', 1, 0, (byte)header.Length, (byte)(header.Length >> 8)]);
        stream.Write(Encoding.ASCII.GetBytes(header));
        while (!vectors.IsEmpty)
        {
            var part = vectors[..Math.Min(vectors.Length, 1 << 24)];
            stream.Write(MemoryMarshal.AsBytes(part));
            vectors = vectors[part.Length..];
        }
    }

    static void SaveParquet(string path, IReadOnlyList<string> names, ReadOnlyMemory<float> vectors, int dimension, CancellationToken cancel) =>
        AtomicFile.Write(path, stream => WriteParquetAsync(stream, names, vectors, dimension, cancel).GetAwaiter().GetResult());

    static async Task WriteParquetAsync(Stream stream, IReadOnlyList<string> names, ReadOnlyMemory<float> vectors, int dimension, CancellationToken cancel)
    {
        var (name, element) = (new DataField<string>("name", false), new DataField<float>(ListField.ElementName, false));
        var schema = new ParquetSchema(name, new ListField("embedding", element));
        var writer = await ParquetWriter.CreateAsync(schema, stream, cancellationToken: cancel).ConfigureAwait(false);
        await using (writer.ConfigureAwait(false))
        {
            for (var start = 0; start < names.Count; start += RowsPerGroup)
            {
                var rows = Math.Min(RowsPerGroup, names.Count - start);
                var values = vectors.Slice(start * dimension, rows * dimension);
                var (definitions, repetitions) = (new int[values.Length], new int[values.Length]);
                Array.Fill(definitions, element.MaxDefinitionLevel);
                Array.Fill(repetitions, element.MaxRepetitionLevel);
                for (var i = 0; i < repetitions.Length; i += dimension) repetitions[i] = 0;     // a row begins
                using var group = writer.CreateRowGroup();
                await group.WriteAsync(name, [.. names.Skip(start).Take(rows)]).ConfigureAwait(false);
                await group.WriteAllPartsAsync<float>(element, values, definitions, repetitions, cancel).ConfigureAwait(false);
                group.CompleteValidate();
            }
        }
    }
}
