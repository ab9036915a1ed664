using System.Text;
using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data.Knowledge;

namespace Panoptes.Core.Tests.Data.Knowledge;

/// <summary>The reader of WordNet's files, on lines in their form with places of their own.</summary>
public sealed class WordNetTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    /// <summary>One meaning: its topic's number, its words, the places in this list of what it is a kind of, and its gloss.</summary>
    sealed record Line(int Category, string[] Words, int[] Hypernyms, string Gloss);

    static readonly Line[] Nouns =
    [
        new(3, ["entity"], [], "that which is perceived to have its own existence"),
        new(13, ["edible_fruit"], [0], "edible reproductive body of a seed plant"),
        new(13, ["apple"], [1], "fruit with red or yellow skin; \"an apple a day\""),
        new(20, ["apple", "orchard_apple_tree", "Malus_pumila"], [0], "native Eurasian tree"),
        new(18, ["man", "adult_male"], [0], "an adult person who is male"),
        new(6, ["box"], [0], "a container"),
        new(5, ["mouse"], [0], "a rodent"),
        new(6, ["boxful"], [0], "what a box holds"),
        new(6, ["glass"], [0], "a brittle solid"),
    ];

    /// <summary>The files index.noun and data.noun, as wndb(5WN) has them, with the license's indented lines before.</summary>
    internal static Dictionary<string, byte[]> Files()
    {
        var license = "  1 This software and database is being provided to you, the LICENSEE, by  \n";
        var places = new int[Nouns.Length];
        var data = "";
        for (var pass = 0; pass < 2; pass++)                                          // the places are of fixed width
        {
            data = license;
            for (var i = 0; i < Nouns.Length; i++)
            {
                places[i] = data.Length;
                var n = Nouns[i];
                data += $"{places[i]:D8} {n.Category:D2} n {n.Words.Length:x2} {string.Concat(n.Words.Select(static w => w + " 0 "))}{n.Hypernyms.Length:D3} {string.Concat(n.Hypernyms.Select(h => $"@ {places[h]:D8} n 0000 "))}| {n.Gloss}  \n";
            }
        }
        var index = license + string.Concat(Nouns.SelectMany(static (n, i) => n.Words.Select(w => (Word: w.ToLowerInvariant(), i))).GroupBy(static p => p.Word).OrderBy(static g => g.Key, StringComparer.Ordinal)
            .Select(g => $"{g.Key} n {g.Count()} 1 @ {g.Count()} 0 {string.Join(' ', g.Select(p => $"{places[p.i]:D8}"))}  \n"));
        return new(StringComparer.Ordinal)
        {
            ["data.noun"] = Encoding.ASCII.GetBytes(data),
            ["index.noun"] = Encoding.ASCII.GetBytes(index),
            ["noun.exc"] = "mice mouse\nshoulder_blades shoulder_blade\n"u8.ToArray(),
        };
    }

    [Fact]
    public void A_word_has_its_meanings_in_order_with_definitions_synonyms_and_topics()
    {
        var senses = WordNet.Parse(Files()).Senses("Apple", WordNetPart.Noun);
        Assert.Equal(["noun.food", "noun.plant"], senses.Select(static s => s.Category));
        Assert.Equal(("fruit with red or yellow skin", "fruit with red or yellow skin; \"an apple a day\""), (senses[0].Definition, senses[0].Gloss));
        Assert.Equal(["apple", "orchard apple tree", "Malus pumila"], senses[1].Words);
        Assert.Equal(senses[1].Offset, Assert.Single(WordNet.Parse(Files()).Senses("malus pumila", WordNetPart.Noun)).Offset);
        Assert.Empty(WordNet.Parse(Files()).Senses("pear", WordNetPart.Noun));
        Assert.Empty(WordNet.Parse(Files()).Senses("apple", WordNetPart.Verb));
    }

    [Fact]
    public void Hypernyms_lead_up_to_the_most_general_and_circles_end()
    {
        var files = Files();
        var read = WordNet.Parse(files);
        Assert.Equal(["edible fruit", "entity"], read.HypernymChain(read.Senses("apple", WordNetPart.Noun)[0]).Select(static s => s.Words[0]));

        // The fruit becomes a kind of itself instead of an entity.
        var (fruit, entity) = (read.Senses("edible fruit", WordNetPart.Noun)[0].Offset, read.Senses("entity", WordNetPart.Noun)[0].Offset);
        files["data.noun"] = Encoding.ASCII.GetBytes(Encoding.ASCII.GetString(files["data.noun"]).Replace($"@ {entity:D8}", $"@ {fruit:D8}", StringComparison.Ordinal));
        read = WordNet.Parse(files);
        Assert.Equal(["edible fruit"], read.HypernymChain(read.Senses("apple", WordNetPart.Noun)[0]).Select(static s => s.Words[0]));
        Assert.Empty(read.HypernymChain(read.Senses("edible fruit", WordNetPart.Noun)[0]));
    }

    [Theory]
    [InlineData("apples", "apple")]
    [InlineData("boxes", "box")]
    [InlineData("men", "man")]
    [InlineData("mice", "mouse")]
    [InlineData("boxesful", "boxful")]
    [InlineData("glass", "glass")]
    [InlineData("orchard apple trees", "orchard apple tree")]
    public void Forms_lead_to_their_words(string form, string word) => Assert.Equal([word], WordNet.Parse(Files()).BaseForms(form, WordNetPart.Noun));

    [Fact]
    public void What_is_no_form_of_a_known_word_leads_nowhere()
    {
        var read = WordNet.Parse(Files());
        foreach (var word in (string[])["", "s", "es", "ful", "pears", "applesauce"]) Assert.Empty(read.BaseForms(word, WordNetPart.Noun));
    }

    [Fact]
    public void A_folder_without_WordNet_half_of_a_part_and_damage_are_told()
    {
        Directory.CreateDirectory(folder["empty"]);
        Assert.Contains("no WordNet", Assert.Throws<PanoptesException>(() => WordNet.Open(folder["empty"])).Message, StringComparison.Ordinal);
        Assert.Contains("cannot be read", Assert.Throws<PanoptesException>(() => WordNet.Open(folder["nowhere"])).Message, StringComparison.Ordinal);
        var files = Files();
        files.Remove("data.noun");
        Assert.Contains("index.noun without data.noun", Assert.Throws<PanoptesException>(() => WordNet.Parse(files)).Message, StringComparison.Ordinal);
        files = Files();
        files["data.noun"] = files["data.noun"][..500];
        Assert.Contains("data.noun", Assert.Throws<PanoptesException>(() => WordNet.Parse(files).Senses("glass", WordNetPart.Noun)).Message, StringComparison.Ordinal);
        foreach (var (name, bytes) in Files()) folder.Write(name, bytes);
        Assert.Equal(2, WordNet.Open(Path.GetDirectoryName(folder["index.noun"])!).Senses("apple", WordNetPart.Noun).Count);
    }

    [Fact]
    public void Damaged_files_give_meanings_or_one_clear_error_in_bounded_time_and_memory()
    {
        var original = Files();
        string[] words = [.. Nouns.SelectMany(static n => n.Words)];
        var places = Gen.Select(Gen.Int[0, 2], Gen.Double[0, 1], Gen.OneOf(Gen.Byte, Gen.Char["0123456789abcfn@ |\n"].Select(static c => (byte)c))).Array[1, 12];
        Gen.Select(places, Gen.Double[0.5, 1.5]).Sample((edits, cut) =>
        {
            var files = original.ToDictionary(static f => f.Key, static f => f.Value.ToArray(), StringComparer.Ordinal);
            string[] names = [.. files.Keys];
            foreach (var (file, at, value) in edits) files[names[file]][(int)(at * (files[names[file]].Length - 1))] = value;
            if (cut < 1) files["data.noun"] = files["data.noun"][..(int)(files["data.noun"].Length * cut)];
            DamagedDataTests.Read(4 << 20, () =>
            {
                var read = WordNet.Parse(files);
                foreach (var word in words)
                {
                    foreach (var form in read.BaseForms(word + "s", WordNetPart.Noun)) Assert.NotEmpty(form);
                    foreach (var sense in read.Senses(word, WordNetPart.Noun)) Assert.InRange(read.HypernymChain(sense).Count, 0, 32);
                }
            });
        }, iter: 500, threads: 1);
    }
}
