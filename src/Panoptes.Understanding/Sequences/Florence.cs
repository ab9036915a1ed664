using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>How much a description says.</summary>
public enum CaptionDetail
{
    /// <summary>A sentence.</summary>
    Brief,

    /// <summary>Some sentences.</summary>
    Detailed,

    /// <summary>A paragraph.</summary>
    Paragraph,
}

/// <summary>
/// A Florence-2 with its image processor and its tokenizer: one model that describes, detects, grounds, segments and reads, each task asked for in words and answered in text with places in
/// it. An image that is asked about several times in a row goes through the image tower once. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var florence = Florence.Load("florence-community/Florence-2-base");
/// Console.WriteLine(florence.Caption(image));
/// foreach (var segment in florence.Segment(image, "the red apple left of the cat")) ...
/// </code></example>
public sealed class Florence : IGrounder
{
    readonly ImageProcessor processor;
    readonly Tokenizer tokenizer;
    readonly Device? device;
    (Image Image, Tensor Features)? last;

    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    /// <param name="how">How answers are sought; null: as the authors do, by three beams.</param>
    /// <param name="device">Where the model is; null: the CPU.</param>
    /// <exception cref="PanoptesException">The tokenizer knows more than the model.</exception>
    public Florence(Florence2Model model, ImageProcessor processor, Tokenizer tokenizer, SequenceOptions? how = null, Device? device = null)
    {
        if (tokenizer.VocabularySize > model.Config.TextConfig.VocabSize)
            throw new PanoptesException($"The tokenizer has {tokenizer.VocabularySize} ids, but the model knows {model.Config.TextConfig.VocabSize}; expected a tokenizer of this model.");
        (Model, this.processor, this.tokenizer, Options, this.device) = (model, processor, tokenizer, how ?? Usual, device);
        model.Train(false);
        model.RequiresGrad(false);
        model.Pack();
    }

    static SequenceOptions Usual { get; } = new() { Beams = 3, StopEarly = true, NoRepeatNgram = 3, MaxTokens = 1024 };

    public Florence2Model Model { get; }

    /// <summary>How answers are sought.</summary>
    public SequenceOptions Options { get; set; }

    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>): the model with preprocessor_config.json, its tokenizer and, where there is one, generation_config.json.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, another model, or a file of it is missing or broken.</exception>
    public static Florence Load(string model, LoadOptions? options = null)
    {
        var path = ModelFolder.Resolve(model);
        var folder = ModelFolder.FolderOf(path);
        var (processor, tokenizer, how) = (ImageProcessor.Load(folder), Tokenizer.Load(folder), SequenceOptions.Load(folder, Usual));
        var loaded = PromptableModels.Load(path, options);
        try
        {
            return new(loaded as Florence2Model ?? throw new PanoptesException($"{model} holds a {loaded.GetType().Name}; expected a Florence-2."), processor, tokenizer, how, options?.Device);
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>A description of the image.</summary>
    public string Caption(Image image, CaptionDetail detail = CaptionDetail.Brief) => Say(image, detail switch
    {
        CaptionDetail.Brief => "What does the image describe?",
        CaptionDetail.Detailed => "Describe in detail what is shown in the image.",
        _ => "Describe with a paragraph what is shown in the image.",
    });

    /// <summary>All things of the kinds that it knows. The score is that of the whole answer.</summary>
    public IReadOnlyList<Detection> Detect(Image image) => Boxes(image, "Locate the objects with category name in the image.");

    /// <summary>Things with a description each, instead of the name of a kind.</summary>
    public IReadOnlyList<Detection> DescribeRegions(Image image) => Boxes(image, "Locate the objects in the image, with their descriptions.");

    /// <summary>Where there is something, without a name.</summary>
    public IReadOnlyList<Detection> ProposeRegions(Image image) => Boxes(image, "Locate the region proposals in the image.", named: false);

    /// <summary>What the phrases of a text speak of: "the red apple left of the cat".</summary>
    /// <exception cref="PanoptesException">The text is empty.</exception>
    public IReadOnlyList<Detection> Ground(Image image, string caption) => Boxes(image, $"Locate the phrases in the caption: {Words(image, caption)}");

    /// <summary>Everything that is called so.</summary>
    /// <exception cref="PanoptesException">The name is empty.</exception>
    public IReadOnlyList<Detection> Find(Image image, string name)
    {
        var (text, score) = Answer(image, $"Locate {Words(image, name)} in the image.");
        return [.. Florence2Tokens.BoxesOrPolygons(text, image.Width, image.Height).SelectMany(f => f.Boxes.Concat(f.Polygons.Where(static p => p.Count > 0).Select(static p =>
            new ImageBox(p.Min(static q => q.X), p.Min(static q => q.Y), p.Max(static q => q.X), p.Max(static q => q.Y)))).Select(b => b.Ordered().Named(f.Name, score)))];
    }

    bool IGrounder.FindsAll => true;

    IReadOnlyList<Detection> IGrounder.FindAll(Image image, double? threshold) => [.. Detect(image).Where(d => d.Score > (threshold ?? 0)).OrderByDescending(static d => d.Score)];

    IReadOnlyList<Detection> IGrounder.Find(Image image, IReadOnlyList<string> texts, double? threshold) =>
        [.. texts.SelectMany(t => Find(image, t).Select(d => d with { Label = t.Trim() })).Where(d => d.Score > (threshold ?? 0)).OrderByDescending(static d => d.Score)];

    IReadOnlyList<BoundBox> IGrounder.Ground(Image image, string text, double? threshold) => [.. Ground(image, text).Where(d => d.Score > (threshold ?? 0)).Select(d => BoundBox.In(text, d))];

    /// <summary>The pixels of what an expression speaks of.</summary>
    /// <exception cref="PanoptesException">The expression is empty.</exception>
    public IReadOnlyList<Segment> Segment(Image image, string expression) => Segments(image, $"Locate {Words(image, expression)} in the image with mask", expression);

    /// <summary>The pixels of the thing in a box.</summary>
    /// <exception cref="PanoptesException">The box is empty or outside the image.</exception>
    public IReadOnlyList<Segment> Segment(Image image, BoxPrompt box) => Segments(image, $"What is the polygon mask of region {Region(image, box)}", null);

    /// <summary>What is in a box: a name.</summary>
    /// <exception cref="PanoptesException">The box is empty or outside the image.</exception>
    public string Name(Image image, BoxPrompt box) => Florence2Words(Say(image, $"What is the region {Region(image, box)}?"));

    /// <summary>What is in a box: a description.</summary>
    /// <exception cref="PanoptesException">The box is empty or outside the image.</exception>
    public string Describe(Image image, BoxPrompt box) => Florence2Words(Say(image, $"What does the region {Region(image, box)} describe?"));

    /// <summary>The text that is written in the image.</summary>
    public string Read(Image image) => Say(image, "What is the text in the image?");

    /// <summary>The text that is written in the image, line by line, with where it is.</summary>
    public IReadOnlyList<FlorenceWords> ReadLines(Image image) => Florence2Tokens.Words(Answer(image, "What is the text in the image, with regions?").Text, image.Width, image.Height);

    /// <summary>What the model writes when it is asked something of one's own, with its places as it writes them, and how likely a token of it is on average.</summary>
    /// <exception cref="PanoptesException">The question is longer than the model takes.</exception>
    public (string Text, double Score) Answer(Image image, string question)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (features, text) = (FeaturesOf(image), Model.Config.TextConfig);
        long[] ids = [.. Enumerable.Repeat((long)Model.Config.ImageTokenId, (int)features.shape[1]), text.BosTokenId, .. tokenizer.Encode(question, addSpecialTokens: false).Select(static i => (long)i), text.EosTokenId];
        if (ids.Length > text.MaxPositionEmbeddings) throw new PanoptesException($"The question has {ids.Length - features.shape[1]} tokens beside the image's {features.shape[1]}; the model takes at most {text.MaxPositionEmbeddings}.");
        var written = Model.Generate(features, tensor(ids, [1, ids.Length], device: device), null, Options)[0];
        return (Florence2Tokens.Plain(tokenizer.Decode(written.Ids, skipSpecialTokens: false)), Math.Exp(Math.Min(0, written.Score)));
    }

    Tensor FeaturesOf(Image image)
    {
        if (last is { } kept && ReferenceEquals(kept.Image, image)) return kept.Features;
        last?.Features.Dispose();
        last = null;
        var pixels = processor.Process(image);
        var features = Model.ImageFeatures(device is null ? pixels : pixels.to(device)).DetachFromDisposeScope();
        last = (image, features);
        return features;
    }

    string Say(Image image, string question) => Answer(image, question).Text.Trim();

    static string Florence2Words(string text) => text.IndexOf("<loc_", StringComparison.Ordinal) is >= 0 and var at ? text[..at].Trim() : text;

    IReadOnlyList<Detection> Boxes(Image image, string question, bool named = true)
    {
        var (text, score) = Answer(image, question);
        return [.. Florence2Tokens.Boxes(text, image.Width, image.Height, named).SelectMany(f => f.Boxes.Select(b => b.Ordered().Named(f.Name, score)))];
    }

    List<Segment> Segments(Image image, string question, string? label)
    {
        var (text, score) = Answer(image, question);
        var segments = new List<Segment>();
        foreach (var thing in Florence2Tokens.Polygons(text, image.Width, image.Height, named: false))
        {
            IReadOnlyList<double>[] polygons = [.. thing.Polygons.Where(static p => p.Count >= 3).Select(static p => (IReadOnlyList<double>)[.. p.SelectMany(static q => new[] { q.X, q.Y })])];
            if (polygons.Length > 0) segments.Add(new(RunLengthMask.FromPolygons(polygons, image.Height, image.Width), (float)score, label));
        }
        return segments;
    }

    static string Words(Image image, string text)
    {
        Prompt.Text(text).Check(image.Width, image.Height);
        return text.Trim();
    }

    static string Region(Image image, BoxPrompt box)
    {
        box.Check(image.Width, image.Height);
        return Florence2Tokens.OfBox(new(box.Left, box.Top, box.Right, box.Bottom), image.Width, image.Height);
    }

    public void Dispose()
    {
        last?.Features.Dispose();
        last = null;
        Model.Dispose();
    }
}
