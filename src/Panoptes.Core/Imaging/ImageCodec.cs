using System.Buffers;
using SkiaSharp;

namespace Panoptes.Imaging;

/// <summary>
/// Files to pixels and back, by Skia: it decodes every kind of PNG (palettes, gray, 1 to 16 bits, interlaced), JPEG (its
/// libjpeg-turbo, with every subsampling, progressive, gray, CMYK), WebP, GIF and BMP to exactly the bytes that Pillow 13 gives, keeps
/// alpha straight, and comes with native binaries for every platform. Nothing is color-managed, as in Pillow.
/// </summary>
/// <remarks>
/// Two choices differ on purpose: 16-bit gray keeps its high byte, as 16-bit color does (Pillow's conversion of it clips at 255), and
/// a gray or RGB PNG with one transparent color gets alpha (Pillow only notes the color). GIF's transparent pixels are zero.
/// </remarks>
static unsafe class ImageCodec
{
    /// <summary>Larger buffers are not kept for the next image.</summary>
    const int MaxRented = 64 << 20;

    public static ImageInfo Identify(ReadOnlySpan<byte> bytes, string source)
    {
        fixed (byte* p = bytes)
        {
            using var codec = Open(p, bytes, source, out var format);
            var orientation = Exif.Orientation(bytes, format);
            var (w, h) = (codec.Info.Width, codec.Info.Height);
            return orientation >= 5 ? new(h, w, format, orientation) : new(w, h, format, orientation);
        }
    }

    public static Image Decode(ReadOnlySpan<byte> bytes, string source, ImageLimits limits)
    {
        fixed (byte* p = bytes)
        {
            using var codec = Open(p, bytes, source, out var format);
            var (width, height) = (codec.Info.Width, codec.Info.Height);
            if ((long)width * height > limits.MaxPixels)
                throw new PanoptesException($"{source}: {width}x{height} is {(long)width * height:N0} pixels, more than the {limits.MaxPixels:N0} that are allowed.");
            if (ImageBounds.Fault(bytes, format, width, height) is { } fault) throw new PanoptesException($"{source}: the {Name(format)} file is truncated or damaged: {fault}.");

            var gray = codec.Info.ColorType == SKColorType.Gray8;
            var opaque = codec.Info.AlphaType == SKAlphaType.Opaque;
            var info = new SKImageInfo(width, height, gray ? SKColorType.Gray8 : SKColorType.Rgba8888, opaque ? SKAlphaType.Opaque : SKAlphaType.Unpremul);
            if (info.BytesSize64 > Array.MaxLength)
                throw new PanoptesException($"{source}: {width}x{height} pixels do not fit one array; expected fewer than {Array.MaxLength / 4:N0}.");
            // Opaque color comes as four bytes a pixel and is kept as three.
            var strip = opaque && !gray;
            var pixels = strip && info.BytesSize64 <= MaxRented ? ArrayPool<byte>.Shared.Rent((int)info.BytesSize64) : GC.AllocateUninitializedArray<byte>((int)info.BytesSize64);
            try
            {
                SKCodecResult result;
                fixed (byte* target = pixels) result = codec.GetPixels(info, (nint)target, info.RowBytes, SKCodecOptions.Default);
                if (result != SKCodecResult.Success)
                    throw new PanoptesException($"{source}: the {Name(format)} file is {(result == SKCodecResult.IncompleteInput ? "truncated" : "damaged")}: expected {width}x{height} pixels.");
                Image image;
                if (strip)
                {
                    image = Image.Uninitialized(width, height, 3);
                    PixelOperations.DropAlpha(pixels.AsSpan(0, (int)info.BytesSize64), image.Pixels);
                }
                else image = new Image(width, height, gray ? 1 : 4, pixels);
                return PixelOperations.Orient(image, Exif.Orientation(bytes, format));
            }
            finally
            {
                if (strip && info.BytesSize64 <= MaxRented) ArrayPool<byte>.Shared.Return(pixels);
            }
        }
    }

    public static byte[] Encode(Image image, ImageFormat format, int quality)
    {
        var kind = format switch
        {
            ImageFormat.Png => SKEncodedImageFormat.Png,
            ImageFormat.Jpeg => SKEncodedImageFormat.Jpeg,
            ImageFormat.Webp => SKEncodedImageFormat.Webp,
            _ => throw new PanoptesException($"Images are not written as {Name(format)}: expected PNG, JPEG or WebP."),
        };
        if (quality is < 1 or > 100) throw new PanoptesException($"An image quality of {quality} is not possible: expected 1 to 100.");
        if (format == ImageFormat.Jpeg && image.HasAlpha) image = image.ToRgb();
        var alpha = image.HasAlpha ? SKAlphaType.Unpremul : SKAlphaType.Opaque;
        if (image.Channels == 3) image = image.ToRgba();                           // Skia has no three-byte pixels; an opaque file has no alpha
        var info = new SKImageInfo(image.Width, image.Height, image.Channels == 1 ? SKColorType.Gray8 : SKColorType.Rgba8888, alpha);
        fixed (byte* p = image.Pixels)
        {
            using var pixmap = new SKPixmap(info, (nint)p, info.RowBytes);
            using var data = format switch
            {
                ImageFormat.Png => pixmap.Encode(new SKPngEncoderOptions(SKPngEncoderFilterFlags.AllFilters, 6)),
                ImageFormat.Jpeg => pixmap.Encode(new SKJpegEncoderOptions(quality, SKJpegEncoderDownsample.Downsample420, SKJpegEncoderAlphaOption.Ignore)),
                _ => pixmap.Encode(new SKWebpEncoderOptions(quality == 100 ? SKWebpEncoderCompression.Lossless : SKWebpEncoderCompression.Lossy, quality)),
            };
            return data?.ToArray() ?? throw new PanoptesException($"An image of {image.Width}x{image.Height} cannot be written as {Name(format)}.");
        }
    }

    static SKCodec Open(byte* start, ReadOnlySpan<byte> bytes, string source, out ImageFormat format)
    {
        format = Recognize(bytes) ?? throw new PanoptesException(
            bytes.IsEmpty ? $"{source}: the file is empty; expected an image." : $"{source}: not an image that can be read: expected PNG, JPEG, WebP, GIF or BMP.");
        using var data = SKData.Create((nint)start, bytes.Length);
        return SKCodec.Create(data) is { Info: { Width: > 0, Height: > 0 } } codec
            ? codec
            : throw new PanoptesException($"{source}: the head of the {Name(format)} file is damaged or truncated ({bytes.Length:N0} bytes).");
    }

    static ImageFormat? Recognize(ReadOnlySpan<byte> b) => b switch
    {
        [0x89, (byte)'P', (byte)'N', (byte)'G', 13, 10, 26, 10, ..] => ImageFormat.Png,
        [0xFF, 0xD8, 0xFF, ..] => ImageFormat.Jpeg,
        [(byte)'R', (byte)'I', (byte)'F', (byte)'F', _, _, _, _, (byte)'W', (byte)'E', (byte)'B', (byte)'P', ..] => ImageFormat.Webp,
        [(byte)'G', (byte)'I', (byte)'F', (byte)'8', (byte)'7' or (byte)'9', (byte)'a', ..] => ImageFormat.Gif,
        [(byte)'B', (byte)'M', ..] => ImageFormat.Bmp,
        _ => null,
    };

    static string Name(ImageFormat format) => format == ImageFormat.Webp ? "WebP" : format.ToString().ToUpperInvariant();
}
