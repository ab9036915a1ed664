using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>Pixels from -1 to 1, as models of images take and give them.</summary>
static class SignedPixels
{
    static readonly float[] Half = [0.5f, 0.5f, 0.5f];

    /// <summary>The pictures of a batch: [b, 3, side, side].</summary>
    public static Tensor Of(SceneBatch batch) => batch.Normalized(Half, Half);

    /// <param name="pixels">[3, height, width]; what is outside -1 to 1 is cut off.</param>
    public static Image ToImage(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Image.FromTensor(((pixels + 1) * 127.5).round().clamp(0, 255).to(ScalarType.Byte));
    }
}
