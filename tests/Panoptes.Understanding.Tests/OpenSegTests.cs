using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding.Tests;

public sealed class OpenSegTests
{
    [Fact]
    public void A_labeled_mask_is_learned_by_the_proposal_that_overlaps_it_best_and_an_empty_one_by_none()
    {
        using var scope = NewDisposeScope();
        var logits = tensor((float[])[20, 20, -20, -20, -20, -20, 20, -20], [1, 2, 2, 2]).requires_grad_();
        var labels = tensor((float[])[1, 1, 0, 0, 0, 0, 0, 0], [1, 2, 2, 2]);
        var loss = OpenSeg.MaskLoss(logits, labels);
        Assert.Equal(0, loss.item<float>(), 1e-4);
        var half = OpenSeg.MaskLoss(logits, tensor((float[])[0, 0, 1, 1], [1, 1, 2, 2]));
        Assert.Equal(1 - ((2.0 * 1) + 1) / (2 + 1 + 1), half.item<float>(), 1e-4);
    }

    [Fact]
    public void A_caption_without_words_and_a_mask_without_pixels_give_numbers()
    {
        using var scope = NewDisposeScope();
        var regions = OpenSeg.Regions(zeros(2, 3, 4, 4), randn([2, 5, 4, 4], generator: new Generator(1)));
        var words = randn([2, 6, 5], generator: new Generator(2));
        var loss = OpenSeg.GroundingLoss(OpenSeg.Similarity(regions, words, zeros([2, 6], dtype: ScalarType.Bool)));
        Assert.True(float.IsFinite(loss.item<float>()));
    }

    [Fact]
    public void Captions_and_masks_teach_a_tiny_model()
    {
        using var scope = NewDisposeScope();
        using var model = new OpenSegModel(ModelConfig.Parse<OpenSegConfig>(OpenSegTiny.OpenSeg, "config.json"));
        model.Initialize(new Generator(7));
        model.Clip.RequiresGrad(false);
        var pixels = GroupVitTiny.Pixels(64);
        var words = DualEncoder.Normalize(model.EmbedWords(OpenSegTiny.Words)).detach();
        var masks = zeros(2, 1, 64, 64);
        masks.narrow(2, 0, 32).fill_(1);
        var first = 0f;
        var trained = model.Parameters().Where(static p => p.RequiresGrad).ToArray();
        for (var step = 0; step < 12; step++)
        {
            using var inner = NewDisposeScope();
            foreach (var parameter in trained) parameter.ClearGrad();
            var loss = OpenSegModel.Loss(model.Forward(pixels), words, ones(2, 2), masks);
            loss.backward();
            using (no_grad())
                foreach (var parameter in trained) parameter.Value.sub_(parameter.Grad!.sign() * 0.003);
            if (step == 0) first = loss.item<float>();
            else if (step == 11) Assert.True(loss.item<float>() < first - 0.1, $"{first} to {loss.item<float>()}");
        }
    }

    [Fact]
    public void A_segmenter_learns_maskclips_labels_and_then_labels_for_itself()
    {
        using var scope = NewDisposeScope();
        using var teacher = MaskClipTests.Model(MaskClipTests.OpenClip);
        using var student = new DenseClipModel(ModelConfig.Parse<DenseClipConfig>(OpenSegTiny.DenseClip, "config.json"));
        student.Initialize(new Generator(9));
        var pixels = GroupVitTiny.Pixels(16);
        var texts = DualEncoder.Normalize(teacher.Texts.Encode(OpenSegTiny.Words.flatten(0, 1))).detach();
        var labels = MaskClipPlus.Labels(teacher, pixels, texts, new() { DenoiseThreshold = 0, KeySmoothingThreshold = 0 });
        Assert.Equal([2, 2, 2], labels.shape);
        Assert.False(labels.requires_grad);
        var logits = student.Forward(pixels, texts);
        Assert.Equal([2, 4, 4, 4], logits.shape);
        var loss = MaskClipPlus.Loss(logits, labels);
        var large = labels.repeat_interleave(2, 1).repeat_interleave(2, 2);
        Assert.Equal(nn.functional.cross_entropy(logits, large).item<float>(), loss.item<float>(), 1e-4);
        loss.backward();
        Assert.True(student.PixelEmbedding.Weight.Grad!.abs().max().item<float>() > 0);
        Assert.True(MaskClipPlus.OwnLabels(logits, least: 1.1).eq(MaskClipPlus.Ignored).all().item<bool>());
        Assert.Equal(0, MaskClipPlus.Loss(logits, full_like(labels, MaskClipPlus.Ignored)).item<float>());
        Assert.True(MaskClipPlus.OwnLabels(logits).eq(logits.argmax(1)).all().item<bool>());
    }
}
