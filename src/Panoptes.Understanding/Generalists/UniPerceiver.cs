using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// Uni-Perceiver v2 (Li et al. 2022, arXiv:2211.09808): images are general region proposals, texts are words, and every task is to find the likeliest of some targets for an input,
// P(x, y) ~ exp(cos(g(f(x)), g(f(y))) / tau), with one decoder g for all. There is no public checkpoint; keys are this library's own.

/// <summary>The config ("uni_perceiver_v2").</summary>
public sealed record UniPerceiverConfig : ModelConfig
{
    /// <summary>The image tower's own config, with its model_type; or an open_clip config with its vision_cfg.</summary>
    public JsonElement BackboneConfig { get; init; }

    /// <summary>The text tower's.</summary>
    public ClipTextConfig TextConfig { get; init; } = new();

    /// <summary>The width of everything but the towers.</summary>
    public int HiddenSize { get; init; } = 256;
    public int NumAttentionHeads { get; init; } = 8;
    public int FeedforwardSize { get; init; } = 1024;

    /// <summary>Of the network that proposes regions.</summary>
    public int ProposalLayers { get; init; } = 6;

    /// <summary>How many regions it proposes.</summary>
    public int NumProposals { get; init; } = 100;

    /// <summary>How many of them, those that most look like something, the decoder gets in use; in training it gets all.</summary>
    public int NumSelected { get; init; } = 100;
    public int NumFeatureLevels { get; init; } = 3;

    /// <summary>The side of the grid that stands for the image as a whole.</summary>
    public int GlobalSide { get; init; } = 3;

    /// <summary>The side to which a region's mask is brought, to tell the decoder its form.</summary>
    public int MaskSide { get; init; } = 14;

    /// <summary>Of the decoder that all tasks share.</summary>
    public int DecoderLayers { get; init; } = 6;

    /// <summary>The space in which inputs and targets are compared.</summary>
    public int ProjectionSize { get; init; } = 256;
    public int ImageSize { get; init; } = 512;
    public double[] ImageMean { get; init; } = [0.48145466, 0.4578275, 0.40821073];
    public double[] ImageStd { get; init; } = [0.26862954, 0.26130258, 0.27577711];
    public int CaptionStartTokenId { get; init; } = 49406;
    public int CaptionEndTokenId { get; init; } = 49407;

    /// <summary>The tokens that captions were made of in training, the end among them: no others were learned as targets. Null: any.</summary>
    public int[]? CaptionTokens { get; init; }
    public string ModelType { get; init; } = "uni_perceiver_v2";
    public string[] Architectures { get; init; } = ["UniPerceiverModel"];
}

/// <summary>Regions that may hold something.</summary>
/// <param name="Objectness">[b, proposals] logits</param>
/// <param name="Boxes">[b, proposals, 4]: center x, center y, width, height, from 0 to 1</param>
/// <param name="MaskLogits">[b, proposals, rows, columns]</param>
public sealed record RegionProposals(Tensor Objectness, Tensor Boxes, Tensor MaskLogits);

/// <summary>A batch of images as the decoder reads them.</summary>
/// <param name="Tokens">[b, global + proposals, width]</param>
/// <param name="Proposals">The regions, in the order of their tokens.</param>
public sealed record UniImages(Tensor Tokens, RegionProposals Proposals);

/// <summary>What inputs or targets are represented as, to be compared by their products.</summary>
/// <param name="Whole">[b, projection], of length 1: of the &lt;SPE&gt; token.</param>
/// <param name="Regions">[b, proposals, projection], of length 1; null where there is no image.</param>
/// <param name="Words">[b, words, projection], of length 1; null where there is no text.</param>
public sealed record UniRepresentation(Tensor Whole, Tensor? Regions, Tensor? Words);

/// <summary>What a batch is to be learned from; one task's fields are given.</summary>
public sealed record UniBatch
{
    /// <summary>[b, channels, height, width], normalized</summary>
    public required Tensor Pixels { get; init; }

    /// <summary>[targets, tokens] int64: class names (the last being the background's, for regions), answers, or captions.</summary>
    public Tensor? TargetIds { get; init; }

    /// <summary>[targets, tokens], 0 where padding</summary>
    public Tensor? TargetMask { get; init; }

    /// <summary>[b] int64: the right target of each image (or image and question).</summary>
    public Tensor? Labels { get; init; }

    /// <summary>[b, tokens] int64: what is asked about each image.</summary>
    public Tensor? QuestionIds { get; init; }

    /// <summary>[b, tokens], 0 where padding</summary>
    public Tensor? QuestionMask { get; init; }

    /// <summary>What is in each image, by class.</summary>
    public IReadOnlyList<MaskTarget>? Regions { get; init; }

    /// <summary>[b, tokens] int64: a caption an image, from its start to its end token, for retrieval and captioning.</summary>
    public Tensor? CaptionIds { get; init; }

    /// <summary>[b, tokens], 0 where padding</summary>
    public Tensor? CaptionMask { get; init; }

    /// <summary>[words] int64: what a next word is chosen among, every word of the captions included; for captioning.</summary>
    public Tensor? VocabularyIds { get; init; }
}

/// <summary>The tasks; a step trains one of them (see <see cref="Panoptes.Training.TaskMixture"/>).</summary>
public enum UniTask
{
    /// <summary>The name of what an image shows (<see cref="UniBatch.Labels"/> among the targets).</summary>
    Classification,

    /// <summary>Boxes, masks and names of everything in it.</summary>
    Detection,

    /// <summary>The caption of an image and the image of a caption, among those of the batch.</summary>
    Retrieval,

    /// <summary>Every next word of a caption.</summary>
    Captioning,

    /// <summary>The answer to a question about an image, among the targets.</summary>
    Answering,
}

/// <summary>A layer of the network that proposes regions. Keys: cross, self, ffn.</summary>
public sealed class RegionLayer(UniPerceiverConfig c) : Module
{
    public XDecoderCrossAttention Cross { get; } = new(c.HiddenSize, c.NumAttentionHeads);

    public XDecoderSelfAttention Self { get; } = new(c.HiddenSize, c.NumAttentionHeads);

    public XDecoderFeedforward Ffn { get; } = new(c.HiddenSize, c.FeedforwardSize);
}

/// <summary>
/// Proposes regions: queries that look at the image inside their masks, and say where something is, not what. Keys: queries, places, level_embed, layers.N, norm, objectness, box, mask,
/// of_box, of_mask (what tell the decoder a region's box and form).
/// </summary>
public sealed class RegionProposer : Module
{
    readonly UniPerceiverConfig c;

    public RegionProposer(UniPerceiverConfig config)
    {
        c = config;
        var d = c.HiddenSize;
        (Queries, Places, LevelEmbed) = (new(c.NumProposals, d), new(c.NumProposals, d), new(c.NumFeatureLevels, d));
        Layers = new(c.ProposalLayers, _ => new RegionLayer(c));
        Norm = new(d);
        (Objectness, Box, Mask) = (new(d, 1), new(d, d, d, 4), new(d, d, d, d));
        (OfBox, OfMask) = (new(4, d, d), new((long)c.MaskSide * c.MaskSide, d));
    }

    public Embedding Queries { get; }

    public Embedding Places { get; }

    public Embedding LevelEmbed { get; }

    public ModuleList<RegionLayer> Layers { get; }

    public LayerNorm Norm { get; }

    public Linear Objectness { get; }

    public XDecoderMlp Box { get; }

    public XDecoderMlp Mask { get; }

    public XDecoderMlp OfBox { get; }

    public Linear OfMask { get; }

    /// <returns>The regions, and each as a token: what it means, where it is and what form it has, added. [b, proposals, width]</returns>
    public (RegionProposals Proposals, Tensor Tokens) Forward(DecoderMaps maps)
    {
        using var scope = NewDisposeScope();
        var batch = maps.MaskFeatures.shape[0];
        var (x, places) = (XDecoder.Rows(Queries, batch), XDecoder.Rows(Places, batch));
        var all = ones([1, c.NumProposals, c.NumProposals], ScalarType.Bool, x.device);
        var y = Norm.Forward(x);
        var masks = Masks(y);
        for (var i = 0; i < Layers.Count; i++)
        {
            var (layer, level) = (Layers[i], i % maps.Features.Count);
            var values = maps.Features[level].flatten(2).transpose(1, 2) + LevelEmbed.Weight.Value[level];
            x = layer.Cross.Forward(x, places, values + maps.Positions[level].flatten(2).transpose(1, 2), values, XDecoder.Seen(masks, maps.Size(level)));
            x = layer.Ffn.Forward(layer.Self.Forward(x, places, all));
            y = Norm.Forward(x);
            masks = Masks(y);
        }
        var boxes = Box.Forward(y).sigmoid();
        var forms = nn.functional.adaptive_avg_pool2d(masks.sigmoid(), c.MaskSide).flatten(2);
        var tokens = y + OfBox.Forward(boxes) + OfMask.Forward(forms);
        return (new(Objectness.Forward(y).squeeze(-1).MoveToOuterDisposeScope(), boxes.MoveToOuterDisposeScope(), masks.MoveToOuterDisposeScope()), tokens.MoveToOuterDisposeScope());

        Tensor Masks(Tensor queries) => Mask.Forward(queries).matmul(maps.MaskFeatures.flatten(2)).unflatten(2, [maps.MaskFeatures.shape[2], maps.MaskFeatures.shape[3]]);
    }
}

/// <summary>
/// Uni-Perceiver v2. Keys: pyramid (with pyramid.backbone), proposer, global_proj, text_model, text_proj, spe, kinds (image or text), decoder, norm, projection, logit_scale.
/// </summary>
public sealed class UniPerceiverModel : Module
{
    public UniPerceiverModel(UniPerceiverConfig config, IImageTower tower)
    {
        Config = config;
        var d = config.HiddenSize;
        Pyramid = new(tower, d, d, config.NumFeatureLevels);
        Proposer = new(config);
        GlobalProj = new(d, d);
        TextModel = new(config.TextConfig);
        TextProj = new(config.TextConfig.HiddenSize, d);
        Spe = new([1, 1, d], Init.Normal(0.02));
        Kinds = new(2, d, Init.Normal(0.02));
        Decoder = new(config.DecoderLayers, d, config.NumAttentionHeads, config.FeedforwardSize, Activation.Gelu, 1e-5);
        Norm = new(d);
        Projection = new(d, config.ProjectionSize, bias: false);
        LogitScale = new([], Init.Constant(Math.Log(1 / 0.07)));
    }

    public UniPerceiverConfig Config { get; internal set; }

    public DecoderPyramid Pyramid { get; }

    public RegionProposer Proposer { get; }

    public Linear GlobalProj { get; }

    public ClipTextTransformer TextModel { get; }

    public Linear TextProj { get; }

    public Parameter Spe { get; }

    public Embedding Kinds { get; }

    public Encoder Decoder { get; }

    public LayerNorm Norm { get; }

    public Linear Projection { get; }

    /// <summary>The logarithm of what cosines are multiplied by, 1 / tau.</summary>
    public Parameter LogitScale { get; }

    internal static UniPerceiverModel Build(ModelSource source)
    {
        var config = source.Read<UniPerceiverConfig>();
        if (config.CaptionTokens?.Any(id => (uint)id >= (uint)config.TextConfig.VocabSize) == true) throw new PanoptesException($"caption_tokens has ids that are none of the {config.TextConfig.VocabSize} tokens.");
        return new(config, DecoderPyramid.Build(config.BackboneConfig, source, "pyramid.backbone"));
    }

    /// <summary>Images as general region proposals, after tokens for the image as a whole.</summary>
    /// <param name="pixels">[b, channels, height, width], normalized</param>
    public UniImages Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var maps = Pyramid.Forward(pixels);
        var (proposals, tokens) = Proposer.Forward(maps);
        if (!Training && Config.NumSelected < Config.NumProposals)
        {
            var kept = proposals.Objectness.topk(Config.NumSelected, 1).indexes;
            proposals = new(proposals.Objectness.gather(1, kept), Rows(proposals.Boxes, kept), Rows(proposals.MaskLogits.flatten(2), kept).unflatten(2, [proposals.MaskLogits.shape[2], proposals.MaskLogits.shape[3]]));
            tokens = Rows(tokens, kept);
        }
        var whole = GlobalProj.Forward(nn.functional.adaptive_avg_pool2d(maps.Features[0], Config.GlobalSide).flatten(2).transpose(1, 2));
        return new(cat([whole, tokens], 1).MoveToOuterDisposeScope(), new(proposals.Objectness.MoveToOuterDisposeScope(), proposals.Boxes.MoveToOuterDisposeScope(), proposals.MaskLogits.MoveToOuterDisposeScope()));

        static Tensor Rows(Tensor all, Tensor kept) => all.gather(1, kept.unsqueeze(-1).expand(-1, -1, all.shape[2]));
    }

    /// <summary>g(f(x)): an image, a text, or both together; a target is represented in the same way.</summary>
    /// <param name="images">[b] images; null: none.</param>
    /// <param name="ids">[b, tokens] int64: texts; null: none.</param>
    /// <param name="mask">[b, tokens], 0 where padding; null: none.</param>
    /// <param name="next">Whether each word is to tell the next, so that it sees the image and the words before it alone, and &lt;SPE&gt; no words.</param>
    /// <exception cref="PanoptesException">Neither an image nor a text.</exception>
    public UniRepresentation Represent(UniImages? images, Tensor? ids = null, Tensor? mask = null, bool next = false)
    {
        if (images is null && ids is null) throw new PanoptesException("Nothing was to be represented; expected an image or a text.");
        using var scope = NewDisposeScope();
        var batch = images?.Tokens.shape[0] ?? ids!.shape[0];
        var parts = new List<Tensor> { Spe.Value.expand(batch, 1, -1) };
        if (images is not null) parts.Add(images.Tokens + Kinds.Weight.Value[0]);
        if (ids is not null) parts.Add(TextProj.Forward(TextModel.Forward(ids, mask, null).Tokens) + Kinds.Weight.Value[1]);
        var x = cat(parts, 1);
        var (all, words) = (x.shape[1], ids?.shape[1] ?? 0);
        Tensor? seen = null;
        if (words > 0 && (next || mask is not null))
        {
            seen = mask is null ? ones([batch, 1, 1, all], ScalarType.Bool, x.device) : cat([ones(batch, all - words, dtype: ScalarType.Bool, device: x.device), mask.ne(0)], 1).view(batch, 1, 1, all);
            if (next)
            {
                // Words after everything else, one by one.
                var order = cat([zeros(all - words, dtype: ScalarType.Int64), arange(1, words + 1, dtype: ScalarType.Int64)]).to(x.device);
                seen = seen.logical_and(order.unsqueeze(0).le(order.unsqueeze(1)));
            }
        }
        var y = XDecoder.Unit(Projection.Forward(Norm.Forward(Decoder.Forward(x, seen))));
        var regions = images is null ? 0 : images.Proposals.Boxes.shape[1];
        return new(y.select(1, 0).MoveToOuterDisposeScope(),
            images is null ? null : y.narrow(1, all - words - regions, regions).MoveToOuterDisposeScope(),
            words == 0 ? null : y.narrow(1, all - words, words).MoveToOuterDisposeScope());
    }

    /// <summary>Texts as targets: [texts, projection], of length 1.</summary>
    public Tensor Targets(Tensor ids, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        return Represent(null, ids, mask).Whole.MoveToOuterDisposeScope();
    }

    /// <summary>The logarithms of P(x, y) but for what is the same for all targets: [..., inputs, projection] and [targets, projection] to [..., inputs, targets].</summary>
    public Tensor Likelihood(Tensor inputs, Tensor targets)
    {
        using var scope = NewDisposeScope();
        return (LogitScale.Value.exp() * inputs.matmul(targets.t())).MoveToOuterDisposeScope();
    }

    /// <summary>What the regions of images are: the names' likelihoods beside the masks.</summary>
    /// <param name="images">Encoded.</param>
    /// <param name="names">[classes + 1, projection]: <see cref="Targets"/> of the names, the last being the background's.</param>
    public MaskPrediction Segment(UniImages images, Tensor names)
    {
        using var scope = NewDisposeScope();
        return new(Likelihood(Represent(images).Regions!, names).MoveToOuterDisposeScope(), images.Proposals.MaskLogits.alias().MoveToOuterDisposeScope());
    }

    /// <summary>Captions, each word the likeliest of a vocabulary.</summary>
    /// <param name="images">Encoded.</param>
    /// <param name="vocabularyIds">[words] int64: what a word may be, the end token among them.</param>
    /// <param name="most">The most tokens, with the start and the end.</param>
    /// <returns>Of each image the ids between the start and the end token.</returns>
    public IReadOnlyList<int[]> Caption(UniImages images, Tensor vocabularyIds, int most = 32)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var batch = (int)images.Tokens.shape[0];
        var vocabulary = Targets(vocabularyIds.unsqueeze(1));
        var captions = Enumerable.Range(0, batch).Select(static _ => new List<long>()).ToArray();
        var done = new bool[batch];
        for (var step = 1; step < Math.Min(most, Config.TextConfig.MaxPositionEmbeddings) && done.Contains(false); step++)
        {
            using var inner = NewDisposeScope();
            var ids = tensor(captions.SelectMany(c => c.Prepend(Config.CaptionStartTokenId)).ToArray(), [batch, step]).to(images.Tokens.device);
            var words = Represent(images, ids, next: true).Words!.select(1, step - 1);
            var next = vocabularyIds.index_select(0, Likelihood(words, vocabulary).argmax(-1)).data<long>().ToArray();
            for (var i = 0; i < batch; i++)
            {
                done[i] |= next[i] == Config.CaptionEndTokenId;
                captions[i].Add(done[i] ? Config.CaptionEndTokenId : next[i]);
            }
        }
        return [.. captions.Select(c => c.TakeWhile(id => id != Config.CaptionEndTokenId).Select(static id => (int)id).ToArray())];
    }

    /// <summary>The loss of one task: in every one the likelihood of the right target, and for detection where the regions are as well.</summary>
    /// <param name="task">Which.</param>
    /// <param name="batch">What it needs.</param>
    /// <param name="options">What matching and masks weigh.</param>
    /// <param name="generator">Draws the points at which masks are compared.</param>
    /// <returns>a scalar</returns>
    /// <exception cref="PanoptesException">The batch lacks what the task needs.</exception>
    public Tensor Loss(UniTask task, UniBatch batch, MaskLossOptions? options = null, Generator? generator = null)
    {
        using var scope = NewDisposeScope();
        var images = Encode(batch.Pixels);
        var loss = task switch
        {
            UniTask.Classification => nn.functional.cross_entropy(Likelihood(Represent(images).Whole, Targets(Need(batch.TargetIds), batch.TargetMask)), Need(batch.Labels)),
            UniTask.Answering => nn.functional.cross_entropy(Likelihood(Represent(images, Need(batch.QuestionIds), batch.QuestionMask).Whole, Targets(Need(batch.TargetIds), batch.TargetMask)), Need(batch.Labels)),
            UniTask.Retrieval => XDecoderModel.Contrast(Likelihood(Represent(images).Whole, Targets(Need(batch.CaptionIds), batch.CaptionMask))),
            UniTask.Captioning => NextWords(images, Need(batch.CaptionIds), batch.CaptionMask, Need(batch.VocabularyIds)),
            _ => Regions(images, Targets(Need(batch.TargetIds), batch.TargetMask), batch.Regions ?? throw Missing(), options ?? new(), generator),
        };
        return loss.MoveToOuterDisposeScope();

        Tensor Need(Tensor? value) => value ?? throw Missing();

        PanoptesException Missing() => new($"The batch lacks what the task {task} is learned from.");
    }

    Tensor NextWords(UniImages images, Tensor ids, Tensor? mask, Tensor vocabulary)
    {
        var length = ids.shape[1] - 1;
        var words = Represent(images, ids.narrow(1, 0, length), mask?.narrow(1, 0, length), next: true).Words!;
        // Where each word stands among the candidates.
        var wanted = ids.unsqueeze(-1).eq(vocabulary).to(ScalarType.Int32);
        if (!wanted.any(-1).logical_or(mask is null ? zeros_like(ids).ne(0) : mask.eq(0)).all().item<bool>()) throw new PanoptesException("A caption has a word that is not in the vocabulary.");
        return XDecoderModel.NextWords(Likelihood(words, Targets(vocabulary.unsqueeze(1))), wanted.argmax(-1), mask);
    }

    /// <summary>Names and masks as of any set of masks, boxes by their edges and overlap, and whether there is something at all.</summary>
    Tensor Regions(UniImages images, Tensor names, IReadOnlyList<MaskTarget> targets, MaskLossOptions options, Generator? generator)
    {
        const double boxWeight = 5, overlapWeight = 2;
        var proposals = images.Proposals;
        var predicted = new MaskPrediction(Likelihood(Represent(images).Regions!, names), proposals.MaskLogits);
        var total = MaskLoss.Of(predicted, targets, options, generator).Total;
        var matches = MaskLoss.Match(predicted, targets, options, generator);
        var (found, wanted) = (new List<Tensor>(), new List<Tensor>());
        var something = zeros_like(proposals.Objectness);
        for (var i = 0; i < targets.Count; i++)
        {
            if (matches[i].Count == 0) continue;
            var rows = tensor((long[])[.. matches[i].Rows.Select(static r => (long)r)]).to(something.device);
            something[i] = something[i].index_fill(0, rows, 1);
            found.Add(proposals.Boxes[i].index_select(0, rows));
            wanted.Add(BoxesOf(targets[i].Masks).index_select(0, tensor((long[])[.. matches[i].Columns.Select(static c => (long)c)])).to(something.device));
        }
        total = total + nn.functional.binary_cross_entropy_with_logits(proposals.Objectness, something);
        if (found.Count == 0) return total + (proposals.Boxes.sum() * 0);
        var (told, right) = (cat(found), cat(wanted));
        return total + (boxWeight * nn.functional.l1_loss(told, right)) + (overlapWeight * (1 - Boxes.GeneralizedIouOfPairs(Boxes.ToCorners(told), Boxes.ToCorners(right)).mean()));
    }

    /// <summary>The boxes around masks [n, height, width]: [n, 4] center x, center y, width, height, from 0 to 1. Of an empty mask all of the image.</summary>
    public static Tensor BoxesOf(Tensor masks)
    {
        using var scope = NewDisposeScope();
        var inside = masks.ne(0);
        var ((left, right), (top, bottom)) = (Ends(inside.any(1)), Ends(inside.any(2)));
        return Boxes.ToCenters(stack([left, top, right, bottom], -1)).MoveToOuterDisposeScope();

        // The first and the end of what is set in [n, length], from 0 to 1.
        static (Tensor First, Tensor End) Ends(Tensor set)
        {
            var (length, bytes) = (set.shape[1], set.to(ScalarType.Float32));
            return (bytes.argmax(1).to(ScalarType.Float32) / length, (length - bytes.flip(1).argmax(1).to(ScalarType.Float32)) / length);
        }
    }
}
