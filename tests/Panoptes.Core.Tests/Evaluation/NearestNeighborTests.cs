using Panoptes.Evaluation;

namespace Panoptes.Core.Tests.Evaluation;

public sealed class NearestNeighborTests
{
    [Fact]
    public void Weighted_votes_are_DINO_s()
    {
        using var scope = NewDisposeScope();
        var (known, labels, queries) = Random(300, 40, 16, 5);
        var votes = NearestNeighbors.Votes(known, labels, queries, 5, new() { K = 7, Temperature = 0.1 });
        // DINO's eval_knn.py: one-hot labels of the k nearest, each times exp(similarity / T).
        var (similarity, indices) = nn.functional.normalize(queries, 2, 1).matmul(nn.functional.normalize(known, 2, 1).t()).topk(7, 1);
        var oneHot = nn.functional.one_hot(tensor(labels.Select(static l => (long)l).ToArray()), 5).index_select(0, indices.flatten()).view(40, 7, 5);
        var expected = (oneHot * (similarity / 0.1).exp().unsqueeze(2)).sum(1);
        Assert.True((votes / votes.sum(1, keepdim: true) - expected / expected.sum(1, keepdim: true)).abs().max().item<double>() < 1e-5);
    }

    [Fact]
    public void A_small_temperature_does_not_overflow()
    {
        using var scope = NewDisposeScope();
        var (known, labels, queries) = Random(50, 10, 4, 3);
        var votes = NearestNeighbors.Votes(known, labels, queries, 3, new() { K = 50, Temperature = 1e-3 });
        Assert.True(votes.isfinite().all().item<bool>());
        var nearest = NearestNeighbors.Votes(known, labels, queries, 3, NearestNeighborOptions.Plain(1));
        Assert.True(votes.argmax(1).eq(nearest.argmax(1)).all().item<bool>());
    }

    [Theory]
    [InlineData(Nearness.Cosine)]
    [InlineData(Nearness.Euclidean)]
    public void Plain_votes_count_the_nearest_one_each(Nearness nearness)
    {
        using var scope = NewDisposeScope();
        var (known, labels, queries) = Random(200, 30, 6, 4);
        var votes = NearestNeighbors.Votes(known, labels, queries, 4, NearestNeighborOptions.Plain(9, nearness)).data<double>().ToArray();
        var (a, b) = (Rows(known), Rows(queries));
        for (var q = 0; q < b.Length; q++)
        {
            var near = Enumerable.Range(0, a.Length).OrderBy(i => Far(a[i], b[q])).Take(9).ToArray();
            for (var c = 0; c < 4; c++) Assert.Equal(near.Count(i => labels[i] == c), (int)Math.Floor(votes[(q * 4) + c]));
        }

        double Far(float[] x, float[] y) => nearness == Nearness.Euclidean
            ? x.Zip(y).Sum(static p => Math.Pow(p.First - p.Second, 2))
            : -x.Zip(y).Sum(static p => (double)p.First * p.Second) / Math.Sqrt(x.Sum(static v => (double)v * v));
    }

    [Theory]
    [InlineData(Nearness.Cosine)]
    [InlineData(Nearness.Euclidean)]
    public void The_nearest_are_found_in_order(Nearness nearness)
    {
        using var scope = NewDisposeScope();
        var known = tensor(new float[,] { { 3, 0 }, { 1, 1 }, { 0, -2 }, { 0.5f, 0 } });
        var found = NearestNeighbors.Find(known, tensor(new float[,] { { 1, 0 }, { 0, -1 } }), 9, nearness);
        float[] expected = nearness == Nearness.Cosine ? [1, 1, MathF.Sqrt(0.5f), 0] : [-0.25f, -1, -4, -5];
        for (var i = 0; i < expected.Length; i++) Assert.Equal(expected[i], found[0][i].Similarity, 1e-5);
        Assert.Equal((2, 1), (found[1][0].Index, found[0][nearness == Nearness.Cosine ? 2 : 1].Index));
        Assert.Contains("do not fit", Assert.Throws<PanoptesException>(() => NearestNeighbors.Find(known, tensor(new float[,] { { 1 } }), 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Between_equally_many_votes_the_nearest_neighbor_decides()
    {
        using var scope = NewDisposeScope();
        var votes = NearestNeighbors.Votes(tensor(new float[,] { { 3 }, { 1 }, { -4 }, { -9 } }), [0, 1, 0, 1], tensor(new float[,] { { 0 } }), 2, NearestNeighborOptions.Plain(4, Nearness.Euclidean));
        Assert.Equal(1, votes.argmax(1).item<long>());
    }

    [Fact]
    public void Parts_give_what_the_whole_gives()
    {
        using var scope = NewDisposeScope();
        // 9,000 known vectors: 1,864 queries fill a part.
        var (known, labels, queries) = Random(9000, 2500, 4, 3);
        var done = new List<int>();
        var votes = NearestNeighbors.Votes(known, labels, queries, 3, NearestNeighborOptions.Plain(3), new Immediate(done.Add));
        Assert.Equal([1864, 2500], done);
        var end = NearestNeighbors.Votes(known, labels, queries.narrow(0, 2400, 100), 3, NearestNeighborOptions.Plain(3));
        Assert.True(votes.narrow(0, 2400, 100).argmax(1).eq(end.argmax(1)).sum().item<long>() >= 99);
    }

    [Fact]
    public void What_cannot_be_compared_is_refused_and_nothing_is_left_behind()
    {
        using var known = zeros(2, 3);
        using var queries = ones(1, 3);
        using var broken = full([1, 3], float.NaN);
        var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        Refused(() => NearestNeighbors.Votes(known, [0], queries, 2), "do not fit");
        Refused(() => NearestNeighbors.Votes(known, [0, 5], queries, 2), "label 5");
        Refused(() => NearestNeighbors.Votes(known, [0, 1], queries, 2, new() { K = 0 }), "0 neighbors");
        Refused(() => NearestNeighbors.Votes(known, [0, 1], queries, 2, new() { Temperature = 0 }), "temperature is 0");
        Refused(() => NearestNeighbors.Votes(known, [0, 1], broken, 2), "not a finite number");
        NearestNeighbors.Votes(known, [0, 1], queries, 2).Dispose();
        Assert.Equal(before, DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);

        static void Refused(Action action, string part) => Assert.Contains(part, Assert.Throws<PanoptesException>(action).Message);
    }

    static float[][] Rows(Tensor t) => [.. t.data<float>().ToArray().Chunk((int)t.shape[1])];

    static (Tensor Known, int[] Labels, Tensor Queries) Random(int known, int queries, int size, int classes)
    {
        using var generator = new Generator(5);
        return (randn([known, size], generator: generator), [.. Enumerable.Range(0, known).Select(i => i * 7 % classes)], randn([queries, size], generator: generator));
    }

    sealed class Immediate(Action<int> report) : IProgress<int>
    {
        public void Report(int value) => report(value);
    }
}
