using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>Two linear layers with one of the activations between that diffusers has. Keys: net.0.proj, net.2.</summary>
/// <param name="width">Of what comes and goes.</param>
/// <param name="activation">
/// <c>gelu</c>, <c>gelu-approximate</c> (by tanh), <c>geglu-approximate</c> (x σ(1.702 x), not gated whatever its name says) or <c>linear-silu</c>; <c>geglu</c> and <c>swiglu</c> multiply
/// one half of the first layer's outputs by the other's GELU or SiLU (Shazeer 2020, arXiv:2002.05202).
/// </param>
/// <param name="hidden">The width between; null: four times as much.</param>
/// <param name="bias">Whether the layers have biases.</param>
public sealed class FeedForward(int width, string activation = "geglu", int? hidden = null, bool bias = true) : Module
{
    readonly Activation function = Kind(activation).Function;
    readonly bool gated = Kind(activation).Gated;

    [Key("net.0.proj")]
    public Linear Proj { get; } = new(width, (Kind(activation).Gated ? 2 : 1) * (hidden ?? 4 * width), bias);

    [Key("net.2")]
    public Linear Out { get; } = new(hidden ?? 4 * width, width, bias);

    /// <param name="x">[..., width]</param>
    /// <returns>[..., width]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var rows = x.numel() / width;
        var parts = is_grad_enabled() || x.device_type != DeviceType.CPU ? 1 : ((rows * Proj.OutFeatures) + MostBetween - 1) / MostBetween;
        if (parts <= 1 || rows < 2) return Between(x).MoveToOuterDisposeScope();
        var result = empty([rows, width], x.dtype, device: x.device);
        foreach (var (part, target) in x.reshape(rows, width).chunk(parts, 0).Zip(result.chunk(parts, 0)))
        {
            using var one = NewDisposeScope();
            target.copy_(Between(part));
        }
        return result.view(x.shape).MoveToOuterDisposeScope();
    }

    /// <summary>How many numbers between the layers lie in the processor's memory at once where gradients need none: those of a whole picture leave the caches, and the kernel clears pages for them in each call.</summary>
    const long MostBetween = 1 << 22;

    Tensor Between(Tensor x)
    {
        if (!gated) return Out.Forward(Proj.Forward(x, function));
        using var scope = NewDisposeScope();
        Tensor wide;
        using (var both = Proj.Forward(x))
        {
            var halves = both.chunk(2, -1);
            wide = function.Apply(halves[1]);
            wide = is_grad_enabled() ? wide * halves[0] : wide.mul_(halves[0]);
        }
        return Out.Forward(wide).MoveToOuterDisposeScope();
    }

    static (bool Gated, Activation Function) Kind(string activation) => activation switch
    {
        "gelu" => (false, Activation.Gelu),
        "gelu-approximate" => (false, Activation.GeluTanh),
        "geglu-approximate" => (false, Activation.QuickGelu),
        "linear-silu" => (false, Activation.Silu),
        "geglu" => (true, Activation.Gelu),
        "swiglu" => (true, Activation.Silu),
        _ => throw new PanoptesException($"activation_fn is \"{activation}\"; expected gelu, gelu-approximate, geglu, geglu-approximate, swiglu or linear-silu."),
    };
}
