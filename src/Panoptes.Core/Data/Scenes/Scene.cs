using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Data;

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
public sealed record SceneQuestion(SceneQuestionKind Kind, string Text, string Answer)
{
    /// <summary>The relation that it speaks of, which need not hold; null where it speaks of none.</summary>
    public SceneRelation? Relation { get; init; }
}

/// <summary>A picture composed of emoji, with everything that is known about it.</summary>
public sealed class Scene
{
    internal Scene(SceneLayout layout, Image image, ushort[] coverage, byte[] ids, IReadOnlyList<SceneObject> objects, IReadOnlyList<SceneRelation> relations, (float X, float Y)[] points, (float X, float Y)?[]?[] poses, SceneStuff background, int[]? horizon) =>
        (Layout, Image, this.coverage, Ids, Objects, Relations, this.points, this.poses, Background, this.horizon) = (layout, image, coverage, ids, objects, relations, points, poses, background, horizon);

    readonly ushort[] coverage;
    readonly (float X, float Y)[] points;                                             // the keypoints of each object
    readonly (float X, float Y)?[]?[] poses;                                          // the joints of each object that is a person
    readonly int[]? horizon;                                                          // for each column the first row of the ground; null: no ground

    /// <summary>What lies where: all that the picture follows from.</summary>
    public SceneLayout Layout { get; }

    /// <summary>The picture: size x size, RGB.</summary>
    public Image Image { get; }

    public int Size => Image.Width;

    /// <summary>From the farthest to the nearest, in the order in which they are drawn.</summary>
    public IReadOnlyList<SceneObject> Objects { get; }

    /// <summary>Between every two objects, both ways.</summary>
    public IReadOnlyList<SceneRelation> Relations { get; }

    /// <summary>What is seen behind the objects, above the ground where there is one.</summary>
    public SceneStuff Background { get; }

    /// <summary>Whether a ground is drawn.</summary>
    public bool HasGround => horizon is not null;

    /// <summary>A sentence about the picture.</summary>
    public string Caption { get; internal set; } = "";

    /// <summary>The names in <see cref="Caption"/> with the objects that they mean, in order: every object once.</summary>
    public IReadOnlyList<TextRegion> CaptionRegions { get; internal set; } = [];

    /// <summary>The relation that <see cref="Caption"/> tells; null: none.</summary>
    public SceneRelation? CaptionRelation { get; internal set; }

    public IReadOnlyList<SceneQuestion> Questions { get; internal set; } = [];

    /// <summary>Who is seen at each pixel, [size, size]: 0 the background, k + 1 object k. A pixel is an object's where it covers at least half of it.</summary>
    public byte[] Ids { get; }

    /// <summary>The part of the picture in an object's box.</summary>
    public Image Cut(int index) => Image.Crop(Objects[index].Box);

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

    /// <summary>The visible part of several objects together: [size, size], gray, 255 where any of them is seen.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such object.</exception>
    public Image Mask(IReadOnlyList<int> indices)
    {
        Span<byte> shown = stackalloc byte[SceneOptions.MostObjects + 1];
        shown.Clear();
        foreach (var index in indices)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Objects.Count, nameof(indices));
            shown[index + 1] = 255;
        }
        var mask = new Image(Size, Size, 1);
        for (var i = 0; i < Ids.Length; i++) mask.Pixels[i] = shown[Ids[i]];
        return mask;
    }

    /// <summary>How many pixels of object <paramref name="hidden"/> are hidden where <paramref name="nearer"/> is seen.</summary>
    internal int Hides(int nearer, int hidden)
    {
        var (count, bit) = (0, 1 << hidden);
        for (var i = 0; i < Ids.Length; i++)
            if (Ids[i] == nearer + 1 && (coverage[i] & bit) != 0) count++;
        return nearer == hidden ? 0 : count;
    }

    /// <summary>The class of every pixel, [size, size]: what thing is seen there, or what stuff.</summary>
    /// <param name="classes">The classes, which must have all of the scene's concepts.</param>
    /// <exception cref="PanoptesException">A concept has no class.</exception>
    public int[] Semantic(SceneClasses classes)
    {
        var map = new int[Ids.Length];
        Fill<int>(map, [classes.OfStuff(Background), .. Objects.Select(o => classes.OfConcept(o.Concept))], classes.OfStuff(SceneStuff.Ground));
        return map;
    }

    /// <summary>The same into memory that is there.</summary>
    internal void FillSemantic(SceneClasses classes, Span<long> map) => Fill(map, [classes.OfStuff(Background), .. Objects.Select(o => (long)classes.OfConcept(o.Concept))], classes.OfStuff(SceneStuff.Ground));

    /// <summary>The segments of the picture: every object, the background and the ground, so far as they are seen.</summary>
    /// <param name="classes">The classes, which must have all of the scene's concepts.</param>
    /// <exception cref="PanoptesException">A concept has no class.</exception>
    public ScenePanoptic Panoptic(SceneClasses classes)
    {
        var (ids, background, ground) = (new int[Ids.Length], Objects.Count + 1, Objects.Count + 2);
        Fill<int>(ids, [background, .. Enumerable.Range(1, Objects.Count)], ground);
        var segments = new List<PanopticSegment>(Objects.Count + 2);
        for (var k = 0; k < Objects.Count; k++)
            if (Objects[k].Pixels > 0) segments.Add(new(k + 1, classes.OfConcept(Objects[k].Concept)));
        if (ids.AsSpan().Contains(background)) segments.Add(new(background, classes.OfStuff(Background)));
        if (ids.AsSpan().Contains(ground)) segments.Add(new(ground, classes.OfStuff(SceneStuff.Ground)));
        return new(ids, segments);
    }

    void Fill<T>(Span<T> map, ReadOnlySpan<T> values, T ground)
    {
        for (var y = 0; y < Size; y++)
        {
            for (var x = 0; x < Size; x++)
            {
                var i = (y * Size) + x;
                map[i] = Ids[i] == 0 && horizon is not null && y >= horizon[x] ? ground : values[Ids[i]];
            }
        }
    }

    /// <summary>The five points of an object, in the order of <see cref="SceneKeypointKind"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such object.</exception>
    public IReadOnlyList<SceneKeypoint> Keypoints(int index)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Objects.Count, nameof(index));
        var kinds = points.Length / Objects.Count;
        return [.. Enumerable.Range(0, kinds).Select(i => points[(index * kinds) + i]).Select((p, i) => new SceneKeypoint((SceneKeypointKind)i, p.X, p.Y, IsSeen(index, p.X, p.Y)))];
    }

    /// <summary>
    /// The poses of the people whose joints are known (see <see cref="EmojiSet.Pose"/>), each as COCO has them: x, y (in pixels) and whether it is seen (2), hidden by another object or outside the picture (1), or unknown (0) of its
    /// 17 keypoints.
    /// </summary>
    public IReadOnlyList<IReadOnlyList<double>> Poses() =>
        [.. poses.Select(static (joints, index) => (joints, index)).Where(static p => p.joints is not null).Select(p => (double[])[.. p.joints!.SelectMany(j => j is { } at ? (double[])[at.X, at.Y, IsSeen(p.index, at.X, at.Y) ? 2 : 1] : [0, 0, 0])])];

    bool IsSeen(int index, float x, float y)
    {
        for (var row = Math.Max((int)(y - 2), 0); row <= Math.Min((int)(y + 2), Size - 1); row++)
        {
            for (var column = Math.Max((int)(x - 2), 0); column <= Math.Min((int)(x + 2), Size - 1); column++)
            {
                var (dx, dy) = (column + 0.5f - x, row + 0.5f - y);
                if (Ids[(row * Size) + column] == index + 1 && (dx * dx) + (dy * dy) <= 1.5f * 1.5f) return true;
            }
        }
        return false;
    }

    /// <summary>
    /// Distances, [size, size], 0 to 1, farther being larger: a ground that comes nearer from 1 at the upper edge to a quarter at the lower
    /// one, and objects that stand upright on it or float before it, each at one distance.
    /// </summary>
    public float[] Depth()
    {
        var depth = new float[Ids.Length];
        FillDepth(depth);
        return depth;
    }

    /// <summary>The same of the ground alone, as if there were no objects.</summary>
    public float[] GroundDepths()
    {
        var depth = new float[Ids.Length];
        for (var y = 0; y < Size; y++) depth.AsSpan(y * Size, Size).Fill(GroundDepth(y, Size));
        return depth;
    }

    /// <summary>The same into memory that is there.</summary>
    internal void FillDepth(Span<float> depth)
    {
        Span<float> values = stackalloc float[SceneOptions.MostObjects + 1];
        for (var k = 0; k < Objects.Count; k++) values[k + 1] = Objects[k].Depth;
        for (var y = 0; y < Size; y++)
        {
            values[0] = GroundDepth(y, Size);
            for (var i = y * Size; i < (y + 1) * Size; i++) depth[i] = values[Ids[i]];
        }
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
