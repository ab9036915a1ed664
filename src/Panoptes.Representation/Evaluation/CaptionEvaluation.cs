using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;

namespace Panoptes.Representation.Evaluation;

/// <summary>What a model's captions are worth.</summary>
/// <param name="Model">Of each image its own caption.</param>
/// <param name="Chance">The same captions at images of other names: what is scored by how captions are worded, whatever is to be seen.</param>
public sealed record CaptionReport(CaptionScores Model, CaptionScores Chance);

/// <summary>A test of a model that writes captions (<see cref="ICaptionWriter"/>) on the emoji's held-out style: what it says of a drawing, against the drawing's name in every template.</summary>
public static class CaptionEvaluation
{
    /// <param name="model">An <see cref="ICaptionWriter"/>; in evaluation mode meanwhile, and as it was afterwards.</param>
    /// <param name="processor">Of the model.</param>
    /// <param name="tokenizer">Of the model, with a start and an end token.</param>
    /// <param name="set">All or some of the emoji; concepts that no model is trained on are left out, since nobody says a name never heard.</param>
    /// <param name="templates">What an image's references are made of, <c>{}</c> being its name.</param>
    /// <param name="search">How captions are sought.</param>
    /// <param name="batchSize">Images that are written about at once.</param>
    /// <param name="progress">Told of every batch.</param>
    /// <param name="cancel">Ends it early.</param>
    public static CaptionReport Run(Module model, ImageProcessor processor, Tokenizer tokenizer, EmojiSet set, IReadOnlyList<string> templates, CaptionOptions? search = null, int batchSize = 128, IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        if (model is not ICaptionWriter writer) throw new PanoptesException($"A {model.GetType().Name} writes no captions that could be measured.");
        var images = set.Select(EmojiSplit.HeldOutStyle);
        string[] names = [.. images.Select(i => set.Concepts[set.Images[i].Concept].Name)];
        var captions = new List<string>(images.Length);
        foreach (var batch in images.Chunk(batchSize))
        {
            cancel.ThrowIfCancellationRequested();
            captions.AddRange(EmojiEvaluation.Evaluating(model, () => Captioner.Caption(writer, processor, tokenizer, [.. batch.Select(i => ImageSource.Picture(set, i))], search)).Select(static c => c.Text));
            progress?.Report(new(captions.Count, images.Length));
        }
        string[][] references = [.. names.Select(n => templates.Select(t => t.Replace("{}", n, StringComparison.Ordinal)).ToArray())];
        return new(Captioning.Score(captions, references), Captioning.Score([.. Enumerable.Range(0, names.Length).Select(i => captions[Other(i)])], references));

        // Half the set further on, and on until the name is another one.
        int Other(int i)
        {
            for (var k = 0; k < names.Length; k++)
                if ((i + (names.Length / 2) + k) % names.Length is var j && names[j] != names[i]) return j;
            return i;
        }
    }
}
