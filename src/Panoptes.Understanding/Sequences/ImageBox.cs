namespace Panoptes.Understanding;

/// <summary>A box by its edges, in pixels of an image or as shares of its sides.</summary>
public readonly record struct ImageBox(double Left, double Top, double Right, double Bottom)
{
    /// <summary>The same with its corners in order, for a sequence that names them in another. (Not a property: those are printed.)</summary>
    public ImageBox Ordered() => new(Math.Min(Left, Right), Math.Min(Top, Bottom), Math.Max(Left, Right), Math.Max(Top, Bottom));

    /// <summary>The part within an image.</summary>
    public ImageBox Within(double width, double height) => new(Math.Clamp(Left, 0, width), Math.Clamp(Top, 0, height), Math.Clamp(Right, 0, width), Math.Clamp(Bottom, 0, height));

    /// <summary>Every edge times its axis' factor.</summary>
    public ImageBox Scaled(double x, double y) => new(Left * x, Top * y, Right * x, Bottom * y);

    /// <summary>The box with what it is called and how sure that is.</summary>
    public Detection Named(string label, double score = 1) => new((float)Left, (float)Top, (float)Right, (float)Bottom, (float)score, label);
}

/// <summary>A place in an image, in pixels.</summary>
public readonly record struct ImagePoint(double X, double Y);

/// <summary>A named place of a thing.</summary>
/// <param name="X">In pixels.</param>
/// <param name="Y">In pixels.</param>
/// <param name="Visibility">COCO's: 0 not there (the place says nothing), 1 hidden, 2 seen.</param>
public readonly record struct Keypoint(double X, double Y, int Visibility);

/// <summary>What the token schemes share: numbers become one of so many bins.</summary>
static class Bins
{
    /// <summary>A size to divide places by.</summary>
    /// <exception cref="PanoptesException">No pixel.</exception>
    internal static void Check(int width, int height)
    {
        if (width < 1 || height < 1) throw new PanoptesException($"An image of {width}x{height} pixels was given; expected at least 1x1.");
    }

    /// <exception cref="PanoptesException">Not a number.</exception>
    internal static double Finite(double v) => double.IsFinite(v) ? v : throw new PanoptesException($"A place of {v} was given; expected a number of pixels.");
}
