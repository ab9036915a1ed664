using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Training;

namespace Panoptes.Understanding.Tests;

public sealed class XDecoderTests
{
    static T Fresh<T>(string architecture) where T : Module
    {
        var model = (T)PromptableModels.All.Single(e => e.Architecture == architecture).Build(new(XDecoderTiny.Tiny[architecture].Config, architecture, static _ => null));
        model.Initialize(new Generator(7));
        return model;
    }

    static readonly MaskLossOptions Few = new() { Points = 64 };

    /// <summary>The loss before and after some steps on one batch.</summary>
    static (double Before, double After) Train(Module model, int steps, Func<Generator, Tensor> loss, double rate = 3e-3)
    {
        using var optimizer = new AdamW(ParameterGroup.Of(model, 0));
        var losses = new List<double>();
        for (var i = 0; i < steps; i++)
        {
            using var scope = NewDisposeScope();
            using var random = new Generator(5);
            optimizer.ZeroGradients();
            var value = loss(random);
            value.backward();
            losses.Add(value.item<float>());
            optimizer.Step(rate);
        }
        return (losses[0], losses[^1]);
    }

    static MaskTarget[] Targets(int side)
    {
        var (left, right) = (XDecoderTiny.Halves(side, true), XDecoderTiny.Halves(side, false));
        return [new(tensor([0L, 1L]), stack([left[0], right[0]])), new(tensor([1L]), right[1].unsqueeze(0))];
    }

    static XDecoderBatch Batch() => new()
    {
        Pixels = XDecoderTiny.Pixels(32),
        ClassIds = XDecoderTiny.Ids(3, 4),
        Targets = Targets(32),
        CaptionIds = XDecoderTiny.Ids(2, 6),
        CaptionMask = tensor([1L, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [2, 6]),
        ExpressionIds = XDecoderTiny.Ids(3, 5),
        ExpressionImages = tensor([0L, 0L, 1L]),
        ExpressionTargets = cat([XDecoderTiny.Halves(32, true, 1), XDecoderTiny.Halves(32, false)]),
    };

    [Fact]
    public void X_Decoder_learns_masks_captions_retrieval_and_expressions_at_once()
    {
        using var scope = NewDisposeScope();
        using var model = Fresh<XDecoderModel>(XDecoderTiny.XDecoder);
        var batch = Batch();
        var all = model.Losses(batch, new() { Mask = Few });
        foreach (var part in new[] { all.Masks, all.Caption, all.Retrieval, all.Referring, all.Total }) Assert.True(double.IsFinite(part!.item<float>()));
        Assert.Equal(all.Masks!.item<float>() + (2 * all.Caption!.item<float>()) + (2 * all.Retrieval!.item<float>()) + all.Referring!.item<float>(), all.Total.item<float>(), 1e-3);
        var (before, after) = Train(model, 15, random => model.Losses(batch, new() { Mask = Few }, random).Total);
        Assert.True(after < 0.8 * before, $"{before} to {after}");
    }

    [Fact]
    public void What_is_not_known_of_a_batch_is_not_learned_from()
    {
        using var scope = NewDisposeScope();
        using var model = Fresh<XDecoderModel>(XDecoderTiny.XDecoder);
        var batch = Batch();
        var captions = model.Losses(new() { Pixels = batch.Pixels, CaptionIds = batch.CaptionIds });
        Assert.True(captions is { Masks: null, Referring: null, Caption: not null, Retrieval: not null });
        Assert.Throws<PanoptesException>(() => model.Losses(new() { Pixels = batch.Pixels }));
        Assert.Throws<PanoptesException>(() => model.Losses(new() { Pixels = batch.Pixels, Targets = batch.Targets }));
    }

    [Fact]
    public void A_caption_is_told_word_by_word_as_all_of_it_at_once_says()
    {
        using var scope = NewDisposeScope();
        using var model = Fresh<XDecoderModel>(XDecoderTiny.XDecoder);
        var batch = new XDecoderBatch { Pixels = XDecoderTiny.Pixels(32), CaptionIds = XDecoderTiny.Ids(2, 6) };
        Train(model, 25, random => model.Losses(batch, new() { Mask = Few }, random).Total, 1e-2);
        using var noGrad = no_grad();
        var maps = model.Encode(batch.Pixels);
        var told = model.Caption(maps, most: 7);
        for (var i = 0; i < 2; i++)
        {
            long[] ids = [38, .. told[i].Select(static v => (long)v)];
            var logits = model.Decoder.Forward(maps.Select(tensor([(long)i])), caption: model.Texts.Words(tensor(ids, [1, ids.Length])), vocabulary: model.Texts.Vocabulary).Last.CaptionLogits!;
            var next = logits[0].argmax(-1).data<long>().ToArray();
            Assert.Equal(ids[1..], next[..^1]);
            Assert.True(told[i].Length == 6 || next[^1] == 39, "It ends where its end is the likeliest, or at its length.");
        }
    }

    [Fact]
    public void Words_of_a_caption_see_none_that_follow_and_latent_queries_see_no_words()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh<XDecoderModel>(XDecoderTiny.XDecoder);
        var maps = model.Encode(XDecoderTiny.Pixels(32));
        var (one, other) = (Read(XDecoderTiny.Ids(2, 6)), Read(cat([XDecoderTiny.Ids(2, 6).narrow(1, 0, 3), XDecoderTiny.Ids(2, 6, 20).narrow(1, 3, 3)], 1)));
        Assert.True(one.MaskLogits.allclose(other.MaskLogits));
        Assert.True(one.CaptionLogits!.narrow(1, 0, 3).allclose(other.CaptionLogits!.narrow(1, 0, 3), 1e-4, 1e-5));
        Assert.False(one.CaptionLogits!.allclose(other.CaptionLogits!));

        XDecoderStep Read(Tensor ids) => model.Decoder.Forward(maps, caption: model.Texts.Words(ids), vocabulary: model.Texts.Vocabulary).Last;
    }

    [Fact]
    public void SEEM_learns_what_prompts_mean_in_any_combination_and_remembers()
    {
        using var scope = NewDisposeScope();
        using var model = Fresh<SeemModel>(XDecoderTiny.Seem);
        var (pixels, wanted) = (XDecoderTiny.Pixels(32), XDecoderTiny.Halves(32, true));
        var points = SeemPrompts.Points(wanted.ne(0), null, 10);
        var (before, after) = Train(model, 15, random =>
        {
            var maps = model.Encode(pixels);
            var first = model.Answer(maps, new() { Points = points });
            var second = model.Answer(maps, XDecoderTiny.Question(model, maps, new(first.Memory.Slots, first.MaskLogits)));
            return SeemModel.Loss(first, wanted, Few, random) + SeemModel.Loss(second, wanted, Few, random, auxiliary: false);
        });
        Assert.True(after < 0.8 * before, $"{before} to {after}");

        using var noGrad = no_grad();
        var seen = model.Encode(pixels);
        var turn = model.Answer(seen, new() { Points = points });
        var next = model.Answer(seen, new() { Points = points, Memory = turn.Memory });
        Assert.False(turn.MaskLogits.allclose(next.MaskLogits));
        Assert.Throws<PanoptesException>(() => model.Answer(seen, new()));
        Assert.Throws<PanoptesException>(() => model.Answer(seen, new() { ExamplePoints = points }));
    }

    [Fact]
    public void Padding_of_prompts_changes_no_answer()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh<SeemModel>(XDecoderTiny.Seem);
        var maps = model.Encode(XDecoderTiny.Pixels(32));
        var masks = zeros(2, 32, 32, dtype: ScalarType.Bool);
        masks[0, 3, 4] = true;
        masks[1].narrow(0, 5, 4).fill_(true);
        // The first image has one point, and is filled up to what the second has; alone it needs no padding.
        var together = model.Answer(maps, new() { Points = SeemPrompts.Points(masks) });
        var alone = model.Answer(maps.Select(tensor([0L])), new() { Points = SeemPrompts.Points(masks.narrow(0, 0, 1)) });
        Assert.True(together.Steps[^1].MaskLogits[0].allclose(alone.Steps[^1].MaskLogits[0], 1e-4, 1e-4));
        Assert.True(together.Steps[^1].Similarity[0].allclose(alone.Steps[^1].Similarity[0], 1e-3, 1e-4));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Of_more_points_than_are_wanted_as_many_are_taken_spread_over_all(bool drawn)
    {
        using var scope = NewDisposeScope();
        var masks = zeros(2, 20, 30, dtype: ScalarType.Bool);
        masks[0].narrow(0, 2, 10).fill_(true);                                                   // 300 pixels
        masks[1, 7, 3] = true;
        var points = SeemPrompts.Points(masks, null, 12, drawn ? new Generator(1) : null);
        Assert.Equal([2L, 12, 2], points.Places.shape);
        Assert.Equal([12L, 1], points.Real.sum(1).data<long>().ToArray());
        var rows = points.Places[0].select(1, 1).mul(20).round().to(ScalarType.Int64).data<long>().ToArray();
        Assert.Equal(rows.Order(), rows);
        Assert.All(rows, static r => Assert.InRange(r, 2, 11));
        Assert.True(rows.Distinct().Count() > 4, string.Join(' ', rows));
        Assert.Equal(3.0 / 30, points.Places[1, 0, 0].item<float>(), 1e-5);
    }

    [Theory]
    [InlineData(UniTask.Classification)]
    [InlineData(UniTask.Detection)]
    [InlineData(UniTask.Retrieval)]
    [InlineData(UniTask.Captioning)]
    [InlineData(UniTask.Answering)]
    public void Uni_Perceiver_learns_every_task_by_the_likelihood_of_its_targets(UniTask task)
    {
        using var scope = NewDisposeScope();
        using var model = Fresh<UniPerceiverModel>(XDecoderTiny.Uni);
        var batch = new UniBatch
        {
            Pixels = XDecoderTiny.Pixels(64),
            TargetIds = XDecoderTiny.Ids(3, 4),
            Labels = tensor([2L, 0L]),
            QuestionIds = XDecoderTiny.Ids(2, 5, 11),
            Regions = Targets(64),
            CaptionIds = XDecoderTiny.Ids(2, 6),
            VocabularyIds = arange(40, dtype: ScalarType.Int64),
        };
        model.Train();
        var (before, after) = Train(model, 12, random => model.Loss(task, batch, Few, random));
        Assert.True(after < 0.9 * before, $"{before} to {after}");
        Assert.Throws<PanoptesException>(() => model.Loss(task, task == UniTask.Detection ? new() { Pixels = batch.Pixels, TargetIds = batch.TargetIds } : new() { Pixels = batch.Pixels }));
    }

    [Fact]
    public void Regions_that_most_look_like_something_are_taken_and_named()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh<UniPerceiverModel>(XDecoderTiny.Uni);
        var images = model.Encode(XDecoderTiny.Pixels(64));
        Assert.Equal([2L, 4, 4], images.Proposals.Boxes.shape);
        var best = images.Proposals.Objectness.data<float>().ToArray()[..4];
        Assert.Equal(best.OrderDescending(), best);
        var named = model.Segment(images, model.Targets(XDecoderTiny.Ids(3, 4)));
        Assert.Equal([2L, 4, 3], named.Classes.shape);
        var captions = model.Caption(images, arange(40, dtype: ScalarType.Int64), most: 5);
        Assert.All(captions, static c => Assert.InRange(c.Length, 0, 4));
    }

    [Fact]
    public void Boxes_enclose_masks()
    {
        using var scope = NewDisposeScope();
        var masks = zeros(2, 10, 20);
        masks[0].narrow(0, 2, 3).narrow(1, 5, 10).fill_(1);
        masks[1, 9, 19] = 1;
        Assert.Equal([0.5f, 0.35f, 0.5f, 0.3f, 0.975f, 0.95f, 0.05f, 0.1f], UniPerceiverModel.BoxesOf(masks).data<float>().ToArray().Select(static v => MathF.Round(v, 4)));
    }
}
