using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Training;

namespace Panoptes.Understanding.Training;

/// <summary>Which weights of a model are trained.</summary>
public enum Tuning
{
    /// <summary>All of them.</summary>
    All,

    /// <summary>The mask decoder alone: the image encoder and the prompt encoder stay as they are.</summary>
    Decoder,

    /// <summary>The mask decoder, and low-rank changes of the image encoder's attention (<see cref="LowRank"/>), which are merged into what is saved.</summary>
    LowRank,
}

/// <summary>
/// SAM's training (Kirillov et al. 2023, arXiv:2304.02643, appendix A): a thing is pointed at by a click or a box that is drawn carelessly, and then corrected by clicks where the mask is still wrong,
/// which the model gets together with its mask from before.
/// </summary>
public sealed record SegmentAnythingOptions : SceneTaskOptions
{
    /// <summary>Things of a scene that are pointed at in a step; a scene of fewer has some of them twice, by other prompts.</summary>
    public int Things { get; init; } = 4;

    /// <summary>Corrections after the first prompt (8 in the paper).</summary>
    public int Corrections { get; init; } = 2;

    /// <summary>How often the first prompt is a box instead of a click.</summary>
    public float BoxProbability { get; init; } = 0.5f;

    /// <summary>How carelessly a box is drawn: the deviation of each of its edges as a share of its side.</summary>
    public float BoxNoise { get; init; } = 0.1f;

    /// <summary>The weight of the focal loss beside that of the dice loss, which is 1.</summary>
    public double FocalWeight { get; init; } = 20;

    /// <summary>The weight of the squared error of the IoU that the model thinks it has.</summary>
    public double IouWeight { get; init; } = 1;

    public Tuning Tune { get; init; }

    /// <summary>Of low-rank changes.</summary>
    public int Rank { get; init; } = 4;

    /// <summary>The most clicks of a test.</summary>
    public int TestClicks { get; init; } = 5;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (Things < 1 || Corrections < 0 || TestClicks < 1 || BoxProbability is not (>= 0 and <= 1) || !(BoxNoise >= 0)) throw new PanoptesException("things and test_clicks must be 1 or more, corrections and box_noise 0 or more, and box_probability from 0 to 1.");
        var model = setting.Recipe.Model.Build<SamModel>(setting);
        try
        {
            if (model.ImageSize != setting.Recipe.Data.Scenes.Size) throw new PanoptesException($"The model takes images of {model.ImageSize} pixels, but the scenes have {setting.Recipe.Data.Scenes.Size}.");
            return new SegmentAnything(model, this, setting);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}

/// <inheritdoc cref="SegmentAnythingOptions"/>
sealed class SegmentAnything : SceneObjective
{
    static readonly float[] Mean = ImageProcessor.ImageNetMean, Std = ImageProcessor.ImageNetStd;

    readonly SamModel model;
    readonly SegmentAnythingOptions options;

    public SegmentAnything(SamModel model, SegmentAnythingOptions options, SceneSetting setting)
    {
        (this.model, this.options) = (model, options);
        if (options.Tune == Tuning.All) return;
        if (options.Tune == Tuning.LowRank)
        {
            Changes = LowRank.Of(model, static key => key.StartsWith("vision_encoder.", StringComparison.Ordinal) && key.EndsWith(".attn.qkv", StringComparison.Ordinal), options.Rank, 2 * options.Rank);
            Changes.Initialize(setting.Generator);
        }
        model.RequiresGrad(false);
        model.MaskDecoder.RequiresGrad(true);
    }

    public override SamModel Model => model;

    /// <summary>Low-rank changes of the image encoder; null where there are none.</summary>
    public ModuleList<LowRank>? Changes { get; }

    public override string Monitor => $"iou_{Math.Min(3, options.TestClicks)}";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var (scenes, count) = (batch.Scenes.Count, options.Things);
        var labels = Things(batch, random);                                           // [b · things, side, side] bool, in the image's size
        var small = Shrink(labels);                                                   // [b · things, mask, mask] float, as the model's masks
        var features = model.EncodeImage(batch.Normalized(Mean, Std));
        var embedded = features.Embeddings.to(ScalarType.Float32).repeat_interleave(count, 0);
        var rows = scenes * count;

        // Which rows start with a box is drawn; they go through the decoder by themselves, since no other token stands in for a click there.
        var order = rand([rows], generator: random).argsort();
        var boxed = (long)Math.Round(rows * options.BoxProbability);
        var turns = new List<Turn>();
        foreach (var (index, isBox) in (ReadOnlySpan<(Tensor, bool)>)[(order.narrow(0, 0, boxed), true), (order.narrow(0, boxed, rows - boxed), false)])
            if (index.shape[0] > 0) Interact(embedded[index], labels[index], small[index], isBox, random, turns);

        var n = (double)rows * (options.Corrections + 1);
        Tensor Average(Func<Turn, Tensor> of) => turns.Select(of).Aggregate(static (x, y) => x + y) / n;
        var (focal, dice, iouError) = (Average(static t => t.Focal), Average(static t => t.Dice), Average(static t => t.IouError));
        return new Dictionary<string, Tensor> { ["loss"] = focal * options.FocalWeight + dice + iouError * options.IouWeight, ["focal"] = focal, ["dice"] = dice, ["iou_error"] = iouError, ["iou"] = Average(static t => t.Iou) };
    }

    /// <summary>What one answer of the model cost, summed over its rows.</summary>
    readonly record struct Turn(Tensor Focal, Tensor Dice, Tensor IouError, Tensor Iou);

    /// <summary>A first prompt and the corrections that follow it.</summary>
    /// <param name="image">[n, width, grid, grid]</param>
    /// <param name="labels">[n, side, side] bool</param>
    /// <param name="small">[n, mask, mask]</param>
    void Interact(Tensor image, Tensor labels, Tensor small, bool isBox, Generator random, List<Turn> turns)
    {
        var boxes = isBox ? Careless(labels, random) : null;
        var (points, kinds) = isBox ? (null, null) : Clicks(labels, labels, random);
        Tensor? previous = null;
        for (var i = 0; i <= options.Corrections; i++)
        {
            // One click may mean a part or the whole, so that the best of several masks counts; a box or more clicks say what is meant.
            var masks = model.Decode(new([image]), new(points, kinds, boxes, previous), multimask: i == 0 && !isBox);
            var logits = masks.Logits.squeeze(1).to(ScalarType.Float32);              // [n, masks, mask, mask]
            var (n, count, side) = (logits.shape[0], logits.shape[1], logits.shape[3]);
            var wanted = small.unsqueeze(1).expand_as(logits);
            var (flat, flatWanted) = (logits.reshape(n * count, side * side), wanted.reshape(n * count, side * side));
            var (focal, dice, iou) = (DetrLoss.Focal(flat, flatWanted).view(n, count), DetrLoss.Dice(flat, flatWanted).view(n, count), InteractiveEvaluation.Iou(logits.detach().gt(0), wanted.gt(0)));
            var best = (focal.detach() * options.FocalWeight + dice.detach()).argmin(1, keepdim: true);
            turns.Add(new(focal.gather(1, best).sum(), dice.gather(1, best).sum(), (masks.IouScores.squeeze(1).to(ScalarType.Float32) - iou).square().mean([1]).sum(), iou.gather(1, best).sum()));
            if (i == options.Corrections) break;
            previous = logits.detach().gather(1, best.view(-1, 1, 1, 1).expand(-1, 1, side, side));
            var told = InteractiveEvaluation.Enlarge(previous, labels.shape[1], labels.shape[2]).squeeze(1).gt(0);
            var (place, kind) = Clicks(labels.logical_xor(told), labels, random);
            (points, kinds) = (points is null ? place : cat([points, place], 2), kinds is null ? kind : cat([kinds, kind], 2));
        }
    }

    /// <summary>So many things of each scene: [b · things, side, side] bool.</summary>
    Tensor Things(SceneBatch batch, Generator random)
    {
        var counts = batch.Scenes.Select(static s => (long)s.Objects.Count).ToArray();
        // A random start and then one after the other, so that none comes twice before all have come.
        var start = rand([counts.Length, 1], generator: random);
        var picked = (start.mul(tensor(counts).view(-1, 1)).floor().to(ScalarType.Int64) + arange(options.Things, dtype: ScalarType.Int64)).remainder(tensor(counts).view(-1, 1));
        return batch.Ids.unsqueeze(1).eq((picked + 1).view(counts.Length, -1, 1, 1).to(batch.Ids.dtype)).flatten(0, 1);
    }

    Tensor Shrink(Tensor labels) => nn.functional.adaptive_avg_pool2d(labels.unsqueeze(1).to(ScalarType.Float32), [model.MaskSize, model.MaskSize]).squeeze(1).ge(0.5).to(ScalarType.Float32);

    /// <summary>A click on a random pixel of each row's wrong ones (anywhere where nothing is wrong): its place [n, 1, 1, 2] and whether it is on the thing [n, 1, 1].</summary>
    static (Tensor Places, Tensor Labels) Clicks(Tensor wrong, Tensor labels, Generator random)
    {
        var (index, width) = (InteractiveEvaluation.RandomPixel(wrong, random), wrong.shape[2]);
        var label = labels.flatten(1).gather(1, index).to(ScalarType.Int64);
        var (x, y) = (index.remainder(width), index.div(width, RoundingMode.floor));
        return (stack([x, y], -1).to(ScalarType.Float32).view(-1, 1, 1, 2), label.view(-1, 1, 1));
    }

    /// <summary>The corners of each row's box, drawn carelessly: [n, 1, 4].</summary>
    Tensor Careless(Tensor labels, Generator random)
    {
        var (rows, columns) = (labels.any(2), labels.any(1));                         // [n, side]
        var (top, bottom) = Range(rows);
        var (left, right) = Range(columns);
        var box = stack([left, top, right, bottom], -1);                              // [n, 4]
        var sides = stack([right - left, bottom - top, right - left, bottom - top], -1);
        var noise = randn(box.shape, generator: random).mul(options.BoxNoise).clamp(-0.3, 0.3);
        return (box + noise * sides).clamp(0, labels.shape[2]).view(-1, 1, 4);

        static (Tensor First, Tensor Past) Range(Tensor seen)
        {
            var number = seen.to(ScalarType.Float32);
            return (number.argmax(1).to(ScalarType.Float32), seen.shape[1] - number.flip(1).argmax(1).to(ScalarType.Float32));
        }
    }

    /// <summary>A simulated user clicks at every thing until it is right or the clicks are over; and draws the box of each.</summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var result = new Dictionary<string, double>();
        (string Prefix, EmojiSplit Split)[] splits = [("", EmojiSplit.HeldOutStyle), ("concepts_", EmojiSplit.HeldOutConcepts)];
        var total = splits.Sum(s => tests.Scenes(s.Split).Count);
        var done = 0;
        foreach (var (prefix, split) in splits)
        {
            var (clicks, boxIou, boxes) = (new ClickScores(), 0.0, 0);
            foreach (var batch in tests.Batches(split, 8))
            {
                cancel.ThrowIfCancellationRequested();
                using var scope = NewDisposeScope();
                using (batch)
                {
                    using var features = model.EncodeImage(batch.Normalized(Mean, Std));
                    for (var i = 0; i < batch.Scenes.Count; i++)
                    {
                        var (labels, image) = (batch.Masks(i), new SamFeatures([.. features.Maps.Select(m => m.narrow(0, i, 1))]));
                        foreach (var ious in InteractiveEvaluation.Clicks(model, image, labels, options.TestClicks)) clicks.Add(ious);
                        boxIou += InteractiveEvaluation.Boxes(model, image, labels, batch.Boxes(i)).Sum();
                        boxes += (int)labels.shape[0];
                    }
                }
                done += batch.Scenes.Count;
                progress?.Report(new(done, total));
            }
            if (clicks.Count == 0) continue;
            var curve = clicks.Curve(options.TestClicks);
            foreach (var k in (ReadOnlySpan<int>)[1, 2, 3, 5, 8])
                if (k <= options.TestClicks) result[$"{prefix}iou_{k}"] = curve[k - 1];
            result[$"{prefix}iou_box"] = boxIou / boxes;
            result[$"{prefix}noc_85"] = clicks.NumberOfClicks(0.85, options.TestClicks);
        }
        return result;
    }

    public override void Save(string folder)
    {
        using var merged = Changes is { } changes ? LowRank.Merge(changes) : null;
        PromptableModels.Save(folder, model);
        Sam.ProcessorOf(model).Save(folder);
    }
}
