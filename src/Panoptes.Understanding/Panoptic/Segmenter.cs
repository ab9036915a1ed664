using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>
/// A model that segments whole images into classes that it knows: Mask2Former, OneFormer and DETR with masks in every way, BEiT into classes of pixels alone. With its image processor, and OneFormer's tokenizer.
/// Not for several threads at once.
/// </summary>
/// <example><code>
/// using var segmenter = Segmenter.Load("facebook/mask2former-swin-tiny-coco-panoptic");
/// var panoptic = segmenter.Panoptic(Image.Load("photo.jpg"));
/// Overlay.Draw(image, panoptic).Save("overlay.png");
/// </code></example>
public sealed class Segmenter : IPromptable, IDisposable
{
    static readonly ModelRegistry Known = new([.. PromptableModels.All.Where(static e => e.Type.IsAssignableTo(typeof(IMaskSegmenter))), .. Models.All.Where(static e => e.Type == typeof(BeitForSemanticSegmentation))]) { Adjust = PromptableModels.Options };

    /// <summary>What datasets put behind the names of classes of stuff.</summary>
    static readonly string[] Suffixes = ["-other-merged", "-merged", "-other", "-stuff"];

    readonly Module model;
    readonly ImageProcessor processor;
    readonly Tokenizer? tokenizer;
    readonly Device? device;
    readonly ScalarType dtype;

    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    /// <param name="model">Mask2Former, OneFormer, DetrForSegmentation or BeitForSemanticSegmentation.</param>
    /// <param name="processor">Prepares images.</param>
    /// <param name="tokenizer">OneFormer's; null for the others.</param>
    /// <param name="device">Where the model is; null: the CPU.</param>
    /// <exception cref="PanoptesException">It segments no whole images, or is a OneFormer without a tokenizer.</exception>
    public Segmenter(Module model, ImageProcessor processor, Tokenizer? tokenizer = null, Device? device = null)
    {
        Labels = model switch
        {
            IMaskSegmenter masks => masks.Labels,
            BeitForSemanticSegmentation beit => beit.Config.Labels(),
            _ => throw new PanoptesException($"{model.GetType().Name} segments no whole images; expected one of {string.Join(", ", Known.Entries.Select(static e => e.Architecture))}."),
        };
        if (model is OneFormerForUniversalSegmentation && tokenizer is null) throw new PanoptesException("OneFormer is told its task in words; expected a tokenizer.");
        (this.model, this.processor, this.tokenizer, this.device) = (model, processor, tokenizer, device);
        dtype = model.Parameters().First(static p => p.Trainable).Dtype!.Value;
        model.Train(false);
        model.RequiresGrad(false);
        model.Pack();
        if (processor is PaddedImageProcessor { ThingIds: { } things }) Options = new() { Fused = Enumerable.Range(0, Labels.Count).Except(things).ToHashSet() };
    }

    /// <summary>Loads a model with what stands beside its weights.</summary>
    /// <param name="model">A folder, a file or a hub id.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, another kind of model, or a file of it is missing or broken.</exception>
    public static Segmenter Load(string model, ClipOptions? options = null)
    {
        options ??= new();
        if (options.Threads is { } threads) set_num_threads(threads >= 1 ? threads : throw new PanoptesException($"{threads} threads were asked for; expected 1 or more."));
        var path = ModelFolder.Resolve(model);
        var loaded = Known.Load(path, null, new() { Dtype = options.Dtype, Device = options.Device });
        try
        {
            var folder = Directory.Exists(path) ? path : Path.GetDirectoryName(Path.GetFullPath(path))!;
            return new(loaded, ImageProcessor.Load(folder), loaded is OneFormerForUniversalSegmentation ? Tokenizer.Load(folder) : null, options.Device);
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>The classes' names by index.</summary>
    public IReadOnlyList<string> Labels { get; }

    /// <summary>Thresholds, and which classes' segments of an image are one: those that are no things, where the processor's file says which are.</summary>
    public SegmentationOptions Options { get; set; } = new();

    /// <summary>Whether it tells things of one class apart.</summary>
    public bool FindsThings => model is IMaskSegmenter;

    /// <summary>Every pixel in one segment or none: things one by one, and stuff.</summary>
    /// <exception cref="PanoptesException">The model gives classes of pixels alone.</exception>
    public PanopticSegmentation Panoptic(Image image)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var (classes, masks) = Predict(image, "panoptic");
        return SegmentationOutput.Panoptic(classes, masks, image.Width, image.Height, Options with { Antialiased = tokenizer is not null }) with { Names = Labels };
    }

    /// <summary>The same with the segments of some classes alone.</summary>
    /// <param name="names">Of classes, as <see cref="Segment"/> takes them; none: all.</param>
    /// <exception cref="PanoptesException">The model gives classes of pixels alone, or a name is none of <see cref="Labels"/>.</exception>
    public PanopticSegmentation Panoptic(Image image, IReadOnlyList<string> names)
    {
        var wanted = names.SelectMany(Named).ToHashSet();
        var all = Panoptic(image);
        return names.Count == 0 ? all : all.Only(Enumerable.Range(0, Labels.Count).Where(c => wanted.Contains(Labels[c])).ToHashSet());
    }

    PanopticAnswer? IPromptable.Panoptic(Image image, IReadOnlyList<string> names) =>
        FindsThings ? new(Panoptic(image, names), c => !Options.Fused.Contains(c)) : PanopticAnswer.OfStuff(Segment(image, [.. names.Select(Prompt.Text)]), image);

    /// <summary>The class of every pixel.</summary>
    public SemanticSegmentation Semantic(Image image)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        if (model is BeitForSemanticSegmentation beit) return new(SegmentationOutput.Semantic(beit.Forward(Pixels(image))[0].cpu(), image.Width, image.Height), Labels);
        var (classes, masks) = Predict(image, "semantic");
        return new(SegmentationOutput.Semantic(SegmentationOutput.ClassScores(classes, masks), image.Width, image.Height, antialiased: tokenizer is not null), Labels);
    }

    /// <summary>Things one by one, the best first. Mask2Former's may overlap; DETR's are all segments that the classes' names tell apart.</summary>
    /// <exception cref="PanoptesException">The model gives classes of pixels alone.</exception>
    public IReadOnlyList<Segment> Instances(Image image)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var (classes, masks) = Predict(image, "instance");
        if (model is DetrForSegmentation)
            return [.. (SegmentationOutput.Panoptic(classes, masks, image.Width, image.Height, Options with { Fused = new HashSet<int>() }) with { Names = Labels }).ToSegments().OrderByDescending(static s => s.Score)];
        if (tokenizer is null) return (SegmentationOutput.Instances(classes, masks, image.Width, image.Height, Options) with { Names = Labels }).ToSegments();
        return [.. (SegmentationOutput.SharedInstances(classes, masks, image.Width, image.Height, Options) with { Names = Labels }).ToSegments().OrderByDescending(static s => s.Score)];
    }

    /// <summary>What its queries say of an image, on the CPU: [queries, classes + 1] and, in the size that they are judged in, [queries, rows, columns].</summary>
    (Tensor Classes, Tensor Masks) Predict(Image image, string task)
    {
        if (model is not IMaskSegmenter masks) throw new PanoptesException($"{model.GetType().Name} gives classes of pixels alone; expected a model that tells things apart.");
        var prediction = masks.Predict(Pixels(image), masks is OneFormerForUniversalSegmentation one ? OneFormerLesson.Encode(tokenizer!, [$"the task is {task}"], one.Config.TaskSeqLen).to(device ?? CPU) : null);
        var (classes, logits) = (prediction.Classes[0].cpu().to(ScalarType.Float32), prediction.Masks[0].cpu().to(ScalarType.Float32));
        return (classes, masks is Mask2FormerForUniversalSegmentation ? SegmentationOutput.ToCommonSize(logits) : logits);
    }

    Tensor Pixels(Image image) => processor.Process(image).to(dtype).to(device ?? CPU);

    PromptKinds IPromptable.Takes => PromptKinds.Texts | PromptKinds.Everything;

    /// <summary>No prompt: every segment, the largest first. Texts: those of the classes that are named so.</summary>
    /// <exception cref="PanoptesException">A prompt of another kind, or a name that is none of <see cref="Labels"/>.</exception>
    public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts)
    {
        foreach (var prompt in prompts)
        {
            if (prompt is not TextPrompt) throw new PanoptesException($"A {prompt.GetType().Name} was given to a model that takes names of classes alone.");
            prompt.Check(image.Width, image.Height);
        }
        var wanted = prompts.OfType<TextPrompt>().SelectMany(p => Named(p.Words)).ToHashSet();
        var all = FindsThings ? Panoptic(image).ToSegments() : Semantic(image).ToSegments();
        return wanted.Count == 0 ? all : [.. all.Where(s => wanted.Contains(s.Label!)).OrderByDescending(static s => s.Score)];
    }

    /// <summary>The classes of a name: those that are called so, or have it among their names.</summary>
    List<string> Named(string name)
    {
        var found = Labels.Where(l => l.Split(',', ';').Append(l).Select(static n => n.Trim()).Any(n => Same(n) || Suffixes.Any(s => n.EndsWith(s, StringComparison.Ordinal) && Same(n[..^s.Length])))).ToList();
        return found.Count > 0 ? found : throw new PanoptesException($"The model does not know \"{name}\"; it knows {string.Join(", ", Labels.Take(40))}{(Labels.Count > 40 ? $" and {Labels.Count - 40} more" : "")}.");

        bool Same(string label) => string.Equals(label.Replace('_', ' ').Replace('-', ' '), name.Trim().Replace('_', ' ').Replace('-', ' '), StringComparison.OrdinalIgnoreCase);
    }

    public void Dispose() => model.Dispose();
}
