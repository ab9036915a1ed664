namespace Panoptes.Generation.Tests;

static class TransformersTiny
{
    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["DiTTransformer2DModel"] = new("""{"_class_name":"DiTTransformer2DModel","num_attention_heads":2,"attention_head_dim":8,"out_channels":8,"num_layers":2,"sample_size":8,"num_embeds_ada_norm":5}""",
            static m => ((DitTransformer)m).Forward(Noise(1, 2, 4, 4, 8), Times, tensor(new long[] { 3, 5 })).flatten(1)),
        ["FluxTransformer2DModel"] = new("""{"_class_name":"FluxTransformer2DModel","in_channels":16,"num_layers":2,"num_single_layers":1,"attention_head_dim":16,"num_attention_heads":2,"joint_attention_dim":12,"pooled_projection_dim":10,"guidance_embeds":true,"axes_dims_rope":[4,6,6]}""",
            static m => ((FluxTransformer)m).Forward(new() { Latents = Noise(1, 2, 6, 16), Rows = 2, Timesteps = Times / 1000, Text = Noise(2, 2, 5, 12), Pooled = Noise(3, 2, 10), Guidance = ones(2) }).flatten(1)),
        ["PixArtTransformer2DModel"] = new("""{"_class_name":"PixArtTransformer2DModel","num_attention_heads":2,"attention_head_dim":12,"num_layers":2,"cross_attention_dim":24,"sample_size":8,"caption_channels":10,"use_additional_conditions":true}""",
            static m => ((PixArtTransformer)m).Forward(Noise(1, 2, 4, 4, 8), Times, new() { Text = Noise(2, 2, 5, 10), TextMask = tensor(new long[] { 1, 1, 1, 1, 1, 1, 1, 0, 0, 0 }, [2, 5]), Resolution = Noise(3, 2, 2), AspectRatio = Noise(4, 2, 1) }).flatten(1)),
        ["SD3Transformer2DModel"] = new("""{"_class_name":"SD3Transformer2DModel","sample_size":8,"in_channels":4,"out_channels":4,"num_layers":3,"attention_head_dim":8,"num_attention_heads":2,"joint_attention_dim":12,"caption_projection_dim":16,"pooled_projection_dim":10,"pos_embed_max_size":6,"dual_attention_layers":[0],"qk_norm":"rms_norm"}""",
            static m => ((Sd3Transformer)m).Forward(Noise(1, 2, 4, 4, 8), Times, Noise(2, 2, 5, 12), Noise(3, 2, 10)).flatten(1)),
        ["Transformer2DModel"] = new("""{"_class_name":"Transformer2DModel","num_attention_heads":2,"attention_head_dim":8,"num_layers":2,"num_vector_embeds":17,"sample_size":3,"cross_attention_dim":16,"norm_type":"ada_norm","num_embeds_ada_norm":20,"activation_fn":"geglu-approximate","attention_bias":true}""",
            static m => ((VqDiffusionTransformer)m).Forward(tensor(new long[] { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 4, 3, 2, 1, 0 }, [2, 9]), tensor(new long[] { 7, 3 }), Noise(2, 2, 5, 16)).flatten(1)),
        ["UVit2DModel"] = new("""{"_class_name":"UVit2DModel","hidden_size":16,"cond_embed_dim":12,"micro_cond_encode_dim":4,"micro_cond_embed_dim":20,"encoder_hidden_size":10,"vocab_size":12,"codebook_size":11,"in_channels":6,"block_out_channels":8,"num_res_blocks":1,"downsample":true,"upsample":true,"block_num_heads":2,"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":24,"sample_size":4}""",
            static m => ((UVit)m).Forward(tensor(new long[] { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 11, 11, 0 }, [2, 2, 4]), Noise(2, 2, 5, 10), Noise(3, 2, 12), Noise(4, 2, 5)).flatten(1)),
    };

    static Tensor Times => tensor(new float[] { 801, 17 });

    static Tensor Noise(long seed, params long[] shape) => randn(shape, generator: new Generator((ulong)seed));
}
