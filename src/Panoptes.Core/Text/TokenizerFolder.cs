using System.Text.Json;

namespace Panoptes.Text;

/// <summary>Finds out what kind of tokenizer a folder holds.</summary>
internal static class TokenizerFolder
{
    /// <summary>What tokenizer_config.json and special_tokens_map.json say.</summary>
    internal sealed record Settings
    {
        public string? Class { get; init; }

        public string? PadToken { get; init; }

        public string? StartToken { get; init; }

        public string? EndToken { get; init; }

        public string? UnkToken { get; init; }

        public bool? LowerCase { get; init; }

        public bool? AddPrefixSpace { get; init; }

        public int? ModelMaxLength { get; init; }

        public bool PadLeft { get; init; }

        public bool TruncateLeft { get; init; }
    }

    /// <summary>Tokens that were added to the vocabulary, and their ids.</summary>
    internal const string AddedTokensFile = "added_tokens.json";

    private const int LargestId = 1 << 26;

    private static readonly string[] Known = ["tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", AddedTokensFile];

    public static Tokenizer Load(string path)
    {
        if (File.Exists(path))
            return TokenizerJson.Load(path, ReadSettings(Path.GetDirectoryName(Path.GetFullPath(path))!), [path]);
        if (!Directory.Exists(path))
            throw new PanoptesException($"{path}: no such folder or file; a folder with a tokenizer was expected.");
        var files = Known.Select(name => Path.Combine(path, name)).Where(File.Exists).ToList();
        var settings = ReadSettings(path);
        var (json, vocabulary, merges, words) = (In("tokenizer.json"), In("vocab.json"), In("merges.txt"), In("vocab.txt"));
        if (In("open_clip_config.json") is { } openClip && OpenClip(openClip, vocabulary, merges, [.. files, openClip]) is { } tokenizer)
            return tokenizer;
        if (json is not null)
            return TokenizerJson.Load(json, settings, files);
        if (vocabulary is not null && merges is not null)
        {
            return Extended(TokenizerFiles.ReadVocabulary(vocabulary).ContainsKey(ClipTokenizer.StartToken)
                ? ClipTokenizer.HuggingFace(vocabulary, merges, settings.PadToken, settings.ModelMaxLength, files)
                : TokenizerJson.BytePairs(vocabulary, merges, settings, files), In(AddedTokensFile));
        }
        if (words is not null)
            return Extended(TokenizerJson.WordPieces(words, settings, files), In(AddedTokensFile));
        throw new PanoptesException($"{path}: holds no tokenizer; tokenizer.json, vocab.json with merges.txt, or vocab.txt was expected.");

        string? In(string name) => Path.Combine(path, name) is var file && File.Exists(file) ? file : null;
    }

    /// <summary>With the tokens that a file adds, and that the vocabulary has not.</summary>
    private static PipelineTokenizer Extended(PipelineTokenizer tokenizer, string? file)
    {
        if (file is null)
            return tokenizer;
        var tokens = new List<AddedToken>();
        foreach (var token in TokenizerFiles.ReadJson(file).EnumerateObject())
        {
            if (token.Value.ValueKind != JsonValueKind.Number || !token.Value.TryGetInt32(out var id) || id is < 0 or > LargestId)
                throw new PanoptesException($"{file}: the token \"{token.Name}\" has the id {token.Value.GetRawText()}; expected 0 to {LargestId}.");
            if (token.Name.Length > 0 && tokenizer.IdOf(token.Name) is null)
                tokens.Add(new(id, token.Name) { Normalized = true });
        }
        return tokens.Count == 0 ? tokenizer : tokenizer.With(tokens);
    }

    /// <summary>open_clip's own tokenizer, unless the config names one of Hugging Face's.</summary>
    private static ClipTokenizer? OpenClip(string config, string? vocabulary, string? merges, IReadOnlyList<string> files)
    {
        var root = TokenizerFiles.ReadJson(config);
        var text = root.TryGetProperty("model_cfg", out var model) && model.ValueKind == JsonValueKind.Object && model.TryGetProperty("text_cfg", out var found)
            && found.ValueKind == JsonValueKind.Object ? found : default;
        if (vocabulary is null || merges is null || (text.ValueKind == JsonValueKind.Object && text.TryGetProperty("hf_tokenizer_name", out var name) && name.ValueKind == JsonValueKind.String))
            return null;
        var context = text.ValueKind == JsonValueKind.Object && text.TryGetProperty("context_length", out var length) && length.ValueKind == JsonValueKind.Number && length.TryGetInt32(out var value) ? value : (int?)null;
        return ClipTokenizer.OpenClip(vocabulary, merges, files, context);
    }

    private static Settings ReadSettings(string folder)
    {
        var (config, map) = (Read("tokenizer_config.json"), Read("special_tokens_map.json"));
        return new()
        {
            Class = String("tokenizer_class"),
            PadToken = String("pad_token"),
            StartToken = String("bos_token") ?? String("cls_token"),
            EndToken = String("eos_token") ?? String("sep_token"),
            UnkToken = String("unk_token"),
            LowerCase = Bool("do_lower_case"),
            AddPrefixSpace = Bool("add_prefix_space"),
            // "No limit" is written as 1e30.
            ModelMaxLength = Field("model_max_length") is { ValueKind: JsonValueKind.Number } n && n.TryGetDouble(out var length) && length is > 0 and < 1e8 ? (int)length : null,
            PadLeft = String("padding_side") == "left",
            TruncateLeft = String("truncation_side") == "left",
        };

        JsonElement Read(string name) => Path.Combine(folder, name) is var file && File.Exists(file) ? TokenizerFiles.ReadJson(file) : default;

        JsonElement? Field(string name) =>
            config.ValueKind == JsonValueKind.Object && config.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value
            : map.ValueKind == JsonValueKind.Object && map.TryGetProperty(name, out value) ? value
            : null;

        // A token is written as a string, or as an object with its content.
        string? String(string name) => Field(name) switch
        {
            { ValueKind: JsonValueKind.String } value => value.GetString(),
            { ValueKind: JsonValueKind.Object } value when value.TryGetProperty("content", out var content) && content.ValueKind == JsonValueKind.String => content.GetString(),
            _ => null,
        };

        bool? Bool(string name) => Field(name) is { ValueKind: JsonValueKind.True or JsonValueKind.False } value ? value.GetBoolean() : null;
    }
}
