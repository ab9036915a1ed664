using System.Globalization;
using System.Text;

namespace Panoptes.Text;

/// <summary>
/// Turns a regular expression of tokenizer.json, which is meant for the Oniguruma library in its Ruby dialect with Unicode classes, into
/// one for .NET over text of one UTF-16 unit a code point (<see cref="RegexPattern"/>).
/// </summary>
internal static class OnigurumaSyntax
{
    // Scripts that tokenizers name and .NET does not know, as ranges of the Basic Multilingual Plane; other planes are shadowed into them.
    private static readonly Dictionary<string, string> Scripts = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Han"] = @"\u2E80-\u2E99\u2E9B-\u2EF3\u2F00-\u2FD5\u3005\u3007\u3021-\u3029\u3038-\u303B\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFA6D\uFA70-\uFAD9",
        ["Hiragana"] = @"\u3041-\u3096\u309D-\u309F",
        ["Katakana"] = @"\u30A1-\u30FA\u30FD-\u30FF\u31F0-\u31FF\u32D0-\u32FE\u3300-\u3357\uFF66-\uFF6F\uFF71-\uFF9D",
        ["Hangul"] = @"\u1100-\u11FF\u302E\u302F\u3131-\u318E\u3200-\u321E\u3260-\u327E\uA960-\uA97C\uAC00-\uD7A3\uD7B0-\uD7C6\uD7CB-\uD7FB\uFFA0-\uFFBE\uFFC2-\uFFC7\uFFCA-\uFFCF\uFFD2-\uFFD7\uFFDA-\uFFDC",
        ["Latin"] = @"A-Za-z\u00AA\u00BA\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u02B8\u02E0-\u02E4\u1D00-\u1D25\u1D2C-\u1D5C\u1D62-\u1D65\u1D6B-\u1D77\u1D79-\u1DBE\u1E00-\u1EFF\u2071\u207F\u2090-\u209C\u212A\u212B\u2132\u214E\u2160-\u2188\u2C60-\u2C7F\uA722-\uA787\uA78B-\uA7CA\uA7F2-\uA7FF\uAB30-\uAB5A\uAB5C-\uAB64\uFB00-\uFB06\uFF21-\uFF3A\uFF41-\uFF5A",
        ["Cyrillic"] = @"\u0400-\u0484\u0487-\u052F\u1C80-\u1C88\u1D2B\u1D78\u2DE0-\u2DFF\uA640-\uA69F\uFE2E\uFE2F",
        ["Greek"] = @"\u0370-\u0373\u0375-\u0377\u037A-\u037D\u037F\u0384\u0386\u0388-\u03E1\u03F0-\u03FF\u1D26-\u1D2A\u1D5D-\u1D61\u1D66-\u1D6A\u1DBF\u1F00-\u1FFE\u2126\uAB65",
        ["Arabic"] = @"\u0600-\u0604\u0606-\u060B\u060D-\u061A\u061C-\u061E\u0620-\u063F\u0641-\u064A\u0656-\u066F\u0671-\u06DC\u06DE-\u06FF\u0750-\u077F\u0870-\u08FF\uFB50-\uFDFF\uFE70-\uFEFC",
        ["Thai"] = @"\u0E01-\u0E3A\u0E40-\u0E5B",
        ["Hebrew"] = @"\u0591-\u05F4\uFB1D-\uFB4F",
        ["Devanagari"] = @"\u0900-\u0950\u0955-\u0963\u0966-\u097F\uA8E0-\uA8FF",
    };

    private static readonly Dictionary<string, string> Names = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Letter"] = "L",
        ["Number"] = "N",
        ["Punctuation"] = "P",
        ["Symbol"] = "S",
        ["Separator"] = "Z",
        ["Mark"] = "M",
        ["Other"] = "C",
        ["Alpha"] = "L",
        ["Digit"] = "Nd",
        ["Lower"] = "Ll",
        ["Upper"] = "Lu",
        ["Punct"] = "P",
        ["Cntrl"] = "Cc",
    };

    // For each general category, in the order of the enumeration, a character outside the ranges that patterns spell out.
    private static readonly char[] Stand =
    [
        '\uA640', '\uA641', '\u1F88', '\uA60C', '\uA500', '\u0816', '\uA823', '\uA670', '\uA620', '\uA6E6', '\uA830', '\u205F', '\u2028', '\u2029',
        '\u0080', '\u2064', '\uE000', '\uE000', '\uFE33', '\uFE58', '\u2768', '\u2769', '\u2E02', '\u2E03', '\uA6F2', '\u2A0C', '\uA838', '\u1FBF', '\uA828', '\u0378',
    ];

    /// <summary>The UTF-16 unit that stands for a code point.</summary>
    public static char Shadow(int point)
    {
        if (point < 0x10000)
            return (char)point;
        if (point is >= 0x20000 and < 0x3FFFE && UnicodeText.Category(point) == UnicodeCategory.OtherLetter)
            return '\u9F00';   // a Han character
        return Stand[(int)UnicodeText.Category(point)];
    }

    public static string Translate(string pattern)
    {
        var result = new StringBuilder(pattern.Length + 16);
        var depth = 0;             // of [ ... [ ... ] ]
        var afterAtom = false;     // whether a + or ? here would follow a quantifier
        var quantified = false;
        var atomStart = -1;        // where in the result the last atom starts, for possessive quantifiers
        var groups = new Stack<int>();
        for (var i = 0; i < pattern.Length; i++)
        {
            var c = pattern[i];
            if (depth > 0)
            {
                switch (c)
                {
                    case '\\':
                        i = Escape(pattern, i, result, true);
                        break;
                    case '[' when i + 1 < pattern.Length && pattern[i + 1] == ':':
                        i = Posix(pattern, i, result);
                        break;
                    case '[':
                        throw new ArgumentException("classes inside classes are not supported");
                    case '&' when i + 1 < pattern.Length && pattern[i + 1] == '&':
                        throw new ArgumentException("intersections of classes are not supported");
                    case ']' when pattern[i - 1] != '[' && !(pattern[i - 1] == '^' && pattern[i - 2] == '['):
                        depth = 0;
                        (afterAtom, quantified) = (true, false);
                        result.Append(c);
                        break;
                    default:
                        result.Append(c is ']' ? @"\]" : c.ToString());
                        break;
                }
                continue;
            }
            switch (c)
            {
                case '\\':
                    atomStart = result.Length;
                    i = Escape(pattern, i, result, false);
                    (afterAtom, quantified) = (true, false);
                    break;
                case '[':
                    atomStart = result.Length;
                    depth = 1;
                    result.Append(c);
                    break;
                case '(':
                    groups.Push(result.Length);
                    result.Append(c);
                    (afterAtom, quantified) = (false, false);
                    if (i + 1 < pattern.Length && pattern[i + 1] == '?')
                    {
                        result.Append('?');
                        i++;
                    }
                    break;
                case ')':
                    atomStart = groups.Count > 0 ? groups.Pop() : -1;
                    result.Append(c);
                    (afterAtom, quantified) = (true, false);
                    break;
                case '+' when quantified && atomStart >= 0:
                    // Possessive: (?>atom*) keeps what it has matched.
                    result.Insert(atomStart, "(?>").Append(')');
                    quantified = false;
                    break;
                case '*' or '+' or '?' when afterAtom:
                    result.Append(c);
                    quantified = !quantified;
                    break;
                case '{' when afterAtom && pattern.IndexOf('}', i) is > 0 and var end:
                    result.Append(pattern, i, end - i + 1);
                    i = end;
                    // In Oniguruma's Ruby dialect {n,m}+ is a greedy repetition of the repetition, not possessive.
                    if (i + 1 < pattern.Length && pattern[i + 1] == '+' && atomStart >= 0)
                    {
                        result.Insert(atomStart, "(?:").Append(")+");
                        i++;
                    }
                    break;
                case '$':
                    result.Append(@"(?=\n|\z)");   // Ruby: the end of any line
                    (afterAtom, quantified) = (false, false);
                    break;
                case '^':
                    result.Append(@"(?<=\A|\n)");
                    (afterAtom, quantified) = (false, false);
                    break;
                default:
                    atomStart = result.Length;
                    result.Append(c == '#' || c == ' ' ? c.ToString() : c.ToString());
                    (afterAtom, quantified) = (c != '|', false);
                    break;
            }
        }
        return result.ToString();
    }

    private static int Escape(string pattern, int at, StringBuilder result, bool inClass)
    {
        if (at + 1 >= pattern.Length)
            throw new ArgumentException("it ends in a backslash");
        var c = pattern[at + 1];
        switch (c)
        {
            case 'p' or 'P' when at + 2 < pattern.Length && pattern[at + 2] == '{' && pattern.IndexOf('}', at) is > 0 and var end:
                var name = pattern[(at + 3)..end];
                var negative = (c == 'P') != name.StartsWith('^');
                name = name.TrimStart('^');
                if (name.StartsWith("Script=", StringComparison.OrdinalIgnoreCase))
                    name = name[7..];
                if (Scripts.TryGetValue(name, out var ranges))
                {
                    if (inClass && negative)
                        throw new ArgumentException($"a negated script {name} inside a class is not supported");
                    result.Append(inClass ? ranges : $"[{(negative ? "^" : "")}{ranges}]");
                }
                else if (name.Equals("Space", StringComparison.OrdinalIgnoreCase) || name.Equals("White_Space", StringComparison.OrdinalIgnoreCase))
                    result.Append(negative ? @"\S" : @"\s");
                else if (name.Equals("Alnum", StringComparison.OrdinalIgnoreCase) && !negative)
                    result.Append(inClass ? @"\p{L}\p{M}\p{Nd}" : @"[\p{L}\p{M}\p{Nd}]");
                else
                    result.Append(negative ? @"\P{" : @"\p{").Append(Names.GetValueOrDefault(name, name.Length == 2 ? $"{char.ToUpperInvariant(name[0])}{char.ToLowerInvariant(name[1])}" : name)).Append('}');
                return end;
            case 'h':
                result.Append(inClass ? "0-9a-fA-F" : "[0-9a-fA-F]");
                return at + 1;
            case 'z' or 'Z' or 'A' or 'b' or 'B' or 'd' or 'D' or 'w' or 'W' or 's' or 'S' or 'n' or 'r' or 't' or 'f' or 'v' or 'a' or 'e' or 'p' or 'P':
                result.Append('\\').Append(c);
                return at + 1;
            case 'x' when at + 2 < pattern.Length && pattern[at + 2] == '{' && pattern.IndexOf('}', at) is > 0 and var close:
                if (!int.TryParse(pattern.AsSpan(at + 3, close - at - 3), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var point) || point > 0xFFFF)
                    throw new ArgumentException($"the character {pattern[at..(close + 1)]} is not supported");
                result.Append($@"\u{point:X4}");
                return close;
            default:
                // \u1234, \x41, octal numbers and references mean the same; any other letter after a backslash stands for itself.
                if (char.IsAsciiLetter(c) && c is not ('u' or 'x' or 'k' or 'G' or 'c'))
                    result.Append(c);
                else
                    result.Append('\\').Append(c);
                return at + 1;
        }
    }

    private static int Posix(string pattern, int at, StringBuilder result)
    {
        var end = pattern.IndexOf(":]", at, StringComparison.Ordinal);
        var name = end > 0 ? pattern[(at + 2)..end] : "";
        result.Append(name switch
        {
            "alpha" => @"\p{L}\p{M}",
            "digit" => @"\p{Nd}",
            "alnum" => @"\p{L}\p{M}\p{Nd}",
            "upper" => @"\p{Lu}",
            "lower" => @"\p{Ll}",
            "space" => @"\s",
            "punct" => @"\p{P}\p{S}",
            "cntrl" => @"\p{Cc}",
            "xdigit" => "0-9a-fA-F",
            "word" => @"\w",
            _ => throw new ArgumentException($"the class [:{name}:] is not supported"),
        });
        return end + 1;
    }
}
