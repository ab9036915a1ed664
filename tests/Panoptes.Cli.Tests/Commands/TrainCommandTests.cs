using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;
using Panoptes.Parity;
using Panoptes.Representation.Training;

namespace Panoptes.Cli.Tests.Commands;

public sealed partial class TrainCommandTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void The_recipes_of_the_repository_that_have_a_task_can_be_read_and_their_models_built()
    {
        string[] files = [.. Directory.GetFiles(Path.Combine(Goldens.Repository, "recipes"), "*.yaml").Where(static f => SceneRecipe.IsOne(File.ReadAllText(f), f))];
        Assert.NotEmpty(files);
        foreach (var file in files)
        {
            var recipe = SceneRecipe.Load(file, SceneTasks.All);
            Assert.Equal(Path.GetFileNameWithoutExtension(file), recipe.Name);
            if (TrainedBefore().Matches(recipe.Text) is { Count: > 0 } before)
            {
                // What other recipes of the repository train first.
                Assert.All(before, m => Assert.True(File.Exists(Path.Combine(Path.GetDirectoryName(file)!, m.Groups[1].Value + ".yaml")), m.Value));
                continue;
            }
            using var ready = recipe.Start(folder[recipe.Name]);
            Assert.True(ready.Model.ParameterCount > 10_000);
        }
    }

    [GeneratedRegex(@"\bruns/([^/\s]+)/")]
    private static partial Regex TrainedBefore();

    [Fact]
    public async Task A_killed_run_goes_on_and_gives_the_numbers_of_an_unbroken_one()
    {
        const int Steps = 240;
        Write(steps: Steps);
        var unbroken = await Command.Succeeds("train", folder["tiny.yaml"], "--run", folder["unbroken"], "--threads", "1", "--json");
        Assert.Equal(Steps, unbroken.Json.GetProperty("steps").GetInt32());

        using (var process = Process.Start(new ProcessStartInfo("dotnet", [typeof(App).Assembly.Location, "train", folder["tiny.yaml"], "--run", folder["killed"], "--threads", "1"])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        })!)
        {
            // On this thread: where other tests keep the pool busy, a task would come back when all is done.
            while (Lines("killed").Length < 10 && !process.HasExited) Thread.Sleep(5);
            Assert.False(process.HasExited, "it was done before it could be killed");
            process.Kill();
            await process.WaitForExitAsync();
        }
        var before = Lines("killed").Length;
        await Command.Succeeds("train", folder["tiny.yaml"], "--run", folder["killed"], "--threads", "1", "--json");

        Assert.InRange(before, 10, Steps - 1);
        Assert.Equal(Losses("unbroken"), Losses("killed"));
        Assert.Equal(File.ReadAllBytes(folder["unbroken/last/model.safetensors"]), File.ReadAllBytes(folder["killed/last/model.safetensors"]));
    }

    [Fact]
    public async Task What_is_wrong_with_a_recipe_is_one_sentence_and_restart_spares_other_folders()
    {
        Write(steps: 2);
        await Command.Fails(["train", folder["none.yaml"]], "none.yaml");
        File.WriteAllText(folder["bad.yaml"], "name: [\n");
        await Command.Fails(["train", folder["bad.yaml"]], "bad.yaml");
        Directory.CreateDirectory(folder["mine"]);
        File.WriteAllText(folder["mine/precious.txt"], "x");
        await Command.Fails(["train", folder["tiny.yaml"], "--run", folder["mine"], "--restart"], "nothing was deleted");
        Assert.True(File.Exists(folder["mine/precious.txt"]));
    }

    void Write(int steps) => File.WriteAllText(folder["tiny.yaml"], $$"""
        name: tiny
        model:
          architecture: CLIPModel
          config:
            projection_dim: 8
            vision_config: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, image_size: 16, patch_size: 8}
            text_config: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 614, max_position_embeddings: 48, bos_token_id: 612, eos_token_id: 613}
          tokenizer: {merges: {{Path.Combine(Parity.Goldens.Repository, "data", "tokenizers", "clip", "merges.txt")}}, count: 100}
        data: {set: emoji, batch_size: 8, validate: false}
        schedule: {learning_rate: 0.003, steps: {{steps}} }
        training: {precision: float32, patch_dropout: 0.5, ema_decay: 0.9, log_every: 1, checkpoint_every: 4}
        """);

    string[] Lines(string run)
    {
        var path = folder[$"{run}/metrics.jsonl"];
        if (!File.Exists(path)) return [];
        using var reader = new StreamReader(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
        return reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    double[] Losses(string run) => [.. Lines(run).Select(static l => JsonSerializer.Deserialize<Dictionary<string, double>>(l)!["loss"])];
}
