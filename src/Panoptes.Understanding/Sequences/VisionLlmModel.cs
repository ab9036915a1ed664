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
/// <param name="Classes">The names, or whole expressions ("the cat left of the apple"), each with its mark after it.</param>
/// <param name="Bins">How finely places are told.</param>
public sealed record VisionLlmQuery(IReadOnlyList<string> Classes, int Bins)
{
    /// <summary>The marks of the classes, by which answers tell them: 0 for &lt;c0&gt;, …; null: in their order, from 0 on. Which they are means nothing.</summary>
    public IReadOnlyList<int>? Marks { get; init; }

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

    /// <summary>How many blocks the image tokenizer finds objects with.</summary>
    public int ObjectLayers { get; init; } = 2;

    /// <summary>The names that training draws classes from that are not there.</summary>
    public string[] Classes { get; init; } = [];
    public string ModelType { get; init; } = "vision_llm";
    public string[] Architectures { get; init; } = ["VisionLLM"];
}

/// <summary>
/// VisionLLM: a task is described in words, classes and their marks, the number of bins and the order of the answer included, and a language-model decoder answers so. The image tokenizer is guided by
/// the words: what is read of the image with them is asked by DETR's queries, each of which finds an object and tells which of the names it goes with (the paper's section 3.3). Objects are told all at once: the format's fields, once for every
/// object that was found, are fed to the decoder as queries, with the object's features, its marks and its places in the prompt's bins, and each is answered where it stands (section 3.4). Training matches objects
/// and what there is one to one. In training classes, marks, bins and order change from one example to the next, so that they mean what the prompt says and nothing else. Words are written one after the
/// other. Keys: those of <see cref="SequenceCore"/>; object_queries, object_decoder, object_boxes, object_names, object_projection.
/// </summary>
public sealed class VisionLlmModel : Module, ISequenceModel
{
    /// <summary>The names of the tasks.</summary>
    public const string Detection = "detection", Grounding = "grounding", Captioning = "captioning", Answering = "answering";

    /// <summary>The end, which as a class says that there is no object, behind padding; texts follow, then the marks of classes, the places, and the fields of a format.</summary>
    public const int EndId = 1, FirstText = 2;

    const string CaptionPrompt = "describe the image in words.";

    /// <summary>The most names of what is not there in a prompt of training.</summary>
    const int Absent = 1;

    /// <summary>A list of names as long as training has it at most where scenes have up to two things.</summary>
    internal const int MostDrawn = 2 + Absent;

    /// <summary>The orders that training draws.</summary>
    internal static IReadOnlyList<VisionLlmField>[] Formats { get; } =
    [
        [VisionLlmField.Class, VisionLlmField.Left, VisionLlmField.Top, VisionLlmField.Right, VisionLlmField.Bottom],
        [VisionLlmField.Class, VisionLlmField.Top, VisionLlmField.Left, VisionLlmField.Bottom, VisionLlmField.Right],
        [VisionLlmField.Left, VisionLlmField.Top, VisionLlmField.Right, VisionLlmField.Bottom, VisionLlmField.Class],
    ];

    /// <summary>The order that training leaves out, though it has both of its parts: y before x, and the class last.</summary>
    internal static IReadOnlyList<VisionLlmField> HeldOutFormat { get; } = [VisionLlmField.Top, VisionLlmField.Left, VisionLlmField.Bottom, VisionLlmField.Right, VisionLlmField.Class];

    static readonly int Fields = Enum.GetValues<VisionLlmField>().Length;

    /// <exception cref="PanoptesException">There is no such image tower.</exception>
    public VisionLlmModel(VisionLlmConfig config, ModelSource source)
    {
        Config = config;
        if (config.MaxBins < 2 || config.MaxObjects < 1 || config.ObjectLayers < 1)
            throw new PanoptesException($"max_bins is {config.MaxBins}, max_objects {config.MaxObjects} and object_layers {config.ObjectLayers}; expected 2, 1 and 1 or more.");
        Core = new(config, source, FirstQuery + Fields, PromptPlace.Reader | PromptPlace.Writer, (FirstPlace, config.MaxBins));
        var width = config.HiddenSize;
        ObjectQueries = new(config.MaxObjects, width);
        ObjectDecoder = new(new() { DModel = width, DecoderLayers = config.ObjectLayers, DecoderAttentionHeads = config.NumAttentionHeads, DecoderFfnDim = config.IntermediateSize });
        ObjectBoxes = new(width, width, 4, 3);
        ObjectNames = new(width, width + 1);
        // Small beside the tokens that it is added to: from the first step on what the tokenizer has found is what the writer is likeliest to tell.
        ObjectProjection = new(width, width, initializer: Init.Normal(config.InitializerRange / Math.Sqrt(width)));
    }

    public VisionLlmConfig Config { get; }

    [Key("")]
    public SequenceCore Core { get; }

    /// <summary>What the image tokenizer looks for objects with, a row for each that there may be.</summary>
    public Embedding ObjectQueries { get; }

    public DetrDecoder ObjectDecoder { get; }

    public MlpHead ObjectBoxes { get; }

    /// <summary>From an object's features to what its name's words are read as, and how likely it is that there is none.</summary>
    public Linear ObjectNames { get; }

    /// <summary>From an object's features to what enters the writer.</summary>
    public Linear ObjectProjection { get; }

    public int FirstClass => FirstText + Config.TextVocabSize;

    public int FirstPlace => FirstClass + Config.MaxClasses;

    public int FirstQuery => FirstPlace + Config.MaxBins;

    public IReadOnlyList<string> Tasks { get; } = [Detection, Grounding, Captioning, Answering];

    /// <summary>The words of a query with the marks of its classes and bins: "cat &lt;c0&gt; dog &lt;c1&gt; are to be found. tell &lt;class&gt; &lt;x1&gt; &lt;y1&gt; &lt;x2&gt; &lt;y2&gt; with places &lt;p0&gt; to &lt;p63&gt;".</summary>
    /// <exception cref="PanoptesException">No class or too many, marks that are not one each, too few or too many bins, or an order that does not name every part once.</exception>
    public int[] PromptOf(VisionLlmQuery query, Tokenizer text)
    {
        if (query.Classes.Count < 1 || query.Classes.Count > Config.MaxClasses || query.Classes.Any(string.IsNullOrWhiteSpace))
            throw new PanoptesException($"{query.Classes.Count} classes were given, {query.Classes.Count(string.IsNullOrWhiteSpace)} of them without a name; expected 1 to {Config.MaxClasses} with names.");
        if (query.Marks is { } marks && (marks.Count != query.Classes.Count || marks.Distinct().Count() != marks.Count || marks.Any(m => m < 0 || m >= Config.MaxClasses)))
            throw new PanoptesException($"The classes' marks are {string.Join(", ", marks)}; expected {query.Classes.Count} different ones from 0 to {Config.MaxClasses - 1}.");
        if (query.Bins < 2 || query.Bins > Config.MaxBins) throw new PanoptesException($"{query.Bins} bins were given; expected 2 to {Config.MaxBins}.");
        if (!query.Format.Order().SequenceEqual(Enum.GetValues<VisionLlmField>())) throw new PanoptesException($"The answer's order is {string.Join(", ", query.Format)}; expected every one of {string.Join(", ", Enum.GetValues<VisionLlmField>())} once.");
        var prompt = new List<int>();
        for (var i = 0; i < query.Classes.Count; i++)
        {
            // The mark comes after its name, so that where it stands the writer has read what it means.
            prompt.AddRange(Words(text, query.Classes[i]));
            prompt.Add(Mark(query, i));
        }
        prompt.AddRange(Words(text, "are to be found. tell"));
        prompt.AddRange(query.Format.Select(f => FirstQuery + (int)f));
        prompt.AddRange([.. Words(text, "with places"), FirstPlace, .. Words(text, "to"), FirstPlace + query.Bins - 1]);
        return [.. prompt];
    }

    int Mark(VisionLlmQuery query, int label) => FirstClass + (query.Marks?[label] ?? label);

    /// <summary>Objects as the query wants them told.</summary>
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
                    VisionLlmField.Class => Mark(query, label),
                    VisionLlmField.Left => Place(box.Left / width),
                    VisionLlmField.Top => Place(box.Top / height),
                    VisionLlmField.Right => Place(box.Right / width),
                    _ => Place(box.Bottom / height),
                });
        return [.. answer];

        int Place(double share) => FirstPlace + (int)Math.Round(Math.Clamp(Bins.Finite(share), 0, 1) * (query.Bins - 1));
    }

    /// <summary>What is told of objects at once.</summary>
    /// <param name="Classes">Logits of the classes that a query names, no object being the last, [b, objects, classes + 1]; minus infinity where an example has fewer.</param>
    /// <param name="Places">Logits of bins, [b, objects, 4, bins]: left, top, right and bottom; minus infinity where an example has fewer.</param>
    /// <param name="Found">What each layer of the image tokenizer finds: the same classes, and boxes as shares of the image.</param>
    internal sealed record Told(Tensor Classes, Tensor Places, IReadOnlyList<DetectionPrediction> Found);

    /// <summary>Tells what queries ask for.</summary>
    /// <param name="images">The tokens of an image for each of them, [queries, tokens, width], as <see cref="SequenceCore.See"/> gives them.</param>
    /// <param name="queries">What is asked.</param>
    /// <param name="prompts">Their words.</param>
    internal Told Tell(Tensor images, IReadOnlyList<VisionLlmQuery> queries, IReadOnlyList<int[]> prompts)
    {
        using var scope = NewDisposeScope();
        var (n, objects, width, device) = (queries.Count, Config.MaxObjects, Config.HiddenSize, images.device);
        var longest = prompts.Max(static p => p.Length) + (objects * Fields);
        if (longest > Config.MaxSequenceTokens) throw new PanoptesException($"The prompt and what it asks for have {longest} tokens; the model takes at most {Config.MaxSequenceTokens} together.");
        var (memory, mask) = Core.ReadSeen(images, prompts);

        // The image tokenizer: objects are looked for in what was read of the image with the words, and compared with what was read of each name's words.
        var read = memory.narrow(1, 0, images.shape[1]);
        var names = Names(prompts, device).to(memory.dtype).matmul(memory.narrow(1, images.shape[1], memory.shape[1] - images.shape[1])).transpose(1, 2);      // [n, width, classes]
        var (placed, own) = (read + Core.ImagePositions.Value.narrow(0, 0, images.shape[1]), ObjectQueries.Weight.Value);
        var (x, features, found) = (zeros_like(own).unsqueeze(0).expand(n, -1, -1), images, new List<DetectionPrediction>());
        foreach (var layer in ObjectDecoder.Layers)
        {
            x = layer.Forward(x, own, read, placed, null);
            features = ObjectDecoder.Layernorm.Forward(x);
            var named = ObjectNames.Forward(features);
            var alike = (named.narrow(2, 0, width).matmul(names) / Math.Sqrt(width)).to(ScalarType.Float32);
            found.Add(new(cat([Without(alike, static q => q.Classes.Count), named.narrow(2, width, 1).to(ScalarType.Float32)], 2), ObjectBoxes.Forward(features).to(ScalarType.Float32).sigmoid()));
        }

        // An object's fields: what is asked, the object's features, and what was found: marks by their chances, and places between the two nearest of the prompt's bins.
        var (table, most) = (Core.EmbedTokens.Weight.Value, (int)names.shape[2]);
        var marks = tensor(queries.SelectMany(q => Enumerable.Range(0, most).Select(c => c < q.Classes.Count ? (long)Mark(q, c) : EndId).Append(EndId)).ToArray(), [n, most + 1], device: device);   // no object's is the last
        var what = found[^1].Logits.detach().softmax(2).to(table.dtype).matmul(table.index_select(0, marks.flatten()).view(n, most + 1, width)).unsqueeze(2);
        var last = tensor(queries.Select(static q => q.Bins - 1f).ToArray(), device: device).view(-1, 1, 1);
        var at = (Boxes.ToCorners(found[^1].Boxes.detach()).clamp(0, 1) * last).unsqueeze(-1);
        var near = (1 - (at - arange(Config.MaxBins, ScalarType.Float32, device)).abs()).clamp_min(0).to(table.dtype);              // [n, objects, 4, bins]
        var where = near.matmul(table.narrow(0, FirstPlace, Config.MaxBins));
        var fields = ObjectProjection.Forward(features).unsqueeze(2) + table.narrow(0, FirstQuery, Fields) + cat([what, where], 2);   // [n, objects, fields, width]

        // They stand behind the prompt, in the query's order, and are answered where they stand.
        var stand = new long[n * objects * Fields];
        for (var i = 0; i < n; i++)
            for (var k = 0; k < objects; k++)
                for (var f = 0; f < Fields; f++) stand[(((i * objects) + k) * Fields) + (int)queries[i].Format[f]] = ((long)i * longest) + prompts[i].Length + (k * Fields) + f;
        var which = tensor(stand, device: device);
        var words = Core.EmbedTokens.Forward(SequenceCore.Padded(prompts, longest, device).Ids).flatten(0, 1);
        var entered = words.index_copy(0, which, fields.flatten(0, 2).to(words.dtype)).view(n, longest, width) + Core.EmbedPositions.Value.narrow(0, 0, longest);
        var logits = Core.Say(entered, memory, mask, which).to(ScalarType.Float32).view(n, objects, Fields, -1);

        var bins = logits.narrow(2, 1, Fields - 1).narrow(3, FirstPlace, queries.Max(static q => q.Bins));
        var told = logits.select(2, 0).gather(2, marks.unsqueeze(1).expand(-1, objects, -1));
        var classes = cat([Without(told.narrow(2, 0, most), static q => q.Classes.Count), told.narrow(2, most, 1)], 2);
        foreach (var layer in found) (_, _) = (layer.Logits.MoveToOuterDisposeScope(), layer.Boxes.MoveToOuterDisposeScope());
        return new(classes.MoveToOuterDisposeScope(), Without(bins, static q => q.Bins).MoveToOuterDisposeScope(), found);

        Tensor Without(Tensor all, Func<VisionLlmQuery, int> has)
        {
            var count = tensor(queries.Select(q => (long)has(q)).ToArray(), device: device).view([n, .. Enumerable.Repeat(1L, (int)all.dim() - 1)]);
            return all.masked_fill(arange(all.shape[^1], device: device).ge(count), double.NegativeInfinity);
        }
    }

    /// <summary>Which of a prompt's tokens are a class's, its mark being the last, as parts of one: [prompts, classes, tokens].</summary>
    Tensor Names(IReadOnlyList<int[]> prompts, Device device)
    {
        var (most, longest) = (prompts.Max(p => p.Count(IsMark)), prompts.Max(static p => p.Length));
        var parts = new float[prompts.Count * most * longest];
        for (var i = 0; i < prompts.Count; i++)
        {
            var (prompt, first, c) = (prompts[i], 0, 0);
            for (var k = 0; k < prompt.Length; k++)
            {
                if (!IsMark(prompt[k])) continue;
                parts.AsSpan((((i * most) + c++) * longest) + first, k + 1 - first).Fill(1f / (k + 1 - first));
                first = k + 1;
            }
        }
        return tensor(parts, [prompts.Count, most, longest], device: device);

        bool IsMark(int token) => token >= FirstClass && token < FirstPlace;
    }

    /// <summary>
    /// The loss of what is told at once, a scalar: DETR's of what every layer of the image tokenizer finds; to that, how unlikely the answer's tokens are, of the objects that the last layer is matched with:
    /// their places, and everyone's class, of which no object weighs as in DETR.
    /// </summary>
    Tensor Judge(Told told, ObjectsExample[] asked)
    {
        using var scope = NewDisposeScope();
        using var exact = Autocast.To(ScalarType.Float32);
        var (device, weights, none) = (told.Classes.device, new DetrLossOptions(), told.Classes.shape[2] - 1);
        DetectionTarget[] targets = [.. asked.Select(e => new DetectionTarget(
            tensor(e.Objects.Select(static o => (long)o.Label).ToArray(), device: device),
            Boxes.ToCenters(tensor(e.Objects.SelectMany(static o => (float[])[(float)o.Box.Left, (float)o.Box.Top, (float)o.Box.Right, (float)o.Box.Bottom]).ToArray(), [e.Objects.Count, 4], device: device))))];
        var loss = DetrLoss.Total(told.Found, targets, weights);
        var (rows, wanted) = DetrLoss.Pairs(DetrLoss.Match(told.Found[^1], targets, weights), targets, told.Classes);
        var labels = full([asked.Length * Config.MaxObjects], none, ScalarType.Int64, device).index_copy(0, rows, cat([.. targets.Select(static t => t.Labels)]).index_select(0, wanted));
        var counts = ones(none + 1, device: device);
        counts[none] = (float)weights.EosCoefficient;
        loss = loss + nn.functional.cross_entropy(told.Classes.flatten(0, 1), labels, counts);
        if (rows.numel() == 0) return loss.MoveToOuterDisposeScope();
        var bins = asked.SelectMany(e => e.Target.Chunk(Fields).SelectMany(o => e.Query.Format.Zip(o).Where(static p => p.First != VisionLlmField.Class).OrderBy(static p => p.First).Select(p => (long)p.Second - FirstPlace)));
        var right = tensor(bins.ToArray(), device: device).view(-1, Fields - 1).index_select(0, wanted);
        loss = loss + nn.functional.cross_entropy(told.Places.flatten(0, 1).index_select(0, rows).flatten(0, 1), right.flatten());
        return loss.MoveToOuterDisposeScope();
    }

    /// <summary>Objects that are to be told at once.</summary>
    /// <param name="Query">What is asked for.</param>
    /// <param name="Objects">Boxes, as shares of the image, and positions in the query's classes.</param>
    internal sealed record ObjectsExample(string Task, int[] Prompt, int[] Target, float[] Weights, VisionLlmQuery Query, IReadOnlyList<(ImageBox Box, int Label)> Objects) : SequenceExample(Task, Prompt, Target, Weights);

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
    internal ObjectsExample ExampleOf(string task, VisionLlmQuery query, IReadOnlyList<(ImageBox Box, int Label)> objects, int width, int height, Tokenizer text)
    {
        var answer = AnswerOf(query, objects, width, height);
        return new ObjectsExample(task, PromptOf(query, text), answer, [.. answer.Select(static _ => 1f)], query, [.. objects.Select(o => (o.Box.Scaled(1.0 / width, 1.0 / height), o.Label))]);
    }

    /// <summary>A number of bins that training leaves out.</summary>
    internal int HeldOutBins => Math.Max(2, Config.MaxBins * 5 / 8);

    /// <summary>Marks, bins and an order, all of which change.</summary>
    VisionLlmQuery Draw(string[] classes, ref SampleRandom random)
    {
        var bins = random.Chance(0.5f) ? Config.MaxBins : Math.Max(2, Config.MaxBins / 4 + random.Next(Config.MaxBins - Config.MaxBins / 4 + 1));
        if (bins == HeldOutBins) bins = Config.MaxBins;
        var marks = Enumerable.Range(0, Config.MaxClasses).ToArray();
        random.Shuffle(marks.AsSpan());
        return new(classes, bins) { Marks = marks[..classes.Length], Format = Formats[random.Next(Formats.Length)] };
    }

    public Tensor Loss(Tensor pixels, IReadOnlyList<SequenceExample> examples)
    {
        SequenceCore.Fit(pixels, examples);
        using var scope = NewDisposeScope();
        var (images, each, loss) = (Core.See(pixels), examples.Count / (int)pixels.shape[0], zeros([], device: pixels.device));
        // What is told at once and what is written have other lengths and losses: each by itself.
        foreach (var group in examples.Select(static (e, i) => (Example: e, Index: i)).GroupBy(static e => e.Example is ObjectsExample ? e.Example.Task : null))
        {
            SequenceExample[] own = [.. group.Select(static e => e.Example)];
            ObjectsExample[] objects = [.. own.OfType<ObjectsExample>()];
            var seen = images.index_select(0, tensor(group.Select(e => (long)(e.Index / each)).ToArray(), device: pixels.device));
            var ofGroup = group.Key is null
                ? Core.LossSeen(seen, own, EndId)
                : Judge(Tell(seen, [.. objects.Select(static e => e.Query)], [.. objects.Select(static e => e.Prompt)]), objects) * Config.TaskWeights.GetValueOrDefault(group.Key, 1);
            loss = loss + ofGroup * ((double)own.Length / examples.Count);
        }
        return loss.MoveToOuterDisposeScope();
    }

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
        var (classes, places, _) = Tell(Core.See(pixels), asked, prompts);
        var (sure, label) = classes.softmax(-1).narrow(2, 0, classes.shape[2] - 1).max(2);
        var (scores, labels, at) = (sure.cpu().data<float>().ToArray(), label.cpu().data<long>().ToArray(), places.argmax(3).cpu().data<long>().ToArray());
        return [.. asked.Select((query, i) => (IReadOnlyList<Detection>)[.. Enumerable.Range(i * Config.MaxObjects, Config.MaxObjects).Where(k => scores[k] > threshold).OrderByDescending(k => scores[k]).Select(k =>
        {
            double Share(VisionLlmField field) => (double)at[(k * (Fields - 1)) + (int)field - 1] / (query.Bins - 1);
            return new ImageBox(Share(VisionLlmField.Left), Share(VisionLlmField.Top), Share(VisionLlmField.Right), Share(VisionLlmField.Bottom)).Ordered().Scaled(width, height).Named(query.Classes[(int)labels[k]], scores[k]);
        })])];
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
