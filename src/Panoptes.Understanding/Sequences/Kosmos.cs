using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>
/// A Kosmos-2 with its image processor and its tokenizer: it goes on with a text about an image and says of its phrases where they are. An image that is asked about several times in a row goes
/// through the image tower once. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var kosmos = Kosmos.Load("microsoft/kosmos-2-patch14-224");
/// var caption = kosmos.Describe(image);                     // "An image of a snowman warming himself by a fire."
/// foreach (var phrase in caption.Phrases) ...               // "a snowman", with its boxes in pixels
/// </code></example>
public sealed class Kosmos : IGrounder
{
    const string ImageStart = "<image>", ImageEnd = "</image>", Grounding = "<grounding>";

    readonly ImageProcessor processor;
    readonly Tokenizer tokenizer;
    readonly Device? device;
    readonly int firstImageId;
    readonly string start;
    (Image Image, Tensor Embeds)? last;

    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    /// <param name="how">How texts are sought; null: greedily, at most 128 tokens.</param>
    /// <param name="device">Where the model is; null: the CPU.</param>
    /// <exception cref="PanoptesException">The tokenizer knows more than the model, or lacks the marks of images.</exception>
    public Kosmos(Kosmos2Model model, ImageProcessor processor, Tokenizer tokenizer, SequenceOptions? how = null, Device? device = null)
    {
        if (tokenizer.VocabularySize > model.Config.TextConfig.VocabSize)
            throw new PanoptesException($"The tokenizer has {tokenizer.VocabularySize} ids, but the model knows {model.Config.TextConfig.VocabSize}; expected a tokenizer of this model.");
        foreach (var token in (ReadOnlySpan<string>)[ImageStart, ImageEnd, Grounding, "<unk>"])
            if (tokenizer.IdOf(token) is null) throw new PanoptesException($"The tokenizer has no token {token}; expected one of Kosmos-2's.");
        firstImageId = tokenizer.IdOf("<unk>")!.Value + 1;
        start = tokenizer.TokenOf(model.Config.TextConfig.BosTokenId) ?? throw new PanoptesException($"The tokenizer has no token {model.Config.TextConfig.BosTokenId}, with which texts begin.");
        (Model, this.processor, this.tokenizer, Options, this.device) = (model, processor, tokenizer, how ?? Usual, device);
        model.Train(false);
        model.RequiresGrad(false);
        model.Pack();
    }

    static SequenceOptions Usual { get; } = new() { MaxTokens = 128 };

    public Kosmos2Model Model { get; }

    /// <summary>How texts are sought.</summary>
    public SequenceOptions Options { get; set; }

    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>): the model with preprocessor_config.json, its tokenizer and, where there is one, generation_config.json.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, another model, or a file of it is missing or broken.</exception>
    public static Kosmos Load(string model, LoadOptions? options = null)
    {
        var path = ModelFolder.Resolve(model);
        var folder = ModelFolder.FolderOf(path);
        var (processor, tokenizer, how) = (ImageProcessor.Load(folder), Tokenizer.Load(folder), SequenceOptions.Load(folder, Usual));
        var loaded = PromptableModels.Load(path, options);
        try
        {
            return new(loaded as Kosmos2Model ?? throw new PanoptesException($"{model} holds a {loaded.GetType().Name}; expected a Kosmos-2."), processor, tokenizer, how, options?.Device);
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>A description whose phrases have boxes, in pixels.</summary>
    public GroundedCaption Describe(Image image, CaptionDetail detail = CaptionDetail.Brief) =>
        Continue(image, detail == CaptionDetail.Brief ? $"{Grounding} An image of" : $"{Grounding} Describe this image in detail:");

    /// <summary>Where the thing is that a phrase speaks of: "the red apple left of the cat". The score is that of the whole answer.</summary>
    /// <exception cref="PanoptesException">The phrase is empty.</exception>
    public IReadOnlyList<Detection> Ground(Image image, string phrase)
    {
        Prompt.Text(phrase).Check(image.Width, image.Height);
        var (text, score) = Write(image, $"{Grounding}<phrase> {phrase.Trim()}</phrase>");
        var found = new Kosmos2Tokens().Parse(text).Phrases;
        return [.. found.Where(p => p.Text == phrase.Trim() || found.Count == 1).SelectMany(static p => p.Boxes).Select(b => b.Scaled(image.Width, image.Height).Named(phrase.Trim(), score))];
    }

    IReadOnlyList<Detection> IGrounder.Find(Image image, IReadOnlyList<string> texts, double? threshold) => [.. texts.SelectMany(t => Ground(image, t)).Where(d => d.Score > (threshold ?? 0)).OrderByDescending(static d => d.Score)];

    /// <summary>The answer to a question about the image, with boxes for its phrases, in pixels; the question is not part of it.</summary>
    /// <exception cref="PanoptesException">The question is empty.</exception>
    public GroundedCaption Answer(Image image, string question)
    {
        Prompt.Text(question).Check(image.Width, image.Height);
        var prompt = $"{Grounding} Question: {question.Trim()} Answer:";
        var text = Write(image, prompt).Text;
        var at = text.IndexOf("Answer:", StringComparison.Ordinal);
        return InPixels(new Kosmos2Tokens().Parse(at < 0 ? text : text[(at + "Answer:".Length)..]), image);
    }

    /// <summary>A text that the model goes on with; the result begins with it. With <c>&lt;grounding&gt;</c> before it the phrases get boxes, in pixels.</summary>
    /// <exception cref="PanoptesException">The text is longer than the model takes.</exception>
    public GroundedCaption Continue(Image image, string text) => InPixels(new Kosmos2Tokens().Parse(Write(image, text).Text), image);

    /// <summary>The given text and what the model writes after it, with its marks, and how likely a token of that is on average.</summary>
    (string Text, double Score) Write(Image image, string text)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (embeds, queries) = (EmbedsOf(image), Model.Config.LatentQueryNum);
        // The image's tokens are marked as the peer's processor does, and then have ids of their own.
        var marked = $"{start}{string.Join(' ', Enumerable.Repeat(ImageStart, queries + 1))} {ImageEnd} {text.Trim()}";
        var ids = tokenizer.Encode(marked, addSpecialTokens: false);
        var (first, end) = (Array.IndexOf(ids, tokenizer.IdOf(ImageStart)!.Value) + 1, Array.IndexOf(ids, tokenizer.IdOf(ImageEnd)!.Value));
        if (first < 1 || end != first + queries) throw new PanoptesException($"The tokenizer makes {end - first} tokens of an image's {queries}; expected as many.");
        for (var i = 0; i < queries; i++) ids[first + i] = firstImageId + i;
        if (end == ids.Length - 1) throw new PanoptesException("The text is empty; expected words to go on with.");
        var room = Model.Config.TextConfig.MaxPositionEmbeddings;
        if (ids.Length >= room) throw new PanoptesException($"The text has {ids.Length} tokens with the image's; the model takes at most {room - 1}.");
        var places = new long[ids.Length];
        places.AsSpan(first, queries).Fill(1);
        var written = Model.Generate(embeds, tensor([.. ids.Select(static i => (long)i)], [1, ids.Length], device: device), tensor(places, [1, ids.Length], device: device), null, Options)[0];
        return (tokenizer.Decode([.. ids.Skip(end + 1), .. written.Ids]), Math.Exp(Math.Min(0, written.Score)));
    }

    Tensor EmbedsOf(Image image)
    {
        if (last is { } kept && ReferenceEquals(kept.Image, image)) return kept.Embeds;
        last?.Embeds.Dispose();
        last = null;
        var pixels = processor.Process(image);
        var embeds = Model.ImageEmbeds(device is null ? pixels : pixels.to(device)).DetachFromDisposeScope();
        last = (image, embeds);
        return embeds;
    }

    static GroundedCaption InPixels(GroundedCaption caption, Image image) =>
        caption with { Phrases = [.. caption.Phrases.Select(p => p with { Boxes = [.. p.Boxes.Select(b => b.Scaled(image.Width, image.Height))] })] };

    public void Dispose()
    {
        last?.Embeds.Dispose();
        last = null;
        Model.Dispose();
    }
}
