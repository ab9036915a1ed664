using Panoptes.Nn;

namespace Panoptes.Understanding.Tests.Tiny;

static class UniversalSegmentationTiny
{
    const string Swin = """ "backbone_config": {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2, "mlp_ratio": 2.0, "drop_path_rate": 0.0}""";

    const string Shared = """ "hidden_dim": 16, "encoder_feedforward_dim": 8, "encoder_layers": 1, "decoder_layers": 4, "num_attention_heads": 2, "dim_feedforward": 8, "num_queries": 5, "train_num_points": 20, "id2label": {"0": "cat", "1": "sky", "2": "sea"}""";

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["Mask2FormerForUniversalSegmentation"] = new($$"""{"architectures": ["Mask2FormerForUniversalSegmentation"], {{Swin}}, {{Shared}}, "feature_size": 32, "mask_feature_size": 12}""", static m =>
        {
            var model = (Mask2FormerForUniversalSegmentation)m;
            return Row(model.Forward(Pixels()).Predictions, model.Loss(Pixels(), Targets(), new Generator(3)));
        }),
        ["OneFormerForUniversalSegmentation"] = new(
            $$"""{"architectures": ["OneFormerForUniversalSegmentation"], {{Swin}}, {{Shared.Replace("\"hidden_dim\": 16", "\"hidden_dim\": 32", StringComparison.Ordinal)}}, "conv_dim": 32, "mask_dim": 32, "query_dec_layers": 1, "task_seq_len": 6, "is_training": true, "text_encoder_width": 32, "text_encoder_context_length": 5, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 20, "text_encoder_n_ctx": 2}""",
            static m =>
            {
                var model = (OneFormerForUniversalSegmentation)m;
                var task = tensor(new long[] { 1, 7, 3, 19, 0, 0, 1, 7, 4, 19, 0, 0 }, [2, 6]);
                var texts = arange(30, dtype: ScalarType.Int64).remainder(20).view(2, 3, 5);
                return Row(model.Forward(Pixels(), task).Predictions, model.Loss(Pixels(), task, Targets(), texts, new Generator(3)));
            }),
    };

    static Tensor Row(IReadOnlyList<MaskPrediction> predictions, Tensor loss) =>
        cat([.. predictions.SelectMany(static p => new[] { p.Classes.flatten(1), p.Masks.flatten(1) }), loss.view(1, 1).expand(2, 1)], 1);

    internal static Tensor Pixels() => randn([2, 3, 64, 40], generator: new Generator(1));

    internal static MaskTarget[] Targets() =>
    [
        new(tensor(new long[] { 1, 0 }), rand([2, 64, 40], generator: new Generator(2)).gt(0.5).to(ScalarType.Float32)),
        new(tensor(new long[] { 2 }), rand([1, 64, 40], generator: new Generator(4)).gt(0.5).to(ScalarType.Float32)),
    ];
}
