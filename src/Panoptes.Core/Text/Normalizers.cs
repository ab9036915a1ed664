using System.Globalization;
using System.Runtime.InteropServices;

namespace Panoptes.Text;

/// <summary>Rewrites text before it is cut: the normalizers of tokenizer.json.</summary>
internal abstract class Normalizer
{
    public abstract TextBuffer Apply(TextBuffer text);

    /// <summary>Rules come from files: a few of them could make a word as long as the memory. Unicode's own make one character 18 at most.</summary>
    /// <exception cref="PanoptesException">The text grew out of all proportion.</exception>
    public static void CheckGrowth(long before, long after)
    {
        if (after > 64 * before + (1 << 16))
            throw new PanoptesException($"The tokenizer's rules make {after} characters of a text of {before}; at most 64 times as many were expected.");
    }
}

internal sealed class NormalizerSequence(IReadOnlyList<Normalizer> steps) : Normalizer
{
    public override TextBuffer Apply(TextBuffer text)
    {
        var length = text.Length;
        foreach (var step in steps)
        {
            text = step.Apply(text);
            CheckGrowth(length, text.Length);
        }
        return text;
    }
}

/// <summary>NFC, NFD, NFKC or NFKD.</summary>
internal sealed class UnicodeNormalizer(UnicodeForm form) : Normalizer
{
    public override TextBuffer Apply(TextBuffer text)
    {
        List<int> points = [], sources = [];
        if (!UnicodeText.Normalize(text.Span, form, points, sources))
            return text;
        var result = new TextBuffer(points.Count);
        for (var i = 0; i < points.Count; i++)
            result.Add(points[i], text, sources[i]);
        return result;
    }
}

internal sealed class LowercaseNormalizer : Normalizer
{
    public override TextBuffer Apply(TextBuffer text)
    {
        var span = text.Span;
        if (span.Contains(0x130))
        {
            var result = new TextBuffer(text.Length + 8);
            for (var i = 0; i < span.Length; i++)
            {
                result.Add(span[i] == 0x130 ? 'i' : UnicodeText.ToLower(span[i]), text, i);
                if (span[i] == 0x130)
                    result.Insert(0x307);
            }
            return result;
        }
        for (var i = 0; i < span.Length; i++)
        {
            var lower = UnicodeText.ToLower(span[i]);
            if (lower != span[i])
                text[i] = lower;
        }
        return text;
    }
}

/// <summary>Keeps the characters that fulfill a condition.</summary>
internal sealed class FilterNormalizer(Func<int, bool> keep) : Normalizer
{
    public override TextBuffer Apply(TextBuffer text)
    {
        var result = new TextBuffer(text.Length);
        for (var i = 0; i < text.Length; i++)
            if (keep(text[i]))
                result.Add(text[i], text, i);
        return result;
    }
}

internal sealed class StripNormalizer(bool left, bool right) : Normalizer
{
    public override TextBuffer Apply(TextBuffer text)
    {
        var (start, end) = (0, text.Length);
        while (left && start < end && UnicodeText.IsSpace(text[start]))
            start++;
        while (right && end > start && UnicodeText.IsSpace(text[end - 1]))
            end--;
        return end - start == text.Length ? text : text.Copy(start, end - start);
    }
}

internal sealed class ReplaceNormalizer(SplitPattern pattern, string content) : Normalizer
{
    private readonly int[] replacement = new TextBuffer(content).Span.ToArray();

    public override TextBuffer Apply(TextBuffer text)
    {
        var matches = new List<(int Start, int End)>();
        pattern.FindAll(text.Span, matches);
        if (matches.Count == 0)
            return text;
        if (replacement.Length == 1 && matches.TrueForAll(m => m.End - m.Start == 1))
        {
            foreach (var (start, _) in matches)
                text[start] = replacement[0];
            return text;
        }
        CheckGrowth(text.Length, (long)matches.Count * replacement.Length);
        var result = new TextBuffer(text.Length);
        var at = 0;
        foreach (var (start, end) in matches)
        {
            result.Add(text, at, start - at);
            for (var i = 0; i < replacement.Length; i++)
                result.Add(replacement[i], text, end - 1);   // the peer's offsets: the last of what was replaced
            at = end;
        }
        result.Add(text, at, text.Length - at);
        return result;
    }
}

internal sealed class PrependNormalizer(string prefix) : Normalizer
{
    public override TextBuffer Apply(TextBuffer text)
    {
        if (text.Length == 0)
            return text;
        var result = new TextBuffer(text.Length + prefix.Length);
        foreach (var c in new TextBuffer(prefix).Span)
            result.Add(c, text, 0);
        result.Add(text, 0, text.Length);
        return result;
    }
}

/// <summary>Maps every byte of the text to a printable character, as byte-level models spell it.</summary>
internal sealed class ByteLevelNormalizer : Normalizer
{
    public override TextBuffer Apply(TextBuffer text) => ByteAlphabet.Spell(text, 0, text.Length, new TextBuffer(text.Length + text.Length / 4));
}

/// <summary>SentencePiece's nmt rules: drops control characters, turns odd spaces into spaces.</summary>
internal sealed class NmtNormalizer : Normalizer
{
    public override TextBuffer Apply(TextBuffer text)
    {
        var result = new TextBuffer(text.Length);
        for (var i = 0; i < text.Length; i++)
        {
            var c = text[i];
            if (c is (>= 1 and <= 8) or 0xB or (>= 0xE and <= 0x1F) or 0x7F or 0x8F or 0x9F)
                continue;
            result.Add(c is 9 or 10 or 12 or 13 or 0x1680 or (>= 0x200B and <= 0x200F) or 0x2028 or 0x2029 or 0x2581 or 0xFEFF or 0xFFFD ? ' ' : c, text, i);
        }
        return result;
    }
}

/// <summary>BERT's cleaning (Devlin et al. 2018): control characters, Chinese characters as words, accents, case.</summary>
internal sealed class BertNormalizer(bool cleanText, bool handleChinese, bool stripAccents, bool lowercase) : Normalizer
{
    private static readonly UnicodeNormalizer Decompose = new(UnicodeForm.D);
    private static readonly FilterNormalizer NoAccents = new(c => c < 0x300 || UnicodeText.Category(c) != UnicodeCategory.NonSpacingMark);
    private static readonly LowercaseNormalizer Lower = new();

    public override TextBuffer Apply(TextBuffer text)
    {
        var result = new TextBuffer(text.Length + 8);
        for (var i = 0; i < text.Length; i++)
        {
            var c = text[i];
            if (cleanText)
            {
                if (c is 0 or 0xFFFD || IsControl(c))
                    continue;
                if (UnicodeText.IsSpace(c))
                    c = ' ';
            }
            if (handleChinese && IsChinese(c))
            {
                result.Add(' ', text, i);
                result.Add(c, text, i);
                result.Add(' ', text, i);
            }
            else
                result.Add(c, text, i);
        }
        if (stripAccents)
            result = NoAccents.Apply(Decompose.Apply(result));
        return lowercase ? Lower.Apply(result) : result;
    }

    private static bool IsControl(int c) => c is not ('\t' or '\n' or '\r')
        && (c < 128 ? c < 32 || c == 127 : UnicodeText.Category(c) is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.PrivateUse);

    private static bool IsChinese(int c) => c is (>= 0x4E00 and <= 0x9FFF) or (>= 0x3400 and <= 0x4DBF) or (>= 0x20000 and <= 0x2A6DF) or (>= 0x2A700 and <= 0x2B73F)
        or (>= 0x2B740 and <= 0x2B81F) or (>= 0x2B920 and <= 0x2CEAF) or (>= 0xF900 and <= 0xFAFF) or (>= 0x2F800 and <= 0x2FA1F);
}

/// <summary>
/// SentencePiece's compiled character map: a double-array trie over UTF-8 whose values are offsets into a block of replacements that
/// end in zero. A grapheme of fewer than six bytes is replaced whole where the map has it, else character by character.
/// </summary>
internal sealed class PrecompiledNormalizer : Normalizer
{
    private readonly uint[] trie;
    private readonly byte[] replacements;

    /// <param name="map">Length of the trie in bytes (little-endian uint32), the trie's units, the replacements.</param>
    /// <param name="source">The file, for errors.</param>
    /// <exception cref="PanoptesException">The lengths do not agree.</exception>
    public PrecompiledNormalizer(ReadOnlySpan<byte> map, string source)
    {
        var size = map.Length >= 4 ? MemoryMarshal.Read<uint>(map) : uint.MaxValue;
        if (size > map.Length - 4 || size % 4 != 0)
            throw new PanoptesException($"{source}: the precompiled character map of {map.Length} bytes says that its trie has {size}; a multiple of 4 within it was expected.");
        trie = MemoryMarshal.Cast<byte, uint>(map.Slice(4, (int)size)).ToArray();
        replacements = map[(4 + (int)size)..].ToArray();
    }

    public override TextBuffer Apply(TextBuffer text)
    {
        if (!text.Span.ContainsAnyExceptInRange(' ', '~') && !text.Span.IsEmpty && IsPlain)
            return text;
        var result = new TextBuffer(text.Length);
        var plain = text.ToString();
        Span<byte> bytes = stackalloc byte[64];
        var lost = 0;   // characters dropped before any was kept: the peer's offsets forget them, and so are shifted
        for (int unit = 0, at = 0; unit < plain.Length;)
        {
            var length = StringInfo.GetNextTextElementLength(plain, unit);
            var count = 0;
            var grapheme = plain.AsSpan(unit, length);
            foreach (var rune in grapheme.EnumerateRunes())
                count++;
            unit += length;
            if (length <= 5 && System.Text.Encoding.UTF8.GetByteCount(grapheme) < 6
                && Find(bytes[..System.Text.Encoding.UTF8.GetBytes(grapheme, bytes)]) is { } whole)
                Put(whole, at, count);
            else
            {
                for (var i = at; i < at + count; i++)
                {
                    if (Find(bytes[..new System.Text.Rune(text[i]).EncodeToUtf8(bytes)]) is { } one)
                        Put(one, i, 1);
                    else
                        result.Add(text[i], text, i - lost);
                }
            }
            at += count;
        }
        return result;

        // The first characters stand for their counterparts; what is more stands where the last one does.
        void Put(string replacement, int at, int count)
        {
            var i = 0;
            foreach (var rune in replacement.EnumerateRunes())
            {
                if (i < count)
                    result.Add(rune.Value, text, at + i - lost);
                else
                    result.Insert(rune.Value);
                i++;
            }
            if (result.Length == 0)
                lost += count;
        }
    }

    private bool? plainAscii;

    /// <summary>Whether the map leaves printable ASCII alone, as all known ones do.</summary>
    private bool IsPlain => plainAscii ??= Enumerable.Range(' ', '~' - ' ' + 1).All(c => Find([(byte)c]) is null);

    /// <summary>The replacement of the shortest prefix of the key that the trie knows, as the peer takes it.</summary>
    private string? Find(ReadOnlySpan<byte> key)
    {
        if (trie.Length == 0)
            return null;
        // Unit: value in bits 0-30 of leaves; else label in bits 0-7, leaf flag in bit 8, offset from bit 10, scaled by 256 if bit 9.
        var node = Offset(trie[0]);
        foreach (var b in key)
        {
            if (b == 0)
                return null;
            node ^= b;
            if (node >= (uint)trie.Length)
                return null;
            var unit = trie[node];
            if ((unit & 0x800000FF) != b)
                return null;
            node ^= Offset(unit);
            if (((unit >> 8) & 1) != 0)
            {
                if (node >= (uint)trie.Length)
                    return null;
                var start = (int)(trie[node] & 0x7FFFFFFF);
                if (start >= replacements.Length)
                    return null;
                var rest = replacements.AsSpan(start);
                var end = rest.IndexOf((byte)0);
                return System.Text.Encoding.UTF8.GetString(end < 0 ? rest : rest[..end]);
            }
        }
        return null;
    }

    private static uint Offset(uint unit) => (unit >> 10) << (int)((unit & (1u << 9)) >> 6);
}
