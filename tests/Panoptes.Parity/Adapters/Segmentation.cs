using System.Text;
using System.Text.Json;
using Panoptes.Data;
using Panoptes.Evaluation;

namespace Panoptes.Parity.Adapters;

/// <summary>COCO's masks, byte by byte.</summary>
public sealed class RunLengthMasks : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "rle";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        foreach (var name in c.InputNames)
        {
            var mask = c.Input(name);
            var encoded = RunLengthMask.Encode(mask.data<byte>().ToArray(), (int)mask.shape[0], (int)mask.shape[1]);
            yield return (name.Replace("masks", "counts", StringComparison.Ordinal), tensor(Encoding.ASCII.GetBytes(encoded.Counts)));
        }
    }
}

/// <summary>Every pixel's class over a data set.</summary>
public sealed class SegmentationMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-miou";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var classes = c.Arguments.GetProperty("num_classes").GetInt32();
        var scores = new SegmentationScores(classes, c.Arguments.GetProperty("ignore_index").GetInt32());
        for (var i = 0; i < c.Input("label").shape[0]; i++) scores.Add(PanopticMetrics.Ids(c.Input("label")[i]), PanopticMetrics.Ids(c.Input("prediction")[i]));
        yield return ("confusion", tensor((long[])[.. from label in Enumerable.Range(0, classes) from told in Enumerable.Range(0, classes) select scores.Count(label, told)], [classes, classes]));
        yield return ("iou", tensor(scores.Iou.Select(static v => v ?? -1).ToArray()));
        yield return ("dice", tensor(scores.Dice.Select(static v => v ?? -1).ToArray()));
        yield return ("miou", tensor(scores.MeanIou));
        yield return ("pixel_accuracy", tensor(scores.PixelAccuracy));
        yield return ("mean_accuracy", tensor(scores.MeanAccuracy));
        yield return ("fw_iou", tensor(scores.FrequencyWeightedIou));
    }
}

/// <summary>Panoptic quality.</summary>
public sealed class PanopticMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-panoptic-quality";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        PanopticCategory[] categories = [.. c.Arguments.GetProperty("categories").EnumerateArray().Select(static x => new PanopticCategory(x.GetProperty("id").GetInt32(), x.GetProperty("isthing").GetBoolean()))];
        var quality = new PanopticQuality(categories);
        using var segments = JsonDocument.Parse(File.ReadAllText(c.File("segments.json")));
        foreach (var (image, i) in segments.RootElement.EnumerateArray().Select(static (x, i) => (x, i)))
        {
            var matches = quality.Add(Ids(c.Input($"label.{i}")), Segments(image, "label_segments"), Ids(c.Input($"prediction.{i}")), Segments(image, "prediction_segments"));
            var expected = image.GetProperty("matches").EnumerateArray().Select(static m => (m[0].GetInt32(), m[1].GetInt32(), Math.Round(m[2].GetDouble(), 9)));
            if (!matches.Select(static m => (m.Label, m.Prediction, Math.Round(m.Iou, 9))).SequenceEqual(expected)) throw new PanoptesException($"The matches of image {i} are {string.Join(", ", matches)}.");
        }
        var rows = categories.Select(x => quality.Of(x.Id)).ToArray();
        yield return ("per_class", tensor(rows.SelectMany(static r => Numbers(r.Score)).ToArray(), [rows.Length, 3]));
        yield return ("counts", tensor(rows.SelectMany(static r => (long[])[r.Right, r.Wrong, r.Missed]).ToArray(), [rows.Length, 3]));
        yield return ("all", tensor(Numbers(quality.Mean())));
        yield return ("things", tensor(Numbers(quality.Mean(things: true))));
        yield return ("stuff", tensor(Numbers(quality.Mean(things: false))));

        static double[] Numbers(PanopticScore s) => [s.Quality, s.Segmentation, s.Recognition];

        static PanopticSegment[] Segments(JsonElement image, string name) => [.. image.GetProperty(name).EnumerateArray().Select(static s =>
            new PanopticSegment(s.GetProperty("id").GetInt32(), s.GetProperty("category_id").GetInt32(), s.TryGetProperty("iscrowd", out var crowd) && crowd.GetInt32() != 0))];
    }

    internal static int[] Ids(Tensor pixels) => [.. pixels.contiguous().data<long>().Select(static v => (int)v)];
}

/// <summary>Average precision of boxes and masks.</summary>
public sealed class DetectionMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-coco-ap";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var file = CocoFile.Load(c.File("gt.json"));
        int[] categories = [.. file.Categories.Select(static x => x.Id)];
        foreach (var (kind, masks) in new[] { ("bbox", false), ("segm", true) })
        {
            var scores = DetectionScores.Of(file.Things(masks), file.LoadDetections(c.File("detections.json"), masks), categories, masks);
            yield return ($"{kind}.stats", tensor(scores.Summary.Select(static s => s ?? -1).ToArray()));
            yield return ($"{kind}.precision_iou50", stack([.. categories.Select(k => tensor(scores.PrecisionCurve(k).ToArray()))], 1));
            yield return ($"{kind}.recall", stack([.. categories.Select(k => tensor(scores.RecallOf(k).ToArray()))], 1));
            yield return ($"{kind}.ap_per_class", tensor(categories.Select(k => scores.ApOf(k) ?? -1).ToArray()));
        }
    }
}
