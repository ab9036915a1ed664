using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Panoptes.Data;

/// <summary>A file in an archive.</summary>
/// <param name="Name">Its path in there.</param>
/// <param name="Offset">Where its bytes begin in the archive.</param>
/// <param name="Length">How many they are.</param>
readonly record struct TarMember(string Name, long Offset, long Length);

/// <summary>
/// Lists what a tar archive holds by its headers alone, so that a shard is gone through without reading its images: the formats of
/// POSIX (ustar and pax), GNU tar and V7, as Python's tarfile reads them. The framework's reader tells no offsets in time and believes
/// a header that claims gigabytes of name.
/// </summary>
static class TarIndex
{
    const int Block = 512;

    /// <summary>Long names and pax records beyond this are no real ones.</summary>
    const int MaxRecord = 1 << 20;

    /// <summary>The regular files in order; folders, links and devices are passed over.</summary>
    /// <exception cref="PanoptesException">The archive cannot be read, or is damaged or cut off at this place.</exception>
    internal static IEnumerable<TarMember> List(string path)
    {
        using var handle = Open(path);
        var length = RandomAccess.GetLength(handle);
        var header = new byte[Block];
        var (at, longName, pax) = (0L, (string?)null, Pax.None);
        while (at < length)
        {
            var found = Fill(handle, header, at, path);
            if (found == Block && !header.AsSpan().ContainsAnyExcept((byte)0)) yield break;
            if (at == 0 && found > 2 && header.AsSpan().StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b])) throw Compressed(path);
            if (found < Block) throw Damaged($"is cut off in the header at byte {at:N0}");
            if (!SumIsRight(header)) throw Damaged($"has no header at byte {at:N0}, where one was expected");
            var type = (char)header[156];
            var size = Number(header.AsSpan(124, 12)) ?? throw Damaged($"has a header without a size at byte {at:N0}");
            if (type is not ('L' or 'K' or 'x' or 'g')) size = pax.Size ?? size;
            if (type is '1' or '2' or '3' or '4' or '5' or '6') size = 0;                              // links, devices and folders have no bytes, whatever they say
            var begin = at + Block;
            if (size < 0 || size > length - begin) throw Damaged($"claims at byte {at:N0} a file of {size:N0} bytes, but has {length - begin:N0} more");
            at = Math.Min(length, begin + ((size + Block - 1) / Block * Block));

            if (type is 'L' or 'x')
            {
                if (size > MaxRecord) throw Damaged($"has at byte {begin - Block:N0} a name of {size:N0} bytes");
                var record = new byte[size];
                if (Fill(handle, record, begin, path) < size) throw Damaged($"is cut off at byte {begin:N0}");
                if (type == 'L') longName = Text(record);
                else pax = Pax.Parse(record) ?? throw Damaged($"has a pax header that is none at byte {begin:N0}");
                continue;
            }
            if (type is 'K' or 'g') continue;
            if (type is '0' or '\0' or '7' && !pax.Sparse) yield return new(pax.Path ?? longName ?? Name(header), begin, size);
            (longName, pax) = (null, Pax.None);
        }

        PanoptesException Damaged(string what) => new($"The tar archive {path} {what}.");
    }

    internal static SafeFileHandle Open(string path)
    {
        try
        {
            return File.OpenHandle(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unreadable(path, e);
        }
    }

    /// <summary>Reads as much as there is; returns how much.</summary>
    internal static int Fill(SafeFileHandle handle, Span<byte> target, long offset, string path)
    {
        try
        {
            var read = 0;
            while (read < target.Length && RandomAccess.Read(handle, target[read..], offset + read) is > 0 and var n) read += n;
            return read;
        }
        catch (IOException e)
        {
            throw Unreadable(path, e);
        }
    }

    internal static PanoptesException Compressed(string path) =>
        new($"The tar archive {path} is compressed with gzip, but files are read from the middle of it; unpack it first (gunzip makes a .tar file of it).");

    static PanoptesException Unreadable(string path, Exception e) => new($"The tar archive {path} cannot be read: {e.Message}", e);

    static bool SumIsRight(ReadOnlySpan<byte> header)
    {
        // The checksum counts itself as spaces; some old programs added signed bytes.
        var (unsigned, signed) = (8 * ' ', 8 * ' ');
        for (var i = 0; i < Block; i++)
        {
            if (i is >= 148 and < 156) continue;
            unsigned += header[i];
            signed += (sbyte)header[i];
        }
        return Number(header.Slice(148, 8)) is { } sum && (sum == unsigned || sum == signed);
    }

    static string Name(ReadOnlySpan<byte> header)
    {
        var name = Text(header[..100]);
        if (!header.Slice(257, 6).SequenceEqual("ustar\0"u8)) return name;
        var prefix = Text(header.Slice(345, 155));
        return prefix.Length > 0 ? $"{prefix}/{name}" : name;
    }

    static string Text(ReadOnlySpan<byte> bytes) => Encoding.UTF8.GetString(bytes.IndexOf((byte)0) is >= 0 and var end ? bytes[..end] : bytes);

    /// <summary>Octal digits among spaces and zeros, or GNU's binary form for large numbers; null where it is neither.</summary>
    static long? Number(ReadOnlySpan<byte> field)
    {
        if (field[0] == 0x80) return field[1..^8].ContainsAnyExcept((byte)0) ? null : BinaryPrimitives.ReadInt64BigEndian(field[^8..]) is >= 0 and var large ? large : null;
        field = field.Trim(" \0"u8);
        if (field.IsEmpty) return 0;
        var value = 0L;
        foreach (var digit in field)
        {
            if (digit is < (byte)'0' or > (byte)'7') return null;
            value = (value << 3) | (uint)(digit - '0');                                // at most 12 digits
        }
        return value;
    }

    /// <summary>What a pax header says of the next file: <c>LENGTH KEY=VALUE\n</c>, the length in decimal over the whole record.</summary>
    readonly record struct Pax(string? Path, long? Size, bool Sparse)
    {
        internal static Pax None => default;

        internal static Pax? Parse(ReadOnlySpan<byte> bytes)
        {
            var result = None;
            while (bytes.Length > 0 && bytes[0] != 0)
            {
                var space = bytes.IndexOf((byte)' ');
                if (space < 1 || !int.TryParse(bytes[..space], NumberStyles.None, CultureInfo.InvariantCulture, out var length) || length <= space + 2 || length > bytes.Length || bytes[length - 1] != '\n') return null;
                var record = bytes[(space + 1)..(length - 1)];
                bytes = bytes[length..];
                if (record.IndexOf((byte)'=') is not (> 0 and var equals)) return null;
                var value = record[(equals + 1)..];
                var key = record[..equals];
                if (key.SequenceEqual("path"u8)) result = result with { Path = Encoding.UTF8.GetString(value) };
                else if (key.SequenceEqual("size"u8))
                {
                    if (!long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var size)) return null;
                    result = result with { Size = size };
                }
                else if (key.StartsWith("GNU.sparse."u8)) result = result with { Sparse = true };
            }
            return result;
        }
    }
}
