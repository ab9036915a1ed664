using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>How <see cref="Detector.Load"/> prepares a model, and how it is then used.</summary>
public sealed record DetectorOptions
{
    /// <summary>The type of the weights; null: as they are stored.</summary>
    public ScalarType? Dtype { get; init; } = ScalarType.Float32;

    /// <summary>Where the model runs; null: the CPU.</summary>
    public Device? Device { get; init; }

    /// <summary>How many images go through the model at once.</summary>
    public int BatchSize { get; init; } = 4;
}

/// <summary>
/// A model that finds things and draws boxes around them, with its image processor and its tokenizer: OWL-ViT and Grounding DINO find what words say, DETR what it was trained on. Reads Hugging Face's
/// folders. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var detector = Detector.Load("google/owlvit-base-patch32");
/// foreach (var found in detector.Detect(Image.Load("photo.jpg"), ["a cat", "a remote control"])) Console.WriteLine($"{found.Score:P0} {found.Label} at {found.Left:F0}, {found.Top:F0}");
/// </code></example>
public sealed class Detector : IGrounder
{
    readonly DetectorOptions options;
    readonly Module whole;

    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    /// <param name="model">An <see cref="OwlVitForObjectDetection"/>, a <see cref="GroundingDinoForObjectDetection"/> a <see cref="DetrForObjectDetection"/>, or the boxes of a <see cref="DetrForSegmentation"/>.</param>
    /// <param name="processor">What prepares its images.</param>
    /// <param name="tokenizer">What reads its texts; null for DETR.</param>
    /// <exception cref="PanoptesException">Another model, or parts that do not fit it.</exception>
    public Detector(Module model, ImageProcessor processor, Tokenizer? tokenizer, DetectorOptions? options = null)
    {
        this.options = options ?? new();
        if (this.options.BatchSize < 1) throw new PanoptesException($"The batch size is {this.options.BatchSize}; expected 1 or more.");
        whole = model;
        if (model is DetrForSegmentation masks) model = masks.Detr;
        (Model, Processor, Tokenizer) = (model, processor, tokenizer);
        var vocabulary = model switch
        {
            OwlVitForObjectDetection owl => owl.Config.TextConfig.VocabSize,
            GroundingDinoForObjectDetection dino => dino.Config.TextConfig.VocabSize,
            DetrForObjectDetection => (int?)null,
            _ => throw new PanoptesException($"This is a {model.GetType().Name}; expected an OWL-ViT, a Grounding DINO or a DETR."),
        };
        if (vocabulary is { } size)
        {
            if (tokenizer is null) throw new PanoptesException($"A {model.GetType().Name} needs a tokenizer.");
            if (tokenizer.VocabularySize > size) throw new PanoptesException($"The tokenizer has {tokenizer.VocabularySize} ids, but the model knows {size}; expected a tokenizer of this model.");
        }
        if (model is OwlVitForObjectDetection any) any.InterpolatePositions = true;
        if (model is DetrForObjectDetection { Config: var c }) Labels = c.Labels();
        model.Train(false);
        model.RequiresGrad(false);
        model.Pack();
    }

    public Module Model { get; }

    public ImageProcessor Processor { get; }

    public Tokenizer? Tokenizer { get; }

    /// <summary>What the model finds, where it reads no texts; otherwise null.</summary>
    public IReadOnlyList<string>? Labels { get; }

    /// <summary>The score that a box must exceed where nothing else is asked for: as the peer's defaults are.</summary>
    public double DefaultThreshold => Model switch { OwlVitForObjectDetection => 0.1, GroundingDinoForObjectDetection => 0.25, _ => 0.5 };

    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>).</param>
    /// <param name="options">The wanted type, device and batch size.</param>
    /// <exception cref="PanoptesException">Nothing there, no detector, or a file of it is missing or broken.</exception>
    public static Detector Load(string model, DetectorOptions? options = null)
    {
        options ??= new();
        var path = ModelFolder.Resolve(model);
        var loaded = PromptableModels.Load(path, new LoadOptions { Dtype = options.Dtype, Device = options.Device });
        try
        {
            var folder = ModelFolder.FolderOf(path);
            return new(loaded, ImageProcessor.Load(folder), loaded is DetrForObjectDetection or DetrForSegmentation ? null : Tokenizer.Load(folder), options);
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>What is found in one image, the surest first.</summary>
    /// <inheritdoc cref="Detect(IReadOnlyList{Image}, IReadOnlyList{string}?, double?, double?, IProgress{int}?, CancellationToken)"/>
    public IReadOnlyList<Detection> Detect(Image image, IReadOnlyList<string>? texts = null, double? threshold = null, double? overlap = null) => Detect([image], texts, threshold, overlap)[0];

    /// <summary>What is found in each image, the surest first. Boxes are in pixels and end at the image's edges.</summary>
    /// <param name="images">At least one.</param>
    /// <param name="texts">What is looked for, a name or a phrase each: the labels of what is found. For DETR some of <see cref="Labels"/>, or null for all of them.</param>
    /// <param name="threshold">The score that must be exceeded, from 0 to 1; null: <see cref="DefaultThreshold"/>.</param>
    /// <param name="overlap">The IoU above which the worse of two boxes with the same label goes; null: all stay.</param>
    /// <param name="progress">Is told how many images are done.</param>
    /// <param name="cancellation">Stops between batches.</param>
    /// <exception cref="PanoptesException">No image, no text or an empty one, one that is too long, or for DETR one that is not of its own.</exception>
    public IReadOnlyList<IReadOnlyList<Detection>> Detect(IReadOnlyList<Image> images, IReadOnlyList<string>? texts = null, double? threshold = null, double? overlap = null, IProgress<int>? progress = null, CancellationToken cancellation = default)
    {
        Check(images, threshold, overlap);
        var least = threshold ?? DefaultThreshold;
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Func<IReadOnlyList<Image>, IReadOnlyList<IReadOnlyList<Detection>>> find;
        switch (Model)
        {
            case DetrForObjectDetection detr:
                find = Of(detr, texts, least);
                break;
            case OwlVitForObjectDetection owl:
                find = Of(owl, Checked(texts), least);
                break;
            default:
                find = Of((GroundingDinoForObjectDetection)Model, Checked(texts), least);
                break;
        }
        return InBatches(images, find, overlap, progress, cancellation);
    }

    /// <summary>What in each image is like the thing that another image shows (OWL-ViT): the example is best filled by the thing, the surest first. Scores are stretched so that each image's best has 1.</summary>
    /// <param name="images">At least one.</param>
    /// <param name="example">The thing.</param>
    /// <param name="label">What it is called.</param>
    /// <param name="threshold">The score before stretching that must be reached, from 0 to 1.</param>
    /// <param name="overlap">The IoU above which the worse of two boxes goes; 1: all stay.</param>
    /// <param name="progress">Is told how many images are done.</param>
    /// <param name="cancellation">Stops between batches.</param>
    /// <exception cref="PanoptesException">No image, or the model is no OWL-ViT.</exception>
    public IReadOnlyList<IReadOnlyList<Detection>> DetectLike(IReadOnlyList<Image> images, Image example, string label = "", double threshold = 0.1, double overlap = 0.3, IProgress<int>? progress = null, CancellationToken cancellation = default)
    {
        if (Model is not OwlVitForObjectDetection owl) throw new PanoptesException($"A {Model.GetType().Name} takes no example; expected an OWL-ViT.");
        Check(images, threshold, overlap);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (query, _) = owl.EncodeExamples(owl.EncodeImages(Pixels([example])));
        return InBatches(images, batch =>
        {
            var output = owl.Detect(owl.EncodeImages(Pixels(batch)), query[0]);
            return DetectionOutput.FromImage(output.Logits, output.Boxes, SizesOf(batch), threshold, overlap, label);
        }, null, progress, cancellation);
    }

    /// <summary>Of two boxes of one text that overlap by more than this, the worse goes where one thing is to have one box.</summary>
    const double Duplicate = 0.5;

    IReadOnlyList<Detection> IGrounder.Find(Image image, IReadOnlyList<string> texts, double? threshold) => Detect(image, texts, threshold, Duplicate);

    bool IGrounder.FindsAll => Labels is not null;

    IReadOnlyList<Detection> IGrounder.FindAll(Image image, double? threshold) => Detect(image, null, threshold, Duplicate);

    bool IGrounder.TakesExamples => Model is OwlVitForObjectDetection;

    IReadOnlyList<Detection> IGrounder.FindLike(Image image, ExamplePrompt example, string label, double? threshold)
    {
        example.Check(image.Width, image.Height);
        return DetectLike([image], example.Image.Crop(example.Pixels.Box), label, threshold ?? DefaultThreshold)[0];
    }

    /// <summary>
    /// What the words of a text speak of, the surest first. Grounding DINO says of every box which tokens it goes with: the words around the surest one that are likely, too, are its own. OWL-ViT takes the
    /// text as one phrase.
    /// </summary>
    /// <param name="image">The picture.</param>
    /// <param name="text">A phrase or a caption.</param>
    /// <param name="threshold">The score that a box must exceed, and a token to be among its words, from 0 to 1; null: <see cref="DefaultThreshold"/>.</param>
    /// <exception cref="PanoptesException">The text is empty, or longer than the model takes.</exception>
    public IReadOnlyList<BoundBox> Ground(Image image, string text, double? threshold = null)
    {
        if (Model is not GroundingDinoForObjectDetection dino) return [.. Detect(image, [text], threshold, Duplicate).Select(d => new BoundBox(d, 0, text.Length))];
        Check([image], threshold, null);
        Checked([text]);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var prompt = CaptionTokens.Of(Tokenizer!, text, dino.Config.MaxTextLen);
        using var padded = Padded([image]);
        var output = dino.Forward(OnDevice(padded.PixelValues), OnDevice(tensor(prompt.Ids, [1, prompt.Ids.Length])), pixelMask: OnDevice(padded.PixelMask));
        var found = DetectionOutput.FromWords(output.Logits, output.Boxes, SizesOf([image]), threshold ?? DefaultThreshold, prompt)[0];
        return [.. found.Select(b => b with { Found = Inside(b.Found, image) }).OrderByDescending(static b => b.Found.Score)];
    }

    static Detection Inside(Detection d, Image image) =>
        d with { Left = Math.Clamp(d.Left, 0, image.Width), Top = Math.Clamp(d.Top, 0, image.Height), Right = Math.Clamp(d.Right, 0, image.Width), Bottom = Math.Clamp(d.Bottom, 0, image.Height) };

    static void Check(IReadOnlyList<Image> images, double? threshold, double? overlap)
    {
        if (images.Count == 0) throw new PanoptesException("No images: expected at least one.");
        if (threshold is not null and not (>= 0 and <= 1)) throw new PanoptesException(FormattableString.Invariant($"The threshold is {threshold}; expected 0 to 1."));
        if (overlap is not null and not (>= 0 and <= 1)) throw new PanoptesException(FormattableString.Invariant($"The overlap is {overlap}; expected 0 to 1."));
    }

    static string[] Checked(IReadOnlyList<string>? texts)
    {
        if (texts is not { Count: > 0 }) throw new PanoptesException("No texts were given; expected what is looked for, such as \"a cat\".");
        if (texts.Any(string.IsNullOrWhiteSpace)) throw new PanoptesException("A text is empty; expected what is looked for, such as \"a cat\".");
        return [.. texts];
    }

    Func<IReadOnlyList<Image>, IReadOnlyList<IReadOnlyList<Detection>>> Of(DetrForObjectDetection detr, IReadOnlyList<string>? texts, double threshold)
    {
        foreach (var text in texts ?? [])
            if (!Labels!.Contains(text, StringComparer.OrdinalIgnoreCase))
                throw new PanoptesException($"This model does not know \"{text}\"; it finds {string.Join(", ", Labels!.Take(20))}{(Labels!.Count > 20 ? $" and {Labels!.Count - 20} more" : "")}.");
        return batch =>
        {
            using var padded = Padded(batch);
            var output = detr.Forward(OnDevice(padded.PixelValues), OnDevice(padded.PixelMask));
            var found = DetectionOutput.FromClasses(output.Logits, output.Boxes, SizesOf(batch), threshold, i => Labels![i]);
            return texts is null ? found : [.. found.Select(image => (IReadOnlyList<Detection>)[.. image.Where(d => texts.Contains(d.Label, StringComparer.OrdinalIgnoreCase))])];
        };
    }

    Func<IReadOnlyList<Image>, IReadOnlyList<IReadOnlyList<Detection>>> Of(OwlVitForObjectDetection owl, string[] texts, double threshold)
    {
        var tokens = Tokenizer!.Encode(texts, owl.Config.TextConfig.MaxPositionEmbeddings);
        foreach (var i in tokens.Truncated) throw new PanoptesException($"The text \"{texts[i]}\" has {tokens.Lengths[i]} tokens; the model takes at most {tokens.Columns}.");
        var queries = owl.EncodeTexts(OnDevice(tokens.InputIds()));
        return batch =>
        {
            var output = owl.Detect(owl.EncodeImages(Pixels(batch)), queries);
            return DetectionOutput.FromTexts(output.Logits, output.Boxes, SizesOf(batch), threshold, i => texts[i]);
        };
    }

    Func<IReadOnlyList<Image>, IReadOnlyList<IReadOnlyList<Detection>>> Of(GroundingDinoForObjectDetection dino, string[] texts, double threshold)
    {
        var prompts = GroundingPrompt.Of(Tokenizer!, texts, dino.Config.MaxTextLen);
        return batch =>
        {
            using var padded = Padded(batch);
            var (pixels, mask) = (OnDevice(padded.PixelValues), OnDevice(padded.PixelMask));
            var found = new List<Detection>[batch.Count];
            for (var i = 0; i < found.Length; i++) found[i] = [];
            // Texts that do not fit together are looked for one part after the other.
            foreach (var prompt in prompts)
            {
                using var inner = NewDisposeScope();
                var output = dino.Forward(pixels, OnDevice(tensor(prompt.Ids, [1, prompt.Ids.Length])).expand(batch.Count, -1), pixelMask: mask);
                foreach (var (image, i) in DetectionOutput.FromTokens(output.Logits, output.Boxes, SizesOf(batch), threshold, prompt.Spans, prompt.Texts).Select(static (x, i) => (x, i))) found[i].AddRange(image);
            }
            return found;
        };
    }

    List<IReadOnlyList<Detection>> InBatches(IReadOnlyList<Image> images, Func<IReadOnlyList<Image>, IReadOnlyList<IReadOnlyList<Detection>>> find, double? overlap, IProgress<int>? progress, CancellationToken cancellation)
    {
        using var pause = images.Count > options.BatchSize ? Native.FinalizerPause.TryBegin() : null;
        var all = new List<IReadOnlyList<Detection>>(images.Count);
        for (var start = 0; start < images.Count; start += options.BatchSize)
        {
            cancellation.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            Image[] batch = [.. images.Skip(start).Take(options.BatchSize)];
            foreach (var (found, image) in find(batch).Zip(batch)) all.Add(Sorted(found, image, overlap));
            progress?.Report(start + batch.Length);
            pause?.Drain();
        }
        return all;
    }

    /// <summary>The surest first, inside the image, without what a better box of the same label covers.</summary>
    static IReadOnlyList<Detection> Sorted(IReadOnlyList<Detection> found, Image image, double? overlap)
    {
        Detection[] sorted = [.. found.Select(d => Inside(d, image)).OrderByDescending(static d => d.Score)];
        return overlap is { } most ? BoxNms.Keep(sorted, most) : sorted;
    }

    PaddedBatch Padded(IReadOnlyList<Image> images)
    {
        if (Processor is PaddedImageProcessor padded) return padded.ProcessPadded(images);
        var pixels = Processor.Process(images);
        return new(pixels, ones([images.Count, pixels.shape[2], pixels.shape[3]], ScalarType.Bool), [.. images.Select(_ => ((int)pixels.shape[2], (int)pixels.shape[3]))]);
    }

    Tensor Pixels(IReadOnlyList<Image> images) => OnDevice(Processor.Process(images));

    Tensor OnDevice(Tensor tensor) => options.Device is { } device ? tensor.to(device) : tensor;

    static (int, int)[] SizesOf(IReadOnlyList<Image> images) => [.. images.Select(static i => (i.Height, i.Width))];

    public void Dispose() => whole.Dispose();
}

/// <summary>Phrases as Grounding DINO reads them: in lower case, each with a full stop after it.</summary>
/// <param name="Ids">The tokens of all.</param>
/// <param name="Spans">Each phrase's own tokens: the first, and the one after the last.</param>
/// <param name="Texts">The phrases as they were given.</param>
public sealed record GroundingPrompt(long[] Ids, IReadOnlyList<(int Start, int End)> Spans, IReadOnlyList<string> Texts)
{
    /// <summary>As many phrases together as the model reads at once.</summary>
    /// <param name="tokenizer">BERT's.</param>
    /// <param name="texts">Phrases.</param>
    /// <param name="most">How many tokens the model takes.</param>
    /// <exception cref="PanoptesException">One phrase alone has more tokens, or is more than one phrase or none to the tokenizer.</exception>
    public static IReadOnlyList<GroundingPrompt> Of(Tokenizer tokenizer, IReadOnlyList<string> texts, int most)
    {
        var prompts = new List<GroundingPrompt>();
        for (var start = 0; start < texts.Count;)
        {
            // Phrases do not change each other's tokens: grown one by one, they fit until they do not.
            var last = One(tokenizer, [texts[start]]);
            if (last.Ids.Length > most) throw new PanoptesException($"The text \"{texts[start]}\" has {last.Ids.Length} tokens; the model takes at most {most}.");
            var count = 1;
            for (var length = last.Ids.Length; start + count < texts.Count && (length += One(tokenizer, [texts[start + count]]).Ids.Length - 2) <= most; count++) { }
            prompts.Add(count == 1 ? last : One(tokenizer, [.. texts.Skip(start).Take(count)]));
            start += count;
        }
        return prompts;
    }

    static GroundingPrompt One(Tokenizer tokenizer, string[] texts)
    {
        long[] ids = [.. tokenizer.Encode(string.Join(' ', texts.Select(static t => $"{t.Trim().TrimEnd('.').ToLowerInvariant()}."))).Select(static i => (long)i)];
        var spans = new List<(int, int)>();
        for (var (start, i) = (0, 0); i < ids.Length; i++)
        {
            if (!PhraseMasks.IsEnd(ids[i])) continue;
            if (i > start) spans.Add((start, i));
            start = i + 1;
        }
        if (spans.Count != texts.Length)
            throw new PanoptesException(texts.Length == 1 ? $"The text \"{texts[0]}\" is {spans.Count} phrases to the tokenizer; expected one, without full stops and question marks inside." : $"{texts.Length} texts are {spans.Count} phrases to the tokenizer.");
        return new(ids, spans, texts);
    }
}

/// <summary>A caption as Grounding DINO reads it, in lower case with a full stop behind it, and what of it each token stands for.</summary>
/// <param name="Text">As it was given.</param>
/// <param name="Ids">Its tokens.</param>
/// <param name="Words">The part of the text that each token's word is; null for what is none: marks of punctuation, beginning and end.</param>
public sealed record CaptionTokens(string Text, long[] Ids, IReadOnlyList<(int Start, int End)?> Words)
{
    /// <param name="tokenizer">BERT's.</param>
    /// <param name="text">A phrase or a caption.</param>
    /// <param name="most">How many tokens the model takes.</param>
    /// <exception cref="PanoptesException">It has more tokens, or no word.</exception>
    public static CaptionTokens Of(Tokenizer tokenizer, string text, int most)
    {
        var read = $"{text.TrimEnd().TrimEnd('.').ToLowerInvariant()}.";
        var encoded = tokenizer.EncodeDetailed(read);
        if (encoded.Length > most) throw new PanoptesException($"The text \"{text}\" has {encoded.Length} tokens; the model takes at most {most}.");
        // Tokens' places are counted in code points, a text's in chars.
        var places = new List<int>();
        for (var i = 0; i < read.Length; i += char.IsSurrogatePair(read, i) ? 2 : 1) places.Add(i);
        places.Add(read.Length);
        var words = new (int, int)?[encoded.Length];
        for (var i = 0; i < words.Length; i++)
        {
            var (start, end) = encoded.Offsets[i];
            (start, end) = (places[start], places[end]);
            if (read[start..end].All(static c => char.IsPunctuation(c) || char.IsWhiteSpace(c))) continue;
            while (start > 0 && char.IsLetterOrDigit(read[start - 1])) start--;
            while (end < read.Length && char.IsLetterOrDigit(read[end])) end++;
            words[i] = (start, end);
        }
        return words.All(static w => w is null) ? throw new PanoptesException($"The text \"{text}\" has no word.") : new(text, [.. encoded.Ids.Select(static i => (long)i)], words);
    }

    /// <summary>The words around a token that are likely, too.</summary>
    /// <param name="token">One that is of a word.</param>
    /// <param name="likely">Which tokens are.</param>
    internal (int Start, int End) Around(int token, Func<int, bool> likely)
    {
        var (start, end) = Words[token]!.Value;
        for (var i = token - 1; i >= 0 && Words[i] is { } w && (w.Start == start || likely(i)); i--) start = w.Start;
        for (var i = token + 1; i < Words.Count && Words[i] is { } w && (w.End == end || likely(i)); i++) end = w.End;
        return (start, end);
    }
}
