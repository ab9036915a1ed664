using Panoptes.Data;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Parity;
using Panoptes.Representation.Training;

namespace Panoptes.Cli.Tests;

/// <summary>The command on the tiny pipeline of the golden cases.</summary>
public sealed class GenerateTests : IDisposable
{
    static readonly string Model = Path.Combine(Goldens.Root, "generation", "sd_text2img");

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-generate-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    string At(string name) => Path.Combine(folder, name);

    [Fact]
    public async Task An_image_is_made_and_made_again_from_its_file_bit_for_bit()
    {
        await Command.Succeeds("generate", "a red apple", "--model", Model, "--size", "16", "--steps", "3", "--negative", "blurry", "--scheduler", "euler-a", "--out", At("apple.png"));
        var parameters = ImageParameters.Read(File.ReadAllBytes(At("apple.png")))!;
        Assert.Equal(("a red apple", "blurry", "euler-a", 3), (parameters.Prompt, parameters.NegativePrompt, parameters.Sampler, parameters.Steps));
        var told = (await Command.Succeeds("info", At("apple.png"), "--json")).Json;
        Assert.Equal((parameters.Seed, "euler-a"), (told.GetProperty("seed").GetInt64(), told.GetProperty("sampler").GetString()));
        Assert.Contains("a red apple", (await Command.Succeeds("info", At("apple.png"))).Output, StringComparison.Ordinal);
        await Command.Succeeds("generate", "--from", At("apple.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("apple.png")), File.ReadAllBytes(At("again.png")));
    }

    [Fact]
    public async Task What_is_transparent_in_a_mask_stays()
    {
        new Image(16, 16, 3, [.. Enumerable.Range(0, 768).Select(static i => (byte)i)]).Save(At("picture.png"));
        // White under what is transparent, and the same hole in black and white.
        new Image(16, 16, 4, [.. Enumerable.Range(0, 1024).Select(static i => i % 4 < 3 || i / 4 % 16 < 8 ? (byte)255 : (byte)0)]).Save(At("clear.png"));
        new Image(16, 16, 1, [.. Enumerable.Range(0, 256).Select(static i => i % 16 < 8 ? (byte)255 : (byte)0)]).Save(At("plain.png"));
        byte[][] made = new byte[2][];
        foreach (var (name, i) in ((string, int)[])[("clear.png", 0), ("plain.png", 1)])
        {
            await Command.Succeeds("generate", "a cat", "--model", Model, "--steps", "3", "--seed", "1", "--image", At("picture.png"), "--mask", At(name), "--out", At("filled.png"));
            made[i] = Image.Load(At("filled.png")).Pixels;
        }
        Assert.Equal(made[1], made[0]);
    }

    [Fact]
    public async Task What_cannot_be_made_larger_is_told_before_a_step_is_taken()
    {
        string[] words = ["generate", "a cat", "--model", Model, "--size", "16", "--out", At("none.png")];
        await Command.Fails([.. words, "--steps", "1", "--upscale", "2"], "The image cannot be made larger so: A strength of 0.6 leaves none of one step.");
        await Command.Fails([.. words, "--steps", "9999", "--upscale", "2"], "9999 steps were asked for");
        await Command.Fails([.. words, "--steps", "60", "--upscale", "1.5", "--upscale-strength", "0.01"], "A strength of 0.01 leaves none of 60 steps.");
        await Command.Fails([.. words, "--upscale", "1.03"], "1.03 times 16x16 pixels are 16x16", "expected a larger factor");
        Assert.False(File.Exists(At("none.png")));
    }

    [Fact]
    public async Task What_a_file_says_wrong_is_told_in_words_of_the_file()
    {
        async Task Said(string json, params string[] parts)
        {
            File.WriteAllBytes(At("hostile.png"), PngText.Add(new Image(1, 1, 3).Encode(ImageFormat.Png), ImageParameters.Keyword, json));
            foreach (var command in (string[])["generate", "control"]) await Command.Fails([command, "--from", At("hostile.png"), "--out", At("none.png")], [At("hostile.png"), .. parts]);
        }

        const string rest = "\"model\": \"m\", \"dtype\": \"float32\", \"width\": 8, \"height\": 8, \"steps\": 1, \"guidance\": 1";
        await Said($$"""{"prompt": "a cat", {{rest}}, "seed": 1, "controls": [{"kind": "layout", "boxes": [{}]}]}""", "field controls[0].boxes[0]: it lacks", "phrase");
        await Said($$"""{{{rest}}, "seed": 1}""", "it lacks 'prompt'");
        await Said($$"""{"prompt": null, {{rest}}, "seed": 1}""", "field prompt: found null, expected a value");
        await Said($$"""{"prompt": "a cat", {{rest}}, "seed": 1.5}""", "field seed: found another kind of value, expected a whole number");
        await Said($$"""{"prompt": "a cat", {{rest.Replace("8,", "0,", StringComparison.Ordinal)}}, "seed": 1}""", "field width: found 0, expected 1 to");
        await Said("", "it is empty or ends too early");

        var folder = At("model");
        foreach (var file in Directory.GetFiles(Model, "*", SearchOption.AllDirectories))
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(folder, Path.GetRelativePath(Model, file)))!);
            File.Copy(file, Path.Combine(folder, Path.GetRelativePath(Model, file)));
        }
        async Task Refused(string name, string before, string after, params string[] parts)
        {
            var text = File.ReadAllText(Path.Combine(folder, name));
            Assert.Contains(before, text, StringComparison.Ordinal);
            File.WriteAllText(Path.Combine(folder, name), text.Replace(before, after, StringComparison.Ordinal));
            await Command.Fails(["generate", "a cat", "--model", folder, "--size", "16", "--steps", "1", "--out", At("none.png")], parts);
            File.WriteAllText(Path.Combine(folder, name), text);
        }

        await Refused("unet/config.json", "\"freq_shift\": 0", "\"freq_shift\": \"x\"", "unet/config.json: field freq_shift: found another kind of value, expected a number.");
        await Refused("vae/config.json", "\"scaling_factor\": 0.18215", "\"scaling_factor\": 0", "scaling_factor is 0; expected a number that latents can be divided by");
        await Refused("model_index.json", File.ReadAllText(Path.Combine(folder, "model_index.json")), "", "model_index.json: it is empty or ends too early");
    }

    [Fact]
    public async Task An_image_tells_of_itself_whatever_its_file_is_called()
    {
        await Command.Succeeds("generate", "a cat", "--model", Model, "--size", "16", "--steps", "1", "--seed", "1", "--out", At("cat.png"));
        File.Move(At("cat.png"), At("cat"));
        Assert.Equal("a cat", (await Command.Succeeds("info", At("cat"), "--json")).Json.GetProperty("prompt").GetString());
        await Command.Fails(["generate", "a cat", "--model", Model, "--image", folder, "--out", At("none.png")], "is a folder; expected an image file");
    }

    [Fact]
    public async Task Prompts_and_seeds_make_a_grid()
    {
        var json = (await Command.Succeeds("generate", "a cat", "a red apple!", "--model", Model, "--size", "16x16", "--steps", "2", "--seed", "5", "--count", "2", "--grid", "--out", folder, "--json")).Json;
        string[] files = [.. json.GetProperty("images").EnumerateArray().Select(static i => Path.GetFileName(i.GetProperty("file").GetString()!))];
        Assert.Equal(["a-cat-5.png", "a-cat-6.png", "a-red-apple-5.png", "a-red-apple-6.png"], files);
        Assert.Equal(5, json.GetProperty("images")[0].GetProperty("parameters").GetProperty("seed").GetInt64());
        Assert.All(files, f => Assert.Equal(16, Image.Load(At(f)).Width));
        Assert.True(Image.Load(json.GetProperty("grid").GetString()!).Width > 100);
    }

    [Fact]
    public async Task A_picture_is_changed_and_filled()
    {
        var picture = new Image(16, 16, 3);
        picture.Save(At("black.png"));
        await Command.Succeeds("generate", "a cat", "--model", Model, "--steps", "4", "--image", At("black.png"), "--strength", "0.5", "--out", At("changed.png"));
        await Command.Succeeds("generate", "a cat", "--model", Model, "--steps", "4", "--image", At("black.png"), "--mask", At("black.png"), "--out", At("filled.png"));
        Assert.Equal(0.5, ImageParameters.Read(File.ReadAllBytes(At("changed.png")))!.Strength);
        Assert.NotNull(ImageParameters.Read(File.ReadAllBytes(At("filled.png")))!.Mask);
        foreach (var name in (string[])["changed.png", "filled.png"])
        {
            await Command.Succeeds("generate", "--from", At(name), "--out", At("again.png"));
            Assert.Equal(File.ReadAllBytes(At(name)), File.ReadAllBytes(At("again.png")));
        }
        // The file names the picture and does not hold it: what was taken out of it is not to be found in the file.
        new Image(16, 16, 3, [.. Enumerable.Repeat((byte)9, 768)]).Save(At("black.png"));
        Assert.Contains("not the one that the image was made of", (await Command.Succeeds("generate", "--from", At("changed.png"), "--out", At("other.png"))).Error, StringComparison.Ordinal);
        File.Delete(At("black.png"));
        Assert.Contains($"{At("black.png")}, which is not there; name it by --image", (await Command.Run("generate", "--from", At("changed.png"))).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_model_in_one_file_makes_the_image_of_its_folder_and_makes_it_again_from_its_file()
    {
        string[] words = ["generate", "a red apple", "--size", "16", "--steps", "2", "--seed", "3"];
        await Command.Succeeds([.. words, "--model", Model, "--out", At("folder.png")]);
        await Command.Succeeds([.. words, "--model", Path.Combine(Goldens.Root, "generation", "single_file_sd1", "original.safetensors"), "--config", Model, "--out", At("file.png")]);
        Assert.Equal(Image.Load(At("folder.png")).Pixels, Image.Load(At("file.png")).Pixels);
        await Command.Succeeds("generate", "--from", At("file.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("file.png")), File.ReadAllBytes(At("again.png")));
        await Command.Fails([.. words, "--model", At("file.png"), "--out", At("none.png")], "file.png");
        await Command.Fails([.. words, "--model", Model, "--config", Model, "--out", At("none.png")], "is no file, but a folder with settings was named");
    }

    [Fact]
    public async Task Prompts_and_chosen_seeds_are_rows_and_columns_and_ways_lead_between_them()
    {
        string[] small = ["--model", Model, "--size", "16", "--steps", "2", "--json"];
        string[] Files(Command command) => [.. command.Json.GetProperty("images").EnumerateArray().Select(static i => Path.GetFileName(i.GetProperty("file").GetString()!))];
        var table = await Command.Succeeds(["generate", "a cat", "a dog", .. small, "--seed", "5", "--seed", "9", "--grid", "--out", At("table")]);
        Assert.Equal(["a-cat-5.png", "a-cat-9.png", "a-dog-5.png", "a-dog-9.png"], Files(table));
        var way = await Command.Succeeds(["generate", "a cat", "a dog", "a red apple", .. small, "--seed", "5", "--interpolate", "3", "--grid", "--out", At("way")]);
        Assert.Equal(5, Files(way).Length);
        Assert.Equal(Image.Load(At("table/a-cat-5.png")).Pixels, Image.Load(Path.Combine(At("way"), Files(way)[0])).Pixels);
        Assert.Equal(Image.Load(At("table/a-dog-5.png")).Pixels, Image.Load(Path.Combine(At("way"), Files(way)[2])).Pixels);
        await Command.Succeeds("generate", "--from", Path.Combine(At("way"), Files(way)[1]), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(Path.Combine(At("way"), Files(way)[1])), File.ReadAllBytes(At("again.png")));
        Assert.Equal(4, Files(await Command.Succeeds(["generate", "a cat", .. small, "--seed", "5", "--count", "2", "--interpolate", "4", "--out", At("seeds")])).Length);
        Assert.Equal(3, Files(await Command.Succeeds(["generate", "--from", At("table/a-cat-5.png"), "--variation", "0.2", "--count", "3", "--sliced", "--out", At("variations"), "--json"])).Length);
    }

    [Fact]
    public async Task Images_are_made_in_all_ways_that_are_told()
    {
        string[] words = ["generate", "a cat", "--model", Model, "--size", "16", "--seed", "5", "--json"];
        var ways = await Command.Succeeds([.. words, "--scheduler", "ddim", "--scheduler", "euler", "--steps", "1", "--steps", "3", "--guidance", "4", "--grid", "--out", At("ways")]);
        var made = ways.Json.GetProperty("images").EnumerateArray().Select(static i => (Sampler: i.GetProperty("parameters").GetProperty("sampler").GetString(), Steps: i.GetProperty("parameters").GetProperty("steps").GetInt32(), File: i.GetProperty("file").GetString()!)).ToArray();
        Assert.Equal([("ddim", 1), ("ddim", 3), ("euler", 1), ("euler", 3)], made.Select(static m => (m.Sampler!, m.Steps)));
        await Command.Succeeds([.. words, "--scheduler", "euler", "--steps", "3", "--guidance", "4", "--out", At("one.png")]);
        Assert.Equal(Image.Load(At("one.png")).Pixels, Image.Load(made[3].File).Pixels);
        await Command.Succeeds("generate", "--from", made[1].File, "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(made[1].File), File.ReadAllBytes(At("again.png")));
        Assert.Contains("goes with one scheduler", (await Command.Run([.. words, "--steps", "1", "--steps", "2", "--variation", "0.5", "--out", At("no")])).Error, StringComparison.Ordinal);
        Assert.Contains("--steps is 0; expected 1 to 10,000.", (await Command.Run([.. words, "--steps", "1", "--steps", "0", "--out", At("no")])).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_image_is_made_larger_and_made_again_from_its_file()
    {
        await Command.Succeeds("generate", "a cat", "--model", Model, "--size", "16", "--steps", "2", "--seed", "5", "--upscale", "2", "--upscale-strength", "0.5", "--upscale-nearest", "--out", At("large.png"));
        Assert.Equal(32, Image.Load(At("large.png")).Width);
        await Command.Succeeds("generate", "--from", At("large.png"), "--out", At("again.png"));
        Assert.Equal(File.ReadAllBytes(At("large.png")), File.ReadAllBytes(At("again.png")));
    }

    [Fact]
    public async Task An_image_that_went_in_tiles_or_in_bfloat16_is_made_again_so()
    {
        string[] words = ["generate", "a cat", "--model", Model, "--size", "64", "--steps", "2", "--seed", "5"];
        await Command.Succeeds([.. words, "--out", At("whole.png")]);
        await Command.Succeeds([.. words, "--tiled", "--out", At("tiled.png")]);
        await Command.Succeeds([.. words, "--precision", "bfloat16", "--out", At("short.png")]);
        foreach (var name in (string[])["tiled.png", "short.png"])
        {
            Assert.NotEqual(Image.Load(At("whole.png")).Pixels, Image.Load(At(name)).Pixels);
            await Command.Succeeds("generate", "--from", At(name), "--out", At("again.png"));
            Assert.Equal(File.ReadAllBytes(At(name)), File.ReadAllBytes(At("again.png")));
        }
        await Command.Succeeds("generate", "--from", At("short.png"), "--precision", "float32", "--out", At("again.png"));
        Assert.Equal(Image.Load(At("whole.png")).Pixels, Image.Load(At("again.png")).Pixels);
    }

    [Fact]
    public async Task Nothing_that_is_there_is_written_over()
    {
        string[] words = ["generate", "a cat", "--model", Model, "--size", "16", "--steps", "1", "--seed", "5", "--json"];
        string[] Names(Command command) => [.. command.Json.GetProperty("images").EnumerateArray().Select(static i => Path.GetFileName(i.GetProperty("file").GetString()!))];
        Assert.Equal(["a-cat-5.png"], Names(await Command.Succeeds([.. words, "--out", folder])));
        var before = File.ReadAllBytes(At("a-cat-5.png"));
        Assert.Equal(["a-cat-5.2.png"], Names(await Command.Succeeds("generate", "--from", At("a-cat-5.png"), "--steps", "2", "--out", folder, "--json")));
        Assert.Equal(before, File.ReadAllBytes(At("a-cat-5.png")));
        Assert.Contains("which --out names, too", (await Command.Run([.. words, "--grid", "--out", At("grid.png")])).Error, StringComparison.Ordinal);
        await Command.Fails([.. words, "--scheduler", "euler", "--eta", "1", "--out", At("no.png")], "EulerDiscreteScheduler has none; expected DDIM");
        Assert.False(File.Exists(At("grid.png")) || File.Exists(At("no.png")));
        foreach (var expected in (string[])["grid.png", "grid.2.png"])
            Assert.Equal(At(expected), (await Command.Succeeds([.. words, "--grid", "--out", folder])).Json.GetProperty("grid").GetString());
    }

    [Fact]
    public async Task What_a_file_says_cannot_command_the_terminal()
    {
        await Command.Succeeds("generate", "a cat \e]0;mine\a\e[31mred", "--model", Model, "--size", "16", "--steps", "1", "--seed", "5", "--out", At("cat.png"));
        foreach (var command in (Command[])[await Command.Succeeds("info", At("cat.png")), await Command.Succeeds("generate", "--from", At("cat.png"), "--out", At("again.png"))])
        {
            Assert.Contains("]0;mine", command.Output, StringComparison.Ordinal);
            Assert.DoesNotContain('\e', command.Output + command.Error);
            Assert.DoesNotContain('\a', command.Output + command.Error);
        }
    }

    [Fact]
    public async Task One_image_of_a_batch_is_made_again_bit_for_bit()
    {
        await Command.Succeeds("generate", "a cat", "a red apple", "--model", Model, "--steps", "2", "--seed", "3", "--count", "2", "--size", "16", "--out", folder);
        foreach (var name in (string[])["a-cat-4.png", "a-red-apple-3.png"])
        {
            await Command.Succeeds("generate", "--from", At(name), "--out", At("again.png"));
            Assert.Equal(File.ReadAllBytes(At(name)), File.ReadAllBytes(At("again.png")));
        }
    }

    [Fact]
    public void Every_layout_of_scenes_is_of_words_that_their_captions_have_also_of_several_things_of_a_name()
    {
        using var diffusion = DiffusionModel.Load(Path.Combine(Goldens.Repository, "zoo", "sd-emoji"));
        var prompts = ((StableDiffusion)diffusion).Prompts;
        using var controls = new SceneControls { Layout = true };
        var scenes = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), SceneTasks.All).Tests(200).Scenes(EmojiSplit.Train);
        var layouts = scenes.Select(s => (s.Caption, Boxes: LayoutBox.Of(prompts, s.Caption, ((LayoutControl)Assert.Single(controls.Of(s))).Boxes))).ToArray();
        Assert.Contains(layouts, static l => l.Caption.Contains("two ducks", StringComparison.Ordinal) && l.Boxes.Single().Boxes.Count == 2);
    }

    [Fact]
    public async Task A_pipeline_tells_its_parts()
    {
        var told = System.Text.Json.JsonDocument.Parse((await Command.Succeeds("info", Model, "--json")).Output).RootElement;
        Assert.Equal("StableDiffusionPipeline", told.GetProperty("pipeline").GetString());
        var unet = told.GetProperty("parts").EnumerateArray().Single(static p => p.GetProperty("name").GetString() == "unet");
        Assert.Equal("UNet2DConditionModel", unet.GetProperty("class").GetString());
        using var model = DiffusionModel.Load(Model);
        Assert.Equal(model.Network.NamedParameters().Sum(static p => p.Parameter.ElementCount), unet.GetProperty("parameters").GetInt64());
    }

    [Fact]
    public async Task What_cannot_be_written_is_told_before_anything_is_made()
    {
        string[] words = ["generate", "a cat", "--model", At("nowhere"), "--out"];
        File.WriteAllText(At("notes"), "mine");
        await Command.Fails([.. words, At("notes")], "is a file, but of no picture");
        await Command.Fails([.. words, At("notes/a.png")], "cannot be written", "is no folder");
        Assert.Contains("expected .png, .jpg or .webp, or a folder", (await Command.Run([.. words, At("a.gif")])).Error, StringComparison.Ordinal);
        Assert.Equal(["notes"], Directory.GetFileSystemEntries(folder).Select(Path.GetFileName));
        await Command.Fails(["generate", "--from", folder, "--out", At("a.png")], "is a folder; expected an image");
        await Command.Fails(["info", At("none.png")], "none.png");
    }

    [Fact]
    public async Task What_is_on_the_way_to_another_image_is_no_image_to_vary()
    {
        await Command.Succeeds("generate", "a cat", "--model", Model, "--size", "16", "--steps", "1", "--seed", "5", "--variation", "0.5", "--out", At("varied.png"));
        foreach (var more in (string[][])[["--variation", "0"], ["--count", "2", "--interpolate", "3"]])
            Assert.Contains("is itself on the way to another", (await Command.Run(["generate", "--from", At("varied.png"), .. more, "--out", At("v")])).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--interpolate has no way to go", "a cat", "--model", "M", "--interpolate", "3")]
    [InlineData("--interpolate is 1", "a cat", "a dog", "--model", "M", "--interpolate", "1")]
    [InlineData("goes from prompt to prompt or from seed to seed", "a cat", "a dog", "--model", "M", "--seed", "1", "--seed", "2", "--interpolate", "3")]
    [InlineData("contradict each other", "a cat", "a dog", "--model", "M", "--interpolate", "3", "--variation", "0.2")]
    [InlineData("go with --upscale", "a cat", "--model", "M", "--upscale-strength", "0.2")]
    [InlineData("No prompt is given", "--model", "M")]
    [InlineData("--size is '9x9x9'", "a cat", "--model", "M", "--size", "9x9x9")]
    [InlineData("go with --image", "a cat", "--model", "M", "--strength", "0.5")]
    [InlineData("--guidance is '1,5'; expected a number.", "a cat", "--model", "M", "--guidance", "1,5")]
    [InlineData("--rescale is '0,1'; expected a number.", "a cat", "--model", "M", "--rescale", "0,1")]
    [InlineData("--steps is 'many'; expected a whole number.", "a cat", "--model", "M", "--steps", "many")]
    [InlineData("--seed is '1.5'; expected a whole number.", "a cat", "--model", "M", "--seed", "1.5")]
    [InlineData("--seed is '99999999999999999999'; expected a whole number.", "a cat", "--model", "M", "--seed", "99999999999999999999")]
    [InlineData("--seed is 9223372036854775806; expected room for 3 more.", "a cat", "--model", "M", "--seed", "9223372036854775806", "--variation", "0.5", "--count", "3")]
    [InlineData("--scheduler is 'foo'; expected ", "a cat", "--model", "M", "--scheduler", "foo")]
    [InlineData("--precision is 'float16'; expected float32, bfloat16 or auto.", "a cat", "--model", "M", "--precision", "float16")]
    [InlineData("--out is empty", "a cat", "--model", "M", "--out", " ")]
    [InlineData("--rescale is 2", "a cat", "--model", "M", "--rescale", "2")]
    [InlineData("--count is 2000000000; expected 1 to 10,000.", "a cat", "--model", "M", "--count", "2000000000")]
    [InlineData("--steps is 2000000000; expected 1 to 10,000.", "a cat", "--model", "M", "--steps", "2000000000")]
    [InlineData("--count goes with --interpolate where there is one prompt and one seed.", "a cat", "a dog", "--model", "M", "--interpolate", "3", "--count", "2")]
    public async Task Wrong_usage_is_said_in_one_sentence(string sentence, params string[] arguments)
    {
        var result = await Command.Run(["generate", .. arguments.Select(static a => a == "M" ? Model : a)]);
        Assert.Equal(App.WrongUsage, result.Code);
        Assert.Contains(sentence, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_image_that_says_nothing_of_itself_is_refused()
    {
        new Image(4, 4, 3).Save(At("plain.png"));
        await Command.Fails(["generate", "--from", At("plain.png")], "does not say how it was made");
        await Command.Fails(["info", At("plain.png")], "does not say how it was made");
        new Image(4, 4, 3).Save(At("plain.jpg"));
        await Command.Fails(["info", At("plain.jpg")], "other kinds of images keep nothing of it");
    }
}
