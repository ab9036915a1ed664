using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>A whole X-Decoder ("xdecoder"): image tower, text tower and decoder.</summary>
public record XDecoderModelConfig : ModelConfig
{
    /// <summary>The image tower's own config, with its model_type; or an open_clip config with its vision_cfg.</summary>
    public JsonElement BackboneConfig { get; init; }

    /// <summary>The text tower's.</summary>
    public ClipTextConfig TextConfig { get; init; } = new();
    public XDecoderConfig DecoderConfig { get; init; } = new();

    /// <summary>The side that images are brought to, whatever their shape is.</summary>
    public int ImageSize { get; init; } = 512;
    public double[] ImageMean { get; init; } = [0.48145466, 0.4578275, 0.40821073];
    public double[] ImageStd { get; init; } = [0.26862954, 0.26130258, 0.27577711];

    /// <summary>What a caption begins with.</summary>
    public int CaptionStartTokenId { get; init; } = 49406;

    /// <summary>What it ends with.</summary>
    public int CaptionEndTokenId { get; init; } = 49407;
    public string ModelType { get; init; } = "xdecoder";
    public string[] Architectures { get; init; } = ["XDecoderModel"];
}

/// <summary>A batch with what is known about it; what is not known is not learned from.</summary>
public sealed record XDecoderBatch
{
    /// <summary>[b, channels, height, width], normalized</summary>
    public required Tensor Pixels { get; init; }

    /// <summary>[classes + 1, tokens] int64: the classes' names, the last being the background's.</summary>
    public Tensor? ClassIds { get; init; }

    /// <summary>[classes + 1, tokens], 0 where padding</summary>
    public Tensor? ClassMask { get; init; }

    /// <summary>What is in each image, by class.</summary>
    public IReadOnlyList<MaskTarget>? Targets { get; init; }

    /// <summary>[b, tokens] int64: a caption an image, from its start to its end token.</summary>
    public Tensor? CaptionIds { get; init; }

    /// <summary>[b, tokens], 0 where padding</summary>
    public Tensor? CaptionMask { get; init; }

    /// <summary>[expressions, tokens] int64: referring expressions.</summary>
    public Tensor? ExpressionIds { get; init; }

    /// <summary>[expressions, tokens], 0 where padding</summary>
    public Tensor? ExpressionMask { get; init; }

    /// <summary>[expressions] int64: the image that each is about.</summary>
    public Tensor? ExpressionImages { get; init; }

    /// <summary>[expressions, height, width], 0 or 1: what each means.</summary>
    public Tensor? ExpressionTargets { get; init; }
}

/// <summary>What the parts of the loss weigh; the defaults are the authors'.</summary>
public sealed record XDecoderLossOptions
{
    public MaskLossOptions Mask { get; init; } = new();

    public double CaptionWeight { get; init; } = 2;

    public double RetrievalWeight { get; init; } = 2;

    public double ReferringWeight { get; init; } = 1;

    /// <summary>Whether what is read before the last layer is trained, too.</summary>
    public bool Auxiliary { get; init; } = true;
}

/// <summary>The parts of the loss, a scalar each; null where there was nothing to learn from.</summary>
/// <param name="Masks">Of masks and their classes.</param>
/// <param name="Caption">Cross-entropy of every next word.</param>
/// <param name="Retrieval">Cross-entropy of finding the caption of an image and the image of a caption in the batch.</param>
/// <param name="Referring">Of what expressions mean.</param>
/// <param name="Total">The weighted sum.</param>
public sealed record XDecoderLosses(Tensor? Masks, Tensor? Caption, Tensor? Retrieval, Tensor? Referring, Tensor Total);

/// <summary>
/// X-Decoder as a whole: semantic, instance, panoptic and referring segmentation, captions and retrieval from the same weights. Keys: pyramid (with pyramid.backbone),
/// sem_seg_head.predictor (the decoder, with the text tower under lang_encoder).
/// </summary>
public sealed class XDecoderModel : Module
{
    public XDecoderModel(XDecoderModelConfig config, IImageTower tower)
    {
        Config = config;
        var d = config.DecoderConfig;
        Pyramid = new(tower, d.HiddenSize, d.MaskSize, d.NumFeatureLevels);
        Decoder = new(d, new(config.TextConfig, d.ProjectionSize, d.HiddenSize));
    }

    public XDecoderModelConfig Config { get; }

    public DecoderPyramid Pyramid { get; }

    [Key("sem_seg_head.predictor")]
    public XDecoder Decoder { get; }

    /// <summary>The text tower.</summary>
    [NotAChild]
    public XDecoderTexts Texts => Decoder.LangEncoder.Texts!;

    internal static XDecoderModel Build(ModelSource source)
    {
        var config = source.Read<XDecoderModelConfig>();
        return new(config, DecoderPyramid.Build(config.BackboneConfig, source, "pyramid.backbone"));
    }

    /// <summary>What the decoder looks at; encode once, ask often.</summary>
    /// <param name="pixels">[b, channels, height, width], normalized</param>
    public DecoderMaps Encode(Tensor pixels) => Pyramid.Forward(pixels);

    /// <summary>Images in the space of texts: [b, projection], of length 1.</summary>
    public Tensor EmbedImages(DecoderMaps maps)
    {
        using var scope = NewDisposeScope();
        return ImageEmbedding(Decoder.Forward(maps).Last).MoveToOuterDisposeScope();
    }

    /// <summary>Texts in the space of images and queries: [texts, projection], of length 1.</summary>
    /// <param name="ids">[texts, tokens] int64</param>
    /// <param name="mask">[texts, tokens], 0 where padding; null: none.</param>
    public Tensor EmbedTexts(Tensor ids, Tensor? mask = null) => Texts.Embed(ids, mask);

    /// <summary>Queries as classes and masks.</summary>
    /// <param name="maps">Of images.</param>
    /// <param name="classes">[classes + 1, projection], of length 1; the last is the background.</param>
    public MaskPrediction Segment(DecoderMaps maps, Tensor classes)
    {
        using var scope = NewDisposeScope();
        var last = Decoder.Forward(maps, classes).Last;
        return new(last.ClassLogits!.MoveToOuterDisposeScope(), last.MaskLogits.MoveToOuterDisposeScope());
    }

    /// <summary>What expressions mean: of each the queries with how well they fit it.</summary>
    /// <param name="maps">An image an expression.</param>
    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="mask">[b, tokens], 0 where padding; null: none.</param>
    /// <returns>Similarities [b, queries] (logits) and mask logits [b, queries, rows, columns]</returns>
    public (Tensor Similarity, Tensor Masks) Refer(DecoderMaps maps, Tensor ids, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        var last = Decoder.Forward(maps, expression: Texts.Words(ids, mask)).Last;
        return (Fit(last, Texts.Embed(ids, mask)).MoveToOuterDisposeScope(), last.Referred!.MaskLogits.MoveToOuterDisposeScope());
    }

    /// <summary>Captions, each word the likeliest.</summary>
    /// <param name="maps">Of images.</param>
    /// <param name="most">The most tokens, with the start and the end; null: as many as the decoder takes.</param>
    /// <returns>Of each image the ids between the start and the end token.</returns>
    public IReadOnlyList<int[]> Caption(DecoderMaps maps, int? most = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var batch = (int)maps.MaskFeatures.shape[0];
        var length = Math.Min(Math.Min(most ?? int.MaxValue, Decoder.Config.ContextLength + 1), Config.TextConfig.MaxPositionEmbeddings);
        var captions = Enumerable.Range(0, batch).Select(static _ => new List<long>()).ToArray();
        var done = new bool[batch];
        for (var step = 1; step < length && done.Contains(false); step++)
        {
            using var inner = NewDisposeScope();
            var ids = tensor(captions.SelectMany(c => c.Prepend(Config.CaptionStartTokenId)).ToArray(), [batch, step]).to(maps.MaskFeatures.device);
            var logits = Decoder.Forward(maps, caption: Texts.Words(ids), vocabulary: Texts.Vocabulary).Last.CaptionLogits!;
            var next = logits.select(1, step - 1).argmax(-1).data<long>().ToArray();
            for (var i = 0; i < batch; i++)
            {
                done[i] |= next[i] == Config.CaptionEndTokenId;
                captions[i].Add(done[i] ? Config.CaptionEndTokenId : next[i]);
            }
        }
        return [.. captions.Select(c => c.TakeWhile(id => id != Config.CaptionEndTokenId).Select(static id => (int)id).ToArray())];
    }

    /// <summary>The losses of a batch.</summary>
    /// <param name="batch">What is known.</param>
    /// <param name="options">What the parts weigh.</param>
    /// <param name="generator">Draws the points at which masks are compared.</param>
    /// <param name="maps">Of the images, where they are encoded already.</param>
    /// <exception cref="PanoptesException">Nothing is known.</exception>
    public XDecoderLosses Losses(XDecoderBatch batch, XDecoderLossOptions? options = null, Generator? generator = null, DecoderMaps? maps = null)
    {
        options ??= new();
        using var scope = NewDisposeScope();
        maps ??= Encode(batch.Pixels);
        Tensor? masks = null, caption = null, retrieval = null, referring = null;
        if (batch.Targets is not null || batch.CaptionIds is not null)
        {
            var classes = batch.ClassIds is null ? null : Texts.Embed(batch.ClassIds, batch.ClassMask);
            // Every word is to tell the next: the last one need not be read.
            var words = batch.CaptionIds is { } ids ? Texts.Words(ids.narrow(1, 0, ids.shape[1] - 1), batch.CaptionMask?.narrow(1, 0, ids.shape[1] - 1)) : null;
            var output = Decoder.Forward(maps, classes, words, words is null ? null : Texts.Vocabulary);
            if (batch.Targets is not null)
            {
                if (classes is null) throw new PanoptesException("Masks were given without their classes' names.");
                MaskPrediction[] predictions = [.. (options.Auxiliary ? output.Steps : [output.Last]).Select(static s => new MaskPrediction(s.ClassLogits!, s.MaskLogits))];
                masks = MaskLoss.Total(predictions, batch.Targets, options.Mask, generator);
            }
            if (batch.CaptionIds is not null)
            {
                caption = NextWords(output.Last.CaptionLogits!, batch.CaptionIds, batch.CaptionMask);
                if (batch.CaptionIds.shape[0] > 1) retrieval = Contrast(Decoder.Similarity(ImageEmbedding(output.Last), Texts.Embed(batch.CaptionIds, batch.CaptionMask)));
            }
        }
        if (batch.ExpressionIds is not null)
        {
            var (images, wanted) = (batch.ExpressionImages, batch.ExpressionTargets);
            if (images is null || wanted is null) throw new PanoptesException("Expressions were given without the images that they are about, or without what they mean.");
            var text = Texts.Embed(batch.ExpressionIds, batch.ExpressionMask);
            var output = Decoder.Forward(maps.Select(images), expression: Texts.Words(batch.ExpressionIds, batch.ExpressionMask));
            Tensor[] totals = [.. (options.Auxiliary ? output.Steps : [output.Last]).Select(s => PromptedLoss.Of(Fit(s, text), s.Referred!.MaskLogits, wanted, options.Mask, generator).Total)];
            referring = stack(totals).sum();
        }
        (Tensor? Loss, double Weight)[] parts = [(masks, 1), (caption, options.CaptionWeight), (retrieval, options.RetrievalWeight), (referring, options.ReferringWeight)];
        Tensor[] weighted = [.. parts.Where(static p => p.Loss is not null).Select(static p => p.Loss! * p.Weight)];
        if (weighted.Length == 0) throw new PanoptesException("A batch without masks, captions and expressions was given; expected something to learn from.");
        return new(masks?.MoveToOuterDisposeScope(), caption?.MoveToOuterDisposeScope(), retrieval?.MoveToOuterDisposeScope(), referring?.MoveToOuterDisposeScope(), stack(weighted).sum().MoveToOuterDisposeScope());
    }

    /// <summary>How well the queries that listened to a text fit it: [b, queries] logits.</summary>
    Tensor Fit(XDecoderStep step, Tensor text) => Decoder.Similarity(step.Referred!.Embeddings, text.unsqueeze(1)).squeeze(-1);

    /// <summary>The image's own query.</summary>
    static Tensor ImageEmbedding(XDecoderStep step) => step.ClassEmbeddings.select(1, step.ClassEmbeddings.shape[1] - 1);

    /// <summary>Cross-entropy of every next word, a mean over the words that are there.</summary>
    /// <param name="logits">[b, tokens - 1, vocabulary]: what follows each but the last.</param>
    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="mask">[b, tokens], 0 where padding; null: none.</param>
    public static Tensor NextWords(Tensor logits, Tensor ids, Tensor? mask)
    {
        const long ignored = -100;
        using var scope = NewDisposeScope();
        var wanted = ids.narrow(1, 1, ids.shape[1] - 1);
        if (mask is not null) wanted = wanted.masked_fill(mask.narrow(1, 1, ids.shape[1] - 1).eq(0), ignored);
        return nn.functional.cross_entropy(logits.to(ScalarType.Float32).flatten(0, 1), wanted.flatten(), ignore_index: ignored).MoveToOuterDisposeScope();
    }

    /// <summary>Row i belongs to column i: the mean of both cross-entropies.</summary>
    /// <param name="logits">[n, n]</param>
    public static Tensor Contrast(Tensor logits)
    {
        using var scope = NewDisposeScope();
        var own = arange(logits.shape[0], dtype: ScalarType.Int64, device: logits.device);
        return ((nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.t(), own)) / 2).MoveToOuterDisposeScope();
    }
}
