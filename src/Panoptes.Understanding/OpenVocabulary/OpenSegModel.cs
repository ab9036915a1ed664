using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>The config of <see cref="OpenSegModel"/> ("openseg").</summary>
public sealed record OpenSegConfig : ModelConfig
{
    /// <summary>The image tower that is built upon, and the text tower that names what is found.</summary>
    public OpenClipConfig Clip { get; init; } = new();

    /// <summary>Of the pyramid's map, the queries and the mask features; a multiple of 4.</summary>
    public int Width { get; init; } = 128;

    /// <summary>Mask proposals.</summary>
    public int NumQueries { get; init; } = 32;
    public int DecoderLayers { get; init; } = 2;
    public int DecoderHeads { get; init; } = 4;
    public string ModelType { get; init; } = "openseg";
    public string[]? Architectures { get; init; } = ["OpenSegModel"];
}

/// <summary>What <see cref="OpenSegModel.Forward"/> returns.</summary>
/// <param name="MaskLogits">[b, queries, height, width]: proposals, before the sigmoid</param>
/// <param name="Regions">[b, queries, embedding]: the mean of what each covers</param>
/// <param name="Pixels">[b, embedding, height, width]</param>
public sealed record OpenSegOutput(Tensor MaskLogits, Tensor Regions, Tensor Pixels);

/// <summary>
/// OpenSeg (Ghiasi et al. 2022, arXiv:2112.12143) upon an open_clip model: a feature pyramid gives every pixel an embedding, queries propose masks, and the regions under them are aligned with
/// the words of captions (<see cref="OpenSeg"/>). The paper's training: class-agnostic masks and captions, in which every noun and adjective is a text of its own. Keys: clip, pyramid, proposer, pixel_embedding.
/// </summary>
public sealed class OpenSegModel(OpenSegConfig config) : Module
{
    public OpenSegConfig Config { get; } = config;

    public OpenClipModel Clip { get; } = new(config.Clip);

    public FeaturePyramid Pyramid { get; } = new(config.Clip, config.Width);

    public MaskProposer Proposer { get; } = new(config.Width, config.NumQueries, config.DecoderLayers, config.DecoderHeads);

    public Conv2d PixelEmbedding { get; } = new(config.Width, config.Clip.EmbedDim, 1);

    /// <param name="pixels">[b, 3, height, width], sides multiples of 32 (of the patch, for a vision transformer)</param>
    public OpenSegOutput Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var map = Pyramid.Forward(FeaturePyramid.Maps(Clip.Visual, pixels));
        var (masks, embeddings) = (Proposer.Forward(map), PixelEmbedding.Forward(map));
        var regions = OpenSeg.Regions(masks.sigmoid(), embeddings);
        return new(masks.MoveToOuterDisposeScope(), regions.MoveToOuterDisposeScope(), embeddings.MoveToOuterDisposeScope());
    }

    /// <summary>Each word as a text of its own: [captions, words, embedding].</summary>
    /// <param name="ids">[captions, words, tokens] int64</param>
    public Tensor EmbedWords(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return Clip.Texts.Encode(ids.flatten(0, 1)).unflatten(0, [ids.shape[0], ids.shape[1]]).MoveToOuterDisposeScope();
    }

    /// <summary>The paper's loss: grounding by captions, plus masks where there are any.</summary>
    /// <param name="output">Of the images.</param>
    /// <param name="words">[b, words, embedding] of <see cref="EmbedWords"/></param>
    /// <param name="wordMask">[b, words], false where there is none</param>
    /// <param name="masks">[b, labels, height, width], 0 or 1, of any size; null: captions alone.</param>
    /// <param name="tau">Both temperatures.</param>
    /// <returns>A scalar with its gradient.</returns>
    public static Tensor Loss(OpenSegOutput output, Tensor words, Tensor wordMask, Tensor? masks = null, double tau = 0.1)
    {
        using var scope = NewDisposeScope();
        var loss = OpenSeg.GroundingLoss(OpenSeg.Similarity(output.Regions, words, wordMask, tau), tau);
        if (masks is not null)
        {
            var size = output.MaskLogits.shape[2..];
            var labels = masks.to(output.MaskLogits.dtype);
            if (labels.shape[2] != size[0] || labels.shape[3] != size[1]) labels = nn.functional.interpolate(labels, size, mode: InterpolationMode.Area);
            loss = loss + OpenSeg.MaskLoss(output.MaskLogits, labels);
        }
        return loss.MoveToOuterDisposeScope();
    }

    /// <summary>How likely each text is at each place: regions choose among the texts by their cosines times CLIP's scale, and a place has the choice of the proposals that cover it.</summary>
    /// <param name="pixels">As for <see cref="Forward"/>.</param>
    /// <param name="texts">[texts, embedding], normalized</param>
    /// <returns>[b, texts, height / 4, width / 4] from 0 to 1, whose sum over the texts is 1</returns>
    public Tensor Segment(Tensor pixels, Tensor texts)
    {
        using var scope = NewDisposeScope();
        var output = Forward(pixels);
        var choice = DualEncoder.Normalize(output.Regions).to(texts.dtype).matmul(texts.t()).mul(Clip.LogitScale.Value.exp()).softmax(-1);          // [b, queries, texts]
        var masks = output.MaskLogits.to(texts.dtype).sigmoid();
        var share = masks / masks.sum(1, keepdim: true).clamp(min: 1e-6);
        return choice.transpose(1, 2).matmul(share.flatten(2)).unflatten(2, [share.shape[2], share.shape[3]]).MoveToOuterDisposeScope();
    }
}

/// <summary>The config of <see cref="DenseClipModel"/> ("dense_clip").</summary>
public sealed record DenseClipConfig : ModelConfig
{
    /// <summary>The image tower that is built upon, and the text tower that is its classifier.</summary>
    public OpenClipConfig Clip { get; init; } = new();

    /// <summary>Of the pyramid's map.</summary>
    public int Width { get; init; } = 128;
    public string ModelType { get; init; } = "dense_clip";
    public string[]? Architectures { get; init; } = ["DenseClipModel"];
}

/// <summary>
/// A segmenter whose classifier is CLIP's text tower, so that its classes are any words: what MaskCLIP+ trains on MaskCLIP's labels (<see cref="MaskClipPlus"/>), and later on its own.
/// Keys: clip, pyramid, pixel_embedding.
/// </summary>
public sealed class DenseClipModel(DenseClipConfig config) : Module
{
    public DenseClipConfig Config { get; } = config;

    public OpenClipModel Clip { get; } = new(config.Clip);

    public FeaturePyramid Pyramid { get; } = new(config.Clip, config.Width);

    public Conv2d PixelEmbedding { get; } = new(config.Width, config.Clip.EmbedDim, 1);

    /// <param name="pixels">[b, 3, height, width], sides multiples of 32 (of the patch, for a vision transformer)</param>
    /// <param name="texts">[texts, embedding], normalized</param>
    /// <returns>[b, texts, height / 4, width / 4]: cosine times CLIP's scale</returns>
    public Tensor Forward(Tensor pixels, Tensor texts)
    {
        using var scope = NewDisposeScope();
        var dense = PixelEmbedding.Forward(Pyramid.Forward(FeaturePyramid.Maps(Clip.Visual, pixels)));
        dense = dense / dense.norm(1, keepdim: true).clamp(min: 1e-12);
        return MaskClip.Logits(dense, texts.to(dense.dtype)).mul(Clip.LogitScale.Value.exp()).MoveToOuterDisposeScope();
    }
}
