using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>One image of a data set, still encoded, with what belongs to it.</summary>
/// <param name="Name">The image's file, to name it in messages.</param>
/// <param name="Encoded">The image's file contents.</param>
/// <param name="Text">The caption; empty where the data has none.</param>
/// <param name="Label">The class; -1 where there is none.</param>
public sealed record ImageSample(string Name, ReadOnlyMemory<byte> Encoded, string Text, int Label)
{
    /// <summary>Larger files are no images that anyone trains on.</summary>
    internal const long MaxBytes = 256 << 20, MaxTextBytes = 1 << 20;

    /// <summary>The pixels.</summary>
    /// <exception cref="PanoptesException">It is not an image, or a damaged one.</exception>
    public Image Decode()
    {
        try
        {
            return Image.Decode(Encoded.Span, Name);
        }
        catch (PanoptesException e)
        {
            throw new BadSampleException(DataProblemKind.BadImage, Name, e.Message, e);
        }
    }
}

/// <summary>
/// Images in files, any of which can be read at any time: a folder (<see cref="ImageFolder"/>) or a table (<see cref="ImageTable"/>).
/// Holds paths, captions and labels only; files are opened when a sample is asked for.
/// </summary>
/// <remarks>Immutable but for its <see cref="ImageData.Problems"/>, and safe for any number of threads.</remarks>
public sealed class ImageCollection : ImageData
{
    readonly Row[] rows;

    internal ImageCollection(string source, Row[] rows, IReadOnlyList<string> classes, DataProblems problems) : base(source, problems)
    {
        (this.rows, Classes) = (rows, classes);
        HasText = rows.Any(static r => r.Text is not null || r.TextFile is not null);
        HasCaptions = rows.Any(r => r.TextFile is not null || (r.Text is not null && (r.Label < 0 || r.Label >= classes.Count || r.Text != classes[r.Label].Replace('_', ' '))));
        if (rows.Length == 0) throw new PanoptesException($"{source} has no image that can be used.", problems.Lines());
    }

    /// <summary>One image: where it is, and its caption or the file that holds it.</summary>
    internal readonly record struct Row(string Path, string? Text, string? TextFile, int Label);

    /// <summary>Images.</summary>
    public int Count => rows.Length;

    /// <summary>The classes that labels count, where they have names.</summary>
    public IReadOnlyList<string> Classes { get; }

    /// <summary>Whether the images have captions that are more than their class's name.</summary>
    public bool HasCaptions { get; }

    /// <summary>The file of an image.</summary>
    public string PathOf(int index) => rows[index].Path;

    /// <summary>The class of an image, or -1.</summary>
    public int LabelOf(int index) => rows[index].Label;

    /// <inheritdoc/>
    public override int CountSamples(CancellationToken cancel = default) => Count;

    /// <inheritdoc/>
    public override IEnumerable<ImageSample> Read(CancellationToken cancel = default) => ReadEach(Enumerable.Range(0, Count), Read, cancel);

    /// <summary>Reads an image's file and caption.</summary>
    /// <exception cref="PanoptesException">The file is not there or is too large, or its caption is missing or empty.</exception>
    public ImageSample Read(int index)
    {
        var row = rows[index];
        var text = row.Text ?? "";
        if (row.TextFile is { } file)
        {
            text = System.Text.Encoding.UTF8.GetString(ReadFile(file, row.Path, ImageSample.MaxTextBytes, DataProblemKind.NoCaption, "a caption")).Trim('\uFEFF', ' ', '\t', '\r', '\n');
            if (text.Length == 0) throw new BadSampleException(DataProblemKind.NoCaption, row.Path, $"{file} is empty, but the caption of {Path.GetFileName(row.Path)} was expected.");
        }
        return new(row.Path, ReadFile(row.Path, row.Path, ImageSample.MaxBytes, DataProblemKind.MissingFile, "an image"), text, row.Label);
    }

    static byte[] ReadFile(string path, string sample, long limit, DataProblemKind kind, string expected)
    {
        try
        {
            using var handle = File.OpenHandle(path, options: FileOptions.SequentialScan);
            var length = RandomAccess.GetLength(handle);
            if (length > limit) throw new BadSampleException(DataProblemKind.BadImage, sample, $"{path} has {length:N0} bytes, but {expected} of at most {limit:N0} was expected.");
            var bytes = GC.AllocateUninitializedArray<byte>((int)length);
            var read = 0;
            while (read < bytes.Length && RandomAccess.Read(handle, bytes.AsSpan(read), read) is > 0 and var n) read += n;
            return read == bytes.Length ? bytes : bytes[..read];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new BadSampleException(kind, sample, e is FileNotFoundException or DirectoryNotFoundException ? $"{path} does not exist, but {expected} was expected." : $"{path} cannot be read: {e.Message}", e);
        }
    }
}
