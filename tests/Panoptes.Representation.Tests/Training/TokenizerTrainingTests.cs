using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;

namespace Panoptes.Representation.Tests.Training;

public sealed class TokenizerTrainingTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-tokenizers-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void Codes_follow_the_moving_averages_of_what_chose_them()
    {
        using var scope = NewDisposeScope();
        var (codes, uses, totals) = (zeros(3, 1), tensor(new float[] { 4, 2, 0.5f }), tensor(new float[] { 8, 2, 0 }).unsqueeze(1));
        // γ = 0.75: N = 0.75·4 + 0.25·8 = 5 and m = 0.75·8 + 0.25·36 = 15; N = 1.5 + 0 and m = 1.5; N = 0.375, below the bound.
        var restarted = VqVae.Follow(codes, uses, totals, tensor(new float[] { 8, 0, 0 }), tensor(new float[] { 36, 0, 0 }).unsqueeze(1), tensor(new float[] { 7, 8, 9 }).unsqueeze(1), decay: 0.75, restartBelow: 0.5);
        Assert.Equal(1, restarted);
        Assert.Equal([3f, 1, 9], codes.flatten().data<float>().ToArray());
        Assert.Equal([5f, 1.5f, 1], uses.data<float>().ToArray());
        Assert.Equal([15f, 1.5f, 9], totals.flatten().data<float>().ToArray());
    }

    [Theory]
    [InlineData(new long[] { 5, 5, 5, 5 }, 4)]
    [InlineData(new long[] { 7, 0, 0, 0 }, 1)]
    [InlineData(new long[] { 3, 1, 0, 0 }, 1.7547654)]                                                        // e^-(¾ ln ¾ + ¼ ln ¼)
    public void Perplexity_is_how_many_codes_chosen_alike_would_carry_as_much(long[] counts, double expected)
    {
        using var scope = NewDisposeScope();
        Assert.Equal(expected, VqVae.Perplexity(tensor(counts)), 1e-6);
    }

    [Fact]
    public void A_gradient_passes_straight_through_the_codes()
    {
        using var scope = NewDisposeScope();
        var quantizer = new VectorQuantizer(2, 1);
        quantizer.Embedding.Weight.Assign(tensor(new float[] { 0, 1 }).view(2, 1));
        var latents = tensor(new float[] { 0.1f, 0.9f, 0.6f, -3 }).view(1, 1, 2, 2).requires_grad_();
        var tokens = quantizer.Nearest(latents);
        Assert.Equal([0L, 1, 1, 0], tokens.flatten().data<long>().ToArray());
        var passed = VectorQuantizer.StraightThrough(latents, quantizer.Entries(tokens));
        Assert.Equal([0f, 1, 1, 0], passed.flatten().data<float>().ToArray());
        (passed * tensor(new float[] { 1, 2, 3, 4 }).view(1, 1, 2, 2)).sum().backward();
        Assert.Equal([1f, 2, 3, 4], latents.grad!.flatten().data<float>().ToArray());
        Assert.Null(quantizer.Embedding.Weight.Grad);
        // mean of 0.01, 0.01, 0.16 and 9, a quarter of it for the latents and all of it for the codes.
        Assert.Equal(1.25 * 9.18 / 4, VectorQuantizer.Loss(latents, quantizer.Entries(tokens), codebook: 1, commitment: 0.25).item<float>(), 1e-5);
    }

    Recipe Tiny(string objectives) => Recipe.Parse($$"""
        name: tiny
        seed: 5
        model:
          architecture: VQModel
          config: {sample_size: 16, block_out_channels: [8, 8], down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D], norm_num_groups: 4, latent_channels: 4, num_vq_embeddings: 6}
        data: {set: emoji, concepts: 40, batch_size: 12}
        objectives: {{objectives.Replace("TEACHER", Path.Combine(folder, "teacher"), StringComparison.Ordinal)}}
        optimizer: {name: adamw, weight_decay: 0}
        schedule: {learning_rate: 0.002, steps: 6, warmup_steps: 1}
        training: {precision: float32, log_every: 1, validate_every: 0}
        """, "tiny.yaml");

    [Theory]
    [InlineData("[{name: vq_vae}]")]
    [InlineData("[{name: vq_vae, pixels: l1, codebook_decay: }]")]
    [InlineData("[{name: vq_gan, pixels: l1, perceptual: TEACHER, discriminator_start: 2, discriminator_width: 4, discriminator_layers: 1}]")]
    public void A_tokenizer_trains_from_a_recipe_and_resumes_to_the_same_bytes(string objectives)
    {
        TinyClip.Write(Path.Combine(folder, "teacher"));
        var recipe = Tiny(objectives);
        var (unbroken, broken) = (Path.Combine(folder, "unbroken"), Path.Combine(folder, "broken"));
        var before = LiveTensors.Settle();
        var measured = Train(recipe, unbroken);
        Assert.Equal(before, Tensor.TotalCount);
        Assert.InRange(measured["psnr"], 3, 40);
        Assert.InRange(measured["perplexity"], 1, measured["codes_used"]);
        Assert.InRange(measured["codes_used"], 1, 6);
        Assert.True(File.Exists(Path.Combine(unbroken, "reconstructions.png")));
        var lines = File.ReadAllText(Path.Combine(unbroken, "metrics.jsonl"));
        Assert.Contains("/perplexity", lines, StringComparison.Ordinal);
        Assert.Equal(objectives.Contains("vq_gan", StringComparison.Ordinal), lines.Contains("vq_gan/adversarial_weight", StringComparison.Ordinal));

        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(recipe, broken, p => { if (p.Step == 3) cancel.Cancel(); }, cancel.Token));
        Train(recipe, broken);
        Assert.Equal(File.ReadAllBytes(Path.Combine(unbroken, "last", "diffusion_pytorch_model.safetensors")), File.ReadAllBytes(Path.Combine(broken, "last", "diffusion_pytorch_model.safetensors")));

        using var scope = NewDisposeScope();
        using var loaded = Models.Load(Path.Combine(broken, "last"));
        var (tokenizer, images) = ((IImageTokenizer)loaded, rand([2, 3, 16, 16], generator: new Generator(1)));
        var tokens = tokenizer.Tokenize(images);
        Assert.Equal([2, 8, 8], tokens.shape);
        Assert.Equal((6, 2), (tokenizer.VocabularySize, tokenizer.PixelsPerToken));
        Assert.Equal([2, 3, 16, 16], ((VqModel)loaded).Picture(tokens).shape);
        Assert.Contains("multiples of 2", Assert.Throws<PanoptesException>(() => tokenizer.Tokenize(zeros(1, 3, 15, 16))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[{name: vq_vae, codebook_decay: 1}]", "codebook_decay is 1")]
    [InlineData("[{name: vq_vae, restart_below: 0}]", "restart_below is 0")]
    [InlineData("[{name: vq_gan, discriminator_layers: 3}]", "leaves nothing of images of 16 pixels")]
    [InlineData("[{name: masked_pixels}]", "found a VqModel")]
    public void What_cannot_be_trained_is_refused(string objectives, string expected) =>
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(Tiny(objectives), folder)).Message, StringComparison.Ordinal);

    [Fact]
    public void The_hinge_is_zero_only_beyond_one_and_the_weight_balances_gradients()
    {
        using var scope = NewDisposeScope();
        Assert.Equal(0, VqGan.Hinge(tensor(new float[] { 1, 2 }), tensor(new float[] { -1, -5 })).item<float>());
        Assert.Equal(0.5 * (0.5 + 3), VqGan.Hinge(tensor(new float[] { 0, 2 }), tensor(new float[] { 1, 3 })).item<float>(), 1e-6);
        Assert.Equal(5 / (2 + 1e-4), VqGan.Balance(tensor(new float[] { 3, 4 }), tensor(new float[] { 0, 2 })), 1e-6);
        Assert.Equal(1e4, VqGan.Balance(tensor(new float[] { 3, 4 }), zeros(2)));
    }

    static IReadOnlyDictionary<string, double> Train(Recipe recipe, string run, Action<Panoptes.Training.TrainingProgress>? report = null, CancellationToken cancel = default)
    {
        using var ready = RecipeRun.Create(recipe, run);
        return ready.Trainer.Run(report is null ? null : new Watch(report), cancel).Validation;
    }

    sealed class Watch(Action<Panoptes.Training.TrainingProgress> report) : IProgress<Panoptes.Training.TrainingProgress>
    {
        public void Report(Panoptes.Training.TrainingProgress value) => report(value);
    }
}
