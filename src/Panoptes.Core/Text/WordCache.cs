using System.Runtime.InteropServices;

namespace Panoptes.Text;

/// <summary>
/// Remembers the tokens of words already seen. One slot a hash, the newest word wins: bounded, without locks (a slot is one reference,
/// read and written whole), and as fast as a lookup can be. Words longer than <see cref="LongestWord"/> are not kept.
/// </summary>
internal sealed class WordCache
{
    private const int Slots = 1 << 15;
    public const int LongestWord = 48;

    private sealed record Entry(int[] Word, ModelToken[] Tokens);

    private readonly Entry?[] entries = new Entry?[Slots];

    public ModelToken[]? Find(ReadOnlySpan<int> word, out uint slot)
    {
        slot = Hash(word);
        return Volatile.Read(ref entries[slot]) is { } entry && word.SequenceEqual(entry.Word) ? entry.Tokens : null;
    }

    public void Keep(uint slot, ReadOnlySpan<int> word, ReadOnlySpan<ModelToken> tokens) =>
        Volatile.Write(ref entries[slot], new Entry(word.ToArray(), tokens.ToArray()));

    private static uint Hash(ReadOnlySpan<int> word)
    {
        var hash = 0x9E3779B97F4A7C15UL;
        foreach (var c in word)
            hash = (hash ^ (uint)c) * 0xFF51AFD7ED558CCDUL;
        return (uint)(hash >> 40) & (Slots - 1);
    }
}

/// <summary>A token of a word: its id and the characters [Start, End) of the word that it covers.</summary>
internal readonly record struct ModelToken(int Id, int Start, int End);

/// <summary>What turns a word into tokens.</summary>
internal abstract class TokenModel
{
    private readonly Dictionary<string, int> ids;
    private readonly string?[] tokens;

    /// <param name="vocabulary">Tokens and their ids.</param>
    /// <param name="source">The file, for errors.</param>
    protected TokenModel(Dictionary<string, int> vocabulary, string source)
    {
        ids = vocabulary;
        var largest = -1;
        foreach (var id in vocabulary.Values)
        {
            // An id is an index into the embedding, so the table of names is bounded by what a vocabulary of this size can need.
            if (id < 0 || id > 4L * vocabulary.Count + 1_000_000)
                throw new PanoptesException($"{source}: a token has the id {id}; ids from 0 up to about the {vocabulary.Count} tokens were expected.");
            largest = Math.Max(largest, id);
        }
        tokens = new string?[largest + 1];
        foreach (var (token, id) in vocabulary)
            tokens[id] = token;
    }

    public IReadOnlyDictionary<string, int> Vocabulary => ids;

    public int Size => ids.Count;

    public int LargestId => tokens.Length - 1;

    public int? IdOf(string token) => ids.TryGetValue(token, out var id) ? id : null;

    public string? TokenOf(int id) => (uint)id < (uint)tokens.Length ? tokens[id] : null;

    /// <summary>Appends the tokens of a word to <paramref name="result"/>.</summary>
    public abstract void Tokenize(ReadOnlySpan<int> word, List<ModelToken> result);

    /// <summary>The ids of &lt;0x00&gt; … &lt;0xFF&gt;, or null unless all of them are in the vocabulary.</summary>
    protected static int?[] ByteTokens(Dictionary<string, int> vocabulary)
    {
        var found = new int?[256];
        for (var b = 0; b < 256; b++)
            found[b] = vocabulary.TryGetValue($"<0x{b:X2}>", out var id) ? id : null;
        return found;
    }

    /// <summary>The byte tokens of one character, or false if one of its bytes has none.</summary>
    protected static bool TryBytes(ReadOnlySpan<int> characters, int?[] byteTokens, Span<int> ids, out int count)
    {
        count = 0;
        Span<byte> bytes = stackalloc byte[4];
        foreach (var c in characters)
        {
            var n = new System.Text.Rune(c).EncodeToUtf8(bytes);
            for (var i = 0; i < n; i++)
            {
                if (byteTokens[bytes[i]] is not { } id)
                    return false;
                ids[count++] = id;
            }
        }
        return true;
    }

    protected static ReadOnlySpan<T> AsSpan<T>(List<T> list) => CollectionsMarshal.AsSpan(list);
}
