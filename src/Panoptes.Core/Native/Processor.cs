using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace Panoptes.Native;

/// <summary>What decides which of several equal ways to a matrix product is the fast one on this processor. docs/performance.md has the figures.</summary>
static class Processor
{
    static readonly bool Intel = X86Base.IsSupported && IsIntel();
    static readonly bool IntelWithAvx512 = Intel && Avx512F.IsSupported;
    static readonly bool SomeBFloat16 = X86Base.IsSupported && (HasAmx() || HasAvx512BFloat16());
    static readonly bool SlowBFloat16 = !SomeBFloat16 || (Intel && !HasAmx());

    [ThreadStatic] static Other? pretended;

    /// <summary>Whether the processor has AVX-512.</summary>
    internal static bool HasAvx512 => pretended?.HasAvx512 ?? Avx512F.IsSupported;

    /// <summary>Whether MKL, which computes libtorch's float32 matrix products, uses AVX-512: on Intel's own processors only.</summary>
    internal static bool MklUsesAvx512 => pretended?.MklUsesAvx512 ?? IntelWithAvx512;

    /// <summary>
    /// Whether bfloat16 products are slower than float32 ones over the same values: without any instruction for them, and on Intel's
    /// processors without AMX, whose VDPBF16PS has half the throughput of the float32 multiply-add.
    /// </summary>
    internal static bool PrefersFloat32Products => pretended?.PrefersFloat32Products ?? SlowBFloat16;

    /// <summary>Whether the processor has no instruction for products of bfloat16 numbers at all: libtorch computes them one by one, convolutions too.</summary>
    internal static bool LacksBFloat16 => pretended?.LacksBFloat16 ?? !SomeBFloat16;

    /// <summary>Decides on this thread as on another processor, until the result is disposed: how every way is tested on any machine.</summary>
    internal static IDisposable Pretend(bool mklUsesAvx512, bool prefersFloat32Products, bool lacksBFloat16 = false, bool? hasAvx512 = null) =>
        pretended = new(mklUsesAvx512, prefersFloat32Products, lacksBFloat16, hasAvx512 ?? Avx512F.IsSupported);

    sealed record Other(bool MklUsesAvx512, bool PrefersFloat32Products, bool LacksBFloat16, bool HasAvx512) : IDisposable
    {
        public void Dispose() => pretended = null;
    }

    static bool IsIntel()
    {
        var (_, b, c, d) = X86Base.CpuId(0, 0);
        return MemoryMarshal.AsBytes<int>([b, d, c]).SequenceEqual("GenuineIntel"u8);
    }

    static bool HasAmx() => (X86Base.CpuId(7, 0).Edx & 1 << 22) != 0;

    static bool HasAvx512BFloat16() => X86Base.CpuId(7, 0).Eax >= 1 && (X86Base.CpuId(7, 1).Eax & 1 << 5) != 0;
}
