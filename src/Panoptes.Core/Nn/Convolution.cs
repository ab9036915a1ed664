using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>A two-dimensional convolution with square kernels. Keys: weight [out, in / groups, kernel, kernel], bias [out].</summary>
public sealed class Conv2d(int inChannels, int outChannels, int kernel, int stride = 1, int padding = 0, bool bias = true, Initializer? initializer = null, int groups = 1) : Module
{
    public Parameter Weight { get; } =
        new([outChannels, inChannels / groups, kernel, kernel], initializer ?? Init.Uniform(1 / Math.Sqrt(inChannels / groups * kernel * kernel)));

    public Parameter? Bias { get; } = bias ? new([outChannels], Init.Zeros) : null;

    readonly Lock gate = new();

    // Where a weight cannot be packed for every size of pictures: that channels lie last in it, the size that came last and how often it came in a row.
    bool lastly;
    (long, long, long) size;
    int times;

    /// <param name="x">[b, in, height, width]</param>
    public Tensor Forward(Tensor x) => Compute(x, null);

    /// <summary>The convolution and something beside it, summed.</summary>
    /// <param name="x">[b, in, height, width]</param>
    /// <param name="added">[b, out, height, width]</param>
    public Tensor Forward(Tensor x, Tensor added) => Compute(x, added);

    Tensor Compute(Tensor x, Tensor? added)
    {
        if (!lastly) return Convolve(x, added);
        lock (gate)                                                                   // another thread may come with pictures of another size
        {
            if (!is_grad_enabled()) PackFor(x);
            return Convolve(x, added);
        }
    }

    Tensor Convolve(Tensor x, Tensor? added)
    {
        using var scope = NewDisposeScope();
        var packed = is_grad_enabled() ? null : Weight.Packed;
        var y = packed is null ? Apply(x, Weight.Value, Bias?.Value, stride, padding, groups) : TorchOps.PackedConvolution(x, packed, Bias?.Value, stride, padding, added);
        if (packed is null && added is not null) y = is_grad_enabled() ? y + added : y.add_(added);
        if (lastly && x.is_contiguous()) y = y.contiguous();                          // libtorch lays it out as the weight is
        return y.MoveToOuterDisposeScope();
    }

    protected override long OnPack()
    {
        if (groups > 1) return 0;
        var freed = Weight.PackBy(weight => TorchOps.PackConvolution(weight, stride, padding));
        if (freed > 0 || Weight.Packed is not null || kernel == 1 || Weight.Value.device_type != DeviceType.CPU || OneDnn.Missing(outChannels) + OneDnn.Missing(inChannels) > 0) return freed;
        KeepLastly();
        return Weight.ElementCount * Weight.Value.ElementSize;
    }

    /// <summary>Channels last in the weight, too: each call brings it over in one pass then instead of two.</summary>
    void KeepLastly()
    {
        using var noGrad = no_grad();
        Weight.Assign(Weight.Value.ChannelsLast());
        (lastly, times) = (true, 0);
    }

    /// <summary>
    /// Packs the weight for pictures of a size that comes for the third time in a row, as it does from step to step, and takes that back when another comes: pictures that are all of other
    /// sizes never pay for packing.
    /// </summary>
    void PackFor(Tensor x)
    {
        if (x.dtype != ScalarType.Float32 || x.is_contiguous()) return;
        var shape = x.shape;
        if (size != (shape[0], shape[2], shape[3]))
        {
            size = (shape[0], shape[2], shape[3]);
            KeepLastly();
        }
        if (++times == 3 && Weight.PackBy(weight => TorchOps.PackConvolution(weight, stride, padding, shape)) > 0) NativeMemoryPolicy.GiveBack();    // the hole that the plain weight leaves is too small for the next one
    }

    /// <summary>The convolution, around what libtorch 2.10's oneDNN cannot do.</summary>
    /// <param name="x">[b, in, height, width]</param>
    /// <param name="weight">[out, in / groups, kernel, kernel]</param>
    /// <param name="bias">[out] or null</param>
    /// <param name="dilation">How far apart a kernel's places are.</param>
    public static Tensor Apply(Tensor x, Tensor weight, Tensor? bias, int stride = 1, int padding = 0, int groups = 1, int dilation = 1)
    {
        if (TorchOps.ConvolutionGainsByFloat32(x, x.shape[0] * x.shape[2] * x.shape[3] / (stride * stride)))
        {
            using var wide = NewDisposeScope();
            return ByFloat32(x, weight.to(ScalarType.Float32), bias?.to(ScalarType.Float32), stride, padding, groups, dilation).MoveToOuterDisposeScope();
        }
        var onCpu = x.device_type == DeviceType.CPU;
        if (weight.shape[2] == 1 && weight.shape[3] == 1 && padding == 0 && groups == 1 && onCpu)
        {
            var (inputs, outputs) = (weight.shape[1], weight.shape[0]);
            var isFloat32 = (Autocast.Dtype ?? x.dtype) == ScalarType.Float32;
            if (!OneDnn.CanPlan(inputs, outputs) || (isFloat32 && !OneDnn.IsRight(inputs, outputs))) return AsProduct(x, weight, bias, stride);
        }
        if (groups > 1 || !onCpu) return Convolve(x, weight, bias);
        var channels = weight.shape[0];
        var (missing, missingInputs) = (OneDnn.Missing(channels), weight.shape[1] > OneDnn.Block ? OneDnn.Missing(weight.shape[1]) : 0);
        if (missing + missingInputs == 0) return Convolve(x, weight, bias);
        using var scope = NewDisposeScope();
        if (missingInputs > 0) x = nn.functional.pad(x, [0, 0, 0, 0, 0, missingInputs]);
        var whole = Convolve(x, nn.functional.pad(weight, [0, 0, 0, 0, 0, missingInputs, 0, missing]), bias is null ? null : nn.functional.pad(bias, [0, missing]));
        return (missing == 0 ? whole : whole.narrow(1, 0, channels).contiguous()).MoveToOuterDisposeScope();   // a view would keep the whole

        Tensor Convolve(Tensor x, Tensor weight, Tensor? bias) => nn.functional.conv2d(x, weight, bias, strides: [stride, stride], padding: [padding, padding], dilation: [dilation, dilation], groups: groups);
    }

    /// <summary>The convolution of bfloat16 pictures in float32, as many rows at a time as keep the copies of their numbers small: of a large map they would be most of a process's memory. Gradients need all of them.</summary>
    /// <param name="most">Bytes of copies, about.</param>
    internal static Tensor ByFloat32(Tensor x, Tensor weight, Tensor? bias, int stride, int padding, int groups, int dilation, long most = 32 << 20)
    {
        var reach = dilation * (weight.shape[2] - 1);
        var (height, rows) = (x.shape[2], (x.shape[2] + 2 * padding - reach - 1) / stride + 1);
        var columns = (x.shape[3] + 2 * padding - dilation * (weight.shape[3] - 1) - 1) / stride + 1;
        var chunk = Math.Max(1, most / (4 * x.shape[0] * (x.shape[1] * x.shape[3] * stride + weight.shape[0] * columns)));
        using var scope = NewDisposeScope();
        if (is_grad_enabled() || chunk >= rows) return Apply(x.to(ScalarType.Float32), weight, bias, stride, padding, groups, dilation).to(ScalarType.BFloat16).MoveToOuterDisposeScope();
        // Where channels lie last, a row of the map is one stretch of memory.
        var isLast = !x.is_contiguous();
        var y = isLast ? empty([x.shape[0], rows, columns, weight.shape[0]], ScalarType.BFloat16, x.device).permute(0, 3, 1, 2) : empty([x.shape[0], weight.shape[0], rows, columns], ScalarType.BFloat16, x.device);
        for (var first = 0L; first < rows; first += chunk)
        {
            using var inner = NewDisposeScope();
            var count = Math.Min(chunk, rows - first);
            // Rows of the picture that are seen, and how many of those beyond its edges.
            var (top, bottom) = (first * stride - padding, (first + count - 1) * stride - padding + reach + 1);
            var (from, to) = (Math.Max(0, top), Math.Min(height, bottom));
            var part = isLast ? x.permute(0, 2, 3, 1).narrow(1, from, to - from).to(ScalarType.Float32).permute(0, 3, 1, 2) : x.narrow(2, from, to - from).to(ScalarType.Float32);
            if (padding > 0) part = nn.functional.pad(part, [padding, padding, from - top, bottom - to]);
            y.narrow(2, first, count).copy_(Apply(isLast ? part.ChannelsLast() : part, weight, bias, stride, 0, groups, dilation));
        }
        return y.MoveToOuterDisposeScope();
    }

    /// <summary>A convolution of kernel 1 as a matrix product.</summary>
    static Tensor AsProduct(Tensor x, Tensor weight, Tensor? bias, int stride)
    {
        using var scope = NewDisposeScope();
        if (stride > 1) x = x[TensorIndex.Colon, TensorIndex.Colon, TensorIndex.Slice(step: stride), TensorIndex.Slice(step: stride)];
        return nn.functional.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// A transposed convolution whose kernel is as wide as its stride: every place becomes a square of its own, so that it is a matrix product. The gradient of libtorch's own is a
/// convolution of its outputs, and is not a number where these are no whole sixteens (see <see cref="OneDnn"/>). Keys: weight [in, out, kernel, kernel], bias [out].
/// </summary>
public sealed class ConvTranspose2d(int inChannels, int outChannels, int kernel, Initializer? initializer = null) : Module
{
    public Parameter Weight { get; } = new([inChannels, outChannels, kernel, kernel], initializer ?? Init.Uniform(1 / Math.Sqrt(outChannels * kernel * kernel)));

    public Parameter Bias { get; } = new([outChannels], Init.Zeros);

    /// <param name="x">[b, in, height, width]</param>
    /// <returns>[b, out, kernel · height, kernel · width]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (batch, height, width) = (x.shape[0], x.shape[2], x.shape[3]);
        // [out, kernel, kernel] of every place, then the places' rows and columns around the kernels'.
        var squares = TorchOps.Linear(x.permute(0, 2, 3, 1), Weight.Value.flatten(1).t(), null).view(batch, height, width, outChannels, kernel, kernel);
        return squares.permute(0, 3, 1, 4, 2, 5).reshape(batch, outChannels, kernel * height, kernel * width).add_(Bias.Value.view(-1, 1, 1)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Normalizes each channel by the batch's mean and variance in training, by the running ones otherwise.
/// Keys: weight, bias, running_mean, running_var [channels]; num_batches_tracked is not kept.
/// </summary>
public sealed class BatchNorm(int channels, double eps = 1e-5, double momentum = 0.1, Initializer? weight = null) : Module
{
    public Parameter Weight { get; } = new([channels], weight ?? Init.Ones);

    public Parameter Bias { get; } = new([channels], Init.Zeros);

    public Parameter RunningMean { get; } = new([channels], Init.Zeros) { Trainable = false };

    public Parameter RunningVar { get; } = new([channels], Init.Ones) { Trainable = false };

    /// <param name="x">[b, channels] or [b, channels, height, width]</param>
    public Tensor Forward(Tensor x) => nn.functional.batch_norm(x, RunningMean.Value, RunningVar.Value, Weight.Value, Bias.Value, Training,
        ActivationCheckpoint.IsRecomputing ? 0 : momentum, eps);                     // a batch counts once, also where a block is computed twice
}

/// <summary>How maps lie in memory.</summary>
public static class MapLayout
{
    /// <summary>The same [b, channels, height, width] with channels next to each other, as convolutions compute fastest; what convolutions and norms make of it lies so, too.</summary>
    public static Tensor ChannelsLast(this Tensor map)
    {
        using var scope = NewDisposeScope();
        return map.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }
}
