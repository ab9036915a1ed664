using System.Text.Json.Nodes;
using Panoptes.Parity;
using Panoptes.Text;

namespace Panoptes.Core.Tests.Text;

/// <summary>Tokens that are added to a vocabulary.</summary>
public sealed class AddedTokenTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-tokens-").FullName;

    /// <summary>A tokenizer in both forms: tokenizer.json, and vocab.json with merges.txt.</summary>
    static string Golden => Path.Combine(Goldens.Root, "generation", "reco_tokens");

    string Plain()
    {
        foreach (var file in (string[])["vocab.json", "merges.txt", "tokenizer_config.json"]) File.Copy(Path.Combine(Golden, file), Path.Combine(folder, file), overwrite: true);
        return folder;
    }

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Added_tokens_are_found_in_texts_and_kept_in_files(bool json)
    {
        var before = Tokenizer.Load(json ? Golden : Plain());
        var more = before.Adding(["<bin000>", "<bin001>", "<bin000>"]);
        var first = before.VocabularySize;
        Assert.Equal((first + 2, first), (more.VocabularySize, before.VocabularySize));
        Assert.Equal((first, first + 1, "<bin001>"), (more.IdOf("<bin000>"), more.IdOf("<bin001>"), more.TokenOf(first + 1)));
        Assert.Null(before.IdOf("<bin000>"));
        int[] ids = [.. before.Encode("a red cube", addSpecialTokens: false), first + 1, first, .. before.Encode("a cat", addSpecialTokens: false)];
        Assert.Equal(ids, more.Encode("a red cube <bin001><bin000> a cat", addSpecialTokens: false));
        Assert.Equal(before.Encode("a red cube"), more.Encode("a red cube"));

        var saved = Path.Combine(folder, "saved");
        more.Adding(["<new>"]).Save(saved);
        var again = Tokenizer.Load(saved);
        Assert.Equal(first + 3, again.VocabularySize);
        Assert.Equal(ids, again.Encode("a red cube <bin001><bin000> a cat", addSpecialTokens: false));
        Assert.Equal(first + 2, again.IdOf("<new>"));
        // Known tokens stay where they are.
        Assert.Equal((first + 3, first), (again.Adding(["<bin000>"]).VocabularySize, again.Adding(["<bin000>"]).IdOf("<bin000>")));
        Assert.Equal(json, JsonNode.Parse(File.ReadAllText(Path.Combine(saved, json ? "tokenizer.json" : "added_tokens.json")))!["added_tokens"] is not null);
    }

    [Theory]
    [InlineData("""{"<bin000>": -1}""", "has the id -1")]
    [InlineData("""{"<bin000>": 2147483647}""", "has the id 2147483647")]
    [InlineData("""{"<bin000>": "7"}""", "has the id \"7\"")]
    [InlineData("[3]", "expected a JSON object")]
    [InlineData("{", "is not JSON")]
    public void A_damaged_file_of_added_tokens_is_refused_with_one_sentence(string json, string named)
    {
        File.WriteAllText(Path.Combine(Plain(), "added_tokens.json"), json);
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => Tokenizer.Load(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_empty_file_of_added_tokens_adds_none()
    {
        var before = Tokenizer.Load(Plain()).VocabularySize;
        File.WriteAllText(Path.Combine(folder, "added_tokens.json"), "{}");
        Assert.Equal(before, Tokenizer.Load(folder).VocabularySize);
    }

    [Theory]
    [InlineData("")]
    [InlineData("two words")]
    public void A_token_with_white_space_is_refused_with_one_sentence(string token) =>
        Assert.Contains($"\"{token}\" was to be added", Assert.Throws<PanoptesException>(() => Tokenizer.Load(Plain()).Adding([token])).Message, StringComparison.Ordinal);
}
