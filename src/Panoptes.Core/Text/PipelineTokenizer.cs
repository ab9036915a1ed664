using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Panoptes.Checkpoints;

namespace Panoptes.Text;

/// <summary>The parts of a tokenizer, in the order in which a text passes them.</summary>
internal sealed record TokenizerParts
{
    /// <summary>Runs over the string before anything else; for what a peer does in Python rather than in its pipeline.</summary>
    public Func<string, string>? Clean { get; init; }

    public Normalizer? Normalizer { get; init; }

    public PreTokenizer? PreTokenizer { get; init; }

    public required TokenModel Model { get; init; }

    public PostProcessor? PostProcessor { get; init; }

    public TokenDecoder? Decoder { get; init; }

    public IReadOnlyList<AddedToken> AddedTokens { get; init; } = [];

    /// <summary>More of them, which the vocabulary's files do not have: those of added_tokens.json.</summary>
    public IReadOnlyList<AddedToken> Extra { get; init; } = [];

    public int? PadId { get; init; }

    public bool PadLeft { get; init; }

    public bool TruncateLeft { get; init; }

    public int? StartId { get; init; }

    public int? EndId { get; init; }

    public int? ModelMaxLength { get; init; }

    /// <summary>The files that <see cref="Tokenizer.Save"/> copies.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];

    /// <summary>Writes the files into a folder, where the tokenizer was made of none.</summary>
    public Action<string>? Writer { get; init; }
}

/// <summary>
/// A tokenizer of the parts that tokenizer.json names: added tokens are cut out, the rest is normalized, cut into words, each word
/// becomes tokens, a template adds the special ones.
/// </summary>
public class PipelineTokenizer : Tokenizer
{
    private const int ParallelFrom = 256;   // texts
    private readonly TokenizerParts parts;
    private readonly AddedTokens added;

    internal PipelineTokenizer(TokenizerParts parts)
    {
        this.parts = parts;
        added = new([.. parts.AddedTokens, .. parts.Extra], parts.Normalizer);
        VocabularySize = Math.Max(parts.Model.LargestId, added.All.Count == 0 ? -1 : added.All.Max(t => t.Id)) + 1;
    }

    /// <inheritdoc/>
    public override int VocabularySize { get; }

    /// <inheritdoc/>
    public override int? PadId => parts.PadId;

    /// <inheritdoc/>
    public override int? StartId => parts.StartId;

    /// <inheritdoc/>
    public override int? EndId => parts.EndId;

    /// <inheritdoc/>
    public override int? ModelMaxLength => parts.ModelMaxLength;

    /// <inheritdoc/>
    public override int? IdOf(string token) => added.IdOf(token) ?? parts.Model.IdOf(token);

    /// <inheritdoc/>
    public override string? TokenOf(int id) => added.OfId(id)?.Content ?? parts.Model.TokenOf(id);

    /// <inheritdoc/>
    public override int[] Encode(string text, bool addSpecialTokens = true)
    {
        if (parts.PostProcessor is null or TrimOffsetsPostProcessor || !addSpecialTokens)
        {
            var plain = new List<int>(text.Length / 3 + 4);
            Tokenize(text, plain, null);
            return [.. plain];
        }
        return EncodeDetailed(text, null, addSpecialTokens).Ids;
    }

    /// <inheritdoc/>
    public override TokenEncoding EncodeDetailed(string text, string? pair = null, bool addSpecialTokens = true, Truncation? truncation = null)
    {
        var first = Encoding(text, 0);
        var second = pair is null ? null : Encoding(pair, 1);
        if (truncation is not null)
            (first, second) = Truncate(first, second, truncation, addSpecialTokens ? parts.PostProcessor?.Added(pair is not null) ?? 0 : 0);
        var result = Finish(second is null ? [first] : [first, second], addSpecialTokens);
        if (first.Overflowing.Count == 0)
            return result;
        var overflow = first.Overflowing.Select(o => Finish(second is null ? [o] : [o, second], addSpecialTokens)).ToList();
        return new()
        {
            Ids = result.Ids,
            TypeIds = result.TypeIds,
            SpecialTokens = result.SpecialTokens,
            Offsets = result.Offsets,
            Attention = result.Attention,
            Overflowing = overflow,
        };
    }

    private TokenEncoding Finish(List<TokenEncoding> texts, bool addSpecial) =>
        TokenEncoding.Join(parts.PostProcessor?.Apply(texts, addSpecial, TokenOf) ?? texts);

    private TokenEncoding Encoding(string text, int type)
    {
        var ids = new List<int>(text.Length / 3 + 4);
        var offsets = new List<(int, int)>(text.Length / 3 + 4);
        Tokenize(text, ids, offsets);
        return TokenEncoding.Create([.. ids], [.. offsets], type);
    }

    private void Tokenize(string text, List<int> ids, List<(int, int)>? offsets)
    {
        if (parts.Clean is not null)
            text = parts.Clean(text);
        if (text.Length == 0)
            return;
        var pieces = added.Cut(new TextBuffer(text));
        if (parts.PreTokenizer is not null)
            pieces = parts.PreTokenizer.Apply(pieces);
        var buffer = pieces.Text;
        var tokens = new List<ModelToken>();
        foreach (var piece in pieces.Items)
        {
            if (piece.Id >= 0)
            {
                ids.Add(piece.Id);
                offsets?.Add((buffer.StartOf(piece.Start), buffer.EndOf(piece.Start + piece.Length - 1)));
                continue;
            }
            tokens.Clear();
            parts.Model.Tokenize(buffer.Slice(piece.Start, piece.Length), tokens);
            foreach (ref readonly var token in CollectionsMarshal.AsSpan(tokens))
            {
                ids.Add(token.Id);
                offsets?.Add((buffer.StartOf(piece.Start + token.Start), buffer.EndOf(piece.Start + token.End - 1)));
            }
        }
    }

    private static (TokenEncoding, TokenEncoding?) Truncate(TokenEncoding first, TokenEncoding? second, Truncation truncation, int added)
    {
        var most = truncation.MaxLength - added;
        if (most < 0)
            throw new PanoptesException($"A length of {truncation.MaxLength} tokens leaves no room for the {added} special tokens.");
        var total = first.Length + (second?.Length ?? 0);
        if (total <= most)
            return (first, second);
        if (second is null)
            return (first.Truncate(most, truncation.Stride, truncation.Left), null);
        switch (truncation.Strategy)
        {
            case TruncationStrategy.LongestFirst:
                // The shorter keeps all it can; only where half the room is too little for both do they share evenly.
                var (small, large) = (Math.Min(first.Length, second.Length), Math.Max(first.Length, second.Length));
                large = small > most ? small : Math.Max(small, most - small);
                if (small + large > most)
                {
                    small = most / 2;
                    large = small + most % 2;
                }
                var (a, b) = first.Length > second.Length ? (large, small) : (small, large);
                return (first.Truncate(a, truncation.Stride, truncation.Left), second.Truncate(b, truncation.Stride, truncation.Left));
            case TruncationStrategy.OnlyFirst when first.Length > total - most:
                return (first.Truncate(first.Length - (total - most), truncation.Stride, truncation.Left), second);
            case TruncationStrategy.OnlySecond when second.Length > total - most:
                return (first, second.Truncate(second.Length - (total - most), truncation.Stride, truncation.Left));
            default:
                throw new PanoptesException($"The text to be shortened has too few tokens to bring the pair of {total} down to {most}.");
        }
    }

    /// <inheritdoc/>
    public override TokenBatch Encode(IReadOnlyList<string> texts, int contextLength)
    {
        var extra = parts.PostProcessor?.Added(false) ?? 0;
        if (contextLength < extra || contextLength < 1)
            throw new PanoptesException($"A context of {contextLength} tokens is too short; the special tokens alone take {extra}.");
        if ((long)texts.Count * contextLength > Array.MaxLength)
            throw new PanoptesException($"A batch of {texts.Count} texts by {contextLength} tokens is too large.");
        var batch = new TokenBatch(texts.Count, contextLength, new int[texts.Count * contextLength], new bool[texts.Count * contextLength], new int[texts.Count]);
        if (texts.Count >= ParallelFrom)
            Parallel.For(0, texts.Count, i => Fill(batch, i, texts[i], extra));
        else
            for (var i = 0; i < texts.Count; i++)
                Fill(batch, i, texts[i], extra);
        return batch;
    }

    private void Fill(TokenBatch batch, int row, string text, int extra)
    {
        var ids = Encode(text, false);
        var room = batch.Columns - extra;
        batch.Lengths[row] = ids.Length + extra;
        if (ids.Length > room)
            ids = parts.TruncateLeft ? ids[^room..] : ids[..room];
        if (extra > 0)
            ids = Finish([TokenEncoding.Create(ids, new (int, int)[ids.Length], 0)], true).Ids;
        var target = batch.Ids.AsSpan(row * batch.Columns, batch.Columns);
        target.Fill(parts.PadId ?? 0);
        var at = parts.PadLeft ? batch.Columns - ids.Length : 0;
        ids.CopyTo(target[at..]);
        batch.Mask.AsSpan(row * batch.Columns + at, ids.Length).Fill(true);
    }

    /// <inheritdoc/>
    public override string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = true)
    {
        var tokens = new List<string>(ids.Length);
        foreach (var id in ids)
        {
            var known = added.OfId(id);
            if ((known?.Content ?? parts.Model.TokenOf(id)) is { } token && !(skipSpecialTokens && known is { Special: true }))
                tokens.Add(token);
        }
        return parts.Decoder is null ? string.Join(' ', tokens) : string.Concat(parts.Decoder.Apply(tokens));
    }

    /// <inheritdoc/>
    public override Tokenizer Adding(IReadOnlyList<string> tokens)
    {
        foreach (var token in tokens)
            if (token.Length == 0 || token.Any(char.IsWhiteSpace))
                throw new PanoptesException($"\"{token}\" was to be added to the vocabulary; expected a token without white space.");
        var first = VocabularySize;
        return With([.. tokens.Distinct().Where(t => IdOf(t) is null).Select((t, i) => new AddedToken(first + i, t) { Normalized = true })]);
    }

    /// <summary>The same with more added tokens.</summary>
    internal PipelineTokenizer With(IReadOnlyList<AddedToken> tokens) => new(parts with { Extra = [.. parts.Extra, .. tokens] });

    /// <inheritdoc/>
    public override void Save(string folder)
    {
        parts.Writer?.Invoke(folder);
        foreach (var file in parts.Files)
        {
            var target = Path.Combine(folder, Path.GetFileName(file));
            if (Path.GetFullPath(target) == Path.GetFullPath(file))
                continue;
            try
            {
                Directory.CreateDirectory(folder);
                var partial = $"{target}.{Environment.ProcessId}.partial";
                File.Copy(file, partial, true);
                File.Move(partial, target, true);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new PanoptesException($"{target}: cannot be written from {file}: {e.Message}", e);
            }
        }
        if (parts.Extra.Count > 0)
            SaveExtra(folder);
    }

    private void SaveExtra(string folder)
    {
        AtomicFile.WriteText(Path.Combine(folder, TokenizerFolder.AddedTokensFile), new JsonObject(parts.Extra.Select(t => KeyValuePair.Create(t.Content, (JsonNode?)t.Id))).ToJsonString());
        var whole = Path.Combine(folder, "tokenizer.json");
        if (!parts.Files.Any(f => Path.GetFileName(f) == "tokenizer.json"))
            return;
        var root = JsonNode.Parse(TokenizerFiles.ReadBytes(whole))!;
        var list = root["added_tokens"] as JsonArray ?? [];
        var known = list.Select(t => (string?)t?["content"]).ToHashSet();
        foreach (var t in parts.Extra.Where(t => !known.Contains(t.Content)))
            list.Add(new JsonObject { ["id"] = t.Id, ["content"] = t.Content, ["single_word"] = t.SingleWord, ["lstrip"] = t.Lstrip, ["rstrip"] = t.Rstrip, ["normalized"] = t.Normalized, ["special"] = t.Special });
        root["added_tokens"] = list;
        AtomicFile.WriteText(whole, root.ToJsonString());
    }
}
