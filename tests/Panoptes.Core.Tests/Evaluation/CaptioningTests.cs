using Panoptes.Evaluation;

namespace Panoptes.Core.Tests.Evaluation;

public sealed class CaptioningTests
{
    static readonly string[][] References =
        [["a red apple left of a dog", "An apple and a dog."], ["two cats", "a picture of two black cats on a mat"], ["a dog", "one small dog"], ["a house with a red roof by the sea"]];

    /// <summary>The numbers are pycocoevalcap's.</summary>
    [Fact]
    public void Captions_score_what_the_public_code_gives_them()
    {
        string[] captions = ["a red apple and a dog", "two cats", "a cat cat cat cat", "a house with a roof"];
        var each = Captioning.CiderD([.. captions.Select(Captioning.Words)], [.. References.Select(static r => r.Select(Captioning.Words).ToArray())]);
        foreach (var (ours, theirs) in each.Zip([4.45731591, 2.85803335, 0, 3.95367546])) Assert.Equal(theirs, ours, 1e-7);
        Assert.Equal(each.Average(), Captioning.Score(captions, References).CiderD, 1e-12);
    }

    [Fact]
    public void Words_count_by_the_best_reference_and_punctuation_does_not()
    {
        var score = Captioning.Score(["Apple, and a DOG!", "two dogs", "", "a house with a red roof by the sea"], References);
        // The first has all but one of five words, the second one of two, the third none.
        Assert.Equal((8.0 / 9 + 0.5 + 0 + 1) / 4, score.WordF1, 1e-12);
        Assert.Equal(0.25, score.Exact);
        Assert.Equal(["o'clock", "t-shirt", "naïve", "7"], Captioning.Words("O'clock: T-shirt -- naïve 7?"));
    }

    [Fact]
    public void Every_image_needs_a_reference()
    {
        Assert.Throws<PanoptesException>(() => Captioning.Score(["a"], []));
        Assert.Throws<PanoptesException>(() => Captioning.Score(["a"], [[]]));
    }
}
