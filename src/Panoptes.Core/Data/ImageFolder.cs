using Panoptes.Search;

namespace Panoptes.Data;

/// <summary>
/// Folders of images. Where the images lie in subfolders, each subfolder of the first level is a class, numbered in the order of the
/// names as torchvision's <c>ImageFolder</c> numbers them; images that lie in the folder itself then have the label -1. A text file beside
/// an image, of the same name (<c>cat.jpg</c>, <c>cat.txt</c>), is its caption; without captions a class's name serves
/// (<c>golden_retriever</c> is "golden retriever").
/// </summary>
public static class ImageFolder
{
    /// <summary>Lists a folder. Names that begin with a dot are passed over.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="problems">Where problems are counted. If one image has a caption, images without are problems.</param>
    /// <exception cref="PanoptesException">There is no such folder, it cannot be read, or it holds no image.</exception>
    public static ImageCollection Open(string folder, DataProblems? problems = null)
    {
        problems ??= new();
        if (!Directory.Exists(folder)) throw new PanoptesException(File.Exists(folder) ? $"{folder} is a file, but a folder of images was expected." : $"The folder {folder} does not exist.");
        var (images, texts) = (new List<string>(), new HashSet<string>(StringComparer.Ordinal));
        try
        {
            var options = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.Hidden | FileAttributes.System, MaxRecursionDepth = 64 };
            foreach (var file in Directory.EnumerateFiles(folder, "*", options))
            {
                var extension = Path.GetExtension(file);
                if (FolderIndexer.Extensions.Contains(extension)) images.Add(Path.GetRelativePath(folder, file));
                else if (extension == ".txt") texts.Add(Path.GetRelativePath(folder, file));
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The folder {folder} cannot be read: {e.Message}", e);
        }
        if (images.Count == 0) throw new PanoptesException($"{folder} holds no images: no file in it or below ends in {string.Join(", ", FolderIndexer.Extensions.Order(StringComparer.Ordinal))}.");

        images.Sort(StringComparer.Ordinal);
        string[] classes = [.. images.Select(ClassOf).OfType<string>().Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        var captioned = images.Exists(i => texts.Contains(Caption(i)));
        var rows = new List<ImageCollection.Row>(images.Count);
        foreach (var image in images)
        {
            var path = Path.Combine(folder, image);
            if (captioned && !texts.Contains(Caption(image)))
            {
                problems.Add(new(DataProblemKind.NoCaption, path, $"{path} has no caption: {Path.GetFileName(Caption(image))} is missing beside it."));
                continue;
            }
            var name = ClassOf(image);
            rows.Add(new(path, captioned ? null : name?.Replace('_', ' '), captioned ? Path.Combine(folder, Caption(image)) : null,
                name is null ? -1 : Array.BinarySearch(classes, name, StringComparer.Ordinal)));
        }
        return new(folder, [.. rows], classes, problems);
    }

    static string Caption(string image) => Path.ChangeExtension(image, ".txt");

    static string? ClassOf(string image) => image.IndexOf(Path.DirectorySeparatorChar) is > 0 and var end ? image[..end] : null;
}
