using System.Text.Json;

namespace Panoptes;

/// <summary>What is wrong with a JSON file, in words of the file rather than of the types that it is read into.</summary>
public static class JsonFault
{
    /// <summary>One clause without a full stop: "field freq_shift: found another kind of value, expected a number".</summary>
    /// <param name="fault">The reader's; any other says itself what is wrong, such as a name given twice.</param>
    public static string Of(Exception fault)
    {
        if (fault is not JsonException json) return fault.Message.TrimEnd('.');
        // What the reader appends is told here: the field before, the line behind.
        var said = json.Message.Split(" Path: ")[0].Split(" LineNumber: ")[0].TrimEnd('.');
        var field = json.Path is { Length: > 2 } path ? $"field {path[2..]}: " : "";
        if (After(said, "could not be converted to ") is { } type) return $"{field}found another kind of value, expected {Kind(type)}";
        if (After(said, "missing required properties including: ") is { } names) return $"{field}it lacks {names.TrimEnd('.')}";
        if (said.Contains("null value", StringComparison.Ordinal) && said.Contains("nullability", StringComparison.Ordinal)) return $"{field}found null, expected a value";
        if (said.Contains("isFinalBlock", StringComparison.Ordinal)) return "it is empty or ends too early, expected a whole JSON text";
        return field + said + (json.LineNumber is { } line && field.Length == 0 ? $" (line {line + 1})" : "");
    }

    static string? After(string text, string words) => text.IndexOf(words, StringComparison.Ordinal) is >= 0 and var at ? text[(at + words.Length)..] : null;

    /// <summary>What a type is called by whoever writes the file.</summary>
    static string Kind(string type) => type.Contains("[]", StringComparison.Ordinal) || type.Contains("List`1", StringComparison.Ordinal) ? "a list"
        : type.Contains("Boolean", StringComparison.Ordinal) ? "true or false"
        : type.Contains("Int32", StringComparison.Ordinal) || type.Contains("Int64", StringComparison.Ordinal) ? "a whole number"
        : type.Contains("Double", StringComparison.Ordinal) || type.Contains("Single", StringComparison.Ordinal) ? "a number"
        : type.Contains("String", StringComparison.Ordinal) ? "a text"
        : "another form";
}
