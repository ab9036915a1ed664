using System.Globalization;

namespace Panoptes.Understanding;

/// <summary>What Florence-2 says of one thing: its name (empty where it gives none) and its boxes or polygons, in pixels.</summary>
/// <param name="Name">As the peer has it: of boxes, in ASCII.</param>
/// <param name="Boxes">In whole pixels.</param>
/// <param name="Polygons">Each with all of its corners, in whole pixels; they may be fewer than three.</param>
public sealed record FlorencePhrase(string Name, IReadOnlyList<ImageBox> Boxes, IReadOnlyList<IReadOnlyList<ImagePoint>> Polygons);

/// <summary>Words in an image and the four corners of where they are, from the upper left one on, clockwise.</summary>
public sealed record FlorenceWords(string Text, IReadOnlyList<ImagePoint> Corners);

/// <summary>
/// Florence-2's places in text (Xiao et al. 2023, arXiv:2311.06242; transformers' Florence2PostProcessor): <c>&lt;loc_0&gt;</c> to <c>&lt;loc_999&gt;</c>, x before y, each a thousandth of the image's
/// side rounded down, and read as its bin's middle in whole pixels. What the peer says is read as the peer reads it; a place that no vocabulary has counts as words.
/// </summary>
public static class Florence2Tokens
{
    const int Count = 1000;

    /// <summary>The bin of a place.</summary>
    public static int Quantize(double pixels, int size) => (int)Math.Clamp(MathF.Floor((float)Bins.Finite(pixels) / (float)(size / (double)Count)), 0, Count - 1);

    /// <summary>The whole pixel in the middle of a bin.</summary>
    public static int Dequantize(int bin, int size) => (int)((bin + 0.5f) * (float)(size / (double)Count));

    /// <summary>xmin, ymin, xmax, ymax.</summary>
    public static int[] BinsOf(ImageBox box, int width, int height)
    {
        Bins.Check(width, height);
        return [Quantize(box.Left, width), Quantize(box.Top, height), Quantize(box.Right, width), Quantize(box.Bottom, height)];
    }

    /// <summary>The box as a text, for the tasks that ask about a region.</summary>
    public static string OfBox(ImageBox box, int width, int height) => string.Concat(BinsOf(box, width, height).Select(static b => string.Create(CultureInfo.InvariantCulture, $"<loc_{b}>")));

    public static ImageBox BoxOf(ReadOnlySpan<int> bins, int width, int height) =>
        new(Dequantize(bins[0], width), Dequantize(bins[1], height), Dequantize(bins[2], width), Dequantize(bins[3], height));

    public static ImagePoint PointOf(int x, int y, int width, int height) => new(Dequantize(x, width), Dequantize(y, height));

    /// <summary>The text without the marks of its start, end and padding.</summary>
    public static string Plain(string text) => text.Replace("<s>", "", StringComparison.Ordinal).Replace("</s>", "", StringComparison.Ordinal).Replace("<pad>", "", StringComparison.Ordinal);

    /// <summary>Names with the boxes after them ("cat&lt;loc_1&gt;…"): every run of four places or more; what remains of fewer than four is passed over.</summary>
    /// <param name="named">Whether only runs count that a name stands before; otherwise all count, and none has a name.</param>
    public static IReadOnlyList<FlorencePhrase> Boxes(string text, int width, int height, bool named = true)
    {
        Bins.Check(width, height);
        var found = new List<FlorencePhrase>();
        foreach (var (name, run) in Runs(text, polygons: false))
        {
            if (run.Count < 4 || (named && name.Length == 0)) continue;
            var boxes = Enumerable.Range(0, run.Count / 4).Select(i => BoxOf([.. run.Skip(4 * i).Take(4)], width, height)).ToArray();
            found.Add(new(named ? Name(name) : "", boxes, []));
        }
        return found;
    }

    /// <summary>Names with the polygons after them: corners in a row, <c>&lt;sep&gt;</c> between polygons, and where there are several things, <c>&lt;poly&gt;…&lt;/poly&gt;</c> around each.</summary>
    /// <param name="named">Whether only runs count that a name stands before; otherwise all count, and none has a name.</param>
    public static IReadOnlyList<FlorencePhrase> Polygons(string text, int width, int height, bool named = true)
    {
        Bins.Check(width, height);
        var found = new List<FlorencePhrase>();
        foreach (var (name, run) in Runs(text, polygons: true))
        {
            if (run.Count < 4 || (named && name.Length == 0)) continue;
            foreach (var thing in Things(run))
            {
                var polygons = new List<IReadOnlyList<ImagePoint>>();
                foreach (var corners in Split(thing))
                    if (corners.Count >= 2) polygons.Add([.. Enumerable.Range(0, corners.Count / 2).Select(i => PointOf(corners[2 * i], corners[2 * i + 1], width, height))]);
                if (polygons.Count > 0) found.Add(new(named ? name.Trim() : "", [], polygons));
            }
        }
        return found;
    }

    /// <summary>Boxes, or polygons where the text has any.</summary>
    public static IReadOnlyList<FlorencePhrase> BoxesOrPolygons(string text, int width, int height) => text.Contains("<poly>", StringComparison.Ordinal) ? Polygons(text, width, height) : Boxes(text, width, height);

    /// <summary>Words with eight places after them: four corners.</summary>
    /// <param name="leastArea">Words on a smaller share of the image are left out (the peer's own measure of it, which leaves out the last side).</param>
    public static IReadOnlyList<FlorenceWords> Words(string text, int width, int height, double leastArea = 0)
    {
        Bins.Check(width, height);
        var found = new List<FlorenceWords>();
        foreach (var (name, run) in Runs(text, polygons: false))
        {
            if (run.Count < 8 || name.Length == 0) continue;
            var corners = Enumerable.Range(0, 4).Select(i => PointOf(run[2 * i], run[2 * i + 1], width, height)).ToArray();
            var area = 0.5 * Math.Abs(Enumerable.Range(0, 3).Sum(i => corners[i].X * corners[i + 1].Y - corners[i + 1].X * corners[i].Y));
            if (leastArea <= 0 || area >= (double)width * height * leastArea) found.Add(new(name.Trim(), corners));
        }
        return found;
    }

    const int Separator = -1, Open = -2, Close = -3;

    static string Name(string text) => new([.. text.Trim().Where(char.IsAscii)]);

    /// <summary>Every run of places (and of the marks around polygons) with the words before it.</summary>
    static IEnumerable<(string Name, List<int> Run)> Runs(string text, bool polygons)
    {
        text = Plain(text);
        var (start, at) = (0, 0);
        while (at < text.Length)
        {
            if (text[at] != '<' || Place(text, at, polygons, out var value) is not (> 0 and var length))
            {
                at++;
                continue;
            }
            var (name, run) = (text[start..at], new List<int>());
            do
            {
                run.Add(value);
                at += length;
            }
            while (at < text.Length && (length = Place(text, at, polygons, out value)) > 0);
            start = at;
            yield return (Untagged(name), run);
        }
    }

    /// <summary>A name is what stands after the last tag, or after what began as one.</summary>
    static string Untagged(string name) =>
        name.LastIndexOf('<') is >= 0 and var open ? name[((name.IndexOf('>', open) is >= 0 and var close ? close : open) + 1)..] : name;

    /// <summary>The length of the place or mark at <paramref name="at"/>; 0 where there is none.</summary>
    static int Place(string text, int at, bool polygons, out int value)
    {
        value = 0;
        var rest = text.AsSpan(at);
        if (polygons)
        {
            foreach (var (mark, meaning) in (ReadOnlySpan<(string, int)>)[("<sep>", Separator), ("<poly>", Open), ("</poly>", Close)])
            {
                if (!rest.StartsWith(mark, StringComparison.Ordinal)) continue;
                value = meaning;
                return mark.Length;
            }
        }
        if (!rest.StartsWith("<loc_", StringComparison.Ordinal)) return 0;
        var end = 5;
        while (end < rest.Length && end < 12 && char.IsAsciiDigit(rest[end])) end++;
        return end > 5 && end < rest.Length && rest[end] == '>' && int.TryParse(rest[5..end], NumberStyles.None, CultureInfo.InvariantCulture, out value) && value < Count ? end + 1 : 0;
    }

    /// <summary>What stands between each opening mark and the closing one after it; all of it where there is no such pair.</summary>
    static List<List<int>> Things(List<int> run)
    {
        if (!run.Contains(Open) || !run.Contains(Close)) return [run];
        var (things, thing) = (new List<List<int>>(), (List<int>?)null);
        foreach (var token in run)
        {
            if (token == Open) thing ??= [];
            else if (token == Close && thing is not null)
            {
                things.Add(thing);
                thing = null;
            }
            else if (token != Close) thing?.Add(token);
        }
        return things;
    }

    static IEnumerable<List<int>> Split(List<int> thing)
    {
        var corners = new List<int>();
        foreach (var token in thing.Append(Separator))
        {
            if (token >= 0) corners.Add(token);
            else
            {
                yield return corners;
                corners = [];
            }
        }
    }
}
