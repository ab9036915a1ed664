using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Representation.Evaluation;

namespace Panoptes.Representation.Tests.Evaluation;

/// <summary>Pointing at what a word means, by heat maps whose score is known.</summary>
public sealed class WordPointingTests
{
    static readonly EmojiSet Set = EmojiSet.Open();

    static readonly WordPointingOptions Options = new() { Scenes = 60, Composition = new() { Size = 48, MinObjects = 2, MaxObjects = 4 }, BatchSize = 7 };

    static readonly SceneGenerator Generator = new(Set, SceneGenerator.Things(Set, EmojiSplit.HeldOutStyle), Options.Composition, Options.Seed);

    [Fact]
    public void An_oracle_always_hits_and_what_points_elsewhere_never()
    {
        var oracle = WordPointing.Run((images, words) => Maps(images, words, static (scene, word, p) => IsSeen(scene, word, p) ? 1 : 0), Set, Options);
        Assert.Equal((60, 1.0, 1.0), (oracle.Scenes, oracle.Model.Box, oracle.Model.Mask));
        Assert.InRange(oracle.Words, 120, 240);
        var wrong = WordPointing.Run((images, words) => Maps(images, words, static (scene, word, p) => scene.Objects.Any(o => o.Name == word && o.Box.Contains(p % scene.Size, p / scene.Size)) ? 0 : 1), Set, Options);
        Assert.Equal(new(0, 0), wrong.Model);
        Assert.Equal((oracle.Chance, oracle.Center), (wrong.Chance, wrong.Center));
    }

    [Fact]
    public void A_constant_map_is_at_chance_which_is_the_share_of_the_area()
    {
        var constant = WordPointing.Run(static (images, words) => full([images.Count, words.Count, 6, 5], 0.3f), Set, Options);
        Assert.Equal(constant.Chance, constant.Model);
        var (box, mask, words) = (0.0, 0.0, 0);
        for (var i = 0; i < 60; i++)
        {
            var scene = Generator.Generate(i);
            foreach (var group in scene.Objects.GroupBy(static o => o.Name))
            {
                var area = scene.Size * scene.Size;
                box += Enumerable.Range(0, area).Count(p => group.Any(o => o.Box.Contains(p % scene.Size, p / scene.Size))) / (double)area;
                mask += group.Sum(static o => o.Pixels) / (double)area;
                words++;
            }
        }
        Assert.Equal((box / words, mask / words, words), (constant.Chance.Box, constant.Chance.Mask, constant.Words));
        Assert.InRange(constant.Chance.Mask, 0.01, constant.Chance.Box);
    }

    [Fact]
    public void Small_maps_are_resized_to_the_picture()
    {
        // The box's middle in a map of a third of the size: near enough to hit most boxes.
        var coarse = WordPointing.Run((images, words) => nn.functional.avg_pool2d(Maps(images, words, static (scene, word, p) => IsSeen(scene, word, p) ? 1 : 0), 3), Set, Options);
        Assert.InRange(coarse.Model.Box, 0.9, 1);
    }

    [Fact]
    public void Maps_of_another_shape_or_without_numbers_are_refused_and_nothing_is_left()
    {
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        Assert.Contains("[7, 2, 4, 4], but [7,", Assert.Throws<PanoptesException>(static () => WordPointing.Run(static (_, _) => zeros(7, 2, 4, 4), Set, Options)).Message, StringComparison.Ordinal);
        Assert.Contains("no numbers", Assert.Throws<PanoptesException>(static () => WordPointing.Run(static (images, words) => full([images.Count, words.Count, 4, 4], float.NaN), Set, Options)).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(static () => WordPointing.Run(static (_, _) => zeros(1), Set, Options with { Scenes = 0 }));
        WordPointing.Run(static (images, words) => zeros(images.Count, words.Count, 4, 4).add(1), Set, Options with { Scenes = 9 });
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    static bool IsSeen(Scene scene, string word, int p) => scene.Ids[p] > 0 && scene.Objects[scene.Ids[p] - 1].Name == word;

    static Tensor Maps(IReadOnlyList<Image> images, IReadOnlyList<string> words, Func<Scene, string, int, float> heat)
    {
        var size = images[0].Width;
        var values = new float[images.Count * words.Count * size * size];
        for (var (i, at) = (0, 0); i < images.Count; i++)
        {
            var scene = Known.Value[Convert.ToHexString(images[i].Pixels)];
            foreach (var word in words)
                for (var p = 0; p < size * size; p++) values[at++] = heat(scene, word, p);
        }
        return tensor(values, [images.Count, words.Count, size, size]);
    }

    static readonly Lazy<Dictionary<string, Scene>> Known = new(static () => Enumerable.Range(0, 60).Select(static i => Generator.Generate(i)).ToDictionary(static s => Convert.ToHexString(s.Image.Pixels)));
}
