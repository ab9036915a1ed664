using System.Globalization;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Understanding;

namespace Panoptes.Cli;

/// <summary>Prompts as they are written on a command line.</summary>
static class PromptParser
{
    /// <summary>A point: <c>x,y</c>, or <c>x,y,-</c> for one that is not meant.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static PointPrompt Point(string text)
    {
        var parts = text.Split(',');
        if (parts.Length is 2 or 3 && Number(parts[0]) is { } x && Number(parts[1]) is { } y && (parts.Length == 2 || parts[2].Trim() is "+" or "-"))
            return Prompt.Point(x, y, parts.Length == 2 || parts[2].Trim() == "+");
        throw new UsageException($"The point '{text}' is none; expected x,y in pixels, with ,- behind it for what is not meant (such as 120,80 or 40,40,-).");
    }

    /// <summary>A box: <c>left,top,right,bottom</c>.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static BoxPrompt Box(string text)
    {
        double?[] edges = [.. text.Split(',').Select(Number)];
        if (edges is [{ } left, { } top, { } right, { } bottom]) return Prompt.Box(left, top, right, bottom);
        throw new UsageException($"The box '{text}' is none; expected left,top,right,bottom in pixels (such as 20,30,200,180).");
    }

    /// <summary>The pixels of a mask or a scribble: those of an image that are bright and not transparent.</summary>
    /// <exception cref="PanoptesException">The file is missing or no image.</exception>
    public static RunLengthMask Pixels(string path)
    {
        var image = Image.Load(path);
        var gray = (image.HasAlpha ? image.ToRgb(new Rgb(0, 0, 0)) : image).ToGray();
        var marks = new byte[gray.Pixels.Length];
        for (var i = 0; i < marks.Length; i++) marks[i] = (byte)(gray.Pixels[i] >= 128 ? 1 : 0);
        return RunLengthMask.Encode(marks, image.Height, image.Width);
    }

    /// <summary>An example: <c>OTHER.png:MASK.png</c>.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    /// <exception cref="PanoptesException">A file is missing or no image.</exception>
    public static ExamplePrompt Like(string text)
    {
        // The last colon: a drive's name may hold one before.
        var colon = text.LastIndexOf(':');
        if (colon <= 0 || colon == text.Length - 1) throw new UsageException($"The example '{text}' is none; expected an image and its mask as OTHER.png:MASK.png.");
        return Prompt.Like(Image.Load(text[..colon]), Pixels(text[(colon + 1)..]));
    }

    /// <summary>The same, or an image alone, all of which is the thing.</summary>
    /// <inheritdoc cref="Like" path="/exception"/>
    public static ExamplePrompt WholeOrLike(string text)
    {
        if (!File.Exists(text)) return Like(text);
        var image = Image.Load(text);
        return Prompt.Like(image, RunLengthMask.FromRuns(image.Height, image.Width, [0, checked(image.Width * image.Height)]));
    }

    static double? Number(string text) => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var value) && double.IsFinite(value) ? value : null;
}
