using System.Text.RegularExpressions;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

/// <summary>Referring expressions, read as a person reads them and looked up in the masks: each means the objects that it says and could mean no others.</summary>
public sealed partial class SceneReferenceTests
{
    static readonly EmojiSet Set = EmojiSetTests.Set;

    static readonly SceneNames Names = new(Set.Concepts);

    static readonly SceneGenerator Generator = new(Set, SceneGenerator.Things(Set), new() { Size = 96, MinObjects = 2, MaxObjects = 6, RepeatProbability = 0.5f }, 4);

    static readonly string[] Ordinals = ["first", "second", "third", "fourth", "fifth", "sixth"];

    [Fact]
    public void Every_expression_means_what_it_says_and_nothing_else()
    {
        var said = new Dictionary<SceneReferenceKind, int>();
        var (needed, plurals, heldOut) = (0, 0, 0);
        for (var s = 0; s < 300; s++)
        {
            var scene = Generator.Generate(s);
            var middles = Enumerable.Range(0, scene.Objects.Count).Select(k => Middle(scene, k)).ToArray();
            var references = Generator.References(scene);
            Assert.Equal(references.Select(static r => r.Text), references.Select(static r => r.Text).Distinct());
            foreach (var r in references)
            {
                said[r.Kind] = said.GetValueOrDefault(r.Kind) + 1;
                (needed, plurals, heldOut) = (needed + (r.IsNeeded ? 1 : 0), plurals + (r.Objects.Count > 1 ? 1 : 0), heldOut + (r.IsHeldOut ? 1 : 0));
                Assert.Equal(r.Objects.Order(), r.Objects);
                Assert.True(Meant(scene, middles, r).SequenceEqual(r.Objects), $"\"{r.Text}\" means {string.Join(", ", r.Objects)} in \"{scene.Caption}\" ({s}), but {string.Join(", ", Meant(scene, middles, r))} was read.");
            }
        }
        Assert.Equal(Enum.GetValues<SceneReferenceKind>().Length, said.Count);
        Assert.All(said.Values, static n => Assert.True(n > 50, $"{n}"));
        Assert.True(needed > 1500 && plurals > 150 && heldOut > 50, $"{needed}, {plurals}, {heldOut}");
    }

    [Fact]
    public void Expressions_that_are_needed_say_what_the_name_alone_does_not()
    {
        for (var s = 0; s < 100; s++)
        {
            var scene = Generator.Generate(s);
            foreach (var r in Generator.References(scene).Where(static r => r.Objects.Count == 1 && r.Kind is not SceneReferenceKind.Name))
            {
                var alone = scene.Objects.Count(o => o.Concept == scene.Objects[r.Objects[0]].Concept) == 1;
                Assert.Equal(!alone || r.Text.Contains(" object", StringComparison.Ordinal), r.IsNeeded);
            }
        }
    }

    [Fact]
    public void Pairs_held_out_are_a_fifth_the_same_from_both_sides_and_in_every_subset()
    {
        var (held, all) = (0, 0);
        var small = Set.Subset(400);
        var other = new SceneGenerator(small, SceneGenerator.Things(small), new() { MinObjects = 3, MaxObjects = 6 }, 9);
        var whole = new SceneGenerator(Set, SceneGenerator.Things(Set));
        for (var s = 0; s < 150; s++)
        {
            var scene = other.Generate(s);
            foreach (var relation in scene.Relations)
            {
                (held, all) = (held + (other.IsHeldOut(scene, relation) ? 1 : 0), all + 1);
                if (relation.Kind != SceneRelationKind.InFrontOf)
                    Assert.Equal(other.IsHeldOut(scene, relation), other.IsHeldOut(scene, new(relation.Object, (SceneRelationKind)((int)relation.Kind ^ 1), relation.Subject)));
            }
            // The same objects in the whole set.
            int Same(int image) => Set.Images.First(i => Set.Concepts[i.Concept].Code == small.Concepts[small.Images[image].Concept].Code && Set.Styles[i.Style].Name == small.Styles[small.Images[image].Style].Name).Index;
            if (s >= 10) continue;
            var again = whole.Render(scene.Layout with { Objects = [.. scene.Layout.Objects.Select(p => p with { Image = Same(p.Image) })] });
            Assert.All(scene.Relations, r => Assert.Equal(other.IsHeldOut(scene, r), whole.IsHeldOut(again, r)));
        }
        Assert.InRange((double)held / all, 0.15, 0.25);
    }

    /// <summary>Reads the text and looks at masks alone.</summary>
    static int[] Meant(Scene scene, (double X, double Y, int Side, int Pixels)[] at, SceneReference r)
    {
        int[] all = [.. Enumerable.Range(0, at.Length)];
        Match m;
        switch (r.Kind)
        {
            case SceneReferenceKind.Name:
                return Called(r.Text[4..]);
            case SceneReferenceKind.Set:
                m = SetText().Match(r.Text);
                var members = all.Where(k => Names.Plural(scene.Objects[k].Concept) == m.Groups[2].Value).ToArray();
                return m.Groups[1].Value == "all" || members.Length == Array.IndexOf(["", "", "two", "three", "four", "five", "six"], m.Groups[1].Value[4..]) ? members : [];
            case SceneReferenceKind.Size:
                m = SizeText().Match(r.Text);
                var sized = Called(m.Groups[2].Value);
                Assert.Equal(sized.Length == 2, m.Groups[1].Value.EndsWith('r'));
                var large = m.Groups[1].Value.StartsWith("larg", StringComparison.Ordinal);
                return [.. sized.Where(k => sized.All(j => j == k || (large ? at[k].Pixels > at[j].Pixels && at[k].Side >= 1.2 * at[j].Side : at[k].Pixels < at[j].Pixels && at[j].Side >= 1.2 * at[k].Side)))];
            case SceneReferenceKind.Order:
                if ((m = OrdinalText().Match(r.Text)).Success)
                {
                    var (across, back) = (m.Groups[3].Value is "left" or "right", m.Groups[3].Value is "right" or "bottom");
                    int[] order = [.. Called(m.Groups[2].Value).OrderBy(k => (back ? -1 : 1) * (across ? at[k].X : at[k].Y))];
                    Assert.True(order.Zip(order.Skip(1)).All(p => Math.Abs(across ? at[p.First].X - at[p.Second].X : at[p.First].Y - at[p.Second].Y) >= scene.Size / 10.0 - 1e-4), r.Text);
                    return [order[Array.IndexOf(Ordinals, m.Groups[1].Value)]];
                }
                m = SideText().Match(r.Text);
                var ordered = Called(m.Groups[2].Value);
                Assert.True(m.Groups[1].Value.EndsWith("most", StringComparison.Ordinal) || ordered.Length == 2);
                double Key(int k) => m.Groups[1].Value switch { "left" or "leftmost" => at[k].X, "right" or "rightmost" => -at[k].X, "upper" or "topmost" => at[k].Y, _ => -at[k].Y };
                return [.. ordered.Where(k => ordered.All(j => j == k || Key(j) - Key(k) >= scene.Size / 10.0 - 1e-4))];
            case SceneReferenceKind.Relation:
                m = RelationText().Match(r.Text);
                var (subjects, other) = (Called(m.Groups[1].Value, r.Objects.Count > 1), Called(m.Groups[3].Value).Single());
                subjects = [.. subjects.Where(k => k != other)];
                if (m.Groups[2].Value == "in front of")
                {
                    var hidden = scene.FullMask(other).Pixels;
                    int Hides(int k) => scene.Mask(k).Pixels.Where((v, i) => v > 0 && hidden[i] > 0).Count();
                    Assert.All(subjects, k => Assert.True(Hides(k) == 0 || Hides(k) * 20 >= hidden.Count(static v => v > 0)));
                    return [.. subjects.Where(k => Hides(k) > 0)];
                }
                double Distance(int k) => m.Groups[2].Value switch { "left of" => at[other].X - at[k].X, "right of" => at[k].X - at[other].X, "above" => at[other].Y - at[k].Y, _ => at[k].Y - at[other].Y };
                double Aside(int k) => m.Groups[2].Value is "left of" or "right of" ? Math.Abs(at[k].Y - at[other].Y) : Math.Abs(at[k].X - at[other].X);
                int[] there = [.. subjects.Where(k => Distance(k) > 1e-4)];                         // whoever is on that side at all must be so clearly
                Assert.All(there, k => Assert.True(Distance(k) >= scene.Size / 8.0 - 1e-4 && Distance(k) >= Aside(k) - 1e-4, r.Text));
                return there;
            case SceneReferenceKind.Place:
                m = PlaceText().Match(r.Text);
                var (size, corner) = (scene.Size, m.Groups[2].Value);
                bool In(int x, int y, double share) => corner == "middle"
                    ? x >= size * (1 - share) / 2 && x < size * (1 + share) / 2 && y >= size * (1 - share) / 2 && y < size * (1 + share) / 2
                    : (corner.Contains("right", StringComparison.Ordinal) ? size - 1 - x : x) < size * share && (corner.Contains("lower", StringComparison.Ordinal) ? size - 1 - y : y) < size * share;
                int[] named = Called(m.Groups[1].Value);
                int[] inside = [.. named.Where(k => Enumerable.Range(0, scene.Ids.Length).Any(i => scene.Ids[i] == k + 1 && In(i % size, i / size, 0.25)))];
                int[] middle = [.. named.Where(k => In((int)at[k].X, (int)at[k].Y, corner == "middle" ? 0.34 : 0.41))];
                Assert.True(inside.All(k => k == middle.Single()), r.Text);                          // nobody else is seen there at all
                return middle;
            default:
                m = ColorText().Match(r.Text);
                var color = Array.IndexOf(Colors, m.Groups[1].Value);
                return [.. Called(m.Groups[2].Value).Where(k => Share(scene, k, color) >= 0.4)];
        }

        int[] Called(string name, bool plural = false) => [.. all.Where(k => name == "object" || name == (plural ? Names.Plural(scene.Objects[k].Concept) : scene.Objects[k].Name))];
    }

    static readonly string[] Colors = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray"];

    /// <summary>The share of the picture's pixels of an object that are roughly of a color, by the eye's measure: hue in wide bands, lightness for what has none.</summary>
    static double Share(Scene scene, int k, int color)
    {
        var (count, all) = (0, 0);
        for (var i = 0; i < scene.Ids.Length; i++)
        {
            if (scene.Ids[i] != k + 1) continue;
            all++;
            var (r, g, b) = ((int)scene.Image.Pixels[3 * i], (int)scene.Image.Pixels[(3 * i) + 1], (int)scene.Image.Pixels[(3 * i) + 2]);
            var (most, least) = (Math.Max(r, Math.Max(g, b)), Math.Min(r, Math.Min(g, b)));
            var hue = most == least ? 0 : most == r ? 60.0 * (g - b) / (most - least) : most == g ? 120 + (60.0 * (b - r) / (most - least)) : 240 + (60.0 * (r - g) / (most - least));
            hue = (hue + 360) % 360;
            var colored = most - least > 25;
            if (color switch
            {
                0 => colored && (hue is >= 345 or < 15) && least < 130,
                1 => colored && hue is >= 15 and < 45 && most > 170,
                2 => colored && hue is >= 40 and < 72,
                3 => colored && hue is >= 72 and < 172,
                4 => colored && hue is >= 185 and < 255,
                5 => colored && hue is >= 255 and < 306,
                6 => colored && (hue is >= 300 and < 345 || ((hue is >= 345 or < 20) && least > 90)),
                7 => colored && hue is >= 5 and < 48 && most < 190,
                8 => most < 85,
                9 => least > 180,
                _ => most - least < 40 && most is > 60 and < 215,
            }) count++;
        }
        return all == 0 ? 0 : (double)count / all;
    }

    static (double X, double Y, int Side, int Pixels) Middle(Scene scene, int k)
    {
        var seen = scene.Mask(k).Pixels.Select(static (v, i) => (v, i)).Where(static p => p.v > 0).Select(static p => p.i).ToArray();
        var (left, right, top, bottom) = (seen.Min(i => i % scene.Size), seen.Max(i => i % scene.Size), seen.Min() / scene.Size, seen.Max() / scene.Size);
        return ((left + right + 1) / 2.0, (top + bottom + 1) / 2.0, Math.Max(right - left, bottom - top) + 1, seen.Length);
    }

    [GeneratedRegex("^(all|the (?:two|three|four|five|six)) (.+)$")]
    private static partial Regex SetText();

    [GeneratedRegex("^the (larger|largest|smaller|smallest) (.+)$")]
    private static partial Regex SizeText();

    [GeneratedRegex("^the (first|second|third|fourth|fifth|sixth) (.+) from the (left|right|top|bottom)$")]
    private static partial Regex OrdinalText();

    [GeneratedRegex("^the (left|right|upper|lower|leftmost|rightmost|topmost|bottommost) (.+)$")]
    private static partial Regex SideText();

    [GeneratedRegex("^the (.+) (left of|right of|above|below|in front of) the (.+)$")]
    private static partial Regex RelationText();

    [GeneratedRegex("^the (.+) in the (upper left|upper right|lower left|lower right|middle)(?: corner)?$")]
    private static partial Regex PlaceText();

    [GeneratedRegex("^the (red|orange|yellow|green|blue|purple|pink|brown|black|white|gray) (.+)$")]
    private static partial Regex ColorText();
}
