using Panoptes.Checkpoints;

namespace Panoptes.Generation;

/// <summary>Makes images of words by a model that takes no noise away, which <see cref="Diffusion"/> does.</summary>
public interface IImageMaker : IDisposable
{
    /// <summary>All images of the requests, in their order; every one follows from its own seed.</summary>
    /// <param name="requests">What is wanted.</param>
    /// <param name="progress">Told after every batch, in images.</param>
    /// <param name="cancel">Stops.</param>
    /// <exception cref="PanoptesException">A request that such a model cannot follow, or a model whose numbers are damaged.</exception>
    IReadOnlyList<GeneratedImage> Generate(IReadOnlyList<ImageRequest> requests, IProgress<ImageProgress>? progress = null, CancellationToken cancel = default);
}

/// <summary>Loads them by what their folders hold.</summary>
public static class ImageMaker
{
    /// <summary>Whether a folder holds such a model.</summary>
    public static bool IsIn(string folder) => CaptionedImages.IsIn(folder) || Amused.IsIn(folder);

    /// <summary>Loads one.</summary>
    /// <param name="folder">For which <see cref="IsIn"/> holds.</param>
    /// <param name="options">The type of the weights.</param>
    /// <param name="name">What images say that they are made with; null: the folder.</param>
    /// <param name="note">Told of what users should know; null: nobody is.</param>
    /// <param name="batchSize">How many images are made at once; null: as usual for the model.</param>
    /// <exception cref="PanoptesException">Another model there, or none, or a damaged one.</exception>
    public static IImageMaker Load(string folder, LoadOptions? options = null, string? name = null, int? batchSize = null, Action<string>? note = null) => Amused.IsIn(folder)
        ? Amused.Load(folder, options, name, batchSize ?? Amused.UsualBatch, note)
        : CaptionedImages.Load(folder, options?.Dtype ?? ScalarType.Float32, batchSize ?? CaptionedImages.UsualBatch, name, note);
}
