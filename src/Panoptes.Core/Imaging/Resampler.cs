using System.Buffers;
using System.Runtime.Intrinsics;

namespace Panoptes.Imaging;

/// <summary>
/// Separable resampling of interleaved uint8, exact to Pillow (Resample.c) and to torchvision on uint8 tensors: a horizontal and a
/// vertical pass, each rounded to uint8.
/// </summary>
static class Resampler
{
    public static Image Resize(Image image, double x, double y, double boxWidth, double boxHeight, int width, int height, ResizeFilter filter, ResizeRounding rounding)
    {
        if (width < 1 || height < 1) throw new ArgumentException($"An image cannot be resized to {width}x{height}.");
        if (!(x >= 0 && y >= 0 && boxWidth > 0 && boxHeight > 0 && x + boxWidth <= image.Width && y + boxHeight <= image.Height))
            throw new ArgumentException($"The part ({x}, {y}, {boxWidth}, {boxHeight}) is not inside an image of {image.Width}x{image.Height}.");
        var whole = x == 0 && y == 0 && boxWidth == image.Width && boxHeight == image.Height;
        if (whole && width == image.Width && height == image.Height) return image;
        float left = (float)x, top = (float)y, right = (float)(x + boxWidth), bottom = (float)(y + boxHeight);
        if (filter == ResizeFilter.Nearest)
            return rounding == ResizeRounding.Pillow ? Nearest(image, left, top, right, bottom, width, height) : NearestLikeTorch(image, width, height);

        var horizontal = width != image.Width || left != 0 || right != image.Width;
        var vertical = height != image.Height || top != 0 || bottom != image.Height;
        return Apply(image,
            horizontal ? ResampleTaps.Create(image.Width, left, right, width, filter, rounding) : null,
            vertical ? ResampleTaps.Create(image.Height, top, bottom, height, filter, rounding) : null, width, height,
            rounding == ResizeRounding.Pillow && IsVerticalFirst(image, width, height));
    }

    /// <summary>The part (<paramref name="left"/>, <paramref name="top"/>, <paramref name="windowWidth"/>, <paramref name="windowHeight"/>) of the resized image: only its pixels are computed.</summary>
    public static Image ResizeWindow(Image image, int width, int height, int left, int top, int windowWidth, int windowHeight, ResizeFilter filter, ResizeRounding rounding)
    {
        if ((windowWidth, windowHeight) == (width, height)) return Resize(image, 0, 0, image.Width, image.Height, width, height, filter, rounding);
        if ((width, height) == (image.Width, image.Height)) return image.Crop(left, top, windowWidth, windowHeight);
        if (filter == ResizeFilter.Nearest) return Resize(image, 0, 0, image.Width, image.Height, width, height, filter, rounding).Crop(left, top, windowWidth, windowHeight);
        var verticalFirst = rounding == ResizeRounding.Pillow && IsVerticalFirst(image, width, height);
        var columns = width == image.Width ? null : ResampleTaps.Create(image.Width, 0, image.Width, width, filter, rounding).Window(left, windowWidth);
        var rows = height == image.Height ? null : ResampleTaps.Create(image.Height, 0, image.Height, height, filter, rounding).Window(top, windowHeight);
        if (columns is null) (image, left) = (image.Crop(left, 0, windowWidth, image.Height), 0);
        if (rows is null) (image, top) = (image.Crop(0, top, image.Width, windowHeight), 0);
        return Apply(image, columns, rows, windowWidth, windowHeight, verticalFirst);
    }

    /// <summary>
    /// Where the height shrinks by more than twice what the width does, Pillow 13 goes vertically first, which is cheaper and rounds
    /// differently. (Older versions go horizontally first, up to a height of a hundred times the width.)
    /// </summary>
    static bool IsVerticalFirst(Image image, int width, int height) =>
        height < image.Height && 2 * (image.Width - width) < image.Height - height;

    /// <summary>A pass is left out where its taps are null.</summary>
    static Image Apply(Image image, ResampleTaps? columns, ResampleTaps? rows, int width, int height, bool verticalFirst)
    {
        var result = Image.Uninitialized(width, height, image.Channels);
        if (!image.HasAlpha)
        {
            Passes(image.Pixels, image.Width, image.Height, image.Channels, columns, rows, result, verticalFirst);
            return result;
        }
        var premultiplied = ArrayPool<byte>.Shared.Rent(image.Pixels.Length);
        try
        {
            Premultiply(image.Pixels, premultiplied);
            Passes(premultiplied.AsSpan(0, image.Pixels.Length), image.Width, image.Height, 4, columns, rows, result, verticalFirst);
            Unpremultiply(result.Pixels);
            return result;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(premultiplied);
        }
    }

    static void Passes(ReadOnlySpan<byte> source, int sourceWidth, int sourceHeight, int channels, ResampleTaps? columns, ResampleTaps? rows, Image result, bool verticalFirst)
    {
        if (columns is null)
        {
            if (rows is null) source.CopyTo(result.Pixels);
            else ResamplePasses.Vertical(source, sourceWidth * channels, 0, result.Pixels, sourceWidth * channels, rows);
            return;
        }
        if (verticalFirst && rows is not null)
        {
            var shrunk = ArrayPool<byte>.Shared.Rent(sourceWidth * channels * result.Height);
            try
            {
                ResamplePasses.Vertical(source, sourceWidth * channels, 0, shrunk, sourceWidth * channels, rows);
                Passes(shrunk.AsSpan(0, sourceWidth * channels * result.Height), sourceWidth, result.Height, channels, columns, null, result, false);
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(shrunk);
            }
            return;
        }
        // Only the rows that the vertical pass will look at are resampled.
        var first = rows?.Start[0] ?? 0;
        var last = rows is null ? sourceHeight : rows.Start[^1] + rows.Length[^1];
        var stride = ((result.Width * channels + 31) & ~31) + 32;
        var between = ArrayPool<byte>.Shared.Rent(checked(stride * (last - first)));
        try
        {
            ResamplePasses.Horizontal(source, sourceWidth, channels, first, last, between, stride, columns);
            if (rows is not null) ResamplePasses.Vertical(between, stride, first, result.Pixels, result.Width * channels, rows);
            else
                for (var y = 0; y < result.Height; y++)
                    between.AsSpan(y * stride, result.Width * channels).CopyTo(result.Pixels.AsSpan(y * result.Width * channels));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(between);
        }
    }

    /// <summary>Pillow's ImagingScaleAffine: positions are accumulated, not multiplied.</summary>
    static Image Nearest(Image image, double left, double top, double right, double bottom, int width, int height)
    {
        double stepX = (right - left) / width, stepY = (bottom - top) / height;
        return Pick(image, Positions(left, stepX, width, image.Width), Positions(top, stepY, height, image.Height));

        static int[] Positions(double origin, double step, int count, int limit)
        {
            var positions = new int[count];
            var at = origin + step * 0.5;
            for (var i = 0; i < count; i++, at += step) positions[i] = Math.Min((int)at, limit - 1);
            return positions;
        }
    }

    /// <summary>torch.nn.functional.interpolate(mode="nearest"): floor of the index times a single-precision scale.</summary>
    static Image NearestLikeTorch(Image image, int width, int height)
    {
        return Pick(image, Positions(width, image.Width), Positions(height, image.Height));

        static int[] Positions(int count, int size)
        {
            var scale = (float)size / count;
            var positions = new int[count];
            for (var i = 0; i < count; i++) positions[i] = Math.Min((int)MathF.Floor(i * scale), size - 1);
            return positions;
        }
    }

    static Image Pick(Image image, int[] columns, int[] rows)
    {
        var c = image.Channels;
        var result = Image.Uninitialized(columns.Length, rows.Length, c);
        var target = result.Pixels;
        var o = 0;
        foreach (var y in rows)
        {
            var row = image.Row(y);
            foreach (var x in columns)
                for (var k = 0; k < c; k++)
                    target[o++] = row[x * c + k];
        }
        return result;
    }

    /// <summary>RGBA to Pillow's RGBa: each color times alpha / 255, rounded by its shift-for-division.</summary>
    static void Premultiply(ReadOnlySpan<byte> rgba, Span<byte> result)
    {
        var i = 0;
        if (Vector256.IsHardwareAccelerated && !ResamplePasses.PlainOnly)
        {
            // Two 8-bit numbers to a 32-bit lane at a time, 16 bits each: red and blue, then green and (instead of alpha) 255.
            var low = Vector256.Create(0x00FF00FFu);
            var round = Vector256.Create(0x00800080u).AsUInt16();
            for (; i + 32 <= rgba.Length; i += 32)
            {
                var pixels = Vector256.Create(rgba.Slice(i, 32)).AsUInt32();
                var alpha = pixels >>> 24;
                var factor = (alpha | (alpha << 16)).AsUInt16();
                var redBlue = (pixels & low).AsUInt16() * factor + round;
                redBlue = (redBlue + (redBlue >>> 8)) >>> 8;
                var green = (((pixels >>> 8) & low) | Vector256.Create(0x00FF0000u)).AsUInt16() * factor + round;
                green = (green + (green >>> 8)) >>> 8;
                (redBlue.AsUInt32() | (green.AsUInt32() << 8)).AsByte().CopyTo(result[i..]);
            }
        }
        for (; i + 3 < rgba.Length; i += 4)
        {
            int a = rgba[i + 3];
            result[i] = Multiply(rgba[i], a);
            result[i + 1] = Multiply(rgba[i + 1], a);
            result[i + 2] = Multiply(rgba[i + 2], a);
            result[i + 3] = (byte)a;
        }

        static byte Multiply(int value, int alpha)
        {
            var t = value * alpha + 128;
            return (byte)(((t >> 8) + t) >> 8);
        }
    }

    /// <summary>Pillow's RGBa to RGBA: truncating division, clipped.</summary>
    static void Unpremultiply(Span<byte> pixels)
    {
        for (var i = 0; i + 3 < pixels.Length; i += 4)
        {
            int a = pixels[i + 3];
            if (a is 0 or 255) continue;
            pixels[i] = (byte)Math.Min(255 * pixels[i] / a, 255);
            pixels[i + 1] = (byte)Math.Min(255 * pixels[i + 1] / a, 255);
            pixels[i + 2] = (byte)Math.Min(255 * pixels[i + 2] / a, 255);
        }
    }
}
