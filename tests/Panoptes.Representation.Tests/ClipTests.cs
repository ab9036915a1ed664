using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Representation.Tests;

/// <summary>Images and texts in, probabilities and embeddings out, with tiny models of random weights and CLIP's own tokenizer cut short.</summary>
public sealed class ClipTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-clip-").FullName;
    readonly string[] labels = ["a red apple", "a cat", "a dog"];

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory]
    [InlineData("CLIPModel")]
    [InlineData("CLIP")]
    public void Labels_share_a_probability_of_one_the_likeliest_first(string architecture)
    {
        using var clip = Tiny(architecture);
        var result = clip.Classify(Picture(1), labels);
        Assert.Equal(labels.Order(), result.Select(static r => r.Label).Order());
        Assert.Equal(1, result.Sum(static r => r.Probability), 1e-5);
        Assert.Equal(result.OrderByDescending(static r => r.Probability), result);
    }

    [Theory]
    [InlineData("SiglipModel")]
    [InlineData("Siglip2Model")]
    public void SigLIP_judges_each_label_by_itself(string architecture)
    {
        using var clip = Tiny(architecture);
        var all = clip.Classify(Picture(1), labels);
        var alone = clip.Classify(Picture(1), ["a cat"]);
        Assert.Equal(all.Single(static r => r.Label == "a cat").Probability, alone[0].Probability, 1e-5);
        Assert.All(all, static r => Assert.InRange(r.Probability, 0, 1));
    }

    [Fact]
    public void A_file_and_the_image_in_it_give_the_same()
    {
        using var clip = Tiny("CLIPModel");
        var path = Path.Combine(folder, "picture.png");
        Picture(2).Save(path);
        Assert.Equal(clip.Classify(Picture(2), labels), clip.Classify(path, labels));
    }

    [Fact]
    public void Embeddings_have_length_one_and_do_not_depend_on_the_batch_size()
    {
        using var clip = Tiny("CLIPModel");
        Image[] pictures = [Picture(1), Picture(2), Picture(3, 50, 20), Picture(4), Picture(5)];
        using var scope = NewDisposeScope();
        var all = clip.EmbedImages(pictures);
        Assert.Equal([5, clip.EmbeddingSize], all.shape);
        Assert.True((all.norm(-1) - 1).abs().max().item<float>() < 1e-5f);
        for (var i = 0; i < pictures.Length; i++)
        {
            var one = clip.Embed(pictures[i]);
            for (var j = 0; j < one.Length; j++) Assert.Equal(one[j], all[i, j].item<float>(), 1e-5f);
        }
        Assert.Equal(clip.Similarity(pictures, labels)[2, 1], (all[2] * clip.EmbedTexts(labels)[1]).sum().item<float>(), 1e-5f);
    }

    [Fact]
    public void Files_embed_as_their_images_do_in_their_order()
    {
        using var clip = Tiny("CLIPModel");
        var pictures = Enumerable.Range(0, 7).Select(i => Picture(i, 20 + i, 30)).ToArray();
        var paths = pictures.Select((_, i) => Path.Combine(folder, $"{i}.png")).ToArray();
        for (var i = 0; i < paths.Length; i++) pictures[i].Save(paths[i]);
        var done = new List<int>();
        using var scope = NewDisposeScope();
        var files = clip.EmbedFiles(paths, new Immediate(done.Add));
        Assert.True((files - clip.EmbedImages(pictures)).abs().max().item<float>() < 1e-6f);
        Assert.Equal([2, 4, 6, 7], done);
    }

    [Fact]
    public void A_file_that_is_no_image_is_named()
    {
        using var clip = Tiny("CLIPModel");
        var (good, bad) = (Path.Combine(folder, "good.png"), Path.Combine(folder, "bad.png"));
        Picture(1).Save(good);
        File.WriteAllText(bad, "no image");
        Assert.Contains("bad.png", Assert.Throws<PanoptesException>(() => clip.EmbedFiles([good, good, good, bad])).Message);
    }

    [Fact]
    public void Templates_are_averaged()
    {
        using var clip = Tiny("CLIPModel");
        using var scope = NewDisposeScope();
        var mean = clip.EmbedTexts(["a cat.", "my cat"]).mean([0]);
        var label = clip.EmbedLabels(["cat"], ["a {}.", "my {}"])[0];
        Assert.True((label - mean / mean.norm()).abs().max().item<float>() < 1e-6f);
    }

    [Fact]
    public void What_cannot_be_answered_is_refused_in_one_sentence()
    {
        using var clip = Tiny("CLIPModel");
        Refused(() => clip.Classify(Picture(1), []), "No labels");
        Refused(() => clip.Classify(Picture(1), labels, ["a photo"]), "\"a photo\" has no {}");
        Refused(() => clip.Classify(Picture(1), labels, []), "No templates");
        Refused(() => clip.EmbedImages([]), "No images");
        Refused(() => clip.EmbedTexts([]), "No texts");
        Refused(() => clip.EmbedFiles([]), "No images");
        Refused(() => clip.Classify(Path.Combine(folder, "nowhere.png"), labels), "nowhere.png");
        Refused(() => Clip.Load(Path.Combine(folder, "nowhere")), "nowhere");

        static void Refused(Action action, string part)
        {
            var message = Assert.Throws<PanoptesException>(action).Message;
            Assert.Contains(part, message);
            Assert.DoesNotContain('\n', message);
        }
    }

    [Fact]
    public void A_text_longer_than_the_model_takes_is_reported_and_cut_only_when_asked()
    {
        using var clip = Tiny("CLIPModel");
        var text = string.Join(' ', Enumerable.Repeat("cat", 40));
        var message = Assert.Throws<PanoptesException>(() => clip.EmbedTexts(["short", text])).Message;
        Assert.Contains("cat cat cat", message);
        Assert.Contains("at most 16", message);
        using var lenient = Clip.Load(folder, new() { TruncateTexts = true });
        Assert.Equal(lenient.EmbeddingSize, lenient.Embed(text).Length);
    }

    [Theory]
    [InlineData("CLIPModel")]
    [InlineData("SiglipModel")]
    [InlineData("Siglip2Model")]
    [InlineData("CLIP")]
    public void A_saved_model_loads_back_complete(string architecture)
    {
        using var clip = Tiny(architecture);
        var copy = Path.Combine(folder, "copy");
        clip.Save(copy);
        using var loaded = Clip.Load(copy);
        var (before, after) = (clip.Embed(Picture(3)), loaded.Embed(Picture(3)));
        for (var i = 0; i < before.Length; i++) Assert.Equal(before[i], after[i], 1e-6f);
        foreach (var (a, b) in clip.Classify(Picture(3), labels).Zip(loaded.Classify(Picture(3), labels)))
        {
            Assert.Equal(a.Label, b.Label);
            Assert.Equal(a.Probability, b.Probability, 1e-5f);
        }
    }

    [Fact]
    public void A_model_in_bfloat16_agrees_within_its_precision()
    {
        using var exact = Tiny("CLIPModel");
        using var rounded = Clip.Load(folder, new() { Dtype = ScalarType.BFloat16 });
        var (a, b) = (exact.Embed(Picture(1)), rounded.Embed(Picture(1)));
        Assert.True(a.Zip(b).Sum(static p => p.First * p.Second) > 0.999f);
    }

    [Fact]
    public void A_tokenizer_of_another_model_is_refused()
    {
        using (Tiny("CLIPModel")) { }
        ClipVocabulary.Truncate(MergesFile(), 3, folder, 16);
        Assert.Contains("tokenizer", Assert.Throws<PanoptesException>(() => Clip.Load(folder)).Message);
    }

    [Theory]
    [InlineData("CLIPModel")]
    [InlineData("SiglipModel")]
    [InlineData("Siglip2Model")]
    [InlineData("CLIP")]
    public void No_public_call_leaves_a_tensor_behind(string architecture)
    {
        var path = Path.Combine(folder, "picture.png");
        Picture(1).Save(path);
        using (Tiny(architecture)) { }
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var clip = Clip.Load(folder, new() { BatchSize = 2 });
            clip.Classify(path, labels, ["a {}", "the {}"]);
            clip.Classify([Picture(1), Picture(2), Picture(3)], labels);
            clip.Similarity([Picture(1)], labels);
            clip.Embed(Picture(1));
            clip.Embed("a cat");
            clip.EmbedFiles([path, path, path]).Dispose();
            clip.EmbedLabels(labels, ["a {}", "the {}"]).Dispose();
            Assert.Throws<PanoptesException>(() => clip.EmbedTexts([new string('x', 500)]));
            clip.Save(Path.Combine(folder, "copy"));
        }
    }

    [Fact]
    public void An_embedding_call_leaves_one_tensor()
    {
        using var clip = Tiny("CLIPModel");
        var before = LiveTensors.Settle();
        using var images = clip.EmbedImages([Picture(1), Picture(2), Picture(3)]);
        using var texts = clip.EmbedTexts(labels);
        Assert.Equal(before + 2, Tensor.TotalCount);
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(1, false)]
    [InlineData(2, true)]
    public void What_diffusion_models_read_of_a_text_is_a_hidden_state_with_or_without_the_last_norm(int skipped, bool normalized)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = new ClipTextModel(new() { HiddenSize = 16, IntermediateSize = 24, NumHiddenLayers = 3, NumAttentionHeads = 2, MaxPositionEmbeddings = 8, VocabSize = 40, EosTokenId = 39 }, 12);
        model.Initialize(new Generator(1));
        var ids = tensor(new long[] { 5, 9, 39, 0, 7, 1, 2, 39 }, [2, 4]);
        var whole = model.Forward(ids, hiddenStates: true);
        var state = whole.HiddenStates![^(skipped + 1)];
        var wanted = (normalized ? model.TextModel.FinalLayerNorm.Forward(state) : state).data<float>().ToArray();
        var before = LiveTensors.Settle();
        using (var alone = model.Read(ids, skipped: skipped, normalized: normalized).Tokens) Assert.Equal(wanted, alone.data<float>().ToArray());
        var (tokens, pooled) = model.Read(ids, skipped: skipped, normalized: normalized, pooled: true);
        Assert.Equal(wanted, tokens.data<float>().ToArray());
        Assert.Equal(whole.Embedding.data<float>().ToArray(), pooled!.data<float>().ToArray());
        tokens.Dispose();
        pooled.Dispose();
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Contains("4 of", Assert.Throws<PanoptesException>(() => model.Read(ids, skipped: 4)).Message, StringComparison.Ordinal);
    }

    string MergesFile()
    {
        var path = Path.Combine(folder, "all-merges.txt");
        File.WriteAllText(path, "#version: 0.2\nc a\nca t</w>\nd o\n");
        return path;
    }

    static Image Picture(int seed, int width = 40, int height = 30)
    {
        var pixels = new byte[width * height * 3];
        new Random(seed).NextBytes(pixels);
        return new(width, height, 3, pixels);
    }

    /// <summary>A complete folder with a model of random weights, loaded.</summary>
    Clip Tiny(string architecture)
    {
        TinyClip.Write(folder, architecture);
        return Clip.Load(folder, new() { BatchSize = 2 });
    }

    /// <summary><see cref="Progress{T}"/> reports on another thread, some time later.</summary>
    sealed class Immediate(Action<int> report) : IProgress<int>
    {
        public void Report(int value) => report(value);
    }

    [Fact]
    public void An_embedding_of_zeros_is_compared_as_zeros_and_its_gradient_is_finite()
    {
        using var scope = NewDisposeScope();
        var embeddings = tensor(new float[] { 0, 0, 3, 4 }, [2, 2], requires_grad: true);
        var unit = DualEncoder.Normalize(embeddings);
        Assert.Equal([0f, 0, 0.6f, 0.8f], unit.data<float>().ToArray());
        (unit * tensor(new float[] { 1, 2, 1, 2 }, [2, 2])).sum().backward();
        Assert.True(embeddings.grad!.isfinite().all().item<bool>());
    }
}
