using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Parity;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation.Tests;

/// <summary>aMUSEd's pipelines, in small; images of all three tasks were compared once with the peer's, of the same folder, and are the same.</summary>
public sealed class AmusedTests : IDisposable
{
    const int Codes = 32, Mask = 33;

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-amused-").FullName;

    readonly Amused images = Tiny();

    public void Dispose()
    {
        images.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    static Amused Tiny()
    {
        var tokenizer = Tokenizer.Load(Path.Combine(Goldens.Repository, "zoo", "sd-emoji", "tokenizer"));
        var transformer = new UVit(ModelConfig.Parse<UVitConfig>("""{"hidden_size":16,"cond_embed_dim":12,"micro_cond_encode_dim":8,"micro_cond_embed_dim":40,"encoder_hidden_size":16,"vocab_size":34,"codebook_size":32,"in_channels":16,"block_out_channels":16,"num_res_blocks":1,"downsample":true,"upsample":true,"block_num_heads":2,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":24,"sample_size":8}""", "a test"));
        var vqvae = new VqModel(ModelConfig.Parse<VqConfig>("""{"sample_size":16,"block_out_channels":[8,8],"down_block_types":["DownEncoderBlock2D","DownEncoderBlock2D"],"up_block_types":["UpDecoderBlock2D","UpDecoderBlock2D"],"layers_per_block":1,"norm_num_groups":4,"latent_channels":4,"num_vq_embeddings":32,"mid_block_add_attention":false,"lookup_from_codebook":true}""", "a test"));
        var text = new ClipTextModel(new() { VocabSize = tokenizer.VocabularySize, HiddenSize = 16, IntermediateSize = 24, NumHiddenLayers = 2, NumAttentionHeads = 2, MaxPositionEmbeddings = 24, ProjectionDim = 12, BosTokenId = tokenizer.VocabularySize - 2, EosTokenId = tokenizer.VocabularySize - 1 }, 12);
        foreach (var (module, seed) in (ReadOnlySpan<(Module, ulong)>)[(transformer, 1), (vqvae, 2), (text, 3)]) module.Initialize(new Generator(seed));
        using var noGrad = no_grad();
        vqvae.Quantize.Embedding.Weight.Value.normal_(generator: new Generator(4));
        return new(transformer, vqvae, new(text, tokenizer), new() { MaskTokenId = Mask }, "tiny");
    }

    byte[] Pixels(ImageRequest request) => images.Generate([request])[0].Image.Pixels;

    static Image Picture() => new(16, 16, 3, [.. Enumerable.Range(0, 16 * 16 * 3).Select(static i => (byte)(i * 37))]);

    [Fact]
    public void An_image_follows_from_its_seed_whatever_is_made_beside_it_and_a_folder_makes_the_same()
    {
        var request = new ImageRequest("a cat") { Seed = 3, Steps = 4, NegativePrompt = "a fish" };
        var alone = Pixels(request);
        var many = images.Generate([request with { Count = 3 }, new("a red apple") { Seed = 9, Steps = 4 }]);
        Assert.Equal(alone, many[0].Image.Pixels);
        Assert.Equal(Pixels(request with { Seed = 5 }), many[2].Image.Pixels);
        Assert.Equal(4, many.Select(static m => Convert.ToHexString(m.Image.Pixels)).Distinct().Count());
        Assert.NotEqual(alone, Pixels(request with { NegativePrompt = null }));
        Assert.NotEqual(alone, Pixels(request with { Guidance = 2 }));
        Assert.Equal((16, 16, 4, 10.0), (many[0].Parameters.Width, many[0].Parameters.Height, many[0].Parameters.Steps, many[0].Parameters.Guidance));
        Assert.Equal((24, 8), images.Generate([request with { Width = 24, Height = 8 }])[0] is var wide ? (wide.Image.Width, wide.Image.Height) : default);

        images.Save(folder);
        Assert.True(ImageMaker.IsIn(folder));
        var notes = new List<string>();
        using var again = ImageMaker.Load(folder, note: notes.Add);
        Assert.Equal(alone, again.Generate([request])[0].Image.Pixels);
        Assert.Empty(notes);
        again.Generate([request with { Prompt = string.Join(' ', Enumerable.Repeat("apple", 40)) }]);
        Assert.Contains("apple", Assert.Single(notes), StringComparison.Ordinal);
    }

    [Fact]
    public void An_image_of_a_batch_is_made_again_alone_to_the_last_bit_in_bfloat16_too()
    {
        images.Transformer.To(ScalarType.BFloat16);
        var request = new ImageRequest("a cat") { Seed = 3, Steps = 4, Count = 3 };
        var many = images.Generate([request]);
        Assert.Equal([new(3, 1), new(3, 2), new(3, 3)], many.Select(static m => m.Parameters.Batch!));
        for (var i = 0; i < many.Count; i++)
        {
            var again = Assert.Single(images.Generate([request with { Seed = many[i].Parameters.Seed, Count = 1, Batch = many[i].Parameters.Batch }]));
            Assert.Equal(many[i].Image.Pixels, again.Image.Pixels);
            Assert.Equal(many[i].Parameters, again.Parameters);
        }
        Assert.Null(images.Generate([request with { Count = 1 }])[0].Parameters.Batch);
    }

    [Fact]
    public void A_pictures_tokens_stay_where_a_mask_is_black_and_the_fewer_are_new_the_less_strength_there_is()
    {
        using var scope = NewDisposeScope();
        var picture = Picture();
        var mask = new Image(16, 16, 1, [.. Enumerable.Range(0, 16 * 16).Select(static i => (byte)(i % 16 < 8 ? 255 : 0))]);
        // The autoencoder looks beyond a token, so tokens are compared rather than pixels: what is kept looks as it does with all tokens as they were.
        var tokens = images.Vqvae.Quantize.Nearest(images.Vqvae.Latents(picture.ToTensor(ScalarType.Float32).unsqueeze(0))).view(1, 8, 8);
        var request = new ImageRequest("a cat") { Image = picture, Seed = 1, Steps = 6 };
        var kept = Diffusion.ToImage(images.Vqvae.Decode(images.Vqvae.Quantize.Entries(tokens)).clamp(0, 1)[0].detach());
        var none = request with { Mask = new Image(16, 16, 1, new byte[16 * 16]) };
        Assert.Equal(kept.Pixels, Pixels(none));
        Assert.NotEqual(kept.Pixels, Pixels(request with { Mask = mask }));
        Assert.NotEqual(Pixels(request with { Strength = 0.34 }), Pixels(request with { Strength = 1 }));
        // With all of it unknown, nothing of the picture counts.
        Assert.Equal(Pixels(request with { Strength = 1 }), Pixels(request with { Strength = 1, Image = new Image(16, 16, 3, new byte[16 * 16 * 3]) }));
        var parameters = images.Generate([request with { Mask = mask }])[0].Parameters;
        Assert.Equal((1.0, true, true), (parameters.Strength, parameters.Image is not null, parameters.Mask is not null));
        Assert.Equal(0.5, images.Generate([request])[0].Parameters.Strength);
    }

    [Fact]
    public async Task Every_step_is_told_and_what_is_known_is_shown()
    {
        var all = new List<ImageProgress>();
        await foreach (var progress in images.GenerateAsync([new("a cat") { Seed = 3, Steps = 4, Count = 2 }, new("a cat") { Seed = 3, Steps = 4, Image = Picture(), Strength = 0.5 }], previewEvery: 2)) all.Add(progress);
        Assert.Equal([1, 2, 3, 4, 4, 7, 8, 8], all.Select(static p => p.Done));
        Assert.All(all, static p => Assert.Equal(8, p.Total));
        Assert.Equal([1], all.Select(static (p, i) => (p.Preview, i)).Where(static p => p.Preview is not null).Select(static p => p.i));
        Assert.Equal((16, 16), (all[1].Preview!.Width, all[1].Preview!.Height));
        Assert.Equal([2, 1], all.Where(static p => p.Finished is not null).Select(static p => p.Finished!.Count));
        Assert.Equal(3, all[^1].Images!.Count);
    }

    [Fact]
    public void One_token_alone_is_drawn_once_and_stays()
    {
        using var scope = NewDisposeScope();
        var run = new AmusedScheduler { MaskTokenId = Mask }.Start(3);
        var tokens = full([2, 1, 1], Mask, ScalarType.Int64);
        var logits = zeros(2, Codes, 1, 1);
        logits.index_put_(50, TensorIndex.Colon, TensorIndex.Single(5));
        foreach (var i in Enumerable.Range(0, 3)) tokens = run.Step(i, logits, tokens, new Generator(1)).Tokens;
        Assert.Equal([5L, 5], tokens.data<long>().ToArray());
    }

    [Fact]
    public void What_cannot_be_is_refused_with_one_sentence()
    {
        var picture = Picture();
        void Refused(string why, ImageRequest request) => Assert.Contains(why, Assert.Throws<PanoptesException>(() => images.Generate([request])).Message, StringComparison.Ordinal);
        Refused("multiples of 4", new("a cat") { Width = 18 });
        Refused("expected at most 8192 a side", new("a cat") { Image = new(9000, 4, 3) });
        Refused("takes no sampler", new("a cat") { Sampler = "euler" });
        Refused("leaves none", new("a cat") { Image = picture, Strength = 0.01 });
        Refused("above 0 to 1", new("a cat") { Image = picture, Strength = 1.5 });
        Refused("without a picture", new("a cat") { Strength = 0.5 });
        Refused("the picture 16x16", new("a cat") { Image = picture, Mask = new Image(8, 8, 1, new byte[64]) });
        Refused("expected 1 to 10,000", new("a cat") { Count = 0 });
        Refused("not finite", new("a cat") { Guidance = double.MaxValue });
        using var scope = NewDisposeScope();
        images.Save(folder);
        Assert.Contains("AmusedPipeline", Assert.Throws<PanoptesException>(() => PipelineFolder.Load(folder)).Message, StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(folder, "scheduler", "scheduler_config.json"), """{"_class_name": "AmusedScheduler", "mask_token_id": 31}""");
        Assert.Contains($"the autoencoder has {Codes}, and 31", Assert.Throws<PanoptesException>(() => Amused.Load(folder)).Message, StringComparison.Ordinal);
        Directory.Delete(Path.Combine(folder, "vqvae"), recursive: true);
        Assert.Contains("vqvae", Assert.Throws<PanoptesException>(() => Amused.Load(folder)).Message, StringComparison.Ordinal);
    }
}
