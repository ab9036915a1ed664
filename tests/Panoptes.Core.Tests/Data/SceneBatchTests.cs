using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

/// <summary>Batches for models of understanding.</summary>
public sealed class SceneBatchTests
{
    static readonly SceneGenerator Generator = new(EmojiSetTests.Set, SceneGenerator.Things(EmojiSetTests.Set), new() { Size = 32, MinObjects = 2, Ground = 0.5f }, 5);

    static SceneBatchLoaderOptions Options => new() { BatchSize = 4, Count = 12, Loader = new() { Workers = 2 } };

    [Fact]
    public void Tensors_are_what_the_scenes_say()
    {
        using var loader = SceneBatchLoader.Create(Generator, Options with { References = 4 });
        using var batch = loader.Next();
        using var scope = NewDisposeScope();
        var classes = Generator.Classes();
        var (semantic, depth, normalized) = (batch.Semantic(classes), batch.Depth(), batch.Normalized([0.5f, 0.4f, 0.3f], [0.2f, 0.3f, 0.4f]));
        Assert.Equal([4, 3, 32, 32, 4, 32, 32, 4, 32, 32, 4, 1, 32, 32], [.. batch.Images.shape, .. batch.Ids.shape, .. semantic.shape, .. depth.shape]);
        Assert.Equal((ScalarType.Byte, ScalarType.Byte, ScalarType.Int64, ScalarType.Float32), (batch.Images.dtype, batch.Ids.dtype, semantic.dtype, depth.dtype));
        var expected = (batch.Images.to(ScalarType.Float32) / 255 - tensor([0.5f, 0.4f, 0.3f]).view(3, 1, 1)) / tensor([0.2f, 0.3f, 0.4f]).view(3, 1, 1);
        Assert.InRange((normalized - expected).abs().max().item<float>(), 0, 1e-6f);
        for (var i = 0; i < 4; i++)
        {
            var scene = batch.Scenes[i];
            Assert.Equal((scene.Caption, (long)batch.Samples[i]), (batch.Captions[i], scene.Layout.Index));
            Assert.Equal(scene.Image.Pixels, batch.Images[i].permute(1, 2, 0).contiguous().data<byte>().ToArray());
            Assert.Equal(scene.Ids, batch.Ids[i].data<byte>().ToArray());
            Assert.Equal(scene.Semantic(classes).Select(static c => (long)c), semantic[i].data<long>().ToArray());
            Assert.Equal(scene.Depth(), depth[i].data<float>().ToArray());
            Assert.Equal(scene.Objects.SelectMany(static o => (float[])[o.Box.X, o.Box.Y, o.Box.Right, o.Box.Bottom]), batch.Boxes(i).data<float>().ToArray());
            Assert.Equal(scene.Objects.Select(static o => o.Name), batch.Classes(i, classes).data<long>().Select(c => classes.Names[(int)c]));
            var masks = batch.Masks(i);
            Assert.Equal([scene.Objects.Count, 32L, 32], masks.shape);
            for (var k = 0; k < scene.Objects.Count; k++) Assert.Equal(scene.Mask(k).Pixels.Select(static v => v > 0), masks[k].data<bool>().ToArray());
            Assert.Equal(4, batch.References[i].Count);
            var all = Generator.References(scene).Select(static r => r.Text).ToHashSet();
            foreach (var r in batch.References[i])
            {
                Assert.Contains(r.Text, all);
                Assert.Equal(scene.Mask(r.Objects).Pixels.Select(static v => v > 0), batch.Mask(i, r.Objects).data<bool>().ToArray());
                Assert.Equal(r.Objects.Sum(k => scene.Objects[k].Pixels), scene.Mask(r.Objects).Pixels.Count(static v => v > 0));
            }
        }
    }

    [Fact]
    public void It_goes_on_from_any_state_with_the_same_batches_whatever_the_workers()
    {
        var options = Options with { Augmentation = Augmentation.Photometric(32), References = 3 };
        using var whole = SceneBatchLoader.Create(Generator, options);
        for (var i = 0; i < 4; i++) whole.Next().Dispose();
        using var other = SceneBatchLoader.Create(Generator, options with { Loader = new() { Workers = 1 } });
        other.Restore(whole.State);
        using var expected = whole.Next();
        using var found = other.Next();
        Assert.Equal(expected.Samples, found.Samples);
        Assert.Equal(expected.Scenes.Select(static s => s.Layout.Index), found.Scenes.Select(static s => s.Layout.Index));
        Assert.All(found.Scenes, static s => Assert.InRange(s.Layout.Index, 12, 23));                // new scenes in the second epoch
        Assert.Equal(expected.References.Select(static r => string.Join("; ", r.Select(static x => x.Text))), found.References.Select(static r => string.Join("; ", r.Select(static x => x.Text))));
        Assert.Equal(expected.Images.data<byte>().ToArray(), found.Images.data<byte>().ToArray());
        Assert.Equal(expected.Ids.data<byte>().ToArray(), found.Ids.data<byte>().ToArray());
        using var plain = SceneBatchLoader.Create(Generator, options with { Augmentation = null });
        plain.Restore(new(1, 1));
        using var without = plain.Next();
        Assert.Equal(without.Ids.data<byte>().ToArray(), found.Ids.data<byte>().ToArray());
        Assert.NotEqual(without.Images.data<byte>().ToArray(), found.Images.data<byte>().ToArray());
    }

    [Fact]
    public void Scenes_of_one_size_are_a_batch_as_they_are()
    {
        Scene[] scenes = [Generator.Generate(3), Generator.Generate(8)];
        var before = LiveTensors.Settle();
        using (var batch = SceneBatch.Of(scenes))
        {
            Assert.Equal(scenes, batch.Scenes);
            Assert.Equal([0, 1], batch.Samples);
            Assert.All(batch.References, Assert.Empty);
            using (NewDisposeScope()) Assert.Equal(scenes[1].Image.Pixels, batch.Images[1].permute(1, 2, 0).contiguous().data<byte>().ToArray());
            batch.Masks(0).Dispose();
            batch.Mask(1, [0]).Dispose();
            batch.Semantic(Generator.Classes()).Dispose();
            batch.Depth().Dispose();
            batch.Normalized([0, 0, 0], [1, 1, 1]).Dispose();
            Assert.Throws<PanoptesException>(() => batch.Normalized([0, 0, 0], [1, 0, 1]));
            Assert.Throws<PanoptesException>(() => batch.Semantic(SceneClasses.Of(EmojiSetTests.Set, [Generator.Concepts[0]])));
        }
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Throws<PanoptesException>(() => SceneBatch.Of([]));
        Assert.Throws<PanoptesException>(() => SceneBatch.Of([scenes[0], new SceneGenerator(EmojiSetTests.Set, SceneGenerator.Things(EmojiSetTests.Set)).Generate(0)]));
    }

    [Fact]
    public void Pairs_held_out_are_never_read_in_training_and_alone_are_asked_for_in_the_test()
    {
        var generator = new SceneGenerator(EmojiSetTests.Set, SceneGenerator.Things(EmojiSetTests.Set), new() { Size = 32, MinObjects = 3 }, 6);
        var options = Options with { Count = 60, BatchSize = 60, References = null };
        using var train = SceneBatchLoader.Create(generator, options with { HeldOut = HeldOutRelations.LeftOut });
        using var batch = train.Next();
        using var test = SceneBatchLoader.Create(generator, options with { HeldOut = HeldOutRelations.Only });
        using var only = test.Next();
        var (left, told) = (0, 0);
        for (var i = 0; i < 60; i++)
        {
            var (scene, whole) = (batch.Scenes[i], generator.Generate(batch.Scenes[i].Layout.Index));
            Assert.All(batch.References[i], static r => Assert.False(r.IsHeldOut));
            Assert.All(scene.Questions, q => Assert.False(q.Relation is { } about && generator.IsHeldOut(scene, about)));
            left += whole.Questions.Count - scene.Questions.Count;
            if (whole.CaptionRelation is { } relation && generator.IsHeldOut(whole, relation))
            {
                told++;
                Assert.Null(scene.CaptionRelation);
                Assert.DoesNotContain($" {SceneText.Words(relation.Kind)} ", scene.Caption, StringComparison.Ordinal);
                Assert.Equal(Enumerable.Range(0, scene.Objects.Count), scene.CaptionRegions.SelectMany(static r => r.Objects).Order());
            }
            else Assert.Equal(whole.Caption, scene.Caption);
            Assert.All(only.References[i], static r => Assert.True(r.IsHeldOut));
        }
        Assert.True(left > 5 && told > 0 && only.References.Sum(static r => r.Count) > 20, $"{left}, {told}");
    }

    [Fact]
    public void Kinds_are_chosen_and_everything_is_freed()
    {
        SceneBatch batch;
        using (var loader = SceneBatchLoader.Create(Generator, Options with { ReferenceKinds = [SceneReferenceKind.Place, SceneReferenceKind.Relation], References = 5 }))
            batch = loader.Next();
        Assert.All(batch.References, static r => Assert.All(r, static x => Assert.True(x.Kind is SceneReferenceKind.Place or SceneReferenceKind.Relation)));
        Assert.Contains(batch.References, static r => r.Count == 5);
        batch.Dispose();
        Assert.True(batch.Images.IsInvalid && batch.Ids.IsInvalid);
        using var none = SceneBatchLoader.Create(Generator, Options);
        using var without = none.Next();
        Assert.All(without.References, Assert.Empty);
    }

    [Fact]
    public void What_cannot_be_is_refused()
    {
        Refuses("at least 1", Options with { Count = 0 });
        Refuses("A batch needs 40", Options with { BatchSize = 40 });
        Refuses("not move or erase", Options with { Augmentation = Augmentation.Drawings(32) });
        Refuses("pictures of 64 pixels", Options with { Augmentation = Augmentation.None(64) });
        Refuses("-1 expressions", Options with { References = -1 });

        static void Refuses(string part, SceneBatchLoaderOptions options) => Assert.Contains(part, Assert.Throws<PanoptesException>(() => SceneBatchLoader.Create(Generator, options)).Message, StringComparison.Ordinal);
    }
}
