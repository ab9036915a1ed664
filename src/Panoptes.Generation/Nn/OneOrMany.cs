using System.Text.Json;
using System.Text.Json.Serialization;

namespace Panoptes.Generation;

/// <summary>A field of diffusers' configs that is one value for all levels of a model, or a list with one for each; written back as it was read.</summary>
[JsonConverter(typeof(OneOrManyConverter))]
public sealed record OneOrMany<T>(T? One, IReadOnlyList<T>? Many)
{
    public static implicit operator OneOrMany<T>(T one) => new(one, null);

    public static implicit operator OneOrMany<T>(T[] many) => new(default, many);

    /// <summary>The value of level <paramref name="index"/>.</summary>
    public T this[int index] => Many is null ? One! : Many[index];

    /// <summary>All values, where they are one for each of <paramref name="count"/>.</summary>
    /// <param name="field">The field's name, for the error.</param>
    /// <exception cref="PanoptesException">The list has another length.</exception>
    public T[] Of(int count, string field) => Many is { } many && many.Count != count
        ? throw new PanoptesException($"{field} is a list of {many.Count}; expected one value, or {count} of them.")
        : [.. Enumerable.Range(0, count).Select(i => this[i])];
}

static class OneOrMany
{
    /// <summary>The most places that a side may have.</summary>
    const int MostPlaces = 8192;

    /// <exception cref="PanoptesException">Sides that no model has.</exception>
    public static void CheckSides(OneOrMany<int>? sides, string field)
    {
        foreach (var side in sides?.Many ?? (sides is null ? [] : [sides.One]))
            if (side is < 1 or > MostPlaces) throw new PanoptesException($"{field} is {side}; expected 1 to {MostPlaces}.");
        if (sides?.Many is { Count: not 2 } many) throw new PanoptesException($"{field} has {many.Count} sides; expected one, or rows and columns.");
    }
}

sealed class OneOrManyConverter : JsonConverterFactory
{
    public override bool CanConvert(Type typeToConvert) => typeToConvert.IsGenericType && typeToConvert.GetGenericTypeDefinition() == typeof(OneOrMany<>);

    public override JsonConverter CreateConverter(Type typeToConvert, JsonSerializerOptions options) =>
        (JsonConverter)Activator.CreateInstance(typeof(Of<>).MakeGenericType(typeToConvert.GetGenericArguments()))!;

    sealed class Of<T> : JsonConverter<OneOrMany<T>>
    {
        public override OneOrMany<T> Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.TokenType == JsonTokenType.StartArray
            ? new(default, JsonSerializer.Deserialize<T[]>(ref reader, options) is { Length: > 0 } many ? many : throw new JsonException("found an empty list, expected one value at least"))
            : new(JsonSerializer.Deserialize<T>(ref reader, options), null);

        public override void Write(Utf8JsonWriter writer, OneOrMany<T> value, JsonSerializerOptions options)
        {
            if (value.Many is { } many) JsonSerializer.Serialize(writer, many, options);
            else JsonSerializer.Serialize(writer, value.One, options);
        }
    }
}
