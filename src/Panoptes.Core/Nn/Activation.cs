using System.Text.Json;
using System.Text.Json.Serialization;

namespace Panoptes.Nn;

/// <summary>The activations by the names that config.json files use.</summary>
[JsonConverter(typeof(ActivationConverter))]
public enum Activation
{
    /// <summary>Exact: x Φ(x), by erf ("gelu").</summary>
    Gelu,

    /// <summary>The tanh approximation ("gelu_pytorch_tanh", "gelu_new", "gelu_fast").</summary>
    GeluTanh,

    /// <summary>x σ(1.702 x) ("quick_gelu"), OpenAI CLIP's.</summary>
    QuickGelu,

    Relu,

    /// <summary>x σ(x) ("silu", "swish").</summary>
    Silu,
}

public static class Activations
{
    internal const double QuickGeluFactor = 1.702;

    /// <summary>Applies <paramref name="activation"/> element by element.</summary>
    public static Tensor Apply(this Activation activation, Tensor x) => activation switch
    {
        Activation.Gelu => nn.functional.gelu(x),
        Activation.GeluTanh => Native.TorchOps.GeluTanh(x),
        Activation.QuickGelu => x * (x * QuickGeluFactor).sigmoid_(),
        Activation.Relu => nn.functional.relu(x),
        Activation.Silu => nn.functional.silu(x),
        _ => throw new ArgumentOutOfRangeException(nameof(activation)),
    };
}

sealed class ActivationConverter : JsonConverter<Activation>
{
    static readonly (string Name, Activation Value)[] Names =
    [
        ("gelu", Activation.Gelu), ("quick_gelu", Activation.QuickGelu), ("relu", Activation.Relu), ("silu", Activation.Silu), ("swish", Activation.Silu),
        ("gelu_pytorch_tanh", Activation.GeluTanh), ("gelu_new", Activation.GeluTanh), ("gelu_fast", Activation.GeluTanh), ("gelu_accurate", Activation.GeluTanh),
    ];

    public override Activation Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        var name = reader.GetString();
        foreach (var (known, value) in Names)
            if (known == name) return value;
        throw new JsonException($"the activation \"{name}\" is not one of {string.Join(", ", Names.Select(static n => n.Name))}");
    }

    public override void Write(Utf8JsonWriter writer, Activation value, JsonSerializerOptions options) =>
        writer.WriteStringValue(Names.First(n => n.Value == value).Name);
}
