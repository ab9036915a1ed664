using System.Runtime.InteropServices;

namespace Panoptes.Evaluation;

/// <summary>
/// Where the right answer comes when a gallery is put into order by its score for a query, the highest first. Equal scores keep the
/// gallery's order, as a stable sort does, so that a model that cannot tell things apart scores as chance does.
/// </summary>
public sealed class Ranking
{
    /// <summary>The most scores that are in memory at once.</summary>
    const int ChunkElements = 1 << 22;

    readonly Dictionary<int, int> queriesByAnswers = [];

    Ranking(int[] ranks, int[] nearest, int[] answers, int gallery)
    {
        (Ranks, Nearest, Gallery) = (ranks, nearest, gallery);
        foreach (var count in answers)
            if (count > 0) queriesByAnswers[count] = queriesByAnswers.GetValueOrDefault(count) + 1;
        Answerable = ranks.Count(static r => r >= 0);
    }

    /// <summary>For every query the rank of its best-placed right answer, from 0; -1 where the gallery has none.</summary>
    public IReadOnlyList<int> Ranks { get; }

    /// <summary>For every query the position in the gallery of what scores highest.</summary>
    public IReadOnlyList<int> Nearest { get; }

    /// <summary>The size of the gallery.</summary>
    public int Gallery { get; }

    /// <summary>Queries with a right answer in the gallery; the others count nowhere.</summary>
    public int Answerable { get; }

    /// <summary>The share of queries with a right answer among the first <paramref name="k"/>: top-k accuracy, recall@k.</summary>
    public double TopK(int k) => Answerable == 0 ? 0 : (double)Ranks.Count(r => r >= 0 && r < k) / Answerable;

    /// <summary>What <see cref="TopK"/> would be on average if the order were random.</summary>
    public double ChanceOfTopK(int k)
    {
        if (Answerable == 0) return 0;
        var sum = 0.0;
        foreach (var (answers, queries) in queriesByAnswers)
        {
            var miss = 1.0;
            for (var j = 0; j < Math.Min(k, Gallery) && miss > 0; j++) miss *= Math.Max(Gallery - answers - j, 0) / (double)(Gallery - j);
            sum += queries * (1 - miss);
        }
        return sum / Answerable;
    }

    /// <summary>The median over the queries of the rank from 1 on; of the middle two the lower, as torch.median has it.</summary>
    public int MedianRank()
    {
        int[] sorted = [.. Ranks.Where(static r => r >= 0)];
        Array.Sort(sorted);
        return sorted.Length == 0 ? 0 : sorted[(sorted.Length - 1) / 2] + 1;
    }

    /// <summary>Scores by dot product (cosine, for vectors of length 1), a part of the queries at a time.</summary>
    /// <param name="queries">[queries, d], floating point.</param>
    /// <param name="gallery">[gallery, d], of the same type.</param>
    /// <param name="queryGroups">For every query its group; an item of the gallery is a right answer if it is of the same group.</param>
    /// <param name="galleryGroups">For every item of the gallery its group.</param>
    /// <exception cref="PanoptesException">Sizes that do not fit, or vectors that are not finite.</exception>
    public static Ranking OfVectors(Tensor queries, Tensor gallery, IReadOnlyList<int> queryGroups, IReadOnlyList<int> galleryGroups, CancellationToken cancel = default)
    {
        if (queries.dim() != 2 || gallery.dim() != 2 || queries.shape[1] != gallery.shape[1])
            throw new PanoptesException($"Vectors [{string.Join(", ", queries.shape)}] and [{string.Join(", ", gallery.shape)}] cannot be compared: expected [queries, d] and [gallery, d].");
        return Compute(queries.shape[0], gallery.shape[0], (start, count) => queries.narrow(0, start, count).matmul(gallery.t()), queryGroups, galleryGroups, cancel);
    }

    /// <summary>The same from scores that are there already.</summary>
    /// <param name="scores">[queries, gallery], floating point.</param>
    /// <inheritdoc cref="OfVectors"/>
    public static Ranking OfScores(Tensor scores, IReadOnlyList<int> queryGroups, IReadOnlyList<int> galleryGroups, CancellationToken cancel = default)
    {
        if (scores.dim() != 2) throw new PanoptesException($"Scores have the shape [{string.Join(", ", scores.shape)}]; expected [queries, gallery].");
        return Compute(scores.shape[0], scores.shape[1], (start, count) => scores.narrow(0, start, count), queryGroups, galleryGroups, cancel);
    }

    static Ranking Compute(long queries, long gallery, Func<long, long, Tensor> scores, IReadOnlyList<int> queryGroups, IReadOnlyList<int> galleryGroups, CancellationToken cancel)
    {
        if (queryGroups.Count != queries || galleryGroups.Count != gallery)
            throw new PanoptesException($"{queries} queries have {queryGroups.Count} groups and {gallery} items of the gallery {galleryGroups.Count}; expected one each.");
        if (gallery == 0) throw new PanoptesException("The gallery is empty: expected at least one item.");
        var members = new Dictionary<int, List<int>>();
        for (var j = 0; j < galleryGroups.Count; j++)
        {
            ref var list = ref CollectionsMarshal.GetValueRefOrAddDefault(members, galleryGroups[j], out _);
            (list ??= []).Add(j);
        }
        var (ranks, nearest, answers) = (new int[queries], new int[queries], new int[queries]);
        var chunk = Math.Max(1, ChunkElements / gallery);
        for (long start = 0; start < queries; start += chunk)
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var part = scores(start, Math.Min(chunk, queries - start)).cpu().to(ScalarType.Float64).contiguous();
            if (part.isnan().any().item<bool>()) throw new PanoptesException("A score is not a number: the model gave vectors that are not finite.");
            Rank(part, (int)start, queryGroups, members, ranks, nearest, answers);
        }
        return new(ranks, nearest, answers, (int)gallery);
    }

    static unsafe void Rank(Tensor scores, int start, IReadOnlyList<int> queryGroups, Dictionary<int, List<int>> members, int[] ranks, int[] nearest, int[] answers)
    {
        var (rows, columns) = ((int)scores.shape[0], (int)scores.shape[1]);
        fixed (byte* memory = scores.bytes)                                            // native memory: it does not move
        {
            var address = (nint)memory;
            Parallel.For(0, rows, i =>
            {
                var row = new ReadOnlySpan<double>((double*)address + ((long)i * columns), columns);
                var best = 0;
                for (var j = 1; j < row.Length; j++)
                    if (row[j] > row[best]) best = j;
                nearest[start + i] = best;
                ranks[start + i] = members.TryGetValue(queryGroups[start + i], out var right) ? RankOf(row, right) : -1;
                answers[start + i] = right?.Count ?? 0;
            });
        }
    }

    /// <summary>How many come before the best of <paramref name="right"/> (positions in rising order).</summary>
    static int RankOf(ReadOnlySpan<double> row, List<int> right)
    {
        var at = right[0];
        foreach (var j in right)
            if (row[j] > row[at]) at = j;
        var score = row[at];
        var before = 0;
        for (var j = 0; j < at; j++)
            if (row[j] >= score) before++;
        for (var j = at + 1; j < row.Length; j++)
            if (row[j] > score) before++;
        return before;
    }
}
