using System.Collections.Frozen;

namespace Panoptes.Data;

/// <summary>
/// CLDR's names in English sentences: their articles, their plurals, and which of them may be confused. Names of several things (grapes) and
/// of what is not counted (bacon) stand without an article and are never asked for by number.
/// </summary>
sealed class SceneNames
{
    /// <summary>What begins a name's second part: the word before it is the noun.</summary>
    static readonly string[] Tails =
    [
        " with ", " without ", " of ", " on ", " in ", " at ", " from ", " behind ", " showing ", " over ", " under ", " facing ", " tilted ", " fluttering ", " increasing", " decreasing", " done", " not done", " for ",
    ];

    static readonly FrozenSet<string> Uncounted = new[]
    {
        "bread", "baguette bread", "flatbread", "stuffed flatbread", "bacon", "cooked rice", "curry rice", "popcorn", "butter", "salt", "canned food", "spaghetti", "sushi", "sake", "oden", "dango", "fondue",
        "falafel", "garlic", "broccoli", "shaved ice", "ice", "ice cream", "soft ice cream", "candy", "custard", "pouring liquid", "mate", "bubble tea", "wood", "coral", "fire", "fog", "wedding", "camping", "cooking", "bowling", "tennis",
        "badminton", "lacrosse", "ping pong", "field hockey", "ice hockey", "money with wings", "dna", "construction", "building construction", "yarn", "thread", "soap", "roasted sweet potato", "mount fuji", "ginger root", "high voltage", "luggage",
    }.ToFrozenSet(StringComparer.Ordinal);

    static readonly FrozenDictionary<string, string> Plurals = new[]
    {
        ("mouse", "mice"), ("goose", "geese"), ("ox", "oxen"), ("foot", "feet"), ("tooth", "teeth"), ("leaf", "leaves"),
        ("wolf", "wolves"), ("knife", "knives"), ("child", "children"), ("die", "dice"), ("deer", "deer"), ("bison", "bison"),
        ("moose", "moose"), ("shrimp", "shrimp"), ("squid", "squid"), ("sheep", "sheep"), ("buffalo", "buffalo"), ("potato", "potatoes"),
        ("tomato", "tomatoes"), ("mango", "mangoes"), ("volcano", "volcanoes"), ("mosquito", "mosquitoes"), ("tornado", "tornadoes"),
        ("loaf", "loaves"), ("scarf", "scarves"), ("shelf", "shelves"), ("sheaf", "sheaves"),
    }.ToFrozenDictionary(static p => p.Item1, static p => p.Item2, StringComparer.Ordinal);

    static readonly FrozenSet<string> SmallWords = new[] { "a", "and", "at", "behind", "for", "from", "in", "of", "on", "or", "the", "to", "with", "without" }.ToFrozenSet(StringComparer.Ordinal);

    static readonly string[] Numbers = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"];

    readonly string[] names, plurals;
    readonly bool[] single, several;
    readonly int[][] nameWords, allWords;

    internal SceneNames(IReadOnlyList<EmojiConcept> concepts)
    {
        var words = new Dictionary<string, int>(StringComparer.Ordinal);
        names = [.. concepts.Select(static c => c.Name)];
        several = [.. names.Select(static n => IsPlural(Noun(n).Head))];
        single = [.. names.Select((n, i) => !several[i] && !Uncounted.Contains(n))];
        plurals = [.. names.Select(PluralOf)];
        nameWords = [.. names.Select(Words)];
        allWords = [.. concepts.Select(c => c.Tags.GetValueOrDefault("en", []).Append(c.Name).SelectMany(Words).Distinct().ToArray())];

        int[] Words(string text)
        {
            var ids = new List<int>();
            foreach (var word in text.ToLowerInvariant().Split([' ', '-', ':', ','], StringSplitOptions.RemoveEmptyEntries))
            {
                if (SmallWords.Contains(word)) continue;
                if (!words.TryGetValue(word, out var id)) words[word] = id = words.Count;
                ids.Add(id);
            }
            return [.. ids];
        }
    }

    internal string Name(int concept) => names[concept];

    /// <summary>Whether two of it can be spoken of.</summary>
    internal bool IsCounted(int concept) => single[concept] && !names[concept].Contains(" and ", StringComparison.Ordinal);

    /// <summary>Whether its name is one of several things, so that they "are" there.</summary>
    internal bool IsSeveral(int concept) => several[concept];

    internal string Plural(int concept) => plurals[concept];

    /// <summary>So many of it: "a red apple", "two red apples", "grapes".</summary>
    /// <param name="concept">Which concept.</param>
    /// <param name="count">How many.</param>
    /// <param name="adjective">A word before the name of one.</param>
    internal string Phrase(int concept, int count, string? adjective = null)
    {
        if (count > 1) return $"{Numbers[count]} {plurals[concept]}";
        var name = adjective is null ? names[concept] : $"{adjective} {names[concept]}";
        return !single[concept] ? name : $"{(TakesAn(name) ? "an" : "a")} {name}";
    }

    /// <summary>
    /// Whether one could be taken for the other, or be called by its name: they share a word (black cat, cat), or every word of one's name is among
    /// the other's search words (dog, poodle). A scene has no two such concepts, and no question asks for one where the other is.
    /// </summary>
    internal bool AreConfusable(int a, int b)
    {
        foreach (var word in nameWords[a])
            if (nameWords[b].AsSpan().Contains(word)) return true;
        return Within(nameWords[a], allWords[b]) || Within(nameWords[b], allWords[a]);

        static bool Within(int[] words, int[] all)
        {
            foreach (var word in words)
                if (!all.AsSpan().Contains(word)) return false;
            return true;
        }
    }

    static (string Head, string Tail) Noun(string name)
    {
        var end = name.Length;
        foreach (var tail in Tails)
            if (name.IndexOf(tail, 1, StringComparison.Ordinal) is > 0 and var at && at < end) end = at;
        return (name[..end], name[end..]);
    }

    static bool IsPlural(string noun) => noun == "skis" || (noun.EndsWith('s') && !noun.EndsWith("ss", StringComparison.Ordinal)
        && !noun.EndsWith("us", StringComparison.Ordinal) && !noun.EndsWith("is", StringComparison.Ordinal) && !noun.EndsWith("ros", StringComparison.Ordinal));

    static string PluralOf(string name)
    {
        var (head, tail) = Noun(name);
        if (IsPlural(head)) return name;
        var start = head.LastIndexOf(' ') + 1;
        var (before, last) = (head[..start], head[start..]);
        return before + Inflect(last) + tail;

        static string Inflect(string word)
        {
            if (Plurals.TryGetValue(word, out var irregular)) return irregular;
            if (word.EndsWith("fish", StringComparison.Ordinal)) return word;
            if (word.EndsWith("man", StringComparison.Ordinal)) return word[..^2] + "en";
            if (word.EndsWith('y') && word.Length > 1 && !"aeiou".Contains(word[^2])) return word[..^1] + "ies";
            var hisses = word.EndsWith('s') || word.EndsWith('x') || word.EndsWith('z') || word.EndsWith("ch", StringComparison.Ordinal) || word.EndsWith("sh", StringComparison.Ordinal);
            return word + (hisses ? "es" : "s");
        }
    }

    /// <summary>By sound: a unicorn, a ewe, an hourglass, an x-ray.</summary>
    static bool TakesAn(string name)
    {
        var lower = name.ToLowerInvariant();
        if (lower.StartsWith("hour", StringComparison.Ordinal) || lower.StartsWith("x-", StringComparison.Ordinal)) return true;
        foreach (var start in (ReadOnlySpan<string>)["uni", "use", "uti", "eu", "ew", "one"])
            if (lower.StartsWith(start, StringComparison.Ordinal)) return false;
        return "aeiou".Contains(lower[0]);
    }
}
