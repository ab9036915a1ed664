using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>
/// From a vector to an image: a learned map of 4 x 4 places that is doubled level by level; every convolution's outputs are normalized, and scaled and shifted by the vector; what every level sees of the image is
/// summed up (Karras et al. 2020, arXiv:1912.04958, section 4.1). Keys: start, levels.N.
/// </summary>
/// <param name="width">Of the vector.</param>
/// <param name="channels">Of the levels, the coarsest first: the image's side is 4 times 2 to one fewer than there are.</param>
public sealed class SynthesisNetwork(int width, IReadOnlyList<int> channels) : Module
{
    public Parameter Start { get; } = new([1, channels[0], 4, 4], Init.Normal(1));

    public ModuleList<SynthesisLevel> Levels { get; } = new(channels.Count, i => new(channels[Math.Max(0, i - 1)], channels[i], width));

    /// <param name="vector">[b, width]</param>
    /// <returns>[b, 3, side, side], without bounds</returns>
    public Tensor Forward(Tensor vector)
    {
        using var scope = NewDisposeScope();
        var x = Start.Value.expand(vector.shape[0], -1, -1, -1).ChannelsLast();
        Tensor? image = null;
        for (var i = 0; i < Levels.Count; i++)
        {
            if (i > 0) (x, image) = (Doubled(x), Doubled(image!));
            x = Levels[i].Forward(x, vector);
            var seen = Levels[i].ToRgb.Forward(x);
            image = image is null ? seen : image + seen;
        }
        return image!.MoveToOuterDisposeScope();

        static Tensor Doubled(Tensor map) => nn.functional.interpolate(map, scale_factor: [2, 2], mode: InterpolationMode.Nearest);
    }
}

/// <summary>Two convolutions that a vector scales and shifts. Keys: conv1, norm1, style1, conv2, norm2, style2, to_rgb.</summary>
public sealed class SynthesisLevel(int from, int to, int width) : Module
{
    public Conv2d Conv1 { get; } = new(from, to, 3, padding: 1);

    public GroupNorm Norm1 { get; } = new(Groups(to), to);

    public Linear Style1 { get; } = new(width, 2 * to);

    public Conv2d Conv2 { get; } = new(to, to, 3, padding: 1);

    public GroupNorm Norm2 { get; } = new(Groups(to), to);

    public Linear Style2 { get; } = new(width, 2 * to);

    public Conv2d ToRgb { get; } = new(to, 3, 1);

    /// <summary>Eight channels a group, where they can be divided so.</summary>
    internal static int Groups(int channels) => channels % 8 == 0 ? channels / 8 : 1;

    internal Tensor Forward(Tensor x, Tensor vector)
    {
        using var scope = NewDisposeScope();
        x = Styled(Norm1.Forward(Conv1.Forward(x)), Style1.Forward(vector));
        return Styled(Norm2.Forward(Conv2.Forward(x)), Style2.Forward(vector)).MoveToOuterDisposeScope();

        static Tensor Styled(Tensor map, Tensor style)
        {
            var (scale, shift) = (style.unsqueeze(-1).unsqueeze(-1).chunk(2, 1)[0], style.unsqueeze(-1).unsqueeze(-1).chunk(2, 1)[1]);
            return nn.functional.leaky_relu(map * (1 + scale) + shift, 0.2);
        }
    }
}

/// <summary>From an image to a vector: convolutions that halve it level by level down to 4 x 4 places. Keys: conv_in, levels.N, output.</summary>
/// <param name="channels">Of the levels, the finest first: the image's side is 4 times 2 to one fewer than there are.</param>
/// <param name="outputs">How long the vector is.</param>
public sealed class AnalysisNetwork(IReadOnlyList<int> channels, int outputs) : Module
{
    public Conv2d ConvIn { get; } = new(3, channels[0], 3, padding: 1, initializer: ImageInit.Rectified(27));

    public ModuleList<AnalysisLevel> Levels { get; } = new(channels.Count - 1, i => new(channels[i], channels[i + 1]));

    public Linear Output { get; } = new(channels[^1] * 16, outputs);

    /// <param name="pixels">[b, 3, side, side] from -1 to 1</param>
    /// <returns>[b, outputs]</returns>
    public Tensor Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var x = nn.functional.leaky_relu(ConvIn.Forward(pixels.ChannelsLast()), 0.2);
        foreach (var level in Levels) x = level.Forward(x);
        return Output.Forward(x.flatten(1)).MoveToOuterDisposeScope();
    }
}

/// <summary>A residual block that halves a map. Keys: conv1, conv2, shortcut.</summary>
public sealed class AnalysisLevel(int from, int to) : Module
{
    public Conv2d Conv1 { get; } = new(from, from, 3, padding: 1, initializer: ImageInit.Rectified(9 * from));

    public Conv2d Conv2 { get; } = new(from, to, 3, padding: 1, initializer: ImageInit.Rectified(9 * from));

    public Conv2d Shortcut { get; } = new(from, to, 1, bias: false, initializer: Init.Normal(1 / Math.Sqrt(from)));

    internal Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = nn.functional.leaky_relu(Conv1.Forward(x), 0.2);
        y = nn.functional.leaky_relu(Conv2.Forward(nn.functional.avg_pool2d(y, 2)), 0.2);
        // The sum of two of unit variance is brought back to it.
        return ((y + Shortcut.Forward(nn.functional.avg_pool2d(x, 2))) * Math.Sqrt(0.5)).MoveToOuterDisposeScope();
    }
}

static class ImageInit
{
    /// <summary>As wide as keeps the size of what passes through leaky rectifiers of slope 0.2, where nothing normalizes it (He et al. 2015, arXiv:1502.01852).</summary>
    public static Initializer Rectified(int inputs) => Init.Normal(Math.Sqrt(2 / (1.04 * inputs)));
}
