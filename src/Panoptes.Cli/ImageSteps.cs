using Panoptes.Generation;

namespace Panoptes.Cli;

/// <summary>Steps of images for whoever counts steps.</summary>
sealed class ImageSteps(IProgress<Step> to) : IProgress<ImageProgress>
{
    public void Report(ImageProgress value) => to.Report(new(value.Done, value.Total));
}
