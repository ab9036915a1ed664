using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Parity;

namespace Panoptes.Cli.Tests.Commands;

/// <summary>Models that are written as what they have more than another.</summary>
public sealed class ConvertBaseTests : IDisposable
{
    static readonly string Model = Path.Combine(Goldens.Root, "generation", "sd_text2img");

    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    static long Bytes(string folder) => Directory.EnumerateFiles(folder, "*.safetensors", SearchOption.AllDirectories).Sum(static f => new FileInfo(f).Length);

    [Fact]
    public async Task A_pipeline_that_was_made_of_another_takes_the_space_of_what_is_new_and_makes_the_same_image()
    {
        await Command.Succeeds("convert", Model, "--out", folder["zoo/base"]);
        using (var plain = (StableDiffusion)DiffusionModel.Load(Model))
        {
            using var generator = new TorchSharp.torch.Generator(1);
            using var encoder = ReCo.AddPlaces(plain.Prompts.Encoder, generator, 77, 32);
            PipelineFolder.Save(folder["reco"], new StableDiffusion(plain.UNet, plain.Autoencoder, new(encoder, ReCo.Adding(plain.Prompts.Tokenizer, 32).Tokenizer), plain.Scheduler));
        }
        await Command.Succeeds("convert", folder["reco"], "--out", folder["zoo/reco"], "--base", folder["zoo/base"]);
        Assert.True(Bytes(folder["zoo/reco"]) < 0.25 * Bytes(folder["reco"]), $"{Bytes(folder["zoo/reco"])} of {Bytes(folder["reco"])}");
        foreach (var (from, image) in ((string, string)[])[("reco", "whole.png"), ("zoo/reco", "layered.png")])
            Assert.Equal(App.Success, (await Command.Run("generate", "a cat <0> <0> <500> <500> red cat", "--model", folder[from], "--steps", "2", "--seed", "3", "--out", folder[image])).Code);
        Assert.Equal(Image.Load(folder["whole.png"]).Pixels, Image.Load(folder["layered.png"]).Pixels);
        // A part is a model of its own, which can be written whole again.
        await Command.Succeeds("convert", folder["zoo/reco"], "--out", folder["again"]);
        Assert.InRange(Bytes(folder["again"]) - Bytes(folder["reco"]), -4096, 4096);
        Directory.Move(folder["zoo/base"], folder["zoo/elsewhere"]);
        await Command.Fails(["generate", "a cat", "--model", folder["zoo/reco"], "--steps", "1", "--out", folder["no.png"]], "which is not there");
    }

    [Fact]
    public async Task A_base_of_another_kind_and_options_that_do_not_go_with_one_are_refused_with_one_sentence()
    {
        await Command.Fails(["convert", Model, "--out", folder["out"], "--base", Path.Combine(Model, "unet")], "a pipeline and a model");
        Assert.Equal(App.WrongUsage, (await Command.Run("convert", Model, "--out", folder["out"], "--base", Model, "--shard-size", "1MB")).Code);
    }
}
