using System.Text.Encodings.Web;
using System.Text.Json;

namespace Panoptes.Text;

/// <summary>Makes CLIP tokenizers with fewer merges, for models too small to afford 49,408 rows of embeddings.</summary>
public static class ClipVocabulary
{
    private const int Bytes = 256, LongestWord = 64;

    /// <summary>What tells a token at the end of a word from the same letters within one.</summary>
    public const string EndOfWord = "</w>";

    private static readonly JsonSerializerOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Writes a tokenizer folder that keeps the first <paramref name="mergeCount"/> merges: vocab.json, merges.txt, tokenizer_config.json,
    /// special_tokens_map.json. Its 256 + 256 + mergeCount + 2 ids are the bytes, the bytes at the end of a word, the merges in order, the start
    /// and the end token, as in the full vocabulary.
    /// </summary>
    /// <param name="mergesFile">merges.txt of the full vocabulary.</param>
    /// <param name="mergeCount">Merges to keep.</param>
    /// <param name="folder">Where to write; made if need be.</param>
    /// <param name="contextLength">model_max_length of the written config.</param>
    /// <param name="words">Words that become one token each, by merges after those that are kept; their ids, and those of what they are merged from, come last. All other texts keep theirs, but for parts of such words.</param>
    /// <returns>The number of ids.</returns>
    /// <exception cref="PanoptesException">The file has fewer merges, or cannot be read, a word is none, or the folder cannot be written.</exception>
    public static int Truncate(string mergesFile, int mergeCount, string folder, int contextLength = ClipTokenizer.DefaultContextLength, IReadOnlyList<string>? words = null)
    {
        var merges = TokenizerFiles.ReadMerges(mergesFile);
        if (mergeCount < 0 || mergeCount > merges.Count)
            throw new PanoptesException($"{mergesFile}: has {merges.Count} merges; {mergeCount} of them were asked for.");
        List<(string Left, string Right)> kept = [.. merges.Take(mergeCount)];
        var vocabulary = Of(kept);
        foreach (var word in words ?? [])
            Learn(word, vocabulary, kept);
        return Write(folder, vocabulary, kept, ClipTokenizer.EndToken, contextLength);
    }

    /// <summary>Merges the first two parts of a word until it is one. Such a merge is learned after all others, so that what they make of this and other words is found first.</summary>
    private static void Learn(string word, Dictionary<string, int> vocabulary, List<(string Left, string Right)> merges)
    {
        if (word.Length > LongestWord)
            throw Refused();
        while (true)
        {
            // Read anew each time: a pair may come twice in a word, and what it makes may merge by what was known before.
            var tokenizer = ClipTokenizer.Of(vocabulary, merges);
            string[] parts = [.. tokenizer.Encode(word, addSpecialTokens: false).Select(id => tokenizer.TokenOf(id)!)];
            if (parts.Length == 0 || Array.FindIndex(parts, static p => p.EndsWith(EndOfWord, StringComparison.Ordinal)) != parts.Length - 1)
                throw Refused();
            if (parts.Length == 1)
                return;
            merges.Add((parts[0], parts[1]));
            vocabulary.TryAdd(parts[0] + parts[1], vocabulary.Count);
        }

        PanoptesException Refused() => new($"\"{(word.Length > LongestWord ? word[..LongestWord] + "..." : word)}\" was to become one token; expected one word as CLIP cuts texts (letters, one digit, or signs) of at most {LongestWord} characters.");
    }

    /// <summary>The ids of the bytes, the bytes at the end of a word, the merges in order, the start and the end token.</summary>
    internal static Dictionary<string, int> Of(IReadOnlyList<(string Left, string Right)> merges)
    {
        var vocabulary = new Dictionary<string, int>(2 * Bytes + merges.Count + 2);
        foreach (var suffix in (string[])["", EndOfWord])
        {
            // The order of OpenAI's file: printable bytes first, then the others.
            foreach (var b in Enumerable.Range(0, Bytes).OrderBy(b => ByteAlphabet.OfByte(b) >= Bytes ? Bytes + b : b))
                vocabulary.Add(ByteAlphabet.OfByte(b) + suffix, vocabulary.Count);
        }
        foreach (var (left, right) in merges)
            vocabulary.Add(left + right, vocabulary.Count);
        vocabulary.Add(ClipTokenizer.StartToken, vocabulary.Count);
        vocabulary.Add(ClipTokenizer.EndToken, vocabulary.Count);
        return vocabulary;
    }

    /// <summary>Writes the folder of <see cref="Truncate"/>.</summary>
    /// <returns>The number of ids.</returns>
    internal static int Write(string folder, Dictionary<string, int> vocabulary, IReadOnlyList<(string Left, string Right)> merges, string padToken, int contextLength)
    {
        Write("vocab.json", JsonSerializer.Serialize(vocabulary, Plain));
        Write("merges.txt", "#version: 0.2\n" + string.Concat(merges.Select(m => $"{m.Left} {m.Right}\n")));
        Write("special_tokens_map.json", JsonSerializer.Serialize(
            new { bos_token = ClipTokenizer.StartToken, eos_token = ClipTokenizer.EndToken, pad_token = padToken, unk_token = ClipTokenizer.EndToken }, Plain));
        Write("tokenizer_config.json", JsonSerializer.Serialize(new
        {
            tokenizer_class = "CLIPTokenizer",
            bos_token = ClipTokenizer.StartToken,
            eos_token = ClipTokenizer.EndToken,
            pad_token = padToken,
            unk_token = ClipTokenizer.EndToken,
            add_prefix_space = false,
            do_lower_case = true,
            errors = "replace",
            model_max_length = contextLength,
        }, Plain));
        return vocabulary.Count;

        void Write(string name, string text)
        {
            var target = Path.Combine(folder, name);
            try
            {
                Directory.CreateDirectory(folder);
                var partial = $"{target}.{Environment.ProcessId}.partial";
                File.WriteAllText(partial, text);
                File.Move(partial, target, true);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new PanoptesException($"{target}: cannot be written: {e.Message}", e);
            }
        }
    }
}
