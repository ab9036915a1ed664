using System.Globalization;
using System.Text;

namespace Panoptes.Data.Knowledge;

/// <summary>One or more words of a name, and whether they are of its main phrase.</summary>
readonly record struct Candidate(string Words, bool IsMain);

/// <summary>The word of a concept's name that was looked up, and the meaning that was chosen.</summary>
sealed record ConceptSense(string Word, Synset Synset);

/// <summary>
/// Finds what WordNet says about a concept of the emoji set. The name is looked up whole; where WordNet does not know it, the parts of its main phrase
/// (before the first preposition), longer ones first and those at its end, where English has its head, before the others; then the parts of the rest;
/// all as nouns first. Words that say little of themselves (face, person, button, …) come last.
/// </summary>
/// <remarks>
/// Of a word's meanings the one is chosen whose gloss, synonyms and hypernyms share the most words with the concept's CLDR keywords, its name and
/// subgroup (the simplified Lesk algorithm: Kilgarriff and Rosenzweig 2000, after Lesk 1986), where a topic that suits the concept's CLDR group counts
/// as <see cref="TopicWeight"/> shared words, and each place down the order of frequency costs <see cref="RankCost"/>.
/// </remarks>
sealed class ConceptSenses(WordNet wordNet)
{
    const double TopicWeight = 3, RankCost = 0.4;

    static readonly HashSet<string> Prepositions = new(StringComparer.Ordinal)
    {
        "with", "without", "of", "in", "on", "at", "for", "to", "from", "over", "behind", "under", "between", "through", "and", "by", "above",
    };

    static readonly HashSet<string> SmallWords = new(Prepositions, StringComparer.Ordinal)
    {
        "a", "an", "the", "or", "as", "is", "are", "be", "it", "its", "that", "which", "who", "not", "no", "used", "using", "usually", "one", "any", "some", "other",
        "their", "his", "her", "into", "has", "have", "having", "etc", "very", "this", "these", "than", "out", "up", "down", "off", "so", "but", "can", "when", "where",
    };

    /// <summary>Known to WordNet, but what a picture shows is said by the words beside them.</summary>
    static readonly HashSet<string> Vague = new(StringComparer.Ordinal)
    {
        "face", "person", "people", "man", "men", "woman", "women", "button", "symbol", "sign", "mark", "emoji", "piece", "pair", "glass", "bowl", "pot", "slice",
        "hand", "hands", "square", "circle", "light", "dark", "medium", "small", "large", "big", "heavy", "black", "white", "red", "blue", "green", "yellow",
        "orange", "purple", "brown", "grey", "gray", "pink", "left", "right", "double", "bottom", "top", "beating", "old", "new", "open", "closed",
        "front-facing", "oncoming", "japanese", "no", "one", "two", "three",
    };

    /// <summary>Meanings that no picture here has.</summary>
    static readonly string[] Unseemly = ["offensive", "obscene", "vulgar", "disparaging", "sexual", "foreplay", "nitrite"];

    /// <summary>WordNet's topics by the beginnings of CLDR's subgroups, else by its groups; the first that fits.</summary>
    static readonly (string Group, string[] Topics)[] Topics =
    [
        ("face-costume", ["noun.cognition", "noun.artifact"]),
        ("cat-face", ["noun.animal"]),
        ("monkey-face", ["noun.animal"]),
        ("heart", ["noun.shape"]),
        ("emotion", ["noun.shape", "noun.phenomenon", "noun.object", "noun.artifact"]),
        ("body-parts", ["noun.body"]),
        ("hand", ["noun.communication", "noun.act", "noun.body"]),
        ("person-activity", ["noun.act", "verb.motion", "verb.body"]),
        ("person-sport", ["noun.act"]),
        ("person-fantasy", ["noun.cognition"]),
        ("person", ["noun.person", "noun.act"]),
        ("family", ["noun.group"]),
        ("plant", ["noun.plant"]),
        ("dishware", ["noun.artifact"]),
        ("sky-weather", ["noun.object", "noun.phenomenon"]),
        ("time", ["noun.artifact", "noun.time"]),
        ("event", ["noun.artifact", "noun.event", "noun.time", "noun.possession"]),
        ("money", ["noun.possession", "noun.artifact"]),
        ("music", ["noun.artifact", "noun.communication"]),
        ("zodiac", ["noun.location", "noun.person"]),
        ("geometric", ["noun.shape", "noun.attribute"]),
        ("warning", ["noun.communication", "noun.artifact", "noun.state"]),
        ("keycap", ["noun.quantity"]),
        ("smileys-emotion", ["noun.feeling", "noun.communication", "noun.body", "verb.emotion"]),
        ("people-body", ["noun.person", "noun.body", "noun.act"]),
        ("animals-nature", ["noun.animal", "noun.plant"]),
        ("food-drink", ["noun.food"]),
        ("travel-places", ["noun.artifact", "noun.object", "noun.location"]),
        ("activities", ["noun.artifact", "noun.act"]),
        ("objects", ["noun.artifact"]),
        ("symbols", ["noun.communication", "noun.artifact", "noun.shape"]),
        ("flags", ["noun.location", "noun.artifact"]),
    ];

    static readonly WordNetPart[] Parts = [WordNetPart.Noun, WordNetPart.Verb, WordNetPart.Adjective, WordNetPart.Adverb];

    /// <summary>Whether a word only joins others, so that a text should not end with it.</summary>
    internal static bool IsSmall(string word) => SmallWords.Contains(word.TrimEnd(',', ';'));

    /// <summary>The meaning of a concept; null where WordNet knows no word of its name.</summary>
    /// <exception cref="PanoptesException">A file of WordNet is damaged.</exception>
    internal ConceptSense? Find(EmojiConcept concept)
    {
        var name = Plain(concept.Name);
        string[] topics = Topics.FirstOrDefault(t => concept.Subgroup.StartsWith(t.Group, StringComparison.Ordinal) || concept.Group == t.Group).Topics ?? [];
        string[] worn = concept.Group == "people-body" ? ["noun.artifact"] : [.. topics, "noun.artifact"];   // "person with veil"
        var (clear, vague) = Candidates(name);
        // A face is grinning, or it is weary: what describes it is a noun if it ends in -ing.
        var faces = concept.Subgroup.StartsWith("face", StringComparison.Ordinal) && concept.Subgroup != "face-costume" ? clear.Where(static c => c.IsMain && !c.Words.EndsWith("ing", StringComparison.Ordinal)) : [];
        return Look(faces, static p => p == WordNetPart.Adjective) ?? Look(clear, static p => p == WordNetPart.Noun)
            ?? Look(clear, static p => p != WordNetPart.Noun) ?? Look(vague, static p => p == WordNetPart.Noun);

        ConceptSense? Look(IEnumerable<Candidate> candidates, Func<WordNetPart, bool> which)
        {
            foreach (var candidate in candidates)
                foreach (var part in Parts.Where(which))
                    if (Best(candidate.Words, part, concept, candidate.IsMain ? topics : worn) is { } sense) return new(candidate.Words, sense);
            return null;
        }
    }

    /// <summary>What may be looked up, in this order, without repetition: what says something, and what is vague.</summary>
    internal static (IReadOnlyList<Candidate> Clear, IReadOnlyList<Candidate> Vague) Candidates(string name)
    {
        string[] words = [.. name.Split(' ', StringSplitOptions.RemoveEmptyEntries)];
        var main = words.Length == 0 ? -1 : Array.FindIndex(words, 1, Prepositions.Contains);
        if (main < 0) main = words.Length;
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var (clear, vague) = (new List<Candidate>(), new List<Candidate>());
        Add(name, true);
        Runs(words[..main], true);
        Runs(words[Math.Min(main + 1, words.Length)..], false);
        return (clear, vague);

        // Longer runs of words first, and of one length the last first.
        void Runs(string[] part, bool isMain)
        {
            for (var length = part.Length; length > 0; length--)
                for (var start = part.Length - length; start >= 0; start--) Add(string.Join(' ', part[start..(start + length)]), isMain);
        }

        void Add(string phrase, bool isMain)
        {
            if (SmallWords.Contains(phrase)) return;
            // WordNet has "gemstone" where CLDR has "gem stone".
            var isCompound = !phrase.Split(' ').Any(static w => SmallWords.Contains(w) || Vague.Contains(w));
            foreach (var spelling in (string[])[phrase, isCompound ? phrase.Replace(" ", "", StringComparison.Ordinal) : phrase])
                if (seen.Add(spelling)) (Vague.Contains(spelling) ? vague : clear).Add(new(spelling, isMain));
        }
    }

    Synset? Best(string word, WordNetPart part, EmojiConcept concept, string[] topics)
    {
        var senses = wordNet.BaseForms(word, part).SelectMany(f => wordNet.Senses(f, part)).DistinctBy(static s => s.Offset)
            .Where(static s => !Unseemly.Any(u => s.Definition.Contains(u, StringComparison.OrdinalIgnoreCase))).ToArray();
        if (senses.Length < 2) return senses.FirstOrDefault();
        var context = Stems(string.Join(' ', [concept.Name, concept.Subgroup, .. concept.Tags.GetValueOrDefault("en", [])]));
        context.ExceptWith(Stems(word));
        var (best, most) = (senses[0], double.NegativeInfinity);
        for (var rank = 0; rank < senses.Length; rank++)
        {
            var chain = wordNet.HypernymChain(senses[rank]);
            var signature = Stems(string.Join(' ', [senses[rank].Gloss, .. senses[rank].Words, .. chain.SelectMany(static s => s.Words), .. chain.Take(1).Select(static s => s.Definition)]));
            var score = signature.Count(context.Contains) + (topics.Contains(senses[rank].Category) ? TopicWeight : 0) - (RankCost * rank);
            if (score > most) (best, most) = (senses[rank], score);
        }
        return best;
    }

    /// <summary>Words without those that say nothing, each as WordNet has it.</summary>
    HashSet<string> Stems(string text)
    {
        var stems = new HashSet<string>(StringComparer.Ordinal);
        foreach (var word in Plain(text).Split([' ', '-', '(', ')', ';', ',', '.', '"', '`', '\'', '!', '?', '/'], StringSplitOptions.RemoveEmptyEntries))
            if (word.Length > 1 && !SmallWords.Contains(word)) stems.Add(Parts.Select(p => wordNet.BaseForms(word, p) is [.., var form] ? form : null).FirstOrDefault(static f => f is not null) ?? word);
        return stems;
    }

    /// <summary>A name as WordNet would write it: lower case, without accents and quotation marks; of "flag: France" what is after the colon, of "kiss: man, man" what is before.</summary>
    internal static string Plain(string name)
    {
        var colon = name.IndexOf(": ", StringComparison.Ordinal);
        if (colon > 0) name = name.StartsWith("flag:", StringComparison.Ordinal) || name.StartsWith("keycap:", StringComparison.Ordinal) ? name[(colon + 2)..] : name[..colon];
        var plain = new StringBuilder();
        foreach (var c in name.Normalize(NormalizationForm.FormD))
        {
            if (CharUnicodeInfo.GetUnicodeCategory(c) == UnicodeCategory.NonSpacingMark || c is '“' or '”' or '"' or '!' or ',' or '(' or ')') continue;
            plain.Append(c switch { '’' or '‘' => '\'', '&' => "and", _ => char.ToLowerInvariant(c).ToString() });
        }
        return plain.ToString();
    }
}
