using System.Buffers.Binary;

namespace Panoptes.Imaging;

/// <summary>
/// The one EXIF tag that decides how a picture is seen, read from JPEG (APP1), PNG (eXIf) and WebP (EXIF chunk). Anything malformed
/// counts as upright, as in Pillow's <c>exif_transpose</c>.
/// </summary>
static class Exif
{
    /// <summary>1 (upright) to 8.</summary>
    public static int Orientation(ReadOnlySpan<byte> file, ImageFormat format) => format switch
    {
        ImageFormat.Jpeg => Tiff(JpegBlock(file)),
        ImageFormat.Png => Tiff(PngBlock(file)),
        ImageFormat.Webp => Tiff(WebpBlock(file)),
        _ => 1,
    };

    static ReadOnlySpan<byte> JpegBlock(ReadOnlySpan<byte> file)
    {
        for (var at = 2; at + 4 <= file.Length && file[at] == 0xFF;)
        {
            var marker = file[at + 1];
            if (marker == 0xFF)                                                    // fill byte
            {
                at++;
                continue;
            }
            if (marker is 0xDA or 0xD9) break;                                     // pixels begin
            var length = BinaryPrimitives.ReadUInt16BigEndian(file[(at + 2)..]);
            if (length < 2 || at + 2 + length > file.Length) break;
            var body = file.Slice(at + 4, length - 2);
            if (marker == 0xE1 && body.StartsWith("Exif\0\0"u8)) return body[6..];
            at += 2 + length;
        }
        return [];
    }

    static ReadOnlySpan<byte> PngBlock(ReadOnlySpan<byte> file)
    {
        for (var at = 8; at + 12 <= file.Length;)
        {
            var length = BinaryPrimitives.ReadUInt32BigEndian(file[at..]);
            if (length > file.Length - at - 12) break;
            if (file.Slice(at + 4, 4).SequenceEqual("eXIf"u8)) return file.Slice(at + 8, (int)length);
            at += 12 + (int)length;
        }
        return [];
    }

    static ReadOnlySpan<byte> WebpBlock(ReadOnlySpan<byte> file)
    {
        for (var at = 12; at + 8 <= file.Length;)
        {
            var length = BinaryPrimitives.ReadUInt32LittleEndian(file[(at + 4)..]);
            if (length > file.Length - at - 8) break;
            if (file.Slice(at, 4).SequenceEqual("EXIF"u8))
            {
                var body = file.Slice(at + 8, (int)length);
                return body.StartsWith("Exif\0\0"u8) ? body[6..] : body;
            }
            at += 8 + (int)length + (int)(length & 1);
        }
        return [];
    }

    static int Tiff(ReadOnlySpan<byte> b)
    {
        if (b.Length < 14) return 1;
        var little = b[0] == 'I';
        if (!little && b[0] != 'M') return 1;
        var directory = U32(b[4..], little);
        if (directory > b.Length - 2) return 1;
        var entries = U16(b[(int)directory..], little);
        for (int i = 0, at = (int)directory + 2; i < entries && at + 12 <= b.Length; i++, at += 12)
        {
            if (U16(b[at..], little) != 0x0112) continue;
            var value = U16(b[(at + 2)..], little) == 4 ? (int)U32(b[(at + 8)..], little) : U16(b[(at + 8)..], little);
            return value is >= 1 and <= 8 ? value : 1;
        }
        return 1;
    }

    static ushort U16(ReadOnlySpan<byte> b, bool little) => little ? BinaryPrimitives.ReadUInt16LittleEndian(b) : BinaryPrimitives.ReadUInt16BigEndian(b);

    static uint U32(ReadOnlySpan<byte> b, bool little) => little ? BinaryPrimitives.ReadUInt32LittleEndian(b) : BinaryPrimitives.ReadUInt32BigEndian(b);
}
