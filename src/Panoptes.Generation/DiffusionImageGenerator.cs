using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Numerics;
using Microsoft.Extensions.AI;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>A diffusion model as Microsoft.Extensions.AI's image generator, which is marked as an experiment there, and so here.</summary>
[Experimental("MEAI001")]
public static class DiffusionImageGenerator
{
    /// <summary>
    /// The model as an <see cref="IImageGenerator"/>. Count, size and media type (image/png, image/jpeg, image/webp) are taken from the options, an original image is changed, and a second one is its mask. Beyond that the options'
    /// additional properties may hold <c>seed</c>, <c>steps</c>, <c>guidance</c>, <c>negative_prompt</c>, <c>strength</c> and <c>sampler</c>, or their raw representation an <see cref="ImageRequest"/>. The response's raw representation
    /// is a list of <see cref="GeneratedImage"/>. Calls come one after the other, also of several generators of one model.
    /// </summary>
    /// <param name="diffusion">Stays the caller's.</param>
    /// <param name="model">What the model is called; null: as images say.</param>
    public static IImageGenerator AsImageGenerator(this Diffusion diffusion, string? model = null) => new Adapter(diffusion, model ?? diffusion.Name);

    sealed class Adapter(Diffusion diffusion, string model) : IImageGenerator
    {
        readonly SemaphoreSlim one = new(1, 1);
        readonly ImageGeneratorMetadata metadata = new("panoptes", null, model);

        public async Task<ImageGenerationResponse> GenerateAsync(ImageGenerationRequest request, ImageGenerationOptions? options = null, CancellationToken cancellationToken = default)
        {
            ArgumentNullException.ThrowIfNull(request);
            var wanted = Wanted(request, options);
            var format = FormatOf(options);
            await one.WaitAsync(cancellationToken);
            try
            {
                var images = await Task.Run(() => diffusion.Generate([wanted], cancel: cancellationToken), cancellationToken);
                return new([.. images.Select(m => (AIContent)new DataContent(format == ImageFormat.Png ? m.ToPng() : m.Image.Encode(format), MediaType(format)))]) { RawRepresentation = images };
            }
            finally
            {
                one.Release();
            }
        }

        ImageRequest Wanted(ImageGenerationRequest request, ImageGenerationOptions? options)
        {
            if (options?.ModelId is { } id && id != model) throw new PanoptesException($"The model {id} was asked for; this is {model}.");
            var raw = options?.RawRepresentationFactory?.Invoke(this) as ImageRequest ?? new ImageRequest("");
            Image[] pictures = [.. (request.OriginalImages ?? []).Select(static c => c is DataContent data ? Image.Decode(data.Data.Span, "the original image") : throw new PanoptesException($"An original image is a {c.GetType().Name}; expected its data."))];
            if (pictures.Length > 2) throw new PanoptesException($"{pictures.Length} original images were given; expected one, and perhaps its mask.");
            var more = options?.AdditionalProperties;
            return raw with
            {
                Prompt = request.Prompt ?? raw.Prompt,
                Count = options?.Count ?? raw.Count,
                Width = options?.ImageSize?.Width ?? raw.Width,
                Height = options?.ImageSize?.Height ?? raw.Height,
                Image = pictures.Length > 0 ? pictures[0] : raw.Image,
                Mask = pictures.Length > 1 ? pictures[1] : raw.Mask,
                Seed = Number<long>(more, "seed", NumberStyles.AllowLeadingSign) ?? raw.Seed,
                Steps = Number<int>(more, "steps", NumberStyles.AllowLeadingSign) ?? raw.Steps,
                Guidance = Number<double>(more, "guidance", NumberStyles.Float) ?? raw.Guidance,
                Strength = Number<double>(more, "strength", NumberStyles.Float) ?? raw.Strength,
                NegativePrompt = Value(more, "negative_prompt") ?? raw.NegativePrompt,
                Sampler = Value(more, "sampler") ?? raw.Sampler,
            };
        }

        static string? Value(AdditionalPropertiesDictionary? more, string name) => more is not null && more.TryGetValue(name, out var value) ? Convert.ToString(value, CultureInfo.InvariantCulture) : null;

        static T? Number<T>(AdditionalPropertiesDictionary? more, string name, NumberStyles styles) where T : struct, INumber<T> => Value(more, name) is not { } text ? null
            : T.TryParse(text, styles, CultureInfo.InvariantCulture, out var number) ? number : throw new PanoptesException($"The option {name} is '{text}'; expected a {(styles == NumberStyles.Float ? "" : "whole ")}number.");

        static ImageFormat FormatOf(ImageGenerationOptions? options)
        {
            if (options?.ResponseFormat is ImageGenerationResponseFormat.Uri or ImageGenerationResponseFormat.Hosted) throw new PanoptesException($"Images as {options.ResponseFormat} were asked for; expected their data.");
            return options?.MediaType switch
            {
                null or "image/png" => ImageFormat.Png,
                "image/jpeg" => ImageFormat.Jpeg,
                "image/webp" => ImageFormat.Webp,
                var other => throw new PanoptesException($"Images as {other} were asked for; expected image/png, image/jpeg or image/webp."),
            };
        }

        static string MediaType(ImageFormat format) => format switch { ImageFormat.Png => "image/png", ImageFormat.Jpeg => "image/jpeg", _ => "image/webp" };

        public object? GetService(Type serviceType, object? serviceKey = null) => serviceKey is not null ? null
            : serviceType == typeof(ImageGeneratorMetadata) ? metadata : serviceType == typeof(Diffusion) ? diffusion : serviceType.IsInstanceOfType(this) ? this : null;

        public void Dispose() => one.Dispose();
    }
}
