using System.Text.Json;
using Panoptes.Imaging;
using Panoptes.Understanding.Tests;

namespace Panoptes.Cli.Tests.Commands;

/// <summary>Conditions by command.</summary>
public sealed class ConditionCommandTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public ConditionCommandTests()
    {
        var photo = new Image(64, 48, 3);
        for (var y = 10; y < 40; y++) photo.Pixels.AsSpan(3 * ((y * 64) + 20), 3 * 25).Fill(200);
        photo.Save(folder["a.png"]);
        photo.Save(folder["b.png"]);
        var depth = new Image(64, 48, 1);
        for (var i = 0; i < depth.Pixels.Length; i++) depth.Pixels[i] = (byte)(i % 64 * 4);
        depth.Save(folder["depth.png"]);
    }

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task Several_kinds_of_several_images_go_into_a_folder_and_on_a_sheet()
    {
        var json = (await Command.Succeeds("condition", folder["a.png"], folder["b.png"], "--kind", "canny,scribble", "-k", "lineart", "--out", folder["c"], "--sheet", folder["s.png"], "--json")).Json;
        Assert.Equal(6, Directory.GetFiles(folder["c"]).Length);
        var canny = json[1].GetProperty("pictures").GetProperty("canny").GetString()!;
        Assert.Equal(Path.Combine(folder["c"], "b.canny.png"), canny);
        // The square's four sides, a pixel thick.
        Assert.InRange(Image.Load(canny).ToGray().Pixels.Count(static p => p == 255), 90, 115);
        Assert.InRange(Image.Load(folder["s.png"]).Width, 4 * 144, 900);
    }

    [Fact]
    public async Task A_picture_of_depth_gives_depth_and_normals_and_options_are_set()
    {
        await Command.Succeeds("condition", folder["a.png"], "--kind", "all", "--depth", folder["depth.png"], "--set", "normal.forward=1000", "--set", "canny.low=300", "--set", "canny.high=400");
        Assert.Equal([255, 251, 247], Image.Load(folder["a.depth.png"]).ToGray().Pixels[..3]);
        var facing = Image.Load(folder["a.normal.png"]).Pixels.AsSpan(3 * ((20 * 64) + 30), 3).ToArray();
        Assert.InRange(facing[0], 126, 128);
        Assert.Equal(12 - 2, Directory.GetFiles(folder.Path, "a.*.png").Length);                     // all kinds but pose and segmentation
    }

    [Fact]
    public async Task A_segmenter_and_keypoints_are_asked_about_the_image_as_it_is_drawn()
    {
        double[] keypoints = [.. Enumerable.Range(0, 17).SelectMany(static k => new double[] { 2 + (3 * k), 5 + (2 * k), 2 })];
        File.WriteAllText(folder["people.json"], JsonSerializer.Serialize(new
        {
            images = new[] { new { id = 4, file_name = "a.png", width = 64, height = 48 } },
            categories = new[] { new { id = 1, name = "person" } },
            annotations = new[] { new { id = 1, image_id = 4, category_id = 1, keypoints, bbox = new[] { 0, 0, 64, 48 }, area = 100, iscrowd = 0 } },
        }));
        TinyFolders.Segmenter(folder["segmenter"], "Mask2FormerForUniversalSegmentation");
        var json = (await Command.Succeeds("condition", folder["a.png"], "--kind", "pose,segmentation", "--poses", folder["people.json"], "--segmenter", folder["segmenter"], "--resolution", "64", "--out", folder["c"], "--json")).Json[0].GetProperty("pictures");
        var pose = Image.Load(json.GetProperty("pose").GetString()!);
        Assert.Equal((64, 64), (pose.Width, pose.Height));
        // The nose, at (2, 5) of 48 rows that became 64.
        Assert.Equal(new byte[] { 255, 0, 0 }, pose.Pixels.AsSpan(3 * ((7 * 64) + 2), 3).ToArray());
        Assert.Equal(64, Image.Load(json.GetProperty("segmentation").GetString()!).Height);
        await Command.Fails(["condition", folder["b.png"], "--kind", "pose", "--poses", folder["people.json"]], "know no image b.png");
    }

    [Fact]
    public async Task Names_are_told_apart_by_the_bundled_segmenter_where_no_other_is_named()
    {
        string[] words = ["--text", "cat", "--text", "red apple"];
        await Command.Succeeds(["condition", folder["a.png"], "--kind", "all", .. words, "--out", folder["all"]]);
        await Command.Succeeds(["condition", folder["a.png"], "--kind", "segmentation", "--segmenter", "zoo/xdecoder-emoji", .. words, "--out", folder["named.png"]]);
        Assert.Equal(File.ReadAllBytes(folder["named.png"]), File.ReadAllBytes(Path.Combine(folder["all"], "a.segmentation.png")));
    }

    [Fact]
    public async Task A_model_tells_depth()
    {
        TinyFolders.Trained(folder["unified"], "UnifiedIO");
        var json = (await Command.Succeeds("condition", folder["a.png"], "--kind", "depth,normal", "--depth", folder["unified"], "--json")).Json[0].GetProperty("pictures");
        Assert.Equal((64, 48, 3), Image.Load(json.GetProperty("normal").GetString()!) is var normal ? (normal.Width, normal.Height, normal.Channels) : default);
    }

    [Fact]
    public async Task What_does_not_fit_is_told_in_one_sentence_and_nothing_is_written()
    {
        foreach (var (args, part) in new (string[], string)[]
        {
            (["-k", "cany"], "There is no condition 'cany'"), (["-k", "depth"], "expected --depth"), (["-k", "pose"], "expected --poses"), (["-k", "segmentation,canny"], "expected --segmenter"),
            (["-k", "canny", "--set", "low=3"], "expected KIND.OPTION=VALUE"), (["-k", "canny", "--set", "lines.shortest=3"], "which is not made"), (["-k", "canny,lines", "--out", folder["x.png"]], "expected a folder"),
            ([folder["b.png"], "-k", "canny"], "expected a folder"), ([folder["b.png"], "-k", "depth", "--depth", folder["depth.png"], "--out", folder["x"]], "several images"),
        })
        {
            var wrong = await Command.Run(["condition", folder["a.png"], .. args]);
            Assert.Equal((App.WrongUsage, ""), (wrong.Code, wrong.Output));
            Assert.Contains(part, wrong.Error, StringComparison.Ordinal);
        }
        await Command.Fails(["condition", folder["a.png"], "-k", "canny", "--set", "canny.low=much"], "expected a number");
        await Command.Fails(["condition", folder["a.png"], "-k", "canny", "--set", "canny.aperture=4"], "expected 3, 5 or 7");
        Assert.Equal(3, Directory.GetFiles(folder.Path).Length);
    }
}
