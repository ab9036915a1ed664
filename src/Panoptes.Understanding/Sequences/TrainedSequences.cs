using System.Text;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>
/// A UniTAB, as its recipe trains it, with its image processor and its tokenizer: it describes an image with boxes for the things that it speaks of, grounds expressions and answers questions. Not
/// for several threads at once.
/// </summary>
/// <example><code>
/// using var unitab = UniTab.Load("runs/unitab/last");
/// foreach (var phrase in unitab.Describe(image).Phrases) ...      // "a red apple", with its box in pixels
/// </code></example>
/// <param name="model">Disposed with this object.</param>
/// <param name="processor">Prepares its images.</param>
/// <param name="tokenizer">Of its texts.</param>
/// <param name="device">Where the model is; null: the CPU.</param>
public sealed class UniTab(UniTabModel model, ImageProcessor processor, Tokenizer tokenizer, Device? device = null) : TrainedSequence<UniTabModel>(model, processor, device), IGrounder, IAnswerer
{
    /// <summary>How texts are sought; null: greedily, at most 80 tokens.</summary>
    public SequenceOptions? Options { get; set; }

    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>): the model with preprocessor_config.json and its tokenizer.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, another model, or a file of it is missing or broken.</exception>
    public static UniTab Load(string model, LoadOptions? options = null) => SequenceFolder.Load<UniTabModel, UniTab>(model, options, static (m, p, t, d) => new(m, p, t, d), "a UniTAB");

    /// <summary>A description whose phrases have boxes, in pixels.</summary>
    public GroundedCaption Describe(Image image)
    {
        var (text, phrases) = (new StringBuilder(), new List<GroundedPhrase>());
        foreach (var (words, box) in Of(image, pixels => Model.Caption(pixels, tokenizer, image.Width, image.Height, Options)))
        {
            var said = words.Trim();
            if (said.Length == 0) continue;
            if (text.Length > 0) text.Append(' ');
            if (box is { } b) phrases.Add(new(said, text.Length, text.Length + said.Length, [b]));
            text.Append(said);
        }
        return new(text.ToString(), phrases);
    }

    /// <summary>Where the thing is that an expression speaks of; nothing where no box was written. The score is that of the whole answer.</summary>
    /// <exception cref="PanoptesException">The expression is empty.</exception>
    public IReadOnlyList<Detection> Ground(Image image, string expression) => Of(image, pixels => Model.Ground(pixels, expression, tokenizer, image.Width, image.Height, Options)) is { } found ? [found] : [];

    IReadOnlyList<Detection> IGrounder.Find(Image image, IReadOnlyList<string> texts, double? threshold) => [.. texts.SelectMany(t => Ground(image, t)).Where(d => d.Score > (threshold ?? 0)).OrderByDescending(static d => d.Score)];

    public ImageCaption Answer(Image image, string question) => Of(image, pixels => Model.Answer(pixels, question, tokenizer, Options));
}

/// <summary>A Pix2Seq v2, as its recipe trains it, with its image processor and its tokenizer: things of its classes, and captions. Not for several threads at once.</summary>
/// <example><code>
/// using var pix2seq = Pix2Seq.Load("runs/pix2seq/last");
/// foreach (var found in pix2seq.Detect(image)) Console.WriteLine($"{found.Score:P0} {found.Label}");
/// </code></example>
/// <inheritdoc cref="UniTab(UniTabModel, ImageProcessor, Tokenizer, Device?)" path="/param"/>
public sealed class Pix2Seq(Pix2SeqModel model, ImageProcessor processor, Tokenizer tokenizer, Device? device = null) : TrainedSequence<Pix2SeqModel>(model, processor, device), IGrounder, IDescriber
{
    /// <summary>The score that a box must exceed where nothing else is asked for: what is likelier to be of no class is left out.</summary>
    const double Usual = 0.5;

    /// <summary>What it finds.</summary>
    public IReadOnlyList<string> Labels => Model.Config.Classes;

    /// <inheritdoc cref="UniTab.Load"/>
    public static Pix2Seq Load(string model, LoadOptions? options = null) => SequenceFolder.Load<Pix2SeqModel, Pix2Seq>(model, options, static (m, p, t, d) => new(m, p, t, d), "a Pix2Seq v2");

    /// <summary>The things of its classes, the surest first.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="threshold">The score that must be exceeded, from 0 to 1; null: 0.5.</param>
    public IReadOnlyList<Detection> Detect(Image image, double? threshold = null) => [.. Of(image, pixels => Model.Detect(pixels, image.Width, image.Height)).Where(d => d.Score > (threshold ?? Usual))];

    bool IGrounder.FindsAll => true;

    IReadOnlyList<Detection> IGrounder.FindAll(Image image, double? threshold) => Detect(image, threshold);

    /// <summary>Those of some of its classes.</summary>
    /// <exception cref="PanoptesException">A name is none of <see cref="Labels"/>.</exception>
    IReadOnlyList<Detection> IGrounder.Find(Image image, IReadOnlyList<string> texts, double? threshold)
    {
        foreach (var text in texts)
            if (!Labels.Contains(text, StringComparer.OrdinalIgnoreCase)) throw new PanoptesException($"This model does not know \"{text}\"; it finds {string.Join(", ", Labels.Take(20))}{(Labels.Count > 20 ? $" and {Labels.Count - 20} more" : "")}.");
        return [.. Detect(image, threshold).Where(d => texts.Contains(d.Label, StringComparer.OrdinalIgnoreCase))];
    }

    public ImageCaption Caption(Image image, SequenceOptions? options = null) => Of(image, pixels => Model.Caption(pixels, tokenizer, options));
}

/// <summary>A model that writes sequences with what prepares its images: what those have in common that are trained here.</summary>
/// <param name="model">Disposed with this object.</param>
/// <param name="processor">Prepares its images.</param>
/// <param name="device">Where the model is; null: the CPU.</param>
public abstract class TrainedSequence<TModel>(TModel model, ImageProcessor processor, Device? device) : IDisposable where TModel : Module
{
    public TModel Model { get; } = SequenceFolder.Ready(model);

    /// <summary>An image's normalized pixels, [1, 3, height, width], which the caller disposes.</summary>
    private protected Tensor Pixels(Image image) => SequenceFolder.Pixels(processor, image, device);

    /// <summary>What the model says of one image.</summary>
    private protected T Of<T>(Image image, Func<Tensor, IReadOnlyList<T>> says)
    {
        using var pixels = Pixels(image);
        return says(pixels)[0];
    }

    public void Dispose()
    {
        Model.Dispose();
        GC.SuppressFinalize(this);
    }
}

/// <summary>Anything that says in a sentence what is to be seen, as its own search is told to: <see cref="Pix2Seq"/>, <see cref="UnifiedIo"/>, <see cref="VisionLlm"/>.</summary>
public interface IDescriber : IDisposable
{
    /// <summary>The image in a sentence.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="options">How it is sought; null: greedily.</param>
    ImageCaption Caption(Image image, SequenceOptions? options = null);
}

/// <summary>Anything that answers questions about images in words of its own: <see cref="UniTab"/>, <see cref="UnifiedIo"/>, <see cref="VisionLlm"/>.</summary>
public interface IAnswerer : IDisposable
{
    /// <summary>The answer to a question about the image; the score is the sum of its tokens' log-probabilities, at most 0.</summary>
    /// <exception cref="PanoptesException">The question is empty or too long.</exception>
    ImageCaption Answer(Image image, string question);
}

/// <summary>What the models that write sequences have in common.</summary>
static class SequenceFolder
{
    internal static T Load<TModel, T>(string model, LoadOptions? options, Func<TModel, ImageProcessor, Tokenizer, Device?, T> make, string expected) where TModel : Module
    {
        var path = ModelFolder.Resolve(model);
        var folder = ModelFolder.FolderOf(path);
        var (processor, tokenizer) = (ImageProcessor.Load(folder), Tokenizer.Load(folder));
        var loaded = PromptableModels.Load(path, options);
        try
        {
            return make(loaded as TModel ?? throw new PanoptesException($"{model} holds a {loaded.GetType().Name}; expected {expected}."), processor, tokenizer, options?.Device);
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    internal static T Ready<T>(T model) where T : Module
    {
        model.Train(false);
        model.RequiresGrad(false);
        model.Pack();
        return model;
    }

    internal static Tensor Pixels(ImageProcessor processor, Image image, Device? device)
    {
        using var scope = NewDisposeScope();
        var pixels = processor.Process(image);
        return (device is null ? pixels : pixels.to(device)).MoveToOuterDisposeScope();
    }
}
