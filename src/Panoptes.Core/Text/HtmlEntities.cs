using System.Buffers;
using System.Globalization;
using System.Text;

namespace Panoptes.Text;

/// <summary>
/// HTML's character references as HTML 5 defines them, in the way Python's <c>html.unescape</c> reads them: names without a semicolon
/// where the standard has such, and the longest known beginning of a name.
/// </summary>
internal static class HtmlEntities
{
    private const int LongestName = 32;
    private static readonly Lazy<(Dictionary<string, string> Names, Dictionary<string, string> Capitals)> Tables = new(Read);
    private static readonly SearchValues<char> EndsName = SearchValues.Create("\t\n\f <&#;");

    private static (Dictionary<string, string>, Dictionary<string, string>) Read()
    {
        var (names, capitals) = (new Dictionary<string, string>(2300), new Dictionary<string, string>());
        using var resource = typeof(HtmlEntities).Assembly.GetManifestResourceStream("Panoptes.Text.Data.html-entities.txt")!;
        using var reader = new StreamReader(resource);
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#'))
                continue;
            var fields = line.Split(' ');
            var value = string.Concat(fields.Skip(1).Select(f => char.ConvertFromUtf32(int.Parse(f, NumberStyles.HexNumber, CultureInfo.InvariantCulture))));
            if (line.StartsWith('^'))
                capitals[fields[0][1..]] = value;
            else
                names[fields[0]] = value;
        }
        return (names, capitals);
    }

    /// <summary>Replaces every character reference once.</summary>
    public static string Unescape(string text)
    {
        var at = text.IndexOf('&');
        if (at < 0)
            return text;
        var result = new StringBuilder(text.Length);
        var copied = 0;
        for (; at >= 0; at = text.IndexOf('&', at))
        {
            var (length, value) = Reference(text.AsSpan(at + 1));
            if (length == 0)
            {
                at++;
                continue;
            }
            result.Append(text, copied, at - copied).Append(value);
            at += 1 + length;
            copied = at;
        }
        return result.Append(text, copied, text.Length - copied).ToString();
    }

    /// <summary>
    /// Replaces only what is clearly meant as a reference: complete with its semicolon; capitals are taken for names in small letters.
    /// </summary>
    public static string UnescapeClear(string text)
    {
        var at = text.IndexOf('&');
        if (at < 0)
            return text;
        var result = new StringBuilder(text.Length);
        var copied = 0;
        for (; at >= 0; at = at < text.Length ? text.IndexOf('&', at) : -1)
        {
            var start = at + 1 < text.Length && text[at + 1] == '#' ? at + 2 : at + 1;
            var end = start;
            while (end < text.Length && end - start < 24 && char.IsAsciiLetterOrDigit(text[end]))
                end++;
            if (end == start || end == text.Length || text[end] != ';')
            {
                at++;
                continue;
            }
            var name = text[(at + 1)..(end + 1)];
            var value = name[0] == '#' ? Unescape($"&{name}") : Tables.Value.Names.GetValueOrDefault(name) ?? Tables.Value.Capitals.GetValueOrDefault(name);
            if (value is not null && !(name[0] == '#' && value.Contains(';')))
            {
                result.Append(text, copied, at - copied).Append(value);
                copied = end + 1;
            }
            at = end + 1;
        }
        return result.Append(text, copied, text.Length - copied).ToString();
    }

    /// <summary>What follows an ampersand: how many characters belong to the reference (0: it is none) and what they stand for.</summary>
    private static (int Length, string Value) Reference(ReadOnlySpan<char> text)
    {
        if (text.IsEmpty)
            return (0, "");
        if (text[0] == '#')
            return Number(text);
        var length = text[..Math.Min(text.Length, LongestName)].IndexOfAny(EndsName);
        if (length < 0)
            length = Math.Min(text.Length, LongestName);
        if (length == 0)
            return (0, "");
        if (length < text.Length && text[length] == ';')
            length++;
        var names = Tables.Value.Names.GetAlternateLookup<ReadOnlySpan<char>>();
        for (var n = length; n > 1; n--)
            if (names.TryGetValue(text[..n], out var value))
                return (n, value);
        return (0, "");
    }

    private static (int Length, string Value) Number(ReadOnlySpan<char> text)
    {
        var hexadecimal = text.Length > 1 && text[1] is 'x' or 'X';
        var start = hexadecimal ? 2 : 1;
        var (at, number) = (start, 0L);
        for (; at < text.Length && (hexadecimal ? char.IsAsciiHexDigit(text[at]) : char.IsAsciiDigit(text[at])); at++)
            number = Math.Min(number * (hexadecimal ? 16 : 10) + Convert.ToInt32(text[at].ToString(), 16), 0x110000);
        if (at == start)
            return (0, "");
        if (at < text.Length && text[at] == ';')
            at++;
        return (at, Character((int)number));
    }

    private static string Character(int number) => number switch
    {
        0 => "\uFFFD",
        13 => "\r",
        >= 0x80 and <= 0x9F => TextRepair.Windows1252(number).ToString(),   // meant as Windows-1252, says the standard
        (>= 0xD800 and <= 0xDFFF) or > 0x10FFFF => "\uFFFD",
        (>= 1 and <= 8) or 11 or (>= 14 and <= 31) or 127 or (>= 0xFDD0 and <= 0xFDEF) => "",
        _ when (number & 0xFFFE) == 0xFFFE => "",
        _ => char.ConvertFromUtf32(number),
    };
}
