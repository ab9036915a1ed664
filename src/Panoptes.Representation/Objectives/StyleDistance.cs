namespace Panoptes.Representation.Objectives;

/// <summary>How far pictures are apart in style: which features go together in a network's layers, wherever they are (Gatys et al. 2015, arXiv:1508.06576).</summary>
public static class StyleDistance
{
    /// <summary>The mean product of every two features over places: [b, width, width].</summary>
    /// <param name="features">Tokens [b, places, width], or a map [b, width, rows, columns]</param>
    public static Tensor Gram(Tensor features)
    {
        using var scope = NewDisposeScope();
        var tokens = (features.dim() == 4 ? features.flatten(2).transpose(1, 2) : features).to(ScalarType.Float32);
        return (tokens.transpose(1, 2).matmul(tokens) / tokens.shape[1]).MoveToOuterDisposeScope();
    }

    /// <summary>The mean over layers of the squared difference of their products, as a part of the wanted ones' square: [b], with gradients to the features.</summary>
    /// <param name="wanted">Of <see cref="Gram"/>, [1, width, width] a layer</param>
    /// <param name="features">Of as many layers.</param>
    /// <exception cref="PanoptesException">Another number of layers.</exception>
    public static Tensor Of(IReadOnlyList<Tensor> wanted, IReadOnlyList<Tensor> features)
    {
        if (wanted.Count == 0 || wanted.Count != features.Count) throw new PanoptesException($"The style of {wanted.Count} layers was to be compared with {features.Count}; expected as many, and at least one.");
        using var scope = NewDisposeScope();
        // Layers whose features are large count no more than others.
        return stack([.. wanted.Zip(features, static (w, f) => (Gram(f) - w).square().sum([1, 2]) / w.square().sum())]).mean([0]).MoveToOuterDisposeScope();
    }
}
