using Panoptes.Checkpoints;

namespace Panoptes.Imaging;

/// <summary>
/// A picture in plain managed memory: uint8, row by row, channels interleaved. One channel is gray, three are RGB, four are RGB
/// with straight (not premultiplied) alpha. Treated as immutable by everything here: operations return new images.
/// </summary>
public sealed partial class Image
{
    public int Width { get; }

    public int Height { get; }

    /// <summary>1 (gray), 3 (RGB) or 4 (RGB and straight alpha).</summary>
    public int Channels { get; }

    /// <summary>Height x Width x Channels bytes, the channel running fastest.</summary>
    public byte[] Pixels { get; }

    public bool HasAlpha => Channels == 4;

    /// <summary>Wraps <paramref name="pixels"/>, which is not copied.</summary>
    /// <exception cref="ArgumentException">A size below 1, another number of channels, or an array of another length.</exception>
    public Image(int width, int height, int channels, byte[] pixels)
    {
        if (width < 1 || height < 1) throw new ArgumentException($"An image of {width}x{height} has no pixels.");
        if (channels is not (1 or 3 or 4)) throw new ArgumentException($"An image has 1, 3 or 4 channels, not {channels}.");
        if (pixels.LongLength != (long)width * height * channels)
            throw new ArgumentException($"{width}x{height}x{channels} pixels need {(long)width * height * channels} bytes, found {pixels.LongLength}.");
        (Width, Height, Channels, Pixels) = (width, height, channels, pixels);
    }

    /// <summary>A new image, all zero (black, and transparent where it has alpha).</summary>
    public Image(int width, int height, int channels) : this(width, height, channels, new byte[checked(width * height * channels)]) { }

    /// <summary>For code that writes every byte.</summary>
    internal static Image Uninitialized(int width, int height, int channels) =>
        new(width, height, channels, GC.AllocateUninitializedArray<byte>(checked(width * height * channels)));

    /// <summary>One pixel row: Width x Channels bytes.</summary>
    public ReadOnlySpan<byte> Row(int y) => Pixels.AsSpan(y * Width * Channels, Width * Channels);

    /// <summary>Reads PNG, JPEG, WebP, GIF (first frame) or BMP, recognized by content; the EXIF orientation is applied.</summary>
    /// <exception cref="PanoptesException">No such file, not an image, damaged, or more pixels than <paramref name="limits"/> allow.</exception>
    public static Image Load(string path, ImageLimits? limits = null) => Decode(ReadFile(path), path, limits);

    /// <inheritdoc cref="Load"/>
    public static async Task<Image> LoadAsync(string path, ImageLimits? limits = null, CancellationToken cancellation = default)
    {
        try
        {
            return Decode(await File.ReadAllBytesAsync(path, cancellation), path, limits);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unreadable(path, e);
        }
    }

    /// <summary>Decodes a whole file in memory; <paramref name="source"/> names it in errors.</summary>
    /// <inheritdoc cref="Load" path="/exception"/>
    public static Image Decode(ReadOnlySpan<byte> bytes, string source = "image", ImageLimits? limits = null) =>
        ImageCodec.Decode(bytes, source, limits ?? ImageLimits.Default);

    /// <summary>Reads the head of a file only.</summary>
    /// <inheritdoc cref="Load" path="/exception"/>
    public static ImageInfo Identify(string path) => ImageCodec.Identify(ReadFile(path), path);

    /// <inheritdoc cref="Identify(string)"/>
    public static ImageInfo Identify(ReadOnlySpan<byte> bytes, string source = "image") => ImageCodec.Identify(bytes, source);

    /// <summary>Writes by the extension of <paramref name="path"/> (.png, .jpg, .jpeg, .webp); the file appears whole or not at all, in a folder that is made where there is none.</summary>
    /// <remarks><paramref name="quality"/> is 1 to 100, for JPEG and WebP; 100 makes WebP lossless.</remarks>
    /// <exception cref="PanoptesException">Another extension, or the file cannot be written.</exception>
    public void Save(string path, int quality = 90)
    {
        var format = Path.GetExtension(path).ToLowerInvariant() switch
        {
            ".png" => ImageFormat.Png,
            ".jpg" or ".jpeg" => ImageFormat.Jpeg,
            ".webp" => ImageFormat.Webp,
            var other => throw new PanoptesException($"{path}: cannot write an image as '{other}': expected .png, .jpg, .jpeg or .webp."),
        };
        var bytes = Encode(format, quality);
        AtomicFile.Write(path, stream => stream.Write(bytes));
    }

    /// <summary>The bytes of a file. JPEG has no alpha: transparent images are composited over white first.</summary>
    /// <remarks><paramref name="quality"/> is 1 to 100, for JPEG and WebP; 100 makes WebP lossless.</remarks>
    /// <exception cref="PanoptesException">A format that is read but not written (GIF, BMP), or more than 16,383 (WebP) or 65,535 (JPEG) pixels a side.</exception>
    public byte[] Encode(ImageFormat format, int quality = 90) => ImageCodec.Encode(this, format, quality);

    /// <summary>Three channels: gray is repeated, alpha is composited over <paramref name="background"/> (white unless told).</summary>
    /// <remarks>The blend is Pillow's <c>alpha_composite</c>, to the bit.</remarks>
    public Image ToRgb(Rgb? background = null)
    {
        if (Channels == 3) return this;
        var result = Uninitialized(Width, Height, 3);
        if (Channels == 1) PixelOperations.GrayToRgb(Pixels, result.Pixels);
        else PixelOperations.CompositeOverColor(Pixels, result.Pixels, background ?? Rgb.White);
        return result;
    }

    /// <summary>Three channels by forgetting alpha, as Pillow's <c>convert("RGB")</c> does: the color under transparent pixels shows.</summary>
    public Image DropAlpha()
    {
        if (Channels != 4) return ToRgb();
        var result = Uninitialized(Width, Height, 3);
        PixelOperations.DropAlpha(Pixels, result.Pixels);
        return result;
    }

    /// <summary>Four channels; opaque unless the image has alpha.</summary>
    public Image ToRgba()
    {
        if (Channels == 4) return this;
        var result = Uninitialized(Width, Height, 4);
        PixelOperations.AddAlpha(Pixels, result.Pixels, Channels);
        return result;
    }

    /// <summary>One channel: ITU-R 601-2 luma in Pillow's fixed point, (19595 R + 38470 G + 7471 B + 32768) >> 16. Alpha is forgotten.</summary>
    public Image ToGray()
    {
        if (Channels == 1) return this;
        var result = Uninitialized(Width, Height, 1);
        PixelOperations.ToGray(Pixels, result.Pixels, Channels);
        return result;
    }

    /// <summary>This image over <paramref name="background"/> of the same size; the result has the background's channels (3 or 4).</summary>
    /// <remarks>Pillow's <c>alpha_composite</c>, to the bit.</remarks>
    /// <exception cref="ArgumentException">The sizes differ.</exception>
    public Image CompositeOver(Image background)
    {
        if ((background.Width, background.Height) != (Width, Height))
            throw new ArgumentException($"An image of {Width}x{Height} cannot be composited over one of {background.Width}x{background.Height}.");
        if (background.Channels == 1) background = background.ToRgb();
        if (Channels != 4) return background.Channels == 4 ? ToRgba() : ToRgb();
        var result = Uninitialized(Width, Height, background.Channels);
        if (background.Channels == 4) PixelOperations.CompositeOverRgba(Pixels, background.Pixels, result.Pixels);
        else PixelOperations.CompositeOverRgb(Pixels, background.Pixels, result.Pixels);
        return result;
    }

    /// <summary>The part from (<paramref name="x"/>, <paramref name="y"/>); what lies outside the image is <paramref name="fill"/> in every channel.</summary>
    public Image Crop(int x, int y, int width, int height, byte fill = 0)
    {
        if ((x, y, width, height) == (0, 0, Width, Height)) return this;
        var result = new Image(width, height, Channels);
        var inside = x >= 0 && y >= 0 && x + width <= Width && y + height <= Height;
        if (!inside && fill != 0) result.Pixels.AsSpan().Fill(fill);
        int left = Math.Max(x, 0), right = Math.Min(x + width, Width), top = Math.Max(y, 0), bottom = Math.Min(y + height, Height);
        for (var row = top; row < bottom && left < right; row++)
            Row(row)[(left * Channels)..(right * Channels)].CopyTo(result.Pixels.AsSpan(((row - y) * width + left - x) * Channels));
        return result;
    }

    /// <summary>The part in a box.</summary>
    public Image Crop(PixelBox box) => Crop(box.X, box.Y, box.Width, box.Height);

    /// <summary>Left and right swapped.</summary>
    public Image FlipHorizontal() => PixelOperations.Orient(this, 2);

    /// <summary>Antialiased resize, exact to Pillow's <c>Image.resize</c> or torchvision's (see <see cref="ResizeRounding"/>).</summary>
    /// <remarks>With alpha, Pillow's way of premultiplying before and dividing after is followed (not for Nearest).</remarks>
    /// <exception cref="ArgumentException">A size below 1.</exception>
    public Image Resize(int width, int height, ResizeFilter filter = ResizeFilter.Bicubic, ResizeRounding rounding = ResizeRounding.Pillow) =>
        Resampler.Resize(this, 0, 0, Width, Height, width, height, filter, rounding);

    /// <summary>Resizes the part (<paramref name="x"/>, <paramref name="y"/>, <paramref name="boxWidth"/>, <paramref name="boxHeight"/>), which may lie between pixels, as Pillow's <c>box</c> argument does.</summary>
    /// <exception cref="ArgumentException">A size below 1 or a part that reaches beyond the image.</exception>
    public Image Resize(double x, double y, double boxWidth, double boxHeight, int width, int height, ResizeFilter filter = ResizeFilter.Bicubic) =>
        Resampler.Resize(this, x, y, boxWidth, boxHeight, width, height, filter, ResizeRounding.Pillow);

    /// <summary>[c, h, w] on the CPU: uint8 as it is, or a floating type scaled to 0..1. The caller owns the tensor.</summary>
    public Tensor ToTensor(ScalarType dtype = ScalarType.Byte) => TensorConversion.ToTensor(this, dtype);

    /// <summary>From uint8 [c, h, w], or floating values of which 0..1 become 0..255 (clamped, rounded half to even).</summary>
    /// <exception cref="ArgumentException">Another number of dimensions or channels.</exception>
    public static Image FromTensor(Tensor tensor) => TensorConversion.FromTensor(tensor);

    public override string ToString() => $"{Width}x{Height}x{Channels}";

    static byte[] ReadFile(string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unreadable(path, e);
        }
    }

    static PanoptesException Unreadable(string path, Exception e) => Directory.Exists(path) ? new($"{path} is a folder; expected an image file.", e) : e is FileNotFoundException or DirectoryNotFoundException
        ? new($"{path}: no such file; expected an image.", e)
        : new($"{path}: cannot be read as an image file: {e.Message}", e);
}
