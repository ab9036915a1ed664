using System.Buffers.Binary;
using System.Numerics;

namespace Panoptes.Search;

/// <summary>The Castagnoli checksum, which processors compute in hardware.</summary>
static class Crc32C
{
    public static uint Of(ReadOnlySpan<byte> bytes, uint crc = 0)
    {
        crc = ~crc;
        for (; bytes.Length >= sizeof(ulong); bytes = bytes[sizeof(ulong)..]) crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        foreach (var value in bytes) crc = BitOperations.Crc32C(crc, value);
        return ~crc;
    }
}
