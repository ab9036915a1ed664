using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Imaging;

public sealed class EncodingTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(4)]
    public void Png_keeps_every_byte_even_under_almost_transparent_pixels(int channels)
    {
        var image = ImageFiles.Noise(61, 37, channels);
        if (channels == 4)
            for (var i = 3; i < image.Pixels.Length; i += 4) image.Pixels[i] = (byte)(i / 4 % 5);      // alpha 0 to 4
        var back = Image.Decode(image.Encode(ImageFormat.Png));
        Assert.Equal(channels, back.Channels);
        Assert.Equal(image.Pixels, back.Pixels);
    }

    [Fact]
    public void Webp_of_quality_100_is_lossless()
    {
        var image = ImageFiles.Noise(61, 37, 3);
        Assert.Equal(image.Pixels, Image.Decode(image.Encode(ImageFormat.Webp, 100)).Pixels);
    }

    [Fact]
    public void Jpeg_is_close_at_high_quality_and_puts_transparency_over_white()
    {
        var clear = Image.Decode(new Image(16, 16, 4).Encode(ImageFormat.Jpeg, 95));
        Assert.Equal(3, clear.Channels);
        Assert.All(clear.Pixels, v => Assert.InRange(v, 250, 255));
        Assert.Equal(1, Image.Decode(new Image(16, 16, 1).Encode(ImageFormat.Jpeg)).Channels);
    }

    [Theory]
    [InlineData(ImageFormat.Gif, 90)]
    [InlineData(ImageFormat.Bmp, 90)]
    [InlineData(ImageFormat.Jpeg, 0)]
    [InlineData(ImageFormat.Jpeg, 101)]
    public void What_cannot_be_written_is_said(ImageFormat format, int quality) =>
        Assert.Contains("expected", Assert.Throws<PanoptesException>(() => new Image(2, 2, 3).Encode(format, quality)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("a.png")]
    [InlineData("a.jpg")]
    [InlineData("a.JPEG")]
    [InlineData("a.webp")]
    public void A_picture_is_saved_whole_and_leaves_nothing_else(string name)
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        File.WriteAllText(Path.Combine(folder, name), "an older file");
        ImageFiles.Noise(20, 10, 3).Save(Path.Combine(folder, name));
        Assert.Equal((20, 10), (Image.Load(Path.Combine(folder, name)).Width, Image.Load(Path.Combine(folder, name)).Height));
        Assert.Single(Directory.GetFiles(folder));
    }

    [Fact]
    public void A_picture_that_cannot_be_saved_leaves_nothing()
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        Assert.Contains(".tiff", Assert.Throws<PanoptesException>(() => new Image(2, 2, 3).Save(Path.Combine(folder, "a.tiff"))).Message, StringComparison.Ordinal);
        Directory.CreateDirectory(Path.Combine(folder, "b.png"));                  // a folder is in the way
        Assert.Throws<PanoptesException>(() => new Image(2, 2, 3).Save(Path.Combine(folder, "b.png")));
        Assert.Throws<PanoptesException>(() => new Image(2, 2, 3).Save(Path.Combine(folder, "missing", "..", "d", "e.tiff")));
        Assert.Empty(Directory.GetFiles(folder));
        File.WriteAllText(Path.Combine(folder, "file"), "");
        Assert.Throws<PanoptesException>(() => new Image(2, 2, 3).Save(Path.Combine(folder, "file", "c.png")));
        Assert.Single(Directory.GetFiles(folder));
        new Image(2, 2, 3).Save(Path.Combine(folder, "missing", "c.png"));
        Assert.Equal(2, Image.Load(Path.Combine(folder, "missing", "c.png")).Width);
    }
}
