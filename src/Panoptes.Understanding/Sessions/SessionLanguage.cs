using System.Collections.Frozen;
using System.Globalization;
using Panoptes.Data;

namespace Panoptes.Understanding;

/// <summary>What is done with the things that a sentence names.</summary>
public enum SelectMode
{
    /// <summary>They are the selection from now on.</summary>
    Replace,

    /// <summary>They join the selection.</summary>
    Add,

    /// <summary>They leave it.</summary>
    Remove,
}

/// <summary>Parts of a picture; a corner is two of them.</summary>
[Flags]
public enum PlaceWord
{
    None,
    Left = 1,
    Right = 2,
    Top = 4,
    Bottom = 8,
    Middle = 16,
}

/// <summary>How one thing lies to another.</summary>
public enum RelationWord
{
    LeftOf,
    RightOf,
    Above,
    Below,
    NextTo,
    Inside,
    Between,
}

/// <summary>What things are put in order by.</summary>
public enum RankWord
{
    FromLeft,
    FromRight,
    FromTop,
    FromBottom,
    Largest,
    Smallest,
    Tallest,
    Widest,

    /// <summary>The one that lies between the others.</summary>
    Middle,
}

/// <summary>In which way a thing is to differ from another.</summary>
public enum CompareWord
{
    Larger,
    Smaller,
    FurtherLeft,
    FurtherRight,
    Higher,
    Lower,
}

/// <summary>A place in an order.</summary>
/// <param name="By">The order.</param>
/// <param name="Index">From 0; -1 is the last.</param>
public sealed record Ranking(RankWord By, int Index);

/// <summary>A difference to <paramref name="Than"/>, or to what is selected where that is null.</summary>
public sealed record Comparison(CompareWord Word, Reference? Than);

/// <summary>Where a thing lies to another (and, of <see cref="RelationWord.Between"/>, to a second).</summary>
public sealed record Related(RelationWord Word, Reference To, Reference? And = null);

/// <summary>What a phrase means: "the second largest red cat left of the apple". <see cref="ToString"/> says the same in words that parse to the same.</summary>
public sealed record Reference
{
    /// <summary>What is selected: "it", "that", "them".</summary>
    public bool It { get; init; }

    /// <summary>A thing that was given a name, by it.</summary>
    public string? Nickname { get; init; }

    /// <summary>What it is called, in the singular; null: "one", of those that the talk is about.</summary>
    public string? Noun { get; init; }

    /// <summary>All of them, and not one.</summary>
    public bool All { get; init; }

    /// <summary>Anything at all, also what the talk was not about: "everything", "something".</summary>
    public bool Anything { get; init; }

    /// <summary>So many of them.</summary>
    public int? Count { get; init; }

    public SceneColor? Color { get; init; }

    /// <summary>True: a large one; false: a small one.</summary>
    public bool? Large { get; init; }

    public PlaceWord Place { get; init; }

    public Ranking? Rank { get; init; }

    public Comparison? Comparison { get; init; }

    /// <summary>Not what is selected.</summary>
    public bool Other { get; init; }

    public IReadOnlyList<Related> Relations { get; init; } = [];

    /// <summary>What it belongs to: "its shadow".</summary>
    public Reference? Owner { get; init; }

    /// <summary>Whether anything is said beside the noun.</summary>
    internal bool IsNarrowed => Color is not null || Large is not null || Place != PlaceWord.None || Rank is not null || Comparison is not null || Other || Relations.Count > 0 || Owner is not null;

    public override string ToString()
    {
        if (Nickname is not null) return Nickname;
        if (It) return All ? "them" : "it";
        var many = All || Count > 1;
        // "A larger one" is larger than what is selected, "the larger one" the largest.
        var words = new List<string> { Count is { } n and > 1 ? Words.Number(n) : All ? "all" : Comparison is { Than: null } ? "a" : "the" };
        if (Rank is { Index: not 0, By: not RankWord.Middle } late) words.Add(Words.Ordinal(late.Index));
        if (Rank is { } rank && (rank.Index == 0 || rank.By is RankWord.Largest or RankWord.Smallest or RankWord.Tallest or RankWord.Widest)) words.Add(Words.Superlative(rank.By));
        if (Other) words.Add("other");
        if (Comparison is { } compared) words.Add(Words.Comparative(compared.Word));
        if (Large is { } large) words.Add(large ? "large" : "small");
        if (Color is { } color) words.Add(Words.Lower(color));
        words.Add(Noun is null ? (Anything, many) switch { (true, true) => "things", (true, false) => "thing", (_, true) => "ones", _ => "one" } : many ? Words.Plural(Noun) : Noun);
        if (Owner is not null) words.Add($"of {Owner}");
        if (Rank is { Index: not 0 } from && Words.From(from.By) is { } direction) words.Add(direction);
        if (Comparison?.Than is { } than) words.Add($"than {than}");
        if (Place != PlaceWord.None) words.Add(Words.At(Place));
        foreach (var (word, to, and) in Relations) words.Add(and is null ? $"{Words.Relation(word)} {to}" : $"between {to} and {and}");
        return string.Join(' ', words);
    }
}

/// <summary>What a sentence asks for.</summary>
public abstract record SessionRequest
{
    private protected SessionRequest() { }
}

/// <summary>Things are selected, added or left out.</summary>
/// <param name="Mode">What is done with them.</param>
/// <param name="Wanted">What is meant.</param>
/// <param name="Unwanted">What is not, though it may seem so.</param>
public sealed record SelectRequest(SelectMode Mode, IReadOnlyList<Reference> Wanted, IReadOnlyList<Reference> Unwanted) : SessionRequest;

/// <summary>"Not that": what is selected was not meant.</summary>
public sealed record RejectRequest : SessionRequest;

/// <summary>The same once more, on the picture that is looked at now.</summary>
public sealed record AgainRequest : SessionRequest;

/// <summary>The last turn is taken back.</summary>
public sealed record UndoRequest : SessionRequest;

/// <summary>Nothing is selected any more.</summary>
public sealed record ClearRequest : SessionRequest;

/// <summary>What can be said is told.</summary>
public sealed record HelpRequest : SessionRequest;

/// <summary>A thing gets a name.</summary>
public sealed record NameRequest(Reference Thing, string Name) : SessionRequest;

/// <summary>A name is given up.</summary>
public sealed record ForgetRequest(string Name) : SessionRequest;

/// <summary>Another picture is looked at: 1 the first, -1 the last, 0 the one before.</summary>
public sealed record PictureRequest(int Number) : SessionRequest;

/// <summary>"What is that?"</summary>
public sealed record WhatRequest(Reference Thing) : SessionRequest;

/// <summary>"How many apples are there?"</summary>
public sealed record CountRequest(Reference Things) : SessionRequest;

/// <summary>It was not understood.</summary>
/// <param name="Sentence">What is the matter, and what can be said.</param>
public sealed record NotUnderstood(string Sentence) : SessionRequest;

/// <summary>
/// The language of a <see cref="Session"/>: a small part of English, parsed by hand.
/// </summary>
/// <remarks>
/// <code>
/// sentence  = [lead] things ["but not" things] ["too"]          select; "and …", "… too": add; "remove …", "without …": leave out
///           | "not that" | "not" things ["," | "but"] things    that was wrong; this is meant instead
///           | "undo" | "clear" | "help" | "again [on this picture]" | "[go] back to the first picture" | "picture 2"
///           | "call" thing NAME | "forget" NAME | "what is" thing | "how many" things
/// things    = thing {("," | "and") thing}
/// thing     = "it" | "them" | NAME | "everything" | [how many] {adjective} head {where}
/// how many  = "the" | "a" | "all" | "every" | "both" | "any" | "two" | 3 …          a plural without a number means all
/// adjective = "other" | "left" | "upper right" | "middle" | "red" | "big" | "small" | "leftmost" | "biggest" | "second" | "last" | "bigger" | "further left" | "its" | thing "'s"
/// head      = "one" | "ones" | "thing" | NOUN                   NOUN: names that are known, or the words up to the next of these
/// where     = "left of" thing | "above" thing | "next to" thing | "between" thing "and" thing | "in" thing | "of" thing
///           | "on the left" | "at the top" | "in the middle" | "in the lower right corner" | "from the left" | "than" thing | "that is" adjective
/// </code>
/// "One" is one of those that the talk is about; "a bigger one" is bigger than what is selected, "the bigger one" the biggest. An ordinal without a direction counts from the left. Case, commas at the ends, "please" and the like do not matter.
/// </remarks>
public static class SessionLanguage
{
    /// <summary>The most characters of a sentence.</summary>
    public const int LongestSentence = 500;

    /// <summary>The most that phrases stand within one another.</summary>
    const int Deepest = 6;

    /// <summary>What can be said, in one sentence.</summary>
    public const string Help = "You can say, for example, \"the cat\", \"all apples\", \"the second from the left\", \"the red one\", \"the cat left of the apple\", \"not that, the other\", \"now its shadow too\", "
        + "\"a bigger one\", \"call it Tom\", \"again on this picture\", \"undo\" or \"clear\".";

    /// <summary>Understands a sentence, or says why not; it never throws for what is said.</summary>
    /// <param name="text">What was said.</param>
    /// <param name="names">Names of things that may be spoken of, such as a detector's classes, for those that hold words with a meaning here ("red apple", "top hat").</param>
    /// <param name="nicknames">Names that things were given in the talk.</param>
    public static SessionRequest Parse(string text, IReadOnlyCollection<string>? names = null, IReadOnlyCollection<string>? nicknames = null)
    {
        if (text.Length > LongestSentence) return new NotUnderstood($"That has {text.Length} characters; a sentence may have at most {LongestSentence}.");
        var words = Lex(text);
        if (words.Count == 0) return new NotUnderstood($"Nothing was said. {Help}");
        try
        {
            return new Parser(words, Known(names), nicknames ?? []).Sentence();
        }
        catch (NotUnderstoodException e)
        {
            return new NotUnderstood($"{e.Message} {Help}");
        }
    }

    /// <summary>Names by their words, singular and plural; made once for a list that stays the same.</summary>
    static Dictionary<string, (string Name, bool Many)> Known(IReadOnlyCollection<string>? names)
    {
        if (names is null or { Count: 0 }) return [];
        if (Kept is var (list, known) && ReferenceEquals(list, names)) return known;
        var made = new Dictionary<string, (string, bool)>(StringComparer.Ordinal);
        foreach (var name in names)
        {
            if (string.Join(' ', Lex(name)) is not { Length: > 0 } words) continue;
            made[words] = (name, false);
            made.TryAdd(Words.Plural(words), (name, true));
        }
        Kept = (names, made);
        return made;
    }

    [ThreadStatic] static (IReadOnlyCollection<string>, Dictionary<string, (string, bool)>)? Kept;

    static List<string> Lex(string text)
    {
        var words = new List<string>();
        var word = new System.Text.StringBuilder();
        foreach (var c in text.ToLowerInvariant().Replace('’', '\''))
        {
            if (char.IsLetterOrDigit(c) || c == '\'' || c == '-')
            {
                word.Append(c);
                continue;
            }
            End();
            if (c is ',' or ';' or ':') words.Add(",");
        }
        End();
        while (words is [.., ","]) words.RemoveAt(words.Count - 1);
        return words;

        void End()
        {
            var whole = word.ToString().Trim('\'', '-');
            word.Clear();
            if (whole.Length == 0) return;
            if (whole.EndsWith("'s", StringComparison.Ordinal))
            {
                words.Add(whole[..^2]);
                words.Add("'s");
            }
            else words.Add(whole.Replace("-most", "most", StringComparison.Ordinal));
        }
    }

    sealed class NotUnderstoodException(string message) : Exception(message);

    /// <summary>Phrases of several words with what they mean, by their first word, the longest first.</summary>
    sealed class Phrases<T>
    {
        readonly FrozenDictionary<string, (string[] Words, T Value)[]> byFirst;

        internal Phrases(params (string Phrases, T Value)[] entries) =>
            byFirst = entries.SelectMany(static e => e.Phrases.Split('|').Select(p => (Words: p.Split(' '), e.Value)))
                .GroupBy(static e => e.Words[0]).ToFrozenDictionary(static g => g.Key, static g => g.OrderByDescending(static e => e.Words.Length).ToArray(), StringComparer.Ordinal);

        internal bool Find(List<string> words, int at, out int length, out T value)
        {
            if (at < words.Count && byFirst.TryGetValue(words[at], out var entries))
            {
                foreach (var (phrase, meaning) in entries)
                {
                    if (at + phrase.Length > words.Count) continue;
                    var same = true;
                    for (var i = 1; i < phrase.Length && same; i++) same = words[at + i] == phrase[i];
                    if (!same) continue;
                    (length, value) = (phrase.Length, meaning);
                    return true;
                }
            }
            (length, value) = (0, default!);
            return false;
        }
    }

    static readonly Phrases<bool> Leads = new((
        "please|now|then|ok|okay|well|so|hey|yes|can you|could you|would you|will you|i want|i want you to|i would like|i'd like|i mean|i meant|i'm looking for|show me|show|select|find me|find|segment|mark|highlight|cut out"
        + "|take|give me|get me|get|pick|choose|where is|where are|look for|look at|what about|how about|only|just|rather|instead|actually|sorry|outline|point at|point to|let's see|let's take|let us take|try", true));

    static readonly Phrases<bool> Tails = new(("please|instead|now|for me|in the picture|in this picture|in the image|in the photo|there|here", true));

    static readonly Phrases<SelectMode> Modes = new(
        ("remove|drop|without|exclude|delete|take away|take out|leave out|leave away|deselect|unselect|except|except for|get rid of|hide|ignore", SelectMode.Remove),
        ("and|also|add|plus|include|as well as|and also|and add|then also|keep it and|now also|now add", SelectMode.Add));

    static readonly Phrases<bool> Too = new(("too|as well|also|in addition", true));

    static readonly Phrases<bool> Nots = new(("but|but not|and not|except|except for|without|not|other than|apart from|but without|besides", true));

    static readonly Phrases<SessionRequest> Commands = new(
        ("undo|undo that|undo it|take that back|take it back|go back|back|step back|revert", new UndoRequest()),
        ("clear|clear all|clear everything|nothing|start over|start again|deselect all|deselect everything|unselect all|reset|none|none of them|remove everything|remove all", new ClearRequest()),
        ("help|what can i say|what can you do|what do you understand|how does this work|?", new HelpRequest()),
        ("again|once more|do it again|do that again|the same|the same again|same again|same here|repeat|repeat that|on this picture|on this one|this picture|again on this picture|again on this one|again on this image|again on this|again here|again in this picture|again on the new picture"
            + "|the same on this picture|the same on this one|the same on this image|the same here|the same in this picture|same on this picture|do the same|do the same here|do the same on this picture|do the same on this one|do it again on this picture"
            + "|and on this picture|and on this one|and here|now here|now on this picture|now on this one|now this picture|on this picture too|here too|once more on this picture|and now here|once more here", new AgainRequest()),
        ("not that|not that one|no|nope|wrong|that is wrong|that 's wrong|not this|not this one|not it|no not that|no not that one|not what i meant|that is not it|that 's not it|that is not what i meant|that was wrong|not those|not these|not them|no that 's wrong|wrong one|the wrong one",
            new RejectRequest()));

    static readonly Phrases<bool> Back = new(("go back to|back to|go to|return to|switch to|open|on|look at|look again at", true));

    static readonly Phrases<SceneColor> Colors = new(
        ("red|crimson|scarlet", SceneColor.Red), ("orange", SceneColor.Orange), ("yellow|golden|gold", SceneColor.Yellow), ("green", SceneColor.Green), ("blue|light blue|dark blue|cyan|turquoise", SceneColor.Blue),
        ("purple|violet|lilac", SceneColor.Purple), ("pink|magenta|rose", SceneColor.Pink), ("brown|beige", SceneColor.Brown), ("black|dark", SceneColor.Black), ("white", SceneColor.White), ("gray|grey|silver", SceneColor.Gray));

    static readonly Phrases<bool> Sizes = new(("big|large|huge|great|giant", true), ("small|little|tiny", false));

    static readonly Phrases<RankWord> Superlatives = new(
        ("leftmost|far left|furthest left|farthest left", RankWord.FromLeft), ("rightmost|far right|furthest right|farthest right", RankWord.FromRight), ("topmost|uppermost|highest", RankWord.FromTop),
        ("bottommost|lowest|lowermost", RankWord.FromBottom), ("largest|biggest|hugest|greatest", RankWord.Largest), ("smallest|littlest|tiniest", RankWord.Smallest), ("tallest", RankWord.Tallest), ("widest", RankWord.Widest),
        ("middle|central|center|centre", RankWord.Middle));

    static readonly Phrases<CompareWord> Comparatives = new(
        ("bigger|larger|a bit bigger|a bit larger|much bigger|much larger|even bigger|even larger", CompareWord.Larger), ("smaller|littler|a bit smaller|much smaller|even smaller", CompareWord.Smaller),
        ("further left|farther left|further to the left|farther to the left|more to the left|more left", CompareWord.FurtherLeft),
        ("further right|farther right|further to the right|farther to the right|more to the right|more right", CompareWord.FurtherRight),
        ("higher|higher up|further up|farther up", CompareWord.Higher), ("lower|lower down|further down|farther down", CompareWord.Lower));

    static readonly Phrases<int> Ordinals = new(
        ("first|1st", 0), ("second|2nd", 1), ("third|3rd", 2), ("fourth|4th", 3), ("fifth|5th", 4), ("sixth|6th", 5), ("seventh|7th", 6), ("eighth|8th", 7), ("ninth|9th", 8), ("tenth|10th", 9), ("last", -1));

    static readonly Phrases<RankWord> Froms = new(
        ("from the left|from left|from left to right|starting from the left", RankWord.FromLeft), ("from the right|from right|from right to left|starting from the right", RankWord.FromRight),
        ("from the top|from top|from above", RankWord.FromTop), ("from the bottom|from bottom|from below", RankWord.FromBottom));

    /// <summary>Before a head.</summary>
    static readonly Phrases<PlaceWord> PlaceAdjectives = new(
        ("left|left-hand", PlaceWord.Left), ("right|right-hand", PlaceWord.Right), ("top|upper", PlaceWord.Top), ("bottom", PlaceWord.Bottom),
        ("upper left|top left|left upper", PlaceWord.Top | PlaceWord.Left), ("upper right|top right|right upper", PlaceWord.Top | PlaceWord.Right),
        ("lower left|bottom left|left lower", PlaceWord.Bottom | PlaceWord.Left), ("lower right|bottom right|right lower", PlaceWord.Bottom | PlaceWord.Right));

    /// <summary>After a head.</summary>
    static readonly Phrases<PlaceWord> Places = Corners();

    static readonly Phrases<RelationWord> Relations = new(
        ("left of|to the left of|on the left of|on the left side of|left from|at the left of", RelationWord.LeftOf), ("right of|to the right of|on the right of|on the right side of|right from|at the right of", RelationWord.RightOf),
        ("above|over|on top of|higher than", RelationWord.Above), ("below|under|underneath|beneath|lower than", RelationWord.Below),
        ("next to|beside|near|near to|by|close to|closest to|nearest to|nearest|nearby|adjacent to|touching|with|at", RelationWord.NextTo), ("inside|inside of|within|in|on", RelationWord.Inside), ("between|in between", RelationWord.Between));

    static readonly Phrases<bool> Depths = new(("in front of|behind|in back of|farther away|further away|nearer to us", true));

    static readonly Phrases<bool> Pronouns = new(("it|that one|this one|that|this|the same one|that thing|this thing|the selection", false), ("them|those|these", true));

    static readonly Phrases<bool> Of = new(("of the two|of them|of these|of those|of the three|of all|of the four|of both", true));

    static readonly Phrases<bool> That = new(("that is|that are|which is|which are|who is|that 's|that was", true));

    static readonly Phrases<int?> Numbers = new(("two", 2), ("three", 3), ("four", 4), ("five", 5), ("six", 6), ("seven", 7), ("eight", 8), ("nine", 9), ("ten", 10));

    static readonly FrozenSet<string> Stops = new[]
    {
        ",", "and", "or", "but", "not", "except", "without", "from", "than", "of", "that", "which", "who", "too", "also", "'s", "is", "are", "as", "one", "ones", "thing", "things", "to", "please", "instead", "it", "them",
        "the", "a", "an", "this", "these", "those", "its", "their", "besides",
    }.ToFrozenSet(StringComparer.Ordinal);

    static Phrases<PlaceWord> Corners()
    {
        (string Word, PlaceWord Place)[] sides =
        [
            ("left", PlaceWord.Left), ("right", PlaceWord.Right), ("top", PlaceWord.Top), ("bottom", PlaceWord.Bottom), ("middle", PlaceWord.Middle), ("center", PlaceWord.Middle), ("centre", PlaceWord.Middle),
            ("left side", PlaceWord.Left), ("right side", PlaceWord.Right), ("left half", PlaceWord.Left), ("right half", PlaceWord.Right), ("upper half", PlaceWord.Top), ("lower half", PlaceWord.Bottom),
        ];
        (string Word, PlaceWord Place)[] rows = [("upper", PlaceWord.Top), ("top", PlaceWord.Top), ("lower", PlaceWord.Bottom), ("bottom", PlaceWord.Bottom)];
        (string Word, PlaceWord Place)[] columns = [("left", PlaceWord.Left), ("right", PlaceWord.Right)];
        sides = [.. sides, .. from row in rows from column in columns from end in new[] { "", " corner" } select ($"{row.Word} {column.Word}{end}", row.Place | column.Place)];
        return new([.. sides.Select(static s => (string.Join('|', new[] { "on the ", "at the ", "to the ", "in the ", "in ", "on ", "" }.Select(p => p + s.Word)), s.Place))]);
    }

    sealed class Parser(List<string> words, Dictionary<string, (string Name, bool Many)> known, IReadOnlyCollection<string> nicknames)
    {
        int at, depth;

        bool AtEnd => at >= words.Count;

        bool Take<T>(Phrases<T> phrases, out T value)
        {
            if (!phrases.Find(words, at, out var length, out value)) return false;
            at += length;
            return true;
        }

        bool Take(string word)
        {
            if (AtEnd || words[at] != word) return false;
            at++;
            return true;
        }

        bool Whole<T>(Phrases<T> phrases, out T value) => phrases.Find(words, at, out var length, out value) && at + length == words.Count;

        internal SessionRequest Sentence()
        {
            Trim();
            if (AtEnd) throw new NotUnderstoodException("A thing is missing.");
            if (Whole(Commands, out var command)) return command;
            // "and now the same on this picture"
            if (Take("and"))
            {
                Trim();
                if (Whole(Commands, out command)) return command;
                at = 0;
                Trim();
            }
            if (Named() is { } named) return named;
            if (Picture() is { } picture) return picture;
            if (Question() is { } question) return question;

            var unwanted = new List<Reference>();
            if (Take("no") || Take("wrong") || Take("nope"))
            {
                Take(",");
                Trim();
                if (Whole(Commands, out command)) return command;
                unwanted.Add(new() { It = true });
            }
            if (Take("not"))
            {
                var rejected = Things(commas: false);
                Take("anymore");
                if (AtEnd) return rejected is [{ It: true }] ? new RejectRequest() : new SelectRequest(SelectMode.Remove, rejected, []);
                if (!Take(",") && !Take("but")) throw Unexpected();
                Take("but");
                unwanted.AddRange(rejected);
                Trim();
                return Finish(SelectMode.Replace, Things(), unwanted);
            }
            Trim();
            var mode = Take(Modes, out var found) ? found : SelectMode.Replace;
            Trim();
            return Finish(mode, Things(), unwanted);
        }

        SelectRequest Finish(SelectMode mode, IReadOnlyList<Reference> wanted, List<Reference> unwanted)
        {
            Ending();
            Take(",");
            if (Take(Nots, out _)) unwanted.AddRange(Things());
            Ending();
            if (!AtEnd) throw Unexpected();
            return new(mode, wanted, unwanted);

            void Ending()
            {
                while (true)
                {
                    if (Take(Too, out _)) mode = SelectMode.Add;
                    else if (!Take(Tails, out _)) return;
                }
            }
        }

        /// <summary>What is said for the sake of politeness, and verbs that all mean the same.</summary>
        void Trim()
        {
            while (Take(",") || (!Modes.Find(words, at, out _, out _) && !Whole(Commands, out _) && Take(Leads, out _))) { }
        }

        SessionRequest? Named()
        {
            var start = at;
            if (Take("forget"))
            {
                if (AtEnd) throw new NotUnderstoodException("Forget what? A name is missing.");
                return new ForgetRequest(Rest());
            }
            if (Take("call") || Take("name") || Take("remember"))
            {
                var thing = Take(Pronouns, out var several) ? new() { It = true, All = several } : Thing();
                Take("as");
                if (!AtEnd) return new NameRequest(thing, Rest());
                // "call the cat Tom"
                if (thing.Noun?.LastIndexOf(' ') is not (> 0 and var end)) throw new NotUnderstoodException("A name is missing.");
                return new NameRequest(thing with { Noun = thing.Noun[..end] }, thing.Noun[(end + 1)..]);
            }
            // "that is Tom", "it is called Tom"
            if (Take(Pronouns, out var many) && (Take("is") || Take("'s") || Take("are")))
            {
                if (AtEnd) throw Unexpected();
                if (Take("called") || Take("named") || (!IsAdjective(at) && !words.Skip(at).Any(static w => w is "the" or "a" or "an" or "wrong" or "right" or "not" or "it"))) return new NameRequest(new() { It = true, All = many }, Rest());
            }
            at = start;
            return null;

            string Rest()
            {
                var name = string.Join(' ', words.Skip(at)).Replace(" 's", "'s", StringComparison.Ordinal);
                at = words.Count;
                return name;
            }
        }

        PictureRequest? Picture()
        {
            var start = at;
            Take(Back, out _);
            Take("the");
            int? number = null;
            if (Take(Ordinals, out var ordinal)) number = ordinal < 0 ? -1 : ordinal + 1;
            else if (Take("previous") || Take("other") || Take("earlier")) number = 0;
            if (Take("picture") || Take("image") || Take("photo"))
            {
                if (!AtEnd && int.TryParse(words[at], NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n is > 0 and < 1_000_000) (number, at) = (n, at + 1);
                if (number is { } found && (AtEnd || Take("again"))) return new PictureRequest(found);
            }
            at = start;
            return null;
        }

        SessionRequest? Question()
        {
            var start = at;
            if (Take("how") && Take("many"))
            {
                var things = Thing() with { All = true, Count = null };
                while (Take("are") || Take("is") || Take("there") || Take("do") || Take("you") || Take("see") || Take("can") || Take("in") || Take("the") || Take("picture") || Take("here")) { }
                if (!AtEnd) throw Unexpected();
                return new CountRequest(things);
            }
            at = start;
            if (Take("what") && (Take("is") || Take("'s") || Take("are")))
            {
                var thing = Thing();
                if (!AtEnd) throw Unexpected();
                return new WhatRequest(thing is { It: false, Nickname: null, Noun: null } ? thing with { Anything = true } : thing);
            }
            at = start;
            return null;
        }

        List<Reference> Things(bool commas = true)
        {
            var things = new List<Reference> { Thing() };
            while (true)
            {
                var start = at;
                var comma = commas && Take(",");
                // "the cat and not the dog", "the cat, please"
                if (Nots.Find(words, at, out _, out _) || Tails.Find(words, at, out _, out _) || Too.Find(words, at, out _, out _) || AtEnd || words[at] == "but") { at = start; break; }
                if (!Take("and") && !Take("or") && !Take("plus") && !comma) break;
                if (Nots.Find(words, at, out _, out _)) { at = start; break; }
                Take("also");
                things.Add(Thing());
                if (things.Count > 32) throw new NotUnderstoodException("That names more than 32 things.");
            }
            return things;
        }

        Reference Thing()
        {
            if (++depth > Deepest) throw new NotUnderstoodException("That has too many phrases within one another.");
            var thing = Owned(Simple());
            depth--;
            return thing;
        }

        /// <summary>"the cat's shadow"</summary>
        Reference Owned(Reference thing)
        {
            for (var i = 0; i < Deepest && Take("'s"); i++) thing = Described(new() { Owner = thing });
            return thing;
        }

        Reference Simple()
        {
            if (Nickname() is { } name) return name;
            if (Take("its") || Take("his") || Take("her")) return Described(new() { Owner = new() { It = true } });
            if (Take("their")) return Described(new() { Owner = new() { It = true, All = true } });
            if (Take("everything") || Take("anything")) return Where(new() { All = true, Anything = true, Other = Take("else") });
            if (Take("something")) return Where(new() { Anything = true, Other = Take("else") });
            if (Take("another")) return Described(new() { Other = true });
            if (Pronoun() is { } it) return it;

            var thing = new Reference();
            while (true)
            {
                if (Take("all"))
                {
                    if (Take("of")) Take("them");
                    thing = thing with { All = true };
                }
                else if (Take("both")) thing = thing with { All = true };
                else if (Take("every") || Take("each")) thing = thing with { All = true };
                else if (Take("the") || Take("a") || Take("an") || Take("any") || Take("some") || Take("these") || Take("those") || Take("this") || Take("that") || Take("my")) { }
                else if (Take(Numbers, out var number)) thing = thing with { Count = number };
                else if (!AtEnd && int.TryParse(words[at], NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n is > 0 and <= 1000) (thing, at) = (n > 1 ? thing with { Count = n } : thing, at + 1);
                else if (!AtEnd && words[at] == "one" && at + 1 < words.Count && !IsStop(at + 1)) at++;
                else break;
            }
            var definite = at > 0 && words[at - 1] == "the";
            var described = Described(thing);
            return definite && described is { Comparison: { Than: null } compared, Rank: null } ? Most(described with { Comparison = null }, compared.Word) : described;
        }

        /// <summary>"The larger cat" is the largest, "the larger cats" are the large ones.</summary>
        static Reference Most(Reference thing, CompareWord word) => (word, thing.All) switch
        {
            (CompareWord.Larger, true) => thing with { Large = true },
            (CompareWord.Smaller, true) => thing with { Large = false },
            (CompareWord.FurtherLeft, true) => thing with { Place = PlaceWord.Left },
            (CompareWord.FurtherRight, true) => thing with { Place = PlaceWord.Right },
            (CompareWord.Higher, true) => thing with { Place = PlaceWord.Top },
            (CompareWord.Lower, true) => thing with { Place = PlaceWord.Bottom },
            (CompareWord.Larger, _) => thing with { Rank = new(RankWord.Largest, 0) },
            (CompareWord.Smaller, _) => thing with { Rank = new(RankWord.Smallest, 0) },
            (CompareWord.FurtherLeft, _) => thing with { Rank = new(RankWord.FromLeft, 0) },
            (CompareWord.FurtherRight, _) => thing with { Rank = new(RankWord.FromRight, 0) },
            (CompareWord.Higher, _) => thing with { Rank = new(RankWord.FromTop, 0) },
            _ => thing with { Rank = new(RankWord.FromBottom, 0) },
        };

        /// <summary>"it", unless a noun follows: "that cat".</summary>
        Reference? Pronoun()
        {
            var start = at;
            if (Take(Pronouns, out var many) && (AtEnd || IsStop(at) || Froms.Find(words, at, out _, out _))) return Where(new() { It = true, All = many });
            at = start;
            return null;
        }

        Reference? Nickname()
        {
            foreach (var nickname in nicknames)
            {
                var name = Lex(nickname);
                if (name.Count == 0 || at + name.Count > words.Count || !words.Skip(at).Take(name.Count).SequenceEqual(name)) continue;
                at += name.Count;
                return new() { Nickname = nickname };
            }
            return null;
        }

        /// <summary>Adjectives, what it is called, and where it is.</summary>
        Reference Described(Reference thing)
        {
            var start = at;
            while (true)
            {
                if (PlaceAdjectives.Find(words, at, out var length, out var place) && Of.Find(words, at + length, out _, out _))
                {
                    // "the left of the two"
                    at += length;
                    thing = thing with { Place = thing.Place | place };
                    break;
                }
                if (Head(thing) is { } called) return Where(called);
                if (Of.Find(words, at, out _, out _) || Relations.Find(words, at, out _, out _)) break;
                if (Ordinal(ref thing) || Adjective(ref thing)) continue;
                break;
            }
            // "the left", "the second from the left", "the others"; a color may be a thing as well.
            if (at == start && !thing.All && thing.Count is null && !thing.Other && !(Froms.Find(words, at, out _, out _) || Places.Find(words, at, out _, out _)))
                throw AtEnd ? new NotUnderstoodException("A thing is missing at the end.") : Unexpected();
            if (thing.Color == SceneColor.Orange && words[at - 1] == "orange") thing = thing with { Color = null, Noun = "orange" };
            return Where(thing);
        }

        bool Ordinal(ref Reference thing)
        {
            if (!Take(Ordinals, out var index)) return false;
            if (thing.Count is not null || thing.Rank is not null) throw new NotUnderstoodException("That has two orders.");
            thing = thing with { Rank = new(Take(Superlatives, out var by) ? by : RankWord.FromLeft, index) };
            return true;
        }

        bool Adjective(ref Reference thing)
        {
            if (PlaceAdjectives.Find(words, at, out var length, out var corner) && length > 1)
            {
                at += length;
                thing = thing with { Place = thing.Place | corner };
            }
            else if (Take(Superlatives, out var by)) thing = thing with { Rank = new(by, 0) };
            else if (Take("other") || Take("next") || Take("different")) thing = thing with { Other = true, Count = Take(Numbers, out var number) ? number : thing.Count };
            else if (Take("others") || Take("rest")) thing = thing with { Other = true, All = true };
            else if (Take(Comparatives, out var compared)) thing = thing with { Comparison = new(compared, null) };
            else if (Take(Sizes, out var large)) thing = thing with { Large = large };
            else if (Take(PlaceAdjectives, out var place)) thing = thing with { Place = thing.Place | place };
            else if (Take(Colors, out var color)) thing = thing with { Color = color };
            else return false;
            return true;
        }

        /// <summary>What it is called, if that comes now.</summary>
        Reference? Head(Reference thing)
        {
            if (AtEnd) return null;
            if (Take("one")) return thing;
            if (Take("ones")) return thing with { All = thing.Count is null };
            if (Take("thing") || Take("object") || Take("part")) return thing with { Anything = true };
            if (Take("things") || Take("objects") || Take("parts")) return thing with { Anything = true, All = thing.Count is null };
            for (var length = Math.Min(8, words.Count - at); length > 0; length--)
            {
                if (!known.TryGetValue(string.Join(' ', words.Skip(at).Take(length)), out var name)) continue;
                // The only word of an order ("second from the left") is no name, though a thing may be called so.
                if (length == 1 && Ordinals.Find(words, at, out _, out _)) continue;
                at += length;
                return thing with { Noun = name.Name, All = thing.Count is null && (thing.All || (name.Many && thing.Rank is null)) };
            }
            if (IsAdjective(at) || IsStop(at)) return null;
            var start = at;
            while (!AtEnd && !IsStop(at) && (at == start || !Tails.Find(words, at, out _, out _))) at++;
            var noun = words[start..at];
            var single = Words.Singular(noun[^1]);
            var many = single != noun[^1];
            noun[^1] = single;
            return thing with { Noun = string.Join(' ', noun), All = thing.Count is null && (thing.All || (many && thing.Rank is null)) };
        }

        bool IsAdjective(int place) => Ordinals.Find(words, place, out _, out _) || Superlatives.Find(words, place, out _, out _) || Comparatives.Find(words, place, out _, out _) || Sizes.Find(words, place, out _, out _)
            || Colors.Find(words, place, out _, out _) || PlaceAdjectives.Find(words, place, out _, out _) || words[place] is "other" or "others" or "another" or "rest" or "next" or "different" or "else";

        /// <summary>Whether a noun ends before this word.</summary>
        bool IsStop(int place) => Stops.Contains(words[place]) || Relations.Find(words, place, out _, out _) || Nots.Find(words, place, out _, out _) || Too.Find(words, place, out _, out _)
            || Froms.Find(words, place, out _, out _) || Places.Find(words, place, out _, out _) || Depths.Find(words, place, out _, out _) || Comparatives.Find(words, place, out _, out _) || That.Find(words, place, out _, out _) || words[place] is "there" or "anymore" or "again" or "else";

        Reference Where(Reference thing)
        {
            for (var i = 0; i < 8 && !AtEnd; i++)
            {
                if (Take(Of, out _)) continue;
                if (Take(Froms, out var from))
                {
                    if (thing.Rank is { By: RankWord.Largest or RankWord.Smallest or RankWord.Middle }) throw new NotUnderstoodException("That has two orders.");
                    thing = thing with { Rank = new(from, thing.Rank?.Index ?? 0) };
                }
                else if (words[at] == "than" && thing.Comparison is not null)
                {
                    at++;
                    thing = thing with { Comparison = thing.Comparison with { Than = Thing() } };
                }
                else if (Depths.Find(words, at, out _, out _)) throw new NotUnderstoodException("What is in front of what cannot be told from a picture's outlines.");
                else if (!Relations.Find(words, at, out _, out _) && Take(Comparatives, out var compared)) thing = thing with { Comparison = new(compared, null) };
                else if (Places.Find(words, at, out var length, out var place) && !(Relations.Find(words, at, out var longer, out _) && longer > length))
                {
                    at += length;
                    thing = thing with { Place = thing.Place | place };
                }
                else if (Tails.Find(words, at, out var tail, out _) && at + tail == words.Count) break;
                else if (Relations.Find(words, at, out var taken, out var relation))
                {
                    at += taken;
                    var to = Thing();
                    Reference? and = null;
                    if (relation == RelationWord.Between)
                    {
                        // "between the two cats" are both of them, "between the cat and the apple" one each.
                        if (Take("and")) and = Thing();
                        else if (to.Count != 2 && !to.All) throw new NotUnderstoodException("Between what? A second thing is missing.");
                    }
                    thing = thing with { Relations = [.. thing.Relations, new(relation, to, and)] };
                }
                else if (words[at] == "of" && thing is { It: false, Owner: null })
                {
                    at++;
                    thing = thing with { Owner = Thing() };
                }
                else if (That.Find(words, at, out var filler, out _) && at + filler < words.Count)
                {
                    at += filler;
                    // "that is red", "which is left of the cat"
                    Adjective(ref thing);
                }
                else break;
            }
            return thing;
        }

        NotUnderstoodException Unexpected() => AtEnd ? new("That ends too early.") : new($"\"{Shown(words[at])}\" is not understood there.");

        static string Shown(string word) => word.Length <= 30 ? word : word[..30] + "…";
    }
}

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
