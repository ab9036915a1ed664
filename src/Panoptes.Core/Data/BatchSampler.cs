namespace Panoptes.Data;

/// <summary>The samples of one batch.</summary>
/// <param name="Epoch">The epoch, from 0.</param>
/// <param name="Position">The batch's place in it, from 0.</param>
/// <param name="Samples">Indices into the data, in order.</param>
public sealed record BatchPlan(int Epoch, long Position, int[] Samples);

/// <summary>Which process of how many this is; each gets its own part of every batch.</summary>
public readonly record struct Shard(int Rank, int Count)
{
    /// <summary>One process alone.</summary>
    public static Shard Whole { get; } = new(0, 1);

    internal void Validate()
    {
        if (Count < 1 || Rank < 0 || Rank >= Count) throw new PanoptesException($"Rank {Rank} of {Count} processes was asked for, but a rank from 0 to one less than the count was expected.");
    }
}

/// <summary>Puts samples into batches, epoch by epoch, from a seed.</summary>
public abstract class BatchSampler : IBatchSource<BatchPlan>
{
    /// <summary>Samples of one batch of one process.</summary>
    public int BatchSize { get; }

    /// <summary>Batches of every epoch.</summary>
    public abstract long BatchesPerEpoch { get; }

    /// <summary>Which part of each batch this process gets.</summary>
    public Shard Shard { get; }

    protected BatchSampler(int batchSize, Shard shard)
    {
        shard.Validate();
        if (batchSize is < 1 or > 1 << 24) throw new PanoptesException($"Batches of {batchSize} samples were asked for, but 1 to {1 << 24} are possible.");
        (BatchSize, Shard) = (batchSize, shard);
    }

    /// <summary>The epoch's batches over all processes: <see cref="BatchesPerEpoch"/> lists of up to batch size times processes.</summary>
    protected abstract IEnumerable<ArraySegment<int>> Epoch(int epoch);

    /// <inheritdoc/>
    public IEnumerable<BatchPlan> Enumerate(int epoch, long position, CancellationToken cancel)
    {
        var at = 0L;
        foreach (var batch in Epoch(epoch))
        {
            cancel.ThrowIfCancellationRequested();
            if (at++ < position) continue;
            // A short last batch is shared out as evenly as it goes.
            var (from, to) = ((int)((long)batch.Count * Shard.Rank / Shard.Count), (int)((long)batch.Count * (Shard.Rank + 1) / Shard.Count));
            yield return new(epoch, at - 1, [.. batch.AsSpan(from..to)]);
        }
    }
}

/// <summary>All samples once an epoch, shuffled or in order.</summary>
public sealed class SequentialSampler : BatchSampler
{
    readonly int[] samples;
    readonly ulong seed;
    readonly bool shuffle, keepLast;

    /// <param name="samples">Indices of the samples, such as a split.</param>
    /// <param name="batchSize">Samples a batch and process.</param>
    /// <param name="shuffle">A new order every epoch.</param>
    /// <param name="seed">Of the order.</param>
    /// <param name="keepLast">Whether a last batch that is not full is handed out.</param>
    /// <param name="shard">Which part of each batch this process gets.</param>
    public SequentialSampler(IEnumerable<int> samples, int batchSize, bool shuffle, ulong seed = 0, bool keepLast = false, Shard? shard = null)
        : base(batchSize, shard ?? Shard.Whole)
    {
        this.samples = [.. samples];
        (this.seed, this.shuffle, this.keepLast) = (seed, shuffle, keepLast);
        if (BatchesPerEpoch == 0) throw new PanoptesException($"A batch needs {batchSize * (long)Shard.Count} samples, but there are {this.samples.Length}.");
    }

    /// <inheritdoc/>
    public override long BatchesPerEpoch
    {
        get
        {
            var all = (long)BatchSize * Shard.Count;
            return keepLast ? (samples.Length + all - 1) / all : samples.Length / all;
        }
    }

    /// <inheritdoc/>
    protected override IEnumerable<ArraySegment<int>> Epoch(int epoch)
    {
        var order = samples;
        if (shuffle)
        {
            order = [.. samples];
            new SampleRandom(seed, epoch, -1).Shuffle(order.AsSpan());
        }
        var all = (long)BatchSize * Shard.Count;
        for (var b = 0L; b < BatchesPerEpoch; b++)
            yield return new(order, (int)(b * all), (int)Math.Min(all, order.Length - (b * all)));
    }
}

/// <summary>
/// Batches for contrastive training: no two samples of one concept in a batch (over all processes), since they would be each
/// other's false negatives. Every batch is full; each sample comes at most once an epoch, and nearly all do.
/// </summary>
/// <remarks>
/// The samples, concept by concept in random order, are dealt to the batches in turn like cards: a concept's samples fall into
/// successive batches, which are different ones as long as no concept has more samples than there are batches (the surplus waits for
/// another epoch, drawn anew each time).
/// </remarks>
public sealed class DistinctBatchSampler : BatchSampler
{
    readonly int[][] byConcept;
    readonly ulong seed;
    readonly int batches;

    /// <param name="samples">Indices of the samples, such as a split.</param>
    /// <param name="concept">The concept of a sample.</param>
    /// <param name="batchSize">Samples a batch and process.</param>
    /// <param name="seed">Of the order.</param>
    /// <param name="shard">Which part of each batch this process gets.</param>
    /// <exception cref="PanoptesException">There are fewer concepts than a batch has samples.</exception>
    public DistinctBatchSampler(IEnumerable<int> samples, Func<int, int> concept, int batchSize, ulong seed = 0, Shard? shard = null)
        : base(batchSize, shard ?? Shard.Whole)
    {
        byConcept = [.. samples.GroupBy(concept).OrderBy(static g => g.Key).Select(static g => g.ToArray())];
        this.seed = seed;
        var all = (long)batchSize * Shard.Count;
        // The most batches that the samples fill when a concept counts at most once a batch: fewer batches never fill worse.
        var (low, high) = (0L, byConcept.Sum(static c => (long)c.Length) / all);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            if (byConcept.Sum(c => Math.Min(c.Length, middle)) >= middle * all) low = middle;
            else high = middle - 1;
        }
        if (low == 0) throw new PanoptesException($"Batches of {all} samples of different concepts were asked for, but there are {byConcept.Length} concepts.");
        batches = (int)low;
    }

    /// <inheritdoc/>
    public override long BatchesPerEpoch => batches;

    /// <inheritdoc/>
    protected override IEnumerable<ArraySegment<int>> Epoch(int epoch)
    {
        var random = new SampleRandom(seed, epoch, -1);
        var concepts = byConcept.Select(static c => c.ToArray()).ToArray();
        random.Shuffle(concepts.AsSpan());
        var dealt = new List<int>[batches];
        for (var b = 0; b < batches; b++) dealt[b] = [];
        var next = 0;
        foreach (var samples in concepts)
        {
            random.Shuffle(samples.AsSpan());
            for (var i = 0; i < Math.Min(samples.Length, batches); i++)
            {
                dealt[next].Add(samples[i]);
                next = (next + 1) % batches;
            }
        }
        random.Shuffle(dealt.AsSpan());
        var all = BatchSize * Shard.Count;
        foreach (var batch in dealt)
        {
            var order = batch.ToArray();
            random.Shuffle(order.AsSpan());
            yield return new(order, 0, all);
        }
    }
}
