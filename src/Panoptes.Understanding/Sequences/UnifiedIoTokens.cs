using System.Globalization;
using System.Text;

namespace Panoptes.Understanding;

/// <summary>A box and the name that stands after it in a sequence.</summary>
public readonly record struct NamedBox(ImageBox Box, string Name);

/// <summary>
/// Unified-IO's places in text (Lu et al. 2022, arXiv:2206.08916; uio/utils.py of its code): a T5 vocabulary's extra ids stand for bins, a thousand by default, of the image padded to a square. y comes
/// before x. A bin is decoded to its upper edge, as that code does.
/// </summary>
public sealed record UnifiedIoTokens
{
    const string Before = "<extra_id_";

    /// <summary>How many bins there are.</summary>
    public int Count { get; init; } = 1000;

    /// <summary>The extra id of bin 0: 100, and 200 in Unified-IO 2.</summary>
    public int FirstExtraId { get; init; } = 100;

    /// <summary>The bin of a place.</summary>
    /// <param name="pixels">From the upper or left edge.</param>
    /// <param name="side">The longer side of the image.</param>
    public int Quantize(double pixels, int side) => (int)Math.Clamp(Bins.Finite(pixels) / side * (Count - 1), 0, Count - 1);

    /// <summary>The place that a bin means, in pixels.</summary>
    public double Dequantize(int bin, int side) => (double)(bin + 1) / Count * side;

    /// <summary>A bin's token.</summary>
    public string Token(int bin) => string.Create(CultureInfo.InvariantCulture, $"{Before}{FirstExtraId + bin}>");

    /// <summary>The four bins ymin, xmin, ymax, xmax.</summary>
    public int[] BinsOf(ImageBox box, int width, int height)
    {
        Bins.Check(width, height);
        var side = Math.Max(width, height);
        return [Quantize(box.Top, side), Quantize(box.Left, side), Quantize(box.Bottom, side), Quantize(box.Right, side)];
    }

    public string OfBox(ImageBox box, int width, int height) => string.Join(' ', BinsOf(box, width, height).Select(Token));

    /// <summary>Every box with its name after it.</summary>
    public string OfObjects(IReadOnlyList<NamedBox> objects, int width, int height) => string.Join(' ', objects.Select(o => $"{OfBox(o.Box, width, height)} {o.Name}"));

    /// <summary>y, x and the visibility + 1 of every keypoint; one that is not there has bins 0.</summary>
    public string OfKeypoints(IReadOnlyList<Keypoint> points, int width, int height)
    {
        Bins.Check(width, height);
        var side = Math.Max(width, height);
        return string.Join(' ', points.Select(p => p.Visibility == 0 ? $"{Token(0)} {Token(0)} 1"
            : string.Create(CultureInfo.InvariantCulture, $"{Token(Quantize(p.Y, side))} {Token(Quantize(p.X, side))} {p.Visibility + 1}")));
    }

    /// <summary>The box of four bins, as the peer's code has it: it may reach past an image's shorter side by a bin.</summary>
    public ImageBox BoxOf(ReadOnlySpan<int> bins, int width, int height)
    {
        Bins.Check(width, height);
        var side = Math.Max(width, height);
        return new(Dequantize(bins[1], side), Dequantize(bins[0], side), Dequantize(bins[3], side), Dequantize(bins[2], side));
    }

    /// <summary>
    /// The boxes of a text, each with the words up to the next place. Four places in a row are a box; fewer are passed over, and so are words that no box is before. What lies outside
    /// the image is cut off.
    /// </summary>
    public IReadOnlyList<NamedBox> Objects(string text, int width, int height)
    {
        Bins.Check(width, height);
        var objects = new List<NamedBox>();
        var (bins, words, box) = (new List<int>(), new StringBuilder(), (ImageBox?)null);
        foreach (var (bin, piece) in Pieces(text))
        {
            if (bin is { } b)
            {
                if (box is not null) Close();
                bins.Add(b);
                if (bins.Count < 4) continue;
                box = BoxOf([.. bins], width, height).Ordered().Within(width, height);
                bins.Clear();
            }
            else if (!string.IsNullOrWhiteSpace(piece))
            {
                bins.Clear();
                if (box is not null) words.Append(piece);
            }
        }
        if (box is not null) Close();
        return objects;

        void Close()
        {
            objects.Add(new(box!.Value, words.ToString().Trim()));
            (box, bins) = (null, []);
            words.Clear();
        }
    }

    /// <summary>The keypoints of a text: two places and a digit from 1 to 3 each; what is written otherwise is passed over.</summary>
    public IReadOnlyList<Keypoint> Keypoints(string text, int width, int height)
    {
        Bins.Check(width, height);
        var (side, points, bins) = (Math.Max(width, height), new List<Keypoint>(), new List<int>());
        foreach (var (bin, piece) in Pieces(text))
        {
            if (bin is { } b) bins.Add(b);
            else if (!string.IsNullOrWhiteSpace(piece))
            {
                var word = piece.AsSpan().Trim();
                if (bins.Count >= 2 && word.Length > 0 && word[0] is >= '1' and <= '3')
                    points.Add(word[0] == '1' ? default : new(Math.Min(Dequantize(bins[^1], side), width), Math.Min(Dequantize(bins[^2], side), height), word[0] - '1'));
                bins.Clear();
            }
        }
        return points;
    }

    /// <summary>The text cut into places (a bin) and what stands between them (no bin).</summary>
    IEnumerable<(int? Bin, string Text)> Pieces(string text)
    {
        var start = 0;
        for (var at = 0; at < text.Length && (at = text.IndexOf(Before, at, StringComparison.Ordinal)) >= 0;)
        {
            var end = at + Before.Length;
            while (end < text.Length && char.IsAsciiDigit(text[end])) end++;
            if (end < text.Length && text[end] == '>' && int.TryParse(text.AsSpan(at + Before.Length, end - at - Before.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var id)
                && id >= FirstExtraId && id - FirstExtraId < Count)
            {
                if (at > start) yield return (null, text[start..at]);
                yield return (id - FirstExtraId, "");
                start = end + 1;
            }
            at = end;
        }
        if (start < text.Length) yield return (null, text[start..]);
    }
}
