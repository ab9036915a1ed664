using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Panoptes.Data;

/// <summary>
/// Applies an <see cref="Augmentation"/> to one image at a time, everything in the core's own cache: the crop, turn, move, flip and
/// resize are one bilinear resampling with premultiplied alpha (of a copy averaged over square blocks of pixels where the image
/// shrinks by more than 1.5), then the background, then <see cref="ColorOps"/> over planes. Thread-safe; a result follows from the image and the random stream alone.
/// </summary>
public sealed class Augmenter
{
    readonly Augmentation options;
    readonly Backgrounds backgrounds;
    readonly ElasticField? elastic;

    [ThreadStatic] static Workspace? workspace;

    /// <exception cref="PanoptesException">A value of the augmentation is outside its range.</exception>
    public Augmenter(Augmentation options)
    {
        options.Validate();
        this.options = options;
        backgrounds = new(options.Background, options.Size);
        elastic = options.ElasticProbability > 0 ? new(options.Size, options.ElasticGrid) : null;
    }

    /// <summary>What is applied.</summary>
    public Augmentation Options => options;

    /// <summary>Floats of one result: 3 * size * size.</summary>
    public int ResultLength => 3 * options.Size * options.Size;

    /// <summary>Augments one image.</summary>
    /// <param name="pixels">[height, width, channels] bytes: RGB, or RGBA with straight alpha.</param>
    /// <param name="width">Pixels a row.</param>
    /// <param name="height">Rows.</param>
    /// <param name="channels">3 or 4.</param>
    /// <param name="random">The sample's stream; it moves on.</param>
    /// <param name="result">[3, size, size] floats, normalized by mean and deviation.</param>
    public void Apply(ReadOnlySpan<byte> pixels, int width, int height, int channels, ref SampleRandom random, Span<float> result)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(height, 1);
        if (channels is not (3 or 4)) throw new ArgumentOutOfRangeException(nameof(channels), channels, "An image has 3 or 4 channels.");
        if (pixels.Length != (long)width * height * channels) throw new ArgumentException($"{pixels.Length} bytes are no {width}x{height} image of {channels} channels.", nameof(pixels));
        if (result.Length != ResultLength) throw new ArgumentException($"The result has {result.Length} floats, but {ResultLength} were expected.", nameof(result));

        var size = options.Size;
        var work = workspace ??= new();
        var map = Draw(width, height, ref random);
        var factor = Math.Clamp((int)MathF.Ceiling(map.Shrink / 1.5f), 1, Math.Min(width, height));
        var source = work.Load(pixels, width, height, channels, factor);
        map = map.Reduced(factor);

        var plane = size * size;
        var canvas = work.Canvas(plane);
        Span<Vector2> field = [];
        if (elastic is not null && random.Chance(options.ElasticProbability))
        {
            field = work.Field(plane);
            elastic.Draw(random.Next(options.ElasticDeviation.Min, options.ElasticDeviation.Max) * size, ref random, field);
        }
        if (source.Opaque && field.IsEmpty && map.Covers(size, source.Width, source.Height))
            Resample(source, map, field, size, [], result);
        else
        {
            backgrounds.Draw(canvas, ref random);
            Resample(source, map, field, size, canvas, result);
        }

        if (options.InkProbability > 0 && random.Chance(options.InkProbability))
        {
            var strength = random.Next(options.InkStrength.Min, options.InkStrength.Max);
            ColorOps.Ink(result, size, size, strength, random.Next(options.InkThreshold.Min, options.InkThreshold.Max), work.Plane(5 * plane));
        }
        Recolor(result[..plane], result.Slice(plane, plane), result[(2 * plane)..], ref random);
        if (options.BlurProbability > 0 && random.Chance(options.BlurProbability))
        {
            var kernel = work.Kernel(options.BlurKernel);
            ColorOps.GaussianKernel(kernel, random.Next(options.BlurSigma.Min, options.BlurSigma.Max));
            for (var c = 0; c < 3; c++) ColorOps.Blur(result.Slice(c * plane, plane), size, size, kernel, work.Plane(plane + (2 * size) + (4 * kernel.Length)));
        }
        for (var c = 0; c < 3; c++) ColorOps.Normalize(result.Slice(c * plane, plane), options.Mean[c], options.Std[c]);
        if (options.RandomConvolutionProbability > 0 && random.Chance(options.RandomConvolutionProbability)) Filter(result, size, work, ref random);
        if (options.EraseProbability > 0 && random.Chance(options.EraseProbability)) Erase(result, size, ref random);
    }

    void Recolor(Span<float> red, Span<float> green, Span<float> blue, ref SampleRandom random)
    {
        if ((options.Brightness > 0 || options.Contrast > 0 || options.Saturation > 0 || options.Hue > 0) && random.Chance(options.JitterProbability))
        {
            Span<int> order = [0, 1, 2, 3];
            random.Shuffle(order);
            foreach (var step in order)
            {
                switch (step)
                {
                    case 0 when options.Brightness > 0: ColorOps.AdjustBrightness(red, green, blue, Factor(options.Brightness, ref random)); break;
                    case 1 when options.Contrast > 0: ColorOps.AdjustContrast(red, green, blue, Factor(options.Contrast, ref random)); break;
                    case 2 when options.Saturation > 0: ColorOps.AdjustSaturation(red, green, blue, Factor(options.Saturation, ref random)); break;
                    case 3 when options.Hue > 0: ColorOps.AdjustHue(red, green, blue, random.Next(-options.Hue, options.Hue)); break;
                }
            }
        }
        if (options.GrayProbability > 0 && random.Chance(options.GrayProbability)) ColorOps.AdjustSaturation(red, green, blue, 0);

        static float Factor(float range, ref SampleRandom random) => random.Next(Math.Max(0, 1 - range), 1 + range);
    }

    /// <summary>Kernels from a normal distribution that keeps the variance of independent pixels, after normalization as published.</summary>
    void Filter(Span<float> result, int size, Workspace work, ref SampleRandom random)
    {
        var side = options.RandomConvolutionKernels[random.Next(options.RandomConvolutionKernels.Count)];
        var mix = random.Next(options.RandomConvolutionMix.Min, options.RandomConvolutionMix.Max);
        var kernel = work.Kernel(9 * side * side);
        var deviation = 1 / (MathF.Sqrt(3) * side);
        foreach (ref var weight in kernel) weight = random.NextNormal() * deviation;
        ColorOps.Convolve(result, size, size, kernel, side, mix, work.Plane(3 * ((size * size) + ((size + side) * (size + side)))));
    }

    /// <summary>RandomErasing: ten tries for a rectangle that fits; filled with normal noise, after normalization as torchvision has it.</summary>
    void Erase(Span<float> result, int size, ref SampleRandom random)
    {
        for (var attempt = 0; attempt < 10; attempt++)
        {
            var area = size * size * random.Next(options.EraseScale.Min, options.EraseScale.Max);
            var ratio = MathF.Exp(random.Next(MathF.Log(options.EraseRatio.Min), MathF.Log(options.EraseRatio.Max)));
            var (h, w) = ((int)MathF.Round(MathF.Sqrt(area * ratio)), (int)MathF.Round(MathF.Sqrt(area / ratio)));
            if (h < 1 || w < 1 || h >= size || w >= size) continue;
            var (top, left) = (random.Next(size - h + 1), random.Next(size - w + 1));
            for (var c = 0; c < 3; c++)
            {
                for (var y = 0; y < h; y++)
                {
                    var row = result.Slice((c * size * size) + ((top + y) * size) + left, w);
                    for (var x = 0; x < w; x++) row[x] = random.NextNormal();
                }
            }
            return;
        }
    }

    /// <summary>Where in the source the result's pixels lie, drawn once a sample.</summary>
    Map Draw(int width, int height, ref SampleRandom random)
    {
        var (left, top, cropWidth, cropHeight) = Crop(width, height, ref random);
        var size = options.Size;
        var angle = options.Rotation > 0 ? random.Next(-options.Rotation, options.Rotation) * MathF.PI / 180 : 0;
        var scale = options.Scale.Min < options.Scale.Max ? random.Next(options.Scale.Min, options.Scale.Max) : options.Scale.Min;
        var (moveX, moveY) = options.Translation > 0
            ? (random.Next(-options.Translation, options.Translation) * size, random.Next(-options.Translation, options.Translation) * size)
            : (0f, 0f);
        var flip = options.FlipProbability > 0 && random.Chance(options.FlipProbability) ? -1 : 1;

        // Result pixel -> moved back to the center, turned and scaled back -> flipped -> into the crop.
        var (cos, sin) = (MathF.Cos(angle) / scale, MathF.Sin(angle) / scale);
        var (stepX, stepY) = (cropWidth / size, cropHeight / size);
        var half = size / 2f;
        var (a, b) = (flip * cos * stepX, flip * sin * stepX);
        var (d, e) = (-sin * stepY, cos * stepY);
        var (originX, originY) = (0.5f - half - moveX, 0.5f - half - moveY);
        return new(a, b, left + (cropWidth / 2) - 0.5f + (a * originX) + (b * originY), d, e, top + (cropHeight / 2) - 0.5f + (d * originX) + (e * originY));
    }

    /// <summary>RandomResizedCrop's get_params: ten tries, then the largest central crop within the ratios.</summary>
    (float Left, float Top, float Width, float Height) Crop(int width, int height, ref SampleRandom random)
    {
        if (options.CropScale is { Min: 1, Max: 1 }) return (0, 0, width, height);
        var (low, high) = (MathF.Log(options.CropRatio.Min), MathF.Log(options.CropRatio.Max));
        for (var attempt = 0; attempt < 10; attempt++)
        {
            var area = (float)width * height * random.Next(options.CropScale.Min, options.CropScale.Max);
            var ratio = MathF.Exp(random.Next(low, high));
            var (w, h) = (MathF.Round(MathF.Sqrt(area * ratio)), MathF.Round(MathF.Sqrt(area / ratio)));
            if (w > 0 && w <= width && h > 0 && h <= height) return (random.Next(width - (int)w + 1), random.Next(height - (int)h + 1), w, h);
        }
        var whole = (float)width / height;
        var (cw, ch) = whole < options.CropRatio.Min ? (width, MathF.Round(width / options.CropRatio.Min))
            : whole > options.CropRatio.Max ? (MathF.Round(height * options.CropRatio.Max), height) : ((float)width, (float)height);
        return (MathF.Floor((width - cw) / 2), MathF.Floor((height - ch) / 2), cw, ch);
    }

    /// <summary>Source column = A x + B y + C, source row = D x + E y + F, in pixels whose centers are whole numbers.</summary>
    internal readonly record struct Map(float A, float B, float C, float D, float E, float F)
    {
        /// <summary>How many source pixels one step in the result takes, the smaller of the two directions.</summary>
        internal float Shrink => MathF.Min(MathF.Sqrt((A * A) + (D * D)), MathF.Sqrt((B * B) + (E * E)));

        /// <summary>The same in an image of which each pixel is <paramref name="factor"/> squared of the source.</summary>
        internal Map Reduced(int factor) => new(A / factor, B / factor, ((C + 0.5f) / factor) - 0.5f, D / factor, E / factor, ((F + 0.5f) / factor) - 0.5f);

        /// <summary>Whether every result pixel falls into the source.</summary>
        internal bool Covers(int size, int width, int height)
        {
            var last = size - 1;
            for (var corner = 0; corner < 4; corner++)
            {
                var (x, y) = ((corner & 1) * last, (corner >> 1) * last);
                var (u, v) = ((A * x) + (B * y) + C, (D * x) + (E * y) + F);
                if (u < -0.501f || v < -0.501f || u > width - 0.499f || v > height - 0.499f) return false;
            }
            return true;
        }
    }

    /// <summary>The source with a border of one pixel, premultiplied, in [0, 1].</summary>
    internal readonly ref struct Source(ReadOnlySpan<Vector128<float>> pixels, int width, int height, bool opaque)
    {
        internal readonly ReadOnlySpan<Vector128<float>> Pixels = pixels;
        internal readonly int Width = width, Height = height;
        internal readonly bool Opaque = opaque;
    }

    static void Resample(Source source, Map map, ReadOnlySpan<Vector2> field, int size, ReadOnlySpan<Vector128<float>> behind, Span<float> result)
    {
        var plane = size * size;
        var stride = source.Width + 2;
        ref var pixels = ref MemoryMarshal.GetReference(source.Pixels);
        ref var red = ref MemoryMarshal.GetReference(result);
        var (maxU, maxV) = ((float)source.Width, (float)source.Height);
        for (var y = 0; y < size; y++)
        {
            var (u, v) = ((map.B * y) + map.C, (map.E * y) + map.F);
            for (var x = 0; x < size; x++)
            {
                var (px, py) = (u + (map.A * x), v + (map.D * x));
                var i = (y * size) + x;
                if (!field.IsEmpty)
                {
                    var move = field[i];
                    (px, py) = (px + (map.A * move.X) + (map.B * move.Y), py + (map.D * move.X) + (map.E * move.Y));
                }
                var color = Vector128<float>.Zero;
                if (px > -1 && py > -1 && px < maxU && py < maxV)                     // the border makes the four taps safe
                {
                    color = Bilinear(ref pixels, stride, px, py);
                }
                if (!behind.IsEmpty) color = Vector128.FusedMultiplyAdd(Vector128.Create(1 - color.GetElement(3)), behind[i], color);
                Unsafe.Add(ref red, i) = color.GetElement(0);
                Unsafe.Add(ref red, i + plane) = color.GetElement(1);
                Unsafe.Add(ref red, i + (2 * plane)) = color.GetElement(2);
            }
        }
    }

    /// <summary>The color between four pixels of a source with its border, whose rows are <paramref name="stride"/> long.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector128<float> Bilinear(ref Vector128<float> pixels, int stride, float x, float y)
    {
        var (fx, fy) = (MathF.Floor(x), MathF.Floor(y));
        ref var tap = ref Unsafe.Add(ref pixels, (((int)fy + 1) * stride) + (int)fx + 1);
        var (wx, wy) = (Vector128.Create(x - fx), Vector128.Create(y - fy));
        var upper = Lerp(tap, Unsafe.Add(ref tap, 1), wx);
        var lower = Lerp(Unsafe.Add(ref tap, stride), Unsafe.Add(ref tap, stride + 1), wx);
        return Lerp(upper, lower, wy);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static Vector128<float> Lerp(Vector128<float> a, Vector128<float> b, Vector128<float> t) => Vector128.FusedMultiplyAdd(b - a, t, a);

    /// <summary>Scratch memory of one thread.</summary>
    internal sealed class Workspace
    {
        Vector128<float>[] full = [], half = [], canvas = [], spare = [];
        float[] plane = [], kernel = [];
        Vector2[] field = [];

        internal Span<Vector2> Field(int length) => Grow(ref field, length);

        internal Span<Vector128<float>> Canvas(int length) => Grow(ref canvas, length);

        /// <summary>A second canvas.</summary>
        internal Span<Vector128<float>> Spare(int length) => Grow(ref spare, length);

        internal Span<float> Plane(int length) => Grow(ref plane, length);

        internal Span<float> Kernel(int length) => Grow(ref kernel, length);

        static Span<T> Grow<T>(ref T[] array, int length)
        {
            if (array.Length < length) array = GC.AllocateUninitializedArray<T>(length);
            return array.AsSpan(0, length);
        }

        internal Source Load(ReadOnlySpan<byte> pixels, int width, int height, int channels, int factor)
        {
            if (factor > 2) return LoadReduced(pixels, width, height, channels, factor);
            var stride = width + 2;
            var target = Grow(ref full, stride * (height + 2));
            var opaque = channels == 3 ? LoadRgb(pixels, width, height, target) : LoadRgba(pixels, width, height, target);
            Border(target, width, height, opaque);
            if (factor == 1) return new(target, width, height, opaque);

            var (w, h) = (width / 2, height / 2);
            var small = Grow(ref half, (w + 2) * (h + 2));
            var quarter = Vector128.Create(0.25f);
            for (var y = 0; y < h; y++)
            {
                var upper = target.Slice((((2 * y) + 1) * stride) + 1, 2 * w);
                var lower = target.Slice((((2 * y) + 2) * stride) + 1, 2 * w);
                var row = small.Slice(((y + 1) * (w + 2)) + 1, w);
                for (var x = 0; x < w; x++) row[x] = (upper[2 * x] + upper[(2 * x) + 1] + lower[2 * x] + lower[(2 * x) + 1]) * quarter;
            }
            Border(small, w, h, opaque);
            return new(small, w, h, opaque);
        }

        /// <summary>Averages blocks straight from the bytes: a photograph of many megapixels never becomes floats as a whole.</summary>
        Source LoadReduced(ReadOnlySpan<byte> pixels, int width, int height, int channels, int factor)
        {
            var (w, h) = ((width + factor - 1) / factor, (height + factor - 1) / factor);                      // the last ones may be smaller
            var small = Grow(ref half, (w + 2) * (h + 2));
            var opaque = true;
            var (inner, last) = (1f / factor, 1f / (width - ((w - 1) * factor)));
            for (var y = 0; y < h; y++)
            {
                var row = small.Slice(((y + 1) * (w + 2)) + 1, w);
                row.Clear();
                var rows = Math.Min(factor, height - (y * factor));
                for (var j = 0; j < rows; j++)
                {
                    var from = pixels.Slice(((y * factor) + j) * width * channels, width * channels);
                    if (channels == 3) AddRgb(from, factor, row);
                    else opaque &= AddRgba(from, factor, row);
                }
                var scale = Vector128.Create(inner / (255 * rows));
                foreach (ref var pixel in row[..^1]) pixel *= scale;
                row[^1] *= Vector128.Create(last / (255 * rows));
            }
            Border(small, w, h, opaque);
            return new(small, w, h, opaque);
        }

        static void AddRgb(ReadOnlySpan<byte> from, int factor, Span<Vector128<float>> row)
        {
            for (var x = 0; x < row.Length; x++)
            {
                var (red, green, blue) = (0, 0, 0);
                var block = from[(x * factor * 3)..Math.Min((x + 1) * factor * 3, from.Length)];
                for (var i = 0; i + 2 < block.Length; i += 3)
                {
                    red += block[i];
                    green += block[i + 1];
                    blue += block[i + 2];
                }
                row[x] += Vector128.Create(red, green, blue, 85f * block.Length);                           // 255 a pixel
            }
        }

        static bool AddRgba(ReadOnlySpan<byte> from, int factor, Span<Vector128<float>> row)
        {
            var (all, inverse) = (255, Vector128.Create(1f / 255));
            for (var x = 0; x < row.Length; x++)
            {
                var block = from[(x * factor * 4)..Math.Min((x + 1) * factor * 4, from.Length)];
                var sum = Vector128<float>.Zero;
                for (var i = 0; i + 3 < block.Length; i += 4)
                {
                    all &= block[i + 3];
                    sum += Vector128.Create(block[i], block[i + 1], block[i + 2], 255f) * Vector128.Create((float)block[i + 3]);
                }
                row[x] += sum * inverse;
            }
            return all == 255;
        }

        static bool LoadRgba(ReadOnlySpan<byte> pixels, int width, int height, Span<Vector128<float>> target)
        {
            var words = MemoryMarshal.Cast<byte, uint>(pixels);
            var scale = Vector128.Create(1f / 255);
            var all = uint.MaxValue;
            for (var y = 0; y < height; y++)
            {
                var row = target.Slice(((y + 1) * (width + 2)) + 1, width);
                var from = words.Slice(y * width, width);
                for (var x = 0; x < row.Length; x++)
                {
                    var word = from[x];
                    all &= word;
                    var wide = Vector128.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(word).AsByte()));
                    var color = Vector128.ConvertToSingle(wide.AsInt32()) * scale;
                    row[x] = color * Vector128.Create(color.GetElement(3)).WithElement(3, 1f);
                }
            }
            return all >> 24 == 255;
        }

        static bool LoadRgb(ReadOnlySpan<byte> pixels, int width, int height, Span<Vector128<float>> target)
        {
            var scale = Vector128.Create(1f / 255);
            for (var y = 0; y < height; y++)
            {
                var row = target.Slice(((y + 1) * (width + 2)) + 1, width);
                var from = pixels.Slice(y * width * 3, width * 3);
                for (var x = 0; x < row.Length; x++)
                    row[x] = Vector128.Create(from[3 * x], from[(3 * x) + 1], from[(3 * x) + 2], 255f) * scale;
            }
            return true;
        }

        /// <summary>An opaque image goes on at its edges, a drawing fades out.</summary>
        static void Border(Span<Vector128<float>> target, int width, int height, bool opaque)
        {
            var stride = width + 2;
            for (var y = 1; y <= height; y++)
            {
                var row = target.Slice(y * stride, stride);
                (row[0], row[^1]) = opaque ? (row[1], row[^2]) : (default, default);
            }
            if (opaque)
            {
                target.Slice(stride, stride).CopyTo(target);
                target.Slice(height * stride, stride).CopyTo(target[((height + 1) * stride)..]);
            }
            else
            {
                target[..stride].Clear();
                target[((height + 1) * stride)..].Clear();
            }
        }
    }
}
