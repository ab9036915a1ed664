using Panoptes.Parity;

namespace Panoptes.Generation.Tests;

public sealed class GoldenTests
{
    // Image tokenizers are tested where they live.
    public static TheoryData<string> Cases => [.. Goldens.Names("generation", static n => !n.StartsWith("vq_model", StringComparison.Ordinal) && !n.StartsWith("vqgan", StringComparison.Ordinal))];

    static readonly string[] Families =
    [
        "sd15-unet", "sd15-inpainting-unet", "sd21-unet", "sdxl-unet", "gligen-", "instruct-pix2pix", "sd15-vae", "sdxl-vae", "flux-vae", "controlnet-", "t2i-adapter-", "taesd",
        "dit-", "flux1-", "pixart-", "sd3-",
    ];

    public static TheoryData<string> Layouts => [.. Goldens.Names("layouts", static n => Families.Any(f => n.StartsWith(f, StringComparison.Ordinal)))];

    [Theory, MemberData(nameof(Cases))]
    public void A_golden_case_gives_the_numbers_of_the_peer(string name) => Goldens.Check(name);

    [Theory, MemberData(nameof(Layouts))]
    public void A_public_checkpoint_has_exactly_the_keys_and_shapes_of_our_model(string name) => Goldens.Check(name);
}
