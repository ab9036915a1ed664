using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>The samples of one batch, before they are read.</summary>
/// <param name="Epoch">The epoch, from 0.</param>
/// <param name="Samples">What the batch is made of.</param>
/// <param name="Spares">What takes the place of samples that cannot be read, so that the batch is full; null: they are left out.</param>
sealed record BatchWork<T>(int Epoch, T[] Samples, T[]? Spares);

static class BatchWork
{
    /// <summary>An epoch's batches as work: in training each has the next one's samples as spares, and one that is not full serves for nothing else.</summary>
    internal static IEnumerable<BatchWork<T>> Of<T>(int epoch, IEnumerable<(T[] Samples, bool Full)> batches, bool training)
    {
        T[]? held = null;
        foreach (var (samples, full) in batches)
        {
            if (!training) yield return new(epoch, samples, null);
            else
            {
                if (held is not null) yield return new(epoch, held, samples);
                held = full ? samples : null;
            }
        }
        if (held is not null) yield return new(epoch, held, []);
    }
}

/// <summary>A decoded image, [height, width, channels] bytes of 3 or 4 channels, with what belongs to it.</summary>
readonly ref struct DecodedSample(ReadOnlySpan<byte> pixels, int width, int height, int channels, string text, int label)
{
    internal readonly ReadOnlySpan<byte> Pixels = pixels;
    internal readonly int Width = width, Height = height, Channels = channels, Label = label;
    internal readonly string Text = text;

    internal static DecodedSample Of(ImageSample sample)
    {
        var image = sample.Decode();
        if (image.Channels == 1) image = image.ToRgb();
        return new(image.Pixels, image.Width, image.Height, image.Channels, sample.Text, sample.Label);
    }
}

/// <summary>The one way from samples to a batch: each is decoded, augmented from its own random stream, and put into the batch's memory.</summary>
/// <param name="augmentation">What is done to each image.</param>
/// <param name="views">What is made of each sample beside that.</param>
/// <param name="seed">Of the samples' random streams.</param>
/// <param name="problems">Where samples that cannot be read are counted.</param>
sealed class BatchMaker(Augmentation augmentation, MoreViews views, ulong seed, DataProblems problems)
{
    readonly Augmenter first = new(augmentation), others = new((views.Augmentation ?? augmentation) with { Size = augmentation.Size, Mean = augmentation.Mean, Std = augmentation.Std });

    /// <summary>Reads one sample. May draw from its random stream first.</summary>
    /// <exception cref="BadSampleException">The sample is of no use.</exception>
    internal delegate DecodedSample Reader<T>(T sample, ref SampleRandom random);

    /// <param name="work">The samples. What is made follows from it alone.</param>
    /// <param name="identify">A sample's index, for the batch, and the number of its random stream.</param>
    /// <param name="read">Reads one sample.</param>
    internal ImageTextBatch Make<T>(BatchWork<T> work, Func<T, (int Index, long Stream)> identify, Reader<T> read, CancellationToken cancel)
    {
        var (size, length, count) = (augmentation.Size, first.ResultLength, work.Samples.Length);
        Tensor[] images = [.. Enumerable.Range(0, 1 + views.Images).Select(_ => empty(count, 3, size, size))];
        string[][] texts = [.. Enumerable.Range(0, 1 + views.Texts).Select(_ => new string[count])];
        var (labels, indices) = (new int[count], new int[count]);
        var (made, spare) = (0, 0);
        string? firstProblem = null;
        foreach (var sample in work.Samples)
        {
            if (TryAdd(sample)) continue;
            while (work.Spares is { } spares && spare < spares.Length && !TryAdd(spares[spare++])) { }
        }
        if (made == 0 && count > 0) throw new PanoptesException($"None of the {count + spare:N0} images for a batch can be used; the first: {firstProblem}");
        if (work.Spares is null && made < count) return Batch([.. images.Select(view => view[..made])], [.. texts.Select(view => view[..made])], labels[..made], indices[..made]);

        // The spares are used up: what is there comes again.
        for (var from = 0; made < count; made++, from++)
        {
            foreach (var view in images) Sample(view, from).CopyTo(Sample(view, made));
            foreach (var view in texts) view[made] = view[from];
            (labels[made], indices[made]) = (labels[from], indices[from]);
        }
        return Batch(images, texts, labels, indices);

        Span<float> Sample(Tensor view, int index) => TensorMemory.Floats(view).Slice(index * length, length);

        bool TryAdd(T sample)
        {
            cancel.ThrowIfCancellationRequested();
            var (index, stream) = identify(sample);
            var random = new SampleRandom(seed, work.Epoch, stream);
            try
            {
                var decoded = read(sample, ref random);
                for (var v = 0; v < images.Length; v++)
                    (v == 0 ? first : others).Apply(decoded.Pixels, decoded.Width, decoded.Height, decoded.Channels, ref random, Sample(images[v], made));
                texts[0][made] = decoded.Text;
                for (var v = 1; v < texts.Length; v++) texts[v][made] = views.TextAugmentation.Draw(decoded.Text, ref random);
                (labels[made], indices[made]) = (decoded.Label, index);
            }
            catch (BadSampleException e)
            {
                problems.Add(e.Problem);
                firstProblem ??= e.Message;
                return false;
            }
            made++;
            return true;
        }
    }

    static ImageTextBatch Batch(Tensor[] images, string[][] texts, int[] labels, int[] indices)
    {
        foreach (var view in images) view.DetachFromDisposeScope();
        return new(images[0], texts[0], labels, indices) { MoreImages = images[1..], MoreTexts = texts[1..] };
    }
}
