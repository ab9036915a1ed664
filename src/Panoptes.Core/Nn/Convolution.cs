namespace Panoptes.Nn;

/// <summary>A two-dimensional convolution with square kernels. Keys: weight [out, in / groups, kernel, kernel], bias [out].</summary>
public sealed class Conv2d(int inChannels, int outChannels, int kernel, int stride = 1, int padding = 0, bool bias = true, Initializer? initializer = null, int groups = 1) : Module
{
    public Parameter Weight { get; } =
        new([outChannels, inChannels / groups, kernel, kernel], initializer ?? Init.Uniform(1 / Math.Sqrt(inChannels / groups * kernel * kernel)));

    public Parameter? Bias { get; } = bias ? new([outChannels], Init.Zeros) : null;

    /// <param name="x">[b, in, height, width]</param>
    public Tensor Forward(Tensor x)
    {
        var onCpu = x.device_type == DeviceType.CPU;
        if (kernel == 1 && stride == 1 && padding == 0 && groups == 1 && onCpu && x.shape[2] * x.shape[3] <= FewPlaces) return OfPlaces(x);
        var missing = groups == 1 && onCpu ? (Block - outChannels % Block) % Block : 0;
        if (missing == 0) return Convolve(x, Weight.Value, Bias?.Value);
        using var scope = NewDisposeScope();
        var bias = Bias is null ? null : nn.functional.pad(Bias.Value, [0, missing]);
        return Convolve(x, nn.functional.pad(Weight.Value, [0, 0, 0, 0, 0, 0, 0, missing]), bias).narrow(1, 0, outChannels).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// On a processor that does not tell the size of its caches libtorch 2.10's oneDNN divides by zero, and the process ends, where it plans a convolution of kernel 1 over
    /// the few places of a deep map (256 to 1024 channels of 2x2, as a ResNet has). There the product is made directly, which is the same.
    /// </summary>
    const int FewPlaces = 16;

    Tensor OfPlaces(Tensor x)
    {
        using var scope = NewDisposeScope();
        return nn.functional.linear(x.permute(0, 2, 3, 1), Weight.Value.flatten(1), Bias?.Value).permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// libtorch 2.10's oneDNN computes output channels in sixteens. Where there are fewer (the 3 of an image, the 1 of a judgement), it reads memory that nobody
    /// wrote: with 3 of 32 the gradient of the input was not a number, and in bfloat16 the output was wrong as well. So whole sixteens are computed.
    /// </summary>
    const int Block = 16;

    Tensor Convolve(Tensor x, Tensor weight, Tensor? bias) => nn.functional.conv2d(x, weight, bias, strides: [stride, stride], padding: [padding, padding], groups: groups);
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
