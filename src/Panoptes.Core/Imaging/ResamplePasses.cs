using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Panoptes.Imaging;

/// <summary>
/// The two passes of a resize over interleaved uint8. The vector form multiplies pairs of pixels by pairs of 16-bit half weights
/// (vpmaddwd) and puts the halves together at the end: two multiplications for two taps, where 32-bit ones would cost four. Integer
/// sums wrap the same way in any order, so both forms give the same bytes.
/// </summary>
static unsafe class ResamplePasses
{
    /// <summary>Lets a test compare the plain form with the vector form.</summary>
    [ThreadStatic] internal static bool PlainOnly;

    static bool Vectorized => Avx2.IsSupported && !PlainOnly;

    /// <summary>Rows <paramref name="first"/> to <paramref name="last"/> of the source; row y lands at (y - first) x <paramref name="stride"/>, which has room for 8 more bytes than the row.</summary>
    public static void Horizontal(ReadOnlySpan<byte> source, int width, int channels, int first, int last, Span<byte> target, int stride, ResampleTaps taps)
    {
        var rowBytes = width * channels;
        fixed (byte* s = source, t = target)
        {
            if (!Vectorized)
            {
                for (var y = first; y < last; y++) HorizontalPlain(s + (long)y * rowBytes, t + (long)(y - first) * stride, channels, taps);
                return;
            }
            // Four taps are read as 16 bytes, which may reach beyond a row: into the next one, whose weights are zero, or, in the
            // last rows, beyond the array. Those are copied to where there is room.
            var reach = 0;
            for (var x = 0; x < taps.Count; x++) reach = Math.Max(reach, (taps.Start[x] + ((taps.Length[x] + 3) & ~3)) * channels + 16);
            var spare = ArrayPool<byte>.Shared.Rent(4 * Math.Max(reach, rowBytes));
            try
            {
                fixed (byte* room = spare)
                {
                    var rows = stackalloc byte*[4];
                    var outputs = stackalloc byte*[4];
                    for (var y = first; y < last; y += 4)
                    {
                        for (var r = 0; r < 4; r++)
                        {
                            var row = Math.Min(y + r, last - 1);                   // a repeated last row is written again with the same bytes
                            rows[r] = s + (long)row * rowBytes;
                            outputs[r] = t + (long)(row - first) * stride;
                            if ((long)row * rowBytes + reach <= source.Length) continue;
                            var copy = room + r * reach;
                            Buffer.MemoryCopy(rows[r], copy, reach, Math.Min(rowBytes, reach));
                            rows[r] = copy;
                        }
                        if (taps.IsShort) HorizontalShort(rows, outputs, channels, taps);
                        else HorizontalWide(rows, outputs, channels, taps);
                    }
                }
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(spare);
            }
        }
    }

    static void HorizontalPlain(byte* row, byte* output, int channels, ResampleTaps taps)
    {
        for (var x = 0; x < taps.Count; x++)
        {
            var weights = taps.Weights.AsSpan(x * taps.Stride, taps.Length[x]);
            var from = row + taps.Start[x] * channels;
            for (var c = 0; c < channels; c++)
            {
                var sum = 1 << (taps.Precision - 1);
                for (var i = 0; i < weights.Length; i++) sum += from[i * channels + c] * weights[i];
                *output++ = (byte)Math.Clamp(sum >> taps.Precision, 0, 255);
            }
        }
    }

    /// <summary>Spreads 4 interleaved pixels into pairs of 16-bit numbers: channel by channel, pixels 0 and 1 below, 2 and 3 above.</summary>
    static Vector256<byte> SpreadMask(int channels)
    {
        var mask = new byte[32];
        Array.Fill(mask, (byte)0x80);
        for (var pixel = 0; pixel < 4; pixel++)
            for (var c = 0; c < channels; c++)
                mask[pixel / 2 * 16 + c * 4 + pixel % 2 * 2] = (byte)(pixel * channels + c);
        return Vector256.Create(mask);
    }

    static readonly Vector256<int> HighPairs = Vector256.Create(0, 0, 0, 0, 1, 1, 1, 1);
    static readonly Vector256<int> LowPairs = Vector256.Create(2, 2, 2, 2, 3, 3, 3, 3);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    static void HorizontalWide(byte** rows, byte** outputs, int channels, ResampleTaps taps)
    {
        byte* r0 = rows[0], r1 = rows[1], r2 = rows[2], r3 = rows[3];
        var (mask, highPairs, lowPairs) = (SpreadMask(channels), HighPairs, LowPairs);
        var step = 4 * channels;
        var round = Vector128.Create(1 << (taps.Precision - 1));
        var shift = (byte)taps.Precision;
        fixed (short* halves = taps.Halves)
        fixed (int* starts = taps.Start, lengths = taps.Length)
            for (int x = 0, o = 0; x < taps.Count; x++, o += channels)
            {
                Vector256<int> h0 = default, h1 = default, h2 = default, h3 = default, l0 = default, l1 = default, l2 = default, l3 = default;
                var weights = halves + (long)x * taps.Stride * 2;
                long at = (long)starts[x] * channels;
                for (var left = lengths[x]; left > 0; left -= 4, at += step, weights += 8)
                {
                    var both = Avx2.BroadcastVector128ToVector256((int*)weights);
                    var high = Avx2.PermuteVar8x32(both, highPairs).AsInt16();
                    var low = Avx2.PermuteVar8x32(both, lowPairs).AsInt16();
                    var p = Avx2.Shuffle(Avx2.BroadcastVector128ToVector256(r0 + at), mask).AsInt16();
                    h0 += Avx2.MultiplyAddAdjacent(p, high);
                    l0 += Avx2.MultiplyAddAdjacent(p, low);
                    p = Avx2.Shuffle(Avx2.BroadcastVector128ToVector256(r1 + at), mask).AsInt16();
                    h1 += Avx2.MultiplyAddAdjacent(p, high);
                    l1 += Avx2.MultiplyAddAdjacent(p, low);
                    p = Avx2.Shuffle(Avx2.BroadcastVector128ToVector256(r2 + at), mask).AsInt16();
                    h2 += Avx2.MultiplyAddAdjacent(p, high);
                    l2 += Avx2.MultiplyAddAdjacent(p, low);
                    p = Avx2.Shuffle(Avx2.BroadcastVector128ToVector256(r3 + at), mask).AsInt16();
                    h3 += Avx2.MultiplyAddAdjacent(p, high);
                    l3 += Avx2.MultiplyAddAdjacent(p, low);
                }
                var s0 = Join(h0, l0, round, shift);
                var s1 = Join(h1, l1, round, shift);
                var s2 = Join(h2, l2, round, shift);
                var s3 = Join(h3, l3, round, shift);
                Store(s0, s1, s2, s3, outputs, o);
            }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    static void HorizontalShort(byte** rows, byte** outputs, int channels, ResampleTaps taps)
    {
        byte* r0 = rows[0], r1 = rows[1], r2 = rows[2], r3 = rows[3];
        var (mask, highPairs) = (SpreadMask(channels), HighPairs);
        var step = 4 * channels;
        var round = Vector128.Create(1 << (taps.Precision - 1));
        var shift = (byte)taps.Precision;
        fixed (short* halves = taps.Halves)
        fixed (int* starts = taps.Start, lengths = taps.Length)
            for (int x = 0, o = 0; x < taps.Count; x++, o += channels)
            {
                Vector256<int> h0 = default, h1 = default, h2 = default, h3 = default;
                var weights = halves + (long)x * taps.Stride * 2;
                long at = (long)starts[x] * channels;
                for (var left = lengths[x]; left > 0; left -= 4, at += step, weights += 8)
                {
                    var high = Avx2.PermuteVar8x32(Avx2.BroadcastVector128ToVector256((int*)weights), highPairs).AsInt16();
                    h0 += Avx2.MultiplyAddAdjacent(Avx2.Shuffle(Avx2.BroadcastVector128ToVector256(r0 + at), mask).AsInt16(), high);
                    h1 += Avx2.MultiplyAddAdjacent(Avx2.Shuffle(Avx2.BroadcastVector128ToVector256(r1 + at), mask).AsInt16(), high);
                    h2 += Avx2.MultiplyAddAdjacent(Avx2.Shuffle(Avx2.BroadcastVector128ToVector256(r2 + at), mask).AsInt16(), high);
                    h3 += Avx2.MultiplyAddAdjacent(Avx2.Shuffle(Avx2.BroadcastVector128ToVector256(r3 + at), mask).AsInt16(), high);
                }
                var s0 = Vector128.ShiftRightArithmetic(h0.GetLower() + h0.GetUpper() + round, shift);
                var s1 = Vector128.ShiftRightArithmetic(h1.GetLower() + h1.GetUpper() + round, shift);
                var s2 = Vector128.ShiftRightArithmetic(h2.GetLower() + h2.GetUpper() + round, shift);
                var s3 = Vector128.ShiftRightArithmetic(h3.GetLower() + h3.GetUpper() + round, shift);
                Store(s0, s1, s2, s3, outputs, o);
            }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static Vector128<int> Join(Vector256<int> high, Vector256<int> low, Vector128<int> round, byte shift)
    {
        var sum = Vector256.ShiftLeft(high, ResampleTaps.Split) + low;
        return Vector128.ShiftRightArithmetic(sum.GetLower() + sum.GetUpper() + round, shift);
    }

    /// <summary>Four bytes a row: those beyond the channels are overwritten by the next pixel or fall into the row's spare room.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void Store(Vector128<int> s0, Vector128<int> s1, Vector128<int> s2, Vector128<int> s3, byte** outputs, int at)
    {
        var bytes = Sse2.PackUnsignedSaturate(Sse2.PackSignedSaturate(s0, s1), Sse2.PackSignedSaturate(s2, s3)).AsInt32();
        *(int*)(outputs[0] + at) = bytes.GetElement(0);
        *(int*)(outputs[1] + at) = bytes.GetElement(1);
        *(int*)(outputs[2] + at) = bytes.GetElement(2);
        *(int*)(outputs[3] + at) = bytes.GetElement(3);
    }

    /// <summary>Row <paramref name="first"/> of the image is at the beginning of <paramref name="source"/>, whose rows are <paramref name="stride"/> apart.</summary>
    public static void Vertical(ReadOnlySpan<byte> source, int stride, int first, Span<byte> target, int rowBytes, ResampleTaps taps)
    {
        fixed (byte* s = source, t = target)
            for (var y = 0; y < taps.Count; y++)
            {
                var from = s + (long)(taps.Start[y] - first) * stride;
                var to = t + (long)y * rowBytes;
                if (!Vectorized || rowBytes < 32) VerticalPlain(from, stride, to, rowBytes, taps, y);
                else if (taps.IsShort) VerticalShort(from, stride, to, rowBytes, taps, y);
                else VerticalWide(from, stride, to, rowBytes, taps, y);
            }
    }

    static void VerticalPlain(byte* from, int stride, byte* to, int rowBytes, ResampleTaps taps, int y)
    {
        var weights = taps.Weights.AsSpan(y * taps.Stride, taps.Length[y]);
        for (var x = 0; x < rowBytes; x++)
        {
            var sum = 1 << (taps.Precision - 1);
            for (var i = 0; i < weights.Length; i++) sum += from[(long)i * stride + x] * weights[i];
            to[x] = (byte)Math.Clamp(sum >> taps.Precision, 0, 255);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    static void VerticalWide(byte* from, int stride, byte* to, int rowBytes, ResampleTaps taps, int y)
    {
        var length = taps.Length[y];
        var zero = Vector256<byte>.Zero;
        var round = Vector256.Create(1 << (taps.Precision - 1));
        fixed (short* halves = &taps.Halves[(long)y * taps.Stride * 2])
            for (var x = 0; ; x = Math.Min(x + 32, rowBytes - 32))                 // the last step overlaps the one before
            {
                Vector256<int> h0 = default, h1 = default, h2 = default, h3 = default, l0 = default, l1 = default, l2 = default, l3 = default;
                var p = from + x;
                for (var i = 0; i < length; i += 2, p += 2L * stride)
                {
                    var pair = halves + (i & ~3) * 2 + (i & 2);
                    var high = Vector256.Create(*(int*)pair).AsInt16();
                    var low = Vector256.Create(*(int*)(pair + 4)).AsInt16();
                    var a = Avx.LoadVector256(p);
                    var b = i + 1 < length ? Avx.LoadVector256(p + stride) : zero;
                    var below = Avx2.UnpackLow(a, b);
                    var above = Avx2.UnpackHigh(a, b);
                    var q = Avx2.UnpackLow(below, zero).AsInt16();
                    h0 += Avx2.MultiplyAddAdjacent(q, high);
                    l0 += Avx2.MultiplyAddAdjacent(q, low);
                    q = Avx2.UnpackHigh(below, zero).AsInt16();
                    h1 += Avx2.MultiplyAddAdjacent(q, high);
                    l1 += Avx2.MultiplyAddAdjacent(q, low);
                    q = Avx2.UnpackLow(above, zero).AsInt16();
                    h2 += Avx2.MultiplyAddAdjacent(q, high);
                    l2 += Avx2.MultiplyAddAdjacent(q, low);
                    q = Avx2.UnpackHigh(above, zero).AsInt16();
                    h3 += Avx2.MultiplyAddAdjacent(q, high);
                    l3 += Avx2.MultiplyAddAdjacent(q, low);
                }
                h0 = Vector256.ShiftRightArithmetic(Vector256.ShiftLeft(h0, ResampleTaps.Split) + l0 + round, taps.Precision);
                h1 = Vector256.ShiftRightArithmetic(Vector256.ShiftLeft(h1, ResampleTaps.Split) + l1 + round, taps.Precision);
                h2 = Vector256.ShiftRightArithmetic(Vector256.ShiftLeft(h2, ResampleTaps.Split) + l2 + round, taps.Precision);
                h3 = Vector256.ShiftRightArithmetic(Vector256.ShiftLeft(h3, ResampleTaps.Split) + l3 + round, taps.Precision);
                Avx.Store(to + x, Avx2.PackUnsignedSaturate(Avx2.PackSignedSaturate(h0, h1), Avx2.PackSignedSaturate(h2, h3)));
                if (x == rowBytes - 32) return;
            }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    static void VerticalShort(byte* from, int stride, byte* to, int rowBytes, ResampleTaps taps, int y)
    {
        var length = taps.Length[y];
        var zero = Vector256<byte>.Zero;
        var round = Vector256.Create(1 << (taps.Precision - 1));
        fixed (short* halves = &taps.Halves[(long)y * taps.Stride * 2])
            for (var x = 0; ; x = Math.Min(x + 32, rowBytes - 32))
            {
                Vector256<int> h0 = default, h1 = default, h2 = default, h3 = default;
                var p = from + x;
                for (var i = 0; i < length; i += 2, p += 2L * stride)
                {
                    var high = Vector256.Create(*(int*)(halves + (i & ~3) * 2 + (i & 2))).AsInt16();
                    var a = Avx.LoadVector256(p);
                    var b = i + 1 < length ? Avx.LoadVector256(p + stride) : zero;
                    var below = Avx2.UnpackLow(a, b);
                    var above = Avx2.UnpackHigh(a, b);
                    h0 += Avx2.MultiplyAddAdjacent(Avx2.UnpackLow(below, zero).AsInt16(), high);
                    h1 += Avx2.MultiplyAddAdjacent(Avx2.UnpackHigh(below, zero).AsInt16(), high);
                    h2 += Avx2.MultiplyAddAdjacent(Avx2.UnpackLow(above, zero).AsInt16(), high);
                    h3 += Avx2.MultiplyAddAdjacent(Avx2.UnpackHigh(above, zero).AsInt16(), high);
                }
                h0 = Vector256.ShiftRightArithmetic(h0 + round, taps.Precision);
                h1 = Vector256.ShiftRightArithmetic(h1 + round, taps.Precision);
                h2 = Vector256.ShiftRightArithmetic(h2 + round, taps.Precision);
                h3 = Vector256.ShiftRightArithmetic(h3 + round, taps.Precision);
                Avx.Store(to + x, Avx2.PackUnsignedSaturate(Avx2.PackSignedSaturate(h0, h1), Avx2.PackSignedSaturate(h2, h3)));
                if (x == rowBytes - 32) return;
            }
    }
}
