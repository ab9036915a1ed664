using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Parity;

namespace Panoptes.Cli.Tests.Commands;

/// <summary>Segmenting and talking with a tiny SAM of random weights.</summary>
public sealed class SegmentCommandTests : IDisposable
{
    static readonly string Model = Path.Combine(Goldens.Root, "segmentation", "sam-points");

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-segment-").FullName;

    public SegmentCommandTests()
    {
        var photo = new Image(40, 30, 3);
        for (var i = 0; i < photo.Pixels.Length; i++) photo.Pixels[i] = (byte)(i * 7 % 251);
        photo.Save(In("photo.png"));
        var stroke = new Image(40, 30, 1);
        for (var x = 5; x < 20; x++) stroke.Pixels[(12 * 40) + x] = 255;
        stroke.Save(In("stroke.png"));
    }

    string In(string name) => Path.Combine(folder, name);

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public async Task Clicks_and_boxes_give_a_picture_a_label_map_and_COCOs_annotations_that_agree()
    {
        var result = (await Command.Succeeds("segment", In("photo.png"), "--model", Model, "--box", "2,3,20,25", "--box", "15,5,39,29", "--point", "30,20,-", "--out", In("o.png"), "--labels-png", In("l.png"), "--coco", In("c.json"), "--json")).Json;
        var segments = result.GetProperty("segments").EnumerateArray().ToArray();
        Assert.Equal(2, segments.Length);
        Assert.True(Image.Load(In("o.png")).Width >= 40);
        Assert.Equal((40, 30), (Image.Load(In("l.png")).Width, Image.Load(In("l.png")).Height));
        var coco = CocoFile.Load(In("c.json"));
        Assert.Equal(segments.Select(static s => s.GetProperty("counts").GetString()), coco.Annotations.Select(static a => a.Segmentation!.Runs!.Counts));
        Assert.All(segments, static s => Assert.Equal(s.GetProperty("area").GetInt64(), RunLengthMask.Parse(s.GetProperty("counts").GetString()!, 30, 40).Area));
    }

    [Fact]
    public async Task Every_reading_of_a_click_is_shown_on_demand_and_scribbles_and_masks_are_read_from_images()
    {
        var all = (await Command.Succeeds("segment", In("photo.png"), "--model", Model, "--point", "10,10", "--all-masks", "--out", In("o.png"), "--json")).Json.GetProperty("segments");
        Assert.Equal(3, all.GetArrayLength());
        var drawn = (await Command.Succeeds("segment", In("photo.png"), "--model", Model, "--scribble", In("stroke.png"), "--mask", In("stroke.png"), "--out", In("o.png"), "--json")).Json.GetProperty("segments");
        Assert.Equal(1, drawn.GetArrayLength());
    }

    [Theory]
    [InlineData("--point 50,10", "outside the image")]
    [InlineData("--box 10,10,10,20", "empty")]
    [InlineData("--mask photo40.png", "40 x 40")]
    [InlineData("--text cat", "takes no texts; it takes points")]
    public async Task A_prompt_that_does_not_fit_the_image_fails_with_one_sentence_and_writes_nothing(string prompt, string part)
    {
        new Image(40, 40, 1).Save(In("photo40.png"));
        await Command.Fails(["segment", In("photo.png"), "--model", Model, "--out", In("o.png"), .. prompt.Replace("photo40.png", In("photo40.png"), StringComparison.Ordinal).Split(' ')], part);
        Assert.False(File.Exists(In("o.png")));
    }

    [Theory]
    [InlineData("--point ten,10", "The point 'ten,10' is none")]
    [InlineData("--box 1,2,3", "The box '1,2,3' is none")]
    [InlineData("--everything --point 1,1", "--everything does not go with prompts")]
    [InlineData("--json", "Nothing was pointed at")]
    [InlineData("--box 1,1,5,5 --box 6,6,9,9 --point 20,20", "in none of the boxes")]
    public async Task Prompts_that_are_none_are_wrong_usage(string prompt, string part)
    {
        var result = await Command.Run(["segment", In("photo.png"), "--model", Model, .. prompt.Split(' ')]);
        Assert.Equal(App.WrongUsage, result.Code);
        Assert.Contains(part, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_model_that_reads_words_segments_what_is_named_and_refuses_places()
    {
        var zoo = Path.Combine(Goldens.Repository, "zoo", "clip-emoji");
        var named = (await Command.Succeeds("segment", In("photo.png"), "--model", zoo, "--text", "a cat", "--text", "an apple", "--out", In("o.png"), "--json")).Json.GetProperty("segments").EnumerateArray();
        Assert.All(named, static s => Assert.Contains(s.GetProperty("label").GetString(), (string[])["a cat", "an apple"]));
        Assert.True(File.Exists(In("o.png")));
        await Command.Fails(["segment", In("photo.png"), "--model", zoo, "--point", "5,5"], "takes no points; it takes texts");
        await Command.Fails(["segment", In("photo.png"), "--model", zoo, "--everything"], "does not find everything");
    }

    [Fact]
    public async Task A_talk_is_remembered_in_its_file_and_gone_on_with()
    {
        string[] talk = ["session", "--model", Model, "--session", In("t.session"), "--json"];
        var first = (await Command.Succeeds([.. talk, In("photo.png"), "--say", "point 10,10", "--say", "call it Tom", "--say", "jabberwocky!", "--out", In("o.png")])).Json.EnumerateArray().ToArray();
        Assert.Equal([true, true, false], first.Select(static t => t.GetProperty("understood").GetBoolean()));
        Assert.Equal(1, first[0].GetProperty("selected").GetArrayLength());
        Assert.True(File.Exists(In("o.png")));
        var second = (await Command.Succeeds([.. talk, "--say", "clear", "--say", "Tom"])).Json.EnumerateArray().ToArray();
        Assert.Equal(0, second[0].GetProperty("selected").GetArrayLength());
        Assert.Equal(first[0].GetProperty("selected")[0].GetProperty("counts").GetString(), second[1].GetProperty("selected")[0].GetProperty("counts").GetString());
    }
}
