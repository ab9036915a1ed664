using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>An image as a decoder looks at it: computed once, asked many times.</summary>
public sealed class DecodedImage : IDisposable
{
    internal DecodedImage(DecoderMaps maps, int width, int height)
    {
        (Maps, Width, Height) = (maps, width, height);
        foreach (var tensor in maps.Features.Concat(maps.Positions).Append(maps.MaskFeatures)) tensor.DetachFromDisposeScope();
    }

    /// <summary>They belong to this object.</summary>
    public DecoderMaps Maps { get; }

    /// <summary>Of the image, in pixels.</summary>
    public int Width { get; }

    public int Height { get; }

    public void Dispose()
    {
        foreach (var tensor in Maps.Features.Concat(Maps.Positions).Append(Maps.MaskFeatures)) tensor.Dispose();
    }
}

/// <summary>
/// An X-Decoder with its tokenizer: images and words in; segments, label maps and captions out. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var model = XDecoderSegmenter.Load("my-xdecoder", ["cat", "dog", "apple"]);
/// foreach (var segment in model.Segment(Image.Load("photo.jpg"), [Prompt.Text("the cat left of the apple")])) Console.WriteLine(segment.Box);
/// </code></example>
/// <param name="model">Disposed with this object.</param>
/// <param name="tokenizer">Its own.</param>
/// <param name="vocabulary">What things may be called, where everything is asked for; and what a word is told apart from.</param>
public sealed class XDecoderSegmenter(XDecoderModel model, Tokenizer tokenizer, IReadOnlyList<string> vocabulary) : IPromptable, IDisposable
{
    /// <summary>The name of what is nothing.</summary>
    public const string Background = "background";

    /// <summary>A thing is found from this probability on.</summary>
    const double Threshold = 0.5;

    Tensor? names;                                                       // [vocabulary + 1, projection]

    public XDecoderModel Model { get; } = Ready(model);

    public Tokenizer Tokenizer => tokenizer;

    public IReadOnlyList<string> Vocabulary => vocabulary;

    public PromptKinds Takes => PromptKinds.Texts | (vocabulary.Count > 0 ? PromptKinds.Everything : PromptKinds.None);

    /// <param name="folder">A folder, a file or a hub id.</param>
    /// <param name="vocabulary">As in the constructor.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, or a file of it is missing or broken.</exception>
    public static XDecoderSegmenter Load(string folder, IReadOnlyList<string> vocabulary, LoadOptions? options = null)
    {
        var path = ModelFolder.Resolve(folder);
        return new(PromptableModels.Load<XDecoderModel>(path, options), Tokenizer.Load(ModelFolder.FolderOf(path)), vocabulary);
    }

    static XDecoderModel Ready(XDecoderModel model)
    {
        model.Train(false);
        return model;
    }

    /// <summary>Computes what every question about an image starts from.</summary>
    public DecodedImage Encode(Image image)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return new(Model.Encode(Pixels(image, Model.Config.ImageSize, Model.Config.ImageMean, Model.Config.ImageStd)), image.Width, image.Height);
    }

    /// <summary>An image as the model takes it: [1, 3, side, side].</summary>
    internal static Tensor Pixels(Image image, int side, double[] imageMean, double[] imageStd)
    {
        if (imageMean.Length != 3 || imageStd.Length != 3) throw new PanoptesException("image_mean and image_std have other than 3 numbers.");
        using var scope = NewDisposeScope();
        using var pixels = TensorConversion.ToTensor(image.ToRgb().Resize(side, side), ScalarType.Float32);
        var mean = tensor(imageMean.Select(static v => (float)v).ToArray(), [3, 1, 1]);
        var deviation = tensor(imageStd.Select(static v => (float)v).ToArray(), [3, 1, 1]);
        return ((pixels - mean) / deviation).unsqueeze(0).MoveToOuterDisposeScope();
    }

    /// <summary>Ids and which of them are the texts' own.</summary>
    internal static (Tensor Ids, Tensor Mask) Tokens(Tokenizer tokenizer, int most, IReadOnlyList<string> texts)
    {
        var batch = tokenizer.Encode(texts, most);
        foreach (var i in batch.Truncated) throw new PanoptesException($"The text \"{(texts[i].Length <= 60 ? texts[i] : texts[i][..60] + "…")}\" has {batch.Lengths[i]} tokens; the model takes at most {batch.Columns}.");
        return (batch.InputIds(), batch.AttentionMask());
    }

    Tensor EmbedTexts(IReadOnlyList<string> texts)
    {
        var (ids, _) = Tokens(tokenizer, Model.Config.TextConfig.MaxPositionEmbeddings, texts);
        return Model.EmbedTexts(ids);
    }

    /// <summary>Names as classes, the background last.</summary>
    Tensor Classes(IReadOnlyList<string> list)
    {
        if (list.Count == 0) throw new PanoptesException("No names were given; expected at least one.");
        if (!list.SequenceEqual(vocabulary)) return EmbedTexts([.. list, Background]);
        return names ??= EmbedTexts([.. list, Background]).DetachFromDisposeScope();
    }

    /// <summary>How likely each name is at each place, with gradients to the pictures where they are wanted: [b, names, rows, columns] from 0 to 1.</summary>
    /// <param name="pictures">[b, 3, height, width] from 0 to 1; brought to the model's size, between pixels</param>
    /// <param name="names">At least one.</param>
    public Tensor Likelihoods(Tensor pictures, IReadOnlyList<string> names)
    {
        using var scope = NewDisposeScope();
        var c = Model.Config;
        var sized = nn.functional.interpolate(pictures.to(ScalarType.Float32), [c.ImageSize, c.ImageSize], mode: InterpolationMode.Bilinear, align_corners: false, antialias: Math.Max(pictures.shape[2], pictures.shape[3]) > c.ImageSize);
        Tensor classes;
        using (no_grad()) classes = Classes(names);
        var (mean, deviation) = (tensor(c.ImageMean.Select(static v => (float)v).ToArray(), [1, 3, 1, 1]), tensor(c.ImageStd.Select(static v => (float)v).ToArray(), [1, 3, 1, 1]));
        var found = Model.Segment(Model.Encode((sized - mean) / deviation), classes);
        // The image's own query stands for no thing. Things of a name together may exceed 1.
        return stack([.. Enumerable.Range(0, (int)pictures.shape[0]).Select(i => SegmentationOutput.ClassScores(found.Classes[i].narrow(0, 0, found.Classes.shape[1] - 1), found.Masks[i].narrow(0, 0, found.Classes.shape[1] - 1)).clamp(0, 1))]).MoveToOuterDisposeScope();
    }

    /// <summary>The name of every pixel: positions in <paramref name="classes"/>.</summary>
    public LabelMap Semantic(DecodedImage image, IReadOnlyList<string> classes)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var found = Model.Segment(image.Maps, Classes(classes));
        return SegmentationOutput.Semantic(SegmentationOutput.ClassScores(found.Classes[0], found.Masks[0]), image.Width, image.Height);
    }

    /// <summary>Everything, each pixel in one segment or none.</summary>
    public PanopticSegmentation Panoptic(DecodedImage image, IReadOnlyList<string> classes, SegmentationOptions? options = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        // The image's own query stands for no thing.
        var found = Model.Segment(image.Maps, Classes(classes));
        return SegmentationOutput.Panoptic(found.Classes[0].narrow(0, 0, found.Classes.shape[1] - 1), found.Masks[0].narrow(0, 0, found.Classes.shape[1] - 1), image.Width, image.Height, options ?? new() { RestIsNothing = true }) with { Names = classes };
    }

    PanopticAnswer? IPromptable.Panoptic(Image image, IReadOnlyList<string> names)
    {
        using var encoded = Encode(image);
        return new(Panoptic(encoded, names), static _ => true);
    }

    /// <summary>Things one by one; they may overlap.</summary>
    public InstanceSegmentation Instances(DecodedImage image, IReadOnlyList<string> classes, SegmentationOptions? options = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var found = Model.Segment(image.Maps, Classes(classes));
        return SegmentationOutput.Instances(found.Classes[0].narrow(0, 0, found.Classes.shape[1] - 1), found.Masks[0].narrow(0, 0, found.Classes.shape[1] - 1), image.Width, image.Height, options) with { Names = classes };
    }

    /// <summary>What an expression means: the best first.</summary>
    public IReadOnlyList<Segment> Refer(DecodedImage image, string expression, int most = 1)
    {
        Prompt.Text(expression).Check(image.Width, image.Height);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (ids, mask) = Tokens(tokenizer, Model.Config.TextConfig.MaxPositionEmbeddings, [expression]);
        var (similarity, masks) = Model.Refer(image.Maps, ids, mask);
        return Best(similarity[0].softmax(-1), masks[0], image.Width, image.Height, most, expression);
    }

    /// <summary>The image in a sentence.</summary>
    public string Caption(DecodedImage image)
    {
        using var scope = NewDisposeScope();
        return tokenizer.Decode(Model.Caption(image.Maps)[0]);
    }

    /// <summary>An image in the space of texts, of length 1.</summary>
    public float[] Embed(DecodedImage image)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Model.EmbedImages(image.Maps)[0].to(ScalarType.Float32).data<float>().ToArray();
    }

    /// <summary>A text in the space of images, of length 1.</summary>
    public float[] Embed(string text)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return EmbedTexts([text])[0].to(ScalarType.Float32).data<float>().ToArray();
    }

    public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts)
    {
        using var opened = ((IPromptable)this).Open(image);
        return opened.Segment(prompts);
    }

    IPromptedImage IPromptable.Open(Image image) => new Opened(this, Encode(image));

    /// <summary>What prompts mean: everything by the vocabulary's names, all things of a name, or what an expression means.</summary>
    internal IReadOnlyList<Segment> Segment(DecodedImage image, IReadOnlyList<Prompt> prompts)
    {
        if (prompts.Count == 0) return vocabulary.Count > 0 ? Panoptic(image, vocabulary).ToSegments() : throw new PanoptesException("Nothing was asked for, and no names are known of what could be there; expected a text.");
        if (prompts is not [TextPrompt text]) throw new PanoptesException("This model takes one text at a time, and nothing else.");
        text.Check(image.Width, image.Height);
        return Called(image, text.Words) is { Count: > 0 } called ? called : Refer(image, text.Words);
    }

    /// <summary>All things of a name.</summary>
    internal IReadOnlyList<Segment> Called(DecodedImage image, string name)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        string[] classes = [name, .. vocabulary.Where(v => !v.Equals(name, StringComparison.OrdinalIgnoreCase))];
        var found = Model.Segment(image.Maps, Classes(classes));
        var (queries, chances) = (found.Classes.shape[1] - 1, found.Classes[0].softmax(-1).select(1, 0));
        var sure = (int)chances.narrow(0, 0, queries).ge(Threshold).sum().item<long>();
        return sure == 0 ? [] : Best(chances.narrow(0, 0, queries), found.Masks[0].narrow(0, 0, queries), image.Width, image.Height, sure, name);
    }

    /// <summary>The likeliest masks that are not the same.</summary>
    /// <param name="chances">[queries]</param>
    /// <param name="masks">[queries, rows, columns] logits</param>
    internal static IReadOnlyList<Segment> Best(Tensor chances, Tensor masks, int width, int height, int most, string? label = null)
    {
        const double same = 0.7;
        var (values, order) = chances.to(ScalarType.Float32).sort(0, descending: true);
        var (sure, queries) = (values.data<float>().ToArray(), order.data<long>().ToArray());
        var found = new List<Segment>();
        for (var i = 0; i < queries.Length && found.Count < most; i++)
        {
            using var scope = NewDisposeScope();
            var logits = nn.functional.interpolate(masks[queries[i]].to(ScalarType.Float32).unsqueeze(0).unsqueeze(0), [height, width], mode: InterpolationMode.Bilinear, align_corners: false);
            var inside = logits.gt(0);
            var mask = RunLengthMask.Encode(inside.to(ScalarType.Byte).flatten().data<byte>().ToArray(), height, width);
            if (mask.Area == 0 || found.Exists(f => f.Mask.Iou(mask) > same)) continue;
            found.Add(new(mask, sure[i] * logits.sigmoid().masked_select(inside).mean().item<float>(), label));
        }
        return found;
    }

    public void Dispose()
    {
        names?.Dispose();
        Model.Dispose();
    }

    sealed class Opened(XDecoderSegmenter model, DecodedImage image) : IPromptedImage
    {
        public IReadOnlyList<Segment> Segment(IReadOnlyList<Prompt> prompts) => model.Segment(image, prompts);

        public void Dispose() => image.Dispose();
    }
}
