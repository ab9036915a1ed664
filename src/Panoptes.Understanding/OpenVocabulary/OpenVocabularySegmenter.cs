using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>How <see cref="OpenVocabularySegmenter"/> prepares a model and looks at images.</summary>
public sealed record SegmenterOptions
{
    /// <summary>The type of the weights; null: as they are stored.</summary>
    public ScalarType? Dtype { get; init; } = ScalarType.Float32;

    /// <summary>Where the model runs; null: the CPU.</summary>
    public Device? Device { get; init; }

    /// <summary>
    /// The shorter side in pixels that an image, or a tile of it, is resized to for GroupViT and MaskCLIP (sides become multiples of a patch); null: twice the side that the model was trained with. CLIPSeg's
    /// images have the size that its processor says.
    /// </summary>
    public int? Side { get; init; }

    /// <summary>How many overlapping tiles the shorter side is cut into, each looked at by itself, for small things in large images; 1 to 32. Long images are cut along their longer side in any case.</summary>
    public int Tiles { get; init; } = 1;

    /// <summary>How often MaskCLIP looks a patch further, along each side, for a map as many times as fine; a divisor of the patch (32 for a ResNet).</summary>
    public int Shifts { get; init; } = 1;

    /// <summary>A pixel none of whose labels has this probability gets none. Null: 0.5 for CLIPSeg, which judges every label by itself, else 0, since the labels share a probability of 1 (with GroupViT of 1 at most).</summary>
    public float? Threshold { get; init; }

    /// <summary>Sentences with <c>{}</c> where a label goes ("a photo of a {}."), whose embeddings are averaged; null: the label alone.</summary>
    public IReadOnlyList<string>? Templates { get; init; }

    /// <summary>
    /// Denoising and smoothing of MaskCLIP. Null: the authors', with the model's own scale; a ResNet's are not smoothed (with our zoo's, 90 % of the pixels of three emoji in a scene are named
    /// right without smoothing and 84 % with it).
    /// </summary>
    public MaskClipOptions? MaskClip { get; init; }

    /// <summary>What <see cref="OpenVocabularySegmenter.Segment"/> offers beside the prompts to models that divide every pixel among their labels, so that what is asked for need not be everywhere.</summary>
    public IReadOnlyList<string> Others { get; init; } = ["background", "something else"];

    /// <summary>Whether texts that are longer than the model takes are cut; by default they are refused.</summary>
    public bool TruncateTexts { get; init; }
}

/// <summary>
/// Says what is where in an image, in any words: with GroupViT, CLIPSeg, OpenSeg, a segmenter of MaskCLIP+, relative mask attention, or with any CLIP by <see cref="MaskClip"/>. Not for several
/// threads at once.
/// </summary>
/// <example><code>
/// using var segmenter = OpenVocabularySegmenter.Load("nvidia/groupvit-gcc-yfcc");
/// var map = segmenter.Label(Image.Load("photo.jpg"), ["sky", "a red apple", "grass"]);
/// foreach (var segment in map.Segments) Console.WriteLine($"{segment.Label}: {segment.Mask.Area} pixels");
/// </code></example>
public sealed class OpenVocabularySegmenter : IPromptable, IDisposable
{
    /// <summary>Beyond this many times as long as wide, an image is cut into tiles.</summary>
    const int MostElongated = 2;

    /// <summary>The most labels at once.</summary>
    const int MostLabels = 4096;

    const string Expected = "a GroupViT, a CLIPSeg, an OpenSeg, a DenseClip, a MaskClipPanoptic or a CLIP";

    readonly ImageProcessor processor;
    readonly Tokenizer tokenizer;
    readonly SegmenterOptions options;
    readonly DualEncoder clip;
    readonly MaskClipOptions maskClip;
    readonly int place, shifts;
    readonly (int Height, int Width)? fixedSize;
    readonly int side;

    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    /// <param name="model">A <see cref="GroupVitModel"/>, a <see cref="ClipSegModel"/>, an <see cref="OpenSegModel"/>, a <see cref="DenseClipModel"/>, a <see cref="MaskClipPanopticModel"/>, or a CLIP that <see cref="MaskClip"/> takes.</param>
    /// <param name="processor">Prepares images for it.</param>
    /// <param name="tokenizer">Its text tower's.</param>
    /// <param name="options">How images are looked at.</param>
    /// <exception cref="PanoptesException">Another model, or an option out of range.</exception>
    public OpenVocabularySegmenter(Nn.Module model, ImageProcessor processor, Tokenizer tokenizer, SegmenterOptions? options = null)
    {
        this.options = options ??= new();
        (Model, this.processor, this.tokenizer) = (model, processor, tokenizer);
        clip = model switch
        {
            ClipSegModel segmenter => segmenter.Clip,
            OpenSegModel segmenter => segmenter.Clip,
            DenseClipModel segmenter => segmenter.Clip,
            MaskClipPanopticModel segmenter => segmenter.Clip,
            DualEncoder both => both,
            _ => throw new PanoptesException($"A {model.GetType().Name} was given; expected {Expected}."),
        };
        place = model switch { GroupVitModel m => m.Config.Vision.PatchSize, ClipSegModel m => m.Config.Vision.PatchSize, _ => MaskClip.PlaceSize(clip) };
        fixedSize = model is ClipSegModel ? SizeOf(processor) : null;
        // What was trained to segment is given images as in its training.
        side = options.Side ?? Math.Max((model is OpenSegModel or DenseClipModel or MaskClipPanopticModel ? 1 : 2) * clip.Images.ImageSize, 2 * place);
        shifts = options.Shifts;
        maskClip = options.MaskClip ?? MaskClipOf(clip);
        Threshold = options.Threshold ?? (model is ClipSegModel ? 0.5f : 0);
        if (side < place || side > 1 << 14) throw new PanoptesException($"The side is {side} pixels; expected from a patch of this model, {place}, to {1 << 14}.");
        if (options.Tiles is < 1 or > 32) throw new PanoptesException($"{options.Tiles} tiles were asked for; expected 1 to 32.");
        if (shifts < 1 || place % shifts != 0) throw new PanoptesException($"{shifts} shifts were asked for; expected a divisor of this model's patches of {place} pixels.");
        if (shifts > 1 && model is not (ClipModel or OpenClipModel)) throw new PanoptesException($"Shifts are MaskCLIP's and do not go with a {model.GetType().Name}.");
        model.Train(false);
        model.RequiresGrad(false);
        model.Pack();
    }

    public Nn.Module Model { get; }

    /// <summary>A pixel none of whose labels has this probability gets none; see <see cref="SegmenterOptions.Threshold"/>, with which it begins.</summary>
    public float Threshold { get; set; }

    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>) of a GroupViT, a CLIPSeg, an OpenSeg, a DenseClip, a MaskClipPanoptic, or a CLIP of Hugging Face's or open_clip's.</param>
    /// <param name="options">How it is prepared and looks at images.</param>
    /// <exception cref="PanoptesException">Nothing there, another model, or a file of it is missing or broken.</exception>
    public static OpenVocabularySegmenter Load(string model, SegmenterOptions? options = null)
    {
        options ??= new();
        var path = ModelFolder.Resolve(model);
        var load = new LoadOptions { Dtype = options.Dtype, Device = options.Device };
        var loaded = PromptableModels.Registry.Knows(path) ? PromptableModels.Load(path, load) : Models.Load(path, load);
        try
        {
            var (processor, tokenizer) = loaded switch
            {
                // Their images may be larger than those that their CLIP was made for.
                ClipSegModel or OpenSegModel or DenseClipModel or MaskClipPanopticModel => (ImageProcessor.Load(ModelFolder.FolderOf(path)), Tokenizer.Load(ModelFolder.FolderOf(path))),
                DualEncoder both => ClipParts.Load(path, both),
                _ => throw new PanoptesException($"{model} holds a {loaded.GetType().Name}; expected {Expected}."),
            };
            return new(loaded, processor, tokenizer, options);
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>What is where, in words of one's own.</summary>
    /// <param name="image">Of any size.</param>
    /// <param name="labels">What may be there. GroupViT and MaskCLIP divide every pixel among them, so that what else there is should be named, too; CLIPSeg judges each by itself.</param>
    /// <exception cref="PanoptesException">No label, an empty one, or one that is longer than the model takes.</exception>
    public SegmentationMap Label(Image image, IReadOnlyList<string> labels) => Label(image, [.. labels.Select(Prompt.Text)]);

    /// <summary>The same of texts and, with CLIPSeg, of things in other images: "what is like this".</summary>
    /// <param name="image">Of any size.</param>
    /// <param name="prompts">Texts (<see cref="Prompt.Text"/>) and examples (<see cref="Prompt.Like"/>).</param>
    /// <exception cref="PanoptesException">No prompt, one of another kind, or one that does not fit.</exception>
    public SegmentationMap Label(Image image, IReadOnlyList<Prompt> prompts)
    {
        Check(image, prompts);
        string[] names = [.. prompts.Select(static (p, i) => p is TextPrompt text ? text.Words : $"example {i + 1}")];
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var grid = Dense(image, Conditions(prompts));
        return new(names, grid.contiguous().data<float>().ToArray(), (int)grid.shape[1], (int)grid.shape[2], image.Width, image.Height, Threshold);
    }

    /// <summary>Texts, and with CLIPSeg examples.</summary>
    public PromptKinds Takes => Model is ClipSegModel ? PromptKinds.Texts | PromptKinds.Examples : PromptKinds.Texts;

    /// <summary>The pixels of each prompt that is in the image at all, the likeliest first; <see cref="Label(Image, IReadOnlyList{Prompt})"/> gives more.</summary>
    /// <inheritdoc cref="Label(Image, IReadOnlyList{Prompt})" path="/param"/>
    /// <inheritdoc cref="Label(Image, IReadOnlyList{Prompt})" path="/exception"/>
    public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts)
    {
        var map = Label(image, Model is ClipSegModel || prompts.Count == 0 ? prompts : [.. prompts, .. options.Others.Select(Prompt.Text)]);
        return [.. map.SegmentsOf(prompts.Count).OrderByDescending(static s => s.Score)];
    }

    /// <summary>Things one by one and stuff as a whole, with a model of relative mask attention.</summary>
    /// <param name="image">Of any size.</param>
    /// <param name="labels">What there may be; the segments' classes count along them.</param>
    /// <param name="other">What is said for what has none of these names.</param>
    /// <param name="segmentation">Thresholds, and which labels are stuff.</param>
    /// <exception cref="PanoptesException">Another model, no label, or one that does not fit.</exception>
    public PanopticSegmentation Panoptic(Image image, IReadOnlyList<string> labels, string other = "other", SegmentationOptions? segmentation = null)
    {
        if (Model is not MaskClipPanopticModel segmenter) throw new PanoptesException($"Things one by one were asked of this {Model.GetType().Name}; expected a MaskClipPanoptic.");
        Prompt[] prompts = [.. labels.Append(other).Select(Prompt.Text)];
        Check(image, labels.Count == 0 ? [] : prompts);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var output = segmenter.Forward(OnDevice(Prepared(image, Fit(image))));
        var predicted = segmenter.Predictions(output, Conditions(prompts))[^1];
        return SegmentationOutput.Panoptic(predicted.Classes[0].cpu(), predicted.Masks[0].cpu(), image.Width, image.Height, segmentation ?? new() { RestIsNothing = true });
    }

    PanopticAnswer? IPromptable.Panoptic(Image image, IReadOnlyList<string> names) =>
        Model is MaskClipPanopticModel ? new(Panoptic(image, names) with { Names = names }, static _ => true) : PanopticAnswer.OfStuff(Segment(image, [.. names.Select(Prompt.Text)]), image);

    void Check(Image image, IReadOnlyList<Prompt> prompts)
    {
        if (prompts.Count is 0 or > MostLabels) throw new PanoptesException($"{prompts.Count} labels were given; expected 1 to {MostLabels}.");
        foreach (var prompt in prompts)
        {
            if (prompt is not (TextPrompt or ExamplePrompt)) throw new PanoptesException($"A {prompt.GetType().Name} was given; expected texts{(Model is ClipSegModel ? " and examples" : "")}.");
            if (prompt is ExamplePrompt && Model is not ClipSegModel) throw new PanoptesException($"An example was given to this {Model.GetType().Name}, which reads texts alone; expected a CLIPSeg.");
            prompt.Check(image.Width, image.Height);
        }
    }

    /// <summary>What the prompts ask for: [prompts, embedding] as the model wants it.</summary>
    Tensor Conditions(IReadOnlyList<Prompt> prompts)
    {
        string[] texts = [.. prompts.OfType<TextPrompt>().Select(static p => p.Words)];
        if (Model is not ClipSegModel segmenter) return new BatchEncoder(Towers.Of(clip), processor, tokenizer, 64, options.Device, options.TruncateTexts).Labels(texts, options.Templates);
        var templates = options.Templates ?? ["{}"];
        if (templates.Count == 0 || templates.Any(static t => !t.Contains("{}", StringComparison.Ordinal))) throw new PanoptesException("The templates were expected to be sentences with {} where a label goes, at least one.");
        var written = texts.Length == 0 ? null
            : segmenter.Condition(OnDevice(ClipParts.Tokenize(tokenizer, clip, [.. texts.SelectMany(t => templates.Select(s => s.Replace("{}", t, StringComparison.Ordinal)))], options.TruncateTexts)))
                .view(texts.Length, templates.Count, -1).mean([1]);
        var (conditions, next) = (new Tensor[prompts.Count], 0);
        for (var i = 0; i < conditions.Length; i++)
            conditions[i] = prompts[i] is ExamplePrompt example ? segmenter.ConditionOf(OnDevice(Prepared(Shown(example), fixedSize!.Value)))[0] : written![next++];
        return stack(conditions);
    }

    /// <summary>An example as the paper shows it best: cut out with a little around it, which is blurred and dark.</summary>
    static Image Shown(ExamplePrompt example)
    {
        var (image, box) = (example.Image.ToRgb(), example.Pixels.Box);
        var margin = Math.Max(box.Width, box.Height) / 4 + 1;
        var (left, top) = (Math.Max(0, box.X - margin), Math.Max(0, box.Y - margin));
        var (width, height) = (Math.Min(image.Width, box.Right + margin) - left, Math.Min(image.Height, box.Bottom + margin) - top);
        var mask = new byte[image.Width * image.Height];
        example.Pixels.Decode(mask);
        var near = image.Crop(left, top, width, height);
        const int blur = 8;
        var far = near.Resize(Math.Max(1, width / blur), Math.Max(1, height / blur), ResizeFilter.Bilinear).Resize(width, height, ResizeFilter.Bilinear);
        var shown = new byte[near.Pixels.Length];
        for (var y = 0; y < height; y++)
            for (var x = 0; x < width; x++)
                for (var (c, at) = (0, 3 * (y * width + x)); c < 3; c++, at++)
                    shown[at] = mask[(top + y) * image.Width + left + x] != 0 ? near.Pixels[at] : (byte)(far.Pixels[at] / 10);
        return new(width, height, 3, shown);
    }

    /// <summary>Probabilities over the image at the model's own resolution: [prompts, rows, columns] float32 on the CPU.</summary>
    Tensor Dense(Image image, Tensor conditions)
    {
        var (shorter, longer) = (Math.Min(image.Width, image.Height), Math.Max(image.Width, image.Height));
        if (options.Tiles == 1 && longer <= MostElongated * (long)shorter) return OfWindow(image, conditions);

        // Square windows that overlap by half, at most some dozens along the longer side, each with more weight in its middle.
        var window = Math.Max(Math.Max(1, (int)(2L * shorter / (options.Tiles + 1))), (longer + 31) / 32);
        var (across, down) = (Starts(image.Width, window), Starts(image.Height, window));
        var (windowWidth, windowHeight) = (Math.Min(window, image.Width), Math.Min(window, image.Height));
        Tensor? sum = null, weight = null, ramp = null;
        long rows = 0, columns = 0;
        foreach (var top in down)
            foreach (var left in across)
            {
                using var inner = NewDisposeScope();
                var part = OfWindow(image.Crop(left, top, windowWidth, windowHeight), conditions);
                if (sum is null)
                {
                    (rows, columns) = (part.shape[1], part.shape[2]);
                    sum = zeros([part.shape[0], Cells(image.Height, windowHeight, rows), Cells(image.Width, windowWidth, columns)]).MoveToOuterDisposeScope();
                    weight = zeros([sum.shape[1], sum.shape[2]]).MoveToOuterDisposeScope();
                    ramp = Ramp(rows).unsqueeze(1).mul(Ramp(columns)).MoveToOuterDisposeScope();
                }
                var (y, x) = (At(top, windowHeight, rows, sum.shape[1]), At(left, windowWidth, columns, sum.shape[2]));
                sum.narrow(1, y, rows).narrow(2, x, columns).add_(part * ramp!);
                weight!.narrow(0, y, rows).narrow(1, x, columns).add_(ramp!);
            }
        return sum!.div_(weight!);

        static long Cells(int size, int window, long cells) => Math.Max(cells, (long)Math.Round((double)size * cells / window));

        static long At(int start, int window, long cells, long all) => Math.Min((long)Math.Round((double)start * cells / window), all - cells);

        static Tensor Ramp(long cells)
        {
            var from = arange(cells, dtype: ScalarType.Float32) + 1;
            return minimum(from, from.flip(0));
        }
    }

    /// <summary>Where windows begin so that they cover a side evenly and overlap by at least half.</summary>
    static int[] Starts(int size, int window)
    {
        if (size <= window) return [0];
        var count = (int)Math.Ceiling(2.0 * (size - window) / window) + 1;
        return [.. Enumerable.Range(0, count).Select(i => (int)Math.Round((double)i * (size - window) / (count - 1)))];
    }

    /// <summary>The same of one picture as a whole.</summary>
    Tensor OfWindow(Image image, Tensor conditions)
    {
        using var scope = NewDisposeScope();
        var pixels = OnDevice(Prepared(image, fixedSize ?? Fit(image)));
        return (shifts == 1 ? Dense(Model, pixels, conditions, maskClip) : OfMaskClip(Stitched(pixels), conditions, maskClip))[0].cpu().MoveToOuterDisposeScope();
    }

    /// <summary>How likely each prompt is at each place of prepared pictures, whichever way the model has; sums to 1 over the prompts but with CLIPSeg, and with GroupViT to 1 at most.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="conditions">[prompts, embedding], of length 1 but for CLIPSeg's</param>
    /// <returns>[b, prompts, rows, columns] float32, at the model's own resolution</returns>
    /// <exception cref="PanoptesException">A model that is none of these.</exception>
    internal static Tensor Dense(Nn.Module model, Tensor pixels, Tensor conditions, MaskClipOptions? maskClip = null)
    {
        using var scope = NewDisposeScope();
        var dense = model switch
        {
            ClipSegModel segmenter => stack([.. Enumerable.Range(0, (int)pixels.shape[0]).Select(i => segmenter.Decode(segmenter.Encode(pixels.narrow(0, i, 1)), conditions).to(ScalarType.Float32).sigmoid())]),
            GroupVitModel groups => groups.Segment(pixels, conditions, pixels.shape[2] / groups.Config.Vision.PatchSize, pixels.shape[3] / groups.Config.Vision.PatchSize),
            OpenSegModel segmenter => segmenter.Segment(pixels, conditions),
            MaskClipPanopticModel segmenter => segmenter.Segment(pixels, conditions),
            DenseClipModel segmenter => segmenter.Forward(pixels, conditions).to(ScalarType.Float32).softmax(1),
            DualEncoder clip => OfMaskClip(MaskClip.Features(clip, pixels), conditions, maskClip ?? MaskClipOf(clip)),
            _ => throw new PanoptesException($"A {model.GetType().Name} was given; expected {Expected}."),
        };
        return dense.to(ScalarType.Float32).MoveToOuterDisposeScope();
    }

    /// <summary>The authors' options with a model's own scale; a ResNet's labels are not smoothed.</summary>
    internal static MaskClipOptions MaskClipOf(DualEncoder clip)
    {
        using var scope = NewDisposeScope();
        return new() { SoftmaxScale = Math.Exp(clip.LogitScale.Value.to(ScalarType.Float64).sum().item<double>()), KeySmoothingThreshold = clip is OpenClipModel { Visual: OpenClipResNet } ? 0 : 1 };
    }

    static Tensor OfMaskClip(MaskClipFeatures features, Tensor texts, MaskClipOptions options)
    {
        features = new(features.Dense.to(ScalarType.Float32), features.Keys.to(ScalarType.Float32));
        var logits = MaskClip.Logits(features.Dense, texts);
        if (options.DenoiseThreshold > 0)
        {
            // Where no class is sure enough, all stay: something must be there.
            var denoised = MaskClip.Denoise(logits, options);
            logits = where(denoised.Kept.any(1).view(-1, 1, 1, 1), denoised.Logits, logits);
        }
        var probabilities = logits.mul(options.SoftmaxScale).softmax(1);
        if (options.KeySmoothingThreshold <= 0) return probabilities;
        var smoothed = MaskClip.Smooth(probabilities, MaskClip.KeySimilarity(features.Keys), options.KeySmoothingThreshold).clamp_(min: 0);
        // Sums of probabilities are made such again.
        var sum = smoothed.sum(1, keepdim: true);
        return where(sum.gt(1e-6), smoothed / sum.clamp(min: 1e-6), probabilities);
    }

    /// <summary>The same of a batch of scenes.</summary>
    /// <param name="scenes">Of one size; pictures are resized to the side of the options, or else looked at as they are.</param>
    /// <param name="conditions">Of <see cref="Names"/>.</param>
    internal Tensor Dense(SceneBatch scenes, Tensor conditions)
    {
        using var scope = NewDisposeScope();
        var pixels = scenes.Normalized(processor.Mean, processor.Std);
        var (height, width) = fixedSize ?? (Fitting(options.Side ?? (int)pixels.shape[2]), Fitting(options.Side ?? (int)pixels.shape[3]));
        if (height != pixels.shape[2] || width != pixels.shape[3]) pixels = nn.functional.interpolate(pixels, [height, width], mode: InterpolationMode.Bilinear, align_corners: false);
        return Dense(Model, OnDevice(pixels), conditions, maskClip).cpu().MoveToOuterDisposeScope();

        int Fitting(int size) => Math.Max(1, (int)Math.Round((double)size / place)) * place;
    }

    /// <summary>What <see cref="Dense(SceneBatch, Tensor)"/> is asked for; owned by the caller.</summary>
    internal Tensor Names(IReadOnlyList<string> names)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Conditions([.. names.Select(Prompt.Text)]).MoveToOuterDisposeScope();
    }

    /// <summary>Features at every part of a patch: the picture goes through the model at every shift, and the maps are laid into each other (Long et al. 2015, arXiv:1411.4038, "shift and stitch").</summary>
    MaskClipFeatures Stitched(Tensor pixels)
    {
        var step = place / shifts;
        var (height, width, margin) = (pixels.shape[2], pixels.shape[3], place - step);
        var wide = nn.functional.pad(pixels, [margin / 2, margin - margin / 2, margin / 2, margin - margin / 2], mode: PaddingModes.Replicate);
        var dense = new List<Tensor>();
        var keys = new List<Tensor>();
        for (var y = 0; y < shifts; y++)
            for (var x = 0; x < shifts; x++)
            {
                var one = MaskClip.Features(clip, wide.narrow(2, y * step, height).narrow(3, x * step, width));
                dense.Add(one.Dense);
                keys.Add(one.Keys);
            }
        var (rows, columns) = (height / place, width / place);
        var map = stack(dense, 0).view(shifts, shifts, dense[0].shape[1], rows, columns).permute(2, 3, 0, 4, 1).reshape(1, dense[0].shape[1], rows * shifts, columns * shifts);
        var key = stack(keys, 0).view(shifts, shifts, rows, columns, keys[0].shape[2]).permute(2, 0, 3, 1, 4).reshape(1, rows * shifts * columns * shifts, keys[0].shape[2]);
        return new(map, key);
    }

    /// <summary>The size that a picture is looked at in: the shorter side as wanted, the longer at most twice that, both whole patches.</summary>
    (int Height, int Width) Fit(Image image)
    {
        var scale = Math.Min((double)side / Math.Min(image.Width, image.Height), (double)MostElongated * side / Math.Max(image.Width, image.Height));
        return (Whole(image.Height), Whole(image.Width));

        int Whole(int size) => Math.Max(1, (int)Math.Round(size * scale / place)) * place;
    }

    Tensor Prepared(Image image, (int Height, int Width) size) => (processor switch
    {
        HuggingFaceImageProcessor p => (ImageProcessor)(p with { DoResize = true, Size = ProcessorSize.Exactly(size.Height, size.Width), Crop = null }),
        OpenClipTransform p => p with { Height = size.Height, Width = size.Width, ResizeMode = OpenClipResize.Squash },
        _ => throw Unfit(processor),
    }).Process(image);

    static (int Height, int Width) SizeOf(ImageProcessor processor) => processor is PictureProcessor picture and (HuggingFaceImageProcessor or OpenClipTransform) ? picture.OutputSize(new Image(64, 64, 3)) : throw Unfit(processor);

    static PanoptesException Unfit(ImageProcessor processor) => new($"A {processor.GetType().Name} prepares images for this model; expected one that resizes a picture, as CLIP's.");

    Tensor OnDevice(Tensor tensor) => options.Device is null ? tensor : tensor.to(options.Device);

    public void Dispose() => Model.Dispose();
}
