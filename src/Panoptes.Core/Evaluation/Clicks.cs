using Panoptes.Imaging;

namespace Panoptes.Evaluation;

/// <summary>A click of a user who shows what a model got wrong.</summary>
/// <param name="X">Column, from 0.</param>
/// <param name="Y">Row, from 0.</param>
/// <param name="Positive">On what belongs to the object; else on what does not.</param>
public readonly record struct Click(int X, int Y, bool Positive);

/// <summary>
/// The user that interactive segmentation is measured with (RITM, Sofiiuk et al. 2021, arXiv:2102.06583, isegm/inference/clicker.py; SAM's evaluation follows it): the next click is on the
/// pixel that is farthest from the edge of what is missing or too much, the image's edge being one; no pixel is clicked twice.
/// </summary>
public sealed class ClickSimulator
{
    readonly byte[] label, ignored, missing, extra;
    readonly bool[] closed;
    readonly int height, width;

    /// <param name="label">[height, width], row by row: what is not 0 is the object.</param>
    /// <param name="height">Rows.</param>
    /// <param name="width">Pixels a row.</param>
    /// <param name="ignored">[height, width]: what is not 0 is neither missing nor too much; empty: nothing.</param>
    /// <exception cref="PanoptesException">Another number of pixels.</exception>
    public ClickSimulator(ReadOnlySpan<byte> label, int height, int width, ReadOnlySpan<byte> ignored = default)
    {
        if (height < 1 || width < 1 || label.Length != (long)height * width || (ignored.Length > 0 && ignored.Length != label.Length))
            throw new PanoptesException($"A mask of {width}x{height} with {label.Length} pixels was given; expected as many pixels as it says.");
        (this.label, this.height, this.width) = (label.ToArray(), height, width);
        (this.ignored, missing, extra, closed) = (ignored.ToArray(), new byte[label.Length], new byte[label.Length], new bool[label.Length]);
    }

    /// <summary>The next click; null where nothing is wrong that was not clicked at.</summary>
    /// <param name="prediction">[height, width]: what is not 0 was taken for the object; all 0 before the first click.</param>
    /// <exception cref="PanoptesException">Another number of pixels.</exception>
    public Click? Next(ReadOnlySpan<byte> prediction)
    {
        if (prediction.Length != label.Length) throw new PanoptesException($"A prediction has {prediction.Length} pixels; expected {label.Length}, which is {width}x{height}.");
        for (var i = 0; i < label.Length; i++)
        {
            var (wanted, told) = (label[i] != 0, prediction[i] != 0);
            var counts = wanted != told && (ignored.Length == 0 || ignored[i] == 0);
            (missing[i], extra[i]) = ((byte)(counts && wanted ? 1 : 0), (byte)(counts && told ? 1 : 0));
        }
        var (of, at) = Farthest(missing);
        var (ofExtra, atExtra) = Farthest(extra);
        if (of <= 0 && ofExtra <= 0) return null;
        var positive = of > ofExtra;
        var pixel = positive ? at : atExtra;
        closed[pixel] = true;
        return new(pixel % width, pixel / width, positive);
    }

    (int Squared, int Pixel) Farthest(byte[] wrong)
    {
        if (!wrong.AsSpan().ContainsAnyExcept((byte)0)) return (0, -1);
        var distances = DistanceTransform.Squared(wrong, height, width, border: true);
        var (best, pixel) = (0, -1);
        for (var i = 0; i < distances.Length; i++)
            if (distances[i] > best && !closed[i]) (best, pixel) = (distances[i], i);
        return (best, pixel);
    }
}

/// <summary>How many clicks a model needs, over many objects.</summary>
public sealed class ClickScores
{
    /// <summary>The most clicks that papers allow.</summary>
    public const int MostClicks = 20;

    readonly List<double[]> runs = [];

    /// <summary>Objects so far.</summary>
    public int Count => runs.Count;

    /// <summary>Adds an object.</summary>
    /// <param name="ious">The IoU after one click, after two, and so on; a run may stop where it was good enough.</param>
    /// <exception cref="PanoptesException">There is no IoU, or one that is none.</exception>
    public void Add(IReadOnlyList<double> ious)
    {
        if (ious.Count == 0 || ious.Any(static i => i is not (>= 0 and <= 1))) throw new PanoptesException("A run of clicks has no IoU, or one outside 0 to 1.");
        runs.Add([.. ious]);
    }

    /// <summary>NoC: the mean number of clicks until the IoU is at least <paramref name="iou"/>; an object that never gets there counts <paramref name="most"/>.</summary>
    public double NumberOfClicks(double iou = 0.9, int most = MostClicks) => runs.Count == 0 ? 0 : runs.Average(r => Needed(r, iou, most) ?? most);

    /// <summary>How many objects never get there within <paramref name="most"/> clicks.</summary>
    public int Failures(double iou = 0.9, int most = MostClicks) => runs.Count(r => Needed(r, iou, most) is null);

    /// <summary>The mean IoU after one click, after two, up to <paramref name="most"/>; a run that has stopped keeps its last.</summary>
    public IReadOnlyList<double> Curve(int most = MostClicks) => runs.Count == 0 ? [] : [.. Enumerable.Range(0, most).Select(k => runs.Average(r => r[Math.Min(k, r.Length - 1)]))];

    /// <summary>Lets the simulated user click at an object until the model is right enough.</summary>
    /// <param name="label">[height, width]: the object.</param>
    /// <param name="height">Rows.</param>
    /// <param name="width">Pixels a row.</param>
    /// <param name="predict">The model: what it takes for the object ([height, width], not 0) after these clicks.</param>
    /// <param name="enough">The IoU at which the user stops.</param>
    /// <param name="most">The most clicks.</param>
    /// <returns>The IoU after each click, at least one.</returns>
    /// <exception cref="PanoptesException">The object is empty, or masks have another number of pixels.</exception>
    public static IReadOnlyList<double> Run(byte[] label, int height, int width, Func<IReadOnlyList<Click>, byte[]> predict, double enough = 1, int most = MostClicks)
    {
        if (!label.AsSpan().ContainsAnyExcept((byte)0)) throw new PanoptesException("Nobody can click at an object of no pixels.");
        var (user, clicks, ious, prediction) = (new ClickSimulator(label, height, width), new List<Click>(), new List<double>(), new byte[label.Length]);
        while (clicks.Count < most && (ious.Count == 0 || ious[^1] < enough))
        {
            if (user.Next(prediction) is not { } click) break;
            clicks.Add(click);
            prediction = predict(clicks);
            ious.Add(ReferringScores.Overlap(prediction, label).Iou);
        }
        return ious;
    }

    static int? Needed(double[] run, double iou, int most)
    {
        var first = Array.FindIndex(run, i => i >= iou);
        return first >= 0 && first < most ? first + 1 : null;
    }
}
