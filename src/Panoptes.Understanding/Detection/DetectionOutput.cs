namespace Panoptes.Understanding;

/// <summary>From a model's raw outputs to what a user sees: boxes in pixels with a score and a name, one list an image, in the order of the model's queries.</summary>
public static class DetectionOutput
{
    /// <summary>DETR's: every query has its likeliest class, "nothing" (the last) left out.</summary>
    /// <param name="logits">[b, queries, classes + 1]</param>
    /// <param name="boxes">[b, queries, 4]: center x, center y, width, height, as fractions of the image.</param>
    /// <param name="sizes">(height, width) of each image.</param>
    /// <param name="threshold">The score that must be exceeded, from 0 to 1.</param>
    /// <param name="label">What a class is called.</param>
    public static IReadOnlyList<IReadOnlyList<Detection>> FromClasses(Tensor logits, Tensor boxes, IReadOnlyList<(int Height, int Width)> sizes, double threshold, Func<int, string> label)
    {
        using var scope = NewDisposeScope();
        var (scores, classes) = logits.to(ScalarType.Float32).softmax(-1).narrow(-1, 0, logits.shape[^1] - 1).max(-1);
        return Read(scores, classes, boxes, sizes, threshold, label);
    }

    /// <summary>OWL-ViT's: every box has the text that its own score is highest for.</summary>
    /// <param name="logits">[b, boxes, texts]</param>
    /// <inheritdoc cref="FromClasses"/>
    public static IReadOnlyList<IReadOnlyList<Detection>> FromTexts(Tensor logits, Tensor boxes, IReadOnlyList<(int Height, int Width)> sizes, double threshold, Func<int, string> label)
    {
        using var scope = NewDisposeScope();
        var (best, texts) = logits.to(ScalarType.Float32).max(-1);
        return Read(best.sigmoid(), texts, boxes, sizes, threshold, label);
    }

    /// <summary>Grounding DINO's: a box is as sure as its likeliest token, and has the phrase with the likeliest among its own tokens.</summary>
    /// <param name="logits">[b, boxes, tokens]</param>
    /// <param name="spans">Each phrase's tokens: the first, and the one after the last.</param>
    /// <param name="phrases">What they are called.</param>
    /// <inheritdoc cref="FromClasses"/>
    public static IReadOnlyList<IReadOnlyList<Detection>> FromTokens(Tensor logits, Tensor boxes, IReadOnlyList<(int Height, int Width)> sizes, double threshold, IReadOnlyList<(int Start, int End)> spans, IReadOnlyList<string> phrases)
    {
        using var scope = NewDisposeScope();
        var chances = logits.to(ScalarType.Float32).sigmoid();
        var best = stack([.. spans.Select(s => chances.narrow(-1, s.Start, s.End - s.Start).amax([-1]))], -1).argmax(-1);
        return Read(chances.amax([-1]), best, boxes, sizes, threshold, i => phrases[i]);
    }

    /// <summary>Grounding DINO's for a caption: a box is as sure as its likeliest token, and goes with the words around the likeliest token of a word whose tokens exceed the threshold.</summary>
    /// <param name="logits">[b, boxes, tokens]</param>
    /// <param name="caption">The text that all images were given.</param>
    /// <inheritdoc cref="FromClasses"/>
    public static IReadOnlyList<IReadOnlyList<BoundBox>> FromWords(Tensor logits, Tensor boxes, IReadOnlyList<(int Height, int Width)> sizes, double threshold, CaptionTokens caption)
    {
        using var scope = NewDisposeScope();
        var chances = logits.to(ScalarType.Float32).narrow(-1, 0, caption.Ids.Length).sigmoid();
        var values = chances.cpu().contiguous().data<float>().ToArray();
        var queries = (int)chances.shape[1];
        int[] own = [.. Enumerable.Range(0, caption.Ids.Length).Where(i => caption.Words[i] is not null)];
        // A box's label is its query's number until its words are known.
        var found = Read(chances.amax([-1]), arange(queries).expand(sizes.Count, -1), boxes, sizes, threshold, static q => q.ToString(System.Globalization.CultureInfo.InvariantCulture));
        return [.. found.Select((image, b) => (IReadOnlyList<BoundBox>)[.. image.Select(d =>
        {
            var row = (b * queries + int.Parse(d.Label, System.Globalization.CultureInfo.InvariantCulture)) * caption.Ids.Length;
            var (start, end) = caption.Around(own.MaxBy(i => values[row + i]), i => values[row + i] > threshold);
            return new BoundBox(d with { Label = caption.Text[start..end] }, start, end);
        })])];
    }

    /// <summary>
    /// OWL-ViT's where an image says what is looked for: boxes that overlap with a better one go, and scores are stretched so that the best of an image has 1 and one of a tenth of it 0
    /// (which is left out with all below).
    /// </summary>
    /// <param name="logits">[b, boxes, 1]</param>
    /// <param name="overlap">The IoU above which the worse of two boxes goes; 1: none.</param>
    /// <param name="label">What it is called.</param>
    /// <inheritdoc cref="FromClasses"/>
    public static IReadOnlyList<IReadOnlyList<Detection>> FromImage(Tensor logits, Tensor boxes, IReadOnlyList<(int Height, int Width)> sizes, double threshold = 0, double overlap = 0.3, string label = "")
    {
        using var scope = NewDisposeScope();
        var scores = logits.to(ScalarType.Float32).amax([-1]).sigmoid();
        var corners = Boxes.ToCorners(boxes.to(ScalarType.Float32));
        var stretched = zeros_like(scores);
        for (var i = 0L; i < scores.shape[0]; i++)
        {
            var kept = overlap < 1 ? zeros_like(scores[i]).index_fill(0, tensor(Boxes.Nms(corners[i], scores[i], overlap)).to(ScalarType.Int64).to(scores.device), 1) : ones_like(scores[i]);
            var own = scores[i] * kept * scores[i].ge(threshold);
            var most = own.max() + 1e-6;
            stretched[i] = ((own - most * 0.1) / (most * 0.9)).clamp(0, 1);
        }
        return Read(stretched, zeros_like(stretched, ScalarType.Int64), boxes, sizes, 0, _ => label);
    }

    /// <param name="scores">[b, queries]</param>
    /// <param name="labels">[b, queries] int64</param>
    internal static IReadOnlyList<IReadOnlyList<Detection>> Read(Tensor scores, Tensor labels, Tensor boxes, IReadOnlyList<(int Height, int Width)> sizes, double threshold, Func<int, string> label)
    {
        if (sizes.Count != scores.shape[0]) throw new PanoptesException($"{scores.shape[0]} images were predicted and {sizes.Count} sizes given; expected one each.");
        using var scope = NewDisposeScope();
        var queries = (int)scores.shape[1];
        var scale = tensor((float[])[.. sizes.SelectMany(static s => (float[])[s.Width, s.Height, s.Width, s.Height])], [sizes.Count, 1, 4]);
        var corners = (Boxes.ToCorners(boxes.detach().cpu().to(ScalarType.Float32)) * scale).contiguous().data<float>().ToArray();
        var values = scores.detach().cpu().to(ScalarType.Float32).contiguous().data<float>().ToArray();
        var classes = labels.cpu().contiguous().data<long>().ToArray();
        return [.. Enumerable.Range(0, sizes.Count).Select(i => (IReadOnlyList<Detection>)[.. Enumerable.Range(i * queries, queries).Where(q => values[q] > (float)threshold)
            .Select(q => new Detection(corners[4 * q], corners[4 * q + 1], corners[4 * q + 2], corners[4 * q + 3], values[q], label((int)classes[q])))])];
    }
}
