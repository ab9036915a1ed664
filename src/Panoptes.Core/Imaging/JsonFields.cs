using System.Text.Json;
using System.Text.Json.Nodes;

namespace Panoptes.Imaging;

/// <summary>A JSON object being read field by field; every error names the file and the field. What was not asked for is left over.</summary>
sealed class JsonFields(JsonObject fields, string source)
{
    readonly HashSet<string> read = [];

    public static JsonFields Parse(string json, string source)
    {
        try
        {
            var options = new JsonDocumentOptions { AllowTrailingCommas = true, CommentHandling = JsonCommentHandling.Skip, AllowDuplicateProperties = false };
            return new(JsonNode.Parse(json, documentOptions: options) as JsonObject ?? throw new PanoptesException($"{source}: expected a JSON object."), source);
        }
        catch (Exception e) when (e is JsonException or ArgumentException)
        {
            throw new PanoptesException($"{source}: not JSON: {e.Message}", e);
        }
    }

    public string Source => source;

    public JsonNode? Node(string name)
    {
        read.Add(name);
        return fields[name];
    }

    /// <summary>A nested object, or null where there is none.</summary>
    public JsonFields? Object(string name) => Node(name) is JsonObject inner ? new(inner, $"{source}: {name}") : null;

    public string? Text(string name) => Value<string>(name, "text");

    public bool Flag(string name, bool otherwise) => Value<bool?>(name, "true or false") ?? otherwise;

    public double Number(string name, double otherwise) => Value<double?>(name, "a number") ?? otherwise;

    /// <summary>A positive whole number, or null where the field is absent or null.</summary>
    public int? Count(string name, int most = 65535)
    {
        var value = Value<double?>(name, "a positive whole number");
        if (value is { } v && (v < 1 || v > most || v != Math.Floor(v))) throw Wrong(name, $"a whole number from 1 to {most}");
        return (int?)value;
    }

    /// <summary>One finite value a color channel; a single number stands for all three.</summary>
    public float[] Channels(string name, float[] otherwise)
    {
        var node = Node(name);
        try
        {
            var values = node switch
            {
                null => otherwise,
                JsonArray { Count: 3 } list => [.. list.Select(v => v!.GetValue<float>())],
                JsonArray { Count: 1 } list => [list[0]!.GetValue<float>(), list[0]!.GetValue<float>(), list[0]!.GetValue<float>()],
                JsonValue value => [value.GetValue<float>(), value.GetValue<float>(), value.GetValue<float>()],
                _ => throw Wrong(name, "three numbers"),
            };
            return Array.TrueForAll(values, float.IsFinite) ? values : throw Wrong(name, "three finite numbers");
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or NullReferenceException)
        {
            throw Wrong(name, "three numbers");
        }
    }

    /// <summary>The fields that nobody asked for, to be written back as they were.</summary>
    public IReadOnlyDictionary<string, JsonNode?> Rest() => fields.Where(f => !read.Contains(f.Key)).ToDictionary(f => f.Key, f => f.Value?.DeepClone());

    public PanoptesException Wrong(string name, string expected) =>
        new($"{source}: field {name} is {fields[name]?.ToJsonString() ?? "missing"}: expected {expected}.");

    T? Value<T>(string name, string expected)
    {
        try
        {
            return Node(name) is { } node ? node.GetValue<T>() : default;
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException)
        {
            throw Wrong(name, expected);
        }
    }
}
