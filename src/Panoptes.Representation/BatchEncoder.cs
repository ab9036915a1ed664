using Panoptes.Data.Knowledge;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Representation;

/// <summary>
/// Puts images, and texts where there is a tower for them, through a model's towers in batches; while a batch goes through the model, the next one is loaded and
/// prepared on other threads. Results are float32 on the CPU, each row as the model compares it (of length 1, but for STAIR), owned by the caller.
/// </summary>
sealed class BatchEncoder(Towers towers, ImageProcessor processor, Tokenizer? tokenizer, int batchSize, Device? device = null, bool truncateTexts = false)
{
    /// <summary>Embeds images that are in memory: [images, embedding].</summary>
    public Tensor Images(IReadOnlyList<Image> images) =>
        InBatches(images.Count, (start, count) =>
        {
            using var prepared = Prepare([.. images.Skip(start).Take(count)]);
            return Normalized(Encode(prepared));
        });

    /// <summary>Embeds <paramref name="total"/> images that are made when they are needed: [total, embedding].</summary>
    /// <param name="load">Makes the image of an index; called from several threads at once.</param>
    /// <param name="progress">Is told how many are done.</param>
    /// <param name="cancellation">Stops between batches.</param>
    public Tensor Images(int total, Func<int, Image> load, IProgress<int>? progress = null, CancellationToken cancellation = default) =>
        Prefetched(total, load, images => Normalized(Encode(images)), progress, cancellation);

    /// <summary>
    /// The image tower's pooled features before the projection, as they are: [total, width]. What CLIP's linear probes are trained on
    /// (Radford et al. 2021, appendix A).
    /// </summary>
    /// <inheritdoc cref="Images(int, Func{int, Image}, IProgress{int}?, CancellationToken)"/>
    public Tensor Features(int total, Func<int, Image> load, IProgress<int>? progress = null, CancellationToken cancellation = default) =>
        Prefetched(total, load, images => Plain(Forward(images).Pooled), progress, cancellation);

    Tensor Prefetched(int total, Func<int, Image> load, Func<PreparedImages, Tensor> encode, IProgress<int>? progress, CancellationToken cancellation)
    {
        Task<PreparedImages>? next = null;
        try
        {
            next = Read(0);
            return InBatches(total, (start, count) =>
            {
                cancellation.ThrowIfCancellationRequested();
                using var current = next.GetAwaiter().GetResult();
                next = start + count < total ? Read(start + count) : null;
                var embedded = encode(current);
                progress?.Report(start + count);
                return embedded;
            });
        }
        finally
        {
            // After a failure the batch that was being read is not used.
            if (next is { } pending) _ = pending.ContinueWith(static t => t.Result.Dispose(), CancellationToken.None, TaskContinuationOptions.OnlyOnRanToCompletion, TaskScheduler.Default);
        }

        Task<PreparedImages> Read(int start) => Task.Run(() => Prepare(Load(start)), CancellationToken.None);

        Image[] Load(int start)
        {
            var images = new Image[Math.Min(batchSize, total - start)];
            try
            {
                Parallel.For(0, images.Length, i => images[i] = load(start + i));
            }
            catch (AggregateException e) when (e.InnerExceptions[0] is PanoptesException first)
            {
                throw new PanoptesException(first.Message, first);
            }
            return images;
        }
    }

    /// <summary>Embeds texts: [texts, embedding].</summary>
    /// <exception cref="PanoptesException">A text is longer than the model takes and may not be cut.</exception>
    public Tensor Texts(IReadOnlyList<string> texts, IProgress<int>? progress = null, CancellationToken cancellation = default) =>
        InBatches(texts.Count, (start, count) =>
        {
            cancellation.ThrowIfCancellationRequested();
            var tokens = ClipParts.Tokenize(tokenizer!, towers.Texts!, [.. texts.Skip(start).Take(count)], truncateTexts);
            var embedded = Normalized(towers.Texts!.Encode(OnDevice(tokens.InputIds()), ClipParts.MaskOf(towers.Texts, tokens) is { } mask ? OnDevice(mask) : null));
            progress?.Report(start + count);
            return embedded;
        });

    /// <summary>
    /// Embeds labels, each as the mean over templates (normalized before and after): [labels, embedding]. What is known of a label is appended to each of
    /// its texts.
    /// </summary>
    /// <exception cref="PanoptesException">No label, no template, one without <c>{}</c>, or a text that is too long.</exception>
    public Tensor Labels(IReadOnlyList<string> labels, IReadOnlyList<string>? templates, KnowledgeTable? knowledge = null, IProgress<int>? progress = null, CancellationToken cancellation = default)
    {
        if (labels.Count == 0) throw new PanoptesException("No labels were given; expected at least one.");
        templates ??= ["{}"];
        if (templates.Count == 0) throw new PanoptesException("No templates were given; expected at least one, such as \"a photo of a {}.\".");
        if (templates.FirstOrDefault(static t => !t.Contains("{}", StringComparison.Ordinal)) is { } bad)
            throw new PanoptesException($"The template \"{bad}\" has no {{}}; expected one where the label goes, such as \"a photo of a {{}}.\".");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        string[] texts = [.. labels.SelectMany(l => templates.Select(t => Text(t.Replace("{}", l, StringComparison.Ordinal), l)))];
        var embedded = Texts(texts, progress, cancellation);
        if (templates.Count == 1) return embedded.MoveToOuterDisposeScope();
        return towers.Comparable(embedded.view(labels.Count, templates.Count, -1).mean([1])).MoveToOuterDisposeScope();

        string Text(string text, string label) => knowledge?.Append(text, label) ?? text;
    }

    PreparedImages Prepare(Image[] images) =>
        processor is NaFlexImageProcessor naFlex && towers.Model is Siglip2Model ? new(null, naFlex.ProcessPatches(images)) : new(processor.Process(images), null);

    Tensor Encode(PreparedImages images) => images.Patches is null ? towers.Images.Encode(OnDevice(images.Pixels!)) : Forward(images).Embedding;

    TowerOutput Forward(PreparedImages images) => images.Patches is { } patches
        ? ((Siglip2Model)towers.Model).Vision.Forward(device is null ? patches : new(patches.PixelValues.to(device), patches.PixelAttentionMask.to(device), patches.SpatialShapes))
        : towers.Images.Forward(OnDevice(images.Pixels!));

    /// <summary>Where the model is.</summary>
    public Tensor OnDevice(Tensor tensor) => device is null ? tensor : tensor.to(device);

    static Tensor Plain(Tensor features) => features.cpu().to(ScalarType.Float32);

    Tensor Normalized(Tensor features) => towers.Comparable(Plain(features));

    Tensor InBatches(int total, Func<int, int, Tensor> encode)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var pause = total > batchSize ? Native.FinalizerPause.TryBegin() : null;
        var parts = new List<Tensor>();
        for (var start = 0; start < total; start += batchSize)
        {
            using var inner = NewDisposeScope();
            parts.Add(encode(start, Math.Min(batchSize, total - start)).MoveToOuterDisposeScope());
            pause?.Drain();
        }
        return (parts.Count == 1 ? parts[0] : cat(parts)).MoveToOuterDisposeScope();
    }

    /// <summary>Images as the model takes them: of one size, or patches of many.</summary>
    sealed record PreparedImages(Tensor? Pixels, PatchBatch? Patches) : IDisposable
    {
        public void Dispose()
        {
            Pixels?.Dispose();
            Patches?.Dispose();
        }
    }
}
