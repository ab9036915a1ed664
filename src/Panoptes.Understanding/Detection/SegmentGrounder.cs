using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>
/// A model that segments what words say (X-Decoder, SEEM, Uni-Perceiver), taken for one that draws boxes: those around its segments. So it finds things for a SAM, whose masks are finer than its own.
/// Not for several threads at once.
/// </summary>
/// <example><code>
/// using var model = new GroundedSam(new SegmentGrounder(XDecoderSegmenter.Load("zoo/xdecoder-emoji", [])), Sam.Load("zoo/sam-emoji"));
/// var cats = Model.Segment(photo, [Prompt.Text("cat")]);
/// </code></example>
public sealed class SegmentGrounder : IGrounder
{
    /// <param name="model">Disposed with this object, where it can be.</param>
    /// <exception cref="PanoptesException">It takes no texts.</exception>
    public SegmentGrounder(IPromptable model)
    {
        if (!model.Takes.HasFlag(PromptKinds.Texts)) throw new PanoptesException($"A {model.GetType().Name} takes no texts; expected a model that segments what words say.");
        Model = model;
    }

    /// <summary>What segments.</summary>
    public IPromptable Model { get; }

    public IReadOnlyList<Detection> Find(Image image, IReadOnlyList<string> texts, double? threshold = null) => Boxes(Segments(image, texts), threshold);

    IReadOnlyList<Segment> Segments(Image image, IReadOnlyList<string> texts)
    {
        if (texts.Count == 0) throw new PanoptesException("No text was given; expected what is looked for, such as \"a cat\".");
        using var opened = Model.Open(image);
        return [.. texts.SelectMany(t => opened.Segment([Prompt.Text(t)]).Select(s => s with { Label = t }))];
    }

    public IReadOnlyList<Detection> FindApart(Image image, IReadOnlyList<string> names, double? threshold = null) => Boxes(SegmentApart(image, names), threshold);

    /// <summary>The segments of things that are called by one of some names, labeled with it, told apart where the model can.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="names">A name each, at least one.</param>
    /// <inheritdoc cref="Find" path="/exception"/>
    public IReadOnlyList<Segment> SegmentApart(Image image, IReadOnlyList<string> names) => Model.Panoptic(image, names) is { } answer ? answer.Found.ToSegments() : Segments(image, names);

    public bool FindsAll => Model.Takes.HasFlag(PromptKinds.Everything);

    public IReadOnlyList<Detection> FindAll(Image image, double? threshold = null) => Boxes(Model.Segment(image, []), threshold);

    public bool TakesExamples => Model.Takes.HasFlag(PromptKinds.Examples);

    public IReadOnlyList<Detection> FindLike(Image image, ExamplePrompt example, string label, double? threshold = null) => Boxes(Model.Segment(image, [example]).Select(s => s with { Label = label }), threshold);

    static IReadOnlyList<Detection> Boxes(IEnumerable<Segment> segments, double? threshold) =>
        [.. segments.Where(s => s.Mask.Area > 0 && s.Score > (threshold ?? 0)).OrderByDescending(static s => s.Score).Select(static s => new Detection(s.Box.X, s.Box.Y, s.Box.Right, s.Box.Bottom, s.Score, s.Label ?? ""))];

    public void Dispose() => (Model as IDisposable)?.Dispose();
}
