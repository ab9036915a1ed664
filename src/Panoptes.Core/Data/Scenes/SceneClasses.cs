using Panoptes.Evaluation;

namespace Panoptes.Data;

/// <summary>What is seen where no object is.</summary>
public enum SceneStuff
{
    /// <summary>One color.</summary>
    Plain,

    /// <summary>A gradient between two colors.</summary>
    Gradient,

    /// <summary>Noise of one scale between two colors.</summary>
    Texture,

    /// <summary>A part of a photograph, or what was made like one.</summary>
    Photograph,

    /// <summary>What is below the horizon, whatever it looks like (<see cref="SceneOptions.Ground"/>).</summary>
    Ground,
}

/// <summary>The classes of pixels: the things that may appear, by concept, subgroup or group, and after them the five kinds of stuff. Unchangeable.</summary>
public sealed class SceneClasses
{
    readonly int[] ofConcept;

    SceneClasses(string[] names, int things, int[] ofConcept) => (Names, Things, this.ofConcept) = (names, things, ofConcept);

    /// <summary>What the classes are called, in order; those from <see cref="Things"/> on are stuff.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>How many of them are things.</summary>
    public int Things { get; }

    public int Count => Names.Count;

    /// <summary>The classes as panoptic quality takes them, with their positions as ids.</summary>
    public IReadOnlyList<PanopticCategory> Categories => [.. Enumerable.Range(0, Count).Select(i => new PanopticCategory(i, i < Things))];

    /// <param name="set">The emoji.</param>
    /// <param name="concepts">The concepts that may appear, such as <see cref="SceneGenerator.Concepts"/>.</param>
    /// <param name="label">What things are told apart by.</param>
    /// <exception cref="PanoptesException">There is no such concept.</exception>
    public static SceneClasses Of(EmojiSet set, IReadOnlyList<int> concepts, EmojiLabel label = EmojiLabel.Concept)
    {
        foreach (var concept in concepts)
            if ((uint)concept >= (uint)set.Concepts.Count) throw new PanoptesException($"The emoji set has {set.Concepts.Count} concepts, and no concept {concept}.");
        var names = concepts.Distinct().Order().Select(c => Name(set.Concepts[c])).Distinct().ToArray();
        var index = names.Select(static (name, i) => (name, i)).ToDictionary(static p => p.name, static p => p.i, StringComparer.Ordinal);
        // Concepts that may not appear have the class of their group where it is there.
        return new([.. names, .. Enum.GetNames<SceneStuff>().Select(static n => n.ToLowerInvariant())], names.Length, [.. set.Concepts.Select(c => index.GetValueOrDefault(Name(c), -1))]);

        string Name(EmojiConcept c) => label switch { EmojiLabel.Concept => c.Name, EmojiLabel.Subgroup => c.Subgroup, _ => c.Group };
    }

    /// <summary>The class of a concept's objects.</summary>
    /// <exception cref="PanoptesException">No class has it.</exception>
    public int OfConcept(int concept) => (uint)concept < (uint)ofConcept.Length && ofConcept[concept] is >= 0 and var c ? c : throw new PanoptesException($"None of the {Things} classes of things has the concept {concept}.");

    /// <summary>The class of stuff.</summary>
    public int OfStuff(SceneStuff stuff) => Things + (int)stuff;
}

/// <summary>A picture parted into segments: every pixel is of exactly one thing or of one kind of stuff.</summary>
/// <param name="Ids">[size, size], row by row: the segment's id. Object k has the id k + 1, as in <see cref="Scene.Ids"/>; stuff has ids after the objects'.</param>
/// <param name="Segments">The segments that have a pixel; their categories are positions in <see cref="SceneClasses.Names"/>.</param>
public sealed record ScenePanoptic(int[] Ids, IReadOnlyList<PanopticSegment> Segments);

/// <summary>The points that any drawing has.</summary>
public enum SceneKeypointKind
{
    /// <summary>The highest point of the upright drawing: the middle one of the uppermost row of pixels that are at least half opaque.</summary>
    Top,

    /// <summary>The rightmost one, likewise.</summary>
    Right,

    /// <summary>The lowest one.</summary>
    Bottom,

    /// <summary>The leftmost one.</summary>
    Left,

    /// <summary>The middle of the upright drawing's box.</summary>
    Center,
}

/// <summary>A point of an object, which turns with it.</summary>
/// <param name="Kind">Which one.</param>
/// <param name="X">In pixels from the image's left edge: the middle of the first pixel is 0.5.</param>
/// <param name="Y">In pixels from the upper edge.</param>
/// <param name="Visible">Whether a pixel whose middle is within 1.5 pixels of it shows the object.</param>
public readonly record struct SceneKeypoint(SceneKeypointKind Kind, float X, float Y, bool Visible);

/// <summary>The objects that a part of a text names.</summary>
/// <param name="Start">Where the name begins, in UTF-16 units.</param>
/// <param name="Length">How long it is.</param>
/// <param name="Objects">Positions in <see cref="Scene.Objects"/>: one, or all that a plural means.</param>
public sealed record TextRegion(int Start, int Length, IReadOnlyList<int> Objects);
