using System.Runtime.InteropServices;

namespace Panoptes.Native;

/// <summary>
/// libtorch's autocast on the CPU: while a scope is open on a thread, products and convolutions take their operands in the given type
/// (float32 weights stay what is trained, and get float32 gradients), everything else runs in the type that it gets.
/// </summary>
/// <remarks>
/// It is not part of the stable interface: the functions are reached by their C++ names, which Linux and macOS share. Where they are
/// missing, <see cref="IsAvailable"/> is false and a scope changes nothing, so that everything runs in its own type. So it does where the
/// processor multiplies float32 faster than bfloat16 (<see cref="TorchOps.HasFastBFloat16"/>): a scope allows the smaller type, it does not insist on it.
/// </remarks>
public sealed unsafe class Autocast : IDisposable
{
    const sbyte Cpu = 0;                                                             // c10::DeviceType::CPU

    static readonly delegate* unmanaged<sbyte, byte, void> Enable;
    static readonly delegate* unmanaged<sbyte, sbyte, void> SetType;
    static readonly delegate* unmanaged<void> ClearCache;

    [ThreadStatic] static Autocast? current;

    readonly Autocast? outer;
    readonly ScalarType? dtype;

    static Autocast()
    {
        if (!Dispatcher.IsAvailable) return;                                         // which also loads the library
        if (!NativeLibrary.TryGetExport(LibTorch.Handle, "_ZN2at8autocast20set_autocast_enabledEN3c1010DeviceTypeEb", out var enable)
            || !NativeLibrary.TryGetExport(LibTorch.Handle, "_ZN2at8autocast18set_autocast_dtypeEN3c1010DeviceTypeENS1_10ScalarTypeE", out var type)
            || !NativeLibrary.TryGetExport(LibTorch.Handle, "_ZN2at8autocast11clear_cacheEv", out var clear)) return;
        Enable = (delegate* unmanaged<sbyte, byte, void>)enable;
        SetType = (delegate* unmanaged<sbyte, sbyte, void>)type;
        ClearCache = (delegate* unmanaged<void>)clear;
    }

    Autocast(ScalarType? dtype)
    {
        (outer, this.dtype) = (current, dtype);
        current = this;
        Apply(dtype);
    }

    /// <summary>Whether the loaded libtorch lets it be switched.</summary>
    public static bool IsAvailable => Enable is not null;

    /// <summary>The type in force on this thread, or null.</summary>
    public static ScalarType? Dtype => current?.dtype;

    /// <summary>Opens a scope on this thread; scopes nest. Float32 (or any scope where it is not available or does not pay) means that nothing is cast.</summary>
    /// <exception cref="ArgumentException">Neither bfloat16, float16 nor float32.</exception>
    public static Autocast To(ScalarType dtype)
    {
        if (dtype is not (ScalarType.BFloat16 or ScalarType.Float16 or ScalarType.Float32))
            throw new ArgumentException($"Autocast is to bfloat16, float16 or float32, not to {dtype}.", nameof(dtype));
        return new(IsAvailable && dtype != ScalarType.Float32 && (dtype != ScalarType.BFloat16 || TorchOps.HasFastBFloat16) ? dtype : null);
    }

    static void Apply(ScalarType? dtype)
    {
        if (!IsAvailable) return;
        if (dtype is { } type) SetType(Cpu, (sbyte)type);
        Enable(Cpu, dtype is null ? (byte)0 : (byte)1);
    }

    public void Dispose()
    {
        if (!ReferenceEquals(current, this)) return;                                 // disposed before
        current = outer;
        Apply(outer?.dtype);
        if (outer is null && IsAvailable) ClearCache();
    }
}
