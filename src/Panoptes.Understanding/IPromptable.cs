using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>Kinds of prompts.</summary>
[Flags]
public enum PromptKinds
{
    None,
    Points = 1,
    Boxes = 2,
    Scribbles = 4,
    Masks = 8,
    Texts = 16,
    Examples = 32,

    /// <summary>No prompt at all: everything there is.</summary>
    Everything = 64,
}

/// <summary>Anything that answers prompts with parts of an image: SAM, SEEM, X-Decoder, a detector with a segmenter behind it.</summary>
public interface IPromptable
{
    /// <summary>What it can be asked by.</summary>
    PromptKinds Takes { get; }

    /// <summary>
    /// What the prompts mean, the best first. Points, boxes, strokes and masks together mean one thing, of which several readings may come; a text may mean several; no prompt means
    /// everything there is, each thing once.
    /// </summary>
    /// <param name="image">The picture.</param>
    /// <param name="prompts">In its pixels; of kinds that are taken.</param>
    /// <exception cref="PanoptesException">A prompt of another kind, or one that does not fit the image.</exception>
    IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts);

    /// <summary>Every pixel in one segment or none, from a model that divides images so by itself; null: this one answers prompts alone.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="names">What there may be; none: what the model knows by itself.</param>
    /// <exception cref="PanoptesException">A name that does not fit, or none where the model knows none.</exception>
    PanopticAnswer? Panoptic(Image image, IReadOnlyList<string> names) => null;

    /// <summary>The same for an image that is asked many times; what is computed of it once is kept until it is disposed.</summary>
    IPromptedImage Open(Image image) => new PlainImage(this, image);

    private sealed class PlainImage(IPromptable model, Image image) : IPromptedImage
    {
        public IReadOnlyList<Segment> Segment(IReadOnlyList<Prompt> prompts) => model.Segment(image, prompts);

        public void Dispose() { }
    }
}

/// <summary>An image of which every pixel is in one segment or none.</summary>
/// <param name="Found">The segments.</param>
/// <param name="Things">Whether a class can be counted.</param>
public sealed record PanopticAnswer(PanopticSegmentation Found, Func<int, bool> Things)
{
    /// <summary>Of segments none of whose classes can be counted.</summary>
    internal static PanopticAnswer OfStuff(IReadOnlyList<Segment> segments, Image image) => new(PanopticSegmentation.Of(segments, image.Width, image.Height), static _ => false);
}

/// <summary>An image that is encoded already.</summary>
public interface IPromptedImage : IDisposable
{
    /// <inheritdoc cref="IPromptable.Segment"/>
    IReadOnlyList<Segment> Segment(IReadOnlyList<Prompt> prompts);
}

/// <summary>Tells how well words describe parts of an image.</summary>
public interface INamer
{
    /// <summary>Names of things that it knows, for sentences that hold them; empty where it reads any words.</summary>
    IReadOnlyList<string> Vocabulary { get; }

    /// <summary>How probably each part is what each text says, from 0 to 1, every pair by itself: [parts][texts].</summary>
    IReadOnlyList<IReadOnlyList<float>> Fit(Image image, IReadOnlyList<RunLengthMask> parts, IReadOnlyList<string> texts);
}

/// <summary>A CLIP that looks at each part alone, on a plain ground.</summary>
/// <param name="clip">The model; it stays the caller's.</param>
/// <param name="vocabulary">What parts may be called; a text is likely where it is likelier than these.</param>
/// <param name="template">The sentence that names stand in.</param>
public sealed class ClipNamer(Clip clip, IReadOnlyList<string> vocabulary, string template = "{}") : INamer
{
    /// <summary>How much larger than a part's box the square around it is.</summary>
    const double Margin = 1.15;

    public IReadOnlyList<string> Vocabulary => vocabulary;

    public IReadOnlyList<IReadOnlyList<float>> Fit(Image image, IReadOnlyList<RunLengthMask> parts, IReadOnlyList<string> texts)
    {
        if (parts.Count == 0 || texts.Count == 0) return [.. parts.Select(static _ => Array.Empty<float>())];
        string[] all = [.. texts.Concat(vocabulary).Distinct(StringComparer.OrdinalIgnoreCase)];
        var likely = clip.Classify([.. parts.Select(p => CutOut(image, p))], all, [template]);
        return [.. likely.Select(row =>
        {
            var byLabel = row.ToDictionary(static l => l.Label, static l => l.Probability, StringComparer.OrdinalIgnoreCase);
            return texts.Select(t => byLabel[t]).ToArray();
        })];
    }

    /// <summary>The part alone on white, in a square around it.</summary>
    internal static Image CutOut(Image image, RunLengthMask part)
    {
        var box = part.Box;
        if (box.Area == 0) box = new(0, 0, image.Width, image.Height);
        var side = Math.Max(1, (int)Math.Round(Margin * Math.Max(box.Width, box.Height)));
        var (left, top) = ((int)Math.Round(box.CenterX - (side / 2.0)), (int)Math.Round(box.CenterY - (side / 2.0)));
        var inside = new byte[part.Width * part.Height];
        part.Decode(inside);
        var cut = new Image(side, side, 3);
        Array.Fill(cut.Pixels, (byte)255);
        var (channels, green, blue) = (image.Channels, image.Channels > 1 ? 1 : 0, image.Channels > 1 ? 2 : 0);
        for (var y = Math.Max(box.Y, top); y < Math.Min(box.Bottom, top + side); y++)
        {
            for (var x = Math.Max(box.X, left); x < Math.Min(box.Right, left + side); x++)
            {
                if (inside[(y * part.Width) + x] == 0) continue;
                var (from, to) = (((y * image.Width) + x) * channels, (((y - top) * side) + x - left) * 3);
                (cut.Pixels[to], cut.Pixels[to + 1], cut.Pixels[to + 2]) = (image.Pixels[from], image.Pixels[from + green], image.Pixels[from + blue]);
            }
        }
        return cut;
    }
}
