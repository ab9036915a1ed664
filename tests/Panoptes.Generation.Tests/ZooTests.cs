using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Parity;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Generation.Tests;

/// <summary>The bundled generator; its card has the numbers of more images.</summary>
public sealed class ZooTests
{
    static string Zoo(string name) => Path.Combine(Goldens.Repository, "zoo", name);

    [Fact]
    public void What_the_bundled_generator_makes_of_a_name_is_what_the_bundled_CLIP_calls_so()
    {
        var names = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), Panoptes.Generation.Training.GenerationTasks.All).Tests(4).Names;
        using var diffusion = Diffusion.Load(Zoo("sd-emoji"));
        Assert.Equal((3, 25, 64), (diffusion.Model.UsualGuidance, diffusion.Model.UsualSteps, diffusion.Model.Side));
        var made = diffusion.Generate([.. names.Select(static n => new ImageRequest($"a large {n}") { Seed = 1, Steps = 12 })]);
        using var clip = Clip.Load(Zoo("clip-emoji"));
        var right = names.Zip(made).Count(m => clip.Classify(m.Second.Image, names)[0].Label == m.First);
        // By chance one of them.
        Assert.True(right > names.Count / 2, $"{right} of {names.Count}");
    }

    [Theory]
    [InlineData("a red apple on the left", "a red apple on the right", 0)]
    [InlineData("a fish at the top", "a fish at the bottom", 1)]
    [InlineData("a red apple left of a cat in the noto style", "a cat left of a red apple in the noto style", 0)]
    public void Things_are_where_words_say_that_they_are(string before, string after, int axis)
    {
        using var diffusion = Diffusion.Load(Zoo("sd-emoji"));
        long[] seeds = [11, 12, 13, 14];
        var made = diffusion.Generate([.. ((string[])[before, after]).SelectMany(p => seeds.Select(s => new ImageRequest(p) { Seed = s, Steps = 12 }))]);
        var middles = made.Select(m => Middle(m.Image, axis)).ToArray();
        // Three pairs of four at least: the same seed with other words has the thing on the other side.
        var right = seeds.Select((_, i) => middles[i + seeds.Length] - middles[i]).Count(static d => d > 8);
        Assert.True(right >= 3, string.Join(", ", middles));
    }

    /// <summary>The middle of what has not the ground's color (the median of each channel), along one axis, in pixels; what is red counts alone where anything is.</summary>
    static double Middle(Imaging.Image image, int axis)
    {
        var pixels = Enumerable.Range(0, 64 * 64).Select(i => (X: i % 64, Y: i / 64, R: (int)image.Pixels[3 * i], G: (int)image.Pixels[(3 * i) + 1], B: (int)image.Pixels[(3 * i) + 2])).ToArray();
        int Ground(Func<(int X, int Y, int R, int G, int B), int> channel) => pixels.Select(channel).Order().ElementAt(pixels.Length / 2);
        var (r, g, b) = (Ground(static p => p.R), Ground(static p => p.G), Ground(static p => p.B));
        var thing = pixels.Where(p => Math.Abs(p.R - r) + Math.Abs(p.G - g) + Math.Abs(p.B - b) > 120).ToArray();
        var apple = thing.Where(static p => p.R > 180 && p.G < 130 && p.B < 90).ToArray();
        return (apple.Length > 60 ? apple : thing).Average(p => axis == 0 ? p.X : p.Y);
    }

    [Theory]
    [InlineData("canny")]
    [InlineData("scribble")]
    public void What_is_made_under_the_bundled_ControlNet_has_the_edges_that_it_is_shown(string kind)
    {
        var scenes = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), Panoptes.Generation.Training.GenerationTasks.All).Tests(6).Scenes(EmojiSplit.Train);
        using var diffusion = Diffusion.Load(Zoo("sd-emoji"));
        using var network = GenerationModels.Load<ControlNetModel>(Zoo("controlnet-lines-emoji"));
        var shown = scenes.Select(s => SceneConditions.Make(kind, s)).ToArray();
        ImageRequest[] plain = [.. scenes.Select(static s => new ImageRequest(s.Caption) { Seed = 1, Steps = 8 })];
        double Kept(IEnumerable<ImageRequest> requests) => diffusion.Generate([.. requests]).Zip(shown).Select(m => EdgeScores.Of(SceneConditions.Make(kind, m.First.Image), m.Second)).Aggregate(static (a, b) => a + b).F1;
        var (with, without) = (Kept(plain.Zip(shown, (r, c) => r with { Controls = [new ControlNetControl(network, c)] })), Kept(plain));
        Assert.True(with > 0.65 && with > without + 0.2, $"{with} with, {without} without");
    }

    [Theory]
    [InlineData("controlnet-maps-emoji")]
    [InlineData("t2i-adapter-emoji")]
    public void Things_are_where_a_bundled_network_is_shown_that_they_are_near(string bundled)
    {
        var scenes = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), Panoptes.Generation.Training.GenerationTasks.All).Tests(6).Scenes(EmojiSplit.Train);
        using var diffusion = Diffusion.Load(Zoo("sd-emoji"));
        using Nn.Module network = bundled.StartsWith("t2i", StringComparison.Ordinal) ? GenerationModels.Load<T2IAdapter>(Zoo(bundled)) : GenerationModels.Load<ControlNetModel>(Zoo(bundled));
        ImageRequest[] plain = [.. scenes.Select(static s => new ImageRequest(s.Caption) { Seed = 1, Steps = 8 })];
        ImageControl Shown(Scene scene) => network is T2IAdapter adapter ? new T2IAdapterControl(adapter, SceneConditions.Make("depth", scene)) : new ControlNetControl((ControlNetModel)network, SceneConditions.Make("depth", scene));
        // The outlines of things, which depth alone tells.
        var (with, without) = (Outlines(diffusion, plain.Zip(scenes, (r, s) => r with { Controls = [Shown(s)] }), scenes), Outlines(diffusion, plain, scenes));
        Assert.True(with > without + 0.15, $"{with} with, {without} without");
    }

    [Fact]
    public void People_stand_as_the_bundled_adapter_is_shown_though_the_model_has_never_seen_one()
    {
        var scenes = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "t2i-adapter-pose.yaml"), Panoptes.Generation.Training.GenerationTasks.All).Tests(8).Scenes(EmojiSplit.Train);
        using var diffusion = Diffusion.Load(Zoo("sd-emoji"));
        using var adapter = GenerationModels.Load<T2IAdapter>(Zoo("t2i-adapter-pose-emoji"));
        ImageRequest[] plain = [.. scenes.Select(static s => new ImageRequest(s.Caption) { Seed = 1, Steps = 8 })];
        // The caption and the pose tell nearly all of the drawing.
        var (with, without) = (Outlines(diffusion, plain.Zip(scenes, (r, s) => r with { Controls = [new T2IAdapterControl(adapter, SceneConditions.Make("pose", s))] }), scenes), Outlines(diffusion, plain, scenes));
        Assert.True(with > without + 0.15, $"{with} with, {without} without");
    }

    [Fact]
    public void Things_are_where_the_bundled_GLIGENs_boxes_are_and_without_boxes_it_is_the_model_before()
    {
        var tests = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), Panoptes.Generation.Training.GenerationTasks.All).Tests(6);
        var scenes = tests.Scenes(EmojiSplit.Train);
        using var diffusion = Diffusion.Load(Zoo("gligen-emoji"));
        using var before = Diffusion.Load(Zoo("sd-emoji"));
        ImageRequest[] plain = [.. scenes.Select(static s => new ImageRequest(s.Caption) { Seed = 1, Steps = 8 })];
        Assert.Equal(before.Generate([plain[0]])[0].Image.Pixels, diffusion.Generate([plain[0]])[0].Image.Pixels);
        Assert.InRange(Off(diffusion, scenes, PhraseBox.Of) / Off(diffusion, scenes), 0, 0.75);
        var most = ((StableDiffusion)diffusion.Model).Prompts.Encoder.ContextLength - 2;
        Assert.Contains($"has more than {most} tokens", Assert.Throws<PanoptesException>(() => diffusion.Generate([plain[0] with { Controls = [new BoxesControl([new(string.Join(' ', Enumerable.Repeat("cat", most + 1)), 0, 0, 1, 1)])] }])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Pictures_of_things_bring_them_into_boxes_where_the_caption_names_nothing()
    {
        var scenes = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), Panoptes.Generation.Training.GenerationTasks.All).Tests(12).Scenes(EmojiSplit.Train);
        using var diffusion = Diffusion.Load(Zoo("gligen-examples-emoji"));
        var (shown, other) = (Off(diffusion, scenes, PhraseBox.ShownIn, "a scene"), Off(diffusion, scenes, s => Exchanged(s, scenes), "a scene"));
        Assert.InRange(shown / Off(diffusion, scenes, null, "a scene"), 0, 0.75);
        Assert.InRange(shown / other, 0, 0.85);

        // The same boxes with pictures out of other scenes.
        static IReadOnlyList<PhraseBox> Exchanged(Scene scene, IReadOnlyList<Scene> all)
        {
            var next = all[(all.ToList().IndexOf(scene) + 1) % all.Count];
            return [.. PhraseBox.ShownIn(scene).Select(b => b with { Example = next.Cut(0) })];
        }
    }

    [Fact]
    public void Things_are_where_regions_are_told_to_the_bundled_ReCo()
    {
        var scenes = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), Panoptes.Generation.Training.GenerationTasks.All).Tests(12).Scenes(EmojiSplit.Train);
        using var diffusion = Diffusion.Load(Zoo("reco-emoji"));
        Assert.Equal((3, 25), (diffusion.Model.UsualGuidance, diffusion.Model.UsualSteps));
        Assert.InRange(Off(diffusion, scenes, PhraseBox.Of) / Off(diffusion, scenes), 0, 0.75);
        Assert.Contains("takes no example images", Assert.Throws<PanoptesException>(() => diffusion.Generate([new("a scene") { Controls = [new BoxesControl(PhraseBox.ShownIn(scenes[0]))] }])).Message, StringComparison.Ordinal);
    }

    /// <summary>How much of the edges of images and of the scenes' own pictures agrees.</summary>
    static double Outlines(Diffusion diffusion, IEnumerable<ImageRequest> requests, IReadOnlyList<Scene> scenes) =>
        diffusion.Generate([.. requests]).Zip(scenes).Select(static m => EdgeScores.Of(SceneConditions.Make("canny", m.First.Image), SceneConditions.Make("canny", m.Second))).Aggregate(static (a, b) => a + b).F1;

    /// <summary>How far images are from the scenes' own colors in the middle of things' boxes: where the thing is there and looks like it, little.</summary>
    static double Off(Diffusion diffusion, IReadOnlyList<Scene> scenes, Func<Scene, IReadOnlyList<PhraseBox>>? boxes = null, string? caption = null)
    {
        return diffusion.Generate([.. scenes.Select(s => new ImageRequest(caption ?? s.Caption) { Seed = 1, Steps = 8, Controls = boxes is null ? [] : [new BoxesControl(boxes(s)) { Share = 0.5 }] })]).Zip(scenes)
            .SelectMany(static m => m.Second.Objects.Select(o => Difference(m.First.Image, m.Second.Image, (int)o.Box.CenterX, (int)o.Box.CenterY))).Average();

        static double Difference(Imaging.Image made, Imaging.Image own, int x, int y) => Enumerable.Range(-4, 9).SelectMany(dy => Enumerable.Range(-4, 9).Select(dx => (X: Math.Clamp(x + dx, 0, 63), Y: Math.Clamp(y + dy, 0, 63))))
            .Average(p => Enumerable.Range(0, 3).Average(c => Math.Abs(made.Pixels[(((p.Y * 64) + p.X) * 3) + c] - own.Pixels[(((p.Y * 64) + p.X) * 3) + c])));
    }
}
