using Panoptes.Data;
using Panoptes.Data.Knowledge;
using Panoptes.Representation.Evaluation;
using Panoptes.Representation.Tests.Evaluation;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Representation.Tests.Training;

/// <summary>K-LITE: knowledge from the recipe to the captions and to the texts of the classes.</summary>
public sealed class KnowledgeTrainingTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-klite-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static Recipe Recipe(string data) => Representation.Training.Recipe.Parse($$"""
        name: tiny
        model: {from: none}
        data: {{data}}
        schedule: {learning_rate: 0.003, steps: 8}
        """, "tiny.yaml");

    static PairData Open(Recipe recipe)
    {
        using var tiny = new TinyClip();
        var (model, processor, _) = tiny.LoadForTraining();
        using (model) return PairData.Open(recipe, Towers.Of(model), processor, [], PairData.OpenEmoji(recipe));
    }

    [Fact]
    public void A_recipe_appends_what_it_asks_for_to_as_many_captions()
    {
        var data = Open(Recipe("{set: emoji, concepts: 200, batch_size: 128, captions: {tag_probability: 0}, knowledge: {kinds: [hypernyms, keywords], probability: 0.75, max_words: 9}}"));
        using var loader = data.Loader;
        using var batch = loader.Next();
        Assert.InRange(batch.Texts.Count(static t => t.Contains(", ", StringComparison.Ordinal)), 70, 115);
        Assert.All(batch.Texts.Where(static t => t.Contains(", ", StringComparison.Ordinal) && !t.Contains(':', StringComparison.Ordinal)), static t => Assert.InRange(t.Split(' ').Length, 2, 9));
    }

    [Fact]
    public void Captions_of_ones_own_need_a_table_of_ones_own()
    {
        new Imaging.Image(16, 16, 3).Save(Path.Combine(folder, "a.png"));
        File.WriteAllText(Path.Combine(folder, "a.txt"), "the cat sits");
        File.WriteAllText(Path.Combine(folder, "own.jsonl"), """{"name":"cat","text":"a feline"}""");
        using var loader = Open(Recipe($"{{set: '{folder}', batch_size: 1, knowledge: {{table: '{folder}/own.jsonl', probability: 1}}}}")).Loader;
        using var batch = loader.Next();
        Assert.Equal(["the cat sits, a feline"], batch.Texts);
        Assert.Contains("needs a table", Assert.Throws<PanoptesException>(() => Open(Recipe($"{{set: '{folder}', batch_size: 1, knowledge: {{}}}}"))).Message, StringComparison.Ordinal);
        Assert.Contains("own2.jsonl", Assert.Throws<PanoptesException>(() => Open(Recipe($"{{set: '{folder}', batch_size: 1, knowledge: {{table: '{folder}/own2.jsonl'}}}}"))).Message, StringComparison.Ordinal);
    }

    /// <summary>Evaluation refuses texts that are too long, and training cuts them: neither may happen with the recipe's own number of words.</summary>
    [Fact]
    public void With_the_repository_s_recipe_every_concept_s_texts_fit_the_text_tower()
    {
        var recipe = Representation.Training.Recipe.Load(Path.Combine(Parity.Goldens.Repository, "recipes", "klite.yaml"));
        const int Context = 48;
        Assert.Contains($"context_length: {Context}", recipe.Text, StringComparison.Ordinal);
        ClipVocabulary.Truncate(recipe.Resolve(recipe.Model.Tokenizer!.Merges), recipe.Model.Tokenizer.Count, folder, Context);
        var tokenizer = Tokenizer.Load(folder);
        var knowledge = KnowledgeTable.Open(recipe.Data.Knowledge!);
        string[] texts = [.. EmojiSet.Open().Concepts.SelectMany(c => new EmojiCaptions().Templates.Select(t => knowledge.Append(t.Replace("{}", c.Name, StringComparison.Ordinal), c.Name)))];
        var batch = tokenizer.Encode(texts, Context);
        Assert.Empty(batch.Truncated.Select(i => $"{texts[i]}: {batch.Lengths[i]}"));
        Assert.True(batch.Lengths.Average() > 20);
    }

    [Fact]
    public void Evaluation_appends_it_to_every_class_and_what_is_too_long_is_told()
    {
        using var emoji = new SmallEmoji();
        using var tiny = new TinyClip();
        using var clip = tiny.Load();
        var set = emoji.Open();
        var table = Path.Combine(folder, "same.jsonl");
        File.WriteAllLines(table, set.Concepts.Select(static c => System.Text.Json.JsonSerializer.Serialize(new { name = c.Name, text = string.Join(' ', Enumerable.Repeat("cat", 90)) })));
        var plain = EmojiEvaluation.Run(clip, set);
        var options = new EmojiEvaluationOptions { Templates = ["{}"], Knowledge = KnowledgeTable.Open(new() { Table = table, MaxWords = 8 }) };
        var known = EmojiEvaluation.Run(clip, set, options);
        Assert.NotEqual(plain.Retrieval.Model, known.Retrieval.Model);
        var tooLong = options with { Knowledge = KnowledgeTable.Open(new() { Table = table, MaxWords = 90 }) };
        Assert.Contains("tokens; the model takes at most", Assert.Throws<PanoptesException>(() => EmojiEvaluation.Run(clip, set, tooLong)).Message, StringComparison.Ordinal);
    }
}
