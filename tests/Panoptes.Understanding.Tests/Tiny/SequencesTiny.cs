namespace Panoptes.Understanding.Tests;

/// <summary>Models that answer with sequences.</summary>
static class SequencesTiny
{
    const string Sizes = """
        "vision_config":{"model_type":"swin","image_size":16,"patch_size":4,"embed_dim":8,"depths":[1,1],"num_heads":[2,2],"window_size":2},
        "hidden_size":16,"num_attention_heads":2,"intermediate_size":24,"encoder_layers":1,"decoder_layers":1,"max_image_tokens":16,"max_prompt_tokens":8,"max_sequence_tokens":16
        """;

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["Florence2ForConditionalGeneration"] = new("""
            {"architectures":["Florence2ForConditionalGeneration"],"model_type":"florence2","image_token_id":39,
             "vision_config":{"depths":[1,1],"patch_size":[7,3],"patch_stride":[4,2],"patch_padding":[3,1],"patch_prenorm":[false,true],"embed_dim":[8,16],"num_heads":[2,2],"num_groups":[2,4],"window_size":3,
              "mlp_ratio":2.0,"projection_dim":16,"max_temporal_embeddings":3,"max_position_embeddings":6},
             "text_config":{"vocab_size":40,"d_model":16,"encoder_layers":1,"decoder_layers":1,"encoder_attention_heads":2,"decoder_attention_heads":2,"encoder_ffn_dim":24,"decoder_ffn_dim":24,"max_position_embeddings":32}}
            """, static m =>
        {
            var pixels = randn([2, 3, 32, 32], generator: new Generator(3));
            var ids = cat([full(2, 17, 39, ScalarType.Int64), tensor(new long[] { 0, 5, 6, 2, 0, 7, 2, 1 }, [2, 4])], 1);
            return ((Florence2Model)m).Forward(pixels, ids, tensor(new long[] { 2, 5, 9, 2, 8, 3 }, [2, 3]), ids.ne(1)).Logits.flatten(1);
        }),
        ["Kosmos2ForConditionalGeneration"] = new("""
            {"architectures":["Kosmos2ForConditionalGeneration"],"model_type":"kosmos-2","latent_query_num":3,
             "vision_config":{"hidden_size":12,"intermediate_size":20,"num_hidden_layers":1,"num_attention_heads":2,"image_size":8,"patch_size":4},
             "text_config":{"vocab_size":30,"max_position_embeddings":24,"embed_dim":16,"layers":1,"ffn_dim":24,"attention_heads":2}}
            """, static m =>
        {
            var pixels = randn([2, 3, 8, 8], generator: new Generator(3));
            var ids = tensor(new long[] { 0, 3, 4, 4, 4, 5, 9, 12, 0, 3, 4, 4, 4, 5, 7, 1 }, [2, 8]);
            return ((Kosmos2Model)m).Forward(pixels, ids, ids.eq(4), ids.ne(1)).Logits.flatten(1);
        }),
        ["Pix2SeqV2"] = Trained("""{"architectures":["Pix2SeqV2"],"classes":["cat","dog"],"coordinate_bins":8,"text_vocab_size":10,""", static m => ((Pix2SeqModel)m).Core),
        ["UniTAB"] = Trained("""{"architectures":["UniTAB"],"coordinate_bins":8,"text_vocab_size":10,""", static m => ((UniTabModel)m).Core),
        ["UnifiedIO"] = Trained("""{"architectures":["UnifiedIO"],"location_bins":8,"text_vocab_size":10,"vq_config":{"block_out_channels":[4],"norm_num_groups":2,"num_vq_embeddings":6,"latent_channels":2,"sample_size":4},""",
            static m => ((UnifiedIoModel)m).Core) with
        { Unused = static key => key.StartsWith("vq.", StringComparison.Ordinal) },
        ["VisionLLM"] = Trained("""{"architectures":["VisionLLM"],"max_classes":3,"max_bins":8,"max_objects":2,"text_vocab_size":10,""", static m => ((VisionLlmModel)m).Core, static m =>
        {
            var model = (VisionLlmModel)m;
            var told = model.Tell(model.Core.See(Pixels()), [new(["a", "b"], 8), new(["b", "a"], 8) { Format = VisionLlmModel.HeldOutFormat }], [[3, model.FirstClass, 5, model.FirstClass + 1], [7, model.FirstClass, model.FirstClass + 1]]);
            return cat([told.Classes.flatten(1), told.Places.flatten(1), .. told.Found.Select(static f => cat([f.Logits, f.Boxes], 2).flatten(1))], 1);
        }),
    };

    static Tensor Pixels() => randn([2, 3, 16, 16], generator: new Generator(3));

    /// <param name="more">What the model says besides.</param>
    static TinyModel Trained(string config, Func<Nn.Module, SequenceCore> core, Func<Nn.Module, Tensor>? more = null) => new(config + Sizes + "}", m =>
    {
        var (memory, mask) = core(m).Read(Pixels(), [[3, 4, 5, 6, 3, 4, 5, 6], [7, 8]]);
        var written = core(m).Write(arange(32, dtype: ScalarType.Int64).remainder(20).view(2, 16), memory, mask).flatten(1);
        return more is null ? written : cat([written, more(m).to(written.dtype)], 1);
    });
}
