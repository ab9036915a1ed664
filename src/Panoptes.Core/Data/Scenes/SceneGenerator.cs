using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>
/// Composes emoji into pictures of which everything is known: boxes, masks, depth, relations, captions, questions with answers and edits. Scene
/// i follows from the seed, i, the images and the options alone. Safe for any number of threads.
/// </summary>
/// <remarks>
/// No scene holds two concepts that could be called by one name (<c>cat</c> and <c>black cat</c>), so that every name in a text means
/// what it says.
/// </remarks>
public sealed class SceneGenerator
{
    /// <summary>The purposes for which a scene draws from random streams of their own.</summary>
    internal const long LayoutStream = 0, BackgroundStream = 1, TextStream = 2, EditStream = 3, GroundStream = 16, StyleStream = 17;

    const int MinPixels = 8, MinSide = 8, Tries = 24, Attempts = 200;

    readonly EmojiSet set;
    readonly SceneOptions options;
    readonly ulong seed;
    readonly int[] concepts;
    readonly int[][] imagesOf;
    readonly int[] styles;
    readonly SceneNames names;
    readonly ScenePainter painter;
    readonly SceneText text;
    readonly SceneReferences references;

    /// <param name="set">The emoji.</param>
    /// <param name="images">Which of its drawings may appear, such as <see cref="Things"/>.</param>
    /// <param name="options">What scenes are like.</param>
    /// <param name="seed">Of everything that is drawn at random.</param>
    /// <exception cref="PanoptesException">There is no image, or an option is out of range.</exception>
    public SceneGenerator(EmojiSet set, IReadOnlyList<int> images, SceneOptions? options = null, ulong seed = 0)
    {
        this.options = options ?? new();
        this.options.Validate();
        if (images.Count == 0) throw new PanoptesException("Scenes need at least one drawing, but there is none.");
        foreach (var image in images)
            if (image < 0 || image >= set.Images.Count) throw new PanoptesException($"The emoji set has {set.Images.Count} drawings, and no drawing {image}.");
        (this.set, this.seed) = (set, seed);
        if (this.options.Styles is { } wanted)
        {
            foreach (var name in wanted)
                if (!set.Styles.Any(s => s.Name == name)) throw new PanoptesException($"The emoji have no style {name}; expected some of {string.Join(", ", set.Styles.Select(static s => s.Name))}.");
            images = [.. images.Where(i => wanted.Contains(set.Styles[set.Images[i].Style].Name))];
            if (images.Count == 0) throw new PanoptesException($"None of the drawings is of the styles {string.Join(", ", wanted)}.");
        }
        styles = [.. images.Select(i => set.Images[i].Style).Distinct().Order()];
        var byConcept = images.GroupBy(i => set.Images[i].Concept).OrderBy(static g => g.Key).ToArray();
        concepts = [.. byConcept.Select(static g => g.Key)];
        imagesOf = new int[set.Concepts.Count][];
        foreach (var group in byConcept) imagesOf[group.Key] = [.. group.Order()];
        names = new(set.Concepts);
        painter = new(set, this.options);
        text = new(names, concepts, StylesOf(set, this.options), this.options.RelationProbability);
        references = new(set, names, new(set));
    }

    /// <summary>What scenes are like.</summary>
    public SceneOptions Options => options;

    /// <summary>The concepts that may appear, as positions in <see cref="EmojiSet.Concepts"/>, in order.</summary>
    public IReadOnlyList<int> Concepts => concepts;

    /// <summary>
    /// The drawings of a split that show things one can point at: animals, plants, food, places, vehicles, toys and other objects; no faces, people,
    /// symbols and flags, no clock faces, whose names tell the time, and none that are called by an adjective (locked, foggy). Of concepts that were named one by one (<see cref="EmojiSet.Subset(IReadOnlyList{string})"/>), all.
    /// </summary>
    public static int[] Things(EmojiSet set, EmojiSplit split = EmojiSplit.Train)
    {
        if (set.IsNamed) return set.Select(split);
        var isThing = set.Concepts.Select(static c => c.Group is "animals-nature" or "food-drink" or "travel-places" or "activities" or "objects" && IsNoun(c.Name)).ToArray();
        return [.. set.Select(split).Where(i => isThing[set.Images[i].Concept])];

        static bool IsNoun(string name) => !name.EndsWith("o’clock", StringComparison.Ordinal) && !name.EndsWith("-thirty", StringComparison.Ordinal)
            && !name.StartsWith("locked", StringComparison.Ordinal) && name is not ("unlocked" or "foggy");
    }

    /// <summary>The phrases that captions of scenes are put together from; none holds a word that no caption does.</summary>
    /// <param name="set">The emoji.</param>
    /// <param name="concepts">Those that may appear, as positions in its concepts.</param>
    /// <param name="options">What scenes are like.</param>
    public static IReadOnlyList<string> CaptionParts(EmojiSet set, IReadOnlyList<int> concepts, SceneOptions options) => [.. new SceneText(new(set.Concepts), [.. concepts], StylesOf(set, options)).CaptionParts(options.MaxObjects)];

    /// <summary>The styles that captions name; none where scenes have drawings of several.</summary>
    static IReadOnlyList<EmojiStyle> StylesOf(EmojiSet set, SceneOptions options) => options.OneStyle ? set.Styles : [];

    /// <summary>Makes scene <paramref name="index"/>.</summary>
    /// <param name="index">Its number, 0 or more.</param>
    /// <exception cref="PanoptesException">The number is negative, a drawing is damaged, or no scene of so many objects comes about (drawings that are nearly empty).</exception>
    public Scene Generate(long index)
    {
        if (index < 0) throw new PanoptesException($"Scene {index} was asked for, but scenes are numbered from 0.");
        var random = new SampleRandom(seed, LayoutStream, index);
        var count = Count(ref random);
        var least = options.CountWeights is null ? options.MinObjects : count;
        var style = options.OneStyle ? styles[new SampleRandom(seed, StyleStream, index).Next(styles.Length)] : -1;
        var shrink = 1f;
        for (var attempt = 0; attempt < Attempts; attempt++, shrink *= 0.93f)
        {
            var placed = Place(count, shrink, style, ref random);
            while (placed.Count >= least)
            {
                var scene = painter.Paint(new(seed, index, [.. placed]));
                var hidden = Hidden(scene);
                if (hidden < 0) return text.Describe(scene);
                placed.RemoveAt(hidden);
            }
        }
        throw new PanoptesException($"Scene {index} could not be made: no room was found for {least} objects in {options.Size}x{options.Size} pixels.");
    }

    int Count(ref SampleRandom random)
    {
        if (options.CountWeights is not { } weights) return options.MinObjects + random.Next(options.MaxObjects - options.MinObjects + 1);
        var (chosen, left) = (0, random.NextFloat() * weights.Sum());
        for (var i = 0; i < weights.Count; i++)
        {
            if (weights[i] == 0) continue;
            chosen = i;                                                              // the last one, too, where rounding leaves a little more than there is
            if (left < weights[i]) break;
            left -= weights[i];
        }
        return options.MinObjects + chosen;
    }

    /// <summary>Paints a layout, which may be one of one's own, and describes it.</summary>
    /// <exception cref="PanoptesException">A drawing is damaged, or there are too many objects.</exception>
    public Scene Render(SceneLayout layout)
    {
        if (layout.Objects.Count > SceneOptions.MostObjects) throw new PanoptesException($"A scene has at most {SceneOptions.MostObjects} objects, but {layout.Objects.Count} were given.");
        return text.Describe(painter.Paint(layout));
    }

    /// <summary>The classes of this generator's pixels: its concepts, or their subgroups or groups, and stuff.</summary>
    public SceneClasses Classes(EmojiLabel label = EmojiLabel.Concept) => SceneClasses.Of(set, concepts, label);

    /// <summary>
    /// All expressions of the fixed forms that mean certain objects of a scene of this generator and no others, in an order that follows from the scene: by name, size, order, relation, place and color. The
    /// name alone is among them where it is enough; expressions that say more have <see cref="SceneReference.IsNeeded"/>.
    /// </summary>
    /// <exception cref="PanoptesException">A drawing is damaged.</exception>
    public IReadOnlyList<SceneReference> References(Scene scene) => references.Of(scene);

    /// <summary>
    /// Whether two concepts in a relation are a combination that is held out, so that a model can be tested on pairs of words that it has never read together: one in five, the same for any set and seed, and the
    /// same from either side (left of, right of).
    /// </summary>
    public bool IsHeldOut(Scene scene, SceneRelation relation) => references.IsHeldOut(scene.Objects[relation.Subject].Concept, relation.Kind, scene.Objects[relation.Object].Concept);

    /// <summary>The same scene with a caption that tells no relation and no place, and without the questions that speak of a relation held out: what a model may read that is tested on those.</summary>
    internal Scene WithoutHeldOut(Scene scene)
    {
        if (scene.CaptionRelation is { } told && IsHeldOut(scene, told)) text.PlainCaption(scene);
        scene.Questions = [.. scene.Questions.Where(q => q.Relation is not { } asked || !IsHeldOut(scene, asked))];
        return scene;
    }

    /// <summary>Changes one object of a scene of this generator; null where that cannot be told in words or leaves an object hidden.</summary>
    /// <param name="scene">The scene.</param>
    /// <param name="kind">What is done.</param>
    /// <exception cref="PanoptesException">A drawing is damaged.</exception>
    public SceneEdit? Edit(Scene scene, SceneEditKind kind)
    {
        var random = new SampleRandom(seed, EditStream + (long)kind, scene.Layout.Index);
        var named = Enumerable.Range(0, scene.Objects.Count).Where(k => SceneText.IsUnique(scene.Objects, k)).ToArray();
        random.Shuffle(named.AsSpan());
        foreach (var k in named)
        {
            var (name, from) = (scene.Objects[k].Name, SceneText.PositionOf(scene, k));
            for (var tries = 0; tries < Tries; tries++)
            {
                var (layout, other) = Change(scene, k, kind, ref random);
                if (layout is null) break;
                var after = painter.Paint(layout);
                if (Hidden(after) >= 0) continue;
                if (kind != SceneEditKind.Move) return Made(after, kind == SceneEditKind.Remove ? $"remove the {name}" : $"replace the {name} by {names.Phrase(other, 1)}");
                var to = SceneText.PositionOf(after, after.Objects.Select(static o => o.Name).ToList().IndexOf(name));
                if (to != from) return Made(after, $"move the {name} {SceneText.Towards(to)}");
            }
        }
        return null;

        SceneEdit Made(Scene after, string instruction) => SceneEdit.Of(kind, scene, text.Describe(after), instruction);
    }

    /// <summary>One try to change object <paramref name="k"/>, and the concept that takes its place; no layout where there is nothing to try.</summary>
    (SceneLayout? Layout, int Concept) Change(Scene scene, int k, SceneEditKind kind, ref SampleRandom random)
    {
        var (layout, concept) = (scene.Layout, scene.Objects[k].Concept);
        var changed = layout.Objects[k];
        switch (kind)
        {
            case SceneEditKind.Remove:
                return (layout.Objects.Count < 2 ? null : layout with { Objects = [.. layout.Objects.Where((_, i) => i != k)] }, concept);
            case SceneEditKind.Replace:
                if ((concept = NewConcept([.. scene.Objects.Select(static o => o.Concept)], options.OneStyle ? scene.Objects[k].Style : -1, ref random)) < 0) return (null, concept);
                var image = imagesOf[concept].FirstOrDefault(i => set.Images[i].Style == scene.Objects[k].Style && painter.IsFit(i), -1);
                if (image < 0 && (image = Drawing(concept, options.OneStyle ? scene.Objects[k].Style : -1, ref random)) < 0) return (null, concept);          // that style does not draw it
                changed = changed with { Image = image };
                break;
            default:
                changed = changed with { X = random.Next(0, options.Size), Y = random.Next(0, options.Size) };
                break;
        }
        var all = layout.Objects.ToArray();
        all[k] = Inside(changed);
        return (layout with { Objects = [.. all.OrderByDescending(static p => p.Depth)] }, concept);
    }

    /// <summary>The most hidden of the objects that are hidden too much; -1: none is.</summary>
    int Hidden(Scene scene)
    {
        var (worst, share) = (-1, float.MaxValue);
        for (var k = 0; k < scene.Objects.Count; k++)
        {
            var o = scene.Objects[k];
            if ((o.VisibleShare < options.MinVisible || o.Pixels < MinPixels) && o.VisibleShare < share) (worst, share) = (k, o.VisibleShare);
        }
        return worst;
    }

    /// <summary>Finds places for up to <paramref name="count"/> objects; those that find none are left out.</summary>
    List<ScenePlacement> Place(int count, float shrink, int style, ref SampleRandom random)
    {
        var (placed, boxes, present) = (new List<ScenePlacement>(count), new List<(float Left, float Top, float Right, float Bottom)>(count), new List<int>(count));
        for (var i = 0; i < count; i++)
        {
            var concept = present.Count > 0 && random.Chance(options.RepeatProbability) ? Repeated(present, ref random) : -1;
            if (concept < 0) concept = NewConcept(present, style, ref random);
            if (concept < 0 && (concept = Repeated(present, ref random)) < 0) concept = present.Count > 0 ? present[0] : concepts[0];
            var image = Drawing(concept, style, ref random);
            for (var tries = 0; image >= 0 && tries < Tries; tries++)
            {
                var side = MathF.Max(random.Next(options.Scale.Min, options.Scale.Max) * options.Size * shrink, MinSide);
                var angle = random.Next(-options.Rotation, options.Rotation) * MathF.PI / 180;
                var placement = Inside(new(image, random.Next(0, options.Size), random.Next(0, options.Size), side, angle, 1));
                var (halfWidth, halfHeight) = painter.HalfExtent(placement);
                var box = (placement.X - halfWidth, placement.Y - halfHeight, placement.X + halfWidth, placement.Y + halfHeight);
                if (!boxes.TrueForAll(other => Overlap(box, other) <= 1 - options.MinVisible)) continue;
                // Half of the objects stand on the ground, the others float before it.
                placed.Add(placement with { Depth = placement.Depth * (random.Chance(0.5f) ? 1 : random.Next(0.5f, 1)) });
                boxes.Add(box);
                present.Add(concept);
                break;
            }
        }
        placed.Sort(static (a, b) => b.Depth.CompareTo(a.Depth));
        return placed;
    }

    /// <summary>The share that two boxes have in common of the smaller one.</summary>
    static float Overlap((float Left, float Top, float Right, float Bottom) a, (float Left, float Top, float Right, float Bottom) b)
    {
        var (width, height) = (MathF.Min(a.Right, b.Right) - MathF.Max(a.Left, b.Left), MathF.Min(a.Bottom, b.Bottom) - MathF.Max(a.Top, b.Top));
        if (width <= 0 || height <= 0) return 0;
        return width * height / MathF.Min((a.Right - a.Left) * (a.Bottom - a.Top), (b.Right - b.Left) * (b.Bottom - b.Top));
    }

    /// <summary>The same no larger than the image, within its edges and no farther than the ground below.</summary>
    ScenePlacement Inside(ScenePlacement placement)
    {
        var (halfWidth, halfHeight) = painter.HalfExtent(placement);
        var fit = MathF.Min(1, options.Size / (2 * MathF.Max(halfWidth, halfHeight)));
        (halfWidth, halfHeight) = (halfWidth * fit, halfHeight * fit);
        var (x, y) = (Math.Clamp(placement.X, halfWidth, MathF.Max(halfWidth, options.Size - halfWidth)), Math.Clamp(placement.Y, halfHeight, MathF.Max(halfHeight, options.Size - halfHeight)));
        return placement with { X = x, Y = y, Side = placement.Side * fit, Depth = MathF.Min(placement.Depth, Scene.GroundDepth(y + halfHeight, options.Size)) };
    }

    /// <summary>A concept that cannot be taken for any that is there, and that a style draws (any: -1); -1 where none was found.</summary>
    int NewConcept(List<int> present, int style, ref SampleRandom random)
    {
        for (var tries = 0; tries < Tries; tries++)
        {
            var concept = concepts[random.Next(concepts.Length)];
            if (present.TrueForAll(p => !names.AreConfusable(concept, p)) && (style < 0 || Array.Exists(imagesOf[concept], i => set.Images[i].Style == style))) return concept;
        }
        return -1;
    }

    /// <summary>One of the concepts that are there, of which there can be two; -1 where there is none.</summary>
    int Repeated(List<int> present, ref SampleRandom random)
    {
        if (present.Count == 0) return -1;
        var concept = present[random.Next(present.Count)];
        return names.IsCounted(concept) ? concept : -1;
    }

    /// <summary>A drawing of a concept in a style (any: -1) that shows something; -1 where there is none.</summary>
    int Drawing(int concept, int style, ref SampleRandom random)
    {
        var images = imagesOf[concept];
        var start = random.Next(images.Length);
        for (var i = 0; i < images.Length; i++)
            if (images[(start + i) % images.Length] is var image && (style < 0 || set.Images[image].Style == style) && painter.IsFit(image)) return image;
        return -1;
    }
}
