namespace Panoptes.Text;

/// <summary>Cuts text into words: the pre-tokenizers of tokenizer.json.</summary>
internal abstract class PreTokenizer
{
    public abstract Pieces Apply(Pieces pieces);
}

internal sealed class PreTokenizerSequence(IReadOnlyList<PreTokenizer> steps) : PreTokenizer
{
    public override Pieces Apply(Pieces pieces)
    {
        foreach (var step in steps)
            pieces = step.Apply(pieces);
        return pieces;
    }
}

/// <summary>Splits along a pattern.</summary>
internal sealed class SplitPreTokenizer(SplitPattern pattern, SplitBehavior behavior, bool invert) : PreTokenizer
{
    public override Pieces Apply(Pieces pieces)
    {
        var result = new List<Piece>(pieces.Items.Count + 16);
        foreach (var piece in pieces.Items)
        {
            if (piece.Id >= 0)
                result.Add(piece);
            else
                pattern.Split(pieces.Text.Slice(piece.Start, piece.Length), behavior, invert, (start, end) => result.Add(new(piece.Start + start, end - start)));
        }
        return pieces with { Items = result };
    }
}

/// <summary>Gives words that are spelled like a token its id: special tokens that count only where they are a word of their own.</summary>
internal sealed class KnownWordsPreTokenizer(params (string Word, int Id)[] words) : PreTokenizer
{
    private readonly (int[] Word, int Id)[] known = [.. words.Select(w => (new TextBuffer(w.Word).Span.ToArray(), w.Id))];

    public override Pieces Apply(Pieces pieces)
    {
        for (var i = 0; i < pieces.Items.Count; i++)
            foreach (var (word, id) in known)
                if (pieces.Items[i].Id < 0 && pieces.Text.Slice(pieces.Items[i].Start, pieces.Items[i].Length).SequenceEqual(word))
                    pieces.Items[i] = pieces.Items[i] with { Id = id };
        return pieces;
    }
}

/// <summary>GPT-2's: a space may be put in front, words are found, bytes are spelled as characters.</summary>
internal sealed class ByteLevelPreTokenizer(bool addPrefixSpace, bool useRegex) : PreTokenizer
{
    private readonly GptScanner scanner = new();

    public override Pieces Apply(Pieces pieces)
    {
        var text = new TextBuffer(pieces.Text.Length + pieces.Text.Length / 4 + 4);
        var result = new List<Piece>(pieces.Items.Count + 16);
        var matches = new List<(int Start, int End)>();
        foreach (var piece in pieces.Items)
        {
            if (piece.Id >= 0)
            {
                result.Add(new(text.Length, piece.Length, piece.Id));
                text.Add(pieces.Text, piece.Start, piece.Length);
                continue;
            }
            var (origin, start, length) = (pieces.Text, piece.Start, piece.Length);
            if (addPrefixSpace && length > 0 && origin[start] != ' ')
            {
                var spaced = new TextBuffer(length + 1);
                spaced.Add(' ', origin, start);
                spaced.Add(origin, start, length);
                (origin, start, length) = (spaced, 0, length + 1);
            }
            matches.Clear();
            if (useRegex)
                scanner.FindAll(origin.Slice(start, length), matches);
            else
                matches.Add((0, length));
            foreach (var (from, to) in matches)
            {
                var at = text.Length;
                ByteAlphabet.Spell(origin, start + from, to - from, text);
                if (text.Length > at)
                    result.Add(new(at, text.Length - at));
            }
        }
        return new(text, result);
    }
}

/// <summary>SentencePiece's: spaces become ▁, one is put in front, words start at it.</summary>
internal sealed class MetaspacePreTokenizer(int replacement, MetaspacePrefix prefix, bool split) : PreTokenizer
{
    public override Pieces Apply(Pieces pieces)
    {
        var text = new TextBuffer(pieces.Text.Length + pieces.Items.Count);
        var result = new List<Piece>(pieces.Items.Count + 16);
        var words = new CharacterPattern(c => c == replacement);
        foreach (var piece in pieces.Items)
        {
            var start = text.Length;
            if (piece.Id >= 0)
            {
                text.Add(pieces.Text, piece.Start, piece.Length);
                result.Add(piece with { Start = start });
                continue;
            }
            if (piece.Length > 0 && pieces.Text[piece.Start] is var first && first != ' ' && first != replacement
                && (prefix == MetaspacePrefix.Always || (prefix == MetaspacePrefix.First && pieces.Text.StartOf(piece.Start) == 0)))
                text.Add(replacement, pieces.Text, piece.Start);
            for (var i = piece.Start; i < piece.Start + piece.Length; i++)
                text.Add(pieces.Text[i] == ' ' ? replacement : pieces.Text[i], pieces.Text, i);
            if (split)
                words.Split(text.Slice(start, text.Length - start), SplitBehavior.MergedWithNext, false, (from, to) => result.Add(new(start + from, to - from)));
            else if (text.Length > start)
                result.Add(new(start, text.Length - start));
        }
        return new(text, result);
    }
}

/// <summary>Where Metaspace puts a ▁ that is not in the text.</summary>
internal enum MetaspacePrefix { Always, First, Never }
