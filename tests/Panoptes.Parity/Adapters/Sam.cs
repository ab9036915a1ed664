using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>SAM with prompts of every kind.</summary>
public sealed class SamCases : IAdapter, ILayoutAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "SamModel" && c.Call == "forward";

    public bool Matches(ParityLayout layout) => layout.Architecture == "SamModel";

    public Module Build(ParityLayout layout) => PromptableModels.All.First(e => e.Architecture == layout.Architecture).Build(new(layout.Config.GetRawText(), layout.Name, static _ => null));

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        using var model = PromptableModels.Load<SamModel>(c.Folder);
        var image = model.EncodeImage(c.Input("pixel_values"));
        var prompts = new SamPrompts(Optional("input_points"), Optional("input_labels"), Optional("input_boxes"), Optional("input_masks"));
        yield return ("image_embeddings", image.Embeddings);
        var (sparse, dense) = model.PromptEncoder.Forward(prompts);
        if (sparse is not null) yield return ("sparse_embeddings", sparse);
        yield return ("dense_embeddings", dense);
        var grid = model.Config.VisionConfig.Grid;
        yield return ("image_wide_positional_embeddings", model.SharedImageEmbedding.Grid(grid).transpose(1, 2).unflatten(2, [grid, grid]));
        foreach (var multimask in c.Arguments.GetProperty("multimask_output").EnumerateArray().Select(static v => v.GetBoolean()))
        {
            var masks = model.Decode(image, prompts, multimask);
            var name = multimask ? "multimask" : "single";
            yield return ($"{name}.iou_scores", masks.IouScores);
            yield return ($"{name}.pred_masks", masks.Logits);
        }

        Tensor? Optional(string name) => c.HasInput(name) ? c.Input(name) : null;
    }
}

/// <summary>SAM 2's image part.</summary>
public sealed class Sam2Cases : IAdapter, ILayoutAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Sam2Model" && c.Call == "forward";

    public bool Matches(ParityLayout layout) => layout.Architecture == "Sam2Model";

    public Module Build(ParityLayout layout) => PromptableModels.All.First(e => e.Architecture == layout.Architecture).Build(new(layout.Config.GetRawText(), layout.Name, static _ => null));

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        using var model = PromptableModels.Load<Sam2Model>(c.Folder);
        var image = model.EncodeImage(c.Input("pixel_values"));
        foreach (var (map, i) in image.Maps.Select(static (m, i) => (m, i))) yield return ($"image_embeddings.{i}", map);
        foreach (var (name, boxes) in new[] { ("points", null), ("points_boxes", c.Input("input_boxes")) })
            foreach (var multimask in c.Arguments.GetProperty("multimask_output").EnumerateArray().Select(static v => v.GetBoolean()))
            {
                var masks = model.Decode(image, new(c.Input("input_points"), c.Input("input_labels"), boxes), multimask);
                var prefix = $"{name}.{(multimask ? "multimask" : "single")}";
                yield return ($"{prefix}.iou_scores", masks.IouScores);
                yield return ($"{prefix}.pred_masks", masks.Logits);
                yield return ($"{prefix}.object_score_logits", masks.ObjectScores!);
            }
    }
}

/// <summary>SAM under its authors' own names, with the twin under Hugging Face's beside it.</summary>
public sealed class SamOriginalCases : IAdapter, ILayoutAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Sam" && c.Call == "forward" && c.Peer.StartsWith("segment_anything", StringComparison.Ordinal);

    public bool Matches(ParityLayout layout) => layout.Architecture == "Sam" && layout.Peer.StartsWith("segment_anything", StringComparison.Ordinal);

    public Module Build(ParityLayout layout)
    {
        // These files have no config: the sizes follow from the shapes, and must be those that the peer was built with.
        var config = SamOriginal.ConfigFromShapes(key => layout.Keys.TryGetValue(key, out var entry) ? entry.Shape : null, layout.Name);
        var (v, p, d) = (config.VisionConfig, config.PromptEncoderConfig, config.MaskDecoderConfig);
        (string Name, int Ours)[] sizes =
        [
            ("embed_dim", v.HiddenSize), ("depth", v.NumHiddenLayers), ("num_heads", v.NumAttentionHeads), ("image_size", v.ImageSize), ("patch_size", v.PatchSize), ("window_size", v.WindowSize),
            ("out_chans", v.OutputChannels), ("prompt_embed_dim", p.HiddenSize), ("mask_in_chans", p.MaskInputChannels), ("mlp_dim", d.MlpDim), ("decoder_depth", d.NumHiddenLayers),
            ("decoder_heads", d.NumAttentionHeads), ("iou_head_depth", d.IouHeadDepth), ("iou_head_hidden_dim", d.IouHeadHiddenDim),
        ];
        foreach (var (name, ours) in sizes)
            if (layout.Config.TryGetProperty(name, out var theirs) && theirs.GetInt32() != ours) throw new InvalidOperationException($"{name} was read from the shapes as {ours}; expected {theirs}.");
        if (!layout.Config.GetProperty("global_attn_indexes").EnumerateArray().Select(static i => i.GetInt32()).SequenceEqual(v.GlobalAttnIndexes))
            throw new InvalidOperationException($"The layers that see the whole image were read from the shapes as {string.Join(", ", v.GlobalAttnIndexes)}.");
        return new SamModel(config);
    }

    public IEnumerable<(string Key, long[] Shape)> Keys(Module model, ParityLayout layout) => SamOriginal.NamedParameters((SamModel)model).Select(static p => (p.Key, p.Parameter.Shape));

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        using var model = PromptableModels.Load<SamModel>(c.Folder);
        CheckTwin(c, model);
        var (pixels, size) = (c.Input("image"), model.ImageSize);
        var (h, w) = ((int)pixels.shape[1], (int)pixels.shape[2]);
        var normal = (pixels - tensor(new[] { 123.675f, 116.28f, 103.53f }).view(3, 1, 1)) / tensor(new[] { 58.395f, 57.12f, 57.375f }).view(3, 1, 1);
        var prepared = nn.functional.pad(normal, [0, size - w, 0, size - h]).unsqueeze(0);
        yield return ("preprocessed", prepared);
        var image = model.EncodeImage(prepared);
        yield return ("image_embeddings", image.Embeddings);
        var grid = model.Config.VisionConfig.Grid;
        yield return ("dense_pe", model.SharedImageEmbedding.Grid(grid).transpose(1, 2).unflatten(2, [grid, grid]));
        foreach (var set in c.Arguments.GetProperty("input_sets").EnumerateObject())
        {
            var given = set.Value.EnumerateArray().Select(static v => v.GetString()!).ToHashSet();
            // One prompt a row, all of the same image.
            var prompts = new SamPrompts(Given("point_coords")?.unsqueeze(1), Given("point_labels")?.unsqueeze(1), Given("boxes")?.unsqueeze(1), Given("mask_inputs"));
            var masks = model.Decode(image, prompts, c.Arguments.GetProperty("multimask_output").GetProperty(set.Name).GetBoolean());
            yield return ($"{set.Name}.low_res_logits", masks.Logits.squeeze(1));
            yield return ($"{set.Name}.iou_predictions", masks.IouScores.squeeze(1));
            var original = c.Arguments.GetProperty("original_size");
            yield return ($"{set.Name}.mask_logits_original", SamAutomaticMasks.Upscale(masks.Logits[0], size, (h, w), (original[0].GetInt32(), original[1].GetInt32())));

            Tensor? Given(string name) => given.Contains(name) ? c.Input(name) : null;
        }
    }

    /// <summary>The same weights under the other names: each file must become the other.</summary>
    static void CheckTwin(ParityCase c, SamModel model)
    {
        using var twin = PromptableModels.Load<SamModel>(c.File(c.Arguments.GetProperty("hf_twin").GetString()!));
        using var theirs = Weights.Open(c.Folder);
        var ours = SamOriginal.NamedParameters(twin).ToDictionary(static p => p.Key, static p => p.Parameter.Value);
        if (!ours.Keys.Order().SequenceEqual(theirs.Keys.Order())) throw new PanoptesException($"The keys {string.Join(", ", ours.Keys.Except(theirs.Keys).Concat(theirs.Keys.Except(ours.Keys)))} are in one file only.");
        foreach (var (key, value) in ours)
            if (!value.eq(theirs.Read(key)).all().item<bool>()) throw new PanoptesException($"{key} is not its twin.");
        foreach (var ((key, parameter), (_, other)) in model.NamedParameters().Zip(twin.NamedParameters()))
            if (!parameter.Value.eq(other.Value).all().item<bool>()) throw new PanoptesException($"{key} is not its twin.");
    }
}

/// <summary>What finds everything in an image.</summary>
public sealed class SamAutomaticMaskCases : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "sam-automatic-masks";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var a = c.Arguments;
        var logits = c.Input("mask_logits");
        var (n, h, w) = ((int)logits.shape[0], (int)logits.shape[1], (int)logits.shape[2]);
        var whole = new SamCrop(0, 0, w, h, 0);
        var (threshold, offset) = (a.GetProperty("stability").GetProperty("mask_threshold").GetSingle(), a.GetProperty("stability").GetProperty("offset").GetSingle());
        var traced = Enumerable.Range(0, n).Select(i => MaskTracing.Trace(logits[i].t().contiguous().data<float>().ToArray(), h, h, w, MaskPlace.Whole(w, h), threshold, offset)).ToArray();
        yield return ("stability_score", tensor(traced.Take(n - 1).Select(static t => t.Stability).ToArray()));
        yield return ("boxes", Rows(traced.Select(static t => SamAutomaticMasks.BoxOf(t.Mask))).to(ScalarType.Int64));
        yield return ("mask_iou", tensor(traced.SelectMany(t => traced.Select(o => (float)t.Mask.Iou(o.Mask))).ToArray(), [n, n]));

        var (crops, points) = (a.GetProperty("crops"), a.GetProperty("points"));
        var boxes = SamAutomaticMasks.CropBoxes(crops.GetProperty("image_hw")[0].GetInt32(), crops.GetProperty("image_hw")[1].GetInt32(), crops.GetProperty("layers").GetInt32(), crops.GetProperty("overlap_ratio").GetDouble());
        yield return ("crop_boxes", tensor(boxes.SelectMany(static b => new long[] { b.Left, b.Top, b.Right, b.Bottom }).ToArray(), [boxes.Count, 4]));
        yield return ("crop_layers", tensor(boxes.Select(static b => (long)b.Layer).ToArray()));
        var grids = SamAutomaticMasks.PointGrids(points.GetProperty("per_side").GetInt32(), points.GetProperty("layers").GetInt32(), points.GetProperty("scale").GetInt32());
        for (var i = 0; i < grids.Count; i++) yield return ($"point_grid.{i}", tensor(grids[i].SelectMany(static p => new[] { p.X, p.Y }).ToArray(), [grids[i].Length, 2]));

        EdgeBox[] given = [.. Enumerable.Range(0, (int)c.Input("boxes_for_nms").shape[0]).Select(i => c.Input("boxes_for_nms")[i].data<float>().ToArray()).Select(static b => new EdgeBox(b[0], b[1], b[2], b[3]))];
        var (scores, categories) = (c.Input("scores_for_nms").data<float>().ToArray(), c.Input("categories_for_nms").data<long>().Select(static v => (int)v).ToArray());
        var limit = a.GetProperty("nms").GetSingle();
        yield return ("nms", tensor(BoxNms.Keep(given, scores, limit).Select(static i => (long)i).ToArray()));
        yield return ("batched_nms", tensor(BoxNms.Keep(given, scores, limit, categories).Select(static i => (long)i).ToArray()));
        var edge = a.GetProperty("near_edge");
        var (crop, image) = (Crop(edge.GetProperty("crop")), Crop(edge.GetProperty("image")));
        yield return ("near_crop_edge", tensor(given.Select(b => SamAutomaticMasks.IsNearCropEdge(b, crop, image.Right, image.Bottom, edge.GetProperty("atol").GetSingle())).ToArray()));
        var uncrop = a.GetProperty("uncrop");
        var (moved, place, size) = (Crop(uncrop.GetProperty("box")), Crop(uncrop.GetProperty("mask_box")), uncrop.GetProperty("size"));
        yield return ("uncropped_boxes", Rows(given.Select(b => b.Shifted(moved.Left, moved.Top))));
        yield return ("uncropped_points", Rows(given.Select(b => b.Shifted(moved.Left, moved.Top))).narrow(1, 0, 2));
        var (height, width) = (size[0].GetInt32(), size[1].GetInt32());
        yield return ("uncropped_masks", stack([.. Enumerable.Range(0, 2).Select(i => Pixels(MaskTracing.Trace(logits[i].t().contiguous().data<float>().ToArray(), h, h, w,
            new(place.Left, place.Top, place.Width, place.Height, width, height), threshold, offset).Mask))]));

        var post = a.GetProperty("postprocess");
        for (var i = 0; i < post.GetProperty("original_sizes").GetArrayLength(); i++)
        {
            var (original, reshaped) = (Size(post.GetProperty("original_sizes")[i]), Size(post.GetProperty("reshaped_input_sizes")[i]));
            var low = c.Input("low_resolution_masks")[i];
            yield return ($"postprocessed.{i}", SamAutomaticMasks.Upscale(low, post.GetProperty("pad_size").GetInt32(), reshaped, original));
            // The same by the way that users' masks take.
            var side = post.GetProperty("pad_size").GetInt32();
            var large = nn.functional.interpolate(low, [side, side], mode: InterpolationMode.Bilinear, align_corners: false)[0].transpose(1, 2).contiguous();
            yield return ($"postprocessed_binary.{i}", stack([.. Enumerable.Range(0, (int)large.shape[0]).Select(k =>
                Pixels(MaskTracing.Trace(large[k].data<float>().ToArray(), side, reshaped.Height, reshaped.Width, MaskPlace.Whole(original.Width, original.Height), 0, 1).Mask))]).unsqueeze(0));
        }

        var filter = a.GetProperty("filter");
        var options = new SamEverythingOptions { PredictedIou = filter.GetProperty("pred_iou_thresh").GetDouble(), Stability = filter.GetProperty("stability_score_thresh").GetDouble() };
        var filtered = SamAutomaticMasks.Filter(logits.narrow(0, 0, n - 1), c.Input("iou_scores").data<float>().Take(n - 1).ToArray(), Crop(filter.GetProperty("crop")), w, h, options);
        yield return ("filtered_scores", tensor(filtered.Select(static f => f.Score).ToArray()));
        yield return ("filtered_boxes", Rows(filtered.Select(static f => f.Box)).to(ScalarType.Int64));
        var kept = BoxNms.Keep([.. filtered.Select(static f => f.Box)], [.. filtered.Select(static f => f.Score)], a.GetProperty("generation_nms").GetSingle());
        yield return ("generated_scores", tensor(kept.Select(i => filtered[i].Score).ToArray()));
        using var runs = JsonDocument.Parse(File.ReadAllText(c.File("rle.json")));
        CheckRuns(runs.RootElement.GetProperty("filtered"), [.. filtered.Select(static f => f.Mask)]);
        CheckRuns(runs.RootElement.GetProperty("generated"), [.. kept.Select(i => filtered[i].Mask)]);

        var longest = a.GetProperty("resize_longest_side");
        var sides = longest.GetProperty("sizes_hw").EnumerateArray().Select(Size).Select(s => PictureProcessor.LongestSide(s.Width, s.Height, longest.GetProperty("longest").GetInt32())).ToArray();
        yield return ("resize_longest_side", tensor(sides.SelectMany(static s => new long[] { s.Height, s.Width }).ToArray(), [sides.Length, 2]));

        static SamCrop Crop(JsonElement edges) => new(edges[0].GetInt32(), edges[1].GetInt32(), edges[2].GetInt32(), edges[3].GetInt32(), 0);

        static (int Height, int Width) Size(JsonElement pair) => (pair[0].GetInt32(), pair[1].GetInt32());

        static Tensor Rows(IEnumerable<EdgeBox> boxes) => boxes.SelectMany(static b => new[] { b.Left, b.Top, b.Right, b.Bottom }).ToArray() is var edges ? tensor(edges, [edges.Length / 4, 4]) : throw new InvalidOperationException();

        static Tensor Pixels(RunLengthMask mask)
        {
            var pixels = new byte[mask.Height * mask.Width];
            mask.Decode(pixels);
            return tensor(pixels, [mask.Height, mask.Width]);
        }
    }

    static void CheckRuns(JsonElement theirs, IReadOnlyList<RunLengthMask> ours)
    {
        if (theirs.GetArrayLength() != ours.Count) throw new PanoptesException($"{ours.Count} masks are left; expected {theirs.GetArrayLength()}.");
        for (var i = 0; i < ours.Count; i++)
            if (!theirs[i].GetProperty("counts").EnumerateArray().Select(static v => v.GetInt32()).SequenceEqual(ours[i].Runs)) throw new PanoptesException($"The runs of mask {i} differ.");
    }
}
