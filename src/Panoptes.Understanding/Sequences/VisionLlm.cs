using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>A VisionLLM, as its recipe trains it, with its image processor and its tokenizer: it is told in words what to find and how to write it. Not for several threads at once.</summary>
/// <example><code>
/// using var model = VisionLlm.Load("runs/vision-llm/last");
/// foreach (var found in model.Detect(image, new(["cat", "red apple"], Bins: 24))) Console.WriteLine($"{found.Label} {found.Left:0},{found.Top:0}");
/// </code></example>
/// <inheritdoc cref="UniTab(UniTabModel, ImageProcessor, Tokenizer, Device?)" path="/param"/>
public sealed class VisionLlm(VisionLlmModel model, ImageProcessor processor, Tokenizer tokenizer, Device? device = null) : TrainedSequence<VisionLlmModel>(model, processor, device), IGrounder, IDescriber, IAnswerer
{
    /// <summary>The score that a box must exceed where nothing else is asked for: what is likelier to be no object is left out.</summary>
    const double Usual = 0.5;

    /// <inheritdoc cref="UniTab.Load"/>
    public static VisionLlm Load(string model, LoadOptions? options = null) => SequenceFolder.Load<VisionLlmModel, VisionLlm>(model, options, static (m, p, t, d) => new(m, p, t, d), "a VisionLLM");

    /// <summary>What a query asks for, the surest first; the score is the probability of the class, beside the others of the query and that there is no object.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="query">The names, bins and order.</param>
    /// <param name="threshold">The score that must be exceeded, from 0 to 1; null: 0.5.</param>
    /// <exception cref="PanoptesException">A query that cannot be, or that is too long.</exception>
    public IReadOnlyList<Detection> Detect(Image image, VisionLlmQuery query, double? threshold = null) => Of(image, pixels => Model.Detect(pixels, query, tokenizer, image.Width, image.Height, threshold ?? Usual));

    IReadOnlyList<Detection> IGrounder.Find(Image image, IReadOnlyList<string> texts, double? threshold)
    {
        foreach (var text in texts) Prompt.Text(text).Check(image.Width, image.Height);
        return Detect(image, new([.. texts.Distinct(StringComparer.Ordinal)], Model.Config.MaxBins), threshold);
    }

    public ImageCaption Caption(Image image, SequenceOptions? options = null) => Of(image, pixels => Model.Caption(pixels, tokenizer, options));

    public ImageCaption Answer(Image image, string question) => Of(image, pixels => Model.Answer(pixels, question, tokenizer));
}
