using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>One image to be made.</summary>
/// <param name="Request">What is wanted.</param>
/// <param name="Seed">Its own.</param>
/// <param name="Number">Which of its request's images it is, from 0.</param>
/// <param name="Parts">How many parts the longest of its prompts has: images that are made together get as many, and are not to depend on each other.</param>
sealed record ImageJob(ImageRequest Request, long Seed, int Number, int Parts)
{
    public static IEnumerable<ImageJob> Of(ImageRequest request, int parts = 1) => request.Seeds().Select((seed, k) => new ImageJob(request, seed, k, parts));
}

/// <summary>Images that are made together.</summary>
/// <param name="Jobs">At least one.</param>
/// <param name="Only">The one that is wanted, where the others only stand beside it (<see cref="ImageRequest.Batch"/>); null: all are.</param>
sealed record ImageBatch(IReadOnlyList<ImageJob> Jobs, int? Only)
{
    public int Count => Jobs.Count;

    /// <summary>What is wanted of all, but for words and seeds.</summary>
    public ImageRequest Request => Jobs[0].Request;

    /// <summary>The places of the images that are wanted.</summary>
    public IEnumerable<int> Wanted => Only is { } one ? [one] : Enumerable.Range(0, Count);

    /// <summary>What an image says of the batch that it was made in.</summary>
    public BatchPlace? PlaceOf(int image) => Count == 1 ? null : new(Count, image + 1);
}

/// <summary>Makes images of requests, batch by batch.</summary>
static class ImageBatches
{
    /// <summary>All images of the jobs, in their order.</summary>
    /// <param name="jobs">Neighbors are made together.</param>
    /// <param name="size">How many at most.</param>
    /// <param name="alike">Whether two requests differ in words and seeds alone.</param>
    /// <param name="stepsOf">How many steps a batch takes, as <paramref name="progress"/> counts them.</param>
    /// <param name="make">The wanted images of a batch; tells how far it is.</param>
    /// <param name="progress">Told after every step; null: nobody is.</param>
    /// <param name="previewEvery">A picture of what the first image of a batch seems to become, after so many steps each; 0: none.</param>
    public static IReadOnlyList<GeneratedImage> Make(IReadOnlyList<ImageJob> jobs, int size, Func<ImageRequest, ImageRequest, bool> alike, Func<ImageBatch, int> stepsOf, Func<ImageBatch, BatchReport, IReadOnlyList<GeneratedImage>> make, IProgress<ImageProgress>? progress, int previewEvery = 0)
    {
        using var pause = Native.FinalizerPause.TryBegin();
        var batches = Of(jobs, size, alike);
        var report = new BatchReport(progress, batches.Sum(stepsOf), previewEvery, pause);
        var images = new List<GeneratedImage>(jobs.Count);
        foreach (var batch in batches)
        {
            using var threads = new ComputingThreads(batch.Request.Threads);
            var made = make(batch, report);
            images.AddRange(made);
            report.Finished(stepsOf(batch), made, images.Count == jobs.Count ? images : null);
        }
        if (jobs.Count == 0) progress?.Report(new(0, 0, null, images));
        return images;
    }

    static List<ImageBatch> Of(IReadOnlyList<ImageJob> jobs, int size, Func<ImageRequest, ImageRequest, bool> alike)
    {
        var batches = new List<List<ImageJob>>();
        foreach (var job in jobs)
            if (batches is [.., var last] && last.Count < size && last[^1] is { Request: { Batch: null } before } one && job.Request.Batch is null && one.Parts == job.Parts && (ReferenceEquals(before, job.Request) || alike(before, job.Request))) last.Add(job);
            else batches.Add([job]);
        // To the last bit, one image of a batch is made again as one of a batch.
        return [.. batches.Select(static b => b[0].Request.Batch is { } own ? new ImageBatch([.. Enumerable.Repeat(b[0], own.Size)], own.Number - 1) : new(b, null))];
    }
}

/// <summary>Tells how far batches are, after every step, and how their first images look, after some.</summary>
sealed class BatchReport(IProgress<ImageProgress>? progress, int total, int previewEvery, Native.FinalizerPause? pause)
{
    int done;

    /// <summary>A step of the batch is taken.</summary>
    /// <param name="taken">So many of the batch's are behind.</param>
    /// <param name="nth">Which one it is of those that were taken at all, from 1.</param>
    /// <param name="preview">What the first image seems to become; null: there is nothing to show.</param>
    public void Stepped(int taken, int nth, Func<Image>? preview)
    {
        pause?.Drain();
        progress?.Report(new(Math.Min(total, done + taken), total, preview is not null && previewEvery > 0 && nth % previewEvery == 0 ? preview() : null));
    }

    /// <summary>The batch is made.</summary>
    public void Finished(int steps, IReadOnlyList<GeneratedImage> made, IReadOnlyList<GeneratedImage>? all)
    {
        pause?.Drain();
        done += steps;
        progress?.Report(new(done, total, null, all, made));
    }
}
