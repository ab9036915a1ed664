using Microsoft.Extensions.AI;
using Panoptes.Imaging;
using Panoptes.Parity;

#pragma warning disable MEAI001                                                       // the interface is an experiment of Microsoft.Extensions.AI

namespace Panoptes.Generation.Tests;

/// <summary>The model behind Microsoft.Extensions.AI's interface.</summary>
public sealed class ImageGeneratorTests : IDisposable
{
    readonly Diffusion diffusion = Diffusion.Load(Path.Combine(Goldens.Root, "generation", "sd_text2img"));

    public void Dispose() => diffusion.Dispose();

    static ImageGenerationOptions Options(params (string Name, object Value)[] more) => new()
    {
        ImageSize = new(16, 16),
        AdditionalProperties = new(new Dictionary<string, object?>(more.Select(static m => KeyValuePair.Create(m.Name, (object?)m.Value))) { ["steps"] = 2, ["seed"] = 5L }),
    };

    [Fact]
    public async Task It_gives_the_images_of_the_model_as_data_that_say_how_they_were_made()
    {
        using var generator = diffusion.AsImageGenerator();
        var options = Options(("guidance", 3.5), ("negative_prompt", "blurry"), ("sampler", "euler"));
        options.Count = 2;
        var response = await generator.GenerateImagesAsync("a red apple", options);
        var expected = diffusion.Generate([new("a red apple") { Width = 16, Height = 16, Steps = 2, Seed = 5, Count = 2, Guidance = 3.5, NegativePrompt = "blurry", Sampler = "euler" }]);
        var data = response.Contents.Cast<DataContent>().ToArray();
        Assert.All(data, static d => Assert.Equal("image/png", d.MediaType));
        Assert.Equal(expected.Select(static m => m.ToPng()), data.Select(static d => d.Data.ToArray()));
        Assert.Equal(5, ImageParameters.Read(data[0].Data.Span)!.Seed);
        Assert.Equal(2, ((IReadOnlyList<GeneratedImage>)response.RawRepresentation!).Count);
    }

    [Fact]
    public async Task An_original_is_changed_and_its_mask_filled()
    {
        using var generator = diffusion.AsImageGenerator();
        var (picture, mask) = (new Image(16, 16, 3), new Image(16, 16, 3));
        var changed = await generator.EditImageAsync(new DataContent(picture.Encode(ImageFormat.Png), "image/png"), "a cat", Options(("strength", 0.5)));
        Assert.Equal(diffusion.Generate([new("a cat") { Width = 16, Height = 16, Steps = 2, Seed = 5, Image = picture, Strength = 0.5 }])[0].ToPng(), ((DataContent)changed.Contents[0]).Data.ToArray());
        var filled = await generator.EditImagesAsync([new DataContent(picture.Encode(ImageFormat.Png), "image/png"), new DataContent(mask.Encode(ImageFormat.Png), "image/png")], "a cat", Options());
        Assert.NotNull(((IReadOnlyList<GeneratedImage>)filled.RawRepresentation!)[0].Parameters.Mask);
    }

    [Fact]
    public async Task A_request_of_the_library_may_stand_behind_and_other_formats_may_be_asked_for()
    {
        using var generator = diffusion.AsImageGenerator("tiny");
        var options = new ImageGenerationOptions { MediaType = "image/jpeg", ModelId = "tiny", RawRepresentationFactory = static _ => new ImageRequest("") { Width = 16, Height = 16, Steps = 1, Seed = 1 } };
        var data = (DataContent)(await generator.GenerateImagesAsync("a cat", options)).Contents[0];
        Assert.Equal(("image/jpeg", 16), (data.MediaType, Image.Decode(data.Data.Span).Width));
        Assert.Equal(("panoptes", "tiny"), (generator.GetService<ImageGeneratorMetadata>()!.ProviderName, generator.GetService<ImageGeneratorMetadata>()!.DefaultModelId));
        Assert.Same(diffusion, generator.GetService<Diffusion>());
    }

    [Fact]
    public async Task What_it_cannot_do_is_told_in_one_sentence_and_calls_can_be_cancelled()
    {
        using var generator = diffusion.AsImageGenerator("tiny");
        await Refused(new() { ModelId = "other" }, "The model other was asked for; this is tiny.");
        await Refused(new() { MediaType = "image/tiff" }, "expected image/png, image/jpeg or image/webp");
        await Refused(new() { ResponseFormat = ImageGenerationResponseFormat.Uri }, "expected their data");
        await Refused(new() { AdditionalProperties = new() { ["steps"] = "many" } }, "The option steps is 'many'; expected a whole number.");
        await Refused(new() { AdditionalProperties = new() { ["steps"] = 12.9 } }, "The option steps is '12.9'; expected a whole number.");
        await Refused(new() { AdditionalProperties = new() { ["guidance"] = "7,5" } }, "The option guidance is '7,5'; expected a number.");
        await Refused(new() { AdditionalProperties = new() { ["seed"] = 3.7 } }, "The option seed is '3.7'; expected a whole number.");
        var far = Options();
        far.AdditionalProperties!["seed"] = (1L << 53) + 1;
        Assert.Equal((1L << 53) + 1, ((IReadOnlyList<GeneratedImage>)(await generator.GenerateImagesAsync("a cat", far)).RawRepresentation!)[0].Parameters.Seed);
        using var stop = new CancellationTokenSource();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => generator.GenerateImagesAsync("a cat", Options(), stop.Token));

        async Task Refused(ImageGenerationOptions options, string sentence) => Assert.Contains(sentence, (await Assert.ThrowsAsync<PanoptesException>(() => generator.GenerateImagesAsync("a cat", options))).Message, StringComparison.Ordinal);
    }
}
