using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;
using Panoptes.Data.Knowledge;

namespace Panoptes.Core.Tests.Data.Knowledge;

/// <summary>The bundled knowledge about the emoji's concepts, tables of one's own, and what they add to texts.</summary>
public sealed class KnowledgeTests : IDisposable
{
    static readonly KnowledgeTable Bundled = KnowledgeTable.Open(new());

    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Every_concept_has_a_line_and_nearly_all_a_definition()
    {
        var entries = Bundled.Entries;
        Assert.Equal(EmojiSetTests.Set.Concepts.Select(static c => c.Name), entries.Select(static e => e.Name));
        Assert.InRange(entries.Count(static e => e.Definition.Length > 0) / (double)entries.Count, 0.95, 1);
        Assert.InRange(entries.Count(static e => e.Hypernyms.Count > 0) / (double)entries.Count, 0.9, 1);
        Assert.All(entries, static e => Assert.Equal(e.Head.Length == 0, e.Definition.Length == 0));
        Assert.All(EmojiSetTests.Set.Concepts.Where(static c => c.HeldOut).Take(50), static c => Assert.NotNull(KnowledgeTable.Open(new() { Kinds = Enum.GetValues<KnowledgeKind>() }).Of(c.Name)));
    }

    [Theory]
    [InlineData("red apple", "apple", "fruit with red or yellow or green skin", "edible fruit")]
    [InlineData("bat", "bat", "nocturnal mouselike mammal", "placental")]
    [InlineData("turkey", "turkey", "large gallinaceous bird", "domestic fowl")]
    [InlineData("flag: Georgia", "georgia", "a republic in Asia Minor", null)]
    [InlineData("gem stone", "gemstone", "a crystalline rock", null)]
    [InlineData("ZZZ", "", "", null)]
    [InlineData("grinning face", "grinning", "a facial expression", "facial expression")]
    [InlineData("mouse", "mouse", "any of numerous small rodents", "rodent")]
    [InlineData("computer mouse", "computer mouse", "a hand-operated electronic device", "electronic device")]
    public void Meanings_are_those_that_the_pictures_show(string name, string head, string definition, string? hypernym)
    {
        var entry = Assert.Single(Bundled.Entries, e => e.Name == name);
        Assert.Equal(head, entry.Head);
        Assert.StartsWith(definition, entry.Definition, StringComparison.Ordinal);
        if (hypernym is not null) Assert.Contains(hypernym, entry.Hypernyms);
    }

    [Fact]
    public async Task The_same_files_give_the_same_knowledge()
    {
        var wordNet = WordNet.Parse(WordNetTests.Files());
        var set = EmojiSetTests.Set.Subset(300);
        var coverage = await KnowledgeBuilder.BuildAsync(new() { Output = folder["a"], Set = set, WordNet = wordNet });
        await KnowledgeBuilder.BuildAsync(new() { Output = folder["b"], Set = set, WordNet = wordNet });
        Assert.Equal(File.ReadAllBytes(folder["a/emoji.jsonl"]), File.ReadAllBytes(folder["b/emoji.jsonl"]));
        Assert.Contains("Princeton University", File.ReadAllText(folder["a/LICENSES.md"]), StringComparison.Ordinal);
        Assert.Equal(300, coverage.Concepts);
        var built = KnowledgeTable.Open(new() { Table = folder["a/emoji.jsonl"] });
        Assert.Equal(coverage.Definitions, built.Entries.Count(static e => e.Definition.Length > 0));
        Assert.Contains(built.Entries, static e => e.Definition == "an adult person who is male");
    }

    [Fact]
    public void Knowledge_goes_on_as_far_as_words_are_allowed_and_ends_with_one_that_says_something()
    {
        Assert.Equal("red apple, fruit with red or yellow or green skin and sweet to tart crisp whitish flesh", KnowledgeTable.Open(new() { MaxWords = 100 }).Append("red apple", "red apple"));
        Assert.Equal("an emoji of red apple, fruit with red", KnowledgeTable.Open(new() { MaxWords = 9 }).Append("an emoji of red apple", "red apple"));
        Assert.Equal("red apple, fruit", KnowledgeTable.Open(new() { MaxWords = 4 }).Append("red apple", "red apple"));
        Assert.Equal("red apple", KnowledgeTable.Open(new() { MaxWords = 2 }).Append("red apple", "red apple"));
        Assert.Equal("red apple, edible fruit, produce, food", KnowledgeTable.Open(new() { Kinds = [KnowledgeKind.Hypernyms] }).Append("red apple", "red apple"));
        Assert.Equal("a thing", Bundled.Append("a thing", "a thing"));
    }

    [Fact]
    public void A_text_with_knowledge_never_has_more_words_than_allowed_and_begins_with_itself()
    {
        var names = EmojiSetTests.Set.Concepts.Select(static c => c.Name).ToArray();
        Gen.Select(Gen.Int[0, names.Length - 1], Gen.Int[1, 40]).Sample((i, most) =>
        {
            var text = KnowledgeTable.Open(new() { Table = Small(), MaxWords = most }).Append(names[i], names[i]);
            Assert.StartsWith(names[i], text, StringComparison.Ordinal);
            Assert.InRange(text.Split(' ').Length, 1, Math.Max(most, names[i].Split(' ').Length));
        }, iter: 50, threads: 1);

        string Small() => File.Exists(folder["t.jsonl"]) ? folder["t.jsonl"] : folder.Write("t.jsonl",
            string.Concat(names.Select(static n => $$"""{"name":{{System.Text.Json.JsonSerializer.Serialize(n)}},"text":"one of the things, that a picture may show; and so on"}""" + "\n")));
    }

    [Fact]
    public void Training_captions_have_it_at_times_in_English_alone_and_the_same_for_one_seed()
    {
        var apple = EmojiSetTests.Set.Concepts.Single(static c => c.Code == "1F34E");
        var captions = new EmojiCaptions { Languages = ["en", "de"], TagProbability = 0.2f };
        string[] Draw() => [.. Enumerable.Range(0, 400).Select(i =>
        {
            var random = new SampleRandom(1, 0, i);
            return captions.Draw(apple, ref random, Bundled);
        })];
        var texts = Draw();
        Assert.Equal(texts, Draw());
        Assert.InRange(texts.Count(static t => t.Contains(", fruit with", StringComparison.Ordinal)), 60, 140);
        Assert.All(texts.Where(static t => t.Contains("Apfel", StringComparison.Ordinal)), static t => Assert.DoesNotContain("fruit with", t, StringComparison.Ordinal));
    }

    [Fact]
    public void Captions_of_ones_own_get_what_is_known_of_the_longest_name_in_them()
    {
        var file = folder.Write("own.jsonl", """
            {"name":"Dog","text":"a domesticated canine"}

            {"name":"hot_dog","text":"a sausage in a bun"}
            """);
        var table = KnowledgeTable.Open(new() { Table = file, Probability = 1 });
        var random = new SampleRandom(1, 0, 0);
        Assert.Equal("A man eats a hot dog, a sausage in a bun", table.AppendToCaption("A man eats a hot dog", ref random));
        Assert.Equal("a DOG, a domesticated canine", table.AppendToCaption("a DOG", ref random));
        Assert.Equal("dogma", table.AppendToCaption("dogma", ref random));
        Assert.Equal("hot_dog", table.FindName("one hot dog, please"));
        Assert.Equal("a hot dog, a sausage in a bun", table.Append("a hot dog", "Hot Dog"));
        Assert.Equal("dog", KnowledgeTable.Open(new() { Table = file, Probability = 0 }).AppendToCaption("dog", ref random));
    }

    [Theory]
    [InlineData("", "has no line")]
    [InlineData("{\"name\":\"a\"", "line 1")]
    [InlineData("{\"text\":\"a\"}", "line 1")]
    [InlineData("{\"name\":\"a\",\"text\":\"b\"}\n{\"name\":\"A\",\"text\":\"c\"}", "line 2: the name 'A' is empty or was there before")]
    [InlineData("{\"name\":\"\",\"text\":\"b\"}", "is empty")]
    [InlineData("{\"name\":\"a\",\"hypernyms\":[null]}", "null")]
    [InlineData("[]", "line 1")]
    [InlineData("null", "line 1")]
    public void A_table_that_is_none_is_told_with_its_line(string content, string expected) =>
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => KnowledgeTable.Open(new() { Table = folder.Write("t.jsonl", content) })).Message, StringComparison.Ordinal);

    [Fact]
    public void Options_out_of_range_and_missing_tables_are_told()
    {
        Tells(new() { Kinds = [] }, "kinds");
        Tells(new() { Kinds = [KnowledgeKind.Keywords, KnowledgeKind.Keywords] }, "twice");
        Tells(new() { Probability = 1.5f }, "probability");
        Tells(new() { MaxWords = 0 }, "expected 1 to");
        Tells(new() { Table = folder["none.jsonl"] }, "none.jsonl");

        static void Tells(KnowledgeOptions options, string expected) =>
            Assert.Contains(expected, Assert.Throws<PanoptesException>(() => KnowledgeTable.Open(options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Damaged_tables_give_entries_or_one_clear_error()
    {
        var original = """{"name":"red apple","head":"apple","definition":"a fruit","hypernyms":["fruit","food"],"keywords":["red","x"]}"""u8.ToArray();
        Gen.Select(Gen.Int[0, original.Length - 1], Gen.Byte).Array[1, 4].Sample(edits =>
        {
            var bytes = original.ToArray();
            foreach (var (at, value) in edits) bytes[at] = value;
            var file = folder.Write("t.jsonl", bytes);
            DamagedDataTests.Read(1 << 20, () =>
            {
                foreach (var entry in KnowledgeTable.Open(new() { Table = file }).Entries) Assert.NotEmpty(entry.Name);
            });
        }, iter: 300, threads: 1);
    }
}
