namespace Panoptes.Text;

/// <summary>A token that is found in the text itself, before the model sees it; the fields of tokenizer.json.</summary>
internal sealed record AddedToken(int Id, string Content)
{
    /// <summary>Matches only between non-word characters.</summary>
    public bool SingleWord { get; init; }

    /// <summary>Takes the space before it along.</summary>
    public bool Lstrip { get; init; }

    /// <summary>Takes the space after it along.</summary>
    public bool Rstrip { get; init; }

    /// <summary>Is looked for in normalized text, else in the text as given.</summary>
    public bool Normalized { get; init; }

    /// <summary>Whether it is looked for in texts at all.</summary>
    public bool InText { get; init; } = true;

    /// <summary>Is left out when decoding without special tokens.</summary>
    public bool Special { get; init; }
}

/// <summary>Cuts a text at the added tokens and normalizes what lies between them.</summary>
internal sealed class AddedTokens
{
    private readonly Dictionary<string, int> ids = [];
    private readonly Dictionary<int, AddedToken> byId = [];
    private readonly Matcher raw;
    private readonly Matcher normalized;
    private readonly Normalizer? normalizer;

    public AddedTokens(IReadOnlyList<AddedToken> tokens, Normalizer? normalizer)
    {
        this.normalizer = normalizer;
        foreach (var token in tokens)
        {
            ids[token.Content] = token.Id;
            byId[token.Id] = token;
        }
        raw = new(tokens.Where(t => t.InText && !t.Normalized).Select(t => (t, new TextBuffer(t.Content).Span.ToArray())));
        normalized = new(tokens.Where(t => t.InText && t.Normalized).Select(t =>
        {
            var content = new TextBuffer(t.Content);
            return (t, (normalizer?.Apply(content) ?? content).Span.ToArray());
        }));
    }

    public IReadOnlyCollection<AddedToken> All => byId.Values;

    public int? IdOf(string token) => ids.TryGetValue(token, out var id) ? id : null;

    public AddedToken? OfId(int id) => byId.GetValueOrDefault(id);

    public Pieces Cut(TextBuffer text)
    {
        var result = new List<Piece>();
        var first = raw.Find(text, 0, text.Length);
        if (first.Count == 1 && first[0].Id < 0)
        {
            // The usual case: no added token as given.
            var whole = normalizer?.Apply(text) ?? text;
            return new(whole, normalized.Find(whole, 0, whole.Length));
        }
        var joined = new TextBuffer(text.Length + 8);
        foreach (var piece in first)
        {
            var at = joined.Length;
            if (piece.Id >= 0)
            {
                joined.Add(text, piece.Start, piece.Length);
                result.Add(piece with { Start = at });
                continue;
            }
            var part = text.Copy(piece.Start, piece.Length);
            part = normalizer?.Apply(part) ?? part;
            joined.Add(part, 0, part.Length);
            result.AddRange(normalized.Find(joined, at, part.Length));
        }
        return new(joined, result);
    }

    /// <summary>Finds tokens: the leftmost, and of those that start there the longest.</summary>
    private sealed class Matcher
    {
        private readonly Dictionary<int, List<(AddedToken Token, int[] Content)>> byFirst = [];

        public Matcher(IEnumerable<(AddedToken Token, int[] Content)> tokens)
        {
            foreach (var entry in tokens)
            {
                if (entry.Content.Length == 0)
                    continue;
                if (!byFirst.TryGetValue(entry.Content[0], out var list))
                    byFirst[entry.Content[0]] = list = [];
                list.Add(entry);
            }
            foreach (var list in byFirst.Values)
                list.Sort((a, b) => b.Content.Length.CompareTo(a.Content.Length));
        }

        public List<Piece> Find(TextBuffer buffer, int start, int length)
        {
            var result = new List<Piece>(1);
            var (end, kept) = (start + length, start);
            if (byFirst.Count > 0)
            {
                for (var i = start; i < end;)
                {
                    if (!byFirst.TryGetValue(buffer[i], out var candidates) || Match(candidates, buffer.Slice(i, end - i)) is not { } match)
                    {
                        i++;
                        continue;
                    }
                    var (from, to) = (i, i + match.Content.Length);
                    i = to;
                    if (match.Token.SingleWord && ((from > start && UnicodeText.IsWord(buffer[from - 1])) || (to < end && UnicodeText.IsWord(buffer[to]))))
                        continue;
                    if (from < kept)   // eaten by the rstrip of the one before
                        continue;
                    while (match.Token.Lstrip && from > kept && UnicodeText.IsSpace(buffer[from - 1]))
                        from--;
                    while (match.Token.Rstrip && to < end && UnicodeText.IsSpace(buffer[to]))
                        to++;
                    if (from > kept)
                        result.Add(new(kept, from - kept));
                    result.Add(new(from, to - from, match.Token.Id));
                    kept = to;
                }
            }
            if (kept < end)
                result.Add(new(kept, end - kept));
            return result;
        }

        private static (AddedToken Token, int[] Content)? Match(List<(AddedToken Token, int[] Content)> candidates, ReadOnlySpan<int> text)
        {
            foreach (var candidate in candidates)
                if (text.StartsWith(candidate.Content))
                    return candidate;
            return null;
        }
    }
}
