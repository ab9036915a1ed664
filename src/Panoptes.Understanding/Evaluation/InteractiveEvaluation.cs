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
        var (things, height, width) = ((int)labels.shape[0], (int)labels.shape[1], (int)labels.shape[2]);
        var bytes = labels.to(ScalarType.Byte).flatten(1);
        var users = Enumerable.Range(0, things).Select(i => new ClickSimulator(bytes[i].data<byte>().ToArray(), height, width)).ToArray();
        var curves = Enumerable.Range(0, things).Select(static _ => new List<double>()).ToArray();
        var (places, kinds) = (new float[things * most * 2], new long[things * most]);
        Array.Fill(kinds, -10);                                                       // what is not clicked at any more is filled up
        var told = new byte[things][];
        Array.Fill(told, new byte[height * width]);
        Tensor? previous = null;
        for (var k = 0; k < most; k++)
        {
            var any = false;
            for (var i = 0; i < things; i++)
            {
                if (curves[i].Count < k || users[i].Next(told[i]) is not { } click) continue;
                (places[(i * most + k) * 2], places[(i * most + k) * 2 + 1], kinds[i * most + k]) = (click.X, click.Y, click.Positive ? 1 : 0);
                any = true;
            }
            if (!any) break;
            var (points, labelsOf) = (tensor(places, [things, 1, most, 2]).narrow(2, 0, k + 1), tensor(kinds, [things, 1, most]).narrow(2, 0, k + 1));
            var logits = Best(model, image, new(points, labelsOf, Masks: previous), several: k == 0);
            previous = logits;
            var masks = Enlarge(logits, height, width).squeeze(1).gt(0);
            var ious = Iou(masks, labels).data<float>().ToArray();
            var all = masks.to(ScalarType.Byte).flatten(1);
            for (var i = 0; i < things; i++)
            {
                if (kinds[i * most + k] == -10) continue;
                curves[i].Add(ious[i]);
                told[i] = all[i].data<byte>().ToArray();
            }
        }
        return curves;
    }

    /// <summary>The IoU of each thing's mask by its box alone.</summary>
    /// <param name="boxes">[things, 4] left, top, right, bottom</param>
    /// <inheritdoc cref="Clicks"/>
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
