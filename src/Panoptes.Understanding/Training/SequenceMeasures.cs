using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;
using Panoptes.Text;
using Found = Panoptes.Understanding.Detection;

namespace Panoptes.Understanding.Training;

/// <summary>How well a sequence model answers what it is asked about new scenes: every task by its own measure, a batch at a time.</summary>
/// <remarks>
/// <c>ap</c>, <c>ap50</c>, <c>ap75</c> of boxes; <c>cider</c>, <c>words</c> (F1) of captions; <c>mask_iou</c> and <c>oks</c> of the thing in a given box; <c>grounding</c>, the share of expressions whose box has an
/// IoU of 0.5; <c>answers</c>, the share of right ones; <c>depth_rmse</c> and <c>depth_right</c> (the share of places within a factor of 1.25); <c>segmentation_iou</c> of what a name means; of captions with boxes
/// <c>grounded_f1</c> (the name and its box at an IoU of 0.5 are right), and <c>grounded_f1_shuffled</c>, the same after the boxes of each caption have changed places. What is asked in another way than training asks has
/// a suffix, and <c>kept</c> with it is its share of what the usual way gives.
/// </remarks>
sealed class SequenceMeasures(Module model, Tokenizer text, SceneTests tests)
{
    const double Right = 0.5;

    readonly Dictionary<string, (List<LabeledThing> Labeled, List<DetectedThing> Detected)> detections = [];
    readonly Dictionary<string, (double Sum, int Count)> means = [];
    readonly List<string> captions = [];
    readonly List<IReadOnlyList<string>> references = [];
    readonly int[] grounded = new int[4];                                              // told, meant, right, right after the boxes changed places
    readonly IReadOnlyList<string> names = tests.Names;
    readonly int size = tests.Options.Size;

    /// <summary>The first measure of a task: what the best model goes by.</summary>
    public static string First(Module model, string task) => task switch
    {
        Pix2SeqModel.Detection => "ap50",
        Pix2SeqModel.Captioning => "cider",
        Pix2SeqModel.Segmentation => "mask_iou",
        Pix2SeqModel.Keypoints => "oks",
        UniTabModel.GroundedCaptioning => "grounded_f1",
        UniTabModel.Grounding => "grounding",
        UniTabModel.Answering => "answers",
        UnifiedIoModel.Depth => "depth_right",
        UnifiedIoModel.Segmentation => "segmentation_iou",
        _ => throw new PanoptesException($"The task {task} of {model.GetType().Name} has no measure."),
    };

    /// <param name="task">One of the model's.</param>
    /// <param name="pixels">[b, 3, size, size]</param>
    /// <param name="scenes">As many.</param>
    /// <param name="first">The number of the first of them among the tests.</param>
    public void Add(string task, Tensor pixels, IReadOnlyList<Scene> scenes, int first)
    {
        switch (task)
        {
            case Pix2SeqModel.Detection:
                Detect(pixels, scenes, first);
                break;
            case Pix2SeqModel.Captioning:
                Caption(scenes, [.. (model switch
                {
                    Pix2SeqModel m => m.Caption(pixels, text, new() { MaxTokens = Room(m) }),
                    UniTabModel m => m.Describe(pixels, text),
                    UnifiedIoModel m => m.Caption(pixels, text, new() { MaxTokens = Room(m) }),
                    _ => ((VisionLlmModel)model).Caption(pixels, text),
                }).Select(static c => c.Text)]);
                break;
            case Pix2SeqModel.Segmentation:
                {
                    var (which, things) = Asked(scenes, first);
                    var told = ((Pix2SeqModel)model).Segment(pixels, things, size, size);
                    for (var i = 0; i < scenes.Count; i++) Mean("mask_iou", told[i]?.Mask.Iou(Mask(scenes[i], which[i])) ?? 0);
                    break;
                }
            case Pix2SeqModel.Keypoints:
                {
                    var (which, things) = Asked(scenes, first);
                    var kinds = Enum.GetValues<SceneKeypointKind>().Length;
                    double[] sigmas = [.. Enumerable.Repeat(0.05, kinds)];
                    var told = ((Pix2SeqModel)model).PointsOf(pixels, things, kinds, size, size);
                    for (var i = 0; i < scenes.Count; i++)
                    {
                        var o = scenes[i].Objects[which[i]];
                        var pose = new LabeledPose(i, 0, [.. scenes[i].Keypoints(which[i]).SelectMany(static p => (double[])[p.X, p.Y, p.Visible ? 2 : 0])], Region(o.Box), o.Pixels);
                        if (pose.Labeled > 0) Mean("oks", KeypointScores.Similarity([.. told[i].SelectMany(static p => (double[])[p.X, p.Y, p.Visibility])], pose, sigmas));
                    }
                    break;
                }
            case UniTabModel.GroundedCaptioning:
                Ground(scenes, ((UniTabModel)model).Caption(pixels, text, size, size));
                break;
            case UniTabModel.Grounding:
                Refer(pixels, scenes, first);
                break;
            case UniTabModel.Answering:
                Answer(pixels, scenes, first);
                break;
            case UnifiedIoModel.Depth:
                {
                    var io = (UnifiedIoModel)model;
                    using var scope = NewDisposeScope();
                    Depth(io.DepthOf(pixels, text), Pictures(scenes.Select(io.DepthPicture)).mean([1]));
                    break;
                }
            case UnifiedIoModel.Segmentation:
                {
                    var io = (UnifiedIoModel)model;
                    string[] asked = [.. scenes.Select((s, i) => s.Objects[(first + i) % s.Objects.Count].Name)];
                    using var scope = NewDisposeScope();
                    Segments(io.Painted(pixels, asked, text), Pictures(scenes.Select((s, i) => io.SegmentPicture(s, asked[i]))));
                    break;
                }
            default:
                throw new PanoptesException($"The task {task} has no measure.");
        }
    }

    /// <summary>Everything that was added, by the names of its measures.</summary>
    public IReadOnlyDictionary<string, double> Result()
    {
        var result = new Dictionary<string, double>();
        foreach (var (suffix, (labeled, detected)) in detections)
        {
            var scores = DetectionScores.Of(labeled, detected, [.. Enumerable.Range(0, names.Count)]);
            if (suffix.Length == 0) (result["ap"], result["ap75"]) = (scores.Ap ?? 0, scores.Ap75 ?? 0);
            result[$"ap50{suffix}"] = scores.Ap50 ?? 0;
        }
        foreach (var suffix in detections.Keys.Where(static s => s.Length > 0)) result[$"kept{suffix}"] = result[$"ap50{suffix}"] / Math.Max(1e-9, result["ap50"]);
        if (captions.Count > 0)
        {
            var scores = Captioning.Score(captions, references);
            (result["cider"], result["words"]) = (scores.CiderD, scores.WordF1);
        }
        if (grounded[1] > 0)
        {
            result["grounded_f1"] = 2.0 * grounded[2] / (grounded[0] + grounded[1]);
            result["grounded_f1_shuffled"] = 2.0 * grounded[3] / (grounded[0] + grounded[1]);
            result["kept_shuffled"] = (double)grounded[3] / Math.Max(1, grounded[2]);
        }
        foreach (var (name, (sum, count)) in means) result[name] = name.EndsWith("rmse", StringComparison.Ordinal) ? Math.Sqrt(sum / count) : sum / count;
        return result;
    }

    static int Room(ISequenceModel m) => Math.Min(60, m.Core.Config.MaxSequenceTokens - 1);

    void Mean(string name, double value)
    {
        var (sum, count) = means.GetValueOrDefault(name);
        means[name] = (sum + value, count + 1);
    }

    /// <summary>An object of every scene, in turn, with its own box and name.</summary>
    static (int[] Which, (BoxPrompt, string)[] Things) Asked(IReadOnlyList<Scene> scenes, int first)
    {
        int[] which = [.. scenes.Select((s, i) => (first + i) % s.Objects.Count)];
        return (which, [.. scenes.Select((s, i) => (new BoxPrompt(s.Objects[which[i]].Box.X, s.Objects[which[i]].Box.Y, s.Objects[which[i]].Box.Right, s.Objects[which[i]].Box.Bottom), s.Objects[which[i]].Name))]);
    }

    void Detect(Tensor pixels, IReadOnlyList<Scene> scenes, int first)
    {
        switch (model)
        {
            case Pix2SeqModel m:
                Boxes("", scenes, m.Detect(pixels, size, size), first);
                break;
            case UnifiedIoModel m:
                Boxes("", scenes, m.Detect(pixels, text, size, size), first);
                break;
            case VisionLlmModel m:
                var (bins, order) = (m.Config.MaxBins, VisionLlmModel.Formats[0]);
                // Lists as long as training has them at most, then one of all names; then a format, and a number of bins, that training leaves out.
                Boxes("", scenes, Queries(m, pixels, VisionLlmModel.MostDrawn, bins, order), first);
                if (names.Count <= m.Config.MaxClasses) Boxes("_list", scenes, Queries(m, pixels, m.Config.MaxClasses, bins, order), first);
                var other = Queries(m, pixels, VisionLlmModel.MostDrawn, bins, VisionLlmModel.HeldOutFormat);
                Boxes("_format", scenes, other, first);
                // What it would be if the model told x and y as it always does, whatever was asked.
                Boxes("_swapped", scenes, [.. other.Select(static f => (IReadOnlyList<Found>)[.. f.Select(static d => d with { Left = d.Top, Top = d.Left, Right = d.Bottom, Bottom = d.Right })])], first);
                Boxes("_bins", scenes, Queries(m, pixels, VisionLlmModel.MostDrawn, m.HeldOutBins, order), first);
                break;
        }
    }

    /// <summary>All names, so many in a prompt.</summary>
    List<Found>[] Queries(VisionLlmModel m, Tensor pixels, int most, int bins, IReadOnlyList<VisionLlmField> format)
    {
        var all = Enumerable.Range(0, (int)pixels.shape[0]).Select(static _ => new List<Found>()).ToArray();
        foreach (var list in names.Chunk(Math.Min(most, m.Config.MaxClasses)))
        {
            var found = m.Detect(pixels, new(list, bins) { Format = format }, text, size, size);
            for (var i = 0; i < all.Length; i++) all[i].AddRange(found[i]);
        }
        return all;
    }

    void Boxes(string suffix, IReadOnlyList<Scene> scenes, IReadOnlyList<IReadOnlyList<Found>> found, int first)
    {
        if (!detections.TryGetValue(suffix, out var lists)) detections[suffix] = lists = ([], []);
        for (var i = 0; i < scenes.Count; i++)
        {
            var image = first + i;
            lists.Labeled.AddRange(scenes[i].Objects.Select(o => new LabeledThing(image, tests.NameOf(o.Concept), Region(o.Box), o.Pixels)));
            foreach (var d in found[i])
                if (Index(d.Label) is >= 0 and var label) lists.Detected.Add(new(image, label, new(d.Left, d.Top, d.Right - d.Left, d.Bottom - d.Top), d.Score));
        }
    }

    int Index(string name)
    {
        for (var i = 0; i < names.Count; i++)
            if (names[i].Equals(name, StringComparison.OrdinalIgnoreCase)) return i;
        return -1;
    }

    static DetectedRegion Region(PixelBox box) => new(box.X, box.Y, box.Width, box.Height);

    static RunLengthMask Mask(Scene scene, int index) => RunLengthMask.Encode(scene.Mask(index).Pixels, scene.Size, scene.Size);

    void Caption(IReadOnlyList<Scene> scenes, IReadOnlyList<string> said)
    {
        captions.AddRange(said);
        references.AddRange(scenes.Select(s => (IReadOnlyList<string>)[Spaced(s.Caption)]));
    }

    /// <summary>A text as the tokenizer gives it back, so that a hyphen with and without its spaces is one.</summary>
    string Spaced(string words) => text.Decode(text.Encode(words, addSpecialTokens: false)).Trim();

    void Ground(IReadOnlyList<Scene> scenes, IReadOnlyList<IReadOnlyList<CaptionPiece>> told)
    {
        Caption(scenes, [.. told.Select(static pieces => string.Join(' ', pieces.Select(static p => p.Text.Trim())))]);
        for (var i = 0; i < scenes.Count; i++)
        {
            (string Text, ImageBox Box)[] meant = [.. SceneWords.Pieces(scenes[i]).Where(static p => p.Box is not null).Select(p => (Spaced(p.Text), p.Box!.Value))];
            (string Text, ImageBox Box)[] said = [.. told[i].Where(static p => p.Box is not null).Select(static p => (p.Text, p.Box!.Value))];
            grounded[0] += said.Length;
            grounded[1] += meant.Length;
            grounded[2] += Hits(said, meant);
            grounded[3] += Hits([.. said.Select((s, k) => (s.Text, said[(k + 1) % said.Length].Box))], meant);
        }
    }

    /// <summary>How many names are told with their box, each label at most once.</summary>
    internal static int Hits(IReadOnlyList<(string Text, ImageBox Box)> said, IReadOnlyList<(string Text, ImageBox Box)> meant)
    {
        var left = meant.ToList();
        var hits = 0;
        foreach (var (words, box) in said)
        {
            if (left.FindIndex(m => m.Text == words && Iou(m.Box, box) >= Right) is not (>= 0 and var at)) continue;
            left.RemoveAt(at);
            hits++;
        }
        return hits;
    }

    static double Iou(ImageBox a, ImageBox b)
    {
        var (width, height) = (Math.Min(a.Right, b.Right) - Math.Max(a.Left, b.Left), Math.Min(a.Bottom, b.Bottom) - Math.Max(a.Top, b.Top));
        if (width <= 0 || height <= 0) return 0;
        return width * height / ((a.Right - a.Left) * (a.Bottom - a.Top) + (b.Right - b.Left) * (b.Bottom - b.Top) - width * height);
    }

    void Refer(Tensor pixels, IReadOnlyList<Scene> scenes, int first)
    {
        // An expression of every scene, their kinds in turn, that means one thing.
        var asked = scenes.Select((s, i) => tests.References(EmojiSplit.HeldOutStyle, first + i).Where(static r => r.Objects.Count == 1).GroupBy(static r => r.Kind).OrderBy(static g => g.Key).ToArray() is { Length: > 0 } kinds
            ? kinds[(first + i) % kinds.Length].First() : null).ToArray();
        int[] which = [.. Enumerable.Range(0, asked.Length).Where(i => asked[i] is not null)];
        if (which.Length == 0) return;
        using var scope = NewDisposeScope();
        var (some, expressions) = (pixels.index_select(0, tensor([.. which.Select(static i => (long)i)])), which.Select(i => asked[i]!.Text).ToArray());
        IReadOnlyList<Found?> found = model switch
        {
            UniTabModel m => m.Ground(some, expressions, text, size, size),
            UnifiedIoModel m => m.Ground(some, expressions, text, size, size),
            _ => [.. ((VisionLlmModel)model).Ground(some, expressions, ((VisionLlmModel)model).Config.MaxBins, text, size, size).Select(static f => f.Count == 0 ? null : f[0])],
        };
        for (var i = 0; i < which.Length; i++)
            Mean("grounding", found[i] is { } d && Iou(new(d.Left, d.Top, d.Right, d.Bottom), SceneWords.BoxOf(scenes[which[i]].Objects[asked[which[i]]!.Objects[0]])) >= Right ? 1 : 0);
    }

    void Answer(Tensor pixels, IReadOnlyList<Scene> scenes, int first)
    {
        SceneQuestion?[] asked = [.. scenes.Select((s, i) => s.Questions.Count == 0 ? null : s.Questions[(first + i) % s.Questions.Count])];
        int[] which = [.. Enumerable.Range(0, asked.Length).Where(i => asked[i] is not null)];
        if (which.Length == 0) return;
        using var scope = NewDisposeScope();
        var (some, questions) = (pixels.index_select(0, tensor([.. which.Select(static i => (long)i)])), which.Select(i => asked[i]!.Text).ToArray());
        string[] told = model switch
        {
            UniTabModel m => [.. m.Answer(some, questions, text).Select(static a => a.Text)],
            UnifiedIoModel m => [.. m.Answer(some, questions, text).Select(static a => a.Text)],
            _ => [.. which.Select((_, k) => ((VisionLlmModel)model).Answer(some.narrow(0, k, 1), questions[k], text)[0].Text)],
        };
        for (var i = 0; i < which.Length; i++) Mean("answers", told[i] == Spaced(asked[which[i]]!.Answer) ? 1 : 0);
    }

    static Tensor Pictures(IEnumerable<Image> pictures) => stack(pictures.Select(static p => p.ToTensor(ScalarType.Float32)));

    /// <summary>Distances as they were told and as they are, [b, side, side] from 0 to 1.</summary>
    internal void Depth(Tensor told, Tensor right)
    {
        using var scope = NewDisposeScope();
        // The nearest that anything can be is a quarter, but for what stands before the ground.
        var (a, b) = (told.to(ScalarType.Float32).clamp(0.01, 1), right.clamp(0.01, 1));
        var ratio = maximum(a / b, b / a);
        for (var i = 0; i < told.shape[0]; i++)
        {
            Mean("depth_rmse", (a[i] - b[i]).square().mean().item<float>());
            Mean("depth_right", ratio[i].lt(1.25).to(ScalarType.Float32).mean().item<float>());
        }
    }

    /// <summary>What a name means, where it is not black, as it was told and as it is: [b, 3, side, side] from 0 to 1.</summary>
    internal void Segments(Tensor told, Tensor right)
    {
        using var scope = NewDisposeScope();
        var (a, b) = (UnifiedIoModel.Nearest(told).gt(0), UnifiedIoModel.Nearest(right).gt(0));
        Masks(a, b);
    }

    /// <summary>Masks as they were told and as they are, [b, side, side] bool; one that is empty is left out.</summary>
    internal void Masks(Tensor told, Tensor right)
    {
        using var scope = NewDisposeScope();
        var (shared, either, own) = (told.logical_and(right).sum([1, 2]).data<long>().ToArray(), told.logical_or(right).sum([1, 2]).data<long>().ToArray(), right.sum([1, 2]).data<long>().ToArray());
        for (var i = 0; i < shared.Length; i++)
            if (own[i] > 0) Mean("segmentation_iou", (double)shared[i] / either[i]);
    }
}
