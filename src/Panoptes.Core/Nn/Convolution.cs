namespace Panoptes.Nn;

/// <summary>A two-dimensional convolution with square kernels. Keys: weight [out, in / groups, kernel, kernel], bias [out].</summary>
public sealed class Conv2d(int inChannels, int outChannels, int kernel, int stride = 1, int padding = 0, bool bias = true, Initializer? initializer = null, int groups = 1) : Module
{
    public Parameter Weight { get; } =
        new([outChannels, inChannels / groups, kernel, kernel], initializer ?? Init.Uniform(1 / Math.Sqrt(inChannels / groups * kernel * kernel)));

    public Parameter? Bias { get; } = bias ? new([outChannels], Init.Zeros) : null;

    /// <param name="x">[b, in, height, width]</param>
    public Tensor Forward(Tensor x) => Apply(x, Weight.Value, Bias?.Value, stride, padding, groups);

    /// <summary>The convolution, around what libtorch 2.10's oneDNN cannot do.</summary>
    /// <param name="x">[b, in, height, width]</param>
    /// <param name="weight">[out, in / groups, kernel, kernel]</param>
    /// <param name="bias">[out] or null</param>
    public static Tensor Apply(Tensor x, Tensor weight, Tensor? bias, int stride = 1, int padding = 0, int groups = 1)
    {
        var onCpu = x.device_type == DeviceType.CPU;
        if (weight.shape[2] == 1 && weight.shape[3] == 1 && stride == 1 && padding == 0 && groups == 1 && onCpu && x.shape[2] * x.shape[3] <= FewPlaces) return OfPlaces(x, weight, bias);
        var channels = weight.shape[0];
        var missing = groups == 1 && onCpu ? (Block - channels % Block) % Block : 0;
        if (missing == 0) return Convolve(weight, bias);
        using var scope = NewDisposeScope();
        return Convolve(nn.functional.pad(weight, [0, 0, 0, 0, 0, 0, 0, missing]), bias is null ? null : nn.functional.pad(bias, [0, missing]))
            .narrow(1, 0, channels).contiguous().MoveToOuterDisposeScope();                     // a view would keep the whole

        Tensor Convolve(Tensor weight, Tensor? bias) => nn.functional.conv2d(x, weight, bias, strides: [stride, stride], padding: [padding, padding], groups: groups);
    }

    /// <summary>
    /// On a processor that does not tell the size of its caches libtorch 2.10's oneDNN divides by zero, and the process ends, where it plans a convolution of kernel 1 over
    /// the few places of a deep map (256 to 1024 channels of 2x2, as a ResNet has). There the product is made directly, which is the same.
    /// </summary>
    const int FewPlaces = 16;

    static Tensor OfPlaces(Tensor x, Tensor weight, Tensor? bias)
    {
        using var scope = NewDisposeScope();
        return nn.functional.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// oneDNN computes output channels in sixteens. Where there are fewer (the 3 of an image, the 1 of a judgement), it reads memory that nobody
    /// wrote: with 3 of 32 the gradient of the input was not a number, and in bfloat16 the output was wrong as well. So whole sixteens are computed.
    /// </summary>
    const int Block = 16;
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
