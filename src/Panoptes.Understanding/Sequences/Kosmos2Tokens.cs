using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Panoptes.Understanding;

/// <summary>Words of a caption and the boxes that they speak of.</summary>
/// <param name="Text">The words; of boxes that no words stand before, the tokens themselves.</param>
/// <param name="Start">Where they begin in the caption.</param>
/// <param name="End">Where they end; where they begin, if there are none.</param>
/// <param name="Boxes">As shares of the image's sides, 0 to 1.</param>
public sealed record GroundedPhrase(string Text, int Start, int End, IReadOnlyList<ImageBox> Boxes);

/// <summary>A caption without its marks, and what of it speaks of which boxes.</summary>
public sealed record GroundedCaption(string Text, IReadOnlyList<GroundedPhrase> Phrases);

/// <summary>
/// Kosmos-2's places in text (Peng et al. 2023, arXiv:2306.14824; transformers' processing_kosmos2.py): a box is the patches of its upper left and lower right corner in a grid,
/// <c>&lt;phrase&gt; a cat&lt;/phrase&gt;&lt;object&gt;&lt;patch_index_0044&gt;&lt;patch_index_0863&gt;&lt;/object&gt;</c>.
/// </summary>
/// <param name="side">Patches a side of the grid.</param>
public sealed partial class Kosmos2Tokens(int side = 32)
{
    const string Delimiter = "</delimiter_of_multi_objects/>";

    public int PatchesPerSide { get; } = side is >= 1 and <= 1024 ? side : throw new PanoptesException($"A grid of {side} patches a side was given; expected 1 to 1024.");

    /// <summary>The patches of a box's corners.</summary>
    /// <param name="box">As shares of the image's sides.</param>
    /// <exception cref="PanoptesException">The box is empty or reaches outside.</exception>
    public (int UpperLeft, int LowerRight) PatchesOf(ImageBox box)
    {
        if (!(box.Left >= 0 && box.Top >= 0 && box.Right <= 1 && box.Bottom <= 1 && box.Right > box.Left && box.Bottom > box.Top))
            throw new PanoptesException(FormattableString.Invariant($"The box ({box.Left}, {box.Top}, {box.Right}, {box.Bottom}) was given; expected left < right and top < bottom, as shares from 0 to 1."));
        return (First(box.Top) * PatchesPerSide + First(box.Left), Last(box.Bottom) * PatchesPerSide + Last(box.Right));

        int First(double v) => Math.Min((int)Math.Floor(v * PatchesPerSide), PatchesPerSide - 1);

        int Last(double v) => Math.Max((int)Math.Ceiling(v * PatchesPerSide - 1), 0);
    }

    /// <summary>The box as two tokens.</summary>
    public string OfBox(ImageBox box)
    {
        var (first, last) = PatchesOf(box);
        return string.Create(CultureInfo.InvariantCulture, $"<patch_index_{first:0000}><patch_index_{last:0000}>");
    }

    /// <summary>Words with their boxes, as the model writes them.</summary>
    public string OfPhrase(string words, IReadOnlyList<ImageBox> boxes) =>
        $"<phrase>{words}</phrase>{(boxes.Count == 0 ? "" : $"<object>{string.Join(Delimiter, boxes.Select(OfBox))}</object>")}";

    /// <summary>
    /// The box between two patches, as shares of the image's sides: from the middle of the one to the middle of the other, or, within one row or column of patches, from edge to edge.
    /// </summary>
    public ImageBox BoxOf(int upperLeft, int lowerRight)
    {
        var cell = 1.0 / PatchesPerSide;
        var ((top, left), (bottom, right)) = (Math.DivRem(upperLeft, PatchesPerSide), Math.DivRem(lowerRight, PatchesPerSide));
        var flat = left == right || top == bottom;
        var (before, after) = flat ? (0, cell) : (cell / 2, cell / 2);
        // Corners in the other order are those of the same box.
        (left, right, top, bottom) = (Math.Min(left, right), Math.Max(left, right), Math.Min(top, bottom), Math.Max(top, bottom));
        return new(left * cell + before, top * cell + before, right * cell + after, bottom * cell + after);
    }

    /// <summary>Reads what the model wrote: the caption without marks and the spaces around it, and its phrases. Boxes of patches that the grid does not have are left out.</summary>
    public GroundedCaption Parse(string text)
    {
        // Where every character comes to be once the marks are gone.
        var (clean, place) = (new StringBuilder(text.Length), new int[text.Length + 1]);
        for (var at = 0; at < text.Length;)
        {
            var end = text[at] == '<' ? text.AsSpan(at).IndexOfAny('>', '\n') : -1;
            if (end > 0 && text[at + end] == '>')
            {
                place.AsSpan(at, end + 1).Fill(clean.Length);
                at += end + 1;
                continue;
            }
            // No mark begins before that line's end, or anywhere after.
            var next = text[at] != '<' ? at + 1 : end < 0 ? text.Length : at + end;
            for (; at < next; at++)
            {
                place[at] = clean.Length;
                clean.Append(text[at]);
            }
        }
        place[^1] = clean.Length;
        var caption = clean.ToString();
        var leading = caption.Length - caption.AsSpan().TrimStart().Length;
        var trimmed = caption.Trim();
        var phrases = new List<GroundedPhrase>();
        foreach (Match match in Entity().Matches(text))
        {
            var words = match.Groups[1];
            var boxes = new List<(int First, int Last)>();
            foreach (Match pair in Pair().Matches(match.Groups[2].Value))
                if (Patch(pair.Groups[1].ValueSpan) is { } first && Patch(pair.Groups[2].ValueSpan) is { } last) boxes.Add((first, last));
            if (boxes.Count == 0) continue;
            if (!words.Success)
            {
                foreach (var (first, last) in boxes)
                {
                    var at = Math.Clamp(place[match.Index] - leading, 0, trimmed.Length);
                    phrases.Add(new(string.Create(CultureInfo.InvariantCulture, $"<patch_index_{first}><patch_index_{last}>"), at, at, [BoxOf(first, last)]));
                }
                continue;
            }
            var name = words.ValueSpan;
            var (start, end) = (place[words.Index] - leading + (name.Length - name.TrimStart().Length), place[words.Index + words.Length] - leading - (name.Length - name.TrimEnd().Length));
            start = Math.Clamp(start, 0, trimmed.Length);
            phrases.Add(new(name.Trim().ToString(), start, Math.Clamp(end, start, trimmed.Length), [.. boxes.Select(b => BoxOf(b.First, b.Last))]));
        }
        return new(trimmed, phrases);
    }

    int? Patch(ReadOnlySpan<char> digits) => int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var patch) && patch < PatchesPerSide * PatchesPerSide ? patch : null;

    // Tokens are atomic, so that a damaged text costs no more than its length.
    [GeneratedRegex(@"(?:<phrase>((?>[^<]+))</phrase>)?<object>((?:(?><patch_index_[0-9]+><patch_index_[0-9]+>)</delimiter_of_multi_objects/>)*<patch_index_[0-9]+><patch_index_[0-9]+>)</object>", RegexOptions.CultureInvariant)]
    private static partial Regex Entity();

    [GeneratedRegex("<patch_index_([0-9]+)><patch_index_([0-9]+)>", RegexOptions.CultureInvariant)]
    private static partial Regex Pair();
}
