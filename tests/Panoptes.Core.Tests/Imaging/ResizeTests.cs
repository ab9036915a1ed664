using Panoptes.Imaging;
using Panoptes.Native;

namespace Panoptes.Core.Tests.Imaging;

public sealed class ResizeTests
{
    [Fact]
    public void Every_filter_part_and_kind_of_pixel_resizes_to_the_bytes_of_Pillow_and_torchvision()
    {
        var count = 0;
        foreach (var c in ImageFiles.Resizes())
        {
            var ours = c.IsWhole
                ? c.Source.Resize(c.Wanted.Width, c.Wanted.Height, c.Filter, c.Rounding)
                : c.Source.Resize(c.Box[0], c.Box[1], c.Box[2], c.Box[3], c.Wanted.Width, c.Wanted.Height, c.Filter);
            Assert.True(c.Wanted.Pixels.AsSpan().SequenceEqual(ours.Pixels), c.ToString());
            count++;
        }
        Assert.Equal(757, count);
    }

    [Fact]
    public void The_plain_form_gives_the_bytes_of_the_vector_form()
    {
        try
        {
            ResamplePasses.PlainOnly = true;
            foreach (var c in ImageFiles.Resizes().Where(c => c.IsWhole))
                Assert.True(c.Wanted.Pixels.AsSpan().SequenceEqual(c.Source.Resize(c.Wanted.Width, c.Wanted.Height, c.Filter, c.Rounding).Pixels), c.ToString());
        }
        finally
        {
            ResamplePasses.PlainOnly = false;
        }
    }

    [Fact]
    public void A_window_of_a_resize_is_that_part_of_the_whole_resize()
    {
        foreach (var c in ImageFiles.Resizes().Where(c => c.IsWhole && c.Wanted is { Width: > 3, Height: > 3 }))
        {
            var (w, h) = (c.Wanted.Width, c.Wanted.Height);
            var window = Resampler.ResizeWindow(c.Source, w, h, w / 4, h / 3, w / 2, h / 2, c.Filter, c.Rounding);
            Assert.True(c.Wanted.Crop(w / 4, h / 3, w / 2, h / 2).Pixels.AsSpan().SequenceEqual(window.Pixels), c.ToString());
        }
    }

    [Theory]
    [InlineData("aten::_upsample_bilinear2d_aa", ResizeFilter.Bilinear)]
    [InlineData("aten::_upsample_bicubic2d_aa", ResizeFilter.Bicubic)]
    public void Torchvisions_rounding_is_libtorchs_own(string name, ResizeFilter filter)
    {
        if (!System.Runtime.Intrinsics.X86.Avx2.IsSupported) return;               // elsewhere libtorch goes through float
        foreach (var (w, h, toW, toH) in ((int, int, int, int)[])[(301, 203, 64, 48), (40, 30, 91, 77), (128, 200, 128, 32)])
        {
            using var scope = NewDisposeScope();
            var image = ImageFiles.Noise(w, h, 3, seed: w);
            var theirs = Dispatcher.Call(name).Tensor(image.ToTensor().unsqueeze(0)).Ints(toH, toW).Bool(false).OptionalDouble(null).OptionalDouble(null).InvokeTensor();
            Assert.Equal(Image.FromTensor(theirs[0]).Pixels, image.Resize(toW, toH, filter, ResizeRounding.Torchvision).Pixels);
        }
    }

    [Fact]
    public void The_same_size_is_the_same_image()
    {
        var image = ImageFiles.Noise(9, 5, 4);
        Assert.Same(image, image.Resize(9, 5));
    }

    [Theory]
    [InlineData(0, 5)]
    [InlineData(5, -1)]
    public void A_size_below_one_is_refused(int width, int height) => Assert.Throws<ArgumentException>(() => new Image(4, 4, 3).Resize(width, height));

    [Theory]
    [InlineData(-1, 0, 2, 2)]
    [InlineData(0, 0, 5, 4)]
    [InlineData(0, 0, 0, 4)]
    [InlineData(double.NaN, 0, 1, 1)]
    public void A_part_beyond_the_image_is_refused(double x, double y, double w, double h) => Assert.Throws<ArgumentException>(() => new Image(4, 4, 3).Resize(x, y, w, h, 2, 2));
}
