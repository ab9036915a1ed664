using System.Text;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Representation.Tests;
using Panoptes.Search;

namespace Panoptes.Cli.Tests;

/// <summary>Each command with a tiny model on real files: what it gives, and what bad input gets.</summary>
public sealed class CommandTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public CommandTests()
    {
        TinyClip.Write(Model);
        Directory.CreateDirectory(folder["pictures/sub"]);
        for (var i = 0; i < 4; i++) Picture(i).Save(folder[$"pictures/{(i == 3 ? "sub/" : "")}{i}.png"]);
    }

    string Model => folder["model"];

    string Pictures => folder["pictures"];

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task Classify_gives_every_label_its_probability()
    {
        var json = (await Command.Succeeds("classify", folder["pictures/0.png"], folder["pictures/1.png"], "--labels", "a cat,a dog,tree", "--top", "2", "-m", Model, "--json")).Json;
        Assert.Equal(2, json.GetArrayLength());
        Assert.Equal(folder["pictures/1.png"], json[1].GetProperty("image").GetString());
        Assert.Equal(2, json[0].GetProperty("labels").GetArrayLength());
        var top = json[0].GetProperty("labels")[0];
        var table = await Command.Succeeds("classify", folder["pictures/0.png"], "--labels", "a cat,a dog,tree", "-m", Model);
        Assert.Contains(top.GetProperty("label").GetString()!, table.Output, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', table.Output);
        File.WriteAllText(folder["labels.txt"], "a cat\n\na dog\n");
        Assert.Equal(2, (await Command.Succeeds("classify", folder["pictures/0.png"], "--labels-file", folder["labels.txt"], "-m", Model, "--json")).Json[0].GetProperty("labels").GetArrayLength());
    }

    [Fact]
    public async Task Caption_says_something_of_every_image()
    {
        await Command.Fails(["caption", folder["pictures/0.png"], "-m", Model], "expected a CoCa");
        TinyClip.Write(folder["coca"], "CoCa");
        TinyClip.Write(folder["beit3"], "BEiT3ForCaptioning");
        Assert.Equal(2, (await Command.Succeeds("caption", folder["pictures/0.png"], folder["pictures/1.png"], "-m", folder["beit3"], "--json")).Json.GetArrayLength());
        var json = (await Command.Succeeds("caption", folder["pictures/0.png"], folder["pictures/1.png"], "-m", folder["coca"], "--beams", "2", "--max-tokens", "5", "--json")).Json;
        Assert.Equal(folder["pictures/1.png"], json[1].GetProperty("image").GetString());
        Assert.InRange(json[1].GetProperty("score").GetDouble(), -100, 0);
        var table = await Command.Succeeds("caption", folder["pictures/0.png"], "-m", folder["coca"], "--beams", "2", "--max-tokens", "5");
        // Random weights say what a terminal must not be told as it is.
        Assert.Contains(Terminal.Plain(json[0].GetProperty("caption").GetString()!), table.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Answer_gives_the_likeliest_answers_about_every_image()
    {
        await Command.Fails(["answer", "a cat?", folder["pictures/0.png"], "-m", Model], "expected a model that answers questions");
        TinyClip.Write(folder["vqa"], "BEiT3ForVisualQuestionAnswering");
        await Command.Fails(["answer", "a cat?", folder["nothing.png"], "-m", folder["vqa"]], "does not exist");
        await Command.Fails(["answer", string.Join(' ', Enumerable.Repeat("cat", 40)), folder["pictures/0.png"], "-m", folder["vqa"]], "the model takes at most");
        var json = (await Command.Succeeds("answer", "a cat?", folder["pictures/0.png"], folder["pictures/1.png"], "-m", folder["vqa"], "--top", "9", "--json")).Json;
        Assert.Equal(folder["pictures/1.png"], json[1].GetProperty("image").GetString());
        Assert.Equal(["2", "no", "yes"], json[1].GetProperty("answers").EnumerateArray().Select(static a => a.GetProperty("text").GetString()).Order(StringComparer.Ordinal));
        var table = await Command.Succeeds("answer", "a cat?", folder["pictures/0.png"], "-m", folder["vqa"], "--top", "1");
        Assert.Contains(json[0].GetProperty("answers")[0].GetProperty("text").GetString() + " (", table.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_model_that_hears_embeds_classifies_and_searches_by_sounds()
    {
        await Command.Succeeds("data", "show", "sensors", "pizza", "--out", folder["sensors.png"], "--wav", folder["spoken"]);
        Assert.True(Image.Load(folder["sensors.png"]).Width > 600);
        Assert.True(Audio.WavFile.Load(folder["spoken/pizza.wav"]).Seconds is > 0.2 and < 3);
        Audio.WavFile.Save(folder["tone.wav"], new Audio.Waveform([[.. Enumerable.Range(0, 16000).Select(static i => MathF.Sin(i * 0.2f) / 3)]], 16000));
        await Command.Fails(["classify", folder["tone.wav"], "--labels", "a cat,a dog", "-m", Model], "no tower for sounds");
        using (var bound = BoundEncoder.Over((DualEncoder)Models.Load(Model), [Modality.Audio], new() { AudioEmbedDim = 16, AudioNumBlocks = 1, AudioNumHeads = 2, AudioNumMelBins = 16, AudioTargetLen = 64 }))
        using (var generator = new TorchSharp.torch.Generator(3))
        {
            bound.Tower(Modality.Audio).Initialize(generator);
            bound.LogScale(Modality.Audio).Initialize(generator);
            Models.Save(folder["bound"], bound);
        }
        foreach (var file in Directory.GetFiles(Model))
            if (!File.Exists(folder["bound/" + Path.GetFileName(file)])) File.Copy(file, folder["bound/" + Path.GetFileName(file)]);
        var labels = (await Command.Succeeds("classify", folder["tone.wav"], "--labels", "a cat,a dog", "-m", folder["bound"], "--json")).Json[0].GetProperty("labels");
        Assert.Equal(1, labels.EnumerateArray().Sum(static l => l.GetProperty("probability").GetDouble()), 1e-4);
        Assert.Equal((1, 12), (await Command.Succeeds("embed", folder["tone.wav"], "--out", folder["sounds.npy"], "-m", folder["bound"], "--json")).Json is var json ? (json.GetProperty("rows").GetInt32(), json.GetProperty("dimension").GetInt32()) : default);
        Assert.Contains(".png", (await Command.Succeeds("search", Pictures, "--audio", folder["tone.wav"], "-m", folder["bound"])).Output, StringComparison.Ordinal);
        Assert.Contains(".png", (await Command.Succeeds("search", Pictures, "--audio", folder["tone.wav"], "--image", folder["pictures/0.png"], "-m", folder["bound"])).Output, StringComparison.Ordinal);
        await Command.Fails(["embed", folder["tone.wav"], folder["pictures/0.png"], "--out", folder["both.npy"], "-m", folder["bound"]], "Images and sounds");
        await Command.Fails(["search", Pictures, "--audio", folder["none.wav"], "-m", folder["bound"]], "none.wav does not exist");
    }

    /// <summary>What zoo/sounds-emoji is for: names that are spoken, among written ones.</summary>
    [Fact]
    public async Task The_zoo_hears_what_is_spoken()
    {
        string[] names = ["pizza", "violin", "tiger", "banana"];
        await Command.Succeeds(["data", "show", "sensors", .. names, "--out", folder["sensors.png"], "--wav", folder["spoken"]]);
        var heard = (await Command.Succeeds(["classify", .. names.Select(n => folder[$"spoken/{n}.wav"]), "--labels", string.Join(',', names), "--top", "1", "-m", Path.Combine(Parity.Goldens.Repository, "zoo", "sounds-emoji"), "--json"])).Json;
        Assert.Equal(names, heard.EnumerateArray().Select(static h => h.GetProperty("labels")[0].GetProperty("label").GetString()));
    }

    [Fact]
    public async Task Explain_draws_words_or_attention()
    {
        var words = (await Command.Succeeds("explain", folder["pictures/0.png"], folder["pictures/1.png"], "--text", "a cat", "--out", folder["words.png"], "-m", Model, "--json")).Json;
        var explained = words.GetProperty("explained");
        Assert.Equal(2, explained.GetArrayLength());
        Assert.Equal(["a", "cat"], explained[0].GetProperty("words").EnumerateArray().Select(static w => w.GetProperty("word").GetString()));
        Assert.True(Image.Load(folder["words.png"]).Width > 600);
        await Command.Succeeds("explain", folder["pictures/0.png"], "--out", folder["attention.webp"], "-m", Model);
        Assert.True(Image.Load(folder["attention.webp"]).Width > 300);
        await Command.Fails(["explain", folder["none.png"], "-m", Model], "none.png does not exist");
        await Command.Fails(["explain", folder["pictures/0.png"], "--text", new string('x', 300), "--out", folder["x.png"], "-m", Model], "tokens");
        Assert.False(File.Exists(folder["x.png"]));
    }

    [Fact]
    public async Task Explain_shows_what_is_alike_and_an_image_is_no_neighbor_of_itself()
    {
        var json = (await Command.Succeeds("explain", folder["pictures/0.png"], "--neighbors", Pictures, "--top", "2", "--out", folder["near.png"], "-m", Model, "--json")).Json;
        var near = json.GetProperty("explained")[0].GetProperty("neighbors");
        Assert.Equal(2, near.GetArrayLength());
        Assert.All(near.EnumerateArray(), static n => Assert.NotEqual("0.png", n.GetProperty("image").GetString()));
        Assert.True(near[0].GetProperty("similarity").GetDouble() >= near[1].GetProperty("similarity").GetDouble());
        Assert.True(Image.Identify(folder["near.png"]).Width > 400);
        await Command.Fails(["explain", folder["pictures/0.png"], "--neighbors", "emoji:none", "-m", Model], "no style none", "noto");
        Directory.CreateDirectory(folder["empty"]);
        await Command.Fails(["explain", folder["pictures/0.png"], "--neighbors", folder["empty"], "-m", Model], "holds no images");
        foreach (var wrong in (string[][])[["--seed", "1"], ["--top", "3"], ["--neighbors", Pictures, "--text", "a cat"]])
            Assert.Equal(App.WrongUsage, (await Command.Run(["explain", folder["pictures/0.png"], "-m", Model, .. wrong])).Code);
    }

    [Fact]
    public async Task Explain_shows_what_a_masked_autoencoder_makes_of_a_part()
    {
        using (var mae = new MaeForPreTraining(new() { HiddenSize = 16, IntermediateSize = 32, NumHiddenLayers = 1, NumAttentionHeads = 2, ImageSize = 16, PatchSize = 4, DecoderHiddenSize = 12, DecoderIntermediateSize = 24, DecoderNumHiddenLayers = 1, DecoderNumAttentionHeads = 3 }))
        {
            using (var generator = new TorchSharp.torch.Generator(5)) mae.Initialize(generator);
            Models.Save(folder["mae"], mae);
        }
        File.WriteAllText(folder["mae/preprocessor_config.json"], """{"image_processor_type":"ViTImageProcessor","size":{"height":16,"width":16}}""");
        var json = (await Command.Succeeds("explain", folder["pictures/0.png"], "--seed", "3", "--out", folder["mae.png"], "-m", folder["mae"], "--json")).Json.GetProperty("explained")[0];
        Assert.Equal((0.75, false), (json.GetProperty("masked").GetDouble(), json.GetProperty("normalized").GetBoolean()));
        Assert.True(json.GetProperty("loss").GetDouble() > 0);
        Assert.True(Image.Identify(folder["mae.png"]).Width > 500);
    }

    [Theory]
    [InlineData("v.npy")]
    [InlineData("v.safetensors")]
    [InlineData("v.parquet")]
    public async Task Embed_writes_vectors_of_length_one(string name)
    {
        File.WriteAllText(folder["pictures/broken.png"], "no image");
        var result = await Command.Succeeds("embed", Pictures, "--out", folder[name], "-m", Model, "--json");
        Assert.Equal((4, 12, 1), (result.Json.GetProperty("rows").GetInt32(), result.Json.GetProperty("dimension").GetInt32(), result.Json.GetProperty("bad").GetArrayLength()));
        Assert.True(new FileInfo(folder[name]).Length > 4 * 12 * 4);
        if (name == "v.safetensors")
        {
            using var scope = TorchSharp.torch.NewDisposeScope();
            Assert.All(SafeTensors.Load(folder[name])["embeddings"].norm(1).data<float>().ToArray(), static n => Assert.Equal(1, n, 1e-4));
        }
        if (name == "v.npy") Assert.Equal(4, File.ReadAllLines(folder["v.names.txt"]).Length);
        await Command.Fails(["embed", Pictures, "--out", folder["strict.npy"], "-m", Model, "--strict"], "broken.png");
        Assert.False(File.Exists(folder["strict.npy"]));
    }

    [Fact]
    public async Task Search_finds_images_by_text_and_by_image_and_keeps_its_index()
    {
        var first = (await Command.Succeeds("search", Pictures, "a cat", "--top", "3", "-m", Model, "--json")).Json;
        Assert.Equal(4, first.GetProperty("images").GetInt32());
        Assert.Equal(4, first.GetProperty("update").GetProperty("added").GetInt32());
        Assert.Equal(3, first.GetProperty("answers")[0].GetProperty("hits").GetArrayLength());
        var second = (await Command.Succeeds("search", Pictures, "--image", folder["pictures/2.png"], "--sheet", folder["sheet.png"], "-m", Model, "--json")).Json;
        Assert.Equal(0, second.GetProperty("update").GetProperty("added").GetInt32());
        Assert.Equal("2.png", second.GetProperty("answers")[0].GetProperty("hits")[0].GetProperty("path").GetString());
        Assert.True(Image.Identify(folder["sheet.png"]).Width > 100);
        File.Delete(folder["pictures/2.png"]);
        var third = (await Command.Succeeds("search", Pictures, "a cat", "-m", Model, "--json")).Json;
        Assert.Equal((3, 1), (third.GetProperty("images").GetInt32(), third.GetProperty("update").GetProperty("removed").GetInt32()));
    }

    [Fact]
    public async Task Search_with_sparse_embeddings_goes_by_inner_products_through_an_inverted_index()
    {
        TinyClip.Write(folder["stair"], "StairModel");
        var answers = (await Command.Succeeds("search", Pictures, "a cat", "do", "--image", folder["pictures/1.png"], "-m", folder["stair"], "--json")).Json.GetProperty("answers");
        Assert.Single(Directory.GetFiles(folder["pictures/.panoptes"], "inverted-*.safetensors"));
        using var clip = Clip.Load(folder["stair"]);
        var image = clip.Embed(Image.Load(folder["pictures/1.png"]));
        foreach (var answer in answers.EnumerateArray())
        {
            var query = clip.Embed(answer.GetProperty("text").GetString()!).Zip(image, static (t, i) => (t + i) / 2).ToArray();
            var hits = answer.GetProperty("hits").EnumerateArray().ToArray();
            Assert.Equal(4, hits.Length);
            foreach (var hit in hits)
            {
                var weights = clip.Embed(Image.Load(Path.Combine(Pictures, hit.GetProperty("path").GetString()!)));
                Assert.Equal(weights.Zip(query).Sum(static p => (double)p.First * p.Second), hit.GetProperty("score").GetDouble(), 0.02);
            }
            Assert.True(hits[0].GetProperty("score").GetDouble() > 1.001);                   // no cosine
        }
        await Command.Fails(["search", Pictures, "a cat", "-m", Model], "--reindex");
    }

    [Fact]
    public async Task Info_tells_what_a_model_is()
    {
        var json = (await Command.Succeeds("info", Model, "--json", "--keys")).Json;
        Assert.Equal("CLIPModel", json.GetProperty("architecture").GetString());
        Assert.Equal(json.GetProperty("tensors").GetInt32(), json.GetProperty("keys").GetArrayLength());
        Assert.True(json.GetProperty("parameters").GetInt64() > 1000);
        Assert.Contains("CLIPModel", (await Command.Succeeds("info", Model)).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Convert_writes_a_model_that_gives_the_same()
    {
        string[] question = ["classify", folder["pictures/0.png"], "--labels", "a cat,a dog", "--json", "-m"];
        var expected = (await Command.Succeeds([.. question, Model])).Json[0].GetProperty("labels")[0].GetProperty("probability").GetDouble();
        var json = (await Command.Succeeds("convert", Model, "--out", folder["openclip"], "--to", "open_clip", "--json")).Json;
        Assert.True(json.GetProperty("bytes").GetInt64() > 0);
        await Command.Succeeds("convert", folder["openclip"], "--out", folder["back"], "--to", "hf", "--shard-size", "8KB");
        await Command.Succeeds("convert", Model, "--out", folder["half"], "--dtype", "bfloat16");
        await Command.Succeeds("convert", folder["openclip"], "--out", folder["openclip-half"], "--dtype", "bfloat16");
        Assert.True(File.Exists(folder["openclip-half/open_clip_model.safetensors"]));
        Assert.True(Directory.GetFiles(folder["back"], "model-*-of-*.safetensors").Length > 1);
        foreach (var name in (string[])["openclip", "back", "half", "openclip-half"])
            Assert.Equal(expected, (await Command.Succeeds([.. question, folder[name]])).Json[0].GetProperty("labels")[0].GetProperty("probability").GetDouble(), name.EndsWith("half", StringComparison.Ordinal) ? 0.02 : 1e-5);
        await Command.Succeeds("convert", Model, "--out", folder["one.safetensors"]);
        await Command.Fails(["convert", Model, "--out", folder["one.safetensors"]], "exists already", "--force");
        await Command.Succeeds("convert", Model, "--out", folder["one.safetensors"], "--force");
        await Command.Fails(["convert", Model, "--out", folder["half"]], "exists already", "--force");
        await Command.Fails(["convert", Model, "--out", Model, "--force"], "is the model itself");
        await Command.Fails(["convert", Model, "--out", folder["hf"], "--to", "hf"], "names already");
        Nothing("hf");
    }

    [Fact]
    public async Task Convert_writes_pipelines_and_their_parts_under_the_names_that_the_peer_looks_for()
    {
        var pipeline = Path.Combine(Parity.Goldens.Root, "generation", "sd_text2img");
        await Command.Succeeds("convert", pipeline, "--out", folder["half"], "--dtype", "bfloat16");
        foreach (var file in Directory.GetFiles(pipeline, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(pipeline, f)).Where(static f => f.Contains('/', StringComparison.Ordinal)))
            Assert.True(File.Exists(folder[$"half/{file}"]), file);
        using (var model = Generation.PipelineFolder.Load(folder["half"], new() { Dtype = null })) Assert.Equal(TorchSharp.torch.ScalarType.BFloat16, model.Dtype);
        await Command.Succeeds("convert", folder["half/vae"], "--out", folder["vae"], "--dtype", "float32");
        Assert.True(File.Exists(folder["vae/diffusion_pytorch_model.safetensors"]));
        await Command.Succeeds("convert", pipeline, "--out", folder["half"], "--dtype", "bfloat16", "--force");
    }

    [Fact]
    public async Task What_convert_replaces_stays_until_the_new_is_whole()
    {
        Directory.CreateDirectory(folder["out"]);
        File.WriteAllText(folder["out/precious.txt"], "the only one");
        TinyClip.Write(folder["broken"]);
        File.WriteAllText(folder["broken/config.json"], "{");

        await Command.Fails(["convert", Model, "--out", folder["out"], "--force"], "holds no model");
        File.WriteAllText(folder["out/model.safetensors"], "old");

        // The weights are written by the time that the configuration turns out to be none.
        await Command.Fails(["convert", folder["broken"], "--out", folder["out"], "--force", "--dtype", "bfloat16"], "config.json", "is not JSON");
        Only("out/precious.txt");
        using (var cancel = new CancellationTokenSource())
        {
            cancel.Cancel();
            Assert.Equal(App.Interrupted, await App.RunAsync(["convert", Model, "--out", folder["out"], "--force"], TextWriter.Null, TextWriter.Null, cancel.Token));
        }
        Only("out/precious.txt");
        await Command.Succeeds("convert", Model, "--out", folder["out/"], "--force", "--dtype", "bfloat16");
        Only("out/config.json");
        Assert.False(File.Exists(folder["out/precious.txt"]));

        void Only(string file)
        {
            Assert.True(File.Exists(folder[file]));
            Assert.Equal([folder["out"]], Directory.GetFileSystemEntries(folder.Path, "out*"));
        }
    }

    [Theory]
    [InlineData("classify", "pictures/0.png", "--labels", "a cat")]
    [InlineData("embed", "pictures", "--out", "out.npy")]
    [InlineData("search", "pictures", "a cat")]
    [InlineData("info")]
    [InlineData("convert", "--out", "out.safetensors")]
    public async Task A_model_that_is_missing_cut_off_or_damaged_gives_one_sentence(params string[] command)
    {
        string[] args = [.. command.Select(a => a.Contains('/') || a.StartsWith("out", StringComparison.Ordinal) || a == "pictures" ? folder[a] : a)];
        string[] With(string model) => command[0] is "info" or "convert" ? [args[0], model, .. args[1..]] : [.. args, "--model", model];
        var weights = folder["model/model.safetensors"];
        var (good, config) = (File.ReadAllBytes(weights), File.ReadAllText(folder["model/config.json"]));

        await Command.Fails(With("./nowhere/at/all"), "./nowhere/at/all", "neither a folder, nor a file, nor a hub id");
        Directory.CreateDirectory(folder["empty"]);
        await Command.Fails(With(folder["empty"]), "empty");
        File.WriteAllBytes(weights, good[..(good.Length / 2)]);
        await Command.Fails(With(Model), "model.safetensors", "cut off");
        File.WriteAllBytes(weights, good[..5]);
        await Command.Fails(With(Model), "model.safetensors", "found 5 bytes");
        File.WriteAllBytes(weights, []);
        await Command.Fails(With(Model), "model.safetensors");
        File.WriteAllBytes(weights, Encoding.UTF8.GetBytes("<html>404 not found</html>"));
        await Command.Fails(With(Model), "model.safetensors");
        File.WriteAllBytes(weights, good);
        if (command[0] is "classify" or "embed" or "search")
        {
            File.WriteAllText(folder["model/config.json"], config.Replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", StringComparison.Ordinal));
            var result = await Command.Run(With(Model));
            Assert.Equal(App.Failed, result.Code);
            Assert.Contains("does not fit the model", result.Error, StringComparison.Ordinal);
            Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
            File.WriteAllText(folder["model/config.json"], config);
            foreach (var (file, content) in ((string, string)[])[("config.json", "{"), ("config.json", "{}"), ("config.json", "[]"), ("vocab.json", "{\"a\": 0}"), ("merges.txt", "x"), ("preprocessor_config.json", "{\"image_processor_type\": \"Magic\"}")])
            {
                var path = folder[$"model/{file}"];
                var before = File.ReadAllBytes(path);
                File.WriteAllText(path, content);
                await Command.Fails(With(Model), folder["model"]);
                File.WriteAllBytes(path, before);
            }
        }
        Nothing("out.npy");
        Nothing("out.names.txt");
        Nothing("out.safetensors");
        Nothing("pictures/.panoptes");
    }

    [Fact]
    public async Task A_hostile_pickle_is_refused_by_the_name_of_what_it_would_call()
    {
        File.WriteAllText(folder["evil.pt"], "cposix\nsystem\n(S'touch /tmp/owned'\ntR.");
        await Command.Fails(["info", folder["evil.pt"]], "evil.pt", "refused", "posix.system");
        await Command.Fails(["convert", folder["evil.pt"], "--out", folder["x.safetensors"]], "posix.system");
        Nothing("x.safetensors");
    }

    [Fact]
    public async Task Images_that_are_missing_or_damaged_are_named()
    {
        var good = folder["pictures/0.png"];
        File.WriteAllBytes(folder["cut.png"], File.ReadAllBytes(good)[..200]);
        File.WriteAllText(folder["text.png"], "no image");
        File.WriteAllBytes(folder["empty.png"], []);
        string[] tail = ["--labels", "a,b", "-m", Model];
        await Command.Fails(["classify", good, folder["none.png"], .. tail], "none.png does not exist");
        await Command.Fails(["classify", Pictures, .. tail], "is a folder; expected an image file");
        foreach (var bad in (string[])["cut.png", "text.png", "empty.png"])
        {
            await Command.Fails(["classify", good, folder[bad], .. tail], bad);
            await Command.Fails(["search", Pictures, "--image", folder[bad], "-m", Model], bad);
            await Command.Fails(["embed", folder[bad], "--out", folder["v.npy"], "-m", Model], bad);
        }
        Nothing("v.npy");
        await Command.Fails(["classify", good, "--labels-file", folder["none.txt"], "-m", Model], "none.txt");
        await Command.Fails(["embed", folder["none"], "--out", folder["v.npy"], "-m", Model], "none does not exist");
    }

    [Fact]
    public async Task Texts_that_are_too_long_are_told()
    {
        var text = string.Join(' ', Enumerable.Repeat("cat", 40));
        await Command.Fails(["classify", folder["pictures/0.png"], "--labels", text, "-m", Model], "at most 16");
        await Command.Fails(["embed", "--text", text, "--out", folder["t.npy"], "-m", Model], "at most 16");
        Nothing("t.npy");
    }

    [Fact]
    public async Task Folders_that_are_missing_or_hold_no_images_are_named()
    {
        await Command.Fails(["search", folder["none"], "x", "-m", Model], "none does not exist");
        await Command.Fails(["search", folder["pictures/0.png"], "x", "-m", Model], "is a file; expected a folder of images");
        Directory.CreateDirectory(folder["empty"]);
        await Command.Fails(["search", folder["empty"], "x", "-m", Model], "holds no images");
        await Command.Fails(["embed", folder["empty"], "--out", folder["v.npy"], "-m", Model], "holds no images");
        Nothing("empty/.panoptes");
        await Command.Fails(["search", Pictures, "x", "-m", Model, "--no-update"], "holds no index");
    }

    [Fact]
    public async Task An_index_of_another_model_or_a_damaged_one_gives_one_sentence()
    {
        await Command.Succeeds("search", Pictures, "a cat", "-m", Model);
        var index = Directory.GetFiles(folder["pictures/.panoptes"]).ToDictionary(static f => f, File.ReadAllBytes);
        TinyClip.Write(folder["other"], "SiglipModel");
        await Command.Fails(["search", Pictures, "a cat", "-m", folder["other"]], "--reindex", Model);
        await Command.Fails(["search", Pictures, "a cat", "-m", folder["other"], "--no-update"], "--reindex");
        Assert.All(index, f => Assert.Equal(f.Value, File.ReadAllBytes(f.Key)));
        foreach (var (file, content) in index.Where(static f => f.Value.Length > 0))
        {
            File.WriteAllBytes(file, content[..(content.Length / 2)]);
            await Command.Fails(["search", Pictures, "a cat", "-m", Model], ".panoptes");
            File.WriteAllBytes(file, content);
        }
        await Command.Succeeds("search", Pictures, "a cat", "-m", folder["other"], "--reindex");
    }

    [Fact]
    public async Task A_strict_search_refuses_what_it_cannot_read_and_a_lenient_one_counts_it()
    {
        File.WriteAllText(folder["pictures/broken.png"], "no image");
        await Command.Fails(["search", Pictures, "a cat", "-m", Model, "--strict"], "broken.png");
        var json = (await Command.Succeeds("search", Pictures, "a cat", "-m", Model, "--json")).Json;
        Assert.Equal("broken.png", json.GetProperty("update").GetProperty("bad")[0].GetProperty("path").GetString());
    }

    [Fact]
    public async Task Places_that_cannot_be_written_are_named()
    {
        File.WriteAllText(folder["file"], "in the way");
        await Command.Fails(["embed", "--text", "a cat", "--out", folder["file/v.npy"], "-m", Model], "cannot be written");
        await Command.Fails(["convert", Model, "--out", folder["file/m.safetensors"]], "cannot be written");
        await Command.Fails(["convert", Model, "--out", folder["file/m"]], "cannot be written");
        await Command.Fails(["search", Pictures, "x", "-m", Model, "--index", folder["file/index"]], folder["file/index"]);
        await Command.Fails(["search", Pictures, "x", "-m", Model, "--sheet", folder["file/sheet.png"]], folder["file/sheet.png"]);
        File.WriteAllText(folder["nothing.txt"], "\n  \n");
        await Command.Fails(["embed", "--texts-file", folder["nothing.txt"], "--out", folder["v.npy"], "-m", Model], "nothing.txt has no text");
    }

    [Fact]
    public async Task A_device_that_is_not_there_is_told()
    {
        if (!TorchSharp.torch.cuda_is_available()) await Command.Fails(["classify", folder["pictures/0.png"], "--labels", "a", "-m", Model, "--device", "cuda"], "cuda is not there");
        Assert.Equal(App.WrongUsage, (await Command.Run("classify", folder["pictures/0.png"], "--labels", "a", "-m", Model, "--device", "gpu")).Code);
    }

    [Theory]
    [InlineData("search")]
    [InlineData("classify")]
    [InlineData("embed")]
    [InlineData("convert")]
    public async Task An_interrupted_command_says_so_and_leaves_nothing_half_written(string command)
    {
        string[] args = command switch
        {
            "search" => [command, Pictures, "a cat", "-m", Model],
            "classify" => [command, folder["pictures/0.png"], "--labels", "a", "-m", Model],
            "embed" => [command, Pictures, "--out", folder["v.npy"], "-m", Model],
            _ => [command, Model, "--out", folder["out"]],
        };
        using var cancel = new CancellationTokenSource();
        cancel.Cancel();
        using StringWriter output = new(), error = new();
        Assert.Equal(App.Interrupted, await App.RunAsync(args, output, error, cancel.Token));
        Assert.Equal(("", "panoptes: interrupted.\n"), (output.ToString(), error.ToString()));
        Nothing("v.npy");
        Nothing("out");
        if (VectorIndex.Exists(folder["pictures/.panoptes"])) VectorIndex.Open(folder["pictures/.panoptes"]).Dispose();
    }

    /// <summary>Neither it nor a temporary file for it is there.</summary>
    void Nothing(string name) => Assert.DoesNotContain(Directory.EnumerateFileSystemEntries(Path.GetDirectoryName(folder[name])!), e => e.StartsWith(folder[name], StringComparison.Ordinal));

    static Image Picture(int seed)
    {
        var pixels = new byte[40 * 30 * 3];
        new Random(seed).NextBytes(pixels);
        return new(40, 30, 3, pixels);
    }
}
