using Panoptes.Native;

namespace Panoptes.Core.Tests.Native;

public class NativeMemoryPolicyTests
{
    [Fact]
    public void Giving_back_excess_changes_nothing_that_is_in_use()
    {
        using var scope = NewDisposeScope();
        var kept = arange(1 << 20, ScalarType.Float32);
        for (var i = 0; i < 3; i++)
        {
            using (ones(1 << 22)) NativeMemoryPolicy.GiveBackExcess();
            Assert.Equal(((1L << 20) - 1) * (1L << 20) / 2.0, kept.to(ScalarType.Float64).sum().item<double>());
        }
    }
}
