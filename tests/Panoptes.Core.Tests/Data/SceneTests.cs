using System.Text.RegularExpressions;
using CsCheck;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

/// <summary>Scenes: whatever comes with a picture is checked against its pixels by other means than those that made it.</summary>
public sealed partial class SceneTests
{
    static readonly EmojiSet Set = EmojiSetTests.Set;

    static readonly SceneNames Names = new(Set.Concepts);

    static readonly HashSet<string> Plurals = [.. Set.Concepts.Select(static c => Names.Plural(c.Index))], Phrases = [.. Set.Concepts.Select(static c => Names.Phrase(c.Index, 1))];

    static readonly int[] Things = SceneGenerator.Things(Set);

    static readonly Gen<Scene> Scenes = Gen.Select(Gen.Int[32, 256], Gen.Int[1, 3], Gen.Int[0, 4], Gen.Float[0, 180], Gen.Float[0.3f, 1], Gen.Select(Gen.ULong, Gen.Int[0, 1_000_000]))
        .Select((size, least, more, rotation, visible, scene) => Generator(new()
        {
            Size = size,
            MinObjects = least,
            MaxObjects = least + more,
            Rotation = rotation,
            MinVisible = visible,
        }, scene.Item1).Generate(scene.Item2));

    static SceneGenerator Generator(SceneOptions? options = null, ulong seed = 1) => new(Set, Things, options, seed);

    static IEnumerable<Scene> Many(int count = 300) => Enumerable.Range(0, count).Select(static i => Shared.Generate(i));

    static readonly SceneGenerator Shared = Generator(new() { MinObjects = 2, MaxObjects = 5, RepeatProbability = 0.3f });

    [Fact]
    public void Scenes_of_one_style_have_drawings_of_it_alone_and_three_captions_in_four_say_so()
    {
        string[] wanted = ["noto", "twemoji"];
        var generator = Generator(new() { MinObjects = 1, MaxObjects = 3, OneStyle = true, Styles = wanted, RepeatProbability = 0.3f });
        var parts = SceneGenerator.CaptionParts(Set, generator.Concepts, generator.Options);
        var (styles, said) = (new HashSet<string>(), 0);
        for (var i = 0; i < 300; i++)
        {
            var scene = generator.Generate(i);
            var style = Assert.Single(scene.Objects.Select(static o => Set.Styles[o.Style].Name).Distinct());
            styles.Add(style);
            var phrase = $" in the {style} style";
            if (scene.Caption.EndsWith(phrase, StringComparison.Ordinal)) said++;
            else Assert.DoesNotContain("style", scene.Caption, StringComparison.Ordinal);
            Assert.Contains(phrase, parts);
            foreach (var region in scene.CaptionRegions) Assert.All(region.Objects, k => Assert.InRange(k, 0, scene.Objects.Count - 1));
            if (generator.Edit(scene, SceneEditKind.Replace) is { } edit) Assert.All(edit.After.Objects, o => Assert.Equal(style, Set.Styles[o.Style].Name));
        }
        Assert.Equal(wanted, styles.Order());
        Assert.InRange(said, 195, 255);
    }

    [Theory]
    [InlineData(0f, 0)]
    [InlineData(0.8f, 240)]
    [InlineData(1f, 300)]
    public void Captions_tell_relations_as_often_as_wanted_and_the_pictures_stay(float share, int expected)
    {
        var options = new SceneOptions { MinObjects = 2, MaxObjects = 2, RepeatProbability = 0 };
        var (plain, telling) = (Generator(options), Generator(options with { RelationProbability = share }));
        var (told, possible) = (0, 0);
        for (var i = 0; i < 300; i++)
        {
            var scene = telling.Generate(i);
            Assert.Equal(plain.Generate(i).Layout.Objects, scene.Layout.Objects);
            if (scene.CaptionRelation is { } relation)
            {
                Assert.Contains(relation, scene.Relations);
                told++;
            }
            if (scene.Relations.Count > 0) possible++;
        }
        Assert.InRange(told, expected - (300 - possible) - 25, expected == 0 ? 0 : expected + 25);
        // One alone has no relation to tell, but a place.
        var single = Generator(new() { MinObjects = 1, MaxObjects = 1, RelationProbability = share });
        var places = Enumerable.Range(0, 300).Count(i => single.Generate(i).Caption is var c && (c.Contains(" on the ", StringComparison.Ordinal) || c.Contains(" in the ", StringComparison.Ordinal) || c.Contains(" at the ", StringComparison.Ordinal)));
        Assert.InRange(places, (300 + expected) / 2 - 25, (300 + expected) / 2 + 25);
        Assert.Contains("RelationProbability", Assert.Throws<PanoptesException>(static () => Generator(new() { RelationProbability = 1.5f })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Scenes_have_as_many_objects_as_the_weights_say()
    {
        var generator = Generator(new() { MinObjects = 1, MaxObjects = 3, MinVisible = 0.9f, Scale = new(0.4f, 0.6f), CountWeights = [1, 0, 3] });
        var counts = Enumerable.Range(0, 400).CountBy(i => generator.Generate(i).Objects.Count).ToDictionary();
        Assert.Equal(400, counts[1] + counts[3]);
        Assert.InRange(counts[3], 265, 335);
        foreach (var wrong in (float[][])[[1, 1], [0, 0, 0], [1, -1, 1], [float.NaN, 1, 1]])
            Assert.Contains("CountWeights", Assert.Throws<PanoptesException>(() => Generator(new() { MinObjects = 1, MaxObjects = 3, CountWeights = wrong })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Styles_leave_out_drawings_and_an_unknown_one_is_refused()
    {
        var generator = Generator(new() { Styles = ["fxemoji", "noto"] });
        for (var i = 0; i < 100; i++) Assert.All(generator.Generate(i).Objects, static o => Assert.Contains(Set.Styles[o.Style].Name, (string[])["fxemoji", "noto"]));
        Assert.Contains("crayon", Assert.Throws<PanoptesException>(static () => Generator(new() { Styles = ["crayon"] })).Message, StringComparison.Ordinal);
        Assert.Contains("openmoji", Assert.Throws<PanoptesException>(static () => Generator(new() { Styles = ["openmoji"] })).Message, StringComparison.Ordinal);     // held out of what is trained on
    }

    [Fact]
    public void Boxes_enclose_masks_tightly_and_masks_share_no_pixel()
    {
        Scenes.Sample(static scene =>
        {
            Assert.InRange(scene.Objects.Count, 1, 7);
            var owner = new int[scene.Size * scene.Size];
            for (var k = 0; k < scene.Objects.Count; k++)
            {
                var (mask, full, box) = (scene.Mask(k).Pixels, scene.FullMask(k).Pixels, scene.Objects[k].Box);
                var (columns, rows, seen) = (new HashSet<int>(), new HashSet<int>(), 0);
                for (var i = 0; i < mask.Length; i++)
                {
                    if (mask[i] == 0) continue;
                    if (owner[i] != 0 || full[i] != 255 || scene.Ids[i] != k + 1) Assert.Fail($"Pixel {i} of object {k} is also that of {owner[i]}, or not in its full mask.");
                    (owner[i], seen) = (k + 1, seen + 1);
                    columns.Add(i % scene.Size);
                    rows.Add(i / scene.Size);
                }
                Assert.Equal(new(columns.Min(), rows.Min(), columns.Max() - columns.Min() + 1, rows.Max() - rows.Min() + 1), box);
                Assert.Equal(seen, scene.Objects[k].Pixels);
                Assert.Equal((double)seen / full.Count(static v => v > 0), scene.Objects[k].VisibleShare, 1e-5);
            }
            Assert.Equal(scene.Ids.Select(static id => (int)id), owner);
        }, iter: 40, threads: 1);
    }

    [Fact]
    public void What_is_nearer_covers_what_is_farther_and_nothing_lies_behind_the_ground()
    {
        Scenes.Sample(static scene =>
        {
            var depth = scene.Depth();
            Assert.Equal(scene.Objects.Select(static o => o.Depth).OrderDescending(), scene.Objects.Select(static o => o.Depth));
            var full = Enumerable.Range(0, scene.Objects.Count).Select(k => scene.FullMask(k).Pixels).ToArray();
            for (var i = 0; i < depth.Length; i++)
            {
                var ground = 1 - (0.75f * ((i / scene.Size) + 0.5f) / scene.Size);
                var nearest = Enumerable.Range(0, full.Length).Where(k => full[k][i] > 0).Select(k => scene.Objects[k].Depth).Append(ground).Min();
                Assert.InRange(depth[i], nearest - 1e-6f, nearest + (0.76f / scene.Size));                     // an object's lowest pixels may stand half a pixel in the ground
                Assert.InRange(depth[i], 0, 1);
            }
        }, iter: 20, threads: 1);
    }

    [Fact]
    public void Every_object_is_seen_as_far_as_was_asked_for_and_there_are_as_many_as_were_asked_for()
    {
        Gen.Select(Gen.Int[32, 128], Gen.Int[1, 6], Gen.Float[0.05f, 1], Gen.ULong).Sample(static (size, count, visible, seed) =>
        {
            var scene = Generator(new() { Size = size, MinObjects = count, MaxObjects = count, MinVisible = visible, Scale = new(0.3f, 0.8f) }, seed).Generate(3);
            Assert.Equal(count, scene.Objects.Count);
            Assert.All(scene.Objects, o => Assert.InRange(o.VisibleShare, visible, 1));
        }, iter: 40, threads: 1);
    }

    [Fact]
    public void The_same_seed_gives_the_same_scene_on_any_thread_and_another_one_another()
    {
        var scenes = Many(40).ToArray();
        var again = new Scene[40];
        var generator = Generator(Shared.Options);
        Parallel.For(0, 40, i => again[39 - i] = generator.Generate(39 - i));
        for (var i = 0; i < 40; i++)
        {
            Assert.Equal(scenes[i].Image.Pixels, again[i].Image.Pixels);
            Assert.Equal(scenes[i].Ids, again[i].Ids);
            Assert.Equal(scenes[i].Objects, again[i].Objects);
            Assert.Equal(scenes[i].Questions, again[i].Questions);
            Assert.Equal(scenes[i].Caption, again[i].Caption);
            Assert.Equal(scenes[i].Image.Pixels, generator.Render(scenes[i].Layout).Image.Pixels);
        }
        Assert.Equal(40, scenes.Select(static s => Convert.ToHexString(s.Image.Pixels)).Distinct().Count());
        Assert.NotEqual(scenes[0].Image.Pixels, Generator(Shared.Options, 2).Generate(0).Image.Pixels);
    }

    [Fact]
    public void A_picture_shows_its_objects_where_their_masks_are_and_the_background_elsewhere()
    {
        foreach (var scene in Many(20))
        {
            var empty = Shared.Render(scene.Layout with { Objects = [] });
            var covered = new bool[scene.Ids.Length];
            foreach (var placement in scene.Layout.Objects)
            {
                // Alone, without the others: its full mask, and what it changes of the background.
                var alone = Shared.Render(scene.Layout with { Objects = [placement] });
                var k = scene.Layout.Objects.ToList().IndexOf(placement);
                Assert.Equal(scene.FullMask(k).Pixels, alone.Mask(0).Pixels);
                for (var i = 0; i < covered.Length; i++) covered[i] |= !alone.Image.Pixels.AsSpan(3 * i, 3).SequenceEqual(empty.Image.Pixels.AsSpan(3 * i, 3));
            }
            for (var i = 0; i < covered.Length; i++)
                if (!covered[i]) Assert.True(scene.Image.Pixels.AsSpan(3 * i, 3).SequenceEqual(empty.Image.Pixels.AsSpan(3 * i, 3)));
        }
    }

    [Fact]
    public void Relations_hold_and_come_in_both_directions()
    {
        var kinds = new HashSet<SceneRelationKind>();
        foreach (var scene in Many(150))
        {
            foreach (var (subject, kind, other) in scene.Relations)
            {
                kinds.Add(kind);
                if (kind == SceneRelationKind.InFrontOf)
                {
                    Assert.True(scene.Objects[subject].Depth <= scene.Objects[other].Depth);
                    var (mine, theirs) = (scene.Mask(subject).Pixels, scene.FullMask(other).Pixels);
                    Assert.True(Enumerable.Range(0, mine.Length).Count(i => mine[i] > 0 && theirs[i] > 0) * 20 >= theirs.Count(static v => v > 0));
                    continue;
                }
                Assert.True(IsClearly(kind, Middle(scene, subject), Middle(scene, other), scene.Size), $"{kind} in {scene.Caption}");
                Assert.Contains(new(other, Opposite(kind), subject), scene.Relations);
            }
        }
        Assert.Equal(5, kinds.Count);
    }

    [Fact]
    public void Every_answer_is_true_of_the_masks()
    {
        var asked = new Dictionary<SceneQuestionKind, int>();
        foreach (var scene in Many(700))
        {
            foreach (var question in scene.Questions)
            {
                asked[question.Kind] = asked.GetValueOrDefault(question.Kind) + 1;
                Assert.True(IsTrue(scene, question), $"{question.Text} {question.Answer} ({scene.Caption})");
            }
        }
        Assert.Equal(5, asked.Count);
        Assert.All(asked.Values, static n => Assert.True(n > 50));
    }

    [Fact]
    public void Yes_and_no_come_as_often_for_existence_and_for_relations()
    {
        var questions = Many(1000).SelectMany(static s => s.Questions).ToArray();
        foreach (var kind in (SceneQuestionKind[])[SceneQuestionKind.Existence, SceneQuestionKind.Relation])
        {
            var answers = questions.Where(q => q.Kind == kind).Select(static q => q.Answer).ToArray();
            Assert.InRange(answers.Count(static a => a == "yes") / (double)answers.Length, 0.45, 0.55);
            Assert.All(answers, static a => Assert.True(a is "yes" or "no"));
        }
    }

    [Fact]
    public void Captions_name_every_object_by_its_name_and_say_where_it_is()
    {
        var (relations, positions, counts) = (0, 0, 0);
        foreach (var scene in Many(500))
        {
            foreach (var group in scene.Objects.GroupBy(static o => o.Name))
            {
                if (group.Count() == 1) Assert.Contains(group.Key, scene.Caption, StringComparison.Ordinal);
                else
                {
                    counts++;
                    Assert.Contains($"{((string[])["two", "three", "four", "five"])[group.Count() - 2]} ", scene.Caption, StringComparison.Ordinal);
                }
            }
            foreach (var a in scene.Objects)
            {
                foreach (var b in scene.Objects)
                {
                    foreach (var (words, kind) in Directions)
                    {
                        if (a == b || !Regex.IsMatch(scene.Caption, $"\\b{Regex.Escape(a.Name)} {words} (a |an )?{Regex.Escape(b.Name)}(,|$)")) continue;
                        relations++;
                        Assert.True(IsClearly(kind, Middle(scene, Index(scene, a.Name)), Middle(scene, Index(scene, b.Name)), scene.Size), scene.Caption);
                    }
                }
                foreach (Match match in Regex.Matches(scene.Caption, $"\\b{Regex.Escape(a.Name)} (?:in the|at the|on the) (upper left|top|upper right|left|center|right|lower left|bottom|lower right)(,| and|$)"))
                {
                    positions++;
                    var (x, y) = Middle(scene, Index(scene, a.Name));
                    var (column, row) = ((int)(3 * x / scene.Size), (int)(3 * y / scene.Size));
                    string[] names = ["upper left", "top", "upper right", "left", "center", "right", "lower left", "bottom", "lower right"];
                    Assert.Equal(names[(3 * row) + column], match.Groups[1].Value);
                }
            }
        }
        Assert.True(relations > 40 && positions > 200 && counts > 100, $"{relations} relations, {positions} positions, {counts} counts");
    }

    [Theory]
    [InlineData("red apple", 1, "a red apple")]
    [InlineData("red apple", 2, "two red apples")]
    [InlineData("ant", 1, "an ant")]
    [InlineData("unicorn", 1, "a unicorn")]
    [InlineData("ewe", 1, "a ewe")]
    [InlineData("hourglass done", 3, "three hourglasses done")]
    [InlineData("hourglass done", 1, "an hourglass done")]
    [InlineData("x-ray", 1, "an x-ray")]
    [InlineData("glass of milk", 2, "two glasses of milk")]
    [InlineData("mouse", 2, "two mice")]
    [InlineData("cherries", 1, "cherries")]
    [InlineData("bacon", 1, "bacon")]
    [InlineData("skis", 1, "skis")]
    [InlineData("sunrise over mountains", 1, "a sunrise over mountains")]
    [InlineData("octopus", 1, "an octopus")]
    [InlineData("strawberry", 4, "four strawberries")]
    [InlineData("tropical fish", 2, "two tropical fish")]
    [InlineData("snowman without snow", 2, "two snowmen without snow")]
    [InlineData("leaf fluttering in wind", 2, "two leaves fluttering in wind")]
    public void Names_are_put_into_sentences_by_the_rules_of_English(string name, int count, string expected) =>
        Assert.Equal(expected, Names.Phrase(Concept(name), count));

    [Fact]
    public void No_scene_holds_two_things_that_could_be_called_by_one_name()
    {
        Assert.True(Names.AreConfusable(Concept("cat"), Concept("black cat")));
        Assert.True(Names.AreConfusable(Concept("dog"), Concept("poodle")));
        Assert.False(Names.AreConfusable(Concept("dog"), Concept("banana")));
        foreach (var scene in Many())
        {
            var concepts = scene.Objects.Select(static o => o.Concept).Distinct().ToArray();
            Assert.All(concepts, a => Assert.All(concepts, b => Assert.True(a == b || !Names.AreConfusable(a, b), scene.Caption)));
        }
    }

    [Fact]
    public void An_edit_changes_what_it_says_and_nothing_else()
    {
        var made = new Dictionary<SceneEditKind, int>();
        foreach (var scene in Many(100))
        {
            foreach (var kind in Enum.GetValues<SceneEditKind>())
            {
                if (Shared.Edit(scene, kind) is not { } edit) continue;
                made[kind] = made.GetValueOrDefault(kind) + 1;
                Assert.Same(scene, edit.Before);
                Assert.Equal(edit.Instruction, Shared.Edit(scene, kind)!.Instruction);
                var (before, after) = (edit.Before.Objects.Select(static o => o.Name).Order().ToList(), edit.After.Objects.Select(static o => o.Name).Order().ToList());
                Assert.All(edit.After.Objects, static o => Assert.True(o.VisibleShare >= 0.6f));
                var differ = false;
                for (var i = 0; i < edit.Mask.Pixels.Length; i++)
                {
                    var same = edit.Before.Image.Pixels.AsSpan(3 * i, 3).SequenceEqual(edit.After.Image.Pixels.AsSpan(3 * i, 3));
                    differ |= !same;
                    if (edit.Mask.Pixels[i] == 0) Assert.True(same);
                }
                Assert.True(differ);
                var subject = before.Single(n => Regex.IsMatch(edit.Instruction, $"^(remove|replace|move) the {Regex.Escape(n)}( by | to |$)"));
                switch (kind)
                {
                    case SceneEditKind.Remove:
                        before.Remove(subject);
                        Assert.Equal(before, after);
                        break;
                    case SceneEditKind.Replace:
                        before.Remove(subject);
                        var added = after.Except(before).Single();
                        Assert.EndsWith(added, edit.Instruction, StringComparison.Ordinal);
                        Assert.NotEqual(subject, added);
                        Assert.Equal(before.Append(added).Order(), after);
                        break;
                    default:
                        Assert.Equal(before, after);
                        var (x, y) = Middle(edit.After, Index(edit.After, subject));
                        string[] places = ["upper left", "top", "upper right", "left", "center", "right", "lower left", "bottom", "lower right"];
                        Assert.EndsWith($" to the {places[(3 * (int)(3 * y / scene.Size)) + (int)(3 * x / scene.Size)]}", edit.Instruction, StringComparison.Ordinal);
                        break;
                }
            }
        }
        Assert.Equal(3, made.Count);
        Assert.All(made.Values, static n => Assert.True(n > 50, $"{n} of 100"));
    }

    [Theory]
    [InlineData(EmojiSplit.Train, false, false)]
    [InlineData(EmojiSplit.HeldOutStyle, false, true)]
    [InlineData(EmojiSplit.HeldOutConcepts, true, false)]
    public void Splits_hold_only_their_own_drawings_of_things(EmojiSplit split, bool concepts, bool style)
    {
        var generator = new SceneGenerator(Set, SceneGenerator.Things(Set, split));
        for (var i = 0; i < 50; i++)
        {
            Assert.All(generator.Generate(i).Objects, o =>
            {
                Assert.Equal((concepts, style), (Set.Concepts[o.Concept].HeldOut, Set.Styles[o.Style].HeldOut));
                Assert.Equal((o.Concept, o.Style), (Set.Images[o.Image].Concept, Set.Images[o.Image].Style));
                Assert.True(Set.Concepts[o.Concept].Group is not ("flags" or "symbols" or "people-body"));
            });
        }
    }

    [Fact]
    public void A_single_drawing_is_enough_for_scenes_of_several_objects()
    {
        var grapes = Set.Find(Concept("grapes"), 0)!.Value.Index;
        var scene = new SceneGenerator(Set, [grapes], new() { MinObjects = 3, MaxObjects = 3 }).Generate(0);
        Assert.Equal([grapes, grapes, grapes], scene.Objects.Select(static o => o.Image));
    }

    [Fact]
    public void What_cannot_be_is_refused_in_one_sentence()
    {
        Refuses("The scenes' Size is 16", static () => Generator(new() { Size = 16 }));
        Refuses("The scenes' MaxObjects is 30", static () => Generator(new() { MaxObjects = 30 }));
        Refuses("The scenes' MaxObjects is 9, but 1 to 7 objects at 32 pixels", static () => Generator(new() { Size = 32, MaxObjects = 9 }));
        Refuses("MinObjects", static () => Generator(new() { MinObjects = 5, MaxObjects = 3 }));
        Refuses("MinVisible", static () => Generator(new() { MinVisible = float.NaN }));
        Refuses("Background", static () => Generator(new() { Background = new() { White = 0 } }));
        Refuses("at least one drawing", static () => new SceneGenerator(Set, []));
        Refuses("no drawing -5", static () => new SceneGenerator(Set, [-5]));
        Refuses("numbered from 0", static () => Shared.Generate(-1));

        static void Refuses(string part, Func<object> action) => Assert.Contains(part, Assert.Throws<PanoptesException>(action).Message, StringComparison.Ordinal);
    }

    static readonly (string Words, SceneRelationKind Kind)[] Directions =
        [("left of", SceneRelationKind.LeftOf), ("right of", SceneRelationKind.RightOf), ("above", SceneRelationKind.Above), ("below", SceneRelationKind.Below)];

    static int Concept(string name) => Set.Concepts.Single(c => c.Name == name).Index;

    static int Index(Scene scene, string name) => Enumerable.Range(0, scene.Objects.Count).Single(k => scene.Objects[k].Name == name);

    /// <summary>The middle of an object's box, from its mask.</summary>
    static (double X, double Y) Middle(Scene scene, int k)
    {
        var seen = scene.Mask(k).Pixels.Select(static (v, i) => (v, i)).Where(static p => p.v > 0).Select(static p => p.i).ToArray();
        return ((seen.Min(i => i % scene.Size) + seen.Max(i => i % scene.Size) + 1) / 2.0, (seen.Min() / scene.Size + (seen.Max() / scene.Size) + 1) / 2.0);
    }

    static bool IsClearly(SceneRelationKind kind, (double X, double Y) a, (double X, double Y) b, int size)
    {
        var (dx, dy) = (b.X - a.X, b.Y - a.Y);
        return kind switch
        {
            SceneRelationKind.LeftOf => dx >= size / 8.0 && dx >= Math.Abs(dy),
            SceneRelationKind.RightOf => -dx >= size / 8.0 && -dx >= Math.Abs(dy),
            SceneRelationKind.Above => dy >= size / 8.0 && dy > Math.Abs(dx),
            _ => -dy >= size / 8.0 && -dy > Math.Abs(dx),
        };
    }

    static SceneRelationKind Opposite(SceneRelationKind kind) => (SceneRelationKind)((int)kind ^ 1);

    /// <summary>Reads the question's text as a person would and looks at the masks.</summary>
    static bool IsTrue(Scene scene, SceneQuestion question)
    {
        var names = scene.Objects.Select(static o => o.Name).ToArray();
        switch (question.Kind)
        {
            case SceneQuestionKind.Count:
                var several = CountText().Match(question.Text).Groups[1].Value;
                return question.Answer == $"{scene.Objects.Count(o => Names.Plural(o.Concept) == several)}" && Plurals.Contains(several);
            case SceneQuestionKind.Existence:
                var what = ExistenceText().Match(question.Text).Groups[1].Value;
                return (question.Answer == "yes") == scene.Objects.Any(o => Names.Phrase(o.Concept, 1) == what) && Phrases.Contains(what);
            case SceneQuestionKind.Neighbor:
                var match = NeighborText().Match(question.Text);
                var (k, kind) = (Index(scene, match.Groups[2].Value), Directions.Single(d => d.Words == match.Groups[1].Value).Kind);
                var around = Enumerable.Range(0, names.Length).Where(j => j != k && kind switch
                {
                    SceneRelationKind.LeftOf => Middle(scene, j).X < Middle(scene, k).X,
                    SceneRelationKind.RightOf => Middle(scene, j).X > Middle(scene, k).X,
                    SceneRelationKind.Above => Middle(scene, j).Y < Middle(scene, k).Y,
                    _ => Middle(scene, j).Y > Middle(scene, k).Y,
                }).ToArray();
                return around is [var one] && names[one] == question.Answer && IsClearly(kind, Middle(scene, one), Middle(scene, k), scene.Size);
            case SceneQuestionKind.Corner:
                var (lower, right) = (question.Text.Contains("lower", StringComparison.Ordinal), question.Text.Contains("right", StringComparison.Ordinal));
                // Whoever is seen in the corner's quarter of the width and height is the one.
                var quarter = scene.Size / 4;
                var there = Enumerable.Range(0, scene.Ids.Length).Where(i => (right ? scene.Size - 1 - (i % scene.Size) : i % scene.Size) < quarter && (lower ? scene.Size - 1 - (i / scene.Size) : i / scene.Size) < quarter)
                    .Select(i => scene.Ids[i]).Where(static id => id > 0).Distinct().Select(id => names[id - 1]).ToArray();
                return there.All(n => n == question.Answer) && names.Contains(question.Answer);
            default:
                var relation = RelationText().Match(question.Text);
                var (a, b) = (Index(scene, relation.Groups[1].Value), Index(scene, relation.Groups[3].Value));
                if (relation.Groups[2].Value == "in front of")
                {
                    var (top, hidden) = (question.Answer == "yes" ? a : b, question.Answer == "yes" ? b : a);
                    var (mask, full) = (scene.Mask(top).Pixels, scene.FullMask(hidden).Pixels);
                    return Enumerable.Range(0, mask.Length).Any(i => mask[i] > 0 && full[i] > 0);
                }
                var direction = Directions.Single(d => d.Words == relation.Groups[2].Value).Kind;
                return IsClearly(question.Answer == "yes" ? direction : Opposite(direction), Middle(scene, a), Middle(scene, b), scene.Size);
        }
    }

    [GeneratedRegex("^How many (.+) are there\\?$")]
    private static partial Regex CountText();

    [GeneratedRegex("^(?:Is|Are) there (.+)\\?$")]
    private static partial Regex ExistenceText();

    [GeneratedRegex("^What is (left of|right of|above|below) the (.+)\\?$")]
    private static partial Regex NeighborText();

    [GeneratedRegex("^(?:Is|Are) the (.+) (left of|right of|above|below|in front of) the (.+)\\?$")]
    private static partial Regex RelationText();
}
