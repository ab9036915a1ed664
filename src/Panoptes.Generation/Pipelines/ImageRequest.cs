using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>What a user wants to see. Whatever is null is as the model's family usually has it.</summary>
/// <param name="Prompt">In words; parts may have weights, "(red:1.3)"; of a model of classes, a class.</param>
public sealed record ImageRequest(string Prompt)
{
    internal const int MostSide = 8192, MostSteps = 10_000, MostBatch = 256, MostThreads = 1024, MostControls = 16;

    /// <summary>What is not wanted.</summary>
    public string? NegativePrompt { get; init; }

    /// <summary>In pixels; null: the picture's, or the model's own.</summary>
    public int? Width { get; init; }

    /// <summary>In pixels; null: the picture's, or the model's own.</summary>
    public int? Height { get; init; }

    /// <summary>How often noise is taken away; null: as the model's family has it.</summary>
    public int? Steps { get; init; }

    /// <summary>How strongly the prompt is followed; 1: as it comes.</summary>
    public double? Guidance { get; init; }

    /// <summary>As <see cref="Denoising.Rescale"/>.</summary>
    public double GuidanceRescale { get; init; }

    /// <summary>One of <see cref="Samplers.All"/>; null: the model's own scheduler.</summary>
    public string? Sampler { get; init; }

    /// <summary>DDIM: 0 is deterministic, 1 draws as much noise as DDPM.</summary>
    public double Eta { get; init; }

    /// <summary>What all chance follows from: the same seed gives the same image, on the CPU the Python peer's. Null: a new one.</summary>
    public long? Seed { get; init; }

    /// <summary>Another image that this one is on the way to; null: none.</summary>
    public Interpolation? Toward { get; init; }

    /// <summary>How it is made larger before it is decoded; null: not. Width and height are those before.</summary>
    public LatentUpscale? Upscale { get; init; }

    /// <summary>How many images; the seed of each is one more than that of the one before.</summary>
    public int Count { get; init; } = 1;

    /// <summary>What is to be changed, or filled where <see cref="Mask"/> says; it is resized to the wanted size.</summary>
    public Image? Image { get; init; }

    /// <summary>What the image says that <see cref="Image"/> came from, such as a file; null: nothing.</summary>
    public string? ImageFile { get; init; }

    /// <summary>How far from <see cref="Image"/>: from just above 0, nearly the picture, to 1, as good as nothing of it.</summary>
    public double? Strength { get; init; }

    /// <summary>White where the picture is to be made anew; of the picture's size. What is transparent is as black.</summary>
    public Image? Mask { get; init; }

    /// <summary>The mask without alpha: dropped, the white under what is transparent would count.</summary>
    internal Image? OpaqueMask => Mask is { HasAlpha: true } ? Mask.ToRgb(Rgb.Black) : Mask;

    /// <summary>What the image says that <see cref="Mask"/> came from; null: nothing.</summary>
    public string? MaskFile { get; init; }

    /// <summary>How many of CLIP's last layers are left out.</summary>
    public int? ClipSkip { get; init; }

    /// <summary>As <see cref="Denoising.Repeats"/>.</summary>
    public int Repeats { get; init; } = 1;

    /// <summary>What the image is to obey beside its words.</summary>
    public IReadOnlyList<ImageControl> Controls { get; init; } = [];

    /// <summary>
    /// As if made in a batch, with all but its own image thrown away: sums depend on how many images are made together, in their last bits, so that this makes one of them again bit for bit. Null: with its neighbors.
    /// </summary>
    public BatchPlace? Batch { get; init; }

    /// <summary>How many threads compute it, since sums are taken in other parts by others, so that an image is made again bit for bit; null: as many as the process is set to.</summary>
    public int? Threads { get; init; }

    /// <summary>Control, guidance and editing of one's own, which images do not tell.</summary>
    public IReadOnlyList<IStepHook> Hooks { get; init; } = [];

    /// <summary>The seed of each of its images, drawn where none is given.</summary>
    internal IEnumerable<long> Seeds()
    {
        var first = Seed ?? RandomNumberGenerator.GetInt32(int.MaxValue);
        return Enumerable.Range(0, Count).Select(k => checked(first + k));
    }

    /// <summary>Refuses an image that is too large, however its size came about.</summary>
    /// <exception cref="PanoptesException">In one sentence.</exception>
    internal static void Bound(int width, int height)
    {
        if (Math.Max(width, height) > MostSide) throw new PanoptesException($"An image of {width}x{height} pixels would be made; expected at most {MostSide} a side, to which a picture is brought where a size is said.");
    }

    /// <summary>Refuses what no model can do.</summary>
    /// <exception cref="PanoptesException">In one sentence.</exception>
    internal void Check()
    {
        if (Count is < 1 or > 10_000) throw new PanoptesException($"{Count} images were asked for; expected 1 to 10,000.");
        if (Seed is < 0) throw new PanoptesException($"The seed is {Seed}; expected 0 or more.");
        if (Seed > long.MaxValue - Count) throw new PanoptesException($"The seed is {Seed}; expected room for {Count} more.");
        if (Width is < 1 or > MostSide || Height is < 1 or > MostSide) throw new PanoptesException($"An image of {Width?.ToString(CultureInfo.InvariantCulture) ?? "its usual"} by {Height?.ToString(CultureInfo.InvariantCulture) ?? "its usual"} pixels was asked for; expected 1 to {MostSide} a side.");
        if (Threads is < 1 or > MostThreads) throw new PanoptesException($"The image was to be computed by {Threads} threads; expected 1 to {MostThreads}.");
        if (Steps is < 1 or > MostSteps) throw new PanoptesException($"{Steps} steps were asked for; expected 1 to {MostSteps:N0}.");
        if (Batch is { } batch && (Count != 1 || batch.Size is < 1 or > MostBatch || batch.Number < 1 || batch.Number > batch.Size)) throw new PanoptesException($"The image was to be number {batch.Number} of a batch of {batch.Size}; expected one image, and a number from 1 to a size of at most {MostBatch}.");
        if (Guidance is { } guidance && !double.IsFinite(guidance)) throw new PanoptesException("The guidance is no number.");
        if (GuidanceRescale is not (>= 0 and <= 1)) throw new PanoptesException($"The guidance rescale is {GuidanceRescale}; expected 0 to 1.");
        if (Eta is not (>= 0 and <= 1)) throw new PanoptesException($"The eta is {Eta}; expected 0 to 1.");
        if (Image is null && (Mask is not null || Strength is not null)) throw new PanoptesException("A mask or a strength was given without a picture; expected a picture to be changed.");
        if ((Image, Mask) is ({ } image, { } mask) && (mask.Width != image.Width || mask.Height != image.Height)) throw new PanoptesException($"The mask has {mask.Width}x{mask.Height} pixels, the picture {image.Width}x{image.Height}; expected the same.");
        if (Strength is { } strength && strength is not (> 0 and <= 1)) throw new PanoptesException($"The strength is {strength}; expected above 0 to 1.");
    }
}

/// <summary>So many threads compute until it is disposed, then as many as before; null: as many as there are.</summary>
readonly struct ComputingThreads : IDisposable
{
    readonly int before = get_num_threads();

    public ComputingThreads(int? wanted)
    {
        if (wanted is { } count && count != before) set_num_threads(count);
    }

    public void Dispose()
    {
        if (get_num_threads() != before) set_num_threads(before);
    }
}

/// <summary>Which image of a batch: images are made together.</summary>
/// <param name="Size">How many.</param>
/// <param name="Number">From 1.</param>
public sealed record BatchPlace(int Size, int Number);

/// <summary>What an image was made with: enough to make it again, bit for bit, on the same kind of machine. Written into PNG files.</summary>
public sealed record ImageParameters
{
    /// <summary>The PNG text that has it as JSON.</summary>
    public const string Keyword = "panoptes";

    /// <summary>The PNG text that has it in the form that the field's tools show.</summary>
    public const string ReadableKeyword = "parameters";

    static readonly JsonSerializerOptions Json = new(ModelConfig.JsonOptions) { WriteIndented = false, UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true };

    public required string Prompt { get; init; }
    public string? NegativePrompt { get; init; }
    public required string Model { get; init; }

    /// <summary>The folder that told a model in one file its settings; null: none did.</summary>
    public string? Config { get; init; }
    public required string Dtype { get; init; }
    public required int Width { get; init; }
    public required int Height { get; init; }
    public required int Steps { get; init; }
    public required double Guidance { get; init; }
    public double GuidanceRescale { get; init; }
    public string? Sampler { get; init; }
    public double Eta { get; init; }
    public required long Seed { get; init; }
    public double? Strength { get; init; }

    /// <summary>The SHA-256 of the picture that was changed, over its pixels; null: there was none.</summary>
    public string? Image { get; init; }

    /// <summary>Where that picture was; null: not known.</summary>
    public string? ImageFile { get; init; }

    /// <summary>The SHA-256 of the mask; null: there was none.</summary>
    public string? Mask { get; init; }

    /// <summary>Where the mask was; null: not known.</summary>
    public string? MaskFile { get; init; }
    public int? ClipSkip { get; init; }
    public int? Repeats { get; init; }

    /// <summary>Whether the autoencoder took it in tiles, which changes it a little; null: at once.</summary>
    public bool? Tiled { get; init; }

    /// <summary>How many threads computed it: sums are taken in other parts by others; null: not known.</summary>
    public int? Threads { get; init; }

    /// <summary>The batch that it was made in; null: alone.</summary>
    public BatchPlace? Batch { get; init; }
    public Interpolation? Toward { get; init; }
    public LatentUpscale? Upscale { get; init; }

    /// <summary>What it was made under; null: its words alone.</summary>
    public IReadOnlyList<ControlParameters>? Controls { get; init; }

    /// <summary>The SHA-256 of a picture's pixels; null of none.</summary>
    internal static string? Hash(Image? image) => image is null ? null : Convert.ToHexStringLower(SHA256.HashData(image.Pixels));

    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <summary>The parameters of an image file; null where it has none.</summary>
    /// <param name="png">The file.</param>
    /// <param name="source">Names it in errors.</param>
    /// <exception cref="PanoptesException">They are damaged.</exception>
    public static ImageParameters? Read(ReadOnlySpan<byte> png, string source = "the image")
    {
        if (PngText.Find(png, Keyword) is not { } json) return null;
        try
        {
            var read = JsonSerializer.Deserialize<ImageParameters>(json, Json) ?? throw new JsonException("it is null");
            if (read.Width > ImageRequest.MostSide || read.Height > ImageRequest.MostSide) throw new JsonException($"the image is {read.Width}x{read.Height}, expected at most {ImageRequest.MostSide} pixels a side");
            if (read.Threads is < 1 or > ImageRequest.MostThreads) throw new JsonException($"it was computed by {read.Threads} threads, expected 1 to {ImageRequest.MostThreads}");
            if (read.Controls?.Count > ImageRequest.MostControls) throw new JsonException($"it has {read.Controls.Count} controls, expected at most {ImageRequest.MostControls}");
            foreach (var control in read.Controls ?? [])
                if (control is null || control.Boxes?.Any(static b => b is null) == true || control.Names?.Any(static n => n is null) == true) throw new JsonException("a control, or a box or a name of it, is null");
            return read;
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"What {source} says of how it was made cannot be read: {JsonFault.Of(e)}.", e);
        }
    }

    /// <summary>The picture of a control of an image's file; null where it has none.</summary>
    /// <param name="png">The file.</param>
    /// <param name="control">Its place in <see cref="Controls"/>.</param>
    /// <exception cref="PanoptesException">It is damaged.</exception>
    public static Image? ReadCondition(ReadOnlySpan<byte> png, int control) => Held(png, ControlParameters.ConditionOf(control), "condition");

    /// <summary>The example image of a box of a control of an image's file; null where it has none.</summary>
    /// <param name="png">The file.</param>
    /// <param name="control">Its place in <see cref="Controls"/>.</param>
    /// <param name="box">The place among the control's <see cref="ControlParameters.Boxes"/>.</param>
    /// <exception cref="PanoptesException">It is damaged.</exception>
    public static Image? ReadExample(ReadOnlySpan<byte> png, int control, int box) => Held(png, ControlParameters.ExampleOf(control, box), "example");

    static Image? Held(ReadOnlySpan<byte> png, string keyword, string what)
    {
        if (PngText.Find(png, keyword) is not { } text) return null;
        try
        {
            return Imaging.Image.Decode(Convert.FromBase64String(text), $"the {what} inside the image", new() { MaxPixels = (long)ImageRequest.MostSide * ImageRequest.MostSide });
        }
        catch (FormatException e)
        {
            throw new PanoptesException($"The {what} inside the image is damaged; expected base 64.", e);
        }
    }

    /// <summary>The prompt, what is not wanted, and the rest in one line.</summary>
    public override string ToString()
    {
        var line = string.Create(CultureInfo.InvariantCulture, $"Steps: {Steps}, Sampler: {Sampler ?? "default"}, CFG scale: {Guidance}, Seed: {Seed}, Size: {Width}x{Height}, Model: {Model}");
        if (Strength is { } strength) line += string.Create(CultureInfo.InvariantCulture, $", Denoising strength: {strength}");
        if (ClipSkip is { } skip) line += string.Create(CultureInfo.InvariantCulture, $", Clip skip: {skip}");
        if (Toward is { } toward) line += string.Create(CultureInfo.InvariantCulture, $", Variation seed: {toward.Seed ?? Seed}, Variation strength: {toward.Share}");
        if (Upscale is { } upscale) line += string.Create(CultureInfo.InvariantCulture, $", Hires upscale: {upscale.Factor}, Hires denoising strength: {upscale.Strength}");
        foreach (var control in Controls ?? []) line += string.Create(CultureInfo.InvariantCulture, $", Control: {control.Kind} {control.Scale}");
        return string.IsNullOrEmpty(NegativePrompt) ? $"{Prompt}\n{line}" : $"{Prompt}\nNegative prompt: {NegativePrompt}\n{line}";
    }
}

/// <summary>An image with what it was made with.</summary>
public sealed record GeneratedImage(Image Image, ImageParameters Parameters)
{
    /// <summary>The pictures of its controls at its size (or as what looks at them does), in their order; null where one has none.</summary>
    public IReadOnlyList<Image?> Conditions { get; init; } = [];

    /// <summary>A PNG file that says how it was made, and holds the pictures of its controls and the examples of its boxes, but for those that are too large for a text of a PNG.</summary>
    public byte[] ToPng()
    {
        var png = Image.Encode(ImageFormat.Png);
        for (var i = 0; i < Conditions.Count; i++) Hold(ControlParameters.ConditionOf(i), Conditions[i]);
        for (var i = 0; i < (Parameters.Controls?.Count ?? 0); i++)
            for (var k = 0; k < (Parameters.Controls![i].Boxes?.Count ?? 0); k++) Hold(ControlParameters.ExampleOf(i, k), Parameters.Controls[i].Boxes![k].Example);
        return PngText.Add(PngText.Add(png, ImageParameters.ReadableKeyword, Parameters.ToString()), ImageParameters.Keyword, Parameters.ToJson());

        void Hold(string keyword, Image? picture)
        {
            // An image without its condition is worth more than none.
            if (picture is not null && Convert.ToBase64String(picture.Encode(ImageFormat.Png)) is { Length: < PngText.MostBytes - 100 } text) png = PngText.Add(png, keyword, text);
        }
    }

    /// <summary>Writes it; a PNG says how it was made, other kinds of files do not.</summary>
    /// <exception cref="PanoptesException">The file cannot be written, or is of an unknown kind.</exception>
    public void Save(string path)
    {
        if (string.Equals(Path.GetExtension(path), ".png", StringComparison.OrdinalIgnoreCase)) AtomicFile.Write(path, stream => stream.Write(ToPng()));
        else Image.Save(path);
    }
}

/// <summary>How far a generation has come.</summary>
/// <param name="Done">Steps taken, over all batches.</param>
/// <param name="Total">Of so many.</param>
/// <param name="Preview">What the first image of the batch seems to become, small; null where none was asked for, or between previews.</param>
/// <param name="Images">The images, with the last step; null before.</param>
/// <param name="Finished">The images of a batch, when they are done; null otherwise.</param>
public sealed record ImageProgress(int Done, int Total, Image? Preview = null, IReadOnlyList<GeneratedImage>? Images = null, IReadOnlyList<GeneratedImage>? Finished = null);
