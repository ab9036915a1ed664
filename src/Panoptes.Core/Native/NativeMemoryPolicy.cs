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

    /// <summary>
    /// The opposite, for whoever must train in little memory (with checkpointed activations, say): every large tensor goes back to the kernel as it
    /// is freed, so that the process holds no more than it uses, for about a quarter more time.
    /// </summary>
    /// <returns>Whether the C library takes such a setting.</returns>
    public static bool ReturnFreedMemory()
    {
        try
        {
            return OperatingSystem.IsLinux() && MallocOption(MmapThreshold, 4 << 20) == 1;
        }
        catch (EntryPointNotFoundException)                                          // another C library
        {
            return false;
        }
    }

    // How far above a step's need the resident memory may grow before it is given back, that need, and how many steps are still to tell it: the first
    // ones find places for what a step leaves to the next, and giving back in between would let the kernel clear all pages twice.
    const double Tolerated = 1.1;
    static long need;
    static int telling = 3;

    /// <summary>
    /// To be called after every step of a program that keeps freed memory. Step by step the free memory gets more ragged and the process grows,
    /// without an end in sight; where it has grown by a tenth, this gives the free pages back to the kernel once, which costs the next step a
    /// sixth of its time.
    /// </summary>
    public static void GiveBackExcess()
    {
        if (!Applied.IsValueCreated || !Applied.Value) return;
        var resident = Environment.WorkingSet;
        if (telling > 0) (need, telling) = (Math.Max(need, resident), telling - 1);
        else if (resident > need * Tolerated && Trim(0) >= 0) telling = 1;
    }

    /// <summary>Gives the pages of freed memory back to the kernel at once. For after much was freed that will not be asked for again.</summary>
    public static void GiveBack()
    {
        try
        {
            if (OperatingSystem.IsLinux()) _ = Trim(0);
        }
        catch (EntryPointNotFoundException) { }                                      // another C library, which does as it likes
    }

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int MallocOption(int option, int value);

    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int Trim(nuint pad);
}
