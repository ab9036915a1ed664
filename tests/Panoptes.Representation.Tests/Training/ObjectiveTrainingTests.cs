using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;

namespace Panoptes.Representation.Tests.Training;

public sealed class ObjectiveTrainingTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-objectives-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    /// <summary>A CLIP that trains within a second, on some of the emoji.</summary>
    static Recipe Tiny(string objectives, string architecture = "CLIPModel") => Recipe.Parse($$"""
        name: tiny
        seed: 5
        model:
          architecture: {{architecture}}
          config:
            projection_dim: 16
            vision_config: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, image_size: 32, patch_size: 8}
            text_config: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 614, max_position_embeddings: 48, bos_token_id: 612, eos_token_id: 613}
          tokenizer: {merges: {{Path.Combine(Parity.Goldens.Repository, "data", "tokenizers", "clip", "merges.txt")}}, count: 100}
        data: {set: emoji, concepts: 40, batch_size: 12, validate: false}
        objectives: {{objectives}}
        schedule: {learning_rate: 0.002, steps: 6, warmup_steps: 1}
        training: {precision: float32, log_every: 1, validate_every: 0}
        """, "tiny.yaml");

    public static TheoryData<string> Methods => new(
        "[{name: contrastive}, {name: simclr, hidden_size: 24, projection_size: 8}]",                         // SLIP
        "[{name: declip, queue_size: 30, hidden_size: 24, projection_size: 8}, {name: masked_language, weight: 0.2}]",
        "[{name: contrastive}, {name: nclip, dimensions: 20, hidden_size: 24}]",                               // xCLIP
        "[{name: filip}]",
        "[{name: unicl}]",
        "[{name: mofi}]",
        "[{name: simclr, first_view: 0, hidden_size: 24, projection_size: 8}, {name: masked_language}]");

    [Theory]
    [MemberData(nameof(Methods))]
    public void Every_objective_trains_from_a_recipe_and_resumes_to_the_same_numbers(string objectives)
    {
        var (unbroken, broken) = (Path.Combine(folder, "unbroken"), Path.Combine(folder, "broken"));
        Train(Tiny(objectives), unbroken);
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(Tiny(objectives), broken, p => { if (p.Step == 3) cancel.Cancel(); }, cancel.Token));
        Train(Tiny(objectives), broken);
        Assert.Equal(File.ReadAllBytes(Path.Combine(unbroken, "last", "model.safetensors")), File.ReadAllBytes(Path.Combine(broken, "last", "model.safetensors")));
        using var clip = Clip.Load(Path.Combine(broken, "last"));                                             // no head of an objective is in it
        Assert.Equal(16, clip.EmbeddingSize);
    }

    [Fact]
    public void Scenes_are_learned_from_and_pointed_at()
    {
        var text = Tiny("[{name: filip}]").Text.Replace("data: {set: emoji, concepts: 40, batch_size: 12, validate: false}", "data: {set: scenes, concepts: 60, batch_size: 12, measures: [pointing, retrieval], scenes: {max_objects: 2}}", StringComparison.Ordinal);
        using (var ready = RecipeRun.Create(Recipe.Parse(text, "tiny.yaml"), folder))
        {
            var measured = ready.Trainer.Run().Validation;
            Assert.InRange(measured["pointing_by_chance"], 0.02, 0.6);
            Assert.Equal(Math.Max(measured["pointing_by_text"], measured["pointing_by_tokens"]), measured["pointing"]);
            foreach (var way in (string[])["image_to_text", "text_to_image"])
            {
                // Hardly trained: near the ten of some five hundred that are found by chance.
                Assert.InRange(measured[$"{way}_r10"], 0.001, 0.2);
                Assert.InRange(measured[$"{way}_r5"], measured[$"{way}_r1"], measured[$"{way}_r10"]);
            }
        }
        foreach (var (part, instead, expected) in new[] { ("set: scenes, concepts: 60, batch_size: 12, measures: [pointing, retrieval], scenes: {max_objects: 2}", "set: emoji, concepts: 60, batch_size: 12, measures: [retrieval]", "measured on scenes"), ("batch_size: 12", "batch_size: 12, images: 20", "images are those of the emoji"), ("set: scenes", "set: emoji", "does not go with emoji") })
            Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(Recipe.Parse(text.Replace(part, instead, StringComparison.Ordinal), "tiny.yaml"), Path.Combine(folder, "other" + expected.Length))).Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string> ImageMethods => new()
    {
        { "{architecture: ViTMAEForPreTraining, config: {MAE}}", "[{name: masked_pixels}]" },
        { "{architecture: ViTMAEModel, config: {MAE}}", "[{name: masked_pixels}]" },
        { "{architecture: BeitModel, config: {BEIT}}", "[{name: masked_features, teacher: TEACHER, mask_ratio: 0.5, smallest_block: 2}]" },
        { "{architecture: Eva, config: {architecture: eva02_tiny_patch14_224, num_classes: 0, model_args: {img_size: 16, patch_size: 8, embed_dim: 16, depth: 1, num_heads: 2, global_pool: token}}}", "[{name: masked_features, teacher: TEACHER, mask_ratio: 0.5, smallest_block: 2}]" },
        { "{architecture: BeitForMaskedImageModeling, config: {BEIT, vocab_size: 8}}", "[{name: masked_tokens, tokenizer: DVAE, mask_ratio: 0.5, smallest_block: 2}]" },
        { "{architecture: ViTModel, config: {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, image_size: 16, patch_size: 8, add_pooling_layer: false}}", "[{name: simclr, first_view: 0, hidden_size: 24, projection_size: 8}]" },
    };

    [Theory]
    [MemberData(nameof(ImageMethods))]
    public void Image_towers_train_alone_and_resume_to_the_same_numbers(string model, string objectives)
    {
        TinyClip.Write(Path.Combine(folder, "teacher"));
        using (var generator = new Generator(2))
        using (var dvae = Models.All.First(static e => e.Type == typeof(DalleDvae)).Build(new("""{"encoder":{"n_hid":8,"n_blk_per_group":1,"vocab_size":8},"decoder":{"n_init":8,"n_hid":8,"n_blk_per_group":1,"vocab_size":8}}""", "test", static _ => null)))
        {
            dvae.Initialize(generator);
            Models.Save(Path.Combine(folder, "dvae"), dvae);
        }
        var recipe = Recipe.Parse($$"""
            name: tiny
            seed: 5
            model: {{model}}
            data: {set: emoji, concepts: 40, batch_size: 12, measures: [neighbors]}
            objectives: {{objectives}}
            schedule: {learning_rate: 0.002, steps: 6, warmup_steps: 1}
            training: {precision: float32, log_every: 1, validate_every: 0}
            """
            .Replace("{MAE}", "{" + Mae + "}", StringComparison.Ordinal)
            .Replace("BEIT", "hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, image_size: 16, patch_size: 8, use_mask_token: true, use_relative_position_bias: true", StringComparison.Ordinal)
            .Replace("TEACHER", Path.Combine(folder, "teacher"), StringComparison.Ordinal).Replace("DVAE", Path.Combine(folder, "dvae"), StringComparison.Ordinal), "tiny.yaml");
        var (unbroken, broken) = (Path.Combine(folder, "unbroken"), Path.Combine(folder, "broken"));
        var before = LiveTensors.Settle();
        Train(recipe, unbroken);
        Assert.Equal(before, Tensor.TotalCount);
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(recipe, broken, p => { if (p.Step == 3) cancel.Cancel(); }, cancel.Token));
        Train(recipe, broken);
        Assert.Equal(File.ReadAllBytes(Path.Combine(unbroken, "last", "model.safetensors")), File.ReadAllBytes(Path.Combine(broken, "last", "model.safetensors")));
        using var encoder = ImageEncoder.Load(Path.Combine(broken, "last"));
        Assert.Equal(16, encoder.Feature(new Imaging.Image(20, 20, 3)).Length);
    }

    const string Mae = "hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, image_size: 16, patch_size: 4, decoder_hidden_size: 12, decoder_num_hidden_layers: 1, decoder_num_attention_heads: 2, decoder_intermediate_size: 24";

    [Fact]
    public void A_classifier_starts_from_a_masked_autoencoders_encoder_and_tells_the_datas_classes_apart()
    {
        var (pretrained, run) = (Path.Combine(folder, "pretrained"), Path.Combine(folder, "run"));
        using (var generator = new Generator(2))
        using (var mae = Models.All.First(static e => e.Architecture == "ViTMAEForPreTraining").Build(new("{" + string.Join(",", Mae.Split(", ").Select(static f => $"\"{f.Replace(":", "\":", StringComparison.Ordinal)}")) + "}", "test", static _ => null)))
        {
            mae.Initialize(generator);
            Models.Save(pretrained, mae);
        }
        Recipe Of(string model, string options = "") => Recipe.Parse($$"""
            name: tiny
            seed: 5
            model: {architecture: {{model}}, image_tower_from: {{pretrained}} }
            data: {set: emoji, concepts: 40, batch_size: 12, annotations: {label: group} }
            objectives: [{name: classification{{options}} }]
            optimizer: {name: adamw, weight_decay: 0}
            schedule: {learning_rate: 0.002, steps: 4}
            training: {precision: float32, log_every: 1, validate_every: 0}
            """, "tiny.yaml");
        var classifier = $"ViTMAEForImageClassification, config: {{{Mae}}}";
        using (var ready = RecipeRun.Create(Of(classifier), run))
        {
            var model = (MaeForImageClassification)ready.Model;
            Assert.Contains("food-drink", model.Labels);
            using (var weights = Checkpoints.Weights.Open(pretrained))
            using (var expected = weights.Read("vit.encoder.layer.0.output.dense.weight")) Assert.True(model.Vit.Layers[0].Output.Weight.Value.allclose(expected));
            Assert.InRange(ready.Trainer.Run().Validation["classes"], 0, 1);
        }
        using (var loaded = Models.Load(Path.Combine(run, "last"))) Assert.Equal(9, ((ImageClassifier)loaded).Labels.Count);

        Refused(Of(classifier.Replace("num_hidden_layers: 1", "num_hidden_layers: 2", StringComparison.Ordinal)), "weights differ, such as vit.encoder.layer.1");
        Refused(Of("ViTModel, config: {hidden_size: 20, num_attention_heads: 2, image_size: 16, patch_size: 4}"), "no image tower like");
        Refused(Of("ViTMAEForPreTraining, config: {" + Mae + "}"), "tells classes apart");
        Refused(Of(classifier, ", label_smoothing: 1"), "label_smoothing is 1");
        Refused(Of(classifier.Replace("{hidden", "{num_labels: 3, hidden", StringComparison.Ordinal)), "3 classes apart, but the data have 9");

        void Refused(Recipe recipe, string expected)
        {
            var before = LiveTensors.Settle();
            Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(recipe, Path.Combine(folder, "refused", Guid.NewGuid().ToString()))).Message, StringComparison.Ordinal);
            Assert.Equal(before, Tensor.TotalCount);
        }
    }

    [Fact]
    public void Plain_supervision_is_the_cross_entropy_of_the_labeled()
    {
        using var scope = NewDisposeScope();
        var (logits, labels) = (randn(5, 4), tensor(new long[] { 1, -1, 3, 0, -1 }));
        var some = logits.index_select(0, tensor(new long[] { 0, 2, 3 }));
        foreach (var smoothing in (double[])[0, 0.1])
        {
            var expected = nn.functional.cross_entropy(some, tensor(new long[] { 1, 3, 0 }), label_smoothing: smoothing).item<float>();
            Assert.Equal(expected, ClassificationLoss.Of(logits, labels, smoothing).item<float>(), 1e-6);
        }
        Assert.Equal(0, ClassificationLoss.Of(logits, tensor(new long[] { -1, -1, -1, -1, -1 })).item<float>());
    }

    /// <summary>Pretrained on masked images, texts and pairs, then made to retrieve, to answer and to write.</summary>
    [Fact]
    public void Beit3_is_pretrained_on_masked_data_and_fine_tuned_from_there()
    {
        const string Pretraining = "BEiT3ForPretraining";
        var pretrained = Path.Combine(folder, "pretrained");
        var before = LiveTensors.Settle();
        Train(Beit(Pretraining, "[{name: masked_data, smallest_block: 1}]"), pretrained);
        Assert.Equal(before, Tensor.TotalCount);
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(Beit(Pretraining, "[{name: masked_data, smallest_block: 1}]"), Path.Combine(folder, "broken"), p => { if (p.Step == 3) cancel.Cancel(); }, cancel.Token));
        Train(Beit(Pretraining, "[{name: masked_data, smallest_block: 1}]"), Path.Combine(folder, "broken"));
        Assert.Equal(File.ReadAllBytes(Path.Combine(pretrained, "last", "model.safetensors")), File.ReadAllBytes(Path.Combine(folder, "broken", "last", "model.safetensors")));
        var from = $", image_tower_from: {Path.Combine(pretrained, "last")}";
        using (var network = Models.Load<Beit3ForPretraining>(Path.Combine(pretrained, "last")))
        using (var ready = RecipeRun.Create(Beit("BEiT3ForRetrieval", "[{name: contrastive}]", from), Path.Combine(folder, "retrieval")))
        {
            var own = ((Beit3ForRetrieval)ready.Model).Beit3;
            Assert.Equal(network.Beit3.TextEmbed.Weight.Value.data<float>().ToArray(), own.TextEmbed.Weight.Value.data<float>().ToArray());
            ready.Trainer.Run();
        }
        using (NewDisposeScope())
        using (no_grad())
        using (var clip = Clip.Load(Path.Combine(folder, "retrieval", "last")))
        {
            var tokens = clip.Tokenizer.Encode(["a cat"], 40);
            var alone = DualEncoder.Normalize(clip.Model.Texts.Encode(tokens.InputIds().narrow(1, 0, tokens.Lengths[0])));
            Assert.Equal(0, (tensor(clip.Embed("a cat")) - alone[0]).abs().max().item<float>(), 1e-5);              // padding changes nothing
        }

        var asked = Recipe.Parse(Beit("BEiT3ForVisualQuestionAnswering", "[{name: answering}]", from).Text.Replace("set: emoji, concepts: 40, batch_size: 12, validate: false", "set: scenes, questions: true, concepts: 60, batch_size: 12, scenes: {max_objects: 2}", StringComparison.Ordinal), "tiny.yaml");
        using (var ready = RecipeRun.Create(asked, Path.Combine(folder, "vqa")))
        {
            var measured = ready.Trainer.Run().Validation;
            Assert.InRange(measured["answers_by_majority"], 0.2, 0.8);
            Assert.InRange(measured["answers"], 0, 1);
            Assert.True(measured.ContainsKey("answers_existence"));
        }
        using (var answering = Models.Load<Beit3ForVisualQuestionAnswering>(Path.Combine(folder, "vqa", "last")))
        {
            Assert.Equal(["yes", "no", "0", "1", "2"], answering.Answers.Take(5));
            Assert.Equal(answering.Answers.Count, answering.HeadOutput.OutFeatures);
        }
        using (var answerer = QuestionAnswerer.Load(Path.Combine(folder, "vqa", "last"), new() { BatchSize = 2 }))
        {
            Image[] images = [.. Enumerable.Range(1, 3).Select(static i => new Image(40 + i, 30, 3))];
            string[] questions = ["is there a red apple?", "how many things are there?", "is there a car?"];
            var answers = answerer.Answer(images, questions, 1000);
            for (var i = 0; i < 3; i++)
            {
                Assert.Equal(answerer.Answers.Order(), answers[i].Select(static a => a.Text).Order());
                Assert.Equal(1, answers[i].Sum(static a => a.Probability), 1e-4);
                Assert.Equal(answers[i].OrderByDescending(static a => a.Probability).Select(static a => a.Probability), answers[i].Select(static a => a.Probability));
                var alone = answerer.Answer(images[i], questions[i]);                                 // neither the others nor their padding change it
                Assert.Equal(answers[i][0].Probability, alone.Probability, 1e-4);
            }
            Assert.Contains("expected one an image", Assert.Throws<PanoptesException>(() => answerer.Answer(images, ["what?"])).Message, StringComparison.Ordinal);
        }
        Assert.Contains("expected a model that answers questions", Assert.Throws<PanoptesException>(() => QuestionAnswerer.Load(Path.Combine(folder, "retrieval", "last"))).Message, StringComparison.Ordinal);

        Train(Beit("BEiT3ForCaptioning", "[{name: masked_captions}]", from), Path.Combine(folder, "captions"));
        using var scope = NewDisposeScope();
        using var writing = Models.Load<Beit3ForCaptioning>(Path.Combine(folder, "captions", "last"));
        var pixels = randn([3, 3, 32, 32], generator: new Generator(4));
        var written = writing.Generate(pixels, 612, 613, new() { MinTokens = 2, MaxTokens = 8 });
        Assert.Equal(3, written.Count);
        Assert.All(written, static w => Assert.InRange(w.Ids.Length, 2, 8));
        // Word by word as by hand: the likeliest word at the mask after what is written.
        using var noGrad = no_grad();
        using var said = writing.Logits(pixels[1].unsqueeze(0), tensor(new long[] { 612, written[1].Ids[0], 612 }, [1, 3]))[0, 2];
        foreach (var never in (long[])[612, 613]) said[never] = float.NegativeInfinity;                   // the mask, and the end before its time
        Assert.Equal(written[1].Ids[1], said.argmax().item<long>());

        foreach (var (architecture, objectives, expected) in new[] { (Pretraining, "[{name: answering}]", "answering needs a BEiT3ForVisualQuestionAnswering"), ("BEiT3ForRetrieval", "[{name: masked_data}]", "masked_data needs a BEiT3ForPretraining"), (Pretraining, "[{name: masked_captions}]", "masked_captions needs"), (Pretraining, "[{name: masked_data, text_ratio: 1}]", "text_ratio is 1") })
            Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(Beit(architecture, objectives), Path.Combine(folder, "refused" + expected.Length))).Message, StringComparison.Ordinal);

        static Recipe Beit(string architecture, string objectives, string more = "")
        {
            var text = Tiny(objectives, architecture).Text;
            var (start, end) = (text.IndexOf("    projection_dim", StringComparison.Ordinal), text.IndexOf("  tokenizer:", StringComparison.Ordinal));
            return Recipe.Parse($$"""
                {{text[..start]}}    img_size: 32
                    patch_size: 16
                    vocab_size: 614
                    encoder_embed_dim: 16
                    encoder_attention_heads: 2
                    encoder_ffn_embed_dim: 24
                    encoder_layers: 2
                    max_source_positions: 42
                  tokenizer: {merges: {{Path.Combine(Parity.Goldens.Repository, "data", "tokenizers", "clip", "merges.txt")}}, count: 100}{{(more.Length > 0 ? "\n  " + more[2..] : "")}}
                {{text[text.IndexOf("data:", StringComparison.Ordinal)..]}}
                """, "tiny.yaml");
        }
    }

    [Fact]
    public void As_many_words_are_hidden_as_were_asked_for_and_at_least_one()
    {
        using var scope = NewDisposeScope();
        var ids = tensor(new long[] { 90, 1, 2, 3, 4, 91, 0, 0, 90, 5, 91, 0, 0, 0, 0, 0 }, [2, 8]);
        for (var seed = 0; seed < 8; seed++)
        {
            using var random = new Generator((ulong)seed);
            var (hidden, masked) = MaskedWords.Hide(ids, tensor(new long[] { 6, 3 }), 0.5, random);
            Assert.Equal([2L, 1], masked.sum(1).data<long>().ToArray());
            Assert.Equal(3, hidden.eq(90).logical_and(masked).sum().item<long>());
            Assert.False(masked[0, 5].item<bool>() || masked[0, 0].item<bool>() || masked[0, 6].item<bool>() || masked[1, 2].item<bool>());
            Assert.Equal(ids.masked_select(masked.logical_not()).data<long>().ToArray(), hidden.masked_select(masked.logical_not()).data<long>().ToArray());
        }
    }

    [Theory]
    [InlineData("[{name: contrastive}, {name: contrastive}]", "The objective contrastive is listed twice")]
    [InlineData("[{name: simclr, temperature: 0}]", "temperature is 0")]
    [InlineData("[{name: masked_language, mask_ratio: 1}]", "mask_ratio is 1")]
    [InlineData("[{name: masked_pixels}]", "masked_pixels needs a masked autoencoder")]
    [InlineData("[{name: masked_features, teacher: none}]", "whose patches can be masked")]
    [InlineData("[{name: masked_tokens, tokenizer: none}]", "masked_tokens needs a BeitForMaskedImageModeling")]
    [InlineData("[{name: stair}]", "stair needs a StairModel")]
    [InlineData("[{name: captioning}]", "expected a CoCa")]
    public void An_objective_that_cannot_be_is_refused(string objectives, string expected)
    {
        var before = LiveTensors.Settle();
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(Tiny(objectives), folder)).Message, StringComparison.Ordinal);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Objectives_are_given_back_where_the_data_do_not_fit()
    {
        var recipe = Recipe.Parse(Tiny("[{name: declip}]").Text.Replace("batch_size: 12", "batch_size: 100000", StringComparison.Ordinal), "tiny.yaml");
        var before = LiveTensors.Settle();
        Assert.Contains("100000", Assert.Throws<PanoptesException>(() => RecipeRun.Create(recipe, folder)).Message, StringComparison.Ordinal);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Pieces_of_a_batch_give_the_gradient_of_the_whole_whatever_the_features()
    {
        using var scope = NewDisposeScope();
        using var tiny = new TinyClip();
        var (model, _, tokenizer) = tiny.LoadForTraining();
        using var owned = model;
        string[] texts = ["a cat", "a dog", "cat cat", "do", "a", "dog cat a"];
        var tokens = tokenizer.Encode(texts, model.Texts.ContextLength);
        var (ids, lengths) = (tokens.InputIds(), tensor(tokens.Lengths.Select(static l => (long)l).ToArray()));
        var input = new PairInput([randn(6, 3, 16, 16), randn(6, 3, 16, 16), randn(6, 3, 16, 16)], [ids], Labels: tensor(new long[] { 0, 1, 0, 2, -1, -1 })) { Lengths = [lengths] };
        var towers = Towers.Of(model);
        using var head = new SimClrLoss(towers.Images.PooledSize, new() { Name = "simclr", HiddenSize = 8, ProjectionSize = 4 });
        using (var generator = new Generator(3)) head.Initialize(generator);
        head.Train();
        WeightedObjective[] objectives = [new("filip", new FilipLoss()), new("unicl", new UniClLoss(), 0.5), new("simclr", head, 0.25)];

        var (whole, pieces) = (Gradients(null), Gradients(4));
        Assert.Equal(whole.Losses["loss"], pieces.Losses["loss"], 1e-5);
        Assert.Equal(4, whole.Losses.Count);
        Assert.Equal(whole.Losses["loss"], whole.Losses["loss/filip"] + (0.5 * whole.Losses["loss/unicl"]) + (0.25 * whole.Losses["loss/simclr"]), 1e-5);
        foreach (var (key, gradient) in whole.Values)
        {
            var error = (gradient - pieces.Values[key]).abs().max().item<float>() / Math.Max(1, gradient.abs().max().item<float>());
            Assert.True(error < 5e-5, $"{key}: {error}");                                                    // rounding differs with the number of threads
        }

        (IReadOnlyDictionary<string, double> Losses, Dictionary<string, Tensor> Values) Gradients(int? piece)
        {
            var losses = new PairGradients { Objectives = objectives, MicroBatch = piece }.Backward(towers, input);
            var values = new TrainedParts(model, objectives.Select(static o => o.Objective)).DistinctParameters().Where(static p => p.Parameter.Grad is not null)
                .ToDictionary(static p => p.Key, static p => p.Parameter.Grad!.clone());
            foreach (var parameter in model.Parameters().Concat(head.Parameters())) parameter.ClearGrad();
            return (losses, values);
        }
    }

    [Fact]
    public void The_queue_of_texts_is_filled_first_in_first_out()
    {
        using var scope = NewDisposeScope();
        var queue = zeros(5, 1);
        var pointer = DeclipLoss.Enqueue(queue, 3, tensor(new float[] { 1, 2, 3 }).unsqueeze(1));
        Assert.Equal([3f, 0, 0, 1, 2], queue.flatten().data<float>().ToArray());
        Assert.Equal(1, pointer);
        pointer = DeclipLoss.Enqueue(queue, pointer, arange(10, 17, ScalarType.Float32).unsqueeze(1));         // more than it holds: the last ones stay
        Assert.Equal([14f, 15, 16, 12, 13], queue.flatten().data<float>().ToArray());
        Assert.Equal(3, pointer);
    }

    [Fact]
    public void Similarities_of_tokens_are_the_same_in_blocks_and_at_once()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(2);
        var (images, texts) = (randn([3, 5, 4], generator: generator), randn([2, 6, 4], generator: generator));
        var valid = PairInput.Valid(tensor(new long[] { 6, 2 }), 6);
        var found = FilipLoss.Similarities(images, texts, valid);
        for (var i = 0; i < 3; i++)
        {
            for (var j = 0; j < 2; j++)
            {
                var own = images[i].matmul(texts[j].narrow(0, 0, j == 0 ? 6 : 2).t());                        // [patches, words]
                Assert.Equal(own.amax([1]).mean().item<float>(), found.ImageToText[i, j].item<float>(), 1e-5);
                Assert.Equal(own.amax([0]).mean().item<float>(), found.TextToImage[i, j].item<float>(), 1e-5);
            }
        }
    }

    [Theory]
    [InlineData(5, 7, 3, 6)]
    [InlineData(3, 300, 100, 150)]                                                          // more products than are held at once: a block an image
    public void Gradients_of_similarities_of_tokens_are_those_of_all_products(int count, int patches, int texts, int words)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(4);
        var (x, y) = (randn([count, patches, 4], generator: generator), randn([texts, words, 4], generator: generator));
        var valid = PairInput.Valid(arange(0, texts, ScalarType.Int64) % words + 1, words);
        var (a, b) = (randn([count, texts], generator: generator), randn([count, texts], generator: generator));
        var before = LiveTensors.Settle();
        var (ofX, ofY) = Gradients(static (x, y, valid) => FilipLoss.Similarities(x, y, valid));
        var (plainX, plainY) = Gradients(static (x, y, valid) =>
        {
            var all = einsum("ipd,twd->iptw", x, y);
            return new(all.masked_fill(valid.logical_not(), -1e9).amax([3]).mean([1]), (all.amax([1]) * valid.to(ScalarType.Float32) / valid.sum(1, keepdim: true)).sum(-1));
        });
        Assert.Equal(before + 4, Tensor.TotalCount);
        Assert.True((ofX - plainX).abs().max().item<float>() < 1e-5f);
        Assert.True((ofY - plainY).abs().max().item<float>() < 1e-5f);

        (Tensor X, Tensor Y) Gradients(Func<Tensor, Tensor, Tensor, TokenSimilarities> similarities)
        {
            using var inner = NewDisposeScope();
            var (leafX, leafY) = (x.clone().requires_grad_(), y.clone().requires_grad_());
            var found = similarities(leafX, leafY, valid.to(ScalarType.Bool));
            ((found.ImageToText * a).sum() + (found.TextToImage * b).sum()).backward();
            return (leafX.grad!.MoveToOuterDisposeScope(), leafY.grad!.MoveToOuterDisposeScope());
        }
    }

    static void Train(Recipe recipe, string run, Action<Panoptes.Training.TrainingProgress>? report = null, CancellationToken cancel = default)
    {
        using var ready = RecipeRun.Create(recipe, run);
        ready.Trainer.Run(report is null ? null : new Watch(report), cancel);
    }

    sealed class Watch(Action<Panoptes.Training.TrainingProgress> report) : IProgress<Panoptes.Training.TrainingProgress>
    {
        public void Report(Panoptes.Training.TrainingProgress value) => report(value);
    }
}
