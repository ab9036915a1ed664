using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>Losses over pictures, with gradients to them: what leads image generation by what a segmenter or a detector sees (universal guidance, Bansal et al. 2023, arXiv:2302.07121).</summary>
public static class PictureLosses
{
    /// <summary>How far things are from being found in boxes, by what finds them: an X-Decoder or a DETR.</summary>
    /// <param name="finder">Stays the caller's.</param>
    /// <param name="boxes">In pixels of an image of the size; their labels are looked for.</param>
    /// <param name="size">Of the image.</param>
    /// <returns>Of pictures [b, 3, height, width] from 0 to 1: the sum over images, a scalar.</returns>
    /// <exception cref="PanoptesException">Neither an X-Decoder nor a DETR, no boxes, or one that has no size or a label that cannot be looked for.</exception>
    public static Func<Tensor, Tensor> Boxes(IGrounder finder, IReadOnlyList<Detection> boxes, (int Width, int Height) size) => finder switch
    {
        SegmentGrounder { Model: XDecoderSegmenter decoder } => Boxes(decoder, boxes, size),
        Detector { Model: DetrForObjectDetection } detector => Boxes(detector, boxes, size),
        _ => throw new PanoptesException("What finds things is no X-Decoder and no DETR, which alone can lead images to boxes."),
    };

    /// <summary>How far things are from filling boxes, and from staying in them: the logarithmic loss of the largest likelihood in every row and every column (the projections of Tian et al. 2021, arXiv:2012.02310).</summary>
    /// <param name="model">Stays the caller's.</param>
    /// <param name="boxes">In pixels of an image of the size; their labels are looked for. Several of one label belong together.</param>
    /// <param name="size">Of the image.</param>
    /// <returns>Of pictures [b, 3, height, width] from 0 to 1: the sum over images of the mean over labels, a scalar.</returns>
    /// <exception cref="PanoptesException">No boxes, or one that has no size or no label.</exception>
    public static Func<Tensor, Tensor> Boxes(XDecoderSegmenter model, IReadOnlyList<Detection> boxes, (int Width, int Height) size)
    {
        if (boxes.Count == 0) throw new PanoptesException("No boxes were given; expected one at least.");
        foreach (var box in boxes)
            if (string.IsNullOrWhiteSpace(box.Label) || !(box.Left < box.Right && box.Top < box.Bottom)) throw new PanoptesException($"The box of '{box.Label}' has no label or no size; expected both.");
        string[] names = [.. boxes.Select(static b => b.Label).Distinct(StringComparer.Ordinal)];
        return pictures =>
        {
            using var scope = NewDisposeScope();
            var likely = model.Likelihoods(pictures, names);
            var (rows, columns) = ((int)likely.shape[2], (int)likely.shape[3]);
            var inside = new float[names.Length * rows * columns];
            foreach (var box in boxes)
            {
                var first = Array.IndexOf(names, box.Label) * rows * columns;
                var (left, right) = Span(box.Left, box.Right, size.Width, columns);
                var (top, bottom) = Span(box.Top, box.Bottom, size.Height, rows);
                for (var y = top; y < bottom; y++) inside.AsSpan(first + (y * columns) + left, right - left).Fill(1);
            }
            var wanted = tensor(inside, [1, names.Length, rows, columns]);
            return (Along(likely, wanted, 2) + Along(likely, wanted, 3)).MoveToOuterDisposeScope();
        };

        static (int From, int To) Span(double from, double to, int pixels, int places)
        {
            var first = Math.Clamp((int)Math.Round(from * places / pixels), 0, places - 1);
            return (first, Math.Clamp((int)Math.Round(to * places / pixels), first + 1, places));
        }

        static Tensor Along(Tensor likely, Tensor wanted, long dimension)
        {
            using var scope = NewDisposeScope();
            return Logarithmic(likely.amax([dimension]), wanted.amax([dimension]).expand_as(likely.amax([dimension]))).MoveToOuterDisposeScope();
        }
    }

    /// <summary>How far a DETR is from finding things in boxes: the loss that it learns by, each thing matched with the query that tells it best.</summary>
    /// <param name="detector">Stays the caller's.</param>
    /// <param name="boxes">In pixels of an image of the size; their labels are names of the detector.</param>
    /// <param name="size">Of the image.</param>
    /// <returns>Of pictures [b, 3, height, width] from 0 to 1: the sum over images, a scalar.</returns>
    /// <exception cref="PanoptesException">No DETR, no boxes, or one that has no size or a label that the detector does not know.</exception>
    public static Func<Tensor, Tensor> Boxes(Detector detector, IReadOnlyList<Detection> boxes, (int Width, int Height) size)
    {
        if (detector is not { Model: DetrForObjectDetection model, Processor: PaddedImageProcessor processor }) throw new PanoptesException($"A {detector.Model.GetType().Name} was given; expected a DETR, whose loss is known.");
        if (boxes.Count == 0) throw new PanoptesException("No boxes were given; expected one at least.");
        var names = detector.Labels!;
        var labels = new long[boxes.Count];
        for (var i = 0; i < labels.Length; i++)
        {
            var box = boxes[i];
            if (!(box.Left < box.Right && box.Top < box.Bottom)) throw new PanoptesException($"The box of '{box.Label}' has no size.");
            labels[i] = names.Select(static (n, k) => (Name: n, Class: k)).FirstOrDefault(n => n.Name.Equals(box.Label, StringComparison.OrdinalIgnoreCase), (Name: "", Class: -1)).Class;
            if (labels[i] < 0) throw new PanoptesException($"This model does not know \"{box.Label}\"; it finds {string.Join(", ", names.Take(20))}{(names.Count > 20 ? $" and {names.Count - 20} more" : "")}.");
        }
        float[] places = [.. boxes.SelectMany(b => (float[])[(b.Left + b.Right) / 2 / size.Width, (b.Top + b.Bottom) / 2 / size.Height, (b.Right - b.Left) / size.Width, (b.Bottom - b.Top) / size.Height])];
        return pictures =>
        {
            using var scope = NewDisposeScope();
            var found = model.Forward(processor.Process(pictures));
            var target = new DetectionTarget(tensor(labels), tensor(places, [labels.Length, 4]));
            return Enumerable.Range(0, (int)pictures.shape[0]).Select(i => DetrLoss.Of(new(found.Logits.narrow(0, i, 1), found.Boxes.narrow(0, i, 1)), [target], model.Config.Loss).Total).Aggregate(static (a, b) => a + b).MoveToOuterDisposeScope();
        };
    }

    /// <summary>How far masks of names are from wanted ones: the logarithmic loss of every place.</summary>
    /// <param name="model">Stays the caller's.</param>
    /// <param name="names">At least one.</param>
    /// <param name="masks">[names, height, width], 1 where a thing of the name is to be, else 0; kept, and the caller's</param>
    /// <returns>Of pictures [b, 3, height, width] from 0 to 1: the sum over images of the mean over names, a scalar.</returns>
    /// <exception cref="PanoptesException">Another number of masks than names.</exception>
    public static Func<Tensor, Tensor> Masks(XDecoderSegmenter model, IReadOnlyList<string> names, Tensor masks)
    {
        if (names.Count == 0 || masks.dim() != 3 || masks.shape[0] != names.Count) throw new PanoptesException($"Masks of [{string.Join(", ", masks.shape)}] were given for {names.Count} names; expected [names, height, width].");
        return pictures =>
        {
            using var scope = NewDisposeScope();
            var likely = model.Likelihoods(pictures, names);
            var wanted = nn.functional.adaptive_avg_pool2d(nn.functional.interpolate(masks.to(ScalarType.Float32).unsqueeze(0), [likely.shape[2] * 2, likely.shape[3] * 2], mode: InterpolationMode.Nearest), [likely.shape[2], likely.shape[3]]);
            return Logarithmic(likely, wanted.expand_as(likely)).MoveToOuterDisposeScope();
        };
    }

    /// <summary>The binary cross-entropy, the mean of every image and the sum over them.</summary>
    static Tensor Logarithmic(Tensor likely, Tensor wanted) => nn.functional.binary_cross_entropy(likely.clamp(1e-4, 1 - 1e-4), wanted) * likely.shape[0];
}
