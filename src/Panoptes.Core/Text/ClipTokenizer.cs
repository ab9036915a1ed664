namespace Panoptes.Text;

/// <summary>
/// CLIP's tokenizer (Radford et al. 2021, arXiv:2103.00020): lower-cased byte-level byte pairs with &lt;/w&gt; at the end of words, a start
/// and an end token. Exact to the id with Hugging Face's CLIPTokenizer.
/// </summary>
public sealed class ClipTokenizer : PipelineTokenizer
{
    /// <summary>The spelling of the start token in Hugging Face's files.</summary>
    public const string StartToken = "<|startoftext|>";

    /// <summary>The spelling of the end token in Hugging Face's files.</summary>
    public const string EndToken = "<|endoftext|>";

    /// <summary>The context of the published CLIP models.</summary>
    public const int DefaultContextLength = 77;

    private ClipTokenizer(TokenizerParts parts) : base(parts) { }

    /// <summary>
    /// Hugging Face's: NFC, white space to single spaces, lower case; filled up with the end token, or what the config names. The special
    /// tokens are recognized in the text.
    /// </summary>
    /// <param name="vocabularyFile">vocab.json: token to id.</param>
    /// <param name="mergesFile">merges.txt: one pair a line, the first learned first.</param>
    public static ClipTokenizer HuggingFace(string vocabularyFile, string mergesFile) =>
        HuggingFace(vocabularyFile, mergesFile, null, null, [vocabularyFile, mergesFile]);

    internal static ClipTokenizer HuggingFace(string vocabularyFile, string mergesFile, string? padToken, int? modelMaxLength, IReadOnlyList<string> files)
    {
        var vocabulary = TokenizerFiles.ReadVocabulary(vocabularyFile);
        var (start, end) = (Required(vocabulary, StartToken, vocabularyFile), Required(vocabulary, EndToken, vocabularyFile));
        var model = new BytePairModel(vocabulary, TokenizerFiles.ReadMerges(mergesFile), new() { UnkToken = EndToken, ContinuingSubwordPrefix = "", EndOfWordSuffix = "</w>" }, vocabularyFile);
        return new(new()
        {
            Normalizer = new NormalizerSequence([new UnicodeNormalizer(UnicodeForm.C), new ReplaceNormalizer(new RunPattern(UnicodeText.IsSpace), " "), new LowercaseNormalizer()]),
            PreTokenizer = new PreTokenizerSequence([new SplitPreTokenizer(new ClipScanner(), SplitBehavior.Removed, true), new ByteLevelPreTokenizer(false, true)]),
            Model = model,
            PostProcessor = TemplatePostProcessor.Roberta(start, end),
            Decoder = new DecoderSequence([new ByteLevelDecoder(), new EndOfWordDecoder("</w>")]),
            AddedTokens = [new(start, StartToken) { Special = true }, new(end, EndToken) { Special = true }],
            PadId = padToken is null ? end : Required(vocabulary, padToken, vocabularyFile),
            StartId = start,
            EndId = end,
            ModelMaxLength = modelMaxLength,
            Files = files,
        });
    }

    private static int Required(Dictionary<string, int> vocabulary, string token, string file) =>
        vocabulary.TryGetValue(token, out var id) ? id : throw new PanoptesException($"{file}: the vocabulary lacks \"{token}\", which a CLIP tokenizer needs.");
}
