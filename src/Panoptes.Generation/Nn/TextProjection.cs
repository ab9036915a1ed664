using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>Two linear layers that bring a text's features to a model's width. Keys: linear_1, linear_2.</summary>
public sealed class TextProjection(int inputs, int width, Activation activation) : Module
{
    [Key("linear_1")]
    public Linear Linear1 { get; } = new(inputs, width);

    [Key("linear_2")]
    public Linear Linear2 { get; } = new(width, width);

    /// <param name="text">[..., inputs]</param>
    /// <returns>[..., width]</returns>
    public Tensor Forward(Tensor text)
    {
        using var scope = NewDisposeScope();
        return Linear2.Forward(Linear1.Forward(text, activation)).MoveToOuterDisposeScope();
    }
}
