using Panoptes.Parity;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation.Tests;

public sealed class ReCoTests
{
    static ReCo Places() => ReCo.Adding(Tokenizer.Load(Path.Combine(Goldens.Root, "generation", "reco_tokens")));

    [Fact]
    public void A_prompt_is_taken_apart_into_a_caption_and_regions()
    {
        var (caption, regions) = ReCo.Parse("a table <0> <250> <500.5><1000> a red cube <10> <20> <30> <40>  a cat ");
        Assert.Equal("a table", caption);
        Assert.Equal([new("a red cube", 0, 0.25, 0.5005, 1), new("a cat", 0.01, 0.02, 0.03, 0.04)], regions);
        Assert.Equal(("only words", 0), (ReCo.Parse("only words").Caption, ReCo.Parse("only words").Regions.Count));
    }

    [Theory]
    [InlineData("a cat <1> <2> <3> on a mat", "<1>")]
    [InlineData("a cat <1> <2> <3> <1001> on a mat", "1001")]
    [InlineData("a cat <1> <2> <3> <1.2.3> on a mat", "1.2.3")]
    public void A_prompt_without_four_places_a_region_is_refused_with_one_sentence(string prompt, string named) =>
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => ReCo.Parse(prompt)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_region_outside_the_picture_is_refused_with_one_sentence() =>
        Assert.Contains("1.2 of", Assert.Throws<PanoptesException>(() => Places().Encode("a cat", [new("a cat", 0, 0, 1.2, 1)], 77)).Message, StringComparison.Ordinal);

    [Fact]
    public void What_does_not_fit_is_counted()
    {
        var whole = Places().Encode("a cat <0> <0> <500> <500> a red cube", 40);
        Assert.Equal(0, whole.CutOff);
        var used = Array.FindLastIndex(whole.Ids, id => id != whole.Ids[^1]) + 2;
        var cut = Places().Encode("a cat <0> <0> <500> <500> a red cube", used - 3);
        Assert.Equal(3, cut.CutOff);
        Assert.Equal(whole.Ids[..(used - 3)], cut.Ids);
    }

    [Fact]
    public void A_text_encoder_with_places_says_the_same_of_texts_without()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var plain = new ClipTextModel(new() { HiddenSize = 16, IntermediateSize = 24, NumHiddenLayers = 2, NumAttentionHeads = 2, MaxPositionEmbeddings = 8, VocabSize = 40, EosTokenId = 39 }, 12);
        plain.Initialize(new Generator(1));
        using var places = ReCo.AddPlaces(plain, new Generator(2), contextLength: 12, bins: 10);
        Assert.Equal((50, 12), (places.Config.VocabSize, places.Config.MaxPositionEmbeddings));
        var ids = tensor(new long[] { 5, 9, 39, 0, 7, 1, 2, 39 }, [2, 4]);
        Assert.Equal(plain.Encode(ids).data<float>().ToArray(), places.Encode(ids).data<float>().ToArray());
        Assert.Equal([1, 12], places.Encode(tensor(new long[] { 5, 40, 49, 39, 1, 1, 1, 1, 1, 1, 1, 1 }, [1, 12])).shape);
    }
}
