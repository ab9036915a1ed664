using Panoptes.Generation;

namespace Panoptes.Cli;

/// <summary>Steps of images for whoever counts steps.</summary>
sealed class ImageSteps(IProgress<Step> to, Action<IReadOnlyList<GeneratedImage>>? finished = null) : IProgress<ImageProgress>
{
    public void Report(ImageProgress value)
    {
        if (value.Finished is { } images) finished?.Invoke(images);
        to.Report(new(value.Done, value.Total));
    }
}
