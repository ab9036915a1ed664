using System.Collections.Frozen;
using System.Globalization;

namespace Panoptes.Understanding;

/// <summary>Words and their forms.</summary>
static class Words
{
    static readonly FrozenDictionary<string, string> Singulars = new[]
    {
        ("mice", "mouse"), ("geese", "goose"), ("oxen", "ox"), ("feet", "foot"), ("teeth", "tooth"), ("leaves", "leaf"), ("wolves", "wolf"), ("knives", "knife"), ("children", "child"), ("dice", "die"), ("men", "man"),
        ("women", "woman"), ("people", "person"), ("loaves", "loaf"), ("scarves", "scarf"), ("shelves", "shelf"), ("halves", "half"), ("elves", "elf"), ("thieves", "thief"), ("wives", "wife"), ("lives", "life"),
        ("potatoes", "potato"), ("tomatoes", "tomato"), ("mangoes", "mango"), ("volcanoes", "volcano"), ("mosquitoes", "mosquito"), ("tornadoes", "tornado"), ("heroes", "hero"), ("echoes", "echo"), ("shoes", "shoe"),
        ("eyes", "eye"), ("ties", "tie"), ("pies", "pie"), ("cookies", "cookie"), ("movies", "movie"), ("axes", "axe"), ("horses", "horse"), ("houses", "house"), ("roses", "rose"), ("noses", "nose"), ("cases", "case"),
        ("vases", "vase"), ("purses", "purse"), ("mouses", "mouse"), ("caches", "cache"), ("headaches", "headache"), ("gases", "gas"), ("canvases", "canvas"), ("lenses", "lens"), ("irises", "iris"), ("rhinoceroses", "rhinoceros"),
    }.ToFrozenDictionary(static p => p.Item1, static p => p.Item2, StringComparer.Ordinal);

    static readonly FrozenDictionary<string, string> Plurals = Singulars.GroupBy(static p => p.Value).ToFrozenDictionary(static g => g.Key, static g => g.OrderBy(static p => p.Key.EndsWith("es", StringComparison.Ordinal)).First().Key, StringComparer.Ordinal);

    /// <summary>What begins a name's second part: the word before it is the noun.</summary>
    static readonly string[] Tails = [" with ", " without ", " of ", " on ", " in ", " at ", " from ", " behind ", " showing ", " over ", " under ", " facing "];

    /// <summary>Words in -s that have no singular, or are the same.</summary>
    static readonly FrozenSet<string> Same = new[]
    {
        "grapes", "glasses", "sunglasses", "scissors", "jeans", "shorts", "pants", "trousers", "skis", "binoculars", "tennis", "chess", "fries", "goggles", "chopsticks", "series", "species", "this", "its",
    }.ToFrozenSet(StringComparer.Ordinal);

    static readonly string[] Small = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

    static readonly string[] Ordinals = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];

    internal static string Number(int n) => n < Small.Length ? Small[n] : n.ToString(CultureInfo.InvariantCulture);

    internal static string Ordinal(int index) => index < 0 ? "last" : Ordinals[Math.Min(index, Ordinals.Length - 1)];

    internal static string Lower<T>(T value) where T : struct, Enum => value.ToString().ToLowerInvariant();

    internal static string Superlative(RankWord by) => by switch
    {
        RankWord.FromLeft => "leftmost",
        RankWord.FromRight => "rightmost",
        RankWord.FromTop => "topmost",
        RankWord.FromBottom => "lowest",
        _ => Lower(by),
    };

    internal static string? From(RankWord by) => by switch
    {
        RankWord.FromLeft => "from the left",
        RankWord.FromRight => "from the right",
        RankWord.FromTop => "from the top",
        RankWord.FromBottom => "from the bottom",
        _ => null,
    };

    internal static string Comparative(CompareWord word) => word switch
    {
        CompareWord.FurtherLeft => "further left",
        CompareWord.FurtherRight => "further right",
        _ => Lower(word),
    };

    internal static string Relation(RelationWord word) => word switch
    {
        RelationWord.LeftOf => "left of",
        RelationWord.RightOf => "right of",
        RelationWord.NextTo => "next to",
        _ => Lower(word),
    };

    internal static string At(PlaceWord place)
    {
        var (vertical, side) = (place.HasFlag(PlaceWord.Top) ? "upper" : place.HasFlag(PlaceWord.Bottom) ? "lower" : "", place.HasFlag(PlaceWord.Left) ? "left" : place.HasFlag(PlaceWord.Right) ? "right" : "");
        return (vertical.Length > 0, side.Length > 0) switch
        {
            (true, true) => $"in the {vertical} {side}",
            (true, false) => vertical == "upper" ? "at the top" : "at the bottom",
            (false, true) => $"on the {side}",
            _ => "in the middle",
        };
    }

    /// <summary>The last word of a phrase in the singular; a word that is none comes back as it is.</summary>
    internal static string Singular(string word)
    {
        if (Same.Contains(word) || Plurals.ContainsKey(word) || word.Length < 3) return word;
        if (Singulars.TryGetValue(word, out var known)) return known;
        if (word.EndsWith("ies", StringComparison.Ordinal) && word.Length > 4) return word[..^3] + "y";
        foreach (var end in (ReadOnlySpan<string>)["ches", "shes", "sses", "uses", "xes", "zes"])
            if (word.EndsWith(end, StringComparison.Ordinal)) return word[..^2];
        return word.EndsWith('s') && !word.EndsWith("ss", StringComparison.Ordinal) && !word.EndsWith("us", StringComparison.Ordinal) && !word.EndsWith("is", StringComparison.Ordinal) ? word[..^1] : word;
    }

    /// <summary>A phrase with its noun in the plural: "notebooks with decorative cover".</summary>
    internal static string Plural(string phrase)
    {
        var end = Tails.Select(t => phrase.IndexOf(t, StringComparison.Ordinal)).Where(static at => at > 0).DefaultIfEmpty(phrase.Length).Min();
        if (end < phrase.Length) return Plural(phrase[..end]) + phrase[end..];
        var start = phrase.LastIndexOf(' ') + 1;
        var (before, word) = (phrase[..start], phrase[start..]);
        return before + (Same.Contains(word) ? word
            : Plurals.TryGetValue(word, out var known) ? known
            : word.EndsWith('y') && word.Length > 1 && !"aeiou".Contains(word[^2]) ? word[..^1] + "ies"
            : word.EndsWith('s') || word.EndsWith('x') || word.EndsWith('z') || word.EndsWith("ch", StringComparison.Ordinal) || word.EndsWith("sh", StringComparison.Ordinal) ? word + "es"
            : word + "s");
    }
}
