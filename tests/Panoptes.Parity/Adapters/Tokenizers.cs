using System.Text.Json;
using Panoptes.Text;

namespace Panoptes.Parity.Adapters;

/// <summary>Tokenizer cases: CLIP's two flavors over the vocabulary of the case clip_tokenizer, and tokenizer.json of every kind.</summary>
public sealed class Tokenizers : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture is "CLIPTokenizer" or "SimpleTokenizer" || (c.Call == "encode, decode" && c.HasFile("tokenizer.json"));

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c) => c.Architecture switch
    {
        "CLIPTokenizer" => HuggingFaceClip(c),
        "SimpleTokenizer" => OpenClip(c),
        _ => FromJson(c),
    };

    /// <summary>The vocabulary lies in the case, in its sibling, or, for cases made elsewhere, in the repository's own.</summary>
    static string Vocabulary(ParityCase c, string file)
    {
        string[] places = [c.File(file), c.File($"../clip_tokenizer/{file}"), Path.Combine(Goldens.Root, "representation", "clip_tokenizer", file)];
        return places.FirstOrDefault(File.Exists) ?? throw new PanoptesException($"{c.Area}/{c.Name}: no {file} of CLIP's tokenizer in the case, beside it or in the repository.");
    }

    static string[] Strings(ParityCase c) => JsonSerializer.Deserialize<string[]>(File.ReadAllBytes(c.File("strings.json")))!;

    static IEnumerable<(string, Tensor)> HuggingFaceClip(ParityCase c)
    {
        var tokenizer = ClipTokenizer.HuggingFace(Vocabulary(c, "vocab.json"), Vocabulary(c, "merges.txt"));
        var strings = Strings(c);
        var batch = tokenizer.Encode(strings, c.Arguments.GetProperty("max_length").GetInt32());
        yield return ("input_ids", batch.InputIds());
        yield return ("attention_mask", batch.AttentionMask());
        if (!c.HasFile("decoded.json"))
            yield break;
        var decoded = JsonSerializer.Deserialize<string[]>(File.ReadAllBytes(c.File("decoded.json")))!;
        for (var i = 0; i < strings.Length; i++)
            if (tokenizer.Decode(tokenizer.Encode(strings[i])) is var ours && ours != decoded[i])
                throw new PanoptesException($"{c.Area}/{c.Name}: string {i} decodes to \"{ours}\", the peer says \"{decoded[i]}\".");
    }

    static IEnumerable<(string, Tensor)> OpenClip(ParityCase c)
    {
        var tokenizer = ClipTokenizer.OpenClip(Vocabulary(c, "vocab.json"), Vocabulary(c, "merges.txt"));
        foreach (var length in c.Arguments.GetProperty("context_length").EnumerateObject())
            yield return (length.Name, tokenizer.Encode(Strings(c), length.Value.GetInt32()).InputIds());
    }

    static IEnumerable<(string, Tensor)> FromJson(ParityCase c)
    {
        var tokenizer = Tokenizer.Load(c.Folder);
        using var texts = JsonDocument.Parse(File.ReadAllBytes(c.File("texts.json")));
        var (ids, lengths) = (new List<long>(), new List<long>());
        foreach (var row in texts.RootElement.GetProperty("texts").EnumerateArray())
        {
            var encoded = tokenizer.Encode(row.GetProperty("text").GetString()!, false);
            ids.AddRange(encoded.Select(id => (long)id));
            lengths.Add(encoded.Length);
        }
        yield return ("ids", tensor(ids.ToArray()));
        yield return ("lengths", tensor(lengths.ToArray()));
    }
}
