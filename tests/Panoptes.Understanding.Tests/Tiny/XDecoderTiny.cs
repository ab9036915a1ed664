using Panoptes.Nn;

namespace Panoptes.Understanding.Tests;

static class XDecoderTiny
{
    const string Text = """{"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 9, "eos_token_id": 2, "hidden_act": "gelu"}""";

    const string Swin = """{"model_type": "swin", "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 2}""";

    const string Vit = """{"model_type": "vit", "image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}""";

    const string ResNet = """{"embed_dim": 8, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 64}, "text_cfg": {"context_length": 8, "vocab_size": 10, "width": 8, "heads": 1, "layers": 1}}""";

    static string Sizes(int hidden) => $$"""{"hidden_size": {{hidden}}, "num_attention_heads": 2, "decoder_layers": 3, "feedforward_size": 24, "mask_size": 12, "projection_size": 16, "num_queries": 5, "context_length": 8, "num_feature_levels": 3}""";

    internal const string XDecoder = "XDecoderModel", Seem = "SeemModel", Uni = "UniPerceiverModel";

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        [XDecoder] = new($$"""{"architectures": ["XDecoderModel"], "backbone_config": {{Swin}}, "text_config": {{Text}}, "decoder_config": {{Sizes(16)}}, "image_size": 32, "caption_start_token_id": 38, "caption_end_token_id": 39}""",
            static m => Everything((XDecoderModel)m)) { Unused = static key => key.StartsWith("pyramid.backbone.layernorm", StringComparison.Ordinal) },
        [Seem] = new($$"""{"architectures": ["SeemModel"], "backbone_config": {{Vit}}, "text_config": {{Text}}, "decoder_config": {{Sizes(24)}}, "image_size": 32, "caption_start_token_id": 38, "caption_end_token_id": 39, "num_memories": 3, "max_points": 20}""",
            static m => Everything((SeemModel)m)) { Unused = static key => key.StartsWith("pyramid.backbone.pooler", StringComparison.Ordinal) },
        [Uni] = new($$"""{"architectures": ["UniPerceiverModel"], "backbone_config": {{ResNet}}, "text_config": {{Text}}, "hidden_size": 16, "num_attention_heads": 2, "feedforward_size": 24, "proposal_layers": 2, "num_proposals": 6, "num_selected": 4, "decoder_layers": 2, "projection_size": 16, "mask_side": 4, "global_side": 2, "image_size": 64, "caption_start_token_id": 38, "caption_end_token_id": 39}""",
            static m => Everything((UniPerceiverModel)m)) { Unused = static key => key.StartsWith("pyramid.backbone.attnpool", StringComparison.Ordinal) },
    };

    internal static Tensor Pixels(int side, int batch = 2) => randn([batch, 3, side, side], generator: new Generator(3));

    /// <summary>Texts of tokens that all differ; the largest, 39, ends each.</summary>
    internal static Tensor Ids(int texts, int tokens, int first = 1) =>
        tensor([.. Enumerable.Range(0, texts).SelectMany(i => Enumerable.Range(0, tokens).Select(k => k == tokens - 1 ? 39L : k == 0 ? 38L : (first + (i * 5) + (k * 3)) % 37 + 1L))], [texts, tokens]);

    /// <summary>Two things an image: a left and a right part.</summary>
    internal static Tensor Halves(int side, bool left, int batch = 2)
    {
        var mask = zeros(batch, side, side);
        mask.narrow(2, left ? 2 : side / 2, (side / 2) - 2).fill_(1);
        return mask;
    }

    static Tensor Rows(params IEnumerable<Tensor> parts) => cat([.. parts.Select(static p => p.flatten(1))], 1);

    internal static XDecoderStep Read(XDecoderModel m, DecoderMaps maps) =>
        m.Decoder.Forward(maps, m.EmbedTexts(Ids(3, 4)), m.Texts.Words(Ids(2, 6)), m.Texts.Vocabulary, m.Texts.Words(Ids(2, 5, 7), tensor([1L, 1, 1, 1, 1, 1, 1, 1, 0, 0], [2, 5]))).Last;

    static Tensor Everything(XDecoderModel m)
    {
        using var scope = NewDisposeScope();
        var step = Read(m, m.Encode(Pixels(32)));
        return Rows(step.ClassLogits!, step.MaskLogits, step.CaptionLogits!, step.Referred!.MaskLogits, step.Referred.Embeddings).MoveToOuterDisposeScope();
    }

    internal static SeemQuestion Question(SeemModel m, DecoderMaps maps, SeemMemory? memory) => new()
    {
        Points = SeemPrompts.Points(Halves(32, true).ne(0), Halves(32, false).ne(0), 20),
        Examples = maps.Select(tensor([1L, 0L])),
        ExamplePoints = SeemPrompts.Points(Halves(16, false).ne(0), null, 20),
        Words = m.XDecoder.Texts.Words(Ids(2, 5)),
        Text = m.XDecoder.EmbedTexts(Ids(2, 5)),
        Memory = memory,
    };

    static Tensor Everything(SeemModel m)
    {
        using var scope = NewDisposeScope();
        var maps = m.Encode(Pixels(32));
        var step = Read(m.XDecoder, maps);
        var first = m.Answer(maps, Question(m, maps, null));
        var second = m.Answer(maps, Question(m, maps, first.Memory));
        return Rows(step.ClassLogits!, step.MaskLogits, step.CaptionLogits!, step.Referred!.MaskLogits, first.Steps[^1].MaskLogits, second.Steps[^1].Similarity, second.Steps[^1].MaskLogits, second.Memory.Slots).MoveToOuterDisposeScope();
    }

    static Tensor Everything(UniPerceiverModel m)
    {
        using var scope = NewDisposeScope();
        var images = m.Encode(Pixels(64));
        var (whole, next) = (m.Represent(images), m.Represent(images, Ids(2, 5), ones(2, 5), next: true));
        var text = m.Targets(Ids(2, 4));
        return Rows(images.Proposals.Objectness, images.Proposals.Boxes, images.Proposals.MaskLogits, whole.Whole, whole.Regions!, next.Words!, text, m.Likelihood(whole.Whole, text)).MoveToOuterDisposeScope();
    }
}
