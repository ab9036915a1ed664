using Panoptes.Checkpoints;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Parity;

namespace Panoptes.Cli.Tests;

/// <summary>Pipelines between a folder of diffusers and one file of the original form.</summary>
public sealed class ConvertPipelineTests : IDisposable
{
    static readonly string Model = Case("sd_text2img"), Original = Path.Combine(Case("single_file_sd1"), "original.safetensors");

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-convert-").FullName;

    static string Case(string name) => Path.Combine(Goldens.Root, "generation", name);

    string At(string name) => Path.Combine(folder, name);

    public void Dispose() => Directory.Delete(folder, recursive: true);

    async Task<byte[]> Drawn(string model, string? config = null)
    {
        await Command.Succeeds(["generate", "a red apple", "--size", "16", "--steps", "2", "--seed", "3", "--model", model, .. config is null ? (string[])[] : ["--config", config], "--out", At("drawn.png")]);
        return Image.Load(At("drawn.png")).Pixels;
    }

    [Fact]
    public async Task One_file_becomes_a_folder_and_a_folder_one_file_and_all_make_the_same_image()
    {
        await Command.Succeeds("convert", Original, "--config", Model, "--out", At("whole"));
        var told = await Command.Succeeds("convert", At("whole"), "--out", At("back.safetensors"));
        Assert.Contains($"name {At("whole")} by --config", told.Error, StringComparison.Ordinal);
        var image = await Drawn(Original, Model);
        Assert.Equal(image, await Drawn(Model));
        Assert.Equal(image, await Drawn(At("whole")));
        Assert.Equal(image, await Drawn(At("back.safetensors"), At("whole")));
        // Nothing of what lay beside the file has come along.
        Assert.Equal(["scheduler", "text_encoder", "tokenizer", "unet", "vae"], Directory.GetDirectories(At("whole")).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.Equal([PipelineFolder.FileName], Directory.GetFiles(At("whole")).Select(Path.GetFileName));
        Assert.Equal(Directory.GetFiles(Model, "*.safetensors", SearchOption.AllDirectories).Select(static f => Path.GetRelativePath(Model, f)).Where(static f => f.Contains('/', StringComparison.Ordinal)).Order(StringComparer.Ordinal),
            Directory.GetFiles(At("whole"), "*.safetensors", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(At("whole"), f)).Order(StringComparer.Ordinal));
        using Weights before = Weights.Open(Original), after = Weights.Open(At("back.safetensors"));
        using var scope = TorchSharp.torch.NewDisposeScope();
        Assert.All(after.Keys, key => Assert.True(before.Read(key).Equals(after.Read(key)), key));
    }

    [Theory, InlineData("sd2_text2img_v", "single_file_sd2"), InlineData("sdxl_text2img_calm", "single_file_sdxl")]
    public async Task Other_families_go_both_ways_as_well(string model, string file)
    {
        await Command.Succeeds("convert", Path.Combine(Case(file), "original.safetensors"), "--config", Case(model), "--out", At("whole"));
        await Command.Succeeds("convert", Case(model), "--out", At("one.safetensors"));
        Assert.Equal(await Drawn(Case(model)), await Drawn(At("whole")));
        Assert.Equal(await Drawn(Case(model)), await Drawn(At("one.safetensors"), Case(model)));
    }

    [Fact]
    public async Task The_type_is_kept_or_changed_as_of_any_model()
    {
        await Command.Succeeds("convert", Original, "--config", Model, "--out", At("half"), "--dtype", "bfloat16", "--shard-size", "20KB");
        await Command.Succeeds("convert", At("half"), "--out", At("half.safetensors"));
        await Command.Succeeds("convert", Model, "--out", At("short.safetensors"), "--dtype", "float16");
        Assert.Equal((ScalarType.BFloat16, ScalarType.BFloat16), (TypeOf(Path.Combine(At("half"), "unet")), TypeOf(At("half.safetensors"))));
        Assert.Equal(ScalarType.Float16, TypeOf(At("short.safetensors")));
        Assert.True(Directory.GetFiles(Path.Combine(At("half"), "unet"), "*.safetensors").Length > 1);

        static ScalarType TypeOf(string model)
        {
            using var weights = Weights.Open(model);
            return Assert.Single(weights.Keys.Select(key => weights.Info(key).Type).Where(static t => t != ScalarType.Int64).Distinct());
        }
    }

    [Fact]
    public async Task What_cannot_be_written_is_refused_before_anything_is()
    {
        using (var weights = Weights.Open(Original))
        using (TorchSharp.torch.NewDisposeScope())
            SafeTensors.Save(At("part.safetensors"), weights.Keys.Where(static k => !k.StartsWith("first_stage_model.", StringComparison.Ordinal)).Select(k => KeyValuePair.Create(k, weights.Read(k))));
        var lacking = await Command.Run("convert", At("part.safetensors"), "--out", At("no"));
        Command.OneSentence(lacking.Error, At("part.safetensors"));
        await Command.Fails(["convert", Case("dit_pipeline"), "--out", At("no.safetensors")], "A ClassDiffusion has no original form");
        using (var plain = (StableDiffusion)DiffusionModel.Load(Model))
        using (var unet = new UNet2DConditionModel(plain.UNet.Config with { TimeCondProjDim = 8 }))
        using (var generator = new TorchSharp.torch.Generator(1))
        {
            unet.Initialize(generator);
            PipelineFolder.Save(At("lcm"), new StableDiffusion(unet, plain.Autoencoder, plain.Prompts, plain.Scheduler));
        }
        await Command.Fails(["convert", At("lcm"), "--out", At("no.safetensors")], "The original code has no place for time_embedding.cond_proj.weight of the UNet2DConditionModel");
        foreach (var (args, said) in ((string[], string)[])[([Model, "--out", At("no"), "--config", Model], "--config goes with"), ([Original, "--out", At("no"), "--to", "hf"], "--to does not go"), ([Original, "--out", At("no"), "--base", Model], "--base does not go")])
        {
            var refused = await Command.Run(["convert", .. args]);
            Assert.Equal(App.WrongUsage, refused.Code);
            Assert.Contains(said, refused.Error, StringComparison.Ordinal);
        }
        Assert.Equal([At("lcm"), At("part.safetensors")], Directory.EnumerateFileSystemEntries(folder).Order(StringComparer.Ordinal));
    }
}
