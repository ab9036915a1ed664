using Panoptes.Data;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;

namespace Panoptes.Understanding;

/// <summary>
/// GroupViT's multi-label contrastive loss (Xu et al. 2022, arXiv:2202.11094, equations 8 to 10): beside the caption, every image has as positives the prompted nouns of its caption. An image picks any of
/// its own among those of the whole batch, and each of them its image. To it CLIP's loss of images and captions is added. The text views 1 to <paramref name="nouns"/> of the batch are the prompts (<see cref="Prompts"/>).
/// </summary>
/// <param name="nouns">Prompted nouns of each sample (the authors' 3).</param>
/// <remarks>The authors' code has another form: the mean of the positives' log-probabilities where the paper has the logarithm of the sum of their probabilities. This is the paper's.</remarks>
public sealed class MultiLabelLoss(int nouns = 3) : FeatureObjective
{
    /// <summary>What nouns are put in.</summary>
    public static IReadOnlyList<string> Templates { get; } =
        ["a photo of a {}", "a photo of the {}", "a picture of a {}", "an image of a {}", "a close-up photo of a {}", "a good photo of a {}", "a {} in a scene"];

    public override IReadOnlyList<Feature> Needs { get; } =
        [Feature.Image(), .. Enumerable.Range(0, 1 + (nouns >= 1 ? nouns : throw new PanoptesException($"The multi-label loss was asked for with {nouns} nouns; expected at least 1."))).Select(static v => Feature.Text(v))];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        var pair = features.Pair;
        var prompts = stack([.. Needs.Skip(2).Select(f => features[f])], 1);                    // [b, nouns, embedding]
        return (ContrastiveLoss.Of(pair) + Of(pair.Image, prompts, pair.Scale)).MoveToOuterDisposeScope();
    }

    /// <summary>The loss of the prompted nouns alone, the mean of both directions.</summary>
    /// <param name="images">[b, embedding], of length 1</param>
    /// <param name="prompts">[b, nouns, embedding], of length 1</param>
    /// <param name="scale">What cosines are multiplied by.</param>
    /// <returns>A scalar with its gradient.</returns>
    public static Tensor Of(Tensor images, Tensor prompts, Tensor scale)
    {
        using var scope = NewDisposeScope();
        var (batch, count) = (prompts.shape[0], prompts.shape[1]);
        var logits = images.matmul(prompts.flatten(0, 1).t()).mul(scale).view(batch, batch, count);      // [image, sample, noun]
        var own = logits.diagonal(0, 0, 1).t();                                                           // [sample, noun]
        var fromImages = (logits.flatten(1).logsumexp(1) - own.logsumexp(1)).mean();
        var fromPrompts = (logits.logsumexp(0) - own).mean();
        return ((fromImages + fromPrompts) / 2).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The same where texts are told apart: what several images of a batch show is one text, which picks any of them, and no image is told that it does not show what it shows. With few nouns, which come
    /// again in every batch, nearly all negatives of <see cref="Of(Tensor, Tensor, Tensor)"/> would be false.
    /// </summary>
    /// <param name="images">[b, embedding], of length 1</param>
    /// <param name="texts">[texts, embedding], of length 1, all different</param>
    /// <param name="shown">[b, texts] bool: which texts are true of which images; every image has one, every text has one</param>
    /// <param name="scale">What cosines are multiplied by.</param>
    /// <returns>A scalar with its gradient.</returns>
    public static Tensor Of(Tensor images, Tensor texts, Tensor shown, Tensor scale)
    {
        using var scope = NewDisposeScope();
        var logits = images.matmul(texts.t()).mul(scale);                                                 // [image, text]
        var own = logits.masked_fill(shown.logical_not(), double.NegativeInfinity);
        return (((logits.logsumexp(1) - own.logsumexp(1)).mean() + (logits.logsumexp(0) - own.logsumexp(0)).mean()) / 2).MoveToOuterDisposeScope();
    }

    /// <summary>The texts of one sample's views 1 and on: different nouns drawn of those given, each in a drawn template, filled up with the caption where there are too few.</summary>
    public static string[] Prompts(string caption, IReadOnlyList<string> nouns, int count, ref SampleRandom random)
    {
        string[] drawn = [.. nouns.Distinct(StringComparer.Ordinal)];
        random.Shuffle<string>(drawn);
        var prompts = new string[count];
        for (var i = 0; i < count; i++) prompts[i] = i < drawn.Length ? Prompt(drawn[i], ref random) : caption;
        return prompts;
    }

    /// <summary>A noun in a drawn template.</summary>
    public static string Prompt(string noun, ref SampleRandom random) => Templates[random.Next(Templates.Count)].Replace("{}", noun, StringComparison.Ordinal);
}
