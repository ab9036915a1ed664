using CsCheck;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

public sealed class SamplerTests
{
    [Fact]
    public void An_epoch_has_each_sample_once_shuffled_anew_and_resumes_anywhere() =>
        Gen.Select(Gen.Int[1, 60], Gen.Int[1, 12], Gen.Int[1, 3], Gen.Bool, Gen.Bool, Gen.ULong).Sample(t =>
        {
            var (count, size, processes, shuffle, keep, seed) = t;
            if (!keep && count < size * processes) return;
            int[] samples = [.. Enumerable.Range(0, count).Select(static i => i * 3)];
            var ranks = Ranks(processes, shard => new SequentialSampler(samples, size, shuffle, seed, keep, shard), 1);
            var all = ranks.SelectMany(static r => r.SelectMany(static p => p.Samples)).ToArray();
            Assert.Equal(all.Length, all.Distinct().Count());
            Assert.Equal(keep ? count : count / (size * processes) * size * processes, all.Length);
            if (keep) Assert.Equal(samples, all.Order());
            if (!shuffle && processes == 1) Assert.Equal(samples.Take(all.Length), all);
        }, iter: 300, threads: 1);

    [Fact]
    public void Concepts_are_distinct_in_a_batch_over_all_processes_and_nearly_every_sample_is_used() =>
        Gen.Select(Gen.Int[1, 6].Array[4, 30], Gen.Int[1, 4], Gen.Int[1, 2], Gen.ULong).Sample(t =>
        {
            var (perConcept, size, processes, seed) = t;
            int[] concepts = [.. perConcept.SelectMany(static (n, c) => Enumerable.Repeat(c, n))];
            if (perConcept.Length < size * processes) return;
            var ranks = Ranks(processes, shard => new DistinctBatchSampler(Enumerable.Range(0, concepts.Length), i => concepts[i], size, seed, shard), 2);
            var batches = ranks[0].Select((plan, b) => ranks.SelectMany(r => r[b].Samples).ToArray()).ToArray();
            Assert.All(batches, b => Assert.Equal(size * processes, b.Select(i => concepts[i]).Distinct().Count()));
            var used = batches.SelectMany(static b => b).ToArray();
            Assert.Equal(used.Length, used.Distinct().Count());
            // No arrangement gives one more full batch.
            var more = batches.Length + 1;
            Assert.True(perConcept.Sum(n => Math.Min(n, more)) < more * size * processes);
        }, iter: 300, threads: 1);

    [Fact]
    public void Every_epoch_is_another_order_and_every_seed_too()
    {
        int[][] orders = [Order(0, 0), Order(0, 1), Order(1, 0), Order(1, 1)];
        Assert.All(orders, o => Assert.Equal(Enumerable.Range(0, 100), o.Order()));
        Assert.Equal(4, orders.Select(static o => string.Join(',', o)).Distinct().Count());
        Assert.Equal(orders[1], Order(0, 1));

        static int[] Order(ulong seed, int epoch) => [.. new SequentialSampler(Enumerable.Range(0, 100), 10, true, seed).Enumerate(epoch, 0, default).SelectMany(static p => p.Samples)];
    }

    [Fact]
    public void Too_few_samples_or_concepts_are_one_sentence()
    {
        Assert.Equal("A batch needs 8 samples, but there are 7.", Assert.Throws<PanoptesException>(() => new SequentialSampler(Enumerable.Range(0, 7), 4, true, shard: new(0, 2))).Message);
        Assert.Equal("Batches of 4 samples of different concepts were asked for, but there are 3 concepts.",
            Assert.Throws<PanoptesException>(() => new DistinctBatchSampler(Enumerable.Range(0, 9), static i => i % 3, 4)).Message);
        Assert.Contains("Rank 2 of 2", Assert.Throws<PanoptesException>(() => new SequentialSampler([1], 1, true, shard: new(2, 2))).Message, StringComparison.Ordinal);
        Assert.Contains("Batches of 0", Assert.Throws<PanoptesException>(() => new SequentialSampler([1], 0, true)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Random_numbers_are_uniform_and_those_of_different_samples_unrelated()
    {
        var (bins, sum) = (new int[16], 0.0);
        for (var sample = 0; sample < 4000; sample++)
        {
            var random = new SampleRandom(1, 2, sample);
            bins[random.Next(16)]++;
            sum += random.NextFloat() - 0.5;
        }
        Assert.All(bins, static b => Assert.InRange(b, 180, 320));                    // 250 expected, deviation 15
        Assert.InRange(sum / 4000, -0.02, 0.02);
        Assert.NotEqual(new SampleRandom(1, 2, 3).NextBits(), new SampleRandom(1, 3, 2).NextBits());
        var again = new SampleRandom(1, 2, 3);
        Assert.Equal(again.NextBits(), new SampleRandom(1, 2, 3).NextBits());
    }

    /// <summary>The plans of every process, each also checked to be the same when entered in the middle.</summary>
    static BatchPlan[][] Ranks(int processes, Func<Shard, BatchSampler> create, int epoch)
    {
        BatchPlan[][] ranks = [.. Enumerable.Range(0, processes).Select(r => create(new(r, processes)).Enumerate(epoch, 0, default).ToArray())];
        Assert.All(ranks, r => Assert.Equal(create(Shard.Whole with { Count = processes }).BatchesPerEpoch, r.Length));
        Assert.All(ranks, static r => Assert.Equal(Enumerable.Range(0, r.Length).Select(static i => (long)i), r.Select(static p => p.Position)));
        var middle = ranks[0].Length / 2;
        Assert.Equal(ranks[^1].Skip(middle).Select(static p => string.Join(',', p.Samples)),
            create(new(processes - 1, processes)).Enumerate(epoch, middle, default).Select(static p => string.Join(',', p.Samples)));
        return ranks;
    }
}
