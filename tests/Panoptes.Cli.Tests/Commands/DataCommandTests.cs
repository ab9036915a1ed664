using System.Text.Json;
using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Cli.Tests.Commands;

/// <summary>The data command over images of one's own.</summary>
public sealed class DataCommandTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task A_table_is_described_checked_and_packed_into_shards_that_hold_the_same()
    {
        Fill();
        var (code, output, _) = await Run("data", "info", folder["t.csv"]);
        Assert.Equal((0, "6 images, with captions, 2 classes (cat, dog).\n"), (code, output));

        (code, output, var error) = await Run("data", "check", folder["t.csv"]);
        Assert.Equal(1, code);
        Assert.StartsWith("4 images, with captions, 2 classes (cat, dog).\n4x4 to 7x7 pixels", output, StringComparison.Ordinal);
        Assert.StartsWith("2 samples are not used: 1 missing file, 1 unreadable image.\n", error, StringComparison.Ordinal);

        (code, output, error) = await Run("data", "shards", folder["t.csv"], folder["shards"], "--samples", "3");
        Assert.Equal((0, $"4 images in 2 shards in {folder["shards"]}.\n"), (code, output));
        Assert.Contains("2 samples are not used", error, StringComparison.Ordinal);
        Assert.Equal([("cat 0", 0), ("dog 1", 1), ("cat 2", 0), ("dog 3", 1)], WebDataset.Open(folder["shards"]).Read().Select(static s => (s.Text, s.Label)));

        (code, output, _) = await Run("data", "check", Path.Combine(folder["shards"], "shard-{000000..000001}.tar"), "--json");
        Assert.Equal(0, code);
        var set = JsonDocument.Parse(output).RootElement;
        Assert.Equal(("shards", 4, 2), (set.GetProperty("set").GetProperty("kind").GetString(), set.GetProperty("set").GetProperty("images").GetInt32(), set.GetProperty("set").GetProperty("shards").GetInt32()));
        Assert.Equal(0, set.GetProperty("problems").GetProperty("count").GetInt32());
    }

    [Fact]
    public async Task A_problem_is_an_error_when_asked_to_be_and_nothing_is_left()
    {
        Fill();
        var (code, output, error) = await Run("data", "shards", folder["t.csv"], folder["shards"], "--samples", "1", "--strict");
        Assert.Equal((1, ""), (code, output));
        Assert.StartsWith("panoptes: ", error, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(folder["shards"]));
        Assert.Equal(2, (await Run("data", "shards", folder["t.csv"], folder["shards"], "--samples", "0")).Code);
        Assert.Equal((1, $"panoptes: The folder {folder["none"]} does not exist.\n"), (await Run("data", "info", folder["none"])) switch { var r => (r.Code, r.Error) });
    }

    [Fact]
    public async Task The_bundled_set_is_described_by_its_name()
    {
        var (code, output, _) = await Run("data", "info", "emoji", "--json");
        Assert.Equal(0, code);
        Assert.Equal(10, JsonDocument.Parse(output).RootElement.GetProperty("styles").GetArrayLength());
    }

    [Theory]
    [InlineData("info")]
    [InlineData("check")]
    [InlineData("shards")]
    public async Task Every_help_ends_with_examples(string command)
    {
        var (code, output, _) = await Run("data", command, "--help");
        Assert.Equal(0, code);
        Assert.Contains($"  panoptes data {command} ", output[output.IndexOf("Examples:", StringComparison.Ordinal)..], StringComparison.Ordinal);
    }

    /// <summary>Four good images, a missing one and a broken one.</summary>
    void Fill()
    {
        for (var i = 0; i < 4; i++) new Image(4 + i, 4 + i, 3).Save(folder[$"{i}.png"]);
        File.WriteAllBytes(folder["4.png"], "not an image"u8.ToArray());
        File.WriteAllText(folder["t.csv"], "filepath,title,label\n" + string.Concat(Enumerable.Range(0, 6).Select(static i => $"{i}.png,{(i % 2 == 0 ? "cat" : "dog")} {i},{(i % 2 == 0 ? "cat" : "dog")}\n")));
    }

    static async Task<(int Code, string Output, string Error)> Run(params string[] args)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        var code = await App.RunAsync(args, output, error);
        return (code, output.ToString().ReplaceLineEndings("\n"), error.ToString().ReplaceLineEndings("\n"));
    }
}
