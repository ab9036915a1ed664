using System.Text.RegularExpressions;

namespace Panoptes.Text;

/// <summary>What to do with the matches of a pattern: the names of tokenizer.json.</summary>
internal enum SplitBehavior { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous }

/// <summary>Finds stretches of text, by code point.</summary>
internal abstract class SplitPattern
{
    /// <summary>Appends the matches, in order and not overlapping, to <paramref name="matches"/>.</summary>
    public abstract void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches);

    /// <summary>
    /// Cuts [0, length) along the matches of this pattern (of what lies between them if <paramref name="invert"/>) and hands the
    /// pieces that are kept to <paramref name="keep"/>.
    /// </summary>
    public void Split(ReadOnlySpan<int> text, SplitBehavior behavior, bool invert, Action<int, int> keep)
    {
        var matches = new List<(int Start, int End)>();
        FindAll(text, matches);
        if (behavior is SplitBehavior.Removed or SplitBehavior.Isolated)
        {
            // By far the most frequent, and without an intermediate list.
            var keepMatch = behavior == SplitBehavior.Isolated || invert;
            var keepRest = behavior == SplitBehavior.Isolated || !invert;
            var at = 0;
            foreach (var (start, end) in matches)
            {
                if (keepRest && start > at)
                    keep(at, start);
                if (keepMatch && end > start)
                    keep(start, end);
                at = end;
            }
            if (keepRest && at < text.Length)
                keep(at, text.Length);
            return;
        }
        var parts = new List<(int Start, int End, bool Match)>(2 * matches.Count + 1);
        var from = 0;
        foreach (var (start, end) in matches)
        {
            if (start > from)
                parts.Add((from, start, invert));
            parts.Add((start, end, !invert));
            from = end;
        }
        if (from < text.Length)
            parts.Add((from, text.Length, invert));
        Merge(parts, behavior, keep);
    }

    private static void Merge(List<(int Start, int End, bool Match)> parts, SplitBehavior behavior, Action<int, int> keep)
    {
        var merged = new List<(int Start, int End)>();
        if (behavior == SplitBehavior.MergedWithNext)
        {
            var previousMatch = false;
            for (var i = parts.Count - 1; i >= 0; i--)
            {
                var (start, end, match) = parts[i];
                if (match && !previousMatch && merged.Count > 0)
                    merged[^1] = (start, merged[^1].End);
                else
                    merged.Add((start, end));
                previousMatch = match;
            }
            merged.Reverse();
        }
        else
        {
            var previousMatch = false;
            foreach (var (start, end, match) in parts)
            {
                var join = behavior == SplitBehavior.Contiguous ? match == previousMatch : match && !previousMatch;
                if (join && merged.Count > 0)
                    merged[^1] = (merged[^1].Start, end);
                else
                    merged.Add((start, end));
                previousMatch = match;
            }
        }
        foreach (var (start, end) in merged)
            if (end > start)
                keep(start, end);
    }
}

/// <summary>Every character that fulfills a condition is a match.</summary>
internal sealed class CharacterPattern(Func<int, bool> condition) : SplitPattern
{
    public override void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches)
    {
        for (var i = 0; i < text.Length; i++)
            if (condition(text[i]))
                matches.Add((i, i + 1));
    }
}

/// <summary>A literal string.</summary>
internal sealed class LiteralPattern(string literal) : SplitPattern
{
    private readonly int[] wanted = new TextBuffer(literal).Span.ToArray();

    public override void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches)
    {
        if (wanted.Length == 0)
            return;
        for (var at = 0; text[at..].IndexOf(wanted) is >= 0 and var found; at = matches[^1].End)
            matches.Add((at + found, at + found + wanted.Length));
    }
}

/// <summary>Runs of at least <paramref name="least"/> characters that fulfill a condition: \s+ and the like.</summary>
internal sealed class RunPattern(Func<int, bool> condition, int least = 1) : SplitPattern
{
    public override void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches)
    {
        for (var i = 0; i < text.Length; i++)
        {
            var start = i;
            while (i < text.Length && condition(text[i]))
                i++;
            if (i - start >= least)
                matches.Add((start, i));
        }
    }
}

/// <summary>
/// Any other regular expression, written for Oniguruma, run by .NET. The text is shown to .NET as one UTF-16 unit a code point:
/// characters beyond the Basic Multilingual Plane are replaced by one of the same general category, so that classes like \p{L} and
/// negated classes see whole characters and positions are code points.
/// </summary>
internal sealed class RegexPattern : SplitPattern
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    private readonly Regex regex;
    private readonly string pattern;

    private RegexPattern(string pattern, Regex regex)
    {
        this.pattern = pattern;
        this.regex = regex;
    }

    /// <summary>The pattern as a hand-written scanner where it is one that models use, else as a .NET regular expression.</summary>
    /// <exception cref="PanoptesException">The expression is not one that .NET understands.</exception>
    public static SplitPattern Parse(string pattern, string source)
    {
        switch (pattern)
        {
            case ClipScanner.HuggingFacePattern:
                return new ClipScanner();
            case GptScanner.Pattern:
                return new GptScanner();
            case @"\s+":
                return new RunPattern(UnicodeText.IsSpace);
            case @"\s":
                return new CharacterPattern(UnicodeText.IsSpace);
            case " {2,}":
                return new RunPattern(c => c == ' ', 2);
        }
        if (pattern.Length > 20_000)
            throw new PanoptesException($"{source}: a regular expression has {pattern.Length} characters; at most 20,000 were expected.");
        try
        {
            // Patterns without backtracking constructs run in linear time whatever the text; the rest have a time limit a match.
            var translated = OnigurumaSyntax.Translate(pattern);
            try
            {
                return new RegexPattern(pattern, new Regex(translated, RegexOptions.CultureInvariant | RegexOptions.NonBacktracking, Limit));
            }
            catch (NotSupportedException)
            {
                return new RegexPattern(pattern, new Regex(translated, RegexOptions.CultureInvariant, Limit));
            }
        }
        catch (ArgumentException e)
        {
            throw new PanoptesException($"{source}: the regular expression {pattern} cannot be read: {e.Message}", e);
        }
    }

    public override void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches)
    {
        var shadow = string.Create(text.Length, text, static (chars, points) =>
        {
            for (var i = 0; i < chars.Length; i++)
                chars[i] = OnigurumaSyntax.Shadow(points[i]);
        });
        try
        {
            foreach (var match in regex.EnumerateMatches(shadow))
                if (match.Length > 0)
                    matches.Add((match.Index, match.Index + match.Length));
        }
        catch (RegexMatchTimeoutException e)
        {
            throw new PanoptesException($"The tokenizer's regular expression {pattern} took more than {Limit.TotalSeconds:0} s on one match.", e);
        }
    }
}
