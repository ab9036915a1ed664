namespace Panoptes.Checkpoints;

/// <summary>The element types of the safetensors format, in the order of its reference implementation, by which the writer sorts.</summary>
/// <remarks>
/// Those from <see cref="F8E5M2"/> on which TorchSharp's <see cref="ScalarType"/> has no name are still types of libtorch: their tensors
/// carry libtorch's number, and converting them (<c>tensor.to(ScalarType.Float32)</c>) works. F4 and F6 can be read as bytes only.
/// </remarks>
public sealed record TensorDType
{
    /// <summary>The format's name, such as <c>BF16</c>.</summary>
    public required string Name { get; init; }

    /// <summary>Bits of one element.</summary>
    public required int Bits { get; init; }

    /// <summary>libtorch's type, or null where it has none that holds single elements.</summary>
    public ScalarType? ScalarType { get; init; }

    /// <summary>Place in the reference implementation's order.</summary>
    public int Rank { get; private init; }

    public static TensorDType Bool { get; } = Get("BOOL");

    public static TensorDType F8E5M2 { get; } = Get("F8_E5M2");

    public static TensorDType F8E4M3 { get; } = Get("F8_E4M3");

    static TensorDType[]? all;

    /// <summary>Every type of the format.</summary>
    public static IReadOnlyList<TensorDType> All => all ??= Make();

    /// <summary>The type of the format's <paramref name="name"/>, or null where there is none.</summary>
    public static TensorDType? Find(string? name) => All.FirstOrDefault(d => d.Name == name);

    /// <summary>The type that stores a tensor's <paramref name="type"/>.</summary>
    /// <exception cref="PanoptesException">The format has no such type (quantized and half or double complex tensors).</exception>
    public static TensorDType Of(ScalarType type) => All.FirstOrDefault(d => d.ScalarType == type)
        ?? throw new PanoptesException($"A tensor of type {type} cannot be stored in safetensors; convert it first.");

    public override string ToString() => Name;

    static TensorDType Get(string name) => Find(name)!;

    static TensorDType[] Make()
    {
        // libtorch's numbers (c10/core/ScalarType.h) for the types that TorchSharp's enumeration leaves out.
        (string Name, int Bits, int Type)[] types =
        [
            ("BOOL", 8, 11), ("F4", 4, -1), ("F6_E2M3", 6, -1), ("F6_E3M2", 6, -1), ("U8", 8, 0), ("I8", 8, 1), ("F8_E5M2", 8, 23), ("F8_E4M3", 8, 24),
            ("F8_E8M0", 8, 44), ("F8_E4M3FNUZ", 8, 26), ("F8_E5M2FNUZ", 8, 25), ("I16", 16, 2), ("U16", 16, 27), ("F16", 16, 5), ("BF16", 16, 15),
            ("I32", 32, 3), ("U32", 32, 28), ("F32", 32, 6), ("C64", 64, 9), ("F64", 64, 7), ("I64", 64, 4), ("U64", 64, 29),
        ];
        return [.. types.Select((t, i) => new TensorDType { Name = t.Name, Bits = t.Bits, ScalarType = t.Type < 0 ? null : (ScalarType)t.Type, Rank = i })];
    }
}
