using System.Runtime.InteropServices;

namespace Panoptes.Imaging;

/// <summary>Images to and from tensors, written straight into the tensor's memory.</summary>
static class TensorConversion
{
    public static Tensor ToTensor(Image image, ScalarType dtype)
    {
        long[] shape = [image.Channels, image.Height, image.Width];
        var area = image.Width * image.Height;
        if (dtype == ScalarType.Byte)
        {
            var tensor = empty(shape, ScalarType.Byte);
            Planes(image.Pixels, tensor.bytes, image.Channels, area);
            return tensor;
        }
        var floats = empty(shape, ScalarType.Float32);
        Span<float> table = stackalloc float[256 * image.Channels];
        for (var c = 0; c < image.Channels; c++)
            for (var v = 0; v < 256; v++)
                table[c * 256 + v] = v / 255f;
        Map(image.Pixels, image.Channels, MemoryMarshal.Cast<byte, float>(floats.bytes), area, table);
        if (dtype == ScalarType.Float32) return floats;
        using (floats) return floats.to_type(dtype);
    }

    public static Image FromTensor(Tensor tensor)
    {
        if (tensor.dim() != 3 || tensor.shape[0] is not (1 or 3 or 4))
            throw new ArgumentException($"An image tensor is [1, 3 or 4, h, w], not [{string.Join(", ", tensor.shape)}].");
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var bytes = tensor.dtype == ScalarType.Byte ? tensor : tensor.to_type(ScalarType.Float32).clamp(0, 1).mul(255).round().to_type(ScalarType.Byte);
        bytes = bytes.cpu().permute(1, 2, 0).contiguous();
        return new((int)bytes.shape[1], (int)bytes.shape[0], (int)bytes.shape[2], bytes.bytes.ToArray());
    }

    /// <summary>Interleaved bytes to planes.</summary>
    public static void Planes(ReadOnlySpan<byte> pixels, Span<byte> planes, int channels, int area)
    {
        if (channels == 1)
        {
            pixels[..area].CopyTo(planes);
            return;
        }
        for (var c = 0; c < channels; c++)
        {
            var plane = planes.Slice(c * area, area);
            for (int x = 0, i = c; x < plane.Length; x++, i += channels) plane[x] = pixels[i];
        }
    }

    /// <summary>
    /// Interleaved bytes through a table of 256 values a channel into planes: any rescaling and normalizing is exactly the table's
    /// arithmetic, done once a value instead of once a pixel.
    /// </summary>
    public static void Map(ReadOnlySpan<byte> pixels, int channels, Span<float> planes, int area, ReadOnlySpan<float> table)
    {
        if (channels == 3)
        {
            ReadOnlySpan<float> red = table[..256], green = table.Slice(256, 256), blue = table.Slice(512, 256);
            Span<float> r = planes[..area], g = planes.Slice(area, area), b = planes.Slice(2 * area, area);
            for (int x = 0, i = 0; x < r.Length; x++, i += 3)
            {
                b[x] = blue[pixels[i + 2]];
                g[x] = green[pixels[i + 1]];
                r[x] = red[pixels[i]];
            }
            return;
        }
        for (var c = 0; c < channels; c++)
        {
            var values = table.Slice(c * 256, 256);
            var plane = planes.Slice(c * area, area);
            for (int x = 0, i = c; x < plane.Length; x++, i += channels) plane[x] = values[pixels[i]];
        }
    }

    /// <summary>Like <see cref="Map"/>, always to three planes: gray goes into all of them, alpha is dropped.</summary>
    public static void MapToRgb(ReadOnlySpan<byte> pixels, int channels, Span<float> planes, int area, ReadOnlySpan<float> table)
    {
        if (channels == 3)
        {
            Map(pixels, 3, planes, area, table);
            return;
        }
        for (var c = 0; c < 3; c++)
        {
            var values = table.Slice(c * 256, 256);
            var plane = planes.Slice(c * area, area);
            for (int x = 0, i = channels == 1 ? 0 : c; x < plane.Length; x++, i += channels) plane[x] = values[pixels[i]];
        }
    }
}
