namespace Panoptes.Text;

/// <summary>
/// CLIP's tokenizer (Radford et al. 2021, arXiv:2103.00020): lower-cased byte-level byte pairs with &lt;/w&gt; at the end of words, a start
/// and an end token. Exact to the id with Hugging Face's CLIPTokenizer and with open_clip's SimpleTokenizer, which clean text
/// differently and fill up differently.
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

    /// <summary>Hugging Face's with the vocabulary of OpenAI's CLIP, 49,408 tokens, which comes with this library: that of Stable Diffusion, SDXL, SD 3 and Flux.</summary>
    /// <param name="padToken">What texts are filled up with; null: the end token. open_clip's models take <c>!</c>, the first.</param>
    /// <exception cref="PanoptesException">The vocabulary has no such token.</exception>
    public static ClipTokenizer OpenAi(string? padToken = null)
    {
        const string name = "CLIP's vocabulary";
        using var resource = new StreamReader(typeof(ClipTokenizer).Assembly.GetManifestResourceStream("Panoptes.Text.Data.clip-merges.txt")!);
        var merges = TokenizerFiles.ParseMerges(resource.ReadToEnd(), name);
        var vocabulary = ClipVocabulary.Of(merges);
        return HuggingFace(vocabulary, merges, padToken, DefaultContextLength, [], name, folder => ClipVocabulary.Write(folder, vocabulary, merges, padToken ?? EndToken, DefaultContextLength));
    }

    /// <summary>Hugging Face's with a vocabulary that is in no file.</summary>
    internal static ClipTokenizer Of(Dictionary<string, int> vocabulary, IReadOnlyList<(string Left, string Right)> merges) => HuggingFace(vocabulary, merges, null, null, [], "the vocabulary", null);

    /// <summary>
    /// open_clip's: mojibake and typography repaired as ftfy does, HTML entities resolved twice, white space to single spaces, lower
    /// case; filled up with 0. &lt;start_of_text&gt; and &lt;end_of_text&gt; in a text are the special tokens.
    /// </summary>
    /// <param name="vocabularyFile">vocab.json; the special tokens may have either library's spelling.</param>
    /// <param name="mergesFile">merges.txt.</param>
    public static ClipTokenizer OpenClip(string vocabularyFile, string mergesFile) =>
        OpenClip(vocabularyFile, mergesFile, [vocabularyFile, mergesFile], null);

    internal static ClipTokenizer HuggingFace(string vocabularyFile, string mergesFile, string? padToken, int? modelMaxLength, IReadOnlyList<string> files) =>
        HuggingFace(TokenizerFiles.ReadVocabulary(vocabularyFile), TokenizerFiles.ReadMerges(mergesFile), padToken, modelMaxLength, files, vocabularyFile, null);

    private static ClipTokenizer HuggingFace(Dictionary<string, int> vocabulary, IReadOnlyList<(string Left, string Right)> merges, string? padToken, int? modelMaxLength, IReadOnlyList<string> files, string vocabularyFile, Action<string>? writer)
    {
        var (start, end) = (Required(vocabulary, StartToken, vocabularyFile), Required(vocabulary, EndToken, vocabularyFile));
        var model = new BytePairModel(vocabulary, merges, new() { UnkToken = EndToken, ContinuingSubwordPrefix = "", EndOfWordSuffix = ClipVocabulary.EndOfWord }, vocabularyFile);
        return new(new()
        {
            Normalizer = new NormalizerSequence([new UnicodeNormalizer(UnicodeForm.C), new ReplaceNormalizer(new RunPattern(UnicodeText.IsSpace), " "), new LowercaseNormalizer()]),
            PreTokenizer = new PreTokenizerSequence([new SplitPreTokenizer(new ClipScanner(), SplitBehavior.Removed, true), new ByteLevelPreTokenizer(false, true)]),
            Model = model,
            PostProcessor = TemplatePostProcessor.Roberta(start, end),
            Decoder = new DecoderSequence([new ByteLevelDecoder(), new EndOfWordDecoder(ClipVocabulary.EndOfWord)]),
            AddedTokens = [new(start, StartToken) { Special = true }, new(end, EndToken) { Special = true }],
            PadId = padToken is null ? end : Required(vocabulary, padToken, vocabularyFile),
            StartId = start,
            EndId = end,
            ModelMaxLength = modelMaxLength,
            Files = files,
            Writer = writer,
        });
    }

    internal static ClipTokenizer OpenClip(string vocabularyFile, string mergesFile, IReadOnlyList<string> files, int? contextLength)
    {
        var vocabulary = TokenizerFiles.ReadVocabulary(vocabularyFile);
        var start = vocabulary.TryGetValue("<start_of_text>", out var id) ? id : Required(vocabulary, StartToken, vocabularyFile);
        var end = vocabulary.TryGetValue("<end_of_text>", out id) ? id : Required(vocabulary, EndToken, vocabularyFile);
        var model = new BytePairModel(vocabulary, TokenizerFiles.ReadMerges(mergesFile), new() { ContinuingSubwordPrefix = "", EndOfWordSuffix = ClipVocabulary.EndOfWord }, vocabularyFile);
        return new(new()
        {
            Clean = CleanLower,
            PreTokenizer = new PreTokenizerSequence(
            [
                new SplitPreTokenizer(new ClipScanner(["<start_of_text>", "<end_of_text>"], true), SplitBehavior.Removed, true),
                new KnownWordsPreTokenizer(("<start_of_text>", start), ("<end_of_text>", end)),
                new ByteLevelPreTokenizer(false, false),
            ]),
            Model = model,
            PostProcessor = TemplatePostProcessor.Roberta(start, end),
            Decoder = new DecoderSequence([new ByteLevelDecoder(), new EndOfWordDecoder(ClipVocabulary.EndOfWord)]),
            AddedTokens = [new(start, "<start_of_text>") { Special = true, InText = false }, new(end, "<end_of_text>") { Special = true, InText = false }],
            PadId = 0,
            StartId = start,
            EndId = end,
            ModelMaxLength = contextLength ?? DefaultContextLength,
            Files = files,
        });
    }

    /// <summary>open_clip's cleaning: repaired (<see cref="TextRepair"/>), unescaped twice, white space collapsed, lower case.</summary>
    internal static string CleanLower(string text) =>
        UnicodeText.ToLowerFull(TextRepair.CollapseSpace(HtmlEntities.Unescape(HtmlEntities.Unescape(TextRepair.Fix(text)))));

    private static int Required(Dictionary<string, int> vocabulary, string token, string file) =>
        vocabulary.TryGetValue(token, out var id) ? id : throw new PanoptesException($"{file}: the vocabulary lacks \"{token}\", which a CLIP tokenizer needs.");
}
