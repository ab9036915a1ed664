using System.Buffers.Binary;
using System.Text;

namespace Panoptes.Data;

/// <summary>The types of fields in Thrift's compact protocol.</summary>
enum ThriftType { Stop, True, False, Byte, I16, I32, I64, Double, Binary, List, Set, Map, Struct }

/// <summary>
/// Reads bytes from the first to the last and never beyond: numbers as Parquet's pages have them, and Thrift's compact protocol
/// (thrift/doc/specs/thrift-compact-protocol.md), in which Parquet's metadata are.
/// </summary>
/// <exception cref="InvalidDataException">More is asked for than there is, or it is not what was expected.</exception>
sealed class ByteReader(ReadOnlyMemory<byte> rest)
{
    /// <summary>The number of bytes not read yet.</summary>
    public int Left => rest.Length;

    public ReadOnlyMemory<byte> Take(long count)
    {
        if (count < 0 || count > rest.Length) throw new InvalidDataException($"it asks for {count} bytes where {rest.Length} are left.");
        var taken = rest[..(int)count];
        rest = rest[(int)count..];
        return taken;
    }

    public byte Byte() => Take(1).Span[0];

    public int Int32() => BinaryPrimitives.ReadInt32LittleEndian(Take(4).Span);

    public long Int64() => BinaryPrimitives.ReadInt64LittleEndian(Take(8).Span);

    /// <summary>LEB128: seven bits a byte, the lowest first.</summary>
    public ulong Varint()
    {
        var value = 0UL;
        for (var shift = 0; shift < 64; shift += 7)
        {
            var b = Byte();
            value |= (ulong)(b & 0x7F) << shift;
            if (b < 0x80) return value;
        }
        throw new InvalidDataException("it has a number of more than 64 bits.");
    }

    /// <summary>LEB128 with the sign in the lowest bit.</summary>
    public long ZigZag()
    {
        var value = Varint();
        return (long)(value >> 1) ^ -(long)(value & 1);
    }

    /// <summary>The next field's number and type; false at the end of the structure.</summary>
    public bool Next(ref int id, out ThriftType type)
    {
        var head = Byte();
        type = (ThriftType)(head & 15);
        if (type == ThriftType.Stop) return false;
        id = head >> 4 is > 0 and var step ? id + step : (short)ZigZag();
        return true;
    }

    public long Integer(ThriftType type) => type is ThriftType.I16 or ThriftType.I32 or ThriftType.I64 ? ZigZag() : throw Unexpected(type);

    public int Int32(ThriftType type) =>
        Integer(type) is >= int.MinValue and <= int.MaxValue and var value ? (int)value : throw new InvalidDataException("it has a number of more than 32 bits.");

    public string Text(ThriftType type) => type == ThriftType.Binary ? Encoding.UTF8.GetString(Take(Count()).Span) : throw Unexpected(type);

    public List<T> Structs<T>(ThriftType type, Func<ByteReader, T> read)
    {
        if (type != ThriftType.List) throw Unexpected(type);
        var count = ListHead(out var element);
        if (count > 0 && element != ThriftType.Struct) throw Unexpected(element);
        var list = new List<T>();
        while (list.Count < count) list.Add(read(this));
        return list;
    }

    public void Skip(ThriftType type, int depth = 0)
    {
        if (depth > 32) throw new InvalidDataException("its metadata are nested too deeply.");
        switch (type)
        {
            case ThriftType.True or ThriftType.False: break;
            case ThriftType.Byte: Byte(); break;
            case ThriftType.I16 or ThriftType.I32 or ThriftType.I64: Varint(); break;
            case ThriftType.Double: Take(8); break;
            case ThriftType.Binary: Take(Count()); break;
            case ThriftType.List or ThriftType.Set:
                var count = ListHead(out var element);
                if (element is ThriftType.True or ThriftType.False) element = ThriftType.Byte;     // a byte each, other than in a structure
                for (var i = 0; i < count; i++) Skip(element, depth + 1);
                break;
            case ThriftType.Struct:
                for (var id = 0; Next(ref id, out var field);) Skip(field, depth + 1);
                break;
            default: throw Unexpected(type);
        }
    }

    int ListHead(out ThriftType element)
    {
        var head = Byte();
        element = (ThriftType)(head & 15);
        return head >> 4 is < 15 and var count ? count : Count();
    }

    /// <summary>A number of bytes, or of elements, of which each has at least a byte.</summary>
    int Count() => Varint() is var count && count <= (ulong)Left ? (int)count
        : throw new InvalidDataException($"it claims {count} bytes or elements where {Left} bytes are left.");

    static InvalidDataException Unexpected(ThriftType type) => new($"it has a {type} where another type was expected.");
}
