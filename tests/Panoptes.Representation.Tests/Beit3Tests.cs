using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation.Tests;

/// <summary>BEiT-3 and DALL-E's tokenizer, beyond what the peers' numbers show.</summary>
public sealed class Beit3Tests : IDisposable
{
    static readonly Beit3Config Tiny = new()
    {
        ImgSize = 16,
        PatchSize = 8,
        VocabSize = 40,
        EncoderEmbedDim = 16,
        EncoderAttentionHeads = 2,
        EncoderFfnEmbedDim = 24,
        EncoderLayers = 2,
        MaxSourcePositions = 12,
        VisualVocabSize = 11,
    };

    static readonly DalleDvaeConfig TinyDalle = new()
    {
        Encoder = new() { NHid = 4, VocabSize = 12, NBlkPerGroup = 1 },
        Decoder = new() { NInit = 6, NHid = 4, VocabSize = 12, NBlkPerGroup = 1 },
    };

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-beit3-").FullName;
    readonly DisposeScope scope = NewDisposeScope();
    readonly Tensor pixels = randn([2, 3, 16, 16], generator: new Generator(1)), ids = tensor(new long[] { 5, 9, 39, 1, 7, 1, 2, 3 }, [2, 4]);
    readonly Tensor mask = tensor(new long[] { 1, 1, 1, 0, 1, 1, 1, 1 }, [2, 4]), patches = tensor(new[] { true, false, false, true, false, true, false, true }, [2, 4]);

    public void Dispose()
    {
        scope.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Images_alone_use_their_experts_and_texts_theirs()
    {
        using var model = Fresh(new Beit3ForPretraining(Tiny));
        var image = Trained(model, () => model.ImageLoss(pixels, patches, zeros(2, 4, dtype: ScalarType.Int64)));
        var text = Trained(model, () => model.TextLoss(ids, mask, ids, mask));
        Assert.Contains("beit3.encoder.layers.1.ffn.A.fc1.weight", image);
        Assert.Contains("beit3.encoder.layers.1.ffn.B.fc1.weight", text);
        Assert.DoesNotContain(image, static k => k.Contains(".B.", StringComparison.Ordinal) || k.StartsWith("mlm_head", StringComparison.Ordinal));
        Assert.DoesNotContain(text, static k => k.Contains(".A.", StringComparison.Ordinal) || k.Contains("vision_embed", StringComparison.Ordinal));
    }

    [Fact]
    public void Pairs_train_everything_and_what_is_masked_is_told_from_both()
    {
        using var model = Fresh(new Beit3ForPretraining(Tiny));
        var all = Trained(model, () => model.PairLoss(pixels, patches, patches.to(ScalarType.Int64), ids, mask, ids, mask));
        Assert.Equal(model.NamedParameters().Select(static p => p.Key).Order(), all.Order());
        Assert.Contains("Nothing is masked", Assert.Throws<PanoptesException>(() => model.TextLoss(ids, zeros_like(mask), ids)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_experts_one_set_of_weights_serves_both()
    {
        using var shared = Fresh(new Beit3ForPretraining(Tiny with { Multiway = false }));
        using var experts = Fresh(new Beit3ForPretraining(Tiny));
        Assert.Contains("beit3.encoder.layers.0.ffn.fc1.weight", shared.NamedParameters().Select(static p => p.Key));
        Assert.True(shared.ParameterCount < experts.ParameterCount);
        Assert.Equal(shared.ParameterCount, Trained(shared, () => shared.PairLoss(pixels, patches, patches.to(ScalarType.Int64), ids, mask, ids, mask))
            .Sum(k => shared.NamedParameters().First(p => p.Key == k).Parameter.ElementCount));

        // With equal experts, experts make no difference.
        using var noGrad = no_grad();
        foreach (var (key, parameter) in experts.NamedParameters())
            parameter.Value.copy_(shared.NamedParameters().First(p => p.Key == key.Replace(".A.", key.Contains("positions", StringComparison.Ordinal) ? ".A." : ".", StringComparison.Ordinal)
                .Replace(".B.", key.Contains("positions", StringComparison.Ordinal) ? ".B." : ".", StringComparison.Ordinal)).Parameter.Value);
        Near(shared.Beit3.Forward(pixels, ids, mask).Tokens, experts.Beit3.Forward(pixels, ids, mask).Tokens);
    }

    [Fact]
    public void A_captions_tokens_come_one_by_one_as_they_come_at_once()
    {
        using var model = Fresh(new Beit3ForCaptioning(Tiny));
        using var noGrad = no_grad();
        var whole = model.Logits(pixels, ids);
        using var cache = new Beit3Cache(2);
        Tensor[] parts = [model.Logits(pixels, ids.narrow(1, 0, 2), cache: cache), model.Logits(null, ids.narrow(1, 2, 1), cache: cache), model.Logits(null, ids.narrow(1, 3, 1), cache: cache)];
        Near(whole, cat(parts, 1));
        Assert.Equal((5, 4), (cache.Images, cache.Texts));
        Assert.Throws<PanoptesException>(() => model.Logits(pixels, ids, cache: cache));
        Assert.Throws<PanoptesException>(() => model.Logits(null, ids));
        var changed = ids.clone();
        changed[.., 3] = 8;
        Near(whole.narrow(1, 0, 3), model.Logits(pixels, changed).narrow(1, 0, 3));                // a word is not seen before its turn
    }

    [Theory]
    [InlineData(null)]
    [InlineData(0)]
    public void A_beam_as_wide_as_all_captions_finds_the_best_of_them(int? maskId)
    {
        const int Start = 5, End = 6;
        using var model = Fresh(new Beit3ForCaptioning(Tiny with { VocabSize = 7, MaskTokenId = maskId }));
        using var noGrad = no_grad();
        var images = randn([3, 3, 16, 16], generator: new Generator(17));
        var how = new CaptionOptions { MaxTokens = 4, MinTokens = 1, Beams = 300, LengthPenalty = 0.7 };
        var captions = model.Generate(images, Start, End, how);
        var narrow = model.Generate(images, Start, End, how with { Beams = 3 });
        for (var i = 0; i < 3; i++)
        {
            var best = All([], 0).MaxBy(static c => c.Score)!;
            Assert.Equal(best.Score, captions[i].Score, 1e-4);
            Assert.Equal(best.Ids, captions[i].Ids);
            var found = All([], 0).Single(c => c.Ids.SequenceEqual(narrow[i].Ids));                  // whatever fewer beams find scores as it does by hand
            Assert.Equal(found.Score, narrow[i].Score, 1e-4);
            Assert.Equal(narrow[i].Ids, model.Generate(images.narrow(0, i, 1), Start, End, how with { Beams = 3 })[0].Ids);

            IEnumerable<GeneratedCaption> All(int[] text, double score)
            {
                var said = model.Logits(images.narrow(0, i, 1), tensor([Start, .. text.Select(static t => (long)t), maskId ?? Start], [1, text.Length + 2]))[0, text.Length + 1].log_softmax(-1).data<float>().ToArray();
                for (var token = 0; token < 7; token++)
                {
                    var sum = score + said[token];
                    if (token == Start || token == maskId) continue;
                    if (token == End)
                    {
                        if (text.Length > 0) yield return new(text, sum / Math.Pow(text.Length + 1, how.LengthPenalty));
                        continue;
                    }
                    int[] longer = [.. text, token];
                    if (longer.Length == 4) yield return new(longer, sum / Math.Pow(4, how.LengthPenalty));
                    else
                        foreach (var caption in All(longer, sum)) yield return caption;
                }
            }
        }
        var before = LiveTensors.Settle();
        model.Generate(images, Start, End, how with { Beams = 2 });
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Two_images_and_a_sentence_are_judged_together()
    {
        using var model = Fresh(new Beit3ForVisualReasoning(Tiny));
        using var noGrad = no_grad();
        var other = randn([2, 3, 16, 16], generator: new Generator(2));
        var (a, b) = (model.Beit3.Forward(pixels, ids, mask).Tokens, model.Beit3.Forward(other, ids, mask).Tokens);
        var expected = model.Head.Forward(cat([a.select(1, 0), a.select(1, 5), b.select(1, 0), b.select(1, 5)], -1));
        Near(expected, model.Logits(pixels, other, ids, mask));
    }

    [Fact]
    public void Classes_are_told_by_the_patches_mean()
    {
        using var model = Fresh(new Beit3ForImageClassification(Tiny with { NumLabels = 3, NormalizeOutput = false }));
        using var noGrad = no_grad();
        Near(model.Head.Forward(model.FcNorm.Forward(model.Beit3.Forward(pixels).Tokens.narrow(1, 1, 4).mean([1]))), model.Logits(pixels));
    }

    [Fact]
    public void Checkpointed_blocks_give_the_same_gradients()
    {
        using var model = Fresh(new Beit3ForPretraining(Tiny with { DropPathRate = 0.3 }));
        model.Train();
        var plain = Step();
        model.CheckpointActivations();
        foreach (var (key, gradient) in Step()) Assert.True((gradient - plain[key]).abs().max().item<float>() < 1e-6f, key);

        Dictionary<string, Tensor> Step()
        {
            model.Random = new Generator(4);
            foreach (var parameter in model.Parameters()) parameter.ClearGrad();
            model.PairLoss(pixels, patches, patches.to(ScalarType.Int64), ids, mask, ids, mask).backward();
            return model.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter.Grad!.clone());
        }
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using var model = Fresh(new Beit3Model(Tiny));
        Assert.Contains("20x16", Assert.Throws<PanoptesException>(() => model.Encode(zeros(1, 3, 16, 20))).Message, StringComparison.Ordinal);
        Assert.Contains("at most 10", Assert.Throws<PanoptesException>(() => model.Beit3.Forward(null, zeros(1, 11, dtype: ScalarType.Int64))).Message, StringComparison.Ordinal);
        Assert.Contains("Neither", Assert.Throws<PanoptesException>(() => model.Beit3.Forward(null)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Tokens_stand_for_eight_pixels_and_come_back_as_a_picture()
    {
        using var dalle = Fresh(new DalleDvae(TinyDalle));
        var images = rand([2, 3, 16, 24], generator: new Generator(1));
        var tokens = dalle.Tokenize(images);
        Assert.Equal([2, 2, 3], tokens.shape);
        Assert.Equal(ScalarType.Int64, tokens.dtype);
        var picture = dalle.Decode(tokens);
        Assert.Equal([2, 3, 16, 24], picture.shape);
        Assert.InRange(picture.min().item<float>(), 0, 1);
        Assert.InRange(picture.max().item<float>(), 0, 1);
        Near(images, DalleEncoder.UnmapPixels(DalleEncoder.MapPixels(images)));
        Assert.Contains("multiples of 8", Assert.Throws<PanoptesException>(() => dalle.Tokenize(zeros(1, 3, 12, 16))).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => new DalleEncoder(new() { NHid = 3 }));
    }

    [Fact]
    public void OpenAIs_two_files_are_read()
    {
        using var dalle = Fresh(new DalleDvae(TinyDalle));
        var (encoder, decoder) = (Path.Combine(folder, "encoder.safetensors"), Path.Combine(folder, "decoder.safetensors"));
        SafeTensors.Save(encoder, dalle.Encoder.NamedParameters().Select(static p => KeyValuePair.Create(p.Key, p.Parameter.Value)));
        SafeTensors.Save(decoder, dalle.Decoder.NamedParameters().Select(static p => KeyValuePair.Create(p.Key, p.Parameter.Value)));
        using var loaded = DalleDvae.Load(encoder, decoder, TinyDalle);
        var images = rand([1, 3, 16, 16], generator: new Generator(1));
        Assert.Equal(dalle.Tokenize(images).data<long>().ToArray(), loaded.Tokenize(images).data<long>().ToArray());
        Assert.Throws<PanoptesException>(() => DalleDvae.Load(decoder, encoder, TinyDalle));
    }

    [Fact]
    public void Models_leave_what_they_return()
    {
        using var model = Fresh(new Beit3ForPretraining(Tiny));
        using var captioning = Fresh(new Beit3ForCaptioning(Tiny));
        using var answering = Fresh(new Beit3ForVisualQuestionAnswering(Tiny));
        using var dalle = Fresh(new DalleDvae(TinyDalle));
        var visual = patches.to(ScalarType.Int64);
        var tokens = dalle.Tokenize(rand([1, 3, 16, 16]));
        Leaves(1, () => model.ImageLoss(pixels, patches, visual));
        Leaves(1, () => model.TextLoss(ids, mask, ids, mask));
        Leaves(1, () => model.PairLoss(pixels, patches, visual, ids, mask, ids, mask));
        Leaves(1, () => model.Beit3.Forward(pixels, ids, mask));
        Leaves(4, () => model.Beit3.Forward(pixels, ids, mask, hiddenStates: true));               // with the states
        Leaves(1, () => captioning.Loss(pixels, ids, mask, ids, mask));
        Leaves(1, () => answering.Logits(pixels, ids, mask));
        Leaves(1, () => dalle.Tokenize(pixels));
        Leaves(1, () => dalle.Decode(tokens));
        using var noGrad = no_grad();
        Leaves(2, () =>
        {
            using var cache = new Beit3Cache(4);
            captioning.Logits(pixels, ids, cache: cache);
            return captioning.Logits(null, ids, cache: cache);
        });

        static void Leaves(int count, Func<object> call)
        {
            using var inner = NewDisposeScope();
            var before = LiveTensors.Settle();
            call();
            Assert.Equal(before + count, Tensor.TotalCount);
        }
    }

    static void Near(Tensor expected, Tensor actual) => Assert.True((expected - actual).abs().max().item<float>() < 1e-5f);

    static T Fresh<T>(T model) where T : Module
    {
        model.Initialize(new Generator(7));
        return model;
    }

    /// <summary>The weights that a loss reaches.</summary>
    static string[] Trained(Module model, Func<Tensor> loss)
    {
        foreach (var parameter in model.Parameters()) parameter.ClearGrad();
        loss().backward();
        return [.. model.NamedParameters().Where(static p => p.Parameter.Grad is not null).Select(static p => p.Key)];
    }
}
