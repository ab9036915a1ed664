using SkiaSharp;

namespace Panoptes.Imaging;

public sealed partial class Image
{
    /// <summary>An opaque RGB image: this one (alpha over white) with what <paramref name="draw"/> paints on it.</summary>
    internal Image Draw(Action<SKCanvas> draw)
    {
        using var bitmap = new SKBitmap(new SKImageInfo(Width, Height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        ToRgb().ToRgba().Pixels.CopyTo(bitmap.GetPixelSpan());
        using (var canvas = new SKCanvas(bitmap))
        {
            draw(canvas);
            canvas.Flush();
        }
        var result = Uninitialized(Width, Height, 3);
        PixelOperations.DropAlpha(bitmap.GetPixelSpan(), result.Pixels);
        return result;
    }
}
