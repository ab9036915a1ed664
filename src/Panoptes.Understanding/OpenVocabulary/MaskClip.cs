using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// MaskCLIP (Zhou et al. 2022, "Extract Free Dense Labels from CLIP", arXiv:2112.01071), as the authors' code runs it: the last attention of a frozen CLIP gives every place the
// value that it would have contributed to the pooled feature, and that is compared with texts. Nothing is trained.

/// <summary>What is done to the labels of <see cref="MaskClip"/>.</summary>
public sealed record MaskClipOptions
{
    /// <summary>What cosines are multiplied by before the softmax over the classes.</summary>
    public double SoftmaxScale { get; init; } = 100;

    /// <summary>Prompt denoising: a class that nowhere in an image has this probability is dropped from it; 0: none is.</summary>
    public double DenoiseThreshold { get; init; } = 0.5;

    /// <summary>Key smoothing: a place whose likeliest class has less than this probability takes those of places with similar keys; 0: none does, above 1: all do.</summary>
    public double KeySmoothingThreshold { get; init; } = 1;

    /// <summary>The logit of a dropped class.</summary>
    public double DroppedValue { get; init; } = -100;
}

/// <summary>Features of every place of images.</summary>
/// <param name="Dense">[b, embedding, rows, columns], of length 1 along the embedding</param>
/// <param name="Keys">[b, rows · columns, width]: the last attention's keys</param>
public sealed record MaskClipFeatures(Tensor Dense, Tensor Keys);

/// <summary>Logits without the classes that are not in the image.</summary>
/// <param name="Logits">[b, classes, rows, columns]</param>
/// <param name="MaxConfidence">[b, classes]: the class's largest probability in the image, before any was dropped</param>
/// <param name="Kept">[b, classes] bool</param>
public sealed record MaskClipDenoised(Tensor Logits, Tensor MaxConfidence, Tensor Kept);

/// <summary>Dense labels for free from CLIP.</summary>
public static class MaskClip
{
    /// <summary>Features of every place, in the space of the texts.</summary>
    /// <param name="model">A Hugging Face CLIP, or an open_clip model with a vision transformer or a ResNet.</param>
    /// <param name="pixels">[b, 3, height, width] of any size, prepared as the model's processor does; positions are resized to it.</param>
    /// <exception cref="PanoptesException">Another model, or images smaller than one place.</exception>
    public static MaskClipFeatures Features(DualEncoder model, Tensor pixels)
    {
        if (PlaceSize(model) is var place && (pixels.shape[2] < place || pixels.shape[3] < place))
            throw new PanoptesException($"An image of {pixels.shape[3]}x{pixels.shape[2]} pixels was given; expected at least {place}x{place}.");
        using var scope = NewDisposeScope();
        var (dense, keys) = model switch
        {
            ClipModel clip => OfClip(clip, pixels),
            OpenClipModel { Visual: OpenClipVision visual } => OfOpenClip(visual, pixels),
            OpenClipModel { Visual: OpenClipResNet visual } => OfResNet(visual, pixels),
            _ => throw Unfit(model),
        };
        var (rows, columns) = (pixels.shape[2] / place, pixels.shape[3] / place);
        return new(DualEncoder.Normalize(dense).transpose(1, 2).unflatten(2, [rows, columns]).contiguous().MoveToOuterDisposeScope(), keys.MoveToOuterDisposeScope());
    }

    /// <summary>The side in pixels of what one place sees first: a patch of a transformer, 32 pixels of a ResNet.</summary>
    /// <exception cref="PanoptesException">A model that <see cref="Features"/> does not take.</exception>
    public static int PlaceSize(DualEncoder model) => model switch
    {
        ClipModel clip => clip.Config.Vision.PatchSize,
        OpenClipModel { Visual: OpenClipVision { AttnPool: null } } clip => clip.Config.VisionCfg.PatchSize ?? 16,
        OpenClipModel { Visual: OpenClipResNet } => 32,
        _ => throw Unfit(model),
    };

    static PanoptesException Unfit(DualEncoder model) =>
        new($"Dense features were asked of a {model.GetType().Name}{(model is OpenClipModel { Visual: var visual } ? $" with a {visual.GetType().Name}" : "")}; expected a CLIP whose image tower is a vision transformer with a class token, or a ResNet.");

    static (Tensor Dense, Tensor Keys) OfClip(ClipModel clip, Tensor pixels)
    {
        var vision = clip.Vision.VisionModel;
        var x = vision.PreLayrnorm.Forward(vision.Embeddings.Forward(pixels, interpolate: true));
        var layers = vision.Encoder.Layers;
        for (var i = 0; i < layers.Count - 1; i++) x = layers[i].Forward(x);
        var (last, attention) = (layers[^1], layers[^1].SelfAttn);
        var y = last.LayerNorm1.Forward(x);
        var v = x + attention.OutProj.Forward(attention.VProj.Forward(y));
        v = Patches(v + last.Mlp.Forward(last.LayerNorm2.Forward(v)));
        return (clip.Vision.EmbedTokens(v), attention.OutProj.Forward(attention.KProj.Forward(Patches(y))));
    }

    static (Tensor Dense, Tensor Keys) OfOpenClip(OpenClipVision visual, Tensor pixels)
    {
        var blocks = visual.Transformer.Resblocks;
        var x = visual.Transformer.Forward(visual.Embed(pixels, null, interpolate: true), count: blocks.Count - 1);
        var (last, attention) = (blocks[^1], blocks[^1].Attn);
        var y = last.Ln1.Forward(x);
        var v = attention.OutProj.Forward(Projected(2, y));
        v = x + (last.Ls1?.Forward(v) ?? v);
        var changed = last.Mlp.Forward(last.Ln2.Forward(v));
        v = Patches(v + (last.Ls2?.Forward(changed) ?? changed));
        return (visual.LnPost.Forward(v).matmul(visual.Proj.Value), attention.OutProj.Forward(Projected(1, Patches(y))));

        // Query, key and value are one matrix.
        Tensor Projected(int part, Tensor tokens)
        {
            var width = tokens.shape[^1];
            return nn.functional.linear(tokens, attention.InProjWeight.Value.narrow(0, part * width, width), attention.InProjBias.Value.narrow(0, part * width, width));
        }
    }

    /// <summary>A ResNet is pooled by attention at its end: places need no positions when none of them asks for another.</summary>
    static (Tensor Dense, Tensor Keys) OfResNet(OpenClipResNet visual, Tensor pixels)
    {
        var places = visual.Map(pixels).flatten(2).transpose(1, 2);                             // [b, places, width]
        var pool = visual.Attnpool;
        return (pool.CProj.Forward(pool.VProj.Forward(places)), pool.KProj.Forward(places));
    }

    static Tensor Patches(Tensor tokens) => tokens.narrow(1, 1, tokens.shape[1] - 1);

    /// <summary>The cosine of every place with every text.</summary>
    /// <param name="dense">[b, embedding, rows, columns], of length 1</param>
    /// <param name="texts">[classes, embedding], of length 1</param>
    /// <returns>[b, classes, rows, columns]</returns>
    public static Tensor Logits(Tensor dense, Tensor texts)
    {
        using var scope = NewDisposeScope();
        return texts.matmul(dense.flatten(2)).unflatten(2, [dense.shape[2], dense.shape[3]]).MoveToOuterDisposeScope();
    }

    /// <summary>Prompt denoising: classes that an image probably does not show are dropped.</summary>
    /// <param name="logits">[b, classes, rows, columns]: cosines</param>
    public static MaskClipDenoised Denoise(Tensor logits, MaskClipOptions options)
    {
        using var scope = NewDisposeScope();
        var confidence = logits.mul(options.SoftmaxScale).softmax(1).amax([2, 3]);
        var kept = confidence.ge(options.DenoiseThreshold);
        var denoised = logits.masked_fill(kept.logical_not().unsqueeze(-1).unsqueeze(-1), options.DroppedValue);
        return new(denoised.MoveToOuterDisposeScope(), confidence.MoveToOuterDisposeScope(), kept.MoveToOuterDisposeScope());
    }

    /// <summary>How alike the keys of places are; each channel is normalized over the places, as in the authors' code (the paper says cosine).</summary>
    /// <param name="keys">[b, places, width]</param>
    /// <returns>[b, places, places]</returns>
    public static Tensor KeySimilarity(Tensor keys)
    {
        using var scope = NewDisposeScope();
        var normalized = keys / keys.norm(1, keepdim: true, p: 2).clamp(min: 1e-12);
        return normalized.matmul(normalized.transpose(1, 2)).MoveToOuterDisposeScope();
    }

    /// <summary>Key smoothing: uncertain places take the sum of all places' probabilities weighted by how alike their keys are. The result is no probability, but its largest class counts.</summary>
    /// <param name="probabilities">[b, classes, rows, columns]</param>
    /// <param name="similarity">[b, places, places]</param>
    /// <param name="threshold">Places whose largest probability is at least this stay.</param>
    public static Tensor Smooth(Tensor probabilities, Tensor similarity, double threshold)
    {
        using var scope = NewDisposeScope();
        var flat = probabilities.flatten(2);                                                    // [b, classes, places]
        var smoothed = flat.matmul(similarity.transpose(1, 2));
        return where(flat.amax([1], keepdim: true).lt(threshold), smoothed, flat).view(probabilities.shape).MoveToOuterDisposeScope();
    }

    /// <summary>Denoised and smoothed: [b, classes, rows, columns], whose largest class is each place's label.</summary>
    /// <param name="features">Of images.</param>
    /// <param name="texts">[classes, embedding], of length 1</param>
    public static Tensor Label(MaskClipFeatures features, Tensor texts, MaskClipOptions? options = null)
    {
        options ??= new();
        using var scope = NewDisposeScope();
        var logits = Logits(features.Dense, texts);
        if (options.DenoiseThreshold > 0) logits = Denoise(logits, options).Logits;
        var probabilities = logits.mul(options.SoftmaxScale).softmax(1);
        return (options.KeySmoothingThreshold > 0 ? Smooth(probabilities, KeySimilarity(features.Keys), options.KeySmoothingThreshold) : probabilities).MoveToOuterDisposeScope();
    }
}
