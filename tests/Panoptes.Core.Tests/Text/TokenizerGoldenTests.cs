using System.Text.Json;
using Panoptes.Parity;
using Panoptes.Text;

namespace Panoptes.Core.Tests.Text;

/// <summary>The tokenizer goldens beyond their ids: offsets, special tokens, decoding, padding, truncation and pairs.</summary>
public sealed class TokenizerGoldenTests
{
    public static TheoryData<string> Cases => [.. Goldens.Names("language", n => n.StartsWith("tokenizer_", StringComparison.Ordinal)), .. Goldens.Names("representation", n => n.Contains("tokenizer"))];

    public static TheoryData<string> JsonCases => [.. Goldens.Names("language", n => n.StartsWith("tokenizer_", StringComparison.Ordinal))];

    [Theory, MemberData(nameof(Cases))]
    public void A_golden_tokenizer_gives_the_ids_of_the_peer(string name) => Goldens.Check(name);

    [Theory, MemberData(nameof(JsonCases))]
    public void Texts_have_the_ids_offsets_and_decodings_of_the_peer(string name)
    {
        var (tokenizer, json) = Open(name);
        var wrong = new List<string>();
        foreach (var row in json.GetProperty("texts").EnumerateArray())
        {
            var text = row.GetProperty("text").GetString()!;
            var encoding = tokenizer.EncodeDetailed(text, null, false);
            Compare(wrong, text, "ids", Ints(row, "ids"), encoding.Ids);
            Compare(wrong, text, "offsets", row.GetProperty("offsets").EnumerateArray().Select(o => (o[0].GetInt32(), o[1].GetInt32())), encoding.Offsets);
            var special = tokenizer.Encode(text);
            Compare(wrong, text, "ids with special tokens", Ints(row, "ids_special"), special);
            var decoded = row.GetProperty("decoded").GetString()!;
            Compare(wrong, text, "decoded", decoded, tokenizer.Decode(encoding.Ids, false));
            Compare(wrong, text, "decoded without special tokens", row.TryGetProperty("decoded_skip", out var skip) ? skip.GetString()! : decoded, tokenizer.Decode(special));
        }
        foreach (var row in json.GetProperty("prefixes").EnumerateArray())
            Compare(wrong, row.GetRawText(), "prefix", row.GetProperty("decoded").GetString()!, tokenizer.Decode(Ints(row, "ids").ToArray(), false));
        Assert.True(wrong.Count == 0, $"{wrong.Count} differ:\n{string.Join('\n', wrong.Take(12))}");
    }

    [Theory, MemberData(nameof(JsonCases))]
    public void Batches_are_padded_and_cut_as_the_peer_does(string name)
    {
        var (tokenizer, json) = Open(name);
        var texts = json.GetProperty("batch").EnumerateArray().Select(t => t.GetString()!).ToArray();
        var wrong = new List<string>();
        foreach (var batch in json.GetProperty("batches").EnumerateArray())
        {
            var settings = batch.GetProperty("settings");
            IReadOnlyList<TokenEncoding> rows;
            if (settings.TryGetProperty("padding", out var p))
            {
                rows = tokenizer.EncodeBatch(texts, new(p.GetProperty("pad_id").GetInt32())
                {
                    Left = p.GetProperty("direction").GetString() == "left",
                    Length = p.TryGetProperty("length", out var length) ? length.GetInt32() : null,
                    MultipleOf = p.TryGetProperty("pad_to_multiple_of", out var multiple) ? multiple.GetInt32() : null,
                });
            }
            else if (settings.TryGetProperty("text", out var one))
            {
                var first = tokenizer.EncodeDetailed(one.GetString()!, null, true, Cut(settings.GetProperty("truncation")));
                rows = [first, .. first.Overflowing];
            }
            else
                rows = tokenizer.EncodeBatch(texts, null, Cut(settings.GetProperty("truncation")));
            var what = settings.GetRawText();
            Compare(wrong, what, "rows", [batch.GetProperty("ids").GetArrayLength()], [rows.Count]);
            for (var i = 0; i < Math.Min(rows.Count, batch.GetProperty("ids").GetArrayLength()); i++)
            {
                Compare(wrong, what, "ids", Ints(batch.GetProperty("ids")[i]), rows[i].Ids);
                Compare(wrong, what, "attention_mask", Ints(batch.GetProperty("attention_mask")[i]), rows[i].Attention.Select(a => a ? 1 : 0));
                Compare(wrong, what, "type_ids", Ints(batch.GetProperty("type_ids")[i]), rows[i].TypeIds);
                Compare(wrong, what, "special_tokens_mask", Ints(batch.GetProperty("special_tokens_mask")[i]), rows[i].SpecialTokens.Select(a => a ? 1 : 0));
            }
        }
        Assert.True(wrong.Count == 0, $"{wrong.Count} differ:\n{string.Join('\n', wrong.Take(12))}");
    }

    [Theory, MemberData(nameof(JsonCases))]
    public void Pairs_are_joined_and_cut_as_the_peer_does(string name)
    {
        var (tokenizer, json) = Open(name);
        var wrong = new List<string>();
        foreach (var row in json.GetProperty("pairs").EnumerateArray())
        {
            if (!row.TryGetProperty("ids", out _))
                continue;
            var cut = row.TryGetProperty("truncation", out var t) ? Cut(t) : null;
            var encoding = tokenizer.EncodeDetailed(row.GetProperty("a").GetString()!, row.GetProperty("b").GetString()!, true, cut);
            Compare(wrong, row.GetRawText(), "ids", Ints(row, "ids"), encoding.Ids);
            Compare(wrong, row.GetRawText(), "type_ids", Ints(row, "type_ids"), encoding.TypeIds);
            if (row.TryGetProperty("offsets", out var offsets))
                Compare(wrong, row.GetRawText(), "offsets", offsets.EnumerateArray().Select(o => (o[0].GetInt32(), o[1].GetInt32())), encoding.Offsets);
        }
        Assert.True(wrong.Count == 0, $"{wrong.Count} differ:\n{string.Join('\n', wrong.Take(12))}");
    }

    private static (Tokenizer, JsonElement) Open(string name)
    {
        var folder = Path.Combine(Goldens.Root, name);
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "texts.json")));
        return (Tokenizer.Load(folder), document.RootElement.Clone());
    }

    private static Truncation Cut(JsonElement t) => new(t.GetProperty("max_length").GetInt32())
    {
        Stride = t.TryGetProperty("stride", out var stride) ? stride.GetInt32() : 0,
        Left = t.TryGetProperty("direction", out var direction) && direction.GetString() == "left",
        Strategy = t.TryGetProperty("strategy", out var strategy)
            ? Enum.Parse<TruncationStrategy>(strategy.GetString()!.Replace("_", ""), true) : TruncationStrategy.LongestFirst,
    };

    private static IEnumerable<int> Ints(JsonElement parent, string name) => Ints(parent.GetProperty(name));

    private static IEnumerable<int> Ints(JsonElement array) => array.EnumerateArray().Select(i => i.GetInt32());

    private static void Compare<T>(List<string> wrong, string text, string what, IEnumerable<T> expected, IEnumerable<T> ours)
    {
        if (!expected.SequenceEqual(ours))
            wrong.Add($"{what} of {JsonSerializer.Serialize(text)}:\n  expected {string.Join(' ', expected)}\n  ours     {string.Join(' ', ours)}");
    }
}
