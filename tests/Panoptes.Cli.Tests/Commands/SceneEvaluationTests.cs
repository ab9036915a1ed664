using Panoptes.Imaging;
using Panoptes.Understanding.Tests;

namespace Panoptes.Cli.Tests.Commands;

/// <summary>What models find in the scenes of a recipe, measured and drawn by command.</summary>
public sealed class SceneEvaluationTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task A_trained_clip_has_the_numbers_of_its_training_and_larger_pictures_other_ones()
    {
        var merges = Path.Combine(Parity.Goldens.Repository, "data", "tokenizers", "clip", "merges.txt");
        File.WriteAllText(folder["tiny.yaml"], $$"""
            name: tiny
            task: {name: group_vit}
            model:
              architecture: CLIP
              config:
                embed_dim: 12
                vision_cfg: {layers: 1, width: 16, head_width: 8, image_size: 32, patch_size: 8}
                text_cfg: {context_length: 40, vocab_size: 614, width: 16, heads: 2, layers: 1}
              tokenizer: {merges: {{merges}}, count: 100}
            data: {concepts: 40, scenes: {size: 32, max_objects: 2}, batch_size: 4, tests: 3}
            schedule: {learning_rate: 0.002, steps: 2}
            training: {precision: float32}
            """);
        var trained = await Command.Succeeds("train", folder["tiny.yaml"], "--run", folder["run"], "--threads", "1", "--json");
        var measured = (await Command.Succeeds("evaluate", "--model", folder["run/last"], "--recipe", folder["tiny.yaml"], "--threads", "1", "--json", "--report", folder["report.json"])).Json;
        Assert.Equal(3, measured.GetProperty("scenes").GetInt32());
        Assert.Equal(trained.Json.GetProperty("validation").GetProperty("miou").GetDouble(), measured.GetProperty("report").GetProperty("mean_iou").GetDouble(), 1e-3);
        Assert.True(File.Exists(folder["report.json"]));
        var text = await Command.Succeeds("evaluate", "--model", folder["run/last"], "--recipe", folder["tiny.yaml"], "--side", "64", "--threads", "1");
        Assert.Contains("3 scenes", text.Output, StringComparison.Ordinal);
        await Command.Fails(["evaluate", "--model", folder["run/last"], "--recipe", folder["none.yaml"]], "none.yaml");
    }

    const string Scenes = """
        name: scenes
        task: {name: segment_anything}
        model: {architecture: SamModel}
        data: {concepts: 12, scenes: {size: 32, max_objects: 2}, tests: 3}
        schedule: {learning_rate: 0.002, steps: 2}
        """;

    public static TheoryData<string, string[]> Answering => new()
    {
        { "SAM", ["a click: IoU", "a box: IoU", "everything"] },
        { "SAM and XDecoderModel", ["a click: IoU", "a box: IoU", "its name: IoU", "names: IoU ", "everything"] },
        { "CLIP", ["names: IoU ", "where it is sure enough"] },
        { "SeemModel", ["a click: IoU", "a box: IoU", "its name: IoU", "names: IoU "] },
        { "XDecoderModel", ["its name: IoU", "names: IoU "] },
        { "DetrForObjectDetection", ["what it finds"] },
    };

    [Theory]
    [MemberData(nameof(Answering))]
    public async Task What_a_model_answers_is_drawn_beside_what_is_there_for_each_prompt_that_it_takes(string kind, string[] answers)
    {
        File.WriteAllText(folder["scenes.yaml"], Scenes);
        var model = kind switch { ['S', 'A', 'M', ..] => Path.Combine(Parity.Goldens.Root, "segmentation", "sam-points"), "CLIP" => Path.Combine(Parity.Goldens.Repository, "zoo", "clip-emoji"), _ => folder["model"] };
        string[] more = [];
        if (kind is "SeemModel" or "XDecoderModel") TinyFolders.Decoder(model, kind);
        else if (kind.EndsWith("XDecoderModel", StringComparison.Ordinal))
        {
            TinyFolders.Decoder(folder["finder"], "XDecoderModel");
            more = ["--detector", folder["finder"], "--set", "data.scenes.size=48"];
        }
        else if (kind.StartsWith("Detr", StringComparison.Ordinal)) TinyFolders.Detector(model, kind);
        var shown = (await Command.Succeeds(["explain", "--recipe", folder["scenes.yaml"], "--model", model, "--top", "2", "--out", folder["sheet.png"], "--threads", "1", "--json", .. more])).Json.GetProperty("scenes").EnumerateArray().ToArray();
        Assert.Equal(2, shown.Length);
        Assert.All(shown, s =>
        {
            Assert.NotEqual("", s.GetProperty("caption").GetString());
            var told = s.GetProperty("answers").EnumerateArray().Select(static a => a.GetString()!).ToArray();
            Assert.Equal(answers.Length, told.Length);
            Assert.All(told.Zip(answers), static p => Assert.Contains(p.Second, p.First, StringComparison.Ordinal));
        });
        Assert.True(Image.Load(folder["sheet.png"]).Width > 256 * Math.Min(6, 2 + answers.Length));
        Assert.Equal(App.WrongUsage, (await Command.Run("explain", folder["sheet.png"], "--set", "data.tests=3")).Code);
    }
}
