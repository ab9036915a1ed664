using CsCheck;
using Panoptes.Core.Tests.Imaging;
using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Data;

/// <summary>The parts of augmentation against their formulas, and the whole against itself.</summary>
public sealed class AugmenterTests
{
    const int Size = 16;

    static float[] Apply(Augmentation options, Image image, ulong seed = 1)
    {
        var augmenter = new Augmenter(options);
        var result = new float[augmenter.ResultLength];
        var random = new SampleRandom(seed, 0, 0);
        augmenter.Apply(image.Pixels, image.Width, image.Height, image.Channels, ref random, result);
        return result;
    }

    static Augmentation Plain => Pictures.Plain(Size);

    static void Near(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, float tolerance)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (var i = 0; i < expected.Length; i++) Assert.True(MathF.Abs(expected[i] - actual[i]) <= tolerance, $"At {i}: {actual[i]} instead of {expected[i]}.");
    }

    static float[] Planes(Image image)
    {
        var (planes, area) = (new float[image.Width * image.Height * 3], image.Width * image.Height);
        for (var i = 0; i < area; i++)
            for (var c = 0; c < 3; c++) planes[(c * area) + i] = image.Pixels[(i * image.Channels) + c] / 255f;
        return planes;
    }

    [Fact]
    public void Without_steps_an_image_of_the_right_size_is_itself_normalized()
    {
        var image = ImageFiles.Noise(Size, Size, 3);
        var expected = Planes(image);
        Near(expected, Apply(Plain, image), 1e-6f);
        var clip = Augmentation.None(Size);
        for (var i = 0; i < expected.Length; i++) expected[i] = (expected[i] - clip.Mean[i / Size / Size]) / clip.Std[i / Size / Size];
        Near(expected, Apply(clip, image), 1e-5f);
    }

    [Fact]
    public void Transparent_parts_show_white()
    {
        var image = ImageFiles.Noise(Size, Size, 4);
        var expected = Planes(image);
        for (var i = 0; i < expected.Length; i++)
        {
            var alpha = image.Pixels[(i % (Size * Size) * 4) + 3] / 255f;
            expected[i] = (expected[i] * alpha) + 1 - alpha;
        }
        Near(expected, Apply(Plain, image), 1e-6f);
    }

    [Fact]
    public void An_opaque_image_with_alpha_is_treated_as_the_one_without()
    {
        var image = ImageFiles.Noise(40, 30, 3);
        foreach (var options in new[] { Plain, Augmentation.Drawings(Size) with { Background = new() } })
            Near(Apply(options, image), Apply(options, image.ToRgba()), 1e-6f);
    }

    /// <summary>Smooth pictures, since filters differ in what they make of noise: Pillow's bilinear takes in every pixel, as we do by averaging first.</summary>
    [Theory]
    [InlineData(8, 8)]
    [InlineData(23, 23)]
    [InlineData(40, 24)]
    [InlineData(100, 60)]
    [InlineData(1000, 1300)]
    public void Resizing_gives_what_the_exact_resize_gives(int width, int height)
    {
        foreach (var channels in new[] { 3, 4 })
        {
            var image = new Image(width, height, channels);
            for (var i = 0; i < width * height; i++)
            {
                var (x, y) = ((i % width) / (float)width, (i / width) / (float)height);
                for (var c = 0; c < channels; c++) image.Pixels[(i * channels) + c] = (byte)(127.5f + (127.4f * MathF.Sin((2 * x) + (3 * y) + c)));
            }
            var expected = Planes(image.Resize(Size, Size, ResizeFilter.Bilinear).ToRgb());
            // At the edge of a picture with alpha the drawing fades out instead of going on.
            var actual = Apply(Plain, image);
            for (var i = 0; i < expected.Length; i++)
            {
                var (x, y) = (i % Size, i / Size % Size);
                if (channels == 4 && (x is 0 or Size - 1 || y is 0 or Size - 1)) actual[i] = expected[i];
            }
            Near(expected, actual, 0.03f);
        }
    }

    [Fact]
    public void Fine_detail_of_a_large_picture_is_averaged_not_sampled()
    {
        // A checkerboard of single pixels is gray from afar, with and without alpha.
        foreach (var channels in new[] { 3, 4 })
        {
            foreach (var side in new[] { 32, 64, 128, 640, 1000 })
            {
                var image = new Image(side, side, channels);
                for (var i = 0; i < side * side; i++)
                    for (var c = 0; c < channels; c++) image.Pixels[(i * channels) + c] = c == 3 || ((i % side) + (i / side)) % 2 == 0 ? (byte)255 : (byte)0;
                Assert.All(Apply(Plain, image), static v => Assert.InRange(v, 0.35f, 0.65f));
            }
        }
    }

    [Fact]
    public void A_flip_mirrors_and_a_move_shows_the_background_behind()
    {
        var image = ImageFiles.Noise(Size, Size, 3);
        Near(Planes(image.FlipHorizontal()), Apply(Plain with { FlipProbability = 1 }, image), 1e-5f);

        var black = new Image(Size, Size, 3);
        var moved = Apply(Plain with { Translation = 0.5f, Background = new() { White = 1 } }, black);
        Assert.Contains(1f, moved);
        Assert.Contains(0f, moved);
        var small = Apply(Plain with { Scale = new(0.5f, 0.5f) }, black);
        Assert.Equal(Size * Size / 4 * 3, small.Count(static v => v < 0.5f));
        Assert.Equal(1, small[0]);
    }

    [Fact]
    public void A_crop_is_a_part_of_the_picture_of_the_share_that_was_asked_for()
    {
        // In a picture whose red is the column and whose green is the row, the corners tell the crop.
        const int Side = 200;
        var image = new Image(Side, Side, 3);
        for (var i = 0; i < Side * Side; i++) (image.Pixels[3 * i], image.Pixels[(3 * i) + 1]) = ((byte)(i % Side), (byte)(i / Side));
        for (var seed = 0UL; seed < 50; seed++)
        {
            var result = Apply(Plain with { CropScale = new(0.2f, 0.5f), CropRatio = new(0.5f, 2) }, image, seed);
            var width = (result[Size - 1] - result[0]) * 255 * Size / (Size - 1);
            var height = (result[(2 * Size * Size) - 1] - result[Size * Size]) * 255 * Size / (Size - 1);
            Assert.InRange(width * height / (Side * Side), 0.2f * 0.9f, 0.5f * 1.1f);
            Assert.InRange(width / height, 0.5f * 0.9f, 2 * 1.1f);
        }
    }

    [Fact]
    public void Erasing_replaces_one_rectangle_of_the_share_that_was_asked_for()
    {
        var image = Pictures.Flat(100, Size);
        var plain = Apply(Plain, image);
        var values = new List<float>();
        for (var seed = 0UL; seed < 100; seed++)
        {
            var result = Apply(Plain with { EraseProbability = 1, EraseScale = new(0.1f, 0.3f), EraseRatio = new(0.5f, 2) }, image, seed);
            int[] erased = [.. Enumerable.Range(0, Size * Size).Where(i => result[i] != plain[i])];
            var (left, right, top, bottom) = (erased.Min(static i => i % Size), erased.Max(static i => i % Size), erased.Min(static i => i / Size), erased.Max(static i => i / Size));
            Assert.Equal((right - left + 1) * (bottom - top + 1), erased.Length);
            Assert.InRange(erased.Length / (float)(Size * Size), 0.06f, 0.36f);                                    // sides are whole pixels
            values.AddRange(erased.Select(i => result[i]));
        }
        Assert.InRange(values.Average(), -0.1, 0.1);
        Assert.InRange(Math.Sqrt(values.Average(static v => v * v)), 0.9, 1.1);
    }

    [Fact]
    public void The_same_random_stream_gives_the_same_whatever_the_thread_and_another_one_something_else()
    {
        var image = ImageFiles.Noise(72, 72, 4);
        var options = Augmentation.Drawings(32);
        var expected = Enumerable.Range(0, 20).Select(i => Apply(options, image, (ulong)i)).ToArray();
        var again = new float[20][];
        Parallel.For(0, 20, i => again[i] = Apply(options, image, (ulong)i));
        Assert.Equal(expected, again);
        Assert.Equal(20, expected.Select(static r => r.Sum()).Distinct().Count());
    }

    [Fact]
    public void Any_valid_augmentation_of_any_image_gives_finite_numbers()
    {
        var unit = Gen.Float[0, 1];
        Gen.Select(Gen.Select(Gen.Int[1, 90], Gen.Int[1, 90], Gen.Int[3, 4], Gen.Int[4, 40]), Gen.Select(unit, unit, unit, unit, unit, unit), Gen.Select(unit, unit, unit, unit), Gen.ULong).Sample(t =>
        {
            var ((width, height, channels, size), (p, q, r, s, u, v), (w, x, y, z), seed) = t;
            var options = new Augmentation
            {
                Size = size,
                CropScale = new(0.01f + (0.5f * p), 1),
                FlipProbability = q,
                Rotation = 180 * r,
                Translation = s,
                Scale = new(0.1f, 0.2f + (5 * u)),
                Brightness = v,
                Contrast = w,
                Saturation = x,
                Hue = y / 2,
                GrayProbability = z,
                InkProbability = p,
                RandomConvolutionProbability = p,
                BlurProbability = p,
                BlurKernel = 3 + (2 * (size / 5)),
                EraseProbability = q,
                Background = new() { White = r, Plain = s, Gradient = u, Textured = v, Photographic = w + 0.01f, Photographs = z < 0.3f ? [new(7, 5, Pictures.Noise(7, 5, 3))] : [] },
            };
            options.Validate();
            var result = Apply(options, ImageFiles.Noise(width, height, channels), seed);
            return Array.TrueForAll(result, static f => float.IsFinite(f) && MathF.Abs(f) < 10);
        }, iter: 300, threads: 1);
    }

    [Fact]
    public void Backgrounds_come_in_their_shares_and_stay_within_range()
    {
        var clear = new Image(Size, Size, 4);
        var kinds = new Dictionary<string, int>();
        for (var seed = 0UL; seed < 400; seed++)
        {
            var result = Apply(Plain with { Background = new() { White = 1, Plain = 1, Gradient = 0, Textured = 2 } }, clear, seed);
            Assert.All(result, static v => Assert.InRange(v, 0, 1));
            var flat = Enumerable.Range(0, 3).All(c => result.AsSpan(c * Size * Size, Size * Size).Count(result[c * Size * Size]) == Size * Size);
            var kind = !flat ? "textured" : result[0] == 1 ? "white" : "plain";
            kinds[kind] = kinds.GetValueOrDefault(kind) + 1;
        }
        Assert.InRange(kinds["white"], 70, 130);
        Assert.InRange(kinds["plain"], 70, 130);
        Assert.InRange(kinds["textured"], 160, 240);
    }

    [Fact]
    public void A_value_out_of_range_is_named()
    {
        Assert.Equal("The augmentation's Hue is 0.7, but 0 to 0.5 was expected.", Assert.Throws<PanoptesException>(() => new Augmenter(Plain with { Hue = 0.7f })).Message);
        Assert.Contains("CropScale", Assert.Throws<PanoptesException>(() => new Augmenter(Plain with { CropScale = new(0.5f, 2) })).Message, StringComparison.Ordinal);
        Assert.Contains("BlurKernel", Assert.Throws<PanoptesException>(() => new Augmenter(Plain with { BlurKernel = 4 })).Message, StringComparison.Ordinal);
        Assert.Contains("Background", Assert.Throws<PanoptesException>(() => new Augmenter(Plain with { Background = new() { White = 0 } })).Message, StringComparison.Ordinal);
        Assert.Contains("EraseProbability", Assert.Throws<PanoptesException>(() => new Augmenter(Plain with { EraseProbability = float.NaN })).Message, StringComparison.Ordinal);
    }
}
