namespace Panoptes.Generation.Tests;

/// <summary>Tiny text-to-image models that are one module.</summary>
static class FamiliesTiny
{
    const string Text = """{"vocab_size":32,"hidden_size":16,"intermediate_size":24,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":6,"bos_token_id":30,"eos_token_id":31}""";

    const string Vq = """{"sample_size":8,"block_out_channels":[8,8],"down_block_types":["DownEncoderBlock2D","DownEncoderBlock2D"],"up_block_types":["UpDecoderBlock2D","UpDecoderBlock2D"],"norm_num_groups":4,"latent_channels":4,"num_vq_embeddings":11}""";

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["TextToImageGan"] = new($$"""{"_class_name":"TextToImageGan","noise_size":8,"style_size":12,"block_out_channels":[16,8],"text_config":{{Text}}}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                var gan = (TextToImageGan)m;
                return gan.Forward(Noise(1, 2, 8), gan.TextEncoder.Encode(Ids)).flatten(1).MoveToOuterDisposeScope();
            }),
        ["TextToImageVae"] = new($$"""{"_class_name":"TextToImageVae","latent_size":8,"style_size":12,"block_out_channels":[16,8],"text_config":{{Text}}}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                var vae = (TextToImageVae)m;
                using var posterior = vae.Encode(Noise(1, 2, 3, 8, 8));
                return cat([vae.Decode(posterior.Sample(new Generator(2)).flatten(1), vae.TextEncoder.Encode(Ids)).flatten(1), posterior.Mean.flatten(1)], 1).MoveToOuterDisposeScope();
            }),
        ["TextToImageTransformer"] = new($$"""{"_class_name":"TextToImageTransformer","hidden_size":16,"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":24,"vq_config":{{Vq}},"text_config":{{Text}}}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                var model = (TextToImageTransformer)m;
                return model.Forward(model.TextEncoder.Forward(Ids).LastHiddenState, Codes.flatten(1)).flatten(1).MoveToOuterDisposeScope();
            })
        { Unused = static key => key.StartsWith("vqvae.", StringComparison.Ordinal) },
        ["TextToImageMasked"] = new($$"""{"_class_name":"TextToImageMasked","uvit_config":{"hidden_size":16,"cond_embed_dim":16,"micro_cond_encode_dim":4,"micro_cond_embed_dim":20,"encoder_hidden_size":16,"vocab_size":12,"codebook_size":11,"in_channels":6,"block_out_channels":8,"num_res_blocks":1,"block_num_heads":2,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":24,"sample_size":4},"vq_config":{{Vq}},"text_config":{{Text}}}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                var model = (TextToImageMasked)m;
                return model.Forward(Ids, Codes.masked_fill(Codes.gt(6), model.Mask)).flatten(1).MoveToOuterDisposeScope();
            })
        { Unused = static key => key.StartsWith("vqvae.", StringComparison.Ordinal) },
    };

    static Tensor Ids => tensor(new long[] { 30, 5, 7, 31, 31, 31, 30, 9, 31, 31, 31, 31 }, [2, 6]);

    /// <summary>Of images of 4 x 4 tokens.</summary>
    static Tensor Codes => arange(32, ScalarType.Int64).remainder(11).view(2, 4, 4);

    static Tensor Noise(long seed, params long[] shape) => randn(shape, generator: new Generator((ulong)seed));
}
