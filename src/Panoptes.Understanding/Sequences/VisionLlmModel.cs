using System.Globalization;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>A part of what is to be told of an object.</summary>
public enum VisionLlmField
{
    /// <summary>The class, by the mark that the prompt gave it.</summary>
    Class,
    Left,
    Top,
    Right,
    Bottom,
}

/// <summary>A detection as a user describes it: what to look for, under what names, and how the answer is written.</summary>
/// <param name="Classes">The names, or whole expressions ("the cat left of the apple"); the first is marked &lt;c0&gt; in the prompt, the next &lt;c1&gt;, … after its name.</param>
/// <param name="Bins">How finely places are told.</param>
public sealed record VisionLlmQuery(IReadOnlyList<string> Classes, int Bins)
{
    /// <summary>The order in which an object's five parts are told.</summary>
    public IReadOnlyList<VisionLlmField> Format { get; init; } = [VisionLlmField.Class, VisionLlmField.Left, VisionLlmField.Top, VisionLlmField.Right, VisionLlmField.Bottom];
}

/// <summary>The config of VisionLLM (Wang et al. 2023, arXiv:2305.11175) as it is trained here ("vision_llm"): text, the marks of classes, and the places.</summary>
public sealed record VisionLlmConfig : SequenceConfig
{
    /// <summary>How many ids the text tokenizer has.</summary>
    public int TextVocabSize { get; init; } = 32000;

    /// <summary>The most classes of a prompt.</summary>
    public int MaxClasses { get; init; } = 16;

    /// <summary>The most bins of a place.</summary>
    public int MaxBins { get; init; } = 512;

    /// <summary>The most objects of an answer: so many times the format is asked for.</summary>
    public int MaxObjects { get; init; } = 10;

    /// <summary>The names that training draws classes from that are not there.</summary>
    public string[] Classes { get; init; } = [];
    public string ModelType { get; init; } = "vision_llm";
    public string[] Architectures { get; init; } = ["VisionLLM"];
}

/// <summary>
/// VisionLLM: a task is described in words, classes and their marks, the number of bins and the order of the answer included, and a language-model decoder answers so. The words guide what is read of
/// the image, too, and the decoder goes on from them. Objects are told all at once: the format's fields, once for every object that there may be, are fed to the decoder as queries, of which each is
/// answered where it stands (the paper's section 3.4), and training matches what they say with what is there, one to one. In training classes, marks, bins and order change from one example to the
/// next, so that they mean what the prompt says and nothing else. Words are written one after the other. Keys: those of <see cref="SequenceCore"/>.
/// </summary>
public sealed class VisionLlmModel : Module, ISequenceModel
{
    /// <summary>The names of the tasks.</summary>
    public const string Detection = "detection", Grounding = "grounding", Captioning = "captioning", Answering = "answering";

    /// <summary>Padding and the end, which as a class says that there is no object; texts follow, then the marks of classes, the places, and the fields that queries ask for.</summary>
    public const int Padding = 0, EndId = 1, FirstText = 2;

    const string CaptionPrompt = "describe the image in words.";

    /// <summary>The most names of what is not there in a prompt of training, and with them the most names of all that it draws where scenes have three things.</summary>
    const int Absent = 3;

    /// <summary>A list of names as long as training has it at most where scenes have up to three things.</summary>
    internal const int MostDrawn = 3 + Absent;

    /// <summary>The orders that training draws.</summary>
    internal static IReadOnlyList<VisionLlmField>[] Formats { get; } =
    [
        [VisionLlmField.Class, VisionLlmField.Left, VisionLlmField.Top, VisionLlmField.Right, VisionLlmField.Bottom],
        [VisionLlmField.Class, VisionLlmField.Top, VisionLlmField.Left, VisionLlmField.Bottom, VisionLlmField.Right],
        [VisionLlmField.Left, VisionLlmField.Top, VisionLlmField.Right, VisionLlmField.Bottom, VisionLlmField.Class],
    ];

    /// <summary>The order that training leaves out, though it has both of its parts: y before x, and the class last.</summary>
    internal static IReadOnlyList<VisionLlmField> HeldOutFormat { get; } = [VisionLlmField.Top, VisionLlmField.Left, VisionLlmField.Bottom, VisionLlmField.Right, VisionLlmField.Class];

    /// <summary>What a wrong place costs in matching beside a wrong class, as in DETR.</summary>
    const double PlaceCost = 5;

    static readonly int Fields = Enum.GetValues<VisionLlmField>().Length;

    static readonly string[] FieldNames = ["class", "x1", "y1", "x2", "y2"];

    /// <exception cref="PanoptesException">There is no such image tower.</exception>
    public VisionLlmModel(VisionLlmConfig config, ModelSource source)
    {
        Config = config;
        if (config.MaxBins < 2 || config.MaxObjects < 1) throw new PanoptesException($"max_bins is {config.MaxBins} and max_objects {config.MaxObjects}; expected 2 and 1 or more.");
        Core = new(config, source, FirstQuery + Fields, PromptPlace.Reader | PromptPlace.Writer, (FirstPlace, config.MaxBins), config.MaxObjects);
    }

    public VisionLlmConfig Config { get; }

    [Key("")]
    public SequenceCore Core { get; }

    public int FirstClass => FirstText + Config.TextVocabSize;

    public int FirstPlace => FirstClass + Config.MaxClasses;

    public int FirstQuery => FirstPlace + Config.MaxBins;

    public IReadOnlyList<string> Tasks { get; } = [Detection, Grounding, Captioning, Answering];

    /// <summary>The words of a query with the marks of its classes and bins: "find objects of cat &lt;c0&gt; dog &lt;c1&gt;. tell (class, x1, y1, x2, y2) with places &lt;p0&gt; to &lt;p63&gt;."</summary>
    /// <exception cref="PanoptesException">No class or too many, too few or too many bins, or an order that does not name every part once.</exception>
    public int[] PromptOf(VisionLlmQuery query, Tokenizer text)
    {
        if (query.Classes.Count < 1 || query.Classes.Count > Config.MaxClasses || query.Classes.Any(string.IsNullOrWhiteSpace))
            throw new PanoptesException($"{query.Classes.Count} classes were given, {query.Classes.Count(string.IsNullOrWhiteSpace)} of them without a name; expected 1 to {Config.MaxClasses} with names.");
        if (query.Bins < 2 || query.Bins > Config.MaxBins) throw new PanoptesException($"{query.Bins} bins were given; expected 2 to {Config.MaxBins}.");
        if (!query.Format.Order().SequenceEqual(Enum.GetValues<VisionLlmField>())) throw new PanoptesException($"The answer's order is {string.Join(", ", query.Format)}; expected every one of {string.Join(", ", Enum.GetValues<VisionLlmField>())} once.");
        var prompt = new List<int>(Words(text, "find objects of"));
        for (var i = 0; i < query.Classes.Count; i++)
        {
            // The mark comes after its name, so that where it stands the writer has read what it means.
            prompt.AddRange(Words(text, query.Classes[i]));
            prompt.Add(FirstClass + i);
        }
        prompt.AddRange(Words(text, string.Create(CultureInfo.InvariantCulture, $". tell ({string.Join(", ", query.Format.Select(static f => FieldNames[(int)f]))}) with places")));
        prompt.AddRange([FirstPlace, .. Words(text, "to"), FirstPlace + query.Bins - 1]);
        return [.. prompt];
    }

    /// <summary>What asks for the answer: the format's fields, for every object that there may be.</summary>
    public int[] QueriesOf(VisionLlmQuery query) => [.. Enumerable.Range(0, Config.MaxObjects).SelectMany(_ => query.Format.Select(f => FirstQuery + (int)f))];

    /// <summary>Objects as the query wants them told; after them, up to as many as there may be, no object.</summary>
    /// <param name="objects">Boxes, in pixels, and positions in the query's classes.</param>
    /// <exception cref="PanoptesException">More objects than the model tells.</exception>
    public int[] AnswerOf(VisionLlmQuery query, IReadOnlyList<(ImageBox Box, int Label)> objects, int width, int height)
    {
        Bins.Check(width, height);
        if (objects.Count > Config.MaxObjects) throw new PanoptesException($"{objects.Count} objects are to be told; the model tells at most {Config.MaxObjects}.");
        var answer = new List<int>();
        foreach (var (box, label) in objects)
            foreach (var field in query.Format)
                answer.Add(field switch
                {
                    VisionLlmField.Class => FirstClass + label,
                    VisionLlmField.Left => Place(box.Left / width),
                    VisionLlmField.Top => Place(box.Top / height),
                    VisionLlmField.Right => Place(box.Right / width),
                    _ => Place(box.Bottom / height),
                });
        for (var k = objects.Count; k < Config.MaxObjects; k++)
            foreach (var field in query.Format) answer.Add(field == VisionLlmField.Class ? EndId : Padding);
        return [.. answer];

        int Place(double share) => FirstPlace + (int)Math.Round(Math.Clamp(Bins.Finite(share), 0, 1) * (query.Bins - 1));
    }

    /// <summary>What queries say of the fields, apart from one another: how likely each class is, no object being the last, [objects, classes + 1]; and how likely each place, [objects, fields, bins], where the class's row says nothing.</summary>
    /// <param name="logits">[objects · fields, vocabulary], in the query's order.</param>
    (Tensor Classes, Tensor Places) Read(VisionLlmQuery query, Tensor logits)
    {
        using var scope = NewDisposeScope();
        var told = logits.to(ScalarType.Float32).view(Config.MaxObjects, Fields, -1);
        // Where each field stands: the order turned around.
        var order = tensor(Enumerable.Range(0, Fields).OrderBy(i => query.Format[i]).Select(static i => (long)i).ToArray(), device: logits.device);
        told = told.index_select(1, order);
        var classes = cat([told.select(1, 0).narrow(1, FirstClass, query.Classes.Count), told.select(1, 0).narrow(1, EndId, 1)], 1).softmax(1);
        return (classes.cpu().MoveToOuterDisposeScope(), told.narrow(2, FirstPlace, query.Bins).softmax(2).cpu().MoveToOuterDisposeScope());
    }

    /// <summary>Who tells which object: the pairs in which classes are likeliest and places, as they are expected, nearest. Objects come first, then none.</summary>
    int[] Match(VisionLlmQuery query, IReadOnlyList<(ImageBox Box, int Label)> objects, int width, int height, Tensor logits)
    {
        using var scope = NewDisposeScope();
        using var exact = Autocast.To(ScalarType.Float32);
        var (classes, places) = Read(query, logits);
        var likely = classes.data<float>().ToArray();
        var expected = places.matmul(linspace(0, 1, query.Bins)).data<float>().ToArray();
        var cost = new double[Config.MaxObjects * objects.Count];
        for (var k = 0; k < Config.MaxObjects; k++)
        {
            for (var o = 0; o < objects.Count; o++)
            {
                var (box, label) = objects[o];
                var at = expected.AsSpan(k * Fields, Fields);
                var apart = Math.Abs(at[1] - (box.Left / width)) + Math.Abs(at[2] - (box.Top / height)) + Math.Abs(at[3] - (box.Right / width)) + Math.Abs(at[4] - (box.Bottom / height));
                cost[(k * objects.Count) + o] = (PlaceCost * apart) - likely[(k * (query.Classes.Count + 1)) + label];
            }
        }
        var order = Enumerable.Repeat(-1, Config.MaxObjects).ToArray();
        if (objects.Count > 0)
        {
            var pairs = HungarianMatching.Assign(cost, Config.MaxObjects, objects.Count);
            foreach (var (k, o) in pairs.Rows.Zip(pairs.Columns)) order[k] = o;
        }
        var none = objects.Count;
        for (var k = 0; k < order.Length; k++)
            if (order[k] < 0) order[k] = none++;
        return order;
    }

    public SequenceExample? Example(Scene scene, IReadOnlyList<SceneReference> references, string task, Tokenizer text, ref SampleRandom random)
    {
        switch (task)
        {
            case Detection:
                var present = scene.Objects.Select(static o => o.Name).Distinct().Take(Config.MaxClasses).ToArray();
                if (present.Length == 0) return null;
                // Some of what is there, and something that is not.
                random.Shuffle(present.AsSpan());
                var classes = present.Take(1 + random.Next(present.Length)).ToList();
                for (var i = 0; i < Absent && classes.Count < Config.MaxClasses && Config.Classes.Length > 0; i++)
                    if (Config.Classes[random.Next(Config.Classes.Length)] is var other && !classes.Contains(other) && !present.Contains(other)) classes.Add(other);
                var order = classes.ToArray();
                random.Shuffle(order.AsSpan());
                return Told(task, Draw(order, ref random), [.. scene.Objects.Where(o => Array.IndexOf(order, o.Name) >= 0).OrderByDescending(static o => o.Box.Area).Take(Config.MaxObjects).Select(o => (SceneWords.BoxOf(o), Array.IndexOf(order, o.Name)))]);
            case Grounding:
                if (SceneWords.Pick(references, Config.MaxObjects, ref random) is not { } meant) return null;
                return Told(task, Draw([meant.Text], ref random), [.. meant.Objects.OrderByDescending(k => scene.Objects[k].Box.Area).Select(k => (SceneWords.BoxOf(scene.Objects[k]), 0))]);
            case Captioning:
                return SequenceExample.Of(task, Words(text, CaptionPrompt), [.. Words(text, scene.Caption), EndId]);
            case Answering:
                if (scene.Questions.Count == 0) return null;
                var question = scene.Questions[random.Next(scene.Questions.Count)];
                return SequenceExample.Of(task, Words(text, question.Text), [.. Words(text, question.Answer), EndId]);
            default:
                throw new PanoptesException($"The task {task} is unknown; expected {string.Join(", ", Tasks)}.");
        }

        SequenceExample Told(string task, VisionLlmQuery query, (ImageBox, int)[] objects) => ExampleOf(task, query, objects, scene.Size, scene.Size, text);
    }

    /// <summary>A query with what is to be answered.</summary>
    internal SequenceExample ExampleOf(string task, VisionLlmQuery query, IReadOnlyList<(ImageBox Box, int Label)> objects, int width, int height, Tokenizer text)
    {
        var answer = AnswerOf(query, objects, width, height);
        // Of what is not there, nothing but that is told.
        return new(task, PromptOf(query, text), answer, [.. answer.Select(static t => t == Padding ? 0f : 1)]) { Queries = QueriesOf(query), Parts = Config.MaxObjects, Match = logits => Match(query, objects, width, height, logits) };
    }

    /// <summary>A number of bins that training leaves out.</summary>
    internal int HeldOutBins => Math.Max(2, Config.MaxBins * 5 / 8);

    /// <summary>Bins and an order, both of which change.</summary>
    VisionLlmQuery Draw(string[] classes, ref SampleRandom random)
    {
        var bins = random.Chance(0.5f) ? Config.MaxBins : Math.Max(2, Config.MaxBins / 4 + random.Next(Config.MaxBins - Config.MaxBins / 4 + 1));
        if (bins == HeldOutBins) bins = Config.MaxBins;
        return new(classes, bins) { Format = Formats[random.Next(Formats.Length)] };
    }

    public Tensor Loss(Tensor pixels, IReadOnlyList<SequenceExample> examples) => Core.Loss(pixels, examples, EndId);

    /// <summary>What a query asks for, in every image, the surest first; the score is the probability of the class, beside the others of the query and that there is no object.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="query">The names, bins and order.</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="width">Of the images that the boxes are for, in pixels.</param>
    /// <param name="height">Of these images.</param>
    /// <param name="threshold">The score that must be exceeded; 0: as many boxes as the model tells, however unlikely.</param>
    /// <exception cref="PanoptesException">A query that cannot be, or that is too long.</exception>
    public IReadOnlyList<IReadOnlyList<Detection>> Detect(Tensor pixels, VisionLlmQuery query, Tokenizer text, int width, int height, double threshold = 0) => Detect(pixels, [query], text, width, height, threshold);

    /// <summary>The same with a query of its own for every image.</summary>
    /// <param name="queries">One for all images, or one each.</param>
    IReadOnlyList<IReadOnlyList<Detection>> Detect(Tensor pixels, IReadOnlyList<VisionLlmQuery> queries, Tokenizer text, int width, int height, double threshold)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        VisionLlmQuery[] asked = queries.Count == 1 ? [.. Enumerable.Repeat(queries[0], (int)pixels.shape[0])] : [.. queries];
        int[][] prompts = [.. asked.Select(q => PromptOf(q, text))];
        var each = Fields * Config.MaxObjects;
        var logits = Core.Answer(pixels, prompts, [.. asked.Select(QueriesOf)], Config.MaxObjects);
        return [.. asked.Select((query, i) =>
        {
            using var inner = NewDisposeScope();
            var (classes, places) = Read(query, logits.narrow(0, (long)i * each, each));
            var (sure, label) = classes.narrow(1, 0, query.Classes.Count).max(1);
            var (scores, labels, at) = (sure.data<float>().ToArray(), label.data<long>().ToArray(), places.argmax(2).data<long>().ToArray());
            return (IReadOnlyList<Detection>)[.. Enumerable.Range(0, Config.MaxObjects).Where(k => scores[k] > threshold).OrderByDescending(k => scores[k]).Select(k =>
            {
                double Share(VisionLlmField field) => (double)at[(k * Fields) + (int)field] / (query.Bins - 1);
                return new ImageBox(Share(VisionLlmField.Left), Share(VisionLlmField.Top), Share(VisionLlmField.Right), Share(VisionLlmField.Bottom)).Ordered().Scaled(width, height).Named(query.Classes[(int)labels[k]], scores[k]);
            })];
        })];
    }

    /// <summary>What an expression of every image means there, the surest first.</summary>
    /// <inheritdoc cref="Detect(Tensor, VisionLlmQuery, Tokenizer, int, int, double)"/>
    /// <param name="expressions">One an image.</param>
    /// <param name="bins">How finely places are told.</param>
    public IReadOnlyList<IReadOnlyList<Detection>> Ground(Tensor pixels, IReadOnlyList<string> expressions, int bins, Tokenizer text, int width, int height, double threshold = 0)
    {
        if (expressions.Count != pixels.shape[0]) throw new PanoptesException($"{expressions.Count} expressions go with {pixels.shape[0]} images; expected one an image.");
        return Detect(pixels, [.. expressions.Select(e => new VisionLlmQuery([e], bins))], text, width, height, threshold);
    }

    /// <summary>A caption of every image.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="options">How it is sought; null: greedily.</param>
    public IReadOnlyList<ImageCaption> Caption(Tensor pixels, Tokenizer text, SequenceOptions? options = null) => Say(pixels, CaptionPrompt, text, options);

    /// <summary>The answer to a question about every image, or to any task that is answered in words.</summary>
    /// <exception cref="PanoptesException">The question is empty or too long.</exception>
    public IReadOnlyList<ImageCaption> Answer(Tensor pixels, string question, Tokenizer text, SequenceOptions? options = null) =>
        Say(pixels, string.IsNullOrWhiteSpace(question) ? throw new PanoptesException("The question is empty; expected words.") : question, text, options);

    IReadOnlyList<ImageCaption> Say(Tensor pixels, string prompt, Tokenizer text, SequenceOptions? options)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var ids = Words(text, prompt);
        var (memory, mask) = Core.Read(pixels, [.. Enumerable.Repeat(ids, (int)pixels.shape[0])]);
        var allowed = Only(FirstText, Config.TextVocabSize, pixels.device);
        allowed[EndId] = 0;
        return [.. SequenceWriter.Search(Core, memory, mask, [ids], EndId, options ?? new() { MaxTokens = 40 }, allowed).Select(w => new ImageCaption(text.Decode([.. w.Ids.Select(static id => id - FirstText)]).Trim(), w.Score))];
    }

    static int[] Words(Tokenizer text, string words) => [.. text.Encode(words, addSpecialTokens: false).Select(static id => FirstText + id)];

    /// <summary>0 for some of the tokens, negative infinity for all others: [vocabulary].</summary>
    Tensor Only(int first, int count, Device device)
    {
        var all = full(Core.Vocabulary, double.NegativeInfinity, device: device);
        all.narrow(0, first, count).zero_();
        return all;
    }
}
