using System.Runtime.InteropServices;

namespace Panoptes.Native;

/// <summary>The native library that TorchSharp has loaded, for the exports that it does not wrap.</summary>
static class LibTorch
{
    /// <summary>The handle of libtorch's CPU library, or 0 where it cannot be found.</summary>
    internal static nint Handle { get; } = Find();

    static nint Find()
    {
        // The name resolves through the application's native search paths, then to the copy already in the process.
        foreach (var name in (ReadOnlySpan<string>)["torch_cpu", "libtorch_cpu.so", "torch_cpu.dll", "libtorch_cpu.dylib"])
            if (NativeLibrary.TryLoad(name, typeof(LibTorch).Assembly, null, out var handle)) return handle;
        return 0;
    }
}
