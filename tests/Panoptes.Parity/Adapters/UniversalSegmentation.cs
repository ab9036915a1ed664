using System.Text.Json;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>Mask2Former.</summary>
sealed class Mask2FormerAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Mask2FormerForUniversalSegmentation" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<Mask2FormerForUniversalSegmentation>(c.Folder);
        var output = model.Forward(c.Input("pixel_values"));
        yield return ("class_queries_logits", output.Predictions[^1].Classes);
        yield return ("masks_queries_logits", output.Predictions[^1].Masks);
        for (var i = 0; i < output.Predictions.Count - 1; i++)
        {
            yield return ($"aux_classes.{i}", output.Predictions[i].Classes);
            yield return ($"aux_masks.{i}", output.Predictions[i].Masks);
        }
        yield return ("pixel_decoder_last_hidden_state", output.Features);
        yield return ("transformer_decoder_last_hidden_state", output.Queries);
        for (var i = 0; i < output.Maps.Count; i++) yield return ($"encoder_hidden_states.{i}", output.Maps[i]);
    }
}

/// <summary>OneFormer, the same image with two tasks; with texts where it has its text encoder.</summary>
sealed class OneFormerAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "OneFormerForUniversalSegmentation" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<OneFormerForUniversalSegmentation>(c.Folder);
        foreach (var (prefix, task) in c.InputNames.Where(static n => n.EndsWith("task_inputs", StringComparison.Ordinal)).Select(static n => (n[..^"task_inputs".Length], n)))
        {
            var output = model.Forward(c.Input("pixel_values"), c.Input(task));
            yield return (prefix + "class_queries_logits", output.Predictions[^1].Classes);
            yield return (prefix + "masks_queries_logits", output.Predictions[^1].Masks);
            yield return (prefix + "task_token", output.TaskToken);
            if (prefix.Length > 0) continue;
            yield return ("transformer_decoder_class_predictions", output.Predictions[^1].Classes);
            yield return ("transformer_decoder_mask_predictions", output.Predictions[^1].Masks);
        }
    }
}

/// <summary>The losses of whole models, from images to gradients; points are drawn as the peer draws them.</summary>
sealed class UniversalLossAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture is "Mask2FormerForUniversalSegmentation" or "OneFormerForUniversalSegmentation" && c.Call == "loss";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load(c.Folder);
        model.Train();
        var targets = Enumerable.Range(0, (int)c.Input("pixel_values").shape[0]).Select(i => new MaskTarget(c.Input($"class_labels.{i}"), c.Input($"mask_labels.{i}"))).ToArray();
        var generator = new Generator((ulong)c.Arguments.GetProperty("seed").GetInt64());
        var loss = model is OneFormerForUniversalSegmentation one
            ? one.Loss(c.Input("pixel_values"), c.Input("task_inputs"), targets, c.Input("text_inputs"), generator)
            : ((Mask2FormerForUniversalSegmentation)model).Loss(c.Input("pixel_values"), targets, generator);
        yield return ("loss", loss);
        loss.backward();
        foreach (var (key, parameter) in model.NamedParameters())
            if (c.HasOutput("grad." + key)) yield return ("grad." + key, parameter.Grad!);
        if (c.HasOutput("text_queries")) yield return ("text_queries", ((OneFormerForUniversalSegmentation)model).Model.TextMapper!.Forward(c.Input("text_inputs")));
    }
}

/// <summary>The image processors of both.</summary>
sealed class UniversalPreprocessingAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "preprocess_mask2former";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        Image[] images = [.. c.InputNames.Where(static n => n.StartsWith("image.", StringComparison.Ordinal)).Order().Select(n => Image.FromTensor(c.Input(n).permute(2, 0, 1)))];
        foreach (var tag in c.Arguments.EnumerateObject())
        {
            var processor = (PaddedImageProcessor)ImageProcessor.Parse(tag.Value.GetRawText(), tag.Name);
            var batch = processor.ProcessPadded(images);
            yield return ($"{tag.Name}.pixel_values", batch.PixelValues);
            yield return ($"{tag.Name}.pixel_mask", batch.PixelMask.to(ScalarType.Byte));
            yield return ($"{tag.Name}.single", processor.Process(images[0])[0]);
        }
    }
}

/// <summary>Mask2Former's matching and losses at points that are given.</summary>
sealed class MaskLossAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "hungarian-mask2former";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        double Weight(string name) => c.Arguments.GetProperty(name).GetDouble();

        var options = new MaskLossOptions { ClassWeight = Weight("class_weight"), MaskWeight = Weight("mask_weight"), DiceWeight = Weight("dice_weight") };
        var (classes, points) = (c.Input("class_queries_logits"), c.Input("point_coordinates"));
        var masks = c.Input("masks_queries_logits").detach().clone().requires_grad_();
        var target = new MaskTarget(c.Input("class_labels"), c.Input("mask_labels"));
        yield return ("sampled_predictions", MaskLoss.Sample(masks, points));
        yield return ("sampled_targets", MaskLoss.Sample(target.Masks, points));
        var costs = MaskLoss.Costs(classes, masks, target, points, options);
        yield return ("cost_mask", costs.Mask);
        yield return ("cost_dice", costs.Dice);
        yield return ("cost_class", costs.Class);
        yield return ("cost", costs.Total);
        var match = HungarianMatching.Assign(costs.Total);
        var (rows, columns) = (tensor(match.Rows.Select(static r => (long)r).ToArray()), tensor(match.Columns.Select(static r => (long)r).ToArray()));
        yield return ("source_indices", rows);
        yield return ("target_indices", columns);
        // Each map at points of its own: the other way of sampling.
        var own = points.expand(match.Count, -1, -1).contiguous();
        var (logits, wanted) = (MaskLoss.Sample(masks.index_select(0, rows), own), MaskLoss.Sample(target.Masks.index_select(0, columns), own));
        var (ofMask, ofDice) = (MaskLoss.CrossEntropy(logits, wanted, match.Count), MaskLoss.Dice(logits, wanted, match.Count));
        yield return ("loss_mask", ofMask);
        yield return ("loss_dice", ofDice);
        (options.MaskWeight * ofMask + options.DiceWeight * ofDice).backward();
        yield return ("grad.masks_queries_logits", masks.grad!);
        var (first, candidates) = (masks.detach().narrow(0, 0, 1), c.Input("candidate_points"));
        var uncertain = MaskLoss.Uncertain(first, candidates, c.Arguments.GetProperty("uncertain_points").GetInt32())[0];
        yield return ("uncertain_indices", uncertain);
        yield return ("uncertain_logits", MaskLoss.Sample(first, candidates)[0].index_select(0, uncertain));
    }
}

/// <summary>OneFormer's.</summary>
sealed class OneFormerPostprocessingAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "postprocess-oneformer";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var expected = JsonDocument.Parse(File.ReadAllText(c.File("expected.json")));
        foreach (var (i, height, width) in MaskPostprocessingAdapter.Sizes(c))
        {
            var (classes, masks) = (c.Input("class_queries_logits")[i], c.Input("masks_queries_logits")[i]);
            var scores = SegmentationOutput.ClassScores(classes, masks);
            yield return ($"semantic.{i}", MaskPostprocessingAdapter.Map(SegmentationOutput.Semantic(scores, width, height, antialiased: true), ScalarType.Int64));
            yield return ($"semantic_scores.{i}", SegmentationOutput.Resize(scores, width, height, antialiased: true));
            var things = SegmentationOutput.SharedInstances(classes, masks, width, height, MaskPostprocessingAdapter.Options(c.Arguments.GetProperty("instance")));
            yield return ($"instance.{i}", MaskPostprocessingAdapter.Map(things.Ids, ScalarType.Int32));
            MaskPostprocessingAdapter.Same(things.Segments, expected.RootElement.GetProperty("instance")[i]);
            var panoptic = SegmentationOutput.Panoptic(classes, masks, width, height, MaskPostprocessingAdapter.Options(c.Arguments.GetProperty("panoptic")) with { Antialiased = true });
            yield return ($"panoptic.{i}", MaskPostprocessingAdapter.Map(panoptic.Ids, ScalarType.Int32));
            MaskPostprocessingAdapter.Same(panoptic.Segments, expected.RootElement.GetProperty("panoptic")[i]);
        }
    }
}

/// <summary>Mask2Former's segmentations of what its queries say.</summary>
sealed class MaskPostprocessingAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "postprocess-mask2former";

    internal static IEnumerable<(int Index, int Height, int Width)> Sizes(ParityCase c) => c.Arguments.GetProperty("target_sizes").EnumerateArray().Select(static (s, i) => (i, s[0].GetInt32(), s[1].GetInt32()));

    internal static SegmentationOptions Options(JsonElement a) => new()
    {
        Threshold = a.GetProperty("threshold").GetDouble(),
        MaskThreshold = a.GetProperty("mask_threshold").GetDouble(),
        OverlapThreshold = a.GetProperty("overlap_mask_area_threshold").GetDouble(),
        Fused = a.GetProperty("label_ids_to_fuse").EnumerateArray().Select(static l => l.GetInt32()).ToHashSet(),
        RepeatedIds = true,
    };

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var expected = JsonDocument.Parse(File.ReadAllText(c.File("expected.json")));
        foreach (var (i, height, width) in Sizes(c))
        {
            var (classes, masks) = (c.Input("class_queries_logits")[i], SegmentationOutput.ToCommonSize(c.Input("masks_queries_logits")[i]));
            var scores = SegmentationOutput.ClassScores(classes, masks);
            yield return ($"semantic.{i}", Map(SegmentationOutput.Semantic(scores, width, height), ScalarType.Int64));
            yield return ($"semantic_scores.{i}", SegmentationOutput.Resize(scores, width, height));

            var instances = SegmentationOutput.Instances(classes, masks, width, height, new() { Threshold = c.Arguments.GetProperty("instance").GetProperty("threshold").GetDouble() });
            yield return ($"instance.{i}", Map(instances.Ids, ScalarType.Float32));
            var binary = new byte[instances.Masks.Count * height * width];
            for (var k = 0; k < instances.Masks.Count; k++) instances.Masks[k].Decode(binary.AsSpan(k * height * width, height * width));
            yield return ($"instance_binary.{i}", tensor(binary, [instances.Masks.Count, height, width]));
            Same(instances.Segments, expected.RootElement.GetProperty("instance")[i]);
            SameRuns(instances.Ids, expected.RootElement.GetProperty("instance_rle")[i]);

            foreach (var name in (string[])["panoptic", "panoptic_no_fuse"])
            {
                var panoptic = SegmentationOutput.Panoptic(classes, masks, width, height, Options(c.Arguments.GetProperty(name)));
                yield return ($"{name}.{i}", Map(panoptic.Ids, ScalarType.Int32));
                Same(panoptic.Segments, expected.RootElement.GetProperty(name)[i]);
            }
        }
    }

    internal static Tensor Map(LabelMap map, ScalarType type) => tensor(map.Labels, [map.Height, map.Width]).to(type);

    internal static void Same(IReadOnlyList<MapSegment> ours, JsonElement theirs)
    {
        var wanted = theirs.EnumerateArray().Select(static s => (s.GetProperty("id").GetInt32(), s.GetProperty("label_id").GetInt32(), s.GetProperty("was_fused").GetBoolean())).ToArray();
        if (!ours.Select(static s => (s.Id, s.Class, s.Fused)).SequenceEqual(wanted)
            || ours.Zip(theirs.EnumerateArray()).Any(static p => Math.Abs(p.First.Score - p.Second.GetProperty("score").GetDouble()) > 2e-6))
            throw new PanoptesException($"The segments are {string.Join(", ", ours)}; expected {theirs.GetRawText()}.");
    }

    /// <summary>The peer's runs go along the rows: the place of the first pixel (from 1) and the length, for every id from the least on.</summary>
    static void SameRuns(LabelMap map, JsonElement theirs)
    {
        var all = map.Areas().Keys.Select(id =>
        {
            var runs = new List<int>();
            for (var i = 0; i < map.Labels.Length;)
            {
                var (start, label) = (i, map.Labels[i]);
                while (i < map.Labels.Length && map.Labels[i] == label) i++;
                if (label == id) runs.AddRange([start + 1, i - start]);
            }
            return string.Join(",", runs);
        });
        if (!all.SequenceEqual(theirs.EnumerateArray().Select(static r => string.Join(",", r.EnumerateArray().Select(static v => v.GetInt32())))))
            throw new PanoptesException("The runs of the instance map are not the peer's.");
    }
}

/// <summary>Full-size checkpoints of Mask2Former and OneFormer.</summary>
sealed class UniversalSegmentationLayouts : ILayoutAdapter
{
    public bool Matches(ParityLayout layout) => layout.Architecture is "Mask2FormerForUniversalSegmentation" or "OneFormerForUniversalSegmentation";

    public Module Build(ParityLayout layout) =>
        PromptableModels.All.First(e => e.Architecture == layout.Architecture).Build(new(layout.Config.GetRawText(), layout.Name, key => layout.Keys.TryGetValue(key, out var entry) ? entry.Shape : null));
}
