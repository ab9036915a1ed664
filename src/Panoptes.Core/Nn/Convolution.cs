using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>A two-dimensional convolution with square kernels. Keys: weight [out, in / groups, kernel, kernel], bias [out].</summary>
public sealed class Conv2d(int inChannels, int outChannels, int kernel, int stride = 1, int padding = 0, bool bias = true, Initializer? initializer = null, int groups = 1) : Module
{
    public Parameter Weight { get; } =
        new([outChannels, inChannels / groups, kernel, kernel], initializer ?? Init.Uniform(1 / Math.Sqrt(inChannels / groups * kernel * kernel)));

    public Parameter? Bias { get; } = bias ? new([outChannels], Init.Zeros) : null;

    /// <param name="x">[b, in, height, width]</param>
    public Tensor Forward(Tensor x) => Weight.Packed is { } packed && !is_grad_enabled()
        ? TorchOps.PackedConvolution(x, packed, Bias?.Value, stride, padding, null)
        : Apply(x, Weight.Value, Bias?.Value, stride, padding, groups);

    /// <summary>The convolution and something beside it, summed.</summary>
    /// <param name="x">[b, in, height, width]</param>
    /// <param name="added">[b, out, height, width]</param>
    public Tensor Forward(Tensor x, Tensor added)
    {
        if (Weight.Packed is { } packed && !is_grad_enabled()) return TorchOps.PackedConvolution(x, packed, Bias?.Value, stride, padding, added);
        using var scope = NewDisposeScope();
        var y = Forward(x);
        return (is_grad_enabled() ? y + added : y.add_(added)).MoveToOuterDisposeScope();
    }

    protected override long OnPack() => groups == 1 ? Weight.PackBy(weight => TorchOps.PackConvolution(weight, stride, padding)) : 0;

    /// <summary>The convolution, around what libtorch 2.10's oneDNN cannot do.</summary>
    /// <param name="x">[b, in, height, width]</param>
    /// <param name="weight">[out, in / groups, kernel, kernel]</param>
    /// <param name="bias">[out] or null</param>
    /// <param name="dilation">How far apart a kernel's places are.</param>
    public static Tensor Apply(Tensor x, Tensor weight, Tensor? bias, int stride = 1, int padding = 0, int groups = 1, int dilation = 1)
    {
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
