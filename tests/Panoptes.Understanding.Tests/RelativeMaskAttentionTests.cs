using Panoptes.Representation;

namespace Panoptes.Understanding.Tests;

public sealed class RelativeMaskAttentionTests
{
    static Tensor Halves()
    {
        // The left half, the right half, everything, nothing.
        var masks = full([1, 4, 32, 32], -5f);
        masks[0, 0].narrow(1, 0, 16).fill_(5);
        masks[0, 1].narrow(1, 16, 16).fill_(5);
        masks[0, 2].fill_(5);
        return masks;
    }

    [Fact]
    public void Each_mask_sees_its_own_part_of_the_image_alone()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = MaskClipPanopticTiny.Model();
        var (pixels, changed) = (randn([1, 3, 32, 32], generator: new Generator(1)), randn([1, 3, 32, 32], generator: new Generator(1)));
        changed.narrow(3, 16, 16).normal_(generator: new Generator(2));
        // Patches do not look at each other here, so that nothing else comes from right to left.
        foreach (var block in ((OpenClipVision)model.Clip.Visual).Transformer.Resblocks)
        {
            block.Attn.OutProj.Weight.Value.zero_();
            block.Attn.OutProj.Bias!.Value.zero_();
        }
        var (before, after) = (model.Forward(pixels, Halves()), model.Forward(changed, Halves()));
        Assert.Equal([1, 4, 12], before.Embeddings.shape);
        Assert.Equal(3, before.Masks.Count);
        Assert.True((before.Embeddings.norm(-1) - 1).abs().max().item<float>() < 1e-5);
        Assert.True((before.Embeddings[0, 0] - after.Embeddings[0, 0]).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void Scores_of_patches_are_the_mean_of_clips_and_the_masks_own()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = MaskClipPanopticTiny.Model();
        var attention = model.Attentions[0];
        var (query, key, value) = (randn([1, 2, 4, 8], generator: new Generator(4)), randn([1, 2, 17, 8], generator: new Generator(5)), randn([1, 2, 17, 8], generator: new Generator(6)));
        var (patches, masks) = (randn([1, 16, 16], generator: new Generator(7)), Halves());
        var seen = ones([1, 1, 4, 17], dtype: ScalarType.Bool);
        seen[0, 0, 3].narrow(0, 1, 16).fill_(false);
        var (attended, change) = attention.Forward(query, key, value, patches, masks, seen);
        Assert.Equal(0, change.abs().max().item<float>());
        // By hand, head by head: the class token's score whole, the patches' averaged; a mask of nothing sees the class token alone.
        var embedded = attention.MaskNorm.Forward(attention.MaskEmbedding.Forward(masks.tanh().view(4, 1, 32, 32)));          // [masks, patches, width]
        var keys = attention.Key.Forward(patches)[0];                                                                         // [patches, width]
        for (var head = 0; head < 2; head++)
        {
            var scores = query[0, head].matmul(key[0, head].t()) / Math.Sqrt(8);                                               // [masks, 1 + patches]
            var own = (embedded * keys).narrow(2, 8 * head, 8).sum(-1) / Math.Sqrt(8);
            scores = cat([scores.narrow(1, 0, 1), (scores.narrow(1, 1, 16) + own) / 2], 1);
            var right = scores.softmax(-1).matmul(value[0, head]);
            Assert.True((attended[0, head].narrow(0, 0, 3) - right.narrow(0, 0, 3)).abs().max().item<float>() < 1e-5);
            Assert.True((attended[0, head, 3] - value[0, head, 0]).abs().max().item<float>() < 1e-5);
        }
    }

    [Fact]
    public void Image_tokens_never_see_the_masks_and_one_mask_never_another()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = MaskClipPanopticTiny.Model();
        var pixels = randn([1, 3, 32, 32], generator: new Generator(1));
        var (all, one) = (model.Forward(pixels, Halves()), model.Forward(pixels, Halves().narrow(1, 1, 1)));
        Assert.True((all.Embeddings.narrow(1, 1, 1) - one.Embeddings).abs().max().item<float>() < 1e-5);
        Assert.True((all.Masks[^1].narrow(1, 1, 1) - one.Masks[^1]).abs().max().item<float>() < 1e-4);
    }

    [Fact]
    public void An_untrained_refinement_leaves_the_masks_and_training_moves_them()
    {
        using var scope = NewDisposeScope();
        using var model = MaskClipPanopticTiny.Model();
        model.Clip.RequiresGrad(false);
        var pixels = GroupVitTiny.Pixels(32);
        var output = model.Forward(pixels);
        Assert.True((output.Masks[0] - output.Masks[^1]).abs().max().item<float>() < 1e-6);
        var texts = DualEncoder.Normalize(model.Clip.Texts.Encode(OpenSegTiny.Words.flatten(0, 1))).detach();
        var target = zeros(1, 32, 32);
        target.narrow(1, 0, 16).fill_(1);
        MaskTarget[] targets = [new(tensor((long[])[0]), target), new(tensor((long[])[1]), 1 - target)];
        MaskLoss.Total(model.Predictions(output, texts), targets, new() { Points = 64 }, new Generator(3)).backward();
        Assert.All(model.Clip.Parameters(), static p => Assert.Null(p.Grad));
        Assert.True(model.Attentions[^1].Refinement.Weight.Grad!.abs().max().item<float>() > 0);
        Assert.True(model.Attentions[0].Key.Weight.Grad!.abs().max().item<float>() > 0);
        Assert.True(model.Proposer.Queries.Grad!.abs().max().item<float>() > 0);
    }

    [Fact]
    public void Crops_are_each_mask_alone()
    {
        using var scope = NewDisposeScope();
        using var model = MaskClipTests.Model(MaskClipTests.OpenClip);
        var pixels = randn([3, 32, 32], generator: new Generator(1));
        var crops = MaskClipPanopticModel.EmbedCrops(model, pixels, Halves()[0], batch: 3);
        Assert.Equal([4, 12], crops.shape);
        using var noGrad = no_grad();
        Tensor Alone(Tensor part) => DualEncoder.Normalize(model.Images.Encode(nn.functional.interpolate(part.unsqueeze(0), [16, 16], mode: InterpolationMode.Bilinear, align_corners: false)))[0];
        Assert.True((crops[0] - Alone(pixels.narrow(2, 0, 16))).abs().max().item<float>() < 1e-5);
        Assert.True((crops[2] - Alone(pixels)).abs().max().item<float>() < 1e-5);
        Assert.True((crops[3] - Alone(pixels)).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void Masks_of_another_size_and_towers_without_a_class_token_are_refused()
    {
        using var scope = NewDisposeScope();
        using var model = MaskClipPanopticTiny.Model();
        Assert.Equal("Masks of 16x16 pixels were given for an image of 32x32.", Assert.Throws<PanoptesException>(() => model.Forward(GroupVitTiny.Pixels(32), zeros(2, 3, 16, 16))).Message);
        Assert.Equal("An image of 30x30 pixels was given; expected sides that are multiples of 8.", Assert.Throws<PanoptesException>(() => model.Forward(GroupVitTiny.Pixels(30), zeros(2, 3, 30, 30))).Message);
        var resnet = OpenClipConfig.Read(MaskClipTests.OpenClipResNet, "open_clip_config.json");
        Assert.Contains("no vision transformer with a class token", Assert.Throws<PanoptesException>(() => new MaskClipPanopticModel(new() { Clip = resnet })).Message, StringComparison.Ordinal);
    }
}
