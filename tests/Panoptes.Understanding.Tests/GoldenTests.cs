using Panoptes.Parity;

namespace Panoptes.Understanding.Tests;

public sealed class GoldenTests
{
    // Metrics and masks are tested where they live.
    public static TheoryData<string> Cases => [.. Goldens.Names("segmentation", static n => n != "rle" && !n.StartsWith("metric-", StringComparison.Ordinal))];

    static readonly string[] Families = ["sam", "groupvit", "clipseg", "mask2former", "oneformer", "owlvit", "detr", "grounding-dino", "florence-2"];

    public static TheoryData<string> Layouts => [.. Goldens.Names("layouts", static n => Families.Any(f => n.StartsWith(f, StringComparison.Ordinal)))];

    [Theory, MemberData(nameof(Cases))]
    public void A_golden_case_gives_the_numbers_of_the_peer(string name) => Goldens.Check(name);

    [Theory, MemberData(nameof(Layouts))]
    public void A_public_checkpoint_has_exactly_the_keys_and_shapes_of_our_model(string name) => Goldens.Check(name);
}
