namespace Panoptes.Understanding.Tests;

static class GroupVitTiny
{
    internal const string Config = """
        {"architectures": ["GroupViTModel"], "model_type": "groupvit", "projection_dim": 12, "projection_intermediate_dim": 24,
         "text_config": {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 8, "eos_token_id": 39},
         "vision_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "depths": [2, 1, 1], "num_group_tokens": [5, 3, 0], "num_output_groups": [5, 3, 3],
                           "num_attention_heads": 2, "image_size": 16, "patch_size": 4}}
        """;

    internal static Tensor Pixels(int side, int count = 2) => randn([count, 3, side, side], generator: new Generator(3));

    internal static Tensor Ids => tensor((long[])[1, 7, 9, 39, 2, 2, 1, 20, 8, 11, 39, 2], [2, 6]);

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["GroupViTModel"] = new(Config, static m =>
        {
            var output = ((GroupVitModel)m).Forward(Pixels(16), Ids);
            return cat([output.LogitsPerImage, output.ImageEmbeds, output.TextEmbeds, output.SegmentationLogits.flatten(1)], 1);
        }),
    };
}
