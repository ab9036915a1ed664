using Panoptes.Parity;

namespace Panoptes.Cli.Tests.Commands;

/// <summary>A tiny generator, trained for two steps, whose images are measured.</summary>
public sealed class EvaluateImagesCommandTests : IDisposable
{
    static readonly string Zoo = Path.Combine(Goldens.Repository, "zoo");

    readonly TemporaryFolder folder = new();

    public EvaluateImagesCommandTests() => File.WriteAllText(folder["tiny.yaml"], $$"""
        name: tiny
        task: {name: gan, measures: {judge: {{Path.Combine(Zoo, "clip-emoji")}} } }
        model:
          architecture: TextToImageGan
          config: {noise_size: 8, style_size: 16, block_out_channels: [16, 16, 8, 8], text_config: {vocab_size: 614, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 24, bos_token_id: 612, eos_token_id: 613} }
          tokenizer: {merges: {{Path.Combine(Goldens.Repository, "data", "tokenizers", "clip", "merges.txt")}}, count: 100}
        data: {concepts: 40, scenes: {size: 32, max_objects: 2}, batch_size: 3, tests: 0}
        schedule: {learning_rate: 0.002, steps: 2}
        """);

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task Images_of_a_trained_model_are_measured_to_the_same_numbers_again_and_drawn()
    {
        await Command.Succeeds("train", folder["tiny.yaml"], "--run", folder["run"], "--json");
        string[] command = ["evaluate-images", "--model", folder["run/last"], "--recipe", folder["tiny.yaml"], "--count", "6", "--judge", Path.Combine(Zoo, "clip-emoji"), "--detector", Path.Combine(Zoo, "xdecoder-emoji"), "--threads", "1", "--json"];
        var first = (await Command.Succeeds([.. command, "--sheet", folder["sheet.png"]])).Json;
        var (report, things, real) = (first.GetProperty("report"), first.GetProperty("things"), first.GetProperty("things_real"));
        Assert.Equal(6, report.GetProperty("images").GetInt32());
        Assert.InRange(report.GetProperty("frechet").GetDouble(), 1, 2048);                       // at most four times the numbers of an embedding
        Assert.InRange(report.GetProperty("clip_real").GetDouble(), 1, 100);
        Assert.InRange(things.GetProperty("found").GetDouble(), 0, 1);
        Assert.InRange(real.GetProperty("found").GetDouble(), things.GetProperty("found").GetDouble(), 1);
        Assert.True(File.Exists(folder["sheet.png"]));
        // Of other words come other images, which the captions judge as before.
        var told = (await Command.Succeeds([.. command, "--prompt", "an apple"])).Json;
        Assert.Equal(("an apple", report.GetProperty("clip_real").GetRawText()), (told.GetProperty("prompt").GetString(), told.GetProperty("report").GetProperty("clip_real").GetRawText()));
        Assert.NotEqual(report.GetProperty("frechet").GetRawText(), told.GetProperty("report").GetProperty("frechet").GetRawText());
        await Command.Fails([.. command, "--report", folder["tiny.yaml/report.json"]], "is no folder");
        Assert.Contains("expected 4 to 50,000", (await Command.Run("evaluate-images", "--model", "m", "--recipe", "r", "--count", "2000000000")).Error, StringComparison.Ordinal);
        Assert.Contains("which lead by the captions", (await Command.Run([.. command, "--prompt", "an apple", "--guide-text"])).Error, StringComparison.Ordinal);
        // It also makes images of one's own words, and says so where it cannot.
        await Command.Succeeds("generate", "an apple", "--model", folder["run/last"], "--seed", "3", "--count", "2", "--out", folder["images"], "--grid");
        Assert.Equal(2, Directory.GetFiles(folder["images"], "an-apple-*.png").Length);
        await Command.Succeeds("generate", "--from", Path.Combine(folder["images"], "an-apple-3.png"), "--out", folder["again.png"]);
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["images"], "an-apple-3.png")), File.ReadAllBytes(folder["again.png"]));
        await Command.Fails(["generate", "an apple", "--model", folder["run/last"], "--negative", "a cat", "--out", folder["other.png"]], "TextToImageGan makes images of words alone");
        await Command.Fails(["generate", "an apple", "--model", folder["run/last"], "--size", "64", "--out", folder["other.png"]], "32x32");
        Assert.Equal(report.GetRawText(), (await Command.Succeeds(command)).Json.GetProperty("report").GetRawText());
    }

    [Fact]
    public async Task Boxes_say_what_is_in_them_where_there_is_no_caption()
    {
        string[] command = ["evaluate-images", "--recipe", Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), "--prompt", "", "--boxes", "--share", "0.5", "--steps", "8", "--count", "16", "--judge", Path.Combine(Zoo, "clip-emoji"), "--detector", Path.Combine(Zoo, "xdecoder-emoji"), "--json"];
        foreach (var told in (string[][])[["--model", Path.Combine(Zoo, "gligen-emoji")], ["--model", Path.Combine(Zoo, "gligen-examples-emoji"), "--examples"]])
            Assert.InRange((await Command.Succeeds([.. command, .. told])).Json.GetProperty("things").GetProperty("found").GetDouble(), 0.5, 1);
    }

    [Theory]
    [InlineData("controlnet-lines-emoji", "canny")]
    [InlineData("controlnet-maps-emoji", "segmentation")]
    public async Task A_condition_says_what_it_shows_where_there_is_no_caption(string network, string kind)
    {
        string[] command = ["evaluate-images", "--model", Path.Combine(Zoo, "sd-emoji"), "--recipe", Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), "--prompt", "", "--controlnet", Path.Combine(Zoo, network), "--kind", kind, "--steps", "8", "--count", "16", "--judge", Path.Combine(Zoo, "clip-emoji"), "--detector", Path.Combine(Zoo, "xdecoder-emoji"), "--json"];
        Assert.InRange((await Command.Succeeds(command)).Json.GetProperty("things").GetProperty("found").GetDouble(), 0.5, 1);
    }

    [Fact]
    public async Task A_segmenter_leads_things_into_the_masks_of_their_scenes()
    {
        string[] command = ["evaluate-images", "--model", Path.Combine(Zoo, "sd-emoji"), "--recipe", Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), "--steps", "10", "--count", "8", "--seed", "9000", "--kind", "segmentation", "--judge", Path.Combine(Zoo, "clip-emoji"), "--detector", Path.Combine(Zoo, "xdecoder-emoji"), "--json"];
        async Task<double> Kept(params string[] with) => (await Command.Succeeds([.. command, .. with])).Json.GetProperty("conditions").GetProperty("segmentation").GetProperty("mask_iou").GetDouble();
        var plain = await Kept();
        Assert.InRange(await Kept("--guide-masks", "--guide-scale", "30"), plain + 0.05, 1);
    }

    [Fact]
    public async Task Several_models_are_measured_side_by_side_and_a_condition_is_compared_with_the_scenes_own()
    {
        await Command.Succeeds("train", folder["tiny.yaml"], "--run", folder["run"], "--json");
        string[] command = ["evaluate-images", "--model", folder["run/last"], "--model", folder["run/last/"], "--recipe", folder["tiny.yaml"], "--count", "5", "--judge", Path.Combine(Zoo, "clip-emoji"), "--detector", Path.Combine(Zoo, "xdecoder-emoji"), "--threads", "1", "--sheet", folder["sheet.png"]];
        var found = (await Command.Succeeds([.. command, "--kind", "depth", "--kind", "canny", "--json"])).Json;
        var models = found.GetProperty("models");
        Assert.Equal(2, models.GetArrayLength());
        Assert.EndsWith("last/", models[1].GetProperty("model").GetString(), StringComparison.Ordinal);
        // The same one twice.
        Assert.Equal(models[0].GetProperty("report").GetRawText(), models[1].GetProperty("report").GetRawText());
        var (own, made) = (found.GetProperty("conditions_real"), models[0].GetProperty("conditions"));
        Assert.InRange(own.GetProperty("depth").GetProperty("mask_iou").GetDouble(), made.GetProperty("depth").GetProperty("mask_iou").GetDouble(), 1);
        Assert.InRange(own.GetProperty("depth").GetProperty("depth_error").GetDouble(), 0, made.GetProperty("depth").GetProperty("depth_error").GetDouble());
        Assert.InRange(found.GetProperty("things_real").GetProperty("box_ap50").GetDouble(), models[0].GetProperty("things").GetProperty("box_ap50").GetDouble(), 1);
        Assert.Equal(1, own.GetProperty("canny").GetProperty("edge_f1").GetDouble());
        Assert.InRange(made.GetProperty("canny").GetProperty("edge_f1").GetDouble(), 0, 0.99);
        var table = (await Command.Succeeds([.. command, "--kind", "canny"])).Output;
        Assert.Contains("F1 of canny", table, StringComparison.Ordinal);
        Assert.DoesNotContain("depth", table, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_cannot_be_measured_is_one_sentence()
    {
        await Command.Fails(["evaluate-images", "--model", folder["none"], "--recipe", folder["tiny.yaml"], "--judge", Path.Combine(Zoo, "clip-emoji"), "--detector", Path.Combine(Zoo, "xdecoder-emoji")], "none");
        Assert.Equal(App.WrongUsage, (await Command.Run("evaluate-images", "--model", "m", "--recipe", folder["tiny.yaml"], "--count", "3")).Code);
        Assert.Equal(App.WrongUsage, (await Command.Run("evaluate-images", "--model", "m", "--recipe", folder["tiny.yaml"], "--seed", "-1")).Code);
        Assert.Equal(App.WrongUsage, (await Command.Run("evaluate-images", "--model", "m", "--recipe", folder["tiny.yaml"], "--controlnet", "c")).Code);
        Assert.Equal(App.WrongUsage, (await Command.Run("evaluate-images", "--model", "m", "--recipe", folder["tiny.yaml"], "--adapter", "c", "--kind", "canny", "--kind", "depth")).Code);
        await Command.Fails(["evaluate-images", "--model", folder["none"], "--recipe", folder["tiny.yaml"], "--kind", "smell", "--judge", Path.Combine(Zoo, "clip-emoji"), "--detector", Path.Combine(Zoo, "xdecoder-emoji")], "no condition 'smell'");
    }
}
