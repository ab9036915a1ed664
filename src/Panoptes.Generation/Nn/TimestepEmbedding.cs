using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>What a diffusion model is told of the time: sines and cosines of it, and the two layers that make a condition of them.</summary>
public static class Timesteps
{
    /// <summary>Sines and cosines of every number at falling frequencies (Ho et al. 2020, section B): [count, width] float32. An odd width ends in a zero.</summary>
    /// <param name="timesteps">[count], whole numbers or not</param>
    /// <param name="width">How many sines and cosines together.</param>
    /// <param name="cosFirst">Cosines before sines: diffusers' flip_sin_to_cos.</param>
    /// <param name="frequencyShift">The lowest frequency is 1/<paramref name="maxPeriod"/> at 1, and a step above it at 0.</param>
    /// <param name="scale">Multiplies the times.</param>
    /// <param name="maxPeriod">The longest period, by 2π.</param>
    public static Tensor Sinusoids(Tensor timesteps, int width, bool cosFirst = true, double frequencyShift = 0, double scale = 1, double maxPeriod = 10000)
    {
        using var scope = NewDisposeScope();
        var half = width / 2;
        var frequencies = (arange(half, dtype: ScalarType.Float32, device: timesteps.device) * -Math.Log(maxPeriod) / (half - frequencyShift)).exp();
        var angles = timesteps.to(ScalarType.Float32).unsqueeze(1) * frequencies;
        if (scale != 1) angles *= scale;
        var waves = cosFirst ? cat([angles.cos(), angles.sin()], 1) : cat([angles.sin(), angles.cos()], 1);
        return (width % 2 == 0 ? waves : nn.functional.pad(waves, [0, 1])).MoveToOuterDisposeScope();
    }
}

/// <summary>Two linear layers with an activation between, and one after them where <paramref name="post"/> names it. Keys: linear_1, linear_2, cond_proj.</summary>
/// <param name="inputs">The width of what is embedded.</param>
/// <param name="width">The width between the layers.</param>
/// <param name="activation">Between the layers.</param>
/// <param name="post">After the second; null: none.</param>
/// <param name="condition">The width of what is added to the input, projected (guidance embedding); null: none.</param>
/// <param name="outputs">The width of the result; null: <paramref name="width"/>.</param>
/// <param name="bias">Whether the two layers have biases.</param>
public sealed class TimestepEmbedding(int inputs, int width, Activation activation = Activation.Silu, Activation? post = null, int? condition = null, int? outputs = null, bool bias = true) : Module
{
    [Key("linear_1")]
    public Linear Linear1 { get; } = new(inputs, width, bias);

    public Linear? CondProj { get; } = condition is { } from ? new(from, inputs, bias: false) : null;

    [Key("linear_2")]
    public Linear Linear2 { get; } = new(width, outputs ?? width, bias);

    /// <param name="x">[b, inputs] of the weights' type</param>
    /// <param name="added">[b, condition]; null: nothing is added</param>
    /// <returns>[b, outputs]</returns>
    public Tensor Forward(Tensor x, Tensor? added = null)
    {
        using var scope = NewDisposeScope();
        if (added is not null) x += (CondProj ?? throw new PanoptesException("A condition of the timestep was given to a model without time_cond_proj_dim.")).Forward(added);
        return Linear2.Forward(Linear1.Forward(x, activation), post).MoveToOuterDisposeScope();
    }
}
