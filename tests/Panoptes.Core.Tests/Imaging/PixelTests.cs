using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Imaging;

public sealed class PixelTests
{
    [Fact]
    public void Compositing_over_a_color_rounds_to_the_nearest_value()
    {
        for (var s = 0; s < 256; s += 5)
            for (var b = 0; b < 256; b += 3)
                for (var a = 0; a < 256; a += 5)
                {
                    var image = new Image(1, 1, 4, [(byte)s, (byte)s, (byte)s, (byte)a]);
                    var exact = (s * a + b * (255 - a)) / 255.0;
                    var ours = image.ToRgb(new Rgb((byte)b, (byte)b, (byte)b)).Pixels[0];
                    Assert.True(Math.Abs(ours - exact) <= 0.51, $"{s} over {b} at {a}: {ours} for {exact}");
                    Assert.Equal(ours, image.CompositeOver(new Image(1, 1, 3, [(byte)b, (byte)b, (byte)b])).Pixels[1]);
                    Assert.Equal([ours, ours, ours, 255], image.CompositeOver(new Image(1, 1, 4, [(byte)b, (byte)b, (byte)b, 255])).Pixels);
                }
    }

    [Fact]
    public void A_transparent_picture_shows_the_background_and_an_opaque_one_hides_it()
    {
        var background = ImageFiles.Noise(7, 5, 3, seed: 2);
        Assert.Equal(background.Pixels, new Image(7, 5, 4).CompositeOver(background).Pixels);
        var front = ImageFiles.Noise(7, 5, 3, seed: 3);
        Assert.Equal(front.Pixels, front.ToRgba().CompositeOver(background).Pixels);
        Assert.Throws<ArgumentException>(() => front.CompositeOver(ImageFiles.Noise(5, 7, 3)));
    }

    [Fact]
    public void Channels_convert_as_Pillow_converts_them()
    {
        var image = new Image(2, 1, 4, [10, 200, 30, 0, 255, 0, 0, 128]);
        Assert.Equal([10, 200, 30, 255, 0, 0], image.DropAlpha().Pixels);
        Assert.Equal([124, 76], image.ToGray().Pixels);
        Assert.Equal([255, 255, 255, 255, 127, 127], image.ToRgb().Pixels);
        Assert.Equal([7, 7, 7], new Image(1, 1, 1, [7]).ToRgb().Pixels);
        Assert.Equal([7, 7, 7, 255], new Image(1, 1, 1, [7]).ToRgba().Pixels);
    }

    [Fact]
    public void A_crop_beyond_the_image_is_filled()
    {
        var image = new Image(2, 2, 1, [1, 2, 3, 4]);
        Assert.Equal([9, 9, 9, 9, 1, 2, 9, 3, 4], image.Crop(-1, -1, 3, 3, fill: 9).Pixels);
        Assert.Equal([4, 0, 0, 0], image.Crop(1, 1, 2, 2).Pixels);
        Assert.Equal([2, 1, 4, 3], image.FlipHorizontal().Pixels);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(4)]
    public void Tensors_and_images_are_one_another(int channels)
    {
        var image = ImageFiles.Noise(13, 7, channels);
        using var bytes = image.ToTensor();
        Assert.Equal([channels, 7, 13], bytes.shape);
        Assert.Equal(image.Pixels[(2 * 13 + 5) * channels + channels - 1], bytes[channels - 1, 2, 5].item<byte>());
        using var floats = image.ToTensor(ScalarType.Float32);
        Assert.Equal(image.Pixels[0] / 255f, floats[0, 0, 0].item<float>());
        using var half = image.ToTensor(ScalarType.BFloat16);
        Assert.Equal(ScalarType.BFloat16, half.dtype);
        Assert.Equal(image.Pixels, Image.FromTensor(bytes).Pixels);
        Assert.Equal(image.Pixels, Image.FromTensor(floats).Pixels);
    }

    [Fact]
    public void Conversions_leave_no_tensor_behind()
    {
        var image = ImageFiles.Noise(13, 7, 3);
        var before = TorchSharp.DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        using (var floats = image.ToTensor(ScalarType.Float32))
        using (image.ToTensor(ScalarType.Float64))
            Image.FromTensor(floats);
        Assert.Equal(before, TorchSharp.DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);
    }

    [Fact]
    public void Wrong_arrays_tensors_and_colors_are_refused()
    {
        Assert.Throws<ArgumentException>(() => new Image(2, 2, 3, new byte[11]));
        Assert.Throws<ArgumentException>(() => new Image(2, 2, 2));
        Assert.Throws<ArgumentException>(() => new Image(0, 2, 3));
        using var flat = zeros(4, 4);
        Assert.Throws<ArgumentException>(() => Image.FromTensor(flat));
        Assert.Equal(new Rgb(0x12, 0xAB, 0xFF), Rgb.Parse("#12abFF"));
        Assert.Throws<PanoptesException>(() => Rgb.Parse("#12345"));
    }
}
