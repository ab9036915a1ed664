using Panoptes.Core.Tests.Imaging;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Data;

/// <summary>Small images to fill data sets with, each of another color.</summary>
static class Pictures
{
    /// <summary>The file of picture <paramref name="number"/>: one flat color that tells which it is.</summary>
    internal static byte[] Png(int number, int side = 8) => Flat(number, side).Encode(ImageFormat.Png);

    internal static Image Flat(int number, int side = 8)
    {
        var image = new Image(side, side, 3);
        for (var i = 0; i < image.Pixels.Length; i++) image.Pixels[i] = (byte)(i % 3 == 0 ? number : i % 3 == 1 ? 255 - number : number * 7);
        return image;
    }

    /// <summary>The number of the picture in row <paramref name="row"/> of a batch that was only resized, with mean 0 and deviation 1.</summary>
    internal static int Number(Tensor images, int row) => (int)MathF.Round(images[row, 0, 0, 0].item<float>() * 255);

    /// <summary>The images as they are, in [0, 1].</summary>
    internal static Panoptes.Data.Augmentation Plain(int size = 8) => Panoptes.Data.Augmentation.None(size) with { Mean = [0, 0, 0], Std = [1, 1, 1] };

    /// <summary>A PNG whose head is whole and whose pixels break off.</summary>
    internal static byte[] Broken() => new Image(32, 32, 3, Noise(32, 32, 3)).Encode(ImageFormat.Png)[..1000];

    internal static byte[] Noise(int width, int height, int channels, int seed = 1) => ImageFiles.Noise(width, height, channels, seed).Pixels;
}
