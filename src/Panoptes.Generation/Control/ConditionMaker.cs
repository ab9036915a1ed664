using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>
/// Makes of an image the picture that controls generation, as the annotators of ControlNet do (Zhang et al. 2023, arXiv:2302.05543): its edges, lines, pose, classes, depth or normals. One record a
/// kind, whose properties are its options; <see cref="ConditionMakers"/> has them by name. Safe for several threads at once, unless what it asks for poses, classes or depth is not.
/// </summary>
/// <example><code>
/// var edges = new CannyCondition { Low = 50 }.Make(Image.Load("photo.jpg"));
/// </code></example>
public abstract record ConditionMaker
{
    /// <summary>What soft edges, lines and the like are found at, at most; those of a larger image are found on a smaller copy.</summary>
    const int MostPixels = 1 << 22;

    /// <summary>The sides of what an annotator gives are multiples of it.</summary>
    const int Multiple = 64;

    /// <summary>What the short side is brought to before, in pixels, both sides becoming multiples of 64, as ControlNet's "detect resolution" does; null: the image's own size.</summary>
    public int? Resolution { get; init; }

    /// <summary>The condition: an RGB picture of the image's size, or of that which <see cref="Resolution"/> makes.</summary>
    /// <param name="image">Alpha is seen over white.</param>
    /// <exception cref="PanoptesException">An option is out of range, or what the maker needs was not given or does not fit.</exception>
    public Image Make(Image image)
    {
        Check();
        image = image.ToRgb();
        if (Resolution is { } side)
        {
            Require(side is >= Multiple and <= 8192, nameof(Resolution), side, $"{Multiple} to 8192 pixels");
            var scale = (double)side / Math.Min(image.Width, image.Height);
            var (width, height) = (Rounded(image.Width * scale), Rounded(image.Height * scale));
            Require((long)width * height <= 1 << 28, nameof(Resolution), side, $"less for an image of {image.Width}x{image.Height}");
            image = image.Resize(width, height, scale > 1 ? ResizeFilter.Lanczos : ResizeFilter.Box);
        }
        return Draw(image).ToRgb();

        static int Rounded(double side) => Math.Max(Multiple, (int)Math.Round(side / Multiple) * Multiple);
    }

    /// <summary>The condition of an RGB image, gray or RGB.</summary>
    protected abstract Image Draw(Image image);

    /// <summary>Refuses options out of range.</summary>
    protected virtual void Check() { }

    /// <summary>Refuses an option.</summary>
    /// <exception cref="PanoptesException">It does not hold.</exception>
    protected void Require(bool holds, string option, object value, string expected)
    {
        if (!holds) throw new PanoptesException($"{option} of {GetType().Name} is {value}; expected {expected}.");
    }

    /// <summary>Draws a smaller copy of a large image and brings the picture back to its size.</summary>
    private protected static Image Bounded(Image image, ResizeFilter back, Func<Image, Image> draw)
    {
        var small = Small(image);
        return ReferenceEquals(small, image) ? draw(image) : draw(small).Resize(image.Width, image.Height, back);
    }

    /// <summary>The image itself, or a smaller copy of a large one.</summary>
    private protected static Image Small(Image image)
    {
        var pixels = (long)image.Width * image.Height;
        if (pixels <= MostPixels) return image;
        var scale = Math.Sqrt((double)MostPixels / pixels);
        return image.Resize(Math.Max(1, (int)(image.Width * scale)), Math.Max(1, (int)(image.Height * scale)), ResizeFilter.Box);
    }
}

/// <summary>What some kinds of conditions are drawn from, where it is known; a caller fills in what he has.</summary>
public sealed record ConditionSources
{
    /// <summary>The keypoints of everyone in an image: x, y and visibility (0: unknown) for each of COCO's 17 or OpenPose's 18.</summary>
    public Func<Image, IReadOnlyList<IReadOnlyList<double>>>? Poses { get; init; }

    /// <summary>The class of every pixel.</summary>
    public Func<Image, ClassMap>? Classes { get; init; }

    /// <summary>How far every pixel is.</summary>
    public Func<Image, DepthMap>? Depth { get; init; }
}

/// <summary>A class for every pixel.</summary>
/// <param name="Width">Pixels a row.</param>
/// <param name="Height">Rows.</param>
/// <param name="Labels">[height, width], row by row: positions in <paramref name="Names"/>; -1 where a pixel is of no class.</param>
/// <param name="Names">What the classes are called.</param>
public sealed record ClassMap(int Width, int Height, int[] Labels, IReadOnlyList<string> Names);

/// <summary>How far everything is.</summary>
/// <param name="Width">Pixels a row.</param>
/// <param name="Height">Rows.</param>
/// <param name="Values">[height, width], row by row.</param>
/// <param name="Nearness">Whether larger values are nearer (inverse depth, as MiDaS tells it), not farther.</param>
public sealed record DepthMap(int Width, int Height, float[] Values, bool Nearness = false)
{
    /// <summary>From 0 (the farthest) to 1 (the nearest); all 0 where everything is as far.</summary>
    /// <param name="image">What the map is of.</param>
    /// <exception cref="PanoptesException">It is of another size, or holds what is no number.</exception>
    internal float[] Near(Image image)
    {
        if ((Width, Height) != (image.Width, image.Height) || Values.Length != Width * Height) throw new PanoptesException($"A depth map of {Width}x{Height} with {Values.Length} values was given; expected the image's {image.Width}x{image.Height}.");
        var (least, most) = (float.PositiveInfinity, float.NegativeInfinity);
        foreach (var value in Values)
        {
            if (!float.IsFinite(value)) throw new PanoptesException($"A depth map holds {value}; expected finite numbers.");
            (least, most) = (Math.Min(least, value), Math.Max(most, value));
        }
        var near = new float[Values.Length];
        if (most > least)
            for (var i = 0; i < near.Length; i++) near[i] = Nearness ? (float)(((double)Values[i] - least) / ((double)most - least)) : (float)(((double)most - Values[i]) / ((double)most - least));
        return near;
    }
}
