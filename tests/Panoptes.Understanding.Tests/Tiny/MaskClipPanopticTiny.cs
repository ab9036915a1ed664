using Panoptes.Nn;

namespace Panoptes.Understanding.Tests;

static class MaskClipPanopticTiny
{
    internal const string Config = """
        {"architectures": ["MaskClipPanopticModel"], "model_type": "maskclip_panoptic", "width": 16, "num_queries": 5, "decoder_layers": 1, "decoder_heads": 2, "mask_interval": 2,
         "clip": {"embed_dim": 12, "vision_cfg": {"image_size": 32, "layers": 4, "width": 16, "head_width": 8, "patch_size": 8},
                  "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1, "vocab_size": 40}}}
        """;

    internal static MaskClipPanopticModel Model()
    {
        var model = new MaskClipPanopticModel(ModelConfig.Parse<MaskClipPanopticConfig>(Config, "config.json"));
        model.Initialize(new Generator(7));
        return model;
    }

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["MaskClipPanopticModel"] = new(Config, static m =>
        {
            var model = (MaskClipPanopticModel)m;
            var output = model.Forward(GroupVitTiny.Pixels(32));
            var texts = model.Clip.Texts.Encode(OpenSegTiny.Words.flatten(0, 1));
            return cat([output.Embeddings.flatten(1), .. output.Masks.Select(static x => x.flatten(1)), model.Logits(output.Embeddings, texts).flatten(1)], 1);
        }),
    };
}
