using System.Globalization;
using System.Text;

namespace Panoptes.Data;

/// <summary>How a table of images is read.</summary>
public sealed record ImageTableOptions
{
    /// <summary>The column of image paths; null: the first there is of <see cref="ImageTable.ImageColumns"/>.</summary>
    public string? ImageColumn { get; init; }

    /// <summary>The column of captions; null: the first there is of <see cref="ImageTable.TextColumns"/>, or none.</summary>
    public string? TextColumn { get; init; }

    /// <summary>The column of labels; null: the first there is of <see cref="ImageTable.LabelColumns"/>, or none.</summary>
    public string? LabelColumn { get; init; }

    /// <summary>
    /// The folder that relative paths start from and that no path may leave, be it by <c>..</c> or by being absolute: a table from
    /// elsewhere names no files of one's own. Null: the table's folder; <c>/</c> allows every path.
    /// </summary>
    public string? Root { get; init; }
}

/// <summary>
/// Tables of image paths with captions or labels: CSV and TSV with a header line (open_clip's <c>filepath</c> and <c>title</c> among
/// the names that are known), and Parquet. Labels that are all whole numbers are taken as they are; others are names of classes,
/// numbered in their order.
/// </summary>
public static class ImageTable
{
    /// <summary>Names of the column of image paths, in order of preference, in any case.</summary>
    public static IReadOnlyList<string> ImageColumns { get; } = ["filepath", "file_path", "image_path", "path", "filename", "file_name", "image", "img", "file"];

    /// <summary>Names of the column of captions.</summary>
    public static IReadOnlyList<string> TextColumns { get; } = ["title", "caption", "text", "description", "sentence", "prompt"];

    /// <summary>Names of the column of labels.</summary>
    public static IReadOnlyList<string> LabelColumns { get; } = ["label", "class", "category", "target"];

    /// <summary>The file name extensions that count as tables.</summary>
    public static IReadOnlyList<string> Extensions { get; } = [".csv", ".tsv", ".parquet"];

    /// <summary>Reads a table; images are not looked at yet.</summary>
    /// <param name="file">A .csv, .tsv or .parquet file. A .csv without a comma in its first line but with a tab is read as tab-separated, as open_clip writes them.</param>
    /// <param name="options">Columns and the images' folder.</param>
    /// <param name="problems">Where problems are counted: rows of too few or too many fields, empty paths, captions or labels, paths that lead out of the folder.</param>
    /// <exception cref="PanoptesException">There is no such file, it is not such a table, or a column is not there.</exception>
    public static ImageCollection Open(string file, ImageTableOptions? options = null, DataProblems? problems = null)
    {
        options ??= new();
        problems ??= new();
        if (!File.Exists(file)) throw new PanoptesException($"The table {file} does not exist.");
        try
        {
            var (paths, texts, labels) = Path.GetExtension(file).ToLowerInvariant() switch
            {
                ".csv" or ".tsv" => ReadCsv(file, options, problems),
                ".parquet" => ReadParquet(file, options),
                _ => throw new PanoptesException($"{file} ends in none of {string.Join(", ", Extensions)}, so that its format is not known."),
            };
            return Collect(file, options, problems, paths, texts, labels);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The table {file} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>One cell of each row and where the row is; the columns of captions and labels may be absent.</summary>
    readonly record struct Cell(string? Value, int Row);

    static ImageCollection Collect(string file, ImageTableOptions options, DataProblems problems, List<Cell> paths, List<string?>? texts, List<string?>? labels)
    {
        var root = Path.GetFullPath(options.Root ?? Path.GetDirectoryName(Path.GetFullPath(file))!);
        var inside = Path.EndsInDirectorySeparator(root) ? root : root + Path.DirectorySeparatorChar;
        var numbered = labels is null || labels.TrueForAll(static l => string.IsNullOrWhiteSpace(l) || Number(l) is not null);
        string[] classes = numbered ? [] : [.. labels!.Where(static l => !string.IsNullOrWhiteSpace(l)).Select(static l => l!.Trim()).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        var unit = Path.GetExtension(file).Equals(".parquet", StringComparison.OrdinalIgnoreCase) ? "row" : "line";
        var rows = new List<ImageCollection.Row>(paths.Count);
        for (var i = 0; i < paths.Count; i++)
        {
            var where = $"{file} {unit} {paths[i].Row}";
            if (Resolve(paths[i].Value) is not { } path) continue;
            var text = texts?[i]?.Trim();
            if (texts is not null && string.IsNullOrEmpty(text))
            {
                problems.Add(new(DataProblemKind.NoCaption, where, $"{where} has an empty caption."));
                continue;
            }
            var label = -1;
            if (labels is not null)
            {
                if (string.IsNullOrWhiteSpace(labels[i]))
                {
                    problems.Add(new(DataProblemKind.BadRow, where, $"{where} has an empty label."));
                    continue;
                }
                label = numbered ? Number(labels[i])!.Value : Array.BinarySearch(classes, labels[i]!.Trim(), StringComparer.Ordinal);
            }
            rows.Add(new(path, text, null, label));

            string? Resolve(string? given)
            {
                if (string.IsNullOrWhiteSpace(given) || given.Contains('\0'))
                {
                    problems.Add(new(DataProblemKind.BadRow, where, $"{where} names no image."));
                    return null;
                }
                var full = Path.GetFullPath(given.Trim(), root);
                if (full.StartsWith(inside, StringComparison.Ordinal)) return full;
                problems.Add(new(DataProblemKind.BadRow, where, $"{where} names {given}, which is not in {root}."));
                return null;
            }
        }
        return new(file, [.. rows], classes, problems);
    }

    static int? Number(string? label) => int.TryParse(label, NumberStyles.Integer, CultureInfo.InvariantCulture, out var value) ? value : null;

    static (List<Cell> Paths, List<string?>? Texts, List<string?>? Labels) ReadCsv(string file, ImageTableOptions options, DataProblems problems)
    {
        using var reader = new StreamReader(file, Encoding.UTF8);
        var csv = new CsvReader(reader, Separator(file), file);
        var header = csv.Read() ?? throw new PanoptesException($"The table {file} is empty, but a line with the names of its columns was expected.");
        var (image, text, label) = Columns(file, header, options);
        var paths = new List<Cell>();
        var (texts, labels) = (text < 0 ? null : new List<string?>(), label < 0 ? null : new List<string?>());
        while (csv.Read() is { } row)
        {
            if (row.Length != header.Length)
            {
                var where = $"{file} line {csv.Line}";
                problems.Add(new(DataProblemKind.BadRow, where, $"{where} has {row.Length} fields, but the header names {header.Length}."));
                continue;
            }
            paths.Add(new(row[image], csv.Line));
            texts?.Add(row[text]);
            labels?.Add(row[label]);
        }
        return (paths, texts, labels);
    }

    static char Separator(string file)
    {
        if (Path.GetExtension(file).Equals(".tsv", StringComparison.OrdinalIgnoreCase)) return '\t';
        using var reader = new StreamReader(file, Encoding.UTF8);
        var head = new char[4096];
        var line = head.AsSpan(0, reader.ReadBlock(head, 0, head.Length));
        if (line.IndexOfAny('\r', '\n') is >= 0 and var end) line = line[..end];
        return line.Contains('\t') && !line.Contains(',') ? '\t' : ',';
    }

    /// <summary>Where the columns are; -1 for captions and labels that were not asked for and are not there.</summary>
    static (int Image, int Text, int Label) Columns(string file, string[] header, ImageTableOptions options)
    {
        var image = Find(options.ImageColumn, ImageColumns);
        if (image < 0) throw new PanoptesException($"The table {file} has the columns {Listed()}, but for the image paths one of {string.Join(", ", ImageColumns)} was expected (or name the column).");
        return (image, Find(options.TextColumn, TextColumns), Find(options.LabelColumn, LabelColumns));

        int Find(string? asked, IReadOnlyList<string> known)
        {
            foreach (var name in asked is null ? known : [asked])
                for (var i = 0; i < header.Length; i++)
                    if (header[i].Trim().Equals(name, StringComparison.OrdinalIgnoreCase)) return i;
            return asked is null ? -1 : throw new PanoptesException($"The table {file} has no column '{asked}', but {Listed()}.");
        }

        string Listed() => string.Join(", ", header.Take(20).Select(static h => $"'{(h.Length > 60 ? h[..60] + "…" : h)}'")) + (header.Length > 20 ? $" and {header.Length - 20} more" : "");
    }

    static (List<Cell> Paths, List<string?>? Texts, List<string?>? Labels) ReadParquet(string file, ImageTableOptions options)
    {
        using var parquet = ParquetFile.Open(file);
        var (image, text, label) = Columns(file, [.. parquet.Columns.Select(static c => c.Name)], options);
        var paths = new List<Cell>(parquet.Rows);
        foreach (var path in Read(image, numbers: false)) paths.Add(new(path, paths.Count + 1));
        return (paths, text < 0 ? null : [.. Read(text, numbers: false)], label < 0 ? null : [.. Read(label, numbers: true)]);

        string?[] Read(int index, bool numbers)
        {
            var column = parquet.Columns[index];
            return column.Kind switch
            {
                ParquetKind.Text => parquet.Texts(column),
                ParquetKind.Int32 or ParquetKind.Int64 when numbers => Array.ConvertAll(parquet.Numbers(column), static n => n?.ToString(CultureInfo.InvariantCulture)),
                _ => throw new PanoptesException($"The column {column.Name} of {file} holds {column.Holds}, but text{(numbers ? " or whole numbers were" : " was")} expected."),
            };
        }
    }
}
