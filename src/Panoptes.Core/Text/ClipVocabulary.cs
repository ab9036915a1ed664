using System.Text.Encodings.Web;
using System.Text.Json;

namespace Panoptes.Text;

/// <summary>Makes CLIP tokenizers with fewer merges, for models too small to afford 49,408 rows of embeddings.</summary>
public static class ClipVocabulary
{
    private const int Bytes = 256;

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
    /// <returns>The number of ids.</returns>
    /// <exception cref="PanoptesException">The file has fewer merges, or cannot be read, or the folder cannot be written.</exception>
    public static int Truncate(string mergesFile, int mergeCount, string folder, int contextLength = ClipTokenizer.DefaultContextLength)
    {
        var merges = TokenizerFiles.ReadMerges(mergesFile);
        if (mergeCount < 0 || mergeCount > merges.Count)
            throw new PanoptesException($"{mergesFile}: has {merges.Count} merges; {mergeCount} of them were asked for.");
        return Write(folder, [.. merges.Take(mergeCount)], ClipTokenizer.EndToken, contextLength);
    }

    /// <summary>The ids of the bytes, the bytes at the end of a word, the merges in order, the start and the end token.</summary>
    internal static Dictionary<string, int> Of(IReadOnlyList<(string Left, string Right)> merges)
    {
        var vocabulary = new Dictionary<string, int>(2 * Bytes + merges.Count + 2);
        foreach (var suffix in (string[])["", "</w>"])
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
    internal static int Write(string folder, IReadOnlyList<(string Left, string Right)> merges, string padToken, int contextLength)
    {
        var vocabulary = Of(merges);
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
