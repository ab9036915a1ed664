using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;

namespace Panoptes.Understanding.Tests;

/// <summary>Florence-2 and Kosmos-2 as users hold them: tiny models with random weights, so that what they say is any sequence at all.</summary>
public sealed class FlorenceTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-florence-").FullName;
    readonly Image image = Picture();
    readonly int threads = get_num_threads();

    public FlorenceTests() => set_num_threads(1);                                               // for sizes like these a second thread is something to wait for

    public void Dispose()
    {
        set_num_threads(threads);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Florence_answers_every_task_within_the_image_and_keeps_no_tensor()
    {
        TinyFolders.Florence(folder);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var florence = Florence.Load(folder);
            florence.Options = florence.Options with { MaxTokens = 30 };
            Assert.NotNull(florence.Caption(image));
            Assert.NotNull(florence.Read(image));
            IEnumerable<Detection> boxes = [.. florence.Detect(image), .. florence.DescribeRegions(image), .. florence.ProposeRegions(image), .. florence.Ground(image, "the red apple left of the cat"), .. florence.Find(image, "cat")];
            Assert.All(boxes, b => Assert.True(b.Left >= 0 && b.Top >= 0 && b.Left <= b.Right && b.Top <= b.Bottom && b.Right < image.Width && b.Bottom < image.Height && b.Score is > 0 and <= 1));
            Assert.All(florence.Segment(image, "red apple").Concat(florence.Segment(image, (BoxPrompt)Prompt.Box(2, 3, 20, 20))), s => Assert.Equal((image.Width, image.Height), (s.Mask.Width, s.Mask.Height)));
            Assert.NotNull(florence.Name(image, (BoxPrompt)Prompt.Box(0, 0, 10, 10)));
            florence.ReadLines(image);
        }
    }

    [Fact]
    public void Florence_says_what_its_model_generates_for_the_image_tokens_before_the_question()
    {
        TinyFolders.Florence(folder);
        using var florence = Florence.Load(folder);
        florence.Options = new() { MaxTokens = 12 };
        var (text, score) = florence.Answer(image, "what does the image describe ?");
        using var scope = NewDisposeScope();
        var tokenizer = Tokenizer.Load(folder);
        var features = florence.Model.ImageFeatures(ImageProcessor.Load(folder).Process(image));
        int[] question = tokenizer.Encode("what does the image describe ?", addSpecialTokens: false);
        long[] ids = [.. Enumerable.Repeat((long)tokenizer.IdOf("<image>")!, (int)features.shape[1]), 0, .. question.Select(static i => (long)i), 2];
        var expected = florence.Model.Generate(features, tensor(ids, [1, ids.Length]), null, florence.Options)[0];
        Assert.Equal(Florence2Tokens.Plain(tokenizer.Decode(expected.Ids, skipSpecialTokens: false)), text);
        Assert.Equal(Math.Exp(expected.Score), score, 1e-9);
    }

    [Fact]
    public void Beams_find_what_is_likelier_than_what_greedy_search_finds_and_tokens_in_a_row_come_once_where_that_is_asked()
    {
        TinyFolders.Florence(folder);
        using var scope = NewDisposeScope();
        using var model = PromptableModels.Load<Florence2Model>(folder);
        var features = model.ImageFeatures(ImageProcessor.Load(folder).Process(image));
        var ids = cat([full(1, features.shape[1], model.Config.ImageTokenId, ScalarType.Int64), tensor(new long[] { 0, 5, 2 }, [1, 3])], 1);
        var greedy = model.Generate(features, ids, null, new() { MaxTokens = 8 })[0];
        var wide = model.Generate(features, ids, null, new() { MaxTokens = 8, Beams = 5 })[0];
        Assert.True(wide.Score >= greedy.Score - 1e-6, $"{wide.Score} against {greedy.Score}");
        var text = model.Generate(features, ids, null, new() { MaxTokens = 25, NoRepeatNgram = 2 })[0].Ids;
        var pairs = text.Zip(text.Skip(1)).ToArray();
        Assert.Equal(pairs.Length, pairs.Distinct().Count());
        Assert.Equal(7, model.Generate(features, ids, null, new() { MaxTokens = 6, ForcedFirstId = 7 })[0].Ids[0]);
        // The score is the mean log-probability of the tokens, the forced end apart.
        int[] given = [2, .. greedy.Ids];
        var logits = model.LanguageModel.Decoder.Forward(tensor([.. given.Select(static i => (long)i)], [1, given.Length]), model.Read(features, ids), null).matmul(model.LmHead.Value.t()).log_softmax(-1)[0];
        int[] said = [.. greedy.Ids, 2];
        var sum = Enumerable.Range(0, said.Length).Sum(i => i == 7 ? 0 : logits[i, said[i]].item<float>());
        Assert.Equal(sum / said.Length, greedy.Score, 1e-4);
    }

    [Fact]
    public void Florence_and_Kosmos_compute_in_bfloat16_as_well()
    {
        TinyFolders.Florence(folder);
        using (var florence = Florence.Load(folder, new() { Dtype = ScalarType.BFloat16 }))
        {
            florence.Options = florence.Options with { MaxTokens = 6 };
            Assert.NotNull(florence.Caption(image));
            Assert.All(florence.Model.Parameters(), static p => Assert.Equal(ScalarType.BFloat16, p.Dtype));
        }
        TinyFolders.Kosmos(folder);
        using var kosmos = Kosmos.Load(folder, new() { Dtype = ScalarType.BFloat16 });
        kosmos.Options = new() { MaxTokens = 6 };
        Assert.NotNull(kosmos.Describe(image).Text);
    }

    [Fact]
    public void Tokens_are_drawn_among_the_likeliest_that_have_the_share_together_as_often_as_they_are_likely()
    {
        using var scope = NewDisposeScope();
        var logits = tensor(new[] { 0.15f, 0.5f, 0.05f, 0.3f }).log().unsqueeze(0).expand(4000, -1);
        var drawn = SequenceSearch.Nucleus(logits, 0.6, 1, new Generator(5)).data<long>().ToArray();
        Assert.Equal([1, 3], drawn.Distinct().Order());
        Assert.InRange(drawn.Count(static d => d == 1) / 4000.0, 0.6, 0.65);                    // 5 of 8
        Assert.All(SequenceSearch.Nucleus(logits, 0, 1, null).data<long>().ToArray(), static d => Assert.Equal(1, d));
        Assert.Equal([0, 1, 2, 3], SequenceSearch.Nucleus(logits, 1, 1, new Generator(5)).data<long>().ToArray().Distinct().Order());
        var one = SequenceSearch.Nucleus(tensor(new[] { 0f, float.NegativeInfinity }).expand(50, -1), 1, 1, new Generator(5));
        Assert.All(one.data<long>().ToArray(), static d => Assert.Equal(0, d));
    }

    [Fact]
    public void A_config_that_no_model_has_is_refused_by_the_name_of_its_field()
    {
        Refuses("tie_word_embeddings", static () => new Florence2Model(new() { TieWordEmbeddings = false }));
        Refuses("projection_dim", static () => new Florence2Model(new() { VisionConfig = new() { ProjectionDim = 3 } }));
        Refuses("num_heads", static () => new Florence2Model(new() { VisionConfig = new() { NumHeads = [1] } }));
        Refuses("window_size", static () => new Florence2Model(new() { VisionConfig = new() { WindowSize = 1 << 20 } }));
        Refuses("patch_padding", static () => new Florence2Model(new() { VisionConfig = new() { PatchPadding = [-1, 0, 0, 0] } }));
        Refuses("add_cross_attention", static () => new Kosmos2Model(new() { TextConfig = new() { AddCrossAttention = true } }));
        Refuses("activation", static () => ModelConfig.Parse<Florence2Config>("""{"text_config":{"activation_function":"snake"}}""", "test"));

        static void Refuses(string field, Func<object> make) => Assert.Contains(field, Assert.Throws<PanoptesException>(make).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_generation_config_says_of_the_search_is_read_and_what_it_leaves_out_stays()
    {
        File.WriteAllText(Path.Combine(folder, "generation_config.json"), """{"num_beams":3,"early_stopping":true,"no_repeat_ngram_size":3,"forced_bos_token_id":0,"forced_eos_token_id":2,"length_penalty":0.5,"temperature":null}""");
        Assert.Equal(new() { Beams = 3, StopEarly = true, NoRepeatNgram = 3, ForcedFirstId = 0, ForcedLastId = 2, LengthPenalty = 0.5, MaxTokens = 77 }, SequenceOptions.Load(folder, new() { MaxTokens = 77 }));
        File.WriteAllText(Path.Combine(folder, "generation_config.json"), """{"num_beams":0}""");
        Assert.Contains("num_beams", Assert.Throws<PanoptesException>(() => SequenceOptions.Load(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_Florence_cannot_do_is_said_in_one_sentence()
    {
        TinyFolders.Florence(folder);
        using var florence = Florence.Load(folder);
        Assert.Contains("text prompt is empty", Assert.Throws<PanoptesException>(() => florence.Ground(image, " ")).Message, StringComparison.Ordinal);
        Assert.Contains("outside the image", Assert.Throws<PanoptesException>(() => florence.Name(image, (BoxPrompt)Prompt.Box(0, 0, 1000, 10))).Message, StringComparison.Ordinal);
        Assert.Contains("the model takes at most", Assert.Throws<PanoptesException>(() => florence.Answer(image, string.Join(' ', Enumerable.Repeat("cat", 200)))).Message, StringComparison.Ordinal);
        Assert.Contains("places for image tokens", Assert.Throws<PanoptesException>(() => florence.Answer(image, "<image> cat")).Message, StringComparison.Ordinal);
        var other = Directory.CreateTempSubdirectory("panoptes-kosmos-").FullName;
        try
        {
            TinyFolders.Kosmos(other);
            Assert.Contains("expected a Florence-2", Assert.Throws<PanoptesException>(() => Florence.Load(other)).Message, StringComparison.Ordinal);
            Assert.Contains("expected a Kosmos-2", Assert.Throws<PanoptesException>(() => Kosmos.Load(folder)).Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(other, recursive: true);
        }
    }

    [Fact]
    public void Kosmos_goes_on_with_a_text_by_its_model_and_keeps_no_tensor()
    {
        TinyFolders.Kosmos(folder);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var kosmos = Kosmos.Load(folder);
            kosmos.Options = new() { MaxTokens = 12, Beams = 2 };
            Assert.StartsWith("an image of", kosmos.Describe(image).Text, StringComparison.OrdinalIgnoreCase);
            foreach (var caption in (GroundedCaption[])[kosmos.Describe(image), kosmos.Answer(image, "what is left of the cat ?"), kosmos.Continue(image, "<grounding> a red")])
                Assert.All(caption.Phrases, p => Assert.All(p.Boxes, b => Assert.True(b.Left >= 0 && b.Left < b.Right && b.Right <= image.Width && b.Top < b.Bottom && b.Bottom <= image.Height)));
            kosmos.Ground(image, "red apple");
            Assert.Contains("the model takes at most", Assert.Throws<PanoptesException>(() => kosmos.Continue(image, string.Join(' ', Enumerable.Repeat("cat", 200)))).Message, StringComparison.Ordinal);
            Assert.Contains("text prompt is empty", Assert.Throws<PanoptesException>(() => kosmos.Ground(image, "")).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Kosmos_writes_the_same_of_texts_that_are_filled_up_on_the_left()
    {
        TinyFolders.Kosmos(folder);
        using var scope = NewDisposeScope();
        using var model = PromptableModels.Load<Kosmos2Model>(folder);
        var embeds = model.ImageEmbeds(ImageProcessor.Load(folder).Process(image));
        var ids = tensor(new long[] { 0, 3, 4, 5, 6, 7, 8, 9, 10 }, [1, 9]);
        var places = tensor(new long[] { 0, 0, 1, 1, 1, 0, 0, 0, 0 }, [1, 9]);
        var alone = model.Forward(Pixels(), ids, places).Logits;
        var padded = model.Forward(Pixels(), cat([full(1, 2, 1, ScalarType.Int64), ids], 1), cat([zeros(1, 2, ScalarType.Int64), places], 1), tensor(new long[] { 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, [1, 11])).Logits;
        Assert.True(padded.narrow(1, 2, 9).allclose(alone, rtol: 1e-3, atol: 1e-4));
        Assert.True(padded.isfinite().all().item<bool>());
        var long_ = model.Generate(embeds, ids, places, null, new() { MaxTokens = 6 })[0];
        Assert.Equal(long_.Ids, model.Generate(embeds, ids, places, ones_like(ids), new() { MaxTokens = 6 })[0].Ids);

        Tensor Pixels() => ImageProcessor.Load(folder).Process(image);
    }

    static Image Picture()
    {
        var picture = new Image(40, 30, 3);
        for (var i = 0; i < picture.Pixels.Length; i++) picture.Pixels[i] = (byte)(i * 37 % 251);
        return picture;
    }
}
