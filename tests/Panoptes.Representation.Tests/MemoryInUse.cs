using System.Runtime.InteropServices;

namespace Panoptes.Representation.Tests;

/// <summary>What the C library has given out on Linux, of which libtorch's tensors are nearly all.</summary>
static partial class MemoryInUse
{
    internal static long Bytes()
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
