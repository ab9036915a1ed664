namespace Panoptes.Native;

/// <summary>What the oneDNN 3.7.1 inside libtorch 2.10 cannot do, so that it is asked for something else.</summary>
static class OneDnn
{
    /// <summary>
    /// oneDNN computes channels in sixteens. Where outputs are fewer (the 3 of an image, the 1 of a judgement), it reads memory that nobody wrote: with 3 of 32 the gradient of
    /// the input was not a number, and in bfloat16 the output was wrong as well. So it does with inputs that are more than one sixteen and no whole number of them: of 20 channels
    /// and kernels of 3 the output itself was not a number. So whole sixteens are computed.
    /// </summary>
    internal const int Block = 16;

    /// <summary>How many channels are missing to whole sixteens.</summary>
    internal static long Missing(long channels) => (Block - (channels % Block)) % Block;

    /// <summary>The widest block that oneDNN divides a packed weight into.</summary>
    internal const int PackedBlock = 64;

    /// <summary>
    /// Whether a convolution of kernel 1, and its gradient, can be planned. For a few widths est_eff_1x1 (jit_brgemm_conv_utils.cpp, "maskrcnn_cond") divides whole
    /// numbers that are zero on processors with AVX-512 and without AMX, and the process ends: for 256 to 1024 channels as a ResNet-50 or a transformer of 256 has them.
    /// The gradient of the input is a convolution the other way.
    /// </summary>
    internal static bool CanPlan(long inputs, long outputs) => !Fails(inputs, outputs) && !Fails(outputs, inputs);

    static bool Fails(long inputs, long outputs) => (inputs, outputs) is (256, 1024) or (512, 1024) or (512, 2048) or (1024, 512) or (1024, 2048);

    /// <summary>
    /// Whether a float32 convolution of kernel 1 over channels that lie last is computed right, and its gradient, in which inputs and outputs change places. On processors with AVX-512
    /// and without AMX oneDNN takes outputs in blocks of 48 where inputs are few, and what is left of them after the last whole block comes out wrong: 512 outputs of 128 inputs lost
    /// the last 32 at 512 rows and not at 320. Multiples of 48 that are multiples of its other block, 64, are right whichever it takes. Other kernels and bfloat16 are not concerned.
    /// </summary>
    internal static bool IsRight(long inputs, long outputs) => inputs % 192 == 0 && outputs % 192 == 0;

    /// <summary>
    /// Whether a product as a convolution is better computed in two parts of its outputs (<see cref="Half"/> and the rest): where every row of the result starts at the same place of a
    /// page of 4 KiB, so that they chase each other out of the cache (768 to 3072: 105 GFLOP/s whole, 294 in parts).
    /// </summary>
    internal static bool WantsParts(long outputs) => outputs % 1024 == 0;

    /// <summary>About half of the outputs; it and the rest are computed right as well.</summary>
    internal static long Half(long outputs) => (outputs / 2) + 192;
}
