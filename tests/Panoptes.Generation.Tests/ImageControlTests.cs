using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Parity;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Generation.Tests;

/// <summary>Controls as users give them, on the tiny pipelines of the golden cases.</summary>
public sealed class ImageControlTests : IDisposable
{
    readonly Diffusion diffusion = Diffusion.Load(Case("sd_text2img"));
    readonly ControlNetModel network = GenerationModels.Load<ControlNetModel>(Path.Combine(Case("sd_controlnet"), "controlnet"));
    readonly T2IAdapter adapter = GenerationModels.Load<T2IAdapter>(Path.Combine(Case("sd_multi_adapter"), "adapter"));
    readonly Image picture = Image.FromTensor((rand(3, 16, 16, generator: new Generator(1)) * 255).to(ScalarType.Byte));

    static string Case(string name) => Path.Combine(Goldens.Root, "generation", name);

    static ImageRequest Apple => new("a red apple") { Width = 16, Height = 16, Steps = 3, Seed = 7 };

    public void Dispose()
    {
        diffusion.Dispose();
        network.Dispose();
        adapter.Dispose();
    }

    [Fact]
    public void A_control_is_the_hook_that_it_stands_for()
    {
        using var condition = picture.ToTensor(ScalarType.Float32).unsqueeze(0);
        using var adapted = new T2IAdapterCondition(adapter, condition, 0.5, 0.7);
        var hooks = diffusion.Generate([Apple with { Hooks = [new ControlNetCondition(network, condition, 0.8, 0.1, 0.9), adapted] }])[0];
        var controls = diffusion.Generate([Apple with { Controls = [new ControlNetControl(network, picture) { Scale = 0.8, Start = 0.1, End = 0.9 }, new T2IAdapterControl(adapter, picture) { Scale = 0.5, Share = 0.7 }] }])[0];
        Assert.Equal(hooks.Image.Pixels, controls.Image.Pixels);
        Assert.NotEqual(diffusion.Generate([Apple])[0].Image.Pixels, controls.Image.Pixels);
    }

    [Fact]
    public void Images_with_pictures_boxes_and_texts_of_their_own_are_made_together_as_they_are_alone()
    {
        var other = Image.FromTensor((rand(3, 16, 16, generator: new Generator(2)) * 255).to(ScalarType.Byte));
        ImageRequest[] requests =
        [
            Apple with { Controls = [new ControlNetControl(network, picture) { Scale = 0.8 }, new T2IAdapterControl(adapter, other), Found(0.2f)] },
            Apple with { Prompt = "a cat", Seed = 8, Controls = [new ControlNetControl(network, other) { Scale = 0.8 }, new T2IAdapterControl(adapter, picture), Found(0.9f)] },
        ];
        var steps = new List<int>();
        var together = diffusion.Generate(requests, new Told(p => steps.Add(p.Total)));
        Assert.All(steps, static total => Assert.Equal(3, total));
        foreach (var (made, request) in together.Zip(requests))
        {
            var alone = diffusion.Generate([request])[0];
            Assert.All(alone.Image.Pixels.Zip(made.Image.Pixels), static p => Assert.InRange(p.First - p.Second, -1, 1));
            Assert.NotEqual(alone.Image.Pixels, diffusion.Generate([request with { Controls = [.. request.Controls.Take(2)] }])[0].Image.Pixels);
            Assert.Equal(alone.Conditions[0]!.Pixels, made.Conditions[0]!.Pixels);
        }
        // What is told otherwise is made apart.
        steps.Clear();
        diffusion.Generate([requests[0], requests[1] with { Controls = [new ControlNetControl(network, other) { Scale = 0.7 }, .. requests[1].Controls.Skip(1)] }, requests[0] with { Controls = [] }], new Told(p => steps.Add(p.Total)));
        Assert.All(steps, static total => Assert.Equal(9, total));
    }

    [Fact]
    public void Several_losses_lead_by_one_question_of_the_network_as_their_sum_does()
    {
        var shown = new List<Tensor>();
        Tensor Distance(Tensor pictures, float brightness)
        {
            shown.Add(pictures);
            return (pictures - brightness).square().sum();
        }
        FoundBoxesControl Toward(float brightness, double scale, int backward = 0) => new(p => Distance(p, brightness), [new("an apple", 0, 0, 1, 1)]) { Scale = scale, BackwardSteps = backward };
        byte[] Made(params IReadOnlyList<ImageControl> controls) => diffusion.Generate([Apple with { Controls = controls }])[0].Image.Pixels;
        var before = LiveTensors.Settle();
        var together = Made(Toward(0.9f, 0.5), Toward(0.1f, 2));
        Assert.Equal(before, LiveTensors.Settle());
        // Both are shown the same pictures, in each of three steps.
        Assert.Equal(6, shown.Count);
        Assert.All(shown.Chunk(2), static p => Assert.Same(p[0], p[1]));
        var sum = Made(new FoundBoxesControl(static p => (p - 0.9f).square().sum() * 0.5 + (p - 0.1f).square().sum() * 2, [new("an apple", 0, 0, 1, 1)]) { Scale = 1 });
        Assert.All(together.Zip(sum), static p => Assert.InRange(p.First - p.Second, -1, 1));
        Assert.NotEqual(Made(Toward(0.9f, 0.5)), together);
        // One that leads backward alone, beside one that leads forward.
        Assert.NotEqual(Made(Toward(0.9f, 0.5)), Made(Toward(0.9f, 0.5), Toward(0.1f, 0, 3)));
    }

    /// <summary>As if something found boxes in pictures of one brightness.</summary>
    static FoundBoxesControl Found(float brightness) => new(pictures => (pictures - brightness).square().sum(), [new("an apple", 0, 0, 1, 1)]) { Scale = 0.5 };

    [Fact]
    public void Classes_that_a_classifier_is_to_see_are_each_images_own_and_it_sees_them_more()
    {
        using var generator = new Generator(2);
        var tiny = new VitForImageClassification(new() { HiddenSize = 16, IntermediateSize = 24, NumHiddenLayers = 2, NumAttentionHeads = 2, ImageSize = 16, PatchSize = 8, Id2Label = new() { ["0"] = "tench, Tinca tinca", ["1"] = "crane", ["2"] = "crane" } });
        tiny.Initialize(generator);
        using var classifier = new ImageEncoder(tiny, ImageProcessor.Parse("""{"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}""", "a test"));
        ImageControl Class(string label) => new ClassControl(classifier, label) { Scale = 50 };
        double Seen(Image image, int label)
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            return tiny.Logits(image.ToTensor(ScalarType.Float32).unsqueeze(0) * 2 - 1).softmax(-1)[0, label].item<float>();
        }
        ImageRequest[] requests = [Apple with { Controls = [Class("tinca tinca")] }, Apple with { Prompt = "a cat", Seed = 8, Controls = [Class("Crane")] }];
        var together = diffusion.Generate(requests);
        foreach (var (made, request) in together.Zip(requests)) Assert.All(diffusion.Generate([request])[0].Image.Pixels.Zip(made.Image.Pixels), static p => Assert.InRange(p.First - p.Second, -1, 1));
        Assert.True(Seen(together[0].Image, 0) > Seen(diffusion.Generate([requests[0] with { Controls = [] }])[0].Image, 0));
        Assert.True(Seen(together[1].Image, 1) > Seen(diffusion.Generate([requests[1] with { Controls = [] }])[0].Image, 1));
        Assert.Equal((1, 2, 0), (tiny.IndexOf("crane"), tiny.IndexOf("2"), tiny.IndexOf("Tench")));
        var before = LiveTensors.Settle();
        diffusion.Generate(requests);
        Assert.Equal(before, LiveTensors.Settle());
        Assert.Equal("This model does not know the class \"duck\"; it tells apart tench, crane, crane.", Assert.Throws<PanoptesException>(() => Class("duck")).Message);
    }

    [Fact]
    public void Masks_go_into_one_picture_and_come_out_of_it_again()
    {
        Image Mask(byte value) => new(4, 2, 1, [.. Enumerable.Repeat(value, 7), (byte)1]);
        NamedMask[] masks = [new("cat", Mask(255)), new("duck", Mask(0))];
        var control = new FoundMasksControl(static p => p.square().sum(), masks) { Scale = 0.1 };
        var png = diffusion.Generate([Apple with { Width = 32, Controls = [control] }])[0].ToPng();
        var again = NamedMask.Of(ImageParameters.ReadCondition(png, 0)!, ImageParameters.Read(png)!.Controls![0].Names!);
        Assert.Equal(masks.Select(static m => (m.Name, Convert.ToHexString(m.Mask.Pixels))), again.Select(static m => (m.Name, Convert.ToHexString(m.Mask.Pixels))));
        Assert.Contains("4 rows were given for 3 masks", Assert.Throws<PanoptesException>(() => NamedMask.Of(control.Condition, ["a", "b", "c"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Masks_of_a_scene_are_where_things_of_a_name_are_seen()
    {
        var scenes = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), Panoptes.Generation.Training.GenerationTasks.All, "data.scenes.repeat_probability=0.5").Tests(24).Scenes(EmojiSplit.Train);
        NamedMask[][] all = [.. scenes.Select(static s => NamedMask.Of(s).ToArray())];
        // There are scenes with several things of one name, and with several names.
        Assert.Contains(scenes.Zip(all), static p => p.First.Objects.Count > p.Second.Length);
        Assert.Contains(all, static m => m.Length > 1);
        using var scope = NewDisposeScope();
        foreach (var (scene, masks) in scenes.Zip(all))
        {
            var white = NamedMask.White(masks);
            Assert.Equal([masks.Length, scene.Size, scene.Size], white.shape);
            Assert.Equal(scene.Objects.Select(static o => o.Name).Distinct(), masks.Select(static m => m.Name));
            Assert.Equal(masks.SelectMany(m => scene.Ids.Select(id => id > 0 && scene.Objects[id - 1].Name == m.Name)), white.data<bool>().ToArray());
        }
        NamedMask[] uneven = [all[0][0], new("duck", new(4, 2, 1, new byte[8]))];
        Assert.Contains("that of '" + all[0][0].Name + "' 64x64", Assert.Throws<PanoptesException>(() => NamedMask.White(uneven)).Message, StringComparison.Ordinal);
    }

    sealed class Told(Action<ImageProgress> told) : IProgress<ImageProgress>
    {
        public void Report(ImageProgress value) => told(value);
    }

    [Fact]
    public void An_image_holds_its_conditions_and_says_its_controls()
    {
        var made = diffusion.Generate([Apple with { Controls = [new ControlNetControl(network, picture) { Model = "net", Guess = true }, new LayoutControl([new("apple", 0, 0, 0.5, 0.5)]) { Scale = 2 }] }])[0];
        var png = made.ToPng();
        var read = ImageParameters.Read(png)!.Controls!;
        Assert.Equal(made.Parameters.Controls![0], read[0]);
        Assert.Equal(("net", true), (read[0].Model, read[0].Guess));
        Assert.Equal([new("apple", 0, 0, 0.5, 0.5)], read[1].Boxes!);
        Assert.Equal(picture.Pixels, ImageParameters.ReadCondition(png, 0)!.Pixels);
        Assert.Null(ImageParameters.ReadCondition(png, 1));
        Assert.Contains("Control: layout 2", PngText.Read(png)["parameters"], StringComparison.Ordinal);
        Assert.Contains("damaged", Assert.Throws<PanoptesException>(() => ImageParameters.ReadCondition(PngText.Add(picture.Encode(ImageFormat.Png), "panoptes-condition-0", "?"), 0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_condition_that_is_too_large_for_a_text_is_left_out_of_the_file_and_the_image_is_not_lost()
    {
        var large = new Image(2100, 2100, 3);
        new Random(1).NextBytes(large.Pixels);
        var png = new GeneratedImage(picture, diffusion.Generate([Apple])[0].Parameters) { Conditions = [large, picture] }.ToPng();
        Assert.Null(ImageParameters.ReadCondition(png, 0));
        Assert.Equal(picture.Pixels, ImageParameters.ReadCondition(png, 1)!.Pixels);
        Assert.Equal(picture.Pixels, Image.Decode(png).Pixels);
    }

    [Fact]
    public void A_condition_says_the_images_size_where_nobody_does()
    {
        var tall = new Image(60, 90, 3);
        var made = diffusion.Generate([new("a cat") { Steps = 1, Seed = 1, Controls = [new ControlNetControl(network, tall)] }])[0].Image;
        Assert.Equal((16, 24), (made.Width, made.Height));
        using var other = new ControlNetModel(network.Config with { CrossAttentionDim = 24 });
        Assert.Contains("made for another UNet", Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple with { Controls = [new ControlNetControl(other, picture)] }])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Shares_of_the_steps_are_of_those_that_are_taken()
    {
        var init = Image.FromTensor((rand(3, 16, 16, generator: new Generator(3)) * 255).to(ScalarType.Byte));
        var request = Apple with { Steps = 8, Image = init, Strength = 0.5 };
        var plain = diffusion.Generate([request])[0].Image.Pixels;
        Assert.NotEqual(plain, diffusion.Generate([request with { Controls = [new ControlNetControl(network, picture) { End = 0.5 }] }])[0].Image.Pixels);
        Assert.NotEqual(plain, diffusion.Generate([request with { Controls = [new T2IAdapterControl(adapter, picture) { Share = 0.5 }] }])[0].Image.Pixels);
        Assert.Contains("from 0.8 to 0.2 of the steps", Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple with { Controls = [new ControlNetControl(network, picture) { Start = 0.8, End = 0.2 }] }])).Message, StringComparison.Ordinal);
        Assert.Contains("expected 0 or more", Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple with { Controls = [Found(0.5f) with { Scale = -1 }] }])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_ControlNet_that_sums_its_condition_up_speaks_to_what_is_wanted_alone()
    {
        using var pooling = new ControlNetModel(network.Config with { GlobalPoolConditions = true });
        pooling.Initialize(new Generator(4));
        using (no_grad())
            foreach (var (own, other) in pooling.Parameters().Zip(network.Parameters())) own.Value.copy_(other.Value);
        var seen = new List<float>();
        var watching = new Watching(call => seen.AddRange(call.MidResidual!.chunk(2, 0).Select(static half => half.abs().max().item<float>())));
        using var condition = picture.ToTensor(ScalarType.Float32).unsqueeze(0);
        diffusion.Generate([Apple with { Guidance = 3, Hooks = [new ControlNetCondition(pooling, condition), watching] }]);
        Assert.Equal(6, seen.Count);
        Assert.All(seen.Chunk(2), static halves => Assert.True(halves[0] == 0 && halves[1] > 0));
    }

    sealed class Watching(Action<NetworkCall> see) : IStepHook
    {
        public void Asking(DenoisingStep step) => see(step.Call);
    }

    [Fact]
    public void Nothing_but_noise_is_not_led_and_images_need_not_be_square()
    {
        var sd = (StableDiffusion)diffusion.Model;
        var from = new DdimScheduler { BetaSchedule = "scaled_linear", BetaStart = 0.00085, BetaEnd = 0.012, PredictionType = "v_prediction", RescaleBetasZeroSnr = true, TimestepSpacing = "trailing", ClipSample = false };
        var zero = new Diffusion(new StableDiffusion(sd.UNet, sd.Autoencoder, sd.Prompts, from), "zero");
        var wide = Apple with { Width = 24, Height = 16 };
        foreach (var control in (ImageControl[])[Found(0.2f), Found(0.2f) with { BackwardSteps = 2 }, new LayoutControl([new("apple", 0, 0, 0.5, 0.5)])])
        {
            var led = zero.Generate([wide with { Controls = [control] }])[0].Image;
            Assert.Equal((24, 16), (led.Width, led.Height));
            Assert.NotEqual(zero.Generate([wide])[0].Image.Pixels, led.Pixels);
        }
    }

    [Fact]
    public void Words_that_a_layout_speaks_of_are_looked_for_in_each_prompt()
    {
        ImageControl[] layout = [new LayoutControl([new("apple", 0, 0, 0.5, 0.5)])];
        var alone = diffusion.Generate([Apple with { Prompt = "one more apple", Controls = layout }])[0];
        var both = diffusion.Generate([Apple with { Controls = layout }, Apple with { Prompt = "one more apple", Controls = layout }]);
        Assert.All(alone.Image.Pixels.Zip(both[1].Image.Pixels), static p => Assert.InRange(p.First - p.Second, -1, 1));
        // Each with boxes of its own.
        var other = Apple with { Prompt = "one more apple", Controls = [new LayoutControl([new("apple", 0.5, 0.5, 1, 1)])] };
        var own = diffusion.Generate([Apple with { Controls = layout }, other]);
        Assert.All(diffusion.Generate([other])[0].Image.Pixels.Zip(own[1].Image.Pixels), static p => Assert.InRange(p.First - p.Second, -1, 1));
        Assert.NotEqual(both[1].Image.Pixels, own[1].Image.Pixels);
        Assert.Equal("'pear' has a box, but does not occur in the prompt as it is read; expected words of \"a red apple\".",
            Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple with { Controls = [new LayoutControl([new("pear", 0, 0, 1, 1)])] }])).Message);
        var tokens = LayoutBox.Of(((StableDiffusion)diffusion.Model).Prompts, "a red apple", [new("red apple", 0, 0, 0.5, 0.5), new("Red apple", 0.5, 0, 1, 1)]);
        Assert.Equal(2, Assert.Single(tokens).Boxes.Count);
        // Words of a later part of a long prompt stand behind those of the first.
        var prompts = ((StableDiffusion)diffusion.Model).Prompts;
        var far = Assert.Single(LayoutBox.Of(prompts, string.Join(' ', Enumerable.Repeat("cat", prompts.Encoder.ContextLength)) + " apple", [new("apple", 0, 0, 0.5, 0.5)]));
        Assert.All(far.Tokens, t => Assert.True(t > prompts.Encoder.ContextLength));
        Assert.NotEqual(diffusion.Generate([Apple])[0].Image.Pixels, diffusion.Generate([Apple with { Controls = [new LayoutControl([new("apple", 0.26, 0.26, 0.3, 0.3)])] }])[0].Image.Pixels);
    }

    [Fact]
    public void Controls_leave_no_tensor_behind_even_where_one_fails()
    {
        var request = Apple with { Controls = [new ControlNetControl(network, picture), new T2IAdapterControl(adapter, picture), new LayoutControl([new("apple", 0, 0, 0.5, 0.5)])] };
        diffusion.Generate([request]);
        var before = LiveTensors.Settle();
        diffusion.Generate([request]);
        Assert.Equal(before, LiveTensors.Settle());
        Assert.Throws<PanoptesException>(() => diffusion.Generate([request with { Controls = [.. request.Controls, new BoxesControl([new("apple", 0, 0, 1, 1)])] }]));
        Assert.Equal(before, LiveTensors.Settle());
        using var clip = Clip.Load(Path.Combine(Goldens.Repository, "zoo", "clip-emoji"));
        var said = new TextControl(clip, "a cat");
        diffusion.Generate([Apple with { Steps = 1, Controls = [said] }]);
        before = LiveTensors.Settle();
        Assert.Throws<PanoptesException>(() => diffusion.Generate([Apple with { Controls = [said with { Text = string.Join(' ', Enumerable.Repeat("cat", 100)) }] }]));
        Assert.Equal(before, LiveTensors.Settle());
    }

    [Fact]
    public void A_GLIGEN_that_fills_masks_is_told_what_stays_and_fills_its_boxes()
    {
        using var whole = DiffusionModel.Load(Path.Combine(Goldens.Repository, "zoo", "gligen-emoji"));
        var small = (StableDiffusion)whole;
        using var network = new UNet2DConditionModel(small.UNet.Config with { InChannels = 9 });
        using (var generator = new Generator(1))
            foreach (var parameter in network.Parameters()) parameter.Initialize(generator, ScalarType.Float32);
        var fills = new Diffusion(new StableDiffusion(network, small.Autoencoder, small.Prompts, small.Scheduler), "tiny");
        using var seen = new Seen();
        var scene = Image.FromTensor((rand(3, 64, 64, generator: new Generator(1)) * 255).to(ScalarType.Byte));
        var request = new ImageRequest("a red apple") { Seed = 5, Steps = 3, Guidance = 3, Image = scene, Hooks = [seen], Controls = [new BoxesControl([new("apple", 0.1, 0.3, 0.7, 0.8)])] };
        var boxed = fills.Generate([request])[0];
        // The peer's order: noisy latents, the latents of what stays, where that is; the box ends as the peer's does, at whole places of the latents.
        using var box = zeros(16, 16);
        box.narrow(0, 4, 8).narrow(1, 1, 10).fill_(1);
        using var kept = (small.Encode(scene.ToTensor(ScalarType.Float32).unsqueeze(0) * 2 - 1, new Generator(5), null) * (1 - box))[0];
        foreach (var half in (int[])[0, 1])
        {
            Assert.Equal(1 - box, seen.Told![half, 8]);
            Assert.True(seen.Told[half].narrow(0, 4, 4).allclose(kept, 1e-5, 1e-6));
        }
        Assert.True((seen.Last![0] * (1 - box)).allclose(kept, 1e-5, 1e-6));
        Assert.NotEqual(zeros(4, 8, 10), seen.Last[0].narrow(1, 4, 8).narrow(2, 1, 10));
        // A mask of one's own goes before the boxes.
        var mask = Image.FromTensor((box.repeat_interleave(4, 0).repeat_interleave(4, 1).expand(3, -1, -1) * 255).to(ScalarType.Byte));
        Assert.Equal(boxed.Image.Pixels, fills.Generate([request with { Mask = mask }])[0].Image.Pixels);
        Assert.NotEqual(boxed.Image.Pixels, fills.Generate([request with { Mask = new(64, 64, 1, Enumerable.Repeat((byte)255, 64 * 64).ToArray()) }])[0].Image.Pixels);
        Assert.Contains("expected a picture and a mask", Assert.Throws<PanoptesException>(() => fills.Generate([request with { Image = null }])).Message);
    }

    /// <summary>What the network is asked first, and the last latents.</summary>
    sealed class Seen : IStepHook, IDisposable
    {
        public Tensor? Told { get; private set; }

        public Tensor? Last { get; private set; }

        public void Asking(DenoisingStep step) => Told ??= step.Call.Sample.clone().DetachFromDisposeScope();

        public void Stepped(DenoisingStep step)
        {
            Last?.Dispose();
            Last = step.Latents.clone().DetachFromDisposeScope();
        }

        public void Dispose()
        {
            Told?.Dispose();
            Last?.Dispose();
        }
    }
}
