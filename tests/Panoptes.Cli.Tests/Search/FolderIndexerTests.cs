using CsCheck;
using Panoptes.Imaging;
using Panoptes.Search;

namespace Panoptes.Cli.Tests.Search;

public class FolderIndexerTests
{
    /// <summary>A real function of the pixels in the place of a model: the mean of each of 8 horizontal bands, so that vectors tell images apart.</summary>
    static ImageEmbedder Embedder(Action? called = null) => new(new("bands", "b0"), 8,
        static image => image.ToRgb().Resize(8, 8).ToTensor(TorchSharp.torch.ScalarType.Float32).mean([-1, -2], keepdim: false).reshape(1, -1),
        inputs =>
        {
            called?.Invoke();
            return [.. inputs.Cast<TorchSharp.torch.Tensor>().SelectMany(static t => Spread(t.data<float>().ToArray()))];
        })
    { BatchSize = 4 };

    static IEnumerable<float> Spread(float[] values) => Enumerable.Range(0, 8).Select(i => 1 + values[i % values.Length] * (1 + i));

    static void Save(string path, int seed)
    {
        var image = new Image(9, 7, 3);
        new Random(seed).NextBytes(image.Pixels);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        image.Save(path);
    }

    [Fact]
    public async Task Only_what_changed_is_embedded_again()
    {
        using var folder = new TemporaryFolder();
        for (var i = 0; i < 10; i++) Save(folder[$"sub{i % 3}/{i}.png"], i);
        var calls = 0;
        var embedder = Embedder(() => calls++);
        var first = await FolderIndexer.UpdateAsync(folder.Path, embedder);
        Assert.Equal((10, 10, 0, 0, 3), (first.Images, first.Added, first.Changed, first.Removed, calls));
        var second = await FolderIndexer.UpdateAsync(folder.Path, embedder);
        Assert.Equal((10, 0, 0, 0, 3), (second.Images, second.Added, second.Changed, second.Removed, calls));
        Save(folder["sub0/0.png"], 100);
        File.SetLastWriteTimeUtc(folder["sub0/0.png"], DateTime.UtcNow.AddMinutes(1));
        File.SetLastWriteTimeUtc(folder["sub1/1.png"], DateTime.UtcNow.AddMinutes(1));
        File.Move(folder["sub2/2.png"], folder["moved.png"]);
        File.Delete(folder["sub0/3.png"]);
        var third = await FolderIndexer.UpdateAsync(folder.Path, embedder);
        Assert.Equal((9, 1, 2, 2, 2, 4), (third.Images, third.Added, third.Changed, third.Removed, third.Reused, calls));
    }

    [Fact]
    public async Task Bad_images_are_counted_once_looked_at_once_and_fatal_only_when_asked()
    {
        using var folder = new TemporaryFolder();
        Save(folder["good.png"], 1);
        File.WriteAllText(folder["bad.png"], "not an image");
        File.WriteAllBytes(folder["empty.jpg"], []);
        var report = await FolderIndexer.UpdateAsync(folder.Path, Embedder());
        Assert.Equal(1, report.Images);
        Assert.Equal(["bad.png", "empty.jpg"], report.Bad.Select(static b => b.Path));
        var again = await FolderIndexer.UpdateAsync(folder.Path, Embedder());
        Assert.Equal(2, again.Bad.Count);
        var error = await Assert.ThrowsAsync<PanoptesException>(() => FolderIndexer.UpdateAsync(folder.Path, Embedder(), strict: true));
        Assert.Contains("bad.png", error.Message, StringComparison.Ordinal);
        File.Delete(folder["bad.png"]);
        File.Delete(folder["empty.jpg"]);
        Assert.Empty((await FolderIndexer.UpdateAsync(folder.Path, Embedder())).Bad);
    }

    [Fact]
    public async Task A_broken_off_update_keeps_what_it_had_done()
    {
        using var folder = new TemporaryFolder();
        for (var i = 0; i < 40; i++) Save(folder[$"{i:d2}.png"], i);
        using var cancel = new CancellationTokenSource();
        var calls = 0;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => FolderIndexer.UpdateAsync(folder.Path, Embedder(() =>
        {
            if (++calls == 3) cancel.Cancel();
        }), cancel: cancel.Token));
        using (var index = VectorIndex.Open(folder[".panoptes"])) Assert.InRange(index.Count, 8, 12);
        var rest = await FolderIndexer.UpdateAsync(folder.Path, Embedder());
        Assert.Equal(40, rest.Images);
        Assert.InRange(rest.Added, 28, 32);
    }

    [Fact]
    public async Task Missing_and_empty_folders_are_told_apart()
    {
        using var folder = new TemporaryFolder();
        Assert.Contains("holds no images", (await Assert.ThrowsAsync<PanoptesException>(() => FolderIndexer.UpdateAsync(folder.Path, Embedder()))).Message, StringComparison.Ordinal);
        Assert.Contains("does not exist", (await Assert.ThrowsAsync<PanoptesException>(() => FolderIndexer.UpdateAsync(folder["none"], Embedder()))).Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public void Any_sequence_of_changes_ends_as_an_index_made_at_once() =>
        Gen.Select(Gen.Int[0, 3], Gen.Int[0, 9], Gen.Int[0, 1000]).Array[1, 12].Array[1, 4].Sample(rounds =>
        {
            using var folder = new TemporaryFolder();
            var clock = DateTime.UtcNow.AddDays(-1);
            Save(folder["always.png"], 7);
            foreach (var round in rounds)
            {
                foreach (var (kind, file, seed) in round)
                {
                    var path = folder[$"d{file % 3}/{file}.png"];
                    if (kind == 0) File.Delete(Directory.Exists(Path.GetDirectoryName(path)) ? path : folder["none"]);
                    else if (kind == 1 && File.Exists(path)) File.WriteAllText(path, "damaged");
                    else Save(path, seed);
                    if (File.Exists(path)) File.SetLastWriteTimeUtc(path, clock = clock.AddSeconds(1));
                }
                FolderIndexer.UpdateAsync(folder.Path, Embedder(), folder[".kept"]).GetAwaiter().GetResult();
            }
            FolderIndexer.UpdateAsync(folder.Path, Embedder(), folder[".fresh"]).GetAwaiter().GetResult();
            using var kept = VectorIndex.Open(folder[".kept"]);
            using var fresh = VectorIndex.Open(folder[".fresh"]);
            kept.Verify();
            Assert.Equal(Contents(fresh), Contents(kept));
            foreach (var (expected, found) in Scores(fresh).Zip(Scores(kept))) Assert.Equal(expected, found, 1e-6f);   // the sums' order goes by where a row stands
            Assert.Equal(fresh.ProblemCount, kept.ProblemCount);
        }, iter: 25, threads: 1);

    static IEnumerable<string> Contents(VectorIndex index) =>
        index.Entries().OrderBy(static e => e.Path, StringComparer.Ordinal).Select(e => $"{e.Path} {e.Size} {e.Modified} {e.Hash}");

    static IEnumerable<float> Scores(VectorIndex index) => index.Search(Probe, 1000)[0].OrderBy(static h => h.Path, StringComparer.Ordinal).Select(static h => h.Score);

    static readonly float[] Probe = VectorIndexTests.Unit(new(3), 8);
}
