using Panoptes.Nn;

namespace Panoptes.Generation.Tests;

/// <summary>Tiny autoencoders and UNets.</summary>
static class UnetTiny
{
    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["AutoencoderKL"] = new("""{"_class_name":"AutoencoderKL","block_out_channels":[4,8],"down_block_types":["DownEncoderBlock2D","DownEncoderBlock2D"],"up_block_types":["UpDecoderBlock2D","UpDecoderBlock2D"],"norm_num_groups":4,"latent_channels":4,"sample_size":16}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                var model = (AutoencoderKl)m;
                using var posterior = model.Encode(Random(2, 3, 16, 16));
                return cat([model.Decode(posterior.Sample(new Generator(1))).flatten(1), posterior.Mean.flatten(1)], 1).MoveToOuterDisposeScope();
            }),
        ["UNet2DConditionModel"] = new("""{"_class_name":"UNet2DConditionModel","block_out_channels":[8,12],"layers_per_block":1,"down_block_types":["CrossAttnDownBlock2D","DownBlock2D"],"up_block_types":["UpBlock2D","CrossAttnUpBlock2D"],"cross_attention_dim":16,"attention_head_dim":2,"norm_num_groups":4,"attention_type":"gated"}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                var grounding = new Grounding { Boxes = rand([2, 3, 4], generator: new Generator(3)), Masks = tensor(new float[,] { { 1, 1, 0 }, { 1, 0, 0 } }), Embeddings = Random(2, 3, 16) };
                return ((UNet2DConditionModel)m).Forward(new() { Sample = Random(2, 4, 8, 8), Timestep = tensor(new long[] { 800, 3 }), Text = Random(2, 5, 16), Grounding = grounding }).flatten(1).MoveToOuterDisposeScope();
            }),
        ["AutoencoderTiny"] = new("""{"_class_name":"AutoencoderTiny","encoder_block_out_channels":[8,8],"decoder_block_out_channels":[8,8],"num_encoder_blocks":[1,2],"num_decoder_blocks":[2,1]}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                var model = (AutoencoderTiny)m;
                return model.Decode(model.Encode(Random(2, 3, 16, 16))).flatten(1).MoveToOuterDisposeScope();
            }),
        ["CLIPImageProjection"] = new("""{"_class_name":"CLIPImageProjection","hidden_size":8}""", static m => ((ClipImageProjection)m).Forward(Random(2, 8))),
        ["ControlNetModel"] = new("""{"_class_name":"ControlNetModel","block_out_channels":[8,12],"layers_per_block":1,"down_block_types":["CrossAttnDownBlock2D","DownBlock2D"],"conditioning_embedding_out_channels":[4,8],"cross_attention_dim":16,"attention_head_dim":2,"norm_num_groups":4}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                var residuals = ((ControlNetModel)m).Forward(new() { Sample = Random(2, 4, 8, 8), Timestep = tensor(20L), Text = Random(2, 5, 16) }, Random(2, 3, 16, 16));
                return cat([.. residuals.Down.Append(residuals.Mid).Select(static r => r.flatten(1))], 1).MoveToOuterDisposeScope();
            }),
        ["T2IAdapter"] = new("""{"_class_name":"T2IAdapter","channels":[8,16],"downscale_factor":4,"num_res_blocks":1}""",
            static m =>
            {
                using var scope = NewDisposeScope();
                return cat([.. ((T2IAdapter)m).Forward(Random(2, 3, 16, 16)).Select(static f => f.flatten(1))], 1).MoveToOuterDisposeScope();
            }),
        ["UNet2DModel"] = new("""{"_class_name":"UNet2DModel","block_out_channels":[8,12],"layers_per_block":1,"down_block_types":["DownBlock2D","AttnDownBlock2D"],"up_block_types":["AttnUpBlock2D","UpBlock2D"],"attention_head_dim":4,"norm_num_groups":4,"num_class_embeds":2}""",
            static m => Flat(((UNet2DModel)m).Forward(Random(2, 3, 8, 8), tensor(new long[] { 800, 3 }), tensor(new long[] { 0, 1 })))),
    };

    static Tensor Flat(Tensor x)
    {
        using (x) return x.flatten(1);
    }

    static Tensor Random(params long[] shape) => randn(shape, generator: new Generator(2));
}
