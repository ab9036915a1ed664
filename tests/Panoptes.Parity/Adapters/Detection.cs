using System.Globalization;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>DETR's matching and losses, with their gradients.</summary>
sealed class DetrMatching : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "hungarian-detr";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var (a, weights) = (c.Arguments, c.Arguments.GetProperty("weights"));
        var options = new DetrLossOptions
        {
            ClassCost = a.GetProperty("class_cost").GetDouble(),
            BboxCost = a.GetProperty("bbox_cost").GetDouble(),
            GiouCost = a.GetProperty("giou_cost").GetDouble(),
            EosCoefficient = a.GetProperty("eos_coefficient").GetDouble(),
            BboxLossCoefficient = weights.GetProperty("loss_bbox").GetDouble(),
            GiouLossCoefficient = weights.GetProperty("loss_giou").GetDouble(),
            MaskLossCoefficient = weights.GetProperty("loss_mask").GetDouble(),
            DiceLossCoefficient = weights.GetProperty("loss_dice").GetDouble(),
        };
        var predicted = new DetectionPrediction(Leaf("logits"), Leaf("pred_boxes"), Leaf("pred_masks"));
        DetectionTarget[] targets = [.. Enumerable.Range(0, (int)predicted.Logits.shape[0]).Select(i => new DetectionTarget(c.Input($"class_labels.{i}"), c.Input($"boxes.{i}"), c.Input($"masks.{i}")))];
        yield return ("cost", DetrLoss.Costs(predicted, targets, options));
        var (own, right) = (Boxes.ToCorners(c.Input("pred_boxes").flatten(0, 1)), Boxes.ToCorners(cat([.. targets.Select(static t => t.Boxes)])));
        yield return ("iou", Boxes.Iou(own, right));
        yield return ("giou", Boxes.GeneralizedIou(own, right));
        foreach (var (match, i) in DetrLoss.Match(predicted, targets, options).Select(static (m, i) => (m, i)))
        {
            yield return ($"source_indices.{i}", tensor(match.Rows.Select(static r => (long)r).ToArray()));
            yield return ($"target_indices.{i}", tensor(match.Columns.Select(static r => (long)r).ToArray()));
        }
        var losses = DetrLoss.Of(predicted, targets, options);
        yield return ("loss_ce", losses.Classes);
        yield return ("loss_bbox", losses.Boxes);
        yield return ("loss_giou", losses.Giou);
        yield return ("cardinality_error", losses.CardinalityError);
        yield return ("loss_mask", losses.Mask!);
        yield return ("loss_dice", losses.Dice!);
        yield return ("total", losses.Total);
        losses.Total.backward();
        yield return ("grad.logits", predicted.Logits.grad!);
        yield return ("grad.pred_boxes", predicted.Boxes.grad!);
        yield return ("grad.pred_masks", predicted.Masks!.grad!);

        Tensor Leaf(string name) => c.Input(name).clone().requires_grad_();
    }
}

/// <summary>Grounding DINO's matching and losses, with their gradients.</summary>
sealed class GroundingDinoMatching : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "hungarian-grounding-dino";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var (a, weights) = (c.Arguments, c.Arguments.GetProperty("weights"));
        var options = new DetrLossOptions
        {
            ClassCost = a.GetProperty("class_cost").GetDouble(),
            BboxCost = a.GetProperty("bbox_cost").GetDouble(),
            GiouCost = a.GetProperty("giou_cost").GetDouble(),
            BboxLossCoefficient = weights.GetProperty("loss_bbox").GetDouble(),
            GiouLossCoefficient = weights.GetProperty("loss_giou").GetDouble(),
        };
        var (ids, mask) = (c.Input("input_ids"), c.Input("attention_mask"));
        DetectionTarget[] targets = [.. Enumerable.Range(0, (int)ids.shape[0]).Select(i => new DetectionTarget(c.Input($"class_labels.{i}"), c.Input($"boxes.{i}")))];
        var tokens = (int)c.Input("logits").shape[2];
        var (phrases, real) = (GroundingDinoLoss.Phrases(ids, tokens), cat([mask.ne(0), zeros(ids.shape[0], tokens - ids.shape[1], dtype: ScalarType.Bool)], 1));
        var (last, first) = (new DetectionPrediction(Leaf("logits"), Leaf("pred_boxes")), new DetectionPrediction(Leaf("encoder_logits"), Leaf("encoder_pred_boxes")));
        foreach (var (match, i) in DetrLoss.Match(GroundingDinoLoss.Costs(last, targets, phrases, options), targets).Select(static (m, i) => (m, i)))
        {
            yield return ($"source_indices.{i}", tensor(match.Rows.Select(static r => (long)r).ToArray()));
            yield return ($"target_indices.{i}", tensor(match.Columns.Select(static r => (long)r).ToArray()));
        }
        var sum = zeros([]);
        foreach (var (prediction, suffix) in new[] { (last, ""), (first, "_enc") })
        {
            var losses = GroundingDinoLoss.Of(prediction, targets, phrases, real, options, a.GetProperty("focal_alpha").GetDouble());
            yield return ("loss_ce" + suffix, losses.Classes);
            yield return ("loss_bbox" + suffix, losses.Boxes);
            yield return ("loss_giou" + suffix, losses.Giou);
            yield return ("cardinality_error" + suffix, losses.CardinalityError);
            sum = sum + losses.Total;
        }
        yield return ("total", sum);
        sum.backward();
        yield return ("grad.logits", last.Logits.grad!);
        yield return ("grad.pred_boxes", last.Boxes.grad!);
        yield return ("grad.encoder_logits", first.Logits.grad!);
        yield return ("grad.encoder_pred_boxes", first.Boxes.grad!);

        Tensor Leaf(string name) => c.Input(name).clone().requires_grad_();
    }
}

/// <summary>What becomes of raw outputs.</summary>
sealed class DetectionPostProcessing : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "postprocess-detection";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var a = c.Arguments;
        (int, int)[] sizes = [.. a.GetProperty("target_sizes").EnumerateArray().Select(static s => (s[0].GetInt32(), s[1].GetInt32()))];
        var guided = a.GetProperty("image_guided");
        return
        [
            .. Tensors("detr", DetectionOutput.FromClasses(c.Input("detr_logits"), c.Input("pred_boxes"), sizes, a.GetProperty("detr_threshold").GetDouble(), Name)),
            .. Tensors("owlvit", DetectionOutput.FromTexts(c.Input("owlvit_logits"), c.Input("pred_boxes"), sizes, a.GetProperty("owlvit_threshold").GetDouble(), Name)),
            .. Tensors("owlvit_image_guided", DetectionOutput.FromImage(c.Input("owlvit_logits").narrow(-1, 0, 1), c.Input("guided_pred_boxes"), sizes,
                guided.GetProperty("threshold").GetDouble(), guided.GetProperty("nms_threshold").GetDouble(), "0")),
        ];

        static string Name(int label) => label.ToString(CultureInfo.InvariantCulture);
    }

    static IEnumerable<(string, Tensor)> Tensors(string name, IReadOnlyList<IReadOnlyList<Detection>> images)
    {
        for (var i = 0; i < images.Count; i++)
        {
            yield return ($"{name}.{i}.scores", tensor(images[i].Select(static d => d.Score).ToArray()));
            yield return ($"{name}.{i}.labels", tensor(images[i].Select(static d => long.Parse(d.Label, CultureInfo.InvariantCulture)).ToArray()));
            yield return ($"{name}.{i}.boxes", tensor(images[i].SelectMany(static d => (float[])[d.Left, d.Top, d.Right, d.Bottom]).ToArray(), [images[i].Count, 4]));
        }
    }
}

/// <summary>Hugging Face's OwlViTForObjectDetection, by texts and by example.</summary>
sealed class OwlVitAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "OwlViTForObjectDetection";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<OwlVitForObjectDetection>(c.Folder);
        var (pixels, ids, mask) = (c.Input("pixel_values"), c.Input("input_ids"), c.Input("attention_mask"));
        var output = model.Forward(pixels, ids, mask);
        yield return ("logits", output.Logits);
        yield return ("pred_boxes", output.Boxes);
        yield return ("class_embeds", output.ClassEmbeds);
        yield return ("image_embeds", model.EncodeImages(pixels));
        yield return ("text_embeds", model.EncodeTexts(ids, mask).view(pixels.shape[0], -1, model.Config.ProjectionDim));
        var (found, boxes) = model.ForwardByExample(pixels, c.Input("query_pixel_values"));
        yield return ("image_guided_logits", found.Logits);
        yield return ("image_guided_target_pred_boxes", found.Boxes);
        yield return ("image_guided_query_pred_boxes", boxes);
    }
}

/// <summary>Hugging Face's DetrForSegmentation.</summary>
sealed class DetrSegmentationAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "DetrForSegmentation";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<DetrForSegmentation>(c.Folder);
        var last = model.Forward(c.Input("pixel_values"), c.HasInput("pixel_mask") ? c.Input("pixel_mask") : null)[^1];
        yield return ("logits", last.Logits);
        yield return ("pred_boxes", last.Boxes);
        yield return ("pred_masks", last.Masks!);
    }
}

/// <summary>Hugging Face's DetrForObjectDetection.</summary>
sealed class DetrAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "DetrForObjectDetection";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<DetrForObjectDetection>(c.Folder);
        var output = model.Forward(c.Input("pixel_values"), c.HasInput("pixel_mask") ? c.Input("pixel_mask") : null);
        yield return ("logits", output.Logits);
        yield return ("pred_boxes", output.Boxes);
        yield return ("last_hidden_state", output.LastHiddenState);
        yield return ("encoder_last_hidden_state", output.EncoderLastHiddenState);
    }
}

/// <summary>Hugging Face's GroundingDinoForObjectDetection.</summary>
sealed class GroundingDinoAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "GroundingDinoForObjectDetection";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<GroundingDinoForObjectDetection>(c.Folder);
        var output = model.Forward(c.Input("pixel_values"), c.Input("input_ids"), Optional("attention_mask"), Optional("pixel_mask"), Optional("token_type_ids"));
        yield return ("logits", Finite(output.Logits));
        yield return ("pred_boxes", output.Boxes);
        yield return ("last_hidden_state", output.LastHiddenState);
        yield return ("init_reference_points", output.Start);
        yield return ("encoder_last_hidden_state_vision", output.Vision);
        yield return ("encoder_last_hidden_state_text", output.Text);
        if (c.HasOutput("encoder_logits")) yield return ("encoder_logits", Finite(output.TargetLogits));

        Tensor? Optional(string name) => c.HasInput(name) ? c.Input(name) : null;

        // The case's files hold finite numbers alone.
        static Tensor Finite(Tensor logits) => logits.masked_fill(logits.isinf(), -1e30);
    }
}

/// <summary>Full-size checkpoints of the detectors.</summary>
sealed class DetectionLayouts : ILayoutAdapter
{
    static readonly string[] Architectures = ["OwlViTForObjectDetection", "DetrForObjectDetection", "DetrForSegmentation", "GroundingDinoForObjectDetection"];

    public bool Matches(ParityLayout layout) => Architectures.Contains(layout.Architecture);

    public Module Build(ParityLayout layout)
    {
        var source = new ModelSource(layout.Config.GetRawText(), layout.Name, key => layout.Keys.TryGetValue(key, out var entry) ? entry.Shape : null);
        return PromptableModels.All.First(e => e.Architecture == layout.Architecture).Build(source);
    }
}
