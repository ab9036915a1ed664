using System.Buffers.Binary;

namespace Panoptes.Imaging;

/// <summary>
/// Whether a file can hold what its head claims. A few bytes may promise hundreds of megapixels; where the format bounds how far it
/// can compress, a promise beyond that is refused before memory is taken.
/// </summary>
static class ImageBounds
{
    /// <summary>Deflate never makes more than 1,032 bytes of one.</summary>
    const long PngBytesPerByte = 1032;

    /// <summary>JPEG spends at least one bit on a block of 8x8 pixels (two unless progressive).</summary>
    const long JpegPixelsPerByte = 512;

    /// <summary>Each scan of a progressive JPEG goes over the whole picture: honest files have about ten.</summary>
    const int JpegScans = 200;

    /// <summary>Null, or why the file cannot hold <paramref name="width"/> x <paramref name="height"/> pixels.</summary>
    public static string? Fault(ReadOnlySpan<byte> file, ImageFormat format, int width, int height)
    {
        switch (format)
        {
            case ImageFormat.Png when file.Length > 26:
                var channels = file[25] switch { 2 => 3, 4 => 2, 6 => 4, _ => 1 };
                var raw = ((long)width * channels * file[24] + 7) / 8 * height;
                return raw > file.Length * PngBytesPerByte ? $"{file.Length:N0} bytes cannot hold {width}x{height} pixels" : null;
            case ImageFormat.Jpeg:
                if ((long)width * height > file.Length * JpegPixelsPerByte + 64) return $"{file.Length:N0} bytes cannot hold {width}x{height} pixels";
                return HasTooManyScans(file) ? $"it has more than {JpegScans} scans" : null;
            default:
                return null;
        }
    }

    static bool HasTooManyScans(ReadOnlySpan<byte> file)
    {
        var scans = 0;
        for (var at = 2; at + 4 <= file.Length;)
        {
            var next = file[at..].IndexOf((byte)0xFF);
            if (next < 0 || (at += next) + 4 > file.Length) return false;
            var marker = file[at + 1];
            if (marker is 0 or 0xFF or (>= 0xD0 and <= 0xD8) or 1)                 // stuffing, fill and markers that stand alone
            {
                at += marker == 0xFF ? 1 : 2;
                continue;
            }
            if (marker == 0xD9) return false;
            if (marker == 0xDA && ++scans > JpegScans) return true;
            at += 2 + BinaryPrimitives.ReadUInt16BigEndian(file[(at + 2)..]);
        }
        return false;
    }
}
