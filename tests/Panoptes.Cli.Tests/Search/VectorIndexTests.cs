using CsCheck;
using Panoptes.Search;

namespace Panoptes.Cli.Tests.Search;

public class VectorIndexTests
{
    const int Dimension = 8;
    static readonly ModelIdentity Model = new("a model", "0123456789abcdef");

    [Fact]
    public void A_search_finds_what_comparing_every_vector_finds()
    {
        using var folder = new TemporaryFolder();
        var random = new Random(1);
        var vectors = Enumerable.Range(0, 5000).Select(_ => Unit(random, 64)).ToArray();
        using (var writer = IndexWriter.Open(folder.Path, Model, 64))
        {
            for (var i = 0; i < vectors.Length; i++) writer.Add($"{i}.png", i, i, (UInt128)i, vectors[i]);
            writer.Commit();
            for (var i = 0; i < vectors.Length; i += 3) Assert.True(writer.Remove($"{i}.png"));
            writer.Commit();
        }
        using var index = VectorIndex.Open(folder.Path);
        float[][] queries = [Unit(random, 64), Unit(random, 64), vectors[1]];
        var hits = index.Search([.. queries.SelectMany(static q => q)], 10);
        for (var q = 0; q < queries.Length; q++)
        {
            var expected = Enumerable.Range(0, vectors.Length).Where(static i => i % 3 != 0)
                .Select(i => (Path: $"{i}.png", Score: Dot(queries[q], Halved(vectors[i])))).OrderByDescending(static e => e.Score).Take(10).ToArray();
            Assert.Equal(expected.Select(static e => e.Path), hits[q].Select(static h => h.Path));
            Assert.All(hits[q].Zip(expected), static pair => Assert.Equal(pair.Second.Score, pair.First.Score, 1e-5));
        }
        Assert.Equal("1.png", hits[2][0].Path);
        Assert.Equal(1, hits[2][0].Score, 1e-3);
    }

    [Fact]
    public void A_search_leaves_no_tensors_behind()
    {
        using var folder = new TemporaryFolder();
        using (var writer = IndexWriter.Open(folder.Path, Model, Dimension))
        {
            writer.Add("a.png", 1, 1, 1, [1, 0, 0, 0, 0, 0, 0, 0]);
            writer.Commit();
        }
        using var index = VectorIndex.Open(folder.Path);
        index.Search(new float[Dimension], 1);
        var before = TorchSharp.DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (var i = 0; i < 5; i++) index.Search(new float[Dimension], 1);
        Assert.Equal(before, TorchSharp.DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    [Fact]
    public void What_was_not_committed_is_not_there_and_does_not_disturb()
    {
        using var folder = new TemporaryFolder();
        using (var writer = IndexWriter.Open(folder.Path, Model, Dimension))
        {
            writer.Add("kept.png", 1, 1, 1, Unit(new(1), Dimension));
            writer.Commit();
            writer.Add("lost.png", 1, 1, 2, Unit(new(2), Dimension));
        }
        // A process that dies while it writes leaves bytes behind what counts.
        foreach (var file in Directory.GetFiles(folder.Path).Where(static f => f.EndsWith(".f16", StringComparison.Ordinal) || f.EndsWith(".log", StringComparison.Ordinal)))
            File.AppendAllText(file, "half a record");
        using (var index = VectorIndex.Open(folder.Path)) Assert.Equal(["kept.png"], index.Entries().Select(static e => e.Path));
        using (var writer = IndexWriter.Open(folder.Path, Model, Dimension))
        {
            writer.Add("more.png", 1, 1, 3, Unit(new(3), Dimension));
            writer.Commit();
        }
        using var after = VectorIndex.Open(folder.Path);
        after.Verify();
        Assert.Equal(["kept.png", "more.png"], after.Entries().Select(static e => e.Path));
    }

    [Fact]
    public void An_open_index_keeps_its_state_while_another_is_compacted()
    {
        using var folder = new TemporaryFolder();
        using var writer = IndexWriter.Open(folder.Path, Model, Dimension);
        for (var i = 0; i < 100; i++) writer.Add($"{i}.png", 1, 1, (UInt128)i, Unit(new(i), Dimension));
        writer.Commit();
        using var index = VectorIndex.Open(folder.Path);
        for (var i = 0; i < 50; i++) writer.Remove($"{i}.png");
        writer.Compact();
        Assert.Equal("7.png", index.Search(Unit(new(7), Dimension), 1)[0][0].Path);
        using var compacted = VectorIndex.Open(folder.Path);
        Assert.Equal((50, 50L), (compacted.Count, compacted.Rows));
        Assert.Equal("77.png", compacted.Search(Unit(new(77), Dimension), 1)[0][0].Path);
        compacted.Verify();
    }

    [Fact]
    public void Another_model_is_refused_with_both_names()
    {
        using var folder = new TemporaryFolder();
        using (var writer = IndexWriter.Open(folder.Path, Model, Dimension)) writer.Commit();
        var error = Assert.Throws<PanoptesException>(() => IndexWriter.Open(folder.Path, new("another model", "fedcba9876543210"), Dimension));
        Assert.Contains("a model", error.Message, StringComparison.Ordinal);
        Assert.Contains("another model", error.Message, StringComparison.Ordinal);
        Assert.Contains("--reindex", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Sparse_weights_are_found_by_inner_products_as_they_are()
    {
        using var folder = new TemporaryFolder();
        var random = new Random(4);
        var weights = Enumerable.Range(0, 300).Select(_ => Sparse()).ToArray();
        weights[7] = new float[Dimension];                                               // lights up nothing: kept, never found
        using (var writer = IndexWriter.Open(folder.Path, Model, Dimension, sparse: true))
        {
            for (var i = 0; i < weights.Length; i++) writer.Add($"{i}.png", i, i, (UInt128)i, weights[i]);
            writer.Commit();
            for (var i = 0; i < weights.Length; i += 3) Assert.True(writer.Remove($"{i}.png"));
            writer.Commit();
        }
        float[] query = [0, 1, 0, 2, 0, 0, 0.5f, 0];
        Search();
        var kept = Assert.Single(Directory.GetFiles(folder.Path, "inverted-*"));
        File.WriteAllText(kept, "damaged");
        Search();
        Search();
        Assert.True(new FileInfo(kept).Length > 100);
        using (var writer = IndexWriter.Open(folder.Path, Model, Dimension, sparse: true))
        {
            writer.Add("best.png", 1, 1, 1, [0, 9, 0, 9, 0, 0, 9, 0]);
            writer.Commit();
        }
        using (var index = VectorIndex.Open(folder.Path)) Assert.Equal(new("best.png", 31.5f), index.Search(query, 1)[0][0]);
        Assert.Contains("--reindex", Assert.Throws<PanoptesException>(() => IndexWriter.Open(folder.Path, Model, Dimension)).Message, StringComparison.Ordinal);
        IndexWriter.Open(folder.Path, Model, Dimension, sparse: true).Dispose();
        Assert.NotEqual(kept, Assert.Single(Directory.GetFiles(folder.Path, "inverted-*")));     // the old one went when changes began

        void Search()
        {
            using var index = VectorIndex.Open(folder.Path);
            Assert.True(index.IsSparse);
            var hits = index.Search(query, 9)[0];
            var expected = Enumerable.Range(0, weights.Length).Where(static i => i % 3 != 0)
                .Select(i => (Path: $"{i}.png", Score: Dot(query, Halved(weights[i])))).OrderByDescending(static e => e.Score).Take(9).ToArray();
            Assert.Equal(expected.Select(static e => e.Path), hits.Select(static h => h.Path));
            Assert.All(hits.Zip(expected), static pair => Assert.Equal(pair.Second.Score, pair.First.Score, 1e-4));
            Assert.DoesNotContain("7.png", index.Search(query, 300)[0].Select(static h => h.Path));
        }

        float[] Sparse() => [.. Enumerable.Range(0, Dimension).Select(_ => random.NextDouble() < 0.6 ? 0 : (float)random.NextDouble() * 3)];
    }

    [Fact]
    public void A_second_writer_is_told_to_wait()
    {
        using var folder = new TemporaryFolder();
        using var writer = IndexWriter.Open(folder.Path, Model, Dimension);
        Assert.Contains("Another process", Assert.Throws<PanoptesException>(() => IndexWriter.Open(folder.Path, Model, Dimension)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Beginning_anew_keeps_the_old_index_until_the_first_commit()
    {
        using var folder = new TemporaryFolder();
        using (var writer = IndexWriter.Open(folder.Path, Model, Dimension))
        {
            writer.Add("old.png", 1, 1, 1, Unit(new(1), Dimension));
            writer.Commit();
        }
        using (var writer = IndexWriter.Open(folder.Path, new("other", "ffff"), 4, anew: true))
        {
            writer.Add("new.png", 1, 1, 1, Unit(new(1), 4));
            using (var index = VectorIndex.Open(folder.Path)) Assert.Equal("old.png", index.Entries().Single().Path);
            writer.Commit();
        }
        using var after = VectorIndex.Open(folder.Path);
        Assert.Equal(("other", 4, "new.png"), (after.Model.Name, after.Dimension, after.Entries().Single().Path));
        Assert.Equal(4, Directory.GetFiles(folder.Path).Length);                     // manifest, lock, vectors, entries
    }

    [Theory]
    [InlineData(new float[] { 0, 0, 0, 0, 0, 0, 0, 0 })]
    [InlineData(new float[] { float.NaN, 0, 0, 0, 0, 0, 0, 0 })]
    public void A_vector_without_direction_is_refused(float[] vector)
    {
        using var folder = new TemporaryFolder();
        using var writer = IndexWriter.Open(folder.Path, Model, Dimension);
        Assert.Contains("x.png", Assert.Throws<PanoptesException>(() => writer.Add("x.png", 1, 1, 1, vector)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Damaged_files_give_one_sentence_and_nothing_else()
    {
        using var source = new TemporaryFolder();
        using (var writer = IndexWriter.Open(source.Path, Model, Dimension))
        {
            for (var i = 0; i < 20; i++) writer.Add($"folder/{i}.png", i, i, (UInt128)i, Unit(new(i), Dimension));
            writer.AddProblem("bad.png", 1, 1, "is no image");
            writer.Commit();
            writer.Remove("folder/3.png");
            writer.Add("folder/4.png", 9, 9, 9, Unit(new(99), Dimension));
            writer.Commit();
        }
        var files = Directory.GetFiles(source.Path).Where(static f => Path.GetFileName(f) != "lock").ToDictionary(static f => Path.GetFileName(f), File.ReadAllBytes);
        var names = files.Keys.Order(StringComparer.Ordinal).ToArray();
        Gen.Select(Gen.Int[0, names.Length - 1], Gen.Int[0, 3], Gen.Int[0, 1 << 20], Gen.Byte.Array[1, 16]).Sample((file, kind, at, noise) =>
        {
            using var folder = new TemporaryFolder();
            foreach (var (name, bytes) in files) File.WriteAllBytes(folder[name], name == names[file] ? Mutate(bytes, kind, at, noise) : bytes);
            try
            {
                using (var index = VectorIndex.Open(folder.Path))
                {
                    index.Search(Unit(new(5), Dimension), 3);
                    _ = index.Entries().Count();
                    index.Verify();
                }
                using var writer = IndexWriter.Open(folder.Path, Model, Dimension);
                writer.Remove("folder/5.png");
                writer.Compact();
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain('\n', e.Message);
                Assert.Contains(folder.Path, e.Message, StringComparison.Ordinal);
            }
        }, iter: 400, threads: 1);
    }

    static byte[] Mutate(byte[] bytes, int kind, int at, byte[] noise)
    {
        var position = at % bytes.Length;
        switch (kind)
        {
            case 0:
                var changed = bytes.ToArray();
                for (var i = 0; i < noise.Length && position + i < changed.Length; i++) changed[position + i] ^= noise[i];
                return changed;
            case 1: return bytes[..position];
            case 2: return [.. bytes[..position], .. noise, .. bytes[position..]];
            default: return [.. bytes[..position], .. bytes[Math.Min(bytes.Length, position + noise.Length)..]];
        }
    }

    internal static float[] Unit(Random random, int dimension)
    {
        var vector = new float[dimension];
        double sum = 0;
        for (var i = 0; i < dimension; i++) sum += (vector[i] = (float)(random.NextDouble() - 0.5)) * vector[i];
        for (var i = 0; i < dimension; i++) vector[i] /= (float)Math.Sqrt(sum);
        return vector;
    }

    static float[] Halved(float[] vector) => [.. vector.Select(static x => (float)(Half)x)];

    static float Dot(float[] a, float[] b) => (float)a.Zip(b).Sum(static p => (double)p.First * p.Second);
}
