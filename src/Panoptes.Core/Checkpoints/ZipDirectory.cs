using System.Buffers.Binary;
using System.Text;

namespace Panoptes.Checkpoints;

/// <summary>
/// Where the files of an uncompressed zip archive lie, for reading them in place (PyTorch stores everything uncompressed and aligned).
/// Sizes come from the central directory, zip64 included; every offset is checked against the archive's length.
/// </summary>
sealed class ZipDirectory
{
    const int EndLength = 22, CentralLength = 46, LocalLength = 30;

    readonly MappedFile file;
    readonly Dictionary<string, (long Header, long Size, bool Stored)> entries = new(StringComparer.Ordinal);

    /// <exception cref="PanoptesException">The archive is cut off or malformed.</exception>
    public ZipDirectory(MappedFile file)
    {
        this.file = file;
        var (count, start, length) = FindCentralDirectory();
        var position = start;
        for (var i = 0L; i < count; i++)
        {
            if (position + CentralLength > start + length) throw Bad("its directory is cut off");
            var record = file.Bytes(position, CentralLength);
            if (BinaryPrimitives.ReadUInt32LittleEndian(record) != 0x02014b50) throw Bad("its directory is malformed");
            var flags = BinaryPrimitives.ReadUInt16LittleEndian(record[8..]);
            var method = BinaryPrimitives.ReadUInt16LittleEndian(record[10..]);
            long size = BinaryPrimitives.ReadUInt32LittleEndian(record[24..]), header = BinaryPrimitives.ReadUInt32LittleEndian(record[42..]);
            int nameLength = BinaryPrimitives.ReadUInt16LittleEndian(record[28..]), extraLength = BinaryPrimitives.ReadUInt16LittleEndian(record[30..]);
            var commentLength = BinaryPrimitives.ReadUInt16LittleEndian(record[32..]);
            if (position + CentralLength + nameLength + extraLength + commentLength > start + length) throw Bad("its directory is cut off");
            var name = Encoding.UTF8.GetString(file.Bytes(position + CentralLength, nameLength));
            ReadZip64(file.Bytes(position + CentralLength + nameLength, extraLength), BinaryPrimitives.ReadUInt32LittleEndian(record[20..]) == uint.MaxValue, ref size, ref header);
            if (!entries.TryAdd(name, (header, size, method == 0 && (flags & 1) == 0))) throw Bad($"it holds {name} twice");
            position += CentralLength + nameLength + extraLength + commentLength;
        }
    }

    public IReadOnlyCollection<string> Names => entries.Keys;

    public bool Contains(string name) => entries.ContainsKey(name);

    /// <summary>Offset and length of a stored file's bytes.</summary>
    /// <exception cref="PanoptesException">It is compressed or encrypted, or lies outside the archive.</exception>
    public (long Offset, long Length) Locate(string name)
    {
        var (header, size, stored) = entries[name];
        if (!stored) throw Bad($"{name} in it is compressed or encrypted, which PyTorch never does");
        if (header < 0 || header > file.Length - LocalLength || BinaryPrimitives.ReadUInt32LittleEndian(file.Bytes(header, 4)) != 0x04034b50)
            throw Bad($"the place of {name} in it is wrong");
        var local = file.Bytes(header, LocalLength);
        var offset = header + LocalLength + BinaryPrimitives.ReadUInt16LittleEndian(local[26..]) + BinaryPrimitives.ReadUInt16LittleEndian(local[28..]);
        if (size < 0 || offset > file.Length || size > file.Length - offset) throw Bad($"{name} in it goes beyond the file's end; the file is cut off");
        return (offset, size);
    }

    (long Count, long Start, long Length) FindCentralDirectory()
    {
        if (file.Length < EndLength) throw Bad("it is too short");
        var tailLength = (int)Math.Min(file.Length, EndLength + ushort.MaxValue);
        var tail = file.Bytes(file.Length - tailLength, tailLength);
        var at = tailLength - EndLength;
        while (at >= 0 && BinaryPrimitives.ReadUInt32LittleEndian(tail[at..]) != 0x06054b50) at--;
        if (at < 0) throw Bad("it has no directory at its end; the file is cut off");
        long count = BinaryPrimitives.ReadUInt16LittleEndian(tail[(at + 10)..]);
        long length = BinaryPrimitives.ReadUInt32LittleEndian(tail[(at + 12)..]), start = BinaryPrimitives.ReadUInt32LittleEndian(tail[(at + 16)..]);
        if (at >= 20 && BinaryPrimitives.ReadUInt32LittleEndian(tail[(at - 20)..]) == 0x07064b50)
        {
            var end64 = BinaryPrimitives.ReadInt64LittleEndian(tail[(at - 12)..]);
            if (end64 < 0 || end64 > file.Length - 56 || BinaryPrimitives.ReadUInt32LittleEndian(file.Bytes(end64, 4)) != 0x06064b50) throw Bad("its zip64 directory is malformed");
            var record = file.Bytes(end64, 56);
            count = BinaryPrimitives.ReadInt64LittleEndian(record[32..]);
            length = BinaryPrimitives.ReadInt64LittleEndian(record[40..]);
            start = BinaryPrimitives.ReadInt64LittleEndian(record[48..]);
        }
        if (start < 0 || length < 0 || start > file.Length || length > file.Length - start || count < 0 || count > length / CentralLength) throw Bad("its directory lies outside the file");
        return (count, start, length);
    }

    static void ReadZip64(ReadOnlySpan<byte> extra, bool compressedIsThere, ref long size, ref long header)
    {
        while (extra.Length >= 4)
        {
            int id = BinaryPrimitives.ReadUInt16LittleEndian(extra), length = BinaryPrimitives.ReadUInt16LittleEndian(extra[2..]);
            extra = extra[4..];
            if (length > extra.Length) return;
            if (id == 1)
            {
                var field = extra[..length];
                Take(ref field, size == uint.MaxValue, ref size);
                long compressed = 0;
                Take(ref field, compressedIsThere, ref compressed);
                Take(ref field, header == uint.MaxValue, ref header);
            }
            extra = extra[length..];
        }

        static void Take(ref ReadOnlySpan<byte> field, bool isThere, ref long value)
        {
            if (!isThere || field.Length < 8) return;
            value = BinaryPrimitives.ReadInt64LittleEndian(field);
            field = field[8..];
        }
    }

    PanoptesException Bad(string what) => new($"{file.Path} is not a sound zip archive: {what}.");
}
