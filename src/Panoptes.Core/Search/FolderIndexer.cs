using System.Buffers.Binary;
using System.IO.Enumeration;
using System.Security.Cryptography;
using System.Threading.Channels;
using Panoptes.Imaging;

namespace Panoptes.Search;

/// <summary>What an index needs of a model. The two steps are apart so that decoding and resizing run on other threads than the model.</summary>
/// <param name="Model">Kept with the vectors.</param>
/// <param name="Dimension">The length of a vector.</param>
/// <param name="Prepare">An image to the model's input (a tensor, a batch of patches); called from several threads. The result is the caller's to dispose.</param>
/// <param name="Embed">Such inputs to vectors, [inputs, dimension] in one array; they need not have length 1, and have the length that they are compared with where they are sparse.</param>
public sealed record ImageEmbedder(ModelIdentity Model, int Dimension, Func<Image, IDisposable> Prepare, Func<IReadOnlyList<IDisposable>, float[]> Embed)
{
    /// <summary>Images for one call of <see cref="Embed"/>.</summary>
    public int BatchSize { get; init; } = 64;

    /// <summary>Whether the vectors are sparse weights that are compared by inner products, as STAIR's are.</summary>
    public bool IsSparse { get; init; }
}

/// <summary>How far an update has come.</summary>
/// <param name="Done">Files looked into.</param>
/// <param name="Total">Files to look into: those that are new or changed.</param>
public readonly record struct IndexProgress(int Done, int Total);

/// <summary>A file that could not be decoded.</summary>
public sealed record BadImage(string Path, string Problem);

/// <summary>What an update did.</summary>
/// <param name="Images">Images that can be found now.</param>
/// <param name="Added">New images.</param>
/// <param name="Changed">Images whose contents changed.</param>
/// <param name="Removed">Images that are gone.</param>
/// <param name="Reused">Of the new and changed ones, those whose contents were known already (moved, copied or touched): not embedded again.</param>
/// <param name="Bad">Files that cannot be decoded, those of earlier updates included.</param>
public sealed record IndexReport(int Images, int Added, int Changed, int Removed, int Reused, IReadOnlyList<BadImage> Bad, TimeSpan Duration);

/// <summary>Brings an index up to date with the images of a folder and its subfolders.</summary>
public static class FolderIndexer
{
    /// <summary>The name of the folder beside the images where their index is kept.</summary>
    public const string DefaultFolderName = ".panoptes";

    static readonly TimeSpan CommitInterval = TimeSpan.FromSeconds(5);

    /// <summary>The file name extensions that count as images.</summary>
    public static IReadOnlySet<string> Extensions { get; } = new HashSet<string>(StringComparer.OrdinalIgnoreCase) { ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp" };

    /// <summary>
    /// Embeds what is new or changed (by size and time of change; a file that was merely moved or touched is known by its contents' hash),
    /// drops what is gone, and commits every few seconds, so that an update that is broken off goes on from there.
    /// </summary>
    /// <param name="indexFolder">Null: <c>.panoptes</c> in <paramref name="images"/>.</param>
    /// <param name="anew">Embed everything again.</param>
    /// <param name="strict">A file that cannot be decoded is an error instead of being counted and skipped.</param>
    /// <exception cref="PanoptesException">No such folder, an index of another model, a damaged index, or (strict) a bad image.</exception>
    /// <exception cref="OperationCanceledException">What was embedded until then is kept.</exception>
    public static async Task<IndexReport> UpdateAsync(string images, ImageEmbedder embedder, string? indexFolder = null, bool anew = false, bool strict = false,
        IProgress<IndexProgress>? progress = null, CancellationToken cancel = default)
    {
        var begin = System.Diagnostics.Stopwatch.GetTimestamp();
        var files = Scan(images, cancel);
        indexFolder ??= Path.Combine(images, DefaultFolderName);
        if (files.Count == 0 && !VectorIndex.Exists(indexFolder))
            throw new PanoptesException($"{images} holds no images: no file in it or below ends in {string.Join(", ", Extensions.Order(StringComparer.Ordinal))}.");
        using var writer = IndexWriter.Open(indexFolder, embedder.Model, embedder.Dimension, anew, embedder.IsSparse);
        var counts = new Counts();
        var known = new Dictionary<UInt128, long>();                                 // committed vectors by contents
        foreach (var entry in writer.Entries)
        {
            if (entry.Row >= 0) known[entry.Hash] = entry.Row;
            if (!files.ContainsKey(entry.Path) && writer.Remove(entry.Path) && entry.Row >= 0) counts.Removed++;
        }
        FoundFile[] work = [.. files.Values.Where(f => writer.Find(f.Path) is not { } e || e.Size != f.Size || e.Modified != f.Modified || (strict && e.Row < 0)).OrderBy(static f => f.Path, StringComparer.Ordinal)];
        using (var old = known.Count > 0 && work.Length > 0 ? VectorIndex.Open(indexFolder) : null)
        {
            try
            {
                await Embed(images, work, embedder, writer, known, old, strict, counts, progress, cancel);
            }
            catch (Exception e) when (e is OperationCanceledException or PanoptesException)
            {
                writer.Commit();                                                     // what was done is kept
                throw;
            }
        }
        writer.Commit();
        if (writer.IsSparse) writer.Compact(cancel);
        var entries = writer.Entries;
        return new(entries.Count(static e => e.Row >= 0), counts.Added, counts.Changed, counts.Removed, counts.Reused,
            [.. entries.Where(static e => e.Row < 0).OrderBy(static e => e.Path, StringComparer.Ordinal).Select(static e => new BadImage(e.Path, e.Problem ?? ""))],
            System.Diagnostics.Stopwatch.GetElapsedTime(begin));
    }

    /// <summary>The image files of a folder and its subfolders, relative to it, with '/' between the parts, in order.</summary>
    /// <exception cref="PanoptesException">There is no such folder, or it cannot be read.</exception>
    public static IReadOnlyList<string> Files(string images, CancellationToken cancel = default) => [.. Scan(images, cancel).Keys.Order(StringComparer.Ordinal)];

    /// <summary>One image file below the folder.</summary>
    sealed record FoundFile(string Path, long Size, long Modified);

    sealed class Counts
    {
        public int Added, Changed, Removed, Reused;
    }

    /// <summary>A file that a worker has read: its input for the model, the row of a vector that is already there, or what is wrong with it.</summary>
    sealed record Prepared(FoundFile File, UInt128 Hash, IDisposable? Input, long KnownRow, string? Problem);

    static async Task Embed(string images, FoundFile[] work, ImageEmbedder embedder, IndexWriter writer, Dictionary<UInt128, long> known, VectorIndex? old,
        bool strict, Counts counts, IProgress<IndexProgress>? progress, CancellationToken cancel)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        // Workers run ahead by at most two batches; results come in the order of the files.
        var queue = Channel.CreateBounded<Task<Prepared>>(embedder.BatchSize * 2);
        var producer = Task.Run(async () =>
        {
            foreach (var file in work)
            {
                var prepared = Task.Run(() => Prepare(images, file, embedder, known), stop.Token);
                try
                {
                    await queue.Writer.WriteAsync(prepared, stop.Token);
                }
                catch (OperationCanceledException)
                {
                    await Drop(prepared);
                    break;
                }
            }
            queue.Writer.Complete();
        }, CancellationToken.None);
        var batch = new List<Prepared>(embedder.BatchSize);
        var lastCommit = System.Diagnostics.Stopwatch.GetTimestamp();
        var done = 0;
        try
        {
            while (await queue.Reader.WaitToReadAsync(cancel))
            {
                while (queue.Reader.TryRead(out var next))
                {
                    var prepared = await next;
                    if (prepared.Input is not null) batch.Add(prepared);
                    else
                    {
                        if (prepared.Problem is { } problem && strict) throw new PanoptesException(problem);
                        Note(writer, prepared, old, counts);
                        progress?.Report(new(++done, work.Length));
                    }
                    cancel.ThrowIfCancellationRequested();
                    if (batch.Count == embedder.BatchSize) FlushBatch();
                    if (System.Diagnostics.Stopwatch.GetElapsedTime(lastCommit) <= CommitInterval) continue;
                    writer.Commit();
                    lastCommit = System.Diagnostics.Stopwatch.GetTimestamp();
                }
            }
            FlushBatch();
        }
        finally
        {
            await stop.CancelAsync();
            await producer;
            while (queue.Reader.TryRead(out var rest)) await Drop(rest);
            foreach (var prepared in batch) prepared.Input?.Dispose();
        }

        // Files that no worker has begun with are not read any more.
        static async Task Drop(Task<Prepared> prepared)
        {
            try
            {
                (await prepared).Input?.Dispose();
            }
            catch (OperationCanceledException) { }
        }

        void FlushBatch()
        {
            if (batch.Count == 0) return;
            var vectors = embedder.Embed([.. batch.Select(static p => p.Input!)]);
            for (var i = 0; i < batch.Count; i++)
            {
                var (file, hash) = (batch[i].File, batch[i].Hash);
                Count(writer, file, counts);
                writer.Add(file.Path, file.Size, file.Modified, hash, vectors.AsSpan(i * embedder.Dimension, embedder.Dimension));
                batch[i].Input!.Dispose();
            }
            done += batch.Count;
            batch.Clear();
            progress?.Report(new(done, work.Length));
        }
    }

    static void Note(IndexWriter writer, Prepared prepared, VectorIndex? old, Counts counts)
    {
        var file = prepared.File;
        if (prepared.Problem is { } problem)
        {
            writer.AddProblem(file.Path, file.Size, file.Modified, problem);
            return;
        }
        Count(writer, file, counts);
        counts.Reused++;
        writer.AddRaw(file.Path, file.Size, file.Modified, prepared.Hash, old!.VectorBytes(prepared.KnownRow));
    }

    static void Count(IndexWriter writer, FoundFile file, Counts counts)
    {
        if (writer.Find(file.Path) is { Row: >= 0 }) counts.Changed++;
        else counts.Added++;
    }

    static Prepared Prepare(string images, FoundFile file, ImageEmbedder embedder, Dictionary<UInt128, long> known)
    {
        var path = Path.Combine(images, file.Path);
        try
        {
            var bytes = File.ReadAllBytes(path);
            Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
            SHA256.HashData(bytes, digest);
            var hash = BinaryPrimitives.ReadUInt128LittleEndian(digest);
            if (known.TryGetValue(hash, out var row)) return new(file, hash, null, row, null);
            return new(file, hash, embedder.Prepare(Image.Decode(bytes, path)), -1, null);
        }
        catch (Exception e) when (e is PanoptesException or IOException or UnauthorizedAccessException)
        {
            return new(file, default, null, -1, e is PanoptesException ? e.Message : $"{path} cannot be read: {e.Message}");
        }
    }

    static Dictionary<string, FoundFile> Scan(string root, CancellationToken cancel)
    {
        if (!Directory.Exists(root)) throw new PanoptesException(File.Exists(root) ? $"{root} is a file; expected a folder of images." : $"The folder {root} does not exist.");
        var full = Path.GetFullPath(root);
        var prefix = Path.EndsInDirectorySeparator(full) ? full.Length : full.Length + 1;
        var found = new Dictionary<string, FoundFile>(StringComparer.Ordinal);
        var options = new EnumerationOptions { RecurseSubdirectories = true, IgnoreInaccessible = true, AttributesToSkip = 0 };
        var files = new FileSystemEnumerable<FoundFile>(full,
            (ref FileSystemEntry e) => new(Relative(e.Directory, e.FileName, prefix), e.Length, e.LastWriteTimeUtc.UtcTicks), options)
        {
            ShouldIncludePredicate = static (ref FileSystemEntry e) => !e.IsDirectory && e.FileName[0] != '.' && Extensions.Contains(Path.GetExtension(e.FileName).ToString()),
            // Hidden folders (an index among them) are not looked into, nor links to folders, which may lead in circles.
            ShouldRecursePredicate = static (ref FileSystemEntry e) => e.FileName[0] != '.' && (e.Attributes & FileAttributes.ReparsePoint) == 0,
        };
        try
        {
            foreach (var file in files)
            {
                cancel.ThrowIfCancellationRequested();
                found[file.Path] = file;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The folder {root} cannot be read: {e.Message}", e);
        }
        return found;
    }

    static string Relative(ReadOnlySpan<char> directory, ReadOnlySpan<char> name, int prefix)
    {
        var below = directory.Length >= prefix ? directory[prefix..] : [];
        var path = below.IsEmpty ? name.ToString() : $"{below}/{name}";
        return Path.DirectorySeparatorChar == '/' ? path : path.Replace(Path.DirectorySeparatorChar, '/');
    }
}
