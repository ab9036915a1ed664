using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>Which side of a pair a feature is of.</summary>
public enum Side
{
    Image,
    Text,
}

/// <summary>What of a tower's output a feature is.</summary>
public enum Level
{
    /// <summary>In the space shared with the other tower, of length 1: [b, embedding].</summary>
    Embedding,

    /// <summary>The pooled feature before the projection: [b, width].</summary>
    Pooled,

    /// <summary>Every token's last hidden state: [b, tokens, width].</summary>
    Tokens,
}

/// <summary>Something that a tower computes of every sample of a batch; an objective names those that it needs.</summary>
/// <param name="Side">Of the image or of the text.</param>
/// <param name="Level">Which part of the tower's output.</param>
/// <param name="View">Of which view of the sample, from 0; more are drawn as objectives need them.</param>
public readonly record struct Feature(Side Side, Level Level, int View = 0)
{
    public static Feature Image(int view = 0) => new(Side.Image, Level.Embedding, view);

    public static Feature ImagePooled(int view = 0) => new(Side.Image, Level.Pooled, view);

    public static Feature ImageTokens(int view = 0) => new(Side.Image, Level.Tokens, view);

    public static Feature Text(int view = 0) => new(Side.Text, Level.Embedding, view);

    public static Feature TextTokens(int view = 0) => new(Side.Text, Level.Tokens, view);
}

/// <summary>What training makes small; a recipe lists one or more with their weights.</summary>
/// <remarks>
/// Its parameters (a projection head, a queue) are trained and kept in checkpoints beside the model's, but are no part of the model that
/// users load. It must give the same numbers for the same inputs and random stream: a resumed run goes on as if nothing had happened.
/// </remarks>
public abstract class Objective : Module
{
    /// <summary>Called after every step of the optimizer: queues take the batch's features in, teachers follow.</summary>
    public virtual void AfterStep() { }

    /// <summary>What else of the last batch is worth a curve, logged as <c>OBJECTIVE/NAME</c>.</summary>
    public virtual IReadOnlyDictionary<string, double> Report => new Dictionary<string, double>();
}

/// <summary>
/// An objective over the whole batch's features, such as contrasting. A batch that goes through the towers in pieces has the gradient of the whole.
/// </summary>
public abstract class FeatureObjective : Objective
{
    /// <summary>What it looks at.</summary>
    public abstract IReadOnlyList<Feature> Needs { get; }

    /// <returns>A scalar with its gradient.</returns>
    public abstract Tensor Loss(BatchFeatures features);
}

/// <summary>
/// An objective of each sample by itself, such as reconstructing what was masked: it runs the towers in its own way, and a batch
/// in pieces has the mean of theirs.
/// </summary>
public abstract class SampleObjective : Objective
{
    /// <param name="towers">What is trained.</param>
    /// <param name="input">The samples.</param>
    /// <param name="random">Draws whatever is drawn.</param>
    /// <returns>The mean over the samples, a scalar with its gradient.</returns>
    public abstract Tensor Loss(Towers towers, PairInput input, Generator random);
}

/// <summary>A batch as the towers take it.</summary>
/// <param name="Images">Every view: [b, channels, height, width].</param>
/// <param name="Ids">Every view's token ids, [b, tokens] int64; none where the data has no texts.</param>
/// <param name="Masks">[b, tokens] of every view, 0 where padding; null where the tower needs none.</param>
/// <param name="Labels">[b] int64, -1 where a sample has no class; null where none has.</param>
public sealed record PairInput(IReadOnlyList<Tensor> Images, IReadOnlyList<Tensor> Ids, IReadOnlyList<Tensor>? Masks = null, Tensor? Labels = null)
{
    /// <summary>One view of each.</summary>
    public PairInput(Tensor images, Tensor ids, Tensor? mask = null) : this([images], [ids], mask is null ? null : [mask]) { }

    public int Count => (int)Images[0].shape[0];

    /// <summary>Samples <paramref name="start"/> up to <paramref name="start"/> + <paramref name="size"/>, as views into the same memory.</summary>
    public PairInput Piece(int start, int size)
    {
        return size == Count ? this : new(Part(Images), Part(Ids), Masks is null ? null : Part(Masks), Labels?.narrow(0, start, size)) { Lengths = Lengths is null ? null : Part(Lengths), Step = Step };

        Tensor[] Part(IReadOnlyList<Tensor> views) => [.. views.Select(v => v.narrow(0, start, size))];
    }

    /// <summary>How many steps were done before this batch.</summary>
    public long Step { get; init; }

    /// <summary>How many tokens of each text are its own, [b] int64 of every view; what follows is padding.</summary>
    public IReadOnlyList<Tensor>? Lengths { get; init; }

    /// <summary>Which tokens are a text's own: [b, tokens] bool.</summary>
    public static Tensor Valid(Tensor lengths, long tokens)
    {
        using var scope = NewDisposeScope();
        return arange(tokens, dtype: ScalarType.Int64, device: lengths.device).lt(lengths.unsqueeze(1)).MoveToOuterDisposeScope();
    }
}

/// <summary>The features of a whole batch, as leaves of the objectives' gradients.</summary>
public sealed class BatchFeatures(Towers towers, PairInput input, IReadOnlyDictionary<Feature, Tensor> features)
{
    public Towers Towers => towers;

    /// <summary>The batch's own data, such as labels and the lengths of texts.</summary>
    public PairInput Input => input;

    /// <summary>What the towers compute in: layers that an objective runs by itself may, too, the losses not.</summary>
    public ScalarType Precision { get; init; } = ScalarType.Float32;

    /// <summary>A feature that the objective named among its needs.</summary>
    public Tensor this[Feature feature] => features.TryGetValue(feature, out var tensor) ? tensor
        : throw new InvalidOperationException($"{feature} was not computed: the objective does not name it among its needs.");

    /// <summary>The first views of both sides with the model's own scale (no longer its logarithm) and bias.</summary>
    public PairFeatures Pair => Views(0, 0);

    /// <summary>A view of each side with the model's own scale and bias.</summary>
    public PairFeatures Views(int image, int text) => new(this[Feature.Image(image)], this[Feature.Text(text)], Scale, towers.LogitBias?.Value);

    /// <summary>What cosines are multiplied by.</summary>
    /// <exception cref="PanoptesException">There is no text tower.</exception>
    public Tensor Scale => towers.LogitScale?.Value.exp() ?? throw new PanoptesException("An objective over pairs was given a model without a text tower.");

    /// <summary>The labels, for an objective that cannot do without.</summary>
    /// <exception cref="PanoptesException">The data have none.</exception>
    public Tensor Labels => input.Labels ?? throw new PanoptesException("An objective needs labels, which the data do not have.");
}
