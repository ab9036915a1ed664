using Panoptes.Search;

namespace Panoptes.Benchmarks;

/// <summary>One query over an index of a million images.</summary>
static class SearchCases
{
    const int Images = 1_000_000, Dimension = 512;

    /// <summary>The ten best of a million vectors (1 GB in float16), as <c>panoptes search --no-update</c> finds them: with the index open already, or opened for every query.</summary>
    public static IRun Million(bool open) => new Run(open);

    sealed class Run : IRun
    {
        readonly DirectoryInfo folder = Directory.CreateTempSubdirectory("panoptes-bench-");
        readonly float[] query = new float[Dimension];
        readonly VectorIndex? index;

        public Run(bool open)
        {
            var random = new Random(0);
            var vector = new float[Dimension];
            using (var writer = IndexWriter.Open(folder.FullName, new ModelIdentity("none", "none"), Dimension))
                for (var i = 0; i < Images; i++)
                {
                    Draw(random, vector);
                    writer.Add($"a folder of pictures/another/IMG_{i:d7}.jpg", 1_000_000 + i, i, (UInt128)i, vector);
                    if (i % 10_000 == 0) writer.Commit();
                }
            Draw(random, query);
            if (!open) index = VectorIndex.Open(folder.FullName);
        }

        public void Step()
        {
            if (index is not null)
            {
                index.Search(query, 10);
                return;
            }
            using var opened = VectorIndex.Open(folder.FullName);
            opened.Search(query, 10);
        }

        public void Dispose()
        {
            index?.Dispose();
            folder.Delete(recursive: true);
        }

        static void Draw(Random random, float[] vector)
        {
            for (var i = 0; i < vector.Length; i++) vector[i] = random.NextSingle() - 0.5f;
            var norm = MathF.Sqrt(vector.Sum(static v => v * v));
            for (var i = 0; i < vector.Length; i++) vector[i] /= norm;
        }
    }
}
