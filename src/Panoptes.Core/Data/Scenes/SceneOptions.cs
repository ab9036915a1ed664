namespace Panoptes.Data;

/// <summary>What scenes are like.</summary>
public sealed record SceneOptions
{
    /// <summary>The most objects that a scene can have.</summary>
    public const int MostObjects = 16;

    /// <summary>Side of the picture in pixels.</summary>
    public int Size { get; init; } = 64;

    /// <summary>The fewest objects of a scene.</summary>
    public int MinObjects { get; init; } = 1;

    /// <summary>The most.</summary>
    public int MaxObjects { get; init; } = 4;

    /// <summary>
    /// How probable each number of objects is, in proportion, from the fewest to the most: where there is no room they get smaller. Null: all alike, but where there is no room for all, some are left out, down to the fewest.
    /// </summary>
    public IReadOnlyList<float>? CountWeights { get; init; }

    /// <summary>The longest side of an object as a share of the image's; smaller where there is no room.</summary>
    public Interval Scale { get; init; } = new(0.18f, 0.55f);

    /// <summary>Objects are turned by up to so many degrees either way.</summary>
    public float Rotation { get; init; } = 15;

    /// <summary>The share of every object that is seen at least.</summary>
    public float MinVisible { get; init; } = 0.6f;

    /// <summary>How probably an object is of the concept of one that is there already.</summary>
    public float RepeatProbability { get; init; } = 0.2f;

    /// <summary>
    /// How probably a caption tells a relation (<c>a red apple left of a cat</c>), or places (<c>a cat on the right</c>) where no two objects have one; of the others every second tells places. Null: a third each of
    /// relations, where there are any, places and neither.
    /// </summary>
    public float? RelationProbability { get; init; }

    /// <summary>What lies behind the objects.</summary>
    public BackgroundMix Background { get; init; } = new() { White = 0.1f, Plain = 0.3f, Gradient = 0.2f, Textured = 0.2f, Photographic = 0.2f };

    /// <summary>
    /// How probably a ground is drawn: below a horizon that rises and falls, another background of the same mix. It is the stuff of its pixels (<see cref="SceneStuff.Ground"/>); depth is the same with and
    /// without it.
    /// </summary>
    public float Ground { get; init; }

    /// <summary>The drawing styles that appear, by their names in the set; null: all that the drawings at hand have.</summary>
    public IReadOnlyList<string>? Styles { get; init; }

    /// <summary>Whether all drawings of a scene are of one style, which three captions in four name at their end (<c>in the noto style</c>).</summary>
    public bool OneStyle { get; init; }

    /// <summary>Checks every value.</summary>
    /// <exception cref="PanoptesException">A value is outside its range; the message names it.</exception>
    public void Validate()
    {
        Require(Size is >= 32 and <= 1024, nameof(Size), Size, "32 to 1024 pixels");
        var most = Math.Min(MostObjects, Size * Size / 144);                          // twelve pixels a side each
        Require(MaxObjects >= 1 && MaxObjects <= most, nameof(MaxObjects), MaxObjects, $"1 to {most} objects at {Size} pixels");
        Require(MinObjects >= 1 && MinObjects <= MaxObjects, nameof(MinObjects), MinObjects, $"1 to {MaxObjects} objects");
        if (CountWeights is { } weights)
            Require(weights.Count == MaxObjects - MinObjects + 1 && weights.All(static w => w is >= 0 and <= 1e6f) && weights.Any(static w => w > 0), nameof(CountWeights), $"[{string.Join(", ", weights)}]", $"{MaxObjects - MinObjects + 1} numbers of 0 or more, for {MinObjects} to {MaxObjects} objects, not all 0");
        Require(Scale.Min >= 0.05f && Scale.Max <= 0.9f && Scale.Min <= Scale.Max, nameof(Scale), $"{Scale.Min} to {Scale.Max}", "a range within 0.05 to 0.9");
        Require(Rotation is >= 0 and <= 180, nameof(Rotation), Rotation, "0 to 180 degrees");
        Require(MinVisible is >= 0.05f and <= 1, nameof(MinVisible), MinVisible, "0.05 to 1");
        Require(RepeatProbability is >= 0 and <= 1, nameof(RepeatProbability), RepeatProbability, "a probability from 0 to 1");
        Require(RelationProbability is null or (>= 0 and <= 1), nameof(RelationProbability), RelationProbability ?? 0, "a probability from 0 to 1");
        Require(Ground is >= 0 and <= 1, nameof(Ground), Ground, "a probability from 0 to 1");
        (Augmentation.None(Size) with { Background = Background }).Validate();
    }

    static void Require(bool holds, string name, object found, string expected)
    {
        if (!holds) throw new PanoptesException(FormattableString.Invariant($"The scenes' {name} is {found}, but {expected} was expected."));
    }
}

/// <summary>One drawing in a scene.</summary>
/// <param name="Image">Position in <see cref="EmojiSet.Images"/>.</param>
/// <param name="X">The middle of the drawing in pixels from the image's left edge.</param>
/// <param name="Y">The middle in pixels from the upper edge.</param>
/// <param name="Side">The longest side of the drawing (of its pixels that are at least half opaque) in pixels, before it is turned.</param>
/// <param name="Angle">In radians, clockwise.</param>
/// <param name="Depth">Its distance; farther is larger.</param>
public readonly record struct ScenePlacement(int Image, float X, float Y, float Side, float Angle, float Depth);

/// <summary>What a picture follows from.</summary>
/// <param name="Seed">The generator's.</param>
/// <param name="Index">The scene's number.</param>
/// <param name="Objects">From the farthest to the nearest.</param>
public sealed record SceneLayout(ulong Seed, long Index, IReadOnlyList<ScenePlacement> Objects);
