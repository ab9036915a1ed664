using System.Text.Json.Nodes;

namespace Panoptes.Imaging;

/// <summary>
/// timm's transform for evaluation (<c>pretrained_cfg</c> of its config.json; timm/data/transforms_factory.py): the shorter side is resized to more
/// than the model takes, and the center is cropped. Pillow's rounding throughout. Transparent images are put on white first; timm leaves that to its caller.
/// </summary>
public sealed record TimmTransform : PictureProcessor
{
    TimmTransform() { }

    public required int Height { get; init; }

    public required int Width { get; init; }

    /// <summary>The share of the resized side that is kept, up to 1.</summary>
    public required double CropShare { get; init; }

    /// <summary>Whether both sides are made to fit and nothing is cropped.</summary>
    public required bool Squash { get; init; }

    /// <summary>Bilinear or Bicubic.</summary>
    public required ResizeFilter Interpolation { get; init; }

    internal static TimmTransform Read(JsonFields fields)
    {
        if (fields.Node("input_size") is not JsonArray { Count: 3 } size) throw fields.Wrong("input_size", "channels, height and width");
        var sides = new JsonFields(new() { ["height"] = size[1]?.DeepClone(), ["width"] = size[2]?.DeepClone() }, $"{fields.Source}: input_size");
        var (height, width) = (sides.Count("height") ?? throw fields.Wrong("input_size", "whole numbers"), sides.Count("width") ?? throw fields.Wrong("input_size", "whole numbers"));
        var share = fields.Number("crop_pct", 0.875);
        var squash = (fields.Text("crop_mode") ?? "center") switch { "center" => false, "squash" => true, _ => throw fields.Wrong("crop_mode", "center or squash") };
        if (share is not (>= 0.01 and <= 1)) throw fields.Wrong("crop_pct", "0.01 to 1");
        if (share < 1 && (squash || height != width)) throw fields.Wrong("crop_pct", "1 where images are squashed or not square");
        return new()
        {
            Height = height,
            Width = width,
            CropShare = share,
            Squash = squash || height != width,
            Mean = fields.Channels("mean", [0.485f, 0.456f, 0.406f]),
            Std = fields.Channels("std", [0.229f, 0.224f, 0.225f]),
            Interpolation = (fields.Text("interpolation") ?? "bicubic") switch
            {
                "bicubic" => ResizeFilter.Bicubic,
                "bilinear" => ResizeFilter.Bilinear,
                _ => throw fields.Wrong("interpolation", "bicubic or bilinear"),
            },
        };
    }

    /// <summary>Puts pretrained_cfg into config.json; whatever else the file holds stays.</summary>
    public override void Save(string folder)
    {
        var path = Path.Combine(folder, "config.json");
        var json = File.Exists(path) && JsonNode.Parse(File.ReadAllText(path)) is JsonObject existing ? existing : [];
        var cfg = json["pretrained_cfg"] as JsonObject ?? [];
        cfg["input_size"] = new JsonArray(3, Height, Width);
        cfg["crop_pct"] = CropShare;
        cfg["crop_mode"] = Squash ? "squash" : "center";
        cfg["interpolation"] = Interpolation == ResizeFilter.Bilinear ? "bilinear" : "bicubic";
        cfg["mean"] = Numbers(Mean);
        cfg["std"] = Numbers(Std);
        if (cfg.Parent is null) json["pretrained_cfg"] = cfg;
        Write(path, json);
    }

    private protected override ResizeFilter Resample => Interpolation;

    private protected override ResizeRounding Rounding => ResizeRounding.Pillow;

    private protected override Image Prepare(Image image) => image.Channels == 4 ? image.ToRgb() : image;

    private protected override Plan PlanFor(int width, int height)
    {
        if (Squash) return new(Width, Height, 0, 0, Width, Height);
        var (w, h) = ShortestSide(width, height, (int)Math.Floor(Width / CropShare));
        return new(w, h, CenterOffset(w, Width, halfToEven: true), CenterOffset(h, Height, halfToEven: true), Width, Height);
    }

    private protected override float[] Table() => TorchvisionTable();
}
