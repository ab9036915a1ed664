namespace Panoptes.Imaging;

/// <summary>
/// One axis of a resize: which source samples each output sample weighs, in fixed point. Weights are stored in groups of four taps,
/// as the vector kernels read them: the high halves of the four, then the low halves (weight = high x 2^<see cref="Split"/> + low).
/// </summary>
sealed class ResampleTaps
{
    /// <summary>Low halves have 11 bits, so that both halves of a 22-bit weight are signed 16-bit numbers.</summary>
    public const int Split = 11;

    const int PillowPrecision = 32 - 8 - 2;

    /// <summary>First source sample of each output sample.</summary>
    public required int[] Start { get; init; }

    /// <summary>Number of source samples of each output sample.</summary>
    public required int[] Length { get; init; }

    /// <summary>Whole weights, <see cref="Stride"/> an output sample, zero beyond its length.</summary>
    public required int[] Weights { get; init; }

    /// <summary>Groups of [high x 4, low x 4]; twice <see cref="Stride"/> an output sample.</summary>
    public required short[] Halves { get; init; }

    /// <summary>Weights an output sample: a multiple of 4.</summary>
    public required int Stride { get; init; }

    /// <summary>Fractional bits of the weights.</summary>
    public required int Precision { get; init; }

    /// <summary>Whether every low half is zero, the weights being 16-bit numbers themselves (torchvision's rounding).</summary>
    public required bool IsShort { get; init; }

    public int Count => Start.Length;

    /// <summary>
    /// The weights of resampling [<paramref name="from"/>, <paramref name="to"/>) of <paramref name="inputSize"/> samples to
    /// <paramref name="outputSize"/>; the same arithmetic, in the same order, as Pillow's Resample.c and libtorch's antialiased kernels.
    /// </summary>
    public static ResampleTaps Create(int inputSize, float from, float to, int outputSize, ResizeFilter filter, ResizeRounding rounding)
    {
        var scale = (double)(to - from) / outputSize;                               // Pillow keeps the part in single precision
        var filterScale = Math.Max(scale, 1);
        var support = Support(filter) * filterScale;
        var most = (int)Math.Ceiling(support) * 2 + 1;
        var stride = (most + 3) & ~3;
        var weights = new double[checked((long)stride * outputSize)];
        var starts = new int[outputSize];
        var lengths = new int[outputSize];
        var inverse = 1 / filterScale;
        var largest = 0.0;
        for (var x = 0; x < outputSize; x++)
        {
            var center = from + (x + 0.5) * scale;
            var first = Math.Max((int)(center - support + 0.5), 0);
            var length = Math.Min((int)(center + support + 0.5), inputSize) - first;
            var row = weights.AsSpan(x * stride, length);
            var sum = 0.0;
            for (var i = 0; i < length; i++) sum += row[i] = Kernel(filter, (i + first - center + 0.5) * inverse);
            if (sum != 0)
                foreach (ref var w in row) w /= sum;
            foreach (var w in row) largest = Math.Max(largest, w);
            (starts[x], lengths[x]) = (first, length);
        }
        var precision = rounding == ResizeRounding.Pillow ? PillowPrecision : ShortPrecision(largest);
        return Quantize(weights, starts, lengths, stride, precision, rounding == ResizeRounding.Torchvision);
    }

    /// <summary>The taps of <paramref name="count"/> outputs from <paramref name="from"/> on.</summary>
    public ResampleTaps Window(int from, int count) => from == 0 && count == Count ? this : new()
    {
        Start = Start[from..(from + count)],
        Length = Length[from..(from + count)],
        Weights = Weights[(from * Stride)..((from + count) * Stride)],
        Halves = Halves[(from * Stride * 2)..((from + count) * Stride * 2)],
        Stride = Stride,
        Precision = Precision,
        IsShort = IsShort,
    };

    static ResampleTaps Quantize(double[] weights, int[] starts, int[] lengths, int stride, int precision, bool isShort)
    {
        var whole = new int[weights.Length];
        var halves = new short[weights.Length * 2];
        for (var i = 0; i < weights.Length; i++)
        {
            var w = weights[i];
            var quantized = (int)((w < 0 ? -0.5 : 0.5) + w * (1 << precision));
            if (w == 0) quantized = 0;
            whole[i] = quantized;
            var high = (i & ~3) * 2 + (i & 3);
            halves[high] = (short)(isShort ? quantized : quantized >> Split);
            halves[high + 4] = (short)(isShort ? 0 : quantized & ((1 << Split) - 1));
        }
        return new() { Start = starts, Length = lengths, Weights = whole, Halves = halves, Stride = stride, Precision = precision, IsShort = isShort };
    }

    /// <summary>The most fractional bits with which the largest weight still is a signed 16-bit number, as libtorch chooses them.</summary>
    static int ShortPrecision(double largest)
    {
        var precision = 0;
        for (; precision < PillowPrecision; precision++)
            if ((int)(0.5 + largest * (1 << (precision + 1))) >= 1 << 15) break;
        return precision;
    }

    static double Support(ResizeFilter filter) => filter switch
    {
        ResizeFilter.Box => 0.5,
        ResizeFilter.Bilinear or ResizeFilter.Hamming => 1,
        ResizeFilter.Bicubic => 2,
        ResizeFilter.Lanczos => 3,
        _ => throw new ArgumentException($"{filter} is not a resampling kernel."),
    };

    static double Kernel(ResizeFilter filter, double x)
    {
        const double a = -0.5;                                                     // Catmull-Rom
        switch (filter)
        {
            case ResizeFilter.Box:
                return x is > -0.5 and <= 0.5 ? 1 : 0;
            case ResizeFilter.Bilinear:
                x = Math.Abs(x);
                return x < 1 ? 1 - x : 0;
            case ResizeFilter.Hamming:
                x = Math.Abs(x);
                if (x == 0) return 1;
                if (x >= 1) return 0;
                x *= Math.PI;
                return Math.Sin(x) / x * (0.54f + 0.46f * Math.Cos(x));                // Pillow's constants are single precision
            case ResizeFilter.Bicubic:
                x = Math.Abs(x);
                if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
                return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
            default:
                return x is >= -3 and < 3 ? Sinc(x) * Sinc(x / 3) : 0;
        }
    }

    static double Sinc(double x)
    {
        if (x == 0) return 1;
        x *= Math.PI;
        return Math.Sin(x) / x;
    }
}
