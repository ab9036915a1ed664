using System.Collections.Concurrent;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

public sealed class PrefetchLoaderTests
{
    [Theory]
    [InlineData(1, 0)]
    [InlineData(4, 0)]
    [InlineData(3, 1)]
    public void Batches_come_in_order_whatever_the_workers(int workers, int prefetch)
    {
        using var loader = Create(new Numbers(20), static n => Thread.SpinWait(n * 7919 % 20 * 1000), new() { Workers = workers, Prefetch = prefetch });
        for (var epoch = 0; epoch < 3; epoch++)
        {
            Assert.Equal(new(epoch, 0), loader.State);
            Assert.Equal(Enumerable.Range(epoch * 100, 20), ReadEpoch(loader));
        }
        Assert.Equal(Enumerable.Range(300, 20).Append(400), Enumerable.Range(0, 21).Select(_ => Next(loader)));
        Assert.Equal(new(4, 1), loader.State);
    }

    [Fact]
    public void It_goes_on_from_any_state_even_in_another_loader()
    {
        using var first = Create(new Numbers(5));
        for (var i = 0; i < 7; i++) Next(first);
        var state = first.State;
        Assert.Equal(new(1, 2), state);
        using var second = Create(new Numbers(5));
        second.Restore(state);
        Assert.Equal(102, Next(second));
        Assert.Equal(102, Next(first));
        first.Restore(LoaderState.Start);
        Assert.Equal(0, Next(first));
        Assert.Contains("both start at 0", Assert.Throws<PanoptesException>(() => first.Restore(new(-1, 0))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_error_surfaces_at_its_batch_as_it_was_and_the_batch_is_tried_again()
    {
        var failing = true;
        using var loader = Create(new Numbers(5), n =>
        {
            if (n == 2 && Volatile.Read(ref failing)) throw new PanoptesException("Batch 2 is bad.");
        }, new() { Workers = 2 });
        Assert.Equal([0, 1], [Next(loader), Next(loader)]);
        for (var i = 0; i < 2; i++) Assert.Equal("Batch 2 is bad.", Assert.Throws<PanoptesException>(() => loader.Next()).Message);
        Volatile.Write(ref failing, false);
        Assert.Equal([2, 3], [Next(loader), Next(loader)]);
    }

    [Fact]
    public void A_source_that_fails_or_is_empty_says_so()
    {
        using var failing = Create(new Numbers(5, failAt: 3));
        Assert.Equal([0, 1, 2], [Next(failing), Next(failing), Next(failing)]);
        Assert.Equal("The source is damaged.", Assert.Throws<PanoptesException>(() => failing.Next()).Message);
        using var empty = Create(new Numbers(0));
        Assert.Contains("no batch in epoch 0", Assert.Throws<PanoptesException>(() => empty.Next()).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => Create(new Numbers(1), options: new() { Workers = 0 }));
        Assert.Throws<PanoptesException>(() => Create(new Numbers(1), options: new() { Prefetch = -1 }));
    }

    [Fact]
    public void A_wait_can_be_broken_off_and_no_batch_is_lost()
    {
        using var gate = new ManualResetEventSlim();
        using var loader = Create(new Numbers(5), _ => gate.Wait(), new() { Workers = 1 });
        using var cancel = new CancellationTokenSource(20);
        Assert.ThrowsAny<OperationCanceledException>(() => loader.Next(cancel.Token));
        gate.Set();
        Assert.Equal([0, 1], [Next(loader), Next(loader)]);
    }

    [Fact]
    public void It_works_no_further_ahead_than_it_was_told()
    {
        var made = 0;
        using var loader = Create(new Numbers(50), _ => Interlocked.Increment(ref made), new() { Workers = 2, Prefetch = 3 });
        Next(loader);
        SpinWait.SpinUntil(() => Volatile.Read(ref made) >= 5, 500);
        Thread.Sleep(30);
        Assert.InRange(Volatile.Read(ref made), 1, 5);                                // one taken, three waiting, one held by the dispatcher
    }

    [Fact]
    public void Nothing_is_left_when_it_is_disposed_neither_batches_nor_temporaries_nor_threads()
    {
        var made = new ConcurrentBag<Batch>();
        var held = new ConcurrentDictionary<int, long>();
        var leaked = 0L;
        var loader = PrefetchLoader.Create<int, Batch>(new Numbers(100), (n, _) =>
        {
            // All that a worker's earlier batch left alive is the batch itself.
            var live = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
            if (held.TryGetValue(Environment.CurrentManagedThreadId, out var before)) Interlocked.Add(ref leaked, live - before);
            var temporary = zeros(100).add(1);
            var batch = new Batch(temporary.mul(n).DetachFromDisposeScope());
            made.Add(batch);
            held[Environment.CurrentManagedThreadId] = live + 1;
            return batch;
        }, new() { Workers = 2, Prefetch = 6 });
        for (var i = 0; i < 10; i++) loader.Next().Dispose();
        SpinWait.SpinUntil(() => made.Count >= 14, 2000);
        loader.Dispose();
        loader.Dispose();
        Assert.True(made.Count >= 14);
        Assert.Equal(0, leaked);
        Assert.All(made, static b => Assert.True(b.Values.IsInvalid));
        Assert.Throws<ObjectDisposedException>(() => loader.Next());
        var count = made.Count;
        Thread.Sleep(20);
        Assert.Equal(count, made.Count);
    }

    sealed record Batch(Tensor Values) : IDisposable
    {
        public void Dispose() => Values.Dispose();
    }

    /// <summary>Epoch e has the numbers 100 e, 100 e + 1, ….</summary>
    sealed class Numbers(int count, int failAt = -1) : IBatchSource<int>
    {
        public IEnumerable<int> Enumerate(int epoch, long position, CancellationToken cancel)
        {
            for (var i = (int)position; i < count; i++)
            {
                if (i == failAt) throw new PanoptesException("The source is damaged.");
                yield return (epoch * 100) + i;
            }
        }
    }

    static PrefetchLoader<Batch> Create(Numbers source, Action<int>? work = null, LoaderOptions? options = null) => PrefetchLoader.Create<int, Batch>(source, (n, _) =>
    {
        work?.Invoke(n);
        return new(tensor(n).DetachFromDisposeScope());
    }, options);

    static int Next(PrefetchLoader<Batch> loader)
    {
        using var batch = loader.Next();
        return batch.Values.item<int>();
    }

    static List<int> ReadEpoch(PrefetchLoader<Batch> loader)
    {
        var numbers = new List<int>();
        foreach (var batch in loader.ReadEpoch())
            using (batch) numbers.Add(batch.Values.item<int>());
        return numbers;
    }
}
