using Panoptes.Nn;

namespace Panoptes.Understanding.Tests;

/// <summary>SAM, small enough for every test.</summary>
public static class SamTiny
{
    internal const string Sam = """
        {"vision_config": {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 20, "patch_size": 4, "window_size": 3,
          "global_attn_indexes": [0], "num_pos_feats": 8, "mlp_ratio": 2.0},
         "prompt_encoder_config": {"hidden_size": 16, "image_size": 20, "patch_size": 4, "mask_input_channels": 8},
         "mask_decoder_config": {"hidden_size": 16, "mlp_dim": 24, "num_attention_heads": 2, "iou_head_hidden_dim": 8}}
        """;

    internal const string Sam2 = """
        {"vision_config": {"backbone_config": {"hidden_size": 8, "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [8, 6, 2, 2], "global_attention_blocks": [3], "mlp_ratio": 2.0, "window_positional_embedding_background_size": [3, 3]},
          "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[8, 8], [4, 4], [2, 2]], "fpn_hidden_size": 16},
         "prompt_encoder_config": {"hidden_size": 16, "image_size": 32, "patch_size": 16, "mask_input_channels": 8},
         "mask_decoder_config": {"hidden_size": 16, "mlp_dim": 24, "num_attention_heads": 2, "iou_head_hidden_dim": 8}}
        """;

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["SamModel"] = new(Sam, Everything),
        // The coarsest level reaches no mask: it is only added to where the second coarsest is listed.
        ["Sam2Model"] = new(Sam2, Everything),
    };

    /// <summary>Points, boxes and masks, each alone and together, one mask and several.</summary>
    static Tensor Everything(Module module)
    {
        var model = (ISegmentAnything)module;
        var (side, random) = (model.ImageSize, new Generator(3));
        using var image = model.EncodeImage(randn([2, 3, side, side], generator: random));
        var points = rand([2, 2, 3, 2], generator: random) * side;
        var labels = tensor(new long[] { 1, 0, -1, 1, -10, 0, 0, 1, 1, 1, 0, 1 }, [2, 2, 3]);
        var corner = rand([2, 2, 2], generator: random) * (side / 2);
        var boxes = cat([corner, corner + side / 3], -1);
        var masks = randn([2, 1, model.MaskSize, model.MaskSize], generator: random);
        SamPrompts[] prompts = [new(points, labels), new(points, labels, boxes), new(points, labels, boxes, masks)];
        return cat([.. prompts.SelectMany((p, i) => Rows(model.Decode(image, p, multimask: i != 0)))], 1);

        static IEnumerable<Tensor> Rows(SamMasks masks) =>
            new[] { masks.Logits, masks.IouScores, masks.ObjectScores }.OfType<Tensor>().Select(static t => t.flatten(1));
    }
}
