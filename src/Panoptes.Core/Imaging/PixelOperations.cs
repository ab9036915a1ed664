using System.Runtime.Intrinsics;

namespace Panoptes.Imaging;

/// <summary>Per-pixel conversions over interleaved uint8 buffers.</summary>
static class PixelOperations
{
    public static void GrayToRgb(ReadOnlySpan<byte> gray, Span<byte> rgb)
    {
        for (int i = 0, o = 0; i < gray.Length; i++, o += 3)
        {
            var v = gray[i];
            rgb[o + 2] = v;
            rgb[o + 1] = v;
            rgb[o] = v;
        }
    }

    public static void DropAlpha(ReadOnlySpan<byte> rgba, Span<byte> rgb)
    {
        int i = 0, o = 0;
        if (Vector128.IsHardwareAccelerated)
        {
            // Four pixels a step; the four bytes too many are overwritten by the next.
            var colors = Vector128.Create((byte)0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 15, 15, 15);
            for (; o + 16 <= rgb.Length; i += 16, o += 12) Vector128.Shuffle(Vector128.Create(rgba.Slice(i, 16)), colors).CopyTo(rgb[o..]);
        }
        for (; o < rgb.Length; i += 4, o += 3)
        {
            rgb[o] = rgba[i];
            rgb[o + 1] = rgba[i + 1];
            rgb[o + 2] = rgba[i + 2];
        }
    }

    public static void AddAlpha(ReadOnlySpan<byte> source, Span<byte> rgba, int channels)
    {
        var (green, blue) = channels == 1 ? (0, 0) : (1, 2);
        for (int i = 0, o = 0; o < rgba.Length; i += channels, o += 4)
        {
            rgba[o] = source[i];
            rgba[o + 1] = source[i + green];
            rgba[o + 2] = source[i + blue];
            rgba[o + 3] = 255;
        }
    }

    public static void ToGray(ReadOnlySpan<byte> source, Span<byte> gray, int channels)
    {
        for (int i = 0, o = 0; o < gray.Length; i += channels, o++)
            gray[o] = (byte)((source[i] * 19595 + source[i + 1] * 38470 + source[i + 2] * 7471 + 0x8000) >> 16);
    }

    public static void CompositeOverColor(ReadOnlySpan<byte> rgba, Span<byte> rgb, Rgb color)
    {
        for (int i = 0, o = 0; o < rgb.Length; i += 4, o += 3)
        {
            var a = rgba[i + 3];
            rgb[o] = Blend(rgba[i], color.R, a);
            rgb[o + 1] = Blend(rgba[i + 1], color.G, a);
            rgb[o + 2] = Blend(rgba[i + 2], color.B, a);
        }
    }

    public static void CompositeOverRgb(ReadOnlySpan<byte> rgba, ReadOnlySpan<byte> background, Span<byte> rgb)
    {
        for (int i = 0, o = 0; o < rgb.Length; i += 4, o += 3)
        {
            var a = rgba[i + 3];
            rgb[o] = Blend(rgba[i], background[o], a);
            rgb[o + 1] = Blend(rgba[i + 1], background[o + 1], a);
            rgb[o + 2] = Blend(rgba[i + 2], background[o + 2], a);
        }
    }

    /// <summary>Over an opaque background Pillow's alpha_composite reduces to this: 7 extra bits, then its shift-for-division by 255.</summary>
    static byte Blend(int source, int background, int alpha)
    {
        var sum = ((source * alpha + background * (255 - alpha)) << 7) + (0x80 << 7);
        return (byte)(((sum >> 8) + sum) >> 15);
    }

    public static void CompositeOverRgba(ReadOnlySpan<byte> source, ReadOnlySpan<byte> background, Span<byte> result)
    {
        for (var i = 0; i < result.Length; i += 4)
        {
            if (source[i + 3] == 0)
            {
                background.Slice(i, 4).CopyTo(result[i..]);
                continue;
            }
            var blend = background[i + 3] * (255 - source[i + 3]);
            var alpha = source[i + 3] * 255 + blend;
            var ours = source[i + 3] * 255 * 255 * (1 << 7) / alpha;
            var theirs = 255 * (1 << 7) - ours;
            for (var c = 0; c < 3; c++)
            {
                var sum = source[i + c] * ours + background[i + c] * theirs + (0x80 << 7);
                result[i + c] = (byte)(((sum >> 8) + sum) >> 15);
            }
            result[i + 3] = (byte)((((alpha + 0x80) >> 8) + alpha + 0x80) >> 8);
        }
    }

    /// <summary>Undoes an EXIF orientation (1 to 8): the image as it should be seen.</summary>
    public static Image Orient(Image image, int orientation)
    {
        if (orientation is < 2 or > 8) return image;
        int w = image.Width, h = image.Height, c = image.Channels;
        var turned = orientation >= 5;
        int outWidth = turned ? h : w, outHeight = turned ? w : h;
        var result = Image.Uninitialized(outWidth, outHeight, c);
        // Source position = origin + x * stepX + y * stepY for the pixel (x, y) of the result.
        var (x0, y0, dxx, dxy, dyx, dyy) = orientation switch
        {
            2 => (w - 1, 0, -1, 0, 0, 1),
            3 => (w - 1, h - 1, -1, 0, 0, -1),
            4 => (0, h - 1, 1, 0, 0, -1),
            5 => (0, 0, 0, 1, 1, 0),
            6 => (0, h - 1, 0, -1, 1, 0),
            7 => (w - 1, h - 1, 0, -1, -1, 0),
            _ => (w - 1, 0, 0, 1, -1, 0),
        };
        int stepX = (dxx + dxy * w) * c, stepY = (dyx + dyy * w) * c, origin = (x0 + y0 * w) * c;
        ReadOnlySpan<byte> source = image.Pixels;
        var target = result.Pixels.AsSpan();
        for (int y = 0, o = 0; y < outHeight; y++)
        {
            var i = origin + y * stepY;
            for (var x = 0; x < outWidth; x++, i += stepX, o += c)
            {
                target[o] = source[i];
                if (c == 1) continue;
                target[o + 2] = source[i + 2];
                target[o + 1] = source[i + 1];
                if (c == 4) target[o + 3] = source[i + 3];
            }
        }
        return result;
    }
}
