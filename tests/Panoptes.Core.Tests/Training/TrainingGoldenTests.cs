using Panoptes.Parity;

namespace Panoptes.Core.Tests.Training;

public sealed class TrainingGoldenTests
{
    public static TheoryData<string> Cases => [.. Goldens.Names("training", static n => n == "schedules" || n.StartsWith("optimizer_", StringComparison.Ordinal))];

    [Theory, MemberData(nameof(Cases))]
    public void Optimizers_and_schedules_give_the_numbers_of_the_peer(string name) => Goldens.Check(name);
}
