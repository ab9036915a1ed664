using System.Text.RegularExpressions;

namespace Panoptes.Evaluation;

/// <summary>How near captions come to what people, or a generator, would say.</summary>
/// <param name="CiderD">CIDEr-D, 0 to 10: phrases shared with the references, the rarer the more they count.</param>
/// <param name="WordF1">The harmonic mean of precision and recall of a caption's words, by its best reference; averaged over the images.</param>
/// <param name="Exact">The share of captions that are one of their references, word by word.</param>
public sealed record CaptionScores(double CiderD, double WordF1, double Exact);

/// <summary>Captions measured against references, several an image if there are. Words are compared in lower case and without punctuation.</summary>
public static partial class Captioning
{
    const int Longest = 4;
    const double Sigma = 6;

    /// <param name="captions">One an image.</param>
    /// <param name="references">For every image at least one.</param>
    /// <exception cref="PanoptesException">Other numbers of images, or an image without a reference.</exception>
    public static CaptionScores Score(IReadOnlyList<string> captions, IReadOnlyList<IReadOnlyList<string>> references)
    {
        if (captions.Count == 0 || captions.Count != references.Count) throw new PanoptesException($"{captions.Count} captions were given with the references of {references.Count} images; expected as many, and at least one.");
        if (references.Any(static r => r.Count == 0)) throw new PanoptesException("An image has no reference; expected at least one each.");
        string[][] said = [.. captions.Select(Words)];
        string[][][] meant = [.. references.Select(static r => r.Select(Words).ToArray())];
        var each = Enumerable.Range(0, said.Length);
        return new(CiderD(said, meant).Average(), each.Average(i => meant[i].Max(r => F1(said[i], r))), each.Average(i => meant[i].Any(r => r.SequenceEqual(said[i])) ? 1.0 : 0));
    }

    /// <summary>
    /// CIDEr-D of every image (Vedantam et al. 2015, arXiv:1411.5726, as in pycocoevalcap): n-grams of one to four words weighted by how few images'
    /// references have them, compared by cosine with clipped counts, less where lengths differ; the mean over the references, times ten.
    /// </summary>
    /// <param name="captions">The words of each caption.</param>
    /// <param name="references">The words of each image's references, which also tell how rare an n-gram is.</param>
    public static double[] CiderD(IReadOnlyList<string[]> captions, IReadOnlyList<string[][]> references)
    {
        var images = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var image in references)
            foreach (var gram in image.SelectMany(static r => Grams(r).Keys).Distinct(StringComparer.Ordinal)) images[gram] = images.GetValueOrDefault(gram) + 1;
        var all = Math.Log(references.Count);
        return [.. captions.Zip(references, (caption, image) => 10 * image.Average(r => Similarity(Weigh(caption), Weigh(r))))];

        Weighted Weigh(string[] words)
        {
            var weights = Grams(words).ToDictionary(static g => g.Key, g => g.Value * (all - Math.Log(Math.Max(1, images.GetValueOrDefault(g.Key)))), StringComparer.Ordinal);
            var squares = new double[Longest];
            foreach (var (gram, weight) in weights) squares[Length(gram)] += weight * weight;
            // As the public code counts it: a text is as long as it has pairs of words.
            return new(weights, [.. squares.Select(Math.Sqrt)], Math.Max(0, words.Length - 1));
        }
    }

    /// <summary>
    /// BLEU-1 to BLEU-4 (Papineni et al. 2002, as in pycocoevalcap): the geometric mean of the shares of a caption's n-grams that are in its references, counted as often
    /// as a reference has them, less where the caption is shorter than the reference nearest in length.
    /// </summary>
    /// <param name="captions">The words of each caption.</param>
    /// <param name="references">The words of each image's references.</param>
    /// <returns>Over all images together, which is what is reported, and of every image.</returns>
    public static (double[] Corpus, double[][] Each) Bleu(IReadOnlyList<string[]> captions, IReadOnlyList<string[][]> references)
    {
        var all = new BleuCounts();
        var each = captions.Zip(references, (caption, image) =>
        {
            var counts = new BleuCounts
            {
                Length = caption.Length,
                // Of two that are as near, the shorter.
                Reference = image.Select(static r => r.Length).MinBy(length => (Math.Abs(length - caption.Length), length)),
            };
            var most = new Dictionary<string, int>(StringComparer.Ordinal);
            foreach (var (gram, count) in image.SelectMany(Grams)) most[gram] = Math.Max(most.GetValueOrDefault(gram), count);
            foreach (var (gram, count) in Grams(caption)) counts.Right[Length(gram)] += Math.Min(count, most.GetValueOrDefault(gram));
            for (var n = 0; n < Longest; n++) counts.Said[n] = Math.Max(0, caption.Length - n);
            all.Add(counts);
            return counts.Scores();
        }).ToArray();
        return (all.Scores(), each);
    }

    /// <summary>What BLEU counts, of one caption or of all.</summary>
    sealed class BleuCounts
    {
        public int Length, Reference;

        public int[] Right { get; } = new int[Longest];

        public int[] Said { get; } = new int[Longest];

        public void Add(BleuCounts other)
        {
            (Length, Reference) = (Length + other.Length, Reference + other.Reference);
            for (var n = 0; n < Longest; n++) (Right[n], Said[n]) = (Right[n] + other.Right[n], Said[n] + other.Said[n]);
        }

        public double[] Scores()
        {
            // The public code's, which keep its quotients from 0 / 0.
            const double tiny = 1e-15, small = 1e-9;
            var (scores, product, ratio) = (new double[Longest], 1.0, (Length + tiny) / (Reference + small));
            for (var n = 0; n < Longest; n++)
            {
                product *= (Right[n] + tiny) / (Said[n] + small);
                scores[n] = Math.Pow(product, 1.0 / (n + 1)) * (ratio < 1 ? Math.Exp(1 - (1 / ratio)) : 1);
            }
            return scores;
        }
    }

    static double Similarity(Weighted caption, Weighted reference)
    {
        var products = new double[Longest];
        foreach (var (gram, weight) in caption.Weights)
            if (reference.Weights.TryGetValue(gram, out var other)) products[Length(gram)] += Math.Min(weight, other) * other;
        var sum = 0.0;
        for (var n = 0; n < Longest; n++)
            if (caption.Norms[n] > 0 && reference.Norms[n] > 0) sum += products[n] / (caption.Norms[n] * reference.Norms[n]);
        var difference = caption.Pairs - reference.Pairs;
        return sum / Longest * Math.Exp(-difference * difference / (2 * Sigma * Sigma));
    }

    /// <summary>How often each n-gram is in a text, words between spaces.</summary>
    static Dictionary<string, int> Grams(string[] words)
    {
        var grams = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var start = 0; start < words.Length; start++)
        {
            for (var n = 1; n <= Longest && start + n <= words.Length; n++)
            {
                var gram = string.Join(' ', words, start, n);
                grams[gram] = grams.GetValueOrDefault(gram) + 1;
            }
        }
        return grams;
    }

    /// <summary>An n-gram's n - 1.</summary>
    static int Length(string gram) => gram.AsSpan().Count(' ');

    static double F1(string[] caption, string[] reference)
    {
        if (caption.Length == 0 || reference.Length == 0) return caption.Length == reference.Length ? 1 : 0;
        var left = reference.GroupBy(static w => w, StringComparer.Ordinal).ToDictionary(static g => g.Key, static g => g.Count(), StringComparer.Ordinal);
        var shared = 0;
        foreach (var word in caption)
        {
            if (left.GetValueOrDefault(word) == 0) continue;
            left[word]--;
            shared++;
        }
        return 2.0 * shared / (caption.Length + reference.Length);
    }

    /// <summary>A text's words: letters, digits and what stands inside them (<c>o'clock</c>, <c>t-shirt</c>), in lower case.</summary>
    public static string[] Words(string text) => [.. Word().Matches(text.ToLowerInvariant()).Select(static m => m.Value)];

    [GeneratedRegex(@"[\p{L}\p{M}\p{N}]+(?:['’-][\p{L}\p{M}\p{N}]+)*")]
    private static partial Regex Word();

    sealed record Weighted(Dictionary<string, double> Weights, double[] Norms, int Pairs);
}
