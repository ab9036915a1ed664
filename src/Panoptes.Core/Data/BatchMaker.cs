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
/// <param name="augmenter">What is done to each image.</param>
/// <param name="seed">Of the samples' random streams.</param>
/// <param name="problems">Where samples that cannot be read are counted.</param>
sealed class BatchMaker(Augmenter augmenter, ulong seed, DataProblems problems)
{
    /// <summary>Reads one sample. May draw from its random stream first.</summary>
    /// <exception cref="BadSampleException">The sample is of no use.</exception>
    internal delegate DecodedSample Reader<T>(T sample, ref SampleRandom random);

    /// <param name="work">The samples. What is made follows from it alone.</param>
    /// <param name="identify">A sample's index, for the batch, and the number of its random stream.</param>
    /// <param name="read">Reads one sample.</param>
    internal ImageTextBatch Make<T>(BatchWork<T> work, Func<T, (int Index, long Stream)> identify, Reader<T> read, CancellationToken cancel)
    {
        var (size, length, count) = (augmenter.Options.Size, augmenter.ResultLength, work.Samples.Length);
        var images = empty(count, 3, size, size);
        var memory = TensorMemory.Floats(images);
        var (texts, labels, indices) = (new string[count], new int[count], new int[count]);
        var (made, spare) = (0, 0);
        string? first = null;
        foreach (var sample in work.Samples)
        {
            if (TryAdd(sample, memory)) continue;
            while (work.Spares is { } spares && spare < spares.Length && !TryAdd(spares[spare++], memory)) { }
        }
        if (made == 0 && count > 0) throw new PanoptesException($"None of the {count + spare:N0} images for a batch can be used; the first: {first}");
        if (work.Spares is null && made < count) return new(images[..made].DetachFromDisposeScope(), texts[..made], labels[..made], indices[..made]);

        // The spares are used up: what is there comes again.
        for (var from = 0; made < count; made++, from++)
        {
            memory.Slice(from * length, length).CopyTo(memory.Slice(made * length, length));
            (texts[made], labels[made], indices[made]) = (texts[from], labels[from], indices[from]);
        }
        return new(images.DetachFromDisposeScope(), texts, labels, indices);

        bool TryAdd(T sample, Span<float> target)
        {
            cancel.ThrowIfCancellationRequested();
            var (index, stream) = identify(sample);
            var random = new SampleRandom(seed, work.Epoch, stream);
            try
            {
                var decoded = read(sample, ref random);
                augmenter.Apply(decoded.Pixels, decoded.Width, decoded.Height, decoded.Channels, ref random, target.Slice(made * length, length));
                (texts[made], labels[made], indices[made]) = (decoded.Text, decoded.Label, index);
            }
            catch (BadSampleException e)
            {
                problems.Add(e.Problem);
                first ??= e.Message;
                return false;
            }
            made++;
            return true;
        }
    }
}
