using System.Runtime.InteropServices;

namespace Panoptes.Native;

/// <summary>How the C library's allocator, which holds libtorch's tensors, treats memory that is freed.</summary>
public static partial class NativeMemoryPolicy
{
    const int TrimThreshold = -1, MmapThreshold = -3, ArenaMax = -8;                 // malloc.h of glibc

    static readonly Lazy<bool> Applied = new(static () =>
    {
        if (!OperatingSystem.IsLinux()) return false;
        try
        {
            return MallocOption(MmapThreshold, 1 << 30) + MallocOption(TrimThreshold, int.MaxValue) + MallocOption(ArenaMax, 1) == 3;
        }
        catch (EntryPointNotFoundException)                                          // another C library
        {
            return false;
        }
    });

    /// <summary>
    /// From now on keeps freed memory in this process for the next tensors. A training step frees a gigabyte of activations at its end and
    /// asks for it again at once; by default that memory goes back to the kernel, which clears it page by page for the next step, up to a
    /// fifth of the whole time. For programs that train or compute in bulk: it is a setting of the whole process, which no library should make unasked.
    /// </summary>
    /// <returns>Whether the C library takes such a setting (glibc on Linux does).</returns>
    public static bool KeepFreedMemory() => Applied.Value;

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int MallocOption(int option, int value);
}
