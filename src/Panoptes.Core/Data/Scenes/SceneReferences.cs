using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>What an expression tells its objects apart by.</summary>
public enum SceneReferenceKind
{
    /// <summary>"the cat": its name alone.</summary>
    Name,

    /// <summary>"all cats", "the two cats".</summary>
    Set,

    /// <summary>"the larger cat", "the smallest object".</summary>
    Size,

    /// <summary>"the left cat", "the second cat from the right", "the leftmost object".</summary>
    Order,

    /// <summary>"the apple left of the cat", "the object above the cat", "the apples left of the cat", "the apple in front of the cat".</summary>
    Relation,

    /// <summary>"the object in the upper right corner", "the cat in the lower left corner", "the object in the middle".</summary>
    Place,

    /// <summary>"the green car", "the red object".</summary>
    Color,
}

/// <summary>Words that mean certain objects of a scene and no others.</summary>
/// <param name="Kind">What they tell them apart by.</param>
/// <param name="Text">The expression: "the apple left of the cat".</param>
/// <param name="Objects">What it means: positions in <see cref="Scene.Objects"/>, rising; one, or several where it is a plural.</param>
public sealed record SceneReference(SceneReferenceKind Kind, string Text, IReadOnlyList<int> Objects)
{
    /// <summary>Whether the expression says more than names: without its attribute, order or relation it would mean other objects, too.</summary>
    public bool IsNeeded { get; init; }

    /// <summary>The relation that it speaks of, between an object that it means and the one that it goes by; null where it speaks of none.</summary>
    public SceneRelation? Relation { get; init; }

    /// <summary>Whether its two names in their relation are one of the combinations held out (<see cref="SceneGenerator.IsHeldOut"/>).</summary>
    public bool IsHeldOut { get; init; }
}

/// <summary>All that can be said of a scene's objects by fixed forms so that each expression means what it says by <see cref="Scene"/>'s masks and boxes, and with a margin.</summary>
sealed class SceneReferences(EmojiSet set, SceneNames names, DrawingColors colors)
{
    /// <summary>How many times the next one's longest side the largest one's is at least.</summary>
    const float Larger = 1.2f;

    static readonly string[] Ordinals =
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth"];

    static readonly string[] Numbers = ["", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"];

    /// <summary>The expressions, in an order that follows from the scene.</summary>
    internal List<SceneReference> Of(Scene scene)
    {
        var said = new List<SceneReference>();
        var (objects, all) = (scene.Objects, Enumerable.Range(0, scene.Objects.Count).ToArray());
        foreach (var group in all.GroupBy(k => objects[k].Concept))
        {
            int[] members = [.. group];
            var (concept, name) = (group.Key, names.Name(group.Key));
            Colored(scene, members, name, alone: members.Length == 1, said);
            if (members.Length == 1)
            {
                said.Add(new(SceneReferenceKind.Name, $"the {name}", members));
                continue;
            }
            if (!names.IsCounted(concept)) continue;
            said.Add(new(SceneReferenceKind.Set, $"all {names.Plural(concept)}", members));
            said.Add(new(SceneReferenceKind.Set, $"the {Numbers[members.Length]} {names.Plural(concept)}", members));
            Sized(scene, members, name, said);
            Ordered(scene, members, name, said);
            Placed(scene, members, name, said);
        }
        if (all.Length >= 2)
        {
            Colored(scene, all, "object", alone: false, said);
            Sized(scene, all, "object", said);
            Outermost(scene, all, said);
            Placed(scene, all, "object", said);
            Related(scene, said);
        }
        return said;
    }

    /// <summary>Whether a pair of concepts in a relation is held out: one in five, the same from either side ("left of" and "right of" are one relation), whatever the set's subset.</summary>
    internal bool IsHeldOut(int subject, SceneRelationKind kind, int other)
    {
        if (kind is SceneRelationKind.RightOf or SceneRelationKind.Below) (subject, kind, other) = (other, kind - 1, subject);
        var hash = 14695981039346656037UL;                                             // FNV-1a
        foreach (var c in $"{set.Concepts[subject].Code} {(int)kind} {set.Concepts[other].Code}") hash = (hash ^ c) * 1099511628211UL;
        return (hash >> 32) % 5 == 0;
    }

    void Colored(Scene scene, int[] members, string name, bool alone, List<SceneReference> said)
    {
        if (name != "object" && name.Split(' ', '-').Any(static w => DrawingColors.Names.Contains(w))) return;
        foreach (var k in members)
            if (colors.Of(scene.Objects[k].Image) is { } color && members.All(j => j == k || colors.IsNot(scene.Objects[j].Image, color)))
                said.Add(new(SceneReferenceKind.Color, $"the {DrawingColors.Names[(int)color]} {name}", [k]) { IsNeeded = !alone });
    }

    static void Sized(Scene scene, int[] members, string name, List<SceneReference> said)
    {
        int[] order = [.. members.OrderBy(k => Side(k))];
        var (first, second, last, before) = (order[0], order[1], order[^1], order[^2]);
        if (Side(last) >= Larger * Side(before) && members.All(k => k == last || Pixels(k) < Pixels(last))) said.Add(Is(members.Length == 2 ? "larger" : "largest", last));
        if (Side(second) >= Larger * Side(first) && members.All(k => k == first || Pixels(k) > Pixels(first))) said.Add(Is(members.Length == 2 ? "smaller" : "smallest", first));

        int Side(int k) => Math.Max(scene.Objects[k].Box.Width, scene.Objects[k].Box.Height);

        int Pixels(int k) => scene.Objects[k].Pixels;

        SceneReference Is(string word, int k) => new(SceneReferenceKind.Size, $"the {word} {name}", [k]) { IsNeeded = true };
    }

    /// <summary>Along an axis, the middles of all boxes are a tenth of the image apart.</summary>
    static bool IsApart(Scene scene, float nearer, float farther) => farther - nearer >= scene.Size / 10f;

    static float At(Scene scene, int k, bool across) => across ? scene.Objects[k].Box.CenterX : scene.Objects[k].Box.CenterY;

    static void Ordered(Scene scene, int[] members, string name, List<SceneReference> said)
    {
        foreach (var across in (ReadOnlySpan<bool>)[true, false])
        {
            int[] order = [.. members.OrderBy(k => At(scene, k, across))];
            var apart = true;
            for (var i = 1; i < order.Length; i++) apart &= IsApart(scene, At(scene, order[i - 1], across), At(scene, order[i], across));
            if (!apart) continue;
            if (order.Length == 2)
            {
                Say($"the {(across ? "left" : "upper")} {name}", order[0]);
                Say($"the {(across ? "right" : "lower")} {name}", order[1]);
                continue;
            }
            for (var i = 0; i < order.Length; i++)
            {
                Say($"the {Ordinals[i]} {name} from the {(across ? "left" : "top")}", order[i]);
                Say($"the {Ordinals[order.Length - 1 - i]} {name} from the {(across ? "right" : "bottom")}", order[i]);
            }
        }

        void Say(string text, int k) => said.Add(new(SceneReferenceKind.Order, text, [k]) { IsNeeded = true });
    }

    static void Outermost(Scene scene, int[] members, List<SceneReference> said)
    {
        foreach (var across in (ReadOnlySpan<bool>)[true, false])
        {
            int[] order = [.. members.OrderBy(k => At(scene, k, across))];
            if (IsApart(scene, At(scene, order[0], across), At(scene, order[1], across))) Say(across ? "leftmost" : "topmost", order[0]);
            if (IsApart(scene, At(scene, order[^2], across), At(scene, order[^1], across))) Say(across ? "rightmost" : "bottommost", order[^1]);
        }

        void Say(string word, int k) => said.Add(new(SceneReferenceKind.Order, $"the {word} object", [k]) { IsNeeded = true });
    }

    /// <summary>In a corner (two fifths of the width and height) or the middle (the middle third): one has its middle in it, and no other that could be meant reaches into it.</summary>
    static void Placed(Scene scene, int[] members, string name, List<SceneReference> said)
    {
        var (corner, third) = (scene.Size * 2 / 5, scene.Size / 3);
        var far = scene.Size - corner;
        Say("in the upper left corner", new(0, 0, corner, corner));
        Say("in the upper right corner", new(far, 0, corner, corner));
        Say("in the lower left corner", new(0, far, corner, corner));
        Say("in the lower right corner", new(far, far, corner, corner));
        Say("in the middle", new(third, third, scene.Size - (2 * third), scene.Size - (2 * third)));

        void Say(string where, PixelBox place)
        {
            int[] there = [.. members.Where(k => scene.Objects[k].Box.Overlaps(place))];
            if (there is [var one] && place.Contains((int)scene.Objects[one].Box.CenterX, (int)scene.Objects[one].Box.CenterY))
                said.Add(new(SceneReferenceKind.Place, $"the {name} {where}", there) { IsNeeded = true });
        }
    }

    /// <summary>By the side of an object that its name means alone: those that are clearly there, where all others that could be meant are not on that side at all.</summary>
    void Related(Scene scene, List<SceneReference> said)
    {
        var objects = scene.Objects;
        var relations = scene.Relations.ToHashSet();
        for (var other = 0; other < objects.Count; other++)
        {
            if (!SceneText.IsUnique(objects, other)) continue;
            int[] rest = [.. Enumerable.Range(0, objects.Count).Where(k => k != other)];
            foreach (var kind in Enum.GetValues<SceneRelationKind>())
            {
                if (!rest.Any(k => relations.Contains(new(k, kind, other)))) continue;
                if (Meant(rest) is [var one]) said.Add(new(SceneReferenceKind.Relation, $"the object {SceneText.Words(kind)} the {objects[other].Name}", [one]) { IsNeeded = true, Relation = new(one, kind, other) });
                foreach (var group in rest.GroupBy(k => objects[k].Concept))
                {
                    int[] members = [.. group];
                    if (Meant(members) is not { Length: > 0 } meant || (meant.Length > 1 && !names.IsCounted(group.Key))) continue;
                    var name = meant.Length > 1 ? names.Plural(group.Key) : names.Name(group.Key);
                    said.Add(new(SceneReferenceKind.Relation, $"the {name} {SceneText.Words(kind)} the {objects[other].Name}", meant)
                    {
                        IsNeeded = meant.Length < members.Length,
                        Relation = new(meant[0], kind, other),
                        IsHeldOut = IsHeldOut(group.Key, kind, objects[other].Concept),
                    });
                }

                // Null where one is neither clearly there nor clearly elsewhere.
                int[]? Meant(int[] candidates)
                {
                    var meant = new List<int>();
                    foreach (var k in candidates)
                    {
                        if (relations.Contains(new(k, kind, other))) meant.Add(k);
                        else if (IsOn(scene, kind, k, other)) return null;
                    }
                    return [.. meant];
                }
            }
        }
    }

    static bool IsOn(Scene scene, SceneRelationKind kind, int a, int b)
    {
        var (p, q) = (scene.Objects[a].Box, scene.Objects[b].Box);
        return kind switch
        {
            SceneRelationKind.LeftOf => p.CenterX < q.CenterX,
            SceneRelationKind.RightOf => p.CenterX > q.CenterX,
            SceneRelationKind.Above => p.CenterY < q.CenterY,
            SceneRelationKind.Below => p.CenterY > q.CenterY,
            _ => scene.Hides(a, b) > 0,
        };
    }
}
