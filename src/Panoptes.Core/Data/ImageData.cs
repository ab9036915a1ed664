namespace Panoptes.Data;

/// <summary>A set of images in files with captions or labels, whatever its form: an <see cref="ImageCollection"/> or a <see cref="WebDataset"/>.</summary>
public abstract class ImageData
{
    private protected ImageData(string source, DataProblems problems) => (Source, Problems) = (source, problems);

    /// <summary>The folder, table or pattern.</summary>
    public string Source { get; }

    /// <summary>What was found to be of no use so far.</summary>
    public DataProblems Problems { get; }

    /// <summary>Whether the images have captions (or their class's name for one).</summary>
    public bool HasText { get; private protected init; }

    /// <summary>How many images there are, before any is looked at.</summary>
    public abstract int CountSamples(CancellationToken cancel = default);

    /// <summary>Every sample in order, still encoded. What cannot be used is counted in <see cref="Problems"/>.</summary>
    public abstract IEnumerable<ImageSample> Read(CancellationToken cancel = default);

    /// <summary>Reads what is listed, one after the other; what cannot be used is counted.</summary>
    private protected IEnumerable<ImageSample> ReadEach<T>(IEnumerable<T> places, Func<T, ImageSample> read, CancellationToken cancel)
    {
        foreach (var place in places)
        {
            cancel.ThrowIfCancellationRequested();
            ImageSample sample;
            try
            {
                sample = read(place);
            }
            catch (BadSampleException e)
            {
                Problems.Add(e.Problem);
                continue;
            }
            yield return sample;
        }
    }

    /// <summary>Opens what a path stands for: a table by its extension, shards where it is a .tar file, a pattern or a folder with .tar files in it, else a folder of images.</summary>
    /// <param name="source">The path.</param>
    /// <param name="table">How a table is read.</param>
    /// <param name="problems">Where problems are counted.</param>
    /// <exception cref="PanoptesException">There is no such thing, or nothing in it that can be used.</exception>
    public static ImageData Open(string source, ImageTableOptions? table = null, DataProblems? problems = null)
    {
        if (ImageTable.Extensions.Contains(Path.GetExtension(source), StringComparer.OrdinalIgnoreCase)) return ImageTable.Open(source, table, problems);
        var shards = Directory.Exists(source)
            ? HoldsShards(source)
            : Path.GetExtension(source).Equals(".tar", StringComparison.OrdinalIgnoreCase) || WebDataset.IsCompressed(source) || source.Contains('{');
        return shards ? WebDataset.Open(source, problems) : ImageFolder.Open(source, problems);
    }

    /// <summary>Shards under gzip count where there is nothing else, so that they are refused by name.</summary>
    static bool HoldsShards(string folder) => Directory.EnumerateFiles(folder, "*.tar").Any()
        || (Directory.EnumerateFiles(folder).Any(WebDataset.IsCompressed)
            && !Directory.EnumerateFileSystemEntries(folder).Any(static e => Directory.Exists(e) || Search.FolderIndexer.Extensions.Contains(Path.GetExtension(e))));
}
