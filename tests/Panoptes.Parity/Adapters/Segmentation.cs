using System.Text;
using System.Text.Json;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;

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

/// <summary>Average precision of keypoints.</summary>
public sealed class KeypointMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-keypoints";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var file = CocoFile.Load(c.File("gt.json"));
        int[] categories = [.. file.Categories.Select(static x => x.Id)];
        double[] sigmas = [.. c.Arguments.GetProperty("sigmas").EnumerateArray().Select(static s => s.GetDouble())];
        var poses = file.LoadPoses(c.File("detections.json"));
        var scores = KeypointScores.Of(file.Poses(), poses, categories, sigmas);
        yield return ("stats", tensor(scores.Summary.Select(static s => s ?? -1).ToArray()));
        yield return ("precision_oks50", stack([.. categories.Select(k => tensor(scores.PrecisionCurve(k).ToArray()))], 1));
        yield return ("recall", stack([.. categories.Select(k => tensor(scores.RecallOf(k).ToArray()))], 1));
        yield return ("ap_per_class", tensor(categories.Select(k => scores.ApOf(k) ?? -1).ToArray()));
        var (labels, sure) = (file.Poses(), poses.OrderByDescending(static p => p.Score).ToLookup(static p => (p.Image, p.Category)));
        yield return ("oks", tensor((double[])[.. from l in labels.Select(static l => (l.Image, l.Category)).Distinct().OrderBy(static k => k) from p in sure[l].Take(20) from label in labels where (label.Image, label.Category) == l select KeypointScores.Similarity(p.Keypoints, label, sigmas)]));
    }
}

/// <summary>Clicks of the simulated user, and what is counted of them.</summary>
public sealed class ClickMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-clicks";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var most = c.Arguments.GetProperty("max_clicks").GetInt32();
        for (var i = 0; c.HasInput($"label.{i}"); i++)
        {
            var (label, predictions) = (c.Input($"label.{i}"), c.Input($"predictions.{i}"));
            var user = new ClickSimulator(label.data<byte>().ToArray(), (int)label.shape[0], (int)label.shape[1], c.HasInput($"ignored.{i}") ? c.Input($"ignored.{i}").data<byte>().ToArray() : []);
            var clicks = new List<long>();
            for (var k = 0; k < predictions.shape[0]; k++)
            {
                var click = user.Next(predictions[k].contiguous().data<byte>().ToArray())!.Value;
                clicks.AddRange([click.X, click.Y, click.Positive ? 1 : 0]);
            }
            yield return ($"clicks.{i}", tensor(clicks.ToArray(), [clicks.Count / 3, 3]));
        }
        var scores = new ClickScores();
        var ious = c.Input("ious");
        for (var i = 0; i < ious.shape[0]; i++) scores.Add([.. ious[i].contiguous().data<double>()]);
        double[] thresholds = [.. c.Arguments.GetProperty("iou_thrs").EnumerateArray().Select(static t => t.GetDouble())];
        yield return ("noc", tensor(thresholds.Select(t => scores.NumberOfClicks(t, most)).ToArray()));
        yield return ("curve", tensor(scores.Curve(most).ToArray()));
    }
}

/// <summary>Expressions and the masks that they mean.</summary>
public sealed class ReferringMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-referring";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var scores = new ReferringScores();
        var (told, label) = (c.Input("prediction"), c.Input("label"));
        for (var i = 0; i < label.shape[0]; i++) scores.Add(told[i].contiguous().data<byte>().ToArray(), label[i].contiguous().data<byte>().ToArray());
        yield return ("ciou", tensor(scores.CumulativeIou));
        yield return ("miou", tensor(scores.MeanIou));
        yield return ("precision", tensor(c.Arguments.GetProperty("thresholds").EnumerateArray().Select(t => scores.Precision(t.GetDouble())).ToArray()));
    }
}

/// <summary>Distances within masks, and their connected parts.</summary>
public sealed class MaskGeometry : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "mask-geometry";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        for (var i = 0; c.HasInput($"mask.{i}"); i++)
        {
            var mask = c.Input($"mask.{i}");
            var (pixels, height, width) = (mask.data<byte>().ToArray(), (int)mask.shape[0], (int)mask.shape[1]);
            if (c.HasOutput($"distance.{i}")) yield return ($"distance.{i}", tensor(DistanceTransform.Squared(pixels, height, width).Select(static d => (long)d).ToArray(), [height, width]));
            yield return ($"distance_border.{i}", tensor(DistanceTransform.Squared(pixels, height, width, border: true).Select(static d => (long)d).ToArray(), [height, width]));
            yield return ($"labels4.{i}", tensor(ConnectedComponents.Of(pixels, height, width).Labels, [height, width]));
            yield return ($"labels8.{i}", tensor(ConnectedComponents.Of(pixels, height, width, diagonal: true).Labels, [height, width]));
        }
    }
}

/// <summary>Answers to questions, and captions.</summary>
public sealed class LanguageMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-language";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var document = JsonDocument.Parse(File.ReadAllText(c.File("language.json")));
        var root = document.RootElement;
        double[] accuracies = [.. root.GetProperty("vqa").EnumerateArray().Select(static q => VqaAccuracy.Of(q.GetProperty("prediction").GetString()!, [.. q.GetProperty("answers").EnumerateArray().Select(static a => a.GetString()!)]))];
        yield return ("vqa_accuracy", tensor(accuracies));
        yield return ("vqa_mean", tensor(accuracies.Average()));
        foreach (var pair in root.GetProperty("normalised").EnumerateArray())
            if (VqaAccuracy.Normalize(pair[0].GetString()!) is var plain && plain != pair[1].GetString()) throw new PanoptesException($"\"{pair[0]}\" became \"{plain}\"; expected \"{pair[1]}\".");

        var captions = root.GetProperty("captions").EnumerateArray().ToArray();
        string[][] said = [.. captions.Select(static x => x.GetProperty("hypothesis").GetString()!.Split(' '))];
        string[][][] references = [.. captions.Select(static x => x.GetProperty("references").EnumerateArray().Select(static r => r.GetString()!.Split(' ')).ToArray())];
        var cider = Captioning.CiderD(said, references);
        yield return ("cider", tensor(cider.Average()));
        yield return ("cider_each", tensor(cider));
        var (corpus, each) = Captioning.Bleu(said, references);
        yield return ("bleu", tensor(corpus));
        yield return ("bleu_each", stack([.. each.Select(static e => tensor(e))], 1));
    }
}

/// <summary>How near generated images come to real ones.</summary>
public sealed class GenerationMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-fid";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var (real, fake) = (c.Input("real"), c.Input("fake"));
        yield return ("fid", tensor(GenerationScores.Frechet(real, fake)));
        yield return ("fid_to_self", tensor(new[] { Math.Abs(GenerationScores.Frechet(real, real)) }));
        yield return ("kid", tensor(GenerationScores.Kernel(real, fake)));
        yield return ("inception_score", tensor(GenerationScores.Inception(c.Input("probabilities"))));
        yield return ("clip_score", GenerationScores.Clip(c.Input("image_features"), c.Input("text_features")));
        var ((mean, covariance), (_, other)) = (GenerationScores.Moments(real), GenerationScores.Moments(fake));
        yield return ("mean_real", mean);
        yield return ("covariance_real", covariance);
        // The root of the product that the distance has the trace of: R (R Σ₂ R)^½ R⁻¹ with R the root of Σ₁.
        var root = Root(covariance);
        yield return ("sqrt_product", root.matmul(Root(root.matmul(other).matmul(root))).matmul(linalg.inv(root)));

        static Tensor Root(Tensor x)
        {
            var (values, vectors) = linalg.eigh(x);
            return (vectors * values.clamp_min(0).sqrt()).matmul(vectors.t());
        }
    }
}
