namespace Panoptes.Nn;

/// <summary>
/// Cuts images into square patches and projects each: a convolution whose stride is its kernel, computed as one matrix product, so
/// that the tokens come out side by side without a transposition. Keys: weight [features, channels, patch, patch], bias [features].
/// </summary>
public sealed class PatchEmbedding(int channels, int features, int patchSize, bool bias = false, Initializer? initializer = null) : Module
{
    public Parameter Weight { get; } = new([features, channels, patchSize, patchSize], initializer ?? Init.Uniform(1 / Math.Sqrt(channels * patchSize * patchSize)));

    public Parameter? Bias { get; } = bias ? new([features], Init.Zeros) : null;

    /// <param name="pixels">[batch, channels, height, width]; what does not fill a whole patch at the right and bottom is left out.</param>
    /// <param name="kept">[batch, kept] int64: only these patches are projected, in this order; null: all.</param>
    /// <returns>[batch, rows · columns or kept, features], row by row</returns>
    public Tensor Forward(Tensor pixels, Tensor? kept = null)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (pixels.shape[2] / patchSize, pixels.shape[3] / patchSize);
        if (pixels.shape[2] != rows * patchSize) pixels = pixels.narrow(2, 0, rows * patchSize);
        if (pixels.shape[3] != columns * patchSize) pixels = pixels.narrow(3, 0, columns * patchSize);
        var patches = pixels.reshape(-1, channels, rows, patchSize, columns, patchSize).permute(0, 2, 4, 1, 3, 5)
            .reshape(-1, rows * columns, channels * patchSize * patchSize);                       // [b, tokens, channels · p · p]
        if (kept is not null) patches = patches.gather(1, kept.unsqueeze(-1).expand(-1, -1, patches.shape[2]));
        if (patches.dtype != Weight.Value.dtype) patches = patches.to(Weight.Value.dtype);
        return Native.TorchOps.Linear(patches, Weight.Value.flatten(1), Bias?.Value).MoveToOuterDisposeScope();
    }
}
