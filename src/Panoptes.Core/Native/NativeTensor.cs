using System.Runtime.InteropServices;

namespace Panoptes.Native;

/// <summary>Tensors over memory that libtorch does not own, and the addresses of tensors' data: what TorchSharp's library exports but its API hides.</summary>
static unsafe class NativeTensor
{
    static readonly delegate* unmanaged<nint, delegate* unmanaged[Cdecl]<void*, void>, long*, int, sbyte, sbyte, int, int, byte, nint> New;
    static readonly delegate* unmanaged<nint, nint> DataOf;

    static NativeTensor()
    {
        TorchSharp.torch.InitializeDeviceType(TorchSharp.DeviceType.CPU);            // loads the library, wherever it is
        if (!NativeLibrary.TryLoad("LibTorchSharp", typeof(NativeTensor).Assembly, null, out var library)) return;
        if (NativeLibrary.TryGetExport(library, "THSTensor_new", out var make))
            New = (delegate* unmanaged<nint, delegate* unmanaged[Cdecl]<void*, void>, long*, int, sbyte, sbyte, int, int, byte, nint>)make;
        if (NativeLibrary.TryGetExport(library, "THSTensor_data", out var data)) DataOf = (delegate* unmanaged<nint, nint>)data;
    }

    /// <summary>Whether <see cref="Wrap"/> works with the loaded library.</summary>
    internal static bool CanWrap => New != null;

    /// <summary>A contiguous CPU tensor over <paramref name="data"/>; libtorch calls <paramref name="release"/> with the address when its last use is gone.</summary>
    internal static Tensor Wrap(nint data, ReadOnlySpan<long> shape, ScalarType type, delegate* unmanaged[Cdecl]<void*, void> release)
    {
        nint handle;
        var none = 0L;
        fixed (long* sizes = shape)
            handle = New(data, release, sizes == null ? &none : sizes, shape.Length, (sbyte)type, (sbyte)type, 0, -1, 0);
        if (handle == 0) TorchSharp.torch.CheckForErrors();
        return TorchSharp.torch.Tensor.UnsafeCreateTensor(handle);
    }

    /// <summary>The address of a CPU tensor's first element.</summary>
    internal static nint Data(Tensor tensor)
    {
        if (DataOf != null) return DataOf(tensor.Handle);
        fixed (byte* p = tensor.bytes) return (nint)p;                                // native memory: it does not move
    }
}
