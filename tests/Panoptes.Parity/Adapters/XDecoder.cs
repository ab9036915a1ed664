using Panoptes.Checkpoints;
using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>X-Decoder's decoder.</summary>
sealed class XDecoderAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "X-Decoder" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var file = c.File("model.safetensors");
        using var weights = Weights.Open(file);
        int Argument(string name) => c.Arguments.GetProperty(name).GetInt32();
        using var model = new XDecoder(new()
        {
            HiddenSize = Argument("hidden"),
            NumAttentionHeads = Argument("heads"),
            DecoderLayers = Argument("layers"),
            NumQueries = Argument("queries"),
            ContextLength = Argument("context_length"),
            NumFeatureLevels = Argument("levels"),
            FeedforwardSize = (int)weights.Info("transformer_ffn_layers.0.linear1.weight").Shape[0],
            MaskSize = (int)c.Input("mask_features").shape[1],
            ProjectionSize = (int)c.Input("class_text_embeddings").shape[1],
        });
        ModelFolder.Load(model, file);
        var levels = Enumerable.Range(0, model.Config.NumFeatureLevels);
        string[] names = [.. levels.Select(static i => $"features.{i}"), "mask_features", "caption_tokens"];
        var leaves = names.ToDictionary(static n => n, n => c.Input(n).detach().requires_grad_());
        var output = model.Forward(new([.. levels.Select(i => leaves[$"features.{i}"])], [.. levels.Select(i => c.Input($"positions.{i}"))], leaves["mask_features"]),
            c.Input("class_text_embeddings"), new(leaves["caption_tokens"]), c.Input("token_embeddings"));
        var (last, first) = (output.Last, output.Steps[0]);
        yield return ("self_attention_mask", XDecoder.Allowed(model.Config.NumQueries, 0, model.Config.ContextLength)[0].logical_not());
        yield return ("query_output", output.Queries);
        yield return ("class_logits", last.ClassLogits!);
        yield return ("mask_logits", last.MaskLogits);
        yield return ("caption_logits", last.CaptionLogits!);
        yield return ("semantic_probabilities", XDecoder.Semantic(last.ClassLogits!, last.MaskLogits));
        yield return ("first_class_logits", first.ClassLogits!);
        yield return ("first_mask_logits", first.MaskLogits);
        for (var i = 0; c.HasOutput($"attention_masks.{i}"); i++) yield return ($"attention_masks.{i}", output.Steps[i].Seen.logical_not());
        foreach (var gradient in Gradients([last.ClassLogits!, last.MaskLogits, last.CaptionLogits!], leaves)) yield return gradient;
    }

    /// <summary>Gradients of the outputs' sums, each number weighted by cos(0.7 i + 0.3).</summary>
    internal static IEnumerable<(string, Tensor)> Gradients(IEnumerable<Tensor> outputs, Dictionary<string, Tensor> leaves)
    {
        Tensor? total = null;
        foreach (var output in outputs)
        {
            var sum = ((0.7 * arange(output.numel(), dtype: ScalarType.Float32)) + 0.3).cos().mul(output.reshape(-1)).sum();
            total = total is null ? sum : total + sum;
        }
        string[] names = [.. leaves.Keys];
        var gradients = autograd.grad([total!], [.. names.Select(n => leaves[n])]);
        for (var i = 0; i < names.Length; i++) yield return ($"grad.{names[i]}", gradients[i]);
    }
}

/// <summary>SEEM's prompts, memory and matching.</summary>
sealed class SeemAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "SEEM" && c.Call == "visual prompts, memory prompt and matching";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        string[] names = ["features", "mask_features", "queries", "memory", "spatial_projection", "indicator_embeddings"];
        var leaves = names.ToDictionary(static n => n, n => c.Input(n).detach().requires_grad_());
        var (features, maskFeatures, queries) = (leaves["features"], leaves["mask_features"], leaves["queries"]);
        var points = SeemPrompts.Points(c.Input("positive_mask"), c.Input("negative_mask"));
        var maskPrompt = SeemPrompts.MaskPrompt(maskFeatures, points);
        var tokens = SeemPrompts.PointTokens(features, leaves["spatial_projection"], leaves["indicator_embeddings"], points);
        var memory = SeemPrompts.Recall(leaves["memory"], features, SeemPrompts.Remembered(c.Input("previous_mask_logits"), ((int)features.shape[2], (int)features.shape[3])));

        var prompted = queries.index_select(1, c.Input("copies"));
        var (objects, copies) = (queries.shape[1], prompted.shape[1]);
        var real = cat([ones(queries.shape[0], objects + copies, dtype: ScalarType.Bool), points.Real, ones(queries.shape[0], memory.shape[1], dtype: ScalarType.Bool)], 1);
        SeemKind[] kinds = [.. Many(SeemKind.Object, objects), .. Many(SeemKind.Prompted, copies), .. Many(SeemKind.Visual, tokens.shape[1]), .. Many(SeemKind.Memory, memory.shape[1])];
        var allowed = SeemPrompts.Allowed(kinds, real);
        var joint = SeemPrompts.Join(cat([queries, prompted, tokens, memory], 1), allowed, real);
        var found = joint.narrow(1, objects, copies);
        var similarity = SeemPrompts.Similarity(found, maskPrompt);
        var (objectMasks, promptedMasks) = (Masks(joint.narrow(1, 0, objects)), Masks(found));
        var chosen = similarity.argmax(1);
        (string Name, Tensor Value)[] outputs =
        [
            ("mask_prompt", maskPrompt), ("point_tokens", tokens), ("memory", memory), ("joint", joint), ("similarity", similarity), ("object_mask_logits", objectMasks),
            ("prompted_mask_logits", promptedMasks), ("chosen_mask", SeemPrompts.Pick(promptedMasks, chosen)),
        ];
        foreach (var output in outputs) yield return output;
        yield return ("chosen", chosen);
        yield return ("token_mask", points.Real);
        yield return ("joint_attention_allowed", allowed);
        foreach (var gradient in XDecoderAdapter.Gradients(outputs.Select(static o => o.Value), leaves)) yield return gradient;

        static IEnumerable<SeemKind> Many(SeemKind kind, long count) => Enumerable.Repeat(kind, (int)count);

        Tensor Masks(Tensor x) => x.matmul(maskFeatures.flatten(2)).unflatten(2, [maskFeatures.shape[2], maskFeatures.shape[3]]);
    }
}
