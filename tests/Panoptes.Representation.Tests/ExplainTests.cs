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
        var before = LiveTensors.Settle();
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
        var before = LiveTensors.Settle();
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

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Masked_patches_are_told_and_normalized_ones_get_their_own_mean_back(bool isNormalized)
    {
        using var tiny = new TinyClip();
        using var processor = tiny.Load();
        var mae = new MaeForPreTraining(new()
        {
            HiddenSize = 16,
            IntermediateSize = 32,
            NumHiddenLayers = 1,
            NumAttentionHeads = 2,
            ImageSize = 16,
            PatchSize = 4,
            MaskRatio = 0.75,
            NormPixLoss = isNormalized,
            DecoderHiddenSize = 12,
            DecoderIntermediateSize = 24,
            DecoderNumHiddenLayers = 1,
            DecoderNumAttentionHeads = 3,
        });
        using (var random = new Generator(3)) mae.Initialize(random);
        using var encoder = new ImageEncoder(mae, processor.Processor);
        using (no_grad())
        {
            mae.Decoder.DecoderPred.Weight.Value.zero_();                                  // tells 0 everywhere
            mae.Decoder.DecoderPred.Bias!.Value.zero_();
        }
        Explain.Reconstruct(encoder, Picture());
        var before = LiveTensors.Settle();
        var told = Explain.Reconstruct(encoder, Picture(), 4);
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Equal((isNormalized, 16, 16), (told.IsNormalized, told.Told.Width, told.Told.Height));
        Assert.Equal(Explain.View(encoder, Picture()).Pixels.ToArray(), told.View.Pixels.ToArray());
        Assert.Equal(told.Seen.Pixels.ToArray(), Explain.Reconstruct(encoder, Picture(), 4).Seen.Pixels.ToArray());
        Assert.NotEqual(told.Seen.Pixels.ToArray(), Explain.Reconstruct(encoder, Picture(), 5).Seen.Pixels.ToArray());

        var (mean, std) = (encoder.Processor.Mean, encoder.Processor.Std);
        var masked = 0;
        for (var patch = 0; patch < 16; patch++)
        {
            int[] at = [.. Enumerable.Range(0, 16).Select(p => ((((patch / 4 * 4) + (p / 4)) * 16) + (patch % 4 * 4) + (p % 4)) * 3)];
            if (at.All(i => told.Seen.Pixels[i] is 127 or 128 && told.Seen.Pixels[i + 2] is 127 or 128))
            {
                masked++;
                // The mean of all that the patch's pixels are after normalization, or 0: the processor's mean color.
                var own = isNormalized ? at.Average(i => Enumerable.Range(0, 3).Average(c => ((told.View.Pixels[i + c] / 255.0) - mean[c]) / std[c])) : 0;
                foreach (var i in at)
                    for (var c = 0; c < 3; c++) Assert.InRange(told.Told.Pixels[i + c] - Math.Clamp(255 * ((own * std[c]) + mean[c]), 0, 255), -1.5, 1.5);
            }
            else Assert.All(at, i => Assert.Equal((told.View.Pixels[i], told.View.Pixels[i]), (told.Seen.Pixels[i], told.Told.Pixels[i])));
        }
        Assert.Equal(12, masked);
        if (isNormalized) Assert.Equal(47.0 / 48, told.Loss, 1e-3);                        // the variance of what has a (sample) variance of 1
        Assert.Contains("decoder", Assert.Throws<PanoptesException>(() => Explain.Reconstruct(processor, Picture())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_nearest_neighbor_of_an_image_is_the_same_image()
    {
        using var tiny = new TinyClip();
        using var clip = tiny.Load();
        Image[] known = [.. Enumerable.Range(1, 5).Select(static k => new Image(20, 20, 3, [.. Enumerable.Range(0, 1200).Select(i => (byte)(i * k * 13 % 256))]))];
        var before = LiveTensors.Settle();
        var near = Explain.Neighbors(clip, [known[3], known[0]], known.Length, i => known[i], top: 3);
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Equal([3, 0], near.Select(static n => n[0].Index));
        Assert.All(near, static n => Assert.Equal(1, n[0].Similarity, 1e-4));
        Assert.All(near, static n => Assert.Equal(3, n.Count));
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
