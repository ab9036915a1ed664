using System.Text.Json;
using System.Text.Json.Serialization;
using Panoptes.Checkpoints;

namespace Panoptes.Search;

/// <summary>
/// The one file that says what an index is: which model, which data files, and how much of them counts. It is replaced by a move after
/// what it names is on the disk, so that whatever happens during an update, the manifest describes a whole index.
/// </summary>
sealed record IndexManifest
{
    public const string FileName = "index.json";
    const string FormatName = "panoptes-index";
    const int FormatVersion = 1;

    static readonly JsonSerializerOptions Options = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, WriteIndented = true };

    public string Format { get; init; } = FormatName;

    public int Version { get; init; } = FormatVersion;

    public required string ModelName { get; init; }

    public required string ModelFingerprint { get; init; }

    public required int Dimension { get; init; }

    /// <summary>Whether the vectors are sparse weights, kept as they are and compared by inner products, instead of directions of length 1.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool Sparse { get; init; }

    /// <summary>How many times the data files have been begun anew; part of their names.</summary>
    public required int Generation { get; init; }

    /// <summary>Vectors that count, those of removed images included.</summary>
    public required long Rows { get; init; }

    /// <summary>Bytes of the journal that count.</summary>
    public required long JournalLength { get; init; }

    /// <summary>Of this record written with a checksum of 0.</summary>
    public uint Checksum { get; init; }

    /// <summary>Little-endian IEEE half precision, [rows, dimension].</summary>
    public string VectorFile(string folder) => Path.Combine(folder, $"vectors-{Generation:d4}.f16");

    public string JournalFile(string folder) => Path.Combine(folder, $"entries-{Generation:d4}.log");

    /// <summary>Of sparse vectors: what answers queries, made of exactly the vectors and removals that this manifest counts.</summary>
    public string InvertedFile(string folder) => Path.Combine(folder, $"inverted-{Generation:d4}-{Rows}-{JournalLength}.safetensors");

    public const string InvertedFiles = "inverted-*.safetensors";

    public long VectorLength => checked(Rows * Dimension * sizeof(ushort));

    public static bool Exists(string folder) => File.Exists(Path.Combine(folder, FileName));

    /// <exception cref="PanoptesException">There is none, or it is damaged.</exception>
    public static IndexManifest Read(string folder)
    {
        var path = Path.Combine(folder, FileName);
        IndexManifest? manifest;
        try
        {
            if (!File.Exists(path)) throw new PanoptesException($"{folder} holds no index: {FileName} is missing.");
            if (new FileInfo(path).Length > 1 << 16) throw Damaged(path, "it is larger than any manifest");
            manifest = JsonSerializer.Deserialize<IndexManifest>(File.ReadAllBytes(path), Options);
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{path} is not the manifest of an index: {e.Message.TrimEnd('.')}. Delete {folder} to index anew.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{path} cannot be read: {e.Message}", e);
        }
        if (manifest is null || manifest.Format != FormatName) throw Damaged(path, "it is not the manifest of an index");
        if (manifest.Version != FormatVersion) throw Damaged(path, $"it has version {manifest.Version}, and this program reads version {FormatVersion}");
        if (manifest.ModelName is null || manifest.ModelFingerprint is null || manifest.ComputeChecksum() != manifest.Checksum) throw Damaged(path, "its checksum does not fit");
        if (manifest.Dimension is < 1 or > 1 << 16 || manifest.Rows is < 0 or > int.MaxValue || manifest.JournalLength < 0 || manifest.Generation < 0)
            throw Damaged(path, $"its sizes are impossible ({manifest.Rows} vectors of {manifest.Dimension})");
        return manifest;
    }

    /// <exception cref="PanoptesException">It cannot be written.</exception>
    public void Write(string folder) =>
        AtomicFile.WriteText(Path.Combine(folder, FileName), JsonSerializer.Serialize(this with { Checksum = ComputeChecksum() }, Options) + "\n");

    uint ComputeChecksum() => Crc32C.Of(JsonSerializer.SerializeToUtf8Bytes(this with { Checksum = 0 }, Options));

    static PanoptesException Damaged(string path, string found) => new($"{path} is damaged: {found}. Delete {Path.GetDirectoryName(path)} to index anew.");
}
