namespace Panoptes.Evaluation;

/// <summary>How well one kind of thing finds the other.</summary>
public sealed record RetrievalScores
{
    /// <summary>Queries that have a right answer.</summary>
    public required int Queries { get; init; }

    /// <summary>Among how many the answer is sought.</summary>
    public required int Gallery { get; init; }

    /// <summary>The share of queries whose first answer is right (recall@1).</summary>
    public required double R1 { get; init; }

    /// <summary>The share of queries with a right answer among the first five.</summary>
    public required double R5 { get; init; }

    /// <summary>The share of queries with a right answer among the first ten.</summary>
    public required double R10 { get; init; }

    /// <summary>The median rank of the first right answer, from 1; of the middle two the lower.</summary>
    public required int MedianRank { get; init; }

    public static RetrievalScores Of(Ranking ranking) => new()
    {
        Queries = ranking.Answerable,
        Gallery = ranking.Gallery,
        R1 = ranking.TopK(1),
        R5 = ranking.TopK(5),
        R10 = ranking.TopK(10),
        MedianRank = ranking.MedianRank(),
    };

    /// <summary>What a random order would give on average.</summary>
    public static RetrievalScores Chance(Ranking ranking) => new()
    {
        Queries = ranking.Answerable,
        Gallery = ranking.Gallery,
        R1 = ranking.ChanceOfTopK(1),
        R5 = ranking.ChanceOfTopK(5),
        R10 = ranking.ChanceOfTopK(10),
        MedianRank = MedianOfChance(ranking),
    };

    /// <summary>The first k that is reached by half of the queries.</summary>
    static int MedianOfChance(Ranking ranking)
    {
        var (low, high) = (1, ranking.Gallery);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (ranking.ChanceOfTopK(middle) >= 0.5) high = middle;
            else low = middle + 1;
        }
        return low;
    }
}

/// <summary>Retrieval between images and texts, both ways.</summary>
public sealed record RetrievalReport(RetrievalScores ImageToText, RetrievalScores TextToImage);

/// <summary>Recall@k between images and texts, where an image may have several texts and a text several images.</summary>
public static class Retrieval
{
    /// <param name="images">[images, d], of length 1 each.</param>
    /// <param name="texts">[texts, d], of length 1 each.</param>
    /// <param name="imageGroups">For every image its group; images and texts of a group belong together.</param>
    /// <param name="textGroups">For every text its group.</param>
    /// <inheritdoc cref="Ranking.OfVectors" path="/exception"/>
    public static RetrievalReport Score(Tensor images, Tensor texts, IReadOnlyList<int> imageGroups, IReadOnlyList<int> textGroups, CancellationToken cancel = default) =>
        new(RetrievalScores.Of(Ranking.OfVectors(images, texts, imageGroups, textGroups, cancel)), RetrievalScores.Of(Ranking.OfVectors(texts, images, textGroups, imageGroups, cancel)));

    /// <summary>The same from a matrix of similarities [images, texts].</summary>
    public static RetrievalReport Score(Tensor similarity, IReadOnlyList<int> imageGroups, IReadOnlyList<int> textGroups, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        return new(RetrievalScores.Of(Ranking.OfScores(similarity, imageGroups, textGroups, cancel)), RetrievalScores.Of(Ranking.OfScores(similarity.t(), textGroups, imageGroups, cancel)));
    }
}
