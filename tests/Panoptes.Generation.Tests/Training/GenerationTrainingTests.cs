using Panoptes.Generation.Training;
using Panoptes.Parity;
using Panoptes.Representation.Training;
using Panoptes.Training;

namespace Panoptes.Generation.Tests.Training;

/// <summary>Tiny models that are trained to make images.</summary>
public sealed class GenerationTrainingTests : IDisposable
{
    const string Text = "{vocab_size: 614, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 24, bos_token_id: 612, eos_token_id: 613}";

    const string Words = "  tokenizer: {merges: MERGES, count: 100}";

    const string Autoencoder = """
        model:
          architecture: AutoencoderKL
          config: {sample_size: 32, block_out_channels: [8, 16], down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D], norm_num_groups: 4, latent_channels: 4}
        """;

    const string Vq = "{sample_size: 32, block_out_channels: [8, 16, 16, 16], down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D], up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D], norm_num_groups: 4, latent_channels: 4, num_vq_embeddings: 16}";

    const string Gan = "model:\n  architecture: TextToImageGan\n  config: {noise_size: 8, style_size: 16, block_out_channels: [16, 16, 8, 8], text_config: " + Text + "}\n" + Words;

    const string Vae = "model:\n  architecture: TextToImageVae\n  config: {latent_size: 8, style_size: 16, block_out_channels: [16, 16, 8, 8], text_config: " + Text + "}\n" + Words;

    const string Autoregressive = "model:\n  architecture: TextToImageTransformer\n  config: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 24, vq_config: " + Vq + ", text_config: " + Text + "}\n" + Words;

    const string Masked = "model:\n  architecture: TextToImageMasked\n  config: {uvit_config: {hidden_size: 16, cond_embed_dim: 16, micro_cond_encode_dim: 4, micro_cond_embed_dim: 20, encoder_hidden_size: 16, vocab_size: 17, codebook_size: 16, in_channels: 8, block_out_channels: 8, num_res_blocks: 1, block_num_heads: 2, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 24, sample_size: 4}, vq_config: "
        + Vq + ", text_config: " + Text + "}\n" + Words;

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-generation-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static string Pipeline(int channels, int side, string scheduler) => $$"""
        model:
          architecture: StableDiffusionPipeline
          config:
            unet: {sample_size: {{side}}, in_channels: {{channels}}, out_channels: {{channels}}, block_out_channels: [8, 16], down_block_types: [CrossAttnDownBlock2D, CrossAttnDownBlock2D], up_block_types: [CrossAttnUpBlock2D, CrossAttnUpBlock2D], transformer_layers_per_block: [0, 1], layers_per_block: 1, norm_num_groups: 4, cross_attention_dim: 16, attention_head_dim: 2}
            text_encoder: {{Text}}
            scheduler: {{scheduler}}
        {{Words}}
        """;

    static SceneRecipe Tiny(string task, string model, string rest = "precision: float32") => SceneRecipe.Parse($$"""
        name: tiny
        seed: 3
        task: {{{task}}}
        {{TinyTraining.WithMerges(model)}}
        data: {concepts: 40, scenes: {size: 32, max_objects: 2, one_style: true, styles: [noto, twemoji]}, batch_size: 3, tests: 5}
        schedule: {learning_rate: 0.002, steps: 6}
        training: {log_every: 1, validate_every: 0, {{rest}}}
        """, "tiny.yaml", GenerationTasks.All);

    static string Judged(string task) => $"{task}, measures: {{judge: {Path.Combine(Goldens.Repository, "zoo", "clip-emoji")}, steps: 2, guidance: 2}}";

    /// <summary>The tasks with their models; those that need an autoencoder get one of random weights.</summary>
    (string Task, string Model) Of(string name)
    {
        var (latents, tokens) = (Path.Combine(folder, "latents"), Path.Combine(folder, "tokens"));
        if (name is "latent" or "flow" && !Directory.Exists(latents)) TinyTraining.Train(Tiny("name: autoencoder", Autoencoder), Path.Combine(folder, "autoencoder"));
        if (name is "latent" or "flow" && !Directory.Exists(latents)) Directory.Move(Path.Combine(folder, "autoencoder", "last"), latents);
        if (name is "autoregressive" or "masked" && !Directory.Exists(tokens))
        {
            using var vq = new Representation.VqModel(Nn.ModelConfig.Parse<Representation.VqConfig>("""{"sample_size":32,"block_out_channels":[8,16,16,16],"down_block_types":["DownEncoderBlock2D","DownEncoderBlock2D","DownEncoderBlock2D","DownEncoderBlock2D"],"up_block_types":["UpDecoderBlock2D","UpDecoderBlock2D","UpDecoderBlock2D","UpDecoderBlock2D"],"norm_num_groups":4,"latent_channels":4,"num_vq_embeddings":16}""", "a test"));
            vq.Initialize(new Generator(1));
            Representation.Models.Save(tokens, vq);
        }
        return name switch
        {
            "autoencoder" => ($"name: autoencoder, perceptual: {Path.Combine(Goldens.Repository, "zoo", "clip-emoji")}", Autoencoder),
            "latent" => (Judged($"name: diffusion, snr_gamma: 5, autoencoder: {latents}"), Pipeline(4, 16, "{_class_name: DDIMScheduler, prediction_type: v_prediction, clip_sample: false}")),
            "pixels" => (Judged("name: diffusion, train_text_encoder: false"), Pipeline(3, 32, "{_class_name: DDPMScheduler}")),
            "flow" => (Judged($"name: diffusion, autoencoder: {latents}"), Pipeline(4, 16, "{_class_name: FlowMatchEulerDiscreteScheduler, shift: 1.5}")),
            "canny" => (Judged("name: control_net, conditions: [canny], snr_gamma: 5"), Base()),
            "several" => (Judged("name: control_net, conditions: [depth, sketch, normal]"), Base()),
            "depth" => (Judged("name: control_net, conditions: [depth], zero_convolutions: false"), Base()),
            "adapter" => (Judged("name: t2i_adapter, conditions: [segmentation], res_blocks: 1"), Base()),
            "gligen" => (Judged("name: gligen"), Base()),
            "examples" => (Judged($"name: gligen, examples: {Encoder()}"), Base()),
            "reco" => (Judged("name: reco, bins: 8, context_length: 96"), Base()),
            "gan" => (Judged("name: gan"), Gan),
            "vae" => (Judged("name: vae"), Vae),
            "autoregressive" => (Judged($"name: autoregressive, tokenizer: {tokens}"), Autoregressive),
            _ => (Judged($"name: masked_tokens, tokenizer: {tokens}"), Masked),
        };
    }

    /// <summary>A pipeline on pixels that control is trained beside.</summary>
    string Base()
    {
        var path = Path.Combine(folder, "base");
        if (!Directory.Exists(path))
        {
            TinyTraining.Train(Tiny(Judged("name: diffusion"), Pipeline(3, 32, "{_class_name: DDIMScheduler, prediction_type: v_prediction, clip_sample: false}")), Path.Combine(folder, "base-run"));
            Directory.Move(Path.Combine(folder, "base-run", "last"), path);
            File.WriteAllText(Path.Combine(path, "generation_config.json"), """{"guidance_scale": 2, "num_inference_steps": 7}""");
        }
        return $"model: {{from: {path}}}";
    }

    /// <summary>A CLIP's image encoder of random weights, whose embeddings are as wide as the phrases'.</summary>
    string Encoder(int width = 16)
    {
        var path = Path.Combine(folder, $"encoder-{width}");
        using var encoder = new Representation.ClipVisionModel(new() { HiddenSize = 16, IntermediateSize = 24, NumHiddenLayers = 1, NumAttentionHeads = 2, ImageSize = 16, PatchSize = 8 }, width);
        encoder.Initialize(new Generator(7));
        Representation.Models.Save(path, encoder);
        Imaging.ImageProcessor.Parse("""{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":16},"crop_size":{"height":16,"width":16}}""", "a test").Save(path);
        return path;
    }

    [Theory]
    [InlineData("canny", "kid kid_without edge_f1 edge_f1_without")]
    [InlineData("depth", "kid kid_without")]
    [InlineData("several", "kid kid_without edge_f1")]
    [InlineData("adapter", "kid kid_without")]
    [InlineData("gligen", "kid kid_without")]
    [InlineData("examples", "kid kid_without")]
    [InlineData("reco", "kid kid_without")]
    [InlineData("autoencoder", "psnr")]
    [InlineData("latent", "kid fid precision recall clip clip_real")]
    [InlineData("pixels", "kid fid precision recall clip")]
    [InlineData("flow", "kid fid")]
    [InlineData("gan", "kid fid")]
    [InlineData("vae", "kid fid")]
    [InlineData("autoregressive", "kid fid")]
    [InlineData("masked", "kid fid")]
    public void A_model_is_trained_resumed_to_the_same_bytes_and_measured(string name, string measures)
    {
        var (task, model) = Of(name);
        var (result, unbroken, broken) = TinyTraining.TrainWithBreak(() => Tiny(task, model), folder);
        Assert.Equal(Files(unbroken), Files(broken));
        foreach (var measure in measures.Split(' ')) Assert.True(double.IsFinite(result.Validation[measure]), measure);
        Assert.True(File.Exists(Path.Combine(broken, name == "autoencoder" ? "reconstructions.png" : "samples.png")));
        if (PipelineFolder.Is(Path.Combine(broken, "last"))) PipelineFolder.Load(Path.Combine(broken, "last")).Dispose();
        else GenerationModels.Load(Path.Combine(broken, "last")).Dispose();
    }

    /// <summary>All that is saved for users.</summary>
    static SortedDictionary<string, string> Files(string run)
    {
        var last = Path.Combine(run, "last");
        return new(Directory.GetFiles(last, "*", SearchOption.AllDirectories).ToDictionary(f => Path.GetRelativePath(last, f), static f => Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(f)))));
    }

    [Theory]
    [InlineData("latent")]
    [InlineData("gan")]
    [InlineData("vae")]
    [InlineData("autoregressive")]
    [InlineData("masked")]
    [InlineData("autoencoder")]
    public void A_step_in_bfloat16_has_finite_losses(string name)
    {
        var (task, model) = Of(name);
        var losses = new List<double>();
        TinyTraining.Train(Tiny(task, model, "precision: bfloat16"), Path.Combine(folder, "run"), p => losses.Add(p.Loss));
        Assert.All(losses, static l => Assert.True(double.IsFinite(l)));
    }

    [Fact]
    public void Boxes_are_learned_beside_a_pipeline_that_gives_the_same_to_the_bit_without_them()
    {
        var (task, model) = Of("gligen");
        TinyTraining.Train(Tiny(task, model), Path.Combine(folder, "run"));
        using var scope = NewDisposeScope();
        using var before = (StableDiffusion)PipelineFolder.Load(Path.Combine(folder, "base"));
        using var after = (StableDiffusion)PipelineFolder.Load(Path.Combine(folder, "run", "last"));
        Assert.Equal((2, 7), (after.UsualGuidance, after.UsualSteps));
        var own = after.UNet.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        Assert.All(before.UNet.NamedParameters(), p => Assert.True(p.Parameter.Value.Equals(own[p.Key].Value), p.Key));
        Assert.Contains(own, static p => p.Key.EndsWith("alpha_attn", StringComparison.Ordinal) && p.Value.Value.item<float>() != 0);
        var boxes = new PhraseBox[] { new("a red apple", 0.1, 0.1, 0.6, 0.7) };
        using var all = new GroundedBoxes(after, boxes, 1);
        using var none = new GroundedBoxes(after, boxes, 0);
        var plain = Make(before);
        Assert.True(plain.Equals(Make(after)));
        Assert.True(plain.Equals(Make(after, none)));
        Assert.False(plain.Equals(Make(after, all)));
        // Images with boxes of their own are made together as they are alone.
        PhraseBox[] others = [new("a cat", 0.5, 0.5, 1, 1), new("a dog", 0, 0, 0.4, 0.4)];
        using var each = GroundedBoxes.OfEach(after, [boxes, others], 1);
        using var second = new GroundedBoxes(after, others, 1);
        var (positive, negative) = after.Describe(["an apple", "an apple"], null, new() { Size = (32, 32) });
        var both = new DiffusionTask { Positive = positive, Negative = negative, Height = 32, Width = 32, Steps = 3, Guidance = 2, Noise = NoiseSource.From([new Generator(5), new Generator(5)]), Hooks = [each] }.Run(after);
        Assert.True(both.narrow(0, 0, 1).allclose(Make(after, all), 1e-4, 1e-4));
        Assert.True(both.narrow(0, 1, 1).allclose(Make(after, second), 1e-4, 1e-4));
        Assert.Contains("Boxes of 2 images", Assert.Throws<PanoptesException>(() => Make(after, each)).Message, StringComparison.Ordinal);
    }

    /// <summary>The latents of one image.</summary>
    static Tensor Make(StableDiffusion pipeline, params IStepHook[] hooks)
    {
        using var generator = new Generator(5);
        var (positive, negative) = pipeline.Describe(["an apple"], null, new() { Size = (32, 32) });
        return new DiffusionTask { Positive = positive, Negative = negative, Height = 32, Width = 32, Steps = 3, Guidance = 2, Noise = generator, Hooks = hooks }.Run(pipeline);
    }

    [Fact]
    public void Places_are_learned_as_words_of_a_tokenizer_that_is_saved_with_them()
    {
        var (task, model) = Of("reco");
        TinyTraining.Train(Tiny(task, model), Path.Combine(folder, "run"));
        using var pipeline = (StableDiffusion)PipelineFolder.Load(Path.Combine(folder, "run", "last"));
        Assert.Equal(614 + 8, pipeline.Prompts.Tokenizer.VocabularySize);
        Assert.Equal((2, 7), (pipeline.UsualGuidance, pipeline.UsualSteps));
        Assert.Equal(pipeline.Prompts.Tokenizer.VocabularySize, pipeline.Prompts.Encoder.VocabularySize);
        Assert.Equal(616, pipeline.Prompts.Tokenizer.IdOf("<bin002>"));
        Assert.Equal("an apple <|endoftext|> <bin000> <bin004> <bin007> <bin005> <|startoftext|> a red apple <|endoftext|>", pipeline.Prompts.Places!.Write("an apple", [new("A red-apple", 0, 0.5, 1, 0.7)]));
        // Trained on, it keeps its places.
        var result = TinyTraining.Train(Tiny(Judged("name: reco"), $"model: {{from: {Path.Combine(folder, "run", "last")}}}"), Path.Combine(folder, "more"));
        Assert.True(double.IsFinite(result.Validation["kid"]));
    }

    [Fact]
    public void Little_noise_can_be_left_out_of_what_is_learned()
    {
        using var scope = NewDisposeScope();
        var (clean, random) = (zeros(400, 1, 1, 1), new Generator(1));
        var all = new DenoisingLoss(new DdimScheduler(), null).Draw(clean, random).Timesteps;
        var noisy = new DenoisingLoss(new DdimScheduler(), null, 0.6).Draw(clean, random).Timesteps;
        Assert.InRange(all.min().item<long>(), 0, 30);
        Assert.InRange(noisy.min().item<long>(), 600, 612);
        Assert.InRange(noisy.max().item<long>(), 985, 999);
        // Seven tenths at least, and of the others those that come so.
        var often = new DenoisingLoss(new DdimScheduler(), null, 0.6, 0.7).Draw(clean, random).Timesteps;
        Assert.InRange(often.ge(600).to(ScalarType.Float32).mean().item<float>(), 0.76, 0.88);
        Assert.Contains("does not go with a flow", Assert.Throws<PanoptesException>(() => new DenoisingLoss(new FlowMatchEulerScheduler(), null, 0.5)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_ControlNet_begins_as_if_it_were_not_there_unless_its_convolutions_are_random()
    {
        var model = Base();
        foreach (var (zeros, changes) in (ReadOnlySpan<(string, bool)>)[("true", false), ("false", true)])
        {
            var recipe = Tiny(Judged($"name: control_net, conditions: [canny], zero_convolutions: {zeros}"), model);
            using var scope = NewDisposeScope();
            using var ready = recipe.Start(Path.Combine(folder, $"zero-{zeros}"));
            using var noGrad = no_grad();
            var network = (ControlNetModel)ready.Model;
            using var said = network.Forward(new() { Sample = ones(1, 3, 32, 32), Timestep = tensor(5L), Text = ones(1, 4, 16) }, ones(1, 3, 32, 32));
            Assert.All([.. said.Down, said.Mid], r => Assert.Equal(changes, r.abs().max().item<float>() > 0));
        }
    }

    [Theory]
    [InlineData("name: control_net, conditions: [canny]", "model: {architecture: StableDiffusionPipeline}", "model.from")]
    [InlineData("name: control_net, conditions: [blur]", null, "Scenes have no condition 'blur'")]
    [InlineData("name: control_net, conditions: [canny], embedding_channels: []", null, "embedding_channels has 0 layers")]
    [InlineData("name: control_net, conditions: [canny], embedding_channels: [-4]", null, "embedding_channels is [-4]")]
    [InlineData("name: reco, noisy_share: 0.5", null, "noisy_share goes with from_noise")]
    [InlineData("name: reco, train_text_encoder: false", null, "train_text_encoder is false")]
    [InlineData("name: control_net, conditions: [smell]", null, "smell")]
    [InlineData("name: control_net, conditions: [canny], embedding_channels: [16, 32]", null, "embedding_channels has 2 layers")]
    [InlineData("name: gligen, box_dropout: 3", null, "box_dropout")]
    [InlineData("name: gligen, snr_gamma: -2", null, "snr_gamma")]
    [InlineData("name: gligen, from_noise: 1", null, "from_noise is 1")]
    [InlineData("name: reco, noisy_share: 2", null, "noisy_share is 2")]
    [InlineData("name: reco, bins: 1", null, "1 places")]
    [InlineData("name: reco, context_length: 4", null, "Texts of 4 tokens")]
    [InlineData("name: reco, box_dropout: 3", null, "box_dropout")]
    public void Control_that_does_not_fit_is_refused_with_one_sentence(string task, string? model, string named)
    {
        var recipe = Tiny(Judged(task), model ?? Base());
        var before = LiveTensors.Settle();
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => recipe.Start(Path.Combine(folder, "run")).Dispose()).Message, StringComparison.Ordinal);
        Assert.Equal(before, LiveTensors.Settle());
    }

    [Fact]
    public void A_pipeline_is_trained_on_from_its_folder_and_has_latents_of_unit_deviation()
    {
        var (task, model) = Of("latent");
        TinyTraining.Train(Tiny(task, model), Path.Combine(folder, "first"));
        var last = Path.Combine(folder, "first", "last");
        var result = TinyTraining.Train(Tiny(Judged("name: diffusion"), $"model: {{from: {last}}}"), Path.Combine(folder, "second"));
        Assert.True(double.IsFinite(result.Validation["kid"]));
        using var pipeline = PipelineFolder.Load(last);
        using var scope = NewDisposeScope();
        var tests = Tiny(task, model).Tests();
        using var batch = tests.Batches(Data.EmojiSplit.Train, 5).First();
        Assert.InRange(pipeline.Encode(batch.Normalized([0.5f, 0.5f, 0.5f], [0.5f, 0.5f, 0.5f]), new Generator(1)).square().mean().sqrt().item<float>(), 0.8, 1.25);
    }

    [Fact]
    public void A_pipeline_goes_on_with_another_vocabulary_and_keeps_what_it_knew()
    {
        var places = Of("reco");
        TinyTraining.Train(Tiny(places.Task, places.Model), Path.Combine(folder, "places"));
        var from = Path.Combine(folder, "places", "last");
        var model = $"model:\n  from: {from}\n  tokenizer: {{merges: MERGES, count: 100, words: [left, right]}}";
        using (var ready = Tiny(Judged("name: diffusion"), model).Start(Path.Combine(folder, "begun")))
        using (var before = (StableDiffusion)PipelineFolder.Load(from))
        {
            using var scope = NewDisposeScope();
            var tokenizer = Panoptes.Text.Tokenizer.Load(Path.Combine(folder, "begun", "tokenizer"));
            var rows = ready.Model.NamedParameters().Single(static p => p.Key.EndsWith("token_embedding.weight", StringComparison.Ordinal)).Parameter.Value.detach();
            var known = before.Prompts.Encoder.TextModel.Embeddings.TokenEmbedding.Weight.Value.detach();
            Assert.Equal(tokenizer.VocabularySize, rows.shape[0]);
            Assert.Null(tokenizer.IdOf("<bin002>"));
            Assert.True(rows.narrow(0, 0, 614).equal(known.narrow(0, 0, 614)).all().item<bool>());
            // New words are as long as their parts were on average, and no two point the same way.
            foreach (var word in (string[])["left", "right"])
            {
                var parts = before.Prompts.Tokenizer.Encode(word, addSpecialTokens: false);
                Assert.True(parts.Length > 1);
                Assert.Equal(parts.Average(id => known[id].norm().item<float>()), rows[tokenizer.IdOf($"{word}</w>")!.Value].norm().item<float>(), 1e-4f);
            }
            Assert.InRange(nn.functional.cosine_similarity(rows[tokenizer.IdOf("left</w>")!.Value], rows[tokenizer.IdOf("right</w>")!.Value], 0).item<float>(), -0.9f, 0.9f);
        }
        var result = TinyTraining.Train(Tiny(Judged("name: diffusion"), model), Path.Combine(folder, "run"));
        Assert.True(double.IsFinite(result.Validation["kid"]));
        using var trained = (StableDiffusion)PipelineFolder.Load(Path.Combine(folder, "run", "last"));
        Assert.Single(trained.Prompts.Tokenizer.Encode("left", addSpecialTokens: false));
        Assert.Equal(trained.Prompts.Tokenizer.VocabularySize, trained.Prompts.Encoder.VocabularySize);
        Assert.Null(trained.Prompts.Places);
    }

    [Theory]
    [InlineData("name: gan", Autoencoder, "TextToImageGan")]
    [InlineData("name: autoencoder", Gan, "tokenizer")]
    [InlineData("name: gan, caption_dropout: 2", Gan, "caption_dropout")]
    [InlineData("name: gan, discriminator: [8, 8]", Gan, "discriminator has 2 levels")]
    [InlineData("name: gan, discriminator: [8, 8, 8, 0]", Gan, "discriminator is [8, 8, 8, 0]")]
    [InlineData("name: gan, r1: -1", Gan, "r1 is -1 every 4 steps")]
    [InlineData("name: gan, generator_rate: 0", Gan, "generator_rate is 0")]
    [InlineData("name: gan, r1_every: 0", Gan, "r1 is 0.1 every 0 steps")]
    [InlineData("name: gan, measures: {temperature: 0}", Gan, "measures.temperature is 0")]
    [InlineData("name: gan, measures: {steps: 0}", Gan, "measures.steps is 0")]
    [InlineData("name: gan, measures: {judge: nowhere/at/all}", Gan, "nowhere")]
    [InlineData("name: masked_tokens, tokenizer: nowhere, measures: {top_k: 3}", Masked, "top_k does not go with masked tokens")]
    [InlineData("name: autoencoder, kl_weight: -1", Autoencoder, "kl_weight is -1")]
    [InlineData("name: autoencoder, perceptual_weight: 1", Autoencoder, "goes with a model whose features are compared")]
    [InlineData("name: paint", Gan, "paint")]
    [InlineData("name: diffusion", Gan, "StableDiffusionPipeline")]
    public void A_recipe_that_does_not_fit_is_refused_with_one_sentence(string task, string model, string named)
    {
        var message = Assert.Throws<PanoptesException>(() => Tiny(task.Contains("discriminator", StringComparison.Ordinal) ? Judged(task) : task, model).Start(Path.Combine(folder, "run")).Dispose()).Message;
        Assert.Contains(named, message, StringComparison.Ordinal);
    }

    [Fact]
    public void Latents_have_unit_deviation_whether_anything_is_measured_or_not()
    {
        var recipe = Tiny("name: autoencoder", Autoencoder);
        TinyTraining.Train(recipe, Path.Combine(folder, "measured"));
        TinyTraining.Train(recipe with { Data = recipe.Data with { Tests = 0 } }, Path.Combine(folder, "unmeasured"));
        using var measured = GenerationModels.Load<AutoencoderKl>(Path.Combine(folder, "measured", "last"));
        using var unmeasured = GenerationModels.Load<AutoencoderKl>(Path.Combine(folder, "unmeasured", "last"));
        Assert.Equal(measured.Config.ScalingFactor, unmeasured.Config.ScalingFactor);
        Assert.NotEqual(0.18215, measured.Config.ScalingFactor);
    }

    [Fact]
    public void A_trained_pipeline_is_used_as_it_was_measured()
    {
        var (task, model) = Of("pixels");
        TinyTraining.Train(Tiny(task, model), Path.Combine(folder, "run"));
        using var pipeline = PipelineFolder.Load(Path.Combine(folder, "run", "last"));
        Assert.Equal((2, 2), (pipeline.UsualGuidance, pipeline.UsualSteps));
        (task, model) = Of("masked");
        TinyTraining.Train(Tiny(task, model), Path.Combine(folder, "tokens-run"));
        using var images = CaptionedImages.Load(Path.Combine(folder, "tokens-run", "last"));
        var made = images.Generate([new("an apple") { Seed = 1 }, new("a cat (red:1.3)") { Seed = 5, Count = 2 }]);
        Assert.All(made, static m => Assert.Equal((2, 2), (m.Parameters.Guidance, m.Parameters.Steps)));
        // One of a batch is made again as one of a batch.
        Assert.Equal(new BatchPlace(3, 3), made[2].Parameters.Batch);
        var again = Assert.Single(images.Generate([new("a cat (red:1.3)") { Seed = 6, Batch = made[2].Parameters.Batch }]));
        Assert.Equal(made[2].Image.Pixels, again.Image.Pixels);
        Assert.Equal(made[2].Parameters, again.Parameters);
    }

    [Fact]
    public void What_a_family_does_not_take_is_refused_and_what_it_does_not_read_is_told()
    {
        var (task, model) = Of("gan");
        TinyTraining.Train(Tiny(task, model), Path.Combine(folder, "run"));
        var notes = new List<string>();
        using var images = CaptionedImages.Load(Path.Combine(folder, "run", "last"), note: notes.Add);
        Assert.Contains("takes one", Assert.Throws<PanoptesException>(() => images.Generate([new("an apple") { Steps = 5 }])).Message, StringComparison.Ordinal);
        Assert.Contains("is not guided", Assert.Throws<PanoptesException>(() => images.Generate([new("an apple") { Guidance = 5 }])).Message, StringComparison.Ordinal);
        Assert.Empty(notes);
        var made = images.Generate([new("a (red:1.3) apple") { Seed = 1 }, new(string.Join(' ', Enumerable.Repeat("apple", 40))) { Seed = 1 }]);
        Assert.All(made, static m => Assert.Equal((1, 1), (m.Parameters.Steps, m.Parameters.Guidance)));
        Assert.Equal(2, notes.Count);
        Assert.Contains("has weights", notes[0], StringComparison.Ordinal);
        Assert.Contains("reads the first 22", notes[1], StringComparison.Ordinal);
    }

    [Fact]
    public void Example_images_are_learned_beside_a_pipeline_that_sees_boxes_and_keeps_how_it_does()
    {
        Base();
        using var scope = NewDisposeScope();
        var (task, model) = Of("gligen");
        TinyTraining.Train(Tiny(task, model), Path.Combine(folder, "gligen"));
        var gligen = Path.Combine(folder, "gligen", "last");
        TinyTraining.Train(Tiny(Judged($"name: gligen, examples: {Encoder()}"), $"model: {{from: {gligen}}}"), Path.Combine(folder, "run"));
        using var before = (StableDiffusion)PipelineFolder.Load(gligen);
        using var after = (StableDiffusion)PipelineFolder.Load(Path.Combine(folder, "run", "last"));
        var (had, has) = (before.UNet.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter.Value), after.UNet.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter.Value));
        foreach (var (key, value) in has)
        {
            var old = had[key.Replace("linears_text", "linears", StringComparison.Ordinal).Replace("linears_image", "linears", StringComparison.Ordinal).Replace("null_text", "null_positive", StringComparison.Ordinal).Replace("null_image", "null_positive", StringComparison.Ordinal)];
            Assert.Equal(key.Contains("linears_image", StringComparison.Ordinal), !old.Equals(value) && key != "position_net.null_image_feature");
        }
        var plain = Make(before);
        Assert.True(plain.Equals(Make(after)));
        var shown = new PhraseBox("", 0.1, 0.1, 0.6, 0.7) { Example = new Imaging.Image(16, 16, 3, [.. Enumerable.Range(0, 16 * 16 * 3).Select(static i => (byte)(i * 37))]) };
        using var words = new GroundedBoxes(after, [new("a cat", 0.1, 0.1, 0.6, 0.7)], 1);
        using var picture = new GroundedBoxes(after, [shown], 1);
        using var other = new GroundedBoxes(after, [shown with { Example = new Imaging.Image(16, 16, 3, new byte[16 * 16 * 3]) }], 1);
        Tensor[] all = [plain, Make(after, words), Make(after, picture), Make(after, other)];
        foreach (var (i, j) in (ReadOnlySpan<(int, int)>)[(0, 1), (0, 2), (1, 2), (2, 3)]) Assert.False(all[i].Equals(all[j]), $"{i} and {j}");
        Assert.Contains("takes example images already", Assert.Throws<PanoptesException>(() => Tiny($"name: gligen, examples: {Encoder()}", $"model: {{from: {Path.Combine(folder, "run", "last")}}}").Start(Path.Combine(folder, "again")).Dispose()).Message, StringComparison.Ordinal);
        Assert.Contains("embeddings of 24 numbers; expected 16", Assert.Throws<PanoptesException>(() => Tiny($"name: gligen, examples: {Encoder(24)}", $"model: {{from: {gligen}}}").Start(Path.Combine(folder, "wide")).Dispose()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_picture_that_is_known_as_its_phrase_is_begins_with_the_phrases_own_token()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var width = 16;
        using var before = new UNet2DConditionModel(new() { SampleSize = 8, BlockOutChannels = [8, 16], DownBlockTypes = ["DownBlock2D", "CrossAttnDownBlock2D"], UpBlockTypes = ["CrossAttnUpBlock2D", "UpBlock2D"], LayersPerBlock = 1, NormNumGroups = 4, CrossAttentionDim = width, AttentionType = "gated" });
        using var gated = new UNet2DConditionModel(before.Config with { AttentionType = "gated-text-image" });
        before.Initialize(new Generator(1));
        foreach (var (key, parameter) in before.NamedParameters()) if (key.EndsWith("_feature", StringComparison.Ordinal)) parameter.Value.normal_(generator: new Generator(2));
        const double length = 0.3;
        GligenLayers.Begin(gated, before.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter), length, new Generator(3));
        var (phrase, boxes, mask) = (randn(1, 2, width, generator: new Generator(4)), rand(1, 2, 4, generator: new Generator(5)), tensor([1f, 0], [1, 2]));
        var old = before.PositionNet!.Forward(new() { Boxes = boxes, Masks = mask, Embeddings = phrase });
        var all = gated.PositionNet!.Forward(new() { Boxes = boxes, Masks = mask, PhraseMasks = mask, PhraseEmbeddings = phrase, ImageMasks = mask, ImageEmbeddings = phrase / length });
        Assert.True(all.allclose(cat([old, old], 1), 1e-5, 1e-6));
        gated.RequiresGrad(false);
    }

    [Fact]
    public void The_slope_of_a_discriminator_is_that_of_its_judgement_and_so_is_the_gradient_of_its_penalty()
    {
        using var scope = NewDisposeScope();
        using var discriminator = new ProjectionDiscriminator([8, 16, 16], 6);
        discriminator.Initialize(new Generator(1));
        // So finely that hardly a unit passes its kink, where the slope jumps.
        discriminator.To(ScalarType.Float64);
        const double step = 1e-7;
        using var random = new Generator(2);
        var (pixels, caption) = (rand([3, 3, 16, 16], ScalarType.Float64, generator: random) * 2 - 1, randn([3, 6], ScalarType.Float64, generator: random));
        // Of one image: as much as the judgement changes along its gradient, by differences.
        var wide = pixels.clone().requires_grad_();
        var along = autograd.grad([Judge(wide).sum()], [wide])[0];
        using (no_grad())
        {
            var changed = (Judge(pixels + step * along) - Judge(pixels - step * along)) / (2 * step);
            Assert.True(changed.allclose(along.square().sum([1, 2, 3]), 1e-5, 1e-9), "the slope");
        }
        // The gradient of the penalty of all weights, along one direction, by differences of the slope.
        var weights = discriminator.NamedParameters().Select(static p => p.Parameter.Value).ToArray();
        foreach (var weight in weights) weight.requires_grad_(true);
        var slope = Slope();
        Assert.Equal(along.square().sum([1, 2, 3]).mean().ToDouble(), slope.ToDouble(), 1e-12);
        var gradients = autograd.grad([slope], weights, allow_unused: true);
        var directions = weights.Select(w => randn(w.shape, ScalarType.Float64, generator: random) * w.detach().abs().mean()).ToArray();
        var told = weights.Select((w, i) => gradients[i] is null or { IsInvalid: true } ? 0 : (gradients[i] * directions[i]).sum().ToDouble()).Sum();
        var differences = (Moved(step) - Moved(-step)) / (2 * step);
        Assert.InRange(told / differences, 0.9999, 1.0001);

        Tensor Judge(Tensor of) => discriminator.Forward(of, caption);

        Tensor Slope()
        {
            var at = pixels.clone().requires_grad_();
            return GanTraining.Slope(Judge(at), at);
        }

        double Moved(double by)
        {
            Move(by);
            var value = Slope().ToDouble();
            Move(-by);
            return value;
        }

        void Move(double by)
        {
            using var noGrad = no_grad();
            foreach (var (weight, direction) in weights.Zip(directions)) weight.add_(direction, by);
        }
    }

    [Theory]
    [InlineData("norm_num_groups: 4", "norm_num_groups: 2")]
    [InlineData("num_vq_embeddings: 16", "num_vq_embeddings: 16, layers_per_block: 2")]
    [InlineData("num_vq_embeddings: 16", "num_vq_embeddings: 32")]
    public void A_tokenizer_that_is_built_otherwise_is_refused(string built, string otherwise)
    {
        var (task, model) = Of("autoregressive");
        var message = Assert.Throws<PanoptesException>(() => Tiny(task, model.Replace(built, otherwise, StringComparison.Ordinal)).Start(Path.Combine(folder, "run")).Dispose()).Message;
        Assert.Contains("is built otherwise than the model's vq_config", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Regions_that_are_not_read_together_with_the_caption_are_left_out_whole()
    {
        Base();
        using var pipeline = (StableDiffusion)PipelineFolder.Load(Path.Combine(folder, "base"));
        var places = ReCo.Adding(pipeline.Prompts.Tokenizer, 8);
        using var scope = NewDisposeScope();
        using var encoder = ReCo.AddPlaces(pipeline.Prompts.Encoder, new Generator(1), 24, 8);
        var prompts = new ClipPrompts(encoder, places.Tokenizer);
        PhraseBox[] regions = [new("cat", 0, 0, 0.5, 0.5), new("dog", 0.5, 0, 1, 0.5), new("cow", 0, 0.5, 0.5, 1)];
        Assert.Equal(places.Write("a cat", regions[..1]), ReCoTraining.Told(prompts, "a cat", regions[..1]));
        Assert.Equal(places.Write("a cat", regions[..2]), ReCoTraining.Told(prompts, "a cat", regions));
    }

    [Fact]
    public void A_network_of_other_channels_than_the_latents_is_refused()
    {
        var (task, _) = Of("latent");
        var message = Assert.Throws<PanoptesException>(() => Tiny(task, Pipeline(3, 16, "{_class_name: DDIMScheduler}")).Start(Path.Combine(folder, "run")).Dispose()).Message;
        Assert.Contains("3 channels", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("snr_gamma: -1", "{_class_name: DDPMScheduler}", "snr_gamma is -1")]
    [InlineData("snr_gamma: 5", "{_class_name: FlowMatchEulerDiscreteScheduler}", "does not go with a flow")]
    [InlineData("snr_gamma: 5", "{_class_name: DDIMScheduler, rescale_betas_zero_snr: true, set_alpha_to_one: false}", "ends in noise alone")]
    [InlineData("caption_dropout: 2", "{_class_name: DDPMScheduler}", "caption_dropout")]
    [InlineData("train_text_encoder: true", "{_class_name: AmusedScheduler, mask_token_id: 3}", "samples tokens")]
    public void Options_of_diffusion_that_do_not_fit_are_refused(string option, string scheduler, string named)
    {
        var message = Assert.Throws<PanoptesException>(() => Tiny($"name: diffusion, {option}", Pipeline(3, 32, scheduler)).Start(Path.Combine(folder, "run")).Dispose()).Message;
        Assert.Contains(named, message, StringComparison.Ordinal);
    }
}
