namespace Panoptes.Cli.Tests.Commands;

/// <summary>Names of pixels, measured by command on the scenes of a recipe.</summary>
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
}
