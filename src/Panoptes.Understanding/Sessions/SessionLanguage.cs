using System.Globalization;
using Panoptes.Data;
using static Panoptes.Understanding.SessionVocabulary;

namespace Panoptes.Understanding;

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
