using CsCheck;
using Panoptes.Search;

namespace Panoptes.Core.Tests.Search;

public sealed class InvertedIndexTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-inverted-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void Results_are_those_of_all_inner_products() =>
        Gen.Select(Gen.Int[1, 60], Gen.Int[1, 40], Gen.Int[1, 12], Gen.Int[0, 1000]).Sample(t =>
        {
            var (count, dimensions, top, seed) = t;
            using var scope = NewDisposeScope();
            using var generator = new Generator((ulong)seed);
            var vectors = nn.functional.relu(randn([count, dimensions], generator: generator) - 0.8);
            var query = nn.functional.relu(randn([dimensions], generator: generator) - 0.3);
            var index = InvertedIndex.Build(vectors);
            Assert.Equal(vectors.gt(0).sum().item<long>(), index.Entries);
            var all = vectors.matmul(query).data<float>().ToArray();
            var found = index.Search(query.data<float>().ToArray(), top);
            float[] expected = [.. all.Where(static s => s > 0).OrderDescending().Take(top)];
            Assert.Equal(expected.Length, found.Count);
            for (var i = 0; i < expected.Length; i++)
            {
                Assert.Equal(expected[i], found[i].Score, 1e-4);
                Assert.Equal(all[found[i].Vector], found[i].Score, 1e-4);
            }
        }, iter: 200, threads: 1);

    [Fact]
    public void An_index_is_read_back_as_it_was_and_a_damaged_file_is_refused()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(1);
        var vectors = nn.functional.relu(randn([20, 30], generator: generator) - 1);
        var (index, path) = (InvertedIndex.Build(vectors, threshold: 0.1f), Path.Combine(folder, "a.safetensors"));
        Assert.True(index.ActiveShare is > 0 and < 0.3);
        index.Save(path);
        var again = InvertedIndex.Load(path);
        Assert.Equal((20, 30, index.Entries), (again.Count, again.Dimensions, again.Entries));
        var query = rand(30, generator: generator).data<float>().ToArray();
        Assert.Equal(index.Search(query, 9), again.Search(query, 9));

        var bytes = File.ReadAllBytes(path);
        Gen.Select(Gen.Int[0, bytes.Length - 1], Gen.Byte).Sample(t =>
        {
            var (at, value) = t;
            var damaged = (byte[])bytes.Clone();
            damaged[at] = value;
            var file = Path.Combine(folder, "b.safetensors");
            File.WriteAllBytes(file, damaged);
            try
            {
                var read = InvertedIndex.Load(file);
                if (read.Dimensions == 30) read.Search(query, 9);                            // whatever it holds, within its bounds
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
        }, iter: 300, threads: 1);
    }

    [Fact]
    public void What_does_not_fit_is_told()
    {
        using var scope = NewDisposeScope();
        Assert.Contains("-1", Assert.Throws<PanoptesException>(() => InvertedIndex.Build(tensor(new float[,] { { 0, -1 } }))).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => InvertedIndex.Build(tensor(new float[,] { { 0, float.NaN } })));
        Assert.Throws<PanoptesException>(() => InvertedIndex.Build(ones(3)));
        var index = InvertedIndex.Build(ones(2, 3));
        Assert.Contains("2 dimensions", Assert.Throws<PanoptesException>(() => index.Search([1, 1], 1)).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => index.Search([1, 1, 1], 0));
        Assert.Equal([0, 1], index.Search([1, 0, 0], 5).Select(static p => p.Vector));
    }
}
