using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>
/// A SEEM with its tokenizer: points, boxes, strokes, masks, words and things of other images in any combination. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var seem = SeemSegmenter.Load("my-seem", ["cat", "dog"]);
/// var masks = seem.Segment(photo, [Prompt.Text("cat"), Prompt.Point(40, 60)]);
/// </code></example>
/// <param name="model">Disposed with this object.</param>
/// <param name="tokenizer">Its own.</param>
/// <param name="vocabulary">As an X-Decoder's.</param>
public sealed class SeemSegmenter(SeemModel model, Tokenizer tokenizer, IReadOnlyList<string> vocabulary) : IPromptable, IDisposable
{
    /// <summary>How many readings of what was pointed at are given.</summary>
    const int Readings = 3;

    public SeemModel Model { get; } = model;

    /// <summary>What needs no pointing: names, captions, label maps.</summary>
    public XDecoderSegmenter Names { get; } = new(model.XDecoder, tokenizer, vocabulary);

    public PromptKinds Takes => Names.Takes | PromptKinds.Points | PromptKinds.Boxes | PromptKinds.Scribbles | PromptKinds.Masks | PromptKinds.Texts | PromptKinds.Examples;

    /// <inheritdoc cref="XDecoderSegmenter.Load"/>
    public static SeemSegmenter Load(string folder, IReadOnlyList<string> vocabulary, LoadOptions? options = null)
    {
        var path = ModelFolder.Resolve(folder);
        return new(PromptableModels.Load<SeemModel>(path, options), Tokenizer.Load(ModelFolder.FolderOf(path)), vocabulary);
    }

    /// <inheritdoc cref="XDecoderSegmenter.Encode"/>
    public DecodedImage Encode(Image image) => Names.Encode(image);

    public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts)
    {
        using var opened = ((IPromptable)this).Open(image);
        return opened.Segment(prompts);
    }

    PanopticAnswer? IPromptable.Panoptic(Image image, IReadOnlyList<string> names) => ((IPromptable)Names).Panoptic(image, names);

    IPromptedImage IPromptable.Open(Image image) => new Opened(this, Encode(image));

    /// <summary>What prompts mean together.</summary>
    /// <param name="image">Encoded.</param>
    /// <param name="prompts">Any; a mask beside other prompts is what the turn before gave, and alone what is to be made better.</param>
    /// <exception cref="PanoptesException">A prompt that does not fit the image, or several texts or examples.</exception>
    public IReadOnlyList<Segment> Segment(DecodedImage image, IReadOnlyList<Prompt> prompts)
    {
        foreach (var prompt in prompts) prompt.Check(image.Width, image.Height);
        var (texts, examples, masks) = (prompts.OfType<TextPrompt>().ToArray(), prompts.OfType<ExamplePrompt>().ToArray(), prompts.OfType<MaskPrompt>().ToArray());
        if (texts.Length > 1 || examples.Length > 1) throw new PanoptesException($"{texts.Length} texts and {examples.Length} examples were given; expected at most one of each for one thing.");
        // A name alone may mean several things.
        if (prompts.Count == 0) return Names.Segment(image, prompts);
        if (prompts is [TextPrompt name] && Names.Called(image, name.Words) is { Count: > 0 } called) return called;

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var before = masks.Length > 0 && masks.Length < prompts.Count ? RunLengthMask.Merge([.. masks.Select(static m => m.Pixels)]) : null;
        var question = new SeemQuestion { Points = Here(prompts.Where(p => before is null || p is not MaskPrompt), image) };
        if (before is not null)
        {
            // Sure of the inside and of the outside.
            var logits = (Bytes(before).unsqueeze(0) * 20) - 10;
            question = question with { Memory = new(XDecoder.Rows(Model.Parts.SpatialFeatured, 1), logits) };
        }
        using var shown = examples is [var example] ? Encode(example.Image) : null;
        if (shown is not null) question = question with { Examples = shown.Maps, ExamplePoints = SeemPrompts.Points(Small(examples[0].Pixels), null, Model.Config.MaxPoints) };
        if (texts is [var text])
        {
            var (ids, mask) = XDecoderSegmenter.Tokens(Names.Tokenizer, Model.Config.TextConfig.MaxPositionEmbeddings, [text.Words]);
            question = question with { Words = Model.XDecoder.Texts.Words(ids, mask), Text = Model.XDecoder.EmbedTexts(ids) };
        }
        var answer = Model.Answer(image.Maps, question);
        return XDecoderSegmenter.Best(answer.Steps[^1].Similarity[0].softmax(-1), answer.Steps[^1].MaskLogits[0], image.Width, image.Height, Readings, texts is [var label] ? label.Words : null);
    }

    /// <summary>Everything that was pointed at in the image itself; null: nothing.</summary>
    SeemPoints? Here(IEnumerable<Prompt> prompts, DecodedImage image)
    {
        var side = Model.Config.ImageSize;
        var (wanted, unwanted, any) = (new byte[side * side], new byte[side * side], false);
        foreach (var prompt in prompts)
        {
            switch (prompt)
            {
                case PointPrompt p:
                    Fill(p.Positive ? wanted : unwanted, p.X, p.Y, p.X, p.Y);
                    break;
                case BoxPrompt b:
                    Fill(wanted, b.Left, b.Top, b.Right, b.Bottom);
                    break;
                case ScribblePrompt s:
                    Draw(s.Positive ? wanted : unwanted, s.Pixels);
                    break;
                case MaskPrompt m:
                    Draw(wanted, m.Pixels);
                    break;
                default:
                    continue;
            }
            any = true;
        }
        return any ? SeemPrompts.Points(Plane(wanted), Plane(unwanted), Model.Config.MaxPoints) : null;

        void Fill(byte[] plane, double left, double top, double right, double bottom)
        {
            var (x0, x1, y0, y1) = (At(left, image.Width), At(right, image.Width), At(top, image.Height), At(bottom, image.Height));
            for (var y = y0; y <= y1; y++) plane.AsSpan((y * side) + x0, x1 - x0 + 1).Fill(1);
        }

        int At(double place, int length) => Math.Clamp((int)(place * side / length), 0, side - 1);

        void Draw(byte[] plane, RunLengthMask pixels)
        {
            var drawn = Small(pixels).to(ScalarType.Byte).flatten().data<byte>().ToArray();
            for (var i = 0; i < plane.Length; i++) plane[i] |= drawn[i];
        }

        Tensor Plane(byte[] plane) => tensor(plane, [1, side, side]).ne(0);
    }

    static Tensor Bytes(RunLengthMask mask)
    {
        var bytes = new byte[mask.Width * mask.Height];
        mask.Decode(bytes);
        return tensor(bytes, [mask.Height, mask.Width]).to(ScalarType.Float32);
    }

    /// <summary>A mask in the model's size, [1, side, side] bool: every pixel that any of it falls into, so that nothing is too thin.</summary>
    Tensor Small(RunLengthMask mask)
    {
        using var scope = NewDisposeScope();
        var side = Model.Config.ImageSize;
        var whole = Bytes(mask).unsqueeze(0).unsqueeze(0);
        return nn.functional.adaptive_max_pool2d(whole, [side, side]).squeeze(0).ne(0).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        Names.Dispose();
        Model.Dispose();
    }

    sealed class Opened(SeemSegmenter model, DecodedImage image) : IPromptedImage
    {
        public IReadOnlyList<Segment> Segment(IReadOnlyList<Prompt> prompts) => model.Segment(image, prompts);

        public void Dispose() => image.Dispose();
    }
}
