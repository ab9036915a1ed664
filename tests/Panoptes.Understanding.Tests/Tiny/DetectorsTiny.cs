namespace Panoptes.Understanding.Tests;

static class DetectorsTiny
{
    static Tensor Pixels(int height, int width) => randn(2, 3, height, width, generator: new Generator(1));

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["OwlViTForObjectDetection"] = new("""
            {"text_config": {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8},
             "vision_config": {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}, "projection_dim": 16}
            """,
            static model =>
            {
                var output = ((OwlVitForObjectDetection)model).Forward(Pixels(32, 32), tensor(new long[] { 1, 5, 49, 0, 1, 7, 8, 49 }, [2, 4]), tensor(new long[] { 1, 1, 1, 0, 1, 1, 1, 1 }, [2, 4]));
                return cat([output.Logits, output.Boxes], -1).flatten(1);
            })
        {
            // For contrastive pre-training alone.
            Unused = static key => key is "owlvit.logit_scale" or "owlvit.visual_projection.weight",
        },
        ["DetrForObjectDetection"] = new("""
            {"backbone_config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}, "num_queries": 5, "d_model": 16, "encoder_layers": 1,
             "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_labels": 3}
            """,
            static model =>
            {
                var mask = ones(2, 64, 96, dtype: ScalarType.Bool);
                mask[1].narrow(0, 40, 24).fill_(false);
                var output = ((DetrForObjectDetection)model).Forward(Pixels(64, 96), mask);
                return cat([output.Logits, output.Boxes], -1).flatten(1);
            }),
        ["DetrForSegmentation"] = new("""
            {"architectures": ["DetrForSegmentation"], "backbone_config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}, "num_queries": 5, "d_model": 16,
             "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 8, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "position_embedding_type": "learned",
             "id2label": {"0": "cat", "1": "sky", "2": "sea"}}
            """,
            static model =>
            {
                var mask = ones(2, 64, 96, dtype: ScalarType.Bool);
                mask[1].narrow(0, 40, 24).fill_(false);
                var output = ((DetrForSegmentation)model).Forward(Pixels(64, 96), mask)[^1];
                return cat([output.Logits.flatten(1), output.Boxes.flatten(1), output.Masks!.flatten(1)], 1);
            }),
        ["GroundingDinoForObjectDetection"] = new("""
            {"backbone_config": {"model_type": "swin", "image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4, "mlp_ratio": 2.0, "drop_path_rate": 0.0,
              "out_features": ["stage2", "stage3", "stage4"]},
             "text_config": {"model_type": "bert", "vocab_size": 1032, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 24},
             "num_queries": 5, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_n_points": 2,
             "decoder_n_points": 2, "max_text_len": 16}
            """,
            static model =>
            {
                var mask = ones(2, 64, 96, dtype: ScalarType.Bool);
                mask[1].narrow(0, 40, 24).fill_(false);
                var ids = tensor(new long[] { 101, 5, 7, 1012, 8, 1012, 102, 0, 101, 5, 6, 8, 1012, 7, 1012, 102 }, [2, 8]);
                var output = ((GroundingDinoForObjectDetection)model).Forward(Pixels(64, 96), ids, ids.ne(0), mask);
                var (tokens, proposals) = (output.Logits.narrow(-1, 0, 7), output.Proposals!.Logits.narrow(-1, 0, 7));
                return cat([tokens, proposals, output.Boxes, output.Proposals.Boxes], -1).flatten(1);
            }),
    };
}
