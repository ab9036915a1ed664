using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// MaskCLIP of San Diego (Ding et al. 2023, "Open-Vocabulary Universal Image Segmentation with MaskCLIP", arXiv:2208.08984): mask class tokens, one a proposal, go through a frozen CLIP beside the
// image's own tokens and see these through their masks only, so that one pass classifies all proposals; what they attend to refines the masks in turn. Not to be confused with MaskClip
// (Zhou et al. 2022). Where the paper's text and the authors' code differ, this follows the code.

/// <summary>The config of <see cref="MaskClipPanopticModel"/> ("maskclip_panoptic").</summary>
public sealed record MaskClipPanopticConfig : ModelConfig
{
    /// <summary>A vision transformer of open_clip's with a class token.</summary>
    public OpenClipConfig Clip { get; init; } = new();

    /// <summary>Of the map that proposals are made from; a multiple of 4.</summary>
    public int Width { get; init; } = 128;

    /// <summary>Mask proposals.</summary>
    public int NumQueries { get; init; } = 32;
    public int DecoderLayers { get; init; } = 2;
    public int DecoderHeads { get; init; } = 4;

    /// <summary>Every how many of CLIP's layers the masks take part in the attention and are refined (the authors' 6 of 24).</summary>
    public int MaskInterval { get; init; } = 6;
    public string ModelType { get; init; } = "maskclip_panoptic";
    public string[]? Architectures { get; init; } = ["MaskClipPanopticModel"];
}

/// <summary>
/// What one layer has beside CLIP's own weights: an embedding of the masks that is compared with other keys of the patches, and a head by which queries times keys become a
/// change of the masks. Keys: mask_embedding, mask_norm, key, refinement.
/// </summary>
public sealed class RelativeMaskAttention(int width, int heads, int patch) : Module
{
    /// <summary>A patch of a mask.</summary>
    public PatchEmbedding MaskEmbedding { get; } = new(1, width, patch, bias: true, Init.Normal(1.0 / patch));

    public LayerNorm MaskNorm { get; } = new(width);

    public Linear Key { get; } = new(width, width);

    /// <summary>Starts at zero, so that an untrained model leaves the proposals as they are.</summary>
    public Linear Refinement { get; } = new(width, patch * patch, initializer: Init.Zeros);

    /// <summary>The mask class tokens' attention and the masks' change.</summary>
    /// <param name="query">[b, heads, masks, size]: CLIP's queries of the mask class tokens</param>
    /// <param name="key">[b, heads, 1 + patches, size]: CLIP's keys of the class token and the patches</param>
    /// <param name="value">Likewise.</param>
    /// <param name="patches">[b, patches, width]: what the keys were made of</param>
    /// <param name="masks">[b, masks, height, width] logits</param>
    /// <param name="seen">[b, 1, masks, 1 + patches] bool</param>
    /// <returns>[b, heads, masks, size], and the change [b, masks, height, width]</returns>
    public (Tensor Attended, Tensor Change) Forward(Tensor query, Tensor key, Tensor value, Tensor patches, Tensor masks, Tensor seen)
    {
        using var scope = NewDisposeScope();
        var (batch, count, places, size) = (query.shape[0], query.shape[2], key.shape[2] - 1, query.shape[3]);
        var embedded = MaskNorm.Forward(MaskEmbedding.Forward(masks.tanh().flatten(0, 1).unsqueeze(1))).view(batch, count, places, heads, size);
        var keys = Key.Forward(patches).view(batch, 1, places, heads, size);
        // The mean of both scores: half of CLIP's own is its keys' half, half of the masks' is added.
        var own = (embedded * keys).sum(-1).permute(0, 3, 1, 2).mul(0.5 / Math.Sqrt(size));                                  // [b, heads, masks, patches]
        var bias = nn.functional.pad(own, [1, 0]).masked_fill(seen.logical_not(), double.NegativeInfinity);
        var clip = key.narrow(2, 1, places);
        var attended = Attention.Apply(query, cat([key.narrow(2, 0, 1), clip * 0.5], 2), value, bias);

        // Every channel's part of the score, [b, masks, patches, width], tells each pixel of the patch its change.
        var parts = Attention.MergeHeads(query).unsqueeze(2) * Attention.MergeHeads(clip).unsqueeze(1) * (1 / Math.Sqrt(size));
        var change = Refinement.Forward(Activation.QuickGelu.Apply(parts));                                                 // [b, masks, patches, patch²]
        var (rows, columns) = (masks.shape[2] / patch, masks.shape[3] / patch);
        change = change.view(batch, count, rows, columns, patch, patch).permute(0, 1, 2, 4, 3, 5).reshape(batch, count, rows * patch, columns * patch);
        return (attended.MoveToOuterDisposeScope(), change.MoveToOuterDisposeScope());
    }
}

/// <summary>What <see cref="MaskClipPanopticModel.Forward(Tensor)"/> returns.</summary>
/// <param name="Embeddings">[b, masks, embedding], normalized: what each mask covers, in the texts' space</param>
/// <param name="Masks">[b, masks, height, width] logits: the proposals, then as every refinement left them; the last counts, all are trained</param>
public sealed record MaskClipPanopticOutput(Tensor Embeddings, IReadOnlyList<Tensor> Masks);

/// <summary>
/// Mask proposals, classified and refined by a frozen CLIP. The proposals are made upon CLIP's own map, or come from any other model (<see cref="Forward(Tensor, Tensor)"/>). Train with
/// <see cref="Clip"/> frozen. Keys: clip, pyramid, proposer, attentions.N.
/// </summary>
public sealed class MaskClipPanopticModel : Module
{
    readonly int patch, heads, interval;

    /// <exception cref="PanoptesException">The image tower is no vision transformer with a class token.</exception>
    public MaskClipPanopticModel(MaskClipPanopticConfig config)
    {
        var v = config.Clip.VisionCfg;
        if (v.TimmModelName is not null || v.Layers.Length > 1 || v.AttentionalPool || v.PoolType != "tok")
            throw new PanoptesException("clip.vision_cfg is no vision transformer with a class token, which relative mask attention needs.");
        if (config.MaskInterval > v.Layers[0]) throw new PanoptesException($"mask_interval is {config.MaskInterval}; expected at most the image tower's {v.Layers[0]} layers.");
        (Config, patch, heads, interval) = (config, v.PatchSize ?? 16, v.Width / v.HeadWidth, config.MaskInterval);
        Clip = new(config.Clip);
        Pyramid = new(config.Clip, config.Width);
        Proposer = new(config.Width, config.NumQueries, config.DecoderLayers, config.DecoderHeads);
        Attentions = new(v.Layers[0] / interval, _ => new(v.Width, heads, patch));
    }

    public MaskClipPanopticConfig Config { get; }

    public OpenClipModel Clip { get; }

    public FeaturePyramid Pyramid { get; }

    public MaskProposer Proposer { get; }

    public ModuleList<RelativeMaskAttention> Attentions { get; }

    OpenClipVision Visual => (OpenClipVision)Clip.Visual;

    /// <summary>Class-agnostic proposals at the images' size: [b, masks, height, width] logits.</summary>
    /// <param name="pixels">[b, 3, height, width], sides multiples of the patch</param>
    public Tensor Propose(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var masks = Proposer.Forward(Pyramid.Forward(FeaturePyramid.Maps(Visual, pixels)));
        return nn.functional.interpolate(masks, [pixels.shape[2], pixels.shape[3]], mode: InterpolationMode.Bilinear, align_corners: false).MoveToOuterDisposeScope();
    }

    /// <summary>Proposes, classifies and refines.</summary>
    /// <param name="pixels">[b, 3, height, width], sides multiples of the patch</param>
    public MaskClipPanopticOutput Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var output = Forward(pixels, Propose(pixels));
        foreach (var tensor in (ReadOnlySpan<Tensor>)[output.Embeddings, .. output.Masks]) tensor.MoveToOuterDisposeScope();
        return output;
    }

    /// <summary>Classifies and refines masks from anywhere, in one pass for all of them.</summary>
    /// <param name="pixels">[b, 3, height, width], sides multiples of the patch</param>
    /// <param name="proposals">[b, masks, height, width] logits</param>
    /// <exception cref="PanoptesException">Masks of another size, or sides that are no whole patches.</exception>
    public MaskClipPanopticOutput Forward(Tensor pixels, Tensor proposals)
    {
        var (height, width) = (pixels.shape[2], pixels.shape[3]);
        if (height % patch != 0 || width % patch != 0) throw new PanoptesException($"An image of {width}x{height} pixels was given; expected sides that are multiples of {patch}.");
        if (proposals.shape[2] != height || proposals.shape[3] != width) throw new PanoptesException($"Masks of {proposals.shape[3]}x{proposals.shape[2]} pixels were given for an image of {width}x{height}.");
        using var scope = NewDisposeScope();
        var x = Visual.Embed(pixels, null, interpolate: true);
        // Every mask's token starts as the class token; nothing looks at it, so that CLIP's own tokens are what they are without masks.
        var tokens = x.narrow(1, 0, 1).expand(-1, proposals.shape[1], -1);
        var masks = new List<Tensor> { proposals.alias() };
        var seen = Seen(masks[0]);
        for (var i = 0; i < Visual.Transformer.Resblocks.Count; i++)
        {
            var block = Visual.Transformer.Resblocks[i];
            Tensor attended;
            if ((i + 1) % interval == 0 && i / interval < Attentions.Count)
            {
                var normed = block.Ln1.Forward(x);
                var (query, key, value) = block.Attn.QueriesKeysAndValues(block.Ln1.Forward(tokens), normed);
                (attended, var change) = Attentions[i / interval].Forward(query, key, value, normed.narrow(1, 1, normed.shape[1] - 1), masks[^1], seen);
                attended = block.Attn.OutProj.Forward(Attention.MergeHeads(attended));
                masks.Add(masks[^1] + change);
                seen = Seen(masks[^1]);
            }
            else attended = block.Attn.Forward(block.Ln1.Forward(x), seen, queries: block.Ln1.Forward(tokens));
            tokens = block.Rest(tokens, attended);
            if (i + 1 < Visual.Transformer.Resblocks.Count) x = block.Forward(x);
        }
        var embeddings = DualEncoder.Normalize(Visual.LnPost.Forward(tokens).matmul(Visual.Proj.Value));
        foreach (var mask in masks) mask.MoveToOuterDisposeScope();
        return new(embeddings.MoveToOuterDisposeScope(), masks);
    }

    /// <summary>What a mask's token sees: the class token, and every patch that the mask touches. [b, 1, masks, 1 + patches] bool</summary>
    Tensor Seen(Tensor masks) => nn.functional.pad(nn.functional.max_pool2d(masks.detach(), patch, patch).flatten(2).ge(0), [1, 0], value: 1).unsqueeze(1);

    /// <summary>
    /// What <see cref="MaskLoss.Total"/> trains, every refinement's masks with the same classes, and <see cref="SegmentationOutput.Panoptic"/> makes segments of (the last).
    /// </summary>
    /// <param name="output">Of images.</param>
    /// <param name="texts">[texts, embedding], normalized; the last one stands for what has no label ("other")</param>
    public IReadOnlyList<MaskPrediction> Predictions(MaskClipPanopticOutput output, Tensor texts)
    {
        var logits = Logits(output.Embeddings, texts);
        return [.. output.Masks.Select(m => new MaskPrediction(logits, m))];
    }

    /// <summary>How likely each text is at each pixel: masks choose among the texts, and a pixel has the choice of the masks that cover it.</summary>
    /// <param name="pixels">[b, 3, height, width], sides multiples of the patch</param>
    /// <param name="texts">[texts, embedding], normalized</param>
    /// <returns>[b, texts, height, width] from 0 to 1, whose sum over the texts is 1</returns>
    public Tensor Segment(Tensor pixels, Tensor texts)
    {
        using var scope = NewDisposeScope();
        var output = Forward(pixels);
        var masks = output.Masks[^1].to(texts.dtype).sigmoid();
        var share = masks / masks.sum(1, keepdim: true).clamp(min: 1e-6);
        var choice = Logits(output.Embeddings, texts).to(texts.dtype).softmax(-1).transpose(1, 2);
        return choice.matmul(share.flatten(2)).unflatten(2, [share.shape[2], share.shape[3]]).MoveToOuterDisposeScope();
    }

    /// <summary>How well each mask goes with each text: cosine times CLIP's scale, [b, masks, texts].</summary>
    /// <param name="embeddings">[b, masks, embedding], normalized</param>
    /// <param name="texts">[texts, embedding], normalized</param>
    public Tensor Logits(Tensor embeddings, Tensor texts)
    {
        using var scope = NewDisposeScope();
        return embeddings.matmul(texts.to(embeddings.dtype).t()).mul(Clip.LogitScale.Value.exp()).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// What this is measured against: every proposal is cut out of the image by its box, what does not belong to it is blackened, and CLIP embeds it by itself, so that an image
    /// goes through CLIP as often as it has proposals.
    /// </summary>
    /// <param name="clip">Any CLIP.</param>
    /// <param name="pixels">[3, height, width], prepared for it</param>
    /// <param name="masks">[masks, height, width] logits; one that is empty is embedded as the whole image</param>
    /// <param name="batch">Crops that go through CLIP at once.</param>
    /// <returns>[masks, embedding], normalized</returns>
    public static Tensor EmbedCrops(DualEncoder clip, Tensor pixels, Tensor masks, int batch = 32)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (side, inside) = (clip.Images.ImageSize, masks.ge(0));
        var parts = new List<Tensor>();
        for (var start = 0L; start < masks.shape[0]; start += batch)
        {
            using var inner = NewDisposeScope();
            var crops = new List<Tensor>();
            for (var i = start; i < Math.Min(start + batch, masks.shape[0]); i++)
            {
                var (mask, part) = (inside[i], pixels);
                if (mask.any().item<bool>())
                {
                    var (rows, columns) = (mask.any(1).nonzero(), mask.any(0).nonzero());
                    var (top, bottom, left, right) = (rows[0, 0].item<long>(), rows[-1, 0].item<long>(), columns[0, 0].item<long>(), columns[-1, 0].item<long>());
                    part = (pixels * mask).narrow(1, top, bottom - top + 1).narrow(2, left, right - left + 1);
                }
                crops.Add(nn.functional.interpolate(part.unsqueeze(0), [side, side], mode: InterpolationMode.Bilinear, align_corners: false));
            }
            parts.Add(DualEncoder.Normalize(clip.Images.Encode(cat(crops))).MoveToOuterDisposeScope());
        }
        return cat(parts).MoveToOuterDisposeScope();
    }
}
