using System.Text.Json.Nodes;

namespace Panoptes.Imaging;

/// <summary>How <see cref="OpenClipTransform"/> brings an image to its size.</summary>
public enum OpenClipResize
{
    /// <summary>The shorter side fits; the longer is cropped at the center.</summary>
    Shortest,

    /// <summary>The longer side fits; the shorter is padded with the fill color.</summary>
    Longest,

    /// <summary>Both sides fit; the proportions change.</summary>
    Squash,
}

/// <summary>
/// open_clip's inference transform (<c>preprocess_cfg</c> of open_clip_config.json; src/open_clip/transform.py). Pillow's rounding
/// throughout; the image becomes RGB only after resizing and cropping, so alpha is premultiplied for the resize and then dropped.
/// </summary>
public sealed record OpenClipTransform : PictureProcessor
{
    public OpenClipTransform() => (Mean, Std) = (ClipMean, ClipStd);

    public int Height { get; init; } = 224;

    public int Width { get; init; } = 224;

    public OpenClipResize ResizeMode { get; init; } = OpenClipResize.Shortest;

    /// <summary>Bilinear or Bicubic.</summary>
    public ResizeFilter Interpolation { get; init; } = ResizeFilter.Bicubic;

    /// <summary>Every channel of padded pixels (Longest), 0 to 255.</summary>
    public byte FillColor { get; init; }

    IReadOnlyDictionary<string, JsonNode?> Rest { get; init; } = new Dictionary<string, JsonNode?>();

    internal static OpenClipTransform Read(JsonFields fields, JsonFields? model)
    {
        var (height, width) = Size(fields, "size") ?? (model?.Object("vision_cfg") is { } vision ? Size(vision, "image_size") : null) ?? (224, 224);
        if (fields.Text("mode") is { } mode && mode != "RGB") throw fields.Wrong("mode", "RGB");
        var fill = fields.Number("fill_color", 0);
        if (fill is not (>= 0 and <= 255)) throw fields.Wrong("fill_color", "0 to 255");
        return new()
        {
            Height = height,
            Width = width,
            Mean = fields.Channels("mean", ClipMean),
            Std = fields.Channels("std", ClipStd),
            ResizeMode = (fields.Text("resize_mode") ?? "shortest") switch
            {
                "shortest" => OpenClipResize.Shortest,
                "longest" => OpenClipResize.Longest,
                "squash" => OpenClipResize.Squash,
                _ => throw fields.Wrong("resize_mode", "shortest, longest or squash"),
            },
            Interpolation = (fields.Text("interpolation") ?? "bicubic") switch
            {
                "bicubic" or "random" => ResizeFilter.Bicubic,                     // random is for training only
                "bilinear" => ResizeFilter.Bilinear,
                _ => throw fields.Wrong("interpolation", "bicubic or bilinear"),
            },
            FillColor = (byte)fill,
            Rest = fields.Rest(),
        };
    }

    /// <summary>Reads the object that preprocess_cfg holds.</summary>
    /// <exception cref="PanoptesException">A field that is not supported.</exception>
    public static OpenClipTransform ParsePreprocessConfig(string json, string source) => Read(JsonFields.Parse(json, source), null);

    static (int Height, int Width)? Size(JsonFields fields, string name)
    {
        if (fields.Node(name) is not JsonArray { Count: 1 or 2 } sides) return fields.Count(name) is { } side ? (side, side) : null;
        var inner = new JsonFields(new() { ["height"] = sides[0]?.DeepClone(), ["width"] = sides[^1]?.DeepClone() }, $"{fields.Source}: {name}");
        return (inner.Count("height") ?? throw fields.Wrong(name, "one or two whole numbers"), inner.Count("width") ?? throw fields.Wrong(name, "one or two whole numbers"));
    }

    /// <summary>The object that preprocess_cfg holds, indented JSON.</summary>
    public string ToPreprocessConfig() => ToObject().ToString();

    JsonObject ToObject()
    {
        var json = new JsonObject
        {
            ["size"] = Height == Width ? JsonValue.Create(Height) : new JsonArray(Height, Width),
            ["mode"] = "RGB",
            ["mean"] = Numbers(Mean),
            ["std"] = Numbers(Std),
            ["interpolation"] = Interpolation == ResizeFilter.Bilinear ? "bilinear" : "bicubic",
            ["resize_mode"] = ResizeMode switch { OpenClipResize.Shortest => "shortest", OpenClipResize.Longest => "longest", _ => "squash" },
            ["fill_color"] = FillColor,
        };
        foreach (var (name, value) in Rest) json[name] = value?.DeepClone();
        return json;
    }

    /// <summary>Puts preprocess_cfg into open_clip_config.json; whatever else the file holds stays.</summary>
    public override void Save(string folder)
    {
        var path = Path.Combine(folder, "open_clip_config.json");
        var json = File.Exists(path) && JsonNode.Parse(File.ReadAllText(path)) is JsonObject existing ? existing : [];
        json["preprocess_cfg"] = ToObject();
        Write(path, json);
    }

    private protected override ResizeFilter Resample => Interpolation;

    private protected override ResizeRounding Rounding => ResizeRounding.Pillow;

    private protected override byte Fill() => ResizeMode == OpenClipResize.Longest ? FillColor : (byte)0;

    private protected override Image Prepare(Image image) => image;

    private protected override Plan PlanFor(int width, int height)
    {
        if (ResizeMode == OpenClipResize.Squash) return new(Width, Height, 0, 0, Width, Height);
        var (w, h) = ResizeMode == OpenClipResize.Shortest && Width == Height
            ? ShortestSide(width, height, Width)
            : KeepRatio(width, height, ResizeMode == OpenClipResize.Longest);
        return new(w, h, CenterOffset(w, Width, halfToEven: true), CenterOffset(h, Height, halfToEven: true), Width, Height);
    }

    /// <summary>timm's and open_clip's ResizeKeepRatio.</summary>
    (int Width, int Height) KeepRatio(int width, int height, bool longest)
    {
        double across = (double)width / Width, down = (double)height / Height;
        var ratio = longest ? Math.Max(across, down) : Math.Min(across, down);
        return (Math.Max((int)Math.Round(width / ratio), 1), Math.Max((int)Math.Round(height / ratio), 1));
    }

    private protected override float[] Table() => TorchvisionTable();
}
