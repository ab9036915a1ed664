namespace Panoptes.Text;

/// <summary>
/// Turns text into the ids that a model was trained with, and back. Tokenizers are immutable and may be used from many threads at once.
/// </summary>
public abstract class Tokenizer
{
    /// <summary>
    /// Loads the tokenizer of a model folder: tokenizer.json where there is one, else vocab.json with merges.txt (CLIP, GPT-2) or vocab.txt
    /// (BERT), with tokenizer_config.json and special_tokens_map.json beside them. A folder with open_clip_config.json gives
    /// open_clip's text cleaning and padding.
    /// </summary>
    /// <param name="path">The folder, or a tokenizer.json.</param>
    /// <exception cref="PanoptesException">No tokenizer is there, or its files are damaged or ask for what is not supported.</exception>
    public static Tokenizer Load(string path) => TokenizerFolder.Load(path);

    /// <summary>One more than the largest id.</summary>
    public abstract int VocabularySize { get; }

    /// <summary>The id that fills up short texts, if the files name one.</summary>
    public abstract int? PadId { get; }

    /// <summary>The id before every text, if the files name one.</summary>
    public abstract int? StartId { get; }

    /// <summary>The id after every text, if the files name one.</summary>
    public abstract int? EndId { get; }

    /// <summary>The longest input of the model in tokens, where the files say so.</summary>
    public abstract int? ModelMaxLength { get; }

    /// <summary>The id of a token as the vocabulary spells it, or null.</summary>
    public abstract int? IdOf(string token);

    /// <summary>The spelling of an id, or null if there is no such id.</summary>
    public abstract string? TokenOf(int id);

    /// <summary>The ids of a text, however many.</summary>
    /// <param name="text">Any string; lone surrogates count as U+FFFD.</param>
    /// <param name="addSpecialTokens">Whether the model's start and end tokens are put around it.</param>
    public abstract int[] Encode(string text, bool addSpecialTokens = true);

    /// <summary>The ids of a text or a pair of texts with types, offsets and, if it was cut, what overflowed.</summary>
    /// <exception cref="PanoptesException">The special tokens alone are longer than the truncation allows.</exception>
    public abstract TokenEncoding EncodeDetailed(string text, string? pair = null, bool addSpecialTokens = true, Truncation? truncation = null);

    /// <summary>
    /// The ids of a batch, cut or filled up to <paramref name="contextLength"/>; <see cref="TokenBatch.Truncated"/> says which were cut.
    /// </summary>
    /// <param name="texts">The texts.</param>
    /// <param name="contextLength">Columns of the result; special tokens count and are never cut off.</param>
    /// <exception cref="PanoptesException">The context is too short for the special tokens.</exception>
    public abstract TokenBatch Encode(IReadOnlyList<string> texts, int contextLength);

    /// <summary>A batch of encodings of one length.</summary>
    public IReadOnlyList<TokenEncoding> EncodeBatch(IReadOnlyList<string> texts, Padding? padding = null, Truncation? truncation = null, bool addSpecialTokens = true)
    {
        var encodings = new List<TokenEncoding>(texts.Count);
        foreach (var text in texts)
            encodings.Add(EncodeDetailed(text, null, addSpecialTokens, truncation));
        if (padding is null)
            return encodings;
        var length = padding.Length ?? encodings.Max(e => (int?)e.Length) ?? 0;
        if (padding.MultipleOf is > 0 and var multiple)
            length = (length + multiple - 1) / multiple * multiple;
        return encodings.ConvertAll(e => e.Pad(length, padding.Id, padding.TypeId, padding.Left));
    }

    /// <summary>The text of ids. Byte sequences that are no UTF-8 give U+FFFD; ids that are not in the vocabulary are left out.</summary>
    public abstract string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = true);

    /// <summary>The same tokenizer with tokens more, which are found in texts as they are and get the ids after the vocabulary's, in order; those that it has keep theirs.</summary>
    /// <param name="tokens">Without white space; upper and lower case are told apart as in other texts.</param>
    /// <exception cref="PanoptesException">One is empty, or has white space.</exception>
    public abstract Tokenizer Adding(IReadOnlyList<string> tokens);

    /// <summary>
    /// Copies the files that the tokenizer was loaded from into <paramref name="folder"/>, so that a saved model is complete.
    /// </summary>
    /// <exception cref="PanoptesException">A file cannot be copied.</exception>
    public abstract void Save(string folder);
}
