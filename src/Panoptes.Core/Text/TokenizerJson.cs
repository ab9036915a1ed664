using System.Text.Json;

namespace Panoptes.Text;

/// <summary>Builds tokenizers from tokenizer.json, the format of Hugging Face's tokenizers library, and from the older pairs of files.</summary>
internal static class TokenizerJson
{
    public static Tokenizer Load(string file, TokenizerFolder.Settings settings, IReadOnlyList<string> files)
    {
        var root = TokenizerFiles.ReadJson(file);
        try
        {
            return Build(new(file), root, settings, files);
        }
        catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException or FormatException or OverflowException or ArgumentException or IndexOutOfRangeException)
        {
            throw new PanoptesException($"{file}: is damaged: {e.Message}", e);
        }
    }

    private static PipelineTokenizer Build(TokenizerJsonParts read, JsonElement root, TokenizerFolder.Settings settings, IReadOnlyList<string> files)
    {
        var model = read.Model(root.GetProperty("model"));
        var added = read.AddedTokens(root);
        var normalizer = TokenizerJsonParts.Optional(root, "normalizer", read.Normalizer);
        var postProcessor = TokenizerJsonParts.Optional(root, "post_processor", read.PostProcessor);
        var decoder = TokenizerJsonParts.Optional(root, "decoder", read.Decoder);
        // What Python's wrappers of these models do outside of the file.
        if (root.GetProperty("model").TryGetProperty("end_of_word_suffix", out var suffix) && suffix.ValueKind == JsonValueKind.String && suffix.GetString() is { Length: > 0 } mark
            && decoder is ByteLevelDecoder)
            decoder = new DecoderSequence([decoder, new EndOfWordDecoder(mark)]);
        if (settings.Class is "Siglip2Tokenizer")
            normalizer = normalizer is null ? new LowercaseNormalizer() : new NormalizerSequence([new LowercaseNormalizer(), normalizer]);
        Func<string, string>? clean = settings.Class is "SiglipTokenizer" ? text => Canonicalize(text, settings.LowerCase ?? true) : null;

        var padding = root.TryGetProperty("padding", out var p) && p.ValueKind == JsonValueKind.Object ? p : default;
        var truncation = root.TryGetProperty("truncation", out var t) && t.ValueKind == JsonValueKind.Object ? t : default;
        var padToken = settings.PadToken ?? settings.Class switch
        {
            "CLIPTokenizer" or "CLIPTokenizerFast" => ClipTokenizer.EndToken,
            "SiglipTokenizer" => "</s>",
            _ => null,
        };
        return new(new()
        {
            Clean = clean,
            Normalizer = normalizer,
            PreTokenizer = TokenizerJsonParts.Optional(root, "pre_tokenizer", read.PreTokenizer),
            Model = model,
            PostProcessor = postProcessor,
            Decoder = decoder,
            AddedTokens = added,
            PadId = IdOf(padToken) ?? (padding.ValueKind == JsonValueKind.Object ? padding.GetProperty("pad_id").GetInt32() : null),
            PadLeft = settings.PadLeft || (padding.ValueKind == JsonValueKind.Object && TokenizerJsonParts.Text(padding, "direction") == "Left"),
            TruncateLeft = settings.TruncateLeft || (truncation.ValueKind == JsonValueKind.Object && TokenizerJsonParts.Text(truncation, "direction") == "Left"),
            StartId = IdOf(settings.StartToken) ?? Edge(postProcessor, true),
            EndId = IdOf(settings.EndToken) ?? Edge(postProcessor, false),
            ModelMaxLength = settings.ModelMaxLength ?? (truncation.ValueKind == JsonValueKind.Object ? truncation.GetProperty("max_length").GetInt32() : null),
            Files = files,
        });

        int? IdOf(string? token) => token is null ? null : added.FirstOrDefault(a => a.Content == token)?.Id ?? model.IdOf(token);
    }

    /// <summary>The first or last special token that a template puts around a single text.</summary>
    private static int? Edge(PostProcessor? processor, bool first)
    {
        if (processor is null || processor.Added(false) == 0)
            return null;
        // One text of one token, marked as no special one, shows what is put before and behind it.
        var probe = TokenEncoding.Create([-1], [(0, 0)], 0);
        var ids = TokenEncoding.Join(processor.Apply([probe], true, _ => null)).Ids;
        var id = first ? ids[0] : ids[^1];
        return id >= 0 ? id : null;
    }

    /// <summary>Byte-level byte pairs from vocab.json and merges.txt: GPT-2, and RoBERTa where the class says so.</summary>
    public static PipelineTokenizer BytePairs(string vocabularyFile, string mergesFile, TokenizerFolder.Settings settings, IReadOnlyList<string> files)
    {
        var vocabulary = TokenizerFiles.ReadVocabulary(vocabularyFile);
        var model = new BytePairModel(vocabulary, TokenizerFiles.ReadMerges(mergesFile), new(), vocabularyFile);
        var roberta = settings.Class?.StartsWith("Roberta", StringComparison.Ordinal) == true || settings.Class?.StartsWith("Bart", StringComparison.Ordinal) == true;
        var end = settings.EndToken ?? (roberta ? "</s>" : "<|endoftext|>");
        var start = settings.StartToken ?? (roberta ? "<s>" : "<|endoftext|>");
        var space = settings.AddPrefixSpace ?? false;
        string?[] special = roberta ? ["<s>", "</s>", "<unk>", "<pad>", "<mask>", settings.PadToken] : [start, end, settings.PadToken, settings.UnkToken];
        return new PipelineTokenizer(new()
        {
            PreTokenizer = new ByteLevelPreTokenizer(space, true),
            Model = model,
            PostProcessor = roberta && model.IdOf(start) is { } s && model.IdOf(end) is { } e ? TemplatePostProcessor.Roberta(s, e) : new TrimOffsetsPostProcessor(space),
            Decoder = new ByteLevelDecoder(),
            AddedTokens = [.. special.Where(t => t is not null && model.IdOf(t) is not null).Distinct().Select(t => new AddedToken(model.IdOf(t!)!.Value, t!) { Special = true, Lstrip = t == "<mask>" })],
            PadId = (settings.PadToken ?? (roberta ? "<pad>" : null)) is { } pad ? model.IdOf(pad) : null,
            StartId = model.IdOf(start),
            EndId = model.IdOf(end),
            ModelMaxLength = settings.ModelMaxLength,
            PadLeft = settings.PadLeft,
            TruncateLeft = settings.TruncateLeft,
            Files = files,
        });
    }

    /// <summary>BERT's word pieces from vocab.txt, one token a line.</summary>
    public static PipelineTokenizer WordPieces(string vocabularyFile, TokenizerFolder.Settings settings, IReadOnlyList<string> files)
    {
        var vocabulary = new Dictionary<string, int>();
        var id = 0;
        foreach (var line in System.Text.Encoding.UTF8.GetString(TokenizerFiles.ReadBytes(vocabularyFile)).TrimEnd('\n').Split('\n'))
            vocabulary[line.TrimEnd('\r')] = id++;
        var unknown = settings.UnkToken ?? "[UNK]";
        var model = new WordPieceModel(vocabulary, unknown, "##", 100, vocabularyFile);
        var (start, end, pad) = (settings.StartToken ?? "[CLS]", settings.EndToken ?? "[SEP]", settings.PadToken ?? "[PAD]");
        var lower = settings.LowerCase ?? true;
        string[] special = [pad, unknown, start, end, "[MASK]"];
        return new PipelineTokenizer(new()
        {
            Normalizer = new BertNormalizer(true, true, lower, lower),
            PreTokenizer = TokenizerJsonParts.Bert,
            Model = model,
            PostProcessor = model.IdOf(start) is { } s && model.IdOf(end) is { } e ? TemplatePostProcessor.Bert(s, e) : null,
            Decoder = new WordPieceDecoder("##", true),
            AddedTokens = [.. special.Where(t => model.IdOf(t) is not null).Distinct().Select(t => new AddedToken(model.IdOf(t)!.Value, t) { Special = true })],
            PadId = model.IdOf(pad),
            StartId = model.IdOf(start),
            EndId = model.IdOf(end),
            ModelMaxLength = settings.ModelMaxLength,
            PadLeft = settings.PadLeft,
            TruncateLeft = settings.TruncateLeft,
            Files = files,
        });
    }

    /// <summary>
    /// What SigLIP's texts went through before SentencePiece (big_vision's canonicalization): lower case, ASCII punctuation removed,
    /// white space collapsed.
    /// </summary>
    internal static string Canonicalize(string text, bool lowerCase)
    {
        if (lowerCase)
            text = UnicodeText.ToLowerFull(text);
        return TextRepair.CollapseSpace(string.Concat(text.Where(c => c >= 128 || !(char.IsPunctuation(c) || char.IsSymbol(c)))));
    }
}
