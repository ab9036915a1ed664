using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>What a tower gives for a batch.</summary>
/// <param name="LastHiddenState">[b, tokens, width] as the peer defines it (CLIP's image tower: before the last norm; its text tower: after).</param>
/// <param name="Pooled">[b, width]: the pooled token after the last norm.</param>
/// <param name="Embedding">[b, embedding]: projected into the space shared with the other tower, not normalized; equal to <paramref name="Pooled"/> where there is no projection.</param>
/// <param name="HiddenStates">The embeddings and the output of every layer, when asked for.</param>
public sealed record TowerOutput(Tensor LastHiddenState, Tensor Pooled, Tensor Embedding, IReadOnlyList<Tensor>? HiddenStates = null)
{
    /// <summary>Moves a tower's results, each once, out of the current dispose scope.</summary>
    internal static (Tensor Tokens, Tensor Pooled) Keep(Tensor tokens, Tensor pooled, IEnumerable<Tensor>? hiddenStates)
    {
        foreach (var tensor in new HashSet<Tensor>([tokens, pooled, .. hiddenStates ?? []], ReferenceEqualityComparer.Instance)) tensor.MoveToOuterDisposeScope();
        return (tokens, pooled);
    }
}

/// <summary>One side of a model that embeds several kinds of input in one space.</summary>
public interface ITower
{
    /// <summary>The size of the shared space.</summary>
    int EmbeddingSize { get; }

    /// <summary>The trainable parameters by depth: locking, and learning rates that fall towards the input, go by it.</summary>
    LayerGroups LayerGroups { get; }

    /// <summary>The width of <see cref="TowerOutput.LastHiddenState"/>, which a tower without a projection also embeds in.</summary>
    int TokenSize => EmbeddingSize;

    /// <summary>Every token in the shared space, as its pooled one is put there.</summary>
    /// <param name="tokens">[b, tokens, width]: <see cref="TowerOutput.LastHiddenState"/></param>
    /// <returns>[b, tokens, embedding], not normalized</returns>
    /// <exception cref="PanoptesException">The tower pools in a way that single tokens cannot follow.</exception>
    Tensor EmbedTokens(Tensor tokens) => throw new PanoptesException($"{GetType().Name} pools its tokens in a way that single ones cannot follow; expected a tower with a pooled token, such as CLIP's.");
}

/// <summary>An image tower: pixels to pooled and token features.</summary>
public interface IImageTower : ITower
{
    /// <summary>The tower itself, where this one only follows another with a projection: what a tower can do beside (leave patches out, mask them) is its backbone's.</summary>
    IImageTower Backbone => this;

    /// <summary>The side of the square images that it was built for.</summary>
    int ImageSize { get; }

    /// <summary>The width of <see cref="TowerOutput.Pooled"/>, which a tower without a projection gives as its embedding.</summary>
    int PooledSize => EmbeddingSize;

    /// <summary>How many of its tokens stand before the patches (class token, registers).</summary>
    int PrefixTokens => 0;

    /// <param name="pixels">[b, channels, height, width], normalized as the model's processor does</param>
    /// <returns>[b, embedding], not normalized; cheaper than <see cref="Forward"/>, with the same gradients.</returns>
    Tensor Encode(Tensor pixels);

    /// <summary>Token features, too.</summary>
    TowerOutput Forward(Tensor pixels, bool hiddenStates = false);
}

/// <summary>A text tower: token ids to pooled and token features.</summary>
public interface ITextTower : ITower
{
    /// <summary>The most tokens that a text may have.</summary>
    int ContextLength { get; }

    /// <summary>The number of ids that it knows.</summary>
    int VocabularySize { get; }

    /// <summary>Whether padding would change a text's embedding, so that an attention mask has to be given.</summary>
    bool SeesPadding => false;

    /// <param name="inputIds">[b, tokens] int64</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; null: none (what follows the pooled token of a causal tower cannot change it).</param>
    /// <returns>[b, embedding], not normalized; cheaper than <see cref="Forward"/>, with the same gradients.</returns>
    Tensor Encode(Tensor inputIds, Tensor? attentionMask = null);

    /// <summary>Token features, too.</summary>
    TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false);
}

/// <summary>
/// An image tower and a text tower that meet in one space, compared by cosine times a learned scale plus, for some, a learned bias.
/// The trainer, the objectives and the evaluations know models by this.
/// </summary>
public abstract class DualEncoder : Module
{
    public abstract IImageTower Images { get; }

    public abstract ITextTower Texts { get; }

    /// <summary>The logarithm of the scale, as the checkpoint stores it.</summary>
    public abstract Parameter LogitScale { get; }

    /// <summary>The bias, or null where the model has none.</summary>
    public virtual Parameter? LogitBias => null;

    /// <summary>The features that the objectives compare: normalized, with the scale (no longer its logarithm) and bias.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="inputIds">[b, tokens] int64</param>
    /// <returns>Tensors that the caller owns, but for the bias, which is the model's.</returns>
    public PairFeatures Features(Tensor pixels, Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return new(Comparable(Images.Encode(pixels)).MoveToOuterDisposeScope(), Comparable(Texts.Encode(inputIds, attentionMask)).MoveToOuterDisposeScope(),
            LogitScale.Value.exp().MoveToOuterDisposeScope(), LogitBias?.Value);
    }

    /// <summary>An embedding as it is compared, by inner product: of length 1, unless the model means its length.</summary>
    /// <param name="embedding">[b, embedding]</param>
    public virtual Tensor Comparable(Tensor embedding) => Normalize(embedding);

    /// <summary>x / ‖x‖ over the last dimension; zeros, which dropout may leave of a short vector, stay zeros.</summary>
    public static Tensor Normalize(Tensor x)
    {
        using var scope = NewDisposeScope();
        return (x / x.norm(-1, keepdim: true).clamp(min: 1e-12)).MoveToOuterDisposeScope();
    }
}

/// <summary>What a model has for images and texts: an image tower, and where it reads texts, a text tower that meets it in a shared space.</summary>
/// <param name="Model">The whole, whose parameters these are.</param>
/// <param name="Images">The image tower.</param>
/// <param name="Texts">The text tower, or null.</param>
/// <param name="LogitScale">The logarithm of what cosines are multiplied by; null where there is no text tower.</param>
/// <param name="LogitBias">What is added to them, or null.</param>
public sealed record Towers(Module Model, IImageTower Images, ITextTower? Texts = null, Parameter? LogitScale = null, Parameter? LogitBias = null)
{
    /// <summary>An embedding as it is compared: <see cref="DualEncoder.Comparable"/>.</summary>
    public Tensor Comparable(Tensor embedding) => Model is DualEncoder both ? both.Comparable(embedding) : DualEncoder.Normalize(embedding);

    /// <exception cref="PanoptesException">The model has no image tower.</exception>
    public static Towers Of(Module model) => model switch
    {
        DualEncoder both => new(both, both.Images, both.Texts, both.LogitScale, both.LogitBias),
        Beit3Base both => new(both, both, both.Texts),
        IImageTower images => new(model, images),
        _ => throw new PanoptesException($"A {model.GetType().Name} was given; expected a model with an image tower."),
    };
}

/// <summary>A batch of pairs in the shared space; row i of one belongs to row i of the other.</summary>
/// <param name="Image">[b, embedding], of length 1</param>
/// <param name="Text">[b, embedding], of length 1</param>
/// <param name="Scale">What cosines are multiplied by (the exponential of the stored logit_scale).</param>
/// <param name="Bias">What is added after that, or null.</param>
public sealed record PairFeatures(Tensor Image, Tensor Text, Tensor Scale, Tensor? Bias = null)
{
    /// <summary>scale · image textᵀ + bias: [images, texts].</summary>
    public Tensor Logits()
    {
        using var scope = NewDisposeScope();
        var logits = (Image * Scale.to(Image.dtype)).matmul(Text.t());
        return (Bias is null ? logits : logits + Bias.to(logits.dtype)).MoveToOuterDisposeScope();
    }
}
