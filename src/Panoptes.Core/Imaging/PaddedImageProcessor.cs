using System.Runtime.InteropServices;
using System.Text.Json.Nodes;

namespace Panoptes.Imaging;

/// <summary>Images of several sizes in one tensor. Disposing it disposes both.</summary>
/// <param name="PixelValues">float32 [b, 3, h, w]; each image is at the upper left, zeros fill up the rest.</param>
/// <param name="PixelMask">bool [b, h, w]: where there is image.</param>
/// <param name="Sizes">(height, width) of each image in it.</param>
public sealed record PaddedBatch(Tensor PixelValues, Tensor PixelMask, IReadOnlyList<(int Height, int Width)> Sizes) : IDisposable
{
    public void Dispose()
    {
        PixelValues.Dispose();
        PixelMask.Dispose();
    }
}

/// <summary>
/// The processors of detectors and segmenters (transformers' DetrImageProcessor, GroundingDinoImageProcessor, Mask2FormerImageProcessor and OneFormerImageProcessor): images keep their proportions and are
/// filled up to one size. RGB comes first (alpha over white), then resize, rescale, normalize, pad.
/// </summary>
/// <remarks>transformers 5 resizes with torchvision; so does this, unless the type's name ends in Pil or <see cref="ResizeRounding"/> is set.</remarks>
public sealed record PaddedImageProcessor : ImageProcessor
{
    /// <summary>The classes, without "ImageProcessor", and the model types that old files are recognized by.</summary>
    static readonly (string Name, string ModelType)[] Families = [("Detr", "detr"), ("GroundingDino", "grounding-dino"), (Divided, "mask2former"), ("OneFormer", "oneformer")];

    /// <summary>The one whose sides are multiples of a number, unless its file says otherwise.</summary>
    const string Divided = "Mask2Former";

    /// <summary>What no model looks at: the shorter side of a thread can be made long.</summary>
    const long MostPixels = 1 << 27;

    /// <summary>The class as the file names it.</summary>
    public string ProcessorType { get; init; } = "DetrImageProcessor";

    public bool DoResize { get; init; } = true;

    /// <summary>The size that an image is brought to.</summary>
    public PaddedSize Size { get; init; } = PaddedSize.Edges(800, 1333);

    /// <summary>Both sides are rounded up to multiples of it.</summary>
    public int SizeDivisor { get; init; } = 1;

    public ResizeFilter Filter { get; init; } = ResizeFilter.Bilinear;

    /// <summary>Whose resize: torchvision's, or Pillow's as older versions of transformers had it.</summary>
    public ResizeRounding ResizeRounding { get; init; } = ResizeRounding.Torchvision;

    public bool DoRescale { get; init; } = true;

    public double RescaleFactor { get; init; } = 1 / 255.0;

    public bool DoNormalize { get; init; } = true;

    /// <summary>Whether images of several sizes are filled up to one; otherwise they are refused.</summary>
    public bool DoPad { get; init; } = true;

    /// <summary>(height, width) that images are filled up to; null: the largest of the batch.</summary>
    public (int Height, int Width)? PadSize { get; init; }

    /// <summary>Which classes are things, where OneFormer's file says so ("metadata"); null elsewhere. The others are stuff.</summary>
    public IReadOnlyList<int>? ThingIds { get; init; }

    IReadOnlyDictionary<string, JsonNode?> Rest { get; init; } = new Dictionary<string, JsonNode?>();

    /// <summary>The class's name without "ImageProcessor", where it is one of these; otherwise null.</summary>
    internal static string? Find(string? name, string? modelType) => Array.Find(Families, f => name is null ? f.ModelType == modelType : f.Name == name).Name;

    internal static PaddedImageProcessor Read(JsonFields fields, string type)
    {
        var pad = fields.Object("pad_size");
        var divided = type.StartsWith(Divided, StringComparison.Ordinal);
        return new()
        {
            ProcessorType = type,
            DoResize = fields.Flag("do_resize", true),
            Size = PaddedSize.Read(fields),
            SizeDivisor = !divided || fields.Number("size_divisor", 32) == 0 ? 1 : fields.Count("size_divisor") ?? 32,
            Filter = HuggingFaceImageProcessor.ReadFilter(fields, ResizeFilter.Bilinear),
            ResizeRounding = type.EndsWith("Pil", StringComparison.Ordinal) ? ResizeRounding.Pillow : ResizeRounding.Torchvision,
            DoRescale = fields.Flag("do_rescale", true),
            RescaleFactor = HuggingFaceImageProcessor.ReadPositive(fields, "rescale_factor", 1 / 255.0),
            DoNormalize = fields.Flag("do_normalize", true),
            Mean = fields.Channels("image_mean", ImageNetMean),
            Std = fields.Channels("image_std", ImageNetStd),
            DoPad = fields.Flag("do_pad", fields.Flag("pad_and_return_pixel_mask", true)),
            PadSize = pad is null ? null : (pad.Count("height") ?? throw fields.Wrong("pad_size", "height and width"), pad.Count("width") ?? throw fields.Wrong("pad_size", "height and width")),
            Rest = fields.Rest(),
            ThingIds = fields.Rest().GetValueOrDefault("metadata") is JsonObject metadata ? ReadThings(fields, metadata) : null,
        };
    }

    static int[]? ReadThings(JsonFields fields, JsonObject metadata)
    {
        try
        {
            return metadata["thing_ids"] is { } ids ? [.. ids.AsArray().Select(static i => i!.GetValue<int>())] : null;
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or NullReferenceException)
        {
            throw fields.Wrong("metadata", "thing_ids as a list of whole numbers");
        }
    }

    /// <summary>(height, width) that an image becomes before it is filled up.</summary>
    /// <exception cref="PanoptesException">More than any model looks at.</exception>
    public (int Height, int Width) TargetSize(int height, int width)
    {
        if (!DoResize) return (height, width);
        var (h, w) = Size.Of(height, width);
        (h, w) = (Up(h), Up(w));
        return (long)h * w <= MostPixels ? (h, w) : throw new PanoptesException($"An image of {width}x{height} would become {w}x{h} before the model sees it; expected no more than {MostPixels:N0} pixels.");

        int Up(int side) => (side + SizeDivisor - 1) / SizeDivisor * SizeDivisor;
    }

    /// <summary>The same of pictures that are tensors, with gradients to them: [b, 3, h, w].</summary>
    /// <param name="pictures">[b, 3, height, width] from 0 to 1</param>
    public Tensor Process(Tensor pictures)
    {
        using var scope = NewDisposeScope();
        var (height, width) = TargetSize((int)pictures.shape[2], (int)pictures.shape[3]);
        var sized = (pictures.shape[2], pictures.shape[3]) == (height, width) ? pictures : nn.functional.interpolate(pictures, [height, width], mode: InterpolationMode.Bilinear, align_corners: false, antialias: true);
        sized = sized * (DoRescale ? 255 * RescaleFactor : 255);
        return (DoNormalize ? (sized - tensor(Mean, [1, 3, 1, 1])) / tensor(Std, [1, 3, 1, 1]) : sized).MoveToOuterDisposeScope();
    }

    /// <summary>The pixels of <see cref="ProcessPadded"/> alone.</summary>
    public override Tensor Process(IReadOnlyList<Image> images)
    {
        var batch = ProcessPadded(images);
        batch.PixelMask.Dispose();
        return batch.PixelValues;
    }

    /// <summary>float32 on the CPU, owned by the caller; the images are prepared in parallel.</summary>
    /// <exception cref="PanoptesException">No image, images of several sizes that are not to be filled up, or one that is larger than <see cref="PadSize"/>.</exception>
    public PaddedBatch ProcessPadded(IReadOnlyList<Image> images)
    {
        if (images.Count == 0) throw new PanoptesException("No images to process: expected at least one.");
        var sizes = images.Select(i => TargetSize(i.Height, i.Width)).ToArray();
        var (height, width) = PadSize is { } fixedSize && DoPad ? fixedSize : (sizes.Max(static s => s.Height), sizes.Max(static s => s.Width));
        foreach (var size in sizes)
        {
            if (!DoPad && size != (height, width)) throw new PanoptesException($"Images of one batch come out as {width}x{height} and {size.Width}x{size.Height}, and do_pad is false: expected one size; process them one at a time.");
            if (size.Height > height || size.Width > width) throw new PanoptesException($"An image comes out as {size.Width}x{size.Height}, larger than pad_size, {width}x{height}.");
        }
        Tensor? pixels = null, mask = null;
        try
        {
            pixels = zeros([images.Count, 3, height, width], ScalarType.Float32);
            mask = zeros([images.Count, height, width], ScalarType.Bool);
            Fill(images, sizes, pixels, mask, height, width);
            return new(pixels, mask, sizes);
        }
        catch
        {
            pixels?.Dispose();
            mask?.Dispose();
            throw;
        }
    }

    unsafe void Fill(IReadOnlyList<Image> images, (int Height, int Width)[] sizes, Tensor pixels, Tensor mask, int height, int width)
    {
        var table = HuggingFaceImageProcessor.Table(DoRescale, RescaleFactor, DoNormalize, Mean, Std);
        fixed (byte* start = pixels.bytes, seen = mask.bytes)                        // native memory: it does not move
        {
            var (target, flags) = ((nint)start, (nint)seen);
            Parallel.For(0, images.Count, i =>
            {
                var (h, w) = sizes[i];
                var image = images[i].Channels == 4 ? images[i].ToRgb() : images[i];
                var part = image.Resize(w, h, Filter, ResizeRounding);
                var planes = new float[3 * h * w];
                TensorConversion.MapToRgb(part.Pixels, part.Channels, planes, h * w, table);
                var all = new Span<float>((float*)target + (long)i * 3 * height * width, 3 * height * width);
                var own = new Span<byte>((byte*)flags + (long)i * height * width, height * width);
                for (var c = 0; c < 3; c++)
                    for (var y = 0; y < h; y++) planes.AsSpan((c * h + y) * w, w).CopyTo(all[((c * height + y) * width)..]);
                for (var y = 0; y < h; y++) own.Slice(y * width, w).Fill(1);
            });
        }
    }

    /// <summary>Writes preprocessor_config.json in today's spelling; fields that mean nothing here are kept.</summary>
    public override void Save(string folder)
    {
        var json = new JsonObject
        {
            ["image_processor_type"] = ProcessorType,
            ["do_resize"] = DoResize,
            ["size"] = Size.ToJson(),
            ["resample"] = (int)Filter,
            ["do_rescale"] = DoRescale,
            ["rescale_factor"] = RescaleFactor,
            ["do_normalize"] = DoNormalize,
            ["image_mean"] = Numbers(Mean),
            ["image_std"] = Numbers(Std),
            ["do_pad"] = DoPad,
        };
        if (ProcessorType.StartsWith(Divided, StringComparison.Ordinal)) json["size_divisor"] = SizeDivisor;
        if (PadSize is var (height, width)) json["pad_size"] = new JsonObject { ["height"] = height, ["width"] = width };
        foreach (var (name, value) in Rest) json[name] = value?.DeepClone();
        Write(Path.Combine(folder, "preprocessor_config.json"), json);
    }
}

/// <summary>The size field of such a processor: a shorter side that the longer one may cut short, a size to fit into, or exactly one.</summary>
public readonly record struct PaddedSize
{
    enum Kind
    {
        Edges,
        Within,
        Exactly,
    }

    readonly Kind kind;
    readonly int first, second;

    PaddedSize(Kind kind, int first, int second) => (this.kind, this.first, this.second) = (kind, first, second);

    /// <summary>The shorter side becomes <paramref name="shortest"/>, unless the longer one were more than <paramref name="longest"/> then.</summary>
    public static PaddedSize Edges(int shortest, int longest) => new(Kind.Edges, shortest, longest);

    /// <summary>As large as fits.</summary>
    public static PaddedSize Within(int height, int width) => new(Kind.Within, height, width);

    /// <summary>Exactly so, whatever the proportions.</summary>
    public static PaddedSize Exactly(int height, int width) => new(Kind.Exactly, height, width);

    internal static PaddedSize Read(JsonFields fields)
    {
        const string expected = "shortest_edge and longest_edge, max_height and max_width, or height and width";
        var most = fields.Count("max_size") ?? fields.Count("_max_size");
        if (fields.Node("size") is null) return Edges(800, most ?? 1333);
        if (fields.Object("size") is not { } size) return Edges(fields.Count("size")!.Value, most ?? 1333);      // old files: the shorter side alone
        if (size.Count("shortest_edge") is { } shortest) return Edges(shortest, size.Count("longest_edge") ?? most ?? throw fields.Wrong("size", expected));
        if (size.Count("max_height") is { } tallest && size.Count("max_width") is { } widest) return Within(tallest, widest);
        return Exactly(size.Count("height") ?? throw fields.Wrong("size", expected), size.Count("width") ?? throw fields.Wrong("size", expected));
    }

    /// <summary>(height, width) that an image of this size becomes; no side is less than 1.</summary>
    internal (int Height, int Width) Of(int height, int width)
    {
        switch (kind)
        {
            case Kind.Exactly:
                return (first, second);
            case Kind.Within:
                var scale = Math.Min((double)first / height, (double)second / width);
                return (Math.Max(1, (int)(height * scale)), Math.Max(1, (int)(width * scale)));
            default:
                double shorter = Math.Min(height, width), longer = Math.Max(height, width), raw = first;
                var size = first;
                if (longer / shorter * first > second)
                {
                    raw = second * shorter / longer;
                    size = (int)Math.Round(raw);                                       // half to even
                    if (size == 0) return width < height ? (second, 1) : (1, second);  // the peer fails
                }
                if (shorter == size) return (height, width);
                return width < height ? ((int)(raw * height / width), size) : (size, (int)(raw * width / height));
        }
    }

    internal JsonObject ToJson() => kind switch
    {
        Kind.Edges => new() { ["shortest_edge"] = first, ["longest_edge"] = second },
        Kind.Within => new() { ["max_height"] = first, ["max_width"] = second },
        _ => new() { ["height"] = first, ["width"] = second },
    };
}
