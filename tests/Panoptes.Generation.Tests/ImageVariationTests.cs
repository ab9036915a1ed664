using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation.Tests;

/// <summary>Pipelines that read a picture instead of words; an image was compared once with the peer's, of the same folder, and is the same.</summary>
public sealed class ImageVariationTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-variations-").FullName;

    readonly Diffusion diffusion = new(Tiny(), "tiny");

    readonly Image picture = Image.FromTensor((rand(3, 20, 30, generator: new Generator(1)) * 255).to(ScalarType.Byte)), other = Image.FromTensor((rand(3, 20, 30, generator: new Generator(2)) * 255).to(ScalarType.Byte));

    public void Dispose()
    {
        diffusion.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    static ImageVariations Tiny()
    {
        var unet = new UNet2DConditionModel(ModelConfig.Parse<UNet2DConditionConfig>("""{"sample_size":8,"block_out_channels":[8,16],"down_block_types":["DownBlock2D","CrossAttnDownBlock2D"],"up_block_types":["CrossAttnUpBlock2D","UpBlock2D"],"layers_per_block":1,"norm_num_groups":4,"cross_attention_dim":12,"attention_head_dim":2}""", "a test"));
        var autoencoder = new AutoencoderKl(ModelConfig.Parse<AutoencoderKlConfig>("""{"sample_size":16,"block_out_channels":[8,16],"down_block_types":["DownEncoderBlock2D","DownEncoderBlock2D"],"up_block_types":["UpDecoderBlock2D","UpDecoderBlock2D"],"norm_num_groups":4}""", "a test"));
        var encoder = new ClipVisionModel(new() { HiddenSize = 8, IntermediateSize = 12, NumHiddenLayers = 1, NumAttentionHeads = 2, ImageSize = 16, PatchSize = 8, ProjectionDim = 12 }, 12);
        foreach (var (module, seed) in (ReadOnlySpan<(Module, ulong)>)[(unet, 1), (autoencoder, 2), (encoder, 3)]) module.Initialize(new Generator(seed));
        return new(unet, autoencoder, encoder, ImageProcessor.Parse("""{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":16},"crop_size":{"height":16,"width":16}}""", "a test"), new DdimScheduler { ClipSample = false });
    }

    byte[] Pixels(ImageRequest request) => diffusion.Generate([request])[0].Image.Pixels;

    [Fact]
    public void Images_vary_the_picture_that_they_are_given_whose_size_is_not_theirs_and_a_folder_makes_the_same()
    {
        var request = new ImageRequest("") { Image = picture, Seed = 3, Steps = 3, Guidance = 2 };
        var made = diffusion.Generate([request with { Count = 2 }]);
        Assert.Equal((16, 16), (made[0].Image.Width, made[0].Image.Height));
        Assert.All(Pixels(request with { Seed = 4 }).Zip(made[1].Image.Pixels), static p => Assert.InRange(p.First - p.Second, -1, 1));
        Assert.NotEqual(made[0].Image.Pixels, made[1].Image.Pixels);
        Assert.NotEqual(made[0].Image.Pixels, Pixels(request with { Image = other }));
        // Without guidance there is only the picture; with it, the way from none of it.
        Assert.NotEqual(Pixels(request with { Guidance = 1 }), Pixels(request));
        Assert.NotEqual(diffusion.Generate([request with { Image = other }])[0].Parameters.Image, made[0].Parameters.Image);
        Assert.Null(made[0].Parameters.Strength);

        PipelineFolder.Save(folder, diffusion.Model);
        using var again = Diffusion.Load(folder);
        Assert.Equal(Pixels(request), again.Generate([request])[0].Image.Pixels);
        Assert.Contains("StableDiffusionImageVariationPipeline", ModelFolder.ReadText(Path.Combine(folder, PipelineFolder.FileName)), StringComparison.Ordinal);
    }

    [Fact]
    public void What_it_cannot_read_is_refused_with_one_sentence()
    {
        void Refused(string why, ImageRequest request) => Assert.Contains(why, Assert.Throws<PanoptesException>(() => diffusion.Generate([request])).Message, StringComparison.Ordinal);
        Refused("none was given", new(""));
        Refused("reads no words, but 'a cat'", new("a cat") { Image = picture });
        Refused("reads no words, but 'a dog'", new("") { Image = picture, NegativePrompt = "a dog" });
        Refused("no mask and no strength", new("") { Image = picture, Strength = 0.5 });
        Refused("no mask and no strength", new("") { Image = picture, Mask = new Image(30, 20, 1) });
    }
}
