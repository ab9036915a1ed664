using Panoptes.Imaging;
using Panoptes.Understanding;

namespace Panoptes.Benchmarks;

/// <summary>SAM ViT-B: encoding an image of 1024 pixels, answering a click, finding everything.</summary>
static class SamCases
{
    public const int Together = 64;

    public static IRun Encode(ScalarType dtype)
    {
        var model = Model(dtype);
        var pixels = randn([1, 3, 1024, 1024], dtype);
        return new Inference(model, () => model.EncodeImage(pixels));
    }

    public static IRun Prompt()
    {
        var model = Model(ScalarType.Float32);
        var image = new SamFeatures([randn(1, 256, 64, 64)]);
        var (points, labels) = (tensor(new[] { 500f, 375f }, [1, 1, 1, 2]), ones([1, 1, 1], ScalarType.Int64));
        return new Inference(model, () => model.Decode(image, new(points, labels)));
    }

    /// <summary>As many clicks at once as the search for everything decodes together.</summary>
    public static IRun Prompts()
    {
        var model = Model(ScalarType.BFloat16);
        var image = new SamFeatures([randn([1, 256, 64, 64], ScalarType.BFloat16)]);
        var (points, labels) = (rand([Together, 1, 1, 2]).mul_(1023), ones([Together, 1, 1], ScalarType.Int64));
        return new Inference(model, () => model.Decode(image, new(points, labels)));
    }

    /// <summary>The whole search with 32 x 32 points; random weights judge their masks at random, so all of a score above 0 are looked at.</summary>
    public static IRun Everything()
    {
        var sam = new Sam(Model(ScalarType.Float32), options: new() { Dtype = ScalarType.BFloat16, PromptDtype = ScalarType.BFloat16 });
        var pixels = new byte[1024 * 768 * 3];
        new Random(1).NextBytes(pixels);
        var photo = new Image(1024, 768, 3, pixels);
        return new Inference(sam, () => sam.Everything(photo, new() { PredictedIou = 0.05, Stability = 0.5, StabilityOffset = 0.01 }));
    }

    static SamModel Model(ScalarType dtype) => Inference.Ready(new SamModel(new()), dtype);
}
