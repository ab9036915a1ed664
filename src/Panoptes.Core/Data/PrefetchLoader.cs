using System.Threading.Channels;
using Panoptes.Native;

namespace Panoptes.Data;

/// <summary>Where a stream of batches stands: so many batches of this epoch have been handed out. Restoring it gives the same next batch.</summary>
/// <param name="Epoch">From 0.</param>
/// <param name="Position">Batches of the epoch already handed out.</param>
public sealed record LoaderState(int Epoch, long Position)
{
    /// <summary>Before the first batch.</summary>
    public static LoaderState Start { get; } = new(0, 0);
}

/// <summary>How a loader works ahead.</summary>
public sealed record LoaderOptions
{
    /// <summary>Threads that make batches. One is enough where a batch takes much less time than a training step.</summary>
    public int Workers { get; init; } = Math.Max(1, Environment.ProcessorCount / 2);

    /// <summary>Batches made ahead of the consumer, all workers together; 0 means twice the workers.</summary>
    public int Prefetch { get; init; }

    /// <summary>libtorch's threads within one worker's operators, 0 to leave them; the training step needs the other cores.</summary>
    public int TorchThreads { get; init; } = 1;
}

/// <summary>What there is to do in an epoch, in order. The order must follow from the epoch and the position alone.</summary>
public interface IBatchSource<out TWork>
{
    /// <summary>
    /// The work of an epoch from its <paramref name="position"/>-th batch on; asked for by one thread at a time. An epoch may end
    /// early, but not be empty.
    /// </summary>
    IEnumerable<TWork> Enumerate(int epoch, long position, CancellationToken cancel);
}

/// <summary>Makes <see cref="PrefetchLoader{TBatch}"/>s.</summary>
public static class PrefetchLoader
{
    /// <summary>A loader over a source. Nothing starts before the first batch is asked for.</summary>
    /// <param name="source">The work in order.</param>
    /// <param name="make">
    /// Makes one batch of one piece of work; runs on several threads at once. Its result must follow from the work alone.
    /// Every tensor that it makes and does not hand over is freed.
    /// </param>
    /// <param name="options">Threads and depth.</param>
    /// <exception cref="PanoptesException">An option is out of range.</exception>
    public static PrefetchLoader<TBatch> Create<TWork, TBatch>(
        IBatchSource<TWork> source, Func<TWork, CancellationToken, TBatch> make, LoaderOptions? options = null)
        where TBatch : class, IDisposable
    {
        options ??= new();
        if (options.Workers is < 1 or > 1024) throw new PanoptesException($"A loader of {options.Workers} workers was asked for, but 1 to 1024 are possible.");
        if (options.Prefetch is < 0 or > 65536) throw new PanoptesException($"A loader that works {options.Prefetch} batches ahead was asked for, but 0 to 65536 are possible.");
        return new(state => new PrefetchLoader<TBatch>.Pipeline<TWork>(source, make, options, state));
    }
}

/// <summary>
/// Makes batches on worker threads ahead of the consumer and hands them out in the source's order, whatever the number of workers.
/// A batch is made once, in its final memory, and belongs to whoever takes it. An error surfaces when its batch is asked for.
/// </summary>
/// <typeparam name="TBatch">
/// The batch. It owns its tensors: they must be detached from the maker's dispose scope (<c>DetachFromDisposeScope</c>) and freed by
/// <see cref="IDisposable.Dispose"/>.
/// </typeparam>
public sealed class PrefetchLoader<TBatch> : IDisposable
    where TBatch : class, IDisposable
{
    readonly Func<LoaderState, IPipeline> start;
    IPipeline? pipeline;
    bool disposed;

    internal PrefetchLoader(Func<LoaderState, IPipeline> start) => this.start = start;

    /// <summary>Where the stream stands; save it with a checkpoint.</summary>
    public LoaderState State { get; private set; } = LoaderState.Start;

    /// <summary>Goes to a state that <see cref="State"/> had given; batches made ahead are thrown away.</summary>
    public void Restore(LoaderState state)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (state.Epoch < 0 || state.Position < 0) throw new PanoptesException($"A loader cannot go to epoch {state.Epoch}, batch {state.Position}: both start at 0.");
        Stop();
        State = state;
    }

    /// <summary>The next batch, of the next epoch where this one is through. The caller disposes it.</summary>
    /// <exception cref="PanoptesException">The batch could not be made; the loader stays at it.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancel"/> asked to stop; no batch is lost.</exception>
    public TBatch Next(CancellationToken cancel = default) => Take(false, cancel)!;

    /// <summary>The rest of the current epoch. The caller disposes each batch.</summary>
    public IEnumerable<TBatch> ReadEpoch(CancellationToken cancel = default)
    {
        while (Take(true, cancel) is { } batch) yield return batch;
    }

    TBatch? Take(bool stopAtEpoch, CancellationToken cancel)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        pipeline ??= start(State);
        try
        {
            while (true)
            {
                if (pipeline.Take(cancel) is { } batch)
                {
                    State = State with { Position = State.Position + 1 };
                    return batch;
                }
                State = new(State.Epoch + 1, 0);
                if (stopAtEpoch) return null;
            }
        }
        catch (Exception e) when (e is not OperationCanceledException || !cancel.IsCancellationRequested)
        {
            Stop();                                                                   // the next call tries this batch again
            throw;
        }
    }

    void Stop()
    {
        pipeline?.Dispose();
        pipeline = null;
    }

    /// <summary>Stops the workers and frees every batch that was made ahead.</summary>
    public void Dispose()
    {
        if (disposed) return;
        disposed = true;
        Stop();
    }

    internal interface IPipeline : IDisposable
    {
        /// <summary>The next batch in order; null at the end of an epoch.</summary>
        TBatch? Take(CancellationToken cancel);
    }

    /// <summary>One run from a state: a dispatcher that walks through the source, workers, and the queue of results in order.</summary>
    internal sealed class Pipeline<TWork> : IPipeline
    {
        readonly CancellationTokenSource stop = new();
        readonly Channel<Task<TBatch?>> ordered;
        readonly Channel<(TWork Work, TaskCompletionSource<TBatch?> Result)> open;
        readonly Thread[] threads;

        internal Pipeline(IBatchSource<TWork> source, Func<TWork, CancellationToken, TBatch> make, LoaderOptions options, LoaderState state)
        {
            var depth = options.Prefetch > 0 ? options.Prefetch : 2 * options.Workers;
            ordered = Channel.CreateBounded<Task<TBatch?>>(new BoundedChannelOptions(depth) { SingleReader = true, SingleWriter = true });
            open = Channel.CreateUnbounded<(TWork, TaskCompletionSource<TBatch?>)>(new() { SingleWriter = true });
            threads = new Thread[options.Workers + 1];
            threads[0] = new(() => Dispatch(source, state)) { IsBackground = true, Name = "batch order" };
            for (var i = 1; i < threads.Length; i++) threads[i] = new(() => Work(make, options.TorchThreads)) { IsBackground = true, Name = $"batch worker {i}" };
            foreach (var thread in threads) thread.Start();
        }

        public TBatch? Take(CancellationToken cancel)
        {
            while (true)
            {
                if (ordered.Reader.TryPeek(out var next))
                {
                    try
                    {
                        next.Wait(cancel);
                    }
                    catch (AggregateException)
                    {
                    }
                    var batch = next.GetAwaiter().GetResult();                         // throws what the worker threw, as it was
                    ordered.Reader.TryRead(out _);
                    return batch;
                }
                var more = ordered.Reader.WaitToReadAsync(cancel);
                if (!(more.IsCompleted ? more.Result : more.AsTask().GetAwaiter().GetResult())) throw new InvalidOperationException("The loader's source has stopped.");
            }
        }

        /// <summary>Puts the work into the queues, epoch after epoch; the bounded queue of results holds it back.</summary>
        void Dispatch(IBatchSource<TWork> source, LoaderState state)
        {
            try
            {
                for (var (epoch, position) = (state.Epoch, state.Position); ; epoch++, position = 0)
                {
                    var empty = position == 0;
                    foreach (var work in source.Enumerate(epoch, position, stop.Token))
                    {
                        empty = false;
                        var result = new TaskCompletionSource<TBatch?>(TaskCreationOptions.RunContinuationsAsynchronously);
                        Put(result.Task);
                        open.Writer.TryWrite((work, result));
                    }
                    if (empty) throw new PanoptesException($"The data has no batch in epoch {epoch}: there are fewer samples than a batch needs.");
                    Put(Task.FromResult<TBatch?>(null));
                }
            }
            catch (Exception) when (stop.IsCancellationRequested)
            {
            }
            catch (Exception e)
            {
                try
                {
                    Put(Task.FromException<TBatch?>(e));
                }
                catch (OperationCanceledException)
                {
                }
            }
            finally
            {
                open.Writer.TryComplete();
            }

            void Put(Task<TBatch?> result)
            {
                while (!ordered.Writer.TryWrite(result)) ordered.Writer.WaitToWriteAsync(stop.Token).AsTask().GetAwaiter().GetResult();
            }
        }

        void Work(Func<TWork, CancellationToken, TBatch> make, int torchThreads)
        {
            if (torchThreads > 0) TorchThreads.LimitCurrentThread(torchThreads);
            while (true)
            {
                if (!open.Reader.TryRead(out var item))
                {
                    var more = open.Reader.WaitToReadAsync();
                    if (!(more.IsCompleted ? more.Result : more.AsTask().GetAwaiter().GetResult())) return;
                    continue;
                }
                if (stop.IsCancellationRequested)
                {
                    item.Result.TrySetCanceled();
                    continue;
                }
                try
                {
                    using var scope = NewDisposeScope();
                    item.Result.SetResult(make(item.Work, stop.Token));
                }
                catch (Exception e)
                {
                    item.Result.SetException(e);
                }
            }
        }

        public void Dispose()
        {
            stop.Cancel();
            foreach (var thread in threads) thread.Join();
            while (ordered.Reader.TryRead(out var result))
            {
                if (result.IsCompletedSuccessfully) result.Result?.Dispose();
                else _ = result.Exception;                                             // observed
            }
            stop.Dispose();
        }
    }
}
