using Panoptes.Imaging;
using Panoptes.Parity;

namespace Panoptes.Generation.Tests;

/// <summary>What users hold, on the tiny pipeline of the golden cases: 16 pixels, random weights.</summary>
public sealed class DiffusionTests : IDisposable
{
    static readonly string Folder = Path.Combine(Goldens.Root, "generation", "sd_text2img");

    readonly Diffusion diffusion = Diffusion.Load(Folder);
    readonly string temporary = Directory.CreateTempSubdirectory("panoptes-diffusion-").FullName;

    static ImageRequest Apple => new("a red apple") { Width = 16, Height = 16, Steps = 3, Seed = 7 };

    public void Dispose()
    {
        diffusion.Dispose();
        Directory.Delete(temporary, recursive: true);
    }

    [Fact]
    public void The_same_seed_gives_the_same_image_alone_and_in_a_batch()
    {
        var one = diffusion.Generate([Apple])[0];
        var three = diffusion.Generate([Apple with { Seed = 6, Count = 3 }]);
        Assert.Equal([6, 7, 8], three.Select(static m => m.Parameters.Seed));
        Assert.Equal(one.Image.Pixels, diffusion.Generate([Apple])[0].Image.Pixels);
        Assert.NotEqual(one.Image.Pixels, three[0].Image.Pixels);
        // Sums of another order may move a value by one.
        Assert.All(one.Image.Pixels.Zip(three[1].Image.Pixels), static p => Assert.InRange(p.First - p.Second, -1, 1));
    }

    [Fact]
    public void An_image_of_a_batch_is_made_again_to_the_last_bit_as_one_of_a_batch()
    {
        var three = diffusion.Generate([Apple with { Seed = 6, Count = 3 }]);
        Assert.Equal([new(3, 1), new(3, 2), new(3, 3)], three.Select(static m => m.Parameters.Batch!));
        Assert.Null(diffusion.Generate([Apple])[0].Parameters.Batch);
        foreach (var made in three)
        {
            var again = diffusion.Generate([Apple with { Seed = made.Parameters.Seed, Batch = made.Parameters.Batch }])[0];
            Assert.Equal(made.Image.Pixels, again.Image.Pixels);
            Assert.Equal(made.Parameters, again.Parameters);
        }
        Assert.Contains("a number from 1 to a size", Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple with { Batch = new(3, 4) }])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_network_that_was_made_for_rows_and_columns_makes_images_of_them()
    {
        var small = (StableDiffusion)diffusion.Model;
        using var network = new UNet2DConditionModel(small.UNet.Config with { SampleSize = (int[])[8, 12] });
        using (var generator = new Generator(2))
            foreach (var parameter in network.Parameters()) parameter.Initialize(generator, ScalarType.Float32);
        var made = new Diffusion(new StableDiffusion(network, small.Autoencoder, small.Prompts, small.Scheduler), "wide").Generate([new("a red apple") { Steps = 2, Seed = 1 }])[0];
        Assert.Equal((24, 16), (made.Image.Width, made.Image.Height));
    }

    [Fact]
    public void All_layers_of_a_text_encoder_may_be_left_out_and_no_more()
    {
        var prompts = ((StableDiffusion)diffusion.Model).Prompts;
        var layers = prompts.Encoder.Config.NumHiddenLayers;
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var ids = tensor([.. PromptTokens.Of("a cat", prompts.Tokenizer, prompts.Encoder.ContextLength).Windows[0].Select(static id => (long)id)], [1, prompts.Encoder.ContextLength]);
        Assert.True(prompts.Read(["a cat"], 0, layers, 1, normalized: false, note: null).States.Equals(prompts.Encoder.Read(ids, null, layers, normalized: false).Tokens));
        Assert.Contains($"expected 0 to {layers}", Assert.Throws<PanoptesException>(() => prompts.Read(["a cat"], 0, layers + 1, 1, normalized: false, note: null)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void T5_passes_over_weights_and_says_so()
    {
        using var encoder = new Representation.T5EncoderModel(new() { VocabSize = 49408, DModel = 8, DKv = 4, DFf = 16, NumLayers = 1, NumHeads = 2 });
        using (var generator = new Generator(1))
            foreach (var parameter in encoder.Parameters()) parameter.Initialize(generator, ScalarType.Float32);
        var t5 = new T5Prompts(encoder, ((StableDiffusion)diffusion.Model).Prompts.Tokenizer, 16, masked: false);
        var notes = new List<string>();
        using Tensor weighted = t5.Read(["a (red:1.3) apple", "a (red:1.3) apple"], notes.Add).States, plain = t5.Read(["a red apple", "a red apple"], notes.Add).States;
        Assert.Equal(plain, weighted);
        Assert.Equal("The prompt \"a (red:1.3) apple\" has weights, which T5 does not read.", Assert.Single(notes));
    }

    [Fact]
    public void An_image_does_not_depend_on_how_long_its_neighbors_prompts_are_nor_on_what_they_deny()
    {
        var alone = diffusion.Generate([Apple])[0].Image.Pixels;
        var longer = Apple with { Prompt = string.Join(' ', Enumerable.Repeat("a red apple", 40)) };
        Assert.Equal(alone, diffusion.Generate([Apple, longer])[0].Image.Pixels);
        Assert.Equal(alone, diffusion.Generate([Apple, Apple with { NegativePrompt = "a cat" }])[0].Image.Pixels);
    }

    [Fact]
    public void One_picture_of_several_images_is_encoded_and_drawn_once_where_all_noise_is_of_one_source()
    {
        var (positive, negative) = diffusion.Model.Describe(["a red apple", "a cat"], ["", ""], new() { Size = (16, 16) });
        using var picture = rand(1, 3, 16, 16, generator: new Generator(1));
        var drawn = new Counted();
        var task = new DiffusionTask { Positive = positive, Negative = negative, Height = 16, Width = 16, Steps = 4, Noise = drawn, Image = picture, Sampling = new() { Strength = 0.5 } };
        task.Run(diffusion.Model).Dispose();
        // The picture's latents, and then the noise of both images.
        Assert.Equal([1, 2], drawn.Rows);
    }

    sealed class Counted : NoiseSource
    {
        public List<long> Rows { get; } = [];

        public override Tensor Normal(long[] shape, ScalarType type)
        {
            Rows.Add(shape[0]);
            return zeros(shape, type);
        }

        public override Tensor Uniform(long[] shape) => throw new NotSupportedException();

        public override Tensor Choose(Tensor weights) => throw new NotSupportedException();
    }

    /// <summary>A pipeline's network with random weights, that is told how strong guidance is.</summary>
    static UNet2DConditionModel ToldGuidance(StableDiffusion of)
    {
        var network = new UNet2DConditionModel(of.UNet.Config with { TimeCondProjDim = 8 });
        using var generator = new Generator(2);
        foreach (var parameter in network.Parameters()) parameter.Initialize(generator, ScalarType.Float32);
        return network;
    }

    [Fact]
    public void A_network_that_is_told_how_strong_guidance_is_is_asked_once_and_told()
    {
        var small = (StableDiffusion)diffusion.Model;
        using var network = ToldGuidance(small);
        var model = new StableDiffusion(network, small.Autoencoder, small.Prompts, small.Scheduler);
        Assert.Equal((false, 8.5, 4), (model.AsksTwice, model.UsualGuidance, model.UsualSteps));
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (positive, _) = model.Describe(["a red apple"], null, new() { Size = (16, 16) });
        var call = new NetworkCall { Sample = randn(1, 4, 8, 8, generator: new Generator(3)), Timestep = tensor(500L), Conditioning = positive, Guidance = 3 };
        // The peer's get_guidance_scale_embedding: sines, then cosines, of 1000 (w - 1).
        double[] angles = [.. Enumerable.Range(0, 4).Select(static k => 2000 * Math.Exp(-Math.Log(10000) * k / 3))];
        var told = tensor([.. angles.Select(static a => (float)Math.Sin((float)a)), .. angles.Select(static a => (float)Math.Cos((float)a))], [1, 8]);
        var expected = network.Forward(new() { Sample = call.Sample, Timestep = call.Timestep, Text = positive.Text, TimestepCondition = told });
        Assert.True(model.Predict(call).allclose(expected, 1e-4, 1e-5));
        Assert.False(model.Predict(call with { Guidance = 9 }).allclose(expected, 1e-4, 1e-5));
        var images = new Diffusion(model, "tiny");
        Assert.NotEqual(images.Generate([Apple with { Guidance = 2 }])[0].Image.Pixels, images.Generate([Apple with { Guidance = 9 }])[0].Image.Pixels);
        Assert.Contains("expected no negative prompt", Assert.Throws<PanoptesException>(() => images.Generate([Apple with { NegativePrompt = "a cat" }])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Of_a_latent_consistency_model_strength_leaves_the_teachers_steps_out_and_none_of_its_own()
    {
        var small = (StableDiffusion)diffusion.Model;
        using var network = ToldGuidance(small);
        var consistent = new Diffusion(new StableDiffusion(network, small.Autoencoder, small.Prompts, small.Scheduler.Using("lcm")), "lcm");
        var changed = Apple with { Image = new(16, 16, 3), Strength = 0.6, Steps = 4 };
        // As the peer's LatentConsistencyModelImg2ImgPipeline: four of the last 30 of the teacher's 50.
        Assert.Equal([599, 459, 299, 159], Times(consistent, changed));
        Assert.Equal([999, 759, 499, 259], Times(consistent, Apple with { Steps = 4 }));
        // Any other model leaves out its own.
        Assert.Equal([499, 259], Times(diffusion, changed with { Sampler = "lcm" }));
        Assert.Contains("expected no guidance rescale", Assert.Throws<PanoptesException>(() => consistent.Generate([Apple with { GuidanceRescale = 0.5 }])).Message, StringComparison.Ordinal);

        static double[] Times(Diffusion of, ImageRequest request)
        {
            var seen = new Times();
            of.Generate([request with { Hooks = [seen] }]);
            return [.. seen.Seen];
        }
    }

    sealed class Times : IStepHook
    {
        public List<double> Seen { get; } = [];

        public void Asking(DenoisingStep step) => Seen.Add(step.Timestep);
    }

    [Fact]
    public void As_many_threads_compute_as_are_asked_for_and_others_stay_as_they_were()
    {
        var before = get_num_threads();
        foreach (var count in (int[])[1, 3]) Assert.Equal(count, diffusion.Generate([Apple with { Threads = count }])[0].Parameters.Threads);
        Assert.Equal(before, diffusion.Generate([Apple])[0].Parameters.Threads);
        Assert.Equal(before, get_num_threads());
        Assert.Contains("expected 1 to 1024", Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple with { Threads = 0 }])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Images_of_a_batch_are_told_when_they_are_done()
    {
        using var again = new Diffusion(DiffusionModel.Load(Folder), "tiny") { BatchSize = 2 };
        var finished = new List<GeneratedImage>();
        var images = again.Generate([Apple with { Count = 5 }], new Steps(p => finished.AddRange(p.Finished ?? [])));
        Assert.Equal(images, finished);
        finished.Clear();
        // Whoever stops has what was done.
        using var stop = new CancellationTokenSource();
        Assert.Throws<OperationCanceledException>(() => again.Generate([Apple with { Count = 5 }], new Steps(p =>
        {
            finished.AddRange(p.Finished ?? []);
            if (finished.Count == 4) stop.Cancel();
        }), cancel: stop.Token));
        Assert.Equal(images.Take(4).Select(static m => m.Parameters), finished.Select(static m => m.Parameters));
    }

    [Fact]
    public void An_autoencoder_that_gives_no_numbers_is_refused_with_one_sentence()
    {
        using var broken = new Diffusion(DiffusionModel.Load(Folder), "tiny");
        using (no_grad()) broken.Model.Autoencoder!.NamedParameters().Last(static p => p.Key.StartsWith("decoder.", StringComparison.Ordinal)).Parameter.Value.fill_(float.NaN);
        Assert.Contains("The autoencoder gave numbers that are not finite", Assert.Throws<PanoptesException>(() => broken.Generate([Apple])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(28, 0.8, 5, 6)]
    [InlineData(28, 0.6, 11, 12)]
    [InlineData(10, 0.5, 5, 5)]
    public void Pipelines_of_flows_round_strengths_up_as_the_peers_do(int steps, double strength, int up, int down)
    {
        using var flow = DiffusionModel.Load(Path.Combine(Goldens.Root, "generation", "sd3_pipeline"));
        Assert.Equal(up, flow.Start(flow.Scheduler, steps, new() { Strength = strength }, 16, 16).Begin);
        Assert.Equal(down, diffusion.Model.Start(diffusion.Model.Scheduler.Using("ddim"), steps, new() { Strength = strength }, 16, 16).Begin);
    }

    [Fact]
    public void A_flow_that_is_shifted_by_the_images_size_is_so_by_every_sampler()
    {
        var scheduler = new FlowMatchEulerScheduler { UseDynamicShifting = true };
        using DiffusionModel flux = new Flux(new(new() { NumLayers = 1, NumSingleLayers = 1 }), new AutoencoderKl(new()), null, null, scheduler), sd3 = DiffusionModel.Load(Path.Combine(Goldens.Root, "generation", "sd3_pipeline"));
        foreach (var model in (DiffusionModel[])[flux, sd3])
            foreach (var name in (string[])["flow", "unipc", "dpmpp-2m", "dpmpp-3m"])
            {
                double Level(int side) => model.Start(scheduler.Using(name), 4, new(), side, side).Sigmas[1];
                Assert.True(Level(1024) > Level(64), name);
            }
    }

    [Fact]
    public void Parameters_that_are_hostile_are_refused_with_one_sentence_and_no_layer_left_out_is_none()
    {
        Assert.Null(diffusion.Generate([Apple with { ClipSkip = 0 }])[0].Parameters.ClipSkip);
        var made = diffusion.Generate([Apple])[0];
        Assert.Equal(made.Parameters, ImageParameters.Read(made.ToPng()));
        foreach (var (from, to) in ((string, string)[])[("\"a red apple\"", "null"), ("\"width\":16", "\"width\":16777208"), ("\"seed\":7", "\"seed\":7,\"controls\":[null]"), ("\"seed\":7", "\"seed\":7,\"controls\":[{\"kind\":\"boxes\",\"boxes\":[null]}]")])
        {
            var json = made.Parameters.ToJson();
            Assert.Contains(from, json, StringComparison.Ordinal);
            var png = PngText.Add(made.Image.Encode(ImageFormat.Png), ImageParameters.Keyword, json.Replace(from, to, StringComparison.Ordinal));
            Assert.Contains("cannot be read", Assert.Throws<PanoptesException>(() => ImageParameters.Read(png)).Message, StringComparison.Ordinal);
        }
    }

    string WithDefaults(string json)
    {
        PipelineFolder.Save(Path.Combine(temporary, "own"), diffusion.Model);
        File.WriteAllText(Path.Combine(temporary, "own", GenerationDefaults.FileName), json);
        return Path.Combine(temporary, "own");
    }

    [Fact]
    public void A_folder_may_say_how_its_images_are_usually_made()
    {
        Assert.Equal((7.5, 50), (diffusion.Model.UsualGuidance, diffusion.Model.UsualSteps));
        using var own = Diffusion.Load(WithDefaults("""{"guidance_scale": 2.5, "num_inference_steps": 3}"""));
        Assert.Equal((2.5, 3), (own.Model.UsualGuidance, own.Model.UsualSteps));
        var usual = own.Generate([new("a cat") { Seed = 1, Width = 16, Height = 16 }])[0];
        Assert.Equal((2.5, 3), (usual.Parameters.Guidance, usual.Parameters.Steps));
        PipelineFolder.Save(Path.Combine(temporary, "again"), own.Model);
        using var again = PipelineFolder.Load(Path.Combine(temporary, "again"));
        Assert.Equal(own.Model.Defaults, again.Defaults);
    }

    [Theory]
    [InlineData("{", "generation_config.json")]
    [InlineData("null", "it is null")]
    [InlineData("""{"num_inference_steps": 0}""", "num_inference_steps is 0")]
    [InlineData("""{"guidance_scale": -1}""", "guidance_scale is -1")]
    public void Damaged_defaults_are_refused_with_one_sentence(string json, string named) =>
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => Diffusion.Load(WithDefaults(json))).Message, StringComparison.Ordinal);

    [Fact]
    public async Task Loading_goes_on_another_thread_and_can_be_stopped()
    {
        using (var loaded = await Diffusion.LoadAsync(Folder)) Assert.Equal(diffusion.Generate([Apple])[0].Image.Pixels, loaded.Generate([Apple])[0].Image.Pixels);
        using var stop = new CancellationTokenSource();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Diffusion.LoadAsync(Folder, cancel: stop.Token));
        var before = LiveTensors.Settle();
        Assert.Throws<OperationCanceledException>(() => DiffusionModel.Load(Folder, new Panoptes.Checkpoints.LoadOptions { Cancel = stop.Token }));
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Requests_that_differ_in_words_alone_are_made_together_and_come_in_their_order()
    {
        var words = new List<string>();
        var images = diffusion.Generate([Apple, Apple with { Prompt = "a blue sphere" }, Apple with { Prompt = "a cat", Steps = 2 }], new Steps(p => words.Add($"{p.Done}/{p.Total}")));
        Assert.Equal(["1/5", "2/5", "3/5", "3/5", "4/5", "5/5", "5/5"], words);
        Assert.Equal(["a red apple", "a blue sphere", "a cat"], images.Select(static m => m.Parameters.Prompt));
        Assert.NotEqual(images[0].Image.Pixels, images[1].Image.Pixels);
    }

    [Fact]
    public async Task A_stream_has_previews_and_then_the_images()
    {
        var all = new List<ImageProgress>();
        await foreach (var progress in diffusion.GenerateAsync([Apple with { Steps = 4 }], previewEvery: 2)) all.Add(progress);
        Assert.Equal([1, 2, 3, 4, 4], all.Select(static p => p.Done));
        Assert.Equal([false, true, false, false, false], all.Select(static p => p.Preview is not null));
        Assert.Equal((16, 16), (all[1].Preview!.Width, all[1].Preview!.Height));
        Assert.Single(all[^1].Images!);
    }

    [Fact]
    public async Task Cancelling_stops_before_the_next_step()
    {
        using var stop = new CancellationTokenSource();
        var steps = 0;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Run(() => diffusion.Generate([Apple with { Steps = 20 }], new Steps(_ =>
        {
            if (++steps == 2) stop.Cancel();
        }), cancel: stop.Token)));
        Assert.Equal(2, steps);
    }

    [Fact]
    public async Task Whoever_stops_reading_stops_the_making()
    {
        var (read, taken) = (0, new Taken());
        await foreach (var _ in diffusion.GenerateAsync([Apple with { Steps = 500, Hooks = [taken] }]))
            if (++read == 2) break;
        Assert.InRange(taken.Count, 2, 499);
    }

    sealed class Taken : IStepHook
    {
        public int Count { get; private set; }

        public void Stepped(DenoisingStep step) => Count++;
    }

    [Fact]
    public void Several_threads_get_the_images_that_one_gets()
    {
        using var fresh = Diffusion.Load(Folder);
        var images = new byte[4][];
        Parallel.For(0, images.Length, new() { MaxDegreeOfParallelism = images.Length }, i => images[i] = fresh.Generate([Apple with { Seed = i }])[0].Image.Pixels);
        Assert.Equal(Enumerable.Range(0, images.Length).Select(i => diffusion.Generate([Apple with { Seed = i }])[0].Image.Pixels), images);
    }

    [Fact]
    public void An_image_that_is_too_large_or_a_prompt_that_is_too_long_is_refused_before_any_step()
    {
        void Refused(ImageRequest request, string sentence) => Assert.Equal(sentence, Assert.Throws<PanoptesException>(() => diffusion.Generate([request])).Message);
        var taken = new Taken();
        Refused(new("a cat") { Image = new(9000, 4, 3), Hooks = [taken] }, "An image of 9000x4 pixels would be made; expected at most 8192 a side, to which a picture is brought where a size is said.");
        Refused(Apple with { Width = 8000, Upscale = new(2), Hooks = [taken] }, "An image of 16000x32 pixels would be made; expected at most 8192 a side, to which a picture is brought where a size is said.");
        Assert.Equal(0, taken.Count);
        Assert.Equal(16, diffusion.Generate([Apple with { Image = new(9000, 4, 3) }])[0].Image.Width);
        // So is a prompt that cannot be read, before the image before it is made.
        var endless = Apple with { Prompt = string.Join(' ', Enumerable.Repeat("cat", 2000)) };
        Assert.Contains("The prompt has 4000 tokens", Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple with { Hooks = [taken] }, endless])).Message, StringComparison.Ordinal);
        Assert.Equal(0, taken.Count);
    }

    [Fact]
    public void Tiles_may_overlap_by_any_part_and_images_keep_their_size()
    {
        var kl = (AutoencoderKl)diffusion.Model.Autoencoder!;
        var side = kl.PixelsPerPlace;
        foreach (var parts in (AutoencoderParts[])[new() { TilePixels = 5 * side, Overlap = 0.3 }, new() { TilePixels = (5 * side) + 1, Overlap = 0.7 }, new() { TilePlaces = 3 }, new() { TilePixels = 4 * side, TilePlaces = 4, Overlap = 0 }, new() { TilePixels = side, Overlap = 0.9 }])
        {
            var tiled = diffusion.Model.Autoencoder is var all ? new Diffusion(diffusion.Model, "tiny") { Parts = parts with { Tiled = true } } : null!;
            var made = tiled.Generate([Apple with { Width = 13 * side, Height = 11 * side }])[0];
            Assert.Equal((13 * side, 11 * side), (made.Image.Width, made.Image.Height));
            using var latents = kl.ToLatents(zeros(1, 3, 11 * side, 13 * side), null, parts with { Tiled = true });
            Assert.Equal([1, kl.LatentChannels, 11, 13], latents.shape);
        }
        // What cannot be is said before the first step.
        var taken = new Taken();
        foreach (var parts in (AutoencoderParts[])[new() { TilePixels = side - 1 }, new() { TilePixels = 4 * side, TilePlaces = 3 }, new() { Overlap = 1 }])
            Assert.Contains("Tiles of", Assert.Throws<PanoptesException>(() => new Diffusion(diffusion.Model, "tiny") { Parts = parts with { Tiled = true } }.Generate([Apple with { Hooks = [taken] }])).Message, StringComparison.Ordinal);
        Assert.Equal(0, taken.Count);
    }

    [Fact]
    public void Classes_go_by_their_very_names_and_of_two_that_share_one_the_last_counts()
    {
        var folder = Path.Combine(temporary, "classes");
        foreach (var file in Directory.GetFiles(Path.Combine(Goldens.Root, "generation", "dit_pipeline"), "*", SearchOption.AllDirectories))
        {
            var to = Path.Combine(folder, Path.GetRelativePath(Path.Combine(Goldens.Root, "generation", "dit_pipeline"), file));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
        var index = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "model_index.json")))!;
        index["id2label"] = System.Text.Json.Nodes.JsonNode.Parse("""{"1": "crane", "0": "Cardigan, Cardigan Welsh corgi", "3": "cardigan", "2": "crane"}""");
        File.WriteAllText(Path.Combine(folder, "model_index.json"), index.ToJsonString());
        void Check(string from)
        {
            using var model = (ClassDiffusion)DiffusionModel.Load(from);
            Assert.Equal([0, 3, 2, 2, 0, 1], ((string[])["Cardigan", "cardigan", "crane", " CRANE", "cardigan welsh corgi", "1"]).Select(model.ClassOf));
            Assert.Contains("'lynx' is no class of this model", Assert.Throws<PanoptesException>(() => model.ClassOf("lynx")).Message, StringComparison.Ordinal);
            if (from == folder) PipelineFolder.Save(Path.Combine(temporary, "again"), model);
        }

        Check(folder);
        Check(Path.Combine(temporary, "again"));
        Assert.Equal(index["id2label"]!.ToJsonString(), System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(Path.Combine(temporary, "again", "model_index.json")))!["id2label"]!.ToJsonString());
    }

    [Fact]
    public void An_image_of_more_controls_than_are_made_is_not_read()
    {
        var controls = string.Join(", ", Enumerable.Repeat("""{"kind": "style", "model": "m"}""", 17));
        var png = PngText.Add(new Image(1, 1, 3).Encode(ImageFormat.Png), ImageParameters.Keyword, $$"""{"prompt": "", "model": "m", "dtype": "float32", "width": 8, "height": 8, "steps": 1, "guidance": 1, "seed": 1, "controls": [{{controls}}]}""");
        Assert.Contains("it has 17 controls, expected at most 16", Assert.Throws<PanoptesException>(() => ImageParameters.Read(png)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_picture_is_changed_the_more_the_stronger()
    {
        var picture = diffusion.Generate([Apple with { Seed = 1 }])[0].Image;
        double Distance(double strength)
        {
            var changed = diffusion.Generate([Apple with { Image = picture, Strength = strength, Steps = 10 }])[0].Image;
            return changed.Pixels.Zip(picture.Pixels).Average(static p => Math.Abs(p.First - p.Second));
        }
        Assert.True(Distance(0.1) < Distance(0.9));
    }

    [Fact]
    public void Outside_a_mask_the_latents_stay_the_pictures()
    {
        using var scope = NewDisposeScope();
        var pixels = rand(1, 3, 16, 16, generator: new Generator(3));
        var mask = zeros(1, 1, 16, 16);
        mask.narrow(3, 0, 8).fill_(1);
        var (positive, negative) = diffusion.Model.Describe(["a cat"], null, new());
        var noise = new Generator(5);
        var task = new DiffusionTask { Positive = positive, Negative = negative, Height = 16, Width = 16, Steps = 4, Guidance = 5, Noise = noise, Image = pixels, Mask = mask };
        var latents = task.Run(diffusion.Model);
        var kept = diffusion.Model.Encode(pixels * 2 - 1, new Generator(5));
        Assert.True(latents.narrow(3, 4, 4).allclose(kept.narrow(3, 4, 4), 1e-4, 1e-5));
        Assert.False(latents.narrow(3, 0, 4).allclose(kept.narrow(3, 0, 4), 1e-1, 1e-1));
        positive.Dispose();
        negative.Dispose();
    }

    [Fact]
    public void A_pipeline_that_was_written_and_read_makes_the_same_image()
    {
        PipelineFolder.Save(temporary, diffusion.Model);
        using var again = Diffusion.Load(temporary);
        Assert.Equal(diffusion.Generate([Apple])[0].Image.Pixels, again.Generate([Apple])[0].Image.Pixels);
    }

    [Theory, InlineData("sd_inpaint_9ch", "StableDiffusionInpaintPipeline"), InlineData("sdxl_text2img_calm", "StableDiffusionXLPipeline"), InlineData("dit_pipeline", "DiTPipeline"), InlineData("sd3_pipeline", "StableDiffusion3Pipeline")]
    public void A_pipeline_is_written_as_the_class_that_the_peer_has_for_it(string name, string expected)
    {
        using (var model = PipelineFolder.Load(Path.Combine(Goldens.Root, "generation", name), at: part => Directory.Exists(Path.Combine(Goldens.Root, "generation", name, part)) ? null : Path.Combine(Folder, part)))
            PipelineFolder.Save(temporary, model);
        using var again = PipelineFolder.Load(temporary);
        using var index = System.Text.Json.JsonDocument.Parse(File.ReadAllText(Path.Combine(temporary, PipelineFolder.FileName)));
        Assert.Equal(expected, index.RootElement.GetProperty("_class_name").GetString());
    }

    [Fact]
    public void A_file_says_how_its_image_was_made()
    {
        var made = diffusion.Generate([Apple with { NegativePrompt = "blurry", Sampler = "euler", Guidance = 3 }])[0];
        var file = Path.Combine(temporary, "apple.png");
        made.Save(file);
        var read = ImageParameters.Read(File.ReadAllBytes(file))!;
        Assert.Equal(made.Parameters, read);
        Assert.Equal(made.Image.Pixels, Image.Load(file).Pixels);
        Assert.Contains("Negative prompt: blurry\nSteps: 3, Sampler: euler, CFG scale: 3, Seed: 7, Size: 16x16", PngText.Read(File.ReadAllBytes(file))["parameters"], StringComparison.Ordinal);
    }

    [Fact]
    public void A_prompt_longer_than_the_context_is_read_in_parts_and_said()
    {
        var notes = new List<string>();
        using var told = new Diffusion(PipelineFolder.Load(Folder), "tiny") { Note = notes.Add };
        var prompt = string.Concat(Enumerable.Repeat("a red cube ", 40));
        var image = told.Generate([Apple with { Prompt = prompt }])[0].Image;
        Assert.Contains("is read in", Assert.Single(notes), StringComparison.Ordinal);
        Assert.NotEqual(image.Pixels, told.Generate([Apple with { Prompt = string.Concat(Enumerable.Repeat("a red cube ", 20)) }])[0].Image.Pixels);
    }

    [Fact]
    public void Weights_change_what_is_seen_and_a_weight_of_one_does_not()
    {
        var plain = diffusion.Generate([Apple])[0].Image.Pixels;
        Assert.Equal(plain, diffusion.Generate([Apple with { Prompt = "a (red:1.0) apple" }])[0].Image.Pixels);
        Assert.NotEqual(plain, diffusion.Generate([Apple with { Prompt = "a (red:3) apple" }])[0].Image.Pixels);
    }

    public static TheoryData<string, string> Wrong => new()
    {
        { nameof(ImageRequest.Width), "multiples of 2" },
        { nameof(ImageRequest.Mask), "expected a picture to be changed" },
        { nameof(ImageRequest.Image), "expected the same" },
        { nameof(ImageRequest.Steps), "1 to 1000" },
        { nameof(ImageRequest.Sampler), "There is no sampler" },
        { nameof(ImageRequest.Strength), "leaves none of 3 steps" },
        { nameof(ImageRequest.Seed), "expected 0 or more" },
        { nameof(ImageRequest.ClipSkip), "layers of the text encoder" },
        { nameof(ImageRequest.Count), "expected 1 to 10,000" },
        { nameof(ImageRequest.Height), "expected 1 to 8192 a side" },
        { nameof(ImageRequest.Repeats), "expected room for 1 more" },
    };

    [Theory, MemberData(nameof(Wrong))]
    public void A_request_that_cannot_be_is_refused_with_one_sentence(string what, string sentence)
    {
        var picture = new Image(16, 16, 3);
        var request = what switch
        {
            nameof(ImageRequest.Width) => Apple with { Width = 15 },
            nameof(ImageRequest.Mask) => Apple with { Mask = picture },
            nameof(ImageRequest.Image) => Apple with { Image = picture, Mask = new(8, 8, 3) },
            nameof(ImageRequest.Steps) => Apple with { Steps = 2000 },
            nameof(ImageRequest.Sampler) => Apple with { Sampler = "magic" },
            nameof(ImageRequest.Strength) => Apple with { Image = picture, Strength = 0.01 },
            nameof(ImageRequest.Seed) => Apple with { Seed = -1 },
            nameof(ImageRequest.ClipSkip) => Apple with { ClipSkip = 99 },
            nameof(ImageRequest.Height) => Apple with { Image = picture, Height = 0 },
            nameof(ImageRequest.Repeats) => Apple with { Seed = long.MaxValue },
            _ => Apple with { Count = 0 },
        };
        Assert.Contains(sentence, Assert.Throws<PanoptesException>(() => diffusion.Generate([request])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Weights_that_are_no_numbers_are_told_in_one_sentence()
    {
        using (no_grad()) ((StableDiffusion)diffusion.Model).UNet.ConvIn.Weight.Value.fill_(double.NaN);
        Assert.Contains("not finite", Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_generation_keeps_no_tensor()
    {
        diffusion.Generate([Apple]);
        var before = LiveTensors.Settle();
        diffusion.Generate([Apple with { Sampler = "dpmpp-2m", Count = 2 }], new Steps(static _ => { }), previewEvery: 1);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void A_folder_that_is_no_pipeline_is_refused()
    {
        Assert.Contains("has no model_index.json", Assert.Throws<PanoptesException>(() => Diffusion.Load(temporary)).Message, StringComparison.Ordinal);
        Assert.Contains("is neither a folder, nor a file, nor a hub id", Assert.Throws<PanoptesException>(static () => Diffusion.Load("nothing there")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pipeline_of_an_unknown_class_is_refused()
    {
        File.WriteAllText(Path.Combine(temporary, "model_index.json"), """{"_class_name": "MagicPipeline"}""");
        Assert.Contains("_class_name is MagicPipeline", Assert.Throws<PanoptesException>(() => Diffusion.Load(temporary)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pipeline_without_one_of_its_parts_is_refused_and_keeps_no_tensor()
    {
        foreach (var file in Directory.GetFiles(Folder, "*", SearchOption.AllDirectories))
        {
            if (file.Contains("text_encoder", StringComparison.Ordinal)) continue;
            var to = Path.Combine(temporary, Path.GetRelativePath(Folder, file));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
        var before = LiveTensors.Settle();
        Assert.Contains("has no folder text_encoder", Assert.Throws<PanoptesException>(() => Diffusion.Load(temporary)).Message, StringComparison.Ordinal);
        Assert.Equal(before, LiveTensors.Settle());
    }

    sealed class Steps(Action<ImageProgress> told) : IProgress<ImageProgress>
    {
        public void Report(ImageProgress value) => told(value);
    }

    [Fact]
    public void A_tiny_autoencoder_takes_the_place_of_the_large_one_and_draws_nothing()
    {
        using var noGrad = no_grad();
        var large = (StableDiffusion)diffusion.Model;
        using var tiny = new AutoencoderTiny(new() { EncoderBlockOutChannels = [8, 8], DecoderBlockOutChannels = [8, 8], NumEncoderBlocks = [1, 1], NumDecoderBlocks = [1, 1] });
        tiny.Initialize(new Generator(3));
        var model = new StableDiffusion(large.UNet, tiny, large.Prompts, large.Scheduler);
        using var scope = NewDisposeScope();
        var (wanted, unwanted) = model.Describe(["a red apple"], [""], new() { Size = (16, 24) });
        NoiseSource noise = new Generator(5);
        var latents = new DiffusionTask { Positive = wanted, Negative = unwanted, Height = 16, Width = 24, Steps = 2, Guidance = model.UsualGuidance, Noise = noise }.Run(model);
        ImageRequest request = new("a red apple") { Width = 24, Height = 16, Steps = 2, Seed = 5 };
        var made = new Diffusion(model, "tiny").Generate([request])[0].Image;
        Assert.Equal(Diffusion.ToImage((tiny.Decode(latents)[0] / 2 + 0.5).clamp(0, 1)).Pixels, made.Pixels);

        var pixels = rand([2, 3, 16, 24], generator: new Generator(1)) * 2 - 1;
        NoiseSource untouched = new Generator(7), fresh = new Generator(7);
        Assert.True(model.Encode(pixels, untouched).Equals(tiny.Encode(pixels)));
        Assert.True(untouched.Normal([4], ScalarType.Float32).Equals(fresh.Normal([4], ScalarType.Float32)));
        foreach (var parts in (AutoencoderParts[])[new() { Sliced = true }, new() { Tiled = true, TilePixels = 8 }])
            Assert.Equal((24, 16), new Diffusion(model, "tiny") { Parts = parts }.Generate([request with { Image = made, Strength = 0.5 }])[0].Image is var image ? (image.Width, image.Height) : default);

        PipelineFolder.Save(temporary, model);
        using var again = Diffusion.Load(temporary);
        Assert.IsType<AutoencoderTiny>(again.Model.Autoencoder);
        Assert.Equal(made.Pixels, again.Generate([request])[0].Image.Pixels);
        Assert.Contains("latents of AutoencoderTiny has no original form", Assert.Throws<PanoptesException>(() => SingleFile.Save(Path.Combine(temporary, "one.safetensors"), again.Model)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("sd_text2img", "StableDiffusionControlNetImg2ImgPipeline", typeof(StableDiffusion))]
    [InlineData("sd_text2img", "StableDiffusionAdapterPipeline", typeof(StableDiffusion))]
    [InlineData("sdxl_text2img_calm", "StableDiffusionXLControlNetPipeline", typeof(StableDiffusionXl))]
    [InlineData("sdxl_text2img_calm", "StableDiffusionXLControlNetImg2ImgPipeline", typeof(StableDiffusionXl))]
    [InlineData("sdxl_text2img_calm", "StableDiffusionXLControlNetInpaintPipeline", typeof(StableDiffusionXl))]
    [InlineData("sdxl_text2img_calm", "StableDiffusionXLAdapterPipeline", typeof(StableDiffusionXl))]
    [InlineData("sd3_pipeline", "StableDiffusion3Img2ImgPipeline", typeof(StableDiffusion3))]
    [InlineData("sd3_pipeline", "StableDiffusion3InpaintPipeline", typeof(StableDiffusion3))]
    [InlineData("flux_pipeline", "FluxImg2ImgPipeline", typeof(Flux))]
    [InlineData("flux_pipeline", "FluxInpaintPipeline", typeof(Flux))]
    public void The_peers_classes_of_one_task_are_the_same_model(string name, string pipeline, Type family)
    {
        var source = Path.Combine(Goldens.Root, "generation", name);
        foreach (var file in Directory.EnumerateFiles(source, "*", SearchOption.AllDirectories))
        {
            var to = Path.Combine(temporary, Path.GetRelativePath(source, file));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
        var path = Path.Combine(temporary, PipelineFolder.FileName);
        var index = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(path))!;
        index["_class_name"] = pipeline;
        File.WriteAllText(path, index.ToJsonString());
        using var model = PipelineFolder.Load(temporary, at: part => name == "flux_pipeline" && part == "transformer" ? Path.Combine(Goldens.Root, "generation", "flux_transformer") : null);
        Assert.IsType(family, model);
    }

    [Fact]
    public void A_folders_own_networks_are_found_by_the_peers_names_where_its_index_names_them()
    {
        foreach (var part in (string[])["controlnet", "controlnet_1", "controlnet_3", "adapter", "adapter_1", "adapter_1_2"]) Directory.CreateDirectory(Path.Combine(temporary, part));
        File.WriteAllText(Path.Combine(temporary, PipelineFolder.FileName), """{"_class_name": "A", "adapter": ["diffusers", "MultiAdapter"], "controlnet": [null, null]}""");
        Assert.Equal(("", "adapter adapter_1 adapter_1_2"), Told());
        File.WriteAllText(Path.Combine(temporary, PipelineFolder.FileName), """{"_class_name": "A", "controlnet": ["diffusers", "MultiControlNetModel"]}""");
        Assert.Equal(("controlnet controlnet_1", ""), Told());
        Assert.Empty(PipelineFolder.Controls(Path.Combine(temporary, "adapter")).ControlNets);

        (string, string) Told() => PipelineFolder.Controls(temporary) is var (nets, adapters) ? (string.Join(' ', nets.Select(Path.GetFileName)), string.Join(' ', adapters.Select(Path.GetFileName))) : default;
    }
}
