using CsCheck;
using Panoptes.Parity;
using Panoptes.Text;

namespace Panoptes.Generation.Tests;

public sealed class WeightedPromptTests
{
    static (string, double)[] Parts(string prompt) => [.. WeightedPrompt.Parse(prompt).Select(static p => (p.Text, Math.Round(p.Weight, 6)))];

    [Fact]
    public void Parts_count_as_they_say() => Assert.Equal([("a ", 1), ("red apple", 1.3), (" on a ", 1), ("table", 0.8)], Parts("a (red apple:1.3) on a (table:0.8)"));

    [Fact]
    public void Weights_of_nested_parts_multiply() => Assert.Equal([("a ", 2), ("red", 3), (" apple", 2)], Parts("(a (red:1.5) apple:2)"));

    [Theory]
    [InlineData("a cat (sitting) on [a] mat")]
    [InlineData("time: 12:30 (local: noon)")]
    [InlineData("an open ( and another ((")]
    [InlineData("closed ) first (")]
    public void Parentheses_without_a_number_are_text(string prompt) => Assert.Equal([(prompt, 1)], Parts(prompt));

    [Fact]
    public void Parentheses_after_a_backslash_are_text() => Assert.Equal([("a (cat:1.5) ", 1), ("b)", 2)], Parts(@"a \(cat:1.5\) (b\):2)"));

    [Fact]
    public void A_backslash_before_another_is_text() => Assert.Equal([(@"\(a:1.5)", 1)], Parts(@"\\(a:1.5)"));

    [Theory, InlineData("(a:0)"), InlineData("(a:-1)"), InlineData("(a:11)")]
    public void A_weight_that_cannot_be_is_refused_with_one_sentence(string prompt) => Assert.Contains("expected above 0 and at most 10", Assert.Throws<PanoptesException>(() => WeightedPrompt.Parse(prompt)).Message, StringComparison.Ordinal);

    [Fact]
    public void Whatever_is_written_is_read_and_no_other_text_is_lost() => Gen.OneOf(Gen.Char["()\\:1. a"], Gen.Char).Array[0, 40].Sample(characters =>
    {
        var prompt = new string(characters);
        try
        {
            var parts = WeightedPrompt.Parse(prompt);
            var letters = string.Concat(parts.Select(static p => p.Text)).Where(char.IsLetter);
            Assert.Equal(prompt.Where(char.IsLetter), letters);
            Assert.All(parts, static p => Assert.True(p.Text.Length > 0 && p.Weight > 0));
        }
        catch (PanoptesException)
        {
        }
    }, iter: 5000);

    [Fact]
    public void Weighed_features_keep_the_mean_of_all()
    {
        using var scope = NewDisposeScope();
        var features = randn(7, 5, generator: new Generator(1)) + 1;
        var weights = tensor(new float[] { 1, 1, 2, 0.5f, 1, 1, 3 });
        var weighed = WeightedPrompt.Weigh(features, weights);
        Assert.Equal(features.mean().item<float>(), weighed.mean().item<float>(), 1e-5);
        // Within that, tokens stand to each other as they were told to.
        var ratio = (weighed / features).mean([1]);
        Assert.True((ratio / ratio[0]).allclose(weights));
        Assert.True(WeightedPrompt.Weigh(features, ones(7)).allclose(features));
    }

    static readonly Tokenizer Clip = Tokenizer.Load(Path.Combine(Goldens.Root, "representation", "clip_tokenizer"));

    [Fact]
    public void A_short_prompt_is_one_window_as_the_tokenizer_has_it()
    {
        var tokens = PromptTokens.Of("a photo of a (red:1.0) cat", Clip, 77);
        Assert.Equal(Clip.Encode(["a photo of a red cat"], 77).Ids, tokens.Windows.Single());
        Assert.False(tokens.IsWeighted);
    }

    [Fact]
    public void A_long_prompt_fills_windows_with_a_start_and_an_end_each()
    {
        var tokens = PromptTokens.Of($"{string.Concat(Enumerable.Repeat("cat ", 80))}(dog:2)", Clip, 77);
        Assert.Equal((81, 2), (tokens.Count, tokens.Windows.Count));
        Assert.All(tokens.Windows, w => Assert.Equal((77, Clip.StartId, Clip.EndId), (w.Length, (int?)w[0], (int?)w[^1])));
        Assert.Equal(76, tokens.Windows[0].ToList().IndexOf(Clip.EndId!.Value));
        Assert.Equal(7, tokens.Windows[1].ToList().IndexOf(Clip.EndId!.Value));
        Assert.Equal(2, tokens.Weights[1][6]);
        Assert.Single(tokens.Weights.SelectMany(static w => w), static w => w != 1);
    }

    [Fact]
    public void A_prompt_without_end_is_refused() => Assert.Throws<PanoptesException>(() => PromptTokens.Of(string.Concat(Enumerable.Repeat("cat ", 1300)), Clip, 77));
}
