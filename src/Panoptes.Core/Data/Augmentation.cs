namespace Panoptes.Data;

/// <summary>A closed range that a parameter is drawn from, uniformly.</summary>
public readonly record struct Interval(float Min, float Max);

/// <summary>What is put behind the transparent parts of an image, each kind with its share of the samples.</summary>
public sealed record BackgroundMix
{
    /// <summary>White, and nothing else: how drawings are mostly met.</summary>
    public float White { get; init; } = 1;

    /// <summary>One random color.</summary>
    public float Plain { get; init; }

    /// <summary>A gradient between two random colors at a random angle.</summary>
    public float Gradient { get; init; }

    /// <summary>Noise of one scale between two random colors.</summary>
    public float Textured { get; init; }

    /// <summary>What photographs have: light from above, noise at all scales, darker corners, grain; or parts of <see cref="Photographs"/>.</summary>
    public float Photographic { get; init; }

    /// <summary>Real photographs to cut backgrounds from, instead of made ones.</summary>
    public IReadOnlyList<RgbImage> Photographs { get; init; } = [];

    /// <summary>The same with parts of the bundled photographs behind half of the pictures.</summary>
    public BackgroundMix WithPhotographs() => this with { Photographic = Math.Max(White + Plain + Gradient + Textured, 1e-3f), Photographs = Data.Photographs.Open() };

    /// <summary>Every kind, as for training on drawings.</summary>
    public static BackgroundMix Varied { get; } = new() { White = 0.25f, Plain = 0.3f, Gradient = 0.15f, Textured = 0.15f, Photographic = 0.15f };
}

/// <summary>An image without alpha in plain memory: rows of red, green, blue, one byte each.</summary>
public sealed record RgbImage(int Width, int Height, byte[] Pixels);

/// <summary>
/// How images become training samples: a square crop that is moved, turned, bent and resized in one resampling, put on a background, then
/// inked, changed in color, blurred, filtered at random and partly erased. Parameters and their meaning are torchvision's (transforms v2); zeros switch a step off.
/// </summary>
public sealed record Augmentation
{
    /// <summary>Side of the result in pixels.</summary>
    public int Size { get; init; } = 64;

    /// <summary>RandomResizedCrop's <c>scale</c>: the share of the area that the crop has. One to one keeps the whole image.</summary>
    public Interval CropScale { get; init; } = new(1, 1);

    /// <summary>RandomResizedCrop's <c>ratio</c>: width over height of the crop.</summary>
    public Interval CropRatio { get; init; } = new(3f / 4, 4f / 3);

    /// <summary>RandomHorizontalFlip's <c>p</c>. Mind that arrows, clocks and text change their meaning.</summary>
    public float FlipProbability { get; init; }

    /// <summary>RandomAffine's <c>degrees</c>: turned by up to so many degrees either way.</summary>
    public float Rotation { get; init; }

    /// <summary>RandomAffine's <c>translate</c>: moved by up to this share of the size, each way.</summary>
    public float Translation { get; init; }

    /// <summary>RandomAffine's <c>scale</c>: below one the image gets smaller and the background shows around it.</summary>
    public Interval Scale { get; init; } = new(1, 1);

    /// <summary>The share of samples that are bent: a smooth random displacement changes proportions as another artist would.</summary>
    public float ElasticProbability { get; init; }

    /// <summary>How far the points of the grid are moved: the deviation of a normal distribution as a share of the size, drawn a sample.</summary>
    public Interval ElasticDeviation { get; init; } = new(0, 0.1f);

    /// <summary>The grid's cells a side (cubic B-splines between its points); more bend smaller parts.</summary>
    public int ElasticGrid { get; init; } = 3;

    /// <summary>ColorJitter's <c>brightness</c>: factor in [max(0, 1 - b), 1 + b].</summary>
    public float Brightness { get; init; }

    /// <summary>ColorJitter's <c>contrast</c>.</summary>
    public float Contrast { get; init; }

    /// <summary>ColorJitter's <c>saturation</c>.</summary>
    public float Saturation { get; init; }

    /// <summary>ColorJitter's <c>hue</c>, 0 to 0.5: shift in [-h, h] of the color circle.</summary>
    public float Hue { get; init; }

    /// <summary>The share of samples whose color is jittered at all.</summary>
    public float JitterProbability { get; init; } = 1;

    /// <summary>RandomGrayscale's <c>p</c>.</summary>
    public float GrayProbability { get; init; }

    /// <summary>The share of samples that are inked: lines are drawn where colors change, as around the shapes of a comic.</summary>
    public float InkProbability { get; init; }

    /// <summary>How dark the lines are: 0 invisible, 1 black.</summary>
    public Interval InkStrength { get; init; } = new(0.6f, 1);

    /// <summary>How large the change of a color within three pixels is that gets a full line, in [0, 1]; half of it gets none.</summary>
    public Interval InkThreshold { get; init; } = new(0.15f, 0.6f);

    /// <summary>
    /// The share of samples that are mixed with what a random linear filter makes of them, which keeps shapes and changes colors and textures
    /// (RandConv, Xu et al. 2021, arXiv:2007.13003; edges are continued rather than black).
    /// </summary>
    public float RandomConvolutionProbability { get; init; }

    /// <summary>The sides of its kernels, odd, one of which is drawn a sample.</summary>
    public IReadOnlyList<int> RandomConvolutionKernels { get; init; } = [1, 3, 5];

    /// <summary>The share that the filtered image has in the mixture.</summary>
    public Interval RandomConvolutionMix { get; init; } = new(0, 1);

    /// <summary>The share of samples that are blurred.</summary>
    public float BlurProbability { get; init; }

    /// <summary>GaussianBlur's <c>kernel_size</c>, odd.</summary>
    public int BlurKernel { get; init; } = 7;

    /// <summary>GaussianBlur's <c>sigma</c> in pixels.</summary>
    public Interval BlurSigma { get; init; } = new(0.1f, 2);

    /// <summary>RandomErasing's <c>p</c>.</summary>
    public float EraseProbability { get; init; }

    /// <summary>RandomErasing's <c>scale</c>: the share of the area that is erased.</summary>
    public Interval EraseScale { get; init; } = new(0.02f, 0.33f);

    /// <summary>RandomErasing's <c>ratio</c>: height over width of the erased part.</summary>
    public Interval EraseRatio { get; init; } = new(0.3f, 3.3f);

    /// <summary>What transparent parts show.</summary>
    public BackgroundMix Background { get; init; } = new();

    /// <summary>Subtracted from the red, green and blue in [0, 1]; CLIP's by default.</summary>
    public IReadOnlyList<float> Mean { get; init; } = [0.48145466f, 0.4578275f, 0.40821073f];

    /// <summary>What the difference is divided by; CLIP's by default.</summary>
    public IReadOnlyList<float> Std { get; init; } = [0.26862954f, 0.26130258f, 0.27577711f];

    /// <summary>The whole image on white, resized: what evaluation uses.</summary>
    public static Augmentation None(int size) => new() { Size = size };

    /// <summary>What trains well on drawings: varied backgrounds, moderate crops, turns and colors; no flips.</summary>
    public static Augmentation Drawings(int size) => new()
    {
        Size = size,
        CropScale = new(0.7f, 1),
        CropRatio = new(0.85f, 1.18f),
        Rotation = 12,
        Translation = 0.08f,
        Scale = new(0.7f, 1.05f),
        Brightness = 0.25f,
        Contrast = 0.25f,
        Saturation = 0.4f,
        Hue = 0.05f,
        JitterProbability = 0.8f,
        GrayProbability = 0.1f,
        BlurProbability = 0.1f,
        BlurKernel = 5,
        BlurSigma = new(0.1f, 1.2f),
        EraseProbability = 0.1f,
        EraseScale = new(0.02f, 0.15f),
        Background = BackgroundMix.Varied,
    };

    /// <summary>Colors and blur alone: what leaves masks and boxes as they are.</summary>
    public static Augmentation Photometric(int size) => new()
    {
        Size = size,
        Brightness = 0.25f,
        Contrast = 0.25f,
        Saturation = 0.4f,
        Hue = 0.05f,
        JitterProbability = 0.8f,
        GrayProbability = 0.1f,
        BlurProbability = 0.1f,
        BlurKernel = 5,
        BlurSigma = new(0.1f, 1.2f),
    };

    /// <summary>Whether every pixel stays where it is and nothing is erased.</summary>
    public bool IsPhotometric => this is { CropScale: { Min: 1, Max: 1 }, Scale: { Min: 1, Max: 1 }, FlipProbability: 0, Rotation: 0, Translation: 0, ElasticProbability: 0, EraseProbability: 0 };

    /// <summary>Checks every value once, so that the loop over samples need not.</summary>
    /// <exception cref="PanoptesException">A value is outside its range; the message names it.</exception>
    public void Validate()
    {
        Require(Size is >= 1 and <= 4096, nameof(Size), Size, "1 to 4096");
        RequireRange(CropScale, nameof(CropScale), 1e-4f, 1);
        RequireRange(CropRatio, nameof(CropRatio), 1e-2f, 100);
        RequireRange(Scale, nameof(Scale), 0.05f, 20);
        RequireRange(BlurSigma, nameof(BlurSigma), 1e-3f, 100);
        RequireRange(InkStrength, nameof(InkStrength), 0, 1);
        RequireRange(InkThreshold, nameof(InkThreshold), 1e-3f, 2);
        RequireRange(RandomConvolutionMix, nameof(RandomConvolutionMix), 0, 1);
        RequireRange(EraseScale, nameof(EraseScale), 0, 1);
        RequireRange(EraseRatio, nameof(EraseRatio), 1e-2f, 100);
        RequireRange(ElasticDeviation, nameof(ElasticDeviation), 0, 1);
        Require(ElasticGrid is >= 1 and <= 32, nameof(ElasticGrid), ElasticGrid, "1 to 32 cells");
        Require(Rotation is >= 0 and <= 180, nameof(Rotation), Rotation, "0 to 180 degrees");
        Require(Translation is >= 0 and <= 1, nameof(Translation), Translation, "0 to 1");
        Require(Hue is >= 0 and <= 0.5f, nameof(Hue), Hue, "0 to 0.5");
        foreach (var (name, value) in new[] { (nameof(Brightness), Brightness), (nameof(Contrast), Contrast), (nameof(Saturation), Saturation) })
            Require(value >= 0 && float.IsFinite(value), name, value, "zero or more");
        foreach (var (name, value) in new[] { (nameof(FlipProbability), FlipProbability), (nameof(JitterProbability), JitterProbability), (nameof(GrayProbability), GrayProbability), (nameof(ElasticProbability), ElasticProbability), (nameof(InkProbability), InkProbability), (nameof(RandomConvolutionProbability), RandomConvolutionProbability), (nameof(BlurProbability), BlurProbability), (nameof(EraseProbability), EraseProbability) })
            Require(value is >= 0 and <= 1, name, value, "a probability from 0 to 1");
        Require(BlurKernel % 2 == 1 && BlurKernel is >= 1 and <= 255, nameof(BlurKernel), BlurKernel, "an odd number from 1 to 255");
        Require(BlurProbability == 0 || BlurKernel / 2 < Size, nameof(BlurKernel), BlurKernel, $"less than twice the size {Size}");
        Require(RandomConvolutionKernels.Count > 0 && RandomConvolutionKernels.All(k => k % 2 == 1 && k is >= 1 and <= 31), nameof(RandomConvolutionKernels), string.Join(", ", RandomConvolutionKernels), "odd sides from 1 to 31");
        Require(Mean.Count == 3 && Std.Count == 3 && Std.All(static s => s > 0), nameof(Std), Std.Count, "three positive deviations and three means");
        var b = Background;
        Require(Math.Min(Math.Min(Math.Min(b.White, b.Plain), Math.Min(b.Gradient, b.Textured)), b.Photographic) >= 0 && b.White + b.Plain + b.Gradient + b.Textured + b.Photographic > 0,
            nameof(Background), "shares", "shares of zero or more that are not all zero");
        foreach (var photo in b.Photographs)
            Require(photo.Width > 0 && photo.Height > 0 && photo.Pixels.Length == photo.Width * photo.Height * 3, nameof(BackgroundMix.Photographs), $"{photo.Width}x{photo.Height} with {photo.Pixels.Length} bytes", "three bytes a pixel");
    }

    static void RequireRange(Interval range, string name, float min, float max) =>
        Require(range.Min >= min && range.Max <= max && range.Min <= range.Max, name, $"{range.Min} to {range.Max}", $"a range within {min} to {max}");

    static void Require(bool holds, string name, object found, string expected)
    {
        if (!holds) throw new PanoptesException(FormattableString.Invariant($"The augmentation's {name} is {found}, but {expected} was expected."));
    }
}
