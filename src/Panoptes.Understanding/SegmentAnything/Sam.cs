using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;

namespace Panoptes.Understanding;

/// <summary>How a SAM is loaded.</summary>
public sealed record SamOptions
{
    /// <summary>The type of the image encoder's weights: bfloat16 halves the memory and is several times faster where the processor has it.</summary>
    public ScalarType Dtype { get; init; } = ScalarType.Float32;

    /// <summary>The type that prompts are answered in: bfloat16 is for finding everything, which asks a thousand times; the edges of masks lose a little by it.</summary>
    public ScalarType PromptDtype { get; init; } = ScalarType.Float32;

    /// <summary>How many prompts are answered at once; each takes about 40 MB for a model of 1024 pixels, half of it in bfloat16.</summary>
    public int BatchSize { get; init; } = 8;

    /// <summary>How many points a scribble becomes, at most.</summary>
    public int ScribblePoints { get; init; } = 8;
}

/// <summary>Which of the masks that a SAM gives for a prompt are wanted.</summary>
public enum MaskChoice
{
    /// <summary>Several of different extent (a button, the shirt, the person), the best first by the model's own judgment.</summary>
    All,

    /// <summary>The best of these.</summary>
    Best,

    /// <summary>The one mask that the model gives where it is asked for only one: meant for prompts that leave no doubt, such as several points, or a box.</summary>
    Single,
}

/// <summary>An image as a SAM sees it: computed once, prompted many times, saved to a file and loaded again.</summary>
public sealed class SamImage : IDisposable
{
    const string Kind = "panoptes sam image";

    internal SamImage(SamFeatures features, int width, int height, string fingerprint) => (Features, Width, Height, Fingerprint) = (features, width, height, fingerprint);

    /// <summary>float32 maps; they belong to this object.</summary>
    public SamFeatures Features { get; }

    /// <summary>Of the image, in pixels.</summary>
    public int Width { get; }

    public int Height { get; }

    /// <summary>Of the model that made it (<see cref="Sam.Fingerprint"/>).</summary>
    public string Fingerprint { get; }

    /// <summary>Writes it as a safetensors file.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public void Save(string path)
    {
        using var scope = NewDisposeScope();
        SafeTensors.Save(path, Features.Maps.Select(static (m, i) => KeyValuePair.Create($"map.{i.ToString(CultureInfo.InvariantCulture)}", m)), new Dictionary<string, string>
        {
            ["kind"] = Kind,
            ["width"] = Width.ToString(CultureInfo.InvariantCulture),
            ["height"] = Height.ToString(CultureInfo.InvariantCulture),
            ["model"] = Fingerprint,
        });
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="PanoptesException">No such file, or not one of these.</exception>
    public static SamImage Load(string path)
    {
        using var file = SafeTensorsFile.Open(path);
        if (file.Metadata.GetValueOrDefault("kind") != Kind) throw Wrong("it says nothing of a SAM");
        var (width, height) = (Size("width"), Size("height"));
        var names = Enumerable.Range(0, file.Entries.Count).Select(static i => $"map.{i.ToString(CultureInfo.InvariantCulture)}").ToArray();
        if (names.Length is 0 or > 8 || !Array.TrueForAll(names, n => file.Entries.TryGetValue(n, out var entry) && entry.ScalarType == ScalarType.Float32 && entry.Shape is [1, _, _, _]))
            throw Wrong("its tensors are not maps of an image");
        // A copy: the file may go while the image is used.
        var maps = names.Select(n => Copy(file, n)).ToArray();
        return new(new(maps), width, height, file.Metadata.GetValueOrDefault("model") ?? "");

        static Tensor Copy(SafeTensorsFile file, string name)
        {
            using var scope = NewDisposeScope();
            return file.Read(name).clone().DetachFromDisposeScope();
        }

        int Size(string name) => int.TryParse(file.Metadata.GetValueOrDefault(name), NumberStyles.None, CultureInfo.InvariantCulture, out var size) && size > 0 ? size : throw Wrong($"its {name} is no size of an image");

        PanoptesException Wrong(string what) => new($"{path} is no saved image of a SAM: {what}.");
    }

    public void Dispose() => Features.Dispose();
}

/// <summary>
/// SAM or SAM 2 with its image processor: an image is encoded once, then points, boxes, scribbles and masks are answered in milliseconds. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var sam = Sam.Load("facebook/sam-vit-base");
/// using var image = sam.Encode(Image.Load("photo.jpg"));
/// var masks = sam.Segment(image, Prompt.Point(500, 375));
/// Console.WriteLine($"{masks[0].Mask.Area} pixels, {masks[0].Score:P0} sure");
/// </code></example>
public sealed class Sam : IPromptable, IDisposable
{
    /// <summary>What a pixel inside a mask prompt is worth, as a logit.</summary>
    const float MaskLogit = 10;

    readonly ISegmentAnything segmenter;
    readonly HuggingFaceImageProcessor processor;
    readonly SamOptions options;

    /// <summary>A model that is in memory already; it is disposed with this object, and its weights are packed for inference.</summary>
    /// <exception cref="PanoptesException">It is no SAM, or the processor does not prepare images for it.</exception>
    public Sam(Module model, ImageProcessor? processor = null, SamOptions? options = null)
    {
        segmenter = model as ISegmentAnything ?? throw new PanoptesException($"A {model.GetType().Name} was given; expected a SAM.");
        (Model, this.options) = (model, options ?? new());
        if (this.options.BatchSize < 1 || this.options.ScribblePoints < 1) throw new PanoptesException("A SAM was asked to answer no prompt at once, or to make scribbles into no points; expected 1 or more.");
        this.processor = processor switch
        {
            null => ProcessorOf(segmenter),
            HuggingFaceImageProcessor { Family: "Sam" or "Sam2" } own => own,
            HuggingFaceImageProcessor other => throw new PanoptesException($"The image processor is a {other.ProcessorType}; expected a SamImageProcessor or a Sam2ImageProcessor."),
            _ => throw new PanoptesException("The image processor is not one of a SAM; expected a SamImageProcessor or a Sam2ImageProcessor."),
        };
        var (height, width) = this.processor.OutputSize(new Image(1, 1, 1));
        if (height != ImageSize || width != ImageSize) throw new PanoptesException($"The image processor makes images of {width}x{height}; this model takes {ImageSize}x{ImageSize}.");
        Fingerprint = FingerprintOf(model);
        // Places stay in float32: as bfloat16 they would be off by more than a pixel.
        foreach (var (key, part) in model.NamedModules())
            if (key is "vision_encoder") part.To(this.options.Dtype);
            else if (key is "mask_decoder" || (key.StartsWith("prompt_encoder.", StringComparison.Ordinal) && part is not SamPositionalEmbedding)) part.To(this.options.PromptDtype);
        model.Pack();
    }

    /// <summary>Loads a model in Hugging Face's form, or a file of segment-anything's own (sam_vit_b_01ec64.pth).</summary>
    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>); with generation_config.json, where there is one (<see cref="SamEverythingOptions.Load"/>).</param>
    /// <param name="options">Types and batches.</param>
    /// <exception cref="PanoptesException">Nothing there, no SAM, or a file of it is missing or broken.</exception>
    public static Sam Load(string model, SamOptions? options = null)
    {
        var path = ModelFolder.Resolve(model);
        var loaded = PromptableModels.Load(path);
        try
        {
            var folder = ModelFolder.FolderOf(path);
            var hasProcessor = File.Exists(Path.Combine(folder, "preprocessor_config.json")) || File.Exists(Path.Combine(folder, "processor_config.json"));
            return new(loaded, hasProcessor ? ImageProcessor.Load(folder) : null, options) { Searching = SamEverythingOptions.Load(folder) };
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    public Module Model { get; }

    /// <summary>How <see cref="Everything"/> searches where nothing else is said: as the model's own files say, or by the defaults.</summary>
    public SamEverythingOptions Searching { get; init; } = new();

    /// <summary>The side of the images that the model sees.</summary>
    public int ImageSize => segmenter.ImageSize;

    /// <summary>Tells models apart: encoded images are only of use for the model that made them, whatever type its weights have.</summary>
    public string Fingerprint { get; }

    public PromptKinds Takes => PromptKinds.Points | PromptKinds.Boxes | PromptKinds.Scribbles | PromptKinds.Masks | PromptKinds.Everything;

    /// <summary>Encodes an image of any size; the caller owns the result.</summary>
    public SamImage Encode(Image photo)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var features = segmenter.EncodeImage(processor.Process(photo));
        return new(new([.. features.Maps.Select(static m => m.to(ScalarType.Float32).contiguous().DetachFromDisposeScope())]), photo.Width, photo.Height, Fingerprint);
    }

    /// <summary>The masks of the one thing that all prompts together mean, the best first.</summary>
    /// <param name="image">From this model.</param>
    /// <param name="prompts">Points, at most one box, scribbles and masks, in pixels of the image.</param>
    /// <exception cref="PanoptesException">No prompt, one that is outside the image or empty, one that a SAM does not understand, or an image of another model.</exception>
    public IReadOnlyList<Segment> Segment(SamImage image, params IReadOnlyList<Prompt> prompts) => Segment(image, [prompts], MaskChoice.All)[0];

    /// <summary>Encodes the image for this call only; without a prompt, finds everything. See <see cref="Segment(SamImage, IReadOnlyList{Prompt})"/>.</summary>
    /// <inheritdoc cref="Segment(SamImage, IReadOnlyList{Prompt})" path="/exception"/>
    public IReadOnlyList<Segment> Segment(Image image, params IReadOnlyList<Prompt> prompts)
    {
        if (prompts.Count == 0) return Everything(image);
        using var encoded = Encode(image);
        return Segment(encoded, prompts);
    }

    public IPromptedImage Open(Image image) => new Opened(this, image);

    sealed class Opened(Sam sam, Image image) : IPromptedImage
    {
        readonly SamImage encoded = sam.Encode(image);

        public IReadOnlyList<Segment> Segment(IReadOnlyList<Prompt> prompts) => prompts.Count == 0 ? sam.Everything(image) : sam.Segment(encoded, prompts);

        public void Dispose() => encoded.Dispose();
    }

    /// <summary>The masks of many things at once, each meant by a group of prompts.</summary>
    /// <param name="image">From this model.</param>
    /// <param name="groups">The prompts of each thing.</param>
    /// <param name="choice">Which masks of each.</param>
    /// <returns>The masks of each group, in order, the best first.</returns>
    /// <inheritdoc cref="Segment(SamImage, IReadOnlyList{Prompt})" path="/exception"/>
    public IReadOnlyList<IReadOnlyList<Segment>> Segment(SamImage image, IReadOnlyList<IReadOnlyList<Prompt>> groups, MaskChoice choice = MaskChoice.Best)
    {
        if (image.Fingerprint != Fingerprint) throw new PanoptesException("The encoded image is of another model; encode it with this one.");
        var asked = groups.Select((g, i) => Read(g, i, groups.Count, image)).ToArray();
        var results = new IReadOnlyList<Segment>[groups.Count];
        using var noGrad = no_grad();
        // What has as many points, a box and a mask goes through the decoder together, so that nothing has to be filled up: a group's answer does not depend on the others.
        foreach (var same in asked.Select(static (a, i) => (Asked: a, Index: i)).GroupBy(static a => (a.Asked.Points.Count, a.Asked.Box is null, a.Asked.Mask is null)))
            foreach (var batch in same.Chunk(options.BatchSize))
            {
                using var scope = NewDisposeScope();
                var masks = segmenter.Decode(image.Features, Prompts([.. batch.Select(static b => b.Asked)], image), choice != MaskChoice.Single);
                var (logits, scores) = (masks.Logits.flatten(0, 1), masks.IouScores.flatten(0, 1).to(ScalarType.Float32));   // [groups, masks, …]
                var order = scores.argsort(1, descending: true);
                if (choice == MaskChoice.Best) order = order.narrow(1, 0, 1);
                logits = logits.gather(1, order.view(batch.Length, -1, 1, 1).expand(-1, -1, logits.shape[2], logits.shape[3]));
                var all = Trace(logits.flatten(0, 1), image.Width, image.Height);
                var each = scores.gather(1, order).flatten().data<float>().ToArray();
                var count = (int)order.shape[1];
                for (var i = 0; i < batch.Length; i++)
                    results[batch[i].Index] = [.. Enumerable.Range(i * count, count).Select(k => new Segment(all[k].Mask, Math.Clamp(each[k], 0, 1)))];
            }
        return results;
    }

    /// <summary>Finds everything in an image, without any prompt: points of a grid are clicked at, and what is good, stable and new stays.</summary>
    /// <param name="photo">Of any size.</param>
    /// <param name="options">How carefully to search; null: <see cref="Searching"/>.</param>
    /// <param name="progress">Told the share that is done, from 0 to 1.</param>
    /// <param name="cancel">Stops the search.</param>
    /// <returns>The best first.</returns>
    /// <exception cref="PanoptesException">Options that cannot be.</exception>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public IReadOnlyList<Segment> Everything(Image photo, SamEverythingOptions? options = null, IProgress<double>? progress = null, CancellationToken cancel = default)
    {
        var o = (options ?? Searching).Checked();
        var crops = SamAutomaticMasks.CropBoxes(photo.Height, photo.Width, o.CropLayers, o.CropOverlap).Where(static c => c.Width > 0 && c.Height > 0).ToArray();
        var grids = SamAutomaticMasks.PointGrids(o.PointsPerSide, o.CropLayers, o.CropPointsDownscale);
        var (total, done) = (crops.Sum(c => grids[c.Layer].Length), 0);
        var found = new List<(RunLengthMask Mask, float Score, EdgeBox Box, SamCrop Crop)>();
        foreach (var crop in crops)
        {
            cancel.ThrowIfCancellationRequested();
            using var image = Encode(photo.Crop(crop.Left, crop.Top, crop.Width, crop.Height));
            var here = new List<(RunLengthMask Mask, float Score, EdgeBox Box)>();
            foreach (var points in grids[crop.Layer].Chunk(o.PointsPerBatch))
            {
                cancel.ThrowIfCancellationRequested();
                here.AddRange(Click(image, points, crop, photo, o));
                progress?.Report((double)(done += points.Length) / total);
            }
            // Duplicates within the crop; boxes of different crops meet below.
            foreach (var i in BoxNms.Keep([.. here.Select(static h => h.Box)], [.. here.Select(static h => h.Score)], (float)o.BoxNms)) found.Add((here[i].Mask, here[i].Score, here[i].Box, crop));
        }
        if (crops.Length > 1)
            found = [.. BoxNms.Keep([.. found.Select(static f => f.Box)], [.. found.Select(static f => 1f / ((float)f.Crop.Width * f.Crop.Height))], (float)o.CropNms).Select(i => found[i])];
        if (o.MinRegionArea > 0) found = [.. SamAutomaticMasks.WithoutSmallRegions([.. found.Select(static f => f.Mask)], o.MinRegionArea, Math.Max(o.BoxNms, o.CropNms)).Select(k => found[k.Index] with { Mask = k.Mask })];
        return [.. found.OrderByDescending(static f => f.Score).Select(static f => new Segment(f.Mask, Math.Clamp(f.Score, 0, 1)))];
    }

    /// <summary>What a batch of clicks finds in a crop; masks become runs at once.</summary>
    List<(RunLengthMask Mask, float Score, EdgeBox Box)> Click(SamImage image, (double X, double Y)[] points, SamCrop crop, Image photo, SamEverythingOptions o)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (scaleX, scaleY, _, _) = Scale(image.Width, image.Height);
        float[] places = [.. points.SelectMany(p => new[] { (float)(p.X * image.Width * scaleX), (float)(p.Y * image.Height * scaleY) })];
        var masks = segmenter.Decode(image.Features, new(tensor(places, [1, points.Length, 1, 2])), multimask: true);
        var scores = masks.IouScores.flatten().to(ScalarType.Float32).data<float>().ToArray();
        int[] good = [.. Enumerable.Range(0, scores.Length).Where(i => scores[i] > o.PredictedIou || o.PredictedIou == 0)];
        var logits = masks.Logits.flatten(0, 2);                                                  // [points · masks, side, side]
        var all = new List<(RunLengthMask Mask, float Score, EdgeBox Box)>();
        foreach (var some in good.Chunk(TraceAtOnce))
        {
            using var inner = NewDisposeScope();
            var (byColumn, rows, columns) = ByColumn(logits.index_select(0, tensor(some.Select(static i => (long)i).ToArray())), image.Width, image.Height);
            var traced = SamAutomaticMasks.Found(byColumn, rows, columns, crop, photo.Width, photo.Height, o);
            for (var i = 0; i < some.Length; i++)
                if (traced[i] is { } t) all.Add((t.Mask, scores[some[i]], t.Box));
        }
        return all;
    }

    /// <summary>How many masks are stretched to the model's input at once: 16 times 4 MB.</summary>
    const int TraceAtOnce = 16;

    /// <summary>Masks at the image's size.</summary>
    /// <param name="logits">[n, side, side]</param>
    unsafe TracedMask[] Trace(Tensor logits, int width, int height)
    {
        var traced = new TracedMask[logits.shape[0]];
        for (var first = 0; first < traced.Length; first += TraceAtOnce)
        {
            using var scope = NewDisposeScope();
            var count = Math.Min(TraceAtOnce, traced.Length - first);
            var (byColumn, rows, columns) = ByColumn(logits.narrow(0, first, count), width, height);
            var (start, stride, size) = ((nint)NativeTensor.Data(byColumn), (int)byColumn.shape[2], (int)(byColumn.shape[1] * byColumn.shape[2]));
            var offset = first;
            Parallel.For(0, count, i => traced[offset + i] = MaskTracing.Trace(new((float*)start + (long)i * size, size), stride, rows, columns, MaskPlace.Whole(width, height), 0, 1));
            GC.KeepAlive(byColumn);
        }
        return traced;
    }

    /// <summary>
    /// Masks column by column, and which corner of them shows the image. A SAM's input is filled up, so its masks are stretched to that size first, as its processor does it; SAM 2's are of
    /// the whole image as they are.
    /// </summary>
    (Tensor ByColumn, int Rows, int Columns) ByColumn(Tensor logits, int width, int height)
    {
        var byColumn = logits.to(ScalarType.Float32).transpose(1, 2);
        if (processor.Pad is null) return (byColumn.contiguous(), (int)logits.shape[1], (int)logits.shape[2]);
        var (_, _, shownWidth, shownHeight) = Scale(width, height);
        var large = nn.functional.interpolate(byColumn.unsqueeze(1), [ImageSize, ImageSize], mode: InterpolationMode.Bilinear, align_corners: false).squeeze(1);
        return (large.contiguous(), shownHeight, shownWidth);
    }

    /// <summary>From the image's pixels to those of the model's input, and how many of these show the image.</summary>
    (double X, double Y, int Width, int Height) Scale(int width, int height)
    {
        var (w, h) = processor.Size.LongestEdge is { } longest ? PictureProcessor.LongestSide(width, height, longest) : (processor.Size.Width, processor.Size.Height);
        return ((double)w / width, (double)h / height, w, h);
    }

    /// <summary>What one thing's prompts come to, in pixels of the image.</summary>
    sealed record Asked(IReadOnlyList<(double X, double Y, bool Positive)> Points, BoxPrompt? Box, RunLengthMask? Mask);

    Asked Read(IReadOnlyList<Prompt> prompts, int index, int count, SamImage image)
    {
        if (prompts.Count == 0) throw new PanoptesException($"{(count > 1 ? $"Group {index + 1} of {count} has no prompt" : "There is no prompt")}; expected a point, a box, a scribble or a mask (to find all there is, ask for everything).");
        var points = new List<(double, double, bool)>();
        BoxPrompt? box = null;
        RunLengthMask? mask = null;
        foreach (var prompt in prompts)
        {
            switch (prompt)
            {
                case TextPrompt: throw new PanoptesException("A SAM does not read: for a text, find boxes with a grounding model (Grounding DINO, OWL-ViT) and give these as prompts.");
                case ExamplePrompt: throw new PanoptesException("A SAM sees one image at a time: for what is like a thing in another image, take a model with examples (SEEM).");
            }
            prompt.Check(image.Width, image.Height);
            switch (prompt)
            {
                case PointPrompt p: points.Add((p.X, p.Y, p.Positive)); break;
                case ScribblePrompt s: points.AddRange(Sample(s.Pixels, options.ScribblePoints).Select(at => ((double)at.X, (double)at.Y, s.Positive))); break;
                case BoxPrompt b: box = box is null ? b : throw new PanoptesException("A thing has two boxes; expected one (other things are groups of their own)."); break;
                case MaskPrompt m: mask = mask is null ? m.Pixels : RunLengthMask.Merge([mask, m.Pixels]); break;
            }
        }
        return new(points, box, mask);
    }

    /// <summary>Pixels of a stroke, evenly spread over it in the order of its columns; always the same.</summary>
    internal static IEnumerable<(int X, int Y)> Sample(RunLengthMask stroke, int most)
    {
        var area = stroke.Area;
        var count = (int)Math.Min(most, area);
        var (run, start, seen) = (1, stroke.Runs[0], 0L);                                         // a run of pixels, where it begins, and how many come before it
        for (var i = 0; i < count; i++)
        {
            var rank = (2L * i + 1) * area / (2L * count);
            while (rank >= seen + stroke.Runs[run])
            {
                seen += stroke.Runs[run];
                start += stroke.Runs[run] + (run + 1 < stroke.Runs.Count ? stroke.Runs[run + 1] : 0);
                run += 2;
            }
            var at = start + (int)(rank - seen);
            yield return (at / stroke.Height, at % stroke.Height);
        }
    }

    /// <summary>Groups of the same kinds as tensors: one prompt a row where there are masks, else all in one row, which share the image.</summary>
    SamPrompts Prompts(Asked[] groups, SamImage image)
    {
        var (scaleX, scaleY, _, _) = Scale(image.Width, image.Height);
        var (n, count) = (groups.Length, groups[0].Points.Count);
        var hasMask = groups[0].Mask is not null;
        long[] rows = hasMask ? [n, 1] : [1, n];
        Tensor? points = null, labels = null, boxes = null, masks = null;
        if (count > 0)
        {
            points = tensor(groups.SelectMany(g => g.Points.SelectMany(p => new[] { (float)(p.X * scaleX), (float)(p.Y * scaleY) })).ToArray(), [.. rows, count, 2]);
            labels = tensor(groups.SelectMany(static g => g.Points.Select(static p => p.Positive ? 1L : 0)).ToArray(), [.. rows, count]);
        }
        if (groups[0].Box is not null)
            boxes = tensor(groups.Select(static g => g.Box!).SelectMany(b => new[] { (float)(b.Left * scaleX), (float)(b.Top * scaleY), (float)(b.Right * scaleX), (float)(b.Bottom * scaleY) }).ToArray(), [.. rows, 4]);
        if (hasMask) masks = stack([.. groups.Select(g => MaskLogits(g.Mask!))]).unsqueeze(1);
        return new(points, labels, boxes, masks);
    }

    /// <summary>A mask as the logits of an earlier answer: [side, side], what shows no image is surely outside.</summary>
    Tensor MaskLogits(RunLengthMask mask)
    {
        var side = segmenter.MaskSize;
        var (_, _, shownWidth, shownHeight) = Scale(mask.Width, mask.Height);
        int Fit(int shown) => Math.Max(1, (int)Math.Round((double)shown * side / ImageSize));
        var (width, height) = (Fit(shownWidth), Fit(shownHeight));
        var pixels = new byte[mask.Width * mask.Height];
        mask.Decode(pixels);
        for (var i = 0; i < pixels.Length; i++) pixels[i] *= 255;
        var small = new Image(mask.Width, mask.Height, 1, pixels).Resize(width, height, ResizeFilter.Bilinear);
        var logits = new float[side * side];
        Array.Fill(logits, -MaskLogit);
        for (var y = 0; y < height; y++)
            for (var x = 0; x < width; x++) logits[y * side + x] = (small.Pixels[y * width + x] / 255f * 2 - 1) * MaskLogit;
        return tensor(logits, [side, side]);
    }

    /// <summary>What prepares images for a model whose files do not say.</summary>
    internal static HuggingFaceImageProcessor ProcessorOf(ISegmentAnything model) => new()
    {
        Family = model is Sam2Model ? "Sam2" : "Sam",
        ProcessorType = model is Sam2Model ? "Sam2ImageProcessor" : "SamImageProcessor",
        Size = model is Sam2Model ? ProcessorSize.Exactly(model.ImageSize, model.ImageSize) : ProcessorSize.Longest(model.ImageSize),
        Pad = model is Sam2Model ? null : (model.ImageSize, model.ImageSize),
        Filter = ResizeFilter.Bilinear,
        Mean = ImageProcessor.ImageNetMean,
        Std = ImageProcessor.ImageNetStd,
    };

    /// <summary>The first numbers of every weight, as bfloat16 has them, so that the same model in another type has the same.</summary>
    static string FingerprintOf(Module model)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (key, parameter) in model.DistinctParameters())
        {
            using var inner = NewDisposeScope();
            hash.AppendData(Encoding.UTF8.GetBytes($"{key} {string.Join(',', parameter.Shape)}\n"));
            var first = parameter.Value.detach().flatten().narrow(0, 0, Math.Min(16, parameter.ElementCount)).to(ScalarType.BFloat16).to(ScalarType.Float32).cpu().contiguous();
            hash.AppendData(first.bytes);
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset())[..32];
    }

    public void Dispose() => Model.Dispose();
}
