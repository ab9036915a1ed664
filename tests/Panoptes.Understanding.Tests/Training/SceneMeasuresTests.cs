using Panoptes.Data;
using Panoptes.Representation.Training;
using Panoptes.Understanding.Training;

namespace Panoptes.Understanding.Tests.Training;

/// <summary>What is known is measured as right, and what is told of the background as wrong.</summary>
public sealed class SceneMeasuresTests
{
    static readonly EmojiSet emoji = EmojiSet.Open().Subset(30);

    readonly SceneTests tests = new(emoji, new() { Size = 32, MinObjects = 1, MaxObjects = 3 }, 6);

    /// <summary>Every thing in a query of its own, as a model would tell it that knows all; more queries tell what is wished.</summary>
    MaskPrediction Perfect(SceneBatch batch, params (int Class, Tensor Mask)[] more)
    {
        var (names, most) = (tests.Names.Count, batch.Scenes.Max(static s => s.Objects.Count) + more.Length);
        var (classes, masks) = (zeros(batch.Count, most, names + 1), full([batch.Count, most, 32, 32], -10f));
        for (var i = 0; i < batch.Count; i++)
        {
            var things = batch.Scenes[i].Objects.Count;
            for (var k = 0; k < most; k++)
            {
                var isThing = k < things;
                var extra = k >= things && k < things + more.Length ? more[k - things] : default;
                classes[i, k, isThing ? tests.NameOf(batch.Scenes[i].Objects[k].Concept) : extra.Mask is null ? names : extra.Class] = 20;
                if (isThing) masks[i, k] = batch.Mask(i, [k]).to(ScalarType.Float32) * 20 - 10;
                else if (extra.Mask is not null) masks[i, k] = batch.Ids[i].eq(0).logical_and(extra.Mask).to(ScalarType.Float32) * 20 - 10;
            }
        }
        return new(classes, masks);
    }

    [Fact]
    public void A_model_that_knows_everything_has_full_marks_and_one_that_sees_things_in_the_background_has_not()
    {
        var perfect = SceneMeasures.Things(tests, batch => Perfect(batch)).ToDictionary();
        Assert.True(perfect.Values.Min() > 0.97, string.Join(" ", perfect));             // masks are enlarged and brought back
        var seeing = SceneMeasures.Things(tests, batch => Perfect(batch, (0, ones(32, 32, dtype: ScalarType.Bool)))).ToDictionary();
        Assert.True(seeing["pq"] < perfect["pq"] - 0.01);
        Assert.True(seeing["miou"] < perfect["miou"] - 0.05);
    }

    [Fact]
    public void Captions_retrieval_and_references_are_right_where_they_are_the_labels_and_by_chance_elsewhere()
    {
        var captions = SceneMeasures.Captions(tests, static batch => batch.Captions).ToDictionary();
        Assert.Equal(1, captions["caption_f1"], 1e-9);
        Assert.True(captions["cider"] > 5 && captions["cider_chance"] < captions["cider"] / 2);
        var done = 0;
        var retrieval = SceneMeasures.Retrieval(tests, batch =>
        {
            var own = eye(6).narrow(0, done, batch.Count);
            done += batch.Count;
            return (own, own);
        }).ToDictionary();
        Assert.Equal(1, retrieval["retrieval"]);

        var said = new List<string>();
        var referring = SceneMeasures.Referring(tests, (batch, texts, images) =>
        {
            said.AddRange(texts);
            return stack([.. texts.Select((t, k) => batch.Mask(images[k], tests.References(EmojiSplit.HeldOutStyle, images[k]).First(r => r.Text == t && r.Objects.Count == 1).Objects).to(ScalarType.Float32) * 2 - 1)]);
        }).ToDictionary();
        Assert.NotEmpty(said);
        Assert.Equal((1, 1), (referring["referring_ciou"], referring["referring_50"]));
        Assert.True(SceneMeasures.Referring(tests, static (batch, texts, _) => full([texts.Count, 32, 32], -1f)).ToDictionary()["referring_ciou"] == 0);
    }
}
