using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Panoptes.Checkpoints;
using Panoptes.Native;

namespace Panoptes.Search;

/// <summary>One image found.</summary>
/// <param name="Path">Relative to the indexed folder, with '/' between the parts.</param>
/// <param name="Score">The cosine between query and image, -1 to 1 (for queries of length 1); of sparse weights the inner product.</param>
public sealed record SearchHit(string Path, float Score);

/// <summary>
/// An index opened for search: the vectors of a folder's images in one memory-mapped file, and a journal of which file each belongs to. A search
/// is exact: every vector is compared, block by block through libtorch, straight from the mapping, so that memory beyond the system's
/// page cache is a few megabytes whatever the index holds. Sparse weights are searched through an <see cref="InvertedIndex"/> of them, which is
/// kept beside the vectors and made anew where they have changed. An update by another process does not disturb it: it sees the state at opening.
/// </summary>
/// <remarks>
/// Vectors have unit length (sparse weights are as they are) and are kept in half precision, which is twice as small as float32 and, for components below 1, eight times as
/// precise as bfloat16 (a cosine is off by about 1e-5); products are float32. Safe for use by one thread at a time.
/// </remarks>
public sealed class VectorIndex : IDisposable
{
    const long BlockElements = 1 << 20;                                              // 4 MB of float32: stays in the processor's cache

    readonly string folder;
    readonly IndexManifest manifest;
    readonly MappedFile vectors;
    readonly MappedFile journal;
    readonly long[] records;                                                         // by row: where its record starts, -1 when removed
    InvertedIndex? inverted;                                                         // of sparse vectors, from the first search on

    VectorIndex(string folder, IndexManifest manifest, MappedFile vectors, MappedFile journal)
    {
        (this.folder, this.manifest, this.vectors, this.journal) = (folder, manifest, vectors, journal);
        records = new long[manifest.Rows];
        Scan();
    }

    /// <summary>Which model made the vectors.</summary>
    public ModelIdentity Model => new(manifest.ModelName, manifest.ModelFingerprint);

    /// <summary>The length of a vector.</summary>
    public int Dimension => manifest.Dimension;

    /// <summary>Whether the vectors are sparse weights, compared by inner products without normalization.</summary>
    public bool IsSparse => manifest.Sparse;

    /// <summary>Images that can be found.</summary>
    public int Count { get; private set; }

    /// <summary>Files that could not be decoded when they were last looked at.</summary>
    public int ProblemCount { get; private set; }

    /// <summary>Vectors in the file, those of removed images included.</summary>
    public long Rows => manifest.Rows;

    /// <summary>Bytes on the disk.</summary>
    public long FileSize => manifest.VectorLength + manifest.JournalLength;

    /// <summary>Whether <paramref name="folder"/> holds an index.</summary>
    public static bool Exists(string folder) => IndexManifest.Exists(folder);

    /// <summary>Opens the index in <paramref name="folder"/> as it is at this moment.</summary>
    /// <exception cref="PanoptesException">There is none, or it is damaged.</exception>
    public static VectorIndex Open(string folder)
    {
        for (var attempt = 0; ; attempt++)
        {
            var manifest = IndexManifest.Read(folder);
            MappedFile? vectors = null, journal = null;
            try
            {
                vectors = Map(manifest.VectorFile(folder), manifest.VectorLength);
                journal = Map(manifest.JournalFile(folder), manifest.JournalLength);
                return new(folder, manifest, vectors, journal);
            }
            catch (Exception e)
            {
                vectors?.Dispose();
                journal?.Dispose();
                // Between reading the manifest and the files it names, a compaction may have replaced them.
                if (e is PanoptesException && attempt < 3 && IndexManifest.Exists(folder) && IndexManifest.Read(folder).Generation != manifest.Generation) continue;
                throw e is InvalidDataException ? Damaged(folder, e.Message, e) : e;
            }
        }
    }

    /// <summary>The best matches of each query, best first; equal scores in the order of indexing. Sparse vectors that have nothing in common with a query do not match it.</summary>
    /// <param name="queries">[queries, dimension], of length 1 unless the vectors are sparse</param>
    /// <param name="top">How many to return for each query at most.</param>
    /// <exception cref="PanoptesException">The vectors are damaged.</exception>
    public SearchHit[][] Search(ReadOnlySpan<float> queries, int top, CancellationToken cancel = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(top, 1);
        if (queries.Length == 0 || queries.Length % Dimension != 0)
            throw new ArgumentException($"Queries of {queries.Length} numbers were given to an index of vectors of {Dimension}.", nameof(queries));
        var count = queries.Length / Dimension;
        if (IsSparse) return SearchInverted(queries, top, cancel);
        var best = new TopK[count];
        for (var q = 0; q < count; q++) best[q] = new((int)Math.Min(top, Math.Max(1, Rows)));
        using (no_grad())
        {
            using var scope = NewDisposeScope();
            var transposed = tensor(queries.ToArray(), [count, Dimension]).t().contiguous();                // [d, queries]
            var rows = (int)Math.Clamp(BlockElements / Dimension, 1, Math.Max(1, Rows));
            var block = empty(rows, Dimension);
            for (long start = 0; start < Rows; start += rows)
            {
                cancel.ThrowIfCancellationRequested();
                using var inner = NewDisposeScope();
                var length = (int)Math.Min(rows, Rows - start);
                var values = block.narrow(0, 0, length);
                values.copy_(vectors.Tensor(start * Dimension * sizeof(ushort), [length, Dimension], ScalarType.Float16, sizeof(ushort)));
                Merge(values.mm(transposed), length, start, best);                   // [rows, queries]
            }
        }
        var hits = new SearchHit[count][];
        for (var q = 0; q < count; q++)
        {
            var limit = 1.02f * Norm(queries.Slice(q * Dimension, Dimension)) + 1e-3f;
            hits[q] = [.. best[q].Sorted().Select(b => Math.Abs(b.Score) <= limit ? new SearchHit(Entry(b.Row).Path, b.Score)
                : throw Damaged(folder, $"vector {b.Row} of {Path.GetFileName(manifest.VectorFile(folder))} is not of length 1"))];
        }
        return hits;
    }

    SearchHit[][] SearchInverted(ReadOnlySpan<float> queries, int top, CancellationToken cancel)
    {
        inverted ??= OpenInverted();
        var hits = new SearchHit[queries.Length / Dimension][];
        for (var q = 0; q < hits.Length; q++)
        {
            cancel.ThrowIfCancellationRequested();
            hits[q] = [.. inverted.Search(queries.Slice(q * Dimension, Dimension), top).Select(p => new SearchHit(Entry(p.Vector).Path, p.Score))];
        }
        return hits;
    }

    /// <summary>Reads the inverted index of exactly these vectors, or makes it and keeps it where the folder may be written.</summary>
    InvertedIndex OpenInverted()
    {
        var path = manifest.InvertedFile(folder);
        try
        {
            if (File.Exists(path) && InvertedIndex.Load(path) is var kept && kept.Count == Rows && kept.Dimensions == Dimension) return kept;
        }
        catch (PanoptesException) { }                                                // damaged: made anew
        var weights = new float[Dimension];
        InvertedIndex made;
        try
        {
            made = InvertedIndex.Build(checked((int)Rows), Dimension, Read);
        }
        catch (PanoptesException e)
        {
            throw Damaged(folder, e.Message.TrimEnd('.'), e);
        }
        try
        {
            made.Save(path);
        }
        catch (PanoptesException) { }                                                // a folder that is only read: made again the next time
        return made;

        ReadOnlySpan<float> Read(int row)
        {
            if (records[row] < 0) return [];
            TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(VectorBytes(row)), weights);
            return weights;
        }
    }

    /// <summary>Every image that can be found, in the order of indexing.</summary>
    public IEnumerable<IndexEntry> Entries()
    {
        for (long row = 0; row < Rows; row++)
            if (records[row] >= 0) yield return Entry(row);
    }

    /// <summary>Compares every vector with the checksums that the journal keeps.</summary>
    /// <exception cref="PanoptesException">They differ.</exception>
    public void Verify()
    {
        long row = 0;
        for (long at = 0; at < manifest.JournalLength;)
        {
            var (payload, expected, added) = IndexJournal.ReadHeader(journal.Bytes(at, (int)Math.Min(int.MaxValue, manifest.JournalLength - at)));
            uint crc = 0;
            for (long begin = row * Dimension * sizeof(ushort), end = begin + ((long)added * Dimension * sizeof(ushort)); begin < end;)
            {
                var length = (int)Math.Min(1 << 24, end - begin);
                crc = Crc32C.Of(vectors.Bytes(begin, length), crc);
                begin += length;
            }
            if (crc != expected) throw Damaged(folder, $"vectors {row} to {row + added - 1} of {Path.GetFileName(manifest.VectorFile(folder))} do not have their checksum");
            row += added;
            at += IndexJournal.HeaderSize + payload;
        }
    }

    public void Dispose()
    {
        vectors.Dispose();
        journal.Dispose();
    }

    /// <summary>A vector's bytes, for copying it elsewhere.</summary>
    internal ReadOnlySpan<byte> VectorBytes(long row) => vectors.Bytes(row * Dimension * sizeof(ushort), Dimension * sizeof(ushort));

    /// <summary>Records of images and problems in the journal, removed ones included.</summary>
    internal uint RecordCount { get; private set; }

    /// <summary>Calls <paramref name="add"/> with every record's number and entry that was not removed.</summary>
    internal void ForEachLive(Action<uint, IndexEntry> add)
    {
        var removed = new HashSet<uint>();
        Walk((in IndexJournal.Record record, long _, uint _, long _) =>
        {
            if (record.IsRemoval) removed.Add(record.Removed);
        });
        Walk((in IndexJournal.Record record, long _, uint number, long row) =>
        {
            if (!record.IsRemoval && !removed.Contains(number)) add(number, record.ToEntry(row));
        });
    }

    delegate void Visit(in IndexJournal.Record record, long offset, uint number, long row);

    /// <summary>Goes through the journal; images and problems are numbered from 0, images have rows from 0.</summary>
    void Walk(Visit visit)
    {
        uint number = 0;
        long row = 0;
        for (long at = 0; at < manifest.JournalLength;)
        {
            var bytes = journal.Bytes(at, (int)Math.Min(int.MaxValue, manifest.JournalLength - at));
            var (payload, _, added) = IndexJournal.ReadHeader(bytes);
            var rest = bytes.Slice(IndexJournal.HeaderSize, payload);
            var firstRow = row;
            while (!rest.IsEmpty)
            {
                var offset = at + IndexJournal.HeaderSize + payload - rest.Length;
                var record = IndexJournal.Read(ref rest);
                visit(record, offset, number, row);
                if (record.IsRemoval) continue;
                number = checked(number + 1);
                if (!record.IsProblem) row++;
            }
            if (row - firstRow != added) throw new InvalidDataException($"a block claims {added} vectors and lists {row - firstRow}");
            at += IndexJournal.HeaderSize + payload;
        }
        if (row != Rows) throw new InvalidDataException($"the journal lists {row} vectors and the manifest {Rows}");
    }

    void Scan()
    {
        var rowOf = new List<int>();                                                 // by record number: its row, -1 for a problem, -2 when removed
        Walk((in IndexJournal.Record record, long offset, uint number, long row) =>
        {
            if (!record.IsRemoval)
            {
                if (!record.IsProblem && row >= Rows) throw new InvalidDataException($"the journal lists more vectors than the manifest's {Rows}");
                rowOf.Add(record.IsProblem ? -1 : (int)row);
                if (record.IsProblem) ProblemCount++;
                else (records[row], Count) = (offset, Count + 1);
                return;
            }
            if (record.Removed >= rowOf.Count || rowOf[(int)record.Removed] == -2) throw new InvalidDataException($"the journal removes the record {record.Removed}, which is not there");
            if (rowOf[(int)record.Removed] is >= 0 and var gone) (records[gone], Count) = (-1, Count - 1);
            else ProblemCount--;
            rowOf[(int)record.Removed] = -2;
        });
        RecordCount = (uint)rowOf.Count;
    }

    IndexEntry Entry(long row)
    {
        var offset = records[row];
        var bytes = journal.Bytes(offset, (int)Math.Min(1 << 18, manifest.JournalLength - offset));
        return IndexJournal.Read(ref bytes).ToEntry(row);
    }

    unsafe void Merge(Tensor products, int length, long start, TopK[] best)
    {
        var all = new ReadOnlySpan<float>((void*)NativeTensor.Data(products), length * best.Length);      // [rows, queries]
        for (var q = 0; q < best.Length; q++)
        {
            var top = best[q];
            for (int i = 0, at = q; i < length; i++, at += best.Length)
                if (all[at] > top.Threshold && records[start + i] >= 0) top.Add(all[at], start + i);
        }
    }

    static float Norm(ReadOnlySpan<float> vector)
    {
        double sum = 0;
        foreach (var x in vector) sum += (double)x * x;
        return (float)Math.Sqrt(sum);
    }

    static MappedFile Map(string path, long expected)
    {
        var file = MappedFile.Open(path);
        if (file.Length >= expected) return file;
        file.Dispose();
        throw new PanoptesException($"{path} is damaged: it has {file.Length} bytes, expected {expected}. Delete {Path.GetDirectoryName(path)} to index anew.");
    }

    internal static PanoptesException Damaged(string folder, string found, Exception? inner = null) =>
        new($"The index in {folder} is damaged: {found}. Delete that folder to index anew.", inner!);
}
