using System.Globalization;
using System.IO.Compression;

namespace Panoptes.Text;

/// <summary>The four normalization forms of Unicode Standard Annex 15.</summary>
internal enum UnicodeForm { C, D, KC, KD }

/// <summary>
/// Unicode facts that tokenizers depend on, by code point and independent of the platform: .NET's own <c>Normalize</c> does nothing
/// where globalization is invariant, and a tokenizer must give the same ids everywhere. The tables (combining classes and
/// decompositions) come from the Unicode Character Database 14.0; general categories come from .NET.
/// </summary>
internal static class UnicodeText
{
    private const int HangulS = 0xAC00, HangulL = 0x1100, HangulV = 0x1161, HangulT = 0x11A7;
    private const int HangulLCount = 19, HangulVCount = 21, HangulTCount = 28, HangulSCount = HangulLCount * HangulVCount * HangulTCount;

    private static readonly Lazy<Tables> Loaded = new(Tables.Read);

    private sealed class Tables
    {
        public Dictionary<int, byte> Classes { get; } = [];

        public Dictionary<int, (bool Compatibility, int[] Parts)> Decompositions { get; } = [];

        public Dictionary<long, int> Compositions { get; } = [];

        /// <summary>Format: zlib of variable-length integers; see <see cref="ReadNumber"/>. Code points are differences to the one before.</summary>
        public static Tables Read()
        {
            using var resource = typeof(UnicodeText).Assembly.GetManifestResourceStream("Panoptes.Text.Data.unicode-normalization.bin")!;
            using var unpacked = new ZLibStream(resource, CompressionMode.Decompress);
            using var memory = new MemoryStream();
            unpacked.CopyTo(memory);
            var (bytes, at, tables) = (memory.ToArray(), 0, new Tables());
            var point = 0;
            for (var n = ReadNumber(bytes, ref at); n > 0; n--)
            {
                point += ReadNumber(bytes, ref at);
                tables.Classes[point] = (byte)ReadNumber(bytes, ref at);
            }
            point = 0;
            for (var n = ReadNumber(bytes, ref at); n > 0; n--)
            {
                point += ReadNumber(bytes, ref at);
                var header = ReadNumber(bytes, ref at);   // count * 4 + composes * 2 + compatibility
                var parts = new int[header >> 2];
                for (var i = 0; i < parts.Length; i++)
                    parts[i] = ReadNumber(bytes, ref at);
                tables.Decompositions[point] = ((header & 1) != 0, parts);
                if ((header & 2) != 0)
                    tables.Compositions[((long)parts[0] << 32) | (uint)parts[1]] = point;
            }
            return tables;
        }

        private static int ReadNumber(byte[] bytes, ref int at)
        {
            for (int value = 0, shift = 0; ; shift += 7)
            {
                var b = bytes[at++];
                value |= (b & 0x7F) << shift;
                if (b < 0x80)
                    return value;
            }
        }
    }

    /// <summary>General category; ASCII and the rest alike.</summary>
    public static UnicodeCategory Category(int point) => CharUnicodeInfo.GetUnicodeCategory(point);

    public static bool IsLetter(int c) => c < 128 ? (uint)((c | 0x20) - 'a') < 26 : Category(c) <= UnicodeCategory.OtherLetter;

    /// <summary>Nd, Nl or No.</summary>
    public static bool IsNumber(int c) =>
        c < 128 ? (uint)(c - '0') < 10 : Category(c) is UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber;

    /// <summary>The property White_Space.</summary>
    public static bool IsSpace(int c) => c switch
    {
        < 128 => c is ' ' or (>= 9 and <= 13),
        0x85 or 0xA0 or 0x1680 or (>= 0x2000 and <= 0x200A) or 0x2028 or 0x2029 or 0x202F or 0x205F or 0x3000 => true,
        _ => false,
    };

    /// <summary>A mark: Mn, Mc or Me.</summary>
    public static bool IsMark(int c) =>
        c >= 0x300 && Category(c) is UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark;

    public static bool IsPunctuation(int c) =>
        Category(c) is >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherPunctuation;

    /// <summary>What regular expressions call \w: letters, marks, decimal digits, letter numbers, connectors and the two joiners.</summary>
    public static bool IsWord(int c)
    {
        if (c < 128)
            return c == '_' || (uint)(c - '0') < 10 || (uint)((c | 0x20) - 'a') < 26;
        var category = Category(c);
        return category <= UnicodeCategory.LetterNumber || category == UnicodeCategory.ConnectorPunctuation || c is 0x200C or 0x200D
            || c is (>= 0x24B6 and <= 0x24E9) or (>= 0x1F130 and <= 0x1F149) or (>= 0x1F150 and <= 0x1F169) or (>= 0x1F170 and <= 0x1F189);
    }

    /// <summary>The lower case of one character as one character; U+0130, whose lower case has two, is left to the caller.</summary>
    public static int ToLower(int c)
    {
        if (c < 128)
            return (uint)(c - 'A') < 26 ? c | 0x20 : c;
        if (c < 0x10000)
            return c is >= 0xD800 and < 0xE000 ? c : char.ToLowerInvariant((char)c);
        return System.Text.Rune.ToLowerInvariant(new System.Text.Rune(c)).Value;
    }

    /// <summary>
    /// Normalizes code points. <paramref name="sources"/> gets, for every result, the index of the input it stands for: of the first,
    /// where several were composed.
    /// </summary>
    /// <returns>False if the text is unchanged for certain, and then the lists are empty.</returns>
    public static bool Normalize(ReadOnlySpan<int> text, UnicodeForm form, List<int> points, List<int> sources)
    {
        points.Clear();
        sources.Clear();
        // No character below U+0300 composes with what precedes it, and none below U+00A0 (C forms: U+0300) decomposes.
        var limit = form == UnicodeForm.C ? 0x300 : 0xA0;
        if (!text.ContainsAnyExceptInRange(0, limit - 1))
            return false;
        var tables = Loaded.Value;
        var compatible = form is UnicodeForm.KC or UnicodeForm.KD;
        for (var i = 0; i < text.Length; i++)
            Decompose(text[i], i, compatible, tables, points, sources);
        Reorder(points, sources, tables);
        if (form is UnicodeForm.C or UnicodeForm.KC)
            Compose(points, sources, tables);
        return true;
    }

    private static void Decompose(int c, int source, bool compatible, Tables tables, List<int> points, List<int> sources)
    {
        if (c >= 0xA0)
        {
            if ((uint)(c - HangulS) < HangulSCount)
            {
                var s = c - HangulS;
                Add(HangulL + s / (HangulVCount * HangulTCount));
                Add(HangulV + s % (HangulVCount * HangulTCount) / HangulTCount);
                if (s % HangulTCount != 0)
                    Add(HangulT + s % HangulTCount);
                return;
            }
            if (tables.Decompositions.TryGetValue(c, out var found) && (compatible || !found.Compatibility))
            {
                foreach (var part in found.Parts)
                    Decompose(part, source, compatible, tables, points, sources);
                return;
            }
        }
        Add(c);

        void Add(int point)
        {
            points.Add(point);
            sources.Add(source);
        }
    }

    /// <summary>Sorts every run of combining characters by class, stably.</summary>
    private static void Reorder(List<int> points, List<int> sources, Tables tables)
    {
        for (var i = 0; i < points.Count;)
        {
            if (Class(points[i], tables) == 0)
            {
                i++;
                continue;
            }
            var end = i + 1;
            while (end < points.Count && Class(points[end], tables) != 0)
                end++;
            if (end - i > 1)
            {
                // Marks can come in thousands in hostile text, so a real sort; LINQ's is stable.
                var order = Enumerable.Range(i, end - i).OrderBy(k => Class(points[k], tables)).Select(k => (points[k], sources[k])).ToArray();
                for (var k = i; k < end; k++)
                    (points[k], sources[k]) = order[k - i];
            }
            i = end;
        }
    }

    private static void Compose(List<int> points, List<int> sources, Tables tables)
    {
        var starter = -1;
        var write = 0;
        var last = -1;   // class of the last character kept after the starter; -1: none, which nothing blocks
        for (var read = 0; read < points.Count; read++)
        {
            var (c, k) = (points[read], Class(points[read], tables));
            if (starter >= 0 && last < k && Pair(points[starter], c, tables) is var composed and >= 0)
            {
                points[starter] = composed;
                continue;
            }
            if (k == 0)
            {
                starter = write;
                last = -1;
            }
            else
                last = k;
            points[write] = c;
            sources[write++] = sources[read];
        }
        points.RemoveRange(write, points.Count - write);
        sources.RemoveRange(write, sources.Count - write);
    }

    private static int Pair(int a, int b, Tables tables)
    {
        if ((uint)(a - HangulL) < HangulLCount && (uint)(b - HangulV) < HangulVCount)
            return HangulS + ((a - HangulL) * HangulVCount + b - HangulV) * HangulTCount;
        if ((uint)(a - HangulS) < HangulSCount && (a - HangulS) % HangulTCount == 0 && (uint)(b - HangulT - 1) < HangulTCount - 1)
            return a + b - HangulT;
        return tables.Compositions.GetValueOrDefault(((long)a << 32) | (uint)b, -1);
    }

    private static int Class(int c, Tables tables) => c < 0x300 ? 0 : tables.Classes.GetValueOrDefault(c);

    /// <summary>Normalizes a string; lone surrogates stay as they are.</summary>
    public static string Normalize(string text, UnicodeForm form)
    {
        var buffer = new TextBuffer(text);
        List<int> points = [], sources = [];
        return Normalize(buffer.Span, form, points, sources) ? ToString(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(points)) : text;
    }

    /// <summary>Code points as a .NET string.</summary>
    public static string ToString(ReadOnlySpan<int> points)
    {
        var builder = new System.Text.StringBuilder(points.Length);
        foreach (var c in points)
        {
            if (c < 0x10000)
                builder.Append((char)c);
            else
                builder.Append((char)(0xD800 + ((c - 0x10000) >> 10))).Append((char)(0xDC00 + ((c - 0x10000) & 0x3FF)));
        }
        return builder.ToString();
    }

    /// <summary>
    /// Python's <c>str.lower</c>: full mappings (U+0130 becomes two characters) and the final sigma rule, by which a capital sigma at
    /// the end of a word becomes ς.
    /// </summary>
    public static string ToLowerFull(string text)
    {
        if (System.Text.Ascii.IsValid(text))
            return text.ToLowerInvariant();
        var points = new TextBuffer(text).Span;
        var lower = new List<int>(points.Length + 4);
        for (var i = 0; i < points.Length; i++)
        {
            switch (points[i])
            {
                case 0x130:
                    lower.Add('i');
                    lower.Add(0x307);
                    break;
                case 0x3A3:
                    lower.Add(IsFinalSigma(points, i) ? 0x3C2 : 0x3C3);
                    break;
                default:
                    lower.Add(ToLower(points[i]));
                    break;
            }
        }
        return ToString(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(lower));
    }

    private static bool IsFinalSigma(ReadOnlySpan<int> text, int at)
    {
        var before = at - 1;
        while (before >= 0 && IsCaseIgnorable(text[before]))
            before--;
        if (before < 0 || !IsCased(text[before]))
            return false;
        var after = at + 1;
        while (after < text.Length && IsCaseIgnorable(text[after]))
            after++;
        return after == text.Length || !IsCased(text[after]);
    }

    private static bool IsCased(int c) => Category(c) <= UnicodeCategory.TitlecaseLetter
        || c is 0xAA or 0xBA or (>= 0x2B0 and <= 0x2B8) or 0x2C0 or 0x2C1 or (>= 0x2E0 and <= 0x2E4) or 0x345 or 0x37A
            or (>= 0x1D2C and <= 0x1D6A) or 0x1D78 or (>= 0x1D9B and <= 0x1DBF) or 0x2071 or 0x207F or (>= 0x2090 and <= 0x209C)
            or (>= 0x2160 and <= 0x217F) or (>= 0x24B6 and <= 0x24E9) or 0x2C7C or 0x2C7D or 0xA69C or 0xA69D or 0xA770 or 0xA7F8 or 0xA7F9
            or (>= 0xAB5C and <= 0xAB5F) or (>= 0x1F130 and <= 0x1F149) or (>= 0x1F150 and <= 0x1F169) or (>= 0x1F170 and <= 0x1F189);

    private static bool IsCaseIgnorable(int c) => Category(c) is UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark
            or UnicodeCategory.Format or UnicodeCategory.ModifierLetter or UnicodeCategory.ModifierSymbol
        || c is '\'' or '.' or ':' or 0xB7 or 0x387 or 0x55F or 0x5F4 or 0x2018 or 0x2019 or 0x2024 or 0x2027
            or 0xFE13 or 0xFE52 or 0xFE55 or 0xFF07 or 0xFF0E or 0xFF1A;
}
