using Panoptes.Nn;

namespace Panoptes.Generation;

// Grounding tokens and the gated attention to them (GLIGEN, Li et al. 2023, arXiv:2301.07093).

/// <summary>What is to be where in an image. Slots that hold nothing have a mask of 0. Give <see cref="Embeddings"/>, or the phrases' and images' of a model with <c>gated-text-image</c>.</summary>
public sealed record Grounding
{
    /// <summary>[b, slots, 4]: left, top, right, bottom, parts of the image's sides from 0 to 1</summary>
    public required Tensor Boxes { get; init; }

    /// <summary>[b, slots]: 1 where the slot holds something, else 0</summary>
    public required Tensor Masks { get; init; }

    /// <summary>[b, slots, width]: what is in the boxes, as the text encoder's pooled outputs of the phrases</summary>
    public Tensor? Embeddings { get; init; }

    /// <summary>[b, slots]: 1 where a phrase says what is in the box</summary>
    public Tensor? PhraseMasks { get; init; }

    /// <summary>[b, slots, width]</summary>
    public Tensor? PhraseEmbeddings { get; init; }

    /// <summary>[b, slots]: 1 where an example image shows what is in the box</summary>
    public Tensor? ImageMasks { get; init; }

    /// <summary>[b, slots, width]</summary>
    public Tensor? ImageEmbeddings { get; init; }
}

/// <summary>A linear layer, SiLU, another, SiLU, another. Keys: 0, 2, 4.</summary>
public sealed class GroundingMlp(int inputs, int outputs) : Module
{
    const int Hidden = 512;

    [Key("0")]
    public Linear First { get; } = new(inputs, Hidden);

    [Key("2")]
    public Linear Second { get; } = new(Hidden, Hidden);

    [Key("4")]
    public Linear Third { get; } = new(Hidden, outputs);

    /// <param name="x">[..., inputs]</param>
    /// <returns>[..., outputs]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Third.Forward(Second.Forward(First.Forward(x, Activation.Silu), Activation.Silu)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Boxes and what is in them to grounding tokens; empty slots have learned features. Keys: linears, null_positive_feature, or linears_text, linears_image, null_text_feature,
/// null_image_feature; null_position_feature.
/// </summary>
public sealed class PositionNet(int width, int outputs, bool withImages) : Module
{
    const int Frequencies = 8;

    public GroundingMlp? Linears { get; } = withImages ? null : new(width + 8 * Frequencies, outputs);

    public Parameter? NullPositiveFeature { get; } = withImages ? null : new([width], Init.Zeros);

    public GroundingMlp? LinearsText { get; } = withImages ? new(width + 8 * Frequencies, outputs) : null;

    public GroundingMlp? LinearsImage { get; } = withImages ? new(width + 8 * Frequencies, outputs) : null;

    public Parameter? NullTextFeature { get; } = withImages ? new([width], Init.Zeros) : null;

    public Parameter? NullImageFeature { get; } = withImages ? new([width], Init.Zeros) : null;

    public Parameter NullPositionFeature { get; } = new([8 * Frequencies], Init.Zeros);

    /// <returns>[b, slots, outputs]; with images the phrases' tokens, then the images': [b, 2 · slots, outputs]</returns>
    /// <exception cref="PanoptesException">What this model needs is not given, or other shapes.</exception>
    public Tensor Forward(Grounding grounding)
    {
        using var scope = NewDisposeScope();
        var (boxes, dtype) = (grounding.Boxes, NullPositionFeature.Dtype ?? ScalarType.Float32);
        if (boxes.dim() != 3 || boxes.shape[2] != 4 || !grounding.Masks.shape.AsSpan().SequenceEqual(boxes.shape.AsSpan(0, 2)))
            throw new PanoptesException($"Boxes of [{string.Join(", ", boxes.shape)}] and masks of [{string.Join(", ", grounding.Masks.shape)}] were given for grounding; expected [batch, slots, 4] and [batch, slots].");
        var position = Filled(Fourier(boxes).to(dtype), grounding.Masks, NullPositionFeature);
        if (Linears is not null) return Linears.Forward(cat([Filled(Given(grounding.Embeddings, "embeddings"), grounding.Masks, NullPositiveFeature!), position], -1)).MoveToOuterDisposeScope();
        var text = Filled(Given(grounding.PhraseEmbeddings, "phrase embeddings"), Given(grounding.PhraseMasks, "phrase masks"), NullTextFeature!);
        var image = Filled(Given(grounding.ImageEmbeddings, "image embeddings"), Given(grounding.ImageMasks, "image masks"), NullImageFeature!);
        return cat([LinearsText!.Forward(cat([text, position], -1)), LinearsImage!.Forward(cat([image, position], -1))], 1).MoveToOuterDisposeScope();

        static Tensor Given(Tensor? value, string name) => value ?? throw new PanoptesException($"This model's grounding needs {name}; none were given.");

        Tensor Filled(Tensor feature, Tensor mask, Parameter empty)
        {
            mask = mask.to(dtype).unsqueeze(-1);
            return feature.to(dtype) * mask + (1 - mask) * empty.Value;
        }
    }

    /// <summary>Sines and cosines of the boxes' sides at eight frequencies from 1 to almost 100: [b, slots, 64], laid out [frequency, sine or cosine, side].</summary>
    /// <param name="boxes">[b, slots, 4]</param>
    public static Tensor Fourier(Tensor boxes)
    {
        using var scope = NewDisposeScope();
        var frequencies = tensor(100f).pow(arange(Frequencies, dtype: ScalarType.Float32) / Frequencies).to(boxes.device).view(-1, 1, 1);
        var angles = boxes.to(ScalarType.Float32).unsqueeze(2).unsqueeze(2) * frequencies;                     // [b, slots, 8, 1, 4]
        return cat([angles.sin(), angles.cos()], 3).flatten(2).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Places see the grounding tokens, and take over as much of it as two learned gates let through, which start closed.
/// Keys: linear, attn, ff, norm1, norm2, alpha_attn, alpha_dense (diffusers' GatedSelfAttentionDense).
/// </summary>
public sealed class GroundingFuser(int width, int tokenWidth, int heads, int headSize) : Module
{
    public Linear Linear { get; } = new(tokenWidth, width);

    public CrossAttention Attn { get; } = new(width, heads, headSize);

    public FeedForward Ff { get; } = new(width);

    public LayerNorm Norm1 { get; } = new(width);

    public LayerNorm Norm2 { get; } = new(width);

    public Parameter AlphaAttn { get; } = new([], Init.Zeros);

    public Parameter AlphaDense { get; } = new([], Init.Zeros);

    /// <param name="x">[b, places, width]</param>
    /// <param name="objects">[b, grounding tokens, token width]</param>
    /// <param name="hook">As in <see cref="CrossAttention.Forward"/>.</param>
    public Tensor Forward(Tensor x, Tensor objects, IAttentionHook? hook)
    {
        using var scope = NewDisposeScope();
        var seen = Attn.Forward(Norm1.Forward(cat([x, Linear.Forward(objects)], 1)), hook: hook).narrow(1, 0, x.shape[1]);
        x = x + AlphaAttn.Value.tanh() * seen;
        return (x + AlphaDense.Value.tanh() * Ff.Forward(Norm2.Forward(x))).MoveToOuterDisposeScope();
    }
}
