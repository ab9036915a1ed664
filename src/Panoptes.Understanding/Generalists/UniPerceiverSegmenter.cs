using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>A Uni-Perceiver v2 with its tokenizer: images and names in; segments and captions out. Not for several threads at once.</summary>
/// <example><code>
/// using var model = UniPerceiverSegmenter.Load("runs/uniperceiver/last", ["cat", "dog", "apple"]);
/// foreach (var thing in model.Panoptic(image, model.Vocabulary).ToSegments()) Console.WriteLine($"{thing.Label} {thing.Box}");
/// </code></example>
/// <param name="model">Disposed with this object.</param>
/// <param name="tokenizer">Its own.</param>
/// <param name="vocabulary">What things may be called, where everything is asked for; and what a name is told apart from.</param>
public sealed class UniPerceiverSegmenter(UniPerceiverModel model, Tokenizer tokenizer, IReadOnlyList<string> vocabulary) : IPromptable, IDisposable
{
    /// <summary>A thing is found from this probability on.</summary>
    const double Threshold = 0.5;

    Tensor? words;                                                       // [words] int64: what captions are made of

    public UniPerceiverModel Model { get; } = SequenceFolder.Ready(model);

    public IReadOnlyList<string> Vocabulary => vocabulary;

    public PromptKinds Takes => PromptKinds.Texts | (vocabulary.Count > 0 ? PromptKinds.Everything : PromptKinds.None);

    /// <param name="folder">A folder, a file or a hub id.</param>
    /// <param name="vocabulary">As in the constructor.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, or a file of it is missing or broken.</exception>
    public static UniPerceiverSegmenter Load(string folder, IReadOnlyList<string> vocabulary, LoadOptions? options = null)
    {
        var path = ModelFolder.Resolve(folder);
        return new(PromptableModels.Load<UniPerceiverModel>(path, options), Tokenizer.Load(ModelFolder.FolderOf(path)), vocabulary);
    }

    /// <summary>Everything, each pixel in one segment or none.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="names">What there may be.</param>
    /// <param name="options">Thresholds.</param>
    /// <exception cref="PanoptesException">No name, or one that is longer than the model takes.</exception>
    public PanopticSegmentation Panoptic(Image image, IReadOnlyList<string> names, SegmentationOptions? options = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var found = Found(image, names);
        return SegmentationOutput.Panoptic(found.Classes[0], found.Masks[0], image.Width, image.Height, options ?? new() { RestIsNothing = true }) with { Names = names };
    }

    PanopticAnswer? IPromptable.Panoptic(Image image, IReadOnlyList<string> names) => new(Panoptic(image, names), static _ => true);

    /// <summary>All things of each name, told apart from the vocabulary's; without a prompt everything that has one of the vocabulary's names.</summary>
    /// <exception cref="PanoptesException">A prompt of another kind, an empty name, or nothing to look for.</exception>
    public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts)
    {
        if (prompts.Count == 0) return vocabulary.Count > 0 ? Panoptic(image, vocabulary).ToSegments() : throw new PanoptesException("Nothing was asked for, and no names are known of what could be there; expected a text.");
        if (prompts.Any(static p => p is not TextPrompt)) throw new PanoptesException("A Uni-Perceiver segments what is named; expected texts and nothing else.");
        foreach (var prompt in prompts) prompt.Check(image.Width, image.Height);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        string[] asked = [.. prompts.Cast<TextPrompt>().Select(static p => p.Words).Distinct(StringComparer.OrdinalIgnoreCase)];
        var found = Found(image, [.. asked, .. vocabulary.Except(asked, StringComparer.OrdinalIgnoreCase)]);
        var chances = found.Classes[0].to(ScalarType.Float32).softmax(-1);
        return [.. asked.SelectMany((name, i) =>
        {
            var chance = chances.select(1, i);
            return XDecoderSegmenter.Best(chance, found.Masks[0], image.Width, image.Height, (int)chance.ge(Threshold).sum().item<long>(), name);
        }).OrderByDescending(static s => s.Score)];
    }

    /// <summary>The image in a sentence, each word the likeliest.</summary>
    public string Caption(Image image)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        words ??= (Model.Config.CaptionTokens is { Length: > 0 } tokens ? tensor(tokens.Select(static id => (long)id).ToArray()) : arange(Model.Config.TextConfig.VocabSize, dtype: ScalarType.Int64)).DetachFromDisposeScope();
        return tokenizer.Decode(Model.Caption(Model.Encode(Pixels(image)), words, Model.Config.TextConfig.MaxPositionEmbeddings)[0]).Trim();
    }

    MaskPrediction Found(Image image, IReadOnlyList<string> names)
    {
        if (names.Count == 0) throw new PanoptesException("No names were given; expected at least one.");
        var (ids, mask) = XDecoderSegmenter.Tokens(tokenizer, Model.Config.TextConfig.MaxPositionEmbeddings, [.. names, XDecoderSegmenter.Background]);
        return Model.Segment(Model.Encode(Pixels(image)), Model.Targets(ids, mask));
    }

    Tensor Pixels(Image image) => XDecoderSegmenter.Pixels(image, Model.Config.ImageSize, Model.Config.ImageMean, Model.Config.ImageStd);

    public void Dispose()
    {
        words?.Dispose();
        Model.Dispose();
    }
}
