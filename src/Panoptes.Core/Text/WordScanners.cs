namespace Panoptes.Text;

/// <summary>
/// CLIP's split of a text into words, written out: contractions, runs of letters, single numbers, runs of everything else but space.
/// </summary>
/// <param name="specials">Literals that are words as they stand, tried first.</param>
/// <param name="ignoreCase">Whether contractions and literals match as open_clip's do, which only matters for U+017F: its case folds to s.</param>
internal sealed class ClipScanner(string[] specials, bool ignoreCase) : SplitPattern
{
    public const string HuggingFacePattern = @"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

    public ClipScanner() : this(["<|startoftext|>", "<|endoftext|>"], false) { }

    public override void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches)
    {
        for (var i = 0; i < text.Length;)
        {
            var c = text[i];
            var length = c switch
            {
                '<' => Special(text[i..]),
                '\'' => Contraction(text[i..], ignoreCase),
                _ => 0,
            };
            if (length > 0)
            {
                matches.Add((i, i + length));
                i += length;
                continue;
            }
            if (UnicodeText.IsSpace(c) || IsLost(c))
            {
                i++;
                continue;
            }
            var start = i++;
            if (UnicodeText.IsLetter(c))
                while (i < text.Length && UnicodeText.IsLetter(text[i]))
                    i++;
            else if (!UnicodeText.IsNumber(c))
                while (i < text.Length && IsOther(text[i]) && !IsLost(text[i]))
                    i++;
            matches.Add((start, i));
        }
    }

    /// <summary>U+0345 is a mark whose case folds to a letter: ignoring case, the peer's classes of letters and of non-letters both miss it.</summary>
    private bool IsLost(int c) => ignoreCase && c == 0x345;

    private int Special(ReadOnlySpan<int> text)
    {
        foreach (var special in specials)
        {
            var same = text.Length >= special.Length;
            for (var i = 0; same && i < special.Length; i++)
                same = text[i] == special[i] || (ignoreCase && Fold(text[i]) == Fold(special[i]));
            if (same)
                return special.Length;
        }
        return 0;
    }

    private static int Fold(int c) => c == 0x17F ? 's' : UnicodeText.ToLower(c);

    /// <summary>The length of 's, 't, 're, 've, 'm, 'll or 'd at the start of the text, else 0.</summary>
    public static int Contraction(ReadOnlySpan<int> text, bool ignoreCase)
    {
        if (text.Length < 2)
            return 0;
        var first = ignoreCase ? Fold(text[1]) : text[1];
        if (first is 's' or 't' or 'm' or 'd')
            return 2;
        if (text.Length < 3)
            return 0;
        var second = ignoreCase ? Fold(text[2]) : text[2];
        return (first is 'r' or 'v' && second == 'e') || (first == 'l' && second == 'l') ? 3 : 0;
    }

    public static bool IsOther(int c) => !UnicodeText.IsSpace(c) && !UnicodeText.IsLetter(c) && !UnicodeText.IsNumber(c);
}

/// <summary>GPT-2's split into words, which every ByteLevel pre-tokenizer has built in: words keep the one space before them.</summary>
internal sealed class GptScanner : SplitPattern
{
    public const string Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    public override void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches)
    {
        for (var i = 0; i < text.Length;)
        {
            var start = i;
            if (text[i] == '\'' && ClipScanner.Contraction(text[i..], false) is > 0 and var length)
                i += length;
            else
            {
                var at = text[i] == ' ' && i + 1 < text.Length ? i + 1 : i;
                if (UnicodeText.IsLetter(text[at]))
                    for (i = at; i < text.Length && UnicodeText.IsLetter(text[i]);)
                        i++;
                else if (UnicodeText.IsNumber(text[at]))
                    for (i = at; i < text.Length && UnicodeText.IsNumber(text[i]);)
                        i++;
                else if (!UnicodeText.IsSpace(text[at]))
                    for (i = at; i < text.Length && ClipScanner.IsOther(text[i]);)
                        i++;
                else
                {
                    while (i < text.Length && UnicodeText.IsSpace(text[i]))
                        i++;
                    // \s+(?!\S) leaves the last space to the word that follows.
                    if (i < text.Length && i - start > 1)
                        i--;
                }
            }
            matches.Add((start, i));
        }
    }
}
