using System.IO.Compression;
using K4os.Compression.LZ4;
using Snappier;

namespace Panoptes.Data;

/// <summary>
/// What is in the pages of a Parquet file: its codecs and encodings (github.com/apache/parquet-format, Compression.md and Encodings.md).
/// A page whose content is not what was expected is an <see cref="InvalidDataException"/>.
/// </summary>
static class ParquetValues
{
    public const int Plain = 0, PlainDictionary = 2, Rle = 3, RleDictionary = 8;

    const int DeltaBinary = 5, DeltaLength = 6, DeltaBytes = 7;

    /// <summary>A page's bytes as they were before compression.</summary>
    public static ByteReader Unpack(int codec, ReadOnlyMemory<byte> packed, int size)
    {
        if (codec == 0) return new(packed);
        if (size < 0) throw new InvalidDataException($"a page unpacks to {size} bytes.");
        var bytes = GC.AllocateUninitializedArray<byte>(size);
        int found;
        try
        {
            found = Decompress(codec, packed, bytes);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            throw new InvalidDataException($"a page cannot be unpacked: {e.Message}", e);
        }
        return found == size ? new(bytes) : throw new InvalidDataException($"a page of {packed.Length} bytes does not unpack to {size}.");
    }

    static int Decompress(int codec, ReadOnlyMemory<byte> packed, Span<byte> bytes) => codec switch
    {
        1 when Snappy.GetUncompressedLength(packed.Span) != bytes.Length => -1,         // the decoder would allocate it
        1 => Snappy.Decompress(packed.Span, bytes),
        2 => Gunzip(packed, bytes),
        4 => BrotliDecoder.TryDecompress(packed.Span, bytes, out var count) ? count : -1,
        5 or 7 => LZ4Codec.Decode(packed.Span, bytes),                                  // 5 as most wrote it, without a frame
        6 => Unzstd(packed.Span, bytes),
        _ => throw new InvalidDataException($"the codec {codec} is not known."),
    };

    static int Gunzip(ReadOnlyMemory<byte> packed, Span<byte> bytes)
    {
        using var gzip = new GZipStream(new MemoryStream(packed.ToArray()), CompressionMode.Decompress);
        return gzip.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
    }

    static int Unzstd(ReadOnlySpan<byte> packed, Span<byte> bytes)
    {
        using var zstd = new ZstdSharp.Decompressor();
        return zstd.Unwrap(packed, bytes);
    }

    /// <param name="charge">Is told of bytes that take memory without being in the page.</param>
    public static ReadOnlyMemory<byte>[] ByteArrays(int encoding, ByteReader data, int count, Action<long> charge)
    {
        switch (encoding)
        {
            case Plain:
                var values = new ReadOnlyMemory<byte>[count];
                for (var i = 0; i < count; i++) values[i] = data.Take(data.Int32());
                return values;
            case DeltaLength:
                return Array.ConvertAll(Deltas(data, count), data.Take);
            case DeltaBytes:                                                            // each begins as the one before it did
                var prefixes = Deltas(data, count);
                values = ByteArrays(DeltaLength, data, count, charge);
                var last = ReadOnlyMemory<byte>.Empty;
                for (var i = 0; i < count; i++)
                {
                    var prefix = new ByteReader(last).Take(prefixes[i]);
                    charge(prefix.Length);
                    last = values[i] = (byte[])[.. prefix.Span, .. values[i].Span];
                }
                return values;
            default: throw new InvalidDataException($"the encoding {encoding} of byte arrays is not known.");
        }
    }

    public static long[] Numbers(int encoding, ByteReader data, int count, bool halves)
    {
        var numbers = encoding switch
        {
            Plain => new long[count],
            DeltaBinary => Deltas(data, count),
            _ => throw new InvalidDataException($"the encoding {encoding} of numbers is not known."),
        };
        foreach (ref var number in numbers.AsSpan())
        {
            if (encoding == Plain) number = halves ? data.Int32() : data.Int64();
            else if (halves) number = (int)number;                                      // their differences wrap around at 32 bits
        }
        return numbers;
    }

    /// <summary>Values by their numbers in a dictionary.</summary>
    public static T[] LookUp<T>(T[] dictionary, ByteReader data, int count) => Array.ConvertAll(Hybrid(data, data.Byte(), count), i =>
        (uint)i < (uint)dictionary.Length ? dictionary[i] : throw new InvalidDataException($"a page asks for entry {i} of a dictionary of {dictionary.Length}."));

    /// <summary>Runs and bit-packed groups of eight numbers of up to 32 bits (RLE = 3).</summary>
    public static int[] Hybrid(ByteReader data, int width, int count)
    {
        if (width > 32) throw new InvalidDataException($"a page has numbers of {width} bits.");
        var values = new int[count];
        for (var i = 0; width > 0 && i < count;)
        {
            var head = data.Varint();
            var length = (long)Math.Min(head >> 1, int.MaxValue);
            if ((head & 1) == 0 && length > 0)
            {
                var run = (int)Math.Min(length, count - i);
                values.AsSpan(i, run).Fill((int)Bits(data.Take((width + 7) / 8).Span, 0, width));
                i += run;
            }
            else
            {
                var packed = data.Take(Math.Min(length * width, data.Left)).Span;       // some writers leave the end of the last group away
                for (var bit = 0L; bit < length * 8 * width && i < count; bit += width) values[i++] = (int)Bits(packed, bit, width);
            }
        }
        return values;
    }

    /// <summary>Numbers as differences, in blocks of miniblocks of equally wide ones (DELTA_BINARY_PACKED = 5).</summary>
    static long[] Deltas(ByteReader data, int count)
    {
        var (block, miniblocks, total) = (data.Varint(), data.Varint(), data.Varint());
        if (total != (ulong)count || block > 1 << 24 || miniblocks == 0 || miniblocks > block || block % (miniblocks * 8) != 0)
            throw new InvalidDataException($"a page has {total} differences in blocks of {block} in {miniblocks} parts, where {count} were expected.");
        var values = new long[count];
        var last = data.ZigZag();
        if (count > 0) values[0] = last;
        for (var i = 1; i < count;)
        {
            var least = data.ZigZag();
            foreach (var width in data.Take((long)miniblocks).Span)
            {
                if (i == count) break;                                                  // miniblocks without values have no bytes
                if (width > 64) throw new InvalidDataException($"a page has numbers of {width} bits.");
                var length = (long)(block / miniblocks);
                var packed = data.Take(Math.Min(length * width / 8, data.Left)).Span;
                for (var j = 0L; j < length && i < count; j++) values[i++] = last += least + (long)Bits(packed, j * width, width);
            }
        }
        return values;
    }

    /// <summary><paramref name="width"/> bits from <paramref name="bit"/> on, the lowest first.</summary>
    static ulong Bits(ReadOnlySpan<byte> data, long bit, int width)
    {
        if (bit + width > data.Length * 8L) throw new InvalidDataException("the packed numbers of a page break off.");
        var value = 0UL;
        for (var got = 0; got < width;)
        {
            var from = (int)((bit + got) & 7);
            var take = Math.Min(8 - from, width - got);
            value |= (ulong)((data[(int)((bit + got) >> 3)] >> from) & ((1 << take) - 1)) << got;
            got += take;
        }
        return value;
    }
}
