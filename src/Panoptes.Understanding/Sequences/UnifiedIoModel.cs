using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>The config of Unified-IO (Lu et al. 2022, arXiv:2206.08916) as it is trained here ("unified_io"): text, places and an image tokenizer's codes in one vocabulary.</summary>
public sealed record UnifiedIoConfig : SequenceConfig
{
    /// <summary>How many ids the text tokenizer has.</summary>
    public int TextVocabSize { get; init; } = 32100;

    /// <summary>How many bins a place has.</summary>
    public int LocationBins { get; init; } = 1000;

    /// <summary>The image tokenizer, which is trained before; pictures that the model writes have its sample_size.</summary>
    public VqConfig VqConfig { get; init; } = new();
    public string ModelType { get; init; } = "unified_io";
    public string[] Architectures { get; init; } = ["UnifiedIO"];
}

/// <summary>
/// Unified-IO: whatever is asked in words about an image is answered by one sequence, of words, of places, or of the codes of a picture: depth as gray, segments as colors. Keys: those of
/// <see cref="SequenceCore"/>, and vq, the image tokenizer, which is not trained with it.
/// </summary>
public sealed class UnifiedIoModel : Module, ISequenceModel
{
    /// <summary>The names of the tasks.</summary>
    public const string Detection = "detection", Captioning = "captioning", Answering = "answering", Grounding = "grounding", Depth = "depth", Segmentation = "segmentation";

    /// <summary>Padding, the end, and what the writer begins with; texts follow, then places, then codes.</summary>
    public const int Padding = 0, EndId = 1, StartId = 2, FirstText = 3;

    /// <summary>Of the instances of a class from left to right; what is nearest to none of them, but to black, is none.</summary>
    static readonly (byte R, byte G, byte B)[] Colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 255), (255, 128, 0)];

    readonly UnifiedIoTokens places;

    /// <exception cref="PanoptesException">The image tokenizer does not fit, or there is no such image tower.</exception>
    public UnifiedIoModel(UnifiedIoConfig config, ModelSource source)
    {
        Config = config;
        if (config.LocationBins < 2) throw new PanoptesException($"location_bins is {config.LocationBins}; expected 2 or more.");
        places = new() { Count = config.LocationBins };
        Vq = new(config.VqConfig);
        Vq.RequiresGrad(false);
        if (config.VqConfig is not { InChannels: 3, OutChannels: 3 } || config.VqConfig.SampleSize % Vq.PixelsPerToken != 0)
            throw new PanoptesException($"vq_config has {config.VqConfig.InChannels} channels and a sample_size of {config.VqConfig.SampleSize}; expected 3 channels and a multiple of {Vq.PixelsPerToken}.");
        Core = new(config, source, FirstCode + config.VqConfig.NumVqEmbeddings, PromptPlace.Reader, (FirstPlace, config.LocationBins));
    }

    public UnifiedIoConfig Config { get; }

    [Key("")]
    public SequenceCore Core { get; }

    /// <summary>The image tokenizer.</summary>
    public VqModel Vq { get; }

    public int FirstPlace => FirstText + Config.TextVocabSize;

    public int FirstCode => FirstPlace + Config.LocationBins;

    public IReadOnlyList<string> Tasks { get; } = [Detection, Captioning, Answering, Grounding, Depth, Segmentation];

    internal int Side => Config.VqConfig.SampleSize;

    int CodesASide => Side / Vq.PixelsPerToken;

    /// <summary>Takes over the weights of an image tokenizer that was trained alone.</summary>
    /// <exception cref="PanoptesException">It has another shape.</exception>
    public void TakeTokenizer(VqModel trained)
    {
        using var noGrad = no_grad();
        var theirs = trained.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        var ours = Vq.NamedParameters().ToArray();
        foreach (var (key, own) in ours)
            if (!theirs.TryGetValue(key, out var other) || !other.Shape.AsSpan().SequenceEqual(own.Shape)) throw new PanoptesException($"The image tokenizer's {key} is not that of vq_config; expected one of the same config.");
        foreach (var (key, own) in ours) own.Assign(theirs[key].Value.detach().clone());
    }

    public SequenceExample? Example(Scene scene, IReadOnlyList<SceneReference> references, string task, Tokenizer text, ref SampleRandom random)
    {
        var size = scene.Size;
        switch (task)
        {
            case Detection:
                var objects = scene.Objects.ToArray();
                random.Shuffle(objects.AsSpan());
                return SequenceExample.Of(task, Words(DetectionPrompt), [.. objects.SelectMany(o => (int[])[.. Box(o), .. Words(o.Name)]), EndId]);
            case Captioning:
                return SequenceExample.Of(task, Words(CaptionPrompt), [.. Words(scene.Caption), EndId]);
            case Answering:
                if (scene.Questions.Count == 0) return null;
                var question = scene.Questions[random.Next(scene.Questions.Count)];
                return SequenceExample.Of(task, Words(question.Text), [.. Words(question.Answer), EndId]);
            case Grounding:
                if (SceneWords.Pick(references, 1, ref random) is not { } meant) return null;
                return SequenceExample.Of(task, Words(GroundingPrompt(meant.Text)), [.. Box(scene.Objects[meant.Objects[0]]), EndId]);
            case Depth:
                return new(task, Words(DepthPrompt), [], []) { Picture = DepthPicture(scene) };
            case Segmentation:
                if (scene.Objects.Count == 0) return null;
                var name = scene.Objects[random.Next(scene.Objects.Count)].Name;
                return new(task, Words(SegmentationPrompt(name)), [], []) { Picture = SegmentPicture(scene, name) };
            default:
                throw new PanoptesException($"The task {task} is unknown; expected {string.Join(", ", Tasks)}.");
        }

        int[] Words(string words) => Ids(text, words);

        int[] Box(SceneObject o) => [.. places.BinsOf(SceneWords.BoxOf(o), size, size).Select(b => FirstPlace + b)];
    }

    /// <summary>The depth of a scene in gray, farther being lighter, in the tokenizer's size.</summary>
    internal Image DepthPicture(Scene scene)
    {
        var picture = new Image(scene.Size, scene.Size, 1, [.. scene.Depth().Select(static d => (byte)Math.Round(255 * Math.Clamp(d, 0, 1)))]);
        return picture.Resize(Side, Side, ResizeFilter.Bilinear).ToRgb();
    }

    /// <summary>The instances of a class in a color each, from left to right.</summary>
    internal Image SegmentPicture(Scene scene, string name)
    {
        var picture = new Image(scene.Size, scene.Size, 3);
        int[] instances = [.. Enumerable.Range(0, scene.Objects.Count).Where(k => scene.Objects[k].Name == name).OrderBy(k => scene.Objects[k].Box.CenterX)];
        for (var i = 0; i < scene.Ids.Length; i++)
        {
            if (scene.Ids[i] == 0 || Array.IndexOf(instances, scene.Ids[i] - 1) is not (>= 0 and var which)) continue;
            (picture.Pixels[3 * i], picture.Pixels[3 * i + 1], picture.Pixels[3 * i + 2]) = Colors[which % Colors.Length];
        }
        return picture.Resize(Side, Side, ResizeFilter.Nearest);
    }

    public Tensor Loss(Tensor pixels, IReadOnlyList<SequenceExample> examples)
    {
        using var scope = NewDisposeScope();
        int[] pictures = [.. Enumerable.Range(0, examples.Count).Where(i => examples[i].Picture is not null)];
        if (pictures.Length > 0)
        {
            var codes = Vq.Tokenize(stack(pictures.Select(i => examples[i].Picture!.ToTensor(ScalarType.Float32))).to(pixels.device)).flatten(1);
            var (values, each) = (codes.cpu().data<long>().ToArray(), (int)codes.shape[1]);
            var told = examples.ToArray();
            foreach (var (i, n) in pictures.Select(static (i, n) => (i, n)))
                told[i] = SequenceExample.Of(told[i].Task, told[i].Prompt, [.. values.AsSpan(n * each, each).ToArray().Select(c => FirstCode + (int)c)]);
            examples = told;
        }
        return Core.Loss(pixels, examples, StartId).MoveToOuterDisposeScope();
    }

    /// <summary>The objects of every image with their names.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="width">Of the images that the boxes are for, in pixels.</param>
    /// <param name="height">Of these images.</param>
    /// <param name="options">How they are sought; null: greedily.</param>
    public IReadOnlyList<IReadOnlyList<Detection>> Detect(Tensor pixels, Tokenizer text, int width, int height, SequenceOptions? options = null) =>
        [.. Write(pixels, [DetectionPrompt], text, options ?? new() { MaxTokens = 120 }, code: false).Select(w => (IReadOnlyList<Detection>)[.. places.Objects(Text(w.Ids, text), width, height).Select(o => o.Box.Named(o.Name, Math.Exp(Math.Min(0, w.Score))))])];

    /// <summary>Where the thing is that an expression speaks of, in every image; null where no box was written.</summary>
    /// <inheritdoc cref="Detect"/>
    /// <exception cref="PanoptesException">The expression is empty.</exception>
    public IReadOnlyList<Detection?> Ground(Tensor pixels, string expression, Tokenizer text, int width, int height, SequenceOptions? options = null) => Ground(pixels, [expression], text, width, height, options);

    /// <summary>The same with an expression of its own for every image.</summary>
    /// <inheritdoc cref="Ground(Tensor, string, Tokenizer, int, int, SequenceOptions?)"/>
    /// <param name="expressions">One for all images, or one each.</param>
    public IReadOnlyList<Detection?> Ground(Tensor pixels, IReadOnlyList<string> expressions, Tokenizer text, int width, int height, SequenceOptions? options = null)
    {
        foreach (var expression in expressions) Prompt.Text(expression).Check(width, height);
        return [.. Write(pixels, [.. expressions.Select(GroundingPrompt)], text, options ?? new() { MaxTokens = 8 }, code: false)
            .Select((w, i) => places.Objects(Text(w.Ids, text), width, height) is [var first, ..] ? first.Box.Named(expressions[Math.Min(i, expressions.Count - 1)], Math.Exp(Math.Min(0, w.Score))) : null)];
    }

    /// <summary>A caption of every image.</summary>
    public IReadOnlyList<ImageCaption> Caption(Tensor pixels, Tokenizer text, SequenceOptions? options = null) => Say(pixels, [CaptionPrompt], text, options);

    /// <summary>The answer to a question about every image.</summary>
    /// <exception cref="PanoptesException">The question is empty.</exception>
    public IReadOnlyList<ImageCaption> Answer(Tensor pixels, string question, Tokenizer text, SequenceOptions? options = null) => Answer(pixels, [question], text, options);

    /// <summary>The same with a question of its own for every image.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="questions">One for all images, or one each.</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="options">How it is sought; null: greedily.</param>
    /// <exception cref="PanoptesException">A question is empty.</exception>
    public IReadOnlyList<ImageCaption> Answer(Tensor pixels, IReadOnlyList<string> questions, Tokenizer text, SequenceOptions? options = null) =>
        Say(pixels, questions.Any(string.IsNullOrWhiteSpace) ? throw new PanoptesException("The question is empty; expected words.") : questions, text, options);

    /// <summary>The depth of every image.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <returns>[b, side, side] from 0 (near) to 1 (far), in the tokenizer's size; the caller owns it.</returns>
    public Tensor DepthOf(Tensor pixels, Tokenizer text)
    {
        using var scope = NewDisposeScope();
        return Paint(pixels, [DepthPrompt], text).mean([1]).MoveToOuterDisposeScope();
    }

    /// <summary>The instances of a class in every image, each with its pixels.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="name">The class.</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="width">Of the images that the masks are for, in pixels.</param>
    /// <param name="height">Of these images.</param>
    /// <exception cref="PanoptesException">The name is empty.</exception>
    public IReadOnlyList<IReadOnlyList<Segment>> Segment(Tensor pixels, string name, Tokenizer text, int width, int height) => Segment(pixels, [name], text, width, height);

    /// <summary>The same with a class of its own for every image.</summary>
    /// <inheritdoc cref="Segment(Tensor, string, Tokenizer, int, int)"/>
    /// <param name="names">One for all images, or one each.</param>
    public IReadOnlyList<IReadOnlyList<Segment>> Segment(Tensor pixels, IReadOnlyList<string> names, Tokenizer text, int width, int height)
    {
        foreach (var name in names) Prompt.Text(name).Check(width, height);
        using var scope = NewDisposeScope();
        return Segments(Paint(pixels, [.. names.Select(SegmentationPrompt)], text), names, width, height);
    }

    /// <summary>The nearest color of every place, 0 being black: [b, side, side] int64.</summary>
    /// <param name="painted">[b, 3, side, side] from 0 to 1</param>
    internal static Tensor Nearest(Tensor painted)
    {
        using var scope = NewDisposeScope();
        var colors = tensor([0f, 0f, 0f, .. Colors.SelectMany(static c => new[] { c.R / 255f, c.G / 255f, c.B / 255f })], [Colors.Length + 1, 3], device: painted.device);
        return (painted.permute(0, 2, 3, 1).unsqueeze(-2) - colors).square().sum(-1).argmin(-1).MoveToOuterDisposeScope();
    }

    /// <summary>The pictures that the model paints of a class's instances: [b, 3, side, side] from 0 to 1.</summary>
    internal Tensor Painted(Tensor pixels, IReadOnlyList<string> names, Tokenizer text) => Paint(pixels, [.. names.Select(SegmentationPrompt)], text);

    static List<IReadOnlyList<Segment>> Segments(Tensor painted, IReadOnlyList<string> names, int width, int height)
    {
        using var scope = NewDisposeScope();
        var side = (int)painted.shape[2];
        var nearest = Nearest(painted);
        var found = new List<IReadOnlyList<Segment>>();
        for (var i = 0; i < nearest.shape[0]; i++)
        {
            var ids = nearest[i].to(ScalarType.Byte).cpu().data<byte>().ToArray();
            found.Add([.. Enumerable.Range(1, Colors.Length).Where(c => ids.AsSpan().Contains((byte)c)).Select(c =>
            {
                var mask = new Image(side, side, 1, [.. ids.Select(id => id == c ? byte.MaxValue : (byte)0)]).Resize(width, height, ResizeFilter.Nearest);
                return RunLengthMask.Encode(mask.Pixels, height, width);
            }).Where(static m => m.Area > 0).Select(m => new Segment(m, 1, names[Math.Min(i, names.Count - 1)]))]);
        }
        return found;
    }

    const string DetectionPrompt = "What objects are in the image?", CaptionPrompt = "What does the image describe?", DepthPrompt = "What is the depth map of the image?";

    static string GroundingPrompt(string words) => $"Which region does the text \"{words}\" describe?";

    static string SegmentationPrompt(string name) => $"What is the segmentation of \"{name}\"?";

    static int[] Ids(Tokenizer text, string words) => [.. text.Encode(words, addSpecialTokens: false).Select(static id => FirstText + id)];

    IReadOnlyList<ImageCaption> Say(Tensor pixels, IReadOnlyList<string> prompts, Tokenizer text, SequenceOptions? options) =>
        [.. Write(pixels, prompts, text, options ?? new() { MaxTokens = 40 }, code: false).Select(w => new ImageCaption(text.Decode([.. w.Ids.Where(id => id >= FirstText && id < FirstPlace).Select(static id => id - FirstText)]).Trim(), w.Score))];

    /// <summary>The picture that the codes of an answer make: [b, 3, side, side] from 0 to 1.</summary>
    Tensor Paint(Tensor pixels, IReadOnlyList<string> prompts, Tokenizer text)
    {
        var count = CodesASide * CodesASide;
        var written = Write(pixels, prompts, text, new() { MaxTokens = count }, code: true);
        var codes = tensor([.. written.SelectMany(w => w.Ids.Take(count)).Select(id => (long)(id - FirstCode))], [written.Count, CodesASide, CodesASide], device: pixels.device);
        return Vq.Picture(codes);
    }

    /// <summary>The places of ids as the token scheme writes them, the words between as the tokenizer does.</summary>
    string Text(int[] ids, Tokenizer text)
    {
        var (all, words) = (new List<string>(), new List<int>());
        foreach (var id in ids)
        {
            if (id >= FirstText && id < FirstPlace) words.Add(id - FirstText);
            else if (id >= FirstPlace && id < FirstCode)
            {
                Flush();
                all.Add(places.Token(id - FirstPlace));
            }
        }
        Flush();
        return string.Join(' ', all);

        void Flush()
        {
            if (words.Count > 0) all.Add(text.Decode([.. words]).Trim());
            words.Clear();
        }
    }

    IReadOnlyList<GeneratedCaption> Write(Tensor pixels, IReadOnlyList<string> prompts, Tokenizer text, SequenceOptions options, bool code)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        int[][] ids = [.. prompts.Select(p => Ids(text, p))];
        var (memory, mask) = Core.Read(pixels, ids.Length == 1 ? [.. Enumerable.Repeat(ids[0], (int)pixels.shape[0])] : ids);
        // A picture is codes alone and any other answer has none; neither has padding or the start.
        var allowed = full(Core.Vocabulary, code ? double.NegativeInfinity : 0, device: pixels.device);
        allowed.narrow(0, FirstCode, Core.Vocabulary - FirstCode).fill_(code ? 0 : double.NegativeInfinity);
        if (!code) (allowed[Padding], allowed[StartId]) = (double.NegativeInfinity, double.NegativeInfinity);
        return SequenceWriter.Search(Core, memory, mask, [[StartId]], EndId, options, allowed);
    }
}
