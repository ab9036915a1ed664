using System.Text.Json.Nodes;

namespace Panoptes.Imaging;

/// <summary>
/// The processors of Mask2Former and OneFormer (transformers/models/*/image_processing_*.py): the shorter side becomes one size unless the longer one would become more than another, or
/// both sides are given; Mask2Former rounds both up to multiples of a number. Then rescale and normalize. A batch of several sizes is filled up on the right and below.
/// </summary>
public sealed record SegmentationImageProcessor : PictureProcessor
{
    /// <summary>The class as the file names it, such as Mask2FormerImageProcessor.</summary>
    public required string ProcessorType { get; init; }

    public bool DoResize { get; init; } = true;

    /// <summary>Either the shorter side, or both.</summary>
    public required ProcessorSize Size { get; init; }

    /// <summary>The most that the longer side may become, where <see cref="Size"/> is the shorter one's; null: any.</summary>
    public int? LongestEdge { get; init; }

    /// <summary>Both sides become multiples of it; 1: as they are.</summary>
    public int SizeDivisor { get; init; } = 1;

    public ResizeFilter Filter { get; init; } = ResizeFilter.Bilinear;

    /// <summary>Whose resize: torchvision's, or Pillow's as older versions of transformers had it.</summary>
    public ResizeRounding ResizeRounding { get; init; } = ResizeRounding.Torchvision;

    public bool DoRescale { get; init; } = true;

    public double RescaleFactor { get; init; } = 1 / 255.0;

    public bool DoNormalize { get; init; } = true;

    /// <summary>Which classes are things, where OneFormer's file says so ("metadata"); null elsewhere. The others are stuff.</summary>
    public IReadOnlyList<int>? ThingIds { get; init; }

    /// <summary>What no model looks at: the shorter side of a thread can be made long.</summary>
    const long MostPixels = 1 << 27;

    IReadOnlyDictionary<string, JsonNode?> Rest { get; init; } = new Dictionary<string, JsonNode?>();

    static readonly float[] ImageNetMean = [0.485f, 0.456f, 0.406f], ImageNetStd = [0.229f, 0.224f, 0.225f];

    /// <summary>Mask2Former's own: 800 and at most 1333, multiples of 32.</summary>
    public static SegmentationImageProcessor Mask2Former { get; } =
        new() { ProcessorType = "Mask2FormerImageProcessor", Size = ProcessorSize.Shortest(800), LongestEdge = 1333, SizeDivisor = 32, Mean = ImageNetMean, Std = ImageNetStd };

    /// <summary>OneFormer's own: 800 and at most 1333.</summary>
    public static SegmentationImageProcessor OneFormer { get; } = Mask2Former with { ProcessorType = "OneFormerImageProcessor", SizeDivisor = 1 };

    /// <summary>Whether a file's processor, or else its model, is one of these.</summary>
    internal static bool Knows(string? name, string? modelType) => name is "Mask2Former" or "OneFormer" || (name is null && modelType is "mask2former" or "oneformer");

    internal static SegmentationImageProcessor Read(JsonFields fields, string? type, bool pil, string? modelType)
    {
        var own = (type ?? modelType)!.StartsWith("one", StringComparison.OrdinalIgnoreCase) ? OneFormer : Mask2Former;
        var (size, longest) = ReadSize(fields) ?? (own.Size, own.LongestEdge);
        return own with
        {
            ProcessorType = type?.EndsWith("FeatureExtractor", StringComparison.Ordinal) == false ? type : own.ProcessorType,
            DoResize = fields.Flag("do_resize", true),
            Size = size,
            LongestEdge = longest,
            SizeDivisor = own.SizeDivisor == 1 || fields.Number("size_divisor", own.SizeDivisor) == 0 ? 1 : fields.Count("size_divisor") ?? own.SizeDivisor,
            Filter = HuggingFaceImageProcessor.ReadFilter(fields, own.Filter),
            ResizeRounding = pil ? ResizeRounding.Pillow : ResizeRounding.Torchvision,
            DoRescale = fields.Flag("do_rescale", true),
            RescaleFactor = HuggingFaceImageProcessor.ReadPositive(fields, "rescale_factor", own.RescaleFactor),
            DoNormalize = fields.Flag("do_normalize", true),
            Mean = fields.Channels("image_mean", own.Mean),
            Std = fields.Channels("image_std", own.Std),
            Rest = fields.Rest(),
            ThingIds = fields.Rest().GetValueOrDefault("metadata") is JsonObject metadata ? ReadThings(fields, metadata) : null,
        };
    }

    /// <summary>{shortest_edge, longest_edge}, {height, width}, or a number for the shorter side with max_size beside it.</summary>
    static (ProcessorSize Size, int? Longest)? ReadSize(JsonFields fields)
    {
        var most = fields.Count("max_size") ?? fields.Count("_max_size");
        switch (fields.Node("size"))
        {
            case null:
                return null;
            case JsonObject:
                var inner = fields.Object("size")!;
                var (shortest, longest, height, width) = (inner.Count("shortest_edge"), inner.Count("longest_edge"), inner.Count("height"), inner.Count("width"));
                if (shortest is { } edge && height is null && width is null) return (ProcessorSize.Shortest(edge), longest ?? most);
                if (height is { } h && width is { } w && shortest is null && longest is null) return (ProcessorSize.Exactly(h, w), null);
                throw fields.Wrong("size", "shortest_edge with longest_edge, or height and width");
            default:
                return (ProcessorSize.Shortest(fields.Count("size")!.Value), most);
        }
    }

    static int[]? ReadThings(JsonFields fields, JsonObject metadata)
    {
        if (metadata["thing_ids"] is not { } ids) return null;
        try
        {
            return [.. ids.AsArray().Select(static i => i!.GetValue<int>())];
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or NullReferenceException)
        {
            throw fields.Wrong("metadata", "thing_ids as a list of whole numbers");
        }
    }

    /// <summary>Images of any sizes, filled up with zeros on the right and below.</summary>
    /// <returns>float32 [b, 3, h, w]</returns>
    public override Tensor Process(IReadOnlyList<Image> images) => Process(images, out _);

    /// <summary>The same, with how much of each the image fills.</summary>
    /// <param name="images">One or more.</param>
    /// <param name="sizes">(height, width) of each within the batch.</param>
    public Tensor Process(IReadOnlyList<Image> images, out IReadOnlyList<(int Height, int Width)> sizes)
    {
        var each = images.Select(OutputSize).ToArray();
        sizes = each;
        if (each.Distinct().Count() <= 1) return base.Process(images);
        using var scope = NewDisposeScope();
        var whole = zeros([images.Count, 3, each.Max(static s => s.Height), each.Max(static s => s.Width)], ScalarType.Float32);
        for (var i = 0; i < images.Count; i++)
        {
            using var one = base.Process([images[i]]);
            whole[i].narrow(1, 0, each[i].Height).narrow(2, 0, each[i].Width).copy_(one[0]);
        }
        return whole.MoveToOuterDisposeScope();
    }

    private protected override ResizeFilter Resample => Filter;

    private protected override ResizeRounding Rounding => ResizeRounding;

    private protected override Image Prepare(Image image) => image.Channels == 4 ? image.ToRgb() : image;      // gray is repeated at the end

    private protected override Plan PlanFor(int width, int height)
    {
        if (!DoResize) return new(width, height, 0, 0, width, height);
        var (w, h) = Size.ShortestEdge is { } edge ? Within(width, height, edge) : (Size.Width, Size.Height);
        (w, h) = (Up(w), Up(h));
        return (long)w * h <= MostPixels ? new(w, h, 0, 0, w, h) : throw new PanoptesException($"An image of {width}x{height} would become {w}x{h} before the model sees it; expected no more than {MostPixels:N0} pixels.");

        int Up(int side) => (side + SizeDivisor - 1) / SizeDivisor * SizeDivisor;
    }

    (int Width, int Height) Within(int width, int height, int edge)
    {
        var (shorter, longer) = ((double)Math.Min(width, height), (double)Math.Max(width, height));
        var side = (double)edge;
        if (LongestEdge is { } most && longer / shorter * edge > most)
        {
            side = most * shorter / longer;
            edge = Math.Max((int)Math.Round(side), 1);
        }
        if ((height <= width && height == edge) || (width <= height && width == edge)) return (width, height);
        return width < height ? (edge, (int)(side * height / width)) : ((int)(side * width / height), edge);
    }

    private protected override float[] Table() => HuggingFaceImageProcessor.Table(DoRescale, RescaleFactor, DoNormalize, Mean, Std);

    /// <summary>Writes preprocessor_config.json in today's spelling; fields that mean nothing here are kept.</summary>
    public override void Save(string folder)
    {
        var size = Size.ToJson();
        if (LongestEdge is { } longest) size["longest_edge"] = longest;
        var json = new JsonObject
        {
            ["image_processor_type"] = ProcessorType,
            ["do_resize"] = DoResize,
            ["size"] = size,
            ["resample"] = (int)Filter,
            ["do_rescale"] = DoRescale,
            ["rescale_factor"] = RescaleFactor,
            ["do_normalize"] = DoNormalize,
            ["image_mean"] = Numbers(Mean),
            ["image_std"] = Numbers(Std),
        };
        if (!ProcessorType.StartsWith("OneFormer", StringComparison.Ordinal)) json["size_divisor"] = SizeDivisor;
        foreach (var (name, value) in Rest) json[name] = value?.DeepClone();
        Write(Path.Combine(folder, "preprocessor_config.json"), json);
    }
}
