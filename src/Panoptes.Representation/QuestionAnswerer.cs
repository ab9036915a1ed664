using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;

namespace Panoptes.Representation;

/// <summary>An answer to a question about an image, and how likely it is, from 0 to 1.</summary>
public sealed record ImageAnswer(string Text, float Probability);

/// <summary>
/// A BEiT-3 that answers questions about images, with its image processor and its tokenizer. It knows a list of answers and gives each a probability. Not for
/// several threads at once.
/// </summary>
/// <example><code>
/// using var answerer = QuestionAnswerer.Load("runs/beit3-vqa/best");
/// Console.WriteLine(answerer.Answer("scene.png", "how many things are there?").Text);
/// </code></example>
public sealed class QuestionAnswerer : ImageEncoder
{
    readonly Tokenizer tokenizer;
    readonly ClipOptions options;

    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    /// <exception cref="PanoptesException">The model's config does not name its answers.</exception>
    public QuestionAnswerer(Beit3ForVisualQuestionAnswering model, ImageProcessor processor, Tokenizer tokenizer, ClipOptions? options = null) : base(model, processor, tokenizer, options ?? new())
    {
        if (model.Answers.Count == 0) throw new PanoptesException("The model's config names no answers; expected them as \"id2label\".");
        (Model, this.tokenizer, this.options) = (model, tokenizer, options ?? new());
    }

    public override Beit3ForVisualQuestionAnswering Model { get; }

    /// <summary>All that it can answer.</summary>
    public IReadOnlyList<string> Answers => Model.Answers;

    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>).</param>
    /// <param name="options">The wanted type, device and batch size.</param>
    /// <exception cref="PanoptesException">Nothing there, not a model that answers questions, or a file of it is missing or broken.</exception>
    public static new QuestionAnswerer Load(string model, ClipOptions? options = null)
    {
        var loaded = ImageEncoder.Load(model, options);
        if (loaded is QuestionAnswerer answerer) return answerer;
        loaded.Dispose();
        throw new PanoptesException($"{model} holds a {loaded.Model.GetType().Name}; expected a model that answers questions about images (BEiT3ForVisualQuestionAnswering), such as recipes/beit3-vqa.yaml trains.");
    }

    /// <summary>The likeliest answer to a question about the image in <paramref name="path"/>.</summary>
    /// <exception cref="PanoptesException">The file is no image, or the question is too long.</exception>
    public ImageAnswer Answer(string path, string question) => Answer([Image.Load(path)], [question])[0][0];

    /// <summary>The likeliest answer to a question about the image.</summary>
    /// <exception cref="PanoptesException">The question is too long.</exception>
    public ImageAnswer Answer(Image image, string question) => Answer([image], [question])[0][0];

    /// <summary>The likeliest answers to the question that goes with each image, the likeliest first.</summary>
    /// <param name="images">The pictures.</param>
    /// <param name="questions">One an image.</param>
    /// <param name="count">How many answers of each; never more than there are.</param>
    /// <exception cref="PanoptesException">Not a question an image, or one that is longer than the model takes (see <see cref="ClipOptions.TruncateTexts"/>).</exception>
    public IReadOnlyList<IReadOnlyList<ImageAnswer>> Answer(IReadOnlyList<Image> images, IReadOnlyList<string> questions, int count = 1)
    {
        if (images.Count != questions.Count) throw new PanoptesException($"{questions.Count} questions go with {images.Count} images; expected one an image.");
        if (count < 1) throw new PanoptesException($"{count} answers were asked for; expected 1 or more.");
        var all = new List<IReadOnlyList<ImageAnswer>>(images.Count);
        for (var start = 0; start < images.Count; start += options.BatchSize)
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var rows = Math.Min(options.BatchSize, images.Count - start);
            var logits = Logits(Model, Processor, tokenizer, [.. images.Skip(start).Take(rows)], [.. questions.Skip(start).Take(rows)], options.TruncateTexts, options.Device);
            var (values, indexes) = logits.to(ScalarType.Float32).softmax(-1).topk(Math.Min(count, Answers.Count));
            var (likely, which) = (values.cpu().data<float>().ToArray(), indexes.cpu().data<long>().ToArray());
            var each = likely.Length / rows;
            for (var i = 0; i < rows; i++)
                all.Add([.. Enumerable.Range(i * each, each).Select(k => new ImageAnswer(Answers[(int)which[k]], likely[k]))]);
        }
        return all;
    }

    /// <summary>One batch: [images, answers].</summary>
    internal static Tensor Logits(Beit3ForVisualQuestionAnswering model, ImageProcessor processor, Tokenizer tokenizer, IReadOnlyList<Image> images, IReadOnlyList<string> questions, bool truncate, Device? device = null)
    {
        using var scope = NewDisposeScope();
        var tokens = ClipParts.Tokenize(tokenizer, model.Texts!, questions, truncate);
        var (pixels, ids, own) = (processor.Process(images), tokens.InputIds(), ClipParts.MaskOf(model.Texts!, tokens));
        if (device is not null) (pixels, ids, own) = (pixels.to(device), ids.to(device), own?.to(device));
        return model.Logits(pixels, ids, own).MoveToOuterDisposeScope();
    }
}
