using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

/// <summary>Batches of scenes.</summary>
public sealed class SceneLoaderTests
{
    static readonly SceneGenerator Generator = new(EmojiSetTests.Set, SceneGenerator.Things(EmojiSetTests.Set), new() { Size = 32 }, 5);

    static SceneLoaderOptions Options => new() { BatchSize = 4, Count = 12, Augmentation = Pictures.Plain(32), Loader = new() { Workers = 2 } };

    [Fact]
    public void A_batch_holds_pictures_captions_and_scenes_that_belong_together()
    {
        using var loader = SceneLoader.Create(Generator, Options);
        using var batch = loader.Next();
        Assert.Equal([4, 3, 32, 32], batch.Images.shape);
        Assert.Equal(4, batch.Scenes.Count);
        for (var i = 0; i < 4; i++)
        {
            var scene = batch.Scenes[i];
            Assert.Equal((scene.Caption, (long)batch.Samples[i], -1), (batch.Texts[i], scene.Layout.Index, batch.Labels[i]));
            using var picture = scene.Image.ToTensor(ScalarType.Float32);
            using var row = batch.Images[i];
            using var difference = (picture - row).abs().max();
            Assert.InRange(difference.item<float>(), 0, 1e-6f);
        }
    }

    [Fact]
    public void Every_epoch_has_new_scenes_each_once_or_the_same_again_when_asked()
    {
        foreach (var repeat in (bool[])[false, true])
        {
            using var loader = SceneLoader.Create(Generator, Options with { Repeat = repeat });
            for (var epoch = 0; epoch < 2; epoch++)
            {
                var indices = new List<long>();
                foreach (var batch in loader.ReadEpoch())
                    using (batch) indices.AddRange(batch.Scenes.Select(static s => s.Layout.Index));
                Assert.Equal(Enumerable.Range(repeat ? 0 : 12 * epoch, 12).Select(static i => (long)i), indices.Order());
            }
        }
    }

    [Fact]
    public void It_goes_on_from_any_state_with_the_same_batches_whatever_the_workers()
    {
        using var whole = SceneLoader.Create(Generator, Options);
        for (var i = 0; i < 4; i++) whole.Next().Dispose();
        using var other = SceneLoader.Create(Generator, Options with { Loader = new() { Workers = 1 } });
        other.Restore(whole.State);
        using var expected = whole.Next();
        using var found = other.Next();
        Assert.Equal(expected.Samples, found.Samples);
        Assert.Equal(expected.Texts, found.Texts);
        Assert.Equal(expected.Images.data<float>().ToArray(), found.Images.data<float>().ToArray());
    }

    [Fact]
    public void Other_views_are_made_and_everything_is_freed()
    {
        using var loader = SceneLoader.Create(Generator, Options with { Views = new() { Images = 1, Texts = 1, Augmentation = Augmentation.Drawings(32) } });
        var batch = loader.Next();
        Assert.Single(batch.MoreImages);
        Assert.Equal(4, Assert.Single(batch.MoreTexts).Count);
        batch.Dispose();
        Assert.True(batch.Images.IsInvalid && batch.MoreImages[0].IsInvalid);
    }

    [Fact]
    public void What_cannot_be_is_refused()
    {
        Assert.Contains("at least 1", Assert.Throws<PanoptesException>(static () => SceneLoader.Create(Generator, Options with { Count = 0 })).Message, StringComparison.Ordinal);
        Assert.Contains("A batch needs 40", Assert.Throws<PanoptesException>(static () => SceneLoader.Create(Generator, Options with { BatchSize = 40 })).Message, StringComparison.Ordinal);
    }
}
