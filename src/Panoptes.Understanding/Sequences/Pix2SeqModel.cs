using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>
/// The config of Pix2Seq v2 (Chen et al. 2022, arXiv:2206.07669) as it is trained here ("pix2seq_v2"): special tokens, the classes, the coordinates and the text follow each other in one vocabulary.
/// </summary>
public sealed record Pix2SeqConfig : SequenceConfig
{
    /// <summary>The names of the classes, in the order of their tokens.</summary>
    public string[] Classes { get; init; } = [];

    /// <summary>How many bins a coordinate has.</summary>
    public int CoordinateBins { get; init; } = 1000;

    /// <summary>How many ids the text tokenizer has.</summary>
    public int TextVocabSize { get; init; } = 1;

    /// <summary>How many boxes a detection's sequence has, the noise included.</summary>
    public int MaxObjects { get; init; } = 10;

    /// <summary>The most corners of a polygon.</summary>
    public int MaxCorners { get; init; } = 16;
    public string ModelType { get; init; } = "pix2seq_v2";
    public string[] Architectures { get; init; } = ["Pix2SeqV2"];

    /// <summary>The vocabulary.</summary>
    internal Pix2SeqTokens Tokens => new Pix2SeqTokens
    {
        FirstClass = Pix2SeqTokens.Invisible + 1,
        FirstCoordinate = Pix2SeqTokens.Invisible + 1 + Math.Max(1, Classes.Length),
        Bins = CoordinateBins,
        FirstText = Pix2SeqTokens.Invisible + 1 + Math.Max(1, Classes.Length) + CoordinateBins
    }.Checked();
}

/// <summary>
/// Pix2Seq v2: detection, instance segmentation, keypoints and captioning from one model and one vocabulary. The task's token begins the writer's sequence; of a detection every sequence has as many boxes
/// as any can have, filled up with noise that the model learns to call so (Pix2Seq's sequence augmentation, Chen et al. 2021, arXiv:2109.10852, section 2.4), so that at inference the class of each
/// box has a score and nothing ends too early. Keys: those of <see cref="SequenceCore"/>.
/// </summary>
public sealed class Pix2SeqModel : Module, ISequenceModel
{
    /// <summary>The names of the tasks.</summary>
    public const string Detection = "detection", Segmentation = "instance_segmentation", Keypoints = "keypoint", Captioning = "captioning";

    readonly Dictionary<string, int> labels;
    readonly Pix2SeqTokens tokens;

    /// <exception cref="PanoptesException">The vocabulary cannot be, or there is no such image tower.</exception>
    public Pix2SeqModel(Pix2SeqConfig config, ModelSource source)
    {
        if (config.Classes.Length == 0) throw new PanoptesException("The config names no classes; expected at least one.");
        (Config, tokens) = (config, config.Tokens);
        labels = config.Classes.Select(static (name, i) => (name, i)).GroupBy(static c => c.name).ToDictionary(static g => g.Key, static g => g.First().i);
        Core = new(config, source, tokens.VocabularySize(config.TextVocabSize), PromptPlace.Writer, (tokens.FirstCoordinate, tokens.Bins));
    }

    public Pix2SeqConfig Config { get; }

    [Key("")]
    public SequenceCore Core { get; }

    public IReadOnlyList<string> Tasks { get; } = [Detection, Segmentation, Keypoints, Captioning];

    public SequenceExample? Example(Scene scene, IReadOnlyList<SceneReference> references, string task, Tokenizer text, ref SampleRandom random) => task switch
    {
        Detection => Objects(scene, ref random),
        Segmentation => Mask(scene, ref random),
        Keypoints => Points(scene, ref random),
        Captioning => SequenceExample.Of(task, [Pix2SeqTokens.Captioning], [.. tokens.OfText(text.Encode(scene.Caption, addSpecialTokens: false)), Pix2SeqTokens.Padding]),
        _ => throw new PanoptesException($"The task {task} is unknown; expected {string.Join(", ", Tasks)}."),
    };

    public Tensor Loss(Tensor pixels, IReadOnlyList<SequenceExample> examples) => Core.Loss(pixels, examples, Pix2SeqTokens.Start);

    /// <summary>The known objects in a random order, then noise: half of it known boxes shifted and stretched, half anywhere. The model reads a random class of noise and is to say that it is noise.</summary>
    SequenceExample Objects(Scene scene, ref SampleRandom random)
    {
        var (size, known) = (scene.Size, scene.Objects.Where(o => labels.ContainsKey(o.Name)).ToArray());
        random.Shuffle(known.AsSpan());
        var (target, read, weights) = (new List<int>(), new List<int>(), new List<float>());
        foreach (var o in known.Take(Config.MaxObjects))
        {
            var object_ = tokens.OfObject(SceneWords.BoxOf(o), labels[o.Name], size, size);
            target.AddRange(object_);
            read.AddRange(object_);
            weights.AddRange([1, 1, 1, 1, 1]);
        }
        for (var i = target.Count / 5; i < Config.MaxObjects; i++)
        {
            var box = tokens.OfBox(known.Length > 0 && random.Chance(0.5f) ? Jittered(SceneWords.BoxOf(known[random.Next(known.Length)]), size, ref random) : Anywhere(size, ref random), size, size);
            target.AddRange([.. box, Pix2SeqTokens.Noise]);
            read.AddRange([.. box, tokens.OfClass(random.Next(Config.Classes.Length))]);
            weights.AddRange([0, 0, 0, 0, 1]);                                                  // where noise lies is nothing to learn
        }
        return new(Detection, [Pix2SeqTokens.Detection], [.. target], [.. weights]) { Read = [.. read] };
    }

    static ImageBox Jittered(ImageBox box, int size, ref SampleRandom random)
    {
        var (width, height) = ((float)(box.Right - box.Left), (float)(box.Bottom - box.Top));
        var (x, y) = (random.Next(-0.5f, 0.5f) * width, random.Next(-0.5f, 0.5f) * height);
        var (wider, higher) = (random.Next(-0.25f, 0.25f) * width, random.Next(-0.25f, 0.25f) * height);
        return new ImageBox(box.Left + x - wider, box.Top + y - higher, box.Right + x + wider, box.Bottom + y + higher).Within(size, size);
    }

    static ImageBox Anywhere(int size, ref SampleRandom random)
    {
        var (width, height) = (random.Next(0.02f, 1f) * size, random.Next(0.02f, 1f) * size);
        var (left, top) = (random.Next(0, size - width), random.Next(0, size - height));
        return new(left, top, left + width, top + height);
    }

    SequenceExample? Mask(Scene scene, ref SampleRandom random)
    {
        if (Known(scene, ref random) is not { } k || MaskPolygons.Of(scene.Mask(k), Config.MaxCorners, mostParts: 2) is not { Count: > 0 } polygons) return null;
        return SequenceExample.Of(Segmentation, Prompt(Pix2SeqTokens.InstanceSegmentation, scene, k), [.. tokens.OfPolygons(polygons, scene.Size, scene.Size), Pix2SeqTokens.Padding]);
    }

    SequenceExample? Points(Scene scene, ref SampleRandom random)
    {
        if (Known(scene, ref random) is not { } k) return null;
        Keypoint[] points = [.. scene.Keypoints(k).Select(static p => new Keypoint(p.X, p.Y, p.Visible ? 2 : 0))];
        return SequenceExample.Of(Keypoints, Prompt(Pix2SeqTokens.KeypointDetection, scene, k), tokens.OfKeypoints(points, scene.Size, scene.Size));
    }

    int? Known(Scene scene, ref SampleRandom random)
    {
        int[] known = [.. Enumerable.Range(0, scene.Objects.Count).Where(k => labels.ContainsKey(scene.Objects[k].Name))];
        return known.Length == 0 ? null : known[random.Next(known.Length)];
    }

    int[] Prompt(int task, Scene scene, int k) => tokens.Prompt(task, SceneWords.BoxOf(scene.Objects[k]), labels[scene.Objects[k].Name], scene.Size, scene.Size);

    /// <summary>The objects of every image: as many boxes as a sequence has, each with its likeliest class and that class's probability as its score (what is likely noise has a low one), the surest first.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="width">Of the images that the boxes are for, in pixels.</param>
    /// <param name="height">Of these images.</param>
    /// <param name="nucleus">Tokens are drawn among the likeliest with this share of the probability (the paper: 0.4); 0: the likeliest is taken.</param>
    /// <param name="random">Draws; null: libtorch's own generator.</param>
    public IReadOnlyList<IReadOnlyList<Detection>> Detect(Tensor pixels, int width, int height, double nucleus = 0, Generator? random = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (memory, mask) = Core.Read(pixels, null);
        var (images, steps) = ((int)pixels.shape[0], 5 * Config.MaxObjects);
        using var writer = Core.Writer(memory, mask, steps);
        var (coordinates, classes) = (Only(tokens.FirstCoordinate, tokens.Bins, pixels.device), Only(tokens.FirstClass, Config.Classes.Length, pixels.device));
        classes[Pix2SeqTokens.Noise] = 0;
        var found = Enumerable.Range(0, images).Select(_ => new List<(int Label, float Score)>()).ToArray();
        var drawn = SequenceSearch.Draw(writer, full(images, 1, (long)Pix2SeqTokens.Detection, ScalarType.Int64, device: pixels.device), steps, (step, logits) =>
        {
            if (step % 5 < 4) return SequenceSearch.Nucleus(logits.add(coordinates), nucleus, 1, random);
            var (score, label) = logits.softmax(-1).narrow(1, tokens.FirstClass, Config.Classes.Length).max(1);
            var (scores, labels) = (score.cpu().data<float>().ToArray(), label.cpu().data<long>().ToArray());
            for (var i = 0; i < images; i++) found[i].Add(((int)labels[i], scores[i]));
            return SequenceSearch.Nucleus(logits.add(classes), nucleus, 1, random);
        });
        return [.. found.Select((list, i) => (IReadOnlyList<Detection>)[.. list.Select((f, k) => tokens.BoxAt(drawn[i], 5 * k, width, height)!.Value.Named(Config.Classes[f.Label], f.Score)).OrderByDescending(static d => d.Score)])];
    }

    /// <summary>The mask of the thing in a box of one image.</summary>
    /// <param name="pixels">[1, 3, height, width]</param>
    /// <param name="box">In pixels of the image.</param>
    /// <param name="name">Its class.</param>
    /// <param name="width">Of the image that the mask is for, in pixels.</param>
    /// <param name="height">Of that image.</param>
    /// <returns>Nothing where what the model writes is no polygon.</returns>
    /// <exception cref="PanoptesException">No such class, or the box is empty or outside.</exception>
    public Segment? Segment(Tensor pixels, BoxPrompt box, string name, int width, int height) => Segment(pixels, [(box, name)], width, height)[0];

    /// <summary>The masks of things in many images at once.</summary>
    /// <inheritdoc cref="Segment(Tensor, BoxPrompt, string, int, int)"/>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="things">A box and its class of every image.</param>
    public IReadOnlyList<Segment?> Segment(Tensor pixels, IReadOnlyList<(BoxPrompt Box, string Name)> things, int width, int height)
    {
        var written = Write(pixels, [.. things.Select(t => Prompt(Pix2SeqTokens.InstanceSegmentation, t.Box, t.Name, width, height))], new() { MaxTokens = 2 * (2 * Config.MaxCorners + 1) },
            t => tokens.IsCoordinate(t) || t is Pix2SeqTokens.Separator or Pix2SeqTokens.Padding);
        return [.. written.Zip(things, (w, thing) =>
        {
            IReadOnlyList<double>[] polygons = [.. tokens.Polygons(w.Ids, width, height).Select(static p => (IReadOnlyList<double>)[.. p.SelectMany(static q => new[] { q.X, q.Y })])];
            return polygons.Length == 0 ? null : new Segment(RunLengthMask.FromPolygons(polygons, height, width), (float)Math.Exp(Math.Min(0, w.Score)), thing.Name);
        })];
    }

    /// <summary>The points of the thing in a box of one image, in the order of training; one that is not seen has visibility 0.</summary>
    /// <inheritdoc cref="Segment(Tensor, BoxPrompt, string, int, int)"/>
    /// <param name="count">How many points a thing has.</param>
    public IReadOnlyList<Keypoint> PointsOf(Tensor pixels, BoxPrompt box, string name, int count, int width, int height) => PointsOf(pixels, [(box, name)], count, width, height)[0];

    /// <summary>The points of things in many images at once.</summary>
    /// <inheritdoc cref="Segment(Tensor, IReadOnlyList{ValueTuple{BoxPrompt, string}}, int, int)"/>
    /// <param name="count">How many points a thing has.</param>
    public IReadOnlyList<IReadOnlyList<Keypoint>> PointsOf(Tensor pixels, IReadOnlyList<(BoxPrompt Box, string Name)> things, int count, int width, int height)
    {
        var written = Write(pixels, [.. things.Select(t => Prompt(Pix2SeqTokens.KeypointDetection, t.Box, t.Name, width, height))], new() { MaxTokens = Math.Max(1, 2 * count) }, t => tokens.IsCoordinate(t) || t == Pix2SeqTokens.Invisible);
        return [.. written.Select(w => tokens.Keypoints(w.Ids, count, width, height))];
    }

    int[] Prompt(int task, BoxPrompt box, string name, int width, int height)
    {
        box.Check(width, height);
        if (!labels.TryGetValue(name, out var label)) throw new PanoptesException($"The class \"{name}\" is unknown; expected one of the {Config.Classes.Length} that the model was trained for.");
        return tokens.Prompt(task, new(box.Left, box.Top, box.Right, box.Bottom), label, width, height);
    }

    /// <summary>A caption of every image.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="options">How it is sought; null: greedily.</param>
    public IReadOnlyList<ImageCaption> Caption(Tensor pixels, Tokenizer text, SequenceOptions? options = null) =>
        [.. Write(pixels, [[Pix2SeqTokens.Captioning]], options ?? new() { MaxTokens = 40 }, t => t >= tokens.FirstText || t == Pix2SeqTokens.Padding).Select(w => new ImageCaption(text.Decode(tokens.Text(w.Ids)).Trim(), w.Score))];

    IReadOnlyList<GeneratedCaption> Write(Tensor pixels, int[][] prompts, SequenceOptions options, Func<int, bool> allowed)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (memory, mask) = Core.Read(pixels, null);
        var bias = tensor([.. Enumerable.Range(0, Core.Vocabulary).Select(t => allowed(t) ? 0f : float.NegativeInfinity)], device: pixels.device);
        return SequenceWriter.Search(Core, memory, mask, prompts, Pix2SeqTokens.Padding, options, bias);
    }

    /// <summary>0 for some of the tokens, negative infinity for all others: [vocabulary].</summary>
    Tensor Only(int first, int count, Device device)
    {
        var all = full(Core.Vocabulary, double.NegativeInfinity, device: device);
        all.narrow(0, first, count).zero_();
        return all;
    }
}
