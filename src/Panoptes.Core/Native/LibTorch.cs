using System.Runtime.InteropServices;

namespace Panoptes.Native;

/// <summary>The native libraries that TorchSharp has loaded, for the exports that it does not wrap.</summary>
static unsafe class LibTorch
{
    const int Fatal = 3;                                                             // c10's levels: information, warning, error, fatal

    /// <summary>The handle of libtorch's CPU library, or 0 where it cannot be found.</summary>
    internal static nint Handle { get; } = Find("torch_cpu");

    /// <summary>
    /// The stable C interface reports a failed call by a status and prints what happened, with a C++ backtrace, to the error stream;
    /// the status becomes an exception here, so the print is switched off (unless TORCH_CPP_LOG_LEVEL asks for it).
    /// </summary>
    internal static void SilenceErrorLog()
    {
        if (Environment.GetEnvironmentVariable("TORCH_CPP_LOG_LEVEL") is null && Find("c10") is var c10 && c10 != 0
            && NativeLibrary.TryGetExport(c10, "FLAGS_caffe2_log_level", out var level))
            *(int*)level = Math.Max(*(int*)level, Fatal);
    }

    static nint Find(string library)
    {
        // The name resolves through the application's native search paths, then to the copy already in the process.
        foreach (var name in (ReadOnlySpan<string>)[library, $"lib{library}.so", $"{library}.dll", $"lib{library}.dylib"])
            if (NativeLibrary.TryLoad(name, typeof(LibTorch).Assembly, null, out var handle)) return handle;
        return 0;
    }
}
