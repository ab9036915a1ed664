using System.Text.Json;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Understanding.Tests;

namespace Panoptes.Cli.Tests.Commands;

/// <summary>Boxes and words about pictures, with tiny models of random weights.</summary>
public sealed class DetectCommandTests : IDisposable
{
    const string Owl = "OwlViTForObjectDetection", Dino = "GroundingDinoForObjectDetection", Detr = "DetrForObjectDetection";

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-detect-").FullName;

    public DetectCommandTests()
    {
        foreach (var (name, seed) in ((string, int)[])[("photo.png", 1), ("other.png", 2)])
        {
            var photo = new Image(40, 30, 3);
            new Random(seed).NextBytes(photo.Pixels);
            photo.Save(In(name));
        }
        var mask = new Image(40, 30, 1);
        for (var y = 5; y < 15; y++)
            for (var x = 8; x < 30; x++) mask.Pixels[y * 40 + x] = 255;
        mask.Save(In("mask.png"));
    }

    string In(string name) => Path.Combine(folder, name);

    public void Dispose() => Directory.Delete(folder, recursive: true);

    string Model(string architecture)
    {
        TinyFolders.Detector(In(architecture), architecture);
        return In(architecture);
    }

    static void AllInside(IEnumerable<JsonElement> boxes) => Assert.All(boxes, static b =>
    {
        double[] box = [.. b.GetProperty("box").EnumerateArray().Select(static n => n.GetDouble())];
        Assert.True(box[0] >= 0 && box[1] >= 0 && box[2] >= 0 && box[3] >= 0 && box[0] + box[2] <= 40.01 && box[1] + box[3] <= 30.01, b.ToString());
        Assert.InRange(b.GetProperty("score").GetDouble(), 0, 1);
    });

    [Theory]
    [InlineData(Detr)]
    [InlineData(Owl, "a cat", "dog")]
    [InlineData(Dino, "a cat", "red dog")]
    public async Task Boxes_of_many_images_become_pictures_in_a_folder_JSON_and_COCOs_annotations_that_agree(string architecture, params string[] texts)
    {
        string[] asked = [.. texts.SelectMany(static t => (string[])["--text", t])];
        var result = (await Command.Succeeds(["detect", In("photo.png"), In("other.png"), "--model", Model(architecture), "--threshold", "0", "--out", In("boxes"), "--coco", In("c.json"), "--json", .. asked])).Json.EnumerateArray().ToArray();
        Assert.Equal([In("photo.png"), In("other.png")], result.Select(static r => r.GetProperty("image").GetString()));
        var coco = CocoFile.Load(In("c.json"));
        for (var i = 0; i < 2; i++)
        {
            Assert.True(Image.Load(result[i].GetProperty("picture").GetString()!).Width >= 40);
            var found = result[i].GetProperty("detections").EnumerateArray().ToArray();
            Assert.NotEmpty(found);
            AllInside(found);
            var written = coco.Annotations.Where(a => a.Image == i + 1).ToArray();
            Assert.Equal(found.Select(static d => d.GetProperty("label").GetString()), written.Select(a => coco.Categories.Single(c => c.Id == a.Category).Name));
            Assert.Equal(found.Select(static d => d.GetProperty("box")[2].GetDouble()), written.Select(static a => Math.Round(a.Box!.Width, 2)), (a, b) => Math.Abs(a - b) < 0.02);
        }
        // What could have been found is listed even where it was not.
        Assert.Equal(texts.Length > 0 ? texts : ["LABEL_0", "LABEL_1", "LABEL_2"], coco.Categories.Select(static c => c.Name));
    }

    [Fact]
    public async Task One_image_has_its_picture_beside_it_and_a_table_and_several_have_none_unasked()
    {
        var model = Model(Detr);
        var table = await Command.Succeeds("detect", In("photo.png"), "--model", model, "--threshold", "0");
        Assert.True(File.Exists(In("photo.boxes.png")));
        Assert.Contains("LABEL_", table.Output, StringComparison.Ordinal);
        Assert.Contains("photo.boxes.png", table.Error, StringComparison.Ordinal);
        var none = await Command.Succeeds("detect", In("photo.png"), In("other.png"), "--model", model, "--threshold", "1");
        Assert.Contains("Nothing was found in 2 of 2 images.", none.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(In("other.boxes.png")));
        // Some of its classes alone; fewer boxes where they must not overlap.
        var some = (await Command.Succeeds("detect", In("photo.png"), "--model", model, "--threshold", "0", "--text", "label_1", "--json")).Json[0].GetProperty("detections").EnumerateArray();
        Assert.All(some, static d => Assert.Equal("LABEL_1", d.GetProperty("label").GetString()));
    }

    [Fact]
    public async Task What_is_like_a_thing_in_another_image_is_found_with_and_without_its_mask()
    {
        var model = Model(Owl);
        foreach (var like in (string[])[In("other.png"), $"{In("other.png")}:{In("mask.png")}"])
        {
            var found = (await Command.Succeeds("detect", In("photo.png"), "--model", model, "--like", like, "--threshold", "0", "--json")).Json[0].GetProperty("detections").EnumerateArray().ToArray();
            AllInside(found);
            Assert.Equal(("other", 1), (found[0].GetProperty("label").GetString()!, Math.Round(found[0].GetProperty("score").GetDouble(), 2)));
        }
        await Command.Fails(["detect", In("photo.png"), "--model", model, "--like", $"{In("other.png")}:{Mask(10, 10)}"], "has 10 x 10 pixels; expected the image's 40 x 30");
        await Command.Fails(["detect", In("photo.png"), "--model", Model(Detr), "--like", In("other.png")], "takes no example");
    }

    string Mask(int width, int height)
    {
        var mask = new Image(width, height, 1);
        mask.Pixels.AsSpan().Fill(255);
        mask.Save(In("small.png"));
        return In("small.png");
    }

    [Fact]
    public async Task A_caption_is_bound_to_boxes_word_by_word_by_a_Grounding_DINO_and_as_a_whole_by_an_OWL_ViT()
    {
        const string caption = "A red cat, a dog.";
        var result = (await Command.Succeeds("ground", In("photo.png"), caption, "dog", "--model", Model(Dino), "--threshold", "0.1", "--out", In("g.png"), "--json")).Json;
        var texts = result.GetProperty("texts").EnumerateArray().ToArray();
        Assert.Equal([caption, "dog"], texts.Select(static t => t.GetProperty("text").GetString()));
        Assert.True(File.Exists(In("g.png")));
        foreach (var text in texts)
        {
            var (read, boxes) = (text.GetProperty("text").GetString()!, text.GetProperty("boxes").EnumerateArray().ToArray());
            Assert.NotEmpty(boxes);
            AllInside(boxes);
            Assert.All(boxes, b =>
            {
                var words = b.GetProperty("words").GetString()!;
                Assert.Equal(words, read[b.GetProperty("start").GetInt32()..b.GetProperty("end").GetInt32()]);
                Assert.Matches("^(A|red|cat|a|dog)( (red|cat|dog))*$", words);
            });
        }
        var whole = (await Command.Succeeds("ground", In("photo.png"), "a cat", "--model", Model(Owl), "--threshold", "0", "--json")).Json.GetProperty("texts")[0].GetProperty("boxes").EnumerateArray();
        Assert.All(whole, static b => Assert.Equal(("a cat", 0, 5), (b.GetProperty("words").GetString(), b.GetProperty("start").GetInt32(), b.GetProperty("end").GetInt32())));
        Assert.True(File.Exists(In("photo.grounded.png")));
    }

    [Fact]
    public async Task Florence_and_Kosmos_detect_ground_and_caption()
    {
        string florence = In("florence"), kosmos = In("kosmos");
        foreach (var path in (string[])[florence, kosmos]) Directory.CreateDirectory(path);
        TinyFolders.Florence(florence);
        TinyFolders.Kosmos(kosmos);
        // A search of thirty tokens, as untrained models never end.
        foreach (var path in (string[])[florence, kosmos]) File.WriteAllText(Path.Combine(path, "generation_config.json"), """{"max_new_tokens": 30, "num_beams": 1}""");
        foreach (var (model, args) in ((string, string[])[])[(florence, ["detect", In("photo.png")]), (florence, ["detect", In("photo.png"), "--text", "cat"]), (kosmos, ["detect", In("photo.png"), "--text", "red apple"])])
            AllInside((await Command.Succeeds([.. args, "--model", model, "--json"])).Json[0].GetProperty("detections").EnumerateArray());
        foreach (var model in (string[])[florence, kosmos])
            foreach (var b in (await Command.Succeeds("ground", In("photo.png"), "the red apple left of the cat", "--model", model, "--json")).Json.GetProperty("texts")[0].GetProperty("boxes").EnumerateArray())
                AllInside([b]);
        var captions = (await Command.Succeeds("caption", In("photo.png"), In("other.png"), "--model", florence, "--detail", "paragraph", "--max-tokens", "8", "--json")).Json.EnumerateArray();
        Assert.All(captions, static c => Assert.NotNull(c.GetProperty("caption").GetString()));
        var grounded = (await Command.Succeeds("caption", In("photo.png"), "--model", kosmos, "--detail", "detailed", "--beams", "2", "--out", In("k.png"), "--json")).Json[0];
        Assert.StartsWith("describe", grounded.GetProperty("caption").GetString(), StringComparison.OrdinalIgnoreCase);
        Assert.Equal(JsonValueKind.Array, grounded.GetProperty("phrases").ValueKind);
        Assert.True(File.Exists(In("k.png")));
        Assert.Contains("an image of", (await Command.Succeeds("caption", In("photo.png"), "--model", kosmos)).Output, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(App.WrongUsage, (await Command.Run("caption", In("photo.png"), "--model", kosmos, "--detail", "paragraph")).Code);
        Assert.Equal(App.WrongUsage, (await Command.Run("caption", In("photo.png"), "--model", florence, "--out", In("f.png"))).Code);
        Assert.Equal(App.WrongUsage, (await Command.Run("detect", In("photo.png"), "--model", kosmos)).Code);
    }

    [Fact]
    public async Task Models_that_recipes_train_to_write_sequences_detect_ground_and_caption()
    {
        string unitab = In("unitab"), pix2seq = In("pix2seq");
        TinyFolders.Trained(unitab, "UniTAB");
        TinyFolders.Trained(pix2seq, "Pix2SeqV2");
        var found = (await Command.Succeeds("detect", In("photo.png"), "--model", pix2seq, "--threshold", "0", "--coco", In("c.json"), "--json")).Json[0].GetProperty("detections").EnumerateArray().ToArray();
        Assert.NotEmpty(found);
        AllInside(found);
        // Boxes that overlap at all: one of each label is left, the surest.
        var apart = (await Command.Succeeds("detect", In("photo.png"), "--model", pix2seq, "--threshold", "0", "--overlap", "0", "--json")).Json[0].GetProperty("detections").EnumerateArray().ToArray();
        Assert.InRange(apart.Length, 1, found.Length);
        Assert.Equal(found[0].GetRawText(), apart[0].GetRawText());
        Assert.Equal(["cat", "dog"], CocoFile.Load(In("c.json")).Categories.Select(static c => c.Name));
        Assert.All((await Command.Succeeds("detect", In("photo.png"), "--model", pix2seq, "--threshold", "0", "--text", "Dog", "--json")).Json[0].GetProperty("detections").EnumerateArray(), static d => Assert.Equal("dog", d.GetProperty("label").GetString()));
        await Command.Fails(["detect", In("photo.png"), "--model", pix2seq, "--text", "mouse"], "does not know \"mouse\"; it finds cat, dog.");
        AllInside((await Command.Succeeds("ground", In("photo.png"), "a red cat", "--model", unitab, "--json")).Json.GetProperty("texts")[0].GetProperty("boxes").EnumerateArray());
        var caption = (await Command.Succeeds("caption", In("photo.png"), "--model", unitab, "--max-tokens", "20", "--beams", "2", "--out", In("u.png"), "--json")).Json[0];
        Assert.All(caption.GetProperty("phrases").EnumerateArray(), p => Assert.Equal(p.GetProperty("text").GetString(), caption.GetProperty("caption").GetString()![p.GetProperty("start").GetInt32()..p.GetProperty("end").GetInt32()]));
        Assert.True(File.Exists(In("u.png")));
        Assert.NotNull((await Command.Succeeds("caption", In("photo.png"), "--model", pix2seq, "--json")).Json[0].GetProperty("caption").GetString());
    }

    [Theory]
    [InlineData(XDecoderTiny.XDecoder)]
    [InlineData(XDecoderTiny.Uni)]
    public async Task A_generalist_captions_as_well_and_segments_what_is_named(string architecture)
    {
        TinyFolders.Decoder(In("decoder"), architecture);
        Assert.NotNull((await Command.Succeeds("caption", In("photo.png"), "--model", In("decoder"), "--json")).Json[0].GetProperty("caption").GetString());
        var named = (await Command.Succeeds("segment", In("photo.png"), "--model", In("decoder"), "--text", "a cat", "--text", "dog", "--panoptic", "--coco", In("p.json"), "--json")).Json.GetProperty("segments").EnumerateArray();
        Assert.All(named, static s => Assert.Contains(s.GetProperty("label").GetString(), (string[])["a cat", "dog"]));
        Assert.True(File.Exists(In("p.json")));
        await Command.Fails(["segment", In("photo.png"), "--model", In("decoder"), "--point", "3,3"], "takes no points");
        // Boxes around its segments, for users and for a SAM.
        AllInside((await Command.Succeeds("detect", In("photo.png"), In("other.png"), "--model", In("decoder"), "--text", "a cat", "--text", "dog", "--json")).Json[0].GetProperty("detections").EnumerateArray());
        AllInside((await Command.Succeeds("ground", In("photo.png"), "the red cat", "--model", In("decoder"), "--json")).Json.GetProperty("texts")[0].GetProperty("boxes").EnumerateArray());
        Assert.Equal(App.WrongUsage, (await Command.Run("detect", In("photo.png"), "--model", In("decoder"))).Code);
        var cut = (await Command.Succeeds("segment", In("photo.png"), "--model", Path.Combine(Panoptes.Parity.Goldens.Root, "segmentation", "sam-points"), "--detector", In("decoder"), "--text", "a cat", "--json")).Json.GetProperty("segments").EnumerateArray();
        Assert.All(cut, static s => Assert.Equal("a cat", s.GetProperty("label").GetString()));
    }

    [Fact]
    public async Task A_VisionLLM_and_a_Unified_IO_detect_ground_caption_and_answer_and_the_second_paints()
    {
        string vision = In("vision"), unified = In("unified");
        TinyFolders.Trained(vision, "VisionLLM");
        TinyFolders.Trained(unified, "UnifiedIO");
        foreach (var model in (string[])[vision, unified])
        {
            AllInside((await Command.Succeeds("detect", In("photo.png"), "--model", model, "--text", "cat", "--text", "dog", "--json")).Json[0].GetProperty("detections").EnumerateArray());
            AllInside((await Command.Succeeds("ground", In("photo.png"), "a red cat", "--model", model, "--json")).Json.GetProperty("texts")[0].GetProperty("boxes").EnumerateArray());
            Assert.NotNull((await Command.Succeeds("caption", In("photo.png"), "--model", model, "--max-tokens", "5", "--json")).Json[0].GetProperty("caption").GetString());
            var answers = (await Command.Succeeds("answer", "what is it?", In("photo.png"), "--model", model, "--json")).Json[0].GetProperty("answers");
            Assert.InRange(answers[0].GetProperty("probability").GetDouble(), 0, 1);
            Assert.Equal(App.WrongUsage, (await Command.Run("answer", "what is it?", In("photo.png"), "--model", model, "--top", "2")).Code);
        }
        Assert.Equal(App.WrongUsage, (await Command.Run("detect", In("photo.png"), "--model", vision)).Code);
        AllInside((await Command.Succeeds("detect", In("photo.png"), "--model", unified, "--json")).Json[0].GetProperty("detections").EnumerateArray());
        Assert.All((await Command.Succeeds("segment", In("photo.png"), "--model", unified, "--text", "cat", "--text", "dog", "--out", In("s.png"), "--json")).Json.GetProperty("segments").EnumerateArray(), static s => Assert.Contains(s.GetProperty("label").GetString(), (string[])["cat", "dog"]));
        await Command.Succeeds("depth", In("photo.png"), "--model", unified, "--out", In("depth.png"));
        var (depth, photo) = (Image.Load(In("depth.png")), Image.Load(In("photo.png")));
        Assert.Equal((photo.Width, photo.Height), (depth.Width, depth.Height));
        await Command.Fails(["depth", In("photo.png"), "--model", vision], "a VisionLlmModel, which tells no depth; expected a Unified-IO.");
        await Command.Fails(["answer", "what?", In("photo.png"), "--model", Model(Owl)], "which answers no questions");
        Assert.Equal(App.WrongUsage, (await Command.Run("depth", In("photo.png"), In("photo.png"), "--model", unified)).Code);
    }

    [Theory]
    [InlineData("detect photo.png", "--text or, for an OWL-ViT, --like")]
    [InlineData("detect photo.png --text cat --threshold 2", "--threshold is 2; expected 0 to 1.")]
    [InlineData("detect photo.png other.png --text cat --out o.png", "there are 2 images; expected a folder")]
    [InlineData("detect photo.png photo.png --text cat --out o", "Two of the images would have the picture")]
    [InlineData("detect photo.png --like nothing", "The example 'nothing' is none")]
    [InlineData("ground photo.png")]
    public async Task Wrong_usage_is_said_in_one_sentence(string line, string part = "")
    {
        var result = await Command.Run([.. line.Split(' ').Select(w => w is "photo.png" or "other.png" or "o.png" or "o" ? In(w) : w), "--model", Model(Owl)]);
        Assert.Equal(App.WrongUsage, result.Code);
        Assert.Contains(part, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_cannot_be_looked_for_or_is_no_detector_fails_with_one_sentence()
    {
        await Command.Fails(["detect", In("photo.png"), "--model", Model(Owl), "--text", " "], "A text is empty");
        await Command.Fails(["ground", In("photo.png"), " ", "--model", Model(Dino)], "The text prompt is empty");
        await Command.Fails(["ground", In("photo.png"), ". .", "--model", Model(Dino)], "has no word");
        await Command.Fails(["ground", In("photo.png"), string.Join(' ', Enumerable.Repeat("cat", 20)), "--model", Model(Dino)], "has 23 tokens; the model takes at most 16");
        await Command.Fails(["detect", In("photo.png"), "--model", Path.Combine(Panoptes.Parity.Goldens.Repository, "zoo", "clip-emoji"), "--text", "cat"], "expected a DETR");
        await Command.Fails(["detect", In("photo.png"), "--model", Path.Combine(Panoptes.Parity.Goldens.Root, "segmentation", "sam-points"), "--text", "cat"], "draws no boxes");
        await Command.Fails(["detect", In("nowhere.png"), "--model", Model(Detr)], "does not exist");
        await Command.Fails(["detect", In("photo.png"), "--model", Model(Detr), "--text", "cat"], "does not know \"cat\"");
    }
}
