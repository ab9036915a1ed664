using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Parity;
using Panoptes.Representation.Training;

namespace Panoptes.Representation.Tests;

/// <summary>Captions: the search with its caches against the plain forward pass, computed anew for every text.</summary>
public sealed class CoCaTests : IDisposable
{
    const int Start = 5, End = 6;

    readonly CoCaModel model;
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-coca-").FullName;

    public CoCaTests()
    {
        model = (CoCaModel)Models.All.Single(static e => e.Architecture == "CoCa").Build(new("""
            {"embed_dim":16,"custom_text":true,"vision_cfg":{"image_size":16,"layers":1,"width":24,"head_width":8,"patch_size":8,"attentional_pool":true,"attn_pooler_queries":4,"attn_pooler_heads":2},
             "text_cfg":{"context_length":9,"vocab_size":7,"width":16,"heads":2,"layers":2,"embed_cls":true,"ls_init_value":0.7},"multimodal_cfg":{"context_length":9,"vocab_size":7,"width":16,"heads":2,"layers":2} }
            """, "tiny", static _ => null));
        model.Initialize(new Generator(5));
        // Large enough that captions of different images differ.
        using var noGrad = no_grad();
        foreach (var parameter in model.Parameters()) parameter.Value.mul_(3);
    }

    public void Dispose()
    {
        model.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>The log-probabilities of the token after <paramref name="text"/>, by the whole model over the whole text.</summary>
    float[] After(Tensor pixels, int image, IReadOnlyList<int> text)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        // A text's last token is not given to the decoder: any one follows.
        var ids = tensor([Start, .. text.Select(static t => (long)t), 1L], [1, text.Count + 2]);
        return [.. model.Forward(pixels.narrow(0, image, 1), ids).Logits[0, text.Count].log_softmax(-1).data<float>()];
    }

    static Tensor Pixels(int count) => randn([count, 3, 16, 16], generator: new Generator(17));

    [Fact]
    public void Greedy_search_takes_the_likeliest_token_of_the_plain_forward_pass_every_time()
    {
        using var pixels = Pixels(5);
        var captions = model.Generate(pixels, Start, End, new() { MaxTokens = 7, MinTokens = 2 });
        Assert.True(captions.Select(static c => string.Join(' ', c.Ids)).Distinct().Count() > 1);
        for (var image = 0; image < 5; image++)
        {
            var (text, score, ended) = (new List<int>(), 0.0, false);
            while (text.Count < 7 && !ended)
            {
                var said = After(pixels, image, text);
                said[0] = float.NegativeInfinity;
                if (text.Count < 2) said[End] = float.NegativeInfinity;
                var best = Array.IndexOf(said, said.Max());
                score += said[best];
                ended = best == End;
                if (!ended) text.Add(best);
            }
            Assert.Equal(text, captions[image].Ids);
            Assert.Equal(score / (text.Count + (ended ? 1 : 0)), captions[image].Score, 1e-4);
        }
    }

    [Fact]
    public void Greedy_search_gives_the_captions_of_open_clip()
    {
        using var scope = NewDisposeScope();
        using var golden = Models.Load<CoCaModel>(Path.Combine(Goldens.Root, "representation", "openclip_coca"));
        var pixels = SafeTensors.Load(Path.Combine(Goldens.Root, "representation", "openclip_coca", "inputs.safetensors"))["image"];
        var captions = golden.Generate(pixels, 38, 39, new() { MaxTokens = 9 });
        // generate(image, generation_type="top_k", top_k=1, sot_token_id=38, eos_token_id=39)
        Assert.Equal([20, 36, 36, 36, 36, 36, 36, 36, 36], captions[0].Ids);
        Assert.Equal([20, 20, 36, 36, 36, 36, 36, 36, 36], captions[1].Ids);
        Assert.Equal([20, 36, 36, 36, 36, 36, 36, 36, 36], captions[2].Ids);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void A_beam_as_wide_as_all_texts_finds_the_best_of_them(double penalty)
    {
        using var pixels = Pixels(3);
        var captions = model.Generate(pixels, Start, End, new() { MaxTokens = 4, MinTokens = 1, Beams = 400, LengthPenalty = penalty });
        for (var image = 0; image < 3; image++)
        {
            var best = All([], 0).MaxBy(static c => c.Score)!;
            Assert.Equal(best.Score, captions[image].Score, 1e-4);
            Assert.Equal(best.Ids, captions[image].Ids);

            IEnumerable<GeneratedCaption> All(int[] text, double score)
            {
                var said = After(pixels, image, text);
                for (var token = 1; token < 7; token++)
                {
                    var sum = score + said[token];
                    if (token == End)
                    {
                        if (text.Length > 0) yield return new(text, sum / Math.Pow(text.Length + 1, penalty));
                        continue;
                    }
                    int[] longer = [.. text, token];
                    if (longer.Length == 4) yield return new(longer, sum / Math.Pow(4, penalty));
                    else
                        foreach (var caption in All(longer, sum)) yield return caption;
                }
            }
        }
    }

    [Fact]
    public void Images_are_captioned_together_as_each_alone()
    {
        using var scope = NewDisposeScope();
        var pixels = Pixels(4);
        var how = new CaptionOptions { MaxTokens = 7, MinTokens = 1, Beams = 3 };
        var together = model.Generate(pixels, Start, End, how);
        for (var i = 0; i < 4; i++) Assert.Equal(together[i].Ids, model.Generate(pixels.narrow(0, i, 1), Start, End, how)[0].Ids);
    }

    [Fact]
    public void Texts_are_embedded_the_same_with_less_padding_computed()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var correct in (bool[])[false, true])
        {
            using var text = new CoCaText(model.Config with { TextCfg = model.Config.TextCfg with { CorrectClsMask = correct } });
            text.Initialize(new Generator(3));
            foreach (var row in (long[][])[[5, 1, 2, 6, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0, 0], [5, 1, 0, 2, 3, 4, 1, 2, 6, 5, 1, 0, 2, 6, 0, 0, 0, 0]])
            {
                var ids = tensor(row, [2, 9]);
                Assert.True((text.Forward(ids).Embedding - text.Encode(ids)).abs().max().item<float>() < 1e-6f);
            }
        }
    }

    [Fact]
    public void A_folder_captions_images_and_keeps_no_tensor()
    {
        TinyClip.Write(folder, "CoCa");
        // Without these open_clip could not use the folder.
        foreach (var part in (string[])["vision_cfg", "text_cfg"]) Assert.True((bool)JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "open_clip_config.json")))!["model_cfg"]![part]!["output_tokens"]!);
        using var coca = Captioner.Load(folder, new() { BatchSize = 2 });
        Image[] images = [new(20, 16, 3), new(30, 40, 3), new(16, 16, 4)];
        Assert.Equal(3, coca.Caption(images, new() { Beams = 3 }).Count);
        var before = LiveTensors.Settle();
        Assert.All(coca.Caption(images, new() { Beams = 3, MaxTokens = 8 }), static c => Assert.True(c.Score <= 0));
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Equal(2, ((Clip)coca.Encoder).Classify(images[0], ["a cat", "do"]).Count);
    }

    [Fact]
    public void A_recipe_trains_captions_and_embeddings_together_until_captions_name_what_was_seen()
    {
        var run = Path.Combine(folder, "run");
        var recipe = Recipe.Parse($$"""
            name: coca
            seed: 5
            model:
              architecture: CoCa
              config:
                embed_dim: 48
                custom_text: true
                vision_cfg: {image_size: 32, layers: 1, width: 48, head_width: 12, patch_size: 8, attentional_pool: true, attn_pooler_queries: 5, attn_pooler_heads: 4}
                text_cfg: {context_length: 24, vocab_size: 1014, width: 48, heads: 4, layers: 1, embed_cls: true, pad_id: 1013}
                multimodal_cfg: {context_length: 24, width: 48, heads: 4, layers: 1}
              tokenizer: {merges: {{Path.Combine(Goldens.Repository, "data", "tokenizers", "clip", "merges.txt")}}, count: 500}
            data: {set: emoji, concepts: 20, batch_size: 16, measures: [captions, zero_shot], captions: {templates: ["{}"], tag_probability: 0} }
            objectives: [{name: contrastive}, {name: captioning, weight: 2}]
            schedule: {learning_rate: 0.004, steps: 160, warmup_steps: 10}
            training: {precision: float32, log_every: 40, validate_every: 0}
            """, "coca.yaml");
        IReadOnlyDictionary<string, double> measured;
        using (var training = RecipeRun.Create(recipe, run)) measured = training.Trainer.Run().Validation;
        Assert.InRange(measured["caption_exact"], 0, 1);
        Assert.InRange(measured["caption_cider"], measured["caption_exact"] * 2.5, 10);                       // a name of one word that is right is one of four n-grams
        Assert.InRange(measured["caption_words"], measured["caption_exact"], 1);
        Assert.InRange(measured["caption_exact_by_chance"], 0, measured["caption_exact"] / 2);
        using var coca = Captioner.Load(Path.Combine(run, "last"));
        var emoji = EmojiSet.Open().Subset(20);
        var drawings = emoji.Select(EmojiSplit.Train)[..72];
        var captions = coca.Caption([.. drawings.Select(d => new Image(emoji.Size, emoji.Size, 4, emoji.Pixels(d).ToArray()))], new() { MinTokens = 1, Beams = 2, LengthPenalty = 0 });
        var right = drawings.Where((drawing, i) => Letters(captions[i].Text) == Letters(emoji.Concepts[emoji.Images[drawing].Concept].Name)).Count();
        Assert.True(right > drawings.Length / 10, $"{right} of {drawings.Length} captions are right; by chance 1 of 20 would be.");

        static string Letters(string text) => string.Concat(text.Where(char.IsLetter)).ToLowerInvariant();
    }

    [Theory]
    [InlineData("CLIPModel", "emoji", "ClipModel, which writes none")]
    [InlineData("CLIPModel", "scenes", "on the emoji")]
    public void Captions_are_measured_of_a_model_that_writes_them_on_the_emoji(string architecture, string set, string expected)
    {
        TinyClip.Write(folder, architecture);
        var recipe = Recipe.Parse($"name: tiny\nmodel: {{from: '{folder}'}}\ndata: {{set: {set}, concepts: 40, batch_size: 4, measures: [captions]}}\nschedule: {{learning_rate: 0.1, steps: 1}}", "tiny.yaml");
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(recipe, Path.Combine(folder, "run"))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, 1, 5)]
    [InlineData(1, 6, 5)]
    [InlineData(1, 0, 0)]
    public void Searches_that_cannot_be_are_refused(int beams, int least, int most)
    {
        using var pixels = Pixels(1);
        Assert.Throws<PanoptesException>(() => model.Generate(pixels, Start, End, new() { Beams = beams, MinTokens = least, MaxTokens = most }));
    }

    [Theory]
    [InlineData("\"width\":16,\"heads\":2,\"layers\":2}}", "\"width\":20,\"heads\":2,\"layers\":2}}", "multimodal_cfg.width")]
    [InlineData("\"embed_cls\":true", "\"embed_cls\":false", "embed_cls")]
    [InlineData("\"attn_pooler_queries\":3", "\"attn_pooler_queries\":1", "attn_pooler_queries")]
    public void Parts_that_do_not_go_together_are_refused_by_name(string good, string bad, string named)
    {
        TinyClip.Write(folder, "CoCa");
        var path = Path.Combine(folder, "open_clip_config.json");
        var config = JsonNode.Parse("""{"model_cfg":{"embed_dim":16,"custom_text":true,"vision_cfg":{"image_size":16,"layers":2,"width":24,"head_width":8,"patch_size":8,"attentional_pool":true,"attn_pooler_queries":3,"attn_pooler_heads":2},"text_cfg":{"context_length":8,"width":16,"heads":2,"layers":2,"vocab_size":40,"embed_cls":true},"multimodal_cfg":{"context_length":8,"width":16,"heads":2,"layers":2}}}""")!.ToJsonString();
        Assert.Contains(good, config, StringComparison.Ordinal);
        File.WriteAllText(path, config.Replace(good, bad, StringComparison.Ordinal));
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => Models.Load(folder)).Message, StringComparison.Ordinal);
    }
}
