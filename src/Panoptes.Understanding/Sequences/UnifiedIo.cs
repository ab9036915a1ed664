using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>
/// A Unified-IO, as its recipe trains it, with its image processor and its tokenizer: segments and depth that it paints, boxes and words that it writes, as far as it learned each task. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var model = UnifiedIo.Load("runs/unified-io/last");
/// model.Depth(image).Save("depth.png");
/// var apples = model.Segment(image, [Prompt.Text("red apple")]);
/// </code></example>
/// <inheritdoc cref="UniTab(UniTabModel, ImageProcessor, Tokenizer, Device?)" path="/param"/>
public sealed class UnifiedIo(UnifiedIoModel model, ImageProcessor processor, Tokenizer tokenizer, Device? device = null) : TrainedSequence<UnifiedIoModel>(model, processor, device), IPromptable, IGrounder, IDescriber, IAnswerer
{
    /// <inheritdoc cref="UniTab.Load"/>
    public static UnifiedIo Load(string model, LoadOptions? options = null) => SequenceFolder.Load<UnifiedIoModel, UnifiedIo>(model, options, static (m, p, t, d) => new(m, p, t, d), "a Unified-IO");

    public PromptKinds Takes => PromptKinds.Texts;

    /// <summary>The instances of each name.</summary>
    /// <exception cref="PanoptesException">No name, an empty one, or a prompt of another kind.</exception>
    public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts)
    {
        if (prompts.Count == 0 || prompts.Any(static p => p is not TextPrompt)) throw new PanoptesException("A Unified-IO segments what is named; expected texts and nothing else.");
        using var pixels = Pixels(image);
        return [.. prompts.Cast<TextPrompt>().SelectMany(p => Model.Segment(pixels, p.Words, tokenizer, image.Width, image.Height)[0])];
    }

    /// <summary>How far everything is: gray, from 0 (near) to 255 (far), in the image's size.</summary>
    public Image Depth(Image image)
    {
        using var scope = NewDisposeScope();
        var depth = Model.DepthOf(Pixels(image), tokenizer)[0].to(ScalarType.Float32).clamp(0, 1).mul(255).round().to(ScalarType.Byte).cpu().contiguous();
        return new Image((int)depth.shape[1], (int)depth.shape[0], 1, depth.data<byte>().ToArray()).Resize(image.Width, image.Height, ResizeFilter.Bilinear);
    }

    /// <summary>All things with their names, as they are written.</summary>
    public IReadOnlyList<Detection> Detect(Image image) => Of(image, pixels => Model.Detect(pixels, tokenizer, image.Width, image.Height));

    bool IGrounder.FindsAll => true;

    IReadOnlyList<Detection> IGrounder.FindAll(Image image, double? threshold) => [.. Detect(image).Where(d => d.Score > (threshold ?? 0)).OrderByDescending(static d => d.Score)];

    /// <summary>The box of what each expression speaks of, where one is written.</summary>
    IReadOnlyList<Detection> IGrounder.Find(Image image, IReadOnlyList<string> texts, double? threshold)
    {
        using var pixels = Pixels(image);
        return [.. texts.SelectMany(t => Model.Ground(pixels, t, tokenizer, image.Width, image.Height)).OfType<Detection>().Where(d => d.Score > (threshold ?? 0)).OrderByDescending(static d => d.Score)];
    }

    public ImageCaption Caption(Image image, SequenceOptions? options = null) => Of(image, pixels => Model.Caption(pixels, tokenizer, options));

    public ImageCaption Answer(Image image, string question) => Of(image, pixels => Model.Answer(pixels, question, tokenizer));
}
