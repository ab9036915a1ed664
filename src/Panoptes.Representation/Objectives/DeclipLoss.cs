using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>
/// DeCLIP (Li et al. 2022, arXiv:2110.05208) as its authors' code trains it: two views of each image and two wordings of each text. Each
/// view is contrasted with each wording; the views of an image agree without negatives (SimSiam, Chen and He 2021, arXiv:2011.10566); and every view is
/// drawn to the texts nearest to its own in a queue of earlier ones. Its fourth part, masked words, is <see cref="MaskedLanguageLoss"/>.
/// </summary>
public sealed class DeclipLoss : FeatureObjective
{
    readonly DeclipOptions options;
    (Tensor First, Tensor Second)? batch;

    internal DeclipLoss(int pooled, int embedding, DeclipOptions options)
    {
        this.options = options;
        Projector = new([pooled, options.HiddenSize, options.HiddenSize, options.ProjectionSize], normalizedOutput: true);
        Predictor = new([options.ProjectionSize, Math.Max(1, options.ProjectionSize / 4), options.ProjectionSize]);
        Queue = new([options.QueueSize, embedding], static (tensor, generator) =>
        {
            Init.Normal(1)(tensor, generator);
            tensor.div_(tensor.norm(-1, keepdim: true));
        })
        { Trainable = false };
    }

    public ProjectionHead Projector { get; }

    public ProjectionHead Predictor { get; }

    /// <summary>The embeddings of earlier texts, each of length 1: [queue, embedding].</summary>
    public Parameter Queue { get; }

    /// <summary>Where the next texts are written: a whole number.</summary>
    public Parameter Pointer { get; } = new([], Init.Zeros) { Trainable = false };

    public override IReadOnlyList<Feature> Needs { get; } =
        [Feature.Image(0), Feature.Image(1), Feature.ImagePooled(0), Feature.ImagePooled(1), Feature.Text(0), Feature.Text(1)];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        var (text1, text2) = (features[Feature.Text(0)], features[Feature.Text(1)]);
        var clip = stack(ClipPairs(features[Feature.Image(0)], features[Feature.Image(1)], text1, text2, features.Scale)).mean();
        var (z1, z2) = (Projector.Forward(features[Feature.ImagePooled(0)]), Projector.Forward(features[Feature.ImagePooled(1)]));
        var self = SimSiam(Predictor.Forward(z1), Predictor.Forward(z2), z1, z2);
        var nearest = NearestNeighbor(features[Feature.Image(0)], features[Feature.Image(1)], Nearest(Queue, text1), Nearest(Queue, text2), features.Scale);
        batch?.First.Dispose();
        batch?.Second.Dispose();
        batch = (text1.detach().clone().DetachFromDisposeScope(), text2.detach().clone().DetachFromDisposeScope());
        return ((clip * options.ClipWeight) + (self * options.SelfSupervisionWeight) + (nearest * options.NearestNeighborWeight)).MoveToOuterDisposeScope();
    }

    /// <summary>The queue takes in the batch's texts, the other wordings first.</summary>
    public override void AfterStep()
    {
        if (batch is not { } texts) return;
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var pointer = Enqueue(Queue, Enqueue(Queue, (long)Pointer.Value.item<float>(), texts.Second), texts.First);
        Pointer.Value.fill_(pointer);
        texts.First.Dispose();
        texts.Second.Dispose();
        batch = null;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            batch?.First.Dispose();
            batch?.Second.Dispose();
        }
        base.Dispose(disposing);
    }

    /// <summary>CLIP's loss of view 1 with wording 1, 2 with 1, 1 with 2 and 2 with 2.</summary>
    public static Tensor[] ClipPairs(Tensor image1, Tensor image2, Tensor text1, Tensor text2, Tensor scale) =>
    [
        ContrastiveLoss.Of(new(image1, text1, scale)), ContrastiveLoss.Of(new(image2, text1, scale)),
        ContrastiveLoss.Of(new(image1, text2, scale)), ContrastiveLoss.Of(new(image2, text2, scale)),
    ];

    /// <summary>What each view predicts of the other, by the cosine; the other view gets no gradient.</summary>
    public static Tensor SimSiam(Tensor p1, Tensor p2, Tensor z1, Tensor z2)
    {
        using var scope = NewDisposeScope();
        return ((nn.functional.cosine_similarity(p1, z2.detach(), 1, 1e-8).mean() + nn.functional.cosine_similarity(p2, z1.detach(), 1, 1e-8).mean()) / -2).MoveToOuterDisposeScope();
    }

    /// <summary>The queue's entry most similar to each text, without a gradient: [b, d].</summary>
    public static Tensor Nearest(Tensor queue, Tensor texts)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return queue.index_select(0, NearestIndex(queue, texts)).MoveToOuterDisposeScope();
    }

    /// <summary>Which entry that is: [b] int64.</summary>
    public static Tensor NearestIndex(Tensor queue, Tensor texts)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return texts.matmul(queue.t()).argmax(1).MoveToOuterDisposeScope();
    }

    /// <summary>Each view picks the neighbor of its own text among those of the batch: the mean of four cross-entropies, none from texts to images.</summary>
    public static Tensor NearestNeighbor(Tensor image1, Tensor image2, Tensor neighbors, Tensor otherNeighbors, Tensor scale)
    {
        using var scope = NewDisposeScope();
        return ((Pick(image1, neighbors) + Pick(image2, neighbors) + Pick(image1, otherNeighbors) + Pick(image2, otherNeighbors)) / 4).MoveToOuterDisposeScope();

        Tensor Pick(Tensor image, Tensor text) => ContrastiveLoss.OneWay(new PairFeatures(image, text, scale).Logits(), 1);
    }

    /// <summary>Writes <paramref name="texts"/> [b, d] into the queue from <paramref name="pointer"/> on, in place, and wraps around.</summary>
    /// <returns>Where the next go.</returns>
    public static long Enqueue(Tensor queue, long pointer, Tensor texts)
    {
        using var scope = NewDisposeScope();
        var size = queue.shape[0];
        var kept = Math.Min(size, texts.shape[0]);
        var index = arange(pointer + texts.shape[0] - kept, pointer + texts.shape[0], ScalarType.Int64) % size;
        queue.index_copy_(0, index, texts.narrow(0, texts.shape[0] - kept, kept));
        return (pointer + texts.shape[0]) % size;
    }
}

/// <summary>DeCLIP in a recipe, without its masked words (<c>masked_language</c>).</summary>
public sealed record DeclipOptions : ObjectiveOptions
{
    public double ClipWeight { get; init; } = 0.4;

    public double SelfSupervisionWeight { get; init; } = 0.2;

    public double NearestNeighborWeight { get; init; } = 0.2;

    /// <summary>How many earlier texts are searched for neighbors (65536 in the paper).</summary>
    public int QueueSize { get; init; } = 4096;

    public int HiddenSize { get; init; } = 512;

    /// <summary>The size of the space that views agree in.</summary>
    public int ProjectionSize { get; init; } = 256;

    public override Objective Create(ObjectiveSetting setting)
    {
        if (QueueSize < 1 || HiddenSize < 1 || ProjectionSize < 1) throw new PanoptesException($"declip: queue_size is {QueueSize}, hidden_size {HiddenSize} and projection_size {ProjectionSize}; expected 1 or more.");
        if (setting.Towers.Texts is null) throw new PanoptesException("declip needs a text tower.");
        return new DeclipLoss(setting.Towers.Images.PooledSize, setting.Towers.Images.EmbeddingSize, this);
    }
}
