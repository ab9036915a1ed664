using System.Text.Json;
using Panoptes.Imaging;
using Panoptes.Representation.Tests;
using Panoptes.Representation.Tests.Evaluation;

namespace Panoptes.Cli.Tests.Evaluation;

public sealed class EvaluateCommandTests : IDisposable
{
    readonly TinyClip tiny = new();
    readonly TemporaryFolder folder = new();

    public void Dispose()
    {
        tiny.Dispose();
        folder.Dispose();
    }

    [Fact]
    public async Task The_emoji_give_a_table_a_report_and_a_picture()
    {
        using var emoji = new SmallEmoji();
        var (code, output, error) = await Run("evaluate", "--model", tiny.Folder, "--data", emoji.Folder, "--template", "{}", "--report", folder["report.json"], "--confusion", folder["confusion.png"]);
        Assert.True(code == 0, error);
        Assert.Contains("the held-out style, among all concepts", output);
        Assert.Contains("image to text by chance", output);
        using var report = JsonDocument.Parse(File.ReadAllText(folder["report.json"]));
        var first = report.RootElement.GetProperty("report").GetProperty("tasks")[0];
        Assert.Equal("held_out_style", first.GetProperty("name").GetString());
        Assert.InRange(first.GetProperty("top1").GetProperty("color_histogram").GetDouble(), 0, 1);
        Assert.True(Image.Load(folder["confusion.png"]).Width >= 600);
        Assert.Equal(2, Directory.GetFiles(folder.Path).Length);
    }

    [Fact]
    public async Task Models_with_and_without_a_text_tower_stand_in_one_table()
    {
        using var emoji = new SmallEmoji();
        using (var whole = (Representation.ClipModel)Representation.Models.Load(tiny.Folder)) Representation.Models.Save(folder["tower"], whole.Vision);
        File.Copy(Path.Combine(tiny.Folder, "preprocessor_config.json"), folder["tower/preprocessor_config.json"]);
        var (code, output, error) = await Run("evaluate", "--all", tiny.Folder, folder["tower"], "--data", emoji.Folder, "--json");
        Assert.True(code == 0, error);
        using var json = JsonDocument.Parse(output);
        var models = json.RootElement.GetProperty("models");
        Assert.Equal([tiny.Folder, folder["tower"]], models.EnumerateArray().Select(static m => m.GetProperty("model").GetString()));
        Assert.InRange(models[0].GetProperty("emoji_zero_shot").GetDouble(), 0, 1);
        Assert.False(models[1].TryGetProperty("emoji_zero_shot", out var none) && none.ValueKind != JsonValueKind.Null);
        // The same tower: the same features, whatever is beside it.
        Assert.Equal(models[0].GetProperty("emoji_neighbors").GetDouble(), models[1].GetProperty("emoji_neighbors").GetDouble());
        Assert.Equal(models[0].GetProperty("emoji_probe").GetDouble(), models[1].GetProperty("emoji_probe").GetDouble());
        (code, output, error) = await Run("evaluate", "--all", tiny.Folder, "--data", emoji.Folder);
        Assert.True(code == 0, error);
        Assert.Contains("nearest colors", output);

        // Alone, a tower is tested by its features.
        (code, output, error) = await Run("evaluate", "--model", folder["tower"], "--data", emoji.Folder);
        Assert.True(code == 0, error);
        Assert.Contains("linear probe", output);
        Classes();
        (code, _, error) = await Run("evaluate", "--model", folder["tower"], "--data", folder["images"]);
        Assert.Equal(1, code);
        Assert.Contains("no text tower", error);
        (code, _, error) = await Run("evaluate", "--all", folder["tower"], "--task", "knn");
        Assert.Equal(2, code);
        Assert.Contains("--task does not go with --all", error);
    }

    [Fact]
    public async Task A_folder_of_classes_gives_JSON_alone()
    {
        Classes();
        var (code, output, error) = await Run("evaluate", "--model", tiny.Folder, "--data", folder["images"], "--json");
        Assert.True(code == 0, error);
        using var json = JsonDocument.Parse(output);
        var zeroShot = json.RootElement.GetProperty("report").GetProperty("zero_shot");
        Assert.Equal((6, 2), (zeroShot.GetProperty("images").GetInt32(), zeroShot.GetProperty("classes").GetInt32()));
        Assert.Equal("green", zeroShot.GetProperty("per_class")[0].GetProperty("label").GetString());
    }

    [Fact]
    public async Task A_picture_that_cannot_be_read_is_told_and_left_out_or_fatal()
    {
        Classes();
        File.WriteAllText(Path.Combine(folder["images"], "red", "bad.png"), "no image");
        var (code, output, error) = await Run("evaluate", "--model", tiny.Folder, "--data", folder["images"]);
        Assert.Equal(0, code);
        Assert.Contains("6 images, 1 left out", output);
        Assert.Contains("bad.png", error);
        (code, _, error) = await Run("evaluate", "--model", tiny.Folder, "--data", folder["images"], "--strict");
        Assert.Equal(1, code);
        Assert.Contains("bad.png", error);
    }

    [Fact]
    public async Task Wrong_usage_and_bad_data_get_one_sentence_and_their_exit_code()
    {
        Classes();
        await Refused(2, "has no {}", "--template", "photo");
        await Refused(2, "ends in .png", "--confusion", "picture.gif");
        await Refused(2, "--neighbors is 0", "--neighbors", "0");
        await Refused(2, "flying", "--task", "flying");
        await Refused(2, "--task does not go with the emoji", "--task", "knn");
        await Refused(1, "does not exist", "--data", folder["nowhere"]);
        await Refused(1, "holds no images", "--data", Directory.CreateDirectory(folder["empty"]).FullName);
        await Refused(1, "nowhere", "--model", folder["nowhere"], "--data", folder["images"]);

        async Task Refused(int expected, string part, params string[] args)
        {
            var (code, output, error) = await Run(["evaluate", .. args.Contains("--model") ? Array.Empty<string>() : ["--model", tiny.Folder], .. args]);
            Assert.Equal(expected, code);
            Assert.Contains(part, error);
            Assert.DoesNotContain("   at ", error);
            Assert.Equal("", output);
        }
    }

    [Fact]
    public async Task Interrupting_leaves_no_file()
    {
        using var emoji = new SmallEmoji();
        using var stop = new CancellationTokenSource();
        await stop.CancelAsync();
        var (output, error) = (new StringWriter(), new StringWriter());
        var code = await App.RunAsync(["evaluate", "--model", tiny.Folder, "--data", emoji.Folder, "--report", folder["report.json"]], output, error, stop.Token);
        Assert.Equal(App.Interrupted, code);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    void Classes()
    {
        foreach (var (label, color) in new[] { ("green", 1), ("red", 0) })
        {
            var path = Directory.CreateDirectory(Path.Combine(folder["images"], label)).FullName;
            for (var i = 0; i < 3; i++)
            {
                var pixels = new byte[16 * 16 * 3];
                for (var p = color; p < pixels.Length; p += 3) pixels[p] = (byte)(200 + i);
                new Image(16, 16, 3, pixels).Save(Path.Combine(path, $"{i}.png"));
            }
        }
    }

    static async Task<(int Code, string Output, string Error)> Run(params string[] args)
    {
        var (output, error) = (new StringWriter(), new StringWriter());
        var code = await App.RunAsync(args, output, error);
        return (code, output.ToString(), error.ToString());
    }
}
