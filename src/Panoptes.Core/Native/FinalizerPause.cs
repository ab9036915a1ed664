using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Panoptes.Native;

/// <summary>
/// Keeps finalizers from running while libtorch computes. TorchSharp 0.107 makes a Scalar for the number in <c>x * 2</c>, and for the 1 that the second
/// part of a sum is multiplied by, and lets go of it before the call that reads it has ended. A garbage collection at that moment, whichever thread caused it, frees it: the
/// call fails ("Expected false to be true") or reads another number. On a busy machine every second training of some minutes ended so. While a pause
/// lasts, the finalizer thread waits inside a finalizer of ours, and <see cref="Drain"/> lets it work where no call is under way.
/// </summary>
sealed class FinalizerPause : IDisposable
{
    /// <summary>How long garbage with finalizers may pile up.</summary>
    static readonly TimeSpan Often = TimeSpan.FromSeconds(2);

    /// <summary>A safeguard: no finalizer of the process waits longer, whatever happens to who paused them.</summary>
    static readonly TimeSpan Longest = TimeSpan.FromMinutes(1);

    static int held;

    readonly Stopwatch since = new();
    Gate gate = new();
    bool disposed;

    FinalizerPause() => Park();

    /// <summary>Begins a pause, or null where one lasts already: where one trainer waits another may be in the middle of a call.</summary>
    internal static FinalizerPause? TryBegin() => Interlocked.CompareExchange(ref held, 1, 0) == 0 ? new() : null;

    /// <summary>To be called now and then by the thread that computes, between calls: from time to time it lets finalizers do what has piled up.</summary>
    internal void Drain()
    {
        if (since.Elapsed < Often) return;
        gate.Open();
        GC.WaitForPendingFinalizers();
        gate = new();
        Park();
    }

    void Park()
    {
        Abandon(gate);
        GC.Collect(0, GCCollectionMode.Forced, blocking: true);
        gate.AwaitEntry(Often);
        since.Restart();
    }

    /// <summary>Not inlined, so that nothing on the stack keeps it.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Abandon(Gate gate) => _ = new Waiter(gate);

    public void Dispose()
    {
        if (disposed) return;
        disposed = true;
        gate.Open();
        Interlocked.Exchange(ref held, 0);
    }

    /// <summary>Where the finalizer thread waits.</summary>
    sealed class Gate
    {
        bool entered, open;

        internal void Open()
        {
            lock (this)
            {
                open = true;
                Monitor.PulseAll(this);
            }
        }

        internal void Enter(TimeSpan most)
        {
            lock (this)
            {
                entered = true;
                Monitor.PulseAll(this);
                var clock = Stopwatch.StartNew();
                while (!open && most - clock.Elapsed is var left && left > TimeSpan.Zero) Monitor.Wait(this, left);
            }
        }

        internal void AwaitEntry(TimeSpan most)
        {
            lock (this)
                if (!entered) Monitor.Wait(this, most);
        }
    }

    sealed class Waiter(Gate gate)
    {
        ~Waiter() => gate.Enter(Longest);
    }
}
