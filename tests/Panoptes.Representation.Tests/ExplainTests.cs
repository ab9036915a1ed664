using Panoptes.Imaging;
using Panoptes.Representation.Explanations;

namespace Panoptes.Representation.Tests;

public sealed class ExplainTests
{
    static Image Picture()
    {
        var image = new Image(40, 30, 3);
        for (var i = 0; i < image.Pixels.Length; i++) image.Pixels[i] = (byte)((i * 37) % 251);
        return image;
    }

    [Fact]
    public void A_text_is_explained_word_by_word_and_nothing_is_left()
    {
        using var tiny = new TinyClip();
        using var clip = tiny.Load();
        Explain.Words(clip, Picture(), "a cat");
        var before = Tensor.TotalCount;
        var found = Explain.Words(clip, Picture(), "a  cat, dog");
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Equal(["a", "cat,", "dog"], found.Words.Select(static w => w.Word));
        Assert.All(found.Words, static w => Assert.Equal((2, 2, 4), (w.Map.Rows, w.Map.Columns, w.Map.Values.Count)));
        Assert.All(found.Whole.Values, static v => Assert.InRange(v, -1, 1));
        Assert.Equal(clip.Similarity([Picture()], ["a  cat, dog"])[0, 0], found.Similarity, 1e-5);
    }

    [Fact]
    public void Attention_is_rolled_out_from_the_pooled_token_to_the_patches()
    {
        using var tiny = new TinyClip();
        using var clip = tiny.Load();
        Explain.Rollout(clip, Picture());
        var before = Tensor.TotalCount;
        var map = Explain.Rollout(clip, Picture());
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Equal((2, 2), (map.Rows, map.Columns));
        Assert.All(map.Values, static v => Assert.InRange(v, 0.01f, 0.99f));
        Assert.InRange(map.Values.Sum(), 0.1f, 0.75f);                                     // half of each of two layers stays where it was
    }

    [Fact]
    public void The_view_is_what_the_model_sees_and_a_map_lies_over_it()
    {
        using var tiny = new TinyClip();
        using var clip = tiny.Load();
        var view = Explain.View(clip, Picture());
        Assert.Equal((16, 16, 3), (view.Width, view.Height, view.Channels));
        using (var again = clip.Processor.Process(view))
        using (var first = clip.Processor.Process(Picture()))
            Assert.True((again - first).abs().max().item<float>() < 0.02f);
        var map = new HeatMap(2, 2, [0, 0, 0, 1]);
        Assert.Equal((0.75, 0.75), map.Peak);
        var over = map.Over(new Image(8, 8, 3));
        Assert.True(over.Pixels[^3] > over.Pixels[0] + 100);
        Assert.Equal((8, 8, 3), (over.Width, over.Height, over.Channels));
        Assert.All(new HeatMap(1, 1, [0.5f]).Over(new Image(3, 3, 3)).Pixels, static p => Assert.InRange(p, 0, 10));   // flat: no map to see
    }

    [Fact]
    public void A_model_that_cannot_be_explained_so_says_why()
    {
        using var tiny = new TinyClip();
        using var clip = tiny.Load();
        Assert.Contains("StairModel", Assert.Throws<PanoptesException>(() => Explain.SparseWords(clip, Picture())).Message, StringComparison.Ordinal);
        Assert.Contains("tokens", Assert.Throws<PanoptesException>(() => Explain.Words(clip, Picture(), new string('x', 300))).Message, StringComparison.Ordinal);
    }
}
