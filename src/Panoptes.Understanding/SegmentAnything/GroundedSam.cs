using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>
/// A SAM that reads: words are looked for by a model that draws boxes, and what is in a box is cut out by the SAM (Grounded SAM, Ren et al. 2024, arXiv:2401.14159). Not for several threads at
/// once.
/// </summary>
/// <example><code>
/// using var model = new GroundedSam(Detector.Load("google/owlvit-base-patch32"), Sam.Load("facebook/sam-vit-base"));
/// foreach (var cat in model.Segment(photo, [Prompt.Text("a cat")])) Console.WriteLine($"{cat.Label}: {cat.Mask.Area} pixels");
/// </code></example>
/// <param name="grounder">Finds boxes; disposed with this object.</param>
/// <param name="sam">Answers places; disposed with this object.</param>
public sealed class GroundedSam(IGrounder grounder, Sam sam) : IPromptable, IDisposable
{
    public IGrounder Grounder => grounder;

    public Sam Sam => sam;

    /// <summary>The score that a box must exceed; null: the grounder's own.</summary>
    public double? Threshold { get; init; }

    public PromptKinds Takes => sam.Takes | PromptKinds.Texts | (grounder.TakesExamples ? PromptKinds.Examples : PromptKinds.None);

    /// <summary>
    /// Places alone: what the SAM says. Words or examples alone: everything that is called, or looks, so; a score is the box's times the mask's. Both together: the one thing called so that the
    /// places are on. No prompt: everything.
    /// </summary>
    /// <inheritdoc cref="IPromptable.Segment"/>
    public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts)
    {
        if (prompts.Count == 0) return sam.Everything(image);
        using var encoded = sam.Encode(image);
        return Answer(encoded, image, prompts);
    }

    /// <summary>The same of many things, for which the image is encoded once.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="groups">The prompts of each.</param>
    /// <param name="choice">Which of the SAM's masks of each.</param>
    /// <inheritdoc cref="IPromptable.Segment" path="/exception"/>
    public IReadOnlyList<IReadOnlyList<Segment>> Segment(Image image, IReadOnlyList<IReadOnlyList<Prompt>> groups, MaskChoice choice)
    {
        using var encoded = sam.Encode(image);
        return [.. groups.Select(g => Answer(encoded, image, g, choice, choice))];
    }

    /// <summary>Things that are called by one of the names.</summary>
    /// <inheritdoc cref="IPromptable.Panoptic"/>
    public PanopticAnswer? Panoptic(Image image, IReadOnlyList<string> names)
    {
        if (names.Count == 0) return null;
        var boxes = grounder.FindApart(image, names, Threshold).Where(HasArea).ToArray();
        using var encoded = sam.Encode(image);
        return new(PanopticSegmentation.Of(CutOut(encoded, boxes, [], MaskChoice.Best), image.Width, image.Height), static _ => true);
    }

    public IPromptedImage Open(Image image) => new Opened(this, image);

    /// <summary>A thing with a box of its own leaves less doubt than a click: for it the best mask alone is given.</summary>
    IReadOnlyList<Segment> Answer(SamImage encoded, Image image, IReadOnlyList<Prompt> prompts, MaskChoice ofPlaces = MaskChoice.All, MaskChoice ofBoxes = MaskChoice.Best)
    {
        foreach (var prompt in prompts) prompt.Check(image.Width, image.Height);
        string[] texts = [.. prompts.OfType<TextPrompt>().Select(static t => t.Words)];
        var (examples, places) = (prompts.OfType<ExamplePrompt>().ToArray(), prompts.Where(static p => p is not (TextPrompt or ExamplePrompt)).ToArray());
        if (texts.Length + examples.Length == 0) return sam.Segment(encoded, [places], ofPlaces)[0];
        var boxes = (texts.Length == 0 ? [] : grounder.Find(image, texts, Threshold)).Concat(examples.SelectMany((e, i) => grounder.FindLike(image, e, $"example {i + 1}", Threshold))).Where(HasArea).ToArray();
        var meant = places.Where(static p => p is not (PointPrompt { Positive: false } or ScribblePrompt { Positive: false })).ToArray();
        if (meant.Length > 0) boxes = [.. boxes.Select(b => (Box: b, Fit: meant.Aggregate((double)b.Score, (fit, p) => fit * Fit(b, p)))).Where(static f => f.Fit > 0).OrderByDescending(static f => f.Fit).Take(1).Select(static f => f.Box)];
        return CutOut(encoded, boxes, places, ofBoxes);
    }

    /// <summary>What is in boxes, the surest first.</summary>
    IReadOnlyList<Segment> CutOut(SamImage encoded, Detection[] boxes, Prompt[] places, MaskChoice choice)
    {
        if (boxes.Length == 0) return [];
        // What was drawn around is taken as drawn; what is not meant says nothing of things that it is not on.
        var found = sam.Segment(encoded, [.. boxes.Select(b => (IReadOnlyList<Prompt>)[.. places.OfType<BoxPrompt>().Any() ? [] : (Prompt[])[Prompt.Box(b.Left, b.Top, b.Right, b.Bottom)], .. places.Where(p => Fit(b, p) > 0)])], choice);
        return [.. boxes.Zip(found, static (b, masks) => masks.Select(m => m with { Score = m.Score * b.Score, Label = b.Label })).SelectMany(static m => m).Where(static m => m.Mask.Area > 0).OrderByDescending(static m => m.Score)];
    }

    static bool HasArea(Detection box) => box.Right > box.Left && box.Bottom > box.Top;

    /// <summary>How well what is meant goes with a box: whether it is in it, or how much of both is shared.</summary>
    static double Fit(Detection box, Prompt place)
    {
        return place switch
        {
            PointPrompt p => Within(p.X, p.Y) ? 1 : 0,
            ScribblePrompt s => Within(s.Pixels.Box.CenterX, s.Pixels.Box.CenterY) ? 1 : 0,
            BoxPrompt b => Shared(new((float)b.Left, (float)b.Top, (float)b.Right, (float)b.Bottom)),
            MaskPrompt { Pixels.Box: var m } => Shared(new(m.X, m.Y, m.Right, m.Bottom)),
            _ => 0,
        };

        bool Within(double x, double y) => box.Left <= x && x <= box.Right && box.Top <= y && y <= box.Bottom;

        double Shared(EdgeBox drawn) => new EdgeBox(box.Left, box.Top, box.Right, box.Bottom).Iou(drawn);
    }

    public void Dispose()
    {
        grounder.Dispose();
        sam.Dispose();
    }

    sealed class Opened(GroundedSam model, Image image) : IPromptedImage
    {
        readonly SamImage encoded = model.Sam.Encode(image);

        public IReadOnlyList<Segment> Segment(IReadOnlyList<Prompt> prompts) => prompts.Count == 0 ? model.Sam.Everything(image) : model.Answer(encoded, image, prompts);

        public void Dispose() => encoded.Dispose();
    }
}
