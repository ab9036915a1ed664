using System.Runtime.InteropServices;
using Panoptes.Nn;

namespace Panoptes.Representation.Tests;

/// <summary>What the C library has given out on Linux, of which libtorch's tensors are nearly all.</summary>
static partial class MemoryInUse
{
    /// <summary>How much a forward pass keeps for the gradient, plain and with checkpointed activations.</summary>
    internal static (long Plain, long Checkpointed) Kept(Module model, Func<Tensor> forward)
    {
        Once(false);
        // The whole process is measured: what earlier tests left must not be freed meanwhile, and one measurement may be disturbed.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return (Median(false), Median(true));

        long Median(bool on) => Enumerable.Range(0, 5).Select(_ => Once(on)).Order().ElementAt(2);

        long Once(bool on)
        {
            using var inner = NewDisposeScope();
            model.CheckpointActivations(on);
            var before = Bytes();
            var output = forward();
            return Bytes() - before;
        }
    }

    static long Bytes()
    {
        var info = MallocInfo();
        return (long)(info.InArenas + info.Mapped);
    }

    [StructLayout(LayoutKind.Sequential)]
    struct MallInfo
    {
        public nuint Arena, FreeChunks, FastChunks, MappedChunks, Mapped, MaxTotal, FastBytes, InArenas, Free, Releasable;
    }

    [LibraryImport("libc", EntryPoint = "mallinfo2")]
    private static partial MallInfo MallocInfo();
}
