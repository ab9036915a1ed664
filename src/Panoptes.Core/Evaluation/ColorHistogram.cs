using Panoptes.Imaging;

namespace Panoptes.Evaluation;

/// <summary>
/// How much of each color an image has, and nothing of where: the feature of a baseline that knows no shapes. The square roots of
/// the shares are given, so that a vector has length 1 and the dot product of two is the Bhattacharyya coefficient of the histograms.
/// </summary>
public static class ColorHistogram
{
    /// <summary>Levels of red, green and blue that are told apart.</summary>
    public const int Levels = 8;

    /// <summary>The length of a color image's vector: one bin for each joint level of red, green and blue.</summary>
    public const int Length = Levels * Levels * Levels;

    /// <summary>The joint histogram of red, green and blue, of the image on white.</summary>
    /// <param name="pixels">Interleaved RGB, or RGBA with straight alpha.</param>
    /// <param name="channels">3 or 4.</param>
    /// <param name="result"><see cref="Length"/> values that are overwritten.</param>
    public static void Write(ReadOnlySpan<byte> pixels, int channels, Span<float> result)
    {
        if (channels is not (3 or 4) || pixels.Length == 0 || pixels.Length % channels != 0) throw new ArgumentException($"{pixels.Length} bytes are no image of {channels} channels; 3 or 4 are expected.", nameof(pixels));
        if (result.Length != Length) throw new ArgumentException($"The result has {result.Length} values, but {Length} are expected.", nameof(result));
        result.Clear();
        for (var i = 0; i < pixels.Length; i += channels)
        {
            int r = pixels[i], g = pixels[i + 1], b = pixels[i + 2];
            if (channels == 4 && pixels[i + 3] is not 255 and var alpha)
                (r, g, b) = (OnWhite(r, alpha), OnWhite(g, alpha), OnWhite(b, alpha));
            result[(((r >> 5) * Levels) + (g >> 5)) * Levels + (b >> 5)]++;
        }
        Roots(result, pixels.Length / channels);

        static int OnWhite(int value, int alpha) => ((value * alpha) + (255 * (255 - alpha)) + 127) / 255;
    }

    /// <summary>The vector of an image; of a gray one, its histogram over 64 levels.</summary>
    public static float[] Of(Image image)
    {
        var result = new float[image.Channels == 1 ? 64 : Length];
        if (image.Channels > 1) Write(image.Pixels, image.Channels, result);
        else
        {
            foreach (var value in image.Pixels) result[value >> 2]++;
            Roots(result, image.Pixels.Length);
        }
        return result;
    }

    static void Roots(Span<float> counts, int pixels)
    {
        for (var i = 0; i < counts.Length; i++) counts[i] = MathF.Sqrt(counts[i] / pixels);
    }
}
