using System.Text.Json.Nodes;

namespace Panoptes.Imaging;

/// <summary>The size fields of preprocessor_config.json: the shorter side, the longer side, or both sides.</summary>
public readonly record struct ProcessorSize(int? ShortestEdge, int Height, int Width)
{
    /// <summary>The longer side, where it alone is given.</summary>
    public int? LongestEdge { get; init; }

    public static ProcessorSize Longest(int edge) => new(null, 0, 0) { LongestEdge = edge };

    public static ProcessorSize Shortest(int edge) => new(edge, 0, 0);

    public static ProcessorSize Exactly(int height, int width) => new(null, height, width);

    internal JsonObject ToJson() => ShortestEdge is { } edge ? new() { ["shortest_edge"] = edge } : LongestEdge is { } longest ? new() { ["longest_edge"] = longest } : new() { ["height"] = Height, ["width"] = Width };
}

/// <summary>
/// Hugging Face's processors of one resized picture: CLIP, SigLIP, ViT, BiT (as DINOv2 names it), BEiT, ConvNeXt, OWL-ViT, SAM and SAM 2
/// (transformers/models/*/image_processing_*.py), from preprocessor_config.json in its old and new spellings. RGB comes first
/// (alpha over white), then resize, center crop (padded with zeros), rescale, normalize; SAM's is padded with zeros after that.
/// </summary>
/// <remarks>transformers 5 resizes with torchvision; so does this, unless the type's name ends in Pil or <see cref="PictureProcessor.Rounding"/> is set.</remarks>
public sealed record HuggingFaceImageProcessor : PictureProcessor
{
    /// <summary>CLIP, Siglip, ViT, Bit, Beit, ConvNext, OwlViT, Sam or Sam2.</summary>
    public required string Family { get; init; }

    /// <summary>The class as the file names it, such as CLIPImageProcessor.</summary>
    public required string ProcessorType { get; init; }

    public bool DoResize { get; init; } = true;

    public required ProcessorSize Size { get; init; }

    public required ResizeFilter Filter { get; init; }

    /// <summary>Whose resize: torchvision's, or Pillow's as older versions of transformers had it.</summary>
    public ResizeRounding ResizeRounding { get; init; } = ResizeRounding.Torchvision;

    /// <summary>(height, width) of the center crop; null for none.</summary>
    public (int Height, int Width)? Crop { get; init; }

    public bool DoRescale { get; init; } = true;

    public double RescaleFactor { get; init; } = 1 / 255.0;

    public bool DoNormalize { get; init; } = true;

    /// <summary>ConvNeXt below 384: the shorter side becomes size / this before the crop to size.</summary>
    public double CropPercent { get; init; } = 224 / 256.0;

    /// <summary>(height, width) that the normalized picture is filled up to with zeros, to the right and below; null for none.</summary>
    public (int Height, int Width)? Pad { get; init; }

    IReadOnlyDictionary<string, JsonNode?> Rest { get; init; } = new Dictionary<string, JsonNode?>();

    /// <summary>The defaults of each class where a file leaves a field out.</summary>
    sealed record Family_(string Name, ResizeFilter Filter, ProcessorSize Size, bool SquareSize, bool Crop, float[] Mean, float[] Std, string[] ModelTypes);

    static readonly Family_[] Families =
    [
        new("CLIP", ResizeFilter.Bicubic, ProcessorSize.Shortest(224), SquareSize: false, Crop: true, ClipMean, ClipStd, ["clip", "clip_vision_model", "clipseg"]),
        new("Siglip", ResizeFilter.Bicubic, ProcessorSize.Exactly(224, 224), SquareSize: false, Crop: false, [0.5f, 0.5f, 0.5f], [0.5f, 0.5f, 0.5f], ["siglip", "siglip_vision_model"]),
        new("ViT", ResizeFilter.Bilinear, ProcessorSize.Exactly(224, 224), SquareSize: true, Crop: false, [0.5f, 0.5f, 0.5f], [0.5f, 0.5f, 0.5f], ["vit"]),
        new("Bit", ResizeFilter.Bicubic, ProcessorSize.Shortest(224), SquareSize: true, Crop: true, ClipMean, ClipStd, ["bit", "dinov2", "dinov2_with_registers"]),
        new("Beit", ResizeFilter.Bicubic, ProcessorSize.Exactly(224, 224), SquareSize: true, Crop: false, [0.5f, 0.5f, 0.5f], [0.5f, 0.5f, 0.5f], ["beit"]),
        new("ConvNext", ResizeFilter.Bicubic, ProcessorSize.Shortest(384), SquareSize: false, Crop: false, [0.5f, 0.5f, 0.5f], [0.5f, 0.5f, 0.5f], ["convnext", "convnextv2"]),
        new("OwlViT", ResizeFilter.Bicubic, ProcessorSize.Exactly(768, 768), SquareSize: true, Crop: false, ClipMean, ClipStd, ["owlvit"]),
        new("Sam", ResizeFilter.Bilinear, ProcessorSize.Longest(1024), SquareSize: true, Crop: false, ImageNetMean, ImageNetStd, ["sam", "sam_vision_model"]),
        new("Sam2", ResizeFilter.Bilinear, ProcessorSize.Exactly(1024, 1024), SquareSize: true, Crop: false, ImageNetMean, ImageNetStd, ["sam2", "sam2_video"]),
    ];

    internal static ImageProcessor Read(JsonFields fields, string? modelType)
    {
        var named = fields.Text("image_processor_type");
        var old = fields.Text("feature_extractor_type");
        var type = named ?? old;
        var (name, pil) = type is null ? (null, false) : Strip(type);
        if (name == "Siglip2" || (type is null && modelType is "siglip2" or "siglip2_vision_model")) return NaFlexImageProcessor.Read(fields, type ?? "Siglip2ImageProcessor");
        if (PaddedImageProcessor.Find(name, type is null ? modelType : null) is { } padded) return PaddedImageProcessor.Read(fields, named ?? $"{padded}ImageProcessor");
        var family = Array.Find(Families, f => type is null ? f.ModelTypes.Contains(modelType) : f.Name == name)
            ?? throw fields.Wrong(type is not null && named is null ? "feature_extractor_type" : "image_processor_type",
                "one of CLIP, Siglip, Siglip2, ViT, Bit, Beit, ConvNext, OwlViT, Sam, Sam2, Detr, GroundingDino, Mask2Former or OneFormer followed by ImageProcessor");
        if (fields.Flag("do_pad", family.Name == "Sam") && family.Name != "Sam") throw fields.Wrong("do_pad", "false: padding is not supported");
        var crop = fields.Flag("do_center_crop", family.Crop);
        var size = ReadSize(fields, "size", family.SquareSize) ?? family.Size;
        if (fields.Flag("use_square_size", false) && size.ShortestEdge is { } edge) size = ProcessorSize.Exactly(edge, edge);
        if (family.Name == "ConvNext" && size.ShortestEdge is null) throw fields.Wrong("size", "shortest_edge");
        if (family.Name == "Sam" != size.LongestEdge is not null) throw fields.Wrong("size", family.Name == "Sam" ? "longest_edge" : "shortest_edge alone, or height and width");
        (int Height, int Width)? pad = null;
        if (family.Name == "Sam" && fields.Flag("do_pad", true))
            pad = (ReadSize(fields, "pad_size", square: true) ?? ProcessorSize.Exactly(1024, 1024)) is { ShortestEdge: null, LongestEdge: null } filled ? (filled.Height, filled.Width) : throw fields.Wrong("pad_size", "height and width");
        if (pad is var (padHeight, padWidth) && Math.Min(padHeight, padWidth) < size.LongestEdge) throw fields.Wrong("pad_size", $"at least the longest edge, {size.LongestEdge}");
        var cropSize = ReadSize(fields, "crop_size", square: true) ?? (family.Name == "OwlViT" ? family.Size : ProcessorSize.Exactly(224, 224));
        if (cropSize.ShortestEdge is not null) throw fields.Wrong("crop_size", "height and width");
        return new HuggingFaceImageProcessor
        {
            Family = family.Name,
            ProcessorType = old is null && type is not null ? type : $"{family.Name}ImageProcessor",
            DoResize = fields.Flag("do_resize", true),
            Size = size,
            Filter = ReadFilter(fields, family.Filter),
            ResizeRounding = pil ? ResizeRounding.Pillow : ResizeRounding.Torchvision,
            Crop = crop ? (cropSize.Height, cropSize.Width) : null,
            Pad = pad,
            DoRescale = fields.Flag("do_rescale", family.Name != "OwlViT" || fields.Flag("rescale", true)),   // so its first files call it
            RescaleFactor = ReadPositive(fields, "rescale_factor", 1 / 255.0),
            DoNormalize = fields.Flag("do_normalize", true),
            Mean = fields.Channels("image_mean", family.Mean),
            Std = fields.Channels("image_std", family.Std),
            CropPercent = ReadPositive(fields, "crop_pct", 224 / 256.0) is var percent and >= 0.01 and <= 1 ? percent : throw fields.Wrong("crop_pct", "0.01 to 1"),
            Rest = fields.Rest(),
        };
    }

    static (string Name, bool Pil) Strip(string type)
    {
        foreach (var suffix in (ReadOnlySpan<string>)["ImageProcessorPil", "ImageProcessorFast", "ImageProcessor", "FeatureExtractor"])
            if (type.EndsWith(suffix, StringComparison.Ordinal)) return (type[..^suffix.Length], suffix == "ImageProcessorPil");
        return (type, false);
    }

    internal static ResizeFilter ReadFilter(JsonFields fields, ResizeFilter otherwise) =>
        fields.Number("resample", (int)otherwise) is var value && value is 0 or 1 or 2 or 3 or 4 or 5 ? (ResizeFilter)value : throw fields.Wrong("resample", "0 to 5");

    internal static double ReadPositive(JsonFields fields, string name, double otherwise) =>
        fields.Number(name, otherwise) is var value && value > 0 && double.IsFinite(value) ? value : throw fields.Wrong(name, "a positive number");

    /// <summary>An int (square or shorter side), [height, width], {shortest_edge} or {height, width}.</summary>
    static ProcessorSize? ReadSize(JsonFields fields, string name, bool square)
    {
        switch (fields.Node(name))
        {
            case null:
                return null;
            case JsonObject:
                var inner = fields.Object(name)!;
                var (edge, height, width) = (inner.Count("shortest_edge"), inner.Count("height"), inner.Count("width"));
                if (edge is null && height is null && width is null && inner.Count("longest_edge") is { } longest) return ProcessorSize.Longest(longest);
                if (edge is not null && inner.Node("longest_edge") is null) return ProcessorSize.Shortest(edge.Value);
                if (edge is null && height is not null && width is not null) return ProcessorSize.Exactly(height.Value, width.Value);
                throw fields.Wrong(name, "shortest_edge alone, or height and width");
            case JsonArray { Count: 2 } pair:
                var sides = new JsonFields(new() { ["height"] = pair[0]?.DeepClone(), ["width"] = pair[1]?.DeepClone() }, $"{fields.Source}: {name}");
                return ProcessorSize.Exactly(sides.Count("height") ?? throw fields.Wrong(name, "two whole numbers"), sides.Count("width") ?? throw fields.Wrong(name, "two whole numbers"));
            default:
                var side = fields.Count(name)!.Value;
                return square ? ProcessorSize.Exactly(side, side) : ProcessorSize.Shortest(side);
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
            ["do_center_crop"] = Crop is not null,
            ["do_rescale"] = DoRescale,
            ["rescale_factor"] = RescaleFactor,
            ["do_normalize"] = DoNormalize,
            ["image_mean"] = Numbers(Mean),
            ["image_std"] = Numbers(Std),
            ["do_convert_rgb"] = true,
        };
        if (Crop is var (height, width)) json["crop_size"] = ProcessorSize.Exactly(height, width).ToJson();
        if (Family == "ConvNext") json["crop_pct"] = CropPercent;
        if (Family == "Sam") json["do_pad"] = Pad is not null;
        if (Pad is var (padHeight, padWidth)) json["pad_size"] = ProcessorSize.Exactly(padHeight, padWidth).ToJson();
        foreach (var (name, value) in Rest) json[name] = value?.DeepClone();
        Write(Path.Combine(folder, "preprocessor_config.json"), json);
    }

    private protected override ResizeFilter Resample => Filter;

    private protected override ResizeRounding Rounding => ResizeRounding;

    private protected override Image Prepare(Image image) => image.Channels == 4 ? image.ToRgb() : image;      // gray is repeated at the end

    private protected override Plan PlanFor(int width, int height)
    {
        var (w, h) = (width, height);
        var crop = Crop;
        if (DoResize)
        {
            if (Family == "ConvNext" && Size.ShortestEdge is { } target)
            {
                (w, h) = target < 384 ? ShortestSide(width, height, (int)(target / CropPercent)) : (target, target);
                if (target < 384) crop ??= (target, target);
            }
            else if (Size.LongestEdge is { } longest) (w, h) = LongestSide(width, height, longest);
            else (w, h) = Size.ShortestEdge is { } edge ? ShortestSide(width, height, edge) : (Size.Width, Size.Height);
        }
        if (Pad is var (padHeight, padWidth)) return new(w, h, 0, 0, Math.Max(padWidth, w), Math.Max(padHeight, h));
        return crop is var (ch, cw)
            ? new(w, h, CenterOffset(w, cw, halfToEven: false), CenterOffset(h, ch, halfToEven: false), cw, ch)
            : new(w, h, 0, 0, w, h);
    }

    private protected override float? Padding => Pad is null ? null : 0;

    private protected override float[] Table() => Table(DoRescale, RescaleFactor, DoNormalize, Mean, Std);

    /// <summary>transformers' fused arithmetic in single precision: (v - mean / rescale) / (std / rescale).</summary>
    internal static float[] Table(bool rescale, double factor, bool normalize, float[] mean, float[] std)
    {
        var table = new float[3 * 256];
        var inverse = (float)(1 / factor);
        for (var c = 0; c < 3; c++)
            for (var v = 0; v < 256; v++)
                table[c * 256 + v] = (rescale, normalize) switch
                {
                    (true, true) => (v - mean[c] * inverse) / (std[c] * inverse),
                    (false, true) => (v - mean[c]) / std[c],
                    (true, false) => v * (float)factor,
                    _ => v,
                };
        return table;
    }
}
