using System.Text.Json;

namespace Panoptes.Text;

/// <summary>Reads the parts of one tokenizer.json; every part names its kind in "type".</summary>
internal sealed class TokenizerJsonParts(string file)
{
    private const int MostSpecial = 1000;

    /// <summary>Words between spaces, punctuation apart.</summary>
    public static PreTokenizer Bert { get; } = new PreTokenizerSequence(
    [
        new SplitPreTokenizer(new CharacterPattern(UnicodeText.IsSpace), SplitBehavior.Removed, false),
        new SplitPreTokenizer(new CharacterPattern(IsPunctuation), SplitBehavior.Isolated, false),
    ]);

    /// <summary>ASCII symbols count as punctuation, beyond ASCII the general category decides.</summary>
    private static bool IsPunctuation(int c) => c < 128 ? char.IsPunctuation((char)c) || char.IsSymbol((char)c) : UnicodeText.IsPunctuation(c);

    public static T? Optional<T>(JsonElement parent, string name, Func<JsonElement, T> read) where T : class =>
        parent.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? read(value) : null;

    public static string? Text(JsonElement parent, string name) =>
        parent.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value.GetString() : null;

    private static bool Flag(JsonElement parent, string name, bool otherwise) =>
        parent.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value.GetBoolean() : otherwise;

    private string Kind(JsonElement part, string what) =>
        Text(part, "type") ?? throw new PanoptesException($"{file}: a {what} has no \"type\".");

    private PanoptesException Unsupported(string what, string kind) => new($"{file}: the {what} \"{kind}\" is not supported.");

    public TokenModel Model(JsonElement model)
    {
        // Files of the library's first versions leave the type out.
        var kind = Text(model, "type") ?? (model.TryGetProperty("merges", out _) ? "BPE"
            : model.GetProperty("vocab").ValueKind == JsonValueKind.Array ? "Unigram" : "WordPiece");
        switch (kind)
        {
            case "BPE":
                if (model.TryGetProperty("dropout", out var dropout) && dropout.ValueKind == JsonValueKind.Number && dropout.GetDouble() > 0)
                    throw new PanoptesException($"{file}: the model has a dropout of {dropout}, which only training uses; null was expected.");
                return new BytePairModel(Vocabulary(model), Merges(model), new()
                {
                    UnkToken = Text(model, "unk_token"),
                    ContinuingSubwordPrefix = Text(model, "continuing_subword_prefix"),
                    EndOfWordSuffix = Text(model, "end_of_word_suffix"),
                    FuseUnk = Flag(model, "fuse_unk", false),
                    ByteFallback = Flag(model, "byte_fallback", false),
                    IgnoreMerges = Flag(model, "ignore_merges", false),
                }, file);
            case "WordPiece":
                var longest = model.TryGetProperty("max_input_chars_per_word", out var most) ? most.GetInt32() : 100;
                if (longest is < 1 or > 1000)
                    throw new PanoptesException($"{file}: max_input_chars_per_word is {longest}; 1 to 1000 was expected.");
                return new WordPieceModel(Vocabulary(model), Text(model, "unk_token") ?? "[UNK]", Text(model, "continuing_subword_prefix") ?? "##", longest, file);
            case "WordLevel":
                return new WordLevelModel(Vocabulary(model), Text(model, "unk_token"), file);
            case "Unigram":
                var pieces = new List<(string, double)>();
                foreach (var entry in model.GetProperty("vocab").EnumerateArray())
                    pieces.Add((entry[0].GetString() ?? "", entry[1].GetDouble()));
                int? unknown = model.TryGetProperty("unk_id", out var id) && id.ValueKind == JsonValueKind.Number ? id.GetInt32() : null;
                return new UnigramModel(pieces, unknown, Flag(model, "byte_fallback", false), file);
            default:
                throw Unsupported("model", kind);
        }
    }

    private static Dictionary<string, int> Vocabulary(JsonElement model)
    {
        var vocabulary = new Dictionary<string, int>();
        foreach (var entry in model.GetProperty("vocab").EnumerateObject())
            vocabulary[entry.Name] = entry.Value.GetInt32();
        return vocabulary;
    }

    private List<(string, string)> Merges(JsonElement model)
    {
        var merges = new List<(string, string)>();
        foreach (var merge in model.GetProperty("merges").EnumerateArray())
        {
            if (merge.ValueKind == JsonValueKind.Array && merge.GetArrayLength() == 2)
                merges.Add((merge[0].GetString() ?? "", merge[1].GetString() ?? ""));
            else if (merge.ValueKind == JsonValueKind.String && merge.GetString()!.Split(' ') is [var left, var right])
                merges.Add((left, right));
            else
                throw new PanoptesException($"{file}: merge {merges.Count + 1} is {merge.GetRawText()}; a pair of tokens was expected.");
        }
        return merges;
    }

    public IReadOnlyList<AddedToken> AddedTokens(JsonElement root)
    {
        var tokens = new List<AddedToken>();
        if (!root.TryGetProperty("added_tokens", out var list) || list.ValueKind == JsonValueKind.Null)
            return tokens;
        foreach (var token in list.EnumerateArray())
        {
            var id = token.GetProperty("id").GetInt32();
            if (id < 0)
                throw new PanoptesException($"{file}: an added token has the id {id}; 0 or more was expected.");
            tokens.Add(new(id, Text(token, "content") ?? "")
            {
                SingleWord = Flag(token, "single_word", false),
                Lstrip = Flag(token, "lstrip", false),
                Rstrip = Flag(token, "rstrip", false),
                Normalized = Flag(token, "normalized", true),
                Special = Flag(token, "special", false),
            });
        }
        return tokens;
    }

    public Normalizer Normalizer(JsonElement part)
    {
        var kind = Kind(part, "normalizer");
        switch (kind)
        {
            case "Sequence":
                return new NormalizerSequence([.. part.GetProperty("normalizers").EnumerateArray().Select(Normalizer)]);
            case "NFC":
                return new UnicodeNormalizer(UnicodeForm.C);
            case "NFD":
                return new UnicodeNormalizer(UnicodeForm.D);
            case "NFKC":
                return new UnicodeNormalizer(UnicodeForm.KC);
            case "NFKD":
                return new UnicodeNormalizer(UnicodeForm.KD);
            case "Lowercase":
                return new LowercaseNormalizer();
            case "Strip":
                return new StripNormalizer(Flag(part, "strip_left", true), Flag(part, "strip_right", true));
            case "StripAccents":
                return new FilterNormalizer(c => !UnicodeText.IsMark(c));
            case "Replace":
                return new ReplaceNormalizer(Pattern(part), Text(part, "content") ?? "");
            case "Prepend":
                return new PrependNormalizer(Text(part, "prepend") ?? "");
            case "Nmt":
                return new NmtNormalizer();
            case "ByteLevel":
                return new ByteLevelNormalizer();
            case "BertNormalizer":
                var lower = Flag(part, "lowercase", true);
                return new BertNormalizer(Flag(part, "clean_text", true), Flag(part, "handle_chinese_chars", true), Flag(part, "strip_accents", lower), lower);
            case "Precompiled":
                var map = part.GetProperty("precompiled_charsmap");
                return map.ValueKind == JsonValueKind.Null ? new NormalizerSequence([]) : new PrecompiledNormalizer(map.GetBytesFromBase64(), file);
            default:
                throw Unsupported("normalizer", kind);
        }
    }

    private SplitPattern Pattern(JsonElement part)
    {
        var pattern = part.GetProperty("pattern");
        return Text(pattern, "String") is { } literal ? new LiteralPattern(literal)
            : Text(pattern, "Regex") is { } regex ? RegexPattern.Parse(regex, file)
            : throw new PanoptesException($"{file}: a pattern is {pattern.GetRawText()}; \"String\" or \"Regex\" was expected.");
    }

    private SplitBehavior Behavior(JsonElement part, SplitBehavior otherwise) =>
        Text(part, "behavior") is not { } name ? otherwise
            : Enum.TryParse<SplitBehavior>(name, out var behavior) && !char.IsAsciiDigit(name[0]) ? behavior : throw Unsupported("split behavior", name);

    public PreTokenizer PreTokenizer(JsonElement part)
    {
        var kind = Kind(part, "pre-tokenizer");
        switch (kind)
        {
            case "Sequence":
                return new PreTokenizerSequence([.. part.GetProperty("pretokenizers").EnumerateArray().Select(PreTokenizer)]);
            case "ByteLevel":
                return new ByteLevelPreTokenizer(Flag(part, "add_prefix_space", true), Flag(part, "use_regex", true));
            case "Whitespace":
                return new SplitPreTokenizer(new WhitespacePattern(), SplitBehavior.Removed, true);
            case "WhitespaceSplit":
                return new SplitPreTokenizer(new CharacterPattern(UnicodeText.IsSpace), SplitBehavior.Removed, false);
            case "Split":
                return new SplitPreTokenizer(Pattern(part), Behavior(part, SplitBehavior.Removed), Flag(part, "invert", false));
            case "CharDelimiterSplit":
                return new SplitPreTokenizer(new LiteralPattern(Text(part, "delimiter") ?? " "), SplitBehavior.Removed, false);
            case "BertPreTokenizer":
                return Bert;
            case "Metaspace":
                var (replacement, scheme) = Metaspace(part);
                return new MetaspacePreTokenizer(new TextBuffer(replacement)[0], scheme, Flag(part, "split", true));
            case "Digits":
                return new SplitPreTokenizer(new CharacterPattern(UnicodeText.IsNumber), Flag(part, "individual_digits", false) ? SplitBehavior.Isolated : SplitBehavior.Contiguous, false);
            case "Punctuation":
                return new SplitPreTokenizer(new CharacterPattern(IsPunctuation), Behavior(part, SplitBehavior.Isolated), false);
            case "FixedLength":
                var length = part.TryGetProperty("length", out var n) ? n.GetInt32() : 5;
                return length > 0 ? new SplitPreTokenizer(new FixedLengthPattern(length), SplitBehavior.Isolated, false)
                    : throw new PanoptesException($"{file}: a fixed length of {length} characters; 1 or more was expected.");
            default:
                throw Unsupported("pre-tokenizer", kind);
        }
    }

    private (string Replacement, MetaspacePrefix Scheme) Metaspace(JsonElement part)
    {
        var replacement = Text(part, "replacement") ?? "▁";
        if (new TextBuffer(replacement).Length != 1)
            throw new PanoptesException($"{file}: the replacement of Metaspace is \"{replacement}\"; one character was expected.");
        // Older files say add_prefix_space instead of prepend_scheme.
        var scheme = Text(part, "prepend_scheme") switch
        {
            "always" => MetaspacePrefix.Always,
            "first" => MetaspacePrefix.First,
            "never" => MetaspacePrefix.Never,
            null => Flag(part, "add_prefix_space", true) ? MetaspacePrefix.Always : MetaspacePrefix.Never,
            var other => throw Unsupported("prepend scheme", other),
        };
        return (replacement, scheme);
    }

    public PostProcessor PostProcessor(JsonElement part)
    {
        var kind = Kind(part, "post-processor");
        switch (kind)
        {
            case "Sequence":
                return new PostProcessorSequence([.. part.GetProperty("processors").EnumerateArray().Select(PostProcessor)]);
            case "ByteLevel":
                return Flag(part, "trim_offsets", true) ? new TrimOffsetsPostProcessor(Flag(part, "add_prefix_space", true)) : new PostProcessorSequence([]);
            case "BertProcessing":
                return TemplatePostProcessor.Bert(part.GetProperty("cls")[1].GetInt32(), part.GetProperty("sep")[1].GetInt32());
            case "RobertaProcessing":
                var template = TemplatePostProcessor.Roberta(part.GetProperty("cls")[1].GetInt32(), part.GetProperty("sep")[1].GetInt32());
                return Flag(part, "trim_offsets", true) ? new PostProcessorSequence([new TrimOffsetsPostProcessor(Flag(part, "add_prefix_space", true)), template]) : template;
            case "TemplateProcessing":
                var special = part.GetProperty("special_tokens").EnumerateObject().ToDictionary(t => t.Name, t => t.Value.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32()).ToArray());
                return new TemplatePostProcessor(Items(part, "single", special), Items(part, "pair", special));
            default:
                throw Unsupported("post-processor", kind);
        }
    }

    private List<TemplateItem> Items(JsonElement template, string name, Dictionary<string, int[]> special)
    {
        var items = new List<TemplateItem>();
        foreach (var item in template.GetProperty(name).EnumerateArray())
        {
            if (item.TryGetProperty("Sequence", out var sequence))
                items.Add(new([], Text(sequence, "id") == "B" ? 1 : 0, sequence.GetProperty("type_id").GetInt32()));
            else if (item.GetProperty("SpecialToken") is var token && special.TryGetValue(Text(token, "id") ?? "", out var ids))
                items.Add(new(ids, -1, token.GetProperty("type_id").GetInt32()));
            else
                throw new PanoptesException($"{file}: the template \"{name}\" names the special token \"{Text(token, "id")}\", which its list lacks.");
        }
        if (items.Sum(i => (long)i.Ids.Length) is > MostSpecial and var count)
            throw new PanoptesException($"{file}: the template \"{name}\" puts {count} special tokens around a text; at most {MostSpecial} were expected.");
        return items;
    }

    public TokenDecoder Decoder(JsonElement part)
    {
        var kind = Kind(part, "decoder");
        switch (kind)
        {
            case "Sequence":
                return new DecoderSequence([.. part.GetProperty("decoders").EnumerateArray().Select(Decoder)]);
            case "ByteLevel":
                return new ByteLevelDecoder();
            case "ByteFallback":
                return new ByteFallbackDecoder();
            case "Fuse":
                return new FuseDecoder();
            case "Strip":
                var content = Text(part, "content") ?? " ";
                return content.Length == 1 ? new StripDecoder(content[0], part.GetProperty("start").GetInt32(), part.GetProperty("stop").GetInt32()) : throw Unsupported("strip of", content);
            case "Replace":
                return new ReplaceDecoder(Pattern(part), Text(part, "content") ?? "");
            case "WordPiece":
                return new WordPieceDecoder(Text(part, "prefix") ?? "##", Flag(part, "cleanup", true));
            case "Metaspace":
                var (replacement, scheme) = Metaspace(part);
                return new MetaspaceDecoder(replacement, scheme);
            case "BPEDecoder":
                return new SuffixDecoder(Text(part, "suffix") ?? "</w>");
            case "CTC":
                return new CtcDecoder(Text(part, "pad_token") ?? "<pad>", Text(part, "word_delimiter_token") ?? "|", Flag(part, "cleanup", true));
            default:
                throw Unsupported("decoder", kind);
        }
    }
}

/// <summary>\w+|[^\w\s]+: runs of word characters, runs of what is neither word nor space.</summary>
internal sealed class WhitespacePattern : SplitPattern
{
    public override void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches)
    {
        for (var i = 0; i < text.Length;)
        {
            var start = i;
            if (UnicodeText.IsSpace(text[i]))
            {
                i++;
                continue;
            }
            var word = UnicodeText.IsWord(text[i]);
            while (i < text.Length && !UnicodeText.IsSpace(text[i]) && UnicodeText.IsWord(text[i]) == word)
                i++;
            matches.Add((start, i));
        }
    }
}

/// <summary>Stretches of a fixed number of characters.</summary>
internal sealed class FixedLengthPattern(int length) : SplitPattern
{
    public override void FindAll(ReadOnlySpan<int> text, List<(int Start, int End)> matches)
    {
        for (var i = 0; i < text.Length; i += length)
            matches.Add((i, Math.Min(text.Length, i + length)));
    }
}
