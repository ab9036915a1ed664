using System.Buffers.Binary;
using System.IO.Compression;

namespace Panoptes.Data;

/// <summary>An array of bytes in the IDX format of the MNIST family (yann.lecun.com/exdb/mnist), plain or compressed by gzip.</summary>
/// <param name="Shape">The size of each dimension.</param>
/// <param name="Values">All values, the last dimension running fastest.</param>
public sealed record IdxFile(IReadOnlyList<int> Shape, byte[] Values)
{
    /// <summary>deflate makes nothing smaller than this times.</summary>
    const long MaxRatio = 1032;

    const byte UnsignedByte = 0x08;

    /// <summary>Reads a file; whether it is compressed is seen by its contents.</summary>
    /// <param name="path">The file.</param>
    /// <param name="dimensions">How many dimensions are expected: 1 for labels, 3 for images.</param>
    /// <exception cref="PanoptesException">It cannot be read, is no such file, is damaged, or holds something else than bytes of so many dimensions.</exception>
    public static IdxFile Read(string path, int dimensions)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16);
            var isCompressed = file.ReadByte() == 0x1F && file.ReadByte() == 0x8B;
            file.Position = 0;
            if (!isCompressed) return Read(file, file.Length, 1, path, dimensions);
            using var gzip = new GZipStream(file, CompressionMode.Decompress);
            return Read(gzip, file.Length, MaxRatio, path, dimensions);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new PanoptesException(e is EndOfStreamException ? $"{path} is cut short: it ends before its values do." : $"{path} cannot be read: {e.Message}", e);
        }
    }

    static IdxFile Read(Stream stream, long fileBytes, long ratio, string path, int dimensions)
    {
        Span<byte> head = stackalloc byte[4 + (4 * dimensions)];
        stream.ReadExactly(head[..4]);
        if (head[0] != 0 || head[1] != 0 || head[2] != UnsignedByte || head[3] != dimensions)
            throw new PanoptesException($"{path} begins with {Convert.ToHexString(head[..4])}; expected {2048 + dimensions:X8}, which an IDX file of bytes in {dimensions} dimension{(dimensions == 1 ? "" : "s")} begins with.");
        stream.ReadExactly(head[4..]);
        var shape = new int[dimensions];
        long count = 1;
        for (var i = 0; i < dimensions; i++)
        {
            var size = BinaryPrimitives.ReadUInt32BigEndian(head[(4 + (4 * i))..]);
            count = size is > 0 and <= int.MaxValue && count <= Array.MaxLength / size ? count * size : -1;
            if (count < 0) throw new PanoptesException($"{path} says that dimension {i + 1} has the size {size}; expected 1 or more, and at most {Array.MaxLength:N0} values in all.");
            shape[i] = (int)size;
        }
        if (count > fileBytes * ratio) throw new PanoptesException($"{path} says that it holds {count:N0} values, more than fit into its {fileBytes:N0} bytes.");
        // Memory grows with what is really there, not with what the head says.
        var values = new byte[Math.Min(count, 16 * fileBytes)];
        var read = 0;
        while (true)
        {
            stream.ReadExactly(values, read, values.Length - read);
            if ((read = values.Length) == count) break;
            Array.Resize(ref values, (int)Math.Min(count, 2L * read));
        }
        if (stream.ReadByte() >= 0) throw new PanoptesException($"{path} goes on after the {count:N0} values that it says it holds.");
        return new(shape, values);
    }
}
