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
