using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>A thing in one of a session's pictures.</summary>
/// <param name="Picture">Which, from 0.</param>
/// <param name="Segment">Where it is in it.</param>
public sealed record SessionThing(int Picture, Segment Segment);

/// <summary>Finds what phrases mean in one picture: by what its model finds, by what things are called, and by where they lie.</summary>
/// <param name="image">The picture.</param>
/// <param name="number">Its place in the session.</param>
/// <param name="ask">Asks the model.</param>
/// <param name="takes">By what it can be asked.</param>
/// <param name="everything">Everything that is known to be in the picture.</param>
/// <param name="namer">Tells how well words fit; or null.</param>
/// <param name="options">Thresholds.</param>
sealed class SessionResolver(Image image, int number, Func<IReadOnlyList<Prompt>, IReadOnlyList<Segment>> ask, PromptKinds takes, Func<IReadOnlyList<SessionThing>> everything, INamer? namer, SessionOptions options)
{
    /// <summary>Things of which more than this is common are one.</summary>
    const double SameIou = 0.8;

    /// <summary>A color is a thing's if so much of it has it.</summary>
    const double ColorShare = 0.15;

    /// <summary>Things are next to each other if the gap between their boxes is at most this share of the picture's diagonal.</summary>
    const double NearGap = 0.15;

    /// <summary>A thing is larger or further than another if it is so by this factor, or this share of the picture.</summary>
    const double Larger = 1.05, Further = 0.01;

    /// <summary>What is selected in this picture.</summary>
    internal required IReadOnlyList<SessionThing> Selected { get; init; }

    /// <summary>What the talk is about in this picture.</summary>
    internal required IReadOnlyList<SessionThing> Candidates { get; init; }

    /// <summary>What was not meant.</summary>
    internal required IReadOnlyList<SessionThing> Rejected { get; init; }

    /// <summary>What the candidates are called, or null.</summary>
    internal string? Topic { get; init; }

    /// <summary>Things by the names that they were given.</summary>
    internal required Func<string, IReadOnlyList<SessionThing>> Named { get; init; }

    /// <summary>What a phrase means.</summary>
    /// <param name="Things">The best first; at least one.</param>
    /// <param name="Candidates">All that they were chosen from.</param>
    /// <param name="Topic">What these are called.</param>
    internal sealed record Found(IReadOnlyList<SessionThing> Things, IReadOnlyList<SessionThing> Candidates, string? Topic);

    /// <summary>It means nothing in this picture; the message says why.</summary>
    internal sealed class NothingException(string message) : Exception(message);

    /// <exception cref="NothingException">There is no such thing.</exception>
    internal Found Find(Reference r)
    {
        if (r.Nickname is not null) return Given(Named(r.Nickname));
        if (r.It) return Selected.Count > 0 ? Given(Selected) : throw new NothingException("Nothing is selected in this picture.");
        var (all, topic) = Base(r);
        var kind = topic is null ? "thing" : topic;
        var things = all;
        if (r.Owner is not null) things = Belonging(things, Find(r.Owner).Things, r.All);
        foreach (var relation in r.Relations) things = Narrow(things, relation, !r.All && r.Rank is null) is { Count: > 0 } narrowed ? narrowed : throw new NothingException($"There is no {kind} {Words.Relation(relation.Word)} {relation.To}.");
        if (r.Color is { } color) things = Colored(things, color) is { Count: > 0 } colored ? colored : throw new NothingException(things.Count == 1 ? $"The {kind} is not {Words.Lower(color)}." : $"None of the {things.Count} {Words.Plural(kind)} is {Words.Lower(color)}.");
        if (r.Other)
        {
            things = Without(Without(things, Selected), Rejected);
            if (things.Count == 0) throw new NothingException($"There is no other {kind}.");
        }
        var sorts = !r.All && r.Rank is null;
        if (r.Comparison is { } comparison)
        {
            var than = comparison.Than is { } named ? Find(named).Things : Selected;
            things = Compared(Without(things, than), comparison.Word, than);
            if (things.Count == 0) throw new NothingException($"There is no {Words.Comparative(comparison.Word)} {kind}.");
        }
        if (r.Large is { } large)
        {
            things = [.. things.OrderBy(t => large ? -Area(t) : Area(t))];
            if (!sorts && things.Count > 1)
            {
                var middle = Math.Sqrt((double)Area(things[0]) * Area(things[^1]));
                things = [.. things.Where(t => large ? Area(t) >= middle : Area(t) <= middle)];
            }
        }
        if (r.Place != PlaceWord.None)
        {
            things = [.. things.OrderBy(t => Distance(t, r.Place))];
            if (!sorts) things = [.. things.Where(t => IsAt(t, r.Place))];
            if (things.Count == 0) throw new NothingException($"There is no {kind} {Words.At(r.Place)}.");
        }
        if (r.Rank is { } rank)
        {
            things = Ranked(things, rank.By);
            var index = rank.By == RankWord.Middle ? things.Count / 2 : rank.Index < 0 ? things.Count - 1 : rank.Index;
            if (index >= things.Count) throw new NothingException($"There {(things.Count == 1 ? $"is only one {kind}" : $"are only {things.Count} {Words.Plural(kind)}")} here.");
            // "the two leftmost cats" are two, "all leftmost" one.
            things = [.. things.Skip(index).Take(r.Count ?? 1)];
        }
        else if (r.Count is { } count)
        {
            if (things.Count < count) throw new NothingException($"There {(things.Count == 1 ? $"is only one {kind}" : $"are only {things.Count} {Words.Plural(kind)}")} here.");
            things = [.. things.Take(count)];
        }
        else if (!r.All) things = [things[0]];
        return new(things, all, topic);

        static Found Given(IReadOnlyList<SessionThing> things) => new(things, things, null);
    }

    /// <summary>What things are looked for among.</summary>
    (IReadOnlyList<SessionThing> Things, string? Topic) Base(Reference r)
    {
        if (r.Noun is not null) return (Called(r.Noun), r.Noun);
        // "One" of what the talk is about, if there is a choice.
        if (!r.Anything && Candidates.Count > 1 && (Candidates.Count > Selected.Count || r.IsNarrowed || r.All)) return (Candidates, Topic);
        return everything() is { Count: > 0 } all ? (all, null) : throw new NothingException("Nothing is known to be in this picture yet: name a thing, or point at it.");
    }

    /// <summary>All things of a name, the best first.</summary>
    IReadOnlyList<SessionThing> Called(string noun)
    {
        if (takes.HasFlag(PromptKinds.Texts))
        {
            var found = Things(ask([Prompt.Text(noun)]));
            return found.Count > 0 ? found : throw Missing();
        }
        var all = everything();
        SessionThing[] labeled = [.. all.Where(t => IsCalled(t.Segment.Label, noun)).OrderByDescending(static t => t.Segment.Score)];
        if (labeled.Length > 0) return labeled;
        if (namer is null || all.Count == 0) throw Missing();
        var fits = namer.Fit(image, [.. all.Select(static t => t.Segment.Mask)], [noun]);
        (SessionThing Thing, float Fit)[] rated = [.. all.Select((t, i) => (t, fits[i][0])).OrderByDescending(static x => x.Item2)];
        if (rated[0].Fit < options.LeastFit) throw Missing();
        // The best is one of them even if it is not likely to be, others only if they are.
        return [.. rated.Where((x, i) => i == 0 || x.Fit >= options.SureFit).Select(x => x.Thing with { Segment = x.Thing.Segment with { Score = x.Fit, Label = noun } })];

        NothingException Missing() => new($"I find no {noun} here.");
    }

    /// <summary>Whether a label is a name, or a kind of it: a "red apple" is an apple.</summary>
    static bool IsCalled(string? label, string noun) =>
        label is not null && (label.Equals(noun, StringComparison.OrdinalIgnoreCase) || label.EndsWith($" {noun}", StringComparison.OrdinalIgnoreCase));

    internal IReadOnlyList<SessionThing> Things(IEnumerable<Segment> segments) => [.. segments.Where(static s => s.Mask.Area > 0).Take(options.MostThings).Select(s => new SessionThing(number, s))];

    internal static IReadOnlyList<SessionThing> Without(IReadOnlyList<SessionThing> things, IReadOnlyList<SessionThing> others) => others.Count == 0 ? things : [.. things.Where(t => !others.Any(o => Same(t, o)))];

    internal static bool Same(SessionThing a, SessionThing b) => a.Picture == b.Picture && (ReferenceEquals(a.Segment.Mask, b.Segment.Mask) || (a.Segment.Box.Overlaps(b.Segment.Box) && a.Segment.Mask.Iou(b.Segment.Mask) > SameIou));

    static long Area(SessionThing t) => t.Segment.Mask.Area;

    /// <summary>What belongs to things: what is nearest to them.</summary>
    SessionThing[] Belonging(IReadOnlyList<SessionThing> things, IReadOnlyList<SessionThing> owners, bool all)
    {
        SessionThing[] near = [.. Without(things, owners).OrderBy(t => owners.Min(o => Gap(t, o))).ThenBy(t => owners.Min(o => Apart(t, o)))];
        if (all) near = [.. near.Where(t => owners.Min(o => Gap(t, o)) <= NearGap * Diagonal)];
        return near.Length > 0 ? near : throw new NothingException("I find nothing that belongs to it.");
    }

    double Diagonal => Math.Sqrt(((double)image.Width * image.Width) + ((double)image.Height * image.Height));

    /// <summary>Pixels between two boxes.</summary>
    static double Gap(SessionThing a, SessionThing b)
    {
        var (p, q) = (a.Segment.Box, b.Segment.Box);
        var (dx, dy) = (Math.Max(0, Math.Max(p.X - q.Right, q.X - p.Right)), Math.Max(0, Math.Max(p.Y - q.Bottom, q.Y - p.Bottom)));
        return Math.Sqrt(((double)dx * dx) + ((double)dy * dy));
    }

    /// <summary>Pixels between the middles of two boxes.</summary>
    static double Apart(SessionThing a, SessionThing b)
    {
        var (dx, dy) = ((double)a.Segment.Box.CenterX - b.Segment.Box.CenterX, (double)a.Segment.Box.CenterY - b.Segment.Box.CenterY);
        return Math.Sqrt((dx * dx) + (dy * dy));
    }

    IReadOnlyList<SessionThing> Narrow(IReadOnlyList<SessionThing> things, Related relation, bool nearestFirst)
    {
        var to = Find(relation.To).Things;
        if (relation.Word == RelationWord.Between)
        {
            var and = relation.And is { } second ? Find(second).Things : [.. to.Skip(1)];
            if (and.Count == 0) return [];
            return [.. Without(Without(things, to), and).Select(t => (Thing: t, At: Between(t, to[0], and[0]))).Where(static x => x.At is not null).OrderBy(static x => x.At).Select(static x => x.Thing)];
        }
        if (!relation.To.All) to = [to[0]];
        IReadOnlyList<SessionThing> others = Without(things, to);
        // What lies clearly on that side; if nothing does, what lies there at all.
        IReadOnlyList<SessionThing> kept = [.. others.Where(t => to.All(o => Holds(t, relation.Word, o, clearly: true)))];
        if (kept.Count == 0) kept = [.. others.Where(t => to.All(o => Holds(t, relation.Word, o, clearly: false)))];
        return nearestFirst || relation.Word == RelationWord.NextTo ? [.. kept.OrderBy(t => to.Min(o => Gap(t, o))).ThenBy(t => to.Min(o => Apart(t, o)))] : kept;
    }

    bool Holds(SessionThing a, RelationWord word, SessionThing b, bool clearly)
    {
        var (p, q) = (a.Segment.Box, b.Segment.Box);
        var (dx, dy) = (p.CenterX - q.CenterX, p.CenterY - q.CenterY);
        return word switch
        {
            RelationWord.LeftOf => dx < 0 && (!clearly || Math.Abs(dx) >= Math.Abs(dy)),
            RelationWord.RightOf => dx > 0 && (!clearly || Math.Abs(dx) >= Math.Abs(dy)),
            RelationWord.Above => dy < 0 && (!clearly || Math.Abs(dy) >= Math.Abs(dx)),
            RelationWord.Below => dy > 0 && (!clearly || Math.Abs(dy) >= Math.Abs(dx)),
            RelationWord.Inside => Shared(p, q) >= (clearly ? 0.9 : 0.5) * p.Area && Area(a) < Area(b),
            _ => !clearly || Gap(a, b) <= NearGap * Diagonal,
        };

        static double Shared(PixelBox p, PixelBox q) => (double)Math.Max(0, Math.Min(p.Right, q.Right) - Math.Max(p.X, q.X)) * Math.Max(0, Math.Min(p.Bottom, q.Bottom) - Math.Max(p.Y, q.Y));
    }

    /// <summary>How far a thing is from the middle between two others; null where it does not lie between them.</summary>
    static double? Between(SessionThing t, SessionThing a, SessionThing b)
    {
        var (p, q, r) = (t.Segment.Box, a.Segment.Box, b.Segment.Box);
        var (dx, dy) = ((double)r.CenterX - q.CenterX, (double)r.CenterY - q.CenterY);
        var length = (dx * dx) + (dy * dy);
        if (length == 0) return null;
        var (px, py) = ((double)p.CenterX - q.CenterX, (double)p.CenterY - q.CenterY);
        var along = ((px * dx) + (py * dy)) / length;
        var aside = Math.Abs((px * dy) - (py * dx)) / Math.Sqrt(length);
        return along is > 0 and < 1 && aside <= 0.5 * Math.Sqrt(length) ? aside + (Math.Abs(along - 0.5) * Math.Sqrt(length)) : null;
    }

    IReadOnlyList<SessionThing> Compared(IReadOnlyList<SessionThing> things, CompareWord word, IReadOnlyList<SessionThing> than)
    {
        Func<SessionThing, double> size = word switch
        {
            CompareWord.Larger => static t => Area(t),
            CompareWord.Smaller => static t => -Area(t),
            CompareWord.FurtherLeft => static t => -t.Segment.Box.CenterX,
            CompareWord.FurtherRight => static t => t.Segment.Box.CenterX,
            CompareWord.Higher => static t => -t.Segment.Box.CenterY,
            _ => static t => t.Segment.Box.CenterY,
        };
        // With nothing to compare with, the most so; else the next in that direction first.
        if (than.Count == 0) return [.. things.OrderByDescending(size)];
        var most = than.Max(size);
        var least = word switch
        {
            CompareWord.Larger => most * Larger,
            CompareWord.Smaller => most / Larger,
            CompareWord.FurtherLeft or CompareWord.FurtherRight => most + (Further * image.Width),
            _ => most + (Further * image.Height),
        };
        return [.. things.Where(t => size(t) > least).OrderBy(size)];
    }

    /// <summary>How far from a place of the picture a thing's middle is.</summary>
    double Distance(SessionThing t, PlaceWord place)
    {
        var box = t.Segment.Box;
        var (x, y) = (box.CenterX / image.Width, box.CenterY / image.Height);
        var dx = place.HasFlag(PlaceWord.Left) ? x : place.HasFlag(PlaceWord.Right) ? 1 - x : place.HasFlag(PlaceWord.Middle) ? Math.Abs(x - 0.5) : 0;
        var dy = place.HasFlag(PlaceWord.Top) ? y : place.HasFlag(PlaceWord.Bottom) ? 1 - y : place.HasFlag(PlaceWord.Middle) ? Math.Abs(y - 0.5) : 0;
        return dx + dy;
    }

    bool IsAt(SessionThing t, PlaceWord place)
    {
        var box = t.Segment.Box;
        var (x, y) = (box.CenterX / image.Width, box.CenterY / image.Height);
        return (!place.HasFlag(PlaceWord.Left) || x < 0.5) && (!place.HasFlag(PlaceWord.Right) || x > 0.5) && (!place.HasFlag(PlaceWord.Top) || y < 0.5) && (!place.HasFlag(PlaceWord.Bottom) || y > 0.5)
            && (!place.HasFlag(PlaceWord.Middle) || (Math.Abs(x - 0.5) < 0.25 && Math.Abs(y - 0.5) < 0.25));
    }

    static IReadOnlyList<SessionThing> Ranked(IReadOnlyList<SessionThing> things, RankWord by)
    {
        if (by == RankWord.Middle)
        {
            // Along the axis on which they are further apart.
            var (xs, ys) = (things.Select(static t => t.Segment.Box.CenterX).ToArray(), things.Select(static t => t.Segment.Box.CenterY).ToArray());
            by = xs.Max() - xs.Min() >= ys.Max() - ys.Min() ? RankWord.FromLeft : RankWord.FromTop;
        }
        return [.. by switch
        {
            RankWord.FromLeft => things.OrderBy(static t => t.Segment.Box.CenterX),
            RankWord.FromRight => things.OrderByDescending(static t => t.Segment.Box.CenterX),
            RankWord.FromTop => things.OrderBy(static t => t.Segment.Box.CenterY),
            RankWord.FromBottom => things.OrderByDescending(static t => t.Segment.Box.CenterY),
            RankWord.Largest => things.OrderByDescending(static t => Area(t)),
            RankWord.Smallest => things.OrderBy(static t => Area(t)),
            RankWord.Tallest => things.OrderByDescending(static t => t.Segment.Box.Height),
            _ => things.OrderByDescending(static t => t.Segment.Box.Width),
        }];
    }

    /// <summary>Things that have a color, the most colored first.</summary>
    IReadOnlyList<SessionThing> Colored(IReadOnlyList<SessionThing> things, SceneColor color)
    {
        (SessionThing Thing, double Share)[] shares = [.. things.Select(t => (t, Share(t.Segment.Mask, color)))];
        var least = Math.Max(ColorShare, 0.5 * shares.Max(static s => s.Share));
        return [.. shares.Where(s => s.Share >= least).OrderByDescending(static s => s.Share).Select(static s => s.Thing)];
    }

    /// <summary>The share of a part's pixels that have a color.</summary>
    internal double Share(RunLengthMask mask, SceneColor color)
    {
        var (inside, box) = (new byte[mask.Width * mask.Height], mask.Box);
        mask.Decode(inside);
        var (channels, green, blue) = (image.Channels, image.Channels > 1 ? 1 : 0, image.Channels > 1 ? 2 : 0);
        var step = Math.Max(1, (int)Math.Sqrt(box.Area / 16384.0));
        var (seen, have) = (0, 0);
        for (var y = box.Y; y < box.Bottom; y += step)
        {
            for (var x = box.X; x < box.Right; x += step)
            {
                if (inside[(y * mask.Width) + x] == 0) continue;
                var i = ((y * image.Width) + x) * channels;
                seen++;
                if (Is(image.Pixels[i], image.Pixels[i + green], image.Pixels[i + blue], color)) have++;
            }
        }
        return seen == 0 ? 0 : (double)have / seen;
    }

    /// <summary>Whether a pixel would be called so.</summary>
    internal static bool Is(byte red, byte green, byte blue, SceneColor color)
    {
        var (r, g, b) = (red / 255.0, green / 255.0, blue / 255.0);
        var (most, least) = (Math.Max(r, Math.Max(g, b)), Math.Min(r, Math.Min(g, b)));
        var (value, chroma) = (most, most - least);
        var saturation = most == 0 ? 0 : chroma / most;
        if (value < 0.22) return color == SceneColor.Black;
        if (saturation < 0.14 || chroma < 0.07) return color == (value > 0.85 ? SceneColor.White : value < 0.3 ? SceneColor.Black : SceneColor.Gray);
        var hue = 60 * (most == r ? ((g - b) / chroma + 6) % 6 : most == g ? ((b - r) / chroma) + 2 : ((r - g) / chroma) + 4);
        return hue switch
        {
            < 14 or >= 345 => color == (saturation < 0.45 && value > 0.75 ? SceneColor.Pink : value < 0.45 ? SceneColor.Brown : SceneColor.Red),
            < 42 => color == (value < 0.65 || (saturation < 0.45 && value < 0.85) ? SceneColor.Brown : hue < 20 && saturation > 0.75 ? SceneColor.Red : SceneColor.Orange) || (color == SceneColor.Yellow && hue > 36 && value > 0.75),
            < 66 => color == (value < 0.5 ? SceneColor.Brown : SceneColor.Yellow),
            < 165 => color == SceneColor.Green,
            < 258 => color == SceneColor.Blue,
            < 292 => color == SceneColor.Purple,
            _ => color == (value < 0.55 ? SceneColor.Purple : SceneColor.Pink),
        };
    }
}
