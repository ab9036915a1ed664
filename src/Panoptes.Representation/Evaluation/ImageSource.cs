using System.Collections.Concurrent;
using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Representation.Evaluation;

/// <summary>
/// Images to evaluate on, each made when it is needed, with classes, captions or both. An image that cannot be read is left out and counted
/// among the data's problems, or is an error if these are strict.
/// </summary>
public sealed class ImageSource
{
    readonly Func<int, (Image Image, string Text)> load;
    readonly ConcurrentDictionary<int, byte> bad = new();
    readonly string[] texts;

    ImageSource(string name, IReadOnlyList<int> labels, IReadOnlyList<string> classes, Func<int, (Image Image, string Text)> load)
    {
        (Name, Labels, Classes, this.load) = (name, labels, classes, load);
        texts = new string[labels.Count];
        Problems = new();
    }

    /// <summary>What the images are called in messages.</summary>
    public string Name { get; }

    public int Count => Labels.Count;

    /// <summary>For every image its class, from 0; -1 where it has none.</summary>
    public IReadOnlyList<int> Labels { get; }

    /// <summary>The names of the classes.</summary>
    public IReadOnlyList<string> Classes { get; }

    /// <summary>What was left out.</summary>
    public DataProblems Problems { get; private init; }

    /// <summary>For every image what it is known by: equal for rows of one file that stand for several captions.</summary>
    internal IReadOnlyList<string>? Files { get; private init; }

    /// <summary>Whether the images have captions of their own.</summary>
    public bool HasCaptions { get; private init; }

    /// <summary>The images in memory, where they are all gray and of one size.</summary>
    internal LabeledImages? Gray { get; private init; }

    /// <summary>The captions of the images that were loaded; empty where there is none.</summary>
    internal IReadOnlyList<string> Texts => texts;

    /// <summary>The images that could be read, after all were asked for.</summary>
    internal int[] Good => [.. Enumerable.Range(0, Count).Where(i => !bad.ContainsKey(i))];

    /// <summary>The readable images that have a class.</summary>
    internal int[] Labeled => [.. Good.Where(i => Labels[i] >= 0)];

    public static ImageSource Of(LabeledImages images, IReadOnlyList<string> classes, string name) => new(name, images.Labels, classes, i => (images[i], "")) { Gray = images };

    /// <summary>Some of the emoji on white, by concept, subgroup or group.</summary>
    public static ImageSource Of(EmojiSet set, int[] images, EmojiLabel label, string name)
    {
        var annotations = new EmojiAnnotations { Label = label };
        var labels = annotations.LabelsOf(set);
        return new(name, [.. images.Select(i => labels[set.Images[i].Concept])], annotations.Names(set), i => (Picture(set, images[i]), ""));
    }

    /// <summary>On white, as drawings are mostly met.</summary>
    internal static Image Picture(EmojiSet set, int image) => new Image(set.Size, set.Size, 4, set.Pixels(image).ToArray()).ToRgb();

    /// <summary>
    /// The test of features on the emoji: in the style that no model is trained on, by what is learned of the others; the same concepts in both.
    /// </summary>
    /// <param name="set">All or some of the emoji.</param>
    /// <param name="label">What is told apart.</param>
    public static (ImageSource Test, ImageSource Train) OfEmojiStyles(EmojiSet set, EmojiLabel label) =>
        (Of(set, set.Select(EmojiSplit.HeldOutStyle), label, "the emoji in the held-out style"), Of(set, set.Select(EmojiSplit.Train), label, "the emoji in the other styles"));

    /// <summary>The images of a folder or table.</summary>
    public static ImageSource Of(ImageCollection images)
    {
        return new(images.Source, [.. Enumerable.Range(0, images.Count).Select(images.LabelOf)], images.Classes, Read)
        {
            Problems = images.Problems,
            HasCaptions = images.HasCaptions,
            Files = [.. Enumerable.Range(0, images.Count).Select(images.PathOf)],
        };

        (Image, string) Read(int index)
        {
            var sample = images.Read(index);
            return (sample.Decode(), sample.Text);
        }
    }

    /// <summary>An image, or a blank one where it cannot be read.</summary>
    /// <exception cref="PanoptesException">It cannot be read, and problems are errors.</exception>
    internal Image Load(int index)
    {
        try
        {
            (var image, texts[index]) = load(index);
            return image;
        }
        catch (BadSampleException e)
        {
            Problems.Add(e.Problem);
            bad[index] = 0;
            texts[index] = "";
            return Blank;
        }
    }

    static Image Blank { get; } = new(1, 1, 3);
}
