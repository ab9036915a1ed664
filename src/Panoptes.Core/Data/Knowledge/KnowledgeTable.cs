using System.Text.Json;
using System.Text.Json.Serialization;
using Panoptes.Data.Emoji;

namespace Panoptes.Data.Knowledge;

/// <summary>What is known of a thing beside its name.</summary>
public enum KnowledgeKind
{
    /// <summary>What WordNet says that it is, or the text of a table of one's own.</summary>
    Definition,

    /// <summary>What it is a kind of, and what that is a kind of.</summary>
    Hypernyms,

    /// <summary>Words that go with it.</summary>
    Keywords,
}

/// <summary>One line of a table of knowledge.</summary>
public sealed record KnowledgeEntry
{
    public required string Name { get; init; }

    /// <summary>The word of the name that was looked up; empty where there is none.</summary>
    public string Head { get; init; } = "";

    /// <summary>What it means; empty where that is unknown.</summary>
    public string Definition { get; init; } = "";

    /// <summary>From the nearest to the most general.</summary>
    public IReadOnlyList<string> Hypernyms { get; init; } = [];

    public IReadOnlyList<string> Keywords { get; init; } = [];

    /// <summary>In a table of one's own: all that is to be said, in the place of definition, hypernyms and keywords.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Text { get; init; }
}

/// <summary>Which knowledge is appended to texts, how often and how much of it.</summary>
public sealed record KnowledgeOptions
{
    /// <summary>A table of one's own, JSON lines with <c>name</c> and <c>text</c>; null: the bundled one, about the emoji's concepts.</summary>
    public string? Table { get; init; }

    /// <summary>What is appended, in this order: any of definition, hypernyms and keywords.</summary>
    public IReadOnlyList<KnowledgeKind> Kinds { get; init; } = [KnowledgeKind.Definition];

    /// <summary>The share of training texts that it is appended to; in evaluation it is appended to every class's text.</summary>
    public float Probability { get; init; } = 0.5f;

    /// <summary>The words that a text has at most with what is appended to it: the knowledge ends with a whole word before that. A text that has as many by itself stays as it is.</summary>
    public int MaxWords { get; init; } = 16;
}

/// <summary>
/// External knowledge by name, to be appended to texts in training and in evaluation as K-LITE does (Shen et al. 2022, arXiv:2204.09222): "red apple"
/// becomes "red apple, fruit with red or yellow or green skin and sweet to tart crisp whitish flesh".
/// </summary>
/// <remarks>Names are found whatever their case, and with underscores for spaces. Immutable and safe for any number of threads.</remarks>
public sealed class KnowledgeTable
{
    /// <summary>A table is small: some thousand names.</summary>
    const int MaxBytes = 1 << 26;

    /// <summary>Farther up there are only objects, wholes and entities.</summary>
    const int MostHypernyms = 3;

    readonly Dictionary<string, KnowledgeEntry> entries;
    readonly KnowledgeOptions options;
    readonly int longest;

    KnowledgeTable(Dictionary<string, KnowledgeEntry> entries, KnowledgeOptions options)
    {
        (this.entries, this.options) = (entries, options);
        longest = entries.Keys.Select(static k => k.Count(static c => c == ' ') + 1).DefaultIfEmpty(0).Max();
    }

    /// <summary>Everything in the table.</summary>
    public IReadOnlyCollection<KnowledgeEntry> Entries => entries.Values;

    /// <summary>Opens a table, or the bundled one beside the bundled emoji.</summary>
    /// <exception cref="PanoptesException">An option is out of range, or the table is missing or damaged.</exception>
    public static KnowledgeTable Open(KnowledgeOptions options)
    {
        if (options.Kinds.Count == 0 || options.Kinds.Distinct().Count() != options.Kinds.Count) throw new PanoptesException("The kinds of knowledge are empty or have one twice; expected definition, hypernyms, keywords or some of them.");
        if (options.Probability is not (>= 0 and <= 1)) throw new PanoptesException($"The probability of knowledge is {options.Probability}; expected 0 to 1.");
        if (options.MaxWords is < 1 or > 10_000) throw new PanoptesException($"The most words of a text with knowledge are {options.MaxWords}; expected 1 to 10000.");
        return new(Read(options.Table ?? Find()), options);
    }

    /// <summary>What is known of a name, whole; null where nothing is.</summary>
    public string? Of(string name)
    {
        if (!entries.TryGetValue(Key(name), out var entry)) return null;
        if (entry.Text is { } text) return text;
        var parts = options.Kinds.SelectMany(kind => kind switch
        {
            KnowledgeKind.Definition => [entry.Definition],
            KnowledgeKind.Hypernyms => entry.Hypernyms.Take(MostHypernyms),
            _ => entry.Keywords,
        }).Where(static p => p.Length > 0);
        return string.Join(", ", parts) is { Length: > 0 } all ? all : null;
    }

    /// <summary>A text about the named thing with what is known of it appended: "TEXT, KNOWLEDGE", in at most <see cref="KnowledgeOptions.MaxWords"/> words.</summary>
    public string Append(string text, string name)
    {
        if (Of(name) is not { } known) return text;
        var room = options.MaxWords - text.Split(' ', StringSplitOptions.RemoveEmptyEntries).Length;
        if (room <= 0) return text;
        var words = known.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        var count = Math.Min(room, words.Length);
        if (count < words.Length)
            while (count > 0 && ConceptSenses.IsSmall(words[count - 1])) count--;             // "skin and" ends better with "skin"
        return count == 0 ? text : text + ", " + string.Join(' ', words, 0, count).TrimEnd(',', ';', ':');
    }

    /// <summary>The same at times, for training: with <see cref="KnowledgeOptions.Probability"/>.</summary>
    public string Append(string text, string name, ref SampleRandom random) => random.Chance(options.Probability) ? Append(text, name) : text;

    /// <summary>The same for a caption that names one of the table's things: the longest name in it, of those the first. Without one it stays as it is.</summary>
    public string AppendToCaption(string caption, ref SampleRandom random) =>
        random.Chance(options.Probability) && FindName(caption) is { } name ? Append(caption, name) : caption;

    /// <summary>The longest name that a text has as whole words, the first of those; null where it has none.</summary>
    public string? FindName(string text)
    {
        var words = text.Split([' ', ',', '.', ';', ':', '!', '?', '"', '(', ')', '\t', '\n'], StringSplitOptions.RemoveEmptyEntries);
        for (var length = Math.Min(longest, words.Length); length > 0; length--)
            for (var start = 0; start + length <= words.Length; start++)
                if (entries.TryGetValue(Key(string.Join(' ', words, start, length)), out var entry)) return entry.Name;
        return null;
    }

    static string Key(string name) => name.Replace('_', ' ').ToLowerInvariant();

    static Dictionary<string, KnowledgeEntry> Read(string file)
    {
        var (entries, number) = (new Dictionary<string, KnowledgeEntry>(StringComparer.Ordinal), 0);
        try
        {
            if (new FileInfo(file) is { Exists: true, Length: > MaxBytes and var length }) throw new PanoptesException($"{file} has {length:N0} bytes; a table of knowledge has at most {MaxBytes:N0}.");
            foreach (var line in File.ReadLines(file))
            {
                number++;
                if (string.IsNullOrWhiteSpace(line)) continue;
                var entry = JsonSerializer.Deserialize<KnowledgeEntry>(line, EmojiBuilder.Json) ?? throw new JsonException("it is null.");
                if (entry.Hypernyms.Contains(null!) || entry.Keywords.Contains(null!)) throw new PanoptesException($"{file}, line {number}: there is a null among the hypernyms or keywords.");
                if (entry.Name.Length == 0 || !entries.TryAdd(Key(entry.Name), entry)) throw new PanoptesException($"{file}, line {number}: the name '{entry.Name}' is empty or was there before.");
            }
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{file}, line {number}: expected a JSON object with name and text: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The table of knowledge {file} cannot be read: {e.Message}", e);
        }
        return entries.Count > 0 ? entries : throw new PanoptesException($"{file} has no line; expected JSON objects with name and text.");
    }

    static string Find() => BundledData.Find("knowledge", KnowledgeBuilder.FileName)
        ?? throw new PanoptesException($"The bundled knowledge was not found: set PANOPTES_DATA to the folder that holds knowledge/{KnowledgeBuilder.FileName}, or build it with `panoptes data build knowledge`.");
}
