namespace Panoptes.Data;

/// <summary>The colors that have a name.</summary>
public enum SceneColor
{
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Brown,
    Black,
    White,
    Gray,
}

/// <summary>
/// Which color a drawing has, where nobody would doubt it: of its pixels at least six in ten are of that color, and fewer than two in ten of any other. Colors have gaps between
/// them (between orange and yellow, between blue and purple …), whose pixels are of none.
/// </summary>
sealed class DrawingColors(EmojiSet set)
{
    const int Count = 11, Opaque = 128;

    const float Most = 0.6f, Few = 0.2f, None = 0.15f;

    internal static readonly string[] Names = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray"];

    readonly float[]?[] shares = new float[]?[set.Images.Count];

    /// <summary>The color of a drawing; null where there is doubt.</summary>
    internal SceneColor? Of(int image)
    {
        var (of, best) = (Shares(image), -1);
        for (var c = 0; c < Count; c++)
        {
            if (of[c] >= Most) best = c;
            else if (of[c] >= Few) return null;
        }
        return best < 0 ? null : (SceneColor)best;
    }

    /// <summary>Whether a drawing is clearly not of a color: it has another one, or hardly a pixel that could be taken for it.</summary>
    internal bool IsNot(int image, SceneColor color) => Of(image) is { } other ? other != color : Shares(image)[(int)color] + Shares(image)[Count] <= None;

    /// <summary>The share of each color, and last that of none.</summary>
    float[] Shares(int image)
    {
        if (Volatile.Read(ref shares[image]) is { } known) return known;
        var (counts, all) = (new int[Count + 1], 0);
        var pixels = set.Pixels(image);
        for (var i = 0; i < pixels.Length; i += 4)
        {
            if (pixels[i + 3] < Opaque) continue;
            counts[Name(pixels[i], pixels[i + 1], pixels[i + 2]) is { } color ? (int)color : Count]++;
            all++;
        }
        var found = new float[Count + 1];
        for (var c = 0; c <= Count; c++) found[c] = all == 0 ? 0 : (float)counts[c] / all;
        Volatile.Write(ref shares[image], found);
        return found;
    }

    /// <summary>The color of a pixel; null in the gaps. By hue (degrees), saturation and value of HSV.</summary>
    internal static SceneColor? Name(byte red, byte green, byte blue)
    {
        var (most, least) = (Math.Max(red, Math.Max(green, blue)), Math.Min(red, Math.Min(green, blue)));
        var (value, chroma) = (most / 255f, (most - least) / 255f);
        if (value < 0.2f) return SceneColor.Black;
        var saturation = chroma / value;
        if (saturation < 0.12f) return value > 0.88f ? SceneColor.White : value is > 0.32f and < 0.76f ? SceneColor.Gray : null;
        if (saturation < 0.28f || value < 0.3f) return null;
        var hue = 60 * (most == red ? (green - blue) / 255f / chroma : most == green ? 2 + ((blue - red) / 255f / chroma) : 4 + ((red - green) / 255f / chroma));
        if (hue < 0) hue += 360;
        if (hue is >= 12 and <= 42 && value is >= 0.3f and <= 0.62f) return SceneColor.Brown;
        if (hue is >= 310 or < 8 && value >= 0.8f && saturation < 0.5f) return SceneColor.Pink;
        if (value < 0.4f) return null;
        return hue switch
        {
            >= 350 or < 10 => saturation >= 0.55f ? SceneColor.Red : null,
            >= 22 and < 40 => value >= 0.78f && saturation >= 0.55f ? SceneColor.Orange : null,
            >= 46 and < 66 => value >= 0.7f && saturation >= 0.4f ? SceneColor.Yellow : null,
            >= 80 and < 165 => SceneColor.Green,
            >= 195 and < 248 => SceneColor.Blue,
            >= 262 and < 300 => SceneColor.Purple,
            >= 312 and < 342 => value >= 0.6f ? SceneColor.Pink : null,
            _ => null,
        };
    }
}
