namespace Panoptes.Evaluation;

/// <summary>How near two vectors are.</summary>
public enum Nearness
{
    /// <summary>By the angle between them.</summary>
    Cosine,

    /// <summary>By their distance.</summary>
    Euclidean,
}

/// <summary>A known vector, and how near it is: the cosine, or minus the squared distance.</summary>
/// <param name="Index">Its row.</param>
public readonly record struct Neighbor(int Index, float Similarity);

/// <summary>How neighbors vote.</summary>
public sealed record NearestNeighborOptions
{
    /// <summary>How many neighbors vote (DINO's best is 20 or 10).</summary>
    public int K { get; init; } = 20;

    /// <summary>
    /// A neighbor's vote counts exp(cosine / temperature), as in DINO (Caron et al. 2021); null: each counts one, and between classes of
    /// equally many votes the nearest neighbor decides.
    /// </summary>
    public double? Temperature { get; init; } = 0.07;

    public Nearness Nearness { get; init; } = Nearness.Cosine;

    /// <summary>Plain k-NN: each of the neighbors counts one.</summary>
    public static NearestNeighborOptions Plain(int k, Nearness nearness = Nearness.Cosine) => new() { K = k, Temperature = null, Nearness = nearness };
}

/// <summary>The nearest known vectors, and classification by their labels.</summary>
public static class NearestNeighbors
{
    /// <summary>The most similarities that are in memory at once.</summary>
    const int ChunkElements = 1 << 24;

    /// <summary>The votes for every class: [queries, classes] float64, owned by the caller. A part of the queries is compared at a time.</summary>
    /// <param name="known">[known, d] float32; need not be of length 1.</param>
    /// <param name="labels">For every known vector its class, from 0.</param>
    /// <param name="queries">[queries, d] float32.</param>
    /// <param name="classes">How many classes there are.</param>
    /// <param name="progress">Is told how many queries are done.</param>
    /// <exception cref="PanoptesException">Sizes that do not fit, a label without a class, an option out of range, or vectors that are not finite.</exception>
    public static Tensor Votes(Tensor known, IReadOnlyList<int> labels, Tensor queries, int classes, NearestNeighborOptions? options = null,
        IProgress<int>? progress = null, CancellationToken cancel = default)
    {
        options ??= new();
        if (known.dim() != 2 || queries.dim() != 2 || known.shape[1] != queries.shape[1] || known.shape[0] != labels.Count || labels.Count == 0)
            throw new PanoptesException($"Known vectors [{string.Join(", ", known.shape)}] with {labels.Count} labels and queries [{string.Join(", ", queries.shape)}] do not fit: expected [known, d], a label each, and [queries, d].");
        if (options.K < 1) throw new PanoptesException($"{options.K} neighbors were asked for; expected 1 or more.");
        if (options.Temperature is <= 0 || (options.Temperature is not null && options.Nearness == Nearness.Euclidean))
            throw new PanoptesException(options.Nearness == Nearness.Euclidean ? "Votes weighted by a temperature go with cosines, not with distances." : $"The temperature is {options.Temperature}; expected more than 0.");
        foreach (var label in labels)
            if (label < 0 || label >= classes) throw new PanoptesException($"A known vector has the label {label}, but there are {classes} classes, from 0 to {classes - 1}.");

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var k = Math.Min(options.K, labels.Count);
        var (gallery, squares) = Prepare(known, options.Nearness);
        var classOf = tensor(labels.Select(static l => (long)l).ToArray());
        var tieBreak = full([k], 0.5, ScalarType.Float64).pow(arange(1, k + 1));              // halves, quarters...: together less than one vote
        var votes = zeros([queries.shape[0], classes], ScalarType.Float64);
        var chunk = Math.Max(1, ChunkElements / labels.Count);
        for (long start = 0; start < queries.shape[0]; start += chunk)
        {
            cancel.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            var count = Math.Min(chunk, queries.shape[0] - start);
            var (nearest, indices) = Nearest(gallery, squares, queries.narrow(0, start, count), k, options.Nearness);
            // The largest cosine is taken off first: the votes' proportions are the same, and none overflows.
            var weights = options.Temperature is { } t
                ? ((nearest - nearest.narrow(1, 0, 1)).to(ScalarType.Float64) / t).exp()
                : tieBreak.add(1).expand(count, k);
            votes.narrow(0, start, count).scatter_add_(1, classOf.index_select(0, indices.flatten()).view(count, k), weights);
            progress?.Report((int)(start + count));
        }
        return votes.MoveToOuterDisposeScope();
    }

    /// <summary>The nearest known vectors of every query, the nearest first.</summary>
    /// <param name="known">[known, d] float32; need not be of length 1.</param>
    /// <param name="queries">[queries, d] float32.</param>
    /// <param name="k">How many at most.</param>
    /// <exception cref="PanoptesException">Sizes that do not fit, or vectors that are not finite.</exception>
    public static IReadOnlyList<IReadOnlyList<Neighbor>> Find(Tensor known, Tensor queries, int k, Nearness nearness = Nearness.Cosine, CancellationToken cancel = default)
    {
        if (known.dim() != 2 || queries.dim() != 2 || known.shape[1] != queries.shape[1] || known.shape[0] == 0)
            throw new PanoptesException($"Known vectors [{string.Join(", ", known.shape)}] and queries [{string.Join(", ", queries.shape)}] do not fit: expected [known, d] and [queries, d].");
        if (k < 1) throw new PanoptesException($"{k} neighbors were asked for; expected 1 or more.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        k = (int)Math.Min(k, known.shape[0]);
        var (gallery, squares) = Prepare(known, nearness);
        var found = new List<IReadOnlyList<Neighbor>>();
        var chunk = Math.Max(1, ChunkElements / known.shape[0]);
        for (long start = 0; start < queries.shape[0]; start += chunk)
        {
            cancel.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            var (similarities, indices) = Nearest(gallery, squares, queries.narrow(0, start, Math.Min(chunk, queries.shape[0] - start)), k, nearness);
            foreach (var (near, at) in similarities.data<float>().ToArray().Chunk(k).Zip(indices.data<long>().ToArray().Chunk(k)))
                found.Add([.. near.Select((s, i) => new Neighbor((int)at[i], s))]);
        }
        return found;
    }

    /// <summary>How near the nearest k of the known vectors are, and their rows, [queries, k].</summary>
    static (Tensor Similarities, Tensor Indices) Nearest(Tensor gallery, Tensor? squares, Tensor queries, int k, Nearness nearness)
    {
        var (part, partSquares) = Prepare(queries, nearness);
        var similarity = part.matmul(gallery.t());                                           // [queries, known]
        if (squares is not null) similarity.mul_(2).sub_(squares.t()).sub_(partSquares!);    // minus the squared distance
        if (!similarity.isfinite().all().item<bool>()) throw new PanoptesException("A similarity is not a finite number: the model gave vectors that are not finite.");
        return similarity.topk(k, 1);
    }

    /// <summary>Vectors of length 1 for cosines; the vectors and their squared lengths for distances.</summary>
    static (Tensor Vectors, Tensor? Squares) Prepare(Tensor vectors, Nearness nearness)
    {
        var floats = vectors.detach().cpu().to(ScalarType.Float32);
        return nearness == Nearness.Cosine ? (nn.functional.normalize(floats, 2, 1), null) : (floats, floats.square().sum(1, keepdim: true));
    }
}
