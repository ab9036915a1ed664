using System.Runtime.CompilerServices;
using Panoptes.Native;

namespace Panoptes.Core.Tests.Native;

public sealed class FinalizerPauseTests
{
    sealed class Tracked(StrongBox<bool> freed)
    {
        ~Tracked() => freed.Value = true;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static StrongBox<bool> Abandon()
    {
        var freed = new StrongBox<bool>();
        _ = new Tracked(freed);
        return freed;
    }

    [Fact]
    public void What_is_collected_is_finalized_only_where_the_pause_lets_it()
    {
        var pause = FinalizerPause.TryBegin();
        for (var i = 0; i < 600 && pause is null; i++)                                  // a trainer of another test has it
        {
            Thread.Sleep(100);
            pause = FinalizerPause.TryBegin();
        }
        Assert.NotNull(pause);
        using (pause)
        {
            Assert.Null(FinalizerPause.TryBegin());
            var freed = Abandon();
            GC.Collect();
            Thread.Sleep(200);
            Assert.False(freed.Value);
            Thread.Sleep(2000);                                                         // long enough for it to be due
            pause.Drain();
            Assert.True(freed.Value);

            freed = Abandon();
            GC.Collect();
            Thread.Sleep(200);
            Assert.False(freed.Value);
            pause.Dispose();
            GC.WaitForPendingFinalizers();
            Assert.True(freed.Value);
        }
    }
}
