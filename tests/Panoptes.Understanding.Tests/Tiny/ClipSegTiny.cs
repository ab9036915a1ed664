namespace Panoptes.Understanding.Tests;

static class ClipSegTiny
{
    internal static string Config(bool refined) => $$$"""
        {"architectures": ["CLIPSegForImageSegmentation"], "model_type": "clipseg", "projection_dim": 12, "extract_layers": [0, 2], "reduce_dim": 8, "decoder_num_attention_heads": 2,
         "decoder_intermediate_size": 16, "use_complex_transposed_convolution": {{{(refined ? "true" : "false")}}},
         "text_config": {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 8, "eos_token_id": 39},
         "vision_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}}
        """;

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["CLIPSegForImageSegmentation"] = new(Config(refined: true), static m =>
        {
            var model = (ClipSegModel)m;
            var conditions = model.Condition(GroupVitTiny.Ids);
            var output = model.Forward(GroupVitTiny.Pixels(24), conditions);
            return cat([output.Logits.flatten(1), output.ImageEmbeds, conditions], 1);
        })
        {
            Unused = static key => key == "clip.logit_scale",
        },
    };
}
