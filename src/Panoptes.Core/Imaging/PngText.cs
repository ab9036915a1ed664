using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;

namespace Panoptes.Imaging;

/// <summary>Texts beside the picture in a PNG file (the chunks tEXt, zTXt and iTXt of the PNG specification, third edition, section 11.3.3), such as what a picture was made with. Skia neither reads nor writes them.</summary>
public static class PngText
{
    /// <summary>The most bytes that one text may have, packed or not.</summary>
    public const int MostBytes = 1 << 24;

    static ReadOnlySpan<byte> Signature => [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A];

    /// <summary>The texts by their keywords; of several under one keyword, the first. A file that is no PNG, or that ends early, has those that come before; no more than <see cref="MostBytes"/> are read of all together.</summary>
    public static IReadOnlyDictionary<string, string> Read(ReadOnlySpan<byte> png)
    {
        var (texts, left) = (new Dictionary<string, string>(StringComparer.Ordinal), MostBytes);
        var chunks = new Chunks(png);
        while (chunks.Next())
        {
            if (texts.ContainsKey(chunks.Keyword) || chunks.Text(left) is not { } text) continue;
            texts.Add(chunks.Keyword, text);
            left -= text.Length;
        }
        return texts;
    }

    /// <summary>The first text under a keyword; null where there is none. Others are not unpacked.</summary>
    public static string? Find(ReadOnlySpan<byte> png, string keyword)
    {
        var chunks = new Chunks(png);
        while (chunks.Next())
            if (chunks.Keyword == keyword && chunks.Text(MostBytes) is { } text) return text;
        return null;
    }

    /// <summary>The chunks of a file that are texts, one after the other.</summary>
    ref struct Chunks(ReadOnlySpan<byte> png)
    {
        ReadOnlySpan<byte> rest = png.StartsWith(Signature) ? png[Signature.Length..] : default, data;
        byte kind;

        public string Keyword { get; private set; } = "";

        public bool Next()
        {
            while (rest.Length >= 12)
            {
                var length = BinaryPrimitives.ReadUInt32BigEndian(rest);
                if (length > rest.Length - 12) return false;
                var type = rest.Slice(4, 4);
                var body = rest.Slice(8, (int)length);
                rest = rest[(12 + (int)length)..];
                if (!(type.SequenceEqual("tEXt"u8) || type.SequenceEqual("zTXt"u8) || type.SequenceEqual("iTXt"u8)) || length > MostBytes || body.IndexOf((byte)0) is not (> 0 and < 80 and var end)) continue;
                (Keyword, kind) = (Encoding.Latin1.GetString(body[..end]), type[0]);
                data = body[(end + 1)..];
                return true;
            }
            return false;
        }

        /// <summary>Null where it is damaged or has more bytes than <paramref name="most"/>.</summary>
        public readonly string? Text(int most)
        {
            if (kind == (byte)'t') return data.Length <= most ? Encoding.Latin1.GetString(data) : null;
            if (kind == (byte)'z') return data.Length > 1 && data[0] == 0 && Unpacked(data[1..], most) is { } latin ? Encoding.Latin1.GetString(latin) : null;
            // iTXt: whether it is packed, how, its language, its keyword in that language.
            if (data.Length < 4) return null;
            var (packed, method) = (data[0], data[1]);
            var text = data[2..];
            for (var skipped = 0; skipped < 2; skipped++)
            {
                if (text.IndexOf((byte)0) is not (>= 0 and var end)) return null;
                text = text[(end + 1)..];
            }
            if (packed == 0) return text.Length <= most ? Encoding.UTF8.GetString(text) : null;
            return method == 0 && Unpacked(text, most) is { } unpacked ? Encoding.UTF8.GetString(unpacked) : null;
        }
    }

    /// <summary>Null where the data are damaged or too many.</summary>
    static byte[]? Unpacked(ReadOnlySpan<byte> packed, int most)
    {
        try
        {
            using var stream = new ZLibStream(new MemoryStream(packed.ToArray()), CompressionMode.Decompress);
            using var text = new MemoryStream();
            var block = new byte[4096];
            while (stream.Read(block) is > 0 and var read)
            {
                if (text.Length + read > most) return null;
                text.Write(block, 0, read);
            }
            return text.ToArray();
        }
        catch (InvalidDataException)
        {
            return null;
        }
    }

    /// <summary>The PNG with a text more, as iTXt, before its pixels.</summary>
    /// <param name="png">A PNG file.</param>
    /// <param name="keyword">1 to 79 printable characters of ASCII, spaces inside only.</param>
    /// <param name="text">Any text of at most <see cref="MostBytes"/> in UTF-8.</param>
    /// <exception cref="PanoptesException">No PNG, or a keyword or a text that cannot be.</exception>
    public static byte[] Add(ReadOnlySpan<byte> png, string keyword, string text)
    {
        if (keyword.Length is < 1 or > 79 || keyword.Any(static c => c is < ' ' or > '~') || keyword.Trim() != keyword) throw new PanoptesException($"The keyword '{keyword}' cannot be written into a PNG; expected 1 to 79 printable ASCII characters.");
        var first = Signature.Length + 12 + 13;                                       // behind IHDR, which comes first and has 13 bytes
        if (!png.StartsWith(Signature) || png.Length < first || !png.Slice(Signature.Length + 4, 4).SequenceEqual("IHDR"u8)) throw new PanoptesException("A text was to be written into a file that is no PNG.");
        byte[] data = [.. Encoding.ASCII.GetBytes(keyword), 0, 0, 0, 0, 0, .. Encoding.UTF8.GetBytes(text)];
        if (data.Length > MostBytes) throw new PanoptesException($"A text of {data.Length} bytes was to be written into a PNG; expected at most {MostBytes}.");
        var chunk = new byte[12 + data.Length];
        BinaryPrimitives.WriteInt32BigEndian(chunk, data.Length);
        "iTXt"u8.CopyTo(chunk.AsSpan(4));
        data.CopyTo(chunk, 8);
        BinaryPrimitives.WriteUInt32BigEndian(chunk.AsSpan(8 + data.Length), Crc(chunk.AsSpan(4, 4 + data.Length)));
        return [.. png[..first], .. chunk, .. png[first..]];
    }

    /// <summary>The check of a chunk (the specification's annex D).</summary>
    static uint Crc(ReadOnlySpan<byte> bytes)
    {
        var crc = uint.MaxValue;
        foreach (var b in bytes)
        {
            crc ^= b;
            for (var bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)));
        }
        return ~crc;
    }
}
