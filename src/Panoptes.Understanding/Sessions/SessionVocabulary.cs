using System.Collections.Frozen;
using Panoptes.Data;

namespace Panoptes.Understanding;

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

/// <summary>The words that <see cref="SessionLanguage"/> knows, with what they mean.</summary>
static class SessionVocabulary
{
    internal static readonly Phrases<bool> Leads = new((
        "please|now|then|ok|okay|well|so|hey|yes|can you|could you|would you|will you|i want|i want you to|i would like|i'd like|i mean|i meant|i'm looking for|show me|show|select|find me|find|segment|mark|highlight|cut out"
        + "|take|give me|get me|get|pick|choose|where is|where are|look for|look at|what about|how about|only|just|rather|instead|actually|sorry|outline|point at|point to|let's see|let's take|let us take|try", true));

    internal static readonly Phrases<bool> Tails = new(("please|instead|now|for me|in the picture|in this picture|in the image|in the photo|there|here", true));

    internal static readonly Phrases<SelectMode> Modes = new(
        ("remove|drop|without|exclude|delete|take away|take out|leave out|leave away|deselect|unselect|except|except for|get rid of|hide|ignore", SelectMode.Remove),
        ("and|also|add|plus|include|as well as|and also|and add|then also|keep it and|now also|now add", SelectMode.Add));

    internal static readonly Phrases<bool> Too = new(("too|as well|also|in addition", true));

    internal static readonly Phrases<bool> Nots = new(("but|but not|and not|except|except for|without|not|other than|apart from|but without|besides", true));

    internal static readonly Phrases<SessionRequest> Commands = new(
        ("undo|undo that|undo it|take that back|take it back|go back|back|step back|revert", new UndoRequest()),
        ("clear|clear all|clear everything|nothing|start over|start again|deselect all|deselect everything|unselect all|reset|none|none of them|remove everything|remove all", new ClearRequest()),
        ("help|what can i say|what can you do|what do you understand|how does this work|?", new HelpRequest()),
        ("again|once more|do it again|do that again|the same|the same again|same again|same here|repeat|repeat that|on this picture|on this one|this picture|again on this picture|again on this one|again on this image|again on this|again here|again in this picture|again on the new picture"
            + "|the same on this picture|the same on this one|the same on this image|the same here|the same in this picture|same on this picture|do the same|do the same here|do the same on this picture|do the same on this one|do it again on this picture"
            + "|and on this picture|and on this one|and here|now here|now on this picture|now on this one|now this picture|on this picture too|here too|once more on this picture|and now here|once more here", new AgainRequest()),
        ("not that|not that one|no|nope|wrong|that is wrong|that 's wrong|not this|not this one|not it|no not that|no not that one|not what i meant|that is not it|that 's not it|that is not what i meant|that was wrong|not those|not these|not them|no that 's wrong|wrong one|the wrong one",
            new RejectRequest()));

    internal static readonly Phrases<bool> Back = new(("go back to|back to|go to|return to|switch to|open|on|look at|look again at", true));

    internal static readonly Phrases<SceneColor> Colors = new(
        ("red|crimson|scarlet", SceneColor.Red), ("orange", SceneColor.Orange), ("yellow|golden|gold", SceneColor.Yellow), ("green", SceneColor.Green), ("blue|light blue|dark blue|cyan|turquoise", SceneColor.Blue),
        ("purple|violet|lilac", SceneColor.Purple), ("pink|magenta|rose", SceneColor.Pink), ("brown|beige", SceneColor.Brown), ("black|dark", SceneColor.Black), ("white", SceneColor.White), ("gray|grey|silver", SceneColor.Gray));

    internal static readonly Phrases<bool> Sizes = new(("big|large|huge|great|giant", true), ("small|little|tiny", false));

    internal static readonly Phrases<RankWord> Superlatives = new(
        ("leftmost|far left|furthest left|farthest left", RankWord.FromLeft), ("rightmost|far right|furthest right|farthest right", RankWord.FromRight), ("topmost|uppermost|highest", RankWord.FromTop),
        ("bottommost|lowest|lowermost", RankWord.FromBottom), ("largest|biggest|hugest|greatest", RankWord.Largest), ("smallest|littlest|tiniest", RankWord.Smallest), ("tallest", RankWord.Tallest), ("widest", RankWord.Widest),
        ("middle|central|center|centre", RankWord.Middle));

    internal static readonly Phrases<CompareWord> Comparatives = new(
        ("bigger|larger|a bit bigger|a bit larger|much bigger|much larger|even bigger|even larger", CompareWord.Larger), ("smaller|littler|a bit smaller|much smaller|even smaller", CompareWord.Smaller),
        ("further left|farther left|further to the left|farther to the left|more to the left|more left", CompareWord.FurtherLeft),
        ("further right|farther right|further to the right|farther to the right|more to the right|more right", CompareWord.FurtherRight),
        ("higher|higher up|further up|farther up", CompareWord.Higher), ("lower|lower down|further down|farther down", CompareWord.Lower));

    internal static readonly Phrases<int> Ordinals = new(
        ("first|1st", 0), ("second|2nd", 1), ("third|3rd", 2), ("fourth|4th", 3), ("fifth|5th", 4), ("sixth|6th", 5), ("seventh|7th", 6), ("eighth|8th", 7), ("ninth|9th", 8), ("tenth|10th", 9), ("last", -1));

    internal static readonly Phrases<RankWord> Froms = new(
        ("from the left|from left|from left to right|starting from the left", RankWord.FromLeft), ("from the right|from right|from right to left|starting from the right", RankWord.FromRight),
        ("from the top|from top|from above", RankWord.FromTop), ("from the bottom|from bottom|from below", RankWord.FromBottom));

    /// <summary>Before a head.</summary>
    internal static readonly Phrases<PlaceWord> PlaceAdjectives = new(
        ("left|left-hand", PlaceWord.Left), ("right|right-hand", PlaceWord.Right), ("top|upper", PlaceWord.Top), ("bottom", PlaceWord.Bottom),
        ("upper left|top left|left upper", PlaceWord.Top | PlaceWord.Left), ("upper right|top right|right upper", PlaceWord.Top | PlaceWord.Right),
        ("lower left|bottom left|left lower", PlaceWord.Bottom | PlaceWord.Left), ("lower right|bottom right|right lower", PlaceWord.Bottom | PlaceWord.Right));

    /// <summary>After a head.</summary>
    internal static readonly Phrases<PlaceWord> Places = Corners();

    internal static readonly Phrases<RelationWord> Relations = new(
        ("left of|to the left of|on the left of|on the left side of|left from|at the left of", RelationWord.LeftOf), ("right of|to the right of|on the right of|on the right side of|right from|at the right of", RelationWord.RightOf),
        ("above|over|on top of|higher than", RelationWord.Above), ("below|under|underneath|beneath|lower than", RelationWord.Below),
        ("next to|beside|near|near to|by|close to|closest to|nearest to|nearest|nearby|adjacent to|touching|with|at", RelationWord.NextTo), ("inside|inside of|within|in|on", RelationWord.Inside), ("between|in between", RelationWord.Between));

    internal static readonly Phrases<bool> Depths = new(("in front of|behind|in back of|farther away|further away|nearer to us", true));

    internal static readonly Phrases<bool> Pronouns = new(("it|that one|this one|that|this|the same one|that thing|this thing|the selection", false), ("them|those|these", true));

    internal static readonly Phrases<bool> Of = new(("of the two|of them|of these|of those|of the three|of all|of the four|of both", true));

    internal static readonly Phrases<bool> That = new(("that is|that are|which is|which are|who is|that 's|that was", true));

    internal static readonly Phrases<int?> Numbers = new(("two", 2), ("three", 3), ("four", 4), ("five", 5), ("six", 6), ("seven", 7), ("eight", 8), ("nine", 9), ("ten", 10));

    internal static readonly FrozenSet<string> Stops = new[]
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
}
