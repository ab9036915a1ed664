using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding.Tests;

public sealed class SceneLessonsTests
{
    [Fact]
    public void Scenes_teach_every_model_what_is_in_them()
    {
        using var scope = NewDisposeScope();
        var zoo = Path.Combine(Panoptes.Parity.Goldens.Repository, "zoo", "clip-emoji");
        var tokenizer = Tokenizer.Load(zoo);
        var emoji = EmojiSet.Open().Subset(30);
        var images = SceneGenerator.Things(emoji);
        string[] all = [.. images.Select(i => emoji.Concepts[emoji.Images[i].Concept].Name).Distinct()];
        var generator = new SceneGenerator(emoji, images, new() { Size = 64, MinObjects = 2, MaxObjects = 3 }, seed: 2);
        using var loader = SceneBatchLoader.Create(generator, new() { BatchSize = 3, Count = 6, References = 2 });
        using var batch = loader.Next(default);
        var names = SceneLessons.Names(batch, all, 12, new Generator(1));
        Assert.Equal(12, names.Count);

        var config = new XDecoderModelConfig { ImageSize = 32, TextConfig = new() { MaxPositionEmbeddings = 32 }, DecoderConfig = new() { ContextLength = 32 } };
        var lesson = SceneLessons.XDecoder(batch, tokenizer, config, names);
        Assert.Equal([3L, 3, 32, 32], lesson.Pixels.shape);
        Assert.Equal(13, lesson.ClassIds!.shape[0]);
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal(batch.Scenes[i].Objects.Select(o => names.ToList().IndexOf(o.Name)), lesson.Targets![i].Classes.data<long>().ToArray().Select(static c => (int)c));
            Assert.Equal(batch.Scenes[i].Objects.Select(static o => (long)o.Pixels), lesson.Targets[i].Masks.sum([1, 2]).data<long>().ToArray());
            // A caption's first and last tokens are the start's and the end's.
            var ids = lesson.CaptionIds![i].masked_select(lesson.CaptionMask![i].ne(0)).data<long>().ToArray();
            Assert.Equal((4608, 4609), (ids[0], ids[^1]));
        }
        Assert.Equal(lesson.ExpressionIds!.shape[0], lesson.ExpressionTargets!.shape[0]);
        Assert.True(lesson.ExpressionTargets.any(-1).any(-1).all().item<bool>());
        Assert.Throws<PanoptesException>(() => SceneLessons.XDecoder(batch, tokenizer, config, names.Take(1).ToList()));

        var uni = SceneLessons.UniPerceiver(batch, tokenizer, new() { ImageSize = 64, TextConfig = new() { MaxPositionEmbeddings = 32 } }, names);
        Assert.Contains(4609L, uni.VocabularyIds!.data<long>().ToArray());

        foreach (var kind in Enum.GetValues<PointingKind>())
        {
            var (pointed, meant) = SceneLessons.Pointing(batch, [0, 1, 0], kind, new Generator(3));
            var (hit, shown, whole) = (pointed.logical_and(meant).sum([1, 2]), pointed.sum([1, 2]), meant.sum([1, 2]));
            Assert.True(hit.gt(0).all().item<bool>());
            if (kind != PointingKind.Box) Assert.True(hit.eq(shown).all().item<bool>());
            if (kind == PointingKind.Mask) Assert.True(shown.eq(whole).all().item<bool>());
            if (kind == PointingKind.Point) Assert.True(shown.le(9).all().item<bool>());
        }
    }
}
