namespace Panoptes.Imaging;

/// <summary>The file formats that are read; PNG, JPEG and WebP are written too.</summary>
public enum ImageFormat { Png, Jpeg, Webp, Gif, Bmp }

/// <summary>What the head of an image file says, before any pixel is decoded.</summary>
/// <param name="Width">Columns after the EXIF orientation is applied.</param>
/// <param name="Height">Rows after the EXIF orientation is applied.</param>
/// <param name="Format">Recognized by content, whatever the file is called.</param>
/// <param name="Orientation">EXIF orientation, 1 (upright) to 8.</param>
public sealed record ImageInfo(int Width, int Height, ImageFormat Format, int Orientation);

/// <summary>What a decoder may allocate. Checked on the header, before memory is taken.</summary>
public sealed record ImageLimits
{
    /// <summary>178,956,970 pixels: twice 1 GiB / 4 / 3, where Pillow raises its decompression-bomb error.</summary>
    public const long DefaultMaxPixels = 2L * (1024 * 1024 * 1024 / 4 / 3);

    public static ImageLimits Default { get; } = new();

    /// <summary>The largest width times height that is decoded.</summary>
    public long MaxPixels { get; init; } = DefaultMaxPixels;
}

/// <summary>An opaque color, red, green and blue from 0 to 255.</summary>
public readonly record struct Rgb(byte R, byte G, byte B)
{
    public static Rgb White { get; } = new(255, 255, 255);
    public static Rgb Black { get; } = new(0, 0, 0);

    /// <summary>Reads <c>#rrggbb</c> or <c>rrggbb</c>.</summary>
    /// <exception cref="PanoptesException">Not six hexadecimal digits.</exception>
    public static Rgb Parse(string text)
    {
        var digits = text.AsSpan().TrimStart('#');
        if (digits.Length != 6 || !int.TryParse(digits, System.Globalization.NumberStyles.AllowHexSpecifier, null, out var value))
            throw new PanoptesException($"'{text}' is not a color: expected #rrggbb, six hexadecimal digits.");
        return new((byte)(value >> 16), (byte)(value >> 8), (byte)value);
    }

    public override string ToString() => $"#{R:x2}{G:x2}{B:x2}";
}
