using System.Buffers;

namespace Panoptes.Text;

/// <summary>How a byte-pair model treats the edges of words and what it does not know; the names of tokenizer.json.</summary>
internal sealed record BytePairOptions
{
    public string? UnkToken { get; init; }

    public string? ContinuingSubwordPrefix { get; init; }

    public string? EndOfWordSuffix { get; init; }

    public bool FuseUnk { get; init; }

    public bool ByteFallback { get; init; }

    public bool IgnoreMerges { get; init; }
}

/// <summary>
/// Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909): a word starts as single characters, and of all neighbors that may merge
/// the pair that was learned first merges, the leftmost first, until none is left. Short words scan for the best pair, long ones
/// keep a heap, so that a word of a million letters takes n log n.
/// </summary>
internal sealed class BytePairModel : TokenModel
{
    private const int Direct = 0x200;        // characters whose ids are looked up in an array: covers the byte alphabet
    private const int ScanUpTo = 40;         // symbols
    private const int First = 1, Last = 2;   // position of a character in its word

    private readonly BytePairOptions options;
    private readonly Dictionary<long, Merge> merges;
    private readonly int[] direct = new int[4 * Direct];
    private readonly Dictionary<long, int> characters = [];
    private readonly int?[]? byteTokens;
    private readonly int unknown;
    private readonly WordCache cache = new();

    private readonly record struct Merge(int Rank, int Id);

    private struct Symbol
    {
        public int Id, Start, End, Previous, Next;   // Id -1: merged into the one before
    }

    public BytePairModel(Dictionary<string, int> vocabulary, IReadOnlyList<(string Left, string Right)> pairs, BytePairOptions options, string source)
        : base(vocabulary, source)
    {
        this.options = options;
        merges = new(pairs.Count);
        var prefix = options.ContinuingSubwordPrefix?.Length ?? 0;
        for (var rank = 0; rank < pairs.Count; rank++)
        {
            var (left, right) = pairs[rank];
            if (right.Length < prefix)
                throw new PanoptesException($"{source}: merge {rank + 1} (\"{left}\" \"{right}\") lacks the prefix \"{options.ContinuingSubwordPrefix}\".");
            var merged = string.Concat(left, right.AsSpan(prefix));
            if (!vocabulary.TryGetValue(left, out var a) || !vocabulary.TryGetValue(right, out var b) || !vocabulary.TryGetValue(merged, out var c))
                throw new PanoptesException($"{source}: merge {rank + 1} (\"{left}\" \"{right}\") needs \"{left}\", \"{right}\" and \"{merged}\" in the vocabulary, which lacks one.");
            merges[Key(a, b)] = new(rank, c);   // of two merges of one pair the later counts, as in the peer
        }
        unknown = options.UnkToken is { } token ? vocabulary.GetValueOrDefault(token, -1) : -1;
        byteTokens = options.ByteFallback ? ByteTokens(vocabulary) : null;
        IndexCharacters(vocabulary);
    }

    private static long Key(int left, int right) => ((long)left << 32) | (uint)right;

    /// <summary>Finds the id of every single character at the inside, start, end or both of a word.</summary>
    private void IndexCharacters(Dictionary<string, int> vocabulary)
    {
        Array.Fill(direct, -1);
        var (prefix, suffix) = (options.ContinuingSubwordPrefix ?? "", options.EndOfWordSuffix ?? "");
        foreach (var (token, id) in vocabulary)
        {
            for (var position = 0; position < 4; position++)
            {
                var head = (position & First) == 0 ? prefix : "";
                var tail = (position & Last) != 0 ? suffix : "";
                var inner = token.Length - head.Length - tail.Length;
                if (inner is < 1 or > 2 || !token.StartsWith(head, StringComparison.Ordinal) || !token.EndsWith(tail, StringComparison.Ordinal)
                    || !System.Text.Rune.TryGetRuneAt(token, head.Length, out var rune) || rune.Utf16SequenceLength != inner)
                    continue;
                if (rune.Value < Direct)
                    direct[position * Direct + rune.Value] = id;
                else
                    characters[((long)position << 32) | (uint)rune.Value] = id;
            }
        }
    }

    private int IdOfCharacter(int c, int position) =>
        (uint)c < Direct ? direct[position * Direct + c] : characters.GetValueOrDefault(((long)position << 32) | (uint)c, -1);

    public override void Tokenize(ReadOnlySpan<int> word, List<ModelToken> result)
    {
        if (word.IsEmpty)
            return;
        if (word.Length > WordCache.LongestWord)
        {
            Merged(word, result);
            return;
        }
        if (cache.Find(word, out var slot) is { } known)
        {
            result.AddRange(known.AsSpan());
            return;
        }
        var count = result.Count;
        Merged(word, result);
        cache.Keep(slot, word, AsSpan(result)[count..]);
    }

    private void Merged(ReadOnlySpan<int> word, List<ModelToken> result)
    {
        if (options.IgnoreMerges && IdOf(UnicodeText.ToString(word)) is { } whole)
        {
            result.Add(new(whole, 0, word.Length));
            return;
        }
        // A character becomes one symbol, or up to four byte tokens.
        var rented = ArrayPool<Symbol>.Shared.Rent(byteTokens is null ? word.Length : 4 * word.Length);
        try
        {
            var symbols = rented.AsSpan(0, Split(word, rented));
            if (symbols.Length <= ScanUpTo)
                MergeByScan(ref symbols);
            else
                MergeByHeap(symbols);
            foreach (ref readonly var symbol in symbols)
                if (symbol.Id >= 0)
                    result.Add(new(symbol.Id, symbol.Start, symbol.End));
        }
        finally
        {
            ArrayPool<Symbol>.Shared.Return(rented);
        }
    }

    private int Split(ReadOnlySpan<int> word, Span<Symbol> symbols)
    {
        var count = 0;
        var (pendingStart, pendingEnd) = (-1, -1);   // an unknown stretch not yet written: the peer writes it late
        Span<int> bytes = stackalloc int[8];
        for (var i = 0; i < word.Length; i++)
        {
            var position = (i == 0 ? First : 0) | (i == word.Length - 1 ? Last : 0);
            var id = IdOfCharacter(word[i], position);
            if (id >= 0)
            {
                Flush(symbols);
                symbols[count++] = new() { Id = id, Start = i, End = i + 1 };
            }
            else if (byteTokens is not null && TryBytes(word.Slice(i, 1), byteTokens, bytes, out var n))
            {
                for (var k = 0; k < n; k++)
                    symbols[count++] = new() { Id = bytes[k], Start = i, End = i + 1 };
            }
            else if (unknown >= 0)
            {
                if (pendingStart >= 0 && options.FuseUnk)
                {
                    pendingEnd = i + 1;
                    continue;
                }
                Flush(symbols);
                (pendingStart, pendingEnd) = (i, i + 1);
            }
        }
        Flush(symbols);
        return count;

        void Flush(Span<Symbol> to)
        {
            if (pendingStart < 0)
                return;
            to[count++] = new() { Id = unknown, Start = pendingStart, End = pendingEnd };
            pendingStart = -1;
        }
    }

    private void MergeByScan(ref Span<Symbol> symbols)
    {
        Span<Merge> next = stackalloc Merge[ScanUpTo];   // next[i]: what symbols i and i + 1 make
        for (var i = 0; i + 1 < symbols.Length; i++)
            next[i] = Find(symbols[i].Id, symbols[i + 1].Id);
        while (symbols.Length > 1)
        {
            var best = 0;
            for (var i = 1; i + 1 < symbols.Length; i++)
                if (next[i].Rank < next[best].Rank)
                    best = i;
            if (next[best].Rank == int.MaxValue)
                return;
            symbols[best].Id = next[best].Id;
            symbols[best].End = symbols[best + 1].End;
            symbols[(best + 2)..].CopyTo(symbols[(best + 1)..]);
            next[(best + 1)..(symbols.Length - 1)].CopyTo(next[best..]);
            symbols = symbols[..^1];
            if (best > 0)
                next[best - 1] = Find(symbols[best - 1].Id, symbols[best].Id);
            if (best + 1 < symbols.Length)
                next[best] = Find(symbols[best].Id, symbols[best + 1].Id);
        }
    }

    private Merge Find(int left, int right) => merges.TryGetValue(Key(left, right), out var merge) ? merge : new(int.MaxValue, -1);

    private void MergeByHeap(Span<Symbol> symbols)
    {
        var queue = new PriorityQueue<(int At, int Id), long>(symbols.Length);
        for (var i = 0; i < symbols.Length; i++)
        {
            symbols[i].Previous = i - 1;
            symbols[i].Next = i + 1 < symbols.Length ? i + 1 : -1;
            Offer(symbols, i);
        }
        while (queue.TryDequeue(out var best, out _))
        {
            ref var left = ref symbols[best.At];
            if (left.Id < 0 || left.Next < 0)
                continue;
            ref var right = ref symbols[left.Next];
            if (Find(left.Id, right.Id).Id != best.Id)   // overtaken by an earlier merge
                continue;
            left.Id = best.Id;
            left.End = right.End;
            left.Next = right.Next;
            right.Id = -1;
            if (left.Next >= 0)
                symbols[left.Next].Previous = best.At;
            if (left.Previous >= 0)
                Offer(symbols, left.Previous);
            Offer(symbols, best.At);
        }

        void Offer(Span<Symbol> all, int at)
        {
            if (all[at].Next is >= 0 and var next && Find(all[at].Id, all[next].Id) is { Id: >= 0 } merge)
                queue.Enqueue((at, merge.Id), ((long)merge.Rank << 32) | (uint)at);
        }
    }
}
