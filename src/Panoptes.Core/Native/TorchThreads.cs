using System.Runtime.InteropServices;

namespace Panoptes.Native;

/// <summary>libtorch's intra-operator threads for one calling thread.</summary>
/// <remarks>
/// <c>set_num_threads</c> changes every thread that has not run an operator yet. OpenMP's own setting belongs to the calling thread
/// alone; it must come after libtorch's lazy one, which <c>get_num_threads</c> brings about.
/// </remarks>
static unsafe class TorchThreads
{
    static readonly delegate* unmanaged<int, void> Set = Find();

    /// <summary>Lets this thread's operators use so many threads; does nothing where libtorch is not built on OpenMP.</summary>
    internal static void LimitCurrentThread(int threads)
    {
        _ = get_num_threads();
        if (Set != null) Set(threads);
    }

    static delegate* unmanaged<int, void> Find()
    {
        _ = get_num_threads();                                                         // loads libtorch
        return LibTorch.Handle != 0 && NativeLibrary.TryGetExport(LibTorch.Handle, "omp_set_num_threads", out var address)
            ? (delegate* unmanaged<int, void>)address
            : null;
    }
}
