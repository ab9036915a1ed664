using System.Runtime.InteropServices;
using Panoptes.Checkpoints;

namespace Panoptes.Search;

/// <summary>
/// Changes an index. What is added and removed counts from the next <see cref="Commit"/> on, all of it or none: data is appended behind
/// what counts and flushed to the disk, then the manifest is replaced by a move. A process that dies at any moment leaves the last commit.
/// </summary>
public sealed class IndexWriter : IDisposable
{
    const string LockFile = "lock";

    readonly string folder;
    readonly FileStream guard;
    readonly IndexJournal.BlockWriter block = new();
    readonly MemoryStream vectors = new();
    readonly Dictionary<string, (uint Record, IndexEntry Entry)> entries = new(StringComparer.Ordinal);
    IndexManifest manifest;
    FileStream? vectorFile, journalFile;
    uint nextRecord;
    bool pending, fresh;

    IndexWriter(string folder, FileStream guard, IndexManifest manifest, bool read)
    {
        (this.folder, this.guard, this.manifest) = (folder, guard, manifest);
        pending = fresh = !read;
        if (!read) return;
        using var index = VectorIndex.Open(folder);
        index.ForEachLive((record, entry) => entries[entry.Path] = (record, entry));
        nextRecord = index.RecordCount;
    }

    /// <summary>The live entries by path, problems included.</summary>
    public IReadOnlyCollection<IndexEntry> Entries => [.. entries.Values.Select(static e => e.Entry)];

    public int Dimension => manifest.Dimension;

    /// <summary>Vectors in the file, those of removed images included.</summary>
    public long Rows => manifest.Rows + block.Vectors;

    /// <summary>Opens the index in <paramref name="folder"/> for changes, or begins one.</summary>
    /// <param name="sparse">Whether vectors are weights of which most are 0, none below, that are compared by inner products as they are.</param>
    /// <param name="anew">Forget what is there. The old index stays valid until the first commit.</param>
    /// <exception cref="PanoptesException">It was made by another model, is damaged, cannot be written, or another process is changing it.</exception>
    public static IndexWriter Open(string folder, ModelIdentity model, int dimension, bool anew = false, bool sparse = false)
    {
        FileStream guard;
        try
        {
            Directory.CreateDirectory(folder);
            guard = new(Path.Combine(folder, LockFile), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new PanoptesException($"The index folder {folder} cannot be written: {e.Message} Choose another with --index.", e);
        }
        catch (IOException e)
        {
            throw new PanoptesException(File.Exists(Path.Combine(folder, LockFile))
                ? $"Another process is updating the index in {folder}; try again when it has finished."
                : $"The index folder {folder} cannot be made: {e.Message}", e);
        }
        try
        {
            var exists = IndexManifest.Exists(folder);
            if (exists && !anew)
            {
                var manifest = IndexManifest.Read(folder);
                if (manifest.ModelFingerprint != model.Fingerprint || manifest.Dimension != dimension || manifest.Sparse != sparse)
                    throw new PanoptesException($"The index in {folder} was made with the model {manifest.ModelName} ({manifest.Dimension} numbers a vector, fingerprint {manifest.ModelFingerprint[..Math.Min(8, manifest.ModelFingerprint.Length)]}), not with {model.Name} ({dimension}, {model.Fingerprint[..Math.Min(8, model.Fingerprint.Length)]}): use that model, another --index, or --reindex.");
                RemoveStrays(folder, manifest);
                return new(folder, guard, manifest, read: true);
            }
            return new(folder, guard, new()
            {
                ModelName = model.Name,
                ModelFingerprint = model.Fingerprint,
                Dimension = dimension,
                Sparse = sparse,
                Generation = NextGeneration(folder),
                Rows = 0,
                JournalLength = 0,
            }, read: false);
        }
        catch
        {
            guard.Dispose();
            throw;
        }
    }

    /// <summary>The live entry of a path, or null.</summary>
    public IndexEntry? Find(string path) => entries.TryGetValue(path, out var found) ? found.Entry : null;

    /// <summary>Adds an image, in the place of what is there under its path.</summary>
    /// <param name="vector">[dimension]; it is scaled to length 1, or, where the index is sparse, kept as it is</param>
    /// <exception cref="PanoptesException">The vector is zero (unless sparse) or holds what is not a number.</exception>
    public void Add(string path, long size, long modified, UInt128 hash, ReadOnlySpan<float> vector)
    {
        if (vector.Length != Dimension) throw new ArgumentException($"A vector of {vector.Length} numbers was given to an index of {Dimension}.", nameof(vector));
        double sum = 0;
        foreach (var x in vector) sum += (double)x * x;
        if (!double.IsFinite(sum) || (sum == 0 && !manifest.Sparse)) throw new PanoptesException($"The model gave a vector for {path} that cannot be compared (its length is {Math.Sqrt(sum)}).");
        var scale = manifest.Sparse ? 1 : (float)(1 / Math.Sqrt(sum));
        Span<Half> halves = Dimension <= 1024 ? stackalloc Half[Dimension] : new Half[Dimension];
        for (var i = 0; i < halves.Length; i++) halves[i] = (Half)(vector[i] * scale);
        AddRaw(path, size, modified, hash, MemoryMarshal.AsBytes(halves));
    }

    /// <summary>Adds a file whose contents equal those of an entry that is already there, sharing nothing but its vector's value.</summary>
    internal void AddRaw(string path, long size, long modified, UInt128 hash, ReadOnlySpan<byte> vector)
    {
        Remove(path);
        var entry = new IndexEntry(path, size, modified, hash, Rows);
        vectors.Write(vector);
        Append(entry);
    }

    /// <summary>Notes a file that cannot be decoded, so that it is left alone until it changes.</summary>
    public void AddProblem(string path, long size, long modified, string problem)
    {
        Remove(path);
        Append(new(path, size, modified, default, -1, problem.Length > 2000 ? problem[..2000] : problem));
    }

    /// <summary>Removes what is there under <paramref name="path"/>; its vector stays in the file, unused, until <see cref="Compact"/>.</summary>
    public bool Remove(string path)
    {
        if (!entries.Remove(path, out var old)) return false;
        block.Remove(old.Record);
        pending = true;
        return true;
    }

    /// <summary>Makes everything since the last commit count.</summary>
    /// <exception cref="PanoptesException">The disk is full or cannot be written; the last commit stays.</exception>
    public void Commit()
    {
        if (!pending) return;
        try
        {
            var next = Flush();
            vectorFile!.Flush(flushToDisk: true);
            journalFile!.Flush(flushToDisk: true);
            next.Write(folder);
            (manifest, pending) = (next, false);
            if (fresh) RemoveStrays(folder, manifest);
            fresh = false;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The index in {folder} cannot be written: {e.Message}", e);
        }
    }

    /// <summary>Whether removed images hold enough of the file for <see cref="Compact"/> to be worth its while (a third, and at least a thousand).</summary>
    public bool IsSparse => Dead >= 1000 && Dead * 3 >= Rows;

    long Dead => Rows - entries.Values.LongCount(static e => e.Entry.Row >= 0);

    /// <summary>Commits, then rewrites the index without what was removed. The old files count until the new ones are whole.</summary>
    /// <exception cref="PanoptesException">It cannot be written, or the vectors are damaged.</exception>
    public void Compact(CancellationToken cancel = default)
    {
        Commit();
        var next = manifest with { Generation = NextGeneration(folder), Rows = 0, JournalLength = 0 };
        using (var old = VectorIndex.Open(folder))
        {
            old.Verify();
            CloseFiles();
            var target = new IndexWriter(folder, guard, next, read: false);
            try
            {
                foreach (var (_, entry) in entries.Values.OrderBy(static e => e.Record))
                {
                    cancel.ThrowIfCancellationRequested();
                    if (entry.Row < 0) target.AddProblem(entry.Path, entry.Size, entry.Modified, entry.Problem ?? "");
                    else target.AddRaw(entry.Path, entry.Size, entry.Modified, entry.Hash, old.VectorBytes(entry.Row));
                    if (target.vectors.Length > 1 << 26) target.manifest = target.Flush();
                }
                target.Commit();
            }
            finally
            {
                target.CloseFiles();                                                 // the lock stays with this writer
            }
            (manifest, nextRecord) = (target.manifest, target.nextRecord);
            entries.Clear();
            foreach (var (path, entry) in target.entries) entries.Add(path, entry);
        }
        RemoveStrays(folder, manifest);
    }

    /// <summary>Ends; what was not committed is forgotten.</summary>
    public void Dispose()
    {
        CloseFiles();
        guard.Dispose();
    }

    void Append(IndexEntry entry)
    {
        block.Add(entry);
        pending = true;
        entries.Add(entry.Path, (nextRecord, entry));
        nextRecord = checked(nextRecord + 1);
    }

    /// <summary>Appends what has gathered behind what counts, without making it count; returns the manifest that would.</summary>
    IndexManifest Flush()
    {
        OpenFiles();
        var added = block.Vectors;
        var buffer = vectors.GetBuffer().AsSpan(0, (int)vectors.Length);
        vectorFile!.Position = manifest.VectorLength;
        vectorFile.Write(buffer);
        journalFile!.Position = manifest.JournalLength;
        if (!block.IsEmpty) block.WriteTo(journalFile, Crc32C.Of(buffer));
        vectors.SetLength(0);
        return manifest with { Rows = manifest.Rows + added, JournalLength = journalFile.Position };
    }

    void OpenFiles()
    {
        if (vectorFile is not null) return;
        // What lies behind the committed lengths comes from a process that died; it is overwritten.
        vectorFile = new(manifest.VectorFile(folder), FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, 1 << 16);
        journalFile = new(manifest.JournalFile(folder), FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, 1 << 16);
        vectorFile.SetLength(manifest.VectorLength);
        journalFile.SetLength(manifest.JournalLength);
        vectorFile.Position = manifest.VectorLength;
        journalFile.Position = manifest.JournalLength;
    }

    void CloseFiles()
    {
        vectorFile?.Dispose();
        journalFile?.Dispose();
        (vectorFile, journalFile) = (null, null);
    }

    static int NextGeneration(string folder)
    {
        var last = 0;
        foreach (var file in DataFiles(folder)) last = Math.Max(last, file.Generation);
        return last + 1;
    }

    /// <summary>Deletes data files of other generations, which a compaction or a new beginning left behind, and what was made of vectors that have changed since.</summary>
    static void RemoveStrays(string folder, IndexManifest manifest)
    {
        var inverted = manifest.InvertedFile(folder);
        foreach (var path in (IEnumerable<string>)[.. DataFiles(folder).Where(f => f.Generation != manifest.Generation).Select(static f => f.Path),
            .. Directory.EnumerateFiles(folder, IndexManifest.InvertedFiles).Where(f => f != inverted)])
        {
            try { File.Delete(path); }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException) { }     // still mapped elsewhere (Windows): the next update deletes it
        }
    }

    static IEnumerable<(string Path, int Generation)> DataFiles(string folder)
    {
        foreach (var path in Directory.EnumerateFiles(folder))
        {
            var name = Path.GetFileNameWithoutExtension(path);
            if (Path.GetExtension(path) is ".f16" or ".log" && (name.StartsWith("vectors-", StringComparison.Ordinal) || name.StartsWith("entries-", StringComparison.Ordinal))
                && int.TryParse(name.AsSpan(8), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var generation)) yield return (path, generation);
        }
    }
}
