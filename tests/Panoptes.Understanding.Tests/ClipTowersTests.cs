using Panoptes.Representation;

namespace Panoptes.Understanding.Tests;

public sealed class ClipTowersTests
{
    [Fact]
    public void Models_begin_with_the_towers_of_a_trained_clip()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var clip = Models.Load<OpenClipModel>(Path.Combine(Panoptes.Parity.Goldens.Repository, "zoo", "clip-emoji"), new() { Dtype = ScalarType.Float32 });
        var sizes = new XDecoderConfig { HiddenSize = 32, NumAttentionHeads = 2, DecoderLayers = 2, FeedforwardSize = 32, MaskSize = 16, NumQueries = 4 };
        using var model = ClipTowers.XDecoder(ClipTowers.WithTowersOf(new XDecoderModelConfig { DecoderConfig = sizes, ImageSize = 96 }, clip), clip, new Generator(1));
        var ids = tensor([4608L, 320, 321, 4609, 0, 4608, 700, 4609, 0, 0], [2, 5]);
        var (ours, theirs) = (model.EmbedTexts(ids), DualEncoder.Normalize(clip.Texts.Encode(ids)));
        Assert.True(ours.allclose(theirs, 1e-4, 1e-5));
        var pixels = randn([1, 3, 64, 64], generator: new Generator(2));
        Assert.True(clip.Images.Encode(pixels).allclose(((IImageTower)model.Pyramid.Backbone).Encode(pixels)));
        // Images of another size than the CLIP's.
        Assert.Equal([1L, 16, 24, 24], model.Encode(randn([1, 3, 96, 96])).MaskFeatures.shape);

        using var seem = ClipTowers.Seem(ClipTowers.WithTowersOf(new SeemModelConfig { DecoderConfig = sizes }, clip), clip, new Generator(1));
        Assert.True(seem.XDecoder.EmbedTexts(ids).allclose(theirs, 1e-4, 1e-5));
        using var uni = ClipTowers.UniPerceiver(ClipTowers.WithTowersOf(new UniPerceiverConfig { HiddenSize = 32, NumAttentionHeads = 2, NumProposals = 4, NumSelected = 4, ProposalLayers = 1, DecoderLayers = 1 }, clip), clip, new Generator(1));
        Assert.True(uni.TextModel.Forward(ids, null, null).Tokens.allclose(model.Texts.LangEncoder.Forward(ids, null, null).Tokens));
    }
}
