using Panoptes.Parity;

namespace Panoptes.Core.Tests.Checkpoints;

public sealed class CheckpointGoldenTests
{
    public static TheoryData<string> Cases => [.. Goldens.Names("checkpoints"), .. Goldens.Names("language", static n => n.StartsWith("pickle", StringComparison.Ordinal) || n.Contains("safetensors", StringComparison.Ordinal))];

    [Theory, MemberData(nameof(Cases))]
    public void A_golden_case_gives_what_the_peer_gave(string name)
    {
        var result = ParityRunner.Run(Path.Combine(Goldens.Root, name));
        Assert.True(result.Status == CaseStatus.Pass, result.ToString());
    }

    [Fact]
    public void Every_kind_of_checkpoint_has_golden_cases() => Assert.True(Cases.Count >= 10, $"found {Cases.Count} cases in {Goldens.Root}");
}
