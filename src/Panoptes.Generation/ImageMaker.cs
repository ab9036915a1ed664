using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Panoptes.Checkpoints;

namespace Panoptes.Generation;

/// <summary>Makes images of words: <see cref="Diffusion"/>, and models that take no noise away.</summary>
public interface IImageMaker : IDisposable
{
    /// <summary>All images of the requests, in their order; every one follows from its own seed. Neighbors that differ in words and seeds alone are made together.</summary>
    /// <param name="requests">What is wanted.</param>
    /// <param name="progress">Told after every step, where the model takes several, and after every batch.</param>
    /// <param name="previewEvery">A picture of what the first image of a batch seems to become, after so many steps each, where the model has one to show; 0: none.</param>
    /// <param name="cancel">Stops before the next step.</param>
    /// <exception cref="PanoptesException">A request that such a model cannot follow, or a model whose numbers are damaged.</exception>
    IReadOnlyList<GeneratedImage> Generate(IReadOnlyList<ImageRequest> requests, IProgress<ImageProgress>? progress = null, int previewEvery = 0, CancellationToken cancel = default);
}

/// <summary>Loads what takes no noise away by what folders hold, and lets all makers of images tell how far they are.</summary>
public static class ImageMaker
{
    /// <summary>Whether a folder holds a model that makes images and takes no noise away, which <see cref="Diffusion"/> does.</summary>
    public static bool IsIn(string folder) => CaptionedImages.IsIn(folder) || Amused.IsIn(folder);

    /// <summary>Loads one.</summary>
    /// <param name="folder">For which <see cref="IsIn"/> holds.</param>
    /// <param name="options">The type of the weights, and what stops the loading; null: float32, and nothing.</param>
    /// <param name="name">What images say that they are made with; null: the folder.</param>
    /// <param name="note">Told of what users should know; null: nobody is.</param>
    /// <param name="batchSize">How many images are made at once; null: as usual for the model.</param>
    /// <exception cref="PanoptesException">Another model there, or none, or a damaged one.</exception>
    public static IImageMaker Load(string folder, LoadOptions? options = null, string? name = null, int? batchSize = null, Action<string>? note = null) => Amused.IsIn(folder)
        ? Amused.Load(folder, options, name, batchSize ?? Amused.UsualBatch, note)
        : CaptionedImages.Load(folder, options, name, batchSize ?? CaptionedImages.UsualBatch, note);

    /// <summary>The images step by step as it goes on, made on another thread; the last has them all.</summary>
    /// <param name="maker">Stays the caller's.</param>
    /// <param name="requests">What is wanted.</param>
    /// <param name="previewEvery">A picture of what the first image of a batch seems to become, after so many steps each; 0: none.</param>
    /// <param name="cancel">Stops before the next step, as whoever stops reading does.</param>
    /// <exception cref="PanoptesException">A request that the model cannot follow, or a model whose numbers are damaged.</exception>
    public static async IAsyncEnumerable<ImageProgress> GenerateAsync(this IImageMaker maker, IReadOnlyList<ImageRequest> requests, int previewEvery = 1, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        var channel = Channel.CreateUnbounded<ImageProgress>(new() { SingleReader = true });
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var running = Task.Run(() =>
        {
            try
            {
                maker.Generate(requests, new Writer(channel.Writer), previewEvery, stop.Token);
                channel.Writer.Complete();
            }
            catch (Exception e)
            {
                channel.Writer.Complete(e);
            }
        }, CancellationToken.None);
        try
        {
            await foreach (var progress in channel.Reader.ReadAllAsync(cancel)) yield return progress;
        }
        finally
        {
            // Whoever stops reading stops the making.
            await stop.CancelAsync();
            await running;
        }
    }

    sealed class Writer(ChannelWriter<ImageProgress> to) : IProgress<ImageProgress>
    {
        public void Report(ImageProgress value) => to.TryWrite(value);
    }
}
