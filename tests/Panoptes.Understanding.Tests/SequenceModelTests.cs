using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding.Tests;

/// <summary>The sequence models that are trained here: what they ask and answer of scenes, and that they learn it.</summary>
public sealed class SequenceModelTests : IDisposable
{
    const string Vision = """{"model_type":"convnext","num_channels":3,"patch_size":4,"hidden_sizes":[16,32],"depths":[1,1],"num_stages":2,"image_size":32}""";

    static readonly EmojiSet Set = EmojiSet.Open();
    static readonly SceneGenerator Scenes = new(Set, SceneGenerator.Things(Set), new() { Size = 32, MinObjects = 2, MaxObjects = 3, RepeatProbability = 0.3f, Background = new() { White = 1 } }, 5);

    /// <summary>The repository's own data.</summary>
    static string Data
    {
        get
        {
            for (var above = new DirectoryInfo(AppContext.BaseDirectory); above is not null; above = above.Parent)
                if (Directory.Exists(Path.Combine(above.FullName, "data", "tokenizers"))) return Path.Combine(above.FullName, "data");
            throw new InvalidOperationException("No data folder is above the tests.");
        }
    }

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-sequences-").FullName;
    readonly int threads = get_num_threads();
    readonly Tokenizer text;
    readonly int words;

    public SequenceModelTests()
    {
        set_num_threads(1);                                                                     // for sizes like these a second thread is something to wait for
        words = ClipVocabulary.Truncate(Path.Combine(Data, "tokenizers", "clip", "merges.txt"), 200, folder);
        text = Tokenizer.Load(folder);
    }

    public void Dispose()
    {
        set_num_threads(threads);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void A_detection_of_Pix2Seq_has_every_known_object_and_noise_whose_places_do_not_count()
    {
        var scenes = Enumerable.Range(0, 20).Select(static i => Scenes.Generate(i)).ToArray();
        using var model = Pix2Seq(scenes.SelectMany(static s => s.Objects).Select(static o => o.Name).Distinct().Skip(3));
        var tokens = model.Config.Tokens;
        foreach (var scene in scenes)
        {
            var random = new SampleRandom(1, 2, scene.Layout.Index);
            var example = model.Example(scene, [], Pix2SeqModel.Detection, text, ref random)!;
            Assert.Equal(5 * 6, example.Target.Length);
            Assert.Equal([Pix2SeqTokens.Detection], example.Prompt);
            var known = scene.Objects.Where(o => model.Config.Classes.Contains(o.Name)).ToArray();
            Assert.Equal(known.Select(static o => o.Name).Order(), tokens.Objects(example.Target, 32, 32).Select(o => model.Config.Classes[o.Label]).Order());
            for (var i = 0; i < 6; i++)
            {
                var noise = i >= known.Length;
                Assert.Equal(noise ? [0f, 0, 0, 0, 1] : [1f, 1, 1, 1, 1], example.Weights[(5 * i)..(5 * i + 5)]);
                Assert.Equal(noise, example.Target[5 * i + 4] == Pix2SeqTokens.Noise);
                Assert.True(tokens.IsClass(example.Read![5 * i + 4]) && tokens.BoxAt(example.Read, 5 * i, 32, 32) is not null);
            }
            var again = new SampleRandom(1, 2, scene.Layout.Index);
            Assert.Equal(example.Read, model.Example(scene, [], Pix2SeqModel.Detection, text, ref again)!.Read);
            Assert.Equal(Squeezed(scene.Caption), Squeezed(text.Decode(tokens.Text(model.Example(scene, [], Pix2SeqModel.Captioning, text, ref random)!.Target))));
        }
    }

    [Fact]
    public void The_polygons_of_a_mask_cover_it()
    {
        foreach (var scene in Enumerable.Range(0, 10).Select(static i => Scenes.Generate(i)))
        {
            for (var k = 0; k < scene.Objects.Count; k++)
            {
                var mask = scene.Mask(k);
                var own = RunLengthMask.Encode(mask.Pixels, 32, 32);
                // Holes are filled, and nothing is lost.
                Assert.True(RunLengthMask.Merge([Drawn(MaskPolygons.Of(mask, 1000, 100)), own], intersect: true).Area == own.Area, $"{scene.Layout.Index} {k} {Drawn(MaskPolygons.Of(mask, 1000, 100)).Area} {own.Area} {RunLengthMask.Merge([Drawn(MaskPolygons.Of(mask, 1000, 100)), own], intersect: true).Area}");
                var simple = MaskPolygons.Of(mask, 12);
                Assert.All(simple, static p => Assert.InRange(p.Count, 3, 12));
                Assert.True(Drawn(simple).Iou(Drawn(MaskPolygons.Of(mask, 1000, 4))) > 0.6);
            }
        }
        var square = new Image(8, 8, 1);
        for (var y = 2; y < 5; y++) square.Pixels.AsSpan(8 * y + 1, 4).Fill(255);
        square.Pixels[8 * 5 + 5] = 255;                                                         // touches at a corner: a part of its own
        var parts = MaskPolygons.Of(square, 50);
        Assert.Equal([new(5, 2), new(5, 5), new(1, 5), new(1, 2)], parts[0]);
        Assert.Equal([new(6, 5), new(6, 6), new(5, 6), new(5, 5)], parts[1]);
        Assert.Empty(MaskPolygons.Of(new Image(4, 4, 1), 50));

        static RunLengthMask Drawn(IReadOnlyList<IReadOnlyList<ImagePoint>> polygons) =>
            RunLengthMask.FromPolygons([.. polygons.Select(static p => (IReadOnlyList<double>)[.. p.SelectMany(static q => new[] { q.X, q.Y })])], 32, 32);
    }

    [Fact]
    public void The_pieces_of_a_caption_are_the_caption_and_those_that_mean_one_object_have_its_box()
    {
        foreach (var scene in Enumerable.Range(0, 60).Select(static i => Scenes.Generate(i)))
        {
            var pieces = SceneWords.Pieces(scene);
            Assert.Equal(scene.Caption, string.Concat(pieces.Select(static p => p.Text)));
            Assert.Equal(scene.CaptionRegions.Where(static r => r.Objects.Count == 1).Select(r => SceneWords.BoxOf(scene.Objects[r.Objects[0]])), pieces.Where(static p => p.Box is not null).Select(static p => p.Box!.Value));
        }
    }

    [Fact]
    public void Every_task_of_every_model_makes_examples_whose_tokens_are_of_its_vocabulary()
    {
        foreach (var model in (ISequenceModel[])[Pix2Seq(["cat"]), UniTab(), UnifiedIo(), VisionLlm()])
        {
            using var disposed = (Module)model;
            foreach (var task in model.Tasks)
            {
                for (var i = 0; i < 10; i++)
                {
                    var random = new SampleRandom(7, 1, i);
                    if (model.Example(Scenes.Generate(i), Scenes.References(Scenes.Generate(i)), task, text, ref random) is not { } example) continue;
                    Assert.Equal(task, example.Task);
                    Assert.Equal(example.Target.Length, example.Weights.Length);
                    Assert.All(example.Prompt.Concat(example.Target).Concat(example.Read ?? []), t => Assert.InRange(t, 0, model.Core.Vocabulary - 1));
                    Assert.True(example.Target.Length > 0 || example.Picture is { Width: 16, Height: 16, Channels: 3 });
                }
            }
            Assert.Contains("is unknown; expected", Assert.Throws<PanoptesException>(() =>
            {
                var random = new SampleRandom(7, 1, 0);
                model.Example(Scenes.Generate(0), [], "sleeping", text, ref random);
            }).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void VisionLlm_is_told_things_in_the_order_and_the_bins_of_the_query()
    {
        using var model = VisionLlm();
        (ImageBox, int)[] objects = [(new(3, 4, 20, 30), 1), (new(0, 0, 32, 32), 0)];
        VisionLlmField[] turned = [VisionLlmField.Bottom, VisionLlmField.Right, VisionLlmField.Class, VisionLlmField.Left, VisionLlmField.Top];
        var (c, p) = (model.FirstClass, model.FirstPlace);
        foreach (var (query, expected) in ((VisionLlmQuery, int[])[])[
            (new(["cat", "dog"], 33), [c + 1, p + 3, p + 4, p + 20, p + 30, c, p, p, p + 32, p + 32]),
            (new(["cat", "the red apple"], 17) { Format = turned, Marks = [3, 1] }, [p + 15, p + 10, c + 1, p + 2, p + 2, p + 16, p + 16, c + 3, p, p])])
        {
            Assert.Equal(expected, model.AnswerOf(query, objects, 32, 32));
            var prompt = model.PromptOf(query, text);
            Assert.Equal((query.Marks ?? [0, 1]).Select(m => c + m), prompt.Where(t => t >= c && t < p));
            Assert.Equal([p, p + query.Bins - 1], prompt.Where(t => t >= p && t < model.FirstQuery));
            Assert.Equal(query.Format.Select(f => model.FirstQuery + (int)f), prompt.Where(t => t >= model.FirstQuery));
        }
        Assert.Contains("at most 4", Assert.Throws<PanoptesException>(() => model.AnswerOf(new(["cat"], 8), [.. Enumerable.Repeat((new ImageBox(0, 0, 1, 1), 0), 5)], 32, 32)).Message, StringComparison.Ordinal);
        Assert.Contains("expected 2 to 64", Assert.Throws<PanoptesException>(() => model.PromptOf(new(["cat"], 65), text)).Message, StringComparison.Ordinal);
        Assert.Contains("expected 1 to 4 with names", Assert.Throws<PanoptesException>(() => model.PromptOf(new([], 8), text)).Message, StringComparison.Ordinal);
        Assert.Contains("expected 2 different ones from 0 to 3", Assert.Throws<PanoptesException>(() => model.PromptOf(new(["cat", "dog"], 8) { Marks = [2, 2] }, text)).Message, StringComparison.Ordinal);
        Assert.Contains("once", Assert.Throws<PanoptesException>(() => model.PromptOf(new(["cat"], 8) { Format = [VisionLlmField.Class] }, text)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Pix2Seq_learns_two_scenes_by_heart_and_says_what_it_learned()
    {
        var scenes = new[] { Scenes.Generate(1), Scenes.Generate(3) };
        using var scope = NewDisposeScope();
        var pixels = Pixels(scenes);
        using var model = Pix2Seq(scenes.SelectMany(static s => s.Objects).Select(static o => o.Name).Distinct());
        Learn(model, scenes, pixels, 200);
        var found = model.Detect(pixels, 32, 32);
        foreach (var (scene, list) in scenes.Zip(found))
        {
            foreach (var o in scene.Objects)
                Assert.Contains(list.Take(scene.Objects.Count), d => d.Label == o.Name && Math.Abs(d.Left - o.Box.X) <= 2 && Math.Abs(d.Top - o.Box.Y) <= 2 && Math.Abs(d.Right - o.Box.Right) <= 2 && Math.Abs(d.Bottom - o.Box.Bottom) <= 2);
            Assert.All(list.Skip(scene.Objects.Count), static d => Assert.True(d.Score < 0.5));
        }
        Assert.Equal(scenes.Select(static s => Squeezed(s.Caption)), model.Caption(pixels, text, new() { MaxTokens = 80 }).Select(static c => Squeezed(c.Text)));
        var (box, mask) = (scenes[0].Objects[^1].Box, RunLengthMask.Encode(scenes[0].Mask(scenes[0].Objects.Count - 1).Pixels, 32, 32));
        var segment = model.Segment(pixels.narrow(0, 0, 1), (BoxPrompt)Prompt.Box(box.X, box.Y, box.Right, box.Bottom), scenes[0].Objects[^1].Name, 32, 32);
        Assert.True(segment!.Mask.Iou(mask) > 0.5, $"{segment.Mask.Iou(mask)}");
        Assert.Equal(5, model.PointsOf(pixels.narrow(0, 0, 1), (BoxPrompt)Prompt.Box(box.X, box.Y, box.Right, box.Bottom), scenes[0].Objects[^1].Name, 5, 32, 32).Count);
    }

    [Fact]
    public void UniTab_UnifiedIo_and_VisionLlm_learn_all_of_their_tasks_at_once_and_answer_within_their_formats()
    {
        var scenes = new[] { Scenes.Generate(1), Scenes.Generate(3) };
        using var scope = NewDisposeScope();
        var pixels = Pixels(scenes);
        using var tab = UniTab();
        Learn(tab, scenes, pixels, 30);
        Assert.All(tab.Caption(pixels, text, 32, 32).SelectMany(static c => c), static p => Assert.True(p.Box is not { } b || (b.Left >= 0 && b.Right <= 32 && b.Top >= 0 && b.Bottom <= 32)));
        Assert.NotNull(tab.Answer(pixels, scenes[0].Questions[0].Text, text)[0].Text);

        using var llm = VisionLlm();
        Learn(llm, scenes, pixels, 30);
        var found = llm.Detect(pixels, new([.. scenes[0].Objects.Select(static o => o.Name).Distinct()], 40), text, 32, 32);
        Assert.All(found.SelectMany(static f => f), d => Assert.True(d.Score is > 0 and <= 1 && d.Left >= 0 && d.Right <= 32 && scenes[0].Objects.Any(o => o.Name == d.Label)));
        Assert.NotNull(llm.Answer(pixels, scenes[0].Questions[0].Text, text)[0].Text);

        using var io = UnifiedIo();
        Learn(io, scenes, pixels, 30);
        using var depth = io.DepthOf(pixels, text);
        Assert.Equal([2, 16, 16], depth.shape);
        Assert.True(depth.max().item<float>() <= 1 && depth.min().item<float>() >= 0);
        Assert.All(io.Segment(pixels, "cat", text, 40, 30).SelectMany(static s => s), static s => Assert.Equal((40, 30), (s.Mask.Width, s.Mask.Height)));
        Assert.All(io.Detect(pixels, text, 32, 32).SelectMany(static d => d), static d => Assert.True(d.Left >= 0 && d.Right <= 32 && d.Top >= 0 && d.Bottom <= 32));
    }

    [Fact]
    public void An_image_tokenizer_that_was_trained_alone_is_taken_over_if_it_is_of_the_same_config()
    {
        using var model = UnifiedIo();
        using var other = new VqModel(model.Config.VqConfig);
        other.Initialize(new Generator(99));
        model.TakeTokenizer(other);
        Assert.Equal(other.Quantize.Embedding.Weight.Value.data<float>().ToArray(), model.Vq.Quantize.Embedding.Weight.Value.data<float>().ToArray());
        using var wider = new VqModel(model.Config.VqConfig with { NumVqEmbeddings = 9 });
        Assert.Contains("is not that of vq_config", Assert.Throws<PanoptesException>(() => model.TakeTokenizer(wider)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_loss_is_the_mean_cross_entropy_of_the_tokens_that_count_times_the_tasks_weights()
    {
        using var scope = NewDisposeScope();
        using var model = Pix2Seq(["cat"], "\"task_weights\":{\"captioning\":3.0},");
        using var noGrad = no_grad();
        var pixels = randn([3, 3, 32, 32], generator: new Generator(2));
        SequenceExample[] examples = [SequenceExample.Of("captioning", [13], 60, 61, 0), SequenceExample.Of("captioning", [13], 62, 0), new("detection", [10], [43, 44, 45], [0, 1, 0.5f]) { Read = [43, 50, 45] }];
        double Told(int i, int[] given, int place, int target)
        {
            var (memory, mask) = model.Core.Read(pixels.narrow(0, i, 1), null);
            return -model.Core.Write(tensor([.. given.Select(static t => (long)t)], [1, given.Length]), memory, mask)[0, place].log_softmax(0)[target].item<float>();
        }
        var captions = (Told(0, [13, 60, 61], 0, 60) + Told(0, [13, 60, 61], 1, 61) + Told(0, [13, 60, 61], 2, 0) + Told(1, [13, 62], 0, 62) + Told(1, [13, 62], 1, 0)) / 5;
        var detection = (Told(2, [10, 43, 50], 1, 44) + 0.5 * Told(2, [10, 43, 50], 2, 45)) / 1.5;
        Assert.Equal(2.0 / 3 * 3 * captions + detection / 3, model.Loss(pixels, examples).item<float>(), 1e-4);
        Assert.Contains("expected one an image", Assert.Throws<PanoptesException>(() => model.Loss(pixels, examples[..2])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_told_at_once_is_matched_at_the_least_cost_and_judged_as_a_set_beside_what_is_written()
    {
        using var scope = NewDisposeScope();
        using var model = VisionLlm();
        using var noGrad = no_grad();
        var pixels = randn([2, 3, 32, 32], generator: new Generator(2));
        var query = new VisionLlmQuery(["cat", "dog"], 33) { Marks = [2, 0], Format = [VisionLlmField.Top, VisionLlmField.Class, VisionLlmField.Right, VisionLlmField.Left, VisionLlmField.Bottom] };
        (ImageBox Box, int Label)[] objects = [(new(3, 4, 20, 30), 1), (new(0, 8, 12, 18), 0)];
        SequenceExample[] examples = [model.ExampleOf("detection", query, objects, 32, 32, text), SequenceExample.Of("captioning", [13], 14, 1)];

        var told = model.Tell(model.Core.See(pixels.narrow(0, 0, 1)), [query], [examples[0].Prompt]);
        Assert.Equal([1, 4, 3], told.Classes.shape);
        Assert.Equal([1, 4, 4, 33], told.Places.shape);
        Assert.Equal(2, told.Found.Count);
        double Off(Tensor boxes, int k, int o) => boxes[0][k].data<float>().Zip(Center(objects[o].Box), static (a, b) => Math.Abs(a - b)).Sum();
        double Overlap(Tensor boxes, int k, int o)
        {
            var c = boxes[0][k].data<float>().ToArray();
            ImageBox a = new(c[0] - (c[2] / 2), c[1] - (c[3] / 2), c[0] + (c[2] / 2), c[1] + (c[3] / 2)), b = objects[o].Box.Scaled(1 / 32.0, 1 / 32.0);
            var shared = Math.Max(0, Math.Min(a.Right, b.Right) - Math.Max(a.Left, b.Left)) * Math.Max(0, Math.Min(a.Bottom, b.Bottom) - Math.Max(a.Top, b.Top));
            var union = ((a.Right - a.Left) * (a.Bottom - a.Top)) + ((b.Right - b.Left) * (b.Bottom - b.Top)) - shared;
            var around = (Math.Max(a.Right, b.Right) - Math.Min(a.Left, b.Left)) * (Math.Max(a.Bottom, b.Bottom) - Math.Min(a.Top, b.Top));
            return (shared / union) - ((around - union) / around);
        }
        (int First, int Second) Matched(DetectionPrediction found)
        {
            double Cost(int k, int o) => (5 * Off(found.Boxes, k, o)) - (2 * Overlap(found.Boxes, k, o)) - found.Logits[0].softmax(1)[k, objects[o].Label].item<float>();
            return Enumerable.Range(0, 16).Select(static i => (First: i / 4, Second: i % 4)).Where(static p => p.First != p.Second).MinBy(p => Cost(p.First, 0) + Cost(p.Second, 1));
        }
        double Classes(Tensor logits, (int First, int Second) matched)
        {
            var unlikely = -logits[0].log_softmax(1);
            return (Enumerable.Range(0, 4).Where(k => k != matched.First && k != matched.Second).Sum(k => 0.1 * unlikely[k, 2].item<float>()) + unlikely[matched.First, 1].item<float>() + unlikely[matched.Second, 0].item<float>()) / 2.2;
        }
        var found = told.Found.Sum(layer =>
        {
            var (first, second) = Matched(layer);
            return Classes(layer.Logits, (first, second)) + (5 * (Off(layer.Boxes, first, 0) + Off(layer.Boxes, second, 1)) / 2) + (2 * (2 - Overlap(layer.Boxes, first, 0) - Overlap(layer.Boxes, second, 1)) / 2);
        });
        // What is answered is judged by the last layer's match: left, top, right and bottom in bins of a pixel.
        var (one, other) = Matched(told.Found[1]);
        var bins = -told.Places[0].log_softmax(2);
        var places = (bins[one, 0, 3] + bins[one, 1, 4] + bins[one, 2, 20] + bins[one, 3, 30] + bins[other, 0, 0] + bins[other, 1, 8] + bins[other, 2, 12] + bins[other, 3, 18]).item<float>() / 8;
        var (memory, mask) = model.Core.Read(pixels.narrow(0, 1, 1), [[13]]);
        var written = model.Core.Write(tensor(new long[] { 13, 14 }, [1, 2]), memory, mask)[0].log_softmax(1);
        var captioning = -(written[0, 14] + written[1, 1]).item<float>() / 2;
        Assert.Equal((found + Classes(told.Classes, (one, other)) + places + captioning) / 2, model.Loss(pixels, examples).item<float>(), 1e-3);

        static double[] Center(ImageBox b) => [(b.Left + b.Right) / 64, (b.Top + b.Bottom) / 64, (b.Right - b.Left) / 32, (b.Bottom - b.Top) / 32];
    }

    [Fact]
    public void Queries_with_prompts_answers_and_orders_of_different_lengths_are_told_beside_each_other_as_each_alone()
    {
        using var scope = NewDisposeScope();
        using var model = VisionLlm();
        using var noGrad = no_grad();
        var images = model.Core.See(randn([3, 3, 32, 32], generator: new Generator(2)));
        VisionLlmQuery[] queries = [new(["cat"], 12) { Format = VisionLlmModel.HeldOutFormat }, new(["cat", "dog", "the red apple left of the dog"], 64), new(["dog", "cat"], 40) { Format = VisionLlmModel.Formats[1], Marks = [3, 1] }];
        int[][] prompts = [.. queries.Select(q => model.PromptOf(q, text))];
        var together = model.Tell(images, queries, prompts);
        for (var i = 0; i < 3; i++)
        {
            var (alone, c, b) = (model.Tell(images.narrow(0, i, 1), [queries[i]], [prompts[i]]), queries[i].Classes.Count, queries[i].Bins);
            Assert.True(together.Classes.narrow(0, i, 1).narrow(2, 0, c).allclose(alone.Classes.narrow(2, 0, c), 1e-4, 1e-4));
            Assert.True(together.Classes.narrow(0, i, 1).narrow(2, 3, 1).allclose(alone.Classes.narrow(2, c, 1), 1e-4, 1e-4));
            Assert.True(together.Places.narrow(0, i, 1).narrow(3, 0, b).allclose(alone.Places, 1e-4, 1e-4));
            Assert.True(together.Found[^1].Boxes.narrow(0, i, 1).allclose(alone.Found[^1].Boxes, 1e-4, 1e-4));
            Assert.True(together.Found[^1].Logits.narrow(0, i, 1).narrow(2, 0, c).allclose(alone.Found[^1].Logits.narrow(2, 0, c), 1e-4, 1e-4));
            Assert.Equal(c, together.Classes[i].softmax(1).narrow(1, 0, 3).gt(0).any(0).sum().item<long>());
            Assert.Equal(b, together.Places[i].flatten(0, 1).softmax(1).gt(0).any(0).sum().item<long>());
        }
    }

    [Fact]
    public void VisionLlm_learns_two_scenes_by_heart_and_tells_all_of_their_things_at_once_in_the_order_that_is_asked_for()
    {
        var scenes = new[] { Scenes.Generate(1), Scenes.Generate(3) };
        using var scope = NewDisposeScope();
        var pixels = Pixels(scenes);
        using var model = VisionLlm();
        (int Image, VisionLlmQuery Query)[] asked = [.. VisionLlmModel.Formats.SelectMany(format => scenes.Select((scene, i) => (i, new VisionLlmQuery([.. scene.Objects.Select(static o => o.Name).Distinct()], 64) { Format = format })))];
        Learn(model, pixels, 200, _ => [.. asked.Select(a => ((long)a.Image, model.ExampleOf(VisionLlmModel.Detection, a.Query, [.. scenes[a.Image].Objects.Select(o => (SceneWords.BoxOf(o), a.Query.Classes.ToList().IndexOf(o.Name)))], 32, 32, text)))]);
        foreach (var (i, query) in asked)
        {
            var found = model.Detect(pixels.narrow(0, i, 1), query, text, 32, 32)[0];
            Assert.Equal(4, found.Count);
            Assert.Equal(found.OrderByDescending(static d => d.Score), found);
            foreach (var o in scenes[i].Objects)
                Assert.Contains(found.Take(scenes[i].Objects.Count), d => d.Label == o.Name && Math.Abs(d.Left - o.Box.X) <= 2 && Math.Abs(d.Top - o.Box.Y) <= 2 && Math.Abs(d.Right - o.Box.Right) <= 2 && Math.Abs(d.Bottom - o.Box.Bottom) <= 2);
            Assert.Equal(scenes[i].Objects.Count, model.Detect(pixels.narrow(0, i, 1), query, text, 32, 32, 0.5)[0].Count);
        }
    }

    [Fact]
    public void Losses_and_answers_keep_no_tensor()
    {
        var scene = Scenes.Generate(1);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var scope = NewDisposeScope();
            var pixels = zeros(1, 3, 32, 32);
            foreach (var model in (ISequenceModel[])[Pix2Seq(["cat"]), UniTab(), UnifiedIo(), VisionLlm()])
            {
                using var disposed = (Module)model;
                foreach (var task in model.Tasks)
                {
                    var random = new SampleRandom(1, 1, 1);
                    if (model.Example(scene, Scenes.References(scene), task, text, ref random) is { } example)
                        using (var loss = model.Loss(pixels, [example])) Assert.True(loss.item<float>() > 0);
                }
                var live = LiveTensors.Settle();
                switch (model)
                {
                    case Pix2SeqModel m:
                        m.Detect(pixels, 32, 32, 0.4, new Generator(3));
                        m.Segment(pixels, (BoxPrompt)Prompt.Box(1, 1, 30, 30), "cat", 32, 32);
                        m.Caption(pixels, text, new() { Beams = 3, MaxTokens = 6 });
                        break;
                    case UniTabModel m:
                        m.Caption(pixels, text, 32, 32, new() { Beams = 2, MaxTokens = 6 });
                        m.Ground(pixels, "the cat", text, 32, 32, new() { MaxTokens = 6 });
                        break;
                    case UnifiedIoModel m:
                        m.Detect(pixels, text, 32, 32, new() { MaxTokens = 6 });
                        m.Ground(pixels, "cat", text, 32, 32);
                        m.Segment(pixels, "cat", text, 32, 32);
                        m.DepthOf(pixels, text).Dispose();
                        break;
                    case VisionLlmModel m:
                        m.Detect(pixels, new(["cat", "dog"], 20), text, 32, 32);
                        m.Caption(pixels, text, new() { MaxTokens = 6 });
                        break;
                }
                Assert.Equal(live, Tensor.TotalCount);
            }
        }
    }

    /// <summary>Without spaces, of which the tokenizer has its own opinion.</summary>
    static string Squeezed(string caption) => caption.Replace(" ", "", StringComparison.Ordinal).ToLowerInvariant();

    static Tensor Pixels(Scene[] scenes) => stack(scenes.Select(static s => s.Image.ToTensor(ScalarType.Float32))) * 2 - 1;

    /// <summary>Some steps of Adam on all tasks of the scenes, after which the loss is less than three quarters of what it was.</summary>
    void Learn<T>(T model, Scene[] scenes, Tensor pixels, int steps) where T : Module, ISequenceModel => Learn(model, pixels, steps, step =>
        [.. scenes.SelectMany((scene, i) => model.Tasks.Select(task =>
        {
            var random = new SampleRandom(11, step, i);
            return (Image: (long)i, Example: model.Example(scene, Scenes.References(scene), task, text, ref random)!);
        })).Where(static e => e.Example is not null)]);

    /// <summary>The same on given examples, each of an image.</summary>
    static void Learn<T>(T model, Tensor pixels, int steps, Func<int, (long Image, SequenceExample Example)[]> examplesOf) where T : Module, ISequenceModel
    {
        var (first, last) = (0f, 0f);
        using var optimizer = new Panoptes.Training.AdamW(Panoptes.Training.ParameterGroup.Of(model, 0));
        for (var step = 0; step < steps; step++)
        {
            // A collection between two calls would free numbers that libtorch still reads.
            if (step % 10 == 0) GC.Collect();
            GC.TryStartNoGCRegion(100 << 20);
            using var scope = NewDisposeScope();
            optimizer.ZeroGradients();
            var examples = examplesOf(step);
            var loss = model.Loss(pixels.index_select(0, tensor(examples.Select(static e => e.Image).ToArray())), [.. examples.Select(static e => e.Example)]);
            loss.backward();
            (first, last) = (step == 0 ? loss.item<float>() : first, loss.item<float>());
            optimizer.ClipGradients(1);
            optimizer.Step(3e-3 * Math.Min(1, (step + 1) / 10.0));
            if (System.Runtime.GCSettings.LatencyMode == System.Runtime.GCLatencyMode.NoGCRegion) GC.EndNoGCRegion();
        }
        model.RequiresGrad(false);
        Assert.True(last < 0.75 * first, $"{typeof(T).Name}: {first} to {last}");
    }

    static T Made<T>(string json, Func<ModelSource, T> build) where T : Module
    {
        var model = build(new(json, "test", static _ => null));
        model.Initialize(new Generator(17));
        return model;
    }

    const string Sizes = $"\"vision_config\":{Vision},\"hidden_size\":48,\"num_attention_heads\":2,\"intermediate_size\":96,\"encoder_layers\":1,\"decoder_layers\":2,\"max_sequence_tokens\":160,\"max_prompt_tokens\":80";

    Pix2SeqModel Pix2Seq(IEnumerable<string> classes, string more = "") => Made($$"""{{{more}}"classes":{{System.Text.Json.JsonSerializer.Serialize(classes)}},"coordinate_bins":64,"max_objects":6,"text_vocab_size":{{words}},{{Sizes}}}""",
        static s => new Pix2SeqModel(s.Read<Pix2SeqConfig>(), s));

    UniTabModel UniTab() => Made($$"""{"coordinate_bins":64,"text_vocab_size":{{words}},{{Sizes}}}""", static s => new UniTabModel(s.Read<UniTabConfig>(), s));

    UnifiedIoModel UnifiedIo() => Made($$"""{"location_bins":64,"text_vocab_size":{{words}},{{Sizes}},"vq_config":{"sample_size":16,"block_out_channels":[8,8,8],"down_block_types":["DownEncoderBlock2D","DownEncoderBlock2D","DownEncoderBlock2D"],"up_block_types":["UpDecoderBlock2D","UpDecoderBlock2D","UpDecoderBlock2D"],"norm_num_groups":4,"num_vq_embeddings":16,"latent_channels":4} }""",
        static s => new UnifiedIoModel(s.Read<UnifiedIoConfig>(), s));

    VisionLlmModel VisionLlm() => Made($$"""{"max_bins":64,"max_classes":4,"max_objects":4,"classes":["cat","dog"],"text_vocab_size":{{words}},{{Sizes}}}""", static s => new VisionLlmModel(s.Read<VisionLlmConfig>(), s));

    [Fact]
    public void What_recipes_train_to_write_sequences_is_loaded_with_what_stands_beside_them_and_keep_no_tensor()
    {
        var (unitab, pix2seq, visionLlm, unifiedIo) = (Path.Combine(folder, "unitab"), Path.Combine(folder, "pix2seq"), Path.Combine(folder, "vision-llm"), Path.Combine(folder, "unified-io"));
        TinyFolders.Trained(unitab, "UniTAB");
        TinyFolders.Trained(visionLlm, "VisionLLM");
        TinyFolders.Trained(unifiedIo, "UnifiedIO");
        TinyFolders.Trained(pix2seq, "Pix2SeqV2");
        var photo = new Image(40, 30, 3);
        new Random(1).NextBytes(photo.Pixels);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using (var model = Understanding.UniTab.Load(unitab))
            {
                model.Options = new() { MaxTokens = 20 };
                var caption = model.Describe(photo);
                Assert.All(caption.Phrases, p => Assert.Equal(p.Text, caption.Text[p.Start..p.End]));
                Assert.InRange(model.Ground(photo, "a cat").Count, 0, 1);
                Assert.NotNull(model.Answer(photo, "what is it?").Text);
                Assert.Contains("text prompt is empty", Assert.Throws<PanoptesException>(() => model.Ground(photo, " ")).Message, StringComparison.Ordinal);
            }
            using var boxes = Understanding.Pix2Seq.Load(pix2seq);
            Assert.Equal(boxes.Model.Config.MaxObjects, boxes.Detect(photo, 0).Count);
            Assert.NotNull(boxes.Caption(photo, new() { MaxTokens = 5 }).Text);
            using (var vision = Understanding.VisionLlm.Load(visionLlm))
            {
                Assert.All(vision.Detect(photo, new(["cat", "dog"], vision.Model.Config.MaxBins)), d => Assert.Contains(d.Label, (string[])["cat", "dog"]));
                Assert.NotNull(vision.Answer(photo, "what is it?").Text);
                Assert.NotNull(vision.Caption(photo, new() { MaxTokens = 5 }).Text);
                Assert.Contains("text prompt is empty", Assert.Throws<PanoptesException>(() => ((IGrounder)vision).Find(photo, [" "])).Message, StringComparison.Ordinal);
            }
            using (var unified = Understanding.UnifiedIo.Load(unifiedIo))
            {
                Assert.Equal((40, 30, 1), (unified.Depth(photo).Width, unified.Depth(photo).Height, unified.Depth(photo).Channels));
                Assert.All(unified.Segment(photo, [Prompt.Text("cat")]), static s => Assert.Equal((40, 30, "cat"), (s.Mask.Width, s.Mask.Height, s.Label)));
                Assert.NotNull(unified.Detect(photo));
                Assert.NotNull(unified.Answer(photo, "what is it?").Text);
                Assert.Contains("expected texts and nothing else", Assert.Throws<PanoptesException>(() => unified.Segment(photo, [Prompt.Point(3, 3)])).Message, StringComparison.Ordinal);
                Assert.Contains("text prompt is empty", Assert.Throws<PanoptesException>(() => unified.Segment(photo, [Prompt.Text(" ")])).Message, StringComparison.Ordinal);
            }
            Assert.Contains("expected a UniTAB", Assert.Throws<PanoptesException>(() => Understanding.UniTab.Load(pix2seq)).Message, StringComparison.Ordinal);
        }
    }
}
