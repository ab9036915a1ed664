using System.Globalization;
using System.Runtime.CompilerServices;

namespace Panoptes;

/// <summary>An interpolated sentence that says numbers the same way whatever the program's culture is: what the compiler makes of <c>$"…"</c> where one is expected.</summary>
/// <param name="literalLength">As the compiler counts it.</param>
/// <param name="formattedCount">As the compiler counts it.</param>
[InterpolatedStringHandler]
public ref struct InvariantMessage(int literalLength, int formattedCount)
{
    DefaultInterpolatedStringHandler text = new(literalLength, formattedCount, CultureInfo.InvariantCulture);

    public void AppendLiteral(string value) => text.AppendLiteral(value);

    public void AppendFormatted<T>(T value) => text.AppendFormatted(value);

    public void AppendFormatted<T>(T value, string? format) => text.AppendFormatted(value, format);

    public void AppendFormatted(ReadOnlySpan<char> value) => text.AppendFormatted(value);

    /// <summary>The sentence; asked for once.</summary>
    public string ToStringAndClear() => text.ToStringAndClear();
}
