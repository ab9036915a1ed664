using System.Text.Json;

namespace Panoptes.Text;

/// <summary>Reads the small files that tokenizers are kept in.</summary>
internal static class TokenizerFiles
{
    private const long LargestFile = 256L << 20;   // the largest public tokenizer.json has some 35 MB

    public static byte[] ReadBytes(string file)
    {
        try
        {
            var length = new FileInfo(file).Length;
            return length <= LargestFile ? File.ReadAllBytes(file) : throw new PanoptesException($"{file}: has {length} bytes; at most {LargestFile} were expected of a tokenizer's file.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{file}: cannot be read: {e.Message}", e);
        }
    }

    public static JsonElement ReadJson(string file)
    {
        try
        {
            var bytes = ReadBytes(file);
            using var document = JsonDocument.Parse(bytes.AsMemory(bytes.AsSpan().StartsWith("\uFEFF"u8) ? 3 : 0));
            CheckText(document.RootElement);
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? document.RootElement.Clone()
                : throw new PanoptesException($"{file}: expected a JSON object, found {document.RootElement.ValueKind}.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)   // the latter: text that is no Unicode
        {
            throw new PanoptesException($"{file}: is not JSON: {e.Message}", e);
        }
    }

    /// <summary>Strings are decoded when they are asked for; here already, so that those which are not Unicode are found while the file is known.</summary>
    private static void CheckText(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.String:
                element.GetString();
                break;
            case JsonValueKind.Array:
                foreach (var item in element.EnumerateArray())
                    CheckText(item);
                break;
            case JsonValueKind.Object:
                foreach (var property in element.EnumerateObject())
                {
                    _ = property.Name;
                    CheckText(property.Value);
                }
                break;
        }
    }

    /// <summary>vocab.json: an object of tokens and their ids.</summary>
    public static Dictionary<string, int> ReadVocabulary(string file)
    {
        var bytes = ReadBytes(file).AsSpan();
        var reader = new Utf8JsonReader(bytes[(bytes.StartsWith("\uFEFF"u8) ? 3 : 0)..]);
        var vocabulary = new Dictionary<string, int>(bytes.Length / 20);
        try
        {
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
                throw new PanoptesException($"{file}: expected a JSON object of tokens and ids.");
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var token = reader.GetString()!;
                if (!reader.Read() || reader.TokenType != JsonTokenType.Number || !reader.TryGetInt32(out var id))
                    throw new PanoptesException($"{file}: token \"{token}\" has no id; a whole number was expected.");
                vocabulary[token] = id;
            }
            if (reader.TokenType != JsonTokenType.EndObject || reader.Read())
                throw new PanoptesException($"{file}: expected one JSON object of tokens and ids.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)   // the latter: an escaped lone surrogate
        {
            throw new PanoptesException($"{file}: is not JSON: {e.Message}", e);
        }
        return vocabulary.Count > 0 ? vocabulary : throw new PanoptesException($"{file}: the vocabulary is empty.");
    }

    /// <summary>merges.txt: a "#version" line, then a pair a line.</summary>
    public static List<(string Left, string Right)> ReadMerges(string file) => ParseMerges(System.Text.Encoding.UTF8.GetString(ReadBytes(file)), file);

    /// <summary>The text of a merges.txt.</summary>
    public static List<(string Left, string Right)> ParseMerges(string text, string file)
    {
        var merges = new List<(string, string)>(text.Length / 8);
        var number = 0;
        foreach (var range in text.AsSpan().Split('\n'))
        {
            var line = text.AsSpan()[range].TrimEnd('\r');
            number++;
            if (line.IsEmpty || line.StartsWith("#version"))
                continue;
            var space = line.IndexOf(' ');
            if (space <= 0 || space == line.Length - 1 || line[(space + 1)..].Contains(' '))
                throw new PanoptesException($"{file}: line {number} is \"{line[..Math.Min(60, line.Length)]}\"; two tokens with one space between them were expected.");
            merges.Add((line[..space].ToString(), line[(space + 1)..].ToString()));
        }
        return merges;
    }
}
