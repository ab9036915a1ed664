using Panoptes.Parity;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;

namespace Panoptes.Representation.Tests;

/// <summary>Sparse embeddings: the head that never holds all tokens' words, and training.</summary>
public sealed class StairTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-stair-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory]
    [InlineData(0.0)]
    [InlineData(-4.0)]                                                                                       // few words are lit up
    [InlineData(-99.0)]                                                                                      // none is
    public void The_head_and_its_gradients_are_those_of_the_plain_formula(double offset)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(3);
        var (hidden, weight, bias) = (randn([3, 5, 8], generator: generator), randn([40, 8], generator: generator), randn([40], generator: generator) + offset);
        var outward = rand([3, 40], generator: generator);
        var (ours, theirs) = (Run(static (h, w, b) => StairLoss.Embed(h, w, b)), Run(static (h, w, b) => nn.functional.relu(h.matmul(w.t()) + b).log1p().amax([1L])));
        for (var i = 0; i < ours.Length; i++) Assert.True((ours[i] - theirs[i]).abs().max().item<float>() < 1e-4f);
        Assert.Equal(offset < -50, ours[0].max().item<float>() == 0);

        Tensor[] Run(Func<Tensor, Tensor, Tensor, Tensor> embed)
        {
            Tensor[] leaves = [.. new[] { hidden, weight, bias }.Select(static x => x.detach().clone().requires_grad_())];
            var y = embed(leaves[0], leaves[1], leaves[2]);
            (y * outward).sum().backward();
            return [y.detach(), .. leaves.Select(static l => l.grad!)];
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_recipe_trains_words_and_goes_on_where_it_was_interrupted(bool grounded)
    {
        var recipe = Recipe.Parse($$"""
            name: tiny
            seed: 5
            model:
              architecture: StairModel
              config:
                grounded_texts: {{(grounded ? "true" : "false")}}
                vision_config: {model_type: clip_vision_model, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, image_size: 32, patch_size: 8}
                text_config: {model_type: clip_text_model, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 614, max_position_embeddings: 32, bos_token_id: 612, eos_token_id: 613}
              tokenizer: {merges: {{Path.Combine(Goldens.Repository, "data", "tokenizers", "clip", "merges.txt")}}, count: 100}
            data: {set: emoji, concepts: 40, batch_size: 12}
            objectives: [{name: stair, grounded_steps: 4, flops_warmup_steps: 3}]
            schedule: {learning_rate: 0.002, steps: 6, warmup_steps: 1}
            training: {precision: float32, log_every: 1, validate_every: 0}
            """, "tiny.yaml");
        var (unbroken, broken) = (Path.Combine(folder, "unbroken"), Path.Combine(folder, "broken"));
        var before = LiveTensors.Settle();
        var measured = Train(unbroken);
        Assert.Equal(before, Tensor.TotalCount);
        Assert.InRange(measured["active_in_images"], 0.5, 1);                                                // nothing is switched off yet
        Assert.InRange(measured["named_by_chance"], 0, 0.05);
        if (grounded) Assert.InRange(measured["active_in_texts"], 1e-3, 0.05);                               // a name's own tokens, of 614
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(broken, p => { if (p.Step == 3) cancel.Cancel(); }, cancel.Token));
        Train(broken);
        Assert.Equal(File.ReadAllBytes(Path.Combine(unbroken, "last", "model.safetensors")), File.ReadAllBytes(Path.Combine(broken, "last", "model.safetensors")));

        IReadOnlyDictionary<string, double> Train(string run, Action<Panoptes.Training.TrainingProgress>? report = null, CancellationToken cancel = default)
        {
            using var ready = RecipeRun.Create(recipe, run);
            return ready.Trainer.Run(new Reports(report), cancel).Validation;
        }
    }

    sealed class Reports(Action<Panoptes.Training.TrainingProgress>? report) : IProgress<Panoptes.Training.TrainingProgress>
    {
        public void Report(Panoptes.Training.TrainingProgress value) => report?.Invoke(value);
    }
}
