using Panoptes.Nn;

namespace Panoptes.Generation;

// What is added to a UNet's time embedding, or put in the text's place, in rarer checkpoints (DeepFloyd IF, Kandinsky 2), under the keys of diffusers.

/// <summary>A text pooled by attention to a mean token. Keys: norm1, pool, proj, norm2.</summary>
public sealed class TextTimeEmbedding(int width, int timeWidth, int heads) : Module
{
    public LayerNorm Norm1 { get; } = new(width);

    public TextPooling Pool { get; } = new(width, heads);

    public Linear Proj { get; } = new(width, timeWidth);

    public LayerNorm Norm2 { get; } = new(timeWidth);

    /// <param name="text">[b, tokens, width]</param>
    public Tensor Forward(Tensor text)
    {
        using var scope = NewDisposeScope();
        return Norm2.Forward(Proj.Forward(Pool.Forward(Norm1.Forward(text)))).MoveToOuterDisposeScope();
    }
}

/// <summary>The mean of tokens sees them and itself. Keys: positional_embedding, k_proj, q_proj, v_proj.</summary>
public sealed class TextPooling(int width, int heads) : Module
{
    readonly int heads = Attention.Divisible(width, heads) / (width / heads);

    public Parameter PositionalEmbedding { get; } = new([1, width], Init.Normal(1 / Math.Sqrt(width)));

    public Linear KProj { get; } = new(width, width);

    public Linear QProj { get; } = new(width, width);

    public Linear VProj { get; } = new(width, width);

    /// <param name="x">[b, tokens, width]</param>
    /// <returns>[b, width]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var mean = x.mean([1], keepdim: true) + PositionalEmbedding.Value;
        var all = cat([mean, x], 1);
        var seen = Attention.Apply(Attention.SplitHeads(QProj.Forward(mean), heads), Attention.SplitHeads(KProj.Forward(all), heads), Attention.SplitHeads(VProj.Forward(all), heads));
        return Attention.MergeHeads(seen).squeeze(1).MoveToOuterDisposeScope();
    }
}

/// <summary>A text's and an image's embedding, projected and summed. Keys: text_proj, text_norm, image_proj.</summary>
public sealed class TextImageTimeEmbedding(int width, int timeWidth) : Module
{
    public Linear TextProj { get; } = new(width, timeWidth);

    public LayerNorm TextNorm { get; } = new(timeWidth);

    public Linear ImageProj { get; } = new(width, timeWidth);

    /// <param name="text">[b, width]</param>
    /// <param name="image">[b, width]</param>
    /// <returns>[b, time width], added to the time's embedding</returns>
    public Tensor Forward(Tensor text, Tensor image)
    {
        using var scope = NewDisposeScope();
        return (ImageProj.Forward(image) + TextNorm.Forward(TextProj.Forward(text))).MoveToOuterDisposeScope();
    }
}

/// <summary>An image's embedding, projected and normalized. Keys: image_proj, image_norm.</summary>
public sealed class ImageTimeEmbedding(int width, int timeWidth) : Module
{
    public Linear ImageProj { get; } = new(width, timeWidth);

    public LayerNorm ImageNorm { get; } = new(timeWidth);

    /// <param name="image">[b, width]</param>
    /// <returns>[b, time width], added to the time's embedding</returns>
    public Tensor Forward(Tensor image)
    {
        using var scope = NewDisposeScope();
        return ImageNorm.Forward(ImageProj.Forward(image)).MoveToOuterDisposeScope();
    }
}

/// <summary>Tokens made of an image's embedding before the text's own, projected. Keys: image_embeds, text_proj.</summary>
public sealed class TextImageProjection(int textWidth, int width) : Module
{
    const int Tokens = 10;

    public Linear ImageEmbeds { get; } = new(width, Tokens * width);

    public Linear TextProj { get; } = new(textWidth, width);

    /// <param name="text">[b, tokens, text width]</param>
    /// <param name="image">[b, width]</param>
    /// <returns>[b, 10 + tokens, width]: the image's tokens before the text's</returns>
    public Tensor Forward(Tensor text, Tensor image)
    {
        using var scope = NewDisposeScope();
        return cat([ImageEmbeds.Forward(image).view(text.shape[0], Tokens, width), TextProj.Forward(text)], 1).MoveToOuterDisposeScope();
    }
}

/// <summary>Tokens made of an image's embedding. Keys: image_embeds, norm.</summary>
public sealed class ImageProjection(int imageWidth, int width, int tokens = 32) : Module
{
    public Linear ImageEmbeds { get; } = new(imageWidth, tokens * width);

    public LayerNorm Norm { get; } = new(width);

    /// <param name="image">[b, image width]</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor image)
    {
        using var scope = NewDisposeScope();
        return Norm.Forward(ImageEmbeds.Forward(image).view(image.shape[0], tokens, width)).MoveToOuterDisposeScope();
    }
}
