using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Panoptes.Text;

/// <summary>
/// Mends text that went through the wrong encodings, and evens out typography: what the Python library ftfy 6.3 does with its default
/// settings (Speer, "ftfy", Zenodo 2019), which open_clip's captions passed in training. Its rules are in Data/mojibake.txt.
/// </summary>
internal static partial class TextRepair
{
    private const int LongestSegment = 1_000_000;   // characters mended at once
    private const int MostRounds = 64;              // each undoes one layer; text with more layers was made to be slow

    private static readonly SearchValues<char> Harmless =
        SearchValues.Create(" !\"#$%'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~\t\n\f");

    private static readonly Lazy<Rules> Loaded = new(Rules.Read);

    private static readonly Lazy<Dictionary<char, string>> Widths = new(() =>
    {
        var map = new Dictionary<char, string> { ['\u3000'] = " " };
        for (var c = '\uFF01'; c < '\uFFF0'; c++)
            if (UnicodeText.Normalize(c.ToString(), UnicodeForm.KC) is var normal && normal != c.ToString())
                map[c] = normal;
        return map;
    });

    /// <summary>Latin ligatures and digraphs that are one character for the sake of old encodings.</summary>
    private static readonly Dictionary<char, string> Ligatures = new()
    {
        ['Ĳ'] = "IJ",
        ['ĳ'] = "ij",
        ['ŉ'] = "ʼn",
        ['Ǳ'] = "DZ",
        ['ǲ'] = "Dz",
        ['ǳ'] = "dz",
        ['Ǆ'] = "DŽ",
        ['ǅ'] = "Dž",
        ['ǆ'] = "dž",
        ['Ǉ'] = "LJ",
        ['ǈ'] = "Lj",
        ['ǉ'] = "lj",
        ['Ǌ'] = "NJ",
        ['ǋ'] = "Nj",
        ['ǌ'] = "nj",
        ['\uFB00'] = "ff",
        ['\uFB01'] = "fi",
        ['\uFB02'] = "fl",
        ['\uFB03'] = "ffi",
        ['\uFB04'] = "ffl",
        ['\uFB05'] = "ſt",
        ['\uFB06'] = "st",
    };

    /// <summary>Mends a text, line by line.</summary>
    public static string Fix(string text)
    {
        if (!text.AsSpan().ContainsAnyExcept(Harmless))
            return text;
        var result = new StringBuilder(text.Length);
        var entities = true;   // until a < shows that the text is HTML, where they are meant as they stand
        for (var at = 0; at < text.Length;)
        {
            var end = text.IndexOf('\n', at) + 1;
            if (end == 0)
                end = text.Length;
            if (end - at > LongestSegment)
            {
                end = at + LongestSegment;
                if (char.IsHighSurrogate(text[end - 1]))
                    end--;
            }
            var segment = text[at..end];
            entities &= !segment.Contains('<');
            result.Append(FixSegment(segment, entities));
            at = end;
        }
        return result.ToString();
    }

    /// <summary>White space as Python's <c>str.split</c> sees it becomes single spaces between words.</summary>
    public static string CollapseSpace(string text)
    {
        var result = new StringBuilder(text.Length);
        var pending = false;
        foreach (var c in text)
        {
            if (UnicodeText.IsSpace(c) || c is >= '\x1C' and <= '\x1F')
            {
                pending = result.Length > 0;
                continue;
            }
            if (pending)
                result.Append(' ');
            pending = false;
            result.Append(c);
        }
        return result.ToString();
    }

    /// <summary>What a byte from 0x80 to 0xFF means in Windows-1252; unassigned ones stand for themselves.</summary>
    public static char Windows1252(int value) => Loaded.Value.Encodings[1].Decode[value - 0x80];

    private static string FixSegment(string text, bool entities)
    {
        for (var round = 0; round < MostRounds; round++)
        {
            var before = text;
            if (entities)
                text = HtmlEntities.UnescapeClear(text);
            text = FixEncoding(text);
            text = FixCharacters(text);
            text = TerminalEscape().Replace(text, "");
            text = DropControls(text);
            text = UnicodeText.Normalize(text, UnicodeForm.C);
            if (text == before)
                break;
        }
        return text;
    }

    private static string FixCharacters(string text)
    {
        StringBuilder? changed = null;
        for (var i = 0; i < text.Length; i++)
        {
            var c = text[i];
            var replacement = Replacement(c, i + 1 < text.Length ? text[i + 1] : '\0', i > 0 ? text[i - 1] : '\0');
            if (replacement is not null)
                changed ??= new StringBuilder(text, 0, i, text.Length + 8);
            if (changed is not null)
                _ = replacement is null ? changed.Append(c) : changed.Append(replacement);
        }
        return changed?.ToString() ?? text;
    }

    /// <summary>What a character is replaced by, null: nothing.</summary>
    private static string? Replacement(char c, char next, char previous)
    {
        switch (c)
        {
            case '\r':
                return next == '\n' ? "" : "\n";
            case < '\x80':
                return null;
            case <= '\x9F':
                return Typography(Windows1252(c)) ?? Windows1252(c).ToString();
            case >= '\uD800' and <= '\uDBFF':
                return char.IsLowSurrogate(next) ? null : "\uFFFD";
            case >= '\uDC00' and <= '\uDFFF':
                return char.IsHighSurrogate(previous) ? null : "\uFFFD";
        }
        if (Ligatures.TryGetValue(c, out var letters))
            return letters.Replace('ʼ', '\'');
        if (c >= '\u3000' && Widths.Value.TryGetValue(c, out var wide))
            return wide.Length == 1 ? Typography(wide[0]) ?? wide : wide;
        return Typography(c);
    }

    /// <summary>Straight quotes and plain line breaks.</summary>
    private static string? Typography(char c) => c switch
    {
        '\u02BC' or (>= '\u2018' and <= '\u201B') => "'",
        >= '\u201C' and <= '\u201F' => "\"",
        '\u2028' or '\u2029' or '\u0085' => "\n",
        _ => null,
    };

    private static string DropControls(string text)
    {
        static bool Drop(char c) => c is <= '\x08' or '\x0B' or (>= '\x0E' and <= '\x1F') or '\x7F' or (>= '\u206A' and <= '\u206F') or '\uFEFF' or (>= '\uFFF9' and <= '\uFFFC');
        return text.AsSpan().IndexOfAnyExceptInRange(' ', '~') < 0 || !text.Any(Drop) ? text : string.Concat(text.Where(c => !Drop(c)));
    }

    private static string FixEncoding(string text)
    {
        for (var round = 0; round < MostRounds; round++)
        {
            var step = FixEncodingOnce(text);
            if (step == text)
                break;
            text = step;
        }
        return text;
    }

    private static string FixEncodingOnce(string text)
    {
        if (Ascii.IsValid(text) || !LooksWrong(text))
            return text;
        var rules = Loaded.Value;
        var latin1 = false;
        foreach (var encoding in rules.Encodings)
        {
            if (encoding.Encode(text) is not { } bytes)
                continue;
            latin1 |= encoding.Name == "latin-1";
            if (encoding.Name != "macroman")   // where it would take a dash and a space for a character
                bytes = RestoreNoBreakSpaces(bytes);
            if (encoding.Sloppy)
                bytes = Replace(bytes, LostBytes(), "ï¿½");
            if (DecodeUtf8(bytes) is { } decoded)
                return decoded;
        }
        var mended = rules.Sequence.Replace(text, match => match.Length < text.Length && LooksWrong(match.Value) ? FixEncoding(match.Value) : match.Value);
        if (mended != text)
            return mended;
        if (latin1 && !text.AsSpan().ContainsAny("\u0081\u008D\u008F\u0090\u009D"))
        {
            // Latin-1 has no use for U+0080 to U+009F, so Windows-1252 was meant.
            var windows = string.Concat(text.Select(c => c >= '\x80' ? Windows1252(c) : c));
            if (windows != text)
                return windows;
        }
        return text.AsSpan().IndexOfAnyInRange('\x80', '\x9F') < 0 ? text : string.Concat(text.Select(c => c is >= '\x80' and <= '\x9F' ? Windows1252(c) : c));
    }

    private static bool LooksWrong(string text)
    {
        // The rules speak of whole characters; those beyond 16 bits are shown as one unit.
        if (text.AsSpan().IndexOfAnyInRange('\uD800', '\uDFFF') >= 0)
            text = string.Concat(new TextBuffer(text).Span.ToArray().Select(OnigurumaSyntax.Shadow));
        return Loaded.Value.Wrong.IsMatch(text);
    }

    /// <summary>Puts back bytes A0 that became spaces where they end what would be UTF-8. Bytes are shown as the characters of Latin-1.</summary>
    private static byte[] RestoreNoBreakSpaces(byte[] bytes)
    {
        var text = Encoding.Latin1.GetString(bytes);
        if (!AlteredUtf8().IsMatch(text))
            return bytes;
        // "Ã " before a word is most often "à " and its own space, save in a few Portuguese words.
        text = GraveWord().Replace(text, "\u00C3\u00A0 ");
        return Encoding.Latin1.GetBytes(AlteredUtf8().Replace(text, m => m.Value.Replace(' ', '\u00A0')));
    }

    private static byte[] Replace(byte[] bytes, Regex pattern, string by) => Encoding.Latin1.GetBytes(pattern.Replace(Encoding.Latin1.GetString(bytes), by));

    private static readonly UTF8Encoding Strict = new(false, true);

    /// <summary>UTF-8, or its variants that write 0 as C0 80 and characters beyond 16 bits as two surrogates; null if it is neither.</summary>
    private static string? DecodeUtf8(byte[] bytes)
    {
        if (bytes.AsSpan().ContainsAny((byte)0xED, (byte)0xC0))
        {
            var plain = new List<byte>(bytes.Length);
            for (var i = 0; i < bytes.Length; i++)
            {
                if (bytes[i] == 0xC0 && i + 1 < bytes.Length && bytes[i + 1] == 0x80)
                {
                    plain.Add(0);
                    i++;
                }
                else if (i + 5 < bytes.Length && bytes[i] == 0xED && bytes[i + 1] is >= 0xA0 and <= 0xAF && IsTail(bytes[i + 2])
                    && bytes[i + 3] == 0xED && bytes[i + 4] is >= 0xB0 and <= 0xBF && IsTail(bytes[i + 5]))
                {
                    var point = 0x10000 + ((bytes[i + 1] & 0xF) << 16) + ((bytes[i + 2] & 0x3F) << 10) + ((bytes[i + 4] & 0xF) << 6) + (bytes[i + 5] & 0x3F);
                    plain.AddRange(Encoding.UTF8.GetBytes(char.ConvertFromUtf32(point)));
                    i += 5;
                }
                else
                    plain.Add(bytes[i]);
            }
            bytes = [.. plain];
        }
        try
        {
            return Strict.GetString(bytes);
        }
        catch (ArgumentException)
        {
            return null;
        }

        static bool IsTail(byte b) => b is >= 0x80 and <= 0xBF;
    }

    [GeneratedRegex(@"\x1B\[[\d;]*[a-zA-Z]", RegexOptions.CultureInvariant)]
    private static partial Regex TerminalEscape();

    [GeneratedRegex(@"\xC3 (?! |quele|quela|quilo|s )", RegexOptions.CultureInvariant)]
    private static partial Regex GraveWord();

    [GeneratedRegex(@"[\xC2\xC3\xC5\xCE\xD0\xD9] |[\xE2\xE3] [\x80-\x84\x86-\x9F\xA1-\xBF]|[\xE0-\xE3][\x80-\x84\x86-\x9F\xA1-\xBF] |\xF0 [\x80-\xBF][\x80-\xBF]|\xF0[\x80-\xBF] [\x80-\xBF]|\xF0[\x80-\xBF][\x80-\xBF] ", RegexOptions.CultureInvariant)]
    private static partial Regex AlteredUtf8();

    /// <summary>UTF-8 sequences, CESU-8 included, of which bytes were lost: 1A stands for such a byte, and so may one question mark.</summary>
    [GeneratedRegex(@"[\xC2-\xDF]\x1A|[\xC2-\xC3]\?|\xED[\xA0-\xAF][\x1A?]\xED[\xB0-\xBF][\x1A?\x80-\xBF]|\xED[\xA0-\xAF][\x1A?\x80-\xBF]\xED[\xB0-\xBF][\x1A?]|[\xE0-\xEF][\x1A?][\x1A\x80-\xBF]|[\xE0-\xEF][\x1A\x80-\xBF][\x1A?]|[\xF0-\xF4][\x1A?][\x1A\x80-\xBF]{2}|[\xF0-\xF4][\x1A\x80-\xBF][\x1A?][\x1A\x80-\xBF]|[\xF0-\xF4][\x1A\x80-\xBF]{2}[\x1A?]|\x1A", RegexOptions.CultureInvariant)]
    private static partial Regex LostBytes();

    /// <summary>A single-byte encoding. A sloppy one gives unassigned bytes a meaning, and takes U+FFFD for a byte that was lost: 1A.</summary>
    private sealed class SingleByte(string name, string decode)
    {
        private readonly Dictionary<char, byte> encode = decode.Select((c, i) => (c, i)).ToDictionary(x => x.c, x => (byte)(0x80 + x.i));

        public string Name => name;

        public string Decode => decode;

        public bool Sloppy { get; } = name.StartsWith("sloppy-", StringComparison.Ordinal);

        /// <summary>The bytes of a text, or null if it has characters that the encoding lacks.</summary>
        public byte[]? Encode(string text)
        {
            var bytes = new byte[text.Length];
            for (var i = 0; i < text.Length; i++)
            {
                var c = text[i];
                if (Sloppy && c == '\uFFFD')
                    bytes[i] = 0x1A;
                else if (Sloppy && c == '\x1A')
                    return null;
                else if (c < '\x80')
                    bytes[i] = (byte)c;
                else if (encode.TryGetValue(c, out var b))
                    bytes[i] = b;
                else
                    return null;
            }
            return bytes;
        }
    }

    private sealed record Rules(SingleByte[] Encodings, Regex Wrong, Regex Sequence)
    {
        public static Rules Read()
        {
            using var resource = typeof(TextRepair).Assembly.GetManifestResourceStream("Panoptes.Text.Data.mojibake.txt")!;
            using var reader = new StreamReader(resource);
            // Python's \s and \w, which differ a little from .NET's.
            var classes = new Dictionary<string, string> { ["space"] = @"\s\x1C-\x1F", ["word"] = @"\p{L}\p{N}_" };
            var patterns = new List<string>();
            var encodings = new List<SingleByte> { new("latin-1", string.Concat(Enumerable.Range(0x80, 0x80).Select(c => (char)c))) };
            while (reader.ReadLine() is { } line)
            {
                if (line.StartsWith("pattern ", StringComparison.Ordinal))
                    patterns.Add($"(?:{ClassName().Replace(line[8..], m => classes[m.Groups[1].Value])})");
                else if (!line.StartsWith('#'))
                {
                    var (kind, name, values) = (line[..line.IndexOf(' ')], line[(line.IndexOf(' ') + 1)..line.IndexOf(':')], line[(line.IndexOf(':') + 2)..].Split(' '));
                    if (kind == "class")
                        classes[name] = string.Concat(values.Select(v => string.Join('-', v.Split('-').Select(h => $@"\u{h.PadLeft(4, '0')}"))));
                    else
                        encodings.Add(new(name, string.Concat(values.Select(v => (char)int.Parse(v, NumberStyles.HexNumber, CultureInfo.InvariantCulture)))));
                }
            }
            var (first2, first3, first4, next) = (classes["utf8_first_of_2"], classes["utf8_first_of_3"], classes["utf8_first_of_4"], classes["utf8_continuation"]);
            var sequence = $"(?<![{classes["utf8_continuation_strict"]}])(?:[{first2}][{next}]|[{first3}][{next}]{{2}}|[{first4}][{next}]{{3}})+";
            return new([.. encodings], new(string.Join('|', patterns), RegexOptions.CultureInvariant), new(sequence, RegexOptions.CultureInvariant));
        }
    }

    [GeneratedRegex(@"\{(\w+)\}")]
    private static partial Regex ClassName();
}
