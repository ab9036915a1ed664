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
    };

    static Tensor Random(params long[] shape) => randn(shape, generator: new Generator(2));
}
