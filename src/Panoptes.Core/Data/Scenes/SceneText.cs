using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>Captions of scenes, and questions that have one right answer.</summary>
/// <param name="names">The concepts' names.</param>
/// <param name="concepts">The concepts that may appear: what questions may ask for in vain.</param>
/// <param name="styles">The drawing styles by their number, where captions name the one that a scene has; otherwise none.</param>
/// <param name="relations">How probably a caption tells a relation, or places where there is none to tell; null: a third each of relations (or nothing), places and neither.</param>
sealed class SceneText(SceneNames names, int[] concepts, IReadOnlyList<EmojiStyle> styles, float? relations = null)
{
    const int Tries = 24;

    static readonly string[] Openings = ["", "", "a picture of ", "a scene with "];

    static readonly string[] Positions = ["upper left", "top", "upper right", "left", "center", "right", "lower left", "bottom", "lower right"];

    static readonly SceneRelationKind[] Directions = [SceneRelationKind.LeftOf, SceneRelationKind.RightOf, SceneRelationKind.Above, SceneRelationKind.Below];

    /// <summary>Adds the texts, from the scene's own random stream.</summary>
    internal Scene Describe(Scene scene)
    {
        var random = new SampleRandom(scene.Layout.Seed, SceneGenerator.TextStream, scene.Layout.Index);
        Caption(scene, ref random);
        NameStyle(scene);
        scene.Questions = Ask(scene, ref random);
        return scene;
    }

    /// <summary>Whether an object's name means it alone.</summary>
    internal static bool IsUnique(IReadOnlyList<SceneObject> objects, int k)
    {
        for (var i = 0; i < objects.Count; i++)
            if (i != k && objects[i].Concept == objects[k].Concept) return false;
        return true;
    }

    /// <summary>In which of the image's nine parts the middle of an object's box is.</summary>
    internal static string PositionOf(Scene scene, int k)
    {
        var box = scene.Objects[k].Box;
        return Positions[(Third(box.CenterY) * 3) + Third(box.CenterX)];

        int Third(float at) => Math.Clamp((int)(3 * at / scene.Size), 0, 2);
    }

    internal static string Towards(string position) => $"to the {position}";

    static string At(string position) => position switch
    {
        "top" or "bottom" => $"at the {position}",
        "left" or "right" => $"on the {position}",
        _ => $"in the {position}",
    };

    internal static string Words(SceneRelationKind kind) => kind switch
    {
        SceneRelationKind.LeftOf => "left of",
        SceneRelationKind.RightOf => "right of",
        SceneRelationKind.Above => "above",
        SceneRelationKind.Below => "below",
        _ => "in front of",
    };

    /// <summary>A text that remembers which part of it names which objects.</summary>
    sealed class Sentence
    {
        readonly System.Text.StringBuilder text = new();
        readonly List<TextRegion> regions = [];

        internal Sentence Add(string words)
        {
            text.Append(words);
            return this;
        }

        /// <summary>A phrase that ends with the name, which is <paramref name="length"/> long.</summary>
        internal Sentence Add(string phrase, int length, IReadOnlyList<int> objects)
        {
            text.Append(phrase);
            regions.Add(new(text.Length - length, length, objects));
            return this;
        }

        internal void CaptionOf(Scene scene, SceneRelation? relation) => (scene.Caption, scene.CaptionRegions, scene.CaptionRelation) = (text.ToString(), regions, relation);
    }

    void Caption(Scene scene, ref SampleRandom random)
    {
        var sentence = new Sentence();
        if (scene.Objects.Count == 0)
        {
            sentence.Add("nothing").CaptionOf(scene, null);
            return;
        }
        var groups = new List<(int Concept, List<int> Objects)>();
        for (var k = 0; k < scene.Objects.Count; k++)
        {
            var at = groups.FindIndex(g => g.Concept == scene.Objects[k].Concept);
            if (at < 0) groups.Add((scene.Objects[k].Concept, [k]));
            else groups[at].Objects.Add(k);
        }
        random.Shuffle(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(groups));
        sentence.Add(Openings[random.Next(Openings.Length)]);
        var form = relations is not { } share ? random.Next(3) : random.Chance(share) ? 0 : 1 + random.Next(2);
        if (form == 0 && Pick(scene, ref random) is { } relation)
        {
            // "a red apple left of a dog, and two cats"
            var (subject, other) = (scene.Objects[relation.Subject].Concept, scene.Objects[relation.Object].Concept);
            Name(subject, [relation.Subject]);
            sentence.Add($" {Words(relation.Kind)} ");
            Name(other, [relation.Object]);
            groups.RemoveAll(g => g.Concept == subject || g.Concept == other);
            for (var g = 0; g < groups.Count; g++)
            {
                sentence.Add(g == 0 ? ", and " : Between(g));
                Name(groups[g].Concept, groups[g].Objects);
            }
            sentence.CaptionOf(scene, relation);
            return;
        }
        if (form == 0 && relations is not null) form = 1;
        for (var g = 0; g < groups.Count; g++)
        {
            var (concept, objects) = groups[g];
            var size = scene.Objects[objects[0]].Size;
            var adjective = objects.Count == 1 && size != SceneSize.Medium && random.Chance(0.25f) ? size == SceneSize.Small ? "small" : "large" : null;
            if (g > 0) sentence.Add(Between(g));
            Name(concept, objects, adjective);
            if (form == 1 && objects.Count == 1) sentence.Add(" ").Add(At(PositionOf(scene, objects[0])));
        }
        sentence.CaptionOf(scene, null);

        string Between(int g) => g == groups.Count - 1 ? " and " : ", ";

        void Name(int concept, IReadOnlyList<int> objects, string? adjective = null) =>
            sentence.Add(names.Phrase(concept, objects.Count, adjective), (objects.Count > 1 ? names.Plural(concept) : names.Name(concept)).Length, objects);
    }

    /// <summary>Says in three captions of four which style the drawings have, where all have one.</summary>
    void NameStyle(Scene scene)
    {
        if (styles.Count > 0 && scene.Objects.Count > 0 && new SampleRandom(scene.Layout.Seed, SceneGenerator.StyleStream, scene.Layout.Index + (1L << 40)).Chance(0.75f)) scene.Caption += InStyle(styles[scene.Objects[0].Style]);
    }

    static string InStyle(EmojiStyle style) => $" in the {style.Name.Replace('-', ' ')} style";

    /// <summary>Everything that <see cref="Caption"/> may put together.</summary>
    /// <param name="most">Objects of a scene.</param>
    internal IEnumerable<string> CaptionParts(int most) =>
    [
        "nothing", ", and ", .. Openings[^2..], .. Positions.Select(At), .. Enum.GetValues<SceneRelationKind>().Select(Words),
        .. styles.Select(InStyle), .. concepts.SelectMany(c => (string[])[names.Phrase(c, 1), names.Phrase(c, 1, "small"), names.Phrase(c, 1, "large"), .. Enumerable.Range(2, most - 1).Select(count => names.Phrase(c, count))]),
    ];

    /// <summary>A caption that tells no relation and no place: what is there, from the farthest on.</summary>
    internal void PlainCaption(Scene scene)
    {
        var sentence = new Sentence();
        var groups = Enumerable.Range(0, scene.Objects.Count).GroupBy(k => scene.Objects[k].Concept).Select(static g => (Concept: g.Key, Objects: g.ToArray())).ToArray();
        for (var g = 0; g < groups.Length; g++)
        {
            var (concept, objects) = groups[g];
            if (g > 0) sentence.Add(g == groups.Length - 1 ? " and " : ", ");
            sentence.Add(names.Phrase(concept, objects.Length), (objects.Length > 1 ? names.Plural(concept) : names.Name(concept)).Length, objects);
        }
        sentence.CaptionOf(scene, null);
        NameStyle(scene);
    }

    /// <summary>A relation between two objects that their names mean alone.</summary>
    static SceneRelation? Pick(Scene scene, ref SampleRandom random, SceneRelationKind? kind = null)
    {
        var start = scene.Relations.Count > 0 ? random.Next(scene.Relations.Count) : 0;
        for (var i = 0; i < scene.Relations.Count; i++)
        {
            var relation = scene.Relations[(start + i) % scene.Relations.Count];
            if ((kind is null ? relation.Kind != SceneRelationKind.InFrontOf || random.Chance(0.5f) : relation.Kind == kind)
                && IsUnique(scene.Objects, relation.Subject) && IsUnique(scene.Objects, relation.Object)) return relation;
        }
        return null;
    }

    List<SceneQuestion> Ask(Scene scene, ref SampleRandom random)
    {
        var questions = new List<SceneQuestion>(6);
        if (scene.Objects.Count == 0) return questions;
        AskForCount(scene, questions, ref random);
        AskForExistence(scene, questions, ref random);
        AskForNeighbor(scene, questions, ref random);
        AskForCorner(scene, questions, ref random);
        AskForDirection(scene, questions, ref random);
        AskForFront(scene, questions, ref random);
        return questions;
    }

    void AskForCount(Scene scene, List<SceneQuestion> questions, ref SampleRandom random)
    {
        var concept = random.Chance(0.2f) ? Absent(scene, ref random) : scene.Objects[random.Next(scene.Objects.Count)].Concept;
        if (concept < 0 || !names.IsCounted(concept)) return;
        var count = 0;
        foreach (var o in scene.Objects)
            if (o.Concept == concept) count++;
        questions.Add(new(SceneQuestionKind.Count, $"How many {names.Plural(concept)} are there?", count.ToString(System.Globalization.CultureInfo.InvariantCulture)));
    }

    void AskForExistence(Scene scene, List<SceneQuestion> questions, ref SampleRandom random)
    {
        var there = random.Chance(0.5f);
        var concept = there ? scene.Objects[random.Next(scene.Objects.Count)].Concept : Absent(scene, ref random);
        if (concept >= 0) questions.Add(new(SceneQuestionKind.Existence, $"{(names.IsSeveral(concept) ? "Are" : "Is")} there {names.Phrase(concept, 1)}?", there ? "yes" : "no"));
    }

    /// <summary>Asked where exactly one object is on that side at all, and clearly so.</summary>
    static void AskForNeighbor(Scene scene, List<SceneQuestion> questions, ref SampleRandom random)
    {
        var (objects, start) = (scene.Objects, random.Next(4 * scene.Objects.Count));
        for (var i = 0; i < 4 * objects.Count; i++)
        {
            var (k, kind) = ((start + i) % (4 * objects.Count) / 4, Directions[(start + i) % 4]);
            if (!IsUnique(objects, k)) continue;
            var (found, neighbor) = (0, -1);
            for (var j = 0; j < objects.Count; j++)
            {
                if (j == k || !IsOn(kind, objects[j].Box, objects[k].Box)) continue;
                (found, neighbor) = (found + 1, j);
            }
            if (found != 1 || !scene.Relations.Contains(new(neighbor, kind, k))) continue;
            questions.Add(new(SceneQuestionKind.Neighbor, $"What is {Words(kind)} the {objects[k].Name}?", objects[neighbor].Name) { Relation = new(neighbor, kind, k) });
            return;
        }

        static bool IsOn(SceneRelationKind kind, PixelBox a, PixelBox b) => kind switch
        {
            SceneRelationKind.LeftOf => a.CenterX < b.CenterX,
            SceneRelationKind.RightOf => a.CenterX > b.CenterX,
            SceneRelationKind.Above => a.CenterY < b.CenterY,
            _ => a.CenterY > b.CenterY,
        };
    }

    /// <summary>Asked where one object has its middle in the corner's two fifths of the width and height, and no other one reaches into them.</summary>
    static void AskForCorner(Scene scene, List<SceneQuestion> questions, ref SampleRandom random)
    {
        var (objects, start, side) = (scene.Objects, random.Next(4), scene.Size * 2 / 5);
        for (var i = 0; i < 4; i++)
        {
            var (right, lower) = ((start + i) % 2, (start + i) / 2 % 2);
            var corner = new PixelBox(right * (scene.Size - side), lower * (scene.Size - side), side, side);
            var (found, there) = (0, -1);
            for (var k = 0; k < objects.Count; k++)
                if (objects[k].Box.Overlaps(corner)) (found, there) = (found + 1, k);
            if (found != 1 || !corner.Contains((int)objects[there].Box.CenterX, (int)objects[there].Box.CenterY)) continue;
            questions.Add(new(SceneQuestionKind.Corner, $"What is in the {(lower == 1 ? "lower" : "upper")} {(right == 1 ? "right" : "left")} corner?", objects[there].Name));
            return;
        }
    }

    void AskForDirection(Scene scene, List<SceneQuestion> questions, ref SampleRandom random)
    {
        if (Pick(scene, ref random, Directions[random.Next(4)]) is not { } relation) return;
        var holds = random.Chance(0.5f);
        AskWhether(scene, holds ? relation.Kind : Opposite(relation.Kind), relation.Subject, relation.Object, holds, questions);

        static SceneRelationKind Opposite(SceneRelationKind kind) => kind switch
        {
            SceneRelationKind.LeftOf => SceneRelationKind.RightOf,
            SceneRelationKind.RightOf => SceneRelationKind.LeftOf,
            SceneRelationKind.Above => SceneRelationKind.Below,
            _ => SceneRelationKind.Above,
        };
    }

    void AskForFront(Scene scene, List<SceneQuestion> questions, ref SampleRandom random)
    {
        if (Pick(scene, ref random, SceneRelationKind.InFrontOf) is not { } relation) return;
        var holds = random.Chance(0.5f);
        var (subject, other) = holds ? (relation.Subject, relation.Object) : (relation.Object, relation.Subject);
        AskWhether(scene, SceneRelationKind.InFrontOf, subject, other, holds, questions);
    }

    void AskWhether(Scene scene, SceneRelationKind kind, int subject, int other, bool holds, List<SceneQuestion> questions)
    {
        var verb = names.IsSeveral(scene.Objects[subject].Concept) ? "Are" : "Is";
        questions.Add(new(SceneQuestionKind.Relation, $"{verb} the {scene.Objects[subject].Name} {Words(kind)} the {scene.Objects[other].Name}?", holds ? "yes" : "no") { Relation = new(subject, kind, other) });
    }

    /// <summary>A concept that is not there, nor anything that could be taken for it; -1 where none was found.</summary>
    int Absent(Scene scene, ref SampleRandom random)
    {
        for (var tries = 0; tries < Tries; tries++)
        {
            var concept = concepts[random.Next(concepts.Length)];
            var absent = true;
            foreach (var o in scene.Objects) absent &= !names.AreConfusable(concept, o.Concept);
            if (absent) return concept;
        }
        return -1;
    }
}
