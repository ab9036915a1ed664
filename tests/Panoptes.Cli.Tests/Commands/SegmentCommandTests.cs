using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Parity;
using Panoptes.Representation.Training;
using Panoptes.Understanding.Tests;
using Panoptes.Understanding.Training;

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
    [InlineData("--point 1,1 --threshold 0.5", "--threshold is for the boxes of --detector")]
    [InlineData("--point 1,1 --min-region 5", "--min-region goes with --everything")]
    [InlineData("--everything --min-region 0", "--min-region is 0")]
    [InlineData("--point 1,1 --grid 5", "--grid goes with --everything")]
    [InlineData("--everything --grid 0", "--grid is 0")]
    [InlineData("--everything --min-iou 1.5", "--min-iou is 1.5; expected 0 to 1")]
    [InlineData("--point 1,1 --min-stability 0.5", "--min-stability goes with --everything")]
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
    public async Task Bundled_models_answer_where_none_is_named()
    {
        var usual = new SceneOptions();
        var scene = new SceneTests(EmojiSet.Open().Subset(300), usual with { Size = 128, MinObjects = 2, MaxObjects = 2, Scale = new(0.4f, 0.6f) }, 1).Scenes(EmojiSplit.HeldOutStyle)[0];
        scene.Image.Save(In("scene.png"));
        var (thing, name) = (scene.Objects[0].Box, scene.Objects[0].Name);
        var segments = (await Command.Succeeds("segment", In("scene.png"), "--box", $"{thing.X},{thing.Y},{thing.Right},{thing.Bottom}", "--json")).Json.GetProperty("segments").EnumerateArray();
        var box = Assert.Single(segments).GetProperty("box").EnumerateArray().Select(static v => v.GetInt32()).ToArray();
        Assert.InRange(box[2] * box[3], thing.Area / 2, thing.Area * 2);
        Assert.NotEmpty((await Command.Succeeds("segment", In("scene.png"), "--everything", "--json")).Json.GetProperty("segments").EnumerateArray());
        Assert.All((await Command.Succeeds("segment", In("scene.png"), "--text", name, "--json")).Json.GetProperty("segments").EnumerateArray(), s => Assert.Equal(name, s.GetProperty("label").GetString()));
        Assert.NotEqual("", (await Command.Succeeds("caption", In("scene.png"), "--json")).Json[0].GetProperty("caption").GetString());
        Assert.NotEmpty((await Command.Succeeds("detect", In("scene.png"), "--text", name, "--json")).Json[0].GetProperty("detections").EnumerateArray());
        Assert.NotEmpty((await Command.Succeeds("ground", In("scene.png"), $"the {name}", "--json")).Json.GetProperty("texts")[0].GetProperty("boxes").EnumerateArray());
        Assert.Contains("selected", (await Command.Succeeds("session", In("scene.png"), "--say", $"point {thing.CenterX:0},{thing.CenterY:0}", "--say", "show")).Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("OwlViTForObjectDetection")]
    [InlineData("GroundingDinoForObjectDetection")]
    public async Task A_SAM_reads_words_where_a_detector_finds_their_boxes_alone_and_with_places(string architecture)
    {
        TinyFolders.Detector(In("detector"), architecture);
        string[] line = ["segment", In("photo.png"), "--model", Model, "--detector", In("detector"), "--threshold", "0", "--out", In("o.png"), "--json"];
        var named = (await Command.Succeeds([.. line, "--text", "a cat", "--text", "dog"])).Json.GetProperty("segments").EnumerateArray().ToArray();
        Assert.NotEmpty(named);
        Assert.All(named, static s => Assert.Contains(s.GetProperty("label").GetString(), (string[])["a cat", "dog"]));
        Assert.Equal(named.Select(static s => s.GetProperty("score").GetDouble()).OrderDescending(), named.Select(static s => s.GetProperty("score").GetDouble()));
        // A click names the one box that it is in; what is drawn around stays as drawn.
        Assert.InRange((await Command.Succeeds([.. line, "--text", "a cat", "--point", "20,15", "--point", "1,1,-"])).Json.GetProperty("segments").GetArrayLength(), 0, 1);
        Assert.InRange((await Command.Succeeds([.. line, "--text", "a cat", "--box", "2,3,20,25", "--box", "15,5,39,29"])).Json.GetProperty("segments").GetArrayLength(), 0, 2);
        Assert.Equal(1, (await Command.Succeeds([.. line, "--point", "20,15"])).Json.GetProperty("segments").GetArrayLength());
        Assert.Contains("Nothing was found.", (await Command.Succeeds("segment", In("photo.png"), "--model", Model, "--detector", In("detector"), "--threshold", "1", "--out", In("o.png"), "--text", "a cat")).Error, StringComparison.Ordinal);
        await Command.Fails([.. line, "--text", " "], "The text prompt is empty");
        if (architecture.StartsWith("Owl", StringComparison.Ordinal)) Assert.NotEqual(0, (await Command.Succeeds([.. line, "--like", $"{In("photo.png")}:{In("stroke.png")}"])).Json.GetProperty("segments").GetArrayLength());
        else await Command.Fails([.. line, "--like", $"{In("photo.png")}:{In("stroke.png")}"], "takes no examples");
        await Command.Fails(["segment", In("photo.png"), "--model", Model, "--text", "a cat"], "takes no texts", "A model for --detector");
        await Command.Fails(["segment", In("photo.png"), "--model", In("detector"), "--detector", In("detector"), "--text", "a cat"], "finds the boxes for a SAM");
        await Command.Fails(["segment", In("photo.png"), "--model", Model, "--detector", Model, "--text", "a cat"], "draws no boxes");
    }

    [Theory]
    [InlineData("Mask2FormerForUniversalSegmentation", "sky")]
    [InlineData("OneFormerForUniversalSegmentation", "sky")]
    [InlineData("DetrForSegmentation", "sky")]
    [InlineData("BeitForSemanticSegmentation", "sky")]
    [InlineData("XDecoderModel", "a cat", "grass")]
    [InlineData("SeemModel", "a cat", "grass")]
    [InlineData("CLIP", "a cat", "grass")]
    public async Task Every_pixel_is_of_one_segment_in_COCOs_panoptic_format(string architecture, params string[] names)
    {
        var model = In("model");
        var own = architecture.Contains("Former", StringComparison.Ordinal) || architecture is "BeitForSemanticSegmentation" or "DetrForSegmentation";
        if (architecture == "CLIP") model = Path.Combine(Goldens.Repository, "zoo", "clip-emoji");
        else if (own) TinyFolders.Segmenter(model, architecture);
        else TinyFolders.Decoder(model, architecture);
        string[] words = [.. names.SelectMany(static n => (string[])["--text", n])];
        var result = (await Command.Succeeds(["segment", In("photo.png"), "--model", model, "--panoptic", "--json", .. own ? [] : words])).Json;
        Assert.Equal(In("photo.panoptic.json"), result.GetProperty("panoptic").GetString());
        Agrees(result, In("photo.panoptic.json"));
        // Its boxes are there as well.
        if (architecture == "DetrForSegmentation") Assert.NotEqual(0, (await Command.Succeeds("detect", In("photo.png"), "--model", model, "--threshold", "0", "--json")).Json[0].GetProperty("detections").GetArrayLength());
        var named = (await Command.Succeeds(["segment", In("photo.png"), "--model", model, "--panoptic", "--coco", In("named.json"), "--out", In("o.png"), "--json", .. words])).Json;
        Agrees(named, In("named.json"));
        Assert.All(named.GetProperty("segments").EnumerateArray(), s => Assert.Contains(s.GetProperty("label").GetString(), names));
        if (!own) await Command.Fails(["segment", In("photo.png"), "--model", model, "--panoptic"], "does not find everything by itself; it takes");
    }

    static void Agrees(System.Text.Json.JsonElement result, string path)
    {
        var file = PanopticFile.Load(path);
        var segments = result.GetProperty("segments").EnumerateArray().ToArray();
        var annotation = Assert.Single(file.Annotations);
        var ids = file.ReadIds(annotation, PanopticFile.FolderOf(path));
        Assert.Equal(40 * 30, ids.Length);
        Assert.Equal(segments.Sum(static s => s.GetProperty("area").GetInt64()), ids.LongCount(static i => i > 0));
        Assert.Equal(segments.Select(static s => s.GetProperty("area").GetInt64()).Order(), annotation.Segments.Select(static s => s.Area).Order());
        Assert.Equal(segments.Select(static s => s.GetProperty("label").GetString() ?? "object").Order(), annotation.Segments.Select(s => file.Categories.Single(c => c.Id == s.Category).Name).Order());
    }

    [Fact]
    public async Task An_image_of_one_pixel_is_answered_by_places_words_and_as_a_whole()
    {
        new Image(1, 1, 3).Save(In("dot.png"));
        TinyFolders.Detector(In("detector"), "OwlViTForObjectDetection");
        string[] line = ["segment", In("dot.png"), "--model", Model, "--out", In("o.png"), "--labels-png", In("l.png"), "--json"];
        foreach (var prompts in (string[][])[["--point", "0,0"], ["--point", "1,1", "--all-masks"], ["--box", "0,0,1,1"], ["--mask", In("dot.png")], ["--everything", "--panoptic", "--min-region", "3"], ["--detector", In("detector"), "--text", "a cat", "--threshold", "0"]])
        {
            var result = await Command.Run([.. line, .. prompts]);
            // A black mask is the one prompt that means nothing.
            if (prompts[0] == "--mask") Command.OneSentence(result.Error, "expected at least one pixel");
            else Assert.All(result.Json.GetProperty("segments").EnumerateArray(), static s => Assert.InRange(s.GetProperty("area").GetInt64(), 0, 1));
        }
        await Command.Fails([.. line, "--point", "1.5,0"], "outside the image; expected x from 0 to 1");
        await Command.Fails([.. line, "--mask", In("stroke.png")], "has 40 x 30 pixels; expected the image's 1 x 1");
    }

    [Fact]
    public async Task A_hundred_megapixels_are_segmented()
    {
        new Image(12_500, 8_000, 1).Save(In("large.png"));
        var segment = (await Command.Succeeds("segment", In("large.png"), "--model", Model, "--box", "1000,2000,9000,7500", "--out", In("o.jpg"), "--json")).Json.GetProperty("segments")[0];
        Assert.Equal([8_000, 12_500], segment.GetProperty("size").EnumerateArray().Select(static n => n.GetInt32()));
    }

    [Fact]
    public async Task A_SAMs_answers_become_a_panoptic_map_without_names()
    {
        var result = (await Command.Succeeds("segment", In("photo.png"), "--model", Model, "--box", "2,3,20,25", "--box", "15,5,39,29", "--panoptic", "--out", In("o.png"), "--json")).Json;
        Assert.Equal(2, result.GetProperty("segments").GetArrayLength());
        var file = PanopticFile.Load(In("photo.panoptic.json"));
        Assert.Equal("object", Assert.Single(file.Categories).Name);
        Assert.InRange(file.Annotations[0].Segments.Count, 1, 2);
    }

    [Fact]
    public async Task Several_names_are_asked_one_by_one_of_a_model_that_reads_one_at_a_time()
    {
        TinyFolders.Decoder(In("model"), "SeemModel");
        var both = (await Command.Succeeds("segment", In("photo.png"), "--model", In("model"), "--text", "a cat", "--text", "an apple", "--point", "20,15", "--out", In("o.png"), "--json")).Json.GetProperty("segments").EnumerateArray();
        Assert.All(both, static s => Assert.Contains(s.GetProperty("label").GetString(), (string[])["a cat", "an apple"]));
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
