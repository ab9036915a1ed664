using System.Globalization;
using System.Text;

namespace Panoptes.Understanding;

/// <summary>A piece of a caption, with the box that it speaks of, in pixels, or none.</summary>
public readonly record struct CaptionPiece(string Text, ImageBox? Box = null);

/// <summary>
/// UniTAB's captions with boxes (Yang et al. 2022, arXiv:2111.12085; models/unitab.py of its code): words that speak of a box stand between &lt;obj&gt; and &lt;\obj&gt;, followed by the
/// box's four bins, x before y. In ids the text's vocabulary comes first, then the two marks, then the bins.
/// </summary>
public sealed record UniTabTokens
{
    const string Open = "<obj>", Close = @"<\obj>";

    /// <summary>How many ids the text has: RoBERTa's by default.</summary>
    public int TextVocabulary { get; init; } = 50265;

    public int Bins { get; init; } = 200;

    public int OpenId => TextVocabulary;

    public int CloseId => TextVocabulary + 1;

    public int FirstBin => TextVocabulary + 2;

    public int VocabularySize => FirstBin + Bins;

    /// <summary>The bin of a place.</summary>
    public int Quantize(double pixels, int size) => (int)Math.Clamp(Understanding.Bins.Finite(pixels) / size * (Bins - 1), 0, Bins - 1);

    public double Dequantize(int bin, int size) => (double)bin / (Bins - 1) * size;

    /// <summary>xmin, ymin, xmax, ymax.</summary>
    public int[] BinsOf(ImageBox box, int width, int height)
    {
        Understanding.Bins.Check(width, height);
        return [Quantize(box.Left, width), Quantize(box.Top, height), Quantize(box.Right, width), Quantize(box.Bottom, height)];
    }

    /// <summary>The box of four bins.</summary>
    public ImageBox BoxOf(ReadOnlySpan<int> bins, int width, int height) =>
        new ImageBox(Dequantize(bins[0], width), Dequantize(bins[1], height), Dequantize(bins[2], width), Dequantize(bins[3], height)).Ordered();

    /// <summary>The caption as a text: <c>&lt;obj&gt; a donut &lt;50&gt;&lt;111&gt;&lt;75&gt;&lt;133&gt; &lt;\obj&gt; on a plate</c>.</summary>
    public string ToText(IReadOnlyList<CaptionPiece> pieces, int width, int height)
    {
        var text = new StringBuilder();
        foreach (var (words, box) in pieces)
        {
            if (box is not { } b) text.Append(words);
            else text.Append(Open).Append(' ').Append(words).Append(' ').AppendJoin("", BinsOf(b, width, height).Select(static i => string.Create(CultureInfo.InvariantCulture, $"<{i}>"))).Append(' ').Append(Close);
        }
        return text.ToString();
    }

    /// <summary>The caption as ids.</summary>
    /// <param name="words">A text's ids, without a start and an end.</param>
    public int[] Encode(IReadOnlyList<CaptionPiece> pieces, int width, int height, Func<string, int[]> words)
    {
        var ids = new List<int>();
        foreach (var (text, box) in pieces)
        {
            if (box is not null) ids.Add(OpenId);
            ids.AddRange(words(text));
            if (box is { } b) ids.AddRange([.. BinsOf(b, width, height).Select(i => FirstBin + i), CloseId]);
        }
        return [.. ids];
    }

    /// <summary>
    /// The pieces of a caption in ids. Words between the two marks have the box of the first four bins in a row before the closing one; where there are fewer, or a mark is missing, they have
    /// none. Bins elsewhere are passed over.
    /// </summary>
    /// <param name="words">The text of ids.</param>
    public IReadOnlyList<CaptionPiece> Decode(IReadOnlyList<int> ids, int width, int height, Func<int[], string> words)
    {
        Understanding.Bins.Check(width, height);
        return Assemble(ids.Where(id => id >= 0 && id < VocabularySize).Select(id => id == OpenId ? (Mark.Open, 0) : id == CloseId ? (Mark.Close, 0) : id >= FirstBin ? (Mark.Bin, id - FirstBin) : (Mark.Word, id)),
            part => words([.. part]), width, height);
    }

    /// <summary>The pieces of a caption as <see cref="ToText"/> writes it; read as <see cref="Decode"/> reads ids.</summary>
    public IReadOnlyList<CaptionPiece> Parse(string text, int width, int height)
    {
        Understanding.Bins.Check(width, height);
        return Assemble(Marks(text), part => new string([.. part.Select(static c => (char)c)]), width, height);
    }

    enum Mark
    {
        Word,
        Bin,
        Open,
        Close,
    }

    List<CaptionPiece> Assemble(IEnumerable<(Mark Kind, int Value)> tokens, Func<List<int>, string> words, int width, int height)
    {
        var (pieces, part, bins, inside) = (new List<CaptionPiece>(), new List<int>(), new List<int>(), false);
        foreach (var (kind, value) in tokens)
        {
            switch (kind)
            {
                case Mark.Word:
                    part.Add(value);
                    break;
                case Mark.Bin when inside:
                    bins.Add(value);
                    break;
                case Mark.Open or Mark.Close:
                    Flush(kind == Mark.Close);
                    inside = kind == Mark.Open;
                    break;
            }
        }
        Flush(false);
        return pieces;

        void Flush(bool closed)
        {
            var boxed = closed && inside && bins.Count >= 4;
            if (part.Count > 0 || boxed)
            {
                var text = words(part);
                pieces.Add(boxed ? new(text.Trim(), BoxOf([.. bins.Take(4)], width, height)) : new(text));
            }
            part.Clear();
            bins.Clear();
        }
    }

    IEnumerable<(Mark Kind, int Value)> Marks(string text)
    {
        for (var at = 0; at < text.Length;)
        {
            if (text.AsSpan(at).StartsWith(Open, StringComparison.Ordinal))
            {
                yield return (Mark.Open, 0);
                at += Open.Length;
            }
            else if (text.AsSpan(at).StartsWith(Close, StringComparison.Ordinal))
            {
                yield return (Mark.Close, 0);
                at += Close.Length;
            }
            else if (BinAt(text, at) is (var bin, var length))
            {
                yield return (Mark.Bin, bin);
                at += length;
            }
            else yield return (Mark.Word, text[at++]);
        }
    }

    (int Bin, int Length)? BinAt(string text, int at)
    {
        if (text[at] != '<') return null;
        var end = at + 1;
        while (end < text.Length && end - at < 10 && char.IsAsciiDigit(text[end])) end++;
        return end < text.Length && text[end] == '>' && int.TryParse(text.AsSpan(at + 1, end - at - 1), NumberStyles.None, CultureInfo.InvariantCulture, out var bin) && bin < Bins ? (bin, end + 1 - at) : null;
    }
}
