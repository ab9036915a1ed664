using CsCheck;
using Panoptes.Evaluation;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Evaluation;

public sealed class RankingTests
{
    [Fact]
    public void Top_k_accuracy_and_recall_are_the_reference_s() => Goldens.Check("segmentation/metric-retrieval");

    [Fact]
    public void Ranks_are_those_of_a_stable_sort() => Gen.Select(Gen.Int[1, 9], Gen.Int[1, 12], Gen.Int[0, 1000]).Sample((queries, gallery, seed) =>
    {
        // Few distinct scores, so that many are equal.
        var random = new Random(seed);
        var scores = Enumerable.Range(0, queries * gallery).Select(_ => (float)random.Next(4)).ToArray();
        int[] queryGroups = [.. Enumerable.Range(0, queries).Select(_ => random.Next(5))], galleryGroups = [.. Enumerable.Range(0, gallery).Select(_ => random.Next(5))];
        using var scope = NewDisposeScope();
        var ranking = Ranking.OfScores(tensor(scores, [queries, gallery]), queryGroups, galleryGroups);
        for (var i = 0; i < queries; i++)
        {
            var order = Enumerable.Range(0, gallery).OrderByDescending(j => scores[(i * gallery) + j]).ToArray();
            Assert.Equal(Array.FindIndex(order, j => galleryGroups[j] == queryGroups[i]), ranking.Ranks[i]);
            Assert.Equal(order[0], ranking.Nearest[i]);
        }
    }, iter: 300);

    [Fact]
    public void Vectors_rank_as_their_products_do_however_they_are_cut_into_parts()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(3);
        // More scores than are in memory at once.
        var (queries, gallery) = (randn([700, 8], generator: generator), randn([9000, 8], generator: generator));
        int[] queryGroups = [.. Enumerable.Range(0, 700)], galleryGroups = [.. Enumerable.Range(0, 9000).Select(static i => i % 900)];
        var a = Ranking.OfVectors(queries, gallery, queryGroups, galleryGroups);
        var b = Ranking.OfScores(queries.matmul(gallery.t()), queryGroups, galleryGroups);
        var same = a.Ranks.Zip(b.Ranks).Count(static p => Math.Abs(p.First - p.Second) <= 1);    // the products of a part may round differently
        Assert.Equal(700, same);
        Assert.Equal(9000, a.Gallery);
    }

    [Fact]
    public void Equal_scores_for_everything_give_chance_and_no_more()
    {
        using var scope = NewDisposeScope();
        int[] groups = [.. Enumerable.Range(0, 50)];
        var ranking = Ranking.OfScores(zeros(50, 50), groups, groups);
        Assert.Equal(0.02, ranking.TopK(1), 1e-12);
        Assert.Equal(ranking.ChanceOfTopK(1), ranking.TopK(1), 1e-12);
        Assert.Equal(0.1, ranking.ChanceOfTopK(5), 1e-12);
    }

    [Fact]
    public void Chance_counts_every_right_answer()
    {
        using var scope = NewDisposeScope();
        // One query, 3 right answers of 6: no hit among two drawn is 3/6 * 2/5.
        var ranking = Ranking.OfScores(arange(6f).reshape(1, 6), [0], [0, 0, 0, 1, 1, 1]);
        Assert.Equal(1 - (0.5 * 0.4), ranking.ChanceOfTopK(2), 1e-12);
        Assert.Equal(1, ranking.ChanceOfTopK(4), 1e-12);
        Assert.Equal(3, ranking.Ranks[0]);
        Assert.Equal(1, RetrievalScores.Chance(ranking).MedianRank);
    }

    [Fact]
    public void Queries_without_a_right_answer_count_nowhere()
    {
        using var scope = NewDisposeScope();
        var report = Retrieval.Score(eye(3, 2), [0, 1, 7], [0, 1]);
        Assert.Equal((2, 1.0, 1), (report.ImageToText.Queries, report.ImageToText.R1, report.ImageToText.MedianRank));
        Assert.Equal((2, 1.0), (report.TextToImage.Queries, report.TextToImage.R1));
    }

    [Fact]
    public void What_cannot_be_ranked_is_refused_in_one_sentence()
    {
        using var scope = NewDisposeScope();
        Assert.Contains("not a number", Assert.Throws<PanoptesException>(() => Ranking.OfScores(full(2, 2, double.NaN), [0, 1], [0, 1])).Message);
        Assert.Contains("expected one each", Assert.Throws<PanoptesException>(() => Ranking.OfScores(zeros(2, 2), [0], [0, 1])).Message);
        Assert.Contains("gallery is empty", Assert.Throws<PanoptesException>(() => Ranking.OfScores(zeros(2, 0), [0, 1], [])).Message);
        Assert.Contains("cannot be compared", Assert.Throws<PanoptesException>(() => Ranking.OfVectors(zeros(2, 3), zeros(2, 2), [0, 1], [0, 1])).Message);
    }

    [Fact]
    public void Ranking_leaves_no_tensor_behind()
    {
        using var images = ones(4, 3);
        using var texts = ones(2, 3);
        int[] groups = [0, 1, 0, 1];
        var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        Ranking.OfVectors(images, texts, groups, [0, 1]);
        Retrieval.Score(images, texts, groups, [0, 1]);
        Classification.OfVectors(images, texts, groups, ["a", "b"]);
        Assert.Equal(before, DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);
    }
}
