using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace Panoptes.Search;

/// <summary>What an index knows of one file.</summary>
/// <param name="Path">Relative to the indexed folder, with '/' between the parts.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Modified">UTC ticks of the last change.</param>
/// <param name="Hash">The first 128 bits of the contents' SHA-256; zero for a file that could not be read.</param>
/// <param name="Row">Of its vector, or -1 for an image that could not be decoded.</param>
/// <param name="Problem">Why it could not be decoded, or null.</param>
public sealed record IndexEntry(string Path, long Size, long Modified, UInt128 Hash, long Row, string? Problem = null);

/// <summary>
/// The journal beside the vectors: blocks of records, each block one commit, only ever appended. A block is its payload's length, the
/// payload's checksum, the checksum of the vectors added with it, their number (four uint32), and the payload. Records: 1 an image with a vector,
/// 2 a file that could not be decoded, 3 the removal of the record with that number (1s and 2s count from 0).
/// </summary>
static class IndexJournal
{
    public const int HeaderSize = 16;
    const byte ImageRecord = 1, ProblemRecord = 2, RemovedRecord = 3;

    /// <summary>Puts the records of one block together.</summary>
    internal sealed class BlockWriter
    {
        readonly ArrayBufferWriter<byte> payload = new();

        public uint Vectors { get; private set; }

        public bool IsEmpty => payload.WrittenCount == 0;

        public void Add(IndexEntry entry)
        {
            var problem = entry.Row < 0;
            Span<byte> head = stackalloc byte[17];
            head[0] = problem ? ProblemRecord : ImageRecord;
            BinaryPrimitives.WriteInt64LittleEndian(head[1..], entry.Size);
            BinaryPrimitives.WriteInt64LittleEndian(head[9..], entry.Modified);
            payload.Write(head);
            Text(entry.Path);
            if (problem)
            {
                Text(entry.Problem ?? "");
                return;
            }
            BinaryPrimitives.WriteUInt128LittleEndian(payload.GetSpan(16), entry.Hash);
            payload.Advance(16);
            Vectors++;
        }

        public void Remove(uint record)
        {
            Span<byte> bytes = stackalloc byte[5];
            bytes[0] = RemovedRecord;
            BinaryPrimitives.WriteUInt32LittleEndian(bytes[1..], record);
            payload.Write(bytes);
        }

        void Text(string text)
        {
            var length = Encoding.UTF8.GetByteCount(text);
            if (length > ushort.MaxValue) throw new PanoptesException($"A path of {length} bytes cannot be indexed: '{text[..60]}…'.");
            BinaryPrimitives.WriteUInt16LittleEndian(payload.GetSpan(2), (ushort)length);
            payload.Advance(2);
            payload.Advance(Encoding.UTF8.GetBytes(text, payload.GetSpan(length)));
        }

        /// <summary>Writes the block and empties this.</summary>
        public void WriteTo(Stream stream, uint vectorChecksum)
        {
            Span<byte> header = stackalloc byte[HeaderSize];
            BinaryPrimitives.WriteUInt32LittleEndian(header, (uint)payload.WrittenCount);
            BinaryPrimitives.WriteUInt32LittleEndian(header[4..], Crc32C.Of(payload.WrittenSpan));
            BinaryPrimitives.WriteUInt32LittleEndian(header[8..], vectorChecksum);
            BinaryPrimitives.WriteUInt32LittleEndian(header[12..], Vectors);
            stream.Write(header);
            stream.Write(payload.WrittenSpan);
            payload.ResetWrittenCount();
            Vectors = 0;
        }
    }

    /// <summary>One record as it lies in the journal; the text stays there until it is asked for.</summary>
    internal readonly ref struct Record
    {
        public bool IsRemoval { get; init; }

        /// <summary>The number of the record that a removal takes away.</summary>
        public uint Removed { get; init; }

        public bool IsProblem { get; init; }
        public long Size { get; init; }
        public long Modified { get; init; }
        public UInt128 Hash { get; init; }
        public ReadOnlySpan<byte> PathBytes { get; init; }
        public ReadOnlySpan<byte> ProblemBytes { get; init; }

        public IndexEntry ToEntry(long row) => new(Encoding.UTF8.GetString(PathBytes), Size, Modified, Hash, IsProblem ? -1 : row, IsProblem ? Encoding.UTF8.GetString(ProblemBytes) : null);
    }

    /// <summary>The header of the block at the start of <paramref name="bytes"/>, its lengths and payload checked.</summary>
    /// <exception cref="InvalidDataException">It is damaged.</exception>
    public static (int Payload, uint VectorChecksum, uint Vectors) ReadHeader(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < HeaderSize) throw new InvalidDataException("a block is cut off");
        var length = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        if (length > bytes.Length - HeaderSize) throw new InvalidDataException($"a block of {length} bytes is cut off");
        if (Crc32C.Of(bytes.Slice(HeaderSize, (int)length)) != BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..])) throw new InvalidDataException("a checksum does not fit");
        return ((int)length, BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]), BinaryPrimitives.ReadUInt32LittleEndian(bytes[12..]));
    }

    /// <summary>Reads the record at the start of <paramref name="bytes"/> and moves past it.</summary>
    /// <exception cref="InvalidDataException">It is damaged.</exception>
    public static Record Read(ref ReadOnlySpan<byte> bytes)
    {
        var kind = bytes[0];
        if (kind == RemovedRecord)
        {
            var removed = BinaryPrimitives.ReadUInt32LittleEndian(Take(ref bytes, 5)[1..]);
            return new() { IsRemoval = true, Removed = removed };
        }
        if (kind is not (ImageRecord or ProblemRecord)) throw new InvalidDataException($"a record is of the unknown kind {kind}");
        var head = Take(ref bytes, 17);
        var path = Text(ref bytes);
        var problem = kind == ProblemRecord ? Text(ref bytes) : default;
        return new()
        {
            IsProblem = kind == ProblemRecord,
            Size = BinaryPrimitives.ReadInt64LittleEndian(head[1..]),
            Modified = BinaryPrimitives.ReadInt64LittleEndian(head[9..]),
            PathBytes = path,
            ProblemBytes = problem,
            Hash = kind == ImageRecord ? BinaryPrimitives.ReadUInt128LittleEndian(Take(ref bytes, 16)) : default,
        };
    }

    static ReadOnlySpan<byte> Text(ref ReadOnlySpan<byte> bytes) => Take(ref bytes, BinaryPrimitives.ReadUInt16LittleEndian(Take(ref bytes, 2)));

    static ReadOnlySpan<byte> Take(ref ReadOnlySpan<byte> bytes, int count)
    {
        if (count > bytes.Length) throw new InvalidDataException("a record is cut off");
        var taken = bytes[..count];
        bytes = bytes[count..];
        return taken;
    }
}
