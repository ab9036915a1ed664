using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>What a user points at, draws or says to have something found in an image. Places are in pixels of that image, from its upper left corner; any number and kind may be combined.</summary>
public abstract record Prompt
{
    private protected Prompt() { }

    /// <summary>What kind it is, for models that do not take all.</summary>
    public PromptKinds Kind => this switch
    {
        PointPrompt => PromptKinds.Points,
        BoxPrompt => PromptKinds.Boxes,
        ScribblePrompt => PromptKinds.Scribbles,
        MaskPrompt => PromptKinds.Masks,
        TextPrompt => PromptKinds.Texts,
        _ => PromptKinds.Examples,
    };

    /// <summary>A click: on the wanted thing, or (<paramref name="positive"/> false) on what is not meant.</summary>
    public static PointPrompt Point(double x, double y, bool positive = true) => new(x, y, positive);

    /// <summary>A box around the wanted thing, by its edges.</summary>
    public static BoxPrompt Box(double left, double top, double right, double bottom) => new(left, top, right, bottom);

    /// <summary>A freehand stroke over the wanted thing (or over what is not meant): the pixels that it covers, in the image's size.</summary>
    public static ScribblePrompt Scribble(RunLengthMask pixels, bool positive = true) => new(pixels, positive);

    /// <summary>A rough mask to be made better, in the image's size.</summary>
    public static MaskPrompt Mask(RunLengthMask pixels) => new(pixels);

    /// <summary>A name or a referring expression: "cat", "the red apple left of the cat".</summary>
    public static TextPrompt Text(string text) => new(text);

    /// <summary>A thing in another image: what is like it is wanted.</summary>
    public static ExamplePrompt Like(Image image, RunLengthMask pixels) => new(image, pixels);

    /// <summary>Says what is wrong with a prompt for an image of this size.</summary>
    /// <exception cref="PanoptesException">A place outside the image, a mask of another size, an empty text, box or mask.</exception>
    public abstract void Check(int width, int height);

    private protected static void Inside(double x, double y, int width, int height, string what)
    {
        // The right and lower edge belong to the image, so that a box may enclose it whole.
        if (!(x >= 0 && x <= width && y >= 0 && y <= height))
            throw new PanoptesException(FormattableString.Invariant($"{what} ({x}, {y}) is outside the image; expected x from 0 to {width} and y from 0 to {height}."));
    }

    private protected static void Covers(RunLengthMask pixels, int width, int height, string what)
    {
        if (pixels.Width != width || pixels.Height != height) throw new PanoptesException($"{what} has {pixels.Width} x {pixels.Height} pixels; expected the image's {width} x {height}.");
        if (pixels.Area == 0) throw new PanoptesException($"{what} is empty; expected at least one pixel.");
    }
}

/// <inheritdoc cref="Prompt.Point"/>
public sealed record PointPrompt(double X, double Y, bool Positive = true) : Prompt
{
    public override void Check(int width, int height) => Inside(X, Y, width, height, "The point");
}

/// <inheritdoc cref="Prompt.Box"/>
public sealed record BoxPrompt(double Left, double Top, double Right, double Bottom) : Prompt
{
    public override void Check(int width, int height)
    {
        Inside(Left, Top, width, height, "The box's upper left corner");
        Inside(Right, Bottom, width, height, "The box's lower right corner");
        if (!(Right > Left && Bottom > Top)) throw new PanoptesException(FormattableString.Invariant($"The box ({Left}, {Top}, {Right}, {Bottom}) is empty; expected left < right and top < bottom."));
    }
}

/// <inheritdoc cref="Prompt.Scribble"/>
public sealed record ScribblePrompt(RunLengthMask Pixels, bool Positive = true) : Prompt
{
    public override void Check(int width, int height) => Covers(Pixels, width, height, "The scribble");
}

/// <inheritdoc cref="Prompt.Mask"/>
public sealed record MaskPrompt(RunLengthMask Pixels) : Prompt
{
    public override void Check(int width, int height) => Covers(Pixels, width, height, "The mask");
}

/// <inheritdoc cref="Prompt.Text"/>
public sealed record TextPrompt(string Words) : Prompt
{
    public override void Check(int width, int height)
    {
        if (string.IsNullOrWhiteSpace(Words)) throw new PanoptesException("The text prompt is empty; expected a name or an expression.");
    }
}

/// <inheritdoc cref="Prompt.Like"/>
public sealed record ExamplePrompt(Image Image, RunLengthMask Pixels) : Prompt
{
    public override void Check(int width, int height) => Covers(Pixels, Image.Width, Image.Height, "The example's mask");
}

/// <summary>A part of an image that a model found.</summary>
/// <param name="Mask">Its pixels, in the image's size.</param>
/// <param name="Score">How good the model thinks it is, from 0 to 1.</param>
/// <param name="Label">What it is called, where the model says so.</param>
public sealed record Segment(RunLengthMask Mask, float Score, string? Label = null)
{
    /// <summary>The smallest box around the mask.</summary>
    public PixelBox Box => Mask.Box;
}

/// <summary>A thing that a model found by its box alone.</summary>
/// <param name="Left">In pixels; edges, not centers.</param>
/// <param name="Top">In pixels.</param>
/// <param name="Right">In pixels.</param>
/// <param name="Bottom">In pixels.</param>
/// <param name="Score">From 0 to 1.</param>
/// <param name="Label">What it is called.</param>
public sealed record Detection(float Left, float Top, float Right, float Bottom, float Score, string Label)
{
    /// <summary>What there is to be found in a scene, with the score 1.</summary>
    public static Detection[] Of(Scene scene) => [.. scene.Objects.Select(static o => new Detection(o.Box.X, o.Box.Y, o.Box.Right, o.Box.Bottom, 1, o.Name))];
}
