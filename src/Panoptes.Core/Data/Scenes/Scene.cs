using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>A box of whole pixels: columns <see cref="X"/> to <see cref="Right"/> - 1, rows <see cref="Y"/> to <see cref="Bottom"/> - 1.</summary>
public readonly record struct PixelBox(int X, int Y, int Width, int Height)
{
    public int Right => X + Width;

    public int Bottom => Y + Height;

    public int Area => Width * Height;

    /// <summary>The middle, in pixels from the image's left edge.</summary>
    public float CenterX => X + (Width / 2f);

    /// <summary>The middle, in pixels from the image's upper edge.</summary>
    public float CenterY => Y + (Height / 2f);

    public bool Contains(int x, int y) => x >= X && x < Right && y >= Y && y < Bottom;

    public bool Overlaps(PixelBox other) => X < other.Right && other.X < Right && Y < other.Bottom && other.Y < Bottom;
}

/// <summary>How large an object is drawn, by its longest side as a share of the image's.</summary>
public enum SceneSize
{
    /// <summary>Below 0.26.</summary>
    Small,
    Medium,

    /// <summary>From 0.42 on.</summary>
    Large,
}

/// <summary>One object of a scene.</summary>
/// <param name="Image">The drawing's position in <see cref="EmojiSet.Images"/>.</param>
/// <param name="Concept">Position in <see cref="EmojiSet.Concepts"/>.</param>
/// <param name="Style">Position in <see cref="EmojiSet.Styles"/>.</param>
/// <param name="Name">The concept's English name.</param>
/// <param name="Box">Encloses the visible pixels tightly.</param>
/// <param name="Pixels">Visible pixels.</param>
/// <param name="VisibleShare">Visible pixels over those that would be visible without the nearer objects.</param>
/// <param name="Size">How large it is drawn.</param>
/// <param name="Depth">Its distance, in the unit of <see cref="Scene.Depth"/>.</param>
public sealed record SceneObject(int Image, int Concept, int Style, string Name, PixelBox Box, int Pixels, float VisibleShare, SceneSize Size, float Depth);

/// <summary>How one object lies to another.</summary>
public enum SceneRelationKind
{
    LeftOf,
    RightOf,
    Above,
    Below,

    /// <summary>Nearer, and hiding at least a twentieth of the other.</summary>
    InFrontOf,
}

/// <summary>
/// <paramref name="Subject"/> is left of (…) <paramref name="Object"/>; both are positions in <see cref="Scene.Objects"/>. Directions are those between the
/// boxes' middles: the axis on which they are further apart decides, and they must be an eighth of the image apart on it.
/// </summary>
public sealed record SceneRelation(int Subject, SceneRelationKind Kind, int Object);

/// <summary>What a question is about.</summary>
public enum SceneQuestionKind
{
    /// <summary>How many there are, "0" to "16".</summary>
    Count,

    /// <summary>Whether there is one: yes or no, each as often.</summary>
    Existence,

    /// <summary>What is left of, right of, above or below an object: a name.</summary>
    Neighbor,

    /// <summary>What is in a corner: a name.</summary>
    Corner,

    /// <summary>Whether a relation holds: yes or no, each as often.</summary>
    Relation,
}

/// <summary>A question about a scene with its one right answer.</summary>
public sealed record SceneQuestion(SceneQuestionKind Kind, string Text, string Answer);

/// <summary>A picture composed of emoji, with everything that is known about it.</summary>
public sealed class Scene
{
    internal Scene(SceneLayout layout, Image image, ushort[] coverage, byte[] ids, IReadOnlyList<SceneObject> objects, IReadOnlyList<SceneRelation> relations) =>
        (Layout, Image, this.coverage, Ids, Objects, Relations) = (layout, image, coverage, ids, objects, relations);

    readonly ushort[] coverage;

    /// <summary>What lies where: all that the picture follows from.</summary>
    public SceneLayout Layout { get; }

    /// <summary>The picture: size x size, RGB.</summary>
    public Image Image { get; }

    public int Size => Image.Width;

    /// <summary>From the farthest to the nearest, in the order in which they are drawn.</summary>
    public IReadOnlyList<SceneObject> Objects { get; }

    /// <summary>Between every two objects, both ways.</summary>
    public IReadOnlyList<SceneRelation> Relations { get; }

    /// <summary>A sentence about the picture.</summary>
    public string Caption { get; internal set; } = "";

    public IReadOnlyList<SceneQuestion> Questions { get; internal set; } = [];

    /// <summary>Who is seen at each pixel, [size, size]: 0 the background, k + 1 object k. A pixel is an object's where it covers at least half of it.</summary>
    public byte[] Ids { get; }

    /// <summary>The visible part of an object: [size, size], gray, 255 where it is seen.</summary>
    public Image Mask(int index) => Mask(index, visible: true);

    /// <summary>All of an object, also what nearer ones hide: [size, size], gray, 255 where it is.</summary>
    public Image FullMask(int index) => Mask(index, visible: false);

    Image Mask(int index, bool visible)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Objects.Count, nameof(index));
        var mask = new Image(Size, Size, 1);
        for (var i = 0; i < Ids.Length; i++) mask.Pixels[i] = (byte)((visible ? Ids[i] == index + 1 : (coverage[i] >> index & 1) != 0) ? 255 : 0);
        return mask;
    }

    /// <summary>
    /// Distances, [size, size], 0 to 1, farther being larger: a ground that comes nearer from 1 at the upper edge to a quarter at the lower
    /// one, and objects that stand upright on it or float before it, each at one distance.
    /// </summary>
    public float[] Depth()
    {
        var depth = new float[Ids.Length];
        for (var y = 0; y < Size; y++)
        {
            depth.AsSpan(y * Size, Size).Fill(GroundDepth(y, Size));
            for (var i = y * Size; i < (y + 1) * Size; i++)
                if (Ids[i] > 0) depth[i] = Objects[Ids[i] - 1].Depth;
        }
        return depth;
    }

    /// <summary>The contours of what is seen: [size, size], gray, 255 where the pixel to the right or below belongs to something else.</summary>
    public Image Edges()
    {
        var edges = new Image(Size, Size, 1);
        for (var y = 0; y < Size; y++)
        {
            for (var x = 0; x < Size; x++)
            {
                var i = (y * Size) + x;
                if ((x + 1 < Size && Ids[i] != Ids[i + 1]) || (y + 1 < Size && Ids[i] != Ids[i + Size])) edges.Pixels[i] = 255;
            }
        }
        return edges;
    }

    /// <summary>The ground's distance in the middle of a row.</summary>
    internal static float GroundDepth(float row, int size) => 1 - (0.75f * (row + 0.5f) / size);
}
