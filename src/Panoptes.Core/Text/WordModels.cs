using System.Runtime.InteropServices;

namespace Panoptes.Text;

/// <summary>A word is a token or unknown.</summary>
internal sealed class WordLevelModel(Dictionary<string, int> vocabulary, string? unkToken, string source) : TokenModel(vocabulary, source)
{
    private readonly int unknown = unkToken is null ? -1 : vocabulary.GetValueOrDefault(unkToken, -1);

    public override void Tokenize(ReadOnlySpan<int> word, List<ModelToken> result)
    {
        if (!word.IsEmpty && (IdOf(UnicodeText.ToString(word)) ?? unknown) is >= 0 and var id)
            result.Add(new(id, 0, word.Length));
    }
}

/// <summary>
/// BERT's word pieces (Wu et al. 2016, arXiv:1609.08144): from the left always the longest piece that the vocabulary has; a word that cannot be cut so is
/// unknown as a whole.
/// </summary>
internal sealed class WordPieceModel : TokenModel
{
    private readonly string prefix;
    private readonly int longestWord;
    private readonly int longestPiece;
    private readonly int unknown;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> lookup;
    private readonly WordCache cache = new();

    public WordPieceModel(Dictionary<string, int> vocabulary, string unkToken, string prefix, int longestWord, string source) : base(vocabulary, source)
    {
        this.prefix = prefix;
        this.longestWord = longestWord;
        unknown = vocabulary.TryGetValue(unkToken, out var id) ? id : throw new PanoptesException($"{source}: the vocabulary lacks the unknown token \"{unkToken}\".");
        longestPiece = vocabulary.Keys.Max(k => k.Length);
        lookup = vocabulary.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    public override void Tokenize(ReadOnlySpan<int> word, List<ModelToken> result)
    {
        if (word.IsEmpty)
            return;
        if (word.Length > longestWord)
        {
            result.Add(new(unknown, 0, word.Length));
            return;
        }
        uint slot = 0;
        if (word.Length <= WordCache.LongestWord && cache.Find(word, out slot) is { } known)
        {
            result.AddRange(known.AsSpan());
            return;
        }
        var count = result.Count;
        Cut(word, result);
        if (word.Length <= WordCache.LongestWord)
            cache.Keep(slot, word, AsSpan(result)[count..]);
    }

    private void Cut(ReadOnlySpan<int> word, List<ModelToken> result)
    {
        // The word as UTF-16 behind the prefix, so that both first and later pieces are slices of it.
        var text = new System.Text.StringBuilder(prefix, prefix.Length + 2 * word.Length);
        var unitOf = new int[word.Length + 1];
        for (var i = 0; i < word.Length; i++)
        {
            unitOf[i] = text.Length;
            text.Append(new System.Text.Rune(word[i]).ToString());
        }
        unitOf[word.Length] = text.Length;
        var units = text.ToString().ToCharArray().AsSpan();
        var from = result.Count;
        for (var start = 0; start < word.Length;)
        {
            var first = unitOf[start] - (start == 0 ? 0 : prefix.Length);
            if (start > 0)
                prefix.CopyTo(units[first..]);   // what stood there has been cut already
            var end = Math.Min(word.Length, start + longestPiece);
            var id = -1;
            for (; end > start; end--)
            {
                if (unitOf[end] - first <= longestPiece && lookup.TryGetValue(units[first..unitOf[end]], out id))
                    break;
            }
            if (end == start)
            {
                CollectionsMarshal.SetCount(result, from);
                result.Add(new(unknown, 0, word.Length));
                return;
            }
            result.Add(new(id, start, end));
            start = end;
        }
    }
}

/// <summary>
/// SentencePiece's unigram model (Kudo 2018, arXiv:1804.10959): of all ways to cut a text into pieces the one with the largest sum of
/// log probabilities, found by Viterbi's algorithm over a trie.
/// </summary>
internal sealed class UnigramModel : TokenModel
{
    private const double UnknownPenalty = 10;

    private readonly double[] scores;
    private readonly int unknown;
    private readonly double unknownScore;
    private readonly bool fuseUnk;
    private readonly int?[]? byteTokens;
    private readonly Dictionary<long, int> children = [];   // (node, character) -> node
    private readonly List<int> pieceOfNode = [-1];

    public UnigramModel(IReadOnlyList<(string Piece, double Score)> pieces, int? unkId, bool byteFallback, string source)
        : base(Index(pieces), source)
    {
        if (unkId is { } id && (uint)id >= (uint)pieces.Count)
            throw new PanoptesException($"{source}: unk_id is {id}; an index into the {pieces.Count} pieces was expected.");
        unknown = unkId ?? -1;
        fuseUnk = true;
        scores = [.. pieces.Select(p => p.Score)];
        unknownScore = (scores.Length == 0 ? 0 : scores.Min()) - UnknownPenalty;
        byteTokens = byteFallback ? ByteTokens(Index(pieces)) : null;
        for (var i = 0; i < pieces.Count; i++)
        {
            var node = 0;
            foreach (var rune in pieces[i].Piece.EnumerateRunes())
            {
                var key = ((long)node << 32) | (uint)rune.Value;
                if (!children.TryGetValue(key, out var next))
                {
                    children[key] = next = pieceOfNode.Count;
                    pieceOfNode.Add(-1);
                }
                node = next;
            }
            if (node > 0)
                pieceOfNode[node] = i;
        }
    }

    private static Dictionary<string, int> Index(IReadOnlyList<(string Piece, double Score)> pieces)
    {
        var index = new Dictionary<string, int>(pieces.Count);
        for (var i = 0; i < pieces.Count; i++)
            index[pieces[i].Piece] = i;
        return index;
    }

    public override void Tokenize(ReadOnlySpan<int> word, List<ModelToken> result)
    {
        if (word.IsEmpty)
            return;
        // Best way to reach each position: its score, where its last piece starts, and which piece that is.
        var best = new double[word.Length + 1];
        var start = new int[word.Length + 1];
        var piece = new int[word.Length + 1];
        Array.Fill(start, -1);
        for (var at = 0; at < word.Length; at++)
        {
            var single = false;
            for (int node = 0, end = at; end < word.Length && children.TryGetValue(((long)node << 32) | (uint)word[end], out node);)
            {
                end++;
                if (pieceOfNode[node] is not (>= 0 and var id))
                    continue;
                Offer(at, end, id, best[at] + scores[id]);
                single |= end == at + 1;
            }
            if (!single)
                Offer(at, at + 1, unknown, best[at] + unknownScore);
        }
        var cuts = new List<(int Start, int End, int Id)>();
        for (var end = word.Length; end > 0; end = start[end])
        {
            if (piece[end] == unknown && fuseUnk && cuts.Count > 0 && cuts[^1].Id == unknown)
                cuts[^1] = (start[end], cuts[^1].End, unknown);
            else
                cuts.Add((start[end], end, piece[end]));
        }
        for (var i = cuts.Count - 1; i >= 0; i--)
            Emit(word, cuts[i], result);

        void Offer(int from, int to, int id, double score)
        {
            if (start[to] >= 0 && score <= best[to])
                return;
            (best[to], start[to], piece[to]) = (score, from, id);
        }
    }

    private void Emit(ReadOnlySpan<int> word, (int Start, int End, int Id) cut, List<ModelToken> result)
    {
        if (cut.Id != unknown)
        {
            result.Add(new(cut.Id, cut.Start, cut.End));
            return;
        }
        // A fused stretch may by chance be a piece.
        var unknownText = word[cut.Start..cut.End];
        if (IdOf(UnicodeText.ToString(unknownText)) is { } whole)
        {
            result.Add(new(whole, cut.Start, cut.End));
            return;
        }
        if (byteTokens is not null)
        {
            var bytes = new int[4 * unknownText.Length];
            if (TryBytes(unknownText, byteTokens, bytes, out var count))
            {
                for (var i = 0; i < count; i++)
                    result.Add(new(bytes[i], cut.Start, cut.End));
                return;
            }
        }
        if (unknown < 0)
            throw new PanoptesException($"\"{UnicodeText.ToString(unknownText[..Math.Min(20, unknownText.Length)])}\" is not in the tokenizer's vocabulary, which has no unknown token.");
        result.Add(new(unknown, cut.Start, cut.End));
    }
}
