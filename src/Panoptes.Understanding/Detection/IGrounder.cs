using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>A box, and the words of a text that speak of it.</summary>
/// <param name="Found">In pixels; its label is these words.</param>
/// <param name="Start">Where they begin in the text.</param>
/// <param name="End">Where they end; where they begin, if they are not the text's own.</param>
public sealed record BoundBox(Detection Found, int Start, int End)
{
    /// <summary>A box whose label is looked up in the text, whatever its case.</summary>
    internal static BoundBox In(string text, Detection found)
    {
        var at = found.Label.Length == 0 ? -1 : text.IndexOf(found.Label, StringComparison.OrdinalIgnoreCase);
        return at < 0 ? new(found, 0, 0) : new(found, at, at + found.Label.Length);
    }
}

/// <summary>Anything that draws boxes around what words speak of: OWL-ViT, Grounding DINO and (for its classes) DETR as a <see cref="Detector"/>, <see cref="Florence"/>, <see cref="Kosmos"/>, <see cref="UniTab"/>, and <see cref="Pix2Seq"/> for its classes.</summary>
public interface IGrounder : IDisposable
{
    /// <summary>Everything that is called by one of some names or phrases, labeled with it, the surest first.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="texts">A name or a phrase each, at least one.</param>
    /// <param name="threshold">The score that must be exceeded, from 0 to 1; null: the model's own.</param>
    /// <exception cref="PanoptesException">No text, an empty one, or one that the model cannot read.</exception>
    IReadOnlyList<Detection> Find(Image image, IReadOnlyList<string> texts, double? threshold = null);

    /// <summary>The same of things that are told apart: where a model can, one that is called by a name is called by no other.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="names">A name each, at least one.</param>
    /// <param name="threshold">As in <see cref="Find"/>.</param>
    /// <inheritdoc cref="Find" path="/exception"/>
    IReadOnlyList<Detection> FindApart(Image image, IReadOnlyList<string> names, double? threshold = null) => Find(image, names, threshold);

    /// <summary>Whether it finds things without being told which.</summary>
    bool FindsAll => false;

    /// <summary>Everything that it knows by itself, the surest first.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="threshold">As in <see cref="Find"/>.</param>
    /// <exception cref="PanoptesException">The model finds what it is told alone.</exception>
    IReadOnlyList<Detection> FindAll(Image image, double? threshold = null) => throw new PanoptesException($"A {GetType().Name} finds what it is told; expected a text.");

    /// <summary>What the words of one text speak of, the surest first. A model that takes phrases as a whole binds its boxes to the whole text.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="text">A phrase or a caption.</param>
    /// <param name="threshold">As in <see cref="Find"/>.</param>
    /// <inheritdoc cref="Find" path="/exception"/>
    IReadOnlyList<BoundBox> Ground(Image image, string text, double? threshold = null) => [.. Find(image, [text], threshold).Select(d => new BoundBox(d, 0, text.Length))];

    /// <summary>Whether it finds what is like a thing in another image.</summary>
    bool TakesExamples => false;

    /// <summary>What is like a thing in another image, the surest first.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="example">The thing.</param>
    /// <param name="label">What it is called.</param>
    /// <param name="threshold">As in <see cref="Find"/>.</param>
    /// <exception cref="PanoptesException">The model takes no example, or this one does not fit its image.</exception>
    IReadOnlyList<Detection> FindLike(Image image, ExamplePrompt example, string label, double? threshold = null) => throw new PanoptesException($"A {GetType().Name} takes no example; expected an OWL-ViT.");
}
