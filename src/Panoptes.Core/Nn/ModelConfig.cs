using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace Panoptes.Nn;

/// <summary>
/// Base of the config records: immutable, read from and written to the peer's config.json under the peer's snake_case names and
/// defaults. Fields that no record knows survive a round trip in <see cref="Unknown"/>.
/// </summary>
public abstract record ModelConfig
{
    public static JsonSerializerOptions JsonOptions { get; } = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        AllowTrailingCommas = true,
        ReadCommentHandling = JsonCommentHandling.Skip,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Converters = { new PythonFloatConverter() },
        TypeInfoResolver = new DefaultJsonTypeInfoResolver { Modifiers = { CheckValues } },
    };

    /// <summary>
    /// null for a part that must be there means its default, as in the peer. Whole numbers are sizes, unless they are ids: one that no model has is
    /// refused before anything is built of it. There may be no extra tokens.
    /// </summary>
    static void CheckValues(JsonTypeInfo type)
    {
        for (var i = 0; i < type.Properties.Count; i++)
        {
            var property = type.Properties[i];
            if (property.Set is not { } set) continue;
            var mayBeNull = property.IsSetNullable || Nullable.GetUnderlyingType(property.PropertyType) is not null;
            if (!mayBeNull && property.PropertyType.IsValueType && property is { CustomConverter: null, AssociatedParameter: null })
            {
                // Read as one that may be null, so that null can be told from a value.
                var nullable = type.CreateJsonPropertyInfo(typeof(Nullable<>).MakeGenericType(property.PropertyType), property.Name);
                (nullable.Get, nullable.Set, nullable.Order, nullable.IsRequired, nullable.NumberHandling, nullable.ShouldSerialize) = (property.Get, set, property.Order, property.IsRequired, property.NumberHandling, property.ShouldSerialize);
                type.Properties[i] = property = nullable;
            }
            var most = property.Name.EndsWith("_id", StringComparison.Ordinal) ? 0 : property.Name.EndsWith("layers", StringComparison.Ordinal) ? 1000 : 1 << 24;
            var least = property.Name.EndsWith("_tokens", StringComparison.Ordinal) ? 0 : 1;
            property.Set = (target, value) =>
            {
                if (value is null && !mayBeNull) return;
                if (most > 0)
                    foreach (var size in value switch { int number => [number], int[] numbers => numbers, _ => (ReadOnlySpan<int>)[] })
                        if (size < least || size > most) throw new JsonException($"found {size}, expected {least} to {most}");
                set(target, value);
            };
        }
    }

    /// <summary>What the peer calls the weights beside this config, before ".safetensors".</summary>
    [JsonIgnore]
    public virtual string WeightsName => "model";

    /// <summary>Fields of the file that this record does not declare.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Unknown { get; init; }

    /// <summary>Reads <typeparamref name="T"/> from JSON; <paramref name="source"/> names the file in errors.</summary>
    /// <exception cref="PanoptesException">Not JSON, or a field has a value that is not supported.</exception>
    public static T Parse<T>(string json, string source) where T : ModelConfig
    {
        try
        {
            return JsonSerializer.Deserialize<T>(json, JsonOptions) ?? throw new PanoptesException($"{source}: expected a JSON object, found null.");
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{source}: {JsonFault.Of(e)}.", e);
        }
    }

    public string ToJson() => JsonSerializer.Serialize(this, GetType(), JsonOptions);
}

/// <summary>Writes 1 as 1.0: Python's strict config classes take no integer where they declare a float.</summary>
sealed class PythonFloatConverter : JsonConverter<double>
{
    public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetDouble();

    public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
    {
        if (double.IsFinite(value) && value == Math.Floor(value) && Math.Abs(value) < 1e15)
            writer.WriteRawValue(value.ToString("F1", System.Globalization.CultureInfo.InvariantCulture));
        else writer.WriteNumberValue(value);
    }
}
