using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>A Stable Diffusion that reads a picture instead of words, by a CLIP's embedding of it, and makes others like it (diffusers' StableDiffusionImageVariationPipeline).</summary>
/// <param name="encoder">With a projection.</param>
/// <param name="processor">Prepares pictures for the encoder.</param>
public sealed class ImageVariations(UNet2DConditionModel unet, LatentAutoencoder autoencoder, ClipVisionModel encoder, ImageProcessor processor, DiffusionScheduler scheduler) : DiffusionModel(scheduler, autoencoder)
{
    public UNet2DConditionModel UNet { get; } = unet;

    public ClipVisionModel Encoder { get; } = encoder;

    public ImageProcessor Processor { get; } = processor;

    public override Module Network => UNet;

    public override IEnumerable<Module> TextEncoders => [Encoder];

    public override int Side => (UNet.Config.SampleSize is { } size ? size[0] : 64) * PixelsPerPlace;

    public override (int Width, int Height) UsualSize => SizeBy(UNet.Config.SampleSize);

    public override bool ReadsPicture => true;

    private protected override double FamilyGuidance => 7.5;

    /// <summary>The picture for every image, and zeros for what is not wanted.</summary>
    private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options)
    {
        if (options.Picture is not { } picture) throw new PanoptesException("This model makes variations of a picture, and none was given.");
        if (prompts.FirstOrDefault(static p => p.Trim().Length > 0) is { } words) throw new PanoptesException($"This model reads no words, but '{PromptTokens.Shown(words)}' was given; expected a picture and an empty prompt.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var seen = Encoder.Encode(Processor.Process([picture.ToRgb()]).to(Encoder.Parameters().First().Dtype ?? ScalarType.Float32)).unsqueeze(1);       // [1, 1, width]
        return new Conditioning { Text = cat([seen.expand(wanted, -1, -1), zeros_like(seen).expand(prompts.Count - wanted, -1, -1)]).to(Dtype).alias() }.MoveToOuterDisposeScope();
    }

    public override Tensor Predict(NetworkCall call) => UNet.Forward(new() { Sample = call.Sample, Timestep = call.Timestep, Text = call.Conditioning.Text, FreeU = call.FreeU, Hook = call.Attention });
}
