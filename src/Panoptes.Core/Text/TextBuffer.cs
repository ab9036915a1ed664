using System.Text;

namespace Panoptes.Text;

/// <summary>
/// Text as code points, each with the range [start, end) of the original text's code points that it stands for. Everything between the
/// user's string and the ids works on this: normalizers rewrite it, pre-tokenizers cut it, and offsets come out in code points.
/// </summary>
internal sealed class TextBuffer
{
    private int[] points;
    private int[] starts;
    private int[] ends;

    public TextBuffer(int capacity)
    {
        points = new int[capacity];
        starts = new int[capacity];
        ends = new int[capacity];
    }

    /// <summary>Decodes UTF-16; a lone surrogate becomes U+FFFD, as it would in any UTF-8 peer.</summary>
    public TextBuffer(string text) : this(text.Length)
    {
        for (var i = 0; i < text.Length; i++)
        {
            int c = text[i];
            if (c is >= 0xD800 and < 0xE000)
            {
                if (Rune.TryGetRuneAt(text, i, out var rune))
                {
                    c = rune.Value;
                    i++;
                }
                else
                    c = 0xFFFD;
            }
            points[Length] = c;
            starts[Length] = Length;
            ends[Length] = ++Length;
        }
    }

    public int Length { get; private set; }

    public ReadOnlySpan<int> Span => points.AsSpan(0, Length);

    public ReadOnlySpan<int> Slice(int start, int length) => points.AsSpan(start, length);

    public int this[int index]
    {
        get => points[index];
        set => points[index] = value;
    }

    public int StartOf(int index) => starts[index];

    public int EndOf(int index) => ends[index];

    public void Add(int point, int start, int end)
    {
        if (Length == points.Length)
        {
            var capacity = Math.Max(16, 2 * Length);
            Array.Resize(ref points, capacity);
            Array.Resize(ref starts, capacity);
            Array.Resize(ref ends, capacity);
        }
        points[Length] = point;
        starts[Length] = start;
        ends[Length++] = end;
    }

    /// <summary>Adds a character that stands for the same original text as character <paramref name="at"/> of <paramref name="origin"/>.</summary>
    public void Add(int point, TextBuffer origin, int at) => Add(point, origin.starts[at], origin.ends[at]);

    /// <summary>Adds a character that was not in the original: it stands where the one before it stands.</summary>
    public void Insert(int point)
    {
        if (Length == 0)
            Add(point, 0, 0);
        else
            Add(point, starts[Length - 1], ends[Length - 1]);
    }

    public void Add(TextBuffer other, int start, int length)
    {
        for (var i = start; i < start + length; i++)
            Add(other.points[i], other.starts[i], other.ends[i]);
    }

    public TextBuffer Copy(int start, int length)
    {
        var copy = new TextBuffer(length);
        Array.Copy(points, start, copy.points, 0, length);
        Array.Copy(starts, start, copy.starts, 0, length);
        Array.Copy(ends, start, copy.ends, 0, length);
        copy.Length = length;
        return copy;
    }

    public override string ToString() => UnicodeText.ToString(Span);
}

/// <summary>A stretch of a <see cref="TextBuffer"/>: text still to be tokenized, or a token that is already known (Id ≥ 0).</summary>
internal readonly record struct Piece(int Start, int Length, int Id = -1);

/// <summary>A text cut into pieces.</summary>
internal sealed record Pieces(TextBuffer Text, List<Piece> Items);
