using System.Security.Cryptography;
using System.Text;
using CsCheck;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Data;

/// <summary>What models of understanding learn from: classes, segments, points, words with their objects, each against the pixels or by another way to it.</summary>
public sealed class SceneTruthTests
{
    static readonly EmojiSet Set = EmojiSetTests.Set;

    static readonly int[] Things = SceneGenerator.Things(Set);

    static readonly Gen<Scene> Scenes = Gen.Select(Gen.Int[32, 160], Gen.Int[1, 3], Gen.Int[0, 4], Gen.Float[0, 180], Gen.Float[0, 1], Gen.ULong)
        .Select(static (size, least, more, rotation, ground, seed) => Generator(new() { Size = size, MinObjects = least, MaxObjects = least + more, Rotation = rotation, Ground = ground }, seed).Generate(3));

    static SceneGenerator Generator(SceneOptions? options = null, ulong seed = 1) => new(Set, Things, options, seed);

    [Fact]
    public void Scenes_are_the_same_as_ever_where_nothing_new_is_asked_for()
    {
        // Made by the generator as it was before scenes had a ground: recipes and claims rest on these pictures and texts.
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (size, least, most, seed) in new[] { (64, 1, 4, 1ul), (128, 2, 5, 2ul), (48, 3, 6, 3ul) })
        {
            var generator = Generator(new() { Size = size, MinObjects = least, MaxObjects = most, RepeatProbability = 0.3f }, seed);
            for (var i = 0; i < 40; i++)
            {
                var scene = generator.Generate(i);
                hash.AppendData(scene.Image.Pixels);
                hash.AppendData(scene.Ids);
                hash.AppendData(Encoding.UTF8.GetBytes(scene.Caption));
                foreach (var q in scene.Questions) hash.AppendData(Encoding.UTF8.GetBytes(q.Text + q.Answer));
                foreach (var kind in Enum.GetValues<SceneEditKind>())
                {
                    if (generator.Edit(scene, kind) is not { } edit) continue;
                    hash.AppendData(Encoding.UTF8.GetBytes(edit.Instruction));
                    hash.AppendData(edit.After.Image.Pixels);
                }
            }
        }
        Assert.Equal("F04465352FD431C5BD5804EFBE8FBF7DBD7D07DEC5D8E3AFD69EDB4451E458E8", Convert.ToHexString(hash.GetHashAndReset()));
    }

    [Fact]
    public void The_parts_of_captions_hold_every_word_of_theirs_and_none_that_they_never_have()
    {
        var things = Things.Where(static i => Set.Images[i].Concept % 97 == 0).ToArray();
        var options = new SceneOptions { Size = 64, MinObjects = 1, MaxObjects = 3, RepeatProbability = 0.4f };
        var generator = new SceneGenerator(Set, things, options, 5);
        var parts = SceneGenerator.CaptionParts(Set, generator.Concepts, options).SelectMany(Words).ToHashSet(StringComparer.Ordinal);
        var said = Enumerable.Range(0, 4000).AsParallel().SelectMany(i => Words(generator.Generate(i).Caption)).ToHashSet(StringComparer.Ordinal);
        Assert.Empty(said.Except(parts));
        // No scene of these is empty.
        Assert.Equal(["nothing"], parts.Except(said).Where(static w => w is not ("small" or "large")).Order());

        static string[] Words(string text) => text.Replace(",", " ,").Split(' ', StringSplitOptions.RemoveEmptyEntries);
    }

    [Fact]
    public void Every_pixel_has_the_class_of_what_is_seen_and_segments_part_the_picture()
    {
        var seen = new HashSet<SceneStuff>();
        Scenes.Sample(scene =>
        {
            foreach (var label in Enum.GetValues<EmojiLabel>())
            {
                var classes = SceneClasses.Of(Set, [.. Things.Select(static i => Set.Images[i].Concept)], label);
                var (semantic, panoptic) = (scene.Semantic(classes), scene.Panoptic(classes));
                var segments = panoptic.Segments.ToDictionary(static s => s.Id);
                for (var i = 0; i < semantic.Length; i++)
                {
                    var right = semantic[i] == segments[panoptic.Ids[i]].Category;
                    if (scene.Ids[i] > 0)
                    {
                        var concept = Set.Concepts[scene.Objects[scene.Ids[i] - 1].Concept];
                        right &= classes.Names[semantic[i]] == label switch { EmojiLabel.Concept => concept.Name, EmojiLabel.Subgroup => concept.Subgroup, _ => concept.Group } && scene.Ids[i] == panoptic.Ids[i];
                    }
                    else right &= semantic[i] == classes.OfStuff(scene.Background) || (scene.HasGround && semantic[i] == classes.OfStuff(SceneStuff.Ground));
                    if (!right) Assert.Fail($"Pixel {i} is of segment {panoptic.Ids[i]} and class {semantic[i]}.");
                }
                Assert.Equal(panoptic.Ids.Distinct().Order(), segments.Keys.Order());
                var quality = new PanopticQuality(classes.Categories);
                quality.Add(panoptic.Ids, panoptic.Segments, panoptic.Ids, panoptic.Segments);
                Assert.Equal(1, quality.Mean().Quality);
            }
            lock (seen) seen.UnionWith(scene.HasGround ? [scene.Background, SceneStuff.Ground] : [scene.Background]);
        }, iter: 60, threads: 1);
        Assert.Equal(Enum.GetValues<SceneStuff>().Length, seen.Count);
    }

    [Fact]
    public void Above_the_horizon_a_scene_is_the_one_without_a_ground_and_below_it_the_ground_goes_on_to_the_edge()
    {
        var (with, without) = (Generator(new() { Ground = 1, Size = 48 }), Generator(new() { Size = 48 }));
        for (var s = 0; s < 20; s++)
        {
            var (scene, plain) = (with.Generate(s), without.Generate(s));
            var classes = with.Classes(EmojiLabel.Group);
            Assert.Equal(plain.Ids, scene.Ids);
            Assert.Equal(plain.Caption, scene.Caption);
            var empty = with.Render(scene.Layout with { Objects = [] });
            var ground = empty.Semantic(classes).Select(c => c == classes.OfStuff(SceneStuff.Ground)).ToArray();
            Assert.Contains(true, ground);
            Assert.Contains(false, ground);
            for (var i = 0; i < ground.Length; i++)
            {
                if (ground[i]) Assert.True(i + 48 >= ground.Length || ground[i + 48]);
                else if (scene.Ids[i] == 0) Assert.True(scene.Image.Pixels.AsSpan(3 * i, 3).SequenceEqual(plain.Image.Pixels.AsSpan(3 * i, 3)));
            }
        }
    }

    [Fact]
    public void Keypoints_are_where_the_upright_drawing_has_them_and_turn_with_it()
    {
        var (found, lost) = (0, 0);
        var upright = Generator(new() { Size = 96, Background = new() });
        Scenes.Sample(Check, iter: 40, threads: 1);
        Assert.True(found > 200 && lost * 20 < found, $"{lost} of {found + lost} are lost");

        void Check(Scene scene)
        {
            for (var k = 0; k < scene.Objects.Count; k++)
            {
                var (placement, points) = (scene.Layout.Objects[k], scene.Keypoints(k));
                Assert.Equal(Enum.GetValues<SceneKeypointKind>(), points.Select(static p => p.Kind));
                Assert.Equal((placement.X, placement.Y), (points[4].X, points[4].Y));

                // Drawn alone, upright and 72 pixels large, the extremes are the mask's.
                var alone = upright.Render(new(1, 0, [new(placement.Image, 48, 48, 72, 0, 0.5f)]));
                var (box, straight) = (alone.Objects[0].Box, alone.Keypoints(0));
                float[] beyond = [straight[0].Y - box.Y, box.Right - straight[1].X, box.Bottom - straight[2].Y, straight[3].X - box.X];
                for (var i = 0; i < 4; i++)
                {
                    // A tip of one pixel may be too thin for the mask of the drawing at another size: then the point may lie far beyond it. (Within it, where another tip is as far out.)
                    Assert.InRange(beyond[i], straight[i].Visible ? -1.5f : float.NegativeInfinity, 2.5f);
                    (found, lost) = straight[i].Visible ? (found + 1, lost) : (found, lost + 1);
                }

                // In the scene they are the same, made larger and turned about the middle.
                for (var i = 0; i < 4; i++)
                {
                    var (u, v) = ((straight[i].X - 48) * placement.Side / 72, (straight[i].Y - 48) * placement.Side / 72);
                    Assert.Equal(placement.X + (u * Math.Cos(placement.Angle)) - (v * Math.Sin(placement.Angle)), points[i].X, 2e-3);
                    Assert.Equal(placement.Y + (u * Math.Sin(placement.Angle)) + (v * Math.Cos(placement.Angle)), points[i].Y, 2e-3);
                }
                foreach (var p in points.Where(static p => !p.Visible))
                    Assert.DoesNotContain(Enumerable.Range(0, scene.Ids.Length), j => scene.Ids[j] == k + 1 && Math.Pow((j % scene.Size) + 0.5 - p.X, 2) + Math.Pow((j / scene.Size) + 0.5 - p.Y, 2) <= 2.25 - 1e-4);
            }
        }
    }

    [Fact]
    public void A_point_that_another_object_covers_is_hidden()
    {
        var (hidden, shown, generator) = (0, 0, Generator(new() { MinObjects = 3, MaxObjects = 5, MinVisible = 0.4f, Size = 96 }));
        for (var s = 0; s < 100; s++)
        {
            var scene = generator.Generate(s);
            for (var k = 0; k < scene.Objects.Count; k++)
            {
                foreach (var p in scene.Keypoints(k).Take(4))
                {
                    if (p.Visible) shown++;
                    else hidden++;
                    var around = Enumerable.Range(0, scene.Ids.Length).Where(j => Math.Abs((j % scene.Size) + 0.5 - p.X) <= 1.5 && Math.Abs((j / scene.Size) + 0.5 - p.Y) <= 1.5).Select(j => (int)scene.Ids[j]).ToArray();
                    if (around.Length > 0 && around.All(id => id > k + 1)) Assert.False(p.Visible);
                }
            }
        }
        Assert.True(hidden > 25 && shown > 10 * hidden, $"{hidden} hidden, {shown} to be seen");
    }

    [Fact]
    public void Every_name_in_a_caption_means_the_objects_that_are_called_so_and_every_object_is_meant_once()
    {
        var (names, relations) = (new SceneNames(Set.Concepts), 0);
        Scenes.Sample(scene =>
        {
            foreach (var region in scene.CaptionRegions)
            {
                var said = scene.Caption.Substring(region.Start, region.Length);
                Assert.All(region.Objects, k => Assert.Equal(said, region.Objects.Count > 1 ? names.Plural(scene.Objects[k].Concept) : scene.Objects[k].Name));
            }
            Assert.Equal(Enumerable.Range(0, scene.Objects.Count), scene.CaptionRegions.SelectMany(static r => r.Objects).Order());
            Assert.True(scene.CaptionRegions.Zip(scene.CaptionRegions.Skip(1)).All(static p => p.First.Start + p.First.Length < p.Second.Start));
            if (scene.CaptionRelation is not { } told) return;
            Interlocked.Increment(ref relations);
            Assert.Contains(told, scene.Relations);
            Assert.Equal([told.Subject], scene.CaptionRegions[0].Objects);
            Assert.Equal([told.Object], scene.CaptionRegions[1].Objects);
            Assert.Contains($" {SceneText.Words(told.Kind)} ", scene.Caption, StringComparison.Ordinal);
        }, iter: 200, threads: 1);
        Assert.True(relations > 10, $"{relations} relations");
    }

    [Fact]
    public void Questions_know_the_relation_that_they_speak_of()
    {
        var (asked, generator) = (0, Generator(new() { MinObjects = 2 }));
        for (var s = 0; s < 100; s++)
        {
            var scene = generator.Generate(s);
            foreach (var q in scene.Questions)
            {
                Assert.Equal(q.Kind is SceneQuestionKind.Neighbor or SceneQuestionKind.Relation, q.Relation is not null);
                if (q.Relation is not { } about) continue;
                asked++;
                if (q.Kind == SceneQuestionKind.Relation) Assert.EndsWith($" the {scene.Objects[about.Subject].Name} {SceneText.Words(about.Kind)} the {scene.Objects[about.Object].Name}?", q.Text, StringComparison.Ordinal);
                else Assert.Equal((scene.Objects[about.Subject].Name, $"What is {SceneText.Words(about.Kind)} the {scene.Objects[about.Object].Name}?"), (q.Answer, q.Text));
            }
        }
        Assert.True(asked > 50);
    }

    [Fact]
    public void Bundled_photographs_lie_behind_scenes_and_nothing_else_changes()
    {
        var photographs = Photographs.Open();
        Assert.True(photographs.Count >= 10);
        var mix = new BackgroundMix { White = 0, Photographic = 1 };
        var (real, made) = (Generator(new() { Background = mix with { Photographs = photographs } }), Generator(new() { Background = mix }));
        for (var s = 0; s < 10; s++)
        {
            var (a, b) = (real.Generate(s), made.Generate(s));
            Assert.Equal((a.Background, b.Background, a.Caption), (SceneStuff.Photograph, SceneStuff.Photograph, b.Caption));
            Assert.Equal(a.Ids, b.Ids);
            Assert.NotEqual(a.Image.Pixels, b.Image.Pixels);
        }
        var folder = Directory.CreateTempSubdirectory("panoptes-photographs-").FullName;
        try
        {
            Assert.Contains("0 photographs", Assert.Throws<PanoptesException>(() => Photographs.Open(folder)).Message, StringComparison.Ordinal);
            new Image(1200, 600, 3).Save(Path.Combine(folder, "a.png"));
            Assert.Equal((1024, 512), (Photographs.Open(folder)[0].Width, Photographs.Open(folder)[0].Height));
            File.WriteAllText(Path.Combine(folder, "b.jpg"), "none");
            Assert.Throws<PanoptesException>(() => Photographs.Open(folder));
            Assert.Throws<PanoptesException>(() => Photographs.Open(Path.Combine(folder, "none")));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void What_cannot_be_is_refused_in_one_sentence()
    {
        Assert.Contains("Ground is 2", Assert.Throws<PanoptesException>(static () => Generator(new() { Ground = 2 })).Message, StringComparison.Ordinal);
        Assert.Contains("no concept -1", Assert.Throws<PanoptesException>(static () => SceneClasses.Of(Set, [-1])).Message, StringComparison.Ordinal);
        var one = SceneClasses.Of(Set, [Set.Images[Things[0]].Concept]);
        Assert.Equal((6, 1, "ground"), (one.Count, one.Things, one.Names[^1]));
        Assert.Contains("has the concept", Assert.Throws<PanoptesException>(() => Generator(new() { MinObjects = 3 }).Generate(0).Semantic(one)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(static () => Generator().Generate(0).Keypoints(9));
    }
}
