using System.Text.Json;
using Panoptes.Representation.Training;
using Panoptes.Training;

namespace Panoptes.Representation.Tests.Training;

public sealed class RecipeRunTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-train-").FullName;

    static string Root => Parity.Goldens.Repository;

    /// <summary>A CLIP that trains within a second.</summary>
    static Recipe Tiny(string extra = "") => Recipe.Parse($$"""
        name: tiny
        seed: 5
        model:
          architecture: CLIPModel
          config:
            projection_dim: 16
            vision_config: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, image_size: 32, patch_size: 8}
            text_config: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 614, max_position_embeddings: 48, bos_token_id: 612, eos_token_id: 613}
          tokenizer: {merges: {{Path.Combine(Root, "data", "tokenizers", "clip", "merges.txt")}}, count: 100}
        data: {set: emoji, batch_size: 16, validate: false}
        schedule: {learning_rate: 0.003, steps: 8, warmup_steps: 2}
        training: {precision: float32, patch_dropout: 0.5, unmasked_steps: 2, micro_batch_size: 6, ema_decay: 0.9, log_every: 1, validate_every: 0 {{extra}}}
        """, "tiny.yaml");

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void A_run_resumes_to_the_same_numbers_and_its_model_loads()
    {
        var (unbroken, broken) = (Path.Combine(folder, "unbroken"), Path.Combine(folder, "broken"));
        Train(Tiny(), unbroken);
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(Tiny(), broken, p => { if (p.Step == 3) cancel.Cancel(); }, cancel.Token));
        Train(Tiny(), broken);

        var (expected, found) = (Losses(unbroken), Losses(broken));
        Assert.Equal(8, expected.Length);
        Assert.Equal(expected, found);
        Assert.Equal(File.ReadAllBytes(Path.Combine(unbroken, "last", "model.safetensors")), File.ReadAllBytes(Path.Combine(broken, "last", "model.safetensors")));
        using var clip = Clip.Load(Path.Combine(broken, "last"));
        Assert.Equal(16, clip.Embed(new Imaging.Image(72, 72, 4)).Length);
    }

    [Fact]
    public void Images_with_captions_of_ones_own_are_trained_on_measured_and_their_faults_told()
    {
        var pictures = Path.Combine(folder, "pictures");
        Directory.CreateDirectory(pictures);
        for (var i = 0; i < 20; i++)
        {
            var image = new Imaging.Image(40, 30 + i, 3);
            image.Pixels.AsSpan().Fill((byte)(i * 12));
            image.Save(Path.Combine(pictures, $"{i:00}.png"));
            File.WriteAllText(Path.Combine(pictures, $"{i:00}.txt"), $"gray number {i}");
        }
        File.WriteAllText(Path.Combine(pictures, "07.png"), "no image");
        var recipe = Recipe.Parse(Tiny().Text.Replace("set: emoji, batch_size: 16, validate: false", $"set: {pictures}, batch_size: 6, validation_set: {Path.Combine(folder, "held-out")}", StringComparison.Ordinal), "tiny.yaml");
        Assert.Contains("held-out", Assert.Throws<PanoptesException>(() => RecipeRun.Create(recipe, Path.Combine(folder, "run"))).Message, StringComparison.Ordinal);

        Directory.CreateDirectory(Path.Combine(folder, "held-out"));
        foreach (var name in (string[])["03", "11"])
            foreach (var kind in (string[])[".png", ".txt"]) File.Copy(Path.Combine(pictures, name + kind), Path.Combine(folder, "held-out", name + kind));
        using var ready = RecipeRun.Create(recipe, Path.Combine(folder, "run"));
        var seen = new List<string?>();
        var result = ready.Trainer.Run(new Watch(p => seen.Add(p.What)));
        Assert.Contains("validating 100 %", seen);
        Assert.Equal(8, result.Steps);
        Assert.InRange(result.Validation["image_to_text_r1"], 0, 1);
        Assert.Equal(1, result.Validation["text_to_image_r5"]);                          // of two
        Assert.Contains(ready.Problems!.Lines(), static l => l.Contains("07.png", StringComparison.Ordinal));
    }

    [Fact]
    public void A_run_goes_on_only_with_its_own_recipe()
    {
        using (var first = RecipeRun.Create(Tiny(), folder)) Assert.True(first.Model.ParameterCount > 0);
        Assert.Contains("another recipe", Assert.Throws<PanoptesException>(() => RecipeRun.Create(Tiny(", clip_grad_norm: 2"), folder)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("vocab_size: 614", "vocab_size: 700", "set it to 614")]
    [InlineData("set: emoji", "set: nothing", "nothing")]
    [InlineData("architecture: CLIPModel", "architecture: CLIPTextModel", "CLIPTextModel")]
    [InlineData("patch_dropout: 0.5", "patch_dropout: 1.5", "1.5")]
    [InlineData("batch_size: 16", "batch_size: 100000", "100000")]
    [InlineData("precision: float32", "precision: float8", "float8")]
    public void What_does_not_fit_is_told(string part, string instead, string expected)
    {
        var recipe = Recipe.Parse(Tiny().Text.Replace(part, instead, StringComparison.Ordinal), "tiny.yaml");
        var before = LiveTensors.Settle();
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(recipe, folder)).Message, StringComparison.Ordinal);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Theory]
    [InlineData("optimizer: {name: adamw, momentum: 0.9}", "momentum does not go with the optimizer adamw, which takes beta1, beta2, eps, amsgrad, weight_decay, layer_decay")]
    [InlineData("optimizer: {name: muon, amsgrad: true}", "amsgrad does not go with the optimizer muon")]
    [InlineData("optimizer: {name: lion, eps: 1e-8}", "eps does not go with the optimizer lion")]
    [InlineData("optimizer: {name: sgd, beta2: 0.9}", "beta2 does not go with the optimizer sgd")]
    [InlineData("optimizer: {name: adafactor, beta1: 0.9}", "beta1 does not go with the optimizer adafactor, which takes weight_decay")]
    [InlineData("optimizer: {name: adam}", "The optimizer adam is unknown")]
    [InlineData("schedule: {name: linear, learning_rate: 0.003, steps: 8, final_rate: 1e-4}", "final_rate does not go with the schedule linear")]
    [InlineData("schedule: {name: one_cycle, learning_rate: 0.003, steps: 8, final_rate: 1e-4}", "final_rate does not go with the schedule one_cycle")]
    [InlineData("schedule: {name: cosine, learning_rate: 0.003, steps: 8, warmup_steps: 9}", "warmup_steps is 9")]
    [InlineData("training: {unmasked_steps: 2}", "without patch_dropout")]
    public void An_option_that_does_not_apply_is_refused_before_anything_is_written(string line, string expected)
    {
        var lines = Tiny().Text.Split('\n').Where(l => !l.StartsWith(line.Split(':')[0], StringComparison.Ordinal));
        var recipe = Recipe.Parse(string.Join('\n', [.. lines, line]), "tiny.yaml");
        var e = Assert.Throws<PanoptesException>(() => RecipeRun.Create(recipe, folder));
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(folder));
    }

    [Theory]
    [InlineData("set: emoji, table: {image_column: file}", "table does not go with the emoji")]
    [InlineData("set: pictures, captions: {tag_probability: 0.5}", "captions are about the emoji")]
    public void Options_of_other_data_are_refused(string data, string expected)
    {
        var recipe = Recipe.Parse(Tiny().Text.Replace("set: emoji", data, StringComparison.Ordinal), "tiny.yaml");
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(recipe, folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Patience_without_a_measure_is_refused() =>
        Assert.Contains("nothing is measured", Assert.Throws<PanoptesException>(() => RecipeRun.Create(Tiny(", patience: 3"), folder)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_recipe_can_ask_for_amsgrad_and_for_one_cycle_with_its_own_rise()
    {
        var recipe = Recipe.Parse(Tiny().Text.Replace("schedule: {", "optimizer: {name: adamw, amsgrad: true}\nschedule: {name: one_cycle, ", StringComparison.Ordinal), "tiny.yaml");
        Train(recipe, folder);
        var rates = File.ReadLines(Path.Combine(folder, "metrics.jsonl")).Select(static l => JsonSerializer.Deserialize<Dictionary<string, double>>(l)!["learning_rate"]).ToArray();
        Assert.Equal(1, Array.IndexOf(rates, rates.Max()));                              // the second of two steps of warm-up
        Assert.Equal(0.003, rates.Max(), 1e-12);
        using var scope = NewDisposeScope();
        var state = Checkpoints.SafeTensors.Load(Path.Combine(Directory.GetDirectories(Path.Combine(folder, "checkpoints")).Order().Last(), "optimizer.safetensors"));
        Assert.Contains(state.Keys, static k => k.EndsWith("max_exp_avg_sq", StringComparison.Ordinal));
    }

    [Fact]
    public void A_run_keeps_no_tensor()
    {
        Train(Tiny(), Path.Combine(folder, "warm"));
        var before = LiveTensors.Settle();
        Train(Tiny(), Path.Combine(folder, "counted"));
        Assert.Equal(before, Tensor.TotalCount);
    }

    static void Train(Recipe recipe, string run, Action<TrainingProgress>? see = null, CancellationToken cancel = default)
    {
        using var ready = RecipeRun.Create(recipe, run);
        ready.Trainer.Run(new Watch(see), cancel);
    }

    static double[] Losses(string run) =>
        [.. File.ReadLines(Path.Combine(run, "metrics.jsonl")).Select(static l => JsonSerializer.Deserialize<Dictionary<string, double>>(l)!).Where(static l => l.ContainsKey("loss")).Select(static l => l["loss"])];

    sealed class Watch(Action<TrainingProgress>? see) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => see?.Invoke(value);
    }
}
