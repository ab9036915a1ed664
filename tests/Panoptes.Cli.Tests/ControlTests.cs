using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Parity;
using Panoptes.Representation;

namespace Panoptes.Cli.Tests;

/// <summary>Spatial control at the command line, on the tiny models of the golden cases.</summary>
public sealed class ControlTests : IDisposable
{
    static readonly string Model = Case("sd_text2img"), Net = Path.Combine(Case("sd_multi_controlnet"), "controlnet"), Other = Path.Combine(Case("sd_multi_controlnet"), "controlnet_1"), Adapter = Path.Combine(Case("sd_multi_adapter"), "adapter");

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-control-").FullName;

    public ControlTests()
    {
        var photo = new Image(48, 48, 3);
        for (var i = 0; i < photo.Pixels.Length; i++) photo.Pixels[i] = (byte)((i / 3 % 48 < 24 ? 200 : 20) + (i % 17));
        photo.Save(At("photo.png"));
        File.WriteAllText(At("parts.json"), """[{"phrase": "red apple", "box": [0.5, 0, 1, 0.5]}, {"phrase": "cat", "box": [0, 0.5, 0.5, 1]}]""");
    }

    /// <summary>The case's pipeline with its parts, which it shares with others.</summary>
    string Gligen()
    {
        foreach (var (part, from) in (ReadOnlySpan<(string, string)>)[("unet", Case("gligen_unet")), ("scheduler", Path.Combine(Case("gligen_pipeline"), "scheduler")), ("vae", Path.Combine(Model, "vae")), ("text_encoder", Path.Combine(Model, "text_encoder")), ("tokenizer", Path.Combine(Model, "tokenizer"))])
        {
            Directory.CreateDirectory(Path.Combine(folder, "gligen", part));
            foreach (var file in Directory.GetFiles(from)) File.Copy(file, Path.Combine(folder, "gligen", part, Path.GetFileName(file)), overwrite: true);
        }
        File.Copy(Path.Combine(Case("gligen_pipeline"), "model_index.json"), Path.Combine(folder, "gligen", "model_index.json"), overwrite: true);
        return At("gligen");
    }

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static string Case(string name) => Path.Combine(Goldens.Root, "generation", name);

    string At(string name) => Path.Combine(folder, name);

    static string[] Words(params string[] more) => ["control", "a red apple left of a cat", "--model", Model, "--steps", "2", "--seed", "3", .. more];

    byte[] Pixels(string name) => Image.Load(At(name)).Pixels;

    [Fact]
    public async Task Networks_are_led_by_what_is_drawn_of_an_image_and_the_image_is_made_again_from_its_file_bit_for_bit()
    {
        await Command.Succeeds("generate", "a red apple left of a cat", "--model", Model, "--steps", "2", "--seed", "3", "--size", "16", "--out", At("plain.png"));
        await Command.Succeeds(Words("--controlnet", Net, "--controlnet", Other, "--adapter", Adapter, "--image", At("photo.png"), "--kind", "canny", "--kind", "canny", "--kind", "blur", "--scale", "0.7", "--scale", "0.4", "--scale", "0.5",
            "--start", "0", "--end", "1", "--out", At("house.png")));
        var file = File.ReadAllBytes(At("house.png"));
        var controls = ImageParameters.Read(file)!.Controls!;
        Assert.Equal(["controlnet", "controlnet", "t2i-adapter"], controls.Select(static c => c.Kind));
        Assert.Equal([0.7, 0.4, 0.5], controls.Select(static c => c.Scale));
        // The condition is kept at the image's size, which follows the model's side.
        Assert.Equal((16, 16), (ImageParameters.ReadCondition(file, 0)!.Width, ImageParameters.ReadCondition(file, 2)!.Height));
        Assert.NotEqual(Pixels("plain.png"), Pixels("house.png"));
        File.Delete(At("photo.png"));
        await Command.Succeeds("control", "--from", At("house.png"), "--out", At("again.png"));
        Assert.Equal(file, File.ReadAllBytes(At("again.png")));
        await Command.Succeeds(Words("--controlnet", Net, "--image", At("house.png"), "--kind", "segmentation", "--text", "cat", "--out", At("told-apart.png")));
        // What is said anew counts, and what could do nothing is refused.
        await Command.Succeeds("control", "--from", At("house.png"), "--scale", "0.2", "--end", "0.5", "--out", At("weaker.png"));
        Assert.NotEqual(Pixels("house.png"), Pixels("weaker.png"));
        Assert.Equal([(0.2, 0.5), (0.2, 0.5), (0.2, 0.5)], ImageParameters.Read(File.ReadAllBytes(At("weaker.png")))!.Controls!.Select(static c => (c.Scale, c.End)));
        Assert.Contains("--layout-scale goes with --layout, under which", (await Command.Run("control", "--from", At("house.png"), "--layout-scale", "3", "--out", At("no.png"))).Error, StringComparison.Ordinal);
        Assert.Contains("--kind goes with a network that is named: name it again.", (await Command.Run("control", "--from", At("house.png"), "--kind", "canny", "--out", At("no.png"))).Error, StringComparison.Ordinal);
        Assert.False(File.Exists(At("no.png")));
        Assert.Contains("panoptes control --from", (await Command.Run("generate", "--from", At("house.png"), "--out", At("no.png"))).Error, StringComparison.Ordinal);
    }

    /// <summary>The model of the golden cases as the peer keeps it together with networks of its own.</summary>
    string WithNetworks(string pipeline, string part, params string[] networks)
    {
        var model = At(pipeline);
        foreach (var (to, from) in ((string[])["unet", "scheduler", "vae", "text_encoder", "tokenizer"]).Select(static p => (p, Path.Combine(Model, p))).Concat(networks.Select((n, i) => (i == 0 ? part : $"{part}_{i}", n))))
        {
            Directory.CreateDirectory(Path.Combine(model, to));
            foreach (var file in Directory.GetFiles(from)) File.Copy(file, Path.Combine(model, to, Path.GetFileName(file)));
        }
        var index = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(Path.Combine(Model, "model_index.json")))!;
        (index["_class_name"], index[part]) = (pipeline, new System.Text.Json.Nodes.JsonArray("diffusers", "MultiControlNetModel"));
        File.WriteAllText(Path.Combine(model, "model_index.json"), index.ToJsonString());
        return model;
    }

    [Theory, InlineData("StableDiffusionControlNetPipeline", true), InlineData("StableDiffusionControlNetImg2ImgPipeline", true), InlineData("StableDiffusionControlNetInpaintPipeline", true), InlineData("StableDiffusionAdapterPipeline", false)]
    public async Task Networks_in_the_models_own_folder_are_used_where_an_image_is_given_and_none_is_named(string pipeline, bool nets)
    {
        var (part, networks) = nets ? ("controlnet", (string[])[Net, Other]) : ("adapter", [Adapter, Path.Combine(Case("sd_multi_adapter"), "adapter_1")]);
        var model = WithNetworks(pipeline, part, networks);
        string[] words = ["control", "a red apple left of a cat", "--model", model, "--steps", "2", "--seed", "3", "--image", At("photo.png")];
        await Command.Succeeds([.. words, "--scale", "0.7", "--scale", "0.4", "--out", At("own.png")]);
        await Command.Succeeds(Words("--" + part, networks[0], "--" + part, networks[1], "--image", At("photo.png"), "--scale", "0.7", "--scale", "0.4", "--out", At("named.png")));
        Assert.Equal(Pixels("named.png"), Pixels("own.png"));
        Assert.Equal([Path.Combine(model, part), Path.Combine(model, part + "_1")], ImageParameters.Read(File.ReadAllBytes(At("own.png")))!.Controls!.Select(static c => c.Model));
        File.Move(At("photo.png"), At("gone.png"));
        await Command.Succeeds("control", "--from", At("own.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("own.png")), File.ReadAllBytes(At("again.png")));
        // Words alone leave them out, and it is said.
        var plain = await Command.Succeeds("generate", "a red apple left of a cat", "--model", model, "--steps", "2", "--seed", "3", "--size", "16", "--out", At("plain.png"));
        Assert.Contains($"has a {(nets ? "ControlNet" : "T2I-Adapter")}, which says nothing here; panoptes control --image uses it.", plain.Error, StringComparison.Ordinal);
        Assert.NotEqual(Pixels("own.png"), Pixels("plain.png"));
        // One that is named stands alone.
        File.Move(At("gone.png"), At("photo.png"));
        await Command.Succeeds([.. words, "--" + part, networks[0], "--out", At("one.png")]);
        Assert.Equal(networks[..1], ImageParameters.Read(File.ReadAllBytes(At("one.png")))!.Controls!.Select(static c => c.Model));
    }

    [Fact]
    public async Task Each_network_speaks_in_steps_of_its_own_and_guesses_by_itself_and_the_file_repeats_it()
    {
        string[] three = Words("--controlnet", Net, "--controlnet", Other, "--adapter", Adapter, "--image", At("photo.png"), "--start", "0", "--start", "0.5", "--end", "0.5", "--end", "1", "--end", "0.5", "--guess", "true", "--guess", "false");
        await Command.Succeeds([.. three, "--out", At("each.png")]);
        var file = File.ReadAllBytes(At("each.png"));
        Assert.Equal([(0, 0.5, true), (0.5, 1, false), (0, 0.5, false)], ImageParameters.Read(file)!.Controls!.Select(static c => (c.Start, c.End, c.Guess)));
        await Command.Succeeds("control", "--from", At("each.png"), "--out", At("again.png"));
        Assert.Equal(file, File.ReadAllBytes(At("again.png")));
        await Command.Succeeds("control", "--from", At("each.png"), "--start", "0.5", "--end", "1", "--end", "1", "--end", "0.25", "--guess", "false", "--out", At("anew.png"));
        Assert.Equal([(0.5, 1, false), (0.5, 1, false), (0, 0.25, false)], ImageParameters.Read(File.ReadAllBytes(At("anew.png")))!.Controls!.Select(static c => (c.Start, c.End, c.Guess)));
        Assert.NotEqual(Pixels("each.png"), Pixels("anew.png"));
        // A word behind a lonely --guess is the prompt.
        await Command.Succeeds("control", "--model", Model, "--steps", "2", "--seed", "3", "--controlnet", Net, "--image", At("photo.png"), "--guess", "a cat", "--out", At("lonely.png"));
        Assert.Equal(("a cat", true), (ImageParameters.Read(File.ReadAllBytes(At("lonely.png"))) is var lonely ? lonely!.Prompt : "", lonely!.Controls![0].Guess));
        foreach (var (more, sentence) in new (string[], string)[]
        {
            (["--start", "0", "--start", "0", "--start", "0"], "--start is given 3 times for 2 ControlNets;"), (["--end", "1", "--end", "1"], "--end is given 2 times for 3 networks;"), (["--guess", "--guess", "true"], "expected true or false behind each"),
        })
            Assert.Contains(sentence, (await Command.Run(["control", "--from", At("each.png"), .. more, "--out", At("no.png")])).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Boxes_beside_a_network_have_the_last_of_several_ends()
    {
        SaveReco();
        string[] both = ["control", "a red apple left of a cat", "--model", At("reco"), "--steps", "2", "--seed", "3", "--controlnet", Net, "--image", At("photo.png"), "--boxes", At("parts.json")];
        double[] Ends(string name) => [.. ImageParameters.Read(File.ReadAllBytes(At(name)))!.Controls!.Select(static c => c.End)];
        await Command.Succeeds([.. both, "--out", At("usual.png")]);
        await Command.Succeeds([.. both, "--end", "0.5", "--out", At("one.png")]);
        await Command.Succeeds([.. both, "--end", "0.5", "--end", "1", "--out", At("two.png")]);
        Assert.Equal([[1, 0.3], [0.5, 0.5], [0.5, 1]], ((string[])["usual.png", "one.png", "two.png"]).Select(Ends));
        await Command.Succeeds("control", "--from", At("usual.png"), "--end", "0.5", "--end", "1", "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("two.png")), File.ReadAllBytes(At("again.png")));
        Assert.Contains("--end is given 3 times for 1 network and boxes;", (await Command.Run([.. both, "--end", "0", "--end", "0", "--end", "0"])).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_ready_condition_needs_no_kind_and_guessing_changes_what_is_said()
    {
        await Command.Succeeds(Words("--controlnet", Net, "--image", At("photo.png"), "--out", At("ready.png")));
        await Command.Succeeds(Words("--controlnet", Net, "--image", At("photo.png"), "--guess", "--out", At("guessed.png")));
        // An empty prompt is one, too.
        await Command.Succeeds("control", "", "--model", Model, "--steps", "2", "--seed", "3", "--negative", "", "--controlnet", Net, "--image", At("photo.png"), "--guess", "--out", At("wordless.png"));
        Assert.Equal("", ImageParameters.Read(File.ReadAllBytes(At("wordless.png")))!.Prompt);
        await Command.Succeeds(Words("--controlnet", Net, "--image", At("photo.png"), "--end", "0", "--out", At("never.png")));
        await Command.Succeeds(Words("--adapter", Adapter, "--image", At("photo.png"), "--end", "0", "--out", At("never-either.png")));
        Assert.NotEqual(Pixels("ready.png"), Pixels("guessed.png"));
        Assert.NotEqual(Pixels("ready.png"), Pixels("never.png"));
        Assert.Equal(Pixels("never.png"), Pixels("never-either.png"));
    }

    [Fact]
    public async Task Boxes_as_they_are_written_by_ground_and_by_hand_lead_a_GLIGEN_to_the_same_image()
    {
        File.WriteAllText(At("pixels.json"), """{"width": 48, "height": 48, "boxes": [{"phrase": "red apple", "box": [24, 0, 24, 24]}, {"phrase": "cat", "box": [0, 24, 24, 24]}]}""");
        File.WriteAllText(At("found.json"), $$"""{"image": "{{At("photo.png")}}", "picture": "p.png", "texts": [{"text": "a", "boxes": [{"words": "red apple", "start": 0, "end": 1, "score": 0.5, "box": [24, 0, 24.4, 24]}, {"words": "cat", "score": 1, "box": [0, 24, 24, 24]}]}]}""");
        File.WriteAllText(At("detected.json"), $$"""[{"image": "{{At("photo.png")}}", "picture": null, "detections": [{"label": "red apple", "score": 1, "box": [24, 0, 24, 24]}, {"label": "cat", "score": 1, "box": [0, 24, 24, 24]}]}]""");
        var gligen = Gligen();
        foreach (var name in (string[])["parts", "pixels", "found", "detected"])
            await Command.Succeeds("control", "a red apple left of a cat", "--model", gligen, "--steps", "2", "--seed", "3", "--end", "0.5", "--boxes", At(name + ".json"), "--out", At(name + ".png"));
        Assert.Equal(Pixels("parts.png"), Pixels("pixels.png"));
        Assert.Equal(Pixels("parts.png"), Pixels("found.png"));
        Assert.Equal(Pixels("parts.png"), Pixels("detected.png"));
        await Command.Succeeds("control", "--from", At("found.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("found.png")), File.ReadAllBytes(At("again.png")));
        await Command.Fails(Words("--boxes", At("parts.json"), "--out", At("no.png")), "This model follows no boxes");
    }

    /// <summary>A GLIGEN that takes phrases and example images, of random weights.</summary>
    string TextImageGligen()
    {
        using var plain = (StableDiffusion)DiffusionModel.Load(Gligen());
        using var generator = new TorchSharp.torch.Generator(4);
        using var unet = new UNet2DConditionModel(plain.UNet.Config with { AttentionType = "gated-text-image" });
        using var encoder = new Panoptes.Representation.ClipVisionModel(new() { HiddenSize = 8, IntermediateSize = 12, NumHiddenLayers = 1, NumAttentionHeads = 2, ImageSize = 16, PatchSize = 8, ProjectionDim = 16 }, unet.Config.CrossAttentionDim[0]);
        using var projection = new ClipImageProjection(new() { HiddenSize = unet.Config.CrossAttentionDim[0] });
        foreach (var module in (Panoptes.Nn.Module[])[unet, encoder, projection]) module.Initialize(generator);
        // Gates begin closed; these are open.
        foreach (var (key, parameter) in unet.NamedParameters())
            if (key.Contains(".alpha_", StringComparison.Ordinal)) parameter.Value.fill_(1);
        PipelineFolder.Save(At("examples"), new StableDiffusion(unet, plain.Autoencoder, plain.Prompts, plain.Scheduler)
        {
            Examples = new(encoder, projection, ImageProcessor.Parse("""{"image_processor_type": "CLIPImageProcessor", "size": {"height": 16, "width": 16}, "do_center_crop": false}""", "a test")),
        });
        return At("examples");
    }

    [Fact]
    public async Task Boxes_are_filled_by_example_images_where_a_GLIGEN_takes_some()
    {
        using var noGrad = TorchSharp.torch.no_grad();
        var model = TextImageGligen();
        File.WriteAllText(At("shown.json"), $$"""[{"example": "{{At("photo.png")}}", "box": [0.5, 0, 1, 0.5]}, {"phrase": "cat", "box": [0, 0.5, 0.5, 1]}]""");
        File.WriteAllText(At("both.json"), $$"""[{"phrase": "red apple", "example": "{{At("photo.png")}}", "box": [0.5, 0, 1, 0.5]}, {"phrase": "cat", "box": [0, 0.5, 0.5, 1]}]""");
        foreach (var name in (string[])["parts", "shown", "both"])
            await Command.Succeeds("control", "a red apple left of a cat", "--model", model, "--steps", "2", "--seed", "3", "--end", "1", "--boxes", At(name + ".json"), "--out", At(name + ".png"));
        await Command.Succeeds("generate", "a red apple left of a cat", "--model", model, "--steps", "2", "--seed", "3", "--size", "16", "--out", At("plain.png"));
        Assert.Equal(4, ((string[])["parts", "shown", "both", "plain"]).Select(n => Convert.ToHexString(Pixels(n + ".png"))).Distinct().Count());
        Assert.Equal(64, ImageParameters.Read(File.ReadAllBytes(At("shown.png")))!.Controls![0].Boxes![0].Shown!.Length);
        await Command.Succeeds("control", "--from", At("shown.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("shown.png")), File.ReadAllBytes(At("again.png")));
        Assert.Null(ImageParameters.ReadExample(File.ReadAllBytes(At("shown.png")), 0, 1));
        await Command.Fails(["control", "a cat", "--model", At("gligen"), "--boxes", At("shown.json"), "--out", At("no.png")], "takes no example images");
        File.WriteAllText(At("odd.json"), """[{"example": "/nowhere.png", "box": [0.5, 0, 1, 0.5]}]""");
        await Command.Fails(["control", "a cat", "--model", model, "--boxes", At("odd.json"), "--out", At("no.png")], "/nowhere.png does not exist");
    }

    void SaveReco()
    {
        using var plain = (StableDiffusion)DiffusionModel.Load(Model);
        var places = ReCo.Adding(plain.Prompts.Tokenizer, 32);
        using var generator = new TorchSharp.torch.Generator(1);
        using var encoder = ReCo.AddPlaces(plain.Prompts.Encoder, generator, 77, 32);
        PipelineFolder.Save(At("reco"), new StableDiffusion(plain.UNet, plain.Autoencoder, new(encoder, places.Tokenizer), plain.Scheduler));
    }

    [Fact]
    public async Task Boxes_are_told_to_a_ReCo_in_the_words_of_its_places()
    {
        SaveReco();
        await Command.Succeeds("control", "a red apple left of a cat", "--model", At("reco"), "--steps", "2", "--seed", "3", "--boxes", At("parts.json"), "--out", At("boxes.png"));
        await Command.Succeeds("generate", "a red apple left of a cat <500> <0> <1000> <500> red apple <0> <500> <500> <1000> cat", "--model", At("reco"), "--steps", "2", "--seed", "3", "--out", At("words.png"));
        await Command.Succeeds("generate", "a red apple left of a cat", "--model", At("reco"), "--steps", "2", "--seed", "3", "--out", At("plain.png"));
        Assert.Equal(Pixels("boxes.png"), Pixels("words.png"));
        Assert.NotEqual(Pixels("boxes.png"), Pixels("plain.png"));
        await Command.Succeeds("control", "--from", At("boxes.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("boxes.png")), File.ReadAllBytes(At("again.png")));
        await Command.Fails(["generate", "a cat <5> on a mat", "--model", At("reco"), "--steps", "1", "--out", At("no.png")], "The prompt has <5> by itself");
    }

    [Fact]
    public async Task A_controlled_image_that_is_made_larger_is_made_again_bit_for_bit()
    {
        await Command.Succeeds(Words("--controlnet", Net, "--image", At("photo.png"), "--kind", "canny", "--size", "16", "--upscale", "2", "--out", At("large.png")));
        Assert.Equal((32, 32), (Image.Load(At("large.png")).Width, ImageParameters.ReadCondition(File.ReadAllBytes(At("large.png")), 0)!.Width));
        File.Delete(At("photo.png"));
        await Command.Succeeds("control", "--from", At("large.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("large.png")), File.ReadAllBytes(At("again.png")));
    }

    [Fact]
    public async Task A_photograph_larger_than_a_PNG_could_hold_gives_its_style()
    {
        var photograph = new Image(2200, 2200, 3);
        new Random(1).NextBytes(photograph.Pixels);
        photograph.Save(At("large.png"));
        await Command.Succeeds(Words("--guide-style", At("large.png"), "--guide-model", Path.Combine(Goldens.Repository, "zoo", "clip-emoji"), "--out", At("led.png")));
        Assert.True(new FileInfo(At("led.png")).Length < 100_000);
    }

    [Fact]
    public async Task Words_are_led_by_a_layout_and_a_CLIP_and_both_are_repeated_from_the_file()
    {
        await Command.Succeeds(Words("--layout", At("parts.json"), "--layout-scale", "5", "--guide-text", "a cat", "--guide-scale", "3", "--repeats", "2", "--out", At("led.png")));
        var made = ImageParameters.Read(File.ReadAllBytes(At("led.png")))!;
        Assert.Equal((2, "layout", "text", "a cat"), (made.Repeats, made.Controls![0].Kind, made.Controls[1].Kind, made.Controls[1].Text));
        await Command.Succeeds("control", "--from", At("led.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("led.png")), File.ReadAllBytes(At("again.png")));
        await Command.Fails(["control", "a dog", "--model", Model, "--layout", At("parts.json"), "--out", At("no.png")], "'red apple' has a box, but does not occur in the prompt");
    }

    [Fact]
    public async Task A_style_and_boxes_in_which_a_segmenter_is_to_find_things_lead_the_image_and_are_repeated_from_the_file()
    {
        new Image(40, 24, 3).Save(At("wide.png"));
        string[] models = ["--guide-model", Path.Combine(Goldens.Repository, "zoo", "clip-emoji"), "--guide-detector", Path.Combine(Goldens.Repository, "zoo", "xdecoder-emoji")];
        await Command.Succeeds(Words(["--guide-style", At("wide.png"), "--guide-boxes", At("parts.json"), "--guide-scale", "3", "--guide-backward", "2", .. models, "--out", At("led.png")]));
        var file = File.ReadAllBytes(At("led.png"));
        var controls = ImageParameters.Read(file)!.Controls!;
        Assert.Equal([("style", 2), ("found", 2)], controls.Select(static c => (c.Kind, c.Backward!.Value)));
        // A style does not lie over the image: what is kept is what the CLIP sees of it.
        Assert.Equal((64, 64), (ImageParameters.ReadCondition(file, 0)!.Width, ImageParameters.ReadCondition(file, 0)!.Height));
        Assert.Equal((16, 16), (Image.Load(At("led.png")).Width, Image.Load(At("led.png")).Height));
        File.Delete(At("wide.png"));
        await Command.Succeeds("control", "--from", At("led.png"), "--out", At("again.png"));
        Assert.Equal(file, File.ReadAllBytes(At("again.png")));
        await Command.Succeeds(Words(["--guide-boxes", At("parts.json"), "--guide-scale", "3", .. models[2..], "--out", At("boxes.png")]));
        Assert.NotEqual(Pixels("led.png"), Pixels("boxes.png"));
        await Command.Fails(Words("--guide-boxes", At("parts.json"), "--guide-detector", Path.Combine(Goldens.Repository, "zoo", "sam-emoji"), "--out", At("no.png")), "holds no X-Decoder");
        await Command.Fails(Words("--guide-style", At("none.png"), "--out", At("no.png")), "none.png does not exist");
        await Command.Fails(Words(["--guide-boxes", At("parts.json"), "--guide-backward", "-1", .. models[2..], "--out", At("no.png")]), "-1 steps of backward guidance");
    }

    [Fact]
    public async Task A_class_that_a_classifier_is_to_see_leads_the_image_and_is_repeated_from_the_file()
    {
        using (var classifier = new VitForImageClassification(new() { HiddenSize = 16, IntermediateSize = 24, NumHiddenLayers = 2, NumAttentionHeads = 2, ImageSize = 16, PatchSize = 8, Id2Label = new() { ["0"] = "tench, Tinca tinca", ["1"] = "tabby cat" } }))
        {
            using var generator = new TorchSharp.torch.Generator(2);
            classifier.Initialize(generator);
            Models.Save(At("vit"), classifier);
        }
        File.WriteAllText(At("vit/preprocessor_config.json"), """{"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}""");
        byte[] Led(string name) => File.ReadAllBytes(At(name));
        foreach (var name in (string[])["Tabby Cat", "tinca tinca", "tench"]) await Command.Succeeds(Words("--guide-class", name, "--guide-classifier", At("vit"), "--guide-scale", "20", "--out", At(name + ".png")));
        Assert.NotEqual(Pixels("Tabby Cat.png"), Pixels("tench.png"));
        Assert.Equal(Pixels("tinca tinca.png"), Pixels("tench.png"));
        Assert.Equal(("class", "Tabby Cat", 20.0), ImageParameters.Read(Led("Tabby Cat.png"))!.Controls![0] is var c ? (c.Kind, c.Text, c.Scale) : default);
        await Command.Succeeds("control", "--from", At("Tabby Cat.png"), "--out", At("again.png"));
        Assert.Equal(Led("Tabby Cat.png"), Led("again.png"));
        await Command.Fails(Words("--guide-class", "dog", "--guide-classifier", At("vit"), "--out", At("no.png")), "does not know the class \"dog\"; it tells apart tench, tabby cat.");
        await Command.Fails(Words("--guide-class", "dog", "--guide-classifier", Path.Combine(Goldens.Repository, "zoo", "clip-emoji"), "--out", At("no.png")), "tells no classes apart; expected an image classifier");
    }

    [Fact]
    public async Task Masks_in_which_a_segmenter_is_to_find_things_lead_the_image_and_are_held_by_its_file()
    {
        var (left, top) = (new Image(32, 32, 1), new Image(32, 32, 1));
        for (var i = 0; i < left.Pixels.Length; i++) (left.Pixels[i], top.Pixels[i]) = (i % 32 < 16 ? (byte)255 : (byte)0, i < 512 ? (byte)255 : (byte)0);
        left.Save(At("left.png"));
        top.Save(At("top.png"));
        await Command.Succeeds(Words("--guide-text", "a cat", "--guide-mask", $"cat={At("left.png")}", "--guide-mask", $"red apple={At("top.png")}", "--guide-scale", "3", "--guide-scale", "5", "--guide-backward", "0", "--guide-backward", "1", "--out", At("led.png")));
        var file = File.ReadAllBytes(At("led.png"));
        var controls = ImageParameters.Read(file)!.Controls!;
        Assert.Equal([("text", 3, 0), ("masks", 5, 1)], controls.Select(static c => (c.Kind, c.Scale, c.Backward ?? 0)));
        Assert.Equal(["cat", "red apple"], controls[1].Names!);
        Assert.Equal([.. left.Pixels, .. top.Pixels], ImageParameters.ReadCondition(file, 1)!.ToGray().Pixels);
        foreach (var name in (string[])["left.png", "top.png"]) File.Delete(At(name));
        await Command.Succeeds("control", "--from", At("led.png"), "--out", At("again.png"));
        Assert.Equal(file, File.ReadAllBytes(At("again.png")));
        await Command.Succeeds("control", "--from", At("led.png"), "--guide-scale", "0", "--guide-scale", "0", "--guide-backward", "0", "--out", At("led-by-none.png"));
        Assert.NotEqual(Pixels("led.png"), Pixels("led-by-none.png"));
        left.Save(At("left.png"));
        new Image(16, 16, 1).Save(At("black.png"));
        new Image(16, 32, 1, [.. Enumerable.Repeat((byte)255, 512)]).Save(At("narrow.png"));
        await Command.Fails(Words("--guide-mask", $"cat={At("left.png")}", "--guide-mask", $"apple={At("narrow.png")}", "--out", At("no.png")), "The mask of 'apple' has 16x32 pixels, that of 'cat' 32x32; expected the same.");
        await Command.Fails(Words("--size", "16", "--guide-mask", $"apple={At("black.png")}", "--out", At("no.png")), "The mask of 'apple' is black everywhere; expected white where it is to be.");
        await Command.Fails(Words("--size", "16", "--guide-mask", $"apple={At("narrow.png")}", "--out", At("no.png")), "The mask of 'apple' has 16x32 pixels, but the image 16x16; expected the same proportions.");
        await Command.Fails(Words("--guide-mask", $"cat={At("none.png")}", "--out", At("no.png")), "none.png does not exist");
        await Command.Fails(Words("--guide-mask", $"cat={At("left.png")}", "--guide-detector", Path.Combine(Goldens.Repository, "zoo", "sam-emoji"), "--out", At("no.png")), "holds no X-Decoder, which alone leads to masks");
    }

    [Fact]
    public async Task The_way_between_prompts_with_a_layout_ends_at_the_images_of_its_ends()
    {
        File.WriteAllText(At("cat.json"), """[{"phrase": "cat", "box": [0, 0.5, 0.5, 1]}]""");
        string[] rest = ["--model", Model, "--steps", "3", "--seed", "2", "--size", "16", "--batch", "1", "--layout", At("cat.json")];
        await Command.Succeeds(["control", "a cat and a red apple", "a red apple and a cat", "--interpolate", "3", .. rest, "--out", At("way")]);
        await Command.Succeeds(["control", "a cat and a red apple", .. rest, "--out", At("from.png")]);
        await Command.Succeeds(["control", "a red apple and a cat", .. rest, "--out", At("to.png")]);
        string[] way = [.. Directory.GetFiles(At("way")).OrderBy(static f => ImageParameters.Read(File.ReadAllBytes(f))!.Toward!.Share)];
        Assert.Equal(Pixels("from.png"), Image.Load(way[0]).Pixels);
        Assert.Equal(Pixels("to.png"), Image.Load(way[2]).Pixels);
        await Command.Fails(["control", "a cat", "a red apple", "--interpolate", "3", .. rest, "--out", At("none")], "'cat' has a box, but does not occur in the prompt as it is read; expected words of \"a red apple\".");
        Assert.Empty(Directory.Exists(At("none")) ? Directory.GetFiles(At("none")) : []);
    }

    [Fact]
    public async Task A_pipeline_is_no_network_that_controls_another()
    {
        await Command.Fails(Words("--controlnet", Model, "--image", At("photo.png"), "--out", At("no.png")), "holds a whole pipeline; expected a ControlNetModel");
        await Command.Fails(Words("--guide-text", "a cat", "--guide-model", Model, "--out", At("no.png")), "holds a whole pipeline; expected a CLIP");
    }

    [Fact]
    public async Task Boxes_outside_the_image_and_files_of_another_form_are_refused_with_one_sentence()
    {
        var gligen = Gligen();
        await Refused("""{"width": 48, "height": 48, "boxes": [{"phrase": "cat", "box": [24, 0, 30, 24]}]}""", "The box of 'cat' goes from 24,0 to 54,24, beyond the image of 48x48");
        await Refused("""[{"phrase": "cat", "box": [0.5, 0.5, 1.5, 1]}]""", "The box of 'cat' goes from 0.5,0.5 to 1.5,1; expected corners from 0 to 1");
        await Refused("""[{"phrase": " ", "box": [0, 0, 1, 1]}]""", "A box has no phrase");
        await Refused("""[{"phrase": "cat", "box": [0, 0, 1]}]""", "has another form");
        await Refused("""{"boxes": 3}""", "has another form");
        await Refused("""{"image": "/nowhere.png", "texts": [{"boxes": []}]}""", "speaks of /nowhere.png, which does not exist");
        await Refused("""{"width": 0, "height": 48, "boxes": [{"phrase": "cat", "box": [0, 0, 1, 1]}]}""", "of an image of 0x48 pixels");
        await Refused("""[{"example": null, "box": [0, 0, 1, 1]}]""", "has another form");
        await Refused("[]", "has no boxes");
        await Refused("{", "is not JSON");

        async Task Refused(string json, string sentence)
        {
            File.WriteAllText(At("odd.json"), json);
            await Command.Fails(["control", "a cat", "--model", gligen, "--steps", "1", "--boxes", At("odd.json"), "--out", At("no.png")], sentence);
        }
    }

    [Fact]
    public async Task A_condition_of_other_proportions_a_mask_of_another_size_and_a_wrong_network_are_refused_with_one_sentence()
    {
        new Image(48, 24, 3).Save(At("wide.png"));
        await Command.Fails(Words("--controlnet", Net, "--image", At("wide.png"), "--size", "16", "--out", At("no.png")), "The condition has 48x24 pixels, but the image 16x16; expected the same proportions.");
        await Command.Fails(Words("--controlnet", Net, "--image", At("photo.png"), "--init", At("photo.png"), "--mask", At("wide.png"), "--out", At("no.png")), "The mask has 48x24 pixels, the picture 48x48; expected the same.");
        await Command.Fails(Words("--controlnet", Path.Combine(Model, "unet"), "--image", At("photo.png"), "--out", At("no.png")), "holds a UNet2DConditionModel; expected a ControlNetModel");
        await Command.Fails(Words("--adapter", Net, "--image", At("photo.png"), "--out", At("no.png")), "holds a ControlNetModel; expected a T2IAdapter");
        await Command.Fails(["control", "1", "--model", Case("dit_pipeline"), "--steps", "1", "--controlnet", Net, "--image", At("photo.png"), "--out", At("no.png")], "A ClassDiffusion is not controlled by a ControlNet; expected a Stable Diffusion 1, 2 or XL.");
        await Command.Fails(Words("--controlnet", Net, "--image", At("nowhere.png"), "--out", At("no.png")), "nowhere.png does not exist");
    }

    [Theory]
    [InlineData("Nothing controls the image")]
    [InlineData("No condition is named; expected --image", "--controlnet", "c")]
    [InlineData("There is no condition 'magic'", "--controlnet", "c", "--image", "i", "--kind", "magic")]
    [InlineData("The condition pose is drawn from what no image tells by itself; expected --poses", "--controlnet", "c", "--image", "i", "--kind", "pose")]
    [InlineData("--scale is given 2 times for 1 network;", "--controlnet", "NET", "--image", "PHOTO", "--scale", "1", "--scale", "2")]
    [InlineData("--image and --kind are for a network", "--image", "i", "--guide-text", "a cat")]
    [InlineData("--scale goes with --controlnet or --adapter.", "--scale", "2", "--guide-text", "a cat")]
    [InlineData("--start goes with --controlnet.", "--adapter", "a", "--start", "0.5")]
    [InlineData("--guide-scale goes with --guide-text", "--layout", "l", "--guide-scale", "5")]
    [InlineData("--end is 2", "--controlnet", "c", "--end", "2")]
    [InlineData("--end is 2", "--controlnet", "c", "--end", "1", "--end", "2")]
    [InlineData("--guide-mask is 'cat'; expected NAME=PNG", "--guide-mask", "cat")]
    [InlineData("--guide-mask names 'cat' 2 times;", "--guide-mask", "cat=PHOTO", "--guide-mask", "cat=PHOTO")]
    [InlineData("expected --guide-classifier", "--guide-class", "cat")]
    [InlineData("--guide-classifier goes with --guide-class.", "--guide-text", "cat", "--guide-classifier", "c")]
    [InlineData("--guide-scale is given 3 times for 2 guides;", "--guide-text", "a cat", "--guide-style", "s", "--guide-scale", "1", "--guide-scale", "2", "--guide-scale", "3")]
    [InlineData("go with --init", "--controlnet", "c", "--strength", "0.5")]
    public async Task Wrong_usage_is_said_in_one_sentence(string sentence, params string[] arguments)
    {
        var result = await Command.Run(["control", "a cat", "--model", Model, .. arguments.Select(a => a == "NET" ? Net : a.Replace("PHOTO", At("photo.png"), StringComparison.Ordinal))]);
        Assert.Equal(App.WrongUsage, result.Code);
        Assert.Contains(sentence, result.Error, StringComparison.Ordinal);
    }
}
