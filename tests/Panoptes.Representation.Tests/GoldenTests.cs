using Panoptes.Parity;

namespace Panoptes.Representation.Tests;

public sealed class GoldenTests
{
    // Tokenizers and preprocessing are tested where they live.
    public static TheoryData<string> Cases =>
        [.. Goldens.Names("representation", static n => !n.StartsWith("preprocess_", StringComparison.Ordinal) && !n.Contains("tokenizer", StringComparison.Ordinal)),
            .. Goldens.Names("generation", static n => n.StartsWith("vq_model", StringComparison.Ordinal) || n.StartsWith("vqgan", StringComparison.Ordinal)),
            .. Goldens.Names("language", static n => n.StartsWith("t5", StringComparison.Ordinal)),
            .. Goldens.Names("training", static n => n.StartsWith("clip_train", StringComparison.Ordinal))];

    static readonly string[] Families = ["clip-", "siglip", "openclip-", "vit-base-patch16", "dino", "swin-", "convnext-", "mae-", "vit-mae-", "beit-", "beit3-", "dall-e-", "imagebind", "amused-vqvae", "vqgan-", "t5-", "flan-t5-", "sd15-text", "sd21-text", "sdxl-text"];

    public static TheoryData<string> Layouts =>
        [.. Goldens.Names("layouts", static n => Families.Any(f => n.StartsWith(f, StringComparison.Ordinal)))];

    [Theory, MemberData(nameof(Cases))]
    public void A_golden_case_gives_the_numbers_of_the_peer(string name) => Goldens.Check(name);

    [Theory, MemberData(nameof(Layouts))]
    public void A_public_checkpoint_has_exactly_the_keys_and_shapes_of_our_model(string name) => Goldens.Check(name);
}
