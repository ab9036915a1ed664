namespace Panoptes.Generation;

/// <summary>How predictions with and without a condition are put together.</summary>
public static class Guidance
{
    /// <summary>Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598): <c>without + scale * (with - without)</c>.</summary>
    /// <param name="without">The prediction without the condition, or with the negative one.</param>
    /// <param name="with">The prediction with the condition.</param>
    public static Tensor ClassifierFree(Tensor without, Tensor with, double scale)
    {
        using var scope = NewDisposeScope();
        return SchedulerRun.Mix((1 - scale, without), (scale, with)).MoveToOuterDisposeScope();
    }

    /// <summary>Guidance by an image and a text (InstructPix2Pix: Brooks et al. 2023, arXiv:2211.09800, eq. 3).</summary>
    /// <param name="without">The prediction without either.</param>
    /// <param name="image">With the image alone.</param>
    /// <param name="both">With image and text.</param>
    public static Tensor ImageAndText(Tensor without, Tensor image, Tensor both, double textScale, double imageScale)
    {
        using var scope = NewDisposeScope();
        return SchedulerRun.Mix((1 - imageScale, without), (imageScale - textScale, image), (textScale, both)).MoveToOuterDisposeScope();
    }

    /// <summary>Takes the guided prediction's deviation back to that of the conditional one, which else grows with the scale (Lin et al. 2023, arXiv:2305.08891, section 3.4).</summary>
    /// <param name="guided">[b, ...]</param>
    /// <param name="with">The prediction with the condition.</param>
    /// <param name="share">How much of the result is rescaled, from 0 to 1.</param>
    public static Tensor Rescale(Tensor guided, Tensor with, double share)
    {
        using var scope = NewDisposeScope();
        long[] all = [.. Enumerable.Range(1, (int)guided.dim() - 1).Select(static d => (long)d)];
        var rescaled = guided * (with.std(all, unbiased: true, keepdim: true) / guided.std(all, unbiased: true, keepdim: true));
        return SchedulerRun.Mix((share, rescaled), (1 - share, guided)).MoveToOuterDisposeScope();
    }
}
