using System.Text.Json.Nodes;

namespace Panoptes.Imaging;

/// <summary>timm's transform for evaluation (<c>pretrained_cfg</c> of its config.json; timm/data/transforms_factory.py), as one of the processors that do the same.</summary>
static class TimmTransform
{
    internal static ImageProcessor Read(JsonFields fields)
    {
        if (fields.Node("input_size") is not JsonArray { Count: 3 } size) throw fields.Wrong("input_size", "channels, height and width");
        var sides = new JsonFields(new() { ["height"] = size[1]?.DeepClone(), ["width"] = size[2]?.DeepClone() }, $"{fields.Source}: input_size");
        var (height, width) = (sides.Count("height") ?? throw fields.Wrong("input_size", "whole numbers"), sides.Count("width") ?? throw fields.Wrong("input_size", "whole numbers"));
        var (share, squash) = (fields.Number("crop_pct", 0.875), (fields.Text("crop_mode") ?? "center") switch
        {
            "center" => false,
            "squash" => true,
            _ => throw fields.Wrong("crop_mode", "center or squash"),
        });
        var bicubic = (fields.Text("interpolation") ?? "bicubic") switch
        {
            "bicubic" => true,
            "bilinear" => false,
            _ => throw fields.Wrong("interpolation", "bicubic or bilinear"),
        };
        if (share is not (> 0 and <= 1)) throw fields.Wrong("crop_pct", "more than 0, at most 1");
        if (share < 1 && (squash || height != width)) throw fields.Wrong("crop_pct", "1 where images are squashed or not square");
        var (mean, std) = (fields.Channels("mean", [0.485f, 0.456f, 0.406f]), fields.Channels("std", [0.229f, 0.224f, 0.225f]));
        if (share == 1)
        {
            return new OpenClipTransform
            {
                Height = height,
                Width = width,
                Mean = mean,
                Std = std,
                Interpolation = bicubic ? ResizeFilter.Bicubic : ResizeFilter.Bilinear,
                ResizeMode = squash ? OpenClipResize.Squash : OpenClipResize.Shortest,
            };
        }
        return ImageProcessor.Parse(new JsonObject
        {
            ["image_processor_type"] = "CLIPImageProcessor",
            ["size"] = new JsonObject { ["shortest_edge"] = (int)Math.Floor(height / share) },
            ["crop_size"] = new JsonObject { ["height"] = height, ["width"] = width },
            ["resample"] = bicubic ? 3 : 2,
            ["image_mean"] = new JsonArray([.. mean.Select(static v => JsonValue.Create(v))]),
            ["image_std"] = new JsonArray([.. std.Select(static v => JsonValue.Create(v))]),
        }.ToJsonString(), fields.Source);
    }
}
