using Panoptes.Evaluation;

namespace Panoptes.Understanding;

/// <summary>How well things are segmented that a simulated user points at (see <see cref="ClickSimulator"/>).</summary>
public static class InteractiveEvaluation
{
    /// <summary>The user clicks at every thing of an image until its mask is right or the clicks are over; all things go through the model at once.</summary>
    /// <param name="model">What is measured.</param>
    /// <param name="image">The features of one image.</param>
    /// <param name="labels">[things, height, width] bool: the things, in the size of the model's input.</param>
    /// <param name="most">Clicks.</param>
    /// <returns>Of each thing the IoU after every click.</returns>
    public static IReadOnlyList<IReadOnlyList<double>> Clicks(ISegmentAnything model, SamFeatures image, Tensor labels, int most)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (things, height, width, turn) = ((int)labels.shape[0], labels.shape[1], labels.shape[2], 0);
        var (places, kinds) = (new float[things * most * 2], new long[things * most]);
        Array.Fill(kinds, -10);                                                       // what is not clicked at any more is filled up
        Tensor? previous = null;
        return Clicks(labels, most, clicks =>
        {
            foreach (var (i, click) in clicks) (places[(i * most + turn) * 2], places[(i * most + turn) * 2 + 1], kinds[i * most + turn]) = (click.X, click.Y, click.Positive ? 1 : 0);
            var (points, labelsOf) = (tensor(places, [things, 1, most, 2]).narrow(2, 0, turn + 1), tensor(kinds, [things, 1, most]).narrow(2, 0, turn + 1));
            previous = Best(model, image, new(points, labelsOf, Masks: previous), several: turn++ == 0);
            return Enlarge(previous, height, width).squeeze(1).gt(0);
        });
    }

    /// <summary>The same of any model: how the user's clicks are answered is the caller's.</summary>
    /// <param name="answer">Is given the next click of each thing that is not right yet, by its number; gives the masks of all, [things, height, width] bool.</param>
    /// <inheritdoc cref="Clicks(ISegmentAnything, SamFeatures, Tensor, int)"/>
    internal static IReadOnlyList<IReadOnlyList<double>> Clicks(Tensor labels, int most, Func<IReadOnlyList<(int Thing, Click Click)>, Tensor> answer)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (things, height, width) = ((int)labels.shape[0], (int)labels.shape[1], (int)labels.shape[2]);
        var area = height * width;
        var bytes = labels.to(ScalarType.Byte).contiguous().data<byte>().ToArray();
        var users = Enumerable.Range(0, things).Select(i => new ClickSimulator(bytes.AsSpan(i * area, area), height, width)).ToArray();
        var (curves, told) = (Enumerable.Range(0, things).Select(static _ => new List<double>()).ToArray(), new byte[things * area]);
        for (var k = 0; k < most; k++)
        {
            var clicks = new List<(int Thing, Click Click)>();
            for (var i = 0; i < things; i++)
                if (curves[i].Count == k && users[i].Next(told.AsSpan(i * area, area)) is { } click) clicks.Add((i, click));
            if (clicks.Count == 0) break;
            var masks = answer(clicks);
            var ious = Iou(masks, labels).data<float>().ToArray();
            told = masks.to(ScalarType.Byte).contiguous().data<byte>().ToArray();
            foreach (var (i, _) in clicks) curves[i].Add(ious[i]);
        }
        return curves;
    }

    /// <summary>The IoU of each thing's mask by its box alone.</summary>
    /// <param name="boxes">[things, 4] left, top, right, bottom</param>
    /// <inheritdoc cref="Clicks(ISegmentAnything, SamFeatures, Tensor, int)"/>
    public static IReadOnlyList<double> Boxes(ISegmentAnything model, SamFeatures image, Tensor labels, Tensor boxes)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var logits = Best(model, image, new(Boxes: boxes.to(ScalarType.Float32).view(-1, 1, 4)), several: false);
        return [.. Iou(Enlarge(logits, labels.shape[1], labels.shape[2]).squeeze(1).gt(0), labels).data<float>().ToArray().Select(static v => (double)v)];
    }

    /// <summary>The mask that the model thinks fits best, of one prompt a row: [rows, 1, mask, mask] logits.</summary>
    static Tensor Best(ISegmentAnything model, SamFeatures image, SamPrompts prompts, bool several)
    {
        var masks = model.Decode(image, prompts, several);
        var best = masks.IouScores.squeeze(1).argmax(1);
        return masks.Logits.squeeze(1).gather(1, best.view(-1, 1, 1, 1).expand(-1, 1, masks.Logits.shape[3], masks.Logits.shape[4])).to(ScalarType.Float32);
    }

    /// <summary>A random one of each row's pixels that are set (of all of them where none is): its position in the row, [n, 1] int64.</summary>
    /// <param name="set">[n, height, width] bool</param>
    internal static Tensor RandomPixel(Tensor set, Generator random)
    {
        // The largest of random numbers is uniform over those that count.
        using var scope = NewDisposeScope();
        var flat = set.flatten(1);
        return rand(flat.shape, generator: random).add(flat.to(ScalarType.Float32)).argmax(1, keepdim: true).MoveToOuterDisposeScope();
    }

    internal static Tensor Enlarge(Tensor logits, long height, long width) => nn.functional.interpolate(logits, [height, width], mode: InterpolationMode.Bilinear, align_corners: false);

    /// <summary>The IoU of masks, pair by pair: bool [..., height, width] to float32 [...]; 1 where both are empty.</summary>
    internal static Tensor Iou(Tensor told, Tensor wanted)
    {
        using var scope = NewDisposeScope();
        var both = told.logical_and(wanted).sum([-2, -1]).to(ScalarType.Float32);
        var either = told.logical_or(wanted).sum([-2, -1]).to(ScalarType.Float32);
        return where(either.eq(0), ones_like(both), both / either.clamp_min(1)).MoveToOuterDisposeScope();
    }
}
