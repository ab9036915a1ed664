using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>Bounds and thresholds of a <see cref="Session"/>.</summary>
public sealed record SessionOptions
{
    /// <summary>The most pictures that it holds.</summary>
    public int MostPictures { get; init; } = 32;

    /// <summary>The most turns that it remembers; the oldest are forgotten, and cannot be undone.</summary>
    public int MostTurns { get; init; } = 200;

    /// <summary>The most things of one answer.</summary>
    public int MostThings { get; init; } = 256;

    /// <summary>The most names that things may have.</summary>
    public int MostNames { get; init; } = 100;

    /// <summary>How many pictures stay encoded; the one that was not asked for longest is given up, and encoded again if it is asked for.</summary>
    public int OpenPictures { get; init; } = 2;

    /// <summary>How probable a name must be for more than the best thing to be called so.</summary>
    public float SureFit { get; init; } = 0.5f;

    /// <summary>How probable it must be for the best thing.</summary>
    public float LeastFit { get; init; } = 0.1f;
}

/// <summary>What came out of a turn.</summary>
/// <param name="Understood">False where it was not understood, or there is no such thing; nothing has changed then.</param>
/// <param name="Text">In one sentence.</param>
/// <param name="Selected">What is selected in the present picture now.</param>
public sealed record SessionAnswer(bool Understood, string Text, IReadOnlyList<Segment> Selected);

/// <summary>One turn of a session, as it is remembered.</summary>
/// <param name="Said">The user's words, or what was pointed at.</param>
/// <param name="Prompts">What the model was asked by, in words.</param>
/// <param name="Answer">What came out.</param>
/// <param name="Picture">The picture that was looked at, from 0.</param>
/// <param name="Selected">What was selected after it.</param>
public sealed record SessionTurn(string Said, IReadOnlyList<string> Prompts, string Answer, int Picture, IReadOnlyList<SessionThing> Selected);

/// <summary>
/// A talk about pictures: it keeps them with what was found, selected and named in them, and makes the next prompt of what is meant and what is remembered. No weight of any model changes.
/// Not for several threads at once.
/// </summary>
/// <remarks><see cref="SessionLanguage"/> says what can be said.</remarks>
/// <example><code>
/// using var session = new Session(model, new ClipNamer(clip, names));
/// session.Look(Image.Load("table.jpg"));
/// session.Say("the cat left of the apple");
/// session.Say("not that, the other");
/// session.Say("now its shadow too");
/// session.Save("table.session");
/// </code></example>
/// <param name="model">What is asked; it stays the caller's.</param>
/// <param name="namer">Tells what things may be called, for models that take no text; or null.</param>
/// <param name="options">Bounds and thresholds.</param>
public sealed class Session(IPromptable model, INamer? namer = null, SessionOptions? options = null) : IDisposable
{
    /// <summary>The largest session file that is read.</summary>
    const long LargestFile = 512L << 20;

    const int LongestName = 40, Version = 1;

    readonly SessionOptions options = options ?? new();
    readonly List<Picture> pictures = [];
    readonly List<(SessionTurn Turn, State Before)> turns = [];
    readonly List<string> asked = [];
    State state = new();
    long clock;

    /// <summary>What a turn may change; what is undone comes back as it was.</summary>
    sealed record State
    {
        /// <summary>How many there are.</summary>
        internal int Pictures { get; init; }

        internal int Picture { get; init; } = -1;

        internal int PictureBefore { get; init; } = -1;

        internal IReadOnlyList<SessionThing> Selected { get; init; } = [];

        internal IReadOnlyList<SessionThing> Candidates { get; init; } = [];

        internal IReadOnlyList<SessionThing> Rejected { get; init; } = [];

        internal string? Topic { get; init; }

        /// <summary>The phrases that gave the selection, complete in themselves: what "again" means.</summary>
        internal IReadOnlyList<string> Phrases { get; init; } = [];

        /// <summary>What was pointed at for the present thing.</summary>
        internal Prompt[] Clicks { get; init; } = [];

        internal ImmutableSortedDictionary<string, IReadOnlyList<SessionThing>> Names { get; init; } = ImmutableSortedDictionary.Create<string, IReadOnlyList<SessionThing>>(StringComparer.OrdinalIgnoreCase);
    }

    sealed class Picture(Image image, string? name)
    {
        internal Image Image => image;

        internal string? Name => name;

        internal IPromptedImage? Open { get; set; }

        /// <summary>Everything there is, where the model tells it.</summary>
        internal List<SessionThing>? Everything { get; set; }

        internal long Used { get; set; }
    }

    /// <summary>How many pictures were looked at.</summary>
    public int PictureCount => pictures.Count;

    /// <summary>Which is looked at now, from 0; -1: none yet.</summary>
    public int CurrentPicture => state.Picture;

    /// <summary>The picture that is looked at now; null: none yet.</summary>
    public Image? CurrentImage => state.Picture < 0 ? null : pictures[state.Picture].Image;

    /// <summary>What is selected in the present picture.</summary>
    public IReadOnlyList<Segment> Selected => [.. Here(state.Selected).Select(static t => t.Segment)];

    /// <summary>What the present picture's selection was chosen from.</summary>
    public IReadOnlyList<Segment> Candidates => [.. Here(state.Candidates).Select(static t => t.Segment)];

    /// <summary>The names that things have.</summary>
    public IReadOnlyCollection<string> Names => [.. state.Names.Keys];

    /// <summary>What was said and answered, the first turn first.</summary>
    public IReadOnlyList<SessionTurn> Turns => [.. turns.Select(static t => t.Turn)];

    /// <summary>A picture of the session, from 0.</summary>
    public Image ImageOf(int picture) => pictures[picture].Image;

    /// <summary>Looks at another picture, which is the one that is talked about from now on.</summary>
    /// <exception cref="PanoptesException">The session is full.</exception>
    public SessionAnswer Look(Image image, string? name = null)
    {
        if (pictures.Count == options.MostPictures) throw new PanoptesException($"The session holds {pictures.Count} pictures already; expected at most {options.MostPictures}. Begin a new one.");
        pictures.Add(new(image, name));
        return Turned(name is null ? "a picture" : $"the picture {name}", state with { Pictures = pictures.Count, Picture = pictures.Count - 1, PictureBefore = state.Picture }, $"Picture {pictures.Count}{(name is null ? "" : $", {name}")}.");
    }

    /// <summary>Does what a sentence asks for; what is not understood, or not there, changes nothing.</summary>
    public SessionAnswer Say(string words)
    {
        asked.Clear();
        var request = SessionLanguage.Parse(words, namer?.Vocabulary, [.. state.Names.Keys]);
        try
        {
            return request switch
            {
                NotUnderstood no => Unchanged(no.Sentence),
                HelpRequest => Unchanged(SessionLanguage.Help) with { Understood = true },
                UndoRequest => Undo(),
                PictureRequest p => Turn(words, p),
                _ when state.Picture < 0 => Unchanged("There is no picture yet: look at one first."),
                ClearRequest => Turned(words, state with { Selected = With([]), Candidates = With([], state.Candidates), Rejected = [], Topic = null, Phrases = [], Clicks = [] }, "Nothing is selected."),
                SelectRequest select => Select(words, select),
                RejectRequest => Reject(words),
                AgainRequest => Again(words),
                NameRequest n => Name(words, n),
                ForgetRequest f => Forget(words, f),
                WhatRequest w => What(w),
                CountRequest c => Count(words, c),
                _ => throw new InvalidOperationException($"{request.GetType().Name} is not handled."),
            };
        }
        catch (SessionResolver.NothingException e)
        {
            return Unchanged(e.Message);
        }
    }

    /// <summary>Points at a thing, by any prompts together.</summary>
    /// <param name="prompts">In pixels of the present picture.</param>
    /// <param name="more">Whether they say more of the thing that was pointed at before, whose mask and prompts are given along.</param>
    /// <exception cref="PanoptesException">No picture yet, no prompt, one of a kind that the model does not take, or one that does not fit the picture.</exception>
    public SessionAnswer Point(IReadOnlyList<Prompt> prompts, bool more = false)
    {
        asked.Clear();
        var picture = state.Picture >= 0 ? pictures[state.Picture] : throw new PanoptesException("There is no picture yet; look at one first.");
        if (prompts.Count == 0) throw new PanoptesException("No prompt was given; expected at least one.");
        if (prompts.Count > 1000) throw new PanoptesException($"{prompts.Count} prompts were given; expected at most 1,000.");
        foreach (var prompt in prompts)
        {
            if (!model.Takes.HasFlag(prompt.Kind)) throw new PanoptesException($"This model takes no {Words.Lower(prompt.Kind)}; it takes {model.Takes.ToString().ToLowerInvariant()}.");
            prompt.Check(picture.Image.Width, picture.Image.Height);
        }
        Prompt[] clicks = [.. more ? state.Clicks : [], .. prompts];
        var selected = Here(state.Selected);
        Prompt[] all = more && selected.Count == 1 && model.Takes.HasFlag(PromptKinds.Masks) && !clicks.OfType<MaskPrompt>().Any() && state.Clicks.Length > 0
            ? [Prompt.Mask(selected[0].Segment.Mask), .. clicks] : clicks;
        var found = Resolver().Things(Ask(state.Picture, all));
        var said = string.Join(", ", prompts.Select(Describe));
        if (found.Count == 0) return Unchanged("There is nothing.");
        // A text may mean several things; everything else means one.
        SessionThing[] meant = prompts.All(static p => p is TextPrompt) ? [.. found] : [found[0]];
        return Turned(said, state with { Selected = With(meant), Candidates = With(found, state.Candidates), Rejected = more ? state.Rejected : [], Topic = null, Phrases = [], Clicks = [.. clicks.Where(static p => p is not ExamplePrompt)] },
            meant.Length == 1 ? "That." : $"{meant.Length} things.");
    }

    /// <summary>Takes the last turn back.</summary>
    public SessionAnswer Undo()
    {
        if (turns.Count == 0) return Unchanged("There is nothing to undo.");
        var (turn, before) = turns[^1];
        turns.RemoveAt(turns.Count - 1);
        state = before;
        // A picture that came with the turn goes with it.
        while (pictures.Count > before.Pictures)
        {
            pictures[^1].Open?.Dispose();
            pictures.RemoveAt(pictures.Count - 1);
        }
        return new(true, $"\"{turn.Said}\" is undone.", Selected);
    }

    SessionAnswer Select(string words, SelectRequest request)
    {
        var resolver = Resolver();
        var (things, candidates, topic) = (new List<SessionThing>(), new List<SessionThing>(), (string?)null);
        foreach (var wanted in request.Wanted)
        {
            var found = resolver.Find(wanted);
            things.AddRange(SessionResolver.Without(found.Things, things));
            candidates.AddRange(SessionResolver.Without(found.Candidates, candidates));
            topic = found.Topic;
        }
        foreach (var unwanted in request.Unwanted)
        {
            try
            {
                var no = resolver.Find(unwanted).Things;
                things = [.. SessionResolver.Without(things, no)];
                if (unwanted.It) resolver = Resolver(no);
            }
            catch (SessionResolver.NothingException) { }                          // what is not there need not be left out
        }
        if (things.Count == 0) return Unchanged("Nothing is left of that.");
        var selected = Here(state.Selected);
        IReadOnlyList<SessionThing> after = request.Mode switch
        {
            SelectMode.Add => [.. selected, .. SessionResolver.Without(things, selected)],
            SelectMode.Remove => SessionResolver.Without(selected, things),
            _ => things,
        };
        if (request.Mode == SelectMode.Remove && after.Count == selected.Count) return Unchanged($"{Sentence(request.Wanted)} is not selected.");
        // What is meant stands by itself, so that it means the same in another picture.
        string[] phrases = [.. request.Wanted.Select(r => Complete(r).ToString())];
        return Turned(words, state with
        {
            Selected = With(after),
            Candidates = request.Mode == SelectMode.Replace || candidates.Count > 1 ? With(candidates, state.Candidates) : state.Candidates,
            Rejected = request.Unwanted.Any(static r => r.It) ? [.. state.Rejected, .. selected] : [],
            Topic = request.Mode == SelectMode.Replace ? topic : state.Topic,
            Phrases = request.Mode switch { SelectMode.Replace => phrases, SelectMode.Add => [.. state.Phrases, .. phrases], _ => state.Phrases },
            Clicks = [],
        }, Answer());

        string Answer()
        {
            if (request.Mode == SelectMode.Remove) return after.Count == 0 ? "Nothing is selected." : $"{after.Count} left.";
            if (things.Count > 1) return $"{Sentence(request.Wanted)}: {things.Count}.";
            return candidates.Count > 1 && !request.Wanted[0].IsNarrowed && topic is not null && request.Wanted.Count == 1 ? $"{Sentence(request.Wanted)}, one of {candidates.Count}." : $"{Sentence(request.Wanted)}.";
        }
    }

    Reference Complete(Reference r) => r is { Noun: null, It: false, Nickname: null, Anything: false } && state.Topic is { } topic ? r with { Noun = topic, Other = false } : r;

    static string Sentence(IReadOnlyList<Reference> things)
    {
        var text = string.Join(" and ", things);
        return char.ToUpperInvariant(text[0]) + text[1..];
    }

    /// <summary>The next best of what the talk is about; or the same clicks, with one that says what is not meant.</summary>
    SessionAnswer Reject(string words)
    {
        var wrong = Here(state.Selected);
        if (wrong.Count == 0) return Unchanged("Nothing is selected that could be wrong.");
        SessionThing[] rejected = [.. state.Rejected, .. wrong];
        var left = SessionResolver.Without(Here(state.Candidates), rejected);
        if (left.Count > 0)
            return Turned(words, state with { Selected = With([left[0]]), Rejected = rejected }, left.Count == 1 ? "Then this: it is the last." : $"Then this; {left.Count - 1} more could be meant.");
        if (state.Clicks.Length > 0 && model.Takes.HasFlag(PromptKinds.Points))
        {
            Prompt[] clicks = [.. state.Clicks, .. wrong.Select(static t => Inside(t.Segment.Mask))];
            var found = SessionResolver.Without(Resolver().Things(Ask(state.Picture, clicks)), rejected);
            if (found.Count > 0) return Turned(words, state with { Selected = With([found[0]]), Candidates = With(found, state.Candidates), Rejected = rejected, Clicks = clicks }, "Then this.");
        }
        return Turned(words, state with { Selected = With([]), Rejected = rejected }, "Then I know of nothing else: say or show what is meant.");
    }

    /// <summary>A point that is well inside a mask, as what is not meant: the middle of its longest run.</summary>
    static PointPrompt Inside(RunLengthMask mask)
    {
        var (at, best, place) = (0L, 0, 0L);
        for (var i = 0; i < mask.Runs.Count; at += mask.Runs[i], i++)
            if (i % 2 == 1 && mask.Runs[i] > best) (best, place) = (mask.Runs[i], at + (mask.Runs[i] / 2));
        return Prompt.Point((place / mask.Height) + 0.5, (place % mask.Height) + 0.5, positive: false);
    }

    SessionAnswer Again(string words)
    {
        var resolver = Resolver();
        if (state.Phrases.Count > 0)
        {
            var (things, candidates, topic) = (new List<SessionThing>(), new List<SessionThing>(), (string?)null);
            foreach (var phrase in state.Phrases)
            {
                if (SessionLanguage.Parse(phrase, namer?.Vocabulary, [.. state.Names.Keys]) is not SelectRequest { Wanted: [var wanted] } || wanted.It) continue;
                var found = resolver.Find(wanted);
                things.AddRange(SessionResolver.Without(found.Things, things));
                candidates.AddRange(SessionResolver.Without(found.Candidates, candidates));
                topic = found.Topic;
            }
            if (things.Count > 0) return Turned(words, state with { Selected = With(things), Candidates = With(candidates, state.Candidates), Rejected = [], Topic = topic, Clicks = [] }, things.Count == 1 ? $"{char.ToUpperInvariant(state.Phrases[0][0])}{state.Phrases[0][1..]}." : $"{things.Count} things.");
        }
        // What was selected last in another picture.
        if (state.Selected.LastOrDefault(t => t.Picture != state.Picture) is not { } last) return Unchanged(state.Selected.Count == 0 ? "Nothing was selected that could be found again." : "That is selected in this picture already.");
        var like = Like([.. state.Selected.Where(t => t.Picture == last.Picture)]);
        return Turned(words, state with { Selected = With(like), Candidates = With(like, state.Candidates), Rejected = [], Topic = null, Clicks = [] }, like.Count == 1 ? "This is like it." : $"{like.Count} things are like it.");
    }

    /// <summary>What is like things of other pictures in the present one: by example where the model takes that, by name else.</summary>
    List<SessionThing> Like(IReadOnlyList<SessionThing> things)
    {
        var resolver = Resolver();
        var found = new List<SessionThing>();
        foreach (var thing in things)
        {
            if (model.Takes.HasFlag(PromptKinds.Examples))
                found.AddRange(SessionResolver.Without(resolver.Things(Ask(state.Picture, [Prompt.Like(pictures[thing.Picture].Image, thing.Segment.Mask)])).Take(1).ToArray(), found));
            else if (NameOf(thing) is { } name) found.AddRange(SessionResolver.Without(resolver.Find(new() { Noun = name }).Things, found));
        }
        return found.Count > 0 ? found : throw new SessionResolver.NothingException("I find nothing like it in this picture.");
    }

    string? NameOf(SessionThing thing)
    {
        if (thing.Segment.Label is { } label) return label;
        if (namer is not { Vocabulary.Count: > 0 }) return null;
        var fits = namer.Fit(pictures[thing.Picture].Image, [thing.Segment.Mask], namer.Vocabulary)[0];
        return namer.Vocabulary[Enumerable.Range(0, fits.Count).MaxBy(i => fits[i])];
    }

    SessionAnswer Turn(string words, PictureRequest request)
    {
        var to = request.Number switch { 0 => state.PictureBefore, -1 => pictures.Count - 1, var n => n - 1 };
        if (to < 0 || to >= pictures.Count) return Unchanged(pictures.Count == 0 ? "There is no picture yet: look at one first." : request.Number == 0 ? "There is no other picture." : $"There {(pictures.Count == 1 ? "is one picture" : $"are {pictures.Count} pictures")}, no picture {request.Number}.");
        return Turned(words, state with { Picture = to, PictureBefore = state.Picture }, $"Picture {to + 1}.");
    }

    SessionAnswer Name(string words, NameRequest request)
    {
        var name = request.Name;
        if (name.Length > LongestName) return Unchanged($"A name of {name.Length} characters was given; expected at most {LongestName}.");
        // A name must not be what something else is said by.
        if (SessionLanguage.Parse(name) is not SelectRequest { Wanted: [{ Noun: not null, IsNarrowed: false, Relations.Count: 0 }], Unwanted.Count: 0, Mode: SelectMode.Replace }) return Unchanged($"\"{name}\" means something else here; give another name.");
        if (state.Names.Count >= options.MostNames && !state.Names.ContainsKey(name)) return Unchanged($"There are {state.Names.Count} names already; forget one first.");
        var found = Resolver().Find(request.Thing);
        return Turned(words, state with { Names = state.Names.SetItem(name, found.Things), Selected = With(found.Things) }, $"{(found.Things.Count == 1 ? "It is" : "They are")} called {name} now.");
    }

    SessionAnswer Forget(string words, ForgetRequest request) => state.Names.ContainsKey(request.Name)
        ? Turned(words, state with { Names = state.Names.Remove(request.Name) }, $"The name {request.Name} is forgotten.")
        : Unchanged(state.Names.Count == 0 ? $"Nothing is called {request.Name}; there are no names yet." : $"Nothing is called {request.Name}; the names are {string.Join(", ", state.Names.Keys)}.");

    SessionAnswer What(WhatRequest request)
    {
        var things = Resolver().Find(request.Thing).Things;
        string[] names = [.. things.Select(NameOf).OfType<string>()];
        return names.Length == 0 ? Unchanged("What things are called cannot be told here: no names are known.") : Unchanged($"{(names.Length == 1 ? "That is" : "Those are")} {string.Join(", ", names)}.") with { Understood = true };
    }

    SessionAnswer Count(string words, CountRequest request)
    {
        try
        {
            var found = Resolver().Find(request.Things);
            return Turned(words, state with { Selected = With(found.Things), Candidates = With(found.Candidates, state.Candidates), Rejected = [], Topic = found.Topic, Phrases = [Complete(request.Things).ToString()], Clicks = [] }, $"{found.Things.Count}.");
        }
        catch (SessionResolver.NothingException e)
        {
            return Unchanged($"None: {char.ToLowerInvariant(e.Message[0])}{e.Message[1..]}") with { Understood = true };
        }
    }

    SessionResolver Resolver(IReadOnlyList<SessionThing>? alsoRejected = null)
    {
        var (number, picture) = (state.Picture, pictures[state.Picture]);
        return new(picture.Image, number, p => Ask(number, p), model.Takes, () => Everything(number), namer, options)
        {
            Selected = Here(state.Selected),
            Candidates = Here(state.Candidates),
            Rejected = [.. Here(state.Rejected), .. alsoRejected ?? []],
            Topic = state.Topic,
            Named = name =>
            {
                var things = state.Names[name];
                return Here(things) is { Count: > 0 } here ? here : Like(things);
            },
        };
    }

    /// <summary>Things of the present picture together with what there is in others, which stays.</summary>
    IReadOnlyList<SessionThing> With(IReadOnlyList<SessionThing> things, IReadOnlyList<SessionThing>? all = null) => [.. (all ?? state.Selected).Where(t => t.Picture != state.Picture), .. things];

    IReadOnlyList<SessionThing> Here(IReadOnlyList<SessionThing> things) => things.All(t => t.Picture == state.Picture) ? things : [.. things.Where(t => t.Picture == state.Picture)];

    /// <summary>Everything in a picture, asked once; of a model that does not tell it, what the talk was about there.</summary>
    List<SessionThing> Everything(int number)
    {
        var picture = pictures[number];
        if (model.Takes.HasFlag(PromptKinds.Everything))
            return picture.Everything ??= [.. Ask(number, []).Where(static s => s.Mask.Area > 0).Take(options.MostThings).Select(s => new SessionThing(number, s))];
        var known = new List<SessionThing>();
        foreach (var things in turns.Select(static t => t.Turn.Selected).Append(state.Candidates).Append(state.Selected))
            known.AddRange(SessionResolver.Without([.. things.Where(t => t.Picture == number)], known));
        return known;
    }

    /// <summary>Asks the model about a picture, which stays encoded.</summary>
    IReadOnlyList<Segment> Ask(int number, IReadOnlyList<Prompt> prompts)
    {
        var picture = pictures[number];
        picture.Used = ++clock;
        if (picture.Open is null)
        {
            foreach (var old in pictures.Where(static p => p.Open is not null).OrderByDescending(static p => p.Used).Skip(Math.Max(0, options.OpenPictures - 1)).ToArray())
            {
                old.Open!.Dispose();
                old.Open = null;
            }
            picture.Open = model.Open(picture.Image);
        }
        asked.Add(prompts.Count == 0 ? "everything" : string.Join(", ", prompts.Select(Describe)));
        return picture.Open.Segment(prompts);
    }

    SessionAnswer Unchanged(string text) => new(false, text, state.Picture < 0 ? [] : Selected);

    SessionAnswer Turned(string said, State after, string answer)
    {
        turns.Add((new(said, [.. asked], answer, after.Picture, [.. after.Selected.Where(t => t.Picture == after.Picture)]), state));
        if (turns.Count > options.MostTurns) turns.RemoveRange(0, turns.Count - options.MostTurns);
        state = after;
        return new(true, answer, Selected);
    }

    static string Describe(Prompt prompt) => prompt switch
    {
        PointPrompt p => string.Create(CultureInfo.InvariantCulture, $"{(p.Positive ? "a point" : "not the point")} at {p.X:0.#},{p.Y:0.#}"),
        BoxPrompt b => string.Create(CultureInfo.InvariantCulture, $"a box {b.Left:0.#},{b.Top:0.#} to {b.Right:0.#},{b.Bottom:0.#}"),
        ScribblePrompt s => s.Positive ? "a stroke" : "not the stroke",
        MaskPrompt => "a mask",
        TextPrompt t => $"\"{t.Words}\"",
        _ => "a thing of another picture",
    };

    /// <summary>Writes everything that is remembered into one file, pictures included.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public void Save(string path)
    {
        var (masks, indices) = (new List<SavedThing>(), new Dictionary<SessionThing, int>(ReferenceEqualityComparer.Instance));
        var file = new SavedSession
        {
            Format = SavedSession.Name,
            Version = Version,
            State = Save(state),
            Turns = [.. turns.Select(t => new SavedTurn { Said = t.Turn.Said, Prompts = [.. t.Turn.Prompts], Answer = t.Turn.Answer, Picture = t.Turn.Picture, Selected = Indices(t.Turn.Selected), Before = Save(t.Before) })],
            Pictures = [.. pictures.Select(static p => new SavedPicture { Name = p.Name, Png = p.Image.Encode(ImageFormat.Png) })],
            Things = masks,
        };
        AtomicFile.Write(path, stream => JsonSerializer.Serialize(stream, file, SavedSession.Options));

        SavedState Save(State s) => new()
        {
            Pictures = s.Pictures,
            Picture = s.Picture,
            PictureBefore = s.PictureBefore,
            Selected = Indices(s.Selected),
            Candidates = Indices(s.Candidates),
            Rejected = Indices(s.Rejected),
            Topic = s.Topic,
            Phrases = [.. s.Phrases],
            Clicks = [.. s.Clicks.Select(SavedPrompt.Of)],
            Names = s.Names.ToDictionary(static n => n.Key, n => Indices(n.Value)),
        };

        int[] Indices(IReadOnlyList<SessionThing> things) => [.. things.Select(t =>
        {
            if (indices.TryGetValue(t, out var index)) return index;
            indices[t] = masks.Count;
            masks.Add(new() { Picture = t.Picture, Counts = t.Segment.Mask.Counts, Score = t.Segment.Score, Label = t.Segment.Label });
            return masks.Count - 1;
        })];
    }

    /// <summary>Goes on where <see cref="Save"/> was called.</summary>
    /// <param name="path">The file.</param>
    /// <param name="model">What is asked from now on; it need not be the same.</param>
    /// <param name="namer">As for a new session.</param>
    /// <param name="options">As for a new session.</param>
    /// <exception cref="PanoptesException">The file is no session, is damaged, or holds more than a session may.</exception>
    public static Session Load(string path, IPromptable model, INamer? namer = null, SessionOptions? options = null)
    {
        var session = new Session(model, namer, options);
        try
        {
            var info = new FileInfo(path);
            if (!info.Exists) throw new PanoptesException("there is no such file");
            if (info.Length > LargestFile) throw new PanoptesException($"it has {info.Length} bytes; expected at most {LargestFile}");
            using var stream = File.OpenRead(path);
            session.Restore(JsonSerializer.Deserialize<SavedSession>(stream, SavedSession.Options) ?? throw new PanoptesException("it holds null"));
            return session;
        }
        catch (Exception e) when (e is PanoptesException or JsonException or IOException or UnauthorizedAccessException or FormatException)
        {
            session.Dispose();
            throw new PanoptesException($"{path} cannot be read as a session: {(e is JsonException ? "it is no JSON of a session's form" : e.Message.TrimEnd('.'))}.", e);
        }
    }

    void Restore(SavedSession file)
    {
        Require(file.Format == SavedSession.Name && file.Version == Version, $"its format is \"{Short(file.Format)}\", version {file.Version}; expected \"{SavedSession.Name}\", version {Version}");
        Require(file.Pictures.Count <= options.MostPictures, $"it has {file.Pictures.Count} pictures; expected at most {options.MostPictures}");
        Require(file.Turns.Count <= options.MostTurns, $"it has {file.Turns.Count} turns; expected at most {options.MostTurns}");
        foreach (var (saved, i) in file.Pictures.Select(static (p, i) => (p, i))) pictures.Add(new(Image.Decode(saved?.Png ?? throw new PanoptesException($"picture {i + 1} is missing"), $"picture {i + 1}"), saved.Name is null ? null : Short(saved.Name)));
        SessionThing[] things = [.. file.Things.Select((t, i) =>
        {
            Require(t is not null && t.Picture >= 0 && t.Picture < pictures.Count, $"thing {i} is in no picture of it");
            var image = pictures[t!.Picture].Image;
            var mask = RunLengthMask.Parse(t.Counts ?? throw new PanoptesException($"thing {i} has no mask"), image.Height, image.Width);
            Require(mask.Area > 0 && float.IsFinite(t.Score), $"thing {i} is empty");
            return new SessionThing(t.Picture, new(mask, t.Score, t.Label is null ? null : Short(t.Label)));
        })];
        state = Restored(file.State);
        Require(state.Pictures == pictures.Count, "its state does not have all of its pictures");
        foreach (var turn in file.Turns)
        {
            Require(turn is not null && turn.Picture >= -1 && turn.Picture < pictures.Count, "a turn is about no picture of it");
            turns.Add((new(turn!.Said ?? "", turn.Prompts ?? [], turn.Answer ?? "", turn.Picture, All(turn.Selected)), Restored(turn.Before)));
        }

        State Restored(SavedState? s)
        {
            if (s is null) throw new PanoptesException("a state is missing");
            Require(s.Pictures >= 0 && s.Pictures <= pictures.Count && s.Picture >= -1 && s.Picture < s.Pictures && s.PictureBefore >= -1 && s.PictureBefore < s.Pictures && (s.Picture >= 0 || s.Selected is null or []), "a state is about no picture of it");
            var image = s.Picture < 0 ? null : pictures[s.Picture].Image;
            Require((s.Names?.Count ?? 0) <= options.MostNames && (s.Phrases?.Length ?? 0) <= 1000 && (s.Clicks?.Length ?? 0) <= 1000, "a state holds more than a session may");
            var clicks = (s.Clicks ?? []).Select(c => c?.Restore(image) ?? throw new PanoptesException("a prompt is missing")).ToArray();
            return new()
            {
                Pictures = s.Pictures,
                Picture = s.Picture,
                PictureBefore = s.PictureBefore,
                Selected = All(s.Selected),
                Candidates = All(s.Candidates),
                Rejected = All(s.Rejected),
                Topic = s.Topic,
                Phrases = [.. (s.Phrases ?? []).Where(static p => p is not null)],
                Clicks = clicks,
                Names = (s.Names ?? []).Where(static n => n.Value is { Length: > 0 }).ToImmutableSortedDictionary(static n => n.Key, n => All(n.Value), StringComparer.OrdinalIgnoreCase),
            };
        }

        IReadOnlyList<SessionThing> All(int[]? chosen)
        {
            Require(chosen is null || chosen.All(i => i >= 0 && i < things.Length), "it speaks of a thing that it does not have");
            return [.. (chosen ?? []).Select(i => things[i])];
        }

        static string Short(string? text) => text is null ? "" : text.Length <= 100 ? text : text[..100];

        static void Require(bool holds, string what)
        {
            if (!holds) throw new PanoptesException(what);
        }
    }

    public void Dispose()
    {
        foreach (var picture in pictures)
        {
            picture.Open?.Dispose();
            picture.Open = null;
        }
    }

    sealed record SavedSession
    {
        internal const string Name = "panoptes-session";

        internal static JsonSerializerOptions Options { get; } = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, MaxDepth = 16, DefaultIgnoreCondition = System.Text.Json.Serialization.JsonIgnoreCondition.WhenWritingNull };

        public string? Format { get; init; }
        public int Version { get; init; }
        public List<SavedPicture> Pictures { get => field ?? []; init; } = [];
        public List<SavedThing> Things { get => field ?? []; init; } = [];
        public SavedState? State { get; init; }
        public List<SavedTurn> Turns { get => field ?? []; init; } = [];
    }

    sealed record SavedPicture
    {
        public string? Name { get; init; }
        public byte[]? Png { get; init; }
    }

    sealed record SavedThing
    {
        public int Picture { get; init; }
        public string? Counts { get; init; }
        public float Score { get; init; }
        public string? Label { get; init; }
    }

    sealed record SavedTurn
    {
        public string? Said { get; init; }
        public string[]? Prompts { get; init; }
        public string? Answer { get; init; }
        public int Picture { get; init; }
        public int[]? Selected { get; init; }
        public SavedState? Before { get; init; }
    }

    sealed record SavedState
    {
        public int Pictures { get; init; }
        public int Picture { get; init; }
        public int PictureBefore { get; init; }
        public int[]? Selected { get; init; }
        public int[]? Candidates { get; init; }
        public int[]? Rejected { get; init; }
        public string? Topic { get; init; }
        public string[]? Phrases { get; init; }
        public SavedPrompt[]? Clicks { get; init; }
        public Dictionary<string, int[]>? Names { get; init; }
    }

    /// <summary>A prompt by its kind.</summary>
    sealed record SavedPrompt
    {
        public string? Kind { get; init; }
        public double[]? At { get; init; }
        public string? Counts { get; init; }
        public string? Words { get; init; }
        public bool Positive { get; init; } = true;

        internal static SavedPrompt Of(Prompt prompt) => prompt switch
        {
            PointPrompt p => new() { Kind = "point", At = [p.X, p.Y], Positive = p.Positive },
            BoxPrompt b => new() { Kind = "box", At = [b.Left, b.Top, b.Right, b.Bottom] },
            ScribblePrompt s => new() { Kind = "scribble", Counts = s.Pixels.Counts, Positive = s.Positive },
            MaskPrompt m => new() { Kind = "mask", Counts = m.Pixels.Counts },
            TextPrompt t => new() { Kind = "text", Words = t.Words },
            _ => throw new InvalidOperationException("An example is not kept."),
        };

        internal Prompt Restore(Image? image)
        {
            if (image is null) throw new PanoptesException("it has a prompt without a picture");
            RunLengthMask Pixels() => RunLengthMask.Parse(Counts ?? "", image.Height, image.Width);
            Prompt prompt = (Kind, At) switch
            {
                ("point", [var x, var y]) => Prompt.Point(x, y, Positive),
                ("box", [var left, var top, var right, var bottom]) => Prompt.Box(left, top, right, bottom),
                ("scribble", _) => Prompt.Scribble(Pixels(), Positive),
                ("mask", _) => Prompt.Mask(Pixels()),
                ("text", _) => Prompt.Text(Words ?? ""),
                _ => throw new PanoptesException("it has a prompt of no known kind"),
            };
            prompt.Check(image.Width, image.Height);
            return prompt;
        }
    }
}
