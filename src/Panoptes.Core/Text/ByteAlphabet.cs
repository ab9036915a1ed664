using System.Text;

namespace Panoptes.Text;

/// <summary>
/// GPT-2's spelling of bytes as printable characters: the printable ones of Latin-1 stand for themselves, the other 68 are U+0100 on.
/// </summary>
internal static class ByteAlphabet
{
    private static readonly ushort[] Characters = Build();
    private static readonly short[] Bytes = Invert();

    private static ushort[] Build()
    {
        var (characters, next) = (new ushort[256], 256);
        for (var b = 0; b < 256; b++)
            characters[b] = (ushort)(b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or >= 0xAE ? b : next++);
        return characters;
    }

    private static short[] Invert()
    {
        var bytes = new short[0x200];
        Array.Fill(bytes, (short)-1);
        for (var b = 0; b < 256; b++)
            bytes[Characters[b]] = (short)b;
        return bytes;
    }

    /// <summary>The character that stands for a byte.</summary>
    public static char OfByte(int b) => (char)Characters[b];

    /// <summary>The byte that a character stands for, or -1.</summary>
    public static int ToByte(int c) => (uint)c < 0x200 ? Bytes[c] : -1;

    /// <summary>Appends the UTF-8 bytes of a stretch, spelled.</summary>
    public static TextBuffer Spell(TextBuffer text, int start, int length, TextBuffer result)
    {
        Span<byte> bytes = stackalloc byte[4];
        for (var i = start; i < start + length; i++)
        {
            var c = text[i];
            if (c < 128)
            {
                result.Add(Characters[c], text, i);
                continue;
            }
            var n = new Rune(c).EncodeToUtf8(bytes);
            for (var k = 0; k < n; k++)
                result.Add(Characters[bytes[k]], text, i);
        }
        return result;
    }
}
