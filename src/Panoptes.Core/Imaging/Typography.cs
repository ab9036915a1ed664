using System.Text;
using SkiaSharp;

namespace Panoptes.Imaging;

/// <summary>
/// Text in the one font that is always there: Inter (SIL Open Font License 1.1), embedded in this library, because a bare machine has
/// no fonts at all. Characters that it lacks are looked for in the system's fonts, where there are any.
/// </summary>
static class Typography
{
    public const string Family = "Inter";

    static readonly Lazy<SKTypeface> RegularFace = new(() => Read("Inter-Regular.otf"));
    static readonly Lazy<SKTypeface> SemiBoldFace = new(() => Read("Inter-SemiBold.otf"));

    public static SKTypeface Regular => RegularFace.Value;

    public static SKTypeface SemiBold => SemiBoldFace.Value;

    public static SKFont Font(float size, bool bold = false) => new(bold ? SemiBold : Regular, size)
    {
        Edging = SKFontEdging.Antialias,
        Hinting = SKFontHinting.None,
        Subpixel = true,
        LinearMetrics = true,
    };

    static SKTypeface Read(string name)
    {
        using var stream = typeof(Typography).Assembly.GetManifestResourceStream($"Panoptes.Imaging.Fonts.{name}")
            ?? throw new InvalidOperationException($"The embedded font {name} is missing.");
        return SKTypeface.FromStream(stream);
    }

    /// <summary>Lines no wider than <paramref name="width"/>, broken at spaces and, where a word is too long, inside it; what does not fit in <paramref name="maxLines"/> ends in an ellipsis.</summary>
    public static List<string> Wrap(string text, SKFont font, float width, int maxLines = int.MaxValue)
    {
        var lines = new List<string>();
        foreach (var paragraph in text.ReplaceLineEndings("\n").Split('\n'))
        {
            var line = new StringBuilder();
            foreach (var word in paragraph.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                if (line.Length > 0 && Width($"{line} {word}", font) <= width)
                {
                    line.Append(' ').Append(word);
                    continue;
                }
                if (line.Length > 0) Flush();
                var rest = word;
                while (Width(rest, font) > width && Fitting(rest, font, width) is var fit && fit < rest.Length)
                {
                    lines.Add(rest[..fit]);
                    rest = rest[fit..];
                }
                line.Append(rest);
            }
            if (line.Length > 0 || paragraph.Length == 0) Flush();

            void Flush()
            {
                lines.Add(line.ToString());
                line.Clear();
            }
        }
        if (lines.Count <= maxLines) return lines;
        lines.RemoveRange(maxLines, lines.Count - maxLines);
        var last = lines[^1];
        while (last.Length > 0 && Width(last + "…", font) > width) last = last[..^(char.IsLowSurrogate(last[^1]) ? 2 : 1)];
        lines[^1] = last.TrimEnd() + "…";
        return lines;
    }

    static int Fitting(string text, SKFont font, float width)
    {
        var count = 0;
        foreach (var rune in text.EnumerateRunes())
        {
            if (count > 0 && Width(text[..(count + rune.Utf16SequenceLength)], font) > width) break;
            count += rune.Utf16SequenceLength;
        }
        return count;
    }

    public static float Width(string text, SKFont font)
    {
        var width = 0f;
        foreach (var (part, face) in Runs(text, font.Typeface))
        {
            using var own = ReferenceEquals(face, font.Typeface) ? null : new SKFont(face, font.Size);
            width += (own ?? font).MeasureText(part);
        }
        return width;
    }

    /// <summary>Draws one line with its baseline at <paramref name="y"/>; <paramref name="align"/> is 0 for left, 0.5 for the middle, 1 for right of <paramref name="x"/>.</summary>
    public static void Draw(SKCanvas canvas, string text, float x, float y, SKFont font, SKPaint paint, float align = 0)
    {
        if (align > 0) x -= Width(text, font) * align;
        foreach (var (part, face) in Runs(text, font.Typeface))
        {
            using var own = ReferenceEquals(face, font.Typeface) ? null : new SKFont(face, font.Size) { Edging = font.Edging, Subpixel = true };
            canvas.DrawText(part, x, y, own ?? font, paint);
            x += (own ?? font).MeasureText(part);
        }
    }

    static List<(string Text, SKTypeface Face)> Runs(string text, SKTypeface main)
    {
        var runs = new List<(string, SKTypeface)>();
        if (main.ContainsGlyphs(text) || text.Length == 0)
        {
            runs.Add((text, main));
            return runs;
        }
        var run = new StringBuilder();
        var face = main;
        foreach (var rune in text.EnumerateRunes())
        {
            var next = main.ContainsGlyph(rune.Value) ? main : SKFontManager.Default.MatchCharacter(rune.Value) ?? main;
            if (!ReferenceEquals(next, face) && run.Length > 0)
            {
                runs.Add((run.ToString(), face));
                run.Clear();
            }
            face = next;
            run.Append(rune.ToString());
        }
        if (run.Length > 0) runs.Add((run.ToString(), face));
        return runs;
    }
}
