using CsCheck;
using Panoptes.Parity;
using Panoptes.Text;

namespace Panoptes.Core.Tests.Text;

/// <summary>Vocabularies that are cut down from CLIP's.</summary>
public sealed class ClipVocabularyTests : IDisposable
{
    static readonly string[] Places = ["left", "right", "top", "bottom", "center", "upper", "lower", "above", "below"];

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-vocabulary-").FullName;

    static string Merges => Path.Combine(Goldens.Repository, "data", "tokenizers", "clip", "merges.txt");

    public void Dispose() => Directory.Delete(folder, recursive: true);

    Tokenizer Cut(string name, int merges, IReadOnlyList<string>? words = null)
    {
        var ids = ClipVocabulary.Truncate(Merges, merges, Path.Combine(folder, name), 40, words);
        var tokenizer = Tokenizer.Load(Path.Combine(folder, name));
        Assert.Equal(ids, tokenizer.VocabularySize);
        return tokenizer;
    }

    [Theory]
    [InlineData(0)]
    [InlineData(500)]
    [InlineData(48894)]
    public void Words_become_one_token_and_the_vocabulary_before_them_stays(int merges)
    {
        var (before, after) = (Cut("before", merges), Cut("after", merges, Places));
        Assert.Equal(Places.Length, Places.Select(w => Assert.Single(after.Encode(w, addSpecialTokens: false))).Distinct().Count());
        Assert.Equal((before.StartId, before.EndId, before.PadId), (after.StartId, after.EndId, after.PadId));
        for (var id = 0; id < before.VocabularySize; id++) Assert.Equal(before.TokenOf(id), after.TokenOf(id));
        Assert.Equal(before.Encode("a red apple and two cats, in the noto style"), after.Encode("a red apple and two cats, in the noto style"));
        Assert.Equal("a cat left of a duck in the upper right", after.Decode(after.Encode("A cat LEFT of a duck in the upper right")));
    }

    [Fact]
    public void A_word_within_a_known_one_is_none()
    {
        var (before, after) = (Cut("before", 500), Cut("after", 500, Places));
        Assert.Equal(before.Encode("stop topping and lefty"), after.Encode("stop topping and lefty"));
    }

    [Fact]
    public void Any_words_become_one_token_each_in_any_order() =>
        Gen.String[Gen.Char['a', 'f'], 1, 12].Array[0, 6].Sample(words =>
        {
            var tokenizer = Cut("any", 60, words);
            return words.All(w => tokenizer.Encode(w, addSpecialTokens: false).Length == 1);
        }, iter: 60, threads: 1);

    [Theory]
    [InlineData("")]
    [InlineData(" ")]
    [InlineData("upper left")]
    [InlineData("left-most")]
    [InlineData("42")]
    [InlineData("<|endoftext|>")]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    public void What_is_not_one_word_is_refused_before_anything_is_written(string word)
    {
        var target = Path.Combine(folder, "none");
        Assert.Contains("expected one word", Assert.Throws<PanoptesException>(() => ClipVocabulary.Truncate(Merges, 500, target, 40, [word])).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(target));
    }
}
