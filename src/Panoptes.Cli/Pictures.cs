using System.Globalization;
using Panoptes.Understanding;
using Spectre.Console;

namespace Panoptes.Cli;

/// <summary>Where pictures of what was found go, and boxes as they are told.</summary>
static class Pictures
{
    /// <summary>Whether a file's name is that of a picture that can be written.</summary>
    public static bool IsPicture(string path) => Path.GetExtension(path).ToLowerInvariant() is ".png" or ".webp" or ".jpg" or ".jpeg";

    /// <summary>Whether a file is called a picture, or begins as a PNG does.</summary>
    public static bool Holds(string file)
    {
        if (IsPicture(file)) return true;
        try
        {
            using var stream = File.OpenRead(file);
            Span<byte> head = stackalloc byte[8];
            return stream.ReadAtLeast(head, head.Length, throwOnEndOfStream: false) == head.Length && head.SequenceEqual<byte>([0x89, (byte)'P', (byte)'N', (byte)'G', 13, 10, 26, 10]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>The picture of each file: the one that was named, one beside the only file, or one each in a folder, which is made; null: none.</summary>
    /// <param name="files">Images.</param>
    /// <param name="output">A file or a folder, as it was given; null: not given.</param>
    /// <param name="suffix">What the name of a picture that was not named ends in, such as .boxes.png.</param>
    /// <param name="always">Whether the only file's picture is made even if none was asked for.</param>
    /// <exception cref="UsageException">A file was named for several images, or two of them would have one picture.</exception>
    public static string?[] Of(string[] files, string? output, string suffix, bool always)
    {
        var isFile = output is not null && !Directory.Exists(output) && IsPicture(output);
        if (output is null) return [.. files.Select(f => always && files.Length == 1 ? Path.ChangeExtension(f, suffix) : null)];
        if (isFile) return files.Length == 1 ? [output] : throw new UsageException($"--out is '{output}', but there are {files.Length} images; expected a folder.");
        string[] pictures = [.. files.Select(f => Path.Combine(output, Path.GetFileNameWithoutExtension(f) + suffix))];
        if (pictures.GroupBy(static p => p, StringComparer.Ordinal).FirstOrDefault(static g => g.Count() > 1) is { } twice) throw new UsageException($"Two of the images would have the picture '{twice.Key}'; expected images of different names.");
        Directory.CreateDirectory(output);
        return pictures;
    }

    /// <summary>An image's file, as it is.</summary>
    /// <exception cref="PanoptesException">There is none, or it cannot be read.</exception>
    public static byte[] Read(string file)
    {
        if (Directory.Exists(file)) throw new PanoptesException($"{file} is a folder; expected an image.");
        try
        {
            return File.ReadAllBytes(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException(File.Exists(file) ? $"{file} cannot be read: {e.Message}" : $"{file} does not exist.", e);
        }
    }

    /// <summary>A box in JSON, as COCO has it.</summary>
    public static object Json(Detection d) => new { d.Label, d.Score, box = Corner(d.Left, d.Top, d.Right, d.Bottom) };

    /// <summary>x, y, width and height, to a hundredth of a pixel.</summary>
    public static double[] Corner(double left, double top, double right, double bottom) => [Rounded(left), Rounded(top), Rounded(right - left), Rounded(bottom - top)];

    static double Rounded(double value) => Math.Round(value, 2);

    /// <summary>Score and edges for a table.</summary>
    public static string[] Cells(Detection d) => [d.Score.ToString("0.00", CultureInfo.InvariantCulture), string.Create(CultureInfo.InvariantCulture, $"{d.Left:0},{d.Top:0},{d.Right:0},{d.Bottom:0}")];

    /// <summary>Tells where pictures went.</summary>
    public static void Note(Terminal terminal, string?[] pictures)
    {
        string[] made = [.. pictures.OfType<string>()];
        if (made.Length == 1) terminal.Note($"The picture is {made[0]}.");
        else if (made.Length > 1) terminal.Note($"The pictures are in {Path.GetDirectoryName(made[0])}.");
    }

    /// <summary>A line of a table whose first columns are words.</summary>
    public static void AddRow(this Table table, IEnumerable<string> words, Detection d) => table.AddRow([.. words.Select(Markup.Escape), .. Cells(d)]);
}
