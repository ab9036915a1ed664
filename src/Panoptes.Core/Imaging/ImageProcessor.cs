using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Panoptes.Checkpoints;

namespace Panoptes.Imaging;

/// <summary>
/// What turns pictures into a model's input: resize, crop, rescale, normalize, as the checkpoint's own file says. Immutable;
/// change it with <c>with</c>.
/// </summary>
public abstract record ImageProcessor
{
    /// <summary>CLIP's channel means on 0..1 (OpenAI's, of its training images).</summary>
    public static float[] ClipMean => [0.48145466f, 0.4578275f, 0.40821073f];

    /// <summary>CLIP's channel standard deviations on 0..1.</summary>
    public static float[] ClipStd => [0.26862954f, 0.26130258f, 0.27577711f];

    /// <summary>ImageNet's channel means on 0..1.</summary>
    public static float[] ImageNetMean => [0.485f, 0.456f, 0.406f];

    /// <summary>ImageNet's channel standard deviations on 0..1.</summary>
    public static float[] ImageNetStd => [0.229f, 0.224f, 0.225f];

    /// <summary>Red, green, blue, on the scale that rescaling gives.</summary>
    public float[] Mean { get; init; } = [0.5f, 0.5f, 0.5f];

    /// <inheritdoc cref="Mean"/>
    public float[] Std { get; init; } = [0.5f, 0.5f, 0.5f];

    /// <summary>Reads preprocessor_config.json, processor_config.json or open_clip_config.json of <paramref name="folder"/> (or such a file itself).</summary>
    /// <exception cref="PanoptesException">None of these files, or a field that is not supported.</exception>
    public static ImageProcessor Load(string folder)
    {
        if (File.Exists(folder)) return Parse(File.ReadAllText(folder), folder);
        foreach (var name in (ReadOnlySpan<string>)["preprocessor_config.json", "processor_config.json", "open_clip_config.json"])
        {
            var path = Path.Combine(folder, name);
            if (!File.Exists(path)) continue;
            var config = Path.Combine(folder, "config.json");
            return Parse(File.ReadAllText(path), path, File.Exists(config) ? JsonFields.Parse(File.ReadAllText(config), config).Text("model_type") : null);
        }
        var own = Path.Combine(folder, "config.json");
        if (File.Exists(own) && JsonFields.Parse(File.ReadAllText(own), own).Object("pretrained_cfg") is { } timm) return TimmTransform.Read(timm);
        throw new PanoptesException($"{folder}: no preprocessor_config.json, processor_config.json or open_clip_config.json; expected one that says how images are prepared.");
    }

    /// <summary>Reads the content of one of those files. <paramref name="modelType"/> (config.json's model_type) decides where an old file names no processor.</summary>
    /// <exception cref="PanoptesException">A field that is not supported.</exception>
    public static ImageProcessor Parse(string json, string source, string? modelType = null)
    {
        var fields = JsonFields.Parse(json, source);
        if (fields.Object("preprocess_cfg") is { } transform) return OpenClipTransform.Read(transform, fields.Object("model_cfg"));
        return HuggingFaceImageProcessor.Read(fields.Object("image_processor") ?? fields, modelType);
    }

    /// <summary>float32 [b, 3, h, w] on the CPU, owned by the caller; the images are prepared in parallel.</summary>
    /// <exception cref="PanoptesException">The images come out in different sizes.</exception>
    public abstract Tensor Process(IReadOnlyList<Image> images);

    /// <inheritdoc cref="Process(IReadOnlyList{Image})"/>
    public Tensor Process(Image image) => Process([image]);

    /// <summary>Writes the file that <see cref="Load"/> reads, under the peer's names, into <paramref name="folder"/>.</summary>
    public abstract void Save(string folder);

    private protected static void Write(string path, JsonObject json) => AtomicFile.WriteText(path, json.ToJsonString(Indented) + "\n");

    static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    private protected static JsonArray Numbers(float[] values) => new([.. values.Select(v => (JsonNode)JsonValue.Create(v))]);
}

/// <summary>
/// Processors whose every output is one picture [3, h, w]: an image is resized, a window of the result is cut out (padded where it
/// reaches beyond) and mapped through a table of 256 values a channel.
/// </summary>
public abstract record PictureProcessor : ImageProcessor
{
    /// <summary>What becomes of one image: the resized size, and the window of it that is the output.</summary>
    private protected readonly record struct Plan(int ResizedWidth, int ResizedHeight, int Left, int Top, int Width, int Height);

    /// <summary>(height, width) of what <paramref name="image"/> becomes.</summary>
    public (int Height, int Width) OutputSize(Image image)
    {
        var plan = PlanFor(image.Width, image.Height);
        return (plan.Height, plan.Width);
    }

    public override Tensor Process(IReadOnlyList<Image> images)
    {
        if (images.Count == 0) throw new PanoptesException("No images to process: expected at least one.");
        var (height, width) = OutputSize(images[0]);
        for (var i = 1; i < images.Count; i++)
            if (OutputSize(images[i]) is var other && other != (height, width))
                throw new PanoptesException($"Images of one batch come out as {width}x{height} and {other.Width}x{other.Height}: expected one size; process them one at a time.");
        var result = empty([images.Count, 3, height, width], ScalarType.Float32);
        try
        {
            Fill(images, result, 3 * height * width);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    unsafe void Fill(IReadOnlyList<Image> images, Tensor result, int size)
    {
        var table = Table();
        fixed (byte* start = result.bytes)                                         // native memory: it does not move
        {
            var address = (nint)start;
            if (images.Count == 1) Write(images[0], new(start, size), table);
            else Parallel.For(0, images.Count, i => Write(images[i], new((float*)address + (long)i * size, size), table));
        }
    }

    /// <summary>Prepares one image into <paramref name="target"/>, [3, h, w] of <see cref="OutputSize"/>.</summary>
    /// <exception cref="ArgumentException">The target has another length.</exception>
    public void Write(Image image, Span<float> target) => Write(image, target, Table());

    void Write(Image image, Span<float> target, float[] table)
    {
        var plan = PlanFor(image.Width, image.Height);
        if (target.Length != 3 * plan.Width * plan.Height) throw new ArgumentException($"The target holds {target.Length} numbers, not 3 x {plan.Height} x {plan.Width}.");
        image = Prepare(image);
        // The part of the window that lies on the resized image.
        int left = Math.Max(plan.Left, 0), top = Math.Max(plan.Top, 0);
        int right = Math.Min(plan.Left + plan.Width, plan.ResizedWidth), bottom = Math.Min(plan.Top + plan.Height, plan.ResizedHeight);
        var part = Resampler.ResizeWindow(image, plan.ResizedWidth, plan.ResizedHeight, left, top, right - left, bottom - top, Resample, Rounding);
        if (Padding is { } padding && (part.Width, part.Height) != (plan.Width, plan.Height))
        {
            // What is filled up is so after normalizing, so it goes through no table.
            var area = part.Width * part.Height;
            var planes = new float[3 * area];
            TensorConversion.MapToRgb(part.Pixels, part.Channels, planes, area, table);
            target.Fill(padding);
            for (var row = 0; row < 3 * part.Height; row++)
                planes.AsSpan(row * part.Width, part.Width).CopyTo(target[((row / part.Height * plan.Height + row % part.Height) * plan.Width)..]);
            return;
        }
        if ((part.Width, part.Height) != (plan.Width, plan.Height)) part = part.Crop(plan.Left - left, plan.Top - top, plan.Width, plan.Height, Fill());
        TensorConversion.MapToRgb(part.Pixels, part.Channels, target, plan.Width * plan.Height, table);
    }

    private protected abstract ResizeFilter Resample { get; }

    private protected abstract ResizeRounding Rounding { get; }

    private protected abstract Plan PlanFor(int width, int height);

    /// <summary>What is done before resizing.</summary>
    private protected abstract Image Prepare(Image image);

    /// <summary>The value of padded pixels, before normalizing.</summary>
    private protected virtual byte Fill() => 0;

    /// <summary>What the output is filled up with after normalizing, to the right and below; null where pixels are, before it.</summary>
    private protected virtual float? Padding => null;

    /// <summary>256 outputs for each of red, green, blue.</summary>
    private protected abstract float[] Table();

    /// <summary>(v / 255 - mean) / std, each step in single precision as torchvision does it.</summary>
    private protected float[] TorchvisionTable()
    {
        var table = new float[3 * 256];
        for (var c = 0; c < 3; c++)
            for (var v = 0; v < 256; v++)
                table[c * 256 + v] = (v / 255f - Mean[c]) / Std[c];
        return table;
    }

    /// <summary>Where a centered window of <paramref name="crop"/> begins on a side of <paramref name="size"/>; negative where it is padded.</summary>
    private protected static int CenterOffset(int size, int crop, bool halfToEven) => crop > size
        ? -((crop - size) / 2)
        : halfToEven ? (int)Math.Round((size - crop) / 2.0) : (size - crop) / 2;

    /// <summary>The longer side becomes <paramref name="longest"/>, the other keeps the proportion, rounded half up as segment-anything's ResizeLongestSide does it; at least one pixel.</summary>
    public static (int Width, int Height) LongestSide(int width, int height, int longest)
    {
        var scale = longest * 1.0 / Math.Max(width, height);
        return (Math.Max(1, (int)(width * scale + 0.5)), Math.Max(1, (int)(height * scale + 0.5)));
    }

    /// <summary>The shorter side becomes <paramref name="shortest"/>, the longer int(shortest * long / short).</summary>
    private protected static (int Width, int Height) ShortestSide(int width, int height, int shortest) => width <= height
        ? (shortest, (int)((double)((long)shortest * height) / width))
        : ((int)((double)((long)shortest * width) / height), shortest);
}
