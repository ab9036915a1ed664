using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Native;

namespace Panoptes.Understanding;

/// <summary>How everything in an image is sought; the defaults are segment-anything's.</summary>
public sealed record SamEverythingOptions
{
    /// <summary>The points that are clicked at, in each direction.</summary>
    public int PointsPerSide { get; init; } = 32;

    /// <summary>How many are decoded at once: more take more memory (about 40 MB each for a model of 1024 pixels, half of it in bfloat16) and hardly less time.</summary>
    public int PointsPerBatch { get; init; } = 8;

    /// <summary>Masks that the model thinks fit worse are left out, from 0 to 1.</summary>
    public double PredictedIou { get; init; } = 0.88;

    /// <summary>Masks that change more with the threshold are left out, from 0 to 1.</summary>
    public double Stability { get; init; } = 0.95;

    /// <summary>How much the threshold is moved for that.</summary>
    public double StabilityOffset { get; init; } = 1;

    /// <summary>Of two masks whose boxes have a greater IoU, the worse is left out.</summary>
    public double BoxNms { get; init; } = 0.7;

    /// <summary>How often the image is cut up further, each time into four times as many crops that are searched like the whole.</summary>
    public int CropLayers { get; init; }

    /// <summary>As <see cref="BoxNms"/>, between crops, of which the smaller is preferred.</summary>
    public double CropNms { get; init; } = 0.7;

    /// <summary>How much neighboring crops share, as a part of the image's shorter side.</summary>
    public double CropOverlap { get; init; } = 512 / 1500.0;

    /// <summary>How many times fewer points in each direction every further layer of crops has.</summary>
    public int CropPointsDownscale { get; init; } = 1;

    /// <summary>Holes of masks, and parts apart from the rest, that have fewer pixels go (segment-anything's min_mask_region_area); 0: all stay.</summary>
    public int MinRegionArea { get; init; }

    /// <summary>Reads what generation_config.json beside a model says of this, under the names of transformers' mask-generation pipeline; what it leaves out, and all where there is none, has the defaults.</summary>
    /// <param name="folder">Of the model.</param>
    /// <exception cref="PanoptesException">A field that cannot be read, or a value that cannot be.</exception>
    public static SamEverythingOptions Load(string folder)
    {
        var path = Path.Combine(folder, "generation_config.json");
        var usual = new SamEverythingOptions();
        if (!File.Exists(path)) return usual;
        var fields = JsonFields.Parse(ModelFolder.ReadText(path), path);
        return new SamEverythingOptions
        {
            PointsPerSide = fields.Count("points_per_crop") ?? usual.PointsPerSide,
            PredictedIou = fields.Number("pred_iou_thresh", usual.PredictedIou),
            Stability = fields.Number("stability_score_thresh", usual.Stability),
            StabilityOffset = fields.Number("stability_score_offset", usual.StabilityOffset),
            BoxNms = fields.Number("crops_nms_thresh", usual.BoxNms),
            CropLayers = fields.Count("crops_n_layers") ?? usual.CropLayers,
        }.Checked();
    }

    /// <exception cref="PanoptesException">A value that cannot be.</exception>
    internal SamEverythingOptions Checked()
    {
        if (PointsPerSide is < 1 or > 1024) throw Wrong("points a side", PointsPerSide, "1 to 1024");
        if (PointsPerBatch is < 1 or > 1024) throw Wrong("points at once", PointsPerBatch, "1 to 1024");
        if (CropLayers is < 0 or > 4) throw Wrong("layers of crops", CropLayers, "0 to 4");
        if (CropPointsDownscale is < 1 or > 1024) throw Wrong("the points' downscaling", CropPointsDownscale, "1 to 1024");
        if (MinRegionArea < 0) throw Wrong("the smallest region", MinRegionArea, "0 or more pixels");
        foreach (var (name, value) in new[] { ("the predicted IoU", PredictedIou), ("the stability", Stability), ("the boxes' IoU", BoxNms), ("the crops' IoU", CropNms), ("the crops' overlap", CropOverlap) })
            if (!(value is >= 0 and <= 1)) throw Wrong(name, value, "0 to 1");
        if (!(StabilityOffset is >= 0 and <= 1e6)) throw Wrong("the stability's offset", StabilityOffset, "0 or more");
        return this;

        static PanoptesException Wrong(string name, double value, string expected) => new(FormattableString.Invariant($"For finding everything, {name} is {value}; expected {expected}."));
    }
}

/// <summary>A part of an image that is searched by itself.</summary>
/// <param name="Left">In pixels.</param>
/// <param name="Top">In pixels.</param>
/// <param name="Right">Its edge, not its last pixel.</param>
/// <param name="Bottom">Its edge.</param>
/// <param name="Layer">0: the whole image.</param>
public readonly record struct SamCrop(int Left, int Top, int Right, int Bottom, int Layer)
{
    public int Width => Right - Left;

    public int Height => Bottom - Top;
}

/// <summary>What segment-anything finds everything with (utils/amg.py): points in a grid, crops, and which masks stay.</summary>
public static class SamAutomaticMasks
{
    /// <summary>How far from an edge counts as near, in pixels.</summary>
    internal const float EdgeTolerance = 20;

    /// <summary>Points evenly spread over a square, row by row: x and y from 0 to 1.</summary>
    public static (double X, double Y)[] PointGrid(int perSide)
    {
        var offset = 1.0 / (2 * perSide);
        double[] side = [.. Enumerable.Range(0, perSide).Select(i => perSide == 1 ? offset : i == perSide - 1 ? 1 - offset : offset + i * ((1 - offset - offset) / (perSide - 1)))];
        return [.. from y in side from x in side select (x, y)];
    }

    /// <summary>The grid of every layer of crops.</summary>
    public static IReadOnlyList<(double X, double Y)[]> PointGrids(int perSide, int layers, int downscale) =>
        [.. Enumerable.Range(0, layers + 1).Select(i => PointGrid(Math.Max(1, (int)(perSide / Math.Pow(downscale, i)))))];

    /// <summary>The whole image, then 4, 16, … crops of it that share a part of the shorter side.</summary>
    public static IReadOnlyList<SamCrop> CropBoxes(int height, int width, int layers, double overlapRatio)
    {
        var crops = new List<SamCrop> { new(0, 0, width, height, 0) };
        for (var layer = 1; layer <= layers; layer++)
        {
            var perSide = 1 << layer;
            var overlap = (int)(overlapRatio * Math.Min(height, width) * (2.0 / perSide));
            var (w, h) = (Length(width), Length(height));
            for (var i = 0; i < perSide; i++)
                for (var k = 0; k < perSide; k++)
                    if (((w - overlap) * i, (h - overlap) * k) is var (left, top)) crops.Add(new(left, top, Math.Min(left + w, width), Math.Min(top + h, height), layer));

            int Length(int whole) => (int)Math.Ceiling((double)(overlap * (perSide - 1) + whole) / perSide);
        }
        return crops;
    }

    /// <summary>Whether a box (in the crop's own pixels) comes near an edge of the crop that is none of the image: it belongs to something that is cut off.</summary>
    public static bool IsNearCropEdge(EdgeBox box, SamCrop crop, int imageWidth, int imageHeight, float tolerance = EdgeTolerance)
    {
        var placed = box.Shifted(crop.Left, crop.Top);
        return Near(placed.Left, crop.Left, 0) || Near(placed.Top, crop.Top, 0) || Near(placed.Right, crop.Right, imageWidth) || Near(placed.Bottom, crop.Bottom, imageHeight);

        bool Near(float edge, int own, int image) => Math.Abs(edge - own) <= tolerance && Math.Abs(edge - image) > tolerance;
    }

    /// <summary>The edges of the outermost pixels in a mask, the right and lower ones included, as segment-anything has them; all 0 for an empty one.</summary>
    public static EdgeBox BoxOf(RunLengthMask mask) => mask.Box is { Width: > 0 } box ? new(box.X, box.Y, box.X + box.Width - 1, box.Y + box.Height - 1) : default;

    /// <summary>Masks at the size of the image that was prepared: stretched to the model's input, without what was filled up, and stretched to the original.</summary>
    /// <param name="logits">[n, masks, side, side]</param>
    /// <param name="inputSize">The side of the model's input.</param>
    /// <param name="prepared">Rows and columns of the input that show the image.</param>
    /// <param name="original">Rows and columns of the image.</param>
    /// <returns>[n, masks, rows, columns], owned by the caller</returns>
    public static Tensor Upscale(Tensor logits, int inputSize, (int Height, int Width) prepared, (int Height, int Width) original)
    {
        using var scope = NewDisposeScope();
        var whole = nn.functional.interpolate(logits, [inputSize, inputSize], mode: InterpolationMode.Bilinear, align_corners: false);
        var shown = whole.narrow(-2, 0, prepared.Height).narrow(-1, 0, prepared.Width);
        return nn.functional.interpolate(shown, [original.Height, original.Width], mode: InterpolationMode.Bilinear, align_corners: false).MoveToOuterDisposeScope();
    }

    /// <summary>What may become of masks at the crop's size: those of good scores, stable under the threshold, and not cut off by the crop.</summary>
    /// <param name="logits">[n, rows, columns], over the whole crop</param>
    /// <param name="scores">How well each is thought to fit.</param>
    /// <returns>The masks in the whole image, their scores and boxes, in order.</returns>
    public static IReadOnlyList<(RunLengthMask Mask, float Score, EdgeBox Box)> Filter(Tensor logits, IReadOnlyList<float> scores, SamCrop crop, int imageWidth, int imageHeight, SamEverythingOptions options)
    {
        using var scope = NewDisposeScope();
        long[] good = [.. Enumerable.Range(0, scores.Count).Where(i => scores[i] > options.PredictedIou).Select(static i => (long)i)];
        if (good.Length == 0) return [];
        var (rows, columns) = ((int)logits.shape[1], (int)logits.shape[2]);
        var chosen = logits.index_select(0, tensor(good)).transpose(1, 2).to(ScalarType.Float32).contiguous();
        var found = Found(chosen, rows, columns, crop, imageWidth, imageHeight, options);
        return [.. found.Select((f, i) => (f, Score: scores[(int)good[i]])).Where(static p => p.f is not null).Select(static p => (p.f!.Value.Mask, p.Score, p.f.Value.Box))];
    }

    /// <summary>
    /// Which masks stay without their small holes and islands, and what they are then (postprocess_small_regions of segment-anything's automatic_mask_generator.py): of two whose boxes have a
    /// greater IoU the one that had none is preferred, and of these the first.
    /// </summary>
    /// <param name="masks">The better first.</param>
    /// <param name="area">Fewer pixels are small.</param>
    /// <param name="nms">Of two masks whose boxes have a greater IoU, the worse is left out.</param>
    /// <returns>Indices, those of unchanged masks first, with the masks.</returns>
    public static IReadOnlyList<(int Index, RunLengthMask Mask)> WithoutSmallRegions(IReadOnlyList<RunLengthMask> masks, int area, double nms)
    {
        var clean = new RunLengthMask[masks.Count];
        Parallel.For(0, clean.Length, i => clean[i] = MaskRegions.RemoveIslands(MaskRegions.FillHoles(masks[i], area), area));
        return [.. BoxNms.Keep([.. clean.Select(BoxOf)], [.. clean.Select((m, i) => ReferenceEquals(m, masks[i]) ? 1f : 0f)], (float)nms).Select(i => (i, clean[i]))];
    }

    /// <param name="byColumn">[n, columns, rows] of which a corner counts, float32</param>
    internal static unsafe (RunLengthMask Mask, EdgeBox Box)?[] Found(Tensor byColumn, int rows, int columns, SamCrop crop, int imageWidth, int imageHeight, SamEverythingOptions options)
    {
        var (stride, size) = ((int)byColumn.shape[2], (int)(byColumn.shape[1] * byColumn.shape[2]));
        var found = new (RunLengthMask, EdgeBox)?[byColumn.shape[0]];
        var start = (nint)NativeTensor.Data(byColumn);
        Parallel.For(0, found.Length, i =>
        {
            var traced = MaskTracing.Trace(new((float*)start + (long)i * size, size), stride, rows, columns, new(crop.Left, crop.Top, crop.Width, crop.Height, imageWidth, imageHeight), 0, (float)options.StabilityOffset);
            if (!(traced.Stability > options.Stability) && options.Stability > 0) return;
            var box = BoxOf(traced.Mask);
            if (!IsNearCropEdge(traced.Mask.Area == 0 ? default : box.Shifted(-crop.Left, -crop.Top), crop, imageWidth, imageHeight)) found[i] = (traced.Mask, box);
        });
        GC.KeepAlive(byColumn);
        return found;
    }
}
